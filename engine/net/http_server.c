/* http_server.c: libmicrohttpd in external epoll mode inside our libev loop.
 *
 * One request is a `hp_http_call`, born when its request line is parsed and
 * freed when libmicrohttpd reports the request completed:
 *   NEW       headers are in: check_head() refuses what parsers disagree about
 *   READING   the body arrives, counted against max_body
 *   HANDLER   inside the owner's handler
 *   WAITING   the handler returned without an answer; connection suspended
 *   ANSWERED  a response (or a cut) is stored; queued at the next chance
 *
 * What had to be learnt about libmicrohttpd 0.9.75, all of it measured:
 * - After MHD_resume_connection() nothing wakes an external loop. So a reply
 *   feeds `kick`, a watcher of the lowest priority that runs MHD in this very
 *   turn, once for all replies given in it.
 * - MHD_get_timeout() must be honoured after every MHD_run().
 * - Its timeout is for inactivity only: a client that sends a byte now and then
 *   lives for ever. Each connection has a timer of ours that shuts the socket.
 * - By default it accepts Content-Length beside Transfer-Encoding, repeated
 *   Content-Length, and unknown codings. Strict mode plus check_head() do not.
 *   What remains accepted, as it cannot be seen from outside the library: lines
 *   ended by LF alone, folded header lines, and a NUL in a header value, which
 *   ends it there.
 * - Without a free descriptor accept() fails and the socket stays readable. With no
 *   connection open MHD tries for ever, at 100 % of a core; with one it stops
 *   accepting until one has closed, and forgets to say that it wants to be run then.
 *   See "no descriptors".
 * - MHD_stop_daemon() closes the listening socket, which is not ours to close:
 *   MHD_quiesce_daemon() first makes it let go. It also must not find suspended
 *   connections.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/words.h"
#include "net/http_server.h"

/* A chunked body over the limit is read on, so that the client sees its 413, but
 * not for ever: past this many times the limit the connection is cut. */
#define DISCARD_TIMES 4
#define REPLY_HEADERS_MAX (16 * 1024)
#define STARVED_LOOK_S 0.25 /* no descriptor: when to look again */

struct hp_http_server {
	struct ev_loop *loop;
	struct MHD_Daemon *daemon;
	ev_io io;         /* the daemon's epoll fd */
	ev_timer timer;   /* MHD_get_timeout() */
	ev_prepare kick;  /* never started, only fed */
	ev_timer starved; /* active: no descriptor was free for a connection, or a client waits for ours */
	int listen_fd;
	size_t max_body;
	double request_s;
	hp_http_handler handler;
	void *arg;
	struct hp_list calls; /* handed to the handler, not completed */
	struct hp_list conns;
	int n_open;
	bool told; /* that no descriptor is free */
	bool suspected; /* a client waits, and none was accepted for one look already */
	uint64_t accepted, accepted_then; /* connections: all; when the look at a lack of descriptors began */
	bool quiesced, running, again, closing;
};

/* One TCP connection; lives from NOTIFY_CONNECTION started to closed. */
struct http_conn {
	struct hp_list link;
	struct hp_http_server *s;
	int fd;
	bool served; /* a request of it has completed: it is kept alive */
	bool idle;   /* … and no other has begun */
	ev_timer deadline;
	char peer[INET6_ADDRSTRLEN];
};

enum call_state { CALL_NEW, CALL_READING, CALL_HANDLER, CALL_WAITING, CALL_ANSWERED };

struct hp_http_call {
	struct hp_list link;
	struct hp_http_server *s; /* NULL: the server was freed under it */
	struct MHD_Connection *mc;
	struct http_conn *conn;
	enum call_state state;
	const char *method, *path; /* libmicrohttpd's, alive as long as the call */
	bool nul_in_uri;
	struct hp_buf body;
	size_t seen; /* bytes of body that arrived, discarded ones included */
	bool too_large, no_memory;
	struct hp_buf headers; /* of the reply: name NUL value NUL … */
	unsigned status;
	struct MHD_Response *response; /* NULL in ANSWERED: cut */
};

/* --- turning the wheel ------------------------------------------------------- */

static void server_destroy(struct hp_http_server *s);
static bool client_waits(const struct hp_http_server *s);
static void server_starved(struct hp_http_server *s);

