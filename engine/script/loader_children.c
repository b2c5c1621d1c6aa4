/* loader_children.c: what run and each say of their items, their join and their time.
 * The state's table is at `body`. */
#include <string.h>

#include "script/internal.h"

/* Expressions over one item see it as `item`, and its number as `index`. */
void hp_loader_item(struct hp_reader *r, int body, const char *field)
{
	const struct hp_words *known = r->known;
	struct hp_words more = {hp_r_alloc(r, sizeof(char *) * (size_t)(known->n + 2)), known->n, known->n + 2};

	if (!hp_r_get(r, body, field))
		return;
	if (known->n)
		memcpy(more.list, known->list, sizeof *more.list * (size_t)known->n);
	more.list[more.n++] = "item";
	more.list[more.n++] = "index";
	r->known = &more;
	hp_r_expression(r, -1, field);
	r->known = known;
	lua_pop(r->L, 1);
}

void hp_loader_within(const struct hp_reader *r, const struct hp_workflow *w, struct hp_state *s, int body)
{
	s->children.within_us = hp_r_duration(r, body, "within", 0);
	s->children.timeout = hp_loader_way(r, w, body, "timeout");
	if (s->children.within_us > 0 && s->children.timeout == HP_NO_STATE)
		hp_r_fail(r, "timeout is missing: where to go on when the time of within is over");
	if (s->children.within_us == 0 && s->children.timeout != HP_NO_STATE)
		hp_r_fail(r, "within is missing: after which time to go to timeout");
}

/* tolerate = 3 or "10%" */
static void read_tolerate(const struct hp_reader *r, struct hp_state *s, int body)
{
	if (!hp_r_get(r, body, "tolerate"))
		return;
	if (s->children.need > 0)
		hp_r_fail(r, "tolerate belongs to join = \"all\": of the others those count that succeed");
	if (lua_type(r->L, -1) != LUA_TSTRING) {
		s->children.tolerate = hp_r_integer(r, body, "tolerate", 0, 0, INT32_MAX);
		return;
	}
	s->children.percent = hp_percent_parse(lua_tostring(r->L, -1));
	if (s->children.percent < 0)
		hp_r_fail(r, "tolerate must be a number of failures or a share like \"10%%\"");
}

/* join = "all", "any" or a number */
void hp_loader_join(const struct hp_reader *r, struct hp_state *s, int body)
{
	int top = lua_gettop(r->L);
	const char *text;

	if (hp_r_get(r, body, "join") && lua_type(r->L, -1) == LUA_TSTRING) {
		text = lua_tostring(r->L, -1);
		if (strcmp(text, "any") != 0 && strcmp(text, "all") != 0)
			hp_r_fail(r, "join must be \"all\", \"any\" or how many must succeed, not \"%s\"", text);
		s->children.need = strcmp(text, "any") == 0;
	} else {
		s->children.need = hp_r_integer(r, body, "join", 0, 1, INT32_MAX);
	}
	read_tolerate(r, s, body);
	lua_settop(r->L, top);
}
