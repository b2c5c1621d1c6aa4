/* sandbox.h: a Lua state that cannot reach out, run on or eat the machine.
 * For script/, and for testing/, whose test files run in one too.
 *
 *  - libraries by allow-list, read-only tables (proxy + protected metatable):
 *    base (assert, error, ipairs, next, pairs, pcall, xpcall, select, tonumber,
 *    tostring, type), math without random, string with our matcher and without
 *    dump/rep beyond HP_LUA_STRING_MAX, table, utf8, json (null, array, encode,
 *    decode); each chunk gets an _ENV of its own; text chunks only;
 *  - a count hook compares a monotonic clock with the deadline and yields; the
 *    coroutine is dropped (an error could be swallowed by pcall). Inside C
 *    callbacks (table.sort) that cannot yield, a sticky error is raised;
 *  - the allocator counts and refuses past the cap;
 *  - string.find/match/gmatch/gsub use pattern.c with a step budget;
 *  - after a kill by time or memory `dead` is set and the state must be thrown away.
 */
#ifndef HP_SCRIPT_SANDBOX_H
#define HP_SCRIPT_SANDBOX_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"

struct hp_sandbox;

struct hp_sandbox *hp_sandbox_new(size_t memory_max, struct hp_error *err);
void hp_sandbox_free(struct hp_sandbox *s);
lua_State *hp_sandbox_lua(struct hp_sandbox *s); /* main state: only inside protected functions */
bool hp_sandbox_dead(const struct hp_sandbox *s);
/* CPU time one run or load may take: HP_LUA_TIME_MAX unless said otherwise. */
void hp_sandbox_set_time(struct hp_sandbox *s, int64_t time_max_us);
size_t hp_sandbox_memory(const struct hp_sandbox *s);

/* Loads source (text only; chunk name "@file") with the table at registry
 * reference env_ref as its _ENV (LUA_NOREF: a fresh one that reads the allow-list),
 * runs it and stores its single result in the registry: *ref. Limited like a call.
 * Errors: HP_E_SCRIPT with "file:line: …". */
int hp_sandbox_load(struct hp_sandbox *s, const char *file, const char *src, size_t n, int env_ref,
		    int *ref, struct hp_error *err) HP_MUST_CHECK;

/* Runs a C function in a fresh coroutine under the limits: everything that
 * touches Lua (calls, pushes, conversions) happens inside fn, so no Lua error can
 * escape. fn(L, arg) may raise Lua errors and call Lua; it must not store L.
 * Lua is called inside fn with hp_sandbox_call(); when the time is up the
 * coroutine is abandoned (fn does not return), so fn keeps nothing that needs
 * freeing: it takes what it needs from arg's arena. Not to be nested. */
typedef void (*hp_sandbox_fn)(lua_State *L, void *arg);
int hp_sandbox_run(struct hp_sandbox *s, hp_sandbox_fn fn, void *arg, struct hp_error *err) HP_MUST_CHECK;
/* lua_call() for fn and for C functions of the sandbox: the hook may yield across
 * it, which is how an endless callback is stopped. (A plain lua_call works too, but
 * is stopped by a sticky error instead, which takes a little longer.) */
void hp_sandbox_call(lua_State *L, int n_args, int n_results);

/* New _ENV holding the allow-list, as a registry reference (negative: failed);
 * add constructors to it with lua_setfield inside hp_sandbox_run. Chunks see it
 * through a read-only view: setting a global is an error that says "write local",
 * reading an unknown name is one that offers the nearest right word. */
int hp_sandbox_env(struct hp_sandbox *s, struct hp_error *err);

/* JSON ↔ Lua, both inside hp_sandbox_run. Objects and arrays become tables;
 * null becomes the sentinel json.null; arrays carry a marker so that empty ones
 * survive; integers and reals keep their subtype. push: one value on the stack. */
void hp_lua_push_json(lua_State *L, const json_t *v);
/* Raises a Lua error on functions, cycles, mixed keys, NaN, depth. Owner: caller. */
json_t *hp_lua_to_json(lua_State *L, int index);
/* Appends canonical text (keys sorted); raises when too large. */
void hp_lua_write_json(lua_State *L, int index, struct hp_buf *b);

#endif
