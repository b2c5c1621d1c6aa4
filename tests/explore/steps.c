/* steps.c: which steps are enabled in a state, taking one of them, saying it in words. */
#include "explore.h"

#include <stdio.h>
#include <string.h>

const char *const x_budget_names[B__COUNT] = {
	"crashes", "stops", "lost acknowledgements", "failed commits", "late commits", "refusals", "declined", "lost requests",
	"lost replies", "failed statements", "approvals", "rejections", "cancels", "pauses", "retries", "skips",
	"give ups", "undos", "events", "webhooks", "starts", "upgrades", "alarms", "trips",
};

struct list {
	struct x_step *out;
	int n;
};

static void add(struct list *l, enum x_kind kind, int a, int b, int c)
{
	HP_ASSERT(l->n < X_STEPS);
	l->out[l->n++] = (struct x_step){ (uint8_t)kind, (uint8_t)a, (uint8_t)b, (uint8_t)c };
}

static bool may(enum x_budget b)
{
	return X.left[b] > 0;
}

/* ---- engines ---- */

static void hand_steps(struct list *l, int e, int i)
{
	switch (H[e][i].at) {
	case AT_NONE:
	case AT_FLIGHT:
		return;
	case AT_COMMIT:
		add(l, S_WRITE, e, i, HP_MEM_TRY);
		if (may(B_ACK_LOST))
			add(l, S_WRITE, e, i, HP_MEM_ACK_LOST);
		if (may(B_COMMIT_FAIL))
			add(l, S_WRITE, e, i, HP_MEM_FAIL);
		if (may(B_LATE))
			add(l, S_WRITE, e, i, HP_MEM_LATE);
		if (may(B_ACK_LOST) && x_looks_written(&H[e][i]))
			add(l, S_WRITE, e, i, X_LOOKED);
		return;
	case AT_WRITTEN:
		add(l, S_ACK, e, i, 0);
		return;
	case AT_RELOAD:
		add(l, S_RELOAD, e, i, 0);
		return;
	case AT_SEND:
		if (HP_GUARD(world_lease, x_lease_good(e)))
			add(l, S_SEND, e, i, 0);
		return;
	case AT_SQL:
		add(l, S_SQL, e, i, 0);
		if (may(B_SQL_FAIL))
			add(l, S_SQL, e, i, 1);
		return;
	}
}

/* Whether its time has come is for the store to say. */
static bool claimable(void)
{
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct mem_run *r = x_run(id);

		if (r->ready || (!r->engine && r->row.status == HP_WAITING && r->row.due_at > 0 && !r->row.pause))
			return true;
	}
	return false;
}

/* Somebody's lease is over, and nobody has marked him. */
static bool late(void)
{
	MEM_EACH(x_tables(), T_ENGINE, struct mem_engine, en)
		for (int64_t id = 1; id <= x_n_runs(); id++)
			if (!en->dead && en->lease_until < X.now && x_run(id)->engine == en->id)
				return true;
	return false;
}

static void engine_steps(struct list *l, int e)
{
	int in_hand = 0;

	for (int i = 0; i < X_HANDS; i++)
		in_hand += H[e][i].at != AT_NONE;
	if (may(B_CRASH) && in_hand > 0)
		add(l, S_CRASH, e, 0, 0);
	if (X.engines[e].paused) {
		add(l, S_RESUME, e, 0, 0);
		return;
	}
	for (int i = 0; i < X_HANDS; i++)
		hand_steps(l, e, i);
	if (in_hand < X_HANDS && !x_marked_dead(e) && claimable())
		add(l, S_CLAIM, e, 0, 0);
	if (X.engines[e].beat_at < X.now || late())
		add(l, S_BEAT, e, 0, 0);
	if (may(B_PAUSE) && in_hand > 0)
		add(l, S_PAUSE, e, 0, 0);
}

/* ---- outside ---- */

static void request_steps(struct list *l, int i)
{
	const struct x_request *r = &X.requests[i];

	if (!r->used)
		return;
	if (r->replying) {
		if (!X.engines[r->engine].paused)
			add(l, S_DELIVER, i, 0, 0);
		return;
	}
	add(l, S_LAND, i, LAND_OK, 0);
	if (r->check && may(B_ALARM))
		add(l, S_LAND, i, LAND_ALARM, 0);
	if (r->engine < 0) { /* nobody will hear: it acts, or it does not */
		if (!r->probe && !r->check)
			add(l, S_LAND, i, LAND_LOST, 0);
		return;
	}
	if (may(B_REFUSE))
		add(l, S_LAND, i, LAND_REFUSE, 0);
	if (may(B_DECLINE) && !r->probe && !r->check && !x_knows(r->key))
		add(l, S_LAND, i, LAND_DECLINE, 0);
	if (may(B_LOSE_REQUEST))
		add(l, S_LAND, i, LAND_LOST, 0);
	if (may(B_LOSE_REPLY) && !r->probe && !r->check)
		add(l, S_LAND, i, LAND_REPLY_LOST, 0);
}

