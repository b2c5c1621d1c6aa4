/* check.c: what an author should know before deploying.
 *
 * One function per lint over one state; roads through the graph are walked in
 * check_road.c. `fatal` refuses deployment: the workflow cannot do what it says.
 * The others are warnings: it can, but a run may stop where nobody expects it.
 * What makes a file unreadable (unknown names, wrong types) is no lint but an
 * error of loading; hp_finding_of_error() gives it the same shape.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/words.h"
#include "core/schedule.h"
#include "script/check.h"
#include "script/zone.h"

void hp_c_report(struct hp_checking *c, const char *lint, bool fatal, int state, int line, const char *fmt, ...)
{
	struct hp_finding f = {.lint = lint, .file = c->w->def.file, .line = line, .fatal = fatal};
	size_t used = 0;
	va_list ap;

	if (state != HP_NO_STATE) {
		f.state = c->w->def.states[state].name;
		used = (size_t)snprintf(f.sentence, sizeof f.sentence, "state \"%s\": ", f.state);
	}
	va_start(ap, fmt);
	vsnprintf(f.sentence + used, sizeof f.sentence - used, fmt, ap);
	va_end(ap);
	c->fatal += fatal;
	if (c->fn)
		c->fn(c->arg, &f);
}

static bool catches(const struct hp_state *s, const char *match)
{
	int i;

	for (i = 0; i < s->n_catches; i++)
		if (!s->catches[i].match || strcmp(s->catches[i].match, match) == 0)
			return true;
	return false;
}

/* ---- one state ---- */

static void missing_way(struct hp_checking *c, int i, const struct hp_state *s)
{
	if (s->next == HP_NO_STATE && s->kind != HP_SUCCEED && s->kind != HP_FAIL && s->kind != HP_CHOOSE)
		hp_c_report(c, "missing_way", true, i, s->line,
			    "it is the last state and has no next, so a run could only be held here; "
			    "end with succeed or fail, or name the next state");
}

static void effect_without_way_out(struct hp_checking *c, int i, const struct hp_state *s)
{
	if (hp_state_calls(s) && !s->call.op.read && s->n_catches == 0)
		hp_c_report(c, "effect_without_way_out", false, i, s->line,
			    "%s.%s can fail for good and nothing catches that; the run would be held for an operator",
			    s->call.op.connector, s->call.op.name);
}

static void doubt_without_probe(struct hp_checking *c, int i, const struct hp_state *s)
{
	if (s->kind == HP_CALL && s->call.op.repeat == HP_REPEAT_NEVER && !s->call.has_probe &&
	    !catches(s, "in_doubt") && !catches(s, "ambiguous"))
		hp_c_report(c, "doubt_without_probe", false, i, s->line,
			    "%s.%s must not be repeated and has no probe; when a reply is lost the run is in doubt and "
			    "would be held",
			    s->call.op.connector, s->call.op.name);
}

static void approval_ways(struct hp_checking *c, int i, const struct hp_state *s)
{
	if (s->kind != HP_APPROVAL)
		return;
	if (s->approval.deadline_us == 0)
		hp_c_report(c, "approval_without_deadline", true, i, s->line,
			    "the approval has no deadline, so it could wait for ever; write one, like deadline = \"4h\"");
	if (s->approval.rejected == HP_NO_STATE)
		hp_c_report(c, "approval_without_rejected", false, i, s->line,
			    "no way is declared for a rejected approval; the run would be held for an operator");
	if (s->approval.expired == HP_NO_STATE)
		hp_c_report(c, "approval_without_expired", false, i, s->line,
			    "no way is declared for an expired approval; the run would be held for an operator");
}

/* What keeps a sweep from passing every row once can be seen in its text. */
static void sweep_rows(struct hp_checking *c, int i, const struct hp_state *s)
{
	if (s->kind != HP_SWEEP)
		return;
	if (!strstr(s->sweep.rows, "$1") || !strstr(s->sweep.rows, "$2"))
		hp_c_report(c, "sweep_without_page", true, i, s->line,
			    "rows must look after the key $1 and take $2 rows, like: select … where id > $1 order by id limit $2");
	else if (!strcasestr(s->sweep.rows, "order by"))
		hp_c_report(c, "sweep_without_order", true, i, s->line,
			    "rows has no `order by`: pages would miss rows; order by \"%s\", ascending", s->sweep.cursor);
	if (!strstr(s->sql.text, "$1"))
		hp_c_report(c, "sweep_ignores_rows", true, i, s->line, "exec does not use $1, the %s",
			    s->sweep.has_call ? "row" : "rows of the page");
	if (s->sweep.has_dry_run && !s->sweep.total)
		hp_c_report(c, "dry_run_without_total", false, i, s->line,
			    "a dry run shows one page; with `total`, a statement that counts, it also says how many rows there are");
}

