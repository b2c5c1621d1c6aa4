/* net_pg.c: engine/net/pg.c against a real PostgreSQL: units, errors, lost connections,
 * deadlines, transactions, callbacks that close. Values are in net_pg_values.c.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_pg_world.h"

/* --- units ------------------------------------------------------------------ */

START_TEST(many_units_answer_in_order)
{
	enum { N = 200 };
	static struct seen s[N];
	int total = 0;
	for (int i = 0; i < N; i++) {
		struct hp_pg_unit *u = hp_pg_unit_new(pg);
		hp_pg_statement(u, "select 1");
		hp_pg_statement(u, "select $1::int8 * 2");
		hp_pg_bind_int(u, i);
		hp_pg_binary_results(u, i % 2 == 0);
		submit(u, &s[i]);
	}
	ck_assert_int_eq(hp_pg_in_flight(pg), N);
	run_until(&s[N - 1].calls, 1);
	for (int i = 0; i < N; i++) {
		total += s[i].calls;
		ck_assert_int_eq(s[i].outcome, HP_PG_OK);
		ck_assert_int_eq(s[i].n_results, 2);
		ck_assert_int_eq(s[i].value, i * 2);
	}
	ck_assert_int_eq(total, N);
	ck_assert_int_eq(hp_pg_in_flight(pg), 0);
	ck_assert_int_eq(ups, 1);
}
END_TEST

START_TEST(error_in_one_unit_leaves_others)
{
	struct seen a, b, c, count;
	must("create temp table t (v int8 unique)");
	submit_sql("insert into t values (1)", &a);
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "insert into t values (2)");
	hp_pg_statement(u, "insert into t values (1)");
	hp_pg_statement(u, "insert into t values (3)");
	submit(u, &b);
	submit_sql("insert into t values (4)", &c);
	run_until(&c.calls, 1);
	ck_assert_int_eq(a.outcome, HP_PG_OK);
	ck_assert_int_eq(b.outcome, HP_PG_FAILED);
	ck_assert_str_eq(b.sqlstate, "23505");
	ck_assert_int_eq(b.failed_statement, 1);
	ck_assert_int_eq(b.error.code, HP_E_CONFLICT);
	ck_assert_ptr_nonnull(strstr(b.error.message, "duplicate key"));
	ck_assert_int_eq(c.outcome, HP_PG_OK);
	run_sql("select string_agg(v::text, ',' order by v) from t", &count);
	ck_assert_str_eq(count.text, "1,4");
	ck_assert_int_eq(downs, 0);
}
END_TEST

START_TEST(failure_at_commit_is_a_failure)
{
	struct seen s, after;
	must("create temp table p (id int8 primary key)");
	must("create temp table c (id int8 references p deferrable initially deferred)");
	submit_sql("insert into c values (7)", &s);
	submit_sql("select count(*) from c", &after);
	run_until(&after.calls, 1);
	ck_assert_int_eq(s.outcome, HP_PG_FAILED);
	ck_assert_str_eq(s.sqlstate, "23503");
	ck_assert_int_eq(s.failed_statement, 1); /* behind the only statement: the commit */
	ck_assert_int_eq(after.outcome, HP_PG_OK);
	ck_assert_int_eq(after.value, 0);
	ck_assert_int_eq(downs, 0);
}
END_TEST

START_TEST(syntax_error_and_hint)
{
	struct seen s;
	run_sql("selec 1", &s);
	ck_assert_int_eq(s.outcome, HP_PG_FAILED);
	ck_assert_str_eq(s.sqlstate, "42601");
	ck_assert_int_eq(s.failed_statement, 0);
	run_sql("do $$ begin raise exception 'no' using hint = 'try yes', errcode = 'HP001'; end $$", &s);
	ck_assert_str_eq(s.sqlstate, "HP001");
	ck_assert_str_eq(s.error.message, "no");
	ck_assert_str_eq(s.error.hint, "try yes");
}
END_TEST

