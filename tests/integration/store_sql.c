/* store_sql.c: sql states: the author's statement and the transition are one
 * transaction, and nothing of one run is left in the session for the next.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "lib/cutter.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char summary[] = "{\"states\":[{\"name\":\"record\",\"kind\":\"sql\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

static struct fx f;
static struct cutter *cutter;

struct seen {
	int done;
	enum hp_class outcome;
	char code[64], message[768], rows[8192];
	bool none;
	struct hp_sql_tx *tx;
};

static void open_fx(void)
{
	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_sql(&f, "create table public.ledger (id int primary key, note text);"
		   "grant select, insert, update, delete on public.ledger to holdpoint_workflow");
}

static void on_rows(void *arg, int64_t now, const struct hp_sql_rows *r)
{
	struct seen *s = arg;

	ck_assert(r->outcome != HP_CLASS_OK || now > 0);
	s->outcome = r->outcome;
	s->none = r->none;
	s->tx = r->tx;
	snprintf(s->code, sizeof s->code, "%s", r->code ? r->code : "");
	snprintf(s->message, sizeof s->message, "%s", r->message ? r->message : "");
	ck_assert_uint_lt(r->rows.n, sizeof s->rows);
	memcpy(s->rows, r->rows.n ? r->rows.p : "", r->rows.n);
	s->done = 1;
}

/* A page brings no time. */
static void on_page(void *arg, int64_t now, const struct hp_sql_rows *r)
{
	(void)now;
	on_rows(arg, 1, r);
}

/* The transaction of a swept row that was called. */
static struct seen run_page(const struct hp_claimed *c, const char *rows, const char *exec)
{
	struct seen s = { 0 };
	struct hp_sql_page page = { .rows = rows, .column = "id", .cursor = hp_bytes_of("7"), .limit = 1, .each_row = true,
				    .row = hp_bytes_of("{\"id\":7}"), .reply = hp_bytes_of("{}") };
	struct hp_sql_state st = { .run_id = c->run.id, .epoch = c->run.epoch, .token = c->token, .mode = HP_SQL_SWEEP,
				   .text = exec, .args = hp_bytes_of("{\"args\":[]}"), .timeout_us = 600000, .page = &page };

	f.store->ops->sql_run(f.store, &st, on_rows, &s);
	fx_until(&f, &s.done);
	return s;
}

static struct seen run(const struct hp_claimed *c, enum hp_sql_mode mode, const char *text, const char *args)
{
	struct seen s = { 0 };
	struct hp_sql_state st = { .run_id = c->run.id, .epoch = c->run.epoch, .token = c->token, .mode = mode,
				   .text = text, .args = hp_bytes_of(args), .timeout_us = 600000 };

	f.store->ops->sql_run(f.store, &st, on_rows, &s);
	ck_assert_int_eq(s.done, 0);
	fx_until(&f, &s.done);
	return s;
}

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct fx_commit *c = arg;

	(void)now;
	ck_assert_int_eq(n, 1);
	c->res[0] = res[0];
	if (res[0].error)
		c->error = *res[0].error;
	c->calls++;
}

static enum hp_commit_outcome commit(struct hp_claimed *c, struct hp_sql_tx *tx, const char *token)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_ENTERED, HP_KEEP);
	struct fx_commit res = { 0 };

	t.after.visit++;
	t.in_sql = true;
	f.store->ops->sql_commit(f.store, tx, token ? token : c->token, &t, on_commit, &res);
	fx_until(&f, &res.calls);
	if (res.res[0].outcome == HP_COMMIT_OK)
		fx_done(&c->run, &t);
	return res.res[0].outcome;
}

static struct hp_claimed own(void)
{
	struct hp_claimed c;

	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	return c;
}

static int64_t in_ledger(void)
{
	return fx_int(&f, "select count(*) from public.ledger");
}

