/* store_rights.c: who may do what in the database, doors raced by many sessions,
 * and what an author's statement cannot do.
 */
#include <stdio.h>
#include <string.h>

#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char summary[] =
	"{\"states\":[{\"name\":\"record\",\"kind\":\"sql\"},"
	"{\"name\":\"review\",\"kind\":\"approval\",\"approvers\":\"1 of payments\"},"
	"{\"name\":\"done\",\"kind\":\"succeed\"},"
	"{\"name\":\"hear\",\"kind\":\"await\",\"events\":[\"ev\"]}]}";

static struct fx f;

static void open_fx(void)
{
	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_sql(&f, "create table public.ledger (id int primary key, note text);"
		   "grant select, insert, update, delete on public.ledger to holdpoint_workflow");
}

/* ---- rights ---- */

static const char *functions_of(const char *role)
{
	return fx_sql(&f, "select coalesce(string_agg(distinct p.proname, ' ' order by p.proname), '') from pg_proc p"
			  " where p.pronamespace = 'holdpoint'::regnamespace and has_function_privilege('%s', p.oid, 'execute')",
		      role);
}

static int64_t tables_of(const char *role)
{
	return fx_int(&f, "select count(*) from pg_class c where c.relnamespace = 'holdpoint'::regnamespace"
			  " and c.relkind in ('r', 'p', 'S') and (case when c.relkind = 'S'"
			  " then has_sequence_privilege('%s', c.oid, 'usage, select, update')"
			  " else has_table_privilege('%s', c.oid, 'select, insert, update, delete, truncate, references, trigger') end)",
		      role, role);
}

START_TEST(strangers_may_call_their_door_and_nothing_else)
{
	open_fx();
	ck_assert_str_eq(functions_of("holdpoint_app"), "send_event start");
	ck_assert_str_eq(functions_of("holdpoint_workflow"), "replication_lag sql_commit");
	ck_assert_int_eq(tables_of("holdpoint_app"), 0);
	ck_assert_int_eq(tables_of("holdpoint_workflow"), 0);
	fx_sql(&f, "create role hp_nobody_%s", f.db);
	ck_assert_str_eq(functions_of(fx_sql(&f, "select 'hp_nobody_%s'", f.db)), "");
	fx_sql(&f, "drop role hp_nobody_%s", f.db);
	ck_assert_int_eq(fx_int(&f, "select has_table_privilege('holdpoint_engine', 'holdpoint.installation', 'select')::int"), 0);
	ck_assert_int_eq(fx_int(&f, "select has_table_privilege('holdpoint_engine', 'holdpoint.history', 'update, delete')::int"), 0);
	/* nor by the names of its partitions, which are made later */
	ck_assert_int_eq(fx_int(&f, "select count(*) from pg_inherits i where i.inhparent in"
				    " ('holdpoint.history'::regclass, 'holdpoint.saved'::regclass)"
				    " and has_table_privilege('holdpoint_engine', i.inhrelid, 'update, delete')"), 0);
	fx_close(&f);
}
END_TEST

START_TEST(application_starts_in_its_own_transaction)
{
	PGconn *app;

	open_fx();
	fx_sql(&f, "create role hp_shop_%s login in role holdpoint_app", f.db);
	app = fx_session(&f, fx_sql(&f, "select 'hp_shop_%s'", f.db));
	ck_assert_str_eq(fx_state(&f, app, "begin; select holdpoint.start('w', '{\"card\": 1}', 'card-1'); rollback"), "");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 0);
	ck_assert_str_eq(fx_state(&f, app, "begin; select holdpoint.start('w', '{\"card\": 1}', 'card-1'); commit"), "");
	ck_assert_str_eq(fx_state(&f, app, "select holdpoint.start('w', '{\"card\": 1}', 'card-1')"), "");
	ck_assert_str_eq(fx_state(&f, app, "select holdpoint.start('nix')"), "HP404");
	ck_assert_str_eq(fx_state(&f, app, "select holdpoint.send_event('card.ready', 'card-1', '{}')"), "");
	ck_assert_str_eq(fx_state(&f, app, "select * from holdpoint.run"), "42501");
	ck_assert_str_eq(fx_state(&f, app, "select holdpoint.door_cancel('me', '{\"run\": 1}')"), "42501");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 1);
	ck_assert_str_eq(fx_sql(&f, "select requester from holdpoint.run"), fx_sql(&f, "select 'sql:hp_shop_%s'", f.db));
	/* nobody from outside shifts the engine's time */
	ck_assert_str_eq(fx_state(&f, app, "set holdpoint.now = '1'; select holdpoint.start('w')"), "");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run where created_at < 1000000"), 0);
	PQfinish(app);
	fx_sql(&f, "drop role hp_shop_%s", f.db);
	fx_close(&f);
}
END_TEST

