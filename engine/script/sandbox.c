/* sandbox.c: life and death of a Lua state: memory, time, loading, running.
 *
 * How a call is stopped. Everything runs in a coroutine made for that one call. The
 * count hook looks at the clock every HP_LUA_HOOK_COUNT instructions and, when the
 * time is up, yields: hp_sandbox_run() sees LUA_YIELD and never resumes. A yield
 * cannot be caught, unlike an error, which `while true do pcall(f) end` swallows.
 * Lua can only yield through C functions that called it with a continuation, so
 * hp_sandbox_call() passes one that is never entered. Inside pcall, and where a C
 * function of somebody else called Lua without one, the hook raises an error instead,
 * which our pcall (lualib.c) refuses to catch.
 *
 * Time is what this thread spent, not what the wall clock says: a machine that is
 * busy elsewhere must not turn good scripts into failed ones. The cheap wall clock
 * is asked first, the CPU clock only when that one has run out.
 *
 * Memory is counted by the allocator. Lua answers a refusal with a full collection
 * and a second try, so only LUA_ERRMEM means the limit was really met; then the state
 * is given up, because code may have been cut anywhere.
 */
#include "script/sandbox.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/alloc.h"
#include "base/limits.h"
#include "base/words.h"
#include "script/lualib.h"

/* Slots of C stack space a C function may count on (LUA_MINSTACK) are enough for
 * everything here; a string's header is added to the bytes it holds. */
#define STRING_HEADER 64
#define CLOCK_FROM (64 * 1024) /* allocations from this size on look at the clock */
#define NAMES_MAX 256          /* candidates for "did you mean" */

enum stop { RUNNING_FREE, STOP_TIME, STOP_MEMORY };

struct hp_sandbox {
	lua_State *L;
	size_t used, max;
	int64_t time_max;  /* of one call, CPU µs */
	int64_t wall_end;  /* monotonic µs at which to ask the CPU clock */
	int64_t cpu_end;   /* CPU µs of this thread at which the call ends */
	enum stop stop;    /* why the present call may not go on */
	bool running;
	bool dead;
	bool refused;      /* the allocator said no because of the limit */
	char where[160];   /* "file:line" at the moment of the stop */
};

static struct hp_sandbox *owner(lua_State *L)
{
	return *(struct hp_sandbox **)lua_getextraspace(L);
}

/* ---- time ---- */

static int64_t clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void start_clock(struct hp_sandbox *s)
{
	s->wall_end = clock_us(CLOCK_MONOTONIC) + s->time_max * HP_SLOWNESS;
	s->cpu_end = clock_us(CLOCK_THREAD_CPUTIME_ID) + s->time_max * HP_SLOWNESS;
}

static bool time_is_up(struct hp_sandbox *s)
{
	int64_t wall, cpu;

	if (s->stop != RUNNING_FREE)
		return true;
	if (!s->running)
		return false;
	wall = clock_us(CLOCK_MONOTONIC);
	if (wall < s->wall_end)
		return false;
	cpu = clock_us(CLOCK_THREAD_CPUTIME_ID);
	if (cpu < s->cpu_end) {
		s->wall_end = wall + (s->cpu_end - cpu);
		return false;
	}
	s->stop = STOP_TIME;
	return true;
}

/* ---- memory ---- */

static void *limited_alloc(void *ud, void *p, size_t old_n, size_t n)
{
	struct hp_sandbox *s = ud;
	size_t old = p ? old_n : 0; /* for a new block old_n is its type */
	void *q;

	if (!n) {
		s->used -= old;
		hp_free(p);
		return NULL;
	}
	if (n > old) {
		bool text = !p && old_n == LUA_TSTRING && n > HP_LUA_STRING_MAX + STRING_HEADER;

		if (text || n - old > s->max - s->used) {
			s->refused = true;
			return NULL;
		}
		/* Between two hooks a thousand large copies would fit. */
		if (n - old >= CLOCK_FROM && s->running && time_is_up(s))
			return NULL;
	}
	q = hp_realloc(p, n);
	if (!q) {
		if (n > old)
			return NULL;
		q = p; /* Lua relies on it: making a block smaller cannot fail */
	}
	s->used = s->used - old + n;
	return q;
}

