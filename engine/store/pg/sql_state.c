/* sql_state.c: the statement of an `sql` state in a transaction of its own.
 *
 * Connections of the workflow role, opened when first needed, at most
 * HP_SQL_STATE_CONNECTIONS; more statements wait in a queue. One transaction:
 *
 *   sql_run     begin, limits and identity (all local to the transaction), the
 *               author's one statement; what it answered becomes JSON
 *   sql_commit  holdpoint.sql_commit(token, transition) and COMMIT in one unit:
 *               statement and transition become durable together or not at all
 *   sql_abort   rollback
 *
 * Each end also resets the session (settings, advisory locks, temporary tables)
 * in the same unit, so behind a pooler it meets the same server session and
 * nothing of one run can be seen by the next.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json.h"
#include "store/pg/pg_private.h"
#include "store/pg/sql_json.h"
#include "store/pg/sql_tx.h"

/* An end of a transaction under way: commit or rollback. */
struct ending {
	struct pgs_call call;
	struct pgs_sql *at;
	struct hp_sql_tx *tx;        /* rollback of a failed statement: to be told then */
	const struct hp_transition *t; /* commit */
	hp_commit_cb cb;
	void *arg;
};

static void next_in_queue(struct hp_store_pg *s);

static void tx_free(struct hp_sql_tx *tx)
{
	json_decref(tx->args);
	hp_free(tx->text);
	hp_buf_free(&tx->rows);
	pgs_page_free(tx->page);
	hp_free(tx);
}

void pgs_sql_release(struct pgs_sql *at)
{
	at->busy = false;
	if (at->s->closing)
		return;
	/* An end that could not even be sent leaves a statement in the session, for the next one to commit. */
	hp_pg_end_transaction(at->pg);
	next_in_queue(at->s);
}

/* ---- telling ---- */

void pgs_tx_failed(struct hp_sql_tx *tx, enum hp_class outcome, const char *code, const char *message)
{
	snprintf(tx->code, sizeof tx->code, "%s", code);
	snprintf(tx->message, sizeof tx->message, "%s", message);
	tx->result = (struct hp_sql_rows){ .outcome = outcome, .code = tx->code, .message = tx->message };
}

void pgs_tx_refused(struct hp_sql_tx *tx, enum hp_class outcome, const char *code, const struct hp_error *err)
{
	if (err->code == HP_E_NOMEM)
		pgs_tx_failed(tx, HP_RETRYABLE, "out_of_memory", err->message);
	else
		pgs_tx_failed(tx, outcome, code, err->message);
}

void pgs_tx_tell_failure(struct hp_sql_tx *tx)
{
	tx->cb(tx->arg, 0, &tx->result);
	tx_free(tx);
}

/* ---- ends ---- */

static void add_reset(struct hp_pg_unit *u)
{
	hp_pg_statement(u, "select pg_advisory_unlock_all()");
	hp_pg_statement(u, "reset all");
	hp_pg_statement(u, "discard temp");
	hp_pg_statement(u, "discard sequences");
}

static void rollback_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct ending *e = (struct ending *)(void *)call;

	if (r->outcome == HP_PG_FAILED) /* a session we cannot reset is not used again */
		hp_pg_drop(e->at->pg);
	if (e->tx)
		pgs_tx_tell_failure(e->tx);
	pgs_sql_release(e->at);
}

void pgs_tx_rollback(struct pgs_sql *at, struct hp_sql_tx *tell)
{
	struct ending *e = pgs_call_new(at->s, sizeof *e, rollback_done, NULL);
	struct hp_pg_unit *u = at->s->closing ? NULL : hp_pg_unit_new(at->pg);

	e->at = at;
	e->tx = tell;
	hp_pg_statement(u, "rollback");
	add_reset(u);
	pgs_send(u, &e->call);
}

