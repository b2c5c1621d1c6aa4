/* provider.c: a simulated provider as a process. */
#include "runtime/provider.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/process.h"
#include "core/signature.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "runtime/files.h"
#include "runtime/secrets.h"
#include "script/script.h"

#define STATE_MAX ((size_t)64 * 1024 * 1024)
#define PAIRS_MAX 64
#define WEBHOOK_TIMEOUT (15 * HP_SECOND)
#define WEBHOOK_HEADERS_MAX 8
#define OUTBOX_EVERY (60 * HP_SECOND) /* at the latest */

struct hp_provider {
	struct hp_provider_options o;
	struct hp_fake *fake;
	struct hp_http_server *server;
	struct hp_http_client *http;
	struct hp_secrets *secrets;
	struct ev_timer outbox;
	struct hp_buf saved;     /* what is on disk */
	struct hp_list delayed;  /* answers that leave later */
	struct hp_list posts;    /* webhooks in flight */
};

struct delayed {
	struct hp_list node;
	struct hp_provider *p;
	struct hp_http_call *call;
	struct hp_arena *arena;
	struct hp_fake_response rs; /* in arena */
	struct ev_timer timer;
};

struct post {
	struct hp_list node;
	struct hp_provider *p;
	int64_t token;
	char id[128];
};

/* ---- state ---- */

static int save(struct hp_provider *p, struct hp_error *err)
{
	struct hp_buf now;
	int rc = -1;

	hp_buf_init(&now, STATE_MAX);
	if (hp_fake_state(p->fake, &now, err) != 0 || hp_buf_check(&now, "the provider's state", err) != 0)
		goto out;
	if (now.n == p->saved.n && (now.n == 0 || memcmp(now.p, p->saved.p, now.n) == 0)) {
		rc = 0;
		goto out;
	}
	if (p->o.state && hp_file_replace(p->o.state, hp_buf_bytes(&now), 0600, err) != 0)
		goto out;
	hp_buf_free(&p->saved);
	p->saved = now;
	return 0;
out:
	hp_buf_free(&now);
	return rc;
}

static int load(struct hp_provider *p, struct hp_error *err)
{
	struct hp_buf text;

	hp_buf_init(&text, STATE_MAX);
	if (p->o.state && hp_file_exists(p->o.state) &&
	    hp_file_read(AT_FDCWD, p->o.state, &text, NULL, err) != 0) {
		hp_buf_free(&text);
		return -1;
	}
	p->fake = hp_fake_load(p->o.name, p->o.plugins_dir, hp_buf_bytes(&text), err);
	hp_buf_free(&text);
	return p->fake ? 0 : -1;
}

/* ---- webhooks ---- */

static void outbox_in(struct hp_provider *p, int64_t us)
{
	if (us > OUTBOX_EVERY)
		us = OUTBOX_EVERY;
	ev_timer_stop(p->o.loop, &p->outbox);
	ev_timer_set(&p->outbox, us > 0 ? (double)us / 1e6 : 0., 0.);
	ev_timer_start(p->o.loop, &p->outbox);
}

static void delivered(struct hp_provider *p, const char *id, int status)
{
	struct hp_error err;

	if (hp_fake_delivered(p->fake, id, status, hp_now_us(), &err) != 0 || save(p, &err) != 0)
		hp_log_error(HP_ERROR, "a delivery could not be noted", &err);
	outbox_in(p, 0);
}

static void on_posted(void *arg, const struct hp_http_response *rs)
{
	struct post *x = arg;
	int status = rs->progress == HP_HTTP_ANSWERED ? rs->status : 0;

	hp_log(HP_INFO, "webhook delivered", "event", HP_STR(x->id), "status", HP_I64(status), NULL);
	hp_list_del(&x->node);
	delivered(x->p, x->id, status);
	hp_free(x);
}

