/* list.h: lists that come in pages. */
#ifndef HP_CLI_LIST_H
#define HP_CLI_LIST_H

#include <jansson.h>
#include "cli/options.h"
#include "cli/print.h"

/* The options that cli_print_list() looks at. */
#define CLI_PAGES \
	{ "limit", "N", "how many at most in a page (default 50)" }, \
	{ "after", "N", "go on after this one, as the page before says" }, \
	{ "all", NULL, "all pages" }

struct cli_list {
	const char *member; /* of the answer: "runs"; for --database the store's door, too */
	const char *const *titles;
	int columns;
	void (*row)(struct cli_table *t, const json_t *row);
	const char *empty;
};

/* Asks for path (with its query so far) and prints; --limit, --after and --all are
 * looked at here. Returns the exit code. */
int cli_print_list(const struct cli_args *a, const struct cli_list *l, const char *path);

#endif
