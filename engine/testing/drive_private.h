/* drive_private.h: what drive.c (the world and its doors), drive_run.c (one run
 * through hp_step), drive_child.c (its children) and facts.c (what can be known of it) share. */
#ifndef HP_TESTING_DRIVE_PRIVATE_H
#define HP_TESTING_DRIVE_PRIVATE_H

#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "store/mem/mem.h"
#include "testing/drive.h"

/* Steps without time passing: a circle that `check` did not see ends here. */
#define DRIVE_CLAIMS_MAX 20000
#define DRIVE_TIMELINE_MAX 20000

struct hp_drive {
	struct hp_workflow *w;
	const struct hp_definition *def;
	struct hp_store *store;
	struct hp_drive_hooks hooks;
	int64_t now, started_at;
	int64_t engine, run;
	char installation[40];
	bool driving;            /* a run is being stepped: doors do not step it again */
	bool in_sql;             /* inside the sql hook: no doors at all */
	struct hp_error stopped; /* code not HP_OK: the world stands still */

	/* the run as last committed, for facts */
	struct hp_run last;
	json_t *path, *effects, *statements, *children, *undone, *timeline;
	int32_t seen_visit;

	/* answers of the store */
	struct hp_arena *claim;  /* what was claimed, until driven */
	struct hp_claimed claimed;
	bool has_claimed;
	struct hp_commit_result committed;
	struct hp_error refused;
	struct hp_sql_tx *tx;
	struct hp_event sql_reply;
	bool answered;           /* what was asked of the store */
	json_t *door_reply;
	struct hp_error door_error;

	/* the run in hand */
	struct hp_machine m;
	json_t *saved;
	struct hp_buf saved_text, scratch;
	struct hp_buf kept;      /* hp_transition.keep */
	struct hp_arena *step[2]; /* as the worker's: used until the commit after next */
	int turn;
	int refusals;
	int32_t sql_state;
};

/* The first reason counts; returns -1 with it in err. */
int hp_d_stop(struct hp_drive *d, const struct hp_error *why, struct hp_error *err);
void hp_d_note(struct hp_drive *d, json_t *row); /* steals; adds the time */
/* Lets the store work until the callback of what was asked (one thing) has been called. */
void hp_d_await(struct hp_drive *d);
/* A door that only looks; NULL: refused. Owner: caller. */
json_t *hp_d_ask(struct hp_drive *d, const char *door, const char *args);
/* Steps the claimed run until it is parked, finished, or the world has stopped. */
int hp_d_drive(struct hp_drive *d, struct hp_error *err) HP_MUST_CHECK;
/* The claimed run is a child: it ends as the hook says. */
int hp_d_child(struct hp_drive *d, struct hp_error *err) HP_MUST_CHECK;
/* Makes the workflows that `run` and `each` name known to the store. */
int hp_d_deploy_children(struct hp_drive *d, struct hp_error *err) HP_MUST_CHECK;
/* What the store answers to one thing. */
void hp_d_on_ack(void *arg, int64_t now, const struct hp_error *err);
void hp_d_on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n);
/* What was claimed, or read again, becomes the run in hand. */
void hp_d_on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err);
/* The value of the event (REPLY, or VALUE of a verdict) brings secrets: they are put apart. */
void hp_d_secrets(struct hp_drive *d, int state, struct hp_event *ev);
/* The in-memory store's hook for `sql` states; arg is the drive. */
void hp_d_sql_run(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows);

#endif
