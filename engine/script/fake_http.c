/* fake_http.c: a simulated provider's requests and responses.
 *
 * A request meets at most one fault of its own (status, reset_before, reset_after, slow,
 * lost_reply); those for webhooks act when what it queued enters the outbox. Below
 * /_fake/ is the door of tests: GET state; POST faults, reset, emit; DELETE faults. It
 * is neither journaled nor subject to faults of requests.
 */
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/limits.h"
#include "script/fake_internal.h"

#define HEADERS_MAX 50
#define SLOW_SECONDS 2.0   /* when the fault names none */
#define LOST_SECONDS 60.0  /* longer than a client waits */

static const char type_json[] = "application/json";

/* ---- responses ---- */

static int respond_json(struct hp_fake *f, struct hp_fake_response *rs, int status, const json_t *v,
			struct hp_error *err)
{
	rs->status = status;
	rs->content_type = type_json;
	hp_buf_clear(&f->body);
	if (!v || hp_json_write(&f->body, v, err) < 0)
		return v ? -1 : hp_fail(err, HP_E_NOMEM, "no memory for a response");
	rs->body = hp_buf_bytes(&f->body);
	return 0;
}

/* Not in the provider's own form on purpose: this is the fake talking. */
static int respond_error(struct hp_fake *f, struct hp_fake_response *rs, int status, const char *message,
			 struct hp_error *err)
{
	json_t *v = json_pack("{s:{s:s, s:s}}", "fake_error", "fake", f->name, "message", message);
	int rc;

	if (!v)
		v = json_pack("{s:s}", "fake_error", "the error's text is not UTF-8");
	rc = respond_json(f, rs, status, v, err);
	json_decref(v);
	return rc;
}

static int copy_headers(struct hp_fake *f, struct hp_fake_response *rs, const json_t *headers,
			struct hp_error *err)
{
	const char *key, *(*list)[2];
	json_t *v;

	list = hp_arena_alloc(f->reply_arena, sizeof *list * HEADERS_MAX);
	if (!list)
		return hp_fail(err, HP_E_NOMEM, "no memory for a response");
	rs->headers = list;
	json_object_foreach((json_t *)(uintptr_t)headers, key, v) {
		const char *text = json_string_value(v);

		if (!text || rs->n_headers == HEADERS_MAX)
			return hp_fail(err, HP_E_SCRIPT, "the response's headers are not at most %d texts",
				       HEADERS_MAX);
		if (strpbrk(text, "\r\n") || strpbrk(key, "\r\n: "))
			return hp_fail(err, HP_E_SCRIPT, "the response's header %s has a line break", key);
		text = hp_arena_strdup(f->reply_arena, text);
		if (strcmp(key, "content-type") == 0) {
			rs->content_type = text;
			continue;
		}
		list[rs->n_headers][0] = hp_arena_strdup(f->reply_arena, key);
		list[rs->n_headers][1] = text;
		if (!text || !list[rs->n_headers][0])
			return hp_fail(err, HP_E_TOO_LARGE, "the response's headers are too large");
		rs->n_headers++;
	}
	return 0;
}

/* What a route returned → response. */
static int respond_reply(struct hp_fake *f, struct hp_fake_response *rs, const json_t *reply,
			 struct hp_error *err)
{
	static const char *const known[] = {"status", "json", "body", "headers"};
	const json_t *json = json_object_get(reply, "json"), *body = json_object_get(reply, "body");
	const char *key;
	json_t *v;
	size_t i;

	if (!json_is_object(reply) || !json_is_integer(json_object_get(reply, "status")))
		return hp_fail(err, HP_E_SCRIPT, "a route returned no { status = …, json = … or body = … }");
	json_object_foreach((json_t *)(uintptr_t)reply, key, v) {
		for (i = 0; i < sizeof known / sizeof known[0] && strcmp(key, known[i]) != 0; i++)
			;
		if (i == sizeof known / sizeof known[0])
			return hp_fail(err, HP_E_SCRIPT, "a response has no field \"%s\"", key);
	}
	if ((json && body) || (body && !json_is_string(body)))
		return hp_fail(err, HP_E_SCRIPT, "a response has either json or body, a text");
	rs->status = (int)hp_json_int(reply, "status", 0);
	if (rs->status < 200 || rs->status > 599)
		return hp_fail(err, HP_E_SCRIPT, "a response's status is not from 200 to 599");
	if (json && respond_json(f, rs, rs->status, json, err) < 0)
		return -1;
	if (body) {
		rs->content_type = "text/plain; charset=utf-8";
		hp_buf_clear(&f->body);
		hp_buf_add(&f->body, json_string_value(body), json_string_length(body));
		if (hp_buf_check(&f->body, "a response", err) < 0)
			return -1;
		rs->body = hp_buf_bytes(&f->body);
	}
	return copy_headers(f, rs, json_object_get(reply, "headers"), err);
}

/* ---- requests ---- */

