/* cron.c: cron expressions, read and followed. */
#include "core/cron.h"

#include <string.h>
#include "base/words.h"

#define SECOND INT64_C(1000000)
#define DAY INT64_C(86400)
#define HORIZON (12 * 366 * DAY) /* 29 February comes within eight years, even around 2100 */
#define EVERY_MAX (366 * DAY * SECOND)

/* ---- reading ---- */

struct field {
	const char *what;
	int min, max;
	const char *names; /* three letters each, the first is min */
};
static const struct field fields[5] = {
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"day of week", 0, 7, "sunmontuewedthufrisat"},
};

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

/* A number or a name; moves *p past it. */
static bool value(const struct field *f, const char **p, int *out)
{
	int v = 0, digits = 0;

	for (int i = 0; f->names[3 * i]; i++)
		if (lower((*p)[0]) == f->names[3 * i] && lower((*p)[1]) == f->names[3 * i + 1] &&
		    lower((*p)[2]) == f->names[3 * i + 2]) {
			*p += 3;
			*out = f->min + i;
			return true;
		}
	for (; **p >= '0' && **p <= '9' && digits < 3; ++*p, digits++)
		v = v * 10 + (**p - '0');
	*out = v;
	return digits > 0 && v >= f->min && v <= f->max;
}

/* One of a list: "*", "5", "1-5", "*" "/15", "10-40/10". A step after one value goes
 * on to the maximum. Moves *p behind it. */
static bool item(const struct field *f, const char **p, uint64_t *bits)
{
	int low = f->min, high = f->max, step = 1;
	bool open = false;

	if (**p == '*') {
		++*p;
		high = f->max == 7 ? 6 : f->max;
		open = true;
	} else {
		if (!value(f, p, &low))
			return false;
		high = low;
		if (**p == '-') {
			++*p;
			open = true;
			if (!value(f, p, &high))
				return false;
			if (high == 0 && f->max == 7) /* fri-sun */
				high = 7;
		}
	}
	if (**p == '/') {
		const struct field of_step = {f->what, 1, f->max, ""};

		++*p;
		if (!value(&of_step, p, &step))
			return false;
		if (!open)
			high = f->max == 7 ? 6 : f->max;
	}
	if (high < low)
		return false;
	for (int v = low; v <= high; v += step)
		*bits |= UINT64_C(1) << v;
	return true;
}

static bool list(const struct field *f, const char **p, struct hp_cron *c, uint64_t *bits)
{
	*bits = 0;
	for (;;) {
		if (f == &fields[2] && lower(**p) == 'l') {
			++*p;
			c->last_day = true;
		} else if (!item(f, p, bits)) {
			return false;
		}
		if (**p != ',')
			return **p == '\0' || **p == ' ' || **p == '\t';
		++*p;
	}
}

static int five_fields(const char *text, struct hp_cron *c, struct hp_error *err)
{
	const char *p = text;
	uint64_t bits[5];
	bool star[5];

	for (int i = 0; i < 5; i++) {
		const char *from;

		p += strspn(p, " \t");
		from = p;
		if (*p == '\0') {
			hp_fail(err, HP_E_INVALID, "\"%.80s\" has %d of five fields", text, i);
			return hp_error_hint(err, "minute hour day-of-month month day-of-week, like \"0 3 * * mon\"");
		}
		star[i] = *p == '*';
		if (!list(&fields[i], &p, c, &bits[i]))
			return hp_fail(err, HP_E_INVALID, "\"%.*s\" is not a %s (%d to %d%s)", (int)strcspn(from, " \t"),
				       from, fields[i].what, fields[i].min, fields[i].max,
				       i == 2 ? ", or L" : fields[i].names[0] ? ", or names" : "");
	}
	if (p[strspn(p, " \t")] != '\0')
		return hp_fail(err, HP_E_INVALID, "\"%.80s\" has more than five fields", text);
	c->minutes = bits[0];
	c->hours = (uint32_t)bits[1];
	c->days = (uint32_t)bits[2];
	c->months = (uint32_t)bits[3];
	c->weekdays = (uint8_t)((bits[4] | bits[4] >> 7) & 0x7f); /* 7 is Sunday too */
	c->any_day = star[2];
	c->any_weekday = star[4];
	c->real_time = star[0] || star[1];
	return 0;
}

static int every(const char *text, struct hp_cron *c, struct hp_error *err)
{
	if (hp_duration_parse(text + strspn(text, " "), &c->every_us, err) < 0)
		return -1;
	if (c->every_us >= SECOND && c->every_us <= EVERY_MAX)
		return 0;
	return hp_fail(err, HP_E_INVALID, "@every is from 1s to 366d");
}

