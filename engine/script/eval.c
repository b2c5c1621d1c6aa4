/* eval.c: answers to the machine's EVAL.
 *
 * One function per kind of question; each runs what it needs in the sandbox and
 * puts its answer into `out`. Pointers into `out` are made at the very end,
 * because it moves while it grows.
 */
#include <stdio.h>
#include <string.h>
#include "base/mutant.h"
#include "base/words.h"
#include "core/quorum.h"
#include "script/internal.h"

typedef int (*eval_fn)(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		       const char **code, struct hp_error *err);

/* ---- input ---- */

static int eval_input(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		      const char **code, struct hp_error *err)
{
	(void)act;
	(void)a;
	(void)ev;
	*code = "input_invalid";
	return hp_workflow_check_input(j->w, j->data->input, err);
}

/* ---- requests ---- */

/* Behind the request, which is complete. */
static int add_key(struct answer *a, struct hp_bytes key, struct hp_error *err)
{
	a->value_n = a->key_at = a->out->n;
	a->key_n = key.n;
	hp_buf_add(a->out, key.p, key.n);
	return hp_buf_check(a->out, "a request", err);
}

/* What a person signed is sent as it was stored, and nothing else. */
static int stored_request(struct hp_job *j, struct answer *a, struct hp_event *ev, const char **code,
			  struct hp_error *err)
{
	const struct hp_run_data *d = j->data;
	uint8_t hash[HP_SHA256_LEN];

	*code = "signed_request_missing";
	if (!d->signed_request.n || !d->signed_hash || !d->signed_key.n)
		return hp_fail(err, HP_E_INTERNAL, "the signed request of this run was not found");
	hp_sha256(d->signed_request.p, d->signed_request.n, hash);
	*code = "signed_request_damaged";
	if (!HP_GUARD(signed_hash, memcmp(hash, d->signed_hash, sizeof hash) == 0))
		return hp_fail(err, HP_E_INTERNAL, "the stored request is not the one that was signed: its hash differs");
	memcpy(ev->hash, hash, sizeof hash);
	hp_buf_add(a->out, d->signed_request.p, d->signed_request.n);
	return add_key(a, d->signed_key, err);
}

static int32_t visit_of(const struct hp_action *act, const struct hp_run *run)
{
	return act->pending ? act->pending->after.visit : run->visit;
}

static int rendered(struct hp_job *j, int state, bool probe, struct answer *a, struct hp_event *ev, const char **code,
		    struct hp_error *err)
{
	struct hp_buf key;
	int rc;

	hp_buf_init(&key, HP_KEY_MAX + 1);
	rc = hp_request_render(j, state, probe, (int32_t)j->number, a->out, &key, code, err);
	if (rc == 0) {
		hp_sha256(a->out->p, a->out->n, ev->hash);
		rc = add_key(a, hp_buf_bytes(&key), err);
	}
	hp_buf_free(&key);
	return rc;
}

/* Of an undo: as it was rendered when its effect succeeded. */
static int kept_request(struct hp_job *j, const char *name, struct answer *a, struct hp_event *ev, const char **code,
			struct hp_error *err)
{
	struct hp_buf key;
	int rc;

	*code = "undo_log_missing";
	hp_buf_init(&key, HP_KEY_MAX + 1);
	rc = hp_undo_kept(j, name, a->out, &key, err);
	if (rc == 0) {
		hp_sha256(a->out->p, a->out->n, ev->hash);
		rc = add_key(a, hp_buf_bytes(&key), err);
	}
	hp_buf_free(&key);
	return rc;
}

static int eval_request(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
			const char **code, struct hp_error *err)
{
	const char *script = *code;
	int rc;

	if (act->state >= j->w->def.n_states)
		return kept_request(j, "request", a, ev, code, err);
	rc = act->index == 1 ? stored_request(j, a, ev, code, err) : rendered(j, act->state, false, a, ev, code, err);
	if (rc < 0 || !j->w->def.states[act->state].call.limited)
		return rc;
	*code = script;
	a->demands_at = a->out->n;
	rc = hp_limits_eval(j, a->out, err);
	a->demands_n = a->out->n - a->demands_at;
	return rc;
}

