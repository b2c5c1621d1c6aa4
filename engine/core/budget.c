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

bool hp_budget_rolls(const struct hp_quota *q, const struct hp_meter *m, int64_t now)
{
	return !q->bucket && m->now_at < hp_window_start(now, q->per_us);
}

void hp_budget_roll(const struct hp_quota *q, struct hp_meter *m, int64_t promised, int64_t now)
{
	m->now_at = hp_window_start(now, q->per_us);
	m->now_used = promised;
	if (m->at <= m->now_at) {
		m->at = m->now_at;
		m->used = m->now_used;
	}
}

int64_t hp_budget_take(const struct hp_quota *q, struct hp_meter *m, int64_t amount, bool wait, int64_t now)
{
	int64_t window = m->at, used = m->used;

	HP_ASSERT(q->max > 0 && q->per_us > 0 && amount > 0 && amount <= q->max);
	if (q->bucket)
		return take_bucket(q, m, amount, wait, now);
	HP_ASSERT(!hp_budget_rolls(q, m, now));
	if (used + amount > q->max) {
		window += q->per_us;
		used = 0;
	}
	if (window > now && !wait)
		return -1;
	m->at = window;
	m->used = used + amount;
	if (m->at == m->now_at)
		m->now_used = m->used;
	return window > now ? window : now;
}

int64_t hp_budget_used(const struct hp_quota *q, const struct hp_meter *m, int64_t now)
{
	__extension__ __int128 left = m->at > now ? m->at - now : 0;

	if (!q->bucket)
		return m->now_used;
	left = (left * q->max + q->per_us - 1) / q->per_us;
	return left < q->max ? (int64_t)left : q->max;
}

void hp_budget_carry(const struct hp_quota *q, struct hp_meter *m, int64_t used, int64_t now)
{
	m->now_at = hp_window_start(now, q->per_us);
	m->now_used = used;
	m->at = q->bucket ? now + filling(q, used) : m->now_at;
	m->used = q->bucket ? 0 : used;
}

void hp_budget_give_back(const struct hp_quota *q, struct hp_meter *m, int64_t amount, int64_t at)
{
	int64_t window = q->bucket ? 0 : hp_window_start(at, q->per_us);

	if (q->bucket) {
		m->at -= filling(q, amount);
		return;
	}
	if (window == m->now_at)
		m->now_used -= amount;
	if (window == m->at)
		m->used -= amount;
}
