/* error.h: how everything fallible in Holdpoint says what went wrong.
 *
 * A fallible function returns 0 or -1 and takes `struct hp_error *err` last.
 * On -1 the error is filled: a stable code (goes to API, CLI and logs), a
 * message that says what is wrong and where, and, where we know one, a hint
 * that says what to do. The struct is plain memory: copy it, drop it, never
 * free it. err may be NULL when the caller needs only the result.
 * No secret may ever be put into a message.
 */
#ifndef HP_BASE_ERROR_H
#define HP_BASE_ERROR_H

#include <stddef.h>

#define HP_MUST_CHECK __attribute__((warn_unused_result))
#define HP_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* The codes are part of the API: never renumber, only append.
 * hp_code_name() gives the word, hp_code_http() the HTTP status,
 * hp_code_exit() the exit code of a command. */
enum hp_code {
	HP_OK = 0,
	HP_E_INVALID,      /* the caller's input is wrong             400  exit 2 */
	HP_E_UNAUTHORIZED, /* no or bad credentials                   401  exit 3 */
	HP_E_FORBIDDEN,    /* known, but not allowed                  403  exit 3 */
	HP_E_NOT_FOUND,    /* no such thing                           404  exit 4 */
	HP_E_CONFLICT,     /* the thing is not in a state for that    409  exit 5 */
	HP_E_TOO_LARGE,    /* over a limit in limits.h                413  exit 2 */
	HP_E_LIMIT,        /* too many at once; try again later       429  exit 6 */
	HP_E_UNAVAILABLE,  /* database or peer cannot be reached      503  exit 6 */
	HP_E_TIMEOUT,      /* a deadline passed                       504  exit 6 */
	HP_E_IO,           /* a system call failed                    500  exit 1 */
	HP_E_NOMEM,        /* allocation failed                       500  exit 1 */
	HP_E_SCRIPT,       /* an author's Lua code failed             422  exit 2 */
	HP_E_INTERNAL,     /* a bug of ours                           500  exit 1 */
	HP_E__COUNT
};

struct hp_error {
	enum hp_code code;
	char message[768];
	char hint[256];
	const char *file; /* where it was raised: a string literal */
	int line;
};

const char *hp_code_name(enum hp_code code); /* "invalid", "not_found", … */
int hp_code_http(enum hp_code code);
int hp_code_exit(enum hp_code code);

/* Fills *err and returns -1, so `return hp_fail(err, HP_E_X, "…", …);`. */
#define hp_fail(err, code, ...) hp_error_set((err), (code), __FILE__, __LINE__, __VA_ARGS__)
int hp_error_set(struct hp_error *err, enum hp_code code, const char *file, int line,
		 const char *fmt, ...) HP_PRINTF(5, 6);
/* Adds the hint to an error that was set; returns -1. */
int hp_error_hint(struct hp_error *err, const char *fmt, ...) HP_PRINTF(2, 3);
/* Puts "prefix: " before the message (context on the way up); returns -1. */
int hp_error_prefix(struct hp_error *err, const char *fmt, ...) HP_PRINTF(2, 3);

/* Stays on in release builds: a broken invariant stops the process, and the
 * lease of its runs is taken over by another worker. */
#define HP_ASSERT(cond) \
	do { \
		if (__builtin_expect(!(cond), 0)) \
			hp_assert_failed(#cond, __FILE__, __LINE__); \
	} while (0)
void hp_assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#endif
