/* webhook.c: a connector on its own, for the webhook door.
 *
 * The current one, not the one some run is pinned to: what arrives now is read by
 * what is installed now.
 */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/alloc.h"
#include "script/internal.h"

struct hp_connector {
	struct hp_arena *arena;
	struct hp_vm vm;
	struct hp_buf source;
	char name[HP_NAME_MAX + 1];
	char file[HP_NAME_MAX + 32];
	struct hp_conn c;
};

static void read_connector(lua_State *L, void *arg)
{
	struct hp_connector *c = arg;
	struct hp_reader r = {.L = L, .a = c->arena, .file = c->file};

	r.what = lua_pushfstring(L, "connector \"%s\"", c->name);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_CONNECTORS);
	lua_getfield(L, -1, c->name);
	lua_getfield(L, -1, "line");
	r.line = (int)lua_tointeger(L, -1);
	lua_pop(L, 1);
	lua_getfield(L, -1, "body");
	hp_connector_read(&r, c->name, &c->c);
}

static int ready(struct hp_connector *c, struct hp_error *err)
{
	struct hp_source src = {c->name, c->file, hp_buf_str(&c->source), c->source.n};

	if (c->vm.s && !hp_sandbox_dead(c->vm.s))
		return 0;
	hp_vm_close(&c->vm);
	if (hp_vm_open(&c->vm, &src, 1, NULL, false, err) < 0)
		return -1;
	hp_vm_loaded(&c->vm);
	return 0;
}

struct hp_connector *hp_connector_load(const char *name, const char *plugins_dir, struct hp_error *err)
{
	struct hp_connector *c = NULL;
	char path[4096];

	if (!hp_name_ok(name)) {
		hp_fail(err, HP_E_INVALID, "\"%.60s\" is not the name of a connector", name);
		return NULL;
	}
	c = hp_calloc(1, sizeof *c);
	if (!c) {
		hp_fail(err, HP_E_NOMEM, "no memory left to load a connector");
		return NULL;
	}
	hp_buf_init(&c->source, HP_SOURCE_MAX + 1);
	snprintf(c->name, sizeof c->name, "%s", name);
	snprintf(c->file, sizeof c->file, "plugins/%s/connector.lua", name);
	snprintf(path, sizeof path, "%s/%s/connector.lua", plugins_dir, name);
	c->arena = hp_arena_new(HP_DEFINITION_ARENA_MAX);
	if (!c->arena) {
		hp_fail(err, HP_E_NOMEM, "no memory left to load a connector");
		goto failed;
	}
	if (hp_read_file(path, HP_SOURCE_MAX, &c->source, err) < 0 || ready(c, err) < 0)
		goto failed;
	hp_sandbox_set_time(c->vm.s, HP_LUA_LOAD_TIME_MAX);
	if (hp_sandbox_run(c->vm.s, read_connector, c, err) < 0)
		goto failed;
	hp_vm_loaded(&c->vm);
	return c;
failed:
	hp_connector_free(c);
	return NULL;
}

void hp_connector_free(struct hp_connector *c)
{
	if (!c)
		return;
	hp_vm_close(&c->vm);
	hp_buf_free(&c->source);
	hp_arena_free(c->arena);
	hp_free(c);
}

const struct hp_webhook *hp_connector_webhook(const struct hp_connector *c)
{
	return c->c.has_webhook ? &c->c.webhook : NULL;
}

/* ---- events ---- */

static int header_index(lua_State *L)
{
	struct hp_vm *vm = hp_vm_of(L);
	const char *value;

	if (!vm->job || vm->serial != lua_tointeger(L, lua_upvalueindex(1)))
		return luaL_error(L, "these headers belong to an earlier request");
	value = lua_type(L, 2) == LUA_TSTRING ? vm->job->header(vm->job->header_arg, lua_tostring(L, 2)) : NULL;
	lua_pushstring(L, value); /* nil when NULL */
	return 1;
}

