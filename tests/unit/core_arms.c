/* core_arms.c: what stands beside a wait: who goes first, and what a check may do. */
#include "base/json.h"
#include "lib/suite.h"
#include "machine_world.h"

static struct hp_arm *arm(struct hp_state *s, const char *name, enum hp_arm_kind kind, int next)
{
	struct hp_arm *a;

	s->arms = W.arms[s - W.states];
	a = &s->arms[s->n_arms++];
	*a = (struct hp_arm){ .name = name, .kind = kind, .next = next, .failed = HP_NO_STATE };
	return a;
}

/* An approval for 4 h: an event, a timer after 1 h and a check every 30 s beside it. */
static struct hp_state *world_canary(void)
{
	struct hp_state *s;
	struct hp_arm *a;

	setup();
	s = state(0, "promote", HP_APPROVAL);
	s->approval.deadline_us = 4 * HP_HOUR;
	s->approval.reminders_us[0] = 10 * HP_MINUTE;
	s->approval.n_reminders = 1;
	s->approval.expired = 2;
	a = arm(s, "abort", HP_ARM_EVENT, 3);
	a->event = "canary.abort";
	a->save = "event";
	a = arm(s, "ill", HP_ARM_CHECK, 4);
	a->op = (struct hp_operation){ "watch", "look", HP_REPEAT_BY_NATURE, 0, true, false, NULL, false };
	a->every_us = 30 * HP_SECOND;
	a->timeout_us = 10 * HP_SECOND;
	a->failures = 3;
	a->save = "health";
	arm(s, "late", HP_ARM_TIMER, 5)->after_us = HP_HOUR;
	state(1, "promoted", HP_SUCCEED);
	state(2, "expired", HP_SUCCEED);
	state(3, "aborted", HP_SUCCEED);
	state(4, "ill", HP_SUCCEED);
	state(5, "late", HP_SUCCEED);
	return s;
}

static void keep_annex(void)
{
	const struct hp_transition *t = W.act.transition;

	for (int i = 0; i < t->n_annexes; i++)
		snprintf(W.annex, sizeof W.annex, "{\"arms\":%.*s}", (int)t->annexes[i].doc.n, t->annexes[i].doc.p);
}

/* Parks it. */
static void open_canary(void)
{
	claim();
	expect_eval(HP_EVAL_APPROVAL);
	value("{\"ask\":\"?\"}", 1);
	expect_eval(HP_EVAL_MAILBOX);
	value("r1", 0);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 30 * HP_SECOND);
	keep_annex();
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}

static void claim_annexed(struct hp_event ev)
{
	ev.annex = hp_bytes_of(W.annex);
	claim_with(&ev);
}

/* The check is due: it is claimed, rendered and sent. */
static void check_sent(void)
{
	claim_annexed((struct hp_event){ 0 });
	expect_eval(HP_EVAL_CHECK);
	value("{}", 0);
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	ck_assert_str_eq(W.act.arm->name, "ill");
	ck_assert_int_eq(W.act.timeout_us, 10 * HP_SECOND);
}

static void alarm_says(bool ill)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .truth = ill };

	expect_eval(HP_EVAL_ALARM);
	step(&ev);
}

static void expect_state(int state)
{
	const struct hp_transition *t = W.act.type == HP_ACT_EVAL ? W.act.pending : W.act.transition;

	ck_assert_int_eq(t->after.state, state);
}

static void parks_quietly(int64_t due_at)
{
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert(W.act.transition->quiet);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.due_at, due_at);
	keep_annex();
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}

START_TEST(a_check_that_finds_nothing_parks_the_run_as_it_was)
{
	world_canary();
	open_canary();
	for (int i = 0; i < 5; i++) {
		W.now += 30 * HP_SECOND;
		check_sent();
		W.now += HP_SECOND;
		reply(HP_CLASS_OK, NULL);
		alarm_says(false);
		parks_quietly(W.now + 30 * HP_SECOND);
	}
	ck_assert_int_eq(W.run.visit, 1);
	ck_assert_int_eq(W.run.attempt, 0);
	ck_assert_int_eq(W.run.claims, 0);
}
END_TEST

