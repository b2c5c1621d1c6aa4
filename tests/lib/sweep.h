/* sweep.h: runs a piece of code again and again, failing its 1st, 2nd, 3rd …
 * allocation, until it runs through without one failing.
 *
 *	static int make_it(void *arg, struct hp_error *err);
 *	hp_sweep(make_it, arg);
 *
 * The code must return 0, or -1 with HP_E_NOMEM or HP_E_TOO_LARGE and a message;
 * anything else fails the test. It must leave nothing behind either way: the
 * leak checks of the sanitizer and valgrind builds watch for that.
 * Use inside a Check test. Returns how many allocations were failed.
 */
#ifndef TESTS_LIB_SWEEP_H
#define TESTS_LIB_SWEEP_H

#include <check.h>
#include "base/alloc.h"
#include "base/error.h"

#define HP_SWEEP_MAX 100000 /* a loop that allocates without end is a bug too */

typedef int (*hp_sweep_fn)(void *arg, struct hp_error *err);

static inline unsigned long hp_sweep(hp_sweep_fn fn, void *arg)
{
	unsigned long n;

	for (n = 1; n <= HP_SWEEP_MAX; n++) {
		struct hp_error err = {0};
		unsigned long seen;
		int rc;

		hp_alloc_fail_at(n);
		rc = fn(arg, &err);
		seen = hp_alloc_count();
		hp_alloc_fail_at(0);
		if (seen < n) { /* it needs fewer than n: nothing failed this time */
			ck_assert_msg(rc == 0, "fails with memory to spare: %s", err.message);
			return n - 1;
		}
		if (rc == 0) /* allowed: it could do without that one */
			continue;
		ck_assert_msg(err.code == HP_E_NOMEM || err.code == HP_E_TOO_LARGE,
			      "allocation %lu failed, error is %s: %s", n, hp_code_name(err.code),
			      err.message);
		ck_assert_msg(err.message[0] != '\0', "allocation %lu failed without a message", n);
	}
	ck_abort_msg("more than %d allocations", HP_SWEEP_MAX);
	return 0;
}

#endif
