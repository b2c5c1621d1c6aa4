/* JSON and Lua values into each other. */
#include "script/sandbox.h"

#include <check.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/limits.h"
#include "lib/suite.h"

static struct hp_sandbox *s;
static struct hp_error err;

static void setup(void)
{
	s = hp_sandbox_new(HP_LUA_MEMORY_MAX, &err);
	ck_assert_msg(s != NULL, "%s", err.message);
}

static void teardown(void)
{
	hp_sandbox_free(s);
}

struct trip {
	const json_t *in;
	int ref;            /* LUA_NOREF: convert `in` there and back */
	json_t *back;
	struct hp_buf text;
};

static void there_and_back(lua_State *L, void *arg)
{
	struct trip *t = arg;

	if (t->ref == LUA_NOREF)
		hp_lua_push_json(L, t->in);
	else
		lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
	t->back = hp_lua_to_json(L, -1);
	if (lua_gettop(L) != 1)
		luaL_error(L, "the stack has %d values", lua_gettop(L));
	hp_lua_write_json(L, 1, &t->text);
}

static void round_trip(const char *json)
{
	struct trip t = {.ref = LUA_NOREF};
	json_t *in = hp_json_parse(json, strlen(json), "test", &err);

	ck_assert_msg(in != NULL, "%s", err.message);
	t.in = in;
	hp_buf_init(&t.text, HP_VALUE_MAX);
	ck_assert_msg(hp_sandbox_run(s, there_and_back, &t, &err) == 0, "%s: %s", json, err.message);
	ck_assert_msg(json_equal(in, t.back), "%s became %s", json, hp_buf_str(&t.text));
	ck_assert_str_eq(hp_buf_str(&t.text), json);
	hp_buf_free(&t.text);
	json_decref(in);
	json_decref(t.back);
}

START_TEST(json_survives)
{
	round_trip("null");
	round_trip("true");
	round_trip("\"text\"");
	round_trip("[]");
	round_trip("{}");
	round_trip("[[],{},null,[null]]");
	round_trip("{\"a\":{\"b\":[1,2.5,-3,\"x\"]},\"list\":[],\"none\":null}");
	round_trip("9223372036854775807");
	round_trip("-9223372036854775808");
	round_trip("[1,1.0,0.1,1e+100]"); /* integers stay integers, reals reals */
	round_trip("\"\xc3\xa4 \xe2\x82\xac\"");
	round_trip("{\"1\":\"a text key\"}");
}
END_TEST

/* Runs source; its result as JSON text. */
static const char *encode(const char *src)
{
	static char out[2000];
	struct trip t = {.ref = LUA_NOREF};
	int ref;

	hp_buf_init(&t.text, HP_VALUE_MAX);
	if (hp_sandbox_load(s, "v", src, strlen(src), LUA_NOREF, &ref, &err) < 0)
		return err.message;
	t.ref = ref;
	if (hp_sandbox_run(s, there_and_back, &t, &err) < 0) {
		json_decref(t.back);
		hp_buf_free(&t.text);
		return err.message;
	}
	snprintf(out, sizeof out, "%s", hp_buf_str(&t.text));
	hp_buf_free(&t.text);
	json_decref(t.back);
	return out;
}

static void encodes(const char *src, const char *expected)
{
	const char *got = encode(src);

	ck_assert_msg(strcmp(got, expected) == 0, "%s\n--> %s\nwanted: %s", src, got, expected);
}

START_TEST(tables_become_json)
{
	encodes("return {}", "{}");
	encodes("return json.array({})", "[]");
	encodes("return json.array()", "[]");
	encodes("return {1, 2, 3}", "[1,2,3]");
	encodes("return json.array({1, 2})", "[1,2]");
	encodes("return {b = 1, a = {x = json.null}}", "{\"a\":{\"x\":null},\"b\":1}");
	encodes("return {a = nil}", "{}");
	encodes("return json.decode('[{\"a\":[]},1.0]')", "[{\"a\":[]},1.0]");
	encodes("local t = {1} return {t, t}", "[[1],[1]]"); /* shared is fine, circular is not */
	encodes("return json.encode({z = {}, a = json.array()})", "\"{\\\"a\\\":[],\\\"z\\\":{}}\"");
	encodes("local t = json.decode('[1]') t[2] = 'x' return t", "[1,\"x\"]");
	encodes("local t = json.decode('[1]') t[1] = nil return t", "[]");
	encodes("return json.decode('null') == json.null and json.null ~= nil", "true");
}
END_TEST

