/* schema.c: declared shapes of inputs and arguments: read, checked, shown. */
#include <stdio.h>
#include <string.h>
#include "script/internal.h"
#include "script/lualib.h"

#define MEMBERS_MAX 200
#define ONE_OF_MAX 64

static const struct hp_type *read_type(const struct hp_reader *r, int index, const char *field, int depth);

static const struct hp_type *read_object(const struct hp_reader *r, struct hp_type *t, int index,
					 const char *field, int depth)
{
	const struct hp_type **types;
	int i;

	t->kind = HP_T_OBJECT;
	t->n = hp_r_keys(r, index, field, MEMBERS_MAX, &t->names);
	t->types = types = hp_r_alloc(r, sizeof *types * (size_t)(t->n ? t->n : 1));
	for (i = 0; i < t->n; i++) {
		const char *name = hp_r_printf(r, "%s.%s", field, t->names[i]);

		lua_pushstring(r->L, t->names[i]);
		lua_rawget(r->L, index);
		types[i] = read_type(r, lua_gettop(r->L), name, depth + 1);
		lua_pop(r->L, 1);
	}
	return t;
}

static enum hp_type_kind kind_of(const char *word)
{
	static const struct {
		const char *word;
		enum hp_type_kind kind;
	} kinds[] = {
		{"text", HP_T_TEXT},       {"integer", HP_T_INTEGER},   {"number", HP_T_NUMBER},
		{"boolean", HP_T_BOOLEAN}, {"any", HP_T_ANY},           {"optional", HP_T_OPTIONAL},
		{"list", HP_T_LIST},       {"one_of", HP_T_ONE_OF},
	};
	size_t i;

	for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(word, kinds[i].word) == 0)
			return kinds[i].kind;
	return 0;
}

static const struct hp_type *read_type(const struct hp_reader *r, int index, const char *field, int depth)
{
	struct hp_type *t = hp_r_alloc(r, sizeof *t);

	luaL_checkstack(r->L, 10, NULL);
	hp_sandbox_tick(r->L); /* as in fields.c */
	if (depth > HP_JSON_DEPTH_MAX)
		hp_r_fail(r, "%s is nested deeper than %d levels", field, HP_JSON_DEPTH_MAX);
	if (!lua_istable(r->L, index))
		hp_r_fail(r, "%s must be a type (text, integer, number, boolean, any, optional, list, one_of) or a "
			     "table of types, not a %s", field, luaL_typename(r->L, index));
	if (!hp_mark(r->L, index, HP_MARK_TYPE))
		return read_object(r, t, index, field, depth);
	if (lua_type(r->L, -1) == LUA_TSTRING)
		t->kind = kind_of(lua_tostring(r->L, -1));
	lua_pop(r->L, 1);
	if (!t->kind)
		hp_r_fail(r, "%s: a member cannot be called %s", field, HP_MARK_TYPE);
	if (t->kind == HP_T_ONE_OF) {
		t->n = hp_r_list(r, index, "of", false, ONE_OF_MAX, &t->names);
		if (t->n == 0)
			hp_r_fail(r, "%s: one_of needs at least one text", field);
	} else if (t->kind == HP_T_OPTIONAL || t->kind == HP_T_LIST) {
		hp_r_get(r, index, "of");
		t->of = read_type(r, lua_gettop(r->L), field, depth + 1);
		lua_pop(r->L, 1);
	}
	return t;
}

const struct hp_type *hp_schema_read(const struct hp_reader *r, int index, const char *field)
{
	return read_type(r, lua_absindex(r->L, index), field, 0);
}

static const char *wanted(const struct hp_type *t)
{
	switch (t->kind) {
	case HP_T_TEXT:
		return "a text";
	case HP_T_INTEGER:
		return "a whole number";
	case HP_T_NUMBER:
		return "a number";
	case HP_T_BOOLEAN:
		return "true or false";
	case HP_T_LIST:
		return "a list";
	case HP_T_OBJECT:
		return "an object";
	default:
		return "a value";
	}
}

static bool fits(const struct hp_type *t, const json_t *v)
{
	int i;

	switch (t->kind) {
	case HP_T_TEXT:
		return json_is_string(v);
	case HP_T_INTEGER:
		return json_is_integer(v);
	case HP_T_NUMBER:
		return json_is_number(v);
	case HP_T_BOOLEAN:
		return json_is_boolean(v);
	case HP_T_LIST:
		return json_is_array(v);
	case HP_T_OBJECT:
		return json_is_object(v);
	case HP_T_ONE_OF:
		for (i = 0; i < t->n; i++)
			if (json_is_string(v) && strcmp(json_string_value(v), t->names[i]) == 0)
				return true;
		return false;
	default:
		return true;
	}
}

