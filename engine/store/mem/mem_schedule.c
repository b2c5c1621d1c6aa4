/* mem_schedule.c: schedules, their ticks and their doors; the twin of 0008_schedules.sql.
 *
 * An engine asks what is due, works out what to start (core/schedule.c) and fires with
 * the version it saw: an operation here is one transaction, so of several engines the
 * first one wins and the others find another version.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define SCHEDULE_NAME_MAX 96

/* ---- rows ---- */

static const char *name_of(struct hp_bytes workflow, int32_t index, char *buf)
{
	if (index > 1)
		snprintf(buf, SCHEDULE_NAME_MAX, "%.*s:%d", (int)workflow.n, workflow.p, (int)index);
	else
		snprintf(buf, SCHEDULE_NAME_MAX, "%.*s", (int)workflow.n, workflow.p);
	return buf;
}

static struct mem_schedule *find(struct mem_store *m, struct hp_bytes workflow, int64_t index)
{
	MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, s)
		if (s->index == index && mem_same(s->workflow, workflow))
			return s;
	return NULL;
}

static struct mem_tick *find_tick(struct mem_store *m, const struct mem_schedule *s, int64_t tick)
{
	MEM_EACH(&m->w, T_TICK, struct mem_tick, t)
		if (t->index == s->index && t->tick == tick && mem_same(t->workflow, s->workflow))
			return t;
	return NULL;
}

static struct mem_tick *add_tick(struct mem_store *m, const struct mem_schedule *s, int64_t tick,
				 const char *outcome)
{
	struct mem_tick *t = mem_add(&m->w, T_TICK);

	t->workflow = s->workflow;
	t->index = s->index;
	t->tick = tick;
	t->outcome = mem_intern_s(m, outcome);
	t->at = *m->now;
	t->n = 1;
	return t;
}

static json_t *spec_of(const struct mem_schedule *s)
{
	return hp_json_parse(s->spec.p, s->spec.n, "schedule", NULL);
}

static bool overlap_is(const struct mem_schedule *s, const char *word)
{
	json_t *spec = spec_of(s);
	const char *overlap = hp_json_str(spec, "overlap");
	bool same = overlap && strcmp(overlap, word) == 0;

	json_decref(spec);
	return same;
}

static bool lives(const struct mem_store *m, int64_t run)
{
	const struct mem_run *r = mem_run_find(&m->w, run);

	return r && !hp_status_final(r->row.status);
}

static bool live_engine(const struct mem_store *m)
{
	MEM_EACH(&m->w, T_ENGINE, struct mem_engine, e)
		if (!e->dead && e->lease_until > *m->now)
			return true;
	return false;
}

/* ---- deploying ---- */

static bool beyond(const void *row, int64_t limit)
{
	return ((const struct mem_schedule *)row)->index > limit;
}

static bool same_times(const struct mem_schedule *s, const json_t *now)
{
	json_t *was = spec_of(s);
	bool same = json_equal(json_object_get(was, "cron"), json_object_get(now, "cron")) &&
		    json_equal(json_object_get(was, "zone"), json_object_get(now, "zone"));

	json_decref(was);
	return same;
}

/* One that was gone and comes again has its ticks of before. */
static int64_t starts_of(const struct mem_store *m, const struct mem_schedule *s)
{
	int64_t n = 0;

	MEM_EACH(&m->w, T_TICK, struct mem_tick, t)
		n += t->index == s->index && mem_same(t->workflow, s->workflow) &&
		     (mem_same(t->outcome, hp_bytes_of("started")) || mem_same(t->outcome, hp_bytes_of("manual")));
	return n;
}

static void put_one(struct mem_store *m, struct hp_bytes workflow, int32_t index, const json_t *spec)
{
	struct mem_schedule *s = find(m, workflow, index);
	struct hp_buf text;

	hp_buf_init(&text, HP_INPUT_MAX * 2);
	HP_ASSERT(hp_json_write(&text, spec, NULL) == 0);
	if (s && mem_same(s->spec, hp_buf_bytes(&text)))
		goto out;
	if (!s) {
		s = mem_add(&m->w, T_SCHEDULE);
		s->workflow = workflow;
		s->index = index;
		s->position = *m->now;
		s->started = starts_of(m, s);
	} else if (!same_times(s, spec)) {
		s->position = *m->now;
	}
	s->version += s->spec.n > 0;
	s->spec = mem_intern(m, hp_buf_bytes(&text));
	s->planned = false;
	s->look_at = s->paused_at ? 0 : *m->now;
out:
	hp_buf_free(&text);
}

