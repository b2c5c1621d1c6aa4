/* Breakers: counts that many engines share, opening once, probing under a lease. */
#include "contract.h"

#define REFUND "{\"connector\":\"stripe\",\"operation\":\"refunds.create\",\"body\":\"a=1\"}"
#define WIDTH (5 * HP_SECOND)
#define OPEN (30 * HP_SECOND)

static json_t *report(int failed, int calls, int in_row, const char *well)
{
	return c_door_ok("breaker_report", "engine",
			 "{'breaker':'stripe','width':%lld,'in_row':%d,'well':%s,'buckets':[[%lld,%d,%d,0]]}",
			 (long long)WIDTH, in_row, well, (long long)(c_now / WIDTH), calls, failed);
}

static void trip_with(const char *more)
{
	json_t *a = c_door_ok("breaker", "alice", "{'breaker':'stripe'}");
	int64_t version = hp_json_int(a, "version", -1);

	json_decref(a);
	a = c_door_ok("breaker_trip", "engine",
		      "{'breaker':'stripe','version':%lld,'reason':'12 of 20 requests failed within 30s',"
		      "'open_us':%lld,%s}", (long long)version, (long long)OPEN, more);
	ck_assert_str_eq(hp_json_str(a, "outcome"), "done");
	json_decref(a);
}

static void trip(void) { trip_with("'slow_us':0,'probes':3"); }

static const char *state_of(void)
{
	static char state[32];
	json_t *b = c_door_ok("breaker", "alice", "{'breaker':'stripe'}");

	snprintf(state, sizeof state, "%s", hp_json_str(b, "state"));
	json_decref(b);
	return state;
}

/* A run that asks for its admission: true: it got it. */
static bool asks(struct c_run *r)
{
	struct hp_transition t;
	struct c_result res;

	c_begin(&t, r);
	if (r->row.state != S_REFUND || r->row.phase == HP_PH_ENTER)
		c_enter(&t, S_REFUND);
	c_admit(&t, REFUND, "refund:1", false);
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_OK);
	r->row = t.after;
	return !res.gated[0];
}

static bool new_asks(struct c_run *r)
{
	*r = c_own();
	return asks(r);
}

/* Its request was answered (OK), refused (TERMINAL), or not. */
static void replied(struct c_run *r, enum hp_class outcome)
{
	struct hp_transition t;

	c_begin(&t, r);
	t.outcome = outcome;
	t.code = outcome == HP_CLASS_OK ? NULL : "http_503";
	if (outcome == HP_CLASS_OK || outcome == HP_TERMINAL) {
		c_enter(&t, S_PAUSE);
		t.move = HP_MOVE_ENTERED;
		t.after.status = HP_WAITING;
		t.after.phase = HP_PH_OPEN;
		t.after.due_at = c_now + HP_DAY;
	} else {
		t.move = HP_MOVE_RETRY;
		t.after.status = HP_WAITING;
		t.after.phase = HP_PH_BACKOFF;
		t.after.due_at = c_now + HP_DAY;
		t.after.failures++;
	}
	t.disposition = HP_PARK;
	c_commit_ok(r, &t);
}

START_TEST(what_engines_report_adds_up)
{
	json_t *a = report(3, 4, 3, "true"), *row;

	ck_assert_int_eq(hp_json_int(a, "in_row", -1), 3);
	json_decref(a);
	a = report(3, 3, 3, "false");
	ck_assert_str_eq(hp_json_str(a, "state"), "closed");
	ck_assert_int_eq(hp_json_int(a, "version", -1), 0);
	ck_assert_int_eq(hp_json_int(a, "in_row", -1), 6);
	ck_assert_uint_eq(json_array_size(json_object_get(a, "buckets")), 1);
	row = json_array_get(json_object_get(a, "buckets"), 0);
	ck_assert_int_eq(json_integer_value(json_array_get(row, 0)), c_now / WIDTH);
	ck_assert_int_eq(json_integer_value(json_array_get(row, 1)), 7);
	ck_assert_int_eq(json_integer_value(json_array_get(row, 2)), 6);
	json_decref(a);
	a = report(0, 1, 0, "true");
	ck_assert_int_eq(hp_json_int(a, "in_row", -1), 0);
	json_decref(a);
	c_advance(HP_MINUTE);
	a = report(1, 1, 1, "false");
	ck_assert_uint_eq(json_array_size(json_object_get(a, "buckets")), 1); /* the old ones are gone */
	json_decref(a);
}
END_TEST

