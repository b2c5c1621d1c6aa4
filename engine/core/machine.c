/* machine.c: events in, actions out.
 *
 * One function per event; hp_step() dispatches. What a visit does lives in
 * machine_effect.c (calls, statements), machine_children.c (run, each) and
 * machine_state.c (the rest); how the
 * transition is built in machine_move.c.
 */
#include <stddef.h>
#include <string.h>

#include "base/limits.h"
#include "core/machine_private.h"

const char *hp_status_name(enum hp_status s)
{
	switch (s) {
	case HP_RUNNING: return "running";
	case HP_WAITING: return "waiting";
	case HP_HELD: return "held";
	case HP_SUCCEEDED: return "succeeded";
	case HP_FAILED: return "failed";
	case HP_CANCELLED: return "cancelled";
	}
	return "unknown";
}

bool hp_status_final(enum hp_status s)
{
	return s == HP_SUCCEEDED || s == HP_FAILED || s == HP_CANCELLED;
}

const char *hp_move_name(enum hp_move m)
{
	static const char *const names[] = {
		"", "started", "entered", "admitted", "retry", "doubt", "probing", "parked",
		"held", "finished", "reminded", "decided", "commanded", "woken", "gated", "paused",
		"resumed", "moved", "restarted", "spawned", "checked", "unknown", "undoing", "undone", "swept",
	};

	return (size_t)m > 0 && (size_t)m < sizeof names / sizeof *names ? names[m] : "unknown";
}

json_t *hp_annex_found(struct hp_bytes annex, const char *kind, struct hp_error *err)
{
	json_t *all = annex.n ? hp_json_parse(annex.p, annex.n, "annex", err) : NULL;
	json_t *one = json_incref(json_object_get(all, kind));

	json_decref(all);
	return one;
}

void hp_run_start(struct hp_run *run, int64_t id, int64_t now)
{
	memset(run, 0, sizeof *run);
	run->id = id;
	run->visit = 1;
	run->status = HP_RUNNING;
	run->phase = HP_PH_ENTER;
	run->entered_at = now;
}

void hp_machine_init(struct hp_machine *m, const struct hp_definition *def, const struct hp_run *run,
		     int64_t lease_us)
{
	memset(m, 0, offsetof(struct hp_machine, arms_json)); /* what follows is written before it is read */
	m->def = def;
	m->run = *run;
	m->lease_us = lease_us;
	m->mode = HP_M_IDLE;
}

/* The number that RESTART brings: a state of this definition, or HP_NO_STATE. */
static int restart_state(const struct hp_machine *m, struct hp_bytes value)
{
	int state = 0;

	for (size_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9' || state >= m->def->n_states)
			return HP_NO_STATE;
		state = state * 10 + (value.p[i] - '0');
	}
	return value.n > 0 && state < m->def->n_states ? state : HP_NO_STATE;
}

/* The doors have looked at the graph already: here is only what holds for every run. */
static void restart(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	int state = restart_state(m, ev->command_value);

	if (hp_m_unwinds(m)) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "unwinding", "what is being unwound only goes back");
		return;
	}
	if (!HP_GUARD(restart_unresolved, !a->unresolved)) {
		hp_m_hold(m, act, HP_AMBIGUOUS, "in_doubt",
			  "whether the effect of this state happened is not known: retry or skip it first");
		return;
	}
	if (state == HP_NO_STATE) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "no_state", "the definition has no such state to restart from");
		return;
	}
	hp_m_stop_waiting(m);
	hp_m_leave(m, act, state);
	if (m->t.move != HP_MOVE_ENTERED)
		return;
	m->t.move = HP_MOVE_RESTARTED;
	/* signed anew: a signature that was never used would stand in its way */
	if (hp_m_state(m)->kind == HP_APPROVAL && hp_m_state(m)->approval.of != HP_NO_STATE && !HP_MUTANT(restart_signed))
		a->signed_visit = 0;
}

