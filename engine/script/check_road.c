/* check_road.c: lints that follow roads through the graph.
 *
 * One breadth-first walk answers all of them; what differs is which approved
 * roads (`next` of an approval) are closed. A rejected or expired approval's way
 * stays open: nobody approved anything there.
 */
#include <stdio.h>
#include <string.h>
#include "script/check.h"

enum closed { CLOSED_NONE, CLOSED_UNCONDITIONAL, CLOSED_ALL, CLOSED_SIGNING };

struct walk {
	const struct hp_definition *d;
	enum closed closed;
	int signs;                 /* CLOSED_SIGNING: approvals of this call */
	int from[HP_STATES_MAX];   /* the state before, on a shortest road; -1: not reached */
	int queue[HP_STATES_MAX];
	int n;
};

static bool is_closed(const struct walk *w, int state, const char *label)
{
	const struct hp_state *s = &w->d->states[state];

	if (s->kind != HP_APPROVAL || strcmp(label, "next") != 0)
		return false;
	switch (w->closed) {
	case CLOSED_ALL:
		return true;
	case CLOSED_UNCONDITIONAL:
		return !s->approval.has_when;
	case CLOSED_SIGNING:
		return s->approval.of == w->signs;
	case CLOSED_NONE:
		break;
	}
	return false;
}

static void step(void *arg, int from, int to, const char *label, int line)
{
	struct walk *w = arg;

	(void)line;
	if (w->from[to] >= 0 || is_closed(w, from, label))
		return;
	w->from[to] = from;
	w->queue[w->n++] = to;
}

/* Marks all states that can be reached from start. from[start] is start. */
static void walk(struct walk *w, const struct hp_definition *d, int start, enum closed closed)
{
	int i;

	w->d = d;
	w->closed = closed;
	for (i = 0; i < d->n_states; i++)
		w->from[i] = -1;
	w->from[start] = start;
	w->queue[0] = start;
	w->n = 1;
	for (i = 0; i < w->n; i++)
		hp_definition_edges(d, w->queue[i], step, w);
}

#define ROAD_SHOWN 12 /* a longer road is cut in the middle of the sentence */

/* "find_payment, record, refund" */
static void road(const struct walk *w, int to, char *out, size_t n)
{
	int states[HP_STATES_MAX], count = 0, i;
	size_t used = 0;

	for (i = to;; i = w->from[i]) {
		states[count++] = i;
		if (w->from[i] == i || count == HP_STATES_MAX)
			break;
	}
	out[0] = '\0';
	for (i = count - 1; i >= 0 && used < n - 1; i--) {
		if (count > ROAD_SHOWN && i == count - 1 - ROAD_SHOWN / 2) {
			used += (size_t)snprintf(out + used, n - used, ", …");
			i = ROAD_SHOWN / 2;
		}
		used += (size_t)snprintf(out + used, n - used, "%s%s", i == count - 1 ? "" : ", ",
					 w->d->states[states[i]].name);
	}
}

void hp_c_unreachable(struct hp_checking *c, int i)
{
	const struct hp_definition *d = &c->w->def;
	struct walk w;

	walk(&w, d, 0, CLOSED_NONE);
	if (w.from[i] < 0)
		hp_c_report(c, "unreachable_state", false, i, d->states[i].line, "no way leads here");
}

static bool hurries(const struct hp_state *s)
{
	return s->kind == HP_CALL || s->kind == HP_SQL || s->kind == HP_SWEEP;
}

void hp_c_endless_loop(struct hp_checking *c, int i)
{
	const struct hp_definition *d = &c->w->def;
	char names[300];
	size_t used = 0;
	int at = i, steps;

	names[0] = '\0';
	for (steps = 0; steps <= d->n_states; steps++) {
		if (at == HP_NO_STATE || at < i || !hurries(&d->states[at])) /* at < i: told there */
			return;
		if (used < sizeof names - 1)
			used += (size_t)snprintf(names + used, sizeof names - used, "%s, ", d->states[at].name);
		at = d->states[at].next;
		if (at == i)
			break;
	}
	if (at != i)
		return;
	hp_c_report(c, "endless_loop", true, i, d->states[i].line,
		    "the states %.260s%s go round for ever: nothing in the loop waits or chooses", names, d->states[i].name);
}

