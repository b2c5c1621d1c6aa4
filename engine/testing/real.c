/* real.c: databases of tests, and PostgreSQL's store on them made to look synchronous. */
#include "testing/real.h"

#include <dirent.h>
#include <errno.h>
#include <ev.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"

#define CONNINFO_MAX 2048
#define SEED_MAX ((size_t)4 * 1024 * 1024)
#define SCOPES_MAX 50
#define UP_PATIENCE (30 * HP_SECOND)

struct hp_real {
	char server[CONNINFO_MAX];   /* as given */
	char template[64], database[64];
	PGconn *maintenance;         /* creates and drops */
	bool has_template, has_database;
	/* of the test that runs */
	PGconn *admin;
	struct ev_loop *loop;
	struct hp_store *store;
};

/* ---- libpq ---- */

static int pg_fail(PGconn *c, const PGresult *q, const char *what, struct hp_error *err)
{
	const char *text = q ? PQresultErrorMessage(q) : PQerrorMessage(c);
	int n = (int)strcspn(text, "\n");

	return hp_fail(err, HP_E_UNAVAILABLE, "%s: %.*s", what, n, text);
}

static int execute(PGconn *c, const char *sql, const char *what, struct hp_error *err)
{
	PGresult *q = PQexec(c, sql);
	ExecStatusType status = PQresultStatus(q);
	int rc = 0;

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		rc = pg_fail(c, q, what, err);
	PQclear(q);
	return rc;
}

/* Warnings of an author's seed are no part of the result. */
static void no_notice(void *arg, const char *message)
{
	(void)arg;
	(void)message;
}

static PGconn *connect_to(const char *info, struct hp_error *err)
{
	PGconn *c = PQconnectdb(info);

	if (PQstatus(c) == CONNECTION_OK) {
		PQsetNoticeProcessor(c, no_notice, NULL);
		return c;
	}
	pg_fail(c, NULL, "the database of --real cannot be reached", err);
	hp_error_hint(err, "--database is the conninfo of a superuser of a PostgreSQL that may be thrown away, whose roles "
			   "may connect without a password; without it a private one is started");
	PQfinish(c);
	return NULL;
}

/* One value in quotes, as a conninfo wants it. */
static void add_value(struct hp_buf *b, const char *name, const char *value)
{
	hp_buf_printf(b, "%s='", name);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			hp_buf_addc(b, '\\');
		hp_buf_addc(b, *value);
	}
	hp_buf_adds(b, "' ");
}

/* The given conninfo with another database and (not NULL) another user. */
static int conninfo(const struct hp_real *r, const char *dbname, const char *user, char out[CONNINFO_MAX],
		    struct hp_error *err)
{
	PQconninfoOption *o = PQconninfoParse(r->server, NULL);
	struct hp_buf b;
	int rc;

	if (!o)
		return hp_fail(err, HP_E_INVALID, "--database: \"%s\" cannot be read as a conninfo", r->server);
	hp_buf_init(&b, CONNINFO_MAX - 1);
	add_value(&b, "dbname", dbname);
	for (PQconninfoOption *x = o; x->keyword; x++)
		if (x->val && strcmp(x->keyword, "dbname") != 0 && !(user && strcmp(x->keyword, "user") == 0))
			add_value(&b, x->keyword, x->val);
	if (user)
		add_value(&b, "user", user);
	rc = hp_buf_check(&b, "--database", err);
	if (rc == 0)
		(void)snprintf(out, CONNINFO_MAX, "%s", hp_buf_str(&b));
	PQconninfoFree(o);
	hp_buf_free(&b);
	return rc;
}

/* ---- the template ---- */

static int replace_clock(const char *info, struct hp_error *err)
{
	static const char sql[] =
		"create table holdpoint.test_clock (us bigint not null);"
		"insert into holdpoint.test_clock values (0);"
		"alter table holdpoint.test_clock owner to holdpoint_owner;"
		"create or replace function holdpoint.now_us() returns bigint language sql stable"
		" security definer set search_path = holdpoint, pg_temp as 'select us from test_clock'";
	PGconn *c = connect_to(info, err);
	int rc = c ? execute(c, sql, "the clock of tests", err) : -1;

	PQfinish(c);
	return rc;
}

