/* mem_limit.c: limiters and permits; the twin of 0013_limits.sql. Here what limits starts.
 *
 * A limiter is one limit for one key, a permit what a run has of it or waits for. Rows
 * are named by their places: adding one moves them.
 */
#include <string.h>

#include "base/clock.h"
#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define TURNS 64 /* runs of one key between their start and their first transition */

struct mem_limiter *mem_limiter_at(const struct mem_store *m, int32_t i)
{
	return mem_row(&m->w, T_LIMITER, (size_t)i);
}

int32_t mem_limiter(struct mem_store *m, const char *kind, struct hp_bytes name, struct hp_bytes key,
		    const struct hp_quota *q)
{
	struct mem_limiter *l = mem_row(&m->w, T_LIMITER, 0);
	int32_t n = (int32_t)mem_count(&m->w, T_LIMITER), i = 0;

	while (i < n && (!mem_same(l[i].kind, hp_bytes_of(kind)) || !mem_same(l[i].name, name) ||
			 !mem_same(l[i].key, key)))
		i++;
	if (i == n) {
		struct hp_bytes k = mem_intern_s(m, kind), nm = mem_intern(m, name), ky = mem_intern(m, key);

		l = mem_add(&m->w, T_LIMITER);
		l->kind = k;
		l->name = nm;
		l->key = ky;
	}
	mem_limiter_at(m, i)->quota = *q;
	return i;
}

struct mem_permit *mem_permit(const struct mem_store *m, int64_t run, int32_t visit, int32_t limiter)
{
	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->run == run && p->visit == visit && p->limiter == limiter)
			return p;
	return NULL;
}

bool mem_permit_before(const struct mem_permit *a, const struct mem_permit *b)
{
	if (a->at != b->at)
		return a->at < b->at;
	return a->rank != b->rank ? a->rank < b->rank : a->run < b->run;
}

static bool is_gone(const void *row, int64_t unused)
{
	(void)unused;
	return ((const struct mem_permit *)row)->run == 0;
}

void mem_permits_sweep(struct mem_store *m)
{
	mem_remove_if(&m->w, T_PERMIT, is_gone, 0);
}

/* Takes a slot or a place in the queue. */
bool mem_take_slot(struct mem_store *m, int32_t limiter, int64_t run, int32_t visit, int64_t rank)
{
	struct mem_permit *p = mem_permit(m, run, visit, limiter);
	struct mem_limiter *l;
	bool free;

	if (p)
		return p->at != MEM_QUEUED;
	p = mem_add(&m->w, T_PERMIT);
	l = mem_limiter_at(m, limiter);
	free = l->meter.used < l->quota.max && l->waiting == 0;
	*p = (struct mem_permit){ .run = run, .visit = visit, .limiter = limiter, .amount = 1,
				  .at = free ? *m->now : MEM_QUEUED, .rank = rank };
	if (!HP_GUARD(slots, free)) {
		l->waiting++;
		return false;
	}
	p->at = *m->now;
	l->meter.used++;
	return true;
}

/* The first of the queue gets a slot, if there is one; 0: nobody. */
int64_t mem_admit_waiting(struct mem_store *m, int32_t limiter)
{
	struct mem_limiter *l = mem_limiter_at(m, limiter);
	struct mem_permit *first = NULL;

	if (l->meter.used >= l->quota.max || l->waiting == 0)
		return 0;
	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->limiter == limiter && p->at == MEM_QUEUED &&
		    (!first || mem_permit_before(p, first)))
			first = p;
	HP_ASSERT(first);
	first->at = *m->now;
	l->meter.used++;
	l->waiting--;
	return first->run;
}

/* Marks a permit as gone and makes room for others; of a rate there is nothing to give back. */
void mem_permit_drop(struct mem_store *m, struct mem_permit *p)
{
	struct mem_limiter *l = mem_limiter_at(m, p->limiter);

	if (p->at == MEM_QUEUED)
		l->waiting--;
	else if (l->quota.per_us == 0)
		l->meter.used--;
	p->run = 0;
}

