/* fields.c: reading an author's tables strictly.
 *
 * Everything here runs inside the sandbox and raises Lua errors; the reader knows
 * file, line and what is being read, so every sentence begins with them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/words.h"
#include "script/internal.h"
#include "script/lualib.h"

void hp_r_fail(const struct hp_reader *r, const char *fmt, ...)
{
	const char *text;
	va_list ap;

	va_start(ap, fmt);
	text = lua_pushvfstring(r->L, fmt, ap);
	va_end(ap);
	if (r->what)
		lua_pushfstring(r->L, "%s:%d: %s: %s", r->file, r->line, r->what, text);
	else
		lua_pushfstring(r->L, "%s:%d: %s", r->file, r->line, text);
	lua_error(r->L);
	abort(); /* lua_error does not return */
}

/* What has been made in the arena, unless there was no room. */
static void *made(const struct hp_reader *r, void *p)
{
	if (!p)
		hp_r_fail(r, "the definition is too large, or no memory is left");
	return p;
}

void *hp_r_alloc(const struct hp_reader *r, size_t n)
{
	return made(r, hp_arena_alloc(r->a, n ? n : 1));
}

const char *hp_r_printf(const struct hp_reader *r, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	text = hp_arena_vprintf(r->a, fmt, ap);
	va_end(ap);
	return made(r, text);
}

const char *hp_r_json(const struct hp_reader *r, json_t *v, size_t max, struct hp_error *err)
{
	const char *kept = NULL;
	struct hp_buf text;

	hp_buf_init(&text, max);
	if (hp_json_write(&text, v, err) == 0) {
		kept = hp_arena_strndup(r->a, hp_buf_str(&text), text.n);
		if (!kept)
			hp_fail(err, HP_E_NOMEM, "no memory left");
	}
	hp_buf_free(&text);
	json_decref(v);
	return kept;
}

const char *hp_r_dup(const struct hp_reader *r, const char *s)
{
	size_t n = strlen(s);
	char *copy = hp_r_alloc(r, n + 1);

	memcpy(copy, s, n);
	return copy;
}

const char *hp_r_hint(const struct hp_reader *r, const char *word, const char *const *list, int n)
{
	const char *near = hp_nearest(word, list, (size_t)n);

	return near ? lua_pushfstring(r->L, ", did you mean \"%s\"?", near) : "";
}

bool hp_mark(lua_State *L, int index, const char *mark)
{
	if (!lua_istable(L, index))
		return false;
	index = lua_absindex(L, index);
	lua_pushstring(L, mark);
	if (lua_rawget(L, index) != LUA_TNIL)
		return true;
	lua_pop(L, 1);
	return false;
}

static bool listed(const char *word, const char *const *list, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (strcmp(word, list[i]) == 0)
			return true;
	return false;
}

void hp_r_only(const struct hp_reader *r, int table, const char *const *allowed, int n, int max_index)
{
	lua_State *L = r->L;

	table = lua_absindex(L, table);
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
		if (lua_type(L, -2) == LUA_TSTRING) {
			const char *key = lua_tostring(L, -2);

			if (!listed(key, allowed, n))
				hp_r_fail(r, "unknown field \"%s\"%s", key, hp_r_hint(r, key, allowed, n));
		} else if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 1) {
			hp_r_fail(r, "fields have names; this one is a %s", luaL_typename(L, -2));
		} else if (lua_tointeger(L, -2) > max_index) {
			hp_r_fail(r, "entry %I has no field name", (LUAI_UACINT)lua_tointeger(L, -2));
		}
	}
}

bool hp_r_get(const struct hp_reader *r, int table, const char *field)
{
	table = lua_absindex(r->L, table);
	lua_pushstring(r->L, field);
	if (lua_rawget(r->L, table) != LUA_TNIL)
		return true;
	lua_pop(r->L, 1);
	return false;
}

const char *hp_r_string(const struct hp_reader *r, int table, const char *field)
{
	const char *s;

	if (!hp_r_get(r, table, field))
		return NULL;
	if (lua_type(r->L, -1) != LUA_TSTRING)
		hp_r_fail(r, "%s must be text, not a %s", field, luaL_typename(r->L, -1));
	s = lua_tostring(r->L, -1);
	if (strlen(s) != lua_rawlen(r->L, -1))
		hp_r_fail(r, "%s contains a zero byte", field);
	s = hp_r_dup(r, s);
	lua_pop(r->L, 1);
	return s;
}

