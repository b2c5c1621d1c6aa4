/* child.h: starting a process, with everything a server must not inherit taken away. */
#ifndef HP_RUNTIME_CHILD_H
#define HP_RUNTIME_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"
#include "runtime/place.h"

#define HP_CHILD_FDS_MAX 4

struct hp_child_spec {
	const char *const *argv; /* NULL at the end */
	const char *path;        /* executable; NULL: our own, through place->exe_fd */
	int fds[HP_CHILD_FDS_MAX]; /* stay open under their numbers */
	int n_fds;
	bool dies_with_us;       /* SIGTERM when this process ends in any way */
	bool armed;              /* HP_CRASH is passed on (tests) */
	const char *output;      /* file for standard output and error (appended); NULL: ours */
	const char *directory;   /* working directory; NULL: "/" */
};

/* Runs as the service user, in a session of its own (a Ctrl-C at the terminal
 * reaches the supervisor alone), with umask 077. */
int hp_child_start(const struct hp_place *p, const struct hp_child_spec *spec, pid_t *pid,
		   struct hp_error *err) HP_MUST_CHECK;
/* The same, and waits for its end. *status as of waitpid(). */
int hp_child_run(const struct hp_place *p, const struct hp_child_spec *spec, int *status,
		 struct hp_error *err) HP_MUST_CHECK;
/* "exited with code 3", "was killed by signal 9" */
void hp_child_ending(int status, char *out, size_t n);

#endif
