/* machine_move.c: building the one transition a step may commit.
 *
 * A transition is begun (hp_m_begin), filled (outcome, saves, where to) and handed
 * out as HP_ACT_COMMIT. It changes the state at most once: leaving one state and
 * entering the next, together with whatever the next one can do in the same commit
 * (the admission of a call, the parking of a wait, the end of the run).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "base/mutant.h"
#include "core/machine_private.h"

static const struct hp_bytes nothing = { NULL, 0 };

void hp_m_copy_text(char *dst, size_t size, const char *src)
{
	size_t n = src ? strnlen(src, size) : 0;

	if (n >= size) {
		n = size - 1;
		while (n > 0 && ((unsigned char)src[n] & 0xC0) == 0x80)
			n--;
	}
	if (n > 0)
		memcpy(dst, src, n);
	dst[n] = 0;
}

/* One that was lost before the reload may land after it, and then it is that one which is found:
 * made of what was known then, and not of what is known now. */
bool hp_transition_alone(const struct hp_transition *t)
{
	return HP_GUARD(look_reread, !t->reread);
}

void hp_m_begin(struct hp_machine *m)
{
	memset(&m->t, 0, sizeof m->t);
	m->t.run_id = m->run.id;
	m->t.epoch = m->run.epoch;
	m->t.rev = m->run.rev;
	m->t.reread = m->reread == m->run.rev;
	m->t.from_state = m->run.state;
	m->t.from_visit = m->run.visit;
	m->t.after = m->run;
	m->t.after.rev = m->run.rev + 1;
	m->t.after.claims = 0;
	m->failed_child = 0;
	m->dirty = false;
	m->undo_json_n = 0;
}

void hp_m_eval(struct hp_machine *m, struct hp_action *act, enum hp_eval what, int32_t index)
{
	if (hp_m_state(m)->kind == HP_SWEEP)
		act->value = m->sweep.row;
	m->mode = HP_M_EVAL;
	m->asked = what;
	m->asked_index = index;
	act->type = HP_ACT_EVAL;
	act->eval = what;
	act->state = m->t.after.state;
	act->index = index;
	act->pending = &m->t;
}

void hp_m_annex(struct hp_machine *m, const char *kind, struct hp_bytes doc)
{
	HP_ASSERT(m->t.n_annexes < HP_ANNEXES_MAX);
	m->t.annexes[m->t.n_annexes++] = (struct hp_annex){ kind, doc };
}

/* Is it certain that this visit did nothing? Then what it had of budgets goes back. */
static bool did_nothing(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;

	return HP_GUARD(budget_return, !a->unresolved && (a->attempt == 0 || m->t.outcome == HP_TERMINAL));
}

void hp_m_leave_limits(struct hp_machine *m, bool stays)
{
	const struct hp_state *s = hp_m_state(m);

	if (!hp_state_calls(s) || !s->call.limited)
		return;
	if (m->t.after.visit != m->t.from_visit) /* uncovered: a call that was just entered is left by a later transition */
		return;                          /* uncovered: the same */
	if (did_nothing(m))
		hp_m_annex(m, "limits", hp_bytes_of("{\"end\":\"return\"}"));
	else if (stays)
		hp_m_annex(m, "limits", hp_bytes_of("{\"end\":\"slots\"}"));
	else
		hp_m_annex(m, "limits", hp_bytes_of("{\"end\":\"keep\"}"));
}

void hp_m_commit(struct hp_machine *m, struct hp_action *act)
{
	/* the first thing a run does lets the next one of its key start */
	if (m->def->takes_turns && m->run.visit == 1 && m->run.phase == HP_PH_ENTER)
		hp_m_annex(m, "turn", hp_bytes_of("{}"));
	hp_m_leave_children(m);
	m->mode = HP_M_COMMIT;
	m->dirty = false;
	act->type = HP_ACT_COMMIT;
	act->state = m->t.after.state;
	act->transition = &m->t;
}

void hp_m_drop(struct hp_machine *m, struct hp_action *act)
{
	m->mode = HP_M_DONE;
	act->type = HP_ACT_DROP;
	act->state = m->run.state;
}

void hp_m_save(struct hp_machine *m, const char *name, struct hp_bytes value)
{
	const int max = (int)(sizeof m->t.saves / sizeof m->t.saves[0]);

	HP_ASSERT(m->t.n_saves < max);
	m->t.saves[m->t.n_saves++] = (struct hp_save){ name, value };
}

/* The author's statement will be rolled back, and with it what the transition would
 * have told of it. */
