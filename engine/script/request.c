/* request.c: the bytes of a request, as they are stored, hashed, signed and sent.
 *
 * Two steps inside Lua (the author's argument and key, then the connector's
 * request()), and JSON in between: what is checked is exactly what is used.
 * Secrets are names here: {"bearer":"STRIPE_SECRET_KEY"}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/keys.h"
#include "script/internal.h"

/* ---- form and query encoding: a[b]=c, as Stripe and PHP read it ---- */

/* stripe-node leaves brackets as they are; so do we. */
static void add_pair(struct hp_buf *out, size_t start, const char *name, const char *text, size_t n)
{
	if (out->n > start)
		hp_buf_addc(out, '&');
	hp_buf_adds(out, name);
	hp_buf_addc(out, '=');
	hp_buf_urlencode(out, text, n);
}

static void add_scalar(struct hp_buf *out, size_t start, const char *name, const json_t *v)
{
	struct hp_buf number;

	switch (json_typeof(v)) {
	case JSON_STRING:
		add_pair(out, start, name, json_string_value(v), json_string_length(v));
		return;
	case JSON_TRUE:
	case JSON_FALSE:
		add_pair(out, start, name, json_is_true(v) ? "true" : "false", json_is_true(v) ? 4 : 5);
		return;
	case JSON_NULL: /* how a value is unset */
		add_pair(out, start, name, "", 0);
		return;
	default:
		hp_buf_init(&number, 64);
		if (hp_json_write(&number, v, NULL) < 0)
			out->failed = true;
		add_pair(out, start, name, hp_buf_str(&number), number.n);
		hp_buf_free(&number);
	}
}

