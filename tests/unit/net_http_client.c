/* The HTTP client against our own server, and against raw sockets where a
 * server must misbehave, all in one loop. */
#include "net/http_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/limits.h"
#include "lib/suite.h"
#include "net/http_client_private.h"
#include "net/http_server.h"

static struct ev_loop *loop;
static struct hp_http_server *server;
static struct hp_http_client *client;
static int listen_fd, port;

static void on_guard(struct ev_loop *l, ev_timer *w, int revents)
{
	(void)l, (void)w, (void)revents;
	ck_abort_msg("the loop waited 60 s for something that did not happen");
}

#define RUN_UNTIL(cond) \
	do { \
		ev_timer guard; \
		ev_timer_init(&guard, on_guard, 60., 0.); \
		ev_timer_start(loop, &guard); \
		while (!(cond)) \
			ev_run(loop, EVRUN_ONCE); \
		ev_timer_stop(loop, &guard); \
	} while (0)

/* --- our own server: what it does follows from the path ----------------------------- */

static int handled;
static struct hp_http_call *held[200];
static int n_held;

static void append(void *arg, const char *name, const char *value)
{
	hp_buf_printf(arg, "%s: %s\n", name, value);
}

static void on_call(void *arg, struct hp_http_call *c)
{
	(void)arg;
	static char big[5000];
	const char *path = hp_http_call_path(c);
	handled++;
	if (!strcmp(path, "/hold")) {
		held[n_held++] = c;
	} else if (!strcmp(path, "/reset")) {
		hp_http_reset(c);
	} else if (!strcmp(path, "/redirect")) {
		hp_http_reply_header(c, "Location", "/echo");
		hp_http_reply(c, 302, NULL, (struct hp_bytes){NULL, 0});
	} else if (!strcmp(path, "/big")) {
		memset(big, 'b', sizeof big);
		hp_http_reply(c, 200, "text/plain", (struct hp_bytes){big, sizeof big});
	} else {
		struct hp_buf b;
		hp_buf_init(&b, 4 << 20);
		hp_buf_printf(&b, "%s %s\n", hp_http_call_method(c), path);
		hp_http_call_headers(c, append, &b);
		hp_buf_printf(&b, "body %zu ", hp_http_call_body(c).n);
		if (hp_http_call_body(c).n < 100)
			hp_buf_add(&b, hp_http_call_body(c).p, hp_http_call_body(c).n);
		hp_http_reply_header(c, "X-Mixed-CASE", "Value");
		hp_http_reply(c, 201, "text/plain", hp_buf_bytes(&b));
		hp_buf_free(&b);
	}
}

static void start_with(int64_t request_time_us, bool allow_private)
{
	struct hp_error err;
	loop = ev_loop_new(EVBACKEND_EPOLL);
	listen_fd = hp_http_listen("127.0.0.1:0", &port, &err);
	ck_assert_msg(listen_fd >= 0, "%s", err.message);
	struct hp_http_server_options o = {.listen_fd = listen_fd,
					   .max_body = 4 << 20,
					   .request_time_us = request_time_us,
					   .handler = on_call};
	server = hp_http_server_new(loop, &o, &err);
	ck_assert_msg(server != NULL, "%s", err.message);
	client = hp_http_client_new(loop, allow_private, &err);
	ck_assert_msg(client != NULL, "%s", err.message);
	handled = n_held = 0;
}

static void start(void)
{
	start_with(0, true);
}

static void stop(void)
{
	hp_http_client_free(client);
	for (int i = 0; i < n_held; i++)
		if (held[i])
			hp_http_reset(held[i]);
	hp_http_server_free(server);
	close(listen_fd);
	ev_run(loop, 0); /* returns when no watcher is left over */
	ev_loop_destroy(loop);
}

/* --- a raw server: one canned answer per connection ----------------------------------- */

