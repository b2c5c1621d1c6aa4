/* host_private.h: what host.c (the process and its socket), host_calls.c (tokens and
 * answers) and host_watch.c (descriptors, timers, pool) share.
 *
 * There is one host per process, because the functions of struct hp_host have no
 * argument for it: `hp_the_host`.
 */
#ifndef HP_PLUGIN_HOST_PRIVATE_H
#define HP_PLUGIN_HOST_PRIVATE_H

#include <ev.h>
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/limits.h"
#include "plugin/frame.h"
#include "plugin/hp_plugin.h"

/* ---- calls: slot + generation; host_calls.c ---- */

struct hp_slot {
	uint32_t generation;        /* of the call in it, or of the last one */
	bool open;                  /* waits for its answer */
	int64_t id;                 /* the worker's number of the call */
	const struct hp_activity *activity;
	json_t *answer;             /* a frame: made by complete(), taken by the loop */
};

struct hp_calls {
	pthread_mutex_t lock;       /* everything below */
	struct hp_slot slots[HP_PLUGIN_CALLS_MAX];
	int answers;                /* slots with an answer to be taken */
};

void hp_calls_init(struct hp_calls *c);
/* A token, or 0: all slots are taken. */
uint64_t hp_calls_open(struct hp_calls *c, int64_t id, const struct hp_activity *a);
/* 1: it was the answer; 0: stale. */
int hp_calls_complete(struct hp_calls *c, uint64_t token, const struct hp_plugin_result *r);
int hp_calls_live(struct hp_calls *c, uint64_t token);
/* The worker gave the call up: its token, or 0 when it has been answered. */
uint64_t hp_calls_give_up(struct hp_calls *c, int64_t id, const struct hp_activity **a);
/* The next answer's frame, NULL: none. Owner: caller. */
json_t *hp_calls_take(struct hp_calls *c);
/* A plugin's text for a frame: cut to max bytes, never within a character; `otherwise`
 * in the place of an empty one and of one that is not UTF-8. */
json_t *hp_plugin_text(const char *s, size_t max, const char *otherwise);

/* ---- descriptors, timers, pool: host_watch.c ---- */

struct hp_watch {
	struct ev_io io;
	hp_plugin_io_fn fn;
	void *arg;
	uint32_t generation;
	bool used;
};
struct hp_timer {
	struct ev_timer timer;
	hp_plugin_fn fn;
	void *arg;
	uint32_t generation;
	bool used;
};
struct hp_job {
	hp_plugin_fn work, done;
	void *arg;
};
struct hp_pool {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct hp_job waiting[HP_PLUGIN_JOBS_MAX], done[HP_PLUGIN_JOBS_MAX];
	int first, n_waiting, n_done, running;
	int n_threads;
};

struct hp_plugin_host {
	struct ev_loop *loop;
	int fd;
	struct ev_io socket;
	struct ev_async wake;       /* answers or done jobs are there */
	struct hp_frames frames;
	const struct hp_plugin *plugin;
	void *state;
	struct hp_calls calls;
	struct hp_watch watches[HP_PLUGIN_WATCHES_MAX];
	struct hp_timer timers[HP_PLUGIN_TIMERS_MAX];
	struct hp_pool pool;
	pthread_mutex_t writing;    /* the socket: log() comes from any thread */
};
extern struct hp_plugin_host hp_the_host;

uint64_t hp_host_io_start(int fd, unsigned events, hp_plugin_io_fn fn, void *arg);
void hp_host_io_stop(uint64_t handle);
uint64_t hp_host_timer_start(int64_t after_us, hp_plugin_fn fn, void *arg);
void hp_host_timer_stop(uint64_t handle);
void hp_pool_init(struct hp_pool *p);
int hp_host_pool_run(hp_plugin_fn work, hp_plugin_fn done, void *arg);
void hp_pool_finish(struct hp_pool *p); /* on the loop thread: calls what is done */

#endif
