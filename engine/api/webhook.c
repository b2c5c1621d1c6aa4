/* webhook.c: POST /api/webhooks/{source}.
 *
 * Raw bytes are verified, then one commit stores the event with the runs it starts
 * and the mailboxes it is delivered to, and only then the sender gets a 2xx. What
 * may pass with time (a missing secret, a database that is down, definitions that
 * are not loaded yet) is 503, so that the sender tries again: an event that is
 * acknowledged without its run would be lost.
 *
 * An event that does not fit the input or key of one workflow still reaches all
 * others and the mailboxes; the misfit is counted, logged, and named in the answer.
 * Only when nothing at all would take the event is it refused.
 *
 * Every outcome is counted and logged; a body never is.
 */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>

#include "core/signature.h"

#define STARTS_MAX 16
#define DELIVERIES_MAX 16
#define WEBHOOK_SECRETS_MAX 32

struct webhook {
	struct api_request *rq;
	struct hp_bytes body;
	json_t *event;                 /* {"id","type","deliver"} */
	const char *id, *type;
	struct hp_start starts[STARTS_MAX];
	struct hp_delivery deliveries[DELIVERIES_MAX];
	int n_starts, n_deliveries;
	const char *misfits[STARTS_MAX]; /* workflows that cannot take it */
	int n_misfits;
	struct hp_triggered triggered[STARTS_MAX]; /* all that it starts, misfits too */
	int n_triggered;
	bool own;
	struct hp_error err;           /* of a trigger */
	bool failed;
};

static void webhook_done(struct api_request *rq)
{
	struct webhook *h = rq->state;

	json_decref(h->event);
}

static void count(struct api_request *rq, const char *result)
{
	const struct webhook *h = rq->state;

	if (!rq->api->closing)
		(*hp_counterf(hp_server_counters(rq->api->server),
			      "holdpoint_webhook_events_total{source=\"%s\",result=\"%s\"}",
			      h ? rq->name : "unknown", result))++;
	hp_log(strcmp(result, "accepted") == 0 || strcmp(result, "duplicate") == 0 ? HP_INFO : HP_WARN, "webhook",
	       "source", HP_STR(rq->name), "result", HP_STR(result), "event", HP_STR(h && h->id ? h->id : ""),
	       "type", HP_STR(h && h->type ? h->type : ""), "peer", HP_STR(hp_http_call_peer(rq->call)),
	       "bytes", HP_I64(hp_http_call_body(rq->call).n), NULL);
}

static void refuse(struct api_request *rq, const char *result, const struct hp_error *err)
{
	count(rq, result);
	api_answer_error(rq, err);
}

/* The word of the counter for an error of the store or of a definition. */
static const char *result_of(const struct hp_error *err)
{
	switch (err->code) {
	case HP_E_INVALID:
	case HP_E_SCRIPT: /* signed, but the connector cannot read it */
		return "invalid";
	case HP_E_TOO_LARGE:
		return "too_large";
	case HP_E_UNAVAILABLE:
	case HP_E_TIMEOUT:
	case HP_E_LIMIT:
		return "unavailable";
	default:
		return "failed";
	}
}

static const char *header_of(void *arg, const char *lower_name)
{
	return hp_http_call_header(arg, lower_name);
}

/* -1: refused, the answer is err, the counter's word *result. */
static int verify(struct api_request *rq, const struct hp_webhook *wh, const char **result, struct hp_error *err)
{
	struct hp_server *s = rq->api->server;
	const char *secrets[WEBHOOK_SECRETS_MAX];
	int n = 0;

	/* In the middle of a rotation the sender may sign with the previous version of a
	 * secret still, or with the pending one already. */
	for (int i = 0; i < wh->n_secrets; i++) {
		int first = n;

		n += hp_server_secret_all(s, wh->secrets[i], secrets + n, WEBHOOK_SECRETS_MAX - n);
		for (int k = first; k < n; k++) {
			/* copied: the value is good until the next question only */
			secrets[k] = hp_arena_strdup(rq->arena, secrets[k]);
			if (!secrets[k])
				return hp_fail(err, HP_E_NOMEM, "no memory for the request");
		}
	}
	*result = "not_configured";
	if (n == 0) {
		(void)hp_fail(err, HP_E_UNAVAILABLE, "no signing secret of %s is configured", rq->name);
		return hp_error_hint(err, "Set the secret %s.", wh->n_secrets ? wh->secrets[0] : "it needs");
	}
	switch (hp_signature_verify(hp_scheme_find(wh->scheme), header_of, rq->call, hp_http_call_body(rq->call),
				    secrets, n, hp_server_now(s), wh->tolerance_us)) {
	case HP_SIGNATURE_GOOD:
		return 0;
	case HP_SIGNATURE_STALE:
		*result = "stale";
		(void)hp_fail(err, HP_E_UNAUTHORIZED, "the signature is too old or from the future");
		return hp_error_hint(err, "Send it within %lld s of signing, from a machine whose clock is right.",
				     (long long)(wh->tolerance_us / HP_SECOND));
	case HP_SIGNATURE_BAD:
		break;
	}
	*result = "bad_signature";
	return hp_fail(err, HP_E_UNAUTHORIZED, "the signature is missing or wrong");
}

