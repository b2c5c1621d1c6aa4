/* Limits of calls: budgets, places and rates are given with the admission, once for each
 * visit; those who wait come back one after the other; what was not used is given on. */
#include "contract.h"

#include <stdio.h>

#define SMS "{'sms':{'max':3,'per_us':3600000000,'bucket':false},'cents':{'max':100,'per_us':3600000000,'bucket':true}}"
#define NEXT_HOUR (T0 / HP_HOUR * HP_HOUR + HP_HOUR)
#define BUDGET(key, amount, over) \
	"{'demands':[{'kind':'budget','name':'sms','key':'" key "','amount':" amount ",'over':'" over "'}]}"
#define ONE BUDGET("", "1", "park")
#define SLOTS "{'demands':[{'kind':'slots','name':'connector:bank','max':2}]}"
#define RATE "{'demands':[{'kind':'rate','name':'connector:bank','max':2,'per_us':1000000,'burst':1}]}"

static void deploy(void)
{
	c_deploy_budgets("spends", 200, SMS);
}

static const char *json(const char *text)
{
	static char copy[4][512];
	static int at;
	char *to = copy[at++ % 4];

	snprintf(to, sizeof copy[0], "%s", text);
	for (char *p = to; *p; p++)
		if (*p == '\'')
			*p = '"';
	return to;
}

static void annex(struct hp_transition *t, const char *doc)
{
	c_annex(t, "limits", json(doc));
}

static char gated[HP_CODE_MAX]; /* what the last admission was refused with */

/* Admits with these demands. True: it may send. */
static bool admit(struct c_run *r, const char *demands)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_admit(&t, "{}", "key", false);
	annex(&t, demands);
	snprintf(gated, sizeof gated, "%s", c_commit_ok(r, &t).gated);
	return gated[0] == 0;
}

static void leave(struct c_run *r, const char *end)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_enter(&t, S_LOOK);
	annex(&t, end);
	c_commit_ok(r, &t);
}

START_TEST(a_window_lets_its_limit_in_and_the_rest_waits_in_order)
{
	struct c_run r[9], back[9];

	deploy();
	for (int i = 0; i < 8; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], ONE), i < 3);
		c_advance(1);
	}
	c_claim_none();
	c_assert_why(r[3].row.id, "budget", "for the budget sms: all 3 are used until 2023-11-14 23:00:00 UTC; 0 before it");
	c_assert_why(r[5].row.id, "budget", "; 2 before it");
	c_assert_why(r[6].row.id, "budget", "until 2023-11-15 00:00:00 UTC; 3 before it");
	c_advance(NEXT_HOUR - 1 - c_now);
	c_claim_none();
	c_advance(1);
	ck_assert_int_eq(c_claim(c_engine, 9, back), 3);
	r[8] = c_own();
	ck_assert(!admit(&r[8], ONE)); /* nobody takes what is promised to others */
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(back[i].row.id, r[3 + i].row.id);
		ck_assert_int_eq(back[i].row.phase, HP_PH_GATED);
		ck_assert_int_eq(back[i].row.attempt, 0);
		ck_assert(admit(&back[i], ONE));
	}
	c_advance(HP_HOUR);
	ck_assert_int_eq(c_claim(c_engine, 9, back), 3);
	ck_assert_int_eq(back[2].row.id, r[8].row.id);
}
END_TEST

START_TEST(a_visit_pays_once)
{
	struct c_run r;
	struct hp_transition t;

	deploy();
	r = c_own();
	for (int i = 0; i < 5; i++) { /* retries, re-sends after a crash, … */
		ck_assert(admit(&r, BUDGET("", "2", "fail")));
		ck_assert_int_eq(r.row.attempt, i + 1);
	}
	/* another visit pays again */
	c_begin(&t, &r);
	c_enter(&t, S_CONFIRM);
	annex(&t, "{'end':'keep'}");
	c_commit_ok(&r, &t);
	ck_assert(!admit(&r, BUDGET("", "2", "fail")));
}
END_TEST

