/* check_undo.c: lints about taking effects back.
 *
 * A run goes back from a `fail` with undo = true, by a cancel where on_cancel = "undo",
 * or by an operator. Only the first two are in the graph; what they would leave behind
 * is said before anything is deployed.
 */
#include <stdio.h>
#include <string.h>
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

/* Effects without undo that a run may have had when it reaches `at` (HP_NO_STATE:
 * anywhere). "charge, note" */
static int left_before(struct hp_checking *c, int at, char *out, size_t n)
{
	const struct hp_definition *d = &c->w->def;
	size_t used = 0;
	int count = 0;

	out[0] = '\0';
	for (int i = 0; i < d->n_states; i++) {
		const struct hp_state *s = &d->states[i];

		if (!has_effect(s) || s->has_undo || (at != HP_NO_STATE && !hp_c_leads_to(c, i, at)))
			continue;
		if (used < n - 1)
			used += (size_t)snprintf(out + used, n - used, "%s%s", count ? ", " : "", s->name);
		count++;
	}
	return count;
}

void hp_c_undo_incomplete(struct hp_checking *c)
{
	const struct hp_definition *d = &c->w->def;
	char names[300];

	if (d->cancel_undoes && left_before(c, HP_NO_STATE, names, sizeof names) > 0)
		hp_c_report(c, "undo_incomplete", false, HP_NO_STATE, c->w->line,
			    "a cancel undoes what the run did, but these effects say nothing of how: %.280s", names);
	for (int i = 0; i < d->n_states; i++)
		if (d->states[i].kind == HP_FAIL && d->states[i].fail.undo && left_before(c, i, names, sizeof names) > 0)
			hp_c_report(c, "undo_incomplete", false, i, d->states[i].line,
				    "it undoes what the run did, but these effects before it say nothing of how: %.280s",
				    names);
}
