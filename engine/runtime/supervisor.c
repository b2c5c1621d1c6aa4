/* supervisor.c: boot, signals, the end.
 *
 * Boot is a straight line; while it waits it turns the loop, so that a signal
 * stops it at any point and what was started by then is stopped again.
 */
#include "runtime/supervisor_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "net/http_server.h"
#include "runtime/files.h"
#include "runtime/secret_table.h"

#define LISTEN_DEFAULT "127.0.0.1:8080"
#define SQL_ROLE "holdpoint_workflow"
#define ENGINE_ROLE "holdpoint_engine"
#define POSTGRES_PATIENCE (600 * HP_SECOND) /* recovery after a crash may take long */
#define POSTGRES_WAIT_MIN (200 * HP_MSEC)   /* what is left of a killed one needs a moment to end */
#define POSTGRES_WAIT_MAX (5 * HP_SECOND)
#define POSTGRES_FULL_LOOK (500 * HP_MSEC)  /* is there space again? */
#define DRAIN_SLACK 15.0                    /* seconds over the workers' own limit */
#define ARENA_MAX ((size_t)4 * 1024 * 1024)
#define ROLES_DEFAULT "payments"

/* ---- the end ---- */

/* Each ending calls this; the next step follows when nothing of this one is left. */
void hp_sup_step_down(struct hp_supervisor *s)
{
	if (!s->stopping || hp_sup_running(s, HP_SERVER_WORKER) > 0)
		return;
	if (hp_sup_running(s, HP_SERVER_PROVIDER) > 0) {
		if (!s->providers_told)
			hp_sup_signal_kind(s, HP_SERVER_PROVIDER, s->signals_seen > 1 ? SIGKILL : SIGTERM);
		s->providers_told = true; /* a second SIGTERM would cut their clean-up short */
		return;
	}
	ev_timer_stop(s->loop, &s->patience);
	if (s->postgres && !s->postgres_stopped) {
		s->postgres_stopped = true;
		hp_postgres_stop(s->postgres, s->signals_seen > 1);
		return;
	}
	ev_break(s->loop, EVBREAK_ALL);
}

static void on_postgres_stopped(void *arg)
{
	struct hp_supervisor *s = arg;

	hp_log(HP_INFO, "PostgreSQL stopped", NULL);
	ev_break(s->loop, EVBREAK_ALL);
}

static void stop(struct hp_supervisor *s)
{
	double drain = (double)(s->o->drain_us > 0 ? s->o->drain_us : 20 * HP_SECOND) / 1e6;

	if (s->stopping)
		return;
	s->stopping = true;
	s->postgres_wanted = false;
	ev_timer_stop(s->loop, &s->postgres_again);
	ev_timer_set(&s->patience, drain + DRAIN_SLACK, 0.);
	ev_timer_start(s->loop, &s->patience);
	hp_sup_signal_kind(s, HP_SERVER_WORKER, SIGTERM);
}

/* Its runs are taken over like those of a crashed one. */
static void on_patience(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_supervisor *s = t->data;

	(void)loop;
	(void)events;
	hp_log(HP_WARN, "servers did not end in time and are killed", NULL);
	hp_sup_signal_kind(s, HP_SERVER_WORKER, SIGKILL);
	hp_sup_signal_kind(s, HP_SERVER_PROVIDER, SIGKILL);
}

static void on_signal(struct ev_loop *loop, struct ev_signal *w, int events)
{
	struct hp_supervisor *s = w->data;

	(void)loop;
	(void)events;
	if (++s->signals_seen == 1) {
		hp_log(HP_INFO, "stopping; a second signal stops at once", NULL);
		stop(s);
		hp_sup_step_down(s);
		return;
	}
	hp_log(HP_WARN, "stopping at once", NULL);
	hp_sup_signal_kind(s, HP_SERVER_WORKER, SIGKILL);
	hp_sup_signal_kind(s, HP_SERVER_PROVIDER, SIGKILL);
	if (s->postgres && s->postgres_stopped)
		hp_postgres_stop(s->postgres, true);
	hp_sup_step_down(s);
}

/* ---- PostgreSQL ---- */

static void postgres_look(struct hp_supervisor *s, int64_t after_us)
{
	ev_timer_stop(s->loop, &s->postgres_again);
	ev_timer_set(&s->postgres_again, (double)after_us / 1e6, 0.);
	ev_timer_start(s->loop, &s->postgres_again);
}

