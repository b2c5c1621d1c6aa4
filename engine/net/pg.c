/* pg.c: the connection: connect, send units, match results to them, break, reconnect.
 *
 * States (enum pg_state), each with what ends it:
 *   DOWN        no socket; the retry timer starts the next attempt
 *   CONNECTING  PQconnectPoll() asks for readiness until OK or failed
 *   SETUP       setup_sql runs over the simple protocol, before pipeline mode
 *   UP          pipeline mode; units flow
 *   CLOSING     hp_pg_close() was called; memory goes in the next loop turn
 *
 * A unit is on one list: queued → sent → finished. Results arrive in the order
 * of `sent`; a unit ends at its PGRES_PIPELINE_SYNC and nowhere else. The NULLs
 * PQgetResult() puts between statements carry no meaning here.
 *
 * Reentrancy: a callback may do anything, close and drop included. Nothing is
 * freed where a callback could stand above it: a broken PGconn is set aside
 * (`corpse`) and buried by the `wake` timer in the next turn, and so are LOST
 * and UNSENT outcomes delivered. Only results of a live connection are
 * delivered directly from the read event.
 *
 * Transactions over several units (BEGIN … COMMIT): a unit that continues a
 * transaction must be submitted after the unit before it has answered. If the
 * session breaks with a transaction open, what was queued for it ends UNSENT
 * and is never run on the next session, where it would commit by itself; if
 * nothing was queued, the first unit submitted afterwards ends UNSENT instead,
 * so that a COMMIT cannot succeed emptily on a fresh session.
 *
 * Known limit: libpq resolves host names with getaddrinfo(), which blocks the
 * loop. Use a socket directory, an address, or `hostaddr` beside `host`.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/digest.h"
#include "base/mutant.h"
#include "net/pg_private.h"

#define PG_WINDOW 64        /* units in flight; the rest stays queued and survives a break */
#define PG_OPEN_MAX 20000   /* units open at once */
#define PG_DEADLINE_DEFAULT INT64_C(10000000)
#define PG_CONNECT_S 10.0   /* all hosts and setup_sql together */
#define PG_BACKOFF_FIRST_S 0.1
#define PG_BACKOFF_LAST_S 0.5 /* a database that is back is in use within a second */

/* A first packet that is lost is sent again after 1 s, then after 3 (RFC 6298): an attempt
 * that began while nobody could hear it would sleep for seconds after somebody can. */
#define PG_HANDSHAKE_MS 1500

enum pg_state { PG_DOWN, PG_CONNECTING, PG_SETUP, PG_UP, PG_CLOSING };

struct hp_pg {
	struct ev_loop *loop;
	char *conninfo, *application, *setup_sql;
	int64_t deadline_us;
	hp_pg_state on_state;
	void *on_state_arg;
	void (*on_notify)(void *arg);
	void *on_notify_arg;

	enum pg_state state;
	PGconn *conn;   /* NULL when DOWN or CLOSING */
	PGconn *corpse; /* broken, waits for its burial */
	ev_io io;
	ev_timer retry;   /* DOWN: next attempt; CONNECTING and SETUP: give up */
	ev_timer wake;    /* runs the deferred part in the next turn */
	double backoff_s;
	unsigned patience_ms; /* tcp_user_timeout, put aside while the handshake has less; 0: it has not */

	struct hp_list queued, sent, finished;
	int n_sent, n_open;

	bool tell_down;        /* `why` is to be told to on_state */
	struct hp_error why;
	bool transaction;      /* the session was last seen inside a transaction */
	bool transaction_lost; /* it broke there, and the owner has not been told */

	/* scratch for PQsendQueryParams(), sized for the largest statement so far */
	const char **values;
	int *lengths, *formats;
	Oid *types;
	int cap_scratch;
};

static void pg_wake(struct hp_pg *pg)
{
	if (ev_is_active(&pg->wake))
		return;
	ev_timer_set(&pg->wake, 0., 0.);
	ev_timer_start(pg->loop, &pg->wake);
}

