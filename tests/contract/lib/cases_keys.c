/* Starting and keys: one run per key, for as long as something of it may be live.
 * Definitions: a run keeps the one it started under. */
#include "contract.h"

START_TEST(a_start_is_ready_at_once)
{
	struct c_started s = c_start("flow", "{\"a\":1}", NULL, false);
	struct c_run r;

	ck_assert_int_eq(s.code, HP_OK);
	ck_assert(!s.existed && !s.claimed);
	r = c_claim_one();
	ck_assert_int_eq(r.row.id, s.run);
	ck_assert_str_eq(r.workflow, "flow");
	ck_assert_int_eq(r.row.visit, 1);
	ck_assert_int_eq(r.row.state, 0);
	ck_assert_int_eq(r.row.status, HP_RUNNING);
	ck_assert_int_eq(r.row.phase, HP_PH_ENTER);
	ck_assert_int_eq(r.row.entered_at, T0);
}
END_TEST

START_TEST(an_own_start_is_claimed_in_the_same_commit)
{
	struct c_started s = c_start("flow", "{\"a\":1}", "k", true);
	struct hp_transition t;

	ck_assert(s.claimed);
	ck_assert_int_eq(s.mine.row.epoch, 1);
	ck_assert_str_eq(s.mine.key, "k");
	ck_assert_ptr_nonnull(strchr(s.mine.input, '1'));
	c_claim_none();
	c_begin(&t, &s.mine);
	c_enter(&t, S_PAUSE);
	c_commit_ok(&s.mine, &t);
}
END_TEST

START_TEST(a_dead_engine_cannot_own_what_it_starts)
{
	struct c_started s;

	c_stop(c_engine);
	s = c_start("flow", "{}", NULL, true);
	ck_assert_int_eq(s.code, HP_OK);
	ck_assert(!s.claimed);
	c_engine = c_register();
	ck_assert_int_eq(c_claim_one().row.id, s.run);
}
END_TEST

START_TEST(the_same_key_joins)
{
	struct c_started a = c_start("flow", "{}", "booking:1", false);
	struct c_started b = c_start("flow", "{}", "booking:1", false);

	ck_assert(!a.existed);
	ck_assert(b.existed);
	ck_assert_int_eq(a.run, b.run);
	c_claim_one(); /* exactly one */
}
END_TEST

START_TEST(the_same_key_with_another_input_joins_the_first_input)
{
	struct c_started a = c_start("flow", "{\"n\":1}", "k", false);
	struct c_started b = c_start("flow", "{\"n\":2}", "k", true);

	ck_assert(b.existed && !b.claimed);
	ck_assert_int_eq(a.run, b.run);
	ck_assert_ptr_nonnull(strchr(c_claim_one().input, '1'));
}
END_TEST

START_TEST(keys_belong_to_their_workflow)
{
	struct c_started a = c_start("flow", "{}", "k", false);
	struct c_started b = c_start("other", "{}", "k", false);

	ck_assert(!b.existed);
	ck_assert_int_ne(a.run, b.run);
}
END_TEST

START_TEST(without_a_key_every_start_is_a_run)
{
	ck_assert_int_ne(c_start("flow", "{}", NULL, false).run, c_start("flow", "{}", NULL, false).run);
	ck_assert_int_ne(c_start("flow", "{}", "", false).run, c_start("flow", "{}", "", false).run);
}
END_TEST

struct racer {
	bool done, existed;
	int64_t run;
};

static void on_race(void *arg, int64_t now, const struct hp_start_result *res,
		    const struct hp_error *err)
{
	struct racer *r = arg;

	(void)now;
	ck_assert_msg(res != NULL, "%s", err ? err->message : "");
	r->run = res->run_id;
	r->existed = res->existed;
	r->done = true;
}

START_TEST(concurrent_starts_of_one_key_make_one_run)
{
	struct racer r[8];
	struct hp_start st = { .workflow = "flow", .input = hp_bytes_of("{}"),
			       .key = hp_bytes_of("race"), .requester = "tester" };
	int made = 0;

	memset(r, 0, sizeof r);
	for (int i = 0; i < 8; i++) {
		struct hp_store *s = the_driver->store(i & 1);

		s->ops->start(s, c_engine, &st, on_race, &r[i]);
	}
	for (int i = 0; i < 8; i++) {
		c_wait(&r[i].done);
		made += !r[i].existed;
		ck_assert_int_eq(r[i].run, r[0].run);
	}
	ck_assert_int_eq(made, 1);
}
END_TEST

