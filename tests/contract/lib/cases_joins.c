/* Joins against a simple model: families with random rules, sizes, pages and concurrency,
 * whose children end in random order and at random. The seed is printed; HP_SEED repeats. */
#include "contract.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define FAMILIES 40
#define CHILDREN_MAX 12

static uint64_t seed;

static int rnd(int n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (int)((seed >> 33) % (uint64_t)n);
}

struct model {
	struct c_run parent;
	int total, known;            /* in all; those that the parent has named */
	int need, tolerate, percent, at_once;
	int ended[3];                /* succeeded, failed, cancelled */
	struct c_run running[CHILDREN_MAX];
	int n_running, started;
	bool parent_here;
};

enum verdict { UNDECIDED, MET, MISSED };

/* What it comes to, if `good` of all succeed. */
static bool met_with(const struct model *f, int good)
{
	int bad = f->total - good;

	if (f->need > 0)
		return good >= f->need;
	return f->percent >= 0 ? bad * 100 <= f->total * f->percent : bad <= f->tolerate;
}

/* Decided is what no further child can change. The share is of all, so all must be known;
 * and `all` waits for each of them. */
static enum verdict verdict_of(const struct model *f)
{
	int good = f->ended[0], bad = f->ended[1] + f->ended[2];
	int left = f->total - good - bad;
	bool all_known = f->known == f->total;

	if (f->need > 0 && good >= f->need)
		return MET;
	if (f->need == 0 && f->percent < 0 && bad > f->tolerate)
		return MISSED;
	if (all_known && !met_with(f, good + left))
		return MISSED;
	return f->need == 0 && all_known && left == 0 ? MET : UNDECIDED;
}

static bool wants_page(const struct model *f)
{
	int waiting = f->known - f->started;

	return f->known < f->total && waiting < f->at_once;
}

static void name_children(struct model *f, const char *op)
{
	int n = f->total - f->known, at = 0;
	struct hp_transition t;
	char doc[2000];

	if (n > 1 && rnd(2))
		n = 1 + rnd(n);
	at = snprintf(doc, sizeof doc,
		      "{\"op\":\"%s\",\"workflow\":\"other\",\"single\":false,\"need\":%d,\"tolerate\":%d,\"percent\":%d,"
		      "\"concurrency\":%d,\"children\":[", op, f->need, f->tolerate, f->percent, f->at_once);
	for (int i = 0; i < n; i++)
		at += snprintf(doc + at, sizeof doc - (size_t)at, "%s{\"input\":{}}", i ? "," : "");
	f->known += n;
	snprintf(doc + at, sizeof doc - (size_t)at, "],\"cursor\":%d,\"end\":%s}", f->known,
		 f->known == f->total ? "true" : "false");
	c_begin(&t, &f->parent);
	t.move = HP_MOVE_PARKED;
	t.disposition = HP_PARK;
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_JOINING;
	t.annexes[0] = (struct hp_annex){ "children", hp_bytes_of(doc) };
	t.n_annexes = 1;
	c_commit_ok(&f->parent, &t);
	f->parent_here = false;
}

static void take(struct model *f)
{
	struct c_run got[CHILDREN_MAX + 1];
	int n = c_claim(c_engine, CHILDREN_MAX + 1, got);

	ck_assert_int_ge(n, 0);
	for (int i = 0; i < n; i++) {
		if (got[i].row.id == f->parent.row.id) {
			f->parent = got[i];
			f->parent_here = true;
			continue;
		}
		ck_assert_str_eq(got[i].workflow, "other");
		f->running[f->n_running++] = got[i];
		f->started++;
	}
	ck_assert_int_le(f->n_running, f->at_once);
}

static void end_one(struct model *f)
{
	static const enum hp_status how[] = { HP_SUCCEEDED, HP_FAILED, HP_CANCELLED };
	int i = rnd(f->n_running), as = rnd(4);
	struct hp_transition t;

	as = as == 3 ? 0 : as;
	c_begin(&t, &f->running[i]);
	c_finish(&t, how[as]);
	c_commit_ok(&f->running[i], &t);
	f->ended[as]++;
	f->running[i] = f->running[--f->n_running];
}

/* The parent sees what the model says, and sleeps while there is nothing to see. */
static bool compare(struct model *f)
{
	enum verdict v = verdict_of(f);
	json_t *annex, *seen;

	ck_assert_msg(f->parent_here == (v != UNDECIDED || wants_page(f)), "the parent %s: known %d of %d, ended %d %d %d",
		      f->parent_here ? "was woken for nothing" : "sleeps on", f->known, f->total, f->ended[0], f->ended[1],
		      f->ended[2]);
	if (!f->parent_here)
		return false;
	annex = hp_json_parse(f->parent.annex, strlen(f->parent.annex), "annex", NULL);
	seen = json_object_get(annex, "children");
	ck_assert_int_eq(hp_json_int(seen, "outcome", -1), (int)v);
	ck_assert_int_eq(hp_json_int(seen, "succeeded", -1), f->ended[0]);
	ck_assert_int_eq(hp_json_int(seen, "failed", -1), f->ended[1]);
	ck_assert_int_eq(hp_json_int(seen, "cancelled", -1), f->ended[2]);
	ck_assert_int_eq(hp_json_int(seen, "running", -1), f->n_running);
	ck_assert_int_eq(hp_json_int(seen, "total", -1), f->known);
	json_decref(annex);
	return v != UNDECIDED;
}

/* Whatever is left of it ends, so that the next family has the world to itself. */
static void clear(struct model *f)
{
	struct hp_transition t;

	c_begin(&t, &f->parent);
	c_finish(&t, HP_FAILED);
	t.annexes[0] = (struct hp_annex){ "children", hp_bytes_of("{\"op\":\"close\"}") };
	t.n_annexes = 1;
	c_commit_ok(&f->parent, &t);
	while (f->n_running > 0)
		end_one(f);
	c_claim_none();
}

static void one_family(void)
{
	struct model f = { .total = rnd(CHILDREN_MAX + 1), .at_once = 1 + rnd(4), .percent = -1 };

	switch (rnd(3)) {
	case 0:
		f.tolerate = rnd(3);
		break;
	case 1:
		f.percent = rnd(60);
		break;
	default:
		f.need = 1 + rnd(4);
	}
	f.parent = c_own();
	name_children(&f, "open");
	for (;;) {
		take(&f);
		if (compare(&f))
			break;
		if (f.parent_here)
			name_children(&f, "page");
		else
			end_one(&f);
	}
	clear(&f);
}

START_TEST(families_decide_as_the_model_does)
{
	const char *given = getenv("HP_SEED");

	seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
	printf("joins: HP_SEED=%llu\n", (unsigned long long)seed);
	(void)fflush(stdout);
	for (int i = 0; i < FAMILIES; i++)
		one_family();
}
END_TEST

TCase *contract_joins(void)
{
	TCase *tc = tcase_create("joins");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, families_decide_as_the_model_does);
	return tc;
}
