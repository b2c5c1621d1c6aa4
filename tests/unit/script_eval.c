/* What the machine's questions are answered with. */
#include <stdio.h>
#include "script_help.h"
#include "base/clock.h"
#include "core/keys.h"
#include "lib/suite.h"

#define NOW INT64_C(1795398000000000)

struct asked {
	struct hp_workflow *w;
	struct hp_run_data data;
	struct hp_run run;
	struct hp_transition pending;
	struct hp_action act;
	struct hp_buf out;
	struct hp_event ev;
};

static void start_from(struct asked *a, struct hp_workflow *w, const char *input, const char *saved)
{
	memset(a, 0, sizeof *a);
	a->w = w;
	a->data = (struct hp_run_data){.id = 7, .visit = 3, .installation = "test", .key = hp_bytes_of("k-1"),
				       .input = hp_bytes_of(input), .saved = hp_bytes_of(saved), .now = NOW};
	a->run.id = 7;
	a->run.visit = 3;
	hp_buf_init(&a->out, HP_RUN_DATA_MAX);
}

static void start(struct asked *a, const char *source, const char *input, const char *saved)
{
	start_from(a, must_load(source), input, saved);
}

static void end(struct asked *a)
{
	hp_buf_free(&a->out);
	hp_workflow_free(a->w);
}

static const struct hp_event *ask(struct asked *a, enum hp_eval what, const char *state, int index)
{
	a->act.type = HP_ACT_EVAL;
	a->act.eval = what;
	a->act.state = hp_definition_find(hp_workflow_definition(a->w), state);
	a->act.index = index;
	ck_assert_int_ge(a->act.state, 0);
	hp_workflow_eval(a->w, &a->data, &a->run, &a->act, &a->out, &a->ev);
	ck_assert_int_eq(a->ev.type, HP_EV_VALUE);
	return &a->ev;
}

static void is_bytes(struct hp_bytes b, const char *text)
{
	ck_assert_msg(b.n == strlen(text) && memcmp(b.p ? b.p : "", text, b.n) == 0, "is %.*s, not %s", (int)b.n, b.p, text);
}

static void refused(const struct hp_event *ev, const char *code, const char *message)
{
	ck_assert_msg(!ev->ok, "was not refused: %.*s", (int)ev->value.n, ev->value.p);
	ck_assert_str_eq(ev->code, code);
	ck_assert_str_eq(ev->message, message);
	ck_assert_int_eq(ev->outcome, HP_NEEDS_PERSON);
}

#define W(body) "local bank = connector \"bank\"\nreturn workflow \"w\" {\n" body ",\nsucceed \"done\" {} }"
#define RESULT(expr) "return workflow \"w\" {\nsucceed \"a\" { result = " expr " } }"

/* ---- expressions ---- */

static const struct {
	const char *expr, *value; /* NULL value: the message follows */
	const char *message;
} expressions[] = {
	{"5", "5", NULL},
	{"true", "true", NULL},
	{"1.5", "1.5", NULL},
	{"'plain'", "\"plain\"", NULL},
	{"'{input.n}'", "41", NULL},
	{"'{input.o}'", "{\"a\":{\"b\":null}}", NULL},
	{"'{input.list}'", "[1,\"two\",{\"three\":3.5}]", NULL},
	{"'{input.list.2}'", "\"two\"", NULL},
	{"'{input.list.3.three}'", "3.5", NULL},
	{"'{input.empty}'", "[]", NULL},
	{"'n={input.n} t={input.t} r={input.list.3.three}'", "\"n=41 t=true r=3.5\"", NULL},
	{"'{{{input.n}}} {{x}}'", "\"{41} {x}\"", NULL},
	{"'{run.id}'", "7", NULL},
	{"'{run.key}/{run.id}'", "\"k-1/7\"", NULL},
	{"'{run.now}'", "1795398000000000", NULL},
	{"'{run.input.n}'", "41", NULL},
	{"{ a = '{input.n}', b = { '{input.s}', 2, function(run) return run.input.n + 1 end } }",
	 "{\"a\":41,\"b\":[\"é\",2,42]}", NULL},
	{"function(run) return run.input.o end", "{\"a\":{\"b\":null}}", NULL},
	{"function(run) return run.input.nothing end", "", NULL},
	{"function(run) return { x = run.input.nothing, y = json.null } end", "{\"y\":null}", NULL},
	{"{ 1, function() return nil end, 3 }", "[1,null,3]", NULL},
	{"function(run) return run.id .. run.key .. run.now end", "\"7k-11795398000000000\"", NULL},
	{"function(run) local n = 0; for k in pairs(run) do n = n + 1 end return n end", "5", NULL},
	{"function(run) run.input.o.a = 1; return run.input.o.a end", "1", NULL},
	{"'{input.m}'", NULL, "t.lua:2: state \"a\": result: this run has no {input.m}"},
	{"'x {input.o.zz.y} y'", NULL, "t.lua:2: state \"a\": result: this run has no {input.o.zz.y}"},
	{"'x {input.o}'", NULL, "t.lua:2: state \"a\": result: {input.o} is a table and cannot be part of a text"},
	{"'x {input.o.a.b}'", NULL, "t.lua:2: state \"a\": result: {input.o.a.b} is null and cannot be part of a text"},
	{"'{input.s.len}'", NULL, "t.lua:2: state \"a\": result: this run has no {input.s.len}"},
	{"function(run) return run.payment.id end", NULL, "t.lua:2: attempt to index a nil value (field 'payment')"},
	{"function(run) run.x = 1 end", NULL, "t.lua:2: run is read-only; save a value with `save` or `set`"},
	{"function(run) error('no') end", NULL, "t.lua:2: no"},
};

