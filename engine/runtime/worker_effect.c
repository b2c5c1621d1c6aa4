/* worker_effect.c: requests and statements out, replies in.
 *
 * An admitted request passes three gates in this order, and the last look at
 * each is taken in the same breath as the sending:
 *   host   at most HP_HTTP_PER_HOST_MAX in flight, others wait (HP_HAND_QUEUE)
 *   lease  inside HP_LEASE_SEND_PERCENT of it, else HP_HAND_LEASE; the same without a
 *          descriptor: that is our fault, and must cost neither attempts nor a breaker
 *   send   secrets and base URL are resolved now, and forgotten with the turn
 */
#include "runtime/worker_private.h"

#include <string.h>
#include "base/alloc.h"

static const char echo_scheme[] = "echo:";

/* ---- replies ---- */

void hp_w_deliver(struct hp_owned *r, struct hp_event *ev)
{
	if (ev->type == HP_EV_REPLY)
		HP_CRASH_POINT(EFFECT_REPLIED);
	ev->now = hp_worker_now(r->w);
	hp_w_drive(r, ev);
}

/* It was answered and we cannot hold the answer: the outcome is unknown to the run, and
 * asking again under the same key is the way to it. */
static void out_of_memory(struct hp_event *ev)
{
	*ev = (struct hp_event){.type = HP_EV_REPLY,
				.sent_at = ev->sent_at,
				.outcome = HP_AMBIGUOUS,
				.code = "out_of_memory",
				.message = "the reply does not fit the run's memory",
				.retry_after_us = -1};
}

static void reply(struct hp_owned *r, struct hp_event *ev)
{
	ev->type = HP_EV_REPLY;
	if (hp_w_keep(r, ev) != 0)
		out_of_memory(ev);
	hp_w_deliver(r, ev);
}

static const char *connector_of(const struct hp_owned *r)
{
	return r->act.op->connector ? r->act.op->connector : "none";
}

static void count_reply(struct hp_owned *r, const struct hp_event *ev)
{
	struct hp_counters *c = r->w->o.counters;
	const char *name = connector_of(r);

	++*hp_counterf(c, "holdpoint_requests_total{connector=\"%s\",class=\"%s\"}", name,
		       hp_class_name(ev->outcome));
	*hp_counterf(c, "holdpoint_request_microseconds_total{connector=\"%s\"}", name) +=
		(uint64_t)(hp_w_boot(r->w) - r->effect_at);
	if (r->act.arm)
		++*hp_counterf(c, "holdpoint_checks_total{connector=\"%s\",class=\"%s\"}", name,
			       hp_class_name(ev->outcome));
}

/* Classified by the connector; the event's values live in w->scratch until kept. */
void hp_w_incoming(struct hp_owned *r, struct hp_incoming *in)
{
	struct hp_worker *w = r->w;
	struct hp_scrubber sent;
	struct hp_buf body;
	struct hp_event ev;
	bool clean;

	in->op = r->op;
	memset(&ev, 0, sizeof ev);
	ev.retry_after_us = -1;
	hp_buf_clear(&w->scratch);
	hp_buf_init(&body, 2 * (HP_HTTP_RESPONSE_BODY_MAX + HP_VALUE_MAX));
	clean = hp_scrubber_init(&sent, r->used, r->n_used) == 0 && (in->headers || in->n_headers == 0) &&
		hp_w_scrub(r, &sent, in, &body) == 0;
	if (clean)
		hp_workflow_reply(hp_loaded_workflow(r->loaded), r->act.value, in, hp_worker_now(w), &w->scratch, &ev);
	if (clean && r->n_used > 0 && in->body.n && memchr(in->body.p, '\\', in->body.n))
		clean = hp_w_scrub_event(r, &sent, &ev) == 0; /* what was escaped in JSON is a plain text now */
	if (!clean)
		out_of_memory(&ev);
	/* it may have waited for its place long after it was admitted */
	ev.sent_at = hp_worker_now(w) - (hp_w_boot(w) - r->effect_at);
	hp_scrubber_free(&sent);
	hp_buf_wipe(&body);
	count_reply(r, &ev);
	hp_w_breaker_note(r, &ev, in->answered ? in->status : 0);
	if (ev.outcome != HP_CLASS_OK || r->act.probe || !hp_w_seals(r, r->act.state, &ev))
		reply(r, &ev);
}

