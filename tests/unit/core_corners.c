/* core_corners.c: what seldom happens to a run: an order that meets it in an odd place, a
 * second door that was faster, texts and replies that are not as they should be. What a
 * machine is for is told in core_machine.c and the others. */
#include "base/json.h"
#include "lib/suite.h"
#include "machine_world.h"

static const struct hp_transition *t(void)
{
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	return W.act.transition;
}

static void held(const char *code)
{
	ck_assert_int_eq(t()->after.status, HP_HELD);
	ck_assert_int_eq(t()->move, HP_MOVE_HELD);
	ck_assert_str_eq(t()->after.code, code);
}

static const char *annex(const char *kind)
{
	static char text[1024];

	for (int i = 0; i < t()->n_annexes; i++)
		if (strcmp(t()->annexes[i].kind, kind) == 0) {
			snprintf(text, sizeof text, "%.*s", (int)t()->annexes[i].doc.n, t()->annexes[i].doc.p);
			return text;
		}
	return NULL;
}

static void order(enum hp_command c, const char *value)
{
	struct hp_event ev = { .command_value = hp_bytes_of(value) };

	W.run.command = c;
	claim_with(&ev);
}

static void unwinding(const char *found)
{
	struct hp_event ev = { .annex = hp_bytes_of(found) };

	world_call(HP_REPEAT_BY_KEY);
	state(3, "pay.undo", HP_CALL)->next = HP_NO_STATE;
	W.states[3].call.op = W.states[0].call.op;
	W.def.n_states = 3;
	W.def.n_undos = 1;
	W.run.phase = HP_PH_UNDOING;
	claim_with(&ev);
}

/* ---- names ---- */

START_TEST(what_has_no_name_is_unknown)
{
	ck_assert_str_eq(hp_move_name((enum hp_move)0), "unknown");
	ck_assert_str_eq(hp_move_name((enum hp_move)99), "unknown");
	ck_assert_str_eq(hp_move_name(HP_MOVE_STARTED), "started");
	ck_assert_str_eq(hp_status_name((enum hp_status)99), "unknown");
	ck_assert_str_eq(hp_status_name(HP_RUNNING), "running");
	ck_assert_str_eq(hp_status_name(HP_WAITING), "waiting");
	ck_assert_str_eq(hp_status_name(HP_HELD), "held");
	ck_assert_str_eq(hp_status_name(HP_SUCCEEDED), "succeeded");
	ck_assert_str_eq(hp_status_name(HP_FAILED), "failed");
	ck_assert_str_eq(hp_status_name(HP_CANCELLED), "cancelled");
}
END_TEST

/* ---- orders ---- */

START_TEST(a_restart_goes_to_a_state_that_is_there_or_nowhere)
{
	static const char *const nowhere[] = { "3", "-1", "1x", "", "99999999999999999999" };

	for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
		world_call(HP_REPEAT_BY_KEY);
		W.run.status = HP_HELD;
		order(HP_CMD_RESTART, nowhere[i]);
		held("no_state");
	}
	world_call(HP_REPEAT_BY_KEY);
	W.run.status = HP_HELD;
	W.run.visit = HP_VISITS_MAX;
	order(HP_CMD_RESTART, "0");
	held("too_many_visits"); /* and not told as a restart */
}
END_TEST

START_TEST(what_goes_back_is_not_restarted_and_goes_back_once)
{
	unwinding("{\"undo\":{\"ends\":5,\"left\":2,\"names\":\"hotel, flight\"}}");
	held("left_undone");
	ck_assert_str_eq(t()->message, "hotel, flight");
	commit();
	order(HP_CMD_RESTART, "1");
	held("unwinding");
	commit();
	/* an order to undo is a retry now: it goes on where it stands */
	order(HP_CMD_UNDO, "");
	held("undo_log_missing");
}
END_TEST

/* ---- doors that were faster ---- */

