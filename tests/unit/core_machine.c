/* core_machine.c: the machine, driven by hand and at random.
 *
 * Part 1 walks single roads and says what must come next. Part 2 (`walk`) drives
 * generated definitions with random outcomes, crashes, early wakes and cancels,
 * and checks invariants over every transition; its seed is printed and can be
 * given again in HP_SEED.
 */
#include "base/json.h"
#include "machine_world.h"

/* ---- calls ---- */

START_TEST(call_sends_only_after_its_admission_is_committed)
{
	world_call(HP_REPEAT_BY_KEY);
	claim();
	value("{\"amount\":1}", 1);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT); /* not SEND */
	ck_assert(W.act.transition->admits);
	ck_assert_int_eq(W.act.transition->after.attempt, 1);
	ck_assert_int_eq(W.act.transition->after.first_sent_at, W.now);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_ADMITTED);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	ck_assert_str_eq(W.act.key.p, "key-1");
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_RESULT); /* the end shares the commit of the result */
	ck_assert_ptr_nonnull(W.act.pending);
	ck_assert_int_eq(W.act.pending->n_saves, 1);
	value("", 0);
	ck_assert_int_eq(W.act.transition->disposition, HP_FINISH);
	ck_assert_str_eq(W.act.transition->saves[0].name, "refund");
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
	ck_assert_int_eq(W.run.status, HP_SUCCEEDED);
	ck_assert_int_eq(W.commits, 2);
}
END_TEST

START_TEST(admission_rides_on_the_commit_that_enters)
{
	world_call(HP_REPEAT_BY_KEY);
	W.states[1] = W.states[0];
	W.states[1].next = 3;
	state(3, "done", HP_SUCCEED);
	admitted();
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 2);
	ck_assert_int_eq(W.act.transition->after.visit, 2);
	ck_assert(W.act.transition->admits);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_ENTERED);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	ck_assert_int_eq(W.commits, 2);
}
END_TEST

START_TEST(separate_admission_makes_two_commits)
{
	world_call(HP_REPEAT_BY_KEY);
	W.states[1] = W.states[0];
	W.states[1].next = 3;
	state(3, "done", HP_SUCCEED);
	claim();
	W.m.separate_admission = true;
	value("{}", 1);
	commit();
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert(!W.act.transition->admits);
	commit();
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	ck_assert(W.act.transition->admits);
}
END_TEST

START_TEST(retryable_backs_off_with_the_same_visit_then_fails)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	for (int i = 1; i <= 2; i++) {
		reply(HP_RETRYABLE, "rate_limited");
		ck_assert_int_eq(W.act.transition->after.phase, HP_PH_BACKOFF);
		ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
		ck_assert_int_gt(W.act.transition->after.due_at, W.now);
		commit();
		ck_assert_int_eq(W.act.type, HP_ACT_DROP);
		claim(); /* woken early: nothing is sent */
		ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN);
		ck_assert_int_eq(W.act.transition->after.due_at, W.run.due_at);
		commit();
		W.now = W.run.due_at;
		claim();
		value("{}", 1);
		ck_assert_int_eq(W.act.transition->after.attempt, i + 1);
		ck_assert_int_eq(W.act.transition->after.visit, 1);
		commit();
	}
	reply(HP_RETRYABLE, "rate_limited");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD); /* nobody catches it */
	ck_assert_str_eq(W.act.transition->after.code, "rate_limited");
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}
END_TEST

START_TEST(catch_prefers_code_then_class_then_otherwise)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	W.catches[0] = (struct hp_catch){ NULL, 1, 0 };
	W.catches[1] = (struct hp_catch){ "terminal", 2, 0 };
	W.catches[2] = (struct hp_catch){ "gone", 3, 0 };
	s->n_catches = 3;
	state(3, "other", HP_CHOOSE)->choose.otherwise = 1;
	admitted();
	reply(HP_TERMINAL, "gone");
	ck_assert_int_eq(W.act.transition->after.state, 3);
	ck_assert_str_eq(W.act.transition->saves[0].name, "error");
	ck_assert_str_eq(W.act.transition->saves[0].value.p,
			 "{\"class\":\"terminal\",\"code\":\"gone\",\"message\":\"gone\",\"state\":\"pay\"}");
	world_call(HP_REPEAT_BY_KEY)->n_catches = 2;
	W.catches[0] = (struct hp_catch){ NULL, 1, 0 };
	W.catches[1] = (struct hp_catch){ "terminal", 2, 0 };
	admitted();
	reply(HP_TERMINAL, "else");
	ck_assert_int_eq(W.act.pending->after.state, 2);
	world_call(HP_REPEAT_BY_KEY);
	W.catches[0] = (struct hp_catch){ NULL, 1, 0 };
	admitted();
	reply(HP_NEEDS_PERSON, "else");
	ck_assert_int_eq(W.act.pending->after.state, 1);
}
END_TEST

