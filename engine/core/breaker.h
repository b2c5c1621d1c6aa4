/* breaker.h: when an endpoint is no longer called, and when it is again. Pure.
 *
 * An endpoint is a connector ("stripe"), or one operation of it that declares a breaker
 * of its own ("stripe.refunds.create"). What counts as a failure is the endpoint's
 * trouble, not ours and not the caller's: no answer (timeout, connection lost or
 * refused), or an answer of which the connector says "try again" or "unknown" - except
 * 4xx other than 408: who answers "too many" or "conflict" works.
 *
 * Calls are counted in HP_BREAKER_BUCKETS buckets of the rolling window, numbered by
 * the database's clock, so that the counts of many workers can be added up. All workers
 * together decide: each reports what it saw, and looks at the sum.
 */
#ifndef HP_CORE_BREAKER_H
#define HP_CORE_BREAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/definition.h"

#define HP_BREAKER_BUCKETS 6
#define HP_BREAKER_NAME_MAX (2 * 64 + 2)

struct hp_breaker_spec {
	int failures_percent;  /* of the calls in the window; 0: not looked at */
	int minimum;           /* fewer calls in the window say nothing */
	int64_t window_us;
	int consecutive;       /* failures in a row; 0: not looked at */
	int64_t slow_us;       /* a call that takes this long is slow; 0: not looked at */
	int slow_percent;
	int64_t open_us;       /* then some requests probe it */
	int probes;            /* at a time; so many good answers close it */
};
extern const struct hp_breaker_spec hp_breaker_default;

struct hp_breaker_bucket {
	int64_t number;        /* time / width */
	int64_t calls, failed, slow;
};
struct hp_breaker_window {
	struct hp_breaker_bucket buckets[HP_BREAKER_BUCKETS]; /* place: number % HP_BREAKER_BUCKETS */
	int64_t in_row;        /* failures since the last call that went well */
};

int64_t hp_breaker_width(const struct hp_breaker_spec *s);
/* status 0: not answered. */
bool hp_breaker_failure(enum hp_class outcome, int status);
void hp_breaker_note(struct hp_breaker_window *w, const struct hp_breaker_spec *s, int64_t now, bool failed,
		     int64_t took_us);
/* Adds counts of somebody else's bucket. */
void hp_breaker_add(struct hp_breaker_window *w, const struct hp_breaker_bucket *b);
/* Should it open? reason: with the figures, for people ("12 of 20 requests failed within 30s"). */
bool hp_breaker_trips(const struct hp_breaker_window *w, const struct hp_breaker_spec *s, int64_t now,
		      char *reason, size_t n);

/* Half-open. How long it stays open after it has failed half-open so many times in a row: it is
 * asked less and less often. */
int64_t hp_breaker_open_for(int64_t open_us, int reopened);
/* May one more probe leave? live: under way; passed: answered well so far. */
bool hp_breaker_may_probe(int probes, int passed, int live);
/* How many of those that wait behind a closed breaker may go in this wave (from 0),
 * waited_us after the one before. */
int hp_breaker_wave(int wave, int64_t waited_us);

/* A budget of retries, per endpoint and worker: calls that went well earn them, so a
 * healthy endpoint's retries are free, and a failing one is asked hardly more often than
 * by first attempts alone. It is never refused, only put off: retries beyond the budget
 * follow each other at the floor's pace. All zero: full. */
struct hp_retry_budget {
	int64_t owed;  /* thousandths of a retry, used and not yet earned back */
	int64_t at;    /* when that was so */
};
#define HP_RETRY_EARNED 100           /* by a call that went well: a tenth of a retry */
#define HP_RETRY_SAVED (20 * 1000)    /* so much may be owed before one is put off */
#define HP_RETRY_FLOOR_US INT64_C(1000000) /* one retry in this time is always free */
#define HP_RETRY_PUT_OFF_MAX (INT64_C(300) * 1000000)
void hp_retry_earn(struct hp_retry_budget *b);
/* Takes one; returns how long it must be put off at least, 0: not at all. */
int64_t hp_retry_take(struct hp_retry_budget *b, int64_t now);

#endif
