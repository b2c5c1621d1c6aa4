#include "core/breaker.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

#define SECOND INT64_C(1000000)
#define WAVE_FIRST 10
#define WAVE_MAX 500
#define WAITED_MAX 5 /* seconds: a pause lets no crowd gather */

const struct hp_breaker_spec hp_breaker_default = {
	.failures_percent = 50,
	.minimum = 20,
	.window_us = 30 * SECOND,
	.consecutive = 10,
	.slow_percent = 80,
	.open_us = 30 * SECOND,
	.probes = 3,
};

int64_t hp_breaker_width(const struct hp_breaker_spec *s)
{
	return s->window_us / HP_BREAKER_BUCKETS;
}

bool hp_breaker_failure(enum hp_class outcome, int status)
{
	if (outcome != HP_RETRYABLE && outcome != HP_AMBIGUOUS)
		return false;
	return status < 400 || status >= 500 || status == 408;
}

void hp_breaker_add(struct hp_breaker_window *w, const struct hp_breaker_bucket *b)
{
	struct hp_breaker_bucket *at = &w->buckets[b->number % HP_BREAKER_BUCKETS];

	if (at->number > b->number)
		return; /* older than the window */
	if (at->number < b->number)
		*at = (struct hp_breaker_bucket){ .number = b->number };
	at->calls += b->calls;
	at->failed += b->failed;
	at->slow += b->slow;
}

void hp_breaker_note(struct hp_breaker_window *w, const struct hp_breaker_spec *s, int64_t now, bool failed,
		     int64_t took_us)
{
	struct hp_breaker_bucket one = { .number = now / hp_breaker_width(s),
					 .calls = 1,
					 .failed = failed,
					 .slow = s->slow_us > 0 && took_us >= s->slow_us };

	hp_breaker_add(w, &one);
	w->in_row = failed ? w->in_row + 1 : 0;
}

/* Is `part` of `all` at least percent? */
static bool share(int64_t part, int64_t all, int percent)
{
	return percent > 0 && part * 100 >= all * percent;
}

bool hp_breaker_trips(const struct hp_breaker_window *w, const struct hp_breaker_spec *s, int64_t now,
		      char *reason, size_t n)
{
	int64_t newest = now / hp_breaker_width(s);
	struct hp_breaker_bucket sum = { 0 };
	char span[32];

	for (int i = 0; i < HP_BREAKER_BUCKETS; i++) {
		const struct hp_breaker_bucket *b = &w->buckets[i];

		if (b->number <= newest - HP_BREAKER_BUCKETS || b->number > newest + 1)
			continue;
		sum.calls += b->calls;
		sum.failed += b->failed;
		sum.slow += b->slow;
	}
	reason[0] = 0;
	if (s->consecutive > 0 && w->in_row >= s->consecutive) {
		snprintf(reason, n, "%lld requests failed in a row", (long long)w->in_row);
		return true;
	}
	if (sum.calls < s->minimum)
		return false;
	if (share(sum.failed, sum.calls, s->failures_percent)) {
		snprintf(reason, n, "%lld of %lld requests failed within %s", (long long)sum.failed,
			 (long long)sum.calls, hp_duration_format(s->window_us, span, sizeof span));
		return true;
	}
	if (s->slow_us > 0 && share(sum.slow, sum.calls, s->slow_percent)) {
		int at = snprintf(reason, n, "%lld of %lld requests took %s or longer", (long long)sum.slow,
				  (long long)sum.calls, hp_duration_format(s->slow_us, span, sizeof span));

		if ((size_t)at < n)
			snprintf(reason + at, n - (size_t)at, " within %s",
				 hp_duration_format(s->window_us, span, sizeof span));
		return true;
	}
	return false;
}

int64_t hp_breaker_open_for(int64_t open_us, int reopened)
{
	return open_us * (1 << (reopened < 4 ? reopened : 4));
}

bool hp_breaker_may_probe(int probes, int passed, int live)
{
	return passed + live < probes;
}

int hp_breaker_wave(int wave, int64_t waited_us)
{
	int64_t n = WAVE_FIRST << (wave < 6 ? wave : 6), seconds = waited_us / SECOND;

	if (n > WAVE_MAX)
		n = WAVE_MAX;
	if (wave == 0 || seconds < 1)
		seconds = 1;
	return (int)(n * (seconds < WAITED_MAX ? seconds : WAITED_MAX));
}

void hp_retry_earn(struct hp_retry_budget *b)
{
	b->owed = b->owed > HP_RETRY_EARNED ? b->owed - HP_RETRY_EARNED : 0;
}

int64_t hp_retry_take(struct hp_retry_budget *b, int64_t now)
{
	int64_t passed = now > b->at ? now - b->at : 0, over;

	/* time pays too, at the floor's pace (and all of it, however long ago: no overflow) */
	if (b->at == 0 || passed / HP_RETRY_FLOOR_US * 1000 >= b->owed)
		b->owed = 0;
	else
		b->owed -= passed * 1000 / HP_RETRY_FLOOR_US;
	b->at = now;
	b->owed += 1000;
	if (b->owed <= HP_RETRY_SAVED)
		return 0;
	over = (b->owed - HP_RETRY_SAVED) * HP_RETRY_FLOOR_US / 1000;
	return over < HP_RETRY_PUT_OFF_MAX ? over : HP_RETRY_PUT_OFF_MAX;
}