START_TEST(uncaught_failure_is_held_and_never_final)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	reply(HP_TERMINAL, "no_such_charge");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_HELD);
	commit();
	claim(); /* woken for nothing */
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	commit();
	W.run.command = HP_CMD_RETRY;
	claim();
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.visit, 1); /* same visit: same key */
	ck_assert_int_eq(W.act.transition->after.attempt, 2);
	commit();
	reply(HP_TERMINAL, "no_such_charge");
	commit();
	W.run.command = HP_CMD_SKIP;
	struct hp_event ev = { .command_value = hp_bytes_of("{\"id\":\"by hand\"}") };
	claim_with(&ev);
	expect_eval(HP_EVAL_RESULT);
	ck_assert_str_eq(W.act.pending->saves[0].value.p, "{\"id\":\"by hand\"}");
	value("", 0);
	commit();
	ck_assert_int_eq(W.run.status, HP_SUCCEEDED);
}
END_TEST

START_TEST(give_up_ends_as_failed)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	reply(HP_TERMINAL, "x");
	commit();
	W.run.command = HP_CMD_GIVE_UP;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_FAILED);
	ck_assert_int_eq(W.act.transition->disposition, HP_FINISH);
	commit();
	claim();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP); /* final is final */
}
END_TEST

/* ---- unknown outcomes ---- */

START_TEST(lost_reply_inside_the_window_sends_the_same_key_again)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	int64_t first = W.run.first_sent_at;
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_BACKOFF);
	ck_assert(W.act.transition->after.unresolved);
	commit();
	W.now = W.run.due_at;
	claim();
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.attempt, 2);
	ck_assert_int_eq(W.act.transition->after.first_sent_at, first); /* the window does not move */
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}
END_TEST

START_TEST(crash_after_admission_is_an_unknown_outcome)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	claim(); /* another worker */
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.attempt, 2);
	ck_assert(W.act.transition->after.unresolved);
	world_call(HP_REPEAT_NEVER);
	admitted();
	claim();
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD); /* no probe, no repeat */
	ck_assert_str_eq(W.act.transition->after.code, "in_doubt");
}
END_TEST

static void world_doubt(void)
{
	struct hp_state *s = world_call(HP_REPEAT_NEVER);

	s->call.has_probe = true;
	admitted();
	W.now += HP_SECOND;
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	/* not before request timeout plus lease: the old request might still land */
	ck_assert_int_eq(W.act.transition->after.due_at, W.run.sent_at + s->timeout_us + LEASE);
	commit();
	claim();
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN);
	commit();
	W.now = W.run.due_at;
	claim();
	expect_eval(HP_EVAL_PROBE);
	value("{}", 9);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_PROBING);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	ck_assert(W.act.probe);
}

START_TEST(probe_found_goes_on_with_it)
{
	world_doubt();
	reply(HP_CLASS_OK, NULL);
	verdict(HP_VERDICT_FOUND);
	expect_eval(HP_EVAL_RESULT);
	value("", 0);
	commit();
	ck_assert_int_eq(W.run.status, HP_SUCCEEDED);
}
END_TEST

START_TEST(probe_absent_resumes_the_same_visit)
{
	world_doubt();
	reply(HP_CLASS_OK, NULL);
	verdict(HP_VERDICT_ABSENT);
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.visit, 1);
	ck_assert_int_eq(W.act.transition->after.attempt, 2);
	ck_assert(!W.act.transition->after.unresolved);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}
END_TEST

START_TEST(probe_unknown_or_broken_is_held)
{
	world_doubt();
	reply(HP_CLASS_OK, NULL);
	verdict(HP_VERDICT_UNKNOWN);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert(W.act.transition->after.unresolved);
	commit();
	W.run.command = HP_CMD_RETRY; /* looks again before sending again */
	claim();
	expect_eval(HP_EVAL_PROBE);
	world_doubt();
	reply(HP_CLASS_OK, NULL);
	value_error("script_error");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	world_doubt();
	reply(HP_TERMINAL, "gone");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	world_doubt();
	reply(HP_RETRYABLE, "rate_limited");
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_DOUBT);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	world_doubt();
	claim(); /* the prober died: a probe is asked again */
	expect_eval(HP_EVAL_PROBE);
}
END_TEST

/* Whatever stops a run whose request may be in the air, nothing may call that settled:
 * no catch, no retry without a look. */
