/* mem_dump.c: the world as one text: a table of rows for every table.
 *
 * A row is an object with what the columns of the same table in PostgreSQL are called
 * and hold (tests/differential/dump.sql writes the same document there, and says what
 * both leave out and why). Absent is what would be null. Rows are sorted by their text,
 * so the text says what is there and not how it came.
 */
#include <stdlib.h>
#include <string.h>

#include "store/mem/mem_private.h"

#define DUMP_MAX ((size_t)256 * 1024 * 1024)

/* ---- values ---- */

static json_t *text(struct hp_bytes b)
{
	return json_stringn(b.n ? b.p : "", b.n);
}

static json_t *hex(const void *p, size_t n)
{
	char buf[HP_SHA256_HEX];

	HP_ASSERT(n <= HP_SHA256_LEN);
	hp_hex(p, n, buf);
	return json_string(buf);
}

static json_t *hash_of(struct hp_bytes b)
{
	uint8_t hash[HP_SHA256_LEN];

	hp_sha256(b.n ? b.p : "", b.n, hash);
	return hex(hash, sizeof hash);
}

static void put_text(json_t *row, const char *name, struct hp_bytes b)
{
	if (b.n)
		json_object_set_new(row, name, text(b));
}

static void put_json(json_t *row, const char *name, struct hp_bytes b)
{
	if (b.n) /* in a list of one: null and 0 are values, too */
		json_object_set_new(row, name, json_pack("[o]", mem_parsed(b)));
}

static void put_int(json_t *row, const char *name, int64_t v)
{
	if (v != 0)
		json_object_set_new(row, name, json_integer(v));
}

static void put_bool(json_t *row, const char *name, bool v)
{
	if (v)
		json_object_set_new(row, name, json_true());
}

static void put_hash(json_t *row, const char *name, const uint8_t hash[HP_SHA256_LEN])
{
	static const uint8_t none[HP_SHA256_LEN];

	if (memcmp(hash, none, sizeof none) != 0)
		json_object_set_new(row, name, hex(hash, HP_SHA256_LEN));
}

/* A new row of a table. Numbers that are 0 and words that are empty are left out. */
static json_t *row_in(json_t *root, const char *table)
{
	json_t *rows = json_object_get(root, table), *row = json_object();

	if (!rows) {
		rows = json_array();
		json_object_set_new(root, table, rows);
	}
	json_array_append_new(rows, row);
	return row;
}

/* ---- runs ---- */

static void dump_state(const struct mem_run *r, json_t *root)
{
	const struct hp_run *x = &r->row;
	json_t *row = row_in(root, "run_state");

	put_int(row, "run", x->id);
	put_int(row, "epoch", x->epoch);
	put_int(row, "rev", x->rev);
	put_int(row, "visit", x->visit);
	put_int(row, "state", x->state);
	put_int(row, "attempt", x->attempt);
	put_int(row, "failures", x->failures);
	put_int(row, "claims", x->claims);
	put_int(row, "signed_visit", x->signed_visit);
	put_int(row, "signed_for", x->signed_for);
	put_int(row, "status", x->status);
	put_int(row, "phase", x->phase);
	put_int(row, "held_class", x->held_class);
	put_int(row, "command", x->command);
	put_json(row, "command_value", r->command_value);
	put_bool(row, "unresolved", x->unresolved);
	put_bool(row, "cancel", x->cancel);
	put_bool(row, "pause", x->pause);
	put_bool(row, "awaited", r->awaited);
	put_int(row, "entered_at", x->entered_at);
	put_int(row, "first_sent_at", x->first_sent_at);
	put_int(row, "sent_at", x->sent_at);
	put_int(row, "due_at", x->due_at);
	put_hash(row, "request_hash", x->request_hash);
	put_text(row, "code", hp_bytes_of(x->code));
	put_int(row, "engine", r->engine);
	put_int(row, "wakes_at", mem_wakes_at(r) == INT64_MAX ? 0 : mem_wakes_at(r));
}

