/* eval_limits.c: what the admission of a call asks of its limits.
 *
 * {"demands":[{"kind":"budget","name":"sms","key":"…","amount":1,"over":"park"},
 *             {"kind":"slots","name":"connector:resend","max":16},
 *             {"kind":"rate","name":"w.send","key":"…","max":2,"per_us":1000000,"burst":2}]}
 * Budgets first, then places, then rates: see migrations/holdpoint/0019_budgets.sql.
 */
#include <inttypes.h>
#include <string.h>
#include "script/internal.h"

/* ,"key":"…" from the field `per` of the table on top; nothing when it is not given. */
static void add_key(lua_State *L, struct hp_job *j, const char *what)
{
	const char *s;
	size_t n;

	lua_getfield(L, -1, "per");
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		return;
	}
	hp_expr(L, j, -1, what);
	if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
		hp_job_fail(L, j, what, lua_pushfstring(L, "per must be a text, not a %s", luaL_typename(L, -1)));
	s = lua_tolstring(L, -1, &n);
	if (n > HP_KEY_MAX || memchr(s, '\0', n))
		hp_job_fail(L, j, what, lua_pushfstring(L, "per must have at most %d bytes, and no zero byte", HP_KEY_MAX));
	hp_buf_adds(&j->text, ",\"key\":");
	hp_lua_write_json(L, -1, &j->text);
	lua_pop(L, 2);
}

static void add_budget(lua_State *L, struct hp_job *j, const struct hp_call_limits *l)
{
	int64_t amount = 1;

	lua_getfield(L, -1, "budget");
	lua_getfield(L, -1, "amount");
	if (!lua_isnil(L, -1)) {
		hp_expr(L, j, -1, "budget");
		if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 0)
			hp_job_fail(L, j, "budget", "amount must be a whole number, 0 or more");
		amount = lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	if (amount > 0) {
		hp_buf_printf(&j->text, "{\"kind\":\"budget\",\"name\":\"%s\",\"amount\":%" PRId64 ",\"over\":\"%s\"", l->budget,
			      amount, l->parks ? "park" : "fail");
		add_key(L, j, "budget");
		hp_buf_adds(&j->text, "},");
	}
	lua_pop(L, 1);
}

static void add_slots(struct hp_job *j, const char *name, int64_t max)
{
	hp_buf_printf(&j->text, "{\"kind\":\"slots\",\"name\":\"%s\",\"max\":%" PRId64, name, max);
}

static void add_rate(struct hp_job *j, const char *name, const struct hp_rate *r)
{
	hp_buf_printf(&j->text,
		      "{\"kind\":\"rate\",\"name\":\"%s\",\"max\":%" PRId64 ",\"per_us\":%" PRId64 ",\"burst\":%" PRId64,
		      name, r->max, r->per_us, r->burst);
}

/* The rest of a demand of the state's own, with its key. */
static void own(lua_State *L, struct hp_job *j, const char *field)
{
	lua_getfield(L, -1, field);
	add_key(L, j, field);
	lua_pop(L, 1);
	hp_buf_adds(&j->text, "},");
}

static void demands(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const struct hp_state *s = &j->w->def.states[j->state];
	const struct hp_call_limits *l = &j->w->extra[j->state].limits;
	const struct hp_conn *c = hp_workflow_conn(j->w, s->call.op.connector);
	const char *name, *connector;

	luaL_checkstack(L, 20, NULL);
	name = lua_pushfstring(L, "%s.%s", j->w->def.workflow, s->name);
	connector = lua_pushfstring(L, "connector:%s", c->name);
	hp_push_state(L, j->state);
	hp_buf_adds(&j->text, "{\"demands\":[");
	if (l->budget)
		add_budget(L, j, l);
	if (l->slots) {
		add_slots(j, name, l->slots);
		own(L, j, "concurrency");
	}
	if (c->slots) {
		add_slots(j, connector, c->slots);
		hp_buf_adds(&j->text, "},");
	}
	if (l->rate.max) {
		add_rate(j, name, &l->rate);
		own(L, j, "rate");
	}
	if (c->rate.max) {
		add_rate(j, connector, &c->rate);
		hp_buf_adds(&j->text, "},");
	}
	if (j->text.n && j->text.p[j->text.n - 1] == ',')
		j->text.n--;
	hp_buf_adds(&j->text, "]}");
}

int hp_limits_eval(struct hp_job *j, struct hp_buf *out, struct hp_error *err)
{
	hp_buf_clear(&j->text);
	if (hp_vm_run(j->vm, demands, j, err) < 0 || hp_buf_check(&j->text, "the limits of a call", err) < 0)
		return -1;
	hp_buf_add(out, j->text.p, j->text.n);
	return hp_buf_check(out, "the limits of a call", err);
}
