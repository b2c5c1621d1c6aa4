/* words.c: the words of test files: those that act on the run, those that make
 * answers and markers. Which are there is said once, in the table at the end. */
#include "testing/testing_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/words.h"

#define REG_TESTER "hp.tester"

struct tester *hp_t_of(lua_State *L)
{
	struct tester *t = lua_touserdata(L, lua_upvalueindex(1));

	if (!t->d)
		luaL_error(L, "this word belongs inside of a test: test(\"name\", function() … end)");
	t->L = L;
	return t;
}

/* ---- failures ---- */

/* The innermost function of the test file: *ar is it. */
static bool find_frame(lua_State *L, const char *path, lua_Debug *ar)
{
	for (int level = 0; lua_getstack(L, level, ar); level++)
		if (lua_getinfo(L, "Sl", ar) && ar->currentline > 0 && ar->source[0] == '@' &&
		    strcmp(ar->source + 1, path) == 0)
			return true;
	return false;
}

static struct tester *any_tester(lua_State *L)
{
	struct tester *t;

	lua_getfield(L, LUA_REGISTRYINDEX, REG_TESTER);
	t = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return t;
}

int hp_t_line(lua_State *L)
{
	lua_Debug ar;

	return find_frame(L, any_tester(L)->path, &ar) ? ar.currentline : 0;
}

void hp_t_failed(struct tester *t, int line, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	if (t->failed)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	t->failed = true;
	t->failed_line = line;
	hp_buf_clear(&t->message);
	hp_buf_adds(&t->message, text);
}

int hp_t_raise(lua_State *L, struct tester *t)
{
	lua_pushstring(L, hp_buf_str(&t->message));
	return lua_error(L);
}

int hp_t_on_error(lua_State *L)
{
	struct tester *t = any_tester(L);
	const char *text = lua_tostring(L, 1);
	lua_Debug ar;
	size_t n;

	if (t->failed || t->skipped || hp_sandbox_stopped(L) || !find_frame(L, t->path, &ar))
		return 1;
	n = strlen(ar.short_src);
	/* Lua puts the place before its messages; we say it ourselves */
	if (text && strncmp(text, ar.short_src, n) == 0 && text[n] == ':') {
		const char *colon = strstr(text + n + 1, ": ");

		text = colon ? colon + 2 : text;
	}
	hp_t_failed(t, ar.currentline, "%s", text ? text : "an error that is no text was raised");
	return 1;
}

void hp_t_check(lua_State *L, struct tester *t, int rc, const struct hp_error *err)
{
	int status = t->pcall_status;

	if (rc == 0)
		return;
	if (status != LUA_OK) {
		t->pcall_status = LUA_OK;
		hp_sandbox_caught(L, status); /* does not return */
	}
	if (hp_drive_stopped(t->d)) {
		hp_t_failed(t, hp_t_line(L), "%s", err->message);
		hp_t_raise(L, t);
	}
	lua_pushfstring(L, "%s%s%s", err->message, err->hint[0] ? ". " : "", err->hint);
	lua_error(L);
}

json_t *hp_t_json(lua_State *L, struct tester *t, int index)
{
	json_t *v = hp_lua_to_json(L, index);

	if (json_array_append_new(t->kept, v) < 0)
		luaL_error(L, "no memory");
	return v;
}

/* ---- reading tables ---- */

void hp_t_only(lua_State *L, int index, const char *word, const char *const *allowed, size_t n)
{
	const char *near;

	luaL_checktype(L, index, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		bool found = false;

		if (!name)
			luaL_error(L, "%s { … } takes named members, like %s = …", word, allowed[0]);
		for (size_t i = 0; i < n && !found; i++)
			found = strcmp(name, allowed[i]) == 0;
		if (found)
			continue;
		near = hp_nearest(name, allowed, n);
		if (near)
			luaL_error(L, "%s: unknown member \"%s\", did you mean \"%s\"?", word, name, near);
		luaL_error(L, "%s: unknown member \"%s\"", word, name);
	}
}

