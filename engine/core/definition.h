/* definition.h: a workflow as a C structure.
 *
 * script/ builds it from Lua, core/machine reads it, check and graph walk it.
 * It is immutable after loading and owned by one arena. core/ never sees Lua:
 * where a definition holds an expression (a function, a template or a constant)
 * core knows only that it is there (`has_…`) and asks for its value with EVAL.
 *
 * The graph is static: `next`, `otherwise`, catch, branches, `rejected`,
 * `expired`, `timeout` and `none` are all state indexes; HP_NO_STATE means the
 * way is not declared (a failure without a way parks the run as held).
 */
#ifndef HP_CORE_DEFINITION_H
#define HP_CORE_DEFINITION_H

#include <stdbool.h>
#include <stdint.h>
#include "base/digest.h"

#define HP_NO_STATE (-1)

/* Stored as smallint: never renumber. */
enum hp_kind {
	HP_CALL = 1,
	HP_SQL = 2,
	HP_CHOOSE = 3,
	HP_APPROVAL = 4,
	HP_WAIT = 5,
	HP_AWAIT = 6,
	HP_SUCCEED = 7,
	HP_FAIL = 8,
	HP_RUN = 9,
	HP_EACH = 10,
	HP_SWEEP = 11,
};
#define HP_KIND_LAST HP_SWEEP

/* What an attempt came to. Order matters nowhere; stored as smallint. */
enum hp_class {
	HP_CLASS_OK = 0,
	HP_RETRYABLE = 1,    /* the peer did not act, or a repeat is right; try again */
	HP_TERMINAL = 2,     /* the peer refused for good; it did not act */
	HP_AMBIGUOUS = 3,    /* the peer may have acted */
	HP_NEEDS_PERSON = 4, /* only a person can go on */
};
const char *hp_class_name(enum hp_class c); /* "retryable", … */
const char *hp_kind_name(enum hp_kind k);   /* "call", … */

/* Is sending the same request again safe, and for how long? */
enum hp_repeat {
	HP_REPEAT_NEVER = 0,     /* a repeat may act twice */
	HP_REPEAT_BY_KEY = 1,    /* the provider honours our key for `window_us` */
	HP_REPEAT_BY_NATURE = 2, /* reads, PUTs: always safe */
};

struct hp_breaker_spec; /* core/breaker.h */

struct hp_operation {
	const char *connector; /* "stripe" */
	const char *name;      /* "refunds.create" */
	enum hp_repeat repeat;
	int64_t window_us;     /* HP_REPEAT_BY_KEY: how long the provider remembers */
	bool read;             /* no effect at all */
	bool destructive;
	const struct hp_breaker_spec *breaker; /* NULL: none */
	bool own_breaker;      /* of this operation alone, not of the connector */
};

struct hp_retry {
	int attempts;     /* tries in all, ≥ 1; default 5 */
	int64_t base_us;  /* default 1 s */
	int64_t cap_us;   /* default 5 min */
	int64_t total_us; /* no new attempt later than this after the first; 0: none */
};

/* catch = { code = "state", retryable = "state", otherwise = "state" } in the
 * order: exact code first, then class name, then `otherwise`. */
struct hp_catch {
	const char *match; /* an error code or a class name; NULL: otherwise */
	int next;
	int line;
};

struct hp_branch {
	int next;
	int line;
};

/* Beside the main wait of an approval, a wait, an await, a run or an each: on = { name = { … } }.
 * The first to be committed, main wait or arm, is the way out. */
enum hp_arm_kind {
	HP_ARM_EVENT = 1, /* an event arrives */
	HP_ARM_TIMER = 2, /* a time has come */
	HP_ARM_CHECK = 3, /* a read, asked again and again, says so */
};
const char *hp_arm_kind_name(enum hp_arm_kind k); /* "event", … */

struct hp_arm {
	const char *name;
	enum hp_arm_kind kind;
	int line;
	int next;
	const char *save;    /* event: the event; check: the reply that made it go on; NULL: nothing */
	const char *event;   /* event: mailbox name; its key is an expression */
	int64_t after_us;    /* timer: after the state was entered; 0: `at`, an expression */
	int64_t every_us;    /* check: from the end of one to the next */
	int64_t timeout_us;
	struct hp_operation op; /* a read */
	int failures;        /* so many failed checks in a row go on too; 0: never */
	int failed;          /* where that leads; HP_NO_STATE: next */
};

enum hp_sql_mode { HP_SQL_EXEC = 1, HP_SQL_ONE = 2, HP_SQL_MANY = 3, HP_SQL_SWEEP = 4 };

/* A state of the author's, or (from n_states on) the undo of one: a call or a
 * statement of its own that only unwinding enters. It has no way out and no name an
 * author could give: "book_hotel.undo". */
struct hp_state {
	const char *name;
	const char *doc; /* NULL: none */
	enum hp_kind kind;
	int line;        /* in the workflow's source */
	int next;        /* HP_NO_STATE for succeed, fail, choose */
	const char *save; /* name of the saved value, NULL: none */
	bool has_set;    /* EVAL_SET when the state is left the ordinary way */
	bool has_undo;   /* EVAL_UNDO when its effect has succeeded */
	int undo;        /* has_undo: the state that undoes it; 0: a text says why nothing can */
	int undoes;      /* of an undo: the state it undoes */

	/* call, sql */
	struct hp_retry retry;
	int64_t timeout_us;
	struct hp_catch *catches;
	int n_catches;

