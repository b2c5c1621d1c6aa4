/* secrets.c: setting secrets, and the log's lines about who did it.
 *
 * A value comes in over HTTP, is sealed in this process and forgotten. It comes back
 * over no door, and no log has it.
 */
#include "api/api_private.h"

#include <string.h>

/* false: answered. */
static bool usable(struct api_request *rq, struct hp_bytes *value)
{
	const json_t *v = json_object_get(rq->args, "value");

	if (!hp_server_secret_table(rq->api->server)) {
		api_answer_fail(rq, HP_E_UNAVAILABLE, "Start it with --secrets-key FILE; the file has lines of 64 hex digits.",
				"this engine has no key for secrets");
		return false;
	}
	if (!v)
		return true;
	*value = (struct hp_bytes){json_string_value(v), json_string_length(v)};
	if (value->n == 0 || value->n > HP_SECRET_MAX) {
		api_answer_fail(rq, HP_E_INVALID, NULL, "a secret has from 1 to %d bytes", HP_SECRET_MAX);
		return false;
	}
	return true;
}

static bool name_is_good(struct api_request *rq)
{
	if (hp_secret_name_ok(rq->name))
		return true;
	api_answer_fail(rq, HP_E_INVALID, "A name has 1 to 63 capital letters, digits and \"_\".",
			"\"%.60s\" cannot be the name of a secret", rq->name);
	return false;
}

static void changed(struct api_request *rq, const char *what, struct hp_bytes json)
{
	json_t *reply = json.p ? hp_json_parse(json.p, json.n, "secret", NULL) : NULL;

	if (reply)
		hp_log(HP_INFO, what, "secret", HP_STR(rq->name), "version", HP_I64(hp_json_int(reply, "version", 0)),
		       "state", HP_STR(hp_json_str(reply, "state")), "by", HP_STR(rq->who.name), NULL);
	json_decref(reply);
	if (!rq->api->closing)
		hp_secret_table_look(hp_server_secret_table(rq->api->server));
}

void api_secret_promoted(struct api_request *rq, struct hp_bytes json)
{
	changed(rq, "secret promoted", json);
}

void api_secret_retired(struct api_request *rq, struct hp_bytes json)
{
	changed(rq, "secret retired", json);
}

static void on_put(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct api_request *rq = arg;

	changed(rq, "secret set", err ? (struct hp_bytes){NULL, 0} : json);
	if (err)
		api_answer_error(rq, err);
	else
		api_answer_json(rq, 200, json);
}

static void on_sealed(void *arg, json_t *doc, const struct hp_error *err)
{
	struct api_request *rq = arg;
	const char *state = hp_json_str(rq->args, "state");
	int64_t expires = hp_json_int(rq->args, "expires_in", 0);
	struct hp_error mine;
	struct hp_bytes text;
	int rc = 0;

	if (err) {
		api_answer_error(rq, err);
		return;
	}
	rc |= json_object_set_new(doc, "state", json_string(state ? state : "current"));
	if (expires > 0)
		rc |= json_object_set_new(doc, "expires_in", json_integer(expires));
	if (rc != 0) {
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the request");
		return;
	}
	if (api_text(rq, doc, &text, &mine) < 0) {
		api_answer_error(rq, &mine);
		return;
	}
	api_store(rq)->ops->door(api_store(rq), "secret_put", rq->who.name, text, on_put, rq);
}

void api_secret_set(struct api_request *rq)
{
	const char *state = hp_json_str(rq->args, "state");
	struct hp_bytes value;

	if (!name_is_good(rq) || !usable(rq, &value))
		return;
	if (state && strcmp(state, "current") != 0 && strcmp(state, "pending") != 0) {
		api_answer_fail(rq, HP_E_INVALID, "States of a new version are current and pending.",
				"a new version cannot be \"%.30s\"", state);
		return;
	}
	if (hp_json_int(rq->args, "expires_in", 1) < 1) {
		api_answer_fail(rq, HP_E_INVALID, NULL, "\"expires_in\" is a number of seconds from now");
		return;
	}
	hp_secret_table_make(hp_server_secret_table(rq->api->server), rq->name, value, on_sealed, rq);
}

static void on_looked(void *arg)
{
	struct api_request *rq = arg;
	const json_t *v = json_object_get(rq->args, "value");
	struct hp_bytes value = {json_string_value(v), json_string_length(v)};
	struct hp_buf out;
	int64_t version;

	version = hp_secret_table_which(hp_server_secret_table(rq->api->server), rq->name, value);
	hp_buf_init(&out, 256);
	hp_buf_printf(&out, "{\"name\":\"%s\",\"known\":%s", rq->name, version ? "true" : "false");
	if (version)
		hp_buf_printf(&out, ",\"version\":%lld", (long long)version);
	hp_buf_addc(&out, '}');
	api_answer_json(rq, 200, hp_buf_bytes(&out));
	hp_buf_free(&out);
}

/* Is it this value? Who asks has it already, and learns which version it is. */
void api_secret_which(struct api_request *rq)
{
	struct hp_bytes value;

	if (name_is_good(rq) && usable(rq, &value))
		hp_secret_table_look_then(hp_server_secret_table(rq->api->server), on_looked, rq);
}

static void on_rekeyed(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct api_request *rq = arg;

	if (err) {
		api_answer_error(rq, err);
		return;
	}
	hp_log(HP_INFO, "secrets were sealed with the first key", "by", HP_STR(rq->who.name), NULL);
	api_answer_json(rq, 200, json);
}

void api_secret_rekey(struct api_request *rq)
{
	struct hp_bytes none;

	if (usable(rq, &none))
		hp_secret_table_rekey(hp_server_secret_table(rq->api->server), rq->who.name, on_rekeyed, rq);
}
