/* hp_plugin.h: the interface between Holdpoint and native plugins. ABI 1.
 *
 * A native plugin is a shared object plugins/NAME/NAME.so beside a connector.lua
 * that says `native = true`. It exists for what Lua and HTTP cannot do: another
 * protocol, a C library. It exports one function:
 *
 *     const struct hp_plugin *hp_plugin_v1(void);
 *
 * PROCESS. Every worker runs each plugin in a process of its own, which has no
 * database connection, no secret in its environment, and nothing of the engine's
 * memory. A crash or an endless loop costs the calls that were in that process,
 * and nothing else: they end as "the peer may have acted", a new process is
 * started. So a plugin must not count on memory that outlives a call, and what it
 * keeps (caches, connections) must be able to vanish. It is loaded once per
 * process with RTLD_NOW | RTLD_LOCAL and never unloaded. What it prints becomes lines
 * of the engine's log; what it starts is killed with it, unless the worker itself was
 * killed: then only this process ends at once.
 *
 * THREADS. One thread (the loop thread) calls init, the activities, cancel, fini
 * and all callbacks. A callback must return within 5 s, or the process is taken
 * for hung and killed; aim at a millisecond. Work that blocks belongs into
 * pool_run(). Functions of struct hp_host may be called from the loop thread only,
 * except those marked [any thread].
 *
 * CALLS. An activity gets a struct hp_call and answers by host->complete(token,
 * result), at once or later, once. Tokens are slot and generation: an answer that
 * comes twice, or after the engine gave the call up, is ignored and says so by its
 * return value. Every call must be completed; one that is not ends by its timeout.
 *
 * OWNERSHIP. What the engine passes is valid until the function that got it
 * returns, unless said otherwise: copy what you keep (of a call: at least the
 * token). What a plugin passes is copied before the function returns. Tables
 * (struct hp_plugin, struct hp_activity) must live as long as the process.
 *
 * ERRORS. A result's class says what the engine may do (see enum
 * hp_plugin_class); its code is what authors catch, and must be among the
 * operation's `errors` in connector.lua. Repeats, back-off, probes and approvals
 * are the engine's: a plugin never repeats what is not safe to repeat.
 *
 * UNITS. Times are microseconds as int64_t, on a monotonic clock; sizes are bytes.
 * Text is UTF-8 and ends with NUL; values are JSON text (RFC 8259, nested at most 62
 * deep, integers of 64 bit, no U+0000).
 *
 * LIMITS. Arguments <= 1 MiB, a value <= 1 MiB, code <= 63, message <= 1000
 * (longer ones are cut), 256 calls at once per process (a worker sends at most 16,
 * others wait), 64 descriptors and 256 timers watched, 4 pool threads with 256 waiting
 * jobs, 20 lines of log per second (more are counted, not shown); address space 2 GiB,
 * 512 open files, no core dumps.
 *
 * VERSIONS. Tables begin with their size and only grow at their ends; an engine
 * reads no field beyond the size it is given, and neither may a plugin. A change
 * that this cannot express raises HP_PLUGIN_ABI, and gets another entry point.
 *
 * C99 or newer, C++11 or newer. Nothing but the C library is needed.
 */
#ifndef HP_PLUGIN_H
#define HP_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HP_PLUGIN_ABI 1

/* What a call came to. */
enum hp_plugin_class {
	HP_PLUGIN_OK = 0,
	HP_PLUGIN_RETRYABLE = 1,   /* the peer did not act, or a repeat is right */
	HP_PLUGIN_TERMINAL = 2,    /* the peer refused for good; it did not act */
	HP_PLUGIN_AMBIGUOUS = 3,   /* the peer may have acted */
	HP_PLUGIN_NEEDS_PERSON = 4 /* only a person can go on */
};

enum hp_plugin_level { HP_PLUGIN_DEBUG = 0, HP_PLUGIN_INFO = 1, HP_PLUGIN_WARN = 2, HP_PLUGIN_ERROR = 3 };

/* Events of a descriptor, joined by |. */
#define HP_PLUGIN_READ 1u
#define HP_PLUGIN_WRITE 2u