/* A door's order; false: there is none. */
static bool commanded(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	enum hp_command command = a->command;
	const struct hp_state *s = hp_m_state(m);

	a->command = HP_CMD_NONE;
	if (hp_m_undo_order(command) && hp_m_unwinds(m))
		command = HP_CMD_RETRY; /* it is on its way back already */
	switch (command) {
	case HP_CMD_NONE:
		return false;
	case HP_CMD_GIVE_UP:
		hp_m_finish(m, act, HP_FAILED, (struct hp_bytes){ NULL, 0 });
		return true;
	case HP_CMD_UNDO:
	case HP_CMD_UNDO_HAPPENED:
	case HP_CMD_UNDO_ABSENT:
		hp_m_undo_ordered(m, ev, act, command);
		return true;
	case HP_CMD_SKIP:
		if (hp_m_unwinds(m)) {
			hp_m_undo_skip(m, act);
			return true;
		}
		if (s->kind == HP_APPROVAL) { /* the doors refuse it: an operator is not an approver */
			hp_m_hold(m, act, HP_NEEDS_PERSON, "not_skippable",
				  "an approval cannot be skipped: retry asks again");
			return true;
		}
		a->unresolved = false;
		hp_m_succeed(m, act, s->save, ev->command_value);
		return true;
	case HP_CMD_RESTART:
		restart(m, ev, act);
		return true;
	case HP_CMD_RETRY:
		break;
	}
	a->status = HP_RUNNING;
	a->held_class = HP_CLASS_OK;
	a->failures = 0;
	a->code[0] = 0;
	a->entered_at = m->now; /* `total` counts from here */
	if (a->phase == HP_PH_UNDOING) {
		hp_m_undo_next(m, act);
	} else if (s->kind != HP_CALL && hp_m_unwinds(m)) {
		hp_m_enter(m, act, a->state);
	} else if (s->kind != HP_CALL && s->kind != HP_SWEEP) { /* no key or place to keep: the state is entered anew */
		hp_m_leave(m, act, a->state);
	} else if (a->unresolved && s->call.has_probe) {
		hp_m_probe(m, act);
	} else {
		/* a person looked and says: again. Under its key, while that is safe, the answer is to
		 * what is in doubt as well; otherwise we have their word, and the window starts anew */
		if (HP_MUTANT(retry_doubt) || !hp_m_can_repeat(m))
			a->unresolved = false;
		a->phase = HP_PH_ENTER;
		hp_m_work(m, act);
	}
	return true;
}

/* May a cancel end the run here, with nothing of it in the air? */
static bool may_cancel(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;
	bool in_air = a->unresolved || a->phase == HP_PH_ADMITTED || a->phase == HP_PH_PROBING;

	if (!a->cancel || !HP_GUARD(undo_cancel, !hp_m_unwinds(m)))
		return false;
	if (a->status == HP_HELD) /* the person who cancels has been told what is in doubt */
		return true;
	return HP_GUARD(cancel_in_flight, !in_air) ||
	       (hp_m_state(m)->kind == HP_CALL && hp_m_state(m)->call.op.read);
}

/* A pause stops the run where nothing of it is in the air: what was sent resolves first. */
static bool may_pause(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;

	return a->pause && HP_GUARD(pause_in_flight, a->phase != HP_PH_ADMITTED && a->phase != HP_PH_PROBING);
}

/* As it is: what it waits for, its order and its due time are looked at when it is resumed. */
static void pause_here(struct hp_machine *m, struct hp_action *act)
{
	hp_m_leave_limits(m, true);
	hp_m_park(m, act, HP_MOVE_PAUSED, m->t.after.phase, m->t.after.due_at);
}

static void claimed_phase(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);

	switch (a->phase) {
	case HP_PH_ENTER:
		if (a->visit == 1 && m->def->has_input)
			hp_m_eval(m, act, HP_EVAL_INPUT, 0);
		else
			hp_m_work(m, act);
		return;
	case HP_PH_ADMITTED:
		hp_m_interrupted(m, act);
		return;
	case HP_PH_BACKOFF:
		if (m->now < a->due_at)
			hp_m_park(m, act, HP_MOVE_WOKEN, HP_PH_BACKOFF, a->due_at);
		else
			hp_m_work(m, act);
		return;
	case HP_PH_DOUBT:
		if (m->now < a->due_at)
			hp_m_park(m, act, HP_MOVE_WOKEN, HP_PH_DOUBT, a->due_at);
		else
			hp_m_probe(m, act);
		return;
	case HP_PH_PROBING: /* a probe only reads: it is simply asked again */
		hp_m_probe(m, act);
		return;
	case HP_PH_OPEN:
		hp_m_open(m, ev, act);
		return;
	case HP_PH_GATED: /* the request is rendered anew: time has passed */
		if (strcmp(a->code, "over_budget") == 0)
			hp_m_fail(m, act, HP_TERMINAL, "over_budget", "its budget is used up");
		else
			hp_m_work(m, act);
		return;
	case HP_PH_UNDOING:
		hp_m_undo_next(m, act);
		return;
	case HP_PH_JOINING:
		hp_m_joining(m, ev, act);
		return;
	}
	HP_ASSERT(0 && "unknown phase");
}

/* What is held now, as it was committed, may have a request in the air of which
 * nobody will hear: who looks at it must be told, and a retry must look first. */
static void hold_as_found(struct hp_machine *m, struct hp_action *act, const char *code, const char *message)
{
	struct hp_run *a = hp_m_after(m);

	if (a->status == HP_RUNNING && a->phase == HP_PH_ADMITTED && !hp_m_state(m)->call.op.read)
		a->unresolved = true;
	hp_m_hold(m, act, HP_NEEDS_PERSON, code, message);
}

