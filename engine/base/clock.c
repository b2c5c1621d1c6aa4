/* clock.c: reading the two clocks, printing an instant. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>
#include "base/error.h"

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;

	/* Fails only for an unknown clock id, and both exist since Linux 2.6.39. */
	HP_ASSERT(clock_gettime(id, &ts) == 0);
	return (int64_t)ts.tv_sec * HP_SECOND + ts.tv_nsec / 1000;
}

int64_t hp_now_us(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t hp_boottime_us(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

const char *hp_time_format(int64_t us, char *buf, size_t n)
{
	int64_t fraction = us % HP_SECOND;
	time_t seconds = (time_t)(us / HP_SECOND);
	struct tm tm;
	size_t used;

	HP_ASSERT(n >= 32);
	if (fraction < 0) { /* before 1970: round down, not towards zero */
		fraction += HP_SECOND;
		seconds--;
	}
	HP_ASSERT(gmtime_r(&seconds, &tm) != NULL);
	used = strftime(buf, n, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + used, n - used, ".%06dZ", (int)fraction);
	return buf;
}
