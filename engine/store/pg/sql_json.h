/* sql_json.h: what an author's statement answered, as JSON and as error codes. */
#ifndef HP_STORE_PG_SQL_JSON_H
#define HP_STORE_PG_SQL_JSON_H

#include <libpq-fe.h>
#include "base/buf.h"
#include "core/definition.h"

/* Text results → {…} (one), […] (many), {"rows": n} (exec). `one` without a row
 * writes null. On -1 *code is a stable word for `catch`. */
int pgs_rows_json(const PGresult *q, enum hp_sql_mode mode, struct hp_buf *b, const char **code,
		  struct hp_error *err) HP_MUST_CHECK;
/* One value. A failed buffer says that it does not fit. */
int pgs_value_json(struct hp_buf *b, const PGresult *q, int row, int col);
/* "23505" → "unique_violation"; unknown ones → "sql_error" */
const char *pgs_condition(const char *sqlstate);

#endif
