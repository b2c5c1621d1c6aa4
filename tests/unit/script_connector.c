/* What leaves, what comes back, and webhooks: connectors at work. */
#include <stdio.h>
#include "script_help.h"
#include "base/arena.h"
#include "base/clock.h"
#include "lib/suite.h"

#define NOW INT64_C(1795398000000000) /* 2026-11-23T01:40:00Z */
#define W(body) "local bank = connector \"bank\"\nreturn workflow \"w\" {\n" body ",\nsucceed \"done\" {} }"
#define RQ(op, more) "{\"connector\":\"bank\",\"operation\":\"" op "\",\"method\":\"POST\",\"path\":\"/x\"," \
		     "\"headers\":{" more "},\"body\":\"a=b\",\"key\":\"k\"}"

static const char *secret_of(void *arg, const char *name, const char *version)
{
	(void)version;
	(void)arg;
	if (strcmp(name, "BANK_KEY") == 0)
		return "sk_1";
	if (strcmp(name, "BANK_USER") == 0)
		return "Aladdin"; /* RFC 7617 section 2 */
	return strcmp(name, "BANK_PASSWORD") == 0 ? "open sesame" : NULL;
}
static const char *broken_secret(void *arg, const char *name, const char *version)
{
	(void)version;
	(void)arg;
	(void)name;
	return "a\r\nx-evil: 1";
}
static const char *elsewhere(void *arg, const char *connector)
{
	(void)arg;
	ck_assert_str_eq(connector, "bank");
	return "http://127.0.0.1:4001/";
}

static const char *header(const struct hp_outgoing *o, const char *name)
{
	int i;

	for (i = 0; i < o->n_headers; i++)
		if (strcmp(o->headers[i][0], name) == 0)
			return o->headers[i][1];
	return NULL;
}

static struct hp_workflow *bank(void)
{
	return must_load(W("call \"a\" { bank.ping }"));
}

START_TEST(secrets_are_put_in_last)
{
	static const char rq[] = RQ("transfers.create", "\"authorization\":{\"bearer\":\"BANK_KEY\"},\"x-basic\":{\"basic\":["
							"\"BANK_USER\",\"BANK_PASSWORD\"]},\"x-plain\":{\"secret\":\"BANK_KEY\"},\"a\":\"b\"");
	struct hp_environment env = {.secret = secret_of};
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);
	struct hp_workflow *w = bank();
	struct hp_outgoing out;
	struct hp_error err = {0};

	ck_assert_msg(hp_workflow_outgoing(w, hp_bytes_of(rq), &env, a, &out, &err) == 0, "%s", err.message);
	ck_assert_str_eq(out.method, "POST");
	ck_assert_str_eq(out.url, "https://api.bank.example/v2/x");
	ck_assert_int_eq(out.n_headers, 4);
	ck_assert_str_eq(header(&out, "authorization"), "Bearer sk_1");
	ck_assert_str_eq(header(&out, "x-basic"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
	ck_assert_str_eq(header(&out, "x-plain"), "sk_1");
	ck_assert_str_eq(header(&out, "a"), "b");
	ck_assert_uint_eq(out.body.n, 3);
	ck_assert_int_eq(out.n_allow_hosts, 1);
	ck_assert_str_eq(out.allow_hosts[0], "api.bank.example");
	env.base_url = elsewhere;
	ck_assert_int_eq(hp_workflow_outgoing(w, hp_bytes_of(rq), &env, a, &out, &err), 0);
	ck_assert_str_eq(out.url, "http://127.0.0.1:4001/x");
	ck_assert_int_eq(out.n_allow_hosts, 1);
	ck_assert_str_eq(out.allow_hosts[0], "127.0.0.1:4001");
	hp_workflow_free(w);
	hp_arena_free(a);
}
END_TEST

static void not_sent(const char *rq, const char *(*secret)(void *, const char *, const char *), const char *message)
{
	struct hp_environment env = {.secret = secret};
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);
	struct hp_workflow *w = bank();
	struct hp_outgoing out;
	struct hp_error err = {0};

	ck_assert_int_eq(hp_workflow_outgoing(w, hp_bytes_of(rq), &env, a, &out, &err), -1);
	ck_assert_str_eq(err.message, message);
	ck_assert_ptr_null(strstr(err.message, "evil"));
	hp_workflow_free(w);
	hp_arena_free(a);
}

