/* loader_states.c: one function per kind of state. The state's table is at `body`. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "core/quorum.h"
#include "script/internal.h"

struct state_reader {
	struct hp_reader *r;
	struct hp_workflow *w;
	struct hp_state *s;
	struct hp_extra *x;
	int body;
	int index;
};

#define COMMON "next", "doc", "set", "promote", "retire"
#define ONLY(sr, max_index, ...) \
	do { \
		static const char *const fields_[] = {__VA_ARGS__}; \
		hp_r_only((sr)->r, (sr)->body, fields_, sizeof fields_ / sizeof *fields_, (max_index)); \
	} while (0)

static int way(const struct state_reader *sr, const char *field)
{
	return hp_loader_way(sr->r, sr->w, sr->body, field);
}

const char *hp_loader_saved_name(const struct hp_reader *r, const char *name)
{
	static const char *const reserved[] = {"input", "id", "key", "now", "error", "run"};
	size_t i;

	if (!hp_name_ok(name))
		hp_r_fail(r, "\"%s\" cannot be the name of a saved value: use lower-case letters, digits and _", name);
	for (i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (strcmp(name, reserved[i]) == 0)
			hp_r_fail(r, "nothing can be saved as \"%s\": the name is the engine's own", name);
	return name;
}

static const char *read_save(const struct state_reader *sr, const char *fallback)
{
	const char *name = hp_r_string(sr->r, sr->body, "save");

	return name ? hp_loader_saved_name(sr->r, name) : fallback;
}

static const char *read_call_save(const struct state_reader *sr)
{
	const char *name;

	if (!hp_r_get(sr->r, sr->body, "save"))
		return NULL;
	if (hp_secret_marked(sr->r->L, -1)) {
		name = hp_loader_saved_name(sr->r, hp_loader_save_secret(sr->r, sr->x));
		lua_pop(sr->r->L, 1);
		return name;
	}
	lua_pop(sr->r->L, 1);
	return read_save(sr, NULL);
}

static void read_set(const struct state_reader *sr)
{
	const char **names;
	int i, n;

	if (!hp_r_get(sr->r, sr->body, "set"))
		return;
	if (!lua_istable(sr->r->L, -1))
		hp_r_fail(sr->r, "set must be a table of expressions");
	n = hp_r_keys(sr->r, -1, "set", HP_WORDS_MAX, &names);
	for (i = 0; i < n; i++) {
		hp_loader_saved_name(sr->r, names[i]);
		if (sr->s->save && strcmp(sr->s->save, names[i]) == 0)
			hp_r_fail(sr->r, "save and set both write \"%s\"", names[i]);
	}
	hp_r_expression(sr->r, -1, "set");
	sr->s->has_set = n > 0;
	lua_pop(sr->r->L, 1);
}

static void need_expression(const struct state_reader *sr, const char *field)
{
	if (!hp_r_expression_of(sr->r, sr->body, field))
		hp_r_fail(sr->r, "%s is missing", field);
}

static void read_retry(const struct state_reader *sr)
{
	static const char *const fields[] = {"attempts", "base", "cap", "total"};
	struct hp_retry *t = &sr->s->retry;
	const struct hp_reader *r = sr->r;

	*t = (struct hp_retry){5, HP_SECOND, 5 * HP_MINUTE, 0};
	if (!hp_r_get(r, sr->body, "retry"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "retry must be a table like { attempts = 8, base = \"1s\", cap = \"5m\" }");
	hp_r_only(r, -1, fields, 4, 0);
	t->attempts = (int)hp_r_integer(r, -1, "attempts", t->attempts, 1, HP_ATTEMPTS_MAX);
	t->base_us = hp_r_duration(r, -1, "base", t->base_us);
	t->cap_us = hp_r_duration(r, -1, "cap", t->cap_us > t->base_us ? t->cap_us : t->base_us);
	t->total_us = hp_r_duration(r, -1, "total", 0);
	if (t->cap_us < t->base_us)
		hp_r_fail(r, "retry: cap is shorter than base");
	lua_pop(r->L, 1);
}

static int rank(const char *match)
{
	static const char *const classes[] = {"retryable", "terminal", "ambiguous", "needs_person", "otherwise"};
	int i;

	for (i = 0; i < 5; i++)
		if (strcmp(match, classes[i]) == 0)
			return i + 1;
	return 0; /* an error code */
}

