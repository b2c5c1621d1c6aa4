/* machine_sweep.c: a back-fill, page by page.
 *
 *            evaluate args        the page's own transaction
 *   ENTER ─────────────────▶ SQL ──────────────────────────▶ swept: the key of its last row and the
 *     ▲                                                       statement commit together
 *     │  more rows: at once, or OPEN until due (rate, lag)      │ no more rows: leave
 *     └─────────────────────────────────────────────────────────┘
 *
 * With a call the page is one row. It is in hand from the commit that found it; the
 * call is admitted, sent and repeated as any other, under a key of its own; then the
 * statement with the reply, and the look for the next row, are one transaction. Until
 * that commit the call counts as unresolved: it may have to be sent again, which is
 * why only operations that are safe to repeat can be swept with.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "core/machine_private.h"

#define LAG_PAUSE_US (5 * INT64_C(1000000)) /* before looking again at standbys that lag */

int hp_sweep_row(struct hp_bytes annex, struct hp_buf *out, struct hp_error *err)
{
	json_t *sweep = hp_annex_found(annex, "sweep", NULL);
	const json_t *row = json_object_get(sweep, "row");
	int rc = json_is_object(row) ? hp_json_write(out, row, err) : 0;

	json_decref(sweep);
	return rc;
}

/* The whole cursor or nothing: a part of one would be another place. */
static bool put_cursor(struct hp_sweep *w, struct hp_bytes cursor)
{
	if (cursor.n == 0 || cursor.n >= sizeof w->cursor)
		return false;
	memcpy(w->cursor, cursor.p, cursor.n);
	w->cursor[cursor.n] = 0;
	return true;
}

void hp_m_sweep_found(struct hp_machine *m, const struct hp_event *ev)
{
	json_t *sweep = hp_annex_found(ev->annex, "sweep", NULL);
	const json_t *cursor = json_object_get(sweep, "cursor");
	const json_t *total = json_object_get(sweep, "total");
	struct hp_sweep *w = &m->sweep;
	struct hp_buf text;

	*w = (struct hp_sweep){ .total = json_is_integer(total) ? json_integer_value(total) : -1, .row = ev->kept };
	hp_buf_init(&text, HP_CURSOR_MAX);
	if (cursor && hp_json_write(&text, cursor, NULL) == 0)
		put_cursor(w, hp_buf_bytes(&text));
	hp_buf_free(&text);
	w->done = hp_json_int(sweep, "done", 0);
	w->changed = hp_json_int(sweep, "changed", 0);
	w->pages = hp_json_int(sweep, "pages", 0);
	w->failed = hp_json_int(sweep, "failed", 0);
	json_decref(sweep);
}

void hp_m_sweep(struct hp_machine *m, struct hp_action *act)
{
	m->sweep.began = m->now;
	m->reply = (struct hp_bytes){ NULL, 0 };
	if (m->sweep.row.n > 0)
		hp_m_call(m, act);
	else
		hp_m_eval(m, act, HP_EVAL_ARGS, 0);
}

void hp_m_sweep_replied(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	/* its statement may fail, and the call be made again: within the provider's memory only */
	hp_m_after(m)->unresolved = !hp_m_state(m)->call.op.read;
	m->reply = ev->value.n > 0 ? ev->value : (struct hp_bytes){ "null", 4 };
	hp_m_eval(m, act, HP_EVAL_ARGS, 0);
}

static void annex(struct hp_machine *m, bool ended)
{
	struct hp_sweep *w = &m->sweep;
	int n = snprintf(m->sweep_doc, sizeof m->sweep_doc,
			 "{\"cursor\":%s,\"done\":%lld,\"changed\":%lld,\"pages\":%lld,\"failed\":%lld,"
			 "\"total\":%lld,\"ended\":%s}",
			 w->cursor[0] ? w->cursor : "null", (long long)w->done, (long long)w->changed,
			 (long long)w->pages, (long long)w->failed, (long long)w->total, ended ? "true" : "false");

	HP_ASSERT(n > 0 && (size_t)n < sizeof m->sweep_doc);
	hp_m_annex(m, "sweep", (struct hp_bytes){ m->sweep_doc, (size_t)n });
	if (w->row.n > 0)
		hp_m_annex(m, "sweep_row", w->row);
	m->t.keep = w->row.n > 0 ? w->row : (struct hp_bytes){ "", 0 };
}

