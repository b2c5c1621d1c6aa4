/* core_children.c: run and each on the machine: what is parked with, what a claim finds,
 * and that children are told to end by whatever leaves them behind. */
#include "machine_world.h"
#include "lib/suite.h"

/* 0 run "work" → 1 done; timeout → 2 late; catch refused → 3 caught */
static struct hp_state *world_run(void)
{
	struct hp_state *s;

	setup();
	s = state(0, "work", HP_RUN);
	s->children.workflow = "other";
	s->children.within_us = HP_HOUR;
	s->children.timeout = 2;
	s->save = "value";
	W.catches[0] = (struct hp_catch){ "refused", 3, 1 };
	s->catches = W.catches;
	s->n_catches = 1;
	state(1, "done", HP_SUCCEED);
	state(2, "late", HP_FAIL)->fail.code = "late";
	state(3, "caught", HP_FAIL)->fail.code = "caught";
	return s;
}

static void parked(void)
{
	claim();
	expect_eval(HP_EVAL_CHILDREN);
	value("{\"op\":\"open\"}", 0);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_DROP);
}

static void claim_finding(const char *children)
{
	static char text[1000];
	struct hp_event ev = { 0 };

	snprintf(text, sizeof text, "{\"children\":%s}", children);
	ev.annex = hp_bytes_of(text);
	claim_with(&ev);
}

static bool tells_to_end(void)
{
	const struct hp_transition *t = W.act.transition;

	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	return t->n_annexes == 1 && strcmp(t->annexes[0].kind, "children") == 0 &&
	       strcmp(t->annexes[0].doc.p, "{\"op\":\"close\"}") == 0;
}

#define UNDECIDED "{\"outcome\":0,\"running\":2,\"closed\":false,\"page\":false,\"total\":2}"
#define MET "{\"outcome\":1,\"running\":0,\"closed\":false,\"page\":false,\"total\":2}"
#define ERROR "\"error\":{\"child\":9,\"code\":\"refused\",\"message\":\"no\"}"

START_TEST(the_commit_that_parks_brings_the_children)
{
	world_run();
	claim();
	expect_eval(HP_EVAL_CHILDREN);
	ck_assert_int_eq(W.act.index, 0);
	value("{\"op\":\"open\"}", 0);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + HP_HOUR);
	ck_assert_int_eq(W.act.transition->n_annexes, 1);
	ck_assert_str_eq(W.act.transition->annexes[0].doc.p, "{\"op\":\"open\"}");
}
END_TEST

START_TEST(woken_for_nothing_it_waits_on)
{
	world_run();
	parked();
	claim_finding(UNDECIDED);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN);
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
	ck_assert_int_eq(W.act.transition->after.due_at, W.run.entered_at + HP_HOUR);
}
END_TEST

START_TEST(met_it_saves_and_goes_on)
{
	world_run();
	parked();
	claim_finding(MET);
	expect_eval(HP_EVAL_JOINED);
	ck_assert_ptr_nonnull(strstr(W.act.value.p, "outcome"));
	value("{\"id\":1}", 0);
	expect_eval(HP_EVAL_RESULT);
	ck_assert_str_eq(W.act.pending->saves[0].name, "value");
	value("", 0);
	ck_assert(tells_to_end()); /* of `any`, the others */
	ck_assert_int_eq(W.act.transition->after.status, HP_SUCCEEDED);
}
END_TEST

START_TEST(a_failure_is_caught_by_the_childs_code)
{
	world_run();
	parked();
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":false," ERROR "}");
	expect_eval(HP_EVAL_RESULT);
	ck_assert_int_eq(W.act.pending->after.state, 3);
	ck_assert_str_eq(W.act.pending->saves[0].value.p,
			 "{\"class\":\"terminal\",\"code\":\"refused\",\"message\":\"no\",\"state\":\"work\",\"child\":9}");
}
END_TEST

