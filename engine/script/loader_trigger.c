/* loader_trigger.c: what starts runs: webhooks and schedules.
 *
 * `trigger` is one of them or a list of both. A schedule's times are read here, so
 * a date that never comes is an error of loading; its zone is not looked up: a
 * definition loads the same on every machine (check and the engine look it up).
 */
#include <string.h>
#include "core/schedule.h"
#include "script/internal.h"

#define TRIGGERS_MAX 16

static void read_trigger(struct hp_reader *r, struct hp_trigger *t)
{
	static const char *const fields[] = {"events"};
	const char **events;
	int i;

	hp_mark(r->L, -1, HP_MARK_WEBHOOK);
	lua_getfield(r->L, -2, "line");
	t->line = r->line = (int)lua_tointeger(r->L, -1);
	lua_pop(r->L, 1);
	hp_r_only(r, -1, fields, 1, 1);
	if (lua_rawgeti(r->L, -1, 1) != LUA_TSTRING)
		hp_r_fail(r, "trigger: the source is missing, like webhook { \"stripe\", events = { … } }");
	t->source = hp_r_dup(r, lua_tostring(r->L, -1));
	lua_pop(r->L, 1);
	if (!hp_name_ok(t->source))
		hp_r_fail(r, "trigger: \"%s\" is not the name of a connector", t->source);
	t->n_events = hp_r_list(r, -1, "events", true, 16, &events);
	if (t->n_events == 0)
		hp_r_fail(r, "trigger: events is missing: the types of events that start a run");
	for (i = 0; i < t->n_events; i++)
		t->events[i] = events[i];
	lua_pop(r->L, 1);
}

/* ---- schedules ---- */

/* A word of a short list, as its place in it. */
static int word_of(const struct hp_reader *r, const char *field, int (*find)(const char *),
		   const char *const *all, int n)
{
	const char *word = hp_r_string(r, -1, field);
	int v = word ? find(word) : 0;

	if (v < 0)
		hp_r_fail(r, "%s: there is no \"%s\"%s", field, word, hp_r_hint(r, word, all, n));
	return v;
}

/* Constants only: nothing runs when a tick comes but what is written here. */
static const char *input_of(const struct hp_reader *r)
{
	struct hp_error err = {0};
	const char *kept;
	json_t *v;
	bool object, has_tick;

	if (!hp_r_get(r, -1, "input"))
		return "{}";
	v = hp_lua_to_json(r->L, -1); /* nothing below raises until it is given back */
	object = json_is_object(v);
	has_tick = json_object_get(v, "tick") != NULL;
	kept = hp_r_json(r, v, HP_INPUT_MAX, &err);
	lua_pop(r->L, 1);
	if (!object)
		hp_r_fail(r, "trigger: input must be a table with names, like { kind = \"full\" }");
	if (has_tick)
		hp_r_fail(r, "trigger: input: \"tick\" is the engine's own: the time of the tick");
	if (!kept)
		hp_r_fail(r, "trigger: input is too large, or no memory is left");
	return kept;
}

static void read_schedule(struct hp_reader *r, struct hp_schedule_trigger *t)
{
	static const char *const fields[] = {"cron", "zone", "jitter", "catch_up", "within", "overlap", "input"};
	static const char *const catch_up[] = {"none", "last", "all"};
	static const char *const overlap[] = {"skip", "queue", "allow", "cancel"};
	struct hp_error err = {0};
	struct hp_cron cron;

	hp_mark(r->L, -1, HP_MARK_SCHEDULE);
	lua_getfield(r->L, -2, "line");
	t->line = r->line = (int)lua_tointeger(r->L, -1);
	lua_pop(r->L, 1);
	hp_r_only(r, -1, fields, 7, 0);
	t->cron = hp_r_string(r, -1, "cron");
	if (!t->cron)
		hp_r_fail(r, "trigger: cron is missing, like schedule { cron = \"0 3 * * *\" }");
	if (hp_cron_parse(t->cron, &cron, &err) < 0)
		hp_r_fail(r, "trigger: cron: %s%s%s", err.message, err.hint[0] ? "; " : "", err.hint);
	t->zone = hp_r_string(r, -1, "zone");
	if (!t->zone)
		t->zone = "UTC";
	t->jitter_us = hp_r_duration(r, -1, "jitter", 0);
	t->catch_up = word_of(r, "catch_up", hp_catch_up_of, catch_up, 3);
	t->overlap = word_of(r, "overlap", hp_overlap_of, overlap, 4);
	t->within_us = hp_r_duration(r, -1, "within", t->catch_up == HP_CATCH_ALL ? HP_CATCH_ALL_WITHIN : 0);
	if (t->within_us > 0 && t->catch_up == HP_CATCH_NONE)
		hp_r_fail(r, "trigger: within says how old a tick may be that is caught up; catch_up = \"none\" has none");
	t->input = input_of(r);
	lua_pop(r->L, 1);
}

/* ---- the list ---- */

/* The marker is on top. */
static void read_one(struct hp_reader *r, struct hp_definition *d, int entry)
{
	if (hp_mark(r->L, -1, HP_MARK_WEBHOOK)) {
		lua_pop(r->L, 1);
		read_trigger(r, &d->triggers[d->n_triggers++]);
	} else if (hp_mark(r->L, -1, HP_MARK_SCHEDULE)) {
		lua_pop(r->L, 1);
		read_schedule(r, &d->schedules[d->n_schedules++]);
	} else {
		hp_r_fail(r, "trigger: entry %d must be webhook { … } or schedule { … }", entry);
	}
}

void hp_loader_triggers(const struct hp_reader *outer, struct hp_workflow *w, int body)
{
	struct hp_reader r = *outer;
	lua_State *L = r.L;
	struct hp_definition *d = &w->def;
	int n;

	if (!hp_r_get(&r, body, "trigger"))
		return;
	if (!lua_istable(L, -1))
		hp_r_fail(&r, "trigger must be webhook { … }, schedule { … } or a list of them");
	if (hp_mark(L, -1, HP_MARK_WEBHOOK) || hp_mark(L, -1, HP_MARK_SCHEDULE)) {
		lua_pop(L, 1);
		d->triggers = hp_r_alloc(&r, sizeof *d->triggers);
		d->schedules = hp_r_alloc(&r, sizeof *d->schedules);
		read_one(&r, d, 1);
		lua_pop(L, 1);
		return;
	}
	hp_r_only(&r, -1, NULL, 0, TRIGGERS_MAX);
	n = (int)lua_rawlen(L, -1);
	d->triggers = hp_r_alloc(&r, sizeof *d->triggers * (size_t)n);
	d->schedules = hp_r_alloc(&r, sizeof *d->schedules * (size_t)n);
	for (int i = 0; i < n; i++) {
		r.line = outer->line;
		lua_rawgeti(L, -1, i + 1);
		read_one(&r, d, i + 1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}
