/* The sandbox: what is offered, what is stopped, and that a stop is really one. */
#include "script/sandbox.h"

#include <check.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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
	s = NULL;
}

/* Of this thread, so that a machine that is busy elsewhere changes nothing. */
static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int run(const char *src)
{
	int ref = LUA_NOREF;

	memset(&err, 0, sizeof err);
	return hp_sandbox_load(s, "flow.lua", src, strlen(src), LUA_NOREF, &ref, &err);
}

static void runs(const char *src)
{
	ck_assert_msg(run(src) == 0, "%s\n--> %s", src, err.message);
}

static void fails(const char *src, const char *part)
{
	ck_assert_msg(run(src) < 0, "did not fail: %s", src);
	ck_assert_msg(strstr(err.message, part) != NULL, "%s\n--> %s\nwanted: %s", src, err.message, part);
	ck_assert_int_eq(err.code, HP_E_SCRIPT);
}

/* Stopped by the clock, soon enough, and the state says so. */
static void times_out(const char *src)
{
	int64_t start = now_us(), took;

	fails(src, "stopped after 50 ms");
	took = now_us() - start;
	ck_assert_msg(hp_sandbox_dead(s), "not dead after: %s", src);
	/* Too short for a thousand costly instructions between two looks at the clock. */
	ck_assert_msg(took < 1000000 * HP_SLOWNESS, "%lld us for: %s", (long long)took, src);
	if (getenv("HP_TEST_PRINT"))
		printf("%6lld us  %.70s\n", (long long)took, src);
	ck_assert_int_lt(run("return 1"), 0); /* refuses to go on */
	teardown();
	setup();
}

/* A small state, so that it is full long before the time is up, valgrind or not. */
#define SMALL (256 * 1024)

static void runs_out_of_memory(const char *src)
{
	teardown();
	s = hp_sandbox_new(SMALL, &err);
	ck_assert_ptr_nonnull(s);
	fails(src, "flow.lua:1: needs more than 256 KiB of memory");
	ck_assert_msg(hp_sandbox_dead(s), "not dead after: %s", src);
	ck_assert_uint_le(hp_sandbox_memory(s), SMALL);
}

START_TEST(time_is_bounded)
{
	times_out("while true do end");
	times_out("while true do pcall(error) end");
	times_out("local function f() pcall(f) pcall(f) end f()");
	times_out("while true do pcall(function() while true do end end) end");
	times_out("while true do xpcall(error, function(m) while true do end end) end");
	times_out("xpcall(function() while true do end end, function(m) while true do end end)");
	times_out("table.sort({3, 1, 2}, function() while true do end end)");
	times_out("table.sort({3, 1, 2}, function() while true do pcall(error) end end)");
	times_out("local t = {} for i = 1, 50000 do t[i] = -i end while true do table.sort(t) end");
	times_out("(('a'):rep(100)):gsub('a', function() while true do end end)");
	times_out("(('a'):rep(100)):gsub('a', function() while true do pcall(error) end end)");
	times_out("while true do (('a'):rep(100000)):gsub('a', 'b') end");
	times_out("local s = ('x'):rep(4000000) while true do local _ = s .. 'y' end");
	times_out("local s = ('x'):rep(4000000) while true do s:upper() end");
	times_out("local t = {} for i = 1, 30000 do t[i] = i end while true do table.insert(t, 1, 0) "
		  "table.remove(t, 1) end");
	times_out("local s, f = ('x'):rep(4000000), utf8.len "
		  "while true do f(s) f(s) f(s) f(s) f(s) f(s) f(s) f(s) end");
	times_out("while true do table.move({}, 1, 900000, 1) end");
	times_out("local t = {} for i = 1, 20000 do t['k' .. i] = i end while true do for k in pairs(t) do "
		  "break end end");
	times_out("local t = {} for i = 1, 20000 do t[i] = 'text' end while true do json.encode(t) end");
	times_out("for k in (function() while true do end end) do end");
	times_out("goto a ::a:: goto a");
}
END_TEST

struct endless {
	int f;
};

/* A C function that calls Lua without a continuation: the sticky error's way. */
static void plain_call(lua_State *L, void *arg)
{
	struct endless *e = arg;

	lua_rawgeti(L, LUA_REGISTRYINDEX, e->f);
	lua_call(L, 0, 0);
}

/* Even an fn that swallows the error cannot make it a success. */
static void swallowing_call(lua_State *L, void *arg)
{
	struct endless *e = arg;

	lua_rawgeti(L, LUA_REGISTRYINDEX, e->f);
	lua_pcall(L, 0, 0, 0);
}