static void dump_marks(const struct mem_run *r, json_t *root)
{
	json_t *row;

	if (r->row.status == HP_HELD) {
		row = row_in(root, "held");
		put_int(row, "run", r->row.id);
		put_text(row, "code", hp_bytes_of(r->row.code));
	}
	if (r->row.pause) {
		row = row_in(root, "paused");
		put_int(row, "run", r->row.id);
		put_int(row, "at", r->paused_at);
		put_text(row, "by", r->paused_by);
		put_text(row, "reason", r->paused_reason);
	}
	if (r->gate_kind.n) {
		row = row_in(root, "gated");
		put_int(row, "run", r->row.id);
		put_text(row, "kind", r->gate_kind);
		put_text(row, "name", r->gate_name);
		put_int(row, "since", r->gated_since);
		put_text(row, "message", r->gate_message);
	}
}

static void dump_history(const struct mem_history *h, json_t *root)
{
	json_t *row = row_in(root, "history");

	put_int(row, "run", h->run);
	put_int(row, "rev", h->rev);
	put_int(row, "seq", h->seq);
	put_int(row, "at", h->at);
	put_int(row, "move", h->move);
	put_int(row, "from_state", h->from_state);
	put_int(row, "from_visit", h->from_visit);
	put_int(row, "state", h->state);
	put_int(row, "visit", h->visit);
	put_int(row, "attempt", h->attempt);
	put_bool(row, "admits", h->admits);
	put_bool(row, "in_sql", h->in_sql);
	put_int(row, "outcome", h->outcome);
	put_text(row, "code", h->code);
	put_text(row, "message", h->message.n ? h->message : h->reason);
	put_text(row, "actor", h->by);
}

/* Of equal names in one commit the last one counts. */
static bool saved_over(const struct mem_store *m, const struct mem_saved *v)
{
	const struct mem_saved *end = (const struct mem_saved *)mem_row(&m->w, T_SAVED, 0) + mem_count(&m->w, T_SAVED);

	for (const struct mem_saved *o = v + 1; o < end; o++)
		if (o->run == v->run && o->rev == v->rev && mem_same(o->name, v->name))
			return true;
	return false;
}

static void dump_runs(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_RUN, struct mem_run, r) {
		row = row_in(root, "run");
		put_int(row, "id", r->row.id);
		put_text(row, "workflow", r->workflow);
		put_hash(row, "digest", mem_bundle_of(&m->w, r)->digest);
		put_text(row, "key", r->key);
		put_json(row, "input", r->input);
		put_text(row, "requester", r->requester);
		put_int(row, "created_at", r->created_at);
		dump_state(r, root);
		dump_marks(r, root);
	}
	MEM_EACH(&m->w, T_HISTORY, struct mem_history, h)
		dump_history(h, root);
	MEM_EACH(&m->w, T_SAVED, struct mem_saved, v) {
		if (saved_over(m, v))
			continue;
		row = row_in(root, "saved");
		put_int(row, "run", v->run);
		put_int(row, "rev", v->rev);
		put_text(row, "name", v->name);
		put_json(row, "value", v->value);
	}
	MEM_EACH(&m->w, T_ARMS, struct mem_arms, a) {
		row = row_in(root, "arm_state");
		put_int(row, "run", a->run);
		put_int(row, "visit", a->visit);
		put_json(row, "doc", a->doc);
	}
}

/* ---- what outlives runs ---- */

static void dump_keys(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_KEY, struct mem_key, k) {
		row = row_in(root, "run_key");
		put_text(row, "workflow", k->workflow);
		json_object_set_new(row, "key_hash", hash_of(k->key));
		put_int(row, "generation", k->generation);
		put_int(row, "run", k->run);
		put_bool(row, "freed", k->freed);
	}
	MEM_EACH(&m->w, T_EFFECT, struct mem_effect, e) {
		row = row_in(root, "effect_key");
		put_text(row, "scope", e->scope);
		json_object_set_new(row, "key_hash", hash_of(e->key));
		put_int(row, "run", e->run);
		put_int(row, "visit", e->visit);
		put_int(row, "first_sent_at", e->first_sent_at);
	}
	MEM_EACH(&m->w, T_ENGINE, struct mem_engine, e) {
		row = row_in(root, "engine");
		put_int(row, "id", e->id);
		put_int(row, "lease_us", e->lease_us);
		put_int(row, "lease_until", e->lease_until);
		put_bool(row, "dead", e->dead);
	}
	MEM_EACH(&m->w, T_BUNDLE, struct mem_bundle, b) {
		row = row_in(root, "definition");
		put_text(row, "workflow", b->workflow);
		put_hash(row, "digest", b->digest);
		put_bool(row, "current", b->current);
	}
}

