/* http_client.c: curl's multi interface driven by libev.
 *
 * One exchange is QUEUED (its host has HP_HTTP_PER_HOST_MAX under way), then
 * RUNNING (inside curl), then DONE (waits for its callback). Its own timer
 * covers all of that; curl's timeouts are not used.
 *
 * Order of things: curl is entered only from our socket and timer events and
 * from hp_http_send(); its callbacks only note things down. Finished transfers
 * are collected after curl has returned, and the owner's callbacks run last, so
 * they may send, abort, or free the client.
 *
 * How far did it come? The answer decides whether an effect may be repeated, so
 * it must never say NOT_SENT wrongly. curl calls PREREQFUNCTION once a
 * connection (TCP and TLS) stands, before the first byte of the request, and
 * counts in CURLINFO_REQUEST_SIZE what a write accepted. NOT_SENT is said only
 * if no write ever accepted a byte.
 *
 * No silent second sending: when a reused connection dies before a byte of the
 * response, curl sends the request again by itself, up to five times
 * (Curl_retry_request() in 7.88), for POST too, though the first may have been
 * processed. There is no option against it. But every sending passes through
 * PREREQFUNCTION, so the second one is stopped there (CURLE_ABORTED_BY_CALLBACK)
 * unless nothing was sent at the first. That holds for all methods: the engine
 * counts its attempts itself. CURLOPT_FRESH_CONNECT would cost a TLS handshake
 * per request instead. Connections idle for long are the ones that die, so they
 * are not reused past IDLE_MAX_S.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/list.h"
#include "net/http_client_private.h"

#define IDLE_MAX_S 30L
#define IDLE_CONNECTIONS_MAX 64L
#define OPEN_MAX 10000 /* requests open at once, queued ones included */

/* Connections to one scheme, host and port; lives while a request needs it. */
struct host {
	struct hp_list link;
	struct hp_list queue;
	int running;
	char *key; /* "https://api.stripe.com:443" */
};

enum exchange_state { X_QUEUED, X_RUNNING, X_DONE };

struct exchange {
	struct hp_list link; /* in the client's `all` */
	struct hp_list step; /* in host->queue or the client's `done` */
	struct hp_http_client *c;
	int64_t token, started_us;
	struct host *host;
	enum exchange_state state;
	hp_http_done done;
	void *arg;
	ev_timer deadline;

	/* the request: curl keeps pointers to all of it */
	CURL *easy;
	CURLU *url;
	struct curl_slist *list;
	char *method, *body;

	/* what curl's callbacks noted */
	bool announced;   /* PREREQFUNCTION was called */
	bool resend;      /* … and a second sending was stopped */
	bool forbidden;   /* an address was refused */
	bool too_large;
	bool final;         /* the status line seen last is no 1xx */
	bool head_complete; /* … and its blank line has come */
	char ip[INET6_ADDRSTRLEN]; /* the refused address */
	char curl_message[CURL_ERROR_SIZE];
	size_t header_bytes;
	struct hp_buf response;

	/* what the owner is told */
	enum hp_http_progress progress;
	int status;
	struct hp_buf header_text; /* name NUL value NUL … */
	struct hp_header *headers;
	int n_headers;
	struct hp_error error;
};

struct hp_http_client {
	struct ev_loop *loop;
	CURLM *multi;
	bool allow_private;
	ev_timer timer; /* curl's */
	ev_timer wake;  /* delivers what ended without curl's help */
	struct hp_list hosts, all, done;
	int64_t last_token;
	int n_open;
	bool delivering, closing;
};

struct sock {
	ev_io io;
	struct hp_http_client *c;
};

/* --- hosts -------------------------------------------------------------------- */