static void read_catch(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	const char **names;
	int i, n, at = 0, want;

	if (!hp_r_get(r, sr->body, "catch"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "catch must be a table like { otherwise = \"escalate\" }");
	n = hp_r_keys(r, -1, "catch", HP_CATCHES_MAX, &names);
	sr->s->catches = hp_r_alloc(r, sizeof *sr->s->catches * (size_t)(n ? n : 1));
	for (want = 0; want <= 5; want++) /* in the order in which they are looked at */
		for (i = 0; i < n; i++) {
			struct hp_catch *c = &sr->s->catches[at];

			if (rank(names[i]) != want)
				continue;
			if (strlen(names[i]) >= HP_CODE_MAX)
				hp_r_fail(r, "catch: the code \"%s\" is longer than %d characters", names[i], HP_CODE_MAX - 1);
			c->match = want == 5 ? NULL : names[i];
			c->line = sr->s->line;
			c->next = hp_loader_way(r, sr->w, -1, names[i]);
			at++;
		}
	sr->s->n_catches = at;
	lua_pop(r->L, 1);
}

static int64_t read_timeout(const struct state_reader *sr, int64_t fallback)
{
	int64_t us = hp_r_duration(sr->r, sr->body, "timeout", fallback);

	if (us > HP_CALL_TIMEOUT_MAX)
		hp_r_fail(sr->r, "timeout may be at most 5m");
	return us;
}

/* The operation that is entry 1 of the table at index. */
static struct hp_op *first_operation(const struct state_reader *sr, int table, const char *what)
{
	struct hp_op *op;

	lua_rawgeti(sr->r->L, table, 1);
	op = hp_loader_operation(sr->r, sr->w, lua_gettop(sr->r->L));
	if (!op)
		hp_r_fail(sr->r, "the first entry of a %s must be an operation, like stripe.refunds.create", what);
	lua_pop(sr->r->L, 1);
	return op;
}

static void read_probe(const struct state_reader *sr)
{
	static const char *const fields[] = {"with", "found"};
	const struct hp_reader *r = sr->r;
	bool has_found;
	int at;

	if (!hp_r_get(r, sr->body, "probe"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "probe must be a table like { stripe.refunds.list, with = …, found = function(reply, run) … end }");
	at = lua_gettop(r->L);
	hp_r_only(r, at, fields, 2, 1);
	sr->x->probe = first_operation(sr, at, "probe");
	if (!sr->x->probe->pub.read)
		hp_r_fail(r, "probe: %s.%s is not a read; a probe must only look", sr->x->probe->pub.connector,
			  sr->x->probe->pub.name);
	hp_r_expression_of(sr->r, at, "with");
	hp_r_function(r, at, "found", &has_found);
	if (!has_found)
		hp_r_fail(r, "probe: found is missing: function(reply, run) … end");
	sr->s->call.has_probe = true;
	sr->s->call.probe = sr->x->probe->pub;
	lua_pop(r->L, 1);
}

/* What a call has that is an undo, too. */
static void read_request(const struct state_reader *sr, const char *what)
{
	sr->x->op = first_operation(sr, sr->body, what);
	sr->s->call.op = sr->x->op->pub;
	sr->s->call.signed_by = HP_NO_STATE;
	hp_r_expression_of(sr->r, sr->body, "with");
	sr->s->call.has_key = hp_r_expression_of(sr->r, sr->body, "key");
	sr->s->timeout_us = read_timeout(sr, HP_CALL_TIMEOUT_DEFAULT);
	read_retry(sr);
	read_probe(sr);
}

static void read_undo(const struct state_reader *sr);

static void read_call(const struct state_reader *sr)
{
	ONLY(sr, 1, COMMON, "with", "key", "save", "using", "retry", "timeout", "probe", "catch", "undo", "budget",
	     "rate", "concurrency");
	read_request(sr, "call");
	sr->s->save = read_call_save(sr);
	hp_loader_using(sr->r, hp_workflow_conn(sr->w, sr->x->op->pub.connector), sr->body, sr->x);
	read_catch(sr);
	read_undo(sr);
	hp_loader_call_limits(sr->r, sr->w, (int)(sr->s - sr->w->def.states), sr->body);
}

static void read_as(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;

	if (!hp_r_get(r, sr->body, "as"))
		hp_r_fail(r, "as is missing: as = service, or as = user(expression) for row-level security");
	if (hp_mark(r->L, -1, HP_MARK_USER)) {
		hp_r_expression(r, -1, "as");
		sr->s->sql.as_user = true;
		lua_pop(r->L, 2);
		return;
	}
	if (!hp_mark(r->L, -1, HP_MARK_SERVICE))
		hp_r_fail(r, "as must be service or user(expression)");
	lua_pop(r->L, 2);
}

static void read_args(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;

	if (!hp_r_get(r, sr->body, "args"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "args must be a list of expressions");
	hp_r_only(r, -1, NULL, 0, (int)lua_rawlen(r->L, -1));
	hp_r_expression(r, -1, "args");
	lua_pop(r->L, 1);
}

static void read_sql(const struct state_reader *sr)
{
	static const struct {
		const char *field;
		enum hp_sql_mode mode;
	} modes[] = {{"exec", HP_SQL_EXEC}, {"one", HP_SQL_ONE}, {"many", HP_SQL_MANY}};
	const struct hp_reader *r = sr->r;
	size_t i;

	ONLY(sr, 0, COMMON, "as", "exec", "one", "many", "args", "save", "none", "retry", "timeout", "catch", "undo");
	read_as(sr);
	for (i = 0; i < 3; i++) {
		const char *text = hp_r_string(r, sr->body, modes[i].field);

		if (text && sr->s->sql.text)
			hp_r_fail(r, "only one of exec, one and many may be given");
		if (text) {
			sr->s->sql.text = text;
			sr->s->sql.mode = modes[i].mode;
		}
	}
	if (!sr->s->sql.text)
		hp_r_fail(r, "the statement is missing: exec, one or many");
	read_args(sr);
	sr->s->save = read_save(sr, NULL);
	if (sr->s->save && sr->s->sql.mode == HP_SQL_EXEC)
		hp_r_fail(r, "exec gives no rows to save; use one or many");
	sr->s->sql.none = way(sr, "none");
	if (sr->s->sql.none != HP_NO_STATE && sr->s->sql.mode != HP_SQL_ONE)
		hp_r_fail(r, "none belongs to one");
	sr->s->timeout_us = read_timeout(sr, HP_SQL_STATE_TIMEOUT);
	read_retry(sr);
	read_catch(sr);
	read_undo(sr);
}

static void read_undo_statement(const struct state_reader *sr)
{
	ONLY(sr, 0, "as", "exec", "args", "retry", "timeout");
	read_as(sr);
	sr->s->sql.text = hp_r_need(sr->r, sr->body, "exec");
	sr->s->sql.mode = HP_SQL_EXEC;
	sr->s->sql.none = HP_NO_STATE;
	read_args(sr);
	sr->s->timeout_us = read_timeout(sr, HP_SQL_STATE_TIMEOUT);
	read_retry(sr);
}

static void read_undo_request(const struct state_reader *sr)
{
	ONLY(sr, 1, "with", "key", "retry", "timeout", "probe");
	read_request(sr, "undo");
}

/* The undo on top of the stack becomes a state behind the author's own. */
static void add_undo(const struct state_reader *sr)
{
	struct hp_reader inner = *sr->r;
	struct hp_definition *d = &sr->w->def;
	int i = d->n_states + d->n_undos++;
	struct state_reader u = {&inner, sr->w, &d->states[i], &sr->w->extra[i], lua_gettop(inner.L), i};
	bool calls = lua_rawlen(inner.L, u.body) > 0;

	inner.what = hp_r_printf(sr->r, "%s: undo", sr->r->what);
	u.s->name = hp_r_printf(sr->r, "%s.undo", sr->s->name);
	u.s->line = sr->s->line;
	u.s->kind = calls ? HP_CALL : HP_SQL;
	u.s->next = HP_NO_STATE;
	u.s->undoes = sr->index;
	sr->s->undo = i;
	hp_keep_state(inner.L, i, u.body);
	if (calls)
		read_undo_request(&u);
	else
		read_undo_statement(&u);
}

/* A request, a statement, or a text: why nothing can. */
static void read_undo(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	int type; /* asked before the mark, which leaves its value on top */

	if (!hp_r_get(r, sr->body, "undo"))
		return;
	sr->s->has_undo = true;
	type = lua_type(r->L, -1);
	if (type == LUA_TTABLE && !hp_mark(r->L, -1, HP_MARK_OPERATION)) {
		add_undo(sr);
	} else if (type == LUA_TSTRING) {
		if (lua_rawlen(r->L, -1) == 0)
			hp_r_fail(r, "undo is an empty text; say what is left for a person");
		hp_r_expression(r, -1, "undo");
	} else {
		hp_r_fail(r, "undo must be a table like { stripe.refunds.create, with = … }, one with as and exec, "
			     "or a text that says why it cannot be undone");
	}
	lua_settop(r->L, sr->body);
}

/* The key before the first row: a number or a text, as JSON. */
static const char *read_first(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	struct hp_error err = {0};
	const char *json;

	if (!hp_r_get(r, sr->body, "first"))
		hp_r_fail(r, "first is missing: the key before the first row, like 0 or \"\"");
	if (lua_type(r->L, -1) != LUA_TSTRING && !lua_isinteger(r->L, -1))
		hp_r_fail(r, "first must be a whole number or a text");
	json = hp_r_json(r, hp_lua_to_json(r->L, -1), HP_CURSOR_MAX, &err);
	if (err.code == HP_E_TOO_LARGE)
		hp_r_fail(r, "first is longer than %d bytes", HP_CURSOR_MAX);
	if (!json)
		hp_r_fail(r, "no memory left");
	lua_pop(r->L, 1);
	return json;
}

/* rate = "500/s": how many rows in a second, at least one. */
static int64_t read_rate(const struct state_reader *sr)
{
	const char *text = hp_r_string(sr->r, sr->body, "rate"), *end;
	int64_t n = 0;

	if (!text)
		return 0;
	for (end = text; *end >= '0' && *end <= '9' && n <= HP_SWEEP_RATE_MAX; end++)
		n = n * 10 + (*end - '0');
	if (end == text || strcmp(end, "/s") != 0 || n < 1 || n > HP_SWEEP_RATE_MAX)
		hp_r_fail(sr->r, "rate must be rows per second, from \"1/s\" to \"%d/s\"", HP_SWEEP_RATE_MAX);
	return n;
}

/* lag = "64MB": of WAL, in bytes. */
static int64_t read_lag(const struct state_reader *sr)
{
	static const char *const units[] = {"kB", "MB", "GB"};
	const char *text = hp_r_string(sr->r, sr->body, "lag"), *end;
	int64_t n = 0, unit = 1024;

	if (!text)
		return 0;
	for (end = text; *end >= '0' && *end <= '9' && n <= 1024 * 1024; end++)
		n = n * 10 + (*end - '0');
	for (size_t i = 0; i < 3 && end > text; i++, unit *= 1024)
		if (strcmp(end, units[i]) == 0 && n >= 1 && n <= 1024 * 1024)
			return n * unit;
	hp_r_fail(sr->r, "lag must be how far a standby may be behind, like \"64MB\" (kB, MB or GB of WAL)");
}

static void read_sweep_call(const struct state_reader *sr)
{
	static const char *const fields[] = {"with"};
	const struct hp_reader *r = sr->r;
	int at;

	sr->s->sweep.tolerate = hp_r_integer(r, sr->body, "tolerate", 0, 0, INT32_MAX);
	if (!hp_r_get(r, sr->body, "call")) {
		if (sr->s->sweep.tolerate > 0)
			hp_r_fail(r, "tolerate counts rows whose call fails; there is no call");
		return;
	}
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "call must be a table like { stripe.customers.update, with = { id = \"{row.customer}\" } }");
	at = lua_gettop(r->L);
	hp_r_only(r, at, fields, 1, 1);
	sr->x->op = first_operation(sr, at, "call");
	if (sr->x->op->pub.repeat == HP_REPEAT_NEVER && !sr->x->op->pub.read)
		hp_r_fail(r, "call: %s.%s must not be repeated; a sweep sends a row's request again after a crash",
			  sr->x->op->pub.connector, sr->x->op->pub.name);
	hp_r_expression_of(sr->r, at, "with");
	sr->s->sweep.has_call = true;
	sr->s->call.op = sr->x->op->pub;
	sr->s->call.over_budget = HP_NO_STATE;
	sr->s->call.limited = hp_loader_conn_limited(sr->w, sr->x->op->pub.connector);
	lua_pop(r->L, 1);
}

static void read_sweep(const struct state_reader *sr)
{
	struct hp_reader *r = sr->r;
	struct hp_words with_row = *r->known;
	const struct hp_words *known = r->known;

	ONLY(sr, 0, COMMON, "as", "rows", "cursor", "first", "total", "batch", "exec", "args", "call", "tolerate", "rate",
	     "lag", "dry_run", "save", "retry", "timeout", "catch");
	read_as(sr);
	sr->s->call.signed_by = HP_NO_STATE;
	sr->s->sql.none = HP_NO_STATE;
	sr->s->sql.mode = HP_SQL_SWEEP;
	sr->s->sql.text = hp_r_need(r, sr->body, "exec");
	sr->s->sweep.rows = hp_r_need(r, sr->body, "rows");
	sr->s->sweep.cursor = hp_r_need(r, sr->body, "cursor");
	sr->s->sweep.first = read_first(sr);
	sr->s->sweep.total = hp_r_string(r, sr->body, "total");
	sr->s->sweep.per_second = read_rate(sr);
	sr->s->sweep.lag_max = read_lag(sr);
	sr->s->sweep.has_dry_run = hp_r_expression_of(sr->r, sr->body, "dry_run");
	with_row.list = hp_r_alloc(r, sizeof *with_row.list * (size_t)(known->n + 1));
	memcpy(with_row.list, known->list, sizeof *with_row.list * (size_t)known->n);
	with_row.list[with_row.n++] = "row";
	r->known = &with_row;
	read_sweep_call(sr);
	r->known = known;
	read_args(sr);
	if (sr->s->sweep.has_call && hp_r_get(r, sr->body, "batch"))
		hp_r_fail(r, "batch is for sweeps without a call: with one, each row is a page of its own");
	sr->s->sweep.batch = sr->s->sweep.has_call ? 1 : (int)hp_r_integer(r, sr->body, "batch", 500, 1, HP_SQL_ROWS_MAX);
	sr->s->save = read_save(sr, NULL);
	sr->s->timeout_us = read_timeout(sr, sr->s->sweep.has_call ? HP_CALL_TIMEOUT_DEFAULT : HP_SQL_STATE_TIMEOUT);
	read_retry(sr);
	if (sr->s->retry.total_us > 0)
		hp_r_fail(r, "retry: total is not for sweeps; every page has its own attempts");
	read_catch(sr);
}

static void read_branch(const struct state_reader *sr, int n, struct hp_branch *b)
{
	static const char *const fields[] = {"when", "next"};
	const struct hp_reader *r = sr->r;
	int at;

	lua_rawgeti(r->L, sr->body, n);
	at = lua_gettop(r->L);
	if (!lua_istable(r->L, at))
		hp_r_fail(r, "branch %d must be a table like { when = function(run) … end, next = \"state\" }", n);
	hp_r_only(r, at, fields, 2, 0);
	if (!hp_r_expression_of(sr->r, at, "when"))
		hp_r_fail(r, "branch %d: when is missing", n);
	b->line = sr->s->line;
	b->next = hp_loader_way(r, sr->w, at, "next");
	if (b->next == HP_NO_STATE)
		hp_r_fail(r, "branch %d: next is missing", n);
	lua_pop(r->L, 1);
}

static void read_choose(const struct state_reader *sr)
{
	size_t n = lua_rawlen(sr->r->L, sr->body), i;

	if (n > HP_BRANCHES_MAX)
		hp_r_fail(sr->r, "more than %d branches", HP_BRANCHES_MAX);
	ONLY(sr, (int)n, "doc", "set", "otherwise");
	if (n == 0)
		hp_r_fail(sr->r, "there is no branch");
	sr->s->choose.branches = hp_r_alloc(sr->r, sizeof *sr->s->choose.branches * n);
	for (i = 0; i < n; i++)
		read_branch(sr, (int)i + 1, &sr->s->choose.branches[i]);
	sr->s->choose.n_branches = (int)n;
	sr->s->choose.otherwise = way(sr, "otherwise");
	if (sr->s->choose.otherwise == HP_NO_STATE)
		hp_r_fail(sr->r, "otherwise is missing: where to go on when no branch fits");
}

static void read_reminders(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	const char **texts;
	int i, n = hp_r_list(r, sr->body, "reminders", false, HP_REMINDERS_MAX, &texts);

	sr->s->approval.n_reminders = n;
	for (i = 0; i < n; i++) {
		int64_t us;

		lua_newtable(r->L);
		lua_pushstring(r->L, texts[i]);
		lua_setfield(r->L, -2, "reminders");
		us = hp_r_duration(r, -1, "reminders", 0);
		lua_pop(r->L, 1);
		if (i > 0 && us <= sr->s->approval.reminders_us[i - 1])
			hp_r_fail(r, "reminders must ascend");
		if (sr->s->approval.deadline_us > 0 && us >= sr->s->approval.deadline_us)
			hp_r_fail(r, "the reminder after %s comes after the deadline", texts[i]);
		sr->s->approval.reminders_us[i] = us;
	}
}

static void read_evidence(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	int i, k;

	sr->x->n_evidence = hp_r_list(r, sr->body, "evidence", false, HP_WORDS_MAX, &sr->x->evidence);
	for (i = 0; i < sr->x->n_evidence; i++) {
		for (k = 0; k < r->known->n; k++)
			if (strcmp(r->known->list[k], sr->x->evidence[i]) == 0)
				break;
		if (k == r->known->n)
			hp_r_fail(r, "evidence: nothing is saved as \"%s\"%s", sr->x->evidence[i],
				  hp_r_hint(r, sr->x->evidence[i], r->known->list, r->known->n));
	}
}

static void read_approval(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	struct hp_quorum q;
	struct hp_error err = {0};

	ONLY(sr, 0, COMMON, "when", "of", "ask", "evidence", "approvers", "deadline", "reminders", "rejected", "expired",
	     "save", "on");
	sr->s->approval.has_when = hp_r_expression_of(sr->r, sr->body, "when");
	sr->s->approval.of = way(sr, "of");
	if (sr->s->approval.of != HP_NO_STATE && sr->w->def.states[sr->s->approval.of].kind != HP_CALL)
		hp_r_fail(r, "of: \"%s\" is not a call; only the request of a call can be signed",
			  sr->w->def.states[sr->s->approval.of].name);
	need_expression(sr, "ask");
	read_evidence(sr);
	sr->s->approval.approvers = hp_r_need(r, sr->body, "approvers");
	if (hp_quorum_parse(sr->s->approval.approvers, &q, &err) < 0)
		hp_r_fail(r, "%s; %s", err.message, err.hint);
	sr->s->approval.deadline_us = hp_r_duration(r, sr->body, "deadline", 0);
	read_reminders(sr);
	sr->s->approval.rejected = way(sr, "rejected");
	sr->s->approval.expired = way(sr, "expired");
	sr->s->save = read_save(sr, "decision");
	hp_loader_arms(r, sr->w, sr->s, sr->x, sr->body);
}

static void read_wait(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	bool has_for, has_until;

	ONLY(sr, 0, COMMON, "for_", "until_", "on");
	sr->s->wait.for_us = hp_r_duration(r, sr->body, "for_", 0);
	has_for = sr->s->wait.for_us > 0;
	has_until = hp_r_expression_of(sr->r, sr->body, "until_");
	if (has_for == has_until)
		hp_r_fail(r, "%s", has_for ? "for_ and until_ exclude each other"
					   : "how long is missing: for_ = \"10m\" or until_ = expression");
	hp_loader_arms(r, sr->w, sr->s, sr->x, sr->body);
}

static void read_await(const struct state_reader *sr)
{
	const struct hp_reader *r = sr->r;
	const char **events;
	int i;

	ONLY(sr, 0, COMMON, "event", "key", "within", "timeout", "save", "on");
	sr->s->await.n_events = hp_r_list(r, sr->body, "event", true, HP_AWAIT_EVENTS_MAX, &events);
	if (sr->s->await.n_events == 0)
		hp_r_fail(r, "event is missing: the name of the event, like \"stripe.refund.updated\"");
	for (i = 0; i < sr->s->await.n_events; i++)
		sr->s->await.events[i] = events[i];
	need_expression(sr, "key");
	sr->s->await.within_us = hp_r_duration(r, sr->body, "within", 0);
	if (sr->s->await.within_us == 0)
		hp_r_fail(r, "within is missing: how long to wait for the event");
	sr->s->await.timeout = way(sr, "timeout");
	if (sr->s->await.timeout == HP_NO_STATE)
		hp_r_fail(r, "timeout is missing: where to go on when the event does not come");
	sr->s->save = read_save(sr, "event");
	hp_loader_arms(r, sr->w, sr->s, sr->x, sr->body);
}

/* ---- children ---- */

static void read_child(const struct state_reader *sr)
{
	const char *name = hp_r_need(sr->r, sr->body, "workflow");

	if (!hp_name_ok(name))
		hp_r_fail(sr->r, "workflow \"%s\": a name is lower-case letters, digits and _", name);
	sr->s->children.workflow = name;
	sr->s->children.percent = -1;
	sr->s->children.concurrency = 1;
	hp_loader_within(sr->r, sr->w, sr->s, sr->body);
	read_catch(sr);
}

static void read_run(const struct state_reader *sr)
{
	ONLY(sr, 0, COMMON, "workflow", "key", "input", "save", "within", "timeout", "catch", "on");
	read_child(sr);
	hp_r_expression_of(sr->r, sr->body, "key");
	hp_r_expression_of(sr->r, sr->body, "input");
	sr->s->save = read_save(sr, NULL);
	hp_loader_arms(sr->r, sr->w, sr->s, sr->x, sr->body);
}

/* rows: read page by page, never all at once. */
static void read_rows(const struct state_reader *sr)
{
	struct hp_state *s = sr->s;

	s->sql.text = hp_r_string(sr->r, sr->body, "rows");
	s->children.pages = s->sql.text != NULL;
	s->sql.none = HP_NO_STATE;
	s->sql.mode = HP_SQL_MANY;
	s->timeout_us = HP_SQL_STATE_TIMEOUT;
	s->children.cursor = hp_r_string(sr->r, sr->body, "cursor");
	if (!s->children.pages && (s->children.cursor || hp_r_get(sr->r, sr->body, "as") || hp_r_get(sr->r, sr->body, "args") ||
				   hp_r_get(sr->r, sr->body, "from") || hp_r_get(sr->r, sr->body, "retry")))
		hp_r_fail(sr->r, "as, args, cursor, from and retry belong to rows, not to items");
	read_retry(sr);
	if (!s->children.pages)
		return;
	if (!s->children.cursor)
		hp_r_fail(sr->r, "cursor is missing: the column that orders the rows; the next page begins after its last value");
	read_as(sr);
	read_args(sr);
	hp_r_expression_of(sr->r, sr->body, "from");
}

static void read_each(const struct state_reader *sr)
{
	bool has_items;

	ONLY(sr, 0, COMMON, "items", "rows", "as", "args", "cursor", "from", "retry", "workflow", "key", "input",
	     "concurrency", "tolerate", "join", "save", "within", "timeout", "catch", "on");
	read_child(sr);
	has_items = hp_r_expression_of(sr->r, sr->body, "items");
	read_rows(sr);
	if (has_items == sr->s->children.pages)
		hp_r_fail(sr->r, "%s", has_items ? "items and rows exclude each other"
						 : "the items are missing: items = expression, or rows = a statement");
	hp_loader_item(sr->r, sr->body, "key");
	hp_loader_item(sr->r, sr->body, "input");
	sr->s->children.concurrency = (int)hp_r_integer(sr->r, sr->body, "concurrency", 20, 1, HP_CHILDREN_AT_ONCE_MAX);
	hp_loader_join(sr->r, sr->s, sr->body);
	sr->s->save = read_save(sr, NULL);
	hp_loader_arms(sr->r, sr->w, sr->s, sr->x, sr->body);
}

static void read_succeed(const struct state_reader *sr)
{
	ONLY(sr, 0, "doc", "result");
	hp_r_expression_of(sr->r, sr->body, "result");
}

static void read_fail(const struct state_reader *sr)
{
	ONLY(sr, 0, "doc", "code", "message", "undo");
	sr->s->fail.undo = hp_r_bool(sr->r, sr->body, "undo");
	sr->s->fail.code = hp_r_string(sr->r, sr->body, "code");
	if (!sr->s->fail.code)
		sr->s->fail.code = "failed";
	if (!hp_name_ok(sr->s->fail.code) || strlen(sr->s->fail.code) >= HP_CODE_MAX)
		hp_r_fail(sr->r, "code \"%s\" must be lower-case letters, digits and _, at most %d", sr->s->fail.code,
			  HP_CODE_MAX - 1);
	hp_r_expression_of(sr->r, sr->body, "message");
}

static void read_kind(const struct state_reader *sr)
{
	switch (sr->s->kind) {
	case HP_CALL:
		read_call(sr);
		return;
	case HP_SQL:
		read_sql(sr);
		return;
	case HP_CHOOSE:
		read_choose(sr);
		return;
	case HP_APPROVAL:
		read_approval(sr);
		return;
	case HP_WAIT:
		read_wait(sr);
		return;
	case HP_AWAIT:
		read_await(sr);
		return;
	case HP_SUCCEED:
		read_succeed(sr);
		return;
	case HP_FAIL:
		read_fail(sr);
		return;
	case HP_SWEEP:
		read_sweep(sr);
		return;
	case HP_RUN:
		read_run(sr);
		return;
	case HP_EACH:
		read_each(sr);
		return;
	}
}

void hp_loader_state(struct hp_reader *r, struct hp_workflow *w, int i, int body)
{
	struct hp_state *s = &w->def.states[i];
	struct state_reader sr = {r, w, s, &w->extra[i], body, i};

	read_kind(&sr);
	s->doc = hp_r_string(r, body, "doc");
	s->next = HP_NO_STATE;
	if (s->kind == HP_SUCCEED || s->kind == HP_FAIL)
		return;
	read_set(&sr);
	if (s->kind == HP_CHOOSE)
		return;
	if (hp_loader_secret_ops(r, body, sr.x))
		s->has_set = true;
	s->next = way(&sr, "next");
	if (s->next == HP_NO_STATE && i + 1 < w->def.n_states)
		s->next = i + 1; /* reading order is running order */
}