START_TEST(what_is_in_the_air_stays_in_doubt)
{
	world_call(HP_REPEAT_NEVER); /* the reply cannot be stored */
	admitted();
	reply(HP_CLASS_OK, NULL);
	value("", 0);
	value_error("commit_refused");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert(W.act.transition->after.unresolved);
	world_call(HP_REPEAT_NEVER)->call.has_probe = true; /* every worker dies of it */
	admitted();
	W.run.claims = HP_CLAIMS_STALLED_MAX;
	claim();
	ck_assert_str_eq(W.act.transition->after.code, "stalled");
	ck_assert(W.act.transition->after.unresolved);
	commit();
	W.run.command = HP_CMD_RETRY;
	claim();
	expect_eval(HP_EVAL_PROBE);
	world_call(HP_REPEAT_BY_KEY)->call.has_probe = true; /* it cannot be rendered again */
	W.catches[0] = (struct hp_catch){ NULL, 2, 1 };
	admitted();
	claim();
	value_error("script_error");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	world_call(HP_REPEAT_BY_KEY)->call.has_probe = true; /* the next one is not let in */
	W.catches[0] = (struct hp_catch){ NULL, 2, 1 };
	admitted();
	claim();
	value("{}", 1);
	commit();
	reply(HP_NEEDS_PERSON, "unauthorized");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	ck_assert(W.act.transition->after.unresolved);
}
END_TEST

/* It was admitted, then waited for its place: the time to look counts from the sending. */
START_TEST(a_probe_waits_from_the_real_sending)
{
	struct hp_state *s = world_call(HP_REPEAT_NEVER);
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_AMBIGUOUS, .code = "timeout",
			       .retry_after_us = -1 };

	s->call.has_probe = true;
	admitted();
	W.now += HP_MINUTE;
	ev.sent_at = W.now - HP_SECOND;
	step(&ev);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now - HP_SECOND + s->timeout_us + LEASE);
	world_call(HP_REPEAT_NEVER)->call.has_probe = true;
	admitted();
	W.now += HP_MINUTE;
	claim(); /* it may have left just before its worker lost it */
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + W.states[0].timeout_us + LEASE);
}
END_TEST

START_TEST(a_probe_that_never_finds_it_does_not_send_for_ever)
{
	struct hp_state *s = world_call(HP_REPEAT_NEVER);
	int sent = 1;

	s->call.has_probe = true;
	s->retry.attempts = 2;
	admitted();
	for (; W.act.type == HP_ACT_SEND && sent < 20; sent++) {
		reply(HP_AMBIGUOUS, "timeout");
		commit();
		W.now = W.run.due_at;
		claim();
		value("{}", 9);
		commit();
		reply(HP_CLASS_OK, NULL);
		verdict(HP_VERDICT_ABSENT);
		if (W.act.type != HP_ACT_EVAL)
			break;
		value("{}", 1);
		commit();
	}
	ck_assert_int_eq(sent, 5);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert(W.act.transition->after.unresolved);
}
END_TEST

START_TEST(past_the_window_looks_first)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	s->call.has_probe = true;
	admitted();
	W.now += HP_DAY - s->timeout_us; /* it could arrive past the window */
	claim();
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	W.now += HP_DAY - W.states[0].timeout_us - 1;
	claim();
	value("{}", 1);
	ck_assert(W.act.transition->admits);
}
END_TEST

START_TEST(changed_request_is_in_doubt)
{
	world_call(HP_REPEAT_BY_KEY)->call.has_probe = true;
	admitted();
	claim();
	value("{\"other\":1}", 2);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	/* after a definite failure nothing is in the air: the new request may go */
	world_call(HP_REPEAT_BY_KEY)->call.has_probe = true;
	admitted();
	reply(HP_RETRYABLE, "rate_limited");
	commit();
	W.now = W.run.due_at;
	claim();
	value("{\"other\":1}", 2);
	ck_assert(W.act.transition->admits);
}
END_TEST

START_TEST(business_key_seen_long_ago_is_in_doubt)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	s->call.has_key = s->call.has_probe = true;
	claim();
	value("{}", 1);
	ck_assert(W.act.transition->business_key);
	commit_ev(false, W.now - 2 * HP_DAY);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	s = world_call(HP_REPEAT_BY_KEY);
	s->call.has_key = true;
	claim();
	value("{}", 1);
	commit_ev(false, W.now - HP_HOUR); /* the provider still knows the key */
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}
END_TEST

/* ---- people ---- */

