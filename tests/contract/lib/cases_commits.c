/* The compare-and-set, and everything that hangs on it. */
#include <stdio.h>
#include <stdlib.h>

#include "contract.h"

START_TEST(a_commit_with_a_stale_epoch_changes_nothing)
{
	struct c_run r = c_own(), now;
	struct hp_transition t;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_save(&t, "x", "1");
	t.epoch--;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &now));
	ck_assert_int_eq(now.row.rev, r.row.rev);
	ck_assert_ptr_null(strstr(now.saved, "\"x\""));
}
END_TEST

START_TEST(a_commit_with_a_stale_rev_changes_nothing)
{
	struct c_run r = c_own(), now;
	struct hp_transition t;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	t.rev--;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &now));
	ck_assert_int_eq(now.row.rev, r.row.rev);
	ck_assert_int_eq(now.row.state, S_REFUND);
}
END_TEST

START_TEST(the_same_commit_twice_conflicts)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *before, *after;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_save(&t, "x", "1");
	c_commit_ok(&r, &t);
	before = c_history(r.row.id);
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	after = c_history(r.row.id);
	ck_assert_uint_eq(json_array_size(before), json_array_size(after));
	json_decref(before);
	json_decref(after);
}
END_TEST

struct two {
	bool done;
	enum hp_commit_outcome outcome;
};

static void on_two(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct two *x = arg;

	(void)now;
	(void)n;
	x->outcome = res[0].outcome;
	x->done = true;
}

START_TEST(of_two_concurrent_commits_one_wins)
{
	struct c_run r = c_own();
	struct hp_transition t, u;
	const struct hp_transition *pt = &t, *pu = &u;
	struct hp_store *s0 = the_driver->store(0), *s1 = the_driver->store(1);
	struct two a = { 0 }, b = { 0 };

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_begin(&u, &r);
	c_enter(&u, S_PAUSE);
	s0->ops->commit(s0, &pt, 1, on_two, &a);
	s1->ops->commit(s1, &pu, 1, on_two, &b);
	c_wait(&a.done);
	c_wait(&b.done);
	ck_assert_int_eq((a.outcome == HP_COMMIT_OK) + (b.outcome == HP_COMMIT_OK), 1);
	ck_assert_int_eq((a.outcome == HP_COMMIT_CONFLICT) + (b.outcome == HP_COMMIT_CONFLICT), 1);
}
END_TEST

START_TEST(an_unknown_run_conflicts)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	t.run_id = t.after.id = r.row.id + 12345;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
}
END_TEST

START_TEST(the_row_comes_back_as_it_was_committed)
{
	struct c_run r = c_own(), x;
	struct hp_transition t;

	c_begin(&t, &r);
	c_enter(&t, S_REFUND);
	c_admit(&t, "{}", "k", false);
	t.after.failures = 2;
	t.after.attempt = 3;
	t.after.held_class = HP_AMBIGUOUS;
	t.after.signed_visit = 0;
	snprintf(t.after.code, sizeof t.after.code, "card_declined");
	c_commit_ok(&r, &t);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	ck_assert_int_eq(x.row.visit, 2);
	ck_assert_int_eq(x.row.state, S_REFUND);
	ck_assert_int_eq(x.row.phase, HP_PH_ADMITTED);
	ck_assert_int_eq(x.row.attempt, 3);
	ck_assert_int_eq(x.row.failures, 2);
	ck_assert_int_eq(x.row.entered_at, T0);
	ck_assert_int_eq(x.row.first_sent_at, T0);
	ck_assert_int_eq(x.row.sent_at, T0);
	ck_assert(x.row.unresolved);
	ck_assert_int_eq(x.row.held_class, HP_AMBIGUOUS);
	ck_assert_str_eq(x.row.code, "card_declined");
	ck_assert_mem_eq(x.row.request_hash, t.after.request_hash, HP_SHA256_LEN);
	ck_assert_int_eq(x.row.rev, r.row.rev);
}
END_TEST

START_TEST(every_commit_writes_one_history_row_at_its_rev)
{
	struct c_run r = c_own();
	struct hp_transition t;
	int32_t revs[6];
	json_t *rows;
	int64_t last = -1;

	for (int i = 0; i < 6; i++) {
		if (i == 3) { /* a claim in between */
			c_release(c_engine, &r);
			r = c_claim_one();
		}
		c_begin(&t, &r);
		c_enter(&t, i & 1 ? S_LOOK : S_PAUSE);
		c_commit_ok(&r, &t);
		revs[i] = r.row.rev;
	}
	rows = c_history(r.row.id);
	ck_assert_uint_eq(json_array_size(rows), 7); /* and the start */
	ck_assert_str_eq(hp_json_str(json_array_get(rows, 0), "move"), "started");
	for (size_t i = 0; i < 7; i++) {
		int64_t rev = hp_json_int(json_array_get(rows, i), "rev", -1);

		ck_assert_int_gt(rev, last);
		last = rev;
		if (i > 0)
			ck_assert_int_eq(rev, revs[i - 1]);
	}
	json_decref(rows);
}
END_TEST

