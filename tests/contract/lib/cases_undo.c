/* Undo: an entry is kept by the commit in which its effect succeeds; a run that goes
 * back is told of the newest open one, with the values of then; keys are free again
 * only when nothing is left. */
#include <stdio.h>

#include "contract.h"

#define REQUEST "{\"connector\":\"stripe\",\"operation\":\"refunds.create\"}"

/* A visit whose effect succeeds; NULL: it says nothing of undo. */
static void effect(struct c_run *r, const char *doc, const char *value)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_enter(&t, S_REFUND);
	c_admit(&t, REQUEST, "k", false);
	c_commit_ok(r, &t);
	c_begin(&t, r);
	c_enter(&t, S_LOOK);
	t.after.unresolved = false;
	if (value)
		c_save(&t, "v", value);
	if (doc)
		c_annex(&t, "undo", doc);
	c_commit_ok(r, &t);
}

/* The run turns round, and is claimed again. */
static struct c_run back(struct c_run *r, enum hp_status ends)
{
	c_turn_back(r, ends);
	return c_claim_one();
}

static struct c_run close_entry(struct c_run *r, int entry, const char *as)
{
	struct hp_transition t;
	char doc[64];

	snprintf(doc, sizeof doc, "{\"close\":%d,\"as\":\"%s\"}", entry, as);
	c_begin(&t, r);
	t.move = HP_MOVE_UNDONE;
	t.disposition = HP_PARK;
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_UNDOING;
	t.after.due_at = c_now;
	t.after.unresolved = false;
	c_annex(&t, "undo", doc);
	c_commit_ok(r, &t);
	return c_claim_one();
}

static int next_of(const struct c_run *r)
{
	json_t *u = c_found(r, "undo");
	int n = (int)hp_json_int(json_object_get(u, "next"), "entry", 0);

	ck_assert_ptr_nonnull(u);
	json_decref(u);
	return n;
}

START_TEST(a_claim_is_told_of_the_newest_open_entry)
{
	struct c_run r = c_own();
	json_t *u, *next;

	effect(&r, "{\"add\":{\"state\":10,\"request\":\"a\",\"key\":\"k1\"}}", "1");
	effect(&r, "{\"add\":{\"state\":10,\"request\":\"b\",\"key\":\"k2\",\"probe\":\"p\"}}", "2");
	effect(&r, NULL, "3");
	r = back(&r, HP_FAILED);
	u = c_found(&r, "undo");
	next = json_object_get(u, "next");
	ck_assert_int_eq(hp_json_int(u, "ends", 0), HP_FAILED);
	ck_assert_int_eq(hp_json_int(u, "left", -1), 0);
	ck_assert_str_eq(hp_json_str(u, "code"), "no_trip");
	ck_assert_str_eq(hp_json_str(u, "message"), "not to be had");
	ck_assert_str_eq(hp_json_str(json_object_get(u, "result"), "code"), "no_trip");
	ck_assert_str_eq(hp_json_str(u, "names"), "refund (visit 4, key k2); refund (visit 2, key k1)");
	ck_assert_int_eq(hp_json_int(next, "entry", 0), 2);
	ck_assert_int_eq(hp_json_int(next, "visit", 0), 4);
	ck_assert_int_eq(hp_json_int(next, "state", 0), S_UNDO);
	ck_assert_str_eq(hp_json_str(next, "request"), "b");
	ck_assert_str_eq(hp_json_str(next, "key"), "k2");
	ck_assert_str_eq(hp_json_str(next, "probe"), "p");
	ck_assert_int_eq(hp_json_int(json_object_get(next, "saved"), "v", 0), 2); /* not the 3 of later */
	json_decref(u);
}
END_TEST

START_TEST(entries_are_closed_from_the_end)
{
	struct c_run r = c_own();

	effect(&r, "{\"add\":{\"state\":10,\"request\":\"a\",\"key\":\"k1\"}}", NULL);
	effect(&r, "{\"add\":{\"state\":10,\"request\":\"b\",\"key\":\"k2\"}}", NULL);
	effect(&r, "{\"add\":{\"state\":10,\"request\":\"c\",\"key\":\"k3\"}}", NULL);
	r = back(&r, HP_CANCELLED);
	ck_assert_int_eq(next_of(&r), 3);
	r = close_entry(&r, 3, "done");
	ck_assert_int_eq(next_of(&r), 2);
	r = close_entry(&r, 2, "skipped");
	ck_assert_int_eq(next_of(&r), 1);
	r = close_entry(&r, 1, "done");
	ck_assert_int_eq(next_of(&r), 0);
}
END_TEST

START_TEST(a_closed_entry_is_not_closed_again)
{
	struct c_run r = c_own();
	struct hp_transition t;
	struct c_result res;

	effect(&r, "{\"add\":{\"state\":10,\"request\":\"a\",\"key\":\"k1\"}}", NULL);
	r = back(&r, HP_FAILED);
	r = close_entry(&r, 1, "done");
	c_begin(&t, &r);
	c_annex(&t, "undo", "{\"close\":1,\"as\":\"done\"}");
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res.message, "entry 1 of its undo log is not open"));
}
END_TEST

