/* worker.c: the worker's life: register, heartbeat, claim, drain; the end of each turn.
 *
 *   NEW ─▶ REGISTERING ─▶ WORKING ─▶ DRAINING ─▶ STOPPING ─▶ ENDED
 *                            └──────────┴─▶ FENCED (marked dead by others)
 *   from any: CLOSED (deaf, about to be freed)
 *
 * Recovery is the ordinary claim: a worker knows nothing of what another one, or
 * an earlier process, had in hand.
 */
#include "runtime/worker_private.h"

#include <string.h>
#include <unistd.h>
#include "base/alloc.h"

#define DRAIN_DEFAULT (20 * HP_SECOND)
#define REGISTER_AGAIN (500 * HP_MSEC)
#define HEARTBEATS_PER_LEASE 4
/* An idle worker asks twice a second or less, heartbeats included: looks come
 * every 1.0 to 2.0 poll intervals, spread so that workers do not march in step. */
#define POLL_JITTER_PERCENT 100
#define SOON (10 * HP_MSEC)

/* ---- clocks ---- */

int64_t hp_w_boot(const struct hp_worker *w)
{
	return w->o.boottime();
}

/* The database's time, as acknowledged, was true when the answer left; so our
 * estimate is never ahead of it, and the best of many is the latest. */
void hp_w_clock(struct hp_worker *w, int64_t database_now)
{
	int64_t offset = database_now - hp_w_boot(w);

	if (database_now <= 0)
		return;
	if (!w->clock_known || offset > w->clock_offset || w->clock_offset - offset > HP_SECOND)
		w->clock_offset = offset;
	else
		w->clock_offset -= (w->clock_offset - offset) / 64; /* follow a slower clock slowly */
	w->clock_known = true;
}

int64_t hp_worker_now(const struct hp_worker *w)
{
	return w->clock_known ? hp_w_boot(w) + w->clock_offset : hp_now_us();
}

bool hp_worker_lease_good(const struct hp_worker *w)
{
	int64_t used = hp_w_boot(w) - w->lease_from;

	if (w->life != HP_LIFE_WORKING && w->life != HP_LIFE_DRAINING)
		return false;
	return used < w->o.lease_us / 100 * HP_LEASE_SEND_PERCENT;
}

/* ---- small readers ---- */

int64_t hp_worker_engine(const struct hp_worker *w)
{
	return w->engine;
}

const char *hp_worker_installation(const struct hp_worker *w)
{
	return w->installation;
}

int hp_worker_in_hand(const struct hp_worker *w)
{
	return w->in_hand;
}

int hp_worker_count(const struct hp_worker *w, enum hp_hand h)
{
	HP_ASSERT(h >= 0 && h < HP_HAND__COUNT);
	return w->counts[h];
}

bool hp_w_closed(const struct hp_worker *w)
{
	return w->life == HP_LIFE_CLOSED;
}

bool hp_w_draining(const struct hp_worker *w)
{
	return w->life >= HP_LIFE_DRAINING;
}

static int free_slots(const struct hp_worker *w)
{
	return w->in_hand < w->o.slots ? w->o.slots - w->in_hand : 0;
}

bool hp_worker_can_take(const struct hp_worker *w)
{
	return w->life == HP_LIFE_WORKING && free_slots(w) > 0 && w->n_owed < HP_OWED_MAX / 2 && hp_worker_lease_good(w);
}

void hp_w_log(enum hp_log_level level, const struct hp_owned *r, const char *message,
	      const char *code, const char *detail)
{
	hp_w_log_at(level, r, r->driven ? &r->m.run : &r->run, message, code, detail);
}

void hp_w_log_at(enum hp_log_level level, const struct hp_owned *r, const struct hp_run *run,
		 const char *message, const char *code, const char *detail)
{
	const char *state = r->driven ? r->m.def->states[run->state].name : NULL;

	hp_log(level, message, "run", HP_I64(run->id), "state", HP_STR(state), "visit", HP_I64(run->visit),
	       "attempt", HP_I64(run->attempt), "engine", HP_I64(r->w->engine), "code", HP_STR(code),
	       "error", HP_STR(detail), NULL);
}