static int is_scope(const struct dirent *e)
{
	return e->d_name[0] != '.' && strcmp(e->d_name, "holdpoint") != 0;
}

static int migrate_all(const char *info, const char *engine, const char *scopes, struct hp_error *err)
{
	struct dirent **list = NULL;
	char dir[4096];
	int n, rc;

	(void)snprintf(dir, sizeof dir, "%s/holdpoint", engine);
	rc = hp_migrate(info, dir, "holdpoint", false, NULL, NULL, err);
	n = rc == 0 ? scandir(scopes, &list, is_scope, alphasort) : 0;
	if (n < 0)
		rc = hp_fail(err, HP_E_IO, "%s: %s", scopes, strerror(errno));
	for (int i = 0; i < n; i++) {
		(void)snprintf(dir, sizeof dir, "%.3800s/%s", scopes, list[i]->d_name);
		if (rc == 0 && (list[i]->d_type == DT_DIR || list[i]->d_type == DT_UNKNOWN) &&
		    hp_migrate(info, dir, list[i]->d_name, false, NULL, NULL, err) < 0)
			rc = hp_error_prefix(err, "%s", dir);
		hp_free(list[i]);
	}
	hp_free(list);
	return rc;
}

static int make_template(struct hp_real *r, const char *engine, const char *scopes, struct hp_error *err)
{
	char sql[160], info[CONNINFO_MAX];

	(void)snprintf(sql, sizeof sql, "create database %s", r->template);
	if (execute(r->maintenance, sql, "a database for tests cannot be made", err) < 0)
		return -1;
	r->has_template = true;
	if (conninfo(r, r->template, NULL, info, err) < 0 || migrate_all(info, engine, scopes, err) < 0)
		return -1;
	return replace_clock(info, err);
}

struct hp_real *hp_real_new(const char *database, const char *engine, const char *scopes, struct hp_error *err)
{
	struct hp_real *r = hp_calloc(1, sizeof *r);

	if (!r || strlen(database) >= sizeof r->server) {
		hp_fail(err, r ? HP_E_INVALID : HP_E_NOMEM, r ? "--database is too long" : "no memory for tests");
		hp_free(r);
		return NULL;
	}
	(void)snprintf(r->server, sizeof r->server, "%s", database);
	(void)snprintf(r->template, sizeof r->template, "holdpoint_test_%ld", (long)getpid());
	(void)snprintf(r->database, sizeof r->database, "holdpoint_test_%ld_one", (long)getpid());
	r->maintenance = connect_to(database, err);
	if (r->maintenance && make_template(r, engine, scopes, err) == 0)
		return r;
	hp_real_free(r);
	return NULL;
}

static void drop(struct hp_real *r, bool *has, const char *name)
{
	char sql[160];

	(void)snprintf(sql, sizeof sql, "drop database if exists %s with (force)", name);
	if (*has)
		(void)execute(r->maintenance, sql, "a database of tests", NULL);
	*has = false;
}

void hp_real_free(struct hp_real *r)
{
	if (!r)
		return;
	hp_real_close(r);
	if (r->maintenance)
		drop(r, &r->has_template, r->template);
	PQfinish(r->maintenance);
	hp_free(r);
}

/* ---- one test ---- */

static void on_tick(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
}

static void turn(void *arg)
{
	const struct hp_real *r = arg;

	ev_run(r->loop, EVRUN_ONCE);
}

static void set_clock(void *arg, int64_t now)
{
	struct hp_real *r = arg;
	char sql[96];

	(void)snprintf(sql, sizeof sql, "update holdpoint.test_clock set us = %lld", (long long)now);
	(void)execute(r->admin, sql, "the clock of tests", NULL);
}