static int eval_probe(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		      const char **code, struct hp_error *err)
{
	if (act->state >= j->w->def.n_states)
		return kept_request(j, "probe", a, ev, code, err);
	return rendered(j, act->state, true, a, ev, code, err);
}

/* The check of arm `index`. */
static int eval_check(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		      const char **code, struct hp_error *err)
{
	struct hp_buf key;
	int rc;

	(void)ev;
	hp_buf_init(&key, HP_KEY_MAX + 1);
	rc = hp_request_render_check(j, act->state, act->index, (int32_t)j->number, a->out, &key, code, err);
	if (rc == 0)
		rc = add_key(a, hp_buf_bytes(&key), err);
	hp_buf_free(&key);
	return rc;
}

static void alarm_function(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	luaL_checkstack(L, 20, NULL);
	hp_push_arm(L, j->state, j->arm);
	lua_getfield(L, -1, "when");
	hp_lua_push_json(L, j->in);
	hp_expr_push_run(L, j);
	hp_sandbox_call(L, 2, 1);
	if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
		hp_job_fail(L, j, "when", lua_pushfstring(L, "of arm \"%s\" must give true or false, not a %s", j->arm->name,
						      luaL_typename(L, -1)));
	j->truth = lua_toboolean(L, -1);
}

static int eval_alarm(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		      const char **code, struct hp_error *err)
{
	json_t *reply = hp_json_parse(act->value.p, act->value.n, "the check's reply", err);
	int rc;

	(void)a;
	(void)code;
	if (!reply)
		return -1;
	j->in = reply;
	j->arm = &hp_job_state(j)->arms[act->index];
	rc = hp_vm_run(j->vm, alarm_function, j, err);
	json_decref(reply);
	ev->truth = j->truth;
	return rc;
}

static void found_function(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	hp_job_push_field(L, j, "probe");
	lua_getfield(L, -1, "found");
	hp_lua_push_json(L, j->in);
	hp_expr_push_run(L, j);
	hp_sandbox_call(L, 2, 1);
	if (lua_isnil(L, -1)) {
		j->verdict = HP_VERDICT_UNKNOWN;
	} else if (lua_isboolean(L, -1) && !lua_toboolean(L, -1)) {
		j->verdict = HP_VERDICT_ABSENT;
	} else {
		j->verdict = HP_VERDICT_FOUND;
		hp_lua_write_json(L, -1, &j->text);
	}
}

static int eval_found(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		      const char **code, struct hp_error *err)
{
	json_t *reply = hp_json_parse(act->value.p, act->value.n, "the probe's reply", err);
	int rc;

	(void)code;
	if (!reply)
		return -1;
	j->in = reply;
	if (act->state >= j->w->def.n_states)
		hp_undo_values(j);
	rc = hp_vm_run(j->vm, found_function, j, err);
	json_decref(reply);
	if (rc < 0 || hp_buf_check(&j->text, "what found() returned", err) < 0)
		return -1;
	ev->verdict = j->verdict;
	hp_buf_add(a->out, j->text.p, j->text.n);
	a->value_n = j->text.n;
	return 0;
}

/* ---- choices and times ---- */

static void when_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	luaL_checkstack(L, 20, NULL);
	hp_push_state(L, j->state);
	if (hp_job_state(j)->kind == HP_CHOOSE)
		lua_rawgeti(L, -1, j->index + 1);
	lua_getfield(L, -1, "when");
	hp_expr(L, j, -1, "when");
	if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
		hp_job_fail(L, j, "when", lua_pushfstring(L, "must be true or false, not a %s", luaL_typename(L, -1)));
	j->truth = lua_toboolean(L, -1);
}

