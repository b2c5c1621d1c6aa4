/* lualib.c: what a script can reach, by allow-list.
 *
 * Lua's own functions are taken where they are harmless; behind `guarded`, which looks
 * at the clock first, because a C function is invisible to the hook. Ours are those
 * that could run on (table.sort, table.move), swallow a stop (pcall, xpcall), or make
 * the same input give different output: tostring and string.format show no addresses,
 * pairs goes by sorted keys. A request is rendered again after a crash and must then
 * have the same bytes. A text is no number: "10" + 1 is an error. Left out on purpose: setmetatable, getmetatable, raw*, load*,
 * require, coroutine, collectgarbage, os, io, debug, print, math.random.
 */
#include "script/lualib.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdbool.h>
#include <string.h>
#include "script/sandbox.h"

#define MOVE_MAX 1000000   /* elements table.move takes */
#define TICK_EVERY 128     /* comparisons or moves between looks at the clock */

/* ---- errors ---- */

/* lua_pcall and not lua_pcallk: a caught error of the latter jumps to lua_resume and
 * would drop the C functions below, which count on coming back (hp_sandbox_call). So
 * nothing yields inside a pcall; it is stopped by the error that cannot be caught. */
static int after_pcall(lua_State *L, int status, int skip)
{
	if (status == LUA_OK)
		return lua_gettop(L) - skip;
	hp_sandbox_caught(L, status);
	lua_pushboolean(L, 0);
	lua_insert(L, -2);
	return 2;
}

static int base_pcall(lua_State *L)
{
	luaL_checkany(L, 1);
	lua_pushboolean(L, 1);
	lua_insert(L, 1);
	return after_pcall(L, lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0), 0);
}

/* The message handler of xpcall, upvalue 1: the script's. Once stopped, a handler
 * that fails would be called for its own failure, over and over. */
static int handle_message(lua_State *L)
{
	lua_settop(L, 1);
	if (hp_sandbox_stopped(L))
		return 1;
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

static int base_xpcall(lua_State *L)
{
	int n = lua_gettop(L) - 2, status;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, handle_message, 1);
	lua_replace(L, 2);           /* f, handler, args… */
	lua_pushboolean(L, 1);
	lua_pushvalue(L, 1);
	lua_rotate(L, 3, 2);         /* f, handler, true, f, args… */
	status = lua_pcall(L, n, LUA_MULTRET, 2);
	return after_pcall(L, status, 2);
}

/* ---- text of a value ---- */

/* Like luaL_tolstring, without addresses. */
static int base_tostring(lua_State *L)
{
	luaL_checkany(L, 1);
	switch (lua_type(L, 1)) {
	case LUA_TLIGHTUSERDATA:
		lua_pushliteral(L, "null");
		break;
	case LUA_TTABLE:
	case LUA_TFUNCTION:
	case LUA_TUSERDATA:
	case LUA_TTHREAD:
		lua_pushstring(L, luaL_typename(L, 1));
		break;
	default:
		luaL_tolstring(L, 1, NULL);
		break;
	}
	return 1;
}

/* ---- ordered pairs ---- */

static int key_rank(lua_State *L, int index)
{
	switch (lua_type(L, index)) {
	case LUA_TNUMBER: return 0;
	case LUA_TSTRING: return 1;
	case LUA_TBOOLEAN: return 2;
	default: return 3; /* tables and functions have no order worth having */
	}
}

/* Order of keys: numbers, then texts, then false and true. */
static bool key_less(lua_State *L, int a, int b)
{
	int ra, rb;

	a = lua_absindex(L, a);
	b = lua_absindex(L, b);
	ra = key_rank(L, a);
	rb = key_rank(L, b);
	if (ra != rb)
		return ra < rb;
	if (ra == 2)
		return lua_toboolean(L, a) < lua_toboolean(L, b);
	return ra < 2 && lua_compare(L, a, b, LUA_OPLT);
}

/* Is the value at a before the one at b? f: index of the script's function, or 0
 * for Lua's <, or -1 for the order of keys. */
static bool less(lua_State *L, int f, int a, int b)
{
	bool yes;

	if (f < 0)
		return key_less(L, a, b);
	a = lua_absindex(L, a);
	b = lua_absindex(L, b);
	if (!f)
		return lua_compare(L, a, b, LUA_OPLT);
	lua_pushvalue(L, f);
	lua_pushvalue(L, a);
	lua_pushvalue(L, b);
	hp_sandbox_call(L, 2, 1);
	yes = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return yes;
}

