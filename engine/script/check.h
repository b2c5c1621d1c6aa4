/* check.h: what check.c and check_road.c share. Private to script/. */
#ifndef HP_SCRIPT_CHECK_H
#define HP_SCRIPT_CHECK_H

#include "script/internal.h"

struct hp_checking {
	const struct hp_workflow *w;
	hp_finding_fn fn;
	void *arg;
	int fatal;
};

void hp_c_report(struct hp_checking *c, const char *lint, bool fatal, int state, int line, const char *fmt, ...)
	HP_PRINTF(6, 7);

/* check_road.c: lints that walk. Each looks at state i. */
void hp_c_unreachable(struct hp_checking *c, int i);
void hp_c_endless_loop(struct hp_checking *c, int i);
void hp_c_signature(struct hp_checking *c, int i);
void hp_c_destructive(struct hp_checking *c, int i);
bool hp_c_leads_to(struct hp_checking *c, int from, int to);

/* check_undo.c */
void hp_c_undo(struct hp_checking *c, int i);
void hp_c_undo_incomplete(struct hp_checking *c);

void hp_c_secrets(struct hp_checking *c, int i); /* check_secret.c */
void hp_c_limits(struct hp_checking *c); /* check_limits.c */

#endif
