/* outgoing.c: a stored request becomes one that can be sent.
 *
 * Here, and only here, names of secrets become values and the base URL is put in
 * front. Nothing of this is stored or logged.
 */
#include <stdio.h>
#include <string.h>
#include "script/internal.h"

#define USED_MAX 48

struct building {
	struct hp_used_secret used[USED_MAX];
	int n_used;
	const struct hp_conn *c;
	const struct hp_environment *env;
	struct hp_arena *a;
	struct hp_error *err;
};

/* The value, in the arena; noted as used. */
static const char *lookup(struct building *b, const char *name, const char *version)
{
	const char *value = b->env->secret(b->env->arg, name, version);

	if (!value || !*value) {
		if (version)
			hp_fail(b->err, HP_E_NOT_FOUND, "connector \"%s\" needs the secret %s, version %s, which is not there",
				b->c->name, name, version);
		else
			hp_fail(b->err, HP_E_NOT_FOUND, "connector \"%s\" needs the secret %s, which is not configured",
				b->c->name, name);
		return NULL;
	}
	value = hp_arena_strdup(b->a, value);
	name = hp_arena_strdup(b->a, name);
	if (!value || !name || b->n_used == USED_MAX) {
		hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
		return NULL;
	}
	b->used[b->n_used++] = (struct hp_used_secret){name, value, NULL};
	return value;
}

/* One of the connector's own. */
static const char *secret(struct building *b, const char *name, const char *version)
{
	int i;

	for (i = 0; name && i < b->c->n_secrets; i++)
		if (strcmp(b->c->secrets[i], name) == 0)
			break;
	if (!name || i == b->c->n_secrets) {
		hp_fail(b->err, HP_E_FORBIDDEN, "connector \"%s\" may not use the secret \"%.60s\"", b->c->name,
			name ? name : "?");
		return NULL;
	}
	return lookup(b, name, version);
}

static const char *basic(struct building *b, const json_t *v)
{
	const json_t *names = json_object_get(v, "basic"), *versions = json_object_get(v, "versions");
	const char *user = secret(b, json_string_value(json_array_get(names, 0)),
				  json_string_value(json_array_get(versions, 0)));
	const char *password = user ? secret(b, json_string_value(json_array_get(names, 1)),
					     json_string_value(json_array_get(versions, 1))) : NULL;
	const char *pair, *value = NULL;
	struct hp_buf encoded;

	if (!password)
		return NULL;
	hp_buf_init(&encoded, 8192);
	pair = hp_arena_printf(b->a, "%s:%s", user, password);
	if (pair && hp_base64(&encoded, pair, strlen(pair)) == 0)
		value = hp_arena_printf(b->a, "Basic %s", hp_buf_str(&encoded));
	if (!value)
		hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	else
		b->used[b->n_used - 1].encoded = value + strlen("Basic ");
	hp_buf_free(&encoded);
	return value;
}

static const char *header_value(struct building *b, const json_t *v)
{
	const char *value;

	if (json_is_string(v)) {
		value = hp_arena_strdup(b->a, json_string_value(v));
	} else if (json_object_get(v, "basic")) {
		return basic(b, v);
	} else {
		bool bearer = json_object_get(v, "bearer") != NULL;

		value = secret(b, hp_json_str(v, bearer ? "bearer" : "secret"), hp_json_str(v, "version"));
		if (!value)
			return NULL;
		value = hp_arena_printf(b->a, "%s%s", bearer ? "Bearer " : "", value);
	}
	if (!value)
		hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	return value;
}

static int add_headers(struct building *b, json_t *headers, struct hp_outgoing *out)
{
	size_t n = json_object_size(headers);
	const char *(*list)[2] = hp_arena_alloc(b->a, sizeof *list * (n + 1));
	void *it;

	if (!list)
		return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	for (it = json_object_iter(headers); it; it = json_object_iter_next(headers, it)) {
		const char *name = hp_arena_strdup(b->a, json_object_iter_key(it));
		const char *value = header_value(b, json_object_iter_value(it));

		if (!value)
			return -1;
		if (!name)
			return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
		/* the name only: the value may be a secret */
		if (!hp_header_name_ok(name) || strpbrk(value, "\r\n"))
			return hp_fail(b->err, HP_E_INVALID, "the header \"%.60s\" is malformed or contains a line break", name);
		list[out->n_headers][0] = name;
		list[out->n_headers][1] = value;
		out->n_headers++;
	}
	out->headers = list;
	return 0;
}

/* "https://host:port/path" → "host:port"; n 0: there is none. */
static struct hp_bytes authority_of(const char *url)
{
	const char *p = strstr(url, "://");
	size_t n = p ? strcspn(p + 3, "/?#") : 0;

	return n == 0 || memchr(p + 3, '@', n) ? (struct hp_bytes){NULL, 0} : (struct hp_bytes){p + 3, n};
}