/* ---- stopping ---- */

/* Takes the place of the innermost Lua code; nothing here allocates. */
static void note_where(struct hp_sandbox *s, lua_State *L)
{
	lua_Debug ar;
	int level;

	s->where[0] = '\0';
	for (level = 0; level < 50 && lua_getstack(L, level, &ar); level++) {
		if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0) {
			snprintf(s->where, sizeof s->where, "%s:%d: ", ar.short_src, ar.currentline);
			return;
		}
	}
}

/* Raises what cannot be caught. A light value: no memory is needed for it. */
static void raise_stop(lua_State *L)
{
	lua_pushlightuserdata(L, owner(L));
	lua_error(L);
}

static void on_count(lua_State *L, lua_Debug *ar)
{
	struct hp_sandbox *s = owner(L);
	bool first = s->stop == RUNNING_FREE;

	(void)ar;
	if (!time_is_up(s))
		return;
	if (first)
		note_where(s, L);
	if (lua_isyieldable(L))
		lua_yield(L, 0); /* in a hook this returns, and Lua yields when we do */
	else
		raise_stop(L);
}

void hp_sandbox_tick(lua_State *L)
{
	struct hp_sandbox *s = owner(L);
	bool first = s->stop == RUNNING_FREE;

	if (!time_is_up(s))
		return;
	if (first)
		note_where(s, L);
	if (lua_isyieldable(L))
		lua_yield(L, 0); /* in a C function this does not return */
	raise_stop(L);
}

bool hp_sandbox_stopped(lua_State *L)
{
	return owner(L)->stop != RUNNING_FREE;
}

void hp_sandbox_caught(lua_State *L, int status)
{
	struct hp_sandbox *s = owner(L);

	if (status == LUA_ERRMEM && s->stop == RUNNING_FREE)
		s->stop = STOP_MEMORY;
	if (s->stop != RUNNING_FREE)
		raise_stop(L);
}

static int never_entered(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	return luaL_error(L, "internal: a stopped call was resumed");
}

void hp_sandbox_call(lua_State *L, int n_args, int n_results)
{
	lua_callk(L, n_args, n_results, 0, never_entered);
}

int hp_lua_raise(lua_State *L, const struct hp_error *err)
{
	return luaL_error(L, "%s", err->message);
}

/* ---- birth and death ---- */

static int open_protected(lua_State *L)
{
	hp_lualib_open(L);
	return 0;
}

struct hp_sandbox *hp_sandbox_new(size_t memory_max, struct hp_error *err)
{
	struct hp_sandbox *s = hp_calloc(1, sizeof *s);

	if (!s) {
		hp_fail(err, HP_E_NOMEM, "no memory for a Lua state");
		return NULL;
	}
	s->max = memory_max;
	s->time_max = HP_LUA_TIME_MAX;
	s->L = lua_newstate(limited_alloc, s);
	if (!s->L) {
		hp_free(s);
		hp_fail(err, HP_E_NOMEM, "no memory for a Lua state");
		return NULL;
	}
	*(struct hp_sandbox **)lua_getextraspace(s->L) = s; /* threads inherit it */
	lua_pushcfunction(s->L, open_protected);
	if (lua_pcall(s->L, 0, 0, 0) != LUA_OK) {
		hp_fail(err, HP_E_NOMEM, "a Lua state of %zu bytes cannot hold its libraries",
			memory_max);
		hp_sandbox_free(s);
		return NULL;
	}
	lua_sethook(s->L, on_count, LUA_MASKCOUNT, HP_LUA_HOOK_COUNT); /* inherited too */
	return s;
}

void hp_sandbox_set_time(struct hp_sandbox *s, int64_t time_max_us)
{
	s->time_max = time_max_us;
}

void hp_sandbox_free(struct hp_sandbox *s)
{
	if (!s)
		return;
	HP_ASSERT(!s->running);
	lua_close(s->L);
	HP_ASSERT(s->used == 0);
	hp_free(s);
}

lua_State *hp_sandbox_lua(struct hp_sandbox *s)
{
	return s->L;
}

