/* store_pooled.c: the store through pgbouncer in transaction mode, with fewer
 * server sessions than the store has connections.
 */
#include <stdio.h>
#include <string.h>

#include "lib/bouncer.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char summary[] = "{\"states\":[{\"name\":\"record\",\"kind\":\"sql\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

static struct fx f;

static void open_pooled(void)
{
	char info[700];
	struct hp_store *direct;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_sql(&f, "create table public.ledger (id int primary key); grant select, insert on public.ledger to holdpoint_workflow");
	bouncer_start(f.super, 2);
	snprintf(info, sizeof info, "%s host=%s port=6432", f.engine_info, bouncer_dir());
	snprintf(f.workflow_info + strlen(f.workflow_info), 100, " host=%s port=6432", bouncer_dir());
	direct = f.store;
	f.store = fx_store(&f, info, true);
	fx_store_free(&f, direct);
	while (!f.store->ops->up(f.store)) /* it connects again and again until pgbouncer is there */
		fx_turn(&f, 0.05);
}

START_TEST(many_runs_go_through)
{
	enum { N = 300 };
	static struct hp_transition t[N];
	const struct hp_transition *p[N];
	static struct fx_commit res;
	struct hp_claimed *c;
	int n = 0, got = 0;

	open_pooled();
	f.engine = fx_register(&f, f.store, 60000000);
	for (int i = 0; i < N; i++)
		fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	while (got < N) {
		c = fx_claim(&f, f.store, f.engine, 100, &n);
		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++, got++) {
			t[got] = fx_from(&c[i].run, HP_MOVE_FINISHED, HP_FINISH);
			p[got] = &t[got];
		}
	}
	fx_commit(&f, f.store, p, N, &res);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(res.res[i].outcome, HP_COMMIT_OK);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_state where status = 4"), N);
	fx_store_free(&f, f.store);
	f.store = NULL;
	bouncer_stop();
	fx_close(&f);
}
END_TEST

struct seen {
	int done;
	enum hp_class outcome;
	char text[512];
	struct hp_sql_tx *tx;
};

static void on_rows(void *arg, int64_t now, const struct hp_sql_rows *r)
{
	struct seen *s = arg;

	(void)now;
	s->outcome = r->outcome;
	s->tx = r->tx;
	snprintf(s->text, sizeof s->text, "%s%.*s", r->message ? r->message : "", (int)r->rows.n, r->rows.n ? r->rows.p : "");
	s->done = 1;
}

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	(void)now;
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(res[0].outcome, HP_COMMIT_OK);
	*(int *)arg = 1;
}

static struct seen sql(const struct hp_claimed *c, const char *text)
{
	struct seen s = { 0 };
	struct hp_sql_state st = { .run_id = c->run.id, .epoch = 1, .token = c->token, .mode = HP_SQL_ONE, .text = text,
				   .args = hp_bytes_of("{\"user\": \"u1\"}") };

	f.store->ops->sql_run(f.store, &st, on_rows, &s);
	fx_until(&f, &s.done);
	ck_assert_msg(s.outcome == HP_CLASS_OK, "%s", s.text);
	return s;
}

START_TEST(sql_states_leave_no_traces_in_the_pool)
{
	struct hp_claimed c;
	struct hp_transition t;
	struct seen s;
	int done = 0;

	open_pooled();
	f.engine = fx_register(&f, f.store, 60000000);
	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	s = sql(&c, "insert into ledger values (1) returning set_config('application_name', 'mallory', false), pg_advisory_lock(7)::text l");
	t = fx_from(&c.run, HP_MOVE_ENTERED, HP_KEEP);
	t.in_sql = true;
	f.store->ops->sql_commit(f.store, s.tx, c.token, &t, on_commit, &done);
	fx_until(&f, &done);
	for (int i = 0; i < 4; i++) {
		s = sql(&c, "select current_setting('application_name') <> 'mallory' clean, (select count(*) from pg_locks"
			    " where locktype = 'advisory') locks");
		ck_assert_str_eq(s.text, "{\"clean\":true,\"locks\":0}");
		f.store->ops->sql_abort(f.store, s.tx);
	}
	ck_assert_int_eq(fx_int(&f, "select count(*) from public.ledger"), 1);
	fx_store_free(&f, f.store);
	f.store = NULL;
	bouncer_stop();
	fx_close(&f);
}
END_TEST

HP_SUITE("store pooled", many_runs_go_through, sql_states_leave_no_traces_in_the_pool)
