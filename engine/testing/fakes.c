/* fakes.c: `--real` beyond the answers of the test: a request without one goes to the
 * simulated provider of its connector, as over HTTP; what PostgreSQL said is held against
 * what the test says it would.
 */
#include "testing/testing_private.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/arena.h"

#define PAIRS_MAX 64

/* ---- simulated providers ---- */

static struct hp_fake *fake_of(struct tester *t, const char *connector, struct hp_error *err)
{
	struct test_fake *f;

	for (int i = 0; i < t->n_fakes; i++)
		if (strcmp(t->fakes[i].name, connector) == 0)
			return t->fakes[i].fake;
	if (t->n_fakes == TEST_FAKES_MAX) {
		hp_fail(err, HP_E_LIMIT, "more than %d simulated providers in one test", TEST_FAKES_MAX);
		return NULL;
	}
	f = &t->fakes[t->n_fakes];
	(void)snprintf(f->name, sizeof f->name, "%s", connector);
	f->fake = hp_fake_load(connector, t->o->plugins, (struct hp_bytes){NULL, 0}, err);
	t->n_fakes += f->fake != NULL;
	return f->fake;
}

void hp_t_drop_fakes(struct tester *t)
{
	for (int i = 0; i < t->n_fakes; i++)
		hp_fake_free(t->fakes[i].fake);
	t->n_fakes = 0;
}

