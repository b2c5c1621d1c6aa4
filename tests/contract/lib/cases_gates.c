/* Gates: an admission that is refused is no attempt; breakers that people open and close. */
#include "contract.h"

#define REFUND "{\"connector\":\"stripe\",\"operation\":\"refunds.create\",\"body\":\"a=1\"}"

static void force(const char *door, const char *breaker)
{
	json_decref(c_door_ok(door, "alice", "{'breaker':'%s','reason':'the provider asked'}", breaker));
}

static struct hp_transition entering(struct c_run *r)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_enter(&t, S_REFUND);
	c_admit(&t, REFUND, "refund:1", true);
	t.move = HP_MOVE_ENTERED;
	t.outcome = HP_TERMINAL;
	t.code = "before";
	return t;
}

static struct hp_transition repeating(const struct c_run *r)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_admit(&t, REFUND, "refund:1", true);
	return t;
}

/* Commits t, which must be refused by a gate. */
static void gated(const struct hp_transition *t)
{
	struct c_result res = c_commit(t);

	ck_assert_int_eq(res.outcome, HP_COMMIT_OK);
	ck_assert_str_eq(res.gated, "breaker_open");
}

static void admitted(struct c_run *r, const struct hp_transition *t)
{
	ck_assert_str_eq(c_commit_ok(r, t).gated, "");
}

static const json_t *last(const json_t *history, size_t back)
{
	return json_array_get(history, json_array_size(history) - 1 - back);
}

START_TEST(a_refused_entering_is_no_attempt)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);
	json_t *history, *run;

	c_save(&t, "before", "{\"n\":1}");
	force("breaker_open", "stripe");
	gated(&t);
	run = c_run_json(r.row.id);
	ck_assert_str_eq(hp_json_str(run, "status"), "waiting");
	ck_assert_str_eq(hp_json_str(run, "phase"), "gated");
	ck_assert_str_eq(hp_json_str(run, "state"), "refund");
	ck_assert_str_eq(hp_json_str(run, "code"), "breaker_open");
	ck_assert_int_eq(hp_json_int(run, "attempt", -1), 0);
	history = c_history(r.row.id);
	/* how the state before ended, and the refusal beside it */
	ck_assert_str_eq(hp_json_str(last(history, 1), "move"), "entered");
	ck_assert_str_eq(hp_json_str(last(history, 1), "code"), "before");
	ck_assert_ptr_null(json_object_get(last(history, 1), "admits"));
	ck_assert_str_eq(hp_json_str(last(history, 0), "move"), "gated");
	ck_assert_str_eq(hp_json_str(last(history, 0), "code"), "breaker_open");
	ck_assert_ptr_nonnull(strstr(hp_json_str(last(history, 0), "message"), "the breaker of stripe is forced open"));
	ck_assert_int_eq(hp_json_int(last(history, 0), "rev", -1), hp_json_int(last(history, 1), "rev", -2));
	json_decref(history);
	json_decref(run);
	c_advance(HP_DAY);
	c_claim_none();
}
END_TEST

START_TEST(what_was_saved_on_the_way_is_kept)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);

	c_save(&t, "before", "{\"n\":1}");
	force("breaker_open", "stripe");
	gated(&t);
	force("breaker_reset", "stripe");
	r = c_claim_one();
	ck_assert_ptr_nonnull(strstr(r.saved, "\"before\""));
	ck_assert_int_eq(r.row.phase, HP_PH_GATED);
	ck_assert_int_eq(r.row.attempt, 0);
	ck_assert_int_eq(r.row.first_sent_at, 0);
	ck_assert_int_eq(r.row.sent_at, 0);
}
END_TEST

START_TEST(a_refused_retry_keeps_what_the_attempts_before_were)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);
	uint8_t hash[HP_SHA256_LEN];
	json_t *history;

	admitted(&r, &t);
	memcpy(hash, r.row.request_hash, sizeof hash);
	force("breaker_open", "stripe");
	c_advance(HP_SECOND);
	t = repeating(&r);
	memset(t.after.request_hash, 7, HP_SHA256_LEN);
	gated(&t);
	history = c_history(r.row.id);
	ck_assert_str_eq(hp_json_str(last(history, 0), "move"), "gated");
	ck_assert_str_eq(hp_json_str(last(history, 1), "move"), "entered");
	json_decref(history);
	force("breaker_reset", "stripe");
	r = c_claim_one();
	ck_assert_int_eq(r.row.attempt, 1);
	ck_assert_int_eq(r.row.first_sent_at, T0);
	ck_assert(r.row.unresolved);
	ck_assert_int_eq(memcmp(hash, r.row.request_hash, sizeof hash), 0);
	t = repeating(&r);
	admitted(&r, &t);
	ck_assert_int_eq(r.row.attempt, 2);
}
END_TEST