static void dump_mail(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_MAIL, struct mem_mail, x) {
		row = row_in(root, "mail");
		put_int(row, "id", x->id);
		put_text(row, "name", x->name);
		put_text(row, "key", x->key);
		put_json(row, "payload", x->payload);
		put_text(row, "sender", x->sender);
		put_int(row, "at", x->at);
		put_int(row, "expires_at", x->expires_at);
	}
	MEM_EACH(&m->w, T_WAIT, struct mem_wait, w) {
		row = row_in(root, "mail_wait");
		put_int(row, "run", w->run);
		put_int(row, "wait", w->index);
		put_text(row, "name", w->name);
		put_text(row, "key", w->key);
	}
	MEM_EACH(&m->w, T_CURSOR, struct mem_cursor, c) {
		row = row_in(root, "mail_cursor");
		put_int(row, "run", c->run);
		put_text(row, "name", c->name);
		json_object_set_new(row, "key_hash", hash_of(c->key));
		put_int(row, "mail", c->mail);
	}
	MEM_EACH(&m->w, T_INBOX, struct mem_inbox, x) {
		row = row_in(root, "inbox");
		put_text(row, "source", x->source);
		put_text(row, "event_id", x->event_id);
		json_object_set_new(row, "body", hash_of(x->body));
		put_int(row, "received_at", x->at);
	}
}

static void dump_approvals(const struct mem_store *m, json_t *root)
{
	static const char *const words[] = { "open", "approved", "rejected", "expired", "cancelled" };

	MEM_EACH(&m->w, T_APPROVAL, struct mem_approval, a) {
		json_t *row = row_in(root, "approval"), *doc = mem_parsed(a->document);

		put_int(row, "id", a->id);
		put_int(row, "run", a->run);
		put_int(row, "visit", a->visit);
		put_int(row, "state", a->state);
		put_text(row, "ask", hp_bytes_of(hp_json_str(doc, "ask")));
		if (json_object_get(doc, "evidence"))
			json_object_set_new(row, "evidence", json_pack("[O]", json_object_get(doc, "evidence")));
		put_text(row, "approvers", mem_approvers(m, a));
		put_int(row, "opened_at", a->opened_at);
		put_int(row, "deadline_at", a->deadline);
		json_object_set_new(row, "status", json_string(words[a->status]));
		put_int(row, "decided_at", a->decided_at);
		put_text(row, "decided_by", a->decided_by);
		put_text(row, "reason", a->reason);
		if (a->has_request) {
			json_object_set_new(row, "request", hash_of(a->request));
			put_text(row, "request_key", a->key);
			put_hash(row, "request_sha256", a->hash);
		}
		json_decref(doc);
	}
	MEM_EACH(&m->w, T_VOTE, struct mem_vote, v) {
		json_t *row = row_in(root, "vote");

		put_int(row, "approval", v->approval);
		put_text(row, "principal", v->by);
		json_object_set_new(row, "decision", json_string(v->yes ? "approve" : "reject"));
		put_text(row, "reason", v->reason);
		put_int(row, "at", v->at);
	}
}

/* ---- features ---- */

