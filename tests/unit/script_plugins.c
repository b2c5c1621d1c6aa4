/* The shipped connectors against the shipped simulated providers, without a
 * network: a request is rendered as the engine renders it, handed to the fake, and
 * the fake's answer is classified as the engine classifies it. What only the real
 * provider could answer is fed to the connectors as bytes.
 */
#include <stdio.h>
#include "base/arena.h"
#include "base/clock.h"
#include "core/machine.h"
#include "core/signature.h"
#include "lib/suite.h"
#include "script_help.h"

#define PAIRS_MAX 32
#define NOW (INT64_C(1752019200) * HP_SECOND) /* 2025-07-09T00:00:00Z */
#define INTENT "{\"payment_intent\":\"pi_3HoldpointDemo1\"}"
#define REFUND "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"amount\":50000,\"metadata\":{\"booking_id\":\"b\"}}"

static const char source[] =
	"local s, d, r = connector 'stripe', connector 'duffel', connector 'resend'\n"
	"local function op(name, o) return call(name) { o, with = '{input.arg}', key = '{input.key}', save = name } end\n"
	"local function look(name, o) return call(name) { o, with = '{input.arg}', save = name } end\n"
	"return workflow 't' {\n"
	"  op('create', s.refunds.create), look('list', s.refunds.list), look('get', s.refunds.retrieve),\n"
	"  look('order', d.orders.get), look('ping', d.ping), op('mail', r.emails.send), succeed 'done' {} }\n";

static struct hp_workflow *w;
static struct hp_fake *stripe, *duffel, *resend;
static struct hp_error err;
static struct hp_event ev;             /* what the last request came to */
static struct hp_buf request, reply;   /* back the event's bytes */
static struct hp_fake_response rs;
static int64_t now;
static const char *stripe_key;
static json_t *value;                  /* of the last success */

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "rb");
	char *text = calloc(1, 65536);

	ck_assert_msg(f && text, "%s", path);
	ck_assert_uint_lt(fread(text, 1, 65535, f), 65535);
	fclose(f);
	return text;
}

static void load_connectors(void)
{
	static const char *const names[] = {"stripe", "duffel", "resend"};
	json_t *connectors = json_object(), *bundle;
	struct hp_buf text;
	size_t i;

	for (i = 0; i < 3; i++) {
		char path[64], *lua;

		snprintf(path, sizeof path, "plugins/%s/connector.lua", names[i]);
		lua = read_text(path);
		json_object_set_new(connectors, names[i], json_pack("{s:s, s:s}", "file", path, "source", lua));
		free(lua);
	}
	bundle = json_pack("{s:o, s:{s:s, s:s}}", "connectors", connectors, "workflow", "file", "t.lua", "source", source);
	hp_buf_init(&text, HP_BUNDLE_MAX);
	ck_assert_int_eq(hp_json_write(&text, bundle, &err), 0);
	w = hp_workflow_load(hp_buf_bytes(&text), &err);
	ck_assert_msg(w != NULL, "%s", err.message);
	hp_buf_free(&text);
	json_decref(bundle);
}

static struct hp_fake *start(const char *name)
{
	struct hp_fake *f = hp_fake_load(name, "plugins", (struct hp_bytes){NULL, 0}, &err);

	ck_assert_msg(f != NULL, "%s", err.message);
	return f;
}

static void setup(void)
{
	now = NOW;
	stripe_key = "sk_test_holdpoint";
	value = NULL;
	hp_buf_init(&request, HP_VALUE_MAX);
	hp_buf_init(&reply, HP_VALUE_MAX);
	load_connectors();
	stripe = start("stripe");
	duffel = start("duffel");
	resend = start("resend");
}

static void teardown(void)
{
	hp_fake_free(stripe);
	hp_fake_free(duffel);
	hp_fake_free(resend);
	hp_workflow_free(w);
	hp_buf_free(&request);
	hp_buf_free(&reply);
	json_decref(value);
}

/* ---- asking the fakes ---- */

static const char *secret(void *arg, const char *name, const char *version)
{
	(void)version;
	(void)arg;
	if (strcmp(name, "STRIPE_SECRET_KEY") == 0)
		return stripe_key;
	return strcmp(name, "RESEND_API_KEY") == 0 ? "re_holdpoint" : "duffel_test_holdpoint";
}

static const char *base_url(void *arg, const char *connector)
{
	(void)arg;
	(void)connector;
	return "http://127.0.0.1:1";
}

/* "?a=b&c=d" into pairs; the values here need no decoding. */
static int split_query(struct hp_arena *a, const char *url, const char **path, const char *(*query)[2])
{
	char *rest = hp_arena_strdup(a, strstr(url, "://127.0.0.1:1") + strlen("://127.0.0.1:1"));
	char *q = strchr(rest, '?');
	int n = 0;

	*path = rest;
	while (q && n < PAIRS_MAX) {
		char *eq = strchr(q + 1, '=');

		*q = *eq = '\0';
		query[n][0] = q + 1;
		query[n++][1] = eq + 1;
		q = strchr(eq + 1, '&');
		if (n > 1 || q)
			query[n - 1][0] = eq - strlen(query[n - 1][0]);
	}
	return n;
}

