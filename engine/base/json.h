/* json.h: jansson with our rules.
 *
 * Reading: UTF-8, duplicates in an object refused, depth ≤ HP_JSON_DEPTH_MAX,
 * integers beyond 64 bit refused, U+0000 refused (PostgreSQL's jsonb cannot
 * hold it). Writing: compact, keys sorted, reals with the shortest of 15..17
 * digits that reads back equal.
 */
#ifndef HP_BASE_JSON_H
#define HP_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

/* `what` names the document in messages ("webhook body"). Owner: caller. */
json_t *hp_json_parse(const char *p, size_t n, const char *what, struct hp_error *err) HP_MUST_CHECK;
/* Canonical text, appended. */
int hp_json_write(struct hp_buf *b, const json_t *v, struct hp_error *err) HP_MUST_CHECK;
/* Convenience readers: NULL / fallback when absent or of another type. */
const char *hp_json_str(const json_t *obj, const char *key);
int64_t hp_json_int(const json_t *obj, const char *key, int64_t fallback);
int hp_json_bool(const json_t *obj, const char *key, int fallback);
/* Follows "a.b.c" through objects; borrowed, NULL when absent. */
json_t *hp_json_path(const json_t *obj, const char *path);

#endif
