/* supervisor.h: `holdpoint serve`: one installation on one machine.
 *
 * Holds the lock of the data directory, the listening socket, and, unless a
 * database is named, a private PostgreSQL; keeps N workers (and the simulated
 * providers that were asked for) alive; does no work of its own.
 *
 * Ends in this order: workers drain, providers, PostgreSQL. A second signal ends
 * everything at once. If the supervisor itself is killed, workers and providers
 * notice and end; PostgreSQL stays, and the next start adopts it.
 */
#ifndef HP_RUNTIME_SUPERVISOR_H
#define HP_RUNTIME_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include "runtime/place.h"

struct hp_serve_options {
	struct hp_place_options place;
	const char *listen;         /* NULL: 127.0.0.1:8080 */
	int workers;                /* 0: 1 */
	const char *database;       /* as holdpoint_engine; NULL: private */
	const char *sql_database;   /* as holdpoint_workflow */
	const char *admin_database; /* for migrations; NULL: database */
	bool pooled;
	const char *postgres_bin;
	const char *simulated;      /* "stripe,duffel,resend,dns"; NULL: none */
	const char *secrets_dir;
	const char *secrets_key;    /* NULL: with a private database one of its own, else none */
	const char *roles;          /* of the local administrator */
	const char *log;            /* level for the workers */
	int slots;
	int64_t lease_us, drain_us, poll_us;
	bool echo, separate_admission; /* bench and tests */
	const char *const *base_urls;  /* "NAME=URL"; bench and tests */
	int n_base_urls;
};

/* Until it ends; the exit code. err is filled when it could not start. */
int hp_supervisor_run(const struct hp_serve_options *o, struct hp_error *err);

#endif
