/* server.c: one worker process: the parts, put together and taken apart.
 *
 * Current definitions are read from the store every CURRENT_EVERY and whenever a
 * door deployed. Until a new one is loaded the old one stays current, so a deploy
 * never makes the doors blind; one that cannot be loaded makes this process not
 * ready and its webhooks 503, because a lost start is worse than a late one.
 */
#include "runtime/server.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/process.h"
#include "net/http_client.h"
#include "runtime/definitions.h"
#include "runtime/files.h"
#include "runtime/secrets.h"
#include "runtime/setup.h"

#define CURRENT_EVERY 10.0 /* seconds */
#define CURRENT_AGAIN 0.5
#define CONNECTORS_MAX 128
#define EXIT_FENCED 6

/* The current definition of one workflow. */
struct current {
	struct hp_list node;
	struct hp_server *s;
	char name[HP_NAME_MAX + 1];
	uint8_t wanted[HP_SHA256_LEN]; /* by the store */
	struct hp_loaded *loaded;      /* NULL: none yet */
	uint8_t have[HP_SHA256_LEN];   /* of `loaded` */
	bool loading;
	bool listed;                   /* seen in the last answer of the store */
};

struct connector {
	char name[HP_NAME_MAX + 1];
	struct hp_connector *connector;
};

struct hp_server {
	struct hp_server_options o;
	struct hp_store *store;
	struct hp_http_client *http;
	struct hp_plugins *plugins;    /* NULL: no plugins directory, or not the default loop */
	struct hp_http_server *doors;  /* NULL: none */
	struct hp_counters *counters;
	struct hp_secrets *secrets;
	struct hp_secret_table *table; /* NULL: no key for it */
	struct hp_definitions *definitions;
	struct hp_worker *worker;
	hp_http_handler handler;
	void *handler_arg;

	struct hp_list currents;
	bool currents_known;           /* the store has answered once */
	bool asking;
	struct ev_timer refresh;
	struct connector connectors[CONNECTORS_MAX];
	int n_connectors;

	bool started;                  /* the worker */
	bool draining;
	struct ev_timer closing;       /* waits for answers to clients while draining */
};

/* ---- readers ---- */

struct ev_loop *hp_server_loop(const struct hp_server *s) { return s->o.loop; }
struct hp_store *hp_server_store(const struct hp_server *s) { return s->store; }
struct hp_worker *hp_server_worker(const struct hp_server *s) { return s->worker; }
struct hp_counters *hp_server_counters(const struct hp_server *s) { return s->counters; }
int64_t hp_server_engine(const struct hp_server *s) { return hp_worker_engine(s->worker); }
int64_t hp_server_now(const struct hp_server *s) { return hp_worker_now(s->worker); }
bool hp_server_draining(const struct hp_server *s) { return s->draining; }

const char *hp_server_secret(const struct hp_server *s, const char *name)
{
	return hp_secrets_get(s->secrets, name);
}

struct hp_connector *hp_server_connector(const struct hp_server *s, const char *source)
{
	for (int i = 0; i < s->n_connectors; i++)
		if (strcmp(s->connectors[i].name, source) == 0)
			return s->connectors[i].connector;
	return NULL;
}

int hp_server_secret_all(const struct hp_server *s, const char *name, const char **out, int max)
{
	return hp_secrets_all(s->secrets, name, out, max);
}

struct hp_secret_table *hp_server_secret_table(const struct hp_server *s)
{
	return s->table;
}

static const char *env_secret(void *arg, const char *name, const char *version)
{
	const struct hp_server *s = arg;

	return hp_secrets_version(s->secrets, name, version);
}

static const char *env_base_url(void *arg, const char *connector)
{
	const struct hp_server *s = arg;

	for (int i = 0; i < s->o.n_base_urls; i++)
		if (strcmp(s->o.base_urls[i].connector, connector) == 0)
			return s->o.base_urls[i].url;
	return NULL;
}

/* ---- current definitions ---- */

static struct current *current_find(const struct hp_server *s, const char *name)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &s->currents) {
		struct current *c = hp_list_entry(it, struct current, node);

		if (strcmp(c->name, name) == 0)
			return c;
	}
	return NULL;
}

static void current_free(struct current *c)
{
	hp_list_del(&c->node);
	hp_loaded_drop(c->loaded);
	hp_free(c);
}