static void server_run(struct hp_http_server *s)
{
	HP_ASSERT(!s->running);
	s->running = true;
	do {
		s->again = false; /* set by a reply to another call, given inside a handler, and by an end */
		(void)MHD_run(s->daemon);
	} while (s->again);
	s->running = false;
	if (s->closing) {
		server_destroy(s);
		return;
	}
	if (client_waits(s))
		server_starved(s);
	MHD_UNSIGNED_LONG_LONG ms;
	ev_timer_stop(s->loop, &s->timer);
	if (MHD_get_timeout(s->daemon, &ms) == MHD_YES) {
		ev_timer_set(&s->timer, (double)ms / 1e3, 0.);
		ev_timer_start(s->loop, &s->timer);
	}
}

static void server_kick(struct hp_http_server *s)
{
	if (s->running)
		s->again = true;
	else
		ev_feed_event(s->loop, &s->kick, EV_CUSTOM);
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
	(void)loop, (void)revents;
	server_run(w->data);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	server_run(w->data);
}

static void on_kick(struct ev_loop *loop, ev_prepare *w, int revents)
{
	(void)loop, (void)revents;
	server_run(w->data);
}

/* --- no descriptors ------------------------------------------------------------ */

static bool descriptor_is_free(const struct hp_http_server *s)
{
	int fd = fcntl(s->listen_fd, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || (errno != EMFILE && errno != ENFILE && errno != EINVAL);
}

/* In the backlog. */
static bool client_waits(const struct hp_http_server *s)
{
	struct pollfd p = { .fd = s->listen_fd, .events = POLLIN };

	return !s->quiesced && poll(&p, 1, 0) == 1;
}

static void say_starved(struct hp_http_server *s)
{
	if (!s->told)
		hp_log(HP_ERROR, "no file descriptor is free: connections wait", NULL);
	s->told = true;
}

/* After a run, and a client still waits: it has just come, or no descriptor is free. Then it waits
 * in the backlog, or another worker takes it; open connections are served on. Only when there is
 * none, our epoll has nothing else to tell. */
static void server_starved(struct hp_http_server *s)
{
	if (!descriptor_is_free(s)) {
		if (hp_list_empty(&s->conns))
			ev_io_stop(s->loop, &s->io);
		say_starved(s);
	}
	if (ev_is_active(&s->starved))
		return;
	s->accepted_then = s->accepted;
	s->suspected = false;
	ev_timer_again(s->loop, &s->starved);
}

/* MHD accepts again when a connection closes: one that nobody uses. */
static bool can_accept(struct hp_http_server *s)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &s->conns) {
		struct http_conn *conn = hp_list_entry(it, struct http_conn, link);
		if (!conn->idle)
			continue;
		(void)shutdown(conn->fd, SHUT_RDWR);
		return true;
	}
	return hp_list_empty(&s->conns);
}

static void on_starved(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct hp_http_server *s = w->data;

	(void)revents;
	if (!descriptor_is_free(s)) {
		say_starved(s);
		return;
	}
	if (!s->told && (s->accepted != s->accepted_then || !client_waits(s))) { /* it had only just come */
		ev_timer_stop(loop, w);
		return;
	}
	/* whoever has come while we were busy ourselves is let in by the run that follows */
	if (!s->told && !s->suspected) {
		s->suspected = true;
		server_kick(s);
		return;
	}
	if (!can_accept(s))
		return; /* all are busy: the next look */
	ev_timer_stop(loop, w);
	if (s->told)
		hp_log(HP_INFO, "connections are accepted again", NULL);
	s->told = false;
	ev_io_start(loop, &s->io);
	server_kick(s);
}

/* --- connections ------------------------------------------------------------- */

static void conn_arm(struct http_conn *conn)
{
	ev_timer_stop(conn->s->loop, &conn->deadline);
	ev_now_update(conn->s->loop); /* our own lag must not be taken from the client's time */
	ev_timer_set(&conn->deadline, conn->s->request_s, 0.);
	ev_timer_start(conn->s->loop, &conn->deadline);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)loop, (void)revents;
	struct http_conn *conn = w->data;
	(void)shutdown(conn->fd, SHUT_RDWR); /* MHD reads the end and cleans up */
	server_kick(conn->s);
}

static struct http_conn *conn_of(struct MHD_Connection *mc)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	return i ? i->socket_context : NULL;
}

