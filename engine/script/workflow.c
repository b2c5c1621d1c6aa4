/* workflow.c: a bundle becomes a definition and a Lua state that can be rebuilt. */
#include <inttypes.h>
#include <string.h>
#include "base/alloc.h"
#include "base/words.h"
#include "core/schedule.h"
#include "script/internal.h"

/* Finds the sources inside the bundle; they live as long as the bundle. */
static int find_sources(struct hp_workflow *w, struct hp_error *err)
{
	json_t *connectors = json_object_get(w->bundle, "connectors");
	json_t *workflow = json_object_get(w->bundle, "workflow");
	size_t n = json_object_size(connectors), i = 0;
	void *it;

	if (!json_is_object(connectors) || !hp_json_str(workflow, "file") || !hp_json_str(workflow, "source") ||
	    n > HP_WORDS_MAX)
		return hp_fail(err, HP_E_INVALID, "this is not a bundle: workflow.file, workflow.source and connectors are expected");
	w->sources = hp_arena_alloc(w->arena, sizeof *w->sources * (n + 1));
	w->conns = hp_arena_alloc(w->arena, sizeof *w->conns * (n + 1));
	if (!w->sources || !w->conns)
		return hp_fail(err, HP_E_NOMEM, "no memory left to load a workflow");
	for (it = json_object_iter(connectors); it; it = json_object_iter_next(connectors, it)) {
		const json_t *c = json_object_iter_value(it);

		w->sources[i] = (struct hp_source){json_object_iter_key(it), hp_json_str(c, "file"),
						   hp_json_str(c, "source"), json_string_length(json_object_get(c, "source"))};
		if (!w->sources[i].file || !w->sources[i].text)
			return hp_fail(err, HP_E_INVALID, "this is not a bundle: connector \"%s\" has no file or no source",
				       w->sources[i].name);
		i++;
	}
	w->n_connectors = (int)n;
	w->sources[n] = (struct hp_source){NULL, hp_json_str(workflow, "file"), hp_json_str(workflow, "source"),
					   json_string_length(json_object_get(workflow, "source"))};
	return 0;
}

static void read_all(lua_State *L, void *arg)
{
	hp_loader_read(L, arg);
}

static void keep_states(lua_State *L, void *arg)
{
	struct hp_workflow *w = arg;
	int i;

	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_STATES);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_WORKFLOW);
	lua_getfield(L, -1, "body");
	for (i = 1; i <= w->def.n_states; i++) {
		lua_rawgeti(L, -1, i);
		lua_getfield(L, -1, "body");
		lua_rawseti(L, -5, i);
		lua_pop(L, 1);
	}
	for (i = w->def.n_states; i < w->def.n_states + w->def.n_undos; i++) {
		hp_push_state(L, w->def.states[i].undoes);
		lua_getfield(L, -1, "undo");
		hp_keep_state(L, i, lua_gettop(L));
		lua_pop(L, 2);
	}
}

/* After a kill the state is thrown away; the same sources give the same again,
 * and the C structures stay as they are. */
int hp_workflow_ready(struct hp_workflow *w, struct hp_error *err)
{
	if (w->vm.s && !hp_sandbox_dead(w->vm.s))
		return 0;
	hp_vm_close(&w->vm);
	if (hp_vm_open(&w->vm, w->sources, w->n_connectors, &w->sources[w->n_connectors], false, err) < 0)
		return -1;
	if (hp_sandbox_run(w->vm.s, keep_states, w, err) < 0) {
		hp_vm_close(&w->vm); /* half a state answers nothing */
		return -1;
	}
	hp_vm_loaded(&w->vm);
	return 0;
}

struct hp_workflow *hp_workflow_load(struct hp_bytes bundle, struct hp_error *err)
{
	struct hp_workflow *w = hp_calloc(1, sizeof *w);

	if (!w) {
		hp_fail(err, HP_E_NOMEM, "no memory left to load a workflow");
		return NULL;
	}
	if (bundle.n > HP_BUNDLE_MAX) {
		hp_fail(err, HP_E_TOO_LARGE, "the bundle is larger than %d bytes", HP_BUNDLE_MAX);
		goto failed;
	}
	w->arena = hp_arena_new(HP_DEFINITION_ARENA_MAX);
	if (!w->arena) {
		hp_fail(err, HP_E_NOMEM, "no memory left to load a workflow");
		goto failed;
	}
	w->bundle = hp_json_parse(bundle.p, bundle.n, "the bundle", err);
	if (!w->bundle || find_sources(w, err) < 0)
		goto failed;
	hp_bundle_digest(bundle, w->def.digest);
	if (hp_vm_open(&w->vm, w->sources, w->n_connectors, &w->sources[w->n_connectors], false, err) < 0)
		goto failed;
	if (hp_sandbox_run(w->vm.s, read_all, w, err) < 0)
		goto failed;
	hp_vm_loaded(&w->vm);
	return w;
failed:
	hp_workflow_free(w);
	return NULL;
}