START_TEST(sticky_error_cannot_be_caught)
{
	static const char *const bodies[] = {
		"return function() while true do pcall(error) end end",
		"return function() local function f() pcall(f) pcall(f) end f() end",
		"return function() while true do xpcall(error, function() while true do end end) end end",
		"return function() table.sort({2, 1}, function() while true do pcall(error) end end) end",
		"return function() ('a'):gsub('a', function() while true do pcall(error) end end) end",
	};
	hp_sandbox_fn how[] = {plain_call, swallowing_call};
	size_t i, k;

	for (i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		for (k = 0; k < 2; k++) {
			struct endless e = {LUA_NOREF};
			int64_t start;

			ck_assert_int_eq(hp_sandbox_load(s, "flow.lua", bodies[i], strlen(bodies[i]),
							 LUA_NOREF, &e.f, &err), 0);
			start = now_us();
			ck_assert_int_lt(hp_sandbox_run(s, how[k], &e, &err), 0);
			ck_assert_ptr_nonnull(strstr(err.message, "flow.lua:1: stopped after 50 ms"));
			ck_assert_int_lt(now_us() - start, 3000000);
			ck_assert(hp_sandbox_dead(s));
			teardown();
			setup();
		}
	}
}
END_TEST

START_TEST(memory_is_bounded)
{
	runs_out_of_memory("local t = {} for i = 1, 1e9 do t[i] = {} end");
	runs_out_of_memory("local function f() return 1 + f() end f()");
	runs_out_of_memory("local function f() return 1 + f() end while true do pcall(f) end");
	runs_out_of_memory("local s = 'x' while true do s = s .. s end");
	runs_out_of_memory("while true do pcall(function() local s = 'x' while true do s = s .. s end end) end");
	runs_out_of_memory("local t = {} for i = 1, 100 do t[i] = ('x'):rep(4000) end return table.concat(t)");
	runs_out_of_memory("local s = ('x'):rep(50000) return string.format('%s%s%s%s%s%s', s, s, s, s, s, s)");
	runs_out_of_memory("return (('x'):rep(1000)):gsub('x', ('y'):rep(1000))");
	runs_out_of_memory("while true do pcall(string.rep, 'x', 1000000) end");
	teardown();
	setup();
	fails("local s = 'x' while true do s = s .. s end", "one text of more than 4096 KiB");
	ck_assert_uint_lt(hp_sandbox_memory(s), 3 * HP_LUA_STRING_MAX);
	ck_assert(hp_sandbox_dead(s));
}
END_TEST

START_TEST(costs_are_refused_before_they_begin)
{
	fails("return ('x'):rep(100000000)", "flow.lua:1: string.rep: the result would be longer");
	fails("return ('x'):rep(1 << 62, 'yy')", "string.rep: the result would be longer");
	runs("assert((''):rep(1 << 62) == '')");
	fails("table.move({}, 1, 1 << 60, 1)", "too many elements");
	fails("return ('a'):rep(300):find('.-.-.-.-b')", "flow.lua:1: the pattern takes too many steps");
	fails("local function f() pcall(f) error('x') end f()", "flow.lua:1: x");
	ck_assert(!hp_sandbox_dead(s)); /* none of these costs the state its life */
	runs("return 1");
}
END_TEST

START_TEST(nothing_else_is_offered)
{
	static const char *const absent[] = {
		"io", "os", "debug", "package", "require", "dofile", "loadfile", "load", "loadstring",
		"collectgarbage", "coroutine", "setmetatable", "getmetatable", "rawset", "rawget",
		"rawequal", "rawlen", "print", "warn", "_G", "_VERSION",
	};
	static const char *const fields[] = {"string.dump", "string.pack", "math.random",
					     "math.randomseed"};
	char src[200];
	size_t i;

	for (i = 0; i < sizeof absent / sizeof absent[0]; i++) {
		snprintf(src, sizeof src, "return %s", absent[i]);
		snprintf(src + 100, 100, "unknown name \"%s\"", absent[i]);
		fails(src, src + 100);
	}
	for (i = 0; i < sizeof fields / sizeof fields[0]; i++) {
		snprintf(src, sizeof src, "assert(%s == nil)", fields[i]);
		runs(src);
	}
	fails("\x1bLua", "attempt to load a binary chunk");
}
END_TEST