/* The member as text, on the stack until the word returns; NULL: absent. */
static const char *text_of(lua_State *L, const char *word, const char *name)
{
	int type = lua_getfield(L, 1, name);

	if (type != LUA_TNIL && type != LUA_TSTRING)
		luaL_error(L, "%s: %s must be a text", word, name);
	return type == LUA_TNIL ? NULL : lua_tostring(L, -1);
}

static void done(lua_State *L, struct tester *t, const char *door, const char *by, json_t *args)
{
	struct hp_error err = {0};

	if (json_array_append_new(t->kept, args) < 0) /* args is gone then */
		luaL_error(L, "no memory");
	hp_t_check(L, t, hp_drive_door(t->d, door, by, args, &err), &err);
}

/* ---- acting ---- */

static int word_start(lua_State *L)
{
	static const char *const members[] = {"input", "key", "by"};
	struct tester *t = hp_t_of(L);
	struct hp_error err = {0};
	const char *key, *by;
	json_t *input;

	if (lua_isnone(L, 1))
		lua_newtable(L);
	hp_t_only(L, 1, "start", members, 3);
	key = text_of(L, "start", "key");
	by = text_of(L, "start", "by");
	if (lua_getfield(L, 1, "input") == LUA_TNIL)
		lua_newtable(L);
	input = hp_t_json(L, t, -1);
	hp_t_check(L, t, hp_drive_start(t->d, input, key, by ? by : "test", &err), &err);
	return 0;
}

static int principal(lua_State *L, const char *kind)
{
	struct tester *t = hp_t_of(L);

	hp_drive_principal(t->d, luaL_checkstring(L, 1), kind, luaL_optstring(L, 2, ""));
	return 0;
}

static int word_person(lua_State *L) { return principal(L, "person"); }
static int word_agent(lua_State *L) { return principal(L, "agent"); }
static int word_service(lua_State *L) { return principal(L, "service"); }

/* spent("sms", 10), spent("sms", 10, "+49") */
static int word_spent(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	struct hp_error err = {0};
	const char *name = luaL_checkstring(L, 1);
	lua_Integer amount = luaL_checkinteger(L, 2);

	hp_t_check(L, t, hp_drive_spend(t->d, name, luaL_optstring(L, 3, ""), amount, &err), &err);
	return 0;
}

static int decide(lua_State *L, const char *word)
{
	static const char *const members[] = {"by", "reason"};
	struct tester *t = hp_t_of(L);
	struct hp_error err = {0};
	const char *by, *reason, *status;
	const json_t *a;
	json_t *f;

	hp_t_only(L, 1, word, members, 2);
	by = text_of(L, word, "by");
	reason = text_of(L, word, "reason");
	if (!by)
		return luaL_error(L, "%s: by = \"NAME\" is missing: who decides?", word);
	f = hp_drive_facts(t->d, &err);
	hp_t_check(L, t, f ? 0 : -1, &err);
	json_array_append_new(t->kept, f);
	a = json_object_get(f, "approval");
	status = hp_json_str(a, "status");
	if (!status) {
		hp_drive_why(t->d, f);
		return luaL_error(L, "%s: no approval was asked for. %s", word, hp_json_str(f, "why"));
	}
	done(L, t, "decide", by,
	     json_pack("{s:I, s:s, s:s*}", "approval", hp_json_int(a, "approval", 0), "decision", word, "reason", reason));
	return 0;
}

static int word_approve(lua_State *L) { return decide(L, "approve"); }
static int word_reject(lua_State *L) { return decide(L, "reject"); }

static int operate(lua_State *L, const char *door, const char *action)
{
	static const char *const members[] = {"by", "reason", "value", "happened"};
	struct tester *t = hp_t_of(L);
	bool undo = strcmp(action, "undo") == 0, skip = undo || strcmp(action, "skip") == 0;
	const char *by, *reason;
	json_t *args;

	hp_t_only(L, 1, action, members, undo ? 4 : skip ? 3 : 2);
	if (!hp_drive_run(t->d))
		return luaL_error(L, "%s: there is no run yet: start {…} begins it", action);
	by = text_of(L, action, "by");
	reason = text_of(L, action, "reason");
	args = json_pack("{s:I, s:s, s:s*}", "run", (json_int_t)hp_drive_run(t->d), "action", action, "reason", reason);
	json_array_append(t->kept, args);
	if (skip && lua_getfield(L, 1, "value") != LUA_TNIL)
		json_object_set(args, "value", hp_t_json(L, t, -1));
	if (undo && lua_getfield(L, 1, "happened") != LUA_TNIL)
		json_object_set(args, "happened", hp_t_json(L, t, -1));
	done(L, t, door, by ? by : "operator", args);
	return 0;
}