START_TEST(statement_and_transition_are_one)
{
	struct hp_claimed c;
	struct seen s;

	open_fx();
	c = own();
	s = run(&c, HP_SQL_EXEC, "insert into ledger values ($1, $2)", "{\"args\": [1, \"one\"]}");
	ck_assert_msg(s.outcome == HP_CLASS_OK, "%s %s", s.code, s.message);
	ck_assert_str_eq(s.rows, "{\"rows\":1}");
	ck_assert_int_eq(in_ledger(), 0);
	ck_assert_int_eq(commit(&c, s.tx, NULL), HP_COMMIT_OK);
	ck_assert_int_eq(in_ledger(), 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where flags = 2"), 1);
	/* fenced: neither of the two */
	s = run(&c, HP_SQL_EXEC, "insert into ledger values (2)", "{}");
	fx_sql(&f, "update holdpoint.run_state set epoch = epoch + 1");
	ck_assert_int_eq(commit(&c, s.tx, NULL), HP_COMMIT_CONFLICT);
	ck_assert_int_eq(in_ledger(), 1);
	/* another run's token is no token */
	c = own();
	s = run(&c, HP_SQL_EXEC, "insert into ledger values (3)", "{}");
	ck_assert_int_eq(commit(&c, s.tx, own().token), HP_COMMIT_REFUSED);
	s = run(&c, HP_SQL_EXEC, "insert into ledger values (4)", "{}");
	f.store->ops->sql_abort(f.store, s.tx);
	fx_turn(&f, 0.05);
	ck_assert_int_eq(in_ledger(), 1);
	fx_close(&f);
}
END_TEST

/* More than a unit may hold, or no memory for it: the statement waits in an open transaction. */
START_TEST(what_could_not_be_ended_is_committed_by_nobody_else)
{
	static char too_much[(128 << 20) + 1];
	struct hp_claimed c, other;
	struct hp_transition t;
	struct fx_commit res = { 0 };
	struct seen s;

	open_fx();
	c = own();
	other = own();
	s = run(&c, HP_SQL_EXEC, "insert into ledger values (1)", "{}");
	t = fx_from(&c.run, HP_MOVE_ENTERED, HP_KEEP);
	t.after.visit++;
	t.in_sql = true;
	t.saves[t.n_saves++] = (struct hp_save){ .name = "much", .value = { too_much, sizeof too_much } };
	f.store->ops->sql_commit(f.store, s.tx, c.token, &t, on_commit, &res);
	fx_until(&f, &res.calls);
	ck_assert_int_eq(res.res[0].outcome, HP_COMMIT_UNKNOWN);
	s = run(&other, HP_SQL_EXEC, "insert into ledger values (2)", "{}");
	ck_assert_msg(s.outcome == HP_CLASS_OK, "%s %s", s.code, s.message); /* and nobody else hears of it */
	ck_assert_int_eq(commit(&other, s.tx, NULL), HP_COMMIT_OK);
	ck_assert_int_eq(in_ledger(), 1);
	ck_assert_int_eq(fx_int(&f, "select id from public.ledger"), 2);
	fx_close(&f);
}
END_TEST

/* The class decides whether a sweep may count it as a failure of the row in hand. */
START_TEST(a_swept_row_answers_for_its_own_statement_only)
{
	static const char exec[] = "insert into ledger select ($1::jsonb ->> 'id')::int where $2::jsonb is not null";
	struct hp_claimed c;
	struct seen s;

	open_fx();
	c = own();
	s = run_page(&c, "select $1::int + 1 as id limit $2", "insert into ledger select 1 / 0 where $1::jsonb <> $2::jsonb");
	ck_assert_int_eq(s.outcome, HP_TERMINAL);
	ck_assert_str_eq(s.code, "division_by_zero");
	s = run_page(&c, "select $1::int / 0 as id limit $2", exec);
	ck_assert_int_eq(s.outcome, HP_NEEDS_PERSON);
	ck_assert_str_eq(s.code, "division_by_zero");
	s = run_page(&c, "select $1::int as other limit $2", exec);
	ck_assert_int_eq(s.outcome, HP_NEEDS_PERSON);
	ck_assert_str_eq(s.code, "cursor_missing");
	ck_assert_int_eq(in_ledger(), 0);
	fx_close(&f);
}
END_TEST

START_TEST(rows_become_json)
{
	struct hp_claimed c;
	struct seen s;

	open_fx();
	c = own();
	s = run(&c, HP_SQL_ONE,
		"select 1::int2 a, 2::bigint b, 1.5::float8 c, 12345678901234567890::numeric d, 10.25::numeric e,"
		" true f, null::text g, '{\"x\": [1]}'::jsonb h, 'a\"b' i, 'NaN'::float8 j, $1::int + 1 k, $2::boolean l,"
		" $3::jsonb m, $4::text n, date '2026-02-01' o",
		"{\"args\": [41, true, {\"y\": 1}, null]}");
	ck_assert_msg(s.outcome == HP_CLASS_OK, "%s %s", s.code, s.message);
	ck_assert_str_eq(s.rows, "{\"a\":1,\"b\":2,\"c\":1.5,\"d\":\"12345678901234567890\",\"e\":10.25,\"f\":true,"
				 "\"g\":null,\"h\":{\"x\": [1]},\"i\":\"a\\\"b\",\"j\":\"NaN\",\"k\":42,\"l\":true,"
				 "\"m\":{\"y\": 1},\"n\":null,\"o\":\"2026-02-01\"}");
	f.store->ops->sql_abort(f.store, s.tx);
	s = run(&c, HP_SQL_MANY, "select g from generate_series(1, 3) g", "{}");
	ck_assert_str_eq(s.rows, "[{\"g\":1},{\"g\":2},{\"g\":3}]");
	f.store->ops->sql_abort(f.store, s.tx);
	s = run(&c, HP_SQL_ONE, "select id from ledger", "{}");
	ck_assert(s.outcome == HP_CLASS_OK && s.none);
	f.store->ops->sql_abort(f.store, s.tx);
	s = run(&c, HP_SQL_ONE, "select g from generate_series(1, 2) g", "{}");
	ck_assert_str_eq(s.code, "too_many_rows");
	s = run(&c, HP_SQL_ONE, "select 1 as a, 2 as a", "{}");
	ck_assert_str_eq(s.code, "duplicate_column");
	fx_close(&f);
}
END_TEST

START_TEST(errors_have_their_class)
{
	struct hp_claimed c;
	struct seen s;
	PGconn *other;

	open_fx();
	fx_sql(&f, "insert into public.ledger values (1)");
	c = own();
	s = run(&c, HP_SQL_EXEC, "insert into ledger values (1)", "{}");
	ck_assert(s.outcome == HP_TERMINAL && strcmp(s.code, "unique_violation") == 0);
	s = run(&c, HP_SQL_ONE, "select pg_sleep(10)", "{}");
	ck_assert(s.outcome == HP_RETRYABLE && strcmp(s.code, "timeout") == 0);
	s = run(&c, HP_SQL_ONE, "select nothing", "{}");
	ck_assert(s.outcome == HP_TERMINAL && strcmp(s.code, "undefined_column") == 0);
	s = run(&c, HP_SQL_ONE, "select 1; select 2", "{}");
	ck_assert(s.outcome == HP_TERMINAL && strcmp(s.code, "syntax_error") == 0);
	other = fx_session(&f, "postgres");
	fx_state(&f, other, "begin; update public.ledger set note = 'held'");
	s = run(&c, HP_SQL_EXEC, "update ledger set note = 'x'", "{}");
	ck_assert_int_eq(s.outcome, HP_RETRYABLE);
	PQfinish(other);
	s = run(&c, HP_SQL_ONE, "select pg_terminate_backend(pg_backend_pid())", "{}");
	ck_assert_int_eq(s.outcome, HP_RETRYABLE);
	fx_close(&f);
}
END_TEST

static void nobody_is_to_blame(const struct hp_claimed *c, enum hp_sql_mode mode, const char *text, const struct hp_sql_page *page)
{
	unsigned long nth = 0, made;
	int unlucky = 0;

	do {
		struct seen s = { 0 };
		struct hp_sql_state st = { .run_id = c->run.id, .epoch = c->run.epoch, .token = c->token, .mode = mode,
					   .text = text, .args = hp_bytes_of(page ? "{\"args\":[]}" : "{\"args\":[\"x\"]}"),
					   .timeout_us = 600000, .page = page };

		hp_alloc_fail_at(++nth);
		f.store->ops->sql_run(f.store, &st, page ? on_page : on_rows, &s);
		fx_until(&f, &s.done);
		made = hp_alloc_count();
		hp_alloc_fail_at(0);
		ck_assert_msg(s.outcome == HP_CLASS_OK || s.outcome == HP_RETRYABLE, "allocation %lu: %d, %s: %s", nth,
			      (int)s.outcome, s.code, s.message);
		unlucky += s.outcome != HP_CLASS_OK;
		if (s.tx)
			f.store->ops->sql_abort(f.store, s.tx);
	} while (made >= nth);
	ck_assert_int_gt(unlucky, 5);
}

/* Our own lack, at each allocation in turn, is no fault of the statement. */
START_TEST(a_statement_without_memory_is_tried_again)
{
	struct hp_sql_page page = { .rows = "select id from public.ledger where id > $1 order by id limit $2", .column = "id",
				    .total = "select count(*) from public.ledger", .cursor = hp_bytes_of("0"), .limit = 10 };
	const char *exec = "update public.ledger set note = 'x' where id in (select (value ->> 'id')::int from jsonb_array_elements($1::jsonb))";
	struct hp_claimed c;

	open_fx();
	fx_sql(&f, "insert into public.ledger (id) select generate_series(1, 20)");
	c = own();
	nobody_is_to_blame(&c, HP_SQL_ONE, "select $1::text as note", NULL);
	nobody_is_to_blame(&c, HP_SQL_EXEC, "update public.ledger set note = $1", NULL);
	nobody_is_to_blame(&c, HP_SQL_SWEEP, exec, &page);
	page.dry = true;
	nobody_is_to_blame(&c, HP_SQL_SWEEP, exec, &page);
	fx_close(&f);
}
END_TEST

/* It may be another server's, or made up: only what our own statements meet closes the doors. */
START_TEST(a_full_disk_of_an_author_is_not_ours)
{
	struct hp_claimed c;
	struct seen s;

	open_fx();
	fx_sql(&f, "create function public.full() returns int language plpgsql as"
		   " 'begin raise exception using errcode = ''53100'', message = ''no space left''; end'");
	c = own();
	s = run(&c, HP_SQL_ONE, "select public.full()", "{}");
	ck_assert_int_eq(s.outcome, HP_RETRYABLE);
	ck_assert_ptr_null(f.store->ops->refuses(f.store));
	fx_close(&f);
}
END_TEST

START_TEST(the_engine_is_out_of_reach)
{
	static const char *const refused[] = { "commit", "rollback", " /* x */ COMMIT", "set role postgres", "copy ledger to stdout",
		"do $$ begin commit; end $$", "call x()", "begin", "-- hm\nsavepoint a", "lock table ledger", "listen x",
		"create table t (a int)", "prepare transaction 'x'", "; commit", "", "/* /* */ select */ rollback",
		"-- \rcommit /*\nselect */", "/* select" };
	struct hp_claimed c;
	struct seen s;

	open_fx();
	c = own();
	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		s = run(&c, HP_SQL_EXEC, refused[i], "{}");
		ck_assert_msg(s.outcome == HP_TERMINAL && strcmp(s.code, "statement_not_allowed") == 0, "%s: %s", refused[i], s.code);
	}
	s = run(&c, HP_SQL_MANY, "select * from holdpoint.run", "{}");
	ck_assert_str_eq(s.code, "insufficient_privilege");
	s = run(&c, HP_SQL_ONE, "select secret from holdpoint.installation", "{}");
	ck_assert_str_eq(s.code, "insufficient_privilege");
	s = run(&c, HP_SQL_ONE, "select holdpoint.start('w')", "{}");
	ck_assert_str_eq(s.code, "insufficient_privilege");
	s = run(&c, HP_SQL_ONE, "select set_config('role', 'holdpoint_engine', false)", "{}");
	ck_assert_int_eq(s.outcome, HP_TERMINAL);
	ck_assert_int_eq(fx_int(&f, "select rev from holdpoint.run_state"), 1);
	fx_close(&f);
}
END_TEST

