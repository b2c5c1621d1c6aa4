/* process.h: what every long-running command does: its log, its options' values,
 * and its end by a signal or with its supervisor. */
#ifndef HP_CLI_PROCESS_H
#define HP_CLI_PROCESS_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>
#include "cli/options.h"

/* --log LEVEL, else $HOLDPOINT_LOG, else info. */
int cli_process_log(const struct cli_args *a, const char *process, struct hp_error *err) HP_MUST_CHECK;
/* --name N: a whole number from min to max; absent: the fallback. */
int cli_whole(const struct cli_args *a, const char *name, int64_t min, int64_t max, int64_t fallback,
	      int64_t *out, struct hp_error *err) HP_MUST_CHECK;
/* --name 10s; absent: 0. */
int cli_duration(const struct cli_args *a, const char *name, int64_t *us, struct hp_error *err) HP_MUST_CHECK;

/* SIGTERM, SIGINT and the end of --parent-fd: the first calls `end`, the second ends
 * the process. */
struct cli_ending {
	struct ev_loop *loop;
	void (*end)(void *arg);
	void *arg;
	int times;
	struct ev_signal signals[2];
	struct ev_io parent;
};
void cli_ending_watch(struct cli_ending *e, struct ev_loop *loop, int64_t parent_fd, void (*end)(void *arg),
		      void *arg);
void cli_ending_stop(struct cli_ending *e);

#endif