/* Bytes as they came: a request need not be UTF-8 to be read. */
static json_t *pairs_object(const char *(*pairs)[2], int n)
{
	json_t *o = json_object();
	int i;

	for (i = 0; o && i < n; i++)
		if (json_object_set_new_nocheck(o, pairs[i][0], json_string_nocheck(pairs[i][1]))) {
			json_decref(o);
			return NULL;
		}
	return o;
}

static json_t *request_json(const struct hp_fake_request *rq, json_t *params)
{
	json_t *headers = pairs_object(rq->headers, rq->n_headers);
	json_t *query = pairs_object(rq->query, rq->n_query);
	const char *type = headers ? hp_json_str(headers, "content-type") : NULL;
	json_t *v = json_object();

	if (type && rq->body.n && strstr(type, "json")) /* NULL: not JSON, and so absent */
		json_object_set_new(v, "json", hp_json_parse(rq->body.p, rq->body.n, "body", NULL));
	if (type && strstr(type, "application/x-www-form-urlencoded"))
		json_object_set_new(v, "form", hp_fake_form(rq->body));
	if (json_object_set_new_nocheck(v, "method", json_string_nocheck(rq->method)) |
	    json_object_set_new_nocheck(v, "path", json_string_nocheck(rq->path)) |
	    json_object_set_new(v, "headers", headers) | json_object_set_new(v, "query", query) |
	    json_object_set(v, "params", params)) {
		json_decref(v);
		return NULL;
	}
	return v;
}

static const struct hp_fake_route *find_route(const struct hp_fake *f, const struct hp_fake_request *rq,
					      json_t *params)
{
	int i;

	for (i = 0; i < f->n_routes; i++)
		if (strcmp(f->routes[i].method, rq->method) == 0 &&
		    hp_fake_path_match(f->routes[i].path, rq->path, NULL)) {
			hp_fake_path_match(f->routes[i].path, rq->path, params);
			return &f->routes[i];
		}
	return NULL;
}

/* Calls fn and, only when its answer is good too, keeps what it did. */
static int call_and_commit(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_call *c,
			   struct hp_fake_response *rs, bool route, struct hp_error *err)
{
	json_t *done;
	int rc;

	if (hp_fake_call(f, c, err) < 0)
		return -1;
	if (route && c->reset) {
		rs->reset = true;
	} else if (route || json_is_object(c->reply)) {
		if (respond_reply(f, rs, c->reply, err) < 0)
			return -1;
	} else {
		done = json_pack("{s:b}", "ok", 1);
		rc = respond_json(f, rs, 200, done, err);
		json_decref(done);
		if (rc < 0)
			return -1;
	}
	rs->delay_us = c->delay_us;
	return hp_fake_commit(f, c, rq->method, rq->path, err);
}

/* A failure of the fake's own code is an answer, 500, with its file and line. */
static int serve(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_response *rs, int fn,
		 json_t *arg, bool route, struct hp_error *err)
{
	struct hp_fake_call c = {.fn = fn, .arg = arg, .now = rq->now};
	struct hp_error why = {0};
	int rc = 0;

	if (route)
		c.body = (struct hp_bytes){rq->body.p ? rq->body.p : "", rq->body.n};
	if (call_and_commit(f, rq, &c, rs, route, &why) < 0) {
		memset(rs, 0, sizeof *rs);
		rc = respond_error(f, rs, 500, why.message, err);
	}
	hp_fake_call_free(&c);
	return rc;
}

static int serve_route(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_response *rs,
		       struct hp_error *err)
{
	json_t *params = json_object(), *arg = NULL;
	const struct hp_fake_route *r = find_route(f, rq, params);
	char message[300];
	int rc;

	if (!r) {
		snprintf(message, sizeof message, "no route for %s %s", rq->method, rq->path);
		rc = respond_error(f, rs, 404, message, err);
		goto out;
	}
	arg = request_json(rq, params);
	if (!arg)
		rc = hp_fail(err, HP_E_NOMEM, "no memory for a request");
	else
		rc = serve(f, rq, rs, r->fn, arg, true, err);
out:
	json_decref(arg);
	json_decref(params);
	return rc;
}

/* ---- the door of tests ---- */

static int control_reset(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_error *err)
{
	json_t *old = f->state;

	f->state = hp_fake_state_new();
	if (f->state && hp_fake_init_db(f, rq->now, err) == 0) {
		json_decref(old);
		return 0;
	}
	json_decref(f->state);
	f->state = old;
	return -1;
}

static int control_faults(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_error *err)
{
	json_t *fault;
	int rc;

	if (strcmp(rq->method, "DELETE") == 0)
		return json_array_clear(json_object_get(f->state, "faults"));
	fault = hp_json_parse(rq->body.p, rq->body.n, "the fault", err);
	if (!fault)
		return -1;
	rc = hp_fake_fault_add(f, fault, err);
	json_decref(fault);
	return rc;
}

static int control_emit(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_response *rs,
			struct hp_error *err)
{
	json_t *event;
	int rc;

