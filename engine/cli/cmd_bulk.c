/* cmd_bulk.c: holdpoint bulk ACTION: one order to all runs that fit a filter.
 *
 * The engine works in pages and says of each run what became of it. A page that was
 * done stays done, so the same command again goes on where it was stopped.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"
#include "cli/value.h"

static const struct cli_option options[] = {
	{ "reason", "TEXT", "why; it is kept in each run's history (mandatory, but for resume)" },
	{ "workflow", "NAME", "runs of this workflow" },
	{ "status", "STATUS", "running, waiting, held or paused" },
	{ "state", "STATE", "runs that are in this state" },
	{ "code", "CODE", "runs whose last failure has this code" },
	{ "since", "TIME", "started at or after: 2026-11-23T02:04:05Z, or 2h for two hours ago" },
	{ "until", "TIME", "started before" },
	{ "dry-run", NULL, "try everything, change nothing" },
	{ "value", "JSON|@FILE|-", "skip: what the state would have saved" },
	{ "from", "STATE", "restart: from which state" },
	{ "to", "VERSION", "move: current (the default), or the first 8 or more letters of a digest" },
	{ "map", "OLD=NEW,…", "move: states that have another name in that version" },
	{ "at", "STATE", "move: go on there from this state" },
	{ "yes", NULL, "restart, move: effects may be made again, under new keys" },
	{ "limit", "N", "runs in a page (default 100)" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "bulk", .args = "cancel|pause|resume|retry|skip|undo|give-up|restart|move",
	.text = "Gives one order to all live runs that fit the filter, each by itself: what one run refuses\n"
		"stops no other. Prints what was refused and why; ends with 5 when something was.",
	.examples = "  holdpoint bulk retry --workflow card_add --code rate_limited --reason 'the limit was raised'\n"
		    "  holdpoint bulk move --workflow card_add --to current --reason 'fixed' --dry-run",
	.options = options, .min_args = 1, .max_args = 1, .client = true,
};

/* Every filter that was given, or nothing: one that is lost would widen what is hit. */
static int put_filters(const struct cli_args *a, json_t *body, struct hp_error *err)
{
	static const char *const same[] = { "reason", "workflow", "status", "state", "code", "from", "at" };

	for (size_t i = 0; i < sizeof same / sizeof *same; i++)
		if (cli_put_option(a, same[i], body, err) < 0)
			return -1;
	return 0;
}

static json_t *request(const struct cli_args *a, struct hp_error *err)
{
	const bool move = strcmp(a->arg[0], "move") == 0;
	char since[32], until[32];
	json_t *map = cli_read_map(cli_value(a, "map"), err), *body, *value = NULL;
	const char *to = cli_value(a, "to");

	if (!map)
		return NULL;
	body = json_pack("{s:s, s:b, s:b, s:s*, s:s*, s:s*}", "action",
			 strcmp(a->arg[0], "give-up") == 0 ? "give_up" : a->arg[0], "dry_run", cli_has(a, "dry-run"),
			 "again", cli_has(a, "yes"), "since", cli_time_word(cli_value(a, "since"), since, sizeof since),
			 "until", cli_time_word(cli_value(a, "until"), until, sizeof until), "to",
			 to || !move ? to : "current");
	if (body && json_object_size(map))
		json_object_set(body, "map", map);
	json_decref(map);
	if (!body) {
		hp_fail(err, HP_E_INVALID, "an option is not UTF-8");
		return NULL;
	}
	if (put_filters(a, body, err) < 0)
		goto fail;
	if (cli_value(a, "value")) {
		value = cli_read_value(cli_value(a, "value"), "value", err);
		if (!value)
			goto fail;
		json_object_set_new(body, "value", value);
	}
	return body;
fail:
	json_decref(body);
	return NULL;
}

static void print_refused(const json_t *results)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)results, i, row) {
		const char *sentence = hp_json_str(row, "sentence");

		if (!sentence)
			continue;
		printf("run %lld refused: ", (long long)hp_json_int(row, "run", 0));
		cli_line(sentence);
	}
}

/* Page after page; `all` collects what they say. */
static int pages(const struct cli_args *a, struct cli_client *c, json_t *body, json_t *all, struct hp_error *err)
{
	long long done = 0, refused = 0;
	bool more = true;
	int64_t limit = 100;
	int rc = cli_value(a, "limit") ? cli_number(cli_value(a, "limit"), "runs in a page", &limit, err) : 0;

	json_object_set_new(body, "limit", json_integer(limit));
	while (rc == 0 && more) {
		json_t *reply = NULL;

		rc = cli_request(c, "/api/v1/bulk", body, &reply, err);
		done += hp_json_int(reply, "done", 0);
		refused += hp_json_int(reply, "refused", 0);
		more = rc == 0 && json_is_integer(json_object_get(reply, "next"));
		if (more)
			json_object_set(body, "after", json_object_get(reply, "next"));
		if (rc == 0 && !a->json)
			print_refused(json_object_get(reply, "results"));
		json_array_extend(json_object_get(all, "results"), json_object_get(reply, "results"));
		json_decref(reply);
	}
	if (rc < 0) { /* what was done stays done: say so before the error */
		if (done && !cli_has(a, "dry-run"))
			fprintf(stderr, "holdpoint: %lld runs were done before this went wrong\n", done);
		return -1;
	}
	json_object_set_new(all, "done", json_integer(done));
	json_object_set_new(all, "refused", json_integer(refused));
	if (!a->json)
		printf("%s: %lld %s, %lld refused\n", a->arg[0], done, cli_has(a, "dry-run") ? "would be done" : "done", refused);
	return refused ? hp_code_exit(HP_E_CONFLICT) : 0;
}

int hp_cmd_bulk(int argc, char **argv)
{
	struct hp_error err = { 0 };
	struct cli_client *c = NULL;
	json_t *body, *all;
	struct cli_args a;
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	code = -1;
	all = json_pack("{s:s, s:b, s:[]}", "action", a.arg[0], "dry_run", cli_has(&a, "dry-run"), "results");
	body = request(&a, &err);
	c = body ? cli_client_open(&a, &err) : NULL;
	if (c)
		code = pages(&a, c, body, all, &err);
	if (code >= 0 && a.json && cli_print_json(all, &err) < 0)
		code = -1;
	cli_client_free(c);
	json_decref(body);
	json_decref(all);
	return code < 0 ? cli_error(&a, &err) : code;
}
