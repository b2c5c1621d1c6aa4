/* expr.c: expressions over a run's data.
 *
 * `run` is an empty table that looks everything up when it is asked: most
 * expressions need one or two values of a run, not all of them. What is not yet
 * committed (hp_action.pending) lies on top of what is. The data is pushed afresh
 * for each expression, so a function that writes into it changes nothing.
 */
#include <stdlib.h>
#include <string.h>
#include "script/internal.h"
#include "script/lualib.h"

void hp_job_init(struct hp_job *j, struct hp_workflow *w)
{
	memset(j, 0, sizeof *j);
	j->w = w;
	j->vm = &w->vm;
	j->state = HP_NO_STATE;
	hp_buf_init(&j->text, HP_RUN_DATA_MAX);
	hp_buf_init(&j->text2, HP_RUN_DATA_MAX);
}

void hp_job_free(struct hp_job *j)
{
	size_t i;

	json_decref(j->input);
	json_decref(j->saved);
	json_decref(j->row_json);
	for (i = 0; i < sizeof j->pending_json / sizeof *j->pending_json; i++)
		json_decref(j->pending_json[i]);
	hp_buf_free(&j->text);
	hp_buf_free(&j->text2);
}

static const json_t *parsed(lua_State *L, json_t **slot, struct hp_bytes text, const char *what)
{
	struct hp_error err = {0};

	if (!*slot && text.n) {
		*slot = hp_json_parse(text.p, text.n, what, &err);
		if (!*slot)
			luaL_error(L, "%s", err.message);
	}
	return *slot;
}

/* A value saved by the transition that is being built; NULL: none of that name. */
static const json_t *find_pending(lua_State *L, struct hp_job *j, const char *name)
{
	int i;

	for (i = j->pending ? j->pending->n_saves - 1 : -1; i >= 0; i--) {
		const struct hp_save *s = &j->pending->saves[i];
		const json_t *v;

		if (s->name && strcmp(s->name, name) != 0)
			continue;
		v = parsed(L, &j->pending_json[i], s->value, "a value to save");
		if (!s->name)
			v = json_object_get(v, name);
		if (v)
			return v;
	}
	return NULL;
}

/* Pushes run[name]; nil when there is no such value. */
static void push_member(lua_State *L, struct hp_job *j, const char *name)
{
	const struct hp_run_data *d = j->data;
	const json_t *v;

	if (j->item && strcmp(name, "item") == 0) {
		hp_lua_push_json(L, j->item);
	} else if (j->item && strcmp(name, "index") == 0) {
		lua_pushinteger(L, j->item_index);
	} else if (strcmp(name, "id") == 0 && d->id > 0) {
		lua_pushinteger(L, d->id);
	} else if (strcmp(name, "key") == 0 && d->id > 0) {
		lua_pushlstring(L, d->key.n ? d->key.p : "", d->key.n);
	} else if (strcmp(name, "now") == 0 && d->id > 0) {
		lua_pushinteger(L, d->now);
	} else {
		if (strcmp(name, "input") == 0)
			v = parsed(L, &j->input, d->input, "the run's input");
		else if (j->row.n && strcmp(name, "row") == 0)
			v = parsed(L, &j->row_json, j->row, "the row");
		else if (!(v = find_pending(L, j, name)))
			v = json_object_get(parsed(L, &j->saved, d->saved, "the run's values"), name);
		if (v)
			hp_lua_push_json(L, v);
		else
			lua_pushnil(L);
	}
}

/* upvalues: serial of the job, cache */
static struct hp_job *job_of_run(lua_State *L)
{
	struct hp_vm *vm = hp_vm_of(L);

	if (!vm->job || vm->serial != lua_tointeger(L, lua_upvalueindex(1)))
		luaL_error(L, "this `run` belongs to an earlier evaluation; a function must not keep it");
	return vm->job;
}

static int run_index(lua_State *L)
{
	struct hp_job *j = job_of_run(L);

	if (lua_type(L, 2) != LUA_TSTRING)
		return 0;
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(2)) != LUA_TNIL)
		return 1;
	lua_pop(L, 1);
	push_member(L, j, lua_tostring(L, 2));
	lua_pushvalue(L, 2);
	lua_pushvalue(L, -2);
	lua_rawset(L, lua_upvalueindex(2));
	return 1;
}

static int run_newindex(lua_State *L)
{
	return luaL_error(L, "run is read-only; save a value with `save` or `set`");
}

static void put_member(lua_State *L, struct hp_job *j, int table, const char *name)
{
	push_member(L, j, name);
	lua_setfield(L, table, name);
}

