/* engine.c: an engine around hp_step(), as runtime/worker_*.c drives it, in steps that
 * can be taken one by one: claim, write, hear of it, send, hear the reply, read again.
 *
 * Between two of them anything may happen: others write, time passes, the process stops
 * or dies. What the worker decides itself is here as it is there: a conflict or a lost
 * acknowledgement reads the row again, a request leaves in the first 60 % of the lease
 * only, a heartbeat that says "dead" ends the process.
 */
#include "explore.h"

#include <string.h>

bool x_wrote_stale;
static enum hp_mem_fate fate;

static enum hp_mem_fate decide(void *arg, const struct hp_transition *t)
{
	(void)arg;
	(void)t;
	return fate;
}

/* ---- the lease ---- */

struct heard {
	bool done, refused;
	int64_t id;
};

static void on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	HP_ASSERT(!err);
	((struct heard *)arg)->id = info->id;
}

void x_register(int e)
{
	struct heard h = { 0 };

	x_store->ops->engine_register(x_store, "host", 1, X_LEASE, on_engine, &h);
	x_store->ops->pump(x_store);
	X.engines[e] = (struct x_engine){ .id = h.id, .beat_at = X.now };
}

static void on_beat(void *arg, int64_t now, const struct hp_error *err)
{
	(void)now;
	((struct heard *)arg)->refused = err != NULL;
}

bool x_marked_dead(int e)
{
	return mem_engine_find(x_tables(), X.engines[e].id)->dead;
}

bool x_lease_good(int e)
{
	return X.now < X.engines[e].beat_at + X_LEASE * HP_LEASE_SEND_PERCENT / 100;
}

bool x_beat(int e)
{
	struct heard h = { 0 };

	x_store->ops->heartbeat(x_store, X.engines[e].id, on_beat, &h);
	x_store->ops->pump(x_store);
	if (h.refused)
		x_die(e);
	else
		X.engines[e].beat_at = X.now;
	return true;
}

/* Its requests may still land; nobody waits for them. */
void x_die(int e)
{
	for (int i = 0; i < X_HANDS; i++)
		H[e][i].at = AT_NONE;
	for (int i = 0; i < X_REQUESTS; i++) {
		struct x_request *r = &X.requests[i];

		if (!r->used || r->engine != e)
			continue;
		r->engine = -1;
		if (r->replying)
			memset(r, 0, sizeof *r);
	}
	x_register(e);
}

/* ---- a run in hand ---- */

static void drive(struct x_hand *h, const struct hp_event *first)
{
	const struct hp_event *ev = first;
	struct hp_event value;

	for (;;) {
		hp_step(&h->m, ev, &h->act);
		if (h->act.type != HP_ACT_EVAL)
			break;
		x_answer(h, &h->act, &value);
		ev = &value;
	}
	switch (h->act.type) {
	case HP_ACT_COMMIT:
		HP_ASSERT(h->act.transition == &h->m.t);
		h->at = AT_COMMIT;
		return;
	case HP_ACT_SEND:
		h->at = AT_SEND;
		return;
	case HP_ACT_SQL:
		h->at = AT_SQL;
		return;
	case HP_ACT_DROP:
		h->at = AT_NONE;
		return;
	case HP_ACT_EVAL:
		break;
	}
	HP_ASSERT(0 && "unknown action");
}

static void load(struct x_hand *h, const struct hp_claimed *c, int32_t reread)
{
	struct hp_event ev = { .type = HP_EV_CLAIMED, .now = X.now, .cancel = c->run.cancel, .pause = c->run.pause,
			       .decision = c->decision, .mail_id = c->mail_id, .mail_wait = c->mail_wait };

	h->run = c->run.id;
	h->epoch = c->run.epoch;
	h->annex = x_keep(c->annex);
	h->signed_request = x_keep(c->signed_request);
	h->signed_key = x_keep(c->signed_key);
	memcpy(h->signed_hash, c->signed_hash, sizeof h->signed_hash);
	memcpy(h->token, c->token, sizeof h->token);
	ev.annex = h->annex;
	ev.decision_value = hp_bytes_of(c->decision_value.n ? "{}" : NULL);
	ev.mail = x_keep(c->mail);
	ev.command_value = x_keep(c->command_value);
	hp_machine_init(&h->m, &x_flows[x_run(h->run)->bundle].def, &c->run, X_LEASE);
	h->m.reread = reread;
	drive(h, &ev);
}

