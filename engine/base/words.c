/* words.c: the nearest right word, durations and strict integers. */
#include "base/words.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/limits.h"

static size_t smallest(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Optimal string alignment distance: insert, delete, replace, swap of two
 * neighbours. Both words are at most HP_NAME_MAX long. */
static size_t distance(const char *a, size_t a_n, const char *b, size_t b_n)
{
	size_t rows[3][HP_NAME_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *row = rows[2], *spare;
	size_t i, k;

	for (k = 0; k <= b_n; k++)
		before[k] = above[k] = k;
	for (i = 1; i <= a_n; i++) {
		row[0] = i;
		for (k = 1; k <= b_n; k++) {
			size_t cost = a[i - 1] != b[k - 1];

			row[k] = smallest(smallest(above[k], row[k - 1]) + 1, above[k - 1] + cost);
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
				row[k] = smallest(row[k], before[k - 2] + 1);
		}
		spare = before;
		before = above;
		above = row;
		row = spare;
	}
	return above[b_n];
}

const char *hp_nearest(const char *word, const char *const *candidates, size_t count)
{
	size_t n = strlen(word), best = n / 3, i;
	const char *found = NULL;

	if (n > HP_NAME_MAX)
		return NULL;
	best = (best < 1 ? 1 : best > 3 ? 3 : best) + 1; /* strictly less than this */
	for (i = 0; i < count; i++) {
		size_t c_n = strlen(candidates[i]), d;

		if (c_n > HP_NAME_MAX)
			continue;
		d = distance(word, n, candidates[i], c_n);
		if (d < best) {
			best = d;
			found = candidates[i];
		}
	}
	return found;
}

/* Reads digits at *s into *out; false when there are none or too many. */
static bool read_digits(const char **s, int64_t *out)
{
	const char *p = *s;
	int64_t v = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, INT64_C(10), &v) ||
		    __builtin_add_overflow(v, (int64_t)(*p - '0'), &v))
			return false;
	*s = p;
	*out = v;
	return true;
}

struct unit {
	const char *name;
	int64_t us;
};

/* Largest first: formatting walks down. */
static const struct unit units[] = {
	{"d", HP_DAY}, {"h", HP_HOUR}, {"m", HP_MINUTE}, {"s", HP_SECOND}, {"ms", HP_MSEC},
};
#define UNITS (sizeof units / sizeof units[0])

int hp_duration_parse(const char *s, int64_t *us, struct hp_error *err)
{
	const char *p = s;
	int64_t v;
	size_t i;

	if (!read_digits(&p, &v))
		goto bad;
	for (i = 0; i < UNITS; i++)
		if (strcmp(p, units[i].name) == 0)
			break;
	if (i == UNITS || v == 0)
		goto bad;
	if (__builtin_mul_overflow(v, units[i].us, us)) {
		hp_fail(err, HP_E_INVALID, "duration \"%.40s\" is too long", s);
		return hp_error_hint(err, "the longest is about 292,000 years");
	}
	return 0;
bad:
	hp_fail(err, HP_E_INVALID, "\"%.40s\" is not a duration", s);
	return hp_error_hint(err, "write a whole number above 0 and a unit: 250ms, 20s, 5m, 4h or 10d");
}

const char *hp_duration_format(int64_t us, char *buf, size_t n)
{
	/* unsigned, because the smallest int64 has no positive twin */
	uint64_t left = us < 0 ? 0 - (uint64_t)us : (uint64_t)us, first, second;
	const char *sign = us < 0 ? "-" : "";
	size_t i;

	HP_ASSERT(n >= 32);
	if (left < (uint64_t)HP_MSEC) {
		snprintf(buf, n, "%s", left == 0 ? "0s" : "under 1ms");
		return buf;
	}
	for (i = 0; left < (uint64_t)units[i].us; i++)
		;
	first = left / (uint64_t)units[i].us;
	left %= (uint64_t)units[i].us;
	second = i + 1 < UNITS ? left / (uint64_t)units[i + 1].us : 0;
	if (second)
		snprintf(buf, n, "%s%llu%s %llu%s", sign, (unsigned long long)first, units[i].name,
			 (unsigned long long)second, units[i + 1].name);
	else
		snprintf(buf, n, "%s%llu%s", sign, (unsigned long long)first, units[i].name);
	return buf;
}

int hp_int_parse(const char *s, int64_t *out)
{
	bool negative = *s == '-';
	uint64_t v = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;

	s += negative;
	if (*s == '\0')
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		if (__builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v) || v > limit)
			return -1;
	}
	*out = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}
