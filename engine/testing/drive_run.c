/* drive_run.c: one claimed run through hp_step(), as the worker does it: answer
 * evaluations, commit, ask the hooks for what the world would say. */
#include "testing/drive_private.h"

#include <stdio.h>
#include <string.h>

/* ---- what must live until the commit after next ---- */

static struct hp_arena *arena(struct hp_drive *d) { return d->step[d->turn]; }

static int keep(struct hp_drive *d, struct hp_bytes *b, struct hp_error *err)
{
	if (b->n == 0)
		return 0;
	b->p = hp_arena_strndup(arena(d), b->p, b->n);
	return b->p ? 0 : hp_fail(err, HP_E_NOMEM, "no memory for a value of the run");
}

static int keep_event(struct hp_drive *d, struct hp_event *ev, struct hp_error *err)
{
	return hp_event_keep(ev, arena(d)) == 0 ? 0 : hp_fail(err, HP_E_NOMEM, "no memory for a value of the run");
}

/* ---- evaluations ---- */

static int evaluate(struct hp_drive *d, const struct hp_action *act, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_run *run = act->pending ? &act->pending->after : &d->m.run;
	struct hp_run_data data = {.id = run->id,
				   .visit = run->visit,
				   .installation = d->installation,
				   .key = d->claimed.key,
				   .input = d->claimed.input,
				   .signed_request = d->claimed.signed_request,
				   .signed_key = d->claimed.signed_key,
				   .signed_hash = d->claimed.signed_hash,
				   .annex = d->claimed.annex,
				   .now = d->now};

	hp_buf_clear(&d->saved_text);
	if (hp_json_write(&d->saved_text, d->saved, err) < 0)
		return -1;
	data.saved = hp_buf_bytes(&d->saved_text);
	memset(ev, 0, sizeof *ev);
	hp_buf_clear(&d->scratch);
	hp_workflow_eval(d->w, &data, run, act, &d->scratch, ev);
	if (keep_event(d, ev, err) < 0)
		return -1;
	ev->type = HP_EV_VALUE;
	ev->now = d->now;
	if (act->eval == HP_EVAL_FOUND && ev->ok && ev->verdict == HP_VERDICT_FOUND && hp_workflow_secrets(d->w, act->state) > 0)
		hp_d_secrets(d, act->state, ev);
	return 0;
}

/* ---- commits ---- */

void hp_d_on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct hp_drive *d = arg;

	(void)now;
	d->answered = true;
	HP_ASSERT(n == 1);
	d->committed = res[0];
	d->refused = res[0].error ? *res[0].error : (struct hp_error){0};
	d->committed.error = NULL;
}

static int merge(struct hp_drive *d, const struct hp_transition *t, struct hp_error *err)
{
	for (int i = 0; i < t->n_saves; i++) {
		const struct hp_save *s = &t->saves[i];
		json_t *v = hp_json_parse(s->value.p, s->value.n, "a saved value", err);
		int rc;

		if (!v)
			return -1;
		rc = s->name ? json_object_set(d->saved, s->name, v) : json_object_update(d->saved, v);
		json_decref(v);
		if (rc < 0)
			return hp_fail(err, HP_E_NOMEM, "no memory for a saved value");
	}
	return 0;
}

static void note_transition(struct hp_drive *d, const struct hp_transition *t)
{
	const char *from = d->def->states[t->from_state].name, *to = d->def->states[t->after.state].name;
	json_t *row = json_pack("{s:s, s:s, s:s, s:s}", "move", hp_move_name(t->move), "from", from, "state", to,
				"status", hp_status_name(t->after.status));
	char at[32];

	if (t->quiet) {
		json_decref(row);
		return;
	}
	if (t->after.visit != d->seen_visit)
		json_array_append_new(d->path, json_string(to));
	if (t->move == HP_MOVE_UNDONE && t->from_state >= d->def->n_states)
		json_array_append_new(d->undone, json_string(d->def->states[d->def->states[t->from_state].undoes].name));
	d->seen_visit = t->after.visit;
	if (t->admits)
		json_object_set_new(row, "attempt", json_integer(t->after.attempt));
	if (t->code)
		json_object_set_new(row, "code", json_string(t->code));
	if (t->message)
		json_object_set_new(row, "message", json_string(t->message));
	if (t->disposition == HP_PARK && t->after.due_at > 0)
		json_object_set_new(row, "due_at", json_string(hp_time_format(t->after.due_at, at, sizeof at)));
	hp_d_note(d, row);
}

