/* explore.h: every interleaving of a small world, and what must hold in each state.
 *
 *   worlds.c      the worlds: definitions, how many faults of which kind
 *   world.c       the whole state at fixed addresses: begin, save, restore
 *   canon.c       the canonical hash of a state: what makes two states the same
 *   engine.c      an engine around hp_step(), as runtime/worker_*.c drives it
 *   evals.c       what expressions and connectors' requests come to
 *   outside.c     providers, requests in the air, the database of `sql` states, the clock
 *   late.c        commits that land when nobody waits for them any more
 *   doors.c       what people, applications and webhooks do
 *   steps.c       which steps are enabled, taking one, saying it in words
 *   invariants.c  what must hold after every step and in every state
 *   search.c      depth first over all of it, the heal phase, the shortest trace
 *   main.c        worlds on two cores, the table, the exit code
 *
 * The machine is core/, the store is store/mem/: the very objects of the program. Its tables
 * are read directly (mem_private.h), because JSON for readers is too slow for millions of
 * states. Everything that a state is lies in `X`, `H` and the store's tables; all of it is
 * copied out and back to the same addresses, so pointers into it stay right.
 */
#ifndef HP_TESTS_EXPLORE_H
#define HP_TESTS_EXPLORE_H

#include "base/clock.h"
#include "base/mutant.h"
#include "core/keys.h"
#include "core/machine.h"
#include "store/mem/mem_private.h"

#define X_LEASE (10 * HP_SECOND)
#define X_T0 INT64_C(1700000000000000)
enum {
	X_ENGINES = 3, /* at once */
	X_HANDS = 3,   /* runs one engine has in hand */
	X_RUNS = 4,    /* ids from 1 */
	X_REQUESTS = 6,
	X_EFFECTS = 12,
	X_STATES = 10,
	X_VISITS = 14,
	X_FLOWS = 2,
	X_STEPS = 96,
	X_DEPTH = 400,
	X_MAILS = 6,
	X_LATES = 2,
	X_PROBES = 1,          /* of a breaker that is half-open */
	X_OPEN_US = 7000000,
};

/* What may happen, and how often. */
enum x_budget {
	B_CRASH,        /* an engine dies and is started anew */
	B_PAUSE,        /* an engine stops for a while, then goes on as if nothing were */
	B_ACK_LOST,     /* a commit is written, its acknowledgement lost */
	B_COMMIT_FAIL,  /* a commit is not written, and nobody knows */
	B_LATE,         /* … and lands later, or never */
	B_REFUSE,       /* a provider does not act, and says so: try again */
	B_DECLINE,      /* a provider refuses for good */
	B_LOSE_REQUEST, /* a request is lost on its way */
	B_LOSE_REPLY,   /* a provider acts, its reply is lost */
	B_SQL_FAIL,     /* a statement is rolled back */
	B_APPROVE, B_REJECT,
	B_CANCEL, B_STOP, /* doors: cancel; pause */
	B_RETRY, B_SKIP, B_GIVE_UP, B_UNDO,
	B_MAIL,         /* an application sends the event */
	B_HOOK,         /* the webhook is delivered, always the same event id */
	B_START,        /* an application starts a run with the key of the first */
	B_UPGRADE,      /* the connector renders its requests differently from now on */
	B_ALARM,        /* a check says: alarm */
	B_TRIP,         /* an engine has seen too much go wrong: the breaker of "shop" opens */
	B__COUNT
};
extern const char *const x_budget_names[B__COUNT];

struct x_flow { /* a definition, and room for what it points to */
	struct hp_definition def;
	struct hp_state states[X_STATES];
	struct hp_catch catches[8];
	struct hp_branch branches[4];
	struct hp_arm arms[4];
	int n_catches, n_arms;
	bool edge[X_STATES][X_STATES];
};
struct x_world {
	const char *name, *says;
	void (*define)(void);
	int8_t engines, runs;      /* runs: started at the beginning */
	const char *key;           /* of those runs; NULL: none */
	const char *limits;        /* of the first workflow's starts, as its summary has them; NULL: none */
	int8_t coin;               /* 1: predicates are true or false, both are tried */
	int8_t budget[B__COUNT];
	bool small;                /* in `make test` only: a part of another world */
};
extern const struct x_world x_worlds[];
extern const int x_n_worlds;