START_TEST(a_cancel_waits_for_what_is_in_the_air)
{
	struct hp_event cancelled = { .cancel = true };

	/* a read changes nothing: it need not be waited for */
	world_call(HP_REPEAT_BY_NATURE)->call.op.read = true;
	admitted();
	claim_with(&cancelled);
	ck_assert_int_eq(t()->after.status, HP_CANCELLED);

	/* the row of a sweep is */
	setup();
	state(0, "fill", HP_SWEEP)->sweep.has_call = true;
	W.states[0].call.op = (struct hp_operation){ "stripe", "customers.update", HP_REPEAT_BY_KEY, HP_DAY, false, false, NULL, false };
	state(1, "done", HP_SUCCEED);
	W.run.phase = HP_PH_ADMITTED;
	W.run.attempt = 1;
	W.run.first_sent_at = W.now;
	claim_with(&cancelled);
	expect_eval(HP_EVAL_REQUEST);

	/* and a probe that was sent */
	world_call(HP_REPEAT_NEVER)->call.has_probe = true;
	W.run.phase = HP_PH_PROBING;
	claim_with(&cancelled);
	expect_eval(HP_EVAL_PROBE);
}
END_TEST

START_TEST(a_pause_waits_for_a_probe_that_was_sent)
{
	world_call(HP_REPEAT_NEVER)->call.has_probe = true;
	W.run.phase = HP_PH_PROBING;
	W.run.unresolved = true;
	pause_flag = true;
	claim();
	expect_eval(HP_EVAL_PROBE);
	value("{}", 0);
	commit();
	reply(HP_CLASS_OK, NULL);
	verdict(HP_VERDICT_UNKNOWN);
	held("in_doubt");
	pause_flag = false;
}
END_TEST

START_TEST(a_stalled_read_is_not_in_doubt)
{
	world_call(HP_REPEAT_BY_NATURE)->call.op.read = true;
	W.run.phase = HP_PH_ADMITTED;
	W.run.claims = HP_CLAIMS_STALLED_MAX;
	claim();
	held("stalled");
	ck_assert(!t()->after.unresolved);
}
END_TEST

/* Nothing of the engine is told when it has failed for good after a cancel or an order to undo. */
START_TEST(what_fails_on_the_way_back_ends_as_it_was_told_to)
{
	struct hp_event bad = { .type = HP_EV_VALUE, .code = "script_error", .message = "line 3" };

	world_call(HP_REPEAT_BY_KEY)->n_catches = 0;
	W.def.cancel_undoes = true;
	admitted();
	{
		struct hp_event cancelled = { .cancel = true };

		claim_with(&cancelled); /* the worker before died after sending */
	}
	value("{}", 1);
	commit();
	reply(HP_TERMINAL, "card_declined");
	ck_assert_str_eq(annex("undo"), "{\"begin\":6}"); /* cancelled */

	/* held in doubt, told to undo, found to have happened: then its `set` fails */
	world_call(HP_REPEAT_NEVER)->n_catches = 0;
	W.states[0].has_set = W.states[0].call.has_probe = true;
	W.run.status = HP_HELD;
	W.run.unresolved = true;
	order(HP_CMD_UNDO, "");
	expect_eval(HP_EVAL_PROBE);
	value("{}", 0);
	commit();
	reply(HP_CLASS_OK, NULL);
	verdict(HP_VERDICT_FOUND);
	expect_eval(HP_EVAL_SET);
	step(&bad);
	ck_assert_str_eq(annex("undo"), "{\"begin\":5}"); /* failed */
}
END_TEST

START_TEST(a_swept_call_that_nobody_knows_of_stops_the_way_back)
{
	struct hp_event cancelled = { .cancel = true };

	setup();
	state(0, "fill", HP_SWEEP)->sweep.has_call = true;
	W.states[0].call.op = (struct hp_operation){ "stripe", "customers.update", HP_REPEAT_BY_KEY, HP_DAY, false, false, NULL, false };
	state(1, "done", HP_SUCCEED);
	W.def.cancel_undoes = true;
	W.run.status = HP_HELD;
	W.run.unresolved = true;
	claim_with(&cancelled);
	held("in_doubt");
	ck_assert_ptr_nonnull(strstr(t()->message, "--happened"));
}
END_TEST

/* ---- effects ---- */

START_TEST(a_read_is_repeated_whatever_came_of_it)
{
	world_call(HP_REPEAT_NEVER)->call.op.read = true;
	W.states[0].call.has_key = true;
	admitted();
	ck_assert(!W.last.business_key); /* a read has no effect that could be had twice */
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(t()->move, HP_MOVE_RETRY);
	ck_assert(!t()->after.unresolved);
	commit();
	/* and by who takes over */
	W.now += HP_MINUTE;
	claim();
	value("{}", 1);
	commit();
	claim();
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 2); /* another request by now: nothing to be in doubt about */
	ck_assert(t()->admits);
	ck_assert(!t()->after.unresolved);
}
END_TEST