struct raw {
	ev_io listen, io;
	int port, accepted;
	bool keep; /* leave the connection open after the answer */
	const char *answer; /* sent when a request's head has arrived; NULL: close without one */
	size_t answer_n;
	char got[8192];
	size_t got_n;
};

static void raw_readable(struct ev_loop *l, ev_io *w, int revents)
{
	(void)revents;
	struct raw *r = w->data;
	ssize_t n = recv(w->fd, r->got + r->got_n, sizeof r->got - 1 - r->got_n, 0);
	if (n > 0) {
		r->got_n += (size_t)n;
		r->got[r->got_n] = '\0';
		if (!strstr(r->got, "\r\n\r\n"))
			return;
		if (r->answer)
			ck_assert_int_eq(send(w->fd, r->answer, r->answer_n, MSG_NOSIGNAL), (ssize_t)r->answer_n);
		r->got_n = 0;
		if (r->keep)
			return;
	}
	ev_io_stop(l, w);
	close(w->fd);
}

static void raw_accept(struct ev_loop *l, ev_io *w, int revents)
{
	(void)revents;
	struct raw *r = w->data;
	int fd = accept(w->fd, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	r->accepted++;
	r->got_n = 0;
	ev_io_init(&r->io, raw_readable, fd, EV_READ);
	r->io.data = r;
	ev_io_start(l, &r->io);
}

static void raw_start(struct raw *r, const char *answer, size_t n)
{
	struct hp_error err;
	memset(r, 0, sizeof *r);
	r->answer = answer;
	r->answer_n = n;
	int fd = hp_http_listen("127.0.0.1:0", &r->port, &err);
	ck_assert_int_ge(fd, 0);
	ev_io_init(&r->listen, raw_accept, fd, EV_READ);
	r->listen.data = r;
	ev_io_start(loop, &r->listen);
}

static void raw_stop(struct raw *r)
{
	ev_io_stop(loop, &r->listen);
	close(r->listen.fd);
	if (ev_is_active(&r->io)) {
		ev_io_stop(loop, &r->io);
		close(r->io.fd);
	}
}

/* --- asking ------------------------------------------------------------------------------ */

struct seen {
	int calls;
	enum hp_http_progress progress;
	int status;
	size_t body_n;
	char body[4096], mixed[64], location[64];
	int64_t elapsed_us;
	struct hp_error error;
};

static void on_done(void *arg, const struct hp_http_response *r)
{
	struct seen *s = arg;
	s->calls++;
	s->progress = r->progress;
	s->status = r->status;
	s->body_n = r->body.n;
	snprintf(s->body, sizeof s->body, "%.*s", (int)r->body.n, r->body.p ? r->body.p : "");
	const char *h = hp_http_header(r, "x-mixed-case");
	snprintf(s->mixed, sizeof s->mixed, "%s", h ? h : "");
	h = hp_http_header(r, "location");
	snprintf(s->location, sizeof s->location, "%s", h ? h : "");
	s->elapsed_us = r->elapsed_us;
	s->error = r->error;
}

static char url_buf[256], allow_buf[64];
static const char *allow[1] = {allow_buf};

/* A request to 127.0.0.1:`to`, allowed, with a timeout of 5 s. */
static struct hp_http_request request(const char *method, int to, const char *path)
{
	snprintf(url_buf, sizeof url_buf, "http://127.0.0.1:%d%s", to, path);
	snprintf(allow_buf, sizeof allow_buf, "127.0.0.1:%d", to);
	return (struct hp_http_request){.method = method,
					.url = url_buf,
					.allow_hosts = allow,
					.n_allow_hosts = 1,
					.timeout_us = 30000000};
}

static int64_t ask(const struct hp_http_request *rq, struct seen *s)
{
	struct hp_error err;
	memset(s, 0, sizeof *s);
	int64_t token = hp_http_send(client, rq, on_done, s, &err);
	ck_assert_msg(token > 0, "%s", err.message);
	ck_assert_int_eq(s->calls, 0); /* never from inside */
	return token;
}

static void get(const struct hp_http_request *rq, struct seen *s)
{
	(void)ask(rq, s);
	RUN_UNTIL(s->calls);
}

#define EXPECT(s, p, c) \
	do { \
		ck_assert_msg((s).progress == (p), "progress %d: %s", (int)(s).progress, (s).error.message); \
		ck_assert_msg((s).error.code == (c), "code %d: %s", (int)(s).error.code, (s).error.message); \
		ck_assert_int_eq((s).calls, 1); \
	} while (0)

/* --- tests --------------------------------------------------------------------------------- */

START_TEST(sends_what_it_was_given)
{
	struct seen s;
	start();
	setenv("http_proxy", "http://127.0.0.1:9", 1); /* must not matter */
	struct hp_header headers[] = {{"X-Key", "a b"}, {"X-Empty", ""}, {"Content-Type", "application/json"}};
	struct hp_http_request rq = request("POST", port, "/a/../b?x=%2F");
	rq.headers = headers;
	rq.n_headers = 3;
	rq.body = (struct hp_bytes){"{\"a\":1}", 7};
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_int_eq(s.status, 201);
	ck_assert_str_eq(s.mixed, "Value");
	ck_assert_msg(strstr(s.body, "POST /a/../b\n"), "%s", s.body);
	ck_assert_ptr_nonnull(strstr(s.body, "X-Key: a b\n"));
	ck_assert_ptr_nonnull(strstr(s.body, "X-Empty: \n"));
	ck_assert_ptr_nonnull(strstr(s.body, "Content-Type: application/json\n"));
	ck_assert_ptr_nonnull(strstr(s.body, "Content-Length: 7\n"));
	ck_assert_ptr_nonnull(strstr(s.body, "body 7 {\"a\":1}"));
	ck_assert_ptr_null(strstr(s.body, "Expect"));
	ck_assert_int_gt(s.elapsed_us, 0);
	stop();
}
END_TEST

START_TEST(methods)
{
	struct seen s;
	start();
	static const char *const plain[] = {"GET", "DELETE", "OPTIONS"};
	for (size_t i = 0; i < 3; i++) {
		struct hp_http_request rq = request(plain[i], port, "/m");
		get(&rq, &s);
		EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
		ck_assert_int_eq(strncmp(s.body, plain[i], strlen(plain[i])), 0);
		ck_assert_ptr_null(strstr(s.body, "Content-Length"));
	}
	static const char *const posting[] = {"POST", "PUT", "PATCH"};
	for (size_t i = 0; i < 3; i++) {
		struct hp_http_request rq = request(posting[i], port, "/m");
		get(&rq, &s);
		EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
		ck_assert_int_eq(strncmp(s.body, posting[i], strlen(posting[i])), 0);
		ck_assert_ptr_nonnull(strstr(s.body, "Content-Length: 0\n"));
		ck_assert_ptr_null(strstr(s.body, "Content-Type")); /* nobody asked for one */
	}
	struct hp_http_request rq = request("DELETE", port, "/m");
	rq.body = hp_bytes_of("why");
	get(&rq, &s);
	ck_assert_ptr_nonnull(strstr(s.body, "body 3 why"));
	rq = request("HEAD", port, "/m");
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_uint_eq(s.body_n, 0);
	static char big[3 << 20]; /* beyond curl's threshold for "Expect: 100-continue" */
	memset(big, 'x', sizeof big);
	rq = request("POST", port, "/m");
	rq.body = (struct hp_bytes){big, sizeof big};
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_ptr_nonnull(strstr(s.body, "body 3145728 "));
	ck_assert_ptr_null(strstr(s.body, "Expect"));
	stop();
}
END_TEST

START_TEST(reuses_its_connection)
{
	struct raw r;
	struct seen s;
	static const char keep[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	start();
	raw_start(&r, keep, sizeof keep - 1);
	r.keep = true;
	struct hp_http_request rq = request("POST", r.port, "/");
	for (int i = 0; i < 5; i++) {
		get(&rq, &s);
		EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	}
	ck_assert_int_eq(r.accepted, 1);
	raw_stop(&r);
	stop();
}
END_TEST

START_TEST(per_host_limit_and_queue)
{
	enum { N = 40 };
	static struct seen s[N];
	struct seen late, other;
	start();
	struct hp_http_request rq = request("GET", port, "/hold");
	for (int i = 0; i < N; i++)
		(void)ask(&rq, &s[i]);
	ck_assert_int_eq(hp_http_in_flight(client), N);
	RUN_UNTIL(n_held == HP_HTTP_PER_HOST_MAX);
	struct hp_http_request quick = request("GET", port, "/hold");
	quick.timeout_us = 200000;
	get(&quick, &late); /* still queued when its time is over */
	EXPECT(late, HP_HTTP_NOT_SENT, HP_E_TIMEOUT);
	ck_assert_int_eq(n_held, HP_HTTP_PER_HOST_MAX);
	/* Another host is not held up. */
	struct raw r;
	static const char ok[] = "HTTP/1.1 204 No Content\r\n\r\n";
	raw_start(&r, ok, sizeof ok - 1);
	struct hp_http_request elsewhere = request("GET", r.port, "/");
	get(&elsewhere, &other);
	EXPECT(other, HP_HTTP_ANSWERED, HP_OK);
	raw_stop(&r);
	for (int i = 0; i < N; i++) {
		RUN_UNTIL(n_held > i);
		ck_assert_int_le(n_held - i, HP_HTTP_PER_HOST_MAX);
		hp_http_reply(held[i], 200, NULL, hp_bytes_of("x"));
		held[i] = NULL;
	}
	for (int i = 0; i < N; i++)
		RUN_UNTIL(s[i].calls == 1 && s[i].status == 200);
	ck_assert_int_eq(hp_http_in_flight(client), 0);
	stop();
}
END_TEST

START_TEST(answers_are_capped)
{
	struct seen s;
	start();
	struct hp_http_request rq = request("GET", port, "/big");
	rq.max_body = 5000;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_uint_eq(s.body_n, 5000);
	rq.max_body = 4999;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_SENT, HP_E_TOO_LARGE);
	ck_assert_int_eq(s.status, 0);
	ck_assert_uint_eq(s.body_n, 0);

	struct raw r;
	static char head[HP_HTTP_HEADERS_MAX + 200];
	int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
	for (int i = 0; n < HP_HTTP_HEADERS_MAX; i++)
		n += snprintf(head + n, sizeof head - (size_t)n, "X-%d: %080d\r\n", i, i);
	n += snprintf(head + n, sizeof head - (size_t)n, "\r\n");
	raw_start(&r, head, (size_t)n);
	rq = request("GET", r.port, "/");
	get(&rq, &s);
	EXPECT(s, HP_HTTP_SENT, HP_E_TOO_LARGE);
	raw_stop(&r);
	stop();
}
END_TEST

/* gzip of 100,000 zero bytes. */
static const unsigned char bomb[] = {
	0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc1, 0x31, 0x01, 0x00, 0x00,
	0x00, 0xc2, 0xa0, 0xf5, 0x4f, 0x6d, 0x0d, 0x0f, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x57, 0x03, 0x7d, 0x95, 0x11, 0xd4,
	0xa0, 0x86, 0x01, 0x00,
};

START_TEST(bytes_are_counted_after_decompression)
{
	struct seen s;
	struct raw r;
	char answer[1024];
	start();
	int n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
			 sizeof bomb);
	memcpy(answer + n, bomb, sizeof bomb);
	raw_start(&r, answer, (size_t)n + sizeof bomb);
	struct hp_http_request rq = request("GET", r.port, "/");
	rq.max_body = 99999;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_SENT, HP_E_TOO_LARGE);
	rq.max_body = 100000;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_uint_eq(s.body_n, 100000);
	raw_stop(&r);
	stop();
}
END_TEST

