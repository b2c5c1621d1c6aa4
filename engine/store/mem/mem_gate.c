/* mem_gate.c: admissions that may be refused, and runs that wait behind a gate.
 *
 * The same as the gates of migrations/holdpoint/0003_commit.sql. A new kind of gate is
 * one line in mem_gate(): it is asked only for what those before it let in.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/mem/mem_private.h"

/* false: nothing that could be refused. */
static bool ask_of(const struct mem_store *m, const struct mem_run *r, const struct hp_transition *t,
		   struct mem_ask *a)
{
	bool probe = t->move == HP_MOVE_PROBING;
	const char *operation;
	json_t *state;

	if (!t->admits && !probe)
		return false;
	state = mem_state_json(&m->w, r, t->after.state);
	operation = probe ? hp_json_str(state, "probe") : NULL;
	if (!operation)
		operation = hp_json_str(state, "operation");
	a->t = t;
	snprintf(a->operation, sizeof a->operation, "%s", operation ? operation : "");
	a->timeout_us = hp_json_int(state, "timeout_us", 300 * HP_SECOND);
	json_decref(state);
	return true;
}

void mem_gate(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t,
	      struct mem_refusal *out)
{
	struct mem_ask a;

	memset(out, 0, sizeof *out);
	if (mem_count(&m->w, T_BREAKER) == 0)
		return; /* no gate at all */
	mem_breaker_outcome(m, r, t);
	if (!ask_of(m, r, t, &a))
		return;
	mem_breaker_gate(m, &a, out);
	if (out->code)
		mem_breaker_forget(m, r->row.id);
}

void mem_gated(struct mem_store *m, struct mem_run *r, const struct mem_refusal *refused)
{
	struct hp_bytes kind = mem_intern_s(m, refused->code ? refused->kind : NULL);

	if (refused->code && (!mem_same(kind, r->gate_kind) || !mem_same(refused->name, r->gate_name)))
		r->gated_since = *m->now;
	r->gate_kind = kind;
	r->gate_name = refused->code ? mem_intern(m, refused->name) : kind;
	r->gate_message = mem_intern_s(m, refused->code ? refused->message : NULL);
}

/* Those that wait longest first; among equals the smaller id. */
int mem_wake_gated(struct mem_store *m, const char *kind, struct hp_bytes name, int max)
{
	int woken = 0;

	for (int n = 0; n < max; n++) {
		struct mem_run *best = NULL;

		MEM_EACH(&m->w, T_RUN, struct mem_run, r)
			if (mem_same(r->gate_kind, hp_bytes_of(kind)) && mem_same(r->gate_name, name) &&
			    (!best || r->gated_since < best->gated_since))
				best = r;
		if (!best)
			break;
		best->gate_kind = best->gate_name = best->gate_message = (struct hp_bytes){ NULL, 0 };
		woken += !best->engine && !best->ready; /* else something else has woken it */
		mem_ready(m, best);
	}
	return woken;
}