/* The request could not even be built: nothing has left. */
void hp_w_unsendable(struct hp_owned *r, enum hp_class outcome, const char *code,
		       const struct hp_error *err)
{
	struct hp_event ev;

	memset(&ev, 0, sizeof ev);
	ev.outcome = outcome;
	ev.code = code;
	ev.message = err->message;
	ev.retry_after_us = -1;
	hp_w_log(HP_WARN, r, "a request cannot be sent", code, err->message);
	r->effect_at = hp_w_boot(r->w);
	count_reply(r, &ev);
	reply(r, &ev);
}

/* ---- hosts ---- */

static void authority_of(const char *url, char *out, size_t n)
{
	const char *p = strstr(url, "://");
	size_t len;

	p = p ? p + 3 : url;
	len = strcspn(p, "/?#");
	if (len >= n)
		len = n - 1; /* two hosts that differ later than that share a queue */
	memcpy(out, p, len);
	out[len] = 0;
}

/* NULL: HP_HOSTS_MAX other hosts are busy. */
static struct hp_host *host_find(struct hp_worker *w, const char *authority)
{
	struct hp_host *spare = NULL;

	for (int i = 0; i < HP_HOSTS_MAX; i++) {
		struct hp_host *h = &w->hosts[i];

		if (strcmp(h->authority, authority) == 0)
			return h;
		if (!spare && h->in_flight == 0 && hp_list_empty(&h->waiting))
			spare = h;
	}
	if (spare)
		memcpy(spare->authority, authority, strlen(authority) + 1);
	return spare;
}

/* A place has become free: the longest waiting goes through the gates again. One
 * that cannot be sent leaves the place to the next. */
void hp_w_host_release(struct hp_host *h)
{
	HP_ASSERT(h->in_flight > 0);
	h->in_flight--;
	while (h->in_flight < HP_HTTP_PER_HOST_MAX && !hp_list_empty(&h->waiting)) {
		struct hp_owned *r = hp_list_entry(h->waiting.next, struct hp_owned, host_node);

		hp_list_del(&r->host_node);
		hp_w_send(r);
	}
}

/* ---- requests ---- */

static const char no_memory[] = "no memory for a request: requests wait";

/* Our own lack is no attempt, and no fault of the provider's: it waits for the next heartbeat. */
static void held_back(struct hp_owned *r, const char *lack)
{
	struct hp_worker *w = r->w;
	int64_t times;

	if (hp_log_due(&w->held_back, hp_w_boot(w), HP_W_TELL_EVERY, &times))
		hp_log(HP_ERROR, lack, "engine", HP_I64(w->engine), "times", HP_I64(times), NULL);
	hp_w_hand(r, HP_HAND_LEASE);
}

static void on_response(void *arg, const struct hp_http_response *rs)
{
	struct hp_owned *r = arg;
	struct hp_host *h = r->host;
	const char *(*headers)[2] = NULL;
	struct hp_incoming in = {.answered = rs->progress == HP_HTTP_ANSWERED,
				 .sent = rs->progress != HP_HTTP_NOT_SENT,
				 .status = rs->status,
				 .body = rs->body};

	r->http_token = 0;
	r->host = NULL;
	if (!in.sent && rs->error.code == HP_E_NOMEM) {
		held_back(r, no_memory);
		hp_w_host_release(h);
		return;
	}
	if (!in.answered) {
		in.failure = rs->error.code == HP_E_TIMEOUT     ? "timeout"
			     : rs->error.code == HP_E_TOO_LARGE ? "response_too_large"
			     : rs->error.code == HP_E_FORBIDDEN ? "address_refused"
			     : in.sent                          ? "connection_lost"
								: "unreachable";
		hp_w_log(HP_WARN, r, "a request was not answered", in.failure, rs->error.message);
	}
	headers = hp_arena_alloc(r->step[r->turn], (size_t)rs->n_headers * sizeof *headers);
	for (int i = 0; headers && i < rs->n_headers; i++) {
		headers[i][0] = rs->headers[i].name;
		headers[i][1] = rs->headers[i].value;
	}
	in.headers = headers; /* NULL: no memory; an answer is not judged by a part of it */
	in.n_headers = rs->n_headers;
	hp_w_incoming(r, &in);
	hp_w_host_release(h);
}

