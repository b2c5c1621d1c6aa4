/* store_lifecycle.c: retry from a state, move to another version, bulk: what the
 * database allows, what it refuses and with which sentence, and what it writes.
 */
#include <stdio.h>
#include <string.h>

#include "lib/suite.h"
#include "lib/store_fixture.h"

/* find → review → pay → settle (a wait) → tell → done; what goes wrong → closed.
 * The words with % differ between versions. */
static const char states[] =
	"{\"states\":["
	"{\"name\":\"find\",\"kind\":\"sql\",\"save\":\"payment\",\"ways\":[{\"label\":\"next\",\"to\":\"review\"}]},"
	"{\"name\":\"review\",\"kind\":\"approval\",\"approvers\":\"1 of payments\",\"asks\":\"always\"%s,\"ways\":["
	"{\"label\":\"next\",\"to\":\"%s\"},{\"label\":\"rejected\",\"to\":\"closed\"}]},"
	"{\"name\":\"%s\",\"kind\":\"%s\",\"read\":false,\"ways\":[{\"label\":\"next\",\"to\":\"settle\"},"
	"{\"label\":\"catch otherwise\",\"to\":\"closed\"}]},"
	"{\"name\":\"settle\",\"kind\":\"wait\",\"ways\":[{\"label\":\"next\",\"to\":\"%s\"}]},"
	"%s"
	"{\"name\":\"tell\",\"kind\":\"call\",\"ways\":[{\"label\":\"next\",\"to\":\"done\"}]},"
	"{\"name\":\"closed\",\"kind\":\"fail\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";
enum { FIND, REVIEW, PAY, SETTLE, TELL, CLOSED, DONE };

static struct fx f;

static void deploy(const char *of, const char *pay, const char *kind, const char *after_settle, const char *more)
{
	char text[4096];

	snprintf(text, sizeof text, states, of, pay, pay, kind, after_settle, more);
	fx_deploy(&f, "refund", text);
}

static void open_fx(void)
{
	fx_open(&f);
	fx_sql(&f, "insert into holdpoint.principal values ('alice', 'person', 0), ('bob', 'person', 0)");
	fx_sql(&f, "insert into holdpoint.role_member values ('bob', 'payments')");
	deploy("", "pay", "call", "tell", "");
}

static void commit(struct hp_claimed *c, struct hp_transition *t)
{
	ck_assert_int_eq(fx_commit1(&f, t), HP_COMMIT_OK);
	fx_done(&c->run, t);
}

static void enter(struct hp_claimed *c, int state, enum hp_disposition d)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_ENTERED, d);

	t.after.state = state;
	t.after.visit++;
	t.after.phase = d == HP_PARK ? HP_PH_OPEN : HP_PH_ENTER;
	if (c->run.state == FIND) {
		t.saves[0] = (struct hp_save){ "payment", hp_bytes_of("{\"id\": 7}") };
		t.n_saves = 1;
	}
	if (state == REVIEW) {
		t.approval = hp_bytes_of("{\"ask\": \"Pay?\"}");
		t.approval_deadline = t.after.due_at = INT64_C(4000000000000000);
	}
	if (state == SETTLE)
		t.after.due_at = INT64_C(4000000000000000);
	commit(c, &t);
}

static void admit(struct hp_claimed *c)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_ADMITTED, HP_KEEP);

	t.admits = true;
	t.request = hp_bytes_of("{}");
	t.effect_key = hp_bytes_of("k");
	t.after.phase = HP_PH_ADMITTED;
	t.after.attempt++;
	commit(c, &t);
}

static void hold(struct hp_claimed *c, bool unresolved)
{
	struct hp_transition t = fx_from(&c->run, HP_MOVE_HELD, HP_PARK);

	t.after.status = HP_HELD;
	t.after.unresolved = unresolved;
	snprintf(t.after.code, sizeof t.after.code, "card_declined");
	commit(c, &t);
}

