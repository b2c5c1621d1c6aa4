/* core_sweep.c: sweeps of the machine, driven by hand: pages, pace, standbys that lag,
 * dry runs, and calls for each row through crashes. */
#include "machine_world.h"

#include "base/buf.h"
#include "lib/suite.h"

static struct hp_state *sweep(bool call)
{
	struct hp_state *s;

	setup();
	s = state(0, "fill", HP_SWEEP);
	s->sql.mode = HP_SQL_SWEEP;
	s->sweep.cursor = "id";
	s->sweep.first = "0";
	s->sweep.batch = call ? 1 : 2;
	s->sweep.has_call = call;
	s->call.op = (struct hp_operation){ "stripe", "customers.update", HP_REPEAT_BY_KEY, HP_DAY, false, false, NULL, false };
	s->save = "filled";
	state(1, "done", HP_SUCCEED);
	state(2, "broken", HP_FAIL)->fail.code = "failed";
	return s;
}

static void claim_found(const char *annex)
{
	struct hp_event ev = { .annex = hp_bytes_of(annex) };
	struct hp_buf row;

	hp_buf_init(&row, sizeof W.kept);
	ck_assert_int_eq(hp_sweep_row(ev.annex, &row, NULL), 0);
	snprintf(W.kept, sizeof W.kept, "%s", hp_buf_str(&row));
	hp_buf_free(&row);
	ev.kept = hp_bytes_of(W.kept);
	claim_with(&ev);
}

static void args(void)
{
	ck_assert_int_eq(W.act.type, HP_ACT_EVAL);
	ck_assert_int_eq(W.act.eval, HP_EVAL_ARGS);
	value("{\"args\":[]}", 0);
	ck_assert_int_eq(W.act.type, HP_ACT_SQL);
	ck_assert_ptr_nonnull(W.act.sweep);
}

static void page(int64_t rows, const char *cursor, const char *row)
{
	struct hp_event ev = { .type = HP_EV_REPLY,
			       .outcome = HP_CLASS_OK,
			       .retry_after_us = -1,
			       .swept = { .rows = rows, .changed = rows > 0 && !W.states[0].sweep.has_call ? rows : 0, .total = -1 } };

	ev.swept.cursor = hp_bytes_of(cursor);
	ev.swept.row = hp_bytes_of(row);
	step(&ev);
}

static const char *annex_of(const struct hp_transition *t, const char *kind)
{
	static char text[1024];

	for (int i = 0; i < t->n_annexes; i++)
		if (strcmp(t->annexes[i].kind, kind) == 0) {
			snprintf(text, sizeof text, "%.*s", (int)t->annexes[i].doc.n, t->annexes[i].doc.p);
			return text;
		}
	return NULL;
}

static const char *annex(const char *kind)
{
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	return annex_of(W.act.transition, kind);
}

START_TEST(a_page_and_its_place_are_one_commit)
{
	sweep(false);
	claim();
	args();
	ck_assert_str_eq(W.act.sweep->cursor, "");
	page(2, "7", NULL);
	ck_assert(W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_SWEPT);
	ck_assert_int_eq(W.act.transition->disposition, HP_KEEP);
	ck_assert_int_eq(W.act.transition->after.visit, 1);
	ck_assert_str_eq(annex("sweep"), "{\"cursor\":7,\"done\":2,\"changed\":2,\"pages\":1,\"failed\":0,\"total\":-1,\"ended\":false}");
	commit();
	args();
	ck_assert_str_eq(W.act.sweep->cursor, "7");
	page(0, NULL, NULL);
	ck_assert(W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->after.state, 1);
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"ended\":true"));
	ck_assert_str_eq(W.act.transition->saves[0].name, "filled");
	ck_assert_ptr_nonnull(strstr(W.act.transition->saves[0].value.p, "\"rows\":2,\"changed\":2,\"failed\":0,\"pages\":1"));
}
END_TEST

