/* scratch.h: a private PostgreSQL in a temporary directory, for tests: started, waited
 * for, and thrown away with all that is in it. Nothing is made durable. It ends when this
 * process does, in whatever way; only then may its directory be left behind. */
#ifndef HP_RUNTIME_SCRATCH_H
#define HP_RUNTIME_SCRATCH_H

#include <stdbool.h>
#include "base/error.h"

struct hp_scratch;

/* Blocks until it answers. stop: set by a signal: give up. */
struct hp_scratch *hp_scratch_start(const volatile bool *stop, struct hp_error *err);
/* Of its superuser; lives as long as s. */
const char *hp_scratch_conninfo(const struct hp_scratch *s);
void hp_scratch_end(struct hp_scratch *s); /* NULL is fine */

#endif