static void serve(struct hp_fake *f, const struct hp_outgoing *o, struct hp_arena *a)
{
	const char *query[PAIRS_MAX][2];
	struct hp_fake_request rq = {.method = o->method, .headers = o->headers, .n_headers = o->n_headers,
				     .query = query, .body = o->body, .now = now};

	rq.n_query = split_query(a, o->url, &rq.path, query);
	ck_assert_msg(hp_fake_handle(f, &rq, &rs, &err) == 0, "%s", err.message);
}

/* Renders the request of a state into `request`. */
static void render(const char *state, const char *arg, const char *key)
{
	int i = hp_definition_find(hp_workflow_definition(w), state);
	json_t *input = json_pack("{s:o, s:s}", "arg", json_loads(arg, 0, NULL), "key", key);
	struct hp_run_data data = {.id = 1, .visit = 1, .installation = "i", .now = now};
	struct hp_run run = {.id = 1, .visit = 1, .state = i};
	struct hp_action act = {.type = HP_ACT_EVAL, .eval = HP_EVAL_REQUEST, .state = i};
	struct hp_buf text;

	hp_buf_init(&text, HP_INPUT_MAX);
	ck_assert(i >= 0 && input);
	ck_assert_int_eq(hp_json_write(&text, input, &err), 0);
	data.input = hp_buf_bytes(&text);
	hp_workflow_eval(w, &data, &run, &act, &reply, &ev);
	ck_assert_msg(ev.ok, "%s: %s", state, ev.message);
	hp_buf_clear(&request);
	ck_assert_int_eq(hp_buf_add(&request, ev.value.p, ev.value.n), 0);
	hp_buf_free(&text);
	json_decref(input);
}

static void classify(const struct hp_incoming *in)
{
	json_decref(value);
	hp_workflow_reply(w, hp_buf_bytes(&request), in, now, &reply, &ev);
	value = ev.ok ? hp_json_parse(ev.value.p, ev.value.n, "value", &err) : NULL;
}

static void send(struct hp_fake *f, const char *state, const char *arg, const char *key)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);
	struct hp_environment env = {.secret = secret, .base_url = base_url};
	const char *headers[PAIRS_MAX][2];
	struct hp_incoming in = {.answered = true, .headers = headers};
	struct hp_outgoing out;

	render(state, arg, key);
	ck_assert_msg(hp_workflow_outgoing(w, hp_buf_bytes(&request), &env, a, &out, &err) == 0, "%s", err.message);
	serve(f, &out, a);
	for (; in.n_headers < rs.n_headers; in.n_headers++) {
		headers[in.n_headers][0] = rs.headers[in.n_headers][0];
		headers[in.n_headers][1] = rs.headers[in.n_headers][1];
	}
	in.status = rs.status;
	in.body = rs.body;
	in.answered = !rs.reset;
	in.sent = true;
	classify(&in);
	hp_arena_free(a);
}

static void expect_failure(enum hp_class class, const char *code)
{
	ck_assert_msg(ev.outcome == class && ev.code && strcmp(ev.code, code) == 0, "%s %s (%s), not %s %s",
		      hp_class_name(ev.outcome), ev.code ? ev.code : "", ev.message ? ev.message : "",
		      hp_class_name(class), code);
}

static void expect_ok(void)
{
	ck_assert_msg(ev.outcome == HP_CLASS_OK, "%s: %s", ev.code, ev.message);
}

static void control(struct hp_fake *f, const char *path, const char *body)
{
	struct hp_fake_request rq = {.method = "POST", .path = path, .body = hp_bytes_of(body), .now = now};

	ck_assert_int_eq(hp_fake_handle(f, &rq, &rs, &err), 0);
	ck_assert_msg(rs.status == 200, "%s %s: %.*s", path, body, (int)rs.body.n, rs.body.p);
}

static size_t refunds(void)
{
	struct hp_buf text;
	json_t *state;
	size_t n;

	hp_buf_init(&text, 1 << 20);
	ck_assert_int_eq(hp_fake_state(stripe, &text, &err), 0);
	state = hp_json_parse(text.p, text.n, "state", &err);
	n = json_object_size(hp_json_path(state, "db.refunds"));
	json_decref(state);
	hp_buf_free(&text);
	return n;
}

static const char *argument(const char *state)
{
	if (strcmp(state, "create") == 0)
		return REFUND;
	if (strcmp(state, "order") == 0)
		return "{\"id\":\"ord_1\"}";
	if (strcmp(state, "mail") == 0)
		return "{\"from\":\"a@b.cd\",\"to\":[\"x@y.zz\"],\"subject\":\"s\",\"text\":\"t\"}";
	return "{}";
}

/* ---- Stripe ---- */

