/* process.c: what every long-running command does. */
#include "cli/process.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/words.h"

int cli_process_log(const struct cli_args *a, const char *process, struct hp_error *err)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	const char *level = cli_value(a, "log");

	if (!level)
		level = getenv("HOLDPOINT_LOG");
	if (!level || !*level)
		level = "info";
	for (int i = 0; i < 4; i++) {
		if (strcmp(level, names[i]) == 0) {
			hp_log_init(process, (enum hp_log_level)i);
			return 0;
		}
	}
	hp_fail(err, HP_E_INVALID, "\"%s\" is not a log level", level);
	return hp_error_hint(err, "Levels are debug, info, warn and error.");
}

int cli_whole(const struct cli_args *a, const char *name, int64_t min, int64_t max, int64_t fallback,
	      int64_t *out, struct hp_error *err)
{
	const char *text = cli_value(a, name);

	*out = fallback;
	if (!text)
		return 0;
	if (hp_int_parse(text, out) != 0 || *out < min || *out > max)
		return hp_fail(err, HP_E_INVALID, "--%s takes a whole number from %lld to %lld, not \"%s\"", name,
			       (long long)min, (long long)max, text);
	return 0;
}

int cli_duration(const struct cli_args *a, const char *name, int64_t *us, struct hp_error *err)
{
	const char *text = cli_value(a, name);

	*us = 0;
	if (!text)
		return 0;
	return hp_duration_parse(text, us, err) == 0 ? 0 : hp_error_prefix(err, "--%s", name);
}

static void end(struct cli_ending *e)
{
	if (++e->times > 1)
		_exit(1); /* what is in hand is taken over by others, as after a crash */
	e->end(e->arg);
}

static void on_signal(struct ev_loop *loop, struct ev_signal *w, int events)
{
	(void)loop;
	(void)events;
	end(w->data);
}

/* Nobody ever writes into that pipe: it can only end. */
static void on_parent(struct ev_loop *loop, struct ev_io *w, int events)
{
	struct cli_ending *e = w->data;
	char byte;

	(void)events;
	if (read(w->fd, &byte, 1) > 0)
		return;
	ev_io_stop(loop, w);
	hp_log(HP_WARN, "the supervisor is gone", NULL);
	if (e->times == 0)
		end(e);
}

void cli_ending_watch(struct cli_ending *e, struct ev_loop *loop, int64_t parent_fd, void (*fn)(void *arg),
		      void *arg)
{
	static const int numbers[2] = {SIGTERM, SIGINT};

	memset(e, 0, sizeof *e);
	e->loop = loop;
	e->end = fn;
	e->arg = arg;
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 2; i++) {
		ev_signal_init(&e->signals[i], on_signal, numbers[i]);
		e->signals[i].data = e;
		ev_signal_start(loop, &e->signals[i]);
	}
	ev_io_init(&e->parent, on_parent, (int)parent_fd, EV_READ);
	e->parent.data = e;
	if (parent_fd >= 0)
		ev_io_start(loop, &e->parent);
}

void cli_ending_stop(struct cli_ending *e)
{
	ev_io_stop(e->loop, &e->parent);
	for (int i = 0; i < 2; i++)
		ev_signal_stop(e->loop, &e->signals[i]);
}