START_TEST(what_must_not_leave)
{
	not_sent(RQ("ping", "\"x\":{\"bearer\":\"BANK_KEY\"}"), broken_secret,
		 "the header \"x\" is malformed or contains a line break");
	not_sent(RQ("ping", "\"x\":\"a\\nb\""), secret_of, "the header \"x\" is malformed or contains a line break");
	not_sent(RQ("ping", "\"x y\":\"a\""), secret_of, "the header \"x y\" is malformed or contains a line break");
	not_sent(RQ("ping", "\"x\":{\"secret\":\"OTHER\"}"), secret_of, "connector \"bank\" may not use the secret \"OTHER\"");
	not_sent(RQ("gone", ""), secret_of, "the request is for bank.gone, which this workflow does not have");
	not_sent("{\"connector\":\"x\"}", secret_of, "the request is for x.?, which this workflow does not have");
	not_sent("no", secret_of, "the stored request: is not valid JSON (line 1, column 2)");
}
END_TEST

/* With every size of memory up to what it takes, here or elsewhere: our own lack is no fault
 * of the request, which would hold the run. */
START_TEST(a_request_without_memory_is_no_wrong_request)
{
	static const char rq[] = RQ("transfers.create", "\"authorization\":{\"bearer\":\"BANK_KEY\"},\"x-basic\":{\"basic\":["
							"\"BANK_USER\",\"BANK_PASSWORD\"]},\"a\":\"b\"");
	struct hp_environment env = {.secret = secret_of};
	struct hp_workflow *w = bank();
	int rc;

	for (int pass = 0; pass < 2; pass++, env.base_url = elsewhere) {
		size_t max = 0;

		do {
			struct hp_arena *a = hp_arena_new(max += 16);
			struct hp_outgoing out;
			struct hp_error err = {0};

			ck_assert_ptr_nonnull(a);
			rc = hp_workflow_outgoing(w, hp_bytes_of(rq), &env, a, &out, &err);
			ck_assert_msg(rc == 0 || err.code == HP_E_NOMEM, "%zu bytes: %s", max, err.message);
			hp_arena_free(a);
		} while (rc < 0);
		ck_assert_uint_gt(max, 256);
	}
	hp_workflow_free(w);
}
END_TEST

static const char *no_secret(void *arg, const char *name, const char *version)
{
	(void)version;
	(void)arg;
	(void)name;
	return NULL;
}

START_TEST(a_missing_secret_is_named)
{
	not_sent(RQ("ping", "\"x\":{\"bearer\":\"BANK_KEY\"}"), no_secret,
		 "connector \"bank\" needs the secret BANK_KEY, which is not configured");
}
END_TEST

/* ---- replies ---- */

struct reply {
	const char *op;
	int status;        /* 0: not answered */
	const char *failure; /* with status 0: NULL = not sent */
	const char *body;
	const char *retry_after;
	enum hp_class outcome;
	const char *code, *message, *value;
	int64_t retry_after_us;
};

