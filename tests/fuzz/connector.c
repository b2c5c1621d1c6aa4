/* The shipped connectors and the tests' bank: whatever a workflow passes to an operation,
 * the request goes to the connector's own hosts and breaks out of no line, and is the same
 * when it is rendered again; whatever a provider answers or sends as a webhook, the engine
 * knows what to make of it.
 *
 * Input: a byte for the operation, two for the status, a JSON argument, a line "---",
 * headers of the answer, an empty line, its body. The body is read as a webhook, too. */
#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "lib/fuzz.h"
#include "lib/reply.h"

static const char *const names[] = {"stripe", "duffel", "resend", "dns", "bank"};
static const char *const operations[] = {
	"stripe.refunds.create", "stripe.refunds.list", "stripe.refunds.retrieve", "duffel.orders.get", "duffel.ping",
	"resend.emails.send", "dns.txt", "bank.transfers.create", "bank.transfers.list", "bank.letters.send",
	"bank.notes.put", "bank.ping",
};
#define OPERATIONS (sizeof operations / sizeof *operations)

static json_t *connector_source(const char *name)
{
	struct hp_error err = {0};
	struct hp_buf text;
	char path[200];
	json_t *c;

	hp_buf_init(&text, 1 << 16);
	snprintf(path, sizeof path, "%splugins/%s/connector.lua", strcmp(name, "bank") == 0 ? "tests/fixtures/" : "", name);
	MUST(hp_read_file(path, 1 << 16, &text, &err) == 0, "run it at the root of the project: %s", err.message);
	c = json_pack("{s:s, s:s}", "file", path, "source", hp_buf_str(&text));
	hp_buf_free(&text);
	return c;
}

/* Loaded once, freed when the process ends. */
static struct {
	struct hp_workflow *w;
	struct hp_connector *webhooks[4];
} kept;

static void forget(void)
{
	hp_workflow_free(kept.w);
	for (size_t i = 0; i < sizeof kept.webhooks / sizeof *kept.webhooks; i++)
		hp_connector_free(kept.webhooks[i]);
}

/* A workflow with a call for each operation. */
static struct hp_workflow *workflow(void)
{
	struct hp_error err = {0};
	struct hp_buf text, bundle;
	json_t *b, *connectors;

	if (kept.w)
		return kept.w;
	MUST(atexit(forget) == 0);
	hp_buf_init(&text, 1 << 16);
	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		hp_buf_printf(&text, "local %s = connector \"%s\"\n", names[i], names[i]);
	hp_buf_adds(&text, "return workflow \"f\" {\n");
	for (size_t i = 0; i < OPERATIONS; i++)
		hp_buf_printf(&text, "call \"s%zu\" { %s, with = \"{input}\" },\n", i, operations[i]);
	hp_buf_adds(&text, "succeed \"done\" {} }\n");
	connectors = json_object();
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		json_object_set_new(connectors, names[i], connector_source(names[i]));
	b = json_pack("{s:o, s:{s:s, s:s}}", "connectors", connectors, "workflow", "file", "f.lua", "source",
		      hp_buf_str(&text));
	MUST(b && hp_json_write(&bundle, b, &err) == 0, "%s", err.message);
	kept.w = hp_workflow_load(hp_buf_bytes(&bundle), &err);
	MUST(kept.w != NULL, "%s", err.message);
	json_decref(b);
	hp_buf_free(&text);
	hp_buf_free(&bundle);
	return kept.w;
}

static const char *secret(void *arg, const char *name, const char *version)
{
	(void)arg, (void)name, (void)version;
	return "s3cret-value";
}

static void check_line(const char *s)
{
	for (; *s; s++)
		MUST((unsigned char)*s >= ' ' || *s == '\t', "a control character leaves");
}

/* The scheme and host of what is sent are the connector's, whatever the path is made of. */
static void check_outgoing(struct hp_workflow *w, struct hp_bytes request)
{
	static const struct hp_environment env = {.secret = secret};
	struct hp_arena *a = hp_arena_new(8 << 20);
	struct hp_error err = {0};
	struct hp_outgoing o;
	const char *host;
	bool allowed = false;

	MUST(a != NULL);
	if (hp_workflow_outgoing(w, request, &env, a, &o, &err) < 0) {
		must_explain(&err);
	} else if (!o.native) {
		MUST(strncmp(o.url, "https://", 8) == 0, "%s", o.url);
		check_line(o.url);
		host = o.url + 8;
		for (int i = 0; i < o.n_allow_hosts; i++) {
			size_t len = strlen(o.allow_hosts[i]);

			allowed = allowed || (strncmp(host, o.allow_hosts[i], len) == 0 && host[len] == '/');
		}
		MUST(allowed, "%s", o.url);
		MUST(!strstr(o.url, "/../") && !strpbrk(o.url, " #\\\"<>"), "%s", o.url);
		for (int i = 0; i < o.n_headers; i++) {
			check_line(o.headers[i][0]);
			MUST(!strpbrk(o.headers[i][1], "\r\n"), "%s", o.headers[i][0]);
		}
	}
	hp_arena_free(a);
}

