/* search.c: depth first over every step of every state, each state once.
 *
 * In a state that can only rest, and from every n-th state on by the heal phase (no more
 * faults, no doors but resume), all runs must have ended or wait for a person. What is
 * wrong is searched for again by shorter and shorter ways, so the trace that is printed is
 * the shortest one (or the shortest that was found in 20 s).
 */
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define HEAL_STEPS 2000
#define SHORTEN_SECONDS 20

static struct {
	const struct x_world *w;
	const struct x_limits *limits;
	struct x_figures *f;
	uint64_t *seen;      /* hashes; 0: free */
	uint16_t *at;        /* the least depth each was met at; NULL: not needed */
	size_t cap, used;
	struct x_saved *level[X_DEPTH + 1], *healing;
	struct x_step path[X_DEPTH], best[X_DEPTH];
	int best_n;          /* of a way to what is wrong; 0: none */
	int limit;           /* how deep it goes */
	char wrong[sizeof x_wrong];
	bool stop;
	double until;
} S;

double x_cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6 + (double)u.ru_stime.tv_sec +
	       (double)u.ru_stime.tv_usec / 1e6;
}

/* ---- states that were met ---- */

static size_t place(const uint64_t *seen, size_t cap, uint64_t h)
{
	size_t i = (size_t)(h * UINT64_C(0xD1B54A32D192ED03)) & (cap - 1);

	while (seen[i] && seen[i] != h)
		i = (i + 1) & (cap - 1);
	return i;
}

static void grow(void)
{
	size_t cap = S.cap ? S.cap * 2 : (size_t)1 << 16;
	uint64_t *seen = calloc(cap, sizeof *seen);
	uint16_t *at = S.best_n ? calloc(cap, sizeof *at) : NULL;

	HP_ASSERT(seen && (at || !S.best_n));
	for (size_t i = 0; i < S.cap; i++) {
		size_t k;

		if (!S.seen[i])
			continue;
		k = place(seen, cap, S.seen[i]);
		seen[k] = S.seen[i];
		if (at)
			at[k] = S.at[i];
	}
	free(S.seen);
	free(S.at);
	S.seen = seen;
	S.at = at;
	S.cap = cap;
}

static void forget(void)
{
	free(S.seen);
	free(S.at);
	S.seen = NULL;
	S.at = NULL;
	S.cap = S.used = 0;
	grow();
}

/* true: it is new, or was met only deeper when that matters. */
static bool meet(uint64_t h, int depth)
{
	size_t i;

	if (S.used * 2 >= S.cap)
		grow();
	i = place(S.seen, S.cap, h);
	if (S.seen[i]) {
		if (!S.at || S.at[i] <= depth)
			return false;
		S.at[i] = (uint16_t)depth;
		return true;
	}
	S.seen[i] = h;
	S.used++;
	if (S.at)
		S.at[i] = (uint16_t)depth;
	return true;
}

/* ---- what is wrong ---- */

static void found_wrong(int depth)
{
	if (S.best_n == 0 || depth < S.best_n) {
		memcpy(S.best, S.path, (size_t)depth * sizeof *S.best);
		S.best_n = depth;
		memcpy(S.wrong, x_wrong, sizeof S.wrong);
		S.limit = depth - 1;
	}
	S.stop = S.stop || !S.at;
	x_wrong[0] = 0;
}

/* No more faults: does it come to rest, and well? The state is not restored. */
static bool heal(void)
{
	struct x_step steps[X_STEPS];

	if (!S.healing)
		S.healing = x_saved_new();
	for (int k = 0; k < HEAL_STEPS && !x_wrong[0]; k++) {
		int n = x_enabled(steps), i = 0;

		x_save(S.healing);
		while (i < n && (x_is_fault(steps[i]) || !x_take(steps[i])))
			i++;
		if (i == n) {
			x_check_rest();
			return !x_wrong[0];
		}
		x_check_step(steps[i], S.healing);
		x_check_state();
	}
	if (!x_wrong[0])
		x_fail("after the last fault it does not come to rest in %d steps", HEAL_STEPS);
	return false;
}

