/* stores.c: sequences of operations on both stores. After each one the answers and the
 * worlds are equal; if not, the sequence is made shorter while they still differ, and
 * printed. In the environment: OPS, how many operations, and TIME, for how many seconds
 * (the longer counts; `make differential`); without either, three known sequences (the
 * short form, in `make test`, which must not depend on chance). HP_SEED is the first one's
 * seed. The long form also fails when what tests/differential/reached.txt lists, "operation:
 * outcome" a line, was not reached: a generator that no longer gets there proves nothing. */
#include "diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEQUENCE = 250, CELLS = 600, SHRINKS = 160, LONG = 20000 /* operations that reach everything */ };

static struct cell {
	char op[64], outcome[48];
	long n;
} cells[CELLS];
static int n_cells;
static long operations, sequences;
static bool counting = true;

static void count(const char *op, const char *outcome)
{
	int i = 0;

	if (!counting)
		return;
	while (i < n_cells && (strcmp(cells[i].op, op) != 0 || strcmp(cells[i].outcome, outcome) != 0))
		i++;
	d_need(i < CELLS, "cells", "there are too many");
	if (i == n_cells) {
		snprintf(cells[i].op, sizeof cells[i].op, "%s", op);
		snprintf(cells[i].outcome, sizeof cells[i].outcome, "%s", outcome);
		n_cells++;
	}
	cells[i].n++;
}

/* ---- one sequence ---- */

struct sequence {
	uint64_t flows;
	int n;
	uint64_t ops[SEQUENCE];
};

static void begin(const struct sequence *s)
{
	for (int i = 0; i < D_HANDS; i++)
		d_hand_drop(&d_hands[i]);
	d_free_flows();
	d_forget_engines();
	d_reset();
	d_seed(s->flows);
	d_draw_flows();
	for (int i = 0; i < d_n_flows; i += 1 + (i > 0))
		d_deploy(&d_flows[i]);
	for (int e = 0; e < 2; e++) {
		for (int i = 0; i < 2; i++) {
			d_store(i)->ops->engine_register(d_store(i), "host", 1, D_LEASE, d_on_engine, d_begin(i));
			d_await(i);
		}
		d_add_engine(hp_json_int(d_answers[D_PG].v, "id", 0));
	}
}

/* NULL: equal to its end. verbose: says each operation. *at: which one made the difference. */
static const char *play(const struct sequence *s, bool verbose, int *at)
{
	const char *differs;

	begin(s);
	differs = d_difference();
	*at = -1;
	for (int i = 0; i < s->n && !differs; i++) {
		d_operate(s->ops[i]);
		count(d_told.op, d_outcome());
		operations += counting;
		differs = d_difference();
		*at = i;
		if (verbose)
			printf("  %3d %s%s%s%s\n", i + 1, d_told.words, strcmp(d_outcome(), "ok") ? " → " : "",
			       strcmp(d_outcome(), "ok") ? d_outcome() : "", d_answers[D_PG].error[0] ? d_answers[D_PG].error : "");
	}
	return differs;
}

static void without(const struct sequence *s, int from, int n, struct sequence *out)
{
	*out = *s;
	memmove(out->ops + from, out->ops + from + n, (size_t)(s->n - from - n) * sizeof *s->ops);
	out->n = s->n - n;
}

/* Leaves out what is not needed for a difference: big pieces first. */
static void shrink(struct sequence *s)
{
	struct sequence less;
	int tries = 0, at;

	for (int piece = s->n / 2; piece > 0; piece /= 2)
		for (int from = s->n - piece; from >= 0 && tries < SHRINKS; from -= piece) {
			if (from + piece > s->n)
				continue;
			without(s, from, piece, &less);
			tries++;
			if (play(&less, false, &at)) {
				*s = less;
				s->n = at + 1;
			}
		}
}

