/* suite.h: the main() of a Check program.
 *
 *	HP_SUITE("base buf", test_a, test_b, test_c)
 *
 * A program whose case needs more (a fixture, loops, its own limit of time) makes it and
 * returns hp_run_case().
 */
#ifndef TESTS_LIB_SUITE_H
#define TESTS_LIB_SUITE_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Runs these cases as the suite of that name: what main() returns. */
static inline int hp_run_cases(const char *name, TCase *const *cases, size_t count)
{
	Suite *s = suite_create(name);
	SRunner *r;
	int failed;

	/* whole lines, also of a test that dies: the runner reads the closing one */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < count; i++)
		suite_add_tcase(s, cases[i]);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static inline int hp_run_case(const char *name, TCase *t)
{
	return hp_run_cases(name, &t, 1);
}

static inline TCase *hp_case_of(const char *name, const TTest *const *tests, size_t count)
{
	TCase *t = tcase_create(name);

	for (size_t i = 0; i < count; i++)
		tcase_add_test(t, tests[i]);
	return t;
}

static inline int hp_run_suite(const char *name, const TTest *const *tests, size_t count)
{
	return hp_run_case(name, hp_case_of(name, tests, count));
}

/* The same, and one that needs longer: so many seconds. */
static inline int hp_run_suite_and(const char *name, const TTest *const *tests, size_t count, const TTest *longer,
				   double seconds)
{
	TCase *const cases[] = {hp_case_of(name, tests, count), hp_case_of("longer", &longer, 1)};

	tcase_set_timeout(cases[1], seconds);
	return hp_run_cases(name, cases, 2);
}

#define HP_SUITE(name, ...) \
	int main(void) \
	{ \
		const TTest *const tests[] = {__VA_ARGS__}; \
		return hp_run_suite(name, tests, sizeof tests / sizeof tests[0]); \
	}

#endif