START_TEST(who_does_not_wait_fails_at_once)
{
	struct c_run r[4], back;

	deploy();
	for (int i = 0; i < 3; i++) {
		r[i] = c_own();
		ck_assert(admit(&r[i], BUDGET("", "1", "fail")));
	}
	r[3] = c_own();
	ck_assert(!admit(&r[3], BUDGET("", "1", "fail")));
	ck_assert_str_eq(gated, "over_budget");
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[3].row.id);
	ck_assert_int_eq(back.row.phase, HP_PH_GATED);
	ck_assert_str_eq(back.row.code, "over_budget");
	/* more than there ever is */
	r[3] = c_own();
	ck_assert(!admit(&r[3], BUDGET("big", "4", "park")));
	ck_assert_str_eq(gated, "over_budget");
}
END_TEST

START_TEST(each_key_has_its_own)
{
	struct c_run a, b;

	deploy();
	a = c_own();
	b = c_own();
	ck_assert(admit(&a, BUDGET("ann", "3", "park")));
	ck_assert(admit(&b, BUDGET("bob", "3", "park")));
	b = c_own();
	ck_assert(!admit(&b, BUDGET("bob", "1", "park")));
}
END_TEST

START_TEST(what_surely_was_not_used_is_given_on)
{
	struct c_run r[6], back[4];

	deploy();
	for (int i = 0; i < 6; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], ONE), i < 3);
	}
	leave(&r[0], "{'end':'keep'}"); /* used, or maybe used */
	c_claim_none();
	leave(&r[1], "{'end':'return'}");
	back[0] = c_claim_one(); /* the first who waits need not */
	ck_assert_int_eq(back[0].row.id, r[3].row.id);
	ck_assert(admit(&back[0], ONE));
	c_claim_none();
	leave(&back[0], "{'end':'return'}");
	leave(&r[2], "{'end':'return'}");
	ck_assert_int_eq(c_claim(c_engine, 4, back), 2);
	ck_assert(admit(&back[0], ONE));
	ck_assert(admit(&back[1], ONE));
	r[0] = c_own(); /* nobody waits for the next hour any more, and this one is used up */
	ck_assert(!admit(&r[0], BUDGET("", "1", "fail")));
	r[0] = c_own();
	ck_assert(!admit(&r[0], BUDGET("", "3", "park")));
	c_advance(NEXT_HOUR - c_now);
	back[0] = c_claim_one_of(r[0].row.id - 1, r[0].row.id);
}
END_TEST

START_TEST(given_back_without_anybody_waiting)
{
	struct c_run r;

	deploy();
	r = c_own();
	ck_assert(admit(&r, BUDGET("", "3", "park")));
	leave(&r, "{'end':'return'}");
	r = c_own();
	ck_assert(admit(&r, BUDGET("", "3", "fail")));
}
END_TEST

START_TEST(one_that_waits_and_is_cancelled_leaves_its_place)
{
	struct c_run r[5], back;
	struct hp_transition t;

	deploy();
	for (int i = 0; i < 5; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], BUDGET("", "3", "park")), i == 0);
	}
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'x'}", (long long)r[1].row.id));
	back = c_claim_one();
	c_begin(&t, &back);
	c_finish(&t, HP_CANCELLED);
	annex(&t, "{'end':'return'}");
	c_commit_ok(&back, &t);
	/* the next one moves up, but the present hour is full as before */
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[2].row.id);
	ck_assert(!admit(&back, BUDGET("", "3", "park")));
	c_assert_why(back.row.id, "budget", "until 2023-11-14 23:00:00 UTC; 0 before it");
	c_advance(NEXT_HOUR - c_now);
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[2].row.id);
	ck_assert(admit(&back, BUDGET("", "3", "park")));
	leave(&r[0], "{'end':'return'}"); /* of an hour that is over: nothing for anybody */
	c_claim_none();
}
END_TEST

