/* plugin_child.h: starting the process of a plugin. */
#ifndef HP_RUNTIME_PLUGIN_CHILD_H
#define HP_RUNTIME_PLUGIN_CHILD_H

#include <sys/types.h>
#include "base/error.h"

/* A new process with nothing of ours but one end of a socket pair; *fd is the other
 * end. It is killed when this process ends. exe: NULL: this very program. output: where
 * its standard output and error go; -1: to our standard error. */
int hp_plugin_child(const char *exe, const char *file, const char *name, int output, pid_t *pid, int *fd,
		    struct hp_error *err) HP_MUST_CHECK;
/* Kills it, and what it has started and left in its group. */
void hp_plugin_child_kill(pid_t pid);
/* Ends the talk, lets the process end by itself for a moment, then kills it.
 * *status as of waitpid(). */
void hp_plugin_child_end(pid_t pid, int fd, int *status);

#endif
