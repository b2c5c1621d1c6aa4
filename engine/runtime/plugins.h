/* plugins.h: the processes of native plugins, one per plugin and worker.
 *
 * Started at the first call, watched, started again after they ended: at once the
 * first time, then after 0.2 s doubling to 10 s. Nothing a plugin does can block
 * or end the worker:
 *
 *   cannot be used (wrong ABI, no such symbol, its init says no)   its calls: refused
 *   crashes or hangs while it is loaded                            its calls: not sent
 *   crashes or hangs in a call                                     what was sent: unknown
 *   a call takes longer than its timeout                           that call: unknown
 *
 * A plugin that was refused is looked at again by the first call after
 * REFUSED_FOR. libev reaps children on its default loop only, so this needs it.
 */
#ifndef HP_RUNTIME_PLUGINS_H
#define HP_RUNTIME_PLUGINS_H

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"
#include "runtime/counters.h"

struct hp_plugins;

struct hp_plugins_options {
	struct ev_loop *loop;          /* the default loop */
	const char *dir;               /* DIR/NAME/NAME.so */
	struct hp_counters *counters;  /* NULL: not counted */
	const char *exe;               /* NULL: this very program */
	int64_t load_us, stall_us;     /* 0: HP_PLUGIN_LOAD_TIME, HP_PLUGIN_STALL */
	/* Asked again when a call leaves, which may be long after it was made: false: it is
	 * not sent. NULL: always. */
	bool (*may_send)(void *arg);
	void *arg;
};

struct hp_plugin_call {
	const char *plugin, *activity;
	struct hp_bytes args;          /* JSON text */
	const char *key, *endpoint;    /* endpoint NULL: the plugin's own */
	const char *(*headers)[2];     /* secrets resolved: never logged */
	int n_headers;
	int64_t timeout_us;            /* from now; the plugin is told what is left when it gets it */
};

struct hp_plugin_reply {
	bool answered;
	bool sent;                     /* !answered: the plugin may have acted */
	bool refused;                  /* !answered, !sent: time alone will not help */
	const char *failure;           /* !answered: "timeout", "plugin_crashed", … */
	char detail[600];              /* !answered: one sentence */
	int status;                    /* answered: 200, or 4xx, 5xx after the class */
	struct hp_bytes body;          /* answered: JSON: the value, or {class, code, message, …} */
};
/* The reply is borrowed. Called once, never from inside hp_plugins_call(). */
typedef void (*hp_plugin_done)(void *arg, const struct hp_plugin_reply *r);

struct hp_plugins *hp_plugins_new(const struct hp_plugins_options *o, struct hp_error *err);
/* Ends all processes; open calls are dropped without their callbacks. */
void hp_plugins_free(struct hp_plugins *p);
/* Everything is copied. Returns a token (> 0) or -1 (HP_E_TOO_LARGE: args). */
int64_t hp_plugins_call(struct hp_plugins *p, const struct hp_plugin_call *c, hp_plugin_done done, void *arg,
			struct hp_error *err) HP_MUST_CHECK;
void hp_plugins_abort(struct hp_plugins *p, int64_t token); /* no callback; stale tokens ignored */

/* Starts FILE's process, waits for its hello and ends it again: what `check` says
 * about a file. *hello: {"name", "version", "activities"} (owner: caller). Blocks
 * at most HP_PLUGIN_LOAD_TIME. name: what it must be called; NULL: any. exe: NULL: this
 * very program. */
int hp_plugin_try(const char *exe, const char *file, const char *name, json_t **hello,
		  struct hp_error *err) HP_MUST_CHECK;

#endif
