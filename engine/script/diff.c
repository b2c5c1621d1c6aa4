/* diff.c: what a new version of a workflow changes, for people who deploy it.
 *
 * States are compared by their names, ways by label and target. What Lua functions do
 * cannot be compared; when nothing else changed the one sentence says so. Pure.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "script/internal.h"

struct diff {
	const struct hp_definition *a, *b;
	const struct hp_state *x, *y; /* the state that is compared: before, now */
	hp_change_fn fn;
	void *arg;
	int n;
};

static void say(struct diff *d, enum hp_change_what what, bool policy, const char *state, const char *fmt, ...)
	HP_PRINTF(5, 6);

static void say(struct diff *d, enum hp_change_what what, bool policy, const char *state, const char *fmt, ...)
{
	char text[512];
	struct hp_change c = { what, policy, state, text };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	d->n++;
	d->fn(d->arg, &c);
}

static void changed(struct diff *d, bool policy, const char *what, const char *from, const char *to)
{
	from = from && *from ? from : "none";
	to = to && *to ? to : "none";
	if (strcmp(from, to) != 0)
		say(d, HP_CHANGED, policy, d->y->name, "%s: %s → %s", what, from, to);
}

static void changed_time(struct diff *d, bool policy, const char *what, int64_t from, int64_t to)
{
	char a[32] = "none", b[32] = "none";

	if (from)
		hp_duration_format(from, a, sizeof a);
	if (to)
		hp_duration_format(to, b, sizeof b);
	changed(d, policy, what, a, b);
}

static void changed_flag(struct diff *d, bool policy, const char *what, bool from, bool to)
{
	changed(d, policy, what, from ? "yes" : "no", to ? "yes" : "no");
}

static const char *name_of(const struct hp_definition *d, int state)
{
	return state == HP_NO_STATE ? NULL : d->states[state].name;
}

/* ---- ways ---- */

struct ways {
	const struct hp_definition *d;
	struct hp_buf text; /* "label → target\n" each */
};

static void add_way(void *arg, int from, int to, const char *label, int line)
{
	struct ways *w = arg;

	(void)from;
	(void)line;
	hp_buf_printf(&w->text, "\"%s\" → \"%s\"\n", label, w->d->states[to].name);
}

static bool has_line(const char *text, const char *line, size_t n)
{
	for (; *text; text += strcspn(text, "\n") + 1)
		if (strcspn(text, "\n") == n && memcmp(text, line, n) == 0)
			return true;
	return false;
}

static void say_ways(struct diff *d, const char *have, const char *other, const char *verb)
{
	for (; *have; have += strcspn(have, "\n") + 1) {
		size_t n = strcspn(have, "\n");

		if (!has_line(other, have, n))
			say(d, HP_CHANGED, false, d->y->name, "way %.*s %s", (int)n, have, verb);
	}
}

static void diff_ways(struct diff *d)
{
	struct ways from = { .d = d->a }, to = { .d = d->b };

	hp_buf_init(&from.text, HP_BUNDLE_MAX);
	hp_buf_init(&to.text, HP_BUNDLE_MAX);
	hp_definition_edges(d->a, (int)(d->x - d->a->states), add_way, &from);
	hp_definition_edges(d->b, (int)(d->y - d->b->states), add_way, &to);
	say_ways(d, hp_buf_str(&from.text), hp_buf_str(&to.text), "removed");
	say_ways(d, hp_buf_str(&to.text), hp_buf_str(&from.text), "added");
	hp_buf_free(&from.text);
	hp_buf_free(&to.text);
}

/* ---- one state ---- */

static void diff_retry(struct diff *d)
{
	const struct hp_retry *a = &d->x->retry, *b = &d->y->retry;
	char from[16], to[16];

	(void)snprintf(from, sizeof from, "%d", a->attempts);
	(void)snprintf(to, sizeof to, "%d", b->attempts);
	changed(d, false, "attempts", from, to);
	changed_time(d, false, "first pause between attempts", a->base_us, b->base_us);
	changed_time(d, false, "longest pause between attempts", a->cap_us, b->cap_us);
	changed_time(d, false, "no attempt later than", a->total_us, b->total_us);
	changed_time(d, false, "timeout", d->x->timeout_us, d->y->timeout_us);
}

