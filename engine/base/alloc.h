/* alloc.h: the one door to the heap.
 *
 * Everything allocates through these, so tests can fail the n-th allocation.
 * They return NULL on failure (never abort); hp_free(NULL) is fine.
 */
#ifndef HP_BASE_ALLOC_H
#define HP_BASE_ALLOC_H

#include <stddef.h>

void *hp_alloc(size_t n);             /* uninitialised */
void *hp_calloc(size_t count, size_t n); /* zeroed, overflow checked */
void *hp_realloc(void *p, size_t n);
void hp_free(void *p);
/* Zeroed, never NULL: for what nobody could be told of (an answer that somebody waits for would
 * not come). Without memory the process says so and ends, and another takes over what it had.
 * The switch of the tests does not fail it. */
void *hp_needed(size_t count, size_t n);
char *hp_strdup(const char *s);

/* Tests: the n-th allocation from now fails (1 = the next one), once.
 * 0 switches it off. hp_alloc_count() counts allocations since the last call
 * of hp_alloc_fail_at(). Not thread-safe, by design of the tests. */
void hp_alloc_fail_at(unsigned long n);
unsigned long hp_alloc_count(void);

#endif
