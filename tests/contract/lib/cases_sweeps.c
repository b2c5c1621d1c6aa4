/* Sweeps: the place a page brings is there for whoever claims next, and for readers; a
 * fenced page leaves nothing. */
#include "contract.h"

static json_t *first_sweep(int64_t run)
{
	json_t *doc = c_door_ok("run", "alice", "{'run':%lld}", (long long)run);
	json_t *sweep = json_incref(json_array_get(json_object_get(doc, "sweeps"), 0));

	json_decref(doc);
	return sweep;
}

static struct c_run reclaimed(const struct c_run *r)
{
	c_release(c_engine, r);
	return c_claim_one();
}

START_TEST(a_claim_brings_the_place_of_the_visit)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *w;

	ck_assert_str_eq(r.annex, "");
	c_begin(&t, &r);
	c_annex(&t, "sweep", "{\"cursor\":7,\"done\":3,\"changed\":2,\"pages\":3,\"failed\":1,\"total\":9,\"ended\":false}");
	c_annex(&t, "sweep_row", "{\"id\":8,\"email\":null}");
	c_annex(&t, "sweep_failure", "{\"class\":\"terminal\",\"code\":\"gone\",\"message\":\"no such row\"}");
	c_commit_ok(&r, &t);
	r = reclaimed(&r);
	w = c_found(&r, "sweep");
	ck_assert_int_eq(hp_json_int(w, "cursor", 0), 7);
	ck_assert_int_eq(hp_json_int(w, "done", 0), 3);
	ck_assert_int_eq(hp_json_int(w, "changed", 0), 2);
	ck_assert_int_eq(hp_json_int(w, "pages", 0), 3);
	ck_assert_int_eq(hp_json_int(w, "failed", 0), 1);
	ck_assert_int_eq(hp_json_int(w, "total", 0), 9);
	ck_assert_int_eq(hp_json_int(json_object_get(w, "row"), "id", 0), 8);
	ck_assert(json_is_null(json_object_get(json_object_get(w, "row"), "email"))); /* a column of it, as any */
	json_decref(w);
	w = first_sweep(r.row.id);
	ck_assert_int_eq(hp_json_int(w, "done", 0), 3);
	ck_assert_int_eq(hp_json_int(w, "total", 0), 9);
	ck_assert_ptr_null(json_object_get(w, "ended_at"));
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(w, "failures"), 0), "code"), "gone");
	ck_assert_int_eq(hp_json_int(json_array_get(json_object_get(w, "failures"), 0), "cursor", 0), 7);
	json_decref(w);
}
END_TEST

START_TEST(the_next_page_takes_the_row_out_of_hand)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *w;

	c_begin(&t, &r);
	c_annex(&t, "sweep", "{\"cursor\":7,\"done\":0,\"changed\":0,\"pages\":0,\"failed\":0,\"total\":-1,\"ended\":false}");
	c_annex(&t, "sweep_row", "{\"id\":7}");
	c_commit_ok(&r, &t);
	c_begin(&t, &r);
	c_annex(&t, "sweep", "{\"cursor\":9,\"done\":1,\"changed\":1,\"pages\":1,\"failed\":0,\"total\":-1,\"ended\":false}");
	c_commit_ok(&r, &t);
	r = reclaimed(&r);
	w = c_found(&r, "sweep");
	ck_assert_int_eq(hp_json_int(w, "cursor", 0), 9);
	ck_assert(!json_is_object(json_object_get(w, "row")));
	ck_assert_int_eq(hp_json_int(w, "done", 0), 1);
	ck_assert(!json_is_integer(json_object_get(w, "total")));
	json_decref(w);
}
END_TEST

/* The place of one visit is not that of the next. */
START_TEST(another_visit_begins_anew)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *w;

	c_begin(&t, &r);
	c_annex(&t, "sweep", "{\"cursor\":7,\"done\":1,\"changed\":1,\"pages\":1,\"failed\":0,\"total\":-1,\"ended\":true}");
	c_enter(&t, S_RECORD);
	c_commit_ok(&r, &t);
	r = reclaimed(&r);
	w = c_found(&r, "sweep");
	ck_assert_ptr_null(w);
	w = first_sweep(r.row.id);
	ck_assert_int_eq(hp_json_int(w, "visit", 0), 1);
	ck_assert_ptr_nonnull(json_object_get(w, "ended_at"));
	json_decref(w);
}
END_TEST

START_TEST(a_fenced_page_leaves_no_place)
{
	struct c_run old = c_own(), r;
	struct hp_transition t;
	json_t *w;

	r = reclaimed(&old);
	c_begin(&t, &old);
	c_annex(&t, "sweep", "{\"cursor\":7,\"done\":1,\"changed\":1,\"pages\":1,\"failed\":0,\"total\":-1,\"ended\":false}");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	r = reclaimed(&r);
	w = c_found(&r, "sweep");
	ck_assert_ptr_null(w);
}
END_TEST

START_TEST(why_says_how_far_it_is)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *why;

	c_begin(&t, &r);
	c_annex(&t, "sweep", "{\"cursor\":7,\"done\":12,\"changed\":9,\"pages\":3,\"failed\":1,\"total\":50,\"ended\":false}");
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_OPEN;
	t.after.due_at = c_now + HP_MINUTE;
	t.disposition = HP_PARK;
	c_commit_ok(&r, &t);
	why = c_door_ok("why", "alice", "{'run':%lld}", (long long)r.row.id);
	ck_assert_str_eq(hp_json_str(why, "cause"), "sweep");
	ck_assert_ptr_nonnull(strstr(hp_json_str(why, "sentence"), "(12 of 50 rows, 1 failed)"));
	json_decref(why);
}
END_TEST

TCase *contract_sweeps(void)
{
	TCase *t = tcase_create("sweeps");

	tcase_add_test(t, a_claim_brings_the_place_of_the_visit);
	tcase_add_test(t, the_next_page_takes_the_row_out_of_hand);
	tcase_add_test(t, another_visit_begins_anew);
	tcase_add_test(t, a_fenced_page_leaves_no_place);
	tcase_add_test(t, why_says_how_far_it_is);
	return t;
}