START_TEST(whoever_takes_over_goes_on_where_it_was_committed)
{
	sweep(false);
	claim_found("{\"sweep\":{\"cursor\":\"m\",\"row\":null,\"done\":40,\"changed\":39,\"pages\":20,\"failed\":0,\"total\":50}}");
	args();
	ck_assert_str_eq(W.act.sweep->cursor, "\"m\"");
	page(1, "\"n\"", NULL);
	ck_assert_str_eq(annex("sweep"), "{\"cursor\":\"n\",\"done\":41,\"changed\":40,\"pages\":21,\"failed\":0,\"total\":50,\"ended\":false}");
}
END_TEST

START_TEST(a_page_that_does_not_ascend_stops_the_sweep)
{
	sweep(false);
	claim();
	args();
	page(2, "7", NULL);
	commit();
	args();
	page(2, "7", NULL);
	ck_assert_str_eq(W.act.transition->after.code, "sweep_stuck");
	ck_assert(!W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
}
END_TEST

START_TEST(a_retried_sweep_keeps_its_visit_and_its_place)
{
	sweep(false);
	claim();
	args();
	{
		struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_TERMINAL, .code = "check_violation", .retry_after_us = -1 };

		step(&ev);
	}
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	commit();
	W.run.command = HP_CMD_RETRY;
	claim_found("{\"sweep\":{\"cursor\":7,\"row\":null,\"done\":2,\"changed\":2,\"pages\":1,\"failed\":0}}");
	args();
	ck_assert_str_eq(W.act.sweep->cursor, "7");
	page(2, "9", NULL);
	ck_assert_int_eq(W.act.transition->after.visit, 1);
	ck_assert_int_eq(W.act.transition->after.status, HP_RUNNING);
}
END_TEST

START_TEST(pace_and_lagging_standbys_park_it)
{
	struct hp_state *s = sweep(false);
	int64_t began;

	s->sweep.per_second = 4;
	claim();
	began = W.now;
	args();
	W.now += 100 * HP_MSEC;
	page(2, "7", NULL);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_OPEN);
	ck_assert_int_eq(W.act.transition->after.due_at, began + 500 * HP_MSEC);
	commit();
	claim_found("{\"sweep\":{\"cursor\":7,\"done\":2,\"changed\":2,\"pages\":1,\"failed\":0}}");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_WOKEN); /* never early */
	commit();
	W.now = W.run.due_at;
	claim_found("{\"sweep\":{\"cursor\":7,\"done\":2,\"changed\":2,\"pages\":1,\"failed\":0}}");
	args();
	page(-1, NULL, NULL);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 5 * HP_SECOND);
	ck_assert_str_eq(W.act.transition->after.code, "replication_lag");
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"cursor\":7,\"done\":2"));
}
END_TEST

START_TEST(a_dry_run_is_not_part_of_its_transaction)
{
	struct hp_event dry = { .type = HP_EV_VALUE, .ok = true, .truth = true };
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_CLASS_OK, .swept = { .rows = 2, .changed = 2, .total = 9 } };

	sweep(false)->sweep.has_dry_run = true;
	claim();
	dry.value = hp_bytes_of("{\"args\":[]}");
	step(&dry);
	ck_assert(W.act.sweep->dry);
	ev.value = hp_bytes_of("{\"dry_run\":true}");
	step(&ev);
	ck_assert(W.act.type == HP_ACT_EVAL || !W.act.transition->in_sql);
	ck_assert_int_eq(W.act.type, HP_ACT_EVAL); /* straight on to the end */
	ck_assert(!W.act.pending->in_sql);
	ck_assert_int_eq(W.act.pending->n_annexes, 0);
}
END_TEST

/* ---- a call for each row ---- */

static void found_first_row(void)
{
	claim();
	args();
	page(1, "7", "{\"id\":7}");
	ck_assert_str_eq(annex("sweep_row"), "{\"id\":7}");
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"done\":0"));
	commit();
}

