/* vm.c: one Lua state with connectors and a workflow in it.
 *
 * Connectors are loaded first, each in an _ENV with the words of connector
 * files; then the workflow in an _ENV with its own. What they return stays in
 * the registry; C structures are read from there by connector.c and loader.c.
 */
#include <stdlib.h>
#include <string.h>
#include "script/internal.h"

struct hp_vm *hp_vm_of(lua_State *L)
{
	struct hp_vm *vm;

	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_VM);
	vm = lua_touserdata(L, -1);
	lua_pop(L, 1);
	HP_ASSERT(vm != NULL);
	return vm;
}

int hp_vm_run(struct hp_vm *vm, hp_sandbox_fn fn, struct hp_job *job, struct hp_error *err)
{
	int rc;

	HP_ASSERT(vm->job == NULL);
	vm->job = job;
	vm->serial++;
	rc = hp_sandbox_run(vm->s, fn, job, err);
	vm->job = NULL;
	return rc;
}

struct setup {
	struct hp_vm *vm;
	int env; /* registry references */
	int ref;
	bool connector;
	bool discover;
	const char *name;
	const char *file;
};

static void new_registry_table(lua_State *L, const char *key)
{
	lua_newtable(L);
	lua_setfield(L, LUA_REGISTRYINDEX, key);
}

static void prepare(lua_State *L, void *arg)
{
	struct setup *s = arg;

	lua_pushlightuserdata(L, s->vm);
	lua_setfield(L, LUA_REGISTRYINDEX, HP_REG_VM);
	new_registry_table(L, HP_REG_CONNECTORS);
	new_registry_table(L, HP_REG_NAMESPACES);
	new_registry_table(L, HP_REG_STATES);
	if (s->discover)
		new_registry_table(L, HP_REG_FOUND);
}

static void add_words(lua_State *L, void *arg)
{
	struct setup *s = arg;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->env);
	if (s->connector)
		hp_lang_connector(L, lua_gettop(L));
	else
		hp_lang_workflow(L, lua_gettop(L));
}

/* The chunk's result is on its reference: check it and put it in its place. */
static void keep_result(lua_State *L, void *arg)
{
	struct setup *s = arg;
	const char *mark = s->connector ? HP_MARK_CONNECTOR : HP_MARK_WORKFLOW;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->ref);
	luaL_unref(L, LUA_REGISTRYINDEX, s->ref);
	if (!hp_mark(L, -1, mark)) {
		if (s->connector)
			luaL_error(L, "%s: the file must end with: return connector_definition \"%s\" { … }",
				   s->file, s->name);
		luaL_error(L, "%s: the file must end with: return workflow \"name\" { … }", s->file);
	}
	if (!s->connector) {
		lua_pop(L, 1);
		lua_setfield(L, LUA_REGISTRYINDEX, HP_REG_WORKFLOW);
		return;
	}
	if (strcmp(lua_tostring(L, -1), s->name) != 0)
		luaL_error(L, "%s: the connector calls itself \"%s\", but its folder is \"%s\"", s->file,
			   lua_tostring(L, -1), s->name);
	lua_pop(L, 1);
	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_CONNECTORS);
	lua_pushvalue(L, -2);
	lua_setfield(L, -2, s->name);
	lua_pop(L, 1);
	lua_getfield(L, -1, "body");
	lua_getfield(L, -1, "operations");
	if (lua_istable(L, -1))
		hp_lang_namespace(L, s->name, lua_gettop(L));
}

static int load_source(struct hp_vm *vm, const struct hp_source *src, bool connector, struct hp_error *err)
{
	struct setup s = {.vm = vm, .connector = connector, .name = src->name, .file = src->file};

	s.env = hp_sandbox_env(vm->s, err);
	if (s.env < 0)
		return -1;
	if (hp_sandbox_run(vm->s, add_words, &s, err) < 0)
		return -1;
	if (hp_sandbox_load(vm->s, src->file, src->text, src->n, s.env, &s.ref, err) < 0)
		return -1;
	return hp_sandbox_run(vm->s, keep_result, &s, err);
}

int hp_vm_open(struct hp_vm *vm, const struct hp_source *connectors, int n_connectors,
	       const struct hp_source *workflow, bool discover, struct hp_error *err)
{
	struct setup s = {.vm = vm, .discover = discover};
	int i;

	vm->s = hp_sandbox_new(HP_LUA_MEMORY_MAX, err);
	if (!vm->s)
		return -1;
	hp_sandbox_set_time(vm->s, HP_LUA_LOAD_TIME_MAX);
	if (hp_sandbox_run(vm->s, prepare, &s, err) < 0)
		goto failed;
	for (i = 0; i < n_connectors; i++)
		if (load_source(vm, &connectors[i], true, err) < 0)
			goto failed;
	if (workflow && load_source(vm, workflow, false, err) < 0)
		goto failed;
	return 0;
failed:
	hp_vm_close(vm);
	return -1;
}

void hp_vm_loaded(struct hp_vm *vm)
{
	hp_sandbox_set_time(vm->s, HP_LUA_TIME_MAX);
}

void hp_vm_close(struct hp_vm *vm)
{
	hp_sandbox_free(vm->s);
	vm->s = NULL;
}

static int compare(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

struct discovery {
	struct hp_buf *out;
};

static void collect_found(lua_State *L, void *arg)
{
	struct discovery *d = arg;
	const char *names[HP_WORDS_MAX];
	size_t n = 0, i;

	lua_getfield(L, LUA_REGISTRYINDEX, HP_REG_FOUND);
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		if (n == HP_WORDS_MAX)
			luaL_error(L, "a workflow may use at most %d connectors", HP_WORDS_MAX);
		names[n++] = lua_tostring(L, -2);
	}
	qsort(names, n, sizeof *names, compare);
	for (i = 0; i < n; i++) {
		hp_buf_adds(d->out, names[i]);
		hp_buf_addc(d->out, '\n');
	}
}

int hp_vm_discovered(struct hp_vm *vm, struct hp_buf *out, struct hp_error *err)
{
	struct discovery d = {out};

	if (hp_sandbox_run(vm->s, collect_found, &d, err) < 0)
		return -1;
	return hp_buf_check(out, "the list of connectors", err);
}
