/* scratch.c: a PostgreSQL to be thrown away. */
#include "runtime/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "runtime/child.h"
#include "runtime/cluster.h"
#include "runtime/files.h"

#define PATIENCE (60 * HP_SECOND)
#define END_PATIENCE (10 * HP_SECOND)
#define LOOK_EVERY_MS 30

struct hp_scratch {
	char dir[PATH_MAX];
	struct hp_place place;
	struct hp_cluster cluster;
	pid_t pid;
	char conninfo[PATH_MAX + 128];
};

static int make_place(struct hp_scratch *s, struct hp_error *err)
{
	const char *tmp = getenv("TMPDIR");
	/* nothing but `data` is looked at, but all must be somewhere */
	const struct hp_place_options o = {s->dir, s->dir, s->dir, s->dir, NULL};

	s->place.exe_fd = -1;
	if (snprintf(s->dir, sizeof s->dir, "%s/holdpoint-real.XXXXXX", tmp && *tmp ? tmp : "/tmp") >= (int)sizeof s->dir ||
	    !mkdtemp(s->dir)) {
		s->dir[0] = 0;
		return hp_fail(err, HP_E_IO, "a temporary directory cannot be made: %s", strerror(errno));
	}
	return hp_place_find(&s->place, &o, err);
}

static int spawn(struct hp_scratch *s, struct hp_error *err)
{
	char binary[PATH_MAX + 16], sockets[PATH_MAX + 32];
	const char *const argv[] = {"postgres", "-D", s->cluster.dir, "-c", "listen_addresses=", "-c", sockets,
				    "-c", "unix_socket_permissions=0700", "-c", "fsync=off", "-c", "full_page_writes=off",
				    "-c", "synchronous_commit=off", "-c", "shared_buffers=32MB", "-c", "jit=off",
				    "-c", "autovacuum=off", "-c", "timezone=UTC", NULL};
	const struct hp_child_spec spec = {.argv = argv, .path = binary, .output = s->cluster.log, .dies_with_us = true};

	(void)snprintf(binary, sizeof binary, "%s/postgres", s->cluster.bin);
	(void)snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", s->cluster.socket);
	(void)snprintf(s->conninfo, sizeof s->conninfo, "host='%s' port=%d dbname=postgres user=%s connect_timeout=10",
		       s->cluster.socket, HP_CLUSTER_PORT, HP_CLUSTER_SUPERUSER);
	return hp_child_start(&s->place, &spec, &s->pid, err);
}

static int wait_for(struct hp_scratch *s, const volatile bool *stop, struct hp_error *err)
{
	int64_t until = hp_boottime_us() + PATIENCE;
	struct hp_buf log;
	int status;

	while (PQping(s->conninfo) != PQPING_OK) {
		if (*stop)
			return hp_fail(err, HP_E_UNAVAILABLE, "stopped while the private PostgreSQL was starting");
		if (waitpid(s->pid, &status, WNOHANG) == s->pid) {
			s->pid = 0;
			hp_buf_init(&log, 65536);
			if (hp_file_read(AT_FDCWD, s->cluster.log, &log, NULL, NULL) != 0)
				hp_buf_clear(&log);
			hp_fail(err, HP_E_UNAVAILABLE, "the private PostgreSQL did not start: %.400s", hp_buf_str(&log));
			hp_buf_free(&log);
			return -1;
		}
		if (hp_boottime_us() > until)
			return hp_fail(err, HP_E_TIMEOUT, "the private PostgreSQL did not start in time");
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	}
	return 0;
}

struct hp_scratch *hp_scratch_start(const volatile bool *stop, struct hp_error *err)
{
	struct hp_scratch *s = hp_calloc(1, sizeof *s);

	if (!s) {
		hp_fail(err, HP_E_NOMEM, "PostgreSQL: no memory");
		return NULL;
	}
	if (make_place(s, err) == 0 && hp_cluster_prepare(&s->cluster, &s->place, NULL, err) == 0 && spawn(s, err) == 0 &&
	    wait_for(s, stop, err) == 0)
		return s;
	hp_scratch_end(s);
	return NULL;
}

const char *hp_scratch_conninfo(const struct hp_scratch *s) { return s->conninfo; }

/* At once: nobody will read what it has. Said again, because a process that has only just
 * been forked may still ignore it, as we may. */
static void end_server(pid_t pid)
{
	int64_t until = hp_boottime_us() + END_PATIENCE;

	do {
		kill(pid, hp_boottime_us() < until ? SIGQUIT : SIGKILL);
		(void)poll(NULL, 0, LOOK_EVERY_MS);
	} while (waitpid(pid, NULL, WNOHANG) == 0);
}

/* A directory that stays is no reason to fail, but is told. */
static void remove_directory(const char *dir)
{
	struct hp_error err;

	if (hp_directory_remove(dir, &err) != 0)
		hp_log_error(HP_WARN, "a temporary directory stays", &err);
}

void hp_scratch_end(struct hp_scratch *s)
{
	if (!s)
		return;
	if (s->pid > 0)
		end_server(s->pid);
	if (s->cluster.socket[0] && strncmp(s->cluster.socket, s->place.data, strlen(s->place.data)) != 0)
		remove_directory(s->cluster.socket);
	if (s->dir[0])
		remove_directory(s->dir);
	hp_place_close(&s->place);
	hp_free(s);
}