START_TEST(attempts_end_somewhere)
{
	world_call(HP_REPEAT_BY_NATURE);
	W.run.phase = HP_PH_ADMITTED;
	W.run.attempt = HP_ATTEMPTS_MAX;
	claim();
	held("too_many_attempts");
}
END_TEST

/* Also when somebody else was admitted with it between two of our attempts. */
START_TEST(a_key_that_another_has_used_meanwhile_is_in_doubt)
{
	world_call(HP_REPEAT_BY_KEY)->call.has_key = true;
	admitted();
	reply(HP_RETRYABLE, "503");
	commit();
	W.now += HP_MINUTE;
	claim();
	value("{}", 1);
	commit_ev(false, W.now - 40 * HP_DAY); /* the provider has forgotten it since */
	held("in_doubt");
	ck_assert(t()->after.unresolved);
}
END_TEST

START_TEST(a_reply_that_comes_very_late_is_looked_at_at_once)
{
	world_call(HP_REPEAT_NEVER)->call.has_probe = true;
	admitted();
	W.now += HP_HOUR;
	reply(HP_AMBIGUOUS, "timeout");
	ck_assert_int_eq(t()->move, HP_MOVE_DOUBT);
	ck_assert_int_eq(t()->after.due_at, W.now);
}
END_TEST

/* Twice as often as the call may be attempted; then a person. */
START_TEST(a_probe_that_is_never_answered_ends_with_a_person)
{
	world_call(HP_REPEAT_NEVER)->call.has_probe = true;
	W.run.phase = HP_PH_PROBING;
	W.run.unresolved = true;
	for (int n = 1; n < 2 * W.states[0].retry.attempts; n++) {
		claim();
		value("{}", 0);
		commit();
		reply(HP_RETRYABLE, "503");
		ck_assert_int_eq(t()->move, HP_MOVE_DOUBT);
		commit();
		W.now += HP_HOUR;
	}
	claim();
	value("{}", 0);
	commit();
	reply(HP_RETRYABLE, "503");
	held("in_doubt");
	ck_assert(t()->after.unresolved);
}
END_TEST

START_TEST(no_attempt_begins_after_the_total)
{
	world_call(HP_REPEAT_BY_KEY)->n_catches = 0;
	W.states[0].retry = (struct hp_retry){ 100, HP_SECOND, HP_SECOND, 10 * HP_SECOND };
	admitted();
	W.now += 5 * HP_SECOND;
	reply(HP_RETRYABLE, "503");
	ck_assert_int_eq(t()->move, HP_MOVE_RETRY);
	commit();
	W.now += 10 * HP_SECOND;
	claim();
	value("{}", 1);
	commit();
	reply(HP_RETRYABLE, "503");
	held("503");
}
END_TEST

static void with_secrets(struct hp_event ev)
{
	ev.ok = true;
	ev.value = hp_bytes_of("{\"id\":1}");
	ev.secrets = hp_bytes_of("[\"s\"]");
	ev.retry_after_us = -1;
	step(&ev);
}

/* Sealed values go with the transition that tells of the reply, whatever brought them. */
START_TEST(secrets_of_a_reply_are_part_of_the_commit)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	with_secrets((struct hp_event){ .type = HP_EV_REPLY, .outcome = HP_CLASS_OK });
	value("", 0);
	ck_assert_str_eq(annex("secrets"), "[\"s\"]");

	world_call(HP_REPEAT_NEVER)->call.has_probe = true;
	W.run.phase = HP_PH_PROBING;
	W.run.unresolved = true;
	claim();
	value("{}", 0);
	commit();
	reply(HP_CLASS_OK, NULL);
	with_secrets((struct hp_event){ .type = HP_EV_VALUE, .verdict = HP_VERDICT_FOUND });
	value("", 0);
	ck_assert_str_eq(annex("secrets"), "[\"s\"]");

	world_call(HP_REPEAT_BY_KEY)->has_set = true;
	admitted();
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_SET);
	with_secrets((struct hp_event){ .type = HP_EV_VALUE });
	value("", 0);
	ck_assert_str_eq(annex("secrets"), "[\"s\"]");
	ck_assert_int_eq(t()->n_saves, 2); /* the reply, and what `set` gave */

	/* a `set` that gives nothing saves nothing */
	world_call(HP_REPEAT_BY_KEY)->has_set = true;
	admitted();
	reply(HP_CLASS_OK, NULL);
	value("", 0);
	value("", 0);
	ck_assert_int_eq(t()->n_saves, 1);
}
END_TEST

