/* The contract of stores, held by the one on PostgreSQL.
 *
 * HP_TEST_PG is the conninfo of a throw-away cluster, as a superuser. Every case
 * gets a database of its own, copied from a template that is migrated once, where
 * holdpoint.now_us() reads a table: the suite owns time.
 */
#include "lib/contract.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char template_db[64], info[3][512]; /* of the case: superuser, engine, workflow */
static char db[128];
static struct ev_loop *loop;
static struct hp_store *stores[2];
static PGconn *super;
static int cases;

static const char *cluster(void)
{
	const char *base = getenv("HP_TEST_PG");

	if (!base) {
		fputs("HP_TEST_PG is not set: conninfo of a throw-away cluster\n", stderr);
		exit(EXIT_FAILURE);
	}
	return base;
}

static PGconn *connect_to(const char *conninfo)
{
	PGconn *c = PQconnectdb(conninfo);

	if (PQstatus(c) != CONNECTION_OK) {
		fputs(PQerrorMessage(c), stderr);
		exit(EXIT_FAILURE);
	}
	PQclear(PQexec(c, "set client_min_messages = error"));
	return c;
}

static void run(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);

	if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK) {
		fprintf(stderr, "%s: %s", sql, PQresultErrorMessage(r));
		exit(EXIT_FAILURE);
	}
	PQclear(r);
}

static void run_at(const char *conninfo, const char *sql)
{
	PGconn *c = connect_to(conninfo);

	run(c, sql);
	PQfinish(c);
}

static void make_template(void)
{
	struct hp_error err = { 0 };
	char sql[256], conninfo[512];

	snprintf(template_db, sizeof template_db, "hp_contract_%d", (int)getpid());
	snprintf(sql, sizeof sql, "create database %s", template_db);
	run_at(cluster(), sql);
	snprintf(conninfo, sizeof conninfo, "%s dbname=%s", cluster(), template_db);
	if (hp_migrate(conninfo, "migrations/holdpoint", "holdpoint", false, NULL, NULL, &err) < 0) {
		fprintf(stderr, "migrating: %s\n", err.message);
		exit(EXIT_FAILURE);
	}
	run_at(conninfo, "create table public.contract_now (now bigint not null);"
		"insert into public.contract_now values (0);"
		"grant select on public.contract_now to public;"
		"create or replace function holdpoint.now_us() returns bigint language sql stable as"
		" 'select now from public.contract_now';"
		"create table public.contract_scratch (n int);"
		"grant select, insert on public.contract_scratch to holdpoint_workflow");
}

static void drop_template(void)
{
	char sql[128];

	snprintf(sql, sizeof sql, "drop database %s with (force)", template_db);
	run_at(cluster(), sql);
}

static void open_store(void)
{
	struct hp_error err = { 0 };
	char sql[256];

	snprintf(db, sizeof db, "%s_%d_%d", template_db, (int)getpid(), ++cases);
	snprintf(sql, sizeof sql, "create database %s template %s strategy file_copy", db, template_db);
	run_at(cluster(), sql);
	snprintf(info[0], sizeof info[0], "%s dbname=%s", cluster(), db);
	snprintf(info[1], sizeof info[1], "%s dbname=%s user=holdpoint_engine", cluster(), db);
	snprintf(info[2], sizeof info[2], "%s dbname=%s user=holdpoint_workflow", cluster(), db);
	super = connect_to(info[0]);
	loop = ev_loop_new(EVFLAG_AUTO);
	for (int i = 0; i < 2; i++) {
		struct hp_store_pg_options o = { .conninfo = info[1], .sql_conninfo = info[2],
						 .application = "contract" };
		stores[i] = hp_store_pg_new(loop, &o, &err);
		ck_assert_msg(stores[i] != NULL, "%s", err.message);
	}
}

static void close_store(void)
{
	char sql[128];

	for (int i = 0; i < 2; i++)
		stores[i]->ops->free(stores[i]);
	for (int i = 0; i < 20; i++)
		ev_run(loop, EVRUN_NOWAIT);
	ev_loop_destroy(loop);
	PQfinish(super);
	snprintf(sql, sizeof sql, "drop database %s with (force)", db);
	run_at(cluster(), sql);
}

static struct hp_store *store(int i)
{
	return stores[i];
}

static void turn(void)
{
	ev_run(loop, EVRUN_ONCE);
}

static void set_now(int64_t t)
{
	char sql[128];

	snprintf(sql, sizeof sql, "update public.contract_now set now = %lld", (long long)t);
	run(super, sql);
}

static void principal(const char *name, const char *kind, const char *roles)
{
	char sql[512];

	snprintf(sql, sizeof sql,
		 "insert into holdpoint.principal values ('%s', '%s', 1);"
		 "insert into holdpoint.role_member select '%s', r from regexp_split_to_table('%s', ' ') r where r <> ''",
		 name, kind, name, roles);
	run(super, sql);
}

static int sql_inserted(void)
{
	PGresult *r = PQexec(super, "select count(*) from public.contract_scratch");
	int n = (int)strtol(PQgetvalue(r, 0, 0), NULL, 10);

	PQclear(r);
	return n;
}

int main(void)
{
	static const struct contract_driver driver = {
		.name = "pg", .open = open_store, .close = close_store, .store = store, .turn = turn,
		.set_now = set_now, .principal = principal, .sql_inserted = sql_inserted,
	};
	int rc;

	make_template();
	rc = contract_main(&driver);
	drop_template();
	return rc;
}
