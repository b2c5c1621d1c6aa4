/* cmd_token.c: holdpoint token create, list, revoke */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/direct.h"
#include "cli/list.h"
#include "cli/print.h"

#define DATABASE \
	{ "database", "CONNINFO", "straight to the database, as holdpoint_engine, when no engine runs" }

static const struct cli_option create_options[] = {
	{ "kind", "KIND", "person (the default), service or agent; an agent may never approve" },
	{ "scope", "SCOPE", "read, start, operate, approve or admin; repeat it (default: read)" },
	{ "role", "ROLE", "a role the principal has, as approvals name it; repeat it" },
	{ "expires-in", "DURATION", "90d, 12h (default: never)" },
	DATABASE,
	{ 0 },
};
static const struct cli_spec create_spec = {
	.name = "token create", .args = "PRINCIPAL",
	.text = "Makes a token for a person, a service or an agent, and prints it once.\n"
		"With --role, the principal's roles become exactly those. Needs the scope admin.",
	.examples = "  holdpoint token create alice --scope read --scope approve --role payments\n"
		    "  holdpoint token create ci --kind service --scope start --expires-in 90d",
	.options = create_options, .min_args = 1, .max_args = 1, .client = true,
};

static const struct cli_option list_options[] = {
	CLI_PAGES,
	DATABASE,
	{ 0 },
};
static const struct cli_spec list_spec = {
	.name = "token list", .args = "",
	.text = "Lists tokens, the newest first, the revoked and expired ones too; what a token\n"
		"reads like is not stored. Needs the scope admin.",
	.examples = "  holdpoint token list\n  holdpoint token list --all --json",
	.options = list_options, .client = true,
};

static const struct cli_option revoke_options[] = {
	{ "reason", "TEXT", "why; it is kept with the token" },
	DATABASE,
	{ 0 },
};
static const struct cli_spec revoke_spec = {
	.name = "token revoke", .args = "ID",
	.text = "Makes a token worthless: within five seconds nobody is let in with it. It stays in\n"
		"the list. Needs the scope admin.",
	.examples = "  holdpoint token revoke 7 --reason 'the laptop was stolen'",
	.options = revoke_options, .min_args = 1, .max_args = 1, .client = true,
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

/* To the API, or with --database to the store's door. */
static int ask(const struct cli_args *a, const char *path, const char *door, const json_t *body, json_t **reply,
		struct hp_error *err)
{
	struct cli_client *c = NULL;
	struct cli_direct *d = NULL;
	int rc;

	if (cli_has(a, "database")) {
		d = cli_direct_open(cli_value(a, "database"), err);
		rc = d ? cli_direct_door(d, door, body, reply, err) : -1;
	} else {
		c = cli_client_open(a, err);
		rc = c ? cli_request(c, path, body, reply, err) : -1;
	}
	cli_client_free(c);
	cli_direct_free(d);
	return rc;
}

static int create(const struct cli_args *a, struct hp_error *err)
{
	json_t *body = request(a, err), *reply = NULL;
	int rc = body ? ask(a, "/api/v1/tokens", "token_create", body, &reply, err) : -1;

	if (rc == 0 && a->json) {
		rc = cli_print_json(reply, err);
	} else if (rc == 0) {
		puts(hp_json_str(reply, "token"));
		(void)fprintf(stderr, "It is shown this once. Keep it in a file with mode 600.\n");
	}
	json_decref(body);
	json_decref(reply);
	return rc;
}

static void token_row(struct cli_table *t, const json_t *row)
{
	const json_t *scope;
	struct hp_buf scopes;
	char buf[32];
	size_t i;

	hp_buf_init(&scopes, 4096);
	json_array_foreach(json_object_get(row, "scopes"), i, scope)
		hp_buf_printf(&scopes, "%s%s", i ? " " : "", json_string_value(scope));
	cli_table_number(t, hp_json_int(row, "id", 0));
	cli_table_cell(t, hp_json_str(row, "principal"), 40);
	cli_table_cell(t, hp_json_str(row, "kind"), 0);
	cli_table_cell(t, hp_buf_str(&scopes), 40);
	cli_table_cell(t, cli_time(hp_json_str(row, "created_at"), buf, sizeof buf), 0);
	cli_table_cell(t, hp_json_str(row, "created_by"), 40);
	cli_table_cell(t, cli_time(hp_json_str(row, "expires_at"), buf, sizeof buf), 0);
	cli_table_cell(t, cli_time(hp_json_str(row, "revoked_at"), buf, sizeof buf), 0);
	hp_buf_free(&scopes);
}

static int list(const struct cli_args *a)
{
	static const char *const titles[] = { "ID", "PRINCIPAL", "KIND", "SCOPES", "CREATED", "BY", "EXPIRES",
					      "REVOKED" };
	static const struct cli_list l = { "tokens", titles, 8, token_row, "There is no token." };

	return cli_print_list(a, &l, "/api/v1/tokens");
}

static void print_revoked(const json_t *reply)
{
	char buf[32];

	printf("token %lld of ", (long long)hp_json_int(reply, "id", 0));
	cli_put(hp_json_str(reply, "principal"));
	if (!hp_json_bool(reply, "already", 0)) {
		printf(": revoked\n");
		return;
	}
	printf(": revoked already, since %s UTC", cli_time(hp_json_str(reply, "revoked_at"), buf, sizeof buf));
	if (hp_json_str(reply, "revoked_by")) {
		printf(", by ");
		cli_put(hp_json_str(reply, "revoked_by"));
	}
	printf("\n");
}

static int revoke_token(const struct cli_args *a, struct hp_error *err)
{
	json_t *body = NULL, *reply = NULL;
	char path[64];
	int64_t id;
	int rc = -1;

	if (cli_number(a->arg[0], "a token", &id, err) < 0)
		return -1;
	body = cli_reason_body(a, NULL, err);
	if (!body)
		return -1;
	/* the API has the number in the path */
	if (cli_has(a, "database"))
		json_object_set_new(body, "token", json_integer(id));
	(void)snprintf(path, sizeof path, "/api/v1/tokens/%lld/revoke", (long long)id);
	rc = ask(a, path, "token_revoke", body, &reply, err);
	if (rc == 0 && a->json)
		rc = cli_print_json(reply, err);
	else if (rc == 0)
		print_revoked(reply);
	json_decref(body);
	json_decref(reply);
	return rc;
}

int hp_cmd_token(int argc, char **argv)
{
	static const struct cli_spec *const specs[] = { &create_spec, &list_spec, &revoke_spec, NULL };
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse_sub(specs, argc, argv, &a);

	if (code >= 0)
		return code;
	if (a.spec == &list_spec)
		return list(&a);
	return (a.spec == &create_spec ? create(&a, &err) : revoke_token(&a, &err)) < 0 ? cli_error(&a, &err) : 0;
}
