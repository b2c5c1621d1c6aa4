/* Simulated providers: routes, ids, forms, faults, outbox, and a restart in between. */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "lib/suite.h"
#include "script/script.h"

static char dir[PATH_MAX];
static struct hp_fake *f;
static struct hp_error err;
static struct hp_fake_response rs;
static int64_t now;

static const char source[] =
	"local kept\n"
	"local function find(req, db) return db.refunds[req.params.id] end\n"
	"return fake 'pay' {\n"
	"  init = function(db) db.refunds = {} db.log = {} end,\n"
	"  routes = {\n"
	"    { 'POST', '/v1/refunds', function(req, db, ctx)\n"
	"        local r = { id = ctx.id('re_'), amount = tonumber(req.form.amount), meta = req.form.metadata,\n"
	"                    at = ctx.now, print = sha256(req.body) }\n"
	"        db.refunds[r.id] = r\n"
	"        ctx.webhook { body = { type = 'refund.created', id = r.id, z = 1, a = { 1.5, 2 } } }\n"
	"        return { status = 200, json = r, headers = { ['request-id'] = ctx.id 'req_' } }\n"
	"      end },\n"
	"    { 'GET', '/v1/refunds/:id', function(req, db)\n"
	"        local r = find(req, db)\n"
	"        if r then return { status = 200, json = r } end\n"
	"        return { status = 404, json = { error = 'no such refund ' .. req.params.id } }\n"
	"      end },\n"
	"    { 'POST', '/echo', function(req) return { status = 200, json = { json = req.json, form = req.form,\n"
	"        q = req.query, m = req.method, h = req.headers['x-y'], n = #req.body } } end },\n"
	"    { 'POST', '/two', function(req, db, ctx)\n"
	"        for i = 1, 2 do ctx.webhook { source = 'other', scheme = 'standard', secret = 'S', id = 'm' .. i,\n"
	"          headers = { ['x-kind'] = 'two' }, delay = i, body = '{ \"raw\" :  ' .. i .. '}' } end\n"
	"        return { status = 202, body = 'ok' } end },\n"
	"    { 'POST', '/fails', function(req, db, ctx) db.log[1] = 'x' ctx.webhook { body = {} } error('broken') end },\n"
	"    { 'POST', '/loops', function(req, db) db.log[1] = 'x' while true do end end },\n"
	"    { 'POST', '/keep', function(req, db, ctx) kept = ctx return { status = 204 } end },\n"
	"    { 'POST', '/use', function(req, db, ctx) return kept.id() end },\n"
	"    { 'POST', '/cut', function(req, db, ctx) ctx.reset() ctx.delay(1.5) end },\n"
	"    { 'POST', '/bad', function(req, db, ctx) return { status = 200, jsn = {} } end },\n"
	"    { 'POST', '/badhook', function(req, db, ctx) ctx.webhook { bdy = {} } end },\n"
	"    { 'POST', '/split', function() return { status = 200, headers = { a = 'b\\r\\nc: d' } } end },\n"
	"  },\n"
	"  emit = function(event, db, ctx) db.log[#db.log + 1] = event.type\n"
	"    ctx.webhook { body = event } end,\n"
	"}\n";

static void write_fake(const char *name, const char *text)
{
	char path[PATH_MAX + 64];
	FILE *out;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/%s/fake.lua", dir, name);
	out = fopen(path, "w");
	ck_assert_ptr_nonnull(out);
	fputs(text, out);
	fclose(out);
}

static void setup(void)
{
	const char *base = getenv("TMPDIR");

	snprintf(dir, sizeof dir, "%s/hp-fake-XXXXXX", base ? base : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	write_fake("pay", source);
	now = 1000 * HP_SECOND;
	f = hp_fake_load("pay", dir, (struct hp_bytes){NULL, 0}, &err);
	ck_assert_msg(f != NULL, "%s", err.message);
}

static void teardown(void)
{
	char path[PATH_MAX + 64];
	const char *const names[] = {"pay", "bad"};
	size_t i;

	hp_fake_free(f);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/%s/fake.lua", dir, names[i]);
		unlink(path);
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		rmdir(path);
	}
	rmdir(dir);
}