static void on_current_loaded(void *arg, struct hp_loaded *loaded, const struct hp_error *err)
{
	struct current *c = arg;
	const struct hp_definition *d;

	c->loading = false;
	if (!loaded) {
		hp_log(HP_ERROR, "a current definition cannot be loaded: its triggers are closed", "workflow",
		       HP_STR(c->name), "error", HP_STR(err->message), NULL);
		return;
	}
	d = hp_workflow_definition(hp_loaded_workflow(loaded));
	hp_loaded_drop(c->loaded);
	c->loaded = loaded;
	memcpy(c->have, d->digest, sizeof c->have);
	/* A newer one may have become current while this one was loading. */
}

static bool up_to_date(const struct current *c)
{
	return c->loaded && memcmp(c->have, c->wanted, sizeof c->have) == 0;
}

static void current_set(struct hp_server *s, const struct hp_bundle *b)
{
	struct current *c = current_find(s, b->workflow);

	if (!c) {
		c = hp_calloc(1, sizeof *c);
		if (!c)
			return; /* the next refresh tries again */
		c->s = s;
		snprintf(c->name, sizeof c->name, "%s", b->workflow);
		hp_list_add_tail(&s->currents, &c->node);
	}
	c->listed = true;
	memcpy(c->wanted, b->digest, sizeof c->wanted);
	if (!up_to_date(c) && !c->loading) {
		c->loading = true;
		hp_definitions_get(s->definitions, c->wanted, on_current_loaded, c);
	}
}

static void refresh_in(struct hp_server *s, double seconds)
{
	ev_timer_stop(s->o.loop, &s->refresh);
	ev_timer_set(&s->refresh, seconds, 0.);
	ev_timer_start(s->o.loop, &s->refresh);
}

static bool all_up_to_date(const struct hp_server *s)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &s->currents)
		if (!up_to_date(hp_list_entry(it, struct current, node)))
			return false;
	return s->currents_known;
}

static void on_current(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	struct hp_server *s = arg;
	struct hp_list *it, *tmp;

	s->asking = false;
	if (err) {
		refresh_in(s, CURRENT_AGAIN);
		return;
	}
	hp_list_each(it, tmp, &s->currents)
		hp_list_entry(it, struct current, node)->listed = false;
	for (int i = 0; i < n; i++)
		current_set(s, &b[i]);
	hp_list_each(it, tmp, &s->currents) {
		struct current *c = hp_list_entry(it, struct current, node);

		if (!c->listed && !c->loading)
			current_free(c);
	}
	s->currents_known = true;
	refresh_in(s, CURRENT_EVERY);
}

static void on_refresh(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_server *s = t->data;

	(void)loop;
	(void)events;
	hp_server_refresh(s);
}

void hp_server_refresh(struct hp_server *s)
{
	if (s->asking)
		return;
	s->asking = true;
	s->store->ops->current(s->store, on_current, s);
}

struct hp_workflow *hp_server_workflow(const struct hp_server *s, const char *name)
{
	const struct current *c = current_find(s, name);

	return c && c->loaded ? hp_loaded_workflow(c->loaded) : NULL;
}

static bool starts(const struct hp_definition *d, const char *source, const char *type)
{
	for (int i = 0; i < d->n_triggers; i++) {
		const struct hp_trigger *t = &d->triggers[i];

		if (strcmp(t->source, source) != 0)
			continue;
		for (int k = 0; k < t->n_events; k++)
			if (strcmp(t->events[k], type) == 0)
				return true;
	}
	return false;
}

int hp_server_triggers(const struct hp_server *s, const char *source, const char *type,
		       hp_trigger_fn fn, void *arg)
{
	struct hp_list *it, *tmp;
	int n = 0;

	if (!s->currents_known)
		return -1;
	hp_list_each(it, tmp, &s->currents)
		if (!hp_list_entry(it, struct current, node)->loaded)
			return -1;
	hp_list_each(it, tmp, &s->currents) {
		struct current *c = hp_list_entry(it, struct current, node);
		struct hp_workflow *w = hp_loaded_workflow(c->loaded);

		if (!starts(hp_workflow_definition(w), source, type))
			continue;
		n++;
		fn(arg, c->name, w);
	}
	return n;
}

bool hp_server_ready(const struct hp_server *s, const char **why)
{
	*why = s->store->ops->refuses ? s->store->ops->refuses(s->store) : NULL;
	if (s->draining)
		*why = "this worker is ending";
	else if (!s->store->ops->up(s->store))
		*why = "the database cannot be reached";
	else if (hp_worker_engine(s->worker) == 0)
		*why = "the engine is not registered yet";
	else if (!hp_worker_lease_good(s->worker))
		*why = "the engine's lease was not prolonged in time";
	else if (!all_up_to_date(s))
		*why = "a current definition is not loaded";
	return *why == NULL;
}

