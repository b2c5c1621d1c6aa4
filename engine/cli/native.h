/* native.h: can the native plugins that a workflow needs be used? */
#ifndef HP_CLI_NATIVE_H
#define HP_CLI_NATIVE_H

#include "script/script.h"

/* Loads DIR/NAME/NAME.so of each native connector, in a process of its own, and
 * reports what is wrong with it in the shape of a lint. Returns the number of fatal
 * findings. */
int cli_native_check(const struct hp_workflow *w, const char *plugins, hp_finding_fn fn, void *arg);

#endif
