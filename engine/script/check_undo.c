/* check_undo.c: lints about taking effects back.
 *
 * A run goes back from a `fail` with undo = true, by a cancel where on_cancel = "undo",
 * or by an operator. Only the first two are in the graph; what they would leave behind
 * is said before anything is deployed.
 */
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "script/check.h"

static bool has_effect(const struct hp_state *s)
{
	/* whether a `one` or `many` writes cannot be seen; an `exec` is there to */
	return (s->kind == HP_CALL && !s->call.op.read) || (s->kind == HP_SQL && s->sql.mode == HP_SQL_EXEC) ||
	       s->kind == HP_SWEEP || s->kind == HP_RUN || s->kind == HP_EACH; /* what children do stays theirs */
}

static bool reads(const struct hp_state *s)
{
	return s->kind == HP_CALL && s->call.op.read;
}

static void pointless(struct hp_checking *c, int i, const struct hp_state *s)
{
	const struct hp_state *u = &c->w->def.states[s->undo];

	if (reads(s))
		hp_c_report(c, "undo_of_a_read", true, i, s->line,
			    "%s.%s only looks, so there is nothing to undo", s->call.op.connector, s->call.op.name);
	else if (s->undo && reads(u))
		hp_c_report(c, "undo_only_reads", true, i, s->line, "undo: %s.%s only looks, so it undoes nothing",
			    u->call.op.connector, u->call.op.name);
}

static void in_doubt(struct hp_checking *c, int i, const struct hp_state *s)
{
	const struct hp_state *u = &c->w->def.states[s->undo];

	if (s->undo && u->kind == HP_CALL && u->call.op.repeat == HP_REPEAT_NEVER && !u->call.has_probe)
		hp_c_report(c, "undo_without_probe", false, i, s->line,
			    "undo: %s.%s must not be repeated and has no probe; when a reply is lost, unwinding would be "
			    "held",
			    u->call.op.connector, u->call.op.name);
}

void hp_c_undo(struct hp_checking *c, int i)
{
	const struct hp_state *s = &c->w->def.states[i];

	if (!s->has_undo)
		return;
	pointless(c, i, s);
	in_doubt(c, i, s);
}

/* Names of effects without undo: "charge, note". */
struct left {
	int n;
	size_t used;
	char names[300];
};

static void add_left(struct left *l, const char *name)
{
	if (l->used < sizeof l->names - 1)
		l->used += (size_t)snprintf(l->names + l->used, sizeof l->names - l->used, "%s%s", l->n ? ", " : "", name);
	l->n++;
}

static bool turns_round(const struct hp_state *s)
{
	return s->kind == HP_FAIL && s->fail.undo;
}

/* Effects a run may have had when it is cancelled (all), or fails in state i (at[i]). One walk for each effect. */
static void collect(struct hp_checking *c, struct left *all, struct left *at)
{
	const struct hp_definition *d = &c->w->def;
	bool reached[HP_STATES_MAX];

	for (int i = 0; i < d->n_states; i++) {
		const struct hp_state *s = &d->states[i];

		if (!has_effect(s) || s->has_undo)
			continue;
		add_left(all, s->name);
		hp_c_reached(c, i, reached);
		for (int k = 0; k < d->n_states; k++)
			if (reached[k] && turns_round(&d->states[k]))
				add_left(&at[k], s->name);
	}
}

void hp_c_undo_incomplete(struct hp_checking *c)
{
	const struct hp_definition *d = &c->w->def;
	struct left all = {0}, *at;
	bool asked = d->cancel_undoes;

	for (int i = 0; i < d->n_states; i++)
		asked = asked || turns_round(&d->states[i]);
	if (!asked)
		return;
	at = hp_calloc((size_t)d->n_states, sizeof *at);
	if (!at) {
		hp_c_report(c, "load", true, HP_NO_STATE, c->w->line, "no memory left");
		return;
	}
	collect(c, &all, at);
	if (d->cancel_undoes && all.n > 0)
		hp_c_report(c, "undo_incomplete", false, HP_NO_STATE, c->w->line,
			    "a cancel undoes what the run did, but these effects say nothing of how: %.280s", all.names);
	for (int i = 0; i < d->n_states; i++)
		if (at[i].n > 0)
			hp_c_report(c, "undo_incomplete", false, i, d->states[i].line,
				    "it undoes what the run did, but these effects before it say nothing of how: %.280s",
				    at[i].names);
	hp_free(at);
}
