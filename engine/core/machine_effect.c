/* machine_effect.c: what a visit does outside the run: calls and statements.
 *
 *            evaluate            commit              send
 *   ENTER ──────────────▶ admit ─────────▶ ADMITTED ──────▶ reply
 *                           ▲                                 │ ok, terminal: leave
 *            due, evaluate  │                                 │ retryable, or ambiguous and
 *                        BACKOFF ◀────────────────────────────┤ a repeat is safe
 *                           ▲                                 │ ambiguous otherwise
 *              absent       │   found: leave                  ▼
 *                        PROBING ◀──────── due ──────────── DOUBT
 *
 * A worker that claims a run in ADMITTED knows only that a request may have been
 * sent: the outcome is unknown, and the same rules decide as for a lost reply.
 */
#include <string.h>

#include "base/limits.h"
#include "core/machine_private.h"

static bool same_hash(const uint8_t *a, const uint8_t *b)
{
	return memcmp(a, b, HP_SHA256_LEN) == 0;
}

static const struct hp_operation *operation(const struct hp_machine *m)
{
	return &hp_m_state(m)->call.op;
}

static bool is_signed(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;

	/* what was signed for another call waits for that one: this one's approval had no need
	 * to ask (`when`), or its road passes none */
	return a->signed_visit > 0 && HP_GUARD(signed_for, a->signed_for == a->state);
}

void hp_m_call(struct hp_machine *m, struct hp_action *act)
{
	/* mutant `signed_request`: render anew instead of sending what was signed */
	hp_m_eval(m, act, HP_EVAL_REQUEST, is_signed(m) && !HP_MUTANT(signed_request));
}

void hp_m_sql(struct hp_machine *m, struct hp_action *act)
{
	hp_m_eval(m, act, HP_EVAL_ARGS, 0);
}

/* Is sending the very same request again as good as never having sent it? */
static bool repeat_is_safe(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;
	const struct hp_operation *op = operation(m);

	if (op->read || op->repeat == HP_REPEAT_BY_NATURE)
		return true;
	if (op->repeat == HP_REPEAT_NEVER)
		return HP_GUARD(repeat_never, false);
	/* it must still arrive inside the provider's memory of our key */
	return HP_GUARD(window, m->now + hp_m_state(m)->timeout_us < a->first_sent_at + op->window_us);
}

bool hp_m_can_repeat(const struct hp_machine *m)
{
	static const uint8_t none[HP_SHA256_LEN];

	return repeat_is_safe(m) && !same_hash(m->t.after.request_hash, none);
}

/* Nobody knows whether the effect happened: look first, and not before the last
 * request must have landed or died. */
void hp_m_doubt(struct hp_machine *m, struct hp_action *act, const char *message)
{
	struct hp_run *a = hp_m_after(m);
	const struct hp_state *s = hp_m_state(m);
	int64_t due = a->sent_at + s->timeout_us + m->lease_us;

	a->unresolved = true;
	if (!s->call.has_probe) {
		hp_m_fail(m, act, HP_AMBIGUOUS, "in_doubt", message);
		return;
	}
	hp_m_outcome(m, HP_AMBIGUOUS, "in_doubt", message);
	if (HP_GUARD(probe_wait, m->now >= due))
		due = m->now;
	hp_m_park(m, act, HP_MOVE_DOUBT, HP_PH_DOUBT, due);
}

/* Claimed in ADMITTED: the worker before us died, or lost its lease. */
void hp_m_interrupted(struct hp_machine *m, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);

	if (!operation(m)->read)
		a->unresolved = true;
	/* an admitted request may wait long for its place: all we know is that its worker
	 * has stopped sending by now */
	a->sent_at = m->now;
	if (a->attempt >= HP_ATTEMPTS_MAX)
		hp_m_hold(m, act, HP_NEEDS_PERSON, "too_many_attempts",
			  "the effect was attempted more often than the limit allows");
	else
		hp_m_call(m, act);
}

