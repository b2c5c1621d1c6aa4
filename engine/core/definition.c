/* definition.c: names, look-up and the one list of a state's ways out. */
#include "core/definition.h"

#include <stdio.h>
#include <string.h>
#include "base/error.h"
#include "base/limits.h"

const char *hp_class_name(enum hp_class c)
{
	switch (c) {
	case HP_CLASS_OK:
		return "ok";
	case HP_RETRYABLE:
		return "retryable";
	case HP_TERMINAL:
		return "terminal";
	case HP_AMBIGUOUS:
		return "ambiguous";
	case HP_NEEDS_PERSON:
		return "needs_person";
	}
	return "unknown"; /* a number from a newer database */
}

const char *hp_kind_name(enum hp_kind k)
{
	switch (k) {
	case HP_CALL:
		return "call";
	case HP_SQL:
		return "sql";
	case HP_CHOOSE:
		return "choose";
	case HP_APPROVAL:
		return "approval";
	case HP_WAIT:
		return "wait";
	case HP_AWAIT:
		return "await";
	case HP_SUCCEED:
		return "succeed";
	case HP_FAIL:
		return "fail";
	case HP_SWEEP:
		return "sweep";
	case HP_RUN:
		return "run";
	case HP_EACH:
		return "each";
	}
	return "unknown";
}

const char *hp_arm_kind_name(enum hp_arm_kind k)
{
	switch (k) {
	case HP_ARM_EVENT:
		return "event";
	case HP_ARM_TIMER:
		return "timer";
	case HP_ARM_CHECK:
		return "check";
	}
	return "unknown";
}

int hp_state_events(const struct hp_state *s)
{
	return s->kind == HP_AWAIT ? s->await.n_events : 0;
}

int hp_definition_find(const struct hp_definition *d, const char *name)
{
	int i;

	for (i = 0; i < d->n_states; i++)
		if (strcmp(d->states[i].name, name) == 0)
			return i;
	return HP_NO_STATE;
}

struct walk {
	hp_edge_fn fn;
	void *arg;
	int from;
};

static void edge(const struct walk *w, int to, const char *label, int line)
{
	if (to != HP_NO_STATE)
		w->fn(w->arg, w->from, to, label, line);
}

static void catch_edges(const struct walk *w, const struct hp_state *s)
{
	char label[96]; /* "catch " and a code of HP_NAME_MAX */
	int i;

	for (i = 0; i < s->n_catches; i++) {
		const struct hp_catch *c = &s->catches[i];

		snprintf(label, sizeof label, "catch %s", c->match ? c->match : "otherwise");
		edge(w, c->next, label, c->line);
	}
}

static void branch_edges(const struct walk *w, const struct hp_state *s)
{
	char label[32];
	int i;

	for (i = 0; i < s->choose.n_branches; i++) {
		snprintf(label, sizeof label, "when %d", i + 1);
		edge(w, s->choose.branches[i].next, label, s->choose.branches[i].line);
	}
	edge(w, s->choose.otherwise, "otherwise", s->line);
}

static void arm_edges(const struct walk *w, const struct hp_state *s)
{
	char label[HP_NAME_MAX + 16];

	for (int i = 0; i < s->n_arms; i++) {
		const struct hp_arm *arm = &s->arms[i];

		snprintf(label, sizeof label, "on %s", arm->name);
		edge(w, arm->next, label, arm->line);
		snprintf(label, sizeof label, "on %s failed", arm->name);
		edge(w, arm->failed, label, arm->line);
	}
}

void hp_definition_edges(const struct hp_definition *d, int state, hp_edge_fn fn, void *arg)
{
	const struct walk w = {fn, arg, state};
	const struct hp_state *s;

	HP_ASSERT(state >= 0 && state < d->n_states);
	s = &d->states[state];
	switch (s->kind) {
	case HP_CALL:
	case HP_SQL:
	case HP_SWEEP:
		edge(&w, s->next, "next", s->line);
		if (s->kind == HP_SQL)
			edge(&w, s->sql.none, "none", s->line);
		else if (s->call.limited)
			edge(&w, s->call.over_budget, "over budget", s->line);
		catch_edges(&w, s);
		break;
	case HP_CHOOSE:
		branch_edges(&w, s);
		break;
	case HP_APPROVAL:
		edge(&w, s->next, "next", s->line);
		edge(&w, s->approval.rejected, "rejected", s->line);
		edge(&w, s->approval.expired, "expired", s->line);
		break;
	case HP_WAIT:
		edge(&w, s->next, "next", s->line);
		break;
	case HP_AWAIT:
		edge(&w, s->next, "next", s->line);
		edge(&w, s->await.timeout, "timeout", s->line);
		break;
	case HP_RUN:
	case HP_EACH:
		edge(&w, s->next, "next", s->line);
		edge(&w, s->children.timeout, "timeout", s->line);
		catch_edges(&w, s);
		break;
	case HP_SUCCEED:
	case HP_FAIL:
		break; /* no way out, by meaning */
	}
	arm_edges(&w, s);
}
