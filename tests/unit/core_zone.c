/* Time zones as plain data: tables, rules, and what holds where one ends and the other
 * begins. The system's own zones, against the C library: script_zone.c; where clocks
 * change: core_cron.c. */
#include "core/zone.h"

#include "lib/suite.h"

#define DAY INT64_C(86400)

static struct hp_zone_rule rule(const char *text)
{
	struct hp_zone_rule r;
	struct hp_error err = {0};

	ck_assert_msg(hp_zone_rule_parse(text, &r, &err) == 0, "%s", err.message);
	return r;
}

static struct hp_zone by_rule(const char *text)
{
	return (struct hp_zone){.rule = rule(text)};
}

START_TEST(days_and_dates_are_each_others_way_back)
{
	for (int64_t days = -1000000; days < 1000000; days += 97) {
		int64_t year;
		int month, day;

		hp_date_of(days, &year, &month, &day);
		ck_assert_int_eq(hp_days_of(year, month, day), days);
	}
	ck_assert_int_eq(hp_days_of(1970, 1, 1), 0);
	ck_assert_int_eq(hp_days_of(0, 3, 1), -719468);
	ck_assert_int_eq(hp_days_of(-1, 12, 31), -719529);
	ck_assert_int_eq(hp_days_of(-400, 3, 1), -719468 - 146097); /* an era's first day */
}
END_TEST

/* What is known of a zone without a rule: its changes, and the last offset for ever. */
START_TEST(a_table_holds_between_its_changes)
{
	static const int64_t at[] = {100, 200, 300};
	static const int32_t offset[] = {10, 20, 30, 40};
	const struct hp_zone z = {.at = at, .offset = offset, .n = 3};
	static const int64_t times[] = {99, 100, 199, 200, 299, 300, 1000};
	static const int32_t expected[] = {10, 20, 20, 30, 30, 40, 40};

	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		struct hp_zone_span s = hp_zone_at(&z, times[i]);

		ck_assert_int_eq(s.offset, expected[i]);
		ck_assert(s.from <= times[i] && times[i] < s.until);
	}
	ck_assert_int_eq(hp_zone_at(&z, 0).from, INT64_MIN);
	ck_assert_int_eq(hp_zone_at(&z, 150).from, 100);
	ck_assert_int_eq(hp_zone_at(&z, 150).until, 200);
	ck_assert_int_eq(hp_zone_at(&z, 300).until, INT64_MAX);
}
END_TEST

/* Changes that follow close upon each other: a wall time that one of them skips may be shown after
 * the next, and then that is the time it means; else it is the first instant after the first gap. */
START_TEST(a_skipped_time_may_come_after_the_next_change)
{
	static const int64_t at[] = {0, 100};
	static const int32_t back[] = {0, 8000, 4000}, on[] = {0, 4000, 8000};
	const struct hp_zone up_and_down = {.at = at, .offset = back, .n = 2}, up_twice = {.at = at, .offset = on, .n = 2};

	ck_assert_int_eq(hp_zone_instant(&up_and_down, 4200), 200);
	ck_assert_int_eq(hp_zone_instant(&up_and_down, 3000), 0); /* never shown */
	ck_assert_int_eq(hp_zone_instant(&up_and_down, 8050), 50);
	ck_assert_int_eq(hp_zone_instant(&up_twice, 3000), 0);
	ck_assert_int_eq(hp_zone_instant(&up_twice, 5000), 100);
	ck_assert_int_eq(hp_zone_instant(&up_twice, 4050), 50);
}
END_TEST

/* Behind the last change the rule holds, but no stretch of it begins before that change. */
START_TEST(a_rule_begins_with_the_last_change)
{
	int64_t at[] = {0};
	static const int32_t offset[] = {0, 3600};
	struct hp_zone z = {.at = at, .offset = offset, .n = 1, .rule = rule("CET-1CEST,M3.5.0,M10.5.0/3")};

	at[0] = hp_days_of(2026, 1, 15) * DAY; /* within a winter */
	ck_assert_int_eq(hp_zone_at(&z, at[0] - 1).offset, 0);
	ck_assert_int_eq(hp_zone_at(&z, at[0]).offset, 3600);
	ck_assert_int_eq(hp_zone_at(&z, at[0]).from, at[0]);
	ck_assert_int_eq(hp_zone_at(&z, hp_days_of(2026, 7, 1) * DAY).offset, 7200);
	ck_assert_int_eq(hp_zone_at(&z, hp_days_of(2026, 7, 1) * DAY).from, hp_days_of(2026, 3, 29) * DAY + 3600);
}
END_TEST

