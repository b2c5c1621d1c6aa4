/* core_doubt.c: the machine when nobody knows whether an effect has happened (promise 4): the
 * same key inside the provider's window, the probe after it, a person when neither tells.
 */
#include "lib/suite.h"
#include "machine_world.h"

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

/* Every attempt was lost, and there is nobody to ask: a person has to look. */
START_TEST(the_last_lost_reply_without_a_probe_is_held)
{
	world_call(HP_REPEAT_BY_KEY)->retry.attempts = 1;
	admitted();
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_int_eq(W.act.transition->after.held_class, HP_AMBIGUOUS);
	ck_assert(W.act.transition->after.unresolved);
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

static void unsent(void)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .unsent = true, .retry_after_us = -1 };

	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	step(&ev);
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
}

START_TEST(what_waited_too_long_is_admitted_anew)
{
	struct hp_state *s = world_call(HP_REPEAT_NEVER);

	s->call.has_key = s->call.has_probe = true;
	admitted();
	ck_assert_int_eq(W.act.leave_by, W.run.sent_at + LEASE * HP_LEASE_SEND_PERCENT / 100);
	W.now = W.act.leave_by;
	unsent();
	ck_assert(W.act.transition->admits);
	ck_assert_int_eq(W.act.transition->after.attempt, 1);
	commit_ev(false, W.now - 1); /* and another run was admitted meanwhile */
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
}
END_TEST

START_TEST(a_repeat_that_waited_is_no_longer_safe)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	s->call.has_probe = true;
	admitted();
	ck_assert_int_eq(W.act.leave_by, 0); /* nobody has seen the key yet */
	reply(HP_AMBIGUOUS, "timeout");
	commit();
	W.now = W.run.due_at;
	claim();
	value("{}", 1);
	commit();
	ck_assert_int_eq(W.act.leave_by, W.run.first_sent_at + HP_DAY - s->timeout_us);
	W.now = W.act.leave_by;
	unsent();
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
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

/* The commit waited, and who was admitted before us may have been so just now: its request may
 * leave for as long as any, and that is what a look has to outwait. */
START_TEST(a_business_key_seen_late_is_outwaited_from_then)
{
	struct hp_state *s = world_call(HP_REPEAT_NEVER);
	int64_t rendered = W.now;

	s->call.has_key = s->call.has_probe = true;
	claim();
	value("{}", 1);
	W.now += LEASE;
	commit_ev(false, W.now - 1);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	ck_assert_int_gt(W.now, rendered);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + s->timeout_us + LEASE);
}
END_TEST

/* Held in doubt, and told to try again: while the provider knows the key, whatever comes of the
 * repeat is the answer to what was in doubt; what says nothing of it leaves it in doubt. */
START_TEST(a_retry_under_the_key_does_not_forget_the_doubt)
{
	world_call(HP_REPEAT_BY_KEY)->retry.attempts = 1;
	admitted();
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	commit();
	W.run.command = HP_CMD_RETRY;
	claim();
	value("{}", 1);
	ck_assert(W.act.transition->after.unresolved);
	commit();
	reply(HP_RETRYABLE, "rate_limited"); /* no word of the first one */
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_int_eq(W.act.transition->after.held_class, HP_AMBIGUOUS);
	ck_assert(W.act.transition->after.unresolved);
	commit();
	W.run.command = HP_CMD_RETRY;
	claim();
	value("{}", 1);
	commit();
	reply(HP_TERMINAL, "declined");
	ck_assert(!W.act.transition->after.unresolved);
}
END_TEST

/* What cannot be sent again as it was is in a person's hands: their retry is their word. */
START_TEST(a_retry_of_what_cannot_be_repeated_is_a_persons_word)
{
	for (int why = 0; why < 3; why++) {
		world_call(why == 0 ? HP_REPEAT_NEVER : HP_REPEAT_BY_KEY)->retry.attempts = 1;
		admitted();
		reply(HP_AMBIGUOUS, "timeout");
		commit();
		if (why == 1)
			W.now += 2 * HP_DAY; /* the provider has forgotten the key */
		W.run.command = HP_CMD_RETRY;
		claim();
		value("{}", why == 2 ? 2 : 1); /* a different request: told first */
		if (why == 2) {
			ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
			ck_assert(W.act.transition->after.unresolved);
			commit();
			W.run.command = HP_CMD_RETRY;
			claim();
			value("{}", 2);
		}
		ck_assert_int_eq(W.act.transition->move, HP_MOVE_ADMITTED);
		ck_assert(!W.act.transition->after.unresolved);
		ck_assert_int_eq(W.act.transition->after.first_sent_at, W.now);
	}
}
END_TEST

static bool brings(const char *kind, const char *text)
{
	const struct hp_transition *t = W.act.transition;

	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	for (int i = 0; i < t->n_annexes; i++)
		if (strcmp(t->annexes[i].kind, kind) == 0 && strstr(t->annexes[i].doc.p, text))
			return true;
	return false;
}

/* A cancelled run whose effect is in doubt, although a `catch` would lead on: a person is
 * asked about that effect, and the log says nothing of it before the answer. */
static void world_cancelled_in_doubt(bool happened)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	W.def.cancel_undoes = true;
	W.catches[0].match = NULL;
	s->has_undo = true;
	s->retry.attempts = 2;
	admitted();
	reply(HP_AMBIGUOUS, "timeout");
	commit();
	W.run.cancel = true;
	W.now = W.run.due_at;
	claim();
	value("{}", 1);
	commit();
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->after.code, "in_doubt");
	ck_assert(!brings("undo", "add"));
	commit();
	W.run.command = happened ? HP_CMD_UNDO_HAPPENED : HP_CMD_UNDO_ABSENT;
	claim();
}

START_TEST(a_person_is_asked_once_what_happened)
{
	world_cancelled_in_doubt(false);
	ck_assert(brings("undo", "begin"));
	ck_assert(!brings("undo", "add"));
	world_cancelled_in_doubt(true);
	expect_eval(HP_EVAL_UNDO);
	value("{\"add\":{\"text\":\"by hand\"}}", 0);
	ck_assert(brings("undo", "by hand"));
	ck_assert(brings("undo", "begin"));
}
END_TEST

HP_SUITE("core_doubt", lost_reply_inside_the_window_sends_the_same_key_again, the_last_lost_reply_without_a_probe_is_held,
	 crash_after_admission_is_an_unknown_outcome, probe_found_goes_on_with_it,
	 probe_absent_resumes_the_same_visit, probe_unknown_or_broken_is_held,
	 what_is_in_the_air_stays_in_doubt, a_probe_waits_from_the_real_sending,
	 a_probe_that_never_finds_it_does_not_send_for_ever, past_the_window_looks_first,
	 what_waited_too_long_is_admitted_anew, a_repeat_that_waited_is_no_longer_safe,
	 changed_request_is_in_doubt, business_key_seen_long_ago_is_in_doubt,
	 a_business_key_seen_late_is_outwaited_from_then, a_retry_under_the_key_does_not_forget_the_doubt,
	 a_retry_of_what_cannot_be_repeated_is_a_persons_word,
	 a_person_is_asked_once_what_happened)
