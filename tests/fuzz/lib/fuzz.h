/* fuzz.h: what the fuzzing harnesses share.
 *
 * tests/fuzz/NAME.c has one function,
 *
 *	HP_FUZZ(NAME) { … p, n … }
 *
 * that takes any bytes, asserts with MUST() whatever must hold of them, and leaves
 * nothing behind. The same file is linked in two ways: with libFuzzer (`make fuzz`),
 * where HP_FUZZ is LLVMFuzzerTestOneInput, one program per target; and with
 * tests/unit/cli_corpora.c (`make test`), which runs every file of tests/fuzz/corpus/NAME
 * through it with any compiler. A corpus file is an input that once reached something
 * new, or (finding-*) one that found a bug.
 */
#ifndef HP_TESTS_FUZZ_H
#define HP_TESTS_FUZZ_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/error.h"

struct hp_fuzz_target {
	const char *name;
	void (*run)(const uint8_t *p, size_t n);
	struct hp_fuzz_target *next;
};
/* Those that are linked in; in cli_corpora.c. */
extern struct hp_fuzz_target *hp_fuzz_targets;

#ifdef HP_FUZZER
#define HP_FUZZ(name) \
	static void fuzz_##name(const uint8_t *p, size_t n); \
	int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n); \
	int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) \
	{ \
		fuzz_##name(p, n); \
		return 0; \
	} \
	static void fuzz_##name(const uint8_t *p, size_t n)
#else
#define HP_FUZZ(name) \
	static void fuzz_##name(const uint8_t *p, size_t n); \
	__attribute__((constructor)) static void enlist_##name(void) \
	{ \
		static struct hp_fuzz_target target = {#name, fuzz_##name, NULL}; \
		target.next = hp_fuzz_targets; \
		hp_fuzz_targets = &target; \
	} \
	static void fuzz_##name(const uint8_t *p, size_t n)
#endif

/* Says what does not hold and aborts: libFuzzer keeps the input, Check reports a crash. */
#define MUST(cond, ...) \
	do { \
		if (!(cond)) \
			hp_fuzz_failed(__FILE__, __LINE__, #cond, " " __VA_ARGS__); \
	} while (0)

__attribute__((noreturn, format(printf, 4, 5))) static inline void hp_fuzz_failed(const char *file, int line,
										  const char *cond, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: must hold: %s\n ", file, line, cond);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap); /* begins with a blank */
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

/* ---- an input read piece by piece; past its end everything is 0 ---- */
struct hp_input {
	const uint8_t *p;
	size_t n;
};

static inline uint8_t in_byte(struct hp_input *in)
{
	if (in->n == 0)
		return 0;
	in->n--;
	return *in->p++;
}

static inline uint64_t in_bits(struct hp_input *in, int bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | in_byte(in);
	return v;
}

/* The bytes up to the next separator, or the rest. */
static inline struct hp_bytes in_until(struct hp_input *in, char separator)
{
	const uint8_t *end = in->n ? memchr(in->p, separator, in->n) : NULL;
	struct hp_bytes part = {(const char *)in->p, end ? (size_t)(end - in->p) : in->n};

	in->p += part.n + (end != NULL);
	in->n -= part.n + (end != NULL);
	return part;
}

/* A copy with a NUL, which the caller frees. Bytes behind a NUL are not seen by it. */
static inline char *text_of(struct hp_bytes b)
{
	char *s = malloc(b.n + 1);

	MUST(s != NULL);
	if (b.n > 0)
		memcpy(s, b.p, b.n);
	s[b.n] = '\0';
	return s;
}

/* What goes to the database and to JSON must be UTF-8. */
static inline void must_be_text(const char *s)
{
	json_t *v = json_string(s); /* NULL: it is not */

	MUST(v != NULL, "not UTF-8: %s", s);
	json_decref(v);
}

/* What an error says is whole: a code, a sentence, an end. */
static inline void must_explain(const struct hp_error *err)
{
	MUST(err->code != HP_OK, "failed without a code");
	MUST(memchr(err->message, '\0', sizeof err->message) && err->message[0], "failed without a sentence");
	MUST(memchr(err->hint, '\0', sizeof err->hint) != NULL);
	must_be_text(err->message);
	must_be_text(err->hint);
}

#endif