START_TEST(how_far_it_came)
{
	struct seen s;
	struct raw r;
	static const struct {
		const char *what, *answer;
		enum hp_http_progress progress;
	} cases[] = {
		{"closed without an answer", NULL, HP_HTTP_SENT},
		{"cut inside the head", "HTTP/1.1 200 OK\r\nContent-Le", HP_HTTP_SENT},
		{"cut inside the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", HP_HTTP_SENT},
		{"cut inside a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", HP_HTTP_SENT},
		{"cut after an interim answer", "HTTP/1.1 100 Continue\r\n\r\n", HP_HTTP_SENT},
		{"cut after two interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n", HP_HTTP_SENT},
		{"cut before the blank line", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", HP_HTTP_SENT},
		{"cut before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", HP_HTTP_SENT},
		{"no HTTP", "HELLO WORLD\r\n\r\n", HP_HTTP_SENT},
		{"no status", "HTTP/2 2\xc1\xc1\r\n\r\n", HP_HTTP_SENT},
		{"interim answers", "HTTP/1.1 100 Continue\r\nX-Mixed-Case: no\r\n\r\nHTTP/1.1 200 OK\r\n"
		 "Content-Length: 2\r\n\r\nok", HP_HTTP_ANSWERED},
		{"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Mixed-Case: no\r\n\r\n",
		 HP_HTTP_ANSWERED},
		{"ended by closing", "HTTP/1.1 200 OK\r\n\r\nok", HP_HTTP_ANSWERED},
	};
	start();
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		raw_start(&r, cases[i].answer, cases[i].answer ? strlen(cases[i].answer) : 0);
		struct hp_http_request rq = request("POST", r.port, "/");
		rq.body = hp_bytes_of("money");
		get(&rq, &s);
		ck_assert_msg(s.progress == cases[i].progress, "%s: %d", cases[i].what, (int)s.progress);
		ck_assert_msg(r.accepted == 1, "%s: sent %d times", cases[i].what, r.accepted);
		if (s.progress == HP_HTTP_ANSWERED) {
			ck_assert_str_eq(s.body, "ok");
			ck_assert_str_eq(s.mixed, "");
		} else {
			EXPECT(s, HP_HTTP_SENT, HP_E_UNAVAILABLE);
		}
		raw_stop(&r);
	}
	struct hp_http_request rq = request("POST", r.port, "/"); /* nobody listens there any more */
	get(&rq, &s);
	EXPECT(s, HP_HTTP_NOT_SENT, HP_E_UNAVAILABLE);

	/* TLS fails: not a byte of the request leaves. */
	raw_start(&r, "220 no TLS here\r\n\r\n", 19);
	rq = request("POST", r.port, "/");
	snprintf(url_buf, sizeof url_buf, "https://127.0.0.1:%d/", r.port);
	(void)ask(&rq, &s);
	RUN_UNTIL(r.got_n > 0); /* the client hello; it has no blank line */
	ev_io_stop(loop, &r.io);
	close(r.io.fd);
	RUN_UNTIL(s.calls);
	EXPECT(s, HP_HTTP_NOT_SENT, HP_E_UNAVAILABLE);
	raw_stop(&r);

	rq = request("GET", port, "/");
	rq.url = "http://no-such-host.invalid/";
	rq.allow_hosts = (const char *[]){"no-such-host.invalid"};
	get(&rq, &s);
	EXPECT(s, HP_HTTP_NOT_SENT, HP_E_UNAVAILABLE);
	stop();
}
END_TEST