	/* approval, wait, await, run, each: by name, at most HP_ARMS_MAX */
	struct hp_arm *arms;
	int n_arms;

	struct { /* HP_CALL */
		struct hp_operation op;
		bool has_key;          /* the author gave a business key */
		bool limited;          /* budgets, rates or places: its admissions bring demands */
		int over_budget;       /* where to go when its budget is used up; HP_NO_STATE: as
		                        * declared it waits, or fails with code over_budget */
		bool has_probe;
		struct hp_operation probe; /* must be a read */
		int signed_by;         /* approval state whose `of` is this call, HP_NO_STATE */
	} call;

	struct { /* HP_SQL */
		enum hp_sql_mode mode;
		const char *text;
		bool as_user;          /* as = user(expr): EVAL_ARGS gives it too */
		int none;              /* `one` found no row; HP_NO_STATE: error "no_rows" */
	} sql;

	/* HP_SWEEP: rows by ascending key, a page at a time. sql.text is the statement for
	 * a page ($1 its rows) or, with a call, for a row ($1 the row, $2 the reply). With
	 * has_call, call.op is made for each row, one page is one row. */
	struct {
		const char *rows;      /* SELECT: $1 the last key, $2 how many, then args */
		const char *cursor;    /* column of `rows` that is the key */
		const char *first;     /* JSON: the key before the first row */
		const char *total;     /* SELECT of one number, args from $1; NULL: not asked */
		int batch;             /* rows of a page */
		int64_t per_second;    /* rows; 0: as fast as it goes */
		int64_t lag_max;       /* bytes of WAL that no standby may be behind; 0: any */
		int64_t tolerate;      /* rows whose call may fail for good */
		bool has_dry_run;      /* EVAL_ARGS says in `truth` whether it is one */
		bool has_call;
	} sweep;

	struct { /* HP_CHOOSE */
		struct hp_branch *branches; /* each with a predicate, in order */
		int n_branches;
		int otherwise;
	} choose;

	struct { /* HP_APPROVAL */
		bool has_when;         /* false: always asks */
		int of;                /* call whose request is signed, HP_NO_STATE */
		const char *approvers; /* quorum expression: "1 of payments" */
		int64_t deadline_us;
		int64_t reminders_us[8]; /* ascending, after the opening */
		int n_reminders;
		int rejected;
		int expired;
	} approval;

	struct { /* HP_WAIT */
		int64_t for_us;        /* 0: until a time that an expression gives */
	} wait;

	struct { /* HP_AWAIT */
		const char *events[8]; /* mailbox names: "stripe.refund.updated" */
		int n_events;
		int64_t within_us;
		int timeout;
	} await;

	struct { /* HP_RUN, HP_EACH */
		const char *workflow;
		int64_t need;          /* so many successes decide; 0: all must end */
		int64_t tolerate;      /* need 0: so many failures are none */
		int percent;           /* … or this share of all; -1: tolerate counts */
		int concurrency;
		bool pages;            /* the items come page by page from the statement in `sql` */
		const char *cursor;    /* pages: the column whose last value the next page begins after */
		int64_t within_us;     /* 0: no limit */
		int timeout;
	} children;

	struct { /* HP_FAIL */
		const char *code;      /* default "failed" */
		bool undo;             /* what the run did is undone before it ends */
	} fail;
};

struct hp_trigger {
	const char *source;        /* webhook source = connector: "duffel" */
	const char *events[16];
	int n_events;
	int line;
};

/* A schedule; core/schedule.h says what the words mean. */
struct hp_schedule_trigger {
	const char *cron;          /* as written; it can be parsed */
	const char *zone;          /* "UTC", "Europe/Berlin": looked up when it is followed */
	int64_t jitter_us, within_us; /* within 0: no limit */
	int catch_up;              /* enum hp_catch_up */
	int overlap;               /* enum hp_overlap */
	const char *input;         /* JSON object; the engine adds `tick` */
	int line;
};

struct hp_definition {
	const char *workflow;
	const char *doc;
	uint8_t digest[HP_SHA256_LEN]; /* of source and connectors; pins the run */
	const char *file;          /* as given, for messages */
	struct hp_state *states;   /* states[0] is the start */
	int n_states;
	int n_undos;               /* behind them: states[n_states …] */
	bool cancel_undoes;        /* on_cancel = "undo" */
	struct hp_trigger *triggers;
	int n_triggers;
	struct hp_schedule_trigger *schedules;
	int n_schedules;
	bool has_key;
	bool takes_turns;          /* fair between keys: its first transition gives the turn back */
	bool has_input;            /* a schema is declared: EVAL_INPUT */
	int64_t retention_us;      /* how long a run is kept after its end; 0: for ever */
};

/* Does it make a call: is `call` filled? */
static inline bool hp_state_calls(const struct hp_state *s)
{
	return s->kind == HP_CALL || (s->kind == HP_SWEEP && s->sweep.has_call);
}
/* Index by name, or HP_NO_STATE. */
int hp_definition_find(const struct hp_definition *d, const char *name);
/* Number of mailboxes the state itself waits for: those of its arms come after them. */
int hp_state_events(const struct hp_state *s);
/* Calls fn for every declared way out of state s: label is "next", "otherwise",
 * "rejected", "catch charge_already_refunded", "when 1", …. The one place that
 * knows all edges: check, graph and the machine's tests use it. */
typedef void (*hp_edge_fn)(void *arg, int from, int to, const char *label, int line);
void hp_definition_edges(const struct hp_definition *d, int state, hp_edge_fn fn, void *arg);

#endif