START_TEST(of_many_that_see_the_same_one_opens_it)
{
	static const char args[] = "{'breaker':'stripe','version':0,'reason':'10 requests failed in a row',"
				   "'open_us':30000000,'slow_us':0,'probes':3}";
	json_t *a[2];
	int done;

	c_door_two("breaker_trip", args, args, a);
	done = strcmp(hp_json_str(a[0], "outcome"), "done") == 0;
	done += strcmp(hp_json_str(a[1], "outcome"), "done") == 0;
	ck_assert_int_eq(done, 1);
	ck_assert_str_eq(hp_json_str(a[0], "state"), "open");
	ck_assert_str_eq(hp_json_str(a[1], "state"), "open");
	json_decref(a[0]);
	json_decref(a[1]);
}
END_TEST

START_TEST(one_who_saw_an_older_version_opens_nothing)
{
	json_t *a;

	json_decref(c_door_ok("breaker_open", "alice", "{'breaker':'stripe','reason':'x'}"));
	json_decref(c_door_ok("breaker_reset", "alice", "{'breaker':'stripe','reason':'x'}"));
	a = c_door_ok("breaker_trip", "engine",
		      "{'breaker':'stripe','version':0,'reason':'old news','open_us':1,'slow_us':0,'probes':3}");
	ck_assert_str_eq(hp_json_str(a, "outcome"), "taken");
	json_decref(a);
	ck_assert_str_eq(state_of(), "closed");
}
END_TEST

START_TEST(forced_closed_never_opens)
{
	json_t *a;

	json_decref(c_door_ok("breaker_close", "alice", "{'breaker':'stripe','reason':'we know'}"));
	a = report(100, 100, 100, "false");
	ck_assert_str_eq(hp_json_str(a, "state"), "forced_closed");
	json_decref(a);
	a = c_door_ok("breaker_trip", "engine",
		      "{'breaker':'stripe','version':1,'reason':'all','open_us':1,'slow_us':0,'probes':3}");
	ck_assert_str_eq(hp_json_str(a, "outcome"), "taken");
	json_decref(a);
	ck_assert_str_eq(state_of(), "forced_closed");
}
END_TEST

START_TEST(what_was_counted_before_does_not_open_it_again)
{
	struct c_run r;
	json_t *a;

	json_decref(report(12, 20, 12, "false"));
	trip();
	ck_assert(!new_asks(&r));
	json_decref(c_door_ok("breaker_reset", "alice", "{'breaker':'stripe','reason':'x'}"));
	a = report(1, 1, 1, "false");
	ck_assert_int_eq(hp_json_int(a, "in_row", -1), 1);
	ck_assert_int_eq(json_integer_value(json_array_get(json_array_get(json_object_get(a, "buckets"), 0), 1)), 1);
	json_decref(a);
}
END_TEST

START_TEST(open_until_its_time_then_a_few_probe)
{
	struct c_run r[6];
	json_t *why;

	trip();
	ck_assert(!new_asks(&r[0]));
	why = c_door_ok("why", "alice", "{'run':%lld}", (long long)r[0].row.id);
	ck_assert_str_eq(hp_json_str(why, "sentence"),
			 "Run 1 waits in state \"refund\" since 2023-11-14 22:13:20 UTC because the breaker of stripe is "
			 "open since 2023-11-14 22:13:20 UTC (12 of 20 requests failed within 30s); it tries again at "
			 "2023-11-14 22:13:50 UTC. An operator can close it: holdpoint breaker close stripe --reason TEXT.");
	json_decref(why);
	c_advance(OPEN - 1);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	ck_assert(!new_asks(&r[1]));
	c_advance(1);
	for (int i = 2; i < 5; i++)
		ck_assert(new_asks(&r[i])); /* the first one makes it half-open */
	ck_assert(!new_asks(&r[5]));
	ck_assert_str_eq(state_of(), "half_open");
	replied(&r[2], HP_CLASS_OK);
	ck_assert(!new_asks(&r[0])); /* two are under way and one is good: enough */
	replied(&r[3], HP_TERMINAL); /* an answer is an answer */
	ck_assert_str_eq(state_of(), "half_open");
	replied(&r[4], HP_CLASS_OK);
	ck_assert_str_eq(state_of(), "closed");
	ck_assert(new_asks(&r[0]));
}
END_TEST

