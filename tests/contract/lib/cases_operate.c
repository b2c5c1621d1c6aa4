/* What operators may do: retry, skip, give up held runs; cancel any. */
#include "contract.h"

static void operate(int64_t run, const char *action)
{
	json_decref(c_door_ok("operate", "alice", "{'run':%lld,'action':'%s','reason':'because'}",
			      (long long)run, action));
}

START_TEST(a_held_run_is_told_to_retry)
{
	struct c_run r = c_own();

	c_held(&r);
	c_claim_none();
	operate(r.row.id, "retry");
	r = c_claim_one();
	ck_assert_int_eq(r.row.command, HP_CMD_RETRY);
	ck_assert_int_eq(r.row.status, HP_HELD);
	ck_assert_str_eq(r.row.code, "card_declined");
}
END_TEST

START_TEST(a_held_run_is_told_to_give_up)
{
	struct c_run r = c_own();

	c_held(&r);
	operate(r.row.id, "give_up");
	ck_assert_int_eq(c_claim_one().row.command, HP_CMD_GIVE_UP);
}
END_TEST

START_TEST(a_skip_brings_its_value)
{
	struct c_run r = c_own();

	c_held(&r);
	json_decref(c_door_ok("operate", "alice",
			      "{'run':%lld,'action':'skip','reason':'done by hand','value':{'id':'re_9'}}",
			      (long long)r.row.id));
	r = c_claim_one();
	ck_assert_int_eq(r.row.command, HP_CMD_SKIP);
	ck_assert_ptr_nonnull(strstr(r.command_value, "re_9"));
}
END_TEST

static void cancel(int64_t run)
{
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'stop'}", (long long)run));
}

START_TEST(an_approval_cannot_be_skipped)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_open_approval(&r, S_REVIEW, "{}");
	cancel(r.row.id);
	r = c_claim_one();
	c_begin(&t, &r);
	c_hold(&t, "expired");
	t.after.cancel = true;
	c_commit_ok(&r, &t);
	c_door_fails(HP_E_CONFLICT, "cannot be skipped", "operate", "alice",
		     "{'run':%lld,'action':'skip','reason':'I say so'}", (long long)r.row.id);
	c_claim_none();
	operate(r.row.id, "retry");
	ck_assert_int_eq(c_claim_one().row.command, HP_CMD_RETRY);
}
END_TEST

START_TEST(a_command_is_carried_out_once)
{
	struct c_run r = c_own(), x;
	struct hp_transition t;

	c_held(&r);
	operate(r.row.id, "skip");
	r = c_claim_one();
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	t.after.command = HP_CMD_NONE;
	c_commit_ok(&r, &t);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	ck_assert_int_eq(x.row.command, HP_CMD_NONE);
	ck_assert_str_eq(x.command_value, "");
}
END_TEST

START_TEST(only_held_runs_are_operated)
{
	struct c_run r = c_own(), parked = c_own();
	struct c_started ready = c_start("flow", "{}", NULL, false);
	static const char args[] = "{'run':%lld,'action':'retry','reason':'x'}";

	c_await(&parked, S_CONFIRM, "re_1", 0);
	c_door_fails(HP_E_CONFLICT, "is not held, it is ", "operate", "alice", args, (long long)r.row.id);
	c_door_fails(HP_E_CONFLICT, "is not held, it is ", "operate", "alice", args, (long long)parked.row.id);
	c_door_fails(HP_E_CONFLICT, "is not held, it is ", "operate", "alice", args, (long long)ready.run);
	c_door_fails(HP_E_NOT_FOUND, "run 4711", "operate", "alice", args, 4711LL);
	ck_assert_int_eq(c_claim_one().row.id, ready.run);
}
END_TEST

START_TEST(an_operators_order_is_checked)
{
	struct c_run r = c_own();
	long long id = r.row.id;

	c_held(&r);
	c_door_fails(HP_E_INVALID, "there is no action \"forget\"", "operate", "alice", "{'run':%lld,'action':'forget','reason':'x'}", id);
	c_door_fails(HP_E_INVALID, "a reason is mandatory", "operate", "alice", "{'run':%lld,'action':'retry'}", id);
	c_claim_none();
}
END_TEST

START_TEST(a_command_is_in_the_history)
{
	struct c_run r = c_own();
	json_t *rows;
	const json_t *last;

	c_held(&r);
	operate(r.row.id, "retry");
	rows = c_history(r.row.id);
	last = json_array_get(rows, json_array_size(rows) - 1);
	ck_assert_str_eq(hp_json_str(last, "move"), "commanded");
	ck_assert_str_eq(hp_json_str(last, "by"), "alice");
	json_decref(rows);
}
END_TEST

START_TEST(an_event_does_not_wake_a_held_run)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_MINUTE);
	c_advance(HP_MINUTE);
	r = c_claim_one();
	c_begin(&t, &r);
	c_hold(&t, "no_way");
	c_commit_ok(&r, &t);
	c_event(CONFIRM_EVENT, "re_1", "{}");
	c_claim_none();
}
END_TEST