static void postgres_later(struct hp_supervisor *s, int64_t lived_us)
{
	int64_t wait = hp_sup_wait(&s->postgres_deaths, lived_us);

	wait = wait < POSTGRES_WAIT_MIN ? POSTGRES_WAIT_MIN : wait > POSTGRES_WAIT_MAX ? POSTGRES_WAIT_MAX : wait;
	postgres_look(s, wait);
}

/* Workers reconnect by themselves. A killed postmaster's children may hold its
 * shared memory for a while: then the next one fails, and we come again. */
static void on_postgres_death(void *arg)
{
	struct hp_supervisor *s = arg;
	char where[PATH_MAX];

	s->postgres_full_until = 0;
	if (!hp_postgres_disk_full(s->postgres, where)) {
		hp_log(HP_ERROR, "PostgreSQL has died", "log", HP_STR(hp_postgres_log(s->postgres)), NULL);
		if (s->postgres_wanted)
			postgres_later(s, hp_boottime_us() - s->postgres_started_at);
		return;
	}
	hp_log(HP_ERROR, "PostgreSQL has died", "why", HP_STR("its disk is full; it is started again when there is space"),
	       "directory", HP_STR(where), "log", HP_STR(hp_postgres_log(s->postgres)), NULL);
	s->postgres_full_until = hp_boottime_us() + POSTGRES_WAIT_MAX;
	if (s->postgres_wanted)
		postgres_look(s, POSTGRES_FULL_LOOK);
}

static void on_postgres_again(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_supervisor *s = t->data;
	char where[PATH_MAX];
	struct hp_error err;

	(void)loop;
	(void)events;
	/* What the file system says may be wrong (quotas): it is tried now and then all the same. */
	if (hp_boottime_us() < s->postgres_full_until && hp_postgres_disk_full(s->postgres, where)) {
		postgres_look(s, POSTGRES_FULL_LOOK);
		return;
	}
	s->postgres_started_at = hp_boottime_us();
	if (hp_postgres_start(s->postgres, &err) != 0) {
		hp_log_error(HP_ERROR, "PostgreSQL cannot be started", &err);
		postgres_later(s, 0);
	}
}

static void no_op(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
}

static int wait_for_postgres(struct hp_supervisor *s, struct hp_error *err)
{
	int64_t deadline = hp_boottime_us() + POSTGRES_PATIENCE;
	struct ev_timer tick;
	int rc = -1;

	ev_timer_init(&tick, no_op, 0.05, 0.05);
	ev_timer_start(s->loop, &tick);
	for (;;) {
		if (s->stopping) {
			hp_fail(err, HP_E_UNAVAILABLE, "stopped while PostgreSQL was starting");
			break;
		}
		if (hp_postgres_ready(s->postgres) == HP_PG_READY) {
			rc = 0;
			break;
		}
		if (hp_boottime_us() > deadline) {
			hp_fail(err, HP_E_TIMEOUT, "PostgreSQL does not become ready; its log: %s",
				hp_postgres_log(s->postgres));
			break;
		}
		ev_run(s->loop, EVRUN_ONCE);
	}
	ev_timer_stop(s->loop, &tick);
	return rc;
}

static int start_postgres(struct hp_supervisor *s, struct hp_error *err)
{
	struct hp_postgres_options o = {.loop = s->loop,
					.place = &s->place,
					.bin = s->o->postgres_bin,
					.on_death = on_postgres_death,
					.on_stopped = on_postgres_stopped,
					.arg = s};

	s->postgres = hp_postgres_new(&o, err);
	if (!s->postgres)
		return -1;
	s->postgres_wanted = true;
	s->postgres_started_at = hp_boottime_us();
	if (hp_postgres_start(s->postgres, err) != 0 || wait_for_postgres(s, err) != 0 ||
	    hp_postgres_check(s->postgres, err) != 0)
		return -1;
	if (hp_postgres_conninfo(s->postgres, ENGINE_ROLE, s->database, sizeof s->database, err) != 0 ||
	    hp_postgres_conninfo(s->postgres, SQL_ROLE, s->sql_database, sizeof s->sql_database, err) != 0)
		return -1;
	return hp_postgres_conninfo(s->postgres, NULL, s->admin_database, sizeof s->admin_database, err);
}

static int copy_conninfo(char *out, size_t n, const char *text, struct hp_error *err)
{
	int len = snprintf(out, n, "%s", text ? text : "");

	return len < 0 || (size_t)len >= n ? hp_fail(err, HP_E_INVALID, "a connection string is too long") : 0;
}

