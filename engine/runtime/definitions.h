/* definitions.h: loaded definitions by digest, one Lua state each.
 *
 * A definition is immutable, so a digest is loaded at most once while it is
 * in use; unused ones stay until HP_DEFINITIONS_MAX is reached, the longest
 * unused goes first. A digest that could not be loaded is remembered with its
 * error for HP_DEFINITION_RETRY, so that many runs cost one attempt.
 */
#ifndef HP_RUNTIME_DEFINITIONS_H
#define HP_RUNTIME_DEFINITIONS_H

#include <stdint.h>
#include "base/clock.h"
#include "base/error.h"
#include "script/script.h"
#include "store/store.h"

#define HP_DEFINITIONS_MAX 128
#define HP_DEFINITION_RETRY (2 * HP_SECOND)

struct hp_definitions;
struct hp_loaded; /* one loaded definition with its count of users */

struct hp_definitions *hp_definitions_new(struct hp_store *store, struct hp_error *err);
/* No load may be under way (the store is drained or freed) and no user left. */
void hp_definitions_free(struct hp_definitions *d);

/* loaded: the caller is a user of it until hp_loaded_drop(). NULL with err. */
typedef void (*hp_loaded_cb)(void *arg, struct hp_loaded *loaded, const struct hp_error *err);
/* The callback may come from inside the call (when it is known already). */
void hp_definitions_get(struct hp_definitions *d, const uint8_t digest[HP_SHA256_LEN],
			hp_loaded_cb cb, void *arg);
/* Only if it is there already; NULL otherwise. A user, like above. */
struct hp_loaded *hp_definitions_find(struct hp_definitions *d, const uint8_t digest[HP_SHA256_LEN]);
void hp_loaded_drop(struct hp_loaded *l); /* NULL is fine */
/* Attempts to load it that failed, one after the other; answers that never came
 * (the database was away) do not count. */
int hp_definitions_failures(struct hp_definitions *d, const uint8_t digest[HP_SHA256_LEN]);
struct hp_workflow *hp_loaded_workflow(const struct hp_loaded *l);

#endif
