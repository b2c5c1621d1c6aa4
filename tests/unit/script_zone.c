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

int main(void)
{
	TCase *t = tcase_create("zone");

	tcase_add_loop_test(t, offsets_are_those_of_the_library, 0, NAMES);
	tcase_add_test(t, a_day_that_was_left_out);
	tcase_add_test(t, unknown_names_are_refused_with_the_nearest);
	return hp_run_case("script zone", t);
}
