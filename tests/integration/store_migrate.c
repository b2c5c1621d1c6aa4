/* store_migrate.c: the runner of migrations: once each, in order, unchanged. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/store_fixture.h"
#include "lib/suite.h"

static char dir[64], info[600], db[64];
static int told, told_applied;

static void sql_at(const char *conninfo, const char *sql)
{
	PGconn *c = PQconnectdb(conninfo);
	PGresult *r = PQexec(c, sql);

	ck_assert_msg(PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK, "%s",
		      PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
}

static void file(const char *name, const char *text)
{
	char path[128];
	FILE *o;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	o = fopen(path, "w");
	ck_assert_ptr_nonnull(o);
	fputs(text, o);
	fclose(o);
}

static void open_empty(void)
{
	char sql[128];

	ck_assert_ptr_nonnull(getenv("HP_TEST_PG"));
	snprintf(db, sizeof db, "hp_migrate_%d", (int)getpid());
	snprintf(sql, sizeof sql, "create database %s", db);
	sql_at(getenv("HP_TEST_PG"), sql);
	snprintf(info, sizeof info, "%s dbname=%s", getenv("HP_TEST_PG"), db);
	snprintf(dir, sizeof dir, "/tmp/hp-migrate.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void close_all(void)
{
	char text[128];

	snprintf(text, sizeof text, "drop database %s with (force)", db);
	sql_at(getenv("HP_TEST_PG"), text);
	snprintf(text, sizeof text, "rm -rf %s", dir);
	ck_assert_int_eq(system(text), 0);
}

static void tell(void *arg, const struct hp_migration *m)
{
	(void)arg;
	told++;
	told_applied += m->applied;
}

static int migrate(bool dry, struct hp_error *err)
{
	told = told_applied = 0;
	return hp_migrate(info, dir, "test", dry, tell, NULL, err);
}

START_TEST(each_is_applied_once)
{
	struct hp_error err = { 0 };

	open_empty();
	file("0001_a.sql", "create table a (x int); insert into a values (1);");
	file("0002_b.sql", "insert into a values (2);");
	file("README.md", "no migration");
	ck_assert_int_eq(migrate(true, &err), 0);
	ck_assert(told == 2 && told_applied == 0);
	ck_assert_int_eq(migrate(false, &err), 0);
	ck_assert(told == 2 && told_applied == 0);
	file("0003_c.sql", "insert into a values (3);");
	ck_assert_int_eq(migrate(false, &err), 0);
	ck_assert(told == 3 && told_applied == 2);
	ck_assert_int_eq(migrate(false, &err), 0);
	ck_assert(told == 3 && told_applied == 3);
	sql_at(info, "do $$ begin if (select sum(x) from a) <> 6 then raise 'applied twice'; end if; end $$");
	close_all();
}
END_TEST

START_TEST(changed_missing_and_gaps_are_refused)
{
	struct hp_error err = { 0 };
	char path[128];

	open_empty();
	file("0001_a.sql", "create table a (x int);");
	file("0002_b.sql", "insert into a values (2);");
	ck_assert_int_eq(migrate(false, &err), 0);
	file("0001_a.sql", "create table a (x bigint);");
	ck_assert_int_eq(migrate(false, &err), -1);
	ck_assert_str_eq(err.message, "migration 0001_a.sql was changed after it had been applied");
	file("0001_a.sql", "create table a (x int);");
	snprintf(path, sizeof path, "%s/0002_b.sql", dir);
	unlink(path);
	ck_assert_int_eq(migrate(false, &err), -1);
	ck_assert_str_eq(err.message, "the database has migration 0002_b.sql of \"test\", this program has not");
	file("0003_c.sql", "select 1;");
	ck_assert_int_eq(migrate(false, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.message, "0003_c.sql is out of order, migration 0002 was expected here"));
	close_all();
}
END_TEST

START_TEST(a_failing_file_leaves_nothing)
{
	struct hp_error err = { 0 };

	open_empty();
	file("0001_a.sql", "create table a (x int);");
	file("0002_b.sql", "insert into a values (1); select nonsense;");
	ck_assert_int_eq(migrate(false, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.message, "0002_b.sql"));
	ck_assert_ptr_nonnull(strstr(err.message, "nonsense"));
	file("0002_b.sql", "insert into a values (2);");
	ck_assert_int_eq(migrate(false, &err), 0);
	sql_at(info, "do $$ begin if (select sum(x) from a) <> 2 then raise 'half applied'; end if; end $$");
	close_all();
}
END_TEST

START_TEST(many_starters_at_once)
{
	struct hp_error err = { 0 };
	int status;

	open_empty();
	file("0001_a.sql", "create table a (x int); select pg_sleep(0.2);");
	file("0002_b.sql", "insert into a values (1);");
	for (int i = 0; i < 6; i++)
		if (fork() == 0)
			_exit(migrate(false, &err) == 0 ? 0 : 1);
	for (int i = 0; i < 6; i++) {
		ck_assert_int_gt(wait(&status), 0);
		ck_assert_int_eq(status, 0);
	}
	sql_at(info, "do $$ begin if (select count(*) from a) <> 1 then raise 'applied twice'; end if; end $$");
	close_all();
}
END_TEST

HP_SUITE("store migrate", each_is_applied_once, changed_missing_and_gaps_are_refused, a_failing_file_leaves_nothing,
	 many_starters_at_once)
