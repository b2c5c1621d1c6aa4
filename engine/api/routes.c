/* routes.c: which requests there are, and what they may carry.
 *
 * The table is the reference: a route that is not in it does not exist, a query
 * parameter or body field that is not in its list is an error that names the
 * nearest right word. docs/reference-api.md says the same in prose.
 */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/words.h"

#define PAGE { "after", API_INT, false }, { "limit", API_INT, false }
#define REASON { "reason", API_STRING, true }
#define AGAIN { "again", API_BOOL, false } /* effects may be made again */
#define NONE HP_CRASH__COUNT
#define READ .scope = "read", .handler = api_door, .before = NONE, .after = NONE
#define OPEN .before = NONE, .after = NONE

#define OPERATE(word, action_word) \
	{ .method = "POST", .path = "/api/v1/runs/{id}/" word, .scope = "operate", .handler = api_door, \
	  .door = "operate", .id_name = "run", .constant = { "action", action_word }, \
	  .fields = { REASON, { "value", API_ANY, false } }, \
	  .before = HP_CRASH_OPERATE_BEFORE, .after = HP_CRASH_OPERATE_STORED }

#define SCHEDULE(word, door_word) \
	{ .method = "POST", .path = "/api/v1/schedules/{name}/" word, .scope = "operate", .handler = api_door, \
	  .door = door_word, .name_name = "schedule", OPEN

#define BREAKER(word) \
	{ .method = "POST", .path = "/api/v1/breakers/{name}/" word, .scope = "operate", .handler = api_door, \
	  .door = "breaker_" word, .name_name = "breaker", .fields = { REASON }, OPEN }

#define DECIDE(word) \
	{ .method = "POST", .path = "/api/v1/approvals/{id}/" word, .scope = "approve", .no_agents = true, \
	  .handler = api_door, .door = "decide", .id_name = "approval", .constant = { "decision", word }, \
	  .fields = { REASON }, .before = HP_CRASH_DECIDE_BEFORE, .after = HP_CRASH_DECIDE_STORED }

#define SECRET(word, door_word) \
	{ .method = "POST", .path = "/api/v1/secrets/{name}/" word, .scope = "admin", .no_agents = true, \
	  .handler = api_door, .door = "secret_" door_word, .name_name = "name", \
	  .fields = { { "version", API_INT, false } }, OPEN

static const struct api_route routes[] = {
	{ .method = "GET", .path = "/livez", .handler = api_livez, OPEN },
	{ .method = "GET", .path = "/readyz", .handler = api_readyz, OPEN },
	{ .method = "GET", .path = "/metrics", .handler = api_metrics, OPEN },
	{ .method = "POST", .path = "/api/webhooks/{name}", .handler = api_webhook, .raw_body = true,
	  .before = HP_CRASH_WEBHOOK_BEFORE, .after = HP_CRASH_WEBHOOK_STORED },

	{ .method = "GET", .path = "/api/v1/runs", READ, .door = "runs",
	  .fields = { { "workflow", API_STRING, false }, { "status", API_STRING, false },
		      { "key", API_STRING, false }, { "since", API_STRING, false },
		      { "until", API_STRING, false }, { "parent", API_INT, false }, PAGE } },
	{ .method = "POST", .path = "/api/v1/runs", .scope = "start", .handler = api_start,
	  .fields = { { "workflow", API_STRING, true }, { "input", API_ANY, false },
		      { "key", API_STRING, false } },
	  .before = HP_CRASH_START_BEFORE, .after = HP_CRASH_START_STORED },
	{ .method = "GET", .path = "/api/v1/runs/{id}", READ, .door = "run", .id_name = "run" },
	{ .method = "GET", .path = "/api/v1/runs/{id}/history", READ, .door = "history", .id_name = "run",
	  .fields = { PAGE } },
	{ .method = "GET", .path = "/api/v1/runs/{id}/children", READ, .door = "children", .id_name = "run",
	  .fields = { { "visit", API_INT, false }, PAGE } },
	{ .method = "GET", .path = "/api/v1/runs/{id}/why", READ, .door = "why", .id_name = "run" },
	{ .method = "POST", .path = "/api/v1/runs/{id}/cancel", .scope = "operate", .handler = api_door,
	  .door = "cancel", .id_name = "run", .fields = { REASON }, .before = HP_CRASH_OPERATE_BEFORE,
	  .after = HP_CRASH_OPERATE_STORED },
	{ .method = "POST", .path = "/api/v1/runs/{id}/pause", .scope = "operate", .handler = api_door,
	  .door = "pause", .id_name = "run", .fields = { REASON }, .before = HP_CRASH_OPERATE_BEFORE,
	  .after = HP_CRASH_OPERATE_STORED },
	{ .method = "POST", .path = "/api/v1/runs/{id}/resume", .scope = "operate", .handler = api_door,
	  .door = "resume", .id_name = "run", .fields = { { "reason", API_STRING, false } },
	  .before = HP_CRASH_OPERATE_BEFORE, .after = HP_CRASH_OPERATE_STORED },
	OPERATE("retry", "retry"),
	OPERATE("skip", "skip"),
	OPERATE("give-up", "give_up"),
	{ .method = "POST", .path = "/api/v1/runs/{id}/restart", .scope = "operate", .handler = api_door,
	  .door = "restart", .id_name = "run", .fields = { { "state", API_STRING, true }, REASON, AGAIN },
	  .before = HP_CRASH_OPERATE_BEFORE, .after = HP_CRASH_OPERATE_STORED },
	{ .method = "POST", .path = "/api/v1/runs/{id}/move", .scope = "operate", .handler = api_door,
	  .door = "move", .id_name = "run",
	  .fields = { { "to", API_STRING, true }, REASON, { "map", API_OBJECT, false }, { "at", API_STRING, false },
		      AGAIN },
	  .before = HP_CRASH_OPERATE_BEFORE, .after = HP_CRASH_OPERATE_STORED },
	{ .method = "POST", .path = "/api/v1/bulk", .scope = "operate", .handler = api_door, .door = "bulk",
	  .fields = { { "action", API_STRING, true }, { "workflow", API_STRING, false },
		      { "status", API_STRING, false }, { "state", API_STRING, false },
		      { "code", API_STRING, false }, { "since", API_STRING, false },
		      { "until", API_STRING, false }, { "reason", API_STRING, false },
		      { "dry_run", API_BOOL, false }, { "value", API_ANY, false }, { "from", API_STRING, false },
		      { "to", API_STRING, false }, { "map", API_OBJECT, false }, { "at", API_STRING, false }, AGAIN,
		      PAGE },
	  .before = HP_CRASH_OPERATE_BEFORE, .after = HP_CRASH_OPERATE_STORED },
	{ .method = "POST", .path = "/api/v1/runs/{id}/undo", .scope = "operate", .handler = api_door,
	  .door = "operate", .id_name = "run", .constant = { "action", "undo" },
	  .fields = { REASON, { "happened", API_ANY, false }, { "value", API_ANY, false } },
	  .before = HP_CRASH_OPERATE_BEFORE, .after = HP_CRASH_OPERATE_STORED },

	{ .method = "GET", .path = "/api/v1/approvals", READ, .door = "approvals",
	  .fields = { { "status", API_STRING, false }, PAGE } },
	{ .method = "GET", .path = "/api/v1/approvals/{id}", READ, .door = "approval", .id_name = "approval" },
	DECIDE("approve"),
	DECIDE("reject"),

	{ .method = "GET", .path = "/api/v1/events", READ, .door = "events",
	  .fields = { { "name", API_STRING, false }, { "key", API_STRING, false }, PAGE } },
	{ .method = "POST", .path = "/api/v1/events", .scope = "start", .handler = api_door,
	  .door = "send_event",
	  .fields = { { "name", API_STRING, true }, { "key", API_STRING, true }, { "payload", API_ANY, true } },
	  OPEN },
	{ .method = "GET", .path = "/api/v1/schedules", READ, .door = "schedules",
	  .fields = { { "workflow", API_STRING, false } } },
	{ .method = "GET", .path = "/api/v1/schedules/{name}", READ, .door = "schedule", .name_name = "schedule",
	  .fields = { { "ticks", API_INT, false } } },
	SCHEDULE("pause", "schedule_pause"), .fields = { REASON } },
	SCHEDULE("resume", "schedule_resume") },
	SCHEDULE("run", "schedule_run") },
	{ .method = "GET", .path = "/api/v1/breakers", READ, .door = "breakers" },
	{ .method = "GET", .path = "/api/v1/breakers/{name}", READ, .door = "breaker", .name_name = "breaker" },
	BREAKER("open"),
	BREAKER("close"),
	BREAKER("reset"),
	{ .method = "GET", .path = "/api/v1/budgets", READ, .door = "budgets" },
	{ .method = "GET", .path = "/api/v1/budgets/{name}", READ, .door = "budget", .name_name = "budget" },
	{ .method = "POST", .path = "/api/v1/budgets/{name}/set", .scope = "admin", .handler = api_door, .door = "budget_set",
	  .name_name = "budget", .fields = { REASON, { "limit", API_INT, true }, { "window_us", API_INT, false },
					     { "kind", API_STRING, false }, { "key", API_STRING, false } }, OPEN },
	{ .method = "POST", .path = "/api/v1/budgets/{name}/unset", .scope = "admin", .handler = api_door,
	  .door = "budget_unset", .name_name = "budget", .fields = { { "key", API_STRING, false } }, OPEN },
	{ .method = "GET", .path = "/api/v1/limits", READ, .door = "limits", .fields = { PAGE } },
	{ .method = "GET", .path = "/api/v1/workflows", READ, .door = "workflows" },
	{ .method = "POST", .path = "/api/v1/workflows", .scope = "admin", .handler = api_deploy,
	  .fields = { { "bundle", API_OBJECT, true }, { "dry_run", API_BOOL, false }, { "move_live", API_BOOL, false },
		      { "map", API_OBJECT, false }, { "reason", API_STRING, false } },
	  .before = HP_CRASH_DEPLOY_BEFORE, .after = HP_CRASH_DEPLOY_STORED },
	{ .method = "GET", .path = "/api/v1/workflows/{name}/versions", READ, .door = "versions",
	  .name_name = "workflow" },
	{ .method = "POST", .path = "/api/v1/workflows/{name}/pause", .scope = "operate", .handler = api_door,
	  .door = "workflow_pause", .name_name = "workflow", .fields = { REASON }, OPEN },
	{ .method = "POST", .path = "/api/v1/workflows/{name}/resume", .scope = "operate", .handler = api_door,
	  .door = "workflow_resume", .name_name = "workflow", .fields = { { "limit", API_INT, false } }, OPEN },
	{ .method = "GET", .path = "/api/v1/secrets", .scope = "admin", .handler = api_door, .door = "secrets",
	  .fields = { { "name", API_STRING, false } }, OPEN },
	{ .method = "POST", .path = "/api/v1/secrets/rekey", .scope = "admin", .no_agents = true,
	  .handler = api_secret_rekey, OPEN },
	{ .method = "POST", .path = "/api/v1/secrets/{name}", .scope = "admin", .no_agents = true,
	  .handler = api_secret_set,
	  .fields = { { "value", API_STRING, true }, { "state", API_STRING, false },
		      { "expires_in", API_INT, false } }, /* seconds */
	  OPEN },
	SECRET("promote", "promote"), .heard = api_secret_promoted },
	SECRET("retire", "retire"), .heard = api_secret_retired },
	{ .method = "POST", .path = "/api/v1/secrets/{name}/which", .scope = "admin", .no_agents = true,
	  .handler = api_secret_which, .fields = { { "value", API_STRING, true } }, OPEN },
	{ .method = "GET", .path = "/api/v1/gc", READ, .door = "gc_plan", .fields = { { "after", API_INT, false } } },
	{ .method = "POST", .path = "/api/v1/gc", .scope = "admin", .handler = api_door, .door = "gc",
	  .fields = { { "pass", API_BOOL, false } }, OPEN },
	{ .method = "GET", .path = "/api/v1/tokens", .scope = "admin", .handler = api_door, .door = "tokens",
	  .fields = { PAGE }, OPEN },
	{ .method = "POST", .path = "/api/v1/tokens/{id}/revoke", .scope = "admin", .handler = api_door,
	  .door = "token_revoke", .id_name = "token", .heard = api_token_revoked,
	  .fields = { { "reason", API_STRING, false } }, OPEN },
	{ .method = "POST", .path = "/api/v1/tokens", .scope = "admin", .handler = api_token,
	  .door = "token_create", .heard = api_token_made,
	  .fields = { { "principal", API_STRING, true }, { "kind", API_STRING, true },
		      { "roles", API_STRINGS, false }, { "scopes", API_STRINGS, true },
		      { "expires_in", API_INT, false } }, /* seconds */
	  OPEN },
};
#define N_ROUTES (sizeof routes / sizeof routes[0])