static void end(struct c_run *r, enum hp_status status)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_finish(&t, status);
	c_commit_ok(r, &t);
}

START_TEST(a_finished_run_keeps_its_key)
{
	struct c_run r = c_own_by("tester", "k");

	end(&r, HP_SUCCEEDED);
	ck_assert(c_start("flow", "{}", "k", false).existed);
}
END_TEST

START_TEST(a_failed_run_without_effects_frees_its_key)
{
	struct c_run r = c_own_by("tester", "k");
	struct c_started again;

	end(&r, HP_FAILED);
	again = c_start("flow", "{}", "k", false);
	ck_assert(!again.existed);
	ck_assert_int_ne(again.run, r.row.id);
	ck_assert_int_eq(c_start("flow", "{}", "k", false).run, again.run);
}
END_TEST

START_TEST(a_cancelled_run_without_effects_frees_its_key)
{
	struct c_run r = c_own_by("tester", "k");

	end(&r, HP_CANCELLED);
	ck_assert(!c_start("flow", "{}", "k", false).existed);
}
END_TEST

/* One admission that came to `outcome`, then the end. */
static void effect_then_end(struct c_run *r, int state, enum hp_class outcome, bool resolved)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_enter(&t, state);
	c_admit(&t, "{}", "effect", false);
	c_commit_ok(r, &t);
	c_begin(&t, r);
	t.outcome = outcome;
	t.after.unresolved = !resolved;
	c_finish(&t, HP_FAILED);
	c_commit_ok(r, &t);
}

START_TEST(a_failed_run_with_an_effect_keeps_its_key)
{
	struct c_run r = c_own_by("tester", "k");

	effect_then_end(&r, S_REFUND, HP_CLASS_OK, true);
	ck_assert(c_start("flow", "{}", "k", false).existed);
}
END_TEST

START_TEST(a_failed_run_with_an_unknown_outcome_keeps_its_key)
{
	struct c_run r = c_own_by("tester", "k");

	effect_then_end(&r, S_REFUND, HP_AMBIGUOUS, false);
	ck_assert(c_start("flow", "{}", "k", false).existed);
}
END_TEST

START_TEST(a_failed_run_whose_effect_was_refused_frees_its_key)
{
	struct c_run r = c_own_by("tester", "k");

	effect_then_end(&r, S_REFUND, HP_TERMINAL, true);
	ck_assert(!c_start("flow", "{}", "k", false).existed);
}
END_TEST

START_TEST(a_failed_run_that_only_looked_frees_its_key)
{
	struct c_run r = c_own_by("tester", "k");

	effect_then_end(&r, S_LOOK, HP_CLASS_OK, true);
	ck_assert(!c_start("flow", "{}", "k", false).existed);
}
END_TEST

START_TEST(an_unknown_workflow_is_not_found)
{
	struct c_started s = c_start("nothing", "{}", NULL, false);

	ck_assert_int_eq(s.code, HP_E_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(s.message, "there is no workflow \"nothing\""));
	c_claim_none();
}
END_TEST

START_TEST(the_start_door_joins_too)
{
	json_t *a = c_door_ok("start", "alice", "{'workflow':'flow','input':{'n':1},'key':'k'}");
	json_t *b = c_door_ok("start", "bob", "{'workflow':'flow','input':{'n':2},'key':'k'}");

	ck_assert_int_eq(hp_json_bool(a, "existed", 1), 0);
	ck_assert_int_eq(hp_json_bool(b, "existed", 0), 1);
	ck_assert_int_eq(hp_json_int(a, "run", 1), hp_json_int(b, "run", 2));
	json_decref(a);
	json_decref(b);
	c_door_fails(HP_E_NOT_FOUND, "there is no workflow \"nothing\"", "start", "alice",
		     "{'workflow':'nothing','input':{}}");
}
END_TEST

/* ---- definitions ---- */

