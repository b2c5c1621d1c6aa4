/* machine_private.h: what the machine's files share.
 *
 *   machine.c         events in, actions out; one function per event
 *   machine_move.c    building the one transition: leave, hold, park, finish
 *   machine_effect.c  call and sql: admission, retry, doubt, probe
 *   machine_sweep.c   a sweep's pages
 *   machine_children.c  run and each
 *   machine_state.c   the other kinds of state
 *   machine_arm.c     what stands beside a wait: `on`
 *   machine_undo.c    unwinding: what is kept to undo an effect, and undoing it
 *
 * All of them work on m->t.after, the row as it will be. m->run is the row as it
 * was last committed and changes only when a commit is acknowledged.
 */
#ifndef HP_CORE_MACHINE_PRIVATE_H
#define HP_CORE_MACHINE_PRIVATE_H

#include "base/mutant.h"
#include "core/keys.h"
#include "core/machine.h"

/* What the next event answers. */
enum hp_mode {
	HP_M_IDLE = 0, /* CLAIMED */
	HP_M_EVAL,     /* VALUE of m->asked */
	HP_M_COMMIT,   /* COMMITTED */
	HP_M_SEND,     /* REPLY of the call */
	HP_M_PROBE,    /* REPLY of the probe */
	HP_M_SQL,      /* REPLY of the statement */
	HP_M_CHECK,    /* REPLY of an arm's check */
	HP_M_DONE,     /* nothing: the run was dropped */
};

static inline struct hp_run *hp_m_after(struct hp_machine *m) { return &m->t.after; }
static inline const struct hp_state *hp_m_state(const struct hp_machine *m)
{
	HP_ASSERT(m->t.after.state >= 0 && m->t.after.state < m->def->n_states + m->def->n_undos);
	return &m->def->states[m->t.after.state];
}

/* machine_move.c */
void hp_m_begin(struct hp_machine *m);
void hp_m_eval(struct hp_machine *m, struct hp_action *act, enum hp_eval what, int32_t index);
void hp_m_annex(struct hp_machine *m, const char *kind, struct hp_bytes doc);
/* The run leaves its visit (stays: parks in it where nothing is in the air). */
void hp_m_leave_limits(struct hp_machine *m, bool stays);
void hp_m_commit(struct hp_machine *m, struct hp_action *act);
void hp_m_drop(struct hp_machine *m, struct hp_action *act);
void hp_m_save(struct hp_machine *m, const char *name, struct hp_bytes value);
void hp_m_outcome(struct hp_machine *m, enum hp_class c, const char *code, const char *message);
void hp_m_park(struct hp_machine *m, struct hp_action *act, enum hp_move move, enum hp_phase phase,
	       int64_t due_at);
/* It stays ours: the next step follows the commit. */
void hp_m_keep(struct hp_machine *m, struct hp_action *act, enum hp_move move, enum hp_phase phase);
/* What it waited for is over and undecided: an open approval stays open only while the
 * run waits for it. */
void hp_m_stop_waiting(struct hp_machine *m);
void hp_m_hold(struct hp_machine *m, struct hp_action *act, enum hp_class c, const char *code,
	       const char *message);
void hp_m_finish(struct hp_machine *m, struct hp_action *act, enum hp_status status,
		 struct hp_bytes result);
void hp_m_leave(struct hp_machine *m, struct hp_action *act, int next);
/* A new visit of that state, whatever was before. */
void hp_m_enter(struct hp_machine *m, struct hp_action *act, int state);
/* A cancel is carried out: the end, or the way back. */
void hp_m_cancel(struct hp_machine *m, struct hp_action *act);
void hp_m_pass(struct hp_machine *m, struct hp_action *act, int next);
void hp_m_succeed(struct hp_machine *m, struct hp_action *act, const char *save, struct hp_bytes value);
void hp_m_fail(struct hp_machine *m, struct hp_action *act, enum hp_class c, const char *code,
	       const char *message);

/* Truncates at a UTF-8 boundary, so that the text stays valid. src may be NULL. */
void hp_m_copy_text(char *dst, size_t size, const char *src);
size_t hp_m_json_escape(char *dst, size_t size, const char *s);
/* {"class":…,"code":…,"message":…,"state":…} of the outcome as noted. */
struct hp_bytes hp_m_error_value(struct hp_machine *m, enum hp_class c, const char *state);

