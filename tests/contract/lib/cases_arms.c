/* Arms: what stands beside the main wait of a state, as both stores keep it. */
#include <stdio.h>

#include "contract.h"

#define CLOCKS "{\"arms\":{\"ill\":{\"checks\":2,\"code\":\"timeout\",\"due\":%lld,\"failures\":1}," \
	       "\"late\":{\"due\":%lld}},\"due\":%lld,\"notes\":1,\"reminded\":0}"
#define OVER "{\"over\":true}"
#define WON "{\"over\":true,\"won\":\"arm \\\"abort\\\" of state \\\"canary\\\" went first: the event canary.abort arrived\"}"

static char clocks[512]; /* what the transition brings must live until it is committed */

static void bring_clocks(struct hp_transition *t, int64_t check, int64_t timer, int64_t main)
{
	snprintf(clocks, sizeof clocks, CLOCKS, (long long)check, (long long)timer, (long long)main);
	c_annex(t, "arms", clocks);
}

/* An approval with an event arm and two clocks, open; wakes for the check. → its id */
static int64_t open_canary(struct c_run *r)
{
	struct hp_transition t;
	json_t *run;
	int64_t id;

	c_begin(&t, r);
	c_park(&t, S_CANARY, c_now + 30 * HP_SECOND);
	t.approval = hp_bytes_of("{\"ask\":\"Go on?\",\"approvers\":\"2 of sre\",\"evidence\":{}}");
	t.approval_deadline = c_now + DEADLINE;
	t.wait_keys = hp_bytes_of("7");
	bring_clocks(&t, c_now + 30 * HP_SECOND, c_now + HP_HOUR, c_now + DEADLINE);
	c_commit_ok(r, &t);
	run = c_door_ok("run", "tester", "{'run':%lld}", (long long)r->row.id);
	id = hp_json_int(json_array_get(json_object_get(run, "approvals"), 0), "approval", 0);
	json_decref(run);
	ck_assert_int_gt(id, 0);
	return id;
}

/* A check that found nothing. */
static struct c_result park_quietly(const struct c_run *r, int64_t next)
{
	struct hp_transition t;

	c_begin(&t, r);
	t.move = HP_MOVE_WOKEN;
	t.disposition = HP_PARK;
	t.quiet = true;
	t.after.due_at = next;
	bring_clocks(&t, next, T0 + HP_HOUR, T0 + DEADLINE);
	return c_commit(&t);
}

/* An arm goes on. */
static struct c_result go(const struct c_run *r, const char *doc)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_enter(&t, S_LOOK);
	t.code = "arm";
	t.consume_mail = r->mail_id;
	c_annex(&t, "arms", doc);
	return c_commit(&t);
}

static void voters(void)
{
	the_driver->principal("ann", "person", "sre");
	the_driver->principal("sam", "person", "sre");
}

static int64_t clock_of(const struct c_run *r, const char *arm)
{
	json_t *all = hp_json_parse(r->annex, strlen(r->annex), "annex", NULL);
	int64_t due = hp_json_int(json_object_get(hp_json_path(all, "arms.arms"), arm), "due", 0);

	json_decref(all);
	return due;
}

START_TEST(a_claim_finds_the_clocks_as_they_were_kept)
{
	struct c_run r = c_own();

	open_canary(&r);
	c_claim_none();
	c_advance(30 * HP_SECOND);
	r = c_claim_one();
	ck_assert_int_eq(clock_of(&r, "ill"), T0 + 30 * HP_SECOND);
	ck_assert_int_eq(clock_of(&r, "late"), T0 + HP_HOUR);
	ck_assert_int_eq(park_quietly(&r, c_now + HP_MINUTE).outcome, HP_COMMIT_OK);
	c_claim_none();
	c_advance(HP_MINUTE);
	r = c_claim_one();
	ck_assert_int_eq(clock_of(&r, "ill"), T0 + 90 * HP_SECOND);
}
END_TEST