static int written(struct hp_drive *d, const struct hp_transition *t, struct hp_event *ev, struct hp_error *err)
{
	struct hp_transition as = *t;

	d->refusals = 0;
	if (d->committed.gated[0])
		hp_transition_refuse(&as, &d->m.run, 0, d->committed.gated, NULL);
	note_transition(d, &as);
	d->last = as.after;
	d->last.pause = d->committed.pause;
	if (merge(d, t, err) < 0)
		return -1;
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_COMMITTED;
	ev->now = d->now;
	ev->cancel = d->committed.cancel;
	ev->pause = d->committed.pause;
	ev->first_sent_at = d->committed.first_sent_at;
	ev->gated = d->committed.gated[0] != 0;
	if (t->keep.p) {
		hp_buf_clear(&d->kept);
		hp_buf_add(&d->kept, t->keep.p, t->keep.n);
	}
	ev->kept = hp_buf_bytes(&d->kept);
	d->turn = !d->turn;
	hp_arena_reset(arena(d));
	return 0;
}

/* As the worker: the first time the machine holds the run with our code. */
static int refused(struct hp_drive *d, struct hp_event *ev, struct hp_error *err)
{
	if (++d->refusals > 1)
		return hp_fail(err, d->refused.code ? d->refused.code : HP_E_INTERNAL,
			       "the store refuses this step: %s", d->refused.message);
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_VALUE;
	ev->outcome = HP_NEEDS_PERSON;
	ev->code = "commit_refused";
	ev->message = d->refused.message;
	ev->now = d->now;
	return 0;
}

/* A decision was made while a check beside the approval was in the air. */
#define MET_A_DOOR 1

static int commit(struct hp_drive *d, const struct hp_transition *t, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_store_ops *ops = d->store->ops;
	struct hp_sql_tx *tx = d->tx;

	d->tx = NULL;
	if (t->in_sql && tx) {
		ops->sql_commit(d->store, tx, d->claimed.token, t, hp_d_on_commit, d);
	} else {
		if (tx)
			ops->sql_abort(d->store, tx);
		ops->commit(d->store, &t, 1, hp_d_on_commit, d);
	}
	hp_d_await(d);
	if (d->committed.outcome == HP_COMMIT_OK)
		return written(d, t, ev, err);
	if (d->committed.outcome == HP_COMMIT_REFUSED)
		return refused(d, ev, err);
	if (d->committed.outcome == HP_COMMIT_CONFLICT && d->m.run.phase == HP_PH_OPEN)
		return MET_A_DOOR;
	return hp_fail(err, HP_E_INTERNAL, "a step of the run met another one: nobody else should move it");
}

/* ---- effects ---- */

/* The entry of this very effect, when it was sent before. A sweep's visit has an effect
 * for each row, which its key tells apart. */
static json_t *effect_of(struct hp_drive *d, const struct hp_drive_send *s, const char *key)
{
	bool of_row = d->def->states[d->m.run.state].kind == HP_SWEEP;
	json_t *e;
	size_t i;

	json_array_foreach(d->effects, i, e)
		if (hp_json_int(e, "visit", 0) == d->m.run.visit && hp_json_bool(e, "probe", 0) == s->probe &&
		    strcmp(s->check ? s->check : "", hp_json_str(e, "check") ? hp_json_str(e, "check") : "") == 0 &&
		    (!of_row || strcmp(hp_json_str(e, "key"), key) == 0))
			return e;
	return NULL;
}

/* Notes the request among the effects; a repeat must carry the key of the first. */
static int note_effect(struct hp_drive *d, const struct hp_drive_send *s, const char *key, struct hp_error *err)
{
	json_t *e = effect_of(d, s, key);
	const char *before = e ? hp_json_str(e, "key") : NULL;

	if (before && strcmp(before, key) != 0)
		return hp_fail(err, HP_E_INTERNAL, "state \"%s\": attempt %d of %s has the key \"%s\", the one before had \"%s\"",
			       s->state, s->attempt, s->operation, key, before);
	if (e)
		return json_object_set_new(e, "attempts", json_integer(hp_json_int(e, "attempts", 0) + 1));
	e = json_deep_copy(s->seen);
	json_object_set_new(e, "state", json_string(s->state));
	json_object_set_new(e, "visit", json_integer(d->m.run.visit));
	json_object_set_new(e, "probe", json_boolean(s->probe));
	json_object_set_new(e, "attempts", json_integer(1));
	if (s->check)
		json_object_set_new(e, "check", json_string(s->check));
	return json_array_append_new(d->effects, e);
}

