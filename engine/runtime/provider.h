/* provider.h: a simulated provider as a process: a fake of script/ behind our own
 * HTTP server, its state on disk, its webhooks signed and delivered.
 *
 * The state is durable before an answer leaves, so a provider that is killed at
 * any point comes back knowing all it ever acknowledged. */
#ifndef HP_RUNTIME_PROVIDER_H
#define HP_RUNTIME_PROVIDER_H

#include <ev.h>
#include "base/error.h"

struct hp_provider;

struct hp_provider_options {
	struct ev_loop *loop;
	const char *name;        /* plugins/NAME/fake.lua */
	const char *plugins_dir;
	const char *state;       /* file; NULL: nothing is kept */
	int listen_fd;
	const char *deliver;     /* "http://127.0.0.1:8080": webhooks go to its
				  * /api/webhooks/SOURCE; NULL: they stay in the outbox */
	const char *secrets_dir, *secrets_env;
};

struct hp_provider *hp_provider_new(const struct hp_provider_options *o, struct hp_error *err);
void hp_provider_free(struct hp_provider *p);

#endif
