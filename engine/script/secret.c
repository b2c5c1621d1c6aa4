/* secret.c: the word `secret` of workflow files, and what it becomes.
 *
 * secret("NAME", version) is a marked table. Where it becomes JSON (in `with`, or in
 * what request() gives) it turns into a word that stands for the value, and the stored
 * request says in "secrets" what each word stands for:
 *
 *   {…, "body":"{\"key\":\"hps_1f…\"}", "secrets":{"hps_1f…":{"name":"NAME","version":"3"}}}
 *
 * So what is stored, hashed, shown and signed has names; values are put in when it is
 * sent, each as its place demands. Only words that this very evaluation has made are in
 * the list, and they hang on the installation, the run and the visit: data of a run that
 * looks like one is left as it is.
 */
#include <stdio.h>
#include <string.h>

#include "base/mutant.h"
#include "script/internal.h"
#include "script/lualib.h"

#define WORD_HEX 40
#define WORD_LEN (4 + WORD_HEX + 1)
#define REFS_MAX 32

bool hp_secret_name_ok(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

	return n > 0 && s[n] == '\0' && n < HP_SECRET_NAME_MAX;
}

bool hp_secret_version_ok(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return strcmp(s, "current") == 0 || strcmp(s, "pending") == 0 || strcmp(s, "previous") == 0 ||
	       (n > 0 && n < 10 && s[n] == '\0' && s[0] != '0');
}

/* To promote what is current is nothing to do, and to retire it would leave none. */
bool hp_secret_op_version_ok(const char *op, const char *version)
{
	if (strcmp(version, "previous") == 0)
		return strcmp(op, "retire") == 0;
	return hp_secret_version_ok(version) && HP_GUARD(secret_live, strcmp(version, "current") != 0);
}

const char *hp_secret_op_versions(const char *op)
{
	return strcmp(op, "retire") == 0 ? "\"previous\", \"pending\" or a number" : "\"pending\" (the newest one) or a number";
}

bool hp_secret_marked(lua_State *L, int index)
{
	bool yes;

	if (!lua_istable(L, index) || !lua_getmetatable(L, index))
		return false;
	luaL_getmetatable(L, HP_LUA_SECRET);
	yes = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return yes;
}

/* ---- the word ---- */

/* secret("NAME"), secret("NAME", version); secret { NAME = "path", as = "x" }. */
static int word_secret(lua_State *L)
{
	lua_settop(L, 2);
	lua_newtable(L);
	if (lua_istable(L, 1)) {
		lua_pushvalue(L, 1);
		lua_setfield(L, -2, "saves");
	} else {
		const char *name = luaL_checkstring(L, 1);

		if (!hp_secret_name_ok(name))
			return luaL_error(L, "secret: \"%s\" cannot be the name of a secret: use capital letters, digits and _",
					  name);
		lua_pushvalue(L, 1);
		lua_setfield(L, -2, "name");
		if (lua_isinteger(L, 2)) {
			lua_pushfstring(L, "%I", (LUAI_UACINT)lua_tointeger(L, 2));
			lua_replace(L, 2);
		}
		if (lua_type(L, 2) == LUA_TSTRING && !strchr(lua_tostring(L, 2), '{') &&
		    !hp_secret_version_ok(lua_tostring(L, 2)))
			return luaL_error(L, "secret: a version is \"current\", \"pending\", \"previous\" or a number, not \"%s\"",
					  lua_tostring(L, 2));
		if (!lua_isnil(L, 2) && lua_type(L, 2) != LUA_TSTRING)
			return luaL_error(L, "secret: a version cannot be a %s", luaL_typename(L, 2));
		lua_pushvalue(L, 2);
		lua_setfield(L, -2, "version");
	}
	luaL_setmetatable(L, HP_LUA_SECRET);
	return 1;
}

