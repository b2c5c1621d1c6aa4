/* mem_data.c: tables, interned bytes, and the lookups every file needs.
 *
 * Lookups scan: a simulated world is small, and a scan cannot be out of step with
 * what it indexes. Runs and approvals are numbered from 1 without gaps, so their
 * ids are their places.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/mem/mem_private.h"

static const size_t row_size[T__COUNT] = {
	[T_ENGINE] = sizeof(struct mem_engine),   [T_RUN] = sizeof(struct mem_run),
	[T_KEY] = sizeof(struct mem_key),         [T_EFFECT] = sizeof(struct mem_effect),
	[T_SAVED] = sizeof(struct mem_saved),     [T_HISTORY] = sizeof(struct mem_history),
	[T_APPROVAL] = sizeof(struct mem_approval), [T_VOTE] = sizeof(struct mem_vote),
	[T_WAIT] = sizeof(struct mem_wait),       [T_CURSOR] = sizeof(struct mem_cursor),
	[T_MAIL] = sizeof(struct mem_mail),       [T_INBOX] = sizeof(struct mem_inbox),
	[T_BUNDLE] = sizeof(struct mem_bundle),   [T_PRINCIPAL] = sizeof(struct mem_principal),
	[T_FAMILY] = sizeof(struct mem_family),   [T_CHILD] = sizeof(struct mem_child),
	[T_SCHEDULE] = sizeof(struct mem_schedule), [T_TICK] = sizeof(struct mem_tick),
	[T_BREAKER] = sizeof(struct mem_breaker), [T_BREAKER_LOG] = sizeof(struct mem_breaker_log),
	[T_BREAKER_COUNT] = sizeof(struct mem_breaker_count), [T_PROBE] = sizeof(struct mem_probe),
	[T_BUDGET] = sizeof(struct mem_budget),
	[T_LIMITER] = sizeof(struct mem_limiter), [T_PERMIT] = sizeof(struct mem_permit),
	[T_ARMS] = sizeof(struct mem_arms),
	[T_SECRET] = sizeof(struct mem_secret),   [T_SECRET_VERSION] = sizeof(struct mem_secret_version),
	[T_UNDO] = sizeof(struct mem_undo),       [T_UNWINDING] = sizeof(struct mem_unwinding),
	[T_SWEEP] = sizeof(struct mem_sweep), [T_SWEEP_FAILURE] = sizeof(struct mem_sweep_failure),
};

bool mem_same(struct hp_bytes a, struct hp_bytes b)
{
	return a.n == b.n && (a.n == 0 || a.p == b.p || memcmp(a.p, b.p, a.n) == 0);
}

int mem_compare(struct hp_bytes a, struct hp_bytes b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int c = n ? memcmp(a.p, b.p, n) : 0;

	return c ? c : (a.n > b.n) - (a.n < b.n);
}

static void vec_reserve(struct mem_vec *v, size_t n)
{
	size_t cap = v->cap ? v->cap : 8;

	if (n <= v->cap)
		return;
	while (cap < n)
		cap *= 2;
	v->p = hp_realloc(v->p, cap * v->size);
	HP_ASSERT(v->p);
	v->cap = cap;
}

/* FNV-1a: spreads entries, and stands for the bytes in a hash of the world. */
static uint64_t hash_of(struct hp_bytes b)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < b.n; i++)
		h = (h ^ (unsigned char)b.p[i]) * UINT64_C(1099511628211);
	return h;
}

static void pool_grow(struct mem_store *m)
{
	struct mem_vec old = m->pool_index;
	size_t cap = old.cap ? old.cap * 2 : 256;
	struct hp_bytes *slots = hp_calloc(cap, sizeof *slots), *was = old.p;

	HP_ASSERT(slots);
	for (size_t i = 0; i < old.cap; i++) {
		size_t at = was[i].n ? (size_t)hash_of(was[i]) & (cap - 1) : 0;

		if (!was[i].n)
			continue;
		while (slots[at].n)
			at = (at + 1) & (cap - 1);
		slots[at] = was[i];
	}
	hp_free(old.p);
	m->pool_index = (struct mem_vec){ slots, 0, cap, sizeof *slots };
}