START_TEST(never_sends_twice_by_itself)
{
	static const char *const methods[] = {"POST", "GET", "PUT"};
	struct seen s;
	start();
	for (size_t i = 0; i < 3; i++) {
		/* A connection that stands, so that the next request reuses it … */
		struct hp_http_request rq = request("GET", port, "/echo");
		get(&rq, &s);
		EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
		handled = 0;
		/* … and dies under it after the request was read: curl would repeat it. */
		rq = request(methods[i], port, "/reset");
		get(&rq, &s);
		EXPECT(s, HP_HTTP_SENT, HP_E_UNAVAILABLE);
		ck_assert_msg(handled == 1, "%s was sent %d times", methods[i], handled);
	}
	/* On a fresh connection, too. */
	handled = 0;
	struct hp_http_request rq = request("POST", port, "/reset");
	get(&rq, &s);
	EXPECT(s, HP_HTTP_SENT, HP_E_UNAVAILABLE);
	ck_assert_int_eq(handled, 1);
	stop();
}
END_TEST

static void on_tick(struct ev_loop *l, ev_timer *w, int revents)
{
	(void)l, (void)revents;
	*(bool *)w->data = true;
}

START_TEST(connection_closed_while_idle_is_no_failure)
{
	struct seen s;
	bool over = false;
	start_with(200000, true); /* the server closes idle connections after 0.2 s */
	struct hp_http_request rq = request("POST", port, "/echo");
	get(&rq, &s);
	ev_timer t;
	ev_timer_init(&t, on_tick, 0.5, 0.);
	t.data = &over;
	ev_timer_start(loop, &t);
	RUN_UNTIL(over);
	handled = 0;
	rq = request("POST", port, "/echo");
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_int_eq(handled, 1);
	stop();
}
END_TEST

