/* worker_private.h: what the worker's files share.
 *
 *   worker.c         life: register, heartbeat, claim, drain, the end of each turn
 *   worker_run.c     one run in hand: its data, and the drive through hp_step()
 *   worker_commit.c  transitions out, acknowledgements in, reloads
 *   worker_effect.c  requests and statements out, replies in
 *   worker_native.c  requests that a native plugin does
 *   worker_secret.c  replies that bring secrets, changed secrets
 *   worker_schedule.c  starts what schedules have due
 *   worker_breaker.c   what it sees of the endpoints it calls
 *   worker_retention.c removes what has ended long enough ago
 *
 * Rules all of them keep: a run is on exactly one of w->hands; a run is freed
 * only at the end of a turn (from HP_HAND_GONE); at most one answer is awaited
 * for a run, so no callback can find it gone.
 */
#ifndef HP_RUNTIME_WORKER_PRIVATE_H
#define HP_RUNTIME_WORKER_PRIVATE_H

#include <jansson.h>
#include "base/arena.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mutant.h"
#include "core/breaker.h"
#include "runtime/worker.h"

#define HP_HOSTS_MAX 64
#define HP_ENDPOINTS_MAX 64 /* more are called without a breaker of this worker's */
#define HP_COMMITS_IN_FLIGHT 2 /* further transitions wait and leave together */

/* Requests in flight to one authority. Ours, not the client's, so that no request
 * leaves its queue after the lease was looked at. */
struct hp_host {
	char authority[256];
	int in_flight;
	struct hp_list waiting; /* by hp_owned.host_node, first come first sent */
};

/* An endpoint as this worker sees it. */
struct hp_endpoint {
	char name[HP_BREAKER_NAME_MAX];
	struct hp_worker *w;
	struct hp_breaker_spec spec;
	struct hp_breaker_window seen; /* by this worker */
	struct hp_breaker_window news; /* not yet reported */
	bool well;                     /* news: a call went well */
	bool asking;                   /* an answer is on its way */
	int64_t due_at;                /* boot clock of the next report; 0: nothing to tell */
	int64_t reported_at;           /* boot clock */
	struct hp_retry_budget budget;
};

/* A run in hand. */
struct hp_owned {
	struct hp_list node; /* on w->hands[hand] */
	enum hp_hand hand;
	struct hp_worker *w;
	struct hp_loaded *loaded;
	struct hp_machine m;         /* once loaded */
	bool driven;                 /* m is valid */

	/* as claimed */
	struct hp_arena *data;       /* until the run is let go or reloaded */
	struct hp_run run;
	uint8_t digest[HP_SHA256_LEN];
	char token[65];
	struct hp_bytes key, input;
	struct hp_bytes signed_request, signed_key;
	uint8_t signed_hash[HP_SHA256_LEN];
	struct hp_event claimed;
	struct hp_buf kept;          /* hp_transition.keep of the last transition that brought any */

	/* saved values: the object, and its text for evaluations when up to date */
	json_t *saved;
	struct hp_buf saved_text;
	bool saved_stale;

	/* Values of evaluations. What was made before a commit may be used until the
	 * commit after it (an admitted request), so there are two, taking turns. */
	struct hp_arena *step[2];
	int turn;

	struct hp_action act;        /* SEND, SQL: what is being done */
	struct hp_host *host;
	struct hp_list host_node;
	int32_t late;                /* the visit whose admission was too old when it had a place; 0: none */
	int64_t http_token, plugin_token; /* of the request in flight; 0: none */
	struct hp_op_ref op;         /* of the request on its way: whose reply it will be */
	const struct hp_used_secret *used; /* in it: replies must not repeat them */
	int n_used;
	bool looked;                 /* the table of secrets was read for it */
	struct hp_bytes echo;        /* its body, when the answer is the request itself */
	int64_t effect_at;           /* boot clock */
	struct hp_sql_tx *tx;        /* open statement's transaction */
	bool give_back;              /* HP_HAND_GONE: the store must be told */
	int32_t reread;              /* the rev that the last reload found; 0: none since the claim */
	int refusals;                /* of transitions since the last good commit */
	int unknowns;                /* the same, of commits that were not acknowledged */
	int64_t reload_at;           /* HP_HAND_RELOAD: not before, on the boot clock */
	bool asked;                  /* HP_HAND_RELOAD: the store has been asked */
};

