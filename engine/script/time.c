/* time.c: texts that mean a time.
 *
 * RFC 3339 date-times; HTTP dates in the three forms of RFC 9110 section 5.6.7;
 * Retry-After (RFC 9110 section 10.2.3) and ratelimit-reset, which is seconds at
 * some providers and a date at others.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "script/internal.h"

/* Reads exactly n digits. */
static bool digits(const char **p, int n, int *out)
{
	int v = 0, i;

	for (i = 0; i < n; i++) {
		if ((*p)[i] < '0' || (*p)[i] > '9')
			return false;
		v = v * 10 + ((*p)[i] - '0');
	}
	*p += n;
	*out = v;
	return true;
}

static bool sign(const char **p, const char *allowed)
{
	if (**p == '\0' || !strchr(allowed, **p))
		return false;
	(*p)++;
	return true;
}

static int days_in(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (month == 2 && (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)))
		return 29;
	return days[month - 1];
}

/* The offset behind the time, in minutes. */
static bool offset(const char **p, int *minutes)
{
	bool minus = **p == '-';
	int h, m;

	*minutes = 0;
	if (sign(p, "Zz"))
		return true;
	if (!sign(p, "+-") || !digits(p, 2, &h) || !sign(p, ":") || !digits(p, 2, &m) || h > 23 || m > 59)
		return false;
	*minutes = (h * 60 + m) * (minus ? -1 : 1);
	return true;
}

int hp_time_parse(const char *s, int64_t *us)
{
	const char *p = s;
	int year, month, day, hour, minute, second, off;
	int64_t fraction = 0, scale = HP_SECOND / 10;
	struct tm tm = {0};

	if (!digits(&p, 4, &year) || !sign(&p, "-") || !digits(&p, 2, &month) || !sign(&p, "-") ||
	    !digits(&p, 2, &day) || !sign(&p, "Tt ") || !digits(&p, 2, &hour) || !sign(&p, ":") ||
	    !digits(&p, 2, &minute) || !sign(&p, ":") || !digits(&p, 2, &second))
		return -1;
	if (month < 1 || month > 12 || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 60)
		return -1;
	if (*p == '.') {
		p++;
		if (*p < '0' || *p > '9')
			return -1;
		for (; *p >= '0' && *p <= '9'; p++, scale /= 10) /* beyond µs: cut */
			fraction += scale * (*p - '0');
	}
	if (!offset(&p, &off) || *p != '\0')
		return -1;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	tm.tm_mday = day;
	tm.tm_hour = hour;
	tm.tm_min = minute - off;
	tm.tm_sec = second;
	*us = (int64_t)timegm(&tm) * HP_SECOND + fraction;
	return 0;
}

int hp_http_date_parse(const char *s, int64_t *us)
{
	static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
					    "%a %b %e %H:%M:%S %Y"};
	size_t i;

	for (i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct tm tm = {0};
		const char *end = strptime(s, forms[i], &tm);

		if (end && *end == '\0') {
			*us = (int64_t)timegm(&tm) * HP_SECOND;
			return 0;
		}
	}
	return hp_time_parse(s, us);
}

#define EPOCH_FROM 1e9 /* a number as large as that is a time, not a duration */

static double advice(const char *text, int64_t now)
{
	char *end;
	double v;
	int64_t at;

	if (!text)
		return -1;
	if (strspn(text, "0123456789.") == strlen(text) && *text) {
		v = strtod(text, &end);
		if (*end != '\0')
			return -1;
		if (v >= EPOCH_FROM)
			v -= (double)now / (double)HP_SECOND;
		return v < 0 ? 0 : v;
	}
	if (hp_http_date_parse(text, &at) < 0)
		return -1;
	return at > now ? (double)(at - now) / (double)HP_SECOND : 0;
}

double hp_retry_seconds(const char *retry_after, const char *ratelimit_reset, int64_t now)
{
	double v = advice(retry_after, now);

	return v >= 0 ? v : advice(ratelimit_reset, now);
}
