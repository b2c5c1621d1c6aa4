/* Secrets in the language: what stands for a value in a request, where the value is put
 * in, what a reply's secrets become, and what is blackened. */
#include <stdio.h>
#include "base/arena.h"
#include "lib/suite.h"
#include "script_help.h"

#define W(body) "local bank = connector \"bank\"\nreturn workflow \"w\" {\n" body ",\nsucceed \"done\" {} }"
#define CALL(more) W("call \"a\" { bank.letters.send, " more " }")

struct asked {
	struct hp_workflow *w;
	struct hp_run_data data;
	struct hp_run run;
	struct hp_action act;
	struct hp_buf out;
	struct hp_event ev;
};

static void begin(struct asked *a, const char *source)
{
	memset(a, 0, sizeof *a);
	a->w = must_load(source);
	a->data = (struct hp_run_data){.id = 7,
				       .visit = 1,
				       .installation = "11111111-2222-3333-4444-555555555555",
				       .input = hp_bytes_of("{\"v\":4,\"word\":\"hps_5d0a4a5c\"}"),
				       .saved = hp_bytes_of("{\"new\":{\"key\":{\"secret\":\"K\",\"version\":4}}}"),
				       .now = 1795398000000000};
	a->run = (struct hp_run){.id = 7, .visit = 1, .state = 0};
	hp_buf_init(&a->out, 1 << 20);
}

static const struct hp_event *ask(struct asked *a, enum hp_eval what)
{
	a->act = (struct hp_action){.type = HP_ACT_EVAL, .eval = what};
	hp_workflow_eval(a->w, &a->data, &a->run, &a->act, &a->out, &a->ev);
	return &a->ev;
}

static void end(struct asked *a)
{
	hp_buf_free(&a->out);
	hp_workflow_free(a->w);
}

static json_t *request(struct asked *a)
{
	const struct hp_event *ev = ask(a, HP_EVAL_REQUEST);
	json_t *rq;

	ck_assert_msg(ev->ok, "%s", ev->message);
	rq = hp_json_parse(ev->value.p, ev->value.n, "request", NULL);
	ck_assert_ptr_nonnull(rq);
	return rq;
}

static const char *secret_of(void *arg, const char *name, const char *version)
{
	(void)arg;
	if (strcmp(name, "ODD") == 0)
		return "a\"b\\c&d=e/+";
	if (strcmp(name, "API_KEY") == 0)
		return !version ? "current-value" : strcmp(version, "4") == 0 ? "fourth-value" : NULL;
	if (strcmp(name, "BANK_KEY") == 0)
		return version ? "bank-pending" : "bank-current";
	return strncmp(name, "BANK_", 5) == 0 ? "bank-other" : NULL;
}

/* What is sent for the request that `a` asks for. */
static struct hp_outgoing sent(struct asked *a, struct hp_arena *arena)
{
	static struct hp_buf copy;
	struct hp_environment env = {.secret = secret_of};
	const struct hp_event *ev = ask(a, HP_EVAL_REQUEST);
	struct hp_outgoing out;
	struct hp_error err = {0};

	ck_assert_msg(ev->ok, "%s", ev->message);
	hp_buf_init(&copy, 1 << 20);
	hp_buf_add(&copy, ev->value.p, ev->value.n);
	ck_assert_msg(hp_workflow_outgoing(a->w, hp_buf_bytes(&copy), &env, arena, &out, &err) == 0, "%s", err.message);
	hp_buf_free(&copy);
	return out;
}

static const char *header(const struct hp_outgoing *o, const char *name)
{
	for (int i = 0; i < o->n_headers; i++)
		if (strcmp(o->headers[i][0], name) == 0)
			return o->headers[i][1];
	return "";
}