void hp_w_again(struct hp_worker *w)
{
	ev_idle_start(w->o.loop, &w->again);
}

void hp_w_look_at(struct hp_worker *w, int64_t boot)
{
	if (boot < w->claim_at)
		w->claim_at = boot;
}

void hp_worker_hint(struct hp_worker *w)
{
	hp_w_look_at(w, hp_w_boot(w));
	hp_w_again(w);
}

/* ---- the engine's row ---- */

static void register_engine(struct hp_worker *w);

static void fenced(struct hp_worker *w, const struct hp_error *err)
{
	w->life = HP_LIFE_FENCED;
	hp_log_error(HP_ERROR, "this engine was marked dead by others: nothing may be sent any more", err);
	ev_timer_stop(w->o.loop, &w->heartbeat);
	if (w->o.on_fenced)
		w->o.on_fenced(w->o.arg, err);
}

static void beat_in(struct hp_worker *w, int64_t us)
{
	ev_timer_stop(w->o.loop, &w->heartbeat);
	ev_timer_set(&w->heartbeat, (double)us / 1e6, 0.);
	ev_timer_start(w->o.loop, &w->heartbeat);
}

static void on_registered(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	struct hp_worker *w = arg;

	if (hp_w_closed(w))
		return;
	if (err) {
		hp_log_error(HP_WARN, "the engine could not be registered yet", err);
		if (w->life == HP_LIFE_REGISTERING)
			beat_in(w, REGISTER_AGAIN);
		return;
	}
	w->engine = info->id;
	memcpy(w->installation, info->installation, sizeof w->installation);
	w->installation[sizeof w->installation - 1] = 0;
	w->lease_from = w->heartbeat_left;
	w->heartbeat_left = 0;
	hp_w_clock(w, info->now);
	if (w->life != HP_LIFE_REGISTERING)
		return; /* drained meanwhile: the lease ends by itself */
	w->life = HP_LIFE_WORKING;
	hp_log(HP_INFO, "engine registered", "engine", HP_I64(w->engine), "slots", HP_I64(w->o.slots), NULL);
	beat_in(w, w->o.lease_us / HEARTBEATS_PER_LEASE);
	hp_worker_hint(w);
}

static void register_engine(struct hp_worker *w)
{
	w->heartbeat_left = hp_w_boot(w);
	w->o.store->ops->engine_register(w->o.store, w->hostname, (int64_t)getpid(), w->o.lease_us,
					 on_registered, w);
}

static void on_heartbeat(void *arg, int64_t now, const struct hp_error *err)
{
	struct hp_worker *w = arg;
	int64_t left = w->heartbeat_left;

	w->heartbeat_left = 0;
	if (w->life != HP_LIFE_WORKING && w->life != HP_LIFE_DRAINING)
		return;
	if (err && err->code == HP_E_CONFLICT) {
		fenced(w, err);
		return;
	}
	if (err) {
		hp_log_error(HP_WARN, "a heartbeat was not acknowledged", err);
		beat_in(w, w->o.lease_us / HEARTBEATS_PER_LEASE / 8);
		return;
	}
	HP_CRASH_POINT(HEARTBEAT_ACKED);
	w->lease_from = left;
	hp_w_clock(w, now);
	beat_in(w, w->o.lease_us / HEARTBEATS_PER_LEASE);
	hp_w_send_held_back(w);
	hp_w_retention_look(w);
}

static void on_beat(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_worker *w = t->data;

	(void)loop;
	(void)events;
	if (w->life == HP_LIFE_REGISTERING) {
		register_engine(w);
	} else if (w->heartbeat_left == 0) {
		w->heartbeat_left = hp_w_boot(w);
		HP_CRASH_POINT(HEARTBEAT_BEFORE);
		w->o.store->ops->heartbeat(w->o.store, w->engine, on_heartbeat, w);
	}
}

/* ---- claims ---- */

