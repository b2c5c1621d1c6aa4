/* canon.c: the canonical hash of a state. Two states with the same hash have the same
 * future: whatever can happen in one can happen in the other, with the same verdicts.
 * docs/reliability.md says for each field that is left out why that is so. In short:
 *
 *   times      relative to now, and only where something still depends on them
 *   rev, epoch what a hand knows of a row: still its owner, still its last write; both
 *              only grow, and are only ever compared for equality
 *   engines    without their ids, in the order of their hashes: they are alike
 *   history    what freeing a key asks of it; all else is checked when it is written
 *   texts      of people (reasons, messages, who), tokens, saved values: nobody decides by them
 */
#include "explore.h"

#include <string.h>

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
	return h ^ (h >> 32);
}

static uint64_t rel(int64_t t)
{
	return t == 0 ? 0 : (uint64_t)(t - X.now) * 2 + 1; /* absent is another thing than now */
}

static uint64_t plain(uint64_t h, const char *p, size_t n)
{
	uint64_t word = 0;

	for (size_t i = 0; i < n; i++) {
		word = word << 8 | (unsigned char)p[i];
		if (i % 8 == 7)
			h = mix(h, word);
	}
	return mix(h, word ^ (uint64_t)n << 56);
}

/* A text of the machine's: times in it are relative, too. */
static uint64_t timed(uint64_t h, struct hp_bytes b)
{
	for (size_t i = 0; i < b.n;) {
		int64_t v = 0;
		size_t from = i;

		while (i < b.n && b.p[i] >= '0' && b.p[i] <= '9' && i - from < 18)
			v = v * 10 + (b.p[i++] - '0');
		if (i > from)
			h = mix(h, v > X_T0 / 2 ? rel(v) : (uint64_t)v);
		else
			h = mix(h, (unsigned char)b.p[i++]);
	}
	return mix(h, b.n != 0);
}

static uint64_t digest(uint64_t h, const uint8_t hash[HP_SHA256_LEN])
{
	uint64_t v;

	memcpy(&v, hash, sizeof v);
	return mix(h, v);
}

/* ---- a row ---- */

/* No world lasts an hour: what ends later than that never ends (search.c sees to it). */
static bool forgets(const struct hp_state *s)
{
	return s->call.op.repeat == HP_REPEAT_BY_KEY && s->call.op.window_us < HP_HOUR;
}

/* Which times of a visit does anybody still look at? */
static uint64_t times(uint64_t h, const struct hp_run *r, const struct hp_state *s)
{
	bool calls = s->kind == HP_CALL;
	bool waits = s->kind == HP_APPROVAL || s->kind == HP_WAIT || s->kind == HP_AWAIT || s->kind == HP_RUN || s->kind == HP_EACH;

	if (waits || s->retry.total_us > 0)
		h = mix(h, rel(r->entered_at));
	if (calls && forgets(s))
		h = mix(h, rel(r->first_sent_at));
	else
		h = mix(h, r->first_sent_at != 0);
	if (calls && s->call.has_probe)
		h = mix(h, rel(r->sent_at));
	return mix(h, rel(r->due_at));
}

static uint64_t row(uint64_t h, const struct hp_run *r, const struct hp_definition *d)
{
	uint64_t flags = (uint64_t)r->unresolved | (uint64_t)r->cancel << 1 | (uint64_t)r->pause << 2;

	h = mix(h, (uint64_t)r->visit << 40 | (uint64_t)r->state << 32 | (uint64_t)r->status << 24 | (uint64_t)r->phase << 16 |
			   (uint64_t)r->attempt << 8 | (uint64_t)r->failures);
	h = mix(h, flags | (uint64_t)(r->signed_visit ? r->signed_for + 1 : 0) << 32 | (uint64_t)r->signed_visit << 8 | (uint64_t)r->held_class << 16 | (uint64_t)r->command << 24);
	if (hp_status_final(r->status))
		return h;
	h = plain(h, r->code, strnlen(r->code, sizeof r->code));
	h = times(h, r, &d->states[r->state]);
	return digest(h, r->request_hash);
}