static void door_steps(struct list *l, int run)
{
	for (int b = B_APPROVE; b < B__COUNT; b++)
		if (b != B_ALARM && may((enum x_budget)b) && x_door_open(b, run))
			add(l, S_DOOR, b, run, 0);
	if (run <= x_n_runs() && x_run(run)->row.pause && !hp_status_final(x_run(run)->row.status))
		add(l, S_UNPAUSE, run, 0, 0);
}

int x_enabled(struct x_step out[X_STEPS])
{
	struct list l = { out, 0 };
	int n = (int)x_n_runs();

	if (X.coin < 0) { /* before anything else: what predicates will say */
		add(&l, S_COIN, 0, 0, 0);
		add(&l, S_COIN, 1, 0, 0);
		return l.n;
	}
	for (int e = 0; e < x_world->engines; e++)
		engine_steps(&l, e);
	for (int i = 0; i < X_REQUESTS; i++)
		request_steps(&l, i);
	for (int run = 1; run <= (n > 0 ? n : 1); run++)
		door_steps(&l, run);
	for (int i = 0; i < X_LATES; i++)
		if (L[i].used) {
			add(&l, S_LATE, i, 0, 0);
			add(&l, S_LATE, i, 1, 0);
		}
	if (x_next_time() > 0)
		add(&l, S_TIME, 0, 0, 0);
	return l.n;
}

bool x_is_fault(struct x_step s)
{
	switch ((enum x_kind)s.kind) {
	case S_WRITE:
		return s.c != HP_MEM_TRY;
	case S_LAND:
		return s.b != LAND_OK;
	case S_SQL:
		return s.c != 0;
	case S_LATE:
		return s.b != 0;
	case S_CRASH:
	case S_PAUSE:
	case S_DOOR:
		return true;
	default:
		return false;
	}
}

/* ---- taking one ---- */

static bool land(struct x_step s)
{
	static const enum x_budget costs[] = { [LAND_ALARM] = B_ALARM, [LAND_REFUSE] = B_REFUSE, [LAND_DECLINE] = B_DECLINE,
					       [LAND_LOST] = B_LOSE_REQUEST, [LAND_REPLY_LOST] = B_LOSE_REPLY };

	if (s.b != LAND_OK && X.requests[s.a].engine >= 0)
		X.left[costs[s.b]]--;
	x_land(s.a, (enum x_land)s.b);
	return true;
}

static bool write_down(struct x_step s)
{
	X.left[B_ACK_LOST] = (int8_t)(X.left[B_ACK_LOST] - (s.c == HP_MEM_ACK_LOST || s.c == X_LOOKED));
	X.left[B_COMMIT_FAIL] = (int8_t)(X.left[B_COMMIT_FAIL] - (s.c == HP_MEM_FAIL));
	X.left[B_LATE] = (int8_t)(X.left[B_LATE] - (s.c == HP_MEM_LATE));
	return x_write(s.a, s.b, s.c);
}

static bool late_commit(struct x_step s)
{
	if (s.b)
		x_late_lose(s.a);
	else
		x_late_land(s.a);
	return true;
}

bool x_take(struct x_step s)
{
	switch ((enum x_kind)s.kind) {
	case S_COIN:
		X.coin = (int8_t)s.a;
		return true;
	case S_CLAIM:
		return x_claim(s.a);
	case S_WRITE:
		return write_down(s);
	case S_ACK:
		x_ack(s.a, s.b);
		return true;
	case S_RELOAD:
		x_reload(s.a, s.b);
		return true;
	case S_SEND:
		if (x_in_time(s.a, s.b))
			x_send(s.a, s.b);
		else
			x_unsent(s.a, s.b);
		return true;
	case S_SQL:
		X.left[B_SQL_FAIL] = (int8_t)(X.left[B_SQL_FAIL] - s.c);
		x_sql(s.a, s.b, s.c != 0);
		return true;
	case S_LAND:
		return land(s);
	case S_DELIVER:
		x_deliver(s.a);
		return true;
	case S_TIME:
		x_pass(x_next_time());
		return true;
	case S_BEAT:
		return x_beat(s.a);
	case S_CRASH:
		X.left[B_CRASH]--;
		X.engines[s.a].paused = false;
		x_die(s.a);
		return true;
	case S_PAUSE:
		X.left[B_PAUSE]--;
		X.engines[s.a].paused = true;
		return true;
	case S_RESUME:
		X.engines[s.a].paused = false;
		return true;
	case S_DOOR:
		return x_door(s.a, s.b);
	case S_UNPAUSE:
		return x_unpause(s.a);
	case S_LATE:
		return late_commit(s);
	}
	HP_ASSERT(0 && "unknown step");
}

