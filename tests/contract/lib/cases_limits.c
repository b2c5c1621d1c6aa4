/* Limits of starts: exclusive runs, so many at once, so many in a time, turns between
 * keys, priority. A run that may not start yet costs the claim nothing, and starts by
 * itself when the one before it ends. */
#include "contract.h"

#include <stdio.h>

#define EXCLUSIVE "{'overlap':'wait','exclusive':['user:',['user']]}"
#define SKIP "{'overlap':'skip','exclusive':['user:',['user']]}"
#define TWO "{'concurrency':{'max':2,'per':[['user']]}}"
#define RATE "{'rate':{'max':2,'per_us':60000000,'burst':1,'per':[]}}"
#define FAIR "{'fair':[['user']]}"
#define TURNS 64

static void deploy(const char *limits)
{
	static uint8_t tag = 100;

	c_deploy_limited("few", tag++, limits);
}

static int64_t start(const char *user)
{
	char input[64];
	struct c_started s;

	snprintf(input, sizeof input, "{\"user\":\"%s\"}", user);
	s = c_start("few", input, NULL, false);
	ck_assert_msg(s.code == HP_OK, "%s", s.message);
	ck_assert(!s.existed);
	return s.run;
}

static void finish(struct c_run *r)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_finish(&t, HP_SUCCEEDED);
	c_commit_ok(r, &t);
}

START_TEST(one_at_a_time_in_order)
{
	int64_t first, second, third, other;
	struct c_run a, b;

	deploy(EXCLUSIVE);
	first = start("ann");
	c_advance(1);
	second = start("ann");
	c_advance(1);
	third = start("ann");
	other = start("bob");
	a = c_claim_one_of(first, other);
	ck_assert_int_eq(a.row.id, first);
	c_assert_why(second, "exclusive", "\"user:ann\" belongs to run 1; 0 before it");
	c_assert_why(third, "exclusive", "; 1 before it");
	finish(&a);
	b = c_claim_one();
	ck_assert_int_eq(b.row.id, second);
	finish(&b);
	b = c_claim_one();
	ck_assert_int_eq(b.row.id, third);
	finish(&b);
	c_claim_none();
}
END_TEST

START_TEST(an_engine_that_starts_does_not_own_what_waits)
{
	struct c_started s;
	struct c_run a;
	int64_t first;

	deploy(EXCLUSIVE);
	first = start("ann");
	s = c_start("few", "{\"user\":\"ann\"}", NULL, true);
	ck_assert(!s.existed && !s.claimed);
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, first);
	finish(&a);
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, s.run);
	ck_assert_int_eq(a.row.epoch, 1);
	s = c_start("few", "{\"user\":\"eve\"}", NULL, true);
	ck_assert(s.claimed);
}
END_TEST

START_TEST(held_runs_keep_what_they_have)
{
	int64_t first, second;
	struct c_run a;

	deploy(EXCLUSIVE);
	first = start("ann");
	second = start("ann");
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, first);
	c_held(&a);
	c_claim_none();
	json_decref(c_door_ok("operate", "alice", "{'run':%lld,'action':'give_up','reason':'x'}", (long long)first));
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, first);
	finish(&a);
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, second);
}
END_TEST

START_TEST(who_waits_can_be_cancelled)
{
	int64_t first, second, third;
	struct c_run a, b;

	deploy(EXCLUSIVE);
	first = start("ann");
	second = start("ann");
	third = start("ann");
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, first);
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'x'}", (long long)second));
	b = c_claim_one();
	ck_assert_int_eq(b.row.id, second);
	ck_assert(b.row.cancel);
	finish(&b);
	c_claim_none(); /* it had nothing to give on */
	c_assert_why(third, "exclusive", "; 0 before it");
	finish(&a);
	b = c_claim_one();
	ck_assert_int_eq(b.row.id, third);
}
END_TEST

START_TEST(skip_joins_the_one_that_runs)
{
	struct c_started s;
	int64_t first;
	struct c_run a;

	deploy(SKIP);
	first = start("ann");
	s = c_start("few", "{\"user\":\"ann\"}", "a key", false);
	ck_assert(s.existed);
	ck_assert_int_eq(s.run, first);
	a = c_claim_one();
	finish(&a);
	s = c_start("few", "{\"user\":\"ann\"}", "a key", false); /* the key was not used up */
	ck_assert(!s.existed);
}
END_TEST

