/* undo.c: how to undo an effect, evaluated when it succeeds and kept until then.
 *
 * What is kept is complete: a request with its key (and the probe's), or a statement's
 * arguments. Secrets are names in it, as in every stored request. It is made in the
 * commit in which the effect succeeded and handed out by the claim that undoes it.
 */
#include <string.h>

#include "script/internal.h"

static int add_text(struct hp_job *j, struct hp_buf *out, struct hp_error *err)
{
	if (hp_job_eval(j, "undo", err) < 0 || hp_buf_check(&j->text, "undo", err) < 0)
		return -1;
	hp_buf_adds(out, "\"text\":");
	hp_buf_add(out, j->text.p, j->text.n);
	return 0;
}

static int add_request(struct hp_job *j, int undo, bool probe, int32_t visit, struct hp_buf *out, const char **code,
		       struct hp_error *err)
{
	struct hp_buf request, key;
	int rc;

	hp_buf_init(&request, HP_VALUE_MAX);
	hp_buf_init(&key, HP_KEY_MAX + 1);
	rc = hp_request_render(j, undo, probe, visit, &request, &key, code, err);
	if (rc == 0)
		rc = hp_buf_check(&request, "the request of an undo", err);
	if (rc == 0 && !probe) {
		hp_buf_adds(out, ",\"key\":");
		hp_buf_json(out, key.p, key.n);
	}
	if (rc == 0) {
		hp_buf_adds(out, probe ? ",\"probe\":" : ",\"request\":");
		hp_buf_json(out, request.p, request.n);
	}
	hp_buf_free(&request);
	hp_buf_free(&key);
	return rc;
}

static int add_call(struct hp_job *j, int undo, int32_t visit, struct hp_buf *out, const char **code,
		    struct hp_error *err)
{
	const struct hp_state *u = &j->w->def.states[undo];

	hp_buf_printf(out, ",\"operation\":\"%s.%s\"", u->call.op.connector, u->call.op.name);
	if (add_request(j, undo, false, visit, out, code, err) < 0)
		return -1;
	return u->call.has_probe ? add_request(j, undo, true, visit, out, code, err) : 0;
}

int hp_undo_render(struct hp_job *j, int state, int32_t visit, struct hp_buf *out, const char **code,
		   struct hp_error *err)
{
	const struct hp_state *s = &j->w->def.states[state];
	int rc = 0;

	HP_ASSERT(s->has_undo);
	hp_buf_adds(out, "{\"add\":{");
	if (s->undo == 0) {
		rc = add_text(j, out, err);
	} else {
		j->state = s->undo;
		hp_buf_printf(out, "\"state\":%d", s->undo);
		if (j->w->def.states[s->undo].kind == HP_CALL) {
			rc = add_call(j, s->undo, visit, out, code, err);
		} else {
			hp_buf_addc(out, ',');
			rc = hp_statement_args(j, out, err);
		}
	}
	hp_buf_adds(out, "}}");
	if (rc == 0 && out->n > HP_VALUE_MAX)
		rc = hp_fail(err, HP_E_TOO_LARGE, "state \"%s\": undo is larger than %d bytes", s->name, HP_VALUE_MAX);
	return rc;
}

static int write_args(const json_t *next, struct hp_buf *out, struct hp_error *err)
{
	json_t *o = json_pack("{s:O*, s:O*}", "args", json_object_get(next, "args"), "user",
			      json_object_get(next, "user"));
	int rc = hp_json_write(out, o, err);

	json_decref(o);
	return rc;
}

int hp_undo_kept(struct hp_job *j, const char *name, struct hp_buf *out, struct hp_buf *key, struct hp_error *err)
{
	json_t *undo = hp_annex_found(j->data->annex, "undo", err);
	const json_t *next = json_object_get(undo, "next"), *result = json_object_get(undo, "result");
	const char *text = hp_json_str(next, name), *k = hp_json_str(next, "key");
	int rc = 0;

	if (!undo) {
		rc = hp_fail(err, HP_E_INTERNAL, "the log of what is to be undone was not found");
	} else if (strcmp(name, "result") == 0) {
		rc = result && !json_is_null(result) ? hp_json_write(out, result, err) : 0;
	} else if (strcmp(name, "args") == 0) {
		rc = write_args(next, out, err);
	} else if (!text || !k) {
		rc = hp_fail(err, HP_E_INTERNAL, "the undo's %s was not found in the log", name);
	} else {
		hp_buf_add(out, text, json_string_length(json_object_get(next, name)));
		hp_buf_adds(key, k);
	}
	json_decref(undo);
	return rc;
}

void hp_undo_values(struct hp_job *j)
{
	json_t *undo = hp_annex_found(j->data->annex, "undo", NULL);
	json_t *saved = json_object_get(json_object_get(undo, "next"), "saved");

	if (saved) {
		json_decref(j->saved);
		j->saved = json_incref(saved);
	}
	json_decref(undo);
}