static void event_function(lua_State *L, void *arg)
{
	struct hp_job *j = arg;

	luaL_checkstack(L, 20, NULL);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_CONNECTORS);
	lua_getfield(L, -1, j->key);
	lua_getfield(L, -1, "body");
	lua_getfield(L, -1, "webhook");
	lua_getfield(L, -1, "event");
	hp_lua_push_json(L, j->in);
	lua_newtable(L);
	lua_newtable(L);
	lua_pushinteger(L, hp_vm_of(L)->serial);
	lua_pushcclosure(L, header_index, 1);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	hp_sandbox_call(L, 2, 1);
	hp_lua_write_json(L, -1, &j->text);
}

#define DELIVER_MAX 16
#define EVENT_NAME_MAX 200 /* "stripe." and a type of the provider */

static bool text_ok(const char *s, size_t max)
{
	return s && *s && strlen(s) <= max && !strpbrk(s, "\n");
}

static int check_event(const struct hp_connector *c, const json_t *e, struct hp_error *err)
{
	const json_t *deliver = json_object_get(e, "deliver");
	size_t i;

	if (!text_ok(hp_json_str(e, "id"), HP_KEY_MAX) || !text_ok(hp_json_str(e, "type"), EVENT_NAME_MAX))
		return hp_fail(err, HP_E_INVALID, "%s: event() must return id and type, both texts", c->file);
	if (deliver && json_is_object(deliver) && json_object_size(deliver) == 0)
		return 0;
	if (deliver && (!json_is_array(deliver) || json_array_size(deliver) > DELIVER_MAX))
		return hp_fail(err, HP_E_INVALID, "%s: deliver must be a list of at most %d mailboxes", c->file, DELIVER_MAX);
	for (i = 0; i < json_array_size(deliver); i++) {
		const json_t *m = json_array_get(deliver, i);

		if (!text_ok(hp_json_str(m, "name"), EVENT_NAME_MAX) || !text_ok(hp_json_str(m, "key"), HP_KEY_MAX))
			return hp_fail(err, HP_E_INVALID, "%s: deliver: entry %zu needs name and key, both texts", c->file,
				       i + 1);
	}
	return 0;
}

static int write_event(const json_t *e, struct hp_buf *out, struct hp_error *err)
{
	json_t *deliver = json_object_get(e, "deliver");
	json_t *v;
	int rc;

	deliver = json_is_array(deliver) ? json_incref(deliver) : json_array();
	v = json_pack("{s:s, s:s, s:o}", "id", hp_json_str(e, "id"), "type", hp_json_str(e, "type"), "deliver", deliver);
	if (!v)
		return hp_fail(err, HP_E_NOMEM, "no memory left to read an event");
	rc = hp_json_write(out, v, err);
	json_decref(v);
	return rc;
}

int hp_connector_webhook_event(struct hp_connector *c, struct hp_bytes body,
			       const char *(*header)(void *, const char *), void *header_arg, struct hp_buf *out,
			       struct hp_error *err)
{
	struct hp_workflow nobody = {0}; /* a job belongs to a workflow; this one has none */
	json_t *event = NULL, *in;
	struct hp_job j;
	int rc = -1;

	HP_ASSERT(c->c.has_webhook);
	in = hp_json_parse(body.p, body.n, "the webhook's body", err);
	if (!in)
		return -1;
	hp_job_init(&j, &nobody);
	j.vm = &c->vm;
	j.in = in;
	j.key = c->name;
	j.header = header;
	j.header_arg = header_arg;
	if (ready(c, err) < 0 || hp_vm_run(&c->vm, event_function, &j, err) < 0 ||
	    hp_buf_check(&j.text, "an event", err) < 0)
		goto out;
	event = hp_json_parse(j.text.p, j.text.n, "what event() returned", err);
	if (event && check_event(c, event, err) == 0)
		rc = write_event(event, out, err);
out:
	json_decref(event);
	json_decref(in);
	hp_job_free(&j);
	return rc;
}