/* ---- in words ---- */

static const char *const phases[] = { "", "entered", "admitted", "backoff", "doubt", "probing", "open", "gated", "", "undoing", "joining" };

static void say_write(struct x_step s, char *out, size_t n)
{
	static const char *const fates[] = { [HP_MEM_TRY] = "writes", [HP_MEM_FAIL] = "fails to write, and does not know:",
					     [HP_MEM_ACK_LOST] = "writes, and the acknowledgement is lost:",
					     [HP_MEM_LATE] = "writes, and what it wrote is late:",
					     [X_LOOKED] = "writes, loses the answer, and a look says that it is written:" };
	const struct x_hand *h = &H[s.a][s.b];
	const struct hp_transition *t = &h->m.t;

	snprintf(out, n, "engine %c %s run %lld, epoch %d rev %d: %s, visit %d, %s, %s", 'A' + s.a, fates[s.c],
		 (long long)h->run, (int)t->epoch, (int)t->rev, hp_move_name(t->move), (int)t->after.visit,
		 hp_status_name(t->after.status), phases[t->after.phase]);
}

static void say_late(struct x_step s, char *out, size_t n)
{
	const struct hp_transition *t = &L[s.a].t;

	snprintf(out, n, "the late commit of run %lld, epoch %d rev %d (%s, visit %d) %s", (long long)t->run_id, (int)t->epoch,
		 (int)t->rev, hp_move_name(t->move), (int)t->after.visit, s.b ? "is lost for good" : "comes");
}

static void say_land(struct x_step s, char *out, size_t n)
{
	static const char *const hows[] = { "lands", "lands: alarm", "is refused: busy", "is declined", "is lost",
					    "lands, and its reply is lost" };
	const struct x_request *r = &X.requests[s.a];

	snprintf(out, n, "the %s of run %d, visit %d %s%s", r->probe ? "probe" : r->check ? "check" : "request", (int)r->run,
		 (int)r->visit, hows[s.b], r->engine < 0 ? " (its engine is dead)" : "");
}

/* Of a step that is about to be taken. */
void x_say(struct x_step s, char *out, size_t n)
{
	const char e = (char)('A' + s.a);
	const struct x_hand *h = s.a < X_ENGINES && s.b < X_HANDS ? &H[s.a][s.b] : &H[0][0];
	long long run = (long long)h->run;

	switch ((enum x_kind)s.kind) {
	case S_COIN: snprintf(out, n, "predicates are %s", s.a ? "true" : "false"); return;
	case S_CLAIM: snprintf(out, n, "engine %c claims", e); return;
	case S_WRITE: say_write(s, out, n); return;
	case S_ACK: snprintf(out, n, "engine %c hears that run %lld is written", e, run); return;
	case S_RELOAD: snprintf(out, n, "engine %c reads run %lld again", e, run); return;
	case S_SEND:
		snprintf(out, n, "engine %c %s the %s of run %lld", e, x_in_time(s.a, s.b) ? "sends" : "is too late for",
			 h->act.probe ? "probe" : "request", run);
		return;
	case S_SQL: snprintf(out, n, "engine %c runs the statement of run %lld%s", e, run, s.c ? ", which fails" : ""); return;
	case S_LAND: say_land(s, out, n); return;
	case S_DELIVER:
		snprintf(out, n, "engine %c hears the reply for run %d: %s", 'A' + X.requests[s.a].engine, (int)X.requests[s.a].run,
			 X.requests[s.a].code ? X.requests[s.a].code : hp_class_name(X.requests[s.a].outcome));
		return;
	case S_TIME:
		snprintf(out, n, "time passes: %lld us, to T+%.6f s", (long long)(x_next_time() - X.now),
			 (double)(x_next_time() - X_T0) / 1e6);
		return;
	case S_BEAT: snprintf(out, n, "engine %c beats%s", e, x_marked_dead(s.a) ? ", learns that it is dead, and starts anew" : ""); return;
	case S_CRASH: snprintf(out, n, "engine %c crashes and starts anew", e); return;
	case S_PAUSE: snprintf(out, n, "engine %c stops", e); return;
	case S_RESUME: snprintf(out, n, "engine %c goes on", e); return;
	case S_DOOR: snprintf(out, n, "door: %s (run %d)", x_budget_names[s.a], s.b); return;
	case S_UNPAUSE: snprintf(out, n, "door: run %d is resumed", s.a); return;
	case S_LATE: say_late(s, out, n); return;
	}
}