START_TEST(history_is_read_in_pages)
{
	struct c_run r = c_own();
	struct hp_transition t;
	int seen = 0;
	int64_t after = -1;

	for (int i = 0; i < 5; i++) {
		c_begin(&t, &r);
		c_enter(&t, S_LOOK);
		c_commit_ok(&r, &t);
	}
	for (int page = 0; page < 4; page++) {
		json_t *all = after < 0 ?
			c_door_ok("history", "tester", "{'run':%lld,'limit':2}", (long long)r.row.id) :
			c_door_ok("history", "tester", "{'run':%lld,'limit':2,'after':%lld}",
				  (long long)r.row.id, (long long)after);

		seen += (int)json_array_size(json_object_get(all, "history"));
		after = hp_json_int(all, "next", -1);
		json_decref(all);
		if (after < 0)
			break;
	}
	ck_assert_int_eq(seen, 6);
	ck_assert_int_eq(after, -1);
}
END_TEST

START_TEST(the_latest_save_wins_over_loops)
{
	struct c_run r = c_own(), x;
	struct hp_transition t;
	json_t *saved;
	char value[32];

	for (int i = 1; i <= 3; i++) {
		c_begin(&t, &r);
		c_enter(&t, S_LOOK);
		snprintf(value, sizeof value, "{\"round\":%d}", i);
		c_save(&t, "reply", value);
		if (i == 1)
			c_save(&t, NULL, "{\"a\":1,\"b\":[2]}");
		c_commit_ok(&r, &t);
	}
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	saved = hp_json_parse(x.saved, strlen(x.saved), "saved", NULL);
	ck_assert_int_eq(json_integer_value(hp_json_path(saved, "reply.round")), 3);
	ck_assert_int_eq(hp_json_int(saved, "a", 0), 1);
	ck_assert_uint_eq(json_array_size(json_object_get(saved, "b")), 1);
	ck_assert_uint_eq(json_object_size(saved), 3);
	json_decref(saved);
}
END_TEST

START_TEST(within_one_commit_the_last_save_of_a_name_wins)
{
	struct c_run r = c_own(), x;
	struct hp_transition t;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	c_save(&t, "n", "1");
	c_save(&t, NULL, "{\"n\":2}");
	c_commit_ok(&r, &t);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	ck_assert_ptr_nonnull(strchr(x.saved, '2'));
}
END_TEST

START_TEST(a_run_without_saves_has_no_values)
{
	struct c_run r = c_own();

	ck_assert_msg(r.saved[0] == 0 || strcmp(r.saved, "{}") == 0, "%s", r.saved);
}
END_TEST

START_TEST(a_finished_run_is_final)
{
	struct c_run r = c_own();
	struct hp_transition t;
	json_t *run;

	c_begin(&t, &r);
	c_finish(&t, HP_SUCCEEDED);
	t.result = hp_bytes_of("{\"ok\":true}");
	c_commit_ok(&r, &t);
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	t.rev = r.row.rev - 1;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	t.rev = r.row.rev; /* also of who has its very last epoch and rev */
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	c_claim_none();
	run = c_run_json(r.row.id);
	ck_assert_str_eq(hp_json_str(run, "status"), "succeeded");
	ck_assert_int_eq(hp_json_bool(json_object_get(run, "result"), "ok", 0), 1);
	json_decref(run);
}
END_TEST

START_TEST(one_bad_transition_does_not_stop_the_others)
{
	struct c_run r[9];
	struct hp_transition t[9];
	const struct hp_transition *p[9];
	struct c_result res[9];

	for (int i = 0; i < 9; i++) {
		r[i] = c_own();
		c_begin(&t[i], &r[i]);
		c_enter(&t[i], S_LOOK);
		c_save(&t[i], "v", i == 4 ? "this is not JSON" : "1");
		p[i] = &t[i];
	}
	t[7].rev += 5; /* and one is fenced */
	c_commit_many(p, 9, res);
	for (int i = 0; i < 9; i++) {
		struct c_run x;
		enum hp_commit_outcome want = i == 4 ? HP_COMMIT_REFUSED :
					      i == 7 ? HP_COMMIT_CONFLICT : HP_COMMIT_OK;

		ck_assert_msg(res[i].outcome == want, "transition %d: outcome %d: %s", i,
			      (int)res[i].outcome, res[i].message);
		ck_assert(c_reload(c_engine, r[i].row.id, r[i].row.epoch, &x));
		ck_assert_int_eq(x.row.state, want == HP_COMMIT_OK ? S_LOOK : S_REFUND);
		/* nothing else of a transition is there without its row */
		ck_assert_msg((strstr(x.saved, "\"v\"") != NULL) == (want == HP_COMMIT_OK), "transition %d: %s", i,
			      x.saved);
	}
	ck_assert_uint_gt(strlen(res[4].message), 0);
}
END_TEST

