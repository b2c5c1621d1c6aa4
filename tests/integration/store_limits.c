/* store_limits.c: limits under concurrency. A hundred runs over three engines, each with
 * connections of its own, never have more of a budget than there is, and whatever is
 * given back is used. A key with very many runs does not starve another one.
 *
 * HP_FAIR_RUNS=1000000 makes the second one the benchmark of docs/benchmarks.md.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/words.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

enum { ENGINES = 3, RUNS = 100, LIMIT = 10, ROUNDS = 40, PAGE = 256 };

static const char summary[] =
	"{\"states\":[{\"name\":\"send\",\"kind\":\"call\"},{\"name\":\"after\",\"kind\":\"call\"}],"
	"\"budgets\":{\"sms\":{\"max\":10,\"per_us\":315360000000000,\"bucket\":false}}}";
static const char demands[] =
	"{\"demands\":[{\"kind\":\"budget\",\"name\":\"sms\",\"amount\":1,\"over\":\"park\"},"
	"{\"kind\":\"slots\",\"name\":\"connector:x\",\"max\":7}]}";

static struct fx f;
static uint64_t seed;

static int pick(int n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (int)(seed % (uint64_t)n);
}

/* ---- a budget ---- */

static struct hand {
	struct hp_run run;
	struct hp_transition t;
	int engine;
	bool mine, admitted;
} hands[RUNS + 1]; /* by run */
static struct {
	struct hp_store *store;
	int64_t id;
} engines[ENGINES];
static int pending, settled;

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct hand *h = arg;

	(void)now;
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(res[0].outcome, HP_COMMIT_OK);
	fx_done(&h->run, &h->t);
	if (h->t.admits)
		h->admitted = res[0].gated[0] == 0;
	h->mine = h->t.disposition == HP_KEEP && res[0].gated[0] == 0;
	if (--pending == 0)
		settled = 1;
}

static void send(struct hand *h)
{
	const struct hp_transition *t = &h->t;

	pending++;
	engines[h->engine].store->ops->commit(engines[h->engine].store, &t, 1, on_commit, h);
}

static void admit_with(struct hand *h, const char *what)
{
	h->t = fx_from(&h->run, HP_MOVE_ADMITTED, HP_KEEP);
	h->t.admits = true;
	h->t.after.attempt++;
	h->t.after.phase = HP_PH_ADMITTED;
	h->t.after.status = HP_RUNNING;
	h->t.request = hp_bytes_of("{}");
	h->t.effect_key = hp_bytes_of("k");
	h->t.annexes[h->t.n_annexes++] = (struct hp_annex){ "limits", hp_bytes_of(what) };
	send(h);
}

static void admit(struct hand *h)
{
	admit_with(h, demands);
}

static void finish(struct hand *h, const char *end)
{
	h->t = fx_from(&h->run, HP_MOVE_FINISHED, HP_FINISH);
	h->t.after.status = HP_SUCCEEDED;
	h->t.annexes[h->t.n_annexes++] = (struct hp_annex){ "limits", hp_bytes_of(end) };
	h->admitted = false;
	send(h);
}

/* Whoever is ready, over all engines; true when there was one. */
static void claim_all(void)
{
	for (int e = 0; e < ENGINES; e++) {
		int n;
		struct hp_claimed *c = fx_claim(&f, engines[e].store, engines[e].id, 1 + pick(RUNS), &n);

		for (int i = 0; i < n; i++) {
			struct hand *h = &hands[c[i].run.id];

			h->run = c[i].run;
			h->engine = e;
			h->mine = true;
			h->admitted = false;
		}
	}
}

static void wait_settled(void)
{
	if (pending > 0)
		fx_until(&f, &settled);
	settled = 0;
}

static int admitted(void)
{
	int n = 0;

	for (int i = 1; i <= RUNS; i++)
		n += hands[i].admitted;
	return n;
}

