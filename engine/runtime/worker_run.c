/* worker_run.c: one run in hand: what it carries, and the drive through hp_step().
 *
 * hp_w_drive() is the only caller of hp_step(). It answers EVAL in place and goes
 * on until the machine wants something that takes time; then the run is on the
 * list of what it waits for, and the answer's callback drives it again.
 */
#include "runtime/worker_private.h"

#include <string.h>
#include "base/alloc.h"
#include "base/json.h"

#define LOAD_FAILURES_MAX 3

static const char *const hand_names[HP_HAND__COUNT] = {
	"definition", "batch", "commit", "reload", "lease", "queue", "effect", "sql", "gone",
};

const char *hp_hand_name(enum hp_hand h)
{
	HP_ASSERT(h >= 0 && h < HP_HAND__COUNT);
	return hand_names[h];
}

void hp_w_hand(struct hp_owned *r, enum hp_hand h)
{
	struct hp_worker *w = r->w;

	HP_ASSERT(r->hand != HP_HAND_GONE);
	w->counts[r->hand]--;
	hp_list_del(&r->node);
	r->hand = h;
	w->counts[h]++;
	hp_list_add_tail(&w->hands[h], &r->node);
}

void hp_w_let_go(struct hp_owned *r, bool give_back)
{
	HP_ASSERT(!r->tx && r->http_token == 0);
	r->give_back = give_back;
	hp_w_hand(r, HP_HAND_GONE);
}

void hp_w_free(struct hp_owned *r)
{
	struct hp_worker *w = r->w;

	w->counts[r->hand]--;
	w->in_hand--;
	hp_list_del(&r->node);
	hp_list_del(&r->host_node);
	hp_loaded_drop(r->loaded);
	json_decref(r->saved);
	hp_buf_free(&r->saved_text);
	hp_buf_free(&r->kept);
	hp_arena_free(r->data);
	hp_arena_free(r->step[0]);
	hp_arena_free(r->step[1]);
	hp_free(r);
}

/* ---- data ---- */

/* false: no memory. */
static bool copy(struct hp_arena *a, struct hp_bytes from, struct hp_bytes *to)
{
	*to = (struct hp_bytes){NULL, 0};
	if (from.n == 0)
		return true;
	to->p = hp_arena_strndup(a, from.p, from.n);
	to->n = from.n;
	return to->p != NULL;
}

/* The scratch is wiped: no secret stays in it. */
int hp_w_keep(struct hp_owned *r, struct hp_event *ev)
{
	int rc = hp_event_keep(ev, r->step[r->turn]);

	hp_buf_wipe(&r->w->scratch);
	return rc;
}

void hp_w_next_turn(struct hp_owned *r)
{
	r->turn = !r->turn;
	hp_arena_reset(r->step[r->turn]);
}

/* A sweep's row in hand. */
static bool keep_found(struct hp_owned *r)
{
	struct hp_error err;

	hp_buf_clear(&r->kept);
	if (r->claimed.annex.n > 0 && hp_sweep_row(r->claimed.annex, &r->kept, &err) != 0)
		return false;
	r->claimed.kept = hp_buf_bytes(&r->kept);
	return !r->kept.failed;
}

/* What later steps need again outlives the turns. If it cannot be held (memory), the
 * run is read again from the store. */
void hp_w_kept(struct hp_owned *r, const struct hp_transition *t)
{
	if (!t->keep.p || (t->keep.n == 0 && r->kept.n == 0))
		return;
	hp_buf_clear(&r->kept);
	hp_buf_add(&r->kept, t->keep.p, t->keep.n);
}

/* Everything of a claim that is borrowed becomes ours. */
static bool copy_claim(struct hp_owned *r, const struct hp_claimed *c)
{
	struct hp_event *ev = &r->claimed;
	struct hp_error err;

	r->run = c->run;
	memcpy(r->digest, c->digest, sizeof r->digest);
	memcpy(r->token, c->token, sizeof r->token);
	r->token[sizeof r->token - 1] = 0;
	memcpy(r->signed_hash, c->signed_hash, sizeof r->signed_hash);
	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_CLAIMED;
	ev->cancel = c->run.cancel;
	ev->pause = c->run.pause;
	ev->decision = c->decision;
	ev->mail_id = c->mail_id;
	ev->mail_wait = c->mail_wait;
	json_decref(r->saved);
	r->saved = c->saved.n ? hp_json_parse(c->saved.p, c->saved.n, "saved values", &err) : json_object();
	r->saved_stale = true;
	return json_is_object(r->saved) && copy(r->data, c->key, &r->key) &&
	       copy(r->data, c->input, &r->input) &&
	       copy(r->data, c->signed_request, &r->signed_request) &&
	       copy(r->data, c->signed_key, &r->signed_key) &&
	       copy(r->data, c->decision_value, &ev->decision_value) &&
	       copy(r->data, c->mail, &ev->mail) && copy(r->data, c->command_value, &ev->command_value) &&
	       copy(r->data, c->annex, &ev->annex) && keep_found(r);
}

