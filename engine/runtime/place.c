/* place.c: where everything is, and as whom it runs. */
#include "runtime/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "runtime/files.h"

#define COPY_FILE_MAX ((size_t)64 * 1024 * 1024)
#define COPY_DEPTH_MAX 8

static int join(char out[PATH_MAX], const char *dir, const char *name, struct hp_error *err)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);

	return n < 0 || n >= PATH_MAX ? hp_fail(err, HP_E_INVALID, "the path %s/%s is too long", dir, name) : 0;
}

static int absolute(const char *path, char out[PATH_MAX], struct hp_error *err)
{
	if (!realpath(path, out))
		return hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "%s: %s", path,
			       strerror(errno));
	return 0;
}

/* Directory of the executable, `up` levels higher. */
static int beside_executable(int up, char out[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);

	if (n <= 0)
		return -1;
	out[n] = 0;
	for (; up >= 0; up--) {
		char *slash = strrchr(out, '/');

		if (!slash)
			return -1;
		*slash = 0;
	}
	return *out ? 0 : -1;
}

static bool try(const char *dir, const char *name, char out[PATH_MAX])
{
	char path[PATH_MAX];

	return dir && *dir && join(path, dir, name, NULL) == 0 && absolute(path, out, NULL) == 0;
}

int hp_place_resource(const char *option, const char *name, char out[PATH_MAX], struct hp_error *err)
{
	char dir[PATH_MAX];

	if (option)
		return absolute(option, out, err);
	if (try(getenv("HOLDPOINT_HOME"), name, out))
		return 0;
	for (int up = 0; up < 2; up++)
		if (beside_executable(up, dir) == 0 && try(dir, name, out))
			return 0;
	if (try(HP_SHARE_DIR, name, out))
		return 0;
	hp_fail(err, HP_E_NOT_FOUND, "the directory \"%s\" is neither beside the program nor in %s", name,
		HP_SHARE_DIR);
	return hp_error_hint(err, "name it with --%s DIR, or set HOLDPOINT_HOME", name);
}

static int find_user(struct hp_place *p, const char *name, struct hp_error *err)
{
	const struct passwd *pw;

	p->uid = geteuid();
	p->gid = getegid();
	p->privileged = p->uid == 0;
	if (!p->privileged) {
		pw = getpwuid(p->uid);
		snprintf(p->user, sizeof p->user, "%s", pw ? pw->pw_name : "");
		return 0;
	}
	pw = getpwnam(name);
	if (!pw || pw->pw_uid == 0) {
		hp_fail(err, HP_E_NOT_FOUND, "started as root, servers run as the user \"%s\", who does not exist", name);
		return hp_error_hint(err, "make it with `useradd --system --user-group --no-create-home %s`", name);
	}
	p->uid = pw->pw_uid;
	p->gid = pw->pw_gid;
	snprintf(p->user, sizeof p->user, "%s", pw->pw_name);
	return 0;
}

static int own(const struct hp_place *p, const char *path, struct hp_error *err)
{
	if (p->privileged && lchown(path, p->uid, p->gid) != 0)
		return hp_fail(err, HP_E_IO, "cannot give %s to the user %s: %s", path, p->user, strerror(errno));
	return 0;
}

static int make_data(struct hp_place *p, const char *option, struct hp_error *err)
{
	const char *dir = option ? option : p->privileged ? "/var/lib/holdpoint/data" : ".holdpoint";

	if (hp_directory_make(dir, 0700, err) != 0 || absolute(dir, p->data, err) != 0)
		return -1;
	return own(p, p->data, err);
}

int hp_place_find(struct hp_place *p, const struct hp_place_options *o, struct hp_error *err)
{
	memset(p, 0, sizeof *p);
	p->exe_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (p->exe_fd < 0)
		return hp_fail(err, HP_E_IO, "cannot open our own executable: %s", strerror(errno));
	if (find_user(p, o->user ? o->user : HP_SERVICE_USER, err) != 0 ||
	    hp_place_resource(o->plugins, "plugins", p->plugins, err) != 0 ||
	    hp_place_resource(o->workflows, "workflows", p->workflows, err) != 0 ||
	    hp_place_resource(o->migrations, "migrations", p->migrations, err) != 0)
		return -1;
	return make_data(p, o->data, err);
}

void hp_place_close(struct hp_place *p)
{
	if (p->exe_fd >= 0)
		close(p->exe_fd);
	p->exe_fd = -1;
}

int hp_place_path(const struct hp_place *p, const char *name, char out[PATH_MAX], struct hp_error *err)
{
	return join(out, p->data, name, err);
}

