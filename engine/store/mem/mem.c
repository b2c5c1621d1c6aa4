/* mem.c: the in-memory store as an object.
 *
 * Every operation acts on the world at once, the way one transaction would, and puts
 * its answer into a queue; hp_store_ops.pump calls the callbacks. So the order of
 * calls is the order of commits, and a test decides when anybody hears of them.
 */
#include "store/mem/mem_private.h"

#include <string.h>

#include "base/alloc.h"

/* The rows of all tables, one table after the other. */
struct hp_mem_snapshot {
	size_t n[T__COUNT];
	char *rows;
	size_t cap;
};

/* ---- answers ---- */

static struct mem_answer *answer_new(struct mem_store *m)
{
	struct mem_answer *an;
	struct hp_arena *a;

	if (hp_list_empty(&m->spare)) {
		an = hp_calloc(1, sizeof *an);
		HP_ASSERT(an);
		an->a = hp_arena_new(MEM_ANSWER_MAX);
		HP_ASSERT(an->a);
		return an;
	}
	an = hp_list_entry(m->spare.next, struct mem_answer, link);
	hp_list_del(&an->link);
	a = an->a;
	memset(an, 0, sizeof *an);
	an->a = a;
	return an;
}

struct mem_answer *mem_answer(struct mem_store *m, enum mem_answer_kind kind, void *arg)
{
	struct mem_answer *an = answer_new(m);

	an->kind = kind;
	an->arg = arg;
	an->now = *m->now;
	hp_list_add_tail(&m->queue, &an->link);
	return an;
}

void *mem_keep_alloc(struct mem_answer *an, size_t n)
{
	void *p = hp_arena_alloc(an->a, n ? n : 1);

	HP_ASSERT(p);
	return p;
}

struct hp_bytes mem_keep(struct mem_answer *an, struct hp_bytes b)
{
	char *p;

	if (b.n == 0)
		return (struct hp_bytes){ NULL, 0 };
	p = mem_keep_alloc(an, b.n + 1);
	memcpy(p, b.p, b.n);
	return (struct hp_bytes){ p, b.n };
}

static void answer_free(struct mem_answer *an)
{
	hp_list_del(&an->link);
	hp_arena_free(an->a);
	hp_free(an);
}

static void answer_done(struct mem_store *m, struct mem_answer *an)
{
	if (!m->reuse) {
		answer_free(an);
		return;
	}
	hp_list_del(&an->link);
	hp_arena_reset(an->a);
	hp_list_add_tail(&m->spare, &an->link);
}

void hp_mem_reuse_answers(struct hp_store *s)
{
	mem_of(s)->reuse = true;
}

static void answer_call(const struct mem_answer *an)
{
	const struct hp_error *err = an->err.code == HP_OK ? NULL : &an->err;

	switch (an->kind) {
	case A_ENGINE:
		an->cb.engine(an->arg, err ? NULL : an->result, err);
		return;
	case A_ACK:
		an->cb.ack(an->arg, an->now, err);
		return;
	case A_CLAIM:
		an->cb.claim(an->arg, an->now, an->result, an->n, err);
		return;
	case A_COMMIT:
		an->cb.commit(an->arg, an->now, an->result, an->n);
		return;
	case A_START:
		an->cb.start(an->arg, an->now, err ? NULL : an->result, err);
		return;
	case A_INGEST:
		an->cb.ingest(an->arg, an->now, err ? NULL : an->result, err);
		return;
	case A_DOOR:
		an->cb.door(an->arg, an->json, err);
		return;
	case A_BUNDLE:
		an->cb.bundle(an->arg, an->result, an->n, err);
		return;
	case A_SQL:
		an->cb.sql(an->arg, an->now, an->result);
		return;
	}
	HP_ASSERT(0 && "unknown answer");
}

/* Only what was queued when it began: a callback's own calls wait for the next pump,
 * so a test can stop between any two. */
static int pump(struct hp_store *s)
{
	struct mem_store *m = mem_of(s);
	struct hp_list batch, *it;
	int n = 0;

	hp_list_init(&batch);
	while (!hp_list_empty(&m->queue)) {
		it = m->queue.next;
		hp_list_del(it);
		hp_list_add_tail(&batch, it);
	}
	while (!hp_list_empty(&batch)) {
		struct mem_answer *an = hp_list_entry(batch.next, struct mem_answer, link);

		answer_call(an);
		answer_done(m, an);
		n++;
	}
	return n;
}