START_TEST(a_budget_is_never_exceeded)
{
	int used = 0, kept = 0;

	seed = (uint64_t)_i * 2654435761u + 17;
	memset(hands, 0, sizeof hands);
	fx_open(&f);
	fx_deploy(&f, "w", summary);
	for (int i = 0; i < RUNS; i++)
		fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	for (int e = 0; e < ENGINES; e++) {
		engines[e].store = fx_store(&f, NULL, false);
		engines[e].id = fx_register(&f, engines[e].store, 600 * HP_SECOND);
	}
	for (int round = 0; round < ROUNDS; round++) {
		claim_all();
		for (int i = 1; i <= RUNS; i++)
			if (hands[i].mine && !hands[i].admitted)
				admit(&hands[i]);
		wait_settled();
		used = kept + admitted();
		ck_assert_msg(used <= LIMIT, "seed %d, round %d: %d of %d", _i, round, used, LIMIT);
		ck_assert_int_le(admitted(), 7);
		for (int i = 1; i <= RUNS; i++) {
			bool keeps = pick(4) == 0 && kept < LIMIT / 2;

			if (!hands[i].admitted)
				continue;
			if (pick(3) == 0) {
				admit(&hands[i]); /* a repeat: pays nothing, and must be let in */
			} else {
				kept += keeps;
				finish(&hands[i], keeps ? "{\"end\":\"keep\"}" : "{\"end\":\"return\"}");
			}
		}
		wait_settled();
	}
	/* what was given back was used: nearly all went through a budget for ten */
	ck_assert_int_ge(fx_int(&f, "select count(*) from holdpoint.run_state where status = 4"), RUNS - LIMIT);
	ck_assert_int_eq(fx_int(&f, "select now_used from holdpoint.limiter where kind = 'budget'"),
			 fx_int(&f, "select %d + count(*) from holdpoint.permit p join holdpoint.limiter l on l.id = p.limiter_id"
				    " where l.kind = 'budget' and p.at <= holdpoint.now_us()", kept));
	for (int e = 0; e < ENGINES; e++)
		fx_store_free(&f, engines[e].store);
	fx_close(&f);
}
END_TEST

/* ---- what somebody holds locked ---- */

static struct hp_claimed *claim_one(int64_t run)
{
	int n;
	struct hp_claimed *c = fx_claim(&f, f.store, f.engine, 10, &n);

	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(c->run.id, run);
	return c;
}

static struct hp_transition ended(const struct hp_claimed *c)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_FINISHED, HP_FINISH);

	t.after.status = HP_SUCCEEDED;
	return t;
}

static PGconn *holder(const char *sql)
{
	PGconn *c = fx_session(&f, "postgres");

	ck_assert_str_eq(fx_state(&f, c, "begin"), "");
	ck_assert_str_eq(fx_state(&f, c, sql), "");
	return c;
}

static int beaten;

static void on_beat(void *arg, int64_t now, const struct hp_error *err)
{
	(void)arg;
	(void)now;
	ck_assert_msg(!err, "%s", err ? err->message : "");
	beaten = 1;
}

static void heartbeat(void)
{
	beaten = 0;
	f.store->ops->heartbeat(f.store, f.engine, on_beat, NULL);
	fx_until(&f, &beaten);
}

/* Upkeep is a transaction of its own, which a heartbeat only begins. */
static void claim_after_upkeep(int64_t run)
{
	struct hp_claimed *c = NULL;
	int n = 0;

	for (int i = 0; n == 0 && i < 500; i++) {
		heartbeat();
		fx_turn(&f, 0.01);
		c = fx_claim(&f, f.store, f.engine, 10, &n);
	}
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(c->run.id, run);
}

static const char exclusive[] =
	"{\"states\":[{\"name\":\"done\",\"kind\":\"succeed\"}],\"limits\":{\"exclusive\":[[\"user\"]]}}";

static int64_t start_of(const char *user)
{
	char input[64];

	snprintf(input, sizeof input, "{\"user\":\"%s\"}", user);
	return fx_start(&f, "w", input, NULL, false, NULL, NULL);
}

/* Until the statement of an engine waits for a lock. */
static void until_blocked(void)
{
	while (fx_int(&f, "select count(*) from pg_stat_activity where datname = current_database()"
			  " and usename = 'holdpoint_engine' and wait_event_type = 'Lock'") == 0)
		fx_turn(&f, 0.01);
}

