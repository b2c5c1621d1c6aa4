/* doors.c: what people, applications and webhooks do, through the store's own doors. */
#include "explore.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct said {
	bool ok;
	int64_t run;
};

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	(void)json;
	((struct said *)arg)->ok = err == NULL;
}

static bool ask(const char *door, const char *who, const char *fmt, ...) HP_PRINTF(3, 4);
static bool ask(const char *door, const char *who, const char *fmt, ...)
{
	struct said said = { false, 0 };
	char args[300];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(args, sizeof args, fmt, ap);
	va_end(ap);
	HP_ASSERT(n > 0 && (size_t)n < sizeof args);
	x_store->ops->door(x_store, door, who, (struct hp_bytes){ args, (size_t)n }, on_door, &said);
	x_store->ops->pump(x_store);
	return said.ok;
}

/* ---- decisions ---- */

/* The last approval of the run, whether or not it is still open: a second click comes late. */
static const struct mem_approval *approval_of(int64_t run)
{
	const struct mem_approval *found = NULL;

	MEM_EACH(x_tables(), T_APPROVAL, struct mem_approval, a)
		if (a->run == run)
			found = a;
	return found;
}

/* 16: one decision, in time; what comes after it changes nothing. */
static bool decide(int64_t run, bool yes)
{
	const struct mem_approval before = *approval_of(run);
	bool ok = ask("decide", X.left[yes ? B_APPROVE : B_REJECT] % 2 ? "ann" : "bob",
		      "{\"approval\":%lld,\"decision\":\"%s\",\"reason\":\"r\"}", (long long)before.id,
		      yes ? "approve" : "reject");

	X_MUST(!ok || before.status == MEM_OPEN, "run %lld: an approval was decided twice", (long long)run);
	X_MUST(!ok || X.now < before.deadline, "run %lld: an approval was decided after its deadline", (long long)run);
	return ok;
}

/* ---- events, webhooks, starts ---- */

static void on_ingest(void *arg, int64_t now, const struct hp_ingest_result *res, const struct hp_error *err)
{
	(void)now;
	HP_ASSERT(!err);
	((struct said *)arg)->ok = !res->duplicate;
}

/* Its run starts at once in the first engine's hands if that takes it; here it becomes ready. */
static bool hook(void)
{
	struct said said = { false, 0 };
	const struct hp_start start = { .workflow = x_flows[0].def.workflow, .input = hp_bytes_of("{}"),
					.key = hp_bytes_of(x_world->key), .requester = "webhook:shop" };
	const struct hp_delivery delivery = { hp_bytes_of("e"), hp_bytes_of("k") };
	const struct hp_ingest in = { .source = "shop", .event_id = hp_bytes_of("ev_1"), .body = hp_bytes_of("{}"),
				      .payload = hp_bytes_of("{}"), .starts = &start, .n_starts = x_world->key ? 1 : 0,
				      .deliveries = &delivery, .n_deliveries = 1 };
	size_t mails = mem_count(x_tables(), T_MAIL);
	int64_t runs = x_n_runs();

	x_store->ops->ingest(x_store, 0, &in, on_ingest, &said);
	x_store->ops->pump(x_store);
	X_MUST(mem_count(x_tables(), T_INBOX) == 1, "one webhook is in the inbox %zu times", mem_count(x_tables(), T_INBOX));
	X_MUST(said.ok || (mails == mem_count(x_tables(), T_MAIL) && runs == x_n_runs()), "a duplicate of a webhook did something");
	return said.ok;
}

static bool start(void)
{
	if (!x_world->key)
		return ask("start", "app", "{\"workflow\":\"%s\",\"input\":{}}", x_flows[0].def.workflow);
	return ask("start", "app", "{\"workflow\":\"%s\",\"input\":{},\"key\":\"%s\"}", x_flows[0].def.workflow, x_world->key);
}