static void call_row(const char *row)
{
	ck_assert_int_eq(W.act.type, HP_ACT_EVAL);
	ck_assert_int_eq(W.act.eval, HP_EVAL_REQUEST);
	ck_assert_uint_eq(W.act.value.n, strlen(row));
	ck_assert_int_eq(memcmp(W.act.value.p, row, W.act.value.n), 0);
	value("{}", 1);
	ck_assert(W.act.transition->admits);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}

static void replied(enum hp_class outcome, const char *code)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = outcome, .code = code, .message = code, .retry_after_us = -1 };

	ev.value = hp_bytes_of(outcome == HP_CLASS_OK ? "{\"ok\":true}" : "");
	step(&ev);
}

START_TEST(a_row_is_called_then_done_with_its_reply)
{
	sweep(true);
	found_first_row();
	call_row("{\"id\":7}");
	replied(HP_CLASS_OK, NULL);
	args();
	ck_assert_str_eq(W.act.reply.p, "{\"ok\":true}");
	ck_assert_str_eq(W.act.sweep->row.p, "{\"id\":7}");
	page(1, "9", "{\"id\":9}");
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"cursor\":9,\"done\":1"));
	ck_assert_str_eq(annex("sweep_row"), "{\"id\":9}");
	ck_assert(W.act.transition->in_sql);
	ck_assert(!W.act.transition->after.unresolved);
	ck_assert_int_eq(W.act.transition->after.attempt, 0);
	commit();
	call_row("{\"id\":9}");
	replied(HP_CLASS_OK, NULL);
	args();
	page(0, NULL, NULL);
	ck_assert_int_eq(W.act.transition->after.state, 1);
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"done\":2"));
	ck_assert_ptr_null(annex("sweep_row"));
}
END_TEST

/* Sent, and its worker died before the statement: the same row, the same request, while a
 * repeat is safe; else a person. */
START_TEST(a_call_is_unresolved_until_its_statement_commits)
{
	static const char *const found = "{\"sweep\":{\"cursor\":7,\"row\":{\"id\":7},\"done\":0,\"changed\":0,\"pages\":0,\"failed\":0}}";

	sweep(true);
	found_first_row();
	call_row("{\"id\":7}");
	claim_found(found);
	ck_assert_int_eq(W.act.eval, HP_EVAL_REQUEST);
	call_row("{\"id\":7}");
	ck_assert(W.run.unresolved);
	replied(HP_CLASS_OK, NULL);
	args();
	{
		struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_RETRYABLE, .code = "deadlock_detected", .retry_after_us = -1 };

		step(&ev); /* the statement failed: the call will be made again */
	}
	ck_assert_int_eq(W.act.transition->after.phase, HP_PH_BACKOFF);
	ck_assert(W.act.transition->after.unresolved);
	commit();
	W.now += 2 * HP_DAY; /* the provider has forgotten the key */
	claim_found(found);
	value("{}", 1);
	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert(!W.act.transition->admits);
	ck_assert_str_eq(W.act.transition->after.code, "in_doubt");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
}
END_TEST

/* The first row's call was made, and the statement beside it failed for the last time. */
static void called_and_held(void)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_RETRYABLE, .code = "deadlock_detected", .retry_after_us = -1 };

	sweep(true)->retry.attempts = 1;
	found_first_row();
	call_row("{\"id\":7}");
	replied(HP_CLASS_OK, NULL);
	args();
	step(&ev);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
}

/* The call was made, and the statement beside it will not be tried again: a person has to look. */
START_TEST(a_statement_that_fails_for_the_last_time_leaves_its_call_in_doubt)
{
	called_and_held();
	ck_assert_int_eq(W.act.transition->after.held_class, HP_AMBIGUOUS);
	ck_assert(W.act.transition->after.unresolved);
}
END_TEST

