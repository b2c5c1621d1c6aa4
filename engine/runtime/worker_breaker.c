/* worker_breaker.c: what this worker sees of the endpoints it calls.
 *
 *   reply ─▶ counted here ─▶ breaker_report (the sum of all workers) ─▶ breaker_trip
 *
 * Whether an endpoint is called is decided by the store in the commit that admits; here
 * it is only noticed that it should not be. A worker with failures reports once a second,
 * at once when what it saw alone would be enough; one without reports a few times per
 * window, so that the others' failures are weighed against its successes. What is lost
 * on the way (a dead worker, an unanswered report) is counts of a few seconds.
 *
 * Here too are the budgets of retries: a worker's own, no store is asked.
 */
#include "runtime/worker_private.h"

#include <stdio.h>
#include <string.h>
#include "base/json.h"

#define REPORT_FAILURES (1 * HP_SECOND)
#define REPORT_AGAIN (200 * HP_MSEC) /* not more often than this */

static struct hp_endpoint *endpoint_of(struct hp_worker *w, const struct hp_operation *op)
{
	char name[HP_BREAKER_NAME_MAX];
	int n = w->n_endpoints;

	if (op->own_breaker)
		snprintf(name, sizeof name, "%s.%s", op->connector, op->name);
	else
		snprintf(name, sizeof name, "%s", op->connector);
	for (int i = 0; i < n; i++)
		if (strcmp(w->endpoints[i].name, name) == 0)
			return &w->endpoints[i];
	if (n == HP_ENDPOINTS_MAX)
		return NULL;
	memset(&w->endpoints[n], 0, sizeof w->endpoints[n]);
	memcpy(w->endpoints[n].name, name, strlen(name) + 1);
	w->endpoints[n].w = w;
	w->n_endpoints++;
	return &w->endpoints[n];
}

/* ---- reports ---- */

static void on_trip(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_endpoint *e = arg;
	json_t *answer;
	const char *outcome;

	if (hp_w_closed(e->w))
		return;
	e->asking = false;
	if (err) {
		hp_log_error(HP_WARN, "a breaker could not be opened", err);
		return;
	}
	answer = hp_json_parse(json.p, json.n, "breaker_trip", NULL);
	outcome = hp_json_str(answer, "outcome");
	if (outcome && strcmp(outcome, "done") == 0) {
		HP_CRASH_POINT(BREAKER_STORED);
		++*hp_counterf(e->w->o.counters, "holdpoint_breaker_trips_total{endpoint=\"%s\"}", e->name);
		hp_log(HP_WARN, "a breaker opens", "endpoint", HP_STR(e->name), NULL);
	}
	memset(&e->seen, 0, sizeof e->seen);
	json_decref(answer);
}

static void ask(struct hp_endpoint *e, const char *door, json_t *args, hp_door_cb cb)
{
	struct hp_store *s = e->w->o.store;
	struct hp_buf text;
	struct hp_error err;

	hp_buf_init(&text, 16 * 1024);
	if (args && hp_json_write(&text, args, &err) == 0) {
		e->asking = true;
		s->ops->door(s, door, "engine", hp_buf_bytes(&text), cb, e);
	}
	hp_buf_free(&text);
	json_decref(args);
}

static void on_report(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_endpoint *e = arg;
	struct hp_breaker_window all = {0};
	json_t *answer, *row;
	const char *state;
	char reason[160];
	size_t i;

	if (hp_w_closed(e->w))
		return;
	e->asking = false;
	answer = err ? NULL : hp_json_parse(json.p, json.n, "breaker_report", NULL);
	state = hp_json_str(answer, "state");
	if (!state || strcmp(state, "closed") != 0) {
		if (err)
			hp_log_error(HP_WARN, "what endpoints answered could not be reported", err);
		memset(&e->seen, 0, sizeof e->seen);
		json_decref(answer);
		return;
	}
	all.in_row = hp_json_int(answer, "in_row", 0);
	json_array_foreach(json_object_get(answer, "buckets"), i, row) {
		struct hp_breaker_bucket b = {.number = json_integer_value(json_array_get(row, 0)),
					      .calls = json_integer_value(json_array_get(row, 1)),
					      .failed = json_integer_value(json_array_get(row, 2)),
					      .slow = json_integer_value(json_array_get(row, 3))};

		hp_breaker_add(&all, &b);
	}
	if (hp_breaker_trips(&all, &e->spec, hp_json_int(answer, "now", 0), reason, sizeof reason)) {
		HP_CRASH_POINT(BREAKER_BEFORE);
		ask(e, "breaker_trip",
		    json_pack("{s:s, s:I, s:s, s:I, s:I, s:i}", "breaker", e->name, "version",
			      (json_int_t)hp_json_int(answer, "version", 0), "reason", reason, "open_us",
			      (json_int_t)e->spec.open_us, "slow_us", (json_int_t)e->spec.slow_us, "probes",
			      e->spec.probes),
		    on_trip);
	}
	json_decref(answer);
}