START_TEST(a_refused_admission_takes_no_business_key)
{
	struct c_run a = c_own(), b = c_own();
	struct hp_transition t = entering(&a);

	force("breaker_open", "stripe");
	gated(&t);
	force("breaker_reset", "stripe");
	c_advance(HP_SECOND);
	t = entering(&b);
	ck_assert_int_eq(c_commit_ok(&b, &t).first_sent_at, 0);
}
END_TEST

START_TEST(a_refused_probe_of_doubt_stays_in_doubt)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);

	admitted(&r, &t);
	c_begin(&t, &r);
	t.move = HP_MOVE_DOUBT;
	t.disposition = HP_PARK;
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_DOUBT;
	t.after.due_at = c_now + HP_SECOND;
	c_commit_ok(&r, &t);
	c_advance(HP_SECOND);
	r = c_claim_one();
	force("breaker_open", "stripe");
	c_begin(&t, &r);
	t.move = HP_MOVE_PROBING;
	t.after.status = HP_RUNNING;
	t.after.phase = HP_PH_PROBING;
	t.after.due_at = 0;
	gated(&t);
	c_advance(HP_DAY);
	c_claim_none();
	force("breaker_reset", "stripe");
	r = c_claim_one();
	ck_assert_int_eq(r.row.phase, HP_PH_DOUBT);
	ck_assert_int_eq(r.row.attempt, 1);
}
END_TEST

START_TEST(only_its_own_endpoint_is_shut)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);

	force("breaker_open", "stripe.refunds.list");
	admitted(&r, &t);
	r = c_own();
	t = entering(&r);
	force("breaker_open", "stripe.refunds.create");
	gated(&t);
}
END_TEST

START_TEST(what_does_not_call_goes_on)
{
	struct c_run r = c_own();
	struct hp_transition t;

	force("breaker_open", "stripe");
	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_SECOND);
	admitted(&r, &t);
}
END_TEST

START_TEST(in_one_commit_each_is_judged_by_itself)
{
	struct c_run a = c_own(), b = c_own();
	struct hp_transition t[2] = { entering(&a) };
	const struct hp_transition *both[2] = { &t[0], &t[1] };
	struct c_result res[2] = { { 0 } };

	c_begin(&t[1], &b);
	c_park(&t[1], S_PAUSE, c_now + HP_SECOND);
	force("breaker_open", "stripe");
	c_commit_many(both, 2, res);
	ck_assert_int_eq(res[0].outcome, HP_COMMIT_OK);
	ck_assert_str_eq(res[0].gated, "breaker_open");
	ck_assert_int_eq(res[1].outcome, HP_COMMIT_OK);
	ck_assert_str_eq(res[1].gated, "");
	c_advance(HP_SECOND);
	ck_assert_int_eq(c_claim_one().row.id, b.row.id);
}
END_TEST

START_TEST(a_fenced_refusal_parks_nobody)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);

	t.rev--;
	force("breaker_open", "stripe");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	t.rev++;
	t.epoch++;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
}
END_TEST

START_TEST(a_gated_run_can_be_cancelled)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);

	force("breaker_open", "stripe");
	gated(&t);
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'no longer needed'}", (long long)r.row.id));
	r = c_claim_one();
	ck_assert(r.row.cancel);
	c_begin(&t, &r);
	c_finish(&t, HP_CANCELLED);
	c_commit_ok(&r, &t);
	force("breaker_reset", "stripe");
	c_claim_none();
}
END_TEST

START_TEST(why_names_the_breaker_and_the_way_out)
{
	struct c_run r = c_own();
	struct hp_transition t = entering(&r);
	json_t *why;

	force("breaker_open", "stripe");
	gated(&t);
	why = c_door_ok("why", "alice", "{'run':%lld}", (long long)r.row.id);
	ck_assert_str_eq(hp_json_str(why, "cause"), "breaker");
	ck_assert_str_eq(hp_json_str(why, "sentence"),
			 "Run 1 waits in state \"refund\" since 2023-11-14 22:13:20 UTC because the breaker of stripe is "
			 "forced open since 2023-11-14 22:13:20 UTC (the provider asked); alice opened it. An operator "
			 "can close it: holdpoint breaker close stripe --reason TEXT.");
	json_decref(why);
}
END_TEST

