/* secret_reply.c: replies that bring secrets, and replies that repeat them.
 *
 * A call with `save = secret { NAME = "path" }` takes the texts at the paths out of the
 * reply; whoever drives the run seals them, and in their place stands
 * {"secret":NAME,"version":n,"fingerprint":f}. Elsewhere in the reply the same text is
 * blackened. So is, in every reply, what was sent with its request: providers repeat
 * keys in their error messages.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/mutant.h"
#include "script/internal.h"

#define SCRUB_MIN 8 /* a shorter text is found in innocent ones */

/* ---- new secrets ---- */

int hp_workflow_secrets(const struct hp_workflow *w, int state)
{
	return w->extra[state].n_secrets;
}

/* The place of "a.b.c" below `root`: the object that has the last name. */
static json_t *holder_of(json_t *root, const char *path, const char **last)
{
	const char *dot = strrchr(path, '.');
	char above[256];

	*last = dot ? dot + 1 : path;
	if (!dot)
		return root;
	(void)snprintf(above, sizeof above, "%.*s", (int)(dot - path), path);
	return hp_json_path(root, above);
}

int hp_workflow_secret_of(const struct hp_workflow *w, int state, int i, const json_t *value, const char **name,
			  struct hp_bytes *text, struct hp_error *err)
{
	const struct hp_secret_save *s = &w->extra[state].secrets[i];
	const json_t *v = s->path ? hp_json_path(value, s->path) : value;

	*name = s->name;
	if (!json_is_string(v) || json_string_length(v) == 0)
		return hp_fail(err, HP_E_INVALID, "the reply has no text at \"%s\", where the secret %s is to be found",
			       s->path ? s->path : "(all of it)", s->name);
	if (json_string_length(v) > HP_SECRET_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "the secret %s is longer than %d bytes", s->name, HP_SECRET_MAX);
	*text = (struct hp_bytes){json_string_value(v), json_string_length(v)};
	return 0;
}

void hp_secret_reply_failed(struct hp_event *ev, const struct hp_state *s, const char *code, const char *message)
{
	bool read = s->kind == HP_CALL && s->call.op.read;

	ev->ok = false;
	ev->outcome = ev->type == HP_EV_VALUE ? HP_NEEDS_PERSON : read ? HP_RETRYABLE : HP_AMBIGUOUS;
	ev->code = code;
	ev->message = message;
	ev->value = ev->secrets = (struct hp_bytes){NULL, 0};
}

static int write_blackened(const json_t *value, const struct hp_used_secret *used, int n, struct hp_buf *out,
			   struct hp_error *err)
{
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, HP_VALUE_MAX);
	if (hp_json_write(&text, value, err) < 0)
		goto out;
	if (!hp_scrub(used, n, hp_buf_bytes(&text), out))
		hp_buf_add(out, text.p, text.n);
	rc = hp_buf_check(out, "a value", err);
out:
	if (text.p)
		explicit_bzero(text.p, text.n);
	hp_buf_free(&text);
	return rc;
}

int hp_workflow_secret_refs(const struct hp_workflow *w, int state, json_t **value, const json_t *docs,
			    struct hp_buf *out, struct hp_error *err)
{
	const struct hp_extra *x = &w->extra[state];
	struct hp_used_secret used[HP_SECRETS_PER_REPLY];
	char *copies[HP_SECRETS_PER_REPLY] = {0};
	int i, rc = 0;

	for (i = 0; i < x->n_secrets && rc == 0; i++) {
		const json_t *doc = json_array_get(docs, (size_t)i);
		json_t *ref = json_pack("{s:s,s:I,s:s}", "secret", x->secrets[i].name, "version",
					(json_int_t)hp_json_int(doc, "version", 0), "fingerprint",
					hp_json_str(doc, "fingerprint") ? hp_json_str(doc, "fingerprint") : "");
		struct hp_bytes text;
		const char *last;

		rc = hp_workflow_secret_of(w, state, i, *value, &last, &text, err);
		copies[i] = rc == 0 ? hp_strdup(text.p) : NULL;
		used[i] = (struct hp_used_secret){x->secrets[i].name, copies[i], NULL};
		if (rc == 0 && (!copies[i] || !ref)) {
			rc = hp_fail(err, HP_E_NOMEM, "no memory for a reply");
		} else if (rc == 0 && !x->secrets[i].path) {
			json_decref(*value);
			*value = json_incref(ref);
		} else if (rc == 0) {
			json_t *holder = holder_of(*value, x->secrets[i].path, &last);

			rc = json_object_set(holder, last, ref) < 0 ? hp_fail(err, HP_E_NOMEM, "no memory for a reply") : 0;
		}
		json_decref(ref);
	}
	if (rc == 0)
		rc = write_blackened(*value, used, x->n_secrets, out, err);
	for (i = 0; i < x->n_secrets; i++) {
		if (copies[i])
			explicit_bzero(copies[i], strlen(copies[i]));
		hp_free(copies[i]);
	}
	return rc;
}

