/* test.c: a test file from the disk to its results. */
#include "testing/test.h"

#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/file.h"
#include "testing/testing_private.h"

/* ---- loading ---- */

struct setup {
	struct tester *t;
	int env, ref;
	char workflow[HP_NAME_MAX + 1];
};

static void add_words(lua_State *L, void *arg)
{
	struct setup *s = arg;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->env);
	lua_pushlightuserdata(L, s->t);
	hp_t_words(L, 1);
}

static bool is_test(lua_State *L, int index)
{
	bool yes;

	if (!lua_istable(L, index))
		return false;
	yes = lua_getfield(L, index, "$test") == LUA_TSTRING;
	lua_pop(L, 1);
	return yes;
}

static void look_at_result(lua_State *L, void *arg)
{
	struct setup *s = arg;
	const char *path = s->t->path, *name;
	lua_Integer n;

	lua_rawgeti(L, LUA_REGISTRYINDEX, s->ref);
	if (!lua_istable(L, 1) || lua_getfield(L, 1, "$workflow") != LUA_TSTRING)
		luaL_error(L, "%s:1: the file must end with: return tests \"workflow\" { test(\"name\", function() … end), … }",
			   path);
	name = lua_tostring(L, -1);
	if (strlen(name) > HP_NAME_MAX || strchr(name, '/') || !*name)
		luaL_error(L, "%s:1: tests \"%s\": it is the name of a workflow file beside this one, without .lua", path,
			   name);
	memcpy(s->workflow, name, strlen(name) + 1);
	n = luaL_len(L, 1);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 1, i);
		if (!is_test(L, lua_gettop(L)))
			luaL_error(L, "%s:1: entry %d of tests \"%s\" is no test: write test(\"name\", function() … end)", path,
				   (int)i, name);
		lua_pop(L, 1);
	}
	if (n == 0)
		luaL_error(L, "%s:1: tests \"%s\" has no test", path, name);
	s->t->n_tests = (int)n;
}

/* A Lua state with the file in it; also after one was stopped by force. */
static int load(struct tester *t, struct setup *s, struct hp_error *err)
{
	hp_sandbox_free(t->s);
	t->s = hp_sandbox_new(HP_LUA_MEMORY_MAX, err);
	if (!t->s)
		return -1;
	hp_sandbox_set_time(t->s, TEST_TIME_MAX);
	s->t = t;
	s->env = hp_sandbox_env(t->s, err);
	if (s->env < 0 || hp_sandbox_run(t->s, add_words, s, err) < 0 ||
	    hp_sandbox_load(t->s, t->path, hp_buf_str(&t->source), t->source.n, s->env, &s->ref, err) < 0 ||
	    hp_sandbox_run(t->s, look_at_result, s, err) < 0)
		return -1;
	t->file_ref = s->ref;
	return 0;
}

/* The workflow beside the file. */
static int load_workflow(struct tester *t, const char *name, struct hp_error *err)
{
	const char *slash = strrchr(t->path, '/');
	int n = slash ? (int)(slash - t->path) + 1 : 0;

	if (snprintf(t->workflow, sizeof t->workflow, "%.*s%s.lua", n, t->path, name) >= (int)sizeof t->workflow)
		return hp_fail(err, HP_E_INVALID, "the path %.100s… is too long", t->path);
	if (hp_bundle_build(t->workflow, t->o->plugins, &t->bundle, err) < 0)
		return err->code == HP_E_NOT_FOUND ? hp_error_prefix(err, "%s: tests \"%s\"", t->path, name) : -1;
	t->w = hp_workflow_load(hp_buf_bytes(&t->bundle), err);
	return t->w ? hp_drive_summary(t->w, &t->summary, err) : -1;
}

/* ---- one test ---- */

struct one {
	struct tester *t;
	int index;
	char name[300];
	int line;
	bool wanted;
};

static void read_name(lua_State *L, void *arg)
{
	struct one *o = arg;

	lua_rawgeti(L, LUA_REGISTRYINDEX, o->t->file_ref);
	lua_rawgeti(L, -1, o->index);
	lua_getfield(L, -1, "$test");
	(void)snprintf(o->name, sizeof o->name, "%s", lua_tostring(L, -1));
	lua_getfield(L, -2, "line");
	o->line = (int)lua_tointeger(L, -1);
	o->wanted = !o->t->o->filter || strstr(o->name, o->t->o->filter) != NULL;
}