static struct host *host_get(struct hp_http_client *c, const char *key)
{
	struct hp_list *it, *tmp;
	hp_list_each(it, tmp, &c->hosts) {
		struct host *h = hp_list_entry(it, struct host, link);
		if (!strcmp(h->key, key))
			return h;
	}
	struct host *h = hp_calloc(1, sizeof *h);
	if (!h)
		return NULL;
	h->key = hp_strdup(key);
	if (!h->key) {
		hp_free(h);
		return NULL;
	}
	hp_list_init(&h->queue);
	hp_list_add_tail(&c->hosts, &h->link);
	return h;
}

static void host_put(struct host *h)
{
	if (!h || h->running > 0 || !hp_list_empty(&h->queue))
		return;
	hp_list_del(&h->link);
	hp_free(h->key);
	hp_free(h);
}

/* --- life of an exchange -------------------------------------------------------- */

static void wake(struct hp_http_client *c)
{
	if (ev_is_active(&c->wake))
		return;
	ev_timer_set(&c->wake, 0., 0.);
	ev_timer_start(c->loop, &c->wake);
}

/* Out of curl, out of the queue. Never inside one of curl's callbacks. */
static void exchange_detach(struct exchange *x)
{
	ev_timer_stop(x->c->loop, &x->deadline);
	hp_list_del(&x->step);
	if (x->state == X_RUNNING) {
		(void)curl_multi_remove_handle(x->c->multi, x->easy);
		x->host->running--;
	}
	x->state = X_DONE;
}

static void exchange_free(struct exchange *x)
{
	if (!x)
		return;
	hp_list_del(&x->link);
	hp_list_del(&x->step);
	curl_easy_cleanup(x->easy);
	curl_url_cleanup(x->url);
	curl_slist_free_all(x->list);
	hp_free(x->method);
	hp_free(x->body);
	hp_free(x->headers);
	hp_buf_free(&x->response);
	hp_buf_free(&x->header_text);
	hp_free(x);
}

static enum hp_http_progress exchange_progress(const struct exchange *x)
{
	long bytes = 0;
	if (x->announced && curl_easy_getinfo(x->easy, CURLINFO_REQUEST_SIZE, &bytes) != CURLE_OK)
		return HP_HTTP_SENT;
	return bytes > 0 ? HP_HTTP_SENT : HP_HTTP_NOT_SENT;
}

/* Ends it: `error` is set by the caller, `progress` as far as it came. */
static void exchange_end(struct exchange *x, enum hp_http_progress progress)
{
	x->progress = progress;
	exchange_detach(x);
	hp_list_add_tail(&x->c->done, &x->step);
}

static void host_pump(struct hp_http_client *c, struct host *h)
{
	while (h->running < HP_HTTP_PER_HOST_MAX && !hp_list_empty(&h->queue)) {
		struct exchange *x = hp_list_entry(h->queue.next, struct exchange, step);
		hp_list_del(&x->step);
		CURLMcode rc = curl_multi_add_handle(c->multi, x->easy);
		if (rc == CURLM_OK) {
			x->state = X_RUNNING;
			h->running++;
			continue;
		}
		(void)hp_fail(&x->error, HP_E_NOMEM, "%s %s: %s", x->method, h->key, curl_multi_strerror(rc));
		exchange_end(x, HP_HTTP_NOT_SENT);
		wake(c);
	}
	host_put(h);
}

static void client_destroy(struct hp_http_client *c);

