/* pattern.c: compiles a Lua pattern into a row of items, then matches it.
 *
 * An item is a set of bytes with an optional repetition, or a mark (capture opens,
 * closes, position, balance, frontier, back reference, end). The row has no
 * alternatives, so a path that reaches an item has passed all items before it and
 * has overwritten every capture they set: backtracking need not restore captures.
 * Matching recurses once per repetition, never per byte: the depth is bounded by
 * HP_PATTERN_ITEMS_MAX. Steps bound the time: ".-.-.-.-b" takes n^4 of them.
 */
#include "script/pattern.h"

#include <string.h>

enum kind { SET, OPEN, CLOSE, POSITION, BALANCE, FRONTIER, SAME_AS, END_OF_TEXT, DONE };

/* ---- sets ---- */

static void set_add(uint32_t *set, unsigned c)
{
	set[c >> 5] |= UINT32_C(1) << (c & 31);
}

static bool set_has(const uint32_t *set, unsigned char c)
{
	return set[c >> 5] >> (c & 31) & 1;
}

static void set_add_range(uint32_t *set, unsigned from, unsigned to)
{
	unsigned c;

	for (c = from; c <= to; c++)
		set_add(set, c);
}

static void set_invert(uint32_t *set)
{
	int i;

	for (i = 0; i < 8; i++)
		set[i] = ~set[i];
}

static void set_add_punctuation(uint32_t *set)
{
	set_add_range(set, '!', '/');
	set_add_range(set, ':', '@');
	set_add_range(set, '[', '`');
	set_add_range(set, '{', '~');
}

/* Adds class %c (or, for %C, all bytes outside it); false when c names no class. */
static bool set_add_class(uint32_t *set, unsigned char c)
{
	uint32_t own[8] = {0};
	bool upper = c >= 'A' && c <= 'Z';
	int i;

	switch (upper ? c - 'A' + 'a' : c) {
	case 'a': set_add_range(own, 'a', 'z'); set_add_range(own, 'A', 'Z'); break;
	case 'c': set_add_range(own, 0, 31); set_add(own, 127); break;
	case 'd': set_add_range(own, '0', '9'); break;
	case 'g': set_add_range(own, '!', '~'); break;
	case 'l': set_add_range(own, 'a', 'z'); break;
	case 'p': set_add_punctuation(own); break;
	case 's': set_add_range(own, '\t', '\r'); set_add(own, ' '); break;
	case 'u': set_add_range(own, 'A', 'Z'); break;
	case 'w': set_add_range(own, 'a', 'z'); set_add_range(own, 'A', 'Z');
		set_add_range(own, '0', '9'); break;
	case 'x': set_add_range(own, '0', '9'); set_add_range(own, 'a', 'f');
		set_add_range(own, 'A', 'F'); break;
	default: return false;
	}
	if (upper)
		set_invert(own);
	for (i = 0; i < 8; i++)
		set[i] |= own[i];
	return true;
}

/* ---- compiling ---- */

struct source {
	const unsigned char *p, *end;
	struct hp_pattern *out;
	uint8_t open[HP_PATTERN_CAPTURES_MAX]; /* stack of captures not yet closed */
	int n_open;
	bool closed[HP_PATTERN_CAPTURES_MAX];
};

/* After the '[': members up to the ']', which is a member when it comes first. */
static const char *compile_set(struct source *src, uint32_t *set)
{
	bool not = src->p < src->end && *src->p == '^';
	bool first = true;

	if (not)
		src->p++;
	for (;; first = false) {
		unsigned char c;

		if (src->p == src->end)
			return "malformed pattern (missing ']')";
		c = *src->p++;
		if (c == ']' && !first)
			break;
		if (c == '%') {
			if (src->p == src->end)
				return "malformed pattern (missing ']')";
			c = *src->p++;
			if (!set_add_class(set, c))
				set_add(set, c);
		} else if (src->end - src->p >= 2 && src->p[0] == '-' && src->p[1] != ']') {
			if (src->p[1] == '%') /* the manual leaves it undefined */
				return "malformed pattern (a range cannot end with a class)";
			set_add_range(set, c, src->p[1]);
			src->p += 2;
		} else {
			set_add(set, c);
		}
	}
	if (not)
		set_invert(set);
	return NULL;
}

