/* value.c: JSON and Lua values into each other, and Lua's `json` library.
 *
 * Null is a light userdata (json.null), because nil in a table is absence. A table
 * is an array when it carries the array marker or has the keys 1..n, an object when
 * its keys are texts; an empty unmarked table is an object. Whatever JSON cannot say
 * (functions, mixed keys, NaN, cycles, bytes that are no UTF-8) is an error that names
 * the place, as ".items[3].price".
 *
 * Every allocation of Lua may raise, so a json_t under construction is owned by a box
 * with a finaliser, and a part is hung into its parent before it is filled.
 */
#include "script/sandbox.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/limits.h"
#include "script/lualib.h"

#define NODE_COST 64      /* about what a value takes besides its text */
#define TICK_EVERY 256    /* nodes between looks at the clock */
#define PLACE_MAX 200

static const char null_address; /* its address is json.null */

/* Where we are, from the inside out: for messages and to find cycles. */
struct place {
	const struct place *outer;
	const void *table;
	const char *key;   /* NULL: index */
	lua_Integer index;
};

struct convert {
	size_t spent;      /* of HP_LUA_MEMORY_MAX: JSON is not counted by Lua's allocator */
	unsigned nodes;
};

/* ---- boxes ---- */

static int box_gc(lua_State *L)
{
	json_t **box = lua_touserdata(L, 1);

	json_decref(*box);
	*box = NULL;
	return 0;
}

static json_t **push_box(lua_State *L)
{
	json_t **box = lua_newuserdatauv(L, sizeof *box, 0);

	*box = NULL;
	luaL_setmetatable(L, HP_LUA_OWNED);
	return box;
}

/* ---- JSON → Lua ---- */

static void push_value(lua_State *L, const json_t *v, int depth, unsigned *nodes);

static void push_table(lua_State *L, const json_t *v, int depth, unsigned *nodes)
{
	size_t i;
	void *it;

	if (json_is_array(v)) {
		lua_createtable(L, (int)json_array_size(v), 0);
		for (i = 0; i < json_array_size(v); i++) {
			push_value(L, json_array_get(v, i), depth + 1, nodes);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		luaL_setmetatable(L, HP_LUA_ARRAY);
		return;
	}
	lua_createtable(L, 0, (int)json_object_size(v));
	/* jansson's iterator takes the object without const but does not change it */
	for (it = json_object_iter((json_t *)(uintptr_t)v); it;
	     it = json_object_iter_next((json_t *)(uintptr_t)v, it)) {
		lua_pushlstring(L, json_object_iter_key(it), json_object_iter_key_len(it));
		push_value(L, json_object_iter_value(it), depth + 1, nodes);
		lua_rawset(L, -3);
	}
}

static void push_value(lua_State *L, const json_t *v, int depth, unsigned *nodes)
{
	if (depth > HP_JSON_DEPTH_MAX)
		luaL_error(L, "JSON nested deeper than %d levels", HP_JSON_DEPTH_MAX);
	luaL_checkstack(L, 4, "JSON nested too deeply");
	if (++*nodes % TICK_EVERY == 0)
		hp_sandbox_tick(L);
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_OBJECT:
	case JSON_ARRAY:
		push_table(L, v, depth, nodes);
		break;
	case JSON_STRING:
		lua_pushlstring(L, json_string_value(v), json_string_length(v));
		break;
	case JSON_INTEGER:
		lua_pushinteger(L, json_integer_value(v));
		break;
	case JSON_REAL:
		lua_pushnumber(L, json_real_value(v));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		lua_pushboolean(L, json_is_true(v));
		break;
	case JSON_NULL:
		lua_pushlightuserdata(L, (void *)(uintptr_t)&null_address);
		break;
	}
}

void hp_lua_push_json(lua_State *L, const json_t *v)
{
	unsigned nodes = 0;

	push_value(L, v, 0, &nodes);
}

/* ---- Lua → JSON ---- */

static void write_place(const struct place *p, char *out, size_t n)
{
	size_t used;

	if (!p || !p->outer) {
		out[0] = '\0';
		return;
	}
	write_place(p->outer, out, n);
	used = strlen(out);
	if (p->key)
		snprintf(out + used, n - used, ".%s", p->key);
	else
		snprintf(out + used, n - used, "[%lld]", (long long)p->index);
}

/* The place a value is at is described by `p`, whose outermost link is the value itself. */
static int refuse(lua_State *L, const struct place *p, const char *what)
{
	char where[PLACE_MAX];

	write_place(p, where, sizeof where);
	if (where[0])
		return luaL_error(L, "%s: %s", where, what);
	return luaL_error(L, "%s", what);
}

static void charge(lua_State *L, struct convert *c, size_t bytes, const struct place *p)
{
	c->spent += bytes + NODE_COST;
	if (c->spent > HP_LUA_MEMORY_MAX)
		refuse(L, p, "the value is too large to become JSON");
	if (++c->nodes % TICK_EVERY == 0)
		hp_sandbox_tick(L);
}

