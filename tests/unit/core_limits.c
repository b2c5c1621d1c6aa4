/* core_limits.c: what a run says of the limits of its calls: what an admission asks, what
 * the end of a visit gives back, where it goes over budget; and the turn of a start. */
#include "machine_world.h"
#include "lib/suite.h"

#define DEMANDS "{\"demands\":[]}"

static struct hp_state *world_limited(void)
{
	struct hp_state *s = world_call(HP_REPEAT_BY_KEY);

	s->call.limited = true;
	return s;
}

/* Answers with a request that has demands. */
static void rendered(void)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .value = hp_bytes_of("{}"), .key = hp_bytes_of("key-1"),
			       .demands = hp_bytes_of(DEMANDS) };

	expect_eval(HP_EVAL_REQUEST);
	memset(ev.hash, 1, sizeof ev.hash);
	step(&ev);
}

/* The last one named "limits" of the transition at hand, "" when there is none. */
static const char *annexed(void)
{
	const struct hp_transition *t = W.act.transition;
	const char *doc = "";

	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	for (int i = 0; i < t->n_annexes; i++)
		if (strcmp(t->annexes[i].kind, "limits") == 0)
			doc = t->annexes[i].doc.p;
	return doc;
}

static void sent(void)
{
	claim();
	rendered();
	ck_assert_str_eq(annexed(), DEMANDS);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}

static void refuse(const char *code)
{
	W.gate = true;
	commit();
	W.gate = false;
	snprintf(W.run.code, sizeof W.run.code, "%s", code);
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}

START_TEST(success_keeps_what_was_used)
{
	world_limited();
	sent();
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_RESULT);
	value("", 0);
	ck_assert_str_eq(annexed(), "{\"end\":\"keep\"}");
}
END_TEST

START_TEST(a_definite_failure_returns_it)
{
	world_limited();
	sent();
	reply(HP_TERMINAL, "card_declined");
	expect_eval(HP_EVAL_RESULT);
	value("", 0);
	ck_assert_str_eq(annexed(), "{\"end\":\"return\"}");
	world_limited()->n_catches = 0; /* the same, held */
	sent();
	reply(HP_TERMINAL, "card_declined");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_HELD);
	ck_assert_str_eq(annexed(), "{\"end\":\"return\"}");
}
END_TEST

START_TEST(what_may_have_happened_is_never_returned)
{
	struct hp_state *s = world_limited();

	s->call.op.repeat = HP_REPEAT_NEVER;
	sent();
	reply(HP_AMBIGUOUS, "timeout"); /* without a probe: in doubt, held */
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_HELD);
	ck_assert_str_eq(annexed(), "{\"end\":\"slots\"}");
	commit();
	W.run.command = HP_CMD_GIVE_UP;
	claim();
	ck_assert_str_eq(annexed(), "{\"end\":\"keep\"}");
	/* an earlier request may have landed: a refusal of the last one proves nothing */
	world_limited();
	sent();
	reply(HP_AMBIGUOUS, "timeout");
	commit();
	W.now = W.run.due_at;
	claim();
	rendered();
	commit();
	reply(HP_NEEDS_PERSON, "unauthorized");
	ck_assert_str_eq(annexed(), "{\"end\":\"slots\"}");
}
END_TEST

START_TEST(a_retry_leaves_nothing)
{
	world_limited();
	sent();
	reply(HP_RETRYABLE, "http_503");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_RETRY);
	ck_assert_str_eq(annexed(), "");
}
END_TEST

START_TEST(cancelled_before_it_was_sent)
{
	struct hp_event cancelled = { .type = HP_EV_COMMITTED, .cancel = true };

	world_limited();
	claim();
	rendered();
	W.last = *W.act.transition;
	W.run = W.last.after;
	step(&cancelled);
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	ck_assert_str_eq(annexed(), "{\"end\":\"return\"}");
	world_limited(); /* while it waits behind the gate */
	claim();
	rendered();
	refuse("budget");
	W.run.cancel = true;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	ck_assert_str_eq(annexed(), "{\"end\":\"return\"}");
}
END_TEST

/* The request is known not to have left, wherever the run goes from there. */
START_TEST(turned_back_before_it_was_sent)
{
	struct hp_event cancelled = { .type = HP_EV_COMMITTED, .cancel = true };

	world_limited();
	W.def.cancel_undoes = true;
	claim();
	rendered();
	W.last = *W.act.transition;
	W.run = W.last.after;
	step(&cancelled);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_UNDOING);
	ck_assert_str_eq(annexed(), "{\"end\":\"return\"}");
}
END_TEST

START_TEST(what_succeeded_is_spent_whatever_comes_after)
{
	world_limited()->has_set = true;
	sent();
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_SET);
	value_error("script_error");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_HELD);
	ck_assert_str_eq(annexed(), "{\"end\":\"slots\"}");
	commit();
	W.run.cancel = true;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	ck_assert_str_eq(annexed(), "{\"end\":\"keep\"}");
}
END_TEST

START_TEST(a_paused_run_gives_its_place_away)
{
	world_limited();
	sent();
	reply(HP_RETRYABLE, "http_503");
	commit();
	W.now = W.run.due_at;
	pause_flag = true;
	claim();
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_PAUSED);
	ck_assert_str_eq(annexed(), "{\"end\":\"slots\"}");
}
END_TEST

START_TEST(over_budget_it_goes_where_it_was_told)
{
	world_limited()->call.over_budget = 2;
	claim();
	rendered();
	refuse("over_budget");
	claim();
	expect_eval(HP_EVAL_RESULT); /* of `closed` */
	value("", 0);
	ck_assert_int_eq(W.act.transition->after.state, 2);
	ck_assert_str_eq(W.act.transition->saves[0].name, "error");
	ck_assert_ptr_nonnull(strstr(W.act.transition->saves[0].value.p, "\"code\":\"over_budget\""));
	world_limited(); /* without a way: it fails like any other */
	claim();
	rendered();
	refuse("over_budget");
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->after.code, "over_budget");
	commit();
	W.run.command = HP_CMD_RETRY; /* an operator: it asks again */
	claim();
	expect_eval(HP_EVAL_REQUEST);
	world_limited(); /* one that waits asks again, too */
	claim();
	rendered();
	refuse("budget");
	claim();
	expect_eval(HP_EVAL_REQUEST);
}
END_TEST

START_TEST(calls_without_limits_say_nothing)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	reply(HP_TERMINAL, "card_declined");
	value("", 0);
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
}
END_TEST

START_TEST(the_first_transition_gives_the_turn_back)
{
	world_call(HP_REPEAT_BY_KEY);
	W.def.takes_turns = true;
	claim();
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->n_annexes, 1);
	ck_assert_str_eq(W.act.transition->annexes[0].kind, "turn");
	commit();
	reply(HP_CLASS_OK, NULL);
	value("", 0);
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("limits");

	tcase_add_test(t, success_keeps_what_was_used);
	tcase_add_test(t, a_definite_failure_returns_it);
	tcase_add_test(t, what_may_have_happened_is_never_returned);
	tcase_add_test(t, a_retry_leaves_nothing);
	tcase_add_test(t, cancelled_before_it_was_sent);
	tcase_add_test(t, turned_back_before_it_was_sent);
	tcase_add_test(t, what_succeeded_is_spent_whatever_comes_after);
	tcase_add_test(t, a_paused_run_gives_its_place_away);
	tcase_add_test(t, over_budget_it_goes_where_it_was_told);
	tcase_add_test(t, calls_without_limits_say_nothing);
	tcase_add_test(t, the_first_transition_gives_the_turn_back);
	return hp_run_case("core_limits", t);
}
