/* input.c: what is asked of a workflow before there is a run: its key, and whether an
 * input is as declared. */
#include <string.h>
#include "script/internal.h"


static void key_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const char *s;
	size_t n;

	luaL_checkstack(L, 20, NULL);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_WORKFLOW);
	lua_getfield(L, -1, "body");
	lua_getfield(L, -1, "key");
	hp_expr(L, j, -1, "key");
	if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
		luaL_error(L, "%s:%d: key must be a text, not a %s", j->w->def.file, j->w->line, luaL_typename(L, -1));
	s = lua_tolstring(L, -1, &n);
	if (n == 0 || n > HP_KEY_MAX)
		luaL_error(L, "%s:%d: key must have from 1 to %d bytes", j->w->def.file, j->w->line, HP_KEY_MAX);
	hp_buf_add(&j->text, s, n);
}

int hp_workflow_key(struct hp_workflow *w, struct hp_bytes input, struct hp_buf *out, struct hp_error *err)
{
	struct hp_run_data data = {.input = input};
	struct hp_job j;
	int rc;

	if (!w->def.has_key)
		return 0;
	if (hp_workflow_ready(w, err) < 0)
		return -1;
	hp_job_init(&j, w);
	j.data = &data;
	rc = hp_vm_run(&w->vm, key_expression, &j, err);
	if (rc == 0)
		rc = hp_eval_check_text(&j.text, "the run's key", err);
	if (rc == 0) {
		hp_buf_add(out, j.text.p, j.text.n);
		rc = hp_buf_check(out, "the key", err);
	}
	hp_job_free(&j);
	return rc;
}

int hp_workflow_check_input(struct hp_workflow *w, struct hp_bytes input, struct hp_error *err)
{
	json_t *v;
	int rc;

	if (!w->input)
		return 0;
	v = hp_json_parse(input.p, input.n, "input", err);
	if (!v)
		return -1;
	rc = hp_schema_check(w->input, v, "input", err);
	json_decref(v);
	return rc;
}