/* ---- texts ---- */

START_TEST(any_text_of_a_failure_is_kept_as_json)
{
	static const char message[] = "a\\b\n\x01\x1f\"c\"";
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_TERMINAL, .code = "card_declined", .message = message };
	json_t *doc;

	world_call(HP_REPEAT_BY_KEY);
	admitted();
	step(&ev);
	value("", 0);
	ck_assert_str_eq(t()->saves[0].name, "error");
	doc = hp_json_parse(t()->saves[0].value.p, t()->saves[0].value.n, "error", NULL);
	ck_assert_str_eq(hp_json_str(doc, "message"), message);
	json_decref(doc);
}
END_TEST

START_TEST(a_code_without_a_character_is_none)
{
	static char bytes[300];
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_TERMINAL, .code = bytes, .message = "no" };

	memset(bytes, 0x80, sizeof bytes - 1); /* only what goes on, nothing that begins */
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	step(&ev);
	held("");
	ck_assert_ptr_null(t()->code);
}
END_TEST

/* ---- budgets and turns ---- */

START_TEST(only_a_spent_budget_goes_over_budget)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	s->n_catches = 0;
	s->call.limited = true;
	s->call.over_budget = 2;
	admitted();
	reply(HP_TERMINAL, "card_declined");
	held("card_declined");

	world_call(HP_REPEAT_BY_KEY);
	*s = W.states[0];
	s->n_catches = 0;
	s->call.limited = true;
	s->call.over_budget = 2;
	admitted();
	reply(HP_TERMINAL, NULL);
	held("");
}
END_TEST

START_TEST(the_turn_is_given_back_once)
{
	world_call(HP_REPEAT_BY_KEY);
	W.def.takes_turns = true;
	admitted();
	reply(HP_CLASS_OK, NULL);
	value("", 0);
	ck_assert_ptr_null(annex("turn"));

	world_call(HP_REPEAT_BY_KEY);
	W.def.takes_turns = true;
	claim();
	value("{}", 1);
	ck_assert_str_eq(annex("turn"), "{}");

	world_call(HP_REPEAT_BY_KEY);
	W.def.takes_turns = true;
	W.run.visit = 2; /* somewhere behind it: its first transition was long ago */
	claim();
	value("{}", 1);
	ck_assert_ptr_null(annex("turn"));
}
END_TEST

/* ---- approvals ---- */

START_TEST(one_signature_at_a_time)
{
	struct hp_event approved = { .decision = HP_APPROVED, .decision_value = hp_bytes_of("{\"by\":\"ada\"}") };

	world_approval(false);
	W.run.phase = HP_PH_OPEN;
	W.run.signed_visit = 1;
	W.run.visit = 3;
	claim_with(&approved);
	held("two_signed_requests");
}
END_TEST

START_TEST(a_rejection_without_a_word_saves_nothing)
{
	struct hp_event rejected = { .decision = HP_REJECTED };

	world_approval(false);
	W.run.phase = HP_PH_OPEN;
	claim_with(&rejected);
	value("", 0);
	ck_assert_int_eq(t()->after.state, 3);
	ck_assert_int_eq(t()->n_saves, 0);
}
END_TEST

START_TEST(nobody_is_reminded_after_the_deadline)
{
	struct hp_state *s = world_approval(false);

	s->approval.reminders_us[0] = s->approval.deadline_us + HP_SECOND;
	claim();
	value("{}", 1);
	ck_assert_int_eq(t()->after.due_at, W.now + s->approval.deadline_us);
}
END_TEST

/* A vote came (not enough of them), and its clock is not known: that is no reminder. */
START_TEST(waking_early_reminds_nobody)
{
	world_approval(false);
	W.run.phase = HP_PH_OPEN;
	W.run.due_at = 0;
	claim();
	ck_assert_int_eq(t()->move, HP_MOVE_WOKEN);
	ck_assert_int_eq(t()->after.due_at, W.now + HP_HOUR);
}
END_TEST

/* ---- going back ---- */