START_TEST(a_word_stands_for_the_value)
{
	struct asked a;
	json_t *rq, *again, *refs, *v;
	const char *word, *body;
	int n = 0;

	begin(&a, CALL("with = function(run) return { value = secret(\"API_KEY\", run.new.key.version), trace = run.input.word, "
		       "two = { \"x \" .. secret \"API_KEY\" .. \" y\" } } end"));
	rq = request(&a);
	again = request(&a);
	ck_assert(json_equal(rq, again)); /* a repeat is the same request */
	body = hp_json_str(rq, "body");
	ck_assert_ptr_null(strstr(body, "value-of"));
	refs = json_object_get(rq, "secrets");
	json_object_foreach(refs, word, v) {
		ck_assert_uint_eq(strlen(word), 44);
		ck_assert_ptr_nonnull(strstr(body, word));
		ck_assert_str_eq(hp_json_str(v, "name"), "API_KEY");
		n++;
	}
	ck_assert_int_eq(n, 2);
	/* the run's own text that looks like one is a text */
	ck_assert_ptr_nonnull(strstr(body, "\"trace\":\"hps_5d0a4a5c\""));
	json_decref(again);
	/* another visit has other words */
	a.run.visit = 2;
	again = request(&a);
	ck_assert(!json_equal(rq, again));
	json_decref(again);
	json_decref(rq);
	end(&a);
}
END_TEST

START_TEST(values_are_put_in_when_it_leaves)
{
	struct hp_arena *arena = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(arena);
	struct hp_outgoing out;
	struct asked a;

	begin(&a, CALL("with = { value = secret(\"API_KEY\", \"{input.v}\"), trace = secret \"API_KEY\" }"));
	out = sent(&a, arena);
	ck_assert_str_eq(out.body.p, "{\"trace\":\"current-value\",\"value\":\"fourth-value\"}");
	ck_assert_uint_eq(out.body.n, strlen(out.body.p));
	ck_assert_str_eq(header(&out, "x-trace"), "t-current-value");
	ck_assert_str_eq(header(&out, "authorization"), "Bearer bank-current");
	ck_assert_int_ge(out.n_used, 5);
	end(&a);
	/* each place writes it its own way */
	begin(&a, CALL("with = { value = secret \"ODD\" }"));
	out = sent(&a, arena);
	ck_assert_str_eq(out.body.p, "{\"value\":\"a\\\"b\\\\c&d=e/+\"}");
	end(&a);
	begin(&a, W("call \"a\" { bank.transfers.create, with = { amount = 1, to = secret \"ODD\" } }"));
	out = sent(&a, arena);
	ck_assert_ptr_nonnull(strstr(out.body.p, "to=a%22b%5Cc%26d%3De%2F%2B"));
	end(&a);
	/* another version of the connector's own */
	begin(&a, CALL("with = {}, using = { BANK_KEY = \"pending\" }"));
	out = sent(&a, arena);
	ck_assert_str_eq(header(&out, "authorization"), "Bearer bank-pending");
	ck_assert_str_eq(header(&out, "x-plain"), "bank-pending");
	end(&a);
	hp_arena_free(arena);
}
END_TEST

static void refuses(const char *source, const char *code, const char *words)
{
	const struct hp_event *ev;
	struct asked a;

	begin(&a, source);
	ev = ask(&a, HP_EVAL_REQUEST);
	ck_assert_msg(!ev->ok, "accepted: %s", source);
	ck_assert_str_eq(ev->code, code);
	ck_assert_msg(strstr(ev->message, words) != NULL, "%s", ev->message);
	end(&a);
}

START_TEST(a_secret_stands_only_where_it_is_safe)
{
	struct asked a;

	refuses(W("call \"a\" { bank.transfers.list, with = { to = secret \"API_KEY\" } }"), "request_invalid",
		"the secret API_KEY would stand in the URL");
	refuses(W("call \"a\" { bank.letters.send, with = {}, key = function() return \"k\" .. secret \"API_KEY\" end }"), "request_invalid",
		"would stand in the URL or in the key");
	refuses(W("call \"a\" { bank.notes.put, with = { path = \"/n\", text = \"t\", lost = secret \"API_KEY\" } }"), "request_invalid",
		"the connector does not pass it on");
	refuses(CALL("with = function(run) return { v = secret(\"API_KEY\", run.input.word) } end"), "script_error",
		"a version is \"current\"");
	refuses(CALL("with = {}, using = { BANK_KEY = function(run) return run.input.nothing.at_all end }"), "script_error", "t.lua:3: attempt to index a nil value");
	refuses(CALL("with = {}, using = { BANK_KEY = \"{input.word}\" }"), "request_invalid", "using: BANK_KEY: a version is");
	begin(&a, W("choose \"a\" { { when = true, next = \"done\" }, otherwise = \"done\", set = { x = function() return secret \"API_KEY\" end } }"));
	ck_assert(!ask(&a, HP_EVAL_SET)->ok);
	ck_assert_ptr_nonnull(strstr(a.ev.message, "can stand in `with` only"));
	end(&a);
}
END_TEST

