/* core_breaker.c: when breakers open; budgets of retries. */
#include <check.h>
#include <string.h>

#include "base/clock.h"
#include "core/breaker.h"
#include "lib/suite.h"

#define NOW (20000 * HP_DAY)

static struct hp_breaker_spec spec;
static struct hp_breaker_window window;
static char reason[160];

static void setup(void)
{
	spec = hp_breaker_default;
	memset(&window, 0, sizeof window);
}

static void note(int n, bool failed, int64_t at, int64_t took)
{
	for (int i = 0; i < n; i++)
		hp_breaker_note(&window, &spec, at, failed, took);
}

static bool trips(int64_t now)
{
	return hp_breaker_trips(&window, &spec, now, reason, sizeof reason);
}

START_TEST(what_counts_as_a_failure)
{
	/* no answer */
	ck_assert(hp_breaker_failure(HP_RETRYABLE, 0));
	ck_assert(hp_breaker_failure(HP_AMBIGUOUS, 0));
	/* trouble of the endpoint, also behind a 200 */
	ck_assert(hp_breaker_failure(HP_AMBIGUOUS, 500));
	ck_assert(hp_breaker_failure(HP_RETRYABLE, 503));
	ck_assert(hp_breaker_failure(HP_RETRYABLE, 200));
	ck_assert(hp_breaker_failure(HP_RETRYABLE, 408));
	/* it works, and has its reasons */
	ck_assert(!hp_breaker_failure(HP_RETRYABLE, 429));
	ck_assert(!hp_breaker_failure(HP_AMBIGUOUS, 409));
	ck_assert(!hp_breaker_failure(HP_TERMINAL, 402));
	ck_assert(!hp_breaker_failure(HP_NEEDS_PERSON, 401));
	ck_assert(!hp_breaker_failure(HP_CLASS_OK, 200));
	/* needs a person because of a stored 500: it would be no better the next time */
	ck_assert(!hp_breaker_failure(HP_NEEDS_PERSON, 500));
}
END_TEST

START_TEST(half_of_twenty_opens_it)
{
	note(10, false, NOW, 0);
	note(9, true, NOW, 0);
	ck_assert(!trips(NOW)); /* 19 calls say nothing */
	note(1, false, NOW, 0);
	ck_assert(!trips(NOW)); /* 9 of 20 */
	note(2, true, NOW, 0);
	ck_assert(trips(NOW)); /* 11 of 22 */
	ck_assert_str_eq(reason, "11 of 22 requests failed within 30s");
}
END_TEST

/* Every count up to 40 calls against the sentence itself. */
START_TEST(the_ratio_is_exact)
{
	spec.consecutive = 0;
	for (int calls = 0; calls <= 40; calls++)
		for (int failed = 0; failed <= calls; failed++) {
			struct hp_breaker_bucket b = { .number = NOW / hp_breaker_width(&spec), .calls = calls,
						       .failed = failed };

			memset(&window, 0, sizeof window);
			hp_breaker_add(&window, &b);
			ck_assert_int_eq(trips(NOW), calls >= 20 && 2 * failed >= calls);
		}
}
END_TEST

START_TEST(the_window_rolls)
{
	spec.consecutive = 0;
	note(15, true, NOW, 0);
	note(10, true, NOW + 20 * HP_SECOND, 0);
	ck_assert(trips(NOW + 20 * HP_SECOND));
	ck_assert(!trips(NOW + 35 * HP_SECOND)); /* the first fifteen are too long ago */
	note(10, true, NOW + 40 * HP_SECOND, 0);
	ck_assert(trips(NOW + 40 * HP_SECOND));
	ck_assert(!trips(NOW + HP_HOUR));
}
END_TEST

START_TEST(failures_in_a_row_open_it_without_a_minimum)
{
	note(9, true, NOW, 0);
	note(1, false, NOW, 0);
	note(9, true, NOW, 0);
	ck_assert(!trips(NOW));
	note(1, true, NOW + HP_HOUR, 0);
	ck_assert(trips(NOW + HP_HOUR));
	ck_assert_str_eq(reason, "10 requests failed in a row");
}
END_TEST

START_TEST(slow_calls_open_it_when_declared)
{
	note(100, false, NOW, HP_MINUTE);
	ck_assert(!trips(NOW));
	setup();
	spec.slow_us = 5 * HP_SECOND;
	note(16, false, NOW, 5 * HP_SECOND);
	note(5, false, NOW, 5 * HP_SECOND - 1);
	ck_assert(!trips(NOW)); /* 16 of 21 */
	note(4, false, NOW, 6 * HP_SECOND);
	ck_assert(trips(NOW)); /* 20 of 25 */
	ck_assert_str_eq(reason, "20 of 25 requests took 5s or longer within 30s");
}
END_TEST

/* Ten workers with three failures each: none of them alone would know. */
START_TEST(the_counts_of_many_add_up)
{
	struct hp_breaker_window all = { 0 };

	for (int i = 0; i < 10; i++) {
		setup();
		note(1, false, NOW, 0);
		note(3, true, NOW, 0);
		ck_assert(!trips(NOW));
		for (int b = 0; b < HP_BREAKER_BUCKETS; b++)
			hp_breaker_add(&all, &window.buckets[b]);
	}
	window = all;
	ck_assert(trips(NOW));
	ck_assert_str_eq(reason, "30 of 40 requests failed within 30s");
}
END_TEST