static struct x_hand *free_hand(int e)
{
	for (int i = 0; i < X_HANDS; i++)
		if (H[e][i].at == AT_NONE)
			return &H[e][i];
	return NULL;
}

static void taken(struct x_hand *h, const struct hp_claimed *runs, int n, const struct hp_error *err, bool again)
{
	HP_ASSERT(n <= 1);
	h->at = AT_NONE;
	h->refusals = 0;
	if (!err && n == 1)
		load(h, &runs[0], again ? runs[0].run.rev : 0);
}

static void on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	(void)now;
	taken(arg, runs, n, err, false);
}

static void on_reload(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	(void)now;
	taken(arg, runs, n, err, true);
}

bool x_claim(int e)
{
	struct x_hand *h = free_hand(e);
	const struct mem_run *r;
	int64_t claims = 0;

	for (int64_t id = 1; id <= x_n_runs(); id++)
		claims += x_run(id)->row.epoch;
	x_store->ops->claim(x_store, X.engines[e].id, 1, on_claim, h);
	x_store->ops->pump(x_store);
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		r = x_run(id);
		claims -= r->row.epoch;
		if (h->at != AT_NONE && h->run == id) /* what others have heard it does not know */
			X.heard[id][r->row.visit] = 0;
	}
	return claims != 0;
}

void x_reload(int e, int hand)
{
	struct x_hand *h = &H[e][hand];

	if (x_run(h->run)->row.epoch == h->epoch)
		X.heard[h->run][x_run(h->run)->row.visit] = 0; /* it knows what the row says */
	x_store->ops->reload(x_store, X.engines[e].id, h->run, h->epoch, on_reload, h);
	x_store->ops->pump(x_store);
}

/* ---- writing ---- */

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct x_hand *h = arg;

	(void)now;
	HP_ASSERT(n == 1);
	if (!h) /* it is late */
		return;
	h->at = AT_WRITTEN;
	h->res.outcome = res->outcome;
	h->res.cancel = res->cancel;
	h->res.pause = res->pause;
	h->res.gated = res->gated[0] != 0;
	h->res.first_sent_at = res->first_sent_at;
	if (res->outcome == HP_COMMIT_UNKNOWN || res->outcome == HP_COMMIT_CONFLICT)
		h->at = AT_RELOAD;
}

static void on_rows(void *arg, int64_t now, const struct hp_sql_rows *rows)
{
	(void)now;
	*(struct hp_sql_tx **)arg = rows->tx;
}

/* The statement ran when the machine was told of its rows; nobody sees it before this. */
static void write_sql(const struct hp_transition *t, const char *token, struct x_hand *hears)
{
	struct hp_sql_state st = { .run_id = t->run_id, .epoch = t->epoch, .token = token, .mode = HP_SQL_EXEC };
	struct hp_sql_tx *tx = NULL;

	x_store->ops->sql_run(x_store, &st, on_rows, &tx);
	x_store->ops->pump(x_store);
	HP_ASSERT(tx);
	x_store->ops->sql_commit(x_store, tx, token, t, on_commit, hears);
}

static void sql_ran(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows)
{
	(void)arg;
	(void)st;
	rows->outcome = HP_CLASS_OK;
}

static int32_t sql_visit; /* of the statement that is being committed */

static void sql_ended(void *arg, int64_t run, bool committed)
{
	(void)arg;
	if (committed)
		X.ledger[run][sql_visit]++;
}

