/* Cron: what is read, when it ticks where the clock changes, and, against a walk
 * minute by minute with the C library's own idea of local time, everything else. */
#include "core/cron.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/error.h"
#include "lib/suite.h"

#define US INT64_C(1000000)
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEW_YORK "EST5EDT,M3.2.0,M11.1.0"
#define LORD_HOWE "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"
#define UTC "UTC0"

static struct hp_zone zone(const char *rule)
{
	struct hp_zone z = {.offset = NULL};
	struct hp_error err = {0};

	ck_assert_msg(hp_zone_rule_parse(rule, &z.rule, &err) == 0, "%s", err.message);
	return z;
}

static struct hp_cron cron(const char *text)
{
	struct hp_error err = {0};
	struct hp_cron c;

	ck_assert_msg(hp_cron_parse(text, &c, &err) == 0, "%s", err.message);
	return c;
}

/* "2026-03-29 01:00" UTC */
static int64_t at(const char *text)
{
	struct tm tm = {0};

	ck_assert_int_eq(sscanf(text, "%d-%d-%d %d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min), 5);
	tm.tm_year -= 1900;
	tm.tm_mon--;
	return (int64_t)timegm(&tm) * US;
}

static const char *said(int64_t us, char *buf, size_t n)
{
	time_t t = (time_t)(us / US);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, n, "%Y-%m-%d %H:%M", &tm);
	return buf;
}

/* ---- vectors ---- */

/* Ticks after an instant, in UTC. Changes: Berlin 2026-03-29 01:00 and 2026-10-25 01:00,
 * New York 2026-03-08 07:00 and 2026-11-01 06:00, Lord Howe 2026-04-04 15:00 (back half
 * an hour) and 2026-10-03 15:30 (forward half an hour). */
static const struct {
	const char *rule, *cron, *after, *ticks;
} vectors[] = {
	{UTC, "0 3 1 */3 *", "2026-01-15 00:00", "2026-04-01 03:00, 2026-07-01 03:00, 2026-10-01 03:00"},
	{UTC, "*/20 * * * *", "2026-01-01 00:00", "2026-01-01 00:20, 2026-01-01 00:40, 2026-01-01 01:00"},
	{UTC, "0 0 L * *", "2026-01-31 00:00", "2026-02-28 00:00, 2026-03-31 00:00, 2026-04-30 00:00"},
	{UTC, "0 0 L 2 *", "2026-01-01 00:00", "2026-02-28 00:00, 2027-02-28 00:00, 2028-02-29 00:00"},
	{UTC, "0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00, 2032-02-29 00:00"},
	{UTC, "0 0 29 2 *", "2097-01-01 00:00", "2104-02-29 00:00"},
	/* either day is enough when both are restricted; with `*` in one both must hold */
	{UTC, "0 0 13 * fri", "2026-11-01 00:00", "2026-11-06 00:00, 2026-11-13 00:00, 2026-11-20 00:00"},
	{UTC, "0 0 1,15 * sun", "2026-11-01 00:00", "2026-11-08 00:00, 2026-11-15 00:00, 2026-11-22 00:00"},
	{UTC, "0 0 */10 * mon", "2026-06-01 00:00", "2026-08-31 00:00, 2026-09-21 00:00, 2026-12-21 00:00"},
	{UTC, "5 4 * * 7", "2026-11-01 05:00", "2026-11-08 04:05"},
	{UTC, "5 4 * * fri-sun", "2026-11-04 05:00", "2026-11-06 04:05, 2026-11-07 04:05, 2026-11-08 04:05"},
	{UTC, "0 12 * jan,Dec MON-Wed/2", "2026-12-30 13:00", "2027-01-04 12:00, 2027-01-06 12:00, 2027-01-11 12:00"},
	{UTC, "50/5 23 31 12 *", "2026-12-31 23:00", "2026-12-31 23:50, 2026-12-31 23:55, 2027-12-31 23:50"},
	{UTC, "@weekly", "2026-11-23 00:00", "2026-11-29 00:00, 2026-12-06 00:00"},
	{UTC, "@yearly", "2026-11-23 00:00", "2027-01-01 00:00, 2028-01-01 00:00"},
	{UTC, "0 0 28,L 2 *", "2026-02-27 00:00", "2026-02-28 00:00, 2027-02-28 00:00, 2028-02-28 00:00, 2028-02-29 00:00"},
	{UTC, "0-0\t12 * * 1/2", "2026-11-22 00:00", "2026-11-23 12:00, 2026-11-25 12:00, 2026-11-27 12:00, 2026-11-30 12:00"},
	{UTC, "@every 90m", "2026-11-23 00:00", "2026-11-23 01:30, 2026-11-23 03:00"},
	{BERLIN, "0 3 * * *", "2026-03-28 00:00", "2026-03-28 02:00, 2026-03-29 01:00, 2026-03-30 01:00"},
	{BERLIN, "0 3 * * *", "2026-06-01 00:00", "2026-06-01 01:00, 2026-06-02 01:00"}, /* far from any change */
	/* skipped: at the first instant after the gap, once */
	{BERLIN, "30 2 * * *", "2026-03-28 00:00", "2026-03-28 01:30, 2026-03-29 01:00, 2026-03-30 00:30"},
	{BERLIN, "0,30 2 * * *", "2026-03-28 02:00", "2026-03-29 01:00, 2026-03-30 00:00, 2026-03-30 00:30"},
	{BERLIN, "0 2,3 * * *", "2026-03-28 02:30", "2026-03-29 01:00, 2026-03-30 00:00, 2026-03-30 01:00"},
	/* doubled: the first one */
	{BERLIN, "30 2 * * *", "2026-10-24 12:00", "2026-10-25 00:30, 2026-10-26 01:30"},
	{BERLIN, "0,30 2 * * *", "2026-10-24 12:00", "2026-10-25 00:00, 2026-10-25 00:30, 2026-10-26 01:00"},
	/* real time: nothing in the gap, both hours when doubled */
	{BERLIN, "30 * * * *", "2026-03-29 00:00", "2026-03-29 00:30, 2026-03-29 01:30, 2026-03-29 02:30"},
	{BERLIN, "30 * * * *", "2026-10-24 23:45", "2026-10-25 00:30, 2026-10-25 01:30, 2026-10-25 02:30"},
	{BERLIN, "*/30 2 * * *", "2026-03-28 02:00", "2026-03-30 00:00, 2026-03-30 00:30"},
	{BERLIN, "*/30 2 * * *", "2026-10-24 12:00", "2026-10-25 00:00, 2026-10-25 00:30, 2026-10-25 01:00, 2026-10-25 01:30"},
	{NEW_YORK, "30 2 * * *", "2026-03-07 12:00", "2026-03-08 07:00, 2026-03-09 06:30"},
	{NEW_YORK, "30 1 * * *", "2026-10-31 12:00", "2026-11-01 05:30, 2026-11-02 06:30"},
	{NEW_YORK, "15 * * * *", "2026-11-01 05:00", "2026-11-01 05:15, 2026-11-01 06:15, 2026-11-01 07:15"},
	{LORD_HOWE, "15 2 * * *", "2026-10-03 12:00", "2026-10-03 15:30, 2026-10-04 15:15"},
	{LORD_HOWE, "45 1 * * *", "2026-04-04 12:00", "2026-04-04 14:45, 2026-04-05 15:15"},
	{LORD_HOWE, "45 * * * *", "2026-04-04 14:00", "2026-04-04 14:45, 2026-04-04 15:15, 2026-04-04 16:15"},
};

START_TEST(a_vector_holds)
{
	const struct hp_zone z = zone(vectors[_i].rule);
	const struct hp_cron c = cron(vectors[_i].cron);
	int64_t t = at(vectors[_i].after);
	char got[200] = "", one[32];
	size_t n = 0;

	while (n < strlen(vectors[_i].ticks)) {
		ck_assert(hp_cron_next(&c, &z, t, &t));
		n += (size_t)snprintf(got + n, sizeof got - n, "%s%s", n ? ", " : "", said(t, one, sizeof one));
	}
	ck_assert_str_eq(got, vectors[_i].ticks);
}
END_TEST

static const char *const refused[][2] = {
	{"", "has 0 of five fields"},
	{"* * * *", "has 4 of five fields"},
	{"* * * * * *", "more than five"},
	{"60 * * * *", "\"60\" is not a minute"},
	{"* 24 * * *", "\"24\" is not a hour"},
	{"* * 0 * *", "\"0\" is not a day of month"},
	{"* * 32 * *", "\"32\" is not a day of month"},
	{"* * * 13 *", "\"13\" is not a month"},
	{"* * * * 8", "\"8\" is not a day of week"},
	{"* * * foo *", "\"foo\" is not a month"},
	{"5-1 * * * *", "\"5-1\" is not a minute"},
	{"*/0 * * * *", "\"*/0\" is not a minute"},
	{"1, * * * *", "\"1,\" is not a minute"},
	{"L * * * *", "\"L\" is not a minute"},
	{"1x * * * *", "\"1x\" is not a minute"},
	{"1-x * * * *", "\"1-x\" is not a minute"},
	{"0000 * * * *", "\"0000\" is not a minute"},
	{"* * * jux *", "\"jux\" is not a month"},
	{"* * 30 2 *", "never fires"},
	{"0 0 31 2 *", "never fires"},
	{"0 0 30 2 *", "never fires"},
	{"0 0 31 2,4,6,9,11 *", "never fires"},
	{"@dayly", "there is no \"@dayly\""},
	{"@every 10", "10"},
	{"@every 100ms", "from 1s"},
	{"@every 400d", "to 366d"},
};

START_TEST(what_is_no_cron_is_refused)
{
	struct hp_error err = {0};
	struct hp_cron c;

	ck_assert_int_eq(hp_cron_parse(refused[_i][0], &c, &err), -1);
	ck_assert_msg(strstr(err.message, refused[_i][1]) != NULL, "%s: %s", refused[_i][0], err.message);
}
END_TEST

START_TEST(a_rule_that_is_none_is_refused)
{
	static const char *const bad[] = {"C", "CET", "CET-1CEST", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0",
					  "<+10-1", "CET-1CEST,M3.5.0,M10.5.0/3x", "CET-1CEST,J0,J100", "CET-1:60", "CET-168"};
	struct hp_zone_rule r;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(hp_zone_rule_parse(bad[i], &r, NULL) == -1, "%s", bad[i]);
}
END_TEST

/* ---- the walk, minute by minute ---- */

static uint64_t state;

static int below(int n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (int)(state % (uint64_t)n);
}

static struct tm local(int64_t s)
{
	time_t t = (time_t)s;
	struct tm tm;

	localtime_r(&t, &tm);
	return tm;
}

/* Field by field, as the bits say, but on the library's broken-down time. */
static bool matches(const struct hp_cron *c, const struct tm *tm)
{
	static const int length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year = tm->tm_year + 1900, last = length[tm->tm_mon];
	bool day, week = c->weekdays >> tm->tm_wday & 1;

	if (tm->tm_mon == 1 && ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0))
		last = 29;
	day = (c->days >> tm->tm_mday & 1) || (c->last_day && tm->tm_mday == last);
	if (!(c->minutes >> tm->tm_min & 1) || !(c->hours >> tm->tm_hour & 1) || !(c->months >> (tm->tm_mon + 1) & 1))
		return false;
	return c->any_day || c->any_weekday ? day && week : day || week;
}

