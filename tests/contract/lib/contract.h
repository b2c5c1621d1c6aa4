/* contract.h: one suite for both stores.
 *
 * A case talks to a store only through store.h, synchronously, by way of the c_…
 * functions here, and writes transitions by hand; it never knows which store it is.
 * The program (tests/contract/store_mem.c, store_pg.c) brings a driver.
 *
 * Every case starts in an empty world at the time T0, with the workflow `flow` (whose
 * states are the S_… below) and `other` deployed, and an engine registered.
 */
#ifndef HP_TESTS_CONTRACT_H
#define HP_TESTS_CONTRACT_H

#include <check.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "store/store.h"

#define T0 INT64_C(1700000000000000) /* 2023-11-14 22:13:20 UTC */
#define LEASE (10 * HP_SECOND)

struct contract_driver {
	const char *name;
	void (*open)(void);  /* an empty world */
	void (*close)(void);
	struct hp_store *(*store)(int i); /* 0, 1: as two processes see it */
	void (*turn)(void);  /* lets answers arrive; may block for a moment */
	void (*set_now)(int64_t now);
	void (*principal)(const char *name, const char *kind, const char *roles);
	/* How many statements SQL_INSERT are committed. */
	int (*sql_inserted)(void);
};
#define SQL_INSERT "insert into contract_scratch (n) values ($1)"

extern const struct contract_driver *the_driver;
int contract_main(const struct contract_driver *d);

/* The states of `flow`. */
enum {
	S_REFUND = 0, S_REVIEW, S_CONFIRM, S_EITHER, S_PAUSE, S_QUORUM, S_LOOK, S_RECORD, S_DONE, S_CANARY, S_UNDO
};
#define CONFIRM_EVENT "stripe.refund.updated"
#define DEADLINE (4 * HP_HOUR)

/* A run as it was claimed, kept beyond the callback. Texts are "" when absent. */
struct c_run {
	struct hp_run row;
	char token[65];
	char workflow[65];
	uint8_t digest[HP_SHA256_LEN];
	char key[600];
	char input[1024];
	char saved[4096];
	enum hp_decision decision;
	char decision_value[1024];
	int64_t mail_id;
	int32_t mail_wait;
	char mail[512];
	char command_value[512];
	char annex[2048];
	char signed_request[512], signed_key[512];
	uint8_t signed_hash[HP_SHA256_LEN];
};
struct c_result {
	enum hp_commit_outcome outcome;
	bool cancel, pause;
	int64_t first_sent_at;
	char gated[HP_CODE_MAX];
	char message[768];
};
struct c_started {
	int64_t run;
	bool existed, claimed;
	struct c_run mine; /* claimed */
	enum hp_code code;
	char message[768];
};

extern int64_t c_now;    /* the database's time */
extern int64_t c_engine; /* registered by the fixture */
void c_advance(int64_t us);
int64_t c_register(void);
void c_deploy(const char *workflow, uint8_t tag); /* digest: 32 times tag */
/* The same states with schedules: a JSON array with ' for ". */
void c_deploy_with(const char *workflow, uint8_t tag, const char *schedules);
void c_deploy_limited(const char *workflow, uint8_t tag, const char *limits); /* the same with limits */
void c_deploy_triggered(const char *workflow, uint8_t tag, const char *triggers); /* the same that webhooks start */
void c_deploy_budgets(const char *workflow, uint8_t tag, const char *budgets); /* the same that declares budgets */
/* Is this summary (' for ") refused with these words? */
bool c_deploy_fails(const char *workflow, uint8_t tag, const char *summary, const char *words);
/* A call in the air: filled when done. */
bool c_wait(const bool *done);