/* An end waits for nobody's transaction; what it could not give back, a heartbeat finds. */
START_TEST(a_place_left_behind_a_lock_is_given_on)
{
	struct hp_transition t;
	int64_t first, second;
	PGconn *c;

	fx_open(&f);
	fx_deploy(&f, "w", exclusive);
	first = start_of("ann");
	second = start_of("ann");
	start_of("bob"); /* others have permits, too */
	fx_sql(&f, "delete from holdpoint.ready where run_id > %lld", (long long)second);
	t = ended(claim_one(first));
	c = holder("select from holdpoint.limiter for update");
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 0);
	heartbeat(); /* nor does upkeep wait */
	ck_assert_str_eq(fx_state(&f, c, "rollback"), "");
	claim_after_upkeep(second);
	PQfinish(c);
	fx_close(&f);
}
END_TEST

/* Who resumes a run sees it in the queue; who gives it its place sees it paused: one of them
 * has to learn what the other did. */
START_TEST(a_run_is_resumed_while_its_turn_comes)
{
	struct hp_transition t;
	int64_t first, second;
	char args[64], sql[128];
	PGconn *c;

	fx_open(&f);
	fx_deploy(&f, "w", exclusive);
	first = start_of("ann");
	second = start_of("ann");
	snprintf(args, sizeof args, "{\"run\":%lld,\"reason\":\"x\"}", (long long)second);
	fx_door(&f, "pause", "alice", args, NULL);
	t = ended(claim_one(first));
	snprintf(sql, sizeof sql, "select holdpoint.door_resume('alice', '%s')", args);
	c = holder(sql);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK); /* an end waits for nobody */
	ck_assert_str_eq(fx_state(&f, c, "commit"), "");
	claim_after_upkeep(second);
	PQfinish(c);
	fx_close(&f);
}
END_TEST

/* One locked key holds up no other that ends in the same commit. */
START_TEST(what_is_free_is_given_on_at_once)
{
	struct hp_transition t[2];
	const struct hp_transition *p[2] = { &t[0], &t[1] };
	static struct fx_commit out;
	struct hp_claimed *runs;
	int64_t next;
	PGconn *c;
	int n;

	fx_open(&f);
	fx_deploy(&f, "w", exclusive);
	start_of("ann");
	fx_sql(&f, "select nextval('holdpoint.run_id_seq')"); /* so that both end in one transaction */
	start_of("bob");
	start_of("ann");
	next = start_of("bob");
	runs = fx_claim(&f, f.store, f.engine, 10, &n);
	ck_assert_int_eq(n, 2);
	t[0] = ended(&runs[0]);
	t[1] = ended(&runs[1]);
	c = holder("select from holdpoint.limiter where key = 'ann' for update");
	fx_commit(&f, f.store, p, 2, &out);
	ck_assert_int_eq(out.res[0].outcome, HP_COMMIT_OK);
	ck_assert_int_eq(out.res[1].outcome, HP_COMMIT_OK);
	claim_one(next);
	ck_assert_str_eq(fx_state(&f, c, "rollback"), "");
	PQfinish(c);
	fx_close(&f);
}
END_TEST

/* A visit that nobody will end any more (its engine was killed by hand, …) keeps no place. */
START_TEST(a_visit_left_behind_gives_its_place)
{
	static const char one[] = "{\"demands\":[{\"kind\":\"slots\",\"name\":\"connector:x\",\"max\":1}]}";
	struct hand *h = hands;
	int64_t waits = 0;
	PGconn *c;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	engines[0].store = f.store;
	memset(hands, 0, sizeof hands);
	for (int i = 0; i < 2; i++) {
		struct hp_claimed own;

		waits = fx_start(&f, "w", "{}", NULL, true, &own, NULL);
		h[i].run = own.run;
		admit_with(&h[i], one);
		wait_settled();
	}
	ck_assert(h[0].admitted && !h[1].admitted);
	fx_sql(&f, "update holdpoint.run_state set visit = visit + 1 where run_id = %lld", (long long)h[0].run.id);
	c = holder("select from holdpoint.limiter for update");
	heartbeat(); /* a lease waits for no lock */
	heartbeat();
	ck_assert_str_eq(fx_state(&f, c, "rollback"), "");
	claim_after_upkeep(waits);
	PQfinish(c);
	fx_close(&f);
}
END_TEST

