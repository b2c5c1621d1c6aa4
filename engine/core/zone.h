/* zone.h: a time zone as plain data: offsets from UTC and when they change.
 *
 * script/zone.c fills it from the system's files; here it is only read, so two
 * calls with the same zone give the same answer on every machine. Seconds since
 * 1970, UTC; a "wall" second is what a clock on the wall shows, counted as if
 * that were UTC. No offset reaches 26 hours, which bounds every search: RFC 9636 has
 * -25 to 26 hours in files, POSIX 24:59:59 in rules, and whoever reads refuses more.
 */
#ifndef HP_CORE_ZONE_H
#define HP_CORE_ZONE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

#define HP_ZONE_SPREAD (26 * 3600) /* every offset is smaller */

/* One day of a year, in the way POSIX writes it, and the wall time of the change. */
struct hp_zone_day {
	char kind;       /* 'M': month.week.day; 'J': 1 … 365 without 29 February; 'D': 0 … 365 */
	int month, week, day;
	int32_t time;    /* seconds after local midnight, may be negative or above a day */
};
/* What holds after the last known change: "CET-1CEST,M3.5.0,M10.5.0/3". */
struct hp_zone_rule {
	bool present, has_dst;
	int32_t standard, dst; /* seconds east of UTC */
	struct hp_zone_day start, end;
};
struct hp_zone {
	const int64_t *at;      /* ascending */
	const int32_t *offset;  /* n + 1: offset[0] before at[0], offset[i + 1] from at[i] on */
	int n;
	struct hp_zone_rule rule;
};
extern const struct hp_zone hp_zone_utc;

/* A stretch of time in which the offset stays: from ≤ t < until. */
struct hp_zone_span {
	int64_t from, until; /* INT64_MIN, INT64_MAX: no end */
	int32_t offset;
};
struct hp_zone_span hp_zone_at(const struct hp_zone *z, int64_t t);

/* The instant of a wall second. A doubled one means its first occurrence; one that
 * a gap skips means the first instant after the gap. */
int64_t hp_zone_instant(const struct hp_zone *z, int64_t wall);

int hp_zone_rule_parse(const char *text, struct hp_zone_rule *r, struct hp_error *err) HP_MUST_CHECK;

/* Days since 1970 of a date, and back (Gregorian for ever). */
int64_t hp_days_of(int64_t year, int month, int day);
void hp_date_of(int64_t days, int64_t *year, int *month, int *day);

#endif