/* hears: NULL: nobody. */
void x_commit(const struct hp_transition *t, const char *token, enum hp_mem_fate how, struct x_hand *hears)
{
	const struct hp_mem_sql hook = { sql_ran, sql_ended, NULL };

	fate = how;
	sql_visit = t->from_visit;
	hp_mem_set_fate(x_store, decide, NULL);
	hp_mem_set_sql(x_store, &hook);
	if (t->in_sql)
		write_sql(t, token, hears);
	else
		x_store->ops->commit(x_store, &t, 1, on_commit, hears);
	x_store->ops->pump(x_store);
}

/* What the look tells of a row that it takes for this one. */
static void looked(struct x_hand *h)
{
	const struct mem_run *r = x_run(h->run);
	const struct hp_transition *t = &h->m.t;

	h->at = AT_WRITTEN;
	h->res.outcome = HP_COMMIT_OK;
	h->res.cancel = r->row.cancel;
	h->res.pause = r->row.pause;
	h->res.gated = false;
	h->res.first_sent_at = t->admits && t->business_key && r->row.first_sent_at != t->after.first_sent_at ? r->row.first_sent_at : 0;
}

bool x_write(int e, int hand, int how)
{
	struct x_hand *h = &H[e][hand];
	const struct hp_transition *t = &h->m.t;
	const struct mem_run *r = x_run(h->run);

	x_wrote_stale = r->row.epoch != h->epoch || r->row.rev != t->rev || hp_status_final(r->row.status);
	if (how == HP_MEM_LATE)
		x_late_put(h);
	x_commit(t, h->token, how == HP_MEM_LATE || how == X_LOOKED ? HP_MEM_FAIL : (enum hp_mem_fate)how, h);
	if (how == X_LOOKED)
		looked(h);
	return true;
}

void x_ack(int e, int hand)
{
	struct x_hand *h = &H[e][hand];
	struct hp_event ev = { .type = HP_EV_COMMITTED, .now = X.now, .cancel = h->res.cancel, .pause = h->res.pause,
			       .first_sent_at = h->res.first_sent_at, .gated = h->res.gated };
	const struct hp_transition *t = &h->m.t;

	if (h->res.outcome == HP_COMMIT_REFUSED) {
		struct hp_event no = { .type = HP_EV_VALUE, .now = X.now, .outcome = HP_NEEDS_PERSON, .code = "commit_refused" };

		if (h->refusals++ == 0)
			drive(h, &no);
		else
			x_fail("run %lld: the store refused what the engine wrote, and the hold after it", (long long)h->run);
		return;
	}
	h->refusals = 0;
	if (!h->res.gated && t->disposition == HP_KEEP && t->after.signed_visit > 0 && h->signed_request.n == 0) {
		h->at = AT_RELOAD; /* a signature that this very claim found */
		return;
	}
	drive(h, &ev);
}

/* ---- what comes back ---- */

bool x_in_time(int e, int hand)
{
	int64_t by = H[e][hand].act.leave_by;

	return by == 0 || X.now < by;
}

/* Too late to send: a new admission. */
void x_unsent(int e, int hand)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .now = X.now, .retry_after_us = -1, .unsent = true };

	drive(&H[e][hand], &ev);
}


void x_sql(int e, int hand, bool fails)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .now = X.now, .retry_after_us = -1, .value = hp_bytes_of("{\"rows\":1}") };

	if (fails) {
		ev.outcome = HP_RETRYABLE;
		ev.code = "deadlock_detected";
	}
	drive(&H[e][hand], &ev);
}

void x_hear(int e, int hand, const struct x_request *r)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .now = X.now, .retry_after_us = -1, .outcome = r->outcome,
			       .code = r->code, .message = r->code, .value = r->value, .sent_at = r->sent_at };

	drive(&H[e][hand], &ev);
}