/* A commit that was under way when an operator set a limit goes by the new one. */
START_TEST(a_new_limit_counts_for_who_waits_for_its_lock)
{
	static const char one[] = "{\"demands\":[{\"kind\":\"budget\",\"name\":\"sms\",\"amount\":1,\"over\":\"park\"}]}";
	struct hand *h = hands;
	struct hp_claimed c;
	PGconn *operator;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	engines[0].store = f.store;
	memset(hands, 0, sizeof hands);
	for (int i = 0; i < 2; i++) {
		fx_start(&f, "w", "{}", NULL, true, &c, NULL);
		h[i].run = c.run;
	}
	admit_with(&h[0], one);
	wait_settled();
	ck_assert(h[0].admitted);
	operator = holder("select holdpoint.door_budget_set('alice', '{\"budget\":\"sms\",\"limit\":1,\"reason\":\"x\"}')");
	admit_with(&h[1], one);
	until_blocked();
	ck_assert_str_eq(fx_state(&f, operator, "commit"), "");
	wait_settled();
	ck_assert(!h[1].admitted);
	ck_assert_int_eq(fx_int(&f, "select max from holdpoint.limiter where kind = 'budget'"), 1);
	PQfinish(operator);
	fx_close(&f);
}
END_TEST

/* Of many keys the fullest one counts, wherever it stands. */
START_TEST(a_budget_of_many_keys)
{
	struct hp_error err = { 0 };
	const char *answer;

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	fx_sql(&f, "insert into holdpoint.limiter (kind, name, key_hash, key, max, per_us, at, used, now_at, now_used)"
		   " select 'budget', 'sms', holdpoint.hash(i::text), i::text, 10, 315360000000000, x, case i when 1500 then 7 else 1 end,"
		   " x, case i when 1500 then 7 else 1 end"
		   " from generate_series(1, 1500) i, holdpoint.window_start(holdpoint.now_us(), 315360000000000) x");
	answer = fx_door(&f, "budgets", "alice", "{}", &err);
	ck_assert_msg(answer != NULL, "%s", err.message);
	ck_assert_msg(strstr(answer, "\"used\": 7") || strstr(answer, "\"used\":7"), "%s", answer);
	ck_assert_msg(strstr(answer, "\"keys\": 1500") || strstr(answer, "\"keys\":1500"), "%s", answer);
	fx_sql(&f, "insert into holdpoint.gated select i, 'budget', 'sms', 1, 'm' from generate_series(1, 3) i");
	answer = fx_door(&f, "metrics", "alice", "{}", &err);
	ck_assert_msg(answer != NULL, "%s", err.message);
	ck_assert_msg(strstr(answer, "\"waiting\": 3") || strstr(answer, "\"waiting\":3"), "%s", answer);
	ck_assert_ptr_nonnull(strstr(answer, "children_running"));
	ck_assert_ptr_nonnull(strstr(answer, "schedules_paused"));
	fx_close(&f);
}
END_TEST

/* ---- fairness ---- */

static const char fair[] = "{\"states\":[{\"name\":\"done\",\"kind\":\"succeed\"}],\"limits\":{\"fair\":[[\"tenant\"]]}}";

/* Claims a page and ends all of it; how many of them were of the small tenant. */
static int work(int64_t first_small, int *claimed)
{
	static struct hp_transition t[PAGE];
	static const struct hp_transition *p[PAGE];
	static struct fx_commit out;
	struct hp_claimed *c = fx_claim(&f, f.store, f.engine, PAGE, claimed);
	int small = 0;

	for (int i = 0; i < *claimed; i++) {
		t[i] = fx_from(&c[i].run, HP_MOVE_FINISHED, HP_FINISH);
		t[i].after.status = HP_SUCCEEDED;
		t[i].annexes[t[i].n_annexes++] = (struct hp_annex){ "turn", hp_bytes_of("{}") };
		p[i] = &t[i];
		small += c[i].run.id >= first_small;
	}
	fx_commit(&f, f.store, p, *claimed, &out);
	for (int i = 0; i < *claimed; i++)
		ck_assert_int_eq(out.res[i].outcome, HP_COMMIT_OK);
	return small;
}

