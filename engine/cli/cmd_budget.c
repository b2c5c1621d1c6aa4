/* cmd_budget.c: holdpoint budget list|show|set|unset, holdpoint limits */
#include <stdio.h>

#include "base/json.h"
#include "base/words.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"

static const struct cli_option set_options[] = {
	{ "limit", "N", "how much there is in a window (mandatory)" },
	{ "window", "DURATION", "how long a window is: 1h, 1d, … (default: as it is now)" },
	{ "kind", "WORD", "window (begins anew at every full hour, day, …, UTC) or bucket (fills evenly)" },
	{ "key", "KEY", "only for this key" },
	{ "reason", "TEXT", "why; it is shown with the budget (mandatory)" },
	{ 0 },
};
static const struct cli_option limits_options[] = {
	CLI_PAGES,
	{ 0 },
};
static const struct cli_option unset_options[] = {
	{ "key", "KEY", "what was set for this key" },
	{ 0 },
};

static const struct cli_spec list_spec = {
	.name = "budget list", .args = "", .text = "Lists budgets: how much there is of each, and how much is used.",
	.examples = "  holdpoint budget list", .client = true,
};
static const struct cli_spec show_spec = {
	.name = "budget show", .args = "NAME", .text = "One budget: its limits, and the keys that use most of it.",
	.examples = "  holdpoint budget show sms", .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec set_spec = {
	.name = "budget set", .args = "NAME",
	.text = "Sets a budget's limit; it wins over what workflows declare. Who waits is counted anew.",
	.examples = "  holdpoint budget set sms --limit 10 --window 1h --reason 'not in production'\n"
		    "  holdpoint budget set sms --key +49 --limit 2 --reason 'complaints'",
	.options = set_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec unset_spec = {
	.name = "budget unset", .args = "NAME", .text = "Forgets what was set; what workflows declare holds again.",
	.examples = "  holdpoint budget unset sms", .options = unset_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec limits_spec = {
	.name = "limits",
	.text = "Lists every limit that is in use: budgets, rates, calls and runs at once, exclusive runs, turns.",
	.examples = "  holdpoint limits", .options = limits_options, .min_args = 0, .max_args = 0, .client = true,
};

static void span_cell(struct cli_table *t, const json_t *row)
{
	char span[32];
	int64_t us = hp_json_int(row, "window_us", 0);

	cli_table_cell(t, us > 0 ? hp_duration_format(us, span, sizeof span) : "-", 0);
}

static void budget_row(struct cli_table *t, const json_t *row)
{
	cli_table_cell(t, hp_json_str(row, "budget"), 40);
	cli_table_cell(t, hp_json_str(row, "key"), 40);
	cli_table_number(t, hp_json_int(row, "limit", 0));
	span_cell(t, row);
	cli_table_cell(t, hp_json_str(row, "kind"), 0);
	cli_table_number(t, hp_json_int(row, "used", 0));
	cli_table_number(t, hp_json_int(row, "waiting", 0));
	cli_table_cell(t, hp_json_str(row, hp_json_str(row, "set_by") ? "set_by" : "declared_by"), 30);
}

static void limit_row(struct cli_table *t, const json_t *row)
{
	cli_table_cell(t, hp_json_str(row, "kind"), 0);
	cli_table_cell(t, hp_json_str(row, "name"), 40);
	cli_table_cell(t, hp_json_str(row, "key"), 40);
	cli_table_number(t, hp_json_int(row, "max", 0));
	span_cell(t, row);
	if (json_object_get(row, "used"))
		cli_table_number(t, hp_json_int(row, "used", 0));
	else
		cli_table_cell(t, "-", 0);
	cli_table_number(t, hp_json_int(row, "waiting", 0));
}

/* ---- one ---- */

static void show(const json_t *reply)
{
	const json_t *x;
	char span[32], at[32];
	size_t i;

	json_array_foreach(json_object_get(reply, "limits"), i, x) {
		printf("%s", cli_colour("bold"));
		cli_put(hp_json_str(x, "budget"));
		printf("%s", cli_colour(""));
		if (hp_json_str(x, "key")) {
			printf(" for ");
			cli_put(hp_json_str(x, "key"));
		}
		printf(": %lld in %s (", (long long)hp_json_int(x, "limit", 0),
		       hp_duration_format(hp_json_int(x, "window_us", 0), span, sizeof span));
		cli_put(hp_json_str(x, "kind"));
		printf(")");
		if (hp_json_str(x, "set_by")) {
			printf(", set by ");
			cli_put(hp_json_str(x, "set_by"));
			printf(": ");
			cli_put(hp_json_str(x, "reason"));
		} else {
			printf(", declared by ");
			cli_put(hp_json_str(x, "declared_by"));
		}
		putchar('\n');
	}
	json_array_foreach(json_object_get(reply, "keys"), i, x) {
		const char *key = hp_json_str(x, "key");

		printf("  ");
		cli_put(key && *key ? key : "(no key)");
		printf("  %lld of %lld used", (long long)hp_json_int(x, "used", 0), (long long)hp_json_int(x, "limit", 0));
		if (hp_json_str(x, "until"))
			printf(" until %s", cli_time(hp_json_str(x, "until"), at, sizeof at));
		printf(", %lld waiting\n", (long long)hp_json_int(x, "waiting", 0));
	}
}

static int body_of(const struct cli_args *a, json_t *body, struct hp_error *err)
{
	static const char *const texts[] = { "kind", "key", "reason" };
	const char *limit = cli_value(a, "limit"), *window = cli_value(a, "window");
	int64_t n;

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (cli_put_option(a, texts[i], body, err) < 0)
			return -1;
	if (limit) {
		if (hp_int_parse(limit, &n) < 0 || n < 1)
			return hp_fail(err, HP_E_INVALID, "budget set: --limit must be a whole number above 0, not \"%.40s\"", limit);
		json_object_set_new(body, "limit", json_integer(n));
	}
	if (window) {
		if (hp_duration_parse(window, &n, err) < 0)
			return hp_error_prefix(err, "--window");
		json_object_set_new(body, "window_us", json_integer(n));
	}
	return 0;
}

static int ask(const struct cli_args *a, json_t **reply, struct hp_error *err)
{
	const char *tail = a->spec == &set_spec ? "/set" : a->spec == &unset_spec ? "/unset" : "";
	json_t *body = *tail ? json_object() : NULL;

	if (a->spec == &set_spec && (!cli_value(a, "limit") || !cli_value(a, "reason"))) {
		hp_fail(err, HP_E_INVALID, "budget set: --%s is missing", cli_value(a, "limit") ? "reason" : "limit");
		hp_error_hint(err, "For example: holdpoint budget set %s --limit 10 --window 1h --reason TEXT", a->arg[0]);
		json_decref(body);
		return -1;
	}
	if (body && body_of(a, body, err) < 0) {
		json_decref(body);
		return -1;
	}
	return cli_request_one(a, "/api/v1/budgets/", tail, NULL, body, reply, err);
}

static void print_changed(const struct cli_spec *spec, const json_t *reply)
{
	long long limit = (long long)hp_json_int(reply, "limit", 0);
	char span[32];

	cli_put(hp_json_str(reply, "budget"));
	if (spec == &set_spec)
		printf(": %lld in %s\n", limit, hp_duration_format(hp_json_int(reply, "window_us", 0), span, sizeof span));
	else if (limit)
		printf(": %lld again\n", limit);
	else
		printf(": forgotten\n");
}

/* ---- all ---- */

int hp_cmd_budget(int argc, char **argv)
{
	static const struct cli_spec *const specs[] = { &list_spec, &show_spec, &set_spec, &unset_spec, NULL };
	static const char *const titles[] = { "BUDGET", "KEY", "LIMIT", "WINDOW", "KIND", "USED", "WAITING", "SAID BY" };
	static const struct cli_list list = { "budgets", titles, 8, budget_row,
					      "There is no budget: a workflow declares one, or holdpoint budget set." };
	struct hp_error err = { 0 };
	json_t *reply = NULL;
	struct cli_args a;
	int code = cli_parse_sub(specs, argc, argv, &a), rc;

	if (code >= 0)
		return code;
	if (a.spec == &list_spec)
		return cli_print_list(&a, &list, "/api/v1/budgets");
	rc = ask(&a, &reply, &err);
	if (rc == 0 && a.json)
		rc = cli_print_json(reply, &err);
	else if (rc == 0 && a.spec == &show_spec)
		show(reply);
	else if (rc == 0)
		print_changed(a.spec, reply);
	json_decref(reply);
	return rc < 0 ? cli_error(&a, &err) : 0;
}

int hp_cmd_limits(int argc, char **argv)
{
	static const char *const titles[] = { "KIND", "OF", "KEY", "MAX", "IN", "USED", "WAITING" };
	static const struct cli_list list = { "limits", titles, 7, limit_row, "No limit is in use." };
	struct cli_args a;
	int code = cli_parse(&limits_spec, argc, argv, &a);

	return code >= 0 ? code : cli_print_list(&a, &list, "/api/v1/limits");
}