START_TEST(who_forces_a_breaker_says_why_and_is_written_down)
{
	json_t *b;
	const json_t *log;

	c_door_fails(HP_E_INVALID, "a reason is mandatory", "breaker_open", "alice", "{'breaker':'stripe'}");
	c_door_fails(HP_E_NOT_FOUND, "no deployed workflow calls \"strype\"", "breaker_open", "alice",
		     "{'breaker':'strype','reason':'x'}");
	c_door_fails(HP_E_CONFLICT, "the breaker of stripe is closed already", "breaker_reset", "alice",
		     "{'breaker':'stripe','reason':'x'}");
	force("breaker_open", "stripe");
	c_door_fails(HP_E_CONFLICT, "is forced open already, since 2023-11-14 22:13:20 UTC by alice", "breaker_open",
		     "bob", "{'breaker':'stripe','reason':'x'}");
	c_advance(HP_SECOND);
	force("breaker_close", "stripe");
	b = c_door_ok("breaker", "bob", "{'breaker':'stripe'}");
	ck_assert_str_eq(hp_json_str(b, "state"), "forced_closed");
	ck_assert_str_eq(hp_json_str(b, "by"), "alice");
	ck_assert_str_eq(hp_json_str(b, "reason"), "the provider asked");
	log = json_object_get(b, "log");
	ck_assert_uint_eq(json_array_size(log), 2);
	ck_assert_str_eq(hp_json_str(json_array_get(log, 0), "was"), "forced_open");
	ck_assert_str_eq(hp_json_str(json_array_get(log, 0), "state"), "forced_closed");
	ck_assert_str_eq(hp_json_str(json_array_get(log, 1), "was"), "closed");
	json_decref(b);
	b = c_door_ok("breaker", "bob", "{'breaker':'stripe.refunds.list'}");
	ck_assert_str_eq(hp_json_str(b, "sentence"),
			 "The breaker of stripe.refunds.list is closed and never was anything else.");
	json_decref(b);
}
END_TEST

/* Those behind a closed breaker go a few at first, and then more: not all at once. */
START_TEST(those_behind_a_closed_breaker_go_on_in_waves)
{
	struct c_run runs[64];
	int left;

	force("breaker_open", "stripe");
	for (int i = 0; i < 40; i++) {
		struct c_run r = c_own();
		struct hp_transition t = entering(&r);

		gated(&t);
	}
	force("breaker_reset", "stripe");
	ck_assert_int_eq(c_claim(c_engine, 64, runs), 10);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	c_claim_none(); /* not within the same second */
	c_advance(HP_SECOND);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	ck_assert_int_eq(c_claim(c_engine, 64, runs), 20);
	ck_assert_int_eq(runs[0].row.id, 11); /* who waits longest goes first */
	c_advance(HP_SECOND);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	left = c_claim(c_engine, 64, runs);
	ck_assert_int_eq(left, 10);
}
END_TEST

TCase *contract_gates(void)
{
	TCase *t = tcase_create("gates");

	tcase_add_test(t, a_refused_entering_is_no_attempt);
	tcase_add_test(t, what_was_saved_on_the_way_is_kept);
	tcase_add_test(t, a_refused_retry_keeps_what_the_attempts_before_were);
	tcase_add_test(t, a_refused_admission_takes_no_business_key);
	tcase_add_test(t, a_refused_probe_of_doubt_stays_in_doubt);
	tcase_add_test(t, only_its_own_endpoint_is_shut);
	tcase_add_test(t, what_does_not_call_goes_on);
	tcase_add_test(t, in_one_commit_each_is_judged_by_itself);
	tcase_add_test(t, a_fenced_refusal_parks_nobody);
	tcase_add_test(t, a_gated_run_can_be_cancelled);
	tcase_add_test(t, why_names_the_breaker_and_the_way_out);
	tcase_add_test(t, who_forces_a_breaker_says_why_and_is_written_down);
	tcase_add_test(t, those_behind_a_closed_breaker_go_on_in_waves);
	return t;
}
