/* loader.c: a workflow's tables as a definition.
 *
 * Two passes: the first learns the names of states and of saved values, the
 * second (loader_states.c) reads each state and resolves its ways; what starts
 * runs is read by loader_trigger.c. The first
 * mistake ends it, with a sentence that says file, line, state and, where there
 * is one, the nearest right word.
 */
#include <stdlib.h>
#include <string.h>
#include "script/internal.h"

#define SAVED_NAMES_MAX 1000

static void read_connectors(lua_State *L, struct hp_workflow *w)
{
	int i;

	for (i = 0; i < w->n_connectors; i++) {
		const struct hp_source *src = &w->sources[i];
		struct hp_reader r = {.L = L, .a = w->arena, .file = src->file};
		int top = lua_gettop(L);

		r.what = lua_pushfstring(L, "connector \"%s\"", src->name);
		lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_CONNECTORS);
		lua_getfield(L, -1, src->name);
		lua_getfield(L, -1, "line");
		r.line = (int)lua_tointeger(L, -1);
		lua_pop(L, 1);
		lua_getfield(L, -1, "body");
		hp_connector_read(&r, src->name, &w->conns[i]);
		lua_settop(L, top);
	}
}

static enum hp_kind kind_of(const char *word)
{
	int k = HP_CALL;

	while (k <= HP_KIND_LAST && strcmp(word, hp_kind_name((enum hp_kind)k)) != 0)
		k++;
	HP_ASSERT(k <= HP_KIND_LAST); /* lang.c has no other words */
	return (enum hp_kind)k;
}

/* The n-th entry of the workflow must be a state; its marker is on top. */
static void check_entry(const struct hp_reader *r, int n)
{
	if (hp_mark(r->L, -1, HP_MARK_STATE)) {
		lua_pop(r->L, 1);
		return;
	}
	if (lua_isfunction(r->L, -1))
		hp_r_fail(r, "entry %d is not finished: a table must follow the name, like succeed \"done\" {}", n);
	if (lua_isnil(r->L, -1))
		hp_r_fail(r, "entry %d is nil: is a name misspelled?", n);
	hp_r_fail(r, "entry %d is a %s, not a state", n, luaL_typename(r->L, -1));
}

static void add_word(const struct hp_reader *r, struct hp_words *words, const char *word)
{
	int i;

	for (i = 0; i < words->n; i++)
		if (strcmp(words->list[i], word) == 0)
			return;
	if (words->n == words->max)
		hp_r_fail(r, "more than %d names of saved values", words->max);
	words->list[words->n++] = hp_r_dup(r, word);
}

static void add_arm_word(const struct hp_reader *r, void *words, const char *word)
{
	add_word(r, words, word);
}

/* Names that the state on top saves; wrong ones are found in the second pass. */
static void collect_saved(const struct hp_reader *r, enum hp_kind kind, struct hp_words *words)
{
	lua_State *L = r->L;

	if (hp_r_get(r, -1, "save")) {
		if (lua_type(L, -1) == LUA_TSTRING)
			add_word(r, words, lua_tostring(L, -1));
		else if (hp_secret_marked(L, -1) && hp_loader_saved_as(r))
			add_word(r, words, hp_loader_saved_as(r));
		lua_pop(L, 1);
	} else if (kind == HP_APPROVAL || kind == HP_AWAIT) {
		add_word(r, words, kind == HP_APPROVAL ? "decision" : "event");
	}
	hp_loader_arms_saved(r, add_arm_word, words);
	if (!hp_r_get(r, -1, "set"))
		return;
	if (lua_istable(L, -1))
		for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
			if (lua_type(L, -2) == LUA_TSTRING)
				add_word(r, words, lua_tostring(L, -2));
	lua_pop(L, 1);
}

/* First pass. body: the workflow's table. */
static void read_names(struct hp_reader *r, struct hp_workflow *w, int body, struct hp_words *words)
{
	lua_State *L = r->L;
	struct hp_definition *d = &w->def;
	const int line = r->line;
	int i, other;

	for (i = 0; i < d->n_states; i++) {
		struct hp_state *s = &d->states[i];

		lua_rawgeti(L, body, i + 1);
		check_entry(r, i + 1);
		hp_mark(L, -1, HP_MARK_STATE);
		s->kind = kind_of(lua_tostring(L, -1));
		lua_pop(L, 1);
		s->name = hp_r_need(r, -1, "name");
		s->line = (int)hp_r_integer(r, -1, "line", 0, 0, INT32_MAX);
		other = hp_definition_find(d, s->name);
		if (other < i) {
			r->line = s->line;
			hp_r_fail(r, "state \"%s\": the name is already used on line %d", s->name, d->states[other].line);
		}
		r->line = s->line;
		r->what = hp_r_printf(r, "state \"%s\"", s->name);
		hp_r_get(r, -1, "body");
		collect_saved(r, s->kind, words);
		r->line = line;
		r->what = NULL;
		lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_STATES);
		lua_pushvalue(L, -2);
		lua_rawseti(L, -2, i + 1);
		lua_pop(L, 3);
	}
}

static void read_on_cancel(const struct hp_reader *r, struct hp_definition *d, int body)
{
	const char *word = hp_r_string(r, body, "on_cancel");

	d->cancel_undoes = word && strcmp(word, "undo") == 0;
	if (word && !d->cancel_undoes && strcmp(word, "stop") != 0)
		hp_r_fail(r, "on_cancel must be \"stop\" or \"undo\", not \"%s\"", word);
}

