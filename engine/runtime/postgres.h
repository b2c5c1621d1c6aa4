/* postgres.h: the private PostgreSQL of an installation without --database.
 *
 * In data/postgres; reached through a unix socket in a directory only the service
 * user may enter (that directory is the credential: connections are not asked for
 * a password), no TCP; fsync on, checksums on. The postmaster is our direct child,
 * in a session of its own. It outlives a killed supervisor and is adopted by the
 * next one; it is never killed with SIGKILL.
 */
#ifndef HP_RUNTIME_POSTGRES_H
#define HP_RUNTIME_POSTGRES_H

#include <ev.h>
#include <limits.h>
#include <stdbool.h>
#include "base/error.h"
#include "runtime/place.h"

#define HP_DATABASE_NAME "holdpoint"

struct hp_postgres;

struct hp_postgres_options {
	struct ev_loop *loop;          /* the default loop */
	const struct hp_place *place;
	const char *bin;               /* directory of postgres and initdb; NULL: look for it */
	/* The postmaster is gone although nobody stopped it. */
	void (*on_death)(void *arg);
	/* After hp_postgres_stop(): it has ended. */
	void (*on_stopped)(void *arg);
	void *arg;
};

/* Makes the cluster if there is none; refuses one of another major version. */
struct hp_postgres *hp_postgres_new(const struct hp_postgres_options *o, struct hp_error *err);
/* Adopts the postmaster that runs already, or starts one. Does not wait. */
int hp_postgres_start(struct hp_postgres *p, struct hp_error *err) HP_MUST_CHECK;
enum hp_postgres_ready { HP_PG_STARTING, HP_PG_READY, HP_PG_GONE };
/* One look; `why` (may be NULL) gets what it says when it is not ready. */
enum hp_postgres_ready hp_postgres_ready(struct hp_postgres *p);
/* Once it is ready: makes sure it is ours, and that our database is there. */
int hp_postgres_check(struct hp_postgres *p, struct hp_error *err) HP_MUST_CHECK;
/* Fast shutdown; on_stopped tells the end. immediate: without a checkpoint (the
 * next start recovers). */
void hp_postgres_stop(struct hp_postgres *p, bool immediate);
bool hp_postgres_adopted(const struct hp_postgres *p);
pid_t hp_postgres_pid(const struct hp_postgres *p); /* 0: does not run */
/* Is there no room for another segment of WAL? Then it cannot even start. `where` gets the
 * directory that is full. */
bool hp_postgres_disk_full(const struct hp_postgres *p, char where[PATH_MAX]);
const char *hp_postgres_log(const struct hp_postgres *p);
/* libpq connection string for a role (holdpoint_engine, …); NULL: the superuser. */
int hp_postgres_conninfo(const struct hp_postgres *p, const char *role, char *out, size_t n,
			 struct hp_error *err) HP_MUST_CHECK;
void hp_postgres_free(struct hp_postgres *p); /* does not stop it */

#endif