static void pg_bury(struct hp_pg *pg)
{
	if (pg->corpse)
		PQfinish(pg->corpse);
	pg->corpse = NULL;
}

/* libpq's message without its newline, and without what follows the first lines. */
static void conn_error(const PGconn *conn, const char *doing, struct hp_error *err)
{
	const char *m = conn ? PQerrorMessage(conn) : "out of memory";
	int n = (int)strnlen(m, 600);
	while (n > 0 && (m[n - 1] == '\n' || m[n - 1] == ' '))
		n--;
	(void)hp_fail(err, HP_E_UNAVAILABLE, "database connection: %s: %.*s", doing, n,
		      n ? m : "no reason given");
}

/* --- ends of units --------------------------------------------------------- */

/* Ends a unit without results; its callback comes in the next turn. */
static void unit_end(struct hp_pg *pg, struct hp_pg_unit *u, enum hp_pg_outcome outcome,
		     const struct hp_error *why)
{
	hp_list_del(&u->link);
	ev_timer_stop(pg->loop, &u->deadline);
	u->outcome = outcome;
	u->error = *why;
	hp_list_add_tail(&pg->finished, &u->link);
	pg_wake(pg);
}

static void unit_deliver(struct hp_pg *pg, struct hp_pg_unit *u)
{
	hp_list_del(&u->link);
	pg->n_open--;
	if (u->in_transaction && (u->outcome == HP_PG_LOST || u->outcome == HP_PG_UNSENT))
		pg->transaction_lost = false; /* this callback is the telling */
	struct hp_pg_reply reply = {
		.outcome = u->outcome,
		.n_results = u->outcome == HP_PG_OK ? u->n_results : 0,
		.results = u->outcome == HP_PG_OK ? u->results : NULL,
		.failed_statement = u->failed_statement,
		.error = u->error,
	};
	memcpy(reply.sqlstate, u->sqlstate, sizeof reply.sqlstate);
	if (u->done)
		u->done(u->arg, &reply);
	hp_pg_unit_free(u);
}

/* The session is gone: everything sent is LOST, the queue stays. */
static void pg_break(struct hp_pg *pg, const struct hp_error *why, bool cut)
{
	HP_ASSERT(pg->state != PG_DOWN && pg->state != PG_CLOSING);
	ev_io_stop(pg->loop, &pg->io);
	if (cut && PQsocket(pg->conn) >= 0) /* no polite Terminate: the peer must see a break */
		(void)shutdown(PQsocket(pg->conn), SHUT_RDWR);
	HP_ASSERT(!pg->corpse);
	pg->corpse = pg->conn;
	pg->conn = NULL;
	pg->state = PG_DOWN;
	pg->why = *why;
	pg->tell_down = true;

	struct hp_list *it, *tmp;
	hp_list_each(it, tmp, &pg->sent)
		unit_end(pg, hp_list_entry(it, struct hp_pg_unit, link), HP_PG_LOST, why);
	pg->n_sent = 0;
	struct hp_error gone = *why;
	(void)hp_error_prefix(&gone, "not sent, the transaction it continues was lost");
	hp_list_each(it, tmp, &pg->queued) {
		struct hp_pg_unit *u = hp_list_entry(it, struct hp_pg_unit, link);
		if (u->in_transaction)
			unit_end(pg, u, HP_PG_UNSENT, &gone);
	}
	pg->transaction_lost = pg->transaction_lost || pg->transaction;
	pg->transaction = false;

	uint32_t r;
	hp_random(&r, sizeof r);
	double delay_s = pg->backoff_s * (0.75 + 0.5 * ((double)r / (double)UINT32_MAX));
	pg->backoff_s *= 2;
	if (pg->backoff_s > PG_BACKOFF_LAST_S)
		pg->backoff_s = PG_BACKOFF_LAST_S;
	ev_timer_stop(pg->loop, &pg->retry);
	ev_timer_set(&pg->retry, delay_s, 0.);
	ev_timer_start(pg->loop, &pg->retry);
	pg_wake(pg);
}