/* Rows beyond the last index are those of a longer list before. The mark moves them
 * out of the way of other workflows: mem_remove_if() knows only a number. */
void mem_put_schedules(struct mem_store *m, struct hp_bytes workflow, const json_t *summary)
{
	const json_t *specs = json_object_get(summary, "schedules"), *spec;
	size_t n = json_array_size(specs), i;

	MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, s)
		if (mem_same(s->workflow, workflow) && s->index > (int32_t)n)
			s->index = INT32_MAX;
	mem_remove_if(&m->w, T_SCHEDULE, beyond, INT32_MAX - 1);
	json_array_foreach(specs, i, spec)
		put_one(m, workflow, (int32_t)i + 1, spec);
}

/* ---- for engines ---- */

static int64_t idle_since(const struct mem_store *m, int64_t run)
{
	int64_t at = 0;

	MEM_EACH(&m->w, T_HISTORY, struct mem_history, h)
		if (h->run == run)
			at = h->at;
	return at;
}

static bool named_before(const struct mem_schedule *a, const struct mem_schedule *b)
{
	int c = mem_compare(a->workflow, b->workflow);

	return c ? c < 0 : a->index < b->index;
}

/* By when they are to be looked at, then by name. */
static bool due_before(const struct mem_schedule *a, const struct mem_schedule *b)
{
	return a->look_at != b->look_at ? a->look_at < b->look_at : named_before(a, b);
}

static const struct mem_schedule *next_due(const struct mem_store *m, const struct mem_schedule *last)
{
	const struct mem_schedule *first = NULL;

	MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, s)
		if (s->look_at != 0 && s->look_at <= *m->now && (!last || due_before(last, s)) && (!first || due_before(s, first)))
			first = s;
	return first;
}

static int due(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	const struct mem_schedule *s = NULL;
	json_t *list = json_array(), *root = json_pack("{s:I, s:o}", "now", (json_int_t)*m->now, "schedules", list);
	int64_t next = 0, limit = hp_json_int(args, "limit", 50);
	char name[SCHEDULE_NAME_MAX];
	int rc;

	MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, x)
		if (x->look_at > *m->now && (next == 0 || x->look_at < next))
			next = x->look_at;
	while ((int64_t)json_array_size(list) < limit && (s = next_due(m, s)) != NULL) {
		json_array_append_new(list, json_pack("{s:s%, s:i, s:s, s:i, s:o, s:I, s:b, s:I}", "workflow",
			s->workflow.p, s->workflow.n, "index", (int)s->index, "schedule",
			name_of(s->workflow, s->index, name), "version", (int)s->version, "spec", spec_of(s), "position",
			(json_int_t)s->position, "busy", lives(m, s->last_run) ? 1 : 0, "idle_since",
			(json_int_t)idle_since(m, s->last_run)));
	}
	json_object_set_new(root, "next", next ? json_integer(next) : json_null());
	rc = hp_json_write(out, root, err);
	json_decref(root);
	return rc;
}

static int64_t start(struct mem_store *m, const struct mem_schedule *s, int64_t tick, const char *by,
		     struct hp_error *err)
{
	struct hp_start st = { .requester = by };
	json_t *spec = spec_of(s), *input = json_object_get(spec, "input");
	struct hp_buf text, workflow;
	char at[32];
	bool existed;
	int64_t run = 0;

	hp_buf_init(&text, HP_INPUT_MAX);
	hp_buf_init(&workflow, SCHEDULE_NAME_MAX);
	hp_buf_add(&workflow, s->workflow.p, s->workflow.n);
	st.workflow = hp_buf_str(&workflow);
	json_object_set_new(input, "tick", json_string(hp_time_format(tick, at, sizeof at)));
	if (hp_json_write(&text, input, err) == 0) {
		st.input = hp_buf_bytes(&text);
		if (mem_start_check(m, &st, err) == 0)
			run = mem_start_apply(m, &st, 0, &existed)->row.id;
	}
	hp_buf_free(&text);
	hp_buf_free(&workflow);
	json_decref(spec);
	return run;
}