static void report(struct hp_endpoint *e)
{
	json_t *buckets = json_array();

	for (int i = 0; i < HP_BREAKER_BUCKETS; i++) {
		const struct hp_breaker_bucket *b = &e->news.buckets[i];

		if (b->calls > 0)
			json_array_append_new(buckets, json_pack("[I, I, I, I]", (json_int_t)b->number,
								 (json_int_t)b->calls, (json_int_t)b->failed,
								 (json_int_t)b->slow));
	}
	ask(e, "breaker_report",
	    json_pack("{s:s, s:I, s:I, s:b, s:o}", "breaker", e->name, "width",
		      (json_int_t)hp_breaker_width(&e->spec), "in_row", (json_int_t)e->news.in_row, "well",
		      e->well ? 1 : 0, "buckets", buckets),
	    on_report);
	memset(&e->news, 0, sizeof e->news);
	e->well = false;
	e->due_at = 0;
	e->reported_at = hp_w_boot(e->w);
}

int64_t hp_w_breakers_at(const struct hp_worker *w)
{
	int64_t at = INT64_MAX;

	for (int i = 0; i < w->n_endpoints; i++)
		if (!w->endpoints[i].asking && w->endpoints[i].due_at > 0 && w->endpoints[i].due_at < at)
			at = w->endpoints[i].due_at;
	return at;
}

void hp_w_breakers_look(struct hp_worker *w)
{
	int64_t boot = hp_w_boot(w);

	for (int i = 0; i < w->n_endpoints; i++) {
		struct hp_endpoint *e = &w->endpoints[i];

		if (!e->asking && e->due_at > 0 && e->due_at <= boot)
			report(e);
	}
}

/* ---- replies ---- */

static void due(struct hp_endpoint *e, int64_t boot)
{
	int64_t soonest = e->reported_at + REPORT_AGAIN;

	if (boot < soonest)
		boot = soonest;
	if (e->due_at == 0 || boot < e->due_at)
		e->due_at = boot;
}

void hp_w_breaker_note(struct hp_owned *r, struct hp_event *ev, int status)
{
	struct hp_worker *w = r->w;
	const struct hp_operation *op = r->act.op;
	struct hp_endpoint *e = op && op->connector ? endpoint_of(w, op) : NULL;
	bool failed = hp_breaker_failure(ev->outcome, status);
	int64_t took = hp_w_boot(w) - r->effect_at, put_off;
	char reason[160];

	if (!e)
		return;
	if (ev->outcome == HP_CLASS_OK)
		hp_retry_earn(&e->budget);
	if ((ev->outcome == HP_RETRYABLE || ev->outcome == HP_AMBIGUOUS) && !r->act.arm) {
		put_off = hp_retry_take(&e->budget, hp_worker_now(w));
		if (put_off > 0)
			++*hp_counterf(w->o.counters, "holdpoint_retries_put_off_total{endpoint=\"%s\"}", e->name);
		if (put_off > ev->retry_after_us)
			ev->retry_after_us = put_off;
	}
	if (!op->breaker)
		return;
	if (e->spec.window_us != op->breaker->window_us) { /* other buckets: another definition of it */
		memset(&e->seen, 0, sizeof e->seen);
		memset(&e->news, 0, sizeof e->news);
	}
	e->spec = *op->breaker;
	hp_breaker_note(&e->seen, &e->spec, hp_worker_now(w), failed, took);
	hp_breaker_note(&e->news, &e->spec, hp_worker_now(w), failed, took);
	e->well = e->well || !failed;
	if (hp_breaker_trips(&e->seen, &e->spec, hp_worker_now(w), reason, sizeof reason))
		due(e, 0);
	else if (failed || e->spec.slow_us > 0)
		due(e, hp_w_boot(w) + REPORT_FAILURES);
	else
		due(e, e->reported_at + 2 * hp_breaker_width(&e->spec));
}
