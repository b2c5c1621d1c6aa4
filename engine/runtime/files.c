/* files.c: reading and replacing small files. */
#include "runtime/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(int fd, struct hp_buf *out)
{
	char chunk[8192];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof chunk)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		hp_buf_add(out, chunk, (size_t)n);
		if (out->failed)
			return 0;
	}
	return 0;
}

int hp_file_read(int dir_fd, const char *path, struct hp_buf *out, struct stat *what,
		 struct hp_error *err)
{
	struct stat st;
	int rc = -1;
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "cannot read %s: %s", path,
			       strerror(errno));
	if (fstat(fd, &st) != 0 || read_all(fd, out) != 0) {
		hp_fail(err, HP_E_IO, "cannot read %s: %s", path, strerror(errno));
		goto out;
	}
	if (what)
		*what = st;
	rc = hp_buf_check(out, path, err);
out:
	close(fd);
	return rc;
}

static int write_all(int fd, struct hp_bytes content)
{
	size_t done = 0;

	while (done < content.n) {
		ssize_t n = write(fd, content.p + done, content.n - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

/* The rename itself must survive a power failure. */
static int sync_directory_of(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd, rc;

	if (slash == path)
		snprintf(dir, sizeof dir, "/");
	else
		snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	rc = fsync(fd);
	close(fd);
	return rc;
}

int hp_file_replace(const char *path, struct hp_bytes content, mode_t mode, struct hp_error *err)
{
	char temporary[PATH_MAX];
	int n = snprintf(temporary, sizeof temporary, "%s.new", path);
	int fd;

	if (n < 0 || n >= (int)sizeof temporary)
		return hp_fail(err, HP_E_INVALID, "the path %s is too long", path);
	unlink(temporary); /* of a crash; its mode may be another */
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return hp_fail(err, HP_E_IO, "cannot create %s: %s", temporary, strerror(errno));
	if (write_all(fd, content) != 0 || fsync(fd) != 0) {
		hp_fail(err, HP_E_IO, "cannot write %s: %s", temporary, strerror(errno));
		close(fd);
		unlink(temporary);
		return -1;
	}
	close(fd);
	if (rename(temporary, path) != 0 || sync_directory_of(path) != 0)
		return hp_fail(err, HP_E_IO, "cannot replace %s: %s", path, strerror(errno));
	return 0;
}

int hp_directory_make(const char *path, mode_t mode, struct hp_error *err)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	struct stat st;

	if (n == 0 || n >= sizeof part)
		return hp_fail(err, HP_E_INVALID, "the path %s is empty or too long", path);
	memcpy(part, path, n + 1);
	for (size_t i = 1; i <= n; i++) {
		if (part[i] != '/' && part[i] != 0)
			continue;
		part[i] = 0;
		/* Parents are for others to walk through; the last one gets the mode. */
		if (mkdir(part, i == n ? mode : 0755) != 0 && errno != EEXIST)
			return hp_fail(err, HP_E_IO, "cannot make the directory %s: %s", part, strerror(errno));
		if (i < n)
			part[i] = '/';
	}
	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return hp_fail(err, HP_E_IO, "%s is not a directory", path);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

int hp_directory_remove(const char *path, struct hp_error *err)
{
	if (!hp_file_exists(path))
		return 0;
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
		return hp_fail(err, HP_E_IO, "cannot remove %s: %s", path, strerror(errno));
	return 0;
}

bool hp_file_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

bool hp_file_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}