static void pg_break_conn(struct hp_pg *pg, const char *doing)
{
	struct hp_error why;
	conn_error(pg->conn, doing, &why);
	pg_break(pg, &why, false);
}

static void on_unit_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	struct hp_pg_unit *u = w->data;
	struct hp_pg *pg = u->pg;
	struct hp_error why;
	struct hp_list *it, *tmp;
	hp_list_each(it, tmp, &pg->queued) {
		if (it != &u->link)
			continue;
		(void)hp_fail(&why, HP_E_TIMEOUT, "not sent: no database connection was free before the deadline");
		unit_end(pg, u, HP_PG_UNSENT, &why);
		return;
	}
	/* Sent. What comes after it on this connection waits for it, so the only way
	 * to end it is to end the connection. */
	struct hp_error mine;
	(void)hp_fail(&mine, HP_E_TIMEOUT, "the database did not answer before the deadline");
	unit_end(pg, u, HP_PG_LOST, &mine);
	pg->n_sent--;
	(void)hp_fail(&why, HP_E_UNAVAILABLE, "database connection dropped: an earlier unit passed its deadline");
	pg_break(pg, &why, true);
}

/* --- sending --------------------------------------------------------------- */

/* (Re-)arms the socket watcher. After a connection step the fd may be another
 * socket under the same number, so libev must always be told anew. */
