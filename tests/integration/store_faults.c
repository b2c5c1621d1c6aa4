/* store_faults.c: lost acknowledgements, refused rows and dead engines, on a real
 * server behind a proxy that cuts connections at a chosen statement.
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "lib/cutter.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char summary[] = "{\"states\":[{\"name\":\"a\",\"kind\":\"call\"},{\"name\":\"b\",\"kind\":\"sql\"}]}";

static struct fx f;
static struct cutter *cutter;
static struct hp_store *through; /* the store behind the cutter */

static void open_cut(void)
{
	char info[700];

	fx_open(&f);
	fx_deploy(&f, "w", summary);
	cutter = cutter_open(f.loop, PQhost(f.super), PQport(f.super));
	snprintf(info, sizeof info, "%s host=%s", f.engine_info, cutter_dir(cutter));
	snprintf(f.workflow_info + strlen(f.workflow_info), 100, " host=%s", cutter_dir(cutter));
	through = fx_store(&f, info, false);
	while (!through->ops->up(through))
		ev_run(f.loop, EVRUN_ONCE);
}

static void close_cut(void)
{
	fx_store_free(&f, through);
	cutter_close(cutter);
	fx_close(&f);
}

static struct hp_transition step(struct hp_claimed *c)
{
	struct hp_transition t;

	fx_start(&f, "w", "{}", NULL, true, c, NULL);
	t = fx_from(&c->run, HP_MOVE_ENTERED, HP_KEEP);
	t.after.visit = 2;
	t.n_saves = 1;
	t.saves[0] = (struct hp_save){ "x", hp_bytes_of("1") };
	return t;
}

static enum hp_commit_outcome commit_through(const struct hp_transition *t)
{
	struct fx_commit res;

	fx_commit(&f, through, &t, 1, &res);
	return res.res[0].outcome;
}

static void written_once(int64_t run)
{
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where run_id = %lld and epoch = 1",
				(long long)run), 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.saved where run_id = %lld", (long long)run), 1);
}

START_TEST(acknowledgement_lost)
{
	struct hp_claimed c;
	struct hp_transition t;

	open_cut();
	t = step(&c);
	cutter_arm(cutter, CUT_AFTER, "holdpoint.commit(");
	ck_assert_int_eq(commit_through(&t), HP_COMMIT_OK);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	written_once(c.run.id);
	close_cut();
}
END_TEST

START_TEST(commit_never_arrived)
{
	struct hp_claimed c;
	struct hp_transition t;

	open_cut();
	t = step(&c);
	cutter_arm(cutter, CUT_BEFORE, "holdpoint.commit(");
	ck_assert_int_eq(commit_through(&t), HP_COMMIT_OK);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	written_once(c.run.id);
	close_cut();
}
END_TEST

/* It was not there when we looked, so it is sent again, and meets itself. */
START_TEST(commit_arrives_late)
{
	struct hp_claimed c;
	struct hp_transition t;

	open_cut();
	t = step(&c);
	cutter_arm(cutter, CUT_LATE, "holdpoint.commit(");
	ck_assert_int_eq(commit_through(&t), HP_COMMIT_OK);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	written_once(c.run.id);
	close_cut();
}
END_TEST

/* What was lost before the run was read again has landed since. The look finds it, and may not
 * take it for the one that was made after that. */
START_TEST(an_earlier_one_landed_meanwhile)
{
	struct hp_claimed c;
	struct hp_transition t, after;

	open_cut();
	t = step(&c);
	after = t;
	after.reread = true;
	after.saves[0].value = hp_bytes_of("2");
	ck_assert_int_eq(commit_through(&t), HP_COMMIT_OK);
	cutter_arm(cutter, CUT_BEFORE, "holdpoint.commit(");
	ck_assert_int_eq(commit_through(&after), HP_COMMIT_CONFLICT);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	written_once(c.run.id);
	close_cut();
}
END_TEST

START_TEST(lost_and_fenced_meanwhile)
{
	struct hp_claimed c;
	struct hp_transition t;

	open_cut();
	t = step(&c);
	cutter_arm(cutter, CUT_BEFORE, "holdpoint.commit(");
	fx_sql(&f, "update holdpoint.run_state set epoch = epoch + 1, rev = rev + 1");
	ck_assert_int_eq(commit_through(&t), HP_COMMIT_CONFLICT);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where epoch = 1"), 0);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.saved"), 0);
	close_cut();
}
END_TEST

/* A door raised rev after our lost commit: still ours, and not to be mistaken. */
START_TEST(lost_and_moved_on_by_a_door)
{
	struct hp_claimed c;
	struct hp_transition t;

	open_cut();
	t = step(&c);
	fx_sql(&f, "update holdpoint.run_state set rev = rev + 1");
	cutter_arm(cutter, CUT_BEFORE, "holdpoint.commit(");
	ck_assert_int_eq(commit_through(&t), HP_COMMIT_CONFLICT);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where epoch = 1"), 0);
	close_cut();
}
END_TEST

