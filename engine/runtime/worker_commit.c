/* worker_commit.c: transitions out, acknowledgements in.
 *
 * All runs that moved in a turn leave in one call. While HP_COMMITS_IN_FLIGHT
 * calls are unacknowledged further transitions wait and leave together: the busier
 * the database, the bigger the batches.
 */
#include "runtime/worker_private.h"

#include <string.h>
#include "base/alloc.h"

#define RELOAD_AGAIN (500 * HP_MSEC) /* the store could not say: ask again */
#define RELEASE_AGAIN (500 * HP_MSEC)
#define RELOAD_DOUBLINGS 2           /* … while it refuses to write later each time, in 2 s at last */

struct batch {
	struct hp_list node;
	struct hp_worker *w;
	int n;
	struct hp_owned *runs[HP_BATCH_MAX];
	const struct hp_transition *transitions[HP_BATCH_MAX];
};

void hp_w_commit(struct hp_owned *r, const struct hp_transition *t)
{
	HP_ASSERT(t == &r->m.t); /* it lives as long as the run is in hand */
	hp_w_hand(r, HP_HAND_BATCH);
}

static void count_end(struct hp_worker *w, const struct hp_transition *t)
{
	if (t->move == HP_MOVE_UNDOING)
		++*hp_counter(w->o.counters, "holdpoint_unwindings_total");
	else if (t->move == HP_MOVE_UNDONE)
		++*hp_counter(w->o.counters, "holdpoint_effects_undone_total");
	if (t->disposition == HP_FINISH)
		++*hp_counterf(w->o.counters, "holdpoint_runs_finished_total{status=\"%s\"}",
			       hp_status_name(t->after.status));
	else if (t->move == HP_MOVE_HELD)
		++*hp_counterf(w->o.counters, "holdpoint_runs_held_total{class=\"%s\"}",
			       hp_class_name(t->after.held_class));
	else if (t->move == HP_MOVE_SWEPT)
		++*hp_counterf(w->o.counters, "holdpoint_sweep_pages_total");
	else if (t->move == HP_MOVE_RETRY)
		++*hp_counterf(w->o.counters, "holdpoint_retries_total{class=\"%s\"}",
			       hp_class_name(t->outcome));
}

/* What people look for in a log. Values never go there. */
static void tell(struct hp_owned *r, const struct hp_transition *t)
{
	if (t->move == HP_MOVE_HELD)
		hp_w_log_at(HP_WARN, r, &t->after, "run held", t->after.code, t->message);
	else if (t->disposition == HP_FINISH)
		hp_w_log_at(HP_INFO, r, &t->after, "run finished", hp_status_name(t->after.status), NULL);
	else if (t->move == HP_MOVE_RETRY || t->move == HP_MOVE_DOUBT || t->move == HP_MOVE_UNDOING)
		hp_w_log_at(HP_INFO, r, &t->after, hp_move_name(t->move), t->code, t->message);
	else
		hp_w_log_at(HP_DEBUG, r, &t->after, hp_move_name(t->move), NULL, NULL);
}

/* Saved values that could not be merged (memory), or a signature this very claim
 * found: a claim brings the signed request only of signatures older than itself. */
static bool all_in_hand(const struct hp_owned *r, const struct hp_transition *t)
{
	return r->saved && !r->kept.failed && (t->after.signed_visit == 0 || r->signed_request.n > 0);
}

void hp_w_acknowledged(struct hp_owned *r, int64_t now, const struct hp_commit_result *res)
{
	struct hp_worker *w = r->w;
	struct hp_event ev = {.type = HP_EV_COMMITTED,
			      .now = now,
			      .cancel = res->cancel,
			      .pause = res->pause,
			      .first_sent_at = res->first_sent_at,
			      .gated = res->gated[0] != 0};
	const struct hp_transition *t = &r->m.t;

	if (t->in_sql)
		HP_CRASH_POINT(SQL_COMMITTED);
	else if (t->disposition == HP_KEEP)
		HP_CRASH_POINT(COMMIT_ACKED);
	else
		HP_CRASH_POINT(PARK_ACKED);
	++*w->n_transitions;
	r->refusals = r->unknowns = 0;
	if (res->gated[0]) {
		/* written as parked: nothing of what t says of the admission is so */
		++*hp_counterf(w->o.counters, "holdpoint_gated_total{code=\"%s\"}", res->gated);
		hp_w_log_at(HP_DEBUG, r, &t->after, "gated", res->gated, NULL);
		hp_w_drive(r, &ev);
		return;
	}
	count_end(w, t);
	tell(r, t);
	/* A timer that is nearer than our next look is worth a look of its own. */
	if (t->disposition == HP_PARK && t->after.due_at > 0)
		hp_w_look_at(w, t->after.due_at - w->clock_offset);
	if (!r->driven) { /* hp_w_hold() */
		hp_w_let_go(r, false);
		return;
	}
	hp_w_saved(r, t);
	hp_w_kept(r, t);
	ev.kept = hp_buf_bytes(&r->kept);
	if (t->disposition == HP_KEEP && !all_in_hand(r, t)) {
		hp_w_reload(r, 0);
		return;
	}
	hp_w_next_turn(r);
	hp_w_drive(r, &ev);
}

