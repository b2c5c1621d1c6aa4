/* Business keys, and `sql` states, which commit with their transition or not at all. */
#include "contract.h"

#define REFUND "{\"connector\":\"stripe\",\"operation\":\"refunds.create\",\"body\":\"a=1\"}"
#define MAIL "{\"connector\":\"resend\",\"operation\":\"emails.send\",\"body\":\"b\"}"

static struct c_result admit(struct c_run *r, const char *request, const char *key)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_enter(&t, S_REFUND);
	c_admit(&t, request, key, true);
	return c_commit_ok(r, &t);
}

START_TEST(a_new_business_key_has_no_first_sending)
{
	struct c_run r = c_own();

	ck_assert_int_eq(admit(&r, REFUND, "refund:1").first_sent_at, 0);
}
END_TEST

START_TEST(a_business_key_tells_when_another_run_first_sent_it)
{
	struct c_run a = c_own(), b, x;

	admit(&a, REFUND, "refund:1");
	c_advance(HP_HOUR);
	b = c_own();
	ck_assert_int_eq(admit(&b, REFUND, "refund:1").first_sent_at, T0);
	ck_assert(c_reload(c_engine, b.row.id, b.row.epoch, &x));
	ck_assert_int_eq(x.row.first_sent_at, T0); /* the window began there */
	ck_assert_int_eq(admit(&b, REFUND, "refund:2").first_sent_at, 0);
}
END_TEST

START_TEST(another_visit_of_the_same_run_is_told_too)
{
	struct c_run r = c_own();

	admit(&r, REFUND, "refund:1");
	c_advance(HP_SECOND);
	ck_assert_int_eq(admit(&r, REFUND, "refund:1").first_sent_at, T0);
}
END_TEST

START_TEST(a_repeated_admission_of_one_visit_is_its_own)
{
	struct c_run r = c_own();
	struct hp_transition t;

	admit(&r, REFUND, "refund:1");
	c_advance(HP_SECOND);
	c_begin(&t, &r);
	c_admit(&t, REFUND, "refund:1", true);
	ck_assert_int_eq(c_commit_ok(&r, &t).first_sent_at, 0);
}
END_TEST

static int64_t admit_again(struct c_run *r, bool unresolved)
{
	struct hp_transition t;

	c_advance(HP_SECOND);
	c_begin(&t, r);
	c_admit(&t, REFUND, "refund:1", true);
	t.after.unresolved = unresolved;
	return c_commit_ok(r, &t).first_sent_at;
}

/* It was told, has looked since, and goes on: now the other one is told. */
START_TEST(who_was_told_may_take_a_business_key_over)
{
	struct c_run a = c_own(), b = c_own();

	admit(&a, REFUND, "refund:1");
	c_advance(HP_SECOND);
	ck_assert_int_eq(admit(&b, REFUND, "refund:1").first_sent_at, T0);
	ck_assert_int_eq(admit_again(&b, true), T0); /* it has not found out */
	ck_assert_int_eq(admit_again(&b, false), 0);
	ck_assert_int_eq(admit_again(&a, false), c_now - HP_SECOND);
}
END_TEST

/* What it was told of is not the last any more: it looks again. */
START_TEST(a_new_admission_is_told_to_who_knew_the_old_one)
{
	struct c_run a = c_own(), b = c_own();
	int64_t again;

	admit(&a, REFUND, "refund:1");
	ck_assert_int_eq(admit(&b, REFUND, "refund:1").first_sent_at, T0);
	ck_assert_int_eq(admit_again(&a, false), 0);
	again = c_now;
	ck_assert_int_eq(admit_again(&b, false), again);
	ck_assert_int_eq(admit_again(&b, false), 0);
}
END_TEST

START_TEST(the_same_text_for_another_operation_is_another_key)
{
	struct c_run r = c_own();

	admit(&r, REFUND, "1");
	ck_assert_int_eq(admit(&r, MAIL, "1").first_sent_at, 0);
}
END_TEST

START_TEST(a_fenced_admission_registers_no_key)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_enter(&t, S_REFUND);
	c_admit(&t, REFUND, "refund:1", true);
	t.rev--;
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_CONFLICT);
	c_advance(HP_SECOND);
	ck_assert_int_eq(admit(&r, REFUND, "refund:1").first_sent_at, 0);
}
END_TEST

/* ---- sql states ---- */

struct sql {
	bool done;
	enum hp_class outcome;
	char rows[256];
	struct hp_sql_tx *tx;
};

static void on_sql(void *arg, int64_t now, const struct hp_sql_rows *rows)
{
	struct sql *q = arg;

	(void)now;
	q->outcome = rows->outcome;
	ck_assert_uint_lt(rows->rows.n, sizeof q->rows);
	if (rows->rows.n)
		memcpy(q->rows, rows->rows.p, rows->rows.n);
	ck_assert_msg((rows->tx != NULL) == (rows->outcome == HP_CLASS_OK), "tx comes with OK: %s",
		      rows->message ? rows->message : "");
	q->tx = rows->tx;
	q->done = true;
}

static struct hp_sql_tx *run_sql(const struct c_run *r)
{
	struct hp_store *s = the_driver->store(0);
	struct hp_sql_state st = { .run_id = r->row.id, .epoch = r->row.epoch, .token = r->token,
				   .mode = HP_SQL_EXEC, .text = SQL_INSERT,
				   .args = hp_bytes_of("{\"args\":[1],\"user\":null}"),
				   .timeout_us = 5 * HP_SECOND };
	struct sql q = { 0 };

