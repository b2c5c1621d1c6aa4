/* simulated.h: what the supervisor keeps of its simulated providers between two
 * starts: the port each one listens on, and secrets in the providers' formats.
 * All under data/simulated, for the service user only. */
#ifndef HP_RUNTIME_SIMULATED_H
#define HP_RUNTIME_SIMULATED_H

#include "base/error.h"
#include "runtime/place.h"

#define HP_SIMULATED_MAX 8

struct hp_simulated {
	char name[32];
	int listen_fd;
	int port;
	char state[PATH_MAX]; /* NAME.json */
};

/* names: "stripe,duffel,resend". Binds the ports of last time (new ones if they
 * are taken), makes missing secrets; secrets_env gets the path of their file.
 * Returns the number or -1. */
int hp_simulated_prepare(const struct hp_place *p, const char *names, struct hp_simulated out[HP_SIMULATED_MAX],
			 char secrets_env[PATH_MAX], struct hp_error *err) HP_MUST_CHECK;

#endif
