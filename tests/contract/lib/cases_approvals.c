/* Approvals: who may decide what, until when, and what is sent afterwards. */
#include <stdio.h>

#include "base/digest.h"
#include "contract.h"

#define APPROVE "{'approval':%lld,'decision':'approve','reason':'looks right'}"
#define REJECT "{'approval':%lld,'decision':'reject','reason':'not this one'}"

static const char *decide(const char *who, const char *args, int64_t id)
{
	static char status[32];
	json_t *v;

	/* the caller's literal is APPROVE or REJECT */
	v = args[0] == 'a' ? c_door_ok("decide", who, APPROVE, (long long)id) :
			     c_door_ok("decide", who, REJECT, (long long)id);
	snprintf(status, sizeof status, "%s", hp_json_str(v, "status"));
	ck_assert_int_eq(hp_json_int(v, "approval", 0), id);
	json_decref(v);
	return status;
}

START_TEST(an_approval_wakes_the_run)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);
	json_t *value;

	c_claim_none();
	c_advance(HP_MINUTE);
	ck_assert_str_eq(decide("alice", "approve", id), "approved");
	r = c_claim_one();
	ck_assert_int_eq(r.decision, HP_APPROVED);
	value = hp_json_parse(r.decision_value, strlen(r.decision_value), "decision", NULL);
	ck_assert_str_eq(hp_json_str(value, "by"), "alice");
	ck_assert_str_eq(hp_json_str(value, "reason"), "looks right");
	ck_assert_str_eq(hp_json_str(value, "decision"), "approved");
	ck_assert_str_eq(hp_json_str(value, "at"), "2023-11-14T22:14:20.000000Z");
	json_decref(value);
}
END_TEST

START_TEST(a_rejection_wakes_the_run)
{
	struct c_run r = c_own();

	ck_assert_str_eq(decide("alice", "reject", c_open_approval(&r, S_REVIEW, NULL)), "rejected");
	ck_assert_int_eq(c_claim_one().decision, HP_REJECTED);
}
END_TEST

START_TEST(a_decision_is_in_the_history)
{
	struct c_run r = c_own();
	json_t *rows, *last;

	decide("alice", "approve", c_open_approval(&r, S_REVIEW, NULL));
	rows = c_history(r.row.id);
	last = json_array_get(rows, json_array_size(rows) - 1);
	ck_assert_str_eq(hp_json_str(last, "move"), "decided");
	ck_assert_str_eq(hp_json_str(last, "by"), "alice");
	json_decref(rows);
}
END_TEST

START_TEST(an_approval_shows_the_very_bytes)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_REVIEW, "POST  /b?z=1&a=2");
	json_t *a = c_door_ok("approval", "alice", "{'approval':%lld}", (long long)id);

	ck_assert_str_eq(hp_json_str(a, "request"), "POST  /b?z=1&a=2");
	ck_assert_str_eq(hp_json_str(a, "ask"), "Refund?");
	ck_assert_str_eq(hp_json_str(a, "status"), "open");
	/* these names are what the API and the command line read */
	ck_assert_str_eq(hp_json_str(a, "request_key"), "k");
	ck_assert_str_eq(hp_json_str(a, "deadline_at"), "2023-11-15T02:13:20.000000Z");
	ck_assert_str_eq(hp_json_str(a, "approvers"), "1 of payments");
	json_decref(a);
	decide("alice", "approve", id);
	a = c_door_ok("approval", "alice", "{'approval':%lld}", (long long)id);
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(a, "votes"), 0), "by"), "alice");
	ck_assert_str_eq(hp_json_str(a, "decided_by"), "alice");
	json_decref(a);
	c_door_fails(HP_E_NOT_FOUND, "approval 4711", "approval", "alice", "{'approval':4711}");
}
END_TEST

START_TEST(a_request_that_is_not_what_was_hashed_is_not_shown)
{
	struct c_run r = c_own(), now;
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_REVIEW, c_now + DEADLINE);
	t.approval = hp_bytes_of("{\"ask\":\"Refund?\",\"evidence\":{},\"request\":\"POST /b\",\"key\":\"k\"}");
	t.approval_deadline = c_now + DEADLINE;
	hp_sha256("POST /c", 7, t.approval_hash);
	ck_assert_int_ne(c_commit(&t).outcome, HP_COMMIT_OK);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &now));
	ck_assert_int_eq(now.row.rev, r.row.rev);
}
END_TEST

