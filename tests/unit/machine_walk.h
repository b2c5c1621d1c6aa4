/* machine_walk.h: a definition, and a run through it, from a stream of numbers: random
 * ones in core_walk.c, bytes of a fuzzer in tests/fuzz/machine.c. Who includes it has
 *
 *	static uint32_t rnd(uint32_t n);            a number below n
 *	static void twist(struct hp_event *ev);     may put hostile values into an answer
 *
 * Invariants are checked over every transition. */
#ifndef HP_TESTS_MACHINE_WALK_H
#define HP_TESTS_MACHINE_WALK_H

#include "base/json.h"
#include "machine_world.h"

static uint32_t rnd(uint32_t n);
static void twist(struct hp_event *ev);

/* Of the visit that sweeps: its annex, its row in hand, the rows that are done. */
static char swept[HP_CURSOR_MAX + 256], swept_row[64];
static int64_t swept_done;

static inline void walk_arms(struct hp_state *s, int n)
{
	bool waits = s->kind == HP_APPROVAL || s->kind == HP_WAIT || s->kind == HP_AWAIT || s->kind == HP_RUN ||
		     s->kind == HP_EACH;
	int count = waits ? (int)rnd(4) : 0;

	s->arms = W.arms[s - W.states];
	for (int i = 0; i < count; i++) {
		static const char *const names[] = { "a", "b", "c" };
		struct hp_arm *arm = &s->arms[s->n_arms++];

		*arm = (struct hp_arm){ .name = names[i], .kind = (enum hp_arm_kind)(1 + rnd(3)), .event = "e",
					.next = (int)rnd((uint32_t)n + 1), .save = rnd(2) ? "y" : NULL,
					.after_us = rnd(2) ? (int64_t)rnd(5000) * HP_SECOND : 0,
					.every_us = (1 + (int64_t)rnd(100)) * HP_SECOND, .timeout_us = HP_SECOND,
					.op = { .connector = "look", .name = "up", .repeat = HP_REPEAT_BY_NATURE, .read = true },
					.failures = (int)rnd(3), .failed = rnd(2) ? n : HP_NO_STATE };
	}
}

/* What a store would say of the mailboxes the state looks into. */
static inline void walk_mail(struct hp_event *ev)
{
	const struct hp_state *s = &W.states[W.run.state];
	int boxes = hp_state_events(s);

	for (int i = 0; i < s->n_arms; i++)
		boxes += s->arms[i].kind == HP_ARM_EVENT;
	if (boxes > 0 && rnd(3) == 0) {
		ev->mail_id = 1;
		ev->mail_wait = (int32_t)rnd((uint32_t)boxes);
	}
}

/* … of the children, and of what it was given to keep. */
static inline void walk_annex(struct hp_event *ev)
{
	static char text[sizeof W.annex + 1024];

	snprintf(text, sizeof text,
		 "{\"arms\":%s,\"children\":{\"outcome\":%u,\"running\":%u,\"closed\":%s,\"page\":%s,\"total\":%u},"
		 "\"sweep\":{\"row\":%s,%s}}",
		 W.annex[0] ? W.annex : "{}", rnd(3), rnd(3), rnd(2) ? "true" : "false",
		 rnd(2) ? "true" : "false", 1 + rnd(9), swept_row[0] ? swept_row : "null", swept[0] ? swept : "\"done\":0");
	ev->annex = hp_bytes_of(text);
	snprintf(W.kept, sizeof W.kept, "%s", swept_row);
	ev->kept = hp_bytes_of(W.kept);
}

/* Where the sweep stands: it never goes back, and a row that was counted is not again. */
static inline void walk_swept(const struct hp_transition *t, const json_t *doc, const char *text, int n)
{
	int64_t done = hp_json_int(doc, "done", -1);

	ck_assert_int_ge(done, swept_done);
	ck_assert_int_eq(W.states[W.run.state].kind, HP_SWEEP);
	swept_done = done;
	snprintf(swept, sizeof swept, "%.*s", n - 2, text + 1); /* without its braces */
	swept_row[0] = 0;
	for (int i = 0; i < t->n_annexes; i++)
		if (strcmp(t->annexes[i].kind, "sweep_row") == 0)
			snprintf(swept_row, sizeof swept_row, "%.*s", (int)t->annexes[i].doc.n, t->annexes[i].doc.p);
}

