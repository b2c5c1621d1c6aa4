/* store_scale.c: what a claim costs must not depend on how many runs are parked,
 * timers never fire early, and updates of state rows stay HOT.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

#define PARKED 300000

static const char summary[] = "{\"states\":[{\"name\":\"pause\",\"kind\":\"wait\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

static struct fx f;

START_TEST(parked_runs_cost_a_claim_nothing)
{
	char sql[128];
	int n;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_park_many(&f, PARKED, HP_PH_OPEN, "(select holdpoint.now_us()) + 3600000000 + id");
	fx_sql(&f, "insert into holdpoint.timer select run_id, due_at from holdpoint.run_state");
	fx_sql(&f, "analyze holdpoint.run_state; analyze holdpoint.timer");
	fx_claim(&f, f.store, f.engine, 256, &n);
	ck_assert_int_eq(n, 0); /* every timer is an hour away */
	snprintf(sql, sizeof sql, "select * from holdpoint.claim(%lld, 256, 0, '{}')", (long long)f.engine);
	(void)fx_pages(&f, sql); /* the first call reads the catalogue for its plans */
	ck_assert_int_lt(fx_pages(&f, sql), 60);
	fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	fx_claim(&f, f.store, f.engine, 256, &n);
	ck_assert_int_eq(n, 1);
	/* one second before: nothing; at the time: exactly those that are due */
	fx_sql(&f, "create or replace function holdpoint.now_us() returns bigint language sql stable as"
		   " 'select min(due_at) - 1 from holdpoint.timer'");
	fx_claim(&f, f.store, f.engine, 256, &n);
	ck_assert_int_eq(n, 0);
	fx_sql(&f, "create or replace function holdpoint.now_us() returns bigint language sql stable as"
		   " 'select min(due_at) + 9 from holdpoint.timer'");
	fx_claim(&f, f.store, f.engine, 256, &n);
	ck_assert_int_eq(n, 10);
	fx_close(&f);
}
END_TEST

START_TEST(updates_stay_hot)
{
	enum { N = 200, ROUNDS = 20 };
	static struct hp_claimed c[N];
	static struct hp_transition t[N];
	const struct hp_transition *p[N];
	static struct fx_commit res;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	for (int i = 0; i < N; i++)
		fx_start(&f, "w", "{}", NULL, true, &c[i], NULL);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < N; i++) {
			t[i] = fx_from(&c[i].run, HP_MOVE_ENTERED, HP_KEEP);
			t[i].after.visit++;
			p[i] = &t[i];
		}
		fx_commit(&f, f.store, p, N, &res);
		for (int i = 0; i < N; i++) {
			ck_assert_int_eq(res.res[i].outcome, HP_COMMIT_OK);
			fx_done(&c[i].run, &t[i]);
		}
	}
	fx_store_free(&f, f.store); /* its sessions report their counters when they end */
	f.store = NULL;
	for (int i = 0; i < 100 && fx_int(&f, "select n_tup_upd from pg_stat_user_tables where relname = 'run_state'") < N * ROUNDS; i++)
		fx_turn(&f, 0.05);
	ck_assert_int_ge(fx_int(&f, "select n_tup_upd from pg_stat_user_tables where relname = 'run_state'"), N * ROUNDS);
	ck_assert_int_ge(fx_int(&f, "select 100 * n_tup_hot_upd / n_tup_upd from pg_stat_user_tables where relname = 'run_state'"), 90);
	fx_close(&f);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("scale");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, parked_runs_cost_a_claim_nothing);
	tcase_add_test(t, updates_stay_hot);
	return hp_run_case("store scale", t);
}