static int send_effect(struct hp_drive *d, const struct hp_action *act, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_state *st = &d->def->states[act->state];
	const struct hp_operation *op = act->op;
	char operation[2 * HP_NAME_MAX + 64], key[HP_KEY_MAX + 1];
	struct hp_drive_send s = {.operation = operation,
				  .state = st->name,
				  .attempt = d->m.run.attempt,
				  .probe = act->probe,
				  .check = act->arm ? act->arm->name : NULL,
				  .request = act->value,
				  .now = d->now};
	json_t *seen = hp_drive_seen(act->value);
	int rc;

	(void)snprintf(operation, sizeof operation, "%s.%s", op->connector, op->name);
	(void)snprintf(key, sizeof key, "%.*s", (int)act->key.n, act->key.n ? act->key.p : "");
	json_object_set_new(seen, "operation", json_string(operation));
	json_object_set_new(seen, "key", json_string(key));
	json_object_set_new(seen, "attempt", json_integer(s.attempt));
	s.seen = seen;
	memset(ev, 0, sizeof *ev);
	ev->retry_after_us = -1;
	hp_buf_clear(&d->scratch);
	rc = note_effect(d, &s, key, err);
	if (rc == 0)
		rc = d->hooks.reply(d->hooks.arg, &s, &d->scratch, ev, err);
	json_decref(seen);
	if (rc < 0 || keep_event(d, ev, err) < 0)
		return -1;
	ev->type = HP_EV_REPLY;
	ev->now = d->now;
	if (ev->outcome == HP_CLASS_OK && !act->probe && hp_workflow_secrets(d->w, act->state) > 0)
		hp_d_secrets(d, act->state, ev);
	hp_d_note(d, json_pack("{s:s, s:s, s:s, s:s*}", "request", operation, "state", st->name, "outcome",
			       hp_class_name(ev->outcome), "code", ev->code));
	return 0;
}

/* ---- statements ---- */

/* What a test answers for a page of a sweep is its rows. */
static int page_of(struct hp_drive *d, const struct hp_sql_page *p, struct hp_sql_rows *rows, struct hp_error *err)
{
	json_t *page = hp_json_parse(rows->rows.p, rows->rows.n, "a page", err), *last, *sample = NULL;
	size_t n = json_array_size(page);
	int rc = 0;

	last = n ? json_array_get(page, n - 1) : NULL;
	rows->swept = (struct hp_swept){.rows = (int64_t)n, .changed = p->each_row ? p->row.n > 0 : (int64_t)n, .total = -1};
	hp_buf_clear(&d->scratch);
	if (last && !json_object_get(last, p->column))
		rc = hp_fail(err, HP_E_INVALID, "a row of the page has no \"%s\", which is the sweep's cursor", p->column);
	else if (last)
		rc = hp_json_write(&d->scratch, json_object_get(last, p->column), err);
	if (rc == 0 && last) {
		rows->swept.cursor = hp_buf_bytes(&d->scratch);
		rc = keep(d, &rows->swept.cursor, err);
		hp_buf_clear(&d->scratch);
		if (rc == 0)
			rc = hp_json_write(&d->scratch, last, err);
		rows->swept.row = hp_buf_bytes(&d->scratch);
		if (rc == 0)
			rc = keep(d, &rows->swept.row, err);
	}
	rows->rows = (struct hp_bytes){NULL, 0};
	if (rc == 0 && p->dry) {
		sample = json_pack("{s:b, s:I, s:I, s:O}", "dry_run", 1, "rows", (json_int_t)n, "changed",
				   (json_int_t)rows->swept.changed, "sample", page);
		hp_buf_clear(&d->scratch);
		rc = hp_json_write(&d->scratch, sample, err);
		rows->rows = hp_buf_bytes(&d->scratch);
		if (rc == 0)
			rc = keep(d, &rows->rows, err);
	}
	json_decref(sample);
	json_decref(page);
	return rc;
}

static void note_statement(struct hp_drive *d, const struct hp_state *st, const json_t *args)
{
	json_t *row = json_deep_copy(args);

	json_object_set_new(row, "state", json_string(st->name));
	json_array_append_new(d->statements, row);
}

void hp_d_sql_run(void *arg, const struct hp_sql_state *q, struct hp_sql_rows *rows)
{
	struct hp_drive *d = arg;
	const struct hp_state *st = &d->def->states[d->sql_state];
	struct hp_error why = {0};
	json_t *args = hp_json_parse(q->args.p, q->args.n, "arguments", &why);
	int rc = -1;

	if (args) {
		note_statement(d, st, args);
		d->in_sql = true;
		rc = d->hooks.sql(d->hooks.arg, st, args, rows, &why);
		d->in_sql = false;
		if (rc == 0 && q->page && rows->outcome == HP_CLASS_OK)
			rc = page_of(d, q->page, rows, &why);
	}
	json_decref(args);
	if (rc < 0) { /* the run is not stepped on: hp_d_drive() looks at `stopped` */
		hp_d_stop(d, &why, NULL);
		rows->outcome = HP_TERMINAL;
		rows->code = "stopped";
		rows->message = NULL;
	}
}

