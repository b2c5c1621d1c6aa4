/* machine.h: the heart. step(run, event) → run', action. Pure.
 *
 * The worker, the tests, the in-memory store and exploration all drive the same
 * function. It does no I/O, reads no clock (time arrives in events), draws no
 * random numbers (jitter is a hash) and keeps no globals.
 *
 * A driver owns a `struct hp_machine` per run it works on:
 *
 *   hp_machine_init(&m, def, &run);
 *   ev = CLAIMED
 *   loop: hp_step(&m, &ev, &act)
 *     HP_ACT_EVAL    evaluate an expression, answer HP_EV_VALUE
 *     HP_ACT_COMMIT  write act.transition; when it is durable answer
 *                    HP_EV_COMMITTED. Nothing else happens to the run meanwhile:
 *                    one unacknowledged transition per run.
 *     HP_ACT_SEND    the admission is committed: send before leave_by, answer HP_EV_REPLY. (The
 *                    check of an arm only reads: the claim that found it due is
 *                    the commit that allows it, one check per claim.)
 *     HP_ACT_SQL     run the statement in its own transaction, answer HP_EV_REPLY;
 *                    the COMMIT that follows has transition.in_sql set and must be
 *                    part of that very transaction; if it has not, abort that
 *                    transaction first and commit as usual
 *     HP_ACT_DROP    the run is parked, finished or somebody else's: forget it
 *
 * When a commit conflicts (rev moved, epoch gone) the driver forgets the
 * machine, reloads the run if its epoch is still its own, and starts over with
 * CLAIMED. Values (JSON) pass through as opaque bytes owned by the driver; they
 * must live until the COMMITTED that follows, and a request until it was sent.
 *
 * The store may write an admission as refused by a gate (hp_transition_refuse says what
 * it writes then); COMMITTED says so with `gated`, and the run is dropped: parked.
 *
 * A transition the store refuses (HP_COMMIT_REFUSED) is answered with HP_EV_VALUE,
 * ok = false: the run is then held with that code.
 */
#ifndef HP_CORE_MACHINE_H
#define HP_CORE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "core/definition.h"

/* Stored as smallint: never renumber. */
enum hp_status {
	HP_RUNNING = 1,   /* ready or owned: the engine has something to do */
	HP_WAITING = 2,   /* parked: timer, event or decision */
	HP_HELD = 3,      /* parked for an operator */
	HP_SUCCEEDED = 4,
	HP_FAILED = 5,
	HP_CANCELLED = 6,
};
const char *hp_status_name(enum hp_status s);
bool hp_status_final(enum hp_status s);

/* Where a visit stands. Stored as smallint: never renumber.
 *   ENTER     entered, nothing done          → evaluates, admits
 *   ADMITTED  admission committed            → sends; found by a claim: outcome unknown
 *   BACKOFF   parked before the next attempt → re-admits at due_at
 *   DOUBT     parked before the probe        → probes at due_at
 *   PROBING   probe admitted                 → sends the probe
 *   OPEN      parked: wait, await, approval  → moves on wake, decision, due_at
 *   GATED     parked: its admission was refused → evaluates and admits anew when woken
 *   UNDOING   between two undos              → enters the next, or ends the run
 *   JOINING   parked: run, each              → moves when its children are decided
 */
enum hp_phase {
	HP_PH_ENTER = 1,
	HP_PH_ADMITTED = 2,
	HP_PH_BACKOFF = 3,
	HP_PH_DOUBT = 4,
	HP_PH_PROBING = 5,
	HP_PH_OPEN = 6,
	HP_PH_GATED = 7,
	HP_PH_UNDOING = 9,
	HP_PH_JOINING = 10,
};

/* What an operator asked of a held run (or cancel of any). */
enum hp_command {
	HP_CMD_NONE = 0,
	HP_CMD_RETRY = 1,   /* the same visit again, same key, attempts counted anew */
	HP_CMD_SKIP = 2,    /* go on as if the state had succeeded, with the given value */
	HP_CMD_GIVE_UP = 3, /* end as failed */
	/* Undo what the run did and end as failed. The effect that is in doubt is looked at
	 * first; the other two say what a person has found. */
	HP_CMD_UNDO = 4,
	HP_CMD_UNDO_HAPPENED = 41, /* it happened, with the given value: undone, too */
	HP_CMD_UNDO_ABSENT = 42,   /* it did not */
	HP_CMD_RESTART = 5, /* go on from another state as a new visit; value: its index. Also of a paused run */
};

