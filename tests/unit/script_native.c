/* Native connectors: the same road as HTTP ones, another carrier at its end. */
#include "script_help.h"
#include "base/arena.h"
#include "../lib/suite.h"

#define NOW INT64_C(1795398000000000)

static const char probe[] =
	"return connector_definition \"probe\" { native = true, secrets = { \"TOKEN\" },\n"
	"  headers = { [\"x-token\"] = bearer \"TOKEN\" },\n"
	"  operations = {\n"
	"    echo = { read = true, arg = { text = text } },\n"
	"    make = { repeats = by_key { window = \"1h\" }, errors = { \"full\" } },\n"
	"    [\"shaped.well\"] = { read = true, request = function(a) return { json = { a.text } } end,\n"
	"      reply = function(r) return ok { r.status, r.json } end },\n"
	"    wrong = { read = true, request = function(a) return { path = \"/x\" } end },\n"
	"} }";

static struct hp_workflow *load_with(const char *connector, const char *source, struct hp_error *err)
{
	struct hp_buf bundle;
	struct hp_workflow *w;
	json_t *v = json_pack("{s:{s:{s:s, s:s}}, s:{s:s, s:s}}", "connectors", "probe", "file", "plugins/probe/connector.lua",
			      "source", connector, "workflow", "file", "t.lua", "source", source);

	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	ck_assert_int_eq(hp_json_write(&bundle, v, err), 0);
	w = hp_workflow_load(hp_buf_bytes(&bundle), err);
	json_decref(v);
	hp_buf_free(&bundle);
	return w;
}

#define W(body) "local probe = connector \"probe\"\nreturn workflow \"w\" {\n" body ",\nsucceed \"done\" {} }"

static struct hp_workflow *load(const char *source)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_with(probe, source, &err);

	ck_assert_msg(w != NULL, "%s", err.message);
	return w;
}

static void render(struct hp_workflow *w, struct hp_buf *out, struct hp_event *ev)
{
	struct hp_run_data data = {.id = 7, .visit = 1, .installation = "inst", .input = hp_bytes_of("{\"t\":\"x\"}"),
				   .saved = hp_bytes_of("{}"), .now = NOW};
	struct hp_run run = {.id = 7, .visit = 1};
	struct hp_action act = {.type = HP_ACT_EVAL, .eval = HP_EVAL_REQUEST};

	hp_workflow_eval(w, &data, &run, &act, out, ev);
}

static const char *secret_of(void *arg, const char *name, const char *version)
{
	(void)arg;
	(void)version;
	return strcmp(name, "TOKEN") == 0 ? "t0ken" : NULL;
}
static const char *at_server(void *arg, const char *connector)
{
	(void)arg;
	(void)connector;
	return "127.0.0.1:5353";
}
static const char *at_fake(void *arg, const char *connector)
{
	(void)arg;
	(void)connector;
	return "http://127.0.0.1:4001";
}

START_TEST(a_request_has_the_shape_of_all_others)
{
	struct hp_workflow *w = load(W("call \"a\" { probe.echo, with = { text = \"{input.t}\" } }"));
	struct hp_buf out;
	struct hp_event ev = {0};

	hp_buf_init(&out, 1 << 20);
	render(w, &out, &ev);
	ck_assert_msg(ev.ok, "%s", ev.message);
	ck_assert_msg(strstr(ev.value.p, "\"body\":\"{\\\"text\\\":\\\"x\\\"}\",\"connector\":\"probe\",\"headers\":{\"content-type\":"
					 "\"application/json\",\"x-token\":{\"bearer\":\"TOKEN\"}}") != NULL,
		      "%s", ev.value.p);
	ck_assert_msg(strstr(ev.value.p, "\"method\":\"CALL\",\"operation\":\"echo\",\"path\":\"/echo\"}") != NULL, "%s",
		      ev.value.p);
	hp_workflow_free(w);
	hp_buf_free(&out);
}
END_TEST

