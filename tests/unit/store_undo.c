/* Unwinding on the machine and the in-memory store, in a world that loses replies,
 * refuses, and kills the worker anywhere.
 *
 * A random linear workflow of calls and statements runs until something of it fails for
 * good; an operator heals what is held. Whatever happened: each effect that the world
 * has seen is undone once, and in reverse. A failing seed is printed; HP_SEED=N runs it
 * alone. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "lib/suite.h"
#include "store/mem/mem.h"

#define STATES_MAX 6
#define LEASE (10 * HP_SECOND)
#define SEEDS 1500

/* ---- chance ---- */

static uint64_t seed;

static unsigned chance(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(seed >> 33) % n;
}

/* ---- the world: what has happened, by key ---- */

struct deed {
	char key[64]; /* "do:s1:2", "undo:s1:2" */
};
static struct deed deeds[200];
static int n_deeds;
static char unrenderable[20][64];
static int n_unrenderable;
static unsigned trouble; /* in 100: how often an attempt does not simply succeed */

static bool happened(const char *key)
{
	for (int i = 0; i < n_deeds; i++)
		if (strcmp(deeds[i].key, key) == 0)
			return true;
	return false;
}

static void happen(const char *key)
{
	if (happened(key))
		return; /* the provider honours the key */
	ck_assert_int_lt(n_deeds, 200);
	snprintf(deeds[n_deeds++].key, sizeof deeds[0].key, "%s", key);
}

/* ---- the workflow ---- */

static struct hp_state states[2 * STATES_MAX + 2];
static char names[2 * STATES_MAX + 2][20];
static struct hp_definition def;

static void make_state(int i, bool probe)
{
	struct hp_state *s = &states[i];

	s->kind = chance(3) ? HP_CALL : HP_SQL;
	s->name = names[i];
	s->timeout_us = 5 * HP_SECOND;
	s->retry = (struct hp_retry){ 1 + (int)chance(3), HP_SECOND, HP_SECOND, 0 };
	s->sql.mode = HP_SQL_EXEC;
	s->sql.none = HP_NO_STATE;
	s->call.op = (struct hp_operation){ .connector = "w", .name = names[i], .window_us = HP_DAY,
					   .repeat = chance(4) ? HP_REPEAT_BY_KEY : HP_REPEAT_NEVER };
	s->call.has_probe = probe;
	s->call.signed_by = HP_NO_STATE;
	s->next = HP_NO_STATE;
}

static void make_workflow(void)
{
	static struct hp_catch to_end;
	int n = 1 + (int)chance(STATES_MAX - 1);

	memset(states, 0, sizeof states);
	memset(&def, 0, sizeof def);
	def.workflow = "flow";
	def.cancel_undoes = chance(2);
	def.states = states;
	def.n_states = n + 1;
	for (int i = 0; i < n; i++) {
		snprintf(names[i], sizeof names[i], "s%d", i);
		make_state(i, chance(2));
		states[i].next = i + 1;
		to_end = (struct hp_catch){ "refused", n, 1 };
		if (chance(2)) {
			states[i].catches = &to_end;
			states[i].n_catches = 1;
		}
		if (chance(8) == 0)
			continue;
		states[i].has_undo = true;
		if (chance(6) == 0)
			continue; /* a text */
		states[i].undo = def.n_states + def.n_undos++;
		snprintf(names[states[i].undo], sizeof names[0], "s%d.undo", i);
		make_state(states[i].undo, chance(2));
		states[states[i].undo].undoes = i;
	}
	snprintf(names[n], sizeof names[n], "end");
	states[n] = (struct hp_state){ .kind = HP_FAIL, .name = names[n], .next = HP_NO_STATE,
				       .fail = { .code = "no_trip", .undo = true } };
}

/* ---- the store, synchronously ---- */

static int64_t now, engine, run_id;
static struct hp_store *s;
static struct hp_claimed claimed;
static bool has_claimed, alive;
static char annex[16384], command_value[64];
static struct hp_commit_result committed;
static struct hp_event rows_event;
static struct hp_sql_tx *tx;
static char statement[64]; /* of the open transaction */
static enum hp_code door_code;
static bool ordered;      /* to undo, and the order stands */
static char answered[64]; /* the effect of which a person has said whether it happened */

static void on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	(void)arg;
	ck_assert_ptr_null(err);
	engine = info->id;
}

