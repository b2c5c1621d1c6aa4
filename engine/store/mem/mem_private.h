/* mem_private.h: the tables of the in-memory store and what its files share.
 *
 *   mem.c         the store as an object: answers, hooks, snapshots, definitions
 *   mem_data.c    tables, interned bytes, lookups, small helpers
 *   mem_engine.c  engines, leases, claim, reload, release
 *   mem_commit.c  the transition: compare-and-set and all that hangs on it; sql states
 *   mem_annex.c   what few transitions bring, each to its feature
 *   mem_gate.c    admissions that may be refused: asks every gate, parks, wakes
 *   mem_breaker.c circuit breakers: their gate, their probes, their doors
 *   mem_limit.c   limiters and permits: what limits starts
 *   mem_arms.c    what stands beside the main wait of a state
 *   mem_undo.c    how to take effects back, and how far that has come
 *   mem_children.c  families: children started, counted, told to end
 *   mem_budget.c  what limits calls
 *   mem_start.c   starting, keys, webhooks, mailboxes
 *   mem_door.c    decide, operate, cancel and the other doors
 *   mem_sweep.c   where a sweep stands
 *   mem_schedule.c  schedules: their rows, ticks and doors
 *   mem_lifecycle.c  pause and resume
 *   mem_secret.c  secrets: versions, doors, the annex of runs
 *   mem_read.c    run, history, approval: JSON for readers
 *   mem_dump.c    the canonical dump
 *   mem_why.c     one sentence for a run that does not move
 *
 * Rows hold only numbers and interned bytes (immutable, living as long as the store),
 * so a deep copy of the world is a copy of its arrays.
 */
#ifndef HP_STORE_MEM_PRIVATE_H
#define HP_STORE_MEM_PRIVATE_H

#include "base/arena.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/list.h"
#include "core/budget.h"
#include "store/mem/mem.h"

#define MEM_POOL_MAX ((size_t)1 << 31)  /* interned bytes of one store */
#define MEM_ANSWER_MAX ((size_t)1 << 30) /* what one answer may hold */

enum mem_secret_state { MEM_PENDING = 0, MEM_CURRENT, MEM_PREVIOUS, MEM_RETIRED };
struct mem_secret {
	struct hp_bytes name;
	int64_t last_version, changes;
};
struct mem_secret_version {
	struct hp_bytes name, sealed, key_id, fingerprint; /* sealed: base64 */
	int64_t version;
	enum mem_secret_state state;
	int64_t created_at, expires_at, promoted_at, retired_at;
	struct hp_bytes created_by, promoted_by, retired_by;
};

