/* store_retention.c: what is over is removed, and nothing else: row by row, with its
 * whole partition, stopped at every step, beside commits.
 */
#include <stdio.h>
#include <string.h>

#include "lib/suite.h"
#include "lib/store_fixture.h"

#define STATES "\"states\":[{\"name\":\"nap\",\"kind\":\"wait\"},{\"name\":\"done\",\"kind\":\"succeed\"}]"

static struct fx f;

static void open_fx(void)
{
	fx_open(&f);
	fx_deploy(&f, "short", "{" STATES ",\"retention_us\":86400000000}");
	fx_deploy(&f, "ever", "{" STATES "}");
}

static void end_as(struct hp_claimed *c, enum hp_status status, bool long_ago)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_FINISHED, HP_FINISH);

	t.after.status = status;
	t.saves[0] = (struct hp_save){ "word", hp_bytes_of("1") };
	t.n_saves = 1;
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	if (long_ago)
		fx_sql(&f, "update holdpoint.history set at = at - 172800000000 where run_id = %lld", (long long)c->run.id);
}

/* Finished two days ago, or just now. */
static void finish(struct hp_claimed *c, bool long_ago)
{
	end_as(c, HP_SUCCEEDED, long_ago);
}

static struct hp_claimed own(const char *workflow, const char *key)
{
	struct hp_claimed c;

	fx_start(&f, workflow, "{}", key, true, &c, NULL);
	return c;
}

static void park(struct hp_claimed *c)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_PARKED, HP_PARK);

	t.after.phase = HP_PH_OPEN;
	t.after.due_at = INT64_C(4000000000000000);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	fx_done(&c->run, &t);
}

/* The next step, done once in vain by an engine that dies before it commits. */
static const char *step(void)
{
	fx_sql(&f, "begin");
	fx_sql(&f, "select holdpoint.gc_step(true)");
	fx_sql(&f, "rollback");
	return fx_sql(&f, "select holdpoint.gc_step(true) ->> 'step'");
}

/* Until the pass is over, or (to) the step has come. */
static void steps(const char *to)
{
	for (int i = 0; i < 100; i++)
		if (strcmp(step(), to) == 0)
			return;
	ck_abort_msg("the pass never came to %s", to);
}

static int64_t rows(const char *table, int64_t run)
{
	return fx_int(&f, "select count(*) from holdpoint.%s where run_id = %lld", table, (long long)run);
}

START_TEST(what_is_over_goes_with_all_it_has_but_its_key)
{
	struct hp_claimed old, recent, lives, ever, kid;
	struct hp_error err;
	bool existed;

	open_fx();
	old = own("short", "k1");
	recent = own("short", "k2");
	lives = own("short", "k3");
	ever = own("ever", "k4");
	kid = own("short", "k5"); /* its parent will ask */
	fx_sql(&f, "insert into holdpoint.child (run_id, visit, n, child, status) values (%lld, 1, 1, %lld, 4)",
	       (long long)lives.run.id, (long long)kid.run.id);
	fx_sql(&f, "insert into holdpoint.approval (run_id, visit, state, state_name, workflow, ask, approvers, quorum, requester,"
	       " opened_at, deadline_at) values (%lld, 1, 0, 'nap', 'short', '?', '1 of x', '[]', 'a', 0, 1);"
	       " insert into holdpoint.vote values (1, 'bob', 'approve', 'fine', 0)", (long long)old.run.id);
	finish(&old, true);
	finish(&recent, false);
	finish(&ever, true);
	finish(&kid, true);
	park(&lives);
	fx_sql(&f, "update holdpoint.history set at = at - 172800000000 where run_id = %lld", (long long)lives.run.id);
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "gc_plan", "x", "{}", NULL), "\"over\": {\"short\": 1}"));
	steps("idle");
	ck_assert_int_eq(fx_int(&f, "select removed from holdpoint.gc"), 1);
	ck_assert_int_eq(rows("history", old.run.id) + rows("saved", old.run.id) + rows("run_state", old.run.id) +
			 rows("approval", old.run.id) + fx_int(&f, "select count(*) from holdpoint.vote"), 0);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 4);
	ck_assert_int_eq(rows("history", recent.run.id), 2);
	ck_assert_int_eq(rows("history", kid.run.id), 2);
	ck_assert_int_eq(rows("history", ever.run.id), 2);
	ck_assert_int_eq(rows("timer", lives.run.id), 1);
	ck_assert_ptr_null(fx_door(&f, "run", "x", "{\"run\": 1}", &err));
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
	/* its key says that it existed, for ever */
	ck_assert_int_eq(fx_start(&f, "short", "{}", "k1", false, NULL, &existed), old.run.id);
	ck_assert(existed);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 4);
	fx_close(&f);
}
END_TEST

