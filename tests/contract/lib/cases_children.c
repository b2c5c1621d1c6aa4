/* Children: started by the commit that parks their parent, counted where they end, told
 * to end when nobody waits for them any more. */
#include <stdlib.h>

#include "contract.h"

#define PLAIN "'need':0,'tolerate':0,'percent':-1"

/* Parks r with an annex: JSON with ' for ". */
static struct c_result park_with(struct c_run *r, const char *doc)
{
	char *text = strdup(doc);
	struct hp_transition t;
	struct c_result res;

	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	c_begin(&t, r);
	t.move = HP_MOVE_PARKED;
	t.disposition = HP_PARK;
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_JOINING;
	t.annexes[0] = (struct hp_annex){ "children", hp_bytes_of(text) };
	t.n_annexes = 1;
	res = c_commit(&t);
	r->row = t.after;
	free(text);
	return res;
}

/* Opens a family of workflow `other`. */
static void spawn(struct c_run *r, const char *rules, int at_once, const char *children, const char *rest)
{
	char doc[3000];
	struct c_result res;

	snprintf(doc, sizeof doc, "{'op':'open','workflow':'other','single':false,%s,'concurrency':%d,'children':[%s]%s}",
		 rules, at_once, children, rest);
	res = park_with(r, doc);
	ck_assert_msg(res.outcome == HP_COMMIT_OK, "%s", res.message);
}

static void end_as(struct c_run *r, enum hp_status status, const char *result)
{
	struct hp_transition t;

	c_begin(&t, r);
	if (status == HP_FAILED) {
		t.outcome = HP_TERMINAL;
		t.code = "card_declined";
		snprintf(t.after.code, sizeof t.after.code, "card_declined");
	}
	c_finish(&t, status);
	t.result = hp_bytes_of(result);
	c_commit_ok(r, &t);
}

/* The family as a claim of the parent finds it. To be dropped. */
static json_t *found(const struct c_run *r)
{
	json_t *all = hp_json_parse(r->annex, strlen(r->annex), "annex", NULL);
	json_t *f = json_incref(json_object_get(all, "children"));

	ck_assert_msg(f != NULL, "no children in the annex: %s", r->annex);
	json_decref(all);
	return f;
}

static int64_t number(const struct c_run *r, const char *name)
{
	json_t *f = found(r);
	int64_t n = hp_json_int(f, name, -1);

	json_decref(f);
	return n;
}

static int64_t count_of(int64_t run, const char *name)
{
	json_t *all = c_door_ok("children", "tester", "{'run':%lld}", (long long)run);
	int64_t n = hp_json_int(json_object_get(all, "family"), name, -1);

	json_decref(all);
	return n;
}

#define ONE "{'input':{'n':1}}"
#define TWO ONE ",{'input':{'n':2}}"
#define THREE TWO ",{'input':{'n':3}}"
#define END ",'end':true"

START_TEST(the_commit_that_parks_starts_the_children)
{
	struct c_run p = c_own(), c[3];

	spawn(&p, PLAIN, 5, TWO, END);
	ck_assert_int_eq(c_claim(c_engine, 3, c), 2);
	ck_assert_str_eq(c[0].workflow, "other");
	ck_assert_ptr_nonnull(strstr(c[0].input, "1"));
	end_as(&c[0], HP_SUCCEEDED, "{\"id\":7}");
	c_claim_none(); /* the parent sleeps on */
	end_as(&c[1], HP_SUCCEEDED, "{\"id\":8}");
	p = c_claim_one();
	ck_assert_str_eq(p.workflow, "flow");
	ck_assert_int_eq(number(&p, "outcome"), 1);
	ck_assert_int_eq(number(&p, "succeeded"), 2);
	ck_assert_ptr_nonnull(strstr(p.annex, "\"items\""));
	c_claim_none();
}
END_TEST

