/* loader_limits.c: what limits a workflow's starts, its calls and its connectors.
 *
 * Of starts:
 *   exclusive = "user:{input.user_id}", overlap = "wait" | "skip"
 *   concurrency = { max = 10, per = "{input.tenant}" }
 *   rate = { max = 100, every = "1m", per = "{input.tenant}", burst = 10 }
 *   fair = "{input.tenant}", priority = 5 or "{input.priority}"
 *
 * They are decided where a run is started, by any door and without Lua. So their keys
 * are templates over the input and nothing else; the summary carries them cut into
 * parts: texts, and paths as lists.
 */
#include <inttypes.h>
#include <string.h>
#include "script/internal.h"

#define KEY_PREFIX "input."

/* A template whose paths all lead into the input; NULL: absent. */
static const char *input_template(const struct hp_reader *r, int table, const char *field)
{
	const char *text = NULL, *s, *why = "";
	struct hp_part part;
	int got;

	if (!hp_r_get(r, table, field))
		return NULL;
	if (lua_type(r->L, -1) != LUA_TSTRING)
		hp_r_fail(r, "%s must be a text like \"{input.tenant}\": it is filled in where the run is started, where no function runs",
			  field);
	text = hp_r_dup(r, lua_tostring(r->L, -1));
	lua_pop(r->L, 1);
	for (s = text; (got = hp_template_next(&s, &part, &why)) == 1;) {
		if (part.path && (part.n <= strlen(KEY_PREFIX) || strncmp(part.p, KEY_PREFIX, strlen(KEY_PREFIX)) != 0))
			hp_r_fail(r, "%s: \"%s\" may only use the input, like {input.tenant}: there is no run yet", field, text);
		for (size_t i = 1; part.path && i < part.n; i++)
			if (part.p[i - 1] == '.' && part.p[i] >= '0' && part.p[i] <= '9')
				hp_r_fail(r, "%s: \"%s\" names a member of a list; a limit's key can only use names", field, text);
	}
	if (got < 0)
		hp_r_fail(r, "%s: %s", field, why);
	if (text[0] == '\0' || strlen(text) > HP_KEY_MAX)
		hp_r_fail(r, "%s must have from 1 to %d bytes", field, HP_KEY_MAX);
	return text;
}

void hp_loader_rate(const struct hp_reader *r, int table, struct hp_rate *rate)
{
	rate->max = hp_r_integer(r, table, "max", 0, 1, 1000000);
	rate->per_us = hp_r_duration(r, table, "every", 0);
	if (rate->max == 0 || rate->per_us == 0)
		hp_r_fail(r, "rate needs how many and how often: rate = { max = 100, every = \"1m\" }");
	rate->burst = hp_r_integer(r, table, "burst", rate->max, 1, rate->max);
}

int64_t hp_loader_slots(const struct hp_reader *r, int table)
{
	int64_t max = hp_r_integer(r, table, "max", 0, 1, 100000);

	if (max == 0)
		hp_r_fail(r, "concurrency needs how many at once: concurrency = { max = 10 }");
	return max;
}

/* Pushes the table `field`; false: it is absent. */
bool hp_loader_limit(const struct hp_reader *r, int body, const char *field, const char *const *fields, int n)
{
	if (!hp_r_get(r, body, field))
		return false;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "%s must be a table like %s", field,
			  strcmp(field, "rate") == 0 ? "{ max = 100, every = \"1m\" }" : "{ max = 10 }");
	hp_r_only(r, -1, fields, n, 0);
	return true;
}

static void read_priority(const struct hp_reader *r, int body, struct hp_start_limits *l)
{
	if (!hp_r_get(r, body, "priority"))
		return;
	if (lua_type(r->L, -1) == LUA_TSTRING)
		l->priority_text = input_template(r, body, "priority");
	else
		l->priority = (int)hp_r_integer(r, body, "priority", 0, 0, 9);
	l->has_priority = true;
	lua_pop(r->L, 1);
}