/* What stands beside the states. */
static void read_head(struct hp_reader *r, struct hp_workflow *w, int body)
{
	static const char *const fields[] = {"doc", "trigger", "key", "input", "exclusive", "overlap", "concurrency",
					     "rate", "fair", "priority", "on_cancel", "retention", "budgets"};
	static const char *const only_input[] = {"input"};
	struct hp_words before_start = {(const char **)(uintptr_t)only_input, 1, 1};
	struct hp_definition *d = &w->def;
	size_t n = lua_rawlen(r->L, body);

	if (n > HP_STATES_MAX)
		hp_r_fail(r, "more than %d states", HP_STATES_MAX);
	hp_r_only(r, body, fields, sizeof fields / sizeof *fields, HP_STATES_MAX + 1);
	if (n == 0)
		hp_r_fail(r, "there is no state; the shortest workflow is succeed \"done\" {}");
	d->n_states = (int)n;
	d->doc = hp_r_string(r, body, "doc");
	read_on_cancel(r, d, body);
	d->retention_us = hp_r_duration(r, body, "retention", 0);
	if (d->retention_us > 0 && d->retention_us < HP_RETENTION_MIN)
		hp_r_fail(r, "retention must be at least 1h: people look at what has just ended");
	hp_loader_triggers(r, w, body);
	hp_loader_limits(r, w, body);
	if (hp_r_get(r, body, "key")) {
		r->known = &before_start; /* there is no run yet */
		r->before_start = true;
		hp_r_expression(r, -1, "key");
		r->before_start = false;
		r->known = NULL;
		d->has_key = true;
		lua_pop(r->L, 1);
	}
	if (hp_r_get(r, body, "input")) {
		w->input = hp_schema_read(r, -1, "input");
		d->has_input = true;
		lua_pop(r->L, 1);
	}
}

static void read_states(struct hp_reader *r, struct hp_workflow *w, int body)
{
	struct hp_definition *d = &w->def;
	struct hp_words words = {hp_r_alloc(r, sizeof(char *) * SAVED_NAMES_MAX), 0, SAVED_NAMES_MAX};
	int i, top = lua_gettop(r->L);

	/* each may have an undo, which is a state of its own behind them */
	d->states = hp_r_alloc(r, sizeof *d->states * 2 * (size_t)d->n_states);
	w->extra = hp_r_alloc(r, sizeof *w->extra * 2 * (size_t)d->n_states);
	for (i = 0; i < d->n_states; i++)
		d->states[i].name = ""; /* not known yet */
	add_word(r, &words, "input");
	add_word(r, &words, "error");
	read_names(r, w, body, &words);
	r->known = &words;
	for (i = 0; i < d->n_states; i++) {
		struct hp_state *s = &d->states[i];

		r->line = s->line;
		r->what = hp_r_printf(r, "state \"%s\"", s->name);
		hp_push_state(r->L, i);
		hp_loader_state(r, w, i, top + 1);
		lua_settop(r->L, top); /* whatever it left: the room that was asked for is for one state */
	}
	r->known = NULL;
	for (i = 0; i < d->n_states; i++)
		if (d->states[i].kind == HP_APPROVAL && d->states[i].approval.of != HP_NO_STATE)
			d->states[d->states[i].approval.of].call.signed_by = i;
}

void hp_loader_read(lua_State *L, struct hp_workflow *w)
{
	struct hp_reader r = {.L = L, .a = w->arena, .file = w->sources[w->n_connectors].file};
	int body;

	luaL_checkstack(L, 40, NULL);
	read_connectors(L, w);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_WORKFLOW);
	w->def.file = r.file;
	w->def.workflow = hp_r_need(&r, -1, "name");
	w->line = r.line = (int)hp_r_integer(&r, -1, "line", 0, 0, INT32_MAX);
	lua_getfield(L, -1, "body");
	body = lua_gettop(L);
	read_head(&r, w, body);
	read_states(&r, w, body);
}

struct hp_op *hp_loader_operation(const struct hp_reader *r, struct hp_workflow *w, int index)
{
	const char *connector, *name;
	struct hp_conn *c;
	struct hp_op *op;

	if (!hp_mark(r->L, index, HP_MARK_OPERATION))
		return NULL;
	name = lua_tostring(r->L, -1);
	lua_pushliteral(r->L, "connector");
	lua_rawget(r->L, index);
	connector = lua_tostring(r->L, -1);
	c = hp_workflow_conn(w, connector);
	HP_ASSERT(c != NULL); /* the namespace was made from it */
	op = hp_conn_op(c, name);
	HP_ASSERT(op != NULL);
	lua_pop(r->L, 2);
	return op;
}

struct hp_conn *hp_workflow_conn(struct hp_workflow *w, const char *name)
{
	int i;

	for (i = 0; i < w->n_connectors; i++)
		if (strcmp(w->conns[i].name, name) == 0)
			return &w->conns[i];
	return NULL;
}

int hp_loader_way(const struct hp_reader *r, const struct hp_workflow *w, int table, const char *field)
{
	const struct hp_definition *d = &w->def;
	const char *name = hp_r_string(r, table, field);
	const char **names;
	int i;

	if (!name)
		return HP_NO_STATE;
	i = hp_definition_find(d, name);
	if (i != HP_NO_STATE)
		return i;
	names = hp_r_alloc(r, sizeof *names * (size_t)d->n_states);
	for (i = 0; i < d->n_states; i++)
		names[i] = d->states[i].name;
	hp_r_fail(r, "%s: unknown state \"%s\"%s", field, name, hp_r_hint(r, name, names, d->n_states));
}
