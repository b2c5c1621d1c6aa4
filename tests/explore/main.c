/* main.c: explore_core [--full] [--world NAME] [--jobs N] [--heal N] [--seconds N]
 *         [--states N] [--list]
 *
 * Without --full the small worlds, as part of `make test`. --states: fewer than so many are a
 * failure; that they took more than TARGET_SECONDS is said and fails nothing, as others may be
 * using the machine. One process per core, each takes the next world when it has done one. Exit code 1 when something that must
 * hold does not; the trace says how to get there.
 */
#include "explore.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORLDS_MAX 64
#define TARGET_SECONDS 120 /* for the states of --states, on two cores */

struct shared {
	atomic_int next;
	struct x_figures of[WORLDS_MAX];
	bool done[WORLDS_MAX];
};

static int chosen[WORLDS_MAX], n_chosen;
static struct x_limits limits = { .heal_every = 64 };

static void varies(const struct x_world *w)
{
	bool first = true;

	printf("      %s: %d engine%s, %d run%s", w->says, w->engines, w->engines == 1 ? "" : "s", w->runs, w->runs == 1 ? "" : "s");
	for (int b = 0; b < B__COUNT; b++) {
		if (w->budget[b] == 0)
			continue;
		printf("%s%d %s", first ? "; up to " : ", ", w->budget[b], x_budget_names[b]);
		first = false;
	}
	printf("\n");
}

static void list(void)
{
	for (int i = 0; i < x_n_worlds; i++) {
		printf("%s%s\n", x_worlds[i].name, x_worlds[i].small ? " (make test)" : "");
		varies(&x_worlds[i]);
	}
}

static void line(const struct x_world *w, const struct x_figures *f, bool done)
{
	printf("%-14s %10llu %11llu %9llu %6d %8llu %7.1f  %s\n", w->name, (unsigned long long)f->states,
	       (unsigned long long)f->transitions, (unsigned long long)f->leaves, f->depth, (unsigned long long)f->heals,
	       f->seconds, f->wrong ? "WRONG" : !done ? "DIED" : f->complete ? "" : "(cut)");
	varies(w);
	fflush(stdout);
}

static void work(struct shared *sh)
{
	for (;;) {
		int i = atomic_fetch_add(&sh->next, 1);

		if (i >= n_chosen)
			return;
		x_explore(&x_worlds[chosen[i]], &limits, &sh->of[i]);
		sh->done[i] = true;
		line(&x_worlds[chosen[i]], &sh->of[i], true);
	}
}

/* target: so many states must be reached; 0: no matter. */
static int report(const struct shared *sh, double seconds, int jobs, uint64_t target)
{
	struct x_figures all = { .complete = true };
	int wrong = 0;

	for (int i = 0; i < n_chosen; i++) {
		const struct x_figures *f = &sh->of[i];

		wrong += f->wrong || !sh->done[i];
		if (!sh->done[i])
			line(&x_worlds[chosen[i]], f, false);
		all.states += f->states;
		all.transitions += f->transitions;
		all.leaves += f->leaves;
		all.heals += f->heals;
		all.seconds += f->seconds;
	}
	printf("%-14s %10llu %11llu %9llu %6s %8llu %7.1f\n", "all", (unsigned long long)all.states,
	       (unsigned long long)all.transitions, (unsigned long long)all.leaves, "", (unsigned long long)all.heals, all.seconds);
	printf("%.1f s on %d cores, %.0f states/s of CPU time; each state checked for invariants 2 to 4, 6 to 12, 14 to 16, keys\n",
	       seconds, jobs, all.seconds > 0 ? (double)all.states / all.seconds : 0.);
	for (int i = 0; i < n_chosen; i++)
		if (sh->of[i].wrong)
			printf("\n%s", sh->of[i].trace);
	if (all.states < target) {
		printf("missed: %llu states instead of %llu\n", (unsigned long long)all.states, (unsigned long long)target);
		wrong++;
	}
	if (target > 0)
		printf("%s: %.1f s by the clock, %d s are the target\n", seconds > TARGET_SECONDS ? "missed" : "in time", seconds, TARGET_SECONDS);
	printf("%d%%: Checks: %d, Failures: %d, Errors: 0\n", (n_chosen - wrong) * 100 / (n_chosen ? n_chosen : 1), n_chosen, wrong);
	return wrong || n_chosen == 0;
}

static void choose(const char *name, bool full)
{
	HP_ASSERT(x_n_worlds <= WORLDS_MAX);
	for (int i = 0; i < x_n_worlds; i++)
		if (name ? strcmp(name, x_worlds[i].name) == 0 : x_worlds[i].small != full)
			chosen[n_chosen++] = i;
}

static int number(const char *s)
{
	return s ? (int)strtol(s, NULL, 10) : 0;
}

int main(int argc, char **argv)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	int jobs = cores < 2 ? 1 : 2;
	struct timespec began, ended;
	const char *name = NULL;
	struct shared *sh;
	uint64_t target = 0;
	bool full = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--full") == 0)
			full = true;
		else if (strcmp(argv[i], "--world") == 0)
			name = argv[++i];
		else if (strcmp(argv[i], "--jobs") == 0)
			jobs = number(argv[++i]);
		else if (strcmp(argv[i], "--heal") == 0)
			limits.heal_every = number(argv[++i]);
		else if (strcmp(argv[i], "--seconds") == 0)
			limits.seconds = number(argv[++i]);
		else if (strcmp(argv[i], "--states") == 0)
			target = (uint64_t)number(argv[++i]);
		else if (strcmp(argv[i], "--list") == 0)
			return list(), 0;
		else
			return fprintf(stderr, "explore_core [--full] [--world NAME] [--jobs N] [--heal N] [--seconds N] [--states N] [--list]\n"), 2;
	}
	choose(name, full);
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	HP_ASSERT(sh != MAP_FAILED);
	clock_gettime(CLOCK_MONOTONIC, &began);
	printf("%-14s %10s %11s %9s %6s %8s %7s\n", "world", "states", "transitions", "at rest", "depth", "healed", "cpu s");
	fflush(stdout);
	for (int k = 0; k < jobs; k++) /* an assertion that fails is a world that died, not the end of all */
		if (fork() == 0) {
			work(sh);
			_exit(0);
		}
	while (wait(NULL) > 0)
		continue;
	clock_gettime(CLOCK_MONOTONIC, &ended);
	return report(sh, (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9, jobs, target);
}