const char *hp_r_need(const struct hp_reader *r, int table, const char *field)
{
	const char *s = hp_r_string(r, table, field);

	if (!s)
		hp_r_fail(r, "%s is missing", field);
	return s;
}

bool hp_r_bool(const struct hp_reader *r, int table, const char *field)
{
	bool v;

	if (!hp_r_get(r, table, field))
		return false;
	if (!lua_isboolean(r->L, -1))
		hp_r_fail(r, "%s must be true or false, not a %s", field, luaL_typename(r->L, -1));
	v = lua_toboolean(r->L, -1);
	lua_pop(r->L, 1);
	return v;
}

int64_t hp_r_duration(const struct hp_reader *r, int table, const char *field, int64_t fallback)
{
	const char *s = hp_r_string(r, table, field);
	struct hp_error err = {0};
	int64_t us;

	if (!s)
		return fallback;
	if (hp_duration_parse(s, &us, &err) < 0)
		hp_r_fail(r, "%s: %s; %s", field, err.message, err.hint);
	if (us > HP_DURATION_MAX)
		hp_r_fail(r, "%s: \"%s\" is longer than ten years", field, s);
	return us;
}

int64_t hp_r_integer(const struct hp_reader *r, int table, const char *field, int64_t fallback, int64_t min,
		     int64_t max)
{
	int64_t v;

	if (!hp_r_get(r, table, field))
		return fallback;
	if (!lua_isinteger(r->L, -1))
		hp_r_fail(r, "%s must be a whole number", field);
	v = lua_tointeger(r->L, -1);
	lua_pop(r->L, 1);
	if (v < min || v > max)
		hp_r_fail(r, "%s must be from %I to %I", field, (LUAI_UACINT)min, (LUAI_UACINT)max);
	return v;
}

/* Names of things outside: short, one line, printable. */
static const char *list_entry(const struct hp_reader *r, const char *field)
{
	size_t n, i;
	const char *s = lua_tolstring(r->L, -1, &n);

	if (n == 0 || n > HP_LIST_TEXT_MAX)
		hp_r_fail(r, "%s: a text must have from 1 to %d bytes", field, HP_LIST_TEXT_MAX);
	for (i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 127)
			hp_r_fail(r, "%s: a text contains a control character", field);
	return hp_r_dup(r, s);
}

