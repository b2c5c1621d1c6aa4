/* cluster.c: the files of the private PostgreSQL. */
#include "runtime/cluster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/digest.h"
#include "base/log.h"
#include "base/words.h"
#include "runtime/child.h"
#include "runtime/files.h"

#define SOCKET_PATH_MAX 100 /* sun_path holds 108 with the NUL */
#define MAJOR_OLDEST 14     /* what the engine's SQL needs */
#define PID_FILE_LINES 8

/* ---- binaries ---- */

static bool has_binaries(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%s/postgres", dir);
	if (access(path, X_OK) != 0)
		return false;
	snprintf(path, sizeof path, "%s/initdb", dir);
	return access(path, X_OK) == 0;
}

/* Debian keeps one directory per major version: the wanted one, or the newest. */
static int find_packaged(int major, char out[PATH_MAX])
{
	static const char root[] = "/usr/lib/postgresql";
	DIR *d = opendir(root);
	const struct dirent *e;
	int64_t best = 0, v;
	char dir[PATH_MAX];

	while (d && (e = readdir(d))) {
		if (hp_int_parse(e->d_name, &v) != 0 || v < MAJOR_OLDEST || v > 999 || v <= best ||
		    (major && v != major))
			continue;
		snprintf(dir, sizeof dir, "%s/%d/bin", root, (int)v);
		if (has_binaries(dir)) {
			best = v;
			snprintf(out, PATH_MAX, "%s", dir);
		}
	}
	if (d)
		closedir(d);
	return (int)best;
}

/* The major version of the binaries on PATH or where the user says: asked, not guessed. */
static int version_of(const struct hp_cluster *c, const char *dir)
{
	char command[PATH_MAX + 32], line[128] = "";
	int64_t v = 0;
	char *digits;
	FILE *f;

	(void)c;
	snprintf(command, sizeof command, "'%s/postgres' --version", dir);
	f = popen(command, "re");
	if (!f)
		return 0;
	if (!fgets(line, sizeof line, f))
		line[0] = 0;
	pclose(f);
	digits = line + strcspn(line, "0123456789");
	digits[strspn(digits, "0123456789")] = 0;
	return hp_int_parse(digits, &v) == 0 && v < 1000 ? (int)v : 0;
}

static int find_on_path(const struct hp_cluster *c, int major, char out[PATH_MAX])
{
	const char *path = getenv("PATH");
	char dir[PATH_MAX];

	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(dir, sizeof dir, "%.*s", (int)n, path);
		path += n + (path[n] == ':');
		if (n > 0 && n < sizeof dir && has_binaries(dir) && !strchr(dir, '\'')) {
			int v = version_of(c, dir);

			if (v >= MAJOR_OLDEST && (!major || v == major)) {
				snprintf(out, PATH_MAX, "%s", dir);
				return v;
			}
		}
	}
	return 0;
}

/* major 0: any. Returns the version found, 0 for none. */
static int find_binaries(struct hp_cluster *c, const char *bin, int major)
{
	int v;

	if (bin) {
		if (!has_binaries(bin) || strchr(bin, '\'') || !realpath(bin, c->bin))
			return 0;
		v = version_of(c, c->bin);
		return major == 0 || v == major ? v : 0;
	}
	v = find_packaged(major, c->bin);
	return v ? v : find_on_path(c, major, c->bin);
}

/* ---- the cluster ---- */

/* 0: there is no cluster. */
static int read_version(const struct hp_cluster *c, int *major, struct hp_error *err)
{
	char path[PATH_MAX];
	struct hp_buf text;
	int64_t v = 0;
	int rc = -1;

	*major = 0;
	snprintf(path, sizeof path, "%.*s/PG_VERSION", PATH_MAX - 16, c->dir);
	if (!hp_file_exists(c->dir))
		return 0;
	hp_buf_init(&text, 64);
	if (hp_file_read(AT_FDCWD, path, &text, NULL, err) != 0) {
		hp_error_prefix(err, "%s is not a PostgreSQL cluster", c->dir);
		goto out;
	}
	text.p[strcspn(text.p, "\n.")] = 0;
	if (hp_int_parse(text.p, &v) != 0 || v < 1 || v > 999) {
		hp_fail(err, HP_E_CONFLICT, "%s does not hold a version", path);
		goto out;
	}
	*major = (int)v;
	rc = 0;
out:
	hp_buf_free(&text);
	return rc;
}

