/* expect.c: the words that look: expect, equal, refused, run. */
#include "testing/testing_private.h"

#include <stdio.h>
#include <string.h>
#include "base/words.h"

static const char *const facts[] = {
	"status", "state", "path", "saved", "result", "effects", "statements", "children", "undone", "approval", "waiting",
	"why", "code", "message", "key", "phase", "attempt", "due_in", "elapsed",
};

/* why: what the run says of itself, where that helps; else NULL. */
static int mismatch(lua_State *L, struct tester *t, const struct mismatch *m, const char *why)
{
	if (t->failed) /* the first failure counts, also when it was caught */
		return hp_t_raise(L, t);
	hp_t_failed(t, hp_t_line(L), "%s: expected %s, is %s%s%s", m->where, m->expected, m->actual, why ? ". " : "",
		    why ? why : "");
	memcpy(t->expected, m->expected, sizeof t->expected);
	memcpy(t->actual, m->actual, sizeof t->actual);
	t->compared = true;
	return hp_t_raise(L, t);
}

/* The run is not where it should be: its own sentence says most. */
static int astray(lua_State *L, struct tester *t, const struct mismatch *m, json_t *seen)
{
	if (seen)
		hp_drive_why(t->d, seen);
	return mismatch(L, t, m, hp_json_str(seen, "why"));
}

static json_t *facts_of(lua_State *L, struct tester *t)
{
	struct hp_error err = {0};
	json_t *f = hp_drive_facts(t->d, &err);

	hp_t_check(L, t, f ? 0 : -1, &err);
	if (json_array_append_new(t->kept, f) < 0)
		luaL_error(L, "no memory");
	return f;
}

/* A text in a list of effects is an operation, in one of statements a state, in one of
 * children a workflow. */
static void name_entries(const json_t *e, const char *list, const char *member)
{
	json_t *a = json_object_get(e, list), *v;
	size_t i;

	json_array_foreach(a, i, v)
		if (json_is_string(v))
			json_array_set_new(a, i, json_pack("{s:O}", member, v));
}

/* why changes with run numbers and times: a text is a part of it. */
static void why_contains(json_t *e)
{
	json_t *why = json_object_get(e, "why");

	if (json_is_string(why))
		json_object_set_new(e, "why", json_pack("{s:O}", "$contains", why));
}

int hp_t_expect(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	struct mismatch m;
	json_t *e, *f;

	luaL_checktype(L, 1, LUA_TTABLE);
	hp_t_only(L, 1, "expect", facts, sizeof facts / sizeof *facts);
	e = hp_t_json(L, t, 1);
	if (json_object_size(e) == 0)
		return luaL_error(L, "expect {} says nothing: name what is expected, like status = \"succeeded\"");
	name_entries(e, "effects", "operation");
	name_entries(e, "statements", "state");
	name_entries(e, "children", "workflow");
	why_contains(e);
	f = facts_of(L, t);
	if (json_object_get(e, "why"))
		hp_drive_why(t->d, f);
	/* in an order that tells most: the earlier ones explain the later ones */
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
		const json_t *want = json_object_get(e, facts[i]);

		if (want && !hp_t_match(want, json_object_get(f, facts[i]), facts[i], &m))
			return astray(L, t, &m, i < 3 ? f : NULL); /* status, state, path */
	}
	t->looks++;
	return 0;
}

int hp_t_equal(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	struct mismatch m;
	const json_t *actual, *expected;

	luaL_checkany(L, 1);
	luaL_checkany(L, 2);
	actual = hp_t_json(L, t, 1);
	expected = hp_t_json(L, t, 2);
	if (!hp_t_match(expected, actual, "value", &m))
		return mismatch(L, t, &m, NULL);
	t->looks++;
	return 0;
}

/* refused("part of the message", word, …) */
int hp_t_refused(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	const char *part = luaL_checkstring(L, 1), *said;
	int status;

	luaL_checktype(L, 2, LUA_TFUNCTION);
	status = lua_pcall(L, lua_gettop(L) - 2, 0, 0);
	hp_sandbox_caught(L, status);
	if (t->failed)
		return hp_t_raise(L, t);
	if (status == LUA_OK) {
		hp_t_failed(t, hp_t_line(L), "expected to be refused with \"%s\", but it was done", part);
		return hp_t_raise(L, t);
	}
	said = lua_tostring(L, -1);
	if (!said || !strstr(said, part)) {
		hp_t_failed(t, hp_t_line(L), "refused, but not with \"%s\": %s", part, said ? said : "(no text)");
		return hp_t_raise(L, t);
	}
	t->looks++;
	return 0;
}

int hp_t_run(lua_State *L)
{
	struct tester *t = hp_t_of(L);
	json_t *f = facts_of(L, t);

	hp_drive_why(t->d, f);
	hp_lua_push_json(L, f);
	return 1;
}
