/* check_child.c: lints across workflows: what the children of run and each do is what
 * their parent does.
 *
 * A child is as destructive as what can be reached in it, and in its own children; one
 * whose definition is not at hand counts as destructive.
 */
#include <stdio.h>
#include <string.h>
#include "script/check.h"

#define DEPTH_MAX 32 /* as deep as children of children may be */

/* The workflows on the way down. */
struct chain {
	const char *name;
	const struct chain *up;
};

/* The most freely reached destructive thing in a workflow. */
struct harm {
	int freely;          /* as hp_c_freely(); 0: none */
	bool unknown;        /* it is only taken for one */
	bool undo;           /* it undoes something */
	char what[160];      /* "bank.wires.send" */
	char where[3 * HP_NAME_MAX]; /* the workflow it is in */
};

static bool on_the_way(const struct chain *chain, const char *name)
{
	for (; chain; chain = chain->up)
		if (strcmp(chain->name, name) == 0)
			return true;
	return false;
}

static int depth_of(const struct chain *chain)
{
	int n = 0;

	for (; chain; chain = chain->up)
		n++;
	return n;
}

static bool has_children(const struct hp_state *s)
{
	return s->kind == HP_RUN || s->kind == HP_EACH;
}

static void harm_of(const struct hp_checking *c, const char *name, const struct chain *up, struct harm *out);

/* What a state of workflow d can destroy; false: nothing. */
static bool harm_in(const struct hp_checking *c, const struct hp_definition *d, const struct hp_state *s, const struct chain *here,
		    struct harm *out)
{
	const struct hp_operation *op = hp_state_harm(d, s, false);

	memset(out, 0, sizeof *out);
	if (!op) {
		op = hp_state_harm(d, s, true);
		out->undo = op != NULL;
	}
	if (op) {
		out->freely = 2;
		(void)snprintf(out->what, sizeof out->what, "%s.%s", op->connector, op->name);
		(void)snprintf(out->where, sizeof out->where, "%s", here->name);
	} else if (has_children(s) && !on_the_way(here, s->children.workflow) && depth_of(here) < DEPTH_MAX) {
		harm_of(c, s->children.workflow, here, out);
	}
	return out->freely > 0;
}

static void harm_of(const struct hp_checking *c, const char *name, const struct chain *up, struct harm *out)
{
	const struct hp_workflow *w = c->find(c->find_arg, name);
	const struct chain here = {name, up};
	char names[300];

	memset(out, 0, sizeof *out);
	if (!w) {
		out->freely = 2;
		out->unknown = true;
		(void)snprintf(out->where, sizeof out->where, "%s", name);
		return;
	}
	for (int i = 0; i < w->def.n_states && out->freely < 2; i++) {
		struct harm h;
		int freely;

		if (!harm_in(c, &w->def, &w->def.states[i], &here, &h))
			continue;
		freely = hp_c_freely(&w->def, i, names, sizeof names);
		h.freely = freely < h.freely ? freely : h.freely;
		if (h.freely > out->freely)
			*out = h;
	}
}

/* Does `name` come back to the workflow that is checked? */
static bool comes_back(const struct hp_checking *c, const char *name, const struct chain *up)
{
	const struct chain here = {name, up};
	const struct hp_workflow *w;

	if (strcmp(name, c->w->def.workflow) == 0)
		return true;
	if (on_the_way(up, name) || depth_of(up) >= DEPTH_MAX)
		return false;
	w = c->find(c->find_arg, name);
	for (int i = 0; w && i < w->def.n_states; i++)
		if (has_children(&w->def.states[i]) && comes_back(c, w->def.states[i].children.workflow, &here))
			return true;
	return false;
}

static void destroys(struct hp_checking *c, int i, const struct harm *h)
{
	const struct hp_definition *d = &c->w->def;
	const struct hp_state *s = &d->states[i];
	const char *verb = h->undo ? "used to undo" : "reached";
	char names[300];
	int freely = hp_c_freely(d, i, names, sizeof names);

	if (freely == 0)
		return;
	if (h->unknown)
		hp_c_report(c, "child_unknown", false, i, s->line,
			    "workflow \"%s\" is not beside this file, so what it does is not known and counts as destructive, "
			    "and no approval is sure to come before it: %s", h->where, names);
	else if (freely == 2 && h->freely == 2)
		hp_c_report(c, "destructive_without_approval", false, i, s->line,
			    "the destructive %s in workflow \"%s\", which this starts, can be %s without an approval: %s",
			    h->what, h->where, verb, names);
	else
		hp_c_report(c, "destructive_on_condition", false, i, s->line,
			    "the destructive %s in workflow \"%s\", which this starts, is %s without an approval when the "
			    "condition of one is false: %s", h->what, h->where, verb, names);
}

void hp_c_child(struct hp_checking *c, int i)
{
	const struct hp_state *s = &c->w->def.states[i];
	const struct chain self = {c->w->def.workflow, NULL};
	struct harm h;

	if (!has_children(s) || !c->find)
		return;
	if (comes_back(c, s->children.workflow, NULL)) {
		hp_c_report(c, "child_circle", true, i, s->line,
			    "workflow \"%s\" starts \"%s\", which starts it again: children of children may be %d deep, "
			    "so this ends in a failure", c->w->def.workflow, s->children.workflow, DEPTH_MAX);
		return;
	}
	harm_of(c, s->children.workflow, &self, &h);
	if (h.freely > 0)
		destroys(c, i, &h);
}