/* May a tick start a run? NULL: yes. */
static const char *obstacle(struct mem_store *m, const struct mem_schedule *s, const char *by)
{
	if (!lives(m, s->last_run) || overlap_is(s, "allow"))
		return NULL;
	if (!overlap_is(s, "cancel"))
		return HP_MUTANT(schedule_overlap) ? NULL : "overlap";
	/* what ends already; and to ask twice is a person's answer to what is held */
	if (!mem_run_find(&m->w, s->last_run)->row.cancel && !mem_unwinds(m, s->last_run))
		mem_cancel(m, mem_run_find(&m->w, s->last_run), by, "the next tick of its schedule has come");
	return NULL;
}

/* 1: done, 0: it waits for the run before it, -1: failed. */
static int fire_tick(struct mem_store *m, struct mem_schedule *s, int64_t tick, json_t *runs,
		     struct hp_error *err)
{
	char by[SCHEDULE_NAME_MAX + 16], name[SCHEDULE_NAME_MAX];
	const char *why;
	struct mem_tick *t;
	int64_t run;

	snprintf(by, sizeof by, "schedule:%s", name_of(s->workflow, s->index, name));
	why = obstacle(m, s, by);
	if (why && overlap_is(s, "queue"))
		return 0;
	if (!HP_GUARD(schedule_tick, find_tick(m, s, tick) == NULL))
		return 1; /* this instant has had its run */
	if (why) {
		add_tick(m, s, tick, why);
		s->skipped++;
		return 1;
	}
	run = start(m, s, tick, by, err);
	if (run == 0)
		return -1;
	t = add_tick(m, s, tick, "started");
	t->run = s->last_run = run;
	s->last_tick = tick;
	s->late_us = *m->now - tick;
	s->started++;
	json_array_append_new(runs, json_integer(run));
	return 1;
}

static void settle(struct mem_store *m, struct mem_schedule *s, const json_t *args)
{
	const json_t *ahead = json_object_get(args, "ahead"), *v;
	int64_t missed = hp_json_int(args, "skipped", 0);
	size_t i;

	s->position = hp_json_int(args, "position", s->position);
	if (missed > 0 && !find_tick(m, s, hp_json_int(args, "missed_until", 0)))
		add_tick(m, s, hp_json_int(args, "missed_until", 0), "missed")->n = missed;
	s->skipped += missed;
	s->version++;
	s->planned = true;
	s->look_at = hp_json_int(args, "look", 0);
	s->n_ahead = 0;
	json_array_foreach(ahead, i, v)
		if (s->n_ahead < MEM_AHEAD_MAX)
			s->ahead[s->n_ahead++] = json_integer_value(v);
}

static int fire(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	const json_t *ticks = json_object_get(args, "start"), *tick;
	json_t *runs = json_array(), *root = NULL;
	struct mem_schedule *s;
	const char *workflow;
	int64_t index, version;
	int rc = -1, fired = 1;
	size_t i;

	if (mem_arg_text(args, "workflow", true, HP_KEY_MAX, &workflow, err) < 0 ||
	    mem_arg_int(args, "index", NULL, &index, err) < 0 || mem_arg_int(args, "version", NULL, &version, err) < 0)
		goto out;
	s = find(m, hp_bytes_of(workflow), index);
	if (!s || s->paused_at || !HP_GUARD(schedule_version, s->version == version)) {
		fired = 0;
	} else {
		json_array_foreach(ticks, i, tick)
			if (fired == 1)
				fired = fire_tick(m, s, json_integer_value(tick), runs, err);
		if (fired == 1)
			settle(m, s, args);
	}
	if (fired < 0)
		goto out;
	root = json_pack("{s:s, s:I}", "outcome", fired ? "done" : "taken", "now", (json_int_t)*m->now);
	if (fired)
		json_object_set(root, "runs", runs);
	rc = hp_json_write(out, root, err);
out:
	json_decref(root);
	json_decref(runs);
	return rc;
}

/* ---- for people ---- */

