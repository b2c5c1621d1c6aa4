/* mem_commit.c: the transition, and the `sql` states' own transactions.
 *
 * A transition changes a run only when epoch and rev of its row are as expected;
 * everything else it brings (history, saved values, waits, approvals, keys) is written
 * only after that, so a fenced worker leaves no trace. What cannot be written is
 * refused before the first row is touched.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/mutant.h"
#include "store/mem/mem_private.h"

struct hp_sql_tx {
	struct hp_list link;
	int64_t run;
	int32_t epoch;
};

/* ---- may it be written? ---- */

static int check_json(struct hp_bytes b, const char *what, json_type type, struct hp_error *err)
{
	json_t *v;
	bool fits;

	if (b.n == 0)
		return 0;
	if (b.n > HP_VALUE_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "%s: %zu bytes, allowed are %d", what, b.n,
			       HP_VALUE_MAX);
	v = hp_json_parse(b.p, b.n, what, err);
	if (!v)
		return -1;
	fits = type == JSON_NULL || json_typeof(v) == type;
	json_decref(v);
	return fits ? 0 : hp_fail(err, HP_E_INVALID, "%s: must be a JSON object", what);
}

/* What a person signed is what is sent: the very bytes. */
static int check_signed(const struct mem_store *m, const struct hp_transition *t, struct hp_error *err)
{
	static const char *const words[] = { "open", "approved", "rejected", "expired", "cancelled" };
	const struct mem_approval *a;

	if (!t->admits || !t->sends_signed)
		return 0;
	if (t->after.signed_for != t->after.state)
		return hp_fail(err, HP_E_CONFLICT,
			       "run %lld may not send: what was signed in visit %d is for another state",
			       (long long)t->run_id, (int)t->after.signed_visit);
	a = mem_approval_of(&m->w, t->run_id, t->after.signed_visit);
	if (!a || a->status != MEM_APPROVED)
		return hp_fail(err, HP_E_CONFLICT, "run %lld may not send: approval of visit %d is %s",
			       (long long)t->run_id, (int)t->after.signed_visit,
			       a ? words[a->status] : "missing");
	if (!HP_GUARD(signed_hash, memcmp(a->hash, t->after.request_hash, HP_SHA256_LEN) == 0))
		return hp_fail(err, HP_E_CONFLICT,
			       "run %lld may not send: the request is not the one that was signed in visit %d",
			       (long long)t->run_id, (int)t->after.signed_visit);
	return 0;
}

/* What is shown to be signed has the hash it came with. */
static int check_shown(const struct hp_transition *t, struct hp_error *err)
{
	json_t *doc = t->approval.n ? hp_json_parse(t->approval.p, t->approval.n, "approval", NULL) : NULL;
	const json_t *request = json_object_get(doc, "request");
	uint8_t hash[HP_SHA256_LEN];
	int rc = 0;

	if (json_is_string(request)) {
		hp_sha256(json_string_value(request), json_string_length(request), hash);
		if (!HP_GUARD(shown_hash, memcmp(hash, t->approval_hash, HP_SHA256_LEN) == 0))
			rc = hp_fail(err, HP_E_CONFLICT,
				     "run %lld: the request to be signed does not have the hash it came with",
				     (long long)t->run_id);
	}
	json_decref(doc);
	return rc;
}

/* One key for every event the state names. */
static int check_waits(const struct mem_store *m, const struct hp_transition *t, struct hp_error *err)
{
	const struct mem_run *r = mem_run_find(&m->w, t->run_id);
	json_t *state;
	size_t keys = 1, events;

	if (!t->wait_keys.p) /* an empty key is a key too */
		return 0;
	for (size_t i = 0; i < t->wait_keys.n; i++)
		keys += t->wait_keys.p[i] == '\n';
	state = mem_state_json(&m->w, r, t->after.state);
	events = json_array_size(json_object_get(state, "events"));
	json_decref(state);
	if (keys == events)
		return 0;
	return hp_fail(err, HP_E_INVALID, "run %lld awaits %zu keys, but its state names %zu events",
		       (long long)t->run_id, keys, events);
}

