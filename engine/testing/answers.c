/* answers.c: what the world will say: reply (operations) and sql (statements).
 *
 * Answers for the same target are given in the order in which they were declared,
 * each once; a function stays and is asked every time, and passes by giving nil.
 */
#include "testing/testing_private.h"

#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/words.h"

/* ---- declaring ---- */

struct names {
	const char *list[(HP_ARMS_MAX + 4) * HP_STATES_MAX]; /* undos are states, too, and each may have a probe */
	size_t n;
};

static bool has(const struct names *n, const char *name)
{
	for (size_t i = 0; i < n->n; i++)
		if (strcmp(n->list[i], name) == 0)
			return true;
	return false;
}

/* Refuses a target that the workflow does not have. */
static void known(lua_State *L, const struct names *n, const char *name, const char *what, const char *workflow)
{
	const char *near;

	if (has(n, name))
		return;
	near = hp_nearest(name, n->list, n->n);
	if (!near && n->n == 1)
		near = n->list[0];
	if (near)
		luaL_error(L, "workflow \"%s\" has no %s \"%s\", did you mean \"%s\"?", workflow, what, name, near);
	luaL_error(L, "workflow \"%s\" has no %s \"%s\"", workflow, what, name);
}

static void operation_names(lua_State *L, const struct hp_definition *d, struct names *n)
{
	n->n = 0;
	for (int i = 0; i < d->n_states + d->n_undos; i++) {
		const struct hp_state *s = &d->states[i];

		luaL_checkstack(L, 4 + HP_ARMS_MAX, NULL);
		for (int k = 0; k < s->n_arms; k++)
			if (s->arms[k].kind == HP_ARM_CHECK)
				n->list[n->n++] = lua_pushfstring(L, "%s.%s", s->arms[k].op.connector, s->arms[k].op.name);
		if (!hp_state_calls(s))
			continue;
		n->list[n->n++] = lua_pushfstring(L, "%s.%s", s->call.op.connector, s->call.op.name);
		if (s->call.has_probe)
			n->list[n->n++] = lua_pushfstring(L, "%s.%s", s->call.probe.connector, s->call.probe.name);
	}
}

static void statement_names(const struct hp_definition *d, struct names *n)
{
	n->n = 0;
	for (int i = 0; i < d->n_states + d->n_undos; i++)
		if (d->states[i].kind == HP_SQL || d->states[i].kind == HP_SWEEP ||
		    (d->states[i].kind == HP_EACH && d->states[i].children.pages))
			n->list[n->n++] = d->states[i].name;
}

/* The statement of that name, which is known. */
static enum hp_sql_mode mode_of(const struct hp_definition *d, const char *name)
{
	int i = 0;

	while (strcmp(d->states[i].name, name) != 0)
		i++;
	return d->states[i].sql.mode;
}

static void declare(lua_State *L, struct tester *t, const char *target, bool sql, int index)
{
	struct answer *a;

	if (t->n_answers == TEST_ANSWERS_MAX)
		luaL_error(L, "more than %d answers in one test: use a function", TEST_ANSWERS_MAX);
	a = &t->answers[t->n_answers];
	memset(a, 0, sizeof *a);
	(void)snprintf(a->target, sizeof a->target, "%s", target);
	a->sql = sql;
	a->line = hp_t_line(L);
	a->function = LUA_NOREF;
	if (lua_isfunction(L, index)) {
		lua_pushvalue(L, index);
		a->function = luaL_ref(L, LUA_REGISTRYINDEX);
	} else {
		a->value = hp_t_json(L, t, index);
	}
	t->n_answers++;
}

/* Codes that `catch` could never see would make a test prove nothing. */
static void check_code(lua_State *L, struct tester *t, const char *operation, const char *code)
{
	const char *const *codes;
	const char *near;
	int n = 0;

	codes = hp_workflow_errors(t->w, operation, &n);
	for (int i = 0; i < n; i++)
		if (strcmp(codes[i], code) == 0)
			return;
	if (n == 0)
		return;
	near = hp_nearest(code, codes, (size_t)n);
	if (near)
		luaL_error(L, "%s declares no error \"%s\", did you mean \"%s\"?", operation, code, near);
	luaL_error(L, "%s declares no error \"%s\": see `errors` in its connector", operation, code);
}

int hp_t_reply(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	const struct hp_definition *d = hp_workflow_definition(t->w);
	const char *operation = luaL_checkstring(L, 1);
	int n = lua_gettop(L);
	struct names names;

	if (n < 2)
		return luaL_error(L, "reply(\"%s\", …): at least one answer must follow", operation);
	operation_names(L, d, &names);
	known(L, &names, operation, "call of", d->workflow);
	for (int i = 2; i <= n; i++) {
		const char *code;

		declare(L, t, operation, false, i);
		code = hp_json_str(json_object_get(t->answers[t->n_answers - 1].value, "$failure"), "code");
		if (code)
			check_code(L, t, operation, code);
	}
	return 0;
}