START_TEST(an_unknown_approval_is_not_found)
{
	c_door_fails(HP_E_NOT_FOUND, "approval 4711", "decide", "alice", APPROVE, 4711LL);
}
END_TEST

START_TEST(whoever_asked_may_not_approve)
{
	struct c_run r = c_own_by("alice", NULL);
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);

	c_door_fails(HP_E_FORBIDDEN, "alice requested run ", "decide", "alice", APPROVE, (long long)id);
	c_claim_none();
	ck_assert_str_eq(decide("bob", "approve", id), "approved");
}
END_TEST

START_TEST(without_the_role_nobody_decides)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);

	c_door_fails(HP_E_FORBIDDEN, "mallory is not among the approvers: 1 of payments", "decide", "mallory", APPROVE, (long long)id);
	c_door_fails(HP_E_FORBIDDEN, "dave is not among the approvers: 1 of payments", "decide", "dave", REJECT, (long long)id);
	c_claim_none();
}
END_TEST

START_TEST(an_agent_never_approves)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);

	c_door_fails(HP_E_FORBIDDEN, "robot may not decide: only a person can, this is an agent", "decide", "robot", APPROVE, (long long)id);
	c_claim_none();
}
END_TEST

START_TEST(a_reason_is_mandatory)
{
	struct c_run r = c_own();
	long long id = c_open_approval(&r, S_REVIEW, NULL);

	c_door_fails(HP_E_INVALID, "a reason is mandatory", "decide", "alice", "{'approval':%lld,'decision':'approve'}", id);
	c_door_fails(HP_E_INVALID, "a reason is mandatory", "decide", "alice",
		     "{'approval':%lld,'decision':'approve','reason':''}", id);
	c_door_fails(HP_E_INVALID, "a reason is mandatory", "decide", "alice",
		     "{'approval':%lld,'decision':'reject','reason':'  '}", id);
	c_claim_none();
}
END_TEST

START_TEST(a_decision_is_approve_or_reject)
{
	struct c_run r = c_own();
	long long id = c_open_approval(&r, S_REVIEW, NULL);

	c_door_fails(HP_E_INVALID, "a decision is \"approve\" or \"reject\", not \"perhaps\"", "decide", "alice",
		     "{'approval':%lld,'decision':'perhaps','reason':'x'}", id);
}
END_TEST

START_TEST(the_deadline_is_exact_to_the_microsecond)
{
	struct c_run a = c_own(), b = c_own();
	int64_t first = c_open_approval(&a, S_REVIEW, NULL), second = c_open_approval(&b, S_REVIEW, NULL);

	c_advance(DEADLINE - 1);
	ck_assert_str_eq(decide("alice", "approve", first), "approved");
	c_advance(1);
	c_door_fails(HP_E_CONFLICT, " was 2023-11-15 02:13:20 UTC", "decide", "alice", APPROVE,
		     (long long)second);
}
END_TEST

START_TEST(a_second_click_is_told_who_decided)
{
	struct c_run r = c_own();
	long long id = c_open_approval(&r, S_REVIEW, NULL);

	c_advance(HP_MINUTE);
	decide("alice", "approve", id);
	c_advance(HP_MINUTE);
	c_door_fails(HP_E_CONFLICT, "already decided by alice at 2023-11-14 22:14:20 UTC (approved)", "decide", "bob", REJECT, id);
	c_door_fails(HP_E_CONFLICT, "already decided by alice at 2023-11-14 22:14:20 UTC (approved)", "decide", "alice", APPROVE, id);
	ck_assert_int_eq(c_claim_one().decision, HP_APPROVED);
}
END_TEST

START_TEST(a_quorum_needs_every_term)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_QUORUM, NULL);

	ck_assert_str_eq(decide("bob", "approve", id), "open");
	c_claim_none();
	ck_assert_str_eq(decide("dave", "approve", id), "open"); /* two of sre, none of security */
	c_claim_none();
	ck_assert_str_eq(decide("carol", "approve", id), "approved");
	ck_assert_int_eq(c_claim_one().decision, HP_APPROVED);
}
END_TEST

START_TEST(one_person_counts_in_every_role_they_hold)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_QUORUM, NULL);

	ck_assert_str_eq(decide("carol", "approve", id), "open"); /* one sre, one security */
	ck_assert_str_eq(decide("dave", "approve", id), "approved");
}
END_TEST