struct mem_engine {
	int64_t id, lease_us, lease_until, pid;
	struct hp_bytes host;
	bool dead;
};
struct mem_run {
	struct hp_run row;
	int32_t bundle;              /* index: pins the definition */
	struct hp_bytes workflow, key, input, requester;
	int64_t created_at, updated_at, finished_at;
	int64_t engine;              /* owner, 0: none */
	char token[65];
	bool awaited;                /* other runs wait for its end */
	bool ready;                  /* has a row in the ready list */
	int64_t ready_at;
	struct hp_bytes message, result;
	struct hp_bytes request, effect_key; /* of the last admission */
	struct hp_bytes command_value;
	int64_t paused_at;           /* row.pause: since when, by whom, why */
	struct hp_bytes paused_by, paused_reason;
	struct hp_bytes gate_kind, gate_name, gate_message; /* kind empty: not behind a gate */
	int64_t gated_since;
};
struct mem_key { /* a run's key: survives the run */
	struct hp_bytes workflow, key;
	int64_t run;
	int32_t generation;
	bool freed;                  /* failed or cancelled without live effects */
};
struct mem_effect { /* business keys: unique across runs */
	struct hp_bytes scope, key;
	int64_t run, first_sent_at;  /* the last that was admitted knowing of no other, and when */
	int32_t visit;
};
struct mem_saved { /* append-only: the last one of a name counts */
	int64_t run;
	int32_t rev;
	struct hp_bytes name, value;
};
struct mem_history {
	int64_t run, at;
	int32_t rev, epoch, visit, state, attempt;
	int32_t from_state, from_visit;
	enum hp_move move;
	enum hp_class outcome;
	struct hp_bytes code, message, by, reason;
	bool admits, in_sql;
	int32_t seq;                 /* > 0: a door's note that did not write the row */
};
enum mem_approval_status { MEM_OPEN = 0, MEM_APPROVED, MEM_REJECTED, MEM_EXPIRED, MEM_CLOSED };
struct mem_approval {
	int64_t id, run, opened_at, deadline, decided_at;
	int32_t visit, state;
	enum mem_approval_status status;
	struct hp_bytes document;    /* as rendered: ask, evidence, approvers, … */
	struct hp_bytes request, key; /* the signed bytes */
	bool has_request;
	uint8_t hash[HP_SHA256_LEN];
	struct hp_bytes decided_by, reason;
};
struct mem_vote {
	int64_t approval, at;
	bool yes;
	struct hp_bytes by, reason;
};
struct mem_wait {
	int64_t run;
	int32_t index;
	struct hp_bytes name, key;
};
struct mem_arms { /* of the state a run waits in */
	int64_t run;
	int32_t visit;
	struct hp_bytes doc;         /* what is due by itself, as the machine wrote it */
};
struct mem_cursor { /* a run's place in one mailbox */
	int64_t run, mail;
	struct hp_bytes name, key;
};
struct mem_mail {
	int64_t id, at, expires_at;
	struct hp_bytes name, key, payload, sender;
};
struct mem_inbox {
	struct hp_bytes source, event_id, body;
	int64_t at;
};
struct mem_bundle {
	struct hp_bytes workflow, bundle, summary;
	uint8_t digest[HP_SHA256_LEN];
	bool current;
	bool limited;                /* its summary has limits of starts */
	json_t *states, *triggers;   /* of its summary, parsed: the store's, as long as it lives */
};
struct mem_principal {
	struct hp_bytes name, kind, roles;
};

enum mem_breaker_state { B_CLOSED = 0, B_OPEN, B_HALF_OPEN, B_FORCED_OPEN, B_FORCED_CLOSED };
struct mem_breaker {
	struct hp_bytes name, reason, by;
	enum mem_breaker_state state;
	bool told;                   /* it has been more than reported on: people find it by its name */
	int64_t version, since, until, open_us, slow_us, woken_at, in_row;
	int32_t probes, passed, reopened, wave;
};
struct mem_breaker_log {
	struct hp_bytes name, reason, by;
	enum mem_breaker_state was, state;
	int64_t version, at;
};
struct mem_breaker_count { /* what engines have seen, per bucket of the window */
	struct hp_bytes name;
	int64_t width, number, calls, failed, slow;
};
struct mem_probe { /* a half-open breaker's probe under way */
	int64_t run, until;
	struct hp_bytes name;
};

#define MEM_AHEAD_MAX 20
struct mem_schedule {
	struct hp_bytes workflow, spec; /* spec: canonical JSON */
	int32_t index, version;
	int64_t position, look_at;      /* look_at 0: nothing to do */
	int64_t ahead[MEM_AHEAD_MAX];
	int n_ahead;
	bool planned;
	int64_t paused_at;              /* 0: not paused */
	struct hp_bytes paused_by, paused_reason;
	int64_t last_tick, last_run, late_us, started, skipped;
};
struct mem_tick {
	struct hp_bytes workflow, outcome;
	int32_t index;
	int64_t tick, run, at, n;
};

