/* One fixture per lint, each with its exact sentence, and nothing else found in it. */
#include <stdio.h>
#include "script_help.h"
#include "lib/suite.h"

struct found {
	struct hp_buf text;
};

static void note(void *arg, const struct hp_finding *f)
{
	struct found *all = arg;

	hp_buf_printf(&all->text, "%s:%d: %s %s: %s\n", f->file, f->line, f->fatal ? "error" : "warning", f->lint, f->sentence);
}

static const struct {
	const char *fixture;
	int fatal;
	const char *findings;
} cases[] = {
	{"clean", 0, ""},
	{"secret_in_clear", 1,
	 "lints/secret_in_clear.lua:3: error secret_in_clear: state \"make\": replies of bank.keys.create have a secret in "
	 "\"key\", and it would be saved in clear; write save = secret { NAME = \"key\", as = \"made\" }\n"},
	{"secret_lost", 0,
	 "lints/secret_lost.lua:3: warning secret_lost: state \"make\": replies of bank.keys.create have a secret in \"key\", "
	 "and nothing saves it; write save = secret { NAME = \"key\" }\n"},
	{"unreachable_state", 0, "lints/unreachable_state.lua:4: warning unreachable_state: state \"lost\": no way leads here\n"},
	{"missing_way", 1,
	 "lints/missing_way.lua:3: error missing_way: state \"a\": it is the last state and has no next, so a run could only be "
	 "held here; end with succeed or fail, or name the next state\n"},
	{"effect_without_way_out", 0,
	 "lints/effect_without_way_out.lua:3: warning effect_without_way_out: state \"a\": bank.notes.put can fail for good and "
	 "nothing catches that; the run would be held for an operator\n"},
	{"doubt_without_probe", 0,
	 "lints/doubt_without_probe.lua:3: warning doubt_without_probe: state \"a\": bank.letters.send must not be repeated and "
	 "has no probe; when a reply is lost the run is in doubt and would be held\n"},
	{"approval_without_deadline", 1,
	 "lints/approval_without_deadline.lua:3: error approval_without_deadline: state \"a\": the approval has no deadline, so it "
	 "could wait for ever; write one, like deadline = \"4h\"\n"},
	{"approval_without_rejected", 0,
	 "lints/approval_without_rejected.lua:3: warning approval_without_rejected: state \"a\": no way is declared for a rejected "
	 "approval; the run would be held for an operator\n"},
	{"approval_without_expired", 0,
	 "lints/approval_without_expired.lua:3: warning approval_without_expired: state \"a\": no way is declared for an expired "
	 "approval; the run would be held for an operator\n"},
	{"destructive_without_approval", 0,
	 "lints/destructive_without_approval.lua:4: warning destructive_without_approval: state \"pay\": the destructive "
	 "bank.transfers.create can be reached without an approval: ask, pay\n"},
	{"destructive_on_condition", 0,
	 "lints/destructive_on_condition.lua:7: warning destructive_on_condition: state \"pay\": the destructive "
	 "bank.transfers.create is reached without an approval when the condition of \"ask\" is false\n"},
	{"signature_unused", 1,
	 "lints/signature_unused.lua:3: error signature_unused: state \"a\": it signs the request of \"note\", but once approved "
	 "that state cannot be reached\n"
	 "lints/signature_unused.lua:4: warning signature_bypassed: state \"note\": its request is signed at \"a\", but this road "
	 "does not pass there: a, note\n"},
	{"signature_bypassed", 0,
	 "lints/signature_bypassed.lua:5: warning signature_bypassed: state \"note\": its request is signed at \"ask\", but this "
	 "road does not pass there: which, note\n"},
	{"trigger_without_key", 0,
	 "lints/trigger_without_key.lua:3: warning trigger_without_key: a webhook starts this workflow but no key is declared, so "
	 "two events about the same thing start two runs\n"},
	{"sweep_without_page", 1,
	 "lints/sweep_without_page.lua:2: error sweep_without_page: state \"fill\": rows must look after the key $1 and take $2 "
	 "rows, like: select … where id > $1 order by id limit $2\n"},
	{"sweep_without_order", 1,
	 "lints/sweep_without_order.lua:2: error sweep_without_order: state \"fill\": rows has no `order by`: pages would miss "
	 "rows; order by \"id\", ascending\n"},
	{"sweep_ignores_rows", 1,
	 "lints/sweep_ignores_rows.lua:2: error sweep_ignores_rows: state \"fill\": exec does not use $1, the rows of the page\n"},
	{"dry_run_without_total", 0,
	 "lints/dry_run_without_total.lua:2: warning dry_run_without_total: state \"fill\": a dry run shows one page; with "
	 "`total`, a statement that counts, it also says how many rows there are\n"},
	{"zone_unknown", 1,
	 "lints/zone_unknown.lua:2: error zone_unknown: schedule: unknown time zone \"Europe/Berlim\", did you mean "
	 "\"Europe/Berlin\"?\n"},
	{"schedule_too_fast", 0,
	 "lints/schedule_too_fast.lua:2: warning schedule_too_fast: schedule: \"@every 10s\" starts a run more often than every "
	 "minute; a run that waits between two rounds costs less\n"},
	{"jitter_too_wide", 0,
	 "lints/jitter_too_wide.lua:4: warning jitter_too_wide: schedule: the jitter is as long as the time between two ticks of "
	 "\"*/5 * * * *\" or longer, so runs come in bunches\n"},
	{"limit_not_in_input", 1,
	 "lints/limit_not_in_input.lua:1: error limit_not_in_input: fair: the declared input has no \"tennant\", so all runs "
	 "would share one limit\n"},
	{"schedule_input", 1,
	 "lints/schedule_input.lua:3: error schedule_input: schedule: its input is not what the workflow declares: input.kind must "
	 "be a text, not a whole number\n"},
	{"arm_never_fires", 0,
	 "lints/arm_never_fires.lua:3: warning arm_never_fires: state \"a\": on \"late\": the wait itself is over before this arm "
	 "can go on for the first time\n"},
	{"check_without_failures", 0,
	 "lints/check_without_failures.lua:4: warning check_without_failures: state \"a\": on \"ill\": when bank.ping never "
	 "answers, nothing comes of it; say after how many failed checks the run goes on, like failures = 3\n"},
	{"child_destructive", 0,
	 "lints/child_destructive.lua:2: warning destructive_without_approval: state \"go\": the destructive bank.transfers.create "
	 "in workflow \"destructive_child\", which this starts, can be reached without an approval: go\n"},
	{"child_on_condition", 0,
	 "lints/child_on_condition.lua:6: warning destructive_on_condition: state \"go\": the destructive bank.transfers.create in "
	 "workflow \"destructive_child\", which this starts, is reached without an approval when the condition of one is false: "
	 "ask, go\n"},
	{"child_approved", 0, ""},
	{"child_unknown", 0,
	 "lints/child_unknown.lua:2: warning child_unknown: state \"go\": workflow \"not_here\" is not beside this file, so what "
	 "it does is not known and counts as destructive, and no approval is sure to come before it: go\n"},
	{"child_circle", 1,
	 "lints/child_circle.lua:2: error child_circle: state \"again\": workflow \"child_circle\" starts \"child_circle\", which "
	 "starts it again: children of children may be 32 deep, so this ends in a failure\n"},
	{"unknown_code", 1,
	 "lints/unknown_code.lua:4: error unknown_code: state \"b\": catch: bank.letters.send never fails with \"declned\", did you "
	 "mean \"declined\"?\n"},
	{"codes_of_the_engine", 0, ""},
	{"child_sweeps", 0,
	 "lints/child_sweeps.lua:2: warning destructive_without_approval: state \"go\": the destructive bank.transfers.create in "
	 "workflow \"sweeping_child\", which this starts, can be reached without an approval: go\n"},
	{"child_undoes", 0,
	 "lints/child_undoes.lua:2: warning destructive_without_approval: state \"go\": the destructive bank.transfers.create in "
	 "workflow \"undo_destructive\", which this starts, can be used to undo without an approval: go\n"},
	{"undo_of_a_read", 1,
	 "lints/undo_of_a_read.lua:3: error undo_of_a_read: state \"a\": bank.transfers.list only looks, so there is nothing to "
	 "undo\n"},
	{"undo_only_reads", 1,
	 "lints/undo_only_reads.lua:3: error undo_only_reads: state \"a\": undo: bank.ping only looks, so it undoes nothing\n"},
	{"undo_without_probe", 0,
	 "lints/undo_without_probe.lua:3: warning undo_without_probe: state \"a\": undo: bank.letters.send must not be repeated "
	 "and has no probe; when a reply is lost, unwinding would be held\n"},
	{"undo_incomplete", 0,
	 "lints/undo_incomplete.lua:9: warning undo_incomplete: state \"back\": it undoes what the run did, but these effects "
	 "before it say nothing of how: a, b\n"},
	{"undo_incomplete_each", 0,
	 "lints/undo_incomplete_each.lua:6: warning undo_incomplete: state \"first\": it undoes what the run did, but these effects "
	 "before it say nothing of how: a\n"
	 "lints/undo_incomplete_each.lua:7: warning undo_incomplete: state \"second\": it undoes what the run did, but these effects "
	 "before it say nothing of how: a, b\n"},
	{"undo_destructive", 0,
	 "lints/undo_destructive.lua:4: warning destructive_without_approval: state \"a\": the destructive "
	 "bank.transfers.create can be used to undo without an approval: a\n"},
	{"endless_loop", 1,
	 "lints/endless_loop.lua:3: error endless_loop: state \"a\": the states a, b, a go round for ever: nothing in the loop waits "
	 "or chooses\n"},
};

