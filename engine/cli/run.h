/* run.h: what the commands about one run share. */
#ifndef HP_CLI_RUN_H
#define HP_CLI_RUN_H

#include <jansson.h>
#include <stdint.h>
#include "cli/client.h"

/* Returns -1 with err, or the exit code. */
typedef int (*cli_run_fn)(const struct cli_args *a, struct cli_client *c, int64_t run, struct hp_error *err);
/* A whole command whose first argument is a run's number. */
int cli_with_run(const struct cli_spec *spec, int argc, char **argv, cli_run_fn fn);

/* GET /api/v1/runs/RUN + tail. */
int cli_get_run(struct cli_client *c, int64_t run, const char *tail, json_t **reply,
		struct hp_error *err) HP_MUST_CHECK;
/* All steps after rev `after` (-1: all), appended to rows. */
int cli_get_history(struct cli_client *c, int64_t run, int64_t after, json_t *rows,
		    struct hp_error *err) HP_MUST_CHECK;

/* show_sweeps.c: the member `sweeps` of GET /api/v1/runs/RUN; nothing when there is none. */
void cli_show_sweeps(const json_t *sweeps);

#endif
