/* ops.c: the operations of engines: registering, claiming, writing, giving back. The time
 * moves here, too. */
#include "diff.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct d_told d_told;
static int64_t engines[D_ENGINES];
static int n_engines;
static uint64_t chance;

void d_seed(uint64_t seed)
{
	chance = (seed + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
	chance ^= chance >> 29;
	chance |= 1;
}

uint32_t d_rnd(uint32_t n)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (uint32_t)(chance >> 11) % n;
}

void d_say(const char *op, const char *fmt, ...)
{
	va_list ap;

	d_told.op = op;
	va_start(ap, fmt);
	vsnprintf(d_told.words, sizeof d_told.words, fmt, ap);
	va_end(ap);
}

/* ---- engines ---- */

int64_t d_engine(void)
{
	return n_engines ? engines[d_rnd((uint32_t)n_engines)] : 1;
}

void d_add_engine(int64_t id)
{
	if (n_engines == D_ENGINES) {
		memmove(engines, engines + 1, sizeof engines - sizeof *engines);
		n_engines--;
	}
	engines[n_engines++] = id;
}

void d_forget_engines(void)
{
	n_engines = 0;
}

static void op_register(void)
{
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->engine_register(d_store(i), "host", 1, D_LEASE, d_on_engine, d_begin(i));
		d_await(i);
	}
	d_add_engine(hp_json_int(d_answers[D_PG].v, "id", 0));
	d_say("register", "engine %lld is registered", (long long)engines[n_engines - 1]);
}

/* Upkeep of limits goes on beside: a door on its connection waits for it. */
static void op_heartbeat(void)
{
	int64_t engine = d_chance(90) ? d_engine() : 99;

	d_door("secrets_live", "engine", "{\"serial\":0}");
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->heartbeat(d_store(i), engine, d_on_ack, d_begin(i));
		d_await(i);
		if (strcmp(d_outcome(), "ok") != 0) /* the time comes with what is alive */
			json_object_del(d_answers[i].v, "now");
	}
	d_say("heartbeat", "heartbeat of engine %lld", (long long)engine);
}

static void op_stop(void)
{
	int64_t engine = d_chance(90) ? d_engine() : 99;

	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->engine_stop(d_store(i), engine, d_on_ack, d_begin(i));
		d_await(i);
	}
	d_say("engine_stop", "engine %lld stops", (long long)engine);
}

static void op_claim(void)
{
	int64_t engine = d_chance(97) ? d_engine() : 99;
	int max = 1 + (int)d_rnd(4);

	d_claimer = engine;
	for (int i = 0; i < 2; i++) {
		struct d_answer *a = d_begin(i);

		a->claimed = d_keep_claimed;
		d_store(i)->ops->claim(d_store(i), engine, max, d_on_claim, a);
		d_await(i);
	}
	if (strcmp(d_outcome(), "ok") == 0 && json_array_size(json_object_get(d_answers[D_PG].v, "runs")) == 0)
		for (int i = 0; i < 2; i++)
			if (json_array_size(json_object_get(d_answers[i].v, "runs")) == 0)
				json_object_set_new(d_answers[i].v, "outcome", json_string("nothing"));
	d_say("claim", "engine %lld claims up to %d", (long long)engine, max);
}

static void read_again(int64_t engine, int64_t run, int32_t epoch)
{
	d_claimer = engine;
	for (int i = 0; i < 2; i++) {
		struct d_answer *a = d_begin(i);

		a->claimed = d_keep_claimed;
		d_store(i)->ops->reload(d_store(i), engine, run, epoch, d_on_claim, a);
		d_await(i);
		if (json_array_size(json_object_get(a->v, "runs")) == 0)
			json_object_set_new(a->v, "outcome", json_string("nothing"));
	}
	d_say("reload", "engine %lld reads run %lld of epoch %d again", (long long)engine, (long long)run, (int)epoch);
}

static void op_reload(void)
{
	struct d_hand *h = d_hand_any(true);
	int64_t engine;

	if (!h)
		h = d_hand_any(false);
	if (!h) {
		read_again(d_engine(), 1 + d_rnd(9), 1);
		return;
	}
	engine = d_chance(90) ? h->engine : d_engine();
	read_again(engine, h->c.run.id, h->c.run.epoch);
	if (strcmp(d_outcome(), "nothing") == 0)
		d_hand_drop(h);
	else
		d_hand_begin(h);
}