START_TEST(a_fenced_parent_starts_nobody)
{
	struct c_run p = c_own();
	struct c_result res;

	p.row.rev--;
	res = park_with(&p, "{'op':'open','workflow':'other','single':true," PLAIN ",'concurrency':1,'children':[" ONE "]" END "}");
	ck_assert_int_eq(res.outcome, HP_COMMIT_CONFLICT);
	c_claim_none();
}
END_TEST

START_TEST(only_so_many_run_at_once)
{
	struct c_run p = c_own(), c[3];

	spawn(&p, PLAIN, 2, THREE, END);
	ck_assert_int_eq(c_claim(c_engine, 5, c), 2);
	ck_assert_int_eq(count_of(p.row.id, "queued"), 1);
	end_as(&c[1], HP_SUCCEEDED, "{}");
	c[2] = c_claim_one();
	ck_assert_ptr_nonnull(strstr(c[2].input, "3"));
	end_as(&c[2], HP_SUCCEEDED, "{}");
	c_claim_none();
	end_as(&c[0], HP_SUCCEEDED, "{}");
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "outcome"), 1);
}
END_TEST

START_TEST(one_result_is_the_childs)
{
	struct c_run p = c_own(), c;
	json_t *f;

	ck_assert_int_eq(park_with(&p, "{'op':'open','workflow':'other','single':true," PLAIN
				       ",'concurrency':1,'children':[" ONE "]" END "}").outcome, HP_COMMIT_OK);
	c = c_claim_one();
	end_as(&c, HP_SUCCEEDED, "{\"id\":\"cus_1\"}");
	p = c_claim_one();
	f = found(&p);
	ck_assert_str_eq(hp_json_str(json_object_get(f, "result"), "id"), "cus_1");
	json_decref(f);
}
END_TEST

START_TEST(a_key_joins_the_run_that_lives)
{
	struct c_run p = c_own(), q = c_own(), c;

	spawn(&p, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	spawn(&q, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	c = c_claim_one();
	c_claim_none();
	end_as(&c, HP_SUCCEEDED, "{}");
	ck_assert_int_eq(c_claim(c_engine, 5, (struct c_run[5]){ { .row = { 0 } } }), 2); /* both parents */
}
END_TEST

START_TEST(the_end_of_a_joined_run_counts)
{
	struct c_started s = c_start("other", "{}", "user:1", true);
	struct c_run p = c_own();

	spawn(&p, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	c_claim_none();
	end_as(&s.mine, HP_SUCCEEDED, "{}");
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "outcome"), 1);
}
END_TEST

START_TEST(a_key_joins_the_run_that_has_ended)
{
	struct c_started s = c_start("other", "{}", "user:1", true);
	struct c_run p = c_own();

	end_as(&s.mine, HP_SUCCEEDED, "{}");
	spawn(&p, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	p = c_claim_one(); /* it never slept */
	ck_assert_int_eq(number(&p, "outcome"), 1);
}
END_TEST

START_TEST(a_run_cannot_be_its_own_child)
{
	struct c_started s = c_start("other", "{}", "me", true);
	json_t *f;

	spawn(&s.mine, PLAIN, 1, "{'key':'me','input':{}}", END);
	s.mine = c_claim_one();
	f = found(&s.mine);
	ck_assert_int_eq(hp_json_int(f, "outcome", 0), 2);
	ck_assert_str_eq(hp_json_str(json_object_get(f, "error"), "code"), "waits_for_itself");
	json_decref(f);
}
END_TEST

START_TEST(a_circle_of_runs_is_found)
{
	struct c_started a = c_start("other", "{}", "a", true), b = c_start("other", "{}", "b", true);
	json_t *f;

	spawn(&a.mine, PLAIN, 1, "{'key':'b','input':{}}", END);
	spawn(&b.mine, PLAIN, 1, "{'key':'a','input':{}}", END);
	b.mine = c_claim_one();
	f = found(&b.mine);
	ck_assert_str_eq(hp_json_str(json_object_get(f, "error"), "code"), "waits_for_itself");
	json_decref(f);
}
END_TEST

START_TEST(a_missing_workflow_is_a_failure_with_a_code)
{
	struct c_run p = c_own();
	json_t *f;

	ck_assert_int_eq(park_with(&p, "{'op':'open','workflow':'nobody','single':true," PLAIN
				       ",'concurrency':1,'children':[" ONE "]" END "}").outcome, HP_COMMIT_OK);
	p = c_claim_one();
	f = found(&p);
	ck_assert_int_eq(hp_json_int(f, "outcome", 0), 2);
	ck_assert_str_eq(hp_json_str(json_object_get(f, "error"), "code"), "no_workflow");
	ck_assert_ptr_null(json_object_get(json_object_get(f, "error"), "child"));
	json_decref(f);
}
END_TEST

START_TEST(a_failure_decides_unless_it_is_tolerated)
{
	struct c_run p = c_own(), q = c_own(), c[4];

	spawn(&p, PLAIN, 5, TWO, END);
	spawn(&q, "'need':0,'tolerate':1,'percent':-1", 5, TWO, END);
	ck_assert_int_eq(c_claim(c_engine, 5, c), 4);
	end_as(&c[0], HP_FAILED, "{}");
	end_as(&c[2], HP_FAILED, "{}");
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "outcome"), 2);
	ck_assert_ptr_nonnull(strstr(p.annex, "card_declined"));
	end_as(&c[3], HP_SUCCEEDED, "{}");
	q = c_claim_one();
	ck_assert_int_eq(number(&q, "outcome"), 1);
	ck_assert_int_eq(number(&q, "failed"), 1);
}
END_TEST