enum hp_code c_heartbeat(int64_t engine);
void c_stop(int64_t engine);
int c_claim(int64_t engine, int max, struct c_run *out); /* -1: refused */
struct c_run c_claim_one(void); /* by c_engine; fails unless exactly one is there */
/* Claims two: that they are a and b, in this order; gives a. */
struct c_run c_claim_one_of(int64_t a, int64_t b);
void c_claim_none(void);
bool c_reload(int64_t engine, int64_t run, int32_t epoch, struct c_run *out);
void c_release(int64_t engine, const struct c_run *r);

struct c_started c_start(const char *workflow, const char *input, const char *key, bool own);
struct c_run c_own(void); /* starts a run of `flow` as c_engine's own */
struct c_run c_own_by(const char *requester, const char *key);

/* Transitions. c_begin: nothing changes but rev. The others change what it began. */
void c_begin(struct hp_transition *t, const struct c_run *r);
void c_enter(struct hp_transition *t, int state);
void c_admit(struct hp_transition *t, const char *request, const char *key, bool business);
void c_park(struct hp_transition *t, int state, int64_t due_at);
void c_hold(struct hp_transition *t, const char *code);
void c_finish(struct hp_transition *t, enum hp_status status);
void c_save(struct hp_transition *t, const char *name, const char *json);
struct c_result c_commit(const struct hp_transition *t);
/* Commits, demands OK, and moves r on. */
struct c_result c_commit_ok(struct c_run *r, const struct hp_transition *t);
void c_commit_many(const struct hp_transition *const *t, int n, struct c_result *res);

/* Whole steps. */
int64_t c_open_approval(struct c_run *r, int state, const char *request); /* → approval id */
int64_t c_open_reminded(struct c_run *r, int state, int64_t reminder); /* wakes before the deadline */
void c_await(struct c_run *r, int state, const char *keys, int64_t due_at);
void c_held(struct c_run *r);
void c_turning(struct hp_transition *t, enum hp_status ends); /* its undoing begins where it stands: failed or cancelled */
void c_turn_back(struct c_run *r, enum hp_status ends); /* its undoing begins: parked, due at once */

/* Doors. args is printf-like JSON with ' for ". The answer: parsed, to be dropped. */
json_t *c_door(const char *name, const char *principal, enum hp_code *code, char *message,
	       const char *args, ...) __attribute__((format(printf, 5, 6)));
json_t *c_door_ok(const char *name, const char *principal, const char *args, ...)
	__attribute__((format(printf, 3, 4)));
/* Demands that the door refuses with that code and these words in the sentence. */
void c_door_fails(enum hp_code code, const char *words, const char *name, const char *principal,
		  const char *args, ...) __attribute__((format(printf, 5, 6)));
/* The same engines' door over both stores at the same time; args NULL: not over that one. */
void c_door_two(const char *name, const char *args0, const char *args1, json_t *answers[2]);
/* The transition brings that annex, too. */
void c_annex(struct hp_transition *t, const char *kind, const char *doc);
/* What a claim knows of that kind; NULL: nothing. To be dropped. */
json_t *c_found(const struct c_run *r, const char *kind);
/* `why` gives that cause, and these words in its sentence. */
void c_assert_why(int64_t run, const char *cause, const char *words);
json_t *c_run_json(int64_t run); /* the door `run`'s inner object; to be dropped */
json_t *c_history(int64_t run);  /* array */
int64_t c_event(const char *name, const char *key, const char *payload); /* → runs woken */

TCase *contract_keys(void);
TCase *contract_claims(void);
TCase *contract_commits(void);
TCase *contract_effects(void);
TCase *contract_approvals(void);
TCase *contract_mail(void);
TCase *contract_breakers(void);
TCase *contract_operate(void);
TCase *contract_why(void);
TCase *contract_arms(void);
TCase *contract_schedules(void);
TCase *contract_limits(void);
TCase *contract_budgets(void);
TCase *contract_lifecycle(void);
TCase *contract_gates(void);
TCase *contract_secrets(void);
TCase *contract_undo(void);
TCase *contract_sweeps(void);
TCase *contract_children(void);
TCase *contract_joins(void);

#endif
