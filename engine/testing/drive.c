/* drive.c: the world: store, clock, doors, and the loop that lets a run go on until
 * it waits for something. */
#include "testing/drive_private.h"

#include <stdio.h>
#include <string.h>

/* The store's own lease never runs out: nobody dies here. The machine is told the
 * ordinary one, because the time of a probe depends on it. */
#define DRIVE_LEASE (100 * 365 * HP_DAY)

int hp_d_stop(struct hp_drive *d, const struct hp_error *why, struct hp_error *err)
{
	if (d->stopped.code == HP_OK)
		d->stopped = *why;
	if (err)
		*err = d->stopped;
	return -1;
}

void hp_d_note(struct hp_drive *d, json_t *row)
{
	char at[32];

	json_object_set_new(row, "at", json_string(hp_time_format(d->now, at, sizeof at)));
	if (json_array_size(d->timeline) < DRIVE_TIMELINE_MAX)
		json_array_append(d->timeline, row);
	json_decref(row);
}

void hp_d_await(struct hp_drive *d)
{
	d->answered = false;
	if (!d->hooks.real) {
		d->store->ops->pump(d->store);
		return;
	}
	while (!d->answered) /* a store answers everything: its calls have deadlines */
		d->hooks.real->turn(d->hooks.real->arg);
}

static void set_clock(struct hp_drive *d, int64_t now)
{
	if (d->hooks.real && d->now != now)
		d->hooks.real->clock(d->hooks.real->arg, now);
	d->now = now;
}

static void on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	struct hp_drive *d = arg;

	d->answered = true;
	if (err) {
		d->stopped = *err;
		return;
	}
	d->engine = info->id;
	memcpy(d->installation, info->installation, sizeof d->installation);
}

void hp_d_on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	struct hp_drive *d = arg;

	(void)now;
	d->answered = true;
	if (err)
		d->stopped = *err;
}

/* The store reads the summary at every turn, so it gets what it looks at and no more. */
int hp_drive_summary(struct hp_workflow *w, struct hp_buf *out, struct hp_error *err)
{
	static const char *const unread[] = {"ways", "doc", "line", "kind", "destructive", "read"};
	struct hp_buf whole;
	json_t *v = NULL, *state;
	size_t i;
	int rc;

	hp_buf_init(&whole, HP_BUNDLE_MAX);
	rc = hp_workflow_summary(w, &whole, err);
	if (rc == 0)
		v = hp_json_parse(whole.p, whole.n, "the summary", err);
	json_object_del(v, "input");
	json_array_foreach(json_object_get(v, "states"), i, state)
		for (size_t k = 0; k < sizeof unread / sizeof *unread; k++)
			json_object_del(state, unread[k]);
	rc = v ? hp_json_write(out, v, err) : -1;
	json_decref(v);
	hp_buf_free(&whole);
	return rc;
}

/* The definition is in our hands, so the store's copy of its sources may be empty. */
static int deploy(struct hp_drive *d, struct hp_bytes summary, struct hp_error *err)
{
	struct hp_bundle b = {.workflow = d->def->workflow, .bundle = hp_bytes_of("{}"), .summary = summary};

	memcpy(b.digest, d->def->digest, sizeof b.digest);
	d->store->ops->deploy(d->store, &b, hp_d_on_ack, d);
	hp_d_await(d);
	d->store->ops->engine_register(d->store, "test", 1, DRIVE_LEASE, on_engine, d);
	hp_d_await(d);
	return d->stopped.code == HP_OK ? hp_d_deploy_children(d, err) : hp_d_stop(d, &d->stopped, err);
}

struct hp_drive *hp_drive_new(struct hp_workflow *w, struct hp_bytes summary, const struct hp_drive_hooks *hooks,
			      int64_t now, struct hp_error *err)
{
	struct hp_drive *d = hp_calloc(1, sizeof *d);
	struct hp_mem_sql sql = {.run = hp_d_sql_run, .arg = d};

	if (!d) {
		hp_fail(err, HP_E_NOMEM, "no memory for a test");
		return NULL;
	}
	d->w = w;
	d->def = hp_workflow_definition(w);
	d->hooks = *hooks;
	set_clock(d, now);
	hp_buf_init(&d->saved_text, HP_RUN_DATA_MAX);
	hp_buf_init(&d->kept, HP_VALUE_MAX);
	hp_buf_init(&d->scratch, 2 * HP_RUN_DATA_MAX);
	d->claim = hp_arena_new(4 * HP_RUN_DATA_MAX);
	d->step[0] = hp_arena_new(4 * HP_RUN_DATA_MAX);
	d->step[1] = hp_arena_new(4 * HP_RUN_DATA_MAX);
	d->path = json_array();
	d->effects = json_array();
	d->statements = json_array();
	d->undone = json_array();
	d->children = json_array();
	d->timeline = json_array();
	d->store = hooks->real ? hooks->real->store : hp_store_mem_new(&d->now, err);
	if (!d->store)
		goto failed;
	if (!d->claim || !d->step[0] || !d->step[1] || !d->path || !d->effects || !d->statements || !d->undone ||
	    !d->children || !d->timeline) {
		hp_fail(err, HP_E_NOMEM, "no memory for a test");
		goto failed;
	}
	if (!hooks->real)
		hp_mem_set_sql(d->store, &sql);
	if (deploy(d, summary, err) == 0)
		return d;
failed:
	hp_drive_free(d);
	return NULL;
}

