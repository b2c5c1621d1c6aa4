/* check.h: what the files of check share: check.c asks, the others look. Private to script/. */
#ifndef HP_SCRIPT_CHECK_H
#define HP_SCRIPT_CHECK_H

#include "script/internal.h"

struct hp_checking {
	const struct hp_workflow *w;
	hp_finding_fn fn;
	void *arg;
	int fatal;
	hp_workflow_find_fn find; /* NULL: children are not looked at */
	void *find_arg;
};

void hp_c_report(struct hp_checking *c, const char *lint, bool fatal, int state, int line, const char *fmt, ...)
	HP_PRINTF(6, 7);

/* check_road.c: lints that walk. Each looks at state i. */
void hp_c_unreachable(struct hp_checking *c, int i);
void hp_c_endless_loop(struct hp_checking *c, int i);
void hp_c_signature(struct hp_checking *c, int i);
void hp_c_destructive(struct hp_checking *c, int i);
/* How freely state i is reached from the start: 2 without any approval, 1 when the
 * condition of one is false, 0 only once somebody has approved. names: a road there. */
int hp_c_freely(const struct hp_definition *d, int i, char *names, size_t n);

/* Which states can be reached from one; itself, too. */
void hp_c_reached(struct hp_checking *c, int from, bool reached[HP_STATES_MAX]);

/* check_child.c: lints across workflows */
void hp_c_child(struct hp_checking *c, int i);

/* check_undo.c */
void hp_c_undo(struct hp_checking *c, int i);
void hp_c_undo_incomplete(struct hp_checking *c);

void hp_c_secrets(struct hp_checking *c, int i); /* check_secret.c */
void hp_c_limits(struct hp_checking *c); /* check_limits.c */

#endif