struct webhook {
	const char *id, *source, *body;
	struct hp_header headers[WEBHOOK_HEADERS_MAX];
	int n;
	char stamp[24];
	struct hp_buf signature;
};

static void add_header(struct webhook *h, const char *name, const char *value)
{
	if (h->n < WEBHOOK_HEADERS_MAX)
		h->headers[h->n++] = (struct hp_header){name, value};
}

/* Svix names of the Standard Webhooks headers, when the entry asks for them. */
static int sign(struct hp_provider *p, const json_t *entry, struct webhook *h, struct hp_error *err)
{
	const char *scheme = hp_json_str(entry, "scheme"), *secret_name = hp_json_str(entry, "secret");
	const char *secret = secret_name ? hp_secrets_get(p->secrets, secret_name) : NULL;
	enum hp_scheme s = scheme ? hp_scheme_find(scheme) : 0;
	int64_t now = hp_now_us();
	const char *name;

	if (!s || !secret)
		return hp_fail(err, HP_E_NOT_FOUND, "webhook %s: the scheme \"%s\" or the secret %s is not known", h->id,
			       scheme ? scheme : "", secret_name ? secret_name : "(none)");
	if (hp_signature_sign(s, secret, h->id, now, hp_bytes_of(h->body), &h->signature, &name, err) != 0)
		return -1;
	add_header(h, name, hp_buf_str(&h->signature));
	if (s == HP_SCHEME_STANDARD) {
		snprintf(h->stamp, sizeof h->stamp, "%lld", (long long)(now / HP_SECOND));
		add_header(h, "webhook-id", h->id);
		add_header(h, "webhook-timestamp", h->stamp);
	}
	return 0;
}

static int post(struct hp_provider *p, const json_t *entry, struct hp_error *err)
{
	struct webhook h = {.id = hp_json_str(entry, "id"),
			    .source = hp_json_str(entry, "source"),
			    .body = hp_json_str(entry, "body")};
	const char *allow[1];
	char url[512], host[256];
	struct hp_http_request rq = {.method = "POST", .url = url, .headers = h.headers,
				     .allow_hosts = allow, .n_allow_hosts = 1, .timeout_us = WEBHOOK_TIMEOUT};
	struct post *x = hp_calloc(1, sizeof *x);
	const char *key;
	json_t *value;
	int rc = -1;

	hp_buf_init(&h.signature, 4096);
	if (!x || !h.id || !h.source || !h.body) {
		hp_fail(err, HP_E_INTERNAL, "an entry of the outbox is not complete");
		goto out;
	}
	add_header(&h, "content-type", "application/json");
	if (sign(p, entry, &h, err) != 0)
		goto out;
	json_object_foreach(json_object_get(entry, "headers"), key, value)
		if (json_is_string(value))
			add_header(&h, key, json_string_value(value));
	snprintf(url, sizeof url, "%s/api/webhooks/%s", p->o.deliver, h.source);
	snprintf(host, sizeof host, "%.*s", (int)strcspn(p->o.deliver + 7, "/"), p->o.deliver + 7);
	allow[0] = host;
	rq.n_headers = h.n;
	rq.body = hp_bytes_of(h.body);
	snprintf(x->id, sizeof x->id, "%s", h.id);
	x->p = p;
	x->token = hp_http_send(p->http, &rq, on_posted, x, err);
	if (x->token < 0)
		goto out;
	hp_list_add_tail(&p->posts, &x->node);
	rc = 0;
out:
	hp_buf_free(&h.signature);
	if (rc != 0)
		hp_free(x);
	return rc;
}

static void post_all(struct hp_provider *p, json_t *due)
{
	struct hp_error err;
	json_t *entry;
	size_t i;

	json_array_foreach(due, i, entry) {
		if (post(p, entry, &err) == 0)
			continue;
		hp_log_error(HP_ERROR, "a webhook cannot be posted", &err);
		if (hp_json_str(entry, "id"))
			delivered(p, hp_json_str(entry, "id"), 0);
	}
}

