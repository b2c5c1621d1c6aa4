/* encode.c: transitions as the arrays of holdpoint.commit().
 *
 * One array per column, one element per transition; what few transitions have
 * (saves, approvals, waits, business keys, annexes) goes into short arrays with the
 * ordinal of its transition beside it. Binding copies, so everything here lives
 * in an arena that ends with the call.
 */
#include <string.h>

#include "base/json.h"
#include "store/pg/pg_private.h"

#define ENCODE_MAX ((size_t)64 * 1024 * 1024)
#define N_INTS 25
/* The most that one transition puts into a short array. */
#define N_SHORT HP_ANNEXES_MAX

/* p_flags of holdpoint.commit() */
enum { ADMITS = 1, IN_SQL = 2, BUSINESS_KEY = 4, APPROVAL_CLOSES = 8, UNRESOLVED = 16, CANCEL = 32,
       SENDS_SIGNED = 64, QUIET = 256, PAUSE = 512 };

const char *pgs_commit_sql(void)
{
	return "select o_ord, o_cancel, o_first_sent_at, o_now, o_pause, o_gated from holdpoint.commit($1, $2, $3, $4, $5, $6,"
	       " $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,"
	       " $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41,"
	       " $42, $43, $44, $45)";
}

const char *pgs_sql_commit_sql(void)
{
	return "select o_ord, o_cancel, o_first_sent_at, o_now, o_pause, o_gated from holdpoint.sql_commit($1, $2, $3, $4, $5,"
	       " $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,"
	       " $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,"
	       " $43, $44, $45, $46)";
}

static int64_t flags_of(const struct hp_transition *t)
{
	return (t->admits ? ADMITS : 0) | (t->in_sql ? IN_SQL : 0) |
	       (t->admits && t->business_key ? BUSINESS_KEY : 0) | (t->approval_closes ? APPROVAL_CLOSES : 0) |
	       (t->after.unresolved ? UNRESOLVED : 0) | (t->after.cancel ? CANCEL : 0) |
	       (t->admits && t->sends_signed ? SENDS_SIGNED : 0) | (t->quiet ? QUIET : 0) |
	       (t->after.pause ? PAUSE : 0);
}

static void ints_of(const struct hp_transition *t, int64_t v[N_INTS])
{
	const struct hp_run *a = &t->after;
	const int64_t row[N_INTS] = {
		t->run_id, t->epoch, t->rev, t->move, t->disposition, a->visit, a->state, a->status,
		a->phase, a->attempt, a->failures, a->entered_at, a->first_sent_at, a->sent_at, a->due_at,
		a->signed_visit, a->signed_for, a->held_class, a->command, a->claims, t->from_state, t->from_visit,
		flags_of(t), t->outcome, t->consume_mail,
	};

	memcpy(v, row, sizeof row);
}

struct rows {
	struct hp_arena *a;
	int n;
	int64_t *ord;         /* scratch of the short arrays, room for n * N_SHORT */
	struct hp_bytes *one, *two;
	int64_t *number;
};

static bool any_byte(const uint8_t *p, size_t n)
{
	while (n > 0 && !p[n - 1])
		n--;
	return n > 0;
}

/* false: no memory. */
static bool bind_columns(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
			 const int *idx)
{
	int64_t *columns = hp_arena_alloc(w->a, (size_t)w->n * N_INTS * sizeof *columns);

	if (!columns)
		return false;
	for (int i = 0; i < w->n; i++) {
		int64_t row[N_INTS];

		ints_of(t[idx[i]], row);
		for (int c = 0; c < N_INTS; c++)
			columns[c * w->n + i] = row[c];
	}
	for (int c = 0; c < N_INTS; c++)
		hp_pg_bind_int_array(u, columns + c * w->n, w->n);
	return true;
}

static struct hp_bytes or_null(struct hp_bytes b)
{
	return b.n ? b : (struct hp_bytes){ NULL, 0 };
}

static void bind_texts(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
		       const int *idx)
{
	const struct hp_bytes null = { NULL, 0 };

	for (int i = 0; i < w->n; i++) {
		const struct hp_run *a = &t[idx[i]]->after;

		w->one[i] = any_byte(a->request_hash, sizeof a->request_hash)
			? (struct hp_bytes){ (const char *)a->request_hash, sizeof a->request_hash } : null;
	}
	hp_pg_bind_bytea_array(u, w->one, w->n);
	for (int i = 0; i < w->n; i++)
		w->one[i] = or_null(hp_bytes_of(t[idx[i]]->after.code));
	hp_pg_bind_text_array(u, w->one, w->n);
	for (int i = 0; i < w->n; i++)
		w->one[i] = hp_bytes_of(t[idx[i]]->code);
	hp_pg_bind_text_array(u, w->one, w->n);
	for (int i = 0; i < w->n; i++)
		w->one[i] = hp_bytes_of(t[idx[i]]->message);
	hp_pg_bind_text_array(u, w->one, w->n);
	for (int i = 0; i < w->n; i++)
		w->one[i] = or_null(t[idx[i]]->result);
	hp_pg_bind_jsonb_array(u, w->one, w->n);
}

/* Of two values under one name the last one counts. */
static bool named_again(const struct hp_transition *t, int at)
{
	for (int j = at + 1; j < t->n_saves; j++)
		if (t->saves[at].name && t->saves[j].name && t->saves[j].value.n &&
		    strcmp(t->saves[at].name, t->saves[j].name) == 0)
			return true;
	return false;
}

