/* pg.h: one PostgreSQL connection in pipeline mode under libev.
 *
 * Work is submitted in units. A unit is a list of statements ended by one
 * Sync: without BEGIN it is one transaction, so it happens whole or not at all.
 * Units of a connection run in the order they were submitted; many may be in
 * flight. Each unit's callback is called exactly once, never from inside
 * hp_pg_submit() or hp_pg_close().
 *
 * The connection reconnects by itself (100 ms, doubling to 0.5 s, with jitter).
 * Units that were in flight when it broke end as HP_PG_LOST: they may or may
 * not have been committed and are never sent again from here. Units that were
 * only queued stay queued until the reconnect or their deadline.
 *
 * A transaction may span units (BEGIN … COMMIT). A unit that continues one is
 * submitted after the unit before it has answered. If the connection breaks with
 * a transaction open, its units end LOST or UNSENT and none of them is run on the
 * next connection; if none of its units was under way, the next unit submitted ends
 * UNSENT, so nobody commits emptily without knowing. A COMMIT that the server
 * answers with ROLLBACK is HP_PG_FAILED, 25P02.
 *
 * A host that does not answer has 1.5 s, then it is the next one's turn (as long as
 * tcp_user_timeout says when that is less, or 0).
 *
 * Every connection sets tcp_user_timeout (3 s), keepalives (2/1/3), connect_timeout
 * and, per unit, a deadline of our own: past it the connection is dropped and
 * the unit is HP_PG_LOST. Statements are always unnamed and parameters always
 * bound (extended protocol), so a pgbouncer in transaction mode may sit between.
 * `PQsocket` is read again at every connection step; flush and read are
 * interleaved as the libpq documentation (section "Pipeline Mode") asks.
 */
#ifndef HP_NET_PG_H
#define HP_NET_PG_H

#include <ev.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

struct hp_pg;

enum hp_pg_outcome {
	HP_PG_OK = 0,
	HP_PG_FAILED, /* the server refused: nothing of the unit happened */
	HP_PG_LOST,   /* unknown: the connection broke or the deadline passed after sending */
	HP_PG_UNSENT, /* never sent (deadline, or closed): nothing happened */
};

struct hp_pg_reply {
	enum hp_pg_outcome outcome;
	int n_results;          /* HP_PG_OK: one per statement */
	PGresult *const *results; /* borrowed: valid inside the callback only */
	char sqlstate[6];       /* HP_PG_FAILED */
	int failed_statement;   /* index, HP_PG_FAILED; = their number: the commit itself */
	struct hp_error error;  /* all but HP_PG_OK; server message, hint */
};

typedef void (*hp_pg_done)(void *arg, const struct hp_pg_reply *reply);
typedef void (*hp_pg_state)(void *arg, bool up, const struct hp_error *why);

struct hp_pg_options {
	const char *conninfo;       /* libpq connection string; copied */
	const char *application;    /* application_name; copied */
	int64_t deadline_us;        /* default for units; 0: 10 s */
	hp_pg_state on_state;       /* may be NULL */
	void *on_state_arg;
	/* A NOTIFY came (setup_sql listens); never from inside hp_pg_submit(). May be NULL. */
	void (*on_notify)(void *arg);
	void *on_notify_arg;
	/* SQL run first on each new connection (session settings); NULL: none.
	 * Must be empty when a pooler is in between. */
	const char *setup_sql;
};


struct hp_pg *hp_pg_open(struct ev_loop *loop, const struct hp_pg_options *o, struct hp_error *err);
/* Every open unit ends (LOST or UNSENT) in the next loop turn; then memory goes. */
void hp_pg_close(struct hp_pg *pg);
bool hp_pg_up(const struct hp_pg *pg);
int hp_pg_in_flight(const struct hp_pg *pg); /* units sent or queued */
/* Drops the socket now, as if the network had failed (tests, fencing). */
void hp_pg_drop(struct hp_pg *pg);
/* For who is done with a transaction: when it is still open (its COMMIT or ROLLBACK could not even
 * be sent), the session is dropped, or the next one's commit would make it durable as well. When it
 * was lost, nobody else is told. Nothing of it may be queued. */
void hp_pg_end_transaction(struct hp_pg *pg);

/* A unit under construction. */
struct hp_pg_unit;
struct hp_pg_unit *hp_pg_unit_new(struct hp_pg *pg);
void hp_pg_unit_free(struct hp_pg_unit *u); /* only if not submitted */
void hp_pg_unit_deadline(struct hp_pg_unit *u, int64_t us);
/* Starts a statement; its parameters follow in order. SQL text is copied. */
void hp_pg_statement(struct hp_pg_unit *u, const char *sql);
void hp_pg_bind_null(struct hp_pg_unit *u);
void hp_pg_bind_text(struct hp_pg_unit *u, const char *s);          /* NULL: SQL null; type unknown */
void hp_pg_bind_textn(struct hp_pg_unit *u, const char *s, size_t n);
void hp_pg_bind_int(struct hp_pg_unit *u, int64_t v);               /* int8, binary */
void hp_pg_bind_bool(struct hp_pg_unit *u, bool v);
void hp_pg_bind_bytea(struct hp_pg_unit *u, const void *p, size_t n);
void hp_pg_bind_jsonb(struct hp_pg_unit *u, const char *p, size_t n); /* binary jsonb, version 1 */
/* Binary one-dimensional arrays. A NULL element (p == NULL) is SQL null. */
void hp_pg_bind_int_array(struct hp_pg_unit *u, const int64_t *v, int n); /* int8[] */
void hp_pg_bind_text_array(struct hp_pg_unit *u, const struct hp_bytes *v, int n);
void hp_pg_bind_jsonb_array(struct hp_pg_unit *u, const struct hp_bytes *v, int n);
void hp_pg_bind_bytea_array(struct hp_pg_unit *u, const struct hp_bytes *v, int n);
/* Results of this unit's statements in binary (default: text). */
void hp_pg_binary_results(struct hp_pg_unit *u, bool on);
/* Takes the unit in any case. -1: not accepted (memory, closed); done is not called. */
int hp_pg_submit(struct hp_pg_unit *u, hp_pg_done done, void *arg, struct hp_error *err) HP_MUST_CHECK;

/* Readers of results, text or binary by the column's format; SQL null → 0 / "" / NULL. */
int64_t hp_pg_int(const PGresult *r, int row, int col);
bool hp_pg_bool(const PGresult *r, int row, int col);
const char *hp_pg_text(const PGresult *r, int row, int col);
struct hp_bytes hp_pg_bytes(const PGresult *r, int row, int col); /* raw bytes; jsonb: without the version byte */

#endif
