/* store.h: the one interface to durable state. Two implementations behind it:
 * pg/ (PostgreSQL, the real one) and mem/ (for tests and exploration), held to
 * the same meaning by one contract suite (tests/contract).
 *
 * Everything is asynchronous: a call takes a callback, which is called exactly
 * once, later, never from inside the call. mem/ queues completions for
 * hp_store_pump(); pg/ completes from its libev loop. Results are borrowed and
 * valid inside the callback only.
 *
 * What every implementation keeps (design, "What we promise"):
 *  - the run's state row is its only mutex; commit changes a run only when epoch
 *    and rev are as expected, raises rev, and writes history, saved values,
 *    waits, approvals, ready and timer rows only for runs it changed;
 *  - doors lock the state row first, ascending ids, then look;
 *  - a claim raises epoch and rev; clocks decide who may claim, never who may write;
 *  - an engine is marked dead before anything of it is taken.
 */
#ifndef HP_STORE_STORE_H
#define HP_STORE_STORE_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "core/definition.h"
#include "core/machine.h"

struct hp_store;

/* ---- engines: one row per worker process, new id at each start ---- */
struct hp_engine_info {
	int64_t id;
	int64_t now;              /* database time */
	char installation[40];    /* UUID text: salt of effect keys */
};
typedef void (*hp_engine_cb)(void *arg, const struct hp_engine_info *info, const struct hp_error *err);
/* err NULL: fine. HP_E_CONFLICT: we have been marked dead and must exit. */
typedef void (*hp_ack_cb)(void *arg, int64_t now, const struct hp_error *err);

/* ---- claimed runs ---- */
struct hp_claimed {
	struct hp_run run;             /* epoch and rev as raised by the claim */
	const char *workflow;
	uint8_t digest[HP_SHA256_LEN]; /* which definition to load */
	struct hp_bytes key;           /* the run's key, may be empty */
	struct hp_bytes input;         /* JSON */
	struct hp_bytes saved;         /* JSON object: name → latest value */
	/* what it woke for; filled as in struct hp_event */
	enum hp_decision decision;
	struct hp_bytes decision_value;
	int64_t mail_id;
	int32_t mail_wait;
	struct hp_bytes mail;
	struct hp_bytes command_value;
	struct hp_bytes annex;
	/* run.signed_visit > 0: the stored request {bytes, key} and its hash */
	struct hp_bytes signed_request;
	struct hp_bytes signed_key;
	uint8_t signed_hash[HP_SHA256_LEN];
	/* proves to sql_commit that this worker owns this epoch */
	char token[65];
};
typedef void (*hp_claim_cb)(void *arg, int64_t now, const struct hp_claimed *runs, int n,
			    const struct hp_error *err);

/* ---- commits ---- */
enum hp_commit_outcome {
	HP_COMMIT_OK = 0,
	HP_COMMIT_CONFLICT, /* epoch or rev moved: 0 rows changed */
	HP_COMMIT_REFUSED,  /* this transition cannot be written (bad data): see error */
	HP_COMMIT_UNKNOWN,  /* acknowledgement lost and not yet found out, or the database
			     * cannot write now (full, read-only, locked): reload after a pause */
};
struct hp_commit_result {
	enum hp_commit_outcome outcome;
	bool cancel;            /* the run's cancel flag, with OK */
	bool pause;             /* and its pause flag */
	int64_t first_sent_at;  /* admits with a business key that ANOTHER run or visit has been
	                         * admitted with: that first admission, else 0 */
	const struct hp_error *error; /* REFUSED, UNKNOWN: what the database said, or NULL */
	char gated[HP_CODE_MAX]; /* OK: the admission was refused with this code ("breaker_open"):
				  * the run is parked and asks again later; "": it was not */
};
typedef void (*hp_commit_cb)(void *arg, int64_t now, const struct hp_commit_result *res, int n);

/* ---- starting ---- */
struct hp_start {
	const char *workflow;
	struct hp_bytes input;   /* JSON */
	struct hp_bytes key;     /* empty: none */
	const char *requester;   /* principal, "webhook:duffel", "sql:<role>" */
	bool own;                /* claim it at once for this engine */
};
struct hp_start_result {
	int64_t run_id;
	bool existed;            /* the key already had a live or finished run: joined */
	const struct hp_claimed *claimed; /* own: ours now, else NULL */
};
typedef void (*hp_start_cb)(void *arg, int64_t now, const struct hp_start_result *res,
			    const struct hp_error *err);