/* Between the look and the deed: whoever joins a run takes its lock. */
START_TEST(what_a_parent_joins_meanwhile_stays)
{
	struct hp_claimed locked, joined, lives;
	PGconn *other;

	open_fx();
	locked = own("short", "k1");
	joined = own("short", "k2");
	lives = own("ever", NULL);
	finish(&locked, true);
	finish(&joined, true);
	other = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, other, "begin; select from holdpoint.run_state where run_id = 1 for no key update"), "");
	fx_sql(&f, "insert into holdpoint.child (run_id, visit, n, child, status) values (%lld, 1, 1, %lld, 4)",
	       (long long)lives.run.id, (long long)joined.run.id);
	fx_sql(&f, "set lock_timeout = '1s'");
	ck_assert_int_eq(fx_int(&f, "select holdpoint.gc_forget(array[%lld, %lld], false)", (long long)locked.run.id,
				(long long)joined.run.id), 0);
	ck_assert_int_eq(rows("history", locked.run.id), 2);
	ck_assert_int_eq(rows("history", joined.run.id), 2);
	ck_assert_str_eq(fx_state(&f, other, "rollback"), "");
	PQfinish(other);
	ck_assert_int_eq(fx_int(&f, "select holdpoint.gc_forget(array[%lld, %lld], false)", (long long)locked.run.id,
				(long long)joined.run.id), 1);
	fx_close(&f);
}
END_TEST

/* What a removed run did is not known any more: nobody may take it for nothing. */
START_TEST(the_key_over_a_removed_grandchild_stays_taken)
{
	struct hp_claimed parent, child, grandchild;
	bool existed;

	open_fx();
	parent = own("ever", "k");
	child = own("ever", NULL);
	grandchild = own("short", NULL);
	fx_sql(&f, "insert into holdpoint.child (run_id, visit, n, child, status) values (%lld, 1, 1, %lld, 5), (%lld, 1, 1, %lld, 5)",
	       (long long)parent.run.id, (long long)child.run.id, (long long)child.run.id, (long long)grandchild.run.id);
	end_as(&grandchild, HP_FAILED, true);
	fx_sql(&f, "insert into holdpoint.history (run_id, rev, at, move, state, visit, phase, status, attempt, due_at, flags, outcome)"
	       " values (%lld, 100, 1, 3, 0, 1, 2, 1, 1, 0, 1, 0)", (long long)grandchild.run.id); /* it has charged a card */
	end_as(&child, HP_FAILED, false);
	steps("idle");
	ck_assert_int_eq(rows("history", grandchild.run.id), 0);
	ck_assert_int_gt(rows("history", child.run.id), 0);
	end_as(&parent, HP_FAILED, false);
	ck_assert_int_eq(fx_start(&f, "ever", "{}", "k", false, NULL, &existed), parent.run.id);
	ck_assert(existed);
	fx_close(&f);
}
END_TEST

/* Five runs in partition 0, a younger one in partition 1. */
static void two_partitions(struct hp_claimed c[5])
{
	for (int i = 0; i < 5; i++) {
		char key[8];

		snprintf(key, sizeof key, "k%d", i);
		c[i] = own("short", key);
	}
	fx_sql(&f, "select setval('holdpoint.run_id_seq', 1000000)");
	fx_sql(&f, "select holdpoint.ensure_partitions()");
	own("short", NULL);
}