static int drop_list(struct hp_list *l)
{
	int n = 0;

	for (; !hp_list_empty(l); n++)
		answer_free(hp_list_entry(l->next, struct mem_answer, link));
	return n;
}

int hp_mem_drop_answers(struct hp_store *s)
{
	struct mem_store *m = mem_of(s);

	mem_sql_free_all(m);
	return drop_list(&m->queue) + drop_list(&m->late);
}

int hp_mem_deliver_late(struct hp_store *s)
{
	struct mem_store *m = mem_of(s);
	int n = 0;

	for (; !hp_list_empty(&m->late); n++) {
		struct hp_list *it = m->late.next;

		hp_list_del(it);
		hp_list_add_tail(&m->queue, it);
	}
	return n;
}

static int list_length(const struct hp_list *l)
{
	int n = 0;

	for (const struct hp_list *it = l->next; it != l; it = it->next)
		n++;
	return n;
}

int hp_mem_pending(const struct hp_store *s)
{
	const struct mem_store *m = (const struct mem_store *)(const void *)s;

	return list_length(&m->queue) + list_length(&m->late);
}

/* ---- hooks ---- */

void hp_mem_set_fate(struct hp_store *s, hp_mem_fate_fn fn, void *arg)
{
	mem_of(s)->fate = fn;
	mem_of(s)->fate_arg = arg;
}

void hp_mem_set_sql(struct hp_store *s, const struct hp_mem_sql *sql)
{
	struct mem_store *m = mem_of(s);

	m->has_sql = sql != NULL;
	if (sql)
		m->sql = *sql;
}

void hp_mem_principal(struct hp_store *s, const char *principal, const char *kind,
		      const char *roles)
{
	struct mem_store *m = mem_of(s);
	struct mem_principal *found = NULL;

	MEM_EACH(&m->w, T_PRINCIPAL, struct mem_principal, p)
		if (mem_same(p->name, hp_bytes_of(principal)))
			found = p;
	if (!found)
		found = mem_add(&m->w, T_PRINCIPAL);
	found->name = mem_intern_s(m, principal);
	found->kind = mem_intern_s(m, kind);
	found->roles = mem_intern_s(m, roles);
}

void hp_mem_snapshot_again(struct hp_mem_snapshot *snap, const struct hp_store *s)
{
	const struct mem_vec *t = ((const struct mem_store *)(const void *)s)->w.t;
	size_t need = 0;
	char *to;

	for (int i = 0; i < T__COUNT; i++)
		need += t[i].n * t[i].size;
	if (need > snap->cap) {
		hp_free(snap->rows);
		snap->cap = need * 2;
		snap->rows = hp_alloc(snap->cap);
		HP_ASSERT(snap->rows);
	}
	to = snap->rows;
	for (int i = 0; i < T__COUNT; i++) {
		snap->n[i] = t[i].n;
		if (t[i].n == 0)
			continue;
		memcpy(to, t[i].p, t[i].n * t[i].size);
		to += t[i].n * t[i].size;
	}
}

struct hp_mem_snapshot *hp_mem_snapshot_take(const struct hp_store *s)
{
	struct hp_mem_snapshot *snap = hp_calloc(1, sizeof *snap);

	HP_ASSERT(snap);
	hp_mem_snapshot_again(snap, s);
	return snap;
}

void hp_mem_snapshot_restore(struct hp_store *s, const struct hp_mem_snapshot *snap)
{
	const char *from = snap->rows;

	for (int i = 0; i < T__COUNT; i++)
		from = mem_table_set(&mem_of(s)->w, (enum mem_table)i, from, snap->n[i]);
}

void hp_mem_snapshot_free(struct hp_mem_snapshot *snap)
{
	if (!snap)
		return;
	hp_free(snap->rows);
	hp_free(snap);
}

/* ---- definitions ---- */