START_TEST(nobody_votes_twice)
{
	struct c_run r = c_own();
	long long id = c_open_approval(&r, S_QUORUM, NULL);

	decide("carol", "approve", id);
	c_door_fails(HP_E_CONFLICT, "carol has voted already, at 2023-11-14 22:13:20 UTC (approve)", "decide", "carol", APPROVE, id);
	c_claim_none();
}
END_TEST

START_TEST(one_rejection_ends_a_quorum)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_QUORUM, NULL);

	decide("carol", "approve", id);
	ck_assert_str_eq(decide("dave", "reject", id), "rejected");
	ck_assert_int_eq(c_claim_one().decision, HP_REJECTED);
}
END_TEST

/* The deadline's timer has fired and the run is being moved on as expired. */
static struct c_run expiring(struct hp_transition *t, int64_t *id, int64_t *deadline)
{
	struct c_run r = c_own();

	*id = c_open_approval(&r, S_REVIEW, NULL);
	*deadline = c_now + DEADLINE;
	c_advance(DEADLINE);
	r = c_claim_one();
	ck_assert_int_eq(r.decision, HP_UNDECIDED);
	c_begin(t, &r);
	c_enter(t, S_LOOK);
	t->approval_closes = true;
	return r;
}

START_TEST(after_it_expired_nobody_decides)
{
	struct hp_transition t;
	int64_t id, deadline;
	struct c_run r = expiring(&t, &id, &deadline);
	json_t *a;

	c_commit_ok(&r, &t);
	c_door_fails(HP_E_CONFLICT, " expired at 2023-11-15 02:13:20 UTC", "decide", "alice", APPROVE, (long long)id);
	a = c_door_ok("approval", "alice", "{'approval':%lld}", (long long)id);
	ck_assert_str_eq(hp_json_str(a, "status"), "expired");
	json_decref(a);
}
END_TEST

START_TEST(a_decision_during_a_reminder_fences_its_commit)
{
	struct c_run r = c_own(), owner;
	struct hp_transition t;
	int64_t id = c_open_reminded(&r, S_REVIEW, HP_HOUR);

	c_advance(HP_HOUR);
	owner = c_claim_one();
	ck_assert_str_eq(decide("alice", "approve", id), "approved");
	c_begin(&t, &owner);
	t.after.due_at = c_now + HP_HOUR;
	t.move = HP_MOVE_REMINDED;
	t.disposition = HP_PARK;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(c_engine, owner.row.id, owner.row.epoch, &owner));
	ck_assert_int_eq(owner.decision, HP_APPROVED);
	c_claim_none(); /* it is still owned */
}
END_TEST

START_TEST(votes_survive_a_reminder)
{
	struct c_run r = c_own(), owner;
	struct hp_transition t;
	int64_t id = c_open_reminded(&r, S_QUORUM, HP_HOUR);

	decide("carol", "approve", id);
	c_advance(HP_HOUR);
	owner = c_claim_one();
	c_begin(&t, &owner);
	t.move = HP_MOVE_REMINDED;
	t.disposition = HP_PARK;
	t.after.due_at = c_now + HP_HOUR;
	c_commit_ok(&owner, &t);
	ck_assert_str_eq(decide("dave", "approve", id), "approved");
}
END_TEST

START_TEST(a_cancelled_runs_approval_is_closed)
{
	struct c_run r = c_own();
	struct hp_transition t;
	long long id = c_open_approval(&r, S_REVIEW, NULL);

	json_decref(c_door_ok("cancel", "bob", "{'run':%lld,'reason':'stop'}", (long long)r.row.id));
	r = c_claim_one();
	ck_assert(r.row.cancel);
	c_begin(&t, &r);
	c_finish(&t, HP_CANCELLED);
	t.approval_closes = true;
	c_commit_ok(&r, &t);
	c_door_fails(HP_E_CONFLICT, " was cancelled at 2023-11-14 22:13:20 UTC", "decide", "alice", APPROVE, id);
}
END_TEST

static void is_now(int64_t id, const char *status)
{
	json_t *a = c_door_ok("approval", "alice", "{'approval':%lld}", (long long)id);

	ck_assert_str_eq(hp_json_str(a, "status"), status);
	json_decref(a);
}

/* Entered, and turned round there in the same commit. */
static void turns_back_at(struct hp_transition *t, int state)
{
	c_enter(t, state);
	c_turning(t, HP_FAILED);
	t->outcome = HP_TERMINAL;
	t->approval_closes = true;
}