/* Heapsort: bounded by n log n whatever the comparison says, unlike quicksort with a
 * function that contradicts itself, and it never looks outside 1..n. */
static void sift_down(lua_State *L, int t, int f, lua_Integer root, lua_Integer n, unsigned *work)
{
	for (;;) {
		lua_Integer child = root * 2;

		if (child > n)
			return;
		if (++*work % TICK_EVERY == 0)
			hp_sandbox_tick(L);
		lua_geti(L, t, child);
		if (child < n) {
			lua_geti(L, t, child + 1);
			if (less(L, f, -2, -1)) {
				lua_replace(L, -2);
				child++;
			} else {
				lua_pop(L, 1);
			}
		}
		lua_geti(L, t, root);
		if (!less(L, f, -1, -2)) {
			lua_pop(L, 2);
			return;
		}
		lua_seti(L, t, child); /* the parent goes down, the child up */
		lua_seti(L, t, root);
		root = child;
	}
}

static void heapsort(lua_State *L, int t, int f, lua_Integer n)
{
	unsigned work = 0;
	lua_Integer i;

	luaL_checkstack(L, 8, "sort");
	for (i = n / 2; i >= 1; i--)
		sift_down(L, t, f, i, n, &work);
	for (i = n; i > 1; i--) {
		lua_geti(L, t, 1);
		lua_geti(L, t, i);
		lua_seti(L, t, 1);
		lua_seti(L, t, i);
		sift_down(L, t, f, 1, i - 1, &work);
	}
}

static int table_sort(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	if (!lua_isnoneornil(L, 2))
		luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	heapsort(L, 1, lua_isnil(L, 2) ? 0 : 2, luaL_len(L, 1));
	return 0;
}

/* Upvalues: table, its keys in order, how many, position. */
static int next_in_order(lua_State *L)
{
	lua_Integer n = lua_tointeger(L, lua_upvalueindex(3));
	lua_Integer i = lua_tointeger(L, lua_upvalueindex(4));

	while (i < n) {
		lua_geti(L, lua_upvalueindex(2), ++i);
		lua_pushvalue(L, -1);
		if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {
			lua_pushinteger(L, i);
			lua_replace(L, lua_upvalueindex(4));
			return 2;
		}
		lua_pop(L, 2); /* removed while the loop ran */
	}
	lua_pushnil(L);
	return 1;
}

static int base_pairs(lua_State *L)
{
	lua_Integer n = 0;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	hp_sandbox_tick(L);
	/* a `run` looks its members up when asked; its __pairs gives a table of all */
	if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
		lua_pushvalue(L, 1);
		hp_sandbox_call(L, 1, 1);
		lua_replace(L, 1);
	}
	lua_newtable(L);
	lua_pushnil(L);
	while (lua_next(L, 1)) {
		lua_pop(L, 1);
		lua_pushvalue(L, -1);
		lua_rawseti(L, 2, ++n);
	}
	heapsort(L, 2, -1, n);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushinteger(L, n);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, next_in_order, 4);
	return 1;
}

/* ---- table.move ---- */

static int table_move(lua_State *L)
{
	lua_Integer from = luaL_checkinteger(L, 2), to = luaL_checkinteger(L, 3);
	lua_Integer at = luaL_checkinteger(L, 4), i, n;
	int dest = lua_isnoneornil(L, 5) ? 1 : 5;

	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checktype(L, dest, LUA_TTABLE);
	if (to >= from) {
		/* Lua's own would walk 2^53 absent elements without a look at the clock */
		luaL_argcheck(L, from > 0 || to < LUA_MAXINTEGER + from, 3, "too many elements");
		n = to - from;
		luaL_argcheck(L, n < MOVE_MAX, 3, "too many elements");
		luaL_argcheck(L, at <= LUA_MAXINTEGER - n, 4, "destination wraps around");
		for (i = 0; i <= n; i++) {
			/* overlapping to the right in one table: begin at the end */
			lua_Integer k = dest == 1 && at > from ? n - i : i;

			if (i % TICK_EVERY == 0)
				hp_sandbox_tick(L);
			lua_geti(L, 1, from + k);
			lua_seti(L, dest, at + k);
		}
	}
	lua_pushvalue(L, dest);
	return 1;
}

