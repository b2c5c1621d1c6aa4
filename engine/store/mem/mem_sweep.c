/* mem_sweep.c: where a sweep stands. The same as migrations/holdpoint/0016_sweeps.sql,
 * but for the rate of late: what is looked at in memory has none worth telling.
 */
#include "store/mem/mem_private.h"

#include <string.h>

/* The annexes of a page belong to the visit that swept it. */
static struct mem_sweep *of_visit(const struct mem_store *m, int64_t run, int32_t visit)
{
	MEM_EACH(&m->w, T_SWEEP, struct mem_sweep, w)
		if (w->run == run && w->visit == visit)
			return w;
	return NULL;
}

int mem_sweep_check(const struct mem_store *m, const struct hp_transition *t, const json_t *doc, struct hp_error *err)
{
	static const char *const figures[] = { "done", "changed", "pages", "failed", "total" };

	(void)m;
	for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
		if (!json_is_integer(json_object_get(doc, figures[i])))
			return hp_fail(err, HP_E_INVALID, "run %lld: a sweep without \"%s\"", (long long)t->run_id,
				       figures[i]);
	return 0;
}

void mem_sweep_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	struct mem_sweep *w = of_visit(m, r->row.id, t->from_visit);

	if (!w) {
		w = mem_add(&m->w, T_SWEEP);
		w->run = r->row.id;
		w->visit = t->from_visit;
		w->state = t->from_state;
		w->started_at = *m->now;
	}
	w->cursor = mem_json_kept(m, json_object_get(doc, "cursor"));
	w->row = (struct hp_bytes){ NULL, 0 };
	w->done = hp_json_int(doc, "done", 0);
	w->changed = hp_json_int(doc, "changed", 0);
	w->pages = hp_json_int(doc, "pages", 0);
	w->failed = hp_json_int(doc, "failed", 0);
	w->total = hp_json_int(doc, "total", -1);
	w->at = *m->now;
	w->ended_at = hp_json_bool(doc, "ended", 0) ? *m->now : 0;
}

void mem_sweep_put_row(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	struct mem_sweep *w = of_visit(m, r->row.id, t->from_visit);

	if (w)
		w->row = mem_json_kept(m, doc);
}

void mem_sweep_put_failure(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	const struct mem_sweep *w = of_visit(m, r->row.id, t->from_visit);
	struct mem_sweep_failure *f;

	if (!w)
		return;
	f = mem_add(&m->w, T_SWEEP_FAILURE);
	f->run = r->row.id;
	f->visit = t->from_visit;
	f->cursor = w->cursor;
	f->error = mem_json_kept(m, doc);
	f->at = *m->now;
}

json_t *mem_sweep_found(const struct mem_store *m, const struct mem_run *r)
{
	const struct mem_sweep *w = of_visit(m, r->row.id, r->row.visit);
	json_t *v;

	if (!w)
		return NULL;
	v = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "cursor", mem_parsed(w->cursor), "row", mem_parsed(w->row), "done",
		      (json_int_t)w->done, "changed", (json_int_t)w->changed, "pages", (json_int_t)w->pages, "failed",
		      (json_int_t)w->failed);
	json_object_set_new(v, "total", w->total >= 0 ? json_integer(w->total) : json_null());
	return v;
}

static json_t *failures(const struct mem_store *m, const struct mem_sweep *w)
{
	json_t *rows = json_array();

	MEM_EACH(&m->w, T_SWEEP_FAILURE, struct mem_sweep_failure, f) {
		json_t *error, *row;

		if (f->run != w->run || f->visit != w->visit)
			continue;
		error = mem_parsed(f->error);
		row = json_pack("{s:o, s:s*, s:s*}", "cursor", mem_parsed(f->cursor), "code", hp_json_str(error, "code"),
				"message", hp_json_str(error, "message"));
		mem_put_time(row, "at", f->at);
		json_array_append_new(rows, row);
		json_decref(error);
		if (json_array_size(rows) > 20) /* the latest twenty, as the door */
			json_array_remove(rows, 0);
	}
	return rows;
}

static json_t *sweep_json(const struct mem_store *m, const struct mem_run *r, const struct mem_sweep *w)
{
	char name[HP_NAME_MAX + 1];
	json_t *v = json_pack("{s:s, s:i, s:I, s:I, s:I, s:I}", "state",
			      mem_state_name(&m->w, r, w->state, name, sizeof name), "visit", (int)w->visit, "done",
			      (json_int_t)w->done, "changed", (json_int_t)w->changed, "failed", (json_int_t)w->failed,
			      "pages", (json_int_t)w->pages);
	json_t *failed = failures(m, w);

	if (w->total >= 0)
		json_object_set_new(v, "total", json_integer(w->total));
	if (w->cursor.n)
		json_object_set_new(v, "cursor", mem_parsed(w->cursor));
	mem_put_time(v, "started_at", w->started_at);
	mem_put_time(v, "at", w->at);
	mem_put_time(v, "ended_at", w->ended_at);
	if (json_array_size(failed) > 0)
		json_object_set(v, "failures", failed);
	json_decref(failed);
	return v;
}

json_t *mem_sweeps_json(const struct mem_store *m, const struct mem_run *r)
{
	json_t *rows = NULL;

	MEM_EACH(&m->w, T_SWEEP, struct mem_sweep, w) {
		if (w->run != r->row.id)
			continue;
		if (!rows)
			rows = json_array();
		json_array_append_new(rows, sweep_json(m, r, w));
	}
	return rows;
}

/* " (12000 of 200000 rows, 3 failed)"; false: this visit sweeps nothing. out NULL: only asked. */
bool mem_say_sweep(const struct mem_store *m, const struct mem_run *r, struct hp_buf *out)
{
	const struct mem_sweep *w = of_visit(m, r->row.id, r->row.visit);

	if (!w || w->ended_at > 0)
		return false;
	if (!out)
		return true;
	hp_buf_printf(out, " (%lld", (long long)w->done);
	if (w->total >= 0)
		hp_buf_printf(out, " of %lld", (long long)w->total);
	hp_buf_adds(out, " rows");
	if (w->failed > 0)
		hp_buf_printf(out, ", %lld failed", (long long)w->failed);
	hp_buf_addc(out, ')');
	return true;
}
