/* Windows and buckets: never more than the limit, places in order, sums that fit. */
#include "core/budget.h"
#include "lib/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND INT64_C(1000000)
#define HOUR (3600 * SECOND)
#define T0 INT64_C(1700000000000000) /* 13 min 20 s into an hour */
#define NEXT_HOUR (T0 / HOUR * HOUR + HOUR)

/* As a store does it: what was promised of a window is in `given`. */
static int64_t take(const struct hp_quota *q, struct hp_meter *m, int64_t amount, bool wait, int64_t now)
{
	if (hp_budget_rolls(q, m, now))
		hp_budget_roll(q, m, m->at == hp_window_start(now, q->per_us) ? m->used : 0, now);
	return hp_budget_take(q, m, amount, wait, now);
}

START_TEST(a_window_gives_its_limit_and_then_the_next_one)
{
	struct hp_quota q = { .max = 10, .per_us = HOUR };
	struct hp_meter m = { 0 };

	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(take(&q, &m, 1, true, T0 + i), T0 + i);
	ck_assert_int_eq(take(&q, &m, 1, false, T0 + 10), -1);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(take(&q, &m, 1, true, T0 + 10), NEXT_HOUR);
	ck_assert_int_eq(take(&q, &m, 1, true, T0 + 10), NEXT_HOUR + HOUR);
	/* nobody who does not wait gets what others wait for */
	ck_assert_int_eq(take(&q, &m, 1, false, NEXT_HOUR), -1);
	ck_assert_int_eq(take(&q, &m, 9, true, NEXT_HOUR), NEXT_HOUR + HOUR);
	ck_assert_int_eq(take(&q, &m, 1, true, NEXT_HOUR), NEXT_HOUR + 2 * HOUR);
}
END_TEST

START_TEST(a_new_window_begins_empty)
{
	struct hp_quota q = { .max = 3, .per_us = HOUR };
	struct hp_meter m = { 0 };

	ck_assert_int_eq(take(&q, &m, 3, true, T0), T0);
	ck_assert_int_eq(take(&q, &m, 3, false, NEXT_HOUR - 1), -1);
	ck_assert_int_eq(take(&q, &m, 3, false, NEXT_HOUR), NEXT_HOUR);
}
END_TEST

START_TEST(what_is_given_back_can_be_given_again)
{
	struct hp_quota q = { .max = 3, .per_us = HOUR };
	struct hp_meter m = { 0 };

	ck_assert_int_eq(take(&q, &m, 3, true, T0), T0);
	hp_budget_give_back(&q, &m, 2, T0);
	ck_assert_int_eq(take(&q, &m, 2, false, T0), T0);
	ck_assert_int_eq(take(&q, &m, 1, true, T0), NEXT_HOUR);
	/* others wait for the next window already: this one is for them, not for who comes now */
	hp_budget_give_back(&q, &m, 2, T0);
	ck_assert_int_eq(m.now_used, 1);
	ck_assert_int_eq(m.used, 1);
	ck_assert_int_eq(take(&q, &m, 1, false, T0), -1);
	hp_budget_give_back(&q, &m, 1, NEXT_HOUR); /* the one that waits gets it */
	hp_budget_give_back(&q, &m, -1, T0);
	ck_assert_int_eq(m.now_used, 2);
	ck_assert_int_eq(m.used, 0);
}
END_TEST

START_TEST(a_bucket_spaces_what_it_cannot_give_at_once)
{
	struct hp_quota q = { .max = 10, .per_us = SECOND, .burst = 3, .bucket = true };
	struct hp_meter m = { 0 };

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(take(&q, &m, 1, true, T0), T0);
	ck_assert_int_eq(take(&q, &m, 1, false, T0), -1);
	for (int i = 1; i < 50; i++)
		ck_assert_int_eq(take(&q, &m, 1, true, T0), T0 + i * SECOND / 10);
	hp_budget_give_back(&q, &m, 1, T0 + 49 * SECOND / 10);
	ck_assert_int_eq(take(&q, &m, 1, true, T0), T0 + 49 * SECOND / 10);
	/* full again after a rest */
	ck_assert_int_eq(take(&q, &m, 3, false, T0 + 60 * SECOND), T0 + 60 * SECOND);
}
END_TEST