static int word_retry(lua_State *L) { return operate(L, "operate", "retry"); }
static int word_skip(lua_State *L) { return operate(L, "operate", "skip"); }
static int word_undo(lua_State *L) { return operate(L, "operate", "undo"); }
static int word_give_up(lua_State *L) { return operate(L, "operate", "give_up"); }
static int word_cancel(lua_State *L) { return operate(L, "cancel", "cancel"); }
/* breaker_open "stripe": as an operator does it. */
static int breaker(lua_State *L, const char *door)
{
	struct tester *t = hp_t_of(L);

	done(L, t, door, "operator",
	     json_pack("{s:s, s:s}", "breaker", luaL_checkstring(L, 1), "reason", luaL_optstring(L, 2, "a test")));
	return 0;
}

static int word_breaker_open(lua_State *L) { return breaker(L, "breaker_open"); }
static int word_breaker_reset(lua_State *L) { return breaker(L, "breaker_reset"); }

static int word_pause(lua_State *L) { return operate(L, "pause", "pause"); }
static int word_resume(lua_State *L) { return operate(L, "resume", "resume"); }

/* event(name, key, payload) */
static int word_event(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	const char *name = luaL_checkstring(L, 1), *key = luaL_checkstring(L, 2);
	const json_t *payload;

	if (lua_isnoneornil(L, 3)) {
		lua_settop(L, 2);
		lua_newtable(L);
	}
	payload = hp_t_json(L, t, 3);
	done(L, t, "send_event", "test", json_pack("{s:s, s:s, s:O}", "name", name, "key", key, "payload", payload));
	return 0;
}

static int word_pass(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	struct hp_error err = {0};
	int64_t us = 0;
	int rc = hp_duration_parse(luaL_checkstring(L, 1), &us, &err);

	if (rc == 0)
		rc = hp_drive_pass(t->d, us, &err);
	hp_t_check(L, t, rc, &err);
	return 0;
}

static int word_settle(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	struct hp_error err = {0};

	hp_t_check(L, t, hp_drive_settle(t->d, &err), &err);
	return 0;
}

static int word_now(lua_State *L)
{
	lua_pushinteger(L, hp_drive_now(hp_t_of(L)->d));
	return 1;
}

/* ---- making answers and markers ---- */

/* Pushes { [mark] = value at the index }. */
static int marked(lua_State *L, const char *mark, int index)
{
	lua_newtable(L);
	lua_pushvalue(L, index);
	lua_setfield(L, -2, mark);
	return 1;
}

static int word_failure(lua_State *L)
{
	static const char *const members[] = {"class", "code", "message", "retry_after"};
	const char *class;
	bool known = false;

	hp_t_only(L, 1, "failure", members, 4);
	class = text_of(L, "failure", "class");
	for (int c = HP_RETRYABLE; class && c <= HP_NEEDS_PERSON; c++)
		known = known || strcmp(class, hp_class_name((enum hp_class)c)) == 0;
	if (!known)
		return luaL_error(L, "failure: class must be \"retryable\", \"terminal\", \"ambiguous\" or \"needs_person\"");
	if (!text_of(L, "failure", "code"))
		return luaL_error(L, "failure: code is missing");
	(void)text_of(L, "failure", "message");
	return marked(L, "$failure", 1);
}

static int word_http(lua_State *L)
{
	static const char *const members[] = {"status", "json", "body", "headers"};

	hp_t_only(L, 1, "http", members, 4);
	return marked(L, "$http", 1);
}

