/* place.h: where everything is, and as whom it runs.
 *
 * Resources (migrations, plugins, workflows) are looked for in this order: the
 * option, $HOLDPOINT_HOME, beside the executable, one above it (a build
 * directory), PREFIX/share/holdpoint. Data: the option, else /var/lib/holdpoint/data
 * as root, else ./.holdpoint. All paths are absolute.
 *
 * Started as root, servers run as the user holdpoint. That user may not be able to
 * read a clone below a 0700 home, so what servers read is staged in the data
 * directory, and the executable is run through a descriptor.
 */
#ifndef HP_RUNTIME_PLACE_H
#define HP_RUNTIME_PLACE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"

#define HP_SERVICE_USER "holdpoint"

struct hp_place {
	char data[PATH_MAX];
	char plugins[PATH_MAX];
	char workflows[PATH_MAX];   /* "" when not wanted */
	char migrations[PATH_MAX];
	bool privileged;            /* we are root and give that up in every server */
	uid_t uid;                  /* whom servers run as */
	gid_t gid;
	char user[64];
	int exe_fd;                 /* our executable, for fexecve */
};

struct hp_place_options {
	const char *data, *plugins, *workflows, *migrations; /* NULL: look for it */
	const char *user;                                    /* NULL: HP_SERVICE_USER */
};

/* Finds everything and makes the data directory (0700, the service user's). */
int hp_place_find(struct hp_place *p, const struct hp_place_options *o, struct hp_error *err) HP_MUST_CHECK;
void hp_place_close(struct hp_place *p);
/* One resource ("plugins") by the same search; for commands that need no more. */
int hp_place_resource(const char *option, const char *name, char out[PATH_MAX], struct hp_error *err) HP_MUST_CHECK;
/* data/NAME as text; -1 when too long. */
int hp_place_path(const struct hp_place *p, const char *name, char out[PATH_MAX], struct hp_error *err) HP_MUST_CHECK;
/* Makes data/NAME for the service user. */
int hp_place_directory(const struct hp_place *p, const char *name, mode_t mode, char out[PATH_MAX],
		       struct hp_error *err) HP_MUST_CHECK;
/* Replaces data/NAME, owned by the service user. */
int hp_place_write(const struct hp_place *p, const char *name, const char *text, mode_t mode,
		   struct hp_error *err) HP_MUST_CHECK;
/* Privileged: copies plugins and, where needed, the executable to where the service
 * user can read them, and points `plugins` and `exe_fd` there. */
int hp_place_stage(struct hp_place *p, struct hp_error *err) HP_MUST_CHECK;

#endif