static void deliver(struct hp_http_client *c)
{
	c->delivering = true;
	/* Only those here now: what a callback adds waits for the next turn. */
	struct hp_list *last = c->done.prev;
	bool more = !hp_list_empty(&c->done);
	while (more && !c->closing) {
		struct exchange *x = hp_list_entry(c->done.next, struct exchange, step);
		/* An abort of the last one by another's callback must not make this run on. */
		more = &x->step != last;
		hp_list_del(&x->step);
		hp_list_del(&x->link);
		c->n_open--;
		struct hp_http_response r = {
			.progress = x->progress,
			.status = x->progress == HP_HTTP_ANSWERED ? x->status : 0,
			.headers = x->headers,
			.n_headers = x->n_headers,
			.elapsed_us = hp_boottime_us() - x->started_us,
			.error = x->error,
		};
		if (x->progress == HP_HTTP_ANSWERED)
			r.body = hp_buf_bytes(&x->response);
		if (x->done)
			x->done(x->arg, &r);
		exchange_free(x);
		more = more && !hp_list_empty(&c->done);
	}
	c->delivering = false;
	if (c->closing)
		client_destroy(c);
	else if (!hp_list_empty(&c->done))
		wake(c);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	struct exchange *x = w->data;
	struct hp_http_client *c = x->c;
	struct host *h = x->host;
	enum hp_http_progress progress = x->state == X_RUNNING ? exchange_progress(x) : HP_HTTP_NOT_SENT;
	(void)hp_fail(&x->error, HP_E_TIMEOUT, "%s %s: no complete answer in time (%s)", x->method, h->key,
		      x->state == X_QUEUED	   ? "it was still queued for a connection"
		      : progress == HP_HTTP_SENT ? "the request was sent"
						 : "no connection was made");
	exchange_end(x, progress);
	host_pump(c, h);
	deliver(c);
}

/* --- results from curl ------------------------------------------------------------ */

/* Copies the final response's headers, names in lower case. */
static int exchange_headers(struct exchange *x)
{
	int n = 0;
	struct curl_header *h = NULL;
	hp_buf_init(&x->header_text, 2 * HP_HTTP_HEADERS_MAX);
	while ((h = curl_easy_nextheader(x->easy, CURLH_HEADER, -1, h))) {
		for (const char *p = h->name; *p; p++)
			(void)hp_buf_addc(&x->header_text, (char)tolower((unsigned char)*p));
		(void)hp_buf_addc(&x->header_text, '\0');
		/* of "X-Empty:" curl 7.88 leaves the line break as the value */
		(void)hp_buf_add(&x->header_text, h->value, strcspn(h->value, "\r\n"));
		(void)hp_buf_addc(&x->header_text, '\0');
		n++;
	}
	if (x->header_text.failed)
		return -1;
	x->headers = n ? hp_calloc((size_t)n, sizeof *x->headers) : NULL;
	if (n && !x->headers)
		return -1;
	const char *p = x->header_text.p;
	for (int i = 0; i < n; i++) {
		x->headers[i].name = p;
		p += strlen(p) + 1;
		x->headers[i].value = p;
		p += strlen(p) + 1;
	}
	x->n_headers = n;
	return 0;
}

static void exchange_error(struct exchange *x, CURLcode rc)
{
	const char *m = x->method, *key = x->host->key;
	const char *text = x->curl_message[0] ? x->curl_message : curl_easy_strerror(rc);
	if (x->too_large) {
		(void)hp_fail(&x->error, HP_E_TOO_LARGE, "%s %s: the answer is larger than %zu bytes", m, key,
			      x->response.max);
	} else if (x->resend) {
		(void)hp_fail(&x->error, HP_E_UNAVAILABLE,
			      "%s %s: the kept connection died after the request was sent on it", m, key);
	} else if (x->forbidden) {
		(void)hp_fail(&x->error, HP_E_FORBIDDEN, "%s %s: its address %s is private or reserved", m, key, x->ip);
		(void)hp_error_hint(&x->error, "Connectors may reach public addresses only.");
	} else {
		(void)hp_fail(&x->error, rc == CURLE_OUT_OF_MEMORY ? HP_E_NOMEM : HP_E_UNAVAILABLE, "%s %s: %s", m,
			      key, text);
	}
}

/* A final one; whatever else a peer says means that nobody knows what it did. */
static bool has_status(struct exchange *x)
{
	long status = 0;

	(void)curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	x->status = (int)status;
	return status >= 200 && status <= 999;
}