static void pg_watch(struct hp_pg *pg, int events, bool new_socket)
{
	int fd = PQsocket(pg->conn);
	if (!new_socket && ev_is_active(&pg->io) && pg->io.fd == fd &&
	    (pg->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(pg->loop, &pg->io);
	ev_io_set(&pg->io, fd, events);
	ev_io_start(pg->loop, &pg->io);
}

static void pg_flush(struct hp_pg *pg)
{
	int more = PQflush(pg->conn);
	if (more < 0)
		pg_break_conn(pg, "sending");
	else
		pg_watch(pg, more ? EV_READ | EV_WRITE : EV_READ, false);
}

static int send_statement(struct hp_pg *pg, const struct hp_pg_unit *u, const struct pg_statement *st)
{
	HP_ASSERT(st->n_params <= pg->cap_scratch || st->n_params == 0);
	for (int i = 0; i < st->n_params; i++) {
		const struct pg_param *p = &u->params[st->first_param + i];
		pg->values[i] = p->null ? NULL : u->data.p + p->off;
		pg->lengths[i] = p->len;
		pg->formats[i] = p->binary ? 1 : 0;
		pg->types[i] = p->type;
	}
	return PQsendQueryParams(pg->conn, u->data.p + st->sql_off, st->n_params, pg->types, pg->values,
				 pg->lengths, pg->formats, u->binary ? 1 : 0)
		       ? 0
		       : -1;
}

static void pg_send_queued(struct hp_pg *pg)
{
	/* A socket already known to be dead: its read event will break it, and the
	 * queue is for the next session. */
	while (pg->state == PG_UP && PQstatus(pg->conn) == CONNECTION_OK && pg->n_sent < PG_WINDOW &&
	       !hp_list_empty(&pg->queued)) {
		struct hp_pg_unit *u = hp_list_entry(pg->queued.next, struct hp_pg_unit, link);
		hp_list_del(&u->link);
		hp_list_add_tail(&pg->sent, &u->link);
		pg->n_sent++;
		int rc = 0;
		for (int i = 0; i < u->n_statements && rc == 0; i++)
			rc = send_statement(pg, u, &u->statements[i]);
		if (rc != 0 || !PQpipelineSync(pg->conn)) {
			/* Half a unit is in libpq's buffer: only a new session is clean. */
			pg_break_conn(pg, "sending");
			return;
		}
		hp_pg_unit_sent(u);
	}
	if (pg->state == PG_UP)
		pg_flush(pg);
}

static int scratch_reserve(struct hp_pg *pg, const struct hp_pg_unit *u)
{
	int most = 1;
	for (int i = 0; i < u->n_statements; i++)
		if (u->statements[i].n_params > most)
			most = u->statements[i].n_params;
	if (most <= pg->cap_scratch)
		return 0;
	size_t n = (size_t)most;
	void *values = hp_realloc(pg->values, n * sizeof *pg->values);
	pg->values = values ? values : pg->values;
	void *lengths = hp_realloc(pg->lengths, n * sizeof *pg->lengths);
	pg->lengths = lengths ? lengths : pg->lengths;
	void *formats = hp_realloc(pg->formats, n * sizeof *pg->formats);
	pg->formats = formats ? formats : pg->formats;
	void *types = hp_realloc(pg->types, n * sizeof *pg->types);
	pg->types = types ? types : pg->types;
	if (!values || !lengths || !formats || !types)
		return -1;
	pg->cap_scratch = most;
	return 0;
}

static int unit_prepare(struct hp_pg *pg, struct hp_pg_unit *u, struct hp_error *err)
{
	if (u->bad) {
		if (err)
			*err = u->error;
		return -1;
	}
	if (u->n_statements == 0)
		return hp_fail(err, HP_E_INTERNAL, "a unit of SQL without a statement");
	if (pg->state == PG_CLOSING)
		return hp_fail(err, HP_E_UNAVAILABLE, "the database connection is being closed");
	if (pg->n_open >= PG_OPEN_MAX)
		return hp_fail(err, HP_E_LIMIT, "%d units of SQL are waiting for the database", pg->n_open);
	u->results = hp_calloc((size_t)u->n_statements, sizeof(PGresult *));
	if (!u->results || scratch_reserve(pg, u) != 0)
		return hp_fail(err, HP_E_NOMEM, "out of memory for a unit of SQL");
	return 0;
}

int hp_pg_submit(struct hp_pg_unit *u, hp_pg_done done, void *arg, struct hp_error *err)
{
	if (!u)
		return hp_fail(err, HP_E_NOMEM, "out of memory for a unit of SQL");
	struct hp_pg *pg = u->pg;
	if (unit_prepare(pg, u, err) != 0) {
		hp_pg_unit_free(u);
		return -1;
	}
	u->done = done;
	u->arg = arg;
	pg->n_open++;
	int64_t deadline_us = u->deadline_us > 0 ? u->deadline_us : pg->deadline_us;
	ev_timer_init(&u->deadline, on_unit_deadline, (double)deadline_us / 1e6, 0.);
	u->deadline.data = u;
	u->in_transaction = pg->transaction || pg->transaction_lost;
	if (pg->transaction_lost) {
		struct hp_error gone;
		(void)hp_fail(&gone, HP_E_UNAVAILABLE,
			      "not sent: the connection broke while a transaction was open");
		(void)hp_error_hint(&gone, "Nothing of that transaction happened; begin it again.");
		unit_end(pg, u, HP_PG_UNSENT, &gone);
		return 0;
	}
	ev_now_update(pg->loop); /* the loop's time may lag: a deadline must not be cut short */
	ev_timer_start(pg->loop, &u->deadline);
	hp_list_add_tail(&pg->queued, &u->link);
	pg_send_queued(pg);
	return 0;
}

/* --- results --------------------------------------------------------------- */

/* The DETAIL field is left out on purpose: it quotes values of rows. */
static void unit_failed(struct hp_pg_unit *u, const PGresult *r)
{
	if (u->outcome == HP_PG_FAILED)
		return;
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(r, PG_DIAG_MESSAGE_HINT);
	const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
	/* a pooler that has no server for us says so; from PostgreSQL it is a mistake of ours */
	if (state && !strcmp(state, "08P01") && severity && !strcmp(severity, "FATAL"))
		state = "08006";
	u->outcome = HP_PG_FAILED;
	(void)snprintf(u->sqlstate, sizeof u->sqlstate, "%s", state ? state : "XX000");
	/* = n_statements when it is the commit itself that failed (a deferred constraint) */
	u->failed_statement = u->n_results;
	(void)hp_fail(&u->error, hp_pg_code_of(u->sqlstate), "%.600s",
		      message ? message : PQresultErrorMessage(r));
	if (hint)
		(void)hp_error_hint(&u->error, "%.200s", hint);
}

/* COMMIT in an aborted transaction is answered with success and the tag
 * ROLLBACK. Whoever sent a COMMIT must not read that as one. */
static void check_commit(struct hp_pg_unit *u, PGresult *r)
{
	if (!u->statements[u->n_results].commits || strcmp(PQcmdStatus(r), "ROLLBACK") != 0)
		return;
	u->outcome = HP_PG_FAILED;
	memcpy(u->sqlstate, "25P02", sizeof u->sqlstate);
	u->failed_statement = u->n_results;
	(void)hp_fail(&u->error, HP_E_INVALID,
		      "the transaction had failed before, so its commit rolled it back");
}

static void unit_result(struct hp_pg *pg, struct hp_pg_unit *u, PGresult *r)
{
	struct hp_error why;
	switch (PQresultStatus(r)) {
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
	case PGRES_EMPTY_QUERY:
		if (u->n_results >= u->n_statements) {
			(void)hp_fail(&why, HP_E_INTERNAL, "the server sent more results than statements");
			break;
		}
		check_commit(u, r);
		u->results[u->n_results++] = r;
		return;
	case PGRES_FATAL_ERROR:
		/* Without a code it is libpq's own: what the server did is not known. Of a
		 * dead connection io_up() tells. */
		if (!HP_GUARD(client_error, PQresultErrorField(r, PG_DIAG_SQLSTATE) || PQstatus(pg->conn) != CONNECTION_OK)) {
			(void)hp_fail(&why, HP_E_UNAVAILABLE, "its answer could not be read: %.300s", PQresultErrorMessage(r));
			break;
		}
		unit_failed(u, r);
		u->n_results++;
		PQclear(r);
		return;
	case PGRES_PIPELINE_ABORTED:
		u->n_results++; /* follows an error of this unit; nothing to keep */
		PQclear(r);
		return;
	default:
		/* COPY: the protocol would now wait for data that nobody has. */
		(void)hp_fail(&why, HP_E_INVALID, "SQL statement %d: COPY is not possible here", u->n_results + 1);
	}
	PQclear(r);
	pg_break(pg, &why, true);
}

static void unit_synced(struct hp_pg *pg, struct hp_pg_unit *u)
{
	struct hp_error why;
	if (u->outcome == HP_PG_OK && u->n_results != u->n_statements) {
		(void)hp_fail(&why, HP_E_INTERNAL, "the server sent %d results for %d statements",
			      u->n_results, u->n_statements);
		pg_break(pg, &why, true);
		return;
	}
	/* ACTIVE: more units are in flight behind this one, and theirs will tell. */
	PGTransactionStatusType t = PQtransactionStatus(pg->conn);
	if (t != PQTRANS_ACTIVE)
		pg->transaction = t == PQTRANS_INTRANS || t == PQTRANS_INERROR;
	pg->n_sent--;
	ev_timer_stop(pg->loop, &u->deadline);
	unit_deliver(pg, u);
}

/* Takes every result that has arrived. A callback may break, close or submit. */
static void pg_drain(struct hp_pg *pg)
{
	PGconn *conn = pg->conn;
	int nulls = 0;
	while (pg->conn == conn && !hp_list_empty(&pg->sent) && !PQisBusy(conn)) {
		PGresult *r = PQgetResult(conn);
		if (!r) {
			/* One ends a statement. A second in a row is a dead connection's
			 * way to say that nothing will come any more. */
			if (++nulls > 1)
				break;
			continue;
		}
		nulls = 0;
		struct hp_pg_unit *u = hp_list_entry(pg->sent.next, struct hp_pg_unit, link);
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
			PQclear(r);
			unit_synced(pg, u);
		} else {
			unit_result(pg, u, r);
		}
	}
}

static void io_up(struct hp_pg *pg, int revents)
{
	PGconn *conn = pg->conn;
	int alive = !(revents & EV_READ) || PQconsumeInput(conn);
	/* Even when the peer has gone: complete units that arrived before are OK. */
	pg_drain(pg);
	if (pg->conn != conn)
		return;
	bool notified = false;
	for (PGnotify *n = PQnotifies(conn); n; n = PQnotifies(conn)) {
		PQfreemem(n); /* what matters is that one came */
		notified = true;
	}
	if (notified && pg->on_notify) {
		pg->on_notify(pg->on_notify_arg);
		if (pg->conn != conn)
			return;
	}
	if (!alive || PQstatus(conn) == CONNECTION_BAD)
		pg_break_conn(pg, "lost");
	else
		pg_send_queued(pg); /* flushes too */
}

/* --- connecting ------------------------------------------------------------ */

static void pg_now_up(struct hp_pg *pg)
{
	PGconn *conn = pg->conn;
	if (!PQenterPipelineMode(conn)) {
		pg_break_conn(pg, "entering pipeline mode");
		return;
	}
	pg->state = PG_UP;
	pg->backoff_s = PG_BACKOFF_FIRST_S;
	ev_timer_stop(pg->loop, &pg->retry);
	if (pg->on_state)
		pg->on_state(pg->on_state_arg, true, NULL);
	if (pg->conn == conn)
		pg_send_queued(pg);
}

static void io_setup(struct hp_pg *pg, int revents)
{
	PGconn *conn = pg->conn;
	static const char doing[] = "running the session's set-up";
	int alive = !(revents & EV_READ) || PQconsumeInput(conn);
	while (!PQisBusy(conn)) {
		PGresult *r = PQgetResult(conn);
		if (!r) {
			if (alive && PQstatus(conn) == CONNECTION_OK)
				pg_now_up(pg);
			else
				pg_break_conn(pg, doing);
			return;
		}
		ExecStatusType status = PQresultStatus(r);
		PQclear(r);
		if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_EMPTY_QUERY) {
			pg_break_conn(pg, doing);
			return;
		}
	}
	if (!alive)
		pg_break_conn(pg, doing);
	else
		pg_flush(pg);
}

