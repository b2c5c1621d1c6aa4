/* cmd_start.c: holdpoint start */
#include <stdio.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"
#include "cli/value.h"

static const struct cli_option options[] = {
	{ "input", "JSON|@FILE|-", "the run's input; @FILE reads a file, - standard input (default {})" },
	{ "key", "KEY", "one run per key: a second start joins the first (default: the definition's key)" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "start", .args = "WORKFLOW",
	.text = "Starts a run. The input is checked against the workflow's declaration first.",
	.examples = "  holdpoint start refund_on_booking_failure --input @event.json\n"
		    "  echo '{\"user\":7}' | holdpoint start card_add --input - --key user:7",
	.options = options, .min_args = 1, .max_args = 1, .client = true,
};

static int start(const struct cli_args *a, struct hp_error *err)
{
	const char *input = cli_value(a, "input"), *key = cli_value(a, "key");
	json_t *body = json_pack("{s:s}", "workflow", a->arg[0]), *reply = NULL, *value = NULL;
	struct cli_client *c = NULL;
	int rc = -1;

	if (!body) {
		hp_fail(err, HP_E_INVALID, "the workflow's name is not UTF-8");
		goto out;
	}
	if (input) {
		value = cli_read_value(input, "input", err);
		if (!value)
			goto out;
		json_object_set_new(body, "input", value);
	}
	if (key && json_object_set_new(body, "key", json_string(key)) != 0) {
		hp_fail(err, HP_E_INVALID, "the key is not UTF-8");
		goto out;
	}
	c = cli_client_open(a, err);
	if (!c || cli_request(c, "/api/v1/runs", body, &reply, err) < 0)
		goto out;
	rc = 0;
	if (a->json)
		rc = cli_print_json(reply, err);
	else
		printf("run %lld %s\n", (long long)hp_json_int(reply, "run", 0),
		       hp_json_bool(reply, "existed", 0) ? "has this key already: joined" : "started");
out:
	cli_client_free(c);
	json_decref(reply);
	json_decref(body);
	return rc;
}

int hp_cmd_start(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	return start(&a, &err) < 0 ? cli_error(&a, &err) : 0;
}