START_TEST(a_check_that_says_so_goes_on_and_closes_the_approval)
{
	world_canary();
	open_canary();
	W.now += 30 * HP_SECOND;
	check_sent();
	reply(HP_CLASS_OK, NULL);
	alarm_says(true);
	expect_state(4);
	ck_assert_str_eq(W.act.pending->saves[0].name, "health");
	ck_assert_str_eq(W.act.pending->code, "arm");
	ck_assert_str_eq(W.act.pending->message, "arm \"ill\" of state \"promote\" went first: its check said so");
	ck_assert_ptr_nonnull(strstr(W.act.pending->annexes[0].doc.p, "\"won\":\"arm \\\"ill\\\" of state"));
	ck_assert(!W.act.pending->quiet);
}
END_TEST

START_TEST(nothing_goes_early)
{
	world_canary();
	open_canary();
	W.now += 30 * HP_SECOND - 1;
	claim_annexed((struct hp_event){ 0 });
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 1);
}
END_TEST

START_TEST(the_decision_goes_before_events_clocks_and_checks)
{
	world_canary();
	open_canary();
	W.now += HP_HOUR;
	claim_annexed((struct hp_event){ .decision = HP_APPROVED, .mail_id = 3, .mail = hp_bytes_of("{}") });
	expect_state(1);
	ck_assert_int_eq(W.act.pending->consume_mail, 0);
	ck_assert_str_eq(W.act.pending->annexes[0].doc.p, "{\"over\":true}");
}
END_TEST

START_TEST(an_event_goes_before_clocks_and_a_clock_before_checks)
{
	world_canary();
	open_canary();
	W.now += HP_HOUR;
	claim_annexed((struct hp_event){ .mail_id = 3, .mail = hp_bytes_of("{\"by\":\"ann\"}") });
	expect_state(3);
	ck_assert_int_eq(W.act.pending->consume_mail, 3);
	ck_assert_str_eq(W.act.pending->saves[0].name, "event");
	world_canary();
	open_canary();
	W.now += HP_HOUR;
	claim_annexed((struct hp_event){ 0 });
	expect_state(5);
	world_canary();
	open_canary();
	W.now += 4 * HP_HOUR; /* nobody looked for long: what was due first goes first */
	claim_annexed((struct hp_event){ 0 });
	expect_state(5);
}
END_TEST

START_TEST(a_clock_that_runs_out_during_a_check_goes_before_its_answer)
{
	world_canary()->approval.n_reminders = 0;
	open_canary();
	W.now += HP_HOUR - HP_SECOND;
	check_sent();
	W.now += HP_SECOND;
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_le(W.act.transition->after.due_at, W.now); /* looked at again at once */
	parks_quietly(W.act.transition->after.due_at);
	claim_annexed((struct hp_event){ 0 });
	expect_state(5);
	world_canary()->approval.deadline_us = HP_MINUTE;
	W.states[0].approval.n_reminders = 0;
	open_canary();
	W.now += HP_MINUTE - HP_SECOND;
	check_sent();
	W.now += 2 * HP_SECOND;
	reply(HP_RETRYABLE, "timeout");
	ck_assert_int_le(W.act.transition->after.due_at, W.now);
	parks_quietly(W.act.transition->after.due_at);
	claim_annexed((struct hp_event){ 0 });
	expect_state(2);
	ck_assert(W.act.pending->approval_closes);
}
END_TEST

