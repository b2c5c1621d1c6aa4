/* cmd_migrate.c: holdpoint migrate */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/client.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/print.h"
#include "runtime/files.h"
#include "runtime/place.h"
#include "store/store.h"

static const struct cli_option options[] = {
	{ "database", "CONNINFO", "as a superuser or the owner (else the engine's private database)" },
	{ "data", "DIR", "the engine's data directory (else $HOLDPOINT_DATA)" },
	{ "scope", "NAME", "which schema: holdpoint (the default), or another directory of migrations" },
	{ "migrations", "DIR", "where the directories of migrations are" },
	{ "dry-run", NULL, "only say what would be done" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "migrate", .args = "",
	.text = "Applies the migrations that a database does not have yet, in order, each in one\n"
		"transaction. One that was applied and has changed since is an error.",
	.examples = "  holdpoint migrate --scope wallet\n"
		    "  holdpoint migrate --database 'host=/run/postgresql dbname=app user=postgres' --dry-run",
	.options = options,
};

struct progress {
	const struct cli_args *a;
	json_t *list;
	bool dry_run;
	int done;
};

static void on_migration(void *arg, const struct hp_migration *m)
{
	struct progress *p = arg;

	json_array_append_new(p->list, json_pack("{s:i, s:s, s:s, s:b}", "version", m->version, "name", m->name,
						 "sha256", m->sha256, "applied", m->applied ? 1 : 0));
	if (m->applied)
		return;
	p->done++;
	if (!p->a->json) {
		printf("%04d %s%s\n", m->version, m->name, p->dry_run ? " (not applied: dry run)" : "");
		(void)fflush(stdout);
	}
}

static int migrate(const struct cli_args *a, struct hp_error *err)
{
	const char *database = cli_value(a, "database"), *scope = cli_value(a, "scope");
	struct progress p = { a, json_array(), cli_has(a, "dry-run"), 0 };
	char root[PATH_MAX], dir[PATH_MAX + 128], private[PATH_MAX];
	json_t *doc;
	int rc = -1;

	scope = scope ? scope : "holdpoint";
	if (!database) {
		if (cli_private_database(a, private, sizeof private, err) < 0)
			goto out;
		database = private;
	}
	if (!*scope || strspn(scope, "abcdefghijklmnopqrstuvwxyz_0123456789") != strlen(scope) || strlen(scope) > 60) {
		hp_fail(err, HP_E_INVALID, "migrate: \"%.60s\" is no name of a scope", scope);
		goto out;
	}
	if (hp_place_resource(cli_value(a, "migrations"), "migrations", root, err) < 0)
		goto out;
	(void)snprintf(dir, sizeof dir, "%s/%s", root, scope);
	if (!hp_file_exists(dir)) {
		hp_fail(err, HP_E_NOT_FOUND, "there are no migrations for \"%s\" in %s", scope, root);
		goto out;
	}
	if (hp_migrate(database, dir, scope, p.dry_run, on_migration, &p, err) < 0)
		goto out;
	if (json_array_size(p.list) == 0) { /* "up to date" would be a lie */
		hp_fail(err, HP_E_NOT_FOUND, "there is no migration in %s", dir);
		(void)hp_error_hint(err, "Files are named NNNN_what_it_does.sql.");
		goto out;
	}
	rc = 0;
	if (a->json) {
		doc = json_pack("{s:O}", "migrations", p.list);
		rc = cli_print_json(doc, err);
		json_decref(doc);
	} else if (p.done == 0) {
		printf("%s: up to date\n", scope);
	}
out:
	json_decref(p.list);
	return rc;
}

int hp_cmd_migrate(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	return migrate(&a, &err) < 0 ? cli_error(&a, &err) : 0;
}