START_TEST(unusable_units_are_refused)
{
	struct hp_error err;
	ck_assert_int_eq(hp_pg_submit(NULL, on_done, NULL, &err), -1);
	ck_assert_int_eq(hp_pg_submit(hp_pg_unit_new(pg), on_done, NULL, &err), -1);
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "select $1::text");
	hp_pg_bind_textn(u, "a\0b", 3);
	ck_assert_int_eq(hp_pg_submit(u, on_done, NULL, &err), -1);
	ck_assert_int_eq(err.code, HP_E_INVALID);
	ck_assert_ptr_nonnull(strstr(err.message, "U+0000"));
	ck_assert_ptr_nonnull(strstr(err.message, "parameter"));
	ck_assert_int_eq(hp_pg_in_flight(pg), 0);
	hp_pg_unit_free(hp_pg_unit_new(pg));
	struct hp_pg_options o = {.conninfo = "no such thing=1 password=hunter2"};
	ck_assert_ptr_null(hp_pg_open(loop, &o, &err));
	ck_assert_ptr_null(strstr(err.message, "hunter2"));
}
END_TEST

START_TEST(copy_is_refused)
{
	struct seen s, next;
	must("create temp table t (v int8)");
	run_sql("copy t from stdin", &s);
	ck_assert_int_ne(s.outcome, HP_PG_OK);
	ck_assert_ptr_nonnull(strstr(s.error.message, "COPY"));
	run_sql("select 5", &next);
	ck_assert_int_eq(next.value, 5);
	run_sql("copy (select 1) to stdout", &s);
	ck_assert_int_ne(s.outcome, HP_PG_OK);
	run_sql("select 6", &next);
	ck_assert_int_eq(next.value, 6);
}
END_TEST

START_TEST(large_answers_while_sending)
{
	/* Both directions full at once: the classic pipeline deadlock. */
	enum { N = 30 };
	static struct seen s[N];
	static char big[1024 * 1024];
	memset(big, 'x', sizeof big - 1);
	for (int i = 0; i < N; i++) {
		struct hp_pg_unit *u = hp_pg_unit_new(pg);
		hp_pg_unit_deadline(u, 100000000);
		hp_pg_statement(u, "select $1::text");
		hp_pg_bind_text(u, big);
		submit(u, &s[i]);
	}
	run_until(&s[N - 1].calls, 1);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(s[i].outcome, HP_PG_OK);
}
END_TEST

/* --- breaks ------------------------------------------------------------------ */

/* Kills `pg`'s backend from a second connection. */
static void terminate_backend(int64_t pid)
{
	struct hp_pg *mine = pg;
	struct seen s;
	pg = open_with(conninfo, NULL);
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "select pg_terminate_backend($1::int8::int4)::int");
	hp_pg_bind_int(u, pid);
	submit(u, &s);
	run_until(&s.calls, 1);
	ck_assert_int_eq(s.value, 1);
	hp_pg_close(pg);
	pg = mine;
}

START_TEST(terminated_in_flight_is_lost_and_queued_survives)
{
	struct seen pid, slow, again[80];
	run_sql("select pg_backend_pid()", &pid);
	submit_sql("select pg_sleep(20)", &slow);
	for (int i = 0; i < 80; i++) /* more than fit in flight */
		submit_sql("select 5", &again[i]);
	terminate_backend(pid.value);
	run_until(&slow.calls, 1);
	ck_assert_int_eq(slow.outcome, HP_PG_LOST);
	ck_assert_int_eq(slow.error.code, HP_E_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(slow.error.message, "terminat"));
	run_until(&again[79].calls, 1);
	int lost = 0, ok = 0;
	for (int i = 0; i < 80; i++) {
		ck_assert_int_eq(again[i].calls, 1);
		lost += again[i].outcome == HP_PG_LOST;
		ok += again[i].outcome == HP_PG_OK && again[i].value == 5;
	}
	ck_assert_int_eq(lost, 63); /* with `slow` the 64 that were in flight */
	ck_assert_int_eq(ok, 17);
	ck_assert_int_eq(downs, 1);
	ck_assert_int_eq(slow.calls, 1);
}
END_TEST

START_TEST(terminated_idle_reconnects)
{
	struct seen pid, other;
	run_sql("select pg_backend_pid()", &pid);
	terminate_backend(pid.value);
	run_until(&downs, 1);
	run_sql("select pg_backend_pid()", &other);
	ck_assert_int_eq(other.outcome, HP_PG_OK);
	ck_assert_int_ne(other.value, pid.value);
}
END_TEST