START_TEST(timeout_after_sending)
{
	struct seen s;
	start();
	struct hp_http_request rq = request("POST", port, "/hold");
	rq.timeout_us = 1000000;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_SENT, HP_E_TIMEOUT);
	ck_assert_int_eq(n_held, 1);
	ck_assert_int_ge(s.elapsed_us, 1000000); /* never early */
	ck_assert_int_le(s.elapsed_us, 3000000);
	stop();
}
END_TEST

START_TEST(redirects_are_answers)
{
	struct seen s;
	start();
	struct hp_http_request rq = request("GET", port, "/redirect");
	get(&rq, &s);
	EXPECT(s, HP_HTTP_ANSWERED, HP_OK);
	ck_assert_int_eq(s.status, 302);
	ck_assert_str_eq(s.location, "/echo");
	ck_assert_int_eq(handled, 1);
	stop();
}
END_TEST

START_TEST(private_addresses_are_refused)
{
	struct seen s;
	char name[64];
	start_with(0, false);
	struct hp_http_request rq = request("GET", port, "/echo");
	get(&rq, &s);
	EXPECT(s, HP_HTTP_NOT_SENT, HP_E_FORBIDDEN);
	ck_assert_ptr_nonnull(strstr(s.error.message, "127.0.0.1 is private"));
	/* By name, and in other spellings: what is resolved counts. */
	static const char *const hosts[] = {"localhost", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"};
	for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
		snprintf(url_buf, sizeof url_buf, "http://%s:%d/echo", hosts[i], port);
		snprintf(name, sizeof name, "%s:%d", hosts[i], port);
		struct hp_http_request again = rq;
		again.allow_hosts = (const char *[]){name, allow_buf};
		again.n_allow_hosts = 2;
		get(&again, &s);
		EXPECT(s, HP_HTTP_NOT_SENT, HP_E_FORBIDDEN);
	}
	ck_assert_int_eq(handled, 0);
	stop();
}
END_TEST

