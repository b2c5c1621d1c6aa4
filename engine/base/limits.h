/* limits.h: every number that bounds something, in one place.
 *
 * Sizes in bytes unless the name says otherwise, times in microseconds.
 */
#ifndef HP_BASE_LIMITS_H
#define HP_BASE_LIMITS_H

#include <stdint.h>

/* Data of a run */
#define HP_INPUT_MAX (256 * 1024)       /* input document */
#define HP_VALUE_MAX (256 * 1024)       /* one saved value */
#define HP_RUN_DATA_MAX (4 * 1024 * 1024) /* all of a run's data when loaded */
#define HP_KEY_MAX 512                  /* a run's key, a mailbox key, a business key */
#define HP_NAME_MAX 64                  /* workflow, state, connector, operation, event part */
#define HP_REASON_MAX 2000              /* a person's reason */
#define HP_JSON_DEPTH_MAX 64

/* Secrets */
#define HP_SECRET_MAX 8192              /* one value */
#define HP_SECRET_NAME_MAX 64           /* with the NUL */
#define HP_SECRETS_MAX 1000             /* names in the table */
#define HP_SECRETS_LISTED 10            /* newest versions of a name in lists; live ones always */
#define HP_SECRETS_LOOK (4 * INT64_C(1000000)) /* no heartbeat said it: ask whether any changed; seen within 5 s */
#define HP_SECRETS_PER_REPLY 8          /* that one reply may bring */

/* Definitions */
#define HP_SOURCE_MAX (512 * 1024)      /* one Lua source file */
#define HP_BUNDLE_MAX (4 * 1024 * 1024) /* a workflow with its connectors */
#define HP_STATES_MAX 500
#define HP_RETENTION_MIN (INT64_C(3600) * 1000000) /* what has just ended is looked at by people */
#define HP_CATCHES_MAX 32
#define HP_BRANCHES_MAX 64
#define HP_AWAIT_EVENTS_MAX 8
#define HP_REMINDERS_MAX 8
#define HP_ARMS_MAX 8
#define HP_CHILDREN_AT_ONCE_MAX 250     /* concurrency of an `each` */
#define HP_CHILDREN_PAGE 250            /* items of an `each` in one commit … */
#define HP_CHILDREN_PAGE_BYTES (512 * 1024) /* … whose inputs together */

/* A run's life */
#define HP_VISITS_MAX 10000             /* state entries; past it the run is held */
#define HP_CLAIMS_STALLED_MAX 16        /* claims without a commit; past it the run is held */
#define HP_ATTEMPTS_MAX 1000
#define HP_CHECK_NOTES_MAX 100          /* rows of history about the checks of one visit */

/* Lua. Under valgrind (make check-deep) the same work takes so many times the CPU. */
#ifndef HP_SLOWNESS
#define HP_SLOWNESS 1
#endif
#define HP_LUA_MEMORY_MAX (32u * 1024 * 1024)
#define HP_LUA_TIME_MAX (50 * 1000)     /* one evaluation */
#define HP_LUA_LOAD_TIME_MAX (1000 * 1000) /* reading a definition, once */
#define HP_LUA_HOOK_COUNT 1000          /* instructions between looks at the clock */
#define HP_PATTERN_STEPS_MAX 100000     /* steps of the pattern matcher per call */
#define HP_LUA_STRING_MAX (4 * 1024 * 1024)

/* HTTP */
#define HP_HTTP_REQUEST_BODY_MAX (1024 * 1024)   /* what we accept */
#define HP_HTTP_RESPONSE_BODY_MAX (2 * 1024 * 1024) /* what a connector may answer */
#define HP_HTTP_HEADERS_MAX (32 * 1024)
#define HP_HTTP_CONNECTIONS_MAX 1000
#define HP_HTTP_PER_IP_MAX 256
#define HP_HTTP_REQUEST_TIME_MAX (30 * INT64_C(1000000)) /* a client must finish its request */
#define HP_HTTP_PER_HOST_MAX 16         /* outgoing connections to one host, per worker */
#define HP_WEBHOOK_TOLERANCE (300 * INT64_C(1000000))

/* Runtime */
#define HP_LEASE_DEFAULT (10 * INT64_C(1000000))
#define HP_LEASE_SEND_PERCENT 60        /* nothing is sent past this share of the lease */
#define HP_WORKER_SLOTS_DEFAULT 512     /* runs one worker holds at once */
#define HP_BATCH_MAX 256                /* transitions in one commit */
#define HP_CLAIM_MAX 256
#define HP_POLL_DEFAULT (500 * INT64_C(1000)) /* how often an idle worker looks */
#define HP_SQL_STATE_CONNECTIONS 4      /* per worker, for `sql` states */
#define HP_SQL_STATE_TIMEOUT (10 * INT64_C(1000000))
#define HP_SQL_LOCK_TIMEOUT (3 * INT64_C(1000000))
#define HP_SQL_ROWS_MAX 1000            /* `many`; more is an error. Also the largest page of a sweep */
#define HP_SWEEP_RATE_MAX 1000000       /* rows per second */

/* Native plugins (hp_plugin.h says most of these to their authors) */
#define HP_PLUGIN_FRAME_MAX (4 * 1024 * 1024)  /* between a worker and a plugin's process */
#define HP_PLUGIN_ARGS_MAX HP_HTTP_REQUEST_BODY_MAX
#define HP_PLUGIN_VALUE_MAX (1024 * 1024)
#define HP_PLUGIN_CODE_MAX 63
#define HP_PLUGIN_MESSAGE_MAX 1000
#define HP_PLUGIN_ACTIVITIES_MAX 200
#define HP_PLUGIN_CALLS_MAX 256                /* at once, per process */
#define HP_PLUGIN_WATCHES_MAX 64
#define HP_PLUGIN_TIMERS_MAX 256
#define HP_PLUGIN_THREADS 4
#define HP_PLUGIN_JOBS_MAX 256
#define HP_PLUGIN_MEMORY_MAX (INT64_C(2) * 1024 * 1024 * 1024) /* address space */
#define HP_PLUGIN_FILES_MAX 512
#define HP_PLUGIN_LOAD_TIME (5 * INT64_C(1000000)) /* until it must have said hello */
#define HP_PLUGIN_STALL (5 * INT64_C(1000000)) /* a callback that takes longer is taken for hung */
#define HP_PLUGINS_MAX 32                      /* native ones, per worker */

#endif