static int init_failed(const char *log, const char *how, struct hp_error *err)
{
	struct hp_buf text;
	const char *tail;

	hp_buf_init(&text, 65536);
	if (hp_file_read(AT_FDCWD, log, &text, NULL, NULL) != 0)
		hp_buf_clear(&text);
	tail = hp_buf_str(&text);
	tail += text.n > 400 ? text.n - 400 : 0;
	hp_fail(err, HP_E_IO, "initdb %s: %s", how, tail);
	hp_buf_free(&text);
	return hp_error_hint(err, "the whole output is in %s", log);
}

/* Made under another name and moved when complete, so that a crash leaves no half
 * cluster behind that looks like one. */
static int create(struct hp_cluster *c, struct hp_error *err)
{
	char fresh[PATH_MAX], log[PATH_MAX], binary[PATH_MAX + 8], how[64];
	const char *const argv[] = {"initdb", "-D", fresh, "-U", HP_CLUSTER_SUPERUSER, "-A", "trust", "-E", "UTF8",
				    "--locale=C", "--data-checksums", "--no-instructions", NULL};
	struct hp_child_spec spec = {.argv = argv, .path = binary, .output = log};
	int status;

	if (hp_place_path(c->place, "postgres.new", fresh, err) != 0 ||
	    hp_place_path(c->place, "log/initdb.log", log, err) != 0 || hp_directory_remove(fresh, err) != 0)
		return -1;
	snprintf(binary, sizeof binary, "%s/initdb", c->bin);
	hp_log(HP_INFO, "making a private PostgreSQL cluster", "directory", HP_STR(c->dir), NULL);
	if (hp_child_run(c->place, &spec, &status, err) != 0)
		return -1;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		hp_child_ending(status, how, sizeof how);
		return init_failed(log, how, err);
	}
	if (rename(fresh, c->dir) != 0)
		return hp_fail(err, HP_E_IO, "cannot move %s to %s: %s", fresh, c->dir, strerror(errno));
	return 0;
}

static int find_and_make(struct hp_cluster *c, const char *bin, struct hp_error *err)
{
	int have;

	if (read_version(c, &have, err) != 0)
		return -1;
	c->major = find_binaries(c, bin, have);
	if (c->major == 0 && have) {
		hp_fail(err, HP_E_CONFLICT,
			"the data in %s was written by PostgreSQL %d, and its programs are not here; nothing was changed",
			c->dir, have);
		return hp_error_hint(err,
				     "install postgresql-%d (or name its directory with --postgres-bin), or move the data "
				     "to a newer version with pg_upgrade",
				     have);
	}
	if (c->major < MAJOR_OLDEST) {
		hp_fail(err, HP_E_NOT_FOUND, "PostgreSQL %d or newer is not installed%s%s", MAJOR_OLDEST,
			bin ? " in " : "", bin ? bin : "");
		return hp_error_hint(err, "install the package postgresql-15, or give --database CONNINFO");
	}
	return have ? 0 : create(c, err);
}

/* ---- sockets ---- */

/* A directory outside the data directory has a name that follows from it. Somebody
 * else's directory of that name is refused: it would be a trap. */