START_TEST(only_listed_hosts)
{
	static const struct {
		const char *entry, *host;
		int port, standard;
		bool ok;
	} cases[] = {
		{"api.stripe.com", "api.stripe.com", 443, 443, true},
		{"api.stripe.com", "API.Stripe.com", 443, 443, true},
		{"api.stripe.com", "api.stripe.com", 8443, 443, false},
		{"api.stripe.com", "api.stripe.com", 80, 80, true},
		{"api.stripe.com", "api.stripe.com", 443, 80, false},
		{"api.stripe.com:8443", "api.stripe.com", 8443, 443, true},
		{"api.stripe.com:8443", "api.stripe.com", 443, 443, false},
		{"stripe.com", "api.stripe.com", 443, 443, false},
		{"api.stripe.com", "stripe.com", 443, 443, false},
		{"api.stripe.com", "api.stripe.com.", 443, 443, false},
		{"api.stripe.com", "api.stripe.com.evil.example", 443, 443, false},
		{"127.0.0.1:4001", "127.0.0.1", 4001, 80, true},
		{"127.0.0.1", "127.0.0.1", 4001, 80, false},
		{"[::1]:4001", "[::1]", 4001, 80, true},
		{"[::1]", "[::1]", 80, 80, true},
		{"[::1]", "[::1]", 81, 80, false},
		{"host:", "host", 80, 80, false},
		{"host:x", "host", 80, 80, false},
		{"", "host", 80, 80, false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct hp_http_request rq = {.allow_hosts = &cases[i].entry, .n_allow_hosts = 1};
		ck_assert_msg(hp_http_host_allowed(&rq, cases[i].host, cases[i].port, cases[i].standard) == cases[i].ok,
			      "%s against %s:%d", cases[i].entry, cases[i].host, cases[i].port);
	}
	struct seen s;
	start();
	struct hp_http_request rq = request("GET", port, "/echo");
	rq.n_allow_hosts = 0;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_NOT_SENT, HP_E_FORBIDDEN);
	ck_assert_ptr_nonnull(strstr(s.error.message, "list"));
	snprintf(allow_buf, sizeof allow_buf, "127.0.0.1"); /* without the port: the default one only */
	rq.n_allow_hosts = 1;
	get(&rq, &s);
	EXPECT(s, HP_HTTP_NOT_SENT, HP_E_FORBIDDEN);
	ck_assert_int_eq(handled, 0);
	ck_assert_int_eq(hp_http_in_flight(client), 0);
	stop();
}
END_TEST