/* ---- webhooks: inbox row, starts and deliveries in one commit ---- */
struct hp_delivery {
	struct hp_bytes name; /* mailbox: "stripe.refund.updated" */
	struct hp_bytes key;
};
/* A current definition that is started by an event, as an engine knows it. */
struct hp_triggered {
	const char *workflow;
	uint8_t digest[HP_SHA256_LEN];
};
struct hp_ingest {
	const char *source;
	/* Its type, and all that it starts, whether it fits there or not. Definitions that were
	 * deployed meanwhile make it stale. NULL: nobody asks. */
	const char *type;
	const struct hp_triggered *triggered;
	int n_triggered;
	bool only_ask;                  /* is it stale? If not, the answer says duplicate; nothing is written */
	struct hp_bytes event_id;
	struct hp_bytes body;           /* raw bytes as received (kept for replay) */
	struct hp_bytes payload;        /* JSON delivered to mailboxes */
	const struct hp_start *starts;
	int n_starts;
	const struct hp_delivery *deliveries;
	int n_deliveries;
};
struct hp_ingest_result {
	bool duplicate;                 /* (source, event id) was known: nothing was done */
	bool stale;                     /* other definitions are started by it: nothing was done */
	const struct hp_start_result *starts;
	int n_starts;
};
typedef void (*hp_ingest_cb)(void *arg, int64_t now, const struct hp_ingest_result *res,
			     const struct hp_error *err);

/* ---- doors and reading: JSON in, JSON out ----
 * name is one of the words below; args a JSON object; principal who asks (already
 * authenticated). Unknown ids → HP_E_NOT_FOUND, wrong state → HP_E_CONFLICT with a
 * sentence that says what is the case ("already decided by alice at …").
 *   mem/ offers those marked m.
 *   start m        {workflow, input, key?}                → {run, existed}
 *   send_event m   {name, key, payload}                   → {event, woken}
 *   decide m       {approval, decision: approve|reject, reason} → {approval, status, run}
 *   operate m      {run, action: retry|skip|give_up, reason, value?} → {run}
 *   cancel m       {run, reason}                          → {run, status}
 *   pause m        {run, reason}                          → {run, status, paused: true}
 *   resume m       {run, reason?}                         → {run, status, paused: false}
 *   restart        {run, state, reason, again?}           → {run, state, again, paused}
 *   move           {run, to, reason, map?, at?, again?}   → {run, to, state, anew, again}
 *   bulk           {action, workflow?, status?, state?, code?, since?, until?, reason, dry_run?, after?, limit?,
 *                   and what the action takes}            → {results: [{run, outcome, sentence?}], done, refused, next?}
 *   versions       {workflow}                             → {versions: [{digest, current, runs, states}], at_least?}
 *   deploy_live, try_deploy_live  {workflow, digest, bundle (text), summary, reason, map?} → {moved, stranded: […]}:
 *                   deploy() and move all live runs in one transaction, or nothing; try: taken back
 *   gc             {pass?}                                → {step, removed, more}: one step of removing what is over
 *   gc_plan        {after?}                               → {over, partitions, next?}: what would go, a page
 *   workflow_pause  {workflow, reason}                    → {workflow, paused}: new runs start paused
 *   workflow_resume {workflow, limit?}                    → {workflow, paused, resumed, more}
 *   runs           {workflow?, status?, key?, since?, until?, after?, limit?} → {runs: […], next?}
 *   run m          {run}          → {run: {…}, saved, approvals, …}
 *   history m      {run, after?, limit?}                  → {history: […], next?}
 *   why m          {run}          → {sentence, cause, …}
 *   approvals      {status?, after?, limit?}              → {approvals: […], next?}
 *   approval m     {approval}                             → the approval with request and evidence
 *   events         {name?, key?, after?, limit?}          → mailbox events
 *   workflows      {}                                     → deployed workflows
 *   metrics        {}                                     → counts for /metrics
 *   token_create   {principal, kind, roles, scopes, expires_in?} → {id, token} (shown once)
 *   tokens         {after?, limit?}                       → {tokens: […], next?}, never the hash
 *   token_revoke   {token (its id), reason?} → {id, principal, already, revoked_at, revoked_by}
 *   authenticate   {token}        → {id (the token's), principal, kind, scopes, roles}
 *   schedules m        {workflow?}              → {schedules: […]}
 *   schedule m         {schedule, ticks?}       → one, with its next ticks and what became of the last
 *   schedule_pause m   {schedule, reason}       → the same as in the list
 *   schedule_resume m  {schedule}
 *   schedule_run m     {schedule}               → {schedule, run}
 *   budgets            {}                       → {budgets: [{budget, key?, limit, window_us, kind, used, waiting, …}]}
 *   budget             {budget}                 → {budget, limits, keys: those that use most}
 *   budget_set         {budget, key?, limit, window_us?, kind?, reason} → the budget
 *   budget_unset       {budget, key?}           → {budget, limit?}: what is declared, if anything
 *   limits             {after?, limit?}         → {limits: [{kind, name, key?, max, used, waiting}], next?}
 *   secrets m          {name?} → {secrets: [{name, version, state, fingerprint, …}]}, never a value
 *   secret_promote m   {name, version?} → the version; the newest pending one, if none is given
 *   secret_retire m    {name, version?} → the version, without its value; else the previous one
 * For engines only, sealed values (base/seal.h) pass through them:
 *   secret_reserve m   {name}   → {name, version, installation}
 *   secret_put m       {name, version, sealed, key_id, fingerprint, state?, expires_in?} → the version
 *   secret_reseal m    {name, version, sealed, key_id, was} → {resealed}
 *   secrets_live m     {serial?} → {serial, installation, versions?}; versions if serial moved
 * Two are for engines only and have no route; core/schedule.h says what comes between:
 *   schedules_due m    {limit}  → {now, next?, schedules: [{workflow, index, schedule, version, spec,
 *                        position, busy, idle_since}]}
 *   schedule_fire m    {workflow, index, version, start: [tick…], skipped, missed_until, position, look,
 *                        ahead: [tick…]} → {outcome: done|taken, now, runs}. Tick rows, runs and the new
 *                        position are one commit; taken: the row was another's, or changed: nothing is done.
 */