START_TEST(a_share_of_failures_is_known_at_the_end)
{
	struct c_run p = c_own(), c[3];

	spawn(&p, "'need':0,'tolerate':0,'percent':34", 5, THREE, END);
	ck_assert_int_eq(c_claim(c_engine, 5, c), 3);
	end_as(&c[0], HP_FAILED, "{}");
	end_as(&c[1], HP_SUCCEEDED, "{}");
	c_claim_none();
	end_as(&c[2], HP_SUCCEEDED, "{}");
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "outcome"), 1);
}
END_TEST

static void cancel(const struct c_run *r)
{
	json_decref(c_door_ok("cancel", "op", "{'run':%lld,'reason':'over'}", (long long)r->row.id));
}

/* A parent of two whose join the first one has decided; c[1] is still at work. */
static struct c_run decided(struct c_run c[2])
{
	struct c_run p = c_own();

	spawn(&p, "'need':1,'tolerate':0,'percent':-1", 2, TWO, END);
	ck_assert_int_eq(c_claim(c_engine, 2, c), 2);
	end_as(&c[0], HP_SUCCEEDED, "{}");
	return c_claim_one();
}

START_TEST(closing_tells_its_own_to_end)
{
	struct c_run p = c_own(), c[3];
	struct hp_transition t;
	json_t *f;

	spawn(&p, "'need':1,'tolerate':0,'percent':-1", 2, THREE, END);
	ck_assert_int_eq(c_claim(c_engine, 5, c), 2);
	c_begin(&t, &c[1]); /* one that sleeps when it is told */
	c_park(&t, S_PAUSE, 0);
	c_commit_ok(&c[1], &t);
	end_as(&c[0], HP_SUCCEEDED, "{}");
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "outcome"), 1);
	park_with(&p, "{'op':'close'}");
	c[1] = c_claim_one();
	ck_assert(c[1].row.cancel);
	ck_assert_int_eq(count_of(p.row.id, "running"), 1);
	end_as(&c[1], HP_CANCELLED, "");
	p = c_claim_one(); /* nothing of it is left */
	ck_assert_int_eq(number(&p, "running"), 0);
	f = found(&p);
	ck_assert(json_is_true(json_object_get(f, "closed")));
	json_decref(f);
	c_claim_none(); /* the third was never started */
}
END_TEST

