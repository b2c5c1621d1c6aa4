/* fake_internal.h: what the files of a simulated provider share.
 *
 *   fake.c        loading fake.lua, calling its functions, ctx
 *   fake_http.c   requests in, responses out: routes, faults, /_fake/…
 *   fake_state.c  what survives a kill: journal, faults, outbox
 *   fake_form.c   application/x-www-form-urlencoded, and paths with :params
 *
 * The whole state is one JSON document:
 *   {"db": {…}, "seq": n, "requests": […], "requests_total": n, "faults": […],
 *    "outbox": […], "given_up": […]}
 */
#ifndef HP_SCRIPT_FAKE_INTERNAL_H
#define HP_SCRIPT_FAKE_INTERNAL_H

#include <stdbool.h>
#include "base/arena.h"
#include "base/json.h"
#include "script/sandbox.h"
#include "script/script.h"

#define HP_FAKE_REQUESTS_MAX 10000
#define HP_FAKE_OUTBOX_MAX 10000
#define HP_FAKE_FAULTS_MAX 1000
#define HP_FAKE_WEBHOOKS_MAX 100  /* queued by one request */
#define HP_FAKE_TRIES_MAX 50
#define HP_FAKE_STATE_MAX (64u * 1024 * 1024)
#define HP_FAKE_RESPONSE_MAX (4u * 1024 * 1024)

struct hp_fake_route {
	const char *method, *path;
	int fn;              /* registry reference */
};

/* One call of a function of fake.lua. Its results count only when it succeeds. */
struct hp_fake_call {
	int fn;              /* registry reference */
	const json_t *arg;   /* request or event; NULL: none (init) */
	struct hp_bytes body; /* of the request: bytes, perhaps no UTF-8 */
	int64_t now;
	int64_t seq;
	json_t *webhooks;    /* queued by ctx.webhook */
	json_t *db, *reply;  /* results; reply NULL when it returned nothing */
	bool reset;
	int64_t delay_us;
};

struct hp_fake {
	char *name, *source;
	size_t source_n;
	struct hp_sandbox *sandbox;
	struct hp_arena *arena;       /* routes: lives as long as the sandbox */
	struct hp_fake_route *routes;
	int n_routes;
	int init, emit;               /* registry references or LUA_NOREF */
	struct hp_fake_call *call;    /* NULL outside a call */
	json_t *state;
	/* the response, until the next request */
	struct hp_arena *reply_arena;
	struct hp_buf body;
};

/* fake.c. A Lua error is an ordinary failure: nothing of the call counts. */
int hp_fake_call(struct hp_fake *f, struct hp_fake_call *c, struct hp_error *err) HP_MUST_CHECK;
void hp_fake_call_free(struct hp_fake_call *c);
int hp_fake_init_db(struct hp_fake *f, int64_t now, struct hp_error *err) HP_MUST_CHECK;

/* fake_state.c */
json_t *hp_fake_state_new(void);
/* Checks a stored document; takes nothing. */
int hp_fake_state_check(const json_t *state, struct hp_error *err) HP_MUST_CHECK;
/* 24 hex digits, the same for the same sequence of requests. */
#define HP_FAKE_ID_MAX 25
void hp_fake_next_id(const struct hp_fake *f, struct hp_fake_call *c, char out[HP_FAKE_ID_MAX]);
/* What ctx.webhook was given → an entry for the outbox, with the call. */
int hp_fake_queue_webhook(struct hp_fake *f, struct hp_fake_call *c, const json_t *spec,
			  struct hp_error *err) HP_MUST_CHECK;
/* db, seq and webhooks of a call that succeeded, the latter bent by faults on the request. */
int hp_fake_commit(struct hp_fake *f, struct hp_fake_call *c, const char *method, const char *path,
		   struct hp_error *err) HP_MUST_CHECK;
int hp_fake_journal(struct hp_fake *f, const struct hp_fake_request *rq, int status, const char *fault,
		    struct hp_error *err) HP_MUST_CHECK;
int hp_fake_fault_add(struct hp_fake *f, const json_t *fault, struct hp_error *err) HP_MUST_CHECK;
/* Borrowed: the first fault for this request of webhook kind or of the others. */
json_t *hp_fake_fault_find(struct hp_fake *f, const char *method, const char *path, bool webhooks);
void hp_fake_fault_used(struct hp_fake *f, json_t *fault);

/* fake_form.c */
json_t *hp_fake_form(struct hp_bytes body); /* nested; NULL: no memory or malformed */
/* "/v1/refunds/:id" against a path; fills params (may be NULL) with decoded values. */
bool hp_fake_path_match(const char *pattern, const char *path, json_t *params);

#endif
