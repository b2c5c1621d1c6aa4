/* graph.c: a workflow as a Mermaid flowchart.
 *
 * Identifiers are s0, s1, …: a state may be called "end", which Mermaid reserves.
 * Exceptional ways are dotted, so the ordinary road stands out.
 */
#include <string.h>
#include "script/internal.h"

/* Mermaid's own entities; `#` begins one, so it is escaped too. */
static void escaped(struct hp_buf *out, const char *s)
{
	for (; *s; s++) {
		if (strchr("\"#<>&|`\\{}[]()", *s) || (unsigned char)*s < ' ')
			hp_buf_printf(out, "#%d;", *s);
		else
			hp_buf_addc(out, *s);
	}
}

struct shape {
	const char *open, *close;
};

static struct shape shape_of(enum hp_kind k)
{
	switch (k) {
	case HP_CALL:
		return (struct shape){"[\"", "\"]"};
	case HP_SWEEP:
		return (struct shape){"[[\"", "\"]]"};
	case HP_SQL:
		return (struct shape){"[(\"", "\")]"};
	case HP_CHOOSE:
		return (struct shape){"{\"", "\"}"};
	case HP_APPROVAL:
		return (struct shape){"{{\"", "\"}}"};
	case HP_WAIT:
	case HP_AWAIT:
		return (struct shape){"[/\"", "\"/]"};
	case HP_RUN:
	case HP_EACH:
		return (struct shape){"[[\"", "\"]]"};
	case HP_SUCCEED:
		return (struct shape){"([\"", "\"])"};
	case HP_FAIL:
		break;
	}
	return (struct shape){"(((\"", "\")))"};
}

static void node(const struct hp_state *s, int i, struct hp_buf *out)
{
	struct shape shape = shape_of(s->kind);
	int k;

	hp_buf_printf(out, "  s%d%s", i, shape.open);
	escaped(out, s->name);
	if (hp_state_calls(s)) {
		hp_buf_adds(out, "<br/>");
		escaped(out, s->call.op.connector);
		hp_buf_addc(out, '.');
		escaped(out, s->call.op.name);
	} else if (s->kind == HP_APPROVAL) {
		hp_buf_adds(out, "<br/>");
		escaped(out, s->approval.approvers);
	} else if (s->kind == HP_RUN || s->kind == HP_EACH) {
		hp_buf_adds(out, s->kind == HP_RUN ? "<br/>workflow " : "<br/>for each item: workflow ");
		escaped(out, s->children.workflow);
	}
	for (k = 0; s->kind == HP_AWAIT && k < s->await.n_events; k++) {
		hp_buf_adds(out, "<br/>");
		escaped(out, s->await.events[k]);
	}
	hp_buf_printf(out, "%s\n", shape.close);
}

static void arrow(void *arg, int from, int to, const char *label, int line)
{
	struct hp_buf *out = arg;

	(void)line;
	if (strcmp(label, "next") == 0) {
		hp_buf_printf(out, "  s%d --> s%d\n", from, to);
		return;
	}
	hp_buf_printf(out, "  s%d %s|\"", from,
		      strncmp(label, "when ", 5) == 0 || strcmp(label, "otherwise") == 0 ? "-->" : "-.->");
	escaped(out, label);
	hp_buf_printf(out, "\"| s%d\n", to);
}

static void trigger(const struct hp_trigger *t, int i, struct hp_buf *out)
{
	int k;

	hp_buf_printf(out, "  t%d>\"", i);
	escaped(out, t->source);
	for (k = 0; k < t->n_events; k++) {
		hp_buf_adds(out, "<br/>");
		escaped(out, t->events[k]);
	}
	hp_buf_printf(out, "\"] --> s0\n");
}

int hp_workflow_graph(const struct hp_workflow *w, struct hp_buf *out, struct hp_error *err)
{
	const struct hp_definition *d = &w->def;
	int i;

	hp_buf_adds(out, "flowchart TD\n");
	for (i = 0; i < d->n_triggers; i++)
		trigger(&d->triggers[i], i, out);
	for (i = 0; i < d->n_schedules; i++) {
		hp_buf_printf(out, "  t%d>\"", d->n_triggers + i);
		escaped(out, d->schedules[i].cron);
		hp_buf_adds(out, "<br/>");
		escaped(out, d->schedules[i].zone);
		hp_buf_adds(out, "\"] --> s0\n");
	}
	for (i = 0; i < d->n_states; i++)
		node(&d->states[i], i, out);
	for (i = d->n_states; i < d->n_states + d->n_undos; i++)
		node(&d->states[i], i, out);
	for (i = 0; i < d->n_states; i++)
		hp_definition_edges(d, i, arrow, out);
	for (i = 0; i < d->n_states; i++)
		if (d->states[i].undo)
			hp_buf_printf(out, "  s%d -. undo .- s%d\n", i, d->states[i].undo);
	return hp_buf_check(out, "the graph", err);
}
