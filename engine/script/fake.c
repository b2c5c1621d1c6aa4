/* fake.c: loads plugins/NAME/fake.lua and calls its functions.
 *
 *   return fake "stripe" {
 *     init   = function(db) … end,
 *     routes = { { "POST", "/v1/refunds", function(req, db, ctx) … return { status=, json= } end } },
 *     emit   = function(event, db, ctx) … end,
 *   }
 *
 * `db` is made from JSON before every call and becomes JSON again after it, so what a
 * restart would lose is lost at once, and a call that fails changes nothing. ctx's
 * functions reach the present call through the fake, so a ctx that a script kept is
 * never a dangling one.
 */
#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "script/fake_internal.h"
#include "script/lualib.h"

#define ROUTES_MAX 200
#define ARENA_MAX (256 * 1024)
#define DELAY_MAX 86400.0

/* ---- words of fake.lua ---- */

static int word_sha256(lua_State *L)
{
	uint8_t hash[HP_SHA256_LEN];
	char hex[HP_SHA256_HEX];
	size_t n;
	const char *s = luaL_checklstring(L, 1, &n);

	hp_sha256(s, n, hash);
	hp_hex(hash, sizeof hash, hex);
	lua_pushstring(L, hex);
	return 1;
}

/* Upvalue 1: the name. Checked here, so that the error has the line of the call. */
static int fake_table(lua_State *L)
{
	static const char *const known[] = {"init", "routes", "emit", NULL};

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, 1)) {
		lua_pop(L, 1);
		lua_pushvalue(L, -1);
		luaL_checkoption(L, -1, NULL, known);
		lua_pop(L, 1);
	}
	lua_settop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_setfield(L, 1, "name");
	return 1;
}

static int word_fake(lua_State *L)
{
	luaL_checkstring(L, 1);
	lua_settop(L, 1);
	lua_pushcclosure(L, fake_table, 1);
	return 1;
}

static void add_words(lua_State *L, void *arg)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, *(int *)arg);
	lua_pushcfunction(L, word_fake);
	lua_setfield(L, -2, "fake");
	lua_pushcfunction(L, word_sha256);
	lua_setfield(L, -2, "sha256");
}

/* ---- ctx ---- */

static struct hp_fake_call *current(lua_State *L)
{
	struct hp_fake *f = lua_touserdata(L, lua_upvalueindex(1));

	if (!f->call)
		luaL_error(L, "ctx is used outside a request");
	return f->call;
}

static int ctx_id(lua_State *L)
{
	struct hp_fake *f = lua_touserdata(L, lua_upvalueindex(1));
	struct hp_fake_call *c = current(L);
	const char *prefix = luaL_optstring(L, 1, "");
	char id[HP_FAKE_ID_MAX];

	hp_fake_next_id(f, c, id);
	lua_pushfstring(L, "%s%s", prefix, id);
	return 1;
}

static int ctx_reset(lua_State *L)
{
	current(L)->reset = true;
	return 0;
}

static int64_t seconds_arg(lua_State *L, int index)
{
	lua_Number s = luaL_optnumber(L, index, 0);

	luaL_argcheck(L, s >= 0 && s <= DELAY_MAX, index, "seconds from 0 to 86400");
	return (int64_t)(s * (double)HP_SECOND);
}

static int ctx_delay(lua_State *L)
{
	current(L)->delay_us = seconds_arg(L, 1);
	return 0;
}

static int ctx_webhook(lua_State *L)
{
	struct hp_fake *f = lua_touserdata(L, lua_upvalueindex(1));
	struct hp_fake_call *c = current(L);
	struct hp_error err = {0};
	json_t *spec;
	int rc;

	luaL_checktype(L, 1, LUA_TTABLE);
	spec = hp_lua_to_json(L, 1);
	rc = hp_fake_queue_webhook(f, c, spec, &err); /* no Lua while spec is ours */
	json_decref(spec);
	return rc < 0 ? hp_lua_raise(L, &err) : 0;
}

static void push_ctx(lua_State *L, struct hp_fake *f)
{
	static const luaL_Reg functions[] = {{"id", ctx_id},
					     {"webhook", ctx_webhook},
					     {"reset", ctx_reset},
					     {"delay", ctx_delay},
					     {NULL, NULL}};

	lua_newtable(L);
	lua_pushlightuserdata(L, f);
	luaL_setfuncs(L, functions, 1);
	lua_pushinteger(L, f->call->now);
	lua_setfield(L, -2, "now");
}

/* ---- calling ---- */

static void push_arg(lua_State *L, const struct hp_fake_call *c)
{
	hp_lua_push_json(L, c->arg);
	if (c->body.p) { /* bytes, which JSON could not carry */
		lua_pushlstring(L, c->body.p, c->body.n);
		lua_setfield(L, -2, "body");
	}
}