struct hp_owed {
	int64_t run;
	int32_t epoch;
};
#define HP_OWED_MAX (4 * HP_BATCH_MAX)
#define HP_W_TELL_EVERY (10 * HP_SECOND) /* of what concerns all runs */

enum hp_life {
	HP_LIFE_NEW,         /* not started */
	HP_LIFE_REGISTERING,
	HP_LIFE_WORKING,
	HP_LIFE_DRAINING,    /* no claims; waits for what is in hand */
	HP_LIFE_STOPPING,    /* engine_stop is on the way */
	HP_LIFE_ENDED,
	HP_LIFE_FENCED,      /* marked dead by others */
	HP_LIFE_CLOSED,      /* deaf */
};

struct hp_worker {
	struct hp_worker_options o;
	char hostname[256];
	enum hp_life life;
	int64_t engine;
	char installation[40];
	int64_t lease_from;      /* boot clock before the last acknowledged heartbeat left */
	int64_t heartbeat_left;  /* boot clock when the one in flight left; 0: none */
	int64_t clock_offset;    /* database time - boot clock, at most */
	bool clock_known;

	struct hp_list hands[HP_HAND__COUNT];
	int counts[HP_HAND__COUNT];
	int in_hand;
	struct hp_host hosts[HP_HOSTS_MAX];
	/* Runs that are ours in the store and in nobody's hand: to give back, until the
	 * store has acknowledged it. Nothing else would: our lease does not end. */
	struct hp_owed owed[HP_OWED_MAX];
	int n_owed, owed_sent;   /* the first are in the call under way; 0: there is none */
	int64_t owed_at;         /* boot clock: not before */
	struct hp_seldom unsettled; /* commits and reloads that the store did not answer as it should */
	struct hp_seldom held_back; /* requests that wait for a descriptor, or for memory */
	struct hp_list batches;  /* commits in flight */
	int commits_in_flight;
	struct hp_list echoes;   /* runs in HP_HAND_EFFECT whose echo is due, by host_node */
	struct hp_buf scratch;   /* evaluations write here, then it is copied to the run */

	bool claiming;
	int empty_looks;         /* claims in a row that found nothing */
	int asked_for;           /* in the claim on the way */

	int64_t claim_at;        /* boot clock: next look */
	struct {
		int64_t at;      /* boot clock: next look at schedules */
		bool asking;     /* a look is on the way */
		bool soon;       /* something failed or was another's: not at once */
		int open;        /* ticks on the way */
	} schedules;
	int64_t drain_until;

	struct hp_endpoint endpoints[HP_ENDPOINTS_MAX];
	int n_endpoints;

	struct ev_timer tick;    /* heartbeat, poll, reloads, deadlines */
	struct ev_timer heartbeat;
	struct ev_prepare prepare;
	struct ev_idle again;    /* runs when the next turn must not block */

	uint64_t *n_transitions, *n_batches, *n_claims, *n_claimed, *n_conflicts, *n_evals;
	struct {
		int64_t at;      /* boot clock: next step */
		bool asking;     /* a step is on the way */
		int steps;       /* since the last heartbeat */
	} retention;
	uint64_t *n_ticks, *n_ticks_missed, *n_removed;
	uint64_t *gauges[HP_HAND__COUNT];
};

/* worker.c */
int64_t hp_w_boot(const struct hp_worker *w);
void hp_w_clock(struct hp_worker *w, int64_t database_now);
bool hp_w_closed(const struct hp_worker *w);
bool hp_w_draining(const struct hp_worker *w);
void hp_w_again(struct hp_worker *w); /* the next turn comes at once */
void hp_w_look_at(struct hp_worker *w, int64_t boot); /* claim not later than that */
void hp_w_look_later(struct hp_worker *w); /* claim not before a poll interval */
void hp_w_log(enum hp_log_level level, const struct hp_owned *r, const char *message,
	      const char *code, const char *detail);
void hp_w_log_at(enum hp_log_level level, const struct hp_owned *r, const struct hp_run *run,
		 const char *message, const char *code, const char *detail);

