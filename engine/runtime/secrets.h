/* secrets.h: values of secrets by name, resolved when a request is built.
 *
 * Looked for in this order: a file NAME in the secrets directory (content, one
 * trailing newline removed; read again when it changes), the file of NAME=value
 * lines that belongs to the simulated providers, the environment. A name is
 * upper-case letters, digits and underscores. Values never leave for a log.
 */
#ifndef HP_RUNTIME_SECRETS_H
#define HP_RUNTIME_SECRETS_H

#include "base/error.h"

#define HP_SECRET_MAX 8192
#define HP_SECRET_NAME_MAX 64
#define HP_SECRET_FILE_MAX 65536

struct hp_secrets;

/* Either may be NULL. A directory or file that cannot be read is an error. */
struct hp_secrets *hp_secrets_new(const char *dir, const char *env_file, struct hp_error *err);
void hp_secrets_free(struct hp_secrets *s);
/* NULL: not configured. Valid until the next call for the same name. */
const char *hp_secrets_get(struct hp_secrets *s, const char *name);

#endif