/* The process dies and comes back with what was persisted. */
static void restart(void)
{
	struct hp_buf state;

	hp_buf_init(&state, 1 << 24);
	ck_assert_int_eq(hp_fake_state(f, &state, &err), 0);
	hp_fake_free(f);
	f = hp_fake_load("pay", dir, hp_buf_bytes(&state), &err);
	ck_assert_msg(f != NULL, "%s", err.message);
	hp_buf_free(&state);
}

static const char *form_type = "application/x-www-form-urlencoded";

static const char *ask(const char *method, const char *path, const char *type, const char *body)
{
	const char *headers[3][2] = {{"content-type", type ? type : ""}, {"idempotency-key", "k1"},
				     {"x-y", "yes"}};
	const char *query[1][2] = {{"limit", "3"}};
	struct hp_fake_request rq = {.method = method, .path = path, .headers = headers, .n_headers = 3,
				     .query = query, .n_query = 1, .body = hp_bytes_of(body), .now = now};

	ck_assert_msg(hp_fake_handle(f, &rq, &rs, &err) == 0, "%s", err.message);
	return rs.body.p ? rs.body.p : "";
}

static json_t *state(void)
{
	const char *text = ask("GET", "/_fake/state", NULL, NULL);
	json_t *v = hp_json_parse(text, strlen(text), "state", &err);

	ck_assert_msg(v != NULL, "%s", err.message);
	return v;
}

static size_t count(const char *list)
{
	json_t *v = state(), *l = hp_json_path(v, list);
	size_t n = json_is_object(l) ? json_object_size(l) : json_array_size(l);

	json_decref(v);
	return n;
}

static json_t *outbox(int64_t *next)
{
	struct hp_buf out;
	json_t *v;

	hp_buf_init(&out, 1 << 20);
	ck_assert_int_eq(hp_fake_outbox(f, now, &out, next, &err), 0);
	v = hp_json_parse(out.p, out.n, "outbox", &err);
	ck_assert_msg(v != NULL, "%s", err.message);
	hp_buf_free(&out);
	return v;
}

static void fault(const char *json)
{
	ck_assert_str_eq(ask("POST", "/_fake/faults", NULL, json), "{\"ok\":true}");
}

START_TEST(routes_answer)
{
	ck_assert_ptr_nonnull(strstr(ask("POST", "/v1/refunds", form_type, "amount=500&metadata[run]=r1"),
				     "\"amount\":500,\"at\":1000000000,\"id\":\"re_"));
	ck_assert_int_eq(rs.status, 200);
	ck_assert_str_eq(rs.content_type, "application/json");
	ck_assert_int_eq(rs.n_headers, 1);
	ck_assert_str_eq(rs.headers[0][0], "request-id");
	ck_assert_ptr_nonnull(strstr(rs.body.p, "\"meta\":{\"run\":\"r1\"}"));
	{
		uint8_t hash[HP_SHA256_LEN];
		char hex[HP_SHA256_HEX];

		hp_sha256("amount=500&metadata[run]=r1", 27, hash);
		hp_hex(hash, sizeof hash, hex);
		ck_assert_ptr_nonnull(strstr(rs.body.p, hex)); /* the fake's own sha256 */
	}
	ck_assert_str_eq(ask("GET", "/v1/refunds/re%5F1", NULL, NULL), "{\"error\":\"no such refund re_1\"}");
	ck_assert_int_eq(rs.status, 404);
	ck_assert_ptr_nonnull(strstr(ask("GET", "/v1/refunds", NULL, NULL), "no route for GET /v1/refunds"));
	ck_assert_ptr_nonnull(strstr(ask("GET", "/v1/refunds/", NULL, NULL), "no route"));
	ck_assert_ptr_nonnull(strstr(ask("GET", "/v1/refunds/a/b", NULL, NULL), "no route"));
	ck_assert_str_eq(ask("POST", "/two", NULL, NULL), "ok");
	ck_assert_str_eq(rs.content_type, "text/plain; charset=utf-8");
}
END_TEST

START_TEST(bodies_are_decoded)
{
	ck_assert_str_eq(ask("POST", "/echo", "application/json; charset=utf-8", "{\"a\":[]}"),
			 "{\"h\":\"yes\",\"json\":{\"a\":[]},\"m\":\"POST\",\"n\":8,\"q\":{\"limit\":\"3\"}}");
	ck_assert_ptr_null(strstr(ask("POST", "/echo", "application/json", "{broken"), "json"));
	ck_assert_ptr_nonnull(strstr(ask("POST", "/echo", NULL, "\xff\xfe"), "\"n\":2"));
}
END_TEST

