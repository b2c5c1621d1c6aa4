/* core_machine.c: the machine, driven by hand along single roads; each test says what must
 * come next. core_walk.c drives it at random.
 */
#include "lib/suite.h"
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

/* "review" signs "pay", and the road goes past "tell" first, whose own approval had no need to ask. */
START_TEST(a_signature_is_for_its_own_call)
{
	struct hp_event yes = { .decision = HP_APPROVED, .decision_value = hp_bytes_of("{}") };

	world_approval(false)->next = 4;
	*state(4, "tell", HP_CALL) = W.states[1];
	W.states[4].name = "tell";
	W.states[4].call.signed_by = 5;
	W.states[4].next = 1;
	state(5, "second", HP_APPROVAL)->approval.of = 4;
	claim();
	value("{\"ask\":\"?\"}", 5);
	commit();
	claim_with(&yes);
	ck_assert_int_eq(W.act.pending->after.state, 4);
	expect_eval(HP_EVAL_REQUEST);
	ck_assert_int_eq(W.act.index, 0); /* its own */
	value("{}", 6);
	ck_assert(!W.act.transition->sends_signed);
	commit();
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_eq(W.act.pending->after.state, 1);
	ck_assert_int_eq(W.act.pending->after.signed_visit, 1); /* still there for whom it is */
	expect_eval(HP_EVAL_REQUEST);
	ck_assert_int_eq(W.act.index, 1);
	value("{}", 5);
	ck_assert(W.act.transition->sends_signed);
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

/* What an evaluation says lives in the stepper's scratch: it is kept whole, or it is known that it is not. */
START_TEST(an_event_is_kept_whole_or_not_at_all)
{
	static const char text[] = "abcdefghijklmnop";
	size_t max = 0;
	int rc;

	do {
		struct hp_event ev = { .value = { text, 16 }, .demands = { text, 3 }, .key = { text, 4 }, .secrets = { text, 5 },
				       .swept = { .cursor = { text, 6 }, .row = { text, 7 } }, .code = text };
		const struct hp_bytes *const places[] = { &ev.value, &ev.demands, &ev.key, &ev.secrets, &ev.swept.cursor, &ev.swept.row };
		struct hp_arena *a = hp_arena_new(max += 16);

		ck_assert_ptr_nonnull(a);
		rc = hp_event_keep(&ev, a);
		for (size_t i = 0; rc == 0 && i < sizeof places / sizeof *places; i++) {
			ck_assert_ptr_ne(places[i]->p, text);
			ck_assert_mem_eq(places[i]->p, text, places[i]->n);
		}
		ck_assert(rc < 0 || (ev.code != text && strcmp(ev.code, text) == 0 && !ev.message));
		hp_arena_free(a);
	} while (rc < 0);
	ck_assert_uint_gt(max, 100);
}
END_TEST

HP_SUITE("core_machine", call_sends_only_after_its_admission_is_committed,
	 admission_rides_on_the_commit_that_enters, separate_admission_makes_two_commits,
	 retryable_backs_off_with_the_same_visit_then_fails, catch_prefers_code_then_class_then_otherwise,
	 uncaught_failure_is_held_and_never_final, give_up_ends_as_failed, approved_sends_the_stored_request, a_signature_is_for_its_own_call,
	 approval_reminds_expires_and_never_says_yes, rejected_takes_its_way_or_is_held,
	 when_false_goes_straight_on_unsigned, timer_never_fires_early, await_takes_mail_or_times_out,
	 set_of_a_choice_is_saved_on_every_way_out, choose_takes_the_first_true_branch,
	 sql_commits_inside_its_transaction_and_retries_conflicts,
	 set_sees_the_save_and_a_failing_set_aborts_sql, failing_expression_while_entering_takes_the_catch,
	 cancel_waits_for_the_effect_in_the_air, poison_is_held, refused_transition_is_held,
	 endless_loop_is_held, long_messages_stay_valid_text, an_event_is_kept_whole_or_not_at_all)