static struct hp_header *headers_of(struct hp_owned *r, const struct hp_outgoing *out)
{
	struct hp_header *h = hp_arena_alloc(r->step[r->turn], (size_t)out->n_headers * sizeof *h);

	for (int i = 0; h && i < out->n_headers; i++)
		h[i] = (struct hp_header){out->headers[i][0], out->headers[i][1]};
	return h;
}

static void transmit(struct hp_owned *r, struct hp_host *h, const struct hp_outgoing *out)
{
	struct hp_worker *w = r->w;
	struct hp_error err;
	struct hp_http_request rq = {.method = out->method,
				     .url = out->url,
				     .headers = headers_of(r, out),
				     .n_headers = out->n_headers,
				     .body = out->body,
				     .allow_hosts = out->allow_hosts,
				     .n_allow_hosts = out->n_allow_hosts,
				     .timeout_us = r->act.timeout_us};

	r->effect_at = hp_w_boot(w);
	if (!rq.headers)
		hp_fail(&err, HP_E_NOMEM, "no memory for a request's headers");
	r->http_token = rq.headers ? hp_http_send(w->o.http, &rq, on_response, r, &err) : -1;
	if (r->http_token < 0) {
		r->http_token = 0;
		if (rq.headers && err.code == HP_E_NOMEM)
			held_back(r, no_memory);
		else
			hp_w_unsendable(r, err.code == HP_E_NOMEM ? HP_RETRYABLE : HP_NEEDS_PERSON, "request_refused", &err);
		return;
	}
	r->host = h;
	h->in_flight++;
	hp_w_hand(r, HP_HAND_EFFECT);
	HP_CRASH_POINT(EFFECT_SENT);
}

/* Answered by ourselves in the next turn, with the request's body. */
static void echo_later(struct hp_owned *r)
{
	r->effect_at = hp_w_boot(r->w);
	hp_w_hand(r, HP_HAND_EFFECT);
	hp_list_add_tail(&r->w->echoes, &r->host_node);
	hp_w_again(r->w);
	HP_CRASH_POINT(EFFECT_SENT);
}

void hp_w_echo(struct hp_worker *w)
{
	struct hp_list due;

	/* Those that come up while we answer belong to the next turn. */
	if (hp_list_empty(&w->echoes))
		return;
	due = w->echoes;
	due.next->prev = due.prev->next = &due;
	hp_list_init(&w->echoes);
	while (!hp_list_empty(&due)) {
		struct hp_owned *r = hp_list_entry(due.next, struct hp_owned, host_node);
		struct hp_incoming in = {.answered = true, .sent = true, .status = 200, .body = r->echo};

		hp_list_del(&r->host_node);
		hp_w_incoming(r, &in);
	}
}

static bool is_late(const struct hp_owned *r)
{
	return r->late > 0 && r->late == r->m.run.visit;
}

/* One whose admission grew too old while it waited is before all that came later. */
static void wait_for_place(struct hp_host *h, struct hp_owned *r)
{
	struct hp_list *before = h->waiting.next;

	while (is_late(r) && before != &h->waiting && is_late(hp_list_entry(before, struct hp_owned, host_node)))
		before = before->next;
	hp_list_add_tail(is_late(r) ? before : &h->waiting, &r->host_node);
}