static struct hp_claimed claim(void)
{
	int n;
	struct hp_claimed *c = fx_claim(&f, f.store, f.engine, 10, &n);

	ck_assert_int_eq(n, 1);
	return c[0];
}

static void door(const char *name, const char *args)
{
	fx_door(&f, name, "alice", args, NULL);
}

static void refused(const char *name, const char *args, const char *words)
{
	struct hp_error err;

	ck_assert_ptr_null(fx_door(&f, name, "alice", args, &err));
	ck_assert_msg(strstr(err.message, words) != NULL, "%s %s: \"%s\", not \"%s\"", name, args, err.message, words);
}

/* One run, asked and approved, in the state pay. */
static struct hp_claimed approved(void)
{
	struct hp_claimed c;

	fx_start(&f, "refund", "{}", NULL, false, NULL, NULL);
	c = claim();
	enter(&c, REVIEW, HP_PARK);
	fx_door(&f, "decide", "bob", "{\"approval\": 1, \"decision\": \"approve\", \"reason\": \"fine\"}", NULL);
	c = claim();
	enter(&c, PAY, HP_KEEP);
	return c;
}

#define FROM(state) "{\"run\": 1, \"state\": \"" state "\", \"reason\": \"r\"}"
#define FROM_AGAIN(state) "{\"run\": 1, \"state\": \"" state "\", \"reason\": \"r\", \"again\": true}"

START_TEST(a_held_run_goes_on_from_an_earlier_state)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	admit(&c);
	hold(&c, false);
	refused("restart", FROM("pai"), "its workflow has no state \"pai\"");
	refused("restart", FROM("tell"), "run 1 has never been in state \"tell\"");
	refused("restart", FROM_AGAIN("pay"), "would do \"pay\" without a new yes of approval \"review\"");
	refused("restart", FROM("review"), "run 1 has done \"pay\", and would do it again from state \"review\" on, under new keys");
	door("restart", FROM_AGAIN("review"));
	refused("restart", FROM_AGAIN("review"), "run 1 has been told to restart already");
	c = claim();
	ck_assert_int_eq(c.run.command, HP_CMD_RESTART);
	ck_assert_str_eq(c.command_value.p, "1");
	ck_assert_str_eq(fx_sql(&f, "select detail ->> 'state' from holdpoint.history where move = 12 and code = 'restart'"), "review");
	fx_close(&f);
}
END_TEST

START_TEST(an_unused_yes_stays_good)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	hold(&c, false); /* its request could not even be rendered */
	door("restart", FROM("pay"));
	ck_assert_int_eq(claim().run.command, HP_CMD_RESTART);
	fx_close(&f);
}
END_TEST

START_TEST(only_what_rests_is_restarted)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	refused("restart", FROM("find"), "run 1 is in the hands of an engine");
	admit(&c);
	hold(&c, true);
	refused("restart", FROM("find"), "whether attempt 1 of state \"pay\" happened is not known");
	fx_sql(&f, "update holdpoint.run_state set unresolved = false, status = 2, phase = 3; delete from holdpoint.held");
	refused("restart", FROM("find"), "is neither held nor paused, it is waiting");
	door("pause", "{\"run\": 1, \"reason\": \"r\"}");
	door("restart", FROM_AGAIN("find"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 0);
	door("resume", "{\"run\": 1}");
	c = claim();
	ck_assert_int_eq(c.run.command, HP_CMD_RESTART);
	ck_assert_str_eq(c.command_value.p, "0");
	fx_close(&f);
}
END_TEST

