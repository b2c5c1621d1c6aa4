/* suite.h: the main() of a Check program.
 *
 *	HP_SUITE("base buf", test_a, test_b, test_c)
 */
#ifndef TESTS_LIB_SUITE_H
#define TESTS_LIB_SUITE_H

#include <check.h>
#include <stdlib.h>

static inline int hp_run_suite(const char *name, const TTest *const *tests, size_t count)
{
	Suite *s = suite_create(name);
	TCase *t = tcase_create(name);
	SRunner *r;
	size_t i;
	int failed;

	for (i = 0; i < count; i++)
		tcase_add_test(t, tests[i]);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define HP_SUITE(name, ...) \
	int main(void) \
	{ \
		const TTest *const tests[] = {__VA_ARGS__}; \
		return hp_run_suite(name, tests, sizeof tests / sizeof tests[0]); \
	}

#endif