START_TEST(expressions_have_values)
{
	char source[1024];
	struct asked a;
	const struct hp_event *ev;

	snprintf(source, sizeof source, RESULT("%s"), expressions[_i].expr);
	start(&a, source,
	      "{\"n\":41,\"s\":\"é\",\"t\":true,\"o\":{\"a\":{\"b\":null}},\"list\":[1,\"two\",{\"three\":3.5}],\"empty\":[]}",
	      "{\"saved\":1}");
	ev = ask(&a, HP_EVAL_RESULT, "a", 0);
	if (expressions[_i].value) {
		ck_assert_msg(ev->ok, "%s", ev->message);
		is_bytes(ev->value, expressions[_i].value);
	} else {
		refused(ev, "script_error", expressions[_i].message);
	}
	end(&a);
}
END_TEST

START_TEST(what_is_not_committed_lies_on_top)
{
	struct asked a;

	start(&a, W("call \"a\" { bank.ping, save = \"x\", set = { sum = function(run) return run.x + run.y + run.z end,\n"
		    "all = function(run) local t = {} for k in pairs(run) do t[#t + 1] = k end table.sort(t) return t end } }"),
	      "{}", "{\"x\":1,\"y\":10,\"z\":100,\"old\":0}");
	a.pending.saves[0] = (struct hp_save){"x", hp_bytes_of("2")};
	a.pending.saves[1] = (struct hp_save){NULL, hp_bytes_of("{\"z\":200,\"new\":true}")};
	a.pending.n_saves = 2;
	a.act.pending = &a.pending;
	is_bytes(ask(&a, HP_EVAL_SET, "a", 0)->value,
		 "{\"all\":[\"id\",\"input\",\"key\",\"new\",\"now\",\"old\",\"x\",\"y\",\"z\"],\"sum\":212}");
	end(&a);
}
END_TEST

START_TEST(what_a_run_has_can_be_listed)
{
	struct asked a;

	start(&a, W("sweep \"a\" { as = service, cursor = \"id\", first = 0, rows = \"select $1, $2\", exec = \"select $1, $2\", "
		    "call = { bank.notes.put, with = function(run) local t = {} for k in pairs(run) do t[#t + 1] = k end "
		    "table.sort(t) return { path = \"/n\", text = table.concat(t, \" \") .. run.row.id } end } }"),
	      "{}", "{\"x\":1}");
	a.act.value = hp_bytes_of("{\"id\":9}");
	ck_assert_ptr_nonnull(strstr(ask(&a, HP_EVAL_REQUEST, "a", 0)->value.p, "id input key now row x9"));
	end(&a);
}
END_TEST

START_TEST(a_choice_may_set)
{
	struct asked a;

	start(&a, W("choose \"a\" { { when = function(run) return run.n > 2 end, next = \"done\" }, otherwise = \"done\", "
		    "set = { n = function(run) return run.n + 1 end } }"),
	      "{}", "{\"n\":1}");
	ck_assert(hp_workflow_definition(a.w)->states[0].has_set);
	is_bytes(ask(&a, HP_EVAL_SET, "a", 0)->value, "{\"n\":2}");
	end(&a);
}
END_TEST

