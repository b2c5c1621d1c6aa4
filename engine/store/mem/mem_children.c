/* mem_children.c: families: children started, counted, told to end. The rules and
 * sentences are those of migrations/holdpoint/0010_children.sql, without its locks.
 *
 * Starting a child adds rows, which moves tables: pointers into them are looked up
 * again after every start.
 */
#include <stdio.h>
#include <string.h>

#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define LISTED_MAX 20 /* families of a run, and parents, in its row */

#define DEPTH_MAX 32
#define RESULTS_MAX 200
#define RESULTS_BYTES 131072

static struct mem_family *family_of(const struct mem_store *m, int64_t run, int32_t visit)
{
	MEM_EACH(&m->w, T_FAMILY, struct mem_family, f)
		if (f->run == run && f->visit == visit)
			return f;
	return NULL;
}

static bool in_family(const struct mem_child *c, int64_t run, int32_t visit)
{
	return c->run == run && c->visit == visit;
}

static int outcome_of(const struct mem_family *f)
{
	int64_t bad = f->failed + f->cancelled;

	if (f->need > 0) {
		if (f->succeeded >= f->need)
			return 1;
		return f->complete && f->succeeded + f->running + f->queued < f->need ? 2 : 0;
	}
	if (f->percent < 0 && HP_GUARD(child_tolerate, bad > f->tolerate))
		return 2;
	if (f->percent >= 0 && f->complete && bad * 100 > f->total * f->percent)
		return 2;
	return f->complete && f->running + f->queued == 0 ? 1 : 0;
}

static bool wants_page(const struct mem_family *f)
{
	return !f->complete && !f->closed && f->queued < f->concurrency;
}

static bool calls(const struct mem_family *f)
{
	if (f->closed)
		return f->running == 0;
	return outcome_of(f) != 0 || wants_page(f) || (f->queued > 0 && f->running < f->concurrency);
}

/* One that was running is over. */
static void count(struct mem_family *f, int64_t n, int status)
{
	f->running--;
	if (status == HP_SUCCEEDED)
		f->succeeded++;
	else if (status == HP_FAILED)
		f->failed++;
	else
		f->cancelled++;
	if (status != HP_SUCCEEDED && f->first_failed == 0)
		f->first_failed = n;
}

/* ---- starting ---- */

/* Would run wait for itself if it waited for child? */
static bool waits_for(const struct mem_store *m, int64_t run, int64_t child, int depth)
{
	if (run == child)
		return true;
	if (depth == 64)
		return false;
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c)
		if (c->child == run && c->status == MEM_CHILD_RUNS && waits_for(m, c->run, child, depth + 1))
			return true;
	return false;
}

static void cannot(struct mem_store *m, struct mem_child *c, const char *code, const char *message)
{
	c->status = HP_FAILED;
	c->child = 0;
	c->code = mem_intern_s(m, code);
	c->message = mem_intern_s(m, message);
}

static bool obstacle(struct mem_store *m, const struct mem_family *f, struct mem_child *c)
{
	struct hp_start st = { .workflow = f->workflow.p, .input = hp_bytes_of("{}") };
	char text[200];

	if (f->depth > DEPTH_MAX) {
		cannot(m, c, "too_deep", "children of children may be 32 deep");
		return true;
	}
	if (mem_start_check(m, &st, NULL) == 0)
		return false;
	snprintf(text, sizeof text, "there is no workflow \"%.100s\": deploy it, then retry", f->workflow.p);
	cannot(m, c, "no_workflow", text);
	return true;
}

/* Returns the child's status as it is afterwards. at: its place in the table. */
static int start_one(struct mem_store *m, const struct mem_family *f, size_t at)
{
	struct mem_child *c = mem_row(&m->w, T_CHILD, at);
	struct hp_bytes requester = mem_run_find(&m->w, f->run)->requester;
	struct hp_start st = { .workflow = f->workflow.p, .input = c->input, .key = c->key,
			       .requester = requester.n ? requester.p : "" };
	struct mem_run *r;
	char text[120];
	bool existed;

	if (obstacle(m, f, c))
		return c->status;
	if (c->input.n > HP_INPUT_MAX || c->key.n > HP_KEY_MAX) {
		cannot(m, c, "too_large", "its input is larger than 256 KiB, or its key longer than 512 bytes");
		return c->status;
	}
	r = mem_start_apply(m, &st, 0, &existed);
	c->child = r->row.id;
	c->own = !existed;
	c->status = MEM_CHILD_RUNS;
	if (existed && hp_status_final(r->row.status)) {
		c->status = (int)r->row.status;
	} else if (existed && waits_for(m, f->run, r->row.id, 0)) {
		snprintf(text, sizeof text, "run %lld waits for run %lld, so it cannot be its child",
			 (long long)r->row.id, (long long)f->run);
		cannot(m, c, "waits_for_itself", text);
	} else {
		r->awaited = true;
	}
	return c->status;
}