static void not_loaded(const char *source, const char *words)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_text(source, &err);

	ck_assert_msg(w == NULL, "loaded: %s", source);
	ck_assert_msg(strstr(err.message, words) != NULL, "%s", err.message);
}

START_TEST(mistakes_are_named_when_loading)
{
	not_loaded(CALL("with = { v = secret \"lower\" }"), "\"lower\" cannot be the name of a secret");
	not_loaded(CALL("with = { v = secret(\"A\", \"pendin\") }"), "a version is \"current\", \"pending\", \"previous\" or a number, not \"pendin\"");
	not_loaded(CALL("save = secret(\"A\", 3)"), "a reply becomes a new version by itself");
	not_loaded(CALL("save = secret { A = \"x\", B = \"y\" }"), "needs a name for the rest");
	not_loaded(CALL("save = secret {}"), "names from 1 to 8 secrets");
	not_loaded(CALL("save = secret { a = \"x\", as = \"y\" }"), "\"a\" cannot be the name of a secret");
	not_loaded(CALL("save = secret { A = \"x\", as = \"Y\" }"), "cannot be the name of a saved value");
	not_loaded(CALL("using = { BANK_KEI = \"pending\" }"), "does not use \"BANK_KEI\", did you mean \"BANK_KEY\"?");
	not_loaded(CALL("using = { BANK_KEY = \"old\" }"), "not \"old\"");
	not_loaded(CALL("promote = 3"), "promote must be \"NAME\"");
	not_loaded(CALL("retire = { \"A\", 3 }"), "retire must be \"NAME\"");
	not_loaded(CALL("retire = secret { A = \"x\" }"), "belongs to `save`");
	not_loaded(CALL("promote = secret(\"A\", \"previous\")"),
		   "promote: the version is \"pending\" (the newest one) or a number, not \"previous\"");
	not_loaded(CALL("promote = { \"B\", secret(\"A\", \"current\") }"), "promote: the version is");
	not_loaded(CALL("retire = secret(\"A\", \"current\")"),
		   "retire: the version is \"previous\", \"pending\" or a number, not \"current\"");
	/* the name it would be saved as is wanted before the state is read */
	not_loaded(CALL("save = secret { A = \"x\", as = 3 }"), "t.lua:3: state \"a\": as must be text");
	not_loaded(CALL("save = \"x\" .. secret \"A\""), "save must be text");
	not_loaded(CALL("with = { v = secret \"A\" .. {} }"), "a secret is joined to a text or a number, not to a table");
	not_loaded(CALL("with = { v = \"{nothing} \" .. secret \"A\" }"), "nothing is saved as \"nothing\"");
	not_loaded(W("wait \"a\" { for_ = \"1s\", save = secret \"A\" }"), "unknown field \"save\"");
}
END_TEST

START_TEST(promote_and_retire_are_said_for_the_commit)
{
	const struct hp_event *ev;
	struct asked a;

	begin(&a, CALL("with = {}, promote = secret(\"API_KEY\", \"{input.v}\"), retire = { \"OLD\", secret(\"X\", \"pending\") }"));
	ev = ask(&a, HP_EVAL_SET);
	ck_assert_msg(ev->ok, "%s", ev->message);
	ck_assert_uint_eq(ev->value.n, 0);
	ck_assert_uint_eq(ev->secrets.n, strlen("{\"ops\":[{\"op\":\"promote\",\"name\":\"API_KEY\",\"version\":4},{\"op\":\"retire\",\"name\":\"OLD\"},"
					    "{\"op\":\"retire\",\"name\":\"X\",\"which\":\"pending\"}]}"));
	ck_assert_int_eq(strncmp(ev->secrets.p, "{\"ops\":[{\"op\":\"promote\",\"name\":\"API_KEY\",\"version\":4},", 50), 0);
	end(&a);
}
END_TEST