/* Not while many runs wait to be given back: they would be hidden from engines that can take them. */
static bool may_claim(const struct hp_worker *w)
{
	return w->life == HP_LIFE_WORKING && !w->claiming && w->n_owed < HP_OWED_MAX / 2 && free_slots(w) > 0;
}

static int64_t late_look(const struct hp_worker *w)
{
	uint32_t draw;

	hp_random(&draw, sizeof draw);
	return hp_w_boot(w) + w->o.poll_us +
	       w->o.poll_us / 100 * (int64_t)(draw % POLL_JITTER_PERCENT);
}

/* Work comes in bursts: soon after some was found, or after the first look that
 * found none (what started while the store noted that we are idle gave no hint),
 * the next look is soon. Then hints wake us, and polling is slow. */
static int64_t next_look(const struct hp_worker *w)
{
	return w->empty_looks < 2 ? hp_w_boot(w) + SOON : late_look(w);
}

void hp_w_look_later(struct hp_worker *w)
{
	w->claim_at = late_look(w);
}

static void on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n,
		     const struct hp_error *err)
{
	struct hp_worker *w = arg;

	w->claiming = false;
	if (hp_w_closed(w))
		return;
	if (err) {
		hp_log_error(HP_WARN, "ready runs could not be claimed", err);
		hp_w_look_at(w, hp_w_boot(w) + w->o.poll_us);
		return;
	}
	hp_w_clock(w, now);
	if (n > 0)
		HP_CRASH_POINT(CLAIM_ACKED);
	*w->n_claimed += (uint64_t)n;
	w->empty_looks = n > 0 ? 0 : w->empty_looks + 1;
	/* A full answer means that there may be more. */
	hp_w_look_at(w, n == w->asked_for ? hp_w_boot(w) : next_look(w));
	for (int i = 0; i < n; i++)
		hp_w_take(w, &runs[i]);
}

static void claim_if_due(struct hp_worker *w)
{
	int max = free_slots(w);

	if (!may_claim(w) || hp_w_boot(w) < w->claim_at)
		return;
	if (max > HP_CLAIM_MAX)
		max = HP_CLAIM_MAX;
	w->claiming = true;
	w->asked_for = max;
	w->claim_at = INT64_MAX; /* the answer decides, unless a hint comes before it */
	++*w->n_claims;
	HP_CRASH_POINT(CLAIM_BEFORE);
	w->o.store->ops->claim(w->o.store, w->engine, max, on_claim, w);
}

void hp_worker_adopt(struct hp_worker *w, const struct hp_claimed *c)
{
	HP_CRASH_POINT(ADOPT);
	hp_w_take(w, c);
	hp_w_again(w);
}

/* ---- drain ---- */

static void ended(struct hp_worker *w)
{
	w->life = HP_LIFE_ENDED;
	ev_timer_stop(w->o.loop, &w->heartbeat);
	HP_CRASH_POINT(DRAINED);
	if (w->o.on_drained)
		w->o.on_drained(w->o.arg);
}

static void on_stopped(void *arg, int64_t now, const struct hp_error *err)
{
	struct hp_worker *w = arg;

	(void)now;
	if (err && !hp_w_closed(w))
		hp_log_error(HP_WARN, "the end of the engine could not be written; its lease ends by itself", err);
	if (w->life == HP_LIFE_STOPPING)
		ended(w);
}

static void abandon_effects(struct hp_worker *w)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &w->hands[HP_HAND_EFFECT])
		hp_w_effect_abandon(hp_list_entry(it, struct hp_owned, node));
}

static void drain_step(struct hp_worker *w)
{
	if (w->life != HP_LIFE_DRAINING)
		return;
	if (hp_w_boot(w) < w->drain_until && (w->in_hand > 0 || w->claiming || hp_w_schedules_busy(w) || w->retention.asking))
		return;
	if (w->in_hand > 0)
		hp_log(HP_WARN, "the drain ends with runs in hand; others take them over", "runs",
		       HP_I64(w->in_hand), NULL);
	abandon_effects(w);
	if (w->engine == 0) {
		ended(w);
		return;
	}
	w->life = HP_LIFE_STOPPING;
	w->o.store->ops->engine_stop(w->o.store, w->engine, on_stopped, w);
}