static void bind_saves(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
		       const int *idx)
{
	int k = 0;

	for (int i = 0; i < w->n; i++) {
		const struct hp_transition *x = t[idx[i]];

		for (int j = 0; j < x->n_saves; j++) {
			if (!x->saves[j].value.n || named_again(x, j))
				continue;
			w->ord[k] = i + 1;
			w->one[k] = hp_bytes_of(x->saves[j].name);
			w->two[k++] = x->saves[j].value;
		}
	}
	hp_pg_bind_int_array(u, w->ord, k);
	hp_pg_bind_text_array(u, w->one, k);
	hp_pg_bind_jsonb_array(u, w->two, k);
}

static void bind_approvals(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
			   const int *idx)
{
	int k = 0;

	for (int i = 0; i < w->n; i++) {
		const struct hp_transition *x = t[idx[i]];

		if (!x->approval.n)
			continue;
		w->ord[k] = i + 1;
		w->one[k] = x->approval;
		w->two[k] = (struct hp_bytes){ (const char *)x->approval_hash, sizeof x->approval_hash };
		w->number[k++] = x->approval_deadline;
	}
	hp_pg_bind_int_array(u, w->ord, k);
	hp_pg_bind_jsonb_array(u, w->one, k);
	hp_pg_bind_bytea_array(u, w->two, k);
	hp_pg_bind_int_array(u, w->number, k);
}

static void bind_waits(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
		       const int *idx)
{
	int k = 0;

	for (int i = 0; i < w->n; i++) {
		if (!t[idx[i]]->wait_keys.p) /* an empty key is a key too */
			continue;
		w->ord[k] = i + 1;
		w->one[k++] = t[idx[i]]->wait_keys;
	}
	hp_pg_bind_int_array(u, w->ord, k);
	hp_pg_bind_text_array(u, w->one, k);
}

/* A business key is unique within "connector.operation" of the request it is for. NULL: no
 * memory; under another scope the key would be free for a second run. */
static const char *scope_of(struct hp_arena *a, const struct hp_transition *t)
{
	struct hp_error err = {0};
	json_t *request = hp_json_parse(t->request.p, t->request.n, "request", &err);
	const char *connector = hp_json_str(request, "connector"), *operation = hp_json_str(request, "operation");
	const char *scope = NULL;

	if (err.code != HP_E_NOMEM)
		scope = hp_arena_printf(a, "%s.%s", connector ? connector : "", operation ? operation : "");
	json_decref(request);
	return scope;
}

/* false: no memory. */
static bool bind_keys(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
		      const int *idx)
{
	int k = 0;

	for (int i = 0; i < w->n; i++) {
		const struct hp_transition *x = t[idx[i]];
		const char *scope;

		if (!x->admits || !x->business_key)
			continue;
		scope = scope_of(w->a, x);
		if (!scope)
			return false;
		w->ord[k] = i + 1;
		w->one[k] = hp_bytes_of(scope);
		w->two[k++] = x->effect_key.n ? x->effect_key : (struct hp_bytes){ "", 0 };
	}
	hp_pg_bind_int_array(u, w->ord, k);
	hp_pg_bind_text_array(u, w->one, k);
	hp_pg_bind_text_array(u, w->two, k);
	return true;
}

static void bind_annexes(struct hp_pg_unit *u, struct rows *w, const struct hp_transition *const *t,
			 const int *idx)
{
	int k = 0;

	for (int i = 0; i < w->n; i++) {
		const struct hp_transition *x = t[idx[i]];

		for (int j = 0; j < x->n_annexes; j++) {
			w->ord[k] = i + 1;
			w->one[k] = hp_bytes_of(x->annexes[j].kind);
			w->two[k++] = x->annexes[j].doc;
		}
	}
	hp_pg_bind_int_array(u, w->ord, k);
	hp_pg_bind_text_array(u, w->one, k);
	hp_pg_bind_jsonb_array(u, w->two, k);
}

int pgs_encode(struct hp_pg_unit *u, const struct hp_transition *const *t, const int *idx, int n,
	       struct hp_error *err)
{
	struct rows w = { .a = hp_arena_new(ENCODE_MAX), .n = n };
	_Static_assert(sizeof t[0]->saves / sizeof t[0]->saves[0] <= N_SHORT, "room for all saves");
	size_t room = (size_t)n * N_SHORT + 1;
	int rc = -1;

	if (!w.a || !u)
		goto out;
	w.ord = hp_arena_alloc(w.a, room * sizeof *w.ord);
	w.number = hp_arena_alloc(w.a, room * sizeof *w.number);
	w.one = hp_arena_alloc(w.a, room * sizeof *w.one);
	w.two = hp_arena_alloc(w.a, room * sizeof *w.two);
	if (!w.ord || !w.number || !w.one || !w.two)
		goto out;
	if (!bind_columns(u, &w, t, idx))
		goto out;
	bind_texts(u, &w, t, idx);
	bind_saves(u, &w, t, idx);
	bind_approvals(u, &w, t, idx);
	bind_waits(u, &w, t, idx);
	if (!bind_keys(u, &w, t, idx))
		goto out;
	bind_annexes(u, &w, t, idx);
	rc = 0;
out:
	hp_arena_free(w.a);
	return rc == 0 ? 0 : hp_fail(err, HP_E_NOMEM, "no memory to encode %d transitions", n);
}