struct hp_plugin_result {
	size_t size;            /* sizeof(struct hp_plugin_result) */
	int cls;                /* enum hp_plugin_class */
	const char *value;      /* HP_PLUGIN_OK: JSON text; NULL: null */
	size_t value_len;
	const char *code;       /* else: "nxdomain" */
	const char *message;    /* else: one sentence for people, no secrets; may be NULL */
	int64_t retry_after_us; /* HP_PLUGIN_RETRYABLE: not before; < 0: no advice */
};

struct hp_plugin_header {
	const char *name;       /* lower case */
	const char *value;      /* may be a secret: never log it */
};

struct hp_call {
	size_t size;            /* of this structure, as the engine knows it */
	uint64_t token;         /* for complete(); never 0 */
	const char *args;       /* JSON text of the argument */
	size_t args_len;
	const char *key;        /* the effect's key: the same at every attempt */
	const char *endpoint;   /* where the operator sends this connector instead
	                         * (--base-url NAME=TEXT); NULL: where it always goes */
	int64_t timeout_us;     /* from now; the engine gives the call up then */
	const struct hp_plugin_header *headers; /* `headers` of connector.lua, secrets resolved */
	size_t n_headers;
};

struct hp_activity {
	size_t size;            /* sizeof(struct hp_activity) */
	const char *name;       /* as the operation in connector.lua: "lookup.txt" */
	void (*call)(void *state, const struct hp_call *call);
	/* The engine gave up the call with that token (its time is over): what works
	 * for it may stop. complete() is of no use any more. NULL: nothing to do. */
	void (*cancel)(void *state, uint64_t token);
};

typedef void (*hp_plugin_fn)(void *arg);
typedef void (*hp_plugin_io_fn)(void *arg, int fd, unsigned events);

/* What the engine offers. Lives as long as the process. */
struct hp_host {
	uint32_t abi;           /* HP_PLUGIN_ABI of the engine */
	uint32_t size;          /* of this structure, as the engine knows it */

	/* [any thread] Answers a call. 1: this was its answer. 0: ignored, because the
	 * call has been answered or given up. A result that breaks a limit above is
	 * replaced by a failure that says so, and counts as the answer. */
	int (*complete)(uint64_t token, const struct hp_plugin_result *result);
	/* [any thread] 1: the call waits for its answer. */
	int (*live)(uint64_t token);
	/* [any thread] The monotonic clock. */
	int64_t (*now_us)(void);
	/* [any thread] One line in the engine's log: no secrets, no personal data.
	 * level: enum hp_plugin_level. */
	void (*log)(int level, const char *message);

	/* Calls fn whenever fd is ready. A handle, or 0: too many, or fd cannot be
	 * watched. Stop it before fd is closed. Stopping a stale handle does nothing. */
	uint64_t (*io_start)(int fd, unsigned events, hp_plugin_io_fn fn, void *arg);
	void (*io_stop)(uint64_t handle);
	/* Calls fn once, not before after_us. A handle, or 0: too many. */
	uint64_t (*timer_start)(int64_t after_us, hp_plugin_fn fn, void *arg);
	void (*timer_stop)(uint64_t handle);

	/* [any thread] Runs work on a thread of the pool, then done (may be NULL) on the
	 * loop thread. 0, or -1: the queue is full. work may call only what is marked
	 * [any thread]. */
	int (*pool_run)(hp_plugin_fn work, hp_plugin_fn done, void *arg);
};

struct hp_plugin {
	uint32_t abi;           /* HP_PLUGIN_ABI: always first */
	uint32_t size;          /* sizeof(struct hp_plugin) */
	const char *name;       /* as its folder */
	const char *version;    /* "1.0.2": for people */
	const struct hp_activity *const *activities; /* ends with NULL; at most 200 */
	/* Once, before any call. *state is passed to everything else. 0, or -1 with a
	 * sentence in error (of error_len bytes, NUL included): the plugin is refused.
	 * NULL: nothing to do. */
	int (*init)(const struct hp_host *host, void **state, char *error, size_t error_len);
	/* At an orderly end only; a plugin must not depend on it. NULL: nothing to do. */
	void (*fini)(void *state);
};

/* What the plugin exports. HP_PLUGIN_EXPORT makes it visible under -fvisibility=hidden. */
#if defined(__GNUC__)
#define HP_PLUGIN_EXPORT __attribute__((visibility("default")))
#else
#define HP_PLUGIN_EXPORT
#endif
HP_PLUGIN_EXPORT const struct hp_plugin *hp_plugin_v1(void);

#ifdef __cplusplus
}
#endif
#endif