void hp_worker_drain(struct hp_worker *w)
{
	if (w->life >= HP_LIFE_DRAINING)
		return;
	HP_CRASH_POINT(DRAIN_BEFORE);
	hp_log(HP_INFO, "draining", "engine", HP_I64(w->engine), "runs", HP_I64(w->in_hand), NULL);
	w->life = HP_LIFE_DRAINING;
	w->drain_until = hp_w_boot(w) + w->o.drain_us;
	/* From here a result is committed without admitting the next effect. */
	for (int h = 0; h < HP_HAND__COUNT; h++) {
		struct hp_list *it, *tmp;

		hp_list_each(it, tmp, &w->hands[h])
			hp_list_entry(it, struct hp_owned, node)->m.separate_admission = true;
	}
	hp_w_again(w);
}

/* ---- turns ---- */

static void set_gauges(struct hp_worker *w)
{
	for (int h = 0; h < HP_HAND__COUNT; h++)
		*w->gauges[h] = (uint64_t)w->counts[h];
}

static void earlier(int64_t *at, int64_t other)
{
	if (other < *at)
		*at = other;
}

/* When the loop must turn again if nothing else happens. */
static void schedule(struct hp_worker *w)
{
	int64_t boot = hp_w_boot(w), at = boot + HP_SECOND;
	struct hp_list *it, *tmp;

	if (may_claim(w))
		earlier(&at, w->claim_at);
	if (w->life == HP_LIFE_WORKING)
		earlier(&at, hp_w_schedules_at(w));
	earlier(&at, hp_w_breakers_at(w));
	if (w->n_owed > 0 && w->owed_sent == 0)
		earlier(&at, w->owed_at);
	if (w->life == HP_LIFE_DRAINING)
		earlier(&at, w->drain_until);
	hp_list_each(it, tmp, &w->hands[HP_HAND_RELOAD]) {
		const struct hp_owned *r = hp_list_entry(it, struct hp_owned, node);

		if (!r->asked)
			earlier(&at, r->reload_at);
	}
	ev_timer_stop(w->o.loop, &w->tick);
	/* A timer is due when its time has come, not before: round up. */
	ev_timer_set(&w->tick, at > boot ? (double)(at - boot + 1) / 1e6 : 0., 0.);
	ev_timer_start(w->o.loop, &w->tick);
}

/* Everything that happened in this turn leaves now, together. */
static void on_prepare(struct ev_loop *loop, struct ev_prepare *p, int events)
{
	struct hp_worker *w = p->data;
	struct hp_store *s = w->o.store;

	(void)events;
	ev_idle_stop(loop, &w->again);
	if (w->life == HP_LIFE_NEW || w->life >= HP_LIFE_ENDED)
		return;
	hp_w_echo(w);
	hp_w_reload_due(w);
	claim_if_due(w);
	hp_w_schedules_look(w);
	hp_w_breakers_look(w);
	hp_w_flush(w);
	hp_w_give_back(w);
	drain_step(w);
	if (s->ops->pump && s->ops->pump(s) > 0)
		hp_w_again(w);
	set_gauges(w);
	schedule(w);
}

static void on_tick(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events; /* it has turned the loop: on_prepare() does the rest */
}

static void on_again(struct ev_loop *loop, struct ev_idle *i, int events)
{
	(void)events;
	ev_idle_stop(loop, i);
}

/* ---- making and freeing ---- */