/* When all who waited have moved up, there is no queue that somebody new would stand behind. */
START_TEST(a_queue_that_is_gone_is_forgotten)
{
	struct c_run r[4], back[3];

	deploy();
	for (int i = 0; i < 4; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], ONE), i < 3);
	}
	leave(&r[0], "{'end':'return'}");
	back[0] = c_claim_one();
	ck_assert(admit(&back[0], ONE));
	leave(&r[1], "{'end':'return'}");
	r[0] = c_own();
	ck_assert(admit(&r[0], BUDGET("", "1", "fail")));
	r[0] = c_own();
	ck_assert(!admit(&r[0], BUDGET("", "1", "fail")));
}
END_TEST

START_TEST(a_held_visit_keeps_what_it_paid)
{
	struct c_run r, other;
	struct hp_transition t;

	deploy();
	r = c_own();
	ck_assert(admit(&r, BUDGET("", "3", "park")));
	c_begin(&t, &r);
	c_hold(&t, "in_doubt");
	annex(&t, "{'end':'slots'}");
	c_commit_ok(&r, &t);
	other = c_own();
	ck_assert(!admit(&other, BUDGET("", "1", "fail")));
	json_decref(c_door_ok("operate", "alice", "{'run':%lld,'action':'retry','reason':'x'}", (long long)r.row.id));
	c_claim(c_engine, 2, (struct c_run[2]){ { .row.id = 0 } });
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch + 1, &r));
	ck_assert(admit(&r, BUDGET("", "3", "fail")));
}
END_TEST

START_TEST(a_fenced_worker_takes_nothing)
{
	struct c_run r, stale, other;
	struct hp_transition t;

	deploy();
	r = stale = c_own();
	c_begin(&t, &r);
	c_enter(&t, S_CONFIRM);
	c_commit_ok(&r, &t);
	c_begin(&t, &stale);
	c_admit(&t, "{}", "key", false);
	annex(&t, BUDGET("", "3", "park"));
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	other = c_own();
	ck_assert(admit(&other, BUDGET("", "3", "fail")));
	/* and gives nothing back */
	stale = other;
	leave(&other, "{'end':'keep'}");
	c_begin(&t, &stale);
	c_enter(&t, S_LOOK);
	annex(&t, "{'end':'return'}");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	other = c_own();
	ck_assert(!admit(&other, BUDGET("", "1", "fail")));
}
END_TEST

START_TEST(a_bucket_fills_evenly)
{
	static const char cents[] = "{'demands':[{'kind':'budget','name':'cents','amount':60,'over':'park'}]}";
	struct c_run r[3], back;

	deploy();
	for (int i = 0; i < 3; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], cents), i < 1);
	}
	c_advance(HP_HOUR / 5 - 1); /* 20 of 100 */
	c_claim_none();
	c_advance(1);
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[1].row.id);
	ck_assert(admit(&back, cents));
	c_advance(HP_HOUR * 6 / 10);
	ck_assert_int_eq(c_claim_one().row.id, r[2].row.id);
}
END_TEST

START_TEST(places_are_held_until_the_outcome)
{
	struct c_run r[5], back[3];

	deploy();
	for (int i = 0; i < 5; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], SLOTS), i < 2);
		c_advance(1);
	}
	c_claim_none();
	c_assert_why(r[3].row.id, "concurrency", "for a place: 2 of 2 calls of connector:bank are going; 1 before it");
	ck_assert(admit(&r[0], SLOTS)); /* again: it has its place */
	leave(&r[0], "{'end':'keep'}");
	back[0] = c_claim_one();
	ck_assert_int_eq(back[0].row.id, r[2].row.id);
	ck_assert(admit(&back[0], SLOTS));
	leave(&r[1], "{'end':'keep'}");
	leave(&back[0], "{'end':'keep'}");
	ck_assert_int_eq(c_claim(c_engine, 3, back), 2);
	ck_assert(admit(&back[0], SLOTS));
	r[0] = c_own();
	ck_assert(!admit(&r[0], SLOTS)); /* its place is kept for the one that was called */
	ck_assert(admit(&back[1], SLOTS));
}
END_TEST

