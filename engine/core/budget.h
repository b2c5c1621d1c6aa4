/* budget.h: windows, buckets and rates as arithmetic. Pure, in whole numbers.
 *
 * A meter is what is remembered of a limit for one key. Who asks is given an instant:
 * now, or the first one at which the limit has room. So those who wait have their place
 * when they leave, and come back one after the other.
 *
 *   window  so much from one multiple of `per` (UTC) to the next: now_at, the start of
 *           the one that now lies in, and now_used, how much of it is given; at and
 *           used, the same of the last one that anybody waits for (none: as now_at)
 *   bucket  full with `burst`, filled evenly with `max` per `per`: at, when all that
 *           was given is used up (the theoretical arrival time of GCRA)
 *
 * migrations/holdpoint/0013_limits.sql does the same sums.
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
	int64_t at, used;
	int64_t now_at, now_used;
};

/* The start of the window that `now` lies in. */
int64_t hp_window_start(int64_t now, int64_t per_us);
/* Has a new window begun since anybody asked? Then hp_budget_roll() comes first, with what
 * was promised of it to those who waited. */
bool hp_budget_rolls(const struct hp_quota *q, const struct hp_meter *m, int64_t now);
void hp_budget_roll(const struct hp_quota *q, struct hp_meter *m, int64_t promised, int64_t now);
/* When `amount` (1 to max) may be used: now or later; the meter has it then. wait false:
 * only if that is now; else -1, and nothing has changed. */
int64_t hp_budget_take(const struct hp_quota *q, struct hp_meter *m, int64_t amount, bool wait, int64_t now);
/* How much of it is used now (a window: rolled before). */
int64_t hp_budget_used(const struct hp_quota *q, const struct hp_meter *m, int64_t now);
/* A meter of which so much is used now. */
void hp_budget_carry(const struct hp_quota *q, struct hp_meter *m, int64_t used, int64_t now);
/* What was given for the instant `at` will not be used, or (amount < 0) is given to
 * somebody who had waited for later. Who waits is the caller's to know. */
void hp_budget_give_back(const struct hp_quota *q, struct hp_meter *m, int64_t amount, int64_t at);

#endif