static int eval_when(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		     const char **code, struct hp_error *err)
{
	(void)a;
	(void)code;
	j->index = act->index;
	if (hp_vm_run(j->vm, when_expression, j, err) < 0)
		return -1;
	ev->truth = j->truth;
	return 0;
}

/* Pushes nothing: the time that the expression at index gives, into j->number. */
static void time_of(lua_State *L, struct hp_job *j, int index, const char *field)
{
	hp_expr(L, j, index, field);
	if (lua_isinteger(L, -1))
		j->number = lua_tointeger(L, -1);
	else if (lua_type(L, -1) != LUA_TSTRING || hp_time_parse(lua_tostring(L, -1), &j->number) < 0)
		hp_job_fail(L, j, field, "must be a time: microseconds since 1970 or a text like 2026-11-23T02:04:05Z");
	if (j->number <= 0 || j->number > j->data->now + HP_DURATION_MAX)
		hp_job_fail(L, j, field, "is before 1970 or more than ten years away");
	lua_pop(L, 1);
}

static void until_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	struct hp_error err = {0};
	int64_t us;

	hp_job_push_field(L, j, "for_");
	if (!lua_isnil(L, -1)) {
		if (hp_duration_parse(lua_tostring(L, -1), &us, &err) < 0)
			hp_job_fail(L, j, "for_", err.message);
		j->number = j->data->now + us;
		return;
	}
	hp_job_push_field(L, j, "until_");
	time_of(L, j, -1, "until_");
}

static void at_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	luaL_checkstack(L, 20, NULL);
	hp_push_arm(L, j->state, j->arm);
	lua_getfield(L, -1, "at");
	time_of(L, j, -1, "on: at");
}

static int eval_at(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		   const char **code, struct hp_error *err)
{
	(void)a;
	(void)code;
	j->arm = &hp_job_state(j)->arms[act->index];
	if (hp_vm_run(j->vm, at_expression, j, err) < 0)
		return -1;
	ev->number = j->number;
	return 0;
}

static int eval_until(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		      const char **code, struct hp_error *err)
{
	(void)act;
	(void)a;
	(void)code;
	if (hp_vm_run(j->vm, until_expression, j, err) < 0)
		return -1;
	ev->number = j->number;
	return 0;
}

/* ---- values ---- */

static void mailbox_key(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const char *s;
	size_t n;

	luaL_checkstack(L, 20, NULL);
	if (j->arm)
		hp_push_arm(L, j->state, j->arm);
	else
		hp_push_state(L, j->state);
	lua_getfield(L, -1, "key");
	hp_expr(L, j, -1, "key");
	if (lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1))
		hp_job_fail(L, j, "key", lua_pushfstring(L, "must be a text, not a %s", luaL_typename(L, -1)));
	s = lua_tolstring(L, -1, &n);
	if (n == 0 || n > HP_KEY_MAX)
		hp_job_fail(L, j, "key", lua_pushfstring(L, "must have from 1 to %d bytes", HP_KEY_MAX));
	if (memchr(s, '\n', n))
		hp_job_fail(L, j, "key", "contains a line break");
	hp_buf_add(&j->text, s, n);
}

int hp_eval_check_text(const struct hp_buf *b, const char *what, struct hp_error *err)
{
	json_t *v;

	if (hp_buf_check(b, what, err) < 0)
		return -1;
	if (memchr(b->p, '\0', b->n))
		return hp_fail(err, HP_E_INVALID, "%s contains a zero byte", what);
	v = json_stringn(b->p, b->n); /* refuses what is not UTF-8 */
	if (!v)
		return hp_fail(err, HP_E_INVALID, "%s is not valid UTF-8", what);
	json_decref(v);
	return 0;
}

