/* secrets.h: values of secrets by name, resolved when a request is built.
 *
 * Looked for in this order: the table, when it has a current version of that name; a
 * file NAME in the secrets directory (content, one trailing newline removed; read
 * again when it changes); the file of NAME=value lines that belongs to the simulated
 * providers; the environment. The table comes first because a rotation writes there:
 * a forgotten variable must not outlive it. A version that none of our keys opens is
 * missing, not replaced by what a file says. A name is upper-case letters, digits and
 * underscores. Values never leave for a log.
 */
#ifndef HP_RUNTIME_SECRETS_H
#define HP_RUNTIME_SECRETS_H

#include "base/error.h"
#include "base/limits.h"

#define HP_SECRET_FILE_MAX 65536

struct hp_secrets;
struct hp_secret_table;

/* Either may be NULL. A directory or file that cannot be read is an error. */
struct hp_secrets *hp_secrets_new(const char *dir, const char *env_file, struct hp_error *err);
void hp_secrets_free(struct hp_secrets *s);
/* From now on the table is looked at, too. Borrowed. */
void hp_secrets_use_table(struct hp_secrets *s, struct hp_secret_table *table);
/* NULL: not configured. Valid until the next call for the same name, or the next turn
 * of the loop. */
const char *hp_secrets_get(struct hp_secrets *s, const char *name);
/* version as in hp_secret_table_get(); other versions than the current one are only
 * in the table. */
const char *hp_secrets_version(struct hp_secrets *s, const char *name, const char *version);
/* All values a signature may have been made with now, at most max. */
int hp_secrets_all(struct hp_secrets *s, const char *name, const char **out, int max);

#endif
