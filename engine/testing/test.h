/* test.h: an author's test file, run. See docs/testing.md for the words it may use.
 *
 * A file is loaded once, in a Lua state of its own, beside the workflow it names;
 * every test gets a new world (drive.h). Nothing is sent anywhere and no time passes.
 * With a real database (real.h) statements are run in it, and requests without an answer
 * go to simulated providers.
 */
#ifndef HP_TESTING_TEST_H
#define HP_TESTING_TEST_H

#include <jansson.h>
#include <stdbool.h>
#include "base/error.h"
#include "testing/real.h"

struct hp_test_result {
	const char *name;
	int line;               /* of `test` */
	bool passed;
	bool skipped;           /* not for a real database */
	/* failed: where and what; expected and actual are NULL when nothing was compared */
	int failed_line;        /* 0: not known */
	const char *message;
	const char *expected, *actual;
	const json_t *timeline; /* what happened: rows as of hp_drive_timeline(); may be NULL */
};
typedef void (*hp_test_fn)(void *arg, const struct hp_test_result *r);

struct hp_test_options {
	const char *plugins; /* directory */
	const char *filter;  /* part of a test's name; NULL: all */
	struct hp_real *real;       /* NULL: in memory */
	const volatile bool *stop;  /* true: no further test begins; NULL: never */
	hp_test_fn each;     /* its texts are borrowed */
	void *arg;
};
/* 0: the tests ran, whatever came of them; -1: the file is wrong, or its workflow. */
int hp_test_file(const char *path, const struct hp_test_options *o, struct hp_error *err) HP_MUST_CHECK;

#endif
