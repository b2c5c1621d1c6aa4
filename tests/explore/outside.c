/* outside.c: providers, requests in the air, and the clock.
 *
 * A request that has left lands at any time before its time-out, whether or not the one
 * who sent it is still there. A provider remembers a key for as long as the operation
 * says it does; without such a promise it acts each time it is asked.
 */
#include "explore.h"

#include <string.h>

static const struct hp_state *state_of(int64_t run, int32_t state)
{
	return &x_flow_of(x_run(run))->def.states[state];
}

/* ---- sending ---- */

void x_send(int e, int hand)
{
	struct x_hand *h = &H[e][hand];
	struct x_request *r = X.requests;

	while (r->used)
		r++;
	HP_ASSERT(r < X.requests + X_REQUESTS);
	x_check_sent(h);
	*r = (struct x_request){ .used = true, .probe = h->act.probe, .check = h->act.arm != NULL, .engine = (int8_t)e,
				 .hand = (int8_t)hand, .run = (int32_t)h->run, .visit = h->m.run.visit,
				 .state = h->m.run.state, .epoch = h->epoch, .key = x_keep(h->act.key),
				 .body = x_keep(h->act.value), .sent_at = X.now, .until = X.now + h->act.timeout_us };
	if (!h->act.probe && !h->act.arm)
		X.heard[h->run][h->m.run.visit] = 0; /* what came of the attempt before says nothing of this one */
	h->at = AT_FLIGHT;
}

/* ---- what a provider does ---- */

static struct x_effect *effect_of(struct hp_bytes key)
{
	for (int i = 0; i < X.n_effects; i++)
		if (mem_same(X.effects[i].key, key))
			return &X.effects[i];
	return NULL;
}

bool x_knows(struct hp_bytes key)
{
	const struct x_effect *x = effect_of(key);

	return x && x->acts > 0;
}

/* 3 and 4: one key for a visit, no key on two, the same bytes under a key. */
static void check_key(const struct x_request *r, const struct x_effect *x, bool shared)
{
	X_MUST(shared || (x->run == r->run && x->visit == r->visit), "one key on two visits: %s", r->key.p);
	/* who answers for a repeat answers for what is sent, too */
	X_MUST(mem_same(x->body, r->body) || X.excused[r->run][r->visit], "two requests under one key: %s, then %s", x->body.p, r->body.p);
	for (int i = 0; i < X.n_effects && !shared; i++)
		X_MUST(X.effects[i].run != r->run || X.effects[i].visit != r->visit || mem_same(X.effects[i].key, r->key),
		       "two keys for visit %d of run %d", (int)r->visit, (int)r->run);
}

static void act(const struct x_request *r)
{
	const struct hp_state *s = state_of(r->run, r->state);
	struct x_effect *x = effect_of(r->key);
	bool remembered;

	if (!x) {
		HP_ASSERT(X.n_effects < X_EFFECTS);
		x = &X.effects[X.n_effects++];
		*x = (struct x_effect){ .key = r->key, .body = r->body, .run = r->run, .visit = r->visit, .state = r->state };
	}
	check_key(r, x, s->call.has_key);
	remembered = s->call.op.repeat == HP_REPEAT_BY_KEY && x->acts > 0 && X.now < x->first_at + s->call.op.window_us;
	if (remembered)
		return;
	if (x->acts == 0 || s->call.op.repeat != HP_REPEAT_BY_NATURE)
		x->acts++;
	x->first_at = X.now;
	X_MUST(x->acts <= 1 + X.excused[r->run][r->visit], "an effect has happened twice: %s", r->key.p);
}

static void answer(struct x_request *r, enum hp_class outcome, const char *code, const char *value)
{
	r->replying = true;
	r->outcome = outcome;
	r->code = code;
	r->value = hp_bytes_of(value);
	if (r->engine < 0)
		memset(r, 0, sizeof *r);
}

static void landed(struct x_request *r, bool alarm)
{
	if (r->check) {
		answer(r, HP_CLASS_OK, NULL, alarm ? "alarm" : "calm");
	} else if (r->probe) { /* its body is the key it asks for */
		answer(r, HP_CLASS_OK, NULL, x_knows(r->body) ? "found" : "absent");
	} else {
		act(r);
		answer(r, HP_CLASS_OK, NULL, "{}");
	}
}

