/* The system's time zones, read by us, against the C library's own reading. */
#include "script/zone.h"

#include <string.h>
#include <time.h>
#include "lib/suite.h"

static struct hp_zone load(const char *name, struct hp_arena *a)
{
	struct hp_error err = {0};
	struct hp_zone z;

	ck_assert_msg(hp_zone_load(name, a, &z, &err) == 0, "%s", err.message);
	return z;
}

static const char *const names[] = {"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Europe/Dublin",
				    "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu", "America/Sao_Paulo",
				    "Antarctica/Troll", "UTC", "Etc/GMT+5"};
#define NAMES (int)(sizeof names / sizeof *names)

START_TEST(offsets_are_those_of_the_library)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);
	struct hp_zone z = load(names[_i], a);

	setenv("TZ", names[_i], 1);
	tzset();
	for (int64_t s = -INT64_C(2000000000); s < INT64_C(4200000000); s += 86400 - 3601) {
		time_t t = (time_t)s;
		struct tm tm;
		struct hp_zone_span span = hp_zone_at(&z, s);

		localtime_r(&t, &tm);
		ck_assert_msg(span.offset == tm.tm_gmtoff && span.from <= s && s < span.until, "%s at %lld: %d, not %ld",
			      names[_i], (long long)s, (int)span.offset, tm.tm_gmtoff);
	}
	hp_arena_free(a);
}
END_TEST

/* Samoa left out 30 December 2011: what was due then is due when the 31st begins. */
START_TEST(a_day_that_was_left_out)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);
	struct hp_zone z = load("Pacific/Apia", a);
	int64_t noon = hp_days_of(2011, 12, 30) * 86400 + 12 * 3600;

	ck_assert_int_eq(hp_zone_instant(&z, noon), hp_days_of(2011, 12, 30) * 86400 + 10 * 3600);
	hp_arena_free(a);
}
END_TEST

START_TEST(unknown_names_are_refused_with_the_nearest)
{
	static const char *const bad[] = {"Europe/Berlim", "Amerika/New_York", "../../etc/passwd", "/etc/localtime", "",
					  "Europe", "tzdata.zi", "Europe//Berlin", "a b"};
	static const char *const near[] = {"\"Europe/Berlin\"", "\"America/New_York\""};
	struct hp_arena *a = hp_arena_new(1 << 20);
	ck_assert_ptr_nonnull(a);

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct hp_error err = {0};
		struct hp_zone z;

		ck_assert_msg(hp_zone_load(bad[i], a, &z, &err) == -1, "%s", bad[i]);
		if (i < 2)
			ck_assert_msg(strstr(err.message, near[i]) != NULL, "%s", err.message);
	}
	hp_arena_free(a);
}
END_TEST

static void put(struct hp_buf *b, uint64_t v, int bytes)
{
	for (int i = bytes; i-- > 0;)
		hp_buf_addc(b, (char)(v >> 8 * i));
}

/* A header: so many changes, one type of time, its name of four letters. */
static void put_header(struct hp_buf *b, uint64_t changes)
{
	hp_buf_adds(b, "TZif2");
	put(b, 0, 8);
	put(b, 0, 7);
	put(b, 0, 8); /* isut, isstd */
	put(b, 0, 4);
	put(b, changes, 4);
	put(b, 1, 4);
	put(b, 4, 4);
}

static void put_type(struct hp_buf *b, int32_t offset)
{
	put(b, (uint32_t)offset, 4);
	put(b, 0, 2);
	put(b, 0x41424300, 4); /* "ABC" */
}

/* A file with one change, at `at`, of a zone that is always `offset` seconds east. */
static int parse_file(int64_t at, int32_t offset, const char *rule)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	struct hp_error err = {0};
	struct hp_zone z;
	struct hp_buf b;
	int rc;

	ck_assert_ptr_nonnull(a);
	hp_buf_init(&b, 1 << 16);
	put_header(&b, 0);
	put_type(&b, offset);
	put_header(&b, 1);
	put(&b, (uint64_t)at, 8);
	put(&b, 0, 1);
	put_type(&b, offset);
	hp_buf_printf(&b, "\n%s\n", rule);
	rc = hp_zone_parse(hp_buf_bytes(&b), "the test's", a, &z, &err);
	if (rc == 0) { /* then every instant has its stretch */
		struct hp_zone_span s = hp_zone_at(&z, at);

		ck_assert(s.from <= at && at < s.until);
	} else {
		ck_assert_ptr_nonnull(strstr(err.message, "the test's"));
	}
	hp_buf_free(&b);
	hp_arena_free(a);
	return rc;
}

/* What RFC 9636 excludes, and the arithmetic of zones counts on. */
START_TEST(times_and_offsets_have_limits)
{
	static const char summer[] = "ABC-1DEF,M3.5.0,M10.5.0/3";
	const int64_t far = INT64_C(1) << 59;

	ck_assert_int_eq(parse_file(0, 3600, summer), 0);
	ck_assert_int_eq(parse_file(-far, 26 * 3600 - 1, summer), 0);
	ck_assert_int_eq(parse_file(far, -26 * 3600 + 1, summer), 0);
	ck_assert_int_eq(parse_file(far + 1, 3600, summer), -1);
	ck_assert_int_eq(parse_file(-far - 1, 3600, summer), -1);
	ck_assert_int_eq(parse_file(INT64_MAX, 3600, ""), -1);
	ck_assert_int_eq(parse_file(0, 26 * 3600, ""), -1);
	ck_assert_int_eq(parse_file(0, -26 * 3600, ""), -1);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("zone");

	tcase_add_test(t, times_and_offsets_have_limits);
	tcase_add_loop_test(t, offsets_are_those_of_the_library, 0, NAMES);
	tcase_add_test(t, a_day_that_was_left_out);
	tcase_add_test(t, unknown_names_are_refused_with_the_nearest);
	return hp_run_case("script zone", t);
}
