/* cmd_event.c: holdpoint event send */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"
#include "cli/value.h"

static const struct cli_spec spec = {
	.name = "event send", .args = "NAME KEY [JSON|@FILE|-]",
	.text = "Sends an event to the mailbox (NAME, KEY): runs that wait for it go on, and a run\n"
		"that comes to wait for it later finds it.",
	.examples = "  holdpoint event send payout.settled po_17 '{\"amount\":4200}'",
	.min_args = 2, .max_args = 3, .client = true,
};

static int send_event(const struct cli_args *a, struct hp_error *err)
{
	json_t *payload = a->n > 2 ? cli_read_value(a->arg[2], "payload", err) : json_object();
	json_t *body = payload ? json_pack("{s:s, s:s, s:O}", "name", a->arg[0], "key", a->arg[1], "payload",
					   payload) : NULL;
	json_t *reply = NULL;
	struct cli_client *c = NULL;
	int64_t woken;
	int rc = -1;

	if (!payload)
		goto out;
	if (!body) {
		hp_fail(err, HP_E_INVALID, "the event's name or key is not UTF-8");
		goto out;
	}
	c = cli_client_open(a, err);
	if (!c || cli_request(c, "/api/v1/events", body, &reply, err) < 0)
		goto out;
	rc = 0;
	woken = hp_json_int(reply, "woken", 0);
	if (a->json)
		rc = cli_print_json(reply, err);
	else if (woken == 0)
		printf("event %lld: kept, no run waits for it yet\n", (long long)hp_json_int(reply, "event", 0));
	else
		printf("event %lld: woke %lld run%s\n", (long long)hp_json_int(reply, "event", 0), (long long)woken,
		       woken == 1 ? "" : "s");
out:
	cli_client_free(c);
	json_decref(payload);
	json_decref(body);
	json_decref(reply);
	return rc;
}

int hp_cmd_event(int argc, char **argv)
{
	static const struct cli_spec *const specs[] = { &spec, NULL };
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse_sub(specs, argc, argv, &a);

	if (code >= 0)
		return code;
	return send_event(&a, &err) < 0 ? cli_error(&a, &err) : 0;
}