/* Committed values become what later evaluations see. */
static int merge(struct hp_owned *r, const struct hp_save *s)
{
	struct hp_error err;
	json_t *v = hp_json_parse(s->value.p, s->value.n, "saved value", &err);
	int rc;

	if (!v)
		return -1;
	rc = s->name ? json_object_set(r->saved, s->name, v) : json_object_update(r->saved, v);
	json_decref(v);
	return rc;
}

/* If one cannot be merged (memory), later states would see old values: the run is
 * read again from the store instead. */
void hp_w_saved(struct hp_owned *r, const struct hp_transition *t)
{
	for (int i = 0; i < t->n_saves; i++) {
		r->saved_stale = true;
		if (merge(r, &t->saves[i]) != 0) {
			json_decref(r->saved);
			r->saved = NULL;
			return;
		}
	}
}

static struct hp_bytes saved_text(struct hp_owned *r)
{
	struct hp_error err;

	if (r->saved_stale) {
		hp_buf_clear(&r->saved_text);
		if (hp_json_write(&r->saved_text, r->saved, &err) != 0)
			return (struct hp_bytes){NULL, 0};
		r->saved_stale = false;
	}
	return hp_buf_bytes(&r->saved_text);
}

/* ---- in and out of hand ---- */

static struct hp_owned *owned_new(struct hp_worker *w)
{
	struct hp_owned *r = hp_calloc(1, sizeof *r);

	if (!r)
		return NULL;
	r->w = w;
	r->data = hp_arena_new(2 * HP_RUN_DATA_MAX);
	r->step[0] = hp_arena_new(HP_RUN_DATA_MAX);
	r->step[1] = hp_arena_new(HP_RUN_DATA_MAX);
	hp_buf_init(&r->saved_text, HP_RUN_DATA_MAX);
	hp_buf_init(&r->kept, HP_VALUE_MAX);
	hp_list_init(&r->host_node);
	r->hand = HP_HAND_DEFINITION;
	hp_list_add_tail(&w->hands[HP_HAND_DEFINITION], &r->node);
	w->counts[HP_HAND_DEFINITION]++;
	w->in_hand++;
	if (r->data && r->step[0] && r->step[1])
		return r;
	hp_w_free(r);
	return NULL;
}

/* A run we cannot hold (memory) is given back, and there are no more for a while. */
struct hp_owned *hp_w_take(struct hp_worker *w, const struct hp_claimed *c)
{
	struct hp_owned *r = owned_new(w);

	if (!r) {
		hp_log(HP_ERROR, "no memory for a claimed run: it is given back", "run", HP_I64(c->run.id), NULL);
		hp_w_owe(w, c->run.id, c->run.epoch);
		w->owed_at = hp_w_boot(w) + w->o.poll_us;
		hp_w_look_later(w);
		return NULL;
	}
	hp_w_load(r, c);
	return r;
}

static void begin(struct hp_owned *r)
{
	struct hp_worker *w = r->w;
	const struct hp_definition *d = hp_workflow_definition(hp_loaded_workflow(r->loaded));

	if (r->run.state < 0 || r->run.state >= d->n_states + d->n_undos) {
		hp_w_hold(r, "definition_mismatch", "the stored state is not in the definition");
		return;
	}
	hp_machine_init(&r->m, d, &r->run, w->o.lease_us);
	r->m.reread = r->reread;
	r->m.separate_admission = w->o.separate_admission || hp_w_draining(w);
	r->driven = true;
	r->claimed.now = hp_worker_now(w);
	hp_w_drive(r, &r->claimed);
}

/* The definition is here, or not to be had. Another engine may be able to load it
 * (a newer program), so its runs are given back, and we look again only after a
 * pause; when it has failed several times they are held where people see them. */
static void on_loaded(void *arg, struct hp_loaded *loaded, const struct hp_error *err)
{
	struct hp_owned *r = arg;

	if (hp_w_closed(r->w)) {
		hp_loaded_drop(loaded);
		return;
	}
	if (loaded) {
		r->loaded = loaded;
		begin(r);
		return;
	}
	hp_w_log(HP_WARN, r, "the run's definition cannot be loaded", hp_code_name(err->code), err->message);
	if (hp_definitions_failures(r->w->o.definitions, r->digest) >= LOAD_FAILURES_MAX) {
		hp_w_hold(r, "definition_unloadable", err->message);
		return;
	}
	hp_w_look_later(r->w);
	hp_w_let_go(r, true);
}

/* Also after a reload: all that was known of the run is replaced. */
void hp_w_load(struct hp_owned *r, const struct hp_claimed *c)
{
	struct hp_loaded *before = r->loaded;

	r->loaded = NULL;
	r->driven = false;
	hp_arena_reset(r->data);
	hp_arena_reset(r->step[0]);
	hp_arena_reset(r->step[1]);
	if (r->hand != HP_HAND_DEFINITION)
		hp_w_hand(r, HP_HAND_DEFINITION);
	if (copy_claim(r, c)) {
		hp_definitions_get(r->w->o.definitions, r->digest, on_loaded, r);
	} else {
		hp_w_log(HP_ERROR, r, "the run's data cannot be held in memory", NULL, NULL);
		hp_w_hold(r, "data_too_large", "the run's data cannot be held in memory");
	}
	hp_loaded_drop(before);
}

