/* pattern.h: Lua patterns with a budget of steps.
 *
 * The pattern language is the one of the Lua 5.4 reference manual, section 6.4.1,
 * for ASCII (bytes above 127 belong to no class). Pure: bytes in, positions out.
 * A pattern is compiled first, so what is wrong with it is said before any matching.
 */
#ifndef HP_SCRIPT_PATTERN_H
#define HP_SCRIPT_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HP_PATTERN_ITEMS_MAX 200
#define HP_PATTERN_CAPTURES_MAX 32

/* Matches one byte of a 256-bit set, or is one of the marks below. */
struct hp_pattern_item {
	uint8_t kind;
	uint8_t repeat;      /* 0, '*', '+', '-' or '?' */
	uint8_t a, b;        /* capture number, or the two bytes of %bxy */
	uint32_t set[8];
};

struct hp_pattern {
	bool anchored;       /* began with ^ */
	int n_items, n_captures;
	struct hp_pattern_item items[HP_PATTERN_ITEMS_MAX + 1];
};

#define HP_PATTERN_POSITION SIZE_MAX /* length of a capture that is a position */
struct hp_pattern_match {
	size_t start, end;   /* of the whole match, from 0 */
	struct {
		size_t at, n;
	} capture[HP_PATTERN_CAPTURES_MAX];
};

/* caret: a leading ^ is an anchor (it is not in gmatch). Returns NULL or, as a
 * literal, what is wrong with the pattern. */
const char *hp_pattern_compile(struct hp_pattern *p, const char *text, size_t n, bool caret);

enum hp_pattern_result { HP_PATTERN_NONE, HP_PATTERN_FOUND, HP_PATTERN_TOO_LONG };
/* Looks for the first match at or after `from`. Every byte looked at takes one from
 * *steps; TOO_LONG when there are none left. */
enum hp_pattern_result hp_pattern_find(const struct hp_pattern *p, const char *s, size_t n, size_t from,
				       uint64_t *steps, struct hp_pattern_match *m);

#endif
