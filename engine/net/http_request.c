/* http_request.c: is this request fit to be sent, and where to?
 *
 * Method and headers may come from a connector's Lua code and hold values of a
 * run: nothing in them may end a line early or frame the request anew.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/http_client_private.h"

#define REQUEST_HEADERS_MAX 256
#define HOST_MAX 253 /* RFC 1035, as text */

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

int hp_http_url(const struct hp_http_request *rq, CURLU **url, bool *allowed, char *key, size_t key_max,
		struct hp_error *err)
{
	char *scheme = NULL, *host = NULL, *port = NULL;
	int rc = -1;
	*url = curl_url();
	if (!*url) {
		(void)hp_fail(err, HP_E_NOMEM, "out of memory for a URL");
		goto out;
	}
	CURLUcode uc = curl_url_set(*url, CURLUPART_URL, rq->url, CURLU_PATH_AS_IS | CURLU_DISALLOW_USER);
	if (uc == CURLUE_OK)
		uc = curl_url_get(*url, CURLUPART_SCHEME, &scheme, 0);
	if (uc == CURLUE_OK)
		uc = curl_url_get(*url, CURLUPART_HOST, &host, 0);
	if (uc == CURLUE_OK)
		uc = curl_url_get(*url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
	if (uc != CURLUE_OK) { /* the URL itself may hold a secret in its query */
		(void)hp_fail(err, uc == CURLUE_OUT_OF_MEMORY ? HP_E_NOMEM : HP_E_INVALID,
			      "the request's URL cannot be used: %s", curl_url_strerror(uc));
		goto out;
	}
	if (strlen(host) > HOST_MAX) {
		(void)hp_fail(err, HP_E_INVALID, "the request's host name is longer than %d bytes", HOST_MAX);
		goto out;
	}
	bool tls = !strcmp(scheme, "https");
	if (!tls && strcmp(scheme, "http") != 0) {
		(void)hp_fail(err, HP_E_INVALID, "the request's URL has the scheme %.20s; http and https are possible",
			      scheme);
		goto out;
	}
	*allowed = hp_http_host_allowed(rq, host, (int)strtol(port, NULL, 10), tls ? 443 : 80);
	(void)snprintf(key, key_max, "%s://%s:%s", scheme, host, port);
	rc = 0;
out:
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	return rc;
}
