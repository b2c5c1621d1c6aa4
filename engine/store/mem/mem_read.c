/* mem_read.c: the world as JSON: the doors run, history and approval. */
#include <string.h>

#include "base/clock.h"
#include "store/mem/mem_private.h"

static json_t *time_of(int64_t us)
{
	char buf[32];

	return us > 0 ? json_string(hp_time_format(us, buf, sizeof buf)) : json_null();
}

static json_t *hex_of(const uint8_t hash[HP_SHA256_LEN])
{
	char hex[HP_SHA256_HEX];

	hp_hex(hash, HP_SHA256_LEN, hex);
	return json_string(hex);
}

static json_t *state_of(const struct mem_store *m, int64_t run, int32_t state)
{
	char name[HP_NAME_MAX + 1];

	return json_string(mem_state_name(&m->w, mem_run_find(&m->w, run), state, name, sizeof name));
}

/* Absent rather than null. */
static void put_text(json_t *row, const char *name, struct hp_bytes b)
{
	if (b.n)
		json_object_set_new(row, name, mem_text_json(b));
}

void mem_put_time(json_t *row, const char *name, int64_t us)
{
	if (us > 0)
		json_object_set_new(row, name, time_of(us));
}

static const char *phase_word(enum hp_phase p)
{
	static const char *const words[] = { "",        "enter",   "admitted", "backoff",
					     "doubt", "probing", "open", "gated", "checking", "undoing", "joining" };

	return (size_t)p < sizeof words / sizeof *words ? words[p] : "";
}

static const char *const approval_words[] = { "open", "approved", "rejected", "expired", "cancelled" };

/* ---- rows ---- */

static json_t *approval_row(const struct mem_store *m, const struct mem_approval *a)
{
	const struct mem_run *r = mem_run_find(&m->w, a->run);
	json_t *doc = mem_parsed(a->document), *row, *votes = json_array();

	MEM_EACH(&m->w, T_VOTE, struct mem_vote, v)
		if (v->approval == a->id)
			json_array_append_new(votes,
					      json_pack("{s:o, s:s, s:o, s:o}", "by",
							mem_text_json(v->by), "decision",
							v->yes ? "approve" : "reject", "reason",
							mem_text_json(v->reason), "at", time_of(v->at)));
	row = json_pack("{s:I, s:I, s:i, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o}", "approval",
			(json_int_t)a->id, "run", (json_int_t)a->run, "visit", (int)a->visit,
			"workflow", mem_text_json(r->workflow), "state", state_of(m, a->run, a->state),
			"approvers", mem_text_json(mem_approvers(m, a)), "requester", mem_text_json(r->requester),
			"status", approval_words[a->status], "opened_at", time_of(a->opened_at),
			"deadline_at", time_of(a->deadline), "votes", votes);
	put_text(row, "decided_by", a->decided_by);
	put_text(row, "reason", a->reason);
	json_object_set_new(row, "ask", json_incref(json_object_get(doc, "ask")));
	json_object_set_new(row, "evidence", json_incref(json_object_get(doc, "evidence")));
	if (a->has_request) {
		put_text(row, "request", a->request);
		put_text(row, "request_key", a->key);
		json_object_set_new(row, "request_sha256", hex_of(a->hash));
	}
	if (a->decided_at)
		json_object_set_new(row, "decided_at", time_of(a->decided_at));
	json_decref(doc);
	return row;
}

static json_t *history_row(const struct mem_store *m, const struct mem_history *h)
{
	json_t *row = json_pack("{s:i, s:i, s:o, s:s, s:o, s:o, s:i}", "rev", (int)h->rev, "visit",
				(int)h->visit, "at", time_of(h->at), "move", hp_move_name(h->move),
				"from", state_of(m, h->run, h->from_state), "state",
				state_of(m, h->run, h->state), "attempt", (int)h->attempt);

	if (h->admits)
		json_object_set_new(row, "admits", json_true());
	if (h->outcome != HP_CLASS_OK)
		json_object_set_new(row, "outcome", json_string(hp_class_name(h->outcome)));
	put_text(row, "code", h->code);
	put_text(row, "message", h->message);
	put_text(row, "reason", h->reason);
	put_text(row, "by", h->by);
	return row;
}