START_TEST(request_functions_give_json_only)
{
	struct hp_workflow *w = load(W("call \"a\" { probe.shaped.well, with = { text = \"y\" } }"));
	struct hp_buf out;
	struct hp_event ev = {0};

	hp_buf_init(&out, 1 << 20);
	render(w, &out, &ev);
	ck_assert_msg(ev.ok && strstr(ev.value.p, "\"body\":\"[\\\"y\\\"]\"") != NULL, "%s", ev.message);
	hp_workflow_free(w);
	w = load(W("call \"a\" { probe.wrong, with = { text = \"y\" } }"));
	render(w, &out, &ev);
	ck_assert(!ev.ok);
	ck_assert_str_eq(ev.code, "request_invalid");
	ck_assert_msg(strstr(ev.message, "request() returned the unknown field \"path\"") != NULL, "%s", ev.message);
	hp_workflow_free(w);
	hp_buf_free(&out);
}
END_TEST

#define RQ "{\"connector\":\"probe\",\"operation\":\"make\",\"method\":\"CALL\",\"path\":\"/make\",\"headers\":{\"x-token\":" \
	   "{\"bearer\":\"TOKEN\"},\"idempotency-key\":\"k9\"},\"body\":\"{}\",\"key\":\"k9\"}"

START_TEST(where_it_goes)
{
	struct hp_environment env = {.secret = secret_of};
	struct hp_workflow *w = load(W("call \"a\" { probe.make, catch = { full = \"done\" } }"));
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);
	struct hp_outgoing out;
	struct hp_error err = {0};

	ck_assert_msg(hp_workflow_outgoing(w, hp_bytes_of(RQ), &env, a, &out, &err) == 0, "%s", err.message);
	ck_assert_str_eq(out.native, "probe");
	ck_assert_str_eq(out.activity, "make");
	ck_assert_str_eq(out.key, "k9");
	ck_assert_ptr_null(out.endpoint);
	ck_assert_int_eq(out.n_headers, 2);
	env.base_url = at_server; /* for the plugin to understand */
	ck_assert_int_eq(hp_workflow_outgoing(w, hp_bytes_of(RQ), &env, a, &out, &err), 0);
	ck_assert_str_eq(out.native, "probe");
	ck_assert_str_eq(out.endpoint, "127.0.0.1:5353");
	env.base_url = at_fake; /* a simulated provider: HTTP */
	ck_assert_int_eq(hp_workflow_outgoing(w, hp_bytes_of(RQ), &env, a, &out, &err), 0);
	ck_assert_ptr_null(out.native);
	ck_assert_str_eq(out.method, "POST");
	ck_assert_str_eq(out.url, "http://127.0.0.1:4001/make");
	ck_assert_str_eq(out.allow_hosts[0], "127.0.0.1:4001");
	hp_arena_free(a);
	hp_workflow_free(w);
}
END_TEST

static void reply(struct hp_workflow *w, const char *operation, const struct hp_incoming *in, struct hp_buf *out,
		  struct hp_event *ev)
{
	char rq[200];

	snprintf(rq, sizeof rq, "{\"connector\":\"probe\",\"operation\":\"%s\",\"method\":\"CALL\"}", operation);
	hp_workflow_reply(w, hp_bytes_of(rq), in, NOW, out, ev);
}

