/* cmd_workflow.c: holdpoint workflow pause|resume NAME */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"

static const struct cli_option pause_options[] = {
	{ "reason", "TEXT", "why; it is shown with every run that starts meanwhile (mandatory)" },
	{ 0 },
};
static const struct cli_spec workflow_spec = {
	.name = "workflow", .args = "pause|resume NAME",
	.text = "Pauses or resumes the new runs of a workflow.",
	.examples = "  holdpoint workflow pause refund_on_booking_failure --reason 'the provider migrates'\n"
		    "  holdpoint workflow resume refund_on_booking_failure",
	.min_args = 2, .max_args = 2, .client = true,
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

static int post(struct cli_client *c, const char *name, const char *tail, json_t *body, json_t **reply,
		struct hp_error *err)
{
	struct hp_buf path;
	int rc;

	hp_buf_init(&path, 1024);
	hp_buf_adds(&path, "/api/v1/workflows/");
	hp_buf_urlencode(&path, name, strlen(name));
	hp_buf_adds(&path, tail);
	rc = cli_request(c, hp_buf_str(&path), body, reply, err);
	hp_buf_free(&path);
	return rc;
}

static int pause_one(const struct cli_args *a, struct cli_client *c, json_t **reply, struct hp_error *err)
{
	const char *reason = cli_value(a, "reason");
	json_t *body = NULL;
	int rc;

	if (!reason || !*reason) {
		hp_fail(err, HP_E_INVALID, "workflow pause: --reason is missing");
		return hp_error_hint(err, "Say in a sentence why; every run that starts meanwhile says it.");
	}
	body = json_pack("{s:s}", "reason", reason);
	if (!body)
		return hp_fail(err, HP_E_INVALID, "the reason is not UTF-8");
	rc = post(c, a->arg[0], "/pause", body, reply, err);
	json_decref(body);
	if (rc == 0 && !a->json)
		printf("%s: new runs start paused\n", a->arg[0]);
	return rc;
}

/* In pages, so that no call holds many runs for long. */
static int resume_one(const struct cli_args *a, struct cli_client *c, json_t **reply, struct hp_error *err)
{
	long long n = 0;
	int rc;

	do {
		json_t *body = json_pack("{s:i}", "limit", 500);

		json_decref(*reply);
		*reply = NULL;
		rc = post(c, a->arg[0], "/resume", body, reply, err);
		json_decref(body);
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
	static const struct cli_spec *const pause[] = { &pause_spec, NULL }, *const resume[] = { &resume_spec, NULL };
	bool is_pause = argc > 1 && strcmp(argv[1], "pause") == 0;
	struct hp_error err = { 0 };
	struct cli_client *c;
	json_t *reply = NULL;
	struct cli_args a;
	int code;

	if (!is_pause && !(argc > 1 && strcmp(argv[1], "resume") == 0)) {
		code = cli_parse(&workflow_spec, argc, argv, &a);
		if (code >= 0)
			return code;
		hp_fail(&err, HP_E_INVALID, "workflow: there is no \"%.60s\"", a.arg[0]);
		hp_error_hint(&err, "It is pause or resume, then the workflow's name.");
		return cli_error(&a, &err);
	}
	code = cli_parse_sub(is_pause ? pause : resume, argc, argv, &a);
	if (code >= 0)
		return code;
	c = cli_client_open(&a, &err);
	code = c ? is_pause ? pause_one(&a, c, &reply, &err) : resume_one(&a, c, &reply, &err) : -1;
	if (code == 0 && a.json)
		code = cli_print_json(reply, &err);
	json_decref(reply);
	cli_client_free(c);
	return code < 0 ? cli_error(&a, &err) : 0;
}
