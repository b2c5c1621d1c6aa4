/* why: one exact sentence for every cause. The clock stands still at T0
 * (2023-11-14 22:13:20 UTC), runs and approvals are numbered from 1. */
#include <stdio.h>

#include "contract.h"

#define AT_T0 "2023-11-14 22:13:20 UTC"
#define HANDS "engine 1 (host host, process 1)"

/* Each brings the one run into its state. */
static void ready(void)
{
	c_start("flow", "{}", NULL, false);
}

static void no_engine(void)
{
	c_start("flow", "{}", NULL, false);
	c_stop(c_engine);
}

static void owned(void)
{
	c_own();
}

static void owner_gone(void)
{
	c_own();
	c_advance(LEASE);
}

static void in_flight(void)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_admit(&t, "{}", "k", false);
	c_commit_ok(&r, &t);
}

static void phase(enum hp_phase phase)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_admit(&t, "{}", "k", false);
	c_commit_ok(&r, &t);
	c_begin(&t, &r);
	t.after.status = HP_WAITING;
	t.after.phase = phase;
	t.after.due_at = c_now + HP_MINUTE;
	snprintf(t.after.code, sizeof t.after.code, "rate_limited");
	t.move = HP_MOVE_RETRY;
	t.disposition = HP_PARK;
	c_commit_ok(&r, &t);
}

static void backoff(void)
{
	phase(HP_PH_BACKOFF);
}

static void doubt(void)
{
	phase(HP_PH_DOUBT);
}

static void due(void)
{
	phase(HP_PH_BACKOFF);
	c_advance(HP_MINUTE);
	ck_assert_int_eq(c_heartbeat(c_register()), HP_OK);
}

static void held(void)
{
	struct c_run r = c_own();

	c_held(&r);
}

static void pause_by_alice(void)
{
	json_decref(c_door_ok("pause", "alice", "{'run':1,'reason':'the provider migrates'}"));
}

static void paused(void)
{
	c_start("flow", "{}", NULL, false);
	pause_by_alice();
}

static void to_be_paused(void)
{
	c_own();
	pause_by_alice();
}

static void held_paused(void)
{
	held();
	pause_by_alice();
}

static void held_in_doubt(void)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_admit(&t, "{}", "k", false);
	c_commit_ok(&r, &t);
	c_begin(&t, &r);
	c_hold(&t, "timeout");
	c_commit_ok(&r, &t);
}

static void held_approval(void)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_open_approval(&r, S_REVIEW, "{}");
	json_decref(c_door_ok("cancel", "alice", "{'run':%lld,'reason':'stop'}", (long long)r.row.id));
	r = c_claim_one();
	c_begin(&t, &r);
	c_hold(&t, "expired");
	c_commit_ok(&r, &t);
}

static void told(void)
{
	struct c_run r = c_own();

	c_held(&r);
	json_decref(c_door_ok("operate", "alice", "{'run':1,'action':'retry','reason':'again'}"));
}

static void approval(void)
{
	struct c_run r = c_own();

	c_open_approval(&r, S_REVIEW, NULL);
}

static void voted(void)
{
	struct c_run r = c_own();

	c_open_approval(&r, S_QUORUM, NULL);
	json_decref(c_door_ok("decide", "carol", "{'approval':1,'decision':'approve','reason':'fine'}"));
}

static void event(void)
{
	struct c_run r = c_own();

	c_await(&r, S_EITHER, "a\nb", c_now + HP_HOUR);
}

static void event_without_end(void)
{
	struct c_run r = c_own();

	c_await(&r, S_CONFIRM, "re_1", 0);
}

static void timer(void)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_HOUR);
	c_commit_ok(&r, &t);
}

static void parked(void)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_PAUSE, 0);
	c_commit_ok(&r, &t);
}

static void end(enum hp_status status)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_finish(&t, status);
	if (status == HP_FAILED) {
		snprintf(t.after.code, sizeof t.after.code, "card_declined");
		t.message = "it was refused";
	}
	c_commit_ok(&r, &t);
}

static void succeeded(void)
{
	end(HP_SUCCEEDED);
}

static void failed(void)
{
	end(HP_FAILED);
}

static void to_be_cancelled(void)
{
	c_own();
	json_decref(c_door_ok("cancel", "bob", "{'run':1,'reason':'a mistake'}"));
}

static void cancelled(void)
{
	struct c_run r = c_own();
	struct hp_transition t;

	json_decref(c_door_ok("cancel", "bob", "{'run':1,'reason':'a mistake'}"));
	c_begin(&t, &r);
	c_finish(&t, HP_CANCELLED);
	c_commit_ok(&r, &t);
}

