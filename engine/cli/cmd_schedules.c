/* cmd_schedules.c: holdpoint schedules [show|pause|resume|run-now NAME] */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/words.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"

#define NAMES "NAME is the workflow's; its second schedule is NAME:2."

static const struct cli_option list_options[] = {
	{ "workflow", "NAME", "only schedules of this workflow" },
	{ 0 },
};
static const struct cli_option show_options[] = {
	{ "ticks", "N", "how many of the next ticks, up to 20 (default 10)" },
	{ 0 },
};
static const struct cli_option pause_options[] = {
	{ "reason", "TEXT", "why; it is shown with the schedule (mandatory)" },
	{ 0 },
};

static const struct cli_spec list_spec = {
	.name = "schedules", .args = "[show|pause|resume|run-now NAME]",
	.text = "Lists the schedules of deployed workflows, or looks at and changes one of them. " NAMES,
	.examples = "  holdpoint schedules\n  holdpoint schedules show nightly --ticks 5\n"
		    "  holdpoint schedules run-now nightly",
	.options = list_options, .min_args = 0, .max_args = 2, .client = true,
};
static const struct cli_spec show_spec = {
	.name = "schedules show", .args = "NAME", .text = "One schedule: its next ticks, and what became of the last. " NAMES,
	.examples = "  holdpoint schedules show nightly --ticks 5",
	.options = show_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec pause_spec = {
	.name = "schedules pause", .args = "NAME", .text = "Lets a schedule start nothing until it is resumed. " NAMES,
	.examples = "  holdpoint schedules pause nightly --reason 'the provider migrates'",
	.options = pause_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec resume_spec = {
	.name = "schedules resume", .args = "NAME",
	.text = "Lets a paused schedule go on from now; ticks of the pause are not caught up. " NAMES,
	.examples = "  holdpoint schedules resume nightly", .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec run_spec = {
	.name = "schedules run-now", .args = "NAME",
	.text = "Starts a run of a schedule now, beside its ticks, also while it is paused. " NAMES,
	.examples = "  holdpoint schedules run-now nightly", .min_args = 1, .max_args = 1, .client = true,
};

static void schedule_row(struct cli_table *t, const json_t *row)
{
	const json_t *spec = json_object_get(row, "spec");
	int paused = hp_json_bool(row, "paused", 0);
	char at[32];

	cli_table_cell(t, hp_json_str(row, "schedule"), 40);
	cli_table_cell(t, hp_json_str(spec, "cron"), 30);
	cli_table_cell(t, hp_json_str(spec, "zone"), 24);
	cli_table_cell(t, paused ? "paused"
				 : cli_time(json_string_value(json_array_get(json_object_get(row, "next"), 0)), at, sizeof at),
		       0);
	cli_table_cell(t, cli_time(hp_json_str(row, "last_tick"), at, sizeof at), 0);
	if (hp_json_int(row, "last_run", 0))
		cli_table_number(t, hp_json_int(row, "last_run", 0));
	else
		cli_table_cell(t, "-", 0);
	cli_table_cell(t, hp_json_str(row, "last_status"), 0);
	cli_table_number(t, hp_json_int(row, "skipped", 0));
}

/* ---- one ---- */

static void field(const char *name, const char *value)
{
	printf("%-10s ", name);
	cli_put(value);
	putchar('\n');
}

static void show(const json_t *row)
{
	const json_t *spec = json_object_get(row, "spec"), *x;
	char at[32], span[32];
	size_t i;

	printf("%s", cli_colour("bold"));
	cli_put(hp_json_str(row, "schedule"));
	printf("%s\n", cli_colour(""));
	cli_put(hp_json_str(row, "sentence"));
	printf("\n\n");
	field("cron", hp_json_str(spec, "cron"));
	field("zone", hp_json_str(spec, "zone"));
	if (hp_json_int(spec, "jitter_us", 0))
		field("jitter", hp_duration_format(hp_json_int(spec, "jitter_us", 0), span, sizeof span));
	field("catch up", hp_json_str(spec, "catch_up"));
	if (hp_json_int(spec, "within_us", 0))
		field("within", hp_duration_format(hp_json_int(spec, "within_us", 0), span, sizeof span));
	field("overlap", hp_json_str(spec, "overlap"));
	printf("started    %lld\nskipped    %lld\n", (long long)hp_json_int(row, "started", 0),
	       (long long)hp_json_int(row, "skipped", 0));
	if (json_array_size(json_object_get(row, "next")))
		printf("\n%snext ticks (UTC)%s\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(json_object_get(row, "next"), i, x)
		printf("  %s\n", cli_time(json_string_value(x), at, sizeof at));
	if (json_array_size(json_object_get(row, "recent")))
		printf("\n%slast ticks (UTC)%s\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(json_object_get(row, "recent"), i, x) {
		const char *outcome = hp_json_str(x, "outcome");

		printf("  %s  ", cli_time(hp_json_str(x, "tick"), at, sizeof at));
		if (hp_json_int(x, "run", 0))
			printf("%s, run %lld\n", outcome, (long long)hp_json_int(x, "run", 0));
		else if (strcmp(outcome, "missed") == 0)
			printf("missed, %lld up to here\n", (long long)hp_json_int(x, "n", 0));
		else
			printf("skipped: %s\n", strcmp(outcome, "overlap") == 0 ? "the run before was still going"
									       : "the workflow was disabled");
	}
}

static int ask(const struct cli_args *a, const char *tail, json_t **reply, struct hp_error *err)
{
	json_t *body = tail[0] ? cli_reason_body(a, a->spec == &pause_spec ? "it is shown with the schedule" : NULL, err) : NULL;

	if (tail[0] && !body)
		return -1;
	return cli_request_one(a, "/api/v1/schedules/", tail, "ticks", body, reply, err);
}

static int one(const struct cli_spec *spec, const char *tail, int argc, char **argv)
{
	const struct cli_spec *const specs[] = { spec, NULL };
	struct hp_error err = { 0 };
	json_t *reply = NULL;
	struct cli_args a;
	int code = cli_parse_sub(specs, argc, argv, &a), rc;

	if (code >= 0)
		return code;
	rc = ask(&a, tail, &reply, &err);
	if (rc == 0 && a.json)
		rc = cli_print_json(reply, &err);
	else if (rc == 0 && spec == &show_spec)
		show(reply);
	else if (rc == 0 && spec == &run_spec)
		printf("run %lld started\n", (long long)hp_json_int(reply, "run", 0));
	else if (rc == 0)
		printf("%s: %s\n", a.arg[0], spec == &pause_spec ? "paused" : "goes on from now");
	json_decref(reply);
	return rc < 0 ? cli_error(&a, &err) : 0;
}

/* ---- all ---- */

int hp_cmd_schedules(int argc, char **argv)
{
	static const char *const titles[] = { "SCHEDULE", "CRON", "ZONE", "NEXT (UTC)", "LAST TICK", "RUN", "STATUS",
					      "SKIPPED" };
	static const struct cli_list list = { "schedules", titles, 8, schedule_row,
					      "No deployed workflow has a schedule." };
	static const struct {
		const char *word;
		const struct cli_spec *spec;
		const char *tail;
	} subs[] = { { "show", &show_spec, "" },
		     { "pause", &pause_spec, "/pause" },
		     { "resume", &resume_spec, "/resume" },
		     { "run-now", &run_spec, "/run" } };
	struct hp_error err = { 0 };
	struct cli_args a;
	struct hp_buf path;
	int code;

	for (size_t i = 0; argc > 1 && i < sizeof subs / sizeof *subs; i++)
		if (strcmp(argv[1], subs[i].word) == 0)
			return one(subs[i].spec, subs[i].tail, argc, argv);
	code = cli_parse(&list_spec, argc, argv, &a);
	if (code >= 0)
		return code;
	if (a.n > 0) {
		hp_fail(&err, HP_E_INVALID, "schedules: there is no \"%.60s\"", a.arg[0]);
		hp_error_hint(&err, "It is show, pause, resume or run-now, then the schedule's name.");
		return cli_error(&a, &err);
	}
	hp_buf_init(&path, 1024);
	hp_buf_adds(&path, "/api/v1/schedules");
	cli_query(&path, "workflow", cli_value(&a, "workflow"));
	code = cli_print_list(&a, &list, hp_buf_str(&path));
	hp_buf_free(&path);
	return code;
}