/* … and their retry calls the row again, whose answer settles it; one that says nothing of it does not. */
START_TEST(a_retried_row_stays_in_doubt_until_it_is_answered)
{
	called_and_held();
	commit();
	W.run.command = HP_CMD_RETRY;
	claim_found("{\"sweep\":{\"cursor\":7,\"row\":{\"id\":7},\"done\":0,\"changed\":0,\"pages\":0,\"failed\":0}}");
	call_row("{\"id\":7}");
	ck_assert(W.run.unresolved);
	replied(HP_RETRYABLE, "rate_limited");
	ck_assert_int_eq(W.act.transition->after.held_class, HP_AMBIGUOUS);
	ck_assert(W.act.transition->after.unresolved);
}
END_TEST

/* The provider may forget the key while the repeat waits for its place. */
START_TEST(a_repeat_that_waited_too_long_is_asked_about_anew)
{
	static const char *const found = "{\"sweep\":{\"cursor\":7,\"row\":{\"id\":7},\"done\":0,\"changed\":0,\"pages\":0,\"failed\":0}}";
	const struct hp_event unsent = { .type = HP_EV_REPLY, .unsent = true, .retry_after_us = -1 };
	struct hp_state *s = sweep(true);

	found_first_row();
	call_row("{\"id\":7}");
	ck_assert_int_eq(W.act.leave_by, 0); /* nobody has seen the key yet */
	claim_found(found);
	call_row("{\"id\":7}");
	ck_assert_int_eq(W.act.leave_by, W.run.first_sent_at + s->call.op.window_us - s->timeout_us);
	W.now = W.act.leave_by;
	step(&unsent);
	value("{}", 1);
	ck_assert_str_eq(W.act.transition->after.code, "in_doubt");
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
}
END_TEST

START_TEST(failures_are_tolerated_as_far_as_declared)
{
	struct hp_state *s = sweep(true);

	s->sweep.tolerate = 1;
	W.catches[0] = (struct hp_catch){ NULL, 2, 0 };
	s->catches = W.catches;
	s->n_catches = 1;
	found_first_row();
	call_row("{\"id\":7}");
	replied(HP_TERMINAL, "no_such_customer");
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"cursor\":7,\"done\":1,\"changed\":0,\"pages\":1,\"failed\":1"));
	ck_assert_ptr_nonnull(strstr(annex("sweep_failure"), "no_such_customer"));
	ck_assert_int_eq(W.act.transition->after.state, 0);
	commit();
	args();
	ck_assert_uint_eq(W.act.reply.n, 0); /* only the look for the next row */
	page(1, "9", "{\"id\":9}");
	commit();
	call_row("{\"id\":9}");
	replied(HP_TERMINAL, "no_such_customer");
	ck_assert_int_eq(W.act.type, HP_ACT_EVAL); /* caught: on to `broken` */
	ck_assert_int_eq(W.act.pending->after.state, 2);
}
END_TEST

/* Refused rows are no faster than others. */
START_TEST(a_tolerated_row_keeps_the_pace)
{
	struct hp_state *s = sweep(true);

	s->sweep.tolerate = 1;
	s->sweep.per_second = 4;
	found_first_row();
	call_row("{\"id\":7}");
	W.now += 100 * HP_MSEC;
	replied(HP_TERMINAL, "no_such_customer");
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_SWEPT);
	ck_assert_int_eq(W.act.transition->disposition, HP_PARK);
	ck_assert_int_eq(W.act.transition->after.due_at, W.now + 150 * HP_MSEC);
}
END_TEST