/* Who stood in the queue goes first, and who asks in the same commit gets what is left. */
START_TEST(places_that_are_left_and_asked_for_in_one_commit)
{
	struct hp_transition t[3];
	const struct hp_transition *p[3] = { &t[0], &t[1], &t[2] };
	struct c_result res[3];
	struct c_run r[4], back;

	deploy();
	for (int i = 0; i < 4; i++) {
		r[i] = c_own();
		c_own(); /* runs of one connection have one transaction: those with odd ids here */
	}
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(admit(&r[i], SLOTS), i < 2);
	for (int i = 0; i < 2; i++) {
		c_begin(&t[i], &r[i]);
		c_enter(&t[i], S_LOOK);
		annex(&t[i], "{'end':'keep'}");
	}
	c_begin(&t[2], &r[3]);
	c_admit(&t[2], "{}", "key", false);
	annex(&t[2], SLOTS);
	c_commit_many(p, 3, res);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(res[i].outcome, HP_COMMIT_OK);
	ck_assert_str_eq(res[2].gated, "");
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[2].row.id);
	ck_assert(admit(&back, SLOTS));
	back = c_own();
	ck_assert(!admit(&back, SLOTS));
}
END_TEST

/* The place of a worker that died is its run's, and is found by it again. */
START_TEST(a_place_belongs_to_the_run)
{
	struct c_run r, other[2], again;

	deploy();
	r = c_own();
	other[0] = c_own();
	ck_assert(admit(&r, SLOTS));
	ck_assert(admit(&other[0], SLOTS));
	c_stop(c_engine);
	c_engine = c_register();
	ck_assert_int_eq(c_claim(c_engine, 1, &again), 1);
	ck_assert_int_eq(again.row.id, r.row.id);
	ck_assert(admit(&again, SLOTS));
	leave(&again, "{'end':'keep'}");
	ck_assert_int_eq(c_claim(c_engine, 1, other), 1);
	ck_assert(admit(other, SLOTS));
	again = c_own();
	ck_assert(admit(&again, SLOTS));
	again = c_own();
	ck_assert(!admit(&again, SLOTS));
}
END_TEST

START_TEST(one_who_waits_for_a_place_may_go_away)
{
	struct c_run r[4], back;
	struct hp_transition t;

	deploy();
	for (int i = 0; i < 4; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], SLOTS), i < 2);
	}
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'x'}", (long long)r[2].row.id));
	back = c_claim_one();
	c_begin(&t, &back);
	c_finish(&t, HP_CANCELLED);
	annex(&t, "{'end':'return'}");
	c_commit_ok(&back, &t);
	leave(&r[0], "{'end':'keep'}");
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[3].row.id);
	ck_assert(admit(&back, SLOTS));
}
END_TEST

START_TEST(every_request_has_its_instant)
{
	struct c_run r[4], back;

	deploy();
	for (int i = 0; i < 4; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], RATE), i < 1);
	}
	c_assert_why(r[2].row.id, "rate", "the rate of connector:bank; 1 before it");
	for (int i = 1; i < 4; i++) {
		c_advance(HP_SECOND / 2 - 1);
		c_claim_none();
		c_advance(1);
		back = c_claim_one();
		ck_assert_int_eq(back.row.id, r[i].row.id);
		ck_assert(admit(&back, RATE));
	}
	ck_assert(!admit(&back, RATE)); /* a repeat is a request, too */
}
END_TEST