int hp_place_directory(const struct hp_place *p, const char *name, mode_t mode, char out[PATH_MAX],
		       struct hp_error *err)
{
	if (hp_place_path(p, name, out, err) != 0 || hp_directory_make(out, mode, err) != 0)
		return -1;
	return own(p, out, err);
}

int hp_place_write(const struct hp_place *p, const char *name, const char *text, mode_t mode,
		   struct hp_error *err)
{
	char path[PATH_MAX];

	if (hp_place_path(p, name, path, err) != 0 ||
	    hp_file_replace(path, hp_bytes_of(text), mode, err) != 0)
		return -1;
	return own(p, path, err);
}

/* ---- staging ---- */

static int copy_file(const struct hp_place *p, const char *from, const char *to, mode_t mode,
		     struct hp_error *err)
{
	struct hp_buf content;
	int rc = -1;

	hp_buf_init(&content, COPY_FILE_MAX);
	if (hp_file_read(AT_FDCWD, from, &content, NULL, err) == 0 &&
	    hp_file_replace(to, hp_buf_bytes(&content), mode, err) == 0)
		rc = own(p, to, err);
	hp_buf_free(&content);
	return rc;
}

static int copy_tree(const struct hp_place *p, const char *from, const char *to, int depth,
		     struct hp_error *err);

static int copy_entry(const struct hp_place *p, const char *from, const char *to, const char *name,
		      int depth, struct hp_error *err)
{
	char source[PATH_MAX], target[PATH_MAX];
	struct stat st;

	if (name[0] == '.')
		return 0;
	if (join(source, from, name, err) != 0 || join(target, to, name, err) != 0)
		return -1;
	if (stat(source, &st) != 0)
		return hp_fail(err, HP_E_IO, "cannot read %s: %s", source, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return copy_tree(p, source, target, depth + 1, err);
	return S_ISREG(st.st_mode) ? copy_file(p, source, target, 0444, err) : 0;
}

static int copy_tree(const struct hp_place *p, const char *from, const char *to, int depth,
		     struct hp_error *err)
{
	const struct dirent *e;
	DIR *d;
	int rc = 0;

	if (depth > COPY_DEPTH_MAX)
		return hp_fail(err, HP_E_LIMIT, "%s: directories are nested more than %d deep", from,
			       COPY_DEPTH_MAX);
	if (hp_directory_make(to, 0755, err) != 0 || own(p, to, err) != 0)
		return -1;
	d = opendir(from);
	if (!d)
		return hp_fail(err, HP_E_IO, "cannot read %s: %s", from, strerror(errno));
	while (rc == 0 && (e = readdir(d)))
		rc = copy_entry(p, from, to, e->d_name, depth, err);
	closedir(d);
	return rc;
}

static int stage_executable(struct hp_place *p, const char *run, struct hp_error *err)
{
	char copy[PATH_MAX];
	struct stat st;
	int fd;

	if (fstat(p->exe_fd, &st) == 0 && (st.st_mode & S_IXOTH) && (st.st_mode & S_IROTH))
		return 0;
	if (join(copy, run, "holdpoint", err) != 0 || copy_file(p, "/proc/self/exe", copy, 0555, err) != 0)
		return -1;
	fd = open(copy, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return hp_fail(err, HP_E_IO, "cannot open %s: %s", copy, strerror(errno));
	close(p->exe_fd);
	p->exe_fd = fd;
	return 0;
}

/* A plugin that was removed stays in the old copy, so the copy is made beside it. */
static int replace_tree(const char *fresh, const char *final, const char *old, struct hp_error *err)
{
	if (rename(final, old) != 0 && errno != ENOENT)
		return hp_fail(err, HP_E_IO, "cannot move %s away: %s", final, strerror(errno));
	if (rename(fresh, final) != 0)
		return hp_fail(err, HP_E_IO, "cannot move %s to %s: %s", fresh, final, strerror(errno));
	return hp_directory_remove(old, err);
}

int hp_place_stage(struct hp_place *p, struct hp_error *err)
{
	char run[PATH_MAX], fresh[PATH_MAX], final[PATH_MAX], old[PATH_MAX];

	if (!p->privileged)
		return 0;
	if (hp_place_directory(p, "staged", 0755, run, err) != 0 || join(fresh, run, "plugins.new", err) != 0 ||
	    join(final, run, "plugins", err) != 0 || join(old, run, "plugins.old", err) != 0)
		return -1;
	if (hp_directory_remove(fresh, err) != 0 || hp_directory_remove(old, err) != 0 ||
	    copy_tree(p, p->plugins, fresh, 0, err) != 0 || replace_tree(fresh, final, old, err) != 0)
		return -1;
	memcpy(p->plugins, final, sizeof final);
	return stage_executable(p, run, err);
}