/* Adds one more key to those of the state. */
static int add_mailbox(struct hp_job *j, const struct hp_arm *arm, int n, struct answer *a, struct hp_error *err)
{
	hp_buf_clear(&j->text);
	j->arm = arm;
	if (hp_vm_run(j->vm, mailbox_key, j, err) < 0 || hp_eval_check_text(&j->text, "the mailbox's key", err) < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		if (a->value_n)
			hp_buf_addc(a->out, '\n');
		hp_buf_add(a->out, j->text.p, j->text.n);
		a->value_n = a->out->n;
	}
	return 0;
}

/* The state's own events have one key; then those of its arms, each with its own. */
static int eval_mailbox(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
			const char **code, struct hp_error *err)
{
	const struct hp_state *s = hp_job_state(j);
	int own = hp_state_events(s);

	(void)act;
	(void)ev;
	*code = "key_invalid";
	if (own > 0 && add_mailbox(j, NULL, own, a, err) < 0)
		return -1;
	for (int i = 0; i < s->n_arms; i++)
		if (s->arms[i].kind == HP_ARM_EVENT && add_mailbox(j, &s->arms[i], 1, a, err) < 0)
			return -1;
	a->key_n = a->value_n; /* value and key are the same bytes */
	return 0;
}

static void args_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	hp_job_push_field(L, j, "args");
	if (lua_isnil(L, -1))
		hp_buf_adds(&j->text, "[]");
	else {
		hp_expr(L, j, -1, "args");
		if (lua_rawlen(L, -1) == 0)
			hp_buf_adds(&j->text, "[]");
		else
			hp_lua_write_json(L, -1, &j->text);
	}
	if (hp_job_state(j)->sweep.has_dry_run) {
		hp_job_push_field(L, j, "dry_run");
		hp_expr(L, j, -1, "dry_run");
		if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
			hp_job_fail(L, j, "dry_run", lua_pushfstring(L, "must be true or false, not a %s", luaL_typename(L, -1)));
		j->truth = lua_toboolean(L, -1);
	}
	if (!hp_job_state(j)->sql.as_user)
		return;
	hp_job_push_field(L, j, "as");
	lua_getfield(L, -1, HP_MARK_USER);
	hp_expr(L, j, -1, "as");
	if ((lua_type(L, -1) != LUA_TSTRING && !lua_isinteger(L, -1)) || lua_tostring(L, -1)[0] == '\0')
		hp_job_fail(L, j, "as", "user(…) must give the user's id, a text");
	hp_lua_write_json(L, -1, &j->text2); /* a number became text just above */
}

static int eval_args(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		     const char **code, struct hp_error *err)
{
	(void)code;
	if (act->state >= j->w->def.n_states) {
		*code = "undo_log_missing";
		if (hp_undo_kept(j, "args", a->out, NULL, err) < 0)
			return -1;
	} else {
		j->annex = act->value;
		hp_buf_addc(a->out, '{');
		if (hp_statement_args(j, a->out, err) < 0)
			return -1;
		hp_buf_addc(a->out, '}');
		ev->truth = j->truth; /* a sweep's dry_run */
	}
	a->value_n = a->out->n;
	return 0;
}

/* "args":[…] and "user":… of the job's state. */
int hp_statement_args(struct hp_job *j, struct hp_buf *out, struct hp_error *err)
{
	if (hp_vm_run(j->vm, args_expression, j, err) < 0)
		return -1;
	if (hp_buf_check(&j->text, "args", err) < 0)
		return -1;
	hp_buf_adds(out, "\"args\":[");
	if (hp_job_state(j)->kind == HP_EACH && hp_eval_page(j, out, err) < 0)
		return -1;
	hp_buf_add(out, j->text.p + 1, j->text.n - 1); /* without its bracket */
	if (j->text2.n) {
		hp_buf_adds(out, ",\"user\":");
		hp_buf_add(out, j->text2.p, j->text2.n);
	}
	return 0;
}

