/* value.h: a JSON value given on the command line. */
#ifndef HP_CLI_VALUE_H
#define HP_CLI_VALUE_H

#include <jansson.h>
#include "base/buf.h"
#include "base/error.h"

/* "JSON", "@FILE" or "-" (standard input). `what` names it in errors. Owner: caller. */
json_t *cli_read_value(const char *given, const char *what, struct hp_error *err) HP_MUST_CHECK;
/* All of fd, called `name` in errors; no copy of it stays on the stack. */
int cli_read_all(int fd, const char *name, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

/* "old=new,other=name" (a NULL or empty text: nothing) as an object. Owner: caller. */
json_t *cli_read_map(const char *given, struct hp_error *err) HP_MUST_CHECK;

#endif
