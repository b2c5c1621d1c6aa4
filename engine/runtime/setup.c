/* setup.c: what a start does with the database before any worker. */
#include "runtime/setup.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "runtime/files.h"
#include "script/script.h"
#include "store/store.h"

#define PATIENCE (30 * HP_SECOND)
#define ADMIN_PRINCIPAL "admin"
/* Closing answers within two turns; a callback that asks a closed store again gets
 * its answer in the turn after that. */
#define CLOSING_TURNS 8

void hp_store_close(struct hp_store *store, struct ev_loop *loop)
{
	if (!store)
		return;
	store->ops->free(store);
	for (int i = 0; i < CLOSING_TURNS; i++)
		ev_run(loop, EVRUN_NOWAIT);
}

/* ---- waiting for one answer ---- */

struct answer {
	bool done;
	bool failed;
	struct hp_error err;
	json_t *json;                  /* of a door, or {name: digest hex} */
};

static void no_op(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
}

/* Turns the loop until `ready` says so; -1 at the deadline or a signal. */
static int turn_until(const struct hp_setup *s, bool (*ready)(void *), void *arg, const char *what,
		      struct hp_error *err)
{
	int64_t deadline = hp_boottime_us() + PATIENCE;
	struct ev_timer tick;
	int rc = -1;

	ev_timer_init(&tick, no_op, 0.05, 0.05);
	ev_timer_start(s->loop, &tick);
	for (;;) {
		if (ready(arg)) {
			rc = 0;
			break;
		}
		if (*s->stop) {
			hp_fail(err, HP_E_UNAVAILABLE, "stopped while waiting for %s", what);
			break;
		}
		if (hp_boottime_us() > deadline) {
			hp_fail(err, HP_E_TIMEOUT, "no answer while waiting for %s", what);
			break;
		}
		ev_run(s->loop, EVRUN_ONCE);
	}
	ev_timer_stop(s->loop, &tick);
	return rc;
}

static bool store_up(void *arg)
{
	struct hp_store *store = arg;

	return store->ops->up(store);
}

static bool answered(void *arg)
{
	return ((struct answer *)arg)->done;
}

static int wait_for(const struct hp_setup *s, struct answer *a, const char *what, struct hp_error *err)
{
	if (turn_until(s, answered, a, what, err) != 0)
		return -1;
	if (!a->failed)
		return 0;
	if (err)
		*err = a->err;
	return hp_error_prefix(err, "%s", what);
}

static void take_error(struct answer *a, const struct hp_error *err)
{
	a->done = true;
	a->failed = err != NULL;
	if (err)
		a->err = *err;
}

static struct hp_store *open_store(const struct hp_setup *s, struct hp_error *err)
{
	struct hp_store_pg_options o = {.conninfo = s->database,
					.pooled = s->pooled,
					.commit_connections = 1,
					.application = "holdpoint setup"};
	struct hp_store *store = hp_store_pg_new(s->loop, &o, err);

	if (!store)
		return NULL;
	if (turn_until(s, store_up, store, "the database", err) == 0)
		return store;
	hp_store_close(store, s->loop);
	return NULL;
}

/* ---- migrations ---- */

static void on_migration(void *arg, const struct hp_migration *m)
{
	if (!m->applied)
		hp_log(HP_INFO, "migration applied", "scope", HP_STR(arg), "version", HP_I64(m->version), "name",
		       HP_STR(m->name), NULL);
}

int hp_setup_migrate(const struct hp_setup *s, struct hp_error *err)
{
	static char scopes[][16] = {"holdpoint", "wallet"};
	char dir[PATH_MAX];

	for (size_t i = 0; i < sizeof scopes / sizeof scopes[0]; i++) {
		int n = snprintf(dir, sizeof dir, "%s/%s", s->place->migrations, scopes[i]);

		if (n < 0 || n >= (int)sizeof dir)
			return hp_fail(err, HP_E_INVALID, "the path of the migrations is too long");
		if (i > 0 && (!s->wallet || !hp_file_exists(dir)))
			continue;
		if (hp_migrate(s->admin_database, dir, scopes[i], false, on_migration, scopes[i], err) != 0)
			return -1;
	}
	return 0;
}

