/* Engines, leases and claims: clocks decide who may claim, never who may write. */
#include "contract.h"

static struct c_run many[300];

START_TEST(a_claim_raises_epoch_and_rev)
{
	struct c_started s = c_start("flow", "{}", NULL, false);
	struct c_run a = c_claim_one(), b;

	c_release(c_engine, &a);
	b = c_claim_one();
	ck_assert_int_eq(a.row.id, s.run);
	ck_assert_int_eq(a.row.epoch, 1);
	ck_assert_int_eq(b.row.epoch, 2);
	ck_assert_int_gt(b.row.rev, a.row.rev);
	ck_assert_str_ne(a.token, b.token);
	ck_assert_uint_eq(strlen(a.token), 64);
}
END_TEST

START_TEST(two_engines_never_own_one_run)
{
	int64_t other = c_register();
	bool seen[50] = { false };
	int64_t first = c_start("flow", "{}", NULL, false).run;
	int total = 0, n;

	for (int i = 1; i < 50; i++)
		c_start("flow", "{}", NULL, false);
	for (int turn = 0; (n = c_claim(turn & 1 ? other : c_engine, 7, many)) > 0; turn++)
		for (int i = 0; i < n; i++, total++) {
			ck_assert_int_lt(many[i].row.id - first, 50);
			ck_assert(!seen[many[i].row.id - first]);
			seen[many[i].row.id - first] = true;
		}
	ck_assert_int_eq(total, 50);
}
END_TEST

struct grab {
	bool done;
	int n;
	int64_t ids[64];
};

static void on_grab(void *arg, int64_t now, const struct hp_claimed *runs, int n,
		    const struct hp_error *err)
{
	struct grab *g = arg;

	(void)now;
	ck_assert_msg(!err, "%s", err ? err->message : "");
	for (int i = 0; i < n; i++)
		g->ids[i] = runs[i].run.id;
	g->n = n;
	g->done = true;
}

START_TEST(concurrent_claims_share_the_runs)
{
	int64_t other = c_register();
	struct grab a = { 0 }, b = { 0 };
	struct hp_store *s0 = the_driver->store(0), *s1 = the_driver->store(1);

	for (int i = 0; i < 40; i++)
		c_start("flow", "{}", NULL, false);
	s0->ops->claim(s0, c_engine, 64, on_grab, &a);
	s1->ops->claim(s1, other, 64, on_grab, &b);
	c_wait(&a.done);
	c_wait(&b.done);
	for (int i = 0; i < a.n; i++)
		for (int k = 0; k < b.n; k++)
			ck_assert_int_ne(a.ids[i], b.ids[k]);
	ck_assert_int_eq(a.n + b.n + c_claim(c_engine, 64, many), 40);
}
END_TEST

START_TEST(claims_are_limited_and_oldest_first)
{
	int64_t ids[3];

	for (int i = 0; i < 3; i++) {
		ids[i] = c_start("flow", "{}", NULL, false).run;
		c_advance(HP_SECOND);
	}
	ck_assert_int_eq(c_claim(c_engine, 1, many), 1);
	ck_assert_int_eq(many[0].row.id, ids[0]);
	c_advance(HP_SECOND);
	c_release(c_engine, &many[0]); /* now the youngest */
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(c_claim(c_engine, 1, many), 1);
		ck_assert_int_eq(many[0].row.id, ids[(i + 1) % 3]);
	}
	c_claim_none();
}
END_TEST

START_TEST(ready_runs_and_timers_do_not_starve_each_other)
{
	int64_t ids[4]; /* in the order of their times: ready, timer, ready, timer */
	struct c_run r;

	ids[0] = c_start("flow", "{}", NULL, false).run;
	for (int i = 1; i < 4; i += 2) {
		r = c_own();
		ids[i] = r.row.id;
		c_await(&r, S_CONFIRM, "nothing", c_now + i * HP_SECOND);
	}
	c_advance(2 * HP_SECOND);
	ids[2] = c_start("flow", "{}", NULL, false).run;
	c_advance(2 * HP_SECOND);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(c_claim(c_engine, 1, many), 1);
		ck_assert_int_eq(many[0].row.id, ids[i]);
	}
	c_claim_none();
}
END_TEST