#define MEM_QUEUED INT64_MAX
struct mem_limiter {
	struct hp_bytes kind, name, key;
	struct hp_quota quota;
	struct hp_meter meter;          /* slots: used, how many are taken */
	int64_t waiting;
};
struct mem_permit {
	int64_t run, amount, rank;
	int64_t at;                     /* valid from; MEM_QUEUED: stands in the queue */
	int32_t visit;                  /* 0: the run's own */
	int32_t limiter;                /* place in T_LIMITER */
};
enum mem_undo_status { MEM_UNDO_OPEN = 1, MEM_UNDO_DONE, MEM_UNDO_IMPOSSIBLE, MEM_UNDO_SKIPPED };
struct mem_undo { /* how to take one effect back */
	int64_t run, at, closed_at;
	int32_t n, visit, state, rev;
	enum mem_undo_status status;
	struct hp_bytes doc;
};
struct mem_unwinding {
	int64_t run, began_at, answered_at;
	enum hp_status ends;
	int32_t from_state;
	struct hp_bytes code, message, result;
};
struct mem_sweep {
	int64_t run, done, changed, pages, failed, total, started_at, at, ended_at;
	int32_t visit, state;
	struct hp_bytes cursor, row; /* JSON; empty: none */
};
struct mem_sweep_failure {
	int64_t run, at;
	int32_t visit;
	struct hp_bytes cursor, error;
};

/* What one visit of a parent waits for; 0010_children.sql says what the words mean. */
struct mem_family {
	int64_t run;
	int32_t visit, depth, percent, concurrency;
	struct hp_bytes workflow, cursor; /* cursor: JSON */
	bool single, complete, closed;
	int64_t need, tolerate, total, queued, running, succeeded, failed, cancelled, first_failed;
};
enum mem_child_status { MEM_CHILD_QUEUED = 0, MEM_CHILD_RUNS = 1, MEM_LEFT = 7, MEM_NEVER = 8 };
struct mem_child {
	int64_t run, n, child;       /* child 0: not started */
	int32_t visit;
	int status;                  /* enum mem_child_status, or enum hp_status as it ended */
	bool own, cancel;
	struct hp_bytes code, message, key, input;
};

struct mem_budget {
	struct hp_bytes name, by;       /* by: the workflow that declared it last */
	struct hp_quota quota;
};

/* A table. `size` is that of a row. */
struct mem_vec {
	void *p;
	size_t n, cap, size;
};
enum mem_table {
	T_BREAKER_COUNT,
	T_BUDGET,
	T_SECRET, T_SECRET_VERSION,
	T_ENGINE, T_RUN, T_KEY, T_EFFECT, T_SAVED, T_HISTORY, T_APPROVAL, T_VOTE, T_WAIT,
	T_CURSOR, T_MAIL, T_INBOX, T_BUNDLE, T_PRINCIPAL, T_SCHEDULE, T_TICK,
	T_BREAKER, T_BREAKER_LOG, T_PROBE, T_LIMITER, T_PERMIT, T_ARMS, T_UNDO, T_UNWINDING,
	T_SWEEP, T_SWEEP_FAILURE, T_FAMILY, T_CHILD, T__COUNT
};
struct mem_world {
	struct mem_vec t[T__COUNT];
};

/* An answer on its way: what the callback will get. Results live in `a`. */
enum mem_answer_kind {
	A_ENGINE, A_ACK, A_CLAIM, A_COMMIT, A_START, A_INGEST, A_DOOR, A_BUNDLE, A_SQL
};
struct mem_answer {
	struct hp_list link;
	enum mem_answer_kind kind;
	struct hp_arena *a;
	union {
		hp_engine_cb engine;
		hp_ack_cb ack;
		hp_claim_cb claim;
		hp_commit_cb commit;
		hp_start_cb start;
		hp_ingest_cb ingest;
		hp_door_cb door;
		hp_bundle_cb bundle;
		hp_sql_cb sql;
	} cb;
	void *arg;
	int64_t now;
	struct hp_error err; /* code HP_OK: none */
	const void *result;
	struct hp_bytes json;
	int n;
};

struct mem_store {
	struct hp_store base; /* first */
	const int64_t *now;
	struct mem_world w;
	struct hp_arena *pool;
	struct mem_vec pool_index; /* open addressing, struct hp_bytes */
	size_t pool_used;
	json_t *summaries;         /* array: what bundles point into */
	struct hp_list spare;      /* answers to use again */
	bool reuse;
	struct hp_list queue, late;
	hp_mem_fate_fn fate;
	void *fate_arg;
	struct hp_mem_sql sql;
	bool has_sql;
	struct hp_list txs; /* open sql transactions */
};