void hp_w_send(struct hp_owned *r)
{
	struct hp_worker *w = r->w;
	struct hp_outgoing out;
	struct hp_error err;
	struct hp_host *h;
	char authority[sizeof h->authority];

	if (!w->o.secrets && !r->act.probe &&
	    hp_workflow_secrets(hp_loaded_workflow(r->loaded), r->act.state) > 0) {
		hp_fail(&err, HP_E_UNAVAILABLE, "the reply will bring a secret, and this engine has no key for secrets");
		hp_w_unsendable(r, HP_NEEDS_PERSON, "no_secrets_key", &err);
		return;
	}
	if (hp_workflow_outgoing(hp_loaded_workflow(r->loaded), r->act.value, &w->o.env,
				 r->step[r->turn], &out, &err) != 0) {
		if (err.code == HP_E_NOT_FOUND && hp_w_looks_before_send(r))
			return;
		hp_w_unsendable(r, err.code == HP_E_NOMEM ? HP_RETRYABLE : HP_NEEDS_PERSON,
			   err.code == HP_E_NOT_FOUND ? "secret_missing" : "request_refused", &err);
		return;
	}
	r->op = out.op;
	r->used = out.used;
	r->n_used = out.n_used;
	r->echo = out.body;
	authority_of(out.url, authority, sizeof authority);
	h = host_find(w, authority);
	if (!h || h->in_flight >= HP_HTTP_PER_HOST_MAX) {
		hp_w_hand(r, HP_HAND_QUEUE);
		if (h)
			wait_for_place(h, r);
		return;
	}
	if (!HP_GUARD(too_late, r->act.leave_by == 0 || hp_worker_now(w) < r->act.leave_by)) {
		const struct hp_event ev = {.type = HP_EV_REPLY, .now = hp_worker_now(w), .unsent = true};

		r->late = r->m.run.visit;
		hp_w_drive(r, &ev);
		return;
	}
	if (HP_GUARD(send_lease, hp_worker_lease_good(w)) == 0) {
		hp_w_hand(r, HP_HAND_LEASE);
		return;
	}
	r->late = 0;
	if (w->o.echo && strncmp(out.url, echo_scheme, sizeof echo_scheme - 1) == 0)
		echo_later(r);
	else if (out.native)
		hp_w_native(r, h, &out);
	else if (HP_GUARD(send_socket, hp_http_can_connect()) == 0)
		held_back(r, "no file descriptor is free: requests wait");
	else
		transmit(r, h, &out);
}

/* A heartbeat was acknowledged, or hosts may have become free. */
void hp_w_send_held_back(struct hp_worker *w)
{
	struct hp_list *it, *tmp;
	int n = w->counts[HP_HAND_LEASE];

	while (n-- > 0 && hp_worker_lease_good(w))
		hp_w_send(hp_list_entry(w->hands[HP_HAND_LEASE].next, struct hp_owned, node));
	hp_list_each(it, tmp, &w->hands[HP_HAND_QUEUE]) {
		struct hp_owned *r = hp_list_entry(it, struct hp_owned, node);

		/* No table entry was free for its host: no list but this one has it. */
		if (hp_list_empty(&r->host_node)) {
			hp_w_send(r);
			return; /* one a beat; hp_w_send() may move others */
		}
	}
}

/* The worker ends: what is in flight may still arrive, but nobody waits for it. */
void hp_w_effect_abandon(struct hp_owned *r)
{
	if (r->http_token != 0)
		hp_http_abort(r->w->o.http, r->http_token);
	if (r->plugin_token != 0)
		hp_plugins_abort(r->w->o.plugins, r->plugin_token);
	r->http_token = r->plugin_token = 0;
	if (r->host)
		r->host->in_flight--;
	r->host = NULL;
}

/* ---- statements ---- */

static void on_rows(void *arg, int64_t now, const struct hp_sql_rows *rows)
{
	struct hp_owned *r = arg;
	struct hp_event ev;

	if (hp_w_closed(r->w)) {
		if (rows->tx)
			r->w->o.store->ops->sql_abort(r->w->o.store, rows->tx);
		return;
	}
	hp_w_clock(r->w, now);
	memset(&ev, 0, sizeof ev);
	ev.retry_after_us = -1;
	ev.outcome = rows->outcome;
	ev.code = rows->outcome == HP_CLASS_OK ? NULL : rows->code;
	ev.message = rows->message;
	ev.none = rows->none;
	ev.value = rows->rows;
	ev.swept = rows->swept;
	r->tx = rows->tx;
	if (r->tx)
		HP_CRASH_POINT(SQL_RAN);
	++*hp_counterf(r->w->o.counters, "holdpoint_statements_total{class=\"%s\"}",
		       hp_class_name(rows->outcome));
	reply(r, &ev);
}

void hp_w_sql(struct hp_owned *r)
{
	struct hp_store *s = r->w->o.store;
	struct hp_sql_page page;
	struct hp_sql_state q = hp_sql_state_of(&r->m, &r->act, r->token, &page);

	hp_w_hand(r, HP_HAND_SQL);
	HP_CRASH_POINT(SQL_BEFORE);
	s->ops->sql_run(s, &q, on_rows, r);
}

void hp_w_sql_commit(struct hp_owned *r, const struct hp_transition *t)
{
	struct hp_store *s = r->w->o.store;
	struct hp_sql_tx *tx = r->tx;

	r->tx = NULL;
	hp_w_hand(r, HP_HAND_COMMIT);
	s->ops->sql_commit(s, tx, r->token, t, hp_w_one_committed, r);
}
