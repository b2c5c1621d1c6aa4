/* file.h: a whole file into a buffer. */
#ifndef HP_BASE_FILE_H
#define HP_BASE_FILE_H

#include "base/buf.h"
#include "base/error.h"

/* Appended; at most max bytes. HP_E_NOT_FOUND: there is none. */
int hp_read_file(const char *path, size_t max, struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;

#endif