static void word_of(const struct hp_job *j, const char *name, const char *version, char out[WORD_LEN])
{
	uint8_t hash[HP_SHA256_LEN];
	char number[64];
	struct hp_bytes parts[5] = {hp_bytes_of(j->data->installation), {number, 0},
				    hp_bytes_of(j->w->def.states[j->state].name), hp_bytes_of(name), hp_bytes_of(version)};

	parts[1].n = (size_t)snprintf(number, sizeof number, "%lld.%d", (long long)j->data->id, (int)j->visit);
	hp_sha256_parts(parts, 5, hash);
	memcpy(out, "hps_", 4);
	hp_hex(hash, WORD_HEX / 2, out + 4);
}

/* The marked table at index becomes its word, pushed; the request will list it. */
static void push_word(lua_State *L, int index)
{
	struct hp_job *j = hp_vm_of(L)->job;
	const char *name, *version;
	char word[WORD_LEN];

	index = lua_absindex(L, index);
	if (!j || !j->refs)
		luaL_error(L, "secret(…) can stand in `with` only: its value is known when a request is sent, and never "
			      "before");
	lua_getfield(L, index, "version");
	version = lua_isnil(L, -1) ? "current" : lua_tostring(L, -1);
	lua_getfield(L, index, "name");
	name = lua_tostring(L, -1);
	if (!name)
		luaL_error(L, "secret { … } belongs to `save`; in `with` it is secret(\"NAME\")");
	if (!version || !hp_secret_version_ok(version))
		luaL_error(L, "secret(\"%s\", …): a version is \"current\", \"pending\", \"previous\" or a number", name);
	word_of(j, name, version, word);
	if (json_object_size(j->refs) >= REFS_MAX ||
	    json_object_set_new(j->refs, word, json_pack("{s:s,s:s}", "name", name, "version", version)) < 0)
		luaL_error(L, "a request may have at most %d secrets", REFS_MAX);
	lua_pop(L, 2);
	lua_pushstring(L, word);
}

static int secret_json(lua_State *L)
{
	push_word(L, 1);
	return 1;
}

/* ---- texts with secrets in them ----
 *
 * While a file is loaded there are no words yet, so "token " .. secret "NAME" is a list of
 * its parts: templates, and marked tables. It becomes a text where it becomes JSON.
 */
#define PARTS_MAX (2 * REFS_MAX + 1)

static bool is_text(lua_State *L, int index)
{
	bool yes;

	if (!lua_getmetatable(L, index))
		return false;
	luaL_getmetatable(L, HP_LUA_SECRET_TEXT);
	yes = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return yes;
}

/* Appends the value on top to the list, which has no two texts side by side. */
static void add_part(lua_State *L, int list)
{
	lua_Integer n = (lua_Integer)lua_rawlen(L, list);

	if (lua_isstring(L, -1) && n > 0) { /* a number is one, too */
		if (lua_rawgeti(L, list, n) == LUA_TTABLE) {
			lua_pop(L, 1);
		} else {
			lua_insert(L, -2);
			lua_concat(L, 2);
			n--;
		}
	} else if (!lua_isstring(L, -1) && !hp_secret_marked(L, -1)) {
		luaL_error(L, "a secret is joined to a text or a number, not to a %s", luaL_typename(L, -1));
	}
	if (n == PARTS_MAX)
		luaL_error(L, "a text may have at most %d secrets", REFS_MAX);
	lua_rawseti(L, list, n + 1);
}

/* The list at index as a text, pushed. */
static void push_text(lua_State *L, int index)
{
	int n = (int)lua_rawlen(L, index);

	luaL_checkstack(L, n + 8, NULL);
	for (int i = 1; i <= n; i++) {
		lua_rawgeti(L, index, i);
		if (hp_secret_marked(L, -1)) {
			push_word(L, -1);
			lua_remove(L, -2);
		} else if (!lua_isstring(L, -1)) { /* what a template came to */
			luaL_error(L, "a secret is joined to a text or a number, not to a %s", luaL_typename(L, -1));
		}
	}
	lua_concat(L, n);
}

static int text_json(lua_State *L)
{
	push_text(L, 1);
	return 1;
}

