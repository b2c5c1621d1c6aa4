/* deploy.c: POST /api/v1/workflows {bundle, dry_run?, move_live?, map?, reason?}
 *
 * Loaded and checked here, compared with the current definition, set beside the runs
 * that live; then made current (and, where asked, the live runs moved to it) or, with
 * dry_run, only answered.
 *
 *   checked → on_current → on_before → on_versions → deployed or moved → answer
 */
#include "api/api_private.h"

#include <stdio.h>
#include <string.h>

struct deploy {
	struct hp_workflow *w;
	struct hp_bundle b;      /* of the new version; in the arena */
	struct hp_buf summary, findings, changes; /* the last two: JSON arrays without their brackets */
	char digest[HP_SHA256_HEX];
	const char *first_fatal;
	struct hp_arena *arena;
	const char *versions;    /* JSON of the door; in the arena */
	uint8_t before[HP_SHA256_LEN];
	bool known;              /* `before`: there is a current definition */
	bool dry_run, move_live;
};

static void deploy_done(struct api_request *rq)
{
	struct deploy *d = rq->state;

	hp_workflow_free(d->w);
	hp_buf_free(&d->summary);
	hp_buf_free(&d->findings);
	hp_buf_free(&d->changes);
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

static void on_change(void *arg, const struct hp_change *c)
{
	static const char *const words[] = { "", "added", "removed", "changed" };
	struct deploy *d = arg;

	hp_buf_printf(&d->changes, "%s{\"what\":\"%s\",\"policy\":%s", d->changes.n ? "," : "", words[c->what],
		      c->policy ? "true" : "false");
	if (c->state) {
		hp_buf_adds(&d->changes, ",\"state\":");
		hp_buf_json(&d->changes, c->state, strlen(c->state));
	}
	hp_buf_adds(&d->changes, ",\"sentence\":");
	hp_buf_json(&d->changes, c->sentence, strlen(c->sentence));
	hp_buf_addc(&d->changes, '}');
}

/* moved: the door's answer, or empty. */
static void answer(struct api_request *rq, struct hp_bytes moved)
{
	struct deploy *d = rq->state;
	struct hp_error err;
	struct hp_buf body;

	if (!d->dry_run && !rq->api->closing) {
		hp_server_refresh(rq->api->server);
		hp_worker_schedules_hint(hp_server_worker(rq->api->server));
		hp_worker_hint(hp_server_worker(rq->api->server));
	}
	hp_buf_init(&body, API_ARENA_MAX);
	hp_buf_printf(&body, "{\"changes\":[%s],\"digest\":\"%s\",\"dry_run\":%s,\"findings\":[%s]", hp_buf_str(&d->changes),
		      d->digest, d->dry_run ? "true" : "false", hp_buf_str(&d->findings));
	hp_buf_printf(&body, ",\"live\":%s", d->versions);
	if (moved.n) {
		hp_buf_adds(&body, ",\"move\":");
		hp_buf_add(&body, moved.p, moved.n);
	}
	hp_buf_adds(&body, ",\"workflow\":");
	hp_buf_json(&body, d->b.workflow, strlen(d->b.workflow));
	hp_buf_addc(&body, '}');
	if (hp_buf_check(&d->changes, "what changes", &err) < 0 || hp_buf_check(&body, "the answer", &err) < 0)
		api_answer_error(rq, &err);
	else
		api_answer_json(rq, 200, hp_buf_bytes(&body));
	hp_buf_free(&body);
}

static void on_deployed(void *arg, int64_t now, const struct hp_error *err)
{
	struct api_request *rq = arg;

	(void)now;
	if (err) {
		api_answer_error(rq, err);
		return;
	}
	api_crash(rq->route->after);
	answer(rq, (struct hp_bytes){ NULL, 0 });
}

static void on_moved(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct api_request *rq = arg;
	const struct deploy *d = rq->state;

	if (err) {
		api_answer_error(rq, err);
		return;
	}
	if (!d->dry_run)
		api_crash(rq->route->after);
	answer(rq, json);
}

static void move_live(struct api_request *rq)
{
	struct deploy *d = rq->state;
	const char *reason = hp_json_str(rq->args, "reason");
	struct hp_bytes text;
	struct hp_error err;
	json_t *args = json_pack("{s:s, s:s, s:s%, s:o?, s:s, s:O?}", "workflow", d->b.workflow, "digest", d->digest, "bundle",
				 d->b.bundle.p, d->b.bundle.n, "summary",
				 hp_json_parse(d->summary.p, d->summary.n, "summary", NULL), "reason", reason ? reason : "",
				 "map", json_object_get(rq->args, "map"));
	int rc = args ? api_text(rq, args, &text, &err) : hp_fail(&err, HP_E_NOMEM, "no memory for the request");

	json_decref(args);
	if (rc < 0) {
		api_answer_error(rq, &err);
		return;
	}
	if (!d->dry_run)
		api_crash(rq->route->before);
	api_store(rq)->ops->door(api_store(rq), d->dry_run ? "try_deploy_live" : "deploy_live", rq->who.name, text, on_moved, rq);
}

static void on_versions(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct api_request *rq = arg;
	struct deploy *d = rq->state;

	d->versions = err ? NULL : hp_arena_strndup(rq->arena, json.p, json.n);
	if (err)
		api_answer_not_read(rq, err);
	else if (!d->versions)
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the request");
	else if (d->move_live)
		move_live(rq);
	else if (d->dry_run)
		answer(rq, (struct hp_bytes){ NULL, 0 });
	else {
		api_crash(rq->route->before);
		api_store(rq)->ops->deploy(api_store(rq), &d->b, on_deployed, rq);
	}
}

static void ask_versions(struct api_request *rq)
{
	struct deploy *d = rq->state;
	json_t *args = json_pack("{s:s}", "workflow", d->b.workflow);
	struct hp_bytes text;
	struct hp_error err;
	int rc = args ? api_text(rq, args, &text, &err) : hp_fail(&err, HP_E_NOMEM, "no memory for the request");

	json_decref(args);
	if (rc < 0)
		api_answer_error(rq, &err);
	else
		api_store(rq)->ops->door(api_store(rq), "versions", rq->who.name, text, on_versions, rq);
}

/* A current definition that this program cannot load any more is no reason to keep it. */
static void on_before(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	struct api_request *rq = arg;
	struct deploy *d = rq->state;
	struct hp_error why;
	struct hp_workflow *before = err || n == 0 ? NULL : hp_workflow_load(b->bundle, &why);
	struct hp_change c = { HP_CHANGED, true, NULL, "the current definition cannot be read, so what changes is not known" };

	if (before)
		hp_workflow_diff(before, d->w, on_change, d);
	else
		on_change(d, &c);
	hp_workflow_free(before);
	ask_versions(rq);
}

static void on_current(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	struct api_request *rq = arg;
	struct deploy *d = rq->state;
	struct hp_change c = { HP_ADDED, true, NULL, "a new workflow" };

	if (err) {
		api_answer_not_read(rq, err);
		return;
	}
	for (int i = 0; i < n; i++)
		if (strcmp(b[i].workflow, d->b.workflow) == 0) {
			d->known = true;
			memcpy(d->before, b[i].digest, sizeof d->before);
		}
	if (d->known) {
		api_store(rq)->ops->bundle(api_store(rq), d->before, on_before, rq);
		return;
	}
	on_change(d, &c);
	ask_versions(rq);
}

static struct deploy *deploy_new(struct api_request *rq)
{
	struct deploy *d = hp_arena_alloc(rq->arena, sizeof *d);

	if (!d)
		return NULL;
	hp_buf_init(&d->summary, HP_BUNDLE_MAX);
	hp_buf_init(&d->findings, 256 * 1024);
	hp_buf_init(&d->changes, HP_BUNDLE_MAX);
	d->arena = rq->arena;
	d->dry_run = hp_json_bool(rq->args, "dry_run", 0);
	d->move_live = hp_json_bool(rq->args, "move_live", 0);
	rq->state = d;
	rq->done = deploy_done;
	return d;
}

void api_deploy(struct api_request *rq)
{
	struct deploy *d = deploy_new(rq);
	struct hp_error err;

	if (!d) {
		api_answer_fail(rq, HP_E_NOMEM, NULL, "no memory for the request");
		return;
	}
	if (api_text(rq, json_object_get(rq->args, "bundle"), &d->b.bundle, &err) < 0)
		goto fail;
	d->w = hp_workflow_load(d->b.bundle, &err);
	if (!d->w || hp_workflow_summary(d->w, &d->summary, &err) < 0)
		goto fail;
	if (hp_workflow_check(d->w, on_finding, d) > 0) {
		(void)hp_fail(&err, HP_E_SCRIPT, "%s", d->first_fatal ? d->first_fatal : "the check failed");
		(void)hp_error_hint(&err, "holdpoint check shows all findings; nothing was deployed.");
		goto fail;
	}
	hp_bundle_digest(d->b.bundle, d->b.digest);
	hp_hex(d->b.digest, HP_SHA256_LEN, d->digest);
	d->b.workflow = hp_workflow_definition(d->w)->workflow;
	d->b.summary = hp_buf_bytes(&d->summary);
	hp_log(HP_INFO, d->dry_run ? "deploy tried" : "deploy", "workflow", HP_STR(d->b.workflow), "digest", HP_STR(d->digest),
	       "principal", HP_STR(rq->who.name), NULL);
	api_store(rq)->ops->current(api_store(rq), on_current, rq);
	return;
fail:
	api_answer_error(rq, &err);
}