START_TEST(a_child_that_parks_while_it_is_told_does_not_sleep)
{
	struct c_run c[2], p = decided(c);
	struct hp_transition t;

	park_with(&p, "{'op':'close'}");
	c_begin(&t, &c[1]); /* it does not know yet */
	c_park(&t, S_PAUSE, 0);
	ck_assert(c_commit_ok(&c[1], &t).cancel);
	c[1] = c_claim_one();
	ck_assert(c[1].row.cancel);
}
END_TEST

START_TEST(a_child_that_goes_on_hears_of_it)
{
	struct c_run c[2], p = decided(c);
	struct hp_transition t;

	c_begin(&t, &c[1]);
	c_enter(&t, S_LOOK);
	ck_assert(!c_commit_ok(&c[1], &t).cancel);
	park_with(&p, "{'op':'close'}");
	c_begin(&t, &c[1]);
	c_enter(&t, S_DONE);
	ck_assert(c_commit_ok(&c[1], &t).cancel);
}
END_TEST

START_TEST(a_held_child_stays_with_its_operator)
{
	struct c_run p = c_own(), c;

	spawn(&p, PLAIN, 1, ONE, END);
	c = c_claim_one();
	c_held(&c);
	cancel(&p);
	p = c_claim_one();
	park_with(&p, "{'op':'close'}");
	c_claim_none();
}
END_TEST

START_TEST(a_joined_run_is_left_alone)
{
	struct c_started s = c_start("other", "{}", "user:1", true);
	struct c_run p = c_own();
	struct hp_transition t;

	spawn(&p, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	cancel(&p);
	p = c_claim_one();
	park_with(&p, "{'op':'close'}");
	p = c_claim_one(); /* nobody to wait for */
	ck_assert_int_eq(number(&p, "running"), 0);
	c_begin(&t, &s.mine);
	c_enter(&t, S_LOOK);
	ck_assert(!c_commit_ok(&s.mine, &t).cancel);
}
END_TEST

START_TEST(one_that_another_parent_waits_for_goes_on)
{
	struct c_run p = c_own(), q = c_own(), c;
	struct hp_transition t;

	spawn(&p, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	spawn(&q, PLAIN, 1, "{'key':'user:1','input':{}}", END);
	c = c_claim_one();
	cancel(&p);
	p = c_claim_one();
	park_with(&p, "{'op':'close'}");
	c_begin(&t, &c);
	c_enter(&t, S_LOOK);
	ck_assert(!c_commit_ok(&c, &t).cancel);
}
END_TEST

START_TEST(pages_are_asked_for_when_the_queue_is_short)
{
	struct c_run p = c_own(), c[4];

	spawn(&p, PLAIN, 2, TWO, ",'cursor':2,'end':false");
	p = c_claim(c_engine, 5, c) == 3 ? c[0] : p; /* itself, and two children */
	ck_assert_str_eq(c[0].workflow, "flow");
	ck_assert_int_eq(number(&c[0], "total"), 2);
	ck_assert_int_eq(park_with(&p, "{'op':'page','children':[" ONE "],'cursor':3,'end':true}").outcome, HP_COMMIT_OK);
	c_claim_none();
	end_as(&c[1], HP_SUCCEEDED, "{}");
	c[3] = c_claim_one();
	end_as(&c[2], HP_SUCCEEDED, "{}");
	end_as(&c[3], HP_SUCCEEDED, "{}");
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "total"), 3);
	ck_assert_int_eq(number(&p, "outcome"), 1);
}
END_TEST

START_TEST(rows_that_do_not_go_on_are_refused)
{
	struct c_run p = c_own(), c[4];
	struct c_result res;

	spawn(&p, PLAIN, 2, TWO, ",'cursor':2,'end':false");
	ck_assert_int_eq(c_claim(c_engine, 5, c), 3);
	res = park_with(&c[0], "{'op':'page','children':[" ONE "],'cursor':2,'end':false}");
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res.message, "do not go on"));
}
END_TEST