struct claim_seen {
	int done, n;
	enum hp_code code;
};

static void on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	struct claim_seen *s = arg;

	(void)now;
	(void)runs;
	s->n = n;
	s->code = err ? err->code : HP_OK;
	s->done = 1;
}

START_TEST(claim_lost_is_claimed_again)
{
	struct claim_seen s = { 0 };
	struct hp_claimed *c;
	int64_t run;
	int n;

	open_cut();
	run = fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	cutter_arm(cutter, CUT_AFTER, "holdpoint.claim(");
	through->ops->claim(through, f.engine, 10, on_claim, &s);
	fx_until(&f, &s.done);
	ck_assert_int_eq(s.code, HP_E_TIMEOUT); /* nobody can know */
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready where engine_id is not null"), 1);
	c = fx_claim(&f, through, f.engine, 10, &n);
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(c->run.id, run);
	ck_assert_int_eq(c->run.epoch, 2);
	fx_claim(&f, through, f.engine, 10, &n);
	ck_assert_int_eq(n, 0); /* what is in our hands stays there */
	close_cut();
}
END_TEST

struct door_seen {
	int done;
	struct hp_error err;
};

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct door_seen *s = arg;

	(void)json;
	if (err)
		s->err = *err;
	s->done = 1;
}

/* "unavailable" means that nothing was done; who cannot know says "timeout". */
START_TEST(a_lost_answer_is_not_a_no)
{
	struct door_seen lost = { 0 }, refused = { 0 };
	const struct hp_bytes event = hp_bytes_of("{\"name\":\"a.b\",\"key\":\"k\",\"payload\":{}}");

	open_cut();
	cutter_arm(cutter, CUT_AFTER, "holdpoint.door_send_event(");
	through->ops->door(through, "send_event", "tester", event, on_door, &lost);
	fx_until(&f, &lost.done);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.mail"), 1);
	ck_assert_int_eq(lost.err.code, HP_E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(lost.err.hint, "may have been done"));

	/* closed before it was sent: nothing was done */
	through->ops->free(through);
	fx_turn(&f, 0.05);
	through = fx_store(&f, "host=/nonexistent-socket-directory dbname=x", false);
	through->ops->door(through, "send_event", "tester", event, on_door, &refused);
	fx_store_free(&f, through);
	fx_until(&f, &refused.done);
	ck_assert_int_eq(refused.err.code, HP_E_UNAVAILABLE);
	through = fx_store(&f, NULL, false);
	close_cut();
}
END_TEST