/* ---- what the machine is about to write, or waits for ---- */

static uint64_t transition(uint64_t h, const struct hp_transition *t, const struct hp_definition *d)
{
	uint64_t flags = (uint64_t)t->in_sql | (uint64_t)t->quiet << 1 | (uint64_t)t->admits << 2 |
			 (uint64_t)t->business_key << 3 | (uint64_t)t->sends_signed << 4 | (uint64_t)t->approval_closes << 5;

	h = row(h, &t->after, d);
	h = mix(h, flags << 32 | (uint64_t)t->move << 24 | (uint64_t)t->disposition << 16 | (uint64_t)t->from_state << 8 |
			   (uint64_t)t->from_visit);
	h = mix(h, (uint64_t)t->outcome << 32 | (uint64_t)t->consume_mail);
	h = plain(h, t->code ? t->code : "", t->code ? strlen(t->code) : 0);
	h = plain(h, t->request.p, t->request.n);
	h = plain(h, t->effect_key.p, t->effect_key.n);
	if (t->approval.n) {
		h = plain(h, t->approval.p, t->approval.n);
		h = mix(digest(h, t->approval_hash), rel(t->approval_deadline));
	}
	h = plain(h, t->wait_keys.p, t->wait_keys.n);
	for (int i = 0; i < t->n_annexes; i++)
		h = timed(plain(h, t->annexes[i].kind, strlen(t->annexes[i].kind)), t->annexes[i].doc);
	return h;
}

static uint64_t waiting(uint64_t h, const struct x_hand *x)
{
	const struct hp_machine *m = &x->m;

	h = plain(h, m->request.p, m->request.n);
	h = plain(h, m->key.p, m->key.n);
	h = mix(h, rel(x->act.leave_by));
	if (!x->act.arm)
		return mix(h, (uint64_t)x->act.probe);
	h = mix(h, (uint64_t)m->wait.arm << 32 | (uint64_t)m->wait.reminded << 16 | (uint64_t)m->wait.notes);
	h = mix(h, rel(m->wait.due));
	for (int i = 0; i < x_flow_of(x_run(x->run))->def.states[m->run.state].n_arms; i++)
		h = mix(mix(h, rel(m->wait.clocks[i].due)), (uint64_t)m->wait.clocks[i].failures);
	return h;
}

static uint64_t hand(const struct x_hand *x)
{
	const struct mem_run *r = x_run(x->run);
	const struct hp_definition *d = &x_flow_of(r)->def;
	const struct hp_machine *m = &x->m;
	bool owner = r->row.epoch == x->epoch;
	uint64_t h = mix((uint64_t)x->at, (uint64_t)x->run << 8 | (uint64_t)owner);

	if (x->at == AT_RELOAD) /* all that was known is forgotten */
		return h;
	h = mix(h, (uint64_t)(owner && r->row.rev == (x->at == AT_WRITTEN ? m->t.after.rev : m->run.rev)));
	h = mix(h, (uint64_t)x->refusals << 8 | (uint64_t)m->mode);
	h = row(h, &m->run, d);
	h = timed(h, x->annex);
	h = mix(h, (uint64_t)m->undo.entry << 16 | (uint64_t)m->undo.left << 8 | (uint64_t)m->undo.ends);
	h = mix(h, (uint64_t)(x->signed_request.n > 0));
	if (x->at == AT_WRITTEN)
		h = mix(mix(h, (uint64_t)x->res.outcome << 8 | (uint64_t)x->res.cancel << 2 | (uint64_t)x->res.pause << 1 |
				       (uint64_t)x->res.gated), rel(x->res.first_sent_at));
	if (x->at == AT_COMMIT && owner && r->row.rev != m->t.rev)
		h = mix(h, (uint64_t)x_looks_written(x));
	if (x->at == AT_COMMIT || x->at == AT_WRITTEN)
		return transition(h, &m->t, d);
	return waiting(row(h, &m->t.after, d), x);
}

