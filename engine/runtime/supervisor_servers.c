/* supervisor_servers.c: workers and simulated providers: start, watch, restart.
 *
 * A server that dies is started again at once the first time, then after 0.2 s
 * doubling to 10 s. One that had lived for longer than that wait begins anew: only
 * what cannot live is held back. Connection strings go
 * to workers through the environment: command lines can be read by everybody.
 */
#include "runtime/supervisor_private.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "runtime/child.h"

#define WAIT_FIRST (200 * HP_MSEC)
#define WAIT_CAP (10 * HP_SECOND)
#define LIVED_WELL HP_SECOND

/* ---- command lines ---- */

static void arg(struct hp_kept *k, const char *fmt, ...) HP_PRINTF(2, 3);
static void arg(struct hp_kept *k, const char *fmt, ...)
{
	char text[2 * PATH_MAX];
	va_list ap;

	HP_ASSERT(k->argc + 1 < HP_SERVER_ARGS_MAX);
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	k->argv[k->argc] = hp_arena_strdup(k->s->arena, text);
	HP_ASSERT(k->argv[k->argc]);
	k->argc++;
}

static void option(struct hp_kept *k, const char *name, const char *value)
{
	if (!value)
		return;
	arg(k, "--%s", name);
	arg(k, "%s", value);
}

static void number(struct hp_kept *k, const char *name, int64_t value)
{
	arg(k, "--%s", name);
	arg(k, "%lld", (long long)value);
}

static void inherits(struct hp_kept *k, const char *name, int fd)
{
	HP_ASSERT(k->n_fds < (int)(sizeof k->fds / sizeof k->fds[0]));
	number(k, name, fd);
	k->fds[k->n_fds++] = fd;
}

static void duration(struct hp_kept *k, const char *name, int64_t us)
{
	if (us <= 0)
		return;
	arg(k, "--%s", name);
	arg(k, "%lldms", (long long)(us / HP_MSEC));
}

static void worker_args(struct hp_kept *k, int index)
{
	const struct hp_serve_options *o = k->s->o;

	arg(k, "holdpoint");
	arg(k, "worker");
	inherits(k, "listen-fd", k->s->listen_fd);
	inherits(k, "counters-fd", k->s->counters_fd);
	inherits(k, "parent-fd", k->s->life_pipe[0]);
	number(k, "slot", index);
	option(k, "plugins", k->s->place.plugins);
	option(k, "secrets", k->s->secrets_dir[0] ? k->s->secrets_dir : NULL);
	option(k, "secrets-key", k->s->secrets_key[0] ? k->s->secrets_key : NULL);
	option(k, "log", o->log);
	if (k->s->n_simulated > 0) {
		option(k, "secrets-env", k->s->secrets_env);
		arg(k, "--allow-private");
	}
	for (int i = 0; i < k->s->n_simulated; i++) {
		arg(k, "--base-url");
		arg(k, "%s=http://127.0.0.1:%d", k->s->simulated[i].name, k->s->simulated[i].port);
	}
	for (int i = 0; i < o->n_base_urls; i++)
		option(k, "base-url", o->base_urls[i]);
	if (o->pooled)
		arg(k, "--pooled");
	if (o->slots > 0)
		number(k, "slots", o->slots);
	duration(k, "lease", o->lease_us);
	duration(k, "drain", o->drain_us);
	duration(k, "poll", o->poll_us);
	if (o->echo)
		arg(k, "--echo");
	if (o->separate_admission)
		arg(k, "--separate-admission");
}

static void provider_args(struct hp_kept *k, const struct hp_simulated *x)
{
	arg(k, "holdpoint");
	arg(k, "fake");
	arg(k, "%s", x->name);
	inherits(k, "listen-fd", x->listen_fd);
	inherits(k, "parent-fd", k->s->life_pipe[0]);
	option(k, "state", x->state);
	option(k, "plugins", k->s->place.plugins);
	option(k, "secrets-env", k->s->secrets_env);
	arg(k, "--deliver");
	arg(k, "http://127.0.0.1:%d", k->s->port);
}

/* ---- life ---- */

int64_t hp_sup_wait(int *deaths, int64_t lived_us)
{
	int64_t wait = *deaths == 0 ? 0 : *deaths > 6 ? WAIT_CAP : WAIT_FIRST << (*deaths - 1);

	if (lived_us > LIVED_WELL && lived_us > wait)
		wait = *deaths = 0;
	++*deaths;
	return wait;
}

static void start(struct hp_kept *k);

static void start_later(struct hp_kept *k, int64_t wait_us)
{
	struct hp_supervisor *s = k->s;

	ev_timer_stop(s->loop, &k->again);
	ev_timer_set(&k->again, (double)wait_us / 1e6, 0.);
	ev_timer_start(s->loop, &k->again);
}

static void on_again(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	start(t->data);
}

