/* The pattern matcher: against the manual's words, against Lua's own matcher, and its
 * bound. The oracle is a plain Lua state; random patterns are short, so it ends. */
#include "script/pattern.h"

#include <check.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "lib/suite.h"
#include "script/sandbox.h"

static const char *compile(struct hp_pattern *p, const char *text)
{
	return hp_pattern_compile(p, text, strlen(text), true);
}

/* "start-end|capture|…", "none" or "too long". */
static const char *find(const char *s, const char *pattern, uint64_t steps)
{
	static char out[300];
	struct hp_pattern p;
	struct hp_pattern_match m;
	const char *wrong = compile(&p, pattern);
	size_t used;
	int i;

	if (wrong)
		return wrong;
	switch (hp_pattern_find(&p, s, strlen(s), 0, &steps, &m)) {
	case HP_PATTERN_NONE:
		return "none";
	case HP_PATTERN_TOO_LONG:
		return "too long";
	case HP_PATTERN_FOUND:
		break;
	}
	used = (size_t)snprintf(out, sizeof out, "%zu-%zu", m.start, m.end);
	for (i = 0; i < p.n_captures; i++) {
		if (m.capture[i].n == HP_PATTERN_POSITION)
			used += (size_t)snprintf(out + used, sizeof out - used, "|@%zu", m.capture[i].at);
		else
			used += (size_t)snprintf(out + used, sizeof out - used, "|%.*s",
						 (int)m.capture[i].n, s + m.capture[i].at);
	}
	return out;
}

struct vector {
	const char *s, *pattern, *expected;
};

static const struct vector vectors[] = {
	{"hello", "l+", "2-4"},
	{"hello", "^l", "none"},
	{"hello", "^h(.)l*", "0-4|e"},
	{"hello", "o$", "4-5"},
	{"a$b", "a$b", "0-3"},
	{"", "", "0-0"},
	{"", "^$", "0-0"},
	{"key = value", "(%w+)%s*=%s*(%w+)", "0-11|key|value"},
	{"f(a(b)c)d", "%b()", "1-8"},
	{"THE (quick) fox", "%f[%a]%a+%f[%A]", "0-3"},
	{"the cat", "%f[%w]c%w+", "4-7"},
	{"abab", "(ab)%1", "0-4|ab"},
	{"abc", "()b()", "1-2|@1|@2"},
	{"[x]", "%[(.-)%]", "0-3|x"},
	{"a-b", "[a%-]+", "0-2"},
	{"a]b", "[]]", "1-2"},
	{"a^b", "[b^]", "1-2"},
	{"abc", "[^a]+", "1-3"},
	{"colour color", "colou?r$", "7-12"},
	{"0x1F", "%x+", "0-1"},
	{"tab\there", "%c", "3-4"},
	{"a\xc3\xa4", "%a+$", "none"},
	{"x", "((x))", "0-1|x|x"},
	{"2026-11-23", "^(%d%d%d%d)-(%d%d)-(%d%d)$", "0-10|2026|11|23"},
	{"a*", "^*", "none"},
	{"*a", "^*", "0-1"},
	{"a", "%", "malformed pattern (ends with '%')"},
	{"a", "[a", "malformed pattern (missing ']')"},
	{"a", "[]", "malformed pattern (missing ']')"},
	{"a", "[%", "malformed pattern (missing ']')"},
	{"a", "%b(", "malformed pattern (missing arguments to '%b')"},
	{"a", "%fa", "missing '[' after '%f' in pattern"},
	{"a", "(a", "unfinished capture: '(' without ')'"},
	{"a", "a)", "invalid pattern capture: ')' without '('"},
	{"a", "(a%1)", "invalid capture index in pattern: no such closed capture"},
	{"a", "%0", "invalid capture index in pattern: no such closed capture"},
};

