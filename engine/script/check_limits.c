/* check_limits.c: limits that cannot mean what their author thinks. */
#include <string.h>
#include "script/check.h"

/* The first name of every path in a limit's key must be declared in the input: a misspelt
 * one is empty for every run, and then all of them share one limit. */
static void key_of_input(struct hp_checking *c, const char *field, const char *text)
{
	const struct hp_type *t = c->w->input;
	struct hp_part part;
	const char *why;

	while (text && t && t->kind == HP_T_OBJECT && hp_template_next(&text, &part, &why) == 1) {
		const char *name = part.p + strlen("input.");
		size_t n;
		int i;

		if (!part.path)
			continue;
		n = part.n - strlen("input.");
		if (memchr(name, '.', n))
			n = (size_t)((const char *)memchr(name, '.', n) - name);
		for (i = 0; i < t->n; i++)
			if (strlen(t->names[i]) == n && memcmp(t->names[i], name, n) == 0)
				break;
		if (i == t->n)
			hp_c_report(c, "limit_not_in_input", true, HP_NO_STATE, c->w->line,
				    "%s: the declared input has no \"%.*s\", so all runs would share one limit", field, (int)n,
				    name);
	}
}

void hp_c_limits(struct hp_checking *c)
{
	const struct hp_start_limits *l = &c->w->limits;

	key_of_input(c, "exclusive", l->exclusive);
	key_of_input(c, "concurrency", l->slots_per);
	key_of_input(c, "rate", l->rate_per);
	key_of_input(c, "fair", l->fair);
	key_of_input(c, "priority", l->priority_text);
}
