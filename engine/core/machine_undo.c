/* machine_undo.c: unwinding: effects are undone in reverse.
 *
 *   an effect succeeds   its undo is evaluated in that very commit, as a request or
 *                        arguments that are complete, and kept in the undo log. Later
 *                        values of the run, other visits of the state and other
 *                        versions of the definition cannot change it any more.
 *   unwinding begins     at `fail { undo = true }`, a cancel, an operator's order; an
 *                        effect in doubt is looked at first
 *   UNDOING              parked between two entries, and claimed again at once: each
 *                        claim brings the newest open entry and does that one only
 *   its state            an undo is a visit of a state of its own (definition.h), so
 *                        admission, retries, doubt, probe and statements are those of
 *                        every other effect; it leaves by "done", or the run is held
 *   the end              as what began it, when nothing is left that a person must see
 *
 * Annexes of kind "undo": {"add": {…}} (from EVAL_UNDO), {"begin": status},
 * {"close": entry, "as": "done" | "skipped"}, {"answered": true}.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "core/machine_private.h"

static const char kind[] = "undo";

bool hp_m_unwinds(const struct hp_machine *m)
{
	return m->t.after.phase == HP_PH_UNDOING || m->t.after.state >= m->def->n_states;
}

bool hp_m_undo_due(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;

	return !hp_m_unwinds(m) && (a->command == HP_CMD_UNDO || (a->cancel && m->def->cancel_undoes));
}

bool hp_m_undo_order(enum hp_command command)
{
	return command == HP_CMD_UNDO || command == HP_CMD_UNDO_HAPPENED || command == HP_CMD_UNDO_ABSENT;
}

/* ---- annexes ---- */

/* Adds what was written at the end of undo_json. */
static void made_here(struct hp_machine *m, int n)
{
	char *p = m->undo_json + m->undo_json_n;

	HP_ASSERT(n > 0 && (size_t)n < sizeof m->undo_json - m->undo_json_n);
	m->undo_json_n += (size_t)n + 1;
	hp_m_annex(m, kind, (struct hp_bytes){ p, (size_t)n });
}

static size_t room(const struct hp_machine *m) { return sizeof m->undo_json - m->undo_json_n; }

/* How the effect that just succeeded is undone; or why nobody will know how. */
void hp_m_undo_kept(struct hp_machine *m, const struct hp_event *ev)
{
	char code[200], text[600];

	if (ev->ok) {
		hp_m_annex(m, kind, ev->value);
		return;
	}
	hp_m_json_escape(code, sizeof code, ev->code ? ev->code : "script_error");
	hp_m_json_escape(text, sizeof text, ev->message ? ev->message : "");
	made_here(m, snprintf(m->undo_json + m->undo_json_n, room(m),
			      "{\"add\":{\"code\":\"%s\",\"error\":\"%s\"}}", code, text));
}

/* A `catch` leads on although nobody knows whether the effect happened. Only a person can
 * find out what is to be undone then. */
void hp_m_undo_unknown(struct hp_machine *m)
{
	made_here(m, snprintf(m->undo_json + m->undo_json_n, room(m),
			      "{\"add\":{\"code\":\"in_doubt\",\"error\":\"whether it happened is not known: look at the "
			      "provider, and undo it by hand\"}}"));
}

/* ---- what a claim has found ---- */

void hp_m_undo_find(struct hp_machine *m, struct hp_bytes annex)
{
	json_t *u = hp_annex_found(annex, kind, NULL);
	const json_t *next = json_object_get(u, "next");
	struct hp_undo_found *f = &m->undo;

	memset(f, 0, sizeof *f);
	f->there = u != NULL;
	f->ends = (enum hp_status)hp_json_int(u, "ends", HP_FAILED);
	f->from = (int32_t)hp_json_int(u, "from", 0);
	f->left = (int)hp_json_int(u, "left", 0);
	hp_m_copy_text(f->code, sizeof f->code, hp_json_str(u, "code"));
	hp_m_copy_text(f->message, sizeof f->message, hp_json_str(u, "message"));
	hp_m_copy_text(f->names, sizeof f->names, hp_json_str(u, "names"));
	f->entry = (int32_t)hp_json_int(next, "entry", 0);
	f->state = (int32_t)hp_json_int(next, "state", 0);
	hp_m_copy_text(f->error_code, sizeof f->error_code, hp_json_str(next, "code"));
	json_decref(u);
}

const char *hp_m_undo_says(const struct hp_machine *m, const char *message, char *buf, size_t n)
{
	char head[181], all[sizeof head + sizeof m->undo.names + 16];

	if (!hp_m_unwinds(m) || !m->undo.names[0] || message == m->undo.names)
		return message;
	hp_m_copy_text(head, sizeof head, message);
	(void)snprintf(all, sizeof all, "%s%snot undone: %s", head, head[0] ? "; " : "", m->undo.names);
	hp_m_copy_text(buf, n, all);
	return buf;
}

/* ---- beginning ---- */

/* Whether the effect of this state happened is not known, and nothing is undone before
 * it is. */
