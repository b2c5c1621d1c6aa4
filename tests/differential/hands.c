/* hands.c: claimed runs in the hands of engines, stepped by the machine as a worker does
 * it: evaluations are Lua's, replies are drawn. What the machine wants to write waits in
 * the hand until an operation writes it, to both stores. */
#include "diff.h"

#include <stdio.h>
#include <string.h>

struct d_hand d_hands[D_HANDS];
int64_t d_claimer;

static struct hp_arena *arena(struct d_hand *h) { return h->step[h->turn]; }

static struct hp_bytes keep(struct hp_arena *a, struct hp_bytes b)
{
	char *p = b.n ? hp_arena_strndup(a, b.p, b.n) : NULL;

	d_need(p || b.n == 0, "memory", "none for a run's values");
	return (struct hp_bytes){ p, b.n };
}

static void keep_event(struct d_hand *h, struct hp_event *ev)
{
	ev->value = keep(arena(h), ev->value);
	ev->key = keep(arena(h), ev->key);
	ev->demands = keep(arena(h), ev->demands);
	ev->secrets = keep(arena(h), ev->secrets);
	ev->swept.cursor = keep(arena(h), ev->swept.cursor);
	ev->swept.row = keep(arena(h), ev->swept.row);
	ev->code = hp_arena_strdup(arena(h), ev->code);
	ev->message = hp_arena_strdup(arena(h), ev->message);
}

/* ---- taking and leaving ---- */

static void copy_claimed(struct d_hand *h, const struct hp_claimed *c)
{
	hp_arena_reset(h->claim);
	h->c = *c;
	h->c.workflow = hp_arena_strdup(h->claim, c->workflow);
	h->c.key = keep(h->claim, c->key);
	h->c.input = keep(h->claim, c->input);
	h->c.saved = keep(h->claim, c->saved);
	h->c.decision_value = keep(h->claim, c->decision_value);
	h->c.mail = keep(h->claim, c->mail);
	h->c.command_value = keep(h->claim, c->command_value);
	h->c.annex = keep(h->claim, c->annex);
	h->c.signed_request = keep(h->claim, c->signed_request);
	h->c.signed_key = keep(h->claim, c->signed_key);
}

static struct d_hand *hand_of(int64_t run, int32_t epoch)
{
	for (int i = 0; i < D_HANDS; i++)
		if (d_hands[i].used && d_hands[i].c.run.id == run && d_hands[i].c.run.epoch == epoch)
			return &d_hands[i];
	return NULL;
}

static struct d_hand *free_hand(void)
{
	int i = 0;

	while (i < D_HANDS && d_hands[i].used)
		i++;
	if (i == D_HANDS) { /* a worker forgets one: its lease will tell */
		i = (int)d_rnd(D_HANDS);
		d_hand_drop(&d_hands[i]);
	}
	return &d_hands[i];
}

static void take(const struct hp_claimed *c)
{
	struct d_hand *h = hand_of(c->run.id, c->run.epoch);

	if (!h) {
		h = free_hand();
		h->claim = hp_arena_new(4 * HP_RUN_DATA_MAX);
		h->step[0] = hp_arena_new(4 * HP_RUN_DATA_MAX);
		h->step[1] = hp_arena_new(4 * HP_RUN_DATA_MAX);
		d_need(h->claim && h->step[0] && h->step[1], "memory", "none for a hand");
		hp_buf_init(&h->saved_text, HP_RUN_DATA_MAX);
		hp_buf_init(&h->kept, HP_VALUE_MAX);
		hp_buf_init(&h->scratch, 2 * HP_RUN_DATA_MAX);
	}
	h->used = true;
	h->lost = false;
	h->engine = d_claimer;
	h->flow = d_flow_of(c->digest);
	d_need(h->flow != NULL, "a claimed run", "follows a definition that nobody drew");
	copy_claimed(h, c);
	memset(&h->act, 0, sizeof h->act);
}

/* PostgreSQL answers first; the store in memory only has another token. */
void d_keep_claimed(void *arg, int store, const struct hp_claimed *runs, int n)
{
	(void)arg;
	for (int i = 0; i < n; i++) {
		struct d_hand *h;

		if (store == D_PG)
			take(&runs[i]);
		h = hand_of(runs[i].run.id, runs[i].run.epoch);
		if (h)
			memcpy(h->token[store], runs[i].token, sizeof runs[i].token);
	}
}

void d_hand_abort(struct d_hand *h)
{
	for (int i = 0; i < 2; i++) {
		if (h->tx[i])
			d_store(i)->ops->sql_abort(d_store(i), h->tx[i]);
		h->tx[i] = NULL;
	}
}

void d_hand_drop(struct d_hand *h)
{
	if (!h->used)
		return;
	d_hand_abort(h);
	json_decref(h->saved);
	hp_arena_free(h->claim);
	hp_arena_free(h->step[0]);
	hp_arena_free(h->step[1]);
	hp_buf_free(&h->saved_text);
	hp_buf_free(&h->kept);
	hp_buf_free(&h->scratch);
	memset(h, 0, sizeof *h);
}

struct d_hand *d_hand_any(bool lost)
{
	int start = (int)d_rnd(D_HANDS);

	for (int i = 0; i < D_HANDS; i++) {
		struct d_hand *h = &d_hands[(start + i) % D_HANDS];

		if (h->used && h->lost == lost)
			return h;
	}
	return NULL;
}

/* ---- evaluations and replies ---- */

