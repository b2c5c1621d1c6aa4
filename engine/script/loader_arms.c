/* loader_arms.c: on = { name = { … } }: what stands beside the main wait of a state.
 *
 * An arm's table says by its fields what it is: `event` and `key`, `after` or `at`,
 * or `every`, `call` and `when`.
 */
#include <string.h>
#include "base/clock.h"
#include "script/internal.h"

#define CHECK_TIMEOUT_DEFAULT (10 * HP_SECOND)

/* One arm's table is on top. */
struct arm_reader {
	struct hp_reader r;
	struct hp_workflow *w;
	struct hp_arm *arm;
	int at;
};

#define ONLY(ar, ...) \
	do { \
		static const char *const fields_[] = {__VA_ARGS__}; \
		hp_r_only(&(ar)->r, (ar)->at, fields_, sizeof fields_ / sizeof *fields_, 0); \
	} while (0)

static bool has(const struct arm_reader *ar, const char *field)
{
	if (!hp_r_get(&ar->r, ar->at, field))
		return false;
	lua_pop(ar->r.L, 1);
	return true;
}

static void read_save(const struct arm_reader *ar, const char *fallback)
{
	const char *name = hp_r_string(&ar->r, ar->at, "save");

	ar->arm->save = name ? hp_loader_saved_name(&ar->r, name) : fallback;
}

static void read_event(const struct arm_reader *ar)
{
	const char **events;

	ONLY(ar, "event", "key", "save", "next");
	ar->arm->kind = HP_ARM_EVENT;
	if (hp_r_list(&ar->r, ar->at, "event", true, 1, &events) != 1)
		hp_r_fail(&ar->r, "event must be the name of one event, like \"canary.abort\"");
	ar->arm->event = events[0];
	if (!hp_r_expression_of(&ar->r, ar->at, "key"))
		hp_r_fail(&ar->r, "key is missing: whose event it is, like key = \"{run.id}\"");
	read_save(ar, "event");
}

static void read_timer(const struct arm_reader *ar)
{
	ONLY(ar, "after", "at", "next");
	ar->arm->kind = HP_ARM_TIMER;
	ar->arm->after_us = hp_r_duration(&ar->r, ar->at, "after", 0);
	if (hp_r_expression_of(&ar->r, ar->at, "at") && ar->arm->after_us > 0)
		hp_r_fail(&ar->r, "after and at exclude each other");
}

static void read_operation(const struct arm_reader *ar, struct hp_extra *x, int i)
{
	struct hp_op *op = NULL;

	if (hp_r_get(&ar->r, ar->at, "call")) {
		op = hp_loader_operation(&ar->r, ar->w, lua_gettop(ar->r.L));
		lua_pop(ar->r.L, 1);
	}
	if (!op)
		hp_r_fail(&ar->r, "call must be the operation that looks, like call = prometheus.query");
	if (!op->pub.read)
		hp_r_fail(&ar->r, "%s.%s is not a read; a check must only look, because it is asked again and again",
			  op->pub.connector, op->pub.name);
	x->checks[i] = op;
	ar->arm->op = op->pub;
}

