/* mem_arms.c: arms: what stands beside the main wait of a state.
 *
 * The same as migrations/holdpoint/0011_arms.sql: one row per run with what is due by
 * itself, as the machine wrote it.
 */
#include <string.h>

#include "base/clock.h"
#include "store/mem/mem_private.h"

static struct mem_arms *arms_of(const struct mem_store *m, int64_t run)
{
	MEM_EACH(&m->w, T_ARMS, struct mem_arms, a)
		if (a->run == run)
			return a;
	return NULL;
}

static bool of_run(const void *row, int64_t run)
{
	return ((const struct mem_arms *)row)->run == run;
}

/* An arm went first: who decides later is told which. */
static void close_for(struct mem_store *m, const struct hp_transition *t, const char *won)
{
	struct mem_approval *a = mem_approval_of(&m->w, t->run_id, t->from_visit);

	if (!a || a->status != MEM_OPEN)
		return;
	a->status = MEM_CLOSED;
	a->decided_at = *m->now;
	a->reason = mem_intern_s(m, won);
}

void mem_arms_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc)
{
	struct mem_arms *a = arms_of(m, r->row.id);
	const char *won = hp_json_str(doc, "won");
	struct hp_buf text;

	if (json_object_get(doc, "over")) {
		mem_remove_if(&m->w, T_ARMS, of_run, r->row.id);
		if (won)
			close_for(m, t, won);
		return;
	}
	if (!a) {
		a = mem_add(&m->w, T_ARMS);
		a->run = r->row.id;
	}
	hp_buf_init(&text, HP_VALUE_MAX);
	if (hp_json_write(&text, doc, NULL) == 0)
		a->doc = mem_intern(m, hp_buf_bytes(&text));
	a->visit = r->row.visit;
	hp_buf_free(&text);
}

/* A wait, or children that are waited for. */
static bool open_phase(const struct mem_run *r)
{
	return r->row.phase == HP_PH_OPEN || r->row.phase == HP_PH_JOINING;
}

json_t *mem_arms_found(const struct mem_store *m, const struct mem_run *r)
{
	const struct mem_arms *a = open_phase(r) ? arms_of(m, r->row.id) : NULL;

	return a && a->visit == r->row.visit ? hp_json_parse(a->doc.p, a->doc.n, "arms", NULL) : NULL;
}

/* The mailbox a parked run looks into, by its place. */
static const struct mem_wait *wait_at(const struct mem_store *m, const struct mem_run *r, int64_t index)
{
	MEM_EACH(&m->w, T_WAIT, struct mem_wait, w)
		if (w->run == r->row.id && w->index == index)
			return w;
	return NULL;
}

static void copy(json_t *to, const json_t *from, const char *name)
{
	json_t *v = json_object_get(from, name);

	if (v && !(json_is_string(v) && json_string_length(v) == 0))
		json_object_set(to, name, v);
}

static json_t *arm_json(const struct mem_store *m, const struct mem_run *r, const json_t *arm, const json_t *clock)
{
	static const char *const said[] = { "name", "kind", "next", "operation", "every_us" };
	const struct mem_wait *w = wait_at(m, r, hp_json_int(arm, "wait", -1));
	json_t *row = json_object();

	for (size_t i = 0; i < sizeof said / sizeof *said; i++)
		copy(row, arm, said[i]);
	copy(row, clock, "checks");
	copy(row, clock, "failures");
	copy(row, clock, "code");
	mem_put_time(row, "due_at", hp_json_int(clock, "due", 0));
	if (w) {
		json_object_set_new(row, "event", json_stringn(w->name.p, w->name.n));
		json_object_set_new(row, "key", json_stringn(w->key.n ? w->key.p : "", w->key.n));
	}
	return row;
}

json_t *mem_arms_json(const struct mem_store *m, const struct mem_run *r)
{
	json_t *state, *doc, *out = NULL, *arm;
	size_t i;

	if (r->row.status != HP_WAITING || !open_phase(r))
		return NULL;
	state = mem_state_json(&m->w, r, r->row.state);
	doc = mem_arms_found(m, r);
	json_array_foreach(json_object_get(state, "arms"), i, arm) {
		const json_t *clock = json_object_get(json_object_get(doc, "arms"), hp_json_str(arm, "name"));

		out = out ? out : json_array();
		json_array_append_new(out, arm_json(m, r, arm, clock));
	}
	json_decref(doc);
	json_decref(state);
	return out;
}

int64_t mem_arms_due(const struct mem_store *m, const struct mem_run *r)
{
	json_t *doc = mem_arms_found(m, r);
	int64_t due = hp_json_int(doc, "due", r->row.due_at);

	json_decref(doc);
	return due;
}

int64_t mem_own_events(const struct mem_store *m, const struct mem_run *r)
{
	json_t *state = mem_state_json(&m->w, r, r->row.state);
	int64_t n = hp_json_int(state, "own_events", INT32_MAX);

	json_decref(state);
	return n;
}

/* "2026-01-01T00:00:30.000000Z" → "2026-01-01 00:00:30 UTC" */
static const char *say_text_time(const char *text, char buf[32])
{
	if (!text || strlen(text) < 19)
		return NULL;
	memcpy(buf, text, 19);
	buf[10] = ' ';
	memcpy(buf + 19, " UTC", 5);
	return buf;
}

static void why_arm(const json_t *arm, struct hp_buf *out)
{
	const char *kind = hp_json_str(arm, "kind"), *code = hp_json_str(arm, "code");
	int64_t failures = hp_json_int(arm, "failures", 0);
	char at[32], every[32];
	const char *due = say_text_time(hp_json_str(arm, "due_at"), at);

	hp_buf_printf(out, "to \"%s\" ", hp_json_str(arm, "next"));
	if (strcmp(kind, "event") == 0) {
		hp_buf_printf(out, "when the event %s with key \"%s\" arrives", hp_json_str(arm, "event"),
			      hp_json_str(arm, "key"));
	} else if (strcmp(kind, "timer") == 0) {
		hp_buf_printf(out, "at %s", due ? due : "a time that is not known");
	} else {
		hp_buf_printf(out, "when the check %s says so (every %s s, next at %s", hp_json_str(arm, "operation"),
			      mem_say_seconds(hp_json_int(arm, "every_us", 0), every), due ? due : "?");
		if (failures > 0)
			hp_buf_printf(out, "; %lld failed in a row, the last with %s", (long long)failures,
				      code ? code : "no code");
		hp_buf_addc(out, ')');
	}
	hp_buf_printf(out, ", by arm \"%s\"", hp_json_str(arm, "name"));
}

void mem_why_arms(const struct mem_store *m, const struct mem_run *r, struct hp_buf *out)
{
	json_t *arms = mem_arms_json(m, r), *arm;
	size_t i;

	json_array_foreach(arms, i, arm) {
		hp_buf_adds(out, i == 0 ? " It also goes on " : "; ");
		why_arm(arm, out);
	}
	if (arms)
		hp_buf_addc(out, '.');
	json_decref(arms);
}
