/* store_children.c: what a fan-out over a million items costs at a time: its items come
 * page by page, no more of them are there than can run soon, and neither the end of a
 * child nor a claim of the parent touches more when many have ended before.
 */
#include <stdio.h>
#include <string.h>

#include "lib/store_fixture.h"
#include "lib/suite.h"

#define ITEMS 1000000
#define PAGE 250
#define AT_ONCE 20
#define ENDED 200000 /* children of before */

static const char summary[] = "{\"states\":[{\"name\":\"fan\",\"kind\":\"each\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

static struct fx f;

/* A page of the source that the store has never seen: items known + 1 … known + PAGE. */
static struct hp_transition page_of(const struct hp_run *run, int64_t known, const char *op, struct hp_buf *doc)
{
	struct hp_transition t = fx_from(run, HP_MOVE_SPAWNED, HP_PARK);

	hp_buf_clear(doc);
	hp_buf_printf(doc, "{\"op\":\"%s\",\"workflow\":\"w\",\"single\":false,\"need\":0,\"tolerate\":0,\"percent\":-1,"
		      "\"concurrency\":%d,\"children\":[", op, AT_ONCE);
	for (int i = 1; i <= PAGE; i++)
		hp_buf_printf(doc, "%s{\"input\":{\"id\":%lld}}", i > 1 ? "," : "", (long long)(known + i));
	hp_buf_printf(doc, "],\"cursor\":%lld,\"end\":%s}", (long long)(known + PAGE), known + PAGE < ITEMS ? "false" : "true");
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_JOINING;
	t.annexes[0] = (struct hp_annex){ "children", hp_buf_bytes(doc) };
	t.n_annexes = 1;
	return t;
}

/* All claimed children end; the parent, if it is among them, names the next page. Returns
 * how many children ended. */
static int turn(int64_t parent, int64_t *known, struct hp_buf *doc)
{
	static struct fx_commit res;
	struct hp_transition t[256];
	const struct hp_transition *p[256];
	int n, children = 0;
	struct hp_claimed *c = fx_claim(&f, f.store, f.engine, 256, &n);

	for (int i = 0; i < n; i++) {
		p[i] = &t[i];
		if (c[i].run.id == parent) {
			t[i] = page_of(&c[i].run, *known, "page", doc);
			*known += PAGE;
			continue;
		}
		t[i] = fx_from(&c[i].run, HP_MOVE_FINISHED, HP_FINISH);
		t[i].after.status = HP_SUCCEEDED;
		children++;
	}
	fx_commit(&f, f.store, p, n, &res);
	for (int i = 0; i < n; i++)
		ck_assert_msg(res.res[i].outcome == HP_COMMIT_OK, "%s", res.error.message);
	return children;
}

static int64_t cost_of_an_end(void)
{
	char sql[128];
	int64_t child = fx_int(&f, "select child from holdpoint.child where status = 1 order by n limit 1");

	fx_sql(&f, "update holdpoint.run_state set status = 4 where run_id = %lld; delete from holdpoint.ready where run_id = %lld",
	       (long long)child, (long long)child);
	snprintf(sql, sizeof sql, "select holdpoint.children_ended(array[%lld], 1)", (long long)child);
	return fx_pages(&f, sql);
}

