/* budget.h: windows, buckets and rates as arithmetic. Pure, in whole numbers.
 *
 * A meter is what is remembered of a limit for one key. Who asks is given an instant:
 * now, or the first one at which the limit has room. So those who wait have their place
 * when they leave, and come back one after the other.
 *
 *   window  so much from one multiple of `per` (UTC) to the next: at, the start of the
 *           last window that anything was given of; used, how much of that one
 *   bucket  full with `burst`, filled evenly with `max` per `per`: at, when all that
 *           was given is used up (the theoretical arrival time of GCRA)
 *
 * migrations/holdpoint/0013_gates.sql does the same sums.
 */
#ifndef HP_CORE_BUDGET_H
#define HP_CORE_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

struct hp_quota {
	int64_t max;     /* ≥ 1 */
	int64_t per_us;  /* ≥ 1 */
	int64_t burst;   /* bucket: what may go at once, 1 to max */
	bool bucket;
};
struct hp_meter {
	int64_t at;
	int64_t used;
};

/* The start of the window that `now` lies in. */
int64_t hp_window_start(int64_t now, int64_t per_us);
/* When `amount` (1 to max) may be used: now or later; the meter has it then. wait false:
 * only if that is now; else -1, and nothing has changed. */
int64_t hp_budget_take(const struct hp_quota *q, struct hp_meter *m, int64_t amount, bool wait, int64_t now);
/* Was given for the instant `at` and will not be used. True: there is room for it again
 * in the meter; false: its window is not the last one, so it can only be handed on. */
bool hp_budget_give_back(const struct hp_quota *q, struct hp_meter *m, int64_t amount, int64_t at);

#endif