static void read_check(const struct arm_reader *ar, struct hp_extra *x, int i)
{
	struct hp_arm *arm = ar->arm;
	bool has_when;

	ONLY(ar, "every", "call", "with", "when", "save", "timeout", "failures", "failed", "next");
	arm->kind = HP_ARM_CHECK;
	arm->every_us = hp_r_duration(&ar->r, ar->at, "every", 0);
	if (arm->every_us < HP_SECOND)
		hp_r_fail(&ar->r, "every is missing or too short: a check may be made every second at most, "
				  "like every = \"30s\"");
	read_operation(ar, x, i);
	hp_r_expression_of(&ar->r, ar->at, "with");
	hp_r_function(&ar->r, ar->at, "when", &has_when);
	if (!has_when)
		hp_r_fail(&ar->r, "when is missing: function(reply, run) … end, true when the run must go on");
	arm->timeout_us = hp_r_duration(&ar->r, ar->at, "timeout",
					arm->every_us < CHECK_TIMEOUT_DEFAULT ? arm->every_us : CHECK_TIMEOUT_DEFAULT);
	if (arm->timeout_us > HP_CALL_TIMEOUT_MAX)
		hp_r_fail(&ar->r, "timeout may be at most 5m");
	if (arm->timeout_us > arm->every_us)
		hp_r_fail(&ar->r, "every is shorter than the timeout of one check");
	read_save(ar, NULL);
	arm->failures = (int)hp_r_integer(&ar->r, ar->at, "failures", 0, 1, 1000);
	arm->failed = hp_loader_way(&ar->r, ar->w, ar->at, "failed");
	if (arm->failed != HP_NO_STATE && arm->failures == 0)
		hp_r_fail(&ar->r, "failed needs failures: how many checks in a row must fail, like failures = 3");
}

static void read_arm(const struct arm_reader *ar, struct hp_extra *x, int i)
{
	bool event = has(ar, "event"), timer = has(ar, "after") || has(ar, "at"), check = has(ar, "every") || has(ar, "call");

	ar->arm->failed = HP_NO_STATE;
	if (event + timer + check != 1)
		hp_r_fail(&ar->r, "%s", event + timer + check > 1
			? "only one of event, after or at, and every may be given: write two arms"
			: "it must be an event (event, key), a timer (after or at) or a check (every, call, when)");
	if (event)
		read_event(ar);
	else if (timer)
		read_timer(ar);
	else
		read_check(ar, x, i);
	ar->arm->next = hp_loader_way(&ar->r, ar->w, ar->at, "next");
	if (ar->arm->next == HP_NO_STATE)
		hp_r_fail(&ar->r, "next is missing: the state to go on with");
}

void hp_loader_arms(const struct hp_reader *r, struct hp_workflow *w, struct hp_state *s, struct hp_extra *x, int body)
{
	lua_State *L = r->L;
	const char **names;
	int n, on;

	if (!hp_r_get(r, body, "on"))
		return;
	on = lua_gettop(L);
	if (!lua_istable(L, on))
		hp_r_fail(r, "on must be a table of arms, like on = { abort = { event = …, key = …, next = … } }");
	n = hp_r_keys(r, on, "on", HP_ARMS_MAX, &names);
	s->arms = hp_r_alloc(r, sizeof *s->arms * (size_t)(n ? n : 1));
	s->n_arms = n;
	for (int i = 0; i < n; i++) {
		struct arm_reader ar = {.r = *r, .w = w, .arm = &s->arms[i]};

		ar.r.what = hp_r_printf(r, "%s: on \"%s\"", r->what, names[i]);
		if (!hp_name_ok(names[i]))
			hp_r_fail(r, "on: \"%s\" cannot be the name of an arm: use lower-case letters, digits and _",
				  names[i]);
		s->arms[i].name = names[i];
		s->arms[i].line = s->line;
		lua_getfield(L, on, names[i]);
		ar.at = lua_gettop(L);
		if (!lua_istable(L, ar.at))
			hp_r_fail(&ar.r, "an arm is a table");
		read_arm(&ar, x, i);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

void hp_loader_arms_saved(const struct hp_reader *r, void (*fn)(const struct hp_reader *r, void *arg, const char *name),
			  void *arg)
{
	lua_State *L = r->L;
	int top = lua_gettop(L);

	if (!hp_r_get(r, -1, "on") || !lua_istable(L, -1)) {
		lua_settop(L, top);
		return;
	}
	for (lua_pushnil(L); lua_next(L, top + 1); lua_settop(L, top + 2)) {
		if (!lua_istable(L, -1))
			continue;
		if (lua_getfield(L, -1, "save") == LUA_TSTRING)
			fn(r, arg, lua_tostring(L, -1));
		else if (lua_getfield(L, -2, "event") != LUA_TNIL)
			fn(r, arg, "event");
	}
	lua_settop(L, top);
}