/* The row in hand was called: what is wrong with the one after it is not its failure. */
START_TEST(the_next_row_is_no_failure_of_this_one)
{
	static char longer[HP_CURSOR_MAX + 1];
	const char *const cursors[] = { "7", memset(longer, '1', sizeof longer - 1) };
	const char *const codes[] = { "sweep_stuck", "cursor_too_long" };

	for (int i = 0; i < 2; i++) {
		sweep(true)->sweep.tolerate = 9;
		found_first_row();
		call_row("{\"id\":7}");
		replied(HP_CLASS_OK, NULL);
		args();
		page(1, cursors[i], "{\"id\":8}");
		ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
		ck_assert_str_eq(W.act.transition->after.code, codes[i]);
		ck_assert_ptr_null(annex("sweep_failure"));
		ck_assert(W.act.transition->after.unresolved); /* a retry calls it again, and does its statement */
	}
}
END_TEST

/* A connector's limits hold for each row: its place is left with it, the next one asks anew. */
START_TEST(each_row_asks_for_its_own_place)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .demands = hp_bytes_of("{\"demands\":[]}") };

	sweep(true)->call.limited = true;
	found_first_row();
	ck_assert_ptr_null(annex_of(&W.last, "limits")); /* nothing was asked for to find it */
	ev.value = hp_bytes_of("{}");
	ev.key = hp_bytes_of("key-1");
	step(&ev);
	ck_assert_str_eq(annex("limits"), "{\"demands\":[]}");
	commit();
	replied(HP_CLASS_OK, NULL);
	args();
	page(1, "9", "{\"id\":9}");
	ck_assert_str_eq(annex("limits"), "{\"end\":\"keep\"}");
}
END_TEST

/* What fails after the statement takes it back, and the place with it. */
START_TEST(a_set_that_fails_takes_the_last_page_back)
{
	struct hp_event failed = { .type = HP_EV_VALUE, .ok = false, .code = "script_error", .message = "x" };

	sweep(true)->has_set = true;
	found_first_row();
	call_row("{\"id\":7}");
	replied(HP_CLASS_OK, NULL);
	args();
	page(0, NULL, NULL);
	ck_assert_int_eq(W.act.eval, HP_EVAL_SET);
	step(&failed);
	ck_assert(!W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
	ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
	ck_assert(W.act.transition->after.unresolved);
}
END_TEST

/* The statement of the last row is part of the commit that turns it back. */
START_TEST(a_cancel_beside_the_last_row_leaves_no_doubt)
{
	sweep(true);
	W.def.cancel_undoes = true;
	found_first_row();
	call_row("{\"id\":7}");
	W.run.cancel = true; /* and its worker dies */
	claim_found("{\"sweep\":{\"cursor\":7,\"row\":{\"id\":7},\"done\":0,\"changed\":0,\"pages\":0,\"failed\":0}}");
	call_row("{\"id\":7}");
	replied(HP_CLASS_OK, NULL);
	args();
	page(0, NULL, NULL);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_UNDOING);
	ck_assert(W.act.transition->in_sql);
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"done\":1"));
	ck_assert_str_eq(annex("undo"), "{\"begin\":6}");
	ck_assert(!W.act.transition->after.unresolved);
}
END_TEST

START_TEST(a_key_that_cannot_be_kept_stops_the_sweep)
{
	static char key[HP_CURSOR_MAX + 2];

	memset(key, '1', sizeof key - 1);
	sweep(false);
	claim();
	args();
	page(1, key, NULL);
	ck_assert_str_eq(W.act.transition->after.code, "cursor_too_long");
	ck_assert(!W.act.transition->in_sql);
	sweep(false);
	claim_found("{\"sweep\":{\"cursor\":1,\"row\":null,\"done\":1}}");
	args();
	page(1, "", NULL);
	ck_assert_str_eq(W.act.transition->after.code, "cursor_too_long");
	ck_assert_int_eq(W.act.transition->n_annexes, 0);
}
END_TEST

/* What does not fit is taken for no place at all: from the beginning, never from elsewhere. */
START_TEST(a_place_that_cannot_be_read_is_the_beginning)
{
	static char found[HP_CURSOR_MAX + 200];
	size_t n = (size_t)snprintf(found, sizeof found, "{\"sweep\":{\"total\":\"many\",\"cursor\":\"");

	memset(found + n, 'k', HP_CURSOR_MAX);
	snprintf(found + n + HP_CURSOR_MAX, 20, "\"}}");
	sweep(false);
	claim_found(found);
	args();
	ck_assert_str_eq(W.act.sweep->cursor, "");
	ck_assert_int_eq(W.act.sweep->total, -1);
}
END_TEST

