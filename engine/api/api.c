/* api.c: the way of a request: route, caller, arguments, handler, answer. */
#include "api/api_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

/* A long answer of a door is copied once, from the store to the connection. */
#define ERROR_BODY_MAX 8192

static const char JSON_TYPE[] = "application/json; charset=utf-8";

struct hp_store *api_store(const struct api_request *rq)
{
	return hp_server_store(rq->api->server);
}

static void request_free(struct api_request *rq)
{
	struct hp_api *api = rq->api;
	struct hp_arena *arena = rq->arena;

	if (rq->done)
		rq->done(rq);
	json_decref(rq->args);
	hp_arena_free(arena); /* rq is in it */
	api->open--;
	if (api->closing && api->open == 0)
		hp_free(api);
}

/* ---- answers ---- */

void api_answer(struct api_request *rq, int status, const char *content_type, struct hp_bytes body)
{
	const char *route = rq->route ? rq->route->path : "none";

	if (!rq->api->closing) /* else the server has gone */
		(*hp_counterf(hp_server_counters(rq->api->server),
			      "holdpoint_http_requests_total{route=\"%s\",status=\"%dxx\"}", route,
			      status / 100))++;
	hp_log(status >= 500 ? HP_WARN : HP_DEBUG, "request", "method",
	       HP_STR(hp_http_call_method(rq->call)), "route", HP_STR(route), "status", HP_I64(status),
	       "principal", HP_STR(rq->who.name ? rq->who.name : ""), "us",
	       HP_I64(hp_boottime_us() - rq->began), NULL);
	hp_http_reply_header(rq->call, "Cache-Control", "no-store");
	hp_http_reply_header(rq->call, "X-Content-Type-Options", "nosniff");
	hp_http_reply(rq->call, status, content_type, body);
	request_free(rq);
}

void api_answer_json(struct api_request *rq, int status, struct hp_bytes json)
{
	api_answer(rq, status, JSON_TYPE, json);
}

void api_error_json(struct hp_buf *out, const struct hp_error *err)
{
	hp_buf_printf(out, "{\"error\":{\"code\":\"%s\",\"message\":", hp_code_name(err->code));
	hp_buf_json(out, err->message, strlen(err->message));
	if (err->hint[0]) {
		hp_buf_adds(out, ",\"hint\":");
		hp_buf_json(out, err->hint, strlen(err->hint));
	}
	hp_buf_adds(out, "}}");
}

void api_answer_error(struct api_request *rq, const struct hp_error *err)
{
	int status = hp_code_http(err->code);
	struct hp_buf body;

	if (status >= 500)
		hp_log_error(HP_WARN, "request failed", err);
	if (err->code == HP_E_UNAUTHORIZED)
		hp_http_reply_header(rq->call, "WWW-Authenticate", "Bearer");
	if (err->code == HP_E_UNAVAILABLE || err->code == HP_E_LIMIT)
		hp_http_reply_header(rq->call, "Retry-After", "1");
	hp_buf_init(&body, ERROR_BODY_MAX);
	api_error_json(&body, err);
	api_answer_json(rq, status, hp_buf_bytes(&body));
	hp_buf_free(&body);
}

void api_answer_not_read(struct api_request *rq, const struct hp_error *err)
{
	struct hp_error mine = *err;

	if (mine.code == HP_E_TIMEOUT) {
		mine.code = HP_E_UNAVAILABLE;
		mine.hint[0] = 0;
	}
	api_answer_error(rq, &mine);
}

void api_answer_fail(struct api_request *rq, enum hp_code code, const char *hint, const char *fmt, ...)
{
	struct hp_error err;
	char message[sizeof err.message];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	(void)hp_fail(&err, code, "%s", message);
	if (hint)
		(void)hp_error_hint(&err, "%s", hint);
	api_answer_error(rq, &err);
}

int api_text(struct api_request *rq, const json_t *v, struct hp_bytes *out, struct hp_error *err)
{
	struct hp_buf b;
	int rc = -1;

	hp_buf_init(&b, API_ARENA_MAX / 2);
	if (hp_json_write(&b, v, err) < 0)
		goto out;
	out->n = b.n;
	out->p = hp_arena_strndup(rq->arena, hp_buf_str(&b), b.n);
	rc = out->p ? 0 : hp_fail(err, HP_E_NOMEM, "no memory for the request");
out:
	hp_buf_free(&b);
	return rc;
}

/* ---- the way ---- */

static void with_caller(struct api_request *rq)
{
	struct hp_error err;

	if (api_route_args(rq, &err) < 0)
		api_answer_error(rq, &err);
	else
		rq->route->handler(rq);
}

static void on_call(void *arg, struct hp_http_call *call)
{
	static const char no_memory[] =
		"{\"error\":{\"code\":\"no_memory\",\"message\":\"no memory for the request\"}}";
	struct hp_api *api = arg;
	struct hp_arena *arena = hp_arena_new(API_ARENA_MAX);
	struct api_request *rq = arena ? hp_arena_alloc(arena, sizeof *rq) : NULL;

	if (!rq) {
		hp_arena_free(arena);
		hp_http_reply(call, 503, JSON_TYPE, hp_bytes_of(no_memory));
		return;
	}
	rq->api = api;
	rq->call = call;
	rq->arena = arena;
	rq->began = hp_boottime_us();
	api->open++;
	if (!api_route_find(rq))
		return; /* answered, and freed */
	if (rq->route->scope)
		api_authenticate(rq, with_caller);
	else
		with_caller(rq);
}

struct hp_api *hp_api_attach(struct hp_server *s, struct hp_error *err)
{
	struct hp_api *api = hp_calloc(1, sizeof *api);

	if (!api) {
		(void)hp_fail(err, HP_E_NOMEM, "no memory for the HTTP doors");
		return NULL;
	}
	api->server = s;
	hp_server_set_handler(s, on_call, api);
	return api;
}

void hp_api_free(struct hp_api *api)
{
	if (!api)
		return;
	api->closing = true; /* requests that wait for the store free it with the last answer */
	if (api->open == 0)
		hp_free(api);
}
