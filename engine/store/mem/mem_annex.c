/* mem_annex.c: what few transitions bring, each to the functions of its feature.
 *
 * A new kind is one row in `kinds`. The same as migrations/holdpoint/0009_annexes.sql.
 */
#include <string.h>

#include "store/mem/mem_private.h"

struct kind {
	const char *name;
	/* The document is what the feature expects: else the transition is refused. */
	int (*check)(const struct mem_store *m, const struct hp_transition *t, const json_t *doc, struct hp_error *err);
	void (*put)(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
	/* What a claim must know; NULL: nothing. Owner: caller. */
	json_t *(*found)(const struct mem_store *m, const struct mem_run *r);
};

static void put_turn(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	(void)t;
	(void)doc;
	mem_leave_starts(m, r->row.id, "turn");
}

/* Read by the gate already: mem_budget.c. */
static void put_limits(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	(void)m;
	(void)r;
	(void)t;
	(void)doc;
}

static const struct kind kinds[] = {
	{ "limits", NULL, put_limits, NULL },
	{ "turn", NULL, put_turn, NULL },
	{ "arms", NULL, mem_arms_put, mem_arms_found },
	{ "secrets", NULL, mem_secret_annex, NULL }, /* mem_commit.c has it checked */
	{ "undo", mem_undo_check, mem_undo_put, mem_undo_found },
	{ "sweep", mem_sweep_check, mem_sweep_put, mem_sweep_found },
	{ "sweep_row", NULL, mem_sweep_put_row, NULL },
	{ "sweep_failure", NULL, mem_sweep_put_failure, NULL },
	{ "children", mem_children_check, mem_children_put, mem_children_found },
	{ NULL, NULL, NULL, NULL }, /* ends the list */
};

static const struct kind *kind_of(const char *name)
{
	const struct kind *k = kinds;

	while (k->name && strcmp(k->name, name) != 0)
		k++;
	return k->name ? k : NULL;
}

int mem_annex_check(const struct mem_store *m, const struct hp_transition *t, struct hp_error *err)
{
	int rc = 0;

	for (int i = 0; i < t->n_annexes && rc == 0; i++) {
		const struct hp_annex *x = &t->annexes[i];
		const struct kind *k = kind_of(x->kind);
		json_t *doc;

		if (!k)
			return hp_fail(err, HP_E_INVALID, "run %lld brings an annex \"%s\", which nobody reads",
				       (long long)t->run_id, x->kind);
		doc = hp_json_parse(x->doc.p, x->doc.n, x->kind, err);
		rc = doc ? 0 : -1;
		if (doc && k->check)
			rc = k->check(m, t, doc, err);
		json_decref(doc);
	}
	return rc;
}

void mem_annex_put(struct mem_store *m, const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++) {
		const struct hp_annex *x = &t->annexes[i];
		json_t *doc = hp_json_parse(x->doc.p, x->doc.n, x->kind, NULL);

		HP_ASSERT(doc && "no memory left"); /* it was read before */
		/* it may have added runs, and the table of runs may be elsewhere now */
		kind_of(x->kind)->put(m, mem_run_find(&m->w, t->run_id), t, doc);
		json_decref(doc);
	}
}

void mem_annex_found(struct mem_store *m, struct mem_answer *an, const struct mem_run *r,
		     struct hp_bytes *out)
{
	json_t *all = NULL;
	struct hp_buf text;

	*out = (struct hp_bytes){ NULL, 0 };
	for (const struct kind *k = kinds; k->name; k++) {
		json_t *one = k->found ? k->found(m, r) : NULL;

		if (one && !all)
			all = json_object();
		if (one)
			json_object_set_new(all, k->name, one);
	}
	if (!all)
		return;
	hp_buf_init(&text, HP_RUN_DATA_MAX);
	if (hp_json_write(&text, all, NULL) == 0)
		*out = mem_keep(an, hp_buf_bytes(&text));
	hp_buf_free(&text);
	json_decref(all);
}