static int64_t wall(int64_t s)
{
	struct tm tm = local(s);

	return s + tm.tm_gmtoff;
}

static bool ticks_at(const struct hp_cron *c, int64_t s)
{
	struct tm tm = local(s);
	int64_t now = wall(s), before = wall(s - 60);

	if (c->real_time)
		return matches(c, &tm);
	for (int64_t skipped = before + 60; skipped < now; skipped += 60) { /* a gap ended just now */
		struct tm gone;
		time_t t = (time_t)skipped;

		gmtime_r(&t, &gone);
		if (matches(c, &gone))
			return true;
	}
	if (!matches(c, &tm))
		return false;
	for (int64_t d = 60; d <= 2 * 3600; d += 60) /* was it that time before? */
		if (wall(s - d) == now)
			return false;
	return true;
}

static void random_cron(char *out, size_t n)
{
	static const char *const minutes[] = {"0", "30", "15,45", "*", "*/15", "59", "0-29", "7"};
	static const char *const hours[] = {"*", "2", "1,2,3", "*/2", "0", "3", "0-5", "1-23/2", "2"};
	static const char *const days[] = {"*", "*", "*", "1", "L", "28-31", "*/3", "25,29"};
	static const char *const months[] = {"*", "*", "*", "3,10", "apr-nov", "11"};
	static const char *const weekdays[] = {"*", "*", "*", "sun", "mon-fri", "0,6", "*/2", "7"};

	snprintf(out, n, "%s %s %s %s %s", minutes[below(8)], hours[below(9)], days[below(8)], months[below(6)],
		 weekdays[below(8)]);
}

