/* Events: kept in mailboxes, read by each run with its own cursor; webhooks in one commit. */
#include "contract.h"

#define DAY_30 (30 * HP_DAY)

/* The run reads what woke it and goes on. */
static void read_mail(struct c_run *r, int state)
{
	struct hp_transition t;

	ck_assert_int_gt(r->mail_id, 0);
	c_begin(&t, r);
	c_enter(&t, state);
	t.consume_mail = r->mail_id;
	c_commit_ok(r, &t);
}

START_TEST(an_event_wakes_the_run_that_waits)
{
	struct c_run r = c_own();

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_claim_none();
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{'status':'succeeded'}"), 1);
	r = c_claim_one();
	ck_assert_int_gt(r.mail_id, 0);
	ck_assert_int_eq(r.mail_wait, 0);
	ck_assert_ptr_nonnull(strstr(r.mail, "succeeded"));
	read_mail(&r, S_LOOK);
}
END_TEST

START_TEST(another_key_or_name_wakes_nobody)
{
	struct c_run r = c_own();

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_2", "{}"), 0);
	ck_assert_int_eq(c_event("stripe.refund.failed", "re_1", "{}"), 0);
	c_claim_none();
}
END_TEST

START_TEST(an_event_that_came_early_is_found)
{
	struct c_run r;

	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{'n':1}"), 0);
	c_advance(HP_DAY);
	r = c_own();
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY); /* parks with the event already there */
	r = c_claim_one();
	ck_assert_ptr_nonnull(strchr(r.mail, '1'));
}
END_TEST

START_TEST(an_event_that_came_between_claim_and_park_is_found)
{
	struct c_run r = c_own();

	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{}"), 0);
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	ck_assert_int_gt(c_claim_one().mail_id, 0);
}
END_TEST

struct flying {
	bool done, failed;
};

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct flying *f = arg;

	(void)now;
	(void)n;
	f->failed = res[0].outcome != HP_COMMIT_OK;
	f->done = true;
}

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct flying *f = arg;

	(void)json;
	f->failed = err != NULL;
	f->done = true;
}

/* Parking and delivering at the same time over two connections, both orders. */
START_TEST(delivering_while_parking_never_loses_the_event)
{
	static const char args[] = "{\"name\":\"stripe.refund.updated\",\"key\":\"re_1\",\"payload\":{}}";
	struct hp_store *s0 = the_driver->store(0), *s1 = the_driver->store(1);

	for (int i = 0; i < 20; i++) {
		struct c_run r = c_own();
		struct hp_transition t;
		const struct hp_transition *p = &t;
		struct flying a = { 0 }, b = { 0 };

		c_begin(&t, &r);
		c_park(&t, S_CONFIRM, c_now + HP_DAY);
		t.wait_keys = hp_bytes_of("re_1");
		if (i & 1)
			s0->ops->commit(s0, &p, 1, on_commit, &a);
		s1->ops->door(s1, "send_event", "tester", hp_bytes_of(args), on_door, &b);
		if (!(i & 1))
			s0->ops->commit(s0, &p, 1, on_commit, &a);
		c_wait(&a.done);
		c_wait(&b.done);
		ck_assert(!a.failed && !b.failed);
		r = c_claim_one();
		ck_assert_int_gt(r.mail_id, 0);
		read_mail(&r, S_LOOK);
	}
}
END_TEST

START_TEST(an_event_is_read_once_by_each_run_and_in_order)
{
	struct c_run r = c_own();

	c_event(CONFIRM_EVENT, "re_1", "{'n':1}");
	c_event(CONFIRM_EVENT, "re_1", "{'n':2}");
	for (char n = '1'; n <= '2'; n++) {
		c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
		r = c_claim_one();
		ck_assert_msg(strchr(r.mail, n) != NULL, "read %s, not event %c", r.mail, n);
		read_mail(&r, S_LOOK);
	}
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_claim_none();
	c_event(CONFIRM_EVENT, "re_1", "{'n':3}");
	ck_assert_ptr_nonnull(strchr(c_claim_one().mail, '3'));
}
END_TEST