START_TEST(versions_a_run_gives_are_looked_at_too)
{
	static const struct {
		const char *ops, *words;
	} wrong[] = {
		{"promote = secret(\"A\", \"{input.word}\")", "promote: the version is \"pending\" (the newest one) or a number, not \"hps_5d0a4a5c\""},
		{"retire = secret(\"A\", \"{input.live}\")", "retire: the version is \"previous\", \"pending\" or a number, not \"current\""},
		{"promote = secret(\"A\", \"{input.old}\")", "promote: the version is"},
		{"retire = secret(\"A\", \"{input.yes}\")", "retire: the version is"},
	};
	struct asked a;

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char source[400];

		(void)snprintf(source, sizeof source, CALL("with = {}, %s"), wrong[i].ops);
		begin(&a, source);
		a.data.input = hp_bytes_of("{\"word\":\"hps_5d0a4a5c\",\"live\":\"current\",\"old\":\"previous\",\"yes\":true}");
		ck_assert(!ask(&a, HP_EVAL_SET)->ok);
		ck_assert_msg(strstr(a.ev.message, wrong[i].words) != NULL, "%s", a.ev.message);
		end(&a);
	}
}
END_TEST

/* As docs/authoring.md has it: a text is put together while loading, its word later. */
START_TEST(a_secret_stands_in_a_text)
{
	struct hp_arena *arena = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(arena);
	struct hp_outgoing out;
	struct asked a;

	begin(&a, CALL("with = { value = \"token \" .. secret \"API_KEY\", trace = 4 .. secret(\"API_KEY\", \"{input.v}\") .. \"/{input.v}\" }"));
	out = sent(&a, arena);
	ck_assert_str_eq(out.body.p, "{\"trace\":\"4fourth-value/4\",\"value\":\"token current-value\"}");
	ck_assert_str_eq(header(&out, "x-trace"), "t-4fourth-value/4");
	end(&a);
	/* made beside the states, used in a function, and joined on there */
	begin(&a, "local key = \"a \" .. secret \"API_KEY\" .. \" b\"\n"
		  CALL("with = function() return { value = key, trace = key .. secret \"API_KEY\" .. 1 } end"));
	out = sent(&a, arena);
	ck_assert_str_eq(out.body.p, "{\"trace\":\"a current-value bcurrent-value1\",\"value\":\"a current-value b\"}");
	end(&a);
	begin(&a, W("choose \"a\" { { when = true, next = \"done\" }, otherwise = \"done\", set = { x = \"t \" .. secret \"API_KEY\" } }"));
	ck_assert(!ask(&a, HP_EVAL_SET)->ok);
	ck_assert_ptr_nonnull(strstr(a.ev.message, "can stand in `with` only"));
	end(&a);
	refuses(CALL("with = { v = \"{input.no}\" .. secret \"API_KEY\" }"), "script_error", "this run has no {input.no}");
	refuses(CALL("with = { v = \"{input}\" .. secret \"API_KEY\" }"), "script_error", "not to a table");
	hp_arena_free(arena);
}
END_TEST

/* "ok: text of what is saved", or the sentence. */
static const char *saved_of(const char *source, const char *reply)
{
	static struct hp_buf out;
	struct hp_workflow *w = must_load(source);
	json_t *value = hp_json_parse(reply, strlen(reply), "reply", NULL), *docs = json_array();
	struct hp_error err = {0};
	struct hp_bytes text;
	const char *name;
	int n = hp_workflow_secrets(w, 0), rc = 0;

	hp_buf_free(&out); /* of the question before */
	hp_buf_init(&out, 1 << 20);
	for (int i = 0; i < n && rc == 0; i++) {
		rc = hp_workflow_secret_of(w, 0, i, value, &name, &text, &err);
		json_array_append_new(docs, json_pack("{s:i,s:s}", "version", i + 3, "fingerprint", "f0"));
	}
	if (rc == 0)
		rc = hp_workflow_secret_refs(w, 0, &value, docs, &out, &err);
	if (rc < 0)
		hp_buf_adds(&out, err.message);
	json_decref(value);
	json_decref(docs);
	hp_workflow_free(w);
	return hp_buf_str(&out);
}