static void peer_text(struct MHD_Connection *mc, char *out, size_t n)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	(void)snprintf(out, n, "unknown");
	if (!i || !i->client_addr)
		return;
	if (i->client_addr->sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->client_addr)->sin_addr,
				out, (socklen_t)n);
	} else if (i->client_addr->sa_family == AF_INET6) {
		const struct in6_addr *a =
			&((const struct sockaddr_in6 *)(const void *)i->client_addr)->sin6_addr;
		if (IN6_IS_ADDR_V4MAPPED(a))
			(void)inet_ntop(AF_INET, &a->s6_addr[12], out, (socklen_t)n);
		else
			(void)inet_ntop(AF_INET6, a, out, (socklen_t)n);
	}
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	struct hp_http_server *s = cls;
	struct http_conn *conn = *context;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (conn) {
			ev_timer_stop(s->loop, &conn->deadline);
			hp_list_del(&conn->link);
		}
		hp_free(conn);
		s->again = true; /* only a further run accepts again */
		*context = NULL;
		return;
	}
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
	HP_ASSERT(i);
	conn = hp_calloc(1, sizeof *conn);
	if (!conn) { /* a connection without a deadline is not served */
		(void)shutdown(i->connect_fd, SHUT_RDWR);
		return;
	}
	s->accepted++;
	hp_list_add_tail(&s->conns, &conn->link);
	conn->s = s;
	conn->fd = i->connect_fd;
	peer_text(mc, conn->peer, sizeof conn->peer);
	ev_init(&conn->deadline, on_deadline);
	conn->deadline.data = conn;
	conn_arm(conn);
	*context = conn;
}

/* --- calls -------------------------------------------------------------------- */

/* Called when the request line is parsed; what it returns is the call's slot in
 * libmicrohttpd. The URI is raw here: percent-decoding would hide a NUL. */
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mc)
{
	struct hp_http_server *s = cls;
	struct http_conn *conn = conn_of(mc);
	struct hp_http_call *call = conn ? hp_calloc(1, sizeof *call) : NULL;
	if (!call)
		return NULL;
	hp_list_init(&call->link);
	call->s = s;
	call->mc = mc;
	call->conn = conn;
	call->nul_in_uri = strstr(uri, "%00") != NULL;
	hp_buf_init(&call->body, s->max_body);
	hp_buf_init(&call->headers, REPLY_HEADERS_MAX);
	conn->idle = false;
	if (conn->served) /* idle time must not count against the next request */
		conn_arm(conn);
	return call;
}

static void call_free(struct hp_http_call *call)
{
	hp_list_del(&call->link);
	if (call->response)
		MHD_destroy_response(call->response);
	hp_buf_free(&call->body);
	hp_buf_free(&call->headers);
	hp_free(call);
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **con_cls,
			 enum MHD_RequestTerminationCode why)
{
	(void)why;
	struct hp_http_server *s = cls;
	struct hp_http_call *call = *con_cls;
	struct http_conn *conn = conn_of(mc);
	if (conn) {
		conn->served = conn->idle = true;
		conn_arm(conn); /* the next request, or the end of keep-alive */
	}
	*con_cls = NULL;
	if (!call)
		return;
	if (!hp_list_empty(&call->link))
		s->n_open--;
	if (call->state == CALL_WAITING || call->state == CALL_HANDLER) {
		/* Only when the server is freed: the owner still holds the pointer and
		 * will give it back through hp_http_reply(). */
		hp_list_del(&call->link);
		call->s = NULL;
		call->mc = NULL;
		call->conn = NULL;
		return;
	}
	call_free(call);
}