static void call_in_lua(lua_State *L, void *arg)
{
	struct hp_fake *f = arg;
	struct hp_fake_call *c = f->call;

	hp_lua_push_json(L, json_object_get(f->state, "db"));
	lua_rawgeti(L, LUA_REGISTRYINDEX, c->fn);
	if (c->arg) {
		push_arg(L, c);
		lua_pushvalue(L, 1);
		push_ctx(L, f);
		hp_sandbox_call(L, 3, 1);
	} else {
		lua_pushvalue(L, 1);
		hp_sandbox_call(L, 1, 1);
	}
	if (!lua_isnil(L, -1))
		c->reply = hp_lua_to_json(L, -1);
	c->db = hp_lua_to_json(L, 1);
}

static int load_source(struct hp_fake *f, struct hp_error *err);

int hp_fake_call(struct hp_fake *f, struct hp_fake_call *c, struct hp_error *err)
{
	int rc;

	if (!f->sandbox)
		return hp_fail(err, HP_E_NOMEM, "the fake %s could not be loaded again after it was "
			       "stopped", f->name);
	c->seq = hp_json_int(f->state, "seq", 0);
	c->webhooks = json_array();
	if (!c->webhooks)
		return hp_fail(err, HP_E_NOMEM, "no memory for a request");
	f->call = c;
	rc = hp_sandbox_run(f->sandbox, call_in_lua, f, err);
	f->call = NULL;
	if (hp_sandbox_dead(f->sandbox)) { /* stopped: the next request gets a new one */
		struct hp_error why = {0};

		if (load_source(f, &why) < 0) {
			hp_sandbox_free(f->sandbox);
			f->sandbox = NULL;
		}
	}
	return rc;
}

void hp_fake_call_free(struct hp_fake_call *c)
{
	json_decref(c->webhooks);
	json_decref(c->db);
	json_decref(c->reply);
	c->webhooks = c->db = c->reply = NULL;
}

int hp_fake_init_db(struct hp_fake *f, int64_t now, struct hp_error *err)
{
	struct hp_fake_call c = {.fn = f->init, .now = now};
	int rc;

	if (f->init == LUA_NOREF)
		return 0;
	rc = hp_fake_call(f, &c, err);
	if (rc == 0)
		rc = hp_fake_commit(f, &c, "", "", err);
	hp_fake_call_free(&c);
	return rc < 0 ? hp_error_prefix(err, "init of the fake %s", f->name) : 0;
}

/* ---- loading ---- */

struct reading {
	struct hp_fake *f;
	int ref;
};