static void without_statement(struct hp_machine *m)
{
	if (!m->t.in_sql)
		return;
	m->t.in_sql = false;
	m->t.n_saves = m->t.n_annexes = 0;
	m->t.keep = (struct hp_bytes){ NULL, 0 };
}

void hp_m_outcome(struct hp_machine *m, enum hp_class c, const char *code, const char *message)
{
	/* code and message may belong to an event that is gone by the commit, or be
	 * our own buffers already */
	if (code != m->code_buf)
		hp_m_copy_text(m->code_buf, sizeof m->code_buf, code);
	if (message != m->message_buf)
		hp_m_copy_text(m->message_buf, sizeof m->message_buf, message);
	m->t.outcome = c;
	m->t.code = m->code_buf[0] ? m->code_buf : NULL;
	m->t.message = m->message_buf[0] ? m->message_buf : NULL;
	hp_m_copy_text(m->t.after.code, sizeof m->t.after.code, m->code_buf);
}

void hp_m_park(struct hp_machine *m, struct hp_action *act, enum hp_move move, enum hp_phase phase,
	       int64_t due_at)
{
	struct hp_run *a = hp_m_after(m);

	a->status = a->status == HP_HELD ? HP_HELD : HP_WAITING;
	a->phase = phase;
	a->due_at = due_at;
	/* entering a state and parking there is one move: the entering tells more */
	if (!m->dirty)
		m->t.move = move;
	m->t.disposition = HP_PARK;
	hp_m_commit(m, act);
}

void hp_m_keep(struct hp_machine *m, struct hp_action *act, enum hp_move move, enum hp_phase phase)
{
	struct hp_run *a = hp_m_after(m);

	a->status = HP_RUNNING;
	a->phase = phase;
	a->due_at = 0;
	if (!m->dirty)
		m->t.move = move;
	m->t.disposition = HP_KEEP;
	hp_m_commit(m, act);
}

void hp_m_stop_waiting(struct hp_machine *m)
{
	if (m->t.after.phase == HP_PH_OPEN && hp_m_state(m)->kind == HP_APPROVAL)
		m->t.approval_closes = true;
	hp_m_wait_over(m);
}

void hp_transition_refuse(struct hp_transition *t, const struct hp_run *before, int64_t due_at,
			  const char *code, const char *message)
{
	struct hp_run *a = &t->after;
	bool entered = a->visit != t->from_visit;

	t->disposition = HP_PARK;
	a->status = HP_WAITING;
	a->due_at = due_at;
	hp_m_copy_text(a->code, sizeof a->code, code);
	if (t->move == HP_MOVE_PROBING) {
		a->phase = HP_PH_DOUBT;
	} else {
		a->phase = HP_PH_GATED;
		a->attempt--;
	}
	t->admits = t->business_key = t->sends_signed = false;
	if (entered) { /* the row says how the state before ended: the refusal is a note beside it */
		a->first_sent_at = a->sent_at = 0;
		memset(a->request_hash, 0, sizeof a->request_hash);
		return;
	}
	t->move = HP_MOVE_GATED;
	t->code = code;
	t->message = message;
	a->first_sent_at = before->first_sent_at;
	memcpy(a->request_hash, before->request_hash, sizeof a->request_hash);
}

void hp_m_hold(struct hp_machine *m, struct hp_action *act, enum hp_class c, const char *code,
	       const char *message)
{
	struct hp_run *a = hp_m_after(m);
	char said[sizeof m->message_buf];

	hp_m_outcome(m, c, code, hp_m_undo_says(m, message, said, sizeof said));
	a->status = HP_HELD;
	a->held_class = c;
	a->command = HP_CMD_NONE;
	without_statement(m);
	hp_m_stop_waiting(m);
	hp_m_leave_limits(m, true);
	HP_ASSERT(!m->dirty); /* history and lists know by the move that it is held */
	hp_m_park(m, act, HP_MOVE_HELD, a->phase, 0);
}

void hp_m_finish(struct hp_machine *m, struct hp_action *act, enum hp_status status,
		 struct hp_bytes result)
{
	struct hp_run *a = hp_m_after(m);

	HP_ASSERT(hp_status_final(status));
	hp_m_stop_waiting(m);
	a->status = status;
	a->due_at = 0;
	a->command = HP_CMD_NONE;
	hp_m_leave_limits(m, false);
	m->t.move = HP_MOVE_FINISHED;
	m->t.disposition = HP_FINISH;
	m->t.result = result;
	hp_m_commit(m, act);
}