/* Both ways a transaction ends. */
START_TEST(nothing_is_left_in_the_session)
{
	static const char dirty[] =
		"select set_config('search_path', 'pg_catalog', false) a, set_config('holdpoint.user', 'mallory', false) b,"
		" set_config('statement_timeout', '999', false) c, pg_advisory_lock(42)::text d"
		" into temp left_over";
	static const char look[] =
		"select current_setting('search_path') path, current_setting('holdpoint.user') who, current_setting('holdpoint.as') mode,"
		" (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) locks,"
		" to_regclass('pg_temp.left_over') is not null temp, pg_backend_pid() pid";
	static const char clean[] = "{\"path\":\"public\",\"who\":\"\",\"mode\":\"service\",\"locks\":0,\"temp\":false,\"pid\":%s}";
	struct hp_claimed c;
	struct seen s;

	open_fx();
	c = own();
	for (int i = 0; i < 2; i++) {
		char expect[256];
		const char *pid;

		s = run(&c, HP_SQL_ONE, dirty, "{\"user\": \"u1\"}");
		ck_assert_msg(s.outcome == HP_CLASS_OK, "%s %s", s.code, s.message);
		pid = fx_sql(&f, "select pid from pg_stat_activity where usename = 'holdpoint_workflow' and datname = current_database()");
		if (i)
			ck_assert_int_eq(commit(&c, s.tx, NULL), HP_COMMIT_OK);
		else
			f.store->ops->sql_abort(f.store, s.tx);
		fx_turn(&f, 0.05);
		s = run(&c, HP_SQL_ONE, look, "{}");
		snprintf(expect, sizeof expect, clean, pid); /* it is the same session */
		ck_assert_str_eq(s.rows, expect);
		f.store->ops->sql_abort(f.store, s.tx);
		fx_turn(&f, 0.05);
	}
	s = run(&c, HP_SQL_ONE, "select current_setting('holdpoint.user') u, current_setting('holdpoint.as') a", "{\"user\": \"u1\"}");
	ck_assert_str_eq(s.rows, "{\"u\":\"u1\",\"a\":\"user\"}");
	f.store->ops->sql_abort(f.store, s.tx);
	fx_close(&f);
}
END_TEST

