/* Pause and resume: a paused run is on no list, loses nothing, and goes on. */
#include "contract.h"

static void pause_run(int64_t run)
{
	json_decref(c_door_ok("pause", "alice", "{'run':%lld,'reason':'the provider migrates'}", (long long)run));
}

static void resume_run(int64_t run)
{
	json_decref(c_door_ok("resume", "bob", "{'run':%lld}", (long long)run));
}

START_TEST(a_ready_run_that_is_paused_is_not_claimed)
{
	struct c_started s = c_start("flow", "{}", NULL, false);
	struct c_run r;
	json_t *run;

	pause_run(s.run);
	c_claim_none();
	run = c_run_json(s.run);
	ck_assert_str_eq(hp_json_str(run, "status"), "waiting");
	ck_assert_str_eq(json_string_value(hp_json_path(run, "paused.by")), "alice");
	ck_assert_str_eq(json_string_value(hp_json_path(run, "paused.reason")), "the provider migrates");
	json_decref(run);
	resume_run(s.run);
	r = c_claim_one();
	ck_assert_int_eq(r.row.id, s.run);
	ck_assert_int_eq(r.row.phase, HP_PH_ENTER);
	ck_assert(!r.row.pause);
	run = c_run_json(s.run);
	ck_assert_ptr_null(json_object_get(run, "paused"));
	json_decref(run);
}
END_TEST

START_TEST(each_commit_tells_of_a_pause)
{
	struct c_run r = c_own(), x;
	struct hp_transition t;
	struct c_result res;

	c_begin(&t, &r);
	c_admit(&t, "{}", "k", false);
	res = c_commit_ok(&r, &t);
	ck_assert(!res.pause);
	pause_run(r.row.id); /* a note beside the row: its worker is not disturbed */
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	res = c_commit_ok(&r, &t);
	ck_assert(res.pause);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	ck_assert(x.row.pause);
	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_MINUTE);
	c_commit_ok(&r, &t);
	c_advance(HP_HOUR);
	c_claim_none();
	resume_run(r.row.id);
	r = c_claim_one();
	ck_assert_int_eq(r.row.due_at, T0 + HP_MINUTE);
}
END_TEST

/* Its worker was told of the pause and stops; before that is written somebody resumes it. */
static void overtakes(enum hp_move move)
{
	struct c_run r = c_own();
	struct hp_transition t;

	pause_run(r.row.id);
	resume_run(r.row.id);
	c_begin(&t, &r);
	c_park(&t, S_LOOK, 0);
	t.move = move;
	t.after.phase = HP_PH_ENTER;
	t.after.pause = true;
	c_commit_ok(&r, &t);
	r = c_claim_one();
	ck_assert_int_eq(r.row.phase, HP_PH_ENTER);
	ck_assert(!r.row.pause);
}

START_TEST(a_resume_that_overtakes_the_pause_counts)
{
	overtakes(HP_MOVE_PAUSED);
	overtakes(HP_MOVE_ENTERED); /* it enters a state and stops there: one move */
}
END_TEST

START_TEST(a_timer_rests_in_a_pause)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_MINUTE);
	c_commit_ok(&r, &t);
	pause_run(r.row.id);
	c_advance(HP_HOUR);
	c_claim_none();
	resume_run(r.row.id);
	r = c_claim_one();
	c_begin(&t, &r); /* not due in truth: it parks again, and its timer is there */
	t.move = HP_MOVE_WOKEN;
	t.after.due_at = c_now + HP_MINUTE;
	t.disposition = HP_PARK;
	c_commit_ok(&r, &t);
	c_claim_none();
	c_advance(HP_MINUTE);
	ck_assert_int_eq(c_claim_one().row.id, r.row.id);
}
END_TEST

START_TEST(an_event_that_comes_in_a_pause_is_kept)
{
	struct c_run r = c_own();

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	pause_run(r.row.id);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{'n':1}"), 0);
	c_claim_none();
	resume_run(r.row.id);
	r = c_claim_one();
	ck_assert_int_gt(r.mail_id, 0);
	ck_assert_ptr_nonnull(strstr(r.mail, "1"));
}
END_TEST

START_TEST(an_event_before_the_run_parks_paused_is_kept)
{
	struct c_run r = c_own();

	pause_run(r.row.id);
	c_event(CONFIRM_EVENT, "re_1", "{}");
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_claim_none();
	resume_run(r.row.id);
	ck_assert_int_gt(c_claim_one().mail_id, 0);
}
END_TEST

START_TEST(people_decide_in_a_pause)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);

	pause_run(r.row.id);
	json_decref(c_door_ok("decide", "bob", "{'approval':%lld,'decision':'approve','reason':'fine'}", (long long)id));
	c_claim_none();
	c_advance(HP_DAY);
	resume_run(r.row.id);
	ck_assert_int_eq(c_claim_one().decision, HP_APPROVED);
}
END_TEST