static void call_test(lua_State *L, void *arg)
{
	struct one *o = arg;
	int status;

	lua_pushcfunction(L, hp_t_on_error);
	lua_rawgeti(L, LUA_REGISTRYINDEX, o->t->file_ref);
	lua_rawgeti(L, -1, o->index);
	lua_getfield(L, -1, "run");
	status = lua_pcall(L, 0, 0, 1);
	hp_sandbox_caught(L, status);
	if (status != LUA_OK && !o->t->failed && !o->t->skipped)
		hp_t_failed(o->t, o->line, "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "an error without a text");
	for (int i = 0; i < o->t->n_answers; i++)
		luaL_unref(L, LUA_REGISTRYINDEX, o->t->answers[i].function);
}

static void begin(struct tester *t)
{
	t->n_answers = 0;
	t->looks = 0;
	t->skipped = false;
	t->failed = false;
	t->failed_line = 0;
	t->compared = false;
	t->pcall_status = LUA_OK;
	t->kept = json_array();
}

static void report(struct tester *t, const struct one *o)
{
	struct hp_test_result r = {.name = o->name, .line = o->line, .passed = !t->failed && !t->skipped, .skipped = t->skipped && !t->failed};

	if (t->failed) {
		r.failed_line = t->failed_line;
		r.message = hp_buf_str(&t->message);
		r.expected = t->compared ? t->expected : NULL;
		r.actual = t->compared ? t->actual : NULL;
	}
	r.timeline = t->d ? hp_drive_timeline(t->d) : NULL;
	t->o->each(t->o->arg, &r);
}

/* The database of one test; its seed lies beside the file: NAME_test.sql. */
static int open_real(struct tester *t, struct hp_drive_store *store, struct hp_error *err)
{
	char seed[4096];
	size_t n = strlen(t->path);

	if (!t->o->real)
		return 0;
	if (n < 4 || n >= sizeof seed || strcmp(t->path + n - 4, ".lua") != 0)
		return hp_fail(err, HP_E_INVALID, "%s: a test file's name ends with .lua", t->path);
	(void)snprintf(seed, sizeof seed, "%.*s.sql", (int)n - 4, t->path);
	return hp_real_open(t->o->real, seed, store, err);
}

/* What a test must not leave out. */
static void look_back(struct tester *t, const struct one *o)
{
	hp_t_unused(t);
	if (!t->failed && t->looks == 0)
		hp_t_failed(t, o->line, "the test expects nothing: add expect { … }");
}

static int run_one(struct tester *t, struct one *o, struct hp_error *err)
{
	struct hp_drive_store store;
	const struct hp_drive_hooks hooks = {hp_t_on_send, hp_t_on_sql, hp_t_on_child, t,
					     t->o->real ? &store : NULL, hp_t_on_ran};
	struct hp_error why = {0};
	struct setup again;

	if (hp_sandbox_dead(t->s) && load(t, &again, err) < 0)
		return -1;
	if (hp_sandbox_run(t->s, read_name, o, err) < 0)
		return -1;
	if (!o->wanted)
		return 0;
	begin(t);
	if (open_real(t, &store, &why) == 0)
		t->d = hp_drive_new(t->w, hp_buf_bytes(&t->summary), &hooks, TEST_EPOCH, &why);
	if (!t->d || (hp_sandbox_run(t->s, call_test, o, &why) < 0 && !t->skipped))
		hp_t_failed(t, o->line, "%s", why.message);
	if (!t->skipped)
		look_back(t, o);
	report(t, o);
	if (t->o->real)
		hp_real_close(t->o->real);
	hp_drive_free(t->d);
	t->d = NULL;
	hp_t_drop_fakes(t);
	json_decref(t->kept);
	t->kept = NULL;
	return 0;
}

int hp_test_file(const char *path, const struct hp_test_options *o, struct hp_error *err)
{
	struct tester t = {.path = path, .o = o, .empty = json_array()};
	struct setup s;
	int rc = -1;

	hp_buf_init(&t.source, HP_SOURCE_MAX + 1);
	hp_buf_init(&t.bundle, HP_BUNDLE_MAX);
	hp_buf_init(&t.summary, HP_BUNDLE_MAX);
	hp_buf_init(&t.message, 4096);
	t.answers = hp_calloc(TEST_ANSWERS_MAX, sizeof *t.answers);
	if (!t.answers || !t.empty) {
		hp_fail(err, HP_E_NOMEM, "no memory for %s", path);
		goto out;
	}
	if (hp_read_file(path, HP_SOURCE_MAX, &t.source, err) < 0 || load(&t, &s, err) < 0 || load_workflow(&t, s.workflow, err) < 0)
		goto out;
	rc = 0;
	for (int i = 1; i <= t.n_tests && rc == 0 && !(o->stop && *o->stop); i++) {
		struct one one = {.t = &t, .index = i};

		rc = run_one(&t, &one, err);
	}
out:
	hp_workflow_free(t.w);
	hp_sandbox_free(t.s);
	hp_free(t.answers);
	json_decref(t.empty);
	hp_buf_free(&t.source);
	hp_buf_free(&t.bundle);
	hp_buf_free(&t.summary);
	hp_buf_free(&t.message);
	return rc;
}
