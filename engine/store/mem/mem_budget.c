/* mem_budget.c: limits of calls: the gate that admissions with demands pass, and what a
 * visit gives back when it ends. The twin of 0019_budgets.sql.
 */
#include <stdio.h>
#include <string.h>

#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define BYTES(b) (int)(b).n, (b).p ? (b).p : ""

/* ---- budgets ---- */

static struct mem_budget *find_budget(const struct mem_store *m, struct hp_bytes name)
{
	MEM_EACH(&m->w, T_BUDGET, struct mem_budget, b)
		if (mem_same(b->name, name))
			return b;
	return NULL;
}

int mem_budgets_check(const struct mem_store *m, const char *workflow, const json_t *summary, struct hp_error *err)
{
	const json_t *state, *declared = json_object_get(summary, "budgets");
	size_t i;

	json_array_foreach(json_object_get(summary, "states"), i, state) {
		const char *name = hp_json_str(state, "budget");

		if (!name || json_object_get(declared, name) || find_budget(m, hp_bytes_of(name)))
			continue;
		return hp_fail(err, HP_E_INVALID, "workflow \"%s\" spends of the budget \"%s\", which nobody has set", workflow,
			       name);
	}
	return 0;
}

static int64_t window_of(const struct mem_limiter *l, int64_t at) { return hp_window_start(at, l->quota.per_us); }

/* What permits of the window that begins at `window` amount to. */
static int64_t promised(const struct mem_store *m, int32_t limiter, int64_t window)
{
	const struct mem_limiter *l = mem_limiter_at(m, limiter);
	int64_t sum = 0;

	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->run && p->limiter == limiter && window_of(l, p->at) == window)
			sum += p->amount;
	return sum;
}

static void roll(struct mem_store *m, int32_t limiter)
{
	struct mem_limiter *l = mem_limiter_at(m, limiter);

	if (hp_budget_rolls(&l->quota, &l->meter, *m->now))
		hp_budget_roll(&l->quota, &l->meter, promised(m, limiter, window_of(l, *m->now)), *m->now);
}

/* Takes back what one of them was promised; NULL: nobody was. */
static struct mem_run *take_back(struct mem_store *m, int32_t limiter)
{
	struct mem_permit *first = NULL;
	int64_t run;

	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->run && p->limiter == limiter && p->at > *m->now && (!first || mem_permit_before(p, first)))
			first = p;
	if (!first)
		return NULL;
	run = first->run;
	first->run = 0;
	return mem_run_find(&m->w, run);
}

/* A new limit counts at once. Those who wait come again and are counted anew. */
static void budget_changed(struct mem_store *m, int32_t limiter, const struct hp_quota *quota)
{
	struct mem_limiter *l = mem_limiter_at(m, limiter);
	struct mem_run *r;
	int64_t used;

	roll(m, limiter);
	used = hp_budget_used(&l->quota, &l->meter, *m->now);
	while ((r = take_back(m, limiter)) != NULL)
		mem_ready(m, r);
	mem_permits_sweep(m);
	l->quota = *quota;
	hp_budget_carry(quota, &l->meter, used, *m->now);
}

/* One that a workflow does not declare any more stays: runs of older versions spend of it,
 * and so may other workflows. */
void mem_put_budgets(struct mem_store *m, const char *workflow, const json_t *summary)
{
	const struct hp_bytes by = mem_intern_s(m, workflow);
	const char *name;
	json_t *v;

	json_object_foreach(json_object_get(summary, "budgets"), name, v) {
		struct mem_budget *b = find_budget(m, hp_bytes_of(name));
		const struct hp_quota q = { hp_json_int(v, "max", 1), hp_json_int(v, "per_us", 1), hp_json_int(v, "max", 1),
					    hp_json_bool(v, "bucket", 0) };

		if (!b) {
			struct hp_bytes kept = mem_intern_s(m, name);

			b = mem_add(&m->w, T_BUDGET);
			b->name = kept;
		} else if (mem_same(b->by, by) && b->quota.max == q.max && b->quota.per_us == q.per_us &&
			   b->quota.bucket == q.bucket) {
			continue;
		}
		b->by = by;
		b->quota = q;
		for (int32_t i = 0; i < (int32_t)mem_count(&m->w, T_LIMITER); i++)
			if (mem_same(mem_limiter_at(m, i)->kind, hp_bytes_of("budget")) &&
			    mem_same(mem_limiter_at(m, i)->name, b->name))
				budget_changed(m, i, &q);
	}
}

/* ---- leaving ---- */

