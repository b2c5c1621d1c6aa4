/* siblings.h: the workflows beside a file: NAME.lua in the same directory is workflow
 * "NAME", for lints that look across `run` and `each`. */
#ifndef HP_CLI_SIBLINGS_H
#define HP_CLI_SIBLINGS_H

#include <limits.h>
#include "script/script.h"

#define CLI_SIBLINGS_MAX 64

struct cli_siblings {
	const char *plugins;
	const char *path; /* of the file whose siblings are asked for */
	struct {
		char path[PATH_MAX];
		struct hp_workflow *w; /* NULL: there is none, or it cannot be loaded */
	} known[CLI_SIBLINGS_MAX];
	int n;
};

/* hp_workflow_find_fn; arg is the struct. Each is loaded once. */
const struct hp_workflow *cli_sibling(void *arg, const char *name);
void cli_siblings_free(struct cli_siblings *s);

#endif