static uint64_t request(const struct x_request *r)
{
	uint64_t h = mix((uint64_t)r->replying << 3 | (uint64_t)r->probe << 2 | (uint64_t)r->check << 1,
			 (uint64_t)r->run << 16 | (uint64_t)r->visit << 8 | (uint64_t)r->state);

	h = mix(mix(h, mem_hash(r->key)), mem_hash(r->body));
	if (!r->replying)
		return mix(h, rel(r->until));
	h = mix(mix(h, (uint64_t)r->outcome), rel(r->sent_at));
	h = plain(h, r->code, r->code ? strlen(r->code) : 0);
	return plain(h, r->value.p, r->value.n);
}

/* ---- engines: alike, so their order and their ids mean nothing ---- */

static uint64_t engine(int e)
{
	const struct mem_engine *en = mem_engine_find(x_tables(), X.engines[e].id);
	uint64_t h = mix((uint64_t)X.engines[e].paused, (uint64_t)en->dead), hands = 0;

	h = mix(h, en->dead ? 0 : rel(en->lease_until));
	h = mix(h, rel(X.engines[e].beat_at));
	for (int i = 0; i < X_HANDS; i++) {
		uint64_t one;

		if (H[e][i].at == AT_NONE)
			continue;
		one = hand(&H[e][i]);
		for (int k = 0; k < X_REQUESTS; k++)
			if (X.requests[k].used && X.requests[k].engine == e && X.requests[k].hand == i)
				one = mix(one, request(&X.requests[k]));
		hands += mix(one, 1);
	}
	h = mix(h, hands);
	for (int64_t id = 1; id <= x_n_runs(); id++)
		h = mix(h, (uint64_t)(x_run(id)->engine == en->id));
	return h;
}

static uint64_t engines(uint64_t h)
{
	uint64_t all[X_ENGINES];

	for (int e = 0; e < x_world->engines; e++) {
		uint64_t one = engine(e);
		int i = e;

		for (; i > 0 && all[i - 1] > one; i--)
			all[i] = all[i - 1];
		all[i] = one;
	}
	for (int e = 0; e < x_world->engines; e++)
		h = mix(h, all[e]);
	return h;
}

/* Who owns a run and is not there any more: only when its lease ends matters. */
static uint64_t gone_owner(const struct mem_run *r)
{
	const struct mem_engine *en = mem_engine_find(x_tables(), r->engine);

	for (int e = 0; e < x_world->engines; e++)
		if (X.engines[e].id == r->engine)
			return 1;
	return en->dead ? 2 : rel(en->lease_until);
}

/* ---- the tables ---- */

static uint64_t runs(uint64_t h)
{
	const struct mem_run *first = NULL;

	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct mem_run *r = x_run(id);

		h = row(h, &r->row, &x_flow_of(r)->def);
		h = mix(h, (uint64_t)r->ready << 1 | (uint64_t)r->awaited);
		h = mix(h, r->engine ? gone_owner(r) : 0);
		h = mix(mix(h, mem_hash(r->command_value)), mem_hash(r->gate_kind));
		/* of several that are ready the one that waits longest is claimed */
		if (r->ready && (!first || r->ready_at < first->ready_at))
			first = r;
	}
	return mix(h, first ? (uint64_t)first->row.id : 0);
}

/* Of a visit that did something: once or more, and whether it was refused for good. */
static uint64_t history(void)
{
	uint64_t sum = 0;

	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, x) {
		int admissions = 0;

		if (hp_status_final(x_run(x->run)->row.status))
			continue;
		if (x->in_sql || (x->outcome == HP_TERMINAL && x->from_visit > 0))
			sum += mix((uint64_t)x->run << 16 | (uint64_t)x->from_visit << 8, (uint64_t)x->in_sql << 1 | 4);
		if (!x->admits)
			continue;
		MEM_EACH(x_tables(), T_HISTORY, struct mem_history, o)
			admissions += o->run == x->run && o->admits && o->visit == x->visit && o->rev <= x->rev;
		if (admissions <= 2)
			sum += mix((uint64_t)x->run << 16 | (uint64_t)x->visit << 8, (uint64_t)admissions << 8);
	}
	return sum;
}