static void diff_call(struct diff *d)
{
	const struct hp_operation *a = &d->x->call.op, *b = &d->y->call.op;
	char from[2 * HP_NAME_MAX + 2], to[2 * HP_NAME_MAX + 2];

	(void)snprintf(from, sizeof from, "%s.%s", a->connector, a->name);
	(void)snprintf(to, sizeof to, "%s.%s", b->connector, b->name);
	changed(d, true, "operation", from, to);
	changed_flag(d, true, "destructive", a->destructive, b->destructive);
	changed_flag(d, true, "only reads", a->read, b->read);
	changed_flag(d, false, "business key", d->x->call.has_key, d->y->call.has_key);
	changed_flag(d, false, "probe", d->x->call.has_probe, d->y->call.has_probe);
	changed(d, true, "its request is signed in", name_of(d->a, d->x->call.signed_by), name_of(d->b, d->y->call.signed_by));
	diff_retry(d);
}

static void diff_approval(struct diff *d)
{
	changed(d, true, "approvers", d->x->approval.approvers, d->y->approval.approvers);
	changed(d, true, "asks", d->x->approval.has_when ? "on a condition" : "always",
		d->y->approval.has_when ? "on a condition" : "always");
	changed(d, true, "signs the request of", name_of(d->a, d->x->approval.of), name_of(d->b, d->y->approval.of));
	changed_time(d, false, "deadline", d->x->approval.deadline_us, d->y->approval.deadline_us);
}

static void diff_await(struct diff *d)
{
	struct hp_buf from, to;

	hp_buf_init(&from, 4096);
	hp_buf_init(&to, 4096);
	for (int i = 0; i < d->x->await.n_events; i++)
		hp_buf_printf(&from, "%s%s", i ? ", " : "", d->x->await.events[i]);
	for (int i = 0; i < d->y->await.n_events; i++)
		hp_buf_printf(&to, "%s%s", i ? ", " : "", d->y->await.events[i]);
	changed(d, false, "events", hp_buf_str(&from), hp_buf_str(&to));
	changed_time(d, false, "within", d->x->await.within_us, d->y->await.within_us);
	hp_buf_free(&from);
	hp_buf_free(&to);
}

static void diff_sql(struct diff *d)
{
	if (strcmp(d->x->sql.text, d->y->sql.text) != 0)
		say(d, HP_CHANGED, false, d->y->name, "another statement");
	changed(d, true, "runs as", d->x->sql.as_user ? "user" : "service", d->y->sql.as_user ? "user" : "service");
	diff_retry(d);
}

static void diff_state(struct diff *d)
{
	changed(d, true, "kind", hp_kind_name(d->x->kind), hp_kind_name(d->y->kind));
	if (d->x->kind == d->y->kind) {
		if (d->y->kind == HP_CALL)
			diff_call(d);
		else if (d->y->kind == HP_APPROVAL)
			diff_approval(d);
		else if (d->y->kind == HP_AWAIT)
			diff_await(d);
		else if (d->y->kind == HP_SQL)
			diff_sql(d);
		else if (d->y->kind == HP_WAIT)
			changed_time(d, false, "for", d->x->wait.for_us, d->y->wait.for_us);
		else if (d->y->kind == HP_FAIL)
			changed(d, false, "code", d->x->fail.code, d->y->fail.code);
	}
	changed(d, false, "saves", d->x->save, d->y->save);
	diff_ways(d);
}

static bool is_destructive(const struct hp_state *s)
{
	return s->kind == HP_CALL && s->call.op.destructive;
}

/* ---- the whole ---- */

static bool same_trigger(const struct hp_trigger *a, const struct hp_trigger *b)
{
	bool same = strcmp(a->source, b->source) == 0 && a->n_events == b->n_events;

	for (int i = 0; same && i < a->n_events; i++)
		same = strcmp(a->events[i], b->events[i]) == 0;
	return same;
}

