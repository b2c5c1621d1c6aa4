/* lang.c: the words of workflow files.
 *
 * Every word builds a plain table that says what it is (a marker, internal.h);
 * nothing is checked here but names, because only here the line is known.
 * `sql "record" { … }` is two calls: sql("record") gives a function, which takes
 * the table; the line is the one of the name.
 */
#include <string.h>
#include "base/words.h"
#include "script/internal.h"

static int line_of_caller(lua_State *L)
{
	lua_Debug ar;

	if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "l", &ar))
		return 0;
	return ar.currentline;
}

bool hp_name_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && s[n] == '\0' && n <= HP_NAME_MAX && !(s[0] >= '0' && s[0] <= '9');
}

/* The second call: upvalues marker, kind, name, line. */
static int take_body(lua_State *L)
{
	const char *word = lua_tostring(L, lua_upvalueindex(2));

	if (!lua_istable(L, 1))
		return luaL_error(L, "%s \"%s\": a table must follow the name", word,
				  lua_tostring(L, lua_upvalueindex(3)));
	lua_newtable(L);
	lua_pushvalue(L, lua_upvalueindex(1));
	/* a state's mark is its kind; a workflow's and a connector's is the name */
	lua_pushvalue(L, lua_upvalueindex(strcmp(lua_tostring(L, lua_upvalueindex(1)), HP_MARK_STATE) == 0 ? 2 : 3));
	lua_rawset(L, -3);
	lua_pushvalue(L, lua_upvalueindex(3));
	lua_setfield(L, -2, "name");
	lua_pushvalue(L, lua_upvalueindex(4));
	lua_setfield(L, -2, "line");
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "body");
	return 1;
}

/* The first call: upvalues marker, word. */
int hp_lang_constructor(lua_State *L)
{
	const char *word = lua_tostring(L, lua_upvalueindex(2));
	const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;

	if (!name)
		return luaL_error(L, "%s: a name must follow, like %s \"name\" { … }", word, word);
	if (!hp_name_ok(name))
		return luaL_error(L, "%s \"%s\": a name is lower-case letters, digits and _, at most %d, no digit first",
				  word, name, HP_NAME_MAX);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushvalue(L, lua_upvalueindex(2));
	lua_pushvalue(L, 1);
	lua_pushinteger(L, line_of_caller(L));
	lua_pushcclosure(L, take_body, 4);
	return 1;
}

static int word_user(lua_State *L)
{
	luaL_argcheck(L, !lua_isnoneornil(L, 1), 1, "user needs an expression");
	lua_newtable(L);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, HP_MARK_USER);
	return 1;
}

/* webhook { … }, schedule { … }: the upvalue is the marker. */
static int word_trigger(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_newtable(L);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_pushvalue(L, 1);
	lua_rawset(L, -3);
	lua_pushinteger(L, line_of_caller(L));
	lua_setfield(L, -2, "line");
	return 1;
}

/* While discovering, whatever is asked of a connector is there. */
static int anything(lua_State *L)
{
	lua_pushvalue(L, 1);
	return 1;
}

static int discovering_connector(lua_State *L, const char *name)
{
	lua_pushboolean(L, 1);
	lua_setfield(L, -2, name);
	lua_newtable(L);
	lua_newtable(L);
	lua_pushcfunction(L, anything);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	return 1;
}

static int word_connector(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	if (!hp_name_ok(name))
		return luaL_error(L, "connector \"%s\": a name is lower-case letters, digits and _", name);
	if (lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_FOUND) == LUA_TTABLE)
		return discovering_connector(L, name);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_NAMESPACES);
	if (lua_getfield(L, -1, name) == LUA_TNIL)
		return luaL_error(L, "connector \"%s\" is not part of this bundle", name);
	return 1;
}

/* upvalues: connector, prefix ("refunds." or ""). Called for a missing field. */
static int operation_missing(lua_State *L)
{
	const char *connector = lua_tostring(L, lua_upvalueindex(1));
	const char *word, *near, *names[512];
	size_t n = 0;

	word = lua_pushfstring(L, "%s%s", lua_tostring(L, lua_upvalueindex(2)),
			       lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?");
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_CONNECTORS);
	lua_getfield(L, -1, connector);
	lua_getfield(L, -1, "body");
	lua_getfield(L, -1, "operations");
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
		if (n < sizeof names / sizeof *names && lua_type(L, -2) == LUA_TSTRING)
			names[n++] = lua_tostring(L, -2);
	near = hp_nearest(word, names, n);
	if (near)
		return luaL_error(L, "unknown operation \"%s.%s\", did you mean \"%s.%s\"?", connector, word,
				  connector, near);
	return luaL_error(L, "unknown operation \"%s.%s\": connector \"%s\" does not declare it", connector, word,
			  connector);
}

