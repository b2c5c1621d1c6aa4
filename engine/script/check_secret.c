/* check_secret.c: a secret in a reply is saved as one, or not at all. */
#include <string.h>

#include "script/check.h"

static bool covered(const struct hp_extra *x, const char *path)
{
	for (int i = 0; i < x->n_secrets; i++)
		if (!x->secrets[i].path || strcmp(x->secrets[i].path, path) == 0)
			return true;
	return false;
}

/* What a check answers is saved as it is. */
static void in_checks(struct hp_checking *c, int i, const struct hp_state *s)
{
	for (int k = 0; k < s->n_arms; k++) {
		const struct hp_op *op = c->w->extra[i].checks[k];

		if (op && s->arms[k].save && op->n_secret_paths > 0)
			hp_c_report(c, "secret_in_clear", true, i, s->line,
				    "a check saves replies of %s.%s, which have a secret in \"%s\"; ask for it in a call",
				    op->pub.connector, op->pub.name, op->secret_paths[0]);
	}
}

void hp_c_secrets(struct hp_checking *c, int i)
{
	const struct hp_state *s = &c->w->def.states[i];
	const struct hp_extra *x = &c->w->extra[i];

	in_checks(c, i, s);
	if (s->kind == HP_SWEEP && x->op && x->op->n_secret_paths > 0)
		hp_c_report(c, "secret_in_clear", true, i, s->line,
			    "replies of %s.%s have a secret in \"%s\", and a sweep hands replies to its statement; make it in a call",
			    x->op->pub.connector, x->op->pub.name, x->op->secret_paths[0]);
	if (s->kind != HP_CALL)
		return;
	for (int k = 0; k < x->op->n_secret_paths; k++) {
		const char *path = x->op->secret_paths[k];

		if (s->save && !covered(x, path))
			hp_c_report(c, "secret_in_clear", true, i, s->line,
				    "replies of %s.%s have a secret in \"%s\", and it would be saved in clear; write save = secret { "
				    "NAME = \"%s\", as = \"%s\" }",
				    x->op->pub.connector, x->op->pub.name, path, path, s->save);
		else if (!s->save)
			hp_c_report(c, "secret_lost", false, i, s->line,
				    "replies of %s.%s have a secret in \"%s\", and nothing saves it; write save = secret { NAME = \"%s\" }",
				    x->op->pub.connector, x->op->pub.name, path, path);
	}
}