START_TEST(failed_checks_count_in_a_row)
{
	struct hp_state *s = world_canary();

	s->arms[1].failed = 2;
	open_canary();
	for (int i = 0; i < 5; i++) {
		W.now += 30 * HP_SECOND;
		check_sent();
		if (i == 1) {
			reply(HP_CLASS_OK, NULL);
			alarm_says(false); /* the count begins anew, and history hears of it */
		} else {
			reply(i == 3 ? HP_NEEDS_PERSON : HP_RETRYABLE, "busy");
		}
		if (i == 4) {
			expect_state(2);
			ck_assert_str_eq(W.act.pending->saves[0].name, "error");
			ck_assert_str_eq(W.act.pending->message,
					 "arm \"ill\" of state \"promote\" went first: 3 checks in a row failed, the last with busy");
			break;
		}
		ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
		ck_assert_int_eq(W.act.transition->quiet, i == 3);
		ck_assert_int_eq(W.act.transition->move, i == 3 ? HP_MOVE_WOKEN : HP_MOVE_CHECKED);
		keep_annex();
		commit();
	}
}
END_TEST

START_TEST(an_error_in_lua_is_a_failed_check)
{
	world_canary();
	open_canary();
	W.now += 30 * HP_SECOND;
	claim_annexed((struct hp_event){ 0 });
	expect_eval(HP_EVAL_CHECK);
	value_error("script_error");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_CHECKED);
	ck_assert_str_eq(W.act.transition->code, "script_error");
	ck_assert_int_eq(W.act.transition->after.status, HP_WAITING);
}
END_TEST

START_TEST(a_flapping_check_does_not_fill_the_history)
{
	int told = 0;

	world_canary()->approval.deadline_us = 100 * HP_DAY;
	W.states[0].arms[2].after_us = 99 * HP_DAY;
	open_canary();
	for (int i = 0; i < 1000; i++) {
		W.now += 30 * HP_SECOND;
		check_sent();
		reply(i % 2 ? HP_CLASS_OK : HP_RETRYABLE, "busy");
		if (i % 2)
			alarm_says(false);
		told += !W.act.transition->quiet;
		keep_annex();
		commit();
	}
	ck_assert_int_ge(told, HP_CHECK_NOTES_MAX);
	ck_assert_int_le(told, HP_CHECK_NOTES_MAX + 1); /* the reminder may be a row of its own */
}
END_TEST

START_TEST(a_reminder_comes_although_checks_wake_the_run)
{
	int reminded = 0;

	world_canary();
	open_canary();
	for (int i = 0; i < 25; i++) {
		W.now += 30 * HP_SECOND;
		check_sent();
		reply(HP_CLASS_OK, NULL);
		alarm_says(false);
		reminded += W.act.transition->move == HP_MOVE_REMINDED;
		keep_annex();
		commit();
	}
	ck_assert_int_eq(reminded, 1);
}
END_TEST

START_TEST(an_at_that_fails_leaves_no_open_approval)
{
	struct hp_state *s = world_canary();

	s->arms[2].after_us = 0; /* `at` */
	claim();
	value("{\"ask\":\"?\"}", 1);
	value("r1", 0);
	expect_eval(HP_EVAL_AT);
	ck_assert_int_eq(W.act.index, 2);
	value_error("script_error");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_uint_eq(W.act.transition->approval.n, 0);
	ck_assert_ptr_null(W.act.transition->wait_keys.p);
}
END_TEST

START_TEST(a_wait_keeps_its_own_time_beside_the_arms)
{
	struct hp_state *s;
	struct hp_event until = { .type = HP_EV_VALUE, .ok = true, .number = 20000 * HP_DAY + HP_DAY };

	setup();
	s = state(0, "pause", HP_WAIT);
	arm(s, "late", HP_ARM_TIMER, 2)->after_us = 2 * HP_DAY;
	arm(s, "stop", HP_ARM_EVENT, 2)->event = "stop";
	state(1, "done", HP_SUCCEED);
	state(2, "other", HP_SUCCEED);
	claim();
	expect_eval(HP_EVAL_UNTIL);
	step(&until);
	value("k", 0);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + HP_DAY);
	keep_annex();
	commit();
	W.now += 3 * HP_DAY;
	claim_annexed((struct hp_event){ 0 });
	expect_state(1); /* due first, though both are due */
}
END_TEST

