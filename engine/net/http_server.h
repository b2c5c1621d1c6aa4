/* http_server.h: incoming HTTP over libmicrohttpd, driven by our libev loop.
 *
 * Bodies are raw bytes (signatures are verified over them). Requests that mix
 * Content-Length and Transfer-Encoding, repeat either, lack Host, or use an
 * unknown transfer coding are answered 400. A body over max_body is answered
 * 413 (by its Content-Length at once, chunked by counting). A client that has
 * not finished its request in HP_HTTP_REQUEST_TIME_MAX is cut off, byte drips
 * included. At most HP_HTTP_PER_IP_MAX connections per address.
 *
 * A handler answers at once or later (hp_http_reply from any callback of the
 * same loop); the connection is suspended meanwhile.
 */
#ifndef HP_NET_HTTP_SERVER_H
#define HP_NET_HTTP_SERVER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

struct hp_http_server;
struct hp_http_call; /* one request waiting for its answer */

typedef void (*hp_http_handler)(void *arg, struct hp_http_call *call);

struct hp_http_server_options {
	int listen_fd;        /* bound and listening, non-blocking; not closed by us */
	size_t max_body;      /* 0: HP_HTTP_REQUEST_BODY_MAX */
	int64_t request_time_us; /* 0: HP_HTTP_REQUEST_TIME_MAX */
	hp_http_handler handler;
	void *arg;
};

/* Binds and listens on "127.0.0.1:8080", "[::1]:8080" or ":8080"; port 0 lets the
 * kernel choose. CLOEXEC and non-blocking. Returns the fd; *port is filled. */
int hp_http_listen(const char *address, int *port, struct hp_error *err) HP_MUST_CHECK;

struct hp_http_server *hp_http_server_new(struct ev_loop *loop, const struct hp_http_server_options *o,
					  struct hp_error *err);
/* Stops accepting; open requests may still be answered. */
void hp_http_server_quiesce(struct hp_http_server *s);
int hp_http_server_open_calls(const struct hp_http_server *s); /* requests not yet answered */
void hp_http_server_free(struct hp_http_server *s);

const char *hp_http_call_method(const struct hp_http_call *c);
const char *hp_http_call_path(const struct hp_http_call *c);   /* percent-decoded, no query */
const char *hp_http_call_query(const struct hp_http_call *c, const char *name); /* NULL: absent */
const char *hp_http_call_header(const struct hp_http_call *c, const char *name); /* any case */
struct hp_bytes hp_http_call_body(const struct hp_http_call *c);
const char *hp_http_call_peer(const struct hp_http_call *c);   /* address as text */
/* Calls fn for each header / query argument (raw query order). */
typedef void (*hp_http_pair)(void *arg, const char *name, const char *value);
void hp_http_call_headers(const struct hp_http_call *c, hp_http_pair fn, void *arg);
void hp_http_call_queries(const struct hp_http_call *c, hp_http_pair fn, void *arg);

/* Extra response header; before hp_http_reply(). Copied. */
void hp_http_reply_header(struct hp_http_call *c, const char *name, const char *value);
/* Answers and ends the call: the pointer is dead afterwards. Copies the body.
 * If the client has gone, nothing is sent. Call it exactly once per call. */
void hp_http_reply(struct hp_http_call *c, int status, const char *content_type, struct hp_bytes body);
/* Fault injection for simulated providers: cuts the connection without a reply. */
void hp_http_reset(struct hp_http_call *c);

#endif