START_TEST(so_many_at_once_for_each_key)
{
	struct c_run r[8];
	int64_t last;
	int n;

	deploy(TWO);
	for (int i = 0; i < 5; i++)
		last = start("ann");
	start("bob");
	n = c_claim(c_engine, 8, r);
	ck_assert_int_eq(n, 3);
	ck_assert_int_eq(r[0].row.id, 1);
	ck_assert_int_eq(r[1].row.id, 2);
	ck_assert_int_eq(r[2].row.id, 6);
	c_assert_why(last, "concurrency", "2 of 2 runs of few for ann are going; 2 before it");
	finish(&r[1]);
	r[1] = c_claim_one();
	ck_assert_int_eq(r[1].row.id, 3);
	finish(&r[0]);
	finish(&r[1]);
	ck_assert_int_eq(c_claim(c_engine, 8, r), 2);
}
END_TEST

START_TEST(so_many_starts_in_a_time)
{
	struct c_run r[4];
	int64_t last;

	deploy(RATE);
	start("ann");
	start("bob");
	last = start("cis");
	ck_assert_int_eq(c_claim(c_engine, 4, r), 1);
	c_assert_why(last, "rate", "starts at 2023-11-14 22:14:20 UTC");
	c_advance(30 * HP_SECOND - 1);
	c_claim_none();
	c_advance(1);
	ck_assert_int_eq(c_claim_one().row.id, 2);
	c_advance(30 * HP_SECOND);
	ck_assert_int_eq(c_claim_one().row.id, 3);
}
END_TEST

START_TEST(a_key_with_many_does_not_starve_others)
{
	struct c_run r[TURNS + 8];
	struct hp_transition t;
	int64_t bob;
	int n;

	deploy(FAIR);
	for (int i = 0; i < TURNS + 20; i++)
		start("ann");
	c_advance(1);
	bob = start("bob");
	n = c_claim(c_engine, TURNS + 8, r);
	ck_assert_int_eq(n, TURNS + 1);
	ck_assert_int_eq(r[n - 1].row.id, bob);
	c_assert_why(TURNS + 2, "turn", "; 1 before it");
	/* the first transition gives the turn to the next; the run itself goes on */
	c_begin(&t, &r[0]);
	c_enter(&t, S_CONFIRM);
	t.annexes[t.n_annexes++] = (struct hp_annex){ "turn", hp_bytes_of("{}") };
	c_commit_ok(&r[0], &t);
	ck_assert_int_eq(c_claim_one().row.id, TURNS + 1);
	finish(&r[0]);
	c_claim_none();
	finish(&r[1]); /* one that ends at once gives it back, too */
	ck_assert_int_eq(c_claim_one().row.id, TURNS + 2);
}
END_TEST

START_TEST(priority_is_worth_minutes)
{
	struct c_run r[4];

	deploy("{'priority':[['user']]}");
	start("0");
	c_advance(HP_MINUTE);
	start("0");
	start("2");
	start("what");
	ck_assert_int_eq(c_claim(c_engine, 1, r), 1);
	ck_assert_int_eq(r[0].row.id, 3);
	ck_assert_int_eq(c_claim(c_engine, 1, r), 1);
	ck_assert_int_eq(r[0].row.id, 1);
	ck_assert_int_eq(c_claim(c_engine, 4, r), 2);
}
END_TEST

START_TEST(priority_orders_the_queue)
{
	struct c_run a;

	deploy("{'concurrency':{'max':1,'per':[]},'priority':[['user']]}");
	start("0");
	start("1");
	start("9");
	a = c_claim_one();
	finish(&a);
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, 3);
	finish(&a);
	ck_assert_int_eq(c_claim_one().row.id, 2);
}
END_TEST