/* More statements than connections: the rest wait their turn. */
START_TEST(statements_queue_for_connections)
{
	enum { N = 12 };
	static struct seen s[N];
	struct hp_claimed c;

	open_fx();
	c = own();
	for (int i = 0; i < N; i++) {
		struct hp_sql_state st = { .run_id = c.run.id, .epoch = 1, .token = c.token, .mode = HP_SQL_ONE, .text = "select 1 a" };

		f.store->ops->sql_run(f.store, &st, on_rows, &s[i]);
	}
	for (int i = 0; i < N; i++) {
		fx_until(&f, &s[i].done);
		ck_assert_int_eq(s[i].outcome, HP_CLASS_OK);
		f.store->ops->sql_abort(f.store, s[i].tx);
	}
	ck_assert_int_le(fx_int(&f, "select count(*) from pg_stat_activity where usename = 'holdpoint_workflow'"
				    " and datname = current_database()"), HP_SQL_STATE_CONNECTIONS);
	fx_close(&f);
}
END_TEST

/* Only what is a parameter is bound to a statement of a sweep. */
START_TEST(a_sweep_binds_what_its_statements_name)
{
	struct hp_sql_page page = { .rows = "select id, '$7 ''$8' as \"a$9\", E'\\'$6' as e, $x$ $5 ' $$ $x$ as y, note as b$4 /* $4 ' /* */ $5 */"
					    " from ledger -- $9 '\n where id > $1 and note <> $3 order by id limit $2",
				    .column = "id", .cursor = hp_bytes_of("0"), .limit = 2 };
	struct hp_claimed c;
	struct hp_sql_state st;
	struct seen s = { 0 };

	open_fx();
	fx_sql(&f, "insert into public.ledger select i, 'n' from generate_series(1, 3) i");
	c = own();
	st = (struct hp_sql_state){ .run_id = c.run.id, .epoch = c.run.epoch, .token = c.token, .mode = HP_SQL_SWEEP,
				    .text = "update ledger l set note = $2 from jsonb_to_recordset($1::jsonb) r(id int) where r.id = l.id",
				    .args = hp_bytes_of("{\"args\":[\"x\", \"too many\"]}"), .timeout_us = 600000, .page = &page };
	f.store->ops->sql_run(f.store, &st, on_page, &s);
	fx_until(&f, &s.done);
	ck_assert_msg(s.outcome == HP_CLASS_OK, "%s: %s", s.code, s.message);
	ck_assert_int_eq(commit(&c, s.tx, NULL), HP_COMMIT_OK);
	ck_assert_int_eq(fx_int(&f, "select count(*) from public.ledger where note = 'x'"), 2);
	/* one too few is the author's mistake, and stays one */
	s = run(&c, HP_SQL_EXEC, "insert into ledger values ($1, $2)", "{\"args\": [9]}");
	ck_assert_int_eq(s.outcome, HP_TERMINAL);
	ck_assert_str_eq(s.code, "sql_error");
	fx_close(&f);
}
END_TEST