/* The store cannot write this row (too large, not valid for a column). The first
 * time the machine holds the run with our code; a hold that is refused too is
 * replaced by one that holds nothing of the run's data; then we give up. */
static void refused(struct hp_owned *r, const struct hp_error *err)
{
	struct hp_event ev = {.type = HP_EV_VALUE,
			      .outcome = HP_NEEDS_PERSON,
			      .code = "commit_refused",
			      .message = err ? err->message : NULL};

	hp_w_log(HP_ERROR, r, "the store refused a transition", err ? hp_code_name(err->code) : NULL,
		 err ? err->message : NULL);
	r->refusals++;
	ev.now = hp_worker_now(r->w);
	if (r->driven && r->refusals == 1)
		hp_w_drive(r, &ev);
	else if (r->refusals <= 2)
		hp_w_hold(r, "commit_refused", "the store refused the transition and its hold");
	else
		hp_w_let_go(r, true);
}

/* A database that is away or full concerns all runs: a line for each would be
 * thousands a second. */
static void unsettled(struct hp_owned *r, const char *message, const char *why)
{
	struct hp_worker *w = r->w;
	int64_t times;

	hp_w_log(HP_DEBUG, r, message, NULL, why);
	if (hp_log_due(&w->unsettled, hp_w_boot(w), HP_W_TELL_EVERY, &times))
		hp_log(HP_WARN, message, "engine", HP_I64(w->engine), "times", HP_I64(times), "error", HP_STR(why), NULL);
}

static void unknown(struct hp_owned *r, const struct hp_error *err)
{
	struct hp_store *s = r->w->o.store;

	unsettled(r, "a commit was not acknowledged: its run is read again", err ? err->message : "the answer was lost");
	hp_w_reload(r, RELOAD_AGAIN << r->unknowns);
	if (s->ops->refuses && s->ops->refuses(s) && r->unknowns < RELOAD_DOUBLINGS)
		r->unknowns++;
}

static void result(struct hp_owned *r, int64_t now, const struct hp_commit_result *res)
{
	switch (res->outcome) {
	case HP_COMMIT_OK:
		if (!hp_w_looks_at_secrets(r, now, res))
			hp_w_acknowledged(r, now, res);
		return;
	case HP_COMMIT_CONFLICT:
		++*r->w->n_conflicts;
		hp_w_reload(r, 0);
		return;
	case HP_COMMIT_REFUSED:
		refused(r, res->error);
		return;
	case HP_COMMIT_UNKNOWN:
		unknown(r, res->error);
		return;
	}
	HP_ASSERT(0 && "unknown outcome");
}

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct batch *b = arg;
	struct hp_worker *w = b->w;

	HP_ASSERT(n == b->n);
	hp_w_clock(w, now);
	w->commits_in_flight--;
	hp_list_del(&b->node);
	for (int i = 0; i < n && !hp_w_closed(w); i++)
		result(b->runs[i], now > 0 ? now : hp_worker_now(w), &res[i]);
	hp_free(b);
}

/* Of hp_w_sql_commit(). */
void hp_w_one_committed(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct hp_owned *r = arg;

	HP_ASSERT(n == 1);
	if (hp_w_closed(r->w))
		return;
	hp_w_clock(r->w, now);
	result(r, now > 0 ? now : hp_worker_now(r->w), res);
}

static bool flush_one(struct hp_worker *w)
{
	struct batch *b = hp_alloc(sizeof *b);
	struct hp_store *s = w->o.store;

	if (!b)
		return false; /* they stay in the batch; the next turn tries again */
	b->w = w;
	b->n = 0;
	while (b->n < HP_BATCH_MAX && !hp_list_empty(&w->hands[HP_HAND_BATCH])) {
		struct hp_owned *r = hp_list_entry(w->hands[HP_HAND_BATCH].next, struct hp_owned, node);

		b->runs[b->n] = r;
		b->transitions[b->n++] = &r->m.t;
		hp_w_hand(r, HP_HAND_COMMIT);
		HP_CRASH_POINT(COMMIT_BEFORE);
	}
	hp_list_add_tail(&w->batches, &b->node);
	w->commits_in_flight++;
	++*w->n_batches;
	s->ops->commit(s, b->transitions, b->n, on_commit, b);
	return true;
}