START_TEST(from_one_queue_into_the_next)
{
	struct c_run a, b;
	int64_t third;

	deploy("{'overlap':'wait','exclusive':[['user']],'concurrency':{'max':2,'per':[]}}");
	start("ann");
	start("ann");
	third = start("bob");
	start("cis");
	a = c_claim_one_of(1, third);
	c_assert_why(4, "concurrency", "2 of 2 runs of few are going; 0 before it");
	finish(&a); /* ann's second leaves the first queue, and is older than who stands in the next */
	b = c_claim_one();
	ck_assert_int_eq(b.row.id, 2);
	finish(&b);
	ck_assert_int_eq(c_claim_one().row.id, 4);
}
END_TEST

static void pause_and_resume(int64_t run)
{
	json_decref(c_door_ok("pause", "alice", "{'run':%lld,'reason':'x'}", (long long)run));
	c_advance(1);
	json_decref(c_door_ok("resume", "alice", "{'run':%lld}", (long long)run));
}

/* A run that comes again has its instant already. */
START_TEST(a_rate_gives_each_run_one_instant)
{
	deploy(RATE);
	start("ann");
	start("bob");
	start("cis");
	pause_and_resume(1);
	ck_assert_int_eq(c_claim_one().row.id, 1);
	pause_and_resume(2);
	c_assert_why(2, "rate", "starts at 2023-11-14 22:13:50 UTC");
	c_advance(30 * HP_SECOND - 2);
	ck_assert_int_eq(c_claim_one().row.id, 2);
	c_advance(30 * HP_SECOND);
	ck_assert_int_eq(c_claim_one().row.id, 3);
}
END_TEST

START_TEST(a_rate_behind_a_queue_gives_each_run_one_instant)
{
	struct c_run a;

	deploy("{'overlap':'wait','exclusive':[['user']],'rate':{'max':2,'per_us':60000000,'burst':1,'per':[]}}");
	start("ann");
	start("ann");
	pause_and_resume(1);
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, 1);
	finish(&a);
	c_claim_none();
	c_assert_why(2, "rate", "starts at 2023-11-14 22:13:50 UTC");
	pause_and_resume(2);
	c_assert_why(2, "rate", "starts at 2023-11-14 22:13:50 UTC");
	c_advance(30 * HP_SECOND - 3);
	c_claim_none();
	c_advance(1);
	a = c_claim_one();
	ck_assert_int_eq(a.row.id, 2);
	ck_assert_int_eq(a.row.due_at, c_now);
	finish(&a);
	start("ann"); /* what it had of the limits is gone with it */
	c_assert_why(3, "rate", "starts at 2023-11-14 22:14:20 UTC");
}
END_TEST

/* It stood in its place in the queue: on the ready list it does not go before others. */
START_TEST(who_leaves_a_queue_is_ready_as_of_now)
{
	struct c_run a;

	deploy(EXCLUSIVE);
	start("ann");
	start("ann");
	a = c_claim_one();
	c_advance(1);
	start("bob");
	c_advance(1);
	finish(&a);
	ck_assert_int_eq(c_claim(c_engine, 1, &a), 1);
	ck_assert_int_eq(a.row.id, 3);
	ck_assert_int_eq(c_claim_one().row.id, 2);
}
END_TEST

TCase *contract_limits(void)
{
	TCase *t = tcase_create("limits");

	tcase_add_test(t, one_at_a_time_in_order);
	tcase_add_test(t, an_engine_that_starts_does_not_own_what_waits);
	tcase_add_test(t, held_runs_keep_what_they_have);
	tcase_add_test(t, who_waits_can_be_cancelled);
	tcase_add_test(t, skip_joins_the_one_that_runs);
	tcase_add_test(t, so_many_at_once_for_each_key);
	tcase_add_test(t, so_many_starts_in_a_time);
	tcase_add_test(t, a_key_with_many_does_not_starve_others);
	tcase_add_test(t, priority_is_worth_minutes);
	tcase_add_test(t, priority_orders_the_queue);
	tcase_add_test(t, from_one_queue_into_the_next);
	tcase_add_test(t, a_rate_gives_each_run_one_instant);
	tcase_add_test(t, a_rate_behind_a_queue_gives_each_run_one_instant);
	tcase_add_test(t, who_leaves_a_queue_is_ready_as_of_now);
	return t;
}