static void dump_schedules(const struct mem_store *m, json_t *root)
{
	MEM_EACH(&m->w, T_SCHEDULE, struct mem_schedule, s) {
		json_t *row = row_in(root, "schedule"), *ahead = json_array();

		put_text(row, "workflow", s->workflow);
		put_int(row, "idx", s->index);
		put_json(row, "spec", s->spec);
		put_int(row, "position", s->position);
		put_int(row, "version", s->version);
		put_int(row, "look_at", s->look_at);
		for (int i = 0; i < s->n_ahead; i++)
			json_array_append_new(ahead, json_integer(s->ahead[i]));
		json_object_set_new(row, "ahead", ahead);
		put_bool(row, "planned", s->planned);
		put_int(row, "paused_at", s->paused_at);
		put_text(row, "paused_by", s->paused_by);
		put_text(row, "paused_reason", s->paused_reason);
		put_int(row, "last_tick", s->last_tick);
		put_int(row, "last_run", s->last_run);
		put_int(row, "late_us", s->late_us);
		put_int(row, "started", s->started);
		put_int(row, "skipped", s->skipped);
	}
	MEM_EACH(&m->w, T_TICK, struct mem_tick, t) {
		json_t *row = row_in(root, "schedule_tick");

		put_text(row, "workflow", t->workflow);
		put_int(row, "idx", t->index);
		put_int(row, "tick", t->tick);
		put_text(row, "outcome", t->outcome);
		put_int(row, "n", t->n);
		put_int(row, "run", t->run);
		put_int(row, "at", t->at);
	}
}

static void dump_breakers(const struct mem_store *m, json_t *root)
{
	static const char *const words[] = { "closed", "open", "half_open", "forced_open", "forced_closed" };
	json_t *row;

	MEM_EACH(&m->w, T_BREAKER, struct mem_breaker, b) {
		row = row_in(root, "breaker");
		put_text(row, "name", b->name);
		json_object_set_new(row, "state", json_string(words[b->state]));
		put_int(row, "version", b->version);
		put_int(row, "since", b->since);
		put_int(row, "until_at", b->until);
		put_text(row, "reason", b->reason);
		put_text(row, "changed_by", b->by);
		put_int(row, "probes", b->probes);
		put_int(row, "open_us", b->open_us);
		put_int(row, "slow_us", b->slow_us);
		put_int(row, "reopened", b->reopened);
		put_int(row, "passed", b->passed);
		put_int(row, "woken_at", b->woken_at);
		put_int(row, "wave", b->wave);
		row = row_in(root, "breaker_streak");
		put_text(row, "name", b->name);
		put_int(row, "in_row", b->in_row);
	}
	MEM_EACH(&m->w, T_BREAKER_LOG, struct mem_breaker_log, l) {
		row = row_in(root, "breaker_log");
		put_text(row, "name", l->name);
		put_int(row, "version", l->version);
		put_int(row, "at", l->at);
		json_object_set_new(row, "was", json_string(words[l->was]));
		json_object_set_new(row, "state", json_string(words[l->state]));
		put_text(row, "reason", l->reason);
		put_text(row, "changed_by", l->by);
	}
	MEM_EACH(&m->w, T_PROBE, struct mem_probe, p) {
		row = row_in(root, "breaker_probe");
		put_int(row, "run", p->run);
		put_text(row, "name", p->name);
		put_int(row, "until_at", p->until);
	}
	MEM_EACH(&m->w, T_BREAKER_COUNT, struct mem_breaker_count, c) {
		row = row_in(root, "breaker_count");
		put_text(row, "name", c->name);
		put_int(row, "width", c->width);
		put_int(row, "number", c->number);
		put_int(row, "calls", c->calls);
		put_int(row, "failed", c->failed);
		put_int(row, "slow", c->slow);
	}
}

static void put_quota(json_t *row, const struct hp_quota *q)
{
	put_int(row, "max", q->max);
	put_int(row, "per_us", q->per_us);
	put_bool(row, "bucket", q->bucket);
}

static void put_limiter(json_t *row, const struct mem_limiter *l)
{
	put_text(row, "kind", l->kind);
	put_text(row, "name", l->name);
	put_text(row, "key", l->key);
}