#define WALK_DAYS 4

static void one_walk(const struct hp_zone *z, const char *rule, int64_t change)
{
	int64_t from = change - 2 * 86400 + below(3 * 1440) * 60 + below(2), s, tick;
	bool there;
	struct hp_cron c;
	char text[80];

	random_cron(text, sizeof text);
	c = cron(text);
	there = hp_cron_next(&c, z, from * US, &tick);
	ck_assert_msg(there, "%s: no tick", text);
	ck_assert_int_gt(tick, from * US);
	for (s = from - from % 60 + 60; s < from + WALK_DAYS * 86400; s += 60)
		if (ticks_at(&c, s))
			break;
	if (s < from + WALK_DAYS * 86400)
		ck_assert_msg(tick == s * US, "%s in %s after %lld: %lld, not %lld", text, rule, (long long)from,
			      (long long)(tick / US), (long long)s);
	else
		ck_assert_msg(tick >= s * US, "%s in %s after %lld: %lld is too early", text, rule, (long long)from,
			      (long long)(tick / US));
}

START_TEST(a_walk_minute_by_minute_finds_the_same)
{
	static const char *const rules[] = {BERLIN, NEW_YORK, LORD_HOWE, UTC};
	const struct hp_zone z = zone(rules[_i]);
	const char *given = getenv("HP_SEED");
	unsigned long long seed = given ? strtoull(given, NULL, 10) : (unsigned long long)time(NULL);

	state = seed * 2 + 1;
	printf("core_cron: HP_SEED=%llu %s\n", seed, rules[_i]);
	setenv("TZ", rules[_i], 1);
	tzset();
	for (int i = 0; i < 200; i++) {
		struct hp_zone_span span = hp_zone_at(&z, 1700000000 + (int64_t)below(20) * 86400 * 183);

		one_walk(&z, rules[_i], span.until == INT64_MAX ? 1700000000 + below(400) * 86400 : span.until);
	}
}
END_TEST