	if (f->emit == LUA_NOREF)
		return respond_error(f, rs, 404, "this fake has no function emit", err);
	event = hp_json_parse(rq->body.p, rq->body.n, "the event", err);
	if (!event)
		return respond_error(f, rs, 400, err->message, err);
	rc = serve(f, rq, rs, f->emit, event, false, err);
	json_decref(event);
	return rc;
}

static int control(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_response *rs,
		   struct hp_error *err)
{
	const char *what = rq->path + strlen("/_fake/");
	bool post = strcmp(rq->method, "POST") == 0;
	struct hp_error why = {0};
	json_t *done;
	int rc;

	if (strcmp(what, "state") == 0 && strcmp(rq->method, "GET") == 0)
		return respond_json(f, rs, 200, f->state, err);
	if (strcmp(what, "emit") == 0 && post)
		return control_emit(f, rq, rs, &why) < 0 ? hp_fail(err, why.code, "%s", why.message) : 0;
	if (strcmp(what, "reset") == 0 && post)
		rc = control_reset(f, rq, &why);
	else if (strcmp(what, "faults") == 0 && (post || strcmp(rq->method, "DELETE") == 0))
		rc = control_faults(f, rq, &why);
	else
		return respond_error(f, rs, 404,
				     "there is GET /_fake/state; POST /_fake/faults, /_fake/reset, "
				     "/_fake/emit; DELETE /_fake/faults", err);
	if (rc < 0)
		return respond_error(f, rs, hp_code_http(why.code), why.message, err);
	done = json_pack("{s:b}", "ok", 1);
	rc = respond_json(f, rs, 200, done, err);
	json_decref(done);
	return rc;
}

/* ---- faults ---- */

static int64_t fault_seconds(const json_t *fault, double fallback)
{
	const json_t *s = json_object_get(fault, "seconds");

	return (int64_t)((s ? json_number_value(s) : fallback) * (double)HP_SECOND);
}

/* body: a text as it is, anything else as JSON; none: {}. */
static int respond_fault(struct hp_fake *f, struct hp_fake_response *rs, const json_t *fault,
			 struct hp_error *err)
{
	json_t *reply, *body = json_object_get(fault, "body");
	int rc;

	reply = json_pack("{s:I, s:O*, s:O*}", "status", (json_int_t)hp_json_int(fault, "status", 500),
			  json_is_string(body) ? "body" : "json", body, "headers",
			  json_object_get(fault, "headers"));
	if (!reply)
		return hp_fail(err, HP_E_NOMEM, "no memory for a fault");
	if (!body)
		json_object_set_new(reply, "json", json_object());
	rc = respond_reply(f, rs, reply, err);
	json_decref(reply);
	return rc;
}

/* Bends the answer of a request that was served. */
static void bend_answer(struct hp_fake_response *rs, const char *kind, const json_t *fault)
{
	if (strcmp(kind, "slow") == 0) {
		rs->delay_us += fault_seconds(fault, SLOW_SECONDS);
	} else {
		rs->reset = true;
		if (strcmp(kind, "lost_reply") == 0)
			rs->delay_us += fault_seconds(fault, LOST_SECONDS);
	}
}

int hp_fake_handle(struct hp_fake *f, const struct hp_fake_request *rq, struct hp_fake_response *rs,
		   struct hp_error *err)
{
	json_t *fault = NULL;
	const char *kind = NULL;
	int rc;

	memset(rs, 0, sizeof *rs);
	hp_arena_reset(f->reply_arena);
	hp_buf_clear(&f->body);
	if (strncmp(rq->path, "/_fake/", 7) == 0)
		return control(f, rq, rs, err);
	fault = json_incref(hp_fake_fault_find(f, rq->method, rq->path, false));
	if (fault) {
		kind = hp_json_str(fault, "kind");
		hp_fake_fault_used(f, fault);
	}
	if (kind && strcmp(kind, "reset_before") == 0) {
		rs->reset = true;
		rc = 0;
	} else if (kind && strcmp(kind, "status") == 0) {
		rc = respond_fault(f, rs, fault, err);
	} else {
		rc = serve_route(f, rq, rs, err);
		if (rc == 0 && kind)
			bend_answer(rs, kind, fault);
	}
	if (rc == 0)
		rc = hp_fake_journal(f, rq, rs->reset ? 0 : rs->status, kind, err);
	json_decref(fault);
	return rc;
}

const char *hp_fake_secret_prefix(const char *secret)
{
	static const char *const known[][2] = {
		{"STRIPE_SECRET_KEY", "sk_test_"}, {"STRIPE_WEBHOOK_SECRET", "whsec_"},
		{"DUFFEL_ACCESS_TOKEN", "duffel_test_"}, {"RESEND_API_KEY", "re_"}, {"RESEND_WEBHOOK_SECRET", "whsec_"},
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i][0], secret) == 0)
			return known[i][1];
	return "";
}