START_TEST(refund_is_made_once)
{
	char id[64];

	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	ck_assert_str_eq(hp_json_str(value, "status"), "pending");
	ck_assert_int_eq(hp_json_int(value, "amount", 0), 50000);
	ck_assert_str_eq(hp_json_path(value, "metadata.booking_id") ? hp_json_str(json_object_get(value, "metadata"), "booking_id") : "", "b");
	ck_assert_ptr_null(json_object_get(value, "destination_details")); /* stays at Stripe */
	snprintf(id, sizeof id, "%s", hp_json_str(value, "id"));
	ck_assert(strncmp(id, "re_", 3) == 0);
	now += 3600 * HP_SECOND;
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	ck_assert_str_eq(hp_json_str(value, "id"), id);
	ck_assert_str_eq(hp_json_str(value, "status"), "pending"); /* the stored reply, not today's truth */
	ck_assert_uint_eq(refunds(), 1);
	send(stripe, "list", INTENT, "");
	expect_ok();
	ck_assert_uint_eq(json_array_size(json_object_get(value, "data")), 1);
	ck_assert(json_is_false(json_object_get(value, "has_more")));
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(value, "data"), 0), "status"), "succeeded");
	send(stripe, "list", "{\"payment_intent\":\"pi_other\"}", "");
	ck_assert_uint_eq(json_array_size(json_object_get(value, "data")), 0);
}
END_TEST

START_TEST(refund_refused)
{
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	send(stripe, "create", "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"amount\":1}", "refund:1");
	expect_failure(HP_NEEDS_PERSON, "idempotency_error");
	send(stripe, "create", REFUND, "refund:2");
	expect_failure(HP_TERMINAL, "charge_already_refunded");
	send(stripe, "create", "{\"payment_intent\":\"pi_none\"}", "refund:3");
	expect_failure(HP_TERMINAL, "resource_missing");
	send(stripe, "get", "{\"id\":\"re_none\"}", "");
	expect_failure(HP_TERMINAL, "resource_missing");
	stripe_key = "pk_test_public";
	send(stripe, "create", REFUND, "refund:4");
	expect_failure(HP_NEEDS_PERSON, "unauthorized");
	ck_assert_uint_eq(refunds(), 1);
}
END_TEST

/* What fails before execution is not stored: the key may be used again. */
START_TEST(bad_parameters_are_not_stored)
{
	send(stripe, "create", "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"amount\":0}", "refund:1");
	expect_failure(HP_TERMINAL, "parameter_invalid_integer");
	send(stripe, "create", "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"amount\":50001}", "refund:2");
	expect_failure(HP_TERMINAL, "invalid_request_error");
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	send(stripe, "create", REFUND, "refund:2");
	expect_failure(HP_NEEDS_PERSON, "idempotency_error"); /* but this one ran */
}
END_TEST

/* A stored 500 is played back for ever: a person's, never a loop. */
START_TEST(stored_500)
{
	control(stripe, "/_fake/emit", "{\"type\":\"break\",\"times\":1,\"after_effect\":true}");
	send(stripe, "create", REFUND, "refund:1");
	expect_failure(HP_NEEDS_PERSON, "stored_error");
	ck_assert_uint_eq(refunds(), 1); /* and nobody could have known */
	send(stripe, "create", REFUND, "refund:1");
	expect_failure(HP_NEEDS_PERSON, "stored_error");
	ck_assert_uint_eq(refunds(), 1);
	send(stripe, "list", INTENT, "");
	expect_ok();
	ck_assert_uint_eq(json_array_size(json_object_get(value, "data")), 1);
}
END_TEST

START_TEST(unclear_500)
{
	control(stripe, "/_fake/faults", "{\"match\":\"POST /v1/refunds\",\"kind\":\"status\",\"status\":500}");
	send(stripe, "create", REFUND, "refund:1");
	expect_failure(HP_AMBIGUOUS, "http_500");
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	control(stripe, "/_fake/faults", "{\"match\":\"POST /v1/refunds\",\"kind\":\"reset_after\"}");
	send(stripe, "create", REFUND, "refund:2");
	ck_assert_int_eq(ev.outcome, HP_AMBIGUOUS);
}
END_TEST

START_TEST(key_in_use)
{
	char id[64];

	control(stripe, "/_fake/emit", "{\"type\":\"work\",\"seconds\":2}");
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	ck_assert_int_eq(rs.delay_us, 2 * HP_SECOND);
	snprintf(id, sizeof id, "%s", hp_json_str(value, "id"));
	now += HP_SECOND;
	send(stripe, "create", REFUND, "refund:1");
	expect_failure(HP_AMBIGUOUS, "idempotency_key_in_use");
	now += HP_SECOND;
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	ck_assert_str_eq(hp_json_str(value, "id"), id);
	ck_assert_uint_eq(refunds(), 1);
}
END_TEST