struct form {
	const char *body, *json;
};

START_TEST(forms_nest)
{
	static const struct form forms[] = {
		{"a=1&b=two+words%21", "{\"a\":\"1\",\"b\":\"two words!\"}"},
		{"a[b]=1&a[c][d]=2", "{\"a\":{\"b\":\"1\",\"c\":{\"d\":\"2\"}}}"},
		{"a[0][b]=x&a[1][b]=y", "{\"a\":[{\"b\":\"x\"},{\"b\":\"y\"}]}"},
		{"a[]=x&a[]=y", "{\"a\":[\"x\",\"y\"]}"},
		{"a[1]=x", "{\"a\":{\"1\":\"x\"}}"},
		{"a%5Bb%5D=1", "{\"a\":{\"b\":\"1\"}}"},
		{"0=x", "{\"0\":\"x\"}"},
		{"a=1&a=2", "{\"a\":\"2\"}"},
		{"a=1&a[b]=2", "{\"a\":{\"b\":\"2\"}}"},
		{"a&b=&&c=%zz%4", "{\"a\":\"\",\"b\":\"\",\"c\":\"%zz%4\"}"},
		{"a[b=1&c]=2&[d]=3&e[f]g]=4", "{\"\":{\"d\":\"3\"},\"a[b\":\"1\",\"c]\":\"2\",\"e\":\"4\"}"},
		{"", "{}"},
	};
	char expected[300];
	size_t i;

	for (i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		const char *got = ask("POST", "/echo", form_type, forms[i].body);

		snprintf(expected, sizeof expected, "{\"form\":%s,", forms[i].json);
		ck_assert_msg(strncmp(got, expected, strlen(expected)) == 0, "%s\n--> %s", forms[i].body, got);
	}
	ck_assert_ptr_nonnull(strstr(ask("POST", "/v1/refunds", form_type, "amount=1&x=%ff"), "\"id\":\"re_"));
}
END_TEST

START_TEST(failures_change_nothing)
{
	const char *const paths[] = {"/fails", "/loops", "/bad", "/badhook", "/split"};
	const char *const says[] = {"pay/fake.lua:24: broken", "pay/fake.lua:25: stopped after 50 ms",
				    "a response has no field \\\"jsn\\\"", "ctx.webhook has no field \\\"bdy\\\"",
				    "header a has a line break"};
	size_t i;

	for (i = 0; i < 5; i++) {
		const char *got = ask("POST", paths[i], NULL, NULL);

		ck_assert_int_eq(rs.status, 500);
		ck_assert_int_eq(rs.n_headers, 0);
		ck_assert_msg(strstr(got, says[i]) != NULL, "%s", got);
	}
	ck_assert_uint_eq(count("db.log"), 0);
	ck_assert_uint_eq(count("outbox"), 0);
	ck_assert_uint_eq(count("requests"), 5);
	/* the one that was stopped took its Lua state along; the fake goes on */
	ck_assert_ptr_nonnull(strstr(ask("POST", "/v1/refunds", form_type, "amount=1"), "re_"));
}
END_TEST

START_TEST(a_restart_changes_nothing)
{
	char first[100], body[500], *id;
	json_t *a, *b;

	snprintf(body, sizeof body, "%s", ask("POST", "/v1/refunds", form_type, "amount=500"));
	fault("{\"match\":\"*\",\"kind\":\"status\",\"status\":503,\"times\":2}");
	id = strstr(body, "re_");
	snprintf(first, sizeof first, "/v1/refunds/%.27s", id);
	a = state();
	restart();
	b = state();
	ck_assert(json_equal(a, b));
	json_decref(a);
	json_decref(b);
	ask("GET", first, NULL, NULL);
	ck_assert_int_eq(rs.status, 503);
	restart();
	ask("GET", first, NULL, NULL);
	ck_assert_int_eq(rs.status, 503);
	ck_assert_str_eq(ask("GET", first, NULL, NULL), body);
	/* the counter goes on: a second refund is not the first */
	ck_assert_ptr_null(strstr(ask("POST", "/v1/refunds", form_type, "amount=500"), first + 12));
	ck_assert_uint_eq(count("db.refunds"), 2);
}
END_TEST