static int find_database(struct hp_supervisor *s, struct hp_error *err)
{
	const struct hp_serve_options *o = s->o;

	if (!o->database)
		return start_postgres(s, err);
	if (copy_conninfo(s->database, sizeof s->database, o->database, err) != 0 ||
	    copy_conninfo(s->sql_database, sizeof s->sql_database, o->sql_database, err) != 0)
		return -1;
	return copy_conninfo(s->admin_database, sizeof s->admin_database,
			     o->admin_database ? o->admin_database : o->database, err);
}

/* ---- boot ---- */

static int open_doors(struct hp_supervisor *s, struct hp_error *err)
{
	const char *address = s->o->listen ? s->o->listen : LISTEN_DEFAULT;
	const char *colon = strrchr(address, ':');
	int host = colon ? (int)(colon - address) : 0;

	s->listen_fd = hp_http_listen(address, &s->port, err);
	if (s->listen_fd < 0)
		return -1;
	/* "All addresses" is nothing one can type into a browser. */
	if (host == 0 || strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0)
		snprintf(s->address, sizeof s->address, "http://127.0.0.1:%d", s->port);
	else
		snprintf(s->address, sizeof s->address, "http://%.*s:%d", host > 90 ? 90 : host, address, s->port);
	return 0;
}

static int tell_address(struct hp_supervisor *s, struct hp_error *err)
{
	char line[160];

	snprintf(line, sizeof line, "%s\n", s->address);
	if (hp_sup_lock_tell(s, err) != 0)
		return -1;
	return hp_place_write(&s->place, "address", line, 0644, err);
}

static int prepare_simulated(struct hp_supervisor *s, struct hp_error *err)
{
	if (!s->o->simulated)
		return 0;
	s->n_simulated = hp_simulated_prepare(&s->place, s->o->simulated, s->simulated, s->secrets_env, err);
	return s->n_simulated < 0 ? -1 : 0;
}

static int set_up_database(struct hp_supervisor *s, struct hp_error *err)
{
	struct hp_setup setup = {.loop = s->loop,
				 .stop = &s->stopping,
				 .place = &s->place,
				 .database = s->database,
				 .admin_database = s->admin_database,
				 .pooled = s->o->pooled,
				 /* never unasked in somebody else's database */
				 .wallet = !s->o->database || s->o->simulated,
				 .roles = s->o->roles ? s->o->roles : ROLES_DEFAULT};

	if (hp_setup_migrate(&setup, err) != 0 || hp_setup_deploy(&setup, err) != 0)
		return -1;
	return hp_setup_token(&setup, err);
}

static int open_shared(struct hp_supervisor *s, struct hp_error *err)
{
	char run[PATH_MAX];

	s->counters_fd = hp_counters_file(s->o->workers > 0 ? s->o->workers : 1, err);
	if (s->counters_fd < 0)
		return -1;
	if (pipe2(s->life_pipe, O_CLOEXEC) != 0)
		return hp_fail(err, HP_E_IO, "pipe2: %s", strerror(errno));
	return hp_place_directory(&s->place, "run", 0700, run, err);
}

/* Servers have a working directory of their own. */
static int find_secrets(struct hp_supervisor *s, struct hp_error *err)
{
	const char *dir = s->o->secrets_dir;

	if (dir && !realpath(dir, s->secrets_dir))
		return hp_fail(err, HP_E_INVALID, "--secrets %s: %s", dir, strerror(errno));
	return 0;
}

/* The servers read it, not we: it must be theirs. */
static int check_key_owner(const struct hp_supervisor *s, struct hp_error *err)
{
	struct stat st;

	if (!s->place.privileged || (stat(s->secrets_key, &st) == 0 && st.st_uid == s->place.uid))
		return 0;
	hp_fail(err, HP_E_FORBIDDEN, "the file of keys %s does not belong to %s, as whom the servers run", s->secrets_key,
		s->place.user);
	return hp_error_hint(err, "chown %s %s", s->place.user, s->secrets_key);
}

