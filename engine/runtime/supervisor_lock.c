/* supervisor_lock.c: one supervisor per data directory.
 *
 * A flock on data/serve.lock, which ends with the process however it ends. The
 * file says who holds it: process id, address. */
#include "runtime/supervisor_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/words.h"
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

/* ---- servers of a supervisor that was killed ---- */

/* Ids are used again, so the command line decides: servers have a --parent-fd. */
static bool is_server(pid_t pid)
{
	static const char mark[] = "--parent-fd";
	char path[64];
	struct hp_buf text;
	bool found = false;

	snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
	hp_buf_init(&text, 65536);
	if (pid > 1 && hp_file_read(AT_FDCWD, path, &text, NULL, NULL) == 0 && text.n > 0)
		found = memmem(text.p, text.n, mark, sizeof mark) != NULL;
	hp_buf_free(&text);
	return found;
}

static pid_t pid_in(const char *dir, const char *name)
{
	char path[PATH_MAX + 256];
	struct hp_buf text;
	int64_t pid = 0;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	hp_buf_init(&text, 64);
	if (hp_file_read(AT_FDCWD, path, &text, NULL, NULL) == 0 && text.p) {
		text.p[strcspn(text.p, "\n")] = 0;
		if (hp_int_parse(text.p, &pid) != 0 || pid > INT_MAX)
			pid = 0;
	}
	hp_buf_free(&text);
	return (pid_t)pid;
}

/* One of them, or 0. */
static pid_t orphan(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	pid_t found = 0;

	while (d && !found && (e = readdir(d))) {
		size_t n = strlen(e->d_name);
		pid_t pid;

		if (n < 5 || strcmp(e->d_name + n - 4, ".pid") != 0)
			continue;
		pid = pid_in(dir, e->d_name);
		if (is_server(pid))
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

int hp_sup_lock_orphans(struct hp_supervisor *s, struct hp_error *err)
{
	int64_t drain = s->o->drain_us > 0 ? s->o->drain_us : 20 * HP_SECOND;
	int64_t deadline = hp_boottime_us() + drain + 10 * HP_SECOND;
	char run[PATH_MAX];
	bool told = false;
	pid_t pid;

	if (hp_place_path(&s->place, "run", run, err) != 0)
		return -1;
	while ((pid = orphan(run)) != 0) {
		struct timespec pause = {0, 50000000};

		if (s->stopping)
			return hp_fail(err, HP_E_UNAVAILABLE, "stopped while servers of an earlier start were ending");
		if (hp_boottime_us() > deadline) {
			hp_fail(err, HP_E_CONFLICT, "process %ld of an earlier start does not end", (long)pid);
			return hp_error_hint(err, "look at it, then end it with `kill -9 %ld`", (long)pid);
		}
		if (!told)
			hp_log(HP_INFO, "waiting for servers of an earlier start to end", "server_pid", HP_I64(pid), NULL);
		told = true;
		nanosleep(&pause, NULL);
		ev_run(s->loop, EVRUN_NOWAIT); /* signals */
	}
	return 0;
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
