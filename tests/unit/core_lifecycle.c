/* core_lifecycle.c: what operators do to a run on its way: pause, resume, restart. */
#include "machine_world.h"
#include "lib/suite.h"

static void expect_paused(enum hp_status status, enum hp_phase phase)
{
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.status, status);
	ck_assert_int_eq(W.act.transition->after.phase, phase);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}

START_TEST(a_pause_takes_back_what_was_not_sent)
{
	world_call(HP_REPEAT_BY_KEY);
	claim();
	value("{}", 1);
	pause_flag = true;
	commit();
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_PAUSED);
	ck_assert_int_eq(W.act.transition->after.attempt, 0);
	expect_paused(HP_WAITING, HP_PH_ENTER);
	claim(); /* by mistake: it parks again */
	expect_paused(HP_WAITING, HP_PH_ENTER);
	pause_flag = false;
	claim();
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.attempt, 1);
	ck_assert_int_eq(W.act.transition->after.status, HP_RUNNING);
	commit_ev(false, W.now - 30 * HP_DAY); /* another run had this business key */
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->after.code[0], 'i'); /* in_doubt */
}
END_TEST

START_TEST(a_pause_waits_for_the_effect_in_the_air)
{
	world_call(HP_REPEAT_BY_KEY);
	admitted();
	pause_flag = true; /* and the worker dies */
	claim();
	expect_eval(HP_EVAL_REQUEST); /* resolved first */
	value("{}", 1);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
	reply(HP_CLASS_OK, NULL);
	expect_paused(HP_WAITING, HP_PH_ENTER);
	world_call(HP_REPEAT_BY_KEY);
	W.states[1] = W.states[0];
	W.states[1].next = 3;
	state(3, "done", HP_SUCCEED);
	admitted();
	W.m.run.pause = W.m.t.after.pause = pause_flag = true; /* learned with its last commit */
	reply(HP_CLASS_OK, NULL);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_ENTERED);
	ck_assert_int_eq(W.act.transition->n_saves, 1); /* what happened is kept */
	ck_assert_int_eq(W.act.transition->after.visit, 2);
	ck_assert(!W.act.transition->admits);
	expect_paused(HP_WAITING, HP_PH_ENTER);
}
END_TEST

START_TEST(what_comes_in_a_pause_is_looked_at_on_resume)
{
	struct hp_event yes = { .decision = HP_APPROVED, .decision_value = hp_bytes_of("{}") };
	int64_t due;

	world_approval(false);
	claim();
	value("{}", 5);
	commit();
	due = W.run.due_at;
	pause_flag = true;
	W.now += 5 * HP_HOUR;
	claim_with(&yes);
	ck_assert_int_eq(W.act.transition->after.due_at, due);
	ck_assert(!W.act.transition->approval_closes);
	expect_paused(HP_WAITING, HP_PH_OPEN);
	pause_flag = false;
	claim_with(&yes);
	ck_assert(W.act.type == HP_ACT_EVAL || W.act.type == HP_ACT_COMMIT);
	ck_assert_int_eq(W.m.t.after.state, 1);
}
END_TEST

START_TEST(cancel_goes_before_pause_and_orders_wait_for_resume)
{
	world_call(HP_REPEAT_BY_KEY);
	W.run.cancel = pause_flag = true;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
	world_call(HP_REPEAT_BY_KEY);
	W.run.status = HP_HELD;
	W.run.command = HP_CMD_GIVE_UP;
	pause_flag = true;
	claim();
	ck_assert_int_eq(W.act.transition->after.command, HP_CMD_GIVE_UP);
	expect_paused(HP_HELD, HP_PH_ENTER);
	pause_flag = false;
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_FAILED);
}
END_TEST

static void restart(const char *to, enum hp_status status)
{
	struct hp_event ev = { .command_value = hp_bytes_of(to) };

	W.run.status = status;
	W.run.command = HP_CMD_RESTART;
	claim_with(&ev);
}

START_TEST(a_restart_enters_the_state_anew)
{
	world_call(HP_REPEAT_BY_KEY);
	W.states[1] = W.states[0];
	W.states[1].next = 3;
	state(3, "done", HP_SUCCEED);
	W.run.state = 1;
	W.run.visit = 2;
	restart("0", HP_HELD);
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_RESTARTED);
	ck_assert_int_eq(W.act.transition->after.visit, 3); /* another key */
	ck_assert_int_eq(W.act.transition->after.state, 0);
	ck_assert_int_eq(W.act.transition->after.command, HP_CMD_NONE);
	ck_assert(W.act.transition->admits);
	world_approval(false);
	claim();
	value("{}", 5);
	commit();
	restart("0", HP_WAITING); /* it was paused: asked anew, the old question is closed */
	ck_assert(W.m.t.approval_closes);
	expect_eval(HP_EVAL_APPROVAL);
	ck_assert_int_eq(W.act.pending->after.visit, 2);
}
END_TEST

START_TEST(a_restart_never_leaves_an_open_effect_behind)
{
	world_call(HP_REPEAT_BY_KEY);
	W.run.unresolved = true;
	restart("0", HP_HELD);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->after.code, "in_doubt");
	ck_assert(W.act.transition->after.unresolved);
	for (int i = 0; i < 3; i++) {
		static const char *const bad[] = { "", "99", "1x" };

		world_call(HP_REPEAT_BY_KEY);
		restart(bad[i], HP_HELD);
		ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
		ck_assert_str_eq(W.act.transition->after.code, "no_state");
	}
}
END_TEST

/* What was signed has not been sent: asked anew, the new signature is the one that counts. */
START_TEST(a_restart_at_an_approval_drops_the_signature_before)
{
	struct hp_event yes = { .decision = HP_APPROVED, .decision_value = hp_bytes_of("{}") };

	for (int again = 0; again < 3; again++) {
		world_approval(false)->next = 4;
		state(4, "note", HP_SQL)->next = 1;
		W.run.state = 4;
		W.run.visit = 2;
		W.run.signed_visit = W.run.signed_for = 1;
		if (again == 1)
			W.states[0].approval.of = HP_NO_STATE;
		restart(again ? "0" : "4", HP_HELD);
		if (again < 2) { /* it stands for the call that comes */
			ck_assert_int_eq(W.m.t.after.signed_visit, 1);
			continue;
		}
		expect_eval(HP_EVAL_APPROVAL);
		value("{}", 5);
		commit();
		claim_with(&yes);
		ck_assert_int_eq(W.m.t.after.state, 4);
		ck_assert_int_eq(W.m.t.after.signed_visit, 3);
	}
}
END_TEST

HP_SUITE("core lifecycle", a_pause_takes_back_what_was_not_sent,
	 a_pause_waits_for_the_effect_in_the_air,
	 what_comes_in_a_pause_is_looked_at_on_resume,
	 cancel_goes_before_pause_and_orders_wait_for_resume,
	 a_restart_enters_the_state_anew,
	 a_restart_never_leaves_an_open_effect_behind,
	 a_restart_at_an_approval_drops_the_signature_before)
