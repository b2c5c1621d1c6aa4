/* core_gate.c: what becomes of an admission that a gate refuses. */
#include "machine_world.h"
#include "lib/suite.h"

/* start → call "pay" → succeed */
static struct hp_state *world_pay(enum hp_repeat repeat)
{
	struct hp_state *s = world_call(repeat);

	s->n_catches = 0;
	return s;
}

static void commit_gated(void)
{
	W.gate = true;
	commit();
	W.gate = false;
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}

START_TEST(a_refused_admission_is_no_attempt)
{
	world_pay(HP_REPEAT_BY_KEY);
	claim();
	value("{}", 1);
	commit_gated();
	ck_assert_int_eq(W.last.move, HP_MOVE_GATED);
	ck_assert_int_eq(W.run.phase, HP_PH_GATED);
	ck_assert_int_eq(W.run.status, HP_WAITING);
	ck_assert_int_eq(W.run.attempt, 0);
	ck_assert_int_eq(W.run.first_sent_at, 0);
	ck_assert(!W.last.admits && !W.last.business_key && !W.last.sends_signed);
	W.now += HP_DAY;
	claim(); /* rendered anew, and asked anew */
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 2);
	ck_assert_int_eq(W.act.transition->after.attempt, 1);
	ck_assert_int_eq(W.act.transition->after.first_sent_at, W.now);
	commit();
	reply(HP_RETRYABLE, "http_503");
	commit();
	W.now = W.run.due_at;
	claim();
	value("{}", 2);
	commit_gated();
	ck_assert_int_eq(W.run.attempt, 1);
	ck_assert_int_eq(W.run.failures, 1);
	claim();
	value("{}", 2);
	commit();
	ck_assert_int_eq(W.run.attempt, 2);
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}
END_TEST

START_TEST(a_gate_forgets_no_request_that_may_be_in_the_air)
{
	world_pay(HP_REPEAT_NEVER)->call.has_probe = true;
	admitted();
	claim(); /* its worker died: the outcome is unknown */
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_DOUBT);
	commit();
	W.now = W.run.due_at;
	claim();
	expect_eval(HP_EVAL_PROBE);
	value("{}", 0);
	commit_gated(); /* the probe is refused: still in doubt */
	ck_assert_int_eq(W.run.phase, HP_PH_DOUBT);
	ck_assert(W.run.unresolved);
	W.now += HP_HOUR;
	claim();
	expect_eval(HP_EVAL_PROBE);
	world_pay(HP_REPEAT_BY_KEY);
	admitted();
	claim();
	value("{}", 1);
	commit_gated();
	ck_assert(W.run.unresolved);
	W.now += 2 * HP_DAY; /* the provider has forgotten the key meanwhile */
	claim();
	value("{}", 1);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->after.code, "in_doubt");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("refused");

	tcase_add_test(t, a_refused_admission_is_no_attempt);
	tcase_add_test(t, a_gate_forgets_no_request_that_may_be_in_the_air);
	return hp_run_case("core_gate", t);
}