START_TEST(what_is_used_is_told_and_can_be_carried_over)
{
	struct hp_quota window = { .max = 10, .per_us = HOUR }, bucket = { .max = 10, .per_us = SECOND, .burst = 10, .bucket = true };
	struct hp_meter m = { 0 };

	hp_budget_carry(&window, &m, 4, T0);
	ck_assert_int_eq(hp_budget_used(&window, &m, T0), 4);
	ck_assert_int_eq(take(&window, &m, 7, false, T0), -1);
	ck_assert_int_eq(take(&window, &m, 6, false, T0), T0);
	ck_assert_int_eq(hp_budget_used(&window, &m, T0), 10);
	hp_budget_carry(&bucket, &m, 4, T0);
	ck_assert_int_eq(hp_budget_used(&bucket, &m, T0), 4);
	ck_assert_int_eq(take(&bucket, &m, 7, false, T0), -1);
	ck_assert_int_eq(take(&bucket, &m, 6, false, T0), T0);
	ck_assert_int_eq(hp_budget_used(&bucket, &m, T0), 10);
	ck_assert_int_eq(take(&bucket, &m, 5, true, T0), T0 + SECOND / 2);
	ck_assert_int_eq(hp_budget_used(&bucket, &m, T0), 10); /* what is promised beyond it is not in use yet */
	ck_assert_int_eq(hp_budget_used(&bucket, &m, T0 + HOUR), 0);
}
END_TEST

START_TEST(money_times_months_fits)
{
	struct hp_quota q = { .max = INT64_C(900000000000000), .per_us = 31 * 24 * HOUR, .burst = 1, .bucket = true };
	struct hp_meter m = { 0 };

	ck_assert_int_eq(take(&q, &m, q.max, true, T0), T0);
	ck_assert_int_eq(m.at, T0 + q.per_us);
}
END_TEST

static int64_t next(uint64_t *seed, int64_t n)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (int64_t)(*seed % (uint64_t)n);
}

/* Whoever asks when and for how much: what is valid within one window never exceeds the
 * limit, in whatever order things are given back. */
START_TEST(no_window_is_ever_exceeded)
{
	enum { N = 4000, WINDOWS = 600 };
	static int64_t at[N], amount[N], sum[WINDOWS];
	uint64_t seed = (uint64_t)_i * 7919 + 1, r = seed;
	struct hp_quota q = { .max = 10, .per_us = SECOND };
	struct hp_meter m = { 0 };
	int64_t now = T0 / SECOND * SECOND;

	for (int w = 0; w < WINDOWS; w++)
		sum[w] = 0;
	for (int i = 0; i < N; i++) {
		int64_t w;

		now += next(&r, SECOND / 8);
		amount[i] = 1 + next(&r, 3);
		w = (now - T0 / SECOND * SECOND) / SECOND;
		if (hp_budget_rolls(&q, &m, now))
			hp_budget_roll(&q, &m, w < WINDOWS ? sum[w] : 0, now);
		at[i] = hp_budget_take(&q, &m, amount[i], next(&r, 2), now);
		if (at[i] < 0)
			continue;
		ck_assert_int_ge(at[i], now);
		w = (at[i] - T0 / SECOND * SECOND) / SECOND;
		if (w >= WINDOWS)
			continue;
		sum[w] += amount[i];
		if (next(&r, 4) == 0) {
			hp_budget_give_back(&q, &m, amount[i], at[i]);
			sum[w] -= amount[i];
		}
	}
	for (int w = 0; w < WINDOWS; w++)
		ck_assert_msg(sum[w] <= q.max, "seed %llu: window %d has %lld", (unsigned long long)seed, w, (long long)sum[w]);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("budget");

	tcase_add_test(t, a_window_gives_its_limit_and_then_the_next_one);
	tcase_add_test(t, a_new_window_begins_empty);
	tcase_add_test(t, what_is_given_back_can_be_given_again);
	tcase_add_test(t, a_bucket_spaces_what_it_cannot_give_at_once);
	tcase_add_test(t, what_is_used_is_told_and_can_be_carried_over);
	tcase_add_test(t, money_times_months_fits);
	tcase_add_loop_test(t, no_window_is_ever_exceeded, 0, 20);
	return hp_run_case("core budget", t);
}