/* The next page begins afresh: its attempts are its own. */
static void next_page(struct hp_machine *m, struct hp_action *act, int64_t due_at)
{
	struct hp_run *a = hp_m_after(m);

	if (a->attempt > 0) /* the row's call is over: the next one asks for a place of its own */
		hp_m_leave_limits(m, false);
	a->attempt = a->failures = 0;
	a->first_sent_at = a->sent_at = 0;
	a->unresolved = false;
	memset(a->request_hash, 0, sizeof a->request_hash);
	if (due_at > m->now) {
		hp_m_park(m, act, HP_MOVE_SWEPT, HP_PH_OPEN, due_at);
		return;
	}
	hp_m_keep(m, act, HP_MOVE_SWEPT, HP_PH_ENTER);
}

static void all_swept(struct hp_machine *m, struct hp_action *act)
{
	struct hp_sweep *w = &m->sweep;
	int n;

	annex(m, true);
	/* the annex is written from sweep_doc; what is saved needs a text of its own */
	n = snprintf(m->error_json, sizeof m->error_json,
		     "{\"rows\":%lld,\"changed\":%lld,\"failed\":%lld,\"pages\":%lld}", (long long)w->done,
		     (long long)w->changed, (long long)w->failed, (long long)w->pages);
	hp_m_succeed(m, act, hp_m_state(m)->save, (struct hp_bytes){ m->error_json, (size_t)n });
}

/* When so many rows have had their time. */
static int64_t paced(const struct hp_machine *m, int64_t rows)
{
	int64_t rate = hp_m_state(m)->sweep.per_second;

	return rate > 0 ? m->sweep.began + rows * INT64_C(1000000) / rate : 0;
}

/* When the next page may begin. */
static int64_t due(struct hp_machine *m, const struct hp_swept *p, int64_t rows)
{
	if (p->rows < 0) {
		hp_m_outcome(m, HP_CLASS_OK, "replication_lag", "a standby is further behind than the sweep allows");
		return m->now + LAG_PAUSE_US;
	}
	return paced(m, rows);
}

void hp_m_swept(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);
	const struct hp_swept *p = &ev->swept;
	struct hp_sweep *w = &m->sweep;
	int64_t rows = p->rows > 0 ? p->rows : 0;

	if (w->dry) { /* not part of the transaction, which is rolled back with all it did */
		hp_m_succeed(m, act, s->save, ev->value);
		return;
	}
	/* what is wrong with the next row is no failure of the one in hand, which `tolerate` counts */
	if (rows > 0 && !HP_GUARD(sweep_ascends, p->cursor.n != strlen(w->cursor) ||
							 memcmp(p->cursor.p, w->cursor, p->cursor.n) != 0)) {
		hp_m_fail(m, act, HP_NEEDS_PERSON, "sweep_stuck",
			  "the page ends with the key it began after: rows must come in ascending order of `cursor`, after $1");
		return;
	}
	if (rows > 0 && !put_cursor(w, p->cursor)) {
		hp_m_fail(m, act, HP_NEEDS_PERSON, "cursor_too_long", "the key of a row is longer than a cursor may be");
		return;
	}
	m->t.in_sql = true;
	if (s->sweep.has_call)
		rows = w->row.n > 0; /* the one in hand; the page's is only found */
	w->done += rows;
	w->changed += p->changed;
	w->pages += rows > 0;
	w->total = p->total >= 0 ? p->total : w->total;
	w->row = s->sweep.has_call && p->rows > 0 ? p->row : (struct hp_bytes){ NULL, 0 };
	if (p->rows == 0) {
		all_swept(m, act);
		return;
	}
	annex(m, false);
	next_page(m, act, due(m, p, rows));
}

bool hp_m_sweep_tolerates(struct hp_machine *m, struct hp_action *act, enum hp_class c)
{
	struct hp_sweep *w = &m->sweep;

	if (c != HP_TERMINAL || w->row.n == 0 || w->failed >= hp_m_state(m)->sweep.tolerate)
		return false;
	w->failed++;
	w->done++;
	w->pages++;
	w->row = (struct hp_bytes){ NULL, 0 };
	annex(m, false);
	hp_m_annex(m, "sweep_failure", hp_m_error_value(m, c, hp_m_state(m)->name));
	next_page(m, act, paced(m, 1));
	return true;
}