/* ---- doors ---- */

static void on_call(void *arg, struct hp_http_call *call)
{
	static const char closed[] =
		"{\"error\":{\"code\":\"unavailable\",\"message\":\"this worker has no doors\"}}";
	struct hp_server *s = arg;

	if (s->handler)
		s->handler(s->handler_arg, call);
	else
		hp_http_reply(call, 503, "application/json", hp_bytes_of(closed));
}

void hp_server_set_handler(struct hp_server *s, hp_http_handler fn, void *arg)
{
	s->handler = fn;
	s->handler_arg = arg;
}

/* ---- end ---- */

/* Clients that have been heard get their answer before the process goes. */
static void on_closing(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct hp_server *s = t->data;

	(void)events;
	if (s->doors && hp_http_server_open_calls(s->doors) > 0)
		return;
	ev_timer_stop(loop, t);
	s->o.on_end(s->o.arg, 0);
}

static void on_drained(void *arg)
{
	struct hp_server *s = arg;

	ev_timer_set(&s->closing, 0., 0.02);
	ev_timer_start(s->o.loop, &s->closing);
}

static void on_fenced(void *arg, const struct hp_error *err)
{
	struct hp_server *s = arg;

	(void)err;
	s->o.on_end(s->o.arg, EXIT_FENCED);
}

static void start_worker(struct hp_server *s)
{
	if (!s->started)
		hp_worker_start(s->worker);
	s->started = true;
}

void hp_server_drain(struct hp_server *s)
{
	if (s->draining)
		return;
	s->draining = true;
	if (s->doors) {
		hp_http_server_quiesce(s->doors);
		/* If our supervisor is gone, the next one wants this address now. */
		close(s->o.listen_fd);
	}
	start_worker(s); /* only one that lives can end in order */
	hp_worker_drain(s->worker);
}

/* ---- making ---- */

static int load_connector(struct hp_server *s, const char *name, struct hp_error *err)
{
	struct connector *c = &s->connectors[s->n_connectors];
	char path[1024];

	snprintf(path, sizeof path, "%s/%s/connector.lua", s->o.plugins_dir, name);
	if (name[0] == '.' || !hp_file_exists(path))
		return 0;
	if (strlen(name) > HP_NAME_MAX || s->n_connectors == CONNECTORS_MAX)
		return hp_fail(err, HP_E_LIMIT, "connector %s: the name is too long or there are more than %d",
			       name, CONNECTORS_MAX);
	c->connector = hp_connector_load(name, s->o.plugins_dir, err);
	if (!c->connector)
		return -1;
	memcpy(c->name, name, strlen(name) + 1);
	s->n_connectors++;
	return 0;
}

static int load_connectors(struct hp_server *s, struct hp_error *err)
{
	DIR *d = s->o.plugins_dir ? opendir(s->o.plugins_dir) : NULL;
	const struct dirent *e;
	int rc = 0;

	if (!d && s->o.plugins_dir)
		return hp_fail(err, HP_E_IO, "cannot read the plugins in %s: %s", s->o.plugins_dir,
			       strerror(errno));
	while (d && rc == 0 && (e = readdir(d)))
		rc = load_connector(s, e->d_name, err);
	if (d)
		closedir(d);
	return rc;
}

static int open_store(struct hp_server *s, struct hp_error *err)
{
	struct hp_store_pg_options o = {.conninfo = s->o.database,
					.sql_conninfo = s->o.sql_database,
					.pooled = s->o.pooled,
					.application = "holdpoint worker"};

	s->store = hp_store_pg_new(s->o.loop, &o, err);
	return s->store ? 0 : -1;
}

static int open_worker(struct hp_server *s, struct hp_error *err)
{
	struct hp_worker_options o = {.loop = s->o.loop,
				      .store = s->store,
				      .definitions = s->definitions,
				      .http = s->http,
				      .counters = s->counters,
				      .plugins = s->plugins,
				      .env = {env_secret, env_base_url, s},
				      .secrets = s->table,
				      .lease_us = s->o.lease_us,
				      .poll_us = s->o.poll_us,
				      .slots = s->o.slots,
				      .drain_us = s->o.drain_us,
				      .echo = s->o.echo,
				      .separate_admission = s->o.separate_admission,
				      .on_fenced = on_fenced,
				      .on_drained = on_drained,
				      .arg = s};

	s->worker = hp_worker_new(&o, err);
	return s->worker ? 0 : -1;
}

