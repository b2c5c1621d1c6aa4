/* arena.c: a chain of blocks that grow and are freed together.
 *
 * The newest block is at the head. A request that does not fit gets a new
 * block (twice the last one's size, or its own size when larger). The maximum
 * counts what was handed out, so it does not depend on block sizes.
 */
#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"

#define ALIGN 16
#define BLOCK_FIRST ((size_t)4096)
#define BLOCK_LARGEST ((size_t)256 * 1024)

struct block {
	struct block *older;
	size_t cap;
	size_t used;
	_Alignas(ALIGN) unsigned char data[];
};

struct hp_arena {
	struct block *head; /* never NULL: the first block lives as long as the arena */
	size_t max;
	size_t used; /* handed out, rounded to ALIGN */
};

static struct block *block_new(size_t cap, struct block *older)
{
	struct block *b;

	if (cap > SIZE_MAX - sizeof *b)
		return NULL;
	b = hp_alloc(sizeof *b + cap);
	if (!b)
		return NULL;
	b->older = older;
	b->cap = cap;
	b->used = 0;
	return b;
}

struct hp_arena *hp_arena_new(size_t max_bytes)
{
	struct hp_arena *a = hp_calloc(1, sizeof *a);

	if (!a)
		return NULL;
	a->head = block_new(BLOCK_FIRST, NULL);
	if (!a->head) {
		hp_free(a);
		return NULL;
	}
	a->max = max_bytes;
	return a;
}

void hp_arena_reset(struct hp_arena *a)
{
	while (a->head->older) {
		struct block *b = a->head;

		a->head = b->older;
		hp_free(b);
	}
	a->head->used = 0;
	a->used = 0;
}

void hp_arena_free(struct hp_arena *a)
{
	if (!a)
		return;
	hp_arena_reset(a);
	hp_free(a->head);
	hp_free(a);
}

size_t hp_arena_used(const struct hp_arena *a)
{
	return a->used;
}

void *hp_arena_alloc(struct hp_arena *a, size_t n)
{
	struct block *b = a->head;
	size_t size;
	void *p;

	if (n == 0)
		n = 1; /* an empty object still gets an address of its own */
	/* The last object may use the maximum up to its last byte. */
	if (a->used >= a->max || n > a->max - a->used || n > SIZE_MAX - ALIGN)
		return NULL;
	size = (n + ALIGN - 1) / ALIGN * ALIGN;
	if (size > b->cap - b->used) {
		size_t cap = b->cap < BLOCK_LARGEST / 2 ? b->cap * 2 : BLOCK_LARGEST;

		b = block_new(size > cap ? size : cap, a->head);
		if (!b)
			return NULL;
		a->head = b;
	}
	p = b->data + b->used;
	b->used += size;
	a->used += size;
	HP_ASSERT(b->used <= b->cap);
	return memset(p, 0, size);
}

char *hp_arena_strndup(struct hp_arena *a, const char *s, size_t n)
{
	char *copy;

	if (n == SIZE_MAX)
		return NULL;
	copy = hp_arena_alloc(a, n + 1);
	if (copy && n)
		memcpy(copy, s, n);
	return copy;
}

char *hp_arena_strdup(struct hp_arena *a, const char *s)
{
	return s ? hp_arena_strndup(a, s, strlen(s)) : NULL;
}

char *hp_arena_vprintf(struct hp_arena *a, const char *fmt, va_list ap)
{
	va_list again;
	char *s = NULL;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0)
		s = hp_arena_alloc(a, (size_t)n + 1);
	if (s && vsnprintf(s, (size_t)n + 1, fmt, again) != n)
		s = NULL;
	va_end(again);
	return s;
}

char *hp_arena_printf(struct hp_arena *a, const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = hp_arena_vprintf(a, fmt, ap);
	va_end(ap);
	return s;
}