static void set_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	hp_job_push_field(L, j, "set");
	if (lua_isnil(L, -1)) /* the state only promotes or retires a secret */
		return;
	hp_expr(L, j, -1, "set");
	hp_lua_write_json(L, -1, &j->text);
}

static void result_expression(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	bool fails = hp_job_state(j)->kind == HP_FAIL;
	const char *field = fails ? "message" : "result";

	hp_job_push_field(L, j, field);
	if (lua_isnil(L, -1))
		return;
	hp_expr(L, j, -1, field);
	if (fails && lua_type(L, -1) != LUA_TSTRING)
		hp_job_fail(L, j, field, lua_pushfstring(L, "must be a text, not a %s", luaL_typename(L, -1)));
	if (!lua_isnil(L, -1))
		hp_lua_write_json(L, -1, &j->text);
}

static int from_text(struct hp_job *j, hp_sandbox_fn fn, struct answer *a, struct hp_error *err)
{
	if (hp_vm_run(j->vm, fn, j, err) < 0 || hp_buf_check(&j->text, "a value", err) < 0)
		return -1;
	if (j->text.n > HP_VALUE_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "state \"%s\": a value is larger than %d bytes", hp_job_state(j)->name,
			       HP_VALUE_MAX);
	hp_buf_add(a->out, j->text.p, j->text.n);
	a->value_n = a->out->n;
	return 0;
}

/* In the sandbox: what the state promotes and retires into text2. */
static void secret_ops(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const struct hp_extra *x = &j->w->extra[j->state];
	int i;

	hp_buf_adds(&j->text2, "{\"ops\":[");
	for (i = 0; i < x->n_secret_ops; i++) {
		const struct hp_secret_op *op = &x->secret_ops[i];
		const char *version = NULL;

		lua_settop(L, 0);
		hp_job_push_field(L, j, op->op);
		if (op->index > 0)
			lua_rawgeti(L, -1, op->index);
		if (hp_secret_marked(L, -1)) {
			hp_expr(L, j, -1, op->op);
			lua_getfield(L, -1, "version");
			version = lua_tostring(L, -1);
			if (!lua_isnil(L, -1) && (!version || !hp_secret_op_version_ok(op->op, version)))
				luaL_error(L, "%s:%d: state \"%s\": %s: the version is %s, not \"%s\"", j->w->def.file,
					   hp_job_state(j)->line, hp_job_state(j)->name, op->op, hp_secret_op_versions(op->op),
					   version ? version : luaL_typename(L, -1));
		}
		hp_buf_printf(&j->text2, "%s{\"op\":\"%s\",\"name\":\"%s\"", i ? "," : "", op->op, op->name);
		if (version && version[0] >= '0' && version[0] <= '9')
			hp_buf_printf(&j->text2, ",\"version\":%s", version);
		else if (version)
			hp_buf_printf(&j->text2, ",\"which\":\"%s\"", version);
		hp_buf_addc(&j->text2, '}');
	}
	hp_buf_adds(&j->text2, "]}");
}

static int add_secret_ops(struct hp_job *j, struct answer *a, struct hp_error *err)
{
	if (j->w->extra[j->state].n_secret_ops == 0)
		return 0;
	if (hp_vm_run(j->vm, secret_ops, j, err) < 0 || hp_buf_check(&j->text2, "promote and retire", err) < 0)
		return -1;
	a->key_at = a->out->n;
	a->key_n = j->text2.n;
	hp_buf_add(a->out, j->text2.p, j->text2.n);
	return 0;
}

static int eval_set(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		    const char **code, struct hp_error *err)
{
	(void)act;
	(void)ev;
	(void)code;
	if (from_text(j, set_expression, a, err) < 0)
		return -1;
	return add_secret_ops(j, a, err);
}

