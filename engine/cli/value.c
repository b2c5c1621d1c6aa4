/* value.c: JSON from the command line, a file or standard input. */
#include "cli/value.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"

int cli_read_all(int fd, const char *name, struct hp_buf *out, struct hp_error *err)
{
	char chunk[16384];
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = read(fd, chunk, sizeof chunk)) != 0) {
		if (n < 0 && errno != EINTR)
			rc = hp_fail(err, HP_E_IO, "cannot read %s: %s", name, strerror(errno));
		else if (n > 0 && hp_buf_add(out, chunk, (size_t)n) < 0)
			rc = hp_buf_check(out, name, err);
	}
	explicit_bzero(chunk, sizeof chunk); /* it may have been a secret */
	return rc;
}

static int read_file(const char *path, struct hp_buf *out, struct hp_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "cannot open %s: %s", path,
			       strerror(errno));
	rc = cli_read_all(fd, path, out, err);
	close(fd);
	return rc;
}

json_t *cli_read_value(const char *given, const char *what, struct hp_error *err)
{
	struct hp_buf b;
	json_t *v = NULL;
	int rc;

	hp_buf_init(&b, HP_HTTP_REQUEST_BODY_MAX);
	if (given[0] == '@')
		rc = read_file(given + 1, &b, err);
	else if (strcmp(given, "-") == 0)
		rc = cli_read_all(STDIN_FILENO, "standard input", &b, err);
	else
		rc = hp_buf_adds(&b, given) < 0 ? hp_buf_check(&b, what, err) : 0;
	if (rc == 0) {
		v = hp_json_parse(hp_buf_str(&b), b.n, what, err);
		if (!v)
			(void)hp_error_hint(err, "Write JSON, @FILE, or - for standard input; quote it for the shell: "
						 "'{\"id\":1}'.");
	}
	hp_buf_free(&b);
	return v;
}

json_t *cli_read_map(const char *given, struct hp_error *err)
{
	json_t *map = json_object();

	for (const char *at = given ? given : ""; *at;) {
		size_t n = strcspn(at, ","), from = strcspn(at, "=,");

		if (from == 0 || from + 1 >= n || at[from] != '=' ||
		    json_object_setn_new(map, at, from, json_stringn(at + from + 1, n - from - 1)) < 0) {
			hp_fail(err, HP_E_INVALID, "--map: \"%.*s\" is not OLD=NEW", (int)n, at);
			hp_error_hint(err, "For example --map refund=give_back,tell=tell_traveller.");
			json_decref(map);
			return NULL;
		}
		at += at[n] ? n + 1 : n;
	}
	return map;
}
