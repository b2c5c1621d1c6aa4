/* cutter.h: a unix-socket proxy before PostgreSQL, in the test's own loop, that
 * cuts a connection at a chosen statement: before the server sees it, or after
 * the server has done it but before the client hears of it. CUT_LATE delivers it
 * when the same statement comes again, just before that; CUT_MUTE leaves the
 * connection open and says nothing any more.
 */
#ifndef TESTS_CUTTER_H
#define TESTS_CUTTER_H

#include <ev.h>

enum cut { CUT_NOT, CUT_BEFORE, CUT_AFTER, CUT_LATE, CUT_MUTE };

struct cutter;

/* server_dir: where the server's socket .s.PGSQL.<port> is. */
struct cutter *cutter_open(struct ev_loop *loop, const char *server_dir, const char *port);
const char *cutter_dir(const struct cutter *c); /* for host= */
/* The next client bytes that contain `text` are cut, once. */
void cutter_arm(struct cutter *c, enum cut how, const char *text);
int cutter_cuts(const struct cutter *c);
void cutter_close(struct cutter *c);

#endif