static bool run(uint64_t seed)
{
	struct sequence s = { .flows = seed, .n = SEQUENCE };
	int at;

	for (int i = 0; i < SEQUENCE; i++)
		s.ops[i] = seed * 1000003u + (uint64_t)i * 7919u + 17u;
	sequences++;
	if (!play(&s, false, &at))
		return true;
	printf("differ at operation %d of the sequence HP_SEED=%llu; made shorter:\n", at + 1, (unsigned long long)seed);
	counting = false;
	s.n = at + 1;
	if (!getenv("HP_NO_SHRINK"))
		shrink(&s);
	printf("%s", play(&s, true, &at) ? "" : "  (and now they do not differ: the test itself is not deterministic)\n");
	printf("%s", d_difference() ? d_difference() : "");
	fflush(stdout);
	counting = true;
	return false;
}

/* ---- what was covered ---- */

static int by_name(const void *a, const void *b)
{
	const struct cell *x = a, *y = b;
	int c = strcmp(x->op, y->op);

	return c ? c : strcmp(x->outcome, y->outcome);
}

static void print_cells(void)
{
	const char *last = "";

	qsort(cells, (size_t)n_cells, sizeof *cells, by_name);
	for (int i = 0; i < n_cells; i++) {
		if (strcmp(last, cells[i].op) != 0)
			printf("%s  %-32s", i ? "\n" : "", cells[i].op);
		last = cells[i].op;
		printf(" %s %ld,", cells[i].outcome, cells[i].n);
	}
	printf("\n");
}

static bool reached(const char *op, const char *outcome)
{
	for (int i = 0; i < n_cells; i++)
		if (strcmp(cells[i].op, op) == 0 && strcmp(cells[i].outcome, outcome) == 0)
			return true;
	return false;
}

/* How many of the list were not. */
static int print_unreached(void)
{
	FILE *f = fopen("tests/differential/reached.txt", "r");
	char line[160];
	int n = 0, listed = 0;

	d_need(f != NULL, "tests/differential/reached.txt", "is not there");
	while (fgets(line, sizeof line, f)) {
		char *colon = strstr(line, ": ");

		line[strcspn(line, "\n")] = 0;
		if (line[0] == '#' || !line[0])
			continue;
		d_need(colon != NULL, line, "is not \"operation: outcome\"");
		listed++;
		*colon = 0;
		if (reached(line, colon + 2))
			continue;
		printf("not reached: %s: %s\n", line, colon + 2);
		n++;
	}
	(void)fclose(f);
	d_need(listed > 0, "tests/differential/reached.txt", "lists nothing");
	return n;
}

static long number(const char *name, long fallback)
{
	const char *v = getenv(name);

	return v ? strtol(v, NULL, 10) : fallback;
}

int main(void)
{
	const char *given = getenv("HP_SEED");
	long ops = number("OPS", 0), seconds = number("TIME", 0);
	time_t until = time(NULL) + seconds;
	bool shortly = ops == 0 && seconds == 0 && !given;
	uint64_t seed = given ? strtoull(given, NULL, 10) : shortly ? 1 : (uint64_t)time(NULL);
	int differ = 0, unreached = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	d_open();
	printf("differential: HP_SEED=%llu\n", (unsigned long long)seed);
	do {
		differ += !run(seed + (uint64_t)sequences);
	} while (!differ && (operations < ops || time(NULL) < until || (shortly && sequences < 3)));
	print_cells();
	if (ops >= LONG && !differ)
		unreached = print_unreached();
	printf("differential: %ld operations in %ld sequences, %d cells, %d differ\n", operations, sequences, n_cells, differ);
	printf("%d%%: Checks: %ld, Failures: %d, Errors: 0\n", (int)(100 * (sequences - differ) / (sequences + unreached)), sequences + unreached, differ + unreached);
	for (int i = 0; i < D_HANDS; i++)
		d_hand_drop(&d_hands[i]);
	d_free_flows();
	d_close();
	return differ || unreached ? EXIT_FAILURE : EXIT_SUCCESS;
}