START_TEST(a_kept_run_is_refused)
{
	struct asked a;

	start(&a, "local kept\nreturn workflow \"w\" { succeed \"a\" { result = function(run)\n"
		  "if kept then return kept.input end\nkept = run\nreturn 1 end } }",
	      "{}", "");
	ck_assert(ask(&a, HP_EVAL_RESULT, "a", 0)->ok);
	refused(ask(&a, HP_EVAL_RESULT, "a", 0), "script_error",
		"t.lua:3: this `run` belongs to an earlier evaluation; a function must not keep it");
	end(&a);
}
END_TEST

START_TEST(a_killed_state_is_built_again)
{
	struct asked a;
	int i;

	start(&a, "return workflow \"w\" { succeed \"a\" { result = function(run)\n"
		  "if run.input == 1 then while true do end end\n"
		  "if run.input == 2 then local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5) .. i end end\n"
		  "if run.input == 3 then while true do pcall(error) end end\n"
		  "return 'fine' end } }",
	      "1", "");
	for (i = 1; i <= 3; i++) {
		char input[2] = {(char)('0' + i), 0};

		a.data.input = hp_bytes_of(input);
		ck_assert(!ask(&a, HP_EVAL_RESULT, "a", 0)->ok);
		ck_assert_str_eq(a.ev.code, "script_error");
		ck_assert_int_ne(a.ev.message[0], 0);
		a.data.input = hp_bytes_of("0");
		is_bytes(ask(&a, HP_EVAL_RESULT, "a", 0)->value, "\"fine\"");
	}
	end(&a);
}
END_TEST

/* ---- input and keys ---- */

START_TEST(input_is_checked)
{
	static const struct {
		const char *input, *message;
	} cases[] = {
		{"{\"id\":\"x\",\"n\":1,\"more\":[]}", NULL},
		{"{\"id\":\"x\",\"n\":null,\"tags\":[\"a\"],\"speed\":\"fast\",\"in\":{\"ok\":true,\"rate\":1}}", NULL},
		{"{}", "input.id is missing"},
		{"[]", "input must be an object, not a list"},
		{"{\"id\":5}", "input.id must be a text, not a whole number"},
		{"{\"id\":\"x\",\"n\":1.5}", "input.n must be a whole number, not a number"},
		{"{\"id\":\"x\",\"tags\":[\"a\",null]}", "input.tags[2] must be a text, not null"},
		{"{\"id\":\"x\",\"speed\":\"faster\"}", "input.speed must be one of \"slow\", \"fast\""},
		{"{\"id\":\"x\",\"in\":{\"ok\":1,\"rate\":1}}", "input.in.ok must be true or false, not a whole number"},
		{"{\"id\":\"x\",\"in\":{\"ok\":true}}", "input.in.rate is missing"},
	};
	struct asked a;
	size_t i;

	start(&a, W("input = { id = text, n = optional(integer), tags = optional(list(text)), x = optional(any),\n"
		    "speed = optional(one_of { 'slow', 'fast' }), ['in'] = optional { ok = boolean, rate = number } },\n"
		    "succeed \"a\" {}"),
	      "", "");
	for (i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct hp_error err = {0};

		a.data.input = hp_bytes_of(cases[i].input);
		ask(&a, HP_EVAL_INPUT, "a", 0);
		if (cases[i].message)
			refused(&a.ev, "input_invalid", cases[i].message);
		else
			ck_assert_msg(a.ev.ok, "%s", a.ev.message);
		ck_assert_int_eq(hp_workflow_check_input(a.w, a.data.input, &err), cases[i].message ? -1 : 0);
	}
	end(&a);
}
END_TEST

