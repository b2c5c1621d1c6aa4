/* secret_table.h: the secrets of the table, opened, in this process's memory.
 *
 * Values are sealed here before they reach the database, and opened here after they
 * were read (base/seal.h); the keys come from a file. Heartbeats say whether anything
 * has changed (a small query does where they are rarer than HP_SECRETS_LOOK), and the
 * values are read only when it has: a request costs no query, and a change is seen
 * everywhere within five seconds. So is a change of the file of keys.
 */
#ifndef HP_RUNTIME_SECRET_TABLE_H
#define HP_RUNTIME_SECRET_TABLE_H

#include <ev.h>
#include <jansson.h>
#include <sys/stat.h>
#include "base/limits.h"
#include "base/seal.h"
#include "runtime/counters.h"
#include "store/store.h"

struct hp_secret_table;

struct hp_secret_table_options {
	struct ev_loop *loop;
	struct hp_store *store;
	const char *key_file;        /* mode 600 or 400; copied */
	struct hp_counters *counters; /* NULL: none */
	void (*on_ready)(void *arg); /* once: the table has been read */
	void *arg;
};

struct hp_secret_table *hp_secret_table_new(const struct hp_secret_table_options *o, struct hp_error *err);
/* Reads again and again until it has an answer, then looks for changes. */
void hp_secret_table_start(struct hp_secret_table *t);
/* Something was changed through this process: look now. */
void hp_secret_table_look(struct hp_secret_table *t);
/* The same; cb is called when what was changed before this call is known, or cannot be
 * read now. */
void hp_secret_table_look_then(struct hp_secret_table *t, void (*cb)(void *arg), void *arg);
/* Deaf from here on: who waits is told, but answers may still be on their way until the
 * store is closed. */
void hp_secret_table_close(struct hp_secret_table *t);
void hp_secret_table_free(struct hp_secret_table *t);

/* version: NULL or "current", "pending" (the newest), "previous", or a number. NULL:
 * there is none, or none of our keys opens it; *known (may be NULL) tells the two
 * apart. Valid until the next turn of the loop. */
const char *hp_secret_table_get(const struct hp_secret_table *t, const char *name, const char *version, bool *known);
/* All that a signature may have been made with: current, previous, pending. */
int hp_secret_table_all(const struct hp_secret_table *t, const char *name, const char **out, int max);
/* Which live version has this value; 0: none. In constant time in the content. */
int64_t hp_secret_table_which(const struct hp_secret_table *t, const char *name, struct hp_bytes value);

/* A new version of a secret: takes its number from the database and seals the value
 * for it. doc (borrowed): {"op":"put","name","version","sealed","key_id","fingerprint"},
 * what the door secret_put and a run's annex take. value is copied. A database that does
 * not answer is asked again for a while: the value may be one that is said only once. */
typedef void (*hp_secret_made_cb)(void *arg, json_t *doc, const struct hp_error *err);
void hp_secret_table_make(struct hp_secret_table *t, const char *name, struct hp_bytes value, hp_secret_made_cb cb,
			  void *arg);
/* Seals again, with the first key, all that other keys have sealed. JSON:
 * {"resealed":n,"unreadable":n,"key_id":"…"}. */
void hp_secret_table_rekey(struct hp_secret_table *t, const char *principal, hp_door_cb cb, void *arg);

/* Reads a file of keys: refused when others may read it. *what (may be NULL) says which
 * file it was: another may have been put in its place since. */
int hp_seal_keys_read(const char *path, struct hp_seal_keys *k, struct stat *what, struct hp_error *err) HP_MUST_CHECK;

#endif