static uint64_t mailboxes(uint64_t h)
{
	uint64_t sum = 0;

	MEM_EACH(x_tables(), T_WAIT, struct mem_wait, w)
		sum += mix(mem_hash(w->name) ^ mem_hash(w->key) << 1, (uint64_t)w->run << 8 | (uint64_t)w->index);
	MEM_EACH(x_tables(), T_CURSOR, struct mem_cursor, c)
		sum += mix(mem_hash(c->name) ^ mem_hash(c->key) << 1, (uint64_t)c->run << 16 | (uint64_t)c->mail << 8 | 1);
	MEM_EACH(x_tables(), T_MAIL, struct mem_mail, m)
		h = mix(h, mem_hash(m->name) ^ mem_hash(m->key) << 1);
	return mix(mix(h, sum), mem_count(x_tables(), T_INBOX));
}

static uint64_t approvals(uint64_t h)
{
	MEM_EACH(x_tables(), T_APPROVAL, struct mem_approval, a) {
		h = mix(h, (uint64_t)a->run << 32 | (uint64_t)a->visit << 16 | (uint64_t)a->status);
		h = mix(digest(h, a->hash), mem_hash(a->request));
		h = mix(h, a->status == MEM_OPEN ? rel(a->deadline) : 0);
	}
	MEM_EACH(x_tables(), T_VOTE, struct mem_vote, v)
		h = mix(h, (uint64_t)v->approval << 1 | (uint64_t)v->yes);
	MEM_EACH(x_tables(), T_ARMS, struct mem_arms, a)
		h = timed(mix(h, (uint64_t)a->run << 8 | (uint64_t)a->visit), a->doc);
	return h;
}

static uint64_t families(uint64_t h)
{
	MEM_EACH(x_tables(), T_FAMILY, struct mem_family, f) {
		h = mix(h, (uint64_t)f->run << 16 | (uint64_t)f->visit << 8 | (uint64_t)f->closed << 1 | (uint64_t)f->complete);
		h = mix(h, (uint64_t)f->queued << 32 | (uint64_t)f->running << 24 | (uint64_t)f->succeeded << 16 |
				   (uint64_t)f->failed << 8 | (uint64_t)f->cancelled);
	}
	MEM_EACH(x_tables(), T_CHILD, struct mem_child, c)
		h = mix(h, (uint64_t)c->run << 40 | (uint64_t)c->visit << 32 | (uint64_t)c->child << 16 | (uint64_t)c->status << 8 |
				   (uint64_t)c->own << 1 | (uint64_t)c->cancel);
	MEM_EACH(x_tables(), T_UNDO, struct mem_undo, u)
		h = mix(mix(h, (uint64_t)u->run << 24 | (uint64_t)u->visit << 16 | (uint64_t)u->state << 8 | (uint64_t)u->status),
			mem_hash(u->doc));
	MEM_EACH(x_tables(), T_UNWINDING, struct mem_unwinding, u)
		h = mix(h, (uint64_t)u->run << 16 | (uint64_t)u->ends << 8 | (uint64_t)u->from_state << 1 | (u->answered_at != 0));
	return h;
}

/* A slot or the place in a queue: by rank, and whoever is as old by its id (mem_limit.c). */
static uint64_t limits(uint64_t h)
{
	MEM_EACH(x_tables(), T_PERMIT, struct mem_permit, p)
		h = mix(h, (uint64_t)p->run << 16 | (uint64_t)p->limiter << 1 | (uint64_t)(p->at == MEM_QUEUED));
	return h;
}