START_TEST(the_runs_key)
{
	struct hp_workflow *w = must_load("return workflow \"w\" { key = \"b:{input.id}\", succeed \"a\" {} }");
	struct hp_workflow *none = must_load("return workflow \"w\" { succeed \"a\" {} }");
	struct hp_workflow *fn = must_load("return workflow \"w\" { key = function(run) return run.id or run.input.id end,\n"
					   "succeed \"a\" {} }");
	struct hp_error err = {0};
	struct hp_buf out;

	hp_buf_init(&out, HP_KEY_MAX);
	ck_assert_int_eq(hp_workflow_key(w, hp_bytes_of("{\"id\":\"7\"}"), &out, &err), 0);
	ck_assert_str_eq(hp_buf_str(&out), "b:7");
	hp_buf_clear(&out);
	ck_assert_int_eq(hp_workflow_key(none, hp_bytes_of("{}"), &out, &err), 0);
	ck_assert_uint_eq(out.n, 0);
	ck_assert_int_eq(hp_workflow_key(fn, hp_bytes_of("{\"id\":12}"), &out, &err), 0);
	ck_assert_str_eq(hp_buf_str(&out), "12"); /* there is no run.id yet */
	ck_assert_int_eq(hp_workflow_key(w, hp_bytes_of("{}"), &out, &err), -1);
	ck_assert_str_eq(err.message, "t.lua:1: key: this run has no {input.id}");
	ck_assert_int_eq(hp_workflow_key(fn, hp_bytes_of("{\"id\":{}}"), &out, &err), -1);
	ck_assert_str_eq(err.message, "t.lua:1: key must be a text, not a table");
	hp_workflow_free(fn);
	fn = must_load("return workflow \"w\" { key = function(run) return run.input and '\\0' end, succeed \"a\" {} }");
	ck_assert_int_eq(hp_workflow_key(fn, hp_bytes_of("{}"), &out, &err), -1);
	ck_assert_str_eq(err.message, "the run's key contains a zero byte");
	hp_workflow_free(fn);
	fn = must_load("return workflow \"w\" { key = function(run) return '\\xff' end, succeed \"a\" {} }");
	ck_assert_int_eq(hp_workflow_key(fn, hp_bytes_of("{}"), &out, &err), -1);
	ck_assert_str_eq(err.message, "the run's key is not valid UTF-8");
	hp_buf_free(&out);
	hp_workflow_free(w);
	hp_workflow_free(none);
	hp_workflow_free(fn);
}
END_TEST

/* ---- requests ---- */

#define PAY(more) \
	W("call \"pay\" { bank.transfers.create, with = { amount = '{input.n}', to = 'a&b', note = '{input.note}',\n" \
	  "tags = { 'x', 'y z' }, urgent = true }, " more " }")

START_TEST(a_request_is_canonical_bytes)
{
	char derived[HP_EFFECT_KEY_LEN], want[2048];
	uint8_t hash[HP_SHA256_LEN];
	struct asked a;

	start(&a, PAY(""), "{\"n\":500,\"note\":\"é\"}", "");
	ask(&a, HP_EVAL_REQUEST, "pay", 0);
	ck_assert_msg(a.ev.ok, "%s", a.ev.message);
	hp_effect_key("test", 7, "pay", 3, 0, derived);
	snprintf(want, sizeof want,
		 "{\"body\":\"amount=500&metadata[key]=%s&metadata[run]=7&note=%%C3%%A9&tags[0]=x&tags[1]=y%%20z&to=a%%26b&"
		 "urgent=true\",\"connector\":\"bank\",\"headers\":{\"authorization\":{\"bearer\":\"BANK_KEY\"},"
		 "\"bank-version\":\"2026-01-01\",\"content-type\":\"application/x-www-form-urlencoded\","
		 "\"idempotency-key\":\"%s\",\"x-basic\":{\"basic\":[\"BANK_USER\",\"BANK_PASSWORD\"]},"
		 "\"x-plain\":{\"secret\":\"BANK_KEY\"}},\"key\":\"%s\",\"method\":\"POST\","
		 "\"operation\":\"transfers.create\",\"path\":\"/transfers\"}",
		 derived, derived, derived);
	is_bytes(a.ev.value, want);
	is_bytes(a.ev.key, derived);
	hp_sha256(want, strlen(want), hash);
	ck_assert_mem_eq(a.ev.hash, hash, sizeof hash);
	/* the visit is the one being entered, when that is not yet committed */
	a.pending.after.visit = 4;
	a.act.pending = &a.pending;
	hp_effect_key("test", 7, "pay", 4, 0, derived);
	is_bytes(ask(&a, HP_EVAL_REQUEST, "pay", 0)->key, derived);
	end(&a);
}
END_TEST