static int word_sql_error(lua_State *L)
{
	const char *code = luaL_checkstring(L, 1), *message = luaL_optstring(L, 2, code);

	lua_newtable(L);
	lua_pushstring(L, code);
	lua_setfield(L, -2, "code");
	lua_pushstring(L, message);
	lua_setfield(L, -2, "message");
	return marked(L, "$sql_error", lua_gettop(L));
}

static int word_contains(lua_State *L)
{
	luaL_checkstring(L, 1);
	return marked(L, "$contains", 1);
}

static int word_exactly(lua_State *L)
{
	luaL_checkany(L, 1);
	return marked(L, "$exactly", 1);
}

/* ---- the file's own words ---- */

/* test("name", function() … end) */
static int word_test(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	if (!*name)
		return luaL_error(L, "a test needs a name");
	lua_newtable(L);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "$test");
	lua_pushvalue(L, 2);
	lua_setfield(L, -2, "run");
	lua_pushinteger(L, hp_t_line(L));
	lua_setfield(L, -2, "line");
	return 1;
}

static int take_tests(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_setfield(L, 1, "$workflow");
	lua_settop(L, 1);
	return 1;
}

/* given "sql": rows that this test needs, beside those of the seed. In memory there are none. */
static int word_given(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	const char *text = luaL_checkstring(L, 1);
	struct hp_error err = {0};

	if (t->o->real && hp_real_exec(t->o->real, text, &err) < 0)
		return luaL_error(L, "given: %s", err.message);
	return 0;
}

/* in_memory "why": what follows makes no sense with --real; the test is skipped there. */
static int word_in_memory(lua_State *L)
{
	struct tester *t = hp_t_of(L);

	luaL_checkstring(L, 1);
	if (!t->o->real)
		return 0;
	t->skipped = true;
	return luaL_error(L, "skipped");
}

/* tests "workflow" { … } */
static int word_tests(lua_State *L)
{
	luaL_checkstring(L, 1);
	lua_settop(L, 1);
	lua_pushcclosure(L, take_tests, 1);
	return 1;
}

static const struct {
	const char *name;
	lua_CFunction fn;
} words[] = {
	{"tests", word_tests},     {"test", word_test},       {"reply", hp_t_reply},     {"sql", hp_t_sql},
	{"child", hp_t_child},     {"given", word_given},     {"in_memory", word_in_memory},
	{"start", word_start},     {"person", word_person},   {"agent", word_agent},     {"service", word_service},
	{"approve", word_approve}, {"reject", word_reject},   {"retry", word_retry},     {"skip", word_skip},
	{"give_up", word_give_up}, {"cancel", word_cancel},   {"event", word_event},     {"pass", word_pass},
	{"settle", word_settle},   {"now", word_now},         {"expect", hp_t_expect},   {"equal", hp_t_equal},
	{"refused", hp_t_refused}, {"run", hp_t_run},         {"failure", word_failure}, {"http", word_http},
	{"breaker_open", word_breaker_open}, {"breaker_reset", word_breaker_reset},
	{"pause", word_pause},     {"resume", word_resume},   {"undo", word_undo},       {"sql_error", word_sql_error}, {"contains", word_contains}, {"exactly", word_exactly},
	{"spent", word_spent},
};

/* Words that are values. */
static const struct {
	const char *name, *mark, *text; /* text NULL: true */
} values[] = {
	{"lost_reply", "$transport", "connection_lost"}, {"timeout", "$transport", "timeout"},
	{"unreachable", "$transport", "unreachable"},    {"none", "$none", NULL},
	{"pending", "$pending", NULL},                   {"any", "$any", NULL},                           {"absent", "$absent", NULL},
};

void hp_t_words(lua_State *L, int env)
{
	struct tester *t = lua_touserdata(L, -1);

	lua_pushlightuserdata(L, t);
	lua_setfield(L, LUA_REGISTRYINDEX, REG_TESTER);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		lua_pushlightuserdata(L, t);
		lua_pushcclosure(L, words[i].fn, 1);
		lua_setfield(L, env, words[i].name);
	}
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		lua_newtable(L);
		if (values[i].text)
			lua_pushstring(L, values[i].text);
		else
			lua_pushboolean(L, 1);
		lua_setfield(L, -2, values[i].mark);
		lua_setfield(L, env, values[i].name);
	}
}