static void dump_limits(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_LIMITER, struct mem_limiter, l) {
		row = row_in(root, "limiter");
		put_limiter(row, l);
		put_quota(row, &l->quota);
		put_int(row, "at", l->meter.at);
		put_int(row, "used", l->meter.used);
		put_int(row, "waiting", l->waiting);
		put_int(row, "now_at", l->meter.now_at);
		put_int(row, "now_used", l->meter.now_used);
	}
	MEM_EACH(&m->w, T_PERMIT, struct mem_permit, p) {
		row = row_in(root, "permit");
		put_int(row, "run", p->run);
		put_int(row, "visit", p->visit);
		put_limiter(row, mem_limiter_at(m, p->limiter));
		put_int(row, "amount", p->amount);
		put_int(row, "at", p->at == MEM_QUEUED ? 0 : p->at);
		put_int(row, "rank", p->rank);
	}
	MEM_EACH(&m->w, T_BUDGET, struct mem_budget, b) {
		row = row_in(root, "budget");
		put_text(row, "name", b->name);
		put_quota(row, &b->quota);
		put_text(row, "declared_by", b->by);
	}
}

static void dump_undo(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_UNDO, struct mem_undo, e) {
		row = row_in(root, "undo_log");
		put_int(row, "run", e->run);
		put_int(row, "n", e->n);
		put_int(row, "visit", e->visit);
		put_int(row, "state", e->state);
		put_int(row, "rev", e->rev);
		put_json(row, "doc", e->doc);
		put_int(row, "status", e->status);
		put_int(row, "at", e->at);
		put_int(row, "closed_at", e->closed_at);
	}
	MEM_EACH(&m->w, T_UNWINDING, struct mem_unwinding, u) {
		row = row_in(root, "unwinding");
		put_int(row, "run", u->run);
		put_int(row, "began_at", u->began_at);
		put_int(row, "ends", u->ends);
		put_int(row, "from_state", u->from_state);
		put_text(row, "code", u->code);
		put_text(row, "message", u->message);
		put_json(row, "result", u->result);
		put_int(row, "answered_at", u->answered_at);
	}
}

static void dump_children(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_FAMILY, struct mem_family, f) {
		row = row_in(root, "family");
		put_int(row, "run", f->run);
		put_int(row, "visit", f->visit);
		put_text(row, "workflow", f->workflow);
		put_bool(row, "single", f->single);
		put_int(row, "depth", f->depth);
		put_int(row, "need", f->need);
		put_int(row, "tolerate", f->tolerate);
		put_int(row, "percent", f->percent);
		put_int(row, "concurrency", f->concurrency);
		put_int(row, "total", f->total);
		put_int(row, "queued", f->queued);
		put_int(row, "running", f->running);
		put_int(row, "succeeded", f->succeeded);
		put_int(row, "failed", f->failed);
		put_int(row, "cancelled", f->cancelled);
		put_bool(row, "complete", f->complete);
		put_bool(row, "closed", f->closed);
		put_int(row, "first_failed", f->first_failed);
		put_json(row, "cursor", f->cursor);
	}
	MEM_EACH(&m->w, T_CHILD, struct mem_child, c) {
		row = row_in(root, "child");
		put_int(row, "run", c->run);
		put_int(row, "visit", c->visit);
		put_int(row, "n", c->n);
		put_int(row, "child", c->child);
		put_int(row, "status", c->status);
		put_bool(row, "own", c->own);
		put_bool(row, "cancel", c->cancel);
		put_text(row, "code", c->code);
		put_text(row, "message", c->message);
		put_text(row, "key", c->key);
		put_json(row, "input", c->input);
	}
}

