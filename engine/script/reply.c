/* reply.c: what came back from a peer, as the machine sees it.
 *
 * A transport failure is classified here, because it is the same for every peer:
 * nothing sent → retryable; sent and not answered → the peer may have acted.
 * An answer is classified by the operation's reply(), or, when it has none, by its
 * status. A reply() that fails is our bug, and the peer may have acted.
 */
#include <stdio.h>
#include <string.h>
#include "script/internal.h"

/* Texts of the event live in out: offsets first, pointers at the end. */
struct placing {
	struct hp_buf *out;
	size_t value_n, code_at, message_at;
	bool has_code, has_message;
};

/* At most max bytes of it, cut between characters: the database takes no halves. */
static size_t place(struct hp_buf *out, const char *text, size_t max)
{
	size_t at = out->n, n = strnlen(text, max);

	while (text[n] && n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80)
		n--;
	hp_buf_add(out, text, n);
	hp_buf_addc(out, '\0');
	return at;
}

static void failed(struct placing *p, struct hp_event *ev, enum hp_class outcome, const char *code, const char *message)
{
	hp_buf_clear(p->out);
	p->value_n = 0;
	ev->outcome = outcome;
	p->code_at = place(p->out, code, HP_CODE_MAX - 1);
	p->message_at = place(p->out, message ? message : "", 1000);
	p->has_code = true;
	p->has_message = message != NULL;
}

static void not_answered(const struct hp_op *op, const struct hp_incoming *in, struct placing *p, struct hp_event *ev)
{
	const char *why = in->failure ? in->failure : "connection_lost";
	char text[300];

	if (!in->sent) {
		snprintf(text, sizeof text, "%s could not be reached (%s)", op->pub.connector, why);
		failed(p, ev, in->refused ? HP_NEEDS_PERSON : HP_RETRYABLE, in->refused ? why : "unreachable",
		       in->detail ? in->detail : text);
		return;
	}
	snprintf(text, sizeof text, "%s received the request but did not answer (%s)", op->pub.connector, why);
	failed(p, ev, HP_AMBIGUOUS, why, in->detail ? in->detail : text);
}

/* ---- reply() ---- */

static void push_headers(lua_State *L, const struct hp_incoming *in)
{
	int i;

	lua_newtable(L);
	for (i = 0; i < in->n_headers; i++) {
		if (lua_getfield(L, -1, in->headers[i][0]) == LUA_TSTRING) /* repeated: RFC 9110 section 5.3 */
			lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), in->headers[i][1]);
		else
			lua_pushstring(L, in->headers[i][1]);
		lua_setfield(L, -3, in->headers[i][0]);
		lua_pop(L, 1);
	}
}

static void reply_function(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const struct hp_incoming *in = j->incoming;

	luaL_checkstack(L, 20, NULL);
	hp_push_operation_field(L, j->op, "reply");
	lua_newtable(L);
	lua_pushinteger(L, in->status);
	lua_setfield(L, -2, "status");
	push_headers(L, in);
	lua_setfield(L, -2, "headers");
	lua_pushlstring(L, in->body.n ? in->body.p : "", in->body.n);
	lua_setfield(L, -2, "body");
	if (j->in) {
		hp_lua_push_json(L, j->in);
		lua_setfield(L, -2, "json");
	}
	hp_sandbox_call(L, 1, 1);
	hp_lua_write_json(L, -1, &j->text);
}

static enum hp_class class_of(const char *word)
{
	int c;

	for (c = HP_RETRYABLE; word && c <= HP_NEEDS_PERSON; c++)
		if (strcmp(word, hp_class_name((enum hp_class)c)) == 0)
			return (enum hp_class)c;
	return HP_CLASS_OK; /* not a class */
}

#define RETRY_AFTER_MAX 2592000.0 /* 30 days, in seconds */

/* { class, code, message, retry_after }; false: it is no failure we understand. */
static bool take_failure(const json_t *f, struct placing *p, struct hp_event *ev)
{
	enum hp_class c = class_of(hp_json_str(f, "class"));
	const char *code = hp_json_str(f, "code");
	const json_t *after = json_object_get(f, "retry_after");
	double seconds = json_is_number(after) ? json_number_value(after) : -1;

	if (c == HP_CLASS_OK || !code || !*code)
		return false;
	if (seconds > RETRY_AFTER_MAX)
		seconds = RETRY_AFTER_MAX;
	if (seconds >= 0)
		ev->retry_after_us = (int64_t)(seconds * 1e6);
	failed(p, ev, c, code, hp_json_str(f, "message"));
	return true;
}

