/* words.h: small text helpers that several rooms need. */
#ifndef HP_BASE_WORDS_H
#define HP_BASE_WORDS_H

#include <stdint.h>
#include <stddef.h>
#include "base/error.h"

/* The candidate nearest to `word` by edit distance (Damerau–Levenshtein), or
 * NULL when none is within a third of its length (at least 1, at most 3). */
const char *hp_nearest(const char *word, const char *const *candidates, size_t count);
/* "250ms", "20s", "5m", "4h", "10d" → microseconds. Whole numbers only, > 0. */
int hp_duration_parse(const char *s, int64_t *us, struct hp_error *err) HP_MUST_CHECK;
/* 90 s → "1m 30s": at most two units, for people. buf ≥ 32. */
const char *hp_duration_format(int64_t us, char *buf, size_t n);
/* Strict decimal int64: -1 on anything else. */
int hp_int_parse(const char *s, int64_t *out) HP_MUST_CHECK;

#endif
