/* drive_secret.c: replies that bring secrets, as the worker treats them. Nothing is
 * sealed: the in-memory store keeps no value, and a test may see none. */
#include "testing/drive_private.h"

#include <stdio.h>
#include <string.h>

#include "base/digest.h"

static int add_doc(struct hp_drive *d, json_t *docs, const char *name, struct hp_bytes text, struct hp_error *err)
{
	char args[HP_SECRET_NAME_MAX + 32], hex[HP_SHA256_HEX];
	uint8_t hash[HP_SHA256_LEN];
	json_t *reply;
	int rc;

	(void)snprintf(args, sizeof args, "{\"name\":\"%s\"}", name);
	reply = hp_d_ask(d, "secret_reserve", args);
	hp_sha256(text.p, text.n, hash);
	hp_hex(hash, sizeof hash, hex);
	hex[16] = '\0';
	rc = json_array_append_new(docs, json_pack("{s:s,s:s,s:I,s:s,s:s,s:s}", "op", "put", "name", name, "version",
						   (json_int_t)hp_json_int(reply, "version", 0), "sealed", "AAAA",
						   "key_id", "test", "fingerprint", hex));
	json_decref(reply);
	return rc == 0 ? 0 : hp_fail(err, HP_E_NOMEM, "no memory for a reply with secrets");
}

static int take(struct hp_drive *d, int state, json_t **value, json_t *docs, struct hp_error *err)
{
	int n = hp_workflow_secrets(d->w, state);
	struct hp_bytes text;
	const char *name;

	for (int i = 0; i < n; i++)
		if (hp_workflow_secret_of(d->w, state, i, *value, &name, &text, err) < 0 ||
		    add_doc(d, docs, name, text, err) < 0)
			return -1;
	hp_buf_clear(&d->scratch);
	return hp_workflow_secret_refs(d->w, state, value, docs, &d->scratch, err);
}

void hp_d_secrets(struct hp_drive *d, int state, struct hp_event *ev)
{
	json_t *value, *docs = json_array(), *annex = json_pack("{s:O}", "ops", docs);
	struct hp_error err = {0};
	struct hp_buf text;

	hp_buf_init(&text, HP_SECRETS_PER_REPLY * 1024);
	value = hp_json_parse(ev->value.p, ev->value.n, "a reply with secrets", &err);
	if (!value || take(d, state, &value, docs, &err) < 0 || hp_json_write(&text, annex, &err) < 0) {
		hp_secret_reply_failed(ev, &d->def->states[state], "reply_error",
				       hp_arena_strdup(d->step[d->turn], err.message));
	} else {
		ev->value = (struct hp_bytes){hp_arena_strndup(d->step[d->turn], d->scratch.p, d->scratch.n), d->scratch.n};
		ev->secrets = (struct hp_bytes){hp_arena_strndup(d->step[d->turn], text.p, text.n), text.n};
	}
	hp_buf_free(&text);
	json_decref(value);
	json_decref(docs);
	json_decref(annex);
}