/* ---- starts ---- */

/* A template as the summary has it: texts, and paths into the input as lists. */
static void fill(const json_t *parts, const json_t *input, struct hp_buf *out)
{
	const json_t *part, *step;
	size_t i, k;

	json_array_foreach(parts, i, part) {
		const json_t *v = input;

		if (json_is_string(part)) {
			hp_buf_add(out, json_string_value(part), json_string_length(part));
			continue;
		}
		json_array_foreach(part, k, step)
			v = json_object_get(v, json_string_value(step));
		if (json_is_string(v))
			hp_buf_add(out, json_string_value(v), json_string_length(v));
		else if (v && !json_is_null(v))
			HP_ASSERT(hp_json_write(out, v, NULL) == 0);
	}
}

static int64_t priority_of(const json_t *limits, const json_t *input)
{
	const json_t *p = json_object_get(limits, "priority");
	int64_t n = json_integer_value(p);
	struct hp_buf b;

	if (!json_is_array(p))
		return n;
	hp_buf_init(&b, HP_INPUT_MAX * 2);
	fill(p, input, &b);
	n = b.n == 1 && b.p[0] >= '0' && b.p[0] <= '9' ? b.p[0] - '0' : 0;
	hp_buf_free(&b);
	return n;
}

static int32_t start_limiter(struct mem_store *m, const char *kind, struct hp_bytes name, const json_t *parts,
			     const json_t *input, const struct hp_quota *q)
{
	struct hp_buf key;
	int32_t i;

	hp_buf_init(&key, HP_INPUT_MAX * 2);
	fill(parts, input, &key);
	i = mem_limiter(m, kind, name, hp_buf_bytes(&key), q);
	hp_buf_free(&key);
	return i;
}

static struct hp_quota slots_of(int64_t max)
{
	return (struct hp_quota){ .max = max };
}

/* The run's instant among the starts of a rate; it gets one once. Without a queue there is none to
 * come from again: a run that starts at once leaves no permit. */
static int64_t take_start(struct mem_store *m, const struct mem_run *r, const json_t *limits, const json_t *input,
			  int64_t rank)
{
	const json_t *rate = json_object_get(limits, "rate");
	bool queues = json_object_get(limits, "exclusive") || json_object_get(limits, "concurrency") ||
		      json_object_get(limits, "fair");
	struct hp_quota q = { hp_json_int(rate, "max", 1), hp_json_int(rate, "per_us", 1), hp_json_int(rate, "burst", 1),
			      true };
	int32_t i = start_limiter(m, "start_rate", r->workflow, json_object_get(rate, "per"), input, &q);
	struct mem_permit *p = mem_permit(m, r->row.id, 0, i);
	int64_t at;

	if (p && !HP_MUTANT(start_once))
		return p->at;
	at = hp_budget_take(&q, &mem_limiter_at(m, i)->meter, 1, true, *m->now);
	if (at <= *m->now && !queues)
		return at;
	p = mem_add(&m->w, T_PERMIT);
	*p = (struct mem_permit){ .run = r->row.id, .limiter = i, .amount = 1, .at = at, .rank = rank };
	return at;
}

/* When the run may start: the instant; MEM_QUEUED: it stands in a queue. */
static int64_t start_at(struct mem_store *m, const struct mem_run *r, const json_t *limits, const json_t *input)
{
	const struct hp_bytes none = { NULL, 0 };
	const json_t *x = json_object_get(limits, "exclusive");
	int64_t rank = r->created_at - priority_of(limits, input) * HP_MINUTE, at;
	struct hp_quota one = slots_of(1), turns = slots_of(TURNS), q;

	if (x && !mem_take_slot(m, start_limiter(m, "exclusive", none, x, input, &one), r->row.id, 0, rank))
		return MEM_QUEUED;
	x = json_object_get(limits, "concurrency");
	q = slots_of(hp_json_int(x, "max", 0));
	if (x && !mem_take_slot(m, start_limiter(m, "start_slots", r->workflow, json_object_get(x, "per"), input, &q),
				r->row.id, 0, rank))
		return MEM_QUEUED;
	x = json_object_get(limits, "fair");
	if (x && !mem_take_slot(m, start_limiter(m, "turn", r->workflow, x, input, &turns), r->row.id, 0, rank))
		return MEM_QUEUED;
	x = json_object_get(limits, "rate");
	at = x ? take_start(m, r, limits, input, rank) : rank;
	return at > *m->now ? at : rank;
}

