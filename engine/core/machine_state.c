/* machine_state.c: what each kind of state does, and what values mean to it.
 *
 * hp_m_work() starts the state the run is in; hp_m_value() takes the answers;
 * hp_m_open() looks at a parked run that was claimed again.
 */
#include <string.h>

#include "core/machine_private.h"

void hp_m_work(struct hp_machine *m, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	switch (s->kind) {
	case HP_CALL:
		hp_m_call(m, act);
		return;
	case HP_SQL:
		hp_m_sql(m, act);
		return;
	case HP_CHOOSE:
		if (s->choose.n_branches > 0)
			hp_m_eval(m, act, HP_EVAL_WHEN, 0);
		else
			hp_m_pass(m, act, s->choose.otherwise);
		return;
	case HP_APPROVAL:
		hp_m_wait_begin(m);
		hp_m_eval(m, act, s->approval.has_when ? HP_EVAL_WHEN : HP_EVAL_APPROVAL, 0);
		return;
	case HP_WAIT:
		hp_m_wait_begin(m);
		hp_m_eval(m, act, HP_EVAL_UNTIL, 0);
		return;
	case HP_AWAIT:
		hp_m_wait_begin(m);
		hp_m_eval(m, act, HP_EVAL_MAILBOX, 0);
		return;
	case HP_SUCCEED:
	case HP_FAIL:
		hp_m_eval(m, act, HP_EVAL_RESULT, 0);
		return;
	case HP_SWEEP:
		hp_m_sweep(m, act);
		return;
	case HP_RUN:
	case HP_EACH:
		hp_m_children(m, act);
		return;
	}
	HP_ASSERT(0 && "unknown kind of state");
}

static int64_t approval_deadline(const struct hp_state *s, const struct hp_run *a)
{
	return a->entered_at + s->approval.deadline_us;
}

/* The next thing that happens to an open approval by itself. */
int64_t hp_m_approval_due(const struct hp_state *s, const struct hp_run *a, int64_t now)
{
	int64_t deadline = approval_deadline(s, a);

	for (int i = 0; i < s->approval.n_reminders; i++) {
		int64_t at = a->entered_at + s->approval.reminders_us[i];

		if (at > now && at < deadline)
			return at;
	}
	return deadline;
}

static void open_approval(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	m->wait.approval = ev->value;
	memcpy(m->wait.hash, ev->hash, sizeof m->wait.hash);
	m->wait.due = approval_deadline(hp_m_state(m), hp_m_after(m));
	hp_m_wait_park(m, act);
}

static void when_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	if (s->kind == HP_APPROVAL) {
		if (ev->truth)
			hp_m_eval(m, act, HP_EVAL_APPROVAL, 0);
		else
			hp_m_pass(m, act, s->next);
		return;
	}
	HP_ASSERT(s->kind == HP_CHOOSE && m->asked_index < s->choose.n_branches);
	if (ev->truth)
		hp_m_pass(m, act, s->choose.branches[m->asked_index].next);
	else if (m->asked_index + 1 < s->choose.n_branches)
		hp_m_eval(m, act, HP_EVAL_WHEN, m->asked_index + 1);
	else
		hp_m_pass(m, act, s->choose.otherwise);
}

static void result_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	if (m->t.after.phase == HP_PH_UNDOING) {
		hp_m_undo_end(m, ev, act);
	} else if (s->kind == HP_FAIL) { /* an arm that led straight here is still told of */
		hp_m_outcome(m, HP_TERMINAL, s->fail.code, hp_m_arm_went(m) ? m->message_buf : NULL);
		m->t.result = ev->value;
		if (s->fail.undo)
			hp_m_unwind(m, act, HP_FAILED);
		else
			hp_m_finish(m, act, HP_FAILED, ev->value);
	} else {
		hp_m_finish(m, act, HP_SUCCEEDED, ev->value);
	}
}

static void args_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	m->mode = HP_M_SQL;
	act->type = HP_ACT_SQL;
	act->state = m->run.state;
	act->value = ev->value;
	act->timeout_us = hp_m_state(m)->timeout_us;
	if (hp_m_state(m)->kind == HP_SWEEP) {
		m->sweep.dry = ev->truth;
		act->sweep = &m->sweep;
		act->reply = m->reply;
	}
}

/* It could not be evaluated. */
static void no_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	if (m->asked == HP_EVAL_FOUND || m->asked == HP_EVAL_PROBE) {
		/* still in doubt: no catch may make that look settled */
		m->t.after.phase = HP_PH_DOUBT;
		hp_m_hold(m, act, HP_AMBIGUOUS, ev->code, ev->message);
	} else if (m->asked == HP_EVAL_CHECK || m->asked == HP_EVAL_ALARM) {
		hp_m_check_failed(m, ev, act);
	} else if (m->asked == HP_EVAL_UNDO) {
		hp_m_undo_kept(m, ev); /* the effect has happened: what cannot be kept is told later */
		hp_m_pass(m, act, hp_m_state(m)->next);
	} else if (m->asked == HP_EVAL_REQUEST && m->t.after.unresolved) {
		hp_m_doubt(m, act, ev->message);
	} else {
		hp_m_fail(m, act, HP_NEEDS_PERSON, ev->code, ev->message);
	}
}