START_TEST(two_runs_on_one_mailbox_each_see_it)
{
	struct c_run a = c_own(), b = c_own(), got[3];

	c_await(&a, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_await(&b, S_CONFIRM, "re_1", c_now + HP_DAY);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{}"), 2);
	ck_assert_int_eq(c_claim(c_engine, 3, got), 2);
	ck_assert_int_gt(got[0].mail_id, 0);
	ck_assert_int_eq(got[0].mail_id, got[1].mail_id);
	read_mail(&got[0], S_LOOK);
	read_mail(&got[1], S_LOOK);
}
END_TEST

START_TEST(of_several_events_the_first_one_counts)
{
	struct c_run r = c_own();

	c_event("right", "k2", "{'n':1}");
	c_event("left", "k1", "{'n':2}");
	c_await(&r, S_EITHER, "k1\nk2", c_now + HP_DAY);
	r = c_claim_one();
	ck_assert_int_eq(r.mail_wait, 1);
	ck_assert_ptr_nonnull(strchr(r.mail, '1'));
	read_mail(&r, S_LOOK);
	c_await(&r, S_EITHER, "k1\nk2", c_now + HP_DAY); /* the other was not lost */
	r = c_claim_one();
	ck_assert_int_eq(r.mail_wait, 0);
	ck_assert_ptr_nonnull(strchr(r.mail, '2'));
}
END_TEST

START_TEST(as_many_keys_as_events_or_it_is_refused)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_begin(&t, &r);
	c_park(&t, S_EITHER, c_now + HP_DAY);
	t.wait_keys = hp_bytes_of("only one");
	ck_assert_int_eq(c_commit(&t).outcome, HP_COMMIT_REFUSED);
}
END_TEST

START_TEST(an_empty_key_is_a_key)
{
	struct c_run r = c_own();

	c_await(&r, S_CONFIRM, "", c_now + HP_DAY);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "", "{}"), 1);
	ck_assert_int_gt(c_claim_one().mail_id, 0);
}
END_TEST

START_TEST(an_event_that_expired_is_not_read)
{
	struct c_run r;

	c_event(CONFIRM_EVENT, "re_1", "{}");
	c_advance(DAY_30);
	r = c_own();
	c_await(&r, S_CONFIRM, "re_1", 0);
	c_claim_none();
}
END_TEST

START_TEST(an_event_is_read_until_the_microsecond_it_expires)
{
	struct c_run r;

	c_event(CONFIRM_EVENT, "re_1", "{}");
	c_advance(DAY_30 - 1);
	r = c_own();
	c_await(&r, S_CONFIRM, "re_1", 0);
	ck_assert_int_gt(c_claim_one().mail_id, 0);
}
END_TEST

START_TEST(a_late_event_finds_nobody_and_does_no_harm)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_MINUTE);
	c_advance(HP_MINUTE);
	r = c_claim_one();
	ck_assert_int_eq(r.mail_id, 0);
	c_begin(&t, &r);
	c_enter(&t, S_LOOK); /* timed out */
	c_commit_ok(&r, &t);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{}"), 0);
	ck_assert(c_reload(c_engine, r.row.id, r.row.epoch, &r));
	ck_assert_int_eq(r.mail_id, 0);
	c_begin(&t, &r);
	c_park(&t, S_PAUSE, c_now + HP_DAY);
	c_commit_ok(&r, &t);
	c_claim_none();
}
END_TEST

START_TEST(a_finished_run_waits_for_nothing)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_MINUTE);
	c_advance(HP_MINUTE);
	r = c_claim_one();
	c_begin(&t, &r);
	c_finish(&t, HP_FAILED);
	c_commit_ok(&r, &t);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{}"), 0);
	c_claim_none();
}
END_TEST

START_TEST(a_wait_survives_a_wake_for_nothing)
{
	struct c_run r = c_own();
	struct hp_transition t;

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_MINUTE);
	c_advance(HP_MINUTE);
	r = c_claim_one();
	c_begin(&t, &r);
	t.after.due_at = c_now + HP_DAY;
	t.move = HP_MOVE_WOKEN;
	t.disposition = HP_PARK; /* the same visit, no new keys */
	c_commit_ok(&r, &t);
	ck_assert_int_eq(c_event(CONFIRM_EVENT, "re_1", "{}"), 1);
	ck_assert_int_gt(c_claim_one().mail_id, 0);
}
END_TEST

START_TEST(events_are_checked)
{
	c_door_fails(HP_E_INVALID, "\"name\" is missing", "send_event", "tester",
		     "{'name':'','key':'k','payload':{}}");
}
END_TEST

/* ---- webhooks ---- */

struct ingest {
	bool done, duplicate, stale, existed, claimed;
	int n;
	int64_t run;
	enum hp_code code;
};