static int64_t first_change(const char *text, int64_t year)
{
	const struct hp_zone z = by_rule(text);

	return hp_zone_at(&z, hp_days_of(year, 1, 1) * DAY).until;
}

/* The three ways in which POSIX names a day. */
START_TEST(days_of_change)
{
	/* J59 is 28 February, J60 is 1 March: 29 February is never counted */
	ck_assert_int_eq(first_change("AAA0BBB,J59/0,J300", 2028), hp_days_of(2028, 2, 28) * DAY);
	ck_assert_int_eq(first_change("AAA0BBB,J60/0,J300", 2028), hp_days_of(2028, 3, 1) * DAY);
	ck_assert_int_eq(first_change("AAA0BBB,J60/0,J300", 2026), hp_days_of(2026, 3, 1) * DAY);
	ck_assert_int_eq(first_change("AAA0BBB,J60/0,J300", 2100), hp_days_of(2100, 3, 1) * DAY); /* no leap year */
	ck_assert_int_eq(first_change("AAA0BBB,J60/0,J300", 2000), hp_days_of(2000, 3, 1) * DAY); /* one */
	/* a bare number counts from 0, and 29 February with it */
	ck_assert_int_eq(first_change("AAA0BBB,59/0,300", 2028), hp_days_of(2028, 2, 29) * DAY);
	/* the last Sunday of December, and times outside the day */
	ck_assert_int_eq(first_change("AAA0BBB,M12.5.0/0,M6.1.0", 2026), hp_days_of(2026, 6, 7) * DAY + 3600);
	ck_assert_int_eq(first_change("AAA0BBB,M3.1.0/-24,M12.5.0", 2026), hp_days_of(2026, 2, 28) * DAY);
	ck_assert_int_eq(first_change("AAA0BBB,M3.1.0/+1:02:03,M12.5.0", 2026), hp_days_of(2026, 3, 1) * DAY + 3723);
}
END_TEST

START_TEST(offsets_as_they_are_written)
{
	ck_assert_int_eq(rule("UTC0").standard, 0);
	ck_assert_int_eq(rule("AAA+5").standard, -5 * 3600);
	ck_assert_int_eq(rule("<-03>3").standard, -3 * 3600);
	ck_assert_int_eq(rule("AbZ-5:30:15").standard, 5 * 3600 + 30 * 60 + 15);
	ck_assert_int_eq(rule("AAA0BBB,1,2").dst, 3600);
	ck_assert_int_eq(rule("AAA0BBB-2,1,2").dst, 7200);
	ck_assert(!rule("").present);
}
END_TEST

START_TEST(rules_that_are_none)
{
	static const char *const bad[] = {
	    "A1", "AAA", "AAAx", "AAA0BB", "AAA0B@B,1,2", "AAA0BBB,M0.1.0,2", "AAA0BBB,M3,2", "AAA0BBB,M3-1.0,2",
	    "AAA0BBB,Mx.1.0,2", "AAA0BBB,M3.x.0,2", "AAA0BBB,M3.0.0,2", "AAA0BBB,M3.1-0,2", "AAA0BBB,M3.1.7,2",
	    "AAA0BBB,M3.1.x,2", "AAA0BBB,366,2", "AAA0BBB,12345,2", "AAA0BBB,x,2", "AAA0BBB,J366,2", "AAA0BBB;1,2", "AAA0BBB-2;1,2",
	    "AAA0BBB,1;2", "AAA0BBB,1,x", "AAA0BBB,1,2x", "AAA0BBB,1/x,2", "AAA0:x", "AAA0:00:60",
	    "AAA0[[[,1,2", "AAA0zz{,1,2", "<AAA", "AAA0<BB,1,2",
	    "AAA25", "AAA-25", "AAA0BBB25,1,2", "AAA0BBB-70,1,2", "AAA0BBB,1/168,2",
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct hp_error err = {0};
		struct hp_zone_rule r;

		ck_assert_msg(hp_zone_rule_parse(bad[i], &r, &err) == -1, "%s", bad[i]);
		ck_assert_int_eq(err.code, HP_E_INVALID);
	}
}
END_TEST

HP_SUITE("core zone", days_and_dates_are_each_others_way_back, a_table_holds_between_its_changes, a_skipped_time_may_come_after_the_next_change,
	 a_rule_begins_with_the_last_change, days_of_change, offsets_as_they_are_written, rules_that_are_none)
