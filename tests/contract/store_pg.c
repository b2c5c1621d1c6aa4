/* The contract of stores, held by PostgreSQL.
 *
 * HP_TEST_PG is the conninfo of a superuser of a throw-away cluster. The suite makes a
 * database of its own there, migrates it, and drops it at the end; every case begins
 * with empty tables. Time is a row in that database: holdpoint.now_us() is replaced by
 * a function that reads it, so that the cases decide what time it is for every role.
 */
#include "lib/contract.h"
#include "lib/world_pg.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char database[64];
static char admin_info[2048], engine_info[2048], workflow_info[2048];
static PGconn *admin;
static struct ev_loop *loop;
static struct hp_store *stores[2];

/* Also used before and after the cases, when Check cannot report. */
static void need(bool ok, const char *what, const char *why)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, why);
	exit(EXIT_FAILURE);
}

static void run_on(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);

	need(PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK, sql,
	     PQerrorMessage(c));
	PQclear(r);
}

static PGconn *connect_to(const char *info)
{
	PGconn *c = PQconnectdb(info);

	need(PQstatus(c) == CONNECTION_OK, "connecting", PQerrorMessage(c));
	return c;
}

/* ---- once ---- */

static void replace_clock(void)
{
	run_on(admin, TEST_CLOCK_SQL
		      "create table public.contract_scratch (n int);"
		      "grant insert, select on public.contract_scratch to holdpoint_workflow");
}

static int create_database(void)
{
	struct hp_error err = { 0 };
	char sql[128];
	PGconn *c;
	int rc;

	snprintf(database, sizeof database, "contract_%ld", (long)getpid());
	c = connect_to(getenv("HP_TEST_PG"));
	snprintf(sql, sizeof sql, "create database %s", database);
	run_on(c, sql);
	PQfinish(c);
	need(test_conninfo(admin_info, sizeof admin_info, database, NULL) &&
	     test_conninfo(engine_info, sizeof engine_info, database, "holdpoint_engine") &&
	     test_conninfo(workflow_info, sizeof workflow_info, database, "holdpoint_workflow"), "HP_TEST_PG", "cannot be used");
	rc = hp_migrate(admin_info, "migrations/holdpoint", "holdpoint", false, NULL, NULL, &err);
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.message);
		return -1;
	}
	admin = connect_to(admin_info);
	replace_clock();
	PQfinish(admin);
	admin = NULL;
	return 0;
}

static void drop_database(void)
{
	PGconn *c = connect_to(getenv("HP_TEST_PG"));
	char sql[128];

	snprintf(sql, sizeof sql, "drop database %s with (force)", database);
	run_on(c, sql);
	PQfinish(c);
}

/* ---- each case, in a process of its own ---- */

static void turn(void)
{
	ev_run(loop, EVRUN_ONCE);
}

static void open_world(void)
{
	struct hp_store_pg_options o = { .conninfo = engine_info, .sql_conninfo = workflow_info,
					 .application = "contract" };
	struct hp_error err = { 0 };

	admin = connect_to(admin_info);
	run_on(admin, TEST_EMPTY_SQL("") "delete from public.contract_scratch");
	loop = ev_loop_new(EVFLAG_AUTO);
	for (int i = 0; i < 2; i++) {
		stores[i] = hp_store_pg_new(loop, &o, &err);
		ck_assert_msg(stores[i] != NULL, "%s", err.message);
		while (!stores[i]->ops->up(stores[i]))
			turn();
	}
}

static void close_world(void)
{
	for (int i = 0; i < 2; i++)
		stores[i]->ops->free(stores[i]);
	ev_run(loop, 0); /* until nothing is left to end */
	ev_loop_destroy(loop);
	PQfinish(admin);
}

static struct hp_store *store(int i)
{
	return stores[i];
}

static void set_now(int64_t now)
{
	char sql[96];

	snprintf(sql, sizeof sql, "update holdpoint.contract_clock set us = %lld", (long long)now);
	run_on(admin, sql);
}

static void principal(const char *name, const char *kind, const char *roles)
{
	const char *values[3] = { name, kind, roles };
	PGresult *r = PQexecParams(admin,
		"with p as (insert into holdpoint.principal (name, kind, created_at) values ($1, $2, 0) returning name)"
		" insert into holdpoint.role_member (principal, role)"
		" select p.name, x from p, unnest(string_to_array($3, ' ')) x where x <> ''",
		3, NULL, values, NULL, NULL, 0);

	/* the foreign key is checked at the end of the statement, when both rows exist */
	ck_assert_msg(PQresultStatus(r) == PGRES_COMMAND_OK, "%s", PQerrorMessage(admin));
	PQclear(r);
}

static int sql_inserted(void)
{
	PGresult *r = PQexec(admin, "select count(*) from public.contract_scratch");
	int n;

	ck_assert_int_eq(PQresultStatus(r), PGRES_TUPLES_OK);
	n = (int)strtol(PQgetvalue(r, 0, 0), NULL, 10);
	PQclear(r);
	return n;
}

int main(void)
{
	static const struct contract_driver driver = {
		.name = "pg", .open = open_world, .close = close_world, .store = store, .turn = turn,
		.set_now = set_now, .principal = principal, .sql_inserted = sql_inserted,
	};
	int rc;

	if (!getenv("HP_TEST_PG")) {
		fprintf(stderr, "HP_TEST_PG is not set: the conninfo of a superuser of a throw-away cluster\n");
		return EXIT_FAILURE;
	}
	if (create_database() < 0)
		return EXIT_FAILURE;
	rc = contract_main(&driver);
	drop_database();
	return rc;
}
