/* load.h: opening a plugin's file. For its own process only: whatever the file
 * does when it is loaded, it does to the process that called this. */
#ifndef HP_PLUGIN_LOAD_H
#define HP_PLUGIN_LOAD_H

#include "base/error.h"
#include "plugin/hp_plugin.h"

/* Opens the file and looks at its tables; the error says what is wrong and what to
 * do. Never closed again. expected: the name it must have (its folder's), NULL: any. */
const struct hp_plugin *hp_plugin_open(const char *file, const char *expected, struct hp_error *err);
/* The same look at tables that are there already. */
int hp_plugin_look(const struct hp_plugin *p, const char *expected, struct hp_error *err) HP_MUST_CHECK;
/* NULL: it has none of that name. */
const struct hp_activity *hp_plugin_activity(const struct hp_plugin *p, const char *name);

#endif
