/* evals.c: what expressions come to.
 *
 * As in a real definition every answer follows from the run, its visit and what is pinned,
 * so who asks again after a crash gets the same one; what may differ (a predicate, the
 * version of a connector) is part of the state and chosen by a step.
 */
#include "explore.h"

#include <stdio.h>
#include <string.h>

#define VERSIONS 3
static struct x_rendered rendered[X_FLOWS][X_RUNS + 1][X_STATES][X_VISITS][VERSIONS];

void x_forget_rendered(void)
{
	memset(rendered, 0, sizeof rendered);
}

const struct x_rendered *x_render(int flow, int64_t run, int32_t state, int32_t visit, int version)
{
	const struct hp_state *s = &x_flows[flow].def.states[state];
	struct x_rendered *r;
	char key[HP_EFFECT_KEY_LEN];

	HP_ASSERT(run <= X_RUNS && visit < X_VISITS && version < VERSIONS);
	r = &rendered[flow][run][state][visit][version];
	if (r->there)
		return r;
	r->there = true;
	if (s->call.has_key) { /* one payment, whichever run makes it */
		r->value = x_text("{\"connector\":\"%s\",\"operation\":\"%s\",\"body\":\"payment 1, v%d\"}", s->call.op.connector,
				  s->call.op.name, version);
		r->key = x_text("payment:1");
	} else {
		r->value = x_text("{\"connector\":\"%s\",\"operation\":\"%s\",\"body\":\"run %lld visit %d, v%d\"}",
				  s->call.op.connector, s->call.op.name, (long long)run, (int)visit, version);
		hp_effect_key(HP_MEM_INSTALLATION, run, s->undoes || state >= x_flows[flow].def.n_states ? "undo" : s->name,
			      visit, 0, key);
		r->key = x_keep(hp_bytes_of(key));
	}
	hp_sha256(r->value.p, r->value.n, r->hash);
	return r;
}

static int flow_of(const struct x_hand *h)
{
	return x_run(h->run)->bundle;
}

/* The request of an undo is the one that was kept when its effect succeeded. */
static void kept_request(const struct x_hand *h, struct hp_event *ev)
{
	json_t *undo = hp_annex_found(h->annex, "undo", NULL);
	const json_t *next = json_object_get(undo, "next");
	const char *request = hp_json_str(next, "request"), *key = hp_json_str(next, "key");

	ev->ok = request && key;
	ev->outcome = HP_NEEDS_PERSON;
	ev->code = "internal";
	ev->value = x_keep(hp_bytes_of(request));
	ev->key = x_keep(hp_bytes_of(key));
	hp_sha256(ev->value.p, ev->value.n, ev->hash);
	json_decref(undo);
}

static void request(const struct x_hand *h, const struct hp_action *act, const struct hp_run *run, struct hp_event *ev)
{
	const struct hp_definition *d = &x_flows[flow_of(h)].def;
	const struct x_rendered *r;

	if (run->state >= d->n_states) {
		kept_request(h, ev);
		return;
	}
	if (act->index == 1) { /* the very bytes that were signed */
		ev->ok = h->signed_request.n > 0;
		ev->outcome = HP_NEEDS_PERSON;
		ev->code = "signed_request_missing";
		ev->value = h->signed_request;
		ev->key = h->signed_key;
		memcpy(ev->hash, h->signed_hash, sizeof ev->hash);
		return;
	}
	r = x_render(flow_of(h), h->run, run->state, run->visit, X.version);
	ev->value = r->value;
	ev->key = r->key;
	memcpy(ev->hash, r->hash, sizeof ev->hash);
}

static void approval(const struct x_hand *h, const struct hp_run *run, struct hp_event *ev)
{
	const struct hp_state *s = &x_flows[flow_of(h)].def.states[run->state];
	const struct x_rendered *r;

	if (s->approval.of == HP_NO_STATE) {
		ev->value = hp_bytes_of("{\"ask\":\"?\"}");
		return;
	}
	r = x_render(flow_of(h), h->run, s->approval.of, run->visit, X.version);
	ev->value = x_text("{\"ask\":\"?\",\"key\":\"%s\",\"request\":\"{\\\"connector\\\":\\\"%s\\\",\\\"operation\\\":\\\"%s\\\","
			   "\\\"body\\\":\\\"run %lld visit %d, v%d\\\"}\"}",
			   r->key.p, x_flows[flow_of(h)].def.states[s->approval.of].call.op.connector,
			   x_flows[flow_of(h)].def.states[s->approval.of].call.op.name, (long long)h->run, (int)run->visit,
			   (int)X.version);
	memcpy(ev->hash, r->hash, sizeof ev->hash);
}