/* What a value must be for a statement of that mode; NULL: it is. */
static const char *misfit(enum hp_sql_mode mode, const json_t *v)
{
	if (json_object_get(v, "$sql_error"))
		return NULL;
	if (mode == HP_SQL_ONE)
		return json_is_object(v) ? NULL : "a row (a table of columns) or none, because it is `one`";
	if (mode == HP_SQL_SWEEP)
		return json_is_array(v) || (json_is_object(v) && json_object_size(v) == 0)
			       ? NULL
			       : "a page (a list of rows), {} when there are no more, because it is a sweep";
	if (mode == HP_SQL_MANY)
		return json_is_array(v) || (json_is_object(v) && json_object_size(v) == 0)
			       ? NULL
			       : "a list of rows, because it is `many`";
	return json_is_integer(v) ? NULL : "the number of rows it changes, because it is `exec`";
}

int hp_t_sql(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	const struct hp_definition *d = hp_workflow_definition(t->w);
	const char *name = luaL_checkstring(L, 1), *must;
	int n = lua_gettop(L);
	struct names names;
	enum hp_sql_mode mode;

	if (n < 2)
		return luaL_error(L, "sql(\"%s\", …): at least one answer must follow", name);
	statement_names(d, &names);
	known(L, &names, name, "sql state", d->workflow);
	mode = mode_of(d, name);
	for (int i = 2; i <= n; i++) {
		declare(L, t, name, true, i);
		t->answers[t->n_answers - 1].sweep = mode == HP_SQL_SWEEP;
		must = t->answers[t->n_answers - 1].value ? misfit(mode, t->answers[t->n_answers - 1].value) : NULL;
		if (must)
			return luaL_error(L, "sql state \"%s\" answers %s", name, must);
	}
	return 0;
}

static void child_names(const struct hp_definition *d, struct names *n)
{
	n->n = 0;
	for (int i = 0; i < d->n_states; i++)
		if (d->states[i].kind == HP_RUN || d->states[i].kind == HP_EACH)
			n->list[n->n++] = d->states[i].children.workflow;
}

/* child("workflow", result | failure {…} | pending | function(child) … end, …) */
int hp_t_child(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	const struct hp_definition *d = hp_workflow_definition(t->w);
	const char *name = luaL_checkstring(L, 1);
	int n = lua_gettop(L);
	struct names names;

	if (n < 2)
		return luaL_error(L, "child(\"%s\", …): at least one answer must follow", name);
	child_names(d, &names);
	known(L, &names, name, "child", d->workflow);
	luaL_checkstack(L, 4, NULL);
	for (int i = 2; i <= n; i++)
		declare(L, t, lua_pushfstring(L, "child %s", name), false, i);
	return 0;
}

/* ---- asking ---- */

struct question {
	struct tester *t;
	const struct answer *a;
	const json_t *seen;
	json_t *reply; /* kept; NULL: it passed */
};

static int ask_function(lua_State *L)
{
	struct question *q = lua_touserdata(L, 1);

	luaL_checkstack(L, 20, NULL);
	lua_rawgeti(L, LUA_REGISTRYINDEX, q->a->function);
	hp_lua_push_json(L, q->seen);
	lua_call(L, 1, 1);
	if (!lua_isnil(L, -1))
		q->reply = hp_t_json(L, q->t, -1);
	return 0;
}