START_TEST(one_bad_probe_opens_it_again_for_longer)
{
	struct c_run a, b, c;

	trip();
	c_advance(OPEN);
	ck_assert(new_asks(&a));
	ck_assert(new_asks(&b));
	replied(&a, HP_AMBIGUOUS);
	ck_assert_str_eq(state_of(), "open");
	replied(&b, HP_CLASS_OK); /* too late to count */
	ck_assert_str_eq(state_of(), "open");
	c_advance(2 * OPEN - 1);
	ck_assert(!new_asks(&c));
	c_advance(1);
	ck_assert(new_asks(&c));
	replied(&c, HP_RETRYABLE);
	c_advance(4 * OPEN - 1);
	ck_assert(!new_asks(&c));
	c_advance(1);
	ck_assert(new_asks(&c));
}
END_TEST

START_TEST(a_slow_probe_is_a_bad_one_when_slow_is_declared)
{
	struct c_run r;

	trip_with("'slow_us':5000000,'probes':1");
	c_advance(OPEN);
	ck_assert(new_asks(&r));
	c_advance(5 * HP_SECOND);
	replied(&r, HP_CLASS_OK);
	ck_assert_str_eq(state_of(), "open");
}
END_TEST

/* The engine died with the probe in the air: who takes the run over keeps its place. */
START_TEST(a_probe_taken_over_keeps_its_place)
{
	struct c_run r, other, again;
	int64_t second = c_register();

	trip_with("'slow_us':0,'probes':1");
	c_advance(OPEN);
	c_engine = second;
	ck_assert(new_asks(&r));
	ck_assert(!new_asks(&other));
	c_stop(second);
	c_engine = c_register();
	again = c_claim_one();
	ck_assert_int_eq(again.row.id, r.row.id);
	ck_assert(asks(&again));
	ck_assert(!new_asks(&other));
	replied(&again, HP_CLASS_OK);
	ck_assert_str_eq(state_of(), "closed");
}
END_TEST

START_TEST(the_place_of_a_dead_probe_is_given_on)
{
	struct c_run r, other;

	trip_with("'slow_us':0,'probes':1");
	c_advance(OPEN);
	ck_assert(new_asks(&r));
	c_advance(HP_MINUTE);
	ck_assert(!new_asks(&other)); /* its request may still be answered */
	c_advance(HP_HOUR);
	ck_assert(new_asks(&other));
}
END_TEST

START_TEST(a_cancelled_probe_says_nothing)
{
	struct c_run r, other;
	struct hp_transition t;

	trip_with("'slow_us':0,'probes':1");
	c_advance(OPEN);
	ck_assert(new_asks(&r));
	c_begin(&t, &r);
	c_finish(&t, HP_CANCELLED);
	c_commit_ok(&r, &t);
	ck_assert_str_eq(state_of(), "half_open");
	ck_assert(new_asks(&other)); /* and gives its place back */
}
END_TEST

START_TEST(a_fenced_worker_takes_no_place)
{
	struct c_run r = c_own(), other;
	struct hp_transition t;

	trip_with("'slow_us':0,'probes':1");
	c_advance(OPEN);
	c_begin(&t, &r);
	c_enter(&t, S_REFUND);
	c_admit(&t, REFUND, "refund:1", false);
	t.rev--;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert(new_asks(&other));
}
END_TEST

/* Nobody polls: time alone wakes as many as may probe, and then those behind them. */
START_TEST(half_open_wakes_as_many_as_may_probe)
{
	struct c_run runs[64], r;

	trip();
	for (int i = 0; i < 20; i++)
		ck_assert(!new_asks(&r));
	c_advance(OPEN);
	c_claim_none();
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	ck_assert_str_eq(state_of(), "half_open");
	ck_assert_int_eq(c_claim(c_engine, 64, runs), 3);
	ck_assert_int_eq(runs[0].row.id, 1);
	for (int i = 0; i < 3; i++)
		ck_assert(asks(&runs[i]));
	c_advance(HP_SECOND);
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	c_claim_none();
	for (int i = 0; i < 3; i++)
		replied(&runs[i], HP_CLASS_OK);
	ck_assert_str_eq(state_of(), "closed");
	ck_assert_int_eq(c_heartbeat(c_engine), HP_OK);
	ck_assert_int_eq(c_claim(c_engine, 64, runs), 10);
}
END_TEST

