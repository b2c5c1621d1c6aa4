/* error.c: filling, decorating and naming errors.
 *
 * Texts are formatted into a scratch buffer first, because callers wrap an
 * error with its own message as an argument. A text that does not fit is cut
 * between characters, never inside one: it goes into JSON.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"

struct code_facts {
	const char *name;
	int http;
	int exit_code;
};

static const struct code_facts facts[HP_E__COUNT] = {
	[HP_OK] = {"ok", 200, 0},
	[HP_E_INVALID] = {"invalid", 400, 2},
	[HP_E_UNAUTHORIZED] = {"unauthorized", 401, 3},
	[HP_E_FORBIDDEN] = {"forbidden", 403, 3},
	[HP_E_NOT_FOUND] = {"not_found", 404, 4},
	[HP_E_CONFLICT] = {"conflict", 409, 5},
	[HP_E_TOO_LARGE] = {"too_large", 413, 2},
	[HP_E_LIMIT] = {"limit", 429, 6},
	[HP_E_UNAVAILABLE] = {"unavailable", 503, 6},
	[HP_E_TIMEOUT] = {"timeout", 504, 6},
	[HP_E_IO] = {"io", 500, 1},
	[HP_E_NOMEM] = {"no_memory", 500, 1},
	[HP_E_SCRIPT] = {"script", 422, 2},
	[HP_E_INTERNAL] = {"internal", 500, 1},
};

static const struct code_facts *facts_of(enum hp_code code)
{
	/* A number from a database or a peer may be newer than this build. */
	if ((unsigned)code >= HP_E__COUNT)
		return &facts[HP_E_INTERNAL];
	return &facts[code];
}

const char *hp_code_name(enum hp_code code)
{
	return facts_of(code)->name;
}

int hp_code_http(enum hp_code code)
{
	return facts_of(code)->http;
}

int hp_code_exit(enum hp_code code)
{
	return facts_of(code)->exit_code;
}

/* Drops a UTF-8 character that the cut at the end of s left incomplete. */
static void trim_cut_character(char *s)
{
	size_t n = strlen(s), back = 0, need;
	unsigned char lead;

	while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80)
		back++;
	if (back == n)
		return;
	lead = (unsigned char)s[n - 1 - back];
	need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
	if (need > back)
		s[n - 1 - back] = '\0';
}

static void format(char *dst, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(dst, size, fmt, ap);

	if (n < 0)
		dst[0] = '\0';
	else if ((size_t)n >= size)
		trim_cut_character(dst);
}

/* A message goes into the database and into JSON, which take UTF-8 only; what a script
 * raised or a file has may be anything. */
static void replace_malformed(char *s)
{
	size_t n = strlen(s), i = 0;

	while (i < n) {
		size_t len = hp_utf8_length((const unsigned char *)s + i, n - i);

		if (len == 0)
			s[i] = '?';
		i += len ? len : 1;
	}
}

/* dst = prefix + sep + text, cut to fit. */
static void put(char *dst, size_t size, const char *prefix, const char *sep, const char *text)
{
	int n = snprintf(dst, size, "%s%s%s", prefix, sep, text);

	if (n < 0)
		dst[0] = '\0';
	else if ((size_t)n >= size)
		trim_cut_character(dst);
	replace_malformed(dst);
}

int hp_error_set(struct hp_error *err, enum hp_code code, const char *file, int line,
		 const char *fmt, ...)
{
	char text[sizeof err->message];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	format(text, sizeof text, fmt, ap);
	va_end(ap);
	put(err->message, sizeof err->message, "", "", text);
	err->code = code;
	err->hint[0] = '\0';
	err->file = file;
	err->line = line;
	return -1;
}

int hp_error_hint(struct hp_error *err, const char *fmt, ...)
{
	char text[sizeof err->hint];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	format(text, sizeof text, fmt, ap);
	va_end(ap);
	put(err->hint, sizeof err->hint, "", "", text);
	return -1;
}

int hp_error_prefix(struct hp_error *err, const char *fmt, ...)
{
	char prefix[sizeof err->message];
	char message[sizeof err->message];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	format(prefix, sizeof prefix, fmt, ap);
	va_end(ap);
	memcpy(message, err->message, sizeof message);
	put(err->message, sizeof err->message, prefix, ": ", message);
	return -1;
}

void hp_assert_failed(const char *cond, const char *file, int line)
{
	/* stderr is unbuffered: this needs no memory and no lock of ours. */
	fprintf(stderr, "holdpoint: %s:%d: assertion failed: %s\n", file, line, cond);
	abort();
}
