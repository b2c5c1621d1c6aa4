/* worlds.c: the worlds: a definition or two, and what may happen in them.
 *
 * Each is small enough to be explored whole. Budgets are the number of times a fault or a
 * door may come in one history; everything else (who claims, when a reply lands, when time
 * passes) comes in every order.
 */
#include "explore.h"

#define WINDOW_LONG (24 * HP_HOUR)
#define WINDOW_SHORT (25 * HP_SECOND)

static struct x_flow *flow(const char *name)
{
	struct x_flow *f = &x_flows[x_n_flows++];

	f->def.workflow = name;
	f->def.states = f->states;
	return f;
}

static struct hp_state *state(struct x_flow *f, const char *name, enum hp_kind kind)
{
	struct hp_state *s = &f->states[f->def.n_states + f->def.n_undos];
	bool ends = kind == HP_SUCCEED || kind == HP_FAIL || kind == HP_CHOOSE;

	s->name = name;
	s->kind = kind;
	s->next = ends ? HP_NO_STATE : f->def.n_states + 1;
	s->retry = (struct hp_retry){ 3, 1, 1, 0 };
	s->timeout_us = 4 * HP_SECOND;
	s->call.signed_by = s->call.over_budget = s->approval.of = HP_NO_STATE;
	s->approval.rejected = s->approval.expired = HP_NO_STATE;
	s->sql.none = s->choose.otherwise = s->await.timeout = s->children.timeout = HP_NO_STATE;
	s->fail.code = kind == HP_FAIL ? "failed" : NULL;
	f->def.n_states++;
	return s;
}

static struct hp_state *call(struct x_flow *f, const char *name, enum hp_repeat repeat)
{
	struct hp_state *s = state(f, name, HP_CALL);

	s->call.op = (struct hp_operation){ .connector = "shop", .name = "pay", .repeat = repeat, .window_us = WINDOW_LONG };
	return s;
}

static struct hp_state *probed(struct hp_state *s)
{
	s->call.has_probe = true;
	s->call.probe = (struct hp_operation){ .connector = "shop", .name = "look", .repeat = HP_REPEAT_BY_NATURE, .read = true };
	return s;
}

/* The state with a road for what nobody can repair. */
static void otherwise(struct x_flow *f, struct hp_state *s, int next)
{
	s->catches = &f->catches[f->n_catches++];
	s->n_catches = 1;
	*s->catches = (struct hp_catch){ NULL, next, 1 };
}

/* ---- definitions ---- */

static void by_key(void)
{
	struct x_flow *f = flow("w");

	call(f, "pay", HP_REPEAT_BY_KEY);
	state(f, "done", HP_SUCCEED);
}

/* It is held as soon as it is refused. */
static void by_key_once(void)
{
	by_key();
	x_flows[0].states[0].retry.attempts = 1;
}

static void two_calls(void)
{
	struct x_flow *f = flow("w");

	call(f, "pay", HP_REPEAT_BY_KEY);
	call(f, "tell", HP_REPEAT_BY_NATURE);
	state(f, "done", HP_SUCCEED);
}

static void window(void)
{
	struct x_flow *f = flow("w");

	probed(call(f, "pay", HP_REPEAT_BY_KEY))->call.op.window_us = WINDOW_SHORT;
	f->states[0].retry = (struct hp_retry){ 3, 12 * HP_SECOND, 12 * HP_SECOND, 0 };
	state(f, "done", HP_SUCCEED);
}

static void probe(void)
{
	struct x_flow *f = flow("w");

	probed(call(f, "pay", HP_REPEAT_NEVER));
	state(f, "done", HP_SUCCEED);
}

static void never(void)
{
	struct x_flow *f = flow("w");

	call(f, "pay", HP_REPEAT_NEVER);
	state(f, "done", HP_SUCCEED);
}

/* The same state twice: another visit, another key. */
static void loop(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s;

	call(f, "pay", HP_REPEAT_BY_KEY);
	s = state(f, "again", HP_CHOOSE);
	s->choose.branches = f->branches;
	s->choose.n_branches = 1;
	f->branches[0] = (struct hp_branch){ 0, 1 };
	s->choose.otherwise = 2;
	state(f, "done", HP_SUCCEED);
}

static void statements(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s;

	state(f, "read", HP_SQL)->sql.mode = HP_SQL_EXEC;
	s = state(f, "which", HP_CHOOSE);
	s->choose.branches = f->branches;
	s->choose.n_branches = 1;
	f->branches[0] = (struct hp_branch){ 2, 1 };
	s->choose.otherwise = 3;
	state(f, "write", HP_SQL)->sql.mode = HP_SQL_EXEC;
	state(f, "done", HP_SUCCEED);
}

