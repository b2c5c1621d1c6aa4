/* The Mermaid flowchart, to the byte. */
#include "script_help.h"
#include "lib/suite.h"

START_TEST(every_kind_has_its_shape)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &err);
	struct hp_buf out;

	ck_assert_msg(w != NULL, "%s", err.message);
	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_graph(w, &out, &err), 0);
	ck_assert_str_eq(hp_buf_str(&out),
			 "flowchart TD\n"
			 "  t0>\"bank<br/>transfer.failed<br/>transfer.lost\"] --> s0\n"
			 "  t1>\"duffel<br/>x\"] --> s0\n"
			 "  s0[(\"find\")]\n"
			 "  s1{{\"review<br/>2 of sre and 1 of security\"}}\n"
			 "  s2[\"pay<br/>bank.transfers.create\"]\n"
			 "  s3[/\"cool_down\"/]\n"
			 "  s4[/\"confirm<br/>bank.transfer.settled<br/>bank.transfer.failed\"/]\n"
			 "  s5{\"settled\"}\n"
			 "  s6[\"tell<br/>bank.letters.send\"]\n"
			 "  s7([\"done\"])\n"
			 "  s8(((\"escalate\")))\n"
			 "  s9(((\"closed\")))\n"
			 "  s10([\"nothing\"])\n"
			 "  s0 --> s1\n"
			 "  s0 -.->|\"none\"| s10\n"
			 "  s1 --> s2\n"
			 "  s1 -.->|\"rejected\"| s9\n"
			 "  s1 -.->|\"expired\"| s8\n"
			 "  s2 --> s3\n"
			 "  s2 -.->|\"catch declined\"| s9\n"
			 "  s2 -.->|\"catch retryable\"| s8\n"
			 "  s2 -.->|\"catch otherwise\"| s8\n"
			 "  s3 --> s4\n"
			 "  s4 --> s5\n"
			 "  s4 -.->|\"timeout\"| s8\n"
			 "  s5 -->|\"when 1\"| s6\n"
			 "  s5 -->|\"otherwise\"| s8\n"
			 "  s6 --> s7\n"
			 "  s6 -.->|\"catch otherwise\"| s7\n");
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

START_TEST(what_mermaid_would_read_is_escaped)
{
	struct hp_error err = {0};
	struct hp_workflow *w = must_load("return workflow \"w\" { await \"end\" { event = 'a\"b<c>#{}|', key = 'k', within = '1s',\n"
					  "timeout = 'subgraph' }, succeed \"subgraph\" {} }");
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_graph(w, &out, &err), 0);
	ck_assert_str_eq(hp_buf_str(&out), "flowchart TD\n"
					   "  s0[/\"end<br/>a#34;b#60;c#62;#35;#123;#125;#124;\"/]\n"
					   "  s1([\"subgraph\"])\n"
					   "  s0 --> s1\n"
					   "  s0 -.->|\"timeout\"| s1\n");
	hp_buf_clear(&out);
	out.max = 10;
	ck_assert_int_eq(hp_workflow_graph(w, &out, &err), -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

START_TEST(an_undo_hangs_on_its_effect)
{
	struct hp_error err = {0};
	struct hp_workflow *w = must_load("return workflow \"w\" { sql \"a\" { as = service, exec = 'x',\n"
					  "undo = { as = service, exec = 'y' } }, succeed \"done\" {} }");
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_graph(w, &out, &err), 0);
	ck_assert_str_eq(hp_buf_str(&out), "flowchart TD\n"
					   "  s0[(\"a\")]\n"
					   "  s1([\"done\"])\n"
					   "  s2[(\"a.undo\")]\n"
					   "  s0 --> s1\n"
					   "  s0 -. undo .- s2\n");
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("graph");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, every_kind_has_its_shape);
	tcase_add_test(t, an_undo_hangs_on_its_effect);
	tcase_add_test(t, what_mermaid_would_read_is_escaped);
	return hp_run_case("script graph", t);
}
