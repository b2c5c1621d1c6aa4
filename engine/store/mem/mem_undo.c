/* mem_undo.c: what is kept to take effects back, and how far that has come; the twin of
 * 0012_undo.sql. */
#include <string.h>

#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define LEFT_SHOWN 4 /* names in one sentence */

static struct mem_unwinding *unwinding_of(const struct mem_store *m, int64_t run)
{
	MEM_EACH(&m->w, T_UNWINDING, struct mem_unwinding, u)
		if (u->run == run)
			return u;
	return NULL;
}

static struct mem_undo *entry_of(const struct mem_store *m, int64_t run, int64_t n)
{
	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e)
		if (e->run == run && e->n == n)
			return e;
	return NULL;
}

static struct mem_undo *of_visit(const struct mem_store *m, int64_t run, int32_t visit)
{
	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e)
		if (e->run == run && e->visit == visit)
			return e;
	return NULL;
}

/* The next to undo: the newest that is open. */
static struct mem_undo *next_of(const struct mem_store *m, int64_t run)
{
	struct mem_undo *next = NULL;

	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e)
		if (e->run == run && e->status == MEM_UNDO_OPEN &&
		    (!next || (HP_MUTANT(undo_order) ? e->n < next->n : e->n > next->n)))
			next = e;
	return next;
}

bool mem_unwinds(const struct mem_store *m, int64_t run) { return unwinding_of(m, run) != NULL; }

bool mem_undo_any(const struct mem_store *m, int64_t run) { return entry_of(m, run, 1) != NULL; }

bool mem_undone(const struct mem_store *m, int64_t run, int32_t visit)
{
	const struct mem_undo *e = of_visit(m, run, visit);

	return e && (e->status == MEM_UNDO_DONE || e->status == MEM_UNDO_SKIPPED);
}

/* ---- annexes ---- */

int mem_undo_check(const struct mem_store *m, const struct hp_transition *t, const json_t *doc, struct hp_error *err)
{
	int64_t n = hp_json_int(doc, "close", 0);
	const struct mem_undo *e = n ? entry_of(m, t->run_id, n) : NULL;

	if (n && (!e || e->status != MEM_UNDO_OPEN))
		return hp_fail(err, HP_E_CONFLICT, "run %lld: entry %lld of its undo log is not open",
			       (long long)t->run_id, (long long)n);
	if (n || json_object_get(doc, "add") || json_object_get(doc, "begin") || json_object_get(doc, "answered"))
		return 0;
	return hp_fail(err, HP_E_INVALID, "run %lld: this undo annex says nothing", (long long)t->run_id);
}

static void add(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	struct mem_undo *e = of_visit(m, t->run_id, t->from_visit);
	struct hp_buf text;
	int32_t n = 1;

	MEM_EACH(&m->w, T_UNDO, struct mem_undo, o)
		n += o->run == t->run_id;
	if (!e) {
		e = mem_add(&m->w, T_UNDO);
		e->run = t->run_id;
		e->n = n;
		e->visit = t->from_visit;
		e->state = t->from_state;
		e->status = json_object_get(doc, "text") ? MEM_UNDO_IMPOSSIBLE : MEM_UNDO_OPEN;
	}
	e->rev = r->row.rev;
	e->at = *m->now;
	hp_buf_init(&text, HP_RUN_DATA_MAX);
	if (hp_json_write(&text, doc, NULL) == 0)
		e->doc = mem_intern(m, hp_buf_bytes(&text));
	hp_buf_free(&text);
}

static void begin(struct mem_store *m, const struct hp_transition *t, enum hp_status ends)
{
	struct mem_unwinding *u = mem_add(&m->w, T_UNWINDING);

	u->run = t->run_id;
	u->began_at = *m->now;
	u->ends = ends;
	u->from_state = t->after.state;
	u->code = mem_intern_s(m, t->code);
	u->message = mem_intern_s(m, t->message);
	u->result = mem_intern(m, t->result);
}