void hp_drive_free(struct hp_drive *d)
{
	if (!d)
		return;
	if (d->store && !d->hooks.real)
		d->store->ops->free(d->store);
	json_decref(d->saved);
	json_decref(d->door_reply);
	json_decref(d->path);
	json_decref(d->effects);
	json_decref(d->statements);
	json_decref(d->undone);
	json_decref(d->children);
	json_decref(d->timeline);
	hp_buf_free(&d->saved_text);
	hp_buf_free(&d->kept);
	hp_buf_free(&d->scratch);
	hp_arena_free(d->claim);
	hp_arena_free(d->step[0]);
	hp_arena_free(d->step[1]);
	hp_free(d);
}

int64_t hp_drive_run(const struct hp_drive *d) { return d->run; }
int64_t hp_drive_now(const struct hp_drive *d) { return d->now; }
bool hp_drive_stopped(const struct hp_drive *d) { return d->stopped.code != HP_OK; }
const json_t *hp_drive_timeline(const struct hp_drive *d) { return d->timeline; }

void hp_drive_principal(struct hp_drive *d, const char *name, const char *kind, const char *roles)
{
	if (d->hooks.real)
		d->hooks.real->principal(d->hooks.real->arg, name, kind, roles);
	else
		hp_mem_principal(d->store, name, kind, roles);
}

int hp_drive_spend(struct hp_drive *d, const char *budget, const char *key, int64_t amount, struct hp_error *err)
{
	if (d->hooks.real)
		return hp_fail(err, HP_E_INVALID, "spent is for tests in memory: say in_memory \"why\" before it, and with "
						  "--real the test is skipped");
	return hp_mem_spend(d->store, budget, key, amount, err);
}

/* ---- claiming ---- */

/* false: no memory. */
static bool keep_claimed(struct hp_arena *a, struct hp_claimed *c)
{
	struct hp_bytes *const places[] = {&c->key,  &c->input,	  &c->saved, &c->decision_value, &c->mail, &c->command_value,
					   &c->annex, &c->signed_request, &c->signed_key};

	c->workflow = hp_arena_strdup(a, c->workflow);
	if (!c->workflow)
		return false;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		places[i]->p = places[i]->n ? hp_arena_strndup(a, places[i]->p, places[i]->n) : NULL;
		if (places[i]->n && !places[i]->p)
			return false;
	}
	return true;
}

void hp_d_on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	struct hp_drive *d = arg;
	struct hp_claimed *c = &d->claimed;

	(void)now;
	d->answered = true;
	d->has_claimed = !err && n == 1;
	if (err)
		d->stopped = *err;
	if (!d->has_claimed)
		return;
	hp_arena_reset(d->claim);
	*c = runs[0];
	if (!keep_claimed(d->claim, c)) {
		d->has_claimed = false;
		hp_fail(&d->stopped, HP_E_NOMEM, "no memory for the claimed run");
	}
}

/* All that can be done now. */
static int go_on(struct hp_drive *d, struct hp_error *err)
{
	struct hp_error why = {0};
	int claims = 0, rc = 0;

	if (d->driving)
		return 0; /* the one in hand goes on when the hook returns */
	d->driving = true;
	while (rc == 0) {
		d->store->ops->claim(d->store, d->engine, 1, hp_d_on_claim, d);
		hp_d_await(d);
		if (!d->has_claimed)
			break;
		if (++claims > DRIVE_CLAIMS_MAX)
			rc = hp_fail(&why, HP_E_LIMIT, "the run was taken up %d times without time passing", claims - 1);
		else
			rc = d->claimed.run.id == d->run || !d->run ? hp_d_drive(d, &why) : hp_d_child(d, &why);
	}
	d->driving = false;
	if (rc < 0)
		return hp_d_stop(d, &why, err);
	return d->stopped.code == HP_OK ? 0 : hp_d_stop(d, &d->stopped, err);
}

static int may_act(struct hp_drive *d, const char *what, struct hp_error *err)
{
	if (d->stopped.code != HP_OK)
		return hp_d_stop(d, &d->stopped, err);
	if (d->in_sql)
		return hp_fail(err, HP_E_CONFLICT, "%s cannot be done while a statement runs", what);
	return 0;
}

/* ---- doors ---- */

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_drive *d = arg;

	d->answered = true;
	d->door_error = err ? *err : (struct hp_error){0};
	d->door_reply = err ? NULL : hp_json_parse(json.p, json.n, "a door's answer", &d->door_error);
}

struct asked {
	struct hp_drive *d;
	json_t *reply;
};

static void on_asked(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct asked *a = arg;

	a->d->answered = true;
	a->reply = err ? NULL : hp_json_parse(json.p, json.n, "a door's answer", NULL);
}