static const struct {
	void (*bring)(void);
	const char *cause, *sentence;
} causes[] = {
	{ ready, "ready", "Run 1 is ready since " AT_T0 " and will be taken by the next free engine." },
	{ no_engine, "no_engine", "Run 1 is ready since " AT_T0 ", but no engine is alive: start one." },
	{ owned, "owned", "Run 1 is in state \"refund\" since " AT_T0 ", in the hands of " HANDS "." },
	{ owner_gone, "owner_gone",
	  "Run 1 was in the hands of " HANDS ", whose lease ran out at 2023-11-14 22:13:30 UTC; "
	  "it will be taken over by another engine." },
	{ in_flight, "in_flight",
	  "Run 1 waits for the answer to attempt 1 of state \"refund\", sent after " AT_T0 " by " HANDS "." },
	{ backoff, "backoff",
	  "Run 1 tries state \"refund\" again at 2023-11-14 22:14:20 UTC: attempt 1 failed with code "
	  "rate_limited." },
	{ doubt, "doubt",
	  "Run 1 is in doubt in state \"refund\": whether attempt 1 happened is not known; it looks at "
	  "2023-11-14 22:14:20 UTC." },
	{ due, "ready",
	  "Run 1 is ready since 2023-11-14 22:14:20 UTC and will be taken by the next free engine." },
	{ held, "held",
	  "Run 1 is held in state \"refund\" since " AT_T0 " with code card_declined: it was refused. "
	  "An operator can retry, skip or give up." },
	{ held_in_doubt, "held",
	  "Run 1 is held in state \"refund\" since " AT_T0 " with code timeout: it was refused. Whether "
	  "its effect happened is not known: look at the provider first. An operator can retry, skip or "
	  "give up." },
	{ held_approval, "held",
	  "Run 1 is held in state \"review\" since " AT_T0 " with code expired: it was refused. An operator "
	  "can retry or give up. It is to be cancelled." },
	{ paused, "paused",
	  "Run 1 is paused in state \"refund\" since " AT_T0 " by alice: the provider migrates. "
	  "holdpoint resume 1 lets it go on." },
	{ held_paused, "paused",
	  "Run 1 is paused in state \"refund\" since " AT_T0 " by alice: the provider migrates. "
	  "holdpoint resume 1 lets it go on. It is held with code card_declined." },
	{ to_be_paused, "owned",
	  "Run 1 is in state \"refund\" since " AT_T0 ", in the hands of " HANDS ". It is to be paused." },
	{ told, "ready", "Run 1 is ready since " AT_T0 " and will be taken by the next free engine." },
	{ approval, "approval",
	  "Run 1 waits for approval 1 by 1 of payments until 2023-11-15 02:13:20 UTC: "
	  "holdpoint approve 1 --reason TEXT." },
	{ voted, "approval",
	  "Run 1 waits for approval 1 by 2 of sre and 1 of security until 2023-11-15 02:13:20 UTC; "
	  "approved so far by carol: holdpoint approve 1 --reason TEXT." },
	{ event, "event",
	  "Run 1 waits in state \"either\" for the event left with key \"a\" or right with key \"b\" until "
	  "2023-11-14 23:13:20 UTC." },
	{ event_without_end, "event",
	  "Run 1 waits in state \"confirm\" for the event stripe.refund.updated with key \"re_1\"." },
	{ timer, "timer", "Run 1 waits in state \"pause\" until 2023-11-14 23:13:20 UTC." },
	{ parked, "parked",
	  "Run 1 is parked in state \"pause\" since " AT_T0 " and nothing will wake it by itself: an "
	  "operator can cancel it." },
	{ succeeded, "succeeded", "Run 1 succeeded at " AT_T0 "." },
	{ failed, "failed", "Run 1 failed at " AT_T0 " with code card_declined: it was refused." },
	{ to_be_cancelled, "owned",
	  "Run 1 is in state \"refund\" since " AT_T0 ", in the hands of " HANDS ". It is to be cancelled." },
	{ cancelled, "cancelled", "Run 1 was cancelled at " AT_T0 " by bob: a mistake." },
};

START_TEST(every_cause_has_its_sentence)
{
	json_t *v;

	causes[_i].bring();
	v = c_door_ok("why", "tester", "{'run':1}");
	ck_assert_str_eq(hp_json_str(v, "sentence"), causes[_i].sentence);
	ck_assert_str_eq(hp_json_str(v, "cause"), causes[_i].cause);
	json_decref(v);
}
END_TEST

TCase *contract_why(void)
{
	TCase *t = tcase_create("why");

	tcase_add_loop_test(t, every_cause_has_its_sentence, 0, (int)(sizeof causes / sizeof causes[0]));
	return t;
}
