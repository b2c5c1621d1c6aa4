/* cmd_serve.c: holdpoint serve */
#include <stdlib.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/process.h"
#include "runtime/counters.h"
#include "runtime/supervisor.h"

static const struct cli_option options[] = {
	{ "listen", "ADDRESS", "where the doors are (127.0.0.1:8080)" },
	{ "workers", "N", "worker processes (1)" },
	{ "data", "DIR", "data directory ($HOLDPOINT_DATA, as root /var/lib/holdpoint/data, else ./.holdpoint)" },
	{ "database", "CONNINFO", "a PostgreSQL to use, as role holdpoint_engine (else a private one is run)" },
	{ "sql-database", "CONNINFO", "the same as role holdpoint_workflow, for `sql` states" },
	{ "admin-database", "CONNINFO", "the same as a superuser, for migrations (else as --database)" },
	{ "pooled", NULL, "a pooler in transaction mode is in front of the database" },
	{ "simulated", "NAMES", "simulated providers to run and use: stripe,duffel,resend,dns" },
	{ "secrets", "DIR", "files NAME with the value of a secret (else the environment)" },
	{ "secrets-key", "FILE", "keys of the table of secrets ($HOLDPOINT_SECRETS_KEY; a private one is made)" },
	{ "roles", "ROLES", "roles of the local administrator, made at the first start (payments)" },
	{ "plugins", "DIR", "connectors (beside the program)" },
	{ "workflows", "DIR", "workflows to deploy at the start (beside the program)" },
	{ "migrations", "DIR", "migrations (beside the program)" },
	{ "user", "NAME", "started as root: whom the servers run as (holdpoint)" },
	{ "postgres-bin", "DIR", "programs of PostgreSQL (newest in /usr/lib/postgresql, else PATH)" },
	{ "log", "LEVEL", "debug, info, warn, error ($HOLDPOINT_LOG, info)" },
	{ "slots", "N", "runs a worker holds at once (512)" },
	{ "lease", "TIME", "how long a silent worker keeps its runs (10s)" },
	{ "drain", "TIME", "how long a worker that ends waits for its requests (20s)" },
	{ "poll", "TIME", "how often an idle worker looks for work (500ms)" },
	{ "echo", NULL, "tests: base URLs \"echo:\" are answered by the worker itself" },
	{ "separate-admission", NULL, "tests: an admission is a commit of its own" },
	{ "base-url", "NAME=URL", "where a connector's requests go instead (dns: name servers); may be repeated" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "serve", .args = "",
	.text = "Runs the engine: a supervisor, its workers and, unless --database is given, a private\n"
		"PostgreSQL. A first Ctrl-C ends it in order, a second one at once.",
	.examples = "  holdpoint serve\n"
		    "  holdpoint serve --simulated stripe,duffel,resend\n"
		    "  holdpoint serve --workers 4 --database 'host=db user=holdpoint_engine dbname=holdpoint' \\\n"
		    "      --sql-database 'host=db user=holdpoint_workflow dbname=holdpoint' \\\n"
		    "      --admin-database 'host=db user=postgres dbname=holdpoint'",
	.options = options, .no_json = true,
};

#define BASE_URLS_MAX 16

static int read_options(const struct cli_args *a, struct hp_serve_options *o, const char **base_urls,
			struct hp_error *err)
{
	int64_t workers, slots;

	*o = (struct hp_serve_options){
		.place = {cli_value(a, "data"), cli_value(a, "plugins"), cli_value(a, "workflows"),
			  cli_value(a, "migrations"), cli_value(a, "user")},
		.listen = cli_value(a, "listen"),
		.database = cli_value(a, "database"),
		.sql_database = cli_value(a, "sql-database"),
		.admin_database = cli_value(a, "admin-database"),
		.pooled = cli_has(a, "pooled"),
		.postgres_bin = cli_value(a, "postgres-bin"),
		.simulated = cli_value(a, "simulated"),
		.secrets_dir = cli_value(a, "secrets"),
		.secrets_key = cli_value(a, "secrets-key"),
		.roles = cli_value(a, "roles"),
		.log = cli_value(a, "log"),
		.echo = cli_has(a, "echo"),
		.separate_admission = cli_has(a, "separate-admission"),
		.base_urls = base_urls,
	};
	while (o->n_base_urls < BASE_URLS_MAX && cli_value_at(a, "base-url", o->n_base_urls)) {
		base_urls[o->n_base_urls] = cli_value_at(a, "base-url", o->n_base_urls);
		o->n_base_urls++;
	}
	if (!o->secrets_key)
		o->secrets_key = getenv("HOLDPOINT_SECRETS_KEY");
	if (!o->place.data)
		o->place.data = getenv("HOLDPOINT_DATA");
	if (cli_process_log(a, "supervisor", err) != 0 ||
	    cli_whole(a, "workers", 1, HP_COUNTER_SLOTS_MAX, 1, &workers, err) != 0 ||
	    cli_whole(a, "slots", 1, 100000, 0, &slots, err) != 0 ||
	    cli_duration(a, "lease", &o->lease_us, err) != 0 || cli_duration(a, "drain", &o->drain_us, err) != 0 ||
	    cli_duration(a, "poll", &o->poll_us, err) != 0)
		return -1;
	o->workers = (int)workers;
	o->slots = (int)slots;
	return 0;
}

int hp_cmd_serve(int argc, char **argv)
{
	const char *base_urls[BASE_URLS_MAX];
	struct hp_serve_options o;
	struct hp_error err = { 0 };
	struct cli_args a;
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	if (read_options(&a, &o, base_urls, &err) != 0)
		return cli_error(&a, &err);
	code = hp_supervisor_run(&o, &err);
	if (err.code != HP_OK)
		cli_error(&a, &err);
	return code;
}
