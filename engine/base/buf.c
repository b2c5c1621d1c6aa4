/* buf.c: growth within the maximum, and the text encodings every room needs. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"

#define CAP_FIRST ((size_t)64)

void hp_buf_init(struct hp_buf *b, size_t max)
{
	memset(b, 0, sizeof *b);
	b->max = max;
}

void hp_buf_free(struct hp_buf *b)
{
	hp_free(b->p);
	hp_buf_init(b, b->max);
}

void hp_buf_wipe(struct hp_buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	hp_buf_free(b);
}

void hp_buf_clear(struct hp_buf *b)
{
	b->n = 0;
	b->failed = b->no_memory = false;
	if (b->p)
		b->p[0] = '\0';
}

/* Makes room for n more bytes and the NUL. */
static int reserve(struct hp_buf *b, size_t n)
{
	size_t want, cap;
	char *p;

	if (b->failed)
		return -1;
	if (n > b->max - b->n || b->max == SIZE_MAX)
		goto fail;
	want = b->n + n + 1;
	if (want <= b->cap)
		return 0;
	cap = b->cap ? b->cap : CAP_FIRST;
	while (cap < want)
		cap = cap > SIZE_MAX / 2 ? want : cap * 2;
	if (cap > b->max + 1)
		cap = b->max + 1;
	p = hp_realloc(b->p, cap);
	if (!p) {
		b->no_memory = true;
		goto fail;
	}
	b->p = p;
	b->cap = cap;
	return 0;
fail:
	b->failed = true;
	return -1;
}

int hp_buf_add(struct hp_buf *b, const void *p, size_t n)
{
	if (reserve(b, n) < 0)
		return -1;
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	b->p[b->n] = '\0';
	return 0;
}

int hp_buf_addc(struct hp_buf *b, char c)
{
	return hp_buf_add(b, &c, 1);
}

int hp_buf_adds(struct hp_buf *b, const char *s)
{
	return hp_buf_add(b, s, strlen(s));
}

int hp_buf_printf(struct hp_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n, rc = -1;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n < 0) {
		b->failed = true;
		goto out;
	}
	if (reserve(b, (size_t)n) < 0)
		goto out;
	if (vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again) != n) {
		b->p[b->n] = '\0';
		b->failed = true;
		goto out;
	}
	b->n += (size_t)n;
	rc = 0;
out:
	va_end(again);
	va_end(ap);
	return rc;
}

/* Unicode 15, table 3-7. */
size_t hp_utf8_length(const unsigned char *p, size_t n)
{
	size_t len, i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return 0;
	len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
	if (len > n)
		return 0;
	for (i = 1; i < len; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	if (p[0] == 0xE0 && p[1] < 0xA0) /* overlong */
		return 0;
	if (p[0] == 0xED && p[1] > 0x9F) /* surrogate */
		return 0;
	if (p[0] == 0xF0 && p[1] < 0x90) /* overlong */
		return 0;
	if (p[0] == 0xF4 && p[1] > 0x8F) /* beyond U+10FFFF */
		return 0;
	return len;
}

static void json_escape(struct hp_buf *b, unsigned char c)
{
	static const char short_form[] = "btn.fr"; /* 0x08 … 0x0D; 0x0B has none */

	if (c == '"' || c == '\\') {
		hp_buf_addc(b, '\\');
		hp_buf_addc(b, (char)c);
	} else if (c >= 0x08 && c <= 0x0D && c != 0x0B) {
		hp_buf_addc(b, '\\');
		hp_buf_addc(b, short_form[c - 0x08]);
	} else {
		hp_buf_printf(b, "\\u%04x", c);
	}
}

int hp_buf_json(struct hp_buf *b, const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t i = 0, plain = 0; /* plain: start of bytes not yet copied */

	hp_buf_addc(b, '"');
	while (i < n) {
		size_t len = hp_utf8_length(p + i, n - i);

		if (len > 0 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') {
			i += len;
			continue;
		}
		hp_buf_add(b, s + plain, i - plain);
		if (len == 0)
			hp_buf_adds(b, "\xEF\xBF\xBD");
		else
			json_escape(b, p[i]);
		plain = ++i;
	}
	if (n > plain)
		hp_buf_add(b, s + plain, n - plain);
	return hp_buf_addc(b, '"');
}

int hp_buf_urlencode(struct hp_buf *b, const char *s, size_t n)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t i;

	for (i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    c == '-' || c == '.' || c == '_' || c == '~') {
			hp_buf_addc(b, s[i]);
		} else {
			char e[3] = {'%', hex[c >> 4], hex[c & 15]};

			hp_buf_add(b, e, sizeof e);
		}
	}
	return b->failed ? -1 : 0;
}

const char *hp_buf_str(const struct hp_buf *b)
{
	return b->p ? b->p : "";
}

struct hp_bytes hp_buf_bytes(const struct hp_buf *b)
{
	return (struct hp_bytes){b->p, b->n};
}

struct hp_bytes hp_bytes_of(const char *s)
{
	return (struct hp_bytes){s, s ? strlen(s) : 0};
}

int hp_buf_check(const struct hp_buf *b, const char *what, struct hp_error *err)
{
	if (!b->failed)
		return 0;
	if (b->no_memory)
		return hp_fail(err, HP_E_NOMEM, "%s: no memory left", what);
	return hp_fail(err, HP_E_TOO_LARGE, "%s: larger than %zu bytes", what, b->max);
}