static void on_outbox(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_provider *p = t->data;
	int64_t now = hp_now_us(), next = INT64_MAX;
	struct hp_error err;
	struct hp_buf text;
	json_t *due;

	(void)loop;
	(void)events;
	hp_buf_init(&text, STATE_MAX);
	if (hp_fake_outbox(p->fake, now, &text, &next, &err) != 0) {
		hp_log_error(HP_ERROR, "the outbox cannot be read", &err);
	} else {
		outbox_in(p, next - now);
		due = hp_json_parse(hp_buf_str(&text), text.n, "outbox", &err);
		post_all(p, due);
		json_decref(due);
	}
	hp_buf_free(&text);
}

/* ---- requests ---- */

struct pairs {
	const char *(*list)[2];
	int n;
	bool lower;
	struct hp_arena *a;
};

static void on_pair(void *arg, const char *name, const char *value)
{
	struct pairs *x = arg;
	char *copy;

	if (x->n == PAIRS_MAX)
		return;
	copy = hp_arena_strdup(x->a, name);
	if (!copy)
		return;
	for (char *c = copy; x->lower && *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	x->list[x->n][0] = copy;
	x->list[x->n++][1] = value ? value : "";
}

static bool collect(struct pairs *x, struct hp_arena *a, bool lower)
{
	*x = (struct pairs){.lower = lower, .a = a};
	x->list = hp_arena_alloc(a, PAIRS_MAX * sizeof *x->list);
	return x->list != NULL;
}

static void answer(struct hp_http_call *call, const struct hp_fake_response *rs)
{
	if (rs->reset) {
		hp_http_reset(call);
		return;
	}
	for (int i = 0; i < rs->n_headers; i++)
		hp_http_reply_header(call, rs->headers[i][0], rs->headers[i][1]);
	hp_http_reply(call, rs->status, rs->content_type ? rs->content_type : "application/json", rs->body);
}

static void delayed_free(struct delayed *d)
{
	ev_timer_stop(d->p->o.loop, &d->timer);
	hp_list_del(&d->node);
	hp_arena_free(d->arena);
	hp_free(d);
}

static void on_delay(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct delayed *d = t->data;

	(void)loop;
	(void)events;
	answer(d->call, &d->rs);
	delayed_free(d);
}

static bool copy_response(struct delayed *d, const struct hp_fake_response *rs)
{
	struct hp_arena *a = d->arena;

	d->rs = *rs;
	d->rs.content_type = hp_arena_strdup(a, rs->content_type);
	d->rs.body.p = rs->body.n ? hp_arena_strndup(a, rs->body.p, rs->body.n) : NULL;
	d->rs.headers = hp_arena_alloc(a, (size_t)rs->n_headers * sizeof *rs->headers);
	if ((rs->body.n && !d->rs.body.p) || !d->rs.headers)
		return false;
	for (int i = 0; i < rs->n_headers; i++) {
		d->rs.headers[i][0] = hp_arena_strdup(a, rs->headers[i][0]);
		d->rs.headers[i][1] = hp_arena_strdup(a, rs->headers[i][1]);
		if (!d->rs.headers[i][0] || !d->rs.headers[i][1])
			return false;
	}
	return true;
}

static void answer_later(struct hp_provider *p, struct hp_http_call *call, const struct hp_fake_response *rs)
{
	struct delayed *d = hp_calloc(1, sizeof *d);

	HP_ASSERT(d); /* a tool for tests: no memory ends it */
	d->p = p;
	d->call = call;
	d->arena = hp_arena_new(HP_HTTP_RESPONSE_BODY_MAX * 2);
	HP_ASSERT(d->arena && copy_response(d, rs));
	hp_list_add_tail(&p->delayed, &d->node);
	ev_timer_init(&d->timer, on_delay, (double)rs->delay_us / 1e6, 0.);
	d->timer.data = d;
	ev_timer_start(p->o.loop, &d->timer);
}

static void failed(struct hp_http_call *call, const struct hp_error *err)
{
	hp_log_error(HP_ERROR, "a request could not be handled", err);
	hp_http_reply(call, 500, "text/plain", hp_bytes_of("the simulated provider has failed; see its log\n"));
}

static void on_call(void *arg, struct hp_http_call *call)
{
	struct hp_provider *p = arg;
	struct hp_arena *a = hp_arena_new(HP_HTTP_REQUEST_BODY_MAX);
	struct pairs headers, query;
	struct hp_fake_request rq = {.method = hp_http_call_method(call),
				     .path = hp_http_call_path(call),
				     .body = hp_http_call_body(call),
				     .now = hp_now_us()};
	struct hp_fake_response rs;
	struct hp_error err;

	HP_ASSERT(a && collect(&headers, a, true) && collect(&query, a, false));
	hp_http_call_headers(call, on_pair, &headers);
	hp_http_call_queries(call, on_pair, &query);
	rq.headers = headers.list;
	rq.n_headers = headers.n;
	rq.query = query.list;
	rq.n_query = query.n;
	memset(&rs, 0, sizeof rs);
	if (hp_fake_handle(p->fake, &rq, &rs, &err) != 0 || save(p, &err) != 0)
		failed(call, &err);
	else if (rs.delay_us > 0)
		answer_later(p, call, &rs);
	else
		answer(call, &rs);
	hp_arena_free(a);
	if (p->o.deliver)
		outbox_in(p, 0);
}

/* ---- making ---- */

static int open_parts(struct hp_provider *p, struct hp_error *err)
{
	struct hp_http_server_options so = {.listen_fd = p->o.listen_fd, .handler = on_call, .arg = p};

	if (p->o.deliver && strncmp(p->o.deliver, "http://", 7) != 0)
		return hp_fail(err, HP_E_INVALID, "--deliver: \"%s\" does not begin with http://", p->o.deliver);
	p->secrets = hp_secrets_new(p->o.secrets_dir, p->o.secrets_env, err);
	if (!p->secrets || load(p, err) != 0)
		return -1;
	p->http = hp_http_client_new(p->o.loop, true, err);
	if (!p->http)
		return -1;
	p->server = hp_http_server_new(p->o.loop, &so, err);
	return p->server ? 0 : -1;
}

struct hp_provider *hp_provider_new(const struct hp_provider_options *o, struct hp_error *err)
{
	struct hp_provider *p = hp_calloc(1, sizeof *p);

	if (!p) {
		hp_fail(err, HP_E_NOMEM, "simulated provider: no memory");
		return NULL;
	}
	hp_process_close_memory(); /* secrets will be in it */
	p->o = *o;
	hp_list_init(&p->delayed);
	hp_list_init(&p->posts);
	hp_buf_init(&p->saved, STATE_MAX);
	ev_timer_init(&p->outbox, on_outbox, 0., 0.);
	p->outbox.data = p;
	if (open_parts(p, err) != 0) {
		hp_provider_free(p);
		return NULL;
	}
	if (p->o.deliver)
		outbox_in(p, 0); /* what an earlier process had not delivered */
	return p;
}

void hp_provider_free(struct hp_provider *p)
{
	if (!p)
		return;
	ev_timer_stop(p->o.loop, &p->outbox);
	while (!hp_list_empty(&p->delayed))
		delayed_free(hp_list_entry(p->delayed.next, struct delayed, node));
	hp_http_server_free(p->server);
	hp_http_client_free(p->http);
	while (!hp_list_empty(&p->posts)) {
		struct post *x = hp_list_entry(p->posts.next, struct post, node);

		hp_list_del(&x->node);
		hp_free(x);
	}
	hp_fake_free(p->fake);
	hp_secrets_free(p->secrets);
	hp_buf_free(&p->saved);
	hp_free(p);
}
