/* supervisor_lock.c: one supervisor per data directory.
 *
 * A flock on data/serve.lock, which ends with the process however it ends. The
 * file says who holds it: process id, address. */
#include "runtime/supervisor_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "runtime/files.h"

static int taken(const char *path, const char *data, struct hp_error *err)
{
	struct hp_buf text;
	char *pid, *address, *end;

	hp_buf_init(&text, 1024);
	if (hp_file_read(AT_FDCWD, path, &text, NULL, NULL) != 0 || !text.p) {
		hp_buf_free(&text);
		return hp_fail(err, HP_E_CONFLICT, "Holdpoint is starting or running already with the data in %s", data);
	}
	pid = text.p;
	address = pid + strcspn(pid, "\n");
	if (*address)
		*address++ = 0;
	end = address + strcspn(address, "\n");
	*end = 0;
	hp_fail(err, HP_E_CONFLICT, "Holdpoint is running already: process %s%s%s, with the data in %s", pid,
		*address ? ", answering at " : "", address, data);
	hp_error_hint(err, "use it, end it with `kill %s`, or name another directory with --data", pid);
	hp_buf_free(&text);
	return -1;
}

int hp_sup_lock(struct hp_supervisor *s, struct hp_error *err)
{
	char path[PATH_MAX];

	if (hp_place_path(&s->place, "serve.lock", path, err) != 0)
		return -1;
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (s->lock_fd < 0)
		return hp_fail(err, HP_E_IO, "cannot open %s: %s", path, strerror(errno));
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0) {
		s->address[0] = 0;
		return hp_sup_lock_tell(s, err);
	}
	if (errno != EWOULDBLOCK)
		return hp_fail(err, HP_E_IO, "cannot lock %s: %s", path, strerror(errno));
	return taken(path, s->place.data, err);
}

/* Written in place: replacing the file would replace what is locked. */
int hp_sup_lock_tell(struct hp_supervisor *s, struct hp_error *err)
{
	char text[256];
	int n = snprintf(text, sizeof text, "%ld\n%s\n", (long)getpid(), s->address);

	if (ftruncate(s->lock_fd, 0) != 0 || pwrite(s->lock_fd, text, (size_t)n, 0) != n)
		return hp_fail(err, HP_E_IO, "cannot write the lock file: %s", strerror(errno));
	return 0;
}
