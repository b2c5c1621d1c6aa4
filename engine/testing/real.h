/* real.h: databases for `holdpoint test --real`: each test has one of its own.
 *
 * They are copies of one database that is migrated once, on a server that is thrown away
 * or may be: its superuser is needed. Time is a row in each of them: holdpoint.now_us()
 * is replaced by a function that reads it, so that the test decides what time it is.
 * now() of an author's statement stays PostgreSQL's own.
 */
#ifndef HP_TESTING_REAL_H
#define HP_TESTING_REAL_H

#include "base/error.h"
#include "testing/drive.h"

struct hp_real;

/* database: conninfo of a superuser. engine: the directory that has the engine's own
 * migrations in "holdpoint"; scopes: one with a directory for each further scope. Blocks. */
struct hp_real *hp_real_new(const char *database, const char *engine, const char *scopes, struct hp_error *err);
/* Drops what it made. NULL is fine. */
void hp_real_free(struct hp_real *r);

/* A new database for one test; seed: a file of SQL for the superuser, run if it is there.
 * *store lives until hp_real_close(). */
int hp_real_open(struct hp_real *r, const char *seed, struct hp_drive_store *store, struct hp_error *err) HP_MUST_CHECK;
void hp_real_close(struct hp_real *r);
/* SQL of the superuser in it. */
int hp_real_exec(struct hp_real *r, const char *sql, struct hp_error *err) HP_MUST_CHECK;

#endif
