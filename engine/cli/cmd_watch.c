/* cmd_watch.c: holdpoint watch: follows a run, line by line. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/print.h"
#include "cli/run.h"

#define LOOK_EVERY (200 * HP_MSEC)

/* Beside the codes of errors (1 to 6): how the run was found at the end. */
enum watch_end {
	WATCH_SUCCEEDED = 0,
	WATCH_GOES_ON = -1,
	WATCH_APPROVAL = 10,
	WATCH_HELD = 11,
	WATCH_FAILED = 12,
	WATCH_CANCELLED = 13,
};

static const struct cli_option options[] = {
	{ "until", "approval|end", "stop where a person is needed (the default), or only at the end" },
	{ "timeout", "DURATION", "give up after this time, with exit code 6" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "watch", .args = "RUN",
	.text = "Follows a run: prints each step as it comes (with --json, one object a line).\n"
		"Exit codes: 0 succeeded, 10 waits for an approval, 11 held, 12 failed, 13 cancelled.",
	.examples = "  holdpoint watch 12\n  holdpoint watch 12 --until end --timeout 5m",
	.options = options, .min_args = 1, .max_args = 1, .client = true,
};

/* Steps that are new. A door may still add a note beside the newest rev, so that
 * rev is asked for again and its known lines are passed over. */
struct seen {
	int64_t rev;
	size_t at_rev; /* lines printed of it */
	int64_t last;  /* time of the last line */
};

static int print_row(const struct cli_args *a, const json_t *row, int64_t *last, struct hp_error *err)
{
	if (a->json)
		return cli_print_json(row, err);
	cli_print_step(row, last);
	return 0;
}

static int print_new(const struct cli_args *a, struct cli_client *c, int64_t run, struct seen *s,
		     struct hp_error *err)
{
	json_t *rows = json_array(), *row;
	size_t i, known = s->at_rev;
	int rc = cli_get_history(c, run, s->rev - 1, rows, err);

	for (i = 0; rc == 0 && i < json_array_size(rows); i++) {
		int64_t rev;

		row = json_array_get(rows, i);
		rev = hp_json_int(row, "rev", 0);
		if (rev == s->rev && known > 0) {
			known--;
			continue;
		}
		s->at_rev = rev == s->rev ? s->at_rev + 1 : 1;
		s->rev = rev;
		rc = print_row(a, row, &s->last, err);
	}
	(void)fflush(stdout);
	json_decref(rows);
	return rc;
}

static int end_of(const json_t *doc, bool until_end)
{
	const char *status = hp_json_str(json_object_get(doc, "run"), "status");
	const json_t *approvals = json_object_get(doc, "approvals"), *x;
	size_t i;

	if (!status)
		return WATCH_GOES_ON;
	if (strcmp(status, "succeeded") == 0)
		return WATCH_SUCCEEDED;
	if (strcmp(status, "failed") == 0)
		return WATCH_FAILED;
	if (strcmp(status, "cancelled") == 0)
		return WATCH_CANCELLED;
	if (until_end)
		return WATCH_GOES_ON;
	if (strcmp(status, "held") == 0)
		return WATCH_HELD;
	json_array_foreach(approvals, i, x)
		if (strcmp(status, "waiting") == 0 && hp_json_str(x, "status") &&
		    strcmp(hp_json_str(x, "status"), "open") == 0)
			return WATCH_APPROVAL;
	return WATCH_GOES_ON;
}

static void say_end(const struct cli_args *a, const json_t *doc, int end)
{
	const json_t *approvals = json_object_get(doc, "approvals"), *x;
	long long run = (long long)hp_json_int(json_object_get(doc, "run"), "run", 0);
	size_t i;

	if (a->json)
		return;
	if (end == WATCH_HELD)
		printf("\nRun %lld is held. holdpoint why %lld says why; then: holdpoint retry %lld --reason '…'\n", run,
		       run, run);
	json_array_foreach(approvals, i, x) {
		const char *status = hp_json_str(x, "status");
		long long id = (long long)hp_json_int(x, "approval", 0);

		if (end != WATCH_APPROVAL || !status || strcmp(status, "open") != 0)
			continue;
		putchar('\n');
		cli_put(hp_json_str(x, "ask"));
		printf("\nholdpoint approvals %lld shows exactly what would be sent; then:\n"
		       "  holdpoint approve %lld --reason '…'\n", id, id);
	}
}

/* A held run that has been told something stays held until a worker takes it up; what
 * it waits for is then no operator, and the watch is not over. */
static int look_at_held(struct cli_client *c, int64_t run, int *end, struct hp_error *err)
{
	json_t *doc = NULL;
	int rc = cli_get_run(c, run, "/why", &doc, err);
	const char *cause = hp_json_str(doc, "cause");

	if (cause && strcmp(cause, "held") != 0 && strcmp(cause, "paused") != 0)
		*end = WATCH_GOES_ON;
	json_decref(doc);
	return rc;
}

/* The state first: what is printed is then at least as new. */
static int look(const struct cli_args *a, struct cli_client *c, int64_t run, struct seen *s, int *end,
		struct hp_error *err)
{
	const char *until = cli_value(a, "until");
	json_t *doc = NULL;
	int rc = cli_get_run(c, run, "", &doc, err);

	if (rc == 0)
		*end = end_of(doc, until && strcmp(until, "end") == 0);
	if (rc == 0 && *end == WATCH_HELD)
		rc = look_at_held(c, run, end, err);
	if (rc == 0)
		rc = print_new(a, c, run, s, err);
	if (rc == 0 && *end != WATCH_GOES_ON)
		say_end(a, doc, *end);
	json_decref(doc);
	return rc;
}

static int watch(const struct cli_args *a, struct cli_client *c, int64_t run, struct hp_error *err)
{
	const char *until = cli_value(a, "until"), *timeout = cli_value(a, "timeout");
	struct seen s = { 0, 0, 0 };
	int64_t limit = 0, began = hp_boottime_us();
	int end = WATCH_GOES_ON;

	if (until && strcmp(until, "end") != 0 && strcmp(until, "approval") != 0)
		return hp_fail(err, HP_E_INVALID, "--until is \"approval\" or \"end\", not \"%.40s\"", until);
	if (timeout && hp_duration_parse(timeout, &limit, err) < 0)
		return -1;
	for (;;) {
		if (look(a, c, run, &s, &end, err) < 0)
			return -1;
		if (end != WATCH_GOES_ON)
			return end;
		if (limit && hp_boottime_us() - began > limit) {
			(void)hp_fail(err, HP_E_TIMEOUT, "run %lld goes on after %s", (long long)run, timeout);
			return hp_error_hint(err, "holdpoint why %lld says what it waits for.", (long long)run);
		}
		cli_pause(LOOK_EVERY);
	}
}

int hp_cmd_watch(int argc, char **argv)
{
	return cli_with_run(&spec, argc, argv, watch);
}