/* ---- which one ---- */

static size_t segment(const char *s)
{
	return strcspn(s, "/");
}

/* Both begin with '/'. Fills the request's {id} and {name}. */
static bool matches(struct api_request *rq, const char *pattern, const char *path)
{
	while (*pattern == '/' && *path == '/') {
		size_t pn = segment(++pattern), n = segment(++path);
		char *word;

		if (pn == 4 && memcmp(pattern, "{id}", 4) == 0) {
			word = hp_arena_strndup(rq->arena, path, n);
			if (!word || n > 19 || hp_int_parse(word, &rq->id) < 0 || rq->id < 1)
				return false;
		} else if (pn == 6 && memcmp(pattern, "{name}", 6) == 0) {
			rq->name = n && n <= 2 * HP_NAME_MAX + 1 ? hp_arena_strndup(rq->arena, path, n) : NULL;
			if (!rq->name)
				return false;
		} else if (pn != n || memcmp(pattern, path, n) != 0) {
			return false;
		}
		pattern += pn;
		path += n;
	}
	return *pattern == '\0' && *path == '\0';
}

static void no_route(struct api_request *rq, const char *path)
{
	const char *paths[N_ROUTES], *near;

	for (size_t i = 0; i < N_ROUTES; i++)
		paths[i] = routes[i].path;
	near = hp_nearest(path, paths, N_ROUTES);
	if (near) {
		char hint[160];

		(void)snprintf(hint, sizeof hint, "Did you mean %s?", near);
		api_answer_fail(rq, HP_E_NOT_FOUND, hint, "there is nothing at %.200s", path);
		return;
	}
	api_answer_fail(rq, HP_E_NOT_FOUND, "The routes are in docs/reference-api.md.",
			"there is nothing at %.200s", path);
}

