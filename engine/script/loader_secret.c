/* loader_secret.c: what a state says about secrets: save = secret(…), using, promote,
 * retire. The state's table is at `body`. */
#include <ctype.h>
#include <string.h>

#include "script/internal.h"

#define AS "as"

static const char *need_secret(const struct hp_reader *r, const char *field, const char *name)
{
	if (!name || !hp_secret_name_ok(name))
		hp_r_fail(r, "%s: \"%s\" cannot be the name of a secret: use capital letters, digits and _", field,
			  name ? name : "");
	return name;
}

/* STRIPE_KEY → stripe_key: what the reply is saved as, when nothing is said. */
static const char *saved_as(const struct hp_reader *r, const char *name)
{
	size_t n = strlen(name), i;
	char *copy = hp_r_alloc(r, n + 1);

	for (i = 0; i < n; i++)
		copy[i] = (char)tolower((unsigned char)name[i]);
	return copy;
}

/* The marked table on top: its names of secrets, sorted; `as` is not one. */
static int saved_secrets(const struct hp_reader *r, const char ***names, const char **as)
{
	lua_State *L = r->L;
	int n, i, k = 0;

	*as = NULL;
	if (!hp_r_get(r, -1, "saves")) {
		hp_r_get(r, -1, "name");
		*names = hp_r_alloc(r, sizeof **names);
		(*names)[0] = hp_r_dup(r, lua_tostring(L, -1));
		lua_pop(L, 1);
		return 1;
	}
	n = hp_r_keys(r, -1, "save = secret", HP_SECRETS_PER_REPLY + 1, names);
	for (i = 0; i < n; i++)
		if (strcmp((*names)[i], AS) == 0)
			*as = hp_r_need(r, -1, AS);
		else
			(*names)[k++] = (*names)[i];
	lua_pop(L, 1);
	return k;
}

const char *hp_loader_saved_as(const struct hp_reader *r)
{
	const char **names, *as;
	int n = saved_secrets(r, &names, &as);

	return as ? as : n > 0 ? saved_as(r, names[0]) : NULL;
}

/* save on top of the stack; gives the name under which the rest of the reply is saved. */
const char *hp_loader_save_secret(const struct hp_reader *r, struct hp_extra *x)
{
	lua_State *L = r->L;
	const char **names, *as;
	bool table;
	int i, n = saved_secrets(r, &names, &as);

	if (hp_r_get(r, -1, "version"))
		hp_r_fail(r, "save: a reply becomes a new version by itself; write secret(\"%s\") without one", names[0]);
	if (n == 0 || n > HP_SECRETS_PER_REPLY)
		hp_r_fail(r, "save: secret { … } names from 1 to %d secrets", HP_SECRETS_PER_REPLY);
	if (n > 1 && !as)
		hp_r_fail(r, "save: secret { … } of several secrets needs a name for the rest: as = \"…\"");
	x->secrets = hp_r_alloc(r, sizeof *x->secrets * (size_t)n);
	x->n_secrets = n;
	table = hp_r_get(r, -1, "saves");
	for (i = 0; i < n; i++) {
		x->secrets[i].name = need_secret(r, "save", names[i]);
		if (table)
			x->secrets[i].path = hp_r_need(r, -1, names[i]);
	}
	if (table)
		lua_pop(L, 1);
	/* the operation knows where its secret is */
	if (!table && x->op->n_secret_paths == 1)
		x->secrets[0].path = x->op->secret_paths[0];
	if (!table && x->op->n_secret_paths > 1)
		hp_r_fail(r, "save: a reply of %s.%s has several secrets; say which is which: secret { NAME = \"%s\", … }",
			  x->op->pub.connector, x->op->pub.name, x->op->secret_paths[0]);
	return as ? as : saved_as(r, names[0]);
}

/* using = { NAME = version, … }: other versions of the connector's secrets. */
void hp_loader_using(const struct hp_reader *r, const struct hp_conn *c, int body, struct hp_extra *x)
{
	const char **names;
	int i, k, n;

	if (!hp_r_get(r, body, "using"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "using must be a table like { %s = \"pending\" }", c->n_secrets ? c->secrets[0] : "API_KEY");
	n = hp_r_keys(r, -1, "using", HP_SECRETS_PER_REPLY, &names);
	for (i = 0; i < n; i++) {
		for (k = 0; k < c->n_secrets && strcmp(c->secrets[k], names[i]) != 0; k++)
			;
		if (k == c->n_secrets)
			hp_r_fail(r, "using: the connector \"%s\" does not use \"%s\"%s", c->name, names[i],
				  hp_r_hint(r, names[i], c->secrets, c->n_secrets));
		hp_r_get(r, -1, names[i]);
		if (lua_type(r->L, -1) == LUA_TSTRING && !strchr(lua_tostring(r->L, -1), '{') &&
		    !hp_secret_version_ok(lua_tostring(r->L, -1)))
			hp_r_fail(r, "using: %s: a version is \"current\", \"pending\", \"previous\" or a number, not \"%s\"",
				  names[i], lua_tostring(r->L, -1));
		lua_pop(r->L, 1);
	}
	hp_r_expression(r, -1, "using");
	x->has_using = n > 0;
	lua_pop(r->L, 1);
}

static void add_op(const struct hp_reader *r, struct hp_extra *x, const char *field, int index)
{
	struct hp_secret_op *op = &x->secret_ops[x->n_secret_ops++];
	bool marked = hp_secret_marked(r->L, -1);
	const char *version;

	*op = (struct hp_secret_op){.op = field, .index = index};
	if (!marked && lua_type(r->L, -1) != LUA_TSTRING)
		hp_r_fail(r, "%s must be \"NAME\", or secret(\"NAME\", version), or a list of them", field);
	if (marked && !hp_r_get(r, -1, "name"))
		hp_r_fail(r, "%s: secret { … } belongs to `save`", field);
	op->name = hp_r_dup(r, need_secret(r, field, lua_tostring(r->L, -1)));
	if (!marked)
		return;
	lua_pop(r->L, 1);
	hp_r_expression(r, -1, field);
	version = hp_r_string(r, -1, "version");
	if (version && !strchr(version, '{') && !hp_secret_op_version_ok(field, version))
		hp_r_fail(r, "%s: the version is %s, not \"%s\"", field, hp_secret_op_versions(field), version);
}

static void read_ops(const struct hp_reader *r, int body, const char *field, struct hp_extra *x)
{
	int i, n;

	if (!hp_r_get(r, body, field))
		return;
	if (lua_istable(r->L, -1) && !hp_secret_marked(r->L, -1)) {
		n = (int)lua_rawlen(r->L, -1);
		if (n > HP_SECRETS_PER_REPLY)
			hp_r_fail(r, "%s has more than %d entries", field, HP_SECRETS_PER_REPLY);
		hp_r_only(r, -1, NULL, 0, n);
		for (i = 1; i <= n; i++) {
			lua_rawgeti(r->L, -1, i);
			add_op(r, x, field, i);
			lua_pop(r->L, 1);
		}
	} else {
		add_op(r, x, field, 0);
	}
	lua_pop(r->L, 1);
}

bool hp_loader_secret_ops(const struct hp_reader *r, int body, struct hp_extra *x)
{
	x->secret_ops = hp_r_alloc(r, sizeof *x->secret_ops * 2 * HP_SECRETS_PER_REPLY);
	read_ops(r, body, "promote", x);
	read_ops(r, body, "retire", x);
	return x->n_secret_ops > 0;
}