/* ---- workflows ---- */

static void on_current(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	struct answer *a = arg;
	char hex[HP_SHA256_HEX];

	take_error(a, err);
	a->json = json_object();
	for (int i = 0; !err && i < n; i++) {
		hp_hex(b[i].digest, HP_SHA256_LEN, hex);
		json_object_set_new(a->json, b[i].workflow, json_string(hex));
	}
}

static void on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	(void)now;
	take_error(arg, err);
}

static void on_finding(void *arg, const struct hp_finding *f)
{
	hp_log(f->fatal ? HP_ERROR : HP_WARN, f->sentence, "workflow", HP_STR(arg), "lint", HP_STR(f->lint),
	       "file", HP_STR(f->file), "line", HP_I64(f->line), "state", HP_STR(f->state), NULL);
}

static int deploy_loaded(const struct hp_setup *s, struct hp_store *store, struct hp_workflow *w,
			 struct hp_bytes bundle, const char *digest, json_t *current, struct hp_error *err)
{
	const struct hp_definition *d = hp_workflow_definition(w);
	const char *have = hp_json_str(current, d->workflow);
	struct hp_bundle b = {.workflow = d->workflow, .bundle = bundle};
	struct answer a = {0};
	struct hp_buf summary;
	int rc = -1;

	hp_buf_init(&summary, HP_BUNDLE_MAX);
	if (have && strcmp(have, digest) == 0) {
		rc = 0;
		goto out;
	}
	if (hp_workflow_check(w, on_finding, (void *)(uintptr_t)d->workflow) > 0) {
		hp_fail(err, HP_E_INVALID, "the workflow %s does not pass the checks", d->workflow);
		goto out;
	}
	if (hp_workflow_summary(w, &summary, err) != 0)
		goto out;
	hp_bundle_digest(bundle, b.digest);
	b.summary = hp_buf_bytes(&summary);
	store->ops->deploy(store, &b, on_ack, &a);
	if (wait_for(s, &a, "the deployment of a workflow", err) != 0)
		goto out;
	hp_log(HP_INFO, "workflow deployed", "workflow", HP_STR(d->workflow), "digest", HP_STR(digest), NULL);
	rc = 0;
out:
	hp_buf_free(&summary);
	return rc;
}

static int deploy_file(const struct hp_setup *s, struct hp_store *store, const char *file,
		       json_t *current, struct hp_error *err)
{
	uint8_t digest[HP_SHA256_LEN];
	char hex[HP_SHA256_HEX];
	struct hp_workflow *w = NULL;
	struct hp_buf bundle;
	int rc = -1;

	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	if (hp_bundle_build(file, s->place->plugins, &bundle, err) != 0)
		goto out;
	hp_bundle_digest(hp_buf_bytes(&bundle), digest);
	hp_hex(digest, sizeof digest, hex);
	w = hp_workflow_load(hp_buf_bytes(&bundle), err);
	if (!w)
		goto out;
	rc = deploy_loaded(s, store, w, hp_buf_bytes(&bundle), hex, current, err);
out:
	hp_workflow_free(w);
	hp_buf_free(&bundle);
	return rc;
}

/* workflows/NAME.lua; tests beside them are NAME_test.lua, policy.lua is no workflow. */
static bool is_workflow(const char *name)
{
	size_t n = strlen(name);

	if (name[0] == '.' || n < 5 || strcmp(name + n - 4, ".lua") != 0)
		return false;
	return strcmp(name, "policy.lua") != 0 && !(n > 9 && strcmp(name + n - 9, "_test.lua") == 0);
}