START_TEST(drop_loses_what_was_sent)
{
	struct seen s, next;
	must("select 1");
	submit_sql("select 1", &s);
	hp_pg_drop(pg);
	ck_assert(!hp_pg_up(pg));
	ck_assert_int_eq(s.calls, 0);
	submit_sql("select 2", &next); /* queued while down */
	run_until(&next.calls, 1);
	ck_assert_int_eq(s.outcome, HP_PG_LOST);
	ck_assert_int_eq(s.calls, 1);
	ck_assert_int_eq(next.value, 2);
	ck_assert_int_eq(downs, 1);
}
END_TEST

START_TEST(deadline_of_a_sent_unit)
{
	struct seen s, next;
	must("select 1");
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_unit_deadline(u, 200000);
	hp_pg_statement(u, "select pg_sleep(20)");
	ev_tstamp before = ev_time();
	submit(u, &s);
	run_until(&s.calls, 1);
	ck_assert_int_eq(s.outcome, HP_PG_LOST);
	ck_assert_int_eq(s.error.code, HP_E_TIMEOUT);
	ck_assert(ev_time() - before > 0.15 && ev_time() - before < 2);
	run_sql("select 3", &next);
	ck_assert_int_eq(next.value, 3);
}
END_TEST

START_TEST(deadline_of_a_queued_unit)
{
	struct seen s;
	hp_pg_close(pg);
	pg = open_with("host=/nonexistent-socket-directory dbname=x", NULL);
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_unit_deadline(u, 500000);
	hp_pg_statement(u, "select 1");
	submit(u, &s);
	run_until(&s.calls, 1);
	ck_assert_int_eq(s.outcome, HP_PG_UNSENT);
	ck_assert_int_eq(s.error.code, HP_E_TIMEOUT);
	ck_assert_int_ge(downs, 2); /* it kept trying, and said so */
	ck_assert_int_le(downs, 6); /* but backed off */
	ck_assert_int_eq(ups, 0);
	ck_assert_ptr_nonnull(strstr(last_down, "nonexistent"));
}
END_TEST

START_TEST(second_host_is_tried)
{
	char both[2048], host[512] = "", rest[512] = "";
	PQconninfoOption *o = PQconninfoParse(conninfo, NULL);
	for (PQconninfoOption *p = o; p->keyword; p++) {
		if (!p->val)
			continue;
		if (!strcmp(p->keyword, "host"))
			snprintf(host, sizeof host, "%s", p->val);
		else
			snprintf(rest + strlen(rest), sizeof rest - strlen(rest), " %s='%s'", p->keyword, p->val);
	}
	PQconninfoFree(o);
	snprintf(both, sizeof both, "host='/nonexistent-socket-directory,%s' %s", host, rest);
	hp_pg_close(pg);
	pg = open_with(both, NULL);
	struct seen s;
	run_sql("select 4", &s);
	ck_assert_int_eq(s.value, 4);
	ck_assert_int_eq(downs, 0);
}
END_TEST

/* The connection's own socket to that port, or -1. */
static int socket_to(in_port_t port)
{
	struct sockaddr_in peer;
	for (int fd = 3; fd < 256; fd++) {
		/* one whose handshake is not over has no peer yet: it is known by its timeout */
		socklen_t n = sizeof peer;
		unsigned ms = 0;
		socklen_t ms_n = sizeof ms;
		if (getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &ms_n) != 0 || ms == 0)
			continue;
		if (getpeername(fd, (struct sockaddr *)&peer, &n) != 0 || peer.sin_port == port)
			return fd;
	}
	return -1;
}

static unsigned user_timeout(int fd)
{
	unsigned ms = 0;
	socklen_t n = sizeof ms;
	ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &n), 0);
	return ms;
}