START_TEST(a_fenced_worker_keeps_nothing)
{
	struct c_run r = c_own(), again;
	struct hp_transition t;
	json_t *doc;

	c_begin(&t, &r);
	c_annex(&t, "undo", "{\"add\":{\"state\":10,\"request\":\"a\",\"key\":\"k1\"}}");
	t.epoch--;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &again));
	doc = c_door_ok("run", "op", "{'run':%lld}", (long long)r.row.id);
	ck_assert_ptr_null(json_object_get(doc, "undo"));
	json_decref(doc);
}
END_TEST

START_TEST(one_effect_is_one_entry)
{
	struct c_run r = c_own();
	struct hp_transition t;

	for (int i = 0; i < 2; i++) { /* held after its success, and retried */
		c_begin(&t, &r);
		c_annex(&t, "undo", i ? "{\"add\":{\"state\":10,\"request\":\"new\",\"key\":\"k\"}}"
			    : "{\"add\":{\"state\":10,\"request\":\"old\",\"key\":\"k\"}}");
		c_commit_ok(&r, &t);
	}
	r = back(&r, HP_FAILED);
	ck_assert_ptr_nonnull(strstr(r.annex, "new"));
	ck_assert_int_eq(next_of(&r), 1);
	r = close_entry(&r, 1, "done");
	ck_assert_int_eq(next_of(&r), 0);
}
END_TEST

START_TEST(an_annex_that_says_nothing_is_refused)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_annex(&t, "undo", "{\"say\":1}");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_REFUSED);
}
END_TEST

START_TEST(what_cannot_be_undone_is_left_until_somebody_answers)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *u;

	effect(&r, "{\"add\":{\"text\":\"a mail cannot be taken back\"}}", NULL);
	effect(&r, "{\"add\":{\"code\":\"script_error\",\"error\":\"this run has no {x}\"}}", NULL);
	r = back(&r, HP_FAILED);
	u = c_found(&r, "undo");
	ck_assert_int_eq(hp_json_int(u, "left", 0), 1);
	ck_assert_int_eq(hp_json_int(json_object_get(u, "next"), "state", 0), 0);
	ck_assert_str_eq(hp_json_str(u, "names"),
			 "refund (visit 4): this run has no {x}; refund (visit 2): a mail cannot be taken back");
	json_decref(u);
	r = close_entry(&r, 2, "skipped");
	c_begin(&t, &r);
	c_annex(&t, "undo", "{\"answered\":true}");
	c_commit_ok(&r, &t);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &r));
	u = c_found(&r, "undo");
	ck_assert_int_eq(hp_json_int(u, "left", -1), 0);
	ck_assert_int_eq(next_of(&r), 0);
	json_decref(u);
}
END_TEST

/* The end of a keyed run that goes back; is its key free then? */
static bool key_is_free(const char *doc, const char *as)
{
	struct c_run r = c_own_by("alice", "trip:1");
	struct hp_transition t;

	effect(&r, doc, NULL);
	r = back(&r, HP_FAILED);
	if (as) {
		c_begin(&t, &r); /* the undo is a visit of its own, and no effect to be undone */
		c_enter(&t, S_UNDO);
		c_admit(&t, REQUEST, "k1", false);
		c_commit_ok(&r, &t);
		r = close_entry(&r, 1, as);
	}
	c_begin(&t, &r);
	c_finish(&t, HP_FAILED);
	c_commit_ok(&r, &t);
	return !c_start("flow", "{}", "trip:1", false).existed;
}

#define ONE "{\"add\":{\"state\":10,\"request\":\"a\",\"key\":\"k1\"}}"

START_TEST(a_key_is_free_when_all_is_undone)
{
	ck_assert(key_is_free(ONE, "done"));
}
END_TEST

START_TEST(a_key_is_free_when_all_was_undone_by_hand)
{
	ck_assert(key_is_free(ONE, "skipped"));
}
END_TEST

START_TEST(a_key_stays_with_what_was_not_undone)
{
	ck_assert(!key_is_free(ONE, NULL));
}
END_TEST

START_TEST(a_key_stays_with_what_cannot_be_undone)
{
	ck_assert(!key_is_free("{\"add\":{\"text\":\"a mail\"}}", NULL));
}
END_TEST

START_TEST(an_entry_keeps_the_definition_it_ran_under)
{
	struct c_run r = c_own();
	uint8_t before = r.digest[0];

	effect(&r, ONE, NULL);
	c_deploy("flow", (uint8_t)(before + 70));
	r = back(&r, HP_FAILED);
	ck_assert_int_eq(r.digest[0], before);
	ck_assert_int_eq(c_own().digest[0], before + 70);
}
END_TEST