START_TEST(what_the_log_says_is_not_believed_blindly)
{
	unwinding("{}");
	held("undo_log_missing");
	unwinding("{\"undo\":{\"ends\":5,\"next\":{\"entry\":1,\"state\":0}}}");
	held("script_error"); /* it could not be kept, and nobody noted why */
	unwinding("{\"undo\":{\"ends\":5,\"next\":{\"entry\":1,\"state\":0,\"code\":\"no_such_thing\"}}}");
	held("no_such_thing");
	unwinding("{\"undo\":{\"ends\":5,\"next\":{\"entry\":1,\"state\":2}}}");
	held("definition_mismatch"); /* a state of the author's is none that undoes */
	unwinding("{\"undo\":{\"ends\":5,\"next\":{\"entry\":1,\"state\":4}}}");
	held("definition_mismatch");
	unwinding("{\"undo\":{\"ends\":5,\"names\":\"hotel\",\"next\":{\"entry\":1,\"state\":4}}}");
	ck_assert_str_eq(t()->message, "the definition does not have this undo; not undone: hotel");
}
END_TEST

START_TEST(it_ends_where_it_turned_round)
{
	static const int expected[][2] = { { 1, 1 }, { -1, 0 }, { 9, 0 } };

	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		char found[80];

		snprintf(found, sizeof found, "{\"undo\":{\"ends\":6,\"from\":%d}}", expected[i][0]);
		unwinding(found);
		expect_eval(HP_EVAL_RESULT);
		value("{}", 0);
		ck_assert_int_eq(t()->after.status, HP_CANCELLED);
		ck_assert_int_eq(t()->after.state, expected[i][1]);
	}
}
END_TEST

START_TEST(an_undo_that_cannot_be_kept_and_says_nothing)
{
	struct hp_event ev = { .type = HP_EV_VALUE };

	world_call(HP_REPEAT_BY_KEY)->has_undo = true;
	admitted();
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_UNDO);
	step(&ev);
	value("", 0);
	ck_assert_str_eq(annex("undo"), "{\"add\":{\"code\":\"script_error\",\"error\":\"\"}}");
}
END_TEST

static const struct hp_event resumed_undo; /* nothing but the annex */

/* The undo of "pay" is under way, as call or statement. */
static void undoing(enum hp_kind kind)
{
	unwinding("{\"undo\":{\"ends\":5,\"code\":\"sold_out\",\"message\":\"no seat\",\"names\":\"hotel\"}}");
	W.states[3].kind = kind;
	W.states[3].retry.attempts = 1;
	W.run.phase = HP_PH_ENTER;
	W.run.state = 3;
	W.run.visit = 2;
}

static void claim_undo(struct hp_event ev)
{
	ev.annex = hp_bytes_of("{\"undo\":{\"ends\":5,\"left\":1,\"names\":\"hotel\",\"next\":{\"entry\":4,\"state\":3}}}");
	claim_with(&ev);
}

START_TEST(an_undo_is_done_skipped_or_tried_again)
{
	undoing(HP_CALL);
	claim_undo(resumed_undo);
	value("{}", 1);
	commit_ev(true, 0); /* a cancel beside it changes nothing: it goes on */
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	reply(HP_CLASS_OK, NULL);
	ck_assert_str_eq(annex("undo"), "{\"close\":4,\"as\":\"done\"}");
	ck_assert_int_eq(t()->after.phase, HP_PH_UNDOING);

	undoing(HP_CALL);
	claim_undo((struct hp_event){ .cancel = true });
	value("{}", 1);
	commit();
	reply(HP_TERMINAL, NULL);
	ck_assert_int_eq(t()->after.status, HP_HELD);
	ck_assert_str_eq(t()->message, "not undone: hotel");

	undoing(HP_SQL);
	W.run.status = HP_HELD;
	W.run.command = HP_CMD_SKIP;
	claim_undo(resumed_undo);
	ck_assert_str_eq(annex("undo"), "{\"close\":4,\"as\":\"skipped\"}");

	undoing(HP_SQL);
	W.run.status = HP_HELD;
	W.run.command = HP_CMD_RETRY;
	claim_undo(resumed_undo);
	ck_assert_int_eq(t()->after.state, 3); /* a statement is entered anew */
	ck_assert_int_eq(t()->after.visit, 3);

	unwinding("{\"undo\":{\"ends\":5,\"left\":1,\"names\":\"hotel\"}}");
	W.run.status = HP_HELD;
	{
		struct hp_event ev = { .annex = hp_bytes_of("{\"undo\":{\"ends\":5,\"code\":\"sold_out\",\"left\":1,\"names\":\"hotel\"}}") };

		W.run.command = HP_CMD_SKIP; /* somebody answers for it: it ends */
		claim_with(&ev);
	}
	expect_eval(HP_EVAL_RESULT);
	value("{}", 0);
	ck_assert_str_eq(annex("undo"), "{\"answered\":true}");
	ck_assert_int_eq(t()->after.status, HP_FAILED);
	ck_assert_str_eq(t()->code, "sold_out");
	unwinding("{\"undo\":{\"ends\":5}}");
	value("{}", 0);
	ck_assert_str_eq(t()->code, "failed");
}
END_TEST

