/* cmd_deploy.c: holdpoint deploy
 *
 * All files are loaded and checked before the first is deployed. Through the API the
 * engine checks again: it is the engine's word that counts.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/native.h"
#include "cli/direct.h"
#include "cli/print.h"
#include "cli/siblings.h"
#include "cli/sources.h"
#include "cli/value.h"
#include "runtime/place.h"

static const struct cli_option options[] = {
	{ "plugins", "DIR", "where the connectors are" },
	{ "dry-run", NULL, "say what would change, deploy nothing" },
	{ "move-live", NULL, "move all live runs to the new version, or deploy nothing and name those it would strand" },
	{ "map", "OLD=NEW,…", "--move-live: states that have another name now" },
	{ "reason", "TEXT", "--move-live: why; it is kept in each run's history (mandatory)" },
	{ "database", "CONNINFO", "straight to the database, as holdpoint_engine, when no engine runs" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "deploy", .args = "PATH...",
	.text = "Makes workflow files (of a directory all of them) the current definitions, and says what\n"
		"changes: + added, - removed, ~ changed, and ! where it is about who may do what. Runs that\n"
		"have begun stay with their version. Needs the scope admin.",
	.examples = "  holdpoint deploy workflows --dry-run\n"
		    "  holdpoint deploy workflows/card_add.lua --move-live --map pay=charge --reason 'pay was renamed'\n"
		    "  holdpoint deploy workflows/card_add.lua --database 'host=/run/postgresql user=holdpoint_engine'",
	.options = options, .min_args = 1, .max_args = CLI_ARGS_MAX, .client = true,
};

struct deploy {
	const struct cli_args *a;
	char plugins[PATH_MAX];
	struct cli_client *client;
	struct cli_direct *direct;
	struct cli_siblings beside;
	json_t *list;
	char first[1200]; /* fatal finding */
};

static void on_finding(void *arg, const struct hp_finding *f)
{
	struct deploy *d = arg;

	if (f->fatal && !d->first[0])
		(void)snprintf(d->first, sizeof d->first, "%s:%d: [%s] %s", f->file ? f->file : "", f->line, f->lint,
			       f->sentence);
}

/* What the engine says of it. */
static void print_reply(const char *name, const char *hex, const json_t *reply)
{
	const json_t *row, *live = json_object_get(reply, "live"), *move = json_object_get(reply, "move");
	const char *more = hp_json_bool(live, "at_least", 0) ? " or more" : "";
	bool dry = hp_json_bool(reply, "dry_run", 0);
	size_t i;

	printf("%s %s %.12s\n", name, dry ? "would be deployed as" : "deployed as", hex);
	json_array_foreach(json_object_get(reply, "changes"), i, row) {
		const char *what = hp_json_str(row, "what"), *state = hp_json_str(row, "state");

		printf("  %c%c ", what[0] == 'a' ? '+' : what[0] == 'r' ? '-' : '~', hp_json_bool(row, "policy", 0) ? '!' : ' ');
		if (state)
			printf("%s: ", state);
		cli_put(hp_json_str(row, "sentence"));
		putchar('\n');
	}
	json_array_foreach(json_object_get(live, "versions"), i, row) {
		const char *digest = hp_json_str(row, "digest"), *state;
		json_t *n;

		if (strcmp(digest, hex) == 0 || move)
			continue;
		printf("  %lld%s live run%s stay%s with %.12s:", (long long)hp_json_int(row, "runs", 0), more,
		       hp_json_int(row, "runs", 0) == 1 ? "" : "s", hp_json_int(row, "runs", 0) == 1 ? "s" : "", digest);
		json_object_foreach(json_object_get(row, "states"), state, n)
			printf(" %s %lld", state, (long long)json_integer_value(n));
		putchar('\n');
	}
	if (!move)
		return;
	printf("  %lld live runs %s\n", (long long)hp_json_int(move, "moved", 0), dry ? "would be moved" : "moved");
	json_array_foreach(json_object_get(move, "stranded"), i, row) {
		printf("  stranded: ");
		cli_put(hp_json_str(row, "sentence"));
		putchar('\n');
	}
}

/* The request to the engine. */
static json_t *request(const struct deploy *d, struct hp_bytes bundle, struct hp_error *err)
{
	json_t *map = cli_read_map(cli_value(d->a, "map"), err), *body;

	if (!map)
		return NULL;
	body = json_pack("{s:o, s:b, s:b, s:s*}", "bundle", hp_json_parse(bundle.p, bundle.n, "bundle", err), "dry_run",
			 cli_has(d->a, "dry-run"), "move_live", cli_has(d->a, "move-live"), "reason",
			 cli_value(d->a, "reason"));
	if (body && json_object_size(map))
		json_object_set(body, "map", map);
	json_decref(map);
	if (!body && err->code == HP_OK)
		hp_fail(err, HP_E_INVALID, "--reason is not UTF-8");
	return body;
}

