/* machine_arm.c: what stands beside the main wait of a state: on = { … }.
 *
 * A waiting state is parked with everything that can end it, and the first thing
 * that is committed does. When several have come by the time somebody looks:
 * the decision, then the event that arrived first, then whatever clock was due
 * first (the main wait's own before an arm's), then the checks.
 *
 * All that is due by itself is stored in the annex "arms" and the row wakes at the
 * earliest. A check is a read, so nothing of it needs to survive a crash: the claim
 * that found it due is the commit that allows it, and who claims next asks again.
 * One that found nothing parks the run as it was, and leaves no row of history: a
 * check every 30 s for ten days would be 28,800 of them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "core/machine_private.h"

static bool has_clock(const struct hp_arm *arm)
{
	return arm->kind != HP_ARM_EVENT;
}

static bool ticks(const struct hp_state *s)
{
	for (int i = 0; i < s->n_arms; i++)
		if (has_clock(&s->arms[i]))
			return true;
	return false;
}

static bool has_mailboxes(const struct hp_state *s)
{
	for (int i = 0; i < s->n_arms; i++)
		if (s->arms[i].kind == HP_ARM_EVENT)
			return true;
	return hp_state_events(s) > 0;
}

void hp_m_wait_begin(struct hp_machine *m)
{
	memset(&m->wait, 0, sizeof m->wait);
	m->wait.ticks = ticks(hp_m_state(m));
}

/* ---- the annex ---- */

static size_t put(struct hp_machine *m, size_t at, const char *fmt, ...) HP_PRINTF(3, 4);
static size_t put(struct hp_machine *m, size_t at, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(m->arms_json + at, sizeof m->arms_json - at, fmt, ap);
	va_end(ap);
	HP_ASSERT(n >= 0 && at + (size_t)n < sizeof m->arms_json);
	return at + (size_t)n;
}

/* Where everything stands: {"due", "reminded", "notes", "arms": {name: {"due", …}}}. */
static void keep_clocks(struct hp_machine *m)
{
	const struct hp_state *s = hp_m_state(m);
	size_t n = put(m, 0, "{\"arms\":{");
	bool first = true;

	for (int i = 0; i < s->n_arms; i++) {
		const struct hp_arm_clock *c = &m->wait.clocks[i];

		if (!has_clock(&s->arms[i]))
			continue;
		n = put(m, n, "%s\"%s\":{\"due\":%lld", first ? "" : ",", s->arms[i].name, (long long)c->due);
		if (s->arms[i].kind == HP_ARM_CHECK) {
			n = put(m, n, ",\"checks\":%lld,\"failures\":%d,\"code\":\"", (long long)c->checks,
				(int)c->failures);
			n += hp_m_json_escape(m->arms_json + n, 6 * HP_CODE_MAX, c->code);
			n = put(m, n, "\"");
		}
		n = put(m, n, "}");
		first = false;
	}
	n = put(m, n, "},\"due\":%lld,\"notes\":%d,\"reminded\":%d}", (long long)m->wait.due, (int)m->wait.notes,
		(int)m->wait.reminded);
	hp_m_annex(m, "arms", (struct hp_bytes){ m->arms_json, n });
}

static void copy_code(struct hp_arm_clock *c, const char *code)
{
	memset(c->code, 0, sizeof c->code);
	if (code)
		memcpy(c->code, code, strnlen(code, sizeof c->code - 1));
}

/* Nothing stored of it (the definition has changed): as if the wait began now. */
static void clock_default(const struct hp_machine *m, const struct hp_arm *arm, struct hp_arm_clock *c)
{
	if (arm->kind == HP_ARM_CHECK)
		c->due = m->now + arm->every_us;
	else if (arm->after_us > 0)
		c->due = m->t.after.entered_at + arm->after_us;
}

