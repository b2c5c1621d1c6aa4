/* worker_schedule.c: starts what schedules have due; every engine does it, none leads.
 *
 *   look: schedules_due ─▶ core/schedule.c plans each ─▶ schedule_fire ─▶ look again
 *
 * The answer says when the next tick is due, and the look comes then; besides, every
 * SCHEDULE_POLL, for what was deployed or resumed meanwhile. Which engine wins a tick
 * is decided by the store; the others are told it was taken.
 */
#include "runtime/worker_private.h"

#include <string.h>
#include "base/json.h"
#include "core/schedule.h"
#include "script/zone.h"

#define SCHEDULE_POLL (10 * HP_SECOND)
#define SCHEDULE_SOON HP_SECOND /* after a failure, or when another engine was first */
#define ZONE_ARENA_MAX ((size_t)512 * 1024)

static void look_at(struct hp_worker *w, int64_t boot)
{
	if (boot < w->schedules.at)
		w->schedules.at = boot;
}

/* ---- firing ---- */

/* When all are answered: more may be due, and what is next has changed. */
static void one_answered(struct hp_worker *w)
{
	if (--w->schedules.open > 0)
		return;
	look_at(w, hp_w_boot(w) + (w->schedules.soon ? SCHEDULE_SOON : 0));
	hp_w_again(w);
}

static void on_fired(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_worker *w = arg;
	json_t *answer;
	const char *outcome;
	size_t runs;

	if (hp_w_closed(w))
		return;
	answer = err ? NULL : hp_json_parse(json.p, json.n, "schedule_fire", NULL);
	outcome = hp_json_str(answer, "outcome");
	runs = json_array_size(json_object_get(answer, "runs"));
	if (err)
		hp_log_error(HP_WARN, "a schedule's tick could not be written", err);
	if (!outcome || strcmp(outcome, "done") != 0)
		w->schedules.soon = true;
	*w->n_ticks += runs;
	if (runs > 0) {
		HP_CRASH_POINT(TICK_STORED);
		hp_worker_hint(w);
	}
	json_decref(answer);
	one_answered(w);
}

