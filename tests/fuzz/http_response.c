/* Our HTTP client against a server that answers with any bytes, over loopback in one loop:
 * the owner is told exactly once, never that nothing was sent when the server has read
 * it; nothing is over its limit; and one request is sent once.
 *
 * Input: a byte for the method, one for the size of the pieces, then the answer. */
#include "net/http_client.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "lib/fuzz.h"
#include "net/http_server.h"

#define MAX_BODY 3000
#define PATIENCE 5.0

static struct ev_loop *loop;
static struct hp_http_client *client;
static int listen_fd, port;

/* One exchange. */
static struct {
	ev_io accept, peer;
	const uint8_t *p;
	size_t n, piece;
	int accepted, requests, told;
} X;

static void on_peer(struct ev_loop *l, ev_io *w, int revents)
{
	char seen[4096];
	ssize_t got;

	if (revents & EV_READ) {
		got = recv(w->fd, seen, sizeof seen, 0);
		X.requests += got > 0 && (memmem(seen, (size_t)got, " /fuzz HTTP/1.1\r\n", 17) != NULL);
		ev_io_stop(l, w);
		if (got > 0)
			ev_io_set(w, w->fd, EV_WRITE);
		else
			close(w->fd), X.peer.fd = -1;
		if (got > 0)
			ev_io_start(l, w);
		return;
	}
	got = X.n ? send(w->fd, X.p, X.n < X.piece ? X.n : X.piece, MSG_NOSIGNAL) : 0;
	if (got > 0) {
		X.p += got;
		X.n -= (size_t)got;
		if (X.n > 0)
			return;
	}
	ev_io_stop(l, w);
	close(w->fd);
	X.peer.fd = -1;
}

static void on_accept(struct ev_loop *l, ev_io *w, int revents)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)revents;
	if (fd < 0)
		return;
	X.accepted++;
	MUST(X.accepted == 1, "a second connection for one request");
	ev_io_init(&X.peer, on_peer, fd, EV_READ);
	ev_io_start(l, &X.peer);
}

static void on_late(struct ev_loop *l, ev_timer *w, int revents)
{
	(void)l, (void)w, (void)revents;
	MUST(0, "the server has said all and closed, and the owner knows nothing");
}

static void on_done(void *arg, const struct hp_http_response *r)
{
	(void)arg;
	X.told++;
	MUST(X.requests <= 1, "sent %d times", X.requests);
	MUST(X.requests == 0 || r->progress != HP_HTTP_NOT_SENT, "it says that nothing was sent");
	if (r->progress != HP_HTTP_ANSWERED) {
		must_explain(&r->error);
		return;
	}
	MUST(r->status >= 200 && r->status <= 999 && r->body.n <= MAX_BODY, "%d, %zu bytes", r->status, r->body.n);
	for (int i = 0; i < r->n_headers; i++) {
		const char *name = r->headers[i].name;

		MUST(r->headers[i].value && strlen(name) + strlen(r->headers[i].value) <= HP_HTTP_HEADERS_MAX);
		MUST(!strpbrk(r->headers[i].value, "\r\n") && !strpbrk(name, "\r\nABCDEFGHIJKLMNOPQRSTUVWXYZ"), "%s", name);
	}
}

static void begin(void)
{
	struct hp_error err = {0};

	if (loop)
		return;
	loop = ev_loop_new(EVBACKEND_EPOLL);
	listen_fd = hp_http_listen("127.0.0.1:0", &port, &err);
	MUST(loop && listen_fd >= 0, "%s", err.message);
	client = hp_http_client_new(loop, true, &err);
	MUST(client != NULL, "%s", err.message);
	ev_io_init(&X.accept, on_accept, listen_fd, EV_READ);
	ev_io_start(loop, &X.accept);
}

HP_FUZZ(http_response)
{
	static const char *const methods[] = {"GET", "POST", "DELETE", "PUT"};
	struct hp_input in = {p, n};
	uint8_t method = in_byte(&in), piece = in_byte(&in);
	char url[64], host[32];
	const char *const hosts[] = {host};
	struct hp_http_request rq = {.method = methods[method % 4], .url = url, .allow_hosts = hosts, .n_allow_hosts = 1,
				     .timeout_us = 4 * HP_SECOND, .max_body = MAX_BODY};
	struct hp_error err = {0};
	ev_timer late;

	begin();
	X.p = in.p;
	X.n = in.n;
	X.piece = piece < 128 ? 65536 : (size_t)piece - 127;
	X.accepted = X.requests = X.told = 0;
	X.peer.fd = -1;
	snprintf(url, sizeof url, "http://127.0.0.1:%d/fuzz", port);
	snprintf(host, sizeof host, "127.0.0.1:%d", port);
	if (method % 4)
		rq.body = hp_bytes_of("a=1");
	MUST(hp_http_send(client, &rq, on_done, NULL, &err) > 0, "%s", err.message);
	ev_timer_init(&late, on_late, PATIENCE, 0.);
	ev_timer_start(loop, &late);
	while (!X.told || X.peer.fd >= 0) /* the server sees its end, too */
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &late);
	MUST(X.told == 1 && hp_http_in_flight(client) == 0);
}