/* The request is rendered: commit its admission, or find that it may not be sent. */
void hp_m_admit(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);

	if (a->unresolved && !HP_GUARD(request_hash, same_hash(a->request_hash, ev->hash))) {
		memset(a->request_hash, 0, sizeof a->request_hash); /* nobody can send that one again */
		hp_m_doubt(m, act, "an earlier request may have been received, and the request would now be a different one");
		return;
	}
	if (a->unresolved && !repeat_is_safe(m)) {
		hp_m_doubt(m, act, "an earlier request may have been received, and repeating it is not safe");
		return;
	}
	if (a->first_sent_at == 0 || !a->unresolved)
		a->first_sent_at = m->now;
	a->attempt++;
	a->sent_at = m->now;
	memcpy(a->request_hash, ev->hash, sizeof a->request_hash);
	m->request = ev->value;
	m->key = ev->key;
	m->t.admits = true;
	m->t.request = ev->value;
	m->t.effect_key = ev->key;
	m->t.business_key = hp_m_state(m)->call.has_key && !operation(m)->read;
	m->t.sends_signed = m->asked_index == 1;
	if (ev->demands.n)
		hp_m_annex(m, "limits", ev->demands);
	hp_m_keep(m, act, HP_MOVE_ADMITTED, HP_PH_ADMITTED);
}

/* What others may conclude from our admission holds only for a while: a provider forgets
 * a key, and who shares a business key looks a lease after he was told of us. */
static int64_t leave_by(const struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;
	const struct hp_state *s = hp_m_state(m);
	const struct hp_operation *op = operation(m);
	int64_t by = 0;

	if (op->read)
		return 0;
	if (op->repeat == HP_REPEAT_BY_KEY && (a->unresolved || s->call.has_key))
		by = a->first_sent_at + op->window_us - s->timeout_us;
	else if (op->repeat == HP_REPEAT_NEVER && s->call.has_key)
		by = a->sent_at + m->lease_us * HP_LEASE_SEND_PERCENT / 100;
	return by > a->sent_at && !HP_MUTANT(leave_by) ? by : 0;
}

void hp_m_send(struct hp_machine *m, struct hp_action *act, bool probe)
{
	m->mode = probe ? HP_M_PROBE : HP_M_SEND;
	act->type = HP_ACT_SEND;
	act->state = m->run.state;
	act->value = m->request;
	act->key = m->key;
	act->probe = probe;
	act->timeout_us = hp_m_state(m)->timeout_us;
	act->op = probe ? &hp_m_state(m)->call.probe : operation(m);
	act->leave_by = probe ? 0 : leave_by(m);
}

/* The admission is durable: now, and only now, the request may leave. */
void hp_m_admitted(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	/* another run or visit was admitted under the same business key before us */
	bool seen = ev->first_sent_at > 0;

	if (seen) {
		a->first_sent_at = ev->first_sent_at;
		a->unresolved = true;
		/* while our commit waited, too: what a doubt must outwait may still leave */
		if (a->sent_at < m->now && !HP_MUTANT(seen_late))
			a->sent_at = m->now;
		if (!HP_GUARD(business_key, repeat_is_safe(m))) {
			hp_m_doubt(m, act, "the same business key was used before, and repeating it is not safe");
			return;
		}
	}
	hp_m_send(m, act, false);
}

/* Admitted, and nothing has left: as if that attempt had not been allowed. */
void hp_m_take_back(struct hp_machine *m)
{
	struct hp_run *a = hp_m_after(m);

	a->attempt--;
	a->phase = HP_PH_ENTER;
}

void hp_m_again(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	const struct hp_state *s = hp_m_state(m);
	int64_t due;

	a->failures++;
	due = m->now + hp_backoff(&s->retry, a->id, a->visit, a->failures, ev->retry_after_us);
	if (!HP_GUARD(attempts, a->failures < s->retry.attempts) ||
	    (s->retry.total_us > 0 && due > a->entered_at + s->retry.total_us)) {
		if (a->unresolved && s->kind == HP_CALL && s->call.has_probe)
			hp_m_doubt(m, act, "no attempt was answered clearly");
		else
			hp_m_fail(m, act, a->unresolved ? HP_AMBIGUOUS : ev->outcome, ev->code, ev->message);
		return;
	}
	hp_m_outcome(m, ev->outcome, ev->code, ev->message);
	hp_m_park(m, act, HP_MOVE_RETRY, HP_PH_BACKOFF, due);
}

