/* file.c: a whole file into a buffer. */
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int hp_read_file(const char *path, size_t max, struct hp_buf *out, struct hp_error *err)
{
	char block[16384];
	FILE *f = fopen(path, "rbe");
	size_t n;
	int rc = -1;

	if (!f)
		return hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "%s: %s", path, strerror(errno));
	while ((n = fread(block, 1, sizeof block, f)) > 0) {
		if (out->n + n > max) {
			hp_fail(err, HP_E_TOO_LARGE, "%s: the file is larger than %zu bytes", path, max);
			goto out;
		}
		hp_buf_add(out, block, n);
	}
	if (ferror(f)) {
		hp_fail(err, HP_E_IO, "%s: %s", path, strerror(errno));
		goto out;
	}
	rc = hp_buf_check(out, path, err);
out:
	fclose(f);
	return rc;
}
