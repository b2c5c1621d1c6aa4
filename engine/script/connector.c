/* connector.c: a connector's table as a C structure. */
#include <string.h>
#include <strings.h>
#include "core/breaker.h"
#include "script/internal.h"

#define OPERATIONS_MAX 200
#define HEADERS_MAX 16

static bool has_name(const char *const *list, int n, const char *name)
{
	int i;

	for (i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

/* A name of a secret that the connector declares. */
static const char *secret_name(const struct hp_reader *r, const struct hp_conn *c, const char *name)
{
	if (!name)
		hp_r_fail(r, "a secret is named by a text");
	if (!has_name(c->secrets, c->n_secrets, name))
		hp_r_fail(r, "the secret \"%s\" is not in secrets%s", name, hp_r_hint(r, name, c->secrets, c->n_secrets));
	return hp_r_dup(r, name);
}

bool hp_header_name_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_");

	return n > 0 && s[n] == '\0' && n <= HP_NAME_MAX;
}

/* The header's value is on top of the stack. */
static void read_header(const struct hp_reader *r, const struct hp_conn *c, struct hp_conn_header *h)
{
	lua_State *L = r->L;
	static const char *const words[] = {"secret", "bearer", "basic"};

	if (!hp_header_name_ok(h->name))
		hp_r_fail(r, "headers: \"%s\" must be lower-case letters, digits and dashes", h->name);
	if (lua_type(L, -1) == LUA_TSTRING) {
		h->kind = HP_H_TEXT;
		h->text[0] = hp_r_dup(r, lua_tostring(L, -1));
		return;
	}
	if (!lua_istable(L, -1))
		hp_r_fail(r, "headers: \"%s\" must be text, secret(…), bearer(…) or basic(…)", h->name);
	hp_r_only(r, -1, words, 3, 0);
	if (hp_r_get(r, -1, "basic")) {
		h->kind = HP_H_BASIC;
		lua_rawgeti(L, -1, 1);
		lua_rawgeti(L, -2, 2);
		h->text[0] = secret_name(r, c, lua_tostring(L, -2));
		h->text[1] = secret_name(r, c, lua_tostring(L, -1));
		lua_pop(L, 3);
		return;
	}
	h->kind = hp_r_get(r, -1, "bearer") ? HP_H_BEARER : HP_H_SECRET;
	if (h->kind == HP_H_SECRET)
		hp_r_get(r, -1, "secret");
	h->text[0] = secret_name(r, c, lua_tostring(L, -1));
	lua_pop(L, 1);
}

static void read_headers(const struct hp_reader *r, int table, struct hp_conn *c)
{
	const char **names;
	int i;

	if (!hp_r_get(r, table, "headers"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "headers must be a table");
	c->n_headers = hp_r_keys(r, -1, "headers", HEADERS_MAX, &names);
	c->headers = hp_r_alloc(r, sizeof *c->headers * HEADERS_MAX);
	for (i = 0; i < c->n_headers; i++) {
		c->headers[i].name = names[i];
		hp_r_get(r, -1, names[i]);
		read_header(r, c, &c->headers[i]);
		lua_pop(r->L, 1);
	}
	lua_pop(r->L, 1);
}

/* A plugin gets the key with every call; simulated, it comes as this header. */
#define NATIVE_KEY_HEADER "idempotency-key"

static void read_repeat(const struct hp_reader *r, int table, bool native, struct hp_op *op)
{
	static const char *const fields[] = {"window", "header"};
	const char *word = NULL;

	if (!hp_r_get(r, table, "repeats")) {
		if (!op->pub.read)
			hp_r_fail(r, "repeats is missing: by_key { header = …, window = … }, by_nature or never");
		op->pub.repeat = HP_REPEAT_BY_NATURE;
		return;
	}
	if (hp_mark(r->L, -1, HP_MARK_REPEAT)) {
		word = lua_tostring(r->L, -1);
		lua_pop(r->L, 1);
	}
	if (!word)
		hp_r_fail(r, "repeats must be by_key { header = …, window = … }, by_nature or never");
	if (strcmp(word, "by_key") == 0) {
		if (!hp_r_get(r, -1, "body"))
			hp_r_fail(r, "repeats: by_key needs { header = …, window = … }");
		hp_r_only(r, -1, fields, native ? 1 : 2, 0);
		op->pub.repeat = HP_REPEAT_BY_KEY;
		op->key_header = native ? NATIVE_KEY_HEADER : hp_r_need(r, -1, "header");
		if (!hp_header_name_ok(op->key_header))
			hp_r_fail(r, "repeats: header \"%s\" must be lower-case letters, digits and dashes", op->key_header);
		op->pub.window_us = hp_r_duration(r, -1, "window", 0);
		if (op->pub.window_us == 0)
			hp_r_fail(r, "repeats: window is missing: how long the provider remembers a key");
		lua_pop(r->L, 1);
	} else {
		op->pub.repeat = strcmp(word, "never") == 0 ? HP_REPEAT_NEVER : HP_REPEAT_BY_NATURE;
	}
	lua_pop(r->L, 1);
	if (op->pub.read && op->pub.repeat != HP_REPEAT_BY_NATURE)
		hp_r_fail(r, "a read repeats by nature");
}

/* The same shape for both, so that a request is stored, signed and shown alike. */
static void native_target(const struct hp_reader *r, struct hp_op *op)
{
	op->method = HP_METHOD_NATIVE;
	op->path = hp_r_printf(r, "/%s", op->pub.name);
}

static void http_target(const struct hp_reader *r, struct hp_op *op)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"};

	op->method = hp_r_need(r, -1, "method");
	if (!has_name(methods, 6, op->method))
		hp_r_fail(r, "method \"%s\" is not one of GET, POST, PUT, PATCH, DELETE, HEAD", op->method);
	op->path = hp_r_string(r, -1, "path");
	if (op->path && op->path[0] != '/')
		hp_r_fail(r, "path \"%s\" must begin with /", op->path);
}

static void read_operation(const struct hp_reader *r, const struct hp_conn *c, struct hp_op *op)
{
	static const char *const fields[] = {"repeats", "destructive", "read", "request", "reply",
					     "arg",     "errors",      "doc",  "breaker", "secret",
					     "method",  "path"};

	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "an operation is a table, not a %s", luaL_typename(r->L, -1));
	hp_r_only(r, -1, fields, sizeof fields / sizeof *fields - (c->native ? 2 : 0), 0);
	hp_r_string(r, -1, "doc");
	op->pub.connector = c->name;
	if (c->native)
		native_target(r, op);
	else
		http_target(r, op);
	op->pub.read = hp_r_bool(r, -1, "read");
	op->pub.destructive = hp_r_bool(r, -1, "destructive");
	if (op->pub.read && op->pub.destructive)
		hp_r_fail(r, "a read cannot be destructive");
	read_repeat(r, lua_gettop(r->L), c->native, op);
	op->pub.breaker = hp_breaker_read(r, lua_gettop(r->L), c->breaker, &op->pub.own_breaker);
	op->n_errors = hp_r_list(r, -1, "errors", false, HP_WORDS_MAX, &op->errors);
	op->n_secret_paths = hp_r_list(r, -1, "secret", true, HP_SECRETS_PER_REPLY, &op->secret_paths);
	hp_r_function(r, -1, "request", &op->has_request);
	hp_r_function(r, -1, "reply", &op->has_reply);
	if (!op->has_request && !op->path)
		hp_r_fail(r, "path is missing, and there is no request function that could give it");
	if (!op->has_request && strpbrk(op->path, "{}"))
		hp_r_fail(r, "path \"%s\" has a part in braces, and there is no request function that fills it", op->path);
	if (hp_r_get(r, -1, "arg")) {
		op->arg = hp_schema_read(r, -1, "arg");
		lua_pop(r->L, 1);
	}
}

