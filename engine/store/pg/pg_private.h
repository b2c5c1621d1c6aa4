/* pg_private.h: what the files of the PostgreSQL store share.
 *
 *   store_pg.c   connections, calls, engines, definitions, the table of operations
 *   claim.c      reading claimed runs; claim, reload, release, start, ingest
 *   commit.c     batches of transitions: bisecting, lost acknowledgements
 *   encode.c     transitions as the arrays of holdpoint.commit()
 *   sql_state.c  the author's statements in their own transactions
 *   sql_sweep.c  the pages of a sweep; sql_tx.h what both share
 *
 * What is written is decided by the functions of migrations/holdpoint; this
 * room encodes, sends, decodes, and knows what to do when an answer is missing.
 *
 * Every unit sent to the database belongs to a `struct pgs_call`. The store is
 * freed only when the last call has ended, so a call may always touch it.
 */
#ifndef HP_STORE_PG_PRIVATE_H
#define HP_STORE_PG_PRIVATE_H

#include "base/alloc.h"
#include "base/arena.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/list.h"
#include "net/pg.h"
#include "store/store.h"

#define PGS_COMMIT_CONNECTIONS_MAX 8
/* Claims whose acknowledgement was lost, remembered until the old backend is
 * surely gone (its statement_timeout is 30 s). */
#define PGS_LOST_MAX 64
#define PGS_LOST_KEEP_US (120 * INT64_C(1000000))

struct pgs_lost {
	int64_t number;
	int64_t at; /* boottime */
};

struct hp_store_pg {
	struct hp_store base;
	struct ev_loop *loop;
	bool closing;
	int pending; /* calls that have not ended */
	struct hp_pg *beat;  /* heartbeats, and hints unless pooled */
	void (*secrets)(void *arg, int64_t serial);
	void *secrets_arg;
	void (*hint)(void *arg); /* NULL: nobody wants any */
	void *hint_arg;
	struct hp_pg *work;  /* claims, definitions */
	struct hp_pg *intake; /* starts, webhooks: one that waits for a lock (an application's
			       * open transaction has the key or the mailbox) holds up no claim */
	struct hp_pg *doors; /* people's questions: a slow list holds up nothing; upkeep */
	bool tending;        /* upkeep is under way */
	struct hp_pg *commits[PGS_COMMIT_CONNECTIONS_MAX];
	int n_commits;
	struct hp_list deferred; /* calls that could not even be submitted */
	ev_timer turn;           /* ends them in the next loop turn */

	int64_t owning; /* number of the last call that takes runs */
	struct pgs_lost lost[PGS_LOST_MAX];
	int n_lost;

	struct hp_seldom away; /* lost connections */
	bool refusing;        /* writes: a full disk, read only */
	int64_t refused_at;   /* boot clock, the last time */
	char refusal[200];

	char *sql_conninfo; /* NULL: no sql states here */
	char *application;
	struct pgs_sql *sql[HP_SQL_STATE_CONNECTIONS];
	struct hp_list sql_queue; /* statements that wait for a connection */
};

struct pgs_call {
	struct hp_list link; /* in deferred */
	bool authors;        /* an author's statement: what it fails with may be another server's, or made up */
	struct hp_store_pg *s;
	/* Ends the call; it is freed afterwards. Called once per unit. */
	void (*fn)(struct pgs_call *c, const struct hp_pg_reply *r);
	void *arg;
	union {
		hp_engine_cb engine;
		hp_ack_cb ack;
		hp_claim_cb claim;
		hp_start_cb start;
		hp_ingest_cb ingest;
		hp_door_cb door;
		hp_bundle_cb bundle;
	} cb;
	int64_t number; /* owning calls: see pgs_owning() */
	struct hp_error error; /* deferred: why */
};

static inline struct hp_store_pg *pgs_of(struct hp_store *s)
{
	return (struct hp_store_pg *)(void *)s;
}

/* store_pg.c */
/* size: of the struct that begins with a pgs_call. Never NULL: without memory
 * for a call nobody can be told, so the process ends and its lease is taken over. */
void *pgs_call_new(struct hp_store_pg *s, size_t size, void (*fn)(struct pgs_call *, const struct hp_pg_reply *),
		   void *arg);
/* Takes unit and call. unit NULL: out of memory. */
void pgs_send(struct hp_pg_unit *u, struct pgs_call *c);
/* Ends the call in the next loop turn as HP_PG_UNSENT with c->error. */
void pgs_defer(struct pgs_call *c);
/* The reply as an error of ours: SQLSTATE HPnnn are sentences for people. */
int pgs_error(const struct hp_pg_reply *r, struct hp_error *err);
/* Serialization, deadlock, lock timeout, shutdown, lost connection, disk: the
 * statement is not to blame and may be right the next time. */
bool pgs_transient(const char *sqlstate);
/* … and no other statement would fare better now: the disk is full, or the server
 * is a standby. */
bool pgs_refuses(const char *sqlstate);
/* Every answer to a statement of ours passes here: see hp_store_ops.refuses. */
void pgs_noted(struct hp_store_pg *s, const struct hp_pg_reply *r);
/* Numbers a call that takes runs, so that its runs can be given back when its
 * acknowledgement is lost. */
int64_t pgs_owning(struct hp_store_pg *s);
void pgs_owning_lost(struct hp_store_pg *s, int64_t number);
void pgs_call_end(struct pgs_call *c);

/* claim.c */
void pgs_claim(struct hp_store *s, int64_t engine, int max, hp_claim_cb cb, void *arg);
void pgs_reload(struct hp_store *s, int64_t engine, int64_t run, int32_t epoch, hp_claim_cb cb, void *arg);
void pgs_release(struct hp_store *s, int64_t engine, const int64_t *runs, const int32_t *epochs, int n,
		 hp_ack_cb cb, void *arg);
void pgs_start(struct hp_store *s, int64_t engine, const struct hp_start *st, hp_start_cb cb, void *arg);
void pgs_ingest(struct hp_store *s, int64_t engine, const struct hp_ingest *in, hp_ingest_cb cb, void *arg);

/* encode.c: binds the arguments of holdpoint.commit() in its order. idx: which of t. */
int pgs_encode(struct hp_pg_unit *u, const struct hp_transition *const *t, const int *idx, int n,
	       struct hp_error *err) HP_MUST_CHECK;
const char *pgs_commit_sql(void);     /* $1… = the arrays */
const char *pgs_sql_commit_sql(void); /* $1 = token, $2… = the arrays */

/* commit.c */
void pgs_commit(struct hp_store *s, const struct hp_transition *const *t, int n, hp_commit_cb cb, void *arg);
/* An acknowledgement of this one transition was lost elsewhere: find out. Reports
 * OK, CONFLICT (not written) or UNKNOWN; never sends it again. */
void pgs_find_out(struct hp_store_pg *s, const struct hp_transition *t, hp_commit_cb cb, void *arg);

/* sql_state.c */
void pgs_sql_run(struct hp_store *s, const struct hp_sql_state *st, hp_sql_cb cb, void *arg);
void pgs_sql_commit(struct hp_store *s, struct hp_sql_tx *tx, const char *token,
		    const struct hp_transition *t, hp_commit_cb cb, void *arg);
void pgs_sql_abort(struct hp_store *s, struct hp_sql_tx *tx);
void pgs_sql_close(struct hp_store_pg *s);

#endif
