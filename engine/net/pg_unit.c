/* pg_unit.c: building units of SQL, and reading results. No I/O here.
 *
 * All texts and parameters of a unit go, one after the other, into a single
 * growing buffer; a parameter is an offset into it. So an array of 256 values
 * costs 256 appends and no allocation of its own. A builder that fails (memory,
 * limit, a NUL inside a text) marks the unit, and hp_pg_submit() reports it: a
 * chain of binds needs one check at its end.
 *
 * Binary formats are those of the types' receive functions: integers and
 * lengths big-endian; jsonb preceded by its version, 1; an array is ndim,
 * has-null flag, element type, then size and lower bound per dimension, then
 * length and bytes per element, length -1 being null.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "net/pg_private.h"

/* Object ids of pg_type: fixed for ever (src/include/catalog/pg_type.dat). */
enum {
	OID_BOOL = 16,
	OID_BYTEA = 17,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_OID = 26,
	OID_BYTEA_ARRAY = 1001,
	OID_TEXT_ARRAY = 1009,
	OID_INT8_ARRAY = 1016,
	OID_JSONB = 3802,
	OID_JSONB_ARRAY = 3807,
};

static void unit_bad(struct hp_pg_unit *u, enum hp_code code, const char *what)
{
	if (u->bad)
		return; /* the first reason is the one that helps */
	u->bad = true;
	(void)hp_fail(&u->error, code, "SQL statement %d, parameter %d: %s", u->n_statements,
		      u->n_statements ? u->statements[u->n_statements - 1].n_params : 0, what);
}

/* After each append: a buffer that is full or without memory spoils the unit. */
static void unit_check_data(struct hp_pg_unit *u)
{
	if (u->data.no_memory)
		unit_bad(u, HP_E_NOMEM, "no memory for the unit");
	else if (u->data.failed)
		unit_bad(u, HP_E_TOO_LARGE, "the unit is larger than 128 MiB");
}

/* Room for one more element in a growing array; false: no memory. */
static bool grow(void **p, int n, int *cap, size_t size)
{
	if (n < *cap)
		return true;
	int want = *cap ? *cap * 2 : 4;
	void *bigger = hp_realloc(*p, (size_t)want * size);
	if (!bigger)
		return false;
	*p = bigger;
	*cap = want;
	return true;
}

struct hp_pg_unit *hp_pg_unit_new(struct hp_pg *pg)
{
	struct hp_pg_unit *u = hp_calloc(1, sizeof *u);
	if (!u)
		return NULL;
	hp_list_init(&u->link);
	u->pg = pg;
	hp_buf_init(&u->data, HP_PG_UNIT_MAX);
	return u;
}

void hp_pg_unit_sent(struct hp_pg_unit *u)
{
	hp_buf_free(&u->data);
	hp_free(u->params);
	u->params = NULL;
	u->n_params = u->cap_params = 0;
}

void hp_pg_unit_free(struct hp_pg_unit *u)
{
	if (!u)
		return;
	hp_pg_unit_sent(u);
	for (int i = 0; u->results && i < u->n_statements; i++)
		PQclear(u->results[i]);
	hp_free(u->results);
	hp_free(u->statements);
	hp_free(u);
}

void hp_pg_unit_deadline(struct hp_pg_unit *u, int64_t us)
{
	if (u)
		u->deadline_us = us;
}

void hp_pg_binary_results(struct hp_pg_unit *u, bool on)
{
	if (u)
		u->binary = on;
}

static bool first_word_commits(const char *sql)
{
	static const char *const words[] = {"commit", "end", "prepare"};
	sql += strspn(sql, " \t\r\n\f");
	size_t n = strspn(sql, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strlen(words[i]) == n && !strncasecmp(sql, words[i], n))
			return true;
	return false;
}

void hp_pg_statement(struct hp_pg_unit *u, const char *sql)
{
	if (!u || u->bad)
		return;
	if (u->n_statements == HP_PG_STATEMENTS_MAX) {
		unit_bad(u, HP_E_TOO_LARGE, "more than 1024 statements in a unit");
		return;
	}
	void *p = u->statements;
	if (!grow(&p, u->n_statements, &u->cap_statements, sizeof *u->statements)) {
		unit_bad(u, HP_E_NOMEM, "no memory for the unit");
		return;
	}
	u->statements = p;
	u->statements[u->n_statements++] = (struct pg_statement){
		.sql_off = u->data.n, .first_param = u->n_params, .n_params = 0,
		.commits = first_word_commits(sql)};
	(void)hp_buf_add(&u->data, sql, strlen(sql) + 1);
	unit_check_data(u);
}