START_TEST(a_parked_run_wakes_to_be_cancelled)
{
	struct c_run r = c_own();

	c_await(&r, S_CONFIRM, "re_1", 0);
	cancel(r.row.id);
	r = c_claim_one();
	ck_assert(r.row.cancel);
	ck_assert_int_eq(r.mail_id, 0);
}
END_TEST

START_TEST(a_held_run_wakes_to_be_cancelled)
{
	struct c_run r = c_own();

	c_held(&r);
	cancel(r.row.id);
	r = c_claim_one();
	ck_assert(r.row.cancel);
	ck_assert_int_eq(r.row.status, HP_HELD);
}
END_TEST

START_TEST(a_ready_run_is_claimed_with_its_cancel)
{
	struct c_started s = c_start("flow", "{}", NULL, false);

	cancel(s.run);
	ck_assert(c_claim_one().row.cancel);
}
END_TEST

START_TEST(a_run_that_parks_on_top_of_a_cancel_wakes)
{
	struct c_run r = c_own();

	cancel(r.row.id);
	c_claim_none(); /* it is owned */
	c_await(&r, S_CONFIRM, "re_1", 0);
	ck_assert(c_claim_one().row.cancel);
}
END_TEST

START_TEST(a_run_that_knew_of_its_cancel_stays_parked)
{
	struct c_run r = c_own();
	struct hp_transition t;

	cancel(r.row.id);
	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_DAY);
	t.after.cancel = true;
	c_commit_ok(&r, &t);
	c_claim_none();
}
END_TEST

START_TEST(a_run_held_on_top_of_a_cancel_wakes_for_the_next_one)
{
	struct c_run r = c_own();

	cancel(r.row.id);
	c_held(&r); /* its worker did not know; what is in doubt is for a person to see */
	c_claim_none();
	cancel(r.row.id);
	r = c_claim_one();
	ck_assert(r.row.cancel);
	ck_assert_int_eq(r.row.status, HP_HELD);
}
END_TEST

START_TEST(what_is_over_cannot_be_cancelled)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_finish(&t, HP_SUCCEEDED);
	c_commit_ok(&r, &t);
	c_door_fails(HP_E_CONFLICT, "has already succeeded", "cancel", "alice", "{'run':%lld,'reason':'stop'}",
		     (long long)r.row.id);
	c_door_fails(HP_E_NOT_FOUND, "run 4711", "cancel", "alice", "{'run':4711,'reason':'stop'}");
}
END_TEST

START_TEST(the_run_door_shows_the_run)
{
	struct c_run r = c_own_by("tester", "ord_1");
	struct hp_transition t;
	json_t *all, *run;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_save(&t, "payment", "{\"id\":\"pi_1\"}");
	c_commit_ok(&r, &t);
	all = c_door_ok("run", "tester", "{'run':%lld}", (long long)r.row.id);
	run = json_object_get(all, "run");
	ck_assert_int_eq(hp_json_int(run, "run", 0), r.row.id);
	ck_assert_str_eq(hp_json_str(run, "workflow"), "flow");
	ck_assert_str_eq(hp_json_str(run, "status"), "running");
	ck_assert_str_eq(hp_json_str(run, "state"), "look");
	ck_assert_str_eq(hp_json_str(run, "key"), "ord_1");
	ck_assert_str_eq(hp_json_str(run, "created_at"), "2023-11-14T22:13:20.000000Z");
	ck_assert_str_eq(json_string_value(hp_json_path(all, "saved.payment.id")), "pi_1");
	json_decref(all);
	c_door_fails(HP_E_NOT_FOUND, "run 4711", "run", "alice", "{'run':4711}");
	c_door_fails(HP_E_NOT_FOUND, "run 4711", "history", "alice", "{'run':4711}");
	c_door_fails(HP_E_NOT_FOUND, "run 4711", "why", "alice", "{'run':4711}");
}
END_TEST

TCase *contract_operate(void)
{
	TCase *t = tcase_create("operators");

	tcase_add_test(t, a_held_run_is_told_to_retry);
	tcase_add_test(t, a_held_run_is_told_to_give_up);
	tcase_add_test(t, a_skip_brings_its_value);
	tcase_add_test(t, an_approval_cannot_be_skipped);
	tcase_add_test(t, a_command_is_carried_out_once);
	tcase_add_test(t, only_held_runs_are_operated);
	tcase_add_test(t, an_operators_order_is_checked);
	tcase_add_test(t, a_command_is_in_the_history);
	tcase_add_test(t, an_event_does_not_wake_a_held_run);
	tcase_add_test(t, a_parked_run_wakes_to_be_cancelled);
	tcase_add_test(t, a_held_run_wakes_to_be_cancelled);
	tcase_add_test(t, a_ready_run_is_claimed_with_its_cancel);
	tcase_add_test(t, a_run_that_parks_on_top_of_a_cancel_wakes);
	tcase_add_test(t, a_run_that_knew_of_its_cancel_stays_parked);
	tcase_add_test(t, a_run_held_on_top_of_a_cancel_wakes_for_the_next_one);
	tcase_add_test(t, what_is_over_cannot_be_cancelled);
	tcase_add_test(t, the_run_door_shows_the_run);
	return t;
}