static void on_ingest(void *arg, int64_t now, const struct hp_ingest_result *res,
		      const struct hp_error *err)
{
	struct ingest *g = arg;

	(void)now;
	g->done = true;
	g->code = err ? err->code : HP_OK;
	if (err)
		return;
	g->duplicate = res->duplicate;
	g->stale = res->stale;
	g->n = res->n_starts;
	if (res->n_starts) {
		g->run = res->starts[0].run_id;
		g->existed = res->starts[0].existed;
		g->claimed = res->starts[0].claimed != NULL;
	}
}

static struct ingest ingest(const char *event, const char *workflow, const char *key, int deliveries)
{
	struct hp_start st = { .workflow = workflow, .input = hp_bytes_of("{\"id\":1}"),
			       .key = hp_bytes_of(key), .requester = "webhook:duffel", .own = true };
	struct hp_delivery d[2] = { { hp_bytes_of(CONFIRM_EVENT), hp_bytes_of("re_1") },
				    { hp_bytes_of("left"), hp_bytes_of("k1") } };
	struct hp_ingest in = { .source = "duffel", .event_id = hp_bytes_of(event),
				.body = { "\x00\xff raw", 6 }, .payload = hp_bytes_of("{\"p\":1}"),
				.starts = &st, .n_starts = workflow ? 1 : 0,
				.deliveries = d, .n_deliveries = deliveries };
	struct hp_store *s = the_driver->store(0);
	struct ingest g = { 0 };

	s->ops->ingest(s, c_engine, &in, on_ingest, &g);
	c_wait(&g.done);
	return g;
}

START_TEST(a_webhook_starts_its_run_here)
{
	struct ingest g = ingest("evt_1", "flow", "ord_1", 0);

	ck_assert_int_eq(g.code, HP_OK);
	ck_assert(!g.duplicate && !g.existed && g.claimed);
	c_claim_none(); /* it is ours already */
}
END_TEST

START_TEST(a_duplicate_webhook_does_nothing)
{
	struct c_run r = c_own();
	struct ingest g;

	ingest("evt_1", "flow", NULL, 1);
	g = ingest("evt_1", "flow", NULL, 1);
	ck_assert(g.duplicate);
	ck_assert_int_eq(g.n, 0);
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	r = c_claim_one();
	read_mail(&r, S_LOOK);
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_claim_none(); /* delivered once, started once */
}
END_TEST

/* An event of a type that starts workflows; the engine knows of `n` definitions. */
static struct ingest triggered(const char *event, const char *type, const struct hp_triggered *known, int n)
{
	struct hp_ingest in = { .source = "duffel", .event_id = hp_bytes_of(event), .body = { "raw", 3 },
				.payload = hp_bytes_of("{}"), .type = type, .triggered = known, .n_triggered = n };
	struct hp_store *s = the_driver->store(0);
	struct ingest g = { 0 };

	s->ops->ingest(s, c_engine, &in, on_ingest, &g);
	c_wait(&g.done);
	ck_assert_int_eq(g.code, HP_OK);
	return g;
}

START_TEST(a_webhook_is_not_taken_by_who_knows_other_definitions)
{
	struct hp_triggered known[2] = { { .workflow = "one" }, { .workflow = "two" } };

	memset(known[0].digest, 0xe1, HP_SHA256_LEN);
	memset(known[1].digest, 0xe2, HP_SHA256_LEN);
	ck_assert(!triggered("evt_1", "order.failed", NULL, 0).stale); /* it starts nothing */
	c_deploy_triggered("two", 0xe2, "[{'source':'duffel','events':['order.failed','order.left']},"
					"{'source':'other','events':['order.new']}]");
	ck_assert(triggered("evt_2", "order.failed", NULL, 0).stale);
	ck_assert(!triggered("evt_1", "order.failed", NULL, 0).stale); /* it was taken before */
	ck_assert(!triggered("evt_3", "order.new", NULL, 0).stale);
	c_deploy_triggered("one", 0xe1, "[{'source':'duffel','events':['order.failed']}]");
	ck_assert(triggered("evt_2", "order.failed", &known[1], 1).stale);
	ck_assert(!triggered("evt_2", "order.failed", known, 2).stale); /* nothing was stored before */
	ck_assert(triggered("evt_2", "order.failed", known, 2).duplicate);
	ck_assert(!triggered("evt_4", "order.left", &known[1], 1).stale);
	c_deploy_triggered("two", 0xe3, "[{'source':'duffel','events':['order.failed']}]");
	ck_assert(triggered("evt_5", "order.failed", known, 2).stale); /* another version of it */
	ck_assert(triggered("evt_5", "order.left", &known[1], 1).stale); /* which that does not start any more */
	ck_assert(!triggered("evt_5", "order.left", NULL, 0).stale);
}
END_TEST