/* Hands the stored answer to libmicrohttpd; from its access handler only. */
static enum MHD_Result call_finish(struct hp_http_call *call)
{
	if (!call->response) {
		struct linger now = {1, 0}; /* close() sends a reset, not an orderly end */
		(void)setsockopt(call->conn->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
		return MHD_NO;
	}
	conn_arm(call->conn); /* taking the answer has a deadline too */
	enum MHD_Result ok = MHD_queue_response(call->mc, call->status, call->response);
	MHD_destroy_response(call->response);
	call->response = NULL;
	return ok;
}

static void response_header(struct MHD_Response *r, const char *name, const char *value)
{
	if (MHD_add_response_header(r, name, value) != MHD_YES)
		hp_log(HP_ERROR, "response header left out: not a valid header", "name", HP_STR(name), NULL);
}

static void call_answer(struct hp_http_call *call, int status, const char *type, struct hp_bytes body)
{
	call->state = CALL_ANSWERED;
	call->status = (unsigned)status;
	/* MUST_COPY: libmicrohttpd does not write to it */
	call->response = MHD_create_response_from_buffer(body.n, (void *)(uintptr_t)body.p, MHD_RESPMEM_MUST_COPY);
	if (!call->response)
		return; /* no memory: the connection is cut, which the client may retry */
	if (type)
		response_header(call->response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	for (size_t at = 0; at < call->headers.n;) {
		const char *name = call->headers.p + at;
		const char *value = name + strlen(name) + 1;
		response_header(call->response, name, value);
		at = (size_t)(value - call->headers.p) + strlen(value) + 1;
	}
	if (call->s->quiesced)
		response_header(call->response, MHD_HTTP_HEADER_CONNECTION, "close");
}

/* An answer of our own, before or instead of the handler. Closes the connection:
 * what follows on it cannot be trusted to be a request. */
static enum MHD_Result call_refuse(struct hp_http_call *call, enum hp_code code, const char *message)
{
	struct hp_buf b;
	hp_buf_init(&b, 1024);
	(void)hp_buf_printf(&b, "{\"error\":{\"code\":\"%s\",\"message\":", hp_code_name(code));
	(void)hp_buf_json(&b, message, strlen(message));
	(void)hp_buf_adds(&b, "}}\n");
	hp_http_reply_header(call, MHD_HTTP_HEADER_CONNECTION, "close");
	call_answer(call, hp_code_http(code), "application/json", hp_buf_bytes(&b));
	hp_buf_free(&b);
	return call_finish(call);
}

/* --- the check of the head ------------------------------------------------------ */

struct head {
	int n_length, n_coding, n_host;
	const char *length, *coding;
	bool bad_name, bad_value;
};

/* RFC 9110 token. libmicrohttpd takes "Content-Length :" as a header of that name,
 * space included, and so as none; others take it as a length. */
static bool name_is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!p[i] || (!isalnum((unsigned char)p[i]) && !strchr("!#$%&'*+-.^_`|~", p[i])))
			return false;
	return n > 0;
}

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_n,
				 const char *value, size_t value_n)
{
	(void)kind;
	struct head *h = cls;
	h->bad_name = h->bad_name || !name_is_token(name, name_n);
	for (size_t i = 0; value && i < value_n; i++)
		if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
			h->bad_value = true;
	if (!strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH)) {
		h->n_length++;
		h->length = value ? value : "";
	} else if (!strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING)) {
		h->n_coding++;
		h->coding = value ? value : "";
	} else if (!strcasecmp(name, MHD_HTTP_HEADER_HOST)) {
		h->n_host++;
	}
	return MHD_YES;
}

/* NULL: fine. Else what is wrong; *code is set. Everything here is a way in which
 * two parsers could see two different requests in the same bytes. */
static const char *check_head(struct hp_http_call *call, const char *version, enum hp_code *code)
{
	struct head h = {0};
	(void)MHD_get_connection_values_n(call->mc, MHD_HEADER_KIND, on_header, &h);
	*code = HP_E_INVALID;
	if (h.n_host != 1)
		return "a request needs exactly one Host header";
	if (h.n_length + h.n_coding > 1)
		return "more than one Content-Length or Transfer-Encoding header";
	if (h.bad_name)
		return "a header name contains a character that names cannot have";
	if (h.bad_value)
		return "a header value contains a control character";
	if (call->nul_in_uri)
		return "the address contains a NUL";
	if (h.n_coding && (strcasecmp(h.coding, "chunked") != 0 || strcmp(version, MHD_HTTP_VERSION_1_1) != 0))
		return "the only Transfer-Encoding possible is chunked, over HTTP/1.1";
	if (!h.n_length)
		return NULL;
	int64_t n;
	if (!h.length[0] || h.length[strspn(h.length, "0123456789")])
		return "the Content-Length is not a number";
	if (hp_int_parse(h.length, &n) != 0 || (uint64_t)n > call->s->max_body) {
		*code = HP_E_TOO_LARGE;
		return "the body is larger than this server takes";
	}
	return NULL;
}

/* --- libmicrohttpd's way through a request --------------------------------------- */

static enum MHD_Result call_body(struct hp_http_call *call, const char *p, size_t n)
{
	call->seen += n;
	if (call->seen > call->s->max_body) {
		call->too_large = true;
		hp_buf_free(&call->body);
		return call->seen / DISCARD_TIMES > call->s->max_body ? MHD_NO : MHD_YES;
	}
	if (hp_buf_add(&call->body, p, n) != 0)
		call->no_memory = true;
	return MHD_YES;
}

