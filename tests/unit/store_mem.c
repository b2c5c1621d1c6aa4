/* The in-memory store's own hooks: fates of commits, kept answers, branches, the dump.
 * That it means the same as PostgreSQL's is the contract suite's business. */
#include "store/mem/mem.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "lib/suite.h"

static int64_t now;
static struct hp_store *s;
static int64_t engine;
static struct hp_run run;
static enum hp_commit_outcome outcome;
static int answers;

static void on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	(void)arg;
	ck_assert_msg(info != NULL, "%s", err ? err->message : "");
	engine = info->id;
}

static void on_ack(void *arg, int64_t at, const struct hp_error *err)
{
	(void)arg;
	(void)at;
	ck_assert_msg(!err, "%s", err ? err->message : "");
}

static void on_start(void *arg, int64_t at, const struct hp_start_result *res,
		     const struct hp_error *err)
{
	(void)arg;
	(void)at;
	ck_assert_msg(res != NULL, "%s", err ? err->message : "");
	run = res->claimed->run;
}

static void on_commit(void *arg, int64_t at, const struct hp_commit_result *res, int n)
{
	(void)arg;
	(void)at;
	ck_assert_int_eq(n, 1);
	outcome = res[0].outcome;
	answers++;
}

static void on_reload(void *arg, int64_t at, const struct hp_claimed *runs, int n,
		      const struct hp_error *err)
{
	(void)arg;
	(void)at;
	(void)err;
	ck_assert_int_eq(n, 1);
	run = runs[0].run;
}

static struct hp_store *new_world(void)
{
	static const char summary[] = "{\"states\":[{\"name\":\"a\"},{\"name\":\"b\"}]}";
	struct hp_bundle b = { .workflow = "flow", .bundle = hp_bytes_of("{}"),
			       .summary = hp_bytes_of(summary) };
	struct hp_start st = { .workflow = "flow", .input = hp_bytes_of("{}"),
			       .requester = "tester", .own = true };
	struct hp_error err = { 0 };
	struct hp_store *w = hp_store_mem_new(&now, &err);

	ck_assert_msg(w != NULL, "%s", err.message);
	w->ops->deploy(w, &b, on_ack, NULL);
	w->ops->engine_register(w, "host", 1, 10 * HP_SECOND, on_engine, NULL);
	w->ops->pump(w);
	w->ops->start(w, engine, &st, on_start, NULL);
	w->ops->pump(w);
	return w;
}

static void setup(void)
{
	now = HP_HOUR;
	answers = 0;
	s = new_world();
}

static void teardown(void)
{
	s->ops->free(s);
}

/* Moves the run on by one visit. */
static void commit(void)
{
	struct hp_transition t;
	const struct hp_transition *p = &t;

	memset(&t, 0, sizeof t);
	t.run_id = run.id;
	t.epoch = run.epoch;
	t.rev = run.rev;
	t.from_visit = run.visit;
	t.move = HP_MOVE_ENTERED;
	t.after = run;
	t.after.rev++;
	t.after.visit++;
	s->ops->commit(s, &p, 1, on_commit, NULL);
}

static int32_t durable_visit(void)
{
	s->ops->reload(s, engine, run.id, run.epoch, on_reload, NULL);
	s->ops->pump(s);
	return run.visit;
}

static enum hp_mem_fate fate_of(void *arg, const struct hp_transition *t)
{
	(void)t;
	return *(const enum hp_mem_fate *)arg;
}

static void commit_with(enum hp_mem_fate fate)
{
	hp_mem_set_fate(s, fate_of, &fate);
	commit();
	hp_mem_set_fate(s, NULL, NULL);
	s->ops->pump(s);
}

START_TEST(a_callback_waits_for_the_pump)
{
	commit();
	ck_assert_int_eq(answers, 0);
	ck_assert_int_eq(hp_mem_pending(s), 1);
	ck_assert_int_eq(s->ops->pump(s), 1);
	ck_assert_int_eq(answers, 1);
	ck_assert_int_eq(outcome, HP_COMMIT_OK);
	ck_assert_int_eq(s->ops->pump(s), 0);
}
END_TEST

START_TEST(a_failed_commit_wrote_nothing_and_says_unknown)
{
	commit_with(HP_MEM_FAIL);
	ck_assert_int_eq(outcome, HP_COMMIT_UNKNOWN);
	ck_assert_int_eq(durable_visit(), 1);
}
END_TEST

