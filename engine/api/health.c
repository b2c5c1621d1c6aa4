/* health.c: is it alive, may traffic come, and the numbers. */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>

#define METRICS_MAX ((size_t)1024 * 1024)

static const char TEXT_TYPE[] = "text/plain; charset=utf-8";
static const char METRICS_TYPE[] = "text/plain; version=0.0.4; charset=utf-8";

/* Depends on nothing: a supervisor that restarts us because the database is away
 * would only make things worse. */
void api_livez(struct api_request *rq)
{
	api_answer(rq, 200, TEXT_TYPE, hp_bytes_of("alive\n"));
}

void api_readyz(struct api_request *rq)
{
	const char *why = "";
	char line[256];

	if (hp_server_ready(rq->api->server, &why)) {
		api_answer(rq, 200, TEXT_TYPE, hp_bytes_of("ready\n"));
		return;
	}
	(void)snprintf(line, sizeof line, "not ready: %.200s\n", why);
	api_answer(rq, 503, TEXT_TYPE, hp_bytes_of(line));
}

/* ---- metrics ---- */

static void gauge(struct hp_buf *out, const json_t *root, const char *member, const char *series, const char *help,
		  double scale)
{
	const json_t *v = json_object_get(root, member);

	if (!json_is_number(v))
		return;
	hp_buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %.15g\n", series, help, series, series,
		      json_number_value(v) * scale);
}

/* In the order in which a breaker gets worse, and then what people have forced. */
static void breakers(struct hp_buf *out, const json_t *rows)
{
	static const char *const states[] = { "closed", "half_open", "open", "forced_open", "forced_closed" };
	const json_t *row;
	size_t i, s;

	hp_buf_adds(out, "# HELP holdpoint_circuit_state 0 closed, 1 half-open, 2 open, 3 forced open, 4 forced closed.\n"
			 "# TYPE holdpoint_circuit_state gauge\n");
	json_array_foreach(rows, i, row) {
		const char *state = hp_json_str(row, "state");

		for (s = 0; s + 1 < sizeof states / sizeof *states && strcmp(state, states[s]) != 0;)
			s++;
		hp_buf_printf(out, "holdpoint_circuit_state{connector=\"%s\"} %zu\n", hp_json_str(row, "breaker"), s);
	}
	hp_buf_adds(out, "# HELP holdpoint_circuit_waiting Runs that wait behind the breaker.\n"
			 "# TYPE holdpoint_circuit_waiting gauge\n");
	json_array_foreach(rows, i, row)
		hp_buf_printf(out, "holdpoint_circuit_waiting{connector=\"%s\"} %lld\n", hp_json_str(row, "breaker"),
			      (long long)hp_json_int(row, "waiting", 0));
	hp_buf_adds(out, "# HELP holdpoint_circuit_changes How often the breaker has changed its state.\n"
			 "# TYPE holdpoint_circuit_changes gauge\n");
	json_array_foreach(rows, i, row)
		hp_buf_printf(out, "holdpoint_circuit_changes{connector=\"%s\"} %lld\n", hp_json_str(row, "breaker"),
			      (long long)hp_json_int(row, "changes", 0));
}

