/* deploy.c: POST /api/v1/workflows {bundle}: loaded and checked here, then current. */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>

struct deploy {
	struct hp_workflow *w;
	struct hp_buf summary, findings; /* findings: JSON array without its brackets */
	char digest[HP_SHA256_HEX];
	const char *first_fatal;
	struct hp_arena *arena;
};

static void deploy_done(struct api_request *rq)
{
	struct deploy *d = rq->state;

	hp_workflow_free(d->w);
	hp_buf_free(&d->summary);
	hp_buf_free(&d->findings);
}

static void on_finding(void *arg, const struct hp_finding *f)
{
	struct deploy *d = arg;

	hp_buf_printf(&d->findings, "%s{\"fatal\":%s,\"line\":%d,\"lint\":\"%s\",\"file\":",
		      d->findings.n ? "," : "", f->fatal ? "true" : "false", f->line, f->lint);
	hp_buf_json(&d->findings, f->file ? f->file : "", f->file ? strlen(f->file) : 0);
	hp_buf_adds(&d->findings, ",\"sentence\":");
	hp_buf_json(&d->findings, f->sentence, strlen(f->sentence));
	hp_buf_addc(&d->findings, '}');
	if (f->fatal && !d->first_fatal)
		d->first_fatal = hp_arena_printf(d->arena, "%s:%d: [%s] %s", f->file ? f->file : "", f->line,
						 f->lint, f->sentence);
}

static void on_deployed(void *arg, int64_t now, const struct hp_error *err)
{
	struct api_request *rq = arg;
	struct deploy *d = rq->state;
	struct hp_buf body;

	(void)now;
	if (err) {
		api_answer_error(rq, err);
		return;
	}
	if (!rq->api->closing) {
		hp_server_refresh(rq->api->server);
		hp_worker_schedules_hint(hp_server_worker(rq->api->server));
	}
	hp_buf_init(&body, API_ARENA_MAX);
	hp_buf_printf(&body, "{\"digest\":\"%s\",\"findings\":[%s],\"workflow\":", d->digest,
		      hp_buf_str(&d->findings));
	const char *name = hp_workflow_definition(d->w)->workflow;
	hp_buf_json(&body, name, strlen(name));
	hp_buf_addc(&body, '}');
	api_answer_json(rq, 200, hp_buf_bytes(&body));
	hp_buf_free(&body);
}

void api_deploy(struct api_request *rq)
{
	struct deploy *d = hp_arena_alloc(rq->arena, sizeof *d);
	struct hp_bundle b = { 0 };
	struct hp_error err;

	if (!d) {
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the request");
		return;
	}
	hp_buf_init(&d->summary, HP_BUNDLE_MAX);
	hp_buf_init(&d->findings, 256 * 1024);
	d->arena = rq->arena;
	rq->state = d;
	rq->done = deploy_done;
	if (api_text(rq, json_object_get(rq->args, "bundle"), &b.bundle, &err) < 0)
		goto fail;
	d->w = hp_workflow_load(b.bundle, &err);
	if (!d->w || hp_workflow_summary(d->w, &d->summary, &err) < 0)
		goto fail;
	if (hp_workflow_check(d->w, on_finding, d) > 0) {
		(void)hp_fail(&err, HP_E_SCRIPT, "%s", d->first_fatal ? d->first_fatal : "the check failed");
		(void)hp_error_hint(&err, "holdpoint check shows all findings; nothing was deployed.");
		goto fail;
	}
	hp_bundle_digest(b.bundle, b.digest);
	hp_hex(b.digest, HP_SHA256_LEN, d->digest);
	b.workflow = hp_workflow_definition(d->w)->workflow;
	b.summary = hp_buf_bytes(&d->summary);
	hp_log(HP_INFO, "deploy", "workflow", HP_STR(b.workflow), "digest", HP_STR(d->digest), "principal",
	       HP_STR(rq->who.name), NULL);
	api_store(rq)->ops->deploy(api_store(rq), &b, on_deployed, rq);
	return;
fail:
	api_answer_error(rq, &err);
}
