/* diff.c: what a new version of a workflow changes, for people who deploy it.
 *
 * States are compared by their names, ways by label and target. What Lua functions do
 * cannot be compared; when nothing else changed the one sentence says so. Pure.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "script/internal.h"

struct diff {
	const struct hp_workflow *from, *to;
	const struct hp_definition *a, *b; /* theirs */
	const struct hp_state *x, *y; /* the state that is compared: before, now; NULL: the workflow itself */
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
		say(d, HP_CHANGED, policy, d->y ? d->y->name : NULL, "%s: %s → %s", what, from, to);
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

/* What fn makes of both. s: the state, NULL: none. */
typedef void (*text_fn)(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out);

static void compared(struct diff *d, bool policy, const char *what, text_fn fn)
{
	struct hp_buf from, to;

	hp_buf_init(&from, HP_BUNDLE_MAX);
	hp_buf_init(&to, HP_BUNDLE_MAX);
	fn(d->from, d->x, &from);
	fn(d->to, d->y, &to);
	changed(d, policy, what, hp_buf_str(&from), hp_buf_str(&to));
	hp_buf_free(&from);
	hp_buf_free(&to);
}

/* A statement is too long to be shown. */
static void changed_text(struct diff *d, bool policy, const char *what, const char *from, const char *to)
{
	if (strcmp(from ? from : "", to ? to : "") != 0)
		say(d, HP_CHANGED, policy, d->y ? d->y->name : NULL, "another %s", what);
}

static void changed_number(struct diff *d, bool policy, const char *what, int64_t from, int64_t to)
{
	char a[24], b[24];

	(void)snprintf(a, sizeof a, "%" PRId64, from);
	(void)snprintf(b, sizeof b, "%" PRId64, to);
	changed(d, policy, what, from ? a : NULL, to ? b : NULL);
}

static void add_time(struct hp_buf *out, const char *word, int64_t us)
{
	char text[32];

	hp_duration_format(us, text, sizeof text);
	hp_buf_printf(out, "%s%s", word, text);
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

static void operation_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)w;
	if (hp_state_calls(s))
		hp_buf_printf(out, "%s.%s", s->call.op.connector, s->call.op.name);
}

static void add_rate(struct hp_buf *out, const struct hp_rate *r)
{
	hp_buf_printf(out, "%" PRId64, r->max);
	add_time(out, " every ", r->per_us);
	hp_buf_printf(out, ", at most %" PRId64 " at once", r->burst);
}

static const struct hp_extra *extra_of(const struct hp_workflow *w, const struct hp_state *s)
{
	return &w->extra[s - w->def.states];
}

static void budget_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	const struct hp_call_limits *l = &extra_of(w, s)->limits;

	if (l->budget)
		hp_buf_printf(out, "%s, %s", l->budget,
			      l->parks ? "waits" : s->call.over_budget == HP_NO_STATE ? "fails" : "goes on elsewhere");
}

static void call_rate_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	if (extra_of(w, s)->limits.rate.max)
		add_rate(out, &extra_of(w, s)->limits.rate);
}

/* Which secrets come in, and what becomes of versions. */
static void secrets_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	const struct hp_extra *x = extra_of(w, s);

	for (int i = 0; i < x->n_secrets; i++)
		hp_buf_printf(out, "%ssave %s", out->n ? ", " : "", x->secrets[i].name);
	for (int i = 0; i < x->n_secret_ops; i++)
		hp_buf_printf(out, "%s%s %s", out->n ? ", " : "", x->secret_ops[i].op, x->secret_ops[i].name);
}