static bool operation_name_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.");

	return n > 0 && s[n] == '\0' && n <= HP_NAME_MAX && s[0] != '.' && s[n - 1] != '.' && !strstr(s, "..");
}

static void read_operations(struct hp_reader *r, int table, struct hp_conn *c)
{
	const char **names, *outer = r->what;
	int i;

	if (!hp_r_get(r, table, "operations"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "operations must be a table");
	c->n_ops = hp_r_keys(r, -1, "operations", OPERATIONS_MAX, &names);
	c->ops = hp_r_alloc(r, sizeof *c->ops * (size_t)(c->n_ops ? c->n_ops : 1));
	for (i = 0; i < c->n_ops; i++) {
		if (!operation_name_ok(names[i]))
			hp_r_fail(r, "operation \"%s\": a name is lower-case words joined by dots", names[i]);
		c->ops[i].pub.name = names[i];
		r->what = hp_r_printf(r, "operation \"%s\"", names[i]);
		hp_r_get(r, -1, names[i]);
		read_operation(r, c, &c->ops[i]);
		lua_pop(r->L, 1);
		r->what = outer;
	}
	lua_pop(r->L, 1);
}

static void read_webhook(const struct hp_reader *r, int table, struct hp_conn *c)
{
	static const char *const fields[] = {"scheme", "secrets", "tolerance", "event"};
	const char **names;
	bool has_event;
	int i;

	if (!hp_r_get(r, table, "webhook"))
		return;
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "webhook must be a table");
	hp_r_only(r, -1, fields, 4, 0);
	c->has_webhook = true;
	c->webhook.scheme = hp_r_need(r, -1, "scheme");
	c->webhook.n_secrets = hp_r_list(r, -1, "secrets", false, 4, &names);
	if (c->webhook.n_secrets == 0)
		hp_r_fail(r, "webhook: secrets is missing: names of the current and the previous secret");
	for (i = 0; i < c->webhook.n_secrets; i++)
		c->webhook.secrets[i] = names[i];
	c->webhook.tolerance_us = hp_r_duration(r, -1, "tolerance", HP_WEBHOOK_TOLERANCE);
	hp_r_function(r, -1, "event", &has_event);
	if (!has_event)
		hp_r_fail(r, "webhook: event is missing: function(body, headers) return { id = …, type = …, deliver = … } end");
	lua_pop(r->L, 1);
}