START_TEST(approved_sends_the_stored_request)
{
	struct hp_event ev = { .decision = HP_APPROVED, .decision_value = hp_bytes_of("{\"by\":\"alice\"}") };

	world_approval(false);
	claim();
	expect_eval(HP_EVAL_APPROVAL);
	value("{\"ask\":\"?\"}", 5);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->approval_deadline, W.now + 4 * HP_HOUR);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + HP_HOUR);
	ck_assert_int_eq(W.act.transition->approval_hash[0], 5);
	commit();
	claim_with(&ev);
	expect_eval(HP_EVAL_REQUEST);
	ck_assert_int_eq(W.act.index, 1); /* the stored one */
	ck_assert_int_eq(W.act.pending->after.signed_visit, 1);
	value("{}", 5);
	ck_assert(W.act.transition->sends_signed);
	commit();
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_eq(W.act.pending->after.signed_visit, 0); /* for one sending only */
}
END_TEST

START_TEST(approval_reminds_expires_and_never_says_yes)
{
	world_approval(false);
	claim();
	value("{}", 5);
	commit();
	W.now = W.run.due_at;
	claim();
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_REMINDED);
	ck_assert_int_eq(W.act.transition->after.due_at, W.run.entered_at + 4 * HP_HOUR);
	commit();
	W.now = W.run.due_at;
	claim();
	expect_eval(HP_EVAL_RESULT);
	ck_assert_int_eq(W.act.pending->after.state, 3);
	ck_assert(W.act.pending->approval_closes);
	world_approval(false)->approval.expired = HP_NO_STATE;
	claim();
	value("{}", 5);
	commit();
	W.now += 4 * HP_HOUR;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->after.code, "expired");
	commit();
	W.run.command = HP_CMD_SKIP; /* would be a yes by somebody who was not asked */
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_int_eq(W.act.transition->after.state, 0);
	commit();
	W.run.command = HP_CMD_RETRY; /* asks anew, as a new visit */
	claim();
	expect_eval(HP_EVAL_APPROVAL);
	ck_assert_int_eq(W.act.pending->after.visit, 2);
}
END_TEST

START_TEST(rejected_takes_its_way_or_is_held)
{
	struct hp_event ev = { .decision = HP_REJECTED, .decision_value = hp_bytes_of("{}") };

	world_approval(false);
	claim();
	value("{}", 5);
	commit();
	claim_with(&ev);
	ck_assert_int_eq(W.act.pending->after.state, 3);
	ck_assert_str_eq(W.act.pending->saves[0].name, "decision");
	world_approval(false)->approval.rejected = HP_NO_STATE;
	claim();
	value("{}", 5);
	commit();
	claim_with(&ev);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
}
END_TEST

START_TEST(when_false_goes_straight_on_unsigned)
{
	world_approval(true);
	claim();
	truth(false);
	expect_eval(HP_EVAL_REQUEST);
	ck_assert_int_eq(W.act.index, 0);
	value("{}", 5);
	ck_assert(!W.act.transition->sends_signed);
}
END_TEST

/* ---- waits, events, choices, sql ---- */

START_TEST(timer_never_fires_early)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true };

	setup();
	state(0, "wait", HP_WAIT);
	state(1, "done", HP_SUCCEED);
	claim();
	expect_eval(HP_EVAL_UNTIL);
	ev.number = W.now + HP_HOUR;
	step(&ev);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + HP_HOUR);
	commit();
	W.now += HP_HOUR - 1;
	claim();
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	commit();
	W.now += 1;
	claim();
	expect_eval(HP_EVAL_RESULT);
}
END_TEST

START_TEST(await_takes_mail_or_times_out)
{
	struct hp_state *s;
	struct hp_event ev = { .mail_id = 12, .mail = hp_bytes_of("{\"status\":\"succeeded\"}") };

	for (int late = 0; late < 2; late++) {
		setup();
		s = state(0, "confirm", HP_AWAIT);
		s->await.n_events = 1;
		s->await.within_us = HP_DAY;
		s->await.timeout = 2;
		s->save = "event";
		state(1, "done", HP_SUCCEED);
		state(2, "late", HP_FAIL)->fail.code = "late";
		claim();
		expect_eval(HP_EVAL_MAILBOX);
		value("re_1", 0);
		ck_assert_str_eq(W.act.transition->wait_keys.p, "re_1");
		ck_assert_int_eq(W.act.transition->after.due_at, W.now + HP_DAY);
		commit();
		claim();
		ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN);
		commit();
		if (late) {
			W.now += HP_DAY;
			claim();
			ck_assert_int_eq(W.act.pending->after.state, 2);
		} else {
			claim_with(&ev);
			ck_assert_int_eq(W.act.pending->after.state, 1);
			ck_assert_int_eq(W.act.pending->consume_mail, 12);
			ck_assert_str_eq(W.act.pending->saves[0].name, "event");
		}
	}
}
END_TEST

