/* drive.h: one workflow on the real machine, the in-memory store (or a real one) and a
 * clock that stands still unless it is told to move. `test` sits on top of it.
 *
 * No network, no files, no waiting: what a run asks of the world is asked of two
 * hooks. Everything is synchronous; a door or a step of time returns when no run
 * can go on by itself. Whatever a hook or the store refuses stops the world for
 * good: the same error is given from then on.
 */
#ifndef HP_TESTING_DRIVE_H
#define HP_TESTING_DRIVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "script/script.h"
#include "store/store.h"

struct hp_drive;

struct hp_drive_send {
	const char *operation;  /* "stripe.refunds.create" */
	const char *state;
	int attempt;
	bool probe;
	const char *check;      /* name of the arm whose check it is; NULL: none */
	struct hp_bytes request; /* as stored, for hp_workflow_reply() */
	const json_t *seen;      /* the request for people: path, query, body, key, … */
	int64_t now;
};
struct hp_drive_child {
	const char *workflow;
	const json_t *seen;     /* {workflow, key, input} */
};
/* A store that is not in memory (real.h). */
struct hp_drive_store {
	struct hp_store *store;   /* its owner is who made it */
	void (*turn)(void *arg);  /* lets it work; called until what was asked is answered */
	void (*clock)(void *arg, int64_t now);
	void (*principal)(void *arg, const char *name, const char *kind, const char *roles);
	void *arg;
};
struct hp_drive_hooks {
	/* Fills ev as HP_EV_REPLY; its texts live until the next call (out is for them). */
	int (*reply)(void *arg, const struct hp_drive_send *s, struct hp_buf *out, struct hp_event *ev,
		     struct hp_error *err);
	/* args: {"args": […], "user": …}. Texts of rows live until the next call. */
	int (*sql)(void *arg, const struct hp_state *state, const json_t *args, struct hp_sql_rows *rows,
		   struct hp_error *err);
	/* How a child of `run` or `each` ends: ev as of reply (OK: value is its result); none: it
	 * goes on for ever. NULL: no child can be started. */
	int (*child)(void *arg, const struct hp_drive_child *c, struct hp_buf *out, struct hp_event *ev,
		     struct hp_error *err);
	void *arg;
	/* NULL: the run's home is in memory, and `sql` answers its statements. Else they are run
	 * there, and `ran` looks at what came of each: is = as of reply, none as of hp_sql_rows. */
	const struct hp_drive_store *real;
	int (*ran)(void *arg, const struct hp_state *state, const json_t *args, const struct hp_event *is,
		   struct hp_error *err);
};

/* What hp_drive_new() wants to know of the workflow: made once, for many worlds. */
int hp_drive_summary(struct hp_workflow *w, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;
struct hp_drive *hp_drive_new(struct hp_workflow *w, struct hp_bytes summary, const struct hp_drive_hooks *hooks,
			      int64_t now, struct hp_error *err);
void hp_drive_free(struct hp_drive *d);

/* A run from an input (key NULL: the workflow's own). Only one run per world. */
int hp_drive_start(struct hp_drive *d, const json_t *input, const char *key, const char *requester,
		   struct hp_error *err) HP_MUST_CHECK;
int64_t hp_drive_run(const struct hp_drive *d); /* 0: not started */
int64_t hp_drive_now(const struct hp_drive *d);
bool hp_drive_stopped(const struct hp_drive *d);
void hp_drive_principal(struct hp_drive *d, const char *name, const char *kind, const char *roles);
/* Others have spent so much of a budget just now. */
int hp_drive_spend(struct hp_drive *d, const char *budget, const char *key, int64_t amount, struct hp_error *err) HP_MUST_CHECK;
/* A door of the store (store.h), then all that it made ready. From within the reply
 * hook the run in flight goes on first. */
int hp_drive_door(struct hp_drive *d, const char *name, const char *principal, const json_t *args,
		  struct hp_error *err) HP_MUST_CHECK;
/* The clock moves, timer by timer, to now + us. */
int hp_drive_pass(struct hp_drive *d, int64_t us, struct hp_error *err) HP_MUST_CHECK;
/* … until no attempt or probe is to come: the engine's own pauses are over. */
int hp_drive_settle(struct hp_drive *d, struct hp_error *err) HP_MUST_CHECK;

/* All that can be known of the run: status, state, path, saved, result, effects,
 * statements, approval, waiting, … Owner: caller. */
json_t *hp_drive_facts(struct hp_drive *d, struct hp_error *err);
/* Adds `why`: the store's sentence, which takes it a while to find. */
void hp_drive_why(struct hp_drive *d, json_t *facts);
/* What happened, in order: [{"at", "move", …}]. Borrowed. */
const json_t *hp_drive_timeline(const struct hp_drive *d);

/* A stored request as people want to see it: query and body decoded. Owner: caller. */
json_t *hp_drive_seen(struct hp_bytes request);
/* a=b&c=d → an object of texts; a text without its escapes. Owner: caller. */
json_t *hp_drive_form(const char *p, size_t n);
json_t *hp_drive_unescaped(const char *p, size_t n);

#endif
