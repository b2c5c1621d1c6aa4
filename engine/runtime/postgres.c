/* postgres.c: running the private PostgreSQL. How its cluster and its directories
 * come to be is in cluster.c. */
#include "runtime/postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/crash.h"
#include "base/log.h"
#include "base/words.h"
#include "runtime/child.h"
#include "runtime/cluster.h"
#include "runtime/files.h"

#define SEGMENT ((int64_t)16 * 1024 * 1024) /* of WAL, as initdb makes it */
#define WATCH_EVERY 0.2 /* seconds; an adopted postmaster is nobody's child */

struct hp_postgres {
	struct hp_postgres_options o;
	struct hp_cluster cluster;
	pid_t pid;
	bool adopted;
	bool stopping;
	struct ev_timer watch;
};

bool hp_postgres_adopted(const struct hp_postgres *p) { return p->adopted; }
pid_t hp_postgres_pid(const struct hp_postgres *p) { return p->pid; }
const char *hp_postgres_log(const struct hp_postgres *p) { return p->cluster.log; }

bool hp_postgres_disk_full(const struct hp_postgres *p, char where[PATH_MAX])
{
	int64_t room = hp_cluster_room(&p->cluster, where);

	return room >= 0 && room < SEGMENT;
}

static bool alive(pid_t pid)
{
	return kill(pid, 0) == 0 || errno == EPERM;
}

/* A child is reaped by libev on SIGCHLD, an adopted one by init: in both cases the
 * id is free afterwards. */
static void on_watch(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_postgres *p = t->data;

	(void)events;
	if (alive(p->pid))
		return;
	ev_timer_stop(loop, t);
	p->pid = 0;
	if (p->stopping)
		p->o.on_stopped(p->o.arg);
	else
		p->o.on_death(p->o.arg);
}

struct hp_postgres *hp_postgres_new(const struct hp_postgres_options *o, struct hp_error *err)
{
	struct hp_postgres *p = hp_calloc(1, sizeof *p);

	if (!p) {
		hp_fail(err, HP_E_NOMEM, "PostgreSQL: no memory");
		return NULL;
	}
	p->o = *o;
	ev_timer_init(&p->watch, on_watch, WATCH_EVERY, WATCH_EVERY);
	p->watch.data = p;
	if (hp_cluster_prepare(&p->cluster, o->place, o->bin, err) == 0)
		return p;
	hp_free(p);
	return NULL;
}

void hp_postgres_free(struct hp_postgres *p)
{
	if (!p)
		return;
	ev_timer_stop(p->o.loop, &p->watch);
	hp_free(p);
}

int hp_postgres_conninfo(const struct hp_postgres *p, const char *role, char *out, size_t n,
			 struct hp_error *err)
{
	int len = snprintf(out, n, "host='%s' port=%d dbname=%s user=%s connect_timeout=10", p->cluster.socket,
			   HP_CLUSTER_PORT, HP_DATABASE_NAME, role ? role : HP_CLUSTER_SUPERUSER);

	return len < 0 || (size_t)len >= n ? hp_fail(err, HP_E_INVALID, "a connection string is too long") : 0;
}

/* ---- starting ---- */

/* Memory for shared buffers: an eighth, between 32 and 512 MB; the rest is the
 * system's page cache, and ours. */
static long shared_buffers_mb(void)
{
	long mb = sysconf(_SC_PHYS_PAGES) / 8 / 256 * (sysconf(_SC_PAGESIZE) / 4096);

	return mb < 32 ? 32 : mb > 512 ? 512 : mb;
}

static int spawn(struct hp_postgres *p, struct hp_error *err)
{
	char binary[PATH_MAX + 16], sockets[PATH_MAX + 32], buffers[48], port[32], logs[PATH_MAX + 32];
	const char *const argv[] = {
		"postgres", "-D", p->cluster.dir,
		"-c", "listen_addresses=", "-c", sockets, "-c", port, "-c", "unix_socket_permissions=0700",
		"-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "full_page_writes=on",
		"-c", buffers, "-c", "max_connections=200", "-c", "jit=off",
		"-c", "max_wal_size=2GB", "-c", "wal_compression=on", "-c", "timezone=UTC",
		"-c", "logging_collector=on", "-c", logs, "-c", "log_filename=postgresql-%a.log",
		"-c", "log_truncate_on_rotation=on", "-c", "log_rotation_age=1d", "-c", "log_rotation_size=0",
		/* parameters of statements hold people's data: they are never logged */
		"-c", "log_parameter_max_length=0", "-c", "log_parameter_max_length_on_error=0",
		NULL};
	struct hp_child_spec spec = {.argv = argv, .path = binary, .output = p->cluster.log};

	snprintf(binary, sizeof binary, "%s/postgres", p->cluster.bin);
	snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", p->cluster.socket);
	snprintf(port, sizeof port, "port=%d", HP_CLUSTER_PORT);
	snprintf(buffers, sizeof buffers, "shared_buffers=%ldMB", shared_buffers_mb());
	snprintf(logs, sizeof logs, "log_directory=%s", p->cluster.logs);
	return hp_child_start(p->o.place, &spec, &p->pid, err);
}