/* A private database has a key of its own beside it. */
static int find_secrets_key(struct hp_supervisor *s, struct hp_error *err)
{
	char line[2 * HP_SEAL_KEY_LEN + 2];
	struct hp_seal_keys keys;
	int rc;

	if (s->o->secrets_key && !realpath(s->o->secrets_key, s->secrets_key))
		return hp_fail(err, HP_E_INVALID, "--secrets-key %s: %s", s->o->secrets_key, strerror(errno));
	if (!s->o->secrets_key && s->o->database)
		return 0;
	if (!s->o->secrets_key && hp_place_path(&s->place, "secrets.key", s->secrets_key, err) != 0)
		return -1;
	if (!s->o->secrets_key && !hp_file_exists(s->secrets_key)) {
		hp_seal_key_line(line);
		rc = hp_place_write(&s->place, "secrets.key", line, 0600, err);
		explicit_bzero(line, sizeof line);
		if (rc != 0)
			return -1;
	}
	rc = hp_seal_keys_read(s->secrets_key, &keys, NULL, err);
	hp_seal_keys_forget(&keys);
	return rc == 0 ? check_key_owner(s, err) : -1;
}

static int boot(struct hp_supervisor *s, struct hp_error *err)
{
	if (hp_place_find(&s->place, &s->o->place, err) != 0 || hp_sup_lock(s, err) != 0 ||
	    hp_sup_lock_orphans(s, err) != 0 || find_secrets(s, err) != 0 || find_secrets_key(s, err) != 0 ||
	    open_doors(s, err) != 0 || open_shared(s, err) != 0 || hp_place_stage(&s->place, err) != 0)
		return -1;
	if (find_database(s, err) != 0 || set_up_database(s, err) != 0 || prepare_simulated(s, err) != 0 ||
	    hp_sup_add_servers(s, err) != 0 || tell_address(s, err) != 0)
		return -1;
	hp_sup_start_kind(s, HP_SERVER_PROVIDER);
	hp_sup_start_kind(s, HP_SERVER_WORKER);
	hp_log(HP_INFO, "running", "address", HP_STR(s->address), "data", HP_STR(s->place.data), "workers",
	       HP_I64(s->o->workers > 0 ? s->o->workers : 1), NULL);
	return 0;
}

static void watch_signals(struct hp_supervisor *s)
{
	static const int numbers[2] = {SIGINT, SIGTERM};

	for (int i = 0; i < 2; i++) {
		ev_signal_init(&s->signals[i], on_signal, numbers[i]);
		s->signals[i].data = s;
		ev_signal_start(s->loop, &s->signals[i]);
	}
	signal(SIGPIPE, SIG_IGN);
	ev_timer_init(&s->patience, on_patience, 0., 0.);
	ev_timer_init(&s->postgres_again, on_postgres_again, 0., 0.);
	s->patience.data = s->postgres_again.data = s;
}

static void close_all(struct hp_supervisor *s)
{
	int fds[] = {s->lock_fd, s->listen_fd, s->counters_fd, s->life_pipe[0], s->life_pipe[1]};

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (int i = 0; i < s->n_simulated; i++)
		close(s->simulated[i].listen_fd);
	hp_sup_servers_free(s);
	hp_postgres_free(s->postgres);
	hp_place_close(&s->place);
	hp_arena_free(s->arena);
	for (int i = 0; i < 2; i++)
		ev_signal_stop(s->loop, &s->signals[i]);
	ev_loop_destroy(s->loop);
	hp_free(s);
}

int hp_supervisor_run(const struct hp_serve_options *o, struct hp_error *err)
{
	struct hp_supervisor *s = hp_calloc(1, sizeof *s);
	int code;

	memset(err, 0, sizeof *err);
	HP_ASSERT(s);
	hp_process_close_memory();
	s->o = o;
	s->lock_fd = s->listen_fd = s->counters_fd = s->life_pipe[0] = s->life_pipe[1] = s->place.exe_fd = -1;
	s->arena = hp_arena_new(ARENA_MAX);
	s->loop = ev_default_loop(0);
	HP_ASSERT(s->arena && s->loop);
	watch_signals(s);
	if (boot(s, err) != 0) {
		s->exit_code = hp_code_exit(err->code);
		if (s->stopping) { /* it could, but it was told not to */
			err->code = HP_OK;
			s->exit_code = 0;
		}
		stop(s);
	}
	/* Nothing was started, or all has ended: then there is nothing to wait for. */
	if (s->stopping && hp_sup_running(s, HP_SERVER_WORKER) + hp_sup_running(s, HP_SERVER_PROVIDER) == 0 &&
	    (!s->postgres || hp_postgres_pid(s->postgres) == 0))
		goto out;
	if (s->stopping && !s->postgres_stopped)
		hp_sup_step_down(s);
	ev_run(s->loop, 0);
	hp_log(HP_INFO, "stopped", NULL);
out:
	code = s->exit_code;
	close_all(s);
	return code;
}
