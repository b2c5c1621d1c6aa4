/* worker_retention.c: removes what has ended long enough ago, a step at a time.
 *
 * No engine leads: each asks the store, after some of its heartbeats, for the next
 * step of the work and goes on while there is more, for a moment. Where the work
 * stands is the store's; so an engine that dies in the middle is missed by nobody.
 */
#include "runtime/worker_private.h"

#include <string.h>
#include "base/json.h"

#define RETENTION_POLL HP_MINUTE /* when there was nothing to do */
#define STEPS_AT_ONCE 20         /* then the others' questions come first */

static void ask(struct hp_worker *w);

static void on_step(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_worker *w = arg;
	json_t *answer;
	const char *step;
	bool more, again;

	w->retention.asking = false;
	if (hp_w_closed(w))
		return;
	if (err && err->code == HP_E_NOT_FOUND) { /* a store that keeps everything */
		w->retention.at = INT64_MAX;
		return;
	}
	if (err)
		hp_log_error(HP_WARN, "what is over could not be removed", err);
	answer = err ? NULL : hp_json_parse(json.p, json.n, "gc", NULL);
	step = hp_json_str(answer, "step");
	more = hp_json_bool(answer, "more", 0);
	*w->n_removed += (uint64_t)hp_json_int(answer, "removed", 0);
	/* a swap that found no quiet moment waits for the next heartbeat: each try holds up commits */
	again = more && strcmp(step ? step : "", "swap") != 0 && ++w->retention.steps < STEPS_AT_ONCE;
	json_decref(answer);
	HP_CRASH_POINT(GC_STEPPED);
	if (again && w->life == HP_LIFE_WORKING)
		ask(w);
	else
		w->retention.at = hp_w_boot(w) + (more ? 0 : RETENTION_POLL);
}

static void ask(struct hp_worker *w)
{
	struct hp_store *s = w->o.store;

	w->retention.asking = true;
	HP_CRASH_POINT(GC_BEFORE);
	s->ops->door(s, "gc", "engine", hp_bytes_of("{}"), on_step, w);
}

void hp_w_retention_look(struct hp_worker *w)
{
	if (w->retention.asking || w->life != HP_LIFE_WORKING || hp_w_boot(w) < w->retention.at)
		return;
	w->retention.steps = 0;
	ask(w);
}
