/* Workflow files: any text is either refused with a sentence, or it is a definition whose
 * ways lead to states, that can be checked, drawn, summed up and compared with itself, and
 * whose expressions give a value or say why not. All of it within the limits of time and
 * memory: libFuzzer's own limit is the judge of those.
 *
 * Input: a workflow's source; after a line "-- connector", that of the connector "bank". */
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "lib/fuzz.h"
#include "lib/reply.h"

#define SPLIT "\n-- connector\n"
#define BANK "tests/fixtures/plugins/bank/connector.lua"
#define EVALS_MAX 40 /* an endless function costs HP_LUA_TIME_MAX each time */

static const char saved[] = "{\"payment\":{\"id\":\"pi_1\",\"amount\":500},\"transfer\":{\"id\":\"tr_1\"},"
			    "\"event\":{\"status\":\"settled\"},\"error\":{\"code\":\"x\",\"message\":\"m\"},\"list\":[1,\"a\",null]}";

static struct hp_bytes default_connector(void)
{
	static struct hp_buf text;

	if (!text.n) {
		hp_buf_init(&text, 1 << 16);
		MUST(hp_read_file(BANK, 1 << 16, &text, NULL) == 0, "run it at the root of the project");
	}
	return hp_buf_bytes(&text);
}

/* NULL: it is no text, so it never gets into a bundle. */
static struct hp_workflow *load(struct hp_bytes workflow, struct hp_bytes connector, struct hp_error *err)
{
	json_t *v = json_pack("{s:{s:{s:s, s:s%}}, s:{s:s, s:s%}}", "connectors", "bank", "file",
			      "plugins/bank/connector.lua", "source", connector.p, connector.n, "workflow", "file",
			      "f.lua", "source", workflow.p, workflow.n);
	struct hp_workflow *w;
	struct hp_buf bundle;

	if (!v) {
		(void)hp_fail(err, HP_E_INVALID, "not UTF-8");
		return NULL;
	}
	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	MUST(hp_json_write(&bundle, v, err) == 0, "%s", err->message);
	json_decref(v);
	w = hp_workflow_load(hp_buf_bytes(&bundle), err);
	hp_buf_free(&bundle);
	return w;
}

static void check_edge(void *arg, int from, int to, const char *label, int line)
{
	const struct hp_definition *d = arg;

	MUST(from >= 0 && from < d->n_states && to >= 0 && to < d->n_states, "%s leads to state %d of %d", label, to,
	     d->n_states);
	MUST(label[0] && line >= 0);
}

static void check_definition(const struct hp_definition *d)
{
	MUST(d->workflow && d->n_states > 0 && d->n_states + d->n_undos <= 2 * HP_STATES_MAX);
	for (int i = 0; i < d->n_states; i++) {
		const struct hp_state *s = &d->states[i];

		MUST(s->name && strlen(s->name) <= HP_NAME_MAX && hp_definition_find(d, s->name) == i);
		MUST(s->n_catches <= HP_CATCHES_MAX && s->n_arms <= HP_ARMS_MAX && s->timeout_us >= 0);
		MUST(!s->has_undo || s->undo == 0 || (s->undo >= d->n_states && s->undo < d->n_states + d->n_undos));
		if (hp_state_calls(s))
			MUST(s->call.op.connector && s->call.op.name);
		hp_definition_edges(d, i, check_edge, (void *)(uintptr_t)d);
	}
	for (int i = d->n_states; i < d->n_states + d->n_undos; i++)
		MUST(d->states[i].undoes >= 0 && d->states[i].undoes < d->n_states);
}

static void check_finding(void *arg, const struct hp_finding *f)
{
	MUST(f->lint && f->lint[0] && f->sentence[0] && memchr(f->sentence, '\0', sizeof f->sentence));
	*(int *)arg += f->fatal;
}

static void no_change(void *arg, const struct hp_change *c)
{
	(void)arg;
	MUST(0, "it differs from itself: %s", c->sentence);
}

static void check_tools(struct hp_workflow *w)
{
	struct hp_error err = {0};
	struct hp_buf out;
	json_t *v;
	int fatal = 0;

	MUST(hp_workflow_check(w, check_finding, &fatal) == fatal);
	hp_workflow_diff(w, w, no_change, NULL);
	hp_buf_init(&out, HP_BUNDLE_MAX);
	if (hp_workflow_graph(w, &out, &err) < 0)
		must_explain(&err);
	hp_buf_clear(&out);
	if (hp_workflow_summary(w, &out, &err) == 0) {
		v = hp_json_parse(out.p, out.n, "the summary", &err);
		MUST(json_is_object(v), "%s", err.message);
		json_decref(v);
	} else {
		must_explain(&err);
	}
	hp_buf_free(&out);
}

