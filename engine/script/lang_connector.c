/* lang_connector.c: the words of connector files.
 *
 * References to secrets are tables like { bearer = "STRIPE_SECRET_KEY" }: names,
 * never values. They become values in outgoing.c, after everything was stored.
 */
#include <string.h>
#include "script/internal.h"

/* secret(NAME), bearer(NAME): upvalue is the word. */
static int word_reference(lua_State *L)
{
	luaL_checkstring(L, 1);
	lua_newtable(L);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, lua_tostring(L, lua_upvalueindex(1)));
	return 1;
}

static int word_basic(lua_State *L)
{
	luaL_checkstring(L, 1);
	luaL_checkstring(L, 2);
	lua_newtable(L);
	lua_createtable(L, 2, 0);
	lua_pushvalue(L, 1);
	lua_rawseti(L, -2, 1);
	lua_pushvalue(L, 2);
	lua_rawseti(L, -2, 2);
	lua_setfield(L, -2, "basic");
	return 1;
}

static int word_by_key(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_newtable(L);
	lua_pushliteral(L, "by_key");
	lua_setfield(L, -2, HP_MARK_REPEAT);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "body");
	return 1;
}

static int word_ok(lua_State *L)
{
	lua_settop(L, 1);
	lua_newtable(L);
	if (lua_isnil(L, 1)) {
		json_t *null = json_null(); /* static inside jansson: nothing to free */

		hp_lua_push_json(L, null);
	} else {
		lua_pushvalue(L, 1);
	}
	lua_setfield(L, -2, "ok");
	return 1;
}

static int word_failure(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_newtable(L);
	lua_pushvalue(L, 1);
	lua_setfield(L, -2, "failure");
	return 1;
}

static int word_retry_seconds(lua_State *L)
{
	const char *after, *reset;
	double seconds;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_getfield(L, 1, "retry-after");
	after = lua_tostring(L, -1);
	lua_getfield(L, 1, "ratelimit-reset");
	reset = lua_tostring(L, -1);
	seconds = hp_retry_seconds(after, reset, hp_vm_of(L)->now);
	if (seconds < 0)
		lua_pushnil(L);
	else
		lua_pushnumber(L, seconds);
	return 1;
}

static int word_urlencode(lua_State *L)
{
	size_t n, i;
	const char *s = luaL_checklstring(L, 1, &n);
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	for (i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c)) {
			luaL_addchar(&b, s[i]);
		} else {
			luaL_addchar(&b, '%');
			luaL_addchar(&b, "0123456789ABCDEF"[c >> 4]);
			luaL_addchar(&b, "0123456789ABCDEF"[c & 15]);
		}
	}
	luaL_pushresult(&b);
	return 1;
}

static void add_repeat(lua_State *L, int env, const char *word)
{
	lua_newtable(L);
	lua_pushstring(L, word);
	lua_setfield(L, -2, HP_MARK_REPEAT);
	lua_setfield(L, env, word);
}

void hp_lang_connector(lua_State *L, int env)
{
	static const luaL_Reg words[] = {
		{"basic", word_basic},     {"by_key", word_by_key},
		{"ok", word_ok},           {"failure", word_failure},
		{"retry_seconds", word_retry_seconds}, {"urlencode", word_urlencode},
	};
	static const char *const references[] = {"secret", "bearer"};
	size_t i;

	hp_lang_types(L, env);
	for (i = 0; i < sizeof words / sizeof *words; i++) {
		lua_pushcfunction(L, words[i].func);
		lua_setfield(L, env, words[i].name);
	}
	for (i = 0; i < sizeof references / sizeof *references; i++) {
		lua_pushstring(L, references[i]);
		lua_pushcclosure(L, word_reference, 1);
		lua_setfield(L, env, references[i]);
	}
	add_repeat(L, env, "by_nature");
	add_repeat(L, env, "never");
	lua_pushliteral(L, HP_MARK_CONNECTOR);
	lua_pushliteral(L, "connector_definition");
	lua_pushcclosure(L, hp_lang_constructor, 2);
	lua_setfield(L, env, "connector_definition");
}