static void pg_connected(struct hp_pg *pg)
{
	if (PQsetnonblocking(pg->conn, 1) != 0) {
		pg_break_conn(pg, "connecting");
	} else if (!pg->setup_sql) {
		pg_now_up(pg);
	} else if (!PQsendQuery(pg->conn, pg->setup_sql)) {
		pg_break_conn(pg, "running the session's set-up");
	} else {
		pg->state = PG_SETUP;
		pg_watch(pg, EV_READ | EV_WRITE, true);
	}
}

/* After each step of connecting: less patience until the peer's kernel has answered, then what libpq has set. */
static void pg_patience(struct hp_pg *pg)
{
	unsigned ms = pg->patience_ms;
	socklen_t n = sizeof ms;
	if (PQstatus(pg->conn) == CONNECTION_STARTED) {
		/* not over TCP; as little already; 0: the owner wants to wait as long as the kernel does */
		if (getsockopt(PQsocket(pg->conn), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &n) != 0 || ms <= PG_HANDSHAKE_MS)
			return;
		pg->patience_ms = ms;
		ms = PG_HANDSHAKE_MS;
	} else {
		pg->patience_ms = 0;
		if (ms == 0)
			return;
	}
	(void)setsockopt(PQsocket(pg->conn), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms); /* libpq's stands */
}

