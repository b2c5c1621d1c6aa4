/* budget.c: windows and buckets. */
#include "core/budget.h"

#include "base/error.h"

int64_t hp_window_start(int64_t now, int64_t per_us)
{
	return now - now % per_us;
}

/* How long filling in `amount` takes, rounded up: never more than max per `per`. */
static int64_t filling(const struct hp_quota *q, int64_t amount)
{
	/* an amount of money times a month does not fit 64 bits */
	__extension__ __int128 t = q->per_us;

	return (int64_t)((t * amount + q->max - 1) / q->max);
}

static int64_t take_bucket(const struct hp_quota *q, struct hp_meter *m, int64_t amount, bool wait, int64_t now)
{
	int64_t full = (m->at > now ? m->at : now) + filling(q, amount);
	int64_t at = full - filling(q, q->burst > amount ? q->burst : amount);

	if (at < now)
		at = now;
	if (at > now && !wait)
		return -1;
	m->at = full;
	return at;
}

int64_t hp_budget_take(const struct hp_quota *q, struct hp_meter *m, int64_t amount, bool wait, int64_t now)
{
	int64_t window = hp_window_start(now, q->per_us), used;

	HP_ASSERT(q->max > 0 && q->per_us > 0 && amount > 0 && amount <= q->max);
	if (q->bucket)
		return take_bucket(q, m, amount, wait, now);
	if (window < m->at)
		window = m->at;
	used = window > m->at ? 0 : m->used;
	if (used + amount > q->max) {
		window += q->per_us;
		used = 0;
	}
	if (window > now && !wait)
		return -1;
	m->at = window;
	m->used = used + amount;
	return window > now ? window : now;
}

bool hp_budget_give_back(const struct hp_quota *q, struct hp_meter *m, int64_t amount, int64_t at)
{
	if (q->bucket) {
		m->at -= filling(q, amount);
		return true;
	}
	if (hp_window_start(at, q->per_us) != m->at)
		return false;
	m->used = m->used > amount ? m->used - amount : 0;
	return true;
}
