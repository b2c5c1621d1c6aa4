/* bench.c: the figures of `make bench`, measured beside their baseline.
 *
 *   bench baseline CONNINFO SECONDS     one row per commit, one connection:
 *                                       insert into steps + update of runs, as the
 *                                       plainest durable engine would write them
 *   bench runs CONNINFO WORKFLOW N      enqueues N runs, waits until none is open,
 *                                       prints how long the engine took
 *   bench latency CONNINFO WORKFLOW N   starts runs one by one through the SQL door
 *                                       and reads from history how long each waited
 *                                       for its first admission
 *
 * Prints one line `name value` per figure on standard output; scripts/bench.sh
 * puts them together. Nothing here is part of the engine: plain blocking libpq.
 */
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define RUN_DEADLINE_S 300.0

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Between two looks; nothing is decided by how long it takes. */
static void pause_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench: %s: %s\n", what, why);
	exit(1);
}

static PGconn *open_db(const char *conninfo)
{
	PGconn *c = PQconnectdb(conninfo);

	if (PQstatus(c) != CONNECTION_OK)
		die("cannot connect", PQerrorMessage(c));
	return c;
}

static PGresult *query(PGconn *c, const char *sql, int n, const char *const *args)
{
	PGresult *r = PQexecParams(c, sql, n, NULL, args, NULL, NULL, 0);
	ExecStatusType s = PQresultStatus(r);

	if (s != PGRES_TUPLES_OK && s != PGRES_COMMAND_OK)
		die(sql, PQerrorMessage(c));
	return r;
}

static int64_t number(PGconn *c, const char *sql, int n, const char *const *args)
{
	PGresult *r = query(c, sql, n, args);
	int64_t v = PQntuples(r) ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : 0;

	PQclear(r);
	return v;
}

/* The plainest durable engine: per transition one transaction with one row into
 * the history and one update of the run's row; prepared, on one connection. */
static int baseline(const char *conninfo, double limit)
{
	static const char *const setup[] = {
		"create schema bench",
		"create table bench.run (id bigint primary key, state int not null, visit int not null, "
		"epoch int not null, status smallint not null) with (fillfactor = 70)",
		"create table bench.step (run_id bigint not null, visit int not null, state int not null, "
		"at timestamptz not null default now(), outcome smallint not null, primary key (run_id, visit))",
		"insert into bench.run select g, 0, 0, 1, 1 from generate_series(1, 1000) g",
	};
	PGconn *c = open_db(conninfo);
	double start, end;
	long n = 0;

	for (size_t i = 0; i < sizeof setup / sizeof setup[0]; i++)
		PQclear(query(c, setup[i], 0, NULL));
	PQclear(PQprepare(c, "t",
			  "with u as (update bench.run set visit = visit + 1, state = state + 1 "
			  "where id = $1 and visit = $2 and epoch = 1 returning id, visit, state) "
			  "insert into bench.step (run_id, visit, state, outcome) select id, visit, state, 0 from u",
			  2, NULL));
	start = seconds();
	do {
		char id[24], visit[24];
		const char *args[2] = { id, visit };
		PGresult *r;

		snprintf(id, sizeof id, "%ld", n % 1000 + 1);
		snprintf(visit, sizeof visit, "%ld", n / 1000);
		r = PQexecPrepared(c, "t", 2, args, NULL, NULL, 0);
		if (PQresultStatus(r) != PGRES_COMMAND_OK || strcmp(PQcmdTuples(r), "1") != 0)
			die("baseline", PQerrorMessage(c));
		PQclear(r);
		n++;
		end = seconds();
	} while (end - start < limit);
	PQclear(query(c, "set client_min_messages = warning", 0, NULL));
	PQclear(query(c, "drop schema bench cascade", 0, NULL));
	printf("baseline_commits_per_second %.0f\n", (double)n / (end - start));
	PQfinish(c);
	return 0;
}