static void io_connecting(struct hp_pg *pg)
{
	/* PQconnectPoll() may close the socket and open another (next host, TLS
	 * fallback): libev must have let go of it before. */
	ev_io_stop(pg->loop, &pg->io);
	PostgresPollingStatusType next = PQconnectPoll(pg->conn);
	pg_patience(pg);
	switch (next) {
	case PGRES_POLLING_READING:
		pg_watch(pg, EV_READ, true);
		break;
	case PGRES_POLLING_WRITING:
		pg_watch(pg, EV_WRITE, true);
		break;
	case PGRES_POLLING_OK:
		pg_connected(pg);
		break;
	default:
		pg_break_conn(pg, "connecting");
	}
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	struct hp_pg *pg = w->data;
	switch (pg->state) {
	case PG_CONNECTING:
		io_connecting(pg);
		break;
	case PG_SETUP:
		io_setup(pg, revents);
		break;
	case PG_UP:
		io_up(pg, revents);
		break;
	case PG_DOWN:
	case PG_CLOSING:
		HP_ASSERT(pg->state == PG_UP); /* the watcher is stopped in these states */
	}
}

static void on_notice(void *arg, const PGresult *r)
{
	(void)arg, (void)r; /* may quote data; nothing here depends on notices */
}

static void pg_connect(struct hp_pg *pg)
{
	pg_bury(pg);
	/* Before the caller's conninfo: these are defaults it may override. A network
	 * that swallows packets is noticed in about 3 s (measured: the keepalives
	 * alone, or the user timeout alone, leave cases that hang). The user timeout
	 * also bounds each connect(), so that the next host gets its turn (pg_patience()). */
	const char *const keys[] = {"client_encoding",  "gssencmode",      "connect_timeout",
				    "tcp_user_timeout", "keepalives",      "keepalives_idle",
				    "keepalives_interval", "keepalives_count", "dbname",
				    pg->application ? "application_name" : NULL, NULL};
	const char *const values[] = {"UTF8", "disable", "5", "3000", "1", "2", "1", "3", pg->conninfo,
				      pg->application, NULL};
	pg->conn = PQconnectStartParams(keys, values, 1);
	pg->state = PG_CONNECTING;
	ev_timer_stop(pg->loop, &pg->retry);
	ev_timer_set(&pg->retry, PG_CONNECT_S, 0.);
	ev_timer_start(pg->loop, &pg->retry);
	if (!pg->conn || PQstatus(pg->conn) == CONNECTION_BAD) {
		pg_break_conn(pg, "connecting");
		return;
	}
	PQsetNoticeReceiver(pg->conn, on_notice, NULL);
	pg->patience_ms = 0;
	pg_patience(pg);
	pg_watch(pg, EV_WRITE, true); /* as the documentation of PQconnectPoll() asks */
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	struct hp_pg *pg = w->data;
	if (pg->state == PG_DOWN) {
		pg_connect(pg);
		return;
	}
	struct hp_error why;
	(void)hp_fail(&why, HP_E_TIMEOUT, "database connection: connecting took longer than %.0f s", PG_CONNECT_S);
	pg_break(pg, &why, true);
}

