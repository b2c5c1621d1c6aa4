/* server.h: one worker process as its doors see it.
 *
 * A server is a worker, its store, its HTTP client and server on one loop, with
 * the current definitions and connectors kept fresh. api/ attaches with
 * hp_server_set_handler() and reaches everything through the functions below.
 * A webhook goes:
 *
 *   c  = hp_server_connector(s, source);         NULL: 404
 *   hp_signature_verify(…, hp_server_secret(s, name), …, hp_server_now(s), …)
 *   hp_connector_webhook_event(c, body, …)       id, type, deliveries
 *   hp_server_triggers(s, source, type, fn, …)   which workflows it starts
 *   hp_workflow_check_input / hp_workflow_key    on the given hp_workflow
 *   store->ops->ingest(store, hp_server_engine(s), …) with starts[i].own =
 *       hp_worker_can_take(worker)
 *   in its callback: hp_worker_adopt() for each start with `claimed`,
 *   hp_worker_hint() when something was woken or started without `claimed`
 */
#ifndef HP_RUNTIME_SERVER_H
#define HP_RUNTIME_SERVER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include "net/http_server.h"
#include "runtime/counters.h"
#include "runtime/secret_table.h"
#include "runtime/worker.h"
#include "script/script.h"
#include "store/store.h"

struct hp_server;

struct hp_base_url {
	const char *connector;
	const char *url;
};

struct hp_server_options {
	struct ev_loop *loop;
	const char *database;       /* conninfo as holdpoint_engine */
	const char *sql_database;   /* conninfo as holdpoint_workflow; NULL: no sql states here */
	bool pooled;
	const char *plugins_dir;
	const char *secrets_dir;    /* files NAME → content; NULL: environment only */
	const char *secrets_env;    /* file of NAME=value lines (simulated providers); NULL: none */
	const char *secrets_key;    /* file of keys of the table of secrets; NULL: the table is not used */
	const struct hp_base_url *base_urls; /* overrides: simulated providers */
	int n_base_urls;
	bool allow_private;         /* requests to loopback and private addresses: simulated only */
	int listen_fd;              /* bound and listening; -1: no doors */
	int counters_fd, slot;      /* of the supervisor; -1: alone */
	int slots;
	int64_t lease_us, poll_us, drain_us;
	bool echo, separate_admission;
	void (*on_end)(void *arg, int exit_code); /* drained (0) or fenced (6): leave the loop */
	void *arg;
};

struct hp_server *hp_server_new(const struct hp_server_options *o, struct hp_error *err);
void hp_server_start(struct hp_server *s);
void hp_server_drain(struct hp_server *s); /* quiesce doors, then the worker */
void hp_server_free(struct hp_server *s);

/* api/ hooks in here, before hp_server_start(). Without a handler all is 503. */
void hp_server_set_handler(struct hp_server *s, hp_http_handler fn, void *arg);

struct ev_loop *hp_server_loop(const struct hp_server *s);
struct hp_store *hp_server_store(const struct hp_server *s);
struct hp_worker *hp_server_worker(const struct hp_server *s);
struct hp_counters *hp_server_counters(const struct hp_server *s);
int64_t hp_server_engine(const struct hp_server *s); /* 0: not registered yet */
int64_t hp_server_now(const struct hp_server *s);    /* database time, estimated */

/* Ready: database up, registered, lease good, definitions loaded, not draining.
 * Else *why is one sentence. */
bool hp_server_ready(const struct hp_server *s, const char **why);
bool hp_server_draining(const struct hp_server *s);

/* Current connectors (not pinned) of this installation; NULL: none by that name. */
struct hp_connector *hp_server_connector(const struct hp_server *s, const char *source);
/* Value of a secret by name, NULL: not configured. Never log it. */
const char *hp_server_secret(const struct hp_server *s, const char *name);
/* All its values that a signature may have been made with: current, previous, pending. */
int hp_server_secret_all(const struct hp_server *s, const char *name, const char **out, int max);
/* NULL: this engine has no key for it. */
struct hp_secret_table *hp_server_secret_table(const struct hp_server *s);
/* The current definition of a workflow; NULL: not deployed (or not loaded yet, see
 * hp_server_ready()). Valid until the next turn of the loop. */
struct hp_workflow *hp_server_workflow(const struct hp_server *s, const char *name);
/* Calls fn for each current workflow that a webhook event of this type starts, and
 * returns how many. -1, fn not called: some current definition is not loaded, so it
 * cannot be said whether it would start; answer 503, the sender comes again. */
typedef void (*hp_trigger_fn)(void *arg, const char *workflow, struct hp_workflow *w);
int hp_server_triggers(const struct hp_server *s, const char *source, const char *type,
		       hp_trigger_fn fn, void *arg);
/* Somebody deployed through this process: read the current definitions again now. */
void hp_server_refresh(struct hp_server *s);

#endif
