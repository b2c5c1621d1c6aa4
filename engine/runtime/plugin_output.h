/* plugin_output.h: what a plugin says and prints, as lines of our log: no more of it
 * in a second than a log can bear. */
#ifndef HP_RUNTIME_PLUGIN_OUTPUT_H
#define HP_RUNTIME_PLUGIN_OUTPUT_H

#include <ev.h>
#include <stdint.h>
#include "base/error.h"
#include "base/log.h"

struct hp_plugin_output {
	struct ev_loop *loop;
	const char *plugin;     /* borrowed */
	struct ev_io io;
	int fd;                 /* our end of its standard output and error; -1: closed */
	char line[1000];        /* what has come of the next line */
	size_t n;
	int64_t second;         /* in which these were counted: */
	int said, dropped;
};

void hp_plugin_output_init(struct hp_plugin_output *o, struct ev_loop *loop, const char *plugin);
/* *theirs: for the new process; close it once that has it. */
int hp_plugin_output_open(struct hp_plugin_output *o, int *theirs, struct hp_error *err) HP_MUST_CHECK;
/* After the process has ended: what it printed last counts too. */
void hp_plugin_output_close(struct hp_plugin_output *o);
void hp_plugin_output_say(struct hp_plugin_output *o, enum hp_log_level level, const char *message, const char *text);

#endif
