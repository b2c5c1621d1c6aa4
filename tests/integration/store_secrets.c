/* store_secrets.c: changes of secrets in several transactions at once. */
#include <stdio.h>
#include <string.h>

#include "lib/store_fixture.h"
#include "lib/suite.h"

static struct fx f;

static void put(const char *name)
{
	fx_sql(&f, "select holdpoint.door_secret_reserve('engine', '{\"name\":\"%s\"}')", name);
	fx_sql(&f, "select holdpoint.door_secret_put('alice', '{\"name\":\"%s\",\"version\":1,\"sealed\":\"AAAA\","
		   "\"key_id\":\"k\",\"fingerprint\":\"f\"}')", name);
}

static const char promote_a[] = "select holdpoint.door_secret_promote('alice', '{\"name\":\"A\",\"version\":1}')";
static const char promote_b[] = "select holdpoint.door_secret_promote('alice', '{\"name\":\"B\",\"version\":1}')";

static int waiting(const PGconn *c)
{
	return (int)fx_int(&f, "select count(*) from pg_stat_activity where pid = %d and wait_event_type = 'Lock'",
			   PQbackendPID(c));
}

/* Both want both names, in different orders: one waits, neither is a victim. */
START_TEST(two_names_in_two_orders)
{
	PGconn *first, *second;
	PGresult *r;

	fx_open(&f);
	put("A");
	put("B");
	first = fx_session(&f, "postgres");
	second = fx_session(&f, "postgres");
	ck_assert_str_eq(fx_state(&f, first, "begin"), "");
	ck_assert_str_eq(fx_state(&f, second, "begin"), "");
	ck_assert_str_eq(fx_state(&f, first, promote_a), "");
	ck_assert_int_eq(PQsendQuery(second, promote_b), 1);
	while (!waiting(second))
		fx_turn(&f, 0.01);
	ck_assert_str_eq(fx_state(&f, first, promote_b), "");
	ck_assert_str_eq(fx_state(&f, first, "commit"), "");
	r = PQgetResult(second);
	ck_assert_msg(PQresultStatus(r) == PGRES_TUPLES_OK, "%s", PQresultErrorMessage(r));
	PQclear(r);
	ck_assert_ptr_null(PQgetResult(second));
	ck_assert_str_eq(fx_state(&f, second, promote_a), "");
	ck_assert_str_eq(fx_state(&f, second, "commit"), "");
	PQfinish(first);
	PQfinish(second);
	fx_close(&f);
}
END_TEST

HP_SUITE("store secrets", two_names_in_two_orders)