static void evaluate(struct d_hand *h, const struct hp_action *act, struct hp_event *ev)
{
	const struct hp_run *run = act->pending ? &act->pending->after : &h->m.run;
	struct hp_run_data data = { .id = run->id, .visit = run->visit, .installation = "00000000-0000-4000-8000-000000000001",
				    .key = h->c.key, .input = h->c.input, .signed_request = h->c.signed_request,
				    .signed_key = h->c.signed_key, .signed_hash = h->c.signed_hash, .annex = h->c.annex, .now = d_now };

	hp_buf_clear(&h->saved_text);
	d_need(hp_json_write(&h->saved_text, h->saved, NULL) == 0, "saved values", "cannot be written");
	data.saved = hp_buf_bytes(&h->saved_text);
	memset(ev, 0, sizeof *ev);
	hp_buf_clear(&h->scratch);
	hp_workflow_eval(h->flow->w, &data, run, act, &h->scratch, ev);
	keep_event(h, ev);
	ev->type = HP_EV_VALUE;
	ev->now = d_now;
}

static void reply(struct d_hand *h, const struct hp_action *act, struct hp_event *ev)
{
	static const char *const codes[] = { NULL, "busy", "refused", "broken", "unauthorized" };
	enum hp_class class = d_chance(65) ? HP_CLASS_OK : (enum hp_class)(1 + d_rnd(4));
	char value[64];

	snprintf(value, sizeof value, "{\"id\":\"x%u\",\"acts\":%u,\"ok\":%s}", d_rnd(100), d_rnd(2), d_chance(70) ? "true" : "false");
	*ev = (struct hp_event){ .type = HP_EV_REPLY, .now = d_now, .outcome = class, .code = codes[class],
				 .message = class ? "as it was drawn" : NULL, .retry_after_us = d_chance(20) ? 2 * HP_SECOND : -1,
				 .value = hp_bytes_of(value) };
	if (class == HP_TERMINAL && act->probe)
		ev->outcome = HP_RETRYABLE;
	keep_event(h, ev);
}

/* ---- stepping ---- */

static void go(struct d_hand *h, struct hp_event *ev)
{
	for (;;) {
		hp_step(&h->m, ev, &h->act);
		switch (h->act.type) {
		case HP_ACT_EVAL:
			evaluate(h, &h->act, ev);
			break;
		case HP_ACT_SEND:
			reply(h, &h->act, ev);
			break;
		case HP_ACT_DROP:
			d_hand_drop(h);
			return;
		case HP_ACT_COMMIT:
		case HP_ACT_SQL:
			return;
		}
	}
}

void d_hand_begin(struct d_hand *h)
{
	const struct hp_claimed *c = &h->c;
	struct hp_error err = { 0 };
	struct hp_event ev;

	d_hand_abort(h);
	json_decref(h->saved);
	h->saved = c->saved.n ? hp_json_parse(c->saved.p, c->saved.n, "saved values", &err) : json_object();
	d_need(h->saved != NULL, "saved values", err.message);
	hp_arena_reset(h->step[0]);
	hp_arena_reset(h->step[1]);
	h->refusals = 0;
	hp_buf_clear(&h->kept);
	d_need(c->annex.n == 0 || hp_sweep_row(c->annex, &h->kept, &err) == 0, "the row in hand", err.message);
	hp_machine_init(&h->m, hp_workflow_definition(h->flow->w), &c->run, D_LEASE);
	ev = (struct hp_event){ .type = HP_EV_CLAIMED, .now = d_now, .cancel = c->run.cancel, .pause = c->run.pause, .decision = c->decision,
				.decision_value = c->decision_value, .mail_id = c->mail_id, .mail_wait = c->mail_wait, .mail = c->mail,
				.command_value = c->command_value, .annex = c->annex, .kept = hp_buf_bytes(&h->kept) };
	go(h, &ev);
}

void d_hand_reply(struct d_hand *h, const struct hp_event *given)
{
	struct hp_event ev = *given;

	keep_event(h, &ev);
	go(h, &ev);
}

static void merge(struct d_hand *h, const struct hp_transition *t)
{
	for (int i = 0; i < t->n_saves; i++) {
		json_t *v = hp_json_parse(t->saves[i].value.p, t->saves[i].value.n, "a saved value", NULL);

		if (t->saves[i].name)
			json_object_set(h->saved, t->saves[i].name, v);
		else
			json_object_update(h->saved, v);
		json_decref(v);
	}
}

static void written(struct d_hand *h, const struct hp_commit_result *res)
{
	const struct hp_transition *t = h->act.transition;
	struct hp_event ev = { .type = HP_EV_COMMITTED, .now = d_now, .cancel = res->cancel, .pause = res->pause,
			       .first_sent_at = res->first_sent_at, .gated = res->gated[0] != 0 };

	h->refusals = 0;
	merge(h, t);
	if (t->keep.p) {
		hp_buf_clear(&h->kept);
		hp_buf_add(&h->kept, t->keep.p, t->keep.n);
	}
	ev.kept = hp_buf_bytes(&h->kept);
	if (t->disposition == HP_KEEP && t->after.signed_visit > 0 && h->c.signed_request.n == 0 && !ev.gated)
		h->lost = true; /* its signed request is the store's to hand out: read again */
	h->turn = !h->turn;
	hp_arena_reset(arena(h));
	if (!h->lost)
		go(h, &ev);
}

/* As the worker: the first time, the machine holds the run with our code. */
static void refused(struct d_hand *h)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .now = d_now, .outcome = HP_NEEDS_PERSON, .code = "commit_refused",
			       .message = "the store refused it" };

	if (++h->refusals > 1)
		d_hand_drop(h);
	else
		go(h, &ev);
}

void d_hand_committed(struct d_hand *h, const struct hp_commit_result *res)
{
	if (res->outcome == HP_COMMIT_OK)
		written(h, res);
	else if (res->outcome == HP_COMMIT_REFUSED)
		refused(h);
	else
		h->lost = true;
}