void hp_m_wait_read(struct hp_machine *m, struct hp_bytes annex)
{
	const struct hp_state *s = hp_m_state(m);
	int64_t due = m->wait.due;
	const json_t *arms;
	json_t *doc;

	if (s->n_arms == 0)
		return;
	hp_m_wait_begin(m);
	m->wait.due = due;
	if (!m->wait.ticks)
		return;
	doc = hp_annex_found(annex, "arms", NULL);
	arms = json_object_get(doc, "arms");
	m->wait.due = hp_json_int(doc, "due", due);
	m->wait.reminded = (int32_t)hp_json_int(doc, "reminded", 0);
	m->wait.notes = (int32_t)hp_json_int(doc, "notes", 0);
	for (int i = 0; i < s->n_arms; i++) {
		const json_t *one = json_object_get(arms, s->arms[i].name);
		struct hp_arm_clock *c = &m->wait.clocks[i];

		clock_default(m, &s->arms[i], c);
		if (!one)
			continue;
		c->due = hp_json_int(one, "due", c->due);
		c->checks = hp_json_int(one, "checks", 0);
		c->failures = (int32_t)hp_json_int(one, "failures", 0);
		copy_code(c, hp_json_str(one, "code"));
	}
	json_decref(doc);
}

void hp_m_wait_over(struct hp_machine *m)
{
	static const char over[] = "{\"over\":true}";

	if ((m->t.after.phase != HP_PH_OPEN && m->t.after.phase != HP_PH_JOINING) || !ticks(hp_m_state(m)))
		return;
	for (int i = 0; i < m->t.n_annexes; i++)
		if (strcmp(m->t.annexes[i].kind, "arms") == 0)
			return;
	hp_m_annex(m, "arms", (struct hp_bytes){ over, sizeof over - 1 });
}

/* ---- parking ---- */

int64_t hp_m_wait_due(const struct hp_machine *m)
{
	const struct hp_state *s = hp_m_state(m);
	int64_t due = s->kind == HP_APPROVAL ? hp_m_approval_due(s, &m->t.after, m->now) : m->wait.due;

	for (int i = 0; i < s->n_arms; i++)
		if (m->wait.clocks[i].due > 0 && (due == 0 || m->wait.clocks[i].due < due))
			due = m->wait.clocks[i].due;
	return due;
}

void hp_m_wait_put(struct hp_machine *m)
{
	const struct hp_state *s = hp_m_state(m);

	for (int i = 0; i < s->n_arms; i++)
		if (m->wait.clocks[i].due == 0) /* `at` has been asked for */
			clock_default(m, &s->arms[i], &m->wait.clocks[i]);
	if (m->wait.has_keys)
		m->t.wait_keys = m->wait.keys;
	if (s->kind == HP_APPROVAL) {
		m->t.approval = m->wait.approval;
		memcpy(m->t.approval_hash, m->wait.hash, sizeof m->t.approval_hash);
		m->t.approval_deadline = m->wait.due;
	}
	if (m->wait.ticks)
		keep_clocks(m);
}

void hp_m_wait_park(struct hp_machine *m, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	if (!m->wait.has_keys && has_mailboxes(s)) {
		hp_m_eval(m, act, HP_EVAL_MAILBOX, 0);
		return;
	}
	while (m->wait.arm < s->n_arms) {
		const struct hp_arm *arm = &s->arms[m->wait.arm];

		if (arm->kind == HP_ARM_TIMER && arm->after_us == 0) {
			hp_m_eval(m, act, HP_EVAL_AT, m->wait.arm);
			return;
		}
		m->wait.arm++;
	}
	if (s->kind == HP_RUN || s->kind == HP_EACH) {
		hp_m_children_begin(m, act);
		return;
	}
	hp_m_wait_put(m);
	hp_m_park(m, act, HP_MOVE_PARKED, HP_PH_OPEN, hp_m_wait_due(m));
}

void hp_m_arm_keys(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);

	m->wait.keys = ev->value.n ? ev->value : ev->key;
	m->wait.has_keys = true;
	if (s->kind == HP_AWAIT)
		m->wait.due = m->now + s->await.within_us;
	hp_m_wait_park(m, act);
}