/* What is committed. */
static inline void walk_keep(const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++) {
		const char *kind = t->annexes[i].kind, *p = t->annexes[i].doc.p;
		int n = (int)t->annexes[i].doc.n;
		json_t *doc = hp_json_parse(p, (size_t)n, "annex", NULL);

		ck_assert_ptr_nonnull(doc);
		if (strcmp(kind, "arms") == 0)
			snprintf(W.annex, sizeof W.annex, "%.*s", n, p);
		else if (strcmp(kind, "sweep") == 0)
			walk_swept(t, doc, p, n);
		json_decref(doc);
	}
	if (t->after.visit == W.run.visit)
		return;
	swept[0] = swept_row[0] = 0;
	swept_done = 0;
}

static inline void walk_annexes(const struct hp_transition *t)
{
	int arms = 0;
	bool close = false;

	for (int i = 0; i < t->n_annexes; i++) {
		json_t *doc = hp_json_parse(t->annexes[i].doc.p, t->annexes[i].doc.n, "annex", NULL);
		const char *op = hp_json_str(doc, "op");

		close = close || (op && strcmp(op, "close") == 0);
		if (strcmp(t->annexes[i].kind, "arms") == 0) {
			bool parks = (t->after.phase == HP_PH_OPEN || t->after.phase == HP_PH_JOINING) &&
				     t->after.status == HP_WAITING;

			ck_assert(json_object_get(doc, "over") || parks);
			arms++;
		}
		json_decref(doc);
	}
	ck_assert_int_le(arms, 2); /* one state is left, another is waited in */
	if (W.run.phase == HP_PH_JOINING && t->after.visit != W.run.visit)
		ck_assert(close); /* nobody is left behind unknowing */
	if (t->quiet) { /* nothing but the time of waking may change without a trace */
		ck_assert_int_eq(t->disposition, HP_PARK);
		ck_assert_int_eq(t->after.visit, W.run.visit);
		ck_assert_int_eq(t->after.phase, W.run.phase);
		ck_assert_int_eq(t->after.status, HP_WAITING);
		ck_assert_int_eq(t->n_saves, 0);
		ck_assert(!t->result.n && t->consume_mail == 0);
	}
}

static inline void walk_definition(int n)
{
	static const enum hp_kind kinds[] = { HP_CALL, HP_SQL, HP_CHOOSE, HP_APPROVAL, HP_WAIT, HP_AWAIT,
					      HP_RUN,  HP_EACH, HP_SWEEP };

	for (int i = 0; i < n; i++) {
		struct hp_state *s = state(i, "s", kinds[rnd(sizeof kinds / sizeof *kinds)]);

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
		s->children.pages = s->kind == HP_EACH && rnd(2);
		s->children.within_us = rnd(2) ? HP_HOUR : 0;
		s->children.timeout = n;
		s->sweep.has_call = rnd(2);
		s->sweep.per_second = rnd(2);
		s->sweep.tolerate = rnd(3);
		if (s->kind == HP_SWEEP && s->sweep.has_call && s->call.op.repeat == HP_REPEAT_NEVER)
			s->call.op.repeat = HP_REPEAT_BY_KEY;
		walk_arms(s, n);
		s->choose.otherwise = (int)rnd((uint32_t)n + 1);
		s->sql.none = rnd(2) ? n : HP_NO_STATE;
		W.catches[0].next = n;
		s->catches = W.catches;
		s->n_catches = (int)rnd(2);
	}
	state(n, "done", HP_SUCCEED);
}

static inline void walk_value(void)
{
	struct hp_event ev = { .type = HP_EV_VALUE, .ok = rnd(30) != 0, .truth = rnd(2),
			       .number = W.now + (int64_t)rnd(100) * HP_SECOND,
			       .verdict = (enum hp_verdict)rnd(3), .code = "script_error",
			       .value = hp_bytes_of("{}"), .key = hp_bytes_of("k") };

	memset(ev.hash, rnd(20) ? 1 : 2, sizeof ev.hash);
	twist(&ev);
	step(&ev);
}