/* Starts who is next, as long as there is room and the join is not decided. */
static void start_children(struct mem_store *m, int64_t run, int32_t visit)
{
	struct mem_family f = *family_of(m, run, visit);

	for (size_t i = 0; i < mem_count(&m->w, T_CHILD) && !f.closed; i++) {
		const struct mem_child *c = mem_row(&m->w, T_CHILD, i);
		int64_t n = c->n;
		int status;

		if (!in_family(c, run, visit) || c->status != MEM_CHILD_QUEUED)
			continue;
		if (!HP_GUARD(child_room, f.running < f.concurrency) || outcome_of(&f) != 0)
			break;
		status = start_one(m, &f, i);
		((struct mem_child *)mem_row(&m->w, T_CHILD, i))->input = (struct hp_bytes){ NULL, 0 };
		f.queued--;
		f.running++;
		if (status != MEM_CHILD_RUNS)
			count(&f, n, status);
	}
	*family_of(m, run, visit) = f;
}

/* ---- ending ---- */

static bool others_wait(const struct mem_store *m, const struct mem_child *c)
{
	MEM_EACH(&m->w, T_CHILD, struct mem_child, o)
		if (o->child == c->child && o->status == MEM_CHILD_RUNS && !in_family(o, c->run, c->visit))
			return true;
	return false;
}

static void close_family(struct mem_store *m, struct mem_family *f)
{
	f->closed = true;
	f->queued = f->running = 0;
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		struct mem_run *r;

		if (!in_family(c, f->run, f->visit))
			continue;
		if (c->status == MEM_CHILD_QUEUED) {
			c->status = MEM_NEVER;
			c->input = (struct hp_bytes){ NULL, 0 };
		}
		if (c->status != MEM_CHILD_RUNS)
			continue;
		if (!HP_GUARD(child_own, c->own) || others_wait(m, c)) {
			c->status = MEM_LEFT;
			continue;
		}
		c->cancel = true;
		f->running++;
		r = mem_run_find(&m->w, c->child);
		if (r->row.status != HP_HELD)
			mem_ready(m, r);
	}
}

void mem_child_ended(struct mem_store *m, const struct mem_run *r)
{
	int64_t id = r->row.id;
	int status = (int)r->row.status;

	for (size_t i = 0; i < mem_count(&m->w, T_CHILD); i++) {
		struct mem_child *c = mem_row(&m->w, T_CHILD, i);
		struct mem_family *f;
		struct mem_run *parent;
		int64_t run = c->run;
		int32_t visit = c->visit;

		if (c->child != id || c->status != MEM_CHILD_RUNS)
			continue;
		c->status = status;
		f = family_of(m, run, visit);
		count(f, c->n, status);
		start_children(m, run, visit);
		parent = mem_run_find(&m->w, run);
		if (calls(family_of(m, run, visit)) && parent->row.status < HP_HELD && !parent->row.pause)
			mem_ready(m, parent);
	}
}

bool mem_told_to_end(const struct mem_store *m, const struct mem_run *r)
{
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c)
		if (c->child == r->row.id && c->cancel)
			return true;
	return false;
}

bool mem_family_calls(const struct mem_store *m, const struct mem_run *r)
{
	const struct mem_family *f = family_of(m, r->row.id, r->row.visit);

	return r->row.status == HP_WAITING && r->row.phase == HP_PH_JOINING && f && calls(f);
}

bool mem_children_without_effects(const struct mem_store *m, const struct mem_run *r)
{
	int n = 0;

	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		if (c->run != r->row.id || !c->own || c->status == MEM_NEVER)
			continue;
		if (++n > 100 || (c->status != HP_FAILED && c->status != HP_CANCELLED))
			return false;
		if (c->child && !mem_without_live_effects(m, mem_run_find(&m->w, c->child)))
			return false;
	}
	return true;
}