/* All but the signature: that is looked at only when it is sent. */
static int check(struct mem_store *m, const struct hp_transition *t, struct hp_error *err)
{
	if (t->after.status < HP_RUNNING || t->after.status > HP_CANCELLED)
		return hp_fail(err, HP_E_INVALID, "run %lld: status %d is unknown",
			       (long long)t->run_id, (int)t->after.status);
	if (hp_status_final(t->after.status) != (t->disposition == HP_FINISH))
		return hp_fail(err, HP_E_INVALID, "run %lld: only a run that finishes may be %s",
			       (long long)t->run_id, hp_status_name(t->after.status));
	for (int i = 0; i < t->n_saves; i++)
		if (check_json(t->saves[i].value, t->saves[i].name ? t->saves[i].name : "set",
			       t->saves[i].name ? JSON_NULL : JSON_OBJECT, err) < 0)
			return -1;
	if (check_json(t->result, "result", JSON_NULL, err) < 0)
		return -1;
	if (check_json(t->approval, "approval", JSON_OBJECT, err) < 0 || check_shown(t, err) < 0)
		return -1;
	if (check_waits(m, t, err) < 0 || mem_annex_check(m, t, err) < 0 || mem_secret_check(m, t, err) < 0)
		return -1;
	return 0;
}

/* ---- writing ---- */

static void put_saved(struct mem_store *m, const struct hp_transition *t, struct hp_bytes name,
		      struct hp_bytes value)
{
	struct mem_saved *v = mem_add(&m->w, T_SAVED);

	v->run = t->run_id;
	v->rev = t->after.rev;
	v->name = mem_intern(m, name);
	v->value = mem_intern(m, value);
}

static void put_members(struct mem_store *m, const struct hp_transition *t, struct hp_bytes object)
{
	json_t *o = hp_json_parse(object.p, object.n, "set", NULL), *v;
	const char *k;
	struct hp_buf b;

	hp_buf_init(&b, HP_VALUE_MAX * 2);
	json_object_foreach(o, k, v) {
		hp_buf_clear(&b);
		if (hp_json_write(&b, v, NULL) == 0)
			put_saved(m, t, hp_bytes_of(k), hp_buf_bytes(&b));
	}
	hp_buf_free(&b);
	json_decref(o);
}

static void put_saves(struct mem_store *m, const struct hp_transition *t)
{
	for (int i = 0; i < t->n_saves; i++) {
		if (!t->saves[i].value.n)
			continue;
		if (t->saves[i].name)
			put_saved(m, t, hp_bytes_of(t->saves[i].name), t->saves[i].value);
		else
			put_members(m, t, t->saves[i].value);
	}
}

static bool wait_of(const void *row, int64_t run)
{
	return ((const struct mem_wait *)row)->run == run;
}

/* The state's events, in the order of the keys. */
static void put_waits(struct mem_store *m, const struct mem_run *r, struct hp_bytes keys)
{
	json_t *state = mem_state_json(&m->w, r, r->row.state);
	const json_t *events = json_object_get(state, "events");
	const char *at = keys.p, *end = keys.p + keys.n;

	for (int32_t i = 0; at <= end && i < HP_AWAIT_EVENTS_MAX + HP_ARMS_MAX; i++) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		const char *name = json_string_value(json_array_get(events, (size_t)i));
		struct mem_wait *w = mem_add(&m->w, T_WAIT);

		w->run = r->row.id;
		w->index = i;
		w->name = mem_intern_s(m, name);
		w->key = mem_intern(m, (struct hp_bytes){ at, (size_t)((nl ? nl : end) - at) });
		at = nl ? nl + 1 : end + 1;
	}
	json_decref(state);
}

static void put_approval(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t)
{
	json_t *doc = hp_json_parse(t->approval.p, t->approval.n, "approval", NULL);
	const json_t *request = json_object_get(doc, "request");
	struct mem_approval *a = mem_approval_of(&m->w, r->row.id, r->row.visit);

	if (!a) {
		a = mem_add(&m->w, T_APPROVAL);
		a->id = (int64_t)mem_count(&m->w, T_APPROVAL);
	}
	a->run = r->row.id;
	a->visit = r->row.visit;
	a->state = r->row.state;
	a->status = MEM_OPEN;
	a->opened_at = *m->now;
	a->deadline = t->approval_deadline;
	a->document = mem_intern(m, t->approval);
	a->has_request = json_is_string(request);
	a->request = mem_intern(m, (struct hp_bytes){ json_string_value(request),
						      json_string_length(request) });
	a->key = mem_intern_s(m, hp_json_str(doc, "key"));
	memcpy(a->hash, t->approval_hash, HP_SHA256_LEN);
	json_decref(doc);
}