/* `expired` leads to a `fail` that undoes: its code is in the place of the approval's. */
START_TEST(one_that_expires_into_going_back_has_expired)
{
	struct hp_transition t;
	int64_t id, deadline;
	struct c_run r = expiring(&t, &id, &deadline);

	c_begin(&t, &r);
	turns_back_at(&t, S_DONE);
	c_commit_ok(&r, &t);
	is_now(id, "expired");
}
END_TEST

START_TEST(one_that_a_cancel_turns_back_is_cancelled)
{
	struct c_run r = c_own();
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);
	struct hp_transition t;

	json_decref(c_door_ok("cancel", "bob", "{'run':%lld,'reason':'stop'}", (long long)r.row.id));
	r = c_claim_one();
	c_begin(&t, &r);
	turns_back_at(&t, S_REVIEW);
	t.after.visit = t.from_visit;
	c_commit_ok(&r, &t);
	is_now(id, "cancelled");
}
END_TEST

/* Claimed at an approval that is open and has time left. */
static struct c_run woken(int64_t *id)
{
	struct c_run r = c_own();

	*id = c_open_approval(&r, S_REVIEW, NULL);
	json_decref(c_door_ok("pause", "bob", "{'run':%lld,'reason':'look'}", (long long)r.row.id));
	json_decref(c_door_ok("resume", "bob", "{'run':%lld}", (long long)r.row.id));
	return c_claim_one();
}

START_TEST(one_that_a_restart_leaves_behind_is_cancelled)
{
	struct hp_transition t;
	int64_t id;
	struct c_run r = woken(&id);

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	t.move = HP_MOVE_RESTARTED;
	t.approval_closes = true;
	c_commit_ok(&r, &t);
	is_now(id, "cancelled");
}
END_TEST

START_TEST(one_that_a_restart_turns_back_from_is_cancelled)
{
	struct hp_transition t;
	int64_t id;
	struct c_run r = woken(&id);

	c_begin(&t, &r);
	turns_back_at(&t, S_DONE);
	c_commit_ok(&r, &t);
	is_now(id, "cancelled");
}
END_TEST

/* Anything may hold the run but the deadline: nobody shall read that it was missed. */
START_TEST(one_whose_run_is_held_before_its_deadline_is_cancelled)
{
	struct hp_transition t;
	int64_t id;
	struct c_run r = woken(&id);

	c_begin(&t, &r);
	c_hold(&t, "stalled");
	t.approval_closes = true;
	c_commit_ok(&r, &t);
	is_now(id, "cancelled");
}
END_TEST

/* The clock is set back between the claim that finds it late and the commit that says so. */
START_TEST(one_whose_run_is_held_as_it_expired_has_expired)
{
	struct hp_transition t;
	int64_t id, deadline;
	struct c_run r = expiring(&t, &id, &deadline);

	c_advance(-1);
	c_begin(&t, &r);
	c_hold(&t, "expired");
	t.approval_closes = true;
	c_commit_ok(&r, &t);
	is_now(id, "expired");
}
END_TEST

START_TEST(an_approval_that_was_held_is_open_again_after_a_retry)
{
	struct c_run r = c_own();
	struct hp_transition t;
	int64_t id = c_open_approval(&r, S_REVIEW, NULL);

	c_advance(DEADLINE);
	r = c_claim_one();
	c_begin(&t, &r);
	c_hold(&t, "no_way");
	t.approval_closes = true;
	c_commit_ok(&r, &t);
	json_decref(c_door_ok("operate", "bob", "{'run':%lld,'action':'retry','reason':'again'}",
			      (long long)r.row.id));
	r = c_claim_one();
	c_begin(&t, &r);
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_OPEN;
	t.after.command = HP_CMD_NONE;
	t.after.entered_at = c_now;
	t.after.due_at = t.approval_deadline = c_now + DEADLINE;
	t.approval = hp_bytes_of("{\"ask\":\"Go?\",\"evidence\":{}}");
	t.move = HP_MOVE_PARKED;
	t.disposition = HP_PARK;
	c_commit_ok(&r, &t);
	ck_assert_str_eq(decide("alice", "approve", id), "approved");
	ck_assert_int_eq(c_claim_one().decision, HP_APPROVED);
}
END_TEST

/* ---- what was signed is what is sent ---- */

static struct c_run approved(const char *request)
{
	struct c_run r = c_own();