typedef void (*hp_door_cb)(void *arg, struct hp_bytes json, const struct hp_error *err);

/* ---- definitions ---- */
struct hp_bundle {
	const char *workflow;
	uint8_t digest[HP_SHA256_LEN];
	struct hp_bytes bundle;      /* JSON: sources of the workflow and its connectors */
	struct hp_bytes summary;     /* JSON: states [{name, kind, …}], triggers, for doors and `why` */
};
typedef void (*hp_bundle_cb)(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err);

/* ---- sql states: a transaction on the workflow role's own pool ---- */
/* One page of a sweep, in one transaction: the statement for the row in hand (with its
 * reply), then the look for the next rows, then (without a call) the statement for them. */
struct hp_sql_page {
	const char *rows;            /* $1 cursor, $2 limit, then args */
	const char *column;          /* of rows: the key */
	const char *total;           /* args from $1; NULL: not asked now */
	struct hp_bytes cursor;      /* JSON: number or text */
	int limit;
	bool each_row;               /* rows are handed out one by one, for a call */
	struct hp_bytes row, reply;  /* JSON: the row in hand and its reply; empty: none */
	int64_t lag_max;             /* bytes; 0: not looked at (a dry run) */
	bool dry;                    /* rows is also asked for a sample; nothing is called */
};
struct hp_sql_state {
	int64_t run_id;
	int32_t epoch;
	const char *token;
	enum hp_sql_mode mode;
	const char *text;
	struct hp_bytes args;        /* JSON {"args": […], "user": "…"|null} */
	int64_t timeout_us;          /* statement_timeout */
	const struct hp_sql_page *page; /* HP_SQL_SWEEP: `text` is what is done with its rows */
};
/* What an HP_ACT_SQL asks for. The result points into *page for a sweep. */
struct hp_sql_state hp_sql_state_of(const struct hp_machine *m, const struct hp_action *act, const char *token,
				    struct hp_sql_page *page);
struct hp_sql_rows {
	enum hp_class outcome;       /* OK: transaction is open and waits for sql_commit */
	const char *code;            /* "unique_violation", "no_rows", … */
	const char *message;
	bool none;
	struct hp_bytes rows;        /* JSON: object (one), array (many), {"rows": n} (exec);
	                              * a sweep's dry run: {rows, changed, total?, sample} */
	struct hp_swept swept;       /* HP_SQL_SWEEP */
	struct hp_sql_tx *tx;        /* OK: owner is the caller until sql_commit or sql_abort */
};
typedef void (*hp_sql_cb)(void *arg, int64_t now, const struct hp_sql_rows *rows);

struct hp_store_ops {
	const char *name; /* "pg", "mem" */
	void (*free)(struct hp_store *s);
	bool (*up)(struct hp_store *s);
	/* What it said when it refused to write, a moment ago: a full disk, read only.
	 * NULL: it has not, or writes again. May be NULL (nothing can refuse). */
	const char *(*refuses)(struct hp_store *s);

	void (*engine_register)(struct hp_store *s, const char *host, int64_t pid, int64_t lease_us,
				hp_engine_cb cb, void *arg);
	/* On its own connection. Also marks engines whose lease has run out as dead and
	 * returns some of their runs to the ready list (bounded; every engine does it). */
	void (*heartbeat)(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg);
	/* Drain: the lease ends now, runs still owned become ready. */
	void (*engine_stop)(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg);