/* The run says that it expired, or it went to a `fail` and says what that says. What else
 * closes it is faster than the deadline. (One that turns round where it stands may have a
 * code of long ago.) */
static bool expired(const struct mem_store *m, const struct mem_approval *a, const struct hp_transition *t)
{
	if (t->code && strcmp(t->code, "expired") == 0 && t->after.phase != HP_PH_UNDOING)
		return true;
	return t->after.visit != t->from_visit && *m->now >= a->deadline;
}

static void close_approval(struct mem_store *m, const struct hp_transition *t)
{
	struct mem_approval *a = mem_approval_of(&m->w, t->run_id, t->from_visit);

	if (!a || a->status != MEM_OPEN)
		return;
	a->status = expired(m, a, t) ? MEM_EXPIRED : MEM_CLOSED;
	a->decided_at = *m->now;
}

/* A business key is unique within "connector.operation" of the request it is for. */
static struct hp_bytes scope_of(struct mem_store *m, const struct hp_transition *t)
{
	json_t *request = hp_json_parse(t->request.p, t->request.n, "request", NULL);
	const char *connector = hp_json_str(request, "connector");
	const char *operation = hp_json_str(request, "operation");
	char scope[2 * HP_NAME_MAX + 2];

	snprintf(scope, sizeof scope, "%s.%s", connector ? connector : "", operation ? operation : "");
	json_decref(request);
	return mem_intern_s(m, scope);
}

/* May it go on under a key that is in the table? Who holds it may. Another may who was told
 * of that very admission (told: what its row had been given) and has since found out that
 * nothing came of it. Both are a new admission to whoever was told before. */
static bool holds(struct mem_store *m, struct mem_effect *e, const struct hp_transition *t, int64_t told)
{
	bool mine = e->run == t->run_id && e->visit == t->after.visit;

	if (t->after.unresolved || !(mine || HP_GUARD(effect_told, told == e->first_sent_at)))
		return mine;
	e->run = t->run_id;
	e->visit = t->after.visit;
	e->first_sent_at = *m->now > e->first_sent_at ? *m->now : e->first_sent_at + 1;
	return true;
}

/* Returns when a business key that another run or visit holds was first sent, else 0. */
static int64_t put_effect(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, int64_t told)
{
	struct hp_bytes scope;
	struct mem_effect *e;

	if (!t->admits)
		return 0;
	r->request = mem_intern(m, t->request);
	r->effect_key = mem_intern(m, t->effect_key);
	if (!t->business_key)
		return 0;
	scope = scope_of(m, t);
	MEM_EACH(&m->w, T_EFFECT, struct mem_effect, known) {
		if (!mem_same(known->key, t->effect_key) || !mem_same(known->scope, scope))
			continue;
		if (holds(m, known, t, told))
			return 0;
		r->row.first_sent_at = known->first_sent_at;
		return known->first_sent_at;
	}
	e = mem_add(&m->w, T_EFFECT);
	e->scope = scope;
	e->key = r->effect_key;
	e->run = r->row.id;
	e->visit = r->row.visit;
	e->first_sent_at = *m->now;
	return 0;
}

/* The row itself. The flags belong to the doors: a commit never clears them. */
static void put_row(struct mem_store *m, struct mem_run *r, const struct hp_transition *t)
{
	bool cancel = r->row.cancel, pause = r->row.pause;

	r->row = t->after;
	r->row.epoch = t->epoch;
	r->row.rev = t->rev + 1;
	r->row.cancel = cancel || t->after.cancel;
	r->row.pause = pause && t->disposition != HP_FINISH;
	r->updated_at = *m->now;
	r->message = mem_intern_s(m, t->message);
	if (t->after.command == HP_CMD_NONE)
		r->command_value = (struct hp_bytes){ NULL, 0 };
	if (t->disposition == HP_FINISH) {
		r->finished_at = *m->now;
		r->result = mem_intern(m, t->result);
	}
}

