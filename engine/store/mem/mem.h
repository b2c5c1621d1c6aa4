/* mem.h: the in-memory store's hooks for tests, `test` and `explore`.
 *
 * hp_store_mem_new() (store.h) makes a store that means the same as PostgreSQL's.
 * This header adds what only a simulated one can do: decide the fate of each commit,
 * keep answers back, lose them, answer `sql` states, and branch.
 *
 * Everything is deterministic: ids count from 1, tokens and the installation are
 * derived, time is the caller's. Two stores given the same calls dump the same text.
 * Being a tool for tests, it stops the process when memory runs out.
 */
#ifndef HP_STORE_MEM_MEM_H
#define HP_STORE_MEM_MEM_H

#include "store/store.h"

/* What happens to one transition. Returned by a hook for every transition that
 * would otherwise simply be tried; the checks of epoch, rev and data come after. */
enum hp_mem_fate {
	HP_MEM_TRY = 0,  /* as the rules say */
	HP_MEM_CONFLICT, /* nothing is written, CONFLICT is reported */
	HP_MEM_FAIL,     /* the connection broke before the commit: nothing written, UNKNOWN */
	HP_MEM_ACK_LOST, /* it broke after the commit: written, UNKNOWN */
	HP_MEM_LATE,     /* written; the answer waits for hp_mem_deliver_late() */
};
typedef enum hp_mem_fate (*hp_mem_fate_fn)(void *arg, const struct hp_transition *t);
void hp_mem_set_fate(struct hp_store *s, hp_mem_fate_fn fn, void *arg); /* NULL: always TRY */

/* Moves kept answers into the queue of hp_store_ops.pump; returns how many. */
int hp_mem_deliver_late(struct hp_store *s);
/* The process that waited died: its answers, queued and kept, are never delivered. */
int hp_mem_drop_answers(struct hp_store *s);
/* The memory of answers is used again instead of freed: quicker, but a sanitizer no longer
 * finds a callback that keeps what it had only borrowed. */
void hp_mem_reuse_answers(struct hp_store *s);
/* Answers queued and kept back. */
int hp_mem_pending(const struct hp_store *s);

/* `sql` states: the test plays the database. `run` fills *rows (its pointers must
 * stay valid until the callback ran; rows->tx is ours). `end` tells whether the
 * statement's transaction was committed. Without a hook every statement fails with
 * code "no_sql". */
struct hp_mem_sql {
	void (*run)(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows);
	void (*end)(void *arg, int64_t run, bool committed);
	void *arg;
};
void hp_mem_set_sql(struct hp_store *s, const struct hp_mem_sql *sql);

/* Who a principal is: kind "person", "agent" or "service"; roles separated by
 * spaces. A principal never named here is a person without roles. */
void hp_mem_principal(struct hp_store *s, const char *principal, const char *kind,
		      const char *roles);

/* Others have spent `amount` of a budget for that key ("": none) just now. */
int hp_mem_spend(struct hp_store *s, const char *budget, const char *key, int64_t amount, struct hp_error *err) HP_MUST_CHECK;

/* Branching: a deep copy of everything durable. Answers on their way, hooks and the
 * clock are not part of it. A snapshot belongs to the store it was taken from, can be
 * restored any number of times, and is freed before that store. */
struct hp_mem_snapshot;
struct hp_mem_snapshot *hp_mem_snapshot_take(const struct hp_store *s);
/* The same into the memory of one that is no longer needed: branching all day long. */
void hp_mem_snapshot_again(struct hp_mem_snapshot *snap, const struct hp_store *s);
void hp_mem_snapshot_restore(struct hp_store *s, const struct hp_mem_snapshot *snap);
void hp_mem_snapshot_free(struct hp_mem_snapshot *snap); /* NULL is fine */

/* Canonical text of what is durable: JSON, a list of rows for each table, keys and rows sorted, no
 * tokens. Equal worlds give equal text; tests/differential/dump.sql writes PostgreSQL's. */
int hp_mem_dump(const struct hp_store *s, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

#endif
