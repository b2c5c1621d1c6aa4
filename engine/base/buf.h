/* buf.h: a growing byte buffer that cannot be made without a maximum.
 *
 * Once an append fails (maximum or memory) the buffer is `failed`: it keeps
 * what it had, every later append fails too, so a chain of appends needs one
 * check at its end. Always NUL-terminated (the NUL is not counted in n).
 */
#ifndef HP_BASE_BUF_H
#define HP_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

struct hp_buf {
	char *p;    /* NULL until the first append; use hp_buf_str() for text */
	size_t n;   /* bytes used */
	size_t cap;
	size_t max; /* bytes allowed */
	bool failed;
	bool no_memory; /* … for want of it, not because of max */
};

/* A view of bytes owned by somebody else. p may be NULL when n is 0. */
struct hp_bytes {
	const char *p;
	size_t n;
};

void hp_buf_init(struct hp_buf *b, size_t max);
void hp_buf_free(struct hp_buf *b);  /* reusable afterwards with the same max */
void hp_buf_wipe(struct hp_buf *b);  /* the same, and nothing of it stays in memory */
void hp_buf_clear(struct hp_buf *b); /* keeps the memory, clears `failed` */
int hp_buf_add(struct hp_buf *b, const void *p, size_t n);
int hp_buf_addc(struct hp_buf *b, char c);
int hp_buf_adds(struct hp_buf *b, const char *s);
int hp_buf_printf(struct hp_buf *b, const char *fmt, ...) HP_PRINTF(2, 3);
/* Appends s as a JSON string, with the quotes. Invalid UTF-8 becomes U+FFFD. */
int hp_buf_json(struct hp_buf *b, const char *s, size_t n);
/* Bytes of the well-formed UTF-8 character that p begins with, 0: it is none. n > 0. */
size_t hp_utf8_length(const unsigned char *p, size_t n);
/* Percent-encodes everything but RFC 3986 unreserved characters. */
int hp_buf_urlencode(struct hp_buf *b, const char *s, size_t n);
const char *hp_buf_str(const struct hp_buf *b); /* "" when empty */
struct hp_bytes hp_buf_bytes(const struct hp_buf *b);
struct hp_bytes hp_bytes_of(const char *s); /* of a C string; NULL gives {NULL,0} */
/* -1 with HP_E_TOO_LARGE, or HP_E_NOMEM, and `what` in the message when the buffer failed. */
int hp_buf_check(const struct hp_buf *b, const char *what, struct hp_error *err) HP_MUST_CHECK;

#endif
