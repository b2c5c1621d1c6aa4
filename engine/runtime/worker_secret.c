/* worker_secret.c: replies that bring secrets: sealed before the run goes on.
 *
 * The numbers of new versions come from the database and the values are sealed for
 * them; then the reply goes to the machine with references in the place of values, and
 * with the annex that stores them in the commit of that very transition. A worker that
 * dies in between leaves a number that nobody uses, and a run whose reply is unknown.
 */
#include "runtime/worker_private.h"

#include <string.h>
#include "base/alloc.h"
#include "base/json.h"
#include "runtime/secret_table.h"

struct sealing {
	struct hp_owned *r;
	struct hp_event ev;   /* REPLY, or VALUE of a probe's verdict */
	int state, i;
	json_t *value, *docs; /* docs: one for each secret that is sealed */
};

static void sealing_free(struct sealing *s)
{
	json_decref(s->value);
	json_decref(s->docs);
	hp_free(s);
}

static void go_on(struct sealing *s)
{
	struct hp_owned *r = s->r;
	struct hp_event ev = s->ev;

	sealing_free(s);
	hp_w_deliver(r, &ev);
}

/* Values are gone, and what was to be saved with them: as if reply() had failed. */
static void broken(struct sealing *s, const char *code, const struct hp_error *err)
{
	struct hp_owned *r = s->r;

	hp_w_log(HP_ERROR, r, "a reply with secrets cannot be used", code, err->message);
	hp_secret_reply_failed(&s->ev, &r->m.def->states[s->state], code,
			       hp_arena_strdup(r->step[r->turn], err->message));
	go_on(s);
}

static int finish(struct sealing *s, struct hp_error *err)
{
	struct hp_worker *w = s->r->w;
	json_t *annex = json_pack("{s:O}", "ops", s->docs);
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, HP_SECRETS_PER_REPLY * 4 * HP_SECRET_MAX);
	hp_buf_clear(&w->scratch);
	if (!annex || hp_json_write(&text, annex, err) < 0 ||
	    hp_workflow_secret_refs(hp_loaded_workflow(s->r->loaded), s->state, &s->value, s->docs, &w->scratch, err) < 0)
		goto out;
	s->ev.value = hp_buf_bytes(&w->scratch);
	s->ev.secrets = hp_buf_bytes(&text);
	rc = hp_w_keep(s->r, &s->ev);
	if (rc != 0)
		hp_fail(err, HP_E_NOMEM, "no memory for a reply with secrets");
out:
	hp_buf_free(&text);
	json_decref(annex);
	return rc;
}

static void next(struct sealing *s);

static void on_made(void *arg, json_t *doc, const struct hp_error *err)
{
	struct sealing *s = arg;

	if (hp_w_closed(s->r->w)) {
		sealing_free(s);
		return;
	}
	HP_CRASH_POINT(SECRET_SEALED);
	if (err) {
		broken(s, "secret_not_stored", err);
		return;
	}
	json_array_append(s->docs, doc);
	s->i++;
	next(s);
}

static void next(struct sealing *s)
{
	const struct hp_workflow *wf = hp_loaded_workflow(s->r->loaded);
	struct hp_secret_table *table = s->r->w->o.secrets;
	struct hp_error err;
	struct hp_bytes text;
	const char *name;

	if (s->i == hp_workflow_secrets(wf, s->state)) {
		if (finish(s, &err) < 0)
			broken(s, "reply_error", &err);
		else
			go_on(s);
		return;
	}
	if (hp_workflow_secret_of(wf, s->state, s->i, s->value, &name, &text, &err) < 0) {
		broken(s, "reply_error", &err);
		return;
	}
	HP_CRASH_POINT(SECRET_BEFORE);
	hp_secret_table_make(table, name, text, on_made, s);
}