/* ---- races ---- */

enum { RACERS = 16 };
static int conflicts; /* of the last race: answered HP409 */

/* The same statement in many sessions at once; how many gave `value`. hold: what
 * another session locks until all of them wait, so that they really meet. */
static int race(const char *sql, const char *value, const char *hold)
{
	PGconn *c[RACERS], *holder = fx_session(&f, "postgres");
	int same = 0;

	conflicts = 0;
	if (hold) {
		ck_assert_str_eq(fx_state(&f, holder, "begin"), "");
		ck_assert_str_eq(fx_state(&f, holder, hold), "");
	}

	for (int i = 0; i < RACERS; i++)
		c[i] = fx_session(&f, "holdpoint_engine");
	for (int i = 0; i < RACERS; i++) {
		char own[2048];

		snprintf(own, sizeof own, sql, i, i, i);
		ck_assert_int_eq(PQsendQuery(c[i], own), 1);
	}
	while (hold && fx_int(&f, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
				  " and datname = current_database()") < RACERS)
		fx_turn(&f, 0.01);
	PQfinish(holder);
	for (int i = 0; i < RACERS; i++) {
		PGresult *r;

		while ((r = PQgetResult(c[i]))) {
			const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
			const char *v = PQntuples(r) ? PQgetvalue(r, 0, 0) : "";

			same += strcmp(state ? state : v, value) == 0;
			conflicts += state && strcmp(state, "HP409") == 0;
			PQclear(r);
		}
		PQfinish(c[i]);
	}
	return same;
}

START_TEST(one_of_many_duplicates_is_taken)
{
	static const char sql[] = "/* %d %d %d */ select min(o_ord)::text from holdpoint.ingest('stripe', 'evt_1', '\\x00', '{}', null, 0,"
				  " '{w}', '{\"{}\"}', '{k}', '{webhook:stripe}', '{0}', '{}', '{}', null, '{}')";

	open_fx();
	ck_assert_int_eq(race(sql, "0", "lock holdpoint.inbox in share mode"), 1);
	ck_assert_int_eq(race(sql, "-1", NULL), RACERS);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.inbox"), 1);
	fx_close(&f);
}
END_TEST

/* The sender saw the run waiting; by the time it may wake it, the run is over. The
 * row this leaves is the oldest there is, and must not stand before the others. */
START_TEST(a_message_that_races_with_the_end_leaves_nothing_behind)
{
	struct hp_claimed c;
	PGconn *worker, *sender;
	int n = 0;

	open_fx();
	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	fx_sql(&f, "insert into holdpoint.mail_wait values (%lld, 0, 'ev', holdpoint.hash('k'), 'k')", (long long)c.run.id);
	worker = fx_session(&f, "holdpoint_engine");
	sender = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, worker, "begin; delete from holdpoint.ready;"
						"update holdpoint.run_state set status = 4"), "");
	ck_assert_int_eq(PQsendQuery(sender, "select holdpoint.door_send_event('me', '{\"name\": \"ev\", \"key\": \"k\"}')"), 1);
	while (fx_int(&f, "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
			  " and datname = current_database()") == 0)
		fx_turn(&f, 0.01);
	ck_assert_str_eq(fx_state(&f, worker, "commit"), "");
	PQclear(PQgetResult(sender));
	PQfinish(sender);
	PQfinish(worker);
	fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	for (int i = 0; i < 2 && n == 0; i++)
		fx_claim(&f, f.store, f.engine, 1, &n);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 1);
	fx_close(&f);
}
END_TEST