#define HP_CODE_MAX 64

/* The canonical state of a run: exactly the state row. */
struct hp_run {
	int64_t id;
	int32_t epoch;        /* counter of claims */
	int32_t rev;          /* counter of writes */
	int32_t visit;        /* counter of state entries, from 1 */
	int32_t state;        /* index into the definition */
	enum hp_status status;
	enum hp_phase phase;
	int32_t attempt;      /* admissions of this visit */
	int32_t failures;     /* attempts that ended in a definite or assumed failure */
	int64_t entered_at;   /* this visit */
	int64_t first_sent_at; /* first admission under this key (window starts), 0: never */
	int64_t sent_at;      /* last admission */
	int64_t due_at;       /* when a parked run wakes by itself, 0: never */
	bool unresolved;      /* an admitted attempt has no known outcome */
	int32_t signed_visit; /* visit of the approval whose stored request must be sent, 0 */
	int32_t signed_for;   /* signed_visit > 0: the call that sends it, no other one does */
	uint8_t request_hash[HP_SHA256_LEN]; /* of the admitted request; all 0: there is none that could be sent again as it was */
	enum hp_class held_class;
	char code[HP_CODE_MAX]; /* error code of the last failure; held: why */
	bool cancel;          /* a door asked to cancel */
	bool pause;           /* a door asked to pause; doors alone set and clear it */
	enum hp_command command; /* a door's order for a held run */
	int32_t claims;       /* claims since the last commit */
};

/* ---- events ---- */
enum hp_event_type {
	HP_EV_CLAIMED = 1, /* we own it now (claimed, reloaded, or just started) */
	HP_EV_VALUE,       /* answer to EVAL */
	HP_EV_COMMITTED,   /* the transition is durable */
	HP_EV_REPLY,       /* answer to SEND or SQL */
};

enum hp_decision { HP_UNDECIDED = 0, HP_APPROVED = 1, HP_REJECTED = 2 };
enum hp_verdict { HP_VERDICT_UNKNOWN = 0, HP_VERDICT_FOUND = 1, HP_VERDICT_ABSENT = 2 };

/* What one page of a sweep came to. */
struct hp_swept {
	int64_t rows;           /* of the page; 0: there are no more; -1: not looked, standbys lag */
	int64_t changed;        /* by the statement */
	int64_t total;          /* -1: not asked */
	int64_t lag;            /* bytes */
	struct hp_bytes cursor; /* JSON: key of the page's last row */
	struct hp_bytes row;    /* with a call: the page's row, JSON */
};

struct hp_event {
	enum hp_event_type type;
	int64_t now;         /* database time, µs */
	bool cancel;         /* CLAIMED, COMMITTED: the cancel flag as just read */
	bool pause;          /* CLAIMED, COMMITTED: the pause flag as just read */
	int64_t first_sent_at; /* COMMITTED: hp_commit_result.first_sent_at */
	bool gated;          /* COMMITTED: the store refused the admission and parked the run */

	/* CLAIMED: what the store found for a parked run */
	enum hp_decision decision;  /* approval of this very visit */
	struct hp_bytes decision_value; /* JSON {by, reason, …}; saved under `save` */
	int64_t mail_id;            /* > 0: first matching event in the run's mailboxes */
	int32_t mail_wait;          /* which of the awaited events it is */
	struct hp_bytes mail;       /* its payload (JSON) */
	struct hp_bytes command_value; /* SKIP: JSON value, may be empty; RESTART: the state's index */
	struct hp_bytes annex;      /* JSON object kind → what is known of it; empty: nothing */
	struct hp_bytes kept;       /* CLAIMED: hp_sweep_row() of the annex; COMMITTED: the
	                             * driver's copy of hp_transition.keep */

	/* VALUE */
	bool ok;             /* false: code and message say why */
	bool truth;          /* EVAL_WHEN */
	int64_t number;      /* EVAL_UNTIL: µs since 1970 */
	enum hp_verdict verdict; /* EVAL_FOUND */
	uint8_t hash[HP_SHA256_LEN]; /* EVAL_REQUEST, EVAL_APPROVAL with `of` */
	struct hp_bytes value;  /* the value itself: JSON, request bytes, … */
	struct hp_bytes demands; /* EVAL_REQUEST of a limited call: the annex "limits" */
	struct hp_bytes key;    /* EVAL_REQUEST: the effect's key; EVAL_MAILBOX: keys joined by \n */
	struct hp_bytes secrets; /* annex "secrets", if any. EVAL_SET: what is promoted and retired;
				 * EVAL_FOUND, REPLY: those that `value` brought */