/* Why a window is declared, and why the engine looks first once it has passed. */
START_TEST(keys_are_forgotten)
{
	const char *part = "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"amount\":100}";
	const char *mail = argument("mail");
	char id[64];

	send(stripe, "create", part, "refund:1");
	send(resend, "mail", mail, "mail:1");
	snprintf(id, sizeof id, "%s", hp_json_str(value, "id"));
	now += 24 * HP_HOUR - 1;
	send(stripe, "create", part, "refund:1");
	expect_ok();
	ck_assert_uint_eq(refunds(), 1);
	send(resend, "mail", mail, "mail:1");
	ck_assert_str_eq(hp_json_str(value, "id"), id);
	now += 1;
	send(stripe, "create", part, "refund:1");
	expect_ok();
	ck_assert_uint_eq(refunds(), 2);
	send(resend, "mail", mail, "mail:1");
	ck_assert_str_ne(hp_json_str(value, "id"), id);
}
END_TEST

START_TEST(list_pages)
{
	char last[200];
	int i;

	for (i = 0; i < 5; i++) {
		char key[32];

		snprintf(key, sizeof key, "k%d", i);
		send(stripe, "create", "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"amount\":10}", key);
		expect_ok();
	}
	send(stripe, "list", "{\"payment_intent\":\"pi_3HoldpointDemo1\",\"limit\":3}", "");
	ck_assert_uint_eq(json_array_size(json_object_get(value, "data")), 3);
	ck_assert(json_is_true(json_object_get(value, "has_more")));
	snprintf(last, sizeof last, "{\"limit\":3,\"starting_after\":\"%s\"}",
		 hp_json_str(json_array_get(json_object_get(value, "data"), 2), "id"));
	send(stripe, "list", last, "");
	ck_assert_uint_eq(json_array_size(json_object_get(value, "data")), 2);
	ck_assert(json_is_false(json_object_get(value, "has_more")));
	send(stripe, "create", REFUND, "rest"); /* 49950 are left */
	expect_failure(HP_TERMINAL, "invalid_request_error");
}
END_TEST

/* ---- what only the real providers say ---- */

struct answer {
	const char *state;
	int status;
	const char *name, *header; /* one header, or NULL */
	const char *body;
	enum hp_class class;
	const char *code;
	int64_t retry_after_us;
};

#define STRIPE_ERROR(type, code) "{\"error\":{\"type\":\"" type "\",\"code\":\"" code "\",\"message\":\"m\"}}"
#define DUFFEL_ERROR(type, code) \
	"{\"errors\":[{\"type\":\"" type "\",\"code\":\"" code "\",\"title\":\"t\",\"message\":\"m\"}],\"meta\":{\"request_id\":\"r\"}}"
#define RESEND_ERROR(name) "{\"statusCode\":0,\"name\":\"" name "\",\"message\":\"m\"}"