START_TEST(demands_are_met_one_after_the_other)
{
	static const char both[] =
		"{'demands':[{'kind':'budget','name':'sms','amount':1,'over':'park'},{'kind':'slots','name':'x','max':1}]}";
	struct c_run r[5], back;

	deploy();
	for (int i = 0; i < 5; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], both), i < 1);
	}
	/* two have paid and wait for the place; two wait for the budget and do not stand in the queue */
	c_assert_why(r[2].row.id, "concurrency", "; 1 before it");
	c_assert_why(r[3].row.id, "budget", "; 0 before it");
	leave(&r[0], "{'end':'keep'}");
	back = c_claim_one();
	ck_assert_int_eq(back.row.id, r[1].row.id);
	ck_assert(admit(&back, both));
}
END_TEST

START_TEST(an_unknown_budget_is_refused_with_the_deployment)
{
	static const char summary[] = "{'states':[{'name':'a','kind':'call','budget':'sms'}],'triggers':[]}";

	ck_assert(c_deploy_fails("lost", 201, summary, "spends of the budget \"sms\", which nobody has set"));
	deploy();
	ck_assert(!c_deploy_fails("lost", 201, summary, ""));
}
END_TEST

#define OF(max) "{'sms':{'max':" max ",'per_us':3600000000,'bucket':false}}"

/* What is used stays used; who waits is counted anew. */
START_TEST(a_new_version_changes_the_limit)
{
	struct c_run r[6], back[3];

	deploy();
	for (int i = 0; i < 6; i++) {
		r[i] = c_own();
		ck_assert_int_eq(admit(&r[i], ONE), i < 3);
	}
	c_deploy_budgets("spends", 201, OF("5"));
	ck_assert_int_eq(c_claim(c_engine, 3, back), 3);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(back[i].row.id, r[3 + i].row.id);
		ck_assert_int_eq(admit(&back[i], ONE), i < 2);
	}
	c_deploy_budgets("spends", 202, OF("1")); /* five of one: nobody more this hour, one in the next */
	r[5] = c_claim_one();
	ck_assert(!admit(&r[5], ONE));
	c_assert_why(r[5].row.id, "budget", "all 1 are used until 2023-11-14 23:00:00 UTC; 0 before it");
	r[0] = c_own();
	ck_assert(!admit(&r[0], ONE));
	c_assert_why(r[0].row.id, "budget", "all 1 are used until 2023-11-15 00:00:00 UTC; 1 before it");
}
END_TEST

START_TEST(a_window_becomes_a_bucket)
{
	struct c_run r[3];

	deploy();
	for (int i = 0; i < 3; i++) {
		r[i] = c_own();
		ck_assert(admit(&r[i], ONE));
	}
	c_deploy_budgets("spends", 201, "{'sms':{'max':6,'per_us':3600000000,'bucket':true}}");
	r[0] = c_own();
	ck_assert(admit(&r[0], BUDGET("", "3", "fail"))); /* three of six are left */
	r[1] = c_own();
	ck_assert(!admit(&r[1], ONE));
	c_advance(HP_HOUR / 6 - 1);
	c_claim_none();
	c_advance(1);
	r[1] = c_claim_one();
	ck_assert(admit(&r[1], ONE));
	c_deploy_budgets("spends", 202, OF("7"));
	r[2] = c_own();
	ck_assert(admit(&r[2], ONE)); /* six were used */
	r[2] = c_own();
	ck_assert(!admit(&r[2], BUDGET("", "1", "fail")));
}
END_TEST

/* Runs of older versions spend of it. */
START_TEST(a_budget_that_is_declared_no_more_stays)
{
	struct c_run r;

	deploy();
	c_deploy_budgets("spends", 201, "{}");
	r = c_own();
	ck_assert(admit(&r, BUDGET("", "3", "park")));
	r = c_own();
	ck_assert(!admit(&r, ONE));
	ck_assert_str_eq(gated, "budget");
	c_assert_why(r.row.id, "budget", "all 3 are used");
}
END_TEST

