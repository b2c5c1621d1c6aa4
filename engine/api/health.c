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

/* A label's value: backslash, quote and newline escaped. */
static void label(struct hp_buf *out, const char *s)
{
	for (; s && *s; s++) {
		if (*s == '\n') {
			hp_buf_adds(out, "\\n");
			continue;
		}
		if (*s == '"' || *s == '\\')
			hp_buf_addc(out, '\\');
		hp_buf_addc(out, *s);
	}
}

static void gauge(struct hp_buf *out, const json_t *root, const char *member, const char *series, const char *help)
{
	const json_t *v = json_object_get(root, member);

	if (!json_is_number(v))
		return;
	hp_buf_printf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %.15g\n", series, help, series, series,
		      json_number_value(v));
}

/* {"runs": [{"workflow","status","count"}], "approvals_open", "ready", "oldest_ready_seconds", …} */
static void from_store(struct hp_buf *out, const json_t *root)
{
	const json_t *row;
	size_t i;

	hp_buf_adds(out, "# HELP holdpoint_runs Runs by workflow and status.\n# TYPE holdpoint_runs gauge\n");
	json_array_foreach(json_object_get(root, "runs"), i, row) {
		hp_buf_adds(out, "holdpoint_runs{workflow=\"");
		label(out, hp_json_str(row, "workflow"));
		hp_buf_adds(out, "\",status=\"");
		label(out, hp_json_str(row, "status"));
		hp_buf_printf(out, "\"} %lld\n", (long long)hp_json_int(row, "count", 0));
	}
	gauge(out, root, "approvals_open", "holdpoint_approvals_pending", "Approvals that wait for a decision.");
	gauge(out, root, "ready", "holdpoint_ready_runs", "Runs that no engine has taken yet.");
	gauge(out, root, "oldest_ready_seconds", "holdpoint_oldest_ready_seconds",
	      "For how long the oldest ready run has waited.");
	gauge(out, root, "held", "holdpoint_held_runs", "Runs that wait for an operator.");
	gauge(out, root, "engines", "holdpoint_engines", "Engines with a lease.");
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
	if (root)
		from_store(&out, root);
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