static int compare_keys(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

#define FORM_MEMBERS_MAX 500

static int add_form(struct hp_buf *out, size_t start, const char *prefix, const json_t *v, struct hp_error *err);

static int add_member(struct hp_buf *out, size_t start, const char *prefix, const char *key, const json_t *v,
		      struct hp_error *err)
{
	struct hp_buf name;
	int rc;

	hp_buf_init(&name, 4096);
	hp_buf_adds(&name, prefix);
	if (*prefix)
		hp_buf_addc(&name, '[');
	hp_buf_urlencode(&name, key, strlen(key));
	if (*prefix)
		hp_buf_addc(&name, ']');
	rc = hp_buf_check(&name, "the name of a form field", err);
	if (rc == 0)
		rc = add_form(out, start, hp_buf_str(&name), v, err);
	hp_buf_free(&name);
	return rc;
}

static int add_form(struct hp_buf *out, size_t start, const char *prefix, const json_t *v, struct hp_error *err)
{
	const char *keys[FORM_MEMBERS_MAX];
	json_t *object = (json_t *)(uintptr_t)v;
	size_t n = 0, i;
	void *it;

	if (json_is_array(v)) {
		for (i = 0; i < json_array_size(v); i++) {
			char index[24];

			snprintf(index, sizeof index, "%zu", i);
			if (add_member(out, start, prefix, index, json_array_get(v, i), err) < 0)
				return -1;
		}
		return 0;
	}
	if (!json_is_object(v)) {
		add_scalar(out, start, prefix, v);
		return 0;
	}
	if (json_object_size(v) > FORM_MEMBERS_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "a form has more than %d members", FORM_MEMBERS_MAX);
	for (it = json_object_iter(object); it; it = json_object_iter_next(object, it))
		keys[n++] = json_object_iter_key(it);
	qsort(keys, n, sizeof *keys, compare_keys);
	for (i = 0; i < n; i++)
		if (add_member(out, start, prefix, keys[i], json_object_get(v, keys[i]), err) < 0)
			return -1;
	return 0;
}

static int form(struct hp_buf *out, const json_t *v, const char *what, struct hp_error *err)
{
	if (!json_is_object(v) && !(json_is_array(v) && json_array_size(v) == 0))
		return hp_fail(err, HP_E_INVALID, "%s must be a table of names and values", what);
	if (add_form(out, out->n, "", v, err) < 0)
		return -1;
	return hp_buf_check(out, what, err);
}

/* ---- building ---- */

/* RFC 3986: an absolute path of pchars. "." and ".." segments would be moved by
 * the client, so what was signed would not be what is asked for. */
static int check_path(const char *path, struct hp_error *err)
{
	const char *p;

	if (path[0] != '/')
		return hp_fail(err, HP_E_INVALID, "the path \"%.100s\" must begin with /", path);
	for (p = path; *p; p++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@%/", *p))
			return hp_fail(err, HP_E_INVALID, "the path \"%.100s\" has a character that must be percent-encoded", path);
	for (p = path; p; p = strchr(p + 1, '/')) {
		size_t n = strcspn(p + 1, "/");

		if ((n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
			return hp_fail(err, HP_E_INVALID, "the path \"%.100s\" has a segment of dots", path);
	}
	return 0;
}

/* The version is named only where the author has chosen one: `using`. */
static json_t *header_value(const struct hp_conn_header *h, const json_t *using)
{
	const char *version = hp_json_str(using, h->text[0]);

	switch (h->kind) {
	case HP_H_SECRET:
		return json_pack("{s:s,s:s*}", "secret", h->text[0], "version", version);
	case HP_H_BEARER:
		return json_pack("{s:s,s:s*}", "bearer", h->text[0], "version", version);
	case HP_H_BASIC:
		if (version || hp_json_str(using, h->text[1]))
			return json_pack("{s:[s,s],s:[s?,s?]}", "basic", h->text[0], h->text[1], "versions", version,
					 hp_json_str(using, h->text[1]));
		return json_pack("{s:[s,s]}", "basic", h->text[0], h->text[1]);
	case HP_H_TEXT:
		break;
	}
	return json_string(h->text[0]);
}

static int text_header(json_t *headers, const char *name, const char *value, struct hp_error *err)
{
	if (!hp_header_name_ok(name))
		return hp_fail(err, HP_E_INVALID, "the header \"%.60s\" must be lower-case letters, digits and dashes", name);
	if (strpbrk(value, "\r\n"))
		return hp_fail(err, HP_E_INVALID, "the header \"%.60s\" contains a line break", name);
	if (json_object_set_new(headers, name, json_string(value)) < 0)
		return hp_fail(err, HP_E_NOMEM, "no memory left to build a request");
	return 0;
}

static int add_headers(json_t *headers, const struct hp_conn *c, const struct hp_op *op, const struct hp_parts *p,
		       struct hp_error *err)
{
	json_t *from = json_object_get(p->parts, "headers");
	void *it;
	int i;

	for (i = 0; i < c->n_headers; i++)
		if (json_object_set_new(headers, c->headers[i].name, header_value(&c->headers[i], p->using)) < 0)
			return hp_fail(err, HP_E_NOMEM, "no memory left to build a request");
	for (it = json_object_iter(from); it; it = json_object_iter_next(from, it)) {
		const char *value = json_string_value(json_object_iter_value(it));

		if (!value)
			return hp_fail(err, HP_E_INVALID, "the header \"%.60s\" must be text", json_object_iter_key(it));
		if (text_header(headers, json_object_iter_key(it), value, err) < 0)
			return -1;
	}
	if (op->pub.repeat == HP_REPEAT_BY_KEY)
		return text_header(headers, op->key_header, p->key, err);
	return 0;
}

static int check_parts(const json_t *parts, bool native, struct hp_error *err)
{
	static const char *const fields[] = {"json", "headers", "path", "query", "form"};
	json_t *object = (json_t *)(uintptr_t)parts;
	size_t n = native ? 2 : sizeof fields / sizeof *fields, i;
	void *it;

	if (!json_is_object(parts) && !(json_is_array(parts) && json_array_size(parts) == 0))
		return hp_fail(err, HP_E_INVALID, "request() must return a table");
	for (it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
		for (i = 0; i < n && strcmp(fields[i], json_object_iter_key(it)) != 0; i++)
			;
		if (i == n)
			return hp_fail(err, HP_E_INVALID, "request() returned the unknown field \"%.60s\"",
				       json_object_iter_key(it));
	}
	if (json_object_get(parts, "form") && json_object_get(parts, "json"))
		return hp_fail(err, HP_E_INVALID, "request() returned both form and json");
	if (json_object_get(parts, "path") && !json_is_string(json_object_get(parts, "path")))
		return hp_fail(err, HP_E_INVALID, "request() returned a path that is no text");
	return 0;
}

static int add_body(json_t *headers, const json_t *parts, struct hp_buf *body, struct hp_error *err)
{
	const json_t *v = json_object_get(parts, "form");

	if (v) {
		if (form(body, v, "form", err) < 0)
			return -1;
		return text_header(headers, "content-type", "application/x-www-form-urlencoded", err);
	}
	v = json_object_get(parts, "json");
	if (!v)
		return 0;
	if (hp_json_write(body, v, err) < 0)
		return -1;
	return text_header(headers, "content-type", "application/json", err);
}

int hp_request_build(const struct hp_conn *c, const struct hp_op *op, const struct hp_parts *p, struct hp_buf *out,
		     struct hp_error *err)
{
	const json_t *parts = p->parts;
	const char *path = hp_json_str(parts, "path");
	json_t *headers = json_object(), *rq = NULL;
	struct hp_buf query, body;
	int rc = -1;

	hp_buf_init(&query, 16 * 1024);
	hp_buf_init(&body, HP_HTTP_REQUEST_BODY_MAX);
	if (!path)
		path = op->path;
	if (check_parts(parts, c->native, err) < 0)
		goto out;
	if (!path) {
		hp_fail(err, HP_E_INVALID, "request() returned no path");
		goto out;
	}
	if (check_path(path, err) < 0 || add_headers(headers, c, op, p, err) < 0 ||
	    add_body(headers, parts, &body, err) < 0)
		goto out;
	if (json_object_get(parts, "query") && form(&query, json_object_get(parts, "query"), "query", err) < 0)
		goto out;
	rq = json_pack("{s:s, s:s, s:s, s:s, s:O, s:s%, s:s}", "connector", c->name, "operation", op->pub.name, "method",
		       op->method, "path", path, "headers", headers, "body", hp_buf_str(&body), body.n, "key", p->key);
	if (!rq || (query.n && json_object_set_new(rq, "query", json_string(hp_buf_str(&query))) < 0)) {
		hp_fail(err, HP_E_NOMEM, "no memory left to build a request");
		goto out;
	}
	if (hp_secret_refs_add(rq, p->refs, err) < 0)
		goto out;
	rc = hp_json_write(out, rq, err);
out:
	json_decref(headers);
	json_decref(rq);
	hp_buf_free(&query);
	hp_buf_free(&body);
	return rc;
}

/* ---- rendering ---- */

/* In the sandbox: argument into text, business key into text2. */
static void arg_and_key(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	int state;

	luaL_checkstack(L, 20, NULL);
	if (j->arm)
		hp_push_arm(L, j->state, j->arm);
	else
		hp_push_state(L, j->state);
	state = lua_gettop(L);
	if (j->probe)
		lua_getfield(L, state, "probe");
	else if (j->w->def.states[j->state].kind == HP_SWEEP)
		lua_getfield(L, state, "call");
	else
		lua_pushvalue(L, state);
	lua_getfield(L, -1, "with");
	if (!lua_isnil(L, -1))
		hp_expr(L, j, -1, j->probe ? "probe: with" : j->arm ? "on: with" : "with");
	if (lua_isnil(L, -1))
		lua_newtable(L);
	hp_lua_write_json(L, -1, &j->text);
	lua_getfield(L, state, "key");
	if (lua_isnil(L, -1))
		return;
	hp_expr(L, j, -1, "key");
	if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
		hp_job_fail(L, j, "key", lua_pushfstring(L, "must be a text, not a %s", luaL_typename(L, -1)));
	j->has_text2 = true;
	hp_buf_adds(&j->text2, lua_tostring(L, -1));
}

/* In the sandbox: request(arg, ctx) into text. */
static void request_function(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	luaL_checkstack(L, 20, NULL);
	hp_push_operation_field(L, j->op, "request");
	hp_lua_push_json(L, j->in);
	lua_newtable(L);
	lua_pushstring(L, j->key);
	lua_setfield(L, -2, "key");
	lua_pushinteger(L, j->data->id);
	lua_setfield(L, -2, "run_id");
	hp_sandbox_call(L, 2, 1);
	if (!lua_istable(L, -1))
		luaL_error(L, "%s.%s: request() must return a table, not a %s", j->op->pub.connector, j->op->pub.name,
			   luaL_typename(L, -1));
	hp_lua_write_json(L, -1, &j->text);
}

/* Headers carry it, so it is short and plain. */
static int check_key(const char *key, size_t n, struct hp_error *err)
{
	size_t i;

	if (n == 0)
		return hp_fail(err, HP_E_INVALID, "the key is empty");
	if (n > HP_PROVIDER_KEY_MAX)
		return hp_fail(err, HP_E_INVALID, "the key is longer than %d characters", HP_PROVIDER_KEY_MAX);
	for (i = 0; i < n; i++)
		if (key[i] <= ' ' || key[i] > '~')
			return hp_fail(err, HP_E_INVALID, "the key may have visible ASCII characters only; number %zu is not",
				       i + 1);
	return 0;
}

/* What the derived key is of: the state or, in a sweep, its row. */
static int effect_name(struct hp_job *j, const struct hp_state *s, struct hp_buf *out, struct hp_error *err)
{
	json_t *row;
	int rc;

	hp_buf_adds(out, s->name);
	if (s->kind != HP_SWEEP)
		return hp_buf_check(out, "a name", err);
	row = hp_json_parse(j->row.p, j->row.n, "the row", err);
	if (!row)
		return -1;
	hp_buf_addc(out, '\n');
	rc = hp_json_write(out, json_object_get(row, s->sweep.cursor), err);
	json_decref(row);
	return rc;
}

/* index: 0 the state's own effect, then those of its arms */
static int make_key(struct hp_job *j, int state, int32_t visit, int index, struct hp_buf *key, struct hp_error *err)
{
	char derived[HP_EFFECT_KEY_LEN];
	bool undo = state >= j->w->def.n_states;

	if (!j->has_text2) { /* an undo's is its effect's second one */
		const struct hp_state *of = &j->w->def.states[undo ? j->w->def.states[state].undoes : state];
		struct hp_buf name;
		int rc;

		hp_buf_init(&name, HP_NAME_MAX + HP_CURSOR_MAX + 8);
		rc = effect_name(j, of, &name, err);
		hp_effect_key(j->data->installation, j->data->id, hp_buf_str(&name), visit, undo ? 1 : index, derived);
		hp_buf_free(&name);
		if (rc < 0)
			return -1;
		hp_buf_adds(key, derived);
		return hp_buf_check(key, "the key", err);
	}
	if (hp_buf_check(&j->text2, "the key", err) < 0 || check_key(hp_buf_str(&j->text2), j->text2.n, err) < 0)
		return -1;
	hp_buf_add(key, j->text2.p, j->text2.n);
	return hp_buf_check(key, "the key", err);
}

/* arg → what request() gives; without one, the path alone, or for a plugin the argument. */
static int parts_of(struct hp_job *j, json_t *arg, json_t **parts, const char **code, struct hp_error *err)
{
	*parts = NULL;
	if (j->op->has_request) {
		hp_buf_clear(&j->text);
		j->in = arg;
		*code = "script_error";
		if (hp_vm_run(j->vm, request_function, j, err) < 0 || hp_buf_check(&j->text, "a request", err) < 0)
			return -1;
		*parts = hp_json_parse(j->text.p, j->text.n, "what request() returned", err);
	} else if (strcmp(j->op->method, HP_METHOD_NATIVE) == 0) {
		*parts = json_pack("{s:O}", "json", arg); /* the argument is the request */
	} else {
		*parts = json_object();
	}
	*code = "request_invalid";
	return *parts ? 0 : -1;
}

/* Name → version, as text. NULL and rc 0: the state has no `using`. */
static json_t *using_of(struct hp_job *j, const char **code, int *rc, struct hp_error *err)
{
	json_t *using, *v;
	const char *name;
	char number[24];
	void *tmp;

	*rc = 0;
	if (!j->w->extra[j->state].has_using)
		return NULL;
	*code = "script_error";
	*rc = hp_job_eval(j, "using", err);
	if (*rc < 0)
		return NULL;
	*code = "request_invalid";
	*rc = hp_buf_check(&j->text, "using", err);
	using = *rc == 0 ? hp_json_parse(hp_buf_str(&j->text), j->text.n, "using", err) : NULL;
	if (!using)
		*rc = -1;
	json_object_foreach_safe(using, tmp, name, v) {
		(void)snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
		if (json_is_integer(v))
			json_object_set_new(using, name, json_string(number));
		if (!hp_json_str(using, name) || !hp_secret_version_ok(hp_json_str(using, name)))
			*rc = hp_fail(err, HP_E_INVALID, "using: %s: a version is \"current\", \"pending\", \"previous\" or a number",
				      name);
	}
	return using;
}

/* j->op, and j->probe or j->arm, say whose. */
static int render(struct hp_job *j, int state, int index, int32_t visit, struct hp_buf *out, struct hp_buf *key,
		  const char **code, struct hp_error *err)
{
	const struct hp_state *s = &j->w->def.states[state];
	struct hp_parts p = {0};
	json_t *arg = NULL, *parts = NULL, *using = NULL;
	bool located = false; /* the message says where, already */
	int rc = -1;

	j->state = state;
	j->has_text2 = false;
	j->visit = visit;
	j->refs = p.refs = json_object();
	hp_buf_clear(&j->text);
	hp_buf_clear(&j->text2);
	*code = "script_error";
	if (!p.refs || hp_vm_run(j->vm, arg_and_key, j, err) < 0) {
		located = true;
		goto out;
	}
	*code = "key_invalid";
	if (make_key(j, state, visit, index, key, err) < 0)
		goto out;
	*code = "request_invalid";
	if (hp_buf_check(&j->text, "the argument", err) < 0)
		goto out;
	arg = hp_json_parse(j->text.p, j->text.n, "the argument", err);
	if (!arg || (j->op->arg && hp_schema_check(j->op->arg, arg, "with", err) < 0))
		goto out;
	j->key = p.key = hp_buf_str(key);
	if (parts_of(j, arg, &parts, code, err) < 0)
		goto out;
	using = using_of(j, code, &rc, err);
	located = rc < 0 && strcmp(*code, "script_error") == 0;
	p.parts = parts;
	p.using = using;
	if (rc == 0)
		rc = hp_request_build(hp_workflow_conn(j->w, j->op->pub.connector), j->op, &p, out, err);
out:
	j->refs = NULL;
	if (rc < 0 && !located)
		hp_error_prefix(err, "%s:%d: state \"%s\": %s.%s", j->w->def.file, s->line, s->name, j->op->pub.connector,
				j->op->pub.name);
	json_decref(arg);
	json_decref(parts);
	json_decref(using);
	json_decref(p.refs);
	return rc;
}

int hp_request_render(struct hp_job *j, int state, bool probe, int32_t visit, struct hp_buf *out, struct hp_buf *key,
		      const char **code, struct hp_error *err)
{
	const struct hp_extra *x = &j->w->extra[state];

	HP_ASSERT(hp_state_calls(&j->w->def.states[state]) && (!probe || x->probe));
	j->probe = probe;
	j->arm = NULL;
	j->op = probe ? x->probe : x->op;
	return render(j, state, 0, visit, out, key, code, err);
}

int hp_request_render_check(struct hp_job *j, int state, int arm, int32_t visit, struct hp_buf *out, struct hp_buf *key,
			    const char **code, struct hp_error *err)
{
	HP_ASSERT(arm < j->w->def.states[state].n_arms && j->w->extra[state].checks[arm]);
	j->probe = false;
	j->arm = &j->w->def.states[state].arms[arm];
	j->op = j->w->extra[state].checks[arm];
	return render(j, state, arm + 1, visit, out, key, code, err);
}

struct hp_op_ref hp_op_ref_of(const struct hp_workflow *w, const struct hp_conn *c, const struct hp_op *op)
{
	return (struct hp_op_ref){(int)(c - w->conns) + 1, (int)(op - c->ops) + 1};
}

struct hp_op *hp_op_of_ref(struct hp_workflow *w, struct hp_op_ref ref)
{
	if (ref.connector == 0)
		return NULL;
	HP_ASSERT(ref.connector <= w->n_connectors && ref.operation <= w->conns[ref.connector - 1].n_ops);
	return &w->conns[ref.connector - 1].ops[ref.operation - 1];
}

struct hp_op *hp_request_op(struct hp_workflow *w, const json_t *request, struct hp_conn **conn, struct hp_error *err)
{
	const char *connector = hp_json_str(request, "connector"), *operation = hp_json_str(request, "operation");
	struct hp_op *op = NULL;

	*conn = connector ? hp_workflow_conn(w, connector) : NULL;
	if (*conn && operation)
		op = hp_conn_op(*conn, operation);
	if (!op)
		hp_fail(err, HP_E_INVALID, "the request is for %.60s.%.60s, which this workflow does not have",
			connector ? connector : "?", operation ? operation : "?");
	return op;
}