START_TEST(a_business_key_is_used_as_it_is)
{
	struct asked a;

	start(&a, PAY("key = 'pay:{input.id}'"), "{\"n\":500,\"note\":\"\",\"id\":\"p 1\"}", "");
	refused(ask(&a, HP_EVAL_REQUEST, "pay", 0), "key_invalid",
		"t.lua:3: state \"pay\": bank.transfers.create: the key may have visible ASCII characters only; number 6 is not");
	a.data.input = hp_bytes_of("{\"n\":500,\"note\":\"\",\"id\":\"p1\"}");
	is_bytes(ask(&a, HP_EVAL_REQUEST, "pay", 0)->key, "pay:p1");
	ck_assert_ptr_nonnull(memmem(a.ev.value.p, a.ev.value.n, "\"idempotency-key\":\"pay:p1\"", 26));
	end(&a);
	start(&a, PAY("key = function(run) return ('k'):rep(run.input.len) end"), "{\"n\":1,\"note\":\"\",\"len\":255}", "");
	ck_assert(ask(&a, HP_EVAL_REQUEST, "pay", 0)->ok);
	a.data.input = hp_bytes_of("{\"n\":1,\"note\":\"\",\"len\":256}");
	refused(ask(&a, HP_EVAL_REQUEST, "pay", 0), "key_invalid",
		"t.lua:3: state \"pay\": bank.transfers.create: the key is longer than 255 characters");
	a.data.input = hp_bytes_of("{\"n\":1,\"note\":\"\",\"len\":0}");
	refused(ask(&a, HP_EVAL_REQUEST, "pay", 0), "key_invalid",
		"t.lua:3: state \"pay\": bank.transfers.create: the key is empty");
	end(&a);
}
END_TEST

START_TEST(requests_of_other_shapes)
{
	struct asked a;

	start(&a, W("call \"letter\" { bank.letters.send, with = { b = 1, a = { '{input.x}' }, trace = 'q' } },\n"
		    "call \"note\" { bank.notes.put, with = { path = '{input.path}', text = 'x' } },\n"
		    "call \"ping\" { bank.ping }"),
	      "{\"x\":null,\"path\":\"/notes/a%20b\"}", "");
	ask(&a, HP_EVAL_REQUEST, "letter", 0);
	ck_assert_msg(a.ev.ok, "%s", a.ev.message);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&a.out), "\"body\":\"{\\\"a\\\":[null],\\\"b\\\":1,\\\"trace\\\":\\\"q\\\"}\""));
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&a.out), "\"x-trace\":\"t-q\""));
	ck_assert_ptr_null(strstr(hp_buf_str(&a.out), "idempotency-key"));
	ask(&a, HP_EVAL_REQUEST, "ping", 0);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&a.out), "\"body\":\"\""));
	ck_assert(ask(&a, HP_EVAL_REQUEST, "note", 0)->ok);
	a.data.input = hp_bytes_of("{\"path\":\"/notes/../admin\"}");
	refused(ask(&a, HP_EVAL_REQUEST, "note", 0), "request_invalid",
		"t.lua:4: state \"note\": bank.notes.put: the path \"/notes/../admin\" has a segment of dots");
	a.data.input = hp_bytes_of("{\"path\":\"/notes?x=1\"}");
	refused(ask(&a, HP_EVAL_REQUEST, "note", 0), "request_invalid",
		"t.lua:4: state \"note\": bank.notes.put: the path \"/notes?x=1\" has a character that must be percent-encoded");
	a.data.input = hp_bytes_of("{\"path\":\"notes\"}");
	refused(ask(&a, HP_EVAL_REQUEST, "note", 0), "request_invalid",
		"t.lua:4: state \"note\": bank.notes.put: the path \"notes\" must begin with /");
	end(&a);
}
END_TEST

START_TEST(arguments_are_checked)
{
	struct asked a;

	start(&a, PAY(""), "{\"n\":\"500\",\"note\":\"\"}", "");
	refused(ask(&a, HP_EVAL_REQUEST, "pay", 0), "request_invalid",
		"t.lua:3: state \"pay\": bank.transfers.create: with.amount must be a whole number, not a text");
	end(&a);
	start(&a, W("call \"letter\" { bank.letters.send, with = { trace = \"{input.x}\" } }"), "{\"x\":\"a\\r\\nb: c\"}", "");
	refused(ask(&a, HP_EVAL_REQUEST, "letter", 0), "request_invalid",
		"t.lua:3: state \"letter\": bank.letters.send: the header \"x-trace\" contains a line break");
	end(&a);
}
END_TEST

START_TEST(the_signed_request_is_sent_verbatim)
{
	static const char bytes[] = "{ \"odd\" : 1,\"connector\":\"bank\" }";
	uint8_t hash[HP_SHA256_LEN];
	struct asked a;

	start(&a, PAY(""), "{\"n\":500,\"note\":\"\"}", "");
	hp_sha256(bytes, strlen(bytes), hash);
	a.run.signed_visit = 2;
	refused(ask(&a, HP_EVAL_REQUEST, "pay", 1), "signed_request_missing",
		"the signed request of this run was not found");
	a.data.signed_request = hp_bytes_of(bytes);
	a.data.signed_key = hp_bytes_of("key-1");
	a.data.signed_hash = hash;
	ask(&a, HP_EVAL_REQUEST, "pay", 1);
	ck_assert_msg(a.ev.ok, "%s", a.ev.message);
	is_bytes(a.ev.value, bytes);
	is_bytes(a.ev.key, "key-1");
	ck_assert_mem_eq(a.ev.hash, hash, sizeof hash);
	hash[31] ^= 1;
	refused(ask(&a, HP_EVAL_REQUEST, "pay", 1), "signed_request_damaged",
		"the stored request is not the one that was signed: its hash differs");
	/* a call that nobody signed renders its own, whatever the run carries */
	ask(&a, HP_EVAL_REQUEST, "pay", 0);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&a.out), "amount=500"));
	end(&a);
}
END_TEST

