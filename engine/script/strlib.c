/* strlib.c: the functions of Lua's `string` that needed another hand.
 *
 * find, match, gmatch and gsub run on pattern.c: a C matcher cannot be interrupted,
 * so it gets HP_PATTERN_STEPS_MAX steps and a few more for each byte of the subject
 * (a walk through a long text is no danger). rep is bounded before it begins; format
 * shows no addresses.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>
#include "base/limits.h"
#include "script/lualib.h"
#include "script/pattern.h"
#include "script/sandbox.h"

#define STEPS_PER_BYTE 4
#define TICK_EVERY 64 /* matches between looks at the clock */

struct subject {
	const char *s;
	size_t n;
	uint64_t steps;
};

static struct subject subject_at(lua_State *L, int index)
{
	struct subject sub;

	sub.s = luaL_checklstring(L, index, &sub.n);
	sub.steps = HP_PATTERN_STEPS_MAX + STEPS_PER_BYTE * (uint64_t)sub.n;
	return sub;
}

static void compile(lua_State *L, struct hp_pattern *p, const char *text, size_t n, bool caret)
{
	const char *wrong = hp_pattern_compile(p, text, n, caret);

	if (wrong)
		luaL_error(L, "%s", wrong);
}

static bool find_next(lua_State *L, const struct hp_pattern *p, struct subject *sub, size_t from,
		      struct hp_pattern_match *m)
{
	enum hp_pattern_result r = hp_pattern_find(p, sub->s, sub->n, from, &sub->steps, m);

	if (r == HP_PATTERN_TOO_LONG)
		luaL_error(L, "the pattern takes too many steps on this text; make it more specific "
			   "(fewer of .- and .*)");
	return r == HP_PATTERN_FOUND;
}

static void push_capture(lua_State *L, const char *s, const struct hp_pattern_match *m, int i)
{
	if (m->capture[i].n == HP_PATTERN_POSITION)
		lua_pushinteger(L, (lua_Integer)m->capture[i].at + 1);
	else
		lua_pushlstring(L, s + m->capture[i].at, m->capture[i].n);
}

/* The captures, or the whole match when there are none. Returns how many. */
static int push_captures(lua_State *L, const struct hp_pattern *p, const char *s,
			 const struct hp_pattern_match *m)
{
	int i;

	luaL_checkstack(L, HP_PATTERN_CAPTURES_MAX + 2, "too many captures");
	if (!p->n_captures)
		lua_pushlstring(L, s + m->start, m->end - m->start);
	for (i = 0; i < p->n_captures; i++)
		push_capture(L, s, m, i);
	return p->n_captures ? p->n_captures : 1;
}

/* Lua's position (1 is the first, -1 the last) → offset; may be past the end. */
static size_t offset_of(lua_Integer pos, size_t n)
{
	if (pos > 0)
		return (size_t)pos - 1;
	if (pos == 0 || pos < -(lua_Integer)n)
		return 0;
	return (size_t)((lua_Integer)n + pos);
}

static int find_plain(lua_State *L, const struct subject *sub, size_t from, const char *what, size_t n)
{
	const char *at = n ? memmem(sub->s + from, sub->n - from, what, n) : sub->s + from;

	if (!at) {
		lua_pushnil(L);
		return 1;
	}
	lua_pushinteger(L, (lua_Integer)(at - sub->s) + 1);
	lua_pushinteger(L, (lua_Integer)(at - sub->s) + (lua_Integer)n);
	return 2;
}

/* ')' alone is no reason to compile: find takes it as it stands, like Lua's. */
static bool is_plain(const char *p, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (p[i] && strchr("^$*+?.([%-", p[i]))
			return false;
	return true;
}