/* An allowed host is a name without scheme, port or path. */
static void read_hosts(const struct hp_reader *r, int table, struct hp_conn *c)
{
	int i;

	c->base = hp_r_string(r, table, "base");
	if (c->base && strncmp(c->base, "https://", 8) != 0)
		hp_r_fail(r, "base \"%s\" must begin with https://", c->base);
	if (c->base && strcspn(c->base, "?# \r\n") != strlen(c->base))
		hp_r_fail(r, "base \"%s\" must be scheme, host and path only", c->base);
	c->n_hosts = hp_r_list(r, table, "hosts", false, HP_WORDS_MAX, &c->hosts);
	for (i = 0; i < c->n_hosts; i++)
		if (c->hosts[i][0] == '\0' || strpbrk(c->hosts[i], "/: \t"))
			hp_r_fail(r, "hosts: \"%s\" must be a name of a host only", c->hosts[i]);
}

void hp_connector_read(const struct hp_reader *outer, const char *name, struct hp_conn *c)
{
	static const char *const fields[] = {"base", "hosts", "secrets", "headers", "operations", "webhook", "limits",
					     "doc", "native", "breaker"};
	struct hp_reader r = *outer;
	int table = lua_gettop(r.L);
	bool own;

	luaL_checkstack(r.L, 20, NULL);
	c->name = name;
	c->file = r.file;
	hp_r_only(&r, table, fields, sizeof fields / sizeof *fields, 0);
	hp_r_string(&r, table, "doc");
	c->native = hp_r_bool(&r, table, "native");
	read_hosts(&r, table, c);
	if (c->native && (c->base || c->n_hosts > 0))
		hp_r_fail(&r, "a native connector has no base and no hosts: its plugin knows where to go");
	c->n_secrets = hp_r_list(&r, table, "secrets", false, HP_WORDS_MAX, &c->secrets);
	read_headers(&r, table, c);
	c->breaker = hp_breaker_read(&r, table, &hp_breaker_default, &own);
	read_operations(&r, table, c);
	if (!c->native && c->n_ops > 0 && (!c->base || c->n_hosts == 0))
		hp_r_fail(&r, "%s is missing", c->base ? "hosts" : "base");
	read_webhook(&r, table, c);
	hp_loader_conn_limits(&r, table, c);
}

struct hp_op *hp_conn_op(struct hp_conn *c, const char *name)
{
	int i;

	for (i = 0; i < c->n_ops; i++)
		if (strcmp(c->ops[i].pub.name, name) == 0)
			return &c->ops[i];
	return NULL;
}