START_TEST(checks_that_find_nothing_leave_no_history_and_votes_survive)
{
	struct c_run r = c_own();
	int64_t approval = open_canary(&r);
	size_t before;
	json_t *h;

	voters();
	json_decref(c_door_ok("decide", "ann", "{'approval':%lld,'decision':'approve','reason':'fine'}", (long long)approval));
	h = c_history(r.row.id);
	before = json_array_size(h);
	json_decref(h);
	for (int i = 0; i < 20; i++) {
		c_advance(HP_MINUTE);
		r = c_claim_one();
		ck_assert_int_eq(r.decision, HP_UNDECIDED);
		ck_assert_int_eq(park_quietly(&r, c_now + HP_MINUTE).outcome, HP_COMMIT_OK);
	}
	h = c_history(r.row.id);
	ck_assert_uint_eq(json_array_size(h), before);
	json_decref(h);
	json_decref(c_door_ok("decide", "sam", "{'approval':%lld,'decision':'approve','reason':'fine'}", (long long)approval));
	ck_assert_int_eq(c_claim_one().decision, HP_APPROVED);
}
END_TEST

START_TEST(a_vote_during_a_check_fences_what_the_check_says)
{
	struct c_run r = c_own(), seen;
	int64_t approval = open_canary(&r);

	voters();
	c_advance(30 * HP_SECOND);
	r = c_claim_one();
	json_decref(c_door_ok("decide", "ann", "{'approval':%lld,'decision':'approve','reason':'a'}", (long long)approval));
	ck_assert_int_eq(go(&r, WON).outcome, HP_COMMIT_CONFLICT);
	ck_assert_int_eq(park_quietly(&r, c_now + HP_MINUTE).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &seen));
	json_decref(c_door_ok("decide", "sam", "{'approval':%lld,'decision':'approve','reason':'b'}", (long long)approval));
	ck_assert_int_eq(go(&seen, WON).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &seen));
	ck_assert_int_eq(seen.decision, HP_APPROVED);
}
END_TEST

START_TEST(an_arm_that_goes_first_closes_the_approval_and_says_so)
{
	struct c_run r = c_own();
	int64_t approval = open_canary(&r);
	json_t *a;

	voters();
	ck_assert_int_eq(c_event("canary.abort", "8", "{}"), 0);
	ck_assert_int_eq(c_event("canary.abort", "7", "{'why':'latency'}"), 1);
	r = c_claim_one();
	ck_assert_int_gt(r.mail_id, 0);
	ck_assert_int_eq(r.mail_wait, 0);
	ck_assert_int_eq(go(&r, WON).outcome, HP_COMMIT_OK);
	c_door_fails(HP_E_CONFLICT,
		     "approval 1 was cancelled at 2023-11-14 22:13:20 UTC: arm \"abort\" of state \"canary\" went first: the event "
		     "canary.abort arrived", "decide", "ann", "{'approval':%lld,'decision':'approve','reason':'late'}",
		     (long long)approval);
	a = c_door_ok("approval", "tester", "{'approval':%lld}", (long long)approval);
	ck_assert_str_eq(hp_json_str(a, "status"), "cancelled");
	ck_assert_ptr_null(json_object_get(a, "decided_by"));
	json_decref(a);
	/* nothing of it is left: no mailbox wakes it any more */
	ck_assert_int_eq(c_event("canary.abort", "7", "{}"), 0);
}
END_TEST

START_TEST(a_decision_before_the_arm_stands)
{
	struct c_run r = c_own();
	int64_t approval = open_canary(&r);
	json_t *a;

	voters();
	json_decref(c_door_ok("decide", "ann", "{'approval':%lld,'decision':'reject','reason':'no'}", (long long)approval));
	r = c_claim_one();
	ck_assert_int_eq(r.decision, HP_REJECTED);
	ck_assert_int_eq(go(&r, WON).outcome, HP_COMMIT_OK); /* a machine would not; the record stays anyway */
	a = c_door_ok("approval", "tester", "{'approval':%lld}", (long long)approval);
	ck_assert_str_eq(hp_json_str(a, "status"), "rejected");
	ck_assert_str_eq(hp_json_str(a, "reason"), "no");
	json_decref(a);
}
END_TEST