/* ---- the allow-list ---- */

/* Upvalue 1: Lua's function. It finds its arguments where they are. */
static int guarded(lua_State *L)
{
	lua_CFunction f = lua_tocfunction(L, lua_upvalueindex(1));

	hp_sandbox_tick(L);
	return f(L);
}

static int read_only(lua_State *L)
{
	return luaL_error(L, "the library \"%s\" cannot be changed", lua_tostring(L, lua_upvalueindex(1)));
}

void hp_lualib_read_only(lua_State *L, const char *name)
{
	lua_newtable(L);
	lua_newtable(L);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_pushstring(L, name);
	lua_pushcclosure(L, read_only, 1);
	lua_setfield(L, -2, "__newindex");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_remove(L, -2);
}

/* Copies the named fields of the table on the top into the one below; pops the first.
 * Functions come guarded. */
static void take(lua_State *L, const char *const *names)
{
	for (; *names; names++) {
		int type = lua_getfield(L, -1, *names);

		if (type == LUA_TFUNCTION)
			lua_pushcclosure(L, guarded, 1);
		HP_ASSERT(type != LUA_TNIL);
		lua_setfield(L, -3, *names);
	}
	lua_pop(L, 1);
}

static void open_one(lua_State *L, lua_CFunction open)
{
	lua_pushcfunction(L, open);
	lua_call(L, 0, 1);
}

/* The library of `open` with only `names`, as a table on the top. */
static void pick(lua_State *L, lua_CFunction open, const char *const *names)
{
	lua_newtable(L);
	open_one(L, open);
	take(L, names);
}

static void open_base(lua_State *L)
{
	static const char *const plain[] = {"assert", "error", "ipairs", "next", "select",
					    "tonumber", "type", NULL};
	static const luaL_Reg ours[] = {{"pcall", base_pcall},
					{"xpcall", base_xpcall},
					{"pairs", base_pairs},
					{"tostring", base_tostring},
					{NULL, NULL}};
	const char *const *name;

	open_one(L, luaopen_base); /* fills and returns the globals' table */
	for (name = plain; *name; name++) { /* cheap: no guard */
		lua_getfield(L, -1, *name);
		HP_ASSERT(lua_iscfunction(L, -1));
		lua_setfield(L, -3, *name);
	}
	lua_pop(L, 1);
	luaL_setfuncs(L, ours, 0);
}

static void open_libraries(lua_State *L)
{
	static const char *const math[] = {
		"abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge",
		"log", "max", "maxinteger", "min", "mininteger", "modf", "pi", "rad", "sin", "sqrt",
		"tan", "tointeger", "type", "ult", NULL};
	static const char *const table[] = {"concat", "insert", "pack", "remove", "unpack", NULL};
	static const char *const utf8[] = {"char", "charpattern", "codepoint", "codes", "len",
					   "offset", NULL};
	static const char *const string[] = {"byte", "char", "len", "lower", "reverse", "sub",
					     "upper", NULL};
	static const luaL_Reg tables[] = {{"sort", table_sort}, {"move", table_move}, {NULL, NULL}};

	pick(L, luaopen_math, math);
	hp_lualib_read_only(L, "math");
	lua_setfield(L, -2, "math");
	pick(L, luaopen_table, table);
	luaL_setfuncs(L, tables, 0);
	hp_lualib_read_only(L, "table");
	lua_setfield(L, -2, "table");
	pick(L, luaopen_utf8, utf8);
	hp_lualib_read_only(L, "utf8");
	lua_setfield(L, -2, "utf8");
	pick(L, luaopen_string, string);
	hp_lualib_string(L);
	hp_lualib_read_only(L, "string");
	/* ("x"):upper() goes through the metatable all texts share */
	lua_pushliteral(L, "");
	lua_newtable(L);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
	lua_setfield(L, -2, "string");
	hp_lualib_json(L);
	hp_lualib_read_only(L, "json");
	lua_setfield(L, -2, "json");
}

void hp_lualib_open(lua_State *L)
{
	lua_newtable(L);
	open_base(L);
	open_libraries(L);
	lua_setfield(L, LUA_REGISTRYINDEX, HP_LUA_ALLOWED);
	/* nothing may lead back to the complete libraries */
	lua_newtable(L);
	lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	lua_pushnil(L);
	lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}
