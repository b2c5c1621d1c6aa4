/* store_peers.c: bugs that other engines had, as tests of ours (docs/reliability.md, "Peers'
 * bugs", has the list; those that need whole processes are in tests/e2e/peers.test.mjs).
 *
 * Each case is the story of one report, played on a real server: who owned what, who was
 * slow, who came back under which name. At the end of each, holdpoint.fsck_runs() says that
 * state and history tell the same.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/cutter.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char summary[] = "{\"states\":[{\"name\":\"a\",\"kind\":\"call\",\"ways\":[{\"label\":\"next\",\"to\":\"b\"}]},"
			      "{\"name\":\"b\",\"kind\":\"call\",\"ways\":[]}]}";

static struct fx f;

static void begin(void)
{
	fx_open(&f);
	fx_deploy(&f, "w", summary);
}

static void end(void)
{
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.fsck_runs(0, 1000, 10) ->> 'found'"), "[]");
	fx_close(&f);
}

/* a → b, still ours */
static struct hp_transition step(const struct hp_run *run)
{
	struct hp_transition t = fx_from(run, HP_MOVE_ENTERED, HP_KEEP);

	t.after.visit = run->visit + 1;
	t.after.state = 1;
	return t;
}

static int64_t epoch_of(int64_t run)
{
	return fx_int(&f, "select epoch from holdpoint.run_state where run_id = %lld", (long long)run);
}

static int64_t owner_of(int64_t run)
{
	return fx_int(&f, "select engine_id from holdpoint.ready where run_id = %lld", (long long)run);
}

static int64_t rows_of(int64_t run)
{
	return fx_int(&f, "select count(*) from holdpoint.history where run_id = %lld", (long long)run);
}

/* Not stopped: it has gone silent for longer than its lease, and somebody's heartbeat finds out. */
static void lease_over(int64_t engine, int64_t found_by)
{
	fx_sql(&f, "update holdpoint.engine set lease_until = 1 where id = %lld", (long long)engine);
	fx_sql(&f, "select holdpoint.heartbeat(%lld)", (long long)found_by);
}

static const char *refusal(const char *sql)
{
	PGconn *c = fx_session(&f, "holdpoint_engine");
	const char *state = fx_state(&f, c, sql);

	PQfinish(c);
	return state;
}

/* dbos-transact-py 804: a new executor launches under the id of one that still drains; the old
 * one takes back what recovery had just given away, then ends, and nobody has it. */
START_TEST(dbos_py_804_draining_under_the_same_name)
{
	struct hp_claimed mine, left, *taken;
	struct hp_transition t;
	int64_t second;
	char sql[128];
	int n;

	begin();
	fx_start(&f, "w", "{}", NULL, true, &mine, NULL);
	fx_start(&f, "w", "{}", NULL, true, &left, NULL);
	second = fx_register(&f, f.store, 60000000); /* the same host, the same process id */
	ck_assert_int_ne(second, f.engine);
	fx_claim(&f, f.store, second, 10, &n);
	ck_assert_msg(n == 0, "the new one has taken what the old one still works on");
	t = step(&mine.run); /* it drains: what it has in hand is finished */
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	fx_sql(&f, "select holdpoint.engine_stop(%lld)", (long long)f.engine);
	taken = fx_claim(&f, f.store, second, 10, &n);
	ck_assert_msg(n == 2, "what the old one left is not on the ready list");
	ck_assert_int_eq(taken[0].run.epoch, 2);
	/* it was slow to end, and looks for work once more */
	snprintf(sql, sizeof sql, "select * from holdpoint.claim(%lld, 10, 9, '{}')", (long long)f.engine);
	ck_assert_str_eq(refusal(sql), "HP409");
	fx_sql(&f, "select holdpoint.engine_stop(%lld)", (long long)f.engine);
	ck_assert_int_eq(owner_of(left.run.id), second);
	ck_assert_int_eq(epoch_of(left.run.id), 2);
	end();
}
END_TEST

/* dbos-transact-py 759: a workflow whose id is the empty text is forked anew by every recovery.
 * An empty key is none, and what is recovered is the run that was there. */
