/* http_client.h: outgoing HTTP(S) over curl's multi interface, under libev.
 *
 * One client per egress policy. Connections are reused; at most
 * HP_HTTP_PER_HOST_MAX per host, further requests wait in our own queue.
 * HTTP/1.1, no redirects, no proxy from the environment, no cookies; a response
 * over max_body is cut off with HP_E_TOO_LARGE (bytes are counted after
 * decompression, curl's MAXFILESIZE does not do that before 8.4). The host must
 * be in the request's allow-list, and the resolved address is checked when the
 * socket is opened: loopback, private, link-local, unique-local, v4-mapped and
 * NAT64 forms of them, multicast and 0.0.0.0/8 are refused unless allow_private.
 */
#ifndef HP_NET_HTTP_CLIENT_H
#define HP_NET_HTTP_CLIENT_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

struct hp_http_client;

struct hp_header {
	const char *name;
	const char *value;
};

struct hp_http_request {
	const char *method; /* "GET", "POST", … */
	const char *url;    /* absolute, http or https */
	const struct hp_header *headers;
	int n_headers;
	struct hp_bytes body;
	const char *const *allow_hosts; /* "api.stripe.com" or "127.0.0.1:4001" (host[:port]) */
	int n_allow_hosts;
	int64_t timeout_us; /* whole exchange, queueing included */
	size_t max_body;    /* 0: HP_HTTP_RESPONSE_BODY_MAX */
};

/* How far the exchange came: decides whether the peer may have acted. */
enum hp_http_progress {
	HP_HTTP_NOT_SENT, /* refused by policy, DNS, connect or TLS failed: nothing was sent */
	HP_HTTP_SENT,     /* at least a byte of the request was sent, no complete response */
	HP_HTTP_ANSWERED, /* complete response */
};

struct hp_http_response {
	enum hp_http_progress progress;
	int status;                 /* HP_HTTP_ANSWERED */
	const struct hp_header *headers; /* names in lower case */
	int n_headers;
	struct hp_bytes body;
	int64_t elapsed_us;
	struct hp_error error;      /* when not answered */
};

/* The response is borrowed; valid inside the callback only. Called once, never
 * from inside hp_http_send(). */
typedef void (*hp_http_done)(void *arg, const struct hp_http_response *r);

struct hp_http_client *hp_http_client_new(struct ev_loop *loop, bool allow_private, struct hp_error *err);
/* Open requests are dropped without their callbacks. */
void hp_http_client_free(struct hp_http_client *c);
/* Everything is copied. Returns a token (> 0) or -1. */
int64_t hp_http_send(struct hp_http_client *c, const struct hp_http_request *rq, hp_http_done done,
		     void *arg, struct hp_error *err) HP_MUST_CHECK;
void hp_http_abort(struct hp_http_client *c, int64_t token); /* no callback; stale tokens ignored */
int hp_http_in_flight(const struct hp_http_client *c);
/* Could a connection be made now? false: this process has no descriptor left, which no peer
 * is to blame for. */
bool hp_http_can_connect(void);
const char *hp_http_header(const struct hp_http_response *r, const char *lower_name); /* NULL: absent */
/* Is this address one we refuse? Exposed for its test vectors. */
struct sockaddr;
bool hp_http_address_is_private(const struct sockaddr *sa);

#endif