/* Codes that come from the engine, whatever the operation. */
static const char *const engine_codes[] = {
	"unreachable", "timeout", "connection_lost", "reply_error", "in_doubt", "over_budget", "retryable", "terminal", "ambiguous",
	"needs_person", "script_error", "key_invalid", "request_invalid", "signed_request_missing",
	"signed_request_damaged", "too_large", "unavailable", "forbidden", "io", "plugin_refused", "plugin_crashed",
	"plugin_busy", "no_such_activity", "response_too_large", "address_refused", "request_refused", "secret_missing",
	"secret_not_stored", "no_secrets_key", "out_of_memory",
};
#define ENGINE_CODES (sizeof engine_codes / sizeof *engine_codes)

static bool known_code(const struct hp_op *op, const char *code)
{
	size_t k;
	int i;

	for (k = 0; k < ENGINE_CODES; k++)
		if (strcmp(engine_codes[k], code) == 0)
			return true;
	for (i = 0; i < op->n_errors; i++)
		if (strcmp(op->errors[i], code) == 0)
			return true;
	return strncmp(code, "http_", 5) == 0;
}

static void unknown_code(struct hp_checking *c, int i, const struct hp_state *s)
{
	const struct hp_op *op = c->w->extra[i].op;
	const char *all[ENGINE_CODES + HP_WORDS_MAX];
	int k;

	if (s->kind != HP_CALL || op->n_errors == 0) /* a sweep's has codes of PostgreSQL, too */
		return;
	memcpy(all, engine_codes, sizeof engine_codes);
	memcpy(all + ENGINE_CODES, op->errors, sizeof *all * (size_t)op->n_errors);
	for (k = 0; k < s->n_catches; k++) {
		const char *code = s->catches[k].match, *near;

		if (!code || known_code(op, code))
			continue;
		near = hp_nearest(code, all, ENGINE_CODES + (size_t)op->n_errors);
		hp_c_report(c, "unknown_code", true, i, s->catches[k].line,
			    "catch: %s.%s never fails with \"%s\"%s%s%s", op->pub.connector, op->pub.name, code,
			    near ? ", did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
}

/* ---- arms ---- */

/* How long the main wait lasts at most; 0: only the run knows. */
static int64_t longest_wait(const struct hp_state *s)
{
	switch (s->kind) {
	case HP_APPROVAL:
		return s->approval.deadline_us;
	case HP_AWAIT:
		return s->await.within_us;
	case HP_WAIT:
		return s->wait.for_us;
	case HP_RUN:
	case HP_EACH:
		return s->children.within_us;
	default:
		return 0;
	}
}

static void arms(struct hp_checking *c, int i, const struct hp_state *s)
{
	int64_t longest = longest_wait(s);

	for (int k = 0; k < s->n_arms; k++) {
		const struct hp_arm *arm = &s->arms[k];
		int64_t first = arm->kind == HP_ARM_CHECK ? arm->every_us : arm->after_us;

		if (longest > 0 && first >= longest)
			hp_c_report(c, "arm_never_fires", false, i, arm->line,
				    "on \"%s\": the wait itself is over before this arm can go on for the first time", arm->name);
		if (arm->kind == HP_ARM_CHECK && arm->failures == 0)
			hp_c_report(c, "check_without_failures", false, i, arm->line,
				    "on \"%s\": when %s.%s never answers, nothing comes of it; say after how many failed checks "
				    "the run goes on, like failures = 3",
				    arm->name, arm->op.connector, arm->op.name);
	}
}

/* ---- the workflow as a whole ---- */

static void trigger_without_key(struct hp_checking *c)
{
	const struct hp_definition *d = &c->w->def;

	if (d->n_triggers > 0 && !d->has_key)
		hp_c_report(c, "trigger_without_key", false, HP_NO_STATE, d->triggers[0].line,
			    "a webhook starts this workflow but no key is declared, so two events about the same thing "
			    "start two runs");
}

/* The shortest time between two ticks, of the next hundred. */
static int64_t shortest_gap(const struct hp_cron *cron, const struct hp_zone *z)
{
	int64_t gap = INT64_MAX, before, tick;
	bool there = hp_cron_next(cron, z, 0, &before);

	for (int i = 0; there && i < 100; i++, before = tick) {
		there = hp_cron_next(cron, z, before, &tick);
		if (there && tick - before < gap)
			gap = tick - before;
	}
	return gap;
}

static void schedule_times(struct hp_checking *c, const struct hp_schedule_trigger *t, struct hp_arena *a)
{
	struct hp_error err = {0};
	struct hp_zone zone;
	struct hp_cron cron;
	int64_t gap;

	if (hp_cron_parse(t->cron, &cron, &err) < 0 || hp_zone_load(t->zone, a, &zone, &err) < 0) {
		hp_c_report(c, "zone_unknown", true, HP_NO_STATE, t->line, "schedule: %s", err.message);
		return;
	}
	gap = shortest_gap(&cron, &zone);
	if (gap < 60 * INT64_C(1000000))
		hp_c_report(c, "schedule_too_fast", false, HP_NO_STATE, t->line,
			    "schedule: \"%s\" starts a run more often than every minute; a run that waits between two "
			    "rounds costs less",
			    t->cron);
	if (t->jitter_us >= gap)
		hp_c_report(c, "jitter_too_wide", false, HP_NO_STATE, t->line,
			    "schedule: the jitter is as long as the time between two ticks of \"%s\" or longer, so runs "
			    "come in bunches",
			    t->cron);
}

/* The input a tick brings must be one the workflow takes. */
static void schedule_input(struct hp_checking *c, const struct hp_schedule_trigger *t)
{
	struct hp_error err = {0};
	json_t *input = hp_json_parse(t->input, strlen(t->input), "input", &err);
	int rc = input ? 0 : -1;

	if (input && json_object_set_new(input, "tick", json_string("1970-01-01T00:00:00.000000Z")) == 0 && c->w->input)
		rc = hp_schema_check(c->w->input, input, "input", &err);
	if (rc < 0)
		hp_c_report(c, "schedule_input", true, HP_NO_STATE, t->line,
			    "schedule: its input is not what the workflow declares: %s", err.message);
	json_decref(input);
}

static void schedules(struct hp_checking *c)
{
	const struct hp_definition *d = &c->w->def;

	for (int i = 0; i < d->n_schedules; i++) {
		struct hp_arena *a = hp_arena_new(256 * 1024);

		if (a)
			schedule_times(c, &d->schedules[i], a);
		else
			hp_c_report(c, "load", true, HP_NO_STATE, d->schedules[i].line, "schedule: no memory left");
		hp_arena_free(a);
		schedule_input(c, &d->schedules[i]);
	}
}

int hp_workflow_check(const struct hp_workflow *w, hp_finding_fn fn, void *arg)
{
	return hp_workflow_check_among(w, NULL, NULL, fn, arg);
}

int hp_workflow_check_among(const struct hp_workflow *w, hp_workflow_find_fn find, void *find_arg, hp_finding_fn fn,
			    void *arg)
{
	struct hp_checking c = {.w = w, .fn = fn, .arg = arg, .find = find, .find_arg = find_arg};
	int i;

	trigger_without_key(&c);
	schedules(&c);
	hp_c_limits(&c);
	for (i = 0; i < w->def.n_states; i++) {
		const struct hp_state *s = &w->def.states[i];

		hp_c_unreachable(&c, i);
		missing_way(&c, i, s);
		hp_c_endless_loop(&c, i);
		effect_without_way_out(&c, i, s);
		doubt_without_probe(&c, i, s);
		approval_ways(&c, i, s);
		unknown_code(&c, i, s);
		arms(&c, i, s);
		sweep_rows(&c, i, s);
		hp_c_signature(&c, i);
		hp_c_destructive(&c, i);
		hp_c_child(&c, i);
		hp_c_undo(&c, i);
		hp_c_secrets(&c, i);
	}
	hp_c_undo_incomplete(&c);
	return c.fatal;
}

/* ---- errors of loading ---- */

void hp_finding_of_error(struct hp_error *err, struct hp_finding *f)
{
	char *colon = strchr(err->message, ':'), *end = NULL;
	const char *text = err->message;
	long line = 0;

	*f = (struct hp_finding){.lint = "load", .line = 1, .fatal = true};
	if (colon && colon[1] >= '0' && colon[1] <= '9')
		line = strtol(colon + 1, &end, 10);
	if (end && end[0] == ':' && end[1] == ' ' && line <= INT32_MAX) {
		*colon = '\0';
		f->file = err->message;
		f->line = (int)line;
		text = end + 2;
	}
	(void)snprintf(f->sentence, sizeof f->sentence, "%s%s%s", text, err->hint[0] ? "; " : "", err->hint);
}
