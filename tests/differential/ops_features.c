/* ops_features.c: schedules, breakers, secrets, definitions: doors with figures of their own. */
#include "diff.h"

#include <stdio.h>
#include <string.h>

#include "core/breaker.h"
#include "core/schedule.h"
#include "core/zone.h"
#include "script/zone.h"

static void door(const char *name, const char *who, const char *args)
{
	static char op[64];

	d_door(name, who, args);
	snprintf(op, sizeof op, "%s", name);
	d_say(op, "%s: %s %s", who, name, args);
}

/* ---- schedules ---- */

static json_t *numbers(const int64_t *v, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_integer(v[i]));
	return list;
}

/* As an engine plans it (core/schedule.c), for a row that schedules_due gave. */
static void plan(const json_t *row, struct hp_schedule_plan *p)
{
	const json_t *spec = json_object_get(row, "spec");
	struct hp_arena *a = hp_arena_new(1 << 20);
	struct hp_error err = { 0 };
	struct hp_zone zone;
	struct hp_schedule s = { .name = hp_json_str(row, "schedule"), .zone = &zone,
				 .catch_up = (enum hp_catch_up)hp_catch_up_of(hp_json_str(spec, "catch_up")),
				 .overlap = (enum hp_overlap)hp_overlap_of(hp_json_str(spec, "overlap")) };

	d_need(a && hp_cron_parse(hp_json_str(spec, "cron"), &s.cron, &err) == 0 &&
	       hp_zone_load(hp_json_str(spec, "zone"), a, &zone, &err) == 0, "schedule", err.message);
	hp_schedule_plan(&s, hp_json_int(row, "position", d_now), d_now, hp_json_bool(row, "busy", 0) != 0,
			 hp_json_int(row, "idle_since", 0), p);
	hp_arena_free(a);
}

static void op_fire(void)
{
	json_t *rows, *args;
	const json_t *row;
	struct hp_schedule_plan p;
	char *text;
	size_t n;

	d_door("schedules_due", "engine", "{\"limit\":20}");
	rows = json_incref(json_object_get(json_object_get(d_answers[D_MEM].v, "answer"), "schedules"));
	n = json_array_size(rows);
	if (n == 0 || d_chance(20) || !json_equal(d_answers[0].v, d_answers[1].v)) {
		d_say("schedules_due", "an engine asks for due schedules");
		json_decref(rows);
		return;
	}
	row = json_array_get(rows, d_rnd((uint32_t)n));
	plan(row, &p);
	args = json_pack("{s:O, s:O, s:I, s:o, s:I, s:I, s:I, s:I, s:o}", "workflow", json_object_get(row, "workflow"), "index",
			 json_object_get(row, "index"), "version", (json_int_t)(hp_json_int(row, "version", 0) - (d_chance(8) ? 1 : 0)), "start",
			 numbers(p.start, p.n_start), "skipped", (json_int_t)p.skipped, "missed_until", (json_int_t)p.missed_until, "position",
			 (json_int_t)p.position, "look", (json_int_t)p.look, "ahead", numbers(p.ahead, p.n_ahead));
	text = json_dumps(args, JSON_COMPACT);
	door("schedule_fire", "engine", text);
	if (hp_json_str(json_object_get(d_answers[D_PG].v, "answer"), "outcome"))
		for (int i = 0; i < 2; i++)
			json_object_set_new(d_answers[i].v, "outcome",
					    json_string(hp_json_str(json_object_get(d_answers[i].v, "answer"), "outcome")));
	free(text);
	json_decref(args);
	json_decref(rows);
}

static void op_schedule(void)
{
	static const char *const names[] = { "schedule_pause", "schedule_resume", "schedule_run", "schedule", "schedules" };
	const json_t *row = d_any("schedule");
	bool paused = hp_json_int(row, "paused_at", 0) > 0;
	const char *name = paused && d_chance(25) ? "schedule_pause" : names[d_rnd(5)];
	char args[160];

	if (strcmp(name, "schedules") == 0)
		snprintf(args, sizeof args, "{}");
	else
		snprintf(args, sizeof args, "{\"schedule\":\"%s\",\"reason\":\"%s\"}", row && d_chance(90) ? hp_json_str(row, "workflow") : "nobody",
			 d_chance(90) ? "drawn" : "");
	door(name, "olga", args);
}