void hp_workflow_free(struct hp_workflow *w)
{
	if (!w)
		return;
	hp_vm_close(&w->vm);
	json_decref(w->bundle);
	hp_arena_free(w->arena);
	hp_free(w);
}

const struct hp_definition *hp_workflow_definition(const struct hp_workflow *w)
{
	return &w->def;
}

const char *const *hp_workflow_errors(struct hp_workflow *w, const char *operation, int *n)
{
	const char *dot = strchr(operation, '.');
	char name[HP_NAME_MAX + 1];
	struct hp_conn *c;
	struct hp_op *op;

	*n = 0;
	if (!dot || (size_t)(dot - operation) >= sizeof name)
		return NULL;
	memcpy(name, operation, (size_t)(dot - operation));
	name[dot - operation] = '\0';
	c = hp_workflow_conn(w, name);
	op = c ? hp_conn_op(c, dot + 1) : NULL;
	if (!op)
		return NULL;
	*n = op->n_errors;
	return op->errors;
}

static void add_text(struct hp_buf *out, const char *name, const char *text)
{
	hp_buf_printf(out, "\"%s\":", name);
	if (text)
		hp_buf_json(out, text, strlen(text));
	else
		hp_buf_adds(out, "null");
}

static void add_texts(struct hp_buf *out, const char *name, const char *const *texts, int n)
{
	hp_buf_printf(out, ",\"%s\":[", name);
	for (int i = 0; i < n; i++) {
		if (i)
			hp_buf_addc(out, ',');
		hp_buf_json(out, texts[i], strlen(texts[i]));
	}
	hp_buf_addc(out, ']');
}

struct ways {
	const struct hp_definition *d;
	struct hp_buf *out;
	bool first;
};

static void add_way(void *arg, int from, int to, const char *label, int line)
{
	struct ways *w = arg;

	(void)from;
	(void)line;
	hp_buf_adds(w->out, w->first ? "{" : ",{");
	w->first = false;
	add_text(w->out, "label", label);
	hp_buf_addc(w->out, ',');
	add_text(w->out, "to", w->d->states[to].name);
	hp_buf_addc(w->out, '}');
}

/* The store names a wait's mailboxes by them: the state's own, then those of its arms. */
static void add_events(const struct hp_state *s, struct hp_buf *out)
{
	const char *events[HP_AWAIT_EVENTS_MAX + HP_ARMS_MAX];
	int n = hp_state_events(s);

	if (n)
		memcpy(events, s->await.events, sizeof *events * (size_t)n);
	for (int i = 0; i < s->n_arms; i++)
		if (s->arms[i].kind == HP_ARM_EVENT)
			events[n++] = s->arms[i].event;
	if (n)
		add_texts(out, "events", events, n);
}

/* For `why` and for people: wait is the arm's place among the state's events. */
static void add_arms(const struct hp_definition *d, const struct hp_state *s, struct hp_buf *out)
{
	int wait = hp_state_events(s);

	hp_buf_printf(out, ",\"own_events\":%d,\"arms\":[", wait);
	for (int i = 0; i < s->n_arms; i++) {
		const struct hp_arm *arm = &s->arms[i];

		hp_buf_adds(out, i ? ",{" : "{");
		add_text(out, "name", arm->name);
		hp_buf_printf(out, ",\"kind\":\"%s\",", hp_arm_kind_name(arm->kind));
		add_text(out, "next", d->states[arm->next].name);
		if (arm->kind == HP_ARM_EVENT)
			hp_buf_printf(out, ",\"wait\":%d", wait++);
		if (arm->kind == HP_ARM_CHECK)
			hp_buf_printf(out, ",\"operation\":\"%s.%s\",\"every_us\":%" PRId64, arm->op.connector,
				      arm->op.name, arm->every_us);
		hp_buf_addc(out, '}');
	}
	hp_buf_addc(out, ']');
}