int hp_cron_parse(const char *text, struct hp_cron *c, struct hp_error *err)
{
	static const char *const words[][2] = {
		{"@hourly", "0 * * * *"},  {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
		{"@weekly", "0 0 * * 0"},  {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 1 *"},
	};
	int64_t tick;

	*c = (struct hp_cron){0};
	if (strncmp(text, "@every ", 7) == 0)
		return every(text + 7, c, err);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(text, words[i][0]) == 0)
			return five_fields(words[i][1], c, err);
	if (text[0] == '@') {
		hp_fail(err, HP_E_INVALID, "there is no \"%.40s\"", text);
		return hp_error_hint(err, "@hourly, @daily, @weekly, @monthly, @yearly, or @every 90s");
	}
	if (five_fields(text, c, err) < 0)
		return -1;
	if (hp_cron_next(c, &hp_zone_utc, 0, &tick))
		return 0;
	return hp_fail(err, HP_E_INVALID, "\"%.80s\" never fires: there is no such date", text);
}

/* ---- following ---- */

static bool day_matches(const struct hp_cron *c, int64_t days)
{
	int64_t year, y;
	int month, day, m, d;
	bool of_month, of_week;

	hp_date_of(days, &year, &month, &day);
	if (!(c->months >> month & 1))
		return false;
	of_month = c->days >> day & 1;
	if (c->last_day && !of_month) {
		hp_date_of(days + 1, &y, &m, &d);
		of_month = d == 1;
	}
	of_week = c->weekdays >> (((days + 4) % 7 + 7) % 7) & 1;
	return c->any_day || c->any_weekday ? of_month && of_week : of_month || of_week;
}

/* The first matching wall second from `from` on, before `until`. */
static bool next_wall(const struct hp_cron *c, int64_t from, int64_t until, int64_t *wall)
{
	int64_t days, minute;

	from += (60 - from % 60) % 60; /* up to the next whole minute; right below 0 too */
	days = from / DAY - (from % DAY < 0);
	minute = (from - days * DAY) / 60;
	for (; days * DAY < until; days++, minute = 0) {
		if (!day_matches(c, days))
			continue;
		for (; minute < 1440; minute++) {
			if (!(c->hours >> (minute / 60) & 1)) {
				minute += 59 - minute % 60; /* to the end of the hour */
				continue;
			}
			if (!(c->minutes >> (minute % 60) & 1))
				continue;
			*wall = days * DAY + minute * 60;
			return *wall < until;
		}
	}
	return false;
}

/* Stretch by stretch between changes of the offset. */
static bool next_real(const struct hp_cron *c, const struct hp_zone *z, int64_t after, int64_t *tick)
{
	int64_t t = after + 1, end = after + HORIZON, wall;

	while (t < end) {
		struct hp_zone_span s = hp_zone_at(z, t);
		int64_t until = s.until < end ? s.until : end;

		if (next_wall(c, t + s.offset, until + s.offset, &wall)) {
			*tick = wall - s.offset;
			return true;
		}
		t = until;
	}
	return false;
}

/* Wall times in order; their instants never go back, so the first one later than
 * `after` is the next. */
static bool next_fixed(const struct hp_cron *c, const struct hp_zone *z, int64_t after, int64_t *tick)
{
	struct hp_zone_span s = hp_zone_at(z, after);
	int64_t from = after - HP_ZONE_SPREAD, end = after + HORIZON, wall, t;

	/* far from any change the wall clock is one to one */
	if ((s.from == INT64_MIN || s.from < after - 2 * HP_ZONE_SPREAD) &&
	    (s.until == INT64_MAX || s.until > after + 2 * HP_ZONE_SPREAD))
		from = after + s.offset + 1;
	while (next_wall(c, from, end, &wall)) {
		t = hp_zone_instant(z, wall);
		if (t > after) {
			*tick = t;
			return true;
		}
		from = wall + 60;
	}
	return false;
}

bool hp_cron_next(const struct hp_cron *c, const struct hp_zone *z, int64_t after, int64_t *tick)
{
	int64_t seconds = after / SECOND - (after % SECOND < 0);

	if (c->every_us > 0) {
		int64_t n = after / c->every_us - (after % c->every_us < 0);

		*tick = (n + 1) * c->every_us;
		return true;
	}
	if (!(c->real_time ? next_real : next_fixed)(c, z, seconds, tick))
		return false;
	*tick *= SECOND;
	return true;
}

/* FNV-1a over name and tick, then a finalizer: neighbouring ticks must not be near. */
int64_t hp_cron_jitter(const char *schedule, int64_t tick, int64_t max)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *schedule; schedule++)
		h = (h ^ (unsigned char)*schedule) * UINT64_C(1099511628211);
	h ^= (uint64_t)tick;
	h = (h ^ h >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	h = (h ^ h >> 27) * UINT64_C(0x94d049bb133111eb);
	h ^= h >> 31;
	return max > 0 ? (int64_t)(h % ((uint64_t)max + 1)) : 0;
}
