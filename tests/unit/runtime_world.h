/* runtime_world.h: a worker with everything around it in one process: the store in
 * memory, a provider behind our HTTP server on loopback, a connector and workflows
 * from Lua. Time is real, so intervals are short and every wait has an end. */
#ifndef RUNTIME_WORLD_H
#define RUNTIME_WORLD_H

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "net/http_client.h"
#include "net/http_server.h"
#include "runtime/counters.h"
#include "runtime/definitions.h"
#include "runtime/files.h"
#include "runtime/worker.h"
#include "store/mem/mem.h"
#include "../lib/suite.h"

#define CALLS_MAX 256
#define PATIENCE (8 * HP_SECOND)

/* What the provider does with a request. */
enum answer { ANSWER_OK, ANSWER_500, ANSWER_400, ANSWER_HANG, ANSWER_RESET };

struct world {
	struct ev_loop *loop;
	int64_t now;
	struct hp_store *store;
	struct hp_counters *counters;
	struct hp_definitions *definitions;
	struct hp_http_client *http;
	struct hp_http_server *server;
	struct hp_worker *worker;
	int fd, port;
	char dir[64], base[64];
	struct ev_prepare clock;
	struct ev_timer tick;
	/* the provider */
	enum answer (*script)(struct world *w, int nth);
	struct hp_http_call *held[CALLS_MAX];
	char keys[CALLS_MAX][80];
	int calls, n_held, most_held;
	bool bad_secret;
	/* the end */
	bool drained, fenced;
	/* a door's answer */
	json_t *reply;
	bool answered;
	struct hp_error err;
	int64_t run;
	struct hp_worker *adopts;
	int sql_runs, sql_committed, sql_aborted;
};

static int64_t skew; /* of the boot clock, set by tests */

static int64_t skewed_boottime(void) { return hp_boottime_us() + skew; }

static const char connector_source[] =
	"local function reply(res)\n"
	"  if res.status == 200 then return ok(res.json) end\n"
	"  if res.status >= 500 then return failure { class = 'retryable', code = 'server_error', message = 'broken' } end\n"
	"  return failure { class = 'terminal', code = 'refused', message = 'no' }\n"
	"end\n"
	"local function op(how)\n"
	"  return { method = 'POST', path = '/things', repeats = how, arg = { what = text },\n"
	"    request = function(arg) return { json = { what = arg.what } } end, reply = reply,\n"
	"    errors = { 'server_error', 'refused' } }\n"
	"end\n"
	"return connector_definition 'toy' {\n"
	"  base = 'https://toy.example.com', hosts = { 'toy.example.com' }, secrets = { 'TOY_KEY' },\n"
	"  headers = { authorization = bearer 'TOY_KEY' },\n"
	"  operations = {\n"
	"    ['things.make'] = op(by_key { header = 'idempotency-key', window = '24h' }),\n"
	"    ['things.once'] = op(never),\n"
	"  },\n"
	"}\n";

static const char *secret(void *arg, const char *name, const char *version)
{
	(void)arg;
	(void)version;
	return strcmp(name, "TOY_KEY") == 0 ? "s3cret" : NULL;
}

static const char *base_url(void *arg, const char *connector)
{
	struct world *w = arg;

	return strcmp(connector, "toy") == 0 ? w->base : NULL;
}

static void write_file(struct world *w, const char *name, const char *text)
{
	char path[256];
	struct hp_error err;

	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	ck_assert_msg(hp_file_replace(path, hp_bytes_of(text), 0600, &err) == 0, "%s", err.message);
}

/* ---- the provider ---- */

static inline void give(struct hp_http_call *c, enum answer a)
{
	if (a == ANSWER_RESET) {
		hp_http_reset(c);
	} else {
		hp_http_reply(c, a == ANSWER_OK ? 200 : a == ANSWER_500 ? 500 : 400, "application/json",
			      hp_bytes_of("{\"n\":1}"));
	}
}

static void on_call(void *arg, struct hp_http_call *c)
{
	struct world *w = arg;
	const char *key = hp_http_call_header(c, "idempotency-key");
	const char *authorization = hp_http_call_header(c, "authorization");
	int nth = w->calls++;
	enum answer a = w->script ? w->script(w, nth) : ANSWER_OK;

	ck_assert_int_lt(nth, CALLS_MAX);
	snprintf(w->keys[nth], sizeof w->keys[nth], "%s", key ? key : "");
	if (!authorization || strcmp(authorization, "Bearer s3cret") != 0)
		w->bad_secret = true;
	if (a != ANSWER_HANG) {
		give(c, a);
		return;
	}
	w->held[w->n_held++] = c;
	if (w->n_held > w->most_held)
		w->most_held = w->n_held;
}