static int secret_concat(lua_State *L)
{
	lua_settop(L, 2);
	lua_newtable(L);
	for (int i = 1; i <= 2; i++) {
		lua_Integer n = is_text(L, i) ? (lua_Integer)lua_rawlen(L, i) : 0;

		for (lua_Integer k = 1; k <= n; k++) {
			lua_rawgeti(L, i, k);
			add_part(L, 3);
		}
		if (n == 0) {
			lua_pushvalue(L, i);
			add_part(L, 3);
		}
	}
	if (hp_vm_of(L)->job)
		push_text(L, 3);
	else
		luaL_setmetatable(L, HP_LUA_SECRET_TEXT);
	return 1;
}

/* Its table is on top. */
static void set_metatable(lua_State *L, lua_CFunction json)
{
	lua_pushcfunction(L, json);
	lua_setfield(L, -2, "__json");
	lua_pushcfunction(L, secret_concat);
	lua_setfield(L, -2, "__concat");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
}

void hp_lang_secret(lua_State *L, int env)
{
	if (luaL_newmetatable(L, HP_LUA_SECRET))
		set_metatable(L, secret_json);
	if (luaL_newmetatable(L, HP_LUA_SECRET_TEXT))
		set_metatable(L, text_json);
	lua_pop(L, 2);
	lua_pushcfunction(L, word_secret);
	lua_setfield(L, env, "secret");
}

/* ---- in a stored request ---- */

static bool has(const json_t *v, const char *word)
{
	return json_is_string(v) && strstr(json_string_value(v), word) != NULL;
}

/* Every word must have come through to where a value can be put in. */
int hp_secret_refs_add(json_t *rq, json_t *refs, struct hp_error *err)
{
	json_t *headers = json_object_get(rq, "headers"), *v;
	const char *word, *name, *header;

	json_object_foreach(refs, word, v) {
		bool found = has(json_object_get(rq, "body"), word);

		name = hp_json_str(v, "name");
		if (has(json_object_get(rq, "path"), word) || has(json_object_get(rq, "query"), word) ||
		    has(json_object_get(rq, "key"), word))
			return hp_fail(err, HP_E_INVALID, "the secret %s would stand in the URL or in the key, which others log", name);
		json_object_foreach(headers, header, v)
			found = found || has(v, word);
		if (!found)
			return hp_fail(err, HP_E_INVALID, "the secret %s is in `with`, but not in the request: the connector does not "
							  "pass it on as it is", name);
	}
	if (json_object_size(refs) > 0 && json_object_set(rq, "secrets", refs) < 0)
		return hp_fail(err, HP_E_NOMEM, "no memory left to build a request");
	return 0;
}

static int put_value(struct hp_buf *out, const char *value, enum hp_secret_place place)
{
	struct hp_buf quoted;
	int rc;

	switch (place) {
	case HP_SECRET_FORM:
		return hp_buf_urlencode(out, value, strlen(value));
	case HP_SECRET_JSON:
		hp_buf_init(&quoted, 8 * HP_SECRET_MAX);
		hp_buf_json(&quoted, value, strlen(value));
		rc = quoted.failed ? -1 : hp_buf_add(out, quoted.p + 1, quoted.n - 2);
		hp_buf_wipe(&quoted);
		return rc;
	case HP_SECRET_PLAIN:
		break;
	}
	return hp_buf_adds(out, value);
}

const char *hp_secret_fill(struct hp_arena *a, const char *text, const char *word, const char *value,
			   enum hp_secret_place place)
{
	size_t n = strlen(word);
	struct hp_buf out;
	const char *at, *copy;

	if (!strstr(text, word))
		return text;
	hp_buf_init(&out, 2 * HP_HTTP_REQUEST_BODY_MAX);
	while ((at = strstr(text, word))) {
		hp_buf_add(&out, text, (size_t)(at - text));
		put_value(&out, value, place);
		text = at + n;
	}
	hp_buf_adds(&out, text);
	copy = out.failed ? NULL : hp_arena_strndup(a, hp_buf_str(&out), out.n);
	hp_buf_wipe(&out);
	return copy;
}