	/* REPLY, and VALUE with !ok */
	enum hp_class outcome;
	const char *code;       /* "card_declined", "timeout", …; NULL with OK */
	const char *message;    /* for people */
	int64_t retry_after_us; /* the provider's advice, < 0: none */
	bool none;              /* sql `one`: no row */
	int64_t sent_at;        /* SEND: when the request really left, if that is known (µs) */
	bool unsent;            /* SEND: it was too late for it (leave_by), and nothing has left */
	struct hp_swept swept;  /* SQL of a sweep */
};

/* ---- actions ---- */
enum hp_action_type {
	HP_ACT_EVAL = 1,
	HP_ACT_COMMIT,
	HP_ACT_SEND,  /* request bytes in `value` */
	HP_ACT_SQL,   /* args (JSON array) in `value` */
	HP_ACT_DROP,
};

enum hp_eval {
	HP_EVAL_INPUT = 1, /* is the run's input as declared? */
	HP_EVAL_REQUEST,   /* call: bytes, hash, key; action.index 1: the stored ones */
	HP_EVAL_PROBE,     /* call: the probe's request */
	HP_EVAL_FOUND,     /* call: verdict over the probe's reply (in `value`) */
	HP_EVAL_WHEN,      /* choose branch `index`, approval's `when` */
	HP_EVAL_ARGS,      /* sql: JSON {"args": […], "user": …} */
	HP_EVAL_APPROVAL,  /* JSON {ask, evidence, request?, key?}, hash of request */
	HP_EVAL_UNTIL,     /* wait: the time */
	HP_EVAL_MAILBOX,   /* keys of the state's events and then of its arms' */
	HP_EVAL_SET,       /* JSON object of values to save; sees the pending save */
	HP_EVAL_RESULT,    /* succeed, fail: JSON result (may be empty); UNDOING: the one that was kept */
	HP_EVAL_AT,        /* arm `index`: the time at which it goes on */
	HP_EVAL_CHECK,     /* arm `index`: the request of its check */
	HP_EVAL_ALARM,     /* arm `index`: does the check's reply (in `value`) make it go on? */
	HP_EVAL_UNDO,      /* call, sql: the annex "undo" that keeps how to undo it (machine_undo.c) */
	HP_EVAL_CHILDREN,  /* run, each: a page of children as annex "children"; action.index: how
	                    * many are known, action.value: each with pages: the rows */
	HP_EVAL_JOINED,    /* run, each: the value to save; action.value: the annex found */
};

/* What history says of a transition. Stored as smallint: never renumber. */
enum hp_move {
	HP_MOVE_STARTED = 1,   /* written by doors */
	HP_MOVE_ENTERED = 2,   /* left one state, entered another */
	HP_MOVE_ADMITTED = 3,  /* an attempt of the same visit was admitted */
	HP_MOVE_RETRY = 4,     /* an attempt failed; parked before the next */
	HP_MOVE_DOUBT = 5,     /* outcome unknown; parked before the probe */
	HP_MOVE_PROBING = 6,
	HP_MOVE_PARKED = 7,    /* wait, await, approval opened */
	HP_MOVE_HELD = 8,
	HP_MOVE_FINISHED = 9,
	HP_MOVE_REMINDED = 10,
	HP_MOVE_DECIDED = 11,  /* written by doors */
	HP_MOVE_COMMANDED = 12, /* written by doors: retry, skip, give up, cancel */
	HP_MOVE_WOKEN = 13,    /* parked again: woken for nothing */
	HP_MOVE_GATED = 14,    /* an admission was refused; parked, no attempt was made */
	HP_MOVE_PAUSED = 15,   /* parked because a door paused it */
	HP_MOVE_RESUMED = 16,  /* written by doors */
	HP_MOVE_MOVED = 17,    /* written by doors: pinned to another definition */
	HP_MOVE_RESTARTED = 18, /* an operator let it go on from another state */
	HP_MOVE_CHECKED = 20,  /* parked again: an arm's check failed, or no longer fails */
	HP_MOVE_UNDOING = 22,  /* unwinding has begun */
	HP_MOVE_UNDONE = 23,   /* one effect less: undone, or done by hand */
	HP_MOVE_SWEPT = 24,    /* a page of a sweep is done, or waited for */
	HP_MOVE_SPAWNED = 19,  /* parked again: a further page of children */
};
const char *hp_move_name(enum hp_move m);