static const char *checked_text(lua_State *L, int index, size_t *n, const struct place *p)
{
	const char *s = lua_tolstring(L, index, n);

	if (memchr(s, '\0', *n))
		refuse(L, p, "a text with the character U+0000 cannot be stored");
	return s;
}

static bool is_array_marked(lua_State *L, int index)
{
	bool yes;

	if (!lua_getmetatable(L, index))
		return false;
	luaL_getmetatable(L, HP_LUA_ARRAY);
	yes = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return yes;
}

/* 1: array of *n values, 0: object. Raises on anything between. */
static int table_shape(lua_State *L, int index, lua_Integer *n, const struct place *p)
{
	lua_Integer count = 0, highest = 0, texts = 0;
	bool marked = is_array_marked(L, index);

	lua_pushnil(L);
	while (lua_next(L, index)) {
		lua_pop(L, 1);
		if (lua_isinteger(L, -1) && lua_tointeger(L, -1) > 0) {
			count++;
			if (lua_tointeger(L, -1) > highest)
				highest = lua_tointeger(L, -1);
		} else if (lua_type(L, -1) == LUA_TSTRING) {
			texts++;
		} else {
			return refuse(L, p, "a key is neither a text nor a position (1, 2, …)");
		}
	}
	if (texts && (count || marked))
		return refuse(L, p, "a table is either an array or an object, this one has keys of both");
	if (highest != count)
		return refuse(L, p, "an array has a gap; use json.null for values that are absent");
	*n = count;
	return marked || count > 0;
}

static json_t *scalar(lua_State *L, int index, struct convert *c, const struct place *p)
{
	const char *s;
	size_t n;
	json_t *v = NULL;

	charge(L, c, 0, p);
	switch (lua_type(L, index)) {
	case LUA_TNIL:
		return json_null();
	case LUA_TLIGHTUSERDATA:
		if (lua_touserdata(L, index) == (const void *)&null_address)
			return json_null();
		break;
	case LUA_TBOOLEAN:
		return json_boolean(lua_toboolean(L, index));
	case LUA_TNUMBER:
		if (lua_isinteger(L, index)) {
			v = json_integer(lua_tointeger(L, index));
		} else {
			if (!isfinite(lua_tonumber(L, index)))
				refuse(L, p, "JSON has no infinity and no NaN");
			v = json_real(lua_tonumber(L, index));
		}
		if (!v)
			refuse(L, p, "no memory");
		return v;
	case LUA_TSTRING:
		s = checked_text(L, index, &n, p);
		charge(L, c, n, p);
		v = json_stringn(s, n); /* refuses what is not UTF-8 */
		if (!v)
			refuse(L, p, "a text is not valid UTF-8");
		return v;
	default:
		break;
	}
	lua_pushfstring(L, "a %s cannot become JSON", luaL_typename(L, index));
	refuse(L, p, lua_tostring(L, -1));
	return NULL;
}

static void fill(lua_State *L, int index, json_t *into, struct convert *c, const struct place *p);

/* A value on the top at `p` → what is to be hung into its parent; tables come empty. */
static json_t *shell(lua_State *L, struct convert *c, const struct place *p)
{
	lua_Integer n;
	json_t *v;

	/* a table of ours that is something else in JSON */
	if (lua_istable(L, -1) && luaL_getmetafield(L, -1, "__json") != LUA_TNIL) {
		lua_pushvalue(L, -2);
		lua_call(L, 1, 1);
		lua_replace(L, -2);
	}
	if (!lua_istable(L, -1))
		return scalar(L, -1, c, p);
	charge(L, c, 0, p);
	v = table_shape(L, lua_gettop(L), &n, p) ? json_array() : json_object();
	if (!v)
		refuse(L, p, "no memory");
	return v;
}

static void enter_table(lua_State *L, const struct place *p, int *depth)
{
	const struct place *o;
	const void *me = lua_topointer(L, -1);

	*depth = 1;
	for (o = p->outer; o; o = o->outer, ++*depth)
		if (o->table == me)
			refuse(L, p, "a table contains itself");
	if (*depth > HP_JSON_DEPTH_MAX)
		refuse(L, p, "nested too deeply");
	luaL_checkstack(L, 8, "JSON nested too deeply");
}

/* Hangs the value on the top into `into` and fills it. Pops it. */
static void add_child(lua_State *L, json_t *into, struct convert *c, struct place *p)
{
	json_t *v = shell(L, c, p);
	int failed;

	if (p->key)
		failed = json_object_setn_new(into, p->key, strlen(p->key), v);
	else
		failed = json_array_append_new(into, v);
	if (failed)
		refuse(L, p, "a key is not valid UTF-8, or there is no memory");
	if (lua_istable(L, -1))
		fill(L, lua_gettop(L), v, c, p);
	lua_pop(L, 1);
}