static void commit_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct ending *e = (struct ending *)(void *)call;
	struct hp_commit_result res = { .outcome = HP_COMMIT_CONFLICT };
	struct hp_store_pg *s = e->at->s;
	struct hp_error err;
	int64_t now = 0;

	if (r->outcome == HP_PG_OK) {
		HP_ASSERT(PQntuples(r->results[0]) == 1); /* else it would have raised */
		HP_ASSERT(PQgetisnull(r->results[0], 0, 5)); /* no gate: it admits nothing */
		res.outcome = HP_COMMIT_OK;
		res.cancel = hp_pg_bool(r->results[0], 0, 1);
		res.pause = hp_pg_bool(r->results[0], 0, 4);
		res.first_sent_at = hp_pg_int(r->results[0], 0, 2);
		now = hp_pg_int(r->results[0], 0, 3);
		e->cb(e->arg, now, &res, 1);
		pgs_sql_release(e->at);
		return;
	}
	if (r->outcome == HP_PG_LOST || (r->outcome == HP_PG_FAILED && r->failed_statement > 1)) {
		if (r->outcome == HP_PG_FAILED) /* committed, but the session could not be reset */
			hp_pg_drop(e->at->pg);
		pgs_sql_release(e->at);
		if (s->closing) {
			res.outcome = HP_COMMIT_UNKNOWN;
			e->cb(e->arg, 0, &res, 1);
		} else {
			pgs_find_out(s, e->t, e->cb, e->arg);
		}
		return;
	}
	/* nothing of it happened */
	pgs_error(r, &err);
	if (r->outcome != HP_PG_FAILED || strcmp(r->sqlstate, "HP409") != 0) { /* else a conflict */
		res.error = &err;
		res.outcome = r->outcome == HP_PG_FAILED && !pgs_transient(r->sqlstate)
				      ? HP_COMMIT_REFUSED  /* a deferred constraint, for example */
				      : HP_COMMIT_UNKNOWN; /* the database cannot now */
	}
	e->cb(e->arg, 0, &res, 1);
	if (r->outcome == HP_PG_FAILED)
		pgs_tx_rollback(e->at, NULL);
	else
		pgs_sql_release(e->at);
}

void pgs_sql_commit(struct hp_store *st, struct hp_sql_tx *tx, const char *token,
		    const struct hp_transition *t, hp_commit_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct ending *e = pgs_call_new(s, sizeof *e, commit_done, NULL);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(tx->at->pg);
	int zero = 0;

	e->at = tx->at;
	e->t = t;
	e->cb = cb;
	e->arg = arg;
	tx_free(tx);
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, pgs_sql_commit_sql());
	hp_pg_bind_text(u, token);
	if (u && pgs_encode(u, &t, &zero, 1, &e->call.error) < 0) {
		hp_pg_unit_free(u);
		u = NULL;
	}
	hp_pg_statement(u, "commit");
	add_reset(u);
	pgs_send(u, &e->call);
}

void pgs_sql_abort(struct hp_store *st, struct hp_sql_tx *tx)
{
	struct pgs_sql *at = tx->at;

	(void)st;
	tx_free(tx);
	pgs_tx_rollback(at, NULL);
}

/* ---- running ---- */

/* Comments as PostgreSQL reads them (they nest): what we skip and it does not, or the
 * other way round, would hide the word that counts. */
const char *pgs_skip_comment(const char *p)
{
	int depth = 0;

	do {
		if (strncmp(p, "/*", 2) == 0)
			depth++, p += 2;
		else if (strncmp(p, "*/", 2) == 0)
			depth--, p += 2;
		else if (*p++ == 0)
			return p - 1;
	} while (depth > 0);
	return p;
}

static const char *skip_comments(const char *p)
{
	for (;;) {
		p += strspn(p, " \t\r\n\f;");
		if (strncmp(p, "--", 2) == 0)
			p += strcspn(p, "\r\n");
		else if (strncmp(p, "/*", 2) == 0)
			p = pgs_skip_comment(p);
		else
			return p;
	}
}

/* Everything else either ends the transaction, leaves the role, or is no work on
 * rows. The extended protocol takes one statement, so nothing can follow it. */
bool pgs_statement_allowed(const char *text)
{
	static const char *const words[] = { "select", "insert", "update", "delete", "with", "merge", "values" };
	const char *p = skip_comments(text);
	size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (n == strlen(words[i]) && strncasecmp(p, words[i], n) == 0)
			return true;
	return false;
}

static void classify(struct hp_sql_tx *tx, const struct hp_pg_reply *r)
{
	/* what cannot find the next row is no failure of the one in hand, which a sweep may tolerate */
	enum hp_class for_good = pgs_page_looks(tx->page) ? HP_NEEDS_PERSON : HP_TERMINAL;

	if (r->outcome == HP_PG_LOST || r->outcome == HP_PG_UNSENT)
		pgs_tx_failed(tx, HP_RETRYABLE, "connection_lost", r->error.message); /* no commit was sent */
	else if (strcmp(r->sqlstate, "57014") == 0)
		pgs_tx_failed(tx, HP_RETRYABLE, "timeout", r->error.message);
	else
		pgs_tx_failed(tx, pgs_transient(r->sqlstate) ? HP_RETRYABLE : for_good,
			  pgs_condition(r->sqlstate), r->error.message);
}