/* The effect of this state first, if nobody knows whether it happened. A swept call is
 * known with its statement, which is part of this very commit. */
static void turn_back(struct hp_machine *m, struct hp_action *act)
{
	const struct hp_run *a = &m->t.after;

	if (a->unresolved && !m->t.in_sql)
		hp_m_undo_resolve(m, act);
	else
		hp_m_unwind(m, act, a->cancel ? HP_CANCELLED : HP_FAILED);
}

void hp_m_cancel(struct hp_machine *m, struct hp_action *act)
{
	if (m->def->cancel_undoes)
		turn_back(m, act);
	else
		hp_m_finish(m, act, HP_CANCELLED, nothing);
}

/* A cancel, or the order to undo, takes effect between two states, when no effect is
 * in the air. A cancel beside the order changes what the run will be, not that it is undone. */
static bool ends(struct hp_machine *m, struct hp_action *act)
{
	HP_ASSERT(!m->t.after.cancel || !hp_m_unwinds(m)); /* who goes back already takes no cancel */
	if (hp_m_undo_due(m))
		turn_back(m, act);
	else if (m->t.after.cancel)
		hp_m_cancel(m, act);
	else
		return false;
	return true;
}

static void enter(struct hp_machine *m, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);
	bool alone = m->t.in_sql; /* nothing else belongs into the author's transaction */

	switch (s->kind) {
	case HP_CALL:
		alone = alone || m->separate_admission;
		break;
	case HP_APPROVAL: /* `when` may send it straight on: that is another move */
		alone = alone || s->approval.has_when;
		break;
	case HP_CHOOSE:
	case HP_SQL:
	case HP_SWEEP:
		alone = true;
		break;
	case HP_EACH: /* its items come from a statement */
		alone = alone || s->children.pages;
		break;
	case HP_RUN:
	case HP_WAIT:
	case HP_AWAIT:
	case HP_SUCCEED:
	case HP_FAIL:
		break;
	}
	if (m->t.after.pause && !m->t.in_sql)
		hp_m_park(m, act, HP_MOVE_PAUSED, HP_PH_ENTER, 0);
	else if (alone)
		hp_m_commit(m, act);
	else
		hp_m_work(m, act);
}

void hp_m_leave(struct hp_machine *m, struct hp_action *act, int next)
{
	struct hp_run *a = hp_m_after(m);
	const struct hp_state *from = hp_m_state(m);

	if (ends(m, act))
		return;
	if (next == HP_NO_STATE) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "no_way", "the state has no way to go on");
		return;
	}
	if (a->visit >= HP_VISITS_MAX) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "too_many_visits",
			  "the run entered more states than the limit allows");
		return;
	}
	hp_m_wait_over(m);
	hp_m_leave_limits(m, false);
	if (from->kind == HP_CALL && HP_GUARD(signed_left, a->signed_for == a->state))
		a->signed_visit = 0; /* a signature is for one sending */
	hp_m_enter(m, act, next);
}

void hp_m_enter(struct hp_machine *m, struct hp_action *act, int state)
{
	struct hp_run *a = hp_m_after(m);

	a->visit++;
	a->state = state;
	a->status = HP_RUNNING;
	a->phase = HP_PH_ENTER;
	a->attempt = a->failures = 0;
	a->entered_at = m->now;
	a->first_sent_at = a->sent_at = a->due_at = 0;
	a->unresolved = false;
	a->held_class = HP_CLASS_OK;
	memset(a->request_hash, 0, sizeof a->request_hash);
	a->code[0] = 0;
	if (hp_m_state(m)->kind == HP_SWEEP)
		m->sweep = (struct hp_sweep){ .total = -1 };
	m->t.keep = (struct hp_bytes){ "", 0 };
	m->t.move = HP_MOVE_ENTERED;
	m->t.disposition = HP_KEEP;
	m->dirty = true;
	enter(m, act);
}

/* Left the ordinary way: `set` first, then on. */
void hp_m_pass(struct hp_machine *m, struct hp_action *act, int next)
{
	m->next = next;
	if (hp_m_state(m)->has_set)
		hp_m_eval(m, act, HP_EVAL_SET, 0);
	else
		hp_m_leave(m, act, next);
}

/* The state did what it is there for: save, `set`, go on. */
void hp_m_succeed(struct hp_machine *m, struct hp_action *act, const char *save, struct hp_bytes value)
{
	const struct hp_state *s = hp_m_state(m);

	if (hp_m_unwinds(m)) {
		hp_m_undone(m, act, "done");
		return;
	}
	if (save && value.n > 0)
		hp_m_save(m, save, value);
	if (s->has_undo && !HP_MUTANT(undo_log)) /* while the values are those of this visit */
		hp_m_eval(m, act, HP_EVAL_UNDO, 0);
	else
		hp_m_pass(m, act, s->next);
}