static int check_json(struct hp_bytes body, struct hp_error *err)
{
	json_t *root = hp_json_parse(body.p, body.n, "webhook body", err);
	int rc;

	if (!root) {
		err->code = err->code == HP_E_NOMEM ? HP_E_NOMEM : HP_E_INVALID;
		return -1;
	}
	rc = json_is_object(root) ? 0 : hp_fail(err, HP_E_INVALID, "webhook body: a JSON object is expected");
	json_decref(root);
	return rc;
}

/* Id, type and mailboxes, as the connector reads them from the body. */
static int read_event(struct webhook *h, struct hp_connector *c, struct hp_error *err)
{
	struct hp_buf out;
	json_t *d;
	size_t i;
	int rc = -1;

	hp_buf_init(&out, 64 * 1024);
	if (hp_connector_webhook_event(c, h->body, header_of, h->rq->call, &out, err) < 0)
		goto out;
	h->event = hp_json_parse(hp_buf_str(&out), out.n, "event", err);
	if (!h->event)
		goto out;
	h->id = hp_json_str(h->event, "id");
	h->type = hp_json_str(h->event, "type");
	if (!h->id || !*h->id || !h->type) {
		hp_fail(err, HP_E_INVALID, "webhook body: the event has no id or no type");
		goto out;
	}
	if (json_array_size(json_object_get(h->event, "deliver")) > DELIVERIES_MAX) {
		hp_fail(err, HP_E_TOO_LARGE, "the event goes to more than %d mailboxes", DELIVERIES_MAX);
		goto out;
	}
	json_array_foreach(json_object_get(h->event, "deliver"), i, d) {
		h->deliveries[h->n_deliveries].name = hp_bytes_of(hp_json_str(d, "name"));
		h->deliveries[h->n_deliveries++].key = hp_bytes_of(hp_json_str(d, "key"));
	}
	rc = 0;
out:
	hp_buf_free(&out);
	return rc;
}

/* One workflow cannot take the event: h->err says why. That is no reason to keep it
 * from the others. */
static void misfit(struct webhook *h, const char *workflow)
{
	struct api_request *rq = h->rq;

	hp_error_prefix(&h->err, "workflow %s", workflow);
	(*hp_counterf(hp_server_counters(rq->api->server), "holdpoint_webhook_misfits_total{source=\"%s\"}", rq->name))++;
	hp_log(HP_WARN, "a webhook does not fit a workflow it would start", "source", HP_STR(rq->name), "event",
	       HP_STR(h->id), "type", HP_STR(h->type), "workflow", HP_STR(workflow), "error", HP_STR(h->err.message), NULL);
	if (h->n_misfits < STARTS_MAX)
		h->misfits[h->n_misfits++] = hp_arena_strdup(rq->arena, workflow);
}

static int add_start(struct webhook *h, const char *workflow, const struct hp_buf *key)
{
	struct hp_start *st = &h->starts[h->n_starts];

	st->workflow = workflow;
	st->input = h->body;
	st->key.p = hp_arena_strndup(h->rq->arena, hp_buf_str(key), key->n);
	st->key.n = key->n;
	st->requester = hp_arena_printf(h->rq->arena, "webhook:%s", h->rq->name);
	st->own = h->own;
	if (!st->key.p || !st->requester)
		return hp_fail(&h->err, HP_E_NOMEM, "no memory for the event");
	h->n_starts++;
	return 0;
}

static void on_trigger(void *arg, const char *workflow, struct hp_workflow *w)
{
	struct webhook *h = arg;
	struct hp_triggered *t;
	struct hp_buf key;

	if (h->failed)
		return;
	if (h->n_triggered == STARTS_MAX) {
		h->failed = true;
		hp_fail(&h->err, HP_E_TOO_LARGE, "the event starts more than %d workflows", STARTS_MAX);
		return;
	}
	t = &h->triggered[h->n_triggered++];
	t->workflow = hp_arena_strdup(h->rq->arena, workflow);
	memcpy(t->digest, hp_workflow_definition(w)->digest, sizeof t->digest);
	if (!t->workflow) {
		h->failed = true;
		hp_fail(&h->err, HP_E_NOMEM, "no memory for the event");
		return;
	}
	hp_buf_init(&key, HP_KEY_MAX);
	if (hp_workflow_check_input(w, h->body, &h->err) == 0 && hp_workflow_key(w, h->body, &key, &h->err) == 0)
		h->failed = add_start(h, t->workflow, &key) < 0;
	else if (h->err.code == HP_E_NOMEM)
		h->failed = true;
	else
		misfit(h, workflow);
	hp_buf_free(&key);
}