START_TEST(manual_is_followed)
{
	size_t i;

	for (i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
		ck_assert_msg(strcmp(find(vectors[i].s, vectors[i].pattern, 100000), vectors[i].expected) == 0,
			      "\"%s\" in \"%s\": %s, wanted %s", vectors[i].pattern, vectors[i].s,
			      find(vectors[i].s, vectors[i].pattern, 100000), vectors[i].expected);
}
END_TEST

START_TEST(sizes_are_bounded)
{
	struct hp_pattern *p = malloc(sizeof *p);
	char text[1000];

	memset(text, 'a', sizeof text);
	ck_assert_ptr_null(hp_pattern_compile(p, text, HP_PATTERN_ITEMS_MAX, true));
	ck_assert_str_eq(hp_pattern_compile(p, text, HP_PATTERN_ITEMS_MAX + 1, true),
			 "pattern too long (at most 200 items)");
	for (size_t i = 0; i < 33; i++)
		memcpy(text + 2 * i, "()", 2);
	ck_assert_ptr_null(hp_pattern_compile(p, text, 64, true));
	ck_assert_str_eq(hp_pattern_compile(p, text, 66, true), "too many captures (at most 32)");
	free(p);
}
END_TEST

START_TEST(steps_are_bounded)
{
	char s[301];

	memset(s, 'a', 300);
	s[300] = '\0';
	ck_assert_str_eq(find(s, ".-.-.-.-b", HP_PATTERN_STEPS_MAX), "too long");
	ck_assert_str_eq(find(s, "(.*)*(.*)(.*)(.*)b", HP_PATTERN_STEPS_MAX), "too long");
	ck_assert_str_eq(find(s, "%b()%b()", HP_PATTERN_STEPS_MAX), "none");
	ck_assert_str_eq(find(s, "a-$", HP_PATTERN_STEPS_MAX), "0-300");
	ck_assert_str_eq(find("aaa", "aaa", 3), "too long");
	ck_assert_str_eq(find("aaa", "aaa", 7), "0-3"); /* 3 items, 3 bytes, the end */
}
END_TEST

/* ---- against Lua ---- */

static uint64_t seed;

static uint64_t next_random(uint64_t below)
{
	seed ^= seed << 13; /* xorshift64, Marsaglia 2003 */
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static size_t random_text(char *out, size_t max, const char *const *parts, size_t n_parts)
{
	size_t n = 0, count = next_random(max);

	out[0] = '\0';
	while (count--) {
		const char *part = parts[next_random(n_parts)];

		memcpy(out + n, part, strlen(part) + 1);
		n += strlen(part);
	}
	return n;
}

static const char *const pattern_parts[] = {
	"a", "b", "c", ".", "%a", "%d", "%s", "%W", "[ab]", "[^a]", "[%w_]", "[a-c]", "[]a]", "[^]]",
	"*", "+", "-", "?", "(", ")", "()", "%1", "%2", "%b()", "%b[]", "%f[a]", "%f[%W]", "^", "$", "%%",
	"1", " ", "[", "]", "%", "[a-]", "%.", "(a)", "(.-)", "(%w*)",
};
static const char *const subject_parts[] = {"a", "b", "c", "ab", "1", " ", "(", ")", "[", "]", "%", "^",
					    "$", "-", "_", "."};

/* One Lua function of (subject, pattern, replacement) → text, run on both sides. */
static const char program[] =
	"local s, p, r = ...\n"
	"local out = {}\n"
	"local function add(name, ...)\n"
	"  out[#out + 1] = name\n"
	"  for i = 1, select('#', ...) do local v = (select(i, ...))\n"
	"    out[#out + 1] = tostring(v) end end\n"
	"local function try(name, f, ...)\n"
	"  local t = {n = 0}\n"
	"  local function keep(ok, ...) if ok then add(name, ...) else add(name, 'error') end end\n"
	"  keep(pcall(f, ...)) end\n"
	"try('find', string.find, s, p)\n"
	"try('find2', string.find, s, p, 2)\n"
	"try('find-', string.find, s, p, -2)\n"
	"try('match', string.match, s, p)\n"
	"try('gsub', string.gsub, s, p, r)\n"
	"try('gsub2', string.gsub, s, p, r, 2)\n"
	"try('gsubf', string.gsub, s, p, function(a, b) if b then return b end return a == 'a' and '<' end)\n"
	"try('gmatch', function() for a, b, c in string.gmatch(s, p) do add(a, b, c) end end)\n"
	"return table.concat(out, '|')\n";

struct compare {
	int f;
	const char *s, *p, *r;
	char out[4000];
};

static void in_sandbox(lua_State *L, void *arg)
{
	struct compare *c = arg;

	lua_rawgeti(L, LUA_REGISTRYINDEX, c->f);
	lua_pushstring(L, c->s);
	lua_pushstring(L, c->p);
	lua_pushstring(L, c->r);
	hp_sandbox_call(L, 3, 1);
	snprintf(c->out, sizeof c->out, "%s", lua_tostring(L, -1));
}

static void load_both(struct hp_sandbox *s, lua_State *oracle, struct compare *c)
{
	struct hp_error err;
	char wrapped[sizeof program + 40];

	snprintf(wrapped, sizeof wrapped, "return function(...) %s end", program);
	ck_assert_msg(hp_sandbox_load(s, "p", wrapped, strlen(wrapped), LUA_NOREF, &c->f, &err) == 0, "%s",
		      err.message);
	luaL_openlibs(oracle);
	ck_assert_int_eq(luaL_loadstring(oracle, program), LUA_OK);
}

/* What is wrong with a pattern is said at once here and by Lua only where matching
 * gets to it; so "error" on our side alone is right for what does not compile. */
static bool same(const struct compare *c, const char *theirs)
{
	struct hp_pattern p;

	if (strcmp(c->out, theirs) == 0)
		return true;
	return compile(&p, c->p) != NULL || hp_pattern_compile(&p, c->p, strlen(c->p), false) != NULL;
}

START_TEST(agrees_with_lua)
{
	static const char *const replacements[] = {"x", "<%0>", "%1", "%%", "", "%2", "%"};
	struct hp_error err;
	struct hp_sandbox *s = hp_sandbox_new(HP_LUA_MEMORY_MAX, &err);
	lua_State *oracle = luaL_newstate();
	struct compare c;
	char subject[100], pattern[100];
	const char *rounds = getenv("HP_PATTERN_ROUNDS");
	int i, n = rounds ? (int)strtol(rounds, NULL, 10) : 20000, compared = 0;

	seed = getenv("HP_SEED") ? strtoull(getenv("HP_SEED"), NULL, 10) : 20261123;
	printf("seed %llu (HP_SEED), %d rounds (HP_PATTERN_ROUNDS)\n", (unsigned long long)seed, n);
	ck_assert_msg(s != NULL, "%s", err.message);
	load_both(s, oracle, &c);
	for (i = 0; i < n; i++) {
		struct hp_pattern p;

		random_text(subject, 12, subject_parts, sizeof subject_parts / sizeof subject_parts[0]);
		random_text(pattern, 7, pattern_parts, sizeof pattern_parts / sizeof pattern_parts[0]);
		c.s = subject;
		c.p = pattern;
		c.r = replacements[next_random(sizeof replacements / sizeof replacements[0])];
		ck_assert_msg(hp_sandbox_run(s, in_sandbox, &c, &err) == 0, "%s", err.message);
		lua_pushvalue(oracle, -1);
		lua_pushstring(oracle, subject);
		lua_pushstring(oracle, pattern);
		lua_pushstring(oracle, c.r);
		ck_assert_int_eq(lua_pcall(oracle, 3, 1, 0), LUA_OK);
		ck_assert_msg(same(&c, lua_tostring(oracle, -1)), "\"%s\" in \"%s\", by \"%s\":\n  %s\nLua: %s",
			      pattern, subject, c.r, c.out, lua_tostring(oracle, -1));
		lua_pop(oracle, 1);
		compared += compile(&p, pattern) == NULL;
	}
	ck_assert_int_gt(compared, n / 4); /* it is not all errors */
	lua_close(oracle);
	hp_sandbox_free(s);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("all");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, manual_is_followed);
	tcase_add_test(tc, sizes_are_bounded);
	tcase_add_test(tc, steps_are_bounded);
	tcase_add_test(tc, agrees_with_lua);
	return hp_run_case("script_pattern", tc);
}