static int take_value(const json_t *v, struct placing *p, struct hp_event *ev, struct hp_error *err)
{
	hp_buf_clear(p->out);
	if (hp_json_write(p->out, v, err) < 0)
		return -1;
	if (p->out->n > HP_VALUE_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "the value is larger than %d bytes", HP_VALUE_MAX);
	p->value_n = p->out->n;
	ev->outcome = HP_CLASS_OK;
	return 0;
}

static int by_function(struct hp_job *j, struct placing *p, struct hp_event *ev, struct hp_error *err)
{
	json_t *result = NULL;
	int rc = -1;

	if (hp_workflow_ready(j->w, err) < 0 || hp_vm_run(j->vm, reply_function, j, err) < 0 ||
	    hp_buf_check(&j->text, "what reply() returned", err) < 0)
		return -1;
	result = hp_json_parse(j->text.p, j->text.n, "what reply() returned", err);
	if (!result)
		return -1;
	if (json_object_get(result, "ok"))
		rc = take_value(json_object_get(result, "ok"), p, ev, err);
	else if (take_failure(json_object_get(result, "failure"), p, ev))
		rc = 0;
	else
		hp_fail(err, HP_E_SCRIPT,
			"reply() must return ok(value) or failure { class = …, code = … } with a class of retryable, "
			"terminal, ambiguous or needs_person");
	json_decref(result);
	return rc;
}

/* No reply(): the status says it all, or a plugin's own {class, code, message}. */
static int by_status(struct hp_job *j, struct placing *p, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_incoming *in = j->incoming;
	json_t *body;
	char code[32], message[200];
	enum hp_class c = HP_TERMINAL;
	int rc;

	if (in->status >= 200 && in->status < 300) {
		bool text = in->body.n == 0 || !memchr(in->body.p, 0, in->body.n); /* the database holds no U+0000 */

		body = j->in ? json_incref(j->in) : text ? json_stringn(in->body.n ? in->body.p : "", in->body.n) : NULL;
		if (!body)
			return hp_fail(err, HP_E_INVALID, "the body is neither JSON nor text");
		rc = take_value(body, p, ev, err);
		json_decref(body);
		return rc;
	}
	if (strcmp(j->op->method, HP_METHOD_NATIVE) == 0 && take_failure(j->in, p, ev))
		return 0;
	snprintf(code, sizeof code, "http_%d", in->status);
	snprintf(message, sizeof message, "%s answered %d", j->op->pub.connector, in->status);
	if (in->status == 429 || in->status == 503)
		c = HP_RETRYABLE;
	else if (in->status >= 500)
		c = j->op->pub.read ? HP_RETRYABLE : HP_AMBIGUOUS;
	else if (in->status == 401 || in->status == 403 || in->status < 400)
		c = HP_NEEDS_PERSON;
	failed(p, ev, c, code, message);
	return 0;
}

static void answered(struct hp_job *j, struct placing *p, struct hp_event *ev)
{
	const struct hp_incoming *in = j->incoming;
	struct hp_error err = {0};

	if (in->body.n)
		j->in = hp_json_parse(in->body.p, in->body.n, "the reply", NULL); /* NULL: not JSON */
	if ((j->op->has_reply ? by_function(j, p, ev, &err) : by_status(j, p, ev, &err)) < 0)
		failed(p, ev, j->op->pub.read ? HP_RETRYABLE : HP_AMBIGUOUS, "reply_error", err.message);
	json_decref(j->in);
}

void hp_workflow_reply(struct hp_workflow *w, struct hp_bytes request, const struct hp_incoming *in, int64_t now,
		       struct hp_buf *out, struct hp_event *ev)
{
	struct placing p = {.out = out};
	struct hp_error err = {0};
	struct hp_conn *c;
	struct hp_job j;
	json_t *rq = NULL;

	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_REPLY;
	ev->now = now;
	ev->retry_after_us = -1;
	hp_buf_clear(out);
	hp_job_init(&j, w);
	w->vm.now = now;
	j.op = hp_op_of_ref(w, in->op);
	if (!j.op)
		rq = hp_json_parse(request.p, request.n, "the stored request", &err);
	if (rq)
		j.op = hp_request_op(w, rq, &c, &err);
	j.incoming = in;
	if (!j.op)
		failed(&p, ev, HP_AMBIGUOUS, "reply_error", err.message);
	else if (!in->answered)
		not_answered(j.op, in, &p, ev);
	else
		answered(&j, &p, ev);
	json_decref(rq);
	hp_job_free(&j);
	ev->ok = ev->outcome == HP_CLASS_OK;
	if (ev->ok)
		ev->value = (struct hp_bytes){out->p, p.value_n};
	if (p.has_code)
		ev->code = hp_buf_str(out) + p.code_at;
	if (p.has_message)
		ev->message = hp_buf_str(out) + p.message_at;
}
