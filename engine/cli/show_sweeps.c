/* show_sweeps.c: how far a run's sweeps are, for `holdpoint show`. */
#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"
#include "cli/print.h"
#include "cli/run.h"

/* 200000 → "200,000" */
static const char *thousands(int64_t v, char *buf, size_t n)
{
	char digits[24];
	size_t len = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)v), at = 0;

	for (size_t i = 0; i < len && at + 2 < n; i++) {
		if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
			buf[at++] = ',';
		buf[at++] = digits[i];
	}
	buf[at] = 0;
	return buf;
}

static void show_sweep(const json_t *w)
{
	int64_t done = hp_json_int(w, "done", 0), total = hp_json_int(w, "total", -1);
	int64_t failed = hp_json_int(w, "failed", 0), left = hp_json_int(w, "left_seconds", -1);
	double rate = json_number_value(json_object_get(w, "per_second"));
	const json_t *f;
	char buf[32];
	size_t i;

	(void)fputs("  ", stdout);
	cli_put(hp_json_str(w, "state"));
	printf("  %s", thousands(done, buf, sizeof buf));
	if (total >= 0)
		printf(" of %s", thousands(total, buf, sizeof buf));
	(void)fputs(" rows", stdout);
	if (total > 0)
		printf(" (%lld %%)", (long long)(done * 100 / total));
	if (hp_json_str(w, "ended_at"))
		(void)fputs(", done", stdout);
	else if (rate > 0)
		printf(", %.0f per second", rate);
	if (left >= 0)
		printf(", about %s left", hp_duration_format(left * HP_SECOND, buf, sizeof buf));
	if (failed > 0)
		printf(", %s%lld failed%s", cli_colour("red"), (long long)failed, cli_colour(""));
	putchar('\n');
	json_array_foreach(json_object_get(w, "failures"), i, f) {
		(void)fputs("      ", stdout);
		cli_print_value(json_object_get(f, "cursor"), 0);
		(void)fputs("  ", stdout);
		cli_put(hp_json_str(f, "code"));
		(void)fputs(": ", stdout);
		cli_put(hp_json_str(f, "message"));
		putchar('\n');
	}
}

void cli_show_sweeps(const json_t *sweeps)
{
	const json_t *w;
	size_t i;

	if (json_array_size(sweeps))
		printf("\n%ssweeps%s\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(sweeps, i, w)
		show_sweep(w);
}