START_TEST(a_late_bucket_takes_no_newer_ones_place)
{
	struct hp_breaker_bucket late = { .number = 1, .calls = 50, .failed = 50 };

	note(1, false, NOW, 0);
	late.number = NOW / hp_breaker_width(&spec) - HP_BREAKER_BUCKETS;
	hp_breaker_add(&window, &late);
	ck_assert(!trips(NOW));
}
END_TEST

START_TEST(half_open_lets_no_more_than_its_probes)
{
	for (int probes = 1; probes <= 5; probes++)
		for (int passed = 0; passed <= probes; passed++)
			for (int live = 0; live <= probes; live++)
				ck_assert_int_eq(hp_breaker_may_probe(probes, passed, live), passed + live < probes);
	ck_assert_int_eq(hp_breaker_open_for(HP_SECOND, 0), HP_SECOND);
	ck_assert_int_eq(hp_breaker_open_for(HP_SECOND, 1), 2 * HP_SECOND);
	ck_assert_int_eq(hp_breaker_open_for(HP_SECOND, 100), 16 * HP_SECOND);
}
END_TEST

START_TEST(waves_grow_and_are_bounded)
{
	static const int expect[] = { 10, 20, 40, 80, 160, 320, 500, 500 };

	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(hp_breaker_wave(i, HP_SECOND), expect[i]);
	ck_assert_int_eq(hp_breaker_wave(0, NOW), 10); /* the first is small, whenever it comes */
	ck_assert_int_eq(hp_breaker_wave(1, 3 * HP_SECOND), 60);
	ck_assert_int_eq(hp_breaker_wave(1, HP_MSEC), 20); /* woken at once again: as after a second */
	ck_assert_int_eq(hp_breaker_wave(1000, HP_DAY), 2500);
}
END_TEST

START_TEST(what_is_not_asked_for_opens_nothing)
{
	spec.failures_percent = spec.consecutive = 0;
	note(30, true, NOW, 0);
	ck_assert(!trips(NOW));
	spec.failures_percent = 50;
	ck_assert(trips(NOW));
}
END_TEST

/* The clock was set back: what is of the future says nothing of now. */
START_TEST(buckets_of_the_future_are_not_looked_at)
{
	spec.consecutive = 0;
	note(30, true, NOW + HP_MINUTE, 0);
	ck_assert(!trips(NOW));
	ck_assert(trips(NOW + HP_MINUTE));
}
END_TEST

START_TEST(a_reason_is_cut_to_its_room)
{
	char small[12];

	spec.failures_percent = spec.consecutive = 0;
	spec.slow_us = HP_SECOND;
	note(30, false, NOW, HP_MINUTE);
	ck_assert(hp_breaker_trips(&window, &spec, NOW, small, sizeof small));
	ck_assert_str_eq(small, "30 of 30 re");
}
END_TEST

START_TEST(retries_within_the_budget_are_free)
{
	struct hp_retry_budget b = { 0 };

	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(hp_retry_take(&b, NOW), 0);
	/* those beyond it follow each other at one a second */
	ck_assert_int_eq(hp_retry_take(&b, NOW), HP_SECOND);
	ck_assert_int_eq(hp_retry_take(&b, NOW), 2 * HP_SECOND);
	for (int i = 0; i < 10; i++)
		hp_retry_earn(&b);
	ck_assert_int_eq(hp_retry_take(&b, NOW), 2 * HP_SECOND); /* ten good calls earned one */
	ck_assert_int_eq(hp_retry_take(&b, NOW + HP_SECOND), 2 * HP_SECOND); /* and so did a second */
	ck_assert_int_eq(hp_retry_take(&b, NOW + HP_HOUR), 0);
	for (int i = 0; i < 1000; i++)
		hp_retry_take(&b, NOW + HP_HOUR);
	ck_assert_int_eq(hp_retry_take(&b, NOW + HP_HOUR), HP_RETRY_PUT_OFF_MAX);
	ck_assert_int_eq(hp_retry_take(&b, NOW + HP_DAY), 0);
}
END_TEST

/* A healthy endpoint: one call in eleven needs a retry, for ever. */
START_TEST(a_healthy_endpoint_never_waits)
{
	struct hp_retry_budget b = { 0 };

	for (int i = 0; i < 10000; i++) {
		if (i % 11 == 0)
			ck_assert_int_eq(hp_retry_take(&b, NOW), 0);
		else
			hp_retry_earn(&b);
	}
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("breakers");

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, what_counts_as_a_failure);
	tcase_add_test(t, half_of_twenty_opens_it);
	tcase_add_test(t, the_ratio_is_exact);
	tcase_add_test(t, the_window_rolls);
	tcase_add_test(t, failures_in_a_row_open_it_without_a_minimum);
	tcase_add_test(t, slow_calls_open_it_when_declared);
	tcase_add_test(t, the_counts_of_many_add_up);
	tcase_add_test(t, a_late_bucket_takes_no_newer_ones_place);
	tcase_add_test(t, half_open_lets_no_more_than_its_probes);
	tcase_add_test(t, waves_grow_and_are_bounded);
	tcase_add_test(t, what_is_not_asked_for_opens_nothing);
	tcase_add_test(t, buckets_of_the_future_are_not_looked_at);
	tcase_add_test(t, a_reason_is_cut_to_its_room);
	tcase_add_test(t, retries_within_the_budget_are_free);
	tcase_add_test(t, a_healthy_endpoint_never_waits);
	return hp_run_case("core_breaker", t);
}