/* budgets = { sms = { limit = 10, window = "1h" } }: what holds until an operator says else. */
static void read_budgets(const struct hp_reader *r, struct hp_workflow *w, int body)
{
	static const char *const fields[] = {"limit", "window", "kind"};
	const char **names, *kind;

	if (!hp_r_get(r, body, "budgets"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "budgets must be a table like { sms = { limit = 10, window = \"1h\" } }");
	w->n_budgets = hp_r_keys(r, -1, "budgets", HP_WORDS_MAX, &names);
	w->budgets = hp_r_alloc(r, sizeof *w->budgets * (size_t)w->n_budgets);
	for (int i = 0; i < w->n_budgets; i++) {
		struct hp_budget *b = &w->budgets[i];

		if (!hp_name_ok(names[i]))
			hp_r_fail(r, "\"%s\" cannot be the name of a budget: use lower-case letters, digits and _", names[i]);
		b->name = names[i];
		hp_r_get(r, -1, names[i]);
		if (!lua_istable(r->L, -1))
			hp_r_fail(r, "the budget \"%s\" must be a table like { limit = 10, window = \"1h\" }", names[i]);
		hp_r_only(r, -1, fields, 3, 0);
		b->max = hp_r_integer(r, -1, "limit", 0, 1, INT64_C(1000000000000000));
		b->per_us = hp_r_duration(r, -1, "window", 0);
		if (b->max == 0 || b->per_us == 0)
			hp_r_fail(r, "the budget \"%s\" needs a limit and a window: { limit = 10, window = \"1h\" }", names[i]);
		kind = hp_r_string(r, -1, "kind");
		if (kind && strcmp(kind, "window") != 0 && strcmp(kind, "bucket") != 0)
			hp_r_fail(r, "the budget \"%s\": kind is \"window\" or \"bucket\", not \"%s\"", names[i], kind);
		b->bucket = kind && strcmp(kind, "bucket") == 0;
		lua_pop(r->L, 1);
	}
	lua_pop(r->L, 1);
}

void hp_loader_limits(const struct hp_reader *r, struct hp_workflow *w, int body)
{
	static const char *const slots[] = {"max", "per"};
	static const char *const rate[] = {"max", "every", "per", "burst"};
	struct hp_start_limits *l = &w->limits;
	const char *overlap = hp_r_string(r, body, "overlap");

	l->exclusive = input_template(r, body, "exclusive");
	if (overlap && !l->exclusive)
		hp_r_fail(r, "overlap belongs to exclusive");
	if (overlap && strcmp(overlap, "wait") != 0 && strcmp(overlap, "skip") != 0)
		hp_r_fail(r, "overlap must be \"wait\" (in order, the default) or \"skip\" (join the one that runs), not \"%s\"",
			  overlap);
	l->skip = overlap && strcmp(overlap, "skip") == 0;
	if (hp_loader_limit(r, body, "concurrency", slots, 2)) {
		l->slots = hp_loader_slots(r, lua_gettop(r->L));
		l->slots_per = input_template(r, lua_gettop(r->L), "per");
		lua_pop(r->L, 1);
	}
	if (hp_loader_limit(r, body, "rate", rate, 4)) {
		hp_loader_rate(r, lua_gettop(r->L), &l->rate);
		l->rate_per = input_template(r, lua_gettop(r->L), "per");
		lua_pop(r->L, 1);
	}
	l->fair = input_template(r, body, "fair");
	w->def.takes_turns = l->fair != NULL;
	read_priority(r, body, l);
	read_budgets(r, w, body);
}

/* ---- calls and connectors ---- */

static void read_call_budget(const struct hp_reader *r, struct hp_workflow *w, int i, int body)
{
	static const char *const fields[] = {"per", "amount", "over"};
	struct hp_call_limits *l = &w->extra[i].limits;
	const char *over;
	int at;

	if (!hp_r_get(r, body, "budget"))
		return;
	at = lua_gettop(r->L);
	if (!lua_istable(r->L, at))
		hp_r_fail(r, "budget must be a table like { \"sms\", over = \"park\" }");
	hp_r_only(r, at, fields, 3, 1);
	lua_rawgeti(r->L, at, 1);
	if (lua_type(r->L, -1) != LUA_TSTRING || !hp_name_ok(lua_tostring(r->L, -1)))
		hp_r_fail(r, "budget: its name is missing, like budget = { \"sms\", over = \"park\" }");
	l->budget = hp_r_dup(r, lua_tostring(r->L, -1));
	lua_pop(r->L, 1);
	hp_r_expression_of(r, at, "per");
	hp_r_expression_of(r, at, "amount");
	over = hp_r_string(r, at, "over");
	if (!over)
		hp_r_fail(r, "budget: over is missing: \"park\" (wait until there is room), \"fail\" (code over_budget), or the state to go to");
	l->parks = strcmp(over, "park") == 0;
	if (!l->parks && strcmp(over, "fail") != 0)
		w->def.states[i].call.over_budget = hp_loader_way(r, w, at, "over");
	lua_pop(r->L, 1);
}

bool hp_loader_conn_limited(struct hp_workflow *w, const char *connector)
{
	const struct hp_conn *c = hp_workflow_conn(w, connector);

	return c->slots || c->rate.max;
}

void hp_loader_call_limits(const struct hp_reader *r, struct hp_workflow *w, int i, int body)
{
	static const char *const slots[] = {"max", "per"};
	static const char *const rate[] = {"max", "every", "per", "burst"};
	struct hp_call_limits *l = &w->extra[i].limits;
	struct hp_state *s = &w->def.states[i];

	s->call.over_budget = HP_NO_STATE;
	read_call_budget(r, w, i, body);
	if (hp_loader_limit(r, body, "concurrency", slots, 2)) {
		l->slots = hp_loader_slots(r, lua_gettop(r->L));
		hp_r_expression_of(r, lua_gettop(r->L), "per");
		lua_pop(r->L, 1);
	}
	if (hp_loader_limit(r, body, "rate", rate, 4)) {
		hp_loader_rate(r, lua_gettop(r->L), &l->rate);
		hp_r_expression_of(r, lua_gettop(r->L), "per");
		lua_pop(r->L, 1);
	}
	s->call.limited = l->budget || l->slots || l->rate.max || hp_loader_conn_limited(w, s->call.op.connector);
}

/* limits = { concurrency = 16, rate = { max = 25, every = "1s" } }: of the whole fleet. */
void hp_loader_conn_limits(const struct hp_reader *r, int table, struct hp_conn *c)
{
	static const char *const fields[] = {"concurrency", "rate"};
	static const char *const rate[] = {"max", "every", "burst"};
	int at;

	if (!hp_loader_limit(r, table, "limits", fields, 2))
		return;
	at = lua_gettop(r->L);
	c->slots = hp_r_integer(r, at, "concurrency", 0, 1, 100000);
	if (hp_loader_limit(r, at, "rate", rate, 3)) {
		hp_loader_rate(r, lua_gettop(r->L), &c->rate);
		lua_pop(r->L, 1);
	}
	lua_pop(r->L, 1);
}

/* ---- the summary ---- */

/* ,"budgets":{"sms":{…}}; nothing when none is declared. */
static void add_budgets(const struct hp_workflow *w, struct hp_buf *out)
{
	for (int i = 0; i < w->n_budgets; i++) {
		const struct hp_budget *b = &w->budgets[i];

		hp_buf_printf(out, "%s\"%s\":{\"max\":%" PRId64 ",\"per_us\":%" PRId64 ",\"bucket\":%s}",
			      i ? "," : ",\"budgets\":{", b->name, b->max, b->per_us, b->bucket ? "true" : "false");
	}
	if (w->n_budgets)
		hp_buf_addc(out, '}');
}

static void add_parts(struct hp_buf *out, const char *name, const char *s)
{
	const char *sep = "", *why, *dot;
	struct hp_part part;

	hp_buf_printf(out, "\"%s\":[", name);
	while (s && hp_template_next(&s, &part, &why) == 1) {
		hp_buf_adds(out, sep);
		sep = ",";
		if (!part.path) {
			hp_buf_json(out, part.p, part.n);
			continue;
		}
		hp_buf_addc(out, '[');
		part.p += strlen(KEY_PREFIX);
		part.n -= strlen(KEY_PREFIX);
		while ((dot = memchr(part.p, '.', part.n)) != NULL) {
			hp_buf_json(out, part.p, (size_t)(dot - part.p));
			hp_buf_addc(out, ',');
			part.n -= (size_t)(dot + 1 - part.p);
			part.p = dot + 1;
		}
		hp_buf_json(out, part.p, part.n);
		hp_buf_addc(out, ']');
	}
	hp_buf_addc(out, ']');
}

/* ,"budgets":{…},"limits":{…}; nothing when there are none. */
void hp_limits_summary(const struct hp_workflow *w, struct hp_buf *out)
{
	const struct hp_start_limits *l = &w->limits;
	size_t at;

	add_budgets(w, out);
	if (!l->exclusive && !l->slots && !l->rate.max && !l->fair && !l->has_priority)
		return;
	hp_buf_adds(out, ",\"limits\":{");
	at = out->n;
	if (l->exclusive) {
		hp_buf_printf(out, "\"overlap\":\"%s\",", l->skip ? "skip" : "wait");
		add_parts(out, "exclusive", l->exclusive);
	}
	if (l->slots) {
		hp_buf_printf(out, "%s\"concurrency\":{\"max\":%" PRId64 ",", out->n > at ? "," : "", l->slots);
		add_parts(out, "per", l->slots_per);
		hp_buf_addc(out, '}');
	}
	if (l->rate.max) {
		hp_buf_printf(out, "%s\"rate\":{\"max\":%" PRId64 ",\"per_us\":%" PRId64 ",\"burst\":%" PRId64 ",",
			      out->n > at ? "," : "", l->rate.max, l->rate.per_us, l->rate.burst);
		add_parts(out, "per", l->rate_per);
		hp_buf_addc(out, '}');
	}
	if (l->fair) {
		hp_buf_adds(out, out->n > at ? "," : "");
		add_parts(out, "fair", l->fair);
	}
	if (l->has_priority && l->priority_text) {
		hp_buf_adds(out, out->n > at ? "," : "");
		add_parts(out, "priority", l->priority_text);
	} else if (l->has_priority) {
		hp_buf_printf(out, "%s\"priority\":%d", out->n > at ? "," : "", l->priority);
	}
	hp_buf_addc(out, '}');
}