/* ---- what was sent ---- */

/* Replaces `what` by `with` in b; both are kept apart from a text that has none of it. */
static bool replace(struct hp_buf *b, const char *what, const char *with)
{
	size_t n = strlen(what), at = 0;
	struct hp_buf out;
	const char *p;

	if (n < SCRUB_MIN || !(p = memmem(hp_buf_str(b), b->n, what, n)))
		return false;
	hp_buf_init(&out, b->max);
	while (p) {
		hp_buf_add(&out, b->p + at, (size_t)(p - b->p) - at);
		hp_buf_adds(&out, with);
		at = (size_t)(p - b->p) + n;
		p = memmem(b->p + at, b->n - at, what, n);
	}
	hp_buf_add(&out, b->p + at, b->n - at);
	explicit_bzero(b->p, b->n);
	hp_buf_free(b);
	*b = out;
	return true;
}

/* Base64 of any text around the value has these letters, whichever of the three ways the
 * value lies in it; the letters at its edges belong to the neighbours, too. */
static bool replace_base64(struct hp_buf *b, const char *value, const char *with)
{
	static const char pads[2] = {0};
	struct hp_buf plain, form;
	bool any = false;

	hp_buf_init(&plain, 2 * HP_SECRET_MAX);
	hp_buf_init(&form, 4 * HP_SECRET_MAX);
	for (size_t pad = 0; pad < 3; pad++) {
		hp_buf_clear(&plain);
		hp_buf_clear(&form);
		hp_buf_add(&plain, pads, pad < 2 ? pad : 2);
		hp_buf_adds(&plain, value);
		hp_base64(&form, plain.p, plain.n);
		form.p[plain.n * 8 / 6] = '\0';
		any |= replace(b, form.p + (pad * 8 + 5) / 6, with);
		for (char *c = form.p; *c; c++)
			*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
		any |= replace(b, form.p + (pad * 8 + 5) / 6, with);
	}
	explicit_bzero(plain.p, plain.n);
	explicit_bzero(form.p, form.n);
	hp_buf_free(&plain);
	hp_buf_free(&form);
	return any;
}

static bool replace_hex(struct hp_buf *b, const char *value, size_t n, const char *with)
{
	char hex[2 * HP_SECRET_MAX + 1];
	bool any;

	hp_hex((const uint8_t *)value, n, hex);
	any = replace(b, hex, with);
	for (char *c = hex; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	any |= replace(b, hex, with);
	explicit_bzero(hex, sizeof hex);
	return any;
}

/* A value as others may write it. */
static bool replace_forms(struct hp_buf *b, const char *value, const char *with)
{
	size_t n = strlen(value);
	struct hp_buf form;
	bool any;

	if (n > HP_SECRET_MAX)
		return false;
	hp_buf_init(&form, 8 * HP_SECRET_MAX);
	any = replace(b, value, with);
	hp_buf_urlencode(&form, value, n);
	any |= replace(b, hp_buf_str(&form), with);
	hp_buf_clear(&form);
	hp_buf_json(&form, value, n);
	form.p[form.n - 1] = '\0';
	any |= replace(b, form.p + 1, with);
	explicit_bzero(form.p, form.n);
	hp_buf_free(&form);
	any |= replace_base64(b, value, with);
	return replace_hex(b, value, n, with) || any;
}

bool hp_scrub(const struct hp_used_secret *used, int n, struct hp_bytes in, struct hp_buf *out)
{
	char with[HP_SECRET_NAME_MAX + 16];
	struct hp_buf b;
	bool any = false;

	if (n == 0 || in.n == 0 || HP_MUTANT(secret_scrub))
		return false;
	hp_buf_init(&b, 2 * (HP_HTTP_RESPONSE_BODY_MAX + HP_VALUE_MAX));
	hp_buf_add(&b, in.p, in.n);
	for (int round = 0; round < 2; round++) /* the pairs first: a part of one is another text */
		for (int i = 0; i < n && !b.failed; i++) {
			(void)snprintf(with, sizeof with, "[secret %s]", used[i].name);
			if (round == 1)
				any |= replace_forms(&b, used[i].value, with);
			else if (used[i].encoded)
				any |= replace(&b, used[i].encoded, with);
		}
	if (any)
		hp_buf_add(out, b.p, b.n);
	if (b.p)
		explicit_bzero(b.p, b.n);
	hp_buf_free(&b);
	return any;
}