/* --- deferred work, opening, closing ---------------------------------------- */

static void pg_release(struct hp_pg *pg)
{
	if (!pg)
		return;
	pg_bury(pg);
	hp_free(pg->values);
	hp_free(pg->lengths);
	hp_free(pg->formats);
	hp_free(pg->types);
	hp_free(pg->conninfo);
	hp_free(pg->application);
	hp_free(pg->setup_sql);
	hp_free(pg);
}

static void on_wake(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	struct hp_pg *pg = w->data;
	pg_bury(pg);
	if (pg->tell_down) {
		pg->tell_down = false;
		if (pg->on_state && pg->state != PG_CLOSING)
			pg->on_state(pg->on_state_arg, false, &pg->why);
	}
	/* Only those that are here now: a callback that makes new ones must not keep
	 * the loop in this function. */
	struct hp_list *last = pg->finished.prev;
	bool more = !hp_list_empty(&pg->finished);
	while (more) {
		struct hp_list *first = pg->finished.next;
		more = first != last;
		unit_deliver(pg, hp_list_entry(first, struct hp_pg_unit, link));
	}
	if (!hp_list_empty(&pg->finished))
		pg_wake(pg);
	else if (pg->state == PG_CLOSING && !ev_is_active(&pg->wake))
		pg_release(pg);
}