static const struct reply replies[] = {
	{"transfers.create", 200, NULL, "{\"id\":\"t\",\"n\":1.50}", NULL, HP_CLASS_OK, NULL, NULL, "{\"id\":\"t\",\"n\":1.5}", -1},
	{"transfers.create", 204, NULL, "", NULL, HP_CLASS_OK, NULL, NULL, "null", -1},
	{"transfers.create", 402, NULL, "{}", NULL, HP_TERMINAL, "declined", "no money", NULL, -1},
	{"transfers.create", 429, NULL, "", "30", HP_RETRYABLE, "busy", "later", NULL, 30 * HP_SECOND},
	{"transfers.create", 429, NULL, "", "Mon, 23 Nov 2026 01:41:00 GMT", HP_RETRYABLE, "busy", "later", NULL, 60 * HP_SECOND},
	{"transfers.create", 429, NULL, "", "Monday, 23-Nov-26 01:41:00 GMT", HP_RETRYABLE, "busy", "later", NULL, 60 * HP_SECOND},
	{"transfers.create", 429, NULL, "", "Mon Nov 23 01:41:00 2026", HP_RETRYABLE, "busy", "later", NULL, 60 * HP_SECOND},
	{"transfers.create", 429, NULL, "", "2026-11-23T01:41:00Z", HP_RETRYABLE, "busy", "later", NULL, 60 * HP_SECOND},
	{"transfers.create", 429, NULL, "", "Mon, 23 Nov 2020 01:41:00 GMT", HP_RETRYABLE, "busy", "later", NULL, 0},
	{"transfers.create", 429, NULL, "", "99999999", HP_RETRYABLE, "busy", "later", NULL, 30 * HP_DAY},
	{"transfers.create", 429, NULL, "", "soon", HP_RETRYABLE, "busy", "later", NULL, -1},
	{"transfers.create", 429, NULL, "", NULL, HP_RETRYABLE, "busy", "later", NULL, -1},
	{"transfers.create", 500, NULL, "<html>", NULL, HP_AMBIGUOUS, "broken", "who knows", NULL, -1},
	{"transfers.create", 401, NULL, "", NULL, HP_NEEDS_PERSON, "locked", NULL, NULL, -1},
	/* our reply() is wrong: the peer may have acted */
	{"transfers.create", 417, NULL, "", NULL, HP_AMBIGUOUS, "reply_error", "plugins/bank/connector.lua:13: status 417", NULL, -1},
	{"transfers.create", 418, NULL, "", NULL, HP_AMBIGUOUS, "reply_error",
	 "reply() must return ok(value) or failure { class = …, code = … } with a class of retryable, terminal, ambiguous or "
	 "needs_person", NULL, -1},
	{"transfers.create", 419, NULL, "", NULL, HP_AMBIGUOUS, "reply_error",
	 "reply() must return ok(value) or failure { class = …, code = … } with a class of retryable, terminal, ambiguous or "
	 "needs_person", NULL, -1},
	/* a read cannot have acted */
	{"transfers.list", 417, NULL, "", NULL, HP_RETRYABLE, "reply_error", "plugins/bank/connector.lua:13: status 417", NULL, -1},
	/* the wire */
	{"transfers.create", 0, NULL, "", NULL, HP_RETRYABLE, "unreachable", "bank could not be reached (connection_lost)", NULL, -1},
	{"transfers.create", 0, "timeout", "", NULL, HP_AMBIGUOUS, "timeout",
	 "bank received the request but did not answer (timeout)", NULL, -1},
	{"transfers.list", 0, "connection_lost", "", NULL, HP_AMBIGUOUS, "connection_lost",
	 "bank received the request but did not answer (connection_lost)", NULL, -1},
	/* no reply(): by status */
	{"notes.put", 201, NULL, "[1]", NULL, HP_CLASS_OK, NULL, NULL, "[1]", -1},
	{"notes.put", 200, NULL, "plain", NULL, HP_CLASS_OK, NULL, NULL, "\"plain\"", -1},
	{"notes.put", 200, NULL, "\xff", NULL, HP_AMBIGUOUS, "reply_error", "the body is neither JSON nor text", NULL, -1},
	{"notes.put", 302, NULL, "", NULL, HP_NEEDS_PERSON, "http_302", "bank answered 302", NULL, -1},
	{"notes.put", 404, NULL, "", NULL, HP_TERMINAL, "http_404", "bank answered 404", NULL, -1},
	{"notes.put", 429, NULL, "", NULL, HP_RETRYABLE, "http_429", "bank answered 429", NULL, -1},
	{"notes.put", 500, NULL, "", NULL, HP_AMBIGUOUS, "http_500", "bank answered 500", NULL, -1},
	{"ping", 500, NULL, "", NULL, HP_RETRYABLE, "http_500", "bank answered 500", NULL, -1},
};

