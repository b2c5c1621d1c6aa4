/* core_undo.c: unwinding, driven by hand: what the store and people are told. Whether all is
 * undone in the end: store_undo.c. */
#include "base/json.h"
#include "lib/suite.h"
#include "machine_world.h"

/* An effect of "pay" is to be undone, and `names` say what nothing can undo. */
static void world_unwinding(const char *names)
{
	static char found[600];
	struct hp_event ev = { 0 };

	world_call(HP_REPEAT_BY_KEY);
	state(3, "pay.undo", HP_CALL)->next = HP_NO_STATE;
	W.states[3].call.op = W.states[0].call.op;
	W.def.n_states = 3;
	W.def.n_undos = 1;
	W.states[0].has_undo = true;
	W.states[0].undo = 3;
	W.run.phase = HP_PH_UNDOING;
	snprintf(found, sizeof found,
		 "{\"undo\":{\"ends\":5,\"from\":0,\"left\":1,\"names\":\"%s\",\"next\":{\"entry\":1,\"state\":3,\"visit\":1}}}",
		 names);
	ev.annex = hp_bytes_of(found);
	claim_with(&ev);
	expect_eval(HP_EVAL_REQUEST);
	value("{}", 1);
	commit();
}

static bool is_utf8(const char *text)
{
	json_t *v = json_string(text); /* NULL when it is not */

	json_decref(v);
	return v != NULL;
}

/* PostgreSQL refuses half a character, and with it the commit that tells of the failure. */
START_TEST(what_people_are_told_is_cut_between_characters)
{
	static char message[700], names[320];

	for (size_t lead = 0; lead < 3; lead++) {
		struct hp_event ev = { .type = HP_EV_REPLY, .outcome = HP_TERMINAL, .code = "refused", .retry_after_us = -1 };

		memset(message, 'x', lead);
		message[lead] = names[0] = 0;
		for (size_t n = lead; n + 4 < sizeof message; n += 3)
			memcpy(message + n, "\xE2\x82\xAC", 4);
		for (size_t n = 0; n + 4 < sizeof names; n += 3)
			memcpy(names + n, "\xE2\x82\xAC", 4);
		world_unwinding(names);
		ck_assert_int_eq(W.act.type, HP_ACT_SEND);
		ev.message = message;
		step(&ev);
		ck_assert_int_eq(W.act.transition->after.status, HP_HELD);
		ck_assert_ptr_nonnull(strstr(W.act.transition->message, "; not undone: \xE2\x82\xAC"));
		ck_assert(is_utf8(W.act.transition->message));
	}
}
END_TEST

/* Why it cannot be kept is JSON, however it is cut. */
START_TEST(what_cannot_be_kept_is_told_as_json)
{
	static char message[700];
	struct hp_event ev = { .type = HP_EV_VALUE, .code = "a\"b", .message = message };
	json_t *doc;

	memset(message, '"', sizeof message - 1);
	world_call(HP_REPEAT_BY_KEY)->has_undo = true;
	admitted();
	reply(HP_CLASS_OK, NULL);
	expect_eval(HP_EVAL_UNDO);
	step(&ev);
	expect_eval(HP_EVAL_RESULT);
	value("", 0);
	ck_assert_str_eq(W.act.transition->annexes[0].kind, "undo");
	doc = hp_json_parse(W.act.transition->annexes[0].doc.p, W.act.transition->annexes[0].doc.n, "annex", NULL);
	ck_assert_str_eq(hp_json_str(json_object_get(doc, "add"), "code"), "a\"b");
	json_decref(doc);
}
END_TEST

HP_SUITE("core_undo", what_people_are_told_is_cut_between_characters, what_cannot_be_kept_is_told_as_json)