void hp_c_signature(struct hp_checking *c, int i)
{
	const struct hp_definition *d = &c->w->def;
	const struct hp_state *s = &d->states[i];
	char names[300];
	struct walk w;

	if (s->kind == HP_APPROVAL && s->approval.of != HP_NO_STATE && s->next != HP_NO_STATE) {
		walk(&w, d, s->next, CLOSED_NONE);
		if (w.from[s->approval.of] < 0)
			hp_c_report(c, "signature_unused", true, i, s->line,
				    "it signs the request of \"%s\", but once approved that state cannot be reached",
				    d->states[s->approval.of].name);
	}
	if (s->kind != HP_CALL || s->call.signed_by == HP_NO_STATE)
		return;
	w.signs = i;
	walk(&w, d, 0, CLOSED_SIGNING);
	if (w.from[i] < 0)
		return;
	road(&w, i, names, sizeof names);
	hp_c_report(c, "signature_bypassed", false, i, s->line,
		    "its request is signed at \"%s\", but this road does not pass there: %s",
		    d->states[s->call.signed_by].name, names);
}

/* The first conditional approval on the road to i. */
static const char *condition_on(const struct walk *w, int i)
{
	const char *name = "";

	for (; w->from[i] != i; i = w->from[i])
		if (w->d->states[w->from[i]].kind == HP_APPROVAL)
			name = w->d->states[w->from[i]].name;
	return name;
}

void hp_c_reached(struct hp_checking *c, int from, bool reached[HP_STATES_MAX])
{
	struct walk w;

	walk(&w, &c->w->def, from, CLOSED_NONE);
	for (int i = 0; i < c->w->def.n_states; i++)
		reached[i] = w.from[i] >= 0;
}

/* As hp_c_freely(); w has the road. */
static int how_freely(struct walk *w, const struct hp_definition *d, int i)
{
	walk(w, d, 0, CLOSED_ALL);
	if (w->from[i] >= 0)
		return 2;
	walk(w, d, 0, CLOSED_UNCONDITIONAL);
	return w->from[i] >= 0;
}

/* An undo runs without asking anybody again: the approval before its effect covers both,
 * so it is looked for where the effect is. */
static void destructive(struct hp_checking *c, int i, const struct hp_operation *op, const char *what)
{
	const struct hp_definition *d = &c->w->def;
	char names[300];
	struct walk w;
	int freely = how_freely(&w, d, i);

	if (freely == 2) {
		road(&w, i, names, sizeof names);
		hp_c_report(c, "destructive_without_approval", false, i, d->states[i].line,
			    "the destructive %s.%s can be %s without an approval: %s", op->connector, op->name, what, names);
	} else if (freely == 1) {
		hp_c_report(c, "destructive_on_condition", false, i, d->states[i].line,
			    "the destructive %s.%s is %s without an approval when the condition of \"%s\" is false",
			    op->connector, op->name, what, condition_on(&w, i));
	}
}

int hp_c_freely(const struct hp_definition *d, int i, char *names, size_t n)
{
	struct walk w;
	int freely = how_freely(&w, d, i);

	if (freely > 0)
		road(&w, i, names, n);
	return freely;
}

const struct hp_operation *hp_state_harm(const struct hp_definition *d, const struct hp_state *s, bool undo)
{
	if (undo && !s->undo)
		return NULL;
	if (undo)
		s = &d->states[s->undo];
	return hp_state_calls(s) && s->call.op.destructive ? &s->call.op : NULL;
}

void hp_c_destructive(struct hp_checking *c, int i)
{
	const struct hp_definition *d = &c->w->def;

	for (int undo = 0; undo <= 1; undo++) {
		const struct hp_operation *op = hp_state_harm(d, &d->states[i], undo);

		if (op)
			destructive(c, i, op, undo ? "used to undo" : "reached");
	}
}