static void signed_call(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s = state(f, "review", HP_APPROVAL);

	s->approval.of = 1;
	s->approval.approvers = "1 of ops";
	s->approval.deadline_us = 20 * HP_SECOND;
	s->approval.rejected = s->approval.expired = 3;
	call(f, "pay", HP_REPEAT_BY_KEY)->call.signed_by = 0;
	state(f, "done", HP_SUCCEED);
	state(f, "closed", HP_FAIL);
}

static void events(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s;

	for (int i = 0; i < 2; i++) {
		s = state(f, i ? "second" : "first", HP_AWAIT);
		s->await.events[0] = "e";
		s->await.n_events = 1;
		s->await.within_us = 15 * HP_SECOND;
		s->await.timeout = 4;
	}
	state(f, "rest", HP_WAIT);
	state(f, "done", HP_SUCCEED);
	state(f, "late", HP_FAIL);
}

static void arms(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s = state(f, "review", HP_APPROVAL);

	s->approval.approvers = "1 of ops";
	s->approval.deadline_us = 20 * HP_SECOND;
	s->approval.rejected = s->approval.expired = 2;
	s->arms = f->arms;
	s->n_arms = 3;
	f->arms[0] = (struct hp_arm){ .name = "abort", .kind = HP_ARM_EVENT, .event = "e", .next = 2, .failed = HP_NO_STATE };
	f->arms[1] = (struct hp_arm){ .name = "ill", .kind = HP_ARM_CHECK, .next = 2, .failed = HP_NO_STATE, .failures = 2,
				      .every_us = 7 * HP_SECOND, .timeout_us = 4 * HP_SECOND,
				      .op = { .connector = "shop", .name = "look", .repeat = HP_REPEAT_BY_NATURE, .read = true } };
	f->arms[2] = (struct hp_arm){ .name = "late", .kind = HP_ARM_TIMER, .next = 2, .failed = HP_NO_STATE, .after_us = 15 * HP_SECOND };
	state(f, "done", HP_SUCCEED);
	state(f, "closed", HP_FAIL);
}

static void business(void)
{
	struct x_flow *f = flow("w");

	probed(call(f, "pay", HP_REPEAT_NEVER))->call.has_key = true;
	f->states[0].retry.attempts = 1; /* so often may a look find nothing, twice */
	state(f, "done", HP_SUCCEED);
}

static void child(void)
{
	struct x_flow *f = flow("parent");
	struct hp_state *s = state(f, "ask", HP_RUN);

	s->children.workflow = "child";
	s->children.percent = -1;
	s->children.concurrency = 1;
	s->children.within_us = 25 * HP_SECOND;
	s->children.timeout = 2;
	otherwise(f, s, 2);
	state(f, "done", HP_SUCCEED);
	state(f, "closed", HP_FAIL);
	f = flow("child");
	call(f, "pay", HP_REPEAT_BY_KEY);
	state(f, "done", HP_SUCCEED);
}

static void each(void)
{
	child();
	x_flows[0].states[0].kind = HP_EACH;
	x_flows[0].states[0].children.tolerate = 0;
	x_flows[0].states[0].children.concurrency = 2;
}

static void undone(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s = call(f, "book", HP_REPEAT_BY_KEY);

	s->has_undo = true;
	s->undo = 3;
	call(f, "pay", HP_REPEAT_BY_KEY);
	otherwise(f, &f->states[1], 2);
	state(f, "back", HP_FAIL)->fail.undo = true;
	s = call(f, "book.undo", HP_REPEAT_BY_KEY);
	s->undoes = 0;
	f->states[1].next = HP_NO_STATE; /* see below */
	f->def.n_states = 3;
	f->def.n_undos = 1;
	f->states[1].next = 2;
	f->def.cancel_undoes = true;
}

/* Nobody catches a refusal: it is held, and a person says whether what was booked is taken back. */
static void undone_by_hand(void)
{
	struct x_flow *f = flow("w");
	struct hp_state *s = call(f, "book", HP_REPEAT_BY_KEY);

	s->has_undo = true;
	s->undo = 3;
	call(f, "pay", HP_REPEAT_BY_KEY);
	state(f, "done", HP_SUCCEED);
	call(f, "book.undo", HP_REPEAT_BY_KEY)->undoes = 0;
	f->def.n_states = 3;
	f->def.n_undos = 1;
}

#define FAULTS(crash, stop, ack) .budget[B_CRASH] = crash, .budget[B_PAUSE] = stop, .budget[B_ACK_LOST] = ack

#define ALONE "{\"exclusive\":[\"one\"],\"overlap\":\"wait\"}"
#define ONE .engines = 2, .runs = 1

