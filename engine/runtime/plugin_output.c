/* plugin_output.c: what a plugin says and prints.
 *
 * A plugin that prints in a circle must cost no more than one that is silent: a
 * bounded read per turn of the loop, a bounded number of lines per second.
 */
#include "runtime/plugin_output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"

#define LINES_PER_SECOND 20
#define LAST_READS 16 /* a pipe holds 64 KiB; somebody else may still write to it */

void hp_plugin_output_init(struct hp_plugin_output *o, struct ev_loop *loop, const char *plugin)
{
	memset(o, 0, sizeof *o);
	o->loop = loop;
	o->plugin = plugin;
	o->fd = -1;
}

static void tell_dropped(struct hp_plugin_output *o)
{
	if (o->dropped > 0)
		hp_log(HP_WARN, "lines of a plugin were dropped", "plugin", HP_STR(o->plugin), "lines", HP_I64(o->dropped), NULL);
	o->dropped = o->said = 0;
}

void hp_plugin_output_say(struct hp_plugin_output *o, enum hp_log_level level, const char *message, const char *text)
{
	int64_t second = hp_boottime_us() / HP_SECOND;

	if (second != o->second)
		tell_dropped(o);
	o->second = second;
	if (o->said == LINES_PER_SECOND) {
		o->dropped++;
		return;
	}
	o->said++;
	hp_log(level, message, "plugin", HP_STR(o->plugin), "text", HP_STR(text), NULL);
}

static void end_line(struct hp_plugin_output *o)
{
	o->line[o->n] = 0;
	if (o->n > 0)
		hp_plugin_output_say(o, HP_INFO, "a plugin prints", o->line);
	o->n = 0;
}

static void add(struct hp_plugin_output *o, char c)
{
	if (c == '\n' || o->n == sizeof o->line - 1)
		end_line(o);
	if (c != '\n' && c != 0)
		o->line[o->n++] = c;
}

/* -1: nothing more is there, or ever will be. */
static int read_some(struct hp_plugin_output *o)
{
	char block[4096];
	ssize_t n = read(o->fd, block, sizeof block);

	if (n < 0 && errno == EINTR)
		return 0;
	for (ssize_t i = 0; i < n; i++)
		add(o, block[i]);
	if (n == 0) /* it closed its output and goes on */
		ev_io_stop(o->loop, &o->io);
	return n > 0 ? 0 : -1;
}

static void on_readable(struct ev_loop *loop, struct ev_io *io, int events)
{
	(void)loop;
	(void)events;
	(void)read_some(io->data);
}

int hp_plugin_output_open(struct hp_plugin_output *o, int *theirs, struct hp_error *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return hp_fail(err, HP_E_IO, "pipe: %s", strerror(errno));
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
		close(ends[0]);
		close(ends[1]);
		return hp_fail(err, HP_E_IO, "fcntl: %s", strerror(errno));
	}
	*theirs = ends[1];
	o->fd = ends[0];
	o->n = 0;
	ev_io_init(&o->io, on_readable, o->fd, EV_READ);
	o->io.data = o;
	ev_io_start(o->loop, &o->io);
	return 0;
}

void hp_plugin_output_close(struct hp_plugin_output *o)
{
	if (o->fd < 0)
		return;
	for (int i = 0; i < LAST_READS && read_some(o) == 0; i++)
		;
	end_line(o);
	tell_dropped(o);
	ev_io_stop(o->loop, &o->io);
	close(o->fd);
	o->fd = -1;
}
