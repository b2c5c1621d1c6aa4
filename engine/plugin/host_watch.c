/* host_watch.c: descriptors, timers and the pool, as plugins may use them.
 *
 * Handles are index + 1 and a generation, like tokens: a stale one is ignored.
 */
#include "plugin/host_private.h"

#include <poll.h>
#include <string.h>

static uint64_t handle_of(uint32_t generation, int index)
{
	return (uint64_t)generation << 32 | (uint64_t)(index + 1);
}

/* The index, or -1. */
static int index_of(uint64_t handle, int max)
{
	uint64_t at = handle & UINT32_MAX;

	return at >= 1 && at <= (uint64_t)max ? (int)at - 1 : -1;
}

/* ---- descriptors ---- */

static void on_ready(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct hp_watch *w = io->data;

	(void)loop;
	w->fn(w->arg, io->fd, (events & EV_READ ? HP_PLUGIN_READ : 0) | (events & EV_WRITE ? HP_PLUGIN_WRITE : 0));
}

uint64_t hp_host_io_start(int fd, unsigned events, hp_plugin_io_fn fn, void *arg)
{
	struct hp_plugin_host *h = &hp_the_host;
	struct pollfd closed = {.fd = fd};
	int i = 0;

	/* libev ends the process for a descriptor that is not open */
	if (fd < 0 || fd == h->fd || !fn || (events & (HP_PLUGIN_READ | HP_PLUGIN_WRITE)) == 0 ||
	    poll(&closed, 1, 0) < 0 || (closed.revents & POLLNVAL))
		return 0;
	while (i < HP_PLUGIN_WATCHES_MAX && h->watches[i].used)
		i++;
	if (i == HP_PLUGIN_WATCHES_MAX)
		return 0;
	h->watches[i].used = true;
	h->watches[i].generation++;
	h->watches[i].fn = fn;
	h->watches[i].arg = arg;
	ev_io_init(&h->watches[i].io, on_ready, fd,
		   (events & HP_PLUGIN_READ ? EV_READ : 0) | (events & HP_PLUGIN_WRITE ? EV_WRITE : 0));
	h->watches[i].io.data = &h->watches[i];
	ev_io_start(h->loop, &h->watches[i].io);
	return handle_of(h->watches[i].generation, i);
}

void hp_host_io_stop(uint64_t handle)
{
	struct hp_plugin_host *h = &hp_the_host;
	int i = index_of(handle, HP_PLUGIN_WATCHES_MAX);

	if (i < 0 || !h->watches[i].used || handle != handle_of(h->watches[i].generation, i))
		return;
	ev_io_stop(h->loop, &h->watches[i].io);
	h->watches[i].used = false;
}

/* ---- timers ---- */

static void on_time(struct ev_loop *loop, struct ev_timer *timer, int events)
{
	struct hp_timer *t = timer->data;
	hp_plugin_fn fn = t->fn;

	(void)loop;
	(void)events;
	t->used = false; /* fn may start another one in its place */
	fn(t->arg);
}

uint64_t hp_host_timer_start(int64_t after_us, hp_plugin_fn fn, void *arg)
{
	struct hp_plugin_host *h = &hp_the_host;
	int i = 0;

	while (i < HP_PLUGIN_TIMERS_MAX && h->timers[i].used)
		i++;
	if (!fn || i == HP_PLUGIN_TIMERS_MAX)
		return 0;
	h->timers[i].used = true;
	h->timers[i].generation++;
	h->timers[i].fn = fn;
	h->timers[i].arg = arg;
	ev_now_update(h->loop); /* the plugin may have worked for a while: never early */
	ev_timer_init(&h->timers[i].timer, on_time, after_us > 0 ? (double)after_us / 1e6 : 0., 0.);
	h->timers[i].timer.data = &h->timers[i];
	ev_timer_start(h->loop, &h->timers[i].timer);
	return handle_of(h->timers[i].generation, i);
}

void hp_host_timer_stop(uint64_t handle)
{
	struct hp_plugin_host *h = &hp_the_host;
	int i = index_of(handle, HP_PLUGIN_TIMERS_MAX);

	if (i < 0 || !h->timers[i].used || handle != handle_of(h->timers[i].generation, i))
		return;
	ev_timer_stop(h->loop, &h->timers[i].timer);
	h->timers[i].used = false;
}

/* ---- pool ---- */

void hp_pool_init(struct hp_pool *p)
{
	memset(p, 0, sizeof *p);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wanted, NULL);
}

static void *pool_thread(void *arg)
{
	struct hp_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct hp_job job;

		while (p->n_waiting == 0)
			pthread_cond_wait(&p->wanted, &p->lock);
		job = p->waiting[p->first];
		p->first = (p->first + 1) % HP_PLUGIN_JOBS_MAX;
		p->n_waiting--;
		p->running++;
		pthread_mutex_unlock(&p->lock);
		job.work(job.arg);
		pthread_mutex_lock(&p->lock);
		p->running--;
		if (job.done) {
			p->done[p->n_done++] = job;
			ev_async_send(hp_the_host.loop, &hp_the_host.wake);
		}
	}
	return NULL;
}

/* Threads are made when there is work for them; they end with the process. */
static void more_threads(struct hp_pool *p)
{
	pthread_t id;

	if (p->n_threads == HP_PLUGIN_THREADS || p->running + p->n_waiting <= p->n_threads)
		return;
	if (pthread_create(&id, NULL, pool_thread, p) != 0)
		return;
	pthread_detach(id);
	p->n_threads++;
}

int hp_host_pool_run(hp_plugin_fn work, hp_plugin_fn done, void *arg)
{
	struct hp_pool *p = &hp_the_host.pool;
	int rc = -1;

	pthread_mutex_lock(&p->lock);
	/* what is done and not yet taken needs its place too */
	if (work && p->n_waiting + p->running + p->n_done < HP_PLUGIN_JOBS_MAX) {
		p->waiting[(p->first + p->n_waiting) % HP_PLUGIN_JOBS_MAX] = (struct hp_job){work, done, arg};
		p->n_waiting++;
		more_threads(p);
		pthread_cond_signal(&p->wanted);
		rc = p->n_threads > 0 ? 0 : -1;
		p->n_waiting -= rc != 0;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void hp_pool_finish(struct hp_pool *p)
{
	for (;;) {
		struct hp_job job;

		pthread_mutex_lock(&p->lock);
		if (p->n_done == 0) {
			pthread_mutex_unlock(&p->lock);
			return;
		}
		job = p->done[0];
		memmove(p->done, p->done + 1, (size_t)--p->n_done * sizeof p->done[0]);
		pthread_mutex_unlock(&p->lock);
		job.done(job.arg);
	}
}