enum hp_disposition {
	HP_KEEP = 0,   /* still ours */
	HP_PARK = 1,   /* released; wakes at due_at, by mailbox or by a door */
	HP_FINISH = 2, /* final */
};

struct hp_save {
	const char *name;     /* NULL with object: every member of the JSON object is saved */
	struct hp_bytes value;
};

/* What few transitions bring: a document that only the feature of that name reads.
 * The columns of every transition stay few, and the ordinary step pays nothing. */
#define HP_ANNEXES_MAX 8
struct hp_annex {
	const char *kind;
	struct hp_bytes doc;  /* JSON object */
};

/* One durable step. The store writes all of it or nothing; `epoch` and `rev` are
 * what the row must still say. */
struct hp_transition {
	int64_t run_id;
	int32_t epoch, rev;
	enum hp_move move;
	enum hp_disposition disposition;
	struct hp_run after;        /* rev + 1 */
	int32_t from_state, from_visit; /* before */
	bool in_sql;                /* part of a `sql` state's own transaction */
	bool quiet;                 /* parks again and there is nothing to tell: rev is raised
	                             * without a row of history, as by a claim */
	bool reread;                /* the row is as a reload found it: an earlier commit of this
	                             * epoch and rev may still be on its way */
	bool admits;                /* sets attempt, sent_at, request_hash in `after` */
	struct hp_bytes request;    /* admits: bytes that will be sent */
	struct hp_bytes effect_key; /* admits: the key */
	bool business_key;          /* admits: key declared by the author: unique across runs */
	bool sends_signed;          /* admits: the stored request of approval visit
	                             * after.signed_visit; its hash must be request_hash and
	                             * that approval must be approved, or the row is refused.
	                             * (after.signed_visit alone does not mean that.) */
	struct hp_save saves[3];
	int n_saves;
	enum hp_class outcome;      /* of the visit or attempt that ended */
	const char *code;
	const char *message;
	struct hp_bytes approval;   /* PARKED at an approval: JSON of EVAL_APPROVAL */
	uint8_t approval_hash[HP_SHA256_LEN];
	int64_t approval_deadline;  /* PARKED at an approval: no decision from here on, µs */
	bool approval_closes;       /* left an open approval undecided: expired or cancelled */
	struct hp_bytes wait_keys;  /* PARKED at an await: keys joined by \n, one per event */
	int64_t consume_mail;       /* left an await: this message was read */
	struct hp_bytes result;     /* FINISHED */
	struct hp_annex annexes[HP_ANNEXES_MAX];
	int n_annexes;
	struct hp_bytes keep;       /* .p not NULL: the driver copies these bytes, and has them in
	                             * hand (hp_event.kept) until a transition brings others */
};