START_TEST(a_host_that_does_not_answer_has_little_time)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), full[4], taken = -1;
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
	ck_assert_int_eq(listen(listener, 0), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&at, &n), 0);
	for (int i = 0; i < 4; i++) { /* its queue is full: the kernel drops who comes then */
		full[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(full[i], (struct sockaddr *)&at, sizeof at);
	}
	char info[128];
	snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=x dbname=x", ntohs(at.sin_port));
	hp_pg_close(pg);
	pg = open_with(info, NULL);
	double before = ev_time();
	while (socket_to(at.sin_port) < 0)
		ev_run(loop, EVRUN_ONCE);
	ck_assert_uint_eq(user_timeout(socket_to(at.sin_port)), 1500);
	run_until(&downs, 1);
	ck_assert(ev_time() - before > 1 && ev_time() - before < 2.5); /* the third packet would leave after 3 s */
	for (int i = 0; i < 4; i++)
		close(full[i]);
	char startup[8];
	ev_timer guard;
	ev_timer_init(&guard, on_guard, 100., 0.);
	ev_timer_start(loop, &guard);
	while (taken < 0 || recv(taken, startup, sizeof startup, MSG_DONTWAIT | MSG_PEEK) <= 0) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) { /* the newest: those before are of who filled the queue */
			if (taken >= 0)
				close(taken);
			taken = fd;
		}
		ev_run(loop, EVRUN_NOWAIT);
	}
	ev_timer_stop(loop, &guard);
	ck_assert_uint_eq(user_timeout(socket_to(at.sin_port)), 3000); /* who has answered has more */
	close(taken);
	close(listener);
}
END_TEST

START_TEST(setup_runs_on_each_connection)
{
	struct seen s;
	hp_pg_close(pg);
	pg = open_with(conninfo, "set search_path to pg_catalog; set statement_timeout to '7s'");
	run_sql("select current_setting('search_path') || current_setting('statement_timeout')"
		" || current_setting('application_name')", &s);
	ck_assert_str_eq(s.text, "pg_catalog7snet_pg test");
	must("set statement_timeout to '1s'");
	hp_pg_drop(pg);
	run_sql("show statement_timeout", &s);
	ck_assert_str_eq(s.text, "7s");
}
END_TEST

START_TEST(setup_that_fails_is_told)
{
	hp_pg_close(pg);
	pg = open_with(conninfo, "set no_such_setting to 1");
	run_until(&downs, 1);
	ck_assert_ptr_nonnull(strstr(last_down, "no_such_setting"));
	ck_assert_int_eq(ups, 0);
}
END_TEST

/* --- transactions over units -------------------------------------------------- */

START_TEST(transaction_over_units)
{
	struct seen s;
	must("create temp table t (v int8)");
	must("begin");
	must("insert into t values (1)");
	must("commit");
	must("begin");
	must("insert into t values (2)");
	must("rollback");
	run_sql("select sum(v) from t", &s);
	ck_assert_int_eq(s.value, 1);
}
END_TEST

START_TEST(failed_transaction_stays_aborted)
{
	struct seen s;
	must("create temp table t (v int8)");
	must("begin");
	must("insert into t values (1)");
	run_sql("select 1/0", &s);
	ck_assert_int_eq(s.outcome, HP_PG_FAILED);
	ck_assert_str_eq(s.sqlstate, "22012");
	run_sql("select 1", &s);
	ck_assert_str_eq(s.sqlstate, "25P02");
	run_sql(_i ? " END;" : "Commit", &s); /* the server says ROLLBACK, with success */
	ck_assert_int_eq(s.outcome, HP_PG_FAILED);
	ck_assert_str_eq(s.sqlstate, "25P02");
	run_sql("select count(*) from t", &s);
	ck_assert_int_eq(s.value, 0);
	must("begin");
	run_sql("select 1/0", &s);
	must("rollback");
	must("select 1");
}
END_TEST

START_TEST(transaction_never_continues_on_another_session)
{
	struct seen a, b, fresh;
	must("create table if not exists net_pg_t (v int8)");
	must("truncate net_pg_t");
	must("begin");
	must("insert into net_pg_t values (1)");
	hp_pg_drop(pg);
	/* The owner does not know yet, and goes on with his transaction. */
	submit_sql("insert into net_pg_t values (2)", &a);
	submit_sql("commit", &b);
	run_until(&b.calls, 1);
	ck_assert_int_eq(a.outcome, HP_PG_UNSENT);
	ck_assert_int_eq(b.outcome, HP_PG_UNSENT);
	run_sql("select count(*) from net_pg_t", &fresh);
	ck_assert_int_eq(fresh.outcome, HP_PG_OK);
	ck_assert_int_eq(fresh.value, 0);

	/* Nothing was under way when it broke, and the connection is back before
	 * the owner submits: a COMMIT must not succeed emptily. */
	must("begin");
	int before = ups;
	hp_pg_drop(pg);
	run_until(&ups, before + 1);
	run_sql("commit", &a);
	ck_assert_int_eq(a.outcome, HP_PG_UNSENT);
	must("select 1");
	must("drop table net_pg_t");
}
END_TEST