START_TEST(what_comes_back)
{
	struct hp_workflow *w = load(W("call \"a\" { probe.echo, with = { text = \"y\" } }"));
	struct hp_incoming in = {.answered = true, .sent = true, .status = 200, .body = hp_bytes_of("{\"a\":1}")};
	struct hp_event ev;
	struct hp_buf out;

	hp_buf_init(&out, 1 << 20);
	reply(w, "echo", &in, &out, &ev);
	ck_assert(ev.ok);
	ck_assert_str_eq(ev.value.p, "{\"a\":1}");
	reply(w, "shaped.well", &in, &out, &ev);
	ck_assert_str_eq(ev.value.p, "[200,{\"a\":1}]");
	in.status = 422;
	in.body = hp_bytes_of("{\"class\":\"terminal\",\"code\":\"full\",\"message\":\"no room\"}");
	reply(w, "make", &in, &out, &ev);
	ck_assert_int_eq(ev.outcome, HP_TERMINAL);
	ck_assert_str_eq(ev.code, "full");
	ck_assert_str_eq(ev.message, "no room");
	in.status = 503;
	in.body = hp_bytes_of("{\"class\":\"retryable\",\"code\":\"busy\",\"message\":\"later\",\"retry_after\":1.5}");
	reply(w, "make", &in, &out, &ev);
	ck_assert_int_eq(ev.outcome, HP_RETRYABLE);
	ck_assert_int_eq(ev.retry_after_us, 1500000);
	in.body = hp_bytes_of("no JSON, a simulated provider that broke"); /* by its status */
	in.status = 500;
	reply(w, "make", &in, &out, &ev);
	ck_assert_int_eq(ev.outcome, HP_AMBIGUOUS);
	ck_assert_str_eq(ev.code, "http_500");
	in = (struct hp_incoming){.refused = true, .failure = "plugin_refused", .detail = "the plugin probe cannot be used: x"};
	reply(w, "make", &in, &out, &ev);
	ck_assert_int_eq(ev.outcome, HP_NEEDS_PERSON);
	ck_assert_str_eq(ev.code, "plugin_refused");
	ck_assert_str_eq(ev.message, "the plugin probe cannot be used: x");
	in = (struct hp_incoming){.sent = true, .failure = "plugin_crashed", .detail = "it crashed"};
	reply(w, "make", &in, &out, &ev);
	ck_assert_int_eq(ev.outcome, HP_AMBIGUOUS);
	ck_assert_str_eq(ev.code, "plugin_crashed");
	ck_assert_str_eq(ev.message, "it crashed");
	hp_workflow_free(w);
	hp_buf_free(&out);
}
END_TEST

static void refused(const char *connector, const char *message)
{
	struct hp_error err = {0};

	ck_assert_ptr_null(load_with(connector, W("call \"a\" { probe.echo }"), &err));
	ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
}

START_TEST(what_a_native_connector_may_not_say)
{
	refused("return connector_definition \"probe\" { native = true, base = \"https://x.example\", operations = { echo = { read = true } } }",
		"a native connector has no base and no hosts");
	refused("return connector_definition \"probe\" { native = true, operations = { echo = { method = \"GET\", read = true } } }",
		"operation \"echo\": unknown field \"method\"");
	refused("return connector_definition \"probe\" { native = true, operations = { echo = { path = \"/\", read = true } } }",
		"operation \"echo\": unknown field \"path\"");
	refused("return connector_definition \"probe\" { native = true, operations = { echo = { repeats = by_key { header = \"x\", "
		"window = \"1h\" } } } }",
		"unknown field \"header\"");
	refused("return connector_definition \"probe\" { native = true, operations = { echo = { } } }", "repeats is missing");
	refused("return connector_definition \"probe\" { operations = { echo = { method = \"GET\", path = \"/\", read = true } } }",
		"base is missing");
}
END_TEST

START_TEST(which_plugins_a_workflow_needs)
{
	struct hp_workflow *w = load(W("call \"a\" { probe.echo, with = { text = \"y\" } }"));
	const char *file;

	ck_assert_str_eq(hp_workflow_native(w, 0, &file), "probe");
	ck_assert_str_eq(file, "plugins/probe/connector.lua");
	ck_assert_str_eq(hp_workflow_native_operation(w, 0, 0), "echo");
	ck_assert_str_eq(hp_workflow_native_operation(w, 0, 3), "wrong");
	ck_assert_ptr_null(hp_workflow_native_operation(w, 0, 4));
	ck_assert_ptr_null(hp_workflow_native(w, 1, &file));
	hp_workflow_free(w);
	w = must_load("local bank = connector \"bank\"\nreturn workflow \"w\" { call \"a\" { bank.ping }, succeed \"done\" {} }");
	ck_assert_ptr_null(hp_workflow_native(w, 0, &file));
	hp_workflow_free(w);
}
END_TEST

HP_SUITE("script native", a_request_has_the_shape_of_all_others, request_functions_give_json_only, where_it_goes,
	 what_comes_back, what_a_native_connector_may_not_say, which_plugins_a_workflow_needs)