START_TEST(ctx_is_for_one_request)
{
	ask("POST", "/keep", NULL, NULL);
	ck_assert_int_eq(rs.status, 204);
	ck_assert_uint_eq(rs.body.n, 0);
	/* the second request's call is under way: the ids go on */
	ck_assert_ptr_nonnull(strstr(ask("POST", "/use", NULL, NULL), "a route returned no"));
}
END_TEST

/* Each allocation of a load and of a request fails once: an error or an answer, never
 * a crash or a leak. */
START_TEST(allocations_may_fail)
{
	const char *headers[1][2] = {{"content-type", form_type}};
	struct hp_fake_request rq = {.method = "POST", .path = "/v1/refunds", .headers = headers, .n_headers = 1,
				     .body = hp_bytes_of("amount=5&a[0][b]=c"), .now = now};
	unsigned long n, total;
	struct hp_fake *g;

	hp_alloc_fail_at(0);
	g = hp_fake_load("pay", dir, (struct hp_bytes){NULL, 0}, &err);
	ck_assert_ptr_nonnull(g);
	ck_assert_int_eq(hp_fake_handle(g, &rq, &rs, &err), 0);
	hp_fake_free(g);
	total = hp_alloc_count();
	for (n = 1; n <= total; n++) {
		hp_alloc_fail_at(n);
		err.message[0] = '\0';
		g = hp_fake_load("pay", dir, (struct hp_bytes){NULL, 0}, &err);
		if (!g)
			ck_assert_msg(err.message[0] != '\0', "silent at %lu", n);
		else if (hp_fake_handle(g, &rq, &rs, &err) < 0)
			ck_assert_msg(err.message[0] != '\0', "silent at %lu", n);
		hp_fake_free(g);
	}
	hp_alloc_fail_at(0);
}
END_TEST

START_TEST(ids_are_reproducible)
{
	char first[500];

	snprintf(first, sizeof first, "%s", ask("POST", "/v1/refunds", form_type, "amount=500"));
	ask("POST", "/_fake/reset", NULL, NULL);
	ck_assert_uint_eq(count("db.refunds"), 0);
	ck_assert_uint_eq(count("requests"), 0);
	ck_assert_str_eq(ask("POST", "/v1/refunds", form_type, "amount=500"), first);
}
END_TEST

START_TEST(requests_are_journaled)
{
	json_t *v, *r;
	uint8_t hash[HP_SHA256_LEN];
	char hex[HP_SHA256_HEX];

	ask("POST", "/v1/refunds", form_type, "amount=500");
	v = state();
	r = json_array_get(json_object_get(v, "requests"), 0);
	hp_sha256("amount=500", 10, hash);
	hp_hex(hash, sizeof hash, hex);
	ck_assert_str_eq(hp_json_str(r, "body_sha256"), hex);
	ck_assert_str_eq(hp_json_str(r, "method"), "POST");
	ck_assert_str_eq(hp_json_str(r, "path"), "/v1/refunds");
	ck_assert_str_eq(hp_json_str(r, "key"), "k1");
	ck_assert_int_eq(hp_json_int(r, "status", 0), 200);
	ck_assert_int_eq(hp_json_int(r, "n", 0), 1);
	json_decref(v);
}
END_TEST

START_TEST(journal_is_bounded)
{
	json_t *v;
	int i;

	for (i = 0; i < 10010; i++)
		ask("GET", "/nothing", NULL, NULL);
	ck_assert_uint_eq(count("requests"), 10000);
	v = state();
	ck_assert_int_eq(hp_json_int(v, "requests_total", 0), 10010);
	ck_assert_int_eq(hp_json_int(json_array_get(json_object_get(v, "requests"), 0), "n", 0), 11);
	json_decref(v);
}
END_TEST