/* ---- the annex ---- */

int mem_children_check(const struct mem_store *m, const struct hp_transition *t, const json_t *doc,
		       struct hp_error *err)
{
	const char *op = hp_json_str(doc, "op");
	const struct mem_family *f = family_of(m, t->run_id, t->after.visit);
	struct hp_buf cursor;
	bool stuck;

	if (op && (strcmp(op, "open") == 0 || strcmp(op, "close") == 0))
		return 0;
	if (!op || strcmp(op, "page") != 0)
		return hp_fail(err, HP_E_INVALID, "run %lld: this annex of children says nothing", (long long)t->run_id);
	if (!f || f->complete || f->closed)
		return hp_fail(err, HP_E_CONFLICT, "run %lld brings more children than it said", (long long)t->run_id);
	hp_buf_init(&cursor, HP_VALUE_MAX);
	stuck = f->cursor.n && json_object_get(doc, "cursor") && hp_json_write(&cursor, json_object_get(doc, "cursor"), NULL) == 0 &&
		mem_same(f->cursor, hp_buf_bytes(&cursor));
	hp_buf_free(&cursor);
	if (!stuck)
		return 0;
	hp_fail(err, HP_E_INVALID, "the rows do not go on: after %.*s they end with %.*s again", (int)f->cursor.n,
		f->cursor.p, (int)f->cursor.n, f->cursor.p);
	return hp_error_hint(err, "The statement must say: where COLUMN > $1 order by COLUMN limit $2");
}

static int32_t depth_of(const struct mem_store *m, int64_t run)
{
	int32_t depth = 1;

	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		const struct mem_family *f = c->child == run && c->own ? family_of(m, c->run, c->visit) : NULL;

		if (f && f->depth + 1 > depth)
			depth = f->depth + 1;
	}
	return depth;
}

static void open_family(struct mem_store *m, const struct mem_run *r, const json_t *doc)
{
	struct mem_family *f = mem_add(&m->w, T_FAMILY);

	f->run = r->row.id;
	f->visit = r->row.visit;
	f->workflow = mem_intern_s(m, hp_json_str(doc, "workflow"));
	f->single = hp_json_bool(doc, "single", 0);
	f->depth = depth_of(m, r->row.id);
	f->need = hp_json_int(doc, "need", 0);
	f->tolerate = hp_json_int(doc, "tolerate", 0);
	f->percent = (int32_t)hp_json_int(doc, "percent", -1);
	f->concurrency = (int32_t)hp_json_int(doc, "concurrency", 1);
}

void mem_children_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	const char *op = hp_json_str(doc, "op");
	const json_t *children = json_object_get(doc, "children"), *one;
	int64_t run = r->row.id;
	int32_t visit = r->row.visit;
	struct mem_family *f;
	size_t i;

	if (strcmp(op, "close") == 0) {
		f = family_of(m, run, t->from_visit);
		if (f && !f->closed)
			close_family(m, f);
		return;
	}
	if (strcmp(op, "open") == 0)
		open_family(m, r, doc);
	f = family_of(m, run, visit);
	json_array_foreach(children, i, one) {
		struct mem_child *c = mem_add(&m->w, T_CHILD);

		c->run = run;
		c->visit = visit;
		c->n = ++f->total;
		c->own = true;
		c->key = mem_intern_s(m, hp_json_str(one, "key"));
		c->input = mem_json_kept(m, json_object_get(one, "input"));
		f->queued++;
	}
	f->cursor = mem_json_kept(m, json_object_get(doc, "cursor"));
	f->complete = hp_json_bool(doc, "end", 0);
	start_children(m, run, visit);
}

/* ---- reading ---- */

static void put_code(const struct mem_store *m, const struct mem_child *c, json_t *row)
{
	const struct mem_run *r = c->child ? mem_run_find(&m->w, c->child) : NULL;
	json_t *result = r ? mem_parsed(r->result) : NULL;
	const char *message = hp_json_str(result, "message");

	if (c->code.n)
		json_object_set_new(row, "code", json_stringn(c->code.p, c->code.n));
	else if (c->status == HP_CANCELLED)
		json_object_set_new(row, "code", json_string("cancelled"));
	else
		json_object_set_new(row, "code", json_string(r && r->row.code[0] ? r->row.code : "failed"));
	if (c->message.n)
		json_object_set_new(row, "message", json_stringn(c->message.p, c->message.n));
	else if (r && r->message.n)
		json_object_set_new(row, "message", json_stringn(r->message.p, r->message.n));
	else if (message)
		json_object_set_new(row, "message", json_string(message));
	json_decref(result);
}

