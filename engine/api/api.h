/* api.h: the HTTP doors of one worker process.
 *
 * Thin by design: a handler authenticates, checks the scope, turns the request
 * into the arguments of one store call, and turns its answer or error into a
 * response. What may be decided is decided in the store.
 */
#ifndef HP_API_API_H
#define HP_API_API_H

#include "base/error.h"

struct hp_server;
struct hp_api;

/* Attaches all routes to the server: after hp_server_new(), before
 * hp_server_start(). NULL: no memory. */
struct hp_api *hp_api_attach(struct hp_server *s, struct hp_error *err) HP_MUST_CHECK;
/* Before hp_server_free(); no call is answered any more. NULL is fine. */
void hp_api_free(struct hp_api *api);

#endif
