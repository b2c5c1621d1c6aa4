/* cluster.h: the files of the private PostgreSQL: binaries, data, sockets. */
#ifndef HP_RUNTIME_CLUSTER_H
#define HP_RUNTIME_CLUSTER_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"
#include "runtime/place.h"

#define HP_CLUSTER_PORT 5432 /* names the socket file; no TCP */
#define HP_CLUSTER_SUPERUSER "holdpoint"

struct hp_cluster {
	const struct hp_place *place;
	char dir[PATH_MAX];    /* data/postgres */
	char logs[PATH_MAX];   /* data/log */
	char log[PATH_MAX];    /* what is said before PostgreSQL's own log is open */
	char socket[PATH_MAX]; /* directory */
	char bin[PATH_MAX];
	int major;
};

/* Finds all of it; makes the cluster if there is none. Interrupted half-way, it is
 * made anew; a complete one is never touched, whatever its version. */
int hp_cluster_prepare(struct hp_cluster *c, const struct hp_place *place, const char *bin,
		       struct hp_error *err) HP_MUST_CHECK;
/* The postmaster that serves this cluster now; 0: none; -1: something is in the way. */
pid_t hp_cluster_running(const struct hp_cluster *c, struct hp_error *err) HP_MUST_CHECK;

/* Bytes that may still be written where the tables are or where the WAL is, whichever
 * is less; `where` gets that directory. -1: it cannot be found out. */
int64_t hp_cluster_room(const struct hp_cluster *c, char where[PATH_MAX]);

#endif