bool hp_sandbox_dead(const struct hp_sandbox *s)
{
	return s->dead;
}

size_t hp_sandbox_memory(const struct hp_sandbox *s)
{
	return s->used;
}

/* ---- running ---- */

struct call {
	hp_sandbox_fn fn;
	void *arg;
};

static int enter(lua_State *co)
{
	struct call *c = lua_touserdata(co, 1);

	lua_settop(co, 0);
	c->fn(co, c->arg);
	return 0;
}

static int new_thread(lua_State *L)
{
	lua_newthread(L);
	return 1;
}

/* (error value, struct hp_error *): turns whatever was raised into a message. */
static int describe(lua_State *L)
{
	struct hp_error *err = lua_touserdata(L, 2);
	const char *text = NULL;

	if (lua_type(L, 1) == LUA_TSTRING) {
		text = lua_tostring(L, 1);
	} else if (lua_istable(L, 1)) {
		lua_pushliteral(L, "message");
		if (lua_rawget(L, 1) == LUA_TSTRING)
			text = lua_tostring(L, -1);
	}
	if (text && *text)
		hp_fail(err, HP_E_SCRIPT, "%s", text);
	else if (text)
		hp_fail(err, HP_E_SCRIPT, "the script raised an empty text as its error");
	else
		hp_fail(err, HP_E_SCRIPT, "the script raised a %s value as its error; raise a text or "
			"a table with `message`", luaL_typename(L, 1));
	return 0;
}

static void script_error(struct hp_sandbox *s, lua_State *co, struct hp_error *err)
{
	struct hp_error scratch = {0};

	lua_xmove(co, s->L, 1);
	lua_pushcfunction(s->L, describe);
	lua_insert(s->L, -2);
	lua_pushlightuserdata(s->L, &scratch);
	if (lua_pcall(s->L, 2, 0, 0) != LUA_OK)
		hp_fail(&scratch, HP_E_NOMEM, "no memory to describe the script's error");
	if (err)
		*err = scratch;
}

static int stopped(struct hp_sandbox *s, struct hp_error *err)
{
	s->dead = true;
	if (s->stop == STOP_TIME) {
		hp_fail(err, HP_E_SCRIPT, "%sstopped after %d ms", s->where, (int)(s->time_max / 1000));
		return hp_error_hint(err, "a script only maps data: look for a loop that does not end");
	}
	if (!s->refused)
		return hp_fail(err, HP_E_NOMEM, "%sno memory left on this machine", s->where);
	hp_fail(err, HP_E_SCRIPT, "%sneeds more than %zu KiB of memory, or one text of more than %d KiB",
		s->where, s->max / 1024, HP_LUA_STRING_MAX / 1024);
	return hp_error_hint(err, "a script only maps data: look for a table or text that grows");
}

static int finish_run(struct hp_sandbox *s, lua_State *co, int status, struct hp_error *err)
{
	if (s->stop == RUNNING_FREE && status == LUA_ERRMEM)
		s->stop = STOP_MEMORY;
	if (s->stop != RUNNING_FREE && !s->where[0]) /* stopped by the allocator */
		note_where(s, co);
	if (s->stop != RUNNING_FREE)
		return stopped(s, err);
	if (status == LUA_OK)
		return 0;
	if (status == LUA_YIELD) { /* nobody but the hook may */
		s->dead = true;
		return hp_fail(err, HP_E_INTERNAL, "a script's coroutine yielded by itself");
	}
	script_error(s, co, err);
	return -1;
}

int hp_sandbox_run(struct hp_sandbox *s, hp_sandbox_fn fn, void *arg, struct hp_error *err)
{
	struct call c = {fn, arg};
	lua_State *co;
	int status, n, rc;

	HP_ASSERT(!s->running); /* the deadline and the stop belong to one call */
	if (s->dead)
		return hp_fail(err, HP_E_SCRIPT, "this Lua state was stopped by force and must be "
			       "loaded again");
	s->stop = RUNNING_FREE;
	s->refused = false;
	s->where[0] = '\0';
	lua_pushcfunction(s->L, new_thread);
	if (lua_pcall(s->L, 0, 1, 0) != LUA_OK) {
		s->stop = STOP_MEMORY;
		lua_settop(s->L, 0);
		return stopped(s, err);
	}
	co = lua_tothread(s->L, -1);
	lua_pushcfunction(co, enter);
	lua_pushlightuserdata(co, &c);
	start_clock(s);
	s->running = true;
	status = lua_resume(co, s->L, 1, &n);
	s->running = false;
	rc = finish_run(s, co, status, err);
	lua_settop(s->L, 0);
	return rc;
}