static int add_url(const struct building *b, const json_t *rq, struct hp_outgoing *out)
{
	const char *path = hp_json_str(rq, "path"), *query = hp_json_str(rq, "query"), *base, *host;
	const char *other = b->env->base_url ? b->env->base_url(b->env->arg, b->c->name) : NULL;
	const char **hosts = hp_arena_alloc(b->a, sizeof *hosts * (size_t)(b->c->n_hosts + 1));
	struct hp_bytes authority;
	size_t n;
	int i;

	base = other ? other : b->c->base;
	n = strlen(base);
	while (n > 0 && base[n - 1] == '/')
		n--;
	out->url = hp_arena_printf(b->a, "%.*s%s%s%s", (int)n, base, path ? path : "", query ? "?" : "", query ? query : "");
	authority = authority_of(base);
	if (!path || path[0] != '/')
		return hp_fail(b->err, HP_E_INVALID, "the stored request has no path");
	if (authority.n == 0)
		return hp_fail(b->err, HP_E_INVALID, "connector \"%s\": the base URL has no host", b->c->name);
	host = hp_arena_strndup(b->a, authority.p, authority.n);
	if (!out->url || !hosts || !host)
		return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	for (i = 0; i < b->c->n_hosts && !other; i++)
		hosts[out->n_allow_hosts++] = b->c->hosts[i];
	if (other) /* where the operator sends it instead is the only place it may go */
		hosts[out->n_allow_hosts++] = host;
	out->allow_hosts = hosts;
	return 0;
}

/* An override that is a URL sends a plugin's calls to a simulated provider, over
 * HTTP; any other text is for the plugin to understand. */
static bool simulated(const char *override)
{
	return override && (strncmp(override, "http://", 7) == 0 || strncmp(override, "https://", 8) == 0);
}

static int add_native(const struct building *b, const json_t *rq, struct hp_outgoing *out)
{
	const char *other = b->env->base_url ? b->env->base_url(b->env->arg, b->c->name) : NULL;

	out->key = hp_arena_strdup(b->a, hp_json_str(rq, "key"));
	if (simulated(other)) {
		out->method = "POST";
		return out->key ? add_url(b, rq, out) : hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	}
	out->native = b->c->name;
	out->activity = hp_arena_strdup(b->a, hp_json_str(rq, "operation"));
	out->endpoint = other ? hp_arena_strdup(b->a, other) : NULL;
	out->url = hp_arena_printf(b->a, "native:%s", b->c->name);
	if (!out->key || !out->activity || !out->url || (other && !out->endpoint))
		return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	return 0;
}

/* Secrets of `with`: each word of the list, wherever it stands. */
static int fill_words(struct building *b, const json_t *rq, struct hp_outgoing *out)
{
	json_t *refs = json_object_get(rq, "secrets"), *v;
	const char *type = hp_json_str(json_object_get(rq, "headers"), "content-type"), *word;
	enum hp_secret_place place = HP_SECRET_PLAIN;
	int i;

	if (type && strncmp(type, "application/json", 16) == 0)
		place = HP_SECRET_JSON;
	else if (type && strncmp(type, "application/x-www-form-urlencoded", 33) == 0)
		place = HP_SECRET_FORM;
	json_object_foreach(refs, word, v) {
		const char *name = hp_json_str(v, "name"), *version = hp_json_str(v, "version");
		const char *value = name ? lookup(b, name, version && strcmp(version, "current") != 0 ? version : NULL) : NULL;

		if (!value)
			return -1;
		for (i = 0; i < out->n_headers; i++) {
			out->headers[i][1] = hp_secret_fill(b->a, out->headers[i][1], word, value, HP_SECRET_PLAIN);
			if (!out->headers[i][1])
				return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
			if (strpbrk(out->headers[i][1], "\r\n"))
				return hp_fail(b->err, HP_E_INVALID, "the secret %s cannot stand in a header", name);
		}
		out->body.p = out->body.n ? hp_secret_fill(b->a, out->body.p, word, value, place) : out->body.p;
		if (out->body.n && !out->body.p)
			return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
		out->body.n = out->body.n ? strlen(out->body.p) : 0;
	}
	return 0;
}

static int keep_used(const struct building *b, struct hp_outgoing *out)
{
	struct hp_used_secret *used = hp_arena_alloc(b->a, sizeof *used * (size_t)(b->n_used + 1));

	if (!used)
		return hp_fail(b->err, HP_E_NOMEM, "no memory left to build a request");
	memcpy(used, b->used, sizeof *used * (size_t)b->n_used);
	out->used = used;
	out->n_used = b->n_used;
	return 0;
}

int hp_workflow_outgoing(struct hp_workflow *w, struct hp_bytes request, const struct hp_environment *env,
			 struct hp_arena *a, struct hp_outgoing *out, struct hp_error *err)
{
	json_t *rq = hp_json_parse(request.p, request.n, "the stored request", err);
	struct building b = {.env = env, .a = a, .err = err};
	struct hp_conn *c;
	const struct hp_op *op;
	const json_t *body;
	int rc = -1;

	memset(out, 0, sizeof *out);
	op = rq ? hp_request_op(w, rq, &c, err) : NULL;
	if (!op)
		goto out;
	b.c = c;
	out->op = hp_op_ref_of(w, c, op);
	out->method = hp_arena_strdup(a, hp_json_str(rq, "method"));
	if (!out->method) {
		if (hp_json_str(rq, "method"))
			hp_fail(err, HP_E_NOMEM, "no memory left to build a request");
		else
			hp_fail(err, HP_E_INVALID, "the stored request has no method");
		goto out;
	}
	if ((c->native ? add_native(&b, rq, out) : add_url(&b, rq, out)) < 0 || add_headers(&b, json_object_get(rq, "headers"), out) < 0)
		goto out;
	body = json_object_get(rq, "body");
	if (json_string_length(body) > 0) {
		out->body.n = json_string_length(body);
		out->body.p = hp_arena_strndup(a, json_string_value(body), out->body.n);
		if (!out->body.p) {
			hp_fail(err, HP_E_NOMEM, "no memory left to build a request");
			goto out;
		}
	}
	rc = fill_words(&b, rq, out);
	if (rc == 0)
		rc = keep_used(&b, out);
out:
	json_decref(rq);
	return rc;
}
