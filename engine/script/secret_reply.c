/* secret_reply.c: replies that bring secrets, and replies that repeat them.
 *
 * A call with `save = secret { NAME = "path" }` takes the texts at the paths out of the
 * reply; whoever drives the run seals them, and in their place stands
 * {"secret":NAME,"version":n,"fingerprint":f}. Elsewhere in the reply the same text is
 * blackened. So is, in every reply, what was sent with its request: providers repeat
 * keys in their error messages.
 */
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
	struct hp_scrubber s;
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, HP_VALUE_MAX);
	if (hp_scrubber_init(&s, used, n) < 0) {
		hp_fail(err, HP_E_NOMEM, "no memory to blacken a reply");
		goto out;
	}
	if (hp_json_write(&text, value, err) < 0)
		goto out;
	rc = hp_scrub(&s, hp_buf_bytes(&text), out);
	if (rc == 0)
		hp_buf_add(out, text.p, text.n);
	rc = rc < 0 ? hp_fail(err, HP_E_NOMEM, "no memory to blacken a reply") : hp_buf_check(out, "a value", err);
out:
	hp_scrubber_free(&s);
	hp_buf_wipe(&text);
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

#define FORMS_MAX 12 /* of one secret: see add_forms() */

struct hp_scrub_form {
	size_t at, n; /* in the text of all forms */
	int of;       /* which secret */
};

/* What was appended to the text since `at` is a form, when it is a new one. */
static void form_ends(struct hp_scrubber *s, int of, size_t at)
{
	size_t n = s->text.n - at;

	if (s->text.failed || n < SCRUB_MIN)
		return;
	for (int i = 0; i < s->n; i++)
		if (s->forms[i].of == of && s->forms[i].n == n && memcmp(s->text.p + s->forms[i].at, s->text.p + at, n) == 0)
			return;
	s->forms[s->n++] = (struct hp_scrub_form){at, n, of};
}

/* Base64 of any text around the value has these letters, whichever of the three ways the
 * value lies in it; the letters at its edges belong to the neighbours, too. */
static void add_base64(struct hp_scrubber *s, int of, const char *value, bool for_urls)
{
	static const char pads[2] = {0};
	struct hp_buf plain;

	hp_buf_init(&plain, strlen(value) + sizeof pads);
	for (size_t pad = 0; pad < 3 && !s->text.failed; pad++) {
		size_t at = s->text.n;

		hp_buf_clear(&plain);
		hp_buf_add(&plain, pads, pad);
		hp_buf_adds(&plain, value);
		s->text.failed |= plain.failed;
		if (hp_base64(&s->text, plain.p, plain.n) < 0)
			break;
		s->text.n = at + plain.n * 8 / 6;
		for (char *c = s->text.p + at; for_urls && c < s->text.p + s->text.n; c++)
			*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
		form_ends(s, of, at + (pad * 8 + 5) / 6);
	}
	hp_buf_wipe(&plain);
}

static void add_hex(struct hp_scrubber *s, int of, const char *value, const char *digit)
{
	size_t at = s->text.n;

	for (const char *c = value; *c; c++) {
		hp_buf_addc(&s->text, digit[(unsigned char)*c >> 4]);
		hp_buf_addc(&s->text, digit[*c & 15]);
	}
	form_ends(s, of, at);
}

/* A value as others may write it. */
static void add_forms(struct hp_scrubber *s, int of, const char *value)
{
	size_t at = s->text.n, n = strlen(value);

	hp_buf_adds(&s->text, value);
	form_ends(s, of, at);
	at = s->text.n;
	hp_buf_urlencode(&s->text, value, n);
	form_ends(s, of, at);
	at = s->text.n + 1; /* without the quotes */
	if (hp_buf_json(&s->text, value, n) == 0)
		s->text.n--;
	form_ends(s, of, at);
	add_base64(s, of, value, false);
	add_base64(s, of, value, true);
	add_hex(s, of, value, "0123456789abcdef");
	add_hex(s, of, value, "0123456789ABCDEF");
}

/* The pairs first: a part of one is another text. */
int hp_scrubber_init(struct hp_scrubber *s, const struct hp_used_secret *used, int n)
{
	size_t max = 0;

	*s = (struct hp_scrubber){.used = used};
	for (int i = 0; i < n; i++) /* longest in JSON: six bytes for one */
		max += 32 * (strlen(used[i].value) + 8) + (used[i].encoded ? strlen(used[i].encoded) : 0);
	hp_buf_init(&s->text, max);
	if (n == 0)
		return 0;
	s->forms = hp_calloc((size_t)n, FORMS_MAX * sizeof *s->forms);
	for (int i = 0; s->forms && i < n; i++) {
		size_t at = s->text.n;

		if (used[i].encoded)
			hp_buf_adds(&s->text, used[i].encoded);
		form_ends(s, i, at);
	}
	for (int i = 0; s->forms && i < n; i++)
		add_forms(s, i, used[i].value);
	if (s->forms && !s->text.failed)
		return 0;
	hp_scrubber_free(s);
	return -1;
}

void hp_scrubber_free(struct hp_scrubber *s)
{
	hp_buf_wipe(&s->text);
	hp_free(s->forms);
	*s = (struct hp_scrubber){0};
}

/* b becomes `in` with `with` in the place of the form; `in` may be b's own. 0: it has none of it. */
static int replace(const struct hp_scrubber *s, const struct hp_scrub_form *f, struct hp_bytes in, struct hp_buf *b)
{
	const char *what = s->text.p + f->at, *p = memmem(in.p, in.n, what, f->n);
	char with[HP_SECRET_NAME_MAX + 16];
	struct hp_buf out;
	size_t at = 0;

	if (!p)
		return 0;
	(void)snprintf(with, sizeof with, "[secret %s]", s->used[f->of].name);
	hp_buf_init(&out, b->max);
	for (; p; p = memmem(in.p + at, in.n - at, what, f->n)) {
		hp_buf_add(&out, in.p + at, (size_t)(p - in.p) - at);
		hp_buf_adds(&out, with);
		at = (size_t)(p - in.p) + f->n;
	}
	hp_buf_add(&out, in.p + at, in.n - at);
	hp_buf_wipe(b);
	*b = out;
	return out.failed ? -1 : 1;
}

int hp_scrub(const struct hp_scrubber *s, struct hp_bytes in, struct hp_buf *out)
{
	struct hp_buf b;
	int rc = 0, any = 0;

	if (in.n < SCRUB_MIN || HP_MUTANT(secret_scrub))
		return 0;
	hp_buf_init(&b, 2 * (HP_HTTP_RESPONSE_BODY_MAX + HP_VALUE_MAX));
	for (int i = 0; i < s->n && rc >= 0; i++) {
		rc = replace(s, &s->forms[i], any ? hp_buf_bytes(&b) : in, &b);
		any |= rc != 0;
	}
	if (any && rc >= 0)
		rc = hp_buf_add(out, b.p, b.n);
	hp_buf_wipe(&b);
	return rc < 0 ? -1 : any;
}