/* Without a machine: parked for an operator, nothing else of it changed. */
void hp_w_hold(struct hp_owned *r, const char *code, const char *message)
{
	struct hp_transition *t = &r->m.t;
	struct hp_run before = r->driven ? r->m.run : r->run;

	r->driven = false;
	r->run = before;
	memset(t, 0, sizeof *t);
	t->run_id = before.id;
	t->epoch = before.epoch;
	t->rev = before.rev;
	t->reread = r->reread == before.rev;
	t->move = HP_MOVE_HELD;
	t->disposition = HP_PARK;
	t->from_state = before.state;
	t->from_visit = before.visit;
	t->outcome = HP_NEEDS_PERSON;
	t->after = before;
	t->after.rev++;
	t->after.claims = 0;
	t->after.status = HP_HELD;
	t->after.held_class = HP_NEEDS_PERSON;
	t->after.due_at = 0;
	t->after.command = HP_CMD_NONE;
	if (before.status == HP_RUNNING && before.phase == HP_PH_ADMITTED)
		t->after.unresolved = true; /* a request may be in the air: a retry must look first */
	hp_arena_reset(r->step[r->turn]);
	t->code = code;
	t->message = hp_arena_strdup(r->step[r->turn], message);
	memset(t->after.code, 0, sizeof t->after.code);
	memcpy(t->after.code, code, strnlen(code, sizeof t->after.code - 1));
	hp_w_commit(r, t);
}

/* ---- the drive ---- */

static void no_memory(struct hp_event *ev)
{
	*ev = (struct hp_event){.outcome = HP_RETRYABLE,
				.code = "out_of_memory",
				.message = "no memory left for a value of this run",
				.retry_after_us = -1};
}

static void evaluate(struct hp_owned *r, const struct hp_action *act, struct hp_event *ev)
{
	struct hp_worker *w = r->w;
	const struct hp_run *run = act->pending ? &act->pending->after : &r->m.run;
	struct hp_run_data data = {
		.id = run->id,
		.visit = run->visit,
		.installation = w->installation,
		.key = r->key,
		.input = r->input,
		.saved = saved_text(r),
		.signed_request = r->signed_request,
		.signed_key = r->signed_key,
		.signed_hash = r->signed_hash,
		.annex = r->claimed.annex,
		.now = hp_worker_now(w),
	};

	memset(ev, 0, sizeof *ev);
	ev->type = HP_EV_VALUE;
	++*w->n_evals;
	if (data.saved.n == 0) {
		no_memory(ev);
	} else {
		hp_buf_clear(&w->scratch);
		hp_workflow_eval(hp_loaded_workflow(r->loaded), &data, run, act, &w->scratch, ev);
		if (hp_w_keep(r, ev) != 0)
			no_memory(ev);
	}
	ev->type = HP_EV_VALUE;
	ev->now = data.now;
}

/* Nothing is in the air and nothing is begun: the run can be given back as it is. */
static bool stops_here(const struct hp_owned *r, const struct hp_event *ev, const struct hp_action *act)
{
	return hp_w_draining(r->w) && (ev->type == HP_EV_CLAIMED || ev->type == HP_EV_COMMITTED) &&
	       (act->type == HP_ACT_EVAL || act->type == HP_ACT_SQL);
}

/* An open statement may end only in a commit that belongs to it. */
static void close_statement(struct hp_owned *r)
{
	struct hp_store *s = r->w->o.store;

	if (!r->tx)
		return;
	s->ops->sql_abort(s, r->tx);
	r->tx = NULL;
}

static void commit(struct hp_owned *r, const struct hp_transition *t)
{
	if (t->in_sql && r->tx) {
		hp_w_sql_commit(r, t);
		return;
	}
	HP_ASSERT(!t->in_sql); /* a machine that forgets whose transaction it is in */
	close_statement(r);
	hp_w_commit(r, t);
}

void hp_w_drive(struct hp_owned *r, const struct hp_event *ev)
{
	struct hp_event value;
	struct hp_action act;

	HP_ASSERT(r->driven);
	for (;;) {
		hp_step(&r->m, ev, &act);
		if (stops_here(r, ev, &act)) {
			hp_w_let_go(r, true);
			return;
		}
		if (act.type != HP_ACT_EVAL)
			break;
		evaluate(r, &act, &value);
		if (act.eval == HP_EVAL_FOUND && value.ok && value.verdict == HP_VERDICT_FOUND &&
		    hp_w_seals(r, act.state, &value))
			return;
		ev = &value;
	}
	r->act = act;
	switch (act.type) {
	case HP_ACT_COMMIT:
		commit(r, act.transition);
		return;
	case HP_ACT_SEND:
		HP_CRASH_POINT(EFFECT_BEFORE);
		r->looked = false;
		hp_w_send(r);
		return;
	case HP_ACT_SQL:
		hp_w_sql(r);
		return;
	case HP_ACT_DROP:
		close_statement(r);
		hp_w_let_go(r, false);
		return;
	case HP_ACT_EVAL:
		break;
	}
	HP_ASSERT(0 && "unknown action");
}