	/* Ready runs and due timers, those due longest, at most max; given by ascending id. Marks
	 * engines whose lease has run out as dead first, if that of its own has not. */
	void (*claim)(struct hp_store *s, int64_t engine, int max, hp_claim_cb cb, void *arg);
	/* The same run again, if its epoch is still ours; n = 0 when it is not. */
	void (*reload)(struct hp_store *s, int64_t engine, int64_t run, int32_t epoch, hp_claim_cb cb,
		       void *arg);
	/* Gives runs back without having moved them (drain, definition missing). Fenced. */
	void (*release)(struct hp_store *s, int64_t engine, const int64_t *runs, const int32_t *epochs,
			int n, hp_ack_cb cb, void *arg);
	/* Any number; split into transactions of at most HP_BATCH_MAX. A batch that the
	 * database refuses is bisected until the culprit is alone (REFUSED). A lost
	 * acknowledgement is looked up by (epoch, rev) before anything is reported; when one
	 * is found and t was made after a reload (hp_transition.reread), CONFLICT is. */
	void (*commit)(struct hp_store *s, const struct hp_transition *const *t, int n, hp_commit_cb cb,
		       void *arg);

	void (*start)(struct hp_store *s, int64_t engine, const struct hp_start *st, hp_start_cb cb,
		      void *arg);
	void (*ingest)(struct hp_store *s, int64_t engine, const struct hp_ingest *in, hp_ingest_cb cb,
		       void *arg);
	void (*door)(struct hp_store *s, const char *name, const char *principal, struct hp_bytes args,
		     hp_door_cb cb, void *arg);

	/* Makes it the workflow's current definition; known digests are kept as they are. */
	void (*deploy)(struct hp_store *s, const struct hp_bundle *b, hp_ack_cb cb, void *arg);
	void (*bundle)(struct hp_store *s, const uint8_t digest[HP_SHA256_LEN], hp_bundle_cb cb, void *arg);
	/* Current definitions of all workflows (digest and summary; bundle empty). */
	void (*current)(struct hp_store *s, hp_bundle_cb cb, void *arg);

	void (*sql_run)(struct hp_store *s, const struct hp_sql_state *st, hp_sql_cb cb, void *arg);
	/* Commits the transition in the statement's transaction; always ends tx. */
	void (*sql_commit)(struct hp_store *s, struct hp_sql_tx *tx, const char *token,
			   const struct hp_transition *t, hp_commit_cb cb, void *arg);
	void (*sql_abort)(struct hp_store *s, struct hp_sql_tx *tx);
	/* From now on cb is called when something may have become ready that nobody has
	 * claimed: a hint, never more; a store may give none (polling stays correct
	 * alone). NULL in mem. */
	void (*on_hint)(struct hp_store *s, void (*cb)(void *arg), void *arg);
	/* From now on cb is called after each heartbeat with the number of the last change of
	 * secrets, the `serial` of the door secrets_live. NULL in mem. */
	void (*on_secrets)(struct hp_store *s, void (*cb)(void *arg, int64_t serial), void *arg);
	/* mem only: runs queued completions; returns how many ran. NULL in pg. */
	int (*pump)(struct hp_store *s);
};

struct hp_store {
	const struct hp_store_ops *ops; /* first member of each implementation's struct */
};

struct hp_store_pg_options {
	const char *conninfo;          /* as role holdpoint_engine */
	const char *sql_conninfo;      /* as role holdpoint_workflow; NULL: no sql states here */
	bool pooled;                   /* a pooler in transaction mode is in between */
	int commit_connections;        /* 0: 2 */
	const char *application;
};
/* Connects in the background; ops->up says when. */
struct hp_store *hp_store_pg_new(struct ev_loop *loop, const struct hp_store_pg_options *o,
				 struct hp_error *err);

/* now: virtual clock in µs, owned by the caller, read at each call. */
struct hp_store *hp_store_mem_new(const int64_t *now, struct hp_error *err);

/* ---- migrations (pg only, blocking; used by migrate and the supervisor) ----
 * Numbered files NNNN_slug.sql of a directory, each in one transaction, ledger
 * `holdpoint.migration` with SHA-256: a changed file that was applied is an error.
 * `scope` names the ledger ("holdpoint", "wallet"). conninfo: a superuser or owner. */
struct hp_migration {
	int version;
	char name[128];
	char sha256[HP_SHA256_HEX];
	bool applied;
};
typedef void (*hp_migration_fn)(void *arg, const struct hp_migration *m);
int hp_migrate(const char *conninfo, const char *dir, const char *scope, bool dry_run,
	       hp_migration_fn each, void *arg, struct hp_error *err) HP_MUST_CHECK;

#endif