static void op_release(void)
{
	struct d_hand *h = d_hand_any(d_chance(30));
	int64_t engine = h && d_chance(85) ? h->engine : d_engine(), run = h ? h->c.run.id : 1 + d_rnd(9);
	int32_t epoch = h ? h->c.run.epoch : 1;

	if (d_chance(10))
		epoch--;
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->release(d_store(i), engine, &run, &epoch, 1, d_on_ack, d_begin(i));
		d_await(i);
	}
	d_say("release", "engine %lld gives back run %lld of epoch %d", (long long)engine, (long long)run, (int)epoch);
	if (h && d_chance(70)) /* else it does not know that it has lost it */
		d_hand_drop(h);
}

/* ---- what the machine wants ---- */

static const char *word_of(const struct hp_transition *t, char *buf, size_t n)
{
	snprintf(buf, n, "run %lld epoch %d rev %d: %s state %d → %d, visit %d, phase %d, status %s%s%s", (long long)t->run_id, (int)t->epoch,
		 (int)t->rev, hp_move_name(t->move), (int)t->from_state, (int)t->after.state, (int)t->after.visit, (int)t->after.phase,
		 hp_status_name(t->after.status), t->admits ? ", admits" : "", t->quiet ? ", quiet" : "");
	for (int i = 0; i < t->n_annexes; i++) {
		size_t at = strlen(buf);

		snprintf(buf + at, n - at, ", %s %.*s", t->annexes[i].kind, (int)(t->annexes[i].doc.n > 160 ? 160 : t->annexes[i].doc.n),
			 t->annexes[i].doc.p);
	}
	return buf;
}

static const char *op_of(const struct hp_transition *t)
{
	static char name[48];

	snprintf(name, sizeof name, "commit %s", hp_move_name(t->move));
	return name;
}

static void statement(struct d_hand *h)
{
	struct hp_sql_page page;
	struct hp_sql_state st = hp_sql_state_of(&h->m, &h->act, h->token[D_PG], &page);
	struct hp_event ev;
	int open = 0;

	/* Who had the run before may not keep this one waiting, nor may those that have all the connections. */
	for (int i = 0; i < D_HANDS; i++) {
		if (&d_hands[i] == h || !d_hands[i].used)
			continue;
		if (d_hands[i].c.run.id == h->c.run.id || (d_hands[i].tx[D_PG] && ++open == HP_SQL_STATE_CONNECTIONS))
			d_hand_abort(&d_hands[i]);
	}
	d_sql_run(&st);
	for (int i = 0; i < 2; i++)
		h->tx[i] = d_answers[i].tx;
	d_say("sql_run", "run %lld runs the statement of state %d", (long long)h->c.run.id, (int)h->act.state);
	ev = d_answers[D_PG].reply;
	d_hand_reply(h, &ev);
}

/* With its statement, when that is still open. */
static void commit_in_sql(struct d_hand *h)
{
	const struct hp_transition *t = h->act.transition;
	bool bad = d_chance(4) && !d_stale(t);
	char buf[900];

	for (int i = 0; i < 2; i++) {
		struct hp_sql_tx *tx = h->tx[i];

		h->tx[i] = NULL;
		d_store(i)->ops->sql_commit(d_store(i), tx, bad ? "0123" : h->token[i], t, d_on_commit, d_begin(i));
		d_await(i);
	}
	d_say(bad ? "sql_commit, bad token" : "sql_commit", "%s", word_of(t, buf, sizeof buf));
}

static void op_commit(struct d_hand *h)
{
	const struct hp_transition *t = h->act.transition;
	struct hp_commit_result res;
	char buf[900];

	if (t->in_sql && h->tx[D_PG]) {
		commit_in_sql(h);
	} else {
		d_say(op_of(t), "%s", word_of(t, buf, sizeof buf));
		d_hand_abort(h);
		for (int i = 0; i < 2; i++) {
			d_store(i)->ops->commit(d_store(i), &t, 1, d_on_commit, d_begin(i));
			d_await(i);
		}
	}
	res = d_answers[D_PG].committed;
	d_hand_committed(h, &res);
}

