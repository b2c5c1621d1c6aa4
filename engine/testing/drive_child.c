/* drive_child.c: the runs that `run` and `each` start. Their workflows are not here: each
 * ends as the test says, in one step, through the store's own commit. */
#include "testing/drive_private.h"

#include <stdio.h>
#include <string.h>

int hp_d_deploy_children(struct hp_drive *d, struct hp_error *err)
{
	for (int i = 0; i < d->def->n_states; i++) {
		const struct hp_state *s = &d->def->states[i];
		struct hp_bundle b = {.workflow = s->children.workflow, .bundle = hp_bytes_of("{}"),
				      .summary = hp_bytes_of("{\"states\":[{\"name\":\"child\"}]}")};

		if ((s->kind != HP_RUN && s->kind != HP_EACH) || strcmp(b.workflow, d->def->workflow) == 0)
			continue;
		hp_sha256(b.workflow, strlen(b.workflow), b.digest);
		d->store->ops->deploy(d->store, &b, hp_d_on_ack, d);
		hp_d_await(d);
	}
	return d->stopped.code == HP_OK ? 0 : hp_d_stop(d, &d->stopped, err);
}

static void begin(const struct hp_run *run, struct hp_transition *t)
{
	memset(t, 0, sizeof *t);
	t->run_id = run->id;
	t->epoch = run->epoch;
	t->rev = run->rev;
	t->from_visit = run->visit;
	t->after = *run;
	t->after.rev++;
	t->after.claims = 0;
}

/* It goes on, and nothing but a cancel will wake it. */
static void rest(struct hp_transition *t)
{
	t->after.status = HP_WAITING;
	t->after.phase = HP_PH_OPEN;
	t->move = HP_MOVE_PARKED;
	t->disposition = HP_PARK;
}

static void finish(struct hp_transition *t, enum hp_status status, const struct hp_event *ev)
{
	t->after.status = status;
	t->move = HP_MOVE_FINISHED;
	t->disposition = HP_FINISH;
	if (status == HP_SUCCEEDED)
		t->result = ev->value;
	if (status != HP_FAILED)
		return;
	t->outcome = HP_TERMINAL;
	t->code = ev->code;
	t->message = ev->message;
	(void)snprintf(t->after.code, sizeof t->after.code, "%s", ev->code ? ev->code : "failed");
}

/* {workflow, key, input}. Owner: caller. */
static json_t *seen_of(const struct hp_claimed *c, struct hp_error *err)
{
	json_t *input = hp_json_parse(c->input.p, c->input.n, "a child's input", err);
	json_t *seen = input ? json_pack("{s:s, s:o}", "workflow", c->workflow, "input", input) : NULL;

	if (seen && c->key.n)
		json_object_set_new(seen, "key", json_stringn(c->key.p, c->key.n));
	return seen;
}

static int ask(struct hp_drive *d, struct hp_transition *t, json_t *seen, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_drive_child child = {d->claimed.workflow, seen};

	if (!d->hooks.child)
		return hp_fail(err, HP_E_INVALID, "workflow \"%s\" is started as a child, and nobody says how it ends",
			       child.workflow);
	hp_buf_clear(&d->scratch);
	if (d->hooks.child(d->hooks.arg, &child, &d->scratch, ev, err) < 0)
		return -1;
	if (ev->none)
		rest(t);
	else
		finish(t, ev->outcome == HP_CLASS_OK ? HP_SUCCEEDED : HP_FAILED, ev);
	return 0;
}

int hp_d_child(struct hp_drive *d, struct hp_error *err)
{
	const struct hp_transition *one;
	struct hp_event ev = {.retry_after_us = -1};
	struct hp_transition t;
	json_t *seen = seen_of(&d->claimed, err);
	int rc = seen ? 0 : -1;

	begin(&d->claimed.run, &t);
	if (rc == 0 && d->claimed.run.cancel)
		finish(&t, HP_CANCELLED, &ev);
	else if (rc == 0)
		rc = ask(d, &t, seen, &ev, err);
	if (rc == 0) {
		one = &t;
		d->store->ops->commit(d->store, &one, 1, hp_d_on_commit, d);
		hp_d_await(d);
		if (d->committed.outcome != HP_COMMIT_OK)
			rc = hp_fail(err, HP_E_INTERNAL, "the end of a child cannot be written: %s", d->refused.message);
	}
	if (rc == 0) {
		json_object_set_new(seen, "status", json_string(hp_status_name(t.after.status)));
		hp_d_note(d, json_pack("{s:s, s:s}", "child", d->claimed.workflow, "status", hp_status_name(t.after.status)));
		json_array_append(d->children, seen);
	}
	json_decref(seen);
	return rc;
}
