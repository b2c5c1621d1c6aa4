/* sql_tx.h: an author's transaction, as its files share it.
 *
 *   sql_state.c  connections, one statement, the ends of a transaction
 *   sql_sweep.c  a page of a sweep: several statements one after the other
 */
#ifndef HP_STORE_PG_SQL_TX_H
#define HP_STORE_PG_SQL_TX_H

#include "base/clock.h"
#include "store/pg/pg_private.h"

#define PGS_SQL_GRACE_US (5 * HP_SECOND) /* our own deadline after the server's */

struct pgs_page;

struct pgs_sql {
	struct hp_store_pg *s;
	struct hp_pg *pg;
	bool busy;
};

struct hp_sql_tx {
	struct pgs_call call; /* of sql_run */
	struct hp_list wait;  /* in sql_queue */
	struct pgs_sql *at;   /* its connection; NULL: waits for one */
	hp_sql_cb cb;
	void *arg;
	enum hp_sql_mode mode;
	int64_t timeout_us;
	char *text;
	json_t *args;         /* {"args": […], "user": …} */
	struct hp_buf rows;
	struct pgs_page *page; /* of a sweep; NULL: one statement */
	struct hp_sql_rows result; /* what is told once a failed transaction has ended */
	char code[64], message[768];
};

/* sql_state.c */
void pgs_tx_failed(struct hp_sql_tx *tx, enum hp_class outcome, const char *code, const char *message);
/* The same, unless err is our own lack of memory: then it may be tried again. */
void pgs_tx_refused(struct hp_sql_tx *tx, enum hp_class outcome, const char *code, const struct hp_error *err);
void pgs_tx_tell_failure(struct hp_sql_tx *tx); /* ends tx */
void pgs_tx_rollback(struct pgs_sql *at, struct hp_sql_tx *tell); /* tell: NULL, or told then */
void pgs_sql_release(struct pgs_sql *at);
bool pgs_statement_allowed(const char *text);
const char *pgs_skip_comment(const char *p); /* a comment of this kind, which begins at p */
void pgs_tx_bind_settings(struct hp_pg_unit *u, const struct hp_sql_tx *tx);
int pgs_tx_bind_args(struct hp_pg_unit *u, const json_t *args, struct hp_error *err) HP_MUST_CHECK;
/* After a unit that did not succeed: the transaction is over and its owner told. */
void pgs_tx_broken(struct hp_sql_tx *tx, const struct hp_pg_reply *r);

/* sql_sweep.c */
struct pgs_page *pgs_page_new(const struct hp_sql_page *p, struct hp_error *err);
void pgs_page_free(struct pgs_page *p); /* NULL is fine */
bool pgs_page_allowed(const struct pgs_page *p);
/* What is done for the row in hand is done, and the next row is looked for. NULL: no. */
bool pgs_page_looks(const struct pgs_page *p);
void pgs_page_send(struct hp_sql_tx *tx);

#endif