static json_t *limits_of(const struct mem_bundle *d)
{
	json_t *summary = d->limited ? hp_json_parse(d->summary.p, d->summary.n, "summary", NULL) : NULL;
	json_t *limits = json_incref(json_object_get(summary, "limits"));

	json_decref(summary);
	return limits;
}

/* When it may be claimed: now or before; else it waits, for an instant or in a queue. */
static int64_t startable(struct mem_store *m, struct mem_run *r)
{
	json_t *limits = limits_of(mem_bundle_of(&m->w, r));
	json_t *input = limits ? hp_json_parse(r->input.p, r->input.n, "input", NULL) : NULL;
	int64_t at = limits ? start_at(m, r, limits, input) : *m->now;

	json_decref(input);
	json_decref(limits);
	if (at > *m->now) {
		r->row.status = HP_WAITING;
		r->row.due_at = at == MEM_QUEUED ? 0 : at;
	} else {
		mem_ready(m, r);
	}
	return at;
}

/* True: it may be claimed at once. */
bool mem_start_limited(struct mem_store *m, struct mem_run *r)
{
	int64_t at = startable(m, r);

	if (at <= *m->now)
		r->ready_at = at;
	return at <= *m->now;
}

bool mem_not_started(const struct mem_store *m, const struct mem_run *r)
{
	if (r->row.status != HP_WAITING || r->row.visit != 1 || r->row.phase != HP_PH_ENTER || r->row.attempt != 0)
		return false;
	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->run == r->row.id && p->visit == 0)
			return true;
	return false;
}

/* As of now: it stood in its place in the queue already. One that is paused goes on when it
 * is resumed. */
void mem_go_on(struct mem_store *m, struct mem_run *r)
{
	if (!r->row.pause)
		startable(m, r);
}

/* For overlap = "skip": the run that has the exclusive, or stands first for it; 0: none. */
int64_t mem_overlapping(struct mem_store *m, const struct mem_bundle *d, struct hp_bytes input_text)
{
	const struct hp_bytes none = { NULL, 0 };
	json_t *limits = limits_of(d), *input;
	const char *overlap = hp_json_str(limits, "overlap");
	const struct mem_permit *first = NULL;
	struct hp_quota one = slots_of(1);
	int32_t i;

	if (!overlap || strcmp(overlap, "skip") != 0) {
		json_decref(limits);
		return 0;
	}
	input = hp_json_parse(input_text.p, input_text.n, "input", NULL);
	i = start_limiter(m, "exclusive", none, json_object_get(limits, "exclusive"), input, &one);
	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->limiter == i && (!first || p->at < first->at))
			first = p;
	json_decref(input);
	json_decref(limits);
	return first ? first->run : 0;
}

/* Gives back what a run has of its own: of one kind, or (NULL) all. Who stood behind it
 * goes on, maybe into the next queue. */
void mem_leave_starts(struct mem_store *m, int64_t run, const char *kind)
{
	int64_t next;

	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p) {
		if (p->run == run && p->visit == 0 &&
		    (!kind || mem_same(mem_limiter_at(m, p->limiter)->kind, hp_bytes_of(kind))))
			mem_permit_drop(m, p);
	}
	mem_permits_sweep(m);
	for (int32_t i = 0; i < (int32_t)mem_count(&m->w, T_LIMITER); i++) {
		const char *k = mem_limiter_at(m, i)->kind.p;

		if (strcmp(k, "slots") == 0)
			continue;
		while ((next = mem_admit_waiting(m, i)) != 0)
			mem_go_on(m, mem_run_find(&m->w, next));
	}
}
