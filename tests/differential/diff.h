/* diff.h: both stores under the same operations; what is equal must stay equal.
 *
 *   stores.c      main: sequences, seeds, shrinking, what was covered
 *   two.c         the two stores, opened, emptied, asked; answers as JSON
 *   compare.c     are answers and worlds equal?
 *   flows.c       workflows drawn at random, loaded as the engine loads them
 *   hands.c       claimed runs, stepped by hp_step() as a worker does it
 *   ops*.c        the operations, right ones and wrong ones
 *   dump.sql      PostgreSQL's world as the document that hp_mem_dump() writes
 *
 * An operation is one number: everything it chooses is drawn from it and from the world
 * as it is. So a sequence is a list of numbers, can be replayed, and any may be left out.
 */
#ifndef HP_TESTS_DIFF_H
#define HP_TESTS_DIFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "script/script.h"
#include "store/store.h"

#define D_T0 INT64_C(1700000000000000) /* 2023-11-14 22:13:20 UTC */
#define D_LEASE (10 * HP_SECOND)
enum { D_PG = 0, D_MEM = 1, D_ENGINES = 4, D_HANDS = 16, D_FLOWS = 12 };

/* ---- chance: of the operation at hand ---- */
void d_seed(uint64_t seed);
uint32_t d_rnd(uint32_t n);
static inline bool d_chance(uint32_t percent) { return d_rnd(100) < percent; }

/* Prints and ends the program: the test itself is broken. */
void d_need(bool ok, const char *what, const char *why);

/* ---- two.c ---- */
struct d_answer {
	bool done;
	json_t *v; /* what is compared; "outcome" says in a word how it went */
	void (*claimed)(void *arg, int store, const struct hp_claimed *runs, int n); /* NULL: not kept */
	struct hp_sql_tx *tx;
	struct hp_event reply; /* of a statement; its texts live in d_sql */
	struct hp_commit_result committed;
	char error[768];
};
extern struct d_answer d_answers[2];
extern int64_t d_now;
extern const json_t *d_world;  /* in memory, after the last operation: table → rows */

void d_open(void);   /* a database, migrated; a store over it and one in memory */
void d_close(void);
void d_reset(void);  /* both worlds empty, the time D_T0, the principals known */
void d_set_now(int64_t now);
struct hp_store *d_store(int i);
struct d_answer *d_begin(int i);
void d_await(int i); /* until the answer is there */
json_t *d_dump_of(int i);  /* owner: caller */

/* ---- compare.c ---- */
/* Answers and dumps of both are equal? NULL; else what differs, for people (static). */
const char *d_difference(void);
void d_common_answers(void); /* of a door that only reads: what both say */
const char *d_outcome(void); /* of the last answer, a word */

void d_on_ack(void *arg, int64_t now, const struct hp_error *err);
void d_on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err);
void d_on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err);
void d_on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n);
void d_on_start(void *arg, int64_t now, const struct hp_start_result *res, const struct hp_error *err);
void d_on_ingest(void *arg, int64_t now, const struct hp_ingest_result *res, const struct hp_error *err);
void d_on_door(void *arg, struct hp_bytes json, const struct hp_error *err);
void d_on_bundle(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err);
/* Statements run in PostgreSQL alone; the store in memory is told what came of them. */
void d_sql_run(const struct hp_sql_state *st);
void d_door(const char *name, const char *principal, const char *args);

/* Rows of the world. */
size_t d_rows(const char *table);
const json_t *d_row(const char *table, size_t i);
const json_t *d_any(const char *table); /* NULL: it has none */

/* ---- flows.c ---- */
struct d_flow {
	char name[32];
	struct hp_workflow *w;
	struct hp_buf bundle, summary;
};
extern struct d_flow d_flows[D_FLOWS];
extern int d_n_flows;
void d_draw_flows(void); /* of the seed at hand */
void d_free_flows(void);
struct d_flow *d_flow_of(const uint8_t digest[HP_SHA256_LEN]);

/* ---- hands.c ---- */
struct d_hand {
	bool used, lost;         /* lost: a commit conflicted; to be read again or dropped */
	int64_t engine;
	struct d_flow *flow;
	struct hp_claimed c;
	char token[2][65];
	struct hp_arena *claim, *step[2];
	int turn, refusals;
	json_t *saved;
	struct hp_buf saved_text, kept, scratch;
	struct hp_machine m;
	struct hp_action act;    /* COMMIT or SQL: what it waits for */
	struct hp_sql_tx *tx[2];
};
extern struct d_hand d_hands[D_HANDS];
extern int64_t d_claimer; /* whose claim it is */
void d_keep_claimed(void *arg, int store, const struct hp_claimed *runs, int n);
void d_hand_begin(struct d_hand *h);                 /* as claimed: to its first COMMIT or SQL */
void d_hand_reply(struct d_hand *h, const struct hp_event *ev);
void d_hand_committed(struct d_hand *h, const struct hp_commit_result *res);
void d_hand_abort(struct d_hand *h); /* the statement that is open */
void d_hand_drop(struct d_hand *h);
struct d_hand *d_hand_any(bool lost); /* NULL: none */

/* ---- ops.c ---- */
struct d_told {
	const char *op;          /* static */
	char words[1024];        /* what was done, for people */
};
extern struct d_told d_told;
void d_say(const char *op, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void d_operate(uint64_t seed); /* one of all operations */
void d_wrong_op(void);         /* ops_wrong.c */
/* Has the run moved since, so that a store may say that first? */
bool d_stale(const struct hp_transition *t);
void d_door_op(void);          /* ops_doors.c */
void d_feature_op(void);       /* ops_features.c: schedules, breakers, secrets */
void d_deploy(const struct d_flow *f);
int64_t d_engine(void);        /* one that was registered */
void d_add_engine(int64_t id);
void d_forget_engines(void);

#endif