static const char *sentence(const struct mem_store *m, const struct mem_schedule *s, char *buf, size_t n)
{
	char at[32], next[32], name[SCHEDULE_NAME_MAX];
	bool busy = lives(m, s->last_run);

	mem_say_time(s->n_ahead ? s->ahead[0] : 0, next);
	if (s->paused_at)
		snprintf(buf, n, "Paused since %s by %.*s: %.*s. holdpoint schedules resume %s lets it go on.",
			 mem_say_time(s->paused_at, at), (int)s->paused_by.n, s->paused_by.p, (int)s->paused_reason.n,
			 s->paused_reason.p, name_of(s->workflow, s->index, name));
	else if (!live_engine(m))
		snprintf(buf, n, "No engine is alive to start its runs; catch_up says what becomes of the ticks "
				 "meanwhile.");
	else if (!s->planned)
		snprintf(buf, n, "It was just deployed or changed; an engine works out its ticks within ten seconds.");
	else if (!s->look_at)
		snprintf(buf, n, "It has no tick any more.");
	else if (busy && overlap_is(s, "queue") && s->ahead[0] <= *m->now)
		snprintf(buf, n, "The tick of %s waits for run %lld, started by the tick before.", next,
			 (long long)s->last_run);
	else if (busy && overlap_is(s, "skip"))
		snprintf(buf, n, "The next tick is %s; it is skipped if run %lld is still going.", next,
			 (long long)s->last_run);
	else
		snprintf(buf, n, "The next tick is %s.", next);
	return buf;
}

static json_t *row_of(const struct mem_store *m, const struct mem_schedule *s, int64_t ticks)
{
	char text[HP_REASON_MAX + 512], name[SCHEDULE_NAME_MAX], at[32];
	const struct mem_run *last = mem_run_find(&m->w, s->last_run);
	json_t *next = json_array();
	json_t *row = json_pack("{s:s, s:s%, s:i, s:o, s:b, s:I, s:I, s:I, s:s, s:o}", "schedule",
				name_of(s->workflow, s->index, name), "workflow", s->workflow.p, s->workflow.n, "index",
				(int)s->index, "spec", spec_of(s), "paused", s->paused_at ? 1 : 0, "started",
				(json_int_t)s->started, "skipped", (json_int_t)s->skipped, "late_us",
				(json_int_t)s->late_us, "sentence", sentence(m, s, text, sizeof text), "next", next);

	for (int i = 0; i < s->n_ahead && i < ticks && !s->paused_at && s->planned; i++)
		json_array_append_new(next, json_string(hp_time_format(s->ahead[i], at, sizeof at)));
	mem_put_time(row, "paused_at", s->paused_at);
	mem_put_time(row, "last_tick", s->last_tick);
	if (s->paused_at) {
		json_object_set_new(row, "paused_by", json_stringn(s->paused_by.p, s->paused_by.n));
		json_object_set_new(row, "paused_reason", json_stringn(s->paused_reason.p, s->paused_reason.n));
	}
	if (last) {
		json_object_set_new(row, "last_run", json_integer(s->last_run));
		json_object_set_new(row, "last_status", json_string(hp_status_name(last->row.status)));
	}
	return row;
}

static int list(const struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	const char *workflow = hp_json_str(args, "workflow");
	json_t *rows = json_array(), *root = json_pack("{s:o}", "schedules", rows);
	const struct mem_schedule *last = NULL, *next;
	int rc;

	do { /* by name */
		next = NULL;
		MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, s)
			if ((!workflow || mem_same(s->workflow, hp_bytes_of(workflow))) && (!last || named_before(last, s)) &&
			    (!next || named_before(s, next)))
				next = s;
		if (next)
			json_array_append_new(rows, row_of(m, next, 3));
	} while ((last = next) != NULL);
	rc = hp_json_write(out, root, err);
	json_decref(root);
	return rc;
}

static struct mem_schedule *arg_schedule(struct mem_store *m, const json_t *args, struct hp_error *err)
{
	const char *name;
	char own[SCHEDULE_NAME_MAX];

	if (mem_arg_text(args, "schedule", true, HP_KEY_MAX, &name, err) < 0)
		return NULL;
	MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, s)
		if (strcmp(name_of(s->workflow, s->index, own), name) == 0)
			return s;
	hp_fail(err, HP_E_NOT_FOUND, "there is no schedule \"%s\"", name);
	hp_error_hint(err, "holdpoint schedules lists them.");
	return NULL;
}

/* The newest ticks first. */
static json_t *recent(const struct mem_store *m, const struct mem_schedule *s)
{
	json_t *rows = json_array();
	const struct mem_tick *last = NULL;

	while (json_array_size(rows) < 10) {
		const struct mem_tick *next = NULL;
		json_t *row;

		MEM_EACH(&m->w, T_TICK, struct mem_tick, t)
			if (t->index == s->index && mem_same(t->workflow, s->workflow) && (!last || t->tick < last->tick) &&
			    (!next || t->tick > next->tick))
				next = t;
		if (!next)
			break;
		row = json_pack("{s:s%, s:I}", "outcome", next->outcome.p, next->outcome.n, "n", (json_int_t)next->n);
		mem_put_time(row, "tick", next->tick);
		mem_put_time(row, "at", next->at);
		if (next->run)
			json_object_set_new(row, "run", json_integer(next->run));
		json_array_append_new(rows, row);
		last = next;
	}
	return rows;
}