static void put_history(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t)
{
	struct mem_history *h = mem_log(m, r, t->move, NULL, t->message);

	h->from_state = t->from_state;
	h->from_visit = t->from_visit;
	h->outcome = t->outcome;
	h->code = mem_intern_s(m, t->code);
	h->admits = t->admits;
	h->in_sql = t->in_sql;
}

/* Is a state known to do no more than look? */
static bool only_reads(const struct mem_store *m, const struct mem_run *r, int32_t state)
{
	json_t *s = mem_state_json(&m->w, r, state);
	/* an undo is no effect of its own */
	bool read = hp_json_bool(s, "read", 0) || json_object_get(s, "undoes");

	json_decref(s);
	return read;
}

/* An admitted visit left nothing behind when it was admitted once and refused for good. */
static bool refused_for_good(const struct mem_store *m, const struct mem_history *h)
{
	int admissions = 0;
	bool refused = false;

	MEM_EACH(&m->w, T_HISTORY, struct mem_history, o) {
		if (o->run != h->run)
			continue;
		admissions += o->admits && o->visit == h->visit;
		refused = refused || (o->from_visit == h->visit && o->rev > h->rev &&
				      o->outcome == HP_TERMINAL);
	}
	return admissions == 1 && refused;
}

/* May the key of a run that failed or was cancelled be used again? Only when nothing it
 * did can still be live. */
bool mem_without_live_effects(const struct mem_store *m, const struct mem_run *r)
{
	if (r->row.unresolved || !mem_children_without_effects(m, r))
		return false;
	MEM_EACH(&m->w, T_HISTORY, struct mem_history, h) {
		if (h->run != r->row.id || (!h->admits && !h->in_sql))
			continue;
		if (only_reads(m, r, h->admits ? h->state : h->from_state) ||
		    mem_undone(m, r->row.id, h->admits ? h->visit : h->from_visit))
			continue;
		if (h->in_sql || !refused_for_good(m, h))
			return false;
	}
	return true;
}

static void free_key(struct mem_store *m, const struct mem_run *r)
{
	if (r->row.status != HP_FAILED && r->row.status != HP_CANCELLED)
		return;
	MEM_EACH(&m->w, T_KEY, struct mem_key, k)
		if (k->run == r->row.id && mem_without_live_effects(m, r))
			k->freed = true;
}

/* The owner stops because of a pause that somebody has ended since. (Its move is that of
 * entering a state where it does both.) */
static bool resumed_since(const struct hp_transition *t, const struct hp_run *row)
{
	return t->after.pause && !row->pause && (row->status != HP_HELD || row->command != HP_CMD_NONE);
}

/* A parked run belongs to nobody. What came while it was still ours wakes it at once:
 * an event, a due time that has passed, a cancel or a resume that its owner had not seen. */
static void dispose(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, bool cancel)
{
	const struct hp_run *row = &r->row;
	int32_t index;

	if (t->disposition == HP_KEEP)
		return;
	r->engine = 0;
	r->token[0] = 0;
	r->ready = false;
	if (t->disposition == HP_FINISH) {
		free_key(m, r);
		mem_leave_starts(m, r->row.id, NULL);
		return;
	}
	if ((row->due_at > 0 && row->due_at <= *m->now && !row->pause) ||
	    (row->status != HP_HELD && cancel && !t->after.cancel) || resumed_since(t, row) ||
	    (!row->pause && mem_family_calls(m, r)) ||
	    (row->status == HP_WAITING && !row->pause && (row->phase == HP_PH_OPEN || row->phase == HP_PH_JOINING) &&
	     mem_mail_first(m, r, &index)))
		mem_ready(m, r);
}

/* Entering tells how the state before ended: the refusal is a note beside it. */
static void note_refusal(struct mem_store *m, const struct mem_run *r, const struct mem_refusal *refused)
{
	struct mem_history *h = mem_log(m, r, HP_MOVE_GATED, NULL, refused->message);

	h->seq = 1;
	h->code = mem_intern_s(m, refused->code);
}

