/* plugins.c: the processes of native plugins.
 *
 *   IDLE ─▶ LOADING ─▶ UP ─▶ IDLE
 *              └──────────────┘
 *
 * One that is lost (fd < 0) stays LOADING or UP until it has been reaped.
 * A call is on its process's list from hp_plugins_call() until its callback. What
 * went wrong is noted in `why` when it is seen; calls are answered when the process
 * has been reaped, because its ending is part of the sentence.
 */
#include "runtime/plugins.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mutant.h"
#include "plugin/frame.h"
#include "plugin/hp_plugin.h"
#include "runtime/child.h"
#include "runtime/plugin_child.h"
#include "runtime/plugin_output.h"

#define BACKOFF_FIRST (200 * HP_MSEC)
#define BACKOFF_CAP (10 * HP_SECOND)
#define LIVED_WELL (60 * HP_SECOND)
#define REFUSED_FOR (2 * HP_SECOND)
#define BEATS_PER_STALL 4
#define READS 4
#define OUT_MAX (64u * 1024 * 1024) /* calls that wait to be written to one process */

enum life { IDLE, LOADING, UP };

struct process {
	struct hp_plugins *p;
	char name[HP_NAME_MAX + 1];
	enum life life;
	pid_t pid;
	int fd;                     /* -1: none */
	struct ev_io readable, writable;
	struct ev_child exit;
	struct ev_timer load;       /* LOADING: until it must be up */
	struct ev_timer beat;       /* UP: asks whether it still answers */
	struct ev_timer again;      /* IDLE: the next start */
	struct hp_plugin_output output;
	struct hp_frames frames;
	struct hp_buf out;
	size_t out_at;
	int64_t ping_at;            /* boot clock; 0: no ping is open */
	int64_t started_at, backoff_us;
	int64_t next_at;            /* IDLE: not started before, on the boot clock */
	char why[600];              /* "" : nothing was seen before it ended */
	char last[800];             /* how it ended the last time; "": it has not */
	bool refused;
	int64_t refused_until;      /* why holds the sentence until then */
	struct hp_list calls;
};

struct call {
	struct hp_list node;
	struct process *x;
	int64_t id;
	json_t *frame;              /* until it is sent */
	int64_t until;              /* boot clock: its timeout */
	bool sent;
	bool failing;               /* refused: answered in the next turn */
	bool late;                  /* not sent any more: answered in the next turn */
	struct ev_timer deadline;
	hp_plugin_done done;
	void *arg;
};

struct hp_plugins {
	struct hp_plugins_options o;
	struct process list[HP_PLUGINS_MAX];
	int n;
	int64_t last_id;
};

static void start(struct process *x);

/* ---- counting and saying ---- */

static void count(const struct process *x, const char *what)
{
	if (x->p->o.counters)
		++*hp_counterf(x->p->o.counters, "holdpoint_plugin_%s_total{plugin=\"%s\"}", what, x->name);
}