void hp_m_arm_at(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	m->wait.clocks[m->wait.arm++].due = ev->number;
	hp_m_wait_park(m, act);
}

/* A reminder has become due that history does not tell of. */
static bool reminds(struct hp_machine *m)
{
	const struct hp_state *s = hp_m_state(m);
	const struct hp_run *a = hp_m_after(m);
	int32_t passed = 0;

	if (s->kind != HP_APPROVAL)
		return false;
	if (!m->wait.ticks) /* it wakes by itself for nothing else */
		return a->due_at > 0 && m->now >= a->due_at;
	while (passed < s->approval.n_reminders && m->now >= a->entered_at + s->approval.reminders_us[passed])
		passed++;
	if (passed <= m->wait.reminded)
		return false;
	m->wait.reminded = passed;
	return true;
}

static void park_again(struct hp_machine *m, struct hp_action *act, enum hp_move move, bool quiet)
{
	if (reminds(m)) {
		move = HP_MOVE_REMINDED;
		quiet = false;
	}
	m->t.quiet = quiet;
	if (m->wait.ticks)
		keep_clocks(m);
	hp_m_park(m, act, move, m->t.after.phase, hp_m_wait_due(m));
}

/* ---- going on ---- */

/* The first to be committed. What the main wait had gathered (votes, an open approval)
 * is closed in this very commit, with the sentence that says why. */
static void go(struct hp_machine *m, struct hp_action *act, int next, const char *why)
{
	const struct hp_state *s = hp_m_state(m);
	const struct hp_arm *arm = &s->arms[m->wait.arm];
	char said[sizeof m->message_buf];
	const size_t size = sizeof m->won_json;
	size_t n = sizeof "{\"over\":true,\"won\":\"" - 1;

	snprintf(said, sizeof said, "arm \"%s\" of state \"%s\" went first: %s", arm->name, s->name, why);
	memcpy(m->won_json, "{\"over\":true,\"won\":\"", n);
	n += hp_m_json_escape(m->won_json + n, size - n - 4, said);
	memcpy(m->won_json + n, "\"}", 2);
	if (s->kind == HP_APPROVAL || m->wait.ticks)
		hp_m_annex(m, "arms", (struct hp_bytes){ m->won_json, n + 2 });
	hp_m_outcome(m, HP_CLASS_OK, "arm", said);
	hp_m_leave(m, act, next);
}

bool hp_m_arm_went(const struct hp_machine *m)
{
	bool went = m->t.code && m->t.outcome == HP_CLASS_OK;

	HP_ASSERT(!went || strcmp(m->t.code, "arm") == 0); /* nothing else that leads on has a code and is no failure */
	return went;
}

static void go_by_event(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);
	int32_t n = ev->mail_wait - hp_state_events(s);
	const struct hp_arm *arm;
	char why[320];
	int i = 0;

	HP_ASSERT(s->n_arms > 0);
	while (s->arms[i].kind != HP_ARM_EVENT || n-- > 0) {
		i++;
		HP_ASSERT(i < s->n_arms);
	}
	m->wait.arm = i;
	arm = &s->arms[i];
	m->t.consume_mail = ev->mail_id;
	if (arm->save && ev->mail.n > 0)
		hp_m_save(m, arm->save, ev->mail);
	snprintf(why, sizeof why, "the event %s arrived", arm->event);
	go(m, act, arm->next, why);
}

/* The arm of that kind whose clock was due first; -1: none is due. */
static int due_arm(const struct hp_machine *m, enum hp_arm_kind kind)
{
	const struct hp_state *s = hp_m_state(m);
	int best = -1;

	for (int i = 0; i < s->n_arms; i++) {
		int64_t due = m->wait.clocks[i].due;

		if (s->arms[i].kind == kind && due > 0 && HP_GUARD(arm_early, due <= m->now) &&
		    (best < 0 || due < m->wait.clocks[best].due))
			best = i;
	}
	return best;
}