START_TEST(dbos_py_759_an_empty_key_is_no_key)
{
	struct hp_claimed c, *again;
	int64_t ids[3], engine;
	bool existed = true;
	int n;

	begin();
	engine = f.engine;
	ids[0] = fx_start(&f, "w", "{}", "", true, &c, &existed);
	ck_assert(!existed);
	ids[1] = fx_start(&f, "w", "{}", "", false, NULL, &existed);
	ck_assert_msg(!existed && ids[1] != ids[0], "a second run was taken for the first: both have the key \"\"");
	ids[2] = fx_int(&f, "select holdpoint.start('w', '{}', '')");
	ck_assert_int_ne(ids[2], ids[1]);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_key"), 0);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run where key is not null"), 0);
	fx_claim(&f, f.store, engine, 10, &n);
	ck_assert_int_eq(n, 2);
	for (int recovery = 1; recovery <= 4; recovery++) { /* "every 15 minutes, for a month" */
		int64_t next = fx_register(&f, f.store, 60000000);

		lease_over(engine, next);
		again = fx_claim(&f, f.store, next, 10, &n);
		ck_assert_int_eq(n, 3);
		for (int i = 0; i < n; i++)
			ck_assert_int_eq(again[i].run.epoch, recovery + 1);
		engine = next;
	}
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run"), 3);
	end();
}
END_TEST

/* dbos-transact-java 491: recovery at launch adopts a run that this very process has just
 * started, and its body is executed twice. */
START_TEST(dbos_java_491_recovery_adopts_its_own_run)
{
	struct hp_claimed c;
	struct hp_transition t;
	bool existed = false;
	int n;

	begin();
	fx_start(&f, "w", "{}", "once", true, &c, NULL);
	for (int look = 0; look < 3; look++) {
		fx_claim(&f, f.store, f.engine, 10, &n);
		ck_assert_msg(n == 0, "it was given to the engine that has it");
		fx_sql(&f, "select holdpoint.heartbeat(%lld)", (long long)f.engine);
	}
	ck_assert_int_eq(fx_start(&f, "w", "{}", "once", true, NULL, &existed), c.run.id);
	ck_assert_msg(existed && owner_of(c.run.id) == f.engine && epoch_of(c.run.id) == 1, "a second caller got it, too");
	t = step(&c.run);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_int_eq(rows_of(c.run.id), 2);
	end();
}
END_TEST

/* aegra 547: what proves ownership is the worker's name, and the name is stable: an attempt that
 * stalled keeps the lease of the one that replaced it, takes it away, and writes over its result. */
START_TEST(aegra_547_a_stable_name_is_no_fence)
{
	struct hp_claimed stalled, *c;
	struct hp_transition late, good;
	int64_t second, before;
	int n;

	begin();
	fx_start(&f, "w", "{}", NULL, true, &stalled, NULL);
	second = fx_register(&f, f.store, 60000000);
	lease_over(f.engine, second);
	c = fx_claim(&f, f.store, second, 10, &n);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(c->run.epoch, 2);
	/* 1: its heartbeat */
	before = fx_int(&f, "select lease_until from holdpoint.engine where id = %lld", (long long)second);
	ck_assert_str_eq(fx_sql(&f, "select o_alive from holdpoint.heartbeat(%lld)", (long long)f.engine), "f");
	ck_assert_int_eq(fx_int(&f, "select lease_until from holdpoint.engine where id = %lld", (long long)second), before);
	/* 2: its release */
	fx_sql(&f, "select holdpoint.release(%lld, array[%lld], array[1])", (long long)f.engine, (long long)stalled.run.id);
	ck_assert_int_eq(owner_of(stalled.run.id), second);
	/* … also when the very same worker was given it again */
	fx_sql(&f, "select holdpoint.release(%lld, array[%lld], array[1])", (long long)second, (long long)stalled.run.id);
	ck_assert_int_eq(owner_of(stalled.run.id), second);
	/* 3: its result */
	late = fx_from(&stalled.run, HP_MOVE_FINISHED, HP_FINISH);
	late.after.status = HP_FAILED;
	ck_assert_int_eq(fx_commit1(&f, &late), HP_COMMIT_CONFLICT);
	ck_assert_int_eq(rows_of(stalled.run.id), 1);
	good = step(&c->run);
	ck_assert_int_eq(fx_commit1(&f, &good), HP_COMMIT_OK);
	end();
}
END_TEST

