/* alloc.c: the heap, with a switch that fails the n-th allocation.
 *
 * The counters are per thread: production pays no atomic operation for them,
 * and a test that arms the switch cannot be disturbed by a pool thread.
 */
#include "base/alloc.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local unsigned long count;   /* allocations since fail_at was set */
static _Thread_local unsigned long fail_at; /* 0: never */

static bool must_fail(void)
{
	count++;
	return fail_at != 0 && count == fail_at;
}

void *hp_alloc(size_t n)
{
	if (must_fail())
		return NULL;
	return malloc(n ? n : 1); /* so NULL always means failure */
}

void *hp_calloc(size_t items, size_t n)
{
	if (must_fail())
		return NULL;
	if (n != 0 && items > SIZE_MAX / n)
		return NULL;
	return items * n == 0 ? calloc(1, 1) : calloc(items, n);
}

void *hp_needed(size_t items, size_t n)
{
	void *p = n != 0 && items > SIZE_MAX / n ? NULL : calloc(items ? items : 1, n ? n : 1);

	if (!p) {
		/* stderr is unbuffered: this needs no memory */
		fprintf(stderr, "holdpoint: no memory for what must not fail: the process ends\n");
		abort();
	}
	return p;
}

void *hp_realloc(void *p, size_t n)
{
	if (must_fail())
		return NULL;
	return realloc(p, n ? n : 1);
}

void hp_free(void *p)
{
	free(p);
}

char *hp_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *copy = hp_alloc(n);

	if (copy)
		memcpy(copy, s, n);
	return copy;
}

void hp_alloc_fail_at(unsigned long n)
{
	fail_at = n;
	count = 0;
}

unsigned long hp_alloc_count(void)
{
	return count;
}
