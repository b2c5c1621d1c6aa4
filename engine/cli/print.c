/* print.c: tables, times, colours, the lines of a timeline. */
#include "cli/print.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"

#define TABLE_MAX ((size_t)64 * 1024 * 1024)
#define COLUMNS_MAX 10
#define GAP 2

const char *cli_colour(const char *name)
{
	static const char *const codes[][2] = { { "", "\033[0m" },          { "bold", "\033[1m" },
						{ "dim", "\033[2m" },       { "red", "\033[31m" },
						{ "green", "\033[32m" },    { "yellow", "\033[33m" } };
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (!isatty(STDOUT_FILENO) || (no && *no) || (term && strcmp(term, "dumb") == 0))
		return "";
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (strcmp(codes[i][0], name) == 0)
			return codes[i][1];
	return "";
}

const char *cli_status_colour(const char *status)
{
	if (!status)
		return "";
	if (strcmp(status, "succeeded") == 0 || strcmp(status, "approved") == 0)
		return cli_colour("green");
	if (strcmp(status, "waiting") == 0 || strcmp(status, "open") == 0)
		return cli_colour("yellow");
	if (strcmp(status, "held") == 0 || strcmp(status, "failed") == 0)
		return cli_colour("red");
	return "";
}

/* Bytes of the character at s that may be printed; 0: a control character of *skip bytes. */
static size_t printable(const unsigned char *s, size_t *skip)
{
	size_t n = *s < 0x80 ? 1 : *s < 0xC0 ? 0 : *s < 0xE0 ? 2 : *s < 0xF0 ? 3 : *s < 0xF5 ? 4 : 0;

	*skip = 1;
	if (n == 1)
		return *s < 0x20 || *s == 0x7F ? 0 : 1;
	if (n == 0)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xC0) != 0x80)
			return 0;
	*skip = n;
	if (n == 2 && s[0] == 0xC2 && s[1] < 0xA0) /* U+0080–U+009F */
		return 0;
	/* U+202A–U+202E, U+2066–U+2069: they turn the reading direction around */
	if (n == 3 && s[0] == 0xE2 && ((s[1] == 0x80 && s[2] >= 0xAA && s[2] <= 0xAE) ||
				       (s[1] == 0x81 && s[2] >= 0xA6 && s[2] <= 0xA9)))
		return 0;
	return n;
}

static int width(const char *s)
{
	int w = 0;

	for (; *s; s++)
		w += ((unsigned char)*s & 0xC0) != 0x80;
	return w;
}

void cli_clean(struct hp_buf *out, const char *s, int max_width)
{
	const unsigned char *p = (const unsigned char *)(s && *s ? s : "-");
	bool cut = max_width > 0 && width((const char *)p) > max_width;
	int left = cut ? max_width - 1 : -1;

	while (*p && left != 0) {
		size_t skip, n = printable(p, &skip);

		if (n)
			hp_buf_add(out, p, n);
		else
			hp_buf_addc(out, *p == '\n' || *p == '\t' ? ' ' : '?');
		p += skip;
		left -= left > 0;
	}
	if (cut)
		hp_buf_adds(out, "…");
}

void cli_put(const char *s)
{
	struct hp_buf b;

	hp_buf_init(&b, TABLE_MAX);
	cli_clean(&b, s, 0);
	(void)fputs(hp_buf_str(&b), stdout);
	hp_buf_free(&b);
}

void cli_line(const char *s)
{
	cli_put(s);
	putchar('\n');
}

int cli_print_json(const json_t *v, struct hp_error *err)
{
	struct hp_buf b;
	int rc;

	hp_buf_init(&b, TABLE_MAX);
	rc = hp_json_write(&b, v, err);
	if (rc == 0)
		puts(hp_buf_str(&b));
	hp_buf_free(&b);
	return rc;
}

void cli_print_value(const json_t *v, int indent)
{
	const char *name;
	json_t *child;
	struct hp_buf b;

	if (json_is_object(v) && json_object_size(v)) {
		json_object_foreach((json_t *)(uintptr_t)v, name, child) {
			printf("\n%*s", indent, "");
			cli_put(name);
			(void)fputs(json_object_size(child) ? ":" : ": ", stdout);
			cli_print_value(child, indent + 2);
		}
		return;
	}
	if (json_is_string(v)) {
		cli_put(json_string_value(v));
		return;
	}
	hp_buf_init(&b, TABLE_MAX);
	if (hp_json_write(&b, v, NULL) == 0)
		cli_put(hp_buf_str(&b));
	hp_buf_free(&b);
}

/* ---- times ---- */

static int64_t digits(const char *s, int n)
{
	int64_t v = 0;

	for (int i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (s[i] - '0');
	}
	return v;
}