START_TEST(what_is_unwound_or_has_begun_something_ends_first)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	hold(&c, false);
	fx_sql(&f, "insert into holdpoint.unwinding (run_id, began_at, ends, from_state, from_digest)"
	       " select 1, 0, 5, 2, digest from holdpoint.workflow");
	refused("restart", FROM("pay"), "run 1 is being unwound");
	refused("move", "{\"run\": 1, \"to\": \"current\", \"reason\": \"r\"}", "run 1 is being unwound");
	fx_sql(&f, "delete from holdpoint.unwinding");
	fx_sql(&f, "update holdpoint.definition set summary = replace(summary::text, '\"call\"', '\"each\"')::jsonb");
	fx_sql(&f, "update holdpoint.run_state set status = 2, phase = 6; delete from holdpoint.held");
	door("pause", "{\"run\": 1, \"reason\": \"r\"}");
	refused("restart", FROM_AGAIN("find"), "what run 1 has begun in state \"pay\" must end first");
	fx_close(&f);
}
END_TEST

#define MOVE "{\"run\": 1, \"to\": \"current\", \"reason\": \"fixed\"}"

START_TEST(a_run_is_moved_where_it_stands)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	enter(&c, SETTLE, HP_PARK);
	refused("move", MOVE, "it follows this version already");
	deploy("", "give_back", "call", "tell", "");
	refused("move", "{\"run\": 1, \"to\": \"123\", \"reason\": \"r\"}", "\"123\" is no version");
	refused("move", "{\"run\": 1, \"to\": \"00000000\", \"reason\": \"r\"}", "workflow \"refund\" has no version 00000000");
	refused("move", "{\"run\": 1, \"to\": \"current\", \"reason\": \"r\", \"map\": {\"pay\": \"x\"}}", "the version has no state \"x\" for \"pay\"");
	door("move", MOVE);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.timer"), 1); /* its wait goes on */
	ck_assert_str_eq(fx_sql(&f, "select (s.digest = w.digest)::text || (r.digest <> w.digest)::text from holdpoint.run_state s,"
			 " holdpoint.run r, holdpoint.workflow w"), "truetrue");
	fx_sql(&f, "update holdpoint.timer set due_at = 1");
	c = claim();
	ck_assert_int_eq(c.run.state, SETTLE);
	ck_assert_str_eq(fx_sql(&f, "select encode(digest, 'hex') from holdpoint.workflow"), fx_sql(&f, "select encode('\\x%02x', 'hex')"
			 " || substr(encode(digest, 'hex'), 3) from holdpoint.run_version", c.digest[0]));
	/* each row of its history has the names of its own version */
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "history", "x", "{\"run\": 1}", NULL), "\"state\": \"pay\""));
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "history", "x", "{\"run\": 1}", NULL), "\"move\": \"moved\""));
	fx_close(&f);
}
END_TEST

/* What is waited for is another thing now: the wait begins anew, and with it what stood
 * beside it. What an earlier visit left behind is nobody's. */
START_TEST(a_wait_for_something_else_is_entered_anew)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	enter(&c, SETTLE, HP_PARK);
	fx_sql(&f, "insert into holdpoint.arm_state values (1, 1, '{\"due\": 1}')");
	deploy("", "give_back", "call", "tell", "");
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "move", "alice", MOVE, NULL), "\"anew\": false"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.timer"), 1);
	fx_sql(&f, "update holdpoint.arm_state set visit = (select visit from holdpoint.run_state)");
	deploy(",\"x\":1", "give_back", "call", "tell", "");
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "move", "alice", MOVE, NULL), "\"anew\": true"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.arm_state"), 0);
	c = claim();
	ck_assert_int_eq(c.run.command, HP_CMD_RESTART);
	c.run.command = HP_CMD_NONE;
	enter(&c, SETTLE, HP_PARK);
	deploy(",\"x\":2", "give_back", "call", "tell", "");
	fx_sql(&f, "update holdpoint.definition set summary = jsonb_set(summary, '{states,3,events}', '[\"x\"]')"
	       " where digest = (select digest from holdpoint.workflow)");
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "move", "alice", MOVE, NULL), "\"anew\": true"));
	c = claim();
	ck_assert_int_eq(c.run.command, HP_CMD_RESTART);
	ck_assert_int_eq(c.run.state, SETTLE);
	fx_close(&f);
}
END_TEST

