/* machine_children.c: run and each: parked until the runs they started, or joined,
 * are decided.
 *
 *   ENTER ── a page of children ──▶ JOINING ── met ──────────▶ save, go on
 *                                    │  ▲  └── within over ──▶ timeout
 *                       further page └──┘  └── not to be met ▶ told to end; when they
 *                                                              have: catch, or held
 *
 * The commit that parks brings the children as annex "children", and the store starts
 * them with it; it counts those that end and wakes us when there is something to
 * decide. What it knows comes with the claim.
 */
#include <string.h>

#include "base/json.h"
#include "core/machine_private.h"

enum { UNDECIDED = 0, MET = 1, MISSED = 2 };

/* What the store knows of our children; NULL: nothing. Owner: caller. */
static json_t *family(const struct hp_machine *m) { return hp_annex_found(m->annex, "children", NULL); }

static int64_t deadline(const struct hp_machine *m)
{
	int64_t within = hp_m_state(m)->children.within_us;

	return within > 0 ? m->t.after.entered_at + within : 0;
}

static void close_them(struct hp_machine *m)
{
	hp_m_annex(m, "children", hp_bytes_of("{\"op\":\"close\"}"));
}

void hp_m_leave_children(struct hp_machine *m)
{
	const struct hp_run *a = &m->t.after;
	bool stays = a->phase == HP_PH_JOINING && a->visit == m->run.visit && a->status == HP_WAITING;

	if (m->run.phase == HP_PH_JOINING && !stays && !HP_MUTANT(children_told))
		close_them(m);
}

/* Asks for the children after those that are known. A cursor is the place of this visit:
 * what was claimed with the run may be of the one before. */
static void page(struct hp_machine *m, struct hp_action *act, int32_t known)
{
	if (hp_m_state(m)->children.pages) {
		hp_m_eval(m, act, HP_EVAL_ARGS, known);
		if (HP_GUARD(children_anew, known > 0))
			act->value = m->annex; /* the cursor */
	} else {
		hp_m_eval(m, act, HP_EVAL_CHILDREN, known);
	}
}

/* When it wakes by itself: within, and whatever stands beside it. */
static int64_t wakes_at(const struct hp_machine *m)
{
	return hp_m_state(m)->n_arms > 0 ? hp_m_wait_due(m) : deadline(m);
}

void hp_m_children(struct hp_machine *m, struct hp_action *act)
{
	if (hp_m_state(m)->n_arms == 0) {
		page(m, act, 0);
		return;
	}
	hp_m_wait_begin(m);
	m->wait.due = deadline(m);
	hp_m_wait_park(m, act);
}

void hp_m_children_begin(struct hp_machine *m, struct hp_action *act)
{
	page(m, act, 0);
}

void hp_m_children_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	enum hp_move move = m->run.phase == HP_PH_JOINING ? HP_MOVE_SPAWNED : HP_MOVE_PARKED;

	if (m->asked == HP_EVAL_JOINED) {
		hp_m_succeed(m, act, hp_m_state(m)->save, ev->value);
		return;
	}
	m->t.after.failures = 0;
	hp_m_annex(m, "children", ev->value);
	if (move == HP_MOVE_PARKED && hp_m_state(m)->n_arms > 0)
		hp_m_wait_put(m);
	hp_m_park(m, act, move, HP_PH_JOINING, wakes_at(m));
}

/* The statement that reads a page: nothing of it is kept but the rows. */
void hp_m_reply_page(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);
	struct hp_run *a = hp_m_after(m);
	int64_t due;

	if (ev->outcome == HP_CLASS_OK) {
		hp_m_eval(m, act, HP_EVAL_CHILDREN, m->asked_index);
		act->value = ev->value;
		return;
	}
	if (ev->outcome == HP_TERMINAL || ev->outcome == HP_NEEDS_PERSON) {
		hp_m_fail(m, act, ev->outcome, ev->code, ev->message);
		return;
	}
	if (a->phase != HP_PH_JOINING) {
		hp_m_again(m, ev, act);
		return;
	}
	/* children are at work: their parent goes on waiting for them meanwhile */
	if (++a->failures >= s->retry.attempts) {
		hp_m_fail(m, act, ev->outcome, ev->code, ev->message);
		return;
	}
	due = m->now + hp_backoff(&s->retry, a->id, a->visit, a->failures, ev->retry_after_us);
	if (wakes_at(m) > 0 && due > wakes_at(m))
		due = wakes_at(m);
	hp_m_outcome(m, ev->outcome, ev->code, ev->message);
	hp_m_park(m, act, HP_MOVE_RETRY, HP_PH_JOINING, due);
}

static void missed(struct hp_machine *m, struct hp_action *act, const json_t *f)
{
	const json_t *e = json_object_get(f, "error");
	const char *code = hp_json_str(e, "code"), *message = hp_json_str(e, "message");
	int64_t child = hp_json_int(e, "child", 0);

	if (hp_json_int(f, "running", 0) > 0) { /* when the road of failure begins, nothing of it goes on */
		if (!hp_json_bool(f, "closed", 0))
			close_them(m);
		hp_m_park(m, act, HP_MOVE_WOKEN, HP_PH_JOINING, 0);
		return;
	}
	m->failed_child = child;
	hp_m_fail(m, act, !code || child > 0 ? HP_TERMINAL : HP_NEEDS_PERSON, code ? code : "too_few",
		  code ? message : "there are fewer children than must succeed");
}

void hp_m_joining(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act)
{
	const struct hp_state *s = hp_m_state(m);
	json_t *f = family(m);
	int64_t outcome = hp_json_int(f, "outcome", UNDECIDED), due = deadline(m);

	m->wait.due = due;
	hp_m_wait_read(m, ev->annex);
	if (!f) {
		hp_m_hold(m, act, HP_NEEDS_PERSON, "children_unknown", "the run waits for children that are not recorded");
	} else if (outcome == MISSED) {
		missed(m, act, f);
	} else if (outcome == MET) {
		hp_m_eval(m, act, HP_EVAL_JOINED, 0);
		act->value = m->annex;
	} else if (hp_m_arm_goes(m, ev, act)) {
		/* on its way; the children are told to end */
	} else if (due > 0 && HP_GUARD(children_within, m->now >= due)) {
		hp_m_outcome(m, HP_TERMINAL, "timeout", "the children have not ended in time");
		hp_m_leave(m, act, s->children.timeout);
	} else if (hp_json_bool(f, "page", 0)) {
		page(m, act, (int32_t)hp_json_int(f, "total", 0));
	} else if (s->n_arms > 0) {
		hp_m_wait_on(m, act);
	} else {
		hp_m_park(m, act, HP_MOVE_WOKEN, HP_PH_JOINING, due);
	}
	json_decref(f);
}

bool hp_m_ends_children(struct hp_machine *m, struct hp_action *act)
{
	json_t *f = m->run.phase == HP_PH_JOINING && m->run.status != HP_HELD ? family(m) : NULL;
	bool running = hp_json_int(f, "running", 0) > 0, closed = hp_json_bool(f, "closed", 0);

	json_decref(f);
	if (!running || HP_MUTANT(children_end_first))
		return false;
	if (!closed)
		close_them(m);
	hp_m_park(m, act, HP_MOVE_WOKEN, HP_PH_JOINING, 0);
	return true;
}