static const char *status_of(const struct mem_store *m, const struct mem_child *c)
{
	if (c->status == MEM_CHILD_QUEUED)
		return "queued";
	if (c->status == MEM_LEFT)
		return "left";
	if (c->status == MEM_NEVER)
		return "not_started";
	return hp_status_name(c->status == MEM_CHILD_RUNS ? mem_run_find(&m->w, c->child)->row.status
							  : (enum hp_status)c->status);
}

static json_t *child_json(const struct mem_store *m, const struct mem_child *c, bool with_result)
{
	json_t *row = json_pack("{s:I, s:s}", "n", (json_int_t)c->n, "status", status_of(m, c));
	const struct mem_run *r = c->child ? mem_run_find(&m->w, c->child) : NULL;

	if (r)
		json_object_set_new(row, "run", json_integer(c->child));
	if (c->key.n)
		json_object_set_new(row, "key", json_stringn(c->key.p, c->key.n));
	if (!c->own)
		json_object_set_new(row, "joined", json_true());
	if (c->status == HP_FAILED || c->status == HP_CANCELLED)
		put_code(m, c, row);
	if (with_result && c->status == HP_SUCCEEDED && r && r->result.n)
		json_object_set_new(row, "result", mem_parsed(r->result));
	return row;
}

static json_t *results(const struct mem_store *m, const struct mem_family *f)
{
	json_t *items = json_array();
	size_t size = 0;

	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		json_t *row;

		if (!in_family(c, f->run, f->visit) || c->n > RESULTS_MAX)
			continue;
		row = child_json(m, c, true);
		size += json_dumpb(row, NULL, 0, JSON_COMPACT);
		if (size <= RESULTS_BYTES)
			json_array_append(items, row);
		json_decref(row);
	}
	return items;
}

json_t *mem_children_found(const struct mem_store *m, const struct mem_run *r)
{
	const struct mem_family *f = family_of(m, r->row.id, r->row.visit);
	int outcome = f ? outcome_of(f) : 0;
	json_t *v, *row;

	if (!f || r->row.phase != HP_PH_JOINING)
		return NULL;
	v = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:i,s:b,s:o}", "total", (json_int_t)f->total, "queued",
		      (json_int_t)f->queued, "running", (json_int_t)f->running, "succeeded", (json_int_t)f->succeeded,
		      "failed", (json_int_t)f->failed, "cancelled", (json_int_t)f->cancelled, "closed", f->closed,
		      "outcome", outcome, "page", wants_page(f), "cursor", mem_parsed(f->cursor));
	if (outcome == 1 && !f->single)
		json_object_set_new(v, "items", results(m, f));
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		if (!in_family(c, f->run, f->visit))
			continue;
		if (outcome == 1 && f->single)
			json_object_set_new(v, "result", mem_parsed(mem_run_find(&m->w, c->child)->result));
		if (outcome != 2 || c->n != f->first_failed)
			continue;
		row = json_object();
		put_code(m, c, row);
		if (c->child)
			json_object_set_new(row, "child", json_integer(c->child));
		json_object_set_new(v, "error", row);
	}
	return v;
}

static json_t *family_json(const struct mem_store *m, const struct mem_family *f)
{
	const struct mem_run *r = mem_run_find(&m->w, f->run);
	char state[HP_NAME_MAX + 1] = "";

	MEM_EACH(&m->w, T_HISTORY, struct mem_history, h)
		if (h->run == f->run && h->visit == f->visit)
			mem_state_name(&m->w, r, h->state, state, sizeof state);
	return json_pack("{s:i,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:b}", "visit", (int)f->visit, "state", state,
			 "workflow", f->workflow.p, "total", (json_int_t)f->total, "queued", (json_int_t)f->queued,
			 "running", (json_int_t)f->running, "succeeded", (json_int_t)f->succeeded, "failed",
			 (json_int_t)f->failed, "cancelled", (json_int_t)f->cancelled, "complete", f->complete,
			 "closed", f->closed);
}