/* ---- the state ---- */

enum x_hand_at {
	AT_NONE = 0,
	AT_COMMIT,  /* a transition is ready to be written */
	AT_WRITTEN, /* the store has said something, and we have not heard it */
	AT_RELOAD,  /* we do not know, and ask for the row */
	AT_SEND,    /* admitted: the request may leave */
	AT_FLIGHT,  /* it has left */
	AT_SQL,     /* a statement is to be run */
};
struct x_hand { /* a run in an engine's hands */
	enum x_hand_at at;
	int64_t run;
	int32_t epoch;
	int refusals;
	struct hp_bytes annex, signed_request, signed_key;
	uint8_t signed_hash[HP_SHA256_LEN];
	char token[65];
	struct { /* AT_WRITTEN */
		enum hp_commit_outcome outcome;
		bool cancel, pause, gated;
		int64_t first_sent_at;
	} res;
	struct hp_action act;
	struct hp_machine m; /* last: its texts are copied only when they are used */
};
struct x_request {
	bool used, replying, probe, check;
	int8_t engine, hand;       /* who waits for it; engine -1: nobody any more */
	int32_t run, visit, state, epoch;
	struct hp_bytes key, body;
	int64_t sent_at;
	int64_t until;             /* it has landed by then, or never will */
	enum hp_class outcome;
	const char *code;
	struct hp_bytes value;
};
struct x_effect { /* what a provider has done under a key */
	struct hp_bytes key, body;
	int32_t run, visit, state;
	int8_t acts;
	int64_t first_at;
};
struct x_engine {
	int64_t id;
	bool paused;
	int64_t beat_at;           /* its last acknowledged heartbeat */
};
struct x_state {
	int64_t now;
	int8_t left[B__COUNT];
	int8_t coin;               /* -1: not yet thrown */
	int8_t version;            /* of the connector */
	int8_t n_effects;
	struct x_engine engines[X_ENGINES];
	struct x_request requests[X_REQUESTS];
	struct x_effect effects[X_EFFECTS];
	int8_t excused[X_RUNS + 1][X_VISITS]; /* a person said: again, whatever happened */
	int8_t ledger[X_RUNS + 1][X_VISITS];  /* statements that are committed */
	int8_t heard[X_RUNS + 1][X_VISITS];   /* what came of the effect */
	int8_t consumed[X_RUNS + 1][X_MAILS]; /* a run has read a message */
};
struct x_late { /* a commit on its way, and nobody waits for it */
	bool used;
	int8_t heard;           /* what its sender had heard */
	char token[65];
	struct hp_transition t; /* its texts are kept for ever */
};
extern struct x_state X;
extern struct x_hand H[X_ENGINES][X_HANDS];
extern struct x_late L[X_LATES];
extern struct hp_store *x_store;
extern const struct x_world *x_world;
extern struct x_flow x_flows[X_FLOWS];
extern int x_n_flows;

static inline struct mem_store *x_mem(void) { return mem_of(x_store); }
static inline struct mem_world *x_tables(void) { return &mem_of(x_store)->w; }
static inline struct mem_run *x_run(int64_t id) { return mem_run_find(x_tables(), id); }
static inline int64_t x_n_runs(void) { return (int64_t)mem_count(x_tables(), T_RUN); }
const struct x_flow *x_flow_of(const struct mem_run *r);

/* ---- world.c ---- */
void x_begin(const struct x_world *w); /* the first state */
void x_end(void);
struct x_saved; /* a state, copied */
struct x_saved *x_saved_new(void);
void x_saved_free(struct x_saved *s);
void x_save(struct x_saved *s);
void x_restore(const struct x_saved *s);
const struct mem_run *x_saved_run(const struct x_saved *s, int64_t id); /* as it was; NULL: not there */
size_t x_saved_history(const struct x_saved *s); /* how many rows */
struct hp_bytes x_keep(struct hp_bytes b); /* for ever, one copy of equal bytes */
struct hp_bytes x_text(const char *fmt, ...) HP_PRINTF(1, 2);

