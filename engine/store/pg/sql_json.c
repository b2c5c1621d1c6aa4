/* sql_json.c: rows of an author's statement as JSON.
 *
 * The type of the column decides: integers and floats are numbers, booleans are
 * booleans, json and jsonb are what they are, everything else is a string. A
 * numeric is a number when a double or an int64 holds it exactly, else a string:
 * no amount is ever rounded on the way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "store/pg/sql_json.h"

/* pg_type.dat of PostgreSQL: these never change */
enum { T_BOOL = 16, T_INT8 = 20, T_INT2 = 21, T_INT4 = 23, T_OID = 26, T_JSON = 114, T_FLOAT4 = 700,
       T_FLOAT8 = 701, T_NUMERIC = 1700, T_JSONB = 3802 };

/* Only what JSON calls a number: "NaN" and "Infinity" are strings. */
static bool plain_number(const char *v)
{
	return strspn(v, "-+.0123456789eE") == strlen(v) && strpbrk(v, "0123456789");
}

/* 15 significant digits survive a double; integers up to 18 digits an int64. */
static bool numeric_exact(const char *v)
{
	size_t digits = 0;
	bool leading = true;

	for (const char *p = v; *p; p++) {
		if (*p >= '0' && *p <= '9') {
			leading = leading && *p == '0';
			digits += !leading;
		}
	}
	return digits <= (strchr(v, '.') ? 15u : 18u);
}

int pgs_value_json(struct hp_buf *b, const PGresult *q, int row, int col)
{
	const char *v = PQgetvalue(q, row, col);
	size_t n = (size_t)PQgetlength(q, row, col);
	Oid type = PQftype(q, col);

	if (PQgetisnull(q, row, col))
		return hp_buf_adds(b, "null");
	switch (type) {
	case T_BOOL:
		return hp_buf_adds(b, v[0] == 't' ? "true" : "false");
	case T_INT2:
	case T_INT4:
	case T_INT8:
	case T_OID:
	case T_JSON:
	case T_JSONB:
		return hp_buf_add(b, v, n);
	case T_FLOAT4:
	case T_FLOAT8:
	case T_NUMERIC:
		if (plain_number(v) && (type != T_NUMERIC || numeric_exact(v)))
			return hp_buf_add(b, v, n);
		break;
	default:
		break;
	}
	return hp_buf_json(b, v, n);
}

static void write_row(struct hp_buf *b, const PGresult *q, int row)
{
	(void)hp_buf_addc(b, '{');
	for (int col = 0; col < PQnfields(q); col++) {
		if (col)
			(void)hp_buf_addc(b, ',');
		(void)hp_buf_json(b, PQfname(q, col), strlen(PQfname(q, col)));
		(void)hp_buf_addc(b, ':');
		(void)pgs_value_json(b, q, row, col);
	}
	(void)hp_buf_addc(b, '}');
}

static int check_columns(const PGresult *q, const char **code, struct hp_error *err)
{
	for (int i = 0; i < PQnfields(q); i++)
		for (int j = 0; j < i; j++)
			if (strcmp(PQfname(q, i), PQfname(q, j)) == 0) {
				*code = "duplicate_column";
				return hp_fail(err, HP_E_INVALID, "two columns of the answer are called \"%s\"",
					       PQfname(q, i));
			}
	return 0;
}

int pgs_rows_json(const PGresult *q, enum hp_sql_mode mode, struct hp_buf *b, const char **code,
		  struct hp_error *err)
{
	int n = PQntuples(q);
	int most = mode == HP_SQL_ONE ? 1 : HP_SQL_ROWS_MAX;

	if (mode == HP_SQL_EXEC) {
		const char *count = PQcmdTuples((PGresult *)(uintptr_t)q);

		(void)hp_buf_printf(b, "{\"rows\":%s}", *count ? count : "0");
	} else if (n > most) {
		*code = "too_many_rows";
		return hp_fail(err, HP_E_TOO_LARGE, "the statement answered %d rows; at most %d may come", n, most);
	}
	if (mode != HP_SQL_EXEC && check_columns(q, code, err) < 0)
		return -1;
	if (mode == HP_SQL_ONE && n == 0)
		(void)hp_buf_adds(b, "null");
	else if (mode == HP_SQL_ONE)
		write_row(b, q, 0);
	if (mode == HP_SQL_MANY) {
		(void)hp_buf_addc(b, '[');
		for (int row = 0; row < n; row++) {
			if (row)
				(void)hp_buf_addc(b, ',');
			write_row(b, q, row);
		}
		(void)hp_buf_addc(b, ']');
	}
	*code = "too_large";
	return hp_buf_check(b, "the statement's answer", err);
}

const char *pgs_condition(const char *sqlstate)
{
	/* PostgreSQL documentation, appendix A; those an author may want to catch */
	static const char *const map[][2] = {
		{ "23505", "unique_violation" }, { "23503", "foreign_key_violation" },
		{ "23514", "check_violation" }, { "23502", "not_null_violation" },
		{ "23P01", "exclusion_violation" }, { "23001", "restrict_violation" },
		{ "22P02", "invalid_text_representation" }, { "22003", "numeric_value_out_of_range" },
		{ "22001", "string_data_right_truncation" }, { "22007", "invalid_datetime_format" },
		{ "22008", "datetime_field_overflow" }, { "22012", "division_by_zero" },
		{ "42501", "insufficient_privilege" }, { "42601", "syntax_error" },
		{ "42P01", "undefined_table" }, { "42703", "undefined_column" },
		{ "42883", "undefined_function" }, { "42704", "undefined_object" },
		{ "42P18", "indeterminate_datatype" }, { "42804", "datatype_mismatch" },
		{ "21000", "cardinality_violation" }, { "44000", "with_check_option_violation" },
		{ "P0001", "raise_exception" }, { "P0002", "no_data_found" }, { "P0003", "too_many_rows" },
		{ "40001", "serialization_failure" }, { "40P01", "deadlock_detected" },
		{ "55P03", "lock_not_available" }, { "57P01", "admin_shutdown" },
		{ "57P02", "crash_shutdown" }, { "57P03", "cannot_connect_now" },
		{ "53100", "disk_full" }, { "53200", "out_of_memory" }, { "53300", "too_many_connections" },
		{ "25006", "read_only_sql_transaction" },
	};

	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
		if (strcmp(map[i][0], sqlstate) == 0)
			return map[i][1];
	return "sql_error";
}
