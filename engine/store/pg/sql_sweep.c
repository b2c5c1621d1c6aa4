/* sql_sweep.c: one page of a sweep in the author's transaction.
 *
 *   BEGIN   limits and identity; how far standbys are behind; how many rows there are in
 *           all; the statement for the row in hand, with the reply of its call
 *   ROWS    the next page after the cursor, unless standbys lag
 *   EXEC    the statement for that page (sweeps without a call)
 *
 * Each is one round trip. Then the transaction waits for its end (sql_state.c).
 */
#include <ctype.h>
#include <string.h>

#include "base/json.h"
#include "store/pg/sql_json.h"
#include "store/pg/sql_tx.h"

#define PAGE_ARENA_MAX ((size_t)4 * HP_VALUE_MAX)
#define SAMPLE_ROWS 10 /* shown by a dry run */

struct pgs_page {
	struct hp_arena *a;
	struct hp_sql_page q; /* texts are ours */
	int lag_at, total_at, done_at; /* which result of BEGIN; 0: none */
	bool looking; /* BEGIN and what is done for the row in hand went well */
	struct hp_swept swept;
	struct hp_buf cursor;
};

static bool copy_bytes(struct hp_arena *a, struct hp_bytes *b)
{
	if (b->n == 0)
		return true;
	b->p = hp_arena_strndup(a, b->p, b->n);
	return b->p != NULL;
}

static bool copy_text(struct hp_arena *a, const char **s)
{
	if (*s)
		*s = hp_arena_strdup(a, *s);
	return *s != NULL;
}

struct pgs_page *pgs_page_new(const struct hp_sql_page *q, struct hp_error *err)
{
	struct hp_arena *a = hp_arena_new(PAGE_ARENA_MAX);
	struct pgs_page *p = a ? hp_arena_alloc(a, sizeof *p) : NULL;

	if (!p)
		goto failed;
	memset(p, 0, sizeof *p);
	p->a = a;
	p->q = *q;
	hp_buf_init(&p->cursor, HP_CURSOR_MAX);
	p->swept.total = -1;
	if (copy_text(a, &p->q.rows) && copy_text(a, &p->q.column) && (!q->total || copy_text(a, &p->q.total)) &&
	    copy_bytes(a, &p->q.cursor) && copy_bytes(a, &p->q.row) && copy_bytes(a, &p->q.reply))
		return p;
failed:
	hp_arena_free(a);
	hp_fail(err, HP_E_NOMEM, "no memory for a page of a sweep");
	return NULL;
}

void pgs_page_free(struct pgs_page *p)
{
	if (!p)
		return;
	hp_buf_free(&p->cursor);
	hp_arena_free(p->a);
}

bool pgs_page_looks(const struct pgs_page *p)
{
	return p && p->looking && p->q.row.n > 0;
}

bool pgs_page_allowed(const struct pgs_page *p)
{
	return pgs_statement_allowed(p->q.rows) && (!p->q.total || pgs_statement_allowed(p->q.total));
}

/* Letters, digits, _ and $ go on with a name: "a$1" is one. */
static bool in_name(unsigned char c)
{
	return isalnum(c) || c == '_' || c >= 0x80;
}

/* After the quoted text that begins at p; `escapes`: \' is no end of it. */
static const char *skip_quotes(const char *p, bool escapes)
{
	char end = *p++;

	for (; *p; p++) {
		if (escapes && *p == '\\' && p[1])
			p++;
		else if (*p == end && p[1] == end)
			p++;
		else if (*p == end)
			return p + 1;
	}
	return p;
}

/* After $tag$ … $tag$; p + 1 when there is none at p. */
static const char *skip_dollars(const char *p)
{
	size_t n = 1;
	const char *end;

	while (in_name((unsigned char)p[n]) && !(n == 1 && isdigit((unsigned char)p[n])))
		n++;
	if (p[n] != '$')
		return p + 1;
	n++;
	for (end = strchr(p + n, '$'); end && strncmp(end, p, n) != 0; end = strchr(end + 1, '$'))
		;
	return end ? end + n : p + strlen(p);
}

/* The highest parameter that a statement names. `args` is for three statements, and
 * PostgreSQL wants to know the type of each parameter that is bound: those a statement
 * does not use are not bound to it. */
static size_t parameters(const char *text)
{
	const char *p = text;
	size_t most = 0, n;

	while (*p) {
		if (*p == '\'' || *p == '"') {
			bool escapes = *p == '\'' && p > text && (p[-1] == 'e' || p[-1] == 'E') &&
				       (p - 1 == text || !in_name((unsigned char)p[-2]));

			p = skip_quotes(p, escapes);
		} else if (strncmp(p, "--", 2) == 0) {
			p += strcspn(p, "\r\n");
		} else if (strncmp(p, "/*", 2) == 0) {
			p = pgs_skip_comment(p);
		} else if (in_name((unsigned char)*p)) {
			while (in_name((unsigned char)*p) || *p == '$')
				p++;
		} else if (*p == '$' && p[1] >= '1' && p[1] <= '9') {
			n = (size_t)strtoul(p + 1, NULL, 10);
			most = n > most && n < UINT16_MAX ? n : most;
			p++;
		} else {
			p = *p == '$' ? skip_dollars(p) : p + 1;
		}
	}
	return most;
}