static void add_state(const struct hp_workflow *w, int i, struct hp_buf *out)
{
	const struct hp_state *s = &w->def.states[i];
	struct ways ways = {&w->def, out, true};

	hp_buf_adds(out, i ? ",{" : "{");
	add_text(out, "name", s->name);
	hp_buf_printf(out, ",\"kind\":\"%s\",\"line\":%d,", hp_kind_name(s->kind), s->line);
	add_text(out, "doc", s->doc);
	if (i >= w->def.n_states) { /* the others' indexes stay as they are */
		hp_buf_adds(out, ",\"undoes\":");
		hp_buf_json(out, w->def.states[s->undoes].name, strlen(w->def.states[s->undoes].name));
	}
	if (hp_state_calls(s)) {
		hp_buf_printf(out, ",\"operation\":\"%s.%s\",\"destructive\":%s,\"read\":%s", s->call.op.connector,
			      s->call.op.name, s->call.op.destructive ? "true" : "false",
			      s->call.op.read ? "true" : "false");
		hp_buf_printf(out, ",\"timeout_us\":%" PRId64, s->timeout_us); /* how long a breaker's probe may take */
		if (s->call.has_probe)
			hp_buf_printf(out, ",\"probe\":\"%s.%s\"", s->call.probe.connector, s->call.probe.name);
	}
	add_events(s, out);
	if (w->extra[i].limits.budget)
		hp_buf_printf(out, ",\"budget\":\"%s\"", w->extra[i].limits.budget);
	if (s->n_arms)
		add_arms(&w->def, s, out);
	if (s->kind == HP_APPROVAL) {
		hp_buf_addc(out, ',');
		add_text(out, "approvers", s->approval.approvers);
		/* what a restart or a move must not jump over (0015) */
		hp_buf_printf(out, ",\"asks\":%s", s->approval.has_when ? "\"sometimes\"" : "\"always\"");
		if (s->approval.of != HP_NO_STATE) {
			hp_buf_addc(out, ',');
			add_text(out, "of", w->def.states[s->approval.of].name);
		}
	}
	if (s->save) {
		hp_buf_addc(out, ',');
		add_text(out, "save", s->save);
	}
	if (s->kind == HP_RUN || s->kind == HP_EACH) {
		hp_buf_addc(out, ',');
		add_text(out, "workflow", s->children.workflow);
	}
	hp_buf_adds(out, ",\"ways\":[");
	if (i < w->def.n_states)
		hp_definition_edges(&w->def, i, add_way, &ways);
	hp_buf_adds(out, "]}");
}

/* What the engine needs to follow the schedules; absent when there are none. */
static void add_schedules(const struct hp_definition *d, struct hp_buf *out)
{
	for (int i = 0; i < d->n_schedules; i++) {
		const struct hp_schedule_trigger *t = &d->schedules[i];

		hp_buf_adds(out, i ? ",{" : ",\"schedules\":[{");
		add_text(out, "cron", t->cron);
		hp_buf_addc(out, ',');
		add_text(out, "zone", t->zone);
		hp_buf_printf(out,
			      ",\"jitter_us\":%" PRId64 ",\"within_us\":%" PRId64
			      ",\"catch_up\":\"%s\",\"overlap\":\"%s\",\"input\":%s}",
			      t->jitter_us, t->within_us, hp_catch_up_name((enum hp_catch_up)t->catch_up),
			      hp_overlap_name((enum hp_overlap)t->overlap), t->input);
	}
	if (d->n_schedules)
		hp_buf_addc(out, ']');
}

int hp_workflow_summary(const struct hp_workflow *w, struct hp_buf *out, struct hp_error *err)
{
	const struct hp_definition *d = &w->def;
	int i;

	hp_buf_addc(out, '{');
	add_text(out, "workflow", d->workflow);
	hp_buf_addc(out, ',');
	add_text(out, "doc", d->doc);
	hp_buf_addc(out, ',');
	add_text(out, "file", d->file);
	hp_buf_printf(out, ",\"keyed\":%s%s,\"states\":[", d->has_key ? "true" : "false",
		      d->cancel_undoes ? ",\"on_cancel\":\"undo\"" : "");
	for (i = 0; i < d->n_states + d->n_undos; i++)
		add_state(w, i, out);
	hp_buf_adds(out, "],\"triggers\":[");
	for (i = 0; i < d->n_triggers; i++) {
		hp_buf_adds(out, i ? ",{" : "{");
		add_text(out, "source", d->triggers[i].source);
		add_texts(out, "events", d->triggers[i].events, d->triggers[i].n_events);
		hp_buf_addc(out, '}');
	}
	hp_buf_addc(out, ']');
	add_schedules(d, out);
	hp_limits_summary(w, out);
	if (d->retention_us) /* the store removes its runs by it */
		hp_buf_printf(out, ",\"retention_us\":%" PRId64, d->retention_us);
	hp_buf_adds(out, ",\"input\":");
	if (w->input)
		hp_schema_json(w->input, out);
	else
		hp_buf_adds(out, "null");
	hp_buf_addc(out, '}');
	return hp_buf_check(out, "the summary of a workflow", err);
}