static void collect(struct hp_http_client *c)
{
	CURLMsg *msg;
	int left;
	while ((msg = curl_multi_info_read(c->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		CURLcode rc = msg->data.result; /* msg dies with the removal below */
		struct exchange *x = NULL;
		(void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&x);
		struct host *h = x->host;
		enum hp_http_progress progress = exchange_progress(x);
		if (rc == CURLE_OK && !x->head_complete) {
			(void)hp_fail(&x->error, HP_E_UNAVAILABLE, "%s %s: the answer was cut inside its head",
				      x->method, h->key);
		} else if (rc == CURLE_OK && !has_status(x)) { /* "HTTP/2 2?" passes curl as 2 */
			(void)hp_fail(&x->error, HP_E_UNAVAILABLE, "%s %s: the answer has no valid status", x->method,
				      h->key);
		} else if (rc == CURLE_OK) {
			progress = HP_HTTP_ANSWERED;
			if (exchange_headers(x) != 0) {
				progress = HP_HTTP_SENT;
				(void)hp_fail(&x->error, HP_E_NOMEM, "%s %s: no memory for the answer", x->method, h->key);
			}
		} else {
			exchange_error(x, rc);
		}
		exchange_end(x, progress);
		host_pump(c, h);
	}
	deliver(c);
}

static void act(struct hp_http_client *c, curl_socket_t fd, int what)
{
	int running;
	(void)curl_multi_socket_action(c->multi, fd, what, &running);
	collect(c);
}

static void on_socket(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop;
	struct sock *s = w->data;
	act(s->c, w->fd, (revents & EV_READ ? CURL_CSELECT_IN : 0) | (revents & EV_WRITE ? CURL_CSELECT_OUT : 0)); /* may free s */
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	act(w->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_wake(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	deliver(w->data);
}

/* --- curl's callbacks: note things down, nothing else ------------------------------- */

static int curl_socket_cb(CURL *easy, curl_socket_t fd, int what, void *arg, void *slot)
{
	(void)easy;
	struct hp_http_client *c = arg;
	struct sock *s = slot;
	if (what == CURL_POLL_REMOVE) {
		if (s)
			ev_io_stop(c->loop, &s->io);
		hp_free(s);
		return 0;
	}
	if (!s) {
		/* Not -1 without memory: libcurl 7.88 would end all transfers, and touch them again when
		 * the socket of one is heard of. It knows this socket, so it keeps what we assign. */
		s = hp_needed(1, sizeof *s);
		(void)curl_multi_assign(c->multi, fd, s);
		s->c = c;
		ev_init(&s->io, on_socket);
		s->io.data = s;
	}
	ev_io_stop(c->loop, &s->io);
	ev_io_set(&s->io, fd, (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
	ev_io_start(c->loop, &s->io);
	return 0;
}

static int curl_timer_cb(CURLM *multi, long ms, void *arg)
{
	(void)multi;
	struct hp_http_client *c = arg;
	ev_timer_stop(c->loop, &c->timer);
	if (ms < 0)
		return 0;
	/* Loop time may lag; a timer that fires before curl thinks it is due would
	 * not be set again by curl, and the transfer would stand still. */
	ev_now_update(c->loop);
	ev_timer_set(&c->timer, (double)ms / 1e3, 0.);
	ev_timer_start(c->loop, &c->timer);
	return 0;
}

static curl_socket_t curl_open_cb(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)purpose;
	struct exchange *x = arg;
	if (!x->c->allow_private && hp_http_address_is_private(&a->addr)) {
		x->forbidden = true;
		const void *ip = a->family == AF_INET ? (void *)&((struct sockaddr_in *)(void *)&a->addr)->sin_addr
						      : (void *)&((struct sockaddr_in6 *)(void *)&a->addr)->sin6_addr;
		if (!inet_ntop(a->family, ip, x->ip, sizeof x->ip))
			(void)snprintf(x->ip, sizeof x->ip, "(unknown)");
		return CURL_SOCKET_BAD;
	}
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int curl_prereq_cb(void *arg, char *peer_ip, char *local_ip, int peer_port, int local_port)
{
	(void)local_ip, (void)peer_port, (void)local_port;
	struct exchange *x = arg;
	/* The check at socket() is not made for a reused connection. All of a client's
	 * connections passed it, so this only guards against a mistake of ours. */
	if (!x->c->allow_private && hp_http_text_is_private(peer_ip)) {
		x->forbidden = true;
		(void)snprintf(x->ip, sizeof x->ip, "%s", peer_ip);
		return CURL_PREREQFUNC_ABORT;
	}
	if (x->announced && exchange_progress(x) == HP_HTTP_SENT) {
		x->resend = true; /* see the head of this file */
		return CURL_PREREQFUNC_ABORT;
	}
	x->announced = true;
	x->forbidden = false; /* another of the host's addresses was fine */
	return CURL_PREREQFUNC_OK;
}

/* Sees every header line, the status line and the blank one too. curl 7.88 reports
 * success when the peer closes inside the head, so its end is noted here. */
static size_t curl_header_cb(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	if (!x->head_complete && n > 9 && !strncmp(p, "HTTP/", 5))
		x->final = p[9] != '1';
	else if (n > 0 && (p[0] == '\r' || p[0] == '\n'))
		x->head_complete = x->head_complete || x->final;
	x->header_bytes += size * n;
	if (x->header_bytes > HP_HTTP_HEADERS_MAX) {
		x->too_large = true;
		return 0;
	}
	return size * n;
}

static size_t curl_write_cb(char *p, size_t size, size_t n, void *arg)
{
	struct exchange *x = arg;
	if (x->response.n + size * n > x->response.max) {
		x->too_large = true;
		return 0;
	}
	return hp_buf_add(&x->response, p, size * n) == 0 ? size * n : 0;
}

/* --- building a request --------------------------------------------------------------- */

static int list_add(struct exchange *x, const char *line, struct hp_error *err)
{
	struct curl_slist *more = curl_slist_append(x->list, line);
	if (!more)
		return hp_fail(err, HP_E_NOMEM, "out of memory for a request header");
	x->list = more;
	return 0;
}

static int build_headers(struct exchange *x, const struct hp_http_request *rq, struct hp_error *err)
{
	bool typed = false;
	struct hp_buf line;
	int rc = -1;
	hp_buf_init(&line, HP_HTTP_HEADERS_MAX);
	for (int i = 0; i < rq->n_headers; i++) {
		const struct hp_header *h = &rq->headers[i];
		typed = typed || !strcasecmp(h->name, "content-type");
		hp_buf_clear(&line);
		/* curl reads "Name:" as "leave it out" and "Name;" as "send it empty" */
		(void)(h->value[0] ? hp_buf_printf(&line, "%s: %s", h->name, h->value)
				   : hp_buf_printf(&line, "%s;", h->name));
		if (hp_buf_check(&line, "a request header", err) != 0 || list_add(x, hp_buf_str(&line), err) != 0)
			goto out;
	}
	/* No pause for "100 Continue", and no form type that nobody asked for. */
	if (list_add(x, "Expect:", err) != 0 || (!typed && list_add(x, "Content-Type:", err) != 0))
		goto out;
	rc = 0;
out:
	hp_buf_free(&line);
	return rc;
}

/* The first option that is not taken keeps those after it from being tried: curl copies
 * texts, and without memory for one of them a PUT would leave as a POST. */
#define SET(option, value) \
	do { \
		if (rc == CURLE_OK) \
			rc = curl_easy_setopt(x->easy, option, value); \
	} while (0)

static CURLcode set_method(struct exchange *x, size_t body_n)
{
	const char *m = x->method;
	CURLcode rc = CURLE_OK;
	if (!strcmp(m, "HEAD") && body_n == 0) {
		SET(CURLOPT_NOBODY, 1L);
		return rc;
	}
	if (body_n > 0 || !strcmp(m, "POST") || !strcmp(m, "PUT") || !strcmp(m, "PATCH")) {
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_n);
		SET(CURLOPT_POSTFIELDS, x->body);
	}
	SET(CURLOPT_CUSTOMREQUEST, m);
	return rc;
}

static int set_options(struct exchange *x, size_t body_n, struct hp_error *err)
{
	CURLcode rc = set_method(x, body_n);
	SET(CURLOPT_CURLU, x->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_OPENSOCKETFUNCTION, curl_open_cb);
	SET(CURLOPT_PREREQFUNCTION, curl_prereq_cb);
	SET(CURLOPT_OPENSOCKETDATA, x);
	SET(CURLOPT_PREREQDATA, x);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* an abort during name resolution would else join the resolver's thread */
	SET(CURLOPT_MAXAGE_CONN, IDLE_MAX_S);
	SET(CURLOPT_USERAGENT, "holdpoint/" HP_VERSION);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	SET(CURLOPT_HTTPHEADER, x->list);
	SET(CURLOPT_HEADERFUNCTION, curl_header_cb);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_WRITEFUNCTION, curl_write_cb);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_ERRORBUFFER, x->curl_message);
	SET(CURLOPT_PRIVATE, x);
	if (rc == CURLE_OK)
		return 0;
	return hp_fail(err, rc == CURLE_OUT_OF_MEMORY ? HP_E_NOMEM : HP_E_INTERNAL, "the request cannot be prepared: %s",
		       curl_easy_strerror(rc));
}

static struct exchange *exchange_new(struct hp_http_client *c, const struct hp_http_request *rq, struct hp_error *err)
{
	if (hp_http_request_check(rq, err) != 0)
		return NULL;
	struct exchange *x = hp_calloc(1, sizeof *x);
	if (!x)
		goto nomem;
	x->c = c;
	hp_list_init(&x->link);
	hp_list_init(&x->step);
	hp_buf_init(&x->response, rq->max_body ? rq->max_body : HP_HTTP_RESPONSE_BODY_MAX);
	hp_buf_init(&x->header_text, 2 * HP_HTTP_HEADERS_MAX);
	x->easy = curl_easy_init();
	x->method = hp_strdup(rq->method);
	x->body = hp_alloc(rq->body.n + 1); /* never NULL: curl would read from stdin */
	if (!x->easy || !x->method || !x->body)
		goto nomem;
	if (rq->body.n)
		memcpy(x->body, rq->body.p, rq->body.n);
	x->body[rq->body.n] = '\0';
	if (build_headers(x, rq, err) != 0) {
		exchange_free(x);
		return NULL;
	}
	return x;
nomem:
	exchange_free(x);
	(void)hp_fail(err, HP_E_NOMEM, "out of memory for a request");
	return NULL;
}

int64_t hp_http_send(struct hp_http_client *c, const struct hp_http_request *rq, hp_http_done done, void *arg,
		     struct hp_error *err)
{
	char key[320];
	bool allowed = false;
	if (c->closing || c->n_open >= OPEN_MAX)
		return hp_fail(err, HP_E_LIMIT, "%d HTTP requests are open", c->n_open);
	struct exchange *x = exchange_new(c, rq, err);
	if (!x)
		return -1;
	if (hp_http_url(rq, &x->url, &allowed, key, sizeof key, err) != 0 || set_options(x, rq->body.n, err) != 0) {
		exchange_free(x);
		return -1;
	}
	x->host = host_get(c, key);
	if (!x->host) {
		exchange_free(x);
		return hp_fail(err, HP_E_NOMEM, "out of memory for a request");
	}
	x->token = ++c->last_token;
	x->started_us = hp_boottime_us();
	x->done = done;
	x->arg = arg;
	hp_list_add_tail(&c->all, &x->link);
	c->n_open++;
	ev_timer_init(&x->deadline, on_deadline, (double)rq->timeout_us / 1e6, 0.);
	x->deadline.data = x;
	int64_t token = x->token;
	if (!allowed) {
		(void)hp_fail(&x->error, HP_E_FORBIDDEN, "%s %s: the host is not in the connector's list", x->method, key);
		(void)hp_error_hint(&x->error, "Name it there, with its port if that is not the default one.");
		exchange_end(x, HP_HTTP_NOT_SENT);
		host_put(x->host);
		wake(c);
		return token;
	}
	ev_now_update(c->loop); /* the loop's time may lag: a timeout must not be cut short */
	ev_timer_start(c->loop, &x->deadline);
	hp_list_add_tail(&x->host->queue, &x->step);
	host_pump(c, x->host);
	return token;
}

void hp_http_abort(struct hp_http_client *c, int64_t token)
{
	struct hp_list *it, *tmp;
	hp_list_each(it, tmp, &c->all) {
		struct exchange *x = hp_list_entry(it, struct exchange, link);
		if (x->token != token)
			continue;
		struct host *h = x->state == X_DONE ? NULL : x->host; /* DONE: its host may be gone */
		exchange_detach(x);
		exchange_free(x);
		c->n_open--;
		if (h)
			host_pump(c, h);
		return;
	}
}

int hp_http_in_flight(const struct hp_http_client *c)
{
	return c->n_open;
}

bool hp_http_can_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM);
}

const char *hp_http_header(const struct hp_http_response *r, const char *lower_name)
{
	for (int i = 0; i < r->n_headers; i++)
		if (!strcmp(r->headers[i].name, lower_name))
			return r->headers[i].value;
	return NULL;
}

/* --- the client -------------------------------------------------------------------------- */

struct hp_http_client *hp_http_client_new(struct ev_loop *loop, bool allow_private, struct hp_error *err)
{
	static bool curl_ready; /* once per process; workers are single-threaded here */
	if (!curl_ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		(void)hp_fail(err, HP_E_INTERNAL, "libcurl cannot be initialised");
		return NULL;
	}
	curl_ready = true;
	struct hp_http_client *c = hp_calloc(1, sizeof *c);
	if (c)
		c->multi = curl_multi_init();
	if (!c || !c->multi) {
		hp_free(c);
		(void)hp_fail(err, HP_E_NOMEM, "out of memory for the HTTP client");
		return NULL;
	}
	c->loop = loop;
	c->allow_private = allow_private;
	hp_list_init(&c->hosts);
	hp_list_init(&c->all);
	hp_list_init(&c->done);
	ev_init(&c->timer, on_timer);
	ev_init(&c->wake, on_wake);
	c->timer.data = c->wake.data = c;
	if (curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, curl_socket_cb) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, curl_timer_cb) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING) == CURLM_OK &&
	    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, IDLE_CONNECTIONS_MAX) == CURLM_OK)
		return c;
	(void)hp_fail(err, HP_E_INTERNAL, "libcurl does not take a setting of the HTTP client");
	hp_http_client_free(c);
	return NULL;
}

static void client_destroy(struct hp_http_client *c)
{
	struct hp_list *it, *tmp;
	hp_list_each(it, tmp, &c->all) {
		struct exchange *x = hp_list_entry(it, struct exchange, link);
		exchange_detach(x);
		exchange_free(x);
	}
	hp_list_each(it, tmp, &c->hosts)
		host_put(hp_list_entry(it, struct host, link));
	/* Closes the kept connections, which still calls curl_socket_cb(). */
	(void)curl_multi_cleanup(c->multi);
	ev_timer_stop(c->loop, &c->timer);
	ev_timer_stop(c->loop, &c->wake);
	hp_free(c);
}

void hp_http_client_free(struct hp_http_client *c)
{
	if (!c)
		return;
	if (c->delivering)
		c->closing = true; /* a callback stands above: deliver() does it */
	else
		client_destroy(c);
}
