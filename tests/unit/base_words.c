/* Nearest word, durations, strict integers. */
#include "base/words.h"

#include <stdint.h>
#include <string.h>
#include "base/clock.h"
#include "lib/suite.h"

static const char *const states[] = {"find_payment", "review", "refund", "record", "confirm"};

START_TEST(nearest_finds_the_slip)
{
	ck_assert_str_eq(hp_nearest("recrod", states, 5), "record"); /* a swap is one step */
	ck_assert_str_eq(hp_nearest("refnd", states, 5), "refund");
	ck_assert_str_eq(hp_nearest("find_paymnets", states, 5), "find_payment");
	ck_assert_str_eq(hp_nearest("record", states, 5), "record");
}
END_TEST

START_TEST(nearest_does_not_guess)
{
	static const char *const one[] = {"ab"};
	char longest[100];

	ck_assert_ptr_null(hp_nearest("escalate", states, 5));
	ck_assert_ptr_null(hp_nearest("recxyz", states, 5)); /* three steps, allowed are two */
	ck_assert_ptr_null(hp_nearest("xy", one, 1));        /* two steps, allowed is one */
	ck_assert_str_eq(hp_nearest("a", one, 1), "ab");
	ck_assert_ptr_null(hp_nearest("record", states, 0));
	memset(longest, 'a', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	ck_assert_ptr_null(hp_nearest(longest, states, 5));
}
END_TEST

START_TEST(durations_are_read)
{
	static const struct {
		const char *text;
		int64_t us;
	} cases[] = {
		{"250ms", 250 * HP_MSEC}, {"20s", 20 * HP_SECOND}, {"5m", 5 * HP_MINUTE},
		{"4h", 4 * HP_HOUR},      {"10d", 10 * HP_DAY},    {"1ms", 1000},
	};
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct hp_error err = {0};
		int64_t us = 0;

		ck_assert_msg(hp_duration_parse(cases[i].text, &us, &err) == 0, "%s: %s",
			      cases[i].text, err.message);
		ck_assert_int_eq(us, cases[i].us);
	}
}
END_TEST

START_TEST(durations_are_strict)
{
	static const char *const bad[] = {
		"", "s", "5", "0s", "-5s", "+5s", "5 s", " 5s", "5s ", "1.5h", "5S", "5min", "1h30m",
		"99999999999999999999s", "9223372036854775807d",
	};
	size_t i;

	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct hp_error err = {0};
		int64_t us;

		ck_assert_msg(hp_duration_parse(bad[i], &us, &err) == -1, "accepted \"%s\"", bad[i]);
		ck_assert_int_eq(err.code, HP_E_INVALID);
		ck_assert_msg(err.hint[0] != '\0', "no hint for \"%s\"", bad[i]);
	}
}
END_TEST

START_TEST(durations_are_shown)
{
	char buf[32];

	ck_assert_str_eq(hp_duration_format(90 * HP_SECOND, buf, sizeof buf), "1m 30s");
	ck_assert_str_eq(hp_duration_format(HP_HOUR, buf, sizeof buf), "1h");
	ck_assert_str_eq(hp_duration_format(HP_DAY + 5 * HP_MINUTE, buf, sizeof buf), "1d");
	ck_assert_str_eq(hp_duration_format(1500 * HP_MSEC, buf, sizeof buf), "1s 500ms");
	ck_assert_str_eq(hp_duration_format(-90 * HP_SECOND, buf, sizeof buf), "-1m 30s");
	ck_assert_str_eq(hp_duration_format(0, buf, sizeof buf), "0s");
	ck_assert_str_eq(hp_duration_format(999, buf, sizeof buf), "under 1ms");
	ck_assert_str_eq(hp_duration_format(INT64_MIN, buf, sizeof buf), "-106751991d 4h");
}
END_TEST

START_TEST(integers_are_strict)
{
	static const char *const bad[] = {"",   "-",    "+1",  " 1", "1 ", "0x10", "1e3", "1.0", "--1",
					  "9223372036854775808", "-9223372036854775809",
					  "18446744073709551616", "99999999999999999999"};
	int64_t v = 7;
	size_t i;

	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(hp_int_parse(bad[i], &v) == -1, "accepted \"%s\"", bad[i]);
	ck_assert_int_eq(v, 7);
	ck_assert_int_eq(hp_int_parse("9223372036854775807", &v), 0);
	ck_assert_int_eq(v, INT64_MAX);
	ck_assert_int_eq(hp_int_parse("-9223372036854775808", &v), 0);
	ck_assert_int_eq(v, INT64_MIN);
	ck_assert_int_eq(hp_int_parse("0", &v), 0);
	ck_assert_int_eq(v, 0);
}
END_TEST

HP_SUITE("base words", nearest_finds_the_slip, nearest_does_not_guess, durations_are_read,
	 durations_are_strict, durations_are_shown, integers_are_strict)