static void check_new(int depth, struct x_saved *here)
{
	S.f->states += !S.at;
	x_check_state();
	if (!x_wrong[0] && S.limits->heal_every > 0 && S.used % (size_t)S.limits->heal_every == 0) {
		x_save(here);
		S.f->heals++;
		if (!heal())
			snprintf(x_wrong + strlen(x_wrong), sizeof x_wrong - strlen(x_wrong), " (found by the heal phase after these steps)");
		x_restore(here);
	}
	if (x_wrong[0])
		found_wrong(depth);
	if (S.limits->states && S.f->states >= S.limits->states)
		S.stop = true;
	if ((S.f->transitions & 1023) == 0 && S.until > 0 && x_cpu_seconds() > S.until)
		S.stop = true;
}

static struct x_saved *level(int depth)
{
	if (!S.level[depth])
		S.level[depth] = x_saved_new();
	return S.level[depth];
}

static void descend(int depth)
{
	struct x_step steps[X_STEPS];
	struct x_saved *here = level(depth);
	int n = x_enabled(steps), moves = 0;

	x_save(here);
	if (depth > S.f->depth && !S.at)
		S.f->depth = depth;
	HP_ASSERT(depth < X_DEPTH);
	for (int i = 0; i < n && !S.stop; i++) {
		if (depth >= S.limit)
			return;
		if (i > 0)
			x_restore(here);
		S.path[depth] = steps[i];
		if (!x_take(steps[i]) && !x_wrong[0]) {
			S.f->claims_for_nothing++;
			continue;
		}
		moves += !x_is_fault(steps[i]) && steps[i].kind != S_UNPAUSE;
		S.f->transitions += !S.at;
		if (!x_wrong[0])
			x_check_step(steps[i], here);
		if (x_wrong[0]) {
			found_wrong(depth + 1);
			continue;
		}
		if (!meet(x_hash(), depth + 1)) {
			S.f->again += !S.at;
			continue;
		}
		check_new(depth + 1, level(depth + 1));
		descend(depth + 1);
	}
	if (moves > 0 || S.stop)
		return;
	x_restore(here);
	S.f->leaves += !S.at;
	x_check_rest();
	if (x_wrong[0])
		found_wrong(depth);
}

/* ---- the trace ---- */

static void tell(struct x_figures *f)
{
	size_t n = 0;
	char words[300];

	x_begin(S.w);
	n += (size_t)snprintf(f->trace, sizeof f->trace, "world %s: %s\n", S.w->name, S.wrong);
	for (int i = 0; i < S.best_n && n < sizeof f->trace - 400; i++) {
		x_say(S.best[i], words, sizeof words);
		n += (size_t)snprintf(f->trace + n, sizeof f->trace - n, "%4d  %s\n", i + 1, words);
		(void)x_take(S.best[i]);
	}
	x_end();
}

static void release(void)
{
	for (int i = 0; i <= X_DEPTH; i++)
		if (S.level[i])
			x_saved_free(S.level[i]);
	memset(S.level, 0, sizeof S.level);
	if (S.healing)
		x_saved_free(S.healing);
	S.healing = NULL;
	x_end();
}

static void search(const struct x_world *w)
{
	S.stop = false;
	x_wrong[0] = 0;
	x_begin(w);
	forget();
	meet(x_hash(), 0);
	S.f->states += !S.at;
	x_check_state();
	descend(0);
	release();
}

void x_explore(const struct x_world *w, const struct x_limits *l, struct x_figures *f)
{
	double began = x_cpu_seconds();

	memset(&S, 0, sizeof S);
	memset(f, 0, sizeof *f);
	S.w = w;
	S.limits = l;
	S.f = f;
	S.limit = X_DEPTH - 1;
	S.until = l->seconds > 0 ? began + l->seconds : 0;
	search(w);
	f->complete = !S.stop;
	f->seconds = x_cpu_seconds() - began;
	if (S.best_n > 0) {
		S.until = x_cpu_seconds() + SHORTEN_SECONDS;
		search(w);
		f->wrong = true;
		tell(f);
	}
	free(S.seen);
	free(S.at);
}
