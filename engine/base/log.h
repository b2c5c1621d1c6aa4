/* log.h: structured logs, one JSON object a line, on standard error.
 *
 *   hp_log(HP_INFO, "run parked", "run", HP_I64(id), "state", HP_STR(name), NULL);
 *
 * Keys: use "run", "state", "visit", "attempt", "engine", "source", "error"
 * wherever they apply. Never a body, a header, a secret or personal data.
 */
#ifndef HP_BASE_LOG_H
#define HP_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

enum hp_log_level { HP_DEBUG, HP_INFO, HP_WARN, HP_ERROR };

struct hp_log_value {
	char kind; /* 's' or 'i' */
	const char *s;
	int64_t i;
};
#define HP_STR(x) ((struct hp_log_value){'s', (x), 0})
#define HP_I64(x) ((struct hp_log_value){'i', NULL, (int64_t)(x)})

void hp_log_init(const char *process, enum hp_log_level min); /* e.g. "worker" */
/* name, value pairs end with a NULL name. */
void hp_log(enum hp_log_level level, const char *message, ...);
/* Logs an error struct with its code, message and hint. */
void hp_log_error(enum hp_log_level level, const char *message, const struct hp_error *err);

/* Of what may happen a thousand times a second: counts it, and true when a line is due (the first
 * time, then every `every_us`); *times is then how often it has happened since the last one.
 * now: any clock in µs above 0. Zeroed, the next time is the first. */
struct hp_seldom {
	int64_t told, times;
};
bool hp_log_due(struct hp_seldom *s, int64_t now, int64_t every_us, int64_t *times);

#endif
