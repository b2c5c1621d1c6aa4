/* cmd_breakers.c: holdpoint breakers; holdpoint breaker show|open|close|reset NAME */
#include <stdio.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"

#define NAMES "NAME is a connector (stripe) or one operation of it (stripe.refunds.create)."

static const struct cli_option reason_options[] = {
	{ "reason", "TEXT", "why; it is shown with the breaker and kept (mandatory)" },
	{ 0 },
};
static const struct cli_spec list_spec = {
	.name = "breakers", .args = "", .text = "Lists what deployed workflows call, and whether it is called now.",
	.examples = "  holdpoint breakers\n  holdpoint breaker show stripe", .max_args = 0, .client = true,
};
static const struct cli_spec show_spec = {
	.name = "breaker show", .args = "NAME", .text = "One breaker: its state, why, and who changed what. " NAMES,
	.examples = "  holdpoint breaker show stripe", .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec open_spec = {
	.name = "breaker open", .args = "NAME",
	.text = "Nothing is called from now on; runs that would call wait, until it is closed or reset. " NAMES,
	.examples = "  holdpoint breaker open stripe --reason 'they migrate tonight'",
	.options = reason_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec close_spec = {
	.name = "breaker close", .args = "NAME",
	.text = "Calls go out from now on, whatever fails, until it is opened or reset. " NAMES,
	.examples = "  holdpoint breaker close stripe --reason 'it is our proxy, not stripe'",
	.options = reason_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec reset_spec = {
	.name = "breaker reset", .args = "NAME",
	.text = "Closes it, and lets failures open it again: it decides by itself from here on. " NAMES,
	.examples = "  holdpoint breaker reset stripe --reason 'the migration is over'",
	.options = reason_options, .min_args = 1, .max_args = 1, .client = true,
};

static void breaker_row(struct cli_table *t, const json_t *row)
{
	char at[32];

	cli_table_cell(t, hp_json_str(row, "breaker"), 60);
	cli_table_cell(t, hp_json_str(row, "state"), 0);
	cli_table_cell(t, cli_time(hp_json_str(row, "since"), at, sizeof at), 0);
	cli_table_cell(t, cli_time(hp_json_str(row, "until"), at, sizeof at), 0);
	cli_table_number(t, hp_json_int(row, "waiting", 0));
	cli_table_cell(t, hp_json_str(row, "by"), 24);
	cli_table_cell(t, hp_json_str(row, "reason"), 60);
}

static void show(const json_t *row)
{
	const json_t *x;
	char at[32];
	size_t i;

	printf("%s", cli_colour("bold"));
	cli_put(hp_json_str(row, "breaker"));
	printf("%s\n", cli_colour(""));
	cli_line(hp_json_str(row, "sentence"));
	if (hp_json_int(row, "waiting", 0))
		printf("Runs that wait behind it: %lld.\n", (long long)hp_json_int(row, "waiting", 0));
	if (json_array_size(json_object_get(row, "log")))
		printf("\n%schanges (UTC), the last first%s\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(json_object_get(row, "log"), i, x) {
		printf("  %s  ", cli_time(hp_json_str(x, "at"), at, sizeof at));
		cli_put(hp_json_str(x, "state"));
		fputs(", by ", stdout);
		cli_put(hp_json_str(x, "by"));
		fputs(": ", stdout);
		cli_line(hp_json_str(x, "reason"));
	}
}

static int ask(const struct cli_args *a, json_t **reply, struct hp_error *err)
{
	const char *tail = a->spec == &open_spec    ? "/open"
			   : a->spec == &close_spec ? "/close"
			   : a->spec == &reset_spec ? "/reset"
						    : "";
	json_t *body = *tail ? cli_reason_body(a, "it is shown with the breaker and kept", err) : NULL;

	if (*tail && !body)
		return -1;
	return cli_request_one(a, "/api/v1/breakers/", tail, NULL, body, reply, err);
}

int hp_cmd_breaker(int argc, char **argv)
{
	static const struct cli_spec *const specs[] = { &show_spec, &open_spec, &close_spec, &reset_spec, NULL };
	struct hp_error err = { 0 };
	json_t *reply = NULL;
	struct cli_args a;
	int code = cli_parse_sub(specs, argc, argv, &a), rc;

	if (code >= 0)
		return code;
	rc = ask(&a, &reply, &err);
	if (rc == 0 && a.json)
		rc = cli_print_json(reply, &err);
	else if (rc == 0 && a.spec == &show_spec)
		show(reply);
	else if (rc == 0)
		cli_line(hp_json_str(reply, "sentence"));
	json_decref(reply);
	return rc < 0 ? cli_error(&a, &err) : 0;
}

int hp_cmd_breakers(int argc, char **argv)
{
	static const char *const titles[] = { "BREAKER", "STATE", "SINCE (UTC)", "UNTIL", "WAITING", "BY", "REASON" };
	static const struct cli_list list = { "breakers", titles, 7, breaker_row,
					      "No deployed workflow calls anything." };
	struct cli_args a;
	int code = cli_parse(&list_spec, argc, argv, &a);

	return code >= 0 ? code : cli_print_list(&a, &list, "/api/v1/breakers");
}