START_TEST(unfit_requests_are_refused)
{
	struct hp_error err;
	struct hp_header headers[1];
	start();
	static const char *const urls[] = {"", "nonsense", "/path", "ftp://127.0.0.1/", "file:///etc/passwd",
					   "http://user:secret@127.0.0.1/", "http://", "gopher://127.0.0.1/"};
	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		struct hp_http_request rq = request("GET", port, "/");
		rq.url = urls[i];
		ck_assert_msg(hp_http_send(client, &rq, on_done, NULL, &err) == -1, "%s", urls[i]);
		ck_assert_int_eq(err.code, HP_E_INVALID);
		ck_assert_ptr_null(strstr(err.message, "secret"));
	}
	static const char *const bad[][2] = {{"X", "a\r\nY: b"}, {"X", "a\nb"}, {"X\r\nY", "a"}, {"X Y", "a"}, {"", "a"},
					     {"X:", "a"}, {"Host", "a"}, {"host", "a"}, {"Content-Length", "1"},
					     {"Transfer-Encoding", "chunked"}, {"Connection", "close"}, {"Expect", "x"}};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct hp_http_request rq = request("GET", port, "/");
		headers[0] = (struct hp_header){bad[i][0], bad[i][1]};
		rq.headers = headers;
		rq.n_headers = 1;
		ck_assert_msg(hp_http_send(client, &rq, on_done, NULL, &err) == -1, "%s", bad[i][0]);
		ck_assert_int_eq(err.code, HP_E_INVALID);
	}
	static const char *const methods[] = {"", "GET /", "G\r\nT"};
	for (size_t i = 0; i < 3; i++) {
		struct hp_http_request rq = request(methods[i], port, "/");
		ck_assert_int_eq(hp_http_send(client, &rq, on_done, NULL, &err), -1);
	}
	struct hp_http_request rq = request("GET", port, "/");
	rq.timeout_us = 0;
	ck_assert_int_eq(hp_http_send(client, &rq, on_done, NULL, &err), -1);
	ck_assert_int_eq(hp_http_in_flight(client), 0);
	stop();
}
END_TEST