	s->ops->sql_run(s, &st, on_sql, &q);
	c_wait(&q.done);
	ck_assert_int_eq(q.outcome, HP_CLASS_OK);
	ck_assert_str_eq(q.rows, "{\"rows\":1}");
	return q.tx;
}

struct sqlc {
	bool done;
	enum hp_commit_outcome outcome;
	bool cancel;
};

static void on_sqlc(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct sqlc *c = arg;

	(void)now;
	ck_assert_int_eq(n, 1);
	c->outcome = res[0].outcome;
	c->cancel = res[0].cancel;
	c->done = true;
}

static struct sqlc sql_commit(struct hp_sql_tx *tx, const char *token, struct hp_transition *t)
{
	struct hp_store *s = the_driver->store(0);
	struct sqlc c = { 0 };

	s->ops->sql_commit(s, tx, token, t, on_sqlc, &c);
	c_wait(&c.done);
	return c;
}

/* A run in the sql state, and the transition that leaves it. */
static struct c_run in_record(struct hp_transition *t)
{
	struct c_run r = c_own();

	c_begin(t, &r);
	c_enter(t, S_RECORD);
	c_commit_ok(&r, t);
	c_begin(t, &r);
	c_enter(t, S_PAUSE);
	t->in_sql = true;
	c_save(t, "rows", "{\"rows\":1}");
	return r;
}

static void assert_state(const struct c_run *r, int state)
{
	struct c_run x;

	ck_assert(c_reload(c_engine, r->row.id, r->row.epoch, &x));
	ck_assert_int_eq(x.row.state, state);
	ck_assert(strstr(x.saved, "rows") == NULL || state == S_PAUSE);
}

START_TEST(a_statement_commits_with_its_transition)
{
	struct hp_transition t;
	struct c_run r = in_record(&t);
	struct hp_sql_tx *tx = run_sql(&r);

	ck_assert_int_eq(the_driver->sql_inserted(), 0);
	ck_assert_int_eq(sql_commit(tx, r.token, &t).outcome, HP_COMMIT_OK);
	ck_assert_int_eq(the_driver->sql_inserted(), 1);
	assert_state(&r, S_PAUSE);
}
END_TEST

START_TEST(an_aborted_statement_leaves_nothing)
{
	struct hp_transition t;
	struct c_run r = in_record(&t);
	struct hp_store *s = the_driver->store(0);

	s->ops->sql_abort(s, run_sql(&r));
	assert_state(&r, S_RECORD);
	ck_assert_int_eq(sql_commit(run_sql(&r), r.token, &t).outcome, HP_COMMIT_OK);
	ck_assert_int_eq(the_driver->sql_inserted(), 1); /* only the second */
}
END_TEST

START_TEST(a_wrong_token_is_refused)
{
	struct hp_transition t;
	struct c_run r = in_record(&t);
	char token[65];

	memset(token, '0', 64);
	token[64] = 0;
	ck_assert_int_eq(sql_commit(run_sql(&r), token, &t).outcome, HP_COMMIT_REFUSED);
	ck_assert_int_eq(the_driver->sql_inserted(), 0);
	assert_state(&r, S_RECORD);
}
END_TEST

START_TEST(a_fenced_statement_leaves_nothing)
{
	struct hp_transition t;
	struct c_run r = in_record(&t);
	struct hp_sql_tx *tx = run_sql(&r);

	c_release(c_engine, &r);
	ck_assert_int_eq(c_claim_one().row.id, r.row.id);
	ck_assert_int_eq(sql_commit(tx, r.token, &t).outcome, HP_COMMIT_CONFLICT);
	ck_assert_int_eq(the_driver->sql_inserted(), 0);
}
END_TEST

START_TEST(an_sql_commit_returns_the_cancel_flag)
{
	struct hp_transition t;
	struct c_run r = in_record(&t);
	struct hp_sql_tx *tx = run_sql(&r);
	struct sqlc c;

	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'stop'}", (long long)r.row.id));
	c = sql_commit(tx, r.token, &t);
	ck_assert_int_eq(c.outcome, HP_COMMIT_OK);
	ck_assert(c.cancel);
}
END_TEST

TCase *contract_effects(void)
{
	TCase *t = tcase_create("business keys and sql states");

	tcase_add_test(t, a_new_business_key_has_no_first_sending);
	tcase_add_test(t, a_business_key_tells_when_another_run_first_sent_it);
	tcase_add_test(t, who_was_told_may_take_a_business_key_over);
	tcase_add_test(t, a_new_admission_is_told_to_who_knew_the_old_one);
	tcase_add_test(t, another_visit_of_the_same_run_is_told_too);
	tcase_add_test(t, a_repeated_admission_of_one_visit_is_its_own);
	tcase_add_test(t, the_same_text_for_another_operation_is_another_key);
	tcase_add_test(t, a_fenced_admission_registers_no_key);
	tcase_add_test(t, a_statement_commits_with_its_transition);
	tcase_add_test(t, an_aborted_statement_leaves_nothing);
	tcase_add_test(t, a_wrong_token_is_refused);
	tcase_add_test(t, a_fenced_statement_leaves_nothing);
	tcase_add_test(t, an_sql_commit_returns_the_cancel_flag);
	return t;
}