/* Where a sweep stands. Absolute figures: writing them twice changes nothing. */
#define HP_CURSOR_MAX 512
struct hp_sweep {
	char cursor[HP_CURSOR_MAX]; /* JSON: key of the last row looked at; "": none yet */
	int64_t done, changed, pages, failed; /* rows, rows, pages, rows */
	int64_t total;          /* -1: not known */
	bool dry;               /* look, and change nothing */
	int64_t began;          /* this page, µs */
	struct hp_bytes row;    /* with a call: the row in hand; it counts as looked at, not as done */
};
/* What a claim has found of that kind: its part of the annex. Owner: caller; NULL: none. */
json_t *hp_annex_found(struct hp_bytes annex, const char *kind, struct hp_error *err);
/* The row in hand of a claimed sweep's annex, appended to out; nothing: none. */
int hp_sweep_row(struct hp_bytes annex, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

struct hp_action {
	enum hp_action_type type;
	enum hp_eval eval;
	int32_t state;       /* EVAL, SEND, SQL: which state's expression */
	int32_t index;       /* EVAL_WHEN: branch; EVAL_REQUEST: 1 = give the stored, signed
	                      * request of approval visit run.signed_visit, 0 = render anew */
	struct hp_bytes value; /* SEND: request; SQL: args; EVAL_FOUND: reply; EVAL in a sweep: its row */
	struct hp_bytes key;   /* SEND: the effect's key */
	bool probe;          /* SEND: this is the probe */
	const struct hp_arm *arm; /* SEND: this is the check of that arm */
	const struct hp_operation *op; /* SEND: whose request it is */
	int64_t timeout_us;  /* SEND, SQL */
	int64_t leave_by;    /* SEND: it leaves before this or not at all: then answer a REPLY with
	                      * `unsent`; 0: whenever the lease is good */
	const struct hp_sweep *sweep; /* SQL of a sweep: where it stands */
	struct hp_bytes reply;        /* SQL of a sweep with a call: for sweep->row; empty: not made */
	const struct hp_transition *transition; /* COMMIT: owned by the machine */
	/* EVAL: NULL, or what is not yet committed: the expression sees its `saves` on top
	 * of the run's data, and its `after` (state, visit) is the run to evaluate for. */
	const struct hp_transition *pending;
};

/* Where an arm of the state stands. */
struct hp_arm_clock {
	int64_t due;         /* 0: never by itself */
	int64_t checks;
	int32_t failures;    /* in a row */
	char code[HP_CODE_MAX]; /* of the last one */
};
#define HP_ARMS_JSON_MAX (HP_ARMS_MAX * 640)

/* Of a run that is unwound: what its claim has found (machine_undo.c). */
struct hp_undo_found {
	bool there;
	enum hp_status ends;   /* what the run will be */
	int32_t from;          /* the state in which it began */
	int32_t entry;         /* the next to undo, > 0; 0: none is left */
	int32_t state;         /* its state; 0: it cannot be entered */
	int left;              /* that nothing can undo, and nobody has answered for */
	char code[HP_CODE_MAX], message[256]; /* what began it */
	char error_code[HP_CODE_MAX]; /* state 0: why */
	char names[320];       /* what is left, for people */
};

/* A run being worked on. Treat as opaque; allocated by the driver. */
struct hp_machine {
	const struct hp_definition *def;
	struct hp_run run;        /* as last committed */
	int64_t lease_us;         /* for the earliest time of a probe */
	int32_t reread;           /* the rev that a reload found; 0: it was claimed. Of the driver. */
	bool separate_admission;  /* admission never shares the commit that enters */
	int mode;                 /* what the next event answers: private to machine*.c */
	enum hp_eval asked;       /* the last EVAL, and its index */
	int32_t asked_index;
	int32_t next;             /* EVAL_SET: where to go afterwards */
	int64_t now;
	struct hp_transition t;   /* being built */
	bool dirty;               /* t holds something */
	struct hp_bytes request, key;
	struct hp_bytes reply;
	struct {             /* of a waiting state: what is known of it until it is parked */
		struct hp_bytes approval, keys;
		uint8_t hash[HP_SHA256_LEN];
		bool has_keys;
		bool ticks;  /* an arm has a clock: all that is due is kept in the annex "arms" */
		int arm;     /* being asked for or checked */
		int64_t due; /* of the main wait */
		int32_t reminded, notes;
		struct hp_arm_clock clocks[HP_ARMS_MAX];
	} wait;
	struct hp_sweep sweep;
	char sweep_doc[HP_CURSOR_MAX + 256]; /* its annex, until the commit */
	struct hp_bytes annex;    /* as claimed */
	int64_t failed_child;     /* whose failure `catch` sees; 0: the state's own */
	char code_buf[HP_CODE_MAX];
	char message_buf[512];
	char error_json[1600];    /* the `error` value of a caught failure */
	struct hp_undo_found undo;
	size_t undo_json_n;
	char arms_json[HP_ARMS_JSON_MAX]; /* the annex of a waiting state's arms; from here on … */
	char won_json[1200];      /* … and of the arm that left the state before it */
	char undo_json[1200];     /* … and those of unwinding */
};

void hp_machine_init(struct hp_machine *m, const struct hp_definition *def, const struct hp_run *run,
		     int64_t lease_us);
/* What the store writes instead of t when a gate (a breaker, a budget) refuses its
 * admission: the state is entered, nothing of the request is kept, no attempt was made.
 * Also for PROBING, whose probe may be refused likewise. before: the row as it stands. */
void hp_transition_refuse(struct hp_transition *t, const struct hp_run *before, int64_t due_at,
			  const char *code, const char *message);
void hp_step(struct hp_machine *m, const struct hp_event *ev, struct hp_action *act);
/* Copies whatever an evaluation or a reply has put into ev into a. -1: no memory, and ev is of no use. */
int hp_event_keep(struct hp_event *ev, struct hp_arena *a) HP_MUST_CHECK;
/* Who looks for t, because its answer was lost, and finds one of its epoch and rev: is that t? */
bool hp_transition_alone(const struct hp_transition *t);

/* The row of a run that a door just started: visit 1, states[0], epoch 0 or 1. */
void hp_run_start(struct hp_run *run, int64_t id, int64_t now);

#endif
