/* bouncer.h: a pgbouncer in transaction mode before the cluster of a fixture. */
#ifndef TESTS_BOUNCER_H
#define TESTS_BOUNCER_H

#include <libpq-fe.h>

void bouncer_start(PGconn *super, int pool_size); /* one at a time; ended with the test */
const char *bouncer_dir(void); /* host of its socket; its port is 6432 */
void bouncer_stop(void);

#endif