/* All of them, or NULL: a tick that was left out would never come. */
static json_t *numbers(const int64_t *v, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		if (json_array_append_new(list, json_integer(v[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static int fire(struct hp_worker *w, const json_t *row, const struct hp_schedule_plan *p, struct hp_error *err)
{
	json_t *args = json_pack("{s:O, s:O, s:O, s:o, s:I, s:I, s:I, s:I, s:o}", "workflow",
				 json_object_get(row, "workflow"), "index", json_object_get(row, "index"), "version",
				 json_object_get(row, "version"), "start", numbers(p->start, p->n_start), "skipped",
				 (json_int_t)p->skipped, "missed_until", (json_int_t)p->missed_until, "position",
				 (json_int_t)p->position, "look", (json_int_t)p->look, "ahead",
				 numbers(p->ahead, p->n_ahead));
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, 16 * 1024);
	if (!args) {
		hp_fail(err, HP_E_NOMEM, "no memory for a tick");
		goto out;
	}
	rc = hp_json_write(&text, args, err);
	if (rc < 0)
		goto out;
	if (p->skipped > 0)
		hp_log(HP_WARN, "ticks of a schedule are skipped", "schedule", HP_STR(hp_json_str(row, "schedule")),
		       "ticks", HP_I64(p->skipped), NULL);
	if (p->n_start > 0)
		HP_CRASH_POINT(TICK_BEFORE);
	*w->n_ticks_missed += (uint64_t)p->skipped;
	w->schedules.open++;
	w->o.store->ops->door(w->o.store, "schedule_fire", "engine", hp_buf_bytes(&text), on_fired, w);
out:
	hp_buf_free(&text);
	json_decref(args);
	return rc;
}

/* ---- planning ---- */

static int read_spec(const json_t *row, struct hp_arena *a, struct hp_schedule *s, struct hp_zone *zone,
		     struct hp_error *err)
{
	const json_t *spec = json_object_get(row, "spec");
	const char *cron = hp_json_str(spec, "cron"), *name = hp_json_str(spec, "zone");
	int catch_up = hp_catch_up_of(hp_json_str(spec, "catch_up")), overlap = hp_overlap_of(hp_json_str(spec, "overlap"));

	s->name = hp_json_str(row, "schedule");
	if (!s->name || !cron || !name || catch_up < 0 || overlap < 0)
		return hp_fail(err, HP_E_INTERNAL, "the store's schedule is incomplete");
	s->zone = zone;
	s->jitter = hp_json_int(spec, "jitter_us", 0);
	s->within = hp_json_int(spec, "within_us", 0);
	s->catch_up = (enum hp_catch_up)catch_up;
	s->overlap = (enum hp_overlap)overlap;
	if (hp_cron_parse(cron, &s->cron, err) < 0)
		return -1;
	return hp_zone_load(name, a, zone, err);
}

static int plan_one(struct hp_worker *w, const json_t *row, int64_t now, struct hp_error *err)
{
	struct hp_arena *a = hp_arena_new(ZONE_ARENA_MAX);
	struct hp_schedule s = {0};
	struct hp_schedule_plan plan;
	struct hp_zone zone;
	int rc = -1;

	if (!a) {
		hp_fail(err, HP_E_NOMEM, "no memory for a time zone");
		goto out;
	}
	if (read_spec(row, a, &s, &zone, err) < 0)
		goto out;
	hp_schedule_plan(&s, hp_json_int(row, "position", now), now, hp_json_bool(row, "busy", 0) != 0,
			 hp_json_int(row, "idle_since", 0), &plan);
	rc = fire(w, row, &plan, err);
out:
	hp_arena_free(a);
	return rc;
}

static void on_due(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_worker *w = arg;
	struct hp_error why = {0};
	json_t *answer, *row;
	int64_t now, next;
	size_t i;

	if (hp_w_closed(w))
		return;
	w->schedules.asking = false;
	answer = err ? NULL : hp_json_parse(json.p, json.n, "schedules_due", &why);
	look_at(w, hp_w_boot(w) + (answer ? SCHEDULE_POLL : SCHEDULE_SOON));
	if (!answer) {
		hp_log_error(HP_WARN, "schedules could not be looked at", err ? err : &why);
		return;
	}
	now = hp_json_int(answer, "now", 0);
	next = hp_json_int(answer, "next", 0);
	if (next > 0)
		look_at(w, hp_w_boot(w) + (next > now ? next - now : 0));
	w->schedules.soon = false;
	w->schedules.open = 1; /* this loop's own: answers never come from inside the call */
	json_array_foreach(json_object_get(answer, "schedules"), i, row) {
		if (w->life != HP_LIFE_WORKING || plan_one(w, row, now, &why) == 0)
			continue;
		hp_error_prefix(&why, "schedule %s", hp_json_str(row, "schedule"));
		hp_log_error(HP_ERROR, "a schedule cannot be followed here", &why);
		w->schedules.soon = true;
	}
	if (i > 0)
		one_answered(w);
	else
		w->schedules.open = 0;
	json_decref(answer);
}

bool hp_w_schedules_busy(const struct hp_worker *w)
{
	return w->schedules.asking || w->schedules.open > 0;
}

int64_t hp_w_schedules_at(const struct hp_worker *w)
{
	return hp_w_schedules_busy(w) ? INT64_MAX : w->schedules.at;
}

void hp_worker_schedules_hint(struct hp_worker *w)
{
	look_at(w, hp_w_boot(w));
	hp_w_again(w);
}

void hp_w_schedules_look(struct hp_worker *w)
{
	if (w->life != HP_LIFE_WORKING || hp_w_boot(w) < hp_w_schedules_at(w))
		return;
	w->schedules.asking = true;
	w->schedules.at = INT64_MAX;
	w->o.store->ops->door(w->o.store, "schedules_due", "engine", hp_bytes_of("{\"limit\":20}"), on_due, w);
}