static int short_directory(struct hp_cluster *c, struct hp_error *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	uint8_t hash[HP_SHA256_LEN];
	char hex[HP_SHA256_HEX];
	struct stat st;

	hp_sha256(c->place->data, strlen(c->place->data), hash);
	hp_hex(hash, sizeof hash, hex);
	if (!runtime || c->place->privileged || strlen(runtime) > 60)
		runtime = "/tmp";
	snprintf(c->socket, sizeof c->socket, "%s/holdpoint-%.16s", runtime, hex);
	if (mkdir(c->socket, 0700) == 0 && c->place->privileged &&
	    lchown(c->socket, c->place->uid, c->place->gid) != 0)
		return hp_fail(err, HP_E_IO, "cannot give %s to the service user: %s", c->socket, strerror(errno));
	if (lstat(c->socket, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != c->place->uid ||
	    (st.st_mode & 077) != 0)
		return hp_fail(err, HP_E_CONFLICT, "%s should be a directory of the user %s with mode 0700", c->socket,
			       c->place->user);
	return 0;
}

static int make_socket_directory(struct hp_cluster *c, struct hp_error *err)
{
	if (hp_place_directory(c->place, "run", 0700, c->socket, err) != 0)
		return -1;
	if (strlen(c->socket) + sizeof "/.s.PGSQL.5432" > SOCKET_PATH_MAX)
		return short_directory(c, err);
	return 0;
}

int hp_cluster_prepare(struct hp_cluster *c, const struct hp_place *place, const char *bin,
		       struct hp_error *err)
{
	memset(c, 0, sizeof *c);
	c->place = place;
	if (hp_place_path(place, "postgres", c->dir, err) != 0 ||
	    hp_place_directory(place, "log", 0700, c->logs, err) != 0 ||
	    hp_place_path(place, "log/postgresql-start.log", c->log, err) != 0 ||
	    make_socket_directory(c, err) != 0)
		return -1;
	return find_and_make(c, bin, err);
}

/* ---- who serves it ---- */

/* Lines of postmaster.pid: id, data directory, start, port, socket directory, … */
static int read_pid_file(const struct hp_cluster *c, struct hp_buf *text, char *lines[PID_FILE_LINES])
{
	char path[PATH_MAX];
	char *p;
	int n = 0;

	snprintf(path, sizeof path, "%.*s/postmaster.pid", PATH_MAX - 24, c->dir);
	if (hp_file_read(AT_FDCWD, path, text, NULL, NULL) != 0)
		return 0;
	for (p = text->p; p && *p && n < PID_FILE_LINES; n++) {
		lines[n] = p;
		p += strcspn(p, "\n");
		if (*p)
			*p++ = 0;
	}
	return n;
}

/* Is that process a PostgreSQL server working in our directory? Its working
 * directory is its cluster; the name guards against a reused id. */
static bool serves(pid_t pid, const char *dir)
{
	char path[64], target[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
	n = readlink(path, target, sizeof target - 1);
	if (n <= 0)
		return false;
	target[n] = 0;
	return strcmp(target, dir) == 0;
}

/* Was it started with our directory for sockets? While it starts, its file does not say
 * where they are: a supervisor that died a moment ago may have left such a one. */
static bool starts_for(pid_t pid, const char *socket)
{
	char path[64], want[PATH_MAX + 32];
	struct hp_buf words;
	bool found = false;

	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	snprintf(want, sizeof want, "unix_socket_directories=%s", socket);
	hp_buf_init(&words, 64 * 1024);
	if (hp_file_read(AT_FDCWD, path, &words, NULL, NULL) == 0)
		for (size_t at = 0; at < words.n && !found; at += strlen(words.p + at) + 1)
			found = strcmp(words.p + at, want) == 0;
	hp_buf_free(&words);
	return found;
}

pid_t hp_cluster_running(const struct hp_cluster *c, struct hp_error *err)
{
	char *lines[PID_FILE_LINES];
	struct hp_buf text;
	int64_t pid = 0;
	pid_t found = 0;
	int n;

	hp_buf_init(&text, 4096);
	n = read_pid_file(c, &text, lines);
	if (n == 0 || hp_int_parse(lines[0], &pid) != 0 || pid <= 1 || pid > INT_MAX)
		goto out; /* none, or a torn file: PostgreSQL itself knows what to do with it */
	if (kill((pid_t)pid, 0) != 0 || !serves((pid_t)pid, c->dir))
		goto out;
	found = (pid_t)pid;
	if (n < 5 || !*lines[4] ? !starts_for(found, c->socket) : strcmp(lines[4], c->socket) != 0) {
		hp_fail(err, HP_E_CONFLICT,
			"a PostgreSQL (pid %d) that we did not start serves %s: its sockets are in \"%s\" instead of %s",
			(int)pid, c->dir, n < 5 ? "" : lines[4], c->socket);
		hp_error_hint(err, "stop it with `pg_ctl stop -D %s`", c->dir);
		found = -1;
	}
out:
	hp_buf_free(&text);
	return found;
}

/* ---- room ---- */

int64_t hp_cluster_room(const struct hp_cluster *c, char where[PATH_MAX])
{
	static const char *const parts[] = {"", "/pg_wal"}; /* which may be a link to another disk */
	int64_t least = -1;

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		char path[PATH_MAX];
		struct statvfs v;

		snprintf(path, sizeof path, "%.*s%s", PATH_MAX - 16, c->dir, parts[i]);
		if (statvfs(path, &v) != 0)
			continue;
		if (least < 0 || (int64_t)v.f_bavail * (int64_t)v.f_frsize < least) {
			least = (int64_t)v.f_bavail * (int64_t)v.f_frsize;
			snprintf(where, PATH_MAX, "%s", path);
		}
	}
	return least;
}
