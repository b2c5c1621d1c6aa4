/* testing_private.h: what the files of `test` share.
 *
 *   test.c      a file: loading it, its workflow, one test after the other
 *   words.c     the words that act: start, approve, pass, …
 *   expect.c    the words that look: expect, equal, refused, run
 *   answers.c   reply and sql: what the world will say, and saying it
 *   match.c     is this JSON as expected?
 *   fakes.c     --real: simulated providers, and answers that PostgreSQL gave
 *   real.c      --real: a database for each test; knows no Lua
 *   drive.c …   the world itself, which knows no Lua
 *
 * A Lua error must not jump over the drive or the store: the author's functions are
 * called under lua_pcall there, and what they raised is raised again by the word
 * that began it, when everything below has returned.
 */
#ifndef HP_TESTING_PRIVATE_H
#define HP_TESTING_PRIVATE_H

#include <lauxlib.h>
#include <lua.h>
#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "script/lualib.h"
#include "script/sandbox.h"
#include "testing/drive.h"
#include "testing/test.h"

#define TEST_ANSWERS_MAX 2000
#define TEST_TEXT_MAX 400  /* of a value shown in a failure */
#define TEST_TIME_MAX (2 * INT64_C(1000000)) /* CPU of one test, its engine included */
#define TEST_EPOCH (INT64_C(1767225600) * 1000000) /* 2026-01-01T00:00:00Z: every test begins there */

/* ---- match.c ---- */
struct mismatch {
	char where[200];               /* "effects[1].key" */
	char expected[TEST_TEXT_MAX], actual[TEST_TEXT_MAX];
};
/* Objects: the members named; arrays: every element; {"$any"}, … see words.c. */
bool hp_t_match(const json_t *expected, const json_t *actual, const char *where, struct mismatch *m);
void hp_t_text(const json_t *v, char out[TEST_TEXT_MAX]); /* NULL: "nothing" */

/* ---- one answer of the world ---- */
struct answer {
	char target[2 * HP_NAME_MAX + 2]; /* operation, state of kind sql, or "child NAME" */
	bool sql, sweep;
	int line;
	json_t *value;  /* kept by t->kept; NULL: a function */
	int function;   /* registry reference */
	bool used;
};

#define TEST_FAKES_MAX 32

struct test_fake {
	char name[HP_NAME_MAX + 1];
	struct hp_fake *fake;
};

struct tester {
	const char *path;          /* of the test file, as given */
	const struct hp_test_options *o;
	struct hp_sandbox *s;
	struct hp_workflow *w;
	struct hp_buf source, bundle, summary;
	char workflow[4096];       /* its file */
	int file_ref;              /* what the file returned */
	int n_tests;

	/* the test that runs */
	struct hp_drive *d;
	lua_State *L;
	json_t *kept;              /* values that live until its end */
	json_t *empty;             /* a list without elements */
	struct answer *answers;
	int n_answers;
	struct test_fake fakes[TEST_FAKES_MAX];
	int n_fakes;
	int looks;                 /* expectations met */
	bool skipped;              /* in_memory, and this is --real */
	bool failed;
	int failed_line;
	struct hp_buf message;
	char expected[TEST_TEXT_MAX], actual[TEST_TEXT_MAX];
	bool compared;
	int pcall_status;          /* of an author's function that was stopped by force */
};
struct tester *hp_t_of(lua_State *L);

/* ---- words.c ---- */
void hp_t_words(lua_State *L, int env);
/* Line of the innermost Lua function of the test file; 0: none. */
int hp_t_line(lua_State *L);
/* Records the failure (the first one counts) at that line. */
void hp_t_failed(struct tester *t, int line, const char *fmt, ...) HP_PRINTF(3, 4);
/* … and raises it. */
int hp_t_raise(lua_State *L, struct tester *t);
/* rc of a door: raises what went wrong. */
void hp_t_check(lua_State *L, struct tester *t, int rc, const struct hp_error *err);
/* Message handler: records an error that nobody caught. */
int hp_t_on_error(lua_State *L);
/* The value as JSON, kept until the test ends. May raise. */
json_t *hp_t_json(lua_State *L, struct tester *t, int index);
/* Refuses a table's unknown members. */
void hp_t_only(lua_State *L, int index, const char *word, const char *const *allowed, size_t n);

/* ---- expect.c ---- */
int hp_t_expect(lua_State *L);
int hp_t_equal(lua_State *L);
int hp_t_refused(lua_State *L);
int hp_t_run(lua_State *L);

/* ---- answers.c ---- */
int hp_t_reply(lua_State *L);
int hp_t_sql(lua_State *L);
int hp_t_child(lua_State *L);
int hp_t_on_send(void *arg, const struct hp_drive_send *s, struct hp_buf *out, struct hp_event *ev,
		 struct hp_error *err);
int hp_t_on_sql(void *arg, const struct hp_state *state, const json_t *args, struct hp_sql_rows *rows,
		struct hp_error *err);
int hp_t_on_child(void *arg, const struct hp_drive_child *c, struct hp_buf *out, struct hp_event *ev,
		  struct hp_error *err);
/* The next answer for the target; *out NULL: there is none. */
int hp_t_next_answer(struct tester *t, const char *target, bool sql, const json_t *seen, const json_t **out,
		     struct hp_error *err);
/* Fails the test when one was never asked for. */
void hp_t_unused(struct tester *t);

/* ---- fakes.c ---- */
int hp_t_ask_fake(struct tester *t, const struct hp_drive_send *s, struct hp_buf *out, struct hp_event *ev,
		  struct hp_error *err);
void hp_t_drop_fakes(struct tester *t);
/* A statement was run: it fails the test when that is not what it says. */
int hp_t_on_ran(void *arg, const struct hp_state *state, const json_t *args, const struct hp_event *is,
		struct hp_error *err);

#endif