START_TEST(probes)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &err);
	struct asked a;

	ck_assert_msg(w != NULL, "%s", err.message);
	start_from(&a, w, "{\"id\":\"1\",\"user\":\"u1\",\"amount\":5}", "{\"payment\":{\"id\":\"p\",\"amount\":100}}");
	ask(&a, HP_EVAL_PROBE, "pay", 0);
	ck_assert_msg(a.ev.ok, "%s", a.ev.message);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&a.out), "\"query\":\"limit=10&to=u1\""));
	is_bytes(a.ev.key, "pay:p");
	a.act.value = hp_bytes_of("{\"data\":[{\"amount\":1},{\"amount\":100,\"id\":\"t\"}]}");
	ask(&a, HP_EVAL_FOUND, "pay", 0);
	ck_assert(a.ev.ok);
	ck_assert_int_eq(a.ev.verdict, HP_VERDICT_FOUND);
	is_bytes(a.ev.value, "{\"amount\":100,\"id\":\"t\"}");
	a.act.value = hp_bytes_of("{\"data\":[]}");
	ck_assert_int_eq(ask(&a, HP_EVAL_FOUND, "pay", 0)->verdict, HP_VERDICT_ABSENT);
	a.act.value = hp_bytes_of("{\"unsure\":true}");
	ck_assert_int_eq(ask(&a, HP_EVAL_FOUND, "pay", 0)->verdict, HP_VERDICT_UNKNOWN);
	a.act.value = hp_bytes_of("{\"data\":5}");
	ask(&a, HP_EVAL_FOUND, "pay", 0);
	ck_assert(!a.ev.ok);
	end(&a);
}
END_TEST

/* ---- approval ---- */

START_TEST(an_approval_shows_the_very_request)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &err);
	uint8_t hash[HP_SHA256_LEN];
	const char *request;
	struct hp_buf kept;
	struct asked a;
	json_t *v;

	ck_assert_msg(w != NULL, "%s", err.message);
	start_from(&a, w, "{\"id\":\"1\",\"user\":\"u1\",\"amount\":5}", "{\"payment\":{\"id\":\"p\",\"amount\":100}}");
	ask(&a, HP_EVAL_APPROVAL, "review", 0);
	ck_assert_msg(a.ev.ok, "%s", a.ev.message);
	v = hp_json_parse(a.ev.value.p, a.ev.value.n, "approval", &err);
	ck_assert_str_eq(hp_json_str(v, "ask"), "Pay 100 to u1?");
	ck_assert_str_eq(hp_json_str(v, "approvers"), "2 of sre and 1 of security");
	ck_assert_int_eq(hp_json_int(json_array_get(json_object_get(v, "quorum"), 0), "n", 0), 2);
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(v, "quorum"), 1), "role"), "security");
	ck_assert_int_eq(hp_json_int(hp_json_path(v, "evidence.payment"), "amount", 0), 100);
	ck_assert_str_eq(hp_json_str(hp_json_path(v, "evidence.input"), "user"), "u1");
	ck_assert_str_eq(hp_json_str(v, "operation"), "bank.transfers.create");
	ck_assert_str_eq(hp_json_str(v, "key"), "pay:p");
	request = hp_json_str(v, "request");
	hp_sha256(request, strlen(request), hash);
	ck_assert_mem_eq(a.ev.hash, hash, sizeof hash);
	/* with a business key it is the one the call itself would render */
	hp_buf_init(&kept, 65536);
	hp_buf_adds(&kept, request);
	is_bytes(ask(&a, HP_EVAL_REQUEST, "pay", 0)->value, hp_buf_str(&kept));
	hp_buf_free(&kept);
	json_decref(v);
	end(&a);
}
END_TEST