static void diff_call(struct diff *d)
{
	const struct hp_operation *a = &d->x->call.op, *b = &d->y->call.op;

	compared(d, true, "operation", operation_text);
	changed_flag(d, true, "destructive", a->destructive, b->destructive);
	changed_flag(d, true, "only reads", a->read, b->read);
	changed_flag(d, false, "business key", d->x->call.has_key, d->y->call.has_key);
	changed_flag(d, false, "probe", d->x->call.has_probe, d->y->call.has_probe);
	changed(d, true, "its request is signed in", name_of(d->a, d->x->call.signed_by), name_of(d->b, d->y->call.signed_by));
	compared(d, true, "budget", budget_text);
	compared(d, false, "rate", call_rate_text);
	changed_number(d, false, "concurrency", extra_of(d->from, d->x)->limits.slots, extra_of(d->to, d->y)->limits.slots);
}

static void reminders_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)w;
	for (int i = 0; i < s->approval.n_reminders; i++)
		add_time(out, i ? ", " : "", s->approval.reminders_us[i]);
}

static void evidence_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	const struct hp_extra *x = extra_of(w, s);

	for (int i = 0; i < x->n_evidence; i++)
		hp_buf_printf(out, "%s%s", i ? ", " : "", x->evidence[i]);
}

static void diff_approval(struct diff *d)
{
	changed(d, true, "approvers", d->x->approval.approvers, d->y->approval.approvers);
	changed(d, true, "asks", d->x->approval.has_when ? "on a condition" : "always",
		d->y->approval.has_when ? "on a condition" : "always");
	changed(d, true, "signs the request of", name_of(d->a, d->x->approval.of), name_of(d->b, d->y->approval.of));
	changed_time(d, false, "deadline", d->x->approval.deadline_us, d->y->approval.deadline_us);
	compared(d, false, "reminders", reminders_text);
	compared(d, false, "shows", evidence_text);
}

static void events_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)w;
	for (int i = 0; i < s->await.n_events; i++)
		hp_buf_printf(out, "%s%s", i ? ", " : "", s->await.events[i]);
}

static const char *mode_of(const struct hp_state *s)
{
	return s->sql.mode == HP_SQL_EXEC ? "exec" : s->sql.mode == HP_SQL_ONE ? "one" : "many";
}

static void diff_sql(struct diff *d)
{
	changed_text(d, false, "statement", d->x->sql.text, d->y->sql.text);
	changed(d, true, "runs as", d->x->sql.as_user ? "user" : "service", d->y->sql.as_user ? "user" : "service");
	if (d->y->kind == HP_SQL)
		changed(d, false, "mode", mode_of(d->x), mode_of(d->y));
}

static void diff_sweep(struct diff *d)
{
	const struct hp_state *x = d->x, *y = d->y;

	diff_call(d);
	diff_sql(d);
	changed_text(d, false, "statement for its rows", x->sweep.rows, y->sweep.rows);
	changed_text(d, false, "statement for their number", x->sweep.total, y->sweep.total);
	changed(d, false, "cursor", x->sweep.cursor, y->sweep.cursor);
	changed(d, false, "begins after", x->sweep.first, y->sweep.first);
	changed_number(d, false, "rows of a page", x->sweep.batch, y->sweep.batch);
	changed_number(d, false, "rows in a second", x->sweep.per_second, y->sweep.per_second);
	changed_number(d, false, "bytes a standby may be behind", x->sweep.lag_max, y->sweep.lag_max);
	changed_number(d, false, "rows that may fail", x->sweep.tolerate, y->sweep.tolerate);
	changed_flag(d, true, "has a dry run", x->sweep.has_dry_run, y->sweep.has_dry_run);
}

static void join_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)w;
	if (s->children.need > 0)
		hp_buf_printf(out, "%" PRId64 " must succeed", s->children.need);
	else if (s->children.percent >= 0)
		hp_buf_printf(out, "all, %d%% may fail", s->children.percent);
	else
		hp_buf_printf(out, "all, %" PRId64 " may fail", s->children.tolerate);
}

static void diff_children(struct diff *d)
{
	const struct hp_state *x = d->x, *y = d->y;

	changed(d, true, "starts", x->children.workflow, y->children.workflow);
	diff_sql(d);
	changed(d, false, "cursor", x->children.cursor, y->children.cursor);
	changed_number(d, false, "at once", x->children.concurrency, y->children.concurrency);
	compared(d, false, "join", join_text);
	changed_time(d, false, "within", x->children.within_us, y->children.within_us);
}