static inline void walk_claim(void)
{
	struct hp_event ev = { .cancel = rnd(60) == 0, .decision = (enum hp_decision)rnd(3),
			       .mail = hp_bytes_of("{}"), .decision_value = hp_bytes_of("{}"),
			       .command_value = hp_bytes_of("0") };

	walk_mail(&ev);
	walk_annex(&ev);
	pause_flag = rnd(10) == 0;
	if (W.run.status == HP_HELD)
		W.run.command = rnd(20) ? (enum hp_command)rnd(4) : HP_CMD_RESTART;
	if (W.run.due_at > W.now && rnd(3))
		W.now = W.run.due_at;
	W.now += (int64_t)rnd(1000) * HP_MSEC;
	twist(&ev);
	claim_with(&ev);
}

static inline void walk_reply(void)
{
	static char cursor[24];
	struct hp_event ev = { .type = HP_EV_REPLY, .outcome = (enum hp_class)rnd(5), .code = "c", .none = rnd(5) == 0,
			       .retry_after_us = -1, .value = hp_bytes_of("{}") };

	if (W.act.type == HP_ACT_SQL && W.act.sweep) {
		bool call = W.states[W.run.state].sweep.has_call;

		ck_assert(!call || W.act.reply.n == 0 || W.act.sweep->row.n > 0);
		snprintf(cursor, sizeof cursor, "%u", rnd(1000));
		ev.swept = (struct hp_swept){ .rows = (int64_t)rnd(call ? 3 : 5) - 1, .total = -1, .cursor = hp_bytes_of(cursor),
					      .row = hp_bytes_of("{\"id\":1}") };
		if (call && ev.swept.rows > 1)
			ev.swept.rows = 1;
	}
	twist(&ev);
	step(&ev);
}

static inline void walk_transition(void)
{
	const struct hp_transition *t = W.act.transition;
	const struct hp_state *from = &W.states[W.run.state];
	bool was_final = hp_status_final(W.run.status);

	ck_assert(!was_final);
	walk_annexes(t);
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
		ck_assert(t->after.due_at > 0 || t->after.status == HP_HELD || t->after.pause ||
			  t->after.phase == HP_PH_JOINING); /* which its children wake */
	if (t->move == HP_MOVE_PAUSED) /* nothing of it is in the air */
		ck_assert(t->after.phase != HP_PH_ADMITTED && t->after.phase != HP_PH_PROBING);
	if (t->in_sql)
		ck_assert(from->kind == HP_SQL || from->kind == HP_SWEEP);
	if (t->disposition == HP_KEEP)
		ck_assert_int_eq(t->after.status, HP_RUNNING);
}

static inline void walk_begin(void)
{
	setup();
	swept[0] = swept_row[0] = 0;
	swept_done = 0;
	walk_definition(1 + (int)rnd(6));
	walk_claim();
}

static inline void walk_step(void)
{
	if (W.act.type == HP_ACT_DROP || rnd(25) == 0) { /* parked, or the worker dies */
		walk_claim();
	} else if (W.act.type == HP_ACT_COMMIT) {
		walk_transition();
		W.gate = rnd(20) == 0 && (W.act.transition->admits || W.act.transition->move == HP_MOVE_PROBING);
		if (rnd(40) == 0) {
			value_error("commit_refused");
			return;
		}
		pause_flag = rnd(30) == 0;
		walk_keep(W.act.transition);
		commit_ev(rnd(200) == 0, 0);
	} else if (W.act.type == HP_ACT_EVAL) {
		walk_value();
	} else {
		if (W.act.type == HP_ACT_SEND && W.act.arm) { /* a look beside an open wait */
			ck_assert(W.act.op->read);
			ck_assert(W.run.phase == HP_PH_OPEN || W.run.phase == HP_PH_JOINING);
		} else if (W.act.type == HP_ACT_SEND) { /* only what is committed is sent */
			ck_assert(W.run.phase == HP_PH_ADMITTED || W.run.phase == HP_PH_PROBING);
			ck_assert_int_eq(W.run.phase == HP_PH_PROBING, W.act.probe);
		}
		walk_reply();
	}
}

#endif
