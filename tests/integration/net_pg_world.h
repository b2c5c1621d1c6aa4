/* net_pg_world.h: one connection to a scratch PostgreSQL and what its callbacks saw.
 *
 * HP_TEST_PG holds the conninfo of a scratch cluster where the user may create
 * tables and terminate backends, e.g.
 *   HP_TEST_PG="host=/tmp/pg.x port=5433 user=postgres dbname=postgres"
 */
#ifndef HP_TESTS_NET_PG_WORLD_H
#define HP_TESTS_NET_PG_WORLD_H

#include <check.h>
#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/pg.h"
#include "lib/suite.h"

static const char *conninfo;
static struct ev_loop *loop;
static struct hp_pg *pg;
static int ups, downs;
static char last_down[768];

/* What one unit's callback saw. */
struct seen {
	int calls;
	enum hp_pg_outcome outcome;
	char sqlstate[6];
	int failed_statement, n_results, rows;
	int64_t value; /* first column of the last result */
	char text[256];
	struct hp_error error;
};

static inline void on_state(void *arg, bool up, const struct hp_error *why)
{
	(void)arg;
	if (up)
		ups++;
	else
		downs++;
	if (!up) {
		ck_assert_ptr_nonnull(why);
		snprintf(last_down, sizeof last_down, "%s", why->message);
	}
}

static inline void on_done(void *arg, const struct hp_pg_reply *r)
{
	struct seen *s = arg;
	s->calls++;
	s->outcome = r->outcome;
	memcpy(s->sqlstate, r->sqlstate, sizeof s->sqlstate);
	s->failed_statement = r->failed_statement;
	s->n_results = r->n_results;
	s->error = r->error;
	if (r->outcome == HP_PG_OK && r->n_results > 0) {
		const PGresult *last = r->results[r->n_results - 1];
		s->rows = PQntuples(last);
		if (s->rows > 0 && PQnfields(last) > 0) {
			if (PQfformat(last, 0) == 0)
				snprintf(s->text, sizeof s->text, "%s", hp_pg_text(last, 0, 0));
			if (PQfformat(last, 0) == 0 || PQftype(last, 0) != 25)
				s->value = hp_pg_int(last, 0, 0);
		}
	}
}

static inline struct hp_pg *open_with(const char *info, const char *setup)
{
	struct hp_error err;
	struct hp_pg_options o = {
		.conninfo = info, .application = "net_pg test", .on_state = on_state, .setup_sql = setup};
	struct hp_pg *p = hp_pg_open(loop, &o, &err);
	if (!p)
		ck_abort_msg("hp_pg_open: %s", err.message);
	return p;
}

static inline void setup(void)
{
	loop = ev_loop_new(EVBACKEND_EPOLL);
	ups = downs = 0;
	last_down[0] = 0;
	pg = open_with(conninfo, NULL);
}

static inline void on_guard(struct ev_loop *l, ev_timer *w, int revents)
{
	(void)l, (void)w, (void)revents;
	ck_abort_msg("the loop waited 100 s for something that did not happen");
}

/* Runs the loop until *n reaches `want`. */
static inline void run_until(const int *n, int want)
{
	ev_timer guard;
	ev_timer_init(&guard, on_guard, 100., 0.);
	ev_timer_start(loop, &guard);
	while (*n < want)
		ev_run(loop, EVRUN_ONCE);
	ev_timer_stop(loop, &guard);
}

static inline void teardown(void)
{
	if (pg)
		hp_pg_close(pg);
	pg = NULL;
	ev_run(loop, 0); /* returns when no watcher is left: nothing leaks a timer */
	ev_loop_destroy(loop);
}

static inline void submit(struct hp_pg_unit *u, struct seen *s)
{
	struct hp_error err;
	memset(s, 0, sizeof *s);
	if (hp_pg_submit(u, on_done, s, &err) != 0)
		ck_abort_msg("hp_pg_submit: %s", err.message);
	ck_assert_int_eq(s->calls, 0); /* never from inside */
}

static inline void submit_sql(const char *sql, struct seen *s)
{
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, sql);
	submit(u, s);
}

static inline void run_sql(const char *sql, struct seen *s)
{
	submit_sql(sql, s);
	run_until(&s->calls, 1);
}

static inline void must(const char *sql)
{
	struct seen s;
	run_sql(sql, &s);
	if (s.outcome != HP_PG_OK)
		ck_abort_msg("%s: %s", sql, s.error.message);
}

static inline int run_tests(const char *name, TCase *t)
{
	conninfo = getenv("HP_TEST_PG");
	if (!conninfo || !*conninfo) {
		fprintf(stderr, "%s: HP_TEST_PG is not set. Start a scratch PostgreSQL and run again with\n"
				"  HP_TEST_PG=\"host=SOCKET_DIRECTORY port=PORT user=postgres dbname=postgres\"\n", name);
		return 1;
	}
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	return hp_run_case(name, t);
}

#endif