START_TEST(a_million_items_are_there_page_by_page)
{
	struct hp_claimed parent;
	struct hp_transition t;
	struct hp_buf doc;
	char sql[128];
	int64_t known = PAGE, ended = 0, end_before, found_before;

	hp_buf_init(&doc, 65536);
	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", NULL, true, &parent, NULL);
	t = page_of(&parent.run, 0, "open", &doc);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	while (ended < 8 * PAGE) {
		ended += turn(parent.run.id, &known, &doc);
		/* what is kept of the items is a page and a bit, and what runs is as many as said */
		ck_assert_int_le(fx_int(&f, "select count(*) from holdpoint.child where status = 0"), PAGE + AT_ONCE);
		ck_assert_int_le(fx_int(&f, "select count(*) from holdpoint.child where status = 1"), AT_ONCE);
		ck_assert_int_le(known, ended + PAGE + 2 * AT_ONCE);
	}
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.child where input is not null and status <> 0"), 0);
	ck_assert_int_eq(fx_int(&f, "select succeeded from holdpoint.family"), ended);
	/* woken for its pages, and for nothing else */
	ck_assert_int_le(fx_int(&f, "select count(*) from holdpoint.history where run_id = %lld and move = 19",
				(long long)parent.run.id), known / PAGE);
	fx_sql(&f, "set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off;"
		   " set plan_cache_mode = force_generic_plan");
	(void)cost_of_an_end(); /* the first one reads the catalogue */
	end_before = cost_of_an_end();
	snprintf(sql, sizeof sql, "select holdpoint.found_children(%lld, 1)", (long long)parent.run.id);
	(void)fx_pages(&f, sql);
	found_before = fx_pages(&f, sql);
	fx_sql(&f, "insert into holdpoint.child (run_id, visit, n, child, status) select %lld, 1, 500000 + i, 10000000 + i, 4"
		   " from generate_series(1, %d) i", (long long)parent.run.id, ENDED);
	fx_sql(&f, "update holdpoint.family set total = total + %d, succeeded = succeeded + %d", ENDED, ENDED);
	/* their rows alone are some thousand pages */
	ck_assert_int_lt(cost_of_an_end(), end_before + 500);
	ck_assert_int_lt(fx_pages(&f, sql), found_before + 500);
	hp_buf_free(&doc);
	fx_close(&f);
}
END_TEST

/* The parent of these children, one at a time. */
static struct hp_transition opens(const struct hp_run *run, bool single, const char *children)
{
	struct hp_transition t = fx_from(run, HP_MOVE_PARKED, HP_PARK);
	char *doc = hp_arena_printf(f.arena, "{\"op\":\"open\",\"workflow\":\"w\",\"single\":%s,\"need\":0,\"tolerate\":0,"
				     "\"percent\":-1,\"concurrency\":1,\"children\":[%s],\"end\":true}", single ? "true" : "false", children);

	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_JOINING;
	t.annexes[0] = (struct hp_annex){ "children", hp_bytes_of(doc) };
	t.n_annexes = 1;
	return t;
}

/* The parent of a `run`: joins whoever has the key "k". */
static struct hp_transition joins(const struct hp_run *run)
{
	return opens(run, true, "{\"key\":\"k\",\"input\":{}}");
}

static void commit_ok(const struct hp_transition *t)
{
	ck_assert_int_eq(fx_commit1(&f, t), HP_COMMIT_OK);
}

static void ends(const struct hp_run *run)
{
	struct hp_transition t = fx_from(run, HP_MOVE_FINISHED, HP_FINISH);

	t.after.status = HP_SUCCEEDED;
	commit_ok(&t);
}

static void parks_again(const struct hp_run *run)
{
	struct hp_transition t = fx_from(run, HP_MOVE_WOKEN, HP_PARK);

	commit_ok(&t);
}

/* Who is ready first, within five seconds. */
static struct hp_claimed next_ready(void)
{
	struct hp_claimed *c = NULL;
	int n = 0;

	for (int i = 0; i < 100 && n == 0; i++) {
		fx_turn(&f, 0.05);
		c = fx_claim(&f, f.store, f.engine, 1, &n);
	}
	ck_assert_int_eq(n, 1);
	return c[0];
}

static void nobody_is_ready(void)
{
	int n;

	fx_claim(&f, f.store, f.engine, 8, &n);
	ck_assert_int_eq(n, 0);
}

static PGconn *writes(int64_t run)
{
	PGconn *c = fx_session(&f, "holdpoint_engine");
	char sql[128];

	ck_assert_str_eq(fx_state(&f, c, "begin"), "");
	snprintf(sql, sizeof sql, "select from holdpoint.run_state where run_id = %lld for no key update", (long long)run);
	ck_assert_str_eq(fx_state(&f, c, sql), "");
	return c;
}

static void has_written(PGconn *c)
{
	ck_assert_str_eq(fx_state(&f, c, "commit"), "");
	PQfinish(c);
}

/* A run that is just being written is not waited for, or two that join each other would
 * wait for ever: the parent looks again, and then hears of its end. */
