/* pg_private.h: what pg.c (the connection) and pg_unit.c (building units,
 * reading results) share. Nobody else includes it. */
#ifndef HP_NET_PG_PRIVATE_H
#define HP_NET_PG_PRIVATE_H

#include "base/list.h"
#include "net/pg.h"

/* Bytes of SQL and parameters in one unit. A batch of 256 values of 256 KiB fits. */
#define HP_PG_UNIT_MAX ((size_t)128 * 1024 * 1024)
#define HP_PG_STATEMENTS_MAX 1024
#define HP_PG_PARAMS_MAX 65535 /* of one statement: the protocol's own limit */

struct pg_param {
	size_t off; /* into the unit's data; the buffer moves while it grows */
	int len;
	Oid type;    /* 0: the server infers it */
	bool null;
	bool binary;
};

struct pg_statement {
	size_t sql_off;
	int first_param; /* index into the unit's params */
	int n_params;
	bool commits; /* begins with COMMIT, END or PREPARE: see check_commit() */
};

struct hp_pg_unit {
	struct hp_list link; /* in one of pg's queued, sent, finished */
	struct hp_pg *pg;

	/* what is sent; freed once libpq has copied it */
	struct hp_buf data; /* every SQL text and parameter, one after the other */
	struct pg_statement *statements;
	int n_statements, cap_statements;
	struct pg_param *params; /* of all statements */
	int n_params, cap_params;
	bool binary;
	int64_t deadline_us;

	/* what came back */
	PGresult **results; /* one place per statement */
	int n_results;      /* results seen so far, failed one included */
	enum hp_pg_outcome outcome;
	char sqlstate[6];
	int failed_statement;
	struct hp_error error; /* while building: why it cannot be submitted */
	bool bad;              /* error is set by a builder */

	bool in_transaction; /* submitted while the session had a transaction open */
	ev_timer deadline;
	hp_pg_done done;
	void *arg;
};

/* Drops what was only needed for sending. */
void hp_pg_unit_sent(struct hp_pg_unit *u);
/* What kind of error a SQLSTATE is to our callers. */
enum hp_code hp_pg_code_of(const char *sqlstate);

#endif
