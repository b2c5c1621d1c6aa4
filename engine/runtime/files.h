/* files.h: reading and replacing small files, with errors that name them. */
#ifndef HP_RUNTIME_FILES_H
#define HP_RUNTIME_FILES_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/error.h"

/* Appends the file's content; *what (may be NULL) says which file it was. */
int hp_file_read(int dir_fd, const char *path, struct hp_buf *out, struct stat *what,
		 struct hp_error *err) HP_MUST_CHECK;
/* Durable replacement: temporary file beside it, fsync, rename, fsync of the
 * directory. A crash leaves the old content or the new one. */
int hp_file_replace(const char *path, struct hp_bytes content, mode_t mode, struct hp_error *err) HP_MUST_CHECK;
/* Makes the directory (and its parents); fine when it is there. */
int hp_directory_make(const char *path, mode_t mode, struct hp_error *err) HP_MUST_CHECK;
/* Removes a directory with all that is in it; fine when it is not there. Does not
 * follow symbolic links. */
int hp_directory_remove(const char *path, struct hp_error *err) HP_MUST_CHECK;
bool hp_file_exists(const char *path);
/* A file's time is coarse: one that was replaced twice within a tick is still told apart
 * by its number. */
bool hp_file_same(const struct stat *a, const struct stat *b);

#endif
