/* start.c: POST /api/v1/runs. The input is checked against the definition, the
 * key is the definition's own unless one is given, and the run is begun right
 * here when there is a slot. */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

static void on_started(void *arg, int64_t now, const struct hp_start_result *res, const struct hp_error *err)
{
	struct api_request *rq = arg;
	char body[96];
	bool existed;

	(void)now;
	if (err) {
		api_answer_error(rq, err);
		return;
	}
	api_crash(rq->route->after);
	existed = res->existed;
	(void)snprintf(body, sizeof body, "{\"existed\":%s,\"run\":%lld}", existed ? "true" : "false",
		       (long long)res->run_id);
	if (!rq->api->closing) {
		struct hp_worker *w = hp_server_worker(rq->api->server);

		if (res->claimed)
			hp_worker_adopt(w, res->claimed);
		else if (!existed)
			hp_worker_hint(w);
	}
	api_answer_json(rq, existed ? 200 : 201, hp_bytes_of(body));
}

/* This process does not know the workflow: does the store? */
static void on_workflows(void *arg, struct hp_bytes json, const struct hp_error *failed)
{
	struct api_request *rq = arg;
	const char *name = hp_json_str(rq->args, "workflow"), *names[64], *near;
	struct hp_error err;
	json_t *root = failed ? NULL : hp_json_parse(json.p, json.n, "workflows", &err), *row;
	char hint[200] = "";
	size_t i, n = 0;

	if (!root) {
		api_answer_not_read(rq, failed ? failed : &err);
		return;
	}
	json_array_foreach(json_object_get(root, "workflows"), i, row) {
		const char *word = hp_json_str(row, "workflow");

		word = word ? word : hp_json_str(row, "name");
		if (word && n < sizeof names / sizeof names[0])
			names[n++] = word;
		if (word && strcmp(word, name) == 0) {
			if (!rq->api->closing)
				hp_server_refresh(rq->api->server);
			api_answer_fail(rq, HP_E_UNAVAILABLE, "Try again in a second.",
					"workflow \"%s\" is not loaded here yet", name);
			json_decref(root);
			return;
		}
	}
	near = hp_nearest(name, names, n);
	if (near)
		(void)snprintf(hint, sizeof hint, "Did you mean \"%s\"?", near);
	api_answer_fail(rq, HP_E_NOT_FOUND,
			near ? hint : n ? "GET /api/v1/workflows lists what is deployed." :
					  "None is deployed yet: holdpoint deploy PATH.",
			"there is no workflow \"%.64s\"", name);
	json_decref(root);
}

/* Key and input, checked by the definition. */
static int prepare(struct api_request *rq, struct hp_workflow *w, struct hp_start *st, struct hp_error *err)
{
	const char *key = hp_json_str(rq->args, "key");
	struct hp_buf b;
	int rc = -1;

	if (hp_workflow_check_input(w, st->input, err) < 0)
		return -1;
	hp_buf_init(&b, HP_KEY_MAX);
	if (key && !*key) { /* an unset variable of somebody's shell, not the wish for a run without a key */
		hp_fail(err, HP_E_INVALID, "the key is empty");
		(void)hp_error_hint(err, "Leave it out for the key that the definition declares.");
		goto out;
	}
	if (key) {
		st->key = hp_bytes_of(key); /* its length is looked at in the store */
		rc = 0;
		goto out;
	}
	if (hp_workflow_key(w, st->input, &b, err) < 0)
		goto out;
	st->key.n = b.n;
	st->key.p = hp_arena_strndup(rq->arena, hp_buf_str(&b), b.n);
	rc = st->key.p ? 0 : hp_fail(err, HP_E_NOMEM, "no memory for the request");
out:
	hp_buf_free(&b);
	return rc;
}

void api_start(struct api_request *rq)
{
	struct hp_server *s = rq->api->server;
	struct hp_start st = { .workflow = hp_json_str(rq->args, "workflow"), .requester = rq->who.name };
	const json_t *input = json_object_get(rq->args, "input");
	struct hp_workflow *w = hp_server_workflow(s, st.workflow);
	struct hp_error err;

	if (!w) {
		api_store(rq)->ops->door(api_store(rq), "workflows", rq->who.name, hp_bytes_of("{}"),
					 on_workflows, rq);
		return;
	}
	st.input = hp_bytes_of("{}");
	if ((input && api_text(rq, input, &st.input, &err) < 0) || prepare(rq, w, &st, &err) < 0) {
		api_answer_error(rq, &err);
		return;
	}
	st.own = hp_worker_can_take(hp_server_worker(s));
	api_crash(rq->route->before);
	api_store(rq)->ops->start(api_store(rq), hp_server_engine(s), &st, on_started, rq);
}
