/* cmd_workflow.c: holdpoint workflow pause|resume NAME */
#include <stdio.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"

static const struct cli_option pause_options[] = {
	{ "reason", "TEXT", "why; it is shown with every run that starts meanwhile (mandatory)" },
	{ 0 },
};
static const struct cli_spec pause_spec = {
	.name = "workflow pause", .args = "NAME",
	.text = "New runs of the workflow are accepted and stored, and start paused. Runs that have begun\n"
		"go on: pause them with holdpoint pause.",
	.examples = "  holdpoint workflow pause refund_on_booking_failure --reason 'the provider migrates'",
	.options = pause_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec resume_spec = {
	.name = "workflow resume", .args = "NAME",
	.text = "New runs go on as they start, and those that started while the workflow was paused go on now.",
	.examples = "  holdpoint workflow resume refund_on_booking_failure", .min_args = 1, .max_args = 1,
	.client = true,
};

static int pause_one(const struct cli_args *a, json_t **reply, struct hp_error *err)
{
	json_t *body = cli_reason_body(a, "every run that starts meanwhile says it", err);

	if (!body || cli_request_one(a, "/api/v1/workflows/", "/pause", NULL, body, reply, err) < 0)
		return -1;
	if (!a->json)
		printf("%s: new runs start paused\n", a->arg[0]);
	return 0;
}

/* In pages, so that no call holds many runs for long. */
static int resume_one(const struct cli_args *a, json_t **reply, struct hp_error *err)
{
	long long n = 0;
	int rc;

	do {
		json_decref(*reply);
		*reply = NULL;
		rc = cli_request_one(a, "/api/v1/workflows/", "/resume", NULL, json_pack("{s:i}", "limit", 500), reply, err);
		n += hp_json_int(*reply, "resumed", 0);
	} while (rc == 0 && hp_json_bool(*reply, "more", 0));
	if (rc == 0 && a->json)
		json_object_set_new(*reply, "resumed", json_integer(n));
	else if (rc == 0)
		printf("%s: goes on, and %lld run%s that waited for it\n", a->arg[0], n, n == 1 ? "" : "s");
	return rc;
}

int hp_cmd_workflow(int argc, char **argv)
{
	static const struct cli_spec *const specs[] = { &pause_spec, &resume_spec, NULL };
	struct hp_error err = { 0 };
	json_t *reply = NULL;
	struct cli_args a;
	int code = cli_parse_sub(specs, argc, argv, &a);

	if (code >= 0)
		return code;
	code = a.spec == &pause_spec ? pause_one(&a, &reply, &err) : resume_one(&a, &reply, &err);
	if (code == 0 && a.json)
		code = cli_print_json(reply, &err);
	json_decref(reply);
	return code < 0 ? cli_error(&a, &err) : 0;
}