static void from_store(struct hp_buf *out, const json_t *root)
{
	gauge(out, root, "approvals_open", "holdpoint_approvals_pending", "Approvals that wait for a decision.", 1);
	gauge(out, root, "held", "holdpoint_runs_held", "Runs that wait for an operator.", 1);
	gauge(out, root, "paused", "holdpoint_runs_paused", "Runs that somebody has paused.", 1);
	gauge(out, root, "ready", "holdpoint_runs_ready", "Runs that could move and no engine has taken yet.", 1);
	gauge(out, root, "owned", "holdpoint_runs_owned", "Runs in the hands of an engine.", 1);
	gauge(out, root, "oldest_ready_us", "holdpoint_oldest_ready_seconds",
	      "For how long the oldest ready run has waited.", 1e-6);
	gauge(out, root, "timers_due", "holdpoint_timers_due", "Timers that are due and not yet taken.", 1);
	gauge(out, root, "engines_live", "holdpoint_engines_live", "Engines with a good lease.", 1);
	gauge(out, root, "engines_dead", "holdpoint_engines_dead", "Engines that were marked dead.", 1);
	gauge(out, root, "schedules", "holdpoint_schedules", "Schedules of the current definitions.", 1);
	gauge(out, root, "schedules_paused", "holdpoint_schedules_paused", "Schedules that an operator has paused.", 1);
	gauge(out, root, "schedule_ticks_started", "holdpoint_schedule_ticks_started",
	      "Runs that these schedules have started so far.", 1);
	gauge(out, root, "schedule_ticks_skipped", "holdpoint_schedule_ticks_skipped",
	      "Ticks that these schedules have given up so far (missed, or the run before was still going).", 1);
	gauge(out, root, "schedule_late_us", "holdpoint_schedule_late_seconds",
	      "How late the last tick of the latest schedule was, its jitter included.", 1e-6);
	breakers(out, json_object_get(root, "breakers"));
	gauge(out, root, "children_running", "holdpoint_children_running",
	      "Children that run and each wait for (counted up to 100000).", 1);
	gauge(out, root, "runs_started", "holdpoint_run_last_id", "The number of the newest run.", 1);
}

/* A number of every budget. */
static void of_budgets(struct hp_buf *out, const json_t *budgets, const char *member, const char *series, const char *help)
{
	const json_t *b;
	size_t i;

	if (json_array_size(budgets) == 0)
		return;
	hp_buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", series, help, series);
	json_array_foreach(budgets, i, b) /* names are letters, digits and _ */
		hp_buf_printf(out, "%s{budget=\"%s\"} %lld\n", series, hp_json_str(b, "budget"),
			      (long long)hp_json_int(b, member, 0));
}

static void limits(struct hp_buf *out, const json_t *root)
{
	const json_t *budgets = json_object_get(root, "budgets");

	gauge(out, root, "starts_waiting", "holdpoint_starts_waiting",
	      "Runs that may not start yet: exclusive, concurrency, fair.", 1);
	gauge(out, root, "calls_waiting", "holdpoint_calls_waiting", "Runs that wait for a place of a call or a connector.", 1);
	of_budgets(out, budgets, "limit", "holdpoint_budget_limit", "How much there is in a window.");
	of_budgets(out, budgets, "waiting", "holdpoint_budget_waiting", "Runs that wait for it.");
}

static void write_metrics(struct api_request *rq, const json_t *root)
{
	struct hp_buf out;
	struct hp_error err;

	hp_buf_init(&out, METRICS_MAX);
	hp_buf_printf(&out,
		      "# HELP holdpoint_build_info The version that runs.\n# TYPE holdpoint_build_info gauge\n"
		      "holdpoint_build_info{version=\"%s\"} 1\n"
		      "# HELP holdpoint_database_up Did the database answer this scrape?\n"
		      "# TYPE holdpoint_database_up gauge\nholdpoint_database_up %d\n",
		      HP_VERSION, root != NULL);
	if (root) {
		from_store(&out, root);
		limits(&out, root);
	}
	if (!rq->api->closing)
		hp_counters_render(hp_server_counters(rq->api->server), &out);
	if (hp_buf_check(&out, "metrics", &err) < 0)
		api_answer_error(rq, &err);
	else
		api_answer(rq, 200, METRICS_TYPE, hp_buf_bytes(&out));
	hp_buf_free(&out);
}

static void on_metrics(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct api_request *rq = arg;
	json_t *root = err ? NULL : hp_json_parse(json.p, json.n, "metrics", NULL);

	if (err)
		hp_log_error(HP_WARN, "no metrics from the database", err);
	write_metrics(rq, root);
	json_decref(root);
}

void api_metrics(struct api_request *rq)
{
	api_store(rq)->ops->door(api_store(rq), "metrics", "", hp_bytes_of("{}"), on_metrics, rq);
}