START_TEST(queued_part_of_a_transaction_is_not_run_elsewhere)
{
	enum { N = 70 };
	static struct seen s[N];
	must("begin");
	for (int i = 0; i < N; i++)
		submit_sql("select 1", &s[i]);
	hp_pg_drop(pg);
	for (int i = 0; i < N; i++) {
		run_until(&s[i].calls, 1);
		ck_assert_int_eq(s[i].outcome, i < 64 ? HP_PG_LOST : HP_PG_UNSENT);
	}
	must("select 1");
}
END_TEST

START_TEST(lost_inside_transaction_tells_once)
{
	struct seen a, b;
	must("begin");
	submit_sql("select 1", &a);
	hp_pg_drop(pg);
	run_until(&a.calls, 1);
	ck_assert_int_eq(a.outcome, HP_PG_LOST);
	run_sql("select 2", &b); /* the owner was told by LOST */
	ck_assert_int_eq(b.outcome, HP_PG_OK);
}
END_TEST

/* --- closing ------------------------------------------------------------------ */

static void close_in_callback(void *arg, const struct hp_pg_reply *r)
{
	on_done(arg, r);
	hp_pg_close(pg);
	hp_pg_close(pg); /* twice is once */
	struct hp_error err;
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "select 1");
	ck_assert_int_eq(hp_pg_submit(u, on_done, NULL, &err), -1);
	ck_assert_int_eq(err.code, HP_E_UNAVAILABLE);
}

START_TEST(close_inside_a_callback)
{
	enum { N = 100 };
	static struct seen s[N];
	struct hp_error err;
	must("select 1");
	for (int i = 0; i < N; i++) {
		if (i != 3) {
			submit_sql("select 1", &s[i]);
			continue;
		}
		struct hp_pg_unit *u = hp_pg_unit_new(pg);
		hp_pg_statement(u, "select 1");
		memset(&s[i], 0, sizeof s[i]);
		ck_assert_int_eq(hp_pg_submit(u, close_in_callback, &s[i], &err), 0);
	}
	run_until(&s[N - 1].calls, 1);
	for (int i = 0; i < N; i++) {
		ck_assert_int_eq(s[i].calls, 1);
		/* Each answer that came alone let one more of the queue go out. */
		if (i < 64 || i >= 67)
			ck_assert_int_eq(s[i].outcome, i <= 3 ? HP_PG_OK : i < 64 ? HP_PG_LOST : HP_PG_UNSENT);
		else
			ck_assert(s[i].outcome == HP_PG_LOST || s[i].outcome == HP_PG_UNSENT);
	}
	pg = NULL; /* closed; teardown's ev_run() frees it */
}
END_TEST

static void drop_in_callback(void *arg, const struct hp_pg_reply *r)
{
	on_done(arg, r);
	hp_pg_drop(pg);
}

START_TEST(drop_inside_a_callback)
{
	struct seen a, b;
	struct hp_error err;
	must("select 1");
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "select 1");
	memset(&a, 0, sizeof a);
	ck_assert_int_eq(hp_pg_submit(u, drop_in_callback, &a, &err), 0);
	submit_sql("select 2", &b);
	run_until(&b.calls, 1);
	ck_assert_int_eq(a.outcome, HP_PG_OK);
	ck_assert_int_eq(b.outcome, HP_PG_LOST);
	must("select 1");
}
END_TEST

START_TEST(close_while_connecting)
{
	struct seen s;
	submit_sql("select 1", &s);
	hp_pg_close(pg);
	pg = NULL;
	ck_assert_int_eq(s.calls, 0);
	run_until(&s.calls, 1);
	ck_assert_int_eq(s.outcome, HP_PG_UNSENT);
}
END_TEST

/* --- volume -------------------------------------------------------------------- */

#ifdef __SANITIZE_ADDRESS__
static const bool address_sanitizer = true;
#else
static const bool address_sanitizer = false;
#endif