START_TEST(people_see_the_log_and_the_progress)
{
	struct c_run r = c_own();
	json_t *doc, *log, *why;
	long long id = (long long)r.row.id;

	effect(&r, "{\"add\":{\"state\":10,\"operation\":\"stripe.refunds.cancel\",\"request\":\"a\",\"key\":\"k1\"}}", NULL);
	effect(&r, "{\"add\":{\"text\":\"a mail\"}}", NULL);
	r = back(&r, HP_CANCELLED);
	c_held(&r);
	doc = c_door_ok("run", "op", "{'run':%lld}", id);
	ck_assert_str_eq(hp_json_str(json_object_get(doc, "undo"), "ends"), "cancelled");
	log = json_object_get(json_object_get(doc, "undo"), "log");
	ck_assert_int_eq((int)json_array_size(log), 2);
	ck_assert_str_eq(hp_json_str(json_array_get(log, 0), "status"), "open");
	ck_assert_str_eq(hp_json_str(json_array_get(log, 0), "operation"), "stripe.refunds.cancel");
	ck_assert_str_eq(hp_json_str(json_array_get(log, 0), "state"), "refund");
	ck_assert_str_eq(hp_json_str(json_array_get(log, 1), "status"), "impossible");
	ck_assert_str_eq(hp_json_str(json_array_get(log, 1), "text"), "a mail");
	json_decref(doc);
	why = c_door_ok("why", "op", "{'run':%lld}", id);
	ck_assert_ptr_nonnull(strstr(hp_json_str(why, "sentence"),
				     "An operator can retry, skip what was undone by hand, or give up."
				     " It is being unwound: 0 of 2 undone, next refund."));
	json_decref(why);
	c_door_fails(HP_E_CONFLICT, "being unwound already", "operate", "op",
		     "{'run':%lld,'action':'undo','reason':'r'}", id);
	c_door_fails(HP_E_CONFLICT, "a cancel changes nothing", "cancel", "op", "{'run':%lld,'reason':'r'}", id);
}
END_TEST

START_TEST(an_operator_undoes_a_held_run)
{
	struct c_run r = c_own();
	long long id = (long long)r.row.id;
	json_t *why;

	effect(&r, ONE, NULL);
	c_door_fails(HP_E_CONFLICT, "is not held", "operate", "op", "{'run':%lld,'action':'undo','reason':'r'}", id);
	c_held(&r);
	why = c_door_ok("why", "op", "{'run':%lld}", id);
	ck_assert_ptr_nonnull(strstr(hp_json_str(why, "sentence"), "An operator can retry, skip, undo or give up."));
	json_decref(why);
	c_door_fails(HP_E_CONFLICT, "nothing is in doubt", "operate", "op",
		     "{'run':%lld,'action':'undo','reason':'r','happened':true}", id);
	c_door_fails(HP_E_INVALID, "must be true or false", "operate", "op",
		     "{'run':%lld,'action':'undo','reason':'r','happened':'yes'}", id);
	json_decref(c_door_ok("operate", "op", "{'run':%lld,'action':'undo','reason':'r'}", id));
	c_door_fails(HP_E_CONFLICT, "told to undo already", "operate", "op",
		     "{'run':%lld,'action':'retry','reason':'r'}", id);
	ck_assert_int_eq(c_claim_one().row.command, HP_CMD_UNDO);
}
END_TEST

START_TEST(what_is_in_doubt_must_be_known)
{
	struct c_run r = c_own();
	struct hp_transition t;
	long long id = (long long)r.row.id;

	c_begin(&t, &r);
	c_hold(&t, "in_doubt");
	t.after.unresolved = true;
	c_commit_ok(&r, &t);
	c_door_fails(HP_E_CONFLICT, "happened is not known", "operate", "op",
		     "{'run':%lld,'action':'undo','reason':'r'}", id);
	json_decref(c_door_ok("operate", "op", "{'run':%lld,'action':'undo','reason':'r','happened':true,'value':{'a':1}}", id));
	r = c_claim_one();
	ck_assert_int_eq(r.row.command, HP_CMD_UNDO_HAPPENED);
	ck_assert_ptr_nonnull(strstr(r.command_value, "1"));
}
END_TEST

TCase *contract_undo(void)
{
	TCase *t = tcase_create("undo");

	tcase_add_test(t, a_claim_is_told_of_the_newest_open_entry);
	tcase_add_test(t, entries_are_closed_from_the_end);
	tcase_add_test(t, a_closed_entry_is_not_closed_again);
	tcase_add_test(t, a_fenced_worker_keeps_nothing);
	tcase_add_test(t, one_effect_is_one_entry);
	tcase_add_test(t, an_annex_that_says_nothing_is_refused);
	tcase_add_test(t, what_cannot_be_undone_is_left_until_somebody_answers);
	tcase_add_test(t, a_key_is_free_when_all_is_undone);
	tcase_add_test(t, a_key_is_free_when_all_was_undone_by_hand);
	tcase_add_test(t, a_key_stays_with_what_was_not_undone);
	tcase_add_test(t, a_key_stays_with_what_cannot_be_undone);
	tcase_add_test(t, an_entry_keeps_the_definition_it_ran_under);
	tcase_add_test(t, people_see_the_log_and_the_progress);
	tcase_add_test(t, an_operator_undoes_a_held_run);
	tcase_add_test(t, what_is_in_doubt_must_be_known);
	return t;
}