/* Until when it is open, and what its probes have brought; whom it lets go first. */
static uint64_t breakers(uint64_t h)
{
	uint64_t sum = 0;

	MEM_EACH(x_tables(), T_BREAKER, struct mem_breaker, b) {
		h = mix(h, (uint64_t)b->state << 24 | (uint64_t)b->passed << 16 | (uint64_t)b->reopened);
		h = mix(h, b->state == B_OPEN ? rel(b->until) : 0);
		h = mix(h, b->woken_at > X.now - HP_SECOND ? rel(b->woken_at) : 0);
	}
	/* whose request is of the time since it changed: that counts as a probe (check_breaker()) */
	MEM_EACH(x_tables(), T_BREAKER, struct mem_breaker, b)
		for (int64_t id = 1; id <= x_n_runs(); id++)
			h = mix(h, (uint64_t)(x_run(id)->row.phase == HP_PH_ADMITTED && x_run(id)->row.sent_at >= b->since));
	MEM_EACH(x_tables(), T_PROBE, struct mem_probe, p)
		if (p->until > X.now)
			sum += mix((uint64_t)p->run, rel(p->until));
	for (int64_t id = 1; id <= x_n_runs(); id++)
		for (int64_t other = 1; other < id; other++)
			if (x_run(id)->gate_kind.n && x_run(other)->gate_kind.n)
				h = mix(h, (uint64_t)(x_run(id)->gated_since < x_run(other)->gated_since));
	return mix(h, sum);
}

static uint64_t keys(uint64_t h)
{
	MEM_EACH(x_tables(), T_KEY, struct mem_key, k)
		h = mix(h, (uint64_t)k->run << 16 | (uint64_t)k->generation << 1 | (uint64_t)k->freed);
	MEM_EACH(x_tables(), T_EFFECT, struct mem_effect, e)
		h = mix(mix(h, (uint64_t)e->run << 8 | (uint64_t)e->visit), rel(e->first_sent_at));
	return h;
}

/* ---- the world outside ---- */

static uint64_t outside(uint64_t h)
{
	uint64_t sum = 0, left = 0;

	for (int b = 0; b < B__COUNT; b++)
		left = left * 5 + (uint64_t)X.left[b];
	h = mix(h, left);
	h = mix(h, (uint64_t)X.version << 8 | (uint64_t)(X.coin + 1));
	for (int i = 0; i < X_REQUESTS; i++)
		if (X.requests[i].used && X.requests[i].engine < 0)
			sum += mix(request(&X.requests[i]), 2);
	for (int i = 0; i < X.n_effects; i++) {
		const struct x_effect *x = &X.effects[i];
		const struct hp_state *s = &x_flow_of(x_run(x->run))->def.states[x->state];

		sum += mix(mix(mem_hash(x->key), mem_hash(x->body)), (uint64_t)x->acts ^ (forgets(s) ? rel(x->first_at) << 8 : 0));
	}
	h = mix(h, sum);
	for (int64_t run = 1; run <= x_n_runs(); run++) {
		h = plain(h, (const char *)X.excused[run], sizeof X.excused[run]);
		h = plain(h, (const char *)X.heard[run], sizeof X.heard[run]);
		h = plain(h, (const char *)X.ledger[run], sizeof X.ledger[run]);
		h = plain(h, (const char *)X.consumed[run], sizeof X.consumed[run]);
	}
	return h;
}

/* What comes too late changes nothing, whatever it says: epoch and rev only rise. */
static uint64_t late(uint64_t h)
{
	uint64_t sum = 0;

	if (x_world->budget[B_LATE] == 0)
		return h;
	for (int i = 0; i < X_LATES; i++) {
		const struct hp_transition *t = &L[i].t;

		if (!L[i].used)
			continue;
		sum += x_late_stale(&L[i]) ? mix((uint64_t)t->run_id, 3)
					   : transition(mix((uint64_t)t->run_id, 5 + (uint64_t)L[i].heard), t, &x_flow_of(x_run(t->run_id))->def);
	}
	return mix(h, sum);
}

uint64_t x_hash(void)
{
	uint64_t h = mix(UINT64_C(0x60BD5EED), (uint64_t)x_n_runs());

	h = runs(h);
	h = mix(h, history());
	h = mailboxes(h);
	h = approvals(h);
	h = families(h);
	h = keys(h);
	h = limits(h);
	h = breakers(h);
	h = engines(h);
	h = late(h);
	h = outside(h);
	return h ? h : 1;
}