static void fill(lua_State *L, int index, json_t *into, struct convert *c, const struct place *p)
{
	struct place at = *p, child = {.outer = &at};
	lua_Integer i, n;
	size_t len;
	int depth;

	at.table = lua_topointer(L, index);
	enter_table(L, p, &depth);
	if (json_is_array(into)) {
		n = (lua_Integer)lua_rawlen(L, index);
		for (i = 1; i <= n; i++) {
			lua_rawgeti(L, index, i);
			child.index = i;
			add_child(L, into, c, &child);
		}
		return;
	}
	lua_pushnil(L);
	while (lua_next(L, index)) {
		child.key = checked_text(L, -2, &len, p);
		charge(L, c, len, p);
		add_child(L, into, c, &child);
	}
}

json_t *hp_lua_to_json(lua_State *L, int index)
{
	struct convert c = {0};
	struct place root = {0};
	json_t **box, *v;

	index = lua_absindex(L, index);
	luaL_checkstack(L, 8, "no room to convert a value");
	box = push_box(L);
	lua_pushvalue(L, index);
	*box = shell(L, &c, &root);
	if (lua_istable(L, -1))
		fill(L, lua_gettop(L), *box, &c, &root);
	lua_pop(L, 1);
	v = *box;
	*box = NULL;
	lua_pop(L, 1);
	return v;
}

void hp_lua_write_json(lua_State *L, int index, struct hp_buf *b)
{
	json_t *v = hp_lua_to_json(L, index);
	struct hp_error err = {0};
	int rc = hp_json_write(b, v, &err);

	json_decref(v);
	if (rc < 0)
		hp_lua_raise(L, &err);
}

/* ---- the library ---- */

static int lib_encode(lua_State *L)
{
	json_t **box;
	struct hp_buf b;
	struct hp_error err = {0};
	char *copy;

	luaL_checkany(L, 1);
	lua_settop(L, 1);
	hp_sandbox_tick(L);
	box = push_box(L);
	*box = hp_lua_to_json(L, 1);
	hp_buf_init(&b, HP_LUA_STRING_MAX);
	/* Lua may raise while it copies the text, so the text must not be ours then:
	 * it goes through a userdata. */
	if (hp_json_write(&b, *box, &err) < 0) {
		hp_buf_free(&b);
		return hp_lua_raise(L, &err);
	}
	json_decref(*box);
	*box = json_stringn_nocheck(hp_buf_str(&b), b.n);
	hp_buf_free(&b);
	copy = *box ? (char *)(uintptr_t)json_string_value(*box) : NULL;
	if (!copy)
		return luaL_error(L, "no memory for JSON text");
	lua_pushlstring(L, copy, json_string_length(*box));
	json_decref(*box);
	*box = NULL;
	return 1;
}

static int lib_decode(lua_State *L)
{
	struct hp_error err = {0};
	json_t **box;
	size_t n;
	const char *s = luaL_checklstring(L, 1, &n);

	hp_sandbox_tick(L);
	box = push_box(L);
	*box = hp_json_parse(s, n, "json.decode", &err);
	if (!*box)
		return hp_lua_raise(L, &err);
	hp_lua_push_json(L, *box);
	json_decref(*box);
	*box = NULL;
	return 1;
}

/* Marks a table as an array, so that an empty one is written as []. */
static int lib_array(lua_State *L)
{
	if (lua_isnoneornil(L, 1)) {
		lua_settop(L, 0);
		lua_newtable(L);
	}
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	if (is_array_marked(L, 1))
		return 1;
	if (luaL_getmetafield(L, 1, "__index") != LUA_TNIL)
		return luaL_error(L, "json.array: this table cannot be changed");
	luaL_setmetatable(L, HP_LUA_ARRAY);
	return 1;
}

/* Reading a field of null: nil would hide it, Lua's own words speak of userdata. */
static int null_field(lua_State *L)
{
	if (lua_type(L, 2) == LUA_TSTRING)
		return luaL_error(L, "attempt to read \"%s\" of null (compare with json.null first)",
				  lua_tostring(L, 2));
	return luaL_error(L, "attempt to read a position of null (compare with json.null first)");
}

/* All light userdata share one metatable, and null is the only one there is. */
static void prepare_null(lua_State *L)
{
	lua_pushlightuserdata(L, (void *)(uintptr_t)&null_address);
	lua_newtable(L);
	lua_pushcfunction(L, null_field);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
}

void hp_lualib_json(lua_State *L)
{
	prepare_null(L);
	luaL_newmetatable(L, HP_LUA_OWNED);
	lua_pushcfunction(L, box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
	luaL_newmetatable(L, HP_LUA_ARRAY);
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
	lua_newtable(L);
	lua_pushcfunction(L, lib_encode);
	lua_setfield(L, -2, "encode");
	lua_pushcfunction(L, lib_decode);
	lua_setfield(L, -2, "decode");
	lua_pushcfunction(L, lib_array);
	lua_setfield(L, -2, "array");
	lua_pushlightuserdata(L, (void *)(uintptr_t)&null_address);
	lua_setfield(L, -2, "null");
}