static const struct answer answers[] = {
	/* Stripe: the header wins over everything */
	{"create", 409, "stripe-should-retry", "true", STRIPE_ERROR("invalid_request_error", "lock_timeout"), HP_RETRYABLE, "lock_timeout", -1},
	{"create", 409, NULL, NULL, STRIPE_ERROR("invalid_request_error", "lock_timeout"), HP_RETRYABLE, "lock_timeout", -1},
	{"create", 409, "stripe-should-retry", "false", STRIPE_ERROR("invalid_request_error", "lock_timeout"), HP_TERMINAL, "lock_timeout", -1},
	{"create", 409, "stripe-should-retry", "false", STRIPE_ERROR("idempotency_error", "idempotency_key_in_use"), HP_NEEDS_PERSON, "idempotency_key_in_use", -1},
	{"create", 429, "retry-after", "7", STRIPE_ERROR("rate_limit_error", "rate_limit"), HP_RETRYABLE, "rate_limit", 7 * HP_SECOND},
	{"create", 429, NULL, NULL, "too many", HP_RETRYABLE, "http_429", -1},
	{"create", 429, "stripe-should-retry", "false", STRIPE_ERROR("rate_limit_error", "rate_limit"), HP_TERMINAL, "rate_limit", -1},
	{"create", 400, "stripe-should-retry", "true", STRIPE_ERROR("invalid_request_error", "lock_timeout"), HP_RETRYABLE, "lock_timeout", -1},
	{"create", 402, NULL, NULL, STRIPE_ERROR("card_error", "card_declined"), HP_TERMINAL, "card_declined", -1},
	{"create", 400, NULL, NULL, STRIPE_ERROR("invalid_request_error", "charge_disputed"), HP_TERMINAL, "charge_disputed", -1},
	{"create", 400, NULL, NULL, "{\"error\":{\"type\":\"idempotency_error\",\"message\":\"m\"}}", HP_NEEDS_PERSON, "idempotency_error", -1},
	{"create", 403, NULL, NULL, "{\"error\":{\"type\":\"invalid_request_error\"}}", HP_NEEDS_PERSON, "forbidden", -1},
	{"create", 500, NULL, NULL, "{\"error\":{\"type\":\"api_error\"}}", HP_AMBIGUOUS, "api_error", -1},
	{"create", 500, "stripe-should-retry", "true", "{\"error\":{\"type\":\"api_error\"}}", HP_AMBIGUOUS, "api_error", -1},
	{"create", 500, "stripe-should-retry", "false", "{\"error\":{\"type\":\"api_error\"}}", HP_NEEDS_PERSON, "stored_error", -1},
	{"create", 500, "idempotent-replayed", "true", "{\"error\":{\"type\":\"api_error\"}}", HP_NEEDS_PERSON, "stored_error", -1},
	{"create", 503, NULL, NULL, "<html>", HP_AMBIGUOUS, "http_503", -1},
	{"create", 302, NULL, NULL, "", HP_NEEDS_PERSON, "unexpected_reply", -1},
	{"create", 200, NULL, NULL, "{\"object\":\"charge\"}", HP_AMBIGUOUS, "unreadable_reply", -1},
	{"create", 200, NULL, NULL, "<html>", HP_AMBIGUOUS, "unreadable_reply", -1},
	{"list", 200, NULL, NULL, "[]", HP_RETRYABLE, "unreadable_reply", -1},
	{"create", 400, NULL, NULL, "{\"error\":{\"type\":\"x\",\"code\":\"Not A Code\"}}", HP_TERMINAL, "x", -1},
	{"create", 400, NULL, NULL, "{\"error\":null}", HP_TERMINAL, "http_400", -1},
	{"create", 400, NULL, NULL, "{\"error\":{\"type\":null,\"code\":7,\"message\":null}}", HP_TERMINAL, "http_400", -1},
	/* Duffel: 500 and 502 are not repeated; the reset is a date */
	{"order", 500, NULL, NULL, DUFFEL_ERROR("api_error", "internal_server_error"), HP_NEEDS_PERSON, "internal_server_error", -1},
	{"order", 502, NULL, NULL, DUFFEL_ERROR("api_error", "bad_gateway"), HP_NEEDS_PERSON, "bad_gateway", -1},
	{"order", 503, NULL, NULL, DUFFEL_ERROR("api_error", "service_unavailable"), HP_RETRYABLE, "service_unavailable", -1},
	{"order", 504, NULL, NULL, "", HP_RETRYABLE, "http_504", -1},
	{"order", 429, "ratelimit-reset", "Wed, 09 Jul 2025 00:00:42 GMT", DUFFEL_ERROR("rate_limit_error", "rate_limit_exceeded"), HP_RETRYABLE, "rate_limit_exceeded", 42 * HP_SECOND},
	{"order", 401, NULL, NULL, DUFFEL_ERROR("authentication_error", "access_token_not_found"), HP_NEEDS_PERSON, "unauthorized", -1},
	{"order", 403, NULL, NULL, DUFFEL_ERROR("authentication_error", "insufficient_permissions"), HP_NEEDS_PERSON, "forbidden", -1},
	{"order", 422, NULL, NULL, DUFFEL_ERROR("validation_error", "validation_required"), HP_TERMINAL, "validation_required", -1},
	{"order", 200, NULL, NULL, "{}", HP_RETRYABLE, "unreadable_reply", -1},
	{"ping", 500, NULL, NULL, "{\"errors\":null,\"meta\":null}", HP_NEEDS_PERSON, "http_500", -1},
	/* Resend: two 409s, three 429s; the reset is in seconds */
	{"mail", 409, NULL, NULL, RESEND_ERROR("invalid_idempotent_request"), HP_NEEDS_PERSON, "invalid_idempotent_request", -1},
	{"mail", 409, NULL, NULL, RESEND_ERROR("concurrent_idempotent_requests"), HP_AMBIGUOUS, "concurrent_idempotent_requests", -1},
	{"mail", 429, "ratelimit-reset", "1", RESEND_ERROR("rate_limit_exceeded"), HP_RETRYABLE, "rate_limit_exceeded", HP_SECOND},
	{"mail", 429, "retry-after", "3", RESEND_ERROR("rate_limit_exceeded"), HP_RETRYABLE, "rate_limit_exceeded", 3 * HP_SECOND},
	{"mail", 429, NULL, NULL, RESEND_ERROR("daily_quota_exceeded"), HP_TERMINAL, "daily_quota_exceeded", -1},
	{"mail", 429, NULL, NULL, RESEND_ERROR("monthly_quota_exceeded"), HP_TERMINAL, "monthly_quota_exceeded", -1},
	{"mail", 401, NULL, NULL, RESEND_ERROR("missing_api_key"), HP_NEEDS_PERSON, "missing_api_key", -1},
	{"mail", 403, NULL, NULL, RESEND_ERROR("invalid_api_Key"), HP_NEEDS_PERSON, "invalid_api_key", -1},
	{"mail", 422, NULL, NULL, RESEND_ERROR("missing_required_field"), HP_TERMINAL, "missing_required_field", -1},
	{"mail", 500, NULL, NULL, RESEND_ERROR("application_error"), HP_AMBIGUOUS, "application_error", -1},
	{"mail", 502, NULL, NULL, "<html>", HP_AMBIGUOUS, "http_502", -1},
	{"mail", 200, NULL, NULL, "{}", HP_AMBIGUOUS, "unreadable_reply", -1},
};