START_TEST(choose_takes_the_first_true_branch)
{
	struct hp_state *s;

	for (int which = 0; which < 3; which++) {
		setup();
		s = state(0, "choose", HP_CHOOSE);
		W.branches[0].next = 1;
		W.branches[1].next = 2;
		s->choose.branches = W.branches;
		s->choose.n_branches = 2;
		s->choose.otherwise = 3;
		for (int i = 1; i < 4; i++)
			state(i, "end", HP_SUCCEED);
		claim();
		for (int i = 0; i < 2 && W.act.eval == HP_EVAL_WHEN; i++) {
			ck_assert_int_eq(W.act.index, i);
			truth(i == which);
		}
		ck_assert_int_eq(W.act.pending->after.state, which + 1);
	}
}
END_TEST

START_TEST(set_of_a_choice_is_saved_on_every_way_out)
{
	for (int which = 0; which < 2; which++) {
		setup();
		struct hp_state *s = state(0, "choose", HP_CHOOSE);
		W.branches[0].next = 1;
		s->choose.branches = W.branches;
		s->choose.n_branches = 1;
		s->choose.otherwise = 2;
		s->has_set = true;
		state(1, "end", HP_SUCCEED);
		state(2, "end", HP_SUCCEED);
		claim();
		truth(which == 0);
		expect_eval(HP_EVAL_SET);
		value("{\"n\":1}", 0);
		ck_assert_int_eq(W.act.pending->after.state, which + 1);
		ck_assert_int_eq(W.act.pending->n_saves, 1);
	}
}
END_TEST

START_TEST(sql_commits_inside_its_transaction_and_retries_conflicts)
{
	struct hp_event none = { .type = HP_EV_REPLY, .none = true, .retry_after_us = -1 };
	struct hp_state *s;

	setup();
	s = state(0, "record", HP_SQL);
	s->save = "row";
	s->sql.mode = HP_SQL_ONE;
	state(1, "done", HP_SUCCEED);
	claim();
	expect_eval(HP_EVAL_ARGS);
	value("{\"args\":[]}", 0);
	ck_assert_int_eq(W.act.type, HP_ACT_SQL);
	reply(HP_RETRYABLE, "serialization_failure");
	ck_assert(!W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_BACKOFF);
	commit();
	W.now = W.run.due_at;
	claim();
	value("{\"args\":[]}", 0);
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert(W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->after.state, 1); /* entered, not ended, in the author's transaction */
	ck_assert_int_eq(W.act.transition->disposition, HP_KEEP);
	commit();
	expect_eval(HP_EVAL_RESULT);
	setup();
	state(0, "record", HP_SQL);
	state(1, "done", HP_SUCCEED);
	claim();
	value("{\"args\":[]}", 0);
	step(&none);
	ck_assert(!W.act.transition->in_sql);
	ck_assert_str_eq(W.act.transition->after.code, "no_rows");
}
END_TEST

START_TEST(set_sees_the_save_and_a_failing_set_aborts_sql)
{
	struct hp_state *s;

	setup();
	s = state(0, "record", HP_SQL);
	s->has_set = true;
	s->save = "row";
	state(1, "done", HP_SUCCEED);
	claim();
	value("{\"args\":[]}", 0);
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_SET);
	ck_assert_int_eq(W.act.pending->n_saves, 1);
	value_error("script_error");
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert(!W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
}
END_TEST

START_TEST(failing_expression_while_entering_takes_the_catch)
{
	world_call(HP_REPEAT_BY_KEY);
	W.states[1] = W.states[0];
	W.catches[0] = (struct hp_catch){ "script_error", 2, 0 };
	W.states[0].n_catches = 0;
	admitted();
	reply(HP_CLASS_OK, NULL);
	value_error("script_error");
	ck_assert(!W.act.transition->admits);
	ck_assert_int_eq(W.act.transition->after.state, 1);
	commit();
	expect_eval(HP_EVAL_REQUEST);
	value_error("script_error");
	ck_assert_int_eq(W.act.pending->after.state, 2);
}
END_TEST

/* ---- cancel, poison, refusal ---- */

START_TEST(cancel_waits_for_the_effect_in_the_air)
{
	world_call(HP_REPEAT_BY_KEY);
	claim();
	value("{}", 1);
	commit_ev(true, 0); /* admitted but not sent: nothing leaves */
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	W.run.cancel = true; /* while it is in the air, and the worker dies */
	claim();
	expect_eval(HP_EVAL_REQUEST); /* resolved first */
	value("{}", 1);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	ck_assert_int_eq(W.act.transition->n_saves, 1); /* what happened is kept */
	world_approval(false);
	claim();
	value("{}", 5);
	commit();
	W.run.cancel = true;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	ck_assert(W.act.transition->approval_closes);
}
END_TEST