bool hp_w_seals(struct hp_owned *r, int state, const struct hp_event *ev)
{
	struct sealing *s;
	struct hp_error err;

	if (hp_workflow_secrets(hp_loaded_workflow(r->loaded), state) == 0)
		return false;
	s = hp_needed(1, sizeof *s);
	*s = (struct sealing){.r = r, .ev = *ev, .state = state, .docs = json_array()};
	s->value = hp_json_parse(ev->value.p, ev->value.n, "a reply with secrets", &err);
	s->ev.value = (struct hp_bytes){NULL, 0};
	hp_buf_wipe(&r->w->scratch); /* where it was written */
	hp_w_hand(r, HP_HAND_EFFECT);
	if (!s->value || !s->docs)
		broken(s, "reply_error", &err);
	else if (!r->w->o.secrets)
		broken(s, "secret_not_stored", (hp_fail(&err, HP_E_UNAVAILABLE, "this engine has no key for secrets"), &err));
	else
		next(s);
	return true;
}

/* ---- what was changed is known before the run goes on ---- */

struct waiting {
	struct hp_owned *r;
	int64_t now;
	struct hp_commit_result res;
};

static bool changes_secrets(const struct hp_transition *t)
{
	for (int i = 0; i < t->n_annexes; i++)
		if (strcmp(t->annexes[i].kind, "secrets") == 0)
			return true;
	return false;
}

static void on_looked(void *arg)
{
	struct waiting *x = arg;
	struct waiting copy = *x;

	hp_free(x);
	if (!hp_w_closed(copy.r->w))
		hp_w_acknowledged(copy.r, copy.now, &copy.res);
}

bool hp_w_looks_at_secrets(struct hp_owned *r, int64_t now, const struct hp_commit_result *res)
{
	struct waiting *x;

	if (!r->w->o.secrets || !changes_secrets(&r->m.t))
		return false;
	x = hp_needed(1, sizeof *x);
	*x = (struct waiting){r, now, *res};
	hp_secret_table_look_then(r->w->o.secrets, on_looked, x);
	return true;
}

static void on_looked_before_send(void *arg)
{
	struct hp_owned *r = arg;

	if (r->w->life <= HP_LIFE_DRAINING) /* else: the drain has ended without it */
		hp_w_send(r);
}

bool hp_w_looks_before_send(struct hp_owned *r)
{
	if (!r->w->o.secrets || r->looked)
		return false;
	r->looked = true;
	hp_w_hand(r, HP_HAND_EFFECT);
	hp_secret_table_look_then(r->w->o.secrets, on_looked_before_send, r);
	return true;
}

/* ---- what was sent ---- */

static int scrub_kept(struct hp_owned *r, const struct hp_scrubber *s, struct hp_bytes *b, struct hp_buf *out)
{
	int rc;

	hp_buf_clear(out);
	rc = hp_scrub(s, *b, out);
	if (rc <= 0)
		return rc;
	b->p = hp_arena_strndup(r->step[r->turn], hp_buf_str(out), out->n);
	b->n = out->n;
	return b->p ? 0 : -1;
}

int hp_w_scrub_event(struct hp_owned *r, const struct hp_scrubber *s, struct hp_event *ev)
{
	struct hp_bytes message = hp_bytes_of(ev->message);
	struct hp_buf out;
	int rc;

	hp_buf_init(&out, 2 * HP_VALUE_MAX);
	rc = scrub_kept(r, s, &ev->value, &out) != 0 || scrub_kept(r, s, &message, &out) != 0 ? -1 : 0;
	ev->message = message.p;
	hp_buf_free(&out);
	return rc;
}

int hp_w_scrub(struct hp_owned *r, const struct hp_scrubber *s, struct hp_incoming *in, struct hp_buf *body)
{
	struct hp_buf header;
	int rc = hp_scrub(s, in->body, body);

	if (rc > 0)
		in->body = hp_buf_bytes(body);
	hp_buf_init(&header, HP_HTTP_HEADERS_MAX);
	for (int i = 0; i < in->n_headers && rc >= 0; i++) {
		struct hp_bytes value = hp_bytes_of(in->headers[i][1]);

		rc = scrub_kept(r, s, &value, &header);
		in->headers[i][1] = value.p;
	}
	hp_buf_free(&header);
	return rc < 0 ? -1 : 0;
}