/* machine_effect.c */
void hp_m_call(struct hp_machine *m, struct hp_action *act);
void hp_m_sql(struct hp_machine *m, struct hp_action *act);
void hp_m_interrupted(struct hp_machine *m, struct hp_action *act);
void hp_m_probe(struct hp_machine *m, struct hp_action *act);
void hp_m_send(struct hp_machine *m, struct hp_action *act, bool probe);
void hp_m_admit(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* The call that is in doubt: can the very same request be sent again, as if it never had been? */
bool hp_m_can_repeat(const struct hp_machine *m);
/* Nobody knows whether the effect happened: the probe decides, or a person. */
void hp_m_doubt(struct hp_machine *m, struct hp_action *act, const char *message);
void hp_m_admit_probe(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_take_back(struct hp_machine *m);
void hp_m_admitted(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_reply_call(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_reply_probe(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_reply_sql(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* A failed attempt: again later, or fail. */
void hp_m_again(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_verdict(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);

/* machine_undo.c */
bool hp_m_unwinds(const struct hp_machine *m);  /* the run only goes back */
bool hp_m_undo_due(const struct hp_machine *m); /* … it will, where it next may */
bool hp_m_undo_order(enum hp_command command);
void hp_m_undo_find(struct hp_machine *m, struct hp_bytes annex);
void hp_m_undo_kept(struct hp_machine *m, const struct hp_event *ev);
void hp_m_undo_unknown(struct hp_machine *m);
void hp_m_undo_ordered(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act,
		       enum hp_command command);
void hp_m_undo_resolve(struct hp_machine *m, struct hp_action *act);
void hp_m_unwind(struct hp_machine *m, struct hp_action *act, enum hp_status ends);
void hp_m_undo_next(struct hp_machine *m, struct hp_action *act);
void hp_m_undone(struct hp_machine *m, struct hp_action *act, const char *as);
void hp_m_undo_skip(struct hp_machine *m, struct hp_action *act);
void hp_m_undo_end(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* The message, and what is left undone if the run is being unwound. */
const char *hp_m_undo_says(const struct hp_machine *m, const char *message, char *buf, size_t n);
/* machine_sweep.c */
void hp_m_sweep_found(struct hp_machine *m, const struct hp_event *ev); /* claimed: where it stands */
void hp_m_sweep(struct hp_machine *m, struct hp_action *act);           /* the next page, or its call */
void hp_m_sweep_replied(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_swept(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* The row in hand has failed for good. True: that is tolerated, and the sweep goes on. */
bool hp_m_sweep_tolerates(struct hp_machine *m, struct hp_action *act, enum hp_class c);

/* machine_children.c */
void hp_m_children(struct hp_machine *m, struct hp_action *act);
void hp_m_children_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_reply_page(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_joining(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* run, each: what their arms need is known; asks for the first children. */
void hp_m_children_begin(struct hp_machine *m, struct hp_action *act);
/* Before a cancelled parent ends: true, and it is parked until they have ended. */
bool hp_m_ends_children(struct hp_machine *m, struct hp_action *act);
/* Whatever leaves children behind tells them to end, in that very commit. */
void hp_m_leave_children(struct hp_machine *m);

/* machine_state.c */
void hp_m_work(struct hp_machine *m, struct hp_action *act);
void hp_m_value(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_open(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* When an open approval is due by itself: reminders, deadline. */
int64_t hp_m_approval_due(const struct hp_state *s, const struct hp_run *a, int64_t now);

/* machine_arm.c */
/* A waiting state begins: nothing of it is known. */
void hp_m_wait_begin(struct hp_machine *m);
/* Asks what its arms still need, then parks it. m->wait.due is the main wait's. */
void hp_m_wait_park(struct hp_machine *m, struct hp_action *act);
/* What the transition that parks it brings of keys and clocks. */
void hp_m_wait_put(struct hp_machine *m);
/* The next thing that happens by itself; 0: nothing. */
int64_t hp_m_wait_due(const struct hp_machine *m);
/* Claimed again: what was stored of its clocks. m->wait.due is set. */
void hp_m_wait_read(struct hp_machine *m, struct hp_bytes annex);
/* Did an arm go on, by an event or a clock that is due before the main wait is? */
bool hp_m_arm_goes(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* Nothing has happened: checks what is due, or parks again. */
void hp_m_wait_on(struct hp_machine *m, struct hp_action *act);
/* Does this transition leave a state by an arm? Its message is the sentence. */
bool hp_m_arm_went(const struct hp_machine *m);
/* The state is no longer waited in. */
void hp_m_wait_over(struct hp_machine *m);
void hp_m_arm_at(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_arm_keys(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_check_send(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_check_said(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_check_failed(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
void hp_m_reply_check(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);

#endif