START_TEST(a_definition_that_changed_begins_its_clocks_anew)
{
	world_canary();
	open_canary();
	snprintf(W.annex, sizeof W.annex, "{}");
	W.now += 20 * HP_MINUTE;
	claim_annexed((struct hp_event){ 0 });
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 30 * HP_SECOND);
}
END_TEST

/* Asks for children and parks with them; an event and a check beside them. */
static void open_roll(void)
{
	struct hp_state *s;
	struct hp_arm *a;

	setup();
	s = state(0, "roll", HP_RUN);
	s->children.workflow = "slow";
	a = arm(s, "abort", HP_ARM_EVENT, 2);
	a->event = "stop";
	a = arm(s, "ill", HP_ARM_CHECK, 2);
	a->op = (struct hp_operation){ .connector = "watch", .name = "look", .repeat = HP_REPEAT_BY_NATURE, .read = true };
	a->every_us = 30 * HP_SECOND;
	a->timeout_us = 10 * HP_SECOND;
	state(1, "done", HP_SUCCEED);
	state(2, "stopped", HP_SUCCEED);
	claim();
	expect_eval(HP_EVAL_MAILBOX);
	value("r1", 0);
	expect_eval(HP_EVAL_CHILDREN);
	value("{\"children\":[]}", 0);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 30 * HP_SECOND);
	ck_assert_str_eq(W.act.transition->wait_keys.p, "r1");
	ck_assert_int_eq(W.act.transition->n_annexes, 2);
	snprintf(W.annex, sizeof W.annex, "{\"arms\":%.*s,\"children\":{\"outcome\":0,\"running\":1,\"total\":1}}",
		 (int)W.act.transition->annexes[1].doc.n, W.act.transition->annexes[1].doc.p);
	commit();
}

static bool closes_children(const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++)
		if (strcmp(t->annexes[i].kind, "children") == 0)
			return strstr(t->annexes[i].doc.p, "close") != NULL;
	return false;
}

START_TEST(children_have_arms_too_and_are_told_to_end)
{
	open_roll();
	W.now += 30 * HP_SECOND;
	claim_annexed((struct hp_event){ 0 });
	expect_eval(HP_EVAL_CHECK);
	value("{}", 0);
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	reply(HP_CLASS_OK, NULL);
	alarm_says(false);
	ck_assert(W.act.transition->quiet);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 30 * HP_SECOND);
	ck_assert(!closes_children(W.act.transition));
	open_roll();
	claim_annexed((struct hp_event){ .mail_id = 3, .mail = hp_bytes_of("{}") });
	expect_state(2);
	value("{}", 0); /* the end's result */
	ck_assert(closes_children(W.act.transition));
}
END_TEST

START_TEST(children_that_are_decided_go_before_an_arm)
{
	char *at;

	open_roll();
	at = strstr(W.annex, "\"outcome\":0");
	at[10] = '1';
	W.now += HP_HOUR;
	claim_annexed((struct hp_event){ .mail_id = 3, .mail = hp_bytes_of("{}") });
	expect_eval(HP_EVAL_JOINED);
	value("{}", 0);
	expect_state(1);
}
END_TEST

/* Whatever the order in which they are declared. */
START_TEST(of_two_clocks_the_one_that_was_due_first_goes)
{
	struct hp_state *s = world_canary();

	s->arms[1] = s->arms[2]; /* instead of the check; the sooner one stands behind it */
	s->arms[2] = (struct hp_arm){ .name = "sooner", .kind = HP_ARM_TIMER, .next = 1, .failed = HP_NO_STATE, .after_us = HP_MINUTE };
	claim();
	value("{\"ask\":\"?\"}", 1);
	value("r1", 0);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + HP_MINUTE);
	keep_annex();
	commit();
	W.now += 2 * HP_HOUR;
	claim_annexed((struct hp_event){ 0 });
	expect_state(1);
}
END_TEST

