/* setup.h: what a start does with the database before any worker: migrate, deploy
 * the workflows, make the local administrator's token. Each may be done again
 * at every start and changes nothing that is as it should be. */
#ifndef HP_RUNTIME_SETUP_H
#define HP_RUNTIME_SETUP_H

#include <ev.h>
#include <stdbool.h>
#include "base/error.h"
#include "runtime/place.h"
#include "store/store.h"

struct hp_setup {
	struct ev_loop *loop;        /* turned while waiting, so signals are heard */
	const bool *stop;            /* set by a signal: give up */
	const struct hp_place *place;
	const char *database;        /* as holdpoint_engine */
	const char *admin_database;  /* for migrations */
	bool pooled;
	bool wallet;                 /* the booking company's tables too */
	const char *roles;           /* of the local administrator, comma-separated */
};

/* Frees a store and turns the loop until all its open calls were answered, so that
 * what their callbacks point to may go. */
void hp_store_close(struct hp_store *store, struct ev_loop *loop);

int hp_setup_migrate(const struct hp_setup *s, struct hp_error *err) HP_MUST_CHECK;
/* Deploys every workflow whose digest is not current. One that does not pass the
 * checks is refused with its findings in the log; what was deployed before stays. */
int hp_setup_deploy(const struct hp_setup *s, struct hp_error *err) HP_MUST_CHECK;
/* data/token, 0600, if it is not there. */
int hp_setup_token(const struct hp_setup *s, struct hp_error *err) HP_MUST_CHECK;

#endif