struct bundles {
	bool done;
	int n;
	enum hp_code code;
	uint8_t tag[4];
	bool sources;
};

static void on_bundle(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	struct bundles *x = arg;

	x->code = err ? err->code : HP_OK;
	x->n = n;
	for (int i = 0; i < n && i < 4; i++) {
		/* as in c_deploy: flow is 1 or 3, other is 2 */
		ck_assert_str_eq(b[i].workflow, b[i].digest[0] == 2 ? "other" : "flow");
		ck_assert_ptr_nonnull(strstr(b[i].summary.p, "refund"));
		x->tag[i] = b[i].digest[0];
		x->sources = b[i].bundle.n > 0;
	}
	x->done = true;
}

START_TEST(a_run_is_pinned_to_the_definition_it_started_under)
{
	struct c_run old = c_own(), again;

	c_deploy("flow", 3);
	ck_assert_int_eq(c_own().digest[0], 3);
	ck_assert(c_reload(c_engine, old.row.id, old.row.epoch, &again));
	ck_assert_int_eq(again.digest[0], 1);
}
END_TEST

START_TEST(the_current_definitions_are_listed)
{
	struct hp_store *s = the_driver->store(0);
	struct bundles x = { 0 };

	c_deploy("flow", 3);
	s->ops->current(s, on_bundle, &x);
	c_wait(&x.done);
	ck_assert_int_eq(x.n, 2);
	ck_assert_int_eq(x.tag[0] + x.tag[1], 2 + 3);
	ck_assert(!x.sources);
	c_deploy("flow", 1); /* back to one that is known */
	x.done = false;
	s->ops->current(s, on_bundle, &x);
	c_wait(&x.done);
	ck_assert_int_eq(x.tag[0] + x.tag[1], 2 + 1);
}
END_TEST

START_TEST(a_definition_is_found_by_its_digest)
{
	struct hp_store *s = the_driver->store(0);
	struct bundles x = { 0 };
	uint8_t digest[HP_SHA256_LEN];

	c_deploy("flow", 3);
	memset(digest, 1, sizeof digest); /* not current any more, but runs are pinned to it */
	s->ops->bundle(s, digest, on_bundle, &x);
	c_wait(&x.done);
	ck_assert_int_eq(x.n, 1);
	ck_assert(x.sources);
	memset(digest, 9, sizeof digest);
	x.done = false;
	s->ops->bundle(s, digest, on_bundle, &x);
	c_wait(&x.done);
	ck_assert_int_eq(x.n, 0);
	ck_assert_int_eq(x.code, HP_E_NOT_FOUND);
}
END_TEST

TCase *contract_keys(void)
{
	TCase *t = tcase_create("starting and keys");

	tcase_add_test(t, a_start_is_ready_at_once);
	tcase_add_test(t, an_own_start_is_claimed_in_the_same_commit);
	tcase_add_test(t, a_dead_engine_cannot_own_what_it_starts);
	tcase_add_test(t, the_same_key_joins);
	tcase_add_test(t, the_same_key_with_another_input_joins_the_first_input);
	tcase_add_test(t, keys_belong_to_their_workflow);
	tcase_add_test(t, without_a_key_every_start_is_a_run);
	tcase_add_test(t, concurrent_starts_of_one_key_make_one_run);
	tcase_add_test(t, a_finished_run_keeps_its_key);
	tcase_add_test(t, a_failed_run_without_effects_frees_its_key);
	tcase_add_test(t, a_cancelled_run_without_effects_frees_its_key);
	tcase_add_test(t, a_failed_run_with_an_effect_keeps_its_key);
	tcase_add_test(t, a_failed_run_with_an_unknown_outcome_keeps_its_key);
	tcase_add_test(t, a_failed_run_whose_effect_was_refused_frees_its_key);
	tcase_add_test(t, a_failed_run_that_only_looked_frees_its_key);
	tcase_add_test(t, an_unknown_workflow_is_not_found);
	tcase_add_test(t, the_start_door_joins_too);
	tcase_add_test(t, a_run_is_pinned_to_the_definition_it_started_under);
	tcase_add_test(t, the_current_definitions_are_listed);
	tcase_add_test(t, a_definition_is_found_by_its_digest);
	return t;
}
