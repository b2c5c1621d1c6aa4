/* ops_doors.c: what people and other systems do: starting, deciding, sending, operating. */
#include "diff.h"

#include <stdio.h>
#include <string.h>

static int64_t some_run(void)
{
	const json_t *r = d_any("run");

	return r && d_chance(95) ? hp_json_int(r, "id", 1) : 4711;
}

/* One in that status, if there is one. */
static int64_t run_in(int status)
{
	size_t n = d_rows("run_state"), start = n ? d_rnd((uint32_t)n) : 0;

	for (size_t i = 0; i < n; i++) {
		const json_t *r = d_row("run_state", (start + i) % n);

		if (hp_json_int(r, "status", 0) == status)
			return hp_json_int(r, "run", 0);
	}
	return some_run();
}

/* Of two mistakes a store may name either: an operation makes one at most. */
enum mistake { RIGHT, NO_WORKFLOW, BAD_INPUT, LONG_KEY, BAD_PAYLOAD, NO_BOX };
static enum mistake mistake;

static void draw_mistake(enum mistake last)
{
	mistake = d_chance(8) ? (enum mistake)(1 + d_rnd((uint32_t)last)) : RIGHT;
}

static const char *workflow(void)
{
	static const char *const names[] = { "flow1", "flow2", "flow3", "child" };

	return mistake != NO_WORKFLOW ? names[d_rnd(d_chance(90) ? 3 : 4)] : "nobody";
}

static const char *input(char *buf, size_t n)
{
	if (mistake == BAD_INPUT)
		return d_chance(60) ? "{\"n\":" : "";
	snprintf(buf, n, "{\"n\":%u,\"shared\":%u}", d_rnd(12), d_rnd(3));
	return buf;
}

static const char *key(char *buf, size_t n)
{
	if (mistake == LONG_KEY) {
		memset(buf, 'k', n - 1);
		buf[n - 1] = 0;
		return buf;
	}
	if (d_chance(40))
		return "";
	snprintf(buf, n, "order-%u", d_rnd(12));
	return buf;
}

static void op_start(void)
{
	static const char *const who[] = { "tester", "alice", "bob" };
	char in[64], k[600];
	struct hp_start st = { .requester = who[d_rnd(3)], .own = d_chance(60) };
	int64_t engine = d_engine();

	draw_mistake(LONG_KEY);
	st.workflow = workflow();
	st.input = hp_bytes_of(input(in, sizeof in));
	st.key = hp_bytes_of(key(k, sizeof k));
	d_claimer = engine;
	for (int i = 0; i < 2; i++) {
		struct d_answer *a = d_begin(i);

		a->claimed = d_keep_claimed;
		d_store(i)->ops->start(d_store(i), engine, &st, d_on_start, a);
		d_await(i);
	}
	d_say(st.own ? "start, own" : "start", "engine %lld starts %s %s with key \"%.20s\"", (long long)engine, st.workflow,
	      st.input.n ? st.input.p : "(nothing)", st.key.n ? st.key.p : "");
}

static void op_ingest(void)
{
	static const char *const boxes[] = { "diff.ping", "diff.hurry", "diff.else" };
	char event[16], in[2][64], k[2][600], box_key[3][16];
	struct hp_start starts[2];
	struct hp_delivery boxed[3];
	int64_t engine = d_engine();
	struct hp_ingest g = { .source = "calm", .body = hp_bytes_of("raw"), .starts = starts,
			        .n_starts = (int)d_rnd(3), .deliveries = boxed, .n_deliveries = (int)d_rnd(4) };

	draw_mistake(NO_BOX);
	g.payload = hp_bytes_of(mistake == BAD_PAYLOAD ? "{" : "{\"x\":null}");
	snprintf(event, sizeof event, "e%u", d_rnd(40));
	g.event_id = hp_bytes_of(event);
	for (int i = 0; i < g.n_starts; i++)
		starts[i] = (struct hp_start){ .workflow = workflow(), .input = hp_bytes_of(input(in[i], sizeof in[i])),
					       .key = hp_bytes_of(key(k[i], sizeof k[i])), .requester = "webhook:calm", .own = d_chance(70) };
	for (int i = 0; i < g.n_deliveries; i++) {
		snprintf(box_key[i], sizeof box_key[i], "%u", d_rnd(4));
		boxed[i] = (struct hp_delivery){ hp_bytes_of(mistake != NO_BOX ? boxes[d_rnd(3)] : ""), hp_bytes_of(box_key[i]) };
	}
	d_claimer = engine;
	for (int i = 0; i < 2; i++) {
		struct d_answer *a = d_begin(i);

		a->claimed = d_keep_claimed;
		d_store(i)->ops->ingest(d_store(i), engine, &g, d_on_ingest, a);
		d_await(i);
	}
	d_say("ingest", "webhook %s: %d starts, %d deliveries", event, g.n_starts, g.n_deliveries);
}

static void door(const char *name, const char *who, const char *args)
{
	static char op[64];

	d_door(name, who, args);
	snprintf(op, sizeof op, "%s", name);
	d_say(op, "%s: %s %s", who, name, args);
}