START_TEST(answers_are_classified)
{
	size_t i;

	for (i = 0; i < sizeof answers / sizeof *answers; i++) {
		const struct answer *a = &answers[i];
		const char *header[1][2] = {{a->name, a->header}};
		struct hp_incoming in = {.answered = true, .status = a->status, .headers = header,
					 .n_headers = a->name ? 1 : 0, .body = hp_bytes_of(a->body)};

		render(a->state, argument(a->state), "k");
		classify(&in);
		ck_assert_msg(ev.outcome == a->class && ev.code && strcmp(ev.code, a->code) == 0 &&
				      ev.retry_after_us == a->retry_after_us,
			      "%s %d %s: %s: %s %s after %lld (%s)", a->state, a->status, a->header ? a->header : "", a->body,
			      hp_class_name(ev.outcome), ev.code ? ev.code : "", (long long)ev.retry_after_us, ev.message);
	}
}
END_TEST

/* ---- webhooks ---- */

/* Takes what is due from the outbox, signs it as the provider does, verifies it as
 * the engine does, and lets the connector say where it goes: "type:name=key,…\n". */
static const char *find_header(void *arg, const char *name)
{
	const char *const *h = arg;

	for (; h[0]; h += 2)
		if (strcmp(h[0], name) == 0)
			return h[1];
	return NULL;
}

static void route(struct hp_connector *c, const char *body, struct hp_buf *out)
{
	const struct hp_webhook *hook = hp_connector_webhook(c);
	enum hp_scheme scheme = hp_scheme_find(hook->scheme);
	const char *secrets[] = {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, *name;
	const char *headers[] = {"", "", "webhook-id", "msg_1", "webhook-timestamp", "1752019200", NULL};
	struct hp_buf text;
	json_t *v, *d;
	size_t i;

	hp_buf_init(&text, 65536);
	ck_assert_int_eq(hp_signature_sign(scheme, secrets[0], "msg_1", NOW, hp_bytes_of(body), &text, &name, &err), 0);
	headers[0] = name;
	headers[1] = hp_buf_str(&text);
	ck_assert_int_eq(hp_signature_verify(scheme, find_header, headers, hp_bytes_of(body), secrets, 1, NOW,
					     hook->tolerance_us), HP_SIGNATURE_GOOD);
	hp_buf_clear(&text);
	ck_assert_msg(hp_connector_webhook_event(c, hp_bytes_of(body), find_header, headers, &text, &err) == 0, "%s", err.message);
	v = hp_json_parse(text.p, text.n, "event", &err);
	hp_buf_printf(out, "%s:", hp_json_str(v, "type"));
	json_array_foreach(json_object_get(v, "deliver"), i, d)
		hp_buf_printf(out, "%s%s=%s", i ? "," : "", hp_json_str(d, "name"), hp_json_str(d, "key"));
	hp_buf_adds(out, "\n");
	json_decref(v);
	hp_buf_free(&text);
}

static struct hp_connector *connector(const char *name)
{
	struct hp_connector *c = hp_connector_load(name, "plugins", &err);

	ck_assert_msg(c != NULL, "%s", err.message);
	return c;
}

static void deliver(struct hp_fake *f, const char *name, struct hp_buf *out)
{
	struct hp_connector *c = connector(name);
	struct hp_buf text;
	json_t *list, *hook;
	int64_t next;
	size_t i;

	hp_buf_init(&text, 1 << 20);
	ck_assert_int_eq(hp_fake_outbox(f, now, &text, &next, &err), 0);
	list = hp_json_parse(text.p, text.n, "outbox", &err);
	json_array_foreach(list, i, hook) {
		route(c, hp_json_str(hook, "body"), out);
		ck_assert_int_eq(hp_fake_delivered(f, hp_json_str(hook, "id"), 200, now, &err), 0);
	}
	json_decref(list);
	hp_buf_free(&text);
	hp_connector_free(c);
}

START_TEST(refund_ends_by_itself)
{
	char want[1000], arg[100];
	const char *id;
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	send(stripe, "create", REFUND, "refund:1");
	id = hp_json_str(value, "id");
	deliver(stripe, "stripe", &out);
	snprintf(want, sizeof want, "refund.created:stripe.refund.created=%s,stripe.refund.created=pi_3HoldpointDemo1\n"
		 "charge.refunded:stripe.charge.refunded=ch_3HoldpointDemo1,stripe.charge.refunded=pi_3HoldpointDemo1\n", id);
	ck_assert_str_eq(hp_buf_str(&out), want);
	hp_buf_clear(&out);
	now += HP_SECOND;
	deliver(stripe, "stripe", &out);
	snprintf(want, sizeof want, "refund.updated:stripe.refund.updated=%s,stripe.refund.updated=pi_3HoldpointDemo1\n"
		 "charge.refund.updated:stripe.charge.refund.updated=%s,stripe.charge.refund.updated=pi_3HoldpointDemo1\n", id, id);
	ck_assert_str_eq(hp_buf_str(&out), want);
	snprintf(arg, sizeof arg, "{\"id\":\"%s\"}", id);
	send(stripe, "get", arg, "");
	expect_ok();
	ck_assert_str_eq(hp_json_str(value, "status"), "succeeded");
	hp_buf_free(&out);
}
END_TEST

START_TEST(refund_fails_later)
{
	char arg[100];
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	control(stripe, "/_fake/emit", "{\"type\":\"outcome\",\"status\":\"failed\",\"after\":5,"
				       "\"failure_reason\":\"expired_or_canceled_card\"}");
	send(stripe, "create", REFUND, "refund:1");
	expect_ok();
	snprintf(arg, sizeof arg, "{\"id\":\"%s\"}", hp_json_str(value, "id"));
	now += 4 * HP_SECOND;
	deliver(stripe, "stripe", &out);
	ck_assert_ptr_null(strstr(hp_buf_str(&out), "refund.failed"));
	send(stripe, "get", arg, "");
	ck_assert_str_eq(hp_json_str(value, "status"), "pending");
	now += HP_SECOND;
	deliver(stripe, "stripe", &out);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "refund.failed:stripe.refund.failed=re_"));
	send(stripe, "get", arg, "");
	ck_assert_str_eq(hp_json_str(value, "status"), "failed");
	ck_assert_str_eq(hp_json_str(value, "failure_reason"), "expired_or_canceled_card");
	hp_buf_free(&out);
}
END_TEST

