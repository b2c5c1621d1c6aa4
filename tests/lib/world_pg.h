/* world_pg.h: what a test needs that plays its cases on one database of its own: the
 * connection strings of its roles, a clock that it sets, and empty tables for each case.
 */
#ifndef TESTS_LIB_WORLD_PG_H
#define TESTS_LIB_WORLD_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* $HP_TEST_PG with another database and, unless NULL, user. false: it cannot be read, or is too long. */
static inline bool test_conninfo(char *out, size_t size, const char *dbname, const char *user)
{
	PQconninfoOption *o = PQconninfoParse(getenv("HP_TEST_PG"), NULL);
	size_t n = 0;

	out[0] = 0;
	for (PQconninfoOption *x = o; x && x->keyword && n < size; x++) {
		const char *v = x->val;

		if (strcmp(x->keyword, "dbname") == 0)
			v = dbname;
		else if (strcmp(x->keyword, "user") == 0 && user)
			v = user;
		if (v)
			n += (size_t)snprintf(out + n, size - n, "%s='%s' ", x->keyword, v);
	}
	PQconninfoFree(o);
	return o && n < size;
}

/* Time is a row that the test writes: every role sees it, also one that may not shift it. */
#define TEST_CLOCK_SQL                                                                                       \
	"create table holdpoint.contract_clock (us bigint not null);"                                        \
	"insert into holdpoint.contract_clock values (0);"                                                   \
	"alter table holdpoint.contract_clock owner to holdpoint_owner;"                                     \
	"create or replace function holdpoint.now_us() returns bigint language sql stable security definer"  \
	" set search_path = holdpoint, pg_temp as 'select us from contract_clock';"

/* Truncating a hundred tables and their indexes costs more than most cases do: only what has
 * rows is emptied. Foreign keys are not asked, all of them will be empty. `but` is a list of
 * further tables that stay: "" or ", 'principal'". */
#define TEST_EMPTY_SQL(but)                                                                                  \
	"do $$ declare t record; v_any boolean; begin"                                                       \
	" set local session_replication_role = replica;"                                                     \
	" for t in select c.oid::regclass as name from pg_class c where c.relnamespace = 'holdpoint'::regnamespace" \
	"  and c.relkind in ('r', 'p') and not c.relispartition"                                             \
	"  and c.relname not in ('installation', 'migration', 'contract_clock'" but ")"                      \
	" loop"                                                                                              \
	"  execute format('select exists (select from %s)', t.name) into v_any;"                             \
	"  if v_any then execute format('delete from %s', t.name); end if;"                                  \
	" end loop;"                                                                                         \
	" perform setval(c.oid::regclass, 1, false) from pg_class c"                                         \
	"  where c.relnamespace = 'holdpoint'::regnamespace and c.relkind = 'S';"                            \
	" end $$;"

#endif