START_TEST(an_empty_family_is_met_at_once)
{
	struct c_run p = c_own();

	spawn(&p, PLAIN, 2, "", END);
	p = c_claim_one();
	ck_assert_int_eq(number(&p, "outcome"), 1);
}
END_TEST

START_TEST(a_child_has_its_parents_requester)
{
	struct c_run p = c_own_by("alice", NULL), c;
	json_t *r;

	spawn(&p, PLAIN, 1, ONE, END);
	c = c_claim_one();
	r = c_run_json(c.row.id);
	ck_assert_str_eq(hp_json_str(r, "requester"), "alice");
	json_decref(r);
}
END_TEST

START_TEST(a_parents_key_is_free_only_without_its_childrens_effects)
{
	struct c_started s = c_start("flow", "{}", "k", true), again;
	struct c_run c;
	struct hp_transition t;

	spawn(&s.mine, PLAIN, 1, ONE, END);
	c = c_claim_one();
	c_begin(&t, &c);
	c_admit(&t, "{\"a\":1}", "key", false);
	c_commit_ok(&c, &t);
	c_begin(&t, &c);
	c_enter(&t, S_DONE);
	c_commit_ok(&c, &t);
	end_as(&c, HP_FAILED, "{}");
	s.mine = c_claim_one();
	end_as(&s.mine, HP_FAILED, "{}");
	again = c_start("flow", "{}", "k", false);
	ck_assert(again.existed);
}
END_TEST

START_TEST(why_names_the_child_and_why_it_waits)
{
	struct c_run p = c_own(), c;
	json_t *w;
	const char *s;

	spawn(&p, PLAIN, 1, TWO, END);
	c = c_claim_one();
	c_held(&c);
	w = c_door_ok("why", "tester", "{'run':%lld}", (long long)p.row.id);
	s = hp_json_str(w, "sentence");
	ck_assert_str_eq(hp_json_str(w, "cause"), "children");
	ck_assert_ptr_nonnull(strstr(s, "2 children of workflow other (0 of 2 have ended: 0 succeeded, 0 failed, 0 were cancelled; "
					"1 are running, one is run 2). Run 2 is held in state \"refund\" since "));
	json_decref(w);
}
END_TEST

START_TEST(the_doors_list_children_and_parents)
{
	struct c_run p = c_own(), c;
	json_t *all, *list;

	spawn(&p, PLAIN, 1, TWO, END);
	c = c_claim_one();
	end_as(&c, HP_SUCCEEDED, "{\"id\":1}");
	all = c_door_ok("children", "tester", "{'run':%lld,'limit':1}", (long long)p.row.id);
	list = json_object_get(all, "children");
	ck_assert_uint_eq(json_array_size(list), 1);
	ck_assert_str_eq(hp_json_str(json_array_get(list, 0), "status"), "succeeded");
	ck_assert_int_eq(hp_json_int(json_object_get(json_array_get(list, 0), "result"), "id", 0), 1);
	ck_assert_int_eq(hp_json_int(all, "next", 0), 1);
	json_decref(all);
	all = c_door_ok("run", "tester", "{'run':%lld}", (long long)c.row.id);
	ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(all, "parents"), 0)), p.row.id);
	json_decref(all);
	all = c_door_ok("run", "tester", "{'run':%lld}", (long long)p.row.id);
	ck_assert_int_eq(hp_json_int(json_array_get(json_object_get(all, "children"), 0), "succeeded", 0), 1);
	json_decref(all);
}
END_TEST