/* -1: it failed; the failure is recorded, or must be raised again by the word. */
static int ask(struct question *q, struct hp_error *err)
{
	lua_State *L = q->t->L;
	int top = lua_gettop(L), status;

	if (!lua_checkstack(L, 8))
		return hp_fail(err, HP_E_SCRIPT, "functions of answers call each other too deeply");
	lua_pushcfunction(L, hp_t_on_error);
	lua_pushcfunction(L, ask_function);
	lua_pushlightuserdata(L, q);
	status = lua_pcall(L, 1, 0, top + 1);
	if (status != LUA_OK && (hp_sandbox_stopped(L) || status == LUA_ERRMEM))
		q->t->pcall_status = status;
	if (status != LUA_OK)
		hp_fail(err, HP_E_SCRIPT, "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "no text");
	lua_settop(L, top);
	return status == LUA_OK ? 0 : -1;
}

int hp_t_next_answer(struct tester *t, const char *target, bool sql, const json_t *seen, const json_t **out,
		     struct hp_error *err)
{
	*out = NULL;
	for (int i = 0; i < t->n_answers; i++) {
		struct answer *a = &t->answers[i];
		struct question q = {t, a, seen, NULL};

		if (a->sql != sql || (a->value && a->used) || strcmp(a->target, target) != 0)
			continue;
		a->used = true;
		if (!a->value && ask(&q, err) < 0)
			return -1;
		*out = a->value ? a->value : q.reply;
		if (*out)
			return 0;
	}
	return 0;
}

static const char *who_answers(const struct answer *a)
{
	if (a->sql)
		return "the database";
	return strncmp(a->target, "child ", 6) == 0 ? "the engine" : "the provider";
}

void hp_t_unused(struct tester *t)
{
	for (int i = 0; i < t->n_answers && !t->failed; i++) {
		const struct answer *a = &t->answers[i];

		if (!a->used && !(t->o->real && a->sql && a->sweep))
			hp_t_failed(t, a->line, "%s was never asked for this answer to %s\"%s\": take it away, or see why "
				    "the run did not come that far", who_answers(a),
				    a->sql ? "state " : "", a->target);
	}
}

/* ---- replies ---- */

static enum hp_class class_named(const char *word)
{
	for (int c = HP_RETRYABLE; word && c <= HP_NEEDS_PERSON; c++)
		if (strcmp(word, hp_class_name((enum hp_class)c)) == 0)
			return (enum hp_class)c;
	return HP_CLASS_OK;
}

static void fail_as(const json_t *f, struct hp_event *ev)
{
	const json_t *after = json_object_get(f, "retry_after");

	ev->outcome = class_named(hp_json_str(f, "class"));
	ev->code = hp_json_str(f, "code");
	ev->message = hp_json_str(f, "message");
	if (json_is_number(after))
		ev->retry_after_us = (int64_t)(json_number_value(after) * 1e6);
}

/* {status, headers, json or body}: classified by the connector itself. */
static int answer_http(struct tester *t, const struct hp_drive_send *s, const json_t *h, struct hp_buf *out,
		       struct hp_event *ev, struct hp_error *err)
{
	const char *pairs[64][2], *body = hp_json_str(h, "body"), *name;
	json_t *headers = json_object_get(h, "headers"), *v;
	struct hp_incoming in = {.answered = true, .sent = true, .status = (int)hp_json_int(h, "status", 200),
				 .headers = pairs};
	struct hp_buf text;
	int rc = 0;

	json_object_foreach(headers, name, v)
		if (in.n_headers < 64 && json_is_string(v)) {
			pairs[in.n_headers][0] = name;
			pairs[in.n_headers++][1] = json_string_value(v);
		}
	hp_buf_init(&text, HP_HTTP_RESPONSE_BODY_MAX);
	if (json_object_get(h, "json"))
		rc = hp_json_write(&text, json_object_get(h, "json"), err);
	else if (body)
		hp_buf_adds(&text, body);
	in.body = hp_buf_bytes(&text);
	if (rc == 0)
		hp_workflow_reply(t->w, s->request, &in, s->now, out, ev);
	hp_buf_free(&text);
	return rc;
}

static int give_reply(struct tester *t, const struct hp_drive_send *s, const json_t *v, struct hp_buf *out,
		      struct hp_event *ev, struct hp_error *err)
{
	const char *transport = hp_json_str(v, "$transport");
	const json_t *http = json_object_get(v, "$http"), *f = json_object_get(v, "$failure");

	if (transport) {
		struct hp_incoming in = {.sent = strcmp(transport, "unreachable") != 0, .failure = transport};

		hp_workflow_reply(t->w, s->request, &in, s->now, out, ev);
		return 0;
	}
	if (http)
		return answer_http(t, s, http, out, ev, err);
	if (f) {
		fail_as(f, ev);
		return 0;
	}
	if (json_object_get(v, "$none") || json_object_get(v, "$sql_error"))
		return hp_fail(err, HP_E_INVALID, "none and sql_error are answers of statements, not of %s", s->operation);
	if (hp_json_write(out, v, err) < 0)
		return -1;
	ev->outcome = HP_CLASS_OK;
	ev->ok = true;
	ev->value = hp_buf_bytes(out);
	return 0;
}

int hp_t_on_send(void *arg, const struct hp_drive_send *s, struct hp_buf *out, struct hp_event *ev,
		 struct hp_error *err)
{
	struct tester *t = arg;
	const json_t *v;

	if (hp_t_next_answer(t, s->operation, false, s->seen, &v, err) < 0)
		return -1;
	if (!v && t->o->real)
		return hp_t_ask_fake(t, s, out, ev, err);
	if (!v)
		return hp_fail(err, HP_E_INVALID, "state \"%s\" %s %s (attempt %d) and the test has no answer left for it: "
			       "add reply(\"%s\", …)", s->state, s->probe ? "looks with" : s->check ? "checks with" : "calls", s->operation, s->attempt,
			       s->operation);
	return give_reply(t, s, v, out, ev, err);
}

/* ---- children ---- */

int hp_t_on_child(void *arg, const struct hp_drive_child *c, struct hp_buf *out, struct hp_event *ev,
		  struct hp_error *err)
{
	struct tester *t = arg;
	char target[HP_NAME_MAX + 8];
	const json_t *v, *f;

	(void)snprintf(target, sizeof target, "child %s", c->workflow);
	if (hp_t_next_answer(t, target, false, c->seen, &v, err) < 0)
		return -1;
	if (!v)
		return hp_fail(err, HP_E_INVALID, "workflow \"%s\" is started as a child and the test does not say how it ends: "
			       "add child(\"%s\", { … })", c->workflow, c->workflow);
	f = json_object_get(v, "$failure");
	ev->none = json_object_get(v, "$pending") != NULL;
	if (ev->none)
		return 0;
	if (f) {
		fail_as(f, ev);
		return 0;
	}
	if (hp_json_write(out, v, err) < 0)
		return -1;
	ev->outcome = HP_CLASS_OK;
	ev->value = hp_buf_bytes(out);
	return 0;
}

/* ---- statements ---- */

/* As PostgreSQL's: what passes by itself is tried again. */
static enum hp_class class_of_sql(const char *code)
{
	static const char *const passing[] = {
		"serialization_failure", "deadlock_detected", "lock_not_available", "admin_shutdown", "crash_shutdown",
		"cannot_connect_now", "disk_full", "out_of_memory", "too_many_connections",
		"read_only_sql_transaction", "connection_lost", "timeout",
	};

	for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
		if (strcmp(passing[i], code) == 0)
			return HP_RETRYABLE;
	return HP_TERMINAL;
}

/* The rows as text, kept with the test. */
static int rows_text(struct tester *t, const json_t *v, struct hp_sql_rows *rows, struct hp_error *err)
{
	struct hp_buf b;
	json_t *text;
	int rc;

	hp_buf_init(&b, HP_VALUE_MAX);
	rc = hp_json_write(&b, v, err);
	if (rc == 0) {
		text = json_stringn(hp_buf_str(&b), b.n);
		if (json_array_append_new(t->kept, text) == 0)
			rows->rows = (struct hp_bytes){json_string_value(text), b.n};
		else
			rc = hp_fail(err, HP_E_NOMEM, "no memory");
	}
	hp_buf_free(&b);
	return rc;
}

static int give_rows(struct tester *t, const struct hp_state *st, const json_t *v, struct hp_sql_rows *rows,
		     struct hp_error *err)
{
	const json_t *failed = json_object_get(v, "$sql_error");
	const char *must = misfit(st->sql.mode, v);
	json_t *n;

	if (must)
		return hp_fail(err, HP_E_INVALID, "sql state \"%s\" answers %s", st->name, must);
	if (failed) {
		rows->code = hp_json_str(failed, "code");
		rows->message = hp_json_str(failed, "message");
		rows->outcome = class_of_sql(rows->code);
		return 0;
	}
	rows->outcome = HP_CLASS_OK;
	rows->none = json_object_get(v, "$none") != NULL;
	if (rows->none)
		return rows_text(t, json_null(), rows, err);
	if ((st->sql.mode == HP_SQL_MANY || st->sql.mode == HP_SQL_SWEEP) && json_is_object(v))
		return rows_text(t, t->empty, rows, err);
	if (st->sql.mode != HP_SQL_EXEC)
		return rows_text(t, v, rows, err);
	n = json_pack("{s:I}", "rows", json_integer_value(v));
	if (json_array_append_new(t->kept, n) != 0)
		return hp_fail(err, HP_E_NOMEM, "no memory");
	return rows_text(t, n, rows, err);
}

int hp_t_on_sql(void *arg, const struct hp_state *st, const json_t *args, struct hp_sql_rows *rows,
		struct hp_error *err)
{
	static const char *const examples[] = {"", "1", "{ … }", "{ { … } }", "{ { … } }, {}"};
	struct tester *t = arg;
	const json_t *v;

	if (hp_t_next_answer(t, st->name, true, args, &v, err) < 0)
		return -1;
	if (!v)
		return hp_fail(err, HP_E_INVALID, "sql state \"%s\" runs and the test has no answer left for it: add "
			       "sql(\"%s\", %s)", st->name, st->name, examples[st->sql.mode]);
	return give_rows(t, st, v, rows, err);
}