static void undo(const struct x_hand *h, const struct hp_run *run, struct hp_event *ev)
{
	const struct x_flow *f = &x_flows[flow_of(h)];
	const struct hp_state *s = &f->def.states[run->state];
	const struct x_rendered *r = x_render(flow_of(h), h->run, s->undo, run->visit, X.version);
	const struct hp_state *u = &f->def.states[s->undo];

	ev->value = x_text("{\"add\":{\"state\":%d,\"operation\":\"%s.%s\",\"key\":\"%s\",\"request\":"
			   "\"{\\\"connector\\\":\\\"%s\\\",\\\"operation\\\":\\\"%s\\\",\\\"body\\\":\\\"run %lld visit %d, v%d\\\"}\"}}",
			   s->undo, u->call.op.connector, u->call.op.name, r->key.p, u->call.op.connector, u->call.op.name,
			   (long long)h->run, (int)run->visit, (int)X.version);
}

static void children(const struct x_hand *h, const struct hp_run *run, struct hp_event *ev)
{
	const struct hp_state *s = &x_flows[flow_of(h)].def.states[run->state];
	struct hp_buf b;

	hp_buf_init(&b, 4096);
	hp_buf_printf(&b,
		      "{\"op\":\"open\",\"workflow\":\"%s\",\"single\":%s,\"need\":%lld,\"tolerate\":%lld,\"percent\":%d,"
		      "\"concurrency\":%d,\"children\":[",
		      s->children.workflow, s->kind == HP_RUN ? "true" : "false", (long long)s->children.need,
		      (long long)s->children.tolerate, s->children.percent, s->children.concurrency);
	if (s->kind == HP_RUN) /* with a key: it joins the one that is there */
		hp_buf_adds(&b, "{\"key\":\"child\",\"input\":{}}");
	else
		hp_buf_adds(&b, "{\"input\":{\"n\":1}},{\"input\":{\"n\":2}}");
	hp_buf_adds(&b, "],\"end\":true}");
	ev->value = x_keep(hp_buf_bytes(&b));
	hp_buf_free(&b);
}

/* A mailbox has one key for each event: of the state, then of its arms. */
static void mailbox(const struct hp_state *s, struct hp_event *ev)
{
	int n = hp_state_events(s);

	for (int i = 0; i < s->n_arms; i++)
		n += s->arms[i].kind == HP_ARM_EVENT;
	ev->value = hp_bytes_of(n == 1 ? "k" : n == 2 ? "k\nk" : "k\nk\nk");
}

void x_answer(const struct x_hand *h, const struct hp_action *act, struct hp_event *ev)
{
	const struct hp_run *run = act->pending ? &act->pending->after : &h->m.run;
	const struct hp_state *s = &x_flows[flow_of(h)].def.states[act->state];

	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_VALUE;
	ev->ok = true;
	ev->now = X.now;
	ev->retry_after_us = -1;
	switch (act->eval) {
	case HP_EVAL_REQUEST:
		request(h, act, run, ev);
		return;
	case HP_EVAL_PROBE: /* asks for what was done under that key */
		ev->value = run->state < x_flows[flow_of(h)].def.n_states ?
				    x_render(flow_of(h), h->run, run->state, run->visit, 0)->key :
				    hp_bytes_of("undo");
		return;
	case HP_EVAL_FOUND:
		ev->verdict = act->value.n && act->value.p[0] == 'f' ? HP_VERDICT_FOUND : HP_VERDICT_ABSENT;
		ev->value = hp_bytes_of("{}");
		return;
	case HP_EVAL_WHEN:
		ev->truth = x_world->coin ? X.coin == 1 : run->visit <= 2; /* once more */
		return;
	case HP_EVAL_ARGS:
		ev->value = hp_bytes_of("{\"args\":[]}");
		return;
	case HP_EVAL_APPROVAL:
		approval(h, run, ev);
		return;
	case HP_EVAL_UNTIL:
		ev->number = run->entered_at + 15 * HP_SECOND;
		return;
	case HP_EVAL_MAILBOX:
		mailbox(s, ev);
		return;
	case HP_EVAL_AT:
		ev->number = run->entered_at + 12 * HP_SECOND;
		return;
	case HP_EVAL_CHECK:
		ev->value = hp_bytes_of("look");
		return;
	case HP_EVAL_ALARM:
		ev->truth = act->value.n && act->value.p[0] == 'a';
		return;
	case HP_EVAL_UNDO:
		undo(h, run, ev);
		return;
	case HP_EVAL_CHILDREN:
		children(h, run, ev);
		return;
	case HP_EVAL_INPUT:
	case HP_EVAL_SET:
	case HP_EVAL_RESULT:
	case HP_EVAL_JOINED:
		ev->value = hp_bytes_of("{}");
		return;
	}
	HP_ASSERT(0 && "unknown evaluation");
}