static const char *compile_capture(struct source *src, struct hp_pattern_item *it, bool opens)
{
	struct hp_pattern *out = src->out;

	if (!opens) {
		if (!src->n_open)
			return "invalid pattern capture: ')' without '('";
		it->kind = CLOSE;
		it->a = src->open[--src->n_open];
		src->closed[it->a] = true;
		return NULL;
	}
	if (out->n_captures == HP_PATTERN_CAPTURES_MAX)
		return "too many captures (at most 32)";
	it->a = (uint8_t)out->n_captures++;
	if (src->p < src->end && *src->p == ')') {
		src->p++;
		it->kind = POSITION;
		src->closed[it->a] = true;
		return NULL;
	}
	it->kind = OPEN;
	src->open[src->n_open++] = it->a;
	return NULL;
}

/* After a '%'. *single: a set that may be repeated. */
static const char *compile_escape(struct source *src, struct hp_pattern_item *it, bool *single)
{
	unsigned char c;

	if (src->p == src->end)
		return "malformed pattern (ends with '%')";
	c = *src->p++;
	if (c == 'b') {
		if (src->end - src->p < 2)
			return "malformed pattern (missing arguments to '%b')";
		it->kind = BALANCE;
		it->a = *src->p++;
		it->b = *src->p++;
		return NULL;
	}
	if (c == 'f') {
		if (src->p == src->end || *src->p != '[')
			return "missing '[' after '%f' in pattern";
		src->p++;
		it->kind = FRONTIER;
		return compile_set(src, it->set);
	}
	if (c >= '0' && c <= '9') {
		int which = c - '1';

		if (which < 0 || which >= src->out->n_captures || !src->closed[which])
			return "invalid capture index in pattern: no such closed capture";
		it->kind = SAME_AS;
		it->a = (uint8_t)which;
		return NULL;
	}
	*single = true;
	if (!set_add_class(it->set, c))
		set_add(it->set, c);
	return NULL;
}

static const char *compile_item(struct source *src, struct hp_pattern_item *it)
{
	unsigned char c = *src->p++;
	bool single = false;
	const char *wrong = NULL;

	if (c == '(' || c == ')')
		return compile_capture(src, it, c == '(');
	if (c == '$' && src->p == src->end) {
		it->kind = END_OF_TEXT;
		return NULL;
	}
	if (c == '%') {
		wrong = compile_escape(src, it, &single);
	} else {
		single = true;
		if (c == '[')
			wrong = compile_set(src, it->set);
		else if (c == '.')
			set_invert(it->set);
		else
			set_add(it->set, c);
	}
	if (!wrong && single && src->p < src->end && memchr("*+-?", *src->p, 4))
		it->repeat = *src->p++;
	return wrong;
}

const char *hp_pattern_compile(struct hp_pattern *p, const char *text, size_t n, bool caret)
{
	struct source src = {.out = p};
	const char *wrong;

	src.p = (const unsigned char *)text;
	src.end = src.p + n;
	p->n_items = p->n_captures = 0;
	p->anchored = caret && n && text[0] == '^';
	if (p->anchored)
		src.p++;
	while (src.p < src.end) {
		struct hp_pattern_item *it = &p->items[p->n_items];

		if (p->n_items == HP_PATTERN_ITEMS_MAX)
			return "pattern too long (at most 200 items)";
		*it = (struct hp_pattern_item){.kind = SET};
		wrong = compile_item(&src, it);
		if (wrong)
			return wrong;
		p->n_items++;
	}
	if (src.n_open)
		return "unfinished capture: '(' without ')'";
	p->items[p->n_items] = (struct hp_pattern_item){.kind = DONE};
	return NULL;
}

/* ---- matching ---- */

#define NO SIZE_MAX

struct matcher {
	const struct hp_pattern *p;
	const unsigned char *s;
	size_t n;
	uint64_t steps;
	bool exhausted;
	struct hp_pattern_match *m;
};

static bool step(struct matcher *x)
{
	if (x->steps == 0) {
		x->exhausted = true;
		return false;
	}
	x->steps--;
	return true;
}