bool api_route_find(struct api_request *rq)
{
	const char *path = hp_http_call_path(rq->call), *method = hp_http_call_method(rq->call);
	char allow[64] = "", message[256];
	struct hp_buf body;
	struct hp_error err;
	size_t n = 0;

	for (size_t i = 0; i < N_ROUTES; i++) {
		if (!matches(rq, routes[i].path, path))
			continue;
		if (strcmp(routes[i].method, method) == 0 ||
		    (strcmp(method, "HEAD") == 0 && strcmp(routes[i].method, "GET") == 0)) {
			rq->route = &routes[i];
			return true;
		}
		n += (size_t)snprintf(allow + n, sizeof allow - n, "%s%s", n ? ", " : "", routes[i].method);
		HP_ASSERT(n < sizeof allow);
	}
	if (!n) {
		no_route(rq, path);
		return false;
	}
	(void)snprintf(message, sizeof message, "%.16s is not possible at %.160s", method, path);
	(void)hp_fail(&err, HP_E_INVALID, "%s", message);
	(void)hp_error_hint(&err, "Allowed: %s.", allow);
	hp_buf_init(&body, 2048);
	api_error_json(&body, &err);
	hp_http_reply_header(rq->call, "Allow", allow);
	api_answer_json(rq, 405, hp_buf_bytes(&body));
	hp_buf_free(&body);
	return false;
}

