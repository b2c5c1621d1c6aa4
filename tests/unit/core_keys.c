/* Keys and backoff: the same after every crash, different for everything that
 * must be told apart, and a jitter that is really spread. */
#include "core/keys.h"
#include "lib/suite.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000)
#define INSTALLATION "7d444840-9dc0-11d1-b245-5ffdce74fad2"

static void key(char out[HP_EFFECT_KEY_LEN], int64_t run, const char *state, int32_t visit,
		int index)
{
	memset(out, 'x', HP_EFFECT_KEY_LEN);
	hp_effect_key(INSTALLATION, run, state, visit, index, out);
}

START_TEST(key_is_deterministic)
{
	char a[HP_EFFECT_KEY_LEN], b[HP_EFFECT_KEY_LEN];

	key(a, 42, "refund", 5, 0);
	key(b, 42, "refund", 5, 0);
	ck_assert_str_eq(a, b);
	ck_assert_uint_eq(strlen(a), 43);
	ck_assert(strncmp(a, "hp_", 3) == 0);
	ck_assert_uint_eq(strspn(a + 3, "0123456789abcdef"), 40);
	/* Written down: a change of this line makes every open effect of every
	 * installation act twice. */
	ck_assert_str_eq(a, "hp_5bf34a6ec000ad1c492f7dc16f4ee61c9b8e126a");
}
END_TEST

START_TEST(key_tells_everything_apart)
{
	static const struct {
		int64_t run;
		const char *state;
		int32_t visit;
		int index;
	} of[] = {
	    {42, "refund", 5, 0},  {43, "refund", 5, 0},
	    {42, "refunds", 5, 0}, {42, "refund", 6, 0},
	    {42, "refund", 5, 1},  {-42, "refund", 5, 0},
	    {42, "", 5, 0},        {5, "refund", 42, 0},
	    {42, "refund", 0, 5},  {INT64_C(42) << 32, "refund", 5, 0},
	};
	size_t i, k;

	for (i = 0; i < sizeof of / sizeof *of; i++)
		for (k = 0; k < i; k++) {
			char a[HP_EFFECT_KEY_LEN], b[HP_EFFECT_KEY_LEN];

			key(a, of[i].run, of[i].state, of[i].visit, of[i].index);
			key(b, of[k].run, of[k].state, of[k].visit, of[k].index);
			ck_assert_str_ne(a, b);
		}
}
END_TEST

/* Two installations share one Stripe account in many a test environment. */
START_TEST(key_is_of_one_installation)
{
	char a[HP_EFFECT_KEY_LEN], b[HP_EFFECT_KEY_LEN];

	hp_effect_key("a", 1, "bc", 1, 0, a);
	hp_effect_key("ab", 1, "c", 1, 0, b); /* the parts do not run together */
	ck_assert_str_ne(a, b);
}
END_TEST

/* Every attempt draws anew, but the same attempt always draws the same. */
START_TEST(backoff_is_deterministic)
{
	struct hp_retry r = {.attempts = 8, .base_us = SECOND, .cap_us = 300 * SECOND};

	ck_assert_int_eq(hp_backoff(&r, 1, 2, 3, -1), hp_backoff(&r, 1, 2, 3, -1));
	ck_assert_int_ne(hp_backoff(&r, 1, 2, 3, -1), hp_backoff(&r, 2, 2, 3, -1));
	ck_assert_int_ne(hp_backoff(&r, 1, 2, 3, -1), hp_backoff(&r, 1, 3, 3, -1));
	ck_assert_int_ne(hp_backoff(&r, 1, 2, 3, -1), hp_backoff(&r, 1, 2, 4, -1));
}
END_TEST

START_TEST(backoff_grows_to_the_cap)
{
	struct hp_retry r = {.attempts = 8, .base_us = SECOND, .cap_us = 10 * SECOND};
	static const int64_t limit[] = {1, 2, 4, 8, 10, 10, 10};
	int32_t failures;
	int64_t run;

	for (failures = 1; failures <= 7; failures++) {
		int64_t most = 0;

		for (run = 0; run < 2000; run++) {
			int64_t wait = hp_backoff(&r, run, 1, failures, -1);

			ck_assert_int_gt(wait, 0);
			ck_assert_int_le(wait, limit[failures - 1] * SECOND);
			if (wait > most)
				most = wait;
		}
		ck_assert_int_gt(most, limit[failures - 1] * SECOND * 99 /
					   100); /* reaches up to its limit */
	}
}
END_TEST

/* Uniform over (0, limit]: chi-square with 15 degrees of freedom stays below
 * 37.7 in 999 of 1000 honest draws; ours are fixed, so this never flickers. */
START_TEST(backoff_is_spread)
{
	struct hp_retry r = {.attempts = 8, .base_us = 16 * SECOND, .cap_us = 300 * SECOND};
	enum { N = 16000, BINS = 16 };
	int count[BINS] = {0}, i;
	double chi = 0;
	int64_t run;

	for (run = 0; run < N; run++)
		count[(hp_backoff(&r, run, 7, 1, -1) - 1) / SECOND]++;
	for (i = 0; i < BINS; i++) {
		double d = count[i] - (double)N / BINS;

		chi += d * d / ((double)N / BINS);
	}
	ck_assert_msg(chi < 37.7, "chi-square %.1f", chi);
}
END_TEST

START_TEST(advice_is_a_floor)
{
	struct hp_retry r = {.attempts = 8, .base_us = SECOND, .cap_us = 5 * SECOND};
	int64_t own = hp_backoff(&r, 9, 1, 3, -1);

	ck_assert_int_eq(hp_backoff(&r, 9, 1, 3, 0), own);
	ck_assert_int_eq(hp_backoff(&r, 9, 1, 3, own - 1), own);
	ck_assert_int_eq(hp_backoff(&r, 9, 1, 3, own + 1), own + 1);
	ck_assert_int_eq(hp_backoff(&r, 9, 1, 3, 3600 * SECOND),
			 3600 * SECOND); /* over the cap: they know better */
}
END_TEST

START_TEST(backoff_survives_extremes)
{
	struct hp_retry r = {.attempts = 1000, .base_us = INT64_MAX / 2, .cap_us = INT64_MAX};
	struct hp_retry zero = {0}, small = {.base_us = 10 * SECOND, .cap_us = SECOND};
	int32_t failures;

	for (failures = -1; failures < 1000; failures += 37)
		ck_assert_int_gt(hp_backoff(&r, INT64_MIN, INT32_MAX, failures, INT64_MIN), 0);
	ck_assert_int_eq(hp_backoff(&zero, 1, 1, 1, -1), 1);
	ck_assert_int_le(hp_backoff(&small, 1, 1, 1, -1),
			 SECOND); /* the cap holds for the first too */
	ck_assert_int_gt(hp_backoff(&r, 1, 1, INT32_MAX, -1), 0);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("all");

	tcase_add_test(t, key_is_deterministic);
	tcase_add_test(t, key_tells_everything_apart);
	tcase_add_test(t, key_is_of_one_installation);
	tcase_add_test(t, backoff_is_deterministic);
	tcase_add_test(t, backoff_grows_to_the_cap);
	tcase_add_test(t, backoff_is_spread);
	tcase_add_test(t, advice_is_a_floor);
	tcase_add_test(t, backoff_survives_extremes);
	return hp_run_case("core_keys", t);
}