/* An application may take its time. Who parks beside its open transaction does not wait
 * for it, and misses nothing. */
START_TEST(an_open_sender_holds_nobody_up)
{
	struct hp_claimed c, *again;
	struct hp_transition t;
	PGconn *app;
	int64_t before;
	int n = 0;

	open_fx();
	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	app = fx_session(&f, "postgres");
	ck_assert_str_eq(fx_state(&f, app, "begin"), "");
	ck_assert_str_eq(fx_state(&f, app, "select holdpoint.send_event('ev', 'k', '{}')"), "");
	t = fx_from(&c.run, HP_MOVE_PARKED, HP_PARK);
	t.after.state = 3;
	t.after.visit = 2;
	t.after.status = HP_WAITING;
	t.after.phase = HP_PH_OPEN;
	t.wait_keys = hp_bytes_of("k");
	before = fx_int(&f, "select (extract(epoch from clock_timestamp()) * 1000)::bigint");
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_int_lt(fx_int(&f, "select (extract(epoch from clock_timestamp()) * 1000)::bigint") - before, 2000);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.mail_wait"), 1);
	ck_assert_str_eq(fx_state(&f, app, "commit"), "");
	PQfinish(app);
	for (int i = 0; i < 60 && n == 0; i++) {
		again = fx_claim(&f, f.store, f.engine, 1, &n);
		if (n > 0)
			ck_assert_int_gt(again[0].mail_id, 0);
		fx_turn(&f, 0.05);
	}
	ck_assert_int_eq(n, 1);
	fx_close(&f);
}
END_TEST

START_TEST(one_run_per_key)
{
	open_fx();
	ck_assert_int_eq(race("/* %d %d %d */ select holdpoint.door_start('me', '{\"workflow\": \"w\", \"key\": \"k\"}') ->> 'run'", "1",
			      "lock holdpoint.run_key in share mode"), RACERS);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 1);
	fx_close(&f);
}
END_TEST

START_TEST(one_decision_counts)
{
	struct hp_claimed c;
	struct hp_transition t;
	int won, told;

	open_fx();
	fx_sql(&f, "insert into holdpoint.principal select 'p' || i, 'person', 1 from generate_series(0, 15) i;"
		   "insert into holdpoint.role_member select name, 'payments' from holdpoint.principal");
	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	t = fx_from(&c.run, HP_MOVE_PARKED, HP_PARK);
	t.after.state = 1;
	t.after.visit = 2;
	t.after.phase = HP_PH_OPEN;
	t.approval = hp_bytes_of("{\"ask\": \"Go?\"}");
	t.approval_deadline = INT64_MAX / 2;
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	won = race("/* %d */ select holdpoint.door_decide('p%d', case when %d %% 2 = 0 then"
		   " '{\"approval\": 1, \"decision\": \"approve\", \"reason\": \"x\"}'"
		   " else '{\"approval\": 1, \"decision\": \"reject\", \"reason\": \"x\"}' end::jsonb) ->> 'run'", "1", "select from holdpoint.run_state for update");
	ck_assert_int_eq(won, 1);
	ck_assert_int_eq(conflicts, RACERS - 1); /* told who decided, not that something broke */
	told = race("/* %d */ select holdpoint.door_decide('p%d', '{\"approval\": 1, \"decision\": \"approve\", \"reason\": \"%d\"}')", "HP409", NULL);
	ck_assert_int_eq(told, RACERS);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.vote"), 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where move = 11"), 1);
	fx_close(&f);
}
END_TEST

HP_SUITE("store rights", strangers_may_call_their_door_and_nothing_else, application_starts_in_its_own_transaction,
	 one_of_many_duplicates_is_taken, one_run_per_key, an_open_sender_holds_nobody_up,
	 a_message_that_races_with_the_end_leaves_nothing_behind, one_decision_counts)