START_TEST(abort_says_nothing_more)
{
	static struct seen s[20];
	int64_t token[20];
	struct seen echo;
	start();
	struct hp_http_request rq = request("GET", port, "/hold");
	for (int i = 0; i < 20; i++)
		token[i] = ask(&rq, &s[i]);
	RUN_UNTIL(n_held == HP_HTTP_PER_HOST_MAX);
	hp_http_abort(client, token[19]); /* queued */
	hp_http_abort(client, token[0]);  /* running: its place goes to a queued one */
	hp_http_abort(client, token[0]);  /* stale */
	hp_http_abort(client, 999);
	ck_assert_int_eq(hp_http_in_flight(client), 18);
	RUN_UNTIL(n_held == HP_HTTP_PER_HOST_MAX + 1);
	for (int i = 1; i < 19; i++)
		hp_http_abort(client, token[i]);
	ck_assert_int_eq(hp_http_in_flight(client), 0);
	rq = request("GET", port, "/echo");
	get(&rq, &echo);
	EXPECT(echo, HP_HTTP_ANSWERED, HP_OK);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(s[i].calls, 0);
	/* One that is refused and not yet told can be aborted as well. */
	rq.n_allow_hosts = 0;
	hp_http_abort(client, ask(&rq, &s[0]));
	for (int i = 0; i < 5; i++)
		ev_run(loop, EVRUN_NOWAIT);
	ck_assert_int_eq(s[0].calls, 0);
	stop();
}
END_TEST

static int64_t others[3];
static int told;

static void abort_others(void *arg, const struct hp_http_response *r)
{
	(void)arg, (void)r;
	told++;
	for (int i = 0; i < 3; i++)
		hp_http_abort(client, others[i]);
}

START_TEST(abort_inside_a_callback)
{
	struct hp_error err;
	start();
	told = 0;
	struct hp_http_request rq = request("GET", port, "/echo");
	rq.n_allow_hosts = 0; /* all three end in the same turn; the first silences the rest */
	for (int i = 0; i < 3; i++)
		others[i] = hp_http_send(client, &rq, abort_others, NULL, &err);
	RUN_UNTIL(told > 0);
	for (int i = 0; i < 5; i++)
		ev_run(loop, EVRUN_NOWAIT);
	ck_assert_int_eq(told, 1);
	ck_assert_int_eq(hp_http_in_flight(client), 0);
	stop();
}
END_TEST

static void free_client(void *arg, const struct hp_http_response *r)
{
	(void)arg;
	ck_assert_int_eq(r->progress, HP_HTTP_ANSWERED);
	ck_assert_uint_gt(r->body.n, 0);
	told++;
	hp_http_client_free(client);
	client = NULL;
	ck_assert_uint_gt(r->body.n, 0); /* the answer lives to the end of the callback */
}

START_TEST(free_inside_a_callback)
{
	struct hp_error err;
	struct seen s;
	start();
	told = 0;
	struct hp_http_request rq = request("GET", port, "/hold");
	(void)ask(&rq, &s);
	rq = request("GET", port, "/echo");
	ck_assert_int_gt(hp_http_send(client, &rq, free_client, NULL, &err), 0);
	RUN_UNTIL(told == 1);
	ck_assert_ptr_null(client);
	ck_assert_int_eq(s.calls, 0);
	stop();
}
END_TEST

HP_SUITE("net http_client", sends_what_it_was_given, methods, reuses_its_connection, per_host_limit_and_queue,
	 answers_are_capped, bytes_are_counted_after_decompression, how_far_it_came,
	 never_sends_twice_by_itself, connection_closed_while_idle_is_no_failure, timeout_after_sending,
	 redirects_are_answers, private_addresses_are_refused, only_listed_hosts, unfit_requests_are_refused,
	 abort_says_nothing_more, abort_inside_a_callback, free_inside_a_callback)