START_TEST(poison_is_held)
{
	world_call(HP_REPEAT_BY_KEY);
	W.run.claims = HP_CLAIMS_STALLED_MAX;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->after.code, "stalled");
	ck_assert_int_eq(W.act.transition->after.claims, 0);
}
END_TEST

START_TEST(refused_transition_is_held)
{
	world_call(HP_REPEAT_BY_KEY);
	claim();
	value("{}", 1);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	value_error("commit_refused");
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert(!W.act.transition->admits);
	ck_assert_int_eq(W.act.transition->after.attempt, 0);
}
END_TEST

START_TEST(endless_loop_is_held)
{
	setup();
	state(0, "again", HP_CHOOSE)->choose.otherwise = 0;
	claim();
	while (W.run.status == HP_RUNNING && W.commits < 2 * HP_VISITS_MAX)
		commit();
	ck_assert_int_eq(W.run.status, HP_HELD);
	ck_assert_str_eq(W.run.code, "too_many_visits");
	ck_assert_int_eq(W.run.visit, HP_VISITS_MAX);
}
END_TEST

START_TEST(long_messages_stay_valid_text)
{
	char msg[2000];

	world_call(HP_REPEAT_BY_KEY)->n_catches = 1;
	W.catches[0] = (struct hp_catch){ NULL, 2, 0 };
	for (size_t i = 0; i + 2 < sizeof msg; i += 2)
		memcpy(msg + i, "\xC3\xA9", 3);
	admitted();
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_TERMINAL, .code = "x", .message = msg };
	step(&ev);
	const char *j = W.act.pending->saves[0].value.p;
	size_t n = W.act.pending->saves[0].value.n;
	ck_assert_uint_eq(strlen(j), n);
	ck_assert_ptr_nonnull(strstr(j, "\xC3\xA9\",\"state\":\"pay\"}"));
}
END_TEST

/* ---- random walks ---- */

static uint64_t seed;
static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 11) % n;
}

struct sent {
	int32_t visit;
	uint8_t hash;
};

static void walk_arms(struct hp_state *s, int n)
{
	bool waits = s->kind == HP_APPROVAL || s->kind == HP_WAIT || s->kind == HP_AWAIT;
	int count = waits ? (int)rnd(4) : 0;

	s->arms = W.arms[s - W.states];
	for (int i = 0; i < count; i++) {
		static const char *const names[] = { "a", "b", "c" };
		struct hp_arm *arm = &s->arms[s->n_arms++];

		*arm = (struct hp_arm){ .name = names[i], .kind = (enum hp_arm_kind)(1 + rnd(3)), .event = "e",
					.next = (int)rnd((uint32_t)n + 1), .save = rnd(2) ? "y" : NULL,
					.after_us = rnd(2) ? (int64_t)rnd(5000) * HP_SECOND : 0,
					.every_us = (1 + (int64_t)rnd(100)) * HP_SECOND, .timeout_us = HP_SECOND,
					.op = { "look", "up", HP_REPEAT_BY_NATURE, 0, true, false },
					.failures = (int)rnd(3), .failed = rnd(2) ? n : HP_NO_STATE };
	}
}

/* What a store would say of the mailboxes the state looks into. */
static void walk_mail(struct hp_event *ev)
{
	const struct hp_state *s = &W.states[W.run.state];
	int boxes = hp_state_events(s);

	for (int i = 0; i < s->n_arms; i++)
		boxes += s->arms[i].kind == HP_ARM_EVENT;
	if (boxes > 0 && rnd(3) == 0) {
		ev->mail_id = 1;
		ev->mail_wait = (int32_t)rnd((uint32_t)boxes);
	}
	ev->annex = hp_bytes_of(W.annex);
}

/* … and of what it was given to keep. */
static void walk_keep(const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++) {
		json_t *doc = hp_json_parse(t->annexes[i].doc.p, t->annexes[i].doc.n, "annex", NULL);

		ck_assert_ptr_nonnull(doc);
		ck_assert(json_object_get(doc, "over") ||
			  (i == t->n_annexes - 1 && t->after.phase == HP_PH_OPEN && t->after.status == HP_WAITING));
		json_decref(doc);
		snprintf(W.annex, sizeof W.annex, "{\"arms\":%.*s}", (int)t->annexes[i].doc.n, t->annexes[i].doc.p);
	}
	ck_assert_int_le(t->n_annexes, 2); /* one state is left, another is waited in */
	if (t->quiet) { /* nothing but the time of waking may change without a trace */
		ck_assert_int_eq(t->disposition, HP_PARK);
		ck_assert_int_eq(t->after.visit, W.run.visit);
		ck_assert_int_eq(t->after.phase, HP_PH_OPEN);
		ck_assert_int_eq(t->after.status, HP_WAITING);
		ck_assert_int_eq(t->n_saves, 0);
		ck_assert(!t->result.n && t->consume_mail == 0);
	}
}