static int check_conninfo(const char *conninfo, struct hp_error *err)
{
	char *message = NULL;
	PQconninfoOption *o = PQconninfoParse(conninfo, &message);
	if (!o) {
		/* libpq's message may quote the string, password included: leave it out. */
		PQfreemem(message);
		(void)hp_fail(err, HP_E_INVALID, "the database connection string cannot be parsed");
		return hp_error_hint(err, "Use key=value pairs or a postgresql:// address, as psql does.");
	}
	PQconninfoFree(o);
	return 0;
}

struct hp_pg *hp_pg_open(struct ev_loop *loop, const struct hp_pg_options *o, struct hp_error *err)
{
	if (check_conninfo(o->conninfo, err) != 0)
		return NULL;
	struct hp_pg *pg = hp_calloc(1, sizeof *pg);
	if (!pg)
		goto nomem;
	pg->loop = loop;
	pg->deadline_us = o->deadline_us > 0 ? o->deadline_us : PG_DEADLINE_DEFAULT;
	pg->on_state = o->on_state;
	pg->on_state_arg = o->on_state_arg;
	pg->on_notify = o->on_notify;
	pg->on_notify_arg = o->on_notify_arg;
	pg->state = PG_DOWN;
	pg->backoff_s = PG_BACKOFF_FIRST_S;
	hp_list_init(&pg->queued);
	hp_list_init(&pg->sent);
	hp_list_init(&pg->finished);
	pg->conninfo = hp_strdup(o->conninfo);
	pg->application = o->application ? hp_strdup(o->application) : NULL;
	pg->setup_sql = o->setup_sql ? hp_strdup(o->setup_sql) : NULL;
	if (!pg->conninfo || (o->application && !pg->application) || (o->setup_sql && !pg->setup_sql))
		goto nomem;
	ev_init(&pg->io, on_io);
	ev_init(&pg->wake, on_wake);
	ev_timer_init(&pg->retry, on_retry, 0., 0.);
	pg->io.data = pg->wake.data = pg->retry.data = pg;
	ev_timer_start(loop, &pg->retry); /* on_state() must not be called from in here */
	return pg;
nomem:
	pg_release(pg);
	(void)hp_fail(err, HP_E_NOMEM, "out of memory for a database connection");
	return NULL;
}

void hp_pg_close(struct hp_pg *pg)
{
	if (!pg || pg->state == PG_CLOSING)
		return;
	struct hp_error why;
	(void)hp_fail(&why, HP_E_UNAVAILABLE, "the database connection was closed");
	if (pg->conn)
		pg_break(pg, &why, false);
	pg->state = PG_CLOSING;
	ev_timer_stop(pg->loop, &pg->retry);
	struct hp_list *it, *tmp;
	hp_list_each(it, tmp, &pg->queued)
		unit_end(pg, hp_list_entry(it, struct hp_pg_unit, link), HP_PG_UNSENT, &why);
	pg_wake(pg);
}

bool hp_pg_up(const struct hp_pg *pg)
{
	return pg->state == PG_UP;
}

int hp_pg_in_flight(const struct hp_pg *pg)
{
	return pg->n_open;
}

void hp_pg_drop(struct hp_pg *pg)
{
	if (!pg->conn)
		return;
	struct hp_error why;
	(void)hp_fail(&why, HP_E_UNAVAILABLE, "the database connection was dropped on purpose");
	pg_break(pg, &why, true);
}

void hp_pg_end_transaction(struct hp_pg *pg)
{
	if (pg->transaction)
		hp_pg_drop(pg);
	pg->transaction_lost = false; /* its owner knows */
}