START_TEST(a_run_that_is_just_being_written_is_looked_at_again)
{
	struct hp_claimed parent, child, c;
	struct hp_transition t;
	PGconn *other;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", "k", true, &child, NULL);
	fx_start(&f, "w", "{}", NULL, true, &parent, NULL);
	other = writes(child.run.id);
	t = joins(&parent.run);
	commit_ok(&t); /* it did not wait */
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.child where not watched"), 1);
	has_written(other);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.child where not watched"), 0);
	nobody_is_ready();
	ends(&child.run);
	ck_assert_int_eq(next_ready().run.id, parent.run.id);
	fx_close(&f);
}
END_TEST

/* … also when it is the end of a sibling that joins it, while its parent sleeps. */
START_TEST(a_run_that_a_siblings_end_joins_is_looked_at_again)
{
	struct hp_claimed parent, joined, c;
	struct hp_transition t;
	PGconn *other;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", "k", true, &joined, NULL);
	fx_start(&f, "w", "{}", NULL, true, &parent, NULL);
	t = opens(&parent.run, false, "{\"input\":{}},{\"key\":\"k\",\"input\":{}}");
	commit_ok(&t);
	c = next_ready(); /* the first child */
	other = writes(joined.run.id);
	ends(&c.run);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.child where not watched"), 1);
	has_written(other);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	nobody_is_ready();
	ends(&joined.run);
	ck_assert_int_eq(next_ready().run.id, parent.run.id);
	fx_close(&f);
}
END_TEST

/* … or the look itself. */
START_TEST(a_run_that_is_joined_by_a_look_is_looked_at_again)
{
	struct hp_claimed parent, first, second, c;
	struct hp_transition t;
	PGconn *other;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", "k1", true, &first, NULL);
	fx_start(&f, "w", "{}", "k2", true, &second, NULL);
	fx_start(&f, "w", "{}", NULL, true, &parent, NULL);
	other = writes(first.run.id);
	t = opens(&parent.run, false, "{\"key\":\"k1\",\"input\":{}},{\"key\":\"k2\",\"input\":{}}");
	commit_ok(&t);
	has_written(other);
	ends(&first.run); /* nobody waits for it yet */
	other = writes(second.run.id);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	ck_assert_int_eq(fx_int(&f, "select succeeded from holdpoint.family"), 1);
	has_written(other);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	nobody_is_ready();
	ends(&second.run);
	ck_assert_int_eq(next_ready().run.id, parent.run.id);
	fx_close(&f);
}
END_TEST

/* An application's transaction may take any time: neither the commit that names a key of
 * it nor that of a sibling waits for it, and the child is not lost. */
START_TEST(a_key_that_an_open_transaction_has_is_not_waited_for)
{
	struct hp_claimed parent, joined, c;
	struct hp_transition t;
	PGconn *app;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", NULL, true, &parent, NULL);
	app = fx_session(&f, "postgres");
	ck_assert_str_eq(fx_state(&f, app, "begin; select holdpoint.start('w', key => 'k')"), "");
	t = opens(&parent.run, false, "{\"input\":{}},{\"key\":\"k\",\"input\":{}},{\"input\":{}}");
	commit_ok(&t);
	c = next_ready(); /* the first child */
	ends(&c.run);
	ck_assert_int_eq(fx_int(&f, "select queued from holdpoint.family"), 2);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	nobody_is_ready(); /* it does not try for ever */
	ck_assert_str_eq(fx_state(&f, app, "commit"), "");
	PQfinish(app);
	joined = next_ready(); /* the application's run */
	ck_assert_int_ne(joined.run.id, parent.run.id);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	nobody_is_ready();
	ends(&joined.run);
	c = next_ready(); /* the third child */
	ends(&c.run);
	ck_assert_int_eq(next_ready().run.id, parent.run.id);
	ck_assert_int_eq(fx_int(&f, "select succeeded from holdpoint.family"), 3);
	fx_close(&f);
}
END_TEST