static void undo_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	const struct hp_operation *op = hp_state_harm(&w->def, s, true);

	if (op)
		hp_buf_adds(out, "destructive ");
	if (s->has_undo && !s->undo)
		hp_buf_adds(out, "by hand");
	else if (s->undo && w->def.states[s->undo].kind == HP_SQL)
		hp_buf_adds(out, "a statement");
	else if (s->undo)
		operation_text(w, &w->def.states[s->undo], out);
}

static const char *undo_statement(const struct hp_definition *d, const struct hp_state *s)
{
	return s->undo ? d->states[s->undo].sql.text : NULL;
}

static void diff_undo(struct diff *d)
{
	const char *from = undo_statement(d->a, d->x), *to = undo_statement(d->b, d->y);

	compared(d, true, "undo", undo_text);
	if (from && to)
		changed_text(d, true, "statement of its undo", from, to);
}

static void arms_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)w;
	for (int i = 0; i < s->n_arms; i++) {
		const struct hp_arm *arm = &s->arms[i];

		hp_buf_printf(out, "%s%s: %s", i ? "; " : "", arm->name, hp_arm_kind_name(arm->kind));
		if (arm->kind == HP_ARM_EVENT)
			hp_buf_printf(out, " %s", arm->event);
		if (arm->after_us)
			add_time(out, " after ", arm->after_us);
		if (arm->kind != HP_ARM_CHECK)
			continue;
		hp_buf_printf(out, " %s.%s", arm->op.connector, arm->op.name);
		add_time(out, " every ", arm->every_us);
		add_time(out, ", timeout ", arm->timeout_us);
		if (arm->failures)
			hp_buf_printf(out, ", %d failures", arm->failures);
	}
}

static void diff_kind(struct diff *d)
{
	switch (d->y->kind) {
	case HP_CALL:
		diff_call(d);
		break;
	case HP_SQL:
		diff_sql(d);
		break;
	case HP_SWEEP:
		diff_sweep(d);
		break;
	case HP_RUN:
	case HP_EACH:
		diff_children(d);
		break;
	case HP_APPROVAL:
		diff_approval(d);
		break;
	case HP_AWAIT:
		compared(d, false, "events", events_text);
		changed_time(d, false, "within", d->x->await.within_us, d->y->await.within_us);
		break;
	case HP_WAIT:
		changed_time(d, false, "for", d->x->wait.for_us, d->y->wait.for_us);
		break;
	case HP_FAIL:
		changed(d, false, "code", d->x->fail.code, d->y->fail.code);
		changed_flag(d, true, "undoes what was done", d->x->fail.undo, d->y->fail.undo);
		break;
	case HP_CHOOSE:
	case HP_SUCCEED:
		break; /* their ways say it */
	}
	diff_retry(d);
}

static void diff_state(struct diff *d)
{
	changed(d, true, "kind", hp_kind_name(d->x->kind), hp_kind_name(d->y->kind));
	if (d->x->kind == d->y->kind)
		diff_kind(d);
	diff_undo(d);
	compared(d, true, "secrets", secrets_text);
	compared(d, false, "on", arms_text);
	changed(d, false, "saves", d->x->save, d->y->save);
	diff_ways(d);
}

/* A state that is there or not: what it may do is read twice. What children do is not known here. */
static void say_state(struct diff *d, enum hp_change_what what, const struct hp_definition *def, const struct hp_state *s)
{
	bool own = hp_state_harm(def, s, false) != NULL, undo = hp_state_harm(def, s, true) != NULL;
	bool children = s->kind == HP_RUN || s->kind == HP_EACH;

	say(d, what, own || undo || children || s->kind == HP_APPROVAL, s->name, "%s%s%s%s%s", own ? "destructive " : "",
	    hp_kind_name(s->kind), children ? " of " : "", children ? s->children.workflow : "",
	    undo ? ", with a destructive undo" : "");
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

/* ---- limits ---- */

static void exclusive_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)s;
	if (w->limits.exclusive)
		hp_buf_printf(out, "%s, the next %s", w->limits.exclusive, w->limits.skip ? "joins" : "waits");
}