static void new_space(lua_State *L, const char *connector, const char *prefix)
{
	lua_newtable(L);
	lua_newtable(L);
	lua_pushstring(L, connector);
	lua_pushstring(L, prefix);
	lua_pushcclosure(L, operation_missing, 2);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
}

/* Adds "a.b.c" below the space on top of the stack, which stays there. */
static void add_operation(lua_State *L, const char *connector, const char *name)
{
	const char *p = name;
	int at = lua_gettop(L);

	lua_pushvalue(L, at); /* the space we are in is at + 1 */
	for (;;) {
		const char *dot = strchr(p, '.');
		const char *end = dot ? dot : p + strlen(p);

		lua_pushlstring(L, p, (size_t)(end - p));
		lua_pushvalue(L, -1);
		if (lua_rawget(L, at + 1) == LUA_TNIL) {
			lua_pop(L, 1);
			lua_pushlstring(L, name, (size_t)(end - name));
			new_space(L, connector, lua_pushfstring(L, "%s.", lua_tostring(L, -1)));
			lua_pushvalue(L, at + 2);
			lua_pushvalue(L, -2);
			lua_rawset(L, at + 1);
		}
		lua_replace(L, at + 1);
		lua_settop(L, at + 1);
		if (!dot)
			break;
		p = dot + 1;
	}
	lua_pushstring(L, name);
	lua_setfield(L, -2, HP_MARK_OPERATION);
	lua_pushstring(L, connector);
	lua_setfield(L, -2, "connector");
	lua_settop(L, at);
}

void hp_lang_namespace(lua_State *L, const char *connector, int operations)
{
	int top = lua_gettop(L);

	luaL_checkstack(L, 16, NULL);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_NAMESPACES);
	new_space(L, connector, "");
	for (lua_pushnil(L); lua_next(L, operations); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING) /* connector.c says what is wrong */
			continue;
		lua_pushvalue(L, top + 2);
		add_operation(L, connector, lua_tostring(L, -3));
		lua_pop(L, 1);
	}
	lua_setfield(L, top + 1, connector);
	lua_settop(L, top);
}

/* ---- types ---- */

static void push_type(lua_State *L, const char *name)
{
	lua_newtable(L);
	lua_pushstring(L, name);
	lua_setfield(L, -2, HP_MARK_TYPE);
}

/* upvalue: "optional" or "list" */
static int word_of_type(lua_State *L)
{
	const char *name = lua_tostring(L, lua_upvalueindex(1));

	if (!lua_istable(L, 1))
		return luaL_error(L, "%s needs a type, like %s(text)", name, name);
	push_type(L, name);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "of");
	return 1;
}

static int word_one_of(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	push_type(L, "one_of");
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "of");
	return 1;
}

void hp_lang_types(lua_State *L, int env)
{
	static const char *const plain[] = {"text", "integer", "number", "boolean", "any"};
	static const char *const nested[] = {"optional", "list"};
	size_t i;

	for (i = 0; i < sizeof plain / sizeof *plain; i++) {
		push_type(L, plain[i]);
		lua_setfield(L, env, plain[i]);
	}
	for (i = 0; i < sizeof nested / sizeof *nested; i++) {
		lua_pushstring(L, nested[i]);
		lua_pushcclosure(L, word_of_type, 1);
		lua_setfield(L, env, nested[i]);
	}
	lua_pushcfunction(L, word_one_of);
	lua_setfield(L, env, "one_of");
}

static void add_constructor(lua_State *L, int env, const char *mark, const char *word)
{
	lua_pushstring(L, mark);
	lua_pushstring(L, word);
	lua_pushcclosure(L, hp_lang_constructor, 2);
	lua_setfield(L, env, word);
}

void hp_lang_workflow(lua_State *L, int env)
{
	static const char *const kinds[] = {"call",  "sql",   "choose",  "approval",
					    "wait",  "await", "succeed", "fail", "sweep",
					    "run",   "each"};
	size_t i;

	hp_lang_types(L, env);
	hp_lang_secret(L, env);
	for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
		add_constructor(L, env, HP_MARK_STATE, kinds[i]);
	add_constructor(L, env, HP_MARK_WORKFLOW, "workflow");
	lua_pushcfunction(L, word_connector);
	lua_setfield(L, env, "connector");
	lua_pushliteral(L, HP_MARK_WEBHOOK);
	lua_pushcclosure(L, word_trigger, 1);
	lua_setfield(L, env, "webhook");
	lua_pushliteral(L, HP_MARK_SCHEDULE);
	lua_pushcclosure(L, word_trigger, 1);
	lua_setfield(L, env, "schedule");
	lua_pushcfunction(L, word_user);
	lua_setfield(L, env, "user");
	lua_newtable(L);
	lua_pushboolean(L, 1);
	lua_setfield(L, -2, HP_MARK_SERVICE);
	lua_setfield(L, env, "service");
}
