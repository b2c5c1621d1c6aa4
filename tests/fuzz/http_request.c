/* Our HTTP server against a client that sends any bytes, over loopback in one loop: what
 * the handler is given is within the limits and framed in one way only, every call is
 * answered, and the client sees an HTTP answer or nothing.
 *
 * Input: a byte for the size of the pieces, then what is sent. */
#include "net/http_server.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/limits.h"
#include "lib/fuzz.h"

#define MAX_BODY 2000
#define PATIENCE 5.0

static struct ev_loop *loop;
static struct hp_http_server *server;
static int port;

static struct {
	ev_io io;
	const uint8_t *p;
	size_t n, piece, got;
	char head[16];
	int calls;
	bool ended;
} X;

static void on_header(void *arg, const char *name, const char *value)
{
	int *seen = arg;

	MUST(name && value && name[0]);
	MUST(!strpbrk(value, "\r\n") || strpbrk(value, "\r\n")[1] != '\0', "a line break ends a value");
	seen[0] += strcasecmp(name, "content-length") == 0;
	seen[1] += strcasecmp(name, "transfer-encoding") == 0;
	seen[2] += strcasecmp(name, "host") == 0;
}

static void on_query(void *arg, const char *name, const char *value)
{
	(void)arg;
	MUST(name && value);
}

static void on_call(void *arg, struct hp_http_call *c)
{
	int seen[3] = {0};

	(void)arg;
	X.calls++;
	MUST(hp_http_call_method(c)[0] && hp_http_call_path(c) && hp_http_call_peer(c)[0]);
	MUST(hp_http_call_body(c).n <= MAX_BODY, "%zu bytes", hp_http_call_body(c).n);
	hp_http_call_headers(c, on_header, seen);
	hp_http_call_queries(c, on_query, NULL);
	MUST(seen[0] + seen[1] <= 1, "two framings: %d lengths, %d codings", seen[0], seen[1]);
	MUST(seen[2] == 1, "%d hosts", seen[2]);
	hp_http_reply(c, 200, "text/plain", hp_http_call_body(c));
}

static void on_ready(struct ev_loop *l, ev_io *w, int revents)
{
	char block[4096];
	ssize_t k;

	if ((revents & EV_WRITE) && X.n > 0) {
		k = send(w->fd, X.p, X.n < X.piece ? X.n : X.piece, MSG_NOSIGNAL);
		X.p += k > 0 ? k : 0;
		X.n -= k > 0 ? (size_t)k : X.n;
	}
	if ((revents & EV_WRITE) && X.n == 0) {
		shutdown(w->fd, SHUT_WR);
		ev_io_stop(l, w);
		ev_io_set(w, w->fd, EV_READ);
		ev_io_start(l, w);
	}
	if (!(revents & EV_READ))
		return;
	k = recv(w->fd, block, sizeof block, 0);
	if (k <= 0) {
		X.ended = true;
		return;
	}
	for (ssize_t i = 0; i < k && X.got < sizeof X.head - 1; i++)
		X.head[X.got++] = block[i];
}

static void on_late(struct ev_loop *l, ev_timer *w, int revents)
{
	(void)l, (void)w, (void)revents;
	MUST(0, "the client has sent all, and the server neither answers nor ends");
}

static void begin(void)
{
	struct hp_http_server_options o = {.max_body = MAX_BODY, .request_time_us = 20 * HP_MSEC, .handler = on_call};
	struct hp_error err = {0};

	if (loop)
		return;
	loop = ev_loop_new(EVBACKEND_EPOLL);
	o.listen_fd = hp_http_listen("127.0.0.1:0", &port, &err);
	MUST(loop && o.listen_fd >= 0, "%s", err.message);
	server = hp_http_server_new(loop, &o, &err);
	MUST(server != NULL, "%s", err.message);
}

HP_FUZZ(http_request)
{
	struct hp_input in = {p, n};
	uint8_t piece = in_byte(&in);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	ev_timer late;
	int fd;

	begin();
	memset(&X, 0, sizeof X);
	X.p = in.p;
	X.n = in.n;
	X.piece = piece < 128 ? 65536 : (size_t)piece - 127;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	to.sin_port = htons((uint16_t)port);
	MUST(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	ev_io_init(&X.io, on_ready, fd, EV_READ | EV_WRITE);
	ev_io_start(loop, &X.io);
	ev_timer_init(&late, on_late, PATIENCE, 0.);
	ev_timer_start(loop, &late);
	while (!X.ended)
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &late);
	ev_io_stop(loop, &X.io);
	close(fd);
	MUST(hp_http_server_open_calls(server) == 0, "a call was not answered");
	MUST(X.got == 0 || strncmp(X.head, "HTTP/1.", X.got < 7 ? X.got : 7) == 0, "%s", X.head);
}
