/* direct.c: one store call at a time, on a loop of its own. */
#include "cli/direct.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "net/pg.h"

#define CONNECT_TIME 10.0 /* seconds */
#define LOOK_EVERY 0.02

struct cli_direct {
	struct ev_loop *loop;
	struct hp_store *store;
	ev_timer look;
	int64_t until;
	json_t **reply;
	struct hp_error *err;
	int rc;
	char principal[96];
};

/* The store connects in the background and says so only when asked. */
static void on_look(struct ev_loop *loop, ev_timer *t, int events)
{
	struct cli_direct *d = t->data;

	(void)events;
	if (d->store->ops->up(d->store) || hp_boottime_us() > d->until)
		ev_break(loop, EVBREAK_ONE);
}

/* One try by libpq itself: it says at once, and in words, what is wrong, where the
 * store would try again and again. */
static int try_once(const char *conninfo, struct hp_error *err)
{
	PGconn *pg = PQconnectdb(conninfo);
	bool good = pg && PQstatus(pg) == CONNECTION_OK;
	const char *why = pg ? PQerrorMessage(pg) : "no memory";

	if (!good)
		(void)hp_fail(err, HP_E_UNAVAILABLE, "cannot connect to the database: %.*s",
			      (int)strcspn(why, "\n"), why);
	if (pg)
		PQfinish(pg);
	return good ? 0 : hp_error_hint(err, "--database takes a libpq connection string: "
					     "'host=… user=holdpoint_engine dbname=…'.");
}

struct cli_direct *cli_direct_open(const char *conninfo, struct hp_error *err)
{
	struct cli_direct *d = hp_calloc(1, sizeof *d);
	struct hp_store_pg_options o = { .conninfo = conninfo, .application = "holdpoint cli" };
	const struct passwd *pw = getpwuid(geteuid());

	if (!d) {
		(void)hp_fail(err, HP_E_NOMEM, "no memory");
		return NULL;
	}
	hp_log_init("cli", HP_ERROR);
	if (try_once(conninfo, err) < 0) {
		cli_direct_free(d);
		return NULL;
	}
	(void)snprintf(d->principal, sizeof d->principal, "cli:%.80s", pw ? pw->pw_name : "unknown");
	d->loop = ev_loop_new(EVFLAG_AUTO);
	d->store = d->loop ? hp_store_pg_new(d->loop, &o, err) : NULL;
	if (!d->store) {
		if (!d->loop)
			(void)hp_fail(err, HP_E_IO, "no event loop");
		cli_direct_free(d);
		return NULL;
	}
	d->until = hp_boottime_us() + (int64_t)(CONNECT_TIME * 1e6);
	ev_timer_init(&d->look, on_look, 0., LOOK_EVERY);
	d->look.data = d;
	ev_timer_start(d->loop, &d->look);
	ev_run(d->loop, 0);
	ev_timer_stop(d->loop, &d->look);
	if (d->store->ops->up(d->store))
		return d;
	(void)hp_fail(err, HP_E_TIMEOUT, "the database does not answer");
	cli_direct_free(d);
	return NULL;
}

void cli_direct_free(struct cli_direct *d)
{
	if (!d)
		return;
	if (d->store) {
		d->store->ops->free(d->store);
		(void)ev_run(d->loop, EVRUN_NOWAIT); /* connections go in the turn after they are closed */
	}
	if (d->loop)
		ev_loop_destroy(d->loop);
	hp_free(d);
}

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *failed)
{
	struct cli_direct *d = arg;

	ev_break(d->loop, EVBREAK_ONE);
	if (failed) {
		*d->err = *failed;
		return;
	}
	*d->reply = hp_json_parse(json.p, json.n, "answer", d->err);
	d->rc = *d->reply ? 0 : -1;
}

int cli_direct_door(struct cli_direct *d, const char *door, const json_t *args, json_t **reply,
		    struct hp_error *err)
{
	struct hp_buf b;

	hp_buf_init(&b, 1024 * 1024);
	d->reply = reply;
	d->err = err;
	d->rc = hp_json_write(&b, args, err);
	if (d->rc == 0) {
		d->rc = -1;
		d->store->ops->door(d->store, door, d->principal, hp_buf_bytes(&b), on_door, d);
		ev_run(d->loop, 0);
	}
	hp_buf_free(&b);
	return d->rc;
}

static void on_deployed(void *arg, int64_t now, const struct hp_error *failed)
{
	struct cli_direct *d = arg;

	(void)now;
	ev_break(d->loop, EVBREAK_ONE);
	d->rc = failed ? -1 : 0;
	if (failed)
		*d->err = *failed;
}

int cli_direct_deploy(struct cli_direct *d, const struct hp_bundle *b, struct hp_error *err)
{
	d->err = err;
	d->store->ops->deploy(d->store, b, on_deployed, d);
	ev_run(d->loop, 0);
	return d->rc;
}