static void on_ack(void *arg, int64_t at, const struct hp_error *err)
{
	(void)arg;
	(void)at;
	ck_assert_ptr_null(err);
}

static void on_start(void *arg, int64_t at, const struct hp_start_result *res, const struct hp_error *err)
{
	(void)arg;
	(void)at;
	ck_assert_ptr_null(err);
	run_id = res->run_id;
}

static void on_claim(void *arg, int64_t at, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	(void)arg;
	(void)at;
	ck_assert_ptr_null(err);
	has_claimed = n == 1;
	if (!has_claimed)
		return;
	claimed = runs[0];
	ck_assert_uint_lt(claimed.annex.n, sizeof annex);
	if (claimed.annex.n)
		memcpy(annex, claimed.annex.p, claimed.annex.n);
	claimed.annex.p = annex;
	snprintf(command_value, sizeof command_value, "%.*s", (int)claimed.command_value.n,
		 claimed.command_value.n ? claimed.command_value.p : "");
	claimed.command_value.p = command_value;
}

static void on_commit(void *arg, int64_t at, const struct hp_commit_result *res, int n)
{
	(void)arg;
	(void)at;
	(void)n;
	committed = res[0];
	if (res[0].error)
		printf("%s\n", res[0].error->message);
}

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	(void)arg;
	(void)json;
	door_code = err ? err->code : HP_OK;
}

/* The world's database: what a statement says happens when its transaction commits. */
static void sql_run(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows)
{
	(void)arg;
	snprintf(statement, sizeof statement, "%.*s", (int)st->args.n - 4, st->args.p + 2); /* ["…"] */
	rows->outcome = HP_CLASS_OK;
	rows->rows = hp_bytes_of("{\"rows\":1}");
	if (chance(100) < trouble) {
		rows->outcome = chance(2) ? HP_RETRYABLE : HP_TERMINAL;
		rows->code = "refused";
	}
}

static void sql_end(void *arg, int64_t run, bool done)
{
	(void)arg;
	(void)run;
	if (done)
		happen(statement);
}

static void begin_world(void)
{
	const struct hp_mem_sql sql = { sql_run, sql_end, NULL };
	struct hp_bundle b = { .workflow = "flow", .bundle = hp_bytes_of("{}") };
	struct hp_start st = { .workflow = "flow", .input = hp_bytes_of("{}"), .requester = "t" };
	struct hp_error err = { 0 };
	struct hp_buf summary;

	hp_buf_init(&summary, 4096);
	for (int i = 0; i < def.n_states + def.n_undos; i++)
		hp_buf_printf(&summary, "%s{\"name\":\"%s\"%s}", i ? "," : "{\"states\":[", states[i].name,
			      states[i].call.has_probe ? ",\"probe\":\"w.look\"" : "");
	hp_buf_adds(&summary, "]}");
	b.summary = hp_buf_bytes(&summary);
	n_deeds = n_unrenderable = 0;
	ordered = false;
	answered[0] = 0;
	tx = NULL;
	now = HP_DAY;
	s = hp_store_mem_new(&now, &err);
	ck_assert_msg(s != NULL, "%s", err.message);
	hp_mem_set_sql(s, &sql);
	s->ops->deploy(s, &b, on_ack, NULL);
	s->ops->engine_register(s, "h", 1, LEASE, on_engine, NULL);
	s->ops->start(s, 0, &st, on_start, NULL);
	s->ops->pump(s);
	hp_buf_free(&summary);
}

/* ---- values ---- */

/* Values live until the commit after next: buffers take turns. */
static char texts[16][256], keys[16][64], *text, *key, probe_key[64];
static unsigned turn;

static void main_key(char *out, const char *what, int state, int32_t visit)
{
	snprintf(out, 64, "%s:s%d:%d", what, state, (int)visit);
}

static const json_t *kept(json_t **all)
{
	*all = hp_json_parse(claimed.annex.p, claimed.annex.n, "annex", NULL);
	return json_object_get(json_object_get(*all, "undo"), "next");
}

/* What an undo does, as its entry says. */
static void kept_key(char *out)
{
	json_t *all;
	const json_t *next = kept(&all);

	ck_assert_ptr_nonnull(next);
	snprintf(out, 64, "%s", hp_json_str(next, "key"));
	json_decref(all);
}

