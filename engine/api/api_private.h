/* api_private.h: what the files of api/ share.
 *
 *   api.c      attach, the way of a request, answers and errors
 *   routes.c   the table of routes, matching, query and body against their fields
 *   auth.c     Bearer token → principal, remembered for a few seconds
 *   doors.c    the general handler: one store door per route
 *   tokens.c   making and revoking tokens
 *   secrets.c  setting, promoting and retiring secrets
 *   start.c    POST /api/v1/runs
 *   deploy.c   POST /api/v1/workflows
 *   webhook.c  POST /api/webhooks/{source}
 *   health.c   /livez, /readyz, /metrics
 *
 * A request is one struct api_request from the handler's call to its answer. It
 * is freed by api_answer() and its kin; nobody touches it afterwards.
 */
#ifndef HP_API_API_PRIVATE_H
#define HP_API_API_PRIVATE_H

#include <jansson.h>
#include "api/api.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "runtime/server.h"

#define API_ARENA_MAX ((size_t)8 * 1024 * 1024)
#define API_AUTH_SLOTS 256
#define API_AUTH_LIFE (5 * HP_SECOND) /* a token revoked elsewhere works this long at most */
#define API_FIELDS_MAX 20
#define API_TOKEN_MAX 512

enum api_type {
	API_STRING = 1,
	API_INT,     /* a whole number; in a query as decimal digits */
	API_ANY,     /* any JSON value; bodies only */
	API_OBJECT,  /* bodies only */
	API_STRINGS, /* array of strings; bodies only */
	API_BOOL,    /* bodies only */
};

struct api_field {
	const char *name;
	enum api_type type;
	bool required;
};

struct api_request;
typedef void (*api_handler)(struct api_request *rq);

struct api_route {
	const char *method;
	const char *path;   /* "{id}" matches a number, "{name}" a word */
	const char *scope;  /* NULL: open to all */
	bool no_agents;
	struct api_field fields[API_FIELDS_MAX]; /* of the query (GET) or the body (POST) */
	bool raw_body;      /* bytes, looked at by the handler */
	api_handler handler;
	/* for api_door() */
	const char *door;
	const char *id_name;             /* argument that gets {id} */
	const char *name_name;           /* argument that gets {name} */
	const char *constant[2];         /* one more argument: name, value */
	/* called with the door's answer, before it is sent; json.p NULL: it failed */
	void (*heard)(struct api_request *rq, struct hp_bytes json);
	enum hp_crash_label before, after; /* HP_CRASH__COUNT: none */
};

/* Who asks. Strings are in the request's arena. */
struct api_principal {
	const char *name, *kind;
	const char *scopes; /* " read start " */
};

struct api_request {
	struct hp_api *api;
	struct hp_http_call *call;
	struct hp_arena *arena;
	const struct api_route *route;
	int64_t id;           /* {id} */
	const char *name;     /* {name} */
	json_t *args;         /* object: the query's or body's fields, checked */
	struct api_principal who;
	uint8_t token[HP_SHA256_LEN];
	int64_t began;        /* boot clock */
	void *state;          /* the handler's own, in the arena */
	void (*done)(struct api_request *rq); /* frees what `state` holds outside the arena; may be NULL */
};

struct api_auth {
	uint8_t token[HP_SHA256_LEN];
	int64_t id;    /* the token's number */
	int64_t until; /* boot clock; 0: empty */
	char name[201], kind[16], scopes[96];
};

struct hp_api {
	struct hp_server *server;
	int open;     /* requests not yet answered */
	bool closing;
	struct api_auth auth[API_AUTH_SLOTS]; /* place by the hash's first byte */
	uint64_t forgotten; /* how often api_auth_forget() was called */
};

/* ---- api.c: each of these ends the request ---- */
void api_answer(struct api_request *rq, int status, const char *content_type, struct hp_bytes body);
void api_answer_json(struct api_request *rq, int status, struct hp_bytes json);
void api_answer_error(struct api_request *rq, const struct hp_error *err);
/* Of a question only: without its answer nothing was done, so 503 and not 504. */
void api_answer_not_read(struct api_request *rq, const struct hp_error *err);
void api_answer_fail(struct api_request *rq, enum hp_code code, const char *hint, const char *fmt, ...)
	HP_PRINTF(4, 5);
/* Appends {"error":{…}}. */
void api_error_json(struct hp_buf *out, const struct hp_error *err);
struct hp_store *api_store(const struct api_request *rq);

/* ---- routes.c ---- */
/* Fills rq->route. false: answered (404, 405). */
bool api_route_find(struct api_request *rq);
/* Query and body into rq->args. */
int api_route_args(struct api_request *rq, struct hp_error *err) HP_MUST_CHECK;

/* ---- auth.c ---- */
/* Calls next(rq) when the caller may use the route; else answers. */
void api_authenticate(struct api_request *rq, api_handler next);
/* The token of this number has been revoked. */
void api_auth_forget(struct hp_api *api, int64_t id);

/* ---- handlers ---- */
void api_door(struct api_request *rq);
void api_token(struct api_request *rq);
void api_token_made(struct api_request *rq, struct hp_bytes json);
void api_token_revoked(struct api_request *rq, struct hp_bytes json);
void api_secret_set(struct api_request *rq);
void api_secret_which(struct api_request *rq);
void api_secret_rekey(struct api_request *rq);
void api_secret_promoted(struct api_request *rq, struct hp_bytes json);
void api_secret_retired(struct api_request *rq, struct hp_bytes json);
void api_start(struct api_request *rq);
void api_deploy(struct api_request *rq);
void api_webhook(struct api_request *rq);
void api_livez(struct api_request *rq);
void api_readyz(struct api_request *rq);
void api_metrics(struct api_request *rq);

/* Canonical text of a JSON value in the request's arena. */
int api_text(struct api_request *rq, const json_t *v, struct hp_bytes *out, struct hp_error *err) HP_MUST_CHECK;

static inline void api_crash(enum hp_crash_label label)
{
	if (__builtin_expect(hp_crash_armed, 0) && label != HP_CRASH__COUNT)
		hp_crash_visit(label);
}

#endif
