/* cmd_token.c: holdpoint token create */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/direct.h"
#include "cli/print.h"

static const struct cli_option options[] = {
	{ "kind", "KIND", "person (the default), service or agent; an agent may never approve" },
	{ "scope", "SCOPE", "read, start, operate, approve or admin; repeat it (default: read)" },
	{ "role", "ROLE", "a role the principal has, as approvals name it; repeat it" },
	{ "expires-in", "DURATION", "90d, 12h (default: never)" },
	{ "database", "CONNINFO", "straight to the database, as holdpoint_engine, when no engine runs" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "token create", .args = "PRINCIPAL",
	.text = "Makes a token for a person, a service or an agent, and prints it once.\n"
		"With --role, the principal's roles become exactly those. Needs the scope admin.",
	.examples = "  holdpoint token create alice --scope read --scope approve --role payments\n"
		    "  holdpoint token create ci --kind service --scope start --expires-in 90d",
	.options = options, .min_args = 1, .max_args = 1, .client = true,
};

static json_t *words_of(const struct cli_args *a, const char *name)
{
	json_t *list = json_array();
	const char *v;

	for (int i = 0; (v = cli_value_at(a, name, i)); i++)
		json_array_append_new(list, json_string(v));
	return list;
}

static json_t *request(const struct cli_args *a, struct hp_error *err)
{
	const char *kind = cli_value(a, "kind"), *expires = cli_value(a, "expires-in");
	int64_t us = 0;
	json_t *body;

	if (expires && hp_duration_parse(expires, &us, err) < 0)
		return NULL;
	if (expires && us < HP_SECOND) {
		(void)hp_fail(err, HP_E_INVALID, "--expires-in must be at least 1s");
		return NULL;
	}
	body = json_pack("{s:s, s:s, s:o}", "principal", a->arg[0], "kind", kind ? kind : "person", "scopes",
			 cli_has(a, "scope") ? words_of(a, "scope") : json_pack("[s]", "read"));
	if (!body) {
		(void)hp_fail(err, HP_E_INVALID, "the principal's name is not UTF-8");
		return NULL;
	}
	if (cli_has(a, "role"))
		json_object_set_new(body, "roles", words_of(a, "role"));
	if (expires)
		json_object_set_new(body, "expires_in", json_integer(us / HP_SECOND));
	return body;
}

static int create(const struct cli_args *a, struct hp_error *err)
{
	json_t *body = request(a, err), *reply = NULL;
	struct cli_client *c = NULL;
	struct cli_direct *d = NULL;
	int rc = -1;

	if (!body)
		return -1;
	if (cli_has(a, "database")) {
		d = cli_direct_open(cli_value(a, "database"), err);
		rc = d ? cli_direct_door(d, "token_create", body, &reply, err) : -1;
	} else {
		c = cli_client_open(a, err);
		rc = c ? cli_request(c, "/api/v1/tokens", body, &reply, err) : -1;
	}
	if (rc == 0 && a->json) {
		rc = cli_print_json(reply, err);
	} else if (rc == 0) {
		puts(hp_json_str(reply, "token"));
		(void)fprintf(stderr, "It is shown this once. Keep it in a file with mode 600.\n");
	}
	cli_client_free(c);
	cli_direct_free(d);
	json_decref(body);
	json_decref(reply);
	return rc;
}

int hp_cmd_token(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse_sub(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	return create(&a, &err) < 0 ? cli_error(&a, &err) : 0;
}