static inline struct mem_store *mem_of(struct hp_store *s) { return (struct mem_store *)(void *)s; }

/* mem_data.c */
struct hp_bytes mem_intern(struct mem_store *m, struct hp_bytes b);
struct hp_bytes mem_intern_s(struct mem_store *m, const char *s);
/* Of interned bytes: a hash of what they say, the same in every process. */
static inline uint64_t mem_hash(struct hp_bytes b)
{
	return b.n ? ((const uint64_t *)(const void *)b.p)[-1] : 0;
}
void *mem_add(struct mem_world *w, enum mem_table t);         /* zeroed row at the end */
void mem_remove_if(struct mem_world *w, enum mem_table t, bool (*gone)(const void *row, int64_t id),
		   int64_t id);
void *mem_row(const struct mem_world *w, enum mem_table t, size_t i);
size_t mem_count(const struct mem_world *w, enum mem_table t);
#define MEM_EACH(w, table, type, it) \
	for (type *it = mem_row((w), (table), 0), *it##_end = it ? it + mem_count((w), (table)) : it; \
	     it != it##_end; it++)
void mem_world_init(struct mem_world *w);
void mem_world_copy(struct mem_world *to, const struct mem_world *from);
void mem_world_free(struct mem_world *w);
const char *mem_table_set(struct mem_world *w, enum mem_table t, const char *rows, size_t n);
bool mem_same(struct hp_bytes a, struct hp_bytes b);
int mem_compare(struct hp_bytes a, struct hp_bytes b);
struct mem_run *mem_run_find(const struct mem_world *w, int64_t id);
struct mem_engine *mem_engine_find(const struct mem_world *w, int64_t id);
struct mem_approval *mem_approval_find(const struct mem_world *w, int64_t id);
struct mem_approval *mem_approval_of(const struct mem_world *w, int64_t run, int32_t visit);
struct mem_bundle *mem_bundle_of(const struct mem_world *w, const struct mem_run *r);
/* A field of a state in the definition's summary. Owner: caller (json_decref). */
/* Is the run's state an approval? An operator may not pass it. */
bool mem_at_approval(const struct mem_store *m, const struct mem_run *r);
json_t *mem_state_json(const struct mem_world *w, const struct mem_run *r, int32_t state);
/* The state's name, into buf. */
const char *mem_state_name(const struct mem_world *w, const struct mem_run *r, int32_t state,
			   char *buf, size_t n);
struct mem_history *mem_log(struct mem_store *m, const struct mem_run *r, enum hp_move move,
			    const char *by, const char *message);
void mem_ready(struct mem_store *m, struct mem_run *r);
/* Between JSON and kept bytes; empty is null. Owner: caller. */
json_t *mem_text_json(struct hp_bytes b);
json_t *mem_parsed(struct hp_bytes b);
struct hp_bytes mem_json_kept(struct mem_store *m, const json_t *v);
int mem_write_and_drop(json_t *v, struct hp_buf *out, struct hp_error *err); /* drops v */
/* Of each name the latest value, up to that rev. */
void mem_saved_json(const struct mem_store *m, int64_t run, int32_t rev, struct hp_buf *out);

/* mem.c */
struct mem_answer *mem_answer(struct mem_store *m, enum mem_answer_kind kind, void *arg);
struct hp_bytes mem_keep(struct mem_answer *an, struct hp_bytes b); /* copy into the answer */
void *mem_keep_alloc(struct mem_answer *an, size_t n);

/* mem_engine.c */
void mem_engine_register(struct hp_store *s, const char *host, int64_t pid, int64_t lease_us,
			 hp_engine_cb cb, void *arg);
void mem_heartbeat(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg);
void mem_engine_stop(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg);
void mem_claim(struct hp_store *s, int64_t engine, int max, hp_claim_cb cb, void *arg);
void mem_reload(struct hp_store *s, int64_t engine, int64_t run, int32_t epoch, hp_claim_cb cb,
		void *arg);
void mem_release(struct hp_store *s, int64_t engine, const int64_t *runs, const int32_t *epochs,
		 int n, hp_ack_cb cb, void *arg);
void mem_own(struct mem_store *m, struct mem_run *r, int64_t engine);
/* When a run became, or becomes, claimable by itself; INT64_MAX: it is not. */
int64_t mem_wakes_at(const struct mem_run *r);
void mem_claimed_fill(struct mem_store *m, struct mem_answer *an, const struct mem_run *r,
		      struct hp_claimed *out);

/* mem_commit.c */
void mem_commit(struct hp_store *s, const struct hp_transition *const *t, int n, hp_commit_cb cb,
		void *arg);
void mem_sql_run(struct hp_store *s, const struct hp_sql_state *st, hp_sql_cb cb, void *arg);
void mem_sql_commit(struct hp_store *s, struct hp_sql_tx *tx, const char *token,
		    const struct hp_transition *t, hp_commit_cb cb, void *arg);
void mem_sql_abort(struct hp_store *s, struct hp_sql_tx *tx);
void mem_sql_free_all(struct mem_store *m);

/* mem_start.c */
void mem_start(struct hp_store *s, int64_t engine, const struct hp_start *st, hp_start_cb cb,
	       void *arg);
void mem_ingest(struct hp_store *s, int64_t engine, const struct hp_ingest *in, hp_ingest_cb cb,
		void *arg);
int mem_start_check(struct mem_store *m, const struct hp_start *st, struct hp_error *err);
struct mem_run *mem_start_apply(struct mem_store *m, const struct hp_start *st, int64_t engine,
				bool *existed);
int mem_mail_check(const struct hp_delivery *d, struct hp_bytes payload, struct hp_error *err);
int64_t mem_mail_put(struct mem_store *m, const struct hp_delivery *d, struct hp_bytes payload,
		     const char *sender, int *woken);
/* First matching event for a run that waits; NULL: none. *index: which wait. */
const struct mem_mail *mem_mail_first(const struct mem_store *m, const struct mem_run *r,
				      int32_t *index);
void mem_mail_consume(struct mem_store *m, const struct mem_run *r, int64_t mail);

/* mem_limit.c */
struct mem_limiter *mem_limiter_at(const struct mem_store *m, int32_t i);
int32_t mem_limiter(struct mem_store *m, const char *kind, struct hp_bytes name, struct hp_bytes key,
		    const struct hp_quota *q); /* made if need be; asked with q from now on */
struct mem_permit *mem_permit(const struct mem_store *m, int64_t run, int32_t visit, int32_t limiter);
bool mem_take_slot(struct mem_store *m, int32_t limiter, int64_t run, int32_t visit, int64_t rank);
int64_t mem_admit_waiting(struct mem_store *m, int32_t limiter); /* the run, 0: nobody */
void mem_permit_drop(struct mem_store *m, struct mem_permit *p);
void mem_permits_sweep(struct mem_store *m); /* after drops */
/* Who comes first, of those that wait for one limiter. */
bool mem_permit_before(const struct mem_permit *a, const struct mem_permit *b);
bool mem_start_limited(struct mem_store *m, struct mem_run *r);
bool mem_not_started(const struct mem_store *m, const struct mem_run *r); /* it has limits to pass yet */
void mem_go_on(struct mem_store *m, struct mem_run *r); /* it left a queue, or was resumed before its start */
int64_t mem_overlapping(struct mem_store *m, const struct mem_bundle *d, struct hp_bytes input);
void mem_leave_starts(struct mem_store *m, int64_t run, const char *kind);

/* mem_budget.c */
int mem_budgets_check(const struct mem_store *m, const char *workflow, const json_t *summary, struct hp_error *err);
void mem_put_budgets(struct mem_store *m, const char *workflow, const json_t *summary);

/* mem_annex.c */
int mem_annex_check(const struct mem_store *m, const struct hp_transition *t, struct hp_error *err);
void mem_annex_put(struct mem_store *m, const struct hp_transition *t);
/* For a claim: JSON object kind → what is known of it; empty: nothing. */
void mem_annex_found(struct mem_store *m, struct mem_answer *an, const struct mem_run *r,
		     struct hp_bytes *out);

/* mem_gate.c */
struct mem_refusal {
	const char *code;             /* NULL: let in */
	char message[HP_REASON_MAX + 512]; /* a breaker's brings a person's reason */
	int64_t due_at;               /* 0: who opens the gate wakes it */
	const char *kind;
	struct hp_bytes name;
};
/* mem_budget.c: what the transition leaves; what its admission asks */
void mem_limits_leave(struct mem_store *m, const struct hp_transition *t);
void mem_limits_gate(struct mem_store *m, const struct hp_transition *t, struct mem_refusal *out);

/* One admission (or probe of doubt) that asks. */
struct mem_ask {
	const struct hp_transition *t;
	char operation[2 * HP_NAME_MAX + 2]; /* "connector.operation" */
	int64_t timeout_us;
};
/* Asks all gates for t, whose compare-and-set holds; outcomes first. */
void mem_gate(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t,
	      struct mem_refusal *out);
/* What is left of the gate in a run that has just moved. */
void mem_gated(struct mem_store *m, struct mem_run *r, const struct mem_refusal *refused);
int mem_wake_gated(struct mem_store *m, const char *kind, struct hp_bytes name, int max);

/* mem_breaker.c */
void mem_breaker_gate(struct mem_store *m, const struct mem_ask *a, struct mem_refusal *out);
void mem_breaker_outcome(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t);
void mem_breaker_forget(struct mem_store *m, int64_t run); /* refused elsewhere: its places are free */
void mem_breakers_tend(struct mem_store *m);
int mem_breaker_door(struct mem_store *m, const char *name, const char *principal, const json_t *args,
		     struct hp_buf *out, struct hp_error *err);
const struct mem_breaker *mem_breaker_find(const struct mem_store *m, struct hp_bytes name);
const char *mem_breaker_word(enum mem_breaker_state s);
/* mem_children.c */
int mem_children_check(const struct mem_store *m, const struct hp_transition *t, const json_t *doc,
		       struct hp_error *err);
void mem_children_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
json_t *mem_children_found(const struct mem_store *m, const struct mem_run *r);
/* A run that is waited for has ended. */
void mem_child_ended(struct mem_store *m, const struct mem_run *r);
/* The parent that started it has told it to end. */
bool mem_told_to_end(const struct mem_store *m, const struct mem_run *r);
/* A parent would sleep now: is there something for it to do? */
bool mem_family_calls(const struct mem_store *m, const struct mem_run *r);
/* Nothing that its own children did can still be live. */
bool mem_children_without_effects(const struct mem_store *m, const struct mem_run *r);
/* Adds `children` and `parents` where there are any. */
void mem_families_json(const struct mem_store *m, int64_t run, json_t *root);
int mem_read_children(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err);
/* A parent's sentence; *first: the child it names, 0: none. */
void mem_why_children(const struct mem_store *m, const struct mem_run *r, const char *state, struct hp_buf *text,
		      int64_t *first);
bool mem_without_live_effects(const struct mem_store *m, const struct mem_run *r);

/* mem_undo.c */
int mem_undo_check(const struct mem_store *m, const struct hp_transition *t, const json_t *doc, struct hp_error *err);
void mem_undo_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
json_t *mem_undo_found(const struct mem_store *m, const struct mem_run *r);
bool mem_unwinds(const struct mem_store *m, int64_t run);
bool mem_undo_any(const struct mem_store *m, int64_t run);
/* Is that visit's effect taken back? */
bool mem_undone(const struct mem_store *m, int64_t run, int32_t visit);
json_t *mem_undo_json(const struct mem_store *m, const struct mem_run *r); /* NULL: nothing */
void mem_undo_progress(const struct mem_store *m, const struct mem_run *r, struct hp_buf *out);
/* Which order an operator's undo is; HP_CMD_NONE: refused. */
enum hp_command mem_undo_command(const struct mem_store *m, const struct mem_run *r, const json_t *args,
				 struct hp_error *err);

/* mem_door.c, mem_read.c, mem_why.c: a door fills out with JSON or fails. */
void mem_door(struct hp_store *s, const char *name, const char *principal, struct hp_bytes args,
	      hp_door_cb cb, void *arg);
bool mem_blank(const char *text);
int mem_arg_text(const json_t *args, const char *name, bool required, size_t max,
		 const char **out, struct hp_error *err);
int mem_arg_reason(const json_t *args, const char **out, struct hp_error *err);
void mem_cancel(struct mem_store *m, struct mem_run *r, const char *principal, const char *reason);
/* A door's row in the history. moves: it raised rev; else a note beside the row's rev. */
struct mem_history *mem_note_door(struct mem_store *m, struct mem_run *r, bool moves, enum hp_move move,
				  const char *code, const char *reason, const char *by);
int mem_arg_int(const json_t *args, const char *name, const int64_t *fallback, int64_t *out,
		struct hp_error *err);
struct mem_run *mem_run_get(struct mem_store *m, int64_t id, struct hp_error *err);
struct hp_bytes mem_approvers(const struct mem_store *m, const struct mem_approval *a);
const char *mem_say_time(int64_t us, char *buf); /* for sentences: whole seconds; buf ≥ 32 */
const char *mem_say_seconds(int64_t us, char *buf); /* "0.5"; buf ≥ 32 */
int mem_read_run(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err);
int mem_read_history(struct mem_store *m, const json_t *args, struct hp_buf *out,
		     struct hp_error *err);
int mem_read_approval(struct mem_store *m, const json_t *args, struct hp_buf *out,
		      struct hp_error *err);
void mem_put_time(json_t *row, const char *name, int64_t us); /* absent when 0 */
int mem_why(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err);
struct mem_run *mem_arg_run(struct mem_store *m, const json_t *args, struct hp_error *err);

/* mem_lifecycle.c */
int mem_check_lives(const struct mem_run *r, struct hp_error *err);
int mem_check_not_paused(const struct mem_run *r, struct hp_error *err);
int mem_pause(struct mem_store *m, const char *principal, const json_t *args, struct hp_buf *out,
	      struct hp_error *err);
int mem_resume(struct mem_store *m, const char *principal, const json_t *args, struct hp_buf *out,
	       struct hp_error *err);

/* mem_arms.c */
void mem_arms_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
json_t *mem_arms_found(const struct mem_store *m, const struct mem_run *r); /* NULL: nothing. Owner: caller */
/* The arms of a state that is waited in, with where each stands. NULL: none. Owner: caller. */
json_t *mem_arms_json(const struct mem_store *m, const struct mem_run *r);
int64_t mem_arms_due(const struct mem_store *m, const struct mem_run *r); /* of the main wait */
int64_t mem_own_events(const struct mem_store *m, const struct mem_run *r); /* those of arms come after */
void mem_why_arms(const struct mem_store *m, const struct mem_run *r, struct hp_buf *out);
/* mem_secret.c */
#define HP_MEM_INSTALLATION "00000000-0000-4000-8000-000000000001"
int mem_secret_check(struct mem_store *m, const struct hp_transition *t, struct hp_error *err);
void mem_secret_annex(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
int mem_secret_door(struct mem_store *m, const char *door, const char *principal, const json_t *args,
		    struct hp_buf *out, struct hp_error *err);

/* mem_schedule.c */
void mem_put_schedules(struct mem_store *m, struct hp_bytes workflow, const json_t *summary);
int mem_schedule_door(struct mem_store *m, const char *name, const char *principal, const json_t *args,
		      struct hp_buf *out, struct hp_error *err);

/* mem_sweep.c: annexes "sweep", "sweep_row", "sweep_failure" */
int mem_sweep_check(const struct mem_store *m, const struct hp_transition *t, const json_t *doc, struct hp_error *err);
void mem_sweep_put(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
void mem_sweep_put_row(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
void mem_sweep_put_failure(struct mem_store *m, struct mem_run *r, const struct hp_transition *t, const json_t *doc);
json_t *mem_sweep_found(const struct mem_store *m, const struct mem_run *r);
json_t *mem_sweeps_json(const struct mem_store *m, const struct mem_run *r); /* NULL: none */
bool mem_say_sweep(const struct mem_store *m, const struct mem_run *r, struct hp_buf *out);

#endif