START_TEST(a_move_that_would_strand_it_is_refused)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	hold(&c, false);
	deploy("", "give_back", "call", "tell", "");
	refused("move", MOVE, "its state \"pay\" is not in that version: say which one it is now with --map pay=STATE");
	refused("move", "{\"run\": 1, \"to\": \"current\", \"reason\": \"r\", \"map\": {\"pay\": \"settle\"}}",
		"its state \"pay\" is of kind call, and \"settle\" of that version is of kind wait");
	door("move", "{\"run\": 1, \"to\": \"current\", \"reason\": \"r\", \"map\": {\"pay\": \"give_back\"}}");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 0); /* still with its operator */
	ck_assert_ptr_nonnull(strstr(fx_door(&f, "run", "x", "{\"run\": 1}", NULL), "\"state\": \"give_back\""));
	fx_close(&f);
}
END_TEST

START_TEST(a_move_jumps_over_no_approval_and_no_value)
{
	static const char second[] = "{\"name\":\"second\",\"kind\":\"approval\",\"approvers\":\"1 of payments\",\"asks\":\"always\","
				     "\"ways\":[{\"label\":\"next\",\"to\":\"tell\"}]},";
	struct hp_claimed c;

	open_fx();
	c = approved();
	enter(&c, SETTLE, HP_KEEP);
	enter(&c, TELL, HP_KEEP);
	hold(&c, false);
	deploy("", "pay", "call", "second", second);
	refused("move", MOVE, "in that version \"tell\" is done only after approval \"second\", and this run has no yes for it");
	deploy(",\"save\":\"yes\"", "pay", "call", "tell", "");
	refused("move", MOVE, "every way to \"tell\" saves \"yes\" (in state \"review\"), and this run has no such value");
	fx_close(&f);
}
END_TEST

START_TEST(a_signature_is_not_lost_by_a_move)
{
	struct hp_claimed c;

	open_fx();
	c = approved(); /* nothing was signed: the old version has no `of` */
	hold(&c, false);
	deploy(",\"of\":\"pay\"", "pay", "call", "tell", "");
	refused("move", MOVE, "\"pay\" is done only after approval \"review\"");
	fx_sql(&f, "update holdpoint.run_state set signed_visit = 2, signed_for = 2"); /* PAY */
	door("move", MOVE);
	fx_close(&f);
}
END_TEST

START_TEST(a_signature_stays_with_its_call)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	hold(&c, false);
	fx_sql(&f, "update holdpoint.run_state set signed_visit = 2, signed_for = 4"); /* TELL, which has another place and name now */
	fx_deploy(&f, "refund", "{\"states\":[{\"name\":\"pay\",\"kind\":\"call\",\"ways\":[{\"label\":\"next\",\"to\":\"write\"}]},"
		"{\"name\":\"write\",\"kind\":\"call\",\"ways\":[{\"label\":\"next\",\"to\":\"done\"}]},"
		"{\"name\":\"done\",\"kind\":\"succeed\"}]}");
	refused("move", MOVE, "what was signed is for its state \"tell\", and that is no call of that version");
	door("move", "{\"run\": 1, \"to\": \"current\", \"reason\": \"r\", \"map\": {\"tell\": \"write\"}}");
	ck_assert_int_eq(fx_int(&f, "select signed_for from holdpoint.run_state where signed_visit = 2"), 1);
	fx_close(&f);
}
END_TEST