/* ---- what it carries ---- */

static const struct api_field *field_of(const struct api_route *r, const char *name)
{
	for (const struct api_field *f = r->fields; f < r->fields + API_FIELDS_MAX && f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

static int unknown_field(const struct api_route *r, const char *what, const char *name, struct hp_error *err)
{
	const char *names[API_FIELDS_MAX], *near;
	char all[400] = "none";
	size_t n = 0, used = 0;

	for (; n < API_FIELDS_MAX && r->fields[n].name; n++) {
		names[n] = r->fields[n].name;
		used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", n ? ", " : "", names[n]);
		HP_ASSERT(used < sizeof all);
	}
	near = hp_nearest(name, names, n);
	(void)hp_fail(err, HP_E_INVALID, "unknown %s \"%.64s\"", what, name);
	if (near)
		return hp_error_hint(err, "Did you mean \"%s\"?", near);
	return hp_error_hint(err, "Known here: %s.", all);
}

struct query {
	struct api_request *rq;
	const struct api_route *fields; /* NULL: no parameter is allowed */
	struct hp_error *err;
	int rc;
};

static void query_pair(void *arg, const char *name, const char *value)
{
	static const struct api_route nothing;
	struct query *q = arg;
	const struct api_field *f = q->fields ? field_of(q->fields, name) : NULL;
	int64_t v;
	int rc;

	if (q->rc < 0)
		return;
	if (!f) {
		q->rc = unknown_field(q->fields ? q->fields : &nothing, "query parameter", name, q->err);
	} else if (json_object_get(q->rq->args, name)) {
		q->rc = hp_fail(q->err, HP_E_INVALID, "query parameter \"%s\" is there twice", name);
	} else if (f->type == API_INT) {
		q->rc = hp_int_parse(value, &v) == 0 && v >= 0
				? json_object_set_new(q->rq->args, name, json_integer(v))
				: hp_fail(q->err, HP_E_INVALID,
					  "query parameter \"%s\": \"%.64s\" is not a whole number", name, value);
	} else {
		rc = json_object_set_new(q->rq->args, name, json_string(value));
		q->rc = rc == 0 ? 0 : hp_fail(q->err, HP_E_INVALID, "query parameter \"%s\" is not UTF-8", name);
	}
}

static const char *type_word(enum api_type t)
{
	static const char *const words[] = { "", "a string", "a whole number", "a value", "an object",
					     "an array of strings", "true or false" };

	return words[t];
}

static bool has_type(const json_t *v, enum api_type t)
{
	const json_t *e;
	size_t i;

	switch (t) {
	case API_STRING:
		return json_is_string(v);
	case API_INT:
		return json_is_integer(v);
	case API_ANY:
		return true;
	case API_OBJECT:
		return json_is_object(v);
	case API_BOOL:
		return json_is_boolean(v);
	case API_STRINGS:
		json_array_foreach(v, i, e)
			if (!json_is_string(e))
				return false;
		return json_is_array(v);
	}
	return false;
}

static int check_fields(const struct api_route *r, json_t *body, struct hp_error *err)
{
	const struct api_field *f;
	const char *name;
	json_t *v;
	void *tmp;

	json_object_foreach_safe(body, tmp, name, v) {
		f = field_of(r, name);
		if (!f)
			return unknown_field(r, "field", name, err);
		if (json_is_null(v) && f->type != API_ANY) { /* null says the same as leaving it out */
			(void)json_object_del(body, name);
			continue;
		}
		if (!has_type(v, f->type))
			return hp_fail(err, HP_E_INVALID, "field \"%s\" must be %s", name, type_word(f->type));
	}
	for (f = r->fields; f < r->fields + API_FIELDS_MAX && f->name; f++)
		if (f->required && !json_object_get(body, f->name)) {
			(void)hp_fail(err, HP_E_INVALID, "field \"%s\" is missing", f->name);
			return hp_error_hint(err, "The body must be a JSON object with \"%s\": %s.", f->name,
					     type_word(f->type));
		}
	return 0;
}

/* "application/json", with or without parameters. */
static bool is_json_type(const char *type)
{
	size_t n = type ? strcspn(type, "; ") : 0;

	return n == 16 && strncasecmp(type, "application/json", n) == 0;
}

static int read_body(struct api_request *rq, struct hp_error *err)
{
	struct hp_bytes body = hp_http_call_body(rq->call);
	const char *type = hp_http_call_header(rq->call, "Content-Type");

	if (!is_json_type(type)) {
		(void)hp_fail(err, HP_E_INVALID, "the body must be JSON, and its type is %.64s",
			      type ? type : "not given");
		return hp_error_hint(err, "Send the header Content-Type: application/json.");
	}
	rq->args = hp_json_parse(body.p, body.n, "request body", err);
	if (!rq->args) {
		err->code = err->code == HP_E_NOMEM ? HP_E_NOMEM : HP_E_INVALID;
		return -1;
	}
	if (!json_is_object(rq->args))
		return hp_fail(err, HP_E_INVALID, "request body: a JSON object is expected");
	return check_fields(rq->route, rq->args, err);
}

int api_route_args(struct api_request *rq, struct hp_error *err)
{
	bool get = strcmp(rq->route->method, "GET") == 0;
	struct query q = { rq, get ? rq->route : NULL, err, 0 };

	if (rq->route->raw_body)
		return 0; /* a provider's query, if any, is none of our business */
	rq->args = json_object();
	if (!rq->args)
		return hp_fail(err, HP_E_NOMEM, "no memory for the request");
	hp_http_call_queries(rq->call, query_pair, &q);
	if (q.rc < 0 || get)
		return q.rc;
	json_decref(rq->args);
	rq->args = NULL;
	return read_body(rq, err);
}