int hp_postgres_start(struct hp_postgres *p, struct hp_error *err)
{
	p->pid = hp_cluster_running(&p->cluster, err);
	if (p->pid < 0) {
		p->pid = 0;
		return -1;
	}
	p->adopted = p->pid > 0;
	if (!p->adopted) {
		HP_CRASH_POINT(POSTGRES_BEFORE);
		if (spawn(p, err) != 0)
			return -1;
		HP_CRASH_POINT(POSTGRES_STARTED);
	}
	hp_log(HP_INFO, p->adopted ? "PostgreSQL was running already: adopted" : "PostgreSQL started",
	       "postgres", HP_I64(p->pid), "directory", HP_STR(p->cluster.dir), NULL);
	ev_timer_again(p->o.loop, &p->watch);
	return 0;
}

enum hp_postgres_ready hp_postgres_ready(struct hp_postgres *p)
{
	char conninfo[PATH_MAX + 128];

	if (p->pid == 0)
		return HP_PG_GONE;
	if (hp_postgres_conninfo(p, NULL, conninfo, sizeof conninfo, NULL) != 0)
		return HP_PG_GONE;
	return PQping(conninfo) == PQPING_OK ? HP_PG_READY : HP_PG_STARTING;
}

/* ---- is it ours, and is our database there ---- */

static int ask(PGconn *c, const char *sql, char *out, size_t n, struct hp_error *err)
{
	PGresult *r = PQexec(c, sql);
	int rc = -1;

	if (PQresultStatus(r) != PGRES_TUPLES_OK && PQresultStatus(r) != PGRES_COMMAND_OK) {
		hp_fail(err, HP_E_UNAVAILABLE, "PostgreSQL: %s", PQerrorMessage(c));
		goto out;
	}
	snprintf(out, n, "%s", PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
	rc = 0;
out:
	PQclear(r);
	return rc;
}

static int check_ours(PGconn *c, const struct hp_postgres *p, struct hp_error *err)
{
	char dir[PATH_MAX];

	if (ask(c, "show data_directory", dir, sizeof dir, err) != 0)
		return -1;
	if (strcmp(dir, p->cluster.dir) != 0)
		return hp_fail(err, HP_E_CONFLICT, "the PostgreSQL at %s serves %s instead of %s", p->cluster.socket,
			       dir, p->cluster.dir);
	return 0;
}

int hp_postgres_check(struct hp_postgres *p, struct hp_error *err)
{
	char conninfo[PATH_MAX + 128], answer[32];
	PGconn *c;
	int rc = -1;

	snprintf(conninfo, sizeof conninfo, "host='%s' port=%d dbname=postgres user=%s connect_timeout=10",
		 p->cluster.socket, HP_CLUSTER_PORT, HP_CLUSTER_SUPERUSER);
	c = PQconnectdb(conninfo);
	if (PQstatus(c) != CONNECTION_OK) {
		hp_fail(err, HP_E_UNAVAILABLE, "PostgreSQL: %s", PQerrorMessage(c));
		goto out;
	}
	if (check_ours(c, p, err) != 0 ||
	    ask(c, "select 1 from pg_database where datname = '" HP_DATABASE_NAME "'", answer, sizeof answer,
		err) != 0)
		goto out;
	if (!*answer && ask(c, "create database " HP_DATABASE_NAME, answer, sizeof answer, err) != 0)
		goto out;
	rc = 0;
out:
	PQfinish(c);
	return rc;
}

/* ---- stopping ---- */

void hp_postgres_stop(struct hp_postgres *p, bool immediate)
{
	p->stopping = true;
	if (p->pid > 0)
		kill(p->pid, immediate ? SIGQUIT : SIGINT);
	else
		ev_timer_stop(p->o.loop, &p->watch);
	if (p->pid == 0)
		p->o.on_stopped(p->o.arg);
}