static int eval_result(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		       const char **code, struct hp_error *err)
{
	const struct hp_state *s = hp_job_state(j);

	(void)ev;
	(void)code;
	if (act->pending && act->pending->after.phase == HP_PH_UNDOING) {
		if (hp_undo_kept(j, "result", a->out, NULL, err) < 0)
			return -1;
		a->value_n = a->out->n;
		return 0;
	}
	if (s->kind == HP_SUCCEED)
		return from_text(j, result_expression, a, err);
	if (hp_vm_run(j->vm, result_expression, j, err) < 0 || hp_buf_check(&j->text, "a message", err) < 0)
		return -1;
	hp_buf_adds(a->out, "{\"code\":");
	hp_buf_json(a->out, s->fail.code, strlen(s->fail.code));
	if (j->text.n) {
		hp_buf_adds(a->out, ",\"message\":");
		hp_buf_add(a->out, j->text.p, j->text.n);
	}
	hp_buf_addc(a->out, '}');
	a->value_n = a->out->n;
	return 0;
}

/* ---- approval ---- */

/* In the sandbox: the question into text, the evidence into text2. */
static void ask_and_evidence(lua_State *L, void *arg)
{
	struct hp_job *j = arg;
	const struct hp_extra *x = &j->w->extra[j->state];
	int i;

	hp_job_push_field(L, j, "ask");
	hp_expr(L, j, -1, "ask");
	if (lua_type(L, -1) != LUA_TSTRING)
		hp_job_fail(L, j, "ask", lua_pushfstring(L, "must be a text, not a %s", luaL_typename(L, -1)));
	hp_lua_write_json(L, -1, &j->text);
	hp_expr_push_run(L, j);
	lua_newtable(L);
	for (i = 0; i < x->n_evidence; i++) {
		lua_getfield(L, -2, x->evidence[i]); /* absent on this road: not shown */
		lua_setfield(L, -2, x->evidence[i]);
	}
	hp_lua_write_json(L, -1, &j->text2);
}

static int add_request(struct hp_job *j, int call, struct answer *a, struct hp_event *ev, const char **code,
		       struct hp_error *err)
{
	const struct hp_operation *op = &j->w->def.states[call].call.op;
	struct hp_buf request, key;
	int approval = j->state, rc;

	hp_buf_init(&request, HP_RUN_DATA_MAX);
	hp_buf_init(&key, HP_KEY_MAX + 1);
	rc = hp_request_render(j, call, false, (int32_t)j->number, &request, &key, code, err);
	j->state = approval;
	if (rc == 0) {
		hp_sha256(request.p, request.n, ev->hash);
		hp_buf_printf(a->out, ",\"operation\":\"%s.%s\",\"key\":", op->connector, op->name);
		hp_buf_json(a->out, key.p, key.n);
		hp_buf_adds(a->out, ",\"request\":");
		hp_buf_json(a->out, request.p, request.n);
	}
	hp_buf_free(&request);
	hp_buf_free(&key);
	return rc;
}

static int eval_approval(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
			 const char **code, struct hp_error *err)
{
	const struct hp_state *s = hp_job_state(j);
	struct hp_quorum q;

	(void)act;
	if (hp_vm_run(j->vm, ask_and_evidence, j, err) < 0)
		return -1;
	if (hp_buf_check(&j->text, "ask", err) < 0 || hp_buf_check(&j->text2, "evidence", err) < 0)
		return -1;
	if (hp_quorum_parse(s->approval.approvers, &q, err) < 0)
		return -1;
	hp_buf_adds(a->out, "{\"ask\":");
	hp_buf_add(a->out, j->text.p, j->text.n);
	hp_buf_adds(a->out, ",\"evidence\":");
	hp_buf_add(a->out, j->text2.p, j->text2.n);
	hp_buf_adds(a->out, ",\"approvers\":");
	hp_buf_json(a->out, s->approval.approvers, strlen(s->approval.approvers));
	hp_buf_adds(a->out, ",\"quorum\":");
	hp_quorum_json(&q, a->out);
	if (s->approval.of != HP_NO_STATE && add_request(j, s->approval.of, a, ev, code, err) < 0)
		return -1;
	hp_buf_addc(a->out, '}');
	a->value_n = a->out->n;
	return 0;
}

