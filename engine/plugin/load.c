/* load.c: opening a plugin's file, and looking at its tables before using them. */
#include "plugin/load.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include "base/limits.h"

/* The tables as ABI 1 has them: later ones only grow. */
#define PLUGIN_SIZE_MIN (offsetof(struct hp_plugin, fini) + sizeof(void (*)(void)))
#define ACTIVITY_SIZE_MIN (offsetof(struct hp_activity, cancel) + sizeof(void (*)(void)))
#define SIZE_MAX_SANE 4096 /* beyond it the number is no size */

#define REBUILD "Build it again against this engine's hp_plugin.h."

static bool name_ok(const char *s)
{
	size_t n = s ? strnlen(s, HP_NAME_MAX + 1) : 0;

	return n > 0 && n <= HP_NAME_MAX && s[0] != '.' && s[n - 1] != '.' && !strstr(s, "..") &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.") == n;
}

static int look_at_activity(const struct hp_plugin *p, size_t i, struct hp_error *err)
{
	const struct hp_activity *a = p->activities[i];

	if (a->size < ACTIVITY_SIZE_MIN || a->size > SIZE_MAX_SANE) {
		hp_fail(err, HP_E_INVALID, "the table of its activity %zu has %zu bytes; ABI %d has at least %zu", i + 1,
			a->size, HP_PLUGIN_ABI, ACTIVITY_SIZE_MIN);
		return hp_error_hint(err, "Set size = sizeof(struct hp_activity).");
	}
	if (!name_ok(a->name))
		return hp_fail(err, HP_E_INVALID, "the name of its activity %zu is not lower-case words joined by dots", i + 1);
	if (!a->call)
		return hp_fail(err, HP_E_INVALID, "its activity \"%s\" has no call function", a->name);
	for (size_t k = 0; k < i; k++)
		if (strcmp(p->activities[k]->name, a->name) == 0)
			return hp_fail(err, HP_E_INVALID, "it has two activities \"%s\"", a->name);
	return 0;
}

int hp_plugin_look(const struct hp_plugin *p, const char *expected, struct hp_error *err)
{
	if (!p)
		return hp_fail(err, HP_E_INVALID, "its hp_plugin_v1() returned NULL");
	if (p->abi != HP_PLUGIN_ABI) {
		hp_fail(err, HP_E_INVALID, "it was built for plugin ABI %u; this engine speaks ABI %d", (unsigned)p->abi,
			HP_PLUGIN_ABI);
		return hp_error_hint(err, REBUILD);
	}
	if (p->size < PLUGIN_SIZE_MIN || p->size > SIZE_MAX_SANE) {
		hp_fail(err, HP_E_INVALID, "its table has %u bytes; ABI %d has at least %zu", (unsigned)p->size, HP_PLUGIN_ABI,
			PLUGIN_SIZE_MIN);
		return hp_error_hint(err, "Set size = sizeof(struct hp_plugin). " REBUILD);
	}
	if (!name_ok(p->name))
		return hp_fail(err, HP_E_INVALID, "its name is not lower-case letters, digits and underscores");
	if (expected && strcmp(p->name, expected) != 0)
		return hp_fail(err, HP_E_INVALID, "it calls itself \"%s\", and lies in the folder of \"%s\"", p->name, expected);
	if (!p->version || !*p->version || strnlen(p->version, HP_NAME_MAX + 1) > HP_NAME_MAX)
		return hp_fail(err, HP_E_INVALID, "its version is missing or longer than %d bytes", HP_NAME_MAX);
	if (!p->activities || !p->activities[0])
		return hp_fail(err, HP_E_INVALID, "it has no activities");
	for (size_t i = 0; p->activities[i]; i++) {
		if (i == HP_PLUGIN_ACTIVITIES_MAX)
			return hp_fail(err, HP_E_INVALID, "it has more than %d activities, or their list does not end with NULL",
				       HP_PLUGIN_ACTIVITIES_MAX);
		if (look_at_activity(p, i, err) != 0)
			return -1;
	}
	return 0;
}

const struct hp_plugin *hp_plugin_open(const char *file, const char *expected, struct hp_error *err)
{
	const struct hp_plugin *(*entry)(void) = NULL;
	const struct hp_plugin *p;
	void *so, *symbol;

	so = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		hp_fail(err, HP_E_INVALID, "it cannot be loaded: %s", dlerror());
		return NULL;
	}
	symbol = dlsym(so, "hp_plugin_v1");
	if (!symbol) {
		hp_fail(err, HP_E_INVALID, "it does not export hp_plugin_v1");
		hp_error_hint(err, "Is it a Holdpoint plugin? Mark the function HP_PLUGIN_EXPORT (see hp_plugin.h).");
		return NULL;
	}
	memcpy(&entry, &symbol, sizeof entry); /* POSIX allows it, ISO C has no cast for it */
	p = entry();
	return hp_plugin_look(p, expected, err) == 0 ? p : NULL;
}

const struct hp_activity *hp_plugin_activity(const struct hp_plugin *p, const char *name)
{
	for (size_t i = 0; p->activities[i]; i++)
		if (strcmp(p->activities[i]->name, name) == 0)
			return p->activities[i];
	return NULL;
}
