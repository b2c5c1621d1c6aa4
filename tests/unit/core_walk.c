/* core_walk.c: the machine, driven at random.
 *
 * Generated definitions with random outcomes, crashes, early wakes and cancels; invariants
 * are checked over every transition. The seed is printed and can be given again in HP_SEED.
 */
#include "base/json.h"
#include "lib/suite.h"
#include "machine_world.h"

static uint64_t seed;
static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 11) % n;
}

struct sent {
	int32_t visit;
	uint8_t hash;
};

static void walk_arms(struct hp_state *s, int n)
{
	bool waits = s->kind == HP_APPROVAL || s->kind == HP_WAIT || s->kind == HP_AWAIT;
	int count = waits ? (int)rnd(4) : 0;

	s->arms = W.arms[s - W.states];
	for (int i = 0; i < count; i++) {
		static const char *const names[] = { "a", "b", "c" };
		struct hp_arm *arm = &s->arms[s->n_arms++];

		*arm = (struct hp_arm){ .name = names[i], .kind = (enum hp_arm_kind)(1 + rnd(3)), .event = "e",
					.next = (int)rnd((uint32_t)n + 1), .save = rnd(2) ? "y" : NULL,
					.after_us = rnd(2) ? (int64_t)rnd(5000) * HP_SECOND : 0,
					.every_us = (1 + (int64_t)rnd(100)) * HP_SECOND, .timeout_us = HP_SECOND,
					.op = { "look", "up", HP_REPEAT_BY_NATURE, 0, true, false },
					.failures = (int)rnd(3), .failed = rnd(2) ? n : HP_NO_STATE };
	}
}

/* What a store would say of the mailboxes the state looks into. */
static void walk_mail(struct hp_event *ev)
{
	const struct hp_state *s = &W.states[W.run.state];
	int boxes = hp_state_events(s);

	for (int i = 0; i < s->n_arms; i++)
		boxes += s->arms[i].kind == HP_ARM_EVENT;
	if (boxes > 0 && rnd(3) == 0) {
		ev->mail_id = 1;
		ev->mail_wait = (int32_t)rnd((uint32_t)boxes);
	}
	ev->annex = hp_bytes_of(W.annex);
}

/* … and of what it was given to keep. */
static void walk_keep(const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++) {
		json_t *doc = hp_json_parse(t->annexes[i].doc.p, t->annexes[i].doc.n, "annex", NULL);

		ck_assert_ptr_nonnull(doc);
		ck_assert(json_object_get(doc, "over") ||
			  (i == t->n_annexes - 1 && t->after.phase == HP_PH_OPEN && t->after.status == HP_WAITING));
		json_decref(doc);
		snprintf(W.annex, sizeof W.annex, "{\"arms\":%.*s}", (int)t->annexes[i].doc.n, t->annexes[i].doc.p);
	}
	ck_assert_int_le(t->n_annexes, 2); /* one state is left, another is waited in */
	if (t->quiet) { /* nothing but the time of waking may change without a trace */
		ck_assert_int_eq(t->disposition, HP_PARK);
		ck_assert_int_eq(t->after.visit, W.run.visit);
		ck_assert_int_eq(t->after.phase, HP_PH_OPEN);
		ck_assert_int_eq(t->after.status, HP_WAITING);
		ck_assert_int_eq(t->n_saves, 0);
		ck_assert(!t->result.n && t->consume_mail == 0);
	}
}

static void walk_definition(int n)
{
	for (int i = 0; i < n; i++) {
		struct hp_state *s = state(i, "s", (enum hp_kind)(1 + rnd(6)));

		s->has_set = rnd(4) == 0;
		s->next = (int)rnd((uint32_t)n + 1);
		s->save = rnd(2) ? "x" : NULL;
		s->call.op.repeat = (enum hp_repeat)rnd(3);
		s->call.op.window_us = HP_HOUR;
		s->call.has_probe = rnd(2);
		s->call.has_key = rnd(2);
		s->approval.deadline_us = HP_HOUR;
		s->approval.has_when = rnd(2);
		s->approval.rejected = rnd(2) ? n : HP_NO_STATE;
		s->await.timeout = n;
		s->await.within_us = HP_HOUR;
		s->await.n_events = 1;
		walk_arms(s, n);
		s->choose.otherwise = (int)rnd((uint32_t)n + 1);
		s->sql.none = rnd(2) ? n : HP_NO_STATE;
		W.catches[0].next = n;
		s->catches = W.catches;
		s->n_catches = (int)rnd(2);
	}
	state(n, "done", HP_SUCCEED);
}

static void walk_value(void)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = rnd(30) != 0, .truth = rnd(2),
			       .number = W.now + (int64_t)rnd(100) * HP_SECOND,
			       .verdict = (enum hp_verdict)rnd(3), .code = "script_error",
			       .value = hp_bytes_of("{}"), .key = hp_bytes_of("k") };

	memset(ev.hash, rnd(20) ? 1 : 2, sizeof ev.hash);
	step(&ev);
}