START_TEST(faults_happen)
{
	fault("{\"match\":\"POST /v1/refunds\",\"kind\":\"status\",\"status\":429,\"body\":{\"e\":1},"
	      "\"headers\":{\"retry-after\":\"7\"}}");
	ck_assert_str_eq(ask("POST", "/v1/refunds", form_type, "amount=1"), "{\"e\":1}");
	ck_assert_int_eq(rs.status, 429);
	ck_assert_str_eq(rs.headers[0][1], "7");
	ck_assert_uint_eq(count("db.refunds"), 0);
	fault("{\"match\":\"POST /v1/refunds\",\"kind\":\"reset_before\"}");
	ask("POST", "/v1/refunds", form_type, "amount=1");
	ck_assert(rs.reset);
	ck_assert_uint_eq(count("db.refunds"), 0);
	fault("{\"match\":\"POST /v1/refunds\",\"kind\":\"reset_after\",\"times\":2}");
	ask("POST", "/v1/refunds", form_type, "amount=1");
	ck_assert(rs.reset);
	ck_assert_int_eq(rs.delay_us, 0);
	ck_assert_uint_eq(count("db.refunds"), 1);
	ask("POST", "/v1/refunds", form_type, "amount=1");
	ck_assert(rs.reset);
	fault("{\"match\":\"GET /v1/refunds/:id\",\"kind\":\"slow\",\"seconds\":2.5}");
	ask("POST", "/v1/refunds", form_type, "amount=1"); /* not this one */
	ck_assert(!rs.reset);
	ck_assert_int_eq(rs.delay_us, 0);
	ask("GET", "/v1/refunds/x", NULL, NULL);
	ck_assert_int_eq(rs.delay_us, 2500000);
	ck_assert_int_eq(rs.status, 404);
	fault("{\"match\":\"*\",\"kind\":\"lost_reply\"}");
	ask("POST", "/v1/refunds", form_type, "amount=1");
	ck_assert(rs.reset);
	ck_assert_int_eq(rs.delay_us, 60 * HP_SECOND);
	ck_assert_uint_eq(count("db.refunds"), 4);
	ck_assert_uint_eq(count("faults"), 0);
	ask("POST", "/cut", NULL, NULL);
	ck_assert(rs.reset);
	ck_assert_int_eq(rs.delay_us, 1500000);
}
END_TEST

START_TEST(wrong_faults_are_refused)
{
	static const char *const wrong[][2] = {
		{"{\"kind\":\"status\"}", "a fault needs \\\"match\\\""},
		{"{\"match\":\"*\",\"kind\":\"statsu\"}", "no kind \\\"statsu\\\""},
		{"{\"match\":\"*\",\"kind\":\"status\",\"status\":99}", "no final HTTP status"},
		{"{\"match\":\"*\",\"kind\":\"slow\",\"seconds\":-1}", "\\\"seconds\\\" is not"},
		{"{\"match\":\"*\",\"kind\":\"slow\",\"times\":0}", "\\\"times\\\" is less than 1"},
		{"nonsense", "the fault"},
		{"[]", "a fault needs"},
	};
	size_t i;

	for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		const char *got = ask("POST", "/_fake/faults", NULL, wrong[i][0]);

		ck_assert_int_eq(rs.status, 400);
		ck_assert_msg(strstr(got, wrong[i][1]) != NULL, "%s", got);
	}
	fault("{\"match\":\"*\",\"kind\":\"slow\"}");
	ask("DELETE", "/_fake/faults", NULL, NULL);
	ck_assert_uint_eq(count("faults"), 0);
	ask("GET", "/_fake/nothing", NULL, NULL);
	ck_assert_int_eq(rs.status, 404);
}
END_TEST

