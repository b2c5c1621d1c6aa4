/* machine_world.h: one machine and one run, driven by hand: each helper answers what
 * the machine asked for and demands that it did ask for it. */
#ifndef HP_TESTS_MACHINE_WORLD_H
#define HP_TESTS_MACHINE_WORLD_H

#ifndef ck_assert /* a fuzzing harness has asserts of its own */
#include <check.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "core/keys.h"
#include "core/machine.h"

#define LEASE (10 * HP_SECOND)

struct world {
	struct hp_definition def;
	struct hp_state states[8];
	struct hp_catch catches[8];
	struct hp_branch branches[4];
	struct hp_arm arms[8][3];
	char annex[HP_ARMS_JSON_MAX];
	struct hp_run run;
	struct hp_machine m;
	struct hp_action act;
	int64_t now;
	int commits;
	struct hp_transition last;
	bool gate; /* the store refuses this admission */
	char kept[128]; /* what a driver has in hand */
};

static struct world W;
static bool pause_flag; /* as a door set it: every event of the store brings it */

static inline struct hp_state *state(int i, const char *name, enum hp_kind kind)
{
	struct hp_state *s = &W.states[i];

	memset(s, 0, sizeof *s);
	s->name = name;
	s->kind = kind;
	s->next = kind == HP_SUCCEED || kind == HP_FAIL || kind == HP_CHOOSE ? HP_NO_STATE : i + 1;
	s->retry = (struct hp_retry){ 3, HP_SECOND, HP_MINUTE, 0 };
	s->timeout_us = 20 * HP_SECOND;
	s->call.signed_by = s->call.over_budget = s->approval.of = HP_NO_STATE;
	s->approval.rejected = s->approval.expired = HP_NO_STATE;
	s->sql.none = s->choose.otherwise = s->await.timeout = s->children.timeout = HP_NO_STATE;
	if (i >= W.def.n_states)
		W.def.n_states = i + 1;
	return s;
}

static inline void setup(void)
{
	memset(&W, 0, sizeof W);
	pause_flag = false;
	W.def.workflow = "test";
	W.def.states = W.states;
	W.now = 20000 * HP_DAY;
	hp_run_start(&W.run, 7, W.now);
}

/* start → call "pay" (by key) → succeed; catch card_declined → fail */
static inline struct hp_state *world_call(enum hp_repeat repeat)
{
	struct hp_state *s;

	setup();
	s = state(0, "pay", HP_CALL);
	s->call.op = (struct hp_operation){ "stripe", "refunds.create", repeat, HP_DAY, false, true, NULL, false };
	s->save = "refund";
	W.catches[0] = (struct hp_catch){ "card_declined", 2, 1 };
	s->catches = W.catches;
	s->n_catches = 1;
	state(1, "done", HP_SUCCEED);
	state(2, "closed", HP_FAIL)->fail.code = "failed";
	return s;
}

static inline void step(const struct hp_event *ev)
{
	struct hp_event e = *ev;

	e.now = W.now;
	hp_step(&W.m, &e, &W.act);
}

static inline void claim_with(struct hp_event *ev)
{
	W.run.epoch++;
	W.run.rev++;
	W.run.claims++;
	hp_machine_init(&W.m, &W.def, &W.run, LEASE);
	ev->type = HP_EV_CLAIMED;
	ev->pause = pause_flag;
	step(ev);
}

static inline void claim(void)
{
	struct hp_event ev = { 0 };

	claim_with(&ev);
}

static inline void commit_ev(bool cancel, int64_t first_sent)
{
	struct hp_event ev = { .type = HP_EV_COMMITTED, .cancel = cancel, .first_sent_at = first_sent,
			       .pause = pause_flag, .gated = W.gate };

	ck_assert_int_eq(W.act.type, HP_ACT_COMMIT);
	ck_assert_int_eq(W.act.transition->epoch, W.run.epoch);
	ck_assert_int_eq(W.act.transition->rev, W.run.rev);
	ck_assert_int_eq(W.act.transition->after.rev, W.run.rev + 1);
	ck_assert_int_le(W.act.transition->after.visit, W.run.visit + 1);
	W.last = *W.act.transition;
	if (W.last.keep.p)
		snprintf(W.kept, sizeof W.kept, "%.*s", (int)W.last.keep.n, W.last.keep.p);
	ev.kept = hp_bytes_of(W.kept);
	if (W.gate)
		hp_transition_refuse(&W.last, &W.run, 0, "breaker_open", NULL);
	W.run = W.last.after;
	W.commits++;
	step(&ev);
}

static inline void commit(void) { commit_ev(false, 0); }

static inline void value(const char *json, uint8_t hash)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .value = hp_bytes_of(json) };

	ck_assert_int_eq(W.act.type, HP_ACT_EVAL);
	ev.key = hp_bytes_of("key-1");
	memset(ev.hash, hash, sizeof ev.hash);
	step(&ev);
}

static inline void value_error(const char *code)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = false, .code = code, .message = "line 3: \"x\"" };

	step(&ev);
}

static inline void truth(bool t)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .truth = t };

	ck_assert_int_eq(W.act.type, HP_ACT_EVAL);
	ck_assert_int_eq(W.act.eval, HP_EVAL_WHEN);
	step(&ev);
}

static inline void verdict(enum hp_verdict v)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = true, .verdict = v, .value = hp_bytes_of("{}") };

	ck_assert_int_eq(W.act.eval, HP_EVAL_FOUND);
	step(&ev);
}

static inline void reply(enum hp_class c, const char *code)
{
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = c, .code = code, .message = code,
			       .retry_after_us = -1, .value = hp_bytes_of("{\"id\":\"re_1\"}") };

	ck_assert(W.act.type == HP_ACT_SEND || W.act.type == HP_ACT_SQL);
	step(&ev);
}

static inline void expect_eval(enum hp_eval e)
{
	ck_assert_int_eq(W.act.type, HP_ACT_EVAL);
	ck_assert_int_eq(W.act.eval, e);
}

static inline void admitted(void)
{
	claim();
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	commit();
	ck_assert_int_eq(W.act.type, HP_ACT_SEND);
}

static inline struct hp_state *world_approval(bool when)
{
	struct hp_state *s;

	setup();
	s = state(0, "review", HP_APPROVAL);
	s->approval.has_when = when;
	s->approval.of = 1;
	s->approval.deadline_us = 4 * HP_HOUR;
	s->approval.reminders_us[0] = HP_HOUR;
	s->approval.n_reminders = 1;
	s->approval.rejected = 3;
	s->approval.expired = 3;
	s->save = "decision";
	s = state(1, "pay", HP_CALL);
	s->call.op = (struct hp_operation){ "stripe", "refunds.create", HP_REPEAT_BY_KEY, HP_DAY, false, true, NULL, false };
	s->call.signed_by = 0;
	state(2, "done", HP_SUCCEED);
	state(3, "closed", HP_FAIL)->fail.code = "closed";
	return &W.states[0];
}

#endif