static const char *found(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "a text";
	case JSON_INTEGER:
		return "a whole number";
	case JSON_REAL:
		return "a number";
	case JSON_NULL:
		return "null";
	default:
		return "a boolean";
	}
}

/* What is found is named by its type only: the value may be personal. */
static int refuse(const struct hp_type *t, const json_t *v, const char *what, struct hp_error *err)
{
	char list[300];
	size_t used = 0;
	int i;

	if (t->kind != HP_T_ONE_OF)
		return hp_fail(err, HP_E_INVALID, "%s must be %s, not %s", what, wanted(t), found(v));
	list[0] = '\0';
	for (i = 0; i < t->n && used < sizeof list - 1; i++) {
		int n = snprintf(list + used, sizeof list - used, "%s\"%s\"", i ? ", " : "", t->names[i]);

		used += n > 0 ? (size_t)n : 0;
	}
	return hp_fail(err, HP_E_INVALID, "%s must be one of %s", what, list);
}

/* A place inside the document; long ones are cut from the left in messages. */
#define PLACE_MAX 300

int hp_schema_check(const struct hp_type *t, const json_t *v, const char *what, struct hp_error *err)
{
	char place[PLACE_MAX];
	size_t k;
	int i;

	if (t->kind == HP_T_OPTIONAL)
		return json_is_null(v) ? 0 : hp_schema_check(t->of, v, what, err);
	if (!fits(t, v))
		return refuse(t, v, what, err);
	if (t->kind == HP_T_LIST) {
		for (k = 0; k < json_array_size(v); k++) {
			snprintf(place, sizeof place, "%.200s[%zu]", what, k + 1);
			if (hp_schema_check(t->of, json_array_get(v, k), place, err) < 0)
				return -1;
		}
		return 0;
	}
	for (i = 0; t->kind == HP_T_OBJECT && i < t->n; i++) {
		const json_t *member = json_object_get(v, t->names[i]);

		snprintf(place, sizeof place, "%.200s.%s", what, t->names[i]);
		if (!member && t->types[i]->kind == HP_T_OPTIONAL)
			continue;
		if (!member)
			return hp_fail(err, HP_E_INVALID, "%s is missing", place);
		if (hp_schema_check(t->types[i], member, place, err) < 0)
			return -1;
	}
	return 0;
}

static void add_names(struct hp_buf *b, const struct hp_type *t, bool required_only)
{
	bool first = true;
	int i;

	for (i = 0; i < t->n; i++) {
		if (required_only && t->types[i]->kind == HP_T_OPTIONAL)
			continue;
		if (!first)
			hp_buf_addc(b, ',');
		first = false;
		hp_buf_json(b, t->names[i], strlen(t->names[i]));
		if (!required_only && t->kind == HP_T_OBJECT) {
			hp_buf_addc(b, ':');
			hp_schema_json(t->types[i], b);
		}
	}
}

int hp_schema_json(const struct hp_type *t, struct hp_buf *b)
{
	static const char *const plain[] = {
		[HP_T_TEXT] = "string", [HP_T_INTEGER] = "integer", [HP_T_NUMBER] = "number", [HP_T_BOOLEAN] = "boolean",
	};

	switch (t->kind) {
	case HP_T_ANY:
		return hp_buf_adds(b, "{}");
	case HP_T_OPTIONAL:
		return hp_schema_json(t->of, b);
	case HP_T_LIST:
		hp_buf_adds(b, "{\"items\":");
		hp_schema_json(t->of, b);
		return hp_buf_adds(b, ",\"type\":\"array\"}");
	case HP_T_ONE_OF:
		hp_buf_adds(b, "{\"enum\":[");
		add_names(b, t, false);
		return hp_buf_adds(b, "]}");
	case HP_T_OBJECT:
		hp_buf_adds(b, "{\"properties\":{");
		add_names(b, t, false);
		hp_buf_adds(b, "},\"required\":[");
		add_names(b, t, true);
		return hp_buf_adds(b, "],\"type\":\"object\"}");
	default:
		return hp_buf_printf(b, "{\"type\":\"%s\"}", plain[t->kind]);
	}
}