/* Zones whose hour is chosen at random: the offset is the library's at every hour of 40 years. */
START_TEST(offsets_are_those_of_the_library)
{
	static const char *const rules[] = {BERLIN, NEW_YORK, LORD_HOWE, "IST-1GMT0,M10.5.0,M3.5.0/1", "EST5EDT,J60/1,300",
					    "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "NZST-12NZDT,M9.5.0,M4.1.0/3"};
	const struct hp_zone z = zone(rules[_i]);

	setenv("TZ", rules[_i], 1);
	tzset();
	for (int64_t s = INT64_C(1500000000); s < INT64_C(1500000000) + 40 * INT64_C(31557600); s += 3571) {
		struct tm tm = local(s);
		struct hp_zone_span span = hp_zone_at(&z, s);

		ck_assert_msg(span.offset == tm.tm_gmtoff && span.from <= s && s < span.until, "%s at %lld: %d, not %ld",
			      rules[_i], (long long)s, (int)span.offset, tm.tm_gmtoff);
	}
}
END_TEST

START_TEST(dates_go_there_and_back)
{
	int64_t year, before = 0;
	int month, day;

	for (int64_t d = hp_days_of(1890, 1, 1); d < hp_days_of(2410, 1, 1); d++) {
		hp_date_of(d, &year, &month, &day);
		ck_assert_int_eq(hp_days_of(year, month, day), d);
		ck_assert_int_gt(year * 400 + month * 32 + day, before);
		before = year * 400 + month * 32 + day;
	}
	ck_assert_int_eq(hp_days_of(1970, 1, 1), 0);
	ck_assert_int_eq(hp_days_of(2026, 11, 23), 20780);
}
END_TEST

START_TEST(jitter_is_spread_and_stays)
{
	int low = 0;

	for (int i = 0; i < 1000; i++) {
		int64_t j = hp_cron_jitter("nightly", i * 60 * US, 30 * US);

		ck_assert(j >= 0 && j <= 30 * US);
		ck_assert_int_eq(j, hp_cron_jitter("nightly", i * 60 * US, 30 * US));
		low += j < 15 * US;
	}
	ck_assert_int_gt(low, 400);
	ck_assert_int_lt(low, 600);
	ck_assert_int_ne(hp_cron_jitter("nightly", US, 30 * US), hp_cron_jitter("nightly:2", US, 30 * US));
	ck_assert_int_eq(hp_cron_jitter("nightly", US, 0), 0);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("cron");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, a_vector_holds, 0, (int)(sizeof vectors / sizeof *vectors));
	tcase_add_loop_test(t, what_is_no_cron_is_refused, 0, (int)(sizeof refused / sizeof *refused));
	tcase_add_test(t, a_rule_that_is_none_is_refused);
	tcase_add_loop_test(t, a_walk_minute_by_minute_finds_the_same, 0, 4);
	tcase_add_loop_test(t, offsets_are_those_of_the_library, 0, 6);
	tcase_add_test(t, dates_go_there_and_back);
	tcase_add_test(t, jitter_is_spread_and_stays);
	return hp_run_case("core cron", t);
}