int64_t cli_time_us(const char *iso)
{
	struct tm tm = { 0 };
	int64_t part[7];

	if (!iso || strlen(iso) != 27 || iso[10] != 'T' || iso[19] != '.' || iso[26] != 'Z')
		return 0;
	part[0] = digits(iso, 4);
	for (int i = 1; i < 6; i++)
		part[i] = digits(iso + 2 + 3 * i, 2);
	part[6] = digits(iso + 20, 6);
	for (int i = 0; i < 7; i++)
		if (part[i] < 0)
			return 0;
	tm.tm_year = (int)part[0] - 1900;
	tm.tm_mon = (int)part[1] - 1;
	tm.tm_mday = (int)part[2];
	tm.tm_hour = (int)part[3];
	tm.tm_min = (int)part[4];
	tm.tm_sec = (int)part[5];
	return (int64_t)timegm(&tm) * HP_SECOND + part[6];
}

const char *cli_time(const char *iso, char *buf, size_t n)
{
	if (cli_time_us(iso) == 0)
		return iso && *iso ? iso : "-";
	(void)snprintf(buf, n, "%.10s %.8s", iso, iso + 11);
	return buf;
}

/* ---- tables ---- */

void cli_table_begin(struct cli_table *t, const char *const *titles, int columns)
{
	HP_ASSERT(columns <= COLUMNS_MAX);
	hp_buf_init(&t->cells, TABLE_MAX);
	t->columns = columns;
	for (int i = 0; i < columns; i++)
		cli_table_cell(t, titles[i], 0);
}

void cli_table_cell(struct cli_table *t, const char *text, int max_width)
{
	cli_clean(&t->cells, text, max_width);
	hp_buf_addc(&t->cells, '\0');
}

void cli_table_number(struct cli_table *t, int64_t v)
{
	hp_buf_printf(&t->cells, "%lld", (long long)v);
	hp_buf_addc(&t->cells, '\0');
}

void cli_table_end(struct cli_table *t, const char *empty)
{
	const char *end = hp_buf_str(&t->cells) + t->cells.n, *p;
	int widths[COLUMNS_MAX] = { 0 }, column = 0, rows = 0;

	for (p = hp_buf_str(&t->cells); p < end; p += strlen(p) + 1) {
		if (width(p) > widths[column])
			widths[column] = width(p);
		column = (column + 1) % t->columns;
		rows += column == 0;
	}
	if (rows <= 1)
		puts(empty);
	column = rows <= 1 ? -1 : 0;
	for (p = hp_buf_str(&t->cells); column >= 0 && p < end; p += strlen(p) + 1) {
		bool last = column == t->columns - 1;

		printf("%s%s%s%*s", cli_status_colour(p), p, *cli_status_colour(p) ? cli_colour("") : "",
		       last ? 0 : widths[column] - width(p) + GAP, "");
		if (last)
			putchar('\n');
		column = (column + 1) % t->columns;
	}
	hp_buf_free(&t->cells);
}

/* ---- one step ---- */

static void part(const char *before, const char *text, const char *after)
{
	if (!text || !*text)
		return;
	(void)fputs(before, stdout);
	cli_put(text);
	(void)fputs(after, stdout);
}

static void step_outcome(const json_t *row)
{
	const char *outcome = hp_json_str(row, "outcome"), *code = hp_json_str(row, "code");
	const char *message = hp_json_str(row, "message");

	if (outcome && strcmp(outcome, "ok") != 0)
		part("  ", outcome, "");
	part(outcome && strcmp(outcome, "ok") != 0 ? ": " : "  ", code, "");
	part(code || outcome ? " — " : "  ", message, "");
}

void cli_print_step(const json_t *row, int64_t *last)
{
	const char *at = hp_json_str(row, "at"), *move = hp_json_str(row, "move");
	const char *by = hp_json_str(row, "by"), *from = hp_json_str(row, "from");
	const char *state = hp_json_str(row, "state"), *due = hp_json_str(row, "due_at");
	int64_t us = cli_time_us(at), attempt = hp_json_int(row, "attempt", 0);
	char took[40] = "", when[32], buf[32];

	if (*last && us >= *last)
		(void)snprintf(took, sizeof took, "+%s", hp_duration_format(us - *last, buf, sizeof buf));
	*last = us ? us : *last;
	printf("%.12s %10s  %-9s ", us ? at + 11 : "-", took, move ? move : "?");
	if (from && state && strcmp(from, state) != 0)
		part("", from, " → ");
	part(cli_colour("bold"), state, cli_colour(""));
	if (hp_json_bool(row, "admits", 0) || attempt > 1)
		printf("  attempt %lld", (long long)attempt);
	step_outcome(row);
	part("  by ", by, "");
	part(": ", hp_json_str(row, "reason"), "");
	/* A door leaves the run's timer as it was: it says nothing about that step. */
	if (due && !hp_json_str(row, "by"))
		part("  wakes ", cli_time(due, when, sizeof when), "");
	if (move && strcmp(move, "finished") == 0)
		part("  ", hp_json_str(row, "status"), "");
	putchar('\n');
}
