/* http_request.c: is this request fit to be sent? Pure.
 *
 * Method and headers may come from a connector's Lua code and hold values of a
 * run: nothing in them may end a line early or frame the request anew.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "net/http_client_private.h"

#define REQUEST_HEADERS_MAX 256

/* RFC 9110 token. */
static bool is_token(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("!#$%&'*+-.^_`|~", *s))
			return false;
	return true;
}

static int check_header(const struct hp_header *h, struct hp_error *err)
{
	/* These frame the request or name its target: they follow from url and body. */
	static const char *const ours[] = {"host", "content-length", "transfer-encoding", "connection", "expect"};
	if (!is_token(h->name))
		return hp_fail(err, HP_E_INVALID, "\"%.64s\" is not a header name", h->name);
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (!strcasecmp(h->name, ours[i]))
			return hp_fail(err, HP_E_INVALID, "the header %s is set by the engine", h->name);
	for (const char *p = h->value; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return hp_fail(err, HP_E_INVALID, "the value of header %s contains a control character",
				       h->name);
	return 0;
}

int hp_http_request_check(const struct hp_http_request *rq, struct hp_error *err)
{
	if (!rq->method || !is_token(rq->method))
		return hp_fail(err, HP_E_INVALID, "the request's method is not a word");
	if (!rq->url)
		return hp_fail(err, HP_E_INVALID, "a request needs a URL");
	if (rq->timeout_us <= 0)
		return hp_fail(err, HP_E_INVALID, "a request needs a timeout");
	if (rq->n_headers > REQUEST_HEADERS_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "a request with more than %d headers", REQUEST_HEADERS_MAX);
	for (int i = 0; i < rq->n_headers; i++)
		if (check_header(&rq->headers[i], err) != 0)
			return -1;
	return 0;
}
