/* Our pattern matcher against Lua's own: the same match, the same captures, the same
 * refusals; and never more steps than it was given.
 *
 * Input: the pattern, a newline, the text. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include "lib/fuzz.h"
#include "script/pattern.h"

#define STEPS 20000

static lua_State *L_kept;

static void forget_reference(void) { lua_close(L_kept); }

static lua_State *reference(void)
{
	lua_State *L = L_kept;

	if (!L) {
		L = L_kept = luaL_newstate();
		MUST(L != NULL && atexit(forget_reference) == 0);
		luaL_requiref(L, "string", luaopen_string, 1);
	}
	lua_settop(L, 1); /* the library */
	return L;
}

static void compare_captures(lua_State *L, const struct hp_pattern *p, const char *s,
			     const struct hp_pattern_match *m)
{
	for (int i = 0; i < p->n_captures; i++) {
		int at = i + 4; /* library, start, end, captures */
		size_t n;
		const char *text;

		if (m->capture[i].n == HP_PATTERN_POSITION) {
			MUST(lua_isinteger(L, at) && lua_tointeger(L, at) == (lua_Integer)m->capture[i].at + 1,
			     "position capture %d", i + 1);
			continue;
		}
		MUST(lua_type(L, at) == LUA_TSTRING, "capture %d", i + 1);
		text = lua_tolstring(L, at, &n);
		MUST(n == m->capture[i].n && memcmp(text, s + m->capture[i].at, n) == 0, "capture %d", i + 1);
	}
}

/* Lua has no budget: it is asked only where ours came to an end soon. */
static void compare(const struct hp_pattern *p, struct hp_bytes pattern, struct hp_bytes text,
		    enum hp_pattern_result got, const struct hp_pattern_match *m)
{
	lua_State *L = reference();
	int n_captures = p->n_captures;

	/* %z is of Lua 5.1; 5.4 still knows it, its manual does not, nor do we */
	if (memmem(pattern.p, pattern.n, "%z", 2) || memmem(pattern.p, pattern.n, "%Z", 2))
		return;
	lua_getfield(L, 1, "find");
	lua_pushlstring(L, text.p, text.n);
	lua_pushlstring(L, pattern.p, pattern.n);
	if (lua_pcall(L, 2, LUA_MULTRET, 0) != LUA_OK) {
		/* its recursion has another limit than ours; everything else is a difference */
		MUST(strstr(lua_tostring(L, -1), "too complex"), "Lua refuses: %s", lua_tostring(L, -1));
		return;
	}
	if (got == HP_PATTERN_NONE) {
		MUST(lua_isnil(L, 2), "Lua finds what we do not");
		return;
	}
	MUST(lua_isinteger(L, 2) && lua_isinteger(L, 3), "we find what Lua does not");
	MUST(lua_tointeger(L, 2) == (lua_Integer)m->start + 1 && lua_tointeger(L, 3) == (lua_Integer)m->end,
	     "%zu-%zu instead of %lld-%lld", m->start + 1, m->end, (long long)lua_tointeger(L, 2),
	     (long long)lua_tointeger(L, 3));
	MUST(lua_gettop(L) == 3 + n_captures, "number of captures");
	compare_captures(L, p, text.p, m);
}

HP_FUZZ(pattern)
{
	struct hp_input in = {p, n};
	struct hp_bytes pattern = in_until(&in, '\n'), text = {(const char *)in.p, in.n};
	static struct hp_pattern compiled;
	struct hp_pattern_match m;
	uint64_t steps = STEPS;
	enum hp_pattern_result got;
	const char *wrong;

	if (n == 0)
		return;
	wrong = hp_pattern_compile(&compiled, pattern.p, pattern.n, true);
	if (wrong) {
		MUST(wrong[0] != '\0');
		return;
	}
	MUST(compiled.n_items <= HP_PATTERN_ITEMS_MAX && compiled.n_captures <= HP_PATTERN_CAPTURES_MAX);
	got = hp_pattern_find(&compiled, text.p, text.n, 0, &steps, &m);
	MUST(steps <= STEPS, "more steps than it was given");
	if (got == HP_PATTERN_TOO_LONG)
		return;
	if (got == HP_PATTERN_FOUND)
		MUST(m.start <= m.end && m.end <= text.n);
	compare(&compiled, pattern, text, got, &m);
}
