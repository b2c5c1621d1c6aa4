/* arena.h: memory with a named lifetime (one request, one step, one turn).
 *
 * Allocate freely, free everything at once. An arena has a maximum; past it
 * allocations return NULL. Not thread-safe.
 */
#ifndef HP_BASE_ARENA_H
#define HP_BASE_ARENA_H

#include <stdarg.h>
#include <stddef.h>
#include "base/error.h"

struct hp_arena;

struct hp_arena *hp_arena_new(size_t max_bytes); /* NULL: no memory */
void hp_arena_free(struct hp_arena *a);          /* NULL is fine */
void hp_arena_reset(struct hp_arena *a);         /* keeps the first block */
size_t hp_arena_used(const struct hp_arena *a);

void *hp_arena_alloc(struct hp_arena *a, size_t n);            /* zeroed, 16-aligned */
char *hp_arena_strdup(struct hp_arena *a, const char *s);      /* NULL in, NULL out */
char *hp_arena_strndup(struct hp_arena *a, const char *s, size_t n); /* adds the NUL */
char *hp_arena_printf(struct hp_arena *a, const char *fmt, ...) HP_PRINTF(2, 3);
char *hp_arena_vprintf(struct hp_arena *a, const char *fmt, va_list ap) HP_PRINTF(2, 0);

#endif