START_TEST(a_timer_is_never_early)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_MINUTE);
	c_commit_ok(&r, &t);
	c_advance(HP_MINUTE - 1);
	c_claim_none();
	c_advance(1);
	r = c_claim_one();
	ck_assert_int_eq(r.row.due_at, c_now);
	ck_assert_int_eq(r.row.status, HP_WAITING);
	ck_assert_int_eq(r.row.phase, HP_PH_OPEN);
	c_claim_none(); /* once */
}
END_TEST

START_TEST(timers_come_in_their_order)
{
	struct c_run r[3];
	struct hp_transition t;
	const int64_t after[3] = { 30, 10, 20 };

	for (int i = 0; i < 3; i++) {
		r[i] = c_own();
		c_begin(&t, &r[i]);
		c_park(&t, S_PAUSE, c_now + after[i] * HP_SECOND);
		c_commit_ok(&r[i], &t);
	}
	c_advance(HP_MINUTE);
	ck_assert_int_eq(c_claim(c_engine, 1, many), 1);
	ck_assert_int_eq(many[0].row.id, r[1].row.id);
	ck_assert_int_eq(c_claim(c_engine, 1, many), 1);
	ck_assert_int_eq(many[0].row.id, r[2].row.id);
	ck_assert_int_eq(c_claim_one().row.id, r[0].row.id);
}
END_TEST

START_TEST(a_timer_that_is_due_when_it_parks_wakes_at_once)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now);
	c_commit_ok(&r, &t);
	ck_assert_int_eq(c_claim_one().row.id, r.row.id);
}
END_TEST

START_TEST(parked_and_finished_runs_are_not_claimed)
{
	struct c_run a = c_own(), b = c_own(), c = c_own();
	struct hp_transition t;

	c_await(&a, S_CONFIRM, "re_1", 0);
	c_held(&b);
	c_begin(&t, &c);
	c_finish(&t, HP_SUCCEEDED);
	c_commit_ok(&c, &t);
	c_advance(365 * HP_DAY);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	c_claim_none();
}
END_TEST

START_TEST(claims_count_up_until_a_commit)
{
	struct c_run r;
	struct hp_transition t;

	c_start("flow", "{}", NULL, false);
	for (int i = 1; i <= 3; i++) {
		int64_t mine = c_register();

		ck_assert_int_eq(c_claim(mine, 1, &r), 1);
		ck_assert_int_eq(r.row.claims, i);
		c_stop(mine);
	}
	r = c_claim_one();
	ck_assert_int_eq(r.row.claims, 4);
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_commit_ok(&r, &t);
	c_stop(c_engine);
	c_engine = c_register();
	ck_assert_int_eq(c_claim_one().row.claims, 1);
}
END_TEST

START_TEST(giving_back_does_not_count_as_stalling)
{
	struct c_run r;

	c_start("flow", "{}", NULL, false);
	for (int i = 0; i < 3; i++) {
		r = c_claim_one();
		ck_assert_int_eq(r.row.claims, 1);
		c_release(c_engine, &r);
	}
}
END_TEST

START_TEST(a_reload_shows_the_run_as_it_is_without_raising_the_epoch)
{
	struct c_run r = c_own(), again;
	struct hp_transition t;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_save(&t, "x", "{\"n\":1}");
	c_commit_ok(&r, &t);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &again));
	ck_assert_int_eq(again.row.epoch, r.row.epoch);
	ck_assert_int_eq(again.row.rev, r.row.rev);
	ck_assert_int_eq(again.row.state, S_LOOK);
	ck_assert_str_eq(again.token, r.token);
	ck_assert_ptr_nonnull(strstr(again.saved, "\"x\""));
}
END_TEST