/* pairs(run) walks over this (lualib.c): everything, in a table. */
static int run_pairs(lua_State *L)
{
	static const char *const own[] = {"id", "key", "now", "input"};
	struct hp_job *j = job_of_run(L);
	json_t *saved = (json_t *)(uintptr_t)parsed(L, &j->saved, j->data->saved, "the run's values");
	void *it;
	int all, i, n = j->pending ? j->pending->n_saves : 0;
	size_t k;

	lua_newtable(L);
	all = lua_gettop(L);
	for (k = 0; k < sizeof own / sizeof *own; k++)
		put_member(L, j, all, own[k]);
	if (j->item) {
		put_member(L, j, all, "item");
		put_member(L, j, all, "index");
	}
	if (j->row.n)
		put_member(L, j, all, "row");
	for (it = json_object_iter(saved); it; it = json_object_iter_next(saved, it))
		put_member(L, j, all, json_object_iter_key(it));
	for (i = 0; i < n; i++) {
		json_t *o = (json_t *)(uintptr_t)parsed(L, &j->pending_json[i], j->pending->saves[i].value,
							 "a value to save");

		if (j->pending->saves[i].name)
			put_member(L, j, all, j->pending->saves[i].name);
		else
			for (it = json_object_iter(o); it; it = json_object_iter_next(o, it))
				put_member(L, j, all, json_object_iter_key(it));
	}
	return 1;
}

void hp_expr_push_run(lua_State *L, struct hp_job *j)
{
	luaL_checkstack(L, 8, NULL);
	lua_newtable(L);
	lua_newtable(L);
	lua_pushinteger(L, j->vm->serial);
	lua_newtable(L);
	lua_pushcclosure(L, run_index, 2);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, run_newindex);
	lua_setfield(L, -2, "__newindex");
	lua_pushinteger(L, j->vm->serial);
	lua_pushcclosure(L, run_pairs, 1);
	lua_setfield(L, -2, "__pairs");
	lua_setmetatable(L, -2);
}

/* Raises "file:line: state "x", field: …". */
static void fail(lua_State *L, const struct hp_job *j, const char *field, const char *text)
{
	const struct hp_definition *d = &j->w->def;

	if (j->state == HP_NO_STATE)
		luaL_error(L, "%s:%d: %s: %s", d->file, j->w->line, field, text);
	luaL_error(L, "%s:%d: state \"%s\": %s: %s", d->file, d->states[j->state].line, d->states[j->state].name,
		   field, text);
}

/* Pushes the value at a path; the member of an array is named by its number. */
static void push_path(lua_State *L, struct hp_job *j, const struct hp_part *part, const char *field)
{
	const char *p = part->p, *end = part->p + part->n;

	hp_expr_push_run(L, j);
	if (part->n > 4 && strncmp(p, "run.", 4) == 0)
		p += 4;
	while (p < end) {
		const char *dot = memchr(p, '.', (size_t)(end - p));
		size_t n = (size_t)((dot ? dot : end) - p);

		lua_pushlstring(L, p, n);
		if (!lua_istable(L, -2)) {
			lua_pushnil(L);
		} else if (lua_rawlen(L, -2) > 0 && lua_stringtonumber(L, lua_tostring(L, -1))) {
			lua_gettable(L, -3);
		} else {
			lua_pushvalue(L, -1);
			lua_gettable(L, -3);
		}
		lua_replace(L, -3);
		lua_pop(L, 1);
		p += n + 1;
	}
	if (lua_isnil(L, -1)) {
		const char *path = lua_pushlstring(L, part->p, part->n);

		fail(L, j, field, lua_pushfstring(L, "this run has no {%s}", path));
	}
}

/* Pushes the text of the value on top of the stack, instead of it. */
static void to_text(lua_State *L, struct hp_job *j, const struct hp_part *part, const char *field)
{
	int type = lua_type(L, -1);

	if (type == LUA_TSTRING)
		return;
	if (type == LUA_TBOOLEAN) {
		lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
		lua_replace(L, -2);
		return;
	}
	if (type == LUA_TNUMBER) {
		lua_tolstring(L, -1, NULL); /* in place */
		return;
	}
	lua_pushlstring(L, part->p, part->n);
	fail(L, j, field,
	     lua_pushfstring(L, "{%s} is %s and cannot be part of a text", lua_tostring(L, -1),
			     type == LUA_TTABLE ? "a table" : "null"));
}