/* The next of its parents after `last`; 0: none. */
static int64_t parent_after(const struct mem_store *m, int64_t run, int64_t last)
{
	int64_t next = 0;

	MEM_EACH(&m->w, T_CHILD, struct mem_child, c)
		if (c->child == run && c->run > last && (next == 0 || c->run < next))
			next = c->run;
	return next;
}

void mem_families_json(const struct mem_store *m, int64_t run, json_t *root)
{
	json_t *families = json_array(), *parents = json_array();

	MEM_EACH(&m->w, T_FAMILY, struct mem_family, f)
		if (f->run == run)
			json_array_insert_new(families, 0, family_json(m, f));
	while (json_array_size(families) > LISTED_MAX) /* the newest are first */
		json_array_remove(families, LISTED_MAX);
	for (int64_t p = parent_after(m, run, 0); p && json_array_size(parents) < LISTED_MAX; p = parent_after(m, run, p))
		json_array_append_new(parents, json_integer(p));
	if (json_array_size(families))
		json_object_set(root, "children", families);
	if (json_array_size(parents))
		json_object_set(root, "parents", parents);
	json_decref(families);
	json_decref(parents);
}

int mem_read_children(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	static const int64_t limit_default = 50, zero = 0;
	int64_t limit, after, visit, last = 0, n = 0;
	const struct mem_run *r = mem_arg_run(m, args, err);
	const struct mem_family *f = NULL;
	json_t *rows, *root;
	int rc;

	if (!r || mem_arg_int(args, "limit", &limit_default, &limit, err) < 0 ||
	    mem_arg_int(args, "after", &zero, &after, err) < 0 || mem_arg_int(args, "visit", &zero, &visit, err) < 0)
		return -1;
	if (limit < 1 || limit > 500)
		return hp_fail(err, HP_E_INVALID, "\"limit\" must be within 1 and 500");
	MEM_EACH(&m->w, T_FAMILY, struct mem_family, x)
		if (x->run == r->row.id && (visit == 0 || x->visit == visit))
			f = x;
	rows = json_array();
	root = json_pack("{s:o}", "children", rows);
	if (f)
		json_object_set_new(root, "family", family_json(m, f));
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		if (!f || !in_family(c, f->run, f->visit) || c->n <= after)
			continue;
		if (++n > limit) {
			json_object_set_new(root, "next", json_integer(last));
			break;
		}
		last = c->n;
		json_array_append_new(rows, child_json(m, c, true));
	}
	rc = hp_json_write(out, root, err);
	json_decref(root);
	return rc;
}

void mem_why_children(const struct mem_store *m, const struct mem_run *r, const char *state, struct hp_buf *text,
		      int64_t *first)
{
	const struct mem_family *f = family_of(m, r->row.id, r->row.visit);
	bool held = false;
	char until[32];

	*first = 0;
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		if (!in_family(c, f->run, f->visit) || c->status != MEM_CHILD_RUNS || held)
			continue;
		held = mem_run_find(&m->w, c->child)->row.status == HP_HELD;
		if (*first == 0 || held)
			*first = c->child;
	}
	hp_buf_printf(text, "Run %lld waits in state \"%s\" for ", (long long)r->row.id, state);
	if (f->single)
		hp_buf_printf(text, "its child, run %lld of workflow %s", (long long)*first, f->workflow.p);
	else
		hp_buf_printf(text, "%lld children of workflow %s (%lld of %lld%s have ended: %lld succeeded, %lld failed, %lld were "
			      "cancelled; %lld are running", (long long)(f->running + f->queued), f->workflow.p,
			      (long long)(f->succeeded + f->failed + f->cancelled), (long long)f->total,
			      f->complete ? "" : " and more", (long long)f->succeeded, (long long)f->failed,
			      (long long)f->cancelled, (long long)f->running);
	if (!f->single && *first)
		hp_buf_printf(text, ", one is run %lld", (long long)*first);
	if (!f->single)
		hp_buf_addc(text, ')');
	if (f->closed)
		hp_buf_adds(text, " to end: they are cancelled");
	if (r->row.due_at > 0)
		hp_buf_printf(text, " until %s", mem_say_time(r->row.due_at, until));
	hp_buf_addc(text, '.');
}