void hp_m_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	if (!ev->ok) {
		no_value(m, ev, act);
		return;
	}
	switch (m->asked) {
	case HP_EVAL_INPUT:
		hp_m_work(m, act);
		return;
	case HP_EVAL_REQUEST:
		hp_m_admit(m, ev, act);
		return;
	case HP_EVAL_PROBE:
		hp_m_admit_probe(m, ev, act);
		return;
	case HP_EVAL_FOUND:
		hp_m_verdict(m, ev, act);
		return;
	case HP_EVAL_WHEN:
		when_value(m, ev, act);
		return;
	case HP_EVAL_ARGS:
		args_value(m, ev, act);
		return;
	case HP_EVAL_APPROVAL:
		open_approval(m, ev, act);
		return;
	case HP_EVAL_UNTIL:
		m->wait.due = ev->number;
		hp_m_wait_park(m, act);
		return;
	case HP_EVAL_MAILBOX:
		hp_m_arm_keys(m, ev, act);
		return;
	case HP_EVAL_AT:
		hp_m_arm_at(m, ev, act);
		return;
	case HP_EVAL_CHECK:
		hp_m_check_send(m, ev, act);
		return;
	case HP_EVAL_ALARM:
		hp_m_check_said(m, ev, act);
		return;
	case HP_EVAL_SET:
		if (ev->value.n > 0)
			hp_m_save(m, NULL, ev->value);
		if (ev->secrets.n > 0)
			hp_m_annex(m, "secrets", ev->secrets);
		hp_m_leave(m, act, m->next);
		return;
	case HP_EVAL_RESULT:
		result_value(m, ev, act);
		return;
	case HP_EVAL_UNDO:
		hp_m_undo_kept(m, ev);
		hp_m_pass(m, act, hp_m_state(m)->next);
		return;
	case HP_EVAL_CHILDREN:
	case HP_EVAL_JOINED:
		hp_m_children_value(m, ev, act);
		return;
	}
	HP_ASSERT(0 && "unknown value");
}

static void open_wait(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	if (hp_m_arm_goes(m, ev, act))
		return;
	if (HP_GUARD(timer, m->now >= m->wait.due))
		hp_m_succeed(m, act, NULL, (struct hp_bytes){ NULL, 0 });
	else
		hp_m_wait_on(m, act);
}

static void open_await(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	if (ev->mail_id > 0 && ev->mail_wait < s->await.n_events) {
		m->t.consume_mail = ev->mail_id;
		hp_m_succeed(m, act, s->save, ev->mail);
	} else if (hp_m_arm_goes(m, ev, act)) {
		return;
	} else if (m->now >= m->wait.due) {
		hp_m_outcome(m, HP_TERMINAL, "timeout", "no event arrived in time");
		hp_m_leave(m, act, s->await.timeout);
	} else {
		hp_m_wait_on(m, act);
	}
}

static void approved(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	struct hp_run *a = hp_m_after(m);
	const struct hp_state *s = hp_m_state(m);

	if (s->approval.of != HP_NO_STATE) {
		if (a->signed_visit > 0) {
			/* one signature at a time: which one a later call sends must be plain */
			hp_m_hold(m, act, HP_NEEDS_PERSON, "two_signed_requests",
				  "another signed request of this run has not been sent yet");
			return;
		}
		a->signed_visit = a->visit;
		a->signed_for = s->approval.of;
	}
	hp_m_succeed(m, act, s->save, ev->decision_value);
}

static void open_approval_state(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	switch (ev->decision) {
	case HP_APPROVED:
		approved(m, ev, act);
		return;
	case HP_REJECTED:
		if (s->save && ev->decision_value.n > 0)
			hp_m_save(m, s->save, ev->decision_value);
		hp_m_outcome(m, HP_NEEDS_PERSON, "rejected", NULL);
		if (s->approval.rejected == HP_NO_STATE)
			hp_m_hold(m, act, HP_NEEDS_PERSON, "rejected", "the approval was rejected");
		else
			hp_m_leave(m, act, s->approval.rejected);
		return;
	case HP_UNDECIDED:
		break;
	}
	if (hp_m_arm_goes(m, ev, act))
		return;
	if (m->now < m->wait.due) {
		hp_m_wait_on(m, act);
		return;
	}
	/* never an automatic yes */
	m->t.approval_closes = true;
	hp_m_outcome(m, HP_NEEDS_PERSON, "expired", "nobody decided before the deadline");
	if (s->approval.expired == HP_NO_STATE)
		hp_m_hold(m, act, HP_NEEDS_PERSON, "expired", "nobody decided before the deadline");
	else
		hp_m_leave(m, act, s->approval.expired);
}

void hp_m_open(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	m->wait.due = s->kind == HP_APPROVAL ? approval_deadline(s, hp_m_after(m)) : m->t.after.due_at;
	hp_m_wait_read(m, ev->annex);
	if (s->kind == HP_WAIT) {
		open_wait(m, ev, act);
	} else if (s->kind == HP_AWAIT) {
		open_await(m, ev, act);
	} else if (s->kind == HP_APPROVAL) {
		open_approval_state(m, ev, act);
	} else {
		HP_ASSERT(s->kind == HP_SWEEP && "this kind of state is never open");
		if (m->now >= hp_m_after(m)->due_at) /* between two pages */
			hp_m_sweep(m, act);
		else
			hp_m_park(m, act, HP_MOVE_WOKEN, HP_PH_OPEN, hp_m_after(m)->due_at);
	}
}