/* Several runs that moved in one turn of the loop: one transaction. */
static bool op_batch(void)
{
	struct d_hand *of[3];
	const struct hp_transition *t[3];
	struct d_answer a[2];
	int n = 0;

	for (int i = 0; i < D_HANDS && n < 3; i++) {
		struct d_hand *h = &d_hands[i];

		if (!h->used || h->lost || h->act.type != HP_ACT_COMMIT || h->tx[D_PG])
			continue;
		of[n] = h;
		t[n++] = h->act.transition;
	}
	if (n < 2)
		return false;
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->commit(d_store(i), t, n, d_on_commit, d_begin(i));
		d_await(i);
		a[i] = d_answers[i];
	}
	d_say("commit, several", "runs %lld, %lld%s in one", (long long)t[0]->run_id, (long long)t[1]->run_id, n > 2 ? " and another" : "");
	for (int i = 0; i < n; i++) { /* what became of each: from the JSON */
		const json_t *r = json_array_get(json_object_get(a[D_PG].v, "results"), (size_t)i);
		const char *word = hp_json_str(r, "outcome");
		struct hp_commit_result res = { .cancel = hp_json_bool(r, "cancel", 0) != 0, .pause = hp_json_bool(r, "pause", 0) != 0,
						.first_sent_at = hp_json_int(r, "first_sent_at", 0) };

		res.outcome = strcmp(word, "ok") == 0 ? HP_COMMIT_OK : strcmp(word, "refused") == 0 ? HP_COMMIT_REFUSED : HP_COMMIT_CONFLICT;
		snprintf(res.gated, sizeof res.gated, "%s", hp_json_str(r, "gated"));
		d_hand_committed(of[i], &res);
	}
	return true;
}

/* One of those in hand goes on. */
static void op_step(void)
{
	struct d_hand *h = d_hand_any(false);

	if (!h) {
		op_claim();
		return;
	}
	if (h->act.type == 0)
		d_hand_begin(h);
	if (!h->used) /* it had nothing to do */
		op_claim();
	else if (h->act.type == HP_ACT_SQL)
		statement(h);
	else
		op_commit(h);
}

/* ---- time ---- */

static int64_t next_wake(void)
{
	int64_t best = INT64_MAX;

	for (size_t i = 0; i < d_rows("run_state"); i++) {
		int64_t at = hp_json_int(d_row("run_state", i), "wakes_at", INT64_MAX);

		if (at > d_now && at < best)
			best = at;
	}
	return best;
}

static void op_time(void)
{
	static const int64_t steps[] = { 1, HP_MSEC, HP_SECOND, HP_SECOND, 5 * HP_SECOND, 5 * HP_SECOND, D_LEASE + 1, 31 * HP_SECOND, HP_MINUTE, HP_HOUR };
	int64_t to = d_now + steps[d_rnd(10)], wake = next_wake();

	if (wake < INT64_MAX && d_chance(50))
		to = wake - (int64_t)d_rnd(2);
	else if (d_chance(1))
		to = d_now + 31 * HP_DAY;
	for (int i = 0; i < 2; i++)
		d_on_ack(d_begin(i), 0, NULL);
	d_say("time", "%.6f s pass", (double)(to - d_now) / 1e6);
	d_set_now(to > d_now ? to : d_now + 1);
}

static void op_deploy(void)
{
	d_deploy(&d_flows[d_rnd((uint32_t)d_n_flows)]);
}

void d_deploy(const struct d_flow *f)
{
	struct hp_bundle b = { .workflow = f->name, .bundle = hp_buf_bytes(&f->bundle), .summary = hp_buf_bytes(&f->summary) };

	memcpy(b.digest, hp_workflow_definition(f->w)->digest, sizeof b.digest);
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->deploy(d_store(i), &b, d_on_ack, d_begin(i));
		d_await(i);
		json_object_del(d_answers[i].v, "now");
	}
	d_say("deploy", "%s is deployed as it was drawn the %ld. time", f->name, (long)(f - d_flows));
}

void d_operate(uint64_t seed)
{
	uint32_t x;

	d_seed(seed);
	x = d_rnd(1000);
	if (x < 330)
		op_step();
	else if (x < 370 && op_batch())
		return;
	else if (x < 470)
		op_claim();
	else if (x < 560)
		op_time();
	else if (x < 590)
		op_reload();
	else if (x < 605)
		op_release();
	else if (x < 635)
		op_heartbeat();
	else if (x < 640)
		op_stop();
	else if (x < 655)
		op_register();
	else if (x < 665)
		op_deploy();
	else if (x < 720)
		d_wrong_op();
	else if (x < 930)
		d_door_op();
	else
		d_feature_op();
}