/* ---- breakers ---- */

static void op_breaker(void)
{
	static const char *const names[] = { "breaker_open", "breaker_close", "breaker_reset", "breaker_reset", "breaker", "breaker_report", "breaker_trip" };
	const char *name = names[d_rnd(7)], *of = d_chance(94) ? "peer" : "nobody";
	const json_t *row = d_any("breaker");
	char args[320];

	if (strcmp(name, "breaker_report") == 0)
		snprintf(args, sizeof args, "{\"breaker\":\"%s\",\"width\":10000000,\"in_row\":%u,\"well\":%s,\"buckets\":[[%lld,%u,%u,%u]]}", of, d_rnd(4),
			 d_chance(50) ? "true" : "false", (long long)(d_now / 10000000 - d_rnd(2)), 1 + d_rnd(5), d_rnd(3), d_rnd(2));
	else if (strcmp(name, "breaker_trip") == 0)
		snprintf(args, sizeof args, "{\"breaker\":\"%s\",\"version\":%lld,\"open_us\":20000000,\"slow_us\":%u,\"probes\":%u,\"reason\":\"3 of 4 failed\"}",
			 of, (long long)(hp_json_int(row, "version", 0) - (d_chance(10) ? 1 : 0)), d_chance(50) ? 0 : 3000000, 1 + d_rnd(3));
	else
		snprintf(args, sizeof args, "{\"breaker\":\"%s\",\"reason\":\"%s\"}", of, d_chance(92) ? "drawn" : "");
	door(name, strncmp(name, "breaker_r", 9) == 0 || strncmp(name, "breaker_t", 9) == 0 ? "engine" : "olga", args);
}

/* ---- secrets ---- */

/* A version that there may be: mostly one that was reserved. */
static int64_t drawn_version(const char *of)
{
	for (size_t i = 0; i < d_rows("secret"); i++) {
		const char *name = hp_json_str(d_row("secret", i), "name");
		int64_t last = hp_json_int(d_row("secret", i), "last_version", 0);

		if (name && strcmp(name, of) == 0 && last > 0 && d_chance(75))
			return d_chance(70) ? last : 1 + d_rnd((uint32_t)last);
	}
	return 1 + d_rnd((uint32_t)d_rows("secret_version") + 2);
}

static const json_t *pending_version(void)
{
	size_t n = d_rows("secret_version"), first = n ? d_rnd((uint32_t)n) : 0;

	for (size_t i = 0; i < n; i++) {
		const json_t *row = d_row("secret_version", (first + i) % n);

		if (strcmp(hp_json_str(row, "state"), "pending") == 0)
			return row;
	}
	return NULL;
}

/* The life of a version, step by step: reserved, given its value, promoted, retired. Names and
 * numbers that are drawn hardly ever meet. */
static void op_version(void)
{
	const json_t *of = d_any("secret"), *row = pending_version();
	char args[240], version[40] = "";

	if (!row || d_chance(30))
		row = d_any("secret_version");
	if (!of || d_chance(10)) {
		door("secret_reserve", "engine", d_chance(80) ? "{\"name\":\"API_KEY\"}" : "{\"name\":\"OTHER\"}");
	} else if (!row || d_chance(40)) {
		snprintf(args, sizeof args, "{\"name\":\"%s\",\"version\":%lld,\"sealed\":\"AAAA\",\"key_id\":\"k1\",\"fingerprint\":\"f\"}",
			 hp_json_str(of, "name"), (long long)hp_json_int(of, "last_version", 0));
		door("secret_put", "engine", args);
	} else if (d_chance(20)) {
		snprintf(args, sizeof args, "{\"name\":\"%s\",\"version\":%lld,\"sealed\":\"QUJD\",\"key_id\":\"k2\",\"was\":\"k1\"}",
			 hp_json_str(row, "name"), (long long)hp_json_int(row, "version", 0));
		door("secret_reseal", "engine", args);
	} else {
		bool pending = strcmp(hp_json_str(row, "state"), "pending") == 0;

		if (!pending || d_chance(70)) /* without one it is the newest that is pending, or the one before */
			snprintf(version, sizeof version, ",\"version\":%lld", (long long)hp_json_int(row, "version", 0));
		snprintf(args, sizeof args, "{\"name\":\"%s\"%s}", hp_json_str(row, "name"), version);
		door(pending && d_chance(60) ? "secret_promote" : "secret_retire", "engine", args);
	}
}