/* Opens the next parameter; its bytes are appended next, then param_end().
 * NULL: the unit is spoilt, append nothing. */
static struct pg_param *param_begin(struct hp_pg_unit *u, Oid type, bool binary)
{
	if (!u || u->bad)
		return NULL;
	HP_ASSERT(u->n_statements > 0); /* hp_pg_statement() comes first */
	struct pg_statement *st = &u->statements[u->n_statements - 1];
	if (st->n_params >= HP_PG_PARAMS_MAX) {
		unit_bad(u, HP_E_TOO_LARGE, "more than 65535 parameters");
		return NULL;
	}
	void *p = u->params;
	if (!grow(&p, u->n_params, &u->cap_params, sizeof *u->params)) {
		unit_bad(u, HP_E_NOMEM, "no memory for the unit");
		return NULL;
	}
	u->params = p;
	struct pg_param *param = &u->params[u->n_params++];
	st->n_params++;
	*param = (struct pg_param){.off = u->data.n, .type = type, .binary = binary};
	return param;
}

static void param_end(struct hp_pg_unit *u, struct pg_param *param)
{
	param->len = (int)(u->data.n - param->off); /* at most HP_PG_UNIT_MAX */
	/* libpq reads text to its NUL, and a NULL pointer would mean SQL null, so
	 * even an empty value needs a byte of its own. */
	(void)hp_buf_addc(&u->data, '\0');
	unit_check_data(u);
}

static void bind_bytes(struct hp_pg_unit *u, Oid type, bool binary, const void *p, size_t n)
{
	struct pg_param *param = param_begin(u, type, binary);
	if (!param)
		return;
	if (n)
		(void)hp_buf_add(&u->data, p, n);
	param_end(u, param);
}

static void bind_null(struct hp_pg_unit *u, Oid type)
{
	struct pg_param *param = param_begin(u, type, false);
	if (param)
		param->null = true;
}

void hp_pg_bind_null(struct hp_pg_unit *u)
{
	bind_null(u, 0);
}

void hp_pg_bind_textn(struct hp_pg_unit *u, const char *s, size_t n)
{
	if (!s) {
		bind_null(u, 0);
		return;
	}
	/* Sent in text format, so that the server infers the type; libpq then takes
	 * strlen() of it, and a NUL would cut the value without a word. */
	if (u && memchr(s, '\0', n))
		unit_bad(u, HP_E_INVALID, "a text cannot hold U+0000; remove it or bind a bytea");
	bind_bytes(u, 0, false, s, n);
}

void hp_pg_bind_text(struct hp_pg_unit *u, const char *s)
{
	hp_pg_bind_textn(u, s, s ? strlen(s) : 0);
}

void hp_pg_bind_int(struct hp_pg_unit *u, int64_t v)
{
	uint64_t be = htobe64((uint64_t)v);
	bind_bytes(u, OID_INT8, true, &be, sizeof be);
}

void hp_pg_bind_bool(struct hp_pg_unit *u, bool v)
{
	char c = v ? 1 : 0;
	bind_bytes(u, OID_BOOL, true, &c, 1);
}

void hp_pg_bind_bytea(struct hp_pg_unit *u, const void *p, size_t n)
{
	if (p)
		bind_bytes(u, OID_BYTEA, true, p, n);
	else
		bind_null(u, OID_BYTEA);
}

void hp_pg_bind_jsonb(struct hp_pg_unit *u, const char *p, size_t n)
{
	if (!p) {
		bind_null(u, OID_JSONB);
		return;
	}
	struct pg_param *param = param_begin(u, OID_JSONB, true);
	if (!param)
		return;
	(void)hp_buf_addc(&u->data, 1);
	(void)hp_buf_add(&u->data, p, n);
	param_end(u, param);
}

/* An empty array has no dimension at all. */
static void array_header(struct hp_buf *b, Oid element, int n, bool has_null)
{
	uint32_t head[5] = {htobe32(n > 0 ? 1u : 0u), htobe32(has_null ? 1u : 0u), htobe32(element),
			    htobe32((uint32_t)n), htobe32(1u)};
	(void)hp_buf_add(b, head, n > 0 ? sizeof head : 3 * sizeof head[0]);
}

void hp_pg_bind_int_array(struct hp_pg_unit *u, const int64_t *v, int n)
{
	struct pg_param *param = param_begin(u, OID_INT8_ARRAY, true);
	if (!param)
		return;
	array_header(&u->data, OID_INT8, n, false);
	for (int i = 0; i < n; i++) {
		char element[12];
		uint32_t len = htobe32(8);
		uint64_t be = htobe64((uint64_t)v[i]);
		memcpy(element, &len, 4);
		memcpy(element + 4, &be, 8);
		(void)hp_buf_add(&u->data, element, sizeof element);
	}
	param_end(u, param);
}