static void undo_value(const struct hp_action *act, struct hp_event *ev)
{
	const struct hp_state *st = &states[act->state];
	int32_t visit = act->pending->after.visit;

	main_key(key, "undo", act->state, visit);
	for (int i = 0; i < n_unrenderable; i++)
		if (strcmp(unrenderable[i], key) == 0)
			unrenderable[i][0] = 0; /* before that was durable, the worker died */
	if (st->undo && chance(20) == 0) {
		ev->ok = false;
		ev->code = "script_error";
		ev->message = "no \"value\"";
		snprintf(unrenderable[n_unrenderable++], 64, "%s", key);
	} else if (st->undo) {
		snprintf(text, sizeof texts[0], "{\"add\":{\"state\":%d,\"key\":\"%s\"}}", st->undo, key);
	} else {
		snprintf(text, sizeof texts[0], "{\"add\":{\"text\":\"never\"}}");
	}
	ev->value = hp_bytes_of(text);
}

static void value(const struct hp_action *act, struct hp_event *ev)
{
	bool undo = act->state >= def.n_states;

	text = texts[++turn % 16];
	key = keys[turn % 16];
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_VALUE;
	ev->ok = true;
	ev->now = now;
	ev->retry_after_us = -1;
	if (act->eval == HP_EVAL_UNDO) {
		undo_value(act, ev);
		return;
	}
	if (act->eval == HP_EVAL_FOUND) {
		ev->verdict = happened(probe_key) ? HP_VERDICT_FOUND : HP_VERDICT_ABSENT;
		return;
	}
	if (act->eval == HP_EVAL_RESULT)
		return;
	if (undo)
		kept_key(key);
	else
		main_key(key, "do", act->state, act->pending->after.visit);
	if (act->eval == HP_EVAL_PROBE)
		memcpy(probe_key, key, sizeof probe_key);
	snprintf(text, sizeof texts[0], act->eval == HP_EVAL_ARGS ? "[\"%s\"]" : "request %s", key);
	ev->value = hp_bytes_of(text);
	ev->key = hp_bytes_of(key);
	hp_sha256(text, strlen(text), ev->hash);
}

static void reply(const struct hp_action *act, struct hp_event *ev)
{
	unsigned luck = chance(100);
	char k[64];

	snprintf(k, sizeof k, "%.*s", (int)act->key.n, act->key.n ? act->key.p : "");
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_REPLY;
	ev->now = now;
	ev->retry_after_us = -1;
	ev->outcome = HP_CLASS_OK;
	ev->value = hp_bytes_of("{}");
	if (act->probe) {
		if (luck < trouble / 2) {
			ev->outcome = HP_RETRYABLE;
			ev->code = "busy";
		}
		return;
	}
	ck_assert_msg(!happened(k) || states[act->state].call.op.repeat != HP_REPEAT_NEVER,
		      "%s was done, must not be repeated, and was sent again", k);
	if (luck >= trouble || happened(k)) {
		happen(k);
		if (luck < trouble / 4)
			ev->outcome = HP_AMBIGUOUS;
		return;
	}
	ev->code = "refused";
	ev->outcome = luck % 4 == 0 ? HP_TERMINAL : luck % 4 == 1 ? HP_RETRYABLE : HP_AMBIGUOUS;
	if (luck % 4 == 2)
		happen(k); /* and the answer was lost */
}

static bool kept_in(char list[][64], int n, const char *k)
{
	for (int i = 0; i < n; i++)
		if (strcmp(list[i], k) == 0)
			return true;
	return false;
}

/* Has it an undo that could be carried out? */
static bool undoable(const char *deed)
{
	int i = deed[4] - '0'; /* "do:sN:…" */
	char k[64];

	snprintf(k, sizeof k, "un%.60s", deed);
	return states[i].undo && !kept_in(unrenderable, n_unrenderable, k);
}

/* ---- driving ---- */

static bool crashes(void)
{
	if (chance(14) != 0)
		return false;
	alive = false;
	return true;
}

static void die(void)
{
	hp_mem_drop_answers(s); /* and what was open is rolled back */
	tx = NULL;
	now += 2 * LEASE;
	s->ops->engine_register(s, "h", 1, LEASE, on_engine, NULL);
	s->ops->pump(s);
	s->ops->heartbeat(s, engine, on_ack, NULL);
	s->ops->pump(s);
}

static void on_rows(void *arg, int64_t at, const struct hp_sql_rows *rows)
{
	(void)arg;
	(void)at;
	tx = rows->tx;
	rows_event = (struct hp_event){ .type = HP_EV_REPLY, .now = now, .outcome = rows->outcome, .code = rows->code,
					.value = rows->rows, .retry_after_us = -1 };
}

