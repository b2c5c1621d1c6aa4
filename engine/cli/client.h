/* client.h: the commands' side of the API. One request at a time, blocking. */
#ifndef HP_CLI_CLIENT_H
#define HP_CLI_CLIENT_H

#include <jansson.h>
#include <limits.h>
#include "base/buf.h"
#include "cli/options.h"

struct cli_client;

/* Finds the address and the token. */
struct cli_client *cli_client_open(const struct cli_args *a, struct hp_error *err);
void cli_client_free(struct cli_client *c);
/* body NULL: GET, else POST. *reply: owner is the caller. An error answer of the
 * API becomes err with the same code. */
int cli_request(struct cli_client *c, const char *path, const json_t *body, json_t **reply,
		struct hp_error *err) HP_MUST_CHECK;
/* One thing by its name, the command's first argument: GET (body NULL) or POST of
 * base + that name + tail, with the option `query` (NULL: none) as a parameter. Drops
 * body. Opens and closes a client of its own. */
int cli_request_one(const struct cli_args *a, const char *base, const char *tail, const char *query, json_t *body,
		    json_t **reply, struct hp_error *err) HP_MUST_CHECK;
/* The option `name` as a text of body; nothing if it was not given. */
int cli_put_option(const struct cli_args *a, const char *name, json_t *body, struct hp_error *err) HP_MUST_CHECK;
/* {"reason"} of --reason; NULL with err when it is missing or not UTF-8. `kept` says in the
 * hint what becomes of it ("it is kept in the history"); NULL: it need not be given. Owner: caller. */
json_t *cli_reason_body(const struct cli_args *a, const char *kept, struct hp_error *err);
/* Waits, but no longer than this. */
void cli_pause(int64_t us);

/* The data directory: --data, $HOLDPOINT_DATA, ./.holdpoint, /var/lib/holdpoint/data.
 * NULL: there is none. */
const char *cli_data_dir(const struct cli_args *a, char out[PATH_MAX]);
/* The private PostgreSQL that serves the data directory now, as its superuser. */
int cli_private_database(const struct cli_args *a, char *out, size_t n, struct hp_error *err) HP_MUST_CHECK;
/* "path?a=b&c=d": appends one parameter, percent-encoded; value NULL: nothing. */
void cli_query(struct hp_buf *path, const char *name, const char *value);
/* "2h" means two hours ago, as microseconds in buf; anything else, also NULL, is given
 * back as it is. */
const char *cli_time_word(const char *value, char *buf, size_t n);

#endif