json_t *hp_d_ask(struct hp_drive *d, const char *door, const char *args)
{
	struct asked a = {d, NULL};

	d->store->ops->door(d->store, door, "test", hp_bytes_of(args), on_asked, &a);
	hp_d_await(d);
	return a.reply;
}

static int call_door(struct hp_drive *d, const char *name, const char *principal, const json_t *args,
		     struct hp_error *err)
{
	struct hp_buf text;
	int rc;

	json_decref(d->door_reply);
	d->door_reply = NULL;
	hp_buf_init(&text, 2 * HP_HTTP_REQUEST_BODY_MAX);
	rc = hp_json_write(&text, args, err);
	if (rc == 0) {
		d->store->ops->door(d->store, name, principal, hp_buf_bytes(&text), on_door, d);
		hp_d_await(d);
		if (!d->door_reply) {
			if (err)
				*err = d->door_error;
			rc = -1;
		}
	}
	hp_buf_free(&text);
	return rc;
}

int hp_drive_door(struct hp_drive *d, const char *name, const char *principal, const json_t *args,
		  struct hp_error *err)
{
	static const char *const told[] = {"decide", "operate", "cancel", "pause", "resume", "send_event",
					    "breaker_open", "breaker_reset"};

	if (may_act(d, name, err) < 0 || call_door(d, name, principal, args, err) < 0)
		return -1;
	if (strcmp(name, "pause") == 0 || strcmp(name, "resume") == 0)
		d->last.pause = name[0] == 'p'; /* no transition of a parked run tells */
	for (size_t i = 0; i < sizeof told / sizeof *told; i++)
		if (strcmp(name, told[i]) == 0)
			hp_d_note(d, json_pack("{s:s, s:s, s:O}", "door", name, "by", principal, "args", args));
	return go_on(d, err);
}

/* As the API does it: the input is looked at before there is a run. */
static int prepare(struct hp_drive *d, const json_t *input, const char *key, json_t *args, struct hp_error *err)
{
	struct hp_buf text, own;
	int rc;

	hp_buf_init(&text, HP_INPUT_MAX);
	hp_buf_init(&own, HP_KEY_MAX);
	rc = hp_json_write(&text, input, err);
	if (rc == 0)
		rc = hp_workflow_check_input(d->w, hp_buf_bytes(&text), err);
	if (rc == 0 && !key) {
		rc = hp_workflow_key(d->w, hp_buf_bytes(&text), &own, err);
		key = own.n ? hp_buf_str(&own) : NULL;
	}
	if (rc == 0 && key && json_object_set_new(args, "key", json_string(key)) < 0)
		rc = hp_fail(err, HP_E_INVALID, "the key is no text in UTF-8");
	hp_buf_free(&text);
	hp_buf_free(&own);
	return rc;
}

int hp_drive_start(struct hp_drive *d, const json_t *input, const char *key, const char *requester,
		   struct hp_error *err)
{
	json_t *args;
	int rc;

	if (d->run)
		return hp_fail(err, HP_E_CONFLICT, "the run has been started already: a test has one run");
	if (may_act(d, "start", err) < 0)
		return -1;
	args = json_pack("{s:s, s:O}", "workflow", d->def->workflow, "input", input);
	rc = prepare(d, input, key, args, err);
	if (rc == 0)
		rc = call_door(d, "start", requester, args, err);
	json_decref(args);
	if (rc < 0)
		return -1;
	d->run = hp_json_int(d->door_reply, "run", 0);
	d->started_at = d->now;
	d->seen_visit = 1;
	hp_run_start(&d->last, d->run, d->now);
	json_array_append_new(d->path, json_string(d->def->states[0].name));
	hp_d_note(d, json_pack("{s:s, s:s}", "move", "started", "state", d->def->states[0].name));
	return go_on(d, err);
}

/* ---- time ---- */

/* When the run wakes by itself; INT64_MAX: it does not. */
static int64_t next_due(const struct hp_drive *d)
{
	bool waits = d->run && d->last.status == HP_WAITING && !d->last.pause;

	return waits && d->last.due_at > 0 ? d->last.due_at : INT64_MAX;
}

int hp_drive_pass(struct hp_drive *d, int64_t us, struct hp_error *err)
{
	int64_t until = d->now + us, due;

	if (may_act(d, "pass", err) < 0)
		return -1;
	if (d->driving)
		return hp_fail(err, HP_E_CONFLICT, "time cannot pass while a request is answered");
	while ((due = next_due(d)) <= until) {
		if (due > d->now)
			set_clock(d, due);
		if (go_on(d, err) < 0)
			return -1;
		if (next_due(d) <= d->now) {
			struct hp_error why;

			hp_fail(&why, HP_E_INTERNAL, "a timer of the run is due and nothing happens");
			return hp_d_stop(d, &why, err);
		}
	}
	set_clock(d, until);
	return go_on(d, err);
}

int hp_drive_settle(struct hp_drive *d, struct hp_error *err)
{
	while (d->run && d->last.status == HP_WAITING && !d->last.pause &&
	       (d->last.phase == HP_PH_BACKOFF || d->last.phase == HP_PH_DOUBT))
		if (hp_drive_pass(d, d->last.due_at - d->now, err) < 0)
			return -1;
	return 0;
}