void pgs_tx_broken(struct hp_sql_tx *tx, const struct hp_pg_reply *r)
{
	struct pgs_sql *at = tx->at;

	classify(tx, r);
	if (r->outcome == HP_PG_FAILED) {
		pgs_tx_rollback(at, tx);
	} else {
		pgs_tx_tell_failure(tx);
		pgs_sql_release(at);
	}
}

static void run_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct hp_sql_tx *tx = call->arg;
	struct pgs_sql *at = tx->at;
	const char *code = NULL;
	struct hp_error err = { 0 };
	const PGresult *q;

	if (r->outcome != HP_PG_OK) {
		pgs_tx_broken(tx, r);
		return;
	}
	q = r->results[r->n_results - 1];
	if (pgs_rows_json(q, tx->mode, &tx->rows, &code, &err) < 0) {
		pgs_tx_refused(tx, HP_TERMINAL, code, &err);
		pgs_tx_rollback(at, tx);
		return;
	}
	tx->result = (struct hp_sql_rows){
		.outcome = HP_CLASS_OK,
		.none = tx->mode == HP_SQL_ONE && PQntuples(q) == 0,
		.rows = hp_buf_bytes(&tx->rows),
		.tx = tx,
	};
	tx->cb(tx->arg, hp_pg_int(r->results[1], 0, 0), &tx->result);
}

/* now() is the clock of this transaction; the settings end with it. */
void pgs_tx_bind_settings(struct hp_pg_unit *u, const struct hp_sql_tx *tx)
{
	const char *user = hp_json_str(tx->args, "user");
	char timeout[32], lock[32], idle[32];

	snprintf(timeout, sizeof timeout, "%lld", (long long)((tx->timeout_us + 999) / 1000));
	snprintf(lock, sizeof lock, "%lld", (long long)(HP_SQL_LOCK_TIMEOUT / 1000));
	snprintf(idle, sizeof idle, "%lld", (long long)(30 * HP_SECOND / 1000));
	hp_pg_statement(u, "begin isolation level read committed");
	hp_pg_statement(u, "select (extract(epoch from clock_timestamp()) * 1000000)::bigint,"
			   " set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),"
			   " set_config('idle_in_transaction_session_timeout', $3, true),"
			   " set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),"
			   " set_config('search_path', 'public', true), set_config('extra_float_digits', '1', true),"
			   " set_config('holdpoint.as', $4, true), set_config('holdpoint.user', $5, true)");
	hp_pg_bind_text(u, timeout);
	hp_pg_bind_text(u, lock);
	hp_pg_bind_text(u, idle);
	hp_pg_bind_text(u, user ? "user" : "service");
	hp_pg_bind_text(u, user ? user : "");
}

int pgs_tx_bind_args(struct hp_pg_unit *u, const json_t *args, struct hp_error *err)
{
	size_t i;
	json_t *v;
	struct hp_buf b;
	int rc = 0;

	hp_buf_init(&b, HP_VALUE_MAX);
	json_array_foreach(args, i, v) {
		if (json_is_null(v)) {
			hp_pg_bind_null(u);
		} else if (json_is_string(v)) {
			hp_pg_bind_textn(u, json_string_value(v), json_string_length(v));
		} else {
			hp_buf_clear(&b);
			rc = hp_json_write(&b, v, err);
			if (rc < 0)
				break;
			hp_pg_bind_textn(u, hp_buf_str(&b), b.n);
		}
	}
	hp_buf_free(&b);
	return rc;
}

static void tx_send(struct hp_sql_tx *tx)
{
	struct hp_store_pg *s = tx->at->s;
	struct pgs_call *c = pgs_call_new(s, sizeof *c, run_done, tx);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(tx->at->pg);

	c->authors = true;
	hp_pg_unit_deadline(u, tx->timeout_us + PGS_SQL_GRACE_US);
	pgs_tx_bind_settings(u, tx);
	hp_pg_statement(u, tx->text);
	if (u && pgs_tx_bind_args(u, json_object_get(tx->args, "args"), &c->error) < 0) {
		hp_pg_unit_free(u);
		u = NULL;
	}
	pgs_send(u, c);
}

/* ---- connections ---- */

static struct pgs_sql *open_connection(struct hp_store_pg *s, int i, struct hp_error *err)
{
	struct hp_pg_options o = { .conninfo = s->sql_conninfo, .application = s->application };
	struct pgs_sql *at = hp_calloc(1, sizeof *at);