static void dump_sweeps(const struct mem_store *m, json_t *root)
{
	json_t *row;

	MEM_EACH(&m->w, T_SWEEP, struct mem_sweep, w) {
		row = row_in(root, "sweep");
		put_int(row, "run", w->run);
		put_int(row, "visit", w->visit);
		put_json(row, "cursor", w->cursor);
		put_json(row, "row_in_hand", w->row);
		put_int(row, "done", w->done);
		put_int(row, "changed", w->changed);
		put_int(row, "pages", w->pages);
		put_int(row, "failed", w->failed);
		put_int(row, "total", w->total < 0 ? 0 : w->total);
		put_int(row, "started_at", w->started_at);
		put_int(row, "at", w->at);
		put_int(row, "ended_at", w->ended_at);
	}
	MEM_EACH(&m->w, T_SWEEP_FAILURE, struct mem_sweep_failure, f) {
		row = row_in(root, "sweep_failure");
		put_int(row, "run", f->run);
		put_int(row, "visit", f->visit);
		put_json(row, "cursor", f->cursor);
		put_json(row, "error", f->error);
		put_int(row, "at", f->at);
	}
}

static void dump_secrets(const struct mem_store *m, json_t *root)
{
	static const char *const words[] = { "pending", "current", "previous", "retired" };
	json_t *row;

	MEM_EACH(&m->w, T_SECRET, struct mem_secret, s) {
		row = row_in(root, "secret");
		put_text(row, "name", s->name);
		put_int(row, "last_version", s->last_version);
	}
	MEM_EACH(&m->w, T_SECRET_VERSION, struct mem_secret_version, v) {
		row = row_in(root, "secret_version");
		put_text(row, "name", v->name);
		put_int(row, "version", v->version);
		json_object_set_new(row, "state", json_string(words[v->state]));
		put_text(row, "sealed", v->sealed);
		put_text(row, "key_id", v->key_id);
		put_text(row, "fingerprint", v->fingerprint);
		put_int(row, "created_at", v->created_at);
		put_text(row, "created_by", v->created_by);
		put_int(row, "expires_at", v->expires_at);
		put_int(row, "promoted_at", v->promoted_at);
		put_text(row, "promoted_by", v->promoted_by);
		put_int(row, "retired_at", v->retired_at);
		put_text(row, "retired_by", v->retired_by);
	}
}

/* ---- the whole ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int write_table(const char *name, const json_t *rows, struct hp_buf *out, struct hp_error *err)
{
	size_t n = json_array_size(rows);
	struct hp_arena *a = hp_arena_new(DUMP_MAX);
	const char **texts = a ? hp_arena_alloc(a, (n + 1) * sizeof *texts) : NULL;
	struct hp_buf b;
	int rc = texts ? 0 : hp_fail(err, HP_E_NOMEM, "no memory for the dump");

	hp_buf_init(&b, DUMP_MAX);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		hp_buf_clear(&b);
		rc = hp_json_write(&b, json_array_get(rows, i), err);
		texts[i] = hp_arena_strdup(a, hp_buf_str(&b));
		HP_ASSERT(texts[i]);
	}
	if (rc == 0) {
		qsort(texts, n, sizeof *texts, by_text);
		hp_buf_printf(out, "\"%s\":[", name);
		for (size_t i = 0; i < n; i++)
			hp_buf_printf(out, "%s\n%s", i > 0 ? "," : "", texts[i]);
		rc = hp_buf_addc(out, ']');
	}
	hp_buf_free(&b);
	hp_arena_free(a);
	return rc;
}

int hp_mem_dump(const struct hp_store *s, struct hp_buf *out, struct hp_error *err)
{
	const struct mem_store *m = (const struct mem_store *)(const void *)s;
	json_t *root = json_object(), *rows;
	bool first = true;
	const char *name;
	int rc = 0;

	dump_runs(m, root);
	dump_keys(m, root);
	dump_mail(m, root);
	dump_approvals(m, root);
	dump_schedules(m, root);
	dump_breakers(m, root);
	dump_limits(m, root);
	dump_undo(m, root);
	dump_children(m, root);
	dump_sweeps(m, root);
	dump_secrets(m, root);
	hp_buf_addc(out, '{');
	json_object_foreach(root, name, rows) {
		if (!first)
			hp_buf_adds(out, ",\n");
		first = false;
		if (rc == 0)
			rc = write_table(name, rows, out, err);
	}
	json_decref(root);
	return rc == 0 ? hp_buf_addc(out, '}') : rc;
}