START_TEST(webhooks_are_delivered_until_accepted)
{
	static const int64_t pauses[] = {1, 2, 4, 8, 16, 30, 30};
	int64_t next;
	char id[100];
	json_t *due;
	size_t i;

	ask("POST", "/v1/refunds", form_type, "amount=1");
	for (i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
		static char bytes[300];
		json_t *e;

		due = outbox(&next);
		ck_assert_uint_eq(json_array_size(due), 1);
		e = json_array_get(due, 0);
		ck_assert_int_eq(hp_json_int(e, "attempt", 0), (int64_t)i + 1);
		ck_assert_str_eq(hp_json_str(e, "source"), "pay");
		ck_assert_str_eq(hp_json_str(e, "scheme"), "pay");
		ck_assert_str_eq(hp_json_str(e, "secret"), "PAY_WEBHOOK_SECRET");
		if (i == 0)
			snprintf(bytes, sizeof bytes, "%s", hp_json_str(e, "body"));
		ck_assert_str_eq(hp_json_str(e, "body"), bytes); /* every time the same */
		snprintf(id, sizeof id, "%s", hp_json_str(e, "id"));
		json_decref(due);
		ck_assert_int_eq(next, now + 30 * HP_SECOND);
		due = outbox(&next); /* on its way: not again */
		ck_assert_uint_eq(json_array_size(due), 0);
		json_decref(due);
		ck_assert_int_eq(hp_fake_delivered(f, id, i % 2 ? 500 : 0, now, &err), 0);
		due = outbox(&next);
		ck_assert_uint_eq(json_array_size(due), 0);
		json_decref(due);
		ck_assert_int_eq(next, now + pauses[i] * HP_SECOND);
		restart();
		now = next;
	}
	json_decref(outbox(&next));
	ck_assert_int_eq(hp_fake_delivered(f, id, 200, now, &err), 0);
	json_decref(outbox(&next));
	ck_assert(next == INT64_MAX);
	ck_assert_int_lt(hp_fake_delivered(f, id, 200, now, &err), 0);
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
}
END_TEST

START_TEST(webhooks_are_given_up)
{
	int64_t next = now;
	int i;

	ask("POST", "/v1/refunds", form_type, "amount=1");
	for (i = 0; i < 50; i++) {
		json_t *due;

		now = next;
		due = outbox(&next);
		ck_assert_uint_eq(json_array_size(due), 1);
		ck_assert_int_eq(hp_fake_delivered(f, hp_json_str(json_array_get(due, 0), "id"), 500, now, &err), 0);
		json_decref(due);
		json_decref(outbox(&next));
	}
	ck_assert(next == INT64_MAX);
	ck_assert_uint_eq(count("outbox"), 0);
	ck_assert_uint_eq(count("given_up"), 1);
}
END_TEST

START_TEST(own_fields_are_kept)
{
	int64_t next;
	json_t *due, *e;

	ask("POST", "/two", NULL, NULL);
	due = outbox(&next);
	ck_assert_uint_eq(json_array_size(due), 0);
	ck_assert_int_eq(next, now + HP_SECOND);
	json_decref(due);
	now = next;
	due = outbox(&next);
	ck_assert_uint_eq(json_array_size(due), 1);
	e = json_array_get(due, 0);
	ck_assert_str_eq(hp_json_str(e, "id"), "m1");
	ck_assert_str_eq(hp_json_str(e, "source"), "other");
	ck_assert_str_eq(hp_json_str(e, "scheme"), "standard");
	ck_assert_str_eq(hp_json_str(e, "secret"), "S");
	ck_assert_str_eq(hp_json_str(e, "body"), "{ \"raw\" :  1}");
	ck_assert_str_eq(hp_json_str(json_object_get(e, "headers"), "x-kind"), "two");
	json_decref(due);
	ask("POST", "/two", NULL, NULL); /* the same ids wait already */
	ck_assert_int_eq(rs.status, 500);
}
END_TEST

START_TEST(webhook_faults_happen)
{
	int64_t next;
	json_t *due, *e;
	int i;

	fault("{\"match\":\"POST /v1/refunds\",\"kind\":\"duplicate_webhook\"}");
	ask("POST", "/v1/refunds", form_type, "amount=1");
	ck_assert_uint_eq(count("faults"), 0);
	for (i = 0; i < 2; i++) { /* accepted, and there it is again */
		due = outbox(&next);
		ck_assert_uint_eq(json_array_size(due), 1);
		ck_assert_int_eq(hp_fake_delivered(f, hp_json_str(json_array_get(due, 0), "id"), 204, now, &err), 0);
		json_decref(due);
	}
	ck_assert_uint_eq(count("outbox"), 0);
	fault("{\"match\":\"POST /_fake/emit\",\"kind\":\"reorder_webhooks\",\"seconds\":3}");
	ck_assert_str_eq(ask("POST", "/_fake/emit", NULL, "{\"type\":\"first\"}"), "{\"ok\":true}");
	ask("POST", "/_fake/emit", NULL, "{\"type\":\"second\"}");
	due = outbox(&next);
	ck_assert_uint_eq(json_array_size(due), 1);
	e = json_array_get(due, 0);
	ck_assert_str_eq(hp_json_str(e, "body"), "{\"type\":\"second\"}");
	json_decref(due);
	ck_assert_int_eq(next, now + 3 * HP_SECOND);
	fault("{\"match\":\"POST /two\",\"kind\":\"reorder_webhooks\",\"seconds\":0}");
	ask("POST", "/two", NULL, NULL);
	now += 2 * HP_SECOND;
	due = outbox(&next);
	ck_assert_str_eq(hp_json_str(json_array_get(due, 0), "id"), "m2");
	ck_assert_str_eq(hp_json_str(json_array_get(due, 1), "id"), "m1");
	json_decref(due);
}
END_TEST