static void defaults(struct hp_worker *w)
{
	struct hp_worker_options *o = &w->o;

	o->lease_us = o->lease_us > 0 ? o->lease_us : HP_LEASE_DEFAULT;
	o->poll_us = o->poll_us > 0 ? o->poll_us : HP_POLL_DEFAULT;
	o->slots = o->slots > 0 ? o->slots : HP_WORKER_SLOTS_DEFAULT;
	o->drain_us = o->drain_us > 0 ? o->drain_us : DRAIN_DEFAULT;
	o->boottime = o->boottime ? o->boottime : hp_boottime_us;
	if (o->host)
		memcpy(w->hostname, o->host, strnlen(o->host, sizeof w->hostname - 1));
	else if (gethostname(w->hostname, sizeof w->hostname - 1) != 0)
		memcpy(w->hostname, "unknown", sizeof "unknown");
}

static void counters(struct hp_worker *w)
{
	struct hp_counters *c = w->o.counters;

	w->n_transitions = hp_counter(c, "holdpoint_transitions_total");
	w->n_batches = hp_counter(c, "holdpoint_commits_total");
	w->n_claims = hp_counter(c, "holdpoint_claims_total");
	w->n_claimed = hp_counter(c, "holdpoint_runs_claimed_total");
	w->n_conflicts = hp_counter(c, "holdpoint_commit_conflicts_total");
	w->n_evals = hp_counter(c, "holdpoint_evaluations_total");
	w->n_ticks = hp_counter(c, "holdpoint_schedule_runs_started_total");
	w->n_ticks_missed = hp_counter(c, "holdpoint_schedule_ticks_missed_total");
	w->n_removed = hp_counter(c, "holdpoint_runs_removed_total");
	for (int h = 0; h < HP_HAND__COUNT; h++)
		w->gauges[h] = hp_counterf(c, "holdpoint_runs_in_hand{waiting_for=\"%s\"}",
					   hp_hand_name((enum hp_hand)h));
}

struct hp_worker *hp_worker_new(const struct hp_worker_options *o, struct hp_error *err)
{
	struct hp_worker *w = hp_calloc(1, sizeof *w);

	if (!w) {
		hp_fail(err, HP_E_NOMEM, "worker: no memory");
		return NULL;
	}
	w->o = *o;
	defaults(w);
	counters(w);
	hp_list_init(&w->batches);
	hp_list_init(&w->echoes);
	hp_buf_init(&w->scratch, HP_RUN_DATA_MAX);
	for (int h = 0; h < HP_HAND__COUNT; h++)
		hp_list_init(&w->hands[h]);
	for (int i = 0; i < HP_HOSTS_MAX; i++)
		hp_list_init(&w->hosts[i].waiting);
	ev_timer_init(&w->tick, on_tick, 0., 0.);
	ev_timer_init(&w->heartbeat, on_beat, 0., 0.);
	ev_prepare_init(&w->prepare, on_prepare);
	ev_idle_init(&w->again, on_again);
	w->tick.data = w->heartbeat.data = w->prepare.data = w->again.data = w;
	return w;
}

static void on_hint(void *arg)
{
	hp_worker_hint(arg);
}

void hp_worker_start(struct hp_worker *w)
{
	HP_ASSERT(w->life == HP_LIFE_NEW);
	w->life = HP_LIFE_REGISTERING;
	ev_prepare_start(w->o.loop, &w->prepare);
	if (w->o.store->ops->on_hint)
		w->o.store->ops->on_hint(w->o.store, on_hint, w);
	register_engine(w);
}

void hp_worker_close(struct hp_worker *w)
{
	if (!w)
		return;
	w->life = HP_LIFE_CLOSED;
	abandon_effects(w);
	ev_timer_stop(w->o.loop, &w->tick);
	ev_timer_stop(w->o.loop, &w->heartbeat);
	ev_prepare_stop(w->o.loop, &w->prepare);
	ev_idle_stop(w->o.loop, &w->again);
}

void hp_worker_free(struct hp_worker *w)
{
	if (!w)
		return;
	hp_worker_close(w);
	for (int h = 0; h < HP_HAND__COUNT; h++)
		while (!hp_list_empty(&w->hands[h]))
			hp_w_free(hp_list_entry(w->hands[h].next, struct hp_owned, node));
	hp_w_batches_free(w);
	hp_buf_free(&w->scratch);
	hp_free(w);
}