static void assert_said(int64_t run, const char *words)
{
	json_t *history = c_history(run);

	ck_assert_str_eq(hp_json_str(json_array_get(history, json_array_size(history) - 1), "message"), words);
	json_decref(history);
}

/* The same words whichever store refuses. */
START_TEST(a_refusal_says_what_is_used_up)
{
	struct c_run r[4];

	deploy();
	r[0] = c_own();
	ck_assert(!admit(&r[0], BUDGET("", "4", "park")));
	assert_said(r[0].row.id, "it asks for 4 of the budget sms, which has 3");
	r[0] = c_own();
	ck_assert(admit(&r[0], BUDGET("", "3", "park")));
	r[1] = c_own();
	ck_assert(!admit(&r[1], ONE));
	assert_said(r[1].row.id, "the budget sms of 3 is used up");
	r[1] = c_own();
	ck_assert(!admit(&r[1], BUDGET("", "1", "fail")));
	assert_said(r[1].row.id, "the budget sms of 3 is used up");
	r[1] = c_own();
	ck_assert(!admit(&r[1], "{'demands':[{'kind':'budget','name':'other','amount':1,'over':'park'}]}"));
	assert_said(r[1].row.id, "nobody has set the budget other");
	for (int i = 0; i < 2; i++) {
		r[i] = c_own();
		ck_assert(admit(&r[i], SLOTS));
	}
	r[2] = c_own();
	ck_assert(!admit(&r[2], SLOTS));
	assert_said(r[2].row.id, "2 of 2 calls of connector:bank are going");
	r[2] = c_own(); /* with another limit than those before it */
	ck_assert(!admit(&r[2], "{'demands':[{'kind':'slots','name':'connector:bank','max':1}]}"));
	assert_said(r[2].row.id, "2 of 1 calls of connector:bank are going");
	r[3] = c_own();
	ck_assert(admit(&r[3], RATE));
	ck_assert(!admit(&r[3], RATE));
	assert_said(r[3].row.id, "no more than 2 in 1 s of connector:bank");
	r[3] = c_own();
	ck_assert(!admit(&r[3], "{'demands':[{'kind':'rate','name':'connector:bank','max':1,'per_us':1500000,'burst':1}]}"));
	assert_said(r[3].row.id, "no more than 1 in 1.5 s of connector:bank");
}
END_TEST

TCase *contract_budgets(void)
{
	TCase *t = tcase_create("budgets");

	tcase_add_test(t, a_window_lets_its_limit_in_and_the_rest_waits_in_order);
	tcase_add_test(t, a_visit_pays_once);
	tcase_add_test(t, who_does_not_wait_fails_at_once);
	tcase_add_test(t, each_key_has_its_own);
	tcase_add_test(t, what_surely_was_not_used_is_given_on);
	tcase_add_test(t, given_back_without_anybody_waiting);
	tcase_add_test(t, one_that_waits_and_is_cancelled_leaves_its_place);
	tcase_add_test(t, a_queue_that_is_gone_is_forgotten);
	tcase_add_test(t, a_held_visit_keeps_what_it_paid);
	tcase_add_test(t, a_fenced_worker_takes_nothing);
	tcase_add_test(t, a_bucket_fills_evenly);
	tcase_add_test(t, places_are_held_until_the_outcome);
	tcase_add_test(t, places_that_are_left_and_asked_for_in_one_commit);
	tcase_add_test(t, a_place_belongs_to_the_run);
	tcase_add_test(t, one_who_waits_for_a_place_may_go_away);
	tcase_add_test(t, every_request_has_its_instant);
	tcase_add_test(t, demands_are_met_one_after_the_other);
	tcase_add_test(t, a_refusal_says_what_is_used_up);
	tcase_add_test(t, a_new_version_changes_the_limit);
	tcase_add_test(t, a_window_becomes_a_bucket);
	tcase_add_test(t, a_budget_that_is_declared_no_more_stays);
	tcase_add_test(t, an_unknown_budget_is_refused_with_the_deployment);
	return t;
}