void hp_m_reply_call(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);

	if (ev->unsent) { /* another admission, which sees what has happened meanwhile */
		hp_m_take_back(m);
		hp_m_call(m, act);
		return;
	}
	if (ev->sent_at > a->sent_at)
		a->sent_at = ev->sent_at;
	switch (ev->outcome) {
	case HP_CLASS_OK:
		if (hp_m_state(m)->kind == HP_SWEEP) {
			hp_m_sweep_replied(m, ev, act);
			return;
		}
		a->unresolved = false;
		if (ev->secrets.n > 0)
			hp_m_annex(m, "secrets", ev->secrets);
		hp_m_succeed(m, act, hp_m_state(m)->save, ev->value);
		return;
	case HP_RETRYABLE:
		hp_m_again(m, ev, act);
		return;
	case HP_TERMINAL:
		a->unresolved = false;
		hp_m_fail(m, act, ev->outcome, ev->code, ev->message);
		return;
	case HP_NEEDS_PERSON: /* a token that was withdrawn says nothing of the request before it */
		if (a->unresolved && hp_m_state(m)->call.has_probe)
			hp_m_doubt(m, act, ev->message ? ev->message : "an earlier request was not answered");
		else
			hp_m_fail(m, act, a->unresolved ? HP_AMBIGUOUS : ev->outcome, ev->code, ev->message);
		return;
	case HP_AMBIGUOUS:
		break;
	}
	if (!operation(m)->read)
		a->unresolved = true;
	if (repeat_is_safe(m))
		hp_m_again(m, ev, act);
	else
		hp_m_doubt(m, act, ev->message ? ev->message : "the reply was lost");
}

void hp_m_probe(struct hp_machine *m, struct hp_action *act)
{
	hp_m_eval(m, act, HP_EVAL_PROBE, 0);
}

void hp_m_admit_probe(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	m->request = ev->value;
	m->key = (struct hp_bytes){ NULL, 0 };
	hp_m_keep(m, act, HP_MOVE_PROBING, HP_PH_PROBING);
}

void hp_m_reply_probe(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	const struct hp_state *s = hp_m_state(m);

	if (ev->outcome == HP_CLASS_OK) {
		hp_m_eval(m, act, HP_EVAL_FOUND, 0);
		act->value = ev->value;
		m->reply = ev->value;
		return;
	}
	a->failures++;
	if ((ev->outcome == HP_RETRYABLE || ev->outcome == HP_AMBIGUOUS) &&
	    a->failures < s->retry.attempts * 2) {
		hp_m_outcome(m, ev->outcome, ev->code, ev->message);
		hp_m_park(m, act, HP_MOVE_DOUBT, HP_PH_DOUBT,
			  m->now + hp_backoff(&s->retry, a->id, a->visit, a->failures, ev->retry_after_us));
		return;
	}
	a->phase = HP_PH_DOUBT;
	hp_m_hold(m, act, HP_AMBIGUOUS, "in_doubt", ev->message ? ev->message : "the probe failed");
}

void hp_m_verdict(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);

	switch (ev->verdict) {
	case HP_VERDICT_FOUND:
		a->unresolved = false;
		if (ev->secrets.n > 0)
			hp_m_annex(m, "secrets", ev->secrets);
		hp_m_succeed(m, act, hp_m_state(m)->save, ev->value);
		return;
	case HP_VERDICT_ABSENT: /* it did not happen: the same visit, the same key */
		if (++a->failures > hp_m_state(m)->retry.attempts * 2) {
			a->phase = HP_PH_DOUBT;
			hp_m_hold(m, act, HP_AMBIGUOUS, "in_doubt",
				  "the probe finds nothing again and again, and no request is answered");
			return;
		}
		a->unresolved = false;
		if (hp_m_undo_due(m)) /* there is nothing of it to undo */
			hp_m_unwind(m, act, a->cancel ? HP_CANCELLED : HP_FAILED);
		else
			hp_m_call(m, act);
		return;
	case HP_VERDICT_UNKNOWN:
		break;
	}
	a->phase = HP_PH_DOUBT;
	hp_m_hold(m, act, HP_AMBIGUOUS, "in_doubt", "the probe could not tell whether the effect happened");
}

void hp_m_reply_sql(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	if (s->kind == HP_EACH) {
		hp_m_reply_page(m, ev, act);
		return;
	}
	switch (ev->outcome) {
	case HP_CLASS_OK:
		if (s->kind == HP_SWEEP) {
			hp_m_swept(m, ev, act);
			return;
		}
		m->t.in_sql = true;
		if (!ev->none)
			hp_m_succeed(m, act, s->save, ev->value);
		else if (s->sql.none != HP_NO_STATE)
			hp_m_leave(m, act, s->sql.none);
		else
			hp_m_fail(m, act, HP_TERMINAL, "no_rows", "the statement found no row");
		return;
	case HP_RETRYABLE:
	case HP_AMBIGUOUS: /* rolled back, or seen as uncommitted by the reload */
		hp_m_again(m, ev, act);
		return;
	case HP_TERMINAL:
	case HP_NEEDS_PERSON:
		hp_m_fail(m, act, ev->outcome, ev->code, ev->message);
		return;
	}
}