static void request(struct hp_workflow *w, int state, struct hp_bytes input, struct hp_buf *out, struct hp_event *ev)
{
	struct hp_run_data data = {.id = 7, .visit = 1, .installation = "fuzz", .key = hp_bytes_of("k"), .input = input,
				   .saved = hp_bytes_of("{}"), .now = INT64_C(1700000000000000)};
	struct hp_action act = {.type = HP_ACT_EVAL, .eval = HP_EVAL_REQUEST, .state = state};
	struct hp_run run;

	hp_run_start(&run, 7, data.now);
	run.state = state;
	hp_workflow_eval(w, &data, &run, &act, out, ev);
}

#define HEADERS_MAX 16

/* Reads "Name: value" lines up to an empty one; names in lower case, as the client gives them. */
static int headers_of(struct hp_input *in, const char *(*list)[2])
{
	int n = 0;

	while (n < HEADERS_MAX) {
		struct hp_bytes line = in_until(in, '\n'), name;
		struct hp_input rest = {(const uint8_t *)line.p, line.n};

		if (line.n == 0)
			break;
		name = in_until(&rest, ':');
		list[n][0] = text_of(name);
		for (char *c = (char *)(uintptr_t)list[n][0]; *c; c++)
			if (*c >= 'A' && *c <= 'Z')
				*c = (char)(*c + 32);
		list[n++][1] = text_of((struct hp_bytes){(const char *)rest.p, rest.n});
	}
	return n;
}

struct headers {
	const char *(*list)[2];
	int n;
};

static const char *find(void *arg, const char *name)
{
	struct headers *h = arg;

	for (int i = 0; i < h->n; i++)
		if (strcmp(h->list[i][0], name) == 0)
			return h->list[i][1];
	return NULL;
}

static void check_webhook(struct hp_bytes body, struct headers *h)
{
	struct hp_connector **c = kept.webhooks;
	static const char *const dirs[] = {"plugins", "plugins", "plugins", "tests/fixtures/plugins"};
	static const char *const sources[] = {"stripe", "duffel", "resend", "bank"};

	for (int i = 0; i < 4; i++) {
		struct hp_error err = {0};
		struct hp_buf out;
		json_t *v;

		if (i == 3 && body.n && memmem(body.p, body.n, "loop", 4))
			continue; /* the bank's: it takes all its time, each time */
		if (!c[i])
			c[i] = hp_connector_load(sources[i], dirs[i], &err);
		MUST(c[i] != NULL, "%s", err.message);
		hp_buf_init(&out, HP_RUN_DATA_MAX);
		if (hp_connector_webhook_event(c[i], body, find, h, &out, &err) < 0) {
			must_explain(&err);
		} else {
			v = hp_json_parse(out.p, out.n, "an event", &err);
			MUST(v != NULL, "%s", err.message);
			MUST(hp_json_str(v, "id") && *hp_json_str(v, "id") && strlen(hp_json_str(v, "id")) <= HP_KEY_MAX);
			MUST(hp_json_str(v, "type") && *hp_json_str(v, "type"));
			MUST(json_is_array(json_object_get(v, "deliver")) && json_array_size(json_object_get(v, "deliver")) <= 16);
			json_decref(v);
		}
		hp_buf_free(&out);
	}
}

HP_FUZZ(connector)
{
	struct hp_input in = {p, n};
	int state = in_byte(&in) % (int)OPERATIONS;
	const char *list[HEADERS_MAX][2], *split = in.n > 2 ? memmem(in.p + 2, in.n - 2, "\n---\n", 5) : NULL;
	struct hp_incoming answer = {.answered = true, .sent = true, .status = 100 + (int)in_bits(&in, 2) % 500};
	struct hp_bytes input = {(const char *)in.p, split ? (size_t)(split - (const char *)in.p) : in.n};
	struct hp_workflow *w = workflow();
	struct hp_event ev = {0}, again = {0}, reply;
	struct hp_buf first, second, out;
	struct headers h = {list, 0};

	in.p += split ? input.n + 5 : input.n;
	in.n -= split ? input.n + 5 : input.n;
	hp_buf_init(&first, HP_RUN_DATA_MAX);
	hp_buf_init(&second, HP_RUN_DATA_MAX);
	hp_buf_init(&out, HP_RUN_DATA_MAX);
	request(w, state, input, &first, &ev);
	request(w, state, input, &second, &again);
	MUST(ev.ok == again.ok && (!ev.ok || memcmp(ev.hash, again.hash, sizeof ev.hash) == 0), "rendered again it is another");
	if (!ev.ok) { /* then the answer is to a request that can be made */
		MUST(ev.code && ev.code[0] && ev.message && ev.message[0]);
		request(w, state = OPERATIONS - 1, hp_bytes_of("{}"), &first, &ev);
		MUST(ev.ok, "%s", ev.message);
	}
	check_outgoing(w, ev.value);
	h.n = answer.n_headers = headers_of(&in, list);
	answer.headers = list;
	answer.body = (struct hp_bytes){(const char *)in.p, in.n};
	hp_workflow_reply(w, ev.value, &answer, INT64_C(1700000000000000), &out, &reply);
	must_be_reply(&reply);
	check_webhook(answer.body, &h);
	for (int i = 0; i < h.n; i++) {
		free((char *)(uintptr_t)list[i][0]);
		free((char *)(uintptr_t)list[i][1]);
	}
	hp_buf_free(&first);
	hp_buf_free(&second);
	hp_buf_free(&out);
}