START_TEST(a_reply_is_saved_without_its_secrets)
{
	ck_assert_str_eq(saved_of(CALL("save = secret { API_KEY = \"a.key\", as = \"new\" }"),
				  "{\"id\":1,\"a\":{\"key\":\"tell-nobody\"},\"note\":\"it is tell-nobody!\"}"),
			 "{\"a\":{\"key\":{\"fingerprint\":\"f0\",\"secret\":\"API_KEY\",\"version\":3}},\"id\":1,\"note\":\"it is [secret API_KEY]!\"}");
	ck_assert_str_eq(saved_of(CALL("save = secret \"API_KEY\""), "\"tell-nobody\""),
			 "{\"fingerprint\":\"f0\",\"secret\":\"API_KEY\",\"version\":3}");
	/* the operation says where it is */
	ck_assert_str_eq(saved_of(W("call \"a\" { bank.keys.create, save = secret \"API_KEY\" }"), "{\"key\":\"tell-nobody\"}"),
			 "{\"key\":{\"fingerprint\":\"f0\",\"secret\":\"API_KEY\",\"version\":3}}");
	ck_assert_str_eq(saved_of(CALL("save = secret { A = \"x\", B = \"y\", as = \"both\" }"), "{\"x\":\"tell-nobody\",\"y\":\"nor-anybody\"}"),
			 "{\"x\":{\"fingerprint\":\"f0\",\"secret\":\"A\",\"version\":3},\"y\":{\"fingerprint\":\"f0\",\"secret\":\"B\",\"version\":4}}");
	ck_assert_str_eq(saved_of(CALL("save = secret { API_KEY = \"key\", as = \"new\" }"), "{\"id\":1}"),
			 "the reply has no text at \"key\", where the secret API_KEY is to be found");
	ck_assert_str_eq(saved_of(CALL("save = secret \"API_KEY\""), "{\"key\":\"x\"}"),
			 "the reply has no text at \"(all of it)\", where the secret API_KEY is to be found");
}
END_TEST

START_TEST(what_was_sent_is_blackened_in_every_spelling)
{
	static const char value[] = "k/+=\"\\é-long";
	static const char *const said[] = {"plain k/+=\"\\é-long.", "json k/+=\\\"\\\\é-long.", "url k%2F%2B%3D%22%5C%C3%A9-long.",
					   "b64 ay8rPSJcw6ktbG9uZw==", "in it eGsvKz0iXMOpLWxvbmc=", "in it too eHhrLys9IlzDqS1sb25n",
					   "url-safe ay8rPSJcw6ktbG9uZw", "hex 6b2f2b3d225cc3a92d6c6f6e67", "HEX 6B2F2B3D225CC3A92D6C6F6E67"};
	struct hp_used_secret used[] = {{"USER", "bob", NULL}, {"KEY", value, "cGFpcg=="}};
	struct hp_scrubber s, none;
	struct hp_buf out;

	hp_buf_init(&out, 1 << 20);
	ck_assert_int_eq(hp_scrubber_init(&s, used, 2), 0);
	ck_assert_int_eq(hp_scrubber_init(&none, used, 0), 0);
	for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
		hp_buf_clear(&out);
		ck_assert_msg(hp_scrub(&s, hp_bytes_of(said[i]), &out) == 1, "not found: %s", said[i]);
		ck_assert_msg(strstr(hp_buf_str(&out), "[secret KEY]") != NULL, "%s", hp_buf_str(&out));
	}
	hp_buf_clear(&out);
	/* what has none of it is left as it is; three letters are found in innocent texts */
	ck_assert_int_eq(hp_scrub(&s, hp_bytes_of("bob builds"), &out), 0);
	ck_assert_int_eq(hp_scrub(&s, (struct hp_bytes){NULL, 0}, &out), 0);
	ck_assert_int_eq(hp_scrub(&none, hp_bytes_of(said[0]), &out), 0);
	ck_assert_uint_eq(out.n, 0);
	/* all at once, more than once, and what is longer than a secret of the table */
	ck_assert_int_eq(hp_scrub(&s, hp_bytes_of("cGFpcg==, k/+=\"\\é-long k/+=\"\\é-long: k%2F%2B%3D%22%5C%C3%A9-long"), &out), 1);
	ck_assert_str_eq(hp_buf_str(&out), "[secret KEY], [secret KEY] [secret KEY]: [secret KEY]");
	hp_scrubber_free(&s);
	hp_scrubber_free(&none);
	hp_buf_free(&out);
}
END_TEST

HP_SUITE("script secret", a_word_stands_for_the_value, values_are_put_in_when_it_leaves,
	 a_secret_stands_only_where_it_is_safe, mistakes_are_named_when_loading,
	 promote_and_retire_are_said_for_the_commit, versions_a_run_gives_are_looked_at_too, a_secret_stands_in_a_text, a_reply_is_saved_without_its_secrets,
	 what_was_sent_is_blackened_in_every_spelling)