/* args from parameter `from` on. */
static int bind_rest(struct hp_pg_unit *u, const struct hp_sql_tx *tx, const char *text, size_t from, struct hp_error *err)
{
	json_t *some = json_copy(json_object_get(tx->args, "args"));
	size_t used = parameters(text), n = used < from ? 0 : used - from + 1;
	int rc = -1;

	if (some) {
		while (json_array_size(some) > n)
			json_array_remove(some, json_array_size(some) - 1);
		rc = pgs_tx_bind_args(u, some, err);
	}
	json_decref(some);
	return rc;
}

/* The transaction is to be rolled back, and its owner told why: the statements are wrong, so
 * it is no failure of the row in hand, which `tolerate` could count. */
static void refuse(struct hp_sql_tx *tx, const char *code, const struct hp_error *err)
{
	pgs_tx_refused(tx, HP_NEEDS_PERSON, code, err);
	pgs_tx_rollback(tx->at, tx);
}

static void send(struct hp_sql_tx *tx, struct hp_pg_unit *u, struct pgs_call *c, int bound)
{
	if (u && bound < 0) {
		hp_pg_unit_free(u);
		u = NULL;
	}
	hp_pg_unit_deadline(u, tx->timeout_us + PGS_SQL_GRACE_US);
	c->authors = true;
	pgs_send(u, c);
}

static struct hp_pg_unit *unit_of(const struct hp_sql_tx *tx)
{
	return tx->at->s->closing ? NULL : hp_pg_unit_new(tx->at->pg);
}

/* ---- the end ---- */

static int sample(struct hp_sql_tx *tx, struct hp_error *err)
{
	struct pgs_page *p = tx->page;
	json_t *rows = hp_json_parse(tx->rows.p, tx->rows.n, "rows", err), *shown;
	int rc = -1;

	if (!rows)
		return -1;
	while (json_array_size(rows) > SAMPLE_ROWS)
		json_array_remove(rows, json_array_size(rows) - 1);
	shown = json_pack("{s:b, s:I, s:I, s:O}", "dry_run", 1, "rows", (json_int_t)p->swept.rows, "changed",
			  (json_int_t)p->swept.changed, "sample", rows);
	hp_buf_clear(&tx->rows);
	if (shown && (p->swept.total < 0 || json_object_set_new(shown, "total", json_integer(p->swept.total)) == 0))
		rc = hp_json_write(&tx->rows, shown, err);
	else
		hp_fail(err, HP_E_NOMEM, "no memory for a sample");
	json_decref(shown);
	json_decref(rows);
	return rc;
}

static void finished(struct hp_sql_tx *tx, int64_t now)
{
	struct pgs_page *p = tx->page;
	struct hp_error err = { 0 };

	if (p->q.dry && sample(tx, &err) < 0) {
		refuse(tx, "too_large", &err);
		return;
	}
	p->swept.cursor = hp_buf_bytes(&p->cursor);
	if (p->q.each_row && p->swept.rows > 0)
		p->swept.row = hp_buf_bytes(&tx->rows);
	tx->result = (struct hp_sql_rows){ .outcome = HP_CLASS_OK, .swept = p->swept, .tx = tx };
	if (p->q.dry)
		tx->result.rows = hp_buf_bytes(&tx->rows);
	tx->cb(tx->arg, now, &tx->result);
}

/* ---- EXEC ---- */

static int64_t changed(const PGresult *q)
{
	const char *count = PQcmdTuples((PGresult *)(uintptr_t)q);

	return *count ? strtoll(count, NULL, 10) : PQntuples(q);
}

static void exec_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct hp_sql_tx *tx = call->arg;

	if (r->outcome != HP_PG_OK) {
		pgs_tx_broken(tx, r);
		return;
	}
	tx->page->swept.changed += changed(r->results[0]);
	finished(tx, 0);
}

static void exec_page(struct hp_sql_tx *tx)
{
	struct pgs_call *c = pgs_call_new(tx->at->s, sizeof *c, exec_done, tx);
	struct hp_pg_unit *u = unit_of(tx);

	hp_pg_statement(u, tx->text);
	hp_pg_bind_textn(u, hp_buf_str(&tx->rows), tx->rows.n);
	send(tx, u, c, bind_rest(u, tx, tx->text, 2, &c->error));
}

/* ---- ROWS ---- */