static inline void answer_held(struct world *w, enum answer a)
{
	for (int i = 0; i < w->n_held; i++)
		give(w->held[i], a);
	w->n_held = 0;
}

/* ---- turning the loop ---- */

static void on_clock(struct ev_loop *loop, struct ev_prepare *p, int events)
{
	struct world *w = p->data;

	(void)loop;
	(void)events;
	w->now = hp_now_us();
}

static void on_tick(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
}

static inline bool turn_until(struct world *w, bool (*done)(struct world *w))
{
	int64_t deadline = hp_boottime_us() + PATIENCE;

	while (!done(w)) {
		if (hp_boottime_us() > deadline)
			return false;
		ev_run(w->loop, EVRUN_ONCE);
		w->store->ops->pump(w->store); /* the worker does it too, while it lives */
	}
	return true;
}

static inline void turn_for(struct world *w, int64_t us)
{
	int64_t until = hp_boottime_us() + us;

	while (hp_boottime_us() < until) {
		ev_run(w->loop, EVRUN_ONCE);
		w->store->ops->pump(w->store);
	}
}

/* ---- doors ---- */

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct world *w = arg;
	struct hp_error why;

	w->answered = true;
	if (err)
		w->err = *err;
	else
		w->reply = hp_json_parse(json.p, json.n, "reply", &why);
}

static bool has_answer(struct world *w) { return w->answered; }

/* NULL: refused, w->err says why. Valid until the next door. */
static inline json_t *door(struct world *w, const char *name, const char *fmt, ...)
{
	char args[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(args, sizeof args, fmt, ap);
	va_end(ap);
	json_decref(w->reply);
	w->reply = NULL;
	w->answered = false;
	w->store->ops->door(w->store, name, "alice", hp_bytes_of(args), on_door, w);
	ck_assert(turn_until(w, has_answer));
	return w->reply;
}

static inline const char *status_of(struct world *w, int64_t run)
{
	json_t *r = door(w, "run", "{\"run\":%lld}", (long long)run);

	ck_assert_msg(r != NULL, "%s", w->err.message);
	return json_string_value(hp_json_path(r, "run.status"));
}

static inline int64_t start_run(struct world *w, const char *workflow)
{
	json_t *r = door(w, "start", "{\"workflow\":\"%s\",\"input\":{\"what\":\"tea\"}}", workflow);

	ck_assert_msg(r != NULL, "%s", w->err.message);
	w->run = hp_json_int(r, "run", 0);
	if (w->worker)
		hp_worker_hint(w->worker);
	return w->run;
}

static bool is_over(struct world *w)
{
	const char *s = status_of(w, w->run);

	return strcmp(s, "running") != 0 && strcmp(s, "waiting") != 0;
}

static inline void ends_as(struct world *w, const char *status)
{
	bool over = turn_until(w, is_over);
	const char *is = status_of(w, w->run);

	ck_assert_msg(over, "run %lld did not end: it is %s", (long long)w->run, is);
	ck_assert_msg(strcmp(is, status) == 0, "run %lld is %s, not %s: %s", (long long)w->run, is, status,
		      json_dumps(w->reply, 0));
}

static inline void held_with(struct world *w, const char *code)
{
	ends_as(w, "held");
	ck_assert_str_eq(json_string_value(hp_json_path(door(w, "run", "{\"run\":%lld}", (long long)w->run), "run.code")), code);
}

/* How many rows of the run's history have this move. */
static inline int moves(struct world *w, const char *move)
{
	json_t *r = door(w, "history", "{\"run\":%lld}", (long long)w->run), *row;
	size_t i;
	int n = 0;

	json_array_foreach(json_object_get(r, "history"), i, row)
		n += strcmp(hp_json_str(row, "move"), move) == 0;
	return n;
}

static inline void all_keys_equal(struct world *w)
{
	for (int i = 0; i < w->calls; i++) {
		ck_assert_int_gt((int)strlen(w->keys[i]), 10);
		ck_assert_str_eq(w->keys[i], w->keys[0]);
	}
}

/* ---- making and ending ---- */

static void on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	struct world *w = arg;

	(void)now;
	ck_assert_msg(!err, "%s", err ? err->message : "");
	w->answered = true;
}

static inline void deploy_bundle(struct world *w, const char *name, struct hp_bytes bundle, struct hp_bytes summary)
{
	struct hp_bundle b = {.workflow = name, .bundle = bundle, .summary = summary};

	hp_bundle_digest(bundle, b.digest);
	w->answered = false;
	w->store->ops->deploy(w->store, &b, on_ack, w);
	ck_assert(turn_until(w, has_answer));
}