/* Who has nobody for it asks before it says so, and nothing is written. */
START_TEST(a_webhook_that_fits_nowhere_is_only_asked_about)
{
	struct hp_triggered known = { .workflow = "two" };
	struct hp_ingest in = { .source = "duffel", .event_id = hp_bytes_of("evt_1"), .body = { "raw", 3 }, .payload = hp_bytes_of("{}"),
				.type = "order.failed", .triggered = &known, .n_triggered = 1, .only_ask = true };
	struct hp_store *s = the_driver->store(0);

	memset(known.digest, 0xe2, HP_SHA256_LEN);
	c_deploy_triggered("two", 0xe2, "[{'source':'duffel','events':['order.failed']}]");
	for (int i = 0; i < 2; i++) {
		struct ingest g = { 0 };

		s->ops->ingest(s, c_engine, &in, on_ingest, &g);
		c_wait(&g.done);
		ck_assert_int_eq(g.code, HP_OK);
		ck_assert_int_eq(g.stale, i);
		known.digest[0]++;
	}
	known.digest[0] = 0xe2;
	ck_assert(!triggered("evt_1", "order.failed", &known, 1).duplicate);
}
END_TEST

START_TEST(a_webhook_starts_and_delivers_in_one)
{
	struct c_run r = c_own(), other = c_own(), got[3];

	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_await(&other, S_EITHER, "k1\nk2", c_now + HP_DAY);
	ck_assert(ingest("evt_1", "flow", "ord_1", 2).claimed);
	ck_assert_int_eq(c_claim(c_engine, 3, got), 2);
	ck_assert_int_gt(got[0].mail_id, 0);
	ck_assert_int_gt(got[1].mail_id, 0);
	ck_assert_ptr_nonnull(strstr(got[0].mail, "\"p\""));
}
END_TEST

START_TEST(a_webhook_that_cannot_start_leaves_nothing)
{
	struct c_run r = c_own();

	ck_assert_int_eq(ingest("evt_1", "nothing", NULL, 1).code, HP_E_NOT_FOUND);
	c_await(&r, S_CONFIRM, "re_1", c_now + HP_DAY);
	c_claim_none();
	ck_assert(!ingest("evt_1", "flow", NULL, 1).duplicate); /* it may come again */
	c_claim_one();
}
END_TEST

START_TEST(a_webhook_joins_by_key)
{
	struct ingest a = ingest("evt_1", "flow", "ord_1", 0), b = ingest("evt_2", "flow", "ord_1", 0);

	ck_assert_int_eq(a.run, b.run);
	ck_assert(b.existed && !b.claimed);
}
END_TEST

TCase *contract_mail(void)
{
	TCase *t = tcase_create("events and webhooks");

	tcase_add_test(t, an_event_wakes_the_run_that_waits);
	tcase_add_test(t, another_key_or_name_wakes_nobody);
	tcase_add_test(t, an_event_that_came_early_is_found);
	tcase_add_test(t, an_event_that_came_between_claim_and_park_is_found);
	tcase_add_test(t, delivering_while_parking_never_loses_the_event);
	tcase_add_test(t, an_event_is_read_once_by_each_run_and_in_order);
	tcase_add_test(t, two_runs_on_one_mailbox_each_see_it);
	tcase_add_test(t, of_several_events_the_first_one_counts);
	tcase_add_test(t, as_many_keys_as_events_or_it_is_refused);
	tcase_add_test(t, an_empty_key_is_a_key);
	tcase_add_test(t, an_event_that_expired_is_not_read);
	tcase_add_test(t, an_event_is_read_until_the_microsecond_it_expires);
	tcase_add_test(t, a_late_event_finds_nobody_and_does_no_harm);
	tcase_add_test(t, a_finished_run_waits_for_nothing);
	tcase_add_test(t, a_wait_survives_a_wake_for_nothing);
	tcase_add_test(t, events_are_checked);
	tcase_add_test(t, a_webhook_starts_its_run_here);
	tcase_add_test(t, a_duplicate_webhook_does_nothing);
	tcase_add_test(t, a_webhook_is_not_taken_by_who_knows_other_definitions);
	tcase_add_test(t, a_webhook_that_fits_nowhere_is_only_asked_about);
	tcase_add_test(t, a_webhook_starts_and_delivers_in_one);
	tcase_add_test(t, a_webhook_that_cannot_start_leaves_nothing);
	tcase_add_test(t, a_webhook_joins_by_key);
	return t;
}