static void on_secrets(void *arg)
{
	start_worker(arg);
}

static int open_table(struct hp_server *s, struct hp_error *err)
{
	struct hp_secret_table_options o = {.loop = s->o.loop,
					    .store = s->store,
					    .key_file = s->o.secrets_key,
					    .counters = s->counters,
					    .on_ready = on_secrets,
					    .arg = s};

	if (!s->o.secrets_key)
		return 0;
	s->table = hp_secret_table_new(&o, err);
	if (!s->table)
		return -1;
	hp_secrets_use_table(s->secrets, s->table);
	return 0;
}

/* Calls wait for their process to start: the lease is looked at when they leave. */
static bool plugins_may_send(void *arg)
{
	const struct hp_server *s = arg;

	return s->worker && hp_worker_lease_good(s->worker);
}

/* Children are reaped on the default loop only: there is no other in a worker process. */
static int open_plugins(struct hp_server *s, struct hp_error *err)
{
	struct hp_plugins_options o = {.loop = s->o.loop, .dir = s->o.plugins_dir, .counters = s->counters,
				       .may_send = plugins_may_send, .arg = s};

	if (!s->o.plugins_dir || !ev_is_default_loop(s->o.loop))
		return 0;
	s->plugins = hp_plugins_new(&o, err);
	return s->plugins ? 0 : -1;
}

static int open_parts(struct hp_server *s, struct hp_error *err)
{
	s->counters = hp_counters_open(s->o.counters_fd, s->o.slot, err);
	if (!s->counters)
		return -1;
	s->secrets = hp_secrets_new(s->o.secrets_dir, s->o.secrets_env, err);
	if (!s->secrets || load_connectors(s, err) != 0 || open_store(s, err) != 0 || open_table(s, err) != 0)
		return -1;
	s->definitions = hp_definitions_new(s->store, err);
	s->http = hp_http_client_new(s->o.loop, s->o.allow_private, err);
	if (!s->definitions || !s->http || open_plugins(s, err) != 0)
		return -1;
	return open_worker(s, err);
}

struct hp_server *hp_server_new(const struct hp_server_options *o, struct hp_error *err)
{
	struct hp_server *s = hp_calloc(1, sizeof *s);

	if (!s) {
		hp_fail(err, HP_E_NOMEM, "server: no memory");
		return NULL;
	}
	hp_process_close_memory(); /* secrets and keys will be in it */
	s->o = *o;
	hp_list_init(&s->currents);
	ev_timer_init(&s->refresh, on_refresh, 0., 0.);
	ev_timer_init(&s->closing, on_closing, 0., 0.);
	s->refresh.data = s->closing.data = s;
	if (open_parts(s, err) == 0)
		return s;
	hp_server_free(s);
	return NULL;
}

/* The doors open only now: a call must find a handler. */
static void open_doors(struct hp_server *s)
{
	struct hp_http_server_options o = {.listen_fd = s->o.listen_fd, .handler = on_call, .arg = s};
	struct hp_error err;

	if (s->o.listen_fd < 0)
		return;
	s->doors = hp_http_server_new(s->o.loop, &o, &err);
	if (!s->doors) {
		hp_log_error(HP_ERROR, "the doors cannot be opened", &err);
		s->o.on_end(s->o.arg, hp_code_exit(err.code));
	}
}

void hp_server_start(struct hp_server *s)
{
	open_doors(s);
	/* A run must not find a secret missing because the table was not read yet. */
	if (s->table)
		hp_secret_table_start(s->table);
	else
		start_worker(s);
	hp_server_refresh(s);
}

void hp_server_free(struct hp_server *s)
{
	if (!s)
		return;
	hp_http_server_free(s->doors);
	hp_worker_close(s->worker);
	hp_secret_table_close(s->table);
	hp_store_close(s->store, s->o.loop);
	ev_timer_stop(s->o.loop, &s->refresh);
	ev_timer_stop(s->o.loop, &s->closing);
	while (!hp_list_empty(&s->currents))
		current_free(hp_list_entry(s->currents.next, struct current, node));
	hp_worker_free(s->worker);
	hp_definitions_free(s->definitions);
	hp_http_client_free(s->http);
	hp_plugins_free(s->plugins);
	for (int i = 0; i < s->n_connectors; i++)
		hp_connector_free(s->connectors[i].connector);
	hp_secrets_free(s->secrets);
	hp_secret_table_free(s->table);
	hp_counters_close(s->counters);
	hp_free(s);
}