START_TEST(what_was_asked_is_asked_anew)
{
	struct hp_claimed c;
	struct hp_error err;

	open_fx();
	fx_start(&f, "refund", "{}", NULL, false, NULL, NULL);
	c = claim();
	enter(&c, REVIEW, HP_PARK);
	deploy("", "pay", "call", "done", "");
	door("move", MOVE);
	ck_assert_ptr_null(fx_door(&f, "decide", "bob", "{\"approval\": 1, \"decision\": \"approve\", \"reason\": \"r\"}", &err));
	ck_assert_ptr_nonnull(strstr(err.message, "was cancelled"));
	c = claim();
	ck_assert_int_eq(c.run.command, HP_CMD_RESTART);
	ck_assert_int_eq(c.run.phase, HP_PH_ENTER);
	fx_close(&f);
}
END_TEST

START_TEST(a_move_may_go_back)
{
	struct hp_claimed c;

	open_fx();
	c = approved();
	admit(&c);
	hold(&c, false);
	deploy("", "give_back", "call", "tell", "");
	refused("move", "{\"run\": 1, \"to\": \"current\", \"at\": \"settle\", \"reason\": \"r\"}", "has never been in state \"settle\"");
	refused("move", "{\"run\": 1, \"to\": \"current\", \"at\": \"review\", \"reason\": \"r\", \"map\": {\"pay\": \"give_back\"}}",
		"has done \"give_back\", and would do it again");
	fx_sql(&f, "update holdpoint.run_state set signed_visit = 2, signed_for = 2");
	door("move", "{\"run\": 1, \"to\": \"current\", \"at\": \"review\", \"reason\": \"r\", \"map\": {\"pay\": \"give_back\"}, \"again\": true}");
	c = claim();
	ck_assert_int_eq(c.run.state, REVIEW);
	ck_assert_int_eq(c.run.command, HP_CMD_RESTART);
	ck_assert_int_eq(c.run.signed_visit, 0); /* what was signed for the old version is not sent */
	fx_close(&f);
}
END_TEST

START_TEST(a_key_is_freed_by_the_version_its_effects_ran_under)
{
	struct hp_claimed c;
	bool existed;
	struct hp_transition t;

	open_fx();
	fx_start(&f, "refund", "{}", "k", false, NULL, NULL);
	c = claim();
	enter(&c, REVIEW, HP_PARK);
	fx_door(&f, "decide", "bob", "{\"approval\": 1, \"decision\": \"approve\", \"reason\": \"fine\"}", NULL);
	c = claim();
	enter(&c, PAY, HP_KEEP);
	admit(&c);
	hold(&c, false);
	deploy(",\"x\":1", "pay", "call", "tell", "");
	fx_sql(&f, "update holdpoint.definition set summary = replace(summary::text, '\"read\": false', '\"read\": true')::jsonb"
	       " where digest = (select digest from holdpoint.workflow)"); /* the same place, and now it only reads */
	door("move", "{\"run\": 1, \"to\": \"current\", \"reason\": \"r\"}");
	door("operate", "{\"run\": 1, \"action\": \"give_up\", \"reason\": \"r\"}");
	c = claim();
	t = fx_from(&c.run, HP_MOVE_FINISHED, HP_FINISH);
	t.after.status = HP_FAILED;
	commit(&c, &t);
	fx_start(&f, "refund", "{}", "k", false, NULL, &existed);
	ck_assert(existed);
	fx_close(&f);
}
END_TEST