static int function_ref(lua_State *L, const char *key)
{
	int type = lua_getfield(L, 1, key);

	if (type == LUA_TNIL) {
		lua_pop(L, 1);
		return LUA_NOREF;
	}
	if (type != LUA_TFUNCTION)
		luaL_error(L, "`%s` is not a function", key);
	return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The route on the top: { METHOD, "/path/:id", function }. */
static void read_route(lua_State *L, struct hp_fake *f, struct hp_fake_route *r, int i)
{
	if (!lua_istable(L, -1) || lua_geti(L, -1, 1) != LUA_TSTRING || lua_geti(L, -2, 2) != LUA_TSTRING ||
	    lua_geti(L, -3, 3) != LUA_TFUNCTION || lua_tostring(L, -2)[0] != '/')
		luaL_error(L, "route %d is not { METHOD, \"/path\", function }", i);
	r->fn = luaL_ref(L, LUA_REGISTRYINDEX);
	r->path = hp_arena_strdup(f->arena, lua_tostring(L, -1));
	r->method = hp_arena_strdup(f->arena, lua_tostring(L, -2));
	if (!r->path || !r->method)
		luaL_error(L, "the routes take too much memory");
	lua_pop(L, 2);
}

static void read_definition(lua_State *L, void *arg)
{
	struct reading *rd = arg;
	struct hp_fake *f = rd->f;
	const char *name;
	int i;

	lua_rawgeti(L, LUA_REGISTRYINDEX, rd->ref);
	if (!lua_istable(L, 1) || lua_getfield(L, 1, "name") != LUA_TSTRING)
		luaL_error(L, "fake.lua does not return fake \"%s\" { … }", f->name);
	name = lua_tostring(L, -1);
	if (strcmp(name, f->name) != 0)
		luaL_error(L, "this is the fake \"%s\", its folder is \"%s\"", name, f->name);
	f->init = function_ref(L, "init");
	f->emit = function_ref(L, "emit");
	if (lua_getfield(L, 1, "routes") != LUA_TTABLE)
		luaL_error(L, "`routes` is not a list");
	f->n_routes = 0;
	if (luaL_len(L, -1) > ROUTES_MAX)
		luaL_error(L, "more than %d routes", ROUTES_MAX);
	f->routes = hp_arena_alloc(f->arena, sizeof *f->routes * ROUTES_MAX);
	if (!f->routes)
		luaL_error(L, "the routes take too much memory");
	for (i = 1; lua_geti(L, -1, i) != LUA_TNIL; i++) {
		read_route(L, f, &f->routes[i - 1], i);
		lua_pop(L, 1);
		f->n_routes = i;
	}
}

/* A fresh sandbox with fake.lua in it. */
static int load_source(struct hp_fake *f, struct hp_error *err)
{
	struct reading rd = {f, LUA_NOREF};
	char file[HP_NAME_MAX + 40];
	int env;

	hp_sandbox_free(f->sandbox);
	f->n_routes = 0;
	hp_arena_reset(f->arena);
	f->sandbox = hp_sandbox_new(HP_LUA_MEMORY_MAX, err);
	if (!f->sandbox)
		return -1;
	env = hp_sandbox_env(f->sandbox, err);
	if (env < 0 || hp_sandbox_run(f->sandbox, add_words, &env, err) < 0)
		return -1;
	snprintf(file, sizeof file, "%s/fake.lua", f->name);
	if (hp_sandbox_load(f->sandbox, file, f->source, f->source_n, env, &rd.ref, err) < 0)
		return -1;
	if (hp_sandbox_run(f->sandbox, read_definition, &rd, err) < 0)
		return hp_error_prefix(err, "%s", file);
	return 0;
}

static int read_source(struct hp_fake *f, const char *plugins_dir, struct hp_error *err)
{
	char path[1024];
	FILE *in = NULL;
	int rc = -1;

	if ((size_t)snprintf(path, sizeof path, "%s/%s/fake.lua", plugins_dir, f->name) >= sizeof path)
		return hp_fail(err, HP_E_INVALID, "the path of the plugins is too long");
	in = fopen(path, "r");
	if (!in) {
		hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "%s: %s", path, strerror(errno));
		return hp_error_hint(err, "a simulated provider is a file fake.lua in its plugin's folder");
	}
	f->source = hp_alloc(HP_SOURCE_MAX + 1);
	if (!f->source) {
		hp_fail(err, HP_E_NOMEM, "no memory for %s", path);
		goto out;
	}
	f->source_n = fread(f->source, 1, HP_SOURCE_MAX + 1, in);
	if (ferror(in))
		hp_fail(err, HP_E_IO, "%s: %s", path, strerror(errno));
	else if (f->source_n > HP_SOURCE_MAX)
		hp_fail(err, HP_E_TOO_LARGE, "%s: larger than %d bytes", path, HP_SOURCE_MAX);
	else
		rc = 0;
out:
	fclose(in);
	return rc;
}

static int restore_state(struct hp_fake *f, struct hp_bytes state, struct hp_error *err)
{
	if (state.n) {
		f->state = hp_json_parse(state.p, state.n, "the fake's state", err);
		return f->state ? hp_fake_state_check(f->state, err) : -1;
	}
	f->state = hp_fake_state_new();
	if (!f->state)
		return hp_fail(err, HP_E_NOMEM, "no memory for the fake's state");
	return hp_fake_init_db(f, 0, err);
}

static bool name_is_good(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && n < HP_NAME_MAX && !name[n];
}

struct hp_fake *hp_fake_load(const char *name, const char *plugins_dir, struct hp_bytes state,
			     struct hp_error *err)
{
	struct hp_fake *f;

	if (!name_is_good(name)) {
		hp_fail(err, HP_E_INVALID, "\"%s\" is no name of a plugin", name);
		return NULL;
	}
	f = hp_calloc(1, sizeof *f);
	if (!f || !(f->name = hp_strdup(name)) || !(f->arena = hp_arena_new(ARENA_MAX)) ||
	    !(f->reply_arena = hp_arena_new(ARENA_MAX))) {
		hp_fail(err, HP_E_NOMEM, "no memory for the fake %s", name);
		goto fail;
	}
	hp_buf_init(&f->body, HP_FAKE_STATE_MAX);
	if (read_source(f, plugins_dir, err) < 0 || load_source(f, err) < 0 ||
	    restore_state(f, state, err) < 0)
		goto fail;
	return f;
fail:
	hp_fake_free(f);
	return NULL;
}

void hp_fake_free(struct hp_fake *f)
{
	if (!f)
		return;
	hp_sandbox_free(f->sandbox);
	json_decref(f->state);
	hp_arena_free(f->arena);
	hp_arena_free(f->reply_arena);
	hp_buf_free(&f->body);
	hp_free(f->source);
	hp_free(f->name);
	hp_free(f);
}