size_t hp_m_json_escape(char *dst, size_t size, const char *s)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		/* stop between characters, with room for the longest one */
		if ((c & 0xC0) != 0x80 && n + 12 > size)
			break;
		if (c == '"' || c == '\\') {
			dst[n++] = '\\';
			dst[n++] = (char)c;
		} else if (c < 0x20) {
			memcpy(dst + n, "\\u00", 4);
			dst[n + 4] = hex[c >> 4];
			dst[n + 5] = hex[c & 15];
			n += 6;
		} else {
			dst[n++] = (char)c;
		}
	}
	dst[n] = 0;
	return n;
}

static size_t put(char *dst, size_t size, size_t at, const char *text)
{
	size_t n = strlen(text);

	HP_ASSERT(at + n < size);
	memcpy(dst + at, text, n + 1);
	return at + n;
}

/* {"class":…,"code":…,"message":…,"state":…,"child":…}: what a `catch` road can look at. */
struct hp_bytes hp_m_error_value(struct hp_machine *m, enum hp_class c, const char *state)
{
	char *e = m->error_json;
	const size_t size = sizeof m->error_json;
	size_t n = put(e, size, 0, "{\"class\":\"");

	n = put(e, size, n, hp_class_name(c));
	n = put(e, size, n, "\",\"code\":\"");
	n += hp_m_json_escape(e + n, 6 * HP_CODE_MAX, m->code_buf);
	n = put(e, size, n, "\",\"message\":\"");
	n += hp_m_json_escape(e + n, 900, m->message_buf);
	n = put(e, size, n, "\",\"state\":\"");
	n = put(e, size, n, state);
	n = put(e, size, n, "\"");
	if (m->failed_child > 0)
		n += (size_t)snprintf(e + n, size - n, ",\"child\":%" PRId64, m->failed_child);
	n = put(e, size, n, "}");
	return (struct hp_bytes){ e, n };
}

static int find_catch(const struct hp_state *s, enum hp_class c, const char *code)
{
	int by_class = HP_NO_STATE, otherwise = HP_NO_STATE;

	for (int i = 0; i < s->n_catches; i++) {
		const struct hp_catch *k = &s->catches[i];

		if (!k->match)
			otherwise = k->next;
		else if (code && strcmp(k->match, code) == 0)
			return k->next;
		else if (strcmp(k->match, hp_class_name(c)) == 0)
			by_class = k->next;
	}
	return by_class != HP_NO_STATE ? by_class : otherwise;
}

/* The visit failed for good: a declared way, or held. Nothing is a dead end. */
void hp_m_fail(struct hp_machine *m, struct hp_action *act, enum hp_class c, const char *code,
	       const char *message)
{
	const struct hp_state *s = hp_m_state(m);
	int next;

	if (m->dirty) {
		/* A transition enters one state. What fails while entering fails again
		 * after the entering alone is committed, and takes its way from there. */
		hp_m_commit(m, act);
		return;
	}
	hp_m_outcome(m, c, code, message);
	without_statement(m);
	if (s->kind == HP_SWEEP && hp_m_sweep_tolerates(m, act, c))
		return;
	next = find_catch(s, c, m->t.code);
	if (s->kind == HP_CALL && s->call.limited && s->call.over_budget != HP_NO_STATE && strcmp(m->code_buf, "over_budget") == 0)
		next = s->call.over_budget;
	if (next == HP_NO_STATE && hp_m_undo_due(m) && !m->t.after.unresolved) {
		hp_m_unwind(m, act, m->t.after.cancel ? HP_CANCELLED : HP_FAILED);
		return;
	}
	if (next == HP_NO_STATE) {
		if (HP_MUTANT(held)) /* an uncaught failure is simply the end */
			hp_m_finish(m, act, HP_FAILED, nothing);
		else
			hp_m_hold(m, act, c, m->code_buf, m->message_buf);
		return;
	}
	/* one that turns back here is looked at first, by the probe or a person */
	if (s->has_undo && m->t.after.unresolved && !hp_m_undo_due(m) && !HP_MUTANT(undo_unknown))
		hp_m_undo_unknown(m);
	hp_m_save(m, "error", hp_m_error_value(m, c, s->name));
	hp_m_leave(m, act, next);
}