/* ---- undo ---- */

static int eval_undo(struct hp_job *j, const struct hp_action *act, struct answer *a, struct hp_event *ev,
		     const char **code, struct hp_error *err)
{
	(void)ev;
	if (hp_undo_render(j, act->state, (int32_t)j->number, a->out, code, err) < 0)
		return -1;
	a->value_n = a->out->n;
	return 0;
}

/* ---- dispatch ---- */

static const eval_fn evals[] = {
	[HP_EVAL_INPUT] = eval_input,       [HP_EVAL_REQUEST] = eval_request, [HP_EVAL_PROBE] = eval_probe,
	[HP_EVAL_FOUND] = eval_found,       [HP_EVAL_WHEN] = eval_when,       [HP_EVAL_ARGS] = eval_args,
	[HP_EVAL_APPROVAL] = eval_approval, [HP_EVAL_UNTIL] = eval_until,     [HP_EVAL_MAILBOX] = eval_mailbox,
	[HP_EVAL_SET] = eval_set,           [HP_EVAL_RESULT] = eval_result,   [HP_EVAL_AT] = eval_at,
	[HP_EVAL_CHECK] = eval_check,       [HP_EVAL_ALARM] = eval_alarm,
	[HP_EVAL_UNDO] = eval_undo,         [HP_EVAL_CHILDREN] = hp_eval_children, [HP_EVAL_JOINED] = hp_eval_joined,
};

/* The message goes into out, which is emptied for it. */
static void refuse(struct hp_buf *out, struct hp_event *ev, const char *code, const struct hp_error *err)
{
	hp_buf_clear(out);
	hp_buf_adds(out, err->message);
	memset(ev->hash, 0, sizeof ev->hash);
	ev->ok = false;
	ev->outcome = HP_NEEDS_PERSON;
	ev->code = code;
	ev->message = hp_buf_str(out);
}

void hp_workflow_eval(struct hp_workflow *w, const struct hp_run_data *data, const struct hp_run *run,
		      const struct hp_action *act, struct hp_buf *out, struct hp_event *ev)
{
	struct answer a = {.out = out};
	struct hp_error err = {0};
	const char *code = "script_error";
	struct hp_job j;
	int rc;

	HP_ASSERT(act->type == HP_ACT_EVAL && act->eval >= HP_EVAL_INPUT && act->eval <= HP_EVAL_JOINED);
	HP_ASSERT(act->state >= 0 && act->state < w->def.n_states + w->def.n_undos);
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_VALUE;
	ev->now = data->now;
	ev->retry_after_us = -1;
	hp_buf_clear(out);
	hp_job_init(&j, w);
	j.data = data;
	j.pending = act->pending;
	j.state = act->state;
	if (w->def.states[act->state].kind == HP_SWEEP)
		j.row = act->value;
	j.number = visit_of(act, run);
	rc = hp_workflow_ready(w, &err);
	if (rc == 0)
		rc = evals[act->eval](&j, act, &a, ev, &code, &err);
	if (rc == 0)
		rc = hp_buf_check(out, "a value", &err);
	hp_job_free(&j);
	if (rc < 0) {
		refuse(out, ev, code, &err);
		return;
	}
	ev->ok = true;
	ev->value = (struct hp_bytes){out->p, a.value_n};
	if (a.key_n && act->eval == HP_EVAL_SET)
		ev->secrets = (struct hp_bytes){out->p + a.key_at, a.key_n};
	else if (a.key_n)
		ev->key = (struct hp_bytes){out->p + a.key_at, a.key_n};
	if (a.demands_n)
		ev->demands = (struct hp_bytes){out->p + a.demands_at, a.demands_n};
}