/* … nor for the limiter that a child starts by. */
START_TEST(a_limiter_that_an_open_transaction_has_is_not_waited_for)
{
	struct hp_claimed parent, c;
	struct hp_transition t;
	PGconn *app;

	fx_open(&f);
	fx_deploy(&f, "p", summary);
	fx_deploy(&f, "w", "{\"states\":[{\"name\":\"done\",\"kind\":\"succeed\"}],\"limits\":{\"exclusive\":[\"one\"]}}");
	fx_start(&f, "p", "{}", NULL, true, &parent, NULL);
	app = fx_session(&f, "postgres");
	ck_assert_str_eq(fx_state(&f, app, "begin; select holdpoint.start('w')"), "");
	t = opens(&parent.run, false, "{\"input\":{}}");
	commit_ok(&t);
	ck_assert_int_eq(fx_int(&f, "select queued from holdpoint.family"), 1);
	ck_assert_str_eq(fx_state(&f, app, "rollback"), "");
	PQfinish(app);
	c = next_ready();
	ck_assert_int_eq(c.run.id, parent.run.id);
	parks_again(&c.run);
	c = next_ready(); /* the child */
	ends(&c.run);
	ck_assert_int_eq(next_ready().run.id, parent.run.id);
	fx_close(&f);
}
END_TEST

/* Each joined the other while that one was being written: the first to look finds out, and
 * is told all of it. */
START_TEST(two_that_join_each_other_do_not_wait_for_ever)
{
	struct hp_claimed a, b, c, *again;
	struct hp_transition t;
	PGconn *other;
	int n;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", "a", true, &a, NULL);
	fx_start(&f, "w", "{}", "b", true, &b, NULL);
	other = writes(b.run.id);
	t = opens(&a.run, false, "{\"key\":\"b\",\"input\":{}}");
	commit_ok(&t);
	has_written(other);
	other = writes(a.run.id);
	t = opens(&b.run, false, "{\"key\":\"a\",\"input\":{}}");
	commit_ok(&t);
	has_written(other);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.child where not watched"), 2);
	c = next_ready();
	parks_again(&c.run);
	again = fx_claim(&f, f.store, f.engine, 2, &n); /* at once; the other one may be there, too */
	ck_assert_int_ge(n, 1);
	c = again[n - 1].run.id == c.run.id ? again[n - 1] : again[0];
	ck_assert_ptr_nonnull(memmem(c.annex.p, c.annex.n, "waits_for_itself", 16));
	ck_assert_ptr_nonnull(memmem(c.annex.p, c.annex.n, "so it cannot be its child", 25));
	ck_assert_ptr_null(memmem(c.annex.p, c.annex.n, "\"child\"", 7)); /* nobody's failure */
	fx_close(&f);
}
END_TEST

/* Keys outlive their runs: who joins one that was removed is told, and does not wait. */
START_TEST(a_run_that_was_removed_is_no_success)
{
	struct hp_claimed parent, child, *c;
	struct hp_transition t;
	int n;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_start(&f, "w", "{}", "k", true, &child, NULL);
	t = fx_from(&child.run, HP_MOVE_FINISHED, HP_FINISH);
	t.after.status = HP_SUCCEEDED;
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	fx_sql(&f, "select holdpoint.gc_forget(array[%lld::bigint], false)", (long long)child.run.id);
	fx_start(&f, "w", "{}", NULL, true, &parent, NULL);
	t = joins(&parent.run);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	c = fx_claim(&f, f.store, f.engine, 8, &n);
	ck_assert_int_eq(n, 1);
	ck_assert_ptr_nonnull(memmem(c[0].annex.p, c[0].annex.n, "run_removed", 11));
	ck_assert_ptr_nonnull(memmem(c[0].annex.p, c[0].annex.n, "when its retention was over", 27));
	fx_close(&f);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("children");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_million_items_are_there_page_by_page);
	tcase_add_test(t, a_run_that_is_just_being_written_is_looked_at_again);
	tcase_add_test(t, a_run_that_a_siblings_end_joins_is_looked_at_again);
	tcase_add_test(t, a_run_that_is_joined_by_a_look_is_looked_at_again);
	tcase_add_test(t, a_key_that_an_open_transaction_has_is_not_waited_for);
	tcase_add_test(t, a_limiter_that_an_open_transaction_has_is_not_waited_for);
	tcase_add_test(t, two_that_join_each_other_do_not_wait_for_ever);
	tcase_add_test(t, a_run_that_was_removed_is_no_success);
	return hp_run_case("store children", t);
}