START_TEST(emit_reaches_the_fake)
{
	ck_assert_str_eq(ask("POST", "/_fake/emit", NULL, "{\"type\":\"order.failed\"}"), "{\"ok\":true}");
	ck_assert_uint_eq(count("db.log"), 1);
	ck_assert_uint_eq(count("outbox"), 1);
	ask("POST", "/_fake/emit", NULL, "not json");
	ck_assert_int_eq(rs.status, 400);
	ask("POST", "/_fake/emit", NULL, "{\"type\":{}}");
	ck_assert_int_eq(rs.status, 200);
}
END_TEST

static void refuses(const char *name, const char *text, const char *part)
{
	struct hp_fake *bad;

	if (text)
		write_fake("bad", text);
	bad = hp_fake_load(name, dir, (struct hp_bytes){NULL, 0}, &err);
	ck_assert_ptr_null(bad);
	ck_assert_msg(strstr(err.message, part) != NULL, "%s", err.message);
}

START_TEST(loading_says_what_is_wrong)
{
	static const char *const states[] = {"{}", "[]", "{\"db\":{},\"seq\":0,\"requests_total\":0,\"requests\":[],"
					     "\"given_up\":[],\"faults\":[{}],\"outbox\":[]}",
					     "{\"db\":{},\"seq\":0,\"requests_total\":0,\"requests\":[],"
					     "\"given_up\":[],\"faults\":[],\"outbox\":[{\"id\":\"x\"}]}"};
	size_t i;

	refuses("nosuch", NULL, "nosuch/fake.lua: ");
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
	refuses("../pay", NULL, "no name of a plugin");
	refuses("bad", "return {}", "does not return fake \"bad\"");
	refuses("bad", "return fake 'other' { routes = {} }", "this is the fake \"other\"");
	refuses("bad", "return fake 'bad' { route = {} }", "bad/fake.lua:1:");
	refuses("bad", "return fake 'bad' {}", "`routes` is not a list");
	refuses("bad", "return fake 'bad' { routes = { { 'GET', 'x', function() end } } }", "route 1 is not");
	refuses("bad", "return fake 'bad' { routes = {}, emit = 1 }", "`emit` is not a function");
	refuses("bad", "return fake 'bad' { routes = {}, init = function() error('no') end }", "fake.lua:1: no");
	refuses("bad", "retrun 1", "bad/fake.lua:1: syntax error");
	for (i = 0; i < sizeof states / sizeof states[0]; i++)
		ck_assert_ptr_null(hp_fake_load("pay", dir, hp_bytes_of(states[i]), &err));
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, routes_answer);
	tcase_add_test(tc, bodies_are_decoded);
	tcase_add_test(tc, forms_nest);
	tcase_add_test(tc, failures_change_nothing);
	tcase_add_test(tc, a_restart_changes_nothing);
	tcase_add_test(tc, ctx_is_for_one_request);
	tcase_add_test(tc, allocations_may_fail);
	tcase_add_test(tc, ids_are_reproducible);
	tcase_add_test(tc, requests_are_journaled);
	tcase_add_test(tc, journal_is_bounded);
	tcase_add_test(tc, faults_happen);
	tcase_add_test(tc, wrong_faults_are_refused);
	tcase_add_test(tc, webhooks_are_delivered_until_accepted);
	tcase_add_test(tc, webhooks_are_given_up);
	tcase_add_test(tc, own_fields_are_kept);
	tcase_add_test(tc, webhook_faults_happen);
	tcase_add_test(tc, emit_reaches_the_fake);
	tcase_add_test(tc, loading_says_what_is_wrong);
	return hp_run_case("script_fake", tc);
}
