/* eval_children.c: what run and each ask: a page of children for the store, the
 * cursor of the next one, and what is saved when all is decided. */
#include <inttypes.h>
#include <string.h>
#include "script/internal.h"

/* ---- one child ---- */

/* Its key into text2 (empty: none), its input into text. */
static void child_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const char *s;
	size_t n;

	hp_job_push_field(L, j, "key");
	if (!lua_isnil(L, -1)) {
		hp_expr(L, j, -1, "key");
		if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
			hp_job_fail(L, j, "key", lua_pushfstring(L, "must be a text, not a %s", luaL_typename(L, -1)));
		s = lua_tolstring(L, -1, &n);
		if (n == 0 || n > HP_KEY_MAX)
			hp_job_fail(L, j, "key", lua_pushfstring(L, "must have from 1 to %d bytes", HP_KEY_MAX));
		hp_buf_add(&j->text2, s, n);
	}
	hp_job_push_field(L, j, "input");
	if (!lua_isnil(L, -1))
		hp_expr(L, j, -1, "input");
	else if (j->item)
		hp_lua_push_json(L, j->item);
	else
		lua_newtable(L);
	if (!lua_istable(L, -1))
		hp_job_fail(L, j, "input", lua_pushfstring(L, "must be a table, not a %s", luaL_typename(L, -1)));
	hp_lua_write_json(L, -1, &j->text);
}

static int child(struct hp_job *j, struct hp_buf *out, const char **code, struct hp_error *err)
{
	hp_buf_clear(&j->text);
	hp_buf_clear(&j->text2);
	if (hp_vm_run(j->vm, child_expression, j, err) < 0)
		return -1;
	*code = "key_invalid";
	if (j->text2.n && hp_eval_check_text(&j->text2, "the child's key", err) < 0)
		return -1;
	*code = "too_large";
	if (hp_buf_check(&j->text, "the child's input", err) < 0)
		return -1;
	if (j->text.n > HP_INPUT_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "state \"%s\": the input of a child is larger than %d bytes",
			       hp_job_state(j)->name, HP_INPUT_MAX);
	*code = "script_error";
	hp_buf_addc(out, '{');
	if (j->text2.n) {
		hp_buf_adds(out, "\"key\":");
		hp_buf_json(out, j->text2.p, j->text2.n);
		hp_buf_addc(out, ',');
	}
	hp_buf_adds(out, "\"input\":");
	/* a table without members is an object here */
	if (j->text.n == 2 && j->text.p[0] == '[')
		hp_buf_adds(out, "{}");
	else
		hp_buf_add(out, j->text.p, j->text.n);
	hp_buf_addc(out, '}');
	return 0;
}

/* ---- the items ---- */

static void items_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	hp_job_push_field(L, j, "items");
	hp_expr(L, j, -1, "items");
	if (!lua_istable(L, -1))
		hp_job_fail(L, j, "items", lua_pushfstring(L, "must be a list, not a %s", luaL_typename(L, -1)));
	hp_lua_write_json(L, -1, &j->text);
}

/* The whole list, or the rows of a page. Owner: caller. */
static json_t *items_of(struct hp_job *j, const struct hp_action *act, struct hp_error *err)
{
	bool pages = hp_job_state(j)->children.pages;
	json_t *v;

	hp_buf_clear(&j->text);
	if (!pages && (hp_vm_run(j->vm, items_expression, j, err) < 0 || hp_buf_check(&j->text, "items", err) < 0))
		return NULL;
	v = pages ? hp_json_parse(act->value.p, act->value.n, "the rows", err)
		  : hp_json_parse(j->text.p, j->text.n, "items", err);
	if (json_is_object(v) && json_object_size(v) == 0) { /* an empty table of Lua */
		json_decref(v);
		v = json_array();
	}
	if (v && !json_is_array(v)) {
		hp_fail(err, HP_E_INVALID, "state \"%s\": items must be a list", hp_job_state(j)->name);
		json_decref(v);
		v = NULL;
	}
	return v;
}

/* Children from items[first] on, as many as a page holds. *next: the first that is not in. */
static int add_items(struct hp_job *j, const json_t *items, size_t first, int64_t known, struct hp_buf *out,
		     size_t *next, const char **code, struct hp_error *err)
{
	size_t n = json_array_size(items), begin = out->n, i;
	int rc = 0;

	for (i = first; i < n && i - first < HP_CHILDREN_PAGE && out->n - begin < HP_CHILDREN_PAGE_BYTES; i++) {
		if (i > first)
			hp_buf_addc(out, ',');
		j->item = json_array_get(items, i);
		j->item_index = known + (int64_t)(i - first) + 1;
		rc = child(j, out, code, err);
		j->item = NULL;
		if (rc < 0)
			return -1;
	}
	*next = i;
	return 0;
}

