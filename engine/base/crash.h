/* crash.h: named points where a test can kill the process, or another one.
 *
 *   HP_CRASH=label:n        SIGKILL to ourselves at the n-th visit (n from 1)
 *   HP_CRASH=label:n:FILE   SIGKILL to the process whose id is the first line of FILE
 *   HP_CRASH=*label:…       for every worker; else the supervisor hands it to the first only
 *   HP_CRASH_LOG=FILE       appends each visit, "label process-id", one line each
 *
 * Without these variables a point costs one load and one branch. Every label is
 * in the table of crash.c; `holdpoint crash-labels` prints it, and the crash
 * suite fails when one is never visited.
 */
#ifndef HP_BASE_CRASH_H
#define HP_BASE_CRASH_H

#include <stdbool.h>

enum hp_crash_label {
	HP_CRASH_CLAIM_BEFORE,     /* about to ask for runs */
	HP_CRASH_CLAIM_ACKED,      /* runs are ours, nothing done with them */
	HP_CRASH_ADOPT,            /* a door started a run as ours, nothing done with it */
	HP_CRASH_COMMIT_BEFORE,    /* a transition is about to leave */
	HP_CRASH_COMMIT_ACKED,     /* it is durable, we have done nothing with that */
	HP_CRASH_PARK_ACKED,       /* the same, for a transition that parks or ends the run */
	HP_CRASH_EFFECT_BEFORE,    /* admission is durable, the request has not left */
	HP_CRASH_EFFECT_SENT,      /* the request was handed to the network */
	HP_CRASH_EFFECT_REPLIED,   /* the reply is here, nothing of it is durable */
	HP_CRASH_SQL_BEFORE,       /* about to run the statement */
	HP_CRASH_SQL_RAN,          /* the statement has run, its transaction is open */
	HP_CRASH_SQL_COMMITTED,    /* statement and transition are durable */
	HP_CRASH_HEARTBEAT_BEFORE, /* about to prolong the lease */
	HP_CRASH_HEARTBEAT_ACKED,
	HP_CRASH_GC_BEFORE,        /* about to remove what is over */
	HP_CRASH_GC_STEPPED,       /* a step of removing what is over is stored */
	HP_CRASH_RELEASE_BEFORE,   /* about to give runs back */
	HP_CRASH_DRAIN_BEFORE,     /* told to end, nothing done for that */
	HP_CRASH_DRAINED,          /* all is given back, the process is about to end */
	HP_CRASH_TICK_BEFORE,      /* a schedule's tick is due, nothing is stored */
	HP_CRASH_TICK_STORED,      /* its run is stored, nothing done with it */
	HP_CRASH_BREAKER_BEFORE,   /* a breaker should open, nothing is stored */
	HP_CRASH_BREAKER_STORED,   /* it is open, nothing done with that */
	HP_CRASH_SECRET_BEFORE,    /* a reply has brought a secret, which has no number yet */
	HP_CRASH_SECRET_SEALED,    /* a secret of a reply has its number, nothing of the reply is durable */
	/* doors (api/) */
	HP_CRASH_WEBHOOK_BEFORE,   /* signature is good, nothing is stored */
	HP_CRASH_WEBHOOK_STORED,   /* stored, the sender has no answer */
	HP_CRASH_START_BEFORE,
	HP_CRASH_START_STORED,
	HP_CRASH_DECIDE_BEFORE,    /* a decision is about to be stored */
	HP_CRASH_DECIDE_STORED,    /* stored, the person has no answer */
	HP_CRASH_OPERATE_BEFORE,   /* retry, skip, give up, cancel */
	HP_CRASH_OPERATE_STORED,
	HP_CRASH_DEPLOY_BEFORE,    /* a workflow was checked, nothing of it is stored */
	HP_CRASH_DEPLOY_STORED,    /* it is deployed, the deployer has no answer */
	/* the supervisor */
	HP_CRASH_POSTGRES_BEFORE,  /* the private PostgreSQL does not run */
	HP_CRASH_POSTGRES_STARTED, /* it has just been started */
	HP_CRASH_MIGRATE_BEFORE,   /* a migration has run, its transaction is open */
	HP_CRASH_MIGRATE_STORED,   /* it is applied */
	HP_CRASH__COUNT
};

extern bool hp_crash_armed; /* set by hp_crash_init() when a variable is there */

void hp_crash_init(void);
bool hp_crash_for_all(void); /* HP_CRASH begins with `*` */
void hp_crash_visit(enum hp_crash_label label);
const char *hp_crash_name(enum hp_crash_label label);        /* "commit_before" */
const char *hp_crash_description(enum hp_crash_label label);

#define HP_CRASH_POINT(label) \
	do { \
		if (__builtin_expect(hp_crash_armed, 0)) \
			hp_crash_visit(HP_CRASH_##label); \
	} while (0)

#endif