START_TEST(an_approval_of_nothing_has_no_request)
{
	static const uint8_t zero[HP_SHA256_LEN];
	struct asked a;

	start(&a, W("approval \"a\" { ask = \"Go, {input.who}?\", approvers = \"1 of x\", deadline = \"1h\" }"),
	      "{\"who\":\"you\"}", "");
	is_bytes(ask(&a, HP_EVAL_APPROVAL, "a", 0)->value,
		 "{\"ask\":\"Go, you?\",\"evidence\":{},\"approvers\":\"1 of x\",\"quorum\":[{\"n\":1,\"role\":\"x\"}]}");
	ck_assert_mem_eq(a.ev.hash, zero, sizeof zero);
	end(&a);
}
END_TEST

/* ---- the others ---- */

START_TEST(conditions_are_booleans)
{
	struct asked a;

	start(&a, W("choose \"c\" { { when = function(run) return run.input.a end, next = 'done' },\n"
		    "{ when = '{input.a}', next = 'done' }, otherwise = 'done' },\n"
		    "approval \"a\" { when = function(run) return run.input.a end, ask = '?', approvers = '1 of x' }"),
	      "{\"a\":true}", "");
	ck_assert(ask(&a, HP_EVAL_WHEN, "c", 0)->truth && a.ev.ok);
	ck_assert(ask(&a, HP_EVAL_WHEN, "c", 1)->truth && a.ev.ok);
	ck_assert(ask(&a, HP_EVAL_WHEN, "a", 0)->truth && a.ev.ok);
	a.data.input = hp_bytes_of("{\"a\":false}");
	ck_assert(!ask(&a, HP_EVAL_WHEN, "c", 0)->truth && a.ev.ok);
	a.data.input = hp_bytes_of("{}");
	ck_assert(!ask(&a, HP_EVAL_WHEN, "c", 0)->truth && a.ev.ok); /* nil */
	a.data.input = hp_bytes_of("{\"a\":0}");
	refused(ask(&a, HP_EVAL_WHEN, "c", 0), "script_error",
		"t.lua:3: state \"c\": when must be true or false, not a number");
	a.data.input = hp_bytes_of("{\"a\":\"yes\"}");
	refused(ask(&a, HP_EVAL_WHEN, "a", 0), "script_error",
		"t.lua:5: state \"a\": when must be true or false, not a string");
	end(&a);
}
END_TEST

START_TEST(waits_have_times)
{
	struct asked a;

	start(&a, W("wait \"f\" { for_ = '10m' }, wait \"u\" { until_ = '{input.at}' },\n"
		    "wait \"n\" { until_ = function(run) return run.now + 5 end }"),
	      "{\"at\":\"2026-11-23T04:05:06.25+02:00\"}", "");
	ck_assert_int_eq(ask(&a, HP_EVAL_UNTIL, "f", 0)->number, NOW + 10 * HP_MINUTE);
	ck_assert_int_eq(ask(&a, HP_EVAL_UNTIL, "u", 0)->number, INT64_C(1795399506250000));
	ck_assert_int_eq(ask(&a, HP_EVAL_UNTIL, "n", 0)->number, NOW + 5);
	a.data.input = hp_bytes_of("{\"at\":\"tomorrow\"}");
	refused(ask(&a, HP_EVAL_UNTIL, "u", 0), "script_error",
		"t.lua:3: state \"u\": until_ must be a time: microseconds since 1970 or a text like 2026-11-23T02:04:05Z");
	a.data.input = hp_bytes_of("{\"at\":\"2126-02-29T00:00:00Z\"}"); /* no leap year */
	ck_assert(!ask(&a, HP_EVAL_UNTIL, "u", 0)->ok);
	a.data.input = hp_bytes_of("{\"at\":-1}");
	refused(ask(&a, HP_EVAL_UNTIL, "u", 0), "script_error",
		"t.lua:3: state \"u\": until_ is before 1970 or more than ten years away");
	end(&a);
}
END_TEST

START_TEST(mailboxes_have_one_key_per_event)
{
	struct asked a;

	start(&a, W("await \"m\" { event = { 'a', 'b', 'c' }, key = '{input.k}', within = '1h', timeout = 'done' }"),
	      "{\"k\":\"re_1\"}", "");
	is_bytes(ask(&a, HP_EVAL_MAILBOX, "m", 0)->key, "re_1\nre_1\nre_1");
	is_bytes(a.ev.value, "re_1\nre_1\nre_1");
	a.data.input = hp_bytes_of("{\"k\":\"a\\nb\"}");
	refused(ask(&a, HP_EVAL_MAILBOX, "m", 0), "key_invalid",
		"t.lua:3: state \"m\": key contains a line break");
	a.data.input = hp_bytes_of("{\"k\":\"\\u00e9\"}");
	is_bytes(ask(&a, HP_EVAL_MAILBOX, "m", 0)->key, "é\né\né");
	a.data.input = hp_bytes_of("{\"k\":\"\"}");
	refused(ask(&a, HP_EVAL_MAILBOX, "m", 0), "key_invalid", "t.lua:3: state \"m\": key must have from 1 to 512 bytes");
	a.data.input = hp_bytes_of("{\"k\":[]}");
	refused(ask(&a, HP_EVAL_MAILBOX, "m", 0), "key_invalid", "t.lua:3: state \"m\": key must be a text, not a table");
	end(&a);
}
END_TEST