static void on_claimed(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);

	m->run.cancel = m->run.cancel || ev->cancel;
	m->run.pause = ev->pause;
	m->annex = ev->annex;
	hp_m_begin(m);
	if (hp_m_state(m)->kind == HP_SWEEP)
		hp_m_sweep_found(m, ev);
	if (!HP_GUARD(final, !hp_status_final(m->run.status))) {
		hp_m_drop(m, act);
		return;
	}
	if (hp_m_unwinds(m))
		hp_m_undo_find(m, ev->annex);
	if (may_cancel(m) && !hp_m_undo_order(a->command)) {
		if (!hp_m_ends_children(m, act))
			hp_m_cancel(m, act);
		return;
	}
	if (may_pause(m)) {
		pause_here(m, act);
		return;
	}
	if (m->run.status == HP_HELD || m->run.command == HP_CMD_RESTART) {
		if (!commanded(m, ev, act))
			hp_m_park(m, act, HP_MOVE_WOKEN, a->phase, 0);
		return;
	}
	if (m->run.claims > HP_CLAIMS_STALLED_MAX) {
		hold_as_found(m, act, "stalled",
			      "the run was claimed many times and never moved: it may be killing its workers");
		return;
	}
	claimed_phase(m, ev, act);
}

/* The admission is durable. True: a door was faster, and what was admitted is not sent. */
static bool stopped_unsent(struct hp_machine *m, struct hp_action *act)
{
	bool cancels = m->run.cancel && !hp_m_unwinds(m);

	if (m->run.unresolved || !(cancels || m->run.pause))
		return false;
	hp_m_take_back(m);
	if (cancels)
		hp_m_cancel(m, act);
	else
		pause_here(m, act);
	return true;
}

static void on_committed(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	bool admitted = m->t.admits;
	bool probing = m->t.move == HP_MOVE_PROBING;
	bool gone = m->t.disposition != HP_KEEP || ev->gated;

	m->run = m->t.after;
	m->run.cancel = m->run.cancel || ev->cancel;
	m->run.pause = ev->pause;
	hp_m_begin(m);
	if (hp_m_state(m)->kind == HP_SWEEP)
		m->sweep.row = ev->kept;
	if (gone)
		hp_m_drop(m, act);
	else if (admitted && stopped_unsent(m, act))
		return;
	else if (admitted)
		hp_m_admitted(m, ev, act);
	else if (probing)
		hp_m_send(m, act, true);
	else if (may_cancel(m))
		hp_m_cancel(m, act);
	else if (may_pause(m))
		pause_here(m, act);
	else
		claimed_phase(m, ev, act);
}

static void on_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	if (m->mode == HP_M_COMMIT) {
		/* the store refused the row: start over from what is committed, held */
		HP_ASSERT(!ev->ok);
		hp_m_begin(m);
		hold_as_found(m, act, ev->code, ev->message);
		return;
	}
	HP_ASSERT(m->mode == HP_M_EVAL);
	hp_m_value(m, ev, act);
}

static void on_reply(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	if (m->mode == HP_M_SEND) {
		hp_m_reply_call(m, ev, act);
	} else if (m->mode == HP_M_PROBE) {
		hp_m_reply_probe(m, ev, act);
	} else if (m->mode == HP_M_SQL) {
		hp_m_reply_sql(m, ev, act);
	} else {
		HP_ASSERT(m->mode == HP_M_CHECK && "a reply nobody waits for");
		hp_m_reply_check(m, ev, act);
	}
}

void hp_step(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	memset(act, 0, sizeof *act);
	if (ev->now > 0)
		m->now = ev->now;
	switch (ev->type) {
	case HP_EV_CLAIMED:
		HP_ASSERT(m->mode == HP_M_IDLE);
		on_claimed(m, ev, act);
		return;
	case HP_EV_VALUE:
		on_value(m, ev, act);
		return;
	case HP_EV_COMMITTED:
		HP_ASSERT(m->mode == HP_M_COMMIT);
		on_committed(m, ev, act);
		return;
	case HP_EV_REPLY:
		on_reply(m, ev, act);
		return;
	}
	HP_ASSERT(0 && "unknown event");
}

/* Every place that is filled: whoever steps a machine wipes what they pointed to, so that
 * one that is missing here is missed by every test. */
int hp_event_keep(struct hp_event *ev, struct hp_arena *a)
{
	struct hp_bytes *const bytes[] = {&ev->value,   &ev->demands,	   &ev->key,
					  &ev->secrets, &ev->swept.cursor, &ev->swept.row};
	const char **const texts[] = {&ev->code, &ev->message};
	bool whole = true;

	for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
		bytes[i]->p = bytes[i]->n > 0 ? hp_arena_strndup(a, bytes[i]->p, bytes[i]->n) : NULL;
		whole &= bytes[i]->p || bytes[i]->n == 0;
	}
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (*texts[i])
			whole &= (*texts[i] = hp_arena_strdup(a, *texts[i])) != NULL;
	return whole ? 0 : -1;
}