START_TEST(bulk_says_what_became_of_each)
{
	struct hp_claimed c;
	const char *json;

	open_fx();
	c = approved();
	hold(&c, false);
	fx_start(&f, "refund", "{}", NULL, false, NULL, NULL);
	c = claim();
	hold(&c, true);
	fx_start(&f, "refund", "{}", NULL, false, NULL, NULL);
	refused("bulk", "{\"action\": \"cancel\", \"reason\": \"r\"}", "say which runs are meant");
	refused("bulk", "{\"action\": \"stop\", \"reason\": \"r\", \"workflow\": \"refund\"}", "there is no action \"stop\"");
	refused("bulk", "{\"action\": \"cancel\", \"reason\": \"r\", \"status\": \"failed\"}", "\"failed\" is no status of runs that live");
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"restart\", \"from\": \"find\", \"again\": true, \"reason\": \"r\","
			" \"status\": \"held\", \"dry_run\": true}", NULL);
	ck_assert_ptr_nonnull(strstr(json, "\"done\": 1"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_state where command <> 0"), 0);
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"restart\", \"from\": \"find\", \"again\": true, \"reason\": \"r\","
			" \"status\": \"held\"}", NULL);
	ck_assert_ptr_nonnull(strstr(json, "\"refused\": 1"));
	ck_assert_ptr_nonnull(strstr(json, "\"run\": 2, \"outcome\": \"refused\", \"sentence\": \"run 2 may have an effect in the air"));
	ck_assert_ptr_null(strstr(json, "next"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_state where command = 5"), 1);
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"pause\", \"reason\": \"r\", \"workflow\": \"refund\", \"limit\": 2}", NULL);
	ck_assert_ptr_nonnull(strstr(json, "\"next\": 2"));
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"pause\", \"reason\": \"r\", \"workflow\": \"refund\", \"limit\": 2, \"after\": 2}", NULL);
	ck_assert_ptr_null(strstr(json, "next"));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.paused"), 3);
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"resume\", \"status\": \"paused\"}", NULL);
	ck_assert_ptr_nonnull(strstr(json, "\"done\": 3"));
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"cancel\", \"reason\": \"r\", \"code\": \"card_declined\", \"state\": \"pay\"}", NULL);
	ck_assert_ptr_nonnull(strstr(json, "\"done\": 1"));
	fx_close(&f);
}
END_TEST

/* The runs that fit, by a dry run. */
static const char *fitting(const char *filter)
{
	char args[512];
	const char *json;

	snprintf(args, sizeof args, "{\"action\": \"cancel\", \"reason\": \"r\", \"dry_run\": true, %s}", filter);
	json = fx_door(&f, "bulk", "alice", args, NULL);
	return fx_sql(&f, "select coalesce(string_agg(x ->> 'run', ' ' order by n), '') from jsonb_array_elements('%s'::jsonb -> 'results')"
			  " with ordinality e(x, n)", json);
}

START_TEST(bulk_means_those_that_fit)
{
	static const struct {
		const char *filter, *runs;
	} want[] = {
		{ "\"workflow\": \"refund\"", "1 2 3 4" },
		{ "\"workflow\": \"other\"", "5" },
		{ "\"workflow\": \"nobody\"", "" },
		{ "\"status\": \"running\"", "4 5" },
		{ "\"status\": \"waiting\"", "3" },
		{ "\"status\": \"held\"", "1 2" },
		{ "\"status\": \"paused\"", "3" },
		{ "\"state\": \"pay\"", "1" },
		{ "\"code\": \"card_declined\"", "1 2" },
		{ "\"code\": \"other\"", "" },
		{ "\"code\": \"card_declined\", \"state\": \"find\"", "2" },
		{ "\"since\": \"2033-05-18T03:33:22Z\"", "2 3 4 5" }, /* the second one's time */
		{ "\"until\": \"2033-05-18T03:33:23Z\"", "1 2" },
		{ "\"since\": \"2033-05-18T03:33:22Z\", \"until\": \"2033-05-18T03:33:24Z\"", "2 3" },
	};
	struct hp_claimed c;

	open_fx();
	fx_deploy(&f, "other", "{\"states\":[{\"name\":\"nap\",\"kind\":\"wait\"}]}");
	c = approved();
	hold(&c, false);
	fx_start(&f, "refund", "{}", NULL, true, &c, NULL);
	hold(&c, false);
	fx_start(&f, "refund", "{}", NULL, true, &c, NULL);
	enter(&c, SETTLE, HP_PARK);
	door("pause", "{\"run\": 3, \"reason\": \"r\"}");
	fx_start(&f, "refund", "{}", NULL, false, NULL, NULL);
	fx_start(&f, "other", "{}", NULL, false, NULL, NULL);
	fx_sql(&f, "update holdpoint.run set created_at = (2000000000 + id) * 1000000");
	for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
		const char *runs = fitting(want[i].filter);

		ck_assert_msg(strcmp(runs, want[i].runs) == 0, "%s: %s, not %s", want[i].filter, runs, want[i].runs);
	}
	fx_close(&f);
}
END_TEST