START_TEST(metatables_are_out_of_reach)
{
	/* no setmetatable: so no __gc, no __tostring, and __close only fails */
	fails("local x <close> = {}", "non-closable value");
	runs("local x <close> = nil");
	fails("error({message = 'a table', __tostring = function() return 'no' end})", "a table");
	fails("error({})", "raised a table value as its error");
	fails("error()", "raised a nil value as its error");
	fails("error(json.null)", "raised a userdata value");
	fails("string.upper = nil", "the library \"string\" cannot be changed");
	fails("table.insert(math, 1)", "the library \"math\" cannot be changed");
	fails("json.array(string)", "cannot be changed");
	fails("('x').upper = 1", "attempt to index a string value");
	fails("x = 1", "\"x\" would be global: write `local x = ");
	fails("function f() end", "\"f\" would be global");
	fails("_ENV.string = 1", "\"string\" would be global");
	fails("retrun = 1", "would be global");
	fails("return strng", "unknown name \"strng\", did you mean \"string\"?");
}
END_TEST

START_TEST(errors_say_where)
{
	fails("\n\nlocal x = = 1", "flow.lua:3: unexpected symbol near '='");
	fails("\nlocal t = nil\nreturn t.a.b", "flow.lua:3: attempt to index a nil value (local 't')");
	fails("\nerror('no such booking')", "flow.lua:2: no such booking");
	fails("\nlocal p = json.null\nreturn p.amount", "flow.lua:3: attempt to read \"amount\" of null");
	fails("return json.null[1]", "flow.lua:1: attempt to read a position of null");
	fails("return '10' + 1", "attempt to perform arithmetic on a string value");
	fails("\n\nwhile true do end", "flow.lua:3: stopped after 50 ms");
	ck_assert_ptr_nonnull(strstr(err.hint, "loop"));
	teardown();
	setup();
	fails("local s = ('x'):rep(100):rep(1000)\nwhile true do local _ = s .. 'y' end",
	      "flow.lua:2: stopped after 50 ms");
	teardown();
	setup();
	fails("local t = 'x'\nwhile true do\nt = t .. t end", "flow.lua:3: needs more than 32768 KiB");
	teardown();
	setup();
	ck_assert_int_lt(hp_sandbox_load(s, "f", "", HP_SOURCE_MAX + 1, LUA_NOREF, &(int){0}, &err), 0);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
}
END_TEST

START_TEST(output_has_no_addresses_and_an_order)
{
	runs("assert(tostring({}) == 'table')");
	runs("assert(tostring(string.len) == 'function')");
	runs("assert(tostring(json.null) == 'null')");
	runs("assert(tostring(1.5) == '1.5' and tostring(nil) == 'nil' and tostring(true) == 'true')");
	runs("assert(string.format('%s %s %5.1f %d', {}, json.null, 1.25, 7) == 'table null   1.2 7')");
	fails("string.format('a\\0%-10p', {})", "%p would show an address");
	runs("local seen = {} for k in pairs({b = 1, a = 2, [2] = 3, [1.5] = 4, c = 5, [true] = 6}) do "
	     "seen[#seen + 1] = tostring(k) end assert(table.concat(seen, ' ') == '1.5 2 a b c true')");
	runs("local t, n = {a = 1, b = 2, c = 3}, 0 for k in pairs(t) do t[k] = nil n = n + 1 end assert(n == 3)");
	runs("local t, n = {a = 1, b = 2}, 0 for k in pairs(t) do t.b = nil n = n + 1 end assert(n == 1)");
	runs("for _ in pairs({}) do error() end");
}
END_TEST

START_TEST(sort_sorts)
{
	runs("local t, x = {}, 42 for i = 1, 500 do x = (x * 1103515245 + 12345) % 2147483648 t[i] = x end "
	     "table.sort(t) for i = 2, 500 do assert(t[i - 1] <= t[i]) end "
	     "table.sort(t, function(a, b) return a > b end) for i = 2, 500 do assert(t[i - 1] >= t[i]) end");
	runs("local t = {3} table.sort(t) assert(t[1] == 3) table.sort({})");
	runs("local t = {'b', 'a', 'c'} table.sort(t) assert(table.concat(t) == 'abc')");
	runs("local t = {1, 2, 3, 4, 5} table.sort(t, function() return true end) assert(#t == 5)");
	fails("table.sort({1, 'a'})", "attempt to compare");
	fails("table.sort({2, 1}, 1)", "function expected");
}
END_TEST

