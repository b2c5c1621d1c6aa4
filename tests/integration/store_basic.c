/* store_basic.c: the PostgreSQL store's promises that only a real server can
 * break: fencing, claims, timers, keys, mailboxes, decisions, refused rows.
 */
#include <stdio.h>
#include <string.h>

#include "lib/suite.h"
#include "lib/store_fixture.h"

static const char summary[] =
	"{\"states\":[{\"name\":\"review\",\"kind\":\"approval\",\"approvers\":\"1 of payments\"},"
	"{\"name\":\"refund\",\"kind\":\"call\"},"
	"{\"name\":\"confirm\",\"kind\":\"await\",\"events\":[\"stripe.refund.updated\",\"stripe.refund.failed\"]},"
	"{\"name\":\"look\",\"kind\":\"call\",\"read\":true},{\"name\":\"done\",\"kind\":\"succeed\"}]}";
enum { REVIEW, REFUND, CONFIRM, LOOK, DONE };

static struct fx f;

static void open_fx(void)
{
	fx_open(&f);
	fx_deploy(&f, "refund", summary);
}

START_TEST(run_goes_through)
{
	struct hp_claimed c;
	struct hp_transition t;
	bool existed;
	int64_t run;
	int n;

	open_fx();
	run = fx_start(&f, "refund", "{\"a\": 1}", "k1", false, NULL, &existed);
	ck_assert(!existed);
	ck_assert_int_eq(fx_start(&f, "refund", "{\"a\": 2}", "k1", false, NULL, &existed), run);
	ck_assert(existed);
	c = fx_claim(&f, f.store, f.engine, 10, &n)[0];
	ck_assert_int_eq(n, 1);
	ck_assert_int_eq(c.run.epoch, 1);
	ck_assert_int_eq(c.run.rev, 1);
	ck_assert_int_eq(c.run.claims, 1);
	ck_assert_str_eq(c.workflow, "refund");
	ck_assert_str_eq(c.input.p, "{\"a\": 1}");
	ck_assert_str_eq(c.saved.p, "{}");
	ck_assert_uint_eq(strlen(c.token), 64);
	t = fx_from(&c.run, HP_MOVE_ENTERED, HP_KEEP);
	t.after.state = REFUND;
	t.after.visit = 2;
	t.n_saves = 2;
	t.saves[0] = (struct hp_save){ "payment", hp_bytes_of("{\"id\": 7}") };
	t.saves[1] = (struct hp_save){ NULL, hp_bytes_of("{\"payment\": {\"id\": 8}, \"b\": null}") };
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_CONFLICT);
	fx_done(&c.run, &t);
	ck_assert_str_eq(fx_reload(&f, run, 1)->saved.p, "{\"b\": null, \"payment\": {\"id\": 8}}");
	t = fx_from(&c.run, HP_MOVE_FINISHED, HP_FINISH);
	t.result = hp_bytes_of("{\"ok\": true}");
	ck_assert_int_eq(fx_commit1(&f, &t), HP_COMMIT_OK);
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "run", "x", "{\"run\": 1}", NULL), "\"result\": {\"ok\": true}"));
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "history", "x", "{\"run\": 1}", NULL), "\"move\": \"finished\""));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 0);
	ck_assert_str_eq(fx_sql(&f, "select string_agg(rev::text, ',' order by rev) from holdpoint.history"), "0,2,3");
	fx_close(&f);
}
END_TEST

HP_SUITE("store basic", run_goes_through)