static void concurrency_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)s;
	if (w->limits.slots)
		hp_buf_printf(out, "%" PRId64 "%s%s", w->limits.slots, w->limits.slots_per ? " per " : "",
			      w->limits.slots_per ? w->limits.slots_per : "");
}

static void rate_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)s;
	if (!w->limits.rate.max)
		return;
	add_rate(out, &w->limits.rate);
	hp_buf_printf(out, "%s%s", w->limits.rate_per ? " per " : "", w->limits.rate_per ? w->limits.rate_per : "");
}

static void priority_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)s;
	if (w->limits.priority_text)
		hp_buf_adds(out, w->limits.priority_text);
	else if (w->limits.has_priority)
		hp_buf_printf(out, "%d", w->limits.priority);
}

static void budgets_text(const struct hp_workflow *w, const struct hp_state *s, struct hp_buf *out)
{
	(void)s;
	for (int i = 0; i < w->n_budgets; i++) {
		const struct hp_budget *b = &w->budgets[i];

		hp_buf_printf(out, "%s%s %" PRId64, i ? ", " : "", b->name, b->max);
		add_time(out, b->bucket ? " refilled in " : " in ", b->per_us);
	}
}

/* Too long to be shown. */
static void diff_input(struct diff *d)
{
	struct hp_buf from, to;

	hp_buf_init(&from, HP_BUNDLE_MAX);
	hp_buf_init(&to, HP_BUNDLE_MAX);
	if ((!d->from->input || hp_schema_json(d->from->input, &from) == 0) &&
	    (!d->to->input || hp_schema_json(d->to->input, &to) == 0))
		changed_text(d, false, "shape of the input", hp_buf_str(&from), hp_buf_str(&to));
	hp_buf_free(&from);
	hp_buf_free(&to);
}

static void diff_limits(struct diff *d)
{
	compared(d, false, "exclusive", exclusive_text);
	compared(d, false, "concurrency", concurrency_text);
	compared(d, false, "rate", rate_text);
	changed(d, false, "fair", d->from->limits.fair, d->to->limits.fair);
	compared(d, false, "priority", priority_text);
	compared(d, true, "budgets", budgets_text);
	diff_input(d);
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
	changed(d, true, "a cancel", d->a->cancel_undoes ? "undoes what was done" : "stops",
		d->b->cancel_undoes ? "undoes what was done" : "stops");
	diff_limits(d);
	diff_triggers(d, d->a, d->b, HP_REMOVED);
	diff_triggers(d, d->b, d->a, HP_ADDED);
	diff_schedules(d);
}

void hp_workflow_diff(const struct hp_workflow *from, const struct hp_workflow *to, hp_change_fn fn, void *arg)
{
	struct diff d = { .from = from, .to = to, .a = &from->def, .b = &to->def, .fn = fn, .arg = arg };

	diff_whole(&d);
	for (int i = 0; i < d.b->n_states; i++) {
		int old = hp_definition_find(d.a, d.b->states[i].name);

		d.y = &d.b->states[i];
		d.x = old == HP_NO_STATE ? NULL : &d.a->states[old];
		if (d.x)
			diff_state(&d);
		else
			say_state(&d, HP_ADDED, d.b, d.y);
	}
	for (int i = 0; i < d.a->n_states; i++)
		if (hp_definition_find(d.b, d.a->states[i].name) == HP_NO_STATE)
			say_state(&d, HP_REMOVED, d.a, &d.a->states[i]);
	if (d.n == 0 && memcmp(d.a->digest, d.b->digest, HP_SHA256_LEN) != 0)
		say(&d, HP_CHANGED, false, NULL, "only expressions, texts or connectors");
}