/* ---- canon.c ---- */
uint64_t x_hash(void);

/* ---- evals.c ---- */
void x_answer(const struct x_hand *h, const struct hp_action *act, struct hp_event *ev);
struct x_rendered { bool there; struct hp_bytes value, key; uint8_t hash[HP_SHA256_LEN]; };
const struct x_rendered *x_render(int flow, int64_t run, int32_t state, int32_t visit, int version);

void x_forget_rendered(void); /* another store */

/* ---- engine.c: each false when nothing happened ---- */
void x_register(int e);
bool x_claim(int e);
/* One more end of a write than the store in memory has: the answer is lost, and the look that
 * follows (store/pg/commit.c) says that it was written. */
#define X_LOOKED (HP_MEM_LATE + 1)
bool x_write(int e, int hand, int fate);
void x_commit(const struct hp_transition *t, const char *token, enum hp_mem_fate fate, struct x_hand *hears);
void x_ack(int e, int hand);
void x_reload(int e, int hand);
void x_sql(int e, int hand, bool fails);
void x_hear(int e, int hand, const struct x_request *r);
void x_die(int e); /* and is started anew */
bool x_beat(int e);
bool x_lease_good(int e);
bool x_in_time(int e, int hand); /* its request may still leave */
void x_unsent(int e, int hand);
bool x_marked_dead(int e);
extern bool x_wrote_stale; /* the last commit was of one who no longer owned the run */

/* ---- late.c ---- */
void x_late_put(const struct x_hand *h);
void x_late_land(int slot);
void x_late_lose(int slot);
extern struct hp_transition x_landed; /* the last that came */
bool x_late_stale(const struct x_late *l);
bool x_looks_written(const struct x_hand *h);

/* ---- outside.c ---- */
void x_send(int e, int hand);
enum x_land { LAND_OK, LAND_ALARM, LAND_REFUSE, LAND_DECLINE, LAND_LOST, LAND_REPLY_LOST };
void x_land(int request, enum x_land how);
void x_deliver(int request);
bool x_knows(struct hp_bytes key); /* a provider has acted under it */
int64_t x_next_time(void); /* 0: nothing is waited for, or it may not pass */
void x_pass(int64_t to);

/* ---- doors.c ---- */
bool x_door(int kind, int run); /* enum x_budget; false: refused, nothing happened */
bool x_door_open(int kind, int run); /* is there anything to ask for? */
bool x_unpause(int run);
void x_first_runs(void);

/* ---- steps.c ---- */
enum x_kind {
	S_COIN, S_CLAIM, S_WRITE, S_ACK, S_RELOAD, S_SEND, S_SQL, S_LAND, S_DELIVER, S_TIME, S_BEAT,
	S_CRASH, S_PAUSE, S_RESUME, S_DOOR, S_UNPAUSE, S_LATE
};
struct x_step { uint8_t kind, a, b, c; };
int x_enabled(struct x_step out[X_STEPS]);
bool x_take(struct x_step s); /* false: nothing happened */
bool x_is_fault(struct x_step s); /* or a door: not part of the heal phase */
void x_say(struct x_step s, char *out, size_t n);

/* ---- invariants.c ---- */
extern char x_wrong[600]; /* "": nothing */
void x_fail(const char *fmt, ...) HP_PRINTF(1, 2);
#define X_MUST(cond, ...) do { if (!(cond)) x_fail(__VA_ARGS__); } while (0)
void x_check_step(struct x_step s, const struct x_saved *before);
void x_check_state(void);
void x_check_rest(void); /* where nothing more will happen by itself */
void x_check_sent(const struct x_hand *h);
const struct mem_breaker *x_gate_of(const struct mem_run *r); /* whose opening it waits for; NULL: none's */

/* ---- search.c ---- */
struct x_figures {
	uint64_t states, transitions, again, leaves, heals, claims_for_nothing;
	int depth;
	double seconds;
	bool complete, wrong;
	char trace[12000];
};
struct x_limits { uint64_t states; double seconds; int depth; int heal_every; };
void x_explore(const struct x_world *w, const struct x_limits *l, struct x_figures *f);
double x_cpu_seconds(void);

#endif
