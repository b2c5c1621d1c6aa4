/* cron.h: when a schedule ticks.
 *
 * Five fields (minute, hour, day of month, month, day of week) with lists, ranges,
 * steps, names of months and days, 7 for Sunday, L for the last day of the month;
 * @hourly, @daily, @weekly, @monthly, @yearly; @every 90s. As in Vixie's cron, when
 * both days are restricted either is enough.
 *
 * Where the clock changes, also as Vixie's cron (Debian's):
 *  - a job at fixed times (neither minute nor hour begins with `*`) whose time is
 *    skipped ticks at the first instant after the gap; one whose time comes twice
 *    ticks at the first; two that fall on one instant are one tick;
 *  - a job with `*` in minute or hour follows real time: nothing in the gap, both
 *    of the doubled hours. (Vixie does so for changes under three hours; here the
 *    rule holds for every change.)
 *
 * @every D ticks at whole multiples of D since 1970-01-01 00:00 UTC, in every zone:
 * so engines need not agree on a beginning, and a deployment shifts nothing.
 */
#ifndef HP_CORE_CRON_H
#define HP_CORE_CRON_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "core/zone.h"

struct hp_cron {
	uint64_t minutes;
	uint32_t hours, days, months; /* bit n: n is in it */
	uint8_t weekdays;             /* bit 0: Sunday */
	bool last_day;                /* L */
	bool any_day, any_weekday;    /* the field begins with `*` */
	bool real_time;               /* `*` in minute or hour */
	int64_t every_us;             /* > 0: @every, nothing else counts */
};

int hp_cron_parse(const char *text, struct hp_cron *c, struct hp_error *err) HP_MUST_CHECK;

/* The first tick after an instant (µs); false: there is none in the twelve years
 * after it, which no date that exists can do. */
bool hp_cron_next(const struct hp_cron *c, const struct hp_zone *z, int64_t after, int64_t *tick);

/* How much later than its tick a run starts: from 0 to max, the same on every engine. */
int64_t hp_cron_jitter(const char *schedule, int64_t tick, int64_t max);

#endif