static int runs(const char *conninfo, const char *workflow, const char *count)
{
	PGconn *c = open_db(conninfo);
	const char *args[2] = { workflow, count };
	double queued, start = seconds(), now;
	int64_t first, last, moves, ended, wal;

	PQclear(query(c, "select pg_current_wal_lsn()", 0, NULL));
	first = number(c, "select coalesce(max(id), 0) + 1 from holdpoint.run", 0, NULL);
	PQclear(query(c, "create temp table wal as select pg_current_wal_lsn() at", 0, NULL));
	number(c, "select count(holdpoint.start($1, '{}')) from generate_series(1, $2::int)", 2, args);
	queued = seconds();
	do {
		pause_us(5000);
		now = seconds();
		if (now - start > RUN_DEADLINE_S)
			die("runs", "not all runs ended within the deadline");
	} while (number(c, "select count(*) from (select from holdpoint.ready limit 1) r", 0, NULL) > 0);
	last = number(c, "select max(id) from holdpoint.run", 0, NULL);
	{
		char a[24], b[24];
		const char *range[2] = { a, b };

		snprintf(a, sizeof a, "%lld", (long long)first);
		snprintf(b, sizeof b, "%lld", (long long)last);
		ended = number(c, "select count(*) from holdpoint.run_state where run_id between $1 and $2 and status = 4",
			       2, range);
		moves = number(c, "select count(*) from holdpoint.history where run_id between $1 and $2 and rev > 0",
			       2, range);
		wal = number(c, "select pg_wal_lsn_diff(pg_current_wal_lsn(), at)::bigint from wal", 0, NULL);
	}
	if (ended != strtoll(count, NULL, 10))
		die("runs", "not every run succeeded");
	printf("runs %s\nseconds %.3f\nenqueue_per_second %.0f\nruns_per_second %.0f\ntransitions %lld\n"
	       "transitions_per_second %.0f\nwal_bytes_per_run %.0f\n",
	       count, now - queued, strtod(count, NULL) / (queued - start), strtod(count, NULL) / (now - queued),
	       (long long)moves, (double)moves / (now - queued), (double)wal / strtod(count, NULL));
	PQfinish(c);
	return 0;
}

static int latency(const char *conninfo, const char *workflow, int n)
{
	PGconn *c = open_db(conninfo);
	const char *args[1] = { workflow };
	char since[24];
	const char *range[1] = { since };
	PGresult *r;

	snprintf(since, sizeof since, "%lld",
		 (long long)number(c, "select coalesce(max(id), 0) from holdpoint.run", 0, NULL));
	for (int i = 0; i < n; i++) {
		number(c, "select holdpoint.start($1, '{}')", 1, args);
		pause_us(20000); /* one at a time: an idle engine is what is measured */
	}
	pause_us(1000000);
	r = query(c,
		  "select percentile_disc(array[0.5, 0.95, 0.99]) within group (order by d), count(*) from ("
		  "select min(h.at) filter (where h.flags & 1 = 1) - min(h.at) filter (where h.rev = 0) d "
		  "from holdpoint.history h where h.run_id > $1 group by h.run_id) x where d is not null",
		  1, range);
	printf("start_latency_us_p50_p95_p99 %s\nstart_latency_samples %s\n", PQgetvalue(r, 0, 0),
	       PQgetvalue(r, 0, 1));
	PQclear(r);
	PQfinish(c);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "baseline") == 0)
		return baseline(argv[2], strtod(argv[3], NULL));
	if (argc == 5 && strcmp(argv[1], "runs") == 0)
		return runs(argv[2], argv[3], argv[4]);
	if (argc == 5 && strcmp(argv[1], "latency") == 0)
		return latency(argv[2], argv[3], (int)strtol(argv[4], NULL, 10));
	fprintf(stderr, "usage: bench baseline CONNINFO SECONDS | runs CONNINFO WORKFLOW N | latency CONNINFO WORKFLOW N\n");
	return 2;
}
