/* direct.h: the store without an engine, for commands with --database. */
#ifndef HP_CLI_DIRECT_H
#define HP_CLI_DIRECT_H

#include <jansson.h>
#include "base/error.h"
#include "store/store.h"

struct cli_direct;

/* conninfo: as holdpoint_engine. Waits until it is connected. */
struct cli_direct *cli_direct_open(const char *conninfo, struct hp_error *err);
void cli_direct_free(struct cli_direct *d);
int cli_direct_door(struct cli_direct *d, const char *door, const json_t *args, json_t **reply,
		    struct hp_error *err) HP_MUST_CHECK;
int cli_direct_deploy(struct cli_direct *d, const struct hp_bundle *b, struct hp_error *err) HP_MUST_CHECK;

#endif