void hp_m_undo_resolve(struct hp_machine *m, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	const struct hp_state *s = hp_m_state(m);

	if (s->kind == HP_CALL && s->call.has_probe) {
		a->status = HP_RUNNING;
		a->held_class = HP_CLASS_OK;
		a->failures = 0;
		hp_m_probe(m, act);
		return;
	}
	hp_m_hold(m, act, HP_AMBIGUOUS, "in_doubt",
		  "whether the effect of this state happened is not known, and nothing is undone before it is: "
		  "look at the provider, then undo with --happened yes or no");
}

/* An operator's order to a held run. While the effect in doubt is looked at, the order
 * stays in the row. */
void hp_m_undo_ordered(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act,
		       enum hp_command command)
{
	struct hp_run *a = hp_m_after(m);

	a->command = HP_CMD_UNDO;
	if (a->unresolved && command == HP_CMD_UNDO_HAPPENED) {
		a->unresolved = false;
		a->status = HP_RUNNING;
		a->held_class = HP_CLASS_OK;
		hp_m_succeed(m, act, hp_m_state(m)->save, ev->command_value);
		return;
	}
	if (command == HP_CMD_UNDO_ABSENT)
		a->unresolved = false;
	if (HP_GUARD(undo_doubt, !a->unresolved))
		hp_m_unwind(m, act, a->cancel ? HP_CANCELLED : HP_FAILED);
	else
		hp_m_undo_resolve(m, act);
}

/* Between two entries: whoever claims it next goes on. */
static void park(struct hp_machine *m, struct hp_action *act, enum hp_move move)
{
	struct hp_run *a = hp_m_after(m);

	a->status = HP_RUNNING; /* hp_m_park() keeps what is held held */
	a->held_class = HP_CLASS_OK;
	a->command = HP_CMD_NONE;
	a->unresolved = false;
	a->attempt = a->failures = 0;
	a->signed_visit = 0;
	a->first_sent_at = a->sent_at = 0;
	m->dirty = false; /* more than that a state was entered on the way */
	hp_m_park(m, act, move, HP_PH_UNDOING, m->now);
}

/* From here on the run only goes back. */
void hp_m_unwind(struct hp_machine *m, struct hp_action *act, enum hp_status ends)
{
	struct hp_run *a = hp_m_after(m);

	HP_ASSERT(!hp_m_unwinds(m));
	hp_m_stop_waiting(m);
	if (!m->t.code && a->code[0]) /* what it was held for */
		hp_m_outcome(m, a->held_class, a->code, NULL);
	hp_m_leave_limits(m, false);
	made_here(m, snprintf(m->undo_json + m->undo_json_n, room(m), "{\"begin\":%d}", (int)ends));
	park(m, act, HP_MOVE_UNDOING);
}

/* ---- going back ---- */

void hp_m_undo_next(struct hp_machine *m, struct hp_action *act)
{
	const struct hp_undo_found *u = &m->undo;
	struct hp_run *a = hp_m_after(m);

	a->status = HP_RUNNING;
	if (!u->there) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "undo_log_missing", "the log of what is to be undone was not found");
	} else if (u->entry > 0 && u->state == 0) {
		/* its error is told with the names of what is left */
		hp_m_hold(m, act, HP_NEEDS_PERSON, u->error_code[0] ? u->error_code : "script_error", NULL);
	} else if (u->entry > 0 && (u->state < m->def->n_states || u->state >= m->def->n_states + m->def->n_undos)) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "definition_mismatch", "the definition does not have this undo");
	} else if (u->entry > 0) {
		hp_m_enter(m, act, u->state);
	} else if (u->left > 0) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "left_undone", u->names);
	} else {
		hp_m_eval(m, act, HP_EVAL_RESULT, 0); /* as it was kept when this began */
	}
}

void hp_m_undone(struct hp_machine *m, struct hp_action *act, const char *as)
{
	m->t.after.code[0] = 0;
	made_here(m, snprintf(m->undo_json + m->undo_json_n, room(m), "{\"close\":%d,\"as\":\"%s\"}",
			      (int)m->undo.entry, as));
	park(m, act, HP_MOVE_UNDONE);
}

/* A person has undone it by hand, or answers for all that nothing can undo. */
void hp_m_undo_skip(struct hp_machine *m, struct hp_action *act)
{
	if (m->undo.entry > 0) {
		hp_m_undone(m, act, "skipped");
		return;
	}
	made_here(m, snprintf(m->undo_json + m->undo_json_n, room(m), "{\"answered\":true}"));
	m->undo.left = 0;
	hp_m_undo_next(m, act);
}

void hp_m_undo_end(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_undo_found *u = &m->undo;

	if (u->from >= 0 && u->from < m->def->n_states)
		m->t.after.state = u->from; /* it ends where it turned round */
	if (u->ends == HP_FAILED)
		hp_m_outcome(m, HP_TERMINAL, u->code[0] ? u->code : "failed", u->message);
	hp_m_finish(m, act, u->ends, ev->value);
}