int hp_r_list(const struct hp_reader *r, int table, const char *field, bool single, int max, const char ***out)
{
	lua_State *L = r->L;
	int n, i;

	*out = NULL;
	if (!hp_r_get(r, table, field))
		return 0;
	if (single && lua_type(L, -1) == LUA_TSTRING) {
		*out = hp_r_alloc(r, sizeof **out);
		(*out)[0] = list_entry(r, field);
		lua_pop(L, 1);
		return 1;
	}
	if (!lua_istable(L, -1))
		hp_r_fail(r, "%s must be a list of texts, not a %s", field, luaL_typename(L, -1));
	if (lua_rawlen(L, -1) > (size_t)max)
		hp_r_fail(r, "%s has more than %d entries", field, max);
	n = (int)lua_rawlen(L, -1);
	hp_r_only(r, -1, NULL, 0, n);
	*out = hp_r_alloc(r, sizeof **out * (size_t)(n ? n : 1));
	for (i = 0; i < n; i++) {
		if (lua_rawgeti(L, -1, i + 1) != LUA_TSTRING)
			hp_r_fail(r, "%s: entry %d must be text, not a %s", field, i + 1, luaL_typename(L, -1));
		(*out)[i] = list_entry(r, field);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return n;
}

void hp_r_function(const struct hp_reader *r, int table, const char *field, bool *present)
{
	*present = hp_r_get(r, table, field);
	if (!*present)
		return;
	if (!lua_isfunction(r->L, -1))
		hp_r_fail(r, "%s must be a function, not a %s", field, luaL_typename(r->L, -1));
	lua_pop(r->L, 1);
}

static int compare(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

int hp_r_keys(const struct hp_reader *r, int table, const char *field, int max, const char ***out)
{
	lua_State *L = r->L;
	int n = 0;

	table = lua_absindex(L, table);
	*out = hp_r_alloc(r, sizeof **out * (size_t)max);
	for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			hp_r_fail(r, "%s: every entry needs a name", field);
		if (n == max)
			hp_r_fail(r, "%s has more than %d entries", field, max);
		(*out)[n++] = hp_r_dup(r, lua_tostring(L, -2));
	}
	qsort(*out, (size_t)n, sizeof **out, compare);
	return n;
}

/* The first member of a path must be something a run can have. */
static void check_path(const struct hp_reader *r, const char *field, const struct hp_part *part)
{
	static const char *const own[] = {"id", "key", "now"};
	const char *path = lua_pushlstring(r->L, part->p, part->n);
	size_t n = strcspn(path, ".");
	const char *root = lua_pushlstring(r->L, path, n);
	bool of_run = false;

	if (!r->known)
		return;
	if (strcmp(root, "run") == 0) {
		if (path[n] == '\0')
			hp_r_fail(r, "%s: {run} as a whole has no value; name a part of it, like {run.id}", field);
		path += n + 1;
		root = lua_pushlstring(r->L, path, strcspn(path, "."));
		of_run = true;
	}
	if (of_run && !r->before_start && listed(root, own, 3))
		return;
	if (of_run && listed(root, own, 3))
		hp_r_fail(r, "%s: there is no run.%s before the run has started", field, root);
	if (listed(root, r->known->list, r->known->n))
		return;
	hp_r_fail(r, "%s: nothing is saved as \"%s\"%s", field, root,
		  hp_r_hint(r, root, r->known->list, r->known->n));
}

static void check_template(const struct hp_reader *r, int index, const char *field)
{
	const char *s = lua_tostring(r->L, index), *why = NULL;
	struct hp_part part;
	int got;

	if (strlen(s) != lua_rawlen(r->L, index))
		hp_r_fail(r, "%s contains a zero byte", field);
	luaL_checkstack(r->L, 8, NULL);
	while ((got = hp_template_next(&s, &part, &why)) == 1)
		if (part.path) {
			int top = lua_gettop(r->L);

			check_path(r, field, &part);
			lua_settop(r->L, top);
		}
	if (got < 0)
		hp_r_fail(r, "%s: %s", field, why);
}

static void check_table(const struct hp_reader *r, int index, const char *field, int depth);

static void check_value(const struct hp_reader *r, int index, const char *field, int depth)
{
	lua_State *L = r->L;

	switch (lua_type(L, index)) {
	case LUA_TSTRING:
		check_template(r, index, field);
		return;
	case LUA_TNUMBER:
	case LUA_TBOOLEAN:
	case LUA_TFUNCTION:
	case LUA_TLIGHTUSERDATA: /* json.null */
		return;
	case LUA_TTABLE:
		check_table(r, index, field, depth);
		return;
	default:
		hp_r_fail(r, "%s: a %s is not an expression", field, luaL_typename(L, index));
	}
}

static void check_table(const struct hp_reader *r, int index, const char *field, int depth)
{
	lua_State *L = r->L;

	if (depth > HP_JSON_DEPTH_MAX)
		hp_r_fail(r, "%s is nested deeper than %d tables", field, HP_JSON_DEPTH_MAX);
	luaL_checkstack(L, 8, NULL);
	hp_sandbox_tick(L); /* a table that holds itself twice would take for ever */
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		const char *name = field;

		if (lua_type(L, -2) == LUA_TSTRING)
			name = hp_r_printf(r, "%s.%s", field, lua_tostring(L, -2));
		else if (lua_isinteger(L, -2))
			name = hp_r_printf(r, "%s[%d]", field, (int)lua_tointeger(L, -2));
		check_value(r, lua_gettop(L), name, depth + 1);
	}
}

void hp_r_expression(const struct hp_reader *r, int index, const char *field)
{
	check_value(r, lua_absindex(r->L, index), field, 0);
}

bool hp_r_expression_of(const struct hp_reader *r, int table, const char *field)
{
	if (!hp_r_get(r, table, field))
		return false;
	hp_r_expression(r, -1, field);
	lua_pop(r->L, 1);
	return true;
}

int hp_percent_parse(const char *s)
{
	size_t n = strspn(s, "0123456789");
	int v = 0;

	if (n < 1 || n > 3 || strcmp(s + n, "%") != 0)
		return -1;
	for (; *s != '%'; s++)
		v = v * 10 + (*s - '0');
	return v <= 100 ? v : -1;
}
