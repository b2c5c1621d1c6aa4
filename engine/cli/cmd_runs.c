/* cmd_runs.c: holdpoint runs, events, workflows: lists, page by page. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"

static const struct cli_option run_options[] = {
	{ "workflow", "NAME", "only runs of this workflow" },
	{ "status", "STATUS", "running, waiting, held, succeeded, failed or cancelled; or paused" },
	{ "key", "KEY", "only runs with this key" },
	{ "parent", "RUN", "only runs that this run has started or waits for" },
	{ "since", "TIME", "started at or after: 2026-11-23T02:04:05Z, or 2h for two hours ago" },
	{ "until", "TIME", "started before" },
	CLI_PAGES,
	{ 0 },
};
static const struct cli_spec runs_spec = {
	.name = "runs", .args = "", .text = "Lists runs, the newest first.",
	.examples = "  holdpoint runs --status held\n  holdpoint runs --workflow card_add --since 1d --all --json",
	.options = run_options, .client = true,
};

static const struct cli_option event_options[] = {
	{ "name", "NAME", "only events of this name" },
	{ "key", "KEY", "only events with this key" },
	CLI_PAGES,
	{ 0 },
};
static const struct cli_spec events_spec = {
	.name = "events", .args = "", .text = "Lists events that runs may wait for, the newest first.",
	.examples = "  holdpoint events --name stripe.refund.updated",
	.options = event_options, .client = true,
};

static const struct cli_spec workflows_spec = {
	.name = "workflows", .args = "", .text = "Lists the workflows that are deployed.",
	.examples = "  holdpoint workflows --json", .client = true,
};

static void run_row(struct cli_table *t, const json_t *row)
{
	char buf[32];

	cli_table_number(t, hp_json_int(row, "run", 0));
	cli_table_cell(t, hp_json_str(row, "workflow"), 0);
	cli_table_cell(t, hp_json_str(row, "status"), 0);
	cli_table_cell(t, hp_json_str(row, "state"), 0);
	cli_table_cell(t, hp_json_str(row, "key"), 40);
	cli_table_cell(t, cli_time(hp_json_str(row, "created_at"), buf, sizeof buf), 0);
}

static void event_row(struct cli_table *t, const json_t *row)
{
	char buf[32];

	cli_table_number(t, hp_json_int(row, "event", 0));
	cli_table_cell(t, hp_json_str(row, "name"), 0);
	cli_table_cell(t, hp_json_str(row, "key"), 40);
	cli_table_cell(t, hp_json_str(row, "sender"), 40);
	cli_table_cell(t, cli_time(hp_json_str(row, "at"), buf, sizeof buf), 0);
}

static void workflow_row(struct cli_table *t, const json_t *row)
{
	const json_t *summary = json_object_get(row, "summary");
	char buf[32];

	cli_table_cell(t, hp_json_str(row, "workflow"), 0);
	cli_table_cell(t, !hp_json_bool(row, "enabled", 1)	 ? "disabled"
			  : json_object_get(row, "paused") ? "paused"
							   : "enabled", 0);
	cli_table_number(t, (int64_t)json_array_size(json_object_get(summary, "states")));
	cli_table_cell(t, hp_json_str(row, "digest"), 13);
	cli_table_cell(t, cli_time(hp_json_str(row, "deployed_at"), buf, sizeof buf), 0);
}

static void time_query(struct hp_buf *path, const char *name, const char *value)
{
	char us[32];

	cli_query(path, name, cli_time_word(value, us, sizeof us));
}

int hp_cmd_runs(int argc, char **argv)
{
	static const char *const titles[] = { "RUN", "WORKFLOW", "STATUS", "STATE", "KEY", "STARTED" };
	static const struct cli_list list = { "runs", titles, 6, run_row, "No run matches." };
	struct cli_args a;
	struct hp_buf path;
	int code = cli_parse(&runs_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	hp_buf_init(&path, 8192);
	hp_buf_adds(&path, "/api/v1/runs");
	cli_query(&path, "workflow", cli_value(&a, "workflow"));
	cli_query(&path, "status", cli_value(&a, "status"));
	cli_query(&path, "key", cli_value(&a, "key"));
	cli_query(&path, "parent", cli_value(&a, "parent"));
	time_query(&path, "since", cli_value(&a, "since"));
	time_query(&path, "until", cli_value(&a, "until"));
	code = cli_print_list(&a, &list, hp_buf_str(&path));
	hp_buf_free(&path);
	return code;
}

int hp_cmd_events(int argc, char **argv)
{
	static const char *const titles[] = { "EVENT", "NAME", "KEY", "SENDER", "AT" };
	static const struct cli_list list = { "events", titles, 5, event_row, "No event matches." };
	struct cli_args a;
	struct hp_buf path;
	int code = cli_parse(&events_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	hp_buf_init(&path, 8192);
	hp_buf_adds(&path, "/api/v1/events");
	cli_query(&path, "name", cli_value(&a, "name"));
	cli_query(&path, "key", cli_value(&a, "key"));
	code = cli_print_list(&a, &list, hp_buf_str(&path));
	hp_buf_free(&path);
	return code;
}

int hp_cmd_workflows(int argc, char **argv)
{
	static const char *const titles[] = { "WORKFLOW", "", "STATES", "DIGEST", "DEPLOYED" };
	static const struct cli_list list = { "workflows", titles, 5, workflow_row,
					      "Nothing is deployed yet: holdpoint deploy PATH." };
	struct cli_args a;
	int code = cli_parse(&workflows_spec, argc, argv, &a);

	return code >= 0 ? code : cli_print_list(&a, &list, "/api/v1/workflows");
}