/* The first thing that went wrong is the cause of the rest. */
static void because(struct process *x, const char *fmt, ...) HP_PRINTF(2, 3);
static void because(struct process *x, const char *fmt, ...)
{
	va_list ap;

	if (x->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(x->why, sizeof x->why, fmt, ap);
	va_end(ap);
}

/* ---- calls ---- */

static void wipe(const json_t *text)
{
	if (json_is_string(text))
		explicit_bzero((char *)(uintptr_t)json_string_value(text), json_string_length(text));
}

/* Secrets are in its headers, and may be in its argument. */
static void frame_free(json_t *frame)
{
	json_t *headers = json_object_get(frame, "headers"), *v;
	const char *name;

	json_object_foreach(headers, name, v)
		wipe(v);
	wipe(json_object_get(frame, "args"));
	json_decref(frame);
}

static void call_free(struct call *c)
{
	ev_timer_stop(c->x->p->o.loop, &c->deadline);
	hp_list_del(&c->node);
	frame_free(c->frame);
	hp_free(c);
}

static void answer(struct call *c, const struct hp_plugin_reply *r)
{
	hp_plugin_done done = c->done;
	void *arg = c->arg;

	call_free(c);
	done(arg, r);
}

static void answer_failed(struct call *c, bool refused, const char *failure, const char *sentence)
{
	struct hp_plugin_reply r = {.sent = c->sent, .refused = refused && !c->sent, .failure = failure};

	snprintf(r.detail, sizeof r.detail, "%s", sentence);
	answer(c, &r);
}

/* Callbacks may call again, so those are taken off the list that are meant now. */
static void fail_all(struct process *x, bool only_sent, bool refused, const char *failure, const char *sentence)
{
	struct hp_list *it, *tmp, now;

	hp_list_init(&now);
	hp_list_each(it, tmp, &x->calls) {
		const struct call *c = hp_list_entry(it, struct call, node);

		if (only_sent && !c->sent)
			continue;
		hp_list_del(it);
		hp_list_add_tail(&now, it);
	}
	while (!hp_list_empty(&now))
		answer_failed(hp_list_entry(now.next, struct call, node), refused, failure, sentence);
}

static struct call *call_find(struct process *x, int64_t id)
{
	struct hp_list *it, *tmp;

	hp_list_each(it, tmp, &x->calls) {
		struct call *c = hp_list_entry(it, struct call, node);

		if (c->id == id)
			return c;
	}
	return NULL;
}

/* ---- writing ---- */

static void lose(struct process *x);
static void read_in(struct process *x);

static void write_out(struct process *x)
{
	while (x->out_at < x->out.n) {
		ssize_t n = send(x->fd, x->out.p + x->out_at, x->out.n - x->out_at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			ev_io_start(x->p->o.loop, &x->writable);
			return;
		}
		if (n < 0) {
			lose(x);
			return;
		}
		x->out_at += (size_t)n;
	}
	if (x->out.n > 0)
		explicit_bzero(x->out.p, x->out.n);
	hp_buf_clear(&x->out);
	x->out_at = 0;
	ev_io_stop(x->p->o.loop, &x->writable);
}

static void on_writable(struct ev_loop *loop, struct ev_io *io, int events)
{
	(void)loop;
	(void)events;
	write_out(io->data);
}

static void tell(struct process *x, json_t *v)
{
	if (hp_frame_add(&x->out, v, NULL) != 0) {
		because(x, "it does not take what it is sent");
		lose(x);
		return;
	}
	write_out(x);
}

static void answer_soon(struct call *c)
{
	ev_timer_stop(c->x->p->o.loop, &c->deadline);
	ev_timer_set(&c->deadline, 0., 0.);
	ev_timer_start(c->x->p->o.loop, &c->deadline);
}

/* The last look before it leaves: it may have waited for its process since the caller's. */
static void send_call(struct call *c)
{
	struct process *x = c->x;
	const struct hp_plugins_options *o = &x->p->o;
	int64_t left = c->until - hp_boottime_us();

	if (left <= 0) /* its timer is about to say so */
		return;
	if (!HP_GUARD(plugin_lease, !o->may_send || o->may_send(o->arg))) {
		c->late = true;
		answer_soon(c);
		return;
	}
	if (json_object_set_new(c->frame, "timeout_us", json_integer(left)) != 0 ||
	    hp_frame_add(&x->out, json_incref(c->frame), NULL) != 0) {
		x->out.failed = false; /* this one waits for its timeout; the others are whole */
		return;
	}
	frame_free(c->frame);
	c->frame = NULL;
	c->sent = true;
	if (!ev_is_active(&x->beat))
		ev_timer_again(x->p->o.loop, &x->beat);
	write_out(x);
}

/* ---- a process ends ---- */

/* It is of no use any more: what it came to is said when it has been reaped. */
static void lose(struct process *x)
{
	struct ev_loop *loop = x->p->o.loop;

	if (x->fd < 0)
		return;
	ev_io_stop(loop, &x->readable);
	ev_io_stop(loop, &x->writable);
	ev_timer_stop(loop, &x->beat);
	if (x->pid > 0) /* before it can see that we are gone; an ending of its own it keeps */
		kill(x->pid, SIGKILL);
	close(x->fd);
	x->fd = -1;
}

/* Never at once: a failure must not be told from inside hp_plugins_call(). */
static void start_later(struct process *x)
{
	int64_t left = x->next_at - hp_boottime_us();

	ev_timer_stop(x->p->o.loop, &x->again);
	ev_timer_set(&x->again, left > 0 ? (double)left / 1e6 : 0., 0.);
	ev_timer_start(x->p->o.loop, &x->again);
}

static void on_again(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct process *x = t->data;

	(void)loop;
	(void)events;
	if (x->life == IDLE && !hp_list_empty(&x->calls))
		start(x);
}

static void back_off(struct process *x)
{
	if (hp_boottime_us() - x->started_at > LIVED_WELL)
		x->backoff_us = 0;
	x->next_at = hp_boottime_us() + x->backoff_us;
	start_later(x);
	x->backoff_us = x->backoff_us == 0 ? BACKOFF_FIRST : x->backoff_us * 2;
	if (x->backoff_us > BACKOFF_CAP)
		x->backoff_us = BACKOFF_CAP;
}

static void refuse_all(struct process *x)
{
	x->refused_until = hp_boottime_us() + REFUSED_FOR;
	hp_log(HP_ERROR, "a plugin was refused", "plugin", HP_STR(x->name), "error", HP_STR(x->why), NULL);
	count(x, "refused");
	fail_all(x, false, true, "plugin_refused", x->why);
}

static void on_exit_of(struct ev_loop *loop, struct ev_child *child, int events)
{
	struct process *x = child->data;
	char how[64];
	bool was_up;

	(void)events;
	ev_child_stop(loop, child);
	ev_timer_stop(loop, &x->load);
	kill(-child->pid, SIGKILL); /* what it started, however it ended: its group outlives it */
	x->pid = 0;
	read_in(x); /* what it said before it ended counts */
	lose(x);
	hp_plugin_output_close(&x->output);
	was_up = x->life == UP;
	x->life = IDLE;
	hp_frames_free(&x->frames);
	hp_buf_wipe(&x->out);
	x->out_at = 0;
	if (x->refused) {
		refuse_all(x);
		return;
	}
	hp_child_ending(child->rstatus, how, sizeof how);
	snprintf(x->last, sizeof x->last, "the plugin %s %s while it %s%s%s", x->name, how, was_up ? "worked" : "was loaded",
		 x->why[0] ? ": " : "", x->why);
	hp_log(HP_ERROR, "a plugin's process ended", "plugin", HP_STR(x->name), "error", HP_STR(x->last), NULL);
	count(x, "crashes");
	back_off(x);
	fail_all(x, was_up, false, was_up ? "plugin_crashed" : "unreachable", x->last);
}

static void on_load_time(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct process *x = t->data;

	(void)loop;
	(void)events;
	because(x, "loading took longer than %lld ms", (long long)(x->p->o.load_us / HP_MSEC));
	lose(x);
}

/* ---- reading ---- */

static void on_hello(struct process *x, const json_t *hello)
{
	struct hp_list *it, *tmp;

	x->life = UP;
	x->ping_at = 0;
	ev_timer_stop(x->p->o.loop, &x->load);
	hp_log(HP_INFO, "a plugin is loaded", "plugin", HP_STR(x->name), "version", HP_STR(hp_json_str(hello, "version")),
	       "plugin_pid", HP_I64(x->pid), NULL);
	hp_list_each(it, tmp, &x->calls) {
		if (x->fd < 0)
			return;
		send_call(hp_list_entry(it, struct call, node));
	}
}

static int status_of(int64_t cls)
{
	switch (cls) {
	case HP_PLUGIN_OK:
		return 200;
	case HP_PLUGIN_RETRYABLE:
		return 503;
	case HP_PLUGIN_TERMINAL:
		return 422;
	case HP_PLUGIN_NEEDS_PERSON:
		return 403;
	default:
		return 500;
	}
}

static const char *class_word(int64_t cls)
{
	return cls == HP_PLUGIN_RETRYABLE ? "retryable" : cls == HP_PLUGIN_TERMINAL ? "terminal"
	       : cls == HP_PLUGIN_NEEDS_PERSON ? "needs_person" : "ambiguous";
}

static json_t *failure_of(const json_t *f, int64_t cls)
{
	const char *code = hp_json_str(f, "code"), *message = hp_json_str(f, "message");
	int64_t after = hp_json_int(f, "retry_after_us", -1);
	json_t *v = json_pack("{s:s, s:s, s:s}", "class", class_word(cls), "code", code ? code : "reply_error", "message",
			      message ? message : "the plugin gave no reason");

	if (v && after >= 0)
		json_object_set_new(v, "retry_after", json_real((double)after / 1e6));
	return v;
}

static void on_reply(struct process *x, const json_t *f)
{
	struct call *c = call_find(x, hp_json_int(f, "reply", 0));
	int64_t cls = hp_json_int(f, "class", HP_PLUGIN_AMBIGUOUS);
	json_t *value = json_object_get(f, "value"), *failed = NULL;
	struct hp_plugin_reply r = {.answered = true, .sent = true, .status = status_of(cls)};
	struct hp_buf body;

	if (!c || !c->sent)
		return; /* given up meanwhile, or invented */
	hp_buf_init(&body, HP_PLUGIN_FRAME_MAX);
	if (cls != HP_PLUGIN_OK || !value)
		value = failed = failure_of(f, cls);
	if (failed && cls == HP_PLUGIN_OK)
		r.status = status_of(HP_PLUGIN_AMBIGUOUS);
	if (value && hp_json_write(&body, value, NULL) == 0) {
		r.body = hp_buf_bytes(&body);
		answer(c, &r);
	} else {
		answer_failed(c, false, "reply_error", "no memory left for a plugin's answer");
	}
	json_decref(failed);
	hp_buf_free(&body);
}

static void on_log(struct process *x, const json_t *f)
{
	int64_t level = hp_json_int(f, "log", HP_INFO);

	if (level < HP_DEBUG || level > HP_ERROR)
		level = HP_INFO;
	hp_plugin_output_say(&x->output, (enum hp_log_level)level, "a plugin says", hp_json_str(f, "message"));
}

static void on_frame(struct process *x, const json_t *f)
{
	const char *refused = hp_json_str(f, "refused");

	if (x->life == UP && json_object_get(f, "reply")) {
		on_reply(x, f);
	} else if (json_object_get(f, "pong")) {
		x->ping_at = 0;
	} else if (json_object_get(f, "log")) {
		on_log(x, f);
	} else if (x->life == LOADING && json_object_get(f, "hello")) {
		on_hello(x, json_object_get(f, "hello"));
	} else if (x->life == LOADING && refused) {
		because(x, "the plugin %s cannot be used: %s", x->name, refused);
		x->refused = true;
		lose(x);
	}
}

/* No more than READS at a time: one that talks in a circle must not keep the worker. */
static void read_in(struct process *x)
{
	char block[65536];
	struct hp_error err;
	json_t *f = NULL;
	int rc = 0;

	for (int i = 0; i < READS && x->fd >= 0; i++) {
		ssize_t n = recv(x->fd, block, sizeof block, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			lose(x);
			return;
		}
		rc = hp_frames_feed(&x->frames, block, (size_t)n, &err);
		while (rc == 0 && x->fd >= 0 && (rc = hp_frames_next(&x->frames, &f, &err)) == 1) {
			on_frame(x, f);
			json_decref(f);
			rc = 0;
		}
		if (rc < 0) {
			because(x, "what it sent cannot be read: %s", err.message);
			lose(x);
		}
	}
}

static void on_readable(struct ev_loop *loop, struct ev_io *io, int events)
{
	(void)loop;
	(void)events;
	read_in(io->data);
}

/* Nothing is asked of a process without work: it may sleep. */
static void on_beat(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct process *x = t->data;
	int64_t now = hp_boottime_us();

	(void)loop;
	(void)events;
	if (x->ping_at != 0 && now - x->ping_at >= x->p->o.stall_us) {
		read_in(x); /* we may have been stopped ourselves */
		if (x->fd < 0 || x->ping_at == 0)
			return;
		because(x, "it did not answer for %lld ms, so it was killed", (long long)(x->p->o.stall_us / HP_MSEC));
		lose(x);
		return;
	}
	if (hp_list_empty(&x->calls))
		ev_timer_stop(x->p->o.loop, t);
	if (x->ping_at != 0 || hp_list_empty(&x->calls))
		return;
	x->ping_at = now;
	tell(x, json_pack("{s:i}", "ping", 1));
}

/* ---- starting ---- */

/* No file: somebody has to put it there. */
static void not_started(struct process *x, const struct hp_error *err)
{
	x->started_at = hp_boottime_us();
	x->refused = err->code == HP_E_NOT_FOUND;
	because(x, "the plugin %s cannot be used: %s", x->name, err->message);
	if (x->refused) {
		refuse_all(x);
		return;
	}
	hp_log_error(HP_ERROR, "the process of a plugin cannot be started", err);
	back_off(x);
	fail_all(x, false, false, "unreachable", x->why);
}

static void start(struct process *x)
{
	struct hp_plugins *p = x->p;
	char file[4096];
	struct hp_error err;
	int theirs = -1;

	x->why[0] = 0;
	x->refused = false;
	x->refused_until = 0;
	snprintf(file, sizeof file, "%s/%s/%s.so", p->o.dir, x->name, x->name);
	if (hp_plugin_output_open(&x->output, &theirs, &err) != 0 ||
	    hp_plugin_child(p->o.exe, file, x->name, theirs, &x->pid, &x->fd, &err) != 0) {
		if (theirs >= 0)
			close(theirs);
		hp_plugin_output_close(&x->output);
		not_started(x, &err);
		return;
	}
	close(theirs);
	x->life = LOADING;
	x->started_at = hp_boottime_us();
	hp_frames_init(&x->frames);
	hp_buf_init(&x->out, OUT_MAX);
	ev_io_set(&x->readable, x->fd, EV_READ);
	ev_io_set(&x->writable, x->fd, EV_WRITE);
	ev_io_start(p->o.loop, &x->readable);
	ev_child_set(&x->exit, x->pid, 0);
	ev_child_start(p->o.loop, &x->exit);
	ev_timer_set(&x->load, (double)p->o.load_us / 1e6, 0.);
	ev_timer_start(p->o.loop, &x->load);
	count(x, "starts");
}

static void process_init(struct hp_plugins *p, struct process *x, const char *name)
{
	memset(x, 0, sizeof *x);
	x->p = p;
	x->fd = -1;
	snprintf(x->name, sizeof x->name, "%s", name);
	hp_list_init(&x->calls);
	hp_plugin_output_init(&x->output, p->o.loop, x->name);
	ev_io_init(&x->readable, on_readable, -1, EV_READ);
	ev_io_init(&x->writable, on_writable, -1, EV_WRITE);
	ev_child_init(&x->exit, on_exit_of, 0, 0);
	ev_timer_init(&x->load, on_load_time, 0., 0.);
	ev_timer_init(&x->beat, on_beat, 0., (double)p->o.stall_us / 1e6 / BEATS_PER_STALL);
	ev_timer_init(&x->again, on_again, 0., 0.);
	x->readable.data = x->writable.data = x->exit.data = x->load.data = x->beat.data = x->again.data = x;
}

static struct process *process_of(struct hp_plugins *p, const char *name, struct hp_error *err)
{
	for (int i = 0; i < p->n; i++)
		if (strcmp(p->list[i].name, name) == 0)
			return &p->list[i];
	if (p->n == HP_PLUGINS_MAX || strlen(name) > HP_NAME_MAX) {
		hp_fail(err, HP_E_LIMIT, "there are more than %d native plugins", HP_PLUGINS_MAX);
		return NULL;
	}
	process_init(p, &p->list[p->n], name);
	return &p->list[p->n++];
}

/* ---- calling ---- */

static void on_deadline(struct ev_loop *loop, struct ev_timer *t, int events)
{
	struct call *c = t->data;
	struct process *x = c->x;
	char sentence[200 + sizeof x->last];

	(void)loop;
	(void)events;
	if (c->failing) {
		answer_failed(c, true, "plugin_refused", x->why);
		return;
	}
	if (c->late) {
		snprintf(sentence, sizeof sentence, "the plugin %s was ready too late in this worker's lease", x->name);
		answer_failed(c, false, "unreachable", sentence);
		return;
	}
	if (c->sent && x->life == UP && x->fd >= 0)
		tell(x, json_pack("{s:I}", "cancel", (json_int_t)c->id));
	snprintf(sentence, sizeof sentence, c->sent ? "the plugin %s did not answer in time%s%s"
						    : "the plugin %s was not ready in time%s%s",
		 x->name, !c->sent && x->last[0] ? ". Before, " : "", c->sent ? "" : x->last);
	answer_failed(c, false, c->sent ? "timeout" : "unreachable", sentence);
}

/* But for timeout_us: what is left of it is known when the frame leaves. */
static json_t *frame_of(const struct hp_plugin_call *q, int64_t id)
{
	json_t *headers = json_object(), *v;

	for (int i = 0; i < q->n_headers; i++)
		json_object_set_new(headers, q->headers[i][0], json_string(q->headers[i][1]));
	v = json_pack("{s:I, s:s, s:s%, s:s, s:o}", "call", (json_int_t)id, "activity", q->activity, "args",
		      q->args.n ? q->args.p : "{}", q->args.n ? q->args.n : 2, "key", q->key ? q->key : "", "headers",
		      headers);
	if (v && q->endpoint)
		json_object_set_new(v, "endpoint", json_string(q->endpoint));
	return v;
}

int64_t hp_plugins_call(struct hp_plugins *p, const struct hp_plugin_call *q, hp_plugin_done done, void *arg,
			struct hp_error *err)
{
	struct process *x = process_of(p, q->plugin, err);
	struct call *c;

	if (!x)
		return -1;
	if (q->args.n > HP_PLUGIN_ARGS_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "the argument of a native plugin's call is larger than %d bytes",
			       HP_PLUGIN_ARGS_MAX);
	c = hp_calloc(1, sizeof *c);
	if (!c)
		return hp_fail(err, HP_E_NOMEM, "no memory for a plugin's call");
	c->frame = frame_of(q, ++p->last_id);
	if (!c->frame) {
		hp_free(c);
		return hp_fail(err, HP_E_NOMEM, "no memory for a plugin's call, or its text is not UTF-8");
	}
	c->x = x;
	c->until = hp_boottime_us() + q->timeout_us;
	c->id = p->last_id;
	c->done = done;
	c->arg = arg;
	c->failing = x->life == IDLE && x->refused && hp_boottime_us() < x->refused_until;
	hp_list_add_tail(&x->calls, &c->node);
	ev_now_update(p->o.loop); /* a timeout is never early */
	ev_timer_init(&c->deadline, on_deadline, c->failing ? 0. : (double)q->timeout_us / 1e6, 0.);
	c->deadline.data = c;
	ev_timer_start(p->o.loop, &c->deadline);
	if (x->life == UP && x->fd >= 0)
		send_call(c);
	else if (x->life == IDLE && !c->failing && !ev_is_active(&x->again))
		start_later(x);
	return c->id;
}

void hp_plugins_abort(struct hp_plugins *p, int64_t token)
{
	for (int i = 0; i < p->n; i++) {
		struct call *c = call_find(&p->list[i], token);

		if (c)
			call_free(c);
	}
}

/* ---- making and freeing ---- */

struct hp_plugins *hp_plugins_new(const struct hp_plugins_options *o, struct hp_error *err)
{
	struct hp_plugins *p;

	HP_ASSERT(ev_is_default_loop(o->loop));
	p = hp_calloc(1, sizeof *p);
	if (!p) {
		hp_fail(err, HP_E_NOMEM, "plugins: no memory");
		return NULL;
	}
	p->o = *o;
	p->o.load_us = o->load_us > 0 ? o->load_us : HP_PLUGIN_LOAD_TIME;
	p->o.stall_us = o->stall_us > 0 ? o->stall_us : HP_PLUGIN_STALL;
	return p;
}

static void process_free(struct process *x)
{
	struct ev_loop *loop = x->p->o.loop;
	int status;

	while (!hp_list_empty(&x->calls))
		call_free(hp_list_entry(x->calls.next, struct call, node));
	ev_timer_stop(loop, &x->load);
	ev_timer_stop(loop, &x->again);
	ev_timer_stop(loop, &x->beat);
	ev_child_stop(loop, &x->exit);
	ev_io_stop(loop, &x->readable);
	ev_io_stop(loop, &x->writable);
	if (x->pid > 0 && x->fd >= 0) {
		hp_plugin_child_end(x->pid, x->fd, &status);
	} else if (x->pid > 0) { /* killed already */
		hp_plugin_child_kill(x->pid);
		(void)waitpid(x->pid, &status, 0);
	}
	hp_plugin_output_close(&x->output);
	hp_frames_free(&x->frames);
	hp_buf_wipe(&x->out);
}

void hp_plugins_free(struct hp_plugins *p)
{
	if (!p)
		return;
	for (int i = 0; i < p->n; i++)
		process_free(&p->list[i]);
	hp_free(p);
}
