/* auth.c: who asks, and may they?
 *
 * A token's answer is remembered by the token's hash for API_AUTH_LIFE, so a busy
 * client costs one look a time, and a revoked token is dead soon after: at once in
 * the worker that revoked it. Only good answers are remembered: a token that was
 * just made works at once.
 */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct auth_state {
	api_handler next;
	uint64_t forgotten; /* when the store was asked */
};

/* The token after "Bearer ", or NULL. */
static const char *bearer(const struct hp_http_call *call)
{
	const char *h = hp_http_call_header(call, "Authorization");

	if (!h || strncasecmp(h, "Bearer ", 7) != 0)
		return NULL;
	h += 7;
	h += strspn(h, " ");
	return *h && strlen(h) <= API_TOKEN_MAX ? h : NULL;
}

static struct api_auth *place_of(struct hp_api *api, const uint8_t token[HP_SHA256_LEN])
{
	return &api->auth[token[0] % API_AUTH_SLOTS];
}

static bool has_scope(const char *scopes, const char *scope)
{
	char word[32];

	(void)snprintf(word, sizeof word, " %s ", scope);
	return strstr(scopes, word) != NULL;
}

static void authorised(struct api_request *rq, const struct api_auth *a)
{
	struct auth_state *st = rq->state;
	char hint[160];

	rq->state = NULL;
	rq->who.name = hp_arena_strdup(rq->arena, a->name);
	rq->who.kind = hp_arena_strdup(rq->arena, a->kind);
	rq->who.scopes = hp_arena_strdup(rq->arena, a->scopes);
	if (!rq->who.name || !rq->who.kind || !rq->who.scopes) {
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the request");
		return;
	}
	/* decide() refuses agents too; said here so that an agent learns it before a
	 * missing scope, which somebody might otherwise grant. */
	if (rq->route->no_agents && strcmp(a->kind, "agent") == 0) {
		api_answer_fail(rq, HP_E_FORBIDDEN, "A person has to decide.",
				"%s is an agent: agents may propose, never approve", a->name);
		return;
	}
	if (!has_scope(a->scopes, rq->route->scope)) {
		(void)snprintf(hint, sizeof hint, "Make one with it: holdpoint token create %.40s --scope %s …",
			       a->name, rq->route->scope);
		api_answer_fail(rq, HP_E_FORBIDDEN, hint, "this token of %s does not have the scope \"%s\"",
				a->name, rq->route->scope);
		return;
	}
	st->next(rq);
}

static int read_answer(struct api_auth *a, struct hp_bytes json, struct hp_error *err)
{
	json_t *root = hp_json_parse(json.p, json.n, "token", err), *scope;
	const char *name = hp_json_str(root, "principal"), *kind = hp_json_str(root, "kind");
	size_t i, n;
	int rc = -1;

	if (!root)
		return -1;
	if (!name || !kind || strlen(name) >= sizeof a->name || strlen(kind) >= sizeof a->kind) {
		hp_fail(err, HP_E_INTERNAL, "the store's answer about a token names no principal");
		goto out;
	}
	a->id = hp_json_int(root, "id", 0);
	memcpy(a->name, name, strlen(name) + 1);
	memcpy(a->kind, kind, strlen(kind) + 1);
	n = (size_t)snprintf(a->scopes, sizeof a->scopes, " ");
	json_array_foreach(json_object_get(root, "scopes"), i, scope) {
		const char *word = json_string_value(scope);

		if (word && n + strlen(word) + 2 < sizeof a->scopes)
			n += (size_t)snprintf(a->scopes + n, sizeof a->scopes - n, "%s ", word);
	}
	rc = 0;
out:
	json_decref(root);
	return rc;
}

static void on_authenticate(void *arg, struct hp_bytes json, const struct hp_error *failed)
{
	struct api_request *rq = arg;
	const struct auth_state *st = rq->state;
	struct api_auth a = { .until = hp_boottime_us() + API_AUTH_LIFE };
	struct hp_error err;

	if (failed) {
		err = *failed;
		if (err.code == HP_E_NOT_FOUND)
			err.code = HP_E_UNAUTHORIZED;
		api_answer_not_read(rq, &err);
		return;
	}
	if (read_answer(&a, json, &err) < 0) {
		api_answer_error(rq, &err);
		return;
	}
	memcpy(a.token, rq->token, sizeof a.token);
	/* A revocation may have overtaken this answer: it is good once, not for longer. */
	if (st->forgotten == rq->api->forgotten)
		*place_of(rq->api, rq->token) = a;
	authorised(rq, &a);
}

void api_auth_forget(struct hp_api *api, int64_t id)
{
	api->forgotten++;
	for (struct api_auth *a = api->auth; a < api->auth + API_AUTH_SLOTS; a++)
		if (a->id == id)
			a->until = 0;
}

void api_authenticate(struct api_request *rq, api_handler next)
{
	struct auth_state *st = hp_arena_alloc(rq->arena, sizeof *st);
	const char *token = bearer(rq->call);
	const struct api_auth *known;
	struct hp_error err;
	struct hp_bytes args;
	json_t *doc;

	if (!token || !st) {
		api_answer_fail(rq, st ? HP_E_UNAUTHORIZED : HP_E_NOMEM,
				"Send the header Authorization: Bearer TOKEN; holdpoint token create makes one.",
				"there is no token in the request");
		return;
	}
	st->next = next;
	st->forgotten = rq->api->forgotten;
	rq->state = st;
	hp_sha256(token, strlen(token), rq->token);
	known = place_of(rq->api, rq->token);
	if (known->until > hp_boottime_us() && hp_equal_ct(known->token, HP_SHA256_LEN, rq->token, HP_SHA256_LEN)) {
		struct api_auth copy = *known;

		authorised(rq, &copy);
		return;
	}
	doc = json_pack("{s:s}", "token", token);
	if (!doc) { /* not UTF-8: nobody's token */
		api_answer_fail(rq, HP_E_UNAUTHORIZED, NULL, "the token is not valid");
		return;
	}
	if (api_text(rq, doc, &args, &err) < 0)
		api_answer_error(rq, &err);
	else
		api_store(rq)->ops->door(api_store(rq), "authenticate", "", args, on_authenticate, rq);
	json_decref(doc);
}
