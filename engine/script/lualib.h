/* lualib.h: what sandbox.c, lualib.c, pattern's users and value.c share.
 * Private to script/'s sandbox; everybody else includes sandbox.h. (testing/ calls
 * functions of a script below C code that must not be jumped over, and so needs
 * hp_sandbox_stopped() and hp_sandbox_caught() as well.)
 */
#ifndef HP_SCRIPT_LUALIB_H
#define HP_SCRIPT_LUALIB_H

#include <lua.h>
#include <stdbool.h>
#include "base/error.h"

/* Registry keys (strings). */
#define HP_LUA_ALLOWED "hp.allowed" /* name → value: what every _ENV begins with */
#define HP_LUA_ARRAY "hp.array"     /* metatable that marks a table as a JSON array */
#define HP_LUA_SECRET "hp.secret"   /* metatable of secret(…): its __json says what it is in JSON */
#define HP_LUA_SECRET_TEXT "hp.secret_text" /* the same of a text that secret(…) was joined to */
#define HP_LUA_OWNED "hp.owned"     /* metatable of boxes that own a json_t */

/* Looks at the clock; does not return when the time is up. Every library function
 * whose cost grows with its input calls it, because C code ignores hooks. */
void hp_sandbox_tick(lua_State *L);
/* The present call was stopped: whatever is raised now is only its echo. */
bool hp_sandbox_stopped(lua_State *L);
/* Shows errors of stopped code through pcall: status is what lua_pcall said, the
 * error on the top. Does not return when the error may not be caught. */
void hp_sandbox_caught(lua_State *L, int status);

/* Builds the allow-list in the registry. May raise. */
void hp_lualib_open(lua_State *L);
/* The parts of it, each leaves one table (or fills the one on the top). */
void hp_lualib_string(lua_State *L); /* strlib.c: the table on the top is completed */
void hp_lualib_json(lua_State *L);   /* value.c: pushes the library */
/* Replaces the table on the top by a read-only view of it. */
void hp_lualib_read_only(lua_State *L, const char *name);

/* Raises err's message as a Lua error. */
int hp_lua_raise(lua_State *L, const struct hp_error *err);

#endif