START_TEST(clocks_of_a_state_that_was_left_are_gone)
{
	struct c_run r = c_own();
	struct hp_transition t;

	open_canary(&r);
	c_advance(30 * HP_SECOND);
	r = c_claim_one();
	ck_assert_int_eq(go(&r, OVER).outcome, HP_COMMIT_OK);
	r.row.rev++;
	r.row.visit++;
	r.row.state = S_LOOK;
	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_MINUTE);
	c_commit_ok(&r, &t);
	c_advance(HP_MINUTE);
	ck_assert_str_eq(c_claim_one().annex, "");
}
END_TEST

START_TEST(an_event_of_an_arm_that_came_early_is_found)
{
	struct c_run r;

	c_event("canary.abort", "7", "{}");
	r = c_own();
	open_canary(&r);
	ck_assert_int_gt(c_claim_one().mail_id, 0);
}
END_TEST

START_TEST(an_early_event_is_found_beside_children_too)
{
	struct c_run r;
	struct hp_transition t;

	c_event("canary.abort", "7", "{}");
	r = c_own();
	c_begin(&t, &r);
	c_park(&t, S_CANARY, c_now + HP_HOUR);
	t.after.phase = HP_PH_JOINING;
	t.wait_keys = hp_bytes_of("7");
	bring_clocks(&t, c_now + HP_HOUR, c_now + 2 * HP_HOUR, 0);
	c_commit_ok(&r, &t);
	r = c_claim_one();
	ck_assert_int_gt(r.mail_id, 0);
	ck_assert_int_eq(clock_of(&r, "ill"), T0 + HP_HOUR);
}
END_TEST

START_TEST(the_run_and_why_name_the_arms)
{
	struct c_run r = c_own();
	json_t *run, *why, *arms, *arm;

	open_canary(&r);
	run = c_door_ok("run", "tester", "{'run':1}");
	arms = json_object_get(run, "arms");
	ck_assert_uint_eq(json_array_size(arms), 3);
	arm = json_array_get(arms, 0);
	ck_assert_str_eq(hp_json_str(arm, "name"), "abort");
	ck_assert_str_eq(hp_json_str(arm, "event"), "canary.abort");
	ck_assert_str_eq(hp_json_str(arm, "key"), "7");
	arm = json_array_get(arms, 1);
	ck_assert_str_eq(hp_json_str(arm, "kind"), "check");
	ck_assert_int_eq(hp_json_int(arm, "failures", 0), 1);
	ck_assert_str_eq(hp_json_str(arm, "code"), "timeout");
	ck_assert_str_eq(hp_json_str(arm, "due_at"), "2023-11-14T22:13:50.000000Z");
	json_decref(run);
	why = c_door_ok("why", "tester", "{'run':1}");
	ck_assert_str_eq(hp_json_str(why, "sentence"),
			 "Run 1 waits for approval 1 by 2 of sre until 2023-11-15 02:13:20 UTC: holdpoint approve 1 --reason TEXT."
			 " It also goes on to \"look\" when the event canary.abort with key \"7\" arrives, by arm \"abort\"; to "
			 "\"look\" when the check prometheus.query says so (every 30 s, next at 2023-11-14 22:13:50 UTC; 1 failed in a "
			 "row, the last with timeout), by arm \"ill\"; to \"done\" at 2023-11-14 23:13:20 UTC, by arm \"late\".");
	json_decref(why);
}
END_TEST

TCase *contract_arms(void)
{
	TCase *t = tcase_create("arms");

	tcase_add_test(t, a_claim_finds_the_clocks_as_they_were_kept);
	tcase_add_test(t, checks_that_find_nothing_leave_no_history_and_votes_survive);
	tcase_add_test(t, a_vote_during_a_check_fences_what_the_check_says);
	tcase_add_test(t, an_arm_that_goes_first_closes_the_approval_and_says_so);
	tcase_add_test(t, a_decision_before_the_arm_stands);
	tcase_add_test(t, clocks_of_a_state_that_was_left_are_gone);
	tcase_add_test(t, an_event_of_an_arm_that_came_early_is_found);
	tcase_add_test(t, an_early_event_is_found_beside_children_too);
	tcase_add_test(t, the_run_and_why_name_the_arms);
	return t;
}