static void on_rows(void *arg, int64_t now, const struct hp_sql_rows *rows)
{
	struct hp_drive *d = arg;
	struct hp_event *ev = &d->sql_reply;
	struct hp_error why;

	(void)now;
	d->answered = true;
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_REPLY;
	ev->now = d->now;
	ev->retry_after_us = -1;
	ev->outcome = rows->outcome;
	ev->code = rows->outcome == HP_CLASS_OK ? NULL : rows->code;
	ev->message = rows->message;
	ev->none = rows->none;
	ev->value = rows->rows;
	ev->swept = rows->swept;
	if (keep_event(d, ev, &why) < 0)
		hp_d_stop(d, &why, NULL);
	d->tx = rows->tx;
}

/* It was run by a real store: the author may have an opinion on what came of it. */
static int look_at_rows(struct hp_drive *d, const struct hp_state *st, const struct hp_sql_state *q,
			struct hp_error *err)
{
	json_t *args = hp_json_parse(q->args.p, q->args.n, "arguments", err);
	int rc;

	if (!args)
		return -1;
	note_statement(d, st, args);
	rc = d->hooks.ran(d->hooks.arg, st, args, &d->sql_reply, err);
	json_decref(args);
	return rc;
}

static int statement(struct hp_drive *d, const struct hp_action *act, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_state *st = &d->def->states[act->state];
	struct hp_sql_page page;
	struct hp_sql_state q = hp_sql_state_of(&d->m, act, d->claimed.token, &page);

	d->sql_state = act->state;
	d->store->ops->sql_run(d->store, &q, on_rows, d);
	hp_d_await(d);
	if (d->stopped.code != HP_OK)
		return hp_d_stop(d, &d->stopped, err);
	if (d->hooks.real && look_at_rows(d, st, &q, err) < 0)
		return -1;
	*ev = d->sql_reply;
	hp_d_note(d, json_pack("{s:s, s:s, s:s*}", "statement", st->name, "outcome", hp_class_name(ev->outcome),
			       "code", ev->code));
	return 0;
}

/* ---- the drive ---- */

/* As the worker's all_in_hand(). */
static bool must_reload(const struct hp_drive *d, const struct hp_transition *t)
{
	return d->committed.outcome == HP_COMMIT_OK && t->disposition == HP_KEEP && t->after.signed_visit > 0 &&
	       d->claimed.signed_request.n == 0;
}

/* An approval was given: the request it signed is the store's to hand out. Or a door
 * has moved the run meanwhile. */
static int read_again(struct hp_drive *d, struct hp_error *err)
{
	d->store->ops->reload(d->store, d->engine, d->run, d->m.run.epoch, hp_d_on_claim, d);
	hp_d_await(d);
	return d->has_claimed ? 0 : hp_fail(err, HP_E_INTERNAL, "the run cannot be read again");
}

static int begin(struct hp_drive *d, struct hp_event *ev, struct hp_error *err)
{
	const struct hp_claimed *c = &d->claimed;

	json_decref(d->saved);
	d->saved = c->saved.n ? hp_json_parse(c->saved.p, c->saved.n, "saved values", err) : json_object();
	if (!d->saved)
		return -1;
	hp_arena_reset(d->step[0]);
	hp_arena_reset(d->step[1]);
	d->refusals = 0;
	hp_buf_clear(&d->kept);
	if (c->annex.n && hp_sweep_row(c->annex, &d->kept, err) < 0)
		return -1;
	hp_machine_init(&d->m, d->def, &c->run, HP_LEASE_DEFAULT);
	*ev = (struct hp_event){.type = HP_EV_CLAIMED,
				.now = d->now,
				.cancel = c->run.cancel,
				.pause = c->run.pause,
				.decision = c->decision,
				.decision_value = c->decision_value,
				.mail_id = c->mail_id,
				.mail_wait = c->mail_wait,
				.mail = c->mail,
				.command_value = c->command_value,
				.annex = c->annex,
				.kept = hp_buf_bytes(&d->kept)};
	return 0;
}

int hp_d_drive(struct hp_drive *d, struct hp_error *err)
{
	struct hp_action act;
	struct hp_event ev;
	int rc = begin(d, &ev, err);

	while (rc == 0) {
		hp_step(&d->m, &ev, &act);
		if (act.type == HP_ACT_DROP)
			break;
		switch (act.type) {
		case HP_ACT_EVAL:
			rc = evaluate(d, &act, &ev, err);
			break;
		case HP_ACT_COMMIT:
			rc = commit(d, act.transition, &ev, err);
			if (rc == MET_A_DOOR || (rc == 0 && must_reload(d, act.transition)))
				rc = read_again(d, err) < 0 ? -1 : begin(d, &ev, err);
			break;
		case HP_ACT_SEND:
			rc = send_effect(d, &act, &ev, err);
			break;
		case HP_ACT_SQL:
			rc = statement(d, &act, &ev, err);
			break;
		case HP_ACT_DROP:
			break;
		}
	}
	if (d->tx)
		d->store->ops->sql_abort(d->store, d->tx);
	d->tx = NULL;
	return rc;
}