START_TEST(a_reply_without_a_body_is_null)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_CLASS_OK, .retry_after_us = -1 };

	sweep(true);
	found_first_row();
	call_row("{\"id\":7}");
	step(&ev);
	args();
	ck_assert_str_eq(W.act.reply.p, "null");
}
END_TEST

START_TEST(the_total_is_kept_once_it_is_known)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_CLASS_OK, .retry_after_us = -1,
			       .swept = { .rows = 2, .total = 50, .cursor = hp_bytes_of("7") } };

	sweep(false);
	claim();
	args();
	step(&ev);
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"total\":50"));
	commit();
	args();
	page(2, "9", NULL); /* asked with the first page only */
	ck_assert_ptr_nonnull(strstr(annex("sweep"), "\"total\":50"));
}
END_TEST

/* Paused while the last row's call was out: what follows it is entered, not begun. */
START_TEST(a_pause_beside_the_last_row_waits_in_the_next_state)
{
	sweep(true);
	found_first_row();
	call_row("{\"id\":7}");
	pause_flag = true; /* and its worker dies */
	claim_found("{\"sweep\":{\"cursor\":7,\"row\":{\"id\":7},\"done\":0,\"changed\":0,\"pages\":0,\"failed\":0}}");
	call_row("{\"id\":7}");
	replied(HP_CLASS_OK, NULL);
	args();
	page(0, NULL, NULL);
	ck_assert(W.act.transition->in_sql);
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_ENTERED);
	ck_assert_int_eq(W.act.transition->disposition, HP_KEEP);
	commit();
	ck_assert_int_eq(W.act.transition->move, HP_MOVE_PAUSED);
	pause_flag = false;
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("sweep");

	tcase_add_test(t, a_key_that_cannot_be_kept_stops_the_sweep);
	tcase_add_test(t, a_place_that_cannot_be_read_is_the_beginning);
	tcase_add_test(t, a_reply_without_a_body_is_null);
	tcase_add_test(t, the_total_is_kept_once_it_is_known);
	tcase_add_test(t, a_pause_beside_the_last_row_waits_in_the_next_state);

	tcase_add_test(t, a_page_and_its_place_are_one_commit);
	tcase_add_test(t, whoever_takes_over_goes_on_where_it_was_committed);
	tcase_add_test(t, a_page_that_does_not_ascend_stops_the_sweep);
	tcase_add_test(t, a_retried_sweep_keeps_its_visit_and_its_place);
	tcase_add_test(t, pace_and_lagging_standbys_park_it);
	tcase_add_test(t, a_dry_run_is_not_part_of_its_transaction);
	tcase_add_test(t, a_row_is_called_then_done_with_its_reply);
	tcase_add_test(t, a_call_is_unresolved_until_its_statement_commits);
	tcase_add_test(t, a_retried_row_stays_in_doubt_until_it_is_answered);
	tcase_add_test(t, a_statement_that_fails_for_the_last_time_leaves_its_call_in_doubt);
	tcase_add_test(t, a_repeat_that_waited_too_long_is_asked_about_anew);
	tcase_add_test(t, failures_are_tolerated_as_far_as_declared);
	tcase_add_test(t, a_tolerated_row_keeps_the_pace);
	tcase_add_test(t, the_next_row_is_no_failure_of_this_one);
	tcase_add_test(t, each_row_asks_for_its_own_place);
	tcase_add_test(t, a_set_that_fails_takes_the_last_page_back);
	tcase_add_test(t, a_cancel_beside_the_last_row_leaves_no_doubt);
	return hp_run_case("core sweep", t);
}