/* Every secret is there: RESEND_API_KEY is "re_resend_api_key". */
static const char *secret(void *arg, const char *name, const char *version)
{
	struct tester *t = arg;
	char value[2 * HP_SECRET_NAME_MAX];
	json_t *kept;

	(void)version;
	(void)snprintf(value, sizeof value, "%s%s", hp_fake_secret_prefix(name), name);
	for (char *p = value; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	kept = json_string(value);
	return json_array_append_new(t->kept, kept) == 0 ? json_string_value(kept) : NULL;
}

static const char *no_base_url(void *arg, const char *connector)
{
	(void)arg;
	(void)connector;
	return NULL;
}

/* https://host/path?query → what an HTTP server would hand on. parts keeps the texts. */
static void split(const char *url, struct hp_fake_request *rq, const char *pairs[PAIRS_MAX][2], json_t *parts)
{
	const char *scheme = strstr(url, "://"), *path = strchr(scheme ? scheme + 3 : url, '/'), *mark, *name;
	json_t *form, *text, *v;

	path = path ? path : "/";
	mark = strchr(path, '?');
	text = hp_drive_unescaped(path, mark ? (size_t)(mark - path) : strlen(path));
	json_array_append_new(parts, text);
	rq->path = json_string_value(text);
	rq->query = pairs;
	form = mark ? hp_drive_form(mark + 1, strlen(mark + 1)) : json_object();
	json_array_append_new(parts, form);
	json_object_foreach(form, name, v)
		if (rq->n_query < PAIRS_MAX) {
			pairs[rq->n_query][0] = name;
			pairs[rq->n_query++][1] = json_string_value(v);
		}
}

/* Header names as a server gives them. */
static void lower(const struct hp_outgoing *o, struct hp_fake_request *rq, const char *pairs[PAIRS_MAX][2],
		  struct hp_arena *a)
{
	rq->headers = pairs;
	for (int i = 0; i < o->n_headers && i < PAIRS_MAX; i++) {
		char *name = hp_arena_strdup(a, o->headers[i][0]);

		for (char *p = name; p && *p; p++)
			*p = (char)tolower((unsigned char)*p);
		pairs[i][0] = name ? name : "";
		pairs[i][1] = o->headers[i][1];
		rq->n_headers++;
	}
}

static int post(struct tester *t, struct hp_fake *fake, const struct hp_outgoing *o, const struct hp_drive_send *s,
		struct hp_arena *a, struct hp_buf *out, struct hp_event *ev, struct hp_error *err)
{
	const char *headers[PAIRS_MAX][2], *query[PAIRS_MAX][2], *back[PAIRS_MAX][2];
	struct hp_fake_request rq = {.method = o->method, .body = o->body, .now = s->now};
	struct hp_incoming in = {.op = o->op, .sent = true, .headers = back, .failure = "connection_lost"};
	struct hp_fake_response rs = {0};
	json_t *parts = json_array();
	int rc;

	split(o->url, &rq, query, parts);
	lower(o, &rq, headers, a);
	rc = hp_fake_handle(fake, &rq, &rs, err);
	if (rc == 0 && !rs.reset) {
		in.answered = true;
		in.status = rs.status;
		in.body = rs.body;
		if (rs.content_type) {
			back[in.n_headers][0] = "content-type";
			back[in.n_headers++][1] = rs.content_type;
		}
		for (int i = 0; i < rs.n_headers && in.n_headers < PAIRS_MAX; i++) {
			back[in.n_headers][0] = rs.headers[i][0];
			back[in.n_headers++][1] = rs.headers[i][1];
		}
	}
	if (rc == 0)
		hp_workflow_reply(t->w, s->request, &in, s->now, out, ev);
	json_decref(parts);
	return rc;
}

int hp_t_ask_fake(struct tester *t, const struct hp_drive_send *s, struct hp_buf *out, struct hp_event *ev,
		  struct hp_error *err)
{
	const struct hp_environment env = {secret, no_base_url, t};
	char connector[HP_NAME_MAX + 1];
	struct hp_outgoing o;
	struct hp_arena *a = hp_arena_new(2 * HP_HTTP_REQUEST_BODY_MAX);
	struct hp_fake *fake = NULL;
	int rc = -1;

	(void)snprintf(connector, sizeof connector, "%.*s", (int)strcspn(s->operation, "."), s->operation);
	if (!a)
		hp_fail(err, HP_E_NOMEM, "no memory for a request");
	else if (hp_workflow_outgoing(t->w, s->request, &env, a, &o, err) == 0 && !o.native)
		fake = fake_of(t, connector, err);
	else if (err->code == HP_OK)
		hp_fail(err, HP_E_NOT_FOUND, "it is a native plugin");
	if (fake)
		rc = post(t, fake, &o, s, a, out, ev, err);
	else
		hp_error_prefix(err, "state \"%s\" calls %s, the test has no answer left for it, and no simulated provider "
				"can answer", s->state, s->operation);
	hp_arena_free(a);
	return rc;
}

/* ---- statements that were run ---- */

/* As a test would have written the answer. Owner: caller. */
static json_t *rows_as_answer(const struct hp_state *st, const struct hp_event *is)
{
	json_t *v, *n;

	if (is->outcome != HP_CLASS_OK)
		return json_pack("{s:{s:s}}", "$sql_error", "code", is->code);
	if (is->none)
		return json_pack("{s:b}", "$none", 1);
	v = hp_json_parse(is->value.p, is->value.n, "rows", NULL);
	if (st->sql.mode != HP_SQL_EXEC)
		return v;
	n = json_incref(json_object_get(v, "rows"));
	json_decref(v);
	return n;
}

static void in_words(const json_t *answer, char out[TEST_TEXT_MAX])
{
	const json_t *e = json_object_get(answer, "$sql_error");

	if (e)
		(void)snprintf(out, TEST_TEXT_MAX, "%s", hp_json_str(e, "code"));
	else if (json_object_get(answer, "$none"))
		(void)snprintf(out, TEST_TEXT_MAX, "none");
	else
		hp_t_text(answer, out);
}

/* An error counts by its code; an empty table may be a list without rows. */
static bool agrees(struct tester *t, const json_t *says, const json_t *is)
{
	const json_t *code = json_object_get(json_object_get(says, "$sql_error"), "code");
	struct mismatch m;

	if (code)
		return json_equal(code, json_object_get(json_object_get(is, "$sql_error"), "code"));
	if (json_object_get(is, "$sql_error") || json_object_get(says, "$none") || json_object_get(is, "$none"))
		return json_equal(says, is);
	if (json_is_array(is) && json_is_object(says) && json_object_size(says) == 0)
		says = t->empty;
	return hp_t_match(says, is, "rows", &m);
}

int hp_t_on_ran(void *arg, const struct hp_state *st, const json_t *args, const struct hp_event *is,
		struct hp_error *err)
{
	struct tester *t = arg;
	char expected[TEST_TEXT_MAX], actual[TEST_TEXT_MAX];
	const json_t *says = NULL;
	json_t *got;
	int rc = 0;

	if (is->outcome == HP_RETRYABLE) /* it passes by itself */
		return 0;
	/* what a sweep reads and does is one transaction, of which no single answer tells */
	if (st->sql.mode != HP_SQL_SWEEP && hp_t_next_answer(t, st->name, true, args, &says, err) < 0)
		return -1;
	got = rows_as_answer(st, is);
	in_words(got, actual);
	if (is->outcome != HP_CLASS_OK && (!says || !agrees(t, says, got))) {
		rc = hp_fail(err, HP_E_INVALID, "sql state \"%s\" (%s:%d): PostgreSQL says %s: %s", st->name, t->workflow,
			     st->line, is->code, is->message ? is->message : "");
	} else if (says && !agrees(t, says, got)) {
		in_words(says, expected);
		rc = hp_fail(err, HP_E_INVALID, "sql state \"%s\" (%s:%d): the test says that it answers %s, PostgreSQL answers %s",
			     st->name, t->workflow, st->line, expected, actual);
	}
	json_decref(got);
	return rc;
}