static bool one(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	return step(x) && at < x->n && set_has(it->set, x->s[at]);
}

static size_t match_from(struct matcher *x, const struct hp_pattern_item *it, size_t at);

static size_t match_longest(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	size_t least = it->repeat == '+', count = 0, end;

	while (one(x, it, at + count))
		count++;
	for (;;) {
		if (count < least || x->exhausted)
			return NO;
		end = match_from(x, it + 1, at + count);
		if (end != NO || count == 0)
			return end;
		count--;
	}
}

static size_t match_shortest(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	for (;; at++) {
		size_t end = match_from(x, it + 1, at);

		if (end != NO || !one(x, it, at))
			return end;
	}
}

static size_t match_balance(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	size_t depth = 0;

	if (at >= x->n || x->s[at] != it->a)
		return NO;
	for (; at < x->n && step(x); at++) {
		/* the closing byte first: in %bxx the second x closes */
		if (depth && x->s[at] == it->b) {
			if (--depth == 0)
				return at + 1;
		} else if (x->s[at] == it->a) {
			depth++;
		}
	}
	return NO;
}

static size_t match_same(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	size_t from = x->m->capture[it->a].at, n = x->m->capture[it->a].n;

	if (n == HP_PATTERN_POSITION || n > x->n - at)
		return NO;
	if (x->steps < n) {
		x->exhausted = true;
		return NO;
	}
	x->steps -= n;
	return memcmp(x->s + from, x->s + at, n) ? NO : at + n;
}

static bool at_frontier(const struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	unsigned char before = at ? x->s[at - 1] : '\0';
	unsigned char here = at < x->n ? x->s[at] : '\0';

	return !set_has(it->set, before) && set_has(it->set, here);
}

/* Marks that take no bytes. */
static bool match_mark(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	switch ((enum kind)it->kind) {
	case OPEN:
		x->m->capture[it->a].at = at;
		return true;
	case CLOSE:
		x->m->capture[it->a].n = at - x->m->capture[it->a].at;
		return true;
	case POSITION:
		x->m->capture[it->a].at = at;
		x->m->capture[it->a].n = HP_PATTERN_POSITION;
		return true;
	case FRONTIER:
		return at_frontier(x, it, at);
	case END_OF_TEXT:
		return at == x->n;
	default:
		return false;
	}
}

/* Where the match of the items from `it` on ends, or NO. */
static size_t match_from(struct matcher *x, const struct hp_pattern_item *it, size_t at)
{
	for (;; it++) {
		if (!step(x))
			return NO;
		if (it->kind == DONE)
			return at;
		if (it->kind == BALANCE || it->kind == SAME_AS) {
			at = it->kind == BALANCE ? match_balance(x, it, at) : match_same(x, it, at);
			if (at == NO)
				return NO;
		} else if (it->kind != SET) {
			if (!match_mark(x, it, at))
				return NO;
		} else if (it->repeat == '*' || it->repeat == '+') {
			return match_longest(x, it, at);
		} else if (it->repeat == '-') {
			return match_shortest(x, it, at);
		} else if (one(x, it, at)) {
			size_t end = it->repeat ? match_from(x, it + 1, at + 1) : NO;

			if (end != NO)
				return end;
			if (!it->repeat)
				at++;
		} else if (!it->repeat) {
			return NO;
		}
	}
}

enum hp_pattern_result hp_pattern_find(const struct hp_pattern *p, const char *s, size_t n, size_t from,
				       uint64_t *steps, struct hp_pattern_match *m)
{
	struct matcher x = {.p = p, .s = (const unsigned char *)s, .n = n, .steps = *steps, .m = m};
	enum hp_pattern_result result = HP_PATTERN_NONE;
	size_t at, end;

	for (at = from; at <= n && !x.exhausted; at++) {
		end = match_from(&x, p->items, at);
		if (end != NO) {
			m->start = at;
			m->end = end;
			result = HP_PATTERN_FOUND;
			break;
		}
		if (p->anchored)
			break;
	}
	*steps = x.steps;
	return x.exhausted ? HP_PATTERN_TOO_LONG : result;
}
