/* native.c: which of a workflow's connectors need a plugin, and what of it. */
#include <string.h>
#include "script/internal.h"

static const struct hp_conn *native_conn(const struct hp_workflow *w, int at)
{
	int i;

	for (i = 0; i < w->n_connectors; i++)
		if (w->conns[i].native && at-- == 0)
			return &w->conns[i];
	return NULL;
}

const char *hp_workflow_native(const struct hp_workflow *w, int i, const char **file)
{
	const struct hp_conn *c = native_conn(w, i);

	*file = c ? c->file : NULL;
	return c ? c->name : NULL;
}

const char *hp_workflow_native_operation(const struct hp_workflow *w, int i, int k)
{
	const struct hp_conn *c = native_conn(w, i);

	return c && k < c->n_ops ? c->ops[k].pub.name : NULL;
}
