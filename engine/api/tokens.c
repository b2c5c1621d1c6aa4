/* tokens.c: making and revoking tokens: what is asked for, and the log's line about
 * who did it. A token itself is in no log. */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

/* A token with a scope that does not exist would be refused everywhere, later. */
void api_token(struct api_request *rq)
{
	static const char *const scopes[] = { "read", "start", "operate", "approve", "admin" };
	const json_t *list = json_object_get(rq->args, "scopes"), *v;
	const size_t n = sizeof scopes / sizeof scopes[0];
	size_t i, k;

	json_array_foreach(list, i, v) {
		const char *near = hp_nearest(json_string_value(v), scopes, n);
		char hint[160];

		for (k = 0; k < n && strcmp(json_string_value(v), scopes[k]) != 0; k++)
			;
		if (k < n)
			continue;
		(void)snprintf(hint, sizeof hint, "%s%s%sScopes are read, start, operate, approve and admin.",
			       near ? "Did you mean \"" : "", near ? near : "", near ? "\"? " : "");
		api_answer_fail(rq, HP_E_INVALID, hint, "there is no scope \"%.60s\"", json_string_value(v));
		return;
	}
	if (json_array_size(list) == 0) {
		api_answer_fail(rq, HP_E_INVALID, "Scopes are read, start, operate, approve and admin.",
				"a token needs at least one scope");
		return;
	}
	api_door(rq);
}

/* "read approve" */
static void join_scopes(const json_t *list, char *out, size_t size)
{
	const json_t *v;
	size_t i, n = 0;

	out[0] = '\0';
	json_array_foreach(list, i, v) {
		const char *word = json_string_value(v);

		if (n + strlen(word) + 2 > size)
			break;
		n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", word);
	}
}

void api_token_made(struct api_request *rq, struct hp_bytes json)
{
	json_t *reply = json.p ? hp_json_parse(json.p, json.n, "token", NULL) : NULL;
	char scopes[96];

	if (!reply)
		return;
	join_scopes(json_object_get(rq->args, "scopes"), scopes, sizeof scopes);
	hp_log(HP_INFO, "token made", "token_id", HP_I64(hp_json_int(reply, "id", 0)), "principal",
	       HP_STR(hp_json_str(reply, "principal")), "kind", HP_STR(hp_json_str(reply, "kind")), "scopes",
	       HP_STR(scopes), "by", HP_STR(rq->who.name), NULL);
	json_decref(reply);
}

void api_token_revoked(struct api_request *rq, struct hp_bytes json)
{
	json_t *reply = json.p ? hp_json_parse(json.p, json.n, "token", NULL) : NULL;

	/* Also when it failed: an answer that is lost says nothing about what is stored. */
	api_auth_forget(rq->api, rq->id);
	if (!reply)
		return;
	hp_log(HP_INFO, hp_json_bool(reply, "already", 0) ? "token was revoked already" : "token revoked", "token_id",
	       HP_I64(rq->id), "principal", HP_STR(hp_json_str(reply, "principal")), "by", HP_STR(rq->who.name), NULL);
	json_decref(reply);
}