static const char *person(void)
{
	static const char *const names[] = { "alice", "bob", "carol", "alice", "bob", "carol", "mallory", "robot", "nobody" };

	return names[d_rnd(9)];
}

static const char *reason(void)
{
	return d_chance(92) ? "because it was drawn" : d_chance(50) ? " " : "";
}

static void op_decide(void)
{
	char args[256];
	size_t n = d_rows("approval"), start = n ? d_rnd((uint32_t)n) : 0;
	int64_t id = 815;

	for (size_t i = 0; i < n; i++) {
		const json_t *a = d_row("approval", (start + i) % n);

		id = hp_json_int(a, "id", 0);
		if (strcmp(hp_json_str(a, "status"), "open") == 0 || d_chance(10))
			break;
	}
	snprintf(args, sizeof args, "{\"approval\":%lld,\"decision\":\"%s\",\"reason\":\"%s\"}", (long long)(d_chance(97) ? id : 815),
		 d_chance(75) ? "approve" : d_chance(90) ? "reject" : "maybe", reason());
	door("decide", person(), args);
}

static void op_send_event(void)
{
	char args[256];
	bool ping = d_chance(60);

	snprintf(args, sizeof args, "{\"name\":\"%s\",\"key\":\"%lld\",\"payload\":%s}", d_chance(97) ? ping ? "diff.ping" : "diff.hurry" : "",
		 ping ? (long long)d_rnd(3) : (long long)some_run(), d_chance(80) ? "{\"door\":\"front\"}" : d_chance(50) ? "null" : "[1,2.5]");
	door("send_event", "tester", args);
}

static void op_operate(void)
{
	static const char *const actions[] = { "retry", "retry", "skip", "give_up", "undo", "undo", "dance" };
	char args[256];
	const char *more = d_chance(60) ? "" : d_chance(50) ? ",\"happened\":true" : ",\"happened\":false";

	snprintf(args, sizeof args, "{\"run\":%lld,\"action\":\"%s\",\"reason\":\"%s\"%s%s}", (long long)(d_chance(85) ? run_in(HP_HELD) : some_run()),
		 actions[d_rnd(7)], reason(), d_chance(40) ? ",\"value\":{\"id\":\"by hand\"}" : "", more);
	door("operate", "olga", args);
}

static void op_of_run(const char *name, int64_t run)
{
	char args[256];

	snprintf(args, sizeof args, "{\"run\":%lld,\"reason\":\"%s\"}", (long long)run, reason());
	door(name, "olga", args);
}

static int64_t paused_run(void)
{
	const json_t *p = d_any("paused");

	return p && d_chance(85) ? hp_json_int(p, "run", 1) : some_run();
}

static void op_door_start(void)
{
	char args[1024], in[64], k[600];

	snprintf(args, sizeof args, "{\"workflow\":\"%s\",\"input\":%s,\"key\":\"%s\"}", workflow(), d_chance(97) ? "{\"n\":4,\"shared\":1}" : "7",
		 key(k, sizeof k));
	(void)in;
	door("start", "alice", args);
}

static void op_read(void)
{
	static const char *const names[] = { "run", "history", "why", "why", "children", "approval" };
	const char *name = names[d_rnd(6)];
	char args[96];

	if (strcmp(name, "approval") == 0)
		snprintf(args, sizeof args, "{\"approval\":%u}", 1 + d_rnd((uint32_t)d_rows("approval") + 2));
	else if (strcmp(name, "history") == 0 && d_chance(50))
		snprintf(args, sizeof args, "{\"run\":%lld,\"after\":%u,\"limit\":%u}", (long long)some_run(), d_rnd(9), d_rnd(6));
	else
		snprintf(args, sizeof args, "{\"run\":%lld}", (long long)some_run());
	door(name, "olga", args);
	d_common_answers();
}

/* Arguments that no door can read. */
static void op_bad_door(void)
{
	static const char *const names[] = { "decide", "cancel", "pause", "resume", "operate", "send_event", "start", "run", "history", "why" };
	static const char *const args[] = { "{}", "{\"run\":\"x\"}", "{\"run\":1.5,\"reason\":\"r\"}", "{\"run\":null}", "{\"approval\":-1,\"decision\":7,\"reason\":\"r\"}",
					    "{\"name\":5}", "{\"workflow\":[],\"key\":1}", "{\"run\":-1,\"reason\":\"r\"}", "{\"run\":0}" };
	static char op[64];
	const char *name = names[d_rnd(10)], *text = args[d_rnd(9)];

	d_door(name, "olga", text);
	d_common_answers();
	snprintf(op, sizeof op, "%s, bad arguments", name);
	d_say(op, "olga: %s %s", name, text);
}

void d_door_op(void)
{
	uint32_t x = d_rnd(100);

	if (x < 22)
		op_start();
	else if (x < 26)
		op_door_start();
	else if (x < 34)
		op_ingest();
	else if (x < 48)
		op_decide();
	else if (x < 60)
		op_send_event();
	else if (x < 68)
		op_operate();
	else if (x < 72)
		op_of_run("cancel", some_run());
	else if (x < 75)
		op_of_run("pause", some_run());
	else if (x < 80)
		op_of_run("resume", paused_run());
	else if (x < 96)
		op_read();
	else
		op_bad_door();
}