START_TEST(a_key_with_very_many_does_not_starve_another)
{
	const char *many = getenv("HP_FAIR_RUNS");
	int64_t runs = 3000, t0, t1, t2, first_small;
	int claims = 0, taken = 0, small = 0, n;

	ck_assert(!many || hp_int_parse(many, &runs) == 0);
	fx_open(&f);
	fx_deploy(&f, "w", fair);
	t0 = hp_boottime_us();
	for (int64_t i = 0; i < runs; i += 100) /* what one transaction starts is one chain of versions */
		fx_sql(&f, "select holdpoint.ensure_partitions(); select count(holdpoint.start('w', '{\"tenant\":\"large\"}'))"
			   " from generate_series(1, %lld)", (long long)(runs - i < 100 ? runs - i : 100));
	t1 = hp_boottime_us();
	first_small = fx_int(&f, "select max(id) + 1 from holdpoint.run");
	fx_sql(&f, "select count(holdpoint.start('w', '{\"tenant\":\"small\"}')) from generate_series(1, 10)");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 64 + 10);
	t2 = hp_boottime_us();
	while (small < 10) {
		small += work(first_small, &n);
		taken += n;
		claims++;
	}
	printf("%lld runs of one key queued in %.1f s; then 10 of another: all taken within %d claims, %d runs and %.1f ms\n",
	       (long long)runs, (double)(t1 - t0) / 1e6, claims, taken, (double)(hp_boottime_us() - t2) / 1e3);
	ck_assert_int_eq(claims, 1);
	ck_assert_int_le(taken, 64 + 10);
	/* and the large one goes on as fast as before */
	t2 = hp_boottime_us();
	for (taken = 0, claims = 0; claims < 40 && (work(first_small, &n), n) > 0; claims++)
		taken += n;
	printf("the large key: %.0f runs/s over one connection\n", taken * 1e6 / (double)(hp_boottime_us() - t2));
	ck_assert_int_eq(taken, runs - 64 < 40 * 64 ? runs - 64 : 40 * 64);
	fx_close(&f);
}
END_TEST

/* Its turn comes while it is being cancelled: it is given the instant at which it may start, and
 * ends. The timer is nobody's then, and must not stand before all others for ever. */
START_TEST(a_turn_that_comes_to_who_has_ended_leaves_nothing)
{
	static const char limits[] =
		"{\"states\":[{\"name\":\"a\",\"kind\":\"call\",\"ways\":[]}],\"limits\":{\"exclusive\":[\"one\"],"
		"\"rate\":{\"max\":1,\"per_us\":86400000000,\"burst\":1,\"per\":[\"x\"]}}}";
	struct hp_claimed first, *c;
	struct hp_transition t;
	char args[64];
	int64_t queued;
	int n;

	fx_open(&f);
	fx_deploy(&f, "q", limits);
	fx_start(&f, "q", "{}", NULL, true, &first, NULL);
	queued = fx_start(&f, "q", "{}", NULL, false, NULL, NULL);
	snprintf(args, sizeof args, "{\"run\":%lld,\"reason\":\"x\"}", (long long)queued);
	fx_door(&f, "cancel", "alice", args, NULL);
	c = fx_claim(&f, f.store, f.engine, 10, &n);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(c->run.id, queued);
	t = fx_from(&first.run, HP_MOVE_FINISHED, HP_FINISH);
	t.after.status = HP_SUCCEEDED;
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	t = fx_from(&c->run, HP_MOVE_FINISHED, HP_FINISH);
	t.after.status = HP_CANCELLED;
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.timer"), 1);
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.fsck_runs(0, 1000, 10) ->> 'found'"), "[]");
	fx_sql(&f, "update holdpoint.timer set due_at = 1");
	fx_claim(&f, f.store, f.engine, 10, &n);
	ck_assert_int_eq(n, 0);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.timer"), 0);
	fx_close(&f);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("limits");

	tcase_set_timeout(t, getenv("HP_FAIR_RUNS") ? 3600 : 60);
	if (!getenv("HP_FAIR_RUNS"))
		tcase_add_loop_test(t, a_budget_is_never_exceeded, 0, 2);
	tcase_add_test(t, a_place_left_behind_a_lock_is_given_on);
	tcase_add_test(t, a_run_is_resumed_while_its_turn_comes);
	tcase_add_test(t, what_is_free_is_given_on_at_once);
	tcase_add_test(t, a_visit_left_behind_gives_its_place);
	tcase_add_test(t, a_new_limit_counts_for_who_waits_for_its_lock);
	tcase_add_test(t, a_budget_of_many_keys);
	tcase_add_test(t, a_turn_that_comes_to_who_has_ended_leaves_nothing);
	tcase_add_test(t, a_key_with_very_many_does_not_starve_another);
	return hp_run_case("store limits", t);
}