static enum MHD_Result call_dispatch(struct hp_http_call *call)
{
	struct hp_http_server *s = call->s;
	if (call->too_large)
		return call_refuse(call, HP_E_TOO_LARGE, "the body is larger than this server takes");
	if (call->no_memory)
		return call_refuse(call, HP_E_UNAVAILABLE, "out of memory");
	ev_timer_stop(s->loop, &call->conn->deadline); /* from here on it is us who take time */
	hp_list_add_tail(&s->calls, &call->link);
	s->n_open++;
	call->state = CALL_HANDLER;
	s->handler(s->arg, call);
	if (call->state == CALL_ANSWERED)
		return call_finish(call);
	call->state = CALL_WAITING;
	MHD_suspend_connection(call->mc);
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url, const char *method,
				  const char *version, const char *data, size_t *data_n, void **con_cls)
{
	(void)mc;
	struct hp_http_server *s = cls;
	struct hp_http_call *call = *con_cls;
	if (!call)
		return MHD_NO; /* no memory when it began */
	if (call->state == CALL_ANSWERED)
		return call_finish(call);
	if (s->closing)
		return MHD_NO;
	if (call->state == CALL_NEW) {
		enum hp_code code;
		call->method = method;
		call->path = url;
		call->state = CALL_READING;
		const char *wrong = check_head(call, version, &code);
		return wrong ? call_refuse(call, code, wrong) : MHD_YES;
	}
	HP_ASSERT(call->state == CALL_READING);
	if (*data_n == 0)
		return call_dispatch(call);
	enum MHD_Result ok = call_body(call, data, *data_n);
	*data_n = 0;
	return ok;
}

/* --- the server -------------------------------------------------------------------- */

struct hp_http_server *hp_http_server_new(struct ev_loop *loop, const struct hp_http_server_options *o,
					  struct hp_error *err)
{
	HP_ASSERT(o->handler);
	int listening = 0;
	socklen_t n = sizeof listening;
	/* libmicrohttpd would open a socket of its own instead of saying no. */
	if (getsockopt(o->listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) != 0 || !listening) {
		(void)hp_fail(err, HP_E_INVALID, "the HTTP server was not given a listening socket");
		return NULL;
	}
	struct hp_http_server *s = hp_calloc(1, sizeof *s);
	if (!s) {
		(void)hp_fail(err, HP_E_NOMEM, "out of memory for the HTTP server");
		return NULL;
	}
	s->loop = loop;
	s->listen_fd = o->listen_fd;
	s->handler = o->handler;
	s->arg = o->arg;
	s->max_body = o->max_body ? o->max_body : HP_HTTP_REQUEST_BODY_MAX;
	s->request_s = (double)(o->request_time_us > 0 ? o->request_time_us : HP_HTTP_REQUEST_TIME_MAX) / 1e6;
	hp_list_init(&s->calls);
	hp_list_init(&s->conns);
	s->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s,
		MHD_OPTION_LISTEN_SOCKET, o->listen_fd, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)HP_HTTP_CONNECTIONS_MAX,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)HP_HTTP_PER_IP_MAX,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HP_HTTP_HEADERS_MAX,
		MHD_OPTION_URI_LOG_CALLBACK, on_uri, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
	const union MHD_DaemonInfo *info =
		s->daemon ? MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info) {
		if (s->daemon) {
			(void)MHD_quiesce_daemon(s->daemon);
			MHD_stop_daemon(s->daemon);
		}
		hp_free(s);
		(void)hp_fail(err, HP_E_IO, "the HTTP server cannot start on its socket: %s", strerror(errno));
		return NULL;
	}
	ev_io_init(&s->io, on_io, info->epoll_fd, EV_READ);
	ev_init(&s->timer, on_timer);
	ev_timer_init(&s->starved, on_starved, 0., STARVED_LOOK_S);
	ev_prepare_init(&s->kick, on_kick);
	ev_set_priority(&s->kick, EV_MINPRI);
	s->io.data = s->timer.data = s->kick.data = s->starved.data = s;
	ev_io_start(loop, &s->io);
	return s;
}

void hp_http_server_quiesce(struct hp_http_server *s)
{
	if (s->quiesced)
		return;
	s->quiesced = true;
	(void)MHD_quiesce_daemon(s->daemon); /* gives the socket back without closing it */
}

int hp_http_server_open_calls(const struct hp_http_server *s)
{
	return s->n_open;
}