static void walk_definition(int n)
{
	for (int i = 0; i < n; i++) {
		struct hp_state *s = state(i, "s", (enum hp_kind)(1 + rnd(6)));

		s->has_set = rnd(4) == 0;
		s->next = (int)rnd((uint32_t)n + 1);
		s->save = rnd(2) ? "x" : NULL;
		s->call.op.repeat = (enum hp_repeat)rnd(3);
		s->call.op.window_us = HP_HOUR;
		s->call.has_probe = rnd(2);
		s->call.has_key = rnd(2);
		s->approval.deadline_us = HP_HOUR;
		s->approval.has_when = rnd(2);
		s->approval.rejected = rnd(2) ? n : HP_NO_STATE;
		s->await.timeout = n;
		s->await.within_us = HP_HOUR;
		s->await.n_events = 1;
		walk_arms(s, n);
		s->choose.otherwise = (int)rnd((uint32_t)n + 1);
		s->sql.none = rnd(2) ? n : HP_NO_STATE;
		W.catches[0].next = n;
		s->catches = W.catches;
		s->n_catches = (int)rnd(2);
	}
	state(n, "done", HP_SUCCEED);
}

static void walk_value(void)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = rnd(30) != 0, .truth = rnd(2),
			       .number = W.now + (int64_t)rnd(100) * HP_SECOND,
			       .verdict = (enum hp_verdict)rnd(3), .code = "script_error",
			       .value = hp_bytes_of("{}"), .key = hp_bytes_of("k") };

	memset(ev.hash, rnd(20) ? 1 : 2, sizeof ev.hash);
	step(&ev);
}

static void walk_claim(void)
{
	struct hp_event ev = { .cancel = rnd(60) == 0, .decision = (enum hp_decision)rnd(3),
			       .mail = hp_bytes_of("{}"), .decision_value = hp_bytes_of("{}"),
			       .command_value = hp_bytes_of("0") };

	walk_mail(&ev);
	pause_flag = rnd(10) == 0;
	if (W.run.status == HP_HELD)
		W.run.command = rnd(20) ? (enum hp_command)rnd(4) : HP_CMD_RESTART;
	if (W.run.due_at > W.now && rnd(3))
		W.now = W.run.due_at;
	W.now += (int64_t)rnd(1000) * HP_MSEC;
	claim_with(&ev);
}

static void walk_transition(void)
{
	const struct hp_transition *t = W.act.transition;
	const struct hp_state *from = &W.states[W.run.state];
	bool was_final = hp_status_final(W.run.status);

	ck_assert(!was_final);
	walk_keep(t);
	ck_assert_int_eq(t->after.epoch, W.run.epoch);
	ck_assert(t->after.visit == W.run.visit || t->after.visit == W.run.visit + 1);
	ck_assert(t->after.visit != W.run.visit || t->after.state == W.run.state);
	if (t->admits) {
		ck_assert_int_eq(t->after.phase, HP_PH_ADMITTED);
		ck_assert_int_eq(t->disposition, HP_KEEP);
		/* an unresolved effect is never repeated with another request, nor past its window */
		if (t->after.visit == W.run.visit && t->after.unresolved) {
			ck_assert_mem_eq(t->after.request_hash, W.run.request_hash, HP_SHA256_LEN);
			ck_assert_int_ne(from->call.op.repeat, HP_REPEAT_NEVER);
			if (from->call.op.repeat == HP_REPEAT_BY_KEY)
				ck_assert_int_lt(W.now, t->after.first_sent_at + from->call.op.window_us);
		}
	}
	if (t->disposition == HP_PARK)
		ck_assert(t->after.due_at > 0 || t->after.status == HP_HELD || t->after.pause);
	if (t->move == HP_MOVE_PAUSED) /* nothing of it is in the air */
		ck_assert(t->after.phase != HP_PH_ADMITTED && t->after.phase != HP_PH_PROBING);
	if (t->in_sql)
		ck_assert_int_eq(from->kind, HP_SQL);
	if (t->disposition == HP_KEEP)
		ck_assert_int_eq(t->after.status, HP_RUNNING);
}