void x_land(int request, enum x_land how)
{
	struct x_request *r = &X.requests[request];

	switch (how) {
	case LAND_OK:
	case LAND_ALARM:
		landed(r, how == LAND_ALARM);
		return;
	case LAND_REFUSE:
		answer(r, HP_RETRYABLE, "busy", NULL);
		return;
	case LAND_DECLINE:
		answer(r, HP_TERMINAL, "declined", NULL);
		return;
	case LAND_LOST:
		answer(r, HP_AMBIGUOUS, "connection_lost", NULL);
		return;
	case LAND_REPLY_LOST:
		landed(r, false);
		if (r->used)
			answer(r, HP_AMBIGUOUS, "connection_lost", NULL);
		return;
	}
}

void x_deliver(int request)
{
	struct x_request r = X.requests[request];

	memset(&X.requests[request], 0, sizeof r);
	if (!r.check && r.outcome != HP_AMBIGUOUS && r.epoch == x_run(r.run)->row.epoch && (!r.probe || (r.value.n && r.value.p[0] == 'f')))
		X.heard[r.run][r.visit] = 1; /* who has the run knows of its effect */
	x_hear(r.engine, r.hand, &r);
}

/* ---- the clock ---- */

static void earlier(int64_t *best, int64_t t)
{
	if (t > X.now && (*best == 0 || t < *best))
		*best = t;
}

static bool holds(int e)
{
	for (int i = 0; i < X_HANDS; i++)
		if (H[e][i].at != AT_NONE)
			return true;
	return false;
}

static bool anybody_behind(const struct mem_breaker *b)
{
	for (int64_t id = 1; id <= x_n_runs(); id++)
		if (x_gate_of(x_run(id)) == b)
			return true;
	return false;
}

/* The heartbeat that finds it past its time, or a second after it has let somebody go. */
static int64_t lets_go_at(const struct mem_breaker *b)
{
	int64_t at = b->state == B_OPEN ? b->until : b->woken_at + HP_SECOND;

	return at > X.now ? at : X.now + X_LEASE / 4;
}

/* The end of a lease is waited for only when somebody has something of it: an engine that
 * is stopped, or the id of one that has died. */
static void lease_ends(int64_t *best)
{
	MEM_EACH(x_tables(), T_ENGINE, struct mem_engine, en) {
		bool matters = false, active = false;

		if (en->dead)
			continue;
		for (int64_t id = 1; id <= x_n_runs(); id++)
			matters = matters || x_run(id)->engine == en->id;
		for (int e = 0; e < x_world->engines; e++) {
			if (X.engines[e].id != en->id)
				continue;
			active = !X.engines[e].paused;
			matters = matters || holds(e);
		}
		if (matters && !active)
			earlier(best, en->lease_until + 1);
	}
}

int64_t x_next_time(void)
{
	int64_t best = 0;

	MEM_EACH(x_tables(), T_BREAKER, struct mem_breaker, b)
		if (anybody_behind(b))
			earlier(&best, lets_go_at(b));

	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct mem_run *r = x_run(id);

		if (!r->engine && !r->ready && r->row.status == HP_WAITING && r->row.due_at > 0 && !r->row.pause)
			earlier(&best, r->row.due_at);
	}
	lease_ends(&best);
	for (int i = 0; i < X_REQUESTS; i++) /* a slow one */
		if (X.requests[i].used && !X.requests[i].replying)
			earlier(&best, X.requests[i].until);
	/* who is in the air has landed or is lost before its time-out */
	for (int i = 0; i < X_REQUESTS; i++)
		if (X.requests[i].used && !X.requests[i].replying && best > X.requests[i].until)
			best = X.now < X.requests[i].until ? X.requests[i].until : 0;
	return best;
}

/* All engines that run beat, and never let their lease run out. */
void x_pass(int64_t to)
{
	while (X.now < to) {
		X.now = to - X.now > X_LEASE ? X.now + X_LEASE : to;
		for (int e = 0; e < x_world->engines; e++)
			if (!X.engines[e].paused)
				x_beat(e);
	}
}
