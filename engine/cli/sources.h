/* sources.h: workflow files named on the command line. */
#ifndef HP_CLI_SOURCES_H
#define HP_CLI_SOURCES_H

#include "base/error.h"
#include "script/script.h"

#define CLI_SOURCES_MAX 500

struct cli_sources {
	char *path[CLI_SOURCES_MAX];
	int n;
};

/* Files as they are; of a directory (not below it) every *.lua except *_test.lua
 * and policy.lua. Sorted within a directory. */
int cli_sources_find(struct cli_sources *s, const char *const *paths, int n, struct hp_error *err) HP_MUST_CHECK;
/* The same for tests: of a directory every *_test.lua. */
int cli_sources_find_tests(struct cli_sources *s, const char *const *paths, int n, struct hp_error *err) HP_MUST_CHECK;
void cli_sources_free(struct cli_sources *s);

/* Reads, bundles and loads one. bundle: initialised by the caller. */
struct hp_workflow *cli_source_load(const char *path, const char *plugins, struct hp_buf *bundle,
				    struct hp_error *err);

#endif