/* The server has committed, and libpq has no memory for what it says. */
START_TEST(an_answer_without_memory_is_lost)
{
	struct rlimit before, tight;
	struct seen s, after;
	struct hp_error err;
	char line[256];
	long kb = 0;
	FILE *f = fopen("/proc/self/status", "re");

	must("create table if not exists public.no_memory (v int8)");
	must("truncate public.no_memory");
	while (fgets(line, sizeof line, f))
		(void)sscanf(line, "VmSize: %ld kB", &kb);
	fclose(f);
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "with w as (insert into public.no_memory values (1)) select * from generate_series(1, 2000000)");
	memset(&s, 0, sizeof s);
	ck_assert_int_eq(hp_pg_submit(u, on_done, &s, &err), 0);
	tight = (struct rlimit){(rlim_t)kb * 1024 + 32 * 1024 * 1024, before.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &tight), 0);
	run_until(&s.calls, 1);
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
	run_sql("select count(*) from public.no_memory", &after);
	ck_assert_int_eq(after.value, 1);
	ck_assert_msg(s.outcome == HP_PG_LOST, "outcome %d, sqlstate %s: %s", s.outcome, s.sqlstate, s.error.message);
}
END_TEST

static int answered;

static void count_answer(void *arg, const struct hp_pg_reply *r)
{
	ck_assert_int_eq(r->outcome, HP_PG_OK);
	ck_assert(hp_pg_int(r->results[0], 0, 0) == (int64_t)(intptr_t)arg);
	ck_assert_int_eq(answered, (int)(intptr_t)arg); /* in order */
	answered++;
}

START_TEST(ten_thousand_units)
{
	struct hp_error err;
	answered = 0;
	for (int i = 0; i < 10000; i++) {
		struct hp_pg_unit *u = hp_pg_unit_new(pg);
		hp_pg_statement(u, "select $1");
		hp_pg_bind_int(u, i);
		hp_pg_binary_results(u, true);
		ck_assert_int_eq(hp_pg_submit(u, count_answer, (void *)(intptr_t)i, &err), 0);
	}
	run_until(&answered, 10000);
	ck_assert_int_eq(hp_pg_in_flight(pg), 0);
	/* And beyond the maximum a submit says so. */
	for (int i = 0; i < 20000; i++) {
		struct hp_pg_unit *u = hp_pg_unit_new(pg);
		hp_pg_statement(u, "select 1");
		ck_assert_int_eq(hp_pg_submit(u, NULL, NULL, &err), 0);
	}
	struct hp_pg_unit *u = hp_pg_unit_new(pg);
	hp_pg_statement(u, "select 1");
	ck_assert_int_eq(hp_pg_submit(u, NULL, NULL, &err), -1);
	ck_assert_int_eq(err.code, HP_E_LIMIT);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("pg");

	tcase_add_test(t, many_units_answer_in_order);
	tcase_add_test(t, error_in_one_unit_leaves_others);
	tcase_add_test(t, failure_at_commit_is_a_failure);
	tcase_add_test(t, syntax_error_and_hint);
	tcase_add_test(t, unusable_units_are_refused);
	tcase_add_test(t, copy_is_refused);
	tcase_add_test(t, large_answers_while_sending);
	tcase_add_test(t, terminated_in_flight_is_lost_and_queued_survives);
	tcase_add_test(t, terminated_idle_reconnects);
	tcase_add_test(t, drop_loses_what_was_sent);
	tcase_add_test(t, deadline_of_a_sent_unit);
	tcase_add_test(t, deadline_of_a_queued_unit);
	tcase_add_test(t, second_host_is_tried);
	tcase_add_test(t, a_host_that_does_not_answer_has_little_time);
	tcase_add_test(t, setup_runs_on_each_connection);
	tcase_add_test(t, setup_that_fails_is_told);
	tcase_add_test(t, transaction_over_units);
	tcase_add_loop_test(t, failed_transaction_stays_aborted, 0, 2);
	tcase_add_test(t, transaction_never_continues_on_another_session);
	tcase_add_test(t, queued_part_of_a_transaction_is_not_run_elsewhere);
	tcase_add_test(t, lost_inside_transaction_tells_once);
	tcase_add_test(t, close_inside_a_callback);
	tcase_add_test(t, drop_inside_a_callback);
	tcase_add_test(t, close_while_connecting);
	tcase_add_test(t, ten_thousand_units);
	if (!address_sanitizer) /* which reserves more than any limit leaves */
		tcase_add_test(t, an_answer_without_memory_is_lost);
	return run_tests("net_pg", t);
}