static void deploy(struct hp_store *s, const struct hp_bundle *b, hp_ack_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_ACK, arg);
	struct mem_bundle *known = NULL;
	json_t *summary = hp_json_parse(b->summary.p, b->summary.n, "summary", &an->err);

	an->cb.ack = cb;
	if (!summary)
		return;
	if (mem_budgets_check(m, b->workflow, summary, &an->err) < 0) {
		json_decref(summary);
		return;
	}
	MEM_EACH(&m->w, T_BUNDLE, struct mem_bundle, d) {
		if (!mem_same(d->workflow, hp_bytes_of(b->workflow)))
			continue;
		d->current = false;
		if (memcmp(d->digest, b->digest, HP_SHA256_LEN) == 0)
			known = d;
	}
	if (!known) {
		known = mem_add(&m->w, T_BUNDLE);
		known->workflow = mem_intern_s(m, b->workflow);
		known->bundle = mem_intern(m, b->bundle);
		known->summary = mem_intern(m, b->summary);
		memcpy(known->digest, b->digest, HP_SHA256_LEN);
		known->states = json_object_get(summary, "states");
		known->triggers = json_object_get(summary, "triggers");
		json_array_append(m->summaries, summary);
	}
	known->current = true;
	known->limited = json_object_get(summary, "limits") != NULL;
	mem_put_budgets(m, b->workflow, summary);
	mem_put_schedules(m, known->workflow, summary);
	json_decref(summary);
}

static void bundle_fill(struct mem_answer *an, const struct mem_bundle *d, bool sources,
			struct hp_bundle *out)
{
	out->workflow = mem_keep(an, d->workflow).p;
	memcpy(out->digest, d->digest, HP_SHA256_LEN);
	if (sources)
		out->bundle = mem_keep(an, d->bundle);
	out->summary = mem_keep(an, d->summary);
}

static void bundle(struct hp_store *s, const uint8_t digest[HP_SHA256_LEN], hp_bundle_cb cb,
		   void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_BUNDLE, arg);
	struct hp_bundle *out = mem_keep_alloc(an, sizeof *out);
	char hex[HP_SHA256_HEX];

	an->cb.bundle = cb;
	MEM_EACH(&m->w, T_BUNDLE, struct mem_bundle, d) {
		if (an->n || memcmp(d->digest, digest, HP_SHA256_LEN) != 0)
			continue;
		bundle_fill(an, d, true, out);
		an->result = out;
		an->n = 1;
	}
	hp_hex(digest, HP_SHA256_LEN, hex);
	if (!an->n)
		hp_fail(&an->err, HP_E_NOT_FOUND, "no definition with digest %s is stored", hex);
}

static void current(struct hp_store *s, hp_bundle_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_BUNDLE, arg);
	struct hp_bundle *out = mem_keep_alloc(an, mem_count(&m->w, T_BUNDLE) * sizeof *out);

	an->cb.bundle = cb;
	an->result = out;
	MEM_EACH(&m->w, T_BUNDLE, struct mem_bundle, d)
		if (d->current)
			bundle_fill(an, d, false, &out[an->n++]);
}

/* ---- the object ---- */

static bool up(struct hp_store *s)
{
	return s != NULL;
}

static void store_free(struct hp_store *s)
{
	struct mem_store *m = mem_of(s);

	if (!s)
		return;
	hp_mem_drop_answers(s);
	drop_list(&m->spare);
	mem_world_free(&m->w);
	json_decref(m->summaries);
	hp_free(m->pool_index.p);
	hp_arena_free(m->pool);
	hp_free(m);
}

static const struct hp_store_ops ops = {
	.name = "mem",
	.free = store_free,
	.up = up,
	.engine_register = mem_engine_register,
	.heartbeat = mem_heartbeat,
	.engine_stop = mem_engine_stop,
	.claim = mem_claim,
	.reload = mem_reload,
	.release = mem_release,
	.commit = mem_commit,
	.start = mem_start,
	.ingest = mem_ingest,
	.door = mem_door,
	.deploy = deploy,
	.bundle = bundle,
	.current = current,
	.sql_run = mem_sql_run,
	.sql_commit = mem_sql_commit,
	.sql_abort = mem_sql_abort,
	.pump = pump,
};

struct hp_store *hp_store_mem_new(const int64_t *now, struct hp_error *err)
{
	struct mem_store *m = hp_calloc(1, sizeof *m);

	if (!m)
		goto no_memory;
	m->pool = hp_arena_new(MEM_POOL_MAX);
	m->summaries = json_array();
	if (!m->pool || !m->summaries)
		goto no_memory;
	m->base.ops = &ops;
	m->now = now;
	mem_world_init(&m->w);
	hp_list_init(&m->queue);
	hp_list_init(&m->late);
	hp_list_init(&m->txs);
	hp_list_init(&m->spare);
	return &m->base;
no_memory:
	if (m) {
		hp_arena_free(m->pool);
		json_decref(m->summaries);
	}
	hp_free(m);
	hp_fail(err, HP_E_NOMEM, "no memory for an in-memory store");
	return NULL;
}