static void diff_triggers(struct diff *d, const struct hp_definition *have, const struct hp_definition *other,
			  enum hp_change_what what)
{
	for (int i = 0; i < have->n_triggers; i++) {
		bool found = false;

		for (int k = 0; k < other->n_triggers; k++)
			found = found || same_trigger(&have->triggers[i], &other->triggers[k]);
		if (!found)
			say(d, what, false, NULL, "webhook of %s with %d event%s, the first %s", have->triggers[i].source,
			    have->triggers[i].n_events, have->triggers[i].n_events == 1 ? "" : "s",
			    have->triggers[i].n_events ? have->triggers[i].events[0] : "any");
	}
}

static bool same_schedule(const struct hp_schedule_trigger *a, const struct hp_schedule_trigger *b)
{
	return strcmp(a->cron, b->cron) == 0 && strcmp(a->zone, b->zone) == 0 && a->jitter_us == b->jitter_us &&
	       a->within_us == b->within_us && a->catch_up == b->catch_up && a->overlap == b->overlap &&
	       strcmp(a->input, b->input) == 0;
}

static void diff_schedules(struct diff *d)
{
	for (int i = 0; i < d->a->n_schedules || i < d->b->n_schedules; i++) {
		const struct hp_schedule_trigger *x = i < d->a->n_schedules ? &d->a->schedules[i] : NULL;
		const struct hp_schedule_trigger *y = i < d->b->n_schedules ? &d->b->schedules[i] : NULL;

		if (x && y && !same_schedule(x, y))
			say(d, HP_CHANGED, false, NULL, "schedule \"%s\" in %s → \"%s\" in %s, or what comes with it", x->cron,
			    x->zone, y->cron, y->zone);
		else if (!x)
			say(d, HP_ADDED, false, NULL, "schedule \"%s\" in %s", y->cron, y->zone);
		else if (!y)
			say(d, HP_REMOVED, false, NULL, "schedule \"%s\" in %s", x->cron, x->zone);
	}
}

static void diff_whole(struct diff *d)
{
	if (strcmp(d->a->states[0].name, d->b->states[0].name) != 0)
		say(d, HP_CHANGED, true, NULL, "starts in \"%s\" → \"%s\"", d->a->states[0].name, d->b->states[0].name);
	if (d->a->retention_us != d->b->retention_us) {
		char from[32] = "for ever", to[32] = "for ever";

		if (d->a->retention_us)
			hp_duration_format(d->a->retention_us, from, sizeof from);
		if (d->b->retention_us)
			hp_duration_format(d->b->retention_us, to, sizeof to);
		say(d, HP_CHANGED, true, NULL, "retention, also of runs that are over: %s → %s", from, to);
	}
	if (d->a->has_key != d->b->has_key)
		say(d, HP_CHANGED, false, NULL, "key of runs: %s → %s", d->a->has_key ? "yes" : "no", d->b->has_key ? "yes" : "no");
	diff_triggers(d, d->a, d->b, HP_REMOVED);
	diff_triggers(d, d->b, d->a, HP_ADDED);
	diff_schedules(d);
}

void hp_definition_diff(const struct hp_definition *from, const struct hp_definition *to, hp_change_fn fn, void *arg)
{
	struct diff d = { .a = from, .b = to, .fn = fn, .arg = arg };

	diff_whole(&d);
	for (int i = 0; i < to->n_states; i++) {
		int old = hp_definition_find(from, to->states[i].name);

		d.y = &to->states[i];
		d.x = old == HP_NO_STATE ? NULL : &from->states[old];
		if (d.x)
			diff_state(&d);
		else
			say(&d, HP_ADDED, is_destructive(d.y) || d.y->kind == HP_APPROVAL, d.y->name, "%s%s",
			    is_destructive(d.y) ? "destructive " : "", hp_kind_name(d.y->kind));
	}
	for (int i = 0; i < from->n_states; i++) {
		const struct hp_state *s = &from->states[i];

		if (hp_definition_find(to, s->name) == HP_NO_STATE)
			say(&d, HP_REMOVED, is_destructive(s) || s->kind == HP_APPROVAL, s->name, "%s%s",
			    is_destructive(s) ? "destructive " : "", hp_kind_name(s->kind));
	}
	if (d.n == 0 && memcmp(from->digest, to->digest, HP_SHA256_LEN) != 0)
		say(&d, HP_CHANGED, false, NULL, "only expressions, texts or connectors");
}