START_TEST(replies_have_classes)
{
	const struct reply *c = &replies[_i];
	const char *headers[1][2] = {{"retry-after", c->retry_after}};
	struct hp_incoming in = {.answered = c->status != 0, .sent = c->failure != NULL, .failure = c->failure,
				 .status = c->status, .headers = headers, .n_headers = c->retry_after ? 1 : 0,
				 .body = hp_bytes_of(c->body)};
	struct hp_workflow *w = bank();
	struct hp_event ev;
	struct hp_buf out;
	char rq[300];

	hp_buf_init(&out, HP_RUN_DATA_MAX);
	snprintf(rq, sizeof rq, "{\"connector\":\"bank\",\"operation\":\"%s\"}", c->op);
	hp_workflow_reply(w, hp_bytes_of(rq), &in, NOW, &out, &ev);
	ck_assert_int_eq(ev.type, HP_EV_REPLY);
	ck_assert_int_eq(ev.now, NOW);
	if (c->code) {
		ck_assert_str_eq(ev.code, c->code);
		ck_assert(!ev.ok);
	} else {
		ck_assert_msg(ev.code == NULL, "%s: %s", ev.code, ev.message);
	}
	ck_assert_int_eq(ev.outcome, c->outcome);
	if (c->message)
		ck_assert_str_eq(ev.message, c->message);
	if (c->value)
		ck_assert_msg(ev.value.n == strlen(c->value) && memcmp(ev.value.p, c->value, ev.value.n) == 0, "%.*s",
			      (int)ev.value.n, ev.value.p);
	ck_assert_int_eq(ev.retry_after_us, c->retry_after_us);
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

START_TEST(a_reply_to_nobody_is_unknown)
{
	struct hp_incoming in = {.answered = true, .status = 200};
	struct hp_workflow *w = bank();
	struct hp_event ev;
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	hp_workflow_reply(w, hp_bytes_of("{\"connector\":\"old\",\"operation\":\"x\"}"), &in, NOW, &out, &ev);
	ck_assert_int_eq(ev.outcome, HP_AMBIGUOUS);
	ck_assert_str_eq(ev.code, "reply_error");
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

/* ---- webhooks ---- */

static const char *event_header(void *arg, const char *name)
{
	return strcmp(name, "x-event-id") == 0 ? arg : NULL;
}

static void event(struct hp_connector *c, const char *body, const char *id, const char *want, const char *message)
{
	struct hp_error err = {0};
	struct hp_buf out;
	int rc;

	hp_buf_init(&out, 65536);
	rc = hp_connector_webhook_event(c, hp_bytes_of(body), event_header, (void *)(uintptr_t)id, &out, &err);
	if (want) {
		ck_assert_msg(rc == 0, "%s", err.message);
		ck_assert_str_eq(hp_buf_str(&out), want);
	} else {
		ck_assert_int_eq(rc, -1);
		if (*message)
			ck_assert_str_eq(err.message, message);
	}
	hp_buf_free(&out);
}

START_TEST(webhooks_name_their_mailboxes)
{
	struct hp_error err = {0};
	struct hp_connector *c = hp_connector_load("bank", FIXTURES "/plugins", &err);
	const struct hp_webhook *h;

	ck_assert_msg(c != NULL, "%s", err.message);
	h = hp_connector_webhook(c);
	ck_assert_str_eq(h->scheme, "stripe");
	ck_assert_int_eq(h->n_secrets, 2);
	ck_assert_str_eq(h->secrets[1], "BANK_HOOK_PREVIOUS");
	ck_assert_int_eq(h->tolerance_us, 2 * HP_MINUTE);
	event(c, "{\"id\":\"e1\",\"kind\":\"paid\",\"about\":\"t1\"}", NULL,
	      "{\"deliver\":[{\"key\":\"t1\",\"name\":\"bank.paid\"}],\"id\":\"e1\",\"type\":\"paid\"}", NULL);
	event(c, "{\"kind\":\"paid\"}", "from-header", "{\"deliver\":[],\"id\":\"from-header\",\"type\":\"paid\"}", NULL);
	event(c, "{\"kind\":\"bad\"}", NULL, NULL,
	      "plugins/bank/connector.lua: event() must return id and type, both texts");
	event(c, "{\"id\":\"e1\",\"kind\":\"paid\",\"about\":5}", NULL, NULL,
	      "plugins/bank/connector.lua: deliver: entry 1 needs name and key, both texts");
	event(c, "nonsense", NULL, NULL, "the webhook's body: is not valid JSON (line 1, column 8)");
	event(c, "{\"kind\":\"loop\"}", NULL, NULL, "");
	event(c, "{\"id\":\"e2\",\"kind\":\"paid\"}", NULL, "{\"deliver\":[],\"id\":\"e2\",\"type\":\"paid\"}", NULL);
	hp_connector_free(c);
	ck_assert_ptr_null(hp_connector_load("../bank", FIXTURES "/plugins", &err));
	ck_assert_str_eq(err.message, "\"../bank\" is not the name of a connector");
	ck_assert_ptr_null(hp_connector_load("nobody", FIXTURES "/plugins", &err));
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
}
END_TEST

/* ---- what connectors may not be ---- */

#define C(body) "return connector_definition \"c\" {\n" body "\n}"
#define OP(body) C("base = 'https://x', hosts = { 'x' }, secrets = { 'KEY' }, operations = { o = { " body " } }")

static const struct {
	const char *source, *message;
} refusals[] = {
	{"return {}", "plugins/c/connector.lua: the file must end with: return connector_definition \"c\" { … }"},
	{"return connector_definition \"d\" {}",
	 "plugins/c/connector.lua: the connector calls itself \"d\", but its folder is \"c\""},
	{C("hots = {}"), "plugins/c/connector.lua:1: connector \"c\": unknown field \"hots\", did you mean \"hosts\"?"},
	{C("base = 'http://x'"), "plugins/c/connector.lua:1: connector \"c\": base \"http://x\" must begin with https://"},
	{C("hosts = { 'x/y' }"), "plugins/c/connector.lua:1: connector \"c\": hosts: \"x/y\" must be a name of a host only"},
	{C("operations = { o = { method = 'GET', path = '/', read = true } }"),
	 "plugins/c/connector.lua:1: connector \"c\": base is missing"},
	{C("secrets = { 'KEY' }, headers = { authorization = bearer 'KYE' }"),
	 "plugins/c/connector.lua:1: connector \"c\": the secret \"KYE\" is not in secrets, did you mean \"KEY\"?"},
	{C("headers = { Authorization = 'x' }"),
	 "plugins/c/connector.lua:1: connector \"c\": headers: \"Authorization\" must be lower-case letters, digits and dashes"},
	{OP("method = 'GTE', path = '/'"),
	 "plugins/c/connector.lua:1: operation \"o\": method \"GTE\" is not one of GET, POST, PUT, PATCH, DELETE, HEAD"},
	{OP("method = 'POST', path = '/'"),
	 "plugins/c/connector.lua:1: operation \"o\": repeats is missing: by_key { header = …, window = … }, by_nature or never"},
	{OP("method = 'POST', path = '/', repeats = by_key { header = 'k' }"),
	 "plugins/c/connector.lua:1: operation \"o\": repeats: window is missing: how long the provider remembers a key"},
	{OP("method = 'GET', path = '/', read = true, destructive = true"),
	 "plugins/c/connector.lua:1: operation \"o\": a read cannot be destructive"},
	{OP("method = 'GET', path = '/', read = true, repeats = never"),
	 "plugins/c/connector.lua:1: operation \"o\": a read repeats by nature"},
	{OP("method = 'GET', read = true"),
	 "plugins/c/connector.lua:1: operation \"o\": path is missing, and there is no request function that could give it"},
	{OP("method = 'GET', path = '/x/{id}', read = true"),
	 "plugins/c/connector.lua:1: operation \"o\": path \"/x/{id}\" has a part in braces, and there is no request function "
	 "that fills it"},
	{OP("method = 'GET', path = 'x', read = true"),
	 "plugins/c/connector.lua:1: operation \"o\": path \"x\" must begin with /"},
	{C("breaker = true"), "plugins/c/connector.lua:1: connector \"c\": breaker must be a table, or false for none"},
	{C("breaker = { failure = '50%' }"),
	 "plugins/c/connector.lua:1: connector \"c\": unknown field \"failure\", did you mean \"failures\"?"},
	{C("breaker = { failures = '150%' }"),
	 "plugins/c/connector.lua:1: connector \"c\": breaker: failures = \"150%\" must be a percentage like \"50%\""},
	{C("breaker = { failures = '50' }"),
	 "plugins/c/connector.lua:1: connector \"c\": breaker: failures = \"50\" must be a percentage like \"50%\""},
	{C("breaker = { open = '10ms' }"),
	 "plugins/c/connector.lua:1: connector \"c\": breaker: open must be from 1 to 86400 seconds"},
	{OP("method = 'GET', path = '/', read = true, breaker = { probes = 0 }"),
	 "plugins/c/connector.lua:1: operation \"o\": probes must be from 1 to 100"},
	{C("webhook = { scheme = 'stripe', secrets = { 'A' } }"),
	 "plugins/c/connector.lua:1: connector \"c\": webhook: event is missing: function(body, headers) return { id = …, type "
	 "= …, deliver = … } end"},
};

START_TEST(a_connector_is_read_strictly)
{
	struct hp_error err = {0};
	struct hp_buf bundle;
	json_t *v;

	hp_buf_init(&bundle, 65536);
	v = json_pack("{s:{s:{s:s, s:s}}, s:{s:s, s:s}}", "connectors", "c", "file", "plugins/c/connector.lua", "source",
		      refusals[_i].source, "workflow", "file", "t.lua", "source",
		      "return workflow \"w\" { succeed \"a\" {} }");
	ck_assert_int_eq(hp_json_write(&bundle, v, &err), 0);
	ck_assert_ptr_null(hp_workflow_load(hp_buf_bytes(&bundle), &err));
	ck_assert_str_eq(err.message, refusals[_i].message);
	json_decref(v);
	hp_buf_free(&bundle);
}
END_TEST

START_TEST(the_shipped_connectors_load)
{
	static const char *const names[] = {"stripe", "duffel", "resend"};
	size_t i;

	for (i = 0; i < sizeof names / sizeof *names; i++) {
		struct hp_error err = {0};
		struct hp_connector *c = hp_connector_load(names[i], "plugins", &err);

		ck_assert_msg(c != NULL, "%s", err.message);
		ck_assert_ptr_nonnull(hp_connector_webhook(c));
		hp_connector_free(c);
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("connector");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, secrets_are_put_in_last);
	tcase_add_test(t, what_must_not_leave);
	tcase_add_test(t, a_request_without_memory_is_no_wrong_request);
	tcase_add_test(t, a_missing_secret_is_named);
	tcase_add_loop_test(t, replies_have_classes, 0, (int)(sizeof replies / sizeof *replies));
	tcase_add_test(t, a_reply_to_nobody_is_unknown);
	tcase_add_test(t, webhooks_name_their_mailboxes);
	tcase_add_loop_test(t, a_connector_is_read_strictly, 0, (int)(sizeof refusals / sizeof *refusals));
	tcase_add_test(t, the_shipped_connectors_load);
	return hp_run_case("script connector", t);
}
