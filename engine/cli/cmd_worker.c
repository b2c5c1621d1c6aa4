/* cmd_worker.c: holdpoint worker: one worker process. `holdpoint serve` starts them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/process.h"
#include "runtime/counters.h"
#include "runtime/place.h"
#include "runtime/server.h"

#define BASE_URLS_MAX 32
#define FD_MAX 1000000

static const struct cli_option options[] = {
	{ "database", "CONNINFO", "as role holdpoint_engine (else $HOLDPOINT_DATABASE)" },
	{ "sql-database", "CONNINFO", "as role holdpoint_workflow (else $HOLDPOINT_SQL_DATABASE)" },
	{ "pooled", NULL, "a pooler in transaction mode is in between" },
	{ "plugins", "DIR", "connectors" },
	{ "secrets", "DIR", "files NAME with the value of a secret" },
	{ "secrets-env", "FILE", "lines NAME=value (simulated providers)" },
	{ "secrets-key", "FILE", "keys of the table of secrets" },
	{ "base-url", "NAME=URL", "where a connector's requests go; may be repeated" },
	{ "allow-private", NULL, "requests may go to private addresses (simulated providers)" },
	{ "listen-fd", "N", "the doors: an open, listening socket" },
	{ "counters-fd", "N", "the supervisor's counters" },
	{ "parent-fd", "N", "a pipe that ends with the supervisor" },
	{ "slot", "N", "which of the supervisor's workers this is" },
	{ "slots", "N", "runs held at once" },
	{ "lease", "TIME", "lease of the engine" },
	{ "drain", "TIME", "limit of a drain" },
	{ "poll", "TIME", "how often to look when idle" },
	{ "log", "LEVEL", "debug, info, warn, error" },
	{ "echo", NULL, "tests: answer base URLs \"echo:\" in the loop" },
	{ "separate-admission", NULL, "tests: an admission is a commit of its own" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "worker", .args = "",
	.text = "Runs one worker. `holdpoint serve` starts as many as it is told.",
	.options = options, .no_json = true,
};

struct process {
	struct ev_loop *loop;
	struct hp_server *server;
	struct hp_api *api;
	int listen_fd;
	int exit_code;
};

static void on_end(void *arg, int exit_code)
{
	struct process *p = arg;

	p->exit_code = exit_code;
	ev_break(p->loop, EVBREAK_ALL);
}

static void drain(void *arg)
{
	struct process *p = arg;

	hp_server_drain(p->server);
}

static int read_base_urls(const struct cli_args *a, struct hp_base_url *urls, int *n, struct hp_error *err)
{
	static char names[BASE_URLS_MAX][64];
	const char *text;

	for (*n = 0; (text = cli_value_at(a, "base-url", *n)); (*n)++) {
		size_t len = strcspn(text, "=");

		if (*n == BASE_URLS_MAX || !text[len] || len == 0 || len >= sizeof names[0])
			return hp_fail(err, HP_E_INVALID, "--base-url takes NAME=URL, at most %d times, not \"%s\"",
				       BASE_URLS_MAX, text);
		snprintf(names[*n], sizeof names[0], "%.*s", (int)len, text);
		urls[*n] = (struct hp_base_url){names[*n], text + len + 1};
	}
	return 0;
}

static int read_numbers(const struct cli_args *a, struct hp_server_options *o, int64_t *parent,
			struct hp_error *err)
{
	int64_t listen, counters, slot, slots;

	if (cli_process_log(a, "worker", err) != 0 || cli_whole(a, "listen-fd", 0, FD_MAX, -1, &listen, err) != 0 ||
	    cli_whole(a, "counters-fd", 0, FD_MAX, -1, &counters, err) != 0 ||
	    cli_whole(a, "parent-fd", 0, FD_MAX, -1, parent, err) != 0 ||
	    cli_whole(a, "slot", 0, HP_COUNTER_SLOTS_MAX - 1, 0, &slot, err) != 0 ||
	    cli_whole(a, "slots", 1, 100000, 0, &slots, err) != 0 ||
	    cli_duration(a, "lease", &o->lease_us, err) != 0 || cli_duration(a, "drain", &o->drain_us, err) != 0 ||
	    cli_duration(a, "poll", &o->poll_us, err) != 0)
		return -1;
	o->listen_fd = (int)listen;
	o->counters_fd = (int)counters;
	o->slot = (int)slot;
	o->slots = (int)slots;
	return 0;
}

static const char *or_env(const struct cli_args *a, const char *option, const char *variable)
{
	const char *v = cli_value(a, option);

	v = v ? v : getenv(variable);
	return v && *v ? v : NULL;
}

static int run(const struct cli_args *a, struct process *p, struct hp_error *err)
{
	static char plugins[PATH_MAX];
	struct hp_base_url urls[BASE_URLS_MAX];
	struct cli_ending ending;
	int64_t parent;
	struct hp_server_options o = {.loop = p->loop,
				      .database = or_env(a, "database", "HOLDPOINT_DATABASE"),
				      .sql_database = or_env(a, "sql-database", "HOLDPOINT_SQL_DATABASE"),
				      .pooled = cli_has(a, "pooled"),
				      .plugins_dir = plugins,
				      .secrets_dir = cli_value(a, "secrets"),
				      .secrets_env = cli_value(a, "secrets-env"),
				      .secrets_key = cli_value(a, "secrets-key"),
				      .base_urls = urls,
				      .allow_private = cli_has(a, "allow-private"),
				      .echo = cli_has(a, "echo"),
				      .separate_admission = cli_has(a, "separate-admission"),
				      .on_end = on_end,
				      .arg = p};

	if (read_numbers(a, &o, &parent, err) != 0 || read_base_urls(a, urls, &o.n_base_urls, err) != 0 ||
	    hp_place_resource(cli_value(a, "plugins"), "plugins", plugins, err) != 0)
		return -1;
	if (!o.database) {
		hp_fail(err, HP_E_INVALID, "no database is named");
		return hp_error_hint(err, "Start the engine with `holdpoint serve`, or give --database CONNINFO.");
	}
	p->server = hp_server_new(&o, err);
	p->api = p->server ? hp_api_attach(p->server, err) : NULL;
	if (!p->api)
		return -1;
	cli_ending_watch(&ending, p->loop, parent, drain, p);
	hp_server_start(p->server);
	ev_run(p->loop, 0);
	cli_ending_stop(&ending);
	return 0;
}

int hp_cmd_worker(int argc, char **argv)
{
	struct process p = {.loop = ev_default_loop(0)};
	struct hp_error err = { 0 };
	struct cli_args a;
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	code = run(&a, &p, &err) == 0 ? p.exit_code : cli_error(&a, &err);
	hp_api_free(p.api);
	hp_server_free(p.server);
	ev_loop_destroy(p.loop);
	return code;
}