static void on_exit_of(struct ev_loop *loop, struct ev_child *c, int events)
{
	struct hp_kept *k = c->data;
	struct hp_supervisor *s = k->s;
	int64_t wait;
	char how[64];

	(void)events;
	ev_child_stop(loop, c);
	k->pid = 0;
	hp_child_ending(c->rstatus, how, sizeof how);
	if (s->stopping) {
		hp_log(HP_INFO, "server ended", "server", HP_STR(k->name), "how", HP_STR(how), NULL);
		hp_sup_step_down(s);
		return;
	}
	wait = hp_sup_wait(&k->deaths, hp_boottime_us() - k->started_at);
	hp_log(HP_WARN, "server ended and is started again", "server", HP_STR(k->name), "how", HP_STR(how),
	       "after_ms", HP_I64(wait / HP_MSEC), NULL);
	start_later(k, wait);
}

static void write_pid(struct hp_kept *k)
{
	char file[80], text[24];
	struct hp_error err;

	snprintf(file, sizeof file, "run/%s.pid", k->name);
	snprintf(text, sizeof text, "%ld\n", (long)k->pid);
	if (hp_place_write(&k->s->place, file, text, 0644, &err) != 0)
		hp_log_error(HP_WARN, "a process id could not be written", &err);
}

static void start(struct hp_kept *k)
{
	struct hp_supervisor *s = k->s;
	struct hp_child_spec spec = {.argv = k->argv,
				     .n_fds = k->n_fds,
				     .dies_with_us = true,
				     /* a crash that a test ordered happens once */
				     .armed = k->starts == 0 && k->kind == HP_SERVER_WORKER &&
					      (k == &s->servers[0] || hp_crash_for_all())};
	struct hp_error err;

	if (s->stopping || k->pid > 0)
		return;
	memcpy(spec.fds, k->fds, sizeof k->fds);
	if (hp_child_start(&s->place, &spec, &k->pid, &err) != 0) {
		k->pid = 0;
		hp_log_error(HP_ERROR, "a server cannot be started", &err);
		start_later(k, hp_sup_wait(&k->deaths, 0));
		return;
	}
	k->starts++;
	k->started_at = hp_boottime_us();
	ev_child_set(&k->exit, k->pid, 0);
	ev_child_start(s->loop, &k->exit);
	write_pid(k);
	hp_log(HP_INFO, "server started", "server", HP_STR(k->name), "server_pid", HP_I64(k->pid), NULL);
}

static struct hp_kept *add(struct hp_supervisor *s, enum hp_server_kind kind)
{
	struct hp_kept *k = &s->servers[s->n_servers++];

	HP_ASSERT(s->n_servers <= HP_SERVERS_MAX);
	memset(k, 0, sizeof *k);
	k->s = s;
	k->kind = kind;
	ev_child_init(&k->exit, on_exit_of, 0, 0);
	ev_timer_init(&k->again, on_again, 0., 0.);
	k->exit.data = k->again.data = k;
	return k;
}

static int set_environment(const struct hp_supervisor *s, struct hp_error *err)
{
	if (setenv("HOLDPOINT_DATABASE", s->database, 1) != 0 ||
	    (s->sql_database[0] && setenv("HOLDPOINT_SQL_DATABASE", s->sql_database, 1) != 0))
		return hp_fail(err, HP_E_NOMEM, "cannot set the environment of workers: %s", strerror(errno));
	return 0;
}

/* The first worker is servers[0]. */
int hp_sup_add_servers(struct hp_supervisor *s, struct hp_error *err)
{
	int workers = s->o->workers > 0 ? s->o->workers : 1;

	if (set_environment(s, err) != 0)
		return -1;
	for (int i = 0; i < workers; i++) {
		struct hp_kept *k = add(s, HP_SERVER_WORKER);

		snprintf(k->name, sizeof k->name, "worker-%d", i + 1);
		worker_args(k, i);
	}
	for (int i = 0; i < s->n_simulated; i++) {
		struct hp_kept *k = add(s, HP_SERVER_PROVIDER);

		snprintf(k->name, sizeof k->name, "%s", s->simulated[i].name);
		provider_args(k, &s->simulated[i]);
	}
	return 0;
}

void hp_sup_start_kind(struct hp_supervisor *s, enum hp_server_kind kind)
{
	for (int i = 0; i < s->n_servers; i++)
		if (s->servers[i].kind == kind)
			start(&s->servers[i]);
}

void hp_sup_signal_kind(struct hp_supervisor *s, enum hp_server_kind kind, int signal)
{
	for (int i = 0; i < s->n_servers; i++) {
		struct hp_kept *k = &s->servers[i];

		if (k->kind != kind)
			continue;
		ev_timer_stop(s->loop, &k->again);
		if (k->pid > 0)
			kill(k->pid, signal);
	}
}

int hp_sup_running(const struct hp_supervisor *s, enum hp_server_kind kind)
{
	int n = 0;

	for (int i = 0; i < s->n_servers; i++)
		n += s->servers[i].kind == kind && s->servers[i].pid > 0;
	return n;
}

void hp_sup_servers_free(struct hp_supervisor *s)
{
	for (int i = 0; i < s->n_servers; i++) {
		ev_child_stop(s->loop, &s->servers[i].exit);
		ev_timer_stop(s->loop, &s->servers[i].again);
	}
}