void hp_w_flush(struct hp_worker *w)
{
	while (w->commits_in_flight < HP_COMMITS_IN_FLIGHT && !hp_list_empty(&w->hands[HP_HAND_BATCH]))
		if (!flush_one(w))
			return;
}

void hp_w_batches_free(struct hp_worker *w)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &w->batches) {
		hp_list_del(it);
		hp_free(hp_list_entry(it, struct batch, node));
	}
}

/* ---- reading a run again ---- */

static void on_reload(void *arg, int64_t now, const struct hp_claimed *runs, int n,
		      const struct hp_error *err)
{
	struct hp_owned *r = arg;

	r->asked = false;
	if (hp_w_closed(r->w))
		return;
	if (err) {
		unsettled(r, "a run could not be read again yet", err->message);
		r->reload_at = hp_w_boot(r->w) + RELOAD_AGAIN;
		return;
	}
	hp_w_clock(r->w, now);
	if (n == 0) { /* somebody else's now */
		hp_w_log(HP_INFO, r, "the run is no longer ours", NULL, NULL);
		hp_w_let_go(r, false);
		return;
	}
	r->reread = runs[0].run.rev;
	if (hp_w_draining(r->w))
		hp_w_let_go(r, true);
	else
		hp_w_load(r, &runs[0]);
}

static void ask(struct hp_owned *r)
{
	struct hp_worker *w = r->w;
	const struct hp_run *run = r->driven ? &r->m.run : &r->run;

	r->asked = true;
	w->o.store->ops->reload(w->o.store, w->engine, run->id, run->epoch, on_reload, r);
}

void hp_w_reload(struct hp_owned *r, int64_t after_us)
{
	hp_w_hand(r, HP_HAND_RELOAD);
	r->asked = false;
	r->reload_at = hp_w_boot(r->w) + after_us;
	if (after_us == 0)
		ask(r);
}

void hp_w_reload_due(struct hp_worker *w)
{
	struct hp_list *it, *tmp;
	int64_t boot = hp_w_boot(w);

	hp_list_each(it, tmp, &w->hands[HP_HAND_RELOAD]) {
		struct hp_owned *r = hp_list_entry(it, struct hp_owned, node);

		if (!r->asked && r->reload_at <= boot)
			ask(r);
	}
}

/* ---- giving back ---- */

void hp_w_owe(struct hp_worker *w, int64_t run, int32_t epoch)
{
	/* claims stop long before: better end and be taken over than forget one */
	HP_ASSERT(w->n_owed < HP_OWED_MAX);
	w->owed[w->n_owed++] = (struct hp_owed){run, epoch};
}

/* Asked again when it is lost: the store knows whether the run is still ours. */
static void on_release(void *arg, int64_t now, const struct hp_error *err)
{
	struct hp_worker *w = arg;
	int sent = w->owed_sent;

	w->owed_sent = 0;
	if (hp_w_closed(w))
		return;
	if (HP_GUARD(release_lost, err == NULL) == 0) {
		hp_log_error(HP_WARN, "runs could not be given back yet", err);
		w->owed_at = hp_w_boot(w) + RELEASE_AGAIN;
		return;
	}
	if (!err)
		hp_w_clock(w, now);
	w->n_owed -= sent;
	memmove(w->owed, w->owed + sent, (size_t)w->n_owed * sizeof w->owed[0]);
	if (w->n_owed > 0)
		hp_w_again(w);
}

/* Ends the turn: those that are gone leave memory, those to give back leave together. */
void hp_w_give_back(struct hp_worker *w)
{
	struct hp_list *it, *tmp;
	int64_t runs[HP_BATCH_MAX];
	int32_t epochs[HP_BATCH_MAX];
	int n = 0;

	hp_list_each(it, tmp, &w->hands[HP_HAND_GONE]) {
		struct hp_owned *r = hp_list_entry(it, struct hp_owned, node);

		if (r->give_back && w->n_owed >= HP_OWED_MAX / 2)
			continue; /* there is room when those before it are given back */
		if (r->give_back)
			hp_w_owe(w, r->run.id, r->run.epoch);
		hp_w_free(r);
	}
	if (w->n_owed == 0 || w->owed_sent > 0 || w->life == HP_LIFE_FENCED || hp_w_boot(w) < w->owed_at)
		return;
	for (; n < w->n_owed && n < HP_BATCH_MAX; n++) {
		runs[n] = w->owed[n].run;
		epochs[n] = w->owed[n].epoch;
	}
	w->owed_sent = n;
	HP_CRASH_POINT(RELEASE_BEFORE);
	w->o.store->ops->release(w->o.store, w->engine, runs, epochs, n, on_release, w);
}