/* summary NULL: the definition's own. */
static inline void deploy_as(struct world *w, const char *name, const char *source, const char *said)
{
	struct hp_buf bundle, summary;
	struct hp_workflow *x;
	struct hp_error err;
	char file[256], base[64];

	snprintf(base, sizeof base, "%s.lua", name);
	write_file(w, base, source);
	snprintf(file, sizeof file, "%s/%s", w->dir, base);
	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	hp_buf_init(&summary, HP_BUNDLE_MAX);
	ck_assert_msg(hp_bundle_build(file, w->dir, &bundle, &err) == 0, "%s", err.message);
	x = hp_workflow_load(hp_buf_bytes(&bundle), &err);
	ck_assert_msg(x != NULL, "%s", err.message);
	ck_assert(hp_workflow_summary(x, &summary, &err) == 0);
	deploy_bundle(w, name, hp_buf_bytes(&bundle), said ? hp_bytes_of(said) : hp_buf_bytes(&summary));
	hp_workflow_free(x);
	hp_buf_free(&bundle);
	hp_buf_free(&summary);
}

static inline void deploy(struct world *w, const char *name, const char *source)
{
	deploy_as(w, name, source, NULL);
}

static void on_fenced(void *arg, const struct hp_error *err)
{
	(void)err;
	((struct world *)arg)->fenced = true;
}

static void on_drained(void *arg)
{
	((struct world *)arg)->drained = true;
}

static inline struct hp_worker *new_worker(struct world *w, int64_t lease_us)
{
	struct hp_error err;
	struct hp_worker_options o = {.loop = w->loop,
				      .store = w->store,
				      .definitions = w->definitions,
				      .http = w->http,
				      .counters = w->counters,
				      .env = {secret, base_url, w},
				      .host = "test",
				      .lease_us = lease_us,
				      .poll_us = 20 * HP_MSEC,
				      .drain_us = 2 * HP_SECOND,
				      .echo = true,
				      .boottime = skewed_boottime,
				      .on_fenced = on_fenced,
				      .on_drained = on_drained,
				      .arg = w};
	struct hp_worker *x = hp_worker_new(&o, &err);

	ck_assert_msg(x != NULL, "%s", err.message);
	return x;
}

static bool is_registered(struct world *w) { return hp_worker_engine(w->worker) != 0; }

static inline void world_open(struct world *w)
{
	struct hp_http_server_options so = {.handler = on_call, .arg = w};
	struct hp_error err;
	char plugin[128];

	memset(w, 0, sizeof *w);
	skew = 0;
	hp_log_init("test", HP_ERROR + 1);
	w->loop = ev_loop_new(0);
	w->now = hp_now_us();
	snprintf(w->dir, sizeof w->dir, "/tmp/holdpoint-worker.XXXXXX");
	ck_assert(mkdtemp(w->dir) != NULL);
	snprintf(plugin, sizeof plugin, "%s/toy", w->dir);
	ck_assert_int_eq(mkdir(plugin, 0700), 0);
	write_file(w, "toy/connector.lua", connector_source);
	w->fd = hp_http_listen("127.0.0.1:0", &w->port, &err);
	ck_assert_msg(w->fd >= 0, "%s", err.message);
	snprintf(w->base, sizeof w->base, "http://127.0.0.1:%d", w->port);
	so.listen_fd = w->fd;
	w->server = hp_http_server_new(w->loop, &so, &err);
	w->store = hp_store_mem_new(&w->now, &err);
	w->counters = hp_counters_open(-1, 0, &err);
	w->definitions = hp_definitions_new(w->store, &err);
	w->http = hp_http_client_new(w->loop, true, &err);
	ck_assert(w->server && w->store && w->counters && w->definitions && w->http);
	ev_prepare_init(&w->clock, on_clock);
	ev_set_priority(&w->clock, EV_MAXPRI);
	w->clock.data = w;
	ev_prepare_start(w->loop, &w->clock);
	ev_timer_init(&w->tick, on_tick, 0.005, 0.005);
	ev_timer_start(w->loop, &w->tick);
}

static inline void world_start(struct world *w, int64_t lease_us)
{
	w->worker = new_worker(w, lease_us);
	hp_worker_start(w->worker);
	ck_assert(turn_until(w, is_registered));
}

static inline void world_close(struct world *w)
{
	struct hp_error err;

	ck_assert(!w->bad_secret);
	answer_held(w, ANSWER_500);
	hp_http_server_free(w->server);
	w->store->ops->free(w->store);
	hp_worker_free(w->worker);
	hp_definitions_free(w->definitions);
	hp_http_client_free(w->http);
	hp_counters_close(w->counters);
	json_decref(w->reply);
	close(w->fd);
	ck_assert(hp_directory_remove(w->dir, &err) == 0);
	ev_loop_destroy(w->loop);
}

#endif