static bool commit(const struct hp_transition *t, struct hp_event *ev)
{
	struct hp_sql_tx *open = tx;

	if (crashes())
		return false;
	tx = NULL;
	if (t->in_sql) {
		s->ops->sql_commit(s, open, claimed.token, t, on_commit, NULL);
	} else {
		if (open)
			s->ops->sql_abort(s, open);
		s->ops->commit(s, &t, 1, on_commit, NULL);
	}
	s->ops->pump(s);
	if (crashes())
		return false;
	ck_assert_int_eq(committed.outcome, HP_COMMIT_OK);
	*ev = (struct hp_event){ .type = HP_EV_COMMITTED, .now = now, .cancel = committed.cancel };
	return true;
}

static void drive(void)
{
	struct hp_sql_state q = { .run_id = run_id, .epoch = claimed.run.epoch, .token = claimed.token };
	struct hp_event ev = { .type = HP_EV_CLAIMED, .now = now, .cancel = claimed.run.cancel,
			       .command_value = claimed.command_value, .annex = claimed.annex };
	struct hp_machine m;
	struct hp_action act;

	hp_machine_init(&m, &def, &claimed.run, LEASE);
	for (alive = true; alive;) {
		hp_step(&m, &ev, &act);
		switch (act.type) {
		case HP_ACT_DROP:
			return;
		case HP_ACT_EVAL:
			value(&act, &ev);
			break;
		case HP_ACT_COMMIT:
			(void)commit(act.transition, &ev);
			break;
		case HP_ACT_SEND:
			if (crashes())
				break;
			reply(&act, &ev);
			(void)crashes();
			break;
		case HP_ACT_SQL:
			q.args = act.value;
			s->ops->sql_run(s, &q, on_rows, NULL);
			s->ops->pump(s);
			(void)crashes();
			ev = rows_event;
			break;
		}
	}
	die();
}

static enum hp_code order(const char *action, const char *more)
{
	char args[200];

	snprintf(args, sizeof args, "{\"run\":%lld,\"action\":\"%s\",\"reason\":\"r\"%s}", (long long)run_id, action, more);
	s->ops->door(s, "operate", "op", hp_bytes_of(args), on_door, NULL);
	s->ops->pump(s);
	return door_code;
}

static void operate(const char *action, const char *more)
{
	ck_assert_int_eq(order(action, more), HP_OK);
}

static struct hp_run row; /* as the door `run` knows it */
static char next_deed[64]; /* the effect that is to be undone next */

static void on_reload(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	json_t *doc = hp_json_parse(json.p, json.n, "run", NULL), *r = json_object_get(doc, "run");
	const char *status = hp_json_str(r, "status"), *phase = hp_json_str(r, "phase"), *code = hp_json_str(r, "code");
	const json_t *e;
	size_t i;

	(void)arg;
	ck_assert_ptr_null(err);
	memset(&row, 0, sizeof row);
	while (strcmp(hp_status_name(row.status), status) != 0)
		row.status++;
	row.phase = strcmp(phase, "undoing") == 0 ? HP_PH_UNDOING : HP_PH_ENTER;
	row.due_at = hp_json_str(r, "due_at") != NULL;
	snprintf(row.code, sizeof row.code, "%s", code ? code : "");
	row.state = 0;
	while (strcmp(states[row.state].name, hp_json_str(r, "state")) != 0)
		row.state++;
	row.visit = (int32_t)hp_json_int(r, "visit", 0);
	json_array_foreach(json_object_get(json_object_get(doc, "undo"), "log"), i, e)
		if (strcmp(hp_json_str(e, "status"), "open") == 0)
			snprintf(next_deed, sizeof next_deed, "do:%.20s:%d", hp_json_str(e, "state"),
				 (int)hp_json_int(e, "visit", 0));
	json_decref(doc);
}

static void look(void)
{
	char args[64];

	snprintf(args, sizeof args, "{\"run\":%lld}", (long long)run_id);
	s->ops->door(s, "run", "op", hp_bytes_of(args), on_reload, NULL);
	s->ops->pump(s);
}