START_TEST(refusals_say_where)
{
	char deep[400] = "return ";

	encodes("return {f = string.len}", ".f: a function cannot become JSON");
	encodes("return {items = {1, {price = 0 / 0}}}", ".items[2].price: JSON has no infinity and no NaN");
	encodes("return {math.huge}", "[1]: JSON has no infinity and no NaN");
	encodes("return {a = {1, x = 2}}",
		".a: a table is either an array or an object, this one has keys of both");
	encodes("return json.array({x = 2})",
		"a table is either an array or an object, this one has keys of both");
	encodes("return {1, nil, 3}", "an array has a gap; use json.null for values that are absent");
	encodes("return {[1.5] = 1}", "a key is neither a text nor a position (1, 2, …)");
	encodes("return {[0] = 1}", "a key is neither a text nor a position (1, 2, …)");
	encodes("return {[true] = 1}", "a key is neither a text nor a position (1, 2, …)");
	encodes("local t = {} t.me = {t} return t", ".me[1]: a table contains itself");
	encodes("return {a = '\\0'}", ".a: a text with the character U+0000 cannot be stored");
	encodes("return {['a\\0'] = 1}", "a text with the character U+0000 cannot be stored");
	encodes("return {a = '\\xff'}", ".a: a text is not valid UTF-8");
	encodes("return {['\\xff'] = 1}", ".?: a key is not valid UTF-8, or there is no memory");
	memset(deep + 7, '{', HP_JSON_DEPTH_MAX + 1);
	memset(deep + 7 + HP_JSON_DEPTH_MAX + 1, '}', HP_JSON_DEPTH_MAX + 1);
	ck_assert_ptr_nonnull(strstr(encode(deep), "nested too deeply"));
	encodes("return json.decode('{\"a\":1,\"a\":2}')",
		"v:1: json.decode: names a key twice in one object (line 1, column 10)");
	ck_assert_ptr_nonnull(strstr(encode("return json.decode('[1')"), "v:1: json.decode: "));
}
END_TEST

/* 2^60 values in 60 tables: bounded by what it would cost, not by what Lua holds. */
START_TEST(shared_tables_do_not_explode)
{
	const char *src = "local t = {'x'} for i = 1, 60 do t = {t, t} end return t";
	const char *got = encode(src);

	ck_assert_msg(strstr(got, "too large to become JSON") || strstr(got, "stopped after"), "%s", got);
	teardown();
	setup();
	encodes("local s, t = ('x'):rep(1000):rep(1000), {} for i = 1, 40 do t[i] = s end return t",
		"[34]: the value is too large to become JSON");
}
END_TEST

START_TEST(large_values_are_refused)
{
	const char *got = encode("local t = {} for i = 1, 300 do t[i] = ('x'):rep(1000) end return t");

	/* the buffer of the test takes 256 KiB */
	ck_assert_msg(strstr(got, "xxx") == NULL && err.code == HP_E_SCRIPT, "%s", got);
	ck_assert_int_eq(hp_sandbox_dead(s), 0);
}
END_TEST

START_TEST(allocations_may_fail)
{
	static const char src[] = "return {a = {1, 2, {b = 'text'}}, c = json.encode({1, json.decode('[2]')})}";
	unsigned long n, total;

	hp_alloc_fail_at(0);
	encode(src);
	total = hp_alloc_count();
	for (n = 1; n <= total + 5; n++) {
		hp_alloc_fail_at(n);
		encode(src);
		hp_alloc_fail_at(0);
		teardown();
		setup();
	}
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, json_survives);
	tcase_add_test(tc, tables_become_json);
	tcase_add_test(tc, refusals_say_where);
	tcase_add_test(tc, shared_tables_do_not_explode);
	tcase_add_test(tc, large_values_are_refused);
	tcase_add_test(tc, allocations_may_fail);
	return hp_run_case("script_value", tc);
}