START_TEST(duffel_orders_and_events)
{
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	send(duffel, "order", "{\"id\":\"ord_0000HoldpointDemo1\"}", "");
	expect_ok();
	ck_assert_str_eq(hp_json_str(value, "booking_reference"), "RZPNX8");
	send(duffel, "order", "{\"id\":\"ord_none/x\"}", "");
	expect_failure(HP_TERMINAL, "not_found");
	send(duffel, "ping", "{}", "");
	expect_ok();
	control(duffel, "/_fake/emit", "{\"type\":\"order.creation_failed\",\"booking\":\"ord_1\"}");
	control(duffel, "/_fake/emit", "{\"type\":\"booking.failed\",\"booking\":\"booking_123\"}");
	deliver(duffel, "duffel", &out);
	ck_assert_str_eq(hp_buf_str(&out), "order.creation_failed:duffel.order.creation_failed=ord_1\n"
					   "order.creation_failed:duffel.order.creation_failed=booking_123\n");
	hp_buf_free(&out);
}
END_TEST

/* The fake's own ratelimit-reset date, read by the connector. */
START_TEST(duffel_dates)
{
	int i;

	now = INT64_C(951782400) * HP_SECOND; /* 2000-02-29T00:00:00Z */
	send(duffel, "ping", "{}", "");
	for (i = 0; i < rs.n_headers && strcmp(rs.headers[i][0], "ratelimit-reset") != 0; i++)
		;
	ck_assert_int_lt(i, rs.n_headers);
	ck_assert_str_eq(rs.headers[i][1], "Tue, 29 Feb 2000 00:01:00 GMT");
}
END_TEST

START_TEST(mails)
{
	const char *mail = "{\"from\":\"W <w@example.com>\",\"to\":[\"ada@example.com\"],\"subject\":\"s\",\"text\":\"t\"}";
	char id[64], emit[128], want[200];
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	send(resend, "mail", mail, "mail:1");
	expect_ok();
	snprintf(id, sizeof id, "%s", hp_json_str(value, "id"));
	send(resend, "mail", mail, "mail:1");
	expect_ok();
	ck_assert_str_eq(hp_json_str(value, "id"), id);
	send(resend, "mail", "{\"from\":\"w@example.com\",\"to\":[\"x@example.com\"],\"subject\":\"s\",\"text\":\"t\"}", "mail:1");
	expect_failure(HP_NEEDS_PERSON, "invalid_idempotent_request");
	send(resend, "mail", "{\"from\":\"nobody\",\"to\":[\"x@example.com\"],\"subject\":\"s\",\"text\":\"t\"}", "mail:2");
	expect_failure(HP_TERMINAL, "invalid_from_address");
	send(resend, "mail", "{\"from\":\"w@example.com\",\"to\":[\"x\"],\"subject\":\"s\",\"text\":\"t\"}", "mail:2");
	expect_failure(HP_TERMINAL, "validation_error");
	control(resend, "/_fake/emit", "{\"type\":\"quota\",\"name\":\"daily_quota_exceeded\"}");
	send(resend, "mail", mail, "mail:3");
	expect_failure(HP_TERMINAL, "daily_quota_exceeded");
	control(resend, "/_fake/emit", "{\"type\":\"work\",\"seconds\":2}");
	send(resend, "mail", mail, "mail:3");
	expect_ok();
	now += HP_SECOND;
	send(resend, "mail", mail, "mail:3");
	expect_failure(HP_AMBIGUOUS, "concurrent_idempotent_requests");
	snprintf(emit, sizeof emit, "{\"type\":\"email.bounced\",\"email_id\":\"%s\"}", id);
	control(resend, "/_fake/emit", emit);
	deliver(resend, "resend", &out);
	snprintf(want, sizeof want, "email.bounced:resend.email.bounced=%s\n", id);
	ck_assert_str_eq(hp_buf_str(&out), want);
	hp_buf_free(&out);
}
END_TEST