static void apply(struct mem_store *m, struct mem_run *r, const struct hp_transition *t,
		  const struct mem_refusal *refused, struct hp_commit_result *res)
{
	bool moved = t->after.visit != t->from_visit || t->disposition == HP_FINISH;
	int64_t told = t->after.visit == t->from_visit ? r->row.first_sent_at : 0;

	res->pause = r->row.pause;
	if (t->consume_mail > 0)
		mem_mail_consume(m, r, t->consume_mail);
	if (t->approval_closes)
		close_approval(m, t);
	put_row(m, r, t);
	if (!t->quiet)
		put_history(m, r, t);
	if (refused->code && t->move != HP_MOVE_GATED)
		note_refusal(m, r, refused);
	put_saves(m, t);
	if (moved || t->wait_keys.p)
		mem_remove_if(&m->w, T_WAIT, wait_of, r->row.id);
	if (t->wait_keys.p)
		put_waits(m, r, t->wait_keys);
	if (t->approval.n)
		put_approval(m, r, t);
	mem_annex_put(m, t);
	r = mem_run_find(&m->w, t->run_id); /* it may be elsewhere now */
	res->first_sent_at = put_effect(m, r, t, told);
	mem_gated(m, r, refused);
	res->cancel = r->row.cancel || mem_told_to_end(m, r);
	dispose(m, r, t, res->cancel);
	r = mem_run_find(&m->w, t->run_id);
	if (t->disposition == HP_FINISH && r->awaited)
		mem_child_ended(m, r);
}

/* The gates in turn, and then the signature: what is refused sends nothing that could be
 * unsigned. */
static int pass(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t, struct hp_error *err,
		struct mem_refusal *refused)
{
	mem_gate(m, r, t, refused);
	mem_limits_leave(m, t);
	if (refused->code)
		return 0;
	mem_limits_gate(m, t, refused);
	if (refused->code)
		mem_breaker_forget(m, r->row.id);
	return refused->code ? 0 : check_signed(m, t, err);
}

/* A row that cannot be written leaves no place taken and no breaker changed. */
static int admit_or_refuse(struct mem_store *m, struct mem_run *r, const struct hp_transition *t,
			   struct hp_error *err, struct hp_commit_result *res)
{
	const bool may_fail = t->admits && t->sends_signed;
	struct hp_transition as = *t;
	struct mem_refusal refused;
	struct mem_world before;
	int rc;

	if (check(m, t, err) < 0)
		return -1;
	mem_world_init(&before);
	if (may_fail)
		mem_world_copy(&before, &m->w);
	rc = pass(m, r, t, err, &refused);
	if (rc < 0) {
		mem_world_free(&m->w);
		m->w = before;
		return -1;
	}
	mem_world_free(&before);
	if (refused.code)
		hp_transition_refuse(&as, &r->row, refused.due_at, refused.code, refused.message);
	snprintf(res->gated, sizeof res->gated, "%s", refused.code ? refused.code : "");
	apply(m, r, &as, &refused, res);
	return 0;
}

/* One transition as its own transaction. token: NULL, or what a `sql` state proves
 * its ownership with. */
static void one(struct mem_store *m, const struct hp_transition *t, const char *token,
		struct mem_answer *an, struct hp_commit_result *res)
{
	struct mem_run *r = mem_run_find(&m->w, t->run_id);
	struct hp_error err = { 0 }, *kept;

	if (!r || !HP_GUARD(final_row, !hp_status_final(r->row.status)) || !HP_GUARD(epoch, r->row.epoch == t->epoch) ||
	    !HP_GUARD(rev, r->row.rev == t->rev)) {
		res->outcome = HP_COMMIT_CONFLICT;
		return;
	}
	if (token && !HP_GUARD(token, hp_equal_ct(token, strlen(token), r->token, strlen(r->token))))
		hp_fail(&err, HP_E_FORBIDDEN, "run %lld: this worker does not hold its lease",
			(long long)t->run_id);
	if (err.code == HP_OK && admit_or_refuse(m, r, t, &err, res) == 0) {
		res->outcome = HP_COMMIT_OK;
		return;
	}
	kept = mem_keep_alloc(an, sizeof *kept);
	*kept = err;
	res->outcome = HP_COMMIT_REFUSED;
	res->error = kept;
}