static int deploy_directory(const struct hp_setup *s, struct hp_store *store, json_t *current,
			    struct hp_error *err)
{
	DIR *d = opendir(s->place->workflows);
	const struct dirent *e;
	char file[PATH_MAX];

	if (!d)
		return hp_fail(err, HP_E_IO, "cannot read the workflows in %s: %s", s->place->workflows,
			       strerror(errno));
	while ((e = readdir(d))) {
		struct hp_error refused;
		int n = snprintf(file, sizeof file, "%s/%s", s->place->workflows, e->d_name);

		if (!is_workflow(e->d_name) || n < 0 || n >= (int)sizeof file)
			continue;
		if (deploy_file(s, store, file, current, &refused) != 0)
			hp_log_error(HP_ERROR, "a workflow was not deployed", &refused);
	}
	closedir(d);
	return 0;
}

int hp_setup_deploy(const struct hp_setup *s, struct hp_error *err)
{
	struct hp_store *store = open_store(s, err);
	struct answer a = {0};
	int rc = -1;

	if (!store)
		return -1;
	store->ops->current(store, on_current, &a);
	if (wait_for(s, &a, "the deployed workflows", err) == 0)
		rc = deploy_directory(s, store, a.json, err);
	hp_store_close(store, s->loop);
	json_decref(a.json);
	return rc;
}

/* ---- the local administrator ---- */

static void on_token(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct answer *a = arg;

	take_error(a, err);
	if (!err) {
		a->json = hp_json_parse(json.p, json.n, "answer of token_create", &a->err);
		a->failed = a->json == NULL;
	}
}

static json_t *roles_array(const char *roles)
{
	json_t *list = json_array();

	while (roles && *roles) {
		size_t n = strcspn(roles, ",");

		if (n > 0)
			json_array_append_new(list, json_stringn(roles, n));
		roles += n + (roles[n] == ',');
	}
	return list;
}

static int ask_token(const struct hp_setup *s, struct hp_store *store, struct answer *a,
		     struct hp_error *err)
{
	json_t *args = json_pack("{s:s, s:s, s:o, s:[s,s,s,s,s]}", "principal", ADMIN_PRINCIPAL, "kind", "person", "roles",
				 roles_array(s->roles), "scopes", "read", "start", "operate", "approve", "admin");
	struct hp_buf text;
	int rc = -1;

	hp_buf_init(&text, 4096);
	if (hp_json_write(&text, args, err) == 0) {
		store->ops->door(store, "token_create", ADMIN_PRINCIPAL, hp_buf_bytes(&text), on_token, a);
		rc = wait_for(s, a, "the administrator's token", err);
	}
	hp_buf_free(&text);
	json_decref(args);
	return rc;
}

int hp_setup_token(const struct hp_setup *s, struct hp_error *err)
{
	struct hp_store *store;
	struct answer a = {0};
	char path[PATH_MAX], line[256];
	const char *token;
	int rc = -1;

	if (hp_place_path(s->place, "token", path, err) != 0)
		return -1;
	if (hp_file_exists(path))
		return 0;
	store = open_store(s, err);
	if (!store)
		return -1;
	if (ask_token(s, store, &a, err) == 0) {
		token = hp_json_str(a.json, "token");
		snprintf(line, sizeof line, "%s\n", token ? token : "");
		rc = token ? hp_place_write(s->place, "token", line, 0600, err)
			   : hp_fail(err, HP_E_INTERNAL, "token_create answered without a token");
		explicit_bzero(line, sizeof line);
		hp_log(HP_INFO, "token made", "token_id", HP_I64(hp_json_int(a.json, "id", 0)), "principal",
		       HP_STR(ADMIN_PRINCIPAL), "kind", HP_STR("person"), "scopes",
		       HP_STR("read start operate approve admin"), "by", HP_STR("serve"), NULL);
	}
	hp_store_close(store, s->loop);
	json_decref(a.json);
	return rc;
}
