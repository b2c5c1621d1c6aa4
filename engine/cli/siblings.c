/* siblings.c: loading the workflows beside a file when a lint asks for them. */
#include "cli/siblings.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "cli/sources.h"

static struct hp_workflow *load(const struct cli_siblings *s, const char *path, const char *name)
{
	struct hp_error err = { 0 };
	struct hp_workflow *w;
	struct hp_buf bundle;

	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	w = cli_source_load(path, s->plugins, &bundle, &err);
	hp_buf_free(&bundle);
	if (w && strcmp(hp_workflow_definition(w)->workflow, name) == 0)
		return w;
	hp_workflow_free(w); /* it is called otherwise: not the one that is asked for */
	return NULL;
}

const struct hp_workflow *cli_sibling(void *arg, const char *name)
{
	struct cli_siblings *s = arg;
	const char *slash = strrchr(s->path, '/');
	char path[PATH_MAX];
	int at;

	at = snprintf(path, sizeof path, "%.*s%s.lua", slash ? (int)(slash - s->path) + 1 : 0, s->path, name);
	if (at < 0 || (size_t)at >= sizeof path)
		return NULL;
	for (int i = 0; i < s->n; i++)
		if (strcmp(s->known[i].path, path) == 0)
			return s->known[i].w;
	if (s->n == CLI_SIBLINGS_MAX)
		return NULL;
	memcpy(s->known[s->n].path, path, (size_t)at + 1);
	s->known[s->n].w = load(s, path, name);
	return s->known[s->n++].w;
}

void cli_siblings_free(struct cli_siblings *s)
{
	for (int i = 0; i < s->n; i++)
		hp_workflow_free(s->known[i].w);
	s->n = 0;
}