/* oban 862: a process that restarts under the name of the one that died is taken for it, so the
 * dead one's jobs count as at work, and are never rescued. */
START_TEST(oban_862_orphans_of_a_reused_name)
{
	struct hp_claimed orphan, *c;
	int64_t reborn;
	int n;

	begin();
	fx_start(&f, "w", "{}", NULL, true, &orphan, NULL);
	reborn = fx_register(&f, f.store, 60000000); /* the same host, the same process id, and alive */
	ck_assert_int_eq(fx_int(&f, "select count(distinct (host, pid)) from holdpoint.engine"), 1);
	lease_over(f.engine, reborn);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.engine where not dead"), 1);
	c = fx_claim(&f, f.store, reborn, 10, &n);
	ck_assert_msg(n == 1, "nobody rescues it: its owner is taken for alive");
	ck_assert_int_eq(c->run.id, orphan.run.id);
	end();
}
END_TEST

/* cadence 4316: a write that timed out had been done in part, or was done twice: mutable state and
 * history are not of one mind. Here both are one statement; a timeout leaves all of it or nothing. */
START_TEST(cadence_4316_a_commit_that_times_out)
{
	struct cutter *cutter;
	struct hp_store *through;
	struct hp_transition t;
	const struct hp_transition *p = &t;
	struct hp_claimed c;
	struct fx_commit res;
	PGconn *other;
	char info[700];

	begin();
	fx_sql(&f, "alter role holdpoint_engine in database %s set lock_timeout = '200ms'", f.db);
	cutter = cutter_open(f.loop, PQhost(f.super), PQport(f.super));
	snprintf(info, sizeof info, "%s host=%s", f.engine_info, cutter_dir(cutter));
	through = fx_store(&f, info, false);
	while (!through->ops->up(through))
		ev_run(f.loop, EVRUN_ONCE);
	fx_start(&f, "w", "{}", NULL, true, &c, NULL);
	t = step(&c.run);
	other = fx_session(&f, "postgres"); /* somebody has the row for longer than we wait */
	PQclear(PQexec(other, "begin; select from holdpoint.run_state for update"));
	fx_commit(&f, through, &p, 1, &res);
	ck_assert_int_eq(res.res[0].outcome, HP_COMMIT_UNKNOWN);
	PQfinish(other);
	ck_assert_int_eq(rows_of(c.run.id), 1);
	ck_assert_int_eq(fx_int(&f, "select rev from holdpoint.run_state"), c.run.rev);
	/* the answer that never came: it was done, and is not done again */
	cutter_arm(cutter, CUT_AFTER, "holdpoint.commit(");
	fx_commit(&f, through, &p, 1, &res);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	ck_assert_int_eq(res.res[0].outcome, HP_COMMIT_OK);
	ck_assert_int_eq(rows_of(c.run.id), 2);
	ck_assert_int_eq(fx_int(&f, "select rev from holdpoint.run_state"), c.run.rev + 1);
	fx_store_free(&f, through);
	cutter_close(cutter);
	end();
}
END_TEST

/* A case for each: tests/mutants.txt demands them one by one. */
int main(void)
{
	const struct {
		const char *name;
		const TTest *test;
	} of[] = {
		{ "dbos py 804", dbos_py_804_draining_under_the_same_name }, { "dbos py 759", dbos_py_759_an_empty_key_is_no_key },
		{ "dbos java 491", dbos_java_491_recovery_adopts_its_own_run }, { "aegra 547", aegra_547_a_stable_name_is_no_fence },
		{ "oban 862", oban_862_orphans_of_a_reused_name }, { "cadence 4316", cadence_4316_a_commit_that_times_out },
	};
	TCase *cases[sizeof of / sizeof *of];

	for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
		cases[i] = tcase_create(of[i].name);
		tcase_add_test(cases[i], of[i].test);
	}
	return hp_run_cases("store peers", cases, sizeof of / sizeof *of);
}