/* worker_run.c */
struct hp_owned *hp_w_take(struct hp_worker *w, const struct hp_claimed *c);
void hp_w_hand(struct hp_owned *r, enum hp_hand h);
void hp_w_let_go(struct hp_owned *r, bool give_back);
void hp_w_free(struct hp_owned *r);
void hp_w_drive(struct hp_owned *r, const struct hp_event *ev);
void hp_w_saved(struct hp_owned *r, const struct hp_transition *t);
void hp_w_kept(struct hp_owned *r, const struct hp_transition *t);
void hp_w_next_turn(struct hp_owned *r);
int hp_w_keep(struct hp_owned *r, struct hp_event *ev); /* out of w->scratch; -1: no memory, and ev is of no use */
void hp_w_load(struct hp_owned *r, const struct hp_claimed *c);
void hp_w_hold(struct hp_owned *r, const char *code, const char *message);

/* worker_commit.c */
void hp_w_commit(struct hp_owned *r, const struct hp_transition *t);
void hp_w_flush(struct hp_worker *w);
void hp_w_one_committed(void *arg, int64_t now, const struct hp_commit_result *res, int n);
void hp_w_acknowledged(struct hp_owned *r, int64_t now, const struct hp_commit_result *res);
void hp_w_reload(struct hp_owned *r, int64_t after_us);
void hp_w_reload_due(struct hp_worker *w);
void hp_w_give_back(struct hp_worker *w);
void hp_w_owe(struct hp_worker *w, int64_t run, int32_t epoch); /* to the store: it is given back */
void hp_w_batches_free(struct hp_worker *w);

/* worker_secret.c */
/* The value of the event (REPLY, or VALUE of a verdict) brings secrets: they are sealed,
 * then the run goes on by hp_w_deliver(). false: it brings none. */
bool hp_w_seals(struct hp_owned *r, int state, const struct hp_event *ev);
/* The commit changed secrets: hp_w_acknowledged() follows when they are known. */
bool hp_w_looks_at_secrets(struct hp_owned *r, int64_t now, const struct hp_commit_result *res);
/* A secret is missing: perhaps it is newer than the last look. hp_w_send() follows;
 * false: it was looked already. */
bool hp_w_looks_before_send(struct hp_owned *r);
/* What was sent is blackened in what came back; `body` holds it then. -1: no memory, and
 * nobody may see it. */
int hp_w_scrub(struct hp_owned *r, const struct hp_scrubber *s, struct hp_incoming *in, struct hp_buf *body) HP_MUST_CHECK;
/* Again after the connector has read it: JSON has more ways to write a text than one. */
int hp_w_scrub_event(struct hp_owned *r, const struct hp_scrubber *s, struct hp_event *ev) HP_MUST_CHECK;

/* worker_schedule.c */
bool hp_w_schedules_busy(const struct hp_worker *w);  /* an answer is on its way */
int64_t hp_w_schedules_at(const struct hp_worker *w); /* boot clock */
void hp_w_schedules_look(struct hp_worker *w);        /* when it is time */

/* worker_native.c */
void hp_w_native(struct hp_owned *r, struct hp_host *h, const struct hp_outgoing *out);

/* worker_breaker.c */
int64_t hp_w_breakers_at(const struct hp_worker *w); /* boot clock */
void hp_w_breakers_look(struct hp_worker *w);        /* reports what is due */
/* Before ev, the reply to r's request, is told to the machine. status 0: not answered. */
void hp_w_breaker_note(struct hp_owned *r, struct hp_event *ev, int status);

/* worker_retention.c */
void hp_w_retention_look(struct hp_worker *w); /* after a heartbeat */

/* worker_effect.c */
void hp_w_incoming(struct hp_owned *r, struct hp_incoming *in);
void hp_w_unsendable(struct hp_owned *r, enum hp_class outcome, const char *code, const struct hp_error *err);
void hp_w_host_release(struct hp_host *h);
void hp_w_deliver(struct hp_owned *r, struct hp_event *ev); /* its values are the run's */
void hp_w_send(struct hp_owned *r);
void hp_w_send_held_back(struct hp_worker *w);
void hp_w_echo(struct hp_worker *w);
void hp_w_sql(struct hp_owned *r);
void hp_w_sql_commit(struct hp_owned *r, const struct hp_transition *t);
void hp_w_effect_abandon(struct hp_owned *r);

#endif
