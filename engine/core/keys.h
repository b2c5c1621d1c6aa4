/* keys.h: deterministic names and numbers derived by hashing. Pure. */
#ifndef HP_CORE_KEYS_H
#define HP_CORE_KEYS_H

#include <stdint.h>
#include "base/digest.h"
#include "core/definition.h"

#define HP_EFFECT_KEY_LEN 48 /* "hp_" + 40 hex digits + NUL, rounded up */

/* key = H(installation, run, state, visit, effect index): never attempt, epoch
 * or time, so it is the same after every crash. */
void hp_effect_key(const char *installation, int64_t run, const char *state, int32_t visit, int index,
		   char out[HP_EFFECT_KEY_LEN]);

/* Exponential backoff with full jitter (Brooker, "Exponential Backoff And
 * Jitter", AWS Architecture Blog 2015): uniform in (0, min(cap, base·2^(n-1))],
 * where the draw is H(run, visit, attempt). The provider's advice is a floor. */
int64_t hp_backoff(const struct hp_retry *r, int64_t run, int32_t visit, int32_t failures,
		   int64_t retry_after_us);

#endif