/* Returns whether the answer is to be kept back. wrote: whatever is told of it. */
static bool fated(struct mem_store *m, const struct hp_transition *t, const char *token,
		  struct mem_answer *an, struct hp_commit_result *res, bool *wrote)
{
	enum hp_mem_fate fate = m->fate ? m->fate(m->fate_arg, t) : HP_MEM_TRY;

	*wrote = false;
	if (fate == HP_MEM_CONFLICT || fate == HP_MEM_FAIL) {
		res->outcome = fate == HP_MEM_FAIL ? HP_COMMIT_UNKNOWN : HP_COMMIT_CONFLICT;
		return false;
	}
	one(m, t, token, an, res);
	*wrote = res->outcome == HP_COMMIT_OK;
	if (fate == HP_MEM_ACK_LOST) {
		memset(res, 0, sizeof *res);
		res->outcome = HP_COMMIT_UNKNOWN;
	}
	return fate == HP_MEM_LATE;
}

/* By ascending id of the run, as rows are locked. */
static int *in_order(struct mem_answer *an, const struct hp_transition *const *t, int n)
{
	int *order = mem_keep_alloc(an, (size_t)n * sizeof *order);

	for (int i = 0; i < n; i++) {
		int at = i;

		for (; at > 0 && t[order[at - 1]]->run_id > t[i]->run_id; at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
	return order;
}

static bool commit_all(struct mem_store *m, const struct hp_transition *const *t, int n,
		       const char *token, hp_commit_cb cb, void *arg)
{
	struct mem_answer *an = mem_answer(m, A_COMMIT, arg);
	struct hp_commit_result *res = mem_keep_alloc(an, (size_t)n * sizeof *res);
	const int *order = in_order(an, t, n);
	bool late = false, written = true;

	an->cb.commit = cb;
	an->result = res;
	an->n = n;
	for (int k = 0; k < n; k++) {
		const int i = order[k];
		bool wrote;

		late = fated(m, t[i], token, an, &res[i], &wrote) || late;
		written = written && wrote;
	}
	if (late) {
		hp_list_del(&an->link);
		hp_list_add_tail(&m->late, &an->link);
	}
	return written;
}

void mem_commit(struct hp_store *s, const struct hp_transition *const *t, int n, hp_commit_cb cb,
		void *arg)
{
	commit_all(mem_of(s), t, n, NULL, cb, arg);
}

/* ---- sql states ---- */

void mem_sql_run(struct hp_store *s, const struct hp_sql_state *st, hp_sql_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_SQL, arg);
	struct hp_sql_rows *rows = mem_keep_alloc(an, sizeof *rows);
	struct hp_sql_tx *tx;

	an->cb.sql = cb;
	an->result = rows;
	if (!m->has_sql) {
		rows->outcome = HP_TERMINAL;
		rows->code = "no_sql";
		rows->message = "the in-memory store has no SQL: set a hook with hp_mem_set_sql()";
		return;
	}
	m->sql.run(m->sql.arg, st, rows);
	rows->tx = NULL;
	if (rows->outcome != HP_CLASS_OK)
		return;
	tx = hp_calloc(1, sizeof *tx);
	HP_ASSERT(tx);
	tx->run = st->run_id;
	tx->epoch = st->epoch;
	hp_list_add_tail(&m->txs, &tx->link);
	rows->tx = tx;
}

static void tx_end(struct mem_store *m, struct hp_sql_tx *tx, bool committed)
{
	hp_list_del(&tx->link);
	if (m->has_sql && m->sql.end)
		m->sql.end(m->sql.arg, tx->run, committed);
	hp_free(tx);
}

void mem_sql_commit(struct hp_store *s, struct hp_sql_tx *tx, const char *token,
		    const struct hp_transition *t, hp_commit_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	bool written = commit_all(m, &t, 1, token ? token : "", cb, arg);

	tx_end(m, tx, written);
}

void mem_sql_abort(struct hp_store *s, struct hp_sql_tx *tx)
{
	if (tx)
		tx_end(mem_of(s), tx, false);
}

/* Whoever had them open died: the database rolls them back. */
void mem_sql_free_all(struct mem_store *m)
{
	while (!hp_list_empty(&m->txs))
		tx_end(m, hp_list_entry(m->txs.next, struct hp_sql_tx, link), false);
}
