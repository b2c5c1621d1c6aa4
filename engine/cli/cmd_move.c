/* cmd_move.c: holdpoint move: a run follows another version of its workflow. */
#include <stdio.h>

#include "base/json.h"
#include "cli/command.h"
#include "cli/print.h"
#include "cli/run.h"
#include "cli/value.h"

static const struct cli_option options[] = {
	{ "reason", "TEXT", "why; it is kept in the history (mandatory)" },
	{ "to", "VERSION", "current (the default), or the first 8 or more letters of a digest" },
	{ "map", "OLD=NEW,…", "states that have another name in that version" },
	{ "at", "STATE", "go on there from this state, where the run has been before (held or paused runs)" },
	{ "yes", NULL, "with --at: effects that were made already may be made again, under new keys" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "move", .args = "RUN",
	.text = "Lets a run follow another version of its workflow from where it stands. Refused when that\n"
		"would lose, repeat or leave unsigned anything; the sentence says what.",
	.examples = "  holdpoint move 12 --reason 'the address was wrong in the old version'\n"
		    "  holdpoint move 12 --to 4f1d2c3b --map refund=give_back --reason 'renamed'",
	.options = options, .min_args = 1, .max_args = 1, .client = true,
};

static int move(const struct cli_args *a, struct cli_client *c, int64_t run, struct hp_error *err)
{
	json_t *body = cli_reason_body(a, "it is kept in the history", err), *map = NULL, *reply = NULL;
	char path[128];
	int rc = -1;

	if (!body)
		return -1;
	map = cli_read_map(cli_value(a, "map"), err);
	if (!map || cli_put_option(a, "at", body, err) < 0 || cli_put_option(a, "to", body, err) < 0) {
		json_decref(map);
		goto out;
	}
	if (!cli_has(a, "to"))
		json_object_set_new(body, "to", json_string("current"));
	json_object_set_new(body, "map", map);
	json_object_set_new(body, "again", json_boolean(cli_has(a, "yes")));
	(void)snprintf(path, sizeof path, "/api/v1/runs/%lld/move", (long long)run);
	rc = cli_request(c, path, body, &reply, err);
	if (rc == 0 && a->json)
		rc = cli_print_json(reply, err);
	else if (rc == 0)
		printf("run %lld: follows %.12s from state \"%s\" on%s\n", (long long)run, hp_json_str(reply, "to"),
		       hp_json_str(reply, "state"), hp_json_bool(reply, "anew", 0) ? ", which it enters anew" : "");
out:
	json_decref(body);
	json_decref(reply);
	return rc;
}

int hp_cmd_move(int argc, char **argv)
{
	return cli_with_run(&spec, argc, argv, move);
}