START_TEST(few_that_stay_are_carried_over_and_the_partition_is_dropped)
{
	struct hp_claimed c[5], d;
	struct hp_transition t;
	PGconn *busy, *app;

	open_fx();
	app = fx_session(&f, "postgres"); /* an application that takes its time: run 1 */
	ck_assert_str_eq(fx_state(&f, app, "begin; select holdpoint.start('short')"), "");
	two_partitions(c);
	finish(&c[0], true);
	finish(&c[1], true);
	finish(&c[2], false);
	park(&c[3]);
	steps("swap");
	ck_assert_str_eq(step(), "swap"); /* not before it is through */
	ck_assert_str_eq(fx_state(&f, app, "commit"), "");
	PQfinish(app);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history_0"), 2 + 2 + 2 + 2 + 1 + 1); /* still the old one */
	/* meanwhile the world goes on: one that was live ends, another one moves */
	park(&c[4]);
	fx_sql(&f, "update holdpoint.timer set due_at = 1 where run_id = %lld", (long long)c[3].run.id);
	d = fx_claim(&f, f.store, f.engine, 1, &(int){ 0 })[0];
	finish(&d, false);
	/* somebody is in the middle of something: it is not waited for */
	busy = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, busy, "begin; select count(*) from holdpoint.history"), "");
	ck_assert_str_eq(step(), "swap");
	ck_assert_str_eq(fx_state(&f, busy, "rollback"), "");
	PQfinish(busy);
	steps("idle");
	ck_assert_int_eq(fx_int(&f, "select dropped from holdpoint.gc"), 1);
	ck_assert_str_eq(fx_sql(&f, "select string_agg(run_id || ':' || rev, ' ' order by run_id, rev) from holdpoint.history_0"),
			 "1:0 4:0 4:2 5:0 5:2 5:4 6:0 6:2");
	ck_assert_str_eq(fx_sql(&f, "select string_agg(run_id::text, ' ' order by run_id) from holdpoint.saved where run_id < 1000000"), "4 5");
	/* a partition like any other: rows arrive in it, and the engine may not change them */
	t = fx_from(&c[4].run, HP_MOVE_WOKEN, HP_PARK);
	fx_sql(&f, "update holdpoint.timer set due_at = 1 where run_id = %lld", (long long)c[4].run.id);
	d = fx_claim(&f, f.store, f.engine, 1, &(int){ 0 })[0];
	t = fx_from(&d.run, HP_MOVE_FINISHED, HP_FINISH);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history_0 where run_id = 6"), 3);
	busy = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, busy, "delete from holdpoint.history_0"), "42501");
	ck_assert_str_eq(fx_state(&f, busy, "delete from holdpoint.history"), "42501");
	PQfinish(busy);
	ck_assert_int_eq(fx_int(&f, "select count(*) from pg_class where relname ~ '_stay$'"), 0);
	fx_close(&f);
}
END_TEST

START_TEST(a_partition_that_nobody_needs_is_gone)
{
	struct hp_claimed c[5];
	bool existed;

	open_fx();
	two_partitions(c);
	for (int i = 0; i < 5; i++)
		finish(&c[i], true);
	steps("idle");
	ck_assert_str_eq(fx_sql(&f, "select coalesce(to_regclass('holdpoint.history_0')::text, 'gone')"), "gone");
	ck_assert_str_eq(fx_sql(&f, "select coalesce(to_regclass('holdpoint.saved_0')::text, 'gone')"), "gone");
	ck_assert_int_eq(fx_start(&f, "short", "{}", "k3", false, NULL, &existed), 4);
	ck_assert(existed);
	fx_sql(&f, "select holdpoint.ensure_partitions()");
	steps("idle"); /* and the next pass has nothing to do with it */
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_key"), 5);
	fx_close(&f);
}
END_TEST

START_TEST(messages_and_webhooks_have_their_time)
{
	open_fx();
	fx_door(&f, "send_event", "x", "{\"name\": \"a\", \"key\": \"1\", \"payload\": {}}", NULL);
	fx_door(&f, "send_event", "x", "{\"name\": \"a\", \"key\": \"2\", \"payload\": {}}", NULL);
	fx_sql(&f, "update holdpoint.mail set expires_at = 1 where key = '1'");
	fx_sql(&f, "insert into holdpoint.inbox values ('s', 'old', '', 1), ('s', 'new', '', holdpoint.now_us())");
	steps("idle");
	ck_assert_str_eq(fx_sql(&f, "select string_agg(key, ' ') from holdpoint.mail"), "2");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.mailbox"), 1);
	ck_assert_str_eq(fx_sql(&f, "select string_agg(event_id, ' ') from holdpoint.inbox"), "new");
	fx_close(&f);
}
END_TEST

START_TEST(two_engines_do_not_meet)
{
	PGconn *other;

	open_fx();
	other = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, other, "begin; select holdpoint.door_gc('x', '{}')"), "");
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.gc_step(true) ->> 'step'"), "busy");
	ck_assert_str_eq(fx_state(&f, other, "rollback"), "");
	PQfinish(other);
	fx_close(&f);
}
END_TEST

HP_SUITE("store retention", what_is_over_goes_with_all_it_has_but_its_key, what_a_parent_joins_meanwhile_stays,
	 the_key_over_a_removed_grandchild_stays_taken,
	 few_that_stay_are_carried_over_and_the_partition_is_dropped, a_partition_that_nobody_needs_is_gone,
	 messages_and_webhooks_have_their_time, two_engines_do_not_meet)