START_TEST(statements_have_arguments)
{
	struct asked a;

	start(&a, W("sql \"s\" { as = service, exec = 'x', args = { '{input.a}', 2, function() return nil end, { x = '{run.id}' } } },\n"
		    "sql \"u\" { as = user('{input.u}'), exec = 'x' }"),
	      "{\"a\":\"v\",\"u\":12}", "");
	is_bytes(ask(&a, HP_EVAL_ARGS, "s", 0)->value, "{\"args\":[\"v\",2,null,{\"x\":7}]}");
	is_bytes(ask(&a, HP_EVAL_ARGS, "u", 0)->value, "{\"args\":[],\"user\":\"12\"}");
	a.data.input = hp_bytes_of("{\"u\":\"\"}");
	refused(ask(&a, HP_EVAL_ARGS, "u", 0), "script_error",
		"t.lua:4: state \"u\": as user(…) must give the user's id, a text");
	end(&a);
}
END_TEST

START_TEST(ends_have_results)
{
	struct asked a;

	start(&a, W("succeed \"s\" { result = { id = '{input.id}' } }, succeed \"e\" {},\n"
		    "fail \"f\" { code = 'sad', message = '{error.code} at {input.id}' }, fail \"g\" {}"),
	      "{\"id\":\"x\"}", "{\"error\":{\"code\":\"declined\"}}");
	is_bytes(ask(&a, HP_EVAL_RESULT, "s", 0)->value, "{\"id\":\"x\"}");
	is_bytes(ask(&a, HP_EVAL_RESULT, "e", 0)->value, "");
	ck_assert(a.ev.ok);
	is_bytes(ask(&a, HP_EVAL_RESULT, "f", 0)->value, "{\"code\":\"sad\",\"message\":\"declined at x\"}");
	is_bytes(ask(&a, HP_EVAL_RESULT, "g", 0)->value, "{\"code\":\"failed\"}");
	end(&a);
}
END_TEST

START_TEST(a_value_has_a_maximum)
{
	struct asked a;

	start(&a, RESULT("function(run) return ('x'):rep(run.input) end"), "262142", "");
	ck_assert(ask(&a, HP_EVAL_RESULT, "a", 0)->ok); /* and two quotes */
	a.data.input = hp_bytes_of("262143");
	refused(ask(&a, HP_EVAL_RESULT, "a", 0), "script_error", "state \"a\": a value is larger than 262144 bytes");
	end(&a);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("eval");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, expressions_have_values, 0, (int)(sizeof expressions / sizeof *expressions));
	tcase_add_test(t, what_is_not_committed_lies_on_top);
	tcase_add_test(t, a_kept_run_is_refused);
	tcase_add_test(t, a_killed_state_is_built_again);
	tcase_add_test(t, input_is_checked);
	tcase_add_test(t, the_runs_key);
	tcase_add_test(t, a_request_is_canonical_bytes);
	tcase_add_test(t, a_business_key_is_used_as_it_is);
	tcase_add_test(t, requests_of_other_shapes);
	tcase_add_test(t, arguments_are_checked);
	tcase_add_test(t, the_signed_request_is_sent_verbatim);
	tcase_add_test(t, probes);
	tcase_add_test(t, an_approval_shows_the_very_request);
	tcase_add_test(t, an_approval_of_nothing_has_no_request);
	tcase_add_test(t, conditions_are_booleans);
	tcase_add_test(t, waits_have_times);
	tcase_add_test(t, mailboxes_have_one_key_per_event);
	tcase_add_test(t, statements_have_arguments);
	tcase_add_test(t, ends_have_results);
	tcase_add_test(t, a_value_has_a_maximum);
	tcase_add_test(t, a_choice_may_set);
	tcase_add_test(t, what_a_run_has_can_be_listed);
	return hp_run_case("script eval", t);
}