/* A person who looks at the world before saying anything. */
static void heal(void)
{
	char k[64];

	if (row.phase == HP_PH_UNDOING || row.state >= def.n_states) {
		bool doubt = row.phase == HP_PH_UNDOING && strcmp(row.code, "in_doubt") == 0;
		bool asks = doubt || strcmp(row.code, "left_undone") == 0 || strcmp(row.code, "script_error") == 0;

		ck_assert_msg(!doubt || strcmp(next_deed, answered) != 0, "%s: asked again", answered);
		if (doubt && happened(next_deed) && undoable(next_deed)) {
			snprintf(k, sizeof k, "un%.60s", next_deed);
			happen(k); /* by hand */
		}
		snprintf(k, sizeof k, "un%.60s", next_deed);
		operate(asks || happened(k) ? "skip" : "retry", "");
		return;
	}
	main_key(k, "do", row.state, row.visit);
	ordered = false;
	if (chance(3) == 0 && !happened(k)) {
		operate("retry", "");
		return;
	}
	ordered = true;
	if (order("undo", "") != HP_OK) { /* it is in doubt, and nothing can look: we can */
		ck_assert_int_eq(door_code, HP_E_CONFLICT);
		operate("undo", happened(k) ? ",\"happened\":true" : ",\"happened\":false");
		memcpy(answered, k, sizeof answered);
	}
}

static void cancel(void)
{
	char args[64];

	snprintf(args, sizeof args, "{\"run\":%lld,\"reason\":\"r\"}", (long long)run_id);
	s->ops->door(s, "cancel", "op", hp_bytes_of(args), on_door, NULL);
	s->ops->pump(s);
}

static void live(void)
{
	for (int i = 0; i < 3000; i++) {
		if (chance(40) == 0)
			cancel();
		s->ops->heartbeat(s, engine, on_ack, NULL);
		s->ops->claim(s, engine, 1, on_claim, NULL);
		s->ops->pump(s);
		if (has_claimed) {
			drive();
			continue;
		}
		look();
		if (hp_status_final(row.status))
			return;
		if (row.status == HP_HELD)
			heal();
		else
			now += HP_SECOND; /* a backoff, a probe */
	}
	ck_abort_msg("the run never ended");
}

/* ---- what must be true ---- */

static void tell(void)
{
	for (int i = 0; getenv("HP_VERBOSE") && i < n_deeds; i++)
		fprintf(stderr, "  %s\n", deeds[i].key);
}

/* A cancel that undoes nothing ended it before anything else turned it round. */
static void check_left(void)
{
	for (int i = 0; i < n_deeds; i++)
		ck_assert_msg(strncmp(deeds[i].key, "do:", 3) == 0, "%s, and the run was simply cancelled", deeds[i].key);
}

static void check_story(void)
{
	int at = n_deeds, undone = 0, done = 0;

	for (int i = n_deeds - 1; i >= 0; i--)
		undone += strncmp(deeds[i].key, "undo:", 5) == 0;
	at = n_deeds - undone; /* they are all at the end … */
	for (int i = at - 1; i >= 0; i--) {
		char k[64];

		ck_assert_msg(strncmp(deeds[i].key, "do:", 3) == 0, "%s was done after something was undone", deeds[i].key);
		if (!undoable(deeds[i].key))
			continue;
		snprintf(k, sizeof k, "un%.60s", deeds[i].key);
		ck_assert_msg(at + done < n_deeds && strcmp(deeds[at + done].key, k) == 0, "%s: undone next is %s", k,
			      at + done < n_deeds ? deeds[at + done].key : "nothing"); /* … and in reverse */
		done++;
	}
	ck_assert_msg(done == undone, "%d were undone, %d were to be", undone, done);
}

static void one_story(uint64_t number)
{
	seed = number * UINT64_C(0x9E3779B97F4A7C15) + 1;
	chance(2);
	trouble = 10 + chance(50);
	make_workflow();
	begin_world();
	live();
	tell();
	ck_assert_int_ne(row.status, HP_SUCCEEDED);
	if (row.status == HP_CANCELLED && !def.cancel_undoes && !ordered)
		check_left();
	else
		check_story();
	s->ops->free(s);
}

START_TEST(each_effect_is_undone_once_and_in_reverse)
{
	const char *only = getenv("HP_SEED");

	for (uint64_t n = only ? strtoull(only, NULL, 10) : 1; n <= (only ? strtoull(only, NULL, 10) : SEEDS); n++) {
		printf("HP_SEED=%llu\n", (unsigned long long)n); /* the last one is the one that failed */
		one_story(n);
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("stories");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, each_effect_is_undone_once_and_in_reverse);
	return hp_run_case("store undo", t);
}