/* One file: checked, and deployed when `send`. */
static int one(struct deploy *d, const char *path, bool send, struct hp_error *err)
{
	struct hp_bundle b = { 0 };
	struct hp_workflow *w = NULL;
	struct hp_buf bundle, summary;
	json_t *body = NULL, *reply = NULL;
	char hex[HP_SHA256_HEX];
	int rc = -1;

	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	hp_buf_init(&summary, HP_BUNDLE_MAX);
	w = cli_source_load(path, d->plugins, &bundle, err);
	if (!w || hp_workflow_summary(w, &summary, err) < 0)
		goto out;
	d->beside.plugins = d->plugins;
	d->beside.path = path;
	if (hp_workflow_check_among(w, cli_sibling, &d->beside, on_finding, d) + cli_native_check(w, d->plugins, on_finding, d) > 0) {
		hp_fail(err, HP_E_SCRIPT, "%s", d->first[0] ? d->first : path);
		(void)hp_error_hint(err, "holdpoint check shows all findings; nothing was deployed.");
		goto out;
	}
	rc = 0;
	if (!send)
		goto out;
	b.workflow = hp_workflow_definition(w)->workflow;
	b.bundle = hp_buf_bytes(&bundle);
	b.summary = hp_buf_bytes(&summary);
	hp_bundle_digest(b.bundle, b.digest);
	hp_hex(b.digest, HP_SHA256_LEN, hex);
	if (d->direct) {
		rc = cli_direct_deploy(d->direct, &b, err);
	} else {
		body = request(d, b.bundle, err);
		rc = body ? cli_request(d->client, "/api/v1/workflows", body, &reply, err) : -1;
	}
	if (rc == 0) {
		json_t *row = json_pack("{s:s, s:s, s:s}", "workflow", b.workflow, "digest", hex, "file", path);

		if (reply)
			json_object_update_missing(row, reply);
		json_array_append_new(d->list, row);
		if (!d->a->json && reply)
			print_reply(b.workflow, hex, reply);
		else if (!d->a->json)
			printf("%s deployed as %.12s\n", b.workflow, hex);
	}
out:
	json_decref(body);
	json_decref(reply);
	hp_workflow_free(w);
	hp_buf_free(&bundle);
	hp_buf_free(&summary);
	return rc;
}

static int deploy(struct deploy *d, struct cli_sources *s, struct hp_error *err)
{
	const struct cli_args *a = d->a;
	json_t *doc;
	int rc = -1;

	if (cli_has(a, "database") && (cli_has(a, "dry-run") || cli_has(a, "move-live"))) {
		hp_fail(err, HP_E_INVALID, "deploy: --dry-run and --move-live need a running engine, not --database");
		return hp_error_hint(err, "holdpoint check looks at the files alone.");
	}
	if (cli_has(a, "move-live") && (!cli_value(a, "reason") || !*cli_value(a, "reason"))) {
		hp_fail(err, HP_E_INVALID, "deploy: --move-live needs --reason");
		return hp_error_hint(err, "Say in a sentence why; it is kept in each run's history.");
	}
	if (!cli_has(a, "move-live") && (cli_has(a, "map") || cli_has(a, "reason")))
		return hp_fail(err, HP_E_INVALID, "deploy: --map and --reason belong to --move-live");
	if (hp_place_resource(cli_value(a, "plugins"), "plugins", d->plugins, err) < 0 ||
	    cli_sources_find(s, a->arg, a->n, err) < 0)
		return -1;
	for (int i = 0; i < s->n; i++)
		if (one(d, s->path[i], false, err) < 0)
			return -1;
	if (cli_has(a, "database"))
		d->direct = cli_direct_open(cli_value(a, "database"), err);
	else
		d->client = cli_client_open(a, err);
	rc = d->direct || d->client ? 0 : -1;
	for (int i = 0; rc == 0 && i < s->n; i++)
		rc = one(d, s->path[i], true, err);
	if (rc == 0 && a->json) {
		doc = json_pack("{s:O}", "deployed", d->list);
		rc = cli_print_json(doc, err);
		json_decref(doc);
	}
	return rc;
}

int hp_cmd_deploy(int argc, char **argv)
{
	static struct cli_sources s;
	static struct deploy d;
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	d.a = &a;
	d.list = json_array();
	code = deploy(&d, &s, &err);
	cli_client_free(d.client);
	cli_direct_free(d.direct);
	cli_sources_free(&s);
	cli_siblings_free(&d.beside);
	json_decref(d.list);
	return code < 0 ? cli_error(&a, &err) : 0;
}