/* A foreign key between the two is checked at the end of the statement. */
static void principal(void *arg, const char *name, const char *kind, const char *roles)
{
	struct hp_real *r = arg;
	const char *values[3] = {name, kind, roles};

	PQclear(PQexecParams(r->admin,
			     "with p as (insert into holdpoint.principal as o (name, kind, created_at) values ($1, $2, 0)"
			     " on conflict (name) do update set kind = excluded.kind returning o.name),"
			     " gone as (delete from holdpoint.role_member where principal = $1"
			     " and role <> all (string_to_array($3, ' ')))"
			     " insert into holdpoint.role_member (principal, role)"
			     " select p.name, x from p, unnest(string_to_array($3, ' ')) x where x <> '' on conflict do nothing",
			     3, NULL, values, NULL, NULL, 0));
}

static int run_seed(struct hp_real *r, const char *seed, struct hp_error *err)
{
	struct hp_buf text;
	int rc;

	hp_buf_init(&text, SEED_MAX);
	rc = hp_read_file(seed, SEED_MAX, &text, err);
	if (rc == 0)
		rc = execute(r->admin, hp_buf_str(&text), seed, err);
	else if (err->code == HP_E_NOT_FOUND) /* not every test has one */
		rc = 0;
	hp_buf_free(&text);
	return rc;
}

/* A role that may not connect would be tried for ever by the store: asked once here. */
static int may_connect(const char *info, struct hp_error *err)
{
	PGconn *c = connect_to(info, err);

	PQfinish(c);
	return c ? 0 : -1;
}

static int open_store(struct hp_real *r, struct hp_error *err)
{
	char engine[CONNINFO_MAX], workflow[CONNINFO_MAX];
	struct hp_store_pg_options o = {.conninfo = engine, .sql_conninfo = workflow, .commit_connections = 1,
					.application = "holdpoint test"};
	int64_t until = hp_boottime_us() + UP_PATIENCE;
	struct ev_timer tick;

	if (conninfo(r, r->database, "holdpoint_engine", engine, err) < 0 ||
	    conninfo(r, r->database, "holdpoint_workflow", workflow, err) < 0 || may_connect(engine, err) < 0 ||
	    may_connect(workflow, err) < 0)
		return -1;
	r->loop = ev_loop_new(EVFLAG_AUTO);
	r->store = r->loop ? hp_store_pg_new(r->loop, &o, err) : NULL;
	if (!r->store)
		return r->loop ? -1 : hp_fail(err, HP_E_NOMEM, "no memory for an event loop");
	ev_timer_init(&tick, on_tick, 0.05, 0.05);
	ev_timer_start(r->loop, &tick);
	while (!r->store->ops->up(r->store) && hp_boottime_us() < until)
		turn(r);
	ev_timer_stop(r->loop, &tick);
	return r->store->ops->up(r->store) ? 0 : hp_fail(err, HP_E_TIMEOUT, "the database of a test does not answer");
}

int hp_real_open(struct hp_real *r, const char *seed, struct hp_drive_store *store, struct hp_error *err)
{
	char sql[160], info[CONNINFO_MAX];

	(void)snprintf(sql, sizeof sql, "create database %s template %s", r->database, r->template);
	if (execute(r->maintenance, sql, "a database for a test cannot be made", err) < 0)
		return -1;
	r->has_database = true;
	if (conninfo(r, r->database, NULL, info, err) < 0)
		return -1;
	r->admin = connect_to(info, err);
	if (!r->admin || run_seed(r, seed, err) < 0 || open_store(r, err) < 0)
		return -1;
	*store = (struct hp_drive_store){r->store, turn, set_clock, principal, r};
	return 0;
}

void hp_real_close(struct hp_real *r)
{
	if (r->store)
		r->store->ops->free(r->store);
	if (r->loop) {
		ev_run(r->loop, 0); /* until nothing is left to end */
		ev_loop_destroy(r->loop);
	}
	PQfinish(r->admin);
	r->store = NULL;
	r->loop = NULL;
	r->admin = NULL;
	if (r->maintenance)
		drop(r, &r->has_database, r->database);
}

int hp_real_exec(struct hp_real *r, const char *sql, struct hp_error *err)
{
	return execute(r->admin, sql, "PostgreSQL", err);
}
