/* zone.h: the system's time zones (TZif files) as core's plain data.
 *
 * Read by ourselves and not through the C library: its localtime() knows one zone
 * per process. A zone is read anew each time it is asked for, so an update of the
 * system's data holds from the next tick on, without a restart.
 */
#ifndef HP_SCRIPT_ZONE_H
#define HP_SCRIPT_ZONE_H

#include "base/arena.h"
#include "base/buf.h"
#include "core/zone.h"

/* "Europe/Berlin" → *z, whose arrays live in the arena; "UTC" needs no file.
 * HP_E_NOT_FOUND with the nearest name in the message. */
int hp_zone_load(const char *name, struct hp_arena *a, struct hp_zone *z, struct hp_error *err) HP_MUST_CHECK;
/* The same from a file's bytes; `name` is for the message. */
int hp_zone_parse(struct hp_bytes file, const char *name, struct hp_arena *a, struct hp_zone *z,
		  struct hp_error *err) HP_MUST_CHECK;

#endif