START_TEST(culprit_is_found_by_bisecting)
{
	enum { N = 40, BAD = 23 };
	static struct hp_claimed c[N];
	static struct hp_transition t[N];
	const struct hp_transition *p[N];
	struct fx_commit res;

	open_cut();
	for (int i = 0; i < N; i++) {
		t[i] = step(&c[i]);
		p[i] = &t[i];
	}
	t[BAD].saves[0].value = hp_bytes_of("{\"no\": json");
	fx_commit(&f, through, p, N, &res);
	for (int i = 0; i < N; i++)
		ck_assert_int_eq(res.res[i].outcome, i == BAD ? HP_COMMIT_REFUSED : HP_COMMIT_OK);
	ck_assert_ptr_nonnull(strstr(res.error.message, "json"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.saved"), N - 1);
	close_cut();
}
END_TEST

/* What a gate refused is not sent, though nobody heard of the refusal. */
static void lost_refusal(bool entering)
{
	static const char calls[] = "{\"states\":[{\"name\":\"a\",\"kind\":\"call\",\"operation\":\"stripe.refunds.create\"}]}";
	struct hp_claimed c;
	struct hp_transition t;
	const struct hp_transition *p = &t;
	struct fx_commit res;
	struct hp_error err = { 0 };

	open_cut();
	fx_deploy(&f, "pays", calls);
	ck_assert_ptr_nonnull(fx_door(&f, "breaker_open", "alice", "{\"breaker\":\"stripe\",\"reason\":\"x\"}", &err));
	fx_start(&f, "pays", "{}", NULL, true, &c, NULL);
	t = fx_from(&c.run, entering ? HP_MOVE_ENTERED : HP_MOVE_ADMITTED, HP_KEEP);
	t.after.visit += entering;
	t.after.attempt = 1;
	t.after.phase = HP_PH_ADMITTED;
	t.admits = true;
	t.request = hp_bytes_of("{}");
	t.effect_key = hp_bytes_of("k");
	cutter_arm(cutter, CUT_AFTER, "holdpoint.commit(");
	fx_commit(&f, through, &p, 1, &res);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	ck_assert_int_eq(res.res[0].outcome, HP_COMMIT_OK);
	ck_assert_str_eq(res.res[0].gated, "breaker_open");
	ck_assert_int_eq(fx_int(&f, "select phase from holdpoint.run_state where run_id = %lld", (long long)c.run.id), HP_PH_GATED);
	close_cut();
}

START_TEST(a_lost_refusal_is_still_a_refusal) { lost_refusal(false); }
END_TEST
START_TEST(a_lost_refusal_of_a_state_entered) { lost_refusal(true); }
END_TEST

/* At each allocation in turn: it is written as it should be, or nobody knows; never refused,
 * which would hold the run, nor under another business key. */
START_TEST(a_commit_without_memory_is_no_other_commit)
{
	unsigned long nth = 0, made;
	int written = 0;

	open_cut();
	do {
		struct hp_claimed c;
		struct hp_transition t = step(&c);
		const struct hp_transition *one = &t;
		enum hp_commit_outcome outcome;
		struct fx_commit res;
		int keys;

		t.admits = t.business_key = true;
		t.request = hp_bytes_of("{\"connector\":\"toy\",\"operation\":\"make\"}");
		t.effect_key = hp_bytes_of("order:1");
		hp_alloc_fail_at(++nth);
		fx_commit(&f, through, &one, 1, &res);
		made = hp_alloc_count();
		hp_alloc_fail_at(0);
		outcome = res.res[0].outcome;
		ck_assert_msg(outcome == HP_COMMIT_OK || outcome == HP_COMMIT_UNKNOWN, "allocation %lu: %d, %s", nth,
			      (int)outcome, res.error.message);
		keys = (int)fx_int(&f, "with gone as (delete from holdpoint.effect_key where scope = 'toy.make' returning 1)"
				       " select count(*) from gone");
		ck_assert_msg(outcome != HP_COMMIT_OK || keys == 1, "allocation %lu: no key", nth);
		ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.effect_key"), 0);
		written += outcome == HP_COMMIT_OK;
	} while (made >= nth);
	ck_assert_int_gt((int)nth - written, 10); /* so many had none */
	close_cut();
}
END_TEST

static void on_beat(void *arg, int64_t now, const struct hp_error *err)
{
	struct door_seen *s = arg;

	(void)now;
	if (err)
		s->err = *err;
	s->done = 1;
}

/* No reset, no data, as behind a pooler: our own deadline ends it, soon enough for a lease. */
START_TEST(a_heartbeat_into_silence_ends)
{
	struct door_seen lost = { 0 }, good = { 0 };
	ev_tstamp began;

	open_cut();
	began = ev_time();
	cutter_arm(cutter, CUT_MUTE, "holdpoint.heartbeat(");
	through->ops->heartbeat(through, f.engine, on_beat, &lost);
	fx_until(&f, &lost.done);
	ck_assert_int_eq(cutter_cuts(cutter), 1);
	ck_assert_int_eq(lost.err.code, HP_E_TIMEOUT);
	ck_assert_msg(ev_time() - began < 4, "%.1f s", ev_time() - began); /* 2 s, and a slow machine */
	through->ops->heartbeat(through, f.engine, on_beat, &good);
	fx_until(&f, &good.done);
	ck_assert_int_eq(good.err.code, HP_OK);
	close_cut();
}
END_TEST

/* Of what a partition leaves behind on the server (tests/chaos/partition.mjs shows it). */
START_TEST(a_vanished_client_leaves_no_session)
{
	fx_open(&f);
	ck_assert_int_eq(fx_int(&f, "select count(*) from pg_roles where rolname in ('holdpoint_engine', 'holdpoint_workflow')"
				    " and rolconfig @> array['tcp_keepalives_idle=2', 'tcp_keepalives_interval=1',"
				    " 'tcp_keepalives_count=3', 'tcp_user_timeout=5000']"), 2);
	fx_close(&f);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		acknowledgement_lost, commit_never_arrived, commit_arrives_late, an_earlier_one_landed_meanwhile,
		lost_and_fenced_meanwhile, lost_and_moved_on_by_a_door, a_lost_refusal_is_still_a_refusal,
		a_lost_refusal_of_a_state_entered, claim_lost_is_claimed_again, a_lost_answer_is_not_a_no,
		a_heartbeat_into_silence_ends, a_vanished_client_leaves_no_session, culprit_is_found_by_bisecting
	};
	/* hundreds of attempts, many of which open a connection */
	return hp_run_suite_and("store faults", tests, sizeof tests / sizeof tests[0], a_commit_without_memory_is_no_other_commit, 30);
}
