/* worker.h: owns runs and moves them: claim, evaluate, commit, send, park.
 *
 * One libev loop, one engine row, a bounded number of slots. Every run in
 * hand is on exactly one list, the list of what it waits for; moving it from
 * list to list is the only way its state changes, and the lists' lengths are
 * the gauges. All transitions of one loop turn leave in one commit.
 *
 * The lease: a worker may send effects only within HP_LEASE_SEND_PERCENT of its
 * lease, counted on CLOCK_BOOTTIME from before the last acknowledged heartbeat
 * left. Past it, sends wait for the next acknowledgement. Being marked dead by
 * others ends the worker (`on_fenced`).
 */
#ifndef HP_RUNTIME_WORKER_H
#define HP_RUNTIME_WORKER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "net/http_client.h"
#include "runtime/counters.h"
#include "runtime/definitions.h"
#include "runtime/plugins.h"
#include "runtime/secret_table.h"
#include "script/script.h"
#include "store/store.h"

struct hp_worker;

/* What a run in hand waits for. One list each. */
enum hp_hand {
	HP_HAND_DEFINITION = 0, /* its definition is being loaded */
	HP_HAND_BATCH,          /* its transition leaves at the end of this turn */
	HP_HAND_COMMIT,         /* its transition is on the way */
	HP_HAND_RELOAD,         /* the store is asked for it again */
	HP_HAND_LEASE,          /* admitted; sends are held back until a heartbeat is acknowledged,
				 * and until there is a descriptor */
	HP_HAND_QUEUE,          /* admitted; its host has HP_HTTP_PER_HOST_MAX requests in flight */
	HP_HAND_EFFECT,         /* its request is in flight */
	HP_HAND_SQL,            /* its statement runs */
	HP_HAND_GONE,           /* to be given back or forgotten at the end of this turn */
	HP_HAND__COUNT
};
const char *hp_hand_name(enum hp_hand h);

struct hp_worker_options {
	struct ev_loop *loop;
	struct hp_store *store;         /* this, the next four and `secrets` are borrowed and outlive the worker's work */
	struct hp_definitions *definitions;
	struct hp_http_client *http;
	struct hp_counters *counters;
	struct hp_plugins *plugins;     /* NULL: native connectors cannot be called */
	struct hp_environment env;      /* secrets and base URLs */
	struct hp_secret_table *secrets; /* for replies that bring some; NULL: no key for them */
	const char *host;               /* for the engine's row; NULL: gethostname */
	int64_t lease_us;               /* 0: HP_LEASE_DEFAULT */
	int64_t poll_us;                /* 0: HP_POLL_DEFAULT */
	int slots;                      /* 0: HP_WORKER_SLOTS_DEFAULT */
	int64_t drain_us;               /* how long a drain waits for effects in flight; 0: 20 s */
	bool echo;                      /* base URLs "echo:" answer in the loop (bench and tests only) */
	bool separate_admission;        /* bench: an admission never shares the commit that enters */
	int64_t (*boottime)(void);      /* NULL: hp_boottime_us; a seam for tests */
	/* The engine was marked dead by others: nothing may be sent or written any
	 * more; the process must end. */
	void (*on_fenced)(void *arg, const struct hp_error *err);
	void (*on_drained)(void *arg);  /* after hp_worker_drain(): all given back */
	void *arg;
};

struct hp_worker *hp_worker_new(const struct hp_worker_options *o, struct hp_error *err);
/* Registers the engine (again and again until the store answers), then works. */
void hp_worker_start(struct hp_worker *w);
/* Stops claiming, lets effects in flight end, gives everything back, ends the lease. */
void hp_worker_drain(struct hp_worker *w);
/* Makes it deaf: it starts nothing any more, and answers that are still on their
 * way change nothing. For the time between freeing the store, which answers all
 * open calls in the next turns of the loop, and freeing the worker. */
void hp_worker_close(struct hp_worker *w);
/* When no answer can come any more. */
void hp_worker_free(struct hp_worker *w);

int64_t hp_worker_engine(const struct hp_worker *w);            /* 0: not registered yet */
const char *hp_worker_installation(const struct hp_worker *w);  /* "" before that */
int64_t hp_worker_now(const struct hp_worker *w);               /* database time, estimated */
bool hp_worker_lease_good(const struct hp_worker *w);           /* may send */
int hp_worker_in_hand(const struct hp_worker *w);
int hp_worker_count(const struct hp_worker *w, enum hp_hand h);

/* May a door start a run as ours (own = true) now? Slot free, lease good, not draining. */
bool hp_worker_can_take(const struct hp_worker *w);
/* Begins a run that a door just started with own = true. Copies everything;
 * never refuses (a run that cannot be driven is given back). */
void hp_worker_adopt(struct hp_worker *w, const struct hp_claimed *c);
/* Work may have become ready (a door woke or started something): look soon. */
void hp_worker_hint(struct hp_worker *w);
/* Schedules may have changed (deployed, resumed): look at them now. */
void hp_worker_schedules_hint(struct hp_worker *w);

#endif