/* Of the workflow that is checked: those beside it, loaded when they are asked for. */
struct beside {
	struct hp_workflow *w[8];
	int n;
};

static const struct hp_workflow *find(void *arg, const char *name)
{
	struct beside *b = arg;
	struct hp_error err = {0};
	char path[200];

	snprintf(path, sizeof path, FIXTURES "/lints/%s.lua", name);
	ck_assert_int_lt(b->n, 8);
	b->w[b->n] = load_file(path, FIXTURES "/plugins", &err);
	return b->w[b->n] ? b->w[b->n++] : NULL;
}

START_TEST(each_lint_has_its_sentence)
{
	struct hp_error err = {0};
	struct beside beside = {.n = 0};
	struct hp_workflow *w;
	struct found all;
	char path[200];

	hp_buf_init(&all.text, 65536);
	snprintf(path, sizeof path, FIXTURES "/lints/%s.lua", cases[_i].fixture);
	w = load_file(path, FIXTURES "/plugins", &err);
	ck_assert_msg(w != NULL, "%s", err.message);
	ck_assert_int_eq(hp_workflow_check_among(w, find, &beside, note, &all), cases[_i].fatal);
	ck_assert_str_eq(hp_buf_str(&all.text), cases[_i].findings);
	hp_buf_free(&all.text);
	hp_workflow_free(w);
	while (beside.n > 0)
		hp_workflow_free(beside.w[--beside.n]);
}
END_TEST