void mem_undo_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	const char *as = hp_json_str(doc, "as");
	struct mem_undo *e;

	if (json_object_get(doc, "add")) {
		add(m, r, t, json_object_get(doc, "add"));
	} else if (json_object_get(doc, "begin")) {
		begin(m, t, (enum hp_status)hp_json_int(doc, "begin", HP_FAILED));
	} else if (json_object_get(doc, "close")) {
		e = entry_of(m, t->run_id, hp_json_int(doc, "close", 0));
		e->status = as && strcmp(as, "done") == 0 ? MEM_UNDO_DONE : MEM_UNDO_SKIPPED;
		e->closed_at = *m->now;
	} else {
		unwinding_of(m, t->run_id)->answered_at = *m->now;
	}
}

/* ---- for claims ---- */

static json_t *doc_of(const struct mem_undo *e)
{
	json_t *doc = hp_json_parse(e->doc.p, e->doc.n, "undo", NULL);

	return doc ? doc : json_object();
}

static const char *name_of(const struct mem_store *m, const struct mem_undo *e, char buf[HP_NAME_MAX + 1])
{
	return mem_state_name(&m->w, mem_run_find(&m->w, e->run), e->state, buf, HP_NAME_MAX + 1);
}

/* "book_hotel (visit 3, key hp_…)", "send_mail (visit 4): a mail cannot be taken back" */
static void say(const struct mem_store *m, const struct mem_undo *e, struct hp_buf *out)
{
	json_t *doc = doc_of(e);
	const char *key = hp_json_str(doc, "key"), *text = hp_json_str(doc, "text");
	char name[HP_NAME_MAX + 1];

	if (!text)
		text = hp_json_str(doc, "error");
	hp_buf_printf(out, "%s (visit %d%s%s)%s%s", name_of(m, e, name), (int)e->visit, key ? ", key " : "",
		      key ? key : "", text ? ": " : "", text ? text : "");
	json_decref(doc);
}

static const struct mem_undo *before(const struct mem_store *m, int64_t run, enum mem_undo_status status, int32_t n)
{
	const struct mem_undo *best = NULL;

	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e)
		if (e->run == run && e->status == status && e->n < n && (!best || e->n > best->n))
			best = e;
	return best;
}

static void say_left(const struct mem_store *m, const struct mem_unwinding *u, struct hp_buf *out)
{
	const enum mem_undo_status kinds[] = { MEM_UNDO_OPEN, MEM_UNDO_IMPOSSIBLE };
	int n = 0;

	for (size_t k = 0; k < (u->answered_at ? 1 : 2); k++)
		for (const struct mem_undo *e = before(m, u->run, kinds[k], INT32_MAX); e;
		     e = before(m, u->run, kinds[k], e->n)) {
			if (++n > LEFT_SHOWN)
				continue;
			hp_buf_adds(out, n > 1 ? "; " : "");
			say(m, e, out);
		}
	if (n > LEFT_SHOWN)
		hp_buf_printf(out, " and %d more", n - LEFT_SHOWN);
}

static json_t *next_json(const struct mem_store *m, const struct mem_undo *e)
{
	json_t *doc = doc_of(e);
	struct hp_buf saved;

	hp_buf_init(&saved, HP_RUN_DATA_MAX);
	mem_saved_json(m, e->run, e->rev, &saved);
	json_object_set_new(doc, "entry", json_integer(e->n));
	json_object_set_new(doc, "visit", json_integer(e->visit));
	json_object_set_new(doc, "saved", hp_json_parse(hp_buf_str(&saved), saved.n, "saved values", NULL));
	hp_buf_free(&saved);
	return doc;
}

static int count(const struct mem_store *m, int64_t run, enum mem_undo_status status)
{
	int n = 0;

	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e)
		n += e->run == run && e->status == status;
	return n;
}

json_t *mem_undo_found(const struct mem_store *m, const struct mem_run *r)
{
	const struct mem_unwinding *u = unwinding_of(m, r->row.id);
	const struct mem_undo *next = u ? next_of(m, r->row.id) : NULL;
	struct hp_buf names;
	json_t *found;

	if (!u)
		return NULL;
	hp_buf_init(&names, HP_VALUE_MAX);
	say_left(m, u, &names);
	found = json_pack("{s:i, s:i, s:o, s:o, s:i, s:o}", "ends", (int)u->ends, "from", (int)u->from_state, "code",
			  mem_text_json(u->code), "message", mem_text_json(u->message), "left",
			  u->answered_at ? 0 : count(m, u->run, MEM_UNDO_IMPOSSIBLE), "names",
			  mem_text_json(hp_buf_bytes(&names)));
	hp_buf_free(&names);
	if (u->result.n)
		json_object_set_new(found, "result", hp_json_parse(u->result.p, u->result.n, "result", NULL));
	if (next)
		json_object_set_new(found, "next", next_json(m, next));
	return found;
}