START_TEST(a_reload_of_what_is_no_longer_ours_gives_nothing)
{
	struct c_run r = c_own(), x;
	int64_t other = c_register();

	ck_assert(!c_reload(other, r.row.id, r.row.epoch, &x));
	ck_assert(!c_reload(c_engine, r.row.id, r.row.epoch + 1, &x));
	ck_assert(!c_reload(c_engine, r.row.id + 1000, 1, &x));
	c_release(c_engine, &r);
	ck_assert(!c_reload(c_engine, r.row.id, r.row.epoch, &x));
}
END_TEST

START_TEST(who_gave_a_run_back_is_fenced)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_release(c_engine, &r);
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert_int_eq(c_claim_one().row.state, S_REFUND);
}
END_TEST

START_TEST(a_release_with_a_stale_epoch_does_nothing)
{
	struct c_run r = c_own(), stale = r;

	stale.row.epoch--;
	c_release(c_engine, &stale);
	c_claim_none();
	c_release(c_register(), &r); /* not theirs */
	c_claim_none();
}
END_TEST

START_TEST(a_release_that_is_repeated_changes_nothing)
{
	struct c_run r = c_own(), again;

	c_release(c_engine, &r);
	c_release(c_engine, &r); /* its answer was lost */
	again = c_claim_one();
	ck_assert_int_eq(again.row.rev, r.row.rev + 2); /* one of them, and the claim */
	ck_assert_int_eq(again.row.epoch, r.row.epoch + 1);
}
END_TEST

START_TEST(a_lease_is_kept_by_heartbeats)
{
	struct c_run r = c_own();
	int64_t other = c_register();

	for (int i = 0; i < 5; i++) {
		c_advance(LEASE - 1);
		ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
		ck_assert_int_eq(c_heartbeat(other), HP_OK);
	}
	ck_assert_int_eq(c_claim(other, 4, many), 0);
	(void)r;
}
END_TEST

START_TEST(runs_of_a_dead_engine_are_claimable_only_after_its_lease)
{
	struct c_run r = c_own();
	int64_t other = c_register();

	c_advance(LEASE);
	ck_assert_int_eq(c_heartbeat(other), HP_OK);
	ck_assert_int_eq(c_claim(other, 4, many), 0);
	c_advance(1);
	ck_assert_int_eq(c_heartbeat(other), HP_OK);
	ck_assert_int_eq(c_claim(other, 4, many), 1);
	ck_assert_int_eq(many[0].row.id, r.row.id);
	ck_assert_int_eq(many[0].row.epoch, r.row.epoch + 1);
}
END_TEST

/* With long leases the next heartbeat may be seconds away; a look for work is not. */
START_TEST(who_looks_for_work_takes_over_from_the_dead)
{
	struct c_run r = c_own();
	int64_t other;

	c_advance(LEASE / 2);
	other = c_register();
	c_advance(LEASE / 2);
	ck_assert_int_eq(c_claim(other, 4, many), 0);
	c_advance(1);
	ck_assert_int_eq(c_claim(other, 4, many), 1);
	ck_assert_int_eq(many[0].row.id, r.row.id);
	ck_assert_int_eq(many[0].row.epoch, r.row.epoch + 1);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_E_CONFLICT);
}
END_TEST

START_TEST(who_is_late_takes_nothing_from_others)
{
	int64_t other = c_register();

	c_own();
	c_advance(LEASE + 1);
	ck_assert_int_eq(c_claim(other, 4, many), 0);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK); /* it may come back */
	ck_assert_int_eq(c_claim(c_engine, 4, many), 0);
	ck_assert_int_eq(c_heartbeat(other), HP_E_CONFLICT); /* whose lease is good has marked the other */
}
END_TEST

/* The lease of c_engine runs out and `other` marks it dead. */
static int64_t bury(void)
{
	int64_t other = c_register();

	c_advance(LEASE / 2);
	ck_assert_int_eq(c_heartbeat(other), HP_OK);
	c_advance(LEASE / 2 + 1);
	ck_assert_int_eq(c_heartbeat(other), HP_OK);
	return other;
}