struct hp_bytes mem_intern(struct mem_store *m, struct hp_bytes b)
{
	struct hp_bytes *slots;
	uint64_t hash, *head;
	size_t at;

	if (b.n == 0)
		return (struct hp_bytes){ NULL, 0 };
	if (m->pool_used * 2 >= m->pool_index.cap)
		pool_grow(m);
	slots = m->pool_index.p;
	hash = hash_of(b);
	at = (size_t)hash & (m->pool_index.cap - 1);
	while (slots[at].n) {
		if (mem_same(slots[at], b))
			return slots[at];
		at = (at + 1) & (m->pool_index.cap - 1);
	}
	head = hp_arena_alloc(m->pool, sizeof *head + b.n + 1);
	HP_ASSERT(head);
	*head = hash; /* mem_hash() */
	memcpy(head + 1, b.p, b.n);
	slots[at] = (struct hp_bytes){ (const char *)(head + 1), b.n };
	m->pool_used++;
	return slots[at];
}

struct hp_bytes mem_intern_s(struct mem_store *m, const char *s)
{
	return mem_intern(m, hp_bytes_of(s));
}

void *mem_add(struct mem_world *w, enum mem_table t)
{
	struct mem_vec *v = &w->t[t];
	char *row;

	vec_reserve(v, v->n + 1);
	row = (char *)v->p + v->n * v->size;
	memset(row, 0, v->size);
	v->n++;
	return row;
}

void mem_remove_if(struct mem_world *w, enum mem_table t, bool (*gone)(const void *row, int64_t id),
		   int64_t id)
{
	struct mem_vec *v = &w->t[t];
	size_t kept = 0;

	for (size_t i = 0; i < v->n; i++) {
		char *row = (char *)v->p + i * v->size;

		if (gone(row, id))
			continue;
		if (kept != i)
			memcpy((char *)v->p + kept * v->size, row, v->size);
		kept++;
	}
	v->n = kept;
}

void *mem_row(const struct mem_world *w, enum mem_table t, size_t i)
{
	const struct mem_vec *v = &w->t[t];

	return v->p ? (char *)v->p + i * v->size : NULL;
}

size_t mem_count(const struct mem_world *w, enum mem_table t)
{
	return w->t[t].n;
}

void mem_world_init(struct mem_world *w)
{
	memset(w, 0, sizeof *w);
	for (int i = 0; i < T__COUNT; i++)
		w->t[i].size = row_size[i];
}

void mem_world_copy(struct mem_world *to, const struct mem_world *from)
{
	for (int i = 0; i < T__COUNT; i++) {
		struct mem_vec *v = &to->t[i];

		vec_reserve(v, from->t[i].n);
		v->n = from->t[i].n;
		if (v->n)
			memcpy(v->p, from->t[i].p, v->n * v->size);
	}
}

/* The table becomes these rows. Returns what follows them. */
const char *mem_table_set(struct mem_world *w, enum mem_table t, const char *rows, size_t n)
{
	struct mem_vec *v = &w->t[t];

	v->n = n;
	if (n == 0)
		return rows;
	vec_reserve(v, n);
	memcpy(v->p, rows, n * v->size);
	return rows + n * v->size;
}

void mem_world_free(struct mem_world *w)
{
	for (int i = 0; i < T__COUNT; i++)
		hp_free(w->t[i].p);
	mem_world_init(w);
}

struct mem_run *mem_run_find(const struct mem_world *w, int64_t id)
{
	return id >= 1 && id <= (int64_t)mem_count(w, T_RUN) ? mem_row(w, T_RUN, (size_t)id - 1) : NULL;
}

struct mem_engine *mem_engine_find(const struct mem_world *w, int64_t id)
{
	return id >= 1 && id <= (int64_t)mem_count(w, T_ENGINE) ?
		       mem_row(w, T_ENGINE, (size_t)id - 1) : NULL;
}

struct mem_approval *mem_approval_find(const struct mem_world *w, int64_t id)
{
	return id >= 1 && id <= (int64_t)mem_count(w, T_APPROVAL) ?
		       mem_row(w, T_APPROVAL, (size_t)id - 1) : NULL;
}