/* The outcome of a probe counts with its transition, or not at all. */
START_TEST(a_transition_that_cannot_be_written_closes_nothing)
{
	struct c_run r, other;
	struct hp_transition t;
	struct c_result res;

	trip_with("'slow_us':0,'probes':1");
	c_advance(OPEN);
	ck_assert(new_asks(&r));
	c_begin(&t, &r);
	t.outcome = HP_CLASS_OK;
	c_enter(&t, S_LOOK);
	t.annexes[t.n_annexes++] = (struct hp_annex){ "nonsense", hp_bytes_of("{}") };
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_str_eq(state_of(), "half_open");
	ck_assert(!new_asks(&other)); /* it has its place still */
	replied(&r, HP_CLASS_OK);
	ck_assert_str_eq(state_of(), "closed");
}
END_TEST

/* A signature that is not there takes no probe's place; one that is not sent is not asked for. */
START_TEST(an_unsigned_request_takes_no_place)
{
	struct c_run r = c_own(), other;
	struct hp_transition t;

	trip_with("'slow_us':0,'probes':1");
	c_begin(&t, &r);
	c_enter(&t, S_REFUND);
	c_admit(&t, REFUND, "refund:1", false);
	t.sends_signed = true;
	t.after.signed_visit = 1;
	t.after.signed_for = S_REFUND;
	ck_assert_str_eq(c_commit(&t).gated, "breaker_open");
	c_advance(OPEN);
	r = c_own();
	c_begin(&t, &r);
	c_enter(&t, S_REFUND);
	c_admit(&t, REFUND, "refund:1", false);
	t.sends_signed = true;
	t.after.signed_visit = 1;
	t.after.signed_for = S_REFUND;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_REFUSED);
	ck_assert_str_eq(state_of(), "open");
	ck_assert(new_asks(&other));
}
END_TEST

START_TEST(the_last_changes_are_shown)
{
	json_t *b, *log;

	for (int i = 0; i < 21; i++)
		json_decref(c_door_ok(i % 2 ? "breaker_reset" : "breaker_open", "alice", "{'breaker':'stripe','reason':'x'}"));
	b = c_door_ok("breaker", "alice", "{'breaker':'stripe'}");
	log = json_object_get(b, "log");
	ck_assert_uint_eq(json_array_size(log), 20);
	ck_assert_int_eq(hp_json_int(json_array_get(log, 0), "version", 0), 21);
	ck_assert_int_eq(hp_json_int(json_array_get(log, 19), "version", 0), 2);
	json_decref(b);
}
END_TEST

/* A person may give a long reason, and all of it is told. */
START_TEST(a_long_reason_is_told)
{
	char reason[1001];
	struct c_run r;
	json_t *history;

	memset(reason, 'x', sizeof reason - 1);
	reason[sizeof reason - 1] = 0;
	json_decref(c_door_ok("breaker_open", "alice", "{'breaker':'stripe','reason':'%s'}", reason));
	ck_assert(!new_asks(&r));
	history = c_history(r.row.id);
	ck_assert_ptr_nonnull(strstr(hp_json_str(json_array_get(history, json_array_size(history) - 1), "message"), reason));
	json_decref(history);
}
END_TEST

TCase *contract_breakers(void)
{
	TCase *t = tcase_create("breakers");

	tcase_add_test(t, what_engines_report_adds_up);
	tcase_add_test(t, of_many_that_see_the_same_one_opens_it);
	tcase_add_test(t, one_who_saw_an_older_version_opens_nothing);
	tcase_add_test(t, forced_closed_never_opens);
	tcase_add_test(t, what_was_counted_before_does_not_open_it_again);
	tcase_add_test(t, open_until_its_time_then_a_few_probe);
	tcase_add_test(t, one_bad_probe_opens_it_again_for_longer);
	tcase_add_test(t, a_slow_probe_is_a_bad_one_when_slow_is_declared);
	tcase_add_test(t, a_probe_taken_over_keeps_its_place);
	tcase_add_test(t, the_place_of_a_dead_probe_is_given_on);
	tcase_add_test(t, a_cancelled_probe_says_nothing);
	tcase_add_test(t, a_fenced_worker_takes_no_place);
	tcase_add_test(t, half_open_wakes_as_many_as_may_probe);
	tcase_add_test(t, a_transition_that_cannot_be_written_closes_nothing);
	tcase_add_test(t, an_unsigned_request_takes_no_place);
	tcase_add_test(t, the_last_changes_are_shown);
	tcase_add_test(t, a_long_reason_is_told);
	return t;
}