/* The cursor after the last row that is in; it must move on. */
static int add_cursor(struct hp_job *j, const json_t *rows, size_t next, struct hp_buf *out, struct hp_error *err)
{
	const char *column = hp_job_state(j)->children.cursor;
	const json_t *v = next ? json_object_get(json_array_get(rows, next - 1), column) : NULL;

	if (next == 0)
		return hp_buf_adds(out, ",\"cursor\":null");
	if (!json_is_string(v) && !json_is_integer(v))
		return hp_fail(err, HP_E_INVALID, "state \"%s\": cursor: the rows have no column \"%s\" that is a text or a whole number",
			       hp_job_state(j)->name, column);
	hp_buf_adds(out, ",\"cursor\":");
	return hp_json_write(out, v, err);
}

static int add_page(struct hp_job *j, const struct hp_action *act, struct hp_buf *out, const char **code,
		    struct hp_error *err)
{
	bool pages = hp_job_state(j)->children.pages;
	size_t known = (size_t)act->index, next = known, n;
	json_t *items = items_of(j, act, err);
	int rc;

	if (!items)
		return -1;
	n = json_array_size(items);
	rc = add_items(j, items, pages ? 0 : known, act->index, out, &next, code, err);
	hp_buf_addc(out, ']');
	if (rc == 0 && pages)
		rc = add_cursor(j, items, next, out, err);
	/* only an empty page is surely the last one: the author's limit may be smaller than ours */
	hp_buf_printf(out, ",\"end\":%s}", next < n || (pages && n > 0) ? "false" : "true");
	json_decref(items);
	return rc;
}

int hp_eval_children(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		     const char **code, struct hp_error *err)
{
	const struct hp_state *s = hp_job_state(j);
	bool further = act->pending && act->pending->after.phase == HP_PH_JOINING;
	struct hp_buf *out = a->out;
	int rc;

	(void)ev;
	hp_buf_printf(out,
		      "{\"op\":\"%s\",\"workflow\":\"%s\",\"single\":%s,\"need\":%" PRId64 ",\"tolerate\":%" PRId64
		      ",\"percent\":%d,\"concurrency\":%d,\"children\":[",
		      further ? "page" : "open", s->children.workflow, s->kind == HP_RUN ? "true" : "false",
		      s->children.need, s->children.tolerate, s->children.percent, s->children.concurrency);
	if (s->kind == HP_RUN) {
		rc = child(j, out, code, err);
		hp_buf_adds(out, "],\"end\":true}");
	} else {
		rc = add_page(j, act, out, code, err);
	}
	a->value_n = out->n;
	return rc;
}

/* ---- pages of rows ---- */

static void from_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	hp_job_push_field(L, j, "from");
	if (lua_isnil(L, -1)) {
		hp_buf_addc(&j->text2, '0');
		return;
	}
	hp_expr(L, j, -1, "from");
	if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
		hp_job_fail(L, j, "from", lua_pushfstring(L, "must be a text or a whole number, not a %s", luaL_typename(L, -1)));
	hp_lua_write_json(L, -1, &j->text2);
}

int hp_eval_page(struct hp_job *j, struct hp_buf *out, struct hp_error *err)
{
	json_t *found = hp_annex_found(j->annex, "children", err);
	const json_t *cursor = json_object_get(found, "cursor");
	struct hp_buf user = j->text2; /* of args */
	int rc;

	if (cursor && !json_is_null(cursor)) {
		rc = hp_json_write(out, cursor, err);
	} else {
		hp_buf_init(&j->text2, HP_VALUE_MAX);
		rc = hp_vm_run(j->vm, from_expression, j, err);
		hp_buf_add(out, j->text2.p, j->text2.n);
		hp_buf_free(&j->text2);
		j->text2 = user;
	}
	/* the author's own follow, if there are any */
	hp_buf_printf(out, j->text.n > 2 ? ",%d," : ",%d", HP_CHILDREN_PAGE);
	json_decref(found);
	return rc;
}

/* ---- the value to save ---- */

int hp_eval_joined(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		   const char **code, struct hp_error *err)
{
	static const char *const names[] = {"total", "succeeded", "failed", "cancelled", "items"};
	json_t *found = hp_json_parse(act->value.p, act->value.n, "annex", err);
	const json_t *f = json_object_get(found, "children"), *result = json_object_get(f, "result");
	json_t *v;
	int rc;

	(void)ev;
	(void)code;
	if (!found)
		return -1;
	if (hp_job_state(j)->kind == HP_RUN) {
		rc = hp_json_write(a->out, result ? result : json_null(), err);
	} else {
		v = json_object();
		for (size_t i = 0; i < sizeof names / sizeof *names; i++)
			json_object_set(v, names[i], json_object_get(f, names[i]));
		rc = hp_json_write(a->out, v, err);
		json_decref(v);
	}
	json_decref(found);
	a->value_n = a->out->n;
	return rc;
}