START_TEST(walk)
{
	const char *given = getenv("HP_SEED");
	uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
	int finished = 0;

	printf("core_machine walk: HP_SEED=%llu\n", (unsigned long long)first);
	for (int w = 0; w < 3000; w++) {
		seed = first + (uint64_t)w * 7919 + 1;
		setup();
		walk_definition(1 + (int)rnd(6));
		walk_claim();
		for (int i = 0; i < 300 && !hp_status_final(W.run.status); i++) {
			if (W.act.type == HP_ACT_DROP || rnd(25) == 0) { /* parked, or the worker dies */
				walk_claim();
			} else if (W.act.type == HP_ACT_COMMIT) {
				walk_transition();
				W.gate = rnd(20) == 0 && (W.act.transition->admits || W.act.transition->move == HP_MOVE_PROBING);
				if (rnd(40) == 0)
					value_error("commit_refused");
				else {
					pause_flag = rnd(30) == 0;
					commit_ev(rnd(200) == 0, 0);
				}
			} else if (W.act.type == HP_ACT_EVAL) {
				walk_value();
			} else {
				if (W.act.type == HP_ACT_SEND && W.act.arm) { /* a look beside an open wait */
					ck_assert(W.act.op->read);
					ck_assert_int_eq(W.run.phase, HP_PH_OPEN);
				} else if (W.act.type == HP_ACT_SEND) { /* only what is committed is sent */
					ck_assert(W.run.phase == HP_PH_ADMITTED || W.run.phase == HP_PH_PROBING);
					ck_assert_int_eq(W.run.phase == HP_PH_PROBING, W.act.probe);
				}
				struct hp_event ev = { .type = HP_EV_REPLY, .outcome = (enum hp_class)rnd(5),
						       .code = "c", .none = rnd(5) == 0, .retry_after_us = -1,
						       .value = hp_bytes_of("{}") };
				step(&ev);
			}
		}
		finished += hp_status_final(W.run.status);
	}
	ck_assert_int_gt(finished, 1500); /* the walks do get somewhere */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("core_machine");
	TCase *t = tcase_create("roads");
	SRunner *r;
	int failed;

	tcase_add_test(t, call_sends_only_after_its_admission_is_committed);
	tcase_add_test(t, admission_rides_on_the_commit_that_enters);
	tcase_add_test(t, separate_admission_makes_two_commits);
	tcase_add_test(t, retryable_backs_off_with_the_same_visit_then_fails);
	tcase_add_test(t, catch_prefers_code_then_class_then_otherwise);
	tcase_add_test(t, uncaught_failure_is_held_and_never_final);
	tcase_add_test(t, give_up_ends_as_failed);
	tcase_add_test(t, lost_reply_inside_the_window_sends_the_same_key_again);
	tcase_add_test(t, crash_after_admission_is_an_unknown_outcome);
	tcase_add_test(t, probe_found_goes_on_with_it);
	tcase_add_test(t, probe_absent_resumes_the_same_visit);
	tcase_add_test(t, probe_unknown_or_broken_is_held);
	tcase_add_test(t, past_the_window_looks_first);
	tcase_add_test(t, what_is_in_the_air_stays_in_doubt);
	tcase_add_test(t, a_probe_waits_from_the_real_sending);
	tcase_add_test(t, a_probe_that_never_finds_it_does_not_send_for_ever);
	tcase_add_test(t, changed_request_is_in_doubt);
	tcase_add_test(t, business_key_seen_long_ago_is_in_doubt);
	tcase_add_test(t, approved_sends_the_stored_request);
	tcase_add_test(t, approval_reminds_expires_and_never_says_yes);
	tcase_add_test(t, rejected_takes_its_way_or_is_held);
	tcase_add_test(t, when_false_goes_straight_on_unsigned);
	tcase_add_test(t, timer_never_fires_early);
	tcase_add_test(t, await_takes_mail_or_times_out);
	tcase_add_test(t, set_of_a_choice_is_saved_on_every_way_out);
	tcase_add_test(t, choose_takes_the_first_true_branch);
	tcase_add_test(t, sql_commits_inside_its_transaction_and_retries_conflicts);
	tcase_add_test(t, set_sees_the_save_and_a_failing_set_aborts_sql);
	tcase_add_test(t, failing_expression_while_entering_takes_the_catch);
	tcase_add_test(t, cancel_waits_for_the_effect_in_the_air);
	tcase_add_test(t, poison_is_held);
	tcase_add_test(t, refused_transition_is_held);
	tcase_add_test(t, endless_loop_is_held);
	tcase_add_test(t, long_messages_stay_valid_text);
	tcase_add_test(t, walk);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