static void walk_claim(void)
{
	struct hp_event ev = { .cancel = rnd(60) == 0, .decision = (enum hp_decision)rnd(3),
			       .mail = hp_bytes_of("{}"), .decision_value = hp_bytes_of("{}"),
			       .command_value = hp_bytes_of("0") };

	walk_mail(&ev);
	pause_flag = rnd(10) == 0;
	if (W.run.status == HP_HELD)
		W.run.command = rnd(20) ? (enum hp_command)rnd(4) : HP_CMD_RESTART;
	if (W.run.due_at > W.now && rnd(3))
		W.now = W.run.due_at;
	W.now += (int64_t)rnd(1000) * HP_MSEC;
	claim_with(&ev);
}

static void walk_transition(void)
{
	const struct hp_transition *t = W.act.transition;
	const struct hp_state *from = &W.states[W.run.state];
	bool was_final = hp_status_final(W.run.status);

	ck_assert(!was_final);
	walk_keep(t);
	ck_assert_int_eq(t->after.epoch, W.run.epoch);
	ck_assert(t->after.visit == W.run.visit || t->after.visit == W.run.visit + 1);
	ck_assert(t->after.visit != W.run.visit || t->after.state == W.run.state);
	if (t->admits) {
		ck_assert_int_eq(t->after.phase, HP_PH_ADMITTED);
		ck_assert_int_eq(t->disposition, HP_KEEP);
		/* an unresolved effect is never repeated with another request, nor past its window */
		if (t->after.visit == W.run.visit && t->after.unresolved) {
			ck_assert_mem_eq(t->after.request_hash, W.run.request_hash, HP_SHA256_LEN);
			ck_assert_int_ne(from->call.op.repeat, HP_REPEAT_NEVER);
			if (from->call.op.repeat == HP_REPEAT_BY_KEY)
				ck_assert_int_lt(W.now, t->after.first_sent_at + from->call.op.window_us);
		}
	}
	if (t->disposition == HP_PARK)
		ck_assert(t->after.due_at > 0 || t->after.status == HP_HELD || t->after.pause);
	if (t->move == HP_MOVE_PAUSED) /* nothing of it is in the air */
		ck_assert(t->after.phase != HP_PH_ADMITTED && t->after.phase != HP_PH_PROBING);
	if (t->in_sql)
		ck_assert_int_eq(from->kind, HP_SQL);
	if (t->disposition == HP_KEEP)
		ck_assert_int_eq(t->after.status, HP_RUNNING);
}

START_TEST(walk)
{
	const char *given = getenv("HP_SEED");
	uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
	int finished = 0;

	printf("core_walk: HP_SEED=%llu\n", (unsigned long long)first);
	for (int w = 0; w < 3000; w++) {
		seed = first + (uint64_t)w * 7919 + 1;
		setup();
		walk_definition(1 + (int)rnd(6));
		walk_claim();
		for (int i = 0; i < 300 && !hp_status_final(W.run.status); i++) {
			if (W.act.type == HP_ACT_DROP || rnd(25) == 0) { /* parked, or the worker dies */
				walk_claim();
			} else if (W.act.type == HP_ACT_COMMIT) {
				walk_transition();
				W.gate = rnd(20) == 0 && (W.act.transition->admits || W.act.transition->move == HP_MOVE_PROBING);
				if (rnd(40) == 0)
					value_error("commit_refused");
				else {
					pause_flag = rnd(30) == 0;
					commit_ev(rnd(200) == 0, 0);
				}
			} else if (W.act.type == HP_ACT_EVAL) {
				walk_value();
			} else {
				if (W.act.type == HP_ACT_SEND && W.act.arm) { /* a look beside an open wait */
					ck_assert(W.act.op->read);
					ck_assert_int_eq(W.run.phase, HP_PH_OPEN);
				} else if (W.act.type == HP_ACT_SEND) { /* only what is committed is sent */
					ck_assert(W.run.phase == HP_PH_ADMITTED || W.run.phase == HP_PH_PROBING);
					ck_assert_int_eq(W.run.phase == HP_PH_PROBING, W.act.probe);
				}
				struct hp_event ev = { .type = HP_EV_REPLY, .outcome = (enum hp_class)rnd(5),
						       .code = "c", .none = rnd(5) == 0, .retry_after_us = -1,
						       .value = hp_bytes_of("{}") };
				step(&ev);
			}
		}
		finished += hp_status_final(W.run.status);
	}
	ck_assert_int_gt(finished, 1500); /* the walks do get somewhere */
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("walks");

	tcase_add_test(t, walk);
	tcase_set_timeout(t, 60);
	return hp_run_case("core_walk", t);
}
