/* host.c: the process a plugin lives in.
 *
 * It takes rights away from itself before the file is loaded, because loading
 * runs the file's code. The worker takes a process that is silent for too long
 * for hung, so nothing here waits but for the worker.
 */
#include "plugin/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/json.h"
#include "base/process.h"
#include "plugin/host_private.h"
#include "plugin/load.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define HEADERS_MAX 32
#define EXIT_ENDED 0
#define EXIT_REFUSED 3
#define EXIT_BROKEN 4

struct hp_plugin_host hp_the_host;

/* ---- the socket ---- */

/* Waits until the worker has taken it all: it always reads, or it is gone. */
static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
		struct pollfd room = {.fd = fd, .events = POLLOUT};

		if (put >= 0) {
			p += put;
			n -= (size_t)put;
		} else if (errno == EAGAIN) {
			(void)poll(&room, 1, -1);
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

/* v is released. A worker that is gone is noticed when reading. */
static void say(json_t *v)
{
	struct hp_plugin_host *h = &hp_the_host;
	struct hp_buf out;

	hp_buf_init(&out, HP_PLUGIN_FRAME_MAX + 8);
	if (hp_frame_add(&out, v, NULL) == 0) {
		pthread_mutex_lock(&h->writing);
		(void)write_all(h->fd, out.p, out.n);
		pthread_mutex_unlock(&h->writing);
	}
	hp_buf_free(&out);
}

/* ---- what plugins may call ---- */

static int complete(uint64_t token, const struct hp_plugin_result *r)
{
	int first = hp_calls_complete(&hp_the_host.calls, token, r);

	if (first)
		ev_async_send(hp_the_host.loop, &hp_the_host.wake);
	return first;
}

static int live(uint64_t token)
{
	return hp_calls_live(&hp_the_host.calls, token);
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void log_line(int level, const char *message)
{
	if (!message)
		return;
	level = level < HP_PLUGIN_DEBUG || level > HP_PLUGIN_ERROR ? HP_PLUGIN_INFO : level;
	say(json_pack("{s:i, s:o}", "log", level, "message",
		      hp_plugin_text(message, HP_PLUGIN_MESSAGE_MAX, "(a message that is not UTF-8)")));
}

static const struct hp_host offered = {
	.abi = HP_PLUGIN_ABI,
	.size = sizeof offered,
	.complete = complete,
	.live = live,
	.now_us = now_us,
	.log = log_line,
	.io_start = hp_host_io_start,
	.io_stop = hp_host_io_stop,
	.timer_start = hp_host_timer_start,
	.timer_stop = hp_host_timer_stop,
	.pool_run = hp_host_pool_run,
};

/* ---- frames in ---- */

static void answer_now(uint64_t token, int cls, const char *code, const char *message)
{
	struct hp_plugin_result r = {sizeof r, cls, NULL, 0, code, message, -1};

	(void)complete(token, &r);
}

static size_t read_headers(const json_t *f, struct hp_plugin_header *out)
{
	json_t *headers = json_object_get(f, "headers"), *v;
	const char *name;
	size_t n = 0;

	json_object_foreach(headers, name, v)
		if (n < HEADERS_MAX && json_is_string(v))
			out[n++] = (struct hp_plugin_header){name, json_string_value(v)};
	return n;
}

static void on_call(struct hp_plugin_host *h, const json_t *f)
{
	const char *name = hp_json_str(f, "activity"), *args = hp_json_str(f, "args"), *key = hp_json_str(f, "key");
	const struct hp_activity *a = name ? hp_plugin_activity(h->plugin, name) : NULL;
	struct hp_plugin_header headers[HEADERS_MAX];
	struct hp_call call = {.size = sizeof call, .headers = headers, .endpoint = hp_json_str(f, "endpoint")};
	int64_t id = hp_json_int(f, "call", 0);

	if (!a) {
		say(json_pack("{s:I, s:i, s:s, s:s}", "reply", (json_int_t)id, "class", HP_PLUGIN_NEEDS_PERSON, "code",
			      "no_such_activity", "message", "the plugin has no activity of this operation's name"));
		return;
	}
	call.token = hp_calls_open(&h->calls, id, a);
	if (call.token == 0) {
		say(json_pack("{s:I, s:i, s:s, s:s}", "reply", (json_int_t)id, "class", HP_PLUGIN_RETRYABLE, "code",
			      "plugin_busy", "message", "the plugin has as many calls as it may have at once"));
		return;
	}
	call.args = args ? args : "{}";
	call.args_len = strlen(call.args);
	call.key = key ? key : "";
	call.timeout_us = hp_json_int(f, "timeout_us", 0);
	call.n_headers = read_headers(f, headers);
	if (!json_is_string(json_object_get(f, "args")))
		answer_now(call.token, HP_PLUGIN_TERMINAL, "request_invalid", "the request has no argument");
	else
		a->call(h->state, &call);
}

static void on_cancel(struct hp_plugin_host *h, int64_t id)
{
	const struct hp_activity *a = NULL;
	uint64_t token = hp_calls_give_up(&h->calls, id, &a);

	if (token != 0 && a->cancel)
		a->cancel(h->state, token);
}

static void on_frame(struct hp_plugin_host *h, const json_t *f)
{
	if (json_object_get(f, "call"))
		on_call(h, f);
	else if (json_object_get(f, "cancel"))
		on_cancel(h, hp_json_int(f, "cancel", 0));
	else if (json_object_get(f, "ping"))
		say(json_pack("{s:I}", "pong", (json_int_t)hp_json_int(f, "ping", 0)));
}

static void end(struct hp_plugin_host *h)
{
	ev_io_stop(h->loop, &h->socket);
	ev_break(h->loop, EVBREAK_ALL);
}

static void on_readable(struct ev_loop *loop, struct ev_io *io, int events)
{
	struct hp_plugin_host *h = io->data;
	char block[65536];
	ssize_t n = recv(h->fd, block, sizeof block, MSG_DONTWAIT);
	json_t *f;
	int rc;

	(void)loop;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || hp_frames_feed(&h->frames, block, (size_t)n, NULL) != 0) {
		end(h);
		return;
	}
	while ((rc = hp_frames_next(&h->frames, &f, NULL)) == 1) {
		on_frame(h, f);
		json_decref(f);
	}
	if (rc < 0)
		end(h);
}

/* Something another thread made is there. */
static void on_wake(struct ev_loop *loop, struct ev_async *w, int events)
{
	struct hp_plugin_host *h = w->data;
	json_t *v;

	(void)loop;
	(void)events;
	hp_pool_finish(&h->pool);
	while ((v = hp_calls_take(&h->calls)) != NULL)
		say(v);
}

/* ---- beginning ---- */

static void limit(int what, int64_t max)
{
	struct rlimit l = {(rlim_t)max, (rlim_t)max};

	(void)setrlimit((__rlimit_resource_t)what, &l); /* lower ones of ours stay */
}

/* A sanitizer's handlers would turn a crash into an exit with a report. */
static void crash_plainly(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		signal(signals[i], SIG_DFL);
}

static void give_up_rights(void)
{
	hp_process_close_memory();
	limit(RLIMIT_NOFILE, HP_PLUGIN_FILES_MAX);
	if (!SANITIZED) /* which reserve the whole address space */
		limit(RLIMIT_AS, HP_PLUGIN_MEMORY_MAX);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int load(struct hp_plugin_host *h, const char *file, const char *name, struct hp_error *err)
{
	char sentence[512] = "";

	h->plugin = hp_plugin_open(file, name, err);
	if (!h->plugin)
		return -1;
	if (h->plugin->init && h->plugin->init(&offered, &h->state, sentence, sizeof sentence) != 0) {
		sentence[sizeof sentence - 1] = 0;
		return hp_fail(err, HP_E_INVALID, "it refused to start: %s", sentence[0] ? sentence : "it gave no reason");
	}
	return 0;
}

static void refuse(const struct hp_error *err)
{
	char text[sizeof err->message + sizeof err->hint + 4];

	snprintf(text, sizeof text, "%s%s%s", err->message, err->hint[0] ? ". " : "", err->hint);
	say(json_pack("{s:o}", "refused",
		      hp_plugin_text(text, sizeof text, "it gives no reason")));
}

static void hello(const struct hp_plugin *p)
{
	json_t *names = json_array();

	for (size_t i = 0; p->activities[i]; i++)
		json_array_append_new(names, json_string(p->activities[i]->name));
	say(json_pack("{s:{s:s, s:o, s:o}}", "hello", "name", p->name, "version",
		      hp_plugin_text(p->version, HP_NAME_MAX, "?"), "activities", names));
}

static int prepare(struct hp_plugin_host *h, int fd)
{
	h->fd = fd;
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* what a plugin starts must not keep it open */
	h->loop = ev_loop_new(EVFLAG_AUTO);
	if (!h->loop)
		return -1;
	pthread_mutex_init(&h->writing, NULL);
	hp_frames_init(&h->frames);
	hp_calls_init(&h->calls);
	hp_pool_init(&h->pool);
	ev_io_init(&h->socket, on_readable, fd, EV_READ);
	ev_async_init(&h->wake, on_wake);
	h->socket.data = h->wake.data = h;
	ev_io_start(h->loop, &h->socket);
	ev_async_start(h->loop, &h->wake);
	return 0;
}

/* By _exit: what a plugin registered to run at exit, or has running on threads, must
 * not keep the process. */
void hp_plugin_host_run(const char *file, const char *name, int fd)
{
	struct hp_plugin_host *h = &hp_the_host;
	struct hp_error err = {0};

	if (prepare(h, fd) != 0)
		_exit(EXIT_BROKEN);
	crash_plainly();
	give_up_rights();
	if (load(h, file, name, &err) != 0) {
		refuse(&err);
		_exit(EXIT_REFUSED);
	}
	hello(h->plugin);
	ev_run(h->loop, 0);
	if (h->plugin->fini)
		h->plugin->fini(h->state);
	_exit(EXIT_ENDED);
}
