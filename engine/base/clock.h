/* clock.h: the two clocks. core/ may not include this file: time reaches it
 * inside events. All times are int64_t microseconds. */
#ifndef HP_BASE_CLOCK_H
#define HP_BASE_CLOCK_H

#include <stdint.h>
#include <stddef.h>

#define HP_MSEC INT64_C(1000)
#define HP_SECOND INT64_C(1000000)
#define HP_MINUTE (60 * HP_SECOND)
#define HP_HOUR (60 * HP_MINUTE)
#define HP_DAY (24 * HP_HOUR)

int64_t hp_now_us(void);      /* wall clock, UTC since 1970 */
int64_t hp_boottime_us(void); /* CLOCK_BOOTTIME: goes on during suspend; for leases */
/* RFC 3339 with microseconds and Z, e.g. 2026-11-23T02:04:05.000001Z; buf ≥ 32. */
const char *hp_time_format(int64_t us, char *buf, size_t n);

#endif