START_TEST(before_the_road_of_failure_the_others_end)
{
	world_run();
	parked();
	claim_finding("{\"outcome\":2,\"running\":1,\"closed\":false," ERROR "}");
	ck_assert(tells_to_end());
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
	commit();
	claim_finding("{\"outcome\":2,\"running\":1,\"closed\":true," ERROR "}");
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
	ck_assert_int_eq(W.act.transition->after.state, 0);
	commit();
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":true," ERROR "}");
	ck_assert_int_eq(W.act.pending->after.state, 3);
}
END_TEST

START_TEST(uncaught_it_is_held_and_a_retry_is_a_new_visit)
{
	world_run()->n_catches = 0;
	parked();
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":false," ERROR "}");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->code, "refused");
	commit();
	W.run.command = HP_CMD_RETRY;
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":true," ERROR "}");
	expect_eval(HP_EVAL_CHILDREN);
	ck_assert_int_eq(W.act.pending->after.visit, 2);
	value("{\"op\":\"open\"}", 0);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
	ck_assert_int_eq(W.act.transition->after.visit, 2);
}
END_TEST

START_TEST(what_could_not_be_started_needs_a_person)
{
	world_run()->n_catches = 0;
	parked();
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":false,\"error\":{\"code\":\"no_workflow\",\"message\":\"there is none\"}}");
	ck_assert_int_eq(W.act.transition->after.held_class, HP_NEEDS_PERSON);
	ck_assert_str_eq(W.act.transition->code, "no_workflow");
}
END_TEST

START_TEST(too_few_is_a_failure_of_its_own)
{
	world_run()->n_catches = 0;
	parked();
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":false}");
	ck_assert_str_eq(W.act.transition->code, "too_few");
}
END_TEST

START_TEST(the_time_of_within_is_a_promise)
{
	world_run();
	parked();
	W.now += HP_HOUR - 1;
	claim_finding(UNDECIDED);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN);
	commit();
	W.now += 1;
	claim_finding(UNDECIDED);
	expect_eval(HP_EVAL_RESULT);
	ck_assert_int_eq(W.act.pending->after.state, 2);
	value("", 0);
	ck_assert(tells_to_end());
}
END_TEST

START_TEST(cancelled_it_ends_after_its_children)
{
	world_run();
	parked();
	W.run.cancel = true;
	claim_finding(UNDECIDED);
	ck_assert(tells_to_end());
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.due_at, 0);
	commit();
	claim_finding("{\"outcome\":0,\"running\":1,\"closed\":true}");
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	commit();
	claim_finding("{\"outcome\":0,\"running\":0,\"closed\":true}");
	ck_assert_int_eq(W.act.transition->after.status, HP_CANCELLED);
}
END_TEST

START_TEST(a_page_is_added_when_it_is_wanted)
{
	world_run()->kind = HP_EACH;
	parked();
	claim_finding("{\"outcome\":0,\"running\":2,\"closed\":false,\"page\":true,\"total\":250}");
	expect_eval(HP_EVAL_CHILDREN);
	ck_assert_int_eq(W.act.index, 250);
	value("{\"op\":\"page\"}", 0);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_SPAWNED);
	ck_assert_int_eq(W.act.transition->n_annexes, 1);
	ck_assert_str_eq(W.act.transition->annexes[0].doc.p, "{\"op\":\"page\"}");
}
END_TEST

static void world_rows(void)
{
	struct hp_state *s = world_run();

	s->kind = HP_EACH;
	s->children.pages = true;
}

START_TEST(rows_are_read_and_nothing_is_written_there)
{
	world_rows();
	claim();
	expect_eval(HP_EVAL_ARGS);
	value("{\"args\":[0,250]}", 0);
	ck_assert_int_eq(W.act.type, HP_ACT_SQL);
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_CHILDREN);
	ck_assert_ptr_nonnull(strstr(W.act.value.p, "re_1"));
	value("{\"op\":\"open\"}", 0);
	ck_assert(!W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
}
END_TEST