/* ---- for people ---- */

static void put(json_t *row, const char *name, const char *text)
{
	if (text)
		json_object_set_new(row, name, json_string(text));
}

static json_t *row_of(const struct mem_store *m, const struct mem_undo *e)
{
	static const char *const words[] = { "", "open", "done", "impossible", "skipped" };
	json_t *doc = doc_of(e), *row;
	const char *text = hp_json_str(doc, "text");
	char name[HP_NAME_MAX + 1];

	row = json_pack("{s:i, s:i, s:s, s:s}", "entry", (int)e->n, "visit", (int)e->visit, "state",
			name_of(m, e, name), "status", words[e->status]);
	put(row, "operation", hp_json_str(doc, "operation"));
	put(row, "key", hp_json_str(doc, "key"));
	put(row, "text", text ? text : hp_json_str(doc, "error"));
	mem_put_time(row, "at", e->at);
	mem_put_time(row, "closed_at", e->closed_at);
	json_decref(doc);
	return row;
}

json_t *mem_undo_json(const struct mem_store *m, const struct mem_run *r)
{
	const struct mem_unwinding *u = unwinding_of(m, r->row.id);
	json_t *o, *log = json_array();

	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e)
		if (e->run == r->row.id)
			json_array_append_new(log, row_of(m, e));
	if (!u && json_array_size(log) == 0) {
		json_decref(log);
		return NULL;
	}
	o = json_object();
	if (u) {
		mem_put_time(o, "began_at", u->began_at);
		put(o, "ends", hp_status_name(u->ends));
	}
	if (json_array_size(log) > 0)
		json_object_set(o, "log", log);
	json_decref(log);
	return o;
}

void mem_undo_progress(const struct mem_store *m, const struct mem_run *r, struct hp_buf *out)
{
	int64_t run = r->row.id;
	const struct mem_undo *next = next_of(m, run);
	int done = count(m, run, MEM_UNDO_DONE) + count(m, run, MEM_UNDO_SKIPPED);
	char name[HP_NAME_MAX + 1];

	if (!unwinding_of(m, run))
		return;
	hp_buf_printf(out, " It is being unwound: %d of %d undone%s%s.", done,
		      done + count(m, run, MEM_UNDO_OPEN) + count(m, run, MEM_UNDO_IMPOSSIBLE), next ? ", next " : "",
		      next ? name_of(m, next, name) : "");
}

enum hp_command mem_undo_command(const struct mem_store *m, const struct mem_run *r, const json_t *args,
				 struct hp_error *err)
{
	const json_t *happened = json_object_get(args, "happened");
	long long id = (long long)r->row.id;
	json_t *state = mem_state_json(&m->w, r, r->row.state);
	bool probe = hp_json_str(state, "probe") != NULL;
	char name[HP_NAME_MAX + 1];

	json_decref(state);
	if (happened && !json_is_boolean(happened)) {
		hp_fail(err, HP_E_INVALID, "\"happened\" must be true or false");
	} else if (mem_unwinds(m, r->row.id)) {
		hp_fail(err, HP_E_CONFLICT, "run %lld is being unwound already", id);
		hp_error_hint(err, "retry tries the undo again, skip says that it was done by hand, give_up ends the "
				   "run as it is.");
	} else if (happened && !r->row.unresolved) {
		hp_fail(err, HP_E_CONFLICT, "nothing is in doubt in run %lld", id);
		hp_error_hint(err, "Leave \"happened\" out.");
	} else if (r->row.unresolved && !happened && !probe) {
		hp_fail(err, HP_E_CONFLICT, "whether the effect of state \"%s\" happened is not known, and nothing is undone "
					    "before it is",
			mem_state_name(&m->w, r, r->row.state, name, sizeof name));
		hp_error_hint(err, "Look at the provider, then say so: --happened yes or --happened no.");
	} else {
		return !happened ? HP_CMD_UNDO : json_is_true(happened) ? HP_CMD_UNDO_HAPPENED : HP_CMD_UNDO_ABSENT;
	}
	return HP_CMD_NONE;
}