START_TEST(a_lost_acknowledgement_hides_what_was_written)
{
	commit_with(HP_MEM_ACK_LOST);
	ck_assert_int_eq(outcome, HP_COMMIT_UNKNOWN);
	ck_assert_int_eq(durable_visit(), 2);
}
END_TEST

START_TEST(a_conflict_can_be_ordered)
{
	commit_with(HP_MEM_CONFLICT);
	ck_assert_int_eq(outcome, HP_COMMIT_CONFLICT);
	ck_assert_int_eq(durable_visit(), 1);
}
END_TEST

START_TEST(a_late_answer_waits_until_it_is_let_go)
{
	commit_with(HP_MEM_LATE);
	ck_assert_int_eq(answers, 0);
	ck_assert_int_eq(durable_visit(), 2);
	ck_assert_int_eq(hp_mem_deliver_late(s), 1);
	ck_assert_int_eq(s->ops->pump(s), 1);
	ck_assert_int_eq(outcome, HP_COMMIT_OK);
}
END_TEST

START_TEST(a_dead_process_hears_nothing)
{
	commit();
	commit_with(HP_MEM_LATE); /* fenced by the first, and late */
	commit();
	ck_assert_int_eq(hp_mem_drop_answers(s), 2);
	ck_assert_int_eq(s->ops->pump(s), 0);
	ck_assert_int_eq(answers, 1); /* the first was pumped by commit_with */
}
END_TEST

static char *dump(struct hp_store *w)
{
	struct hp_error err = { 0 };
	struct hp_buf b;

	hp_buf_init(&b, 1 << 20);
	ck_assert_msg(hp_mem_dump(w, &b, &err) == 0, "%s", err.message);
	return b.p; /* owner: caller, hp_buf's memory */
}

static void drop(char *text)
{
	struct hp_buf b = { .p = text };

	hp_buf_free(&b);
}

START_TEST(a_snapshot_is_restored_any_number_of_times)
{
	struct hp_mem_snapshot *snap = hp_mem_snapshot_take(s);
	struct hp_run at_first = run;
	char *first = dump(s), *moved, *again;

	commit_with(HP_MEM_TRY);
	moved = dump(s);
	ck_assert_str_ne(first, moved);
	for (int i = 0; i < 3; i++) {
		hp_mem_snapshot_restore(s, snap);
		again = dump(s);
		ck_assert_str_eq(first, again);
		drop(again);
		run = at_first;
		commit_with(HP_MEM_TRY);
		ck_assert_int_eq(outcome, HP_COMMIT_OK);
		again = dump(s);
		ck_assert_str_eq(moved, again);
		drop(again);
	}
	drop(first);
	drop(moved);
	hp_mem_snapshot_free(snap);
}
END_TEST

START_TEST(equal_calls_make_equal_worlds)
{
	struct hp_store *twin = new_world();
	char *a = dump(s), *b = dump(twin);

	ck_assert_str_eq(a, b);
	drop(a);
	drop(b);
	twin->ops->free(twin);
}
END_TEST

static void on_sql(void *arg, int64_t at, const struct hp_sql_rows *rows)
{
	(void)at;
	*(const char **)arg = rows->outcome == HP_TERMINAL ? rows->code : "";
	ck_assert_str_eq(*(const char **)arg, "no_sql");
}

START_TEST(without_a_hook_there_is_no_sql)
{
	struct hp_sql_state st = { .run_id = run.id, .epoch = run.epoch, .token = "", .text = "select 1" };
	const char *code = NULL;

	s->ops->sql_run(s, &st, on_sql, &code);
	s->ops->pump(s);
	ck_assert_ptr_nonnull(code);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("hooks");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_callback_waits_for_the_pump);
	tcase_add_test(t, a_failed_commit_wrote_nothing_and_says_unknown);
	tcase_add_test(t, a_lost_acknowledgement_hides_what_was_written);
	tcase_add_test(t, a_conflict_can_be_ordered);
	tcase_add_test(t, a_late_answer_waits_until_it_is_let_go);
	tcase_add_test(t, a_dead_process_hears_nothing);
	tcase_add_test(t, a_snapshot_is_restored_any_number_of_times);
	tcase_add_test(t, equal_calls_make_equal_worlds);
	tcase_add_test(t, without_a_hook_there_is_no_sql);
	return hp_run_case("store mem", t);
}