/* The key of the last row. */
static int take_cursor(struct hp_sql_tx *tx, const PGresult *q, const char **code, struct hp_error *err)
{
	struct pgs_page *p = tx->page;
	int column = PQfnumber(q, p->q.column), last = PQntuples(q) - 1;
	char name[HP_NAME_MAX * 2 + 3];

	if (column < 0) { /* PQfnumber() folds case unless the name is quoted */
		snprintf(name, sizeof name, "\"%.*s\"", HP_NAME_MAX, p->q.column);
		column = PQfnumber(q, name);
	}
	*code = "cursor_missing";
	if (column < 0)
		return hp_fail(err, HP_E_INVALID, "rows has no column \"%s\"", p->q.column);
	if (PQgetisnull(q, last, column))
		return hp_fail(err, HP_E_INVALID, "\"%s\" of the page's last row is null: no page could come after it",
			       p->q.column);
	*code = "cursor_too_long";
	if (pgs_value_json(&p->cursor, q, last, column) == 0 && !p->cursor.failed)
		return 0;
	return p->cursor.no_memory
		       ? hp_fail(err, HP_E_NOMEM, "no memory for \"%s\"", p->q.column)
		       : hp_fail(err, HP_E_TOO_LARGE, "\"%s\" is longer than %d bytes", p->q.column, HP_CURSOR_MAX);
}

static void rows_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct hp_sql_tx *tx = call->arg;
	struct pgs_page *p = tx->page;
	struct hp_error err = { 0 };
	const char *code = NULL;
	const PGresult *q;

	if (r->outcome != HP_PG_OK) {
		pgs_tx_broken(tx, r);
		return;
	}
	q = r->results[0];
	p->swept.rows = PQntuples(q);
	if (p->swept.rows > p->q.limit) {
		hp_fail(&err, HP_E_INVALID, "rows gave more than $2: it must end with `limit $2`");
		refuse(tx, "too_many_rows", &err);
		return;
	}
	if (pgs_rows_json(q, p->q.each_row && !p->q.dry ? HP_SQL_ONE : HP_SQL_MANY, &tx->rows, &code, &err) < 0 ||
	    (p->swept.rows > 0 && take_cursor(tx, q, &code, &err) < 0)) {
		refuse(tx, code, &err);
		return;
	}
	if (p->swept.rows > 0 && !p->q.each_row)
		exec_page(tx);
	else
		finished(tx, 0);
}

static void look_for_rows(struct hp_sql_tx *tx)
{
	struct pgs_page *p = tx->page;
	struct pgs_call *c = pgs_call_new(tx->at->s, sizeof *c, rows_done, tx);
	struct hp_pg_unit *u = unit_of(tx);
	json_t *page = json_array(), *cursor;
	int rc = -1;

	p->looking = true;
	if (p->q.dry && p->q.each_row)
		p->q.limit = SAMPLE_ROWS;
	cursor = hp_json_parse(p->q.cursor.p, p->q.cursor.n, "cursor", &c->error);
	if (cursor && json_array_append_new(page, cursor) == 0 &&
	    json_array_append_new(page, json_integer(p->q.limit)) == 0) {
		hp_pg_statement(u, p->q.rows);
		rc = pgs_tx_bind_args(u, page, &c->error);
		if (rc == 0)
			rc = bind_rest(u, tx, p->q.rows, 3, &c->error);
	}
	json_decref(page);
	send(tx, u, c, rc);
}

/* ---- BEGIN ---- */

static void begin_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct hp_sql_tx *tx = call->arg;
	struct pgs_page *p = tx->page;
	struct hp_error err;

	if (r->outcome != HP_PG_OK) {
		pgs_tx_broken(tx, r);
		return;
	}
	if (p->lag_at)
		p->swept.lag = strtoll(PQgetvalue(r->results[p->lag_at], 0, 0), NULL, 10);
	if (p->total_at) {
		const PGresult *q = r->results[p->total_at];

		if (PQntuples(q) != 1 || PQnfields(q) != 1 || PQgetisnull(q, 0, 0)) {
			hp_fail(&err, HP_E_INVALID, "total must give one row with one number");
			refuse(tx, "total_not_a_number", &err);
			return;
		}
		p->swept.total = strtoll(PQgetvalue(q, 0, 0), NULL, 10);
	}
	if (p->done_at)
		p->swept.changed = changed(r->results[p->done_at]);
	if (p->q.lag_max > 0 && p->swept.lag > p->q.lag_max) {
		p->swept.rows = -1;
		finished(tx, 0);
		return;
	}
	look_for_rows(tx);
}

void pgs_page_send(struct hp_sql_tx *tx)
{
	struct pgs_page *p = tx->page;
	struct pgs_call *c = pgs_call_new(tx->at->s, sizeof *c, begin_done, tx);
	struct hp_pg_unit *u = unit_of(tx);
	int rc = 0, at = 2; /* after begin and the settings */

	pgs_tx_bind_settings(u, tx);
	if (p->q.lag_max > 0) {
		hp_pg_statement(u, "select holdpoint.replication_lag()");
		p->lag_at = at++;
	}
	if (p->q.total) {
		hp_pg_statement(u, p->q.total);
		rc = bind_rest(u, tx, p->q.total, 1, &c->error);
		p->total_at = at++;
	}
	if (rc == 0 && p->q.row.n > 0) {
		hp_pg_statement(u, tx->text);
		hp_pg_bind_textn(u, p->q.row.p, p->q.row.n);
		hp_pg_bind_textn(u, p->q.reply.p, p->q.reply.n);
		rc = bind_rest(u, tx, tx->text, 3, &c->error);
		p->done_at = at++;
	}
	send(tx, u, c, rc);
}