START_TEST(a_dead_engine_learns_it_from_its_heartbeat)
{
	int64_t other = bury();

	ck_assert_int_eq(c_heartbeat(c_engine), HP_E_CONFLICT);
	ck_assert_int_eq(c_heartbeat(other), HP_OK);
	c_start("flow", "{}", NULL, false);
	ck_assert_int_le(c_claim(c_engine, 4, many), 0); /* and claims nothing */
	ck_assert_int_eq(c_claim(other, 4, many), 1);
}
END_TEST

START_TEST(a_zombie_may_commit_before_the_run_is_claimed_again)
{
	struct c_run r = c_own();
	struct hp_transition t;
	int64_t other = bury();

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_commit_ok(&r, &t);
	ck_assert_int_eq(c_claim(other, 4, many), 1);
	ck_assert_int_eq(many[0].row.state, S_LOOK);
}
END_TEST

START_TEST(a_zombie_is_fenced_after_the_run_was_claimed_again)
{
	struct c_run r = c_own();
	struct hp_transition t;
	int64_t other = bury();

	ck_assert_int_eq(c_claim(other, 4, many), 1);
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(other, r.row.id, many[0].row.epoch, &r));
	ck_assert_int_eq(r.row.state, S_REFUND);
	ck_assert_int_eq(r.row.rev, many[0].row.rev);
}
END_TEST

START_TEST(a_zombie_that_parks_takes_the_run_off_the_ready_list)
{
	struct c_run r = c_own();
	int64_t other = bury();

	c_await(&r, S_CONFIRM, "re_1", 0);
	ck_assert_int_eq(c_claim(other, 4, many), 0);
}
END_TEST

START_TEST(a_stopped_engine_leaves_its_runs_ready)
{
	struct c_run r = c_own();
	int64_t other = c_register();

	c_stop(c_engine);
	ck_assert_int_eq(c_claim(other, 4, many), 1);
	ck_assert_int_eq(many[0].row.id, r.row.id);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_E_CONFLICT);
}
END_TEST

TCase *contract_claims(void)
{
	TCase *t = tcase_create("engines and claims");

	tcase_add_test(t, a_claim_raises_epoch_and_rev);
	tcase_add_test(t, two_engines_never_own_one_run);
	tcase_add_test(t, concurrent_claims_share_the_runs);
	tcase_add_test(t, claims_are_limited_and_oldest_first);
	tcase_add_test(t, ready_runs_and_timers_do_not_starve_each_other);
	tcase_add_test(t, a_timer_is_never_early);
	tcase_add_test(t, timers_come_in_their_order);
	tcase_add_test(t, a_timer_that_is_due_when_it_parks_wakes_at_once);
	tcase_add_test(t, parked_and_finished_runs_are_not_claimed);
	tcase_add_test(t, claims_count_up_until_a_commit);
	tcase_add_test(t, giving_back_does_not_count_as_stalling);
	tcase_add_test(t, a_reload_shows_the_run_as_it_is_without_raising_the_epoch);
	tcase_add_test(t, a_reload_of_what_is_no_longer_ours_gives_nothing);
	tcase_add_test(t, who_gave_a_run_back_is_fenced);
	tcase_add_test(t, a_release_with_a_stale_epoch_does_nothing);
	tcase_add_test(t, a_release_that_is_repeated_changes_nothing);
	tcase_add_test(t, a_lease_is_kept_by_heartbeats);
	tcase_add_test(t, runs_of_a_dead_engine_are_claimable_only_after_its_lease);
	tcase_add_test(t, who_looks_for_work_takes_over_from_the_dead);
	tcase_add_test(t, who_is_late_takes_nothing_from_others);
	tcase_add_test(t, a_dead_engine_learns_it_from_its_heartbeat);
	tcase_add_test(t, a_zombie_may_commit_before_the_run_is_claimed_again);
	tcase_add_test(t, a_zombie_is_fenced_after_the_run_was_claimed_again);
	tcase_add_test(t, a_zombie_that_parks_takes_the_run_off_the_ready_list);
	tcase_add_test(t, a_stopped_engine_leaves_its_runs_ready);
	return t;
}