static void op_secret(void)
{
	static const char *const names[] = { "secret_reserve", "secret_put", "secret_put", "secret_promote", "secret_retire", "secret_reseal", "secret_reseal", "secrets", "secrets_live" };
	static const char *const sealed[] = { "AAAA", "QUJD", "QQ==", "not base64", "AAA", "A A A A", "=AAA" };
	const char *name = names[d_rnd(9)], *of = d_chance(85) ? "API_KEY" : d_chance(80) ? "OTHER" : d_chance(50) ? "bad name" : "NOBODY";
	char args[320], version[40] = "";

	if (d_chance(50)) {
		op_version();
		return;
	}
	if (d_chance(70) || strcmp(name, "secret_put") == 0 || strcmp(name, "secret_reseal") == 0)
		snprintf(version, sizeof version, ",\"version\":%lld", (long long)drawn_version(of));
	snprintf(args, sizeof args, "{\"name\":\"%s\"%s}", of, version);
	if (strcmp(name, "secret_put") == 0)
		snprintf(args, sizeof args, "{\"name\":\"%s\"%s,\"sealed\":\"%s\",\"key_id\":\"k1\",\"fingerprint\":\"f\"%s%s}", of, version,
			 sealed[d_rnd(d_chance(70) ? 3 : 7)], d_chance(30) ? ",\"state\":\"current\"" : d_chance(90) ? "" : ",\"state\":\"retired\"",
			 d_chance(80) ? "" : ",\"expires_in\":100");
	else if (strcmp(name, "secret_reseal") == 0)
		snprintf(args, sizeof args, "{\"name\":\"%s\"%s,\"sealed\":\"%s\",\"key_id\":\"k2\",\"was\":\"%s\"}", of, version,
			 sealed[d_rnd(d_chance(70) ? 3 : 7)], d_chance(70) ? "k1" : "k9");
	else if (strcmp(name, "secrets") == 0 && d_chance(50))
		snprintf(args, sizeof args, "{}");
	else if (strcmp(name, "secrets_live") == 0)
		snprintf(args, sizeof args, "{\"serial\":%u}", d_rnd(6));
	door(name, "engine", args);
}

/* ---- definitions ---- */

static void op_definitions(void)
{
	uint8_t digest[HP_SHA256_LEN] = { 0 };

	if (d_chance(50)) {
		for (int i = 0; i < 2; i++) {
			d_store(i)->ops->current(d_store(i), d_on_bundle, d_begin(i));
			d_await(i);
		}
		d_say("current", "the current definitions");
		return;
	}
	if (d_chance(80))
		memcpy(digest, hp_workflow_definition(d_flows[d_rnd((uint32_t)d_n_flows)].w)->digest, sizeof digest);
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->bundle(d_store(i), digest, d_on_bundle, d_begin(i));
		d_await(i);
	}
	d_say("bundle", "the definition with digest %02x…", digest[0]);
}

void d_feature_op(void)
{
	uint32_t x = d_rnd(100);

	if (x < 25)
		op_fire();
	else if (x < 40)
		op_schedule();
	else if (x < 65)
		op_breaker();
	else if (x < 92)
		op_secret();
	else
		op_definitions();
}