static int find_or_match(lua_State *L, bool find)
{
	struct hp_pattern p;
	struct hp_pattern_match m;
	struct subject sub = subject_at(L, 1);
	size_t n, from;
	const char *text = luaL_checklstring(L, 2, &n);

	from = offset_of(luaL_optinteger(L, 3, 1), sub.n);
	hp_sandbox_tick(L);
	if (from > sub.n) {
		lua_pushnil(L);
		return 1;
	}
	if (find && (lua_toboolean(L, 4) || is_plain(text, n)))
		return find_plain(L, &sub, from, text, n);
	compile(L, &p, text, n, true);
	if (!find_next(L, &p, &sub, from, &m)) {
		lua_pushnil(L);
		return 1;
	}
	if (!find)
		return push_captures(L, &p, sub.s, &m);
	lua_pushinteger(L, (lua_Integer)m.start + 1);
	lua_pushinteger(L, (lua_Integer)m.end);
	return p.n_captures ? 2 + push_captures(L, &p, sub.s, &m) : 2;
}

static int str_find(lua_State *L)
{
	return find_or_match(L, true);
}

static int str_match(lua_State *L)
{
	return find_or_match(L, false);
}

/* ---- gmatch ---- */

struct gmatch {
	struct hp_pattern p;
	size_t from, last; /* last: end of the match before, SIZE_MAX at first */
};

/* Upvalues: text, struct gmatch. */
static int gmatch_next(lua_State *L)
{
	struct gmatch *g = lua_touserdata(L, lua_upvalueindex(2));
	struct hp_pattern_match m;
	struct subject sub = subject_at(L, lua_upvalueindex(1));

	hp_sandbox_tick(L);
	while (g->from <= sub.n && find_next(L, &g->p, &sub, g->from, &m)) {
		if (m.end == g->last) { /* empty, right where the one before ended */
			g->from = m.start + 1;
			continue;
		}
		g->from = g->last = m.end;
		return push_captures(L, &g->p, sub.s, &m);
	}
	g->from = sub.n + 1;
	return 0;
}

static int str_gmatch(lua_State *L)
{
	struct subject sub = subject_at(L, 1);
	size_t n;
	const char *text = luaL_checklstring(L, 2, &n);
	size_t from = offset_of(luaL_optinteger(L, 3, 1), sub.n);
	struct gmatch *g;

	lua_settop(L, 2);
	lua_pushvalue(L, 1);
	g = lua_newuserdatauv(L, sizeof *g, 0);
	g->from = from;
	g->last = SIZE_MAX;
	compile(L, &g->p, text, n, false);
	lua_pushcclosure(L, gmatch_next, 2);
	return 1;
}

/* ---- gsub ---- */

static void add_template(lua_State *L, luaL_Buffer *b, const struct hp_pattern *p, const char *s,
			 const struct hp_pattern_match *m)
{
	size_t n, i;
	const char *t = lua_tolstring(L, 3, &n);

	for (i = 0; i < n; i++) {
		if (t[i] != '%') {
			luaL_addchar(b, t[i]);
			continue;
		}
		i++;
		if (i < n && t[i] == '%') {
			luaL_addchar(b, '%');
		} else if (i < n && (t[i] == '0' || (t[i] == '1' && !p->n_captures))) {
			luaL_addlstring(b, s + m->start, m->end - m->start);
		} else if (i < n && t[i] >= '1' && t[i] <= '9') {
			if (t[i] - '1' >= p->n_captures)
				luaL_error(L, "invalid capture index %%%d in replacement string",
					   t[i] - '0');
			push_capture(L, s, m, t[i] - '1');
			luaL_addvalue(b);
		} else {
			luaL_error(L, "invalid use of '%%' in replacement string");
		}
	}
}

/* Adds the replacement of one match. */
static void add_replacement(lua_State *L, luaL_Buffer *b, const struct hp_pattern *p, const char *s,
			    const struct hp_pattern_match *m)
{
	int kind = lua_type(L, 3);

	if (kind == LUA_TNUMBER || kind == LUA_TSTRING) {
		add_template(L, b, p, s, m);
		return;
	}
	if (kind == LUA_TFUNCTION) {
		lua_pushvalue(L, 3);
		hp_sandbox_call(L, push_captures(L, p, s, m), 1);
	} else {
		if (p->n_captures)
			push_capture(L, s, m, 0);
		else
			lua_pushlstring(L, s + m->start, m->end - m->start);
		lua_gettable(L, 3);
	}
	if (!lua_toboolean(L, -1)) {
		lua_pop(L, 1);
		luaL_addlstring(b, s + m->start, m->end - m->start);
	} else if (lua_isstring(L, -1)) {
		luaL_addvalue(b);
	} else {
		luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
	}
}

