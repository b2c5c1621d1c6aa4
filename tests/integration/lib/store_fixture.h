/* store_fixture.h: a migrated database of its own and blocking calls on the store,
 * for the integration tests of the PostgreSQL store. HP_TEST_PG is the conninfo of
 * a throw-away cluster, as a superuser.
 */
#ifndef TESTS_STORE_FIXTURE_H
#define TESTS_STORE_FIXTURE_H

#include <check.h>
#include <ev.h>
#include <libpq-fe.h>
#include "base/arena.h"
#include "base/limits.h"
#include "store/store.h"

struct fx {
	struct ev_loop *loop;
	struct hp_arena *arena; /* everything the blocking calls give back */
	PGconn *super;          /* in the new database */
	char db[64];
	char super_info[512], engine_info[600], workflow_info[600];
	struct hp_store *store;
	int64_t engine;
};

struct fx_commit {
	int n, calls;
	struct hp_commit_result res[1024];
	struct hp_error error; /* of the last refused row */
};

/* Makes the database and, unless conninfo says otherwise, a store on it. */
void fx_open(struct fx *f);
void fx_close(struct fx *f);
struct hp_store *fx_store(struct fx *f, const char *conninfo, bool pooled);
void fx_store_free(struct fx *f, struct hp_store *s); /* frees and lets the loop end it */
/* Runs the loop until *flag is not 0; fails the test after 30 s. */
void fx_until(struct fx *f, const int *flag);
void fx_turn(struct fx *f, double seconds);

/* SQL as superuser; the first field as text, "" when there is no row. */
const char *fx_sql(struct fx *f, const char *fmt, ...) HP_PRINTF(2, 3);
int64_t fx_int(struct fx *f, const char *fmt, ...) HP_PRINTF(2, 3);
/* Pages a statement touches, by its plan. */
int64_t fx_pages(struct fx *f, const char *sql);
/* That many parked runs of workflow "w" in that phase; due: an expression over the run's id. */
void fx_park_many(struct fx *f, int n, enum hp_phase phase, const char *due);
/* A second session: other roles, lock holders. */
PGconn *fx_session(struct fx *f, const char *user);
/* SQLSTATE of a statement on that session, "" when it went well. */
const char *fx_state(struct fx *f, PGconn *c, const char *sql);

int64_t fx_register(struct fx *f, struct hp_store *s, int64_t lease_us);
void fx_deploy(struct fx *f, const char *workflow, const char *summary);
/* Copies that live as long as the fixture. */
struct hp_claimed *fx_claim(struct fx *f, struct hp_store *s, int64_t engine, int max, int *n);
struct hp_claimed *fx_reload(struct fx *f, int64_t run, int32_t epoch);
int64_t fx_start(struct fx *f, const char *workflow, const char *input, const char *key, bool own,
		 struct hp_claimed *claimed, bool *existed);
/* The JSON, or NULL with *err filled. */
const char *fx_door(struct fx *f, const char *name, const char *principal, const char *args, struct hp_error *err);
void fx_commit(struct fx *f, struct hp_store *s, const struct hp_transition *const *t, int n, struct fx_commit *out);
enum hp_commit_outcome fx_commit1(struct fx *f, const struct hp_transition *t);

/* A transition from the run as claimed: same visit, rev + 1, nothing else. */
struct hp_transition fx_from(const struct hp_run *run, enum hp_move move, enum hp_disposition d);
/* …and takes it as done. */
void fx_done(struct hp_run *run, const struct hp_transition *t);

#endif