/* Payloads as the providers' documentation shows them. */
START_TEST(samples_are_understood)
{
	static const struct {
		const char *plugin, *file, *want;
	} samples[] = {
		{"stripe", "refund.updated", "refund.updated:stripe.refund.updated=re_3RHoldpoint0Sample,"
					     "stripe.refund.updated=pi_3HoldpointDemo1\n"},
		{"stripe", "charge.refunded", "charge.refunded:stripe.charge.refunded=ch_3RHoldpoint0Sample,"
					      "stripe.charge.refunded=pi_3HoldpointDemo1\n"},
		{"duffel", "order.creation_failed", "order.creation_failed:duffel.order.creation_failed=ord_0000HoldpointDemo1\n"},
		{"duffel", "booking.failed", "order.creation_failed:duffel.order.creation_failed=booking_123\n"},
		{"resend", "email.bounced", "email.bounced:resend.email.bounced=56761188-7520-42d8-8898-ff6fc54ce618\n"},
	};
	size_t i;

	for (i = 0; i < sizeof samples / sizeof *samples; i++) {
		struct hp_connector *c = connector(samples[i].plugin);
		struct hp_buf out;
		char path[128], *body;

		snprintf(path, sizeof path, "plugins/%s/samples/%s.json", samples[i].plugin, samples[i].file);
		body = read_text(path);
		hp_buf_init(&out, 4096);
		route(c, body, &out);
		ck_assert_str_eq(hp_buf_str(&out), samples[i].want);
		hp_buf_free(&out);
		hp_connector_free(c);
		free(body);
	}
}
END_TEST

START_TEST(error_samples_are_classified)
{
	static const struct {
		const char *path, *state;
		int status;
		enum hp_class class;
		const char *code;
	} samples[] = {
		{"plugins/stripe/samples/charge_already_refunded.json", "create", 400, HP_TERMINAL, "charge_already_refunded"},
		{"plugins/duffel/samples/rate_limited.json", "order", 429, HP_RETRYABLE, "rate_limit_exceeded"},
		{"plugins/resend/samples/invalid_idempotent_request.json", "mail", 409, HP_NEEDS_PERSON, "invalid_idempotent_request"},
	};
	size_t i;

	for (i = 0; i < sizeof samples / sizeof *samples; i++) {
		char *body = read_text(samples[i].path);
		struct hp_incoming in = {.answered = true, .status = samples[i].status, .body = hp_bytes_of(body)};

		render(samples[i].state, argument(samples[i].state), "k");
		classify(&in);
		expect_failure(samples[i].class, samples[i].code);
		free(body);
	}
}
END_TEST

/* Never as the alias where it is real money. */
START_TEST(alias_is_refused_when_live)
{
	static const char *const refused[] = {
		"{\"type\":\"booking.failed\",\"live_mode\":true,\"data\":{\"booking_id\":\"b\"}}",
		"{\"type\":\"booking.failed\",\"data\":{}}",
		"{\"id\":\"wev_1\"}",
		"{\"type\":\"order.creation_failed\",\"data\":{\"object\":{\"id\":\"o\"}}}",
	};
	struct hp_connector *c = connector("duffel");
	struct hp_buf out;
	size_t i;

	hp_buf_init(&out, 4096);
	for (i = 0; i < sizeof refused / sizeof *refused; i++) {
		const char *none[] = {NULL};

		ck_assert_msg(hp_connector_webhook_event(c, hp_bytes_of(refused[i]), find_header, none, &out, &err) == -1,
			      "%s gave %s", refused[i], hp_buf_str(&out));
	}
	hp_buf_free(&out);
	hp_connector_free(c);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		refund_is_made_once, refund_refused, bad_parameters_are_not_stored, stored_500, unclear_500, key_in_use,
		keys_are_forgotten, list_pages, answers_are_classified, refund_ends_by_itself, refund_fails_later, duffel_orders_and_events,
		duffel_dates, mails, samples_are_understood, error_samples_are_classified, alias_is_refused_when_live,
	};
	TCase *t = tcase_create("all");
	size_t i;

	tcase_set_timeout(t, 60); /* under valgrind */
	tcase_add_checked_fixture(t, setup, teardown);
	for (i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(t, tests[i]);
	return hp_run_case("script_plugins", t);
}
