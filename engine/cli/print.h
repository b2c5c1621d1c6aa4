/* print.h: what commands print.
 *
 * Text that came from outside (providers, people) is printed without control
 * characters, so nothing can paint on an operator's terminal what is not there.
 */
#ifndef HP_CLI_PRINT_H
#define HP_CLI_PRINT_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "base/buf.h"

/* "bold", "red", "green", "yellow", "dim", "" (off); nothing unless standard
 * output is a terminal and NO_COLOR is not set. */
const char *cli_colour(const char *name);
const char *cli_status_colour(const char *status);
/* Appends s without control characters; NULL: "-". max_width > 0: cut with "…". */
void cli_clean(struct hp_buf *out, const char *s, int max_width);
void cli_put(const char *s); /* cleaned, to standard output */
void cli_line(const char *s); /* the same, and a new line */
/* Compact and sorted, one line. */
int cli_print_json(const json_t *v, struct hp_error *err) HP_MUST_CHECK;
/* A JSON value in full for people: strings as they are, objects indented by `indent`. */
void cli_print_value(const json_t *v, int indent);

/* "2026-11-23T02:04:05.000001Z" → µs; 0 when it is none. */
int64_t cli_time_us(const char *iso);
/* "2026-11-23 02:04:05"; "-" for NULL. buf ≥ 32. */
const char *cli_time(const char *iso, char *buf, size_t n);

/* A table: cells are collected, then printed in columns. */
struct cli_table {
	struct hp_buf cells; /* NUL-terminated, one after the other */
	int columns;
};
void cli_table_begin(struct cli_table *t, const char *const *titles, int columns);
void cli_table_cell(struct cli_table *t, const char *text, int max_width);
void cli_table_number(struct cli_table *t, int64_t v);
/* Prints and frees; `empty` when there is no row. */
void cli_table_end(struct cli_table *t, const char *empty);

/* One line of a run's history; *last: time of the line before (0: none). */
void cli_print_step(const json_t *row, int64_t *last);

#endif