static json_t *run_row(const struct mem_store *m, const struct mem_run *r)
{
	const struct hp_run *x = &r->row;
	json_t *row = json_pack("{s:I, s:o, s:o, s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:b}",
				"run", (json_int_t)x->id, "workflow", mem_text_json(r->workflow), "key",
				mem_text_json(r->key), "status", hp_status_name(x->status), "phase",
				phase_word(x->phase), "state", state_of(m, x->id, x->state), "visit",
				(int)x->visit, "rev", (int)x->rev, "epoch", (int)x->epoch, "attempt",
				(int)x->attempt, "failures", (int)x->failures, "due_at",
				time_of(x->due_at), "created_at", time_of(r->created_at), "cancel",
				x->cancel ? 1 : 0);

	json_object_set_new(row, "input", mem_parsed(r->input));
	if (x->pause)
		json_object_set_new(row, "paused", json_pack("{s:o, s:o, s:o}", "by", mem_text_json(r->paused_by), "at",
							     time_of(r->paused_at), "reason", mem_text_json(r->paused_reason)));
	json_object_set_new(row, "requester", mem_text_json(r->requester));
	json_object_set_new(row, "entered_at", time_of(x->entered_at));
	if (x->code[0])
		json_object_set_new(row, "code", json_string(x->code));
	if (r->message.n)
		json_object_set_new(row, "message", mem_text_json(r->message));
	if (r->finished_at) {
		json_object_set_new(row, "finished_at", time_of(r->finished_at));
		json_object_set_new(row, "result", mem_parsed(r->result));
	}
	return row;
}

/* ---- doors ---- */

int mem_read_run(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	const struct mem_run *r = mem_arg_run(m, args, err);
	json_t *approvals, *waits, *arms, *undo, *sweeps, *root;
	struct hp_buf saved;

	if (!r)
		return -1;
	approvals = json_array();
	MEM_EACH(&m->w, T_APPROVAL, struct mem_approval, a)
		if (a->run == r->row.id)
			json_array_append_new(approvals, approval_row(m, a));
	hp_buf_init(&saved, HP_RUN_DATA_MAX);
	mem_saved_json(m, r->row.id, INT32_MAX, &saved);
	waits = json_array();
	MEM_EACH(&m->w, T_WAIT, struct mem_wait, w)
		if (w->run == r->row.id)
			json_array_append_new(waits, json_pack("{s:o, s:s%}", "name", mem_text_json(w->name), "key",
							       w->key.n ? w->key.p : "", w->key.n));
	arms = mem_arms_json(m, r);
	root = json_pack("{s:o, s:o, s:o, s:o, s:o}", "run", run_row(m, r), "saved", mem_parsed(hp_buf_bytes(&saved)),
			 "approvals", approvals, "waits", waits, "arms", arms ? arms : json_array());
	mem_families_json(m, r->row.id, root);
	hp_buf_free(&saved);
	undo = mem_undo_json(m, r);
	if (undo)
		json_object_set_new(root, "undo", undo);
	sweeps = mem_sweeps_json(m, r);
	if (sweeps)
		json_object_set_new(root, "sweeps", sweeps);
	return mem_write_and_drop(root, out, err);
}

/* Pages by rev: `after` is the last rev of the page before. Notes stay with their rev. */
int mem_read_history(struct mem_store *m, const json_t *args, struct hp_buf *out,
		     struct hp_error *err)
{
	static const int64_t limit_default = 200, after_default = -1;
	int64_t id, limit, after, revs = 0;
	const struct mem_run *r;
	json_t *rows, *root;
	int32_t last = -1;

	if (mem_arg_int(args, "run", NULL, &id, err) < 0 ||
	    mem_arg_int(args, "limit", &limit_default, &limit, err) < 0 ||
	    mem_arg_int(args, "after", &after_default, &after, err) < 0)
		return -1;
	if (limit < 1 || limit > 500)
		return hp_fail(err, HP_E_INVALID, "\"limit\" must be within 1 and 500");
	r = mem_run_get(m, id, err);
	if (!r)
		return -1;
	rows = json_array();
	root = json_pack("{s:o}", "history", rows);
	MEM_EACH(&m->w, T_HISTORY, struct mem_history, h) {
		if (h->run != r->row.id || h->rev <= after)
			continue;
		if (h->rev != last && ++revs > limit) {
			json_object_set_new(root, "next", json_integer(last));
			break;
		}
		json_array_append_new(rows, history_row(m, h));
		last = h->rev;
	}
	return mem_write_and_drop(root, out, err);
}

int mem_read_approval(struct mem_store *m, const json_t *args, struct hp_buf *out,
		      struct hp_error *err)
{
	const struct mem_approval *a;
	int64_t id;

	if (mem_arg_int(args, "approval", NULL, &id, err) < 0)
		return -1;
	a = mem_approval_find(&m->w, id);
	if (!a)
		return hp_fail(err, HP_E_NOT_FOUND, "there is no approval %lld", (long long)id);
	return mem_write_and_drop(approval_row(m, a), out, err);
}