	decide("alice", "approve", c_open_approval(&r, S_REVIEW, request));
	return c_claim_one();
}

static void sending(struct hp_transition *t, const struct c_run *r, const char *request)
{
	c_begin(t, r);
	c_enter(t, S_REFUND);
	t->after.signed_visit = r->row.visit;
	t->after.signed_for = S_REFUND;
	c_admit(t, request, "k", false);
	t->sends_signed = true;
}

START_TEST(the_signed_request_is_sent)
{
	struct c_run r = approved("POST /v1/refunds"), x;
	struct hp_transition t;

	sending(&t, &r, "POST /v1/refunds");
	c_commit_ok(&r, &t);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	ck_assert_str_eq(x.signed_request, "POST /v1/refunds");
	ck_assert_str_eq(x.signed_key, "k");
	ck_assert_mem_eq(x.signed_hash, t.after.request_hash, HP_SHA256_LEN);
}
END_TEST

START_TEST(another_request_than_the_signed_one_is_refused)
{
	struct c_run r = approved("POST /v1/refunds");
	struct hp_transition t;
	struct c_result res;

	sending(&t, &r, "POST /v1/refunds?amount=more");
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res.message, "not the one that was signed"));
}
END_TEST

START_TEST(what_was_signed_for_another_state_is_refused)
{
	struct c_run r = approved("POST /v1/refunds");
	struct hp_transition t;
	struct c_result res;

	sending(&t, &r, "POST /v1/refunds");
	t.after.signed_for = S_REVIEW;
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res.message, "is for another state"));
}
END_TEST

START_TEST(an_unapproved_request_is_refused)
{
	struct c_run r = c_own();
	struct hp_transition t;
	struct c_result res;

	decide("alice", "reject", c_open_approval(&r, S_REVIEW, "POST /v1/refunds"));
	r = c_claim_one();
	sending(&t, &r, "POST /v1/refunds");
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res.message, "rejected"));
}
END_TEST

TCase *contract_approvals(void)
{
	TCase *t = tcase_create("approvals");

	tcase_add_test(t, an_approval_wakes_the_run);
	tcase_add_test(t, a_rejection_wakes_the_run);
	tcase_add_test(t, a_decision_is_in_the_history);
	tcase_add_test(t, an_approval_shows_the_very_bytes);
	tcase_add_test(t, a_request_that_is_not_what_was_hashed_is_not_shown);
	tcase_add_test(t, an_unknown_approval_is_not_found);
	tcase_add_test(t, whoever_asked_may_not_approve);
	tcase_add_test(t, without_the_role_nobody_decides);
	tcase_add_test(t, an_agent_never_approves);
	tcase_add_test(t, a_reason_is_mandatory);
	tcase_add_test(t, a_decision_is_approve_or_reject);
	tcase_add_test(t, the_deadline_is_exact_to_the_microsecond);
	tcase_add_test(t, a_second_click_is_told_who_decided);
	tcase_add_test(t, a_quorum_needs_every_term);
	tcase_add_test(t, one_person_counts_in_every_role_they_hold);
	tcase_add_test(t, nobody_votes_twice);
	tcase_add_test(t, one_rejection_ends_a_quorum);
	tcase_add_test(t, after_it_expired_nobody_decides);
	tcase_add_test(t, a_decision_during_a_reminder_fences_its_commit);
	tcase_add_test(t, votes_survive_a_reminder);
	tcase_add_test(t, a_cancelled_runs_approval_is_closed);
	tcase_add_test(t, one_that_expires_into_going_back_has_expired);
	tcase_add_test(t, one_that_a_cancel_turns_back_is_cancelled);
	tcase_add_test(t, one_that_a_restart_leaves_behind_is_cancelled);
	tcase_add_test(t, one_that_a_restart_turns_back_from_is_cancelled);
	tcase_add_test(t, one_whose_run_is_held_before_its_deadline_is_cancelled);
	tcase_add_test(t, one_whose_run_is_held_as_it_expired_has_expired);
	tcase_add_test(t, an_approval_that_was_held_is_open_again_after_a_retry);
	tcase_add_test(t, the_signed_request_is_sent);
	tcase_add_test(t, another_request_than_the_signed_one_is_refused);
	tcase_add_test(t, what_was_signed_for_another_state_is_refused);
	tcase_add_test(t, an_unapproved_request_is_refused);
	return t;
}