static void in_doubt(enum hp_command command, bool cancel)
{
	world_call(HP_REPEAT_NEVER)->n_catches = 0;
	W.states[0].call.has_probe = W.def.cancel_undoes = true;
	W.run.status = HP_HELD;
	W.run.unresolved = command != HP_CMD_NONE;
	W.run.cancel = cancel;
	order(command, "");
}

/* What becomes of a run that is told to undo what nobody knows of. */
START_TEST(a_doubt_is_settled_before_the_way_back)
{
	for (int cancel = 0; cancel < 2; cancel++) {
		const char *begun = cancel ? "{\"begin\":6}" : "{\"begin\":5}";

		in_doubt(HP_CMD_UNDO, cancel);
		expect_eval(HP_EVAL_PROBE);
		value("{}", 0);
		commit();
		reply(HP_CLASS_OK, NULL);
		verdict(HP_VERDICT_ABSENT);
		ck_assert_str_eq(annex("undo"), begun);
		in_doubt(HP_CMD_UNDO_ABSENT, cancel);
		ck_assert_str_eq(annex("undo"), begun);
		in_doubt(HP_CMD_UNDO_HAPPENED, cancel); /* … then it stands in the log, and the next way leads back */
		ck_assert_str_eq(annex("undo"), begun);
	}
	world_call(HP_REPEAT_NEVER);
	W.run.status = HP_HELD;
	order(HP_CMD_UNDO_HAPPENED, ""); /* there is no doubt: an order to undo like any other */
	ck_assert_str_eq(annex("undo"), "{\"begin\":5}");
	ck_assert_int_eq(t()->n_saves, 0);
}
END_TEST

/* A `catch` leads on although it may have happened; or the run turns back, and a person is asked first. */
START_TEST(a_caught_doubt_is_noted_or_asked_about)
{
	for (int cancel = 0; cancel < 2; cancel++) {
		world_call(HP_REPEAT_NEVER);
		W.catches[0].match = NULL;
		W.states[0].has_undo = true;
		W.def.cancel_undoes = true;
		admitted();
		{
			struct hp_event ev = { .cancel = cancel };

			claim_with(&ev);
		}
		value("{}", 1);
		if (cancel) {
			held("in_doubt");
			ck_assert_ptr_null(annex("undo"));
			continue;
		}
		expect_eval(HP_EVAL_RESULT);
		value("", 0);
		ck_assert_ptr_nonnull(strstr(annex("undo"), "{\"add\":{\"code\":\"in_doubt\""));
	}
	/* refused: it did not happen, and there is nothing to note */
	world_call(HP_REPEAT_NEVER)->has_undo = true;
	admitted();
	reply(HP_TERMINAL, "card_declined");
	value("", 0);
	ck_assert_ptr_null(annex("undo"));
	/* without a catch it is held at once */
	world_call(HP_REPEAT_NEVER)->n_catches = 0;
	W.def.cancel_undoes = true;
	admitted();
	{
		struct hp_event cancelled = { .cancel = true };

		claim_with(&cancelled);
	}
	value("{}", 1);
	held("in_doubt");
}
END_TEST

START_TEST(a_failure_may_undo_and_may_come_without_a_cause)
{
	for (int undo = 0; undo < 2; undo++) {
		setup();
		state(0, "wrong", HP_FAIL)->fail.code = "sold_out";
		W.states[0].fail.undo = undo;
		claim();
		expect_eval(HP_EVAL_RESULT);
		value("{}", 0);
		ck_assert_str_eq(t()->code, "sold_out");
		ck_assert_ptr_null(t()->message);
		ck_assert_int_eq(t()->after.status, undo ? HP_WAITING : HP_FAILED);
		ck_assert_int_eq(t()->move, undo ? HP_MOVE_UNDOING : HP_MOVE_FINISHED);
	}
}
END_TEST

