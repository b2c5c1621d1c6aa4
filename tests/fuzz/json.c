/* JSON text → value → text, and → Lua → value: nothing is lost, nothing is let in that
 * the rules of base/json.h forbid, and what they allow is not refused.
 *
 * Input: a document. */
#include "base/json.h"
#include <lua.h>
#include "base/limits.h"
#include "lib/fuzz.h"
#include "script/sandbox.h"

#define MEMORY (8u * 1024 * 1024)

static int depth_of(const json_t *v)
{
	json_t *o = (json_t *)(uintptr_t)v, *child;
	const char *key;
	int most = 0, d;
	size_t i;

	if (!json_is_object(v) && !json_is_array(v))
		return 0;
	json_object_foreach(o, key, child) {
		d = depth_of(child);
		most = d > most ? d : most;
	}
	json_array_foreach(o, i, child) {
		d = depth_of(child);
		most = d > most ? d : most;
	}
	return most + 1;
}

/* The rules that jansson does not know are looked for in what it has read. */
static bool has_nul(const json_t *v)
{
	json_t *o = (json_t *)(uintptr_t)v, *child;
	const char *key;
	size_t i;

	if (json_is_string(v))
		return memchr(json_string_value(v), '\0', json_string_length(v)) != NULL;
	json_object_foreach(o, key, child)
		if (has_nul(child))
			return true;
	json_array_foreach(o, i, child)
		if (has_nul(child))
			return true;
	return false;
}

static void same_rules(const uint8_t *p, size_t n, const json_t *ours)
{
	json_error_t e;
	json_t *theirs = json_loadb((const char *)p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);

	if (ours) {
		MUST(theirs != NULL, "jansson refuses: %s", e.text);
		MUST(json_equal(ours, theirs));
		MUST(!has_nul(ours) && depth_of(ours) <= HP_JSON_DEPTH_MAX);
	} else {
		MUST(!theirs || has_nul(theirs) || depth_of(theirs) > HP_JSON_DEPTH_MAX,
		     "refused, though no rule is broken");
	}
	json_decref(theirs);
}

struct trip {
	json_t *in, *out;
};

static void through_lua(lua_State *L, void *arg)
{
	struct trip *t = arg;

	hp_lua_push_json(L, t->in);
	t->out = hp_lua_to_json(L, -1);
}

static void round_trip(json_t *v)
{
	struct hp_error err = {0};
	struct hp_sandbox *s = hp_sandbox_new(MEMORY, &err);
	struct trip t = {v, NULL};

	MUST(s != NULL, "%s", err.message);
	if (hp_sandbox_run(s, through_lua, &t, &err) < 0) {
		must_explain(&err);
		MUST(hp_sandbox_dead(s) || t.out == NULL);
	} else {
		MUST(t.out && json_equal(v, t.out), "another value came back from Lua");
		MUST(hp_sandbox_memory(s) <= MEMORY);
	}
	json_decref(t.out);
	hp_sandbox_free(s);
}

HP_FUZZ(json)
{
	struct hp_error err = {0};
	struct hp_buf first, second;
	json_t *v = hp_json_parse((const char *)p, n, "the input", &err), *again;

	if (err.code != HP_E_NOMEM)
		same_rules(p, n, v);
	if (!v) {
		must_explain(&err);
		return;
	}
	hp_buf_init(&first, 32 * n + 1024); /* 1e5 becomes 100000.0 */
	hp_buf_init(&second, 32 * n + 1024);
	MUST(hp_json_write(&first, v, &err) == 0, "%s", err.message);
	again = hp_json_parse(first.p, first.n, "what was written", &err);
	MUST(again != NULL, "%s: %s", err.message, first.p);
	MUST(json_equal(v, again), "%s", first.p);
	MUST(hp_json_write(&second, again, &err) == 0, "%s", err.message);
	MUST(first.n == second.n && memcmp(first.p, second.p, first.n) == 0, "%s and %s", first.p, second.p);
	round_trip(v);
	json_decref(v);
	json_decref(again);
	hp_buf_free(&first);
	hp_buf_free(&second);
}