static int str_gsub(lua_State *L)
{
	struct hp_pattern p;
	struct hp_pattern_match m;
	struct subject sub = subject_at(L, 1);
	size_t n, from = 0, last = SIZE_MAX;
	const char *text = luaL_checklstring(L, 2, &n);
	int kind = lua_type(L, 3);
	lua_Integer max = luaL_optinteger(L, 4, (lua_Integer)sub.n + 1), count = 0;
	luaL_Buffer b;

	luaL_argexpected(L, kind == LUA_TNUMBER || kind == LUA_TSTRING || kind == LUA_TFUNCTION ||
			 kind == LUA_TTABLE, 3, "string/function/table");
	compile(L, &p, text, n, true);
	lua_settop(L, 3);
	luaL_buffinit(L, &b);
	while (count < max && from <= sub.n) {
		if (count % TICK_EVERY == 0)
			hp_sandbox_tick(L);
		if (!find_next(L, &p, &sub, from, &m))
			break;
		luaL_addlstring(&b, sub.s + from, m.start - from);
		if (m.end == last) { /* empty, right where the one before ended */
			if (m.start < sub.n)
				luaL_addchar(&b, sub.s[m.start]);
			from = m.start + 1;
		} else {
			count++;
			add_replacement(L, &b, &p, sub.s, &m);
			from = last = m.end;
		}
		if (p.anchored)
			break;
	}
	if (from < sub.n)
		luaL_addlstring(&b, sub.s + from, sub.n - from);
	luaL_pushresult(&b);
	lua_pushinteger(L, count);
	return 2;
}

/* ---- rep, format ---- */

/* Upvalue 1: Lua's function. */
static int str_rep(lua_State *L)
{
	size_t n, sep_n;
	lua_Integer times = luaL_checkinteger(L, 2);

	luaL_checklstring(L, 1, &n);
	luaL_optlstring(L, 3, "", &sep_n);
	hp_sandbox_tick(L);
	if (times > 0 && n + sep_n > 0 && (size_t)times > HP_LUA_STRING_MAX / (n + sep_n))
		return luaL_error(L, "string.rep: the result would be longer than %d bytes",
				  HP_LUA_STRING_MAX);
	if (n + sep_n == 0) { /* nothing, however often: Lua's own would count to the end */
		lua_pushliteral(L, "");
		return 1;
	}
	return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Upvalue 1: Lua's function. */
static int str_format(lua_State *L)
{
	size_t n;
	const char *f = luaL_checklstring(L, 1, &n), *end = f + n;
	int i, top = lua_gettop(L);

	hp_sandbox_tick(L);
	while (f < end) {
		if (*f++ != '%')
			continue;
		while (f < end && *f && strchr("-+ #0123456789.", *f))
			f++;
		if (f < end && *f++ == 'p')
			return luaL_error(L, "string.format: %%p would show an address, which "
					  "differs each time");
	}
	for (i = 2; i <= top; i++) {
		int type = lua_type(L, i);

		if (type == LUA_TLIGHTUSERDATA)
			lua_pushliteral(L, "null");
		else if (type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA)
			lua_pushstring(L, lua_typename(L, type));
		else
			continue;
		lua_replace(L, i);
	}
	return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

void hp_lualib_string(lua_State *L)
{
	static const luaL_Reg patterns[] = {{"find", str_find},
					    {"match", str_match},
					    {"gmatch", str_gmatch},
					    {"gsub", str_gsub},
					    {NULL, NULL}};

	luaL_setfuncs(L, patterns, 0);
	lua_pushcfunction(L, luaopen_string);
	lua_call(L, 0, 1);
	lua_getfield(L, -1, "rep");
	lua_pushcclosure(L, str_rep, 1);
	lua_setfield(L, -3, "rep");
	lua_getfield(L, -1, "format");
	lua_pushcclosure(L, str_format, 1);
	lua_setfield(L, -3, "format");
	lua_pop(L, 1);
}