bool hp_m_arm_goes(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);
	int i;

	if (s->n_arms == 0)
		return false;
	if (ev->mail_id > 0) {
		go_by_event(m, ev, act);
		return true;
	}
	i = due_arm(m, HP_ARM_TIMER);
	if (i < 0 || (m->wait.due > 0 && m->wait.due <= m->wait.clocks[i].due))
		return false;
	m->wait.arm = i;
	go(m, act, s->arms[i].next, "its time had come");
	return true;
}

void hp_m_wait_on(struct hp_machine *m, struct hp_action *act)
{
	int i = due_arm(m, HP_ARM_CHECK);

	if (i < 0) {
		park_again(m, act, HP_MOVE_WOKEN, false);
		return;
	}
	m->wait.arm = i;
	hp_m_eval(m, act, HP_EVAL_CHECK, i);
}

/* ---- checks ---- */

static const struct hp_arm *checked(const struct hp_machine *m)
{
	return &hp_m_state(m)->arms[m->wait.arm];
}

void hp_m_check_send(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	m->mode = HP_M_CHECK;
	act->type = HP_ACT_SEND;
	act->state = m->run.state;
	act->arm = checked(m);
	act->op = &act->arm->op;
	act->value = ev->value;
	act->key = ev->key;
	act->timeout_us = act->arm->timeout_us;
}

void hp_m_reply_check(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	/* a clock that ran out meanwhile comes before what the answer says */
	if (!HP_GUARD(check_late, (m->wait.due == 0 || m->now < m->wait.due) && due_arm(m, HP_ARM_TIMER) < 0)) {
		park_again(m, act, HP_MOVE_WOKEN, true);
		return;
	}
	m->wait.clocks[m->wait.arm].checks++;
	if (ev->outcome != HP_CLASS_OK) {
		hp_m_check_failed(m, ev, act);
		return;
	}
	hp_m_eval(m, act, HP_EVAL_ALARM, m->wait.arm);
	act->value = ev->value;
	m->reply = ev->value;
}

/* Parks until the next one; note: there is something to tell. */
static void check_later(struct hp_machine *m, struct hp_action *act, int64_t after_us, bool note)
{
	m->wait.clocks[m->wait.arm].due = m->now + after_us;
	note = note && m->wait.notes < HP_CHECK_NOTES_MAX;
	m->wait.notes += note;
	park_again(m, act, note ? HP_MOVE_CHECKED : HP_MOVE_WOKEN, !note);
}

void hp_m_check_said(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_arm *arm = checked(m);
	struct hp_arm_clock *c = &m->wait.clocks[m->wait.arm];
	bool recovered = c->failures > 0;

	if (ev->truth) {
		if (arm->save && m->reply.n > 0)
			hp_m_save(m, arm->save, m->reply);
		go(m, act, arm->next, "its check said so");
		return;
	}
	c->failures = 0;
	copy_code(c, NULL);
	if (recovered)
		hp_m_outcome(m, HP_CLASS_OK, NULL, NULL);
	check_later(m, act, arm->every_us, recovered);
}

/* The peer did not answer, or the request or its `when` could not be evaluated. */
void hp_m_check_failed(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_arm *arm = checked(m);
	struct hp_arm_clock *c = &m->wait.clocks[m->wait.arm];
	char why[160];

	c->failures++;
	copy_code(c, ev->code);
	hp_m_outcome(m, ev->outcome, ev->code, ev->message);
	if (arm->failures > 0 && c->failures >= arm->failures) {
		hp_m_save(m, "error", hp_m_error_value(m, ev->outcome, hp_m_state(m)->name));
		snprintf(why, sizeof why, "%d checks in a row failed, the last with %s", (int)c->failures, c->code);
		go(m, act, arm->failed != HP_NO_STATE ? arm->failed : arm->next, why);
		return;
	}
	check_later(m, act, ev->retry_after_us > arm->every_us ? ev->retry_after_us : arm->every_us, c->failures == 1);
}