/* Runs that are ours begin; others are looked for soon. */
static void set_off(struct api_request *rq, const struct hp_ingest_result *res)
{
	const struct webhook *h = rq->state;
	struct hp_worker *w = hp_server_worker(rq->api->server);
	bool hint = h->n_deliveries > 0;

	for (int i = 0; i < res->n_starts; i++) {
		if (res->starts[i].claimed)
			hp_worker_adopt(w, res->starts[i].claimed);
		else if (!res->starts[i].existed)
			hint = true;
	}
	if (hint)
		hp_worker_hint(w);
}

/* It fits nowhere, by the definitions that we know. */
static bool fits_nowhere(const struct webhook *h)
{
	return h->n_misfits > 0 && h->n_starts == 0 && h->n_deliveries == 0;
}

static void on_ingested(void *arg, int64_t now, const struct hp_ingest_result *res, const struct hp_error *err)
{
	struct api_request *rq = arg;
	const struct webhook *h = rq->state;
	struct hp_error stale = { 0 };
	struct hp_buf body;

	(void)now;
	if (err) {
		refuse(rq, result_of(err), err);
		return;
	}
	if (res->stale) {
		/* Somebody has deployed: a yes would lose the run that the event starts now. */
		if (!rq->api->closing)
			hp_server_refresh(rq->api->server);
		(void)hp_fail(&stale, HP_E_UNAVAILABLE, "not ready: the definitions that were deployed just now are not loaded yet");
		refuse(rq, result_of(&stale), &stale);
		return;
	}
	if (fits_nowhere(h)) {
		refuse(rq, result_of(&h->err), &h->err);
		return;
	}
	api_crash(rq->route->after);
	count(rq, res->duplicate ? "duplicate" : "accepted");
	hp_buf_init(&body, 4096);
	if (res->duplicate) {
		hp_buf_adds(&body, "{\"duplicate\":true}");
	} else {
		hp_buf_adds(&body, "{\"runs\":[");
		for (int i = 0; i < res->n_starts; i++)
			hp_buf_printf(&body, "%s%lld", i ? "," : "", (long long)res->starts[i].run_id);
		hp_buf_adds(&body, h->n_misfits ? "],\"misfits\":[" : "");
		for (int i = 0; i < h->n_misfits; i++)
			hp_buf_printf(&body, "%s\"%s\"", i ? "," : "", h->misfits[i] ? h->misfits[i] : "");
		hp_buf_adds(&body, "]}");
		if (!rq->api->closing)
			set_off(rq, res);
	}
	api_answer_json(rq, 200, hp_buf_bytes(&body));
	hp_buf_free(&body);
}

static void ingest(struct webhook *h)
{
	struct api_request *rq = h->rq;
	struct hp_server *s = rq->api->server;
	struct hp_ingest in = { .source = rq->name, .event_id = hp_bytes_of(h->id), .body = h->body,
				.payload = h->body, .starts = h->starts, .deliveries = h->deliveries,
				.n_deliveries = h->n_deliveries, .type = h->type, .triggered = h->triggered };

	h->own = hp_worker_can_take(hp_server_worker(s));
	if (hp_server_triggers(s, rq->name, h->type, on_trigger, h) < 0 && !h->failed) {
		h->failed = true;
		(void)hp_fail(&h->err, HP_E_UNAVAILABLE, "not ready: the definitions are not loaded yet");
	}
	if (h->failed) {
		refuse(rq, result_of(&h->err), &h->err);
		return;
	}
	in.n_starts = h->n_starts;
	in.n_triggered = h->n_triggered;
	in.only_ask = fits_nowhere(h); /* what was deployed just now may take it */
	api_crash(rq->route->before);
	api_store(rq)->ops->ingest(api_store(rq), hp_server_engine(s), &in, on_ingested, rq);
}

void api_webhook(struct api_request *rq)
{
	struct hp_server *s = rq->api->server;
	struct hp_connector *c = hp_server_connector(s, rq->name);
	const struct hp_webhook *wh = c ? hp_connector_webhook(c) : NULL;
	const char *result = "invalid";
	struct webhook *h;
	struct hp_error err;

	if (!wh) { /* the name is a stranger's: it must not make a series of its own */
		count(rq, "no_source");
		api_answer_fail(rq, HP_E_NOT_FOUND, "The sources are the connectors that declare a webhook.",
				"there is no webhook source \"%s\"", rq->name);
		return;
	}
	h = hp_arena_alloc(rq->arena, sizeof *h);
	if (!h) {
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the event");
		return;
	}
	h->rq = rq;
	h->body = hp_http_call_body(rq->call);
	rq->state = h;
	rq->done = webhook_done;
	if (verify(rq, wh, &result, &err) < 0) {
		refuse(rq, result, &err);
		return;
	}
	if (check_json(h->body, &err) < 0 || read_event(h, c, &err) < 0) {
		refuse(rq, result_of(&err), &err);
		return;
	}
	ingest(h);
}