const struct x_world x_worlds[] = {
	{ .name = "key", .says = "a call that the provider knows by its key", .define = by_key, ONE, FAULTS(3, 1, 2),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_CANCEL] = 1 },
	{ .name = "key_small", .says = "the same", .define = by_key, ONE, .small = true, FAULTS(1, 1, 1), .budget[B_LOSE_REPLY] = 1 },
	{ .name = "late", .says = "the same, and commits that come late or never", .define = by_key, ONE, FAULTS(1, 1, 1),
	  .budget[B_LATE] = 2, .budget[B_CANCEL] = 1 },
	{ .name = "late_small", .says = "the same", .define = by_key, ONE, .small = true, FAULTS(1, 0, 1), .budget[B_LATE] = 1,
	  .budget[B_CANCEL] = 1 },
	{ .name = "late_sql", .says = "statements whose commits come late or never", .define = statements, ONE, .coin = 1,
	  FAULTS(2, 1, 1), .budget[B_LATE] = 2 },
	{ .name = "late_sql_small", .says = "the same", .define = statements, ONE, .coin = 1, .small = true, FAULTS(1, 0, 1),
	  .budget[B_LATE] = 1 },
	{ .name = "late_probe", .says = "no repeat, a way to look, and late commits", .define = probe, ONE, FAULTS(1, 0, 1),
	  .budget[B_LATE] = 1, .budget[B_LOSE_REPLY] = 1 },
	{ .name = "late_signed", .says = "an approval, and late commits", .define = signed_call, ONE, FAULTS(1, 1, 1), .budget[B_LATE] = 1,
	  .budget[B_APPROVE] = 2, .budget[B_REJECT] = 1 },
	{ .name = "late_events", .says = "two waits for an event, and late commits", .define = events, ONE, FAULTS(1, 0, 1),
	  .budget[B_LATE] = 1, .budget[B_MAIL] = 2 },
	{ .name = "two_calls", .says = "a call by key, then one that may be repeated", .define = two_calls, ONE, FAULTS(1, 1, 1),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_COMMIT_FAIL] = 1 },
	{ .name = "probe", .says = "a call that may not be repeated, and a way to look", .define = probe, ONE, FAULTS(1, 1, 1),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_LOSE_REQUEST] = 1 },
	{ .name = "probe_small", .says = "the same", .define = probe, ONE, .small = true, FAULTS(1, 1, 0), .budget[B_LOSE_REPLY] = 1,
	  .budget[B_CANCEL] = 1 },
	{ .name = "never", .says = "no repeat, no look: a person decides", .define = never, ONE, FAULTS(2, 1, 1),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_RETRY] = 1, .budget[B_SKIP] = 1, .budget[B_GIVE_UP] = 1 },
	{ .name = "loop", .says = "one state twice", .define = loop, ONE, FAULTS(1, 1, 1), .budget[B_LOSE_REPLY] = 1,
	  .budget[B_STOP] = 1 },
	{ .name = "loop_small", .says = "the same", .define = loop, ONE, .small = true, FAULTS(1, 0, 0) },
	{ .name = "refused", .says = "attempts end, and a person goes on", .define = by_key, ONE, FAULTS(1, 0, 1),
	  .budget[B_REFUSE] = 4, .budget[B_RETRY] = 1, .budget[B_CANCEL] = 1, .budget[B_STOP] = 1 },
	{ .name = "refused_small", .says = "the same", .define = by_key, ONE, .small = true, .budget[B_REFUSE] = 3,
	  .budget[B_CANCEL] = 1, .budget[B_STOP] = 1 },
	{ .name = "cancel_small", .says = "what is in the air resolves first", .define = by_key, ONE, .small = true, FAULTS(1, 0, 0),
	  .budget[B_CANCEL] = 1, .budget[B_STOP] = 1 },
	{ .name = "told_small", .says = "held in doubt, and told to go on", .define = by_key_once, ONE, .small = true, FAULTS(1, 0, 0),
	  .budget[B_REFUSE] = 2, .budget[B_LOSE_REPLY] = 1, .budget[B_RETRY] = 2, .budget[B_CANCEL] = 1 },
	{ .name = "window", .says = "a provider that forgets keys", .define = window, ONE, FAULTS(1, 1, 0),
	  .budget[B_LOSE_REPLY] = 2, .budget[B_LOSE_REQUEST] = 1 },
	{ .name = "window_small", .says = "the same", .define = window, ONE, .small = true, FAULTS(1, 0, 0), .budget[B_LOSE_REPLY] = 2 },
	{ .name = "business", .says = "two runs, one payment", .define = business, .engines = 2, .runs = 2, FAULTS(1, 0, 0),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_LOSE_REQUEST] = 1 },
	{ .name = "three", .says = "three engines", .define = by_key, .engines = 3, .runs = 1, FAULTS(2, 1, 1),
	  .budget[B_LOSE_REPLY] = 1 },
	{ .name = "business_small", .says = "the same", .define = business, .engines = 1, .runs = 2, .small = true },
	{ .name = "sql", .says = "statements and a choice", .define = statements, ONE, .coin = 1, FAULTS(3, 2, 2),
	  .budget[B_SQL_FAIL] = 1 },
	{ .name = "sql_small", .says = "the same", .define = statements, ONE, .coin = 1, .small = true, FAULTS(1, 1, 1) },
	{ .name = "signed", .says = "an approval signs the request", .define = signed_call, ONE, FAULTS(1, 1, 1),
	  .budget[B_APPROVE] = 2, .budget[B_REJECT] = 1, .budget[B_UPGRADE] = 1 },
	{ .name = "signed_small", .says = "the same", .define = signed_call, ONE, .small = true, FAULTS(1, 0, 0),
	  .budget[B_APPROVE] = 2, .budget[B_REJECT] = 1, .budget[B_UPGRADE] = 1 },
	{ .name = "events", .says = "two waits for an event, then for a time", .define = events, ONE, FAULTS(1, 1, 1),
	  .budget[B_MAIL] = 2, .budget[B_HOOK] = 2 },
	{ .name = "events_small", .says = "the same", .define = events, ONE, .small = true, FAULTS(0, 1, 0), .budget[B_MAIL] = 2,
	  .budget[B_HOOK] = 2 },
	{ .name = "arms", .says = "an approval beside an event, a check and a timer", .define = arms, ONE, FAULTS(1, 1, 1),
	  .budget[B_MAIL] = 1, .budget[B_APPROVE] = 1, .budget[B_ALARM] = 1, .budget[B_REFUSE] = 1 },
	{ .name = "arms_small", .says = "the same", .define = arms, ONE, .small = true, .budget[B_MAIL] = 1, .budget[B_APPROVE] = 1,
	  .budget[B_ALARM] = 1 },
	{ .name = "child", .says = "a parent and its child", .define = child, ONE, FAULTS(1, 0, 1), .budget[B_CANCEL] = 1,
	  .budget[B_DECLINE] = 1 },
	{ .name = "each", .says = "a parent of two children", .define = each, ONE, FAULTS(1, 0, 0), .budget[B_DECLINE] = 1 },
	{ .name = "undo", .says = "what was booked is taken back", .define = undone, ONE, FAULTS(1, 1, 1), .budget[B_CANCEL] = 1,
	  .budget[B_DECLINE] = 1 },
	{ .name = "undo_small", .says = "the same", .define = undone, ONE, .small = true, FAULTS(1, 0, 0), .budget[B_CANCEL] = 1,
	  .budget[B_DECLINE] = 1 },
	{ .name = "undo_told_small", .says = "a person has what was booked taken back", .define = undone_by_hand, ONE, .small = true,
	  FAULTS(1, 0, 0), .budget[B_DECLINE] = 2, .budget[B_UNDO] = 2, .budget[B_RETRY] = 1 },
	{ .name = "start", .says = "a webhook and an application start one run by key", .define = by_key, .engines = 2,
	  .key = "k1", FAULTS(1, 1, 1), .budget[B_HOOK] = 2, .budget[B_START] = 2, .budget[B_CANCEL] = 1, .budget[B_DECLINE] = 1 },
	{ .name = "start_small", .says = "the same", .define = by_key, .engines = 2, .key = "k1", .small = true, FAULTS(1, 0, 0),
	  .budget[B_HOOK] = 2, .budget[B_START] = 1, .budget[B_DECLINE] = 1 },
	{ .name = "turns", .says = "three runs, of which one may be under way", .define = by_key, .engines = 2, .runs = 3, .limits = ALONE,
	  FAULTS(1, 1, 1), .budget[B_CANCEL] = 1, .budget[B_STOP] = 1, .budget[B_DECLINE] = 1 },
	{ .name = "turns_small", .says = "the same", .define = by_key, .engines = 1, .runs = 2, .limits = ALONE, .small = true,
	  FAULTS(1, 0, 0), .budget[B_CANCEL] = 1 },
	{ .name = "breaker", .says = "two runs, and a breaker that opens", .define = by_key, .engines = 2, .runs = 2, FAULTS(1, 0, 1),
	  .budget[B_TRIP] = 1, .budget[B_REFUSE] = 1, .budget[B_CANCEL] = 1 },
	{ .name = "breaker_small", .says = "the same", .define = by_key, .engines = 1, .runs = 2, .small = true, .budget[B_TRIP] = 1 },
	{ .name = "upgrade", .says = "the connector changes under a run", .define = by_key, ONE, FAULTS(2, 1, 1),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_UPGRADE] = 1, .budget[B_RETRY] = 1 },
	{ .name = "upgrade_small", .says = "the same", .define = by_key, ONE, .small = true, FAULTS(1, 0, 0),
	  .budget[B_LOSE_REPLY] = 1, .budget[B_UPGRADE] = 1 },
};
const int x_n_worlds = sizeof x_worlds / sizeof *x_worlds;