/* What is rolled back reaches no standby. */
START_TEST(a_dry_run_waits_for_no_standby)
{
	static struct hp_machine m;
	struct hp_state state = { .kind = HP_SWEEP, .sweep = { .lag_max = 1000, .first = "0" } };
	struct hp_definition def = { .states = &state, .n_states = 1 };
	struct hp_sweep w = { .dry = true };
	struct hp_action act = { .sweep = &w };
	struct hp_sql_page page;

	m.def = &def;
	hp_sql_state_of(&m, &act, "token", &page);
	ck_assert(page.dry);
	ck_assert_int_eq(page.lag_max, 0);
	w.dry = false;
	hp_sql_state_of(&m, &act, "token", &page);
	ck_assert_int_eq(page.lag_max, 1000);
}
END_TEST

static void lost_commit(enum cut how, enum hp_commit_outcome outcome, int64_t rows)
{
	struct hp_claimed c;
	struct hp_store *plain;
	struct seen s;

	open_fx();
	cutter = cutter_open(f.loop, PQhost(f.super), PQport(f.super));
	snprintf(f.workflow_info + strlen(f.workflow_info), 100, " host=%s", cutter_dir(cutter));
	plain = f.store;
	f.store = fx_store(&f, NULL, false);
	c = own();
	s = run(&c, HP_SQL_EXEC, "insert into ledger values (1)", "{}");
	cutter_arm(cutter, how, "holdpoint.sql_commit(");
	ck_assert_int_eq(commit(&c, s.tx, NULL), outcome);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	ck_assert_int_eq(in_ledger(), rows);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where flags = 2"), rows);
	fx_store_free(&f, f.store);
	f.store = plain;
	cutter_close(cutter);
	fx_close(&f);
}

START_TEST(lost_acknowledgement_is_found_out) { lost_commit(CUT_AFTER, HP_COMMIT_OK, 1); }
END_TEST
START_TEST(lost_commit_has_not_happened) { lost_commit(CUT_BEFORE, HP_COMMIT_CONFLICT, 0); }
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		statement_and_transition_are_one, what_could_not_be_ended_is_committed_by_nobody_else, rows_become_json,
		a_full_disk_of_an_author_is_not_ours, a_swept_row_answers_for_its_own_statement_only, errors_have_their_class,
		the_engine_is_out_of_reach, nothing_is_left_in_the_session, statements_queue_for_connections,
		a_sweep_binds_what_its_statements_name, a_dry_run_waits_for_no_standby, lost_acknowledgement_is_found_out,
		lost_commit_has_not_happened
	};
	/* hundreds of attempts, many of which open a connection */
	return hp_run_suite_and("store sql states", tests, sizeof tests / sizeof tests[0], a_statement_without_memory_is_tried_again, 30);
}