static int pause_or_resume(struct mem_store *m, struct mem_schedule *s, bool pause, const char *principal,
			   const char *reason, struct hp_error *err)
{
	char name[SCHEDULE_NAME_MAX], at[32];

	name_of(s->workflow, s->index, name);
	if (pause && s->paused_at)
		return hp_fail(err, HP_E_CONFLICT, "%s is paused already, since %s by %.*s", name,
			       mem_say_time(s->paused_at, at), (int)s->paused_by.n, s->paused_by.p);
	if (!pause && !s->paused_at)
		return hp_fail(err, HP_E_CONFLICT, "%s is not paused", name);
	s->paused_at = pause ? *m->now : 0;
	s->paused_by = mem_intern_s(m, pause ? principal : NULL);
	s->paused_reason = mem_intern_s(m, pause ? reason : NULL);
	s->version++;
	s->look_at = pause ? 0 : *m->now;
	if (!pause) { /* what would have ticked in the pause is not caught up */
		s->position = *m->now;
		s->planned = false;
	}
	return 0;
}

/* Ticks are whole milliseconds: a moment that is none never takes the place of one. */
static int run_now(struct mem_store *m, struct mem_schedule *s, const char *principal, struct hp_buf *out,
		   struct hp_error *err)
{
	int64_t tick = *m->now - *m->now % 1000 + 1, run;
	char name[SCHEDULE_NAME_MAX];

	while (find_tick(m, s, tick))
		tick++;
	run = start(m, s, tick, principal, err);
	if (run == 0)
		return -1;
	add_tick(m, s, tick, "manual")->run = run;
	s->last_run = run;
	s->version++;
	s->started++;
	return hp_buf_printf(out, "{\"run\":%lld,\"schedule\":\"%s\"}", (long long)run,
			     name_of(s->workflow, s->index, name));
}

static int one(struct mem_store *m, const char *name, const char *principal, const json_t *args,
	       struct hp_buf *out, struct hp_error *err)
{
	bool show = strcmp(name, "schedule") == 0, pause = strcmp(name, "schedule_pause") == 0;
	const char *reason = "";
	struct mem_schedule *s;
	int64_t ticks = 3, ten = 10;
	json_t *row;
	int rc;

	if (pause && mem_arg_reason(args, &reason, err) < 0)
		return -1;
	s = arg_schedule(m, args, err);
	if (!s)
		return -1;
	if (strcmp(name, "schedule_run") == 0)
		return run_now(m, s, principal, out, err);
	if (show && mem_arg_int(args, "ticks", &ten, &ticks, err) < 0)
		return -1;
	if (ticks < 1 || ticks > MEM_AHEAD_MAX)
		return hp_fail(err, HP_E_INVALID, "\"ticks\" must be within 1 and %d", MEM_AHEAD_MAX);
	if (!show && pause_or_resume(m, s, pause, principal, reason, err) < 0)
		return -1;
	row = row_of(m, s, ticks);
	if (show)
		json_object_set_new(row, "recent", recent(m, s));
	rc = hp_json_write(out, row, err);
	json_decref(row);
	return rc;
}

int mem_schedule_door(struct mem_store *m, const char *name, const char *principal, const json_t *args,
		      struct hp_buf *out, struct hp_error *err)
{
	static const char *const of_one[] = { "schedule", "schedule_pause", "schedule_resume", "schedule_run" };

	if (strcmp(name, "schedules") == 0)
		return list(m, args, out, err);
	if (strcmp(name, "schedules_due") == 0)
		return due(m, args, out, err);
	if (strcmp(name, "schedule_fire") == 0)
		return fire(m, args, out, err);
	for (size_t i = 0; i < sizeof of_one / sizeof *of_one; i++)
		if (strcmp(name, of_one[i]) == 0)
			return one(m, name, principal, args, out, err);
	return hp_fail(err, HP_E_NOT_FOUND, "the in-memory store has no door \"%s\"", name);
}