#define PAGED "\"page\":true,\"total\":250,\"cursor\":7"

/* The cursor is the place of one visit: another one begins where `from` says. */
START_TEST(a_new_visit_reads_from_the_beginning)
{
	world_rows();
	W.states[0].n_catches = 0;
	claim();
	expect_eval(HP_EVAL_ARGS);
	ck_assert_uint_eq(W.act.value.n, 0);
	value("{\"args\":[0,250]}", 0);
	reply(HP_CLASS_OK, NULL);
	value("{\"op\":\"open\"}", 0);
	commit();
	claim_finding("{\"outcome\":0,\"running\":2,\"closed\":false," PAGED "}");
	expect_eval(HP_EVAL_ARGS); /* a further page of the same visit */
	ck_assert_ptr_nonnull(strstr(W.act.value.p, "\"cursor\":7"));
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":false," PAGED "," ERROR "}");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	commit();
	W.run.command = HP_CMD_RETRY;
	claim_finding("{\"outcome\":2,\"running\":0,\"closed\":true," PAGED "," ERROR "}");
	if (W.act.type == HP_ACT_COMMIT) /* entered alone */
		commit();
	expect_eval(HP_EVAL_ARGS);
	ck_assert_int_eq(W.m.t.after.visit, 2);
	ck_assert_int_eq(W.act.index, 0);
	ck_assert_uint_eq(W.act.value.n, 0);
}
END_TEST

START_TEST(a_page_that_cannot_be_read_is_tried_again_beside_the_children)
{
	world_rows();
	claim();
	value("{\"args\":[0,250]}", 0);
	reply(HP_CLASS_OK, NULL);
	value("{\"op\":\"open\"}", 0);
	commit();
	for (int i = 1; i <= 2; i++) {
		claim_finding("{\"outcome\":0,\"running\":2,\"closed\":false,\"page\":true,\"total\":250}");
		value("{\"args\":[7,250]}", 0);
		reply(HP_RETRYABLE, "deadlock_detected");
		ck_assert_int_eq(W.act.transition->after.phase, HP_PH_JOINING);
		ck_assert_int_gt(W.act.transition->after.due_at, W.now);
		ck_assert_int_eq(W.act.transition->n_annexes, 0);
		commit();
	}
	claim_finding("{\"outcome\":0,\"running\":2,\"closed\":false,\"page\":true,\"total\":250}");
	value("{\"args\":[7,250]}", 0);
	reply(HP_RETRYABLE, "deadlock_detected");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert(tells_to_end());
}
END_TEST

START_TEST(children_that_are_not_recorded_are_held)
{
	world_run();
	parked();
	claim();
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert_str_eq(W.act.transition->code, "children_unknown");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("children");

	tcase_add_test(t, the_commit_that_parks_brings_the_children);
	tcase_add_test(t, woken_for_nothing_it_waits_on);
	tcase_add_test(t, met_it_saves_and_goes_on);
	tcase_add_test(t, a_failure_is_caught_by_the_childs_code);
	tcase_add_test(t, before_the_road_of_failure_the_others_end);
	tcase_add_test(t, uncaught_it_is_held_and_a_retry_is_a_new_visit);
	tcase_add_test(t, what_could_not_be_started_needs_a_person);
	tcase_add_test(t, too_few_is_a_failure_of_its_own);
	tcase_add_test(t, the_time_of_within_is_a_promise);
	tcase_add_test(t, cancelled_it_ends_after_its_children);
	tcase_add_test(t, a_page_is_added_when_it_is_wanted);
	tcase_add_test(t, rows_are_read_and_nothing_is_written_there);
	tcase_add_test(t, a_new_visit_reads_from_the_beginning);
	tcase_add_test(t, a_page_that_cannot_be_read_is_tried_again_beside_the_children);
	tcase_add_test(t, children_that_are_not_recorded_are_held);
	return hp_run_case("core_children", t);
}
