/* loader_limits.c: what limits a workflow's starts.
 *
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
	for (s = text; (got = hp_template_next(&s, &part, &why)) == 1;)
		if (part.path && (part.n <= strlen(KEY_PREFIX) || strncmp(part.p, KEY_PREFIX, strlen(KEY_PREFIX)) != 0))
			hp_r_fail(r, "%s: \"%s\" may only use the input, like {input.tenant}: there is no run yet", field, text);
	if (got < 0)
		hp_r_fail(r, "%s: %s", field, why);
	for (s = text; (s = strchr(s, '.')) != NULL;)
		if (*++s >= '0' && *s <= '9')
			hp_r_fail(r, "%s: \"%s\" names a member of a list; a limit's key can only use names", field, text);
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
}

/* ---- the summary ---- */

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

/* ,"limits":{…}; nothing when there are none. */
void hp_limits_summary(const struct hp_workflow *w, struct hp_buf *out)
{
	const struct hp_start_limits *l = &w->limits;
	size_t at;

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