START_TEST(a_paused_run_can_be_cancelled)
{
	struct c_run r = c_own(), parked = c_own();
	struct hp_transition t;
	json_t *run;

	c_await(&parked, S_CONFIRM, "re_1", 0);
	pause_run(parked.row.id);
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'stop'}", (long long)parked.row.id));
	parked = c_claim_one();
	ck_assert(parked.row.cancel);
	ck_assert(parked.row.pause);
	c_begin(&t, &parked);
	c_finish(&t, HP_CANCELLED);
	c_commit_ok(&parked, &t);
	run = c_run_json(parked.row.id);
	ck_assert_ptr_null(json_object_get(run, "paused")); /* what is over is not paused */
	json_decref(run);
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'stop'}", (long long)r.row.id));
	pause_run(r.row.id);
	c_await(&r, S_CONFIRM, "re_2", 0); /* its worker knew of neither */
	ck_assert(c_claim_one().row.cancel);
}
END_TEST

START_TEST(what_may_be_in_the_air_is_found_out_first)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_admit(&t, "{}", "k", false);
	c_commit_ok(&r, &t);
	c_release(c_engine, &r);
	pause_run(r.row.id);
	r = c_claim_one();
	ck_assert_int_eq(r.row.phase, HP_PH_ADMITTED);
	ck_assert(r.row.pause);
}
END_TEST

START_TEST(an_order_waits_for_resume)
{
	struct c_run r = c_own();

	c_held(&r);
	pause_run(r.row.id);
	c_door_fails(HP_E_CONFLICT, "is paused since 2023-11-14 22:13:20 UTC by alice: the provider migrates", "operate",
		     "alice", "{'run':%lld,'action':'retry','reason':'x'}", (long long)r.row.id);
	resume_run(r.row.id);
	c_claim_none(); /* still with its operator */
	json_decref(c_door_ok("operate", "alice", "{'run':%lld,'action':'retry','reason':'x'}", (long long)r.row.id));
	pause_run(r.row.id);
	c_claim_none();
	resume_run(r.row.id);
	ck_assert_int_eq(c_claim_one().row.command, HP_CMD_RETRY);
}
END_TEST

START_TEST(pausing_twice_and_resuming_what_runs_say_so)
{
	struct c_run r = c_own();
	struct hp_transition t;
	long long id = r.row.id;

	c_door_fails(HP_E_CONFLICT, "is not paused, it is running", "resume", "alice", "{'run':%lld}", id);
	pause_run(id);
	c_door_fails(HP_E_CONFLICT, "is paused since 2023-11-14 22:13:20 UTC by alice", "pause", "bob",
		     "{'run':%lld,'reason':'me too'}", id);
	c_door_fails(HP_E_INVALID, "a reason is mandatory", "pause", "bob", "{'run':%lld}", id);
	c_door_fails(HP_E_NOT_FOUND, "run 4711", "pause", "bob", "{'run':4711,'reason':'x'}");
	c_begin(&t, &r);
	c_finish(&t, HP_SUCCEEDED);
	c_commit_ok(&r, &t);
	c_door_fails(HP_E_CONFLICT, "has already succeeded", "pause", "bob", "{'run':%lld,'reason':'x'}", id);
	c_door_fails(HP_E_CONFLICT, "has already succeeded", "resume", "bob", "{'run':%lld}", id);
}
END_TEST

START_TEST(a_pause_is_in_the_history)
{
	struct c_started s = c_start("flow", "{}", NULL, false);
	json_t *rows;
	const json_t *h;

	pause_run(s.run);
	resume_run(s.run);
	rows = c_history(s.run);
	h = json_array_get(rows, json_array_size(rows) - 2);
	ck_assert_str_eq(hp_json_str(h, "move"), "commanded");
	ck_assert_str_eq(hp_json_str(h, "code"), "pause");
	ck_assert_str_eq(hp_json_str(h, "by"), "alice");
	ck_assert_str_eq(hp_json_str(h, "reason"), "the provider migrates");
	h = json_array_get(rows, json_array_size(rows) - 1);
	ck_assert_str_eq(hp_json_str(h, "move"), "resumed");
	ck_assert_str_eq(hp_json_str(h, "by"), "bob");
	json_decref(rows);
}
END_TEST

TCase *contract_lifecycle(void)
{
	TCase *t = tcase_create("lifecycle");

	tcase_add_test(t, a_ready_run_that_is_paused_is_not_claimed);
	tcase_add_test(t, each_commit_tells_of_a_pause);
	tcase_add_test(t, a_resume_that_overtakes_the_pause_counts);
	tcase_add_test(t, a_timer_rests_in_a_pause);
	tcase_add_test(t, an_event_that_comes_in_a_pause_is_kept);
	tcase_add_test(t, an_event_before_the_run_parks_paused_is_kept);
	tcase_add_test(t, people_decide_in_a_pause);
	tcase_add_test(t, a_paused_run_can_be_cancelled);
	tcase_add_test(t, what_may_be_in_the_air_is_found_out_first);
	tcase_add_test(t, an_order_waits_for_resume);
	tcase_add_test(t, pausing_twice_and_resuming_what_runs_say_so);
	tcase_add_test(t, a_pause_is_in_the_history);
	return t;
}
