/* store_pooled.c: the store through pgbouncer in transaction mode, with fewer
 * server sessions than the store has connections.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char summary[] = "{\"states\":[{\"name\":\"record\",\"kind\":\"sql\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

static struct fx f;
static char dir[64];
static pid_t bouncer;

static void write_file(const char *name, const char *text, uid_t uid, gid_t gid)
{
	char path[128];
	FILE *o;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	o = fopen(path, "w");
	ck_assert_ptr_nonnull(o);
	fputs(text, o);
	fclose(o);
	ck_assert_int_eq(chown(path, uid, gid), 0);
}

/* As the account that owns the server's socket: pgbouncer refuses root, and others
 * may not enter that directory. */
static void start_bouncer(void)
{
	char ini[1024], path[128];
	struct stat st;

	ck_assert_int_eq(stat(PQhost(f.super), &st), 0);
	snprintf(dir, sizeof dir, "/tmp/hp-pooled.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chown(dir, st.st_uid, st.st_gid), 0);
	snprintf(ini, sizeof ini,
		 "[databases]\n* = host=%s port=%s\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = %s\n"
		 "listen_port = 6432\nauth_type = trust\nauth_file = %s/users\npool_mode = transaction\n"
		 "default_pool_size = 2\nlogfile = %s/log\n",
		 PQhost(f.super), PQport(f.super), dir, dir, dir);
	write_file("ini", ini, st.st_uid, st.st_gid);
	write_file("users", "\"holdpoint_engine\" \"\"\n\"holdpoint_workflow\" \"\"\n", st.st_uid, st.st_gid);
	snprintf(path, sizeof path, "%s/ini", dir);
	bouncer = fork();
	ck_assert_int_ge(bouncer, 0);
	if (bouncer == 0) {
		if (geteuid() == 0 && (setgid(st.st_gid) != 0 || setuid(st.st_uid) != 0))
			_exit(127);
		prctl(PR_SET_PDEATHSIG, SIGINT); /* a failed test leaves nothing running */
		execlp("pgbouncer", "pgbouncer", "-q", path, (char *)NULL);
		execl("/usr/sbin/pgbouncer", "pgbouncer", "-q", path, (char *)NULL);
		_exit(127);
	}
}

static void stop_bouncer(void)
{
	char command[128];
	int status;

	kill(bouncer, SIGINT);
	ck_assert_int_eq(waitpid(bouncer, &status, 0), bouncer);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static void open_pooled(void)
{
	char info[700];
	struct hp_store *direct;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_sql(&f, "create table public.ledger (id int primary key); grant select, insert on public.ledger to holdpoint_workflow");
	start_bouncer();
	snprintf(info, sizeof info, "%s host=%s port=6432", f.engine_info, dir);
	snprintf(f.workflow_info + strlen(f.workflow_info), 100, " host=%s port=6432", dir);
	direct = f.store;
	f.store = fx_store(&f, info, true);
	fx_store_free(&f, direct);
	while (!f.store->ops->up(f.store)) /* it connects again and again until pgbouncer is there */
		fx_turn(&f, 0.05);
}

START_TEST(many_runs_go_through)
{
	enum { N = 300 };
	static struct hp_transition t[N];
	const struct hp_transition *p[N];
	static struct fx_commit res;
	struct hp_claimed *c;
	int n = 0, got = 0;

	open_pooled();
	f.engine = fx_register(&f, f.store, 60000000);
	for (int i = 0; i < N; i++)
		fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	while (got < N) {
		c = fx_claim(&f, f.store, f.engine, 100, &n);
		ck_assert_int_gt(n, 0);
		for (int i = 0; i < n; i++, got++) {
			t[got] = fx_from(&c[i].run, HP_MOVE_FINISHED, HP_FINISH);
			p[got] = &t[got];
		}
	}
	fx_commit(&f, f.store, p, N, &res);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(res.res[i].outcome, HP_COMMIT_OK);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_state where status = 4"), N);
	fx_store_free(&f, f.store);
	f.store = NULL;
	stop_bouncer();
	fx_close(&f);
}
END_TEST

struct seen {
	int done;
	enum hp_class outcome;
	char text[512];
	struct hp_sql_tx *tx;
};

static void on_rows(void *arg, int64_t now, const struct hp_sql_rows *r)
{
	struct seen *s = arg;

	(void)now;
	s->outcome = r->outcome;
	s->tx = r->tx;
	snprintf(s->text, sizeof s->text, "%s%.*s", r->message ? r->message : "", (int)r->rows.n, r->rows.n ? r->rows.p : "");
	s->done = 1;
}

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	(void)now;
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(res[0].outcome, HP_COMMIT_OK);
	*(int *)arg = 1;
}

static struct seen sql(const struct hp_claimed *c, const char *text)
{
	struct seen s = { 0 };
	struct hp_sql_state st = { .run_id = c->run.id, .epoch = 1, .token = c->token, .mode = HP_SQL_ONE, .text = text,
				   .args = hp_bytes_of("{\"user\": \"u1\"}") };

	f.store->ops->sql_run(f.store, &st, on_rows, &s);
	fx_until(&f, &s.done);
	ck_assert_msg(s.outcome == HP_CLASS_OK, "%s", s.text);
	return s;
}

START_TEST(sql_states_leave_no_traces_in_the_pool)
{
	struct hp_claimed c;
	struct hp_transition t;
	struct seen s;
	int done = 0;

	open_pooled();
	f.engine = fx_register(&f, f.store, 60000000);
	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	s = sql(&c, "insert into ledger values (1) returning set_config('application_name', 'mallory', false), pg_advisory_lock(7)::text l");
	t = fx_from(&c.run, HP_MOVE_ENTERED, HP_KEEP);
	t.in_sql = true;
	f.store->ops->sql_commit(f.store, s.tx, c.token, &t, on_commit, &done);
	fx_until(&f, &done);
	for (int i = 0; i < 4; i++) {
		s = sql(&c, "select current_setting('application_name') <> 'mallory' clean, (select count(*) from pg_locks"
			    " where locktype = 'advisory') locks");
		ck_assert_str_eq(s.text, "{\"clean\":true,\"locks\":0}");
		f.store->ops->sql_abort(f.store, s.tx);
	}
	ck_assert_int_eq(fx_int(&f, "select count(*) from public.ledger"), 1);
	fx_store_free(&f, f.store);
	f.store = NULL;
	stop_bouncer();
	fx_close(&f);
}
END_TEST

HP_SUITE("store pooled", many_runs_go_through, sql_states_leave_no_traces_in_the_pool)