/* The first who waits for a later window than that one and has enough of `amount`. */
static struct mem_permit *first_behind(const struct mem_store *m, int32_t limiter, int64_t window, int64_t amount)
{
	const struct mem_limiter *l = mem_limiter_at(m, limiter);
	struct mem_permit *first = NULL;

	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->run && p->limiter == limiter && p->at >= window + l->quota.per_us && p->amount <= amount &&
		    (!first || mem_permit_before(p, first)))
			first = p;
	return first;
}

/* `amount` of a window is free: for those who wait for later ones. They are woken, and
 * wait on if that window is not the present one. */
static void hand_on(struct mem_store *m, int32_t limiter, int64_t window, int64_t amount)
{
	struct mem_limiter *l = mem_limiter_at(m, limiter);
	struct mem_permit *p;

	while (window >= l->meter.now_at && amount > 0 && (p = first_behind(m, limiter, window, amount)) != NULL) {
		hp_budget_give_back(&l->quota, &l->meter, p->amount, p->at);
		hp_budget_give_back(&l->quota, &l->meter, -p->amount, window);
		p->at = window > *m->now ? window : *m->now;
		amount -= p->amount;
		mem_ready(m, mem_run_find(&m->w, p->run));
	}
	if (l->meter.at > l->meter.now_at && l->meter.used <= 0) { /* nobody waits for the last one any more */
		l->meter.at = l->meter.now_at;
		MEM_EACH(&m->w, T_PERMIT, struct mem_permit, q)
			if (q->run && q->limiter == limiter && window_of(l, q->at) > l->meter.at)
				l->meter.at = window_of(l, q->at);
		l->meter.used = l->meter.at == l->meter.now_at ? l->meter.now_used : promised(m, limiter, l->meter.at);
	}
}

static void leave(struct mem_store *m, struct mem_permit *p, const char *end)
{
	struct mem_limiter *l = mem_limiter_at(m, p->limiter);
	bool budget = strcmp(l->kind.p, "budget") == 0;
	int32_t limiter = p->limiter;
	int64_t at = p->at, amount = p->amount;

	if (budget)
		roll(m, limiter);
	if (budget && strcmp(end, "slots") == 0)
		return;
	if (strcmp(l->kind.p, "slots") == 0) {
		mem_permit_drop(m, p);
		return;
	}
	p->run = 0;
	if (!budget || (strcmp(end, "return") != 0 && at <= *m->now))
		return;
	if (l->quota.bucket) {
		hp_budget_give_back(&l->quota, &l->meter, amount, at);
		return;
	}
	hp_budget_give_back(&l->quota, &l->meter, amount, at);
	hand_on(m, limiter, window_of(l, at), amount);
}

static void leave_visit(struct mem_store *m, int64_t run, int32_t visit, const char *end)
{
	int64_t next;

	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p)
		if (p->run == run && p->visit == visit && visit > 0)
			leave(m, p, end);
	mem_permits_sweep(m);
	for (int32_t i = 0; i < (int32_t)mem_count(&m->w, T_LIMITER); i++)
		while (strcmp(mem_limiter_at(m, i)->kind.p, "slots") == 0 && (next = mem_admit_waiting(m, i)) != 0)
			mem_ready(m, mem_run_find(&m->w, next));
}

/* ---- asking ---- */

struct demand {
	const char *kind;
	struct hp_bytes name, key;
	int64_t amount;
	struct hp_quota quota;
	bool parks;
};

static int read_demand(const struct mem_store *m, const json_t *d, struct demand *out)
{
	const struct mem_budget *b;
	const char *over = hp_json_str(d, "over"), *key = hp_json_str(d, "key");

	out->kind = hp_json_str(d, "kind");
	out->name = hp_bytes_of(hp_json_str(d, "name"));
	out->key = hp_bytes_of(key ? key : "");
	out->amount = hp_json_int(d, "amount", 1);
	out->parks = !over || strcmp(over, "park") == 0;
	out->quota = (struct hp_quota){ hp_json_int(d, "max", 1), hp_json_int(d, "per_us", 0), hp_json_int(d, "burst", 1),
					strcmp(out->kind, "rate") == 0 };
	if (strcmp(out->kind, "budget") != 0)
		return 0;
	b = find_budget(m, out->name);
	out->quota = b ? b->quota : (struct hp_quota){ 0 };
	return b ? 0 : -1;
}

