/* doors.c: a route that is one door of the store: arguments in, its answer out. */
#include "api/api_private.h"

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct api_request *rq = arg;

	if (rq->route->heard)
		rq->route->heard(rq, err ? (struct hp_bytes){ NULL, 0 } : json);
	if (err && rq->route->method[0] == 'G') {
		api_answer_not_read(rq, err);
		return;
	}
	if (err) {
		api_answer_error(rq, err);
		return;
	}
	api_crash(rq->route->after);
	/* A decision, an order or an event made a run ready: perhaps one of ours. */
	if (rq->route->method[0] == 'P' && !rq->api->closing) {
		hp_worker_hint(hp_server_worker(rq->api->server));
		if (strncmp(rq->route->door, "schedule_", 9) == 0)
			hp_worker_schedules_hint(hp_server_worker(rq->api->server));
	}
	api_answer_json(rq, 200, json);
}

void api_door(struct api_request *rq)
{
	const struct api_route *r = rq->route;
	struct hp_bytes args;
	struct hp_error err;
	int rc = 0;

	if (r->id_name)
		rc |= json_object_set_new(rq->args, r->id_name, json_integer(rq->id));
	if (r->name_name)
		rc |= json_object_set_new(rq->args, r->name_name, json_string(rq->name));
	if (r->constant[0])
		rc |= json_object_set_new(rq->args, r->constant[0], json_string(r->constant[1]));
	if (rc != 0) {
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the request");
		return;
	}
	if (api_text(rq, rq->args, &args, &err) < 0) {
		api_answer_error(rq, &err);
		return;
	}
	api_crash(r->before);
	api_store(rq)->ops->door(api_store(rq), r->door, rq->who.name, args, on_door, rq);
}