START_TEST(libraries_work)
{
	runs("local ok, m = pcall(error, {code = 1}) assert(not ok and m.code == 1)");
	runs("local ok, a, b = pcall(function(...) return ... end, 1, 2) assert(ok and a == 1 and b == 2)");
	runs("local ok, m = xpcall(error, function(m) return 'handled ' .. m end, 'x') "
	     "assert(not ok and m == 'handled x')");
	runs("local ok, a, b = xpcall(function(a, b) return b, a end, error, 1, 2) "
	     "assert(ok and a == 2 and b == 1)");
	runs("local t = table.move({1, 2, 3}, 1, 3, 2) assert(table.concat(t, ',') == '1,1,2,3')");
	runs("local t = table.move({1, 2, 3}, 2, 3, 1) assert(table.concat(t, ',') == '2,3,3')");
	runs("local t = table.move({1, 2}, 1, 2, 3, {9, 9}) assert(table.concat(t, ',') == '9,9,1,2')");
	runs("assert(math.floor(2.5) == 2 and math.maxinteger + 1 == math.mininteger and math.type(1) == "
	     "'integer')");
	runs("assert(utf8.len('äö') == 2) local n = 0 for _, c in utf8.codes('äö') do n = n + c end "
	     "assert(n == 228 + 246)");
	runs("local n = 0 for c in ('äö€'):gmatch(utf8.charpattern) do n = n + 1 end assert(n == 3)");
	runs("assert(select('#', table.unpack({1, 2, 3})) == 3)");
	runs("assert(('abc'):upper():lower():reverse():sub(1, 2) == 'cb' and ('a'):byte() == 97)");
	runs("assert(('ab'):rep(3, '-') == 'ab-ab-ab')");
}
END_TEST

static void add_word(lua_State *L, void *arg)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, *(int *)arg);
	lua_pushliteral(L, "yes");
	lua_setfield(L, -2, "approval");
}

START_TEST(environments_are_separate)
{
	int a = hp_sandbox_env(s, &err), b = hp_sandbox_env(s, &err), ref;
	const char *src = "return approval .. ''";

	ck_assert_int_gt(a, 0);
	ck_assert_int_gt(b, 0);
	ck_assert_int_eq(hp_sandbox_run(s, add_word, &a, &err), 0);
	ck_assert_int_eq(hp_sandbox_load(s, "f", src, strlen(src), a, &ref, &err), 0);
	ck_assert_int_lt(hp_sandbox_load(s, "f", src, strlen(src), b, &ref, &err), 0);
	src = "return approvla";
	ck_assert_int_lt(hp_sandbox_load(s, "f", src, strlen(src), a, &ref, &err), 0);
	ck_assert_str_eq(err.message, "f:1: unknown name \"approvla\", did you mean \"approval\"?");
}
END_TEST

static void nothing(lua_State *L, void *arg)
{
	(void)L;
	(*(int *)arg)++;
}

START_TEST(many_calls_leave_nothing_behind)
{
	size_t before;
	int i, n = 0;

	runs("return 1");
	before = hp_sandbox_memory(s);
	for (i = 0; i < 20000; i++)
		ck_assert_int_eq(hp_sandbox_run(s, nothing, &n, &err), 0);
	ck_assert_int_eq(n, 20000);
	ck_assert_uint_lt(hp_sandbox_memory(s), before + 200000);
}
END_TEST

/* Every allocation fails once: no leak, no crash, an error each time. */
START_TEST(allocations_may_fail)
{
	static const char src[] = "local t = {} for i = 1, 20 do t[i] = json.encode({a = i}) end "
				  "return ('abc'):gsub('b', '%0%0')";
	unsigned long n, total;
	int ref;

	teardown();
	hp_alloc_fail_at(0);
	setup();
	runs(src);
	teardown();
	total = hp_alloc_count();
	ck_assert_uint_gt(total, 100);
	for (n = 1; n <= total; n++) {
		hp_alloc_fail_at(n);
		s = hp_sandbox_new(HP_LUA_MEMORY_MAX, &err);
		if (s && hp_sandbox_load(s, "f", src, sizeof src - 1, LUA_NOREF, &ref, &err) < 0)
			ck_assert_msg(err.message[0] != '\0', "silent failure at %lu", n);
		hp_sandbox_free(s);
	}
	hp_alloc_fail_at(0);
	setup();
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("all");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, time_is_bounded);
	tcase_add_test(tc, sticky_error_cannot_be_caught);
	tcase_add_test(tc, memory_is_bounded);
	tcase_add_test(tc, costs_are_refused_before_they_begin);
	tcase_add_test(tc, nothing_else_is_offered);
	tcase_add_test(tc, metatables_are_out_of_reach);
	tcase_add_test(tc, errors_say_where);
	tcase_add_test(tc, output_has_no_addresses_and_an_order);
	tcase_add_test(tc, sort_sorts);
	tcase_add_test(tc, libraries_work);
	tcase_add_test(tc, environments_are_separate);
	tcase_add_test(tc, many_calls_leave_nothing_behind);
	tcase_add_test(tc, allocations_may_fail);
	return hp_run_case("script_sandbox", tc);
}