/* used: of slots, how many are taken. */
static void refuse(struct mem_refusal *out, const struct demand *d, const char *code, int64_t due_at, int64_t used)
{
	const long long max = d->quota.max;
	char per[32];

	out->code = code;
	out->kind = d->kind;
	out->name = d->name;
	out->due_at = due_at;
	if (max == 0)
		snprintf(out->message, sizeof out->message, "nobody has set the budget %.*s", BYTES(d->name));
	else if (d->amount > max)
		snprintf(out->message, sizeof out->message, "it asks for %lld of the budget %.*s, which has %lld",
			 (long long)d->amount, BYTES(d->name), max);
	else if (strcmp(d->kind, "budget") == 0)
		snprintf(out->message, sizeof out->message, "the budget %.*s of %lld is used up", BYTES(d->name), max);
	else if (strcmp(d->kind, "rate") == 0)
		snprintf(out->message, sizeof out->message, "no more than %lld in %s s of %.*s", max,
			 mem_say_seconds(d->quota.per_us, per), BYTES(d->name));
	else
		snprintf(out->message, sizeof out->message, "%lld of %lld calls of %.*s are going", (long long)used, max,
			 BYTES(d->name));
}

/* One limiter for one admission; out->code NULL: it may go. */
static void ask(struct mem_store *m, const struct hp_transition *t, const struct demand *d, struct mem_refusal *out)
{
	bool rate = strcmp(d->kind, "rate") == 0;
	int32_t i = mem_limiter(m, d->kind, d->name, d->key, &d->quota);
	struct mem_permit *p = mem_permit(m, t->run_id, t->after.visit, i);
	int64_t at;

	if (strcmp(d->kind, "slots") == 0) {
		if (!mem_take_slot(m, i, t->run_id, t->after.visit, *m->now))
			refuse(out, d, "slots", 0, mem_limiter_at(m, i)->meter.used);
		return;
	}
	if (strcmp(d->kind, "budget") == 0)
		roll(m, i);
	if (p && !HP_MUTANT(budget_once)) { /* the same visit pays once */
		if (p->at > *m->now)
			refuse(out, d, d->kind, p->at, 0);
		else if (rate)
			p->run = 0;
		return;
	}
	at = d->amount > d->quota.max ? -1
				      : hp_budget_take(&d->quota, &mem_limiter_at(m, i)->meter, d->amount, d->parks, *m->now);
	if (at < 0) {
		refuse(out, d, "over_budget", *m->now, 0);
		return;
	}
	if (!HP_GUARD(budget, at <= *m->now))
		refuse(out, d, d->kind, at, 0);
	else if (rate)
		return;
	p = mem_add(&m->w, T_PERMIT);
	*p = (struct mem_permit){ .run = t->run_id, .visit = t->after.visit, .limiter = i, .amount = d->amount, .at = at,
				  .rank = *m->now };
}

static void ask_all(struct mem_store *m, const struct hp_transition *t, const json_t *demands, struct mem_refusal *out)
{
	const json_t *x;
	size_t i;

	json_array_foreach(demands, i, x) {
		struct demand d;

		if (read_demand(m, x, &d) < 0)
			refuse(out, &d, "budget", *m->now + 60 * INT64_C(1000000), 0);
		else
			ask(m, t, &d, out);
		if (out->code) {
			out->name = mem_intern(m, out->name);
			out->kind = mem_intern_s(m, out->kind).p;
			out->code = mem_intern_s(m, out->code).p;
			break;
		}
	}
	mem_permits_sweep(m);
}

/* The annexes "limits" of a transition in turn, parsed; what is asked only when it admits. */
static json_t *limits_annex(const struct hp_transition *t, int i)
{
	const struct hp_annex *x = &t->annexes[i];

	return strcmp(x->kind, "limits") == 0 ? hp_json_parse(x->doc.p, x->doc.n, "limits", NULL) : NULL;
}

void mem_limits_leave(struct mem_store *m, const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++) {
		json_t *doc = limits_annex(t, i);
		const char *end = hp_json_str(doc, "end");

		if (end)
			leave_visit(m, t->run_id, t->from_visit, end);
		json_decref(doc);
	}
}

void mem_limits_gate(struct mem_store *m, const struct hp_transition *t, struct mem_refusal *out)
{
	for (int i = 0; i < t->n_annexes && t->admits && !out->code; i++) {
		json_t *doc = limits_annex(t, i);

		ask_all(m, t, json_object_get(doc, "demands"), out);
		json_decref(doc);
	}
}

int hp_mem_spend(struct hp_store *s, const char *budget, const char *key, int64_t amount, struct hp_error *err)
{
	struct mem_store *m = mem_of(s);
	const struct mem_budget *b = find_budget(m, hp_bytes_of(budget));
	int32_t i;

	if (!b)
		return hp_fail(err, HP_E_NOT_FOUND, "the workflow declares no budget \"%.60s\"", budget);
	i = mem_limiter(m, "budget", b->name, hp_bytes_of(key), &b->quota);
	roll(m, i);
	if (amount < 1 || amount > b->quota.max ||
	    hp_budget_take(&b->quota, &mem_limiter_at(m, i)->meter, amount, false, *m->now) < 0)
		return hp_fail(err, HP_E_INVALID, "so much of the budget \"%.60s\" is not there", budget);
	return 0;
}