/* Mistakes that keep a file from loading come out in the same shape. */
static const struct {
	const char *fixture, *sentence;
	int line;
} errors[] = {
	{"unknown_operation",
	 "unknown operation \"bank.transfers.creat\", did you mean \"bank.transfers.create\"?", 3},
	{"missing_otherwise", "state \"a\": otherwise is missing: where to go on when no branch fits", 3},
	{"await_without_timeout",
	 "state \"a\": timeout is missing: where to go on when the event does not come", 3},
	{"never_fires", "trigger: cron: \"0 3 31 2 *\" never fires: there is no such date", 2},
	{"signature_of_no_call",
	 "state \"a\": of: \"done\" is not a call; only the request of a call can be signed", 3},
	{"reserved_name", "state \"a\": nothing can be saved as \"input\": the name is the engine's own", 3},
	{"probe_not_a_read", "state \"a\": probe: bank.letters.send is not a read; a probe must only look", 3},
	{"arm_without_next", "state \"a\": on \"stop\": next is missing: the state to go on with", 3},
	{"check_not_a_read",
	 "state \"a\": on \"ill\": bank.letters.send is not a read; a check must only look, because it is asked again and again",
	 4},
	{"check_too_fast",
	 "state \"a\": on \"ill\": every is shorter than the timeout of one check", 4},
};

START_TEST(errors_of_loading_are_findings_too)
{
	struct hp_error err = {0};
	struct hp_finding f;
	char path[200], file[200];

	snprintf(path, sizeof path, FIXTURES "/lints/%s.lua", errors[_i].fixture);
	ck_assert_ptr_null(load_file(path, FIXTURES "/plugins", &err));
	hp_finding_of_error(&err, &f);
	snprintf(file, sizeof file, "lints/%s.lua", errors[_i].fixture);
	ck_assert_str_eq(f.file, file);
	ck_assert_int_eq(f.line, errors[_i].line);
	ck_assert_str_eq(f.lint, "load");
	ck_assert_str_eq(f.sentence, errors[_i].sentence);
	ck_assert(f.fatal);
}
END_TEST

START_TEST(other_errors_are_findings_without_a_place)
{
	struct hp_error err = {0};
	struct hp_finding f;

	ck_assert_ptr_null(load_file("no/such.lua", FIXTURES "/plugins", &err));
	(void)snprintf(err.hint, sizeof err.hint, "look");
	hp_finding_of_error(&err, &f);
	ck_assert_ptr_null(f.file);
	ck_assert_str_eq(f.lint, "load");
	ck_assert_str_eq(f.sentence, "no/such.lua: No such file or directory; look");
}
END_TEST

START_TEST(the_shipped_workflow_may_be_deployed)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_file("workflows/refund_on_booking_failure.lua", "plugins", &err);
	struct found all;

	hp_buf_init(&all.text, 65536);
	ck_assert_msg(w != NULL, "%s", err.message);
	ck_assert_msg(hp_workflow_check(w, note, &all) == 0, "%s", hp_buf_str(&all.text));
	hp_buf_free(&all.text);
	hp_workflow_free(w);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("check");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, each_lint_has_its_sentence, 0, (int)(sizeof cases / sizeof *cases));
	tcase_add_loop_test(t, errors_of_loading_are_findings_too, 0, (int)(sizeof errors / sizeof *errors));
	tcase_add_test(t, other_errors_are_findings_without_a_place);
	tcase_add_test(t, the_shipped_workflow_may_be_deployed);
	return hp_run_case("script check", t);
}