/* The latest of that visit: a retried approval is opened anew. */
struct mem_approval *mem_approval_of(const struct mem_world *w, int64_t run, int32_t visit)
{
	struct mem_approval *found = NULL;

	MEM_EACH(w, T_APPROVAL, struct mem_approval, a)
		if (a->run == run && a->visit == visit)
			found = a;
	return found;
}

struct mem_bundle *mem_bundle_of(const struct mem_world *w, const struct mem_run *r)
{
	return mem_row(w, T_BUNDLE, (size_t)r->bundle);
}

json_t *mem_state_json(const struct mem_world *w, const struct mem_run *r, int32_t state)
{
	return json_incref(json_array_get(mem_bundle_of(w, r)->states, (size_t)state));
}

const char *mem_state_name(const struct mem_world *w, const struct mem_run *r, int32_t state,
			   char *buf, size_t n)
{
	json_t *s = mem_state_json(w, r, state);
	const char *name = hp_json_str(s, "name");

	if (name)
		snprintf(buf, n, "%s", name);
	else
		snprintf(buf, n, "%d", state);
	json_decref(s);
	return buf;
}

/* A history row for the run as it now is: call it after the row was changed. */
struct mem_history *mem_log(struct mem_store *m, const struct mem_run *r, enum hp_move move,
			    const char *by, const char *message)
{
	struct mem_history *h = mem_add(&m->w, T_HISTORY);

	h->run = r->row.id;
	h->at = *m->now;
	h->rev = r->row.rev;
	h->epoch = r->row.epoch;
	h->visit = h->from_visit = r->row.visit;
	h->state = h->from_state = r->row.state;
	h->attempt = r->row.attempt;
	h->move = move;
	h->by = mem_intern_s(m, by);
	h->message = mem_intern_s(m, message);
	return h;
}

/* Puts a run that nobody owns onto the ready list; an owner finds out by its rev. */
void mem_ready(struct mem_store *m, struct mem_run *r)
{
	if (r->engine || r->ready)
		return;
	r->ready = true;
	r->ready_at = *m->now;
}

json_t *mem_text_json(struct hp_bytes b)
{
	return b.n ? json_stringn(b.p, b.n) : json_null();
}

json_t *mem_parsed(struct hp_bytes b)
{
	json_t *v = b.n ? hp_json_parse(b.p, b.n, "stored value", NULL) : NULL;

	return v ? v : json_null();
}

struct hp_bytes mem_json_kept(struct mem_store *m, const json_t *v)
{
	struct hp_bytes kept = { NULL, 0 };
	struct hp_buf b;

	hp_buf_init(&b, HP_RUN_DATA_MAX);
	if (v && !json_is_null(v) && hp_json_write(&b, v, NULL) == 0)
		kept = mem_intern(m, hp_buf_bytes(&b));
	hp_buf_free(&b);
	return kept;
}

int mem_write_and_drop(json_t *v, struct hp_buf *out, struct hp_error *err)
{
	int rc = hp_json_write(out, v, err);

	json_decref(v);
	return rc;
}

static const struct mem_saved *latest_after(const struct mem_store *m, int64_t run, int32_t rev,
					    struct hp_bytes after, bool first)
{
	const struct mem_saved *best = NULL;

	MEM_EACH(&m->w, T_SAVED, struct mem_saved, v) {
		if (v->run != run || v->rev > rev || (!first && mem_compare(v->name, after) <= 0))
			continue;
		if (!best || mem_compare(v->name, best->name) <= 0)
			best = v; /* same name: the later row wins */
	}
	return best;
}

void mem_saved_json(const struct mem_store *m, int64_t run, int32_t rev, struct hp_buf *out)
{
	const struct mem_saved *v = latest_after(m, run, rev, (struct hp_bytes){ NULL, 0 }, true);
	bool first = true;

	hp_buf_addc(out, '{');
	for (; v; v = latest_after(m, run, rev, v->name, false)) {
		if (!first)
			hp_buf_addc(out, ',');
		first = false;
		hp_buf_json(out, v->name.p, v->name.n);
		hp_buf_addc(out, ':');
		hp_buf_add(out, v->value.p, v->value.n);
	}
	hp_buf_addc(out, '}');
}