/* version: jsonb's leading byte, or -1 for types that have none. */
static void bind_array(struct hp_pg_unit *u, Oid array, Oid element, const struct hp_bytes *v, int n,
		       int version)
{
	struct pg_param *param = param_begin(u, array, true);
	if (!param)
		return;
	size_t extra = version >= 0 ? 1 : 0;
	bool has_null = false;
	for (int i = 0; i < n && !has_null; i++)
		has_null = !v[i].p;
	array_header(&u->data, element, n, has_null);
	for (int i = 0; i < n; i++) {
		if (v[i].p && v[i].n >= HP_PG_UNIT_MAX)
			unit_bad(u, HP_E_TOO_LARGE, "an array element is larger than 128 MiB");
		uint32_t len = htobe32(v[i].p ? (uint32_t)(v[i].n + extra) : UINT32_MAX);
		(void)hp_buf_add(&u->data, &len, sizeof len);
		if (v[i].p && extra)
			(void)hp_buf_addc(&u->data, (char)version);
		if (v[i].p && v[i].n)
			(void)hp_buf_add(&u->data, v[i].p, v[i].n);
	}
	param_end(u, param);
}

void hp_pg_bind_text_array(struct hp_pg_unit *u, const struct hp_bytes *v, int n)
{
	bind_array(u, OID_TEXT_ARRAY, OID_TEXT, v, n, -1);
}

void hp_pg_bind_jsonb_array(struct hp_pg_unit *u, const struct hp_bytes *v, int n)
{
	bind_array(u, OID_JSONB_ARRAY, OID_JSONB, v, n, 1);
}

void hp_pg_bind_bytea_array(struct hp_pg_unit *u, const struct hp_bytes *v, int n)
{
	bind_array(u, OID_BYTEA_ARRAY, OID_BYTEA, v, n, -1);
}

/* --- reading results ------------------------------------------------------- */

int64_t hp_pg_int(const PGresult *r, int row, int col)
{
	if (PQgetisnull(r, row, col))
		return 0;
	const char *p = PQgetvalue(r, row, col);
	if (PQfformat(r, col) == 0)
		return strtoll(p, NULL, 10);
	uint64_t be8;
	uint32_t be4;
	uint16_t be2;
	switch (PQftype(r, col)) {
	case OID_INT8:
		memcpy(&be8, p, 8);
		return (int64_t)be64toh(be8);
	case OID_INT4:
		memcpy(&be4, p, 4);
		return (int32_t)be32toh(be4);
	case OID_INT2:
		memcpy(&be2, p, 2);
		return (int16_t)be16toh(be2);
	case OID_OID:
		memcpy(&be4, p, 4);
		return be32toh(be4);
	default:
		/* Our own SQL and this reader disagree: a wrong number is worse than a stop. */
		HP_ASSERT(PQftype(r, col) == OID_BOOL);
		return p[0] != 0;
	}
}

bool hp_pg_bool(const PGresult *r, int row, int col)
{
	if (PQgetisnull(r, row, col))
		return false;
	char c = PQgetvalue(r, row, col)[0];
	return PQfformat(r, col) == 0 ? c == 't' : c != 0;
}

const char *hp_pg_text(const PGresult *r, int row, int col)
{
	return PQgetvalue(r, row, col); /* "" for SQL null */
}

struct hp_bytes hp_pg_bytes(const PGresult *r, int row, int col)
{
	if (PQgetisnull(r, row, col))
		return (struct hp_bytes){NULL, 0};
	struct hp_bytes b = {PQgetvalue(r, row, col), (size_t)PQgetlength(r, row, col)};
	if (PQfformat(r, col) == 1 && PQftype(r, col) == OID_JSONB && b.n > 0) {
		b.p++;
		b.n--;
	}
	return b;
}

enum hp_code hp_pg_code_of(const char *s)
{
	if (!strcmp(s, "57014"))
		return HP_E_TIMEOUT; /* statement_timeout, or cancelled */
	if (!strcmp(s, "55P03") || !strncmp(s, "40", 2) || !strncmp(s, "53", 2) || !strncmp(s, "57P", 3))
		return HP_E_UNAVAILABLE; /* lock not available, deadlock, resources, shutdown */
	if (!strcmp(s, "42501"))
		return HP_E_FORBIDDEN;
	if (!strcmp(s, "23505"))
		return HP_E_CONFLICT;
	return HP_E_INVALID;
}
