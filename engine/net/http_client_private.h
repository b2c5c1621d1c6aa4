/* http_client_private.h: what http_client.c takes from http_request.c and http_address.c. */
#ifndef HP_NET_HTTP_CLIENT_PRIVATE_H
#define HP_NET_HTTP_CLIENT_PRIVATE_H

#include <curl/curl.h>

#include "net/http_client.h"

/* Does an entry of the request's allow-list name this host and port? An entry
 * without a port stands for the scheme's default port only. */
bool hp_http_host_allowed(const struct hp_http_request *rq, const char *host, int port, int default_port);
/* The same question as hp_http_address_is_private() for an address as text;
 * anything that is no address is refused. */
bool hp_http_text_is_private(const char *ip);
/* Method, headers and timeout; the URL is parsed by curl. */
int hp_http_request_check(const struct hp_http_request *rq, struct hp_error *err) HP_MUST_CHECK;
/* Parses the URL once: what is checked here is what curl connects to. *url is the caller's to
 * clean up, also after an error. key: scheme, host and port. */
int hp_http_url(const struct hp_http_request *rq, CURLU **url, bool *allowed, char *key, size_t key_max,
		struct hp_error *err) HP_MUST_CHECK;

#endif