/* ---- _ENV and loading ---- */

/* __index of an _ENV, upvalue 1: the _ENV. Offers the nearest word it knows. */
static int unknown_name(lua_State *L)
{
	const char *names[NAMES_MAX];
	const char *near = NULL;
	size_t n = 0;

	if (lua_type(L, 2) != LUA_TSTRING)
		return 0;
	lua_settop(L, 2);
	lua_pushnil(L);
	while (n < NAMES_MAX && lua_next(L, lua_upvalueindex(1))) {
		lua_pop(L, 1);
		if (lua_type(L, -1) == LUA_TSTRING)
			names[n++] = lua_tostring(L, -1); /* kept alive by the table */
	}
	near = hp_nearest(lua_tostring(L, 2), names, n);
	if (near)
		return luaL_error(L, "unknown name \"%s\", did you mean \"%s\"?", lua_tostring(L, 2), near);
	return luaL_error(L, "unknown name \"%s\"", lua_tostring(L, 2));
}

static int no_globals(lua_State *L)
{
	if (lua_type(L, 2) == LUA_TSTRING)
		return luaL_error(L, "\"%s\" would be global: write `local %s = …`", lua_tostring(L, 2),
				  lua_tostring(L, 2));
	return luaL_error(L, "_ENV cannot be changed");
}

static void push_env(lua_State *L)
{
	lua_newtable(L);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_LUA_ALLOWED);
	lua_pushnil(L);
	while (lua_next(L, -2)) {
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, -5);
	}
	lua_pop(L, 1);
	lua_newtable(L);
	lua_pushvalue(L, -2);
	lua_pushcclosure(L, unknown_name, 1);
	lua_setfield(L, -2, "__index");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
}

/* Replaces the _ENV on the top by an empty view of it, for one chunk. */
static void push_view(lua_State *L)
{
	lua_newtable(L);
	lua_newtable(L);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, no_globals);
	lua_setfield(L, -2, "__newindex");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_setmetatable(L, -2);
	lua_remove(L, -2);
}

static void env_in_lua(lua_State *L, void *arg)
{
	push_env(L);
	*(int *)arg = luaL_ref(L, LUA_REGISTRYINDEX);
}

int hp_sandbox_env(struct hp_sandbox *s, struct hp_error *err)
{
	int ref = LUA_NOREF;

	if (hp_sandbox_run(s, env_in_lua, &ref, err) < 0)
		return LUA_NOREF;
	return ref;
}

struct load {
	const char *file, *src;
	size_t n;
	int env_ref, ref;
};

static void load_in_lua(lua_State *L, void *arg)
{
	struct load *l = arg;
	const char *chunk = lua_pushfstring(L, "@%s", l->file);
	int status = luaL_loadbufferx(L, l->src, l->n, chunk, "t");

	if (status == LUA_ERRMEM)
		hp_sandbox_caught(L, status);
	if (status != LUA_OK)
		lua_error(L);
	if (l->env_ref == LUA_NOREF)
		push_env(L);
	else
		lua_rawgeti(L, LUA_REGISTRYINDEX, l->env_ref);
	push_view(L);
	lua_setupvalue(L, -2, 1);
	hp_sandbox_call(L, 0, 1);
	l->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

int hp_sandbox_load(struct hp_sandbox *s, const char *file, const char *src, size_t n, int env_ref,
		    int *ref, struct hp_error *err)
{
	struct load l = {file, src, n, env_ref, LUA_NOREF};

	if (n > HP_SOURCE_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "%s: %zu bytes; a source file may have %d", file, n,
			       HP_SOURCE_MAX);
	if (hp_sandbox_run(s, load_in_lua, &l, err) < 0)
		return -1;
	*ref = l.ref;
	return 0;
}
