/* store_breakers.c: ten thousand runs behind one breaker: they cost a claim nothing, half-open
 * wakes a handful, and when it closes they go on in waves, each of them once.
 */
#include <stdio.h>
#include <string.h>

#include "lib/store_fixture.h"
#include "lib/suite.h"

#define PARKED 10000
#define WAVE_MAX 500

static const char summary[] = "{\"states\":[{\"name\":\"pay\",\"kind\":\"call\",\"operation\":\"stripe.refunds.create\","
			      "\"timeout_us\":20000000},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

static struct fx f;

static void door(const char *name, const char *args)
{
	struct hp_error err = { 0 };

	ck_assert_msg(fx_door(&f, name, "alice", args, &err) != NULL, "%s", err.message);
}

/* As the gate leaves them. */
static void park_many(void)
{
	fx_park_many(&f, PARKED, HP_PH_GATED, "0");
	fx_sql(&f, "update holdpoint.run_state set gated = true, code = 'breaker_open'");
	fx_sql(&f, "insert into holdpoint.gated select id, 'breaker', 'stripe', id, 'm' from holdpoint.run");
	fx_sql(&f, "analyze holdpoint.run_state; analyze holdpoint.gated");
}

static int64_t ready(void)
{
	return fx_int(&f, "select count(*) from holdpoint.ready");
}

/* One second later on the database's clock, one heartbeat of each of three engines. */
static void second_passes(void)
{
	fx_sql(&f, "update public.clock set us = us + 1000000");
	for (int i = 0; i < 3; i++)
		fx_sql(&f, "select holdpoint.heartbeat(%lld)", (long long)f.engine);
}

START_TEST(ten_thousand_behind_one_breaker)
{
	int64_t before, total = 0;
	int n, waves = 0;

	fx_open(&f);
	fx_sql(&f, "create table public.clock (us bigint); insert into public.clock values (1800000000000000);"
		   "grant select on public.clock to public;"
		   "create or replace function holdpoint.now_us() returns bigint language sql stable as"
		   " 'select us from public.clock'");
	f.engine = fx_register(&f, f.store, INT64_C(86400000000));
	fx_deploy(&f, "w", summary);
	door("breaker_trip", "{\"breaker\":\"stripe\",\"version\":0,\"reason\":\"x\",\"open_us\":5000000,\"slow_us\":0,\"probes\":3}");
	park_many();
	for (int i = 0; i < 4; i++) { /* open: nobody moves, nobody polls */
		second_passes();
		fx_claim(&f, f.store, f.engine, 256, &n);
		ck_assert_int_eq(n, 0);
	}
	second_passes(); /* half-open: as many as may probe, the oldest */
	ck_assert_int_eq(ready(), 3);
	ck_assert_int_eq(fx_int(&f, "select max(run_id) from holdpoint.ready"), 3);
	door("breaker_close", "{\"breaker\":\"stripe\",\"reason\":\"it is well\"}");
	before = ready();
	ck_assert_int_le(before, 3 + 10); /* the first wave */
	for (; total < PARKED && waves < 60; waves++) {
		second_passes();
		total = ready();
		ck_assert_int_le(total - before, WAVE_MAX); /* whoever tends: one wave a second */
		ck_assert_int_gt(total, before);
		before = total;
	}
	ck_assert_int_eq(total, PARKED); /* each of them, and once: run_id is the key */
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.gated"), 0);
	ck_assert_int_ge(waves, PARKED / WAVE_MAX);
	printf("store_breakers: %d runs in %d waves\n", PARKED, waves);
	fx_close(&f);
}
END_TEST

/* A gate is asked only while something is shut: the plain commit pays one look. */
START_TEST(closed_breakers_gate_nothing)
{
	fx_open(&f);
	fx_deploy(&f, "w", summary);
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.gates_on()"), "f");
	door("breaker_open", "{\"breaker\":\"stripe\",\"reason\":\"x\"}");
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.gates_on()"), "t");
	door("breaker_close", "{\"breaker\":\"stripe\",\"reason\":\"x\"}");
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.gates_on()"), "f");
	fx_close(&f);
}
END_TEST

/* Who looks at a breaker waits for nobody who changes it. */
START_TEST(looking_takes_no_lock)
{
	PGconn *c;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	door("breaker_open", "{\"breaker\":\"stripe\",\"reason\":\"x\"}");
	c = fx_session(&f, "postgres");
	ck_assert_str_eq(fx_state(&f, c, "begin"), "");
	ck_assert_str_eq(fx_state(&f, c, "select from holdpoint.breaker for update"), "");
	door("breaker", "{\"breaker\":\"stripe\"}");
	PQfinish(c);
	fx_close(&f);
}
END_TEST

/* The log is only ever added to, by the engine's role too. */
START_TEST(who_changed_what_stays_written)
{
	PGconn *c;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	door("breaker_open", "{\"breaker\":\"stripe\",\"reason\":\"x\"}");
	c = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, c, "update holdpoint.breaker_log set reason = 'y'"), "42501");
	ck_assert_str_eq(fx_state(&f, c, "delete from holdpoint.breaker_log"), "42501");
	PQfinish(c);
	fx_close(&f);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("breakers");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, ten_thousand_behind_one_breaker);
	tcase_add_test(t, closed_breakers_gate_nothing);
	tcase_add_test(t, looking_takes_no_lock);
	tcase_add_test(t, who_changed_what_stays_written);
	return hp_run_case("store breakers", t);
}