static void template_value(lua_State *L, struct hp_job *j, int index, const char *field)
{
	const char *s = lua_tostring(L, index), *why = "";
	struct hp_part part;
	luaL_Buffer b;
	int got;

	if (!strpbrk(s, "{}")) {
		lua_pushvalue(L, index);
		return;
	}
	if (hp_template_single(s, &part)) {
		push_path(L, j, &part, field);
		return;
	}
	luaL_buffinit(L, &b);
	while ((got = hp_template_next(&s, &part, &why)) == 1) {
		if (!part.path) {
			luaL_addlstring(&b, part.p, part.n);
			continue;
		}
		push_path(L, j, &part, field);
		to_text(L, j, &part, field);
		luaL_addvalue(&b);
	}
	if (got < 0) /* strings are checked while loading, so it was made by a function */
		fail(L, j, field, why);
	luaL_pushresult(&b);
}

static void table_value(lua_State *L, struct hp_job *j, int index, const char *field, int depth);

static void value(lua_State *L, struct hp_job *j, int index, const char *field, int depth)
{
	luaL_checkstack(L, 12, NULL);
	switch (lua_type(L, index)) {
	case LUA_TSTRING:
		template_value(L, j, index, field);
		return;
	case LUA_TFUNCTION:
		lua_pushvalue(L, index);
		hp_expr_push_run(L, j);
		hp_sandbox_call(L, 1, 1);
		return;
	case LUA_TTABLE:
		table_value(L, j, index, field, depth);
		return;
	default:
		lua_pushvalue(L, index);
	}
}

static void table_value(lua_State *L, struct hp_job *j, int index, const char *field, int depth)
{
	int copy;

	if (depth > HP_JSON_DEPTH_MAX)
		fail(L, j, field, "nested too deeply");
	hp_sandbox_tick(L);
	lua_newtable(L);
	copy = lua_gettop(L);
	if (lua_getmetatable(L, index)) /* an array stays one */
		lua_setmetatable(L, copy);
	for (lua_pushnil(L); lua_next(L, index);) {
		int at = lua_gettop(L);

		lua_pushvalue(L, at - 1);
		value(L, j, at, field, depth + 1);
		/* a hole in a list would make it something else */
		if (lua_isnil(L, -1) && lua_isinteger(L, at - 1)) {
			hp_lua_push_json(L, json_null());
			lua_replace(L, -2);
		}
		lua_rawset(L, copy);
		lua_settop(L, at - 1);
	}
}

void hp_expr(lua_State *L, struct hp_job *j, int index, const char *field)
{
	value(L, j, lua_absindex(L, index), field, 0);
}

const struct hp_state *hp_job_state(const struct hp_job *j)
{
	return &j->w->def.states[j->state];
}

void hp_job_push_field(lua_State *L, const struct hp_job *j, const char *field)
{
	luaL_checkstack(L, 20, NULL);
	hp_push_state(L, j->state);
	lua_getfield(L, -1, field);
}

void hp_job_fail(lua_State *L, const struct hp_job *j, const char *field, const char *text)
{
	luaL_error(L, "%s:%d: state \"%s\": %s %s", j->w->def.file, hp_job_state(j)->line, hp_job_state(j)->name, field, text);
	abort(); /* luaL_error does not return */
}

static void field_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	hp_job_push_field(L, j, j->field);
	hp_expr(L, j, -1, j->field);
	hp_lua_write_json(L, -1, &j->text);
}

int hp_job_eval(struct hp_job *j, const char *field, struct hp_error *err)
{
	hp_buf_clear(&j->text);
	j->field = field;
	return hp_vm_run(j->vm, field_expression, j, err);
}

void hp_push_state(lua_State *L, int state)
{
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_STATES);
	lua_rawgeti(L, -1, state + 1);
	lua_remove(L, -2);
	HP_ASSERT(lua_istable(L, -1));
}

void hp_push_arm(lua_State *L, int state, const struct hp_arm *arm)
{
	hp_push_state(L, state);
	lua_getfield(L, -1, "on");
	lua_getfield(L, -1, arm->name);
	lua_replace(L, -3);
	lua_pop(L, 1);
	HP_ASSERT(lua_istable(L, -1));
}

void hp_keep_state(lua_State *L, int state, int body)
{
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_STATES);
	lua_pushvalue(L, body);
	lua_rawseti(L, -2, state + 1);
	lua_pop(L, 1);
}

void hp_push_operation_field(lua_State *L, const struct hp_op *op, const char *field)
{
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_CONNECTORS);
	lua_getfield(L, -1, op->pub.connector);
	lua_getfield(L, -1, "body");
	lua_getfield(L, -1, "operations");
	lua_getfield(L, -1, op->pub.name);
	lua_getfield(L, -1, field);
	lua_replace(L, -6);
	lua_pop(L, 4);
}
