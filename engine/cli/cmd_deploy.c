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
#include "cli/sources.h"
#include "runtime/place.h"

static const struct cli_option options[] = {
	{ "plugins", "DIR", "where the connectors are" },
	{ "database", "CONNINFO", "straight to the database, as holdpoint_engine, when no engine runs" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "deploy", .args = "PATH...",
	.text = "Makes workflow files (of a directory all of them) the current definitions. Runs that\n"
		"have begun stay with theirs. Needs the scope admin.",
	.examples = "  holdpoint deploy workflows\n"
		    "  holdpoint deploy workflows/card_add.lua --database 'host=/run/postgresql user=holdpoint_engine'",
	.options = options, .min_args = 1, .max_args = CLI_ARGS_MAX, .client = true,
};

struct deploy {
	const struct cli_args *a;
	char plugins[PATH_MAX];
	struct cli_client *client;
	struct cli_direct *direct;
	json_t *list;
	char first[600]; /* fatal finding */
};

static void on_finding(void *arg, const struct hp_finding *f)
{
	struct deploy *d = arg;

	if (f->fatal && !d->first[0])
		(void)snprintf(d->first, sizeof d->first, "%s:%d: [%s] %s", f->file ? f->file : "", f->line, f->lint,
			       f->sentence);
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
	if (hp_workflow_check(w, on_finding, d) + cli_native_check(w, d->plugins, on_finding, d) > 0) {
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
		body = json_pack("{s:o}", "bundle", hp_json_parse(b.bundle.p, b.bundle.n, "bundle", err));
		rc = body ? cli_request(d->client, "/api/v1/workflows", body, &reply, err) : -1;
	}
	if (rc == 0) {
		json_array_append_new(d->list, json_pack("{s:s, s:s, s:s}", "workflow", b.workflow, "digest", hex,
							 "file", path));
		if (!d->a->json)
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
	json_decref(d.list);
	return code < 0 ? cli_error(&a, &err) : 0;
}