START_TEST(what_is_too_large_for_a_start_is_a_failure_with_a_code)
{
	static char input[300 * 1024], doc[320 * 1024];
	char key[600];
	struct c_run p = c_own(), q = c_own();
	json_t *f;

	memset(input, 'x', sizeof input - 1);
	snprintf(doc, sizeof doc, "{'op':'open','workflow':'other','single':true," PLAIN ",'concurrency':1,'children':"
		 "[{'input':{'x':'%s'}}]" END "}", input);
	ck_assert_int_eq(park_with(&p, doc).outcome, HP_COMMIT_OK);
	p = c_claim_one();
	f = found(&p);
	ck_assert_str_eq(hp_json_str(json_object_get(f, "error"), "code"), "too_large");
	json_decref(f);
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	snprintf(doc, sizeof doc, "{'key':'%s','input':{}}", key);
	spawn(&q, PLAIN, 1, doc, END);
	q = c_claim_one();
	f = found(&q);
	ck_assert_str_eq(hp_json_str(json_object_get(f, "error"), "code"), "too_large");
	json_decref(f);
}
END_TEST

/* Each once, ascending, whichever joined it first; the first twenty. */
START_TEST(the_parents_of_a_run_are_listed)
{
	struct c_started s = c_start("other", "{}", "user:1", true);
	struct c_run p[22];
	json_t *run, *list;

	for (int i = 0; i < 22; i++)
		p[i] = c_own();
	for (int i = 21; i >= 0; i--)
		spawn(&p[i], PLAIN, 2, i % 2 ? "{'key':'user:1','input':{}},{'key':'user:1','input':{}}" : "{'key':'user:1','input':{}}", END);
	run = c_door_ok("run", "tester", "{'run':%lld}", (long long)s.run);
	list = json_object_get(run, "parents");
	ck_assert_uint_eq(json_array_size(list), 20);
	for (size_t i = 0; i < 20; i++)
		ck_assert_int_eq(json_integer_value(json_array_get(list, i)), p[i].row.id);
	json_decref(run);
}
END_TEST

TCase *contract_children(void)
{
	TCase *tc = tcase_create("children");

	tcase_add_test(tc, the_commit_that_parks_starts_the_children);
	tcase_add_test(tc, a_fenced_parent_starts_nobody);
	tcase_add_test(tc, only_so_many_run_at_once);
	tcase_add_test(tc, one_result_is_the_childs);
	tcase_add_test(tc, a_key_joins_the_run_that_lives);
	tcase_add_test(tc, the_end_of_a_joined_run_counts);
	tcase_add_test(tc, a_key_joins_the_run_that_has_ended);
	tcase_add_test(tc, a_run_cannot_be_its_own_child);
	tcase_add_test(tc, a_circle_of_runs_is_found);
	tcase_add_test(tc, a_missing_workflow_is_a_failure_with_a_code);
	tcase_add_test(tc, a_failure_decides_unless_it_is_tolerated);
	tcase_add_test(tc, a_share_of_failures_is_known_at_the_end);
	tcase_add_test(tc, closing_tells_its_own_to_end);
	tcase_add_test(tc, a_child_that_parks_while_it_is_told_does_not_sleep);
	tcase_add_test(tc, a_child_that_goes_on_hears_of_it);
	tcase_add_test(tc, a_held_child_stays_with_its_operator);
	tcase_add_test(tc, a_joined_run_is_left_alone);
	tcase_add_test(tc, one_that_another_parent_waits_for_goes_on);
	tcase_add_test(tc, pages_are_asked_for_when_the_queue_is_short);
	tcase_add_test(tc, rows_that_do_not_go_on_are_refused);
	tcase_add_test(tc, an_empty_family_is_met_at_once);
	tcase_add_test(tc, a_child_has_its_parents_requester);
	tcase_add_test(tc, a_parents_key_is_free_only_without_its_childrens_effects);
	tcase_add_test(tc, why_names_the_child_and_why_it_waits);
	tcase_add_test(tc, the_doors_list_children_and_parents);
	tcase_add_test(tc, the_parents_of_a_run_are_listed);
	tcase_add_test(tc, what_is_too_large_for_a_start_is_a_failure_with_a_code);
	return tc;
}
