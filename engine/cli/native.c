/* native.c: a look at the native plugins a workflow needs.
 *
 * `check` and `deploy` take it, not the loader: a bundle is text, and whether this
 * machine has a plugin is no property of it.
 */
#include "cli/native.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "runtime/plugins.h"

struct look {
	const char *name, *file; /* connector and its source */
	hp_finding_fn fn;
	void *arg;
	int fatal;
};

static void report(struct look *l, const char *lint, struct hp_finding *f)
{
	f->lint = lint;
	f->file = l->file;
	f->line = 1;
	f->fatal = true;
	l->fatal++;
	l->fn(l->arg, f);
}

static bool has_activity(const json_t *hello, const char *operation)
{
	const json_t *names = json_object_get(hello, "activities");

	for (size_t i = 0; i < json_array_size(names); i++)
		if (strcmp(json_string_value(json_array_get(names, i)), operation) == 0)
			return true;
	return false;
}

static void operations(struct look *l, const struct hp_workflow *w, int at, const json_t *hello)
{
	const char *operation;

	for (int k = 0; (operation = hp_workflow_native_operation(w, at, k)) != NULL; k++) {
		struct hp_finding f = { 0 };

		if (has_activity(hello, operation))
			continue;
		(void)snprintf(f.sentence, sizeof f.sentence,
			       "operation \"%s\": the plugin %s %s has no activity of that name", operation, l->name,
			       hp_json_str(hello, "version"));
		report(l, "native_operation", &f);
	}
}

/* One look at each plugin is enough for all the files of a command. */
static int try_once(const char *file, const char *name, json_t **hello, struct hp_error *err)
{
	static struct {
		char file[PATH_MAX];
		json_t *hello;
		struct hp_error err;
	} seen[HP_PLUGINS_MAX];
	static int n;
	int i = 0, rc;

	while (i < n && strcmp(seen[i].file, file) != 0)
		i++;
	if (i == HP_PLUGINS_MAX)
		return hp_plugin_try(NULL, file, name, hello, err);
	if (i == n) {
		n++;
		(void)snprintf(seen[i].file, sizeof seen[i].file, "%s", file);
		rc = hp_plugin_try(NULL, file, name, &seen[i].hello, &seen[i].err);
		(void)rc; /* hello says it too */
	}
	*hello = json_incref(seen[i].hello);
	*err = seen[i].err;
	return *hello ? 0 : -1;
}

int cli_native_check(const struct hp_workflow *w, const char *plugins, hp_finding_fn fn, void *arg)
{
	struct look l = { .fn = fn, .arg = arg };

	for (int i = 0; (l.name = hp_workflow_native(w, i, &l.file)) != NULL; i++) {
		struct hp_finding f = { 0 };
		struct hp_error err = { 0 };
		char file[PATH_MAX];
		json_t *hello;

		if (snprintf(file, sizeof file, "%s/%s/%s.so", plugins, l.name, l.name) >= (int)sizeof file)
			continue; /* its connector.lua could not have been read either */
		if (try_once(file, l.name, &hello, &err) == 0) {
			operations(&l, w, i, hello);
			json_decref(hello);
			continue;
		}
		(void)snprintf(f.sentence, sizeof f.sentence, "the plugin %s cannot be used: %.300s%s%.100s", l.name,
			       err.message, err.hint[0] ? ". " : "", err.hint);
		report(&l, "native_plugin", &f);
	}
	return l.fatal;
}