/* Neither a run that somebody is writing, nor one whose workflow is another one, stops
 * the others. */
START_TEST(bulk_goes_round_what_does_not_fit)
{
	struct hp_claimed c;
	struct hp_error err;
	PGconn *busy;
	const char *json;

	open_fx();
	c = approved();
	hold(&c, false);
	fx_deploy(&f, "other", "{\"states\":[{\"name\":\"nap\",\"kind\":\"wait\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}");
	fx_start(&f, "other", "{}", NULL, true, &c, NULL);
	hold(&c, false);
	deploy("", "give_back", "call", "tell", "");
	fx_deploy(&f, "other", "{\"states\":[{\"name\":\"nap\",\"kind\":\"wait\"}]}");
	ck_assert_ptr_null(fx_door(&f, "bulk", "alice", "{\"action\": \"move\", \"reason\": \"r\", \"status\": \"held\"}", &err));
	ck_assert_ptr_nonnull(strstr(err.message, "\"to\" is missing")); /* that is nobody's in particular */
	json = fx_door(&f, "bulk", "alice", "{\"action\": \"move\", \"to\": \"current\", \"reason\": \"r\", \"status\": \"held\","
			" \"map\": {\"pay\": \"give_back\"}}", NULL);
	ck_assert_msg(strstr(json, "\"run\": 2, \"outcome\": \"refused\", \"sentence\": \"map: the version has no state") != NULL, "%s", json);
	ck_assert_ptr_nonnull(strstr(json, "\"run\": 1, \"outcome\": \"done\""));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_version where run_id = 1"), 1);
	busy = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, busy, "begin; select from holdpoint.run_state where run_id = 1 for no key update"), "");
	json = fx_sql(&f, "select holdpoint.door_bulk('alice', '{\"action\": \"pause\", \"reason\": \"r\", \"status\": \"held\"}')");
	ck_assert_msg(strstr(json, "\"sentence\": \"run 1 is being written by somebody else just now: ask again\"") != NULL, "%s", json);
	ck_assert_ptr_nonnull(strstr(json, "\"run\": 2, \"outcome\": \"done\""));
	ck_assert_str_eq(fx_state(&f, busy, "rollback"), "");
	PQfinish(busy);
	fx_close(&f);
}
END_TEST

#define DEPLOY_LIVE "select holdpoint.door_deploy_live('alice', jsonb_build_object('workflow', 'refund', 'digest', repeat('ab', 32)," \
		    " 'bundle', '{}', 'reason', 'r', 'summary', (select summary from holdpoint.definition limit 1)))"

START_TEST(a_deploy_moves_all_or_nothing)
{
	struct hp_claimed c;
	PGconn *s;

	open_fx();
	c = approved();
	hold(&c, false);
	s = fx_session(&f, "holdpoint_engine");
	ck_assert_str_eq(fx_state(&f, s, "begin; " DEPLOY_LIVE), "");
	ck_assert_str_eq(fx_state(&f, s, "rollback"), "");
	/* an old one lives, and cannot be looked up beside so many others */
	fx_sql(&f, "insert into holdpoint.run (workflow, input, digest, requester, created_at)"
		   " select 'refund', '{}', digest, 'bulk', 1 from holdpoint.workflow, generate_series(1, 200000)");
	ck_assert_str_eq(fx_state(&f, s, DEPLOY_LIVE), "HP409");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_version"), 0);
	fx_sql(&f, "delete from holdpoint.run where id = 2");
	ck_assert_str_eq(fx_state(&f, s, DEPLOY_LIVE), "");
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_version"), 1);
	PQfinish(s);
	fx_close(&f);
}
END_TEST