/* Which questions the machine may ask of a state of this kind. */
static int evals_of(const struct hp_state *s, enum hp_eval out[8])
{
	int n = 0;

	switch (s->kind) {
	case HP_CALL:
		out[n++] = HP_EVAL_REQUEST;
		if (s->call.has_probe) {
			out[n++] = HP_EVAL_PROBE;
			out[n++] = HP_EVAL_FOUND;
		}
		break;
	case HP_SQL:
		out[n++] = HP_EVAL_ARGS;
		break;
	case HP_CHOOSE:
		out[n++] = HP_EVAL_WHEN;
		break;
	case HP_APPROVAL:
		if (s->approval.has_when)
			out[n++] = HP_EVAL_WHEN;
		out[n++] = HP_EVAL_APPROVAL;
		break;
	case HP_WAIT:
		if (!s->wait.for_us)
			out[n++] = HP_EVAL_UNTIL;
		break;
	case HP_AWAIT:
		out[n++] = HP_EVAL_MAILBOX;
		break;
	case HP_SUCCEED:
	case HP_FAIL:
		out[n++] = HP_EVAL_RESULT;
		break;
	default:
		break;
	}
	if (s->has_set)
		out[n++] = HP_EVAL_SET;
	return n;
}

/* An answer with everything that a connector may look at and hand on. */
static void check_reply(struct hp_workflow *w, struct hp_bytes request)
{
	static const char *headers[][2] = {{"retry-after", "3"}, {"x-name", "\xc3\xa4\xff"}};
	struct hp_incoming in = {.answered = true, .sent = true, .status = 402, .headers = headers, .n_headers = 2};
	struct hp_event ev;
	struct hp_buf out;

	in.body = hp_bytes_of("{\"code\":\"\xf0\x9f\x98\x80-\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
			      "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
			      "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\",\"id\":1}");
	hp_buf_init(&out, HP_RUN_DATA_MAX);
	hp_workflow_reply(w, request, &in, INT64_C(1700000000000000), &out, &ev);
	must_be_reply(&ev);
	hp_buf_free(&out);
}

static void evaluate(struct hp_workflow *w, int state, enum hp_eval e)
{
	struct hp_run_data data = {.id = 7, .visit = 1, .installation = "fuzz", .key = hp_bytes_of("k"),
				   .input = hp_bytes_of("{\"id\":\"i\",\"user\":\"u\",\"amount\":5}"),
				   .saved = hp_bytes_of(saved), .now = INT64_C(1700000000000000)};
	struct hp_action act = {.type = HP_ACT_EVAL, .eval = e, .state = state,
				.value = hp_bytes_of(e == HP_EVAL_FOUND ? "{\"data\":[{\"amount\":500}]}" : "")};
	struct hp_event ev = {0};
	struct hp_error err = {0};
	struct hp_run run;
	struct hp_buf out;

	hp_run_start(&run, 7, data.now);
	run.state = state;
	hp_buf_init(&out, HP_RUN_DATA_MAX);
	hp_workflow_eval(w, &data, &run, &act, &out, &ev);
	MUST(ev.type == HP_EV_VALUE);
	if (!ev.ok) {
		MUST(ev.code && ev.code[0] && ev.message && ev.message[0], "refused without a word");
		must_be_text(ev.code);
		must_be_text(ev.message);
	} else if (ev.value.n > 0 && e != HP_EVAL_MAILBOX) {
		json_t *v = hp_json_parse(ev.value.p, ev.value.n, "a value", &err);

		MUST(v != NULL, "eval %d: %s: %.*s", (int)e, err.message, (int)ev.value.n, ev.value.p);
		json_decref(v);
		if (e == HP_EVAL_REQUEST)
			check_reply(w, ev.value);
	}
	hp_buf_free(&out);
}

static void check_values(struct hp_workflow *w)
{
	const struct hp_definition *d = hp_workflow_definition(w);
	struct hp_bytes input = hp_bytes_of("{\"id\":\"i\",\"user\":\"u\",\"amount\":5}");
	struct hp_error err = {0};
	struct hp_buf key;
	int left = EVALS_MAX;

	hp_buf_init(&key, HP_KEY_MAX + 1);
	if (hp_workflow_check_input(w, input, &err) < 0 || hp_workflow_key(w, input, &key, &err) < 0)
		must_explain(&err);
	hp_buf_free(&key);
	for (int i = 0; i < d->n_states && left > 0; i++) {
		enum hp_eval e[8];
		int n = evals_of(&d->states[i], e);

		for (int k = 0; k < n && left-- > 0; k++)
			evaluate(w, i, e[k]);
	}
}

HP_FUZZ(workflow)
{
	struct hp_bytes source = {(const char *)p, n}, connector = default_connector();
	const char *split = n ? memmem(p, n, SPLIT, strlen(SPLIT)) : NULL;
	struct hp_error err = {0};
	struct hp_workflow *w;

	if (split) {
		source.n = (size_t)(split - source.p);
		connector = (struct hp_bytes){split + strlen(SPLIT), n - source.n - strlen(SPLIT)};
	}
	w = load(source, connector, &err);
	if (!w) {
		must_explain(&err);
		return;
	}
	check_definition(hp_workflow_definition(w));
	check_tools(w);
	check_values(w);
	hp_workflow_free(w);
}
