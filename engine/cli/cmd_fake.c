/* cmd_fake.c: holdpoint fake NAME: a simulated provider. */
#include <stdio.h>

#include "base/log.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/process.h"
#include "net/http_server.h"
#include "runtime/place.h"
#include "runtime/provider.h"

static const struct cli_option options[] = {
	{ "listen", "ADDRESS", "where it answers (127.0.0.1:0, a free port; it says which)" },
	{ "listen-fd", "N", "instead: an open, listening socket" },
	{ "state", "FILE", "what it knows, kept over restarts (else nothing is kept)" },
	{ "deliver", "URL", "the engine its webhooks go to, as http://HOST:PORT (else they are not sent)" },
	{ "secrets", "DIR", "files NAME with the value of a secret (else the environment)" },
	{ "secrets-env", "FILE", "lines NAME=value" },
	{ "plugins", "DIR", "where the provider's fake.lua is, in a folder of its name" },
	{ "parent-fd", "N", "a pipe that ends with the supervisor" },
	{ "log", "LEVEL", "debug, info, warn, error" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "fake", .args = "NAME",
	.text = "Runs a simulated provider: real HTTP, idempotency keys and signed webhooks like the\n"
		"provider's, faults on demand (POST /_fake/faults). Nothing leaves this machine.",
	.examples = "  holdpoint fake stripe --listen 127.0.0.1:4242 --state stripe.json",
	.options = options, .min_args = 1, .max_args = 1, .no_json = true,
};

static void end(void *arg)
{
	ev_break(arg, EVBREAK_ALL);
}

static int open_socket(const struct cli_args *a, struct hp_provider_options *o, struct hp_error *err)
{
	const char *address = cli_value(a, "listen");
	int64_t fd;
	int port;

	if (cli_whole(a, "listen-fd", 0, 1000000, -1, &fd, err) != 0)
		return -1;
	o->listen_fd = (int)fd;
	if (fd >= 0)
		return 0;
	o->listen_fd = hp_http_listen(address ? address : "127.0.0.1:0", &port, err);
	if (o->listen_fd < 0)
		return -1;
	printf("%s answers on port %d\n", o->name, port);
	return fflush(stdout) == 0 ? 0 : hp_fail(err, HP_E_IO, "cannot write to standard output");
}

static int run(const struct cli_args *a, struct ev_loop *loop, struct hp_error *err)
{
	static char plugins[PATH_MAX];
	struct hp_provider_options o = {.loop = loop,
					.name = a->arg[0],
					.plugins_dir = plugins,
					.state = cli_value(a, "state"),
					.deliver = cli_value(a, "deliver"),
					.secrets_dir = cli_value(a, "secrets"),
					.secrets_env = cli_value(a, "secrets-env")};
	struct cli_ending ending;
	struct hp_provider *p;
	int64_t parent;

	if (cli_process_log(a, o.name, err) != 0 ||
	    cli_whole(a, "parent-fd", 0, 1000000, -1, &parent, err) != 0 ||
	    hp_place_resource(cli_value(a, "plugins"), "plugins", plugins, err) != 0 || open_socket(a, &o, err) != 0)
		return -1;
	p = hp_provider_new(&o, err);
	if (!p)
		return -1;
	cli_ending_watch(&ending, loop, parent, end, loop);
	ev_run(loop, 0);
	cli_ending_stop(&ending);
	hp_provider_free(p);
	return 0;
}

int hp_cmd_fake(int argc, char **argv)
{
	struct ev_loop *loop = ev_default_loop(0);
	struct hp_error err = { 0 };
	struct cli_args a;
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	code = run(&a, loop, &err) == 0 ? 0 : cli_error(&a, &err);
	ev_loop_destroy(loop);
	return code;
}