/* ---- beginnings and children ---- */

START_TEST(the_input_is_looked_at_first_and_once)
{
	world_call(HP_REPEAT_BY_KEY);
	W.def.has_input = true;
	claim();
	expect_eval(HP_EVAL_INPUT);
	value("{}", 0);
	expect_eval(HP_EVAL_REQUEST);
	world_call(HP_REPEAT_BY_KEY);
	W.def.has_input = true;
	W.run.visit = 2;
	claim();
	expect_eval(HP_EVAL_REQUEST);
}
END_TEST

/* The next page of children cannot be read: again later, and not past the time they have. */
START_TEST(a_page_that_fails_is_read_again_in_time)
{
	static const int64_t within[] = { 0, 500 * HP_MSEC, HP_HOUR };

	for (size_t i = 0; i < sizeof within / sizeof *within; i++) {
		struct hp_event ev = { .annex = hp_bytes_of("{\"children\":{\"outcome\":0,\"running\":1,\"page\":true,\"total\":250}}") };

		setup();
		state(0, "each", HP_EACH)->children.pages = true;
		W.states[0].children.within_us = within[i];
		W.states[0].retry = (struct hp_retry){ 5, 10 * HP_SECOND, 10 * HP_SECOND, 0 };
		state(1, "done", HP_SUCCEED);
		W.run.phase = HP_PH_JOINING;
		W.run.status = HP_WAITING;
		claim_with(&ev);
		expect_eval(HP_EVAL_ARGS);
		value("{}", 0);
		reply(HP_RETRYABLE, "deadlock_detected");
		ck_assert_int_eq(t()->move, HP_MOVE_RETRY);
		ck_assert_int_eq(t()->after.phase, HP_PH_JOINING);
		ck_assert_int_gt(t()->after.due_at, W.now);
		if (i == 1)
			ck_assert_int_eq(t()->after.due_at, W.now + within[i]);
		else
			ck_assert_int_le(t()->after.due_at, W.now + 10 * HP_SECOND);
	}
}
END_TEST

/* ---- time ---- */

/* Who has no clock at hand steps at the time the machine was told last. */
START_TEST(an_event_without_a_time_comes_now)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .value = hp_bytes_of("{}") };

	world_call(HP_REPEAT_BY_KEY);
	claim();
	hp_step(&W.m, &ev, &W.act);
	ck_assert_int_eq(t()->after.sent_at, W.now);
}
END_TEST

HP_SUITE("core corners", what_has_no_name_is_unknown, a_restart_goes_to_a_state_that_is_there_or_nowhere,
	 what_goes_back_is_not_restarted_and_goes_back_once, a_cancel_waits_for_what_is_in_the_air,
	 a_pause_waits_for_a_probe_that_was_sent, a_stalled_read_is_not_in_doubt, what_fails_on_the_way_back_ends_as_it_was_told_to,
	 a_swept_call_that_nobody_knows_of_stops_the_way_back, a_read_is_repeated_whatever_came_of_it,
	 attempts_end_somewhere, a_key_that_another_has_used_meanwhile_is_in_doubt,
	 a_reply_that_comes_very_late_is_looked_at_at_once, a_probe_that_is_never_answered_ends_with_a_person, no_attempt_begins_after_the_total,
	 secrets_of_a_reply_are_part_of_the_commit, any_text_of_a_failure_is_kept_as_json,
	 a_code_without_a_character_is_none, only_a_spent_budget_goes_over_budget, the_turn_is_given_back_once,
	 one_signature_at_a_time, a_rejection_without_a_word_saves_nothing, nobody_is_reminded_after_the_deadline,
	 waking_early_reminds_nobody, what_the_log_says_is_not_believed_blindly, it_ends_where_it_turned_round,
	 an_undo_that_cannot_be_kept_and_says_nothing, an_undo_is_done_skipped_or_tried_again,
	 a_doubt_is_settled_before_the_way_back, a_caught_doubt_is_noted_or_asked_about,
	 a_failure_may_undo_and_may_come_without_a_cause, the_input_is_looked_at_first_and_once,
	 a_page_that_fails_is_read_again_in_time, an_event_without_a_time_comes_now)
