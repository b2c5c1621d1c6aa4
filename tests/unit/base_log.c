/* Log lines are one JSON object each, whatever is put into them; and clocks. */
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "lib/suite.h"

static char captured[20000];

/* Standard error goes to a file while a test logs (Check forks per test). */
static FILE *capture_begin(void)
{
	FILE *f = tmpfile();

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(dup2(fileno(f), STDERR_FILENO), STDERR_FILENO);
	return f;
}

static json_t *capture_end(FILE *f)
{
	struct hp_error err = {0};
	json_t *v;
	size_t n;

	rewind(f);
	n = fread(captured, 1, sizeof captured - 1, f);
	captured[n] = '\0';
	fclose(f);
	if (n == 0)
		return NULL;
	ck_assert_int_eq(captured[n - 1], '\n');
	ck_assert_ptr_eq(strchr(captured, '\n'), captured + n - 1); /* one line */
	v = hp_json_parse(captured, n, "log line", &err);
	ck_assert_msg(v != NULL, "%s: %s", err.message, captured);
	return v;
}

START_TEST(a_line_is_json)
{
	FILE *f = capture_begin();
	json_t *v;

	hp_log_init("worker", HP_INFO);
	hp_log(HP_INFO, "run \"parked\"\n", "run", HP_I64(INT64_C(9007199254740993)), "state",
	       HP_STR("a\xFF\tb"), "error", HP_STR(NULL), NULL);
	v = capture_end(f);
	ck_assert_str_eq(hp_json_str(v, "message"), "run \"parked\"\n");
	ck_assert_str_eq(hp_json_str(v, "level"), "info");
	ck_assert_str_eq(hp_json_str(v, "process"), "worker");
	ck_assert_int_eq(hp_json_int(v, "pid", 0), getpid());
	ck_assert_int_eq(hp_json_int(v, "run", 0), INT64_C(9007199254740993));
	ck_assert_str_eq(hp_json_str(v, "state"), "a\xEF\xBF\xBD\tb");
	ck_assert(json_is_null(json_object_get(v, "error")));
	ck_assert_uint_eq(strlen(hp_json_str(v, "time")), strlen("2026-11-23T02:04:05.000001Z"));
	json_decref(v);
}
END_TEST

START_TEST(levels_below_the_minimum_are_silent)
{
	FILE *f = capture_begin();
	struct hp_error err = {0};

	hp_log_init("worker", HP_WARN);
	hp_log(HP_INFO, "quiet", NULL);
	hp_log_error(HP_DEBUG, "quiet", &err);
	ck_assert_ptr_null(capture_end(f));
}
END_TEST

START_TEST(errors_are_logged_whole)
{
	FILE *f = capture_begin();
	struct hp_error err;
	json_t *v;

	hp_fail(&err, HP_E_UNAVAILABLE, "no database");
	hp_error_hint(&err, "start it");
	hp_log_error(HP_ERROR, "claim failed", &err);
	v = capture_end(f);
	ck_assert_str_eq(hp_json_str(v, "code"), "unavailable");
	ck_assert_str_eq(hp_json_str(v, "error"), "no database");
	ck_assert_str_eq(hp_json_str(v, "hint"), "start it");
	ck_assert_int_gt(hp_json_int(v, "line", 0), 0);
	json_decref(v);
}
END_TEST

START_TEST(a_lost_line_is_reported)
{
	FILE *f = capture_begin();
	char longest[9000];
	json_t *v;

	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	hp_log(HP_ERROR, "big", "state", HP_STR(longest), NULL);
	v = capture_end(f);
	ck_assert_ptr_nonnull(strstr(hp_json_str(v, "message"), "was lost"));
	json_decref(v);
	f = capture_begin();
	hp_alloc_fail_at(1);
	hp_log(HP_ERROR, "no memory", NULL);
	hp_alloc_fail_at(0);
	v = capture_end(f);
	ck_assert_ptr_nonnull(strstr(hp_json_str(v, "message"), "was lost"));
	json_decref(v);
}
END_TEST

START_TEST(instants_are_printed)
{
	char buf[32];

	ck_assert_str_eq(hp_time_format(0, buf, sizeof buf), "1970-01-01T00:00:00.000000Z");
	ck_assert_str_eq(hp_time_format(-1, buf, sizeof buf), "1969-12-31T23:59:59.999999Z");
	/* RFC 3339 section 5.8, first and second example (in UTC). */
	ck_assert_str_eq(hp_time_format(INT64_C(482196050520000), buf, sizeof buf),
			 "1985-04-12T23:20:50.520000Z");
	ck_assert_str_eq(hp_time_format(INT64_C(851042397000000), buf, sizeof buf),
			 "1996-12-20T00:39:57.000000Z");
}
END_TEST

START_TEST(clocks_go_forward)
{
	int64_t wall = hp_now_us(), boot = hp_boottime_us();

	ck_assert_int_gt(wall, INT64_C(1700000000) * HP_SECOND); /* after November 2023 */
	ck_assert_int_gt(boot, 0);
	ck_assert_int_ge(hp_boottime_us(), boot);
}
END_TEST

START_TEST(what_happens_often_is_told_seldom)
{
	struct hp_seldom s = { 0 };
	int64_t times = 0;

	ck_assert(hp_log_due(&s, 100, 50, &times));
	ck_assert_int_eq(times, 1);
	ck_assert(!hp_log_due(&s, 120, 50, &times));
	ck_assert(!hp_log_due(&s, 149, 50, &times));
	ck_assert(hp_log_due(&s, 150, 50, &times));
	ck_assert_int_eq(times, 3);
	s = (struct hp_seldom){ 0 };
	ck_assert(hp_log_due(&s, 151, 50, &times));
	ck_assert_int_eq(times, 1);
}
END_TEST

HP_SUITE("base log", a_line_is_json, levels_below_the_minimum_are_silent, errors_are_logged_whole,
	 a_lost_line_is_reported, instants_are_printed, clocks_go_forward, what_happens_often_is_told_seldom)