/* Engines load what is enabled, so nothing else may be what they have to know. */
START_TEST(a_disabled_workflow_is_triggered_by_nothing)
{
	fx_open(&f);
	fx_deploy(&f, "hook", "{\"states\":[{\"name\":\"done\",\"kind\":\"succeed\"}],\"triggers\":[{\"source\":\"duffel\",\"events\":[\"e\"]}]}");
	ck_assert_int_eq(fx_int(&f, "select cardinality(holdpoint.triggered('duffel', 'e'))"), 1);
	fx_sql(&f, "update holdpoint.workflow set enabled = false");
	ck_assert_int_eq(fx_int(&f, "select cardinality(holdpoint.triggered('duffel', 'e'))"), 0);
	fx_close(&f);
}
END_TEST

/* Its ticks outlive it, and so does their number. */
START_TEST(a_schedule_that_comes_again_counts_its_ticks)
{
	static const char without[] = "{\"states\":[{\"name\":\"done\",\"kind\":\"succeed\"}]}";
	static const char with[] = "{\"states\":[{\"name\":\"done\",\"kind\":\"succeed\"}],\"schedules\":[{\"cron\":\"0 3 * * *\",\"zone\":\"UTC\","
				   "\"catch_up\":\"last\",\"overlap\":\"allow\",\"jitter_us\":0,\"within_us\":0,\"input\":{}}]}";

	fx_open(&f);
	fx_sql(&f, "insert into holdpoint.principal values ('alice', 'person', 0)");
	fx_deploy(&f, "nightly", with);
	fx_door(&f, "schedule_run", "alice", "{\"schedule\":\"nightly\",\"reason\":\"now\"}", NULL);
	fx_deploy(&f, "nightly", without);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.schedule"), 0);
	fx_deploy(&f, "nightly", with);
	ck_assert_int_eq(fx_int(&f, "select started from holdpoint.schedule"), 1);
	ck_assert_str_eq(fx_sql(&f, "select holdpoint.fsck_rest('schedules', null, 100, 10) ->> 'found'"), "[]");
	fx_close(&f);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("lifecycle");

	tcase_set_timeout(t, 30);
	tcase_add_test(t, a_held_run_goes_on_from_an_earlier_state);
	tcase_add_test(t, an_unused_yes_stays_good);
	tcase_add_test(t, only_what_rests_is_restarted);
	tcase_add_test(t, what_is_unwound_or_has_begun_something_ends_first);
	tcase_add_test(t, a_run_is_moved_where_it_stands);
	tcase_add_test(t, a_wait_for_something_else_is_entered_anew);
	tcase_add_test(t, a_move_that_would_strand_it_is_refused);
	tcase_add_test(t, a_move_jumps_over_no_approval_and_no_value);
	tcase_add_test(t, a_signature_is_not_lost_by_a_move);
	tcase_add_test(t, a_signature_stays_with_its_call);
	tcase_add_test(t, what_was_asked_is_asked_anew);
	tcase_add_test(t, a_move_may_go_back);
	tcase_add_test(t, a_key_is_freed_by_the_version_its_effects_ran_under);
	tcase_add_test(t, bulk_says_what_became_of_each);
	tcase_add_test(t, bulk_means_those_that_fit);
	tcase_add_test(t, bulk_goes_round_what_does_not_fit);
	tcase_add_test(t, a_deploy_moves_all_or_nothing);
	tcase_add_test(t, a_disabled_workflow_is_triggered_by_nothing);
	tcase_add_test(t, a_schedule_that_comes_again_counts_its_ticks);
	return hp_run_case("store lifecycle", t);
}