static void server_destroy(struct hp_http_server *s)
{
	struct hp_list *it, *tmp;
	hp_http_server_quiesce(s);
	ev_io_stop(s->loop, &s->io);
	ev_timer_stop(s->loop, &s->timer);
	ev_timer_stop(s->loop, &s->starved);
	ev_clear_pending(s->loop, &s->kick);
	s->closing = true;
	/* Answers that were given but not yet handed over go out; no new request
	 * reaches the handler any more. */
	s->running = true;
	(void)MHD_run(s->daemon);
	hp_list_each(it, tmp, &s->calls) {
		struct hp_http_call *call = hp_list_entry(it, struct hp_http_call, link);
		if (call->state == CALL_WAITING)
			MHD_resume_connection(call->mc); /* a suspended one must not be left */
	}
	MHD_stop_daemon(s->daemon);
	HP_ASSERT(s->n_open == 0);
	hp_free(s);
}

void hp_http_server_free(struct hp_http_server *s)
{
	if (!s)
		return;
	if (s->running)
		s->closing = true; /* a handler stands above: server_run() does it */
	else
		server_destroy(s);
}

/* --- reading a call ------------------------------------------------------------------ */

const char *hp_http_call_method(const struct hp_http_call *c)
{
	return c->mc ? c->method : "";
}

const char *hp_http_call_path(const struct hp_http_call *c)
{
	return c->mc ? c->path : "";
}

const char *hp_http_call_query(const struct hp_http_call *c, const char *name)
{
	const char *value = NULL;
	if (!c->mc || MHD_lookup_connection_value_n(c->mc, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value,
						    NULL) != MHD_YES)
		return NULL;
	return value ? value : ""; /* "?flag" is there, without a value */
}

const char *hp_http_call_header(const struct hp_http_call *c, const char *name)
{
	return c->mc ? MHD_lookup_connection_value(c->mc, MHD_HEADER_KIND, name) : NULL;
}

struct hp_bytes hp_http_call_body(const struct hp_http_call *c)
{
	return hp_buf_bytes(&c->body);
}

const char *hp_http_call_peer(const struct hp_http_call *c)
{
	return c->conn ? c->conn->peer : "unknown";
}

struct each {
	hp_http_pair fn;
	void *arg;
};

static enum MHD_Result on_pair(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	const struct each *e = cls;
	e->fn(e->arg, name, value ? value : "");
	return MHD_YES;
}

void hp_http_call_headers(const struct hp_http_call *c, hp_http_pair fn, void *arg)
{
	struct each e = {fn, arg};
	if (c->mc)
		(void)MHD_get_connection_values(c->mc, MHD_HEADER_KIND, on_pair, &e);
}

void hp_http_call_queries(const struct hp_http_call *c, hp_http_pair fn, void *arg)
{
	struct each e = {fn, arg};
	if (c->mc)
		(void)MHD_get_connection_values(c->mc, MHD_GET_ARGUMENT_KIND, on_pair, &e);
}

/* --- answering ------------------------------------------------------------------------ */

void hp_http_reply_header(struct hp_http_call *c, const char *name, const char *value)
{
	if (c->headers.n + strlen(name) + strlen(value) + 2 > c->headers.max) {
		hp_log(HP_ERROR, "response header left out: too many", "name", HP_STR(name), NULL);
		return;
	}
	(void)hp_buf_add(&c->headers, name, strlen(name) + 1);
	(void)hp_buf_add(&c->headers, value, strlen(value) + 1);
}

/* The connection goes on where it was suspended, in this very turn. */
static void call_resume(struct hp_http_call *c, enum call_state was)
{
	if (was != CALL_WAITING)
		return; /* inside the handler: call_dispatch() goes on */
	MHD_resume_connection(c->mc);
	server_kick(c->s);
}

void hp_http_reply(struct hp_http_call *c, int status, const char *content_type, struct hp_bytes body)
{
	if (!c->s) { /* the server was freed meanwhile */
		call_free(c);
		return;
	}
	enum call_state was = c->state;
	HP_ASSERT(was == CALL_HANDLER || was == CALL_WAITING); /* else: answered twice */
	call_answer(c, status, content_type, body);
	call_resume(c, was);
}

void hp_http_reset(struct hp_http_call *c)
{
	if (!c->s) {
		call_free(c);
		return;
	}
	enum call_state was = c->state;
	HP_ASSERT(was == CALL_HANDLER || was == CALL_WAITING);
	c->state = CALL_ANSWERED;
	call_resume(c, was);
}