START_TEST(a_thousand_transitions_at_once)
{
	enum { N = 1000 };
	struct hp_transition *t = calloc(N, sizeof *t);
	const struct hp_transition **p = calloc(N, sizeof *p);
	struct c_result *res = calloc(N, sizeof *res);
	struct c_run r, x;

	ck_assert(t && p && res);
	for (int i = 0; i < N; i++) {
		r = c_own();
		c_begin(&t[i], &r);
		c_enter(&t[i], S_LOOK);
		c_save(&t[i], "v", "1");
		p[i] = &t[i];
	}
	c_commit_many(p, N, res);
	for (int i = 0; i < N; i++)
		ck_assert_msg(res[i].outcome == HP_COMMIT_OK, "transition %d: %d %s", i,
			      (int)res[i].outcome, res[i].message);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &x));
	ck_assert_int_eq(x.row.state, S_LOOK);
	free(t);
	free(p);
	free(res);
}
END_TEST

START_TEST(a_commit_returns_the_cancel_flag)
{
	struct c_run r = c_own();
	struct hp_transition t;
	struct c_result res;

	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	ck_assert(!c_commit_ok(&r, &t).cancel);
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'stop'}", (long long)r.row.id));
	c_begin(&t, &r);
	c_enter(&t, S_PAUSE);
	res = c_commit_ok(&r, &t); /* the door did not fence the owner */
	ck_assert(res.cancel);
	c_begin(&t, &r);
	c_enter(&t, S_LOOK);
	t.after.cancel = false;
	res = c_commit_ok(&r, &t);
	ck_assert_msg(res.cancel, "a commit took the cancel back");
}
END_TEST

START_TEST(an_annex_that_nobody_reads_is_refused)
{
	struct c_run r = c_own();
	struct hp_transition t;
	struct c_result res;

	c_begin(&t, &r);
	c_save(&t, "note", "1");
	t.annexes[t.n_annexes++] = (struct hp_annex){ "nobodys", hp_bytes_of("{}") };
	res = c_commit(&t);
	ck_assert_int_eq(res.outcome, HP_COMMIT_REFUSED);
	ck_assert_ptr_nonnull(strstr(res.message, "nobodys"));
	/* and nothing of it is there */
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &r));
	ck_assert_int_eq(r.row.rev, t.rev);
	ck_assert_str_eq(r.saved, "{}");
}
END_TEST

START_TEST(who_ends_says_so)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	t.after.status = HP_SUCCEEDED; /* but it is kept */
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_REFUSED);
	c_begin(&t, &r);
	c_finish(&t, HP_RUNNING);
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_REFUSED);
	c_begin(&t, &r);
	c_finish(&t, HP_SUCCEEDED);
	c_commit_ok(&r, &t);
}
END_TEST

TCase *contract_commits(void)
{
	TCase *t = tcase_create("commits");

	tcase_add_test(t, who_ends_says_so);
	tcase_add_test(t, a_commit_with_a_stale_epoch_changes_nothing);
	tcase_add_test(t, a_commit_with_a_stale_rev_changes_nothing);
	tcase_add_test(t, the_same_commit_twice_conflicts);
	tcase_add_test(t, of_two_concurrent_commits_one_wins);
	tcase_add_test(t, an_unknown_run_conflicts);
	tcase_add_test(t, the_row_comes_back_as_it_was_committed);
	tcase_add_test(t, every_commit_writes_one_history_row_at_its_rev);
	tcase_add_test(t, history_is_read_in_pages);
	tcase_add_test(t, the_latest_save_wins_over_loops);
	tcase_add_test(t, within_one_commit_the_last_save_of_a_name_wins);
	tcase_add_test(t, a_run_without_saves_has_no_values);
	tcase_add_test(t, a_finished_run_is_final);
	tcase_add_test(t, one_bad_transition_does_not_stop_the_others);
	tcase_add_test(t, a_thousand_transitions_at_once);
	tcase_add_test(t, a_commit_returns_the_cancel_flag);
	tcase_add_test(t, an_annex_that_nobody_reads_is_refused);
	return t;
}