/* As runtime/worker_breaker.c does when its window is full of failures. */
static bool trip(void)
{
	const struct mem_breaker *b = mem_breaker_find(x_mem(), hp_bytes_of("shop"));

	return ask("breaker_trip", "engine", "{\"breaker\":\"shop\",\"version\":%lld,\"open_us\":%d,\"slow_us\":0,\"probes\":%d,"
					     "\"reason\":\"r\"}", b ? (long long)b->version : 0LL, X_OPEN_US, X_PROBES);
}

void x_first_runs(void)
{
	for (int i = 0; i < x_world->runs; i++)
		if (!start())
			x_fail("the first run does not start");
}

/* ---- operators ---- */

/* Inside the provider's memory, and when it can be sent as it was, the answer under its key tells:
 * that retry is no word of theirs. */
static bool known_by_key(const struct hp_run *r, const struct hp_state *s)
{
	static const uint8_t another[HP_SHA256_LEN]; /* it would be, and who retries was told */

	return memcmp(r->request_hash, another, sizeof another) != 0 && s->call.op.repeat == HP_REPEAT_BY_KEY && X.now + s->timeout_us < r->first_sent_at + s->call.op.window_us;
}

/* Who retries what is in doubt, with nothing to look at, answers for a second effect. */
static bool operate(int64_t run, const char *action)
{
	const struct mem_run *r = x_run(run);
	const struct hp_state *s = &x_flow_of(r)->def.states[r->row.state];
	bool blind = r->row.unresolved && !s->call.has_probe && action[0] == 'r' && !known_by_key(&r->row, s);
	bool ok = ask("operate", "ann", "{\"run\":%lld,\"action\":\"%s\",\"reason\":\"r\"}", (long long)run, action);

	if (ok && blind)
		X.excused[run][r->row.visit]++;
	return ok;
}

bool x_unpause(int run)
{
	return ask("resume", "ann", "{\"run\":%d,\"reason\":\"r\"}", run);
}

bool x_door_open(int kind, int run)
{
	const struct mem_run *r = run <= x_n_runs() ? x_run(run) : NULL;
	bool lives = r && !hp_status_final(r->row.status);

	switch (kind) {
	case B_APPROVE:
	case B_REJECT:
		return r && approval_of(run) != NULL;
	case B_CANCEL:
		return lives && !r->row.cancel;
	case B_STOP:
		return lives && !r->row.pause;
	case B_RETRY:
	case B_SKIP:
	case B_GIVE_UP:
	case B_UNDO:
		return lives && r->row.status == HP_HELD && r->row.command == HP_CMD_NONE && !r->row.pause;
	case B_START:
	case B_HOOK:
		return run == 1 && x_n_runs() < X_RUNS;
	case B_MAIL:
		return run == 1;
	case B_UPGRADE:
		return run == 1 && X.version == 0;
	case B_TRIP:
		return run == 1;
	default:
		return false;
	}
}

bool x_door(int kind, int run)
{
	X.left[kind]--;
	switch (kind) {
	case B_APPROVE:
	case B_REJECT:
		return decide(run, kind == B_APPROVE);
	case B_CANCEL:
		return ask("cancel", "ann", "{\"run\":%d,\"reason\":\"r\"}", run);
	case B_STOP:
		return ask("pause", "ann", "{\"run\":%d,\"reason\":\"r\"}", run);
	case B_RETRY:
		return operate(run, "retry");
	case B_SKIP:
		return operate(run, "skip");
	case B_GIVE_UP:
		return operate(run, "give_up");
	case B_UNDO:
		return operate(run, "undo");
	case B_START:
		return start();
	case B_HOOK:
		return hook();
	case B_MAIL:
		return ask("send_event", "app", "{\"name\":\"e\",\"key\":\"k\",\"payload\":{}}");
	case B_TRIP:
		return trip();
	case B_UPGRADE:
		X.version = 1;
		return true;
	default:
		HP_ASSERT(0 && "no such door");
	}
}