	if (!at) {
		hp_fail(err, HP_E_NOMEM, "no memory for a connection");
		return NULL;
	}
	at->s = s;
	at->pg = hp_pg_open(s->loop, &o, err);
	if (!at->pg) {
		hp_free(at);
		return NULL;
	}
	s->sql[i] = at;
	return at;
}

static void told_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	(void)r;
	pgs_tx_tell_failure(c->arg);
}

static void tell_later(struct hp_store_pg *s, struct hp_sql_tx *tx, enum hp_class outcome, const char *code,
		       const char *message)
{
	struct pgs_call *c = pgs_call_new(s, sizeof *c, told_done, tx);

	pgs_tx_failed(tx, outcome, code, message);
	pgs_defer(c);
}

/* A free one, or a new one. NULL: all are busy (*any), or none can be opened. */
static struct pgs_sql *take_connection(struct hp_store_pg *s, bool *any, struct hp_error *err)
{
	*any = false;
	for (int i = 0; i < HP_SQL_STATE_CONNECTIONS; i++) {
		if (s->sql[i] && !s->sql[i]->busy)
			return s->sql[i];
		*any |= s->sql[i] != NULL;
	}
	for (int i = 0; i < HP_SQL_STATE_CONNECTIONS; i++)
		if (!s->sql[i])
			return open_connection(s, i, err);
	return NULL;
}

static void next_in_queue(struct hp_store_pg *s)
{
	while (!hp_list_empty(&s->sql_queue)) {
		struct hp_sql_tx *tx = hp_list_entry(s->sql_queue.next, struct hp_sql_tx, wait);
		struct hp_error err;
		bool any;
		struct pgs_sql *at = take_connection(s, &any, &err);

		if (!at && any)
			return; /* whoever is done with one calls again */
		hp_list_del(&tx->wait);
		if (!at) {
			tell_later(s, tx, HP_RETRYABLE, "connection_lost", err.message);
			continue;
		}
		at->busy = true;
		tx->at = at;
		if (tx->page)
			pgs_page_send(tx);
		else
			tx_send(tx);
	}
}

void pgs_sql_run(struct hp_store *st, const struct hp_sql_state *x, hp_sql_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct hp_sql_tx *tx = hp_needed(1, sizeof *tx);
	struct hp_error err = { 0 };

	hp_list_init(&tx->wait);
	hp_buf_init(&tx->rows, HP_VALUE_MAX);
	tx->cb = cb;
	tx->arg = arg;
	tx->mode = x->mode;
	tx->timeout_us = x->timeout_us > 0 ? x->timeout_us : HP_SQL_STATE_TIMEOUT;
	tx->text = hp_strdup(x->text);
	tx->page = x->page ? pgs_page_new(x->page, &err) : NULL;
	tx->args = hp_json_parse(x->args.n ? x->args.p : "{}", x->args.n ? x->args.n : 2, "arguments", &err);
	if (s->closing) {
		tell_later(s, tx, HP_RETRYABLE, "connection_lost", "the store is being closed");
	} else if (!s->sql_conninfo) {
		tell_later(s, tx, HP_TERMINAL, "no_sql", "this worker has no connection for sql states");
	} else if (!tx->text || err.code == HP_E_NOMEM) { /* nor for its page, if it has one */
		tell_later(s, tx, HP_RETRYABLE, "out_of_memory", "no memory for a statement");
	} else if (!tx->args) {
		tell_later(s, tx, HP_TERMINAL, "bad_arguments", err.message);
	} else if (!pgs_statement_allowed(x->text) || (x->page && !pgs_page_allowed(tx->page))) {
		tell_later(s, tx, HP_TERMINAL, "statement_not_allowed",
			   "an sql state is one SELECT, INSERT, UPDATE, DELETE, MERGE, WITH or VALUES");
	} else {
		hp_list_add_tail(&s->sql_queue, &tx->wait);
		next_in_queue(s);
	}
}

void pgs_sql_close(struct hp_store_pg *s)
{
	while (!hp_list_empty(&s->sql_queue)) {
		struct hp_sql_tx *tx = hp_list_entry(s->sql_queue.next, struct hp_sql_tx, wait);

		hp_list_del(&tx->wait);
		tell_later(s, tx, HP_RETRYABLE, "connection_lost", "the store is being closed");
	}
	for (int i = 0; i < HP_SQL_STATE_CONNECTIONS; i++)
		if (s->sql[i])
			hp_pg_close(s->sql[i]->pg);
}