/* An arm that leads to the end by failure is told of where the failure is. */
START_TEST(an_arm_may_lead_straight_to_a_failure)
{
	struct hp_state *s = world_canary();

	s->arms[0].next = 6;
	state(6, "given_up", HP_FAIL)->fail.code = "aborted";
	open_canary();
	claim_annexed((struct hp_event){ .mail_id = 3 });
	expect_eval(HP_EVAL_RESULT);
	value("", 0);
	ck_assert_int_eq(W.act.transition->after.status, HP_FAILED);
	ck_assert_str_eq(W.act.transition->code, "aborted");
	ck_assert_ptr_nonnull(strstr(W.act.transition->message, "arm \"abort\" of state \"promote\" went first"));
	ck_assert_int_eq(W.act.transition->n_saves, 0); /* the event was empty: nothing to save */
}
END_TEST

START_TEST(a_check_without_a_reply_saves_nothing)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_CLASS_OK, .retry_after_us = -1 };

	world_canary()->approval.n_reminders = 0;
	open_canary();
	W.now += 30 * HP_SECOND;
	check_sent();
	step(&ev);
	alarm_says(true);
	expect_state(4);
	ck_assert_int_eq(W.act.pending->n_saves, 0);
}
END_TEST

/* `set` has brought an annex of its own before the wait is over. */
START_TEST(a_wait_that_is_over_says_so_once)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .value = hp_bytes_of("{\"a\":1}"), .secrets = hp_bytes_of("[1]") };
	struct hp_state *s;
	int over = 0;

	setup();
	s = state(0, "pause", HP_WAIT);
	s->has_set = true;
	arm(s, "late", HP_ARM_TIMER, 1)->after_us = HP_HOUR;
	state(1, "done", HP_SUCCEED);
	claim();
	expect_eval(HP_EVAL_UNTIL);
	{
		struct hp_event at = { .type = HP_EV_VALUE, .ok = true, .number = W.now + HP_MINUTE };

		step(&at);
	}
	keep_annex();
	commit();
	W.now += HP_MINUTE;
	claim_annexed((struct hp_event){ 0 });
	expect_eval(HP_EVAL_SET);
	step(&ev);
	value("", 0);
	for (int i = 0; i < W.act.transition->n_annexes; i++)
		over += strcmp(W.act.transition->annexes[i].kind, "arms") == 0;
	ck_assert_int_eq(W.act.transition->n_annexes, 2);
	ck_assert_int_eq(over, 1);
}
END_TEST

/* One mailbox brings its key as a document, or as it is. */
START_TEST(a_mailbox_may_be_a_plain_key)
{
	world_canary();
	claim();
	value("{\"ask\":\"?\"}", 1);
	expect_eval(HP_EVAL_MAILBOX);
	value("", 0);
	ck_assert_str_eq(W.act.transition->wait_keys.p, "key-1");
}
END_TEST

HP_SUITE("core arms", of_two_clocks_the_one_that_was_due_first_goes, an_arm_may_lead_straight_to_a_failure,
	 a_check_without_a_reply_saves_nothing, a_wait_that_is_over_says_so_once, a_mailbox_may_be_a_plain_key,
	 children_have_arms_too_and_are_told_to_end, children_that_are_decided_go_before_an_arm,
	 a_check_that_finds_nothing_parks_the_run_as_it_was,
	 a_check_that_says_so_goes_on_and_closes_the_approval,
	 nothing_goes_early,
	 the_decision_goes_before_events_clocks_and_checks,
	 an_event_goes_before_clocks_and_a_clock_before_checks,
	 a_clock_that_runs_out_during_a_check_goes_before_its_answer,
	 failed_checks_count_in_a_row,
	 an_error_in_lua_is_a_failed_check,
	 a_flapping_check_does_not_fill_the_history,
	 a_reminder_comes_although_checks_wake_the_run,
	 an_at_that_fails_leaves_no_open_approval,
	 a_wait_keeps_its_own_time_beside_the_arms,
	 a_definition_that_changed_begins_its_clocks_anew)
