/* zone.c: which offset holds when, and what instant a clock on the wall means. */
#include "core/zone.h"

#include <string.h>

static const int32_t utc_offset[1] = {0};
const struct hp_zone hp_zone_utc = {.offset = utc_offset};

#define DAY INT64_C(86400)

/* ---- the calendar ---- */

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

/* A year that begins in March has its leap day last; 400 years have 146097 days. */
int64_t hp_days_of(int64_t year, int month, int day)
{
	int64_t y = year - (month <= 2), era = floor_div(y, 400), of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void hp_date_of(int64_t days, int64_t *year, int *month, int *day)
{
	int64_t z = days + 719468, era = floor_div(z, 146097), of_era = z - era * 146097;
	int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;

	*day = (int)(of_year - (153 * m + 2) / 5 + 1);
	*month = (int)(m < 10 ? m + 3 : m - 9);
	*year = y + era * 400 + (*month <= 2);
}

static bool is_leap(int64_t year)
{
	return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* ---- POSIX rules ---- */

/* Days since 1970 of the rule's day in a year. */
static int64_t rule_day(const struct hp_zone_day *d, int64_t year)
{
	int64_t first, last;

	if (d->kind == 'J')
		return hp_days_of(year, 1, 1) + d->day - 1 + (is_leap(year) && d->day >= 60);
	if (d->kind == 'D')
		return hp_days_of(year, 1, 1) + d->day;
	first = hp_days_of(year, d->month, 1);
	last = d->month == 12 ? hp_days_of(year + 1, 1, 1) - 1 : hp_days_of(year, d->month + 1, 1) - 1;
	/* 1970-01-01 was a Thursday */
	first += (d->day - (first + 4 - floor_div(first + 4, 7) * 7) + 7) % 7;
	first += 7 * (d->week - 1);
	return first > last ? first - 7 : first;
}

static int64_t change_at(const struct hp_zone_rule *r, int64_t year, bool start)
{
	const struct hp_zone_day *d = start ? &r->start : &r->end;

	return rule_day(d, year) * DAY + d->time - (start ? r->standard : r->dst);
}

/* Three years of changes are enough: the span of t begins and ends within them. */
static struct hp_zone_span rule_at(const struct hp_zone_rule *r, int64_t t)
{
	struct hp_zone_span s = {INT64_MIN, INT64_MAX, r->standard};
	int64_t year;
	int month, day;

	if (!r->has_dst)
		return s;
	hp_date_of(floor_div(t, DAY), &year, &month, &day);
	for (int64_t y = year - 1; y <= year + 1; y++)
		for (int start = 0; start < 2; start++) {
			int64_t at = change_at(r, y, start);

			if (at <= t && at >= s.from) {
				s.from = at;
				s.offset = start ? r->dst : r->standard;
			}
			if (at > t && at < s.until)
				s.until = at;
		}
	return s;
}

struct hp_zone_span hp_zone_at(const struct hp_zone *z, int64_t t)
{
	int low = 0, high = z->n;
	struct hp_zone_span s;

	while (low < high) { /* the number of changes at or before t */
		int mid = low + (high - low) / 2;

		if (z->at[mid] <= t)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == z->n && z->rule.present) {
		s = rule_at(&z->rule, t);
		if (z->n > 0 && s.from < z->at[z->n - 1])
			s.from = z->at[z->n - 1];
		return s;
	}
	s.from = low > 0 ? z->at[low - 1] : INT64_MIN;
	s.until = low < z->n ? z->at[low] : INT64_MAX;
	s.offset = z->offset[low];
	return s;
}

int64_t hp_zone_instant(const struct hp_zone *z, int64_t wall)
{
	struct hp_zone_span s = hp_zone_at(z, wall - HP_ZONE_SPREAD);
	int64_t after_gap = INT64_MAX;

	for (;;) {
		int64_t t = wall - s.offset;

		if (s.from <= t && t < s.until)
			return t;
		if (t < s.from && s.from < after_gap) /* skipped, unless it comes when the clock is set back again */
			after_gap = s.from;
		if (s.until > wall + HP_ZONE_SPREAD)
			return after_gap;
		s = hp_zone_at(z, s.until);
	}
}

/* ---- reading rules ---- */

static bool number(const char **p, int max, int *out)
{
	int v = 0, digits = 0;

	for (; **p >= '0' && **p <= '9' && digits < 4; ++*p, digits++)
		v = v * 10 + (**p - '0');
	*out = v;
	return digits > 0 && v <= max;
}

/* "CET" or "<+1030>" */
static bool skip_name(const char **p)
{
	const char *from = *p;

	if (**p == '<') {
		*p += strcspn(*p, ">");
		if (**p != '>')
			return false;
		++*p;
		return true;
	}
	while ((**p >= 'A' && **p <= 'Z') || (**p >= 'a' && **p <= 'z'))
		++*p;
	return *p - from >= 3;
}

/* Hours of an offset (POSIX), and of the time of a change (RFC 9636, 3.3.1). */
enum { OFFSET_HOURS = 24, CHANGE_HOURS = 167 };

/* "-1", "10:30", "-167:59:59" → seconds */
static bool clock_time(const char **p, int hours, int32_t *out)
{
	int sign = **p == '-' ? -1 : 1, v[3] = {0, 0, 0};

	if (**p == '-' || **p == '+')
		++*p;
	if (!number(p, hours, &v[0]))
		return false;
	for (int i = 1; i < 3 && **p == ':'; i++) {
		++*p;
		if (!number(p, 59, &v[i]))
			return false;
	}
	*out = sign * (v[0] * 3600 + v[1] * 60 + v[2]);
	return true;
}

static bool day_of_change(const char **p, struct hp_zone_day *d)
{
	d->kind = **p == 'M' || **p == 'J' ? **p : 'D';
	d->time = 2 * 3600;
	*p += d->kind != 'D';
	if (d->kind == 'M') {
		if (!number(p, 12, &d->month) || d->month < 1 || *(*p)++ != '.' || !number(p, 5, &d->week) ||
		    d->week < 1 || *(*p)++ != '.' || !number(p, 6, &d->day))
			return false;
	} else if (!number(p, 365, &d->day) || (d->kind == 'J' && d->day < 1)) {
		return false;
	}
	if (**p != '/')
		return true;
	++*p;
	return clock_time(p, CHANGE_HOURS, &d->time);
}

static bool rule(const char *p, struct hp_zone_rule *r)
{
	int32_t west;

	if (!skip_name(&p) || !clock_time(&p, OFFSET_HOURS, &west))
		return false;
	r->standard = -west; /* POSIX counts westwards */
	r->dst = r->standard + 3600;
	r->present = true;
	if (*p == '\0')
		return true;
	r->has_dst = true;
	if (!skip_name(&p))
		return false;
	if (*p != ',') {
		if (!clock_time(&p, OFFSET_HOURS, &west))
			return false;
		r->dst = -west;
	}
	return *p++ == ',' && day_of_change(&p, &r->start) && *p++ == ',' && day_of_change(&p, &r->end) && *p == '\0';
}

int hp_zone_rule_parse(const char *text, struct hp_zone_rule *r, struct hp_error *err)
{
	*r = (struct hp_zone_rule){0};
	if (*text == '\0' || rule(text, r)) /* empty: nothing is known beyond the last change */
		return 0;
	return hp_fail(err, HP_E_INVALID, "\"%.60s\" is not a POSIX rule of a time zone", text);
}
