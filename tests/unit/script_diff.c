/* What a deploy says that it changes. */
#include "script_help.h"
#include "lib/suite.h"

static struct hp_buf said;

static void on_change(void *arg, const struct hp_change *c)
{
	static const char marks[] = " +-~";

	(void)arg;
	hp_buf_printf(&said, "%c%s %s: %s\n", marks[c->what], c->policy ? "!" : "", c->state ? c->state : "*", c->sentence);
}

static void expect(const char *from, const char *to, const char *changes)
{
	struct hp_workflow *a = must_load(from), *b = must_load(to);

	hp_buf_init(&said, 65536);
	hp_workflow_diff(a, b, on_change, NULL);
	ck_assert_str_eq(hp_buf_str(&said), changes);
	hp_buf_free(&said);
	hp_workflow_free(a);
	hp_workflow_free(b);
}

#define HEAD "local bank = connector 'bank'\nreturn workflow 'w' { "
#define REVIEW "approval 'review' { of = 'pay', ask = 'Pay?', approvers = '1 of sre', deadline = '4h', rejected = 'no', expired = 'no' }, "
#define PAY "call 'pay' { bank.transfers.create, with = { amount = 1, to = 'x' }, save = 'paid', timeout = '20s', catch = { otherwise = 'no' } }, "
#define REST "succeed 'done' {}, fail 'no' {} }"

START_TEST(the_same_is_no_change)
{
	expect(HEAD REVIEW PAY REST, HEAD REVIEW PAY REST, "");
	expect(HEAD REVIEW PAY REST, HEAD REVIEW PAY REST " -- a word", "~ *: only expressions, texts or connectors\n");
}
END_TEST

START_TEST(an_approval_that_goes_is_said_twice)
{
	expect(HEAD REVIEW PAY REST, HEAD PAY REST,
	       "~! *: starts in \"review\" → \"pay\"\n"
	       "~! pay: its request is signed in: review → none\n"
	       "-! review: approval\n");
}
END_TEST

START_TEST(states_and_what_they_are)
{
	expect(HEAD REVIEW PAY REST,
	       HEAD "approval 'review' { of = 'pay', ask = 'Pay?', approvers = '2 of sre', deadline = '1h', rejected = 'no', expired = 'done' }, "
		    "call 'pay' { bank.transfers.create, with = { amount = 1, to = 'x' }, timeout = '30s', retry = { attempts = 2 }, "
		    "key = 'k', catch = { declined = 'done', otherwise = 'no' } }, wait 'a_while' { for_ = '1h' }, " REST,
	       "~! review: approvers: 1 of sre → 2 of sre\n"
	       "~ review: deadline: 4h → 1h\n"
	       "~ review: way \"expired\" → \"no\" removed\n"
	       "~ review: way \"expired\" → \"done\" added\n"
	       "~ pay: business key: no → yes\n"
	       "~ pay: attempts: 5 → 2\n"
	       "~ pay: timeout: 20s → 30s\n"
	       "~ pay: saves: paid → none\n"
	       "~ pay: way \"next\" → \"done\" removed\n"
	       "~ pay: way \"next\" → \"a_while\" added\n"
	       "~ pay: way \"catch declined\" → \"done\" added\n"
	       "+ a_while: wait\n");
}
END_TEST

START_TEST(triggers_schedules_keys)
{
	expect("return workflow 'w' { trigger = webhook { 'bank', events = { 'a' } }, key = 'k', succeed 'done' {} }",
	       "return workflow 'w' { retention = '90d', trigger = schedule { cron = '0 3 * * *' }, succeed 'done' {} }",
	       "~! *: retention, also of runs that are over: for ever → 90d\n"
	       "~ *: key of runs: yes → no\n"
	       "- *: webhook of bank with 1 event, the first a\n"
	       "+ *: schedule \"0 3 * * *\" in UTC\n");
}
END_TEST

#define CHILD(what) HEAD what ", catch = { otherwise = 'no' } }, " REST
#define SWEEP(what) HEAD "sweep 'fill' { as = service, cursor = 'id', first = 0, rows = 'select $1, $2', " what ", catch = { otherwise = 'no' } }, " REST

START_TEST(children_and_what_they_are)
{
	expect(CHILD("each 'go' { items = {}, workflow = 'small'"), CHILD("each 'go' { items = {}, workflow = 'large', concurrency = 50, tolerate = '10%'"),
	       "~! go: starts: small → large\n"
	       "~ go: at once: 20 → 50\n"
	       "~ go: join: all, 0 may fail → all, 10% may fail\n");
	expect(CHILD("each 'go' { items = {}, workflow = 'w'"), CHILD("each 'go' { as = service, cursor = 'id', rows = 'select 1', workflow = 'w'"),
	       "~ go: another statement\n"
	       "~ go: cursor: none → id\n");
	expect(CHILD("run 'go' { workflow = 'small'"), CHILD("run 'went' { workflow = 'small'"),
	       "~! *: starts in \"go\" → \"went\"\n"
	       "+! went: run of small\n"
	       "-! go: run of small\n");
	expect(CHILD("run 'go' { workflow = 'w', within = '1h', timeout = 'no'"), CHILD("run 'go' { workflow = 'w', within = '2h', timeout = 'no'"),
	       "~ go: within: 1h → 2h\n");
}
END_TEST

START_TEST(sweeps_and_what_they_do)
{
	expect(SWEEP("exec = 'select $1', dry_run = true"), SWEEP("exec = 'select $1, 2', batch = 10, rate = '5/s', lag = '1kB', total = 'select 1'"),
	       "~ fill: another statement\n"
	       "~ fill: another statement for their number\n"
	       "~ fill: rows of a page: 500 → 10\n"
	       "~ fill: rows in a second: none → 5\n"
	       "~ fill: bytes a standby may be behind: none → 1024\n"
	       "~! fill: has a dry run: yes → no\n");
	expect(SWEEP("exec = 'select $1', call = { bank.notes.put }"),
	       SWEEP("exec = 'select $1', tolerate = 3, call = { bank.transfers.create }"),
	       "~! fill: operation: bank.notes.put → bank.transfers.create\n"
	       "~! fill: destructive: no → yes\n"
	       "~ fill: rows that may fail: none → 3\n");
	expect(HEAD REST, SWEEP("exec = 'select $1', call = { bank.transfers.create }"),
	       "~! *: starts in \"done\" → \"fill\"\n"
	       "+! fill: destructive sweep\n");
}
END_TEST

#define NOTE(more) HEAD "call 'note' { bank.notes.put, with = { path = '/n', text = 'x' }, catch = { otherwise = 'no' }, " more " }, " REST

START_TEST(what_is_taken_back)
{
	expect(NOTE(""), NOTE("undo = { bank.transfers.create, with = { amount = 1, to = 'x' } }"),
	       "~! note: undo: none → destructive bank.transfers.create\n");
	expect(NOTE("undo = 'by phone'"), NOTE("undo = { as = service, exec = 'select 1' }"), "~! note: undo: by hand → a statement\n");
	expect(NOTE("undo = { as = service, exec = 'select 2' }"), NOTE("undo = { as = service, exec = 'select 1' }"),
	       "~! note: another statement of its undo\n");
	expect(NOTE("undo = { bank.notes.put }"), NOTE(""), "~! note: undo: bank.notes.put → none\n");
	expect("return workflow 'w' { fail 'no' {} }", "return workflow 'w' { on_cancel = 'undo', fail 'no' { undo = true } }",
	       "~! *: a cancel: stops → undoes what was done\n"
	       "~! no: undoes what was done: no → yes\n");
	expect(HEAD REST, NOTE("undo = { bank.transfers.create, with = { amount = 1, to = 'x' } }"),
	       "~! *: starts in \"done\" → \"note\"\n"
	       "+! note: call, with a destructive undo\n");
}
END_TEST

START_TEST(limits_and_budgets)
{
	expect("return workflow 'w' { exclusive = '{input.a}', budgets = { sms = { limit = 5, window = '1h' } }, succeed 'done' {} }",
	       "return workflow 'w' { exclusive = '{input.a}', overlap = 'skip', concurrency = { max = 2, per = '{input.b}' }, "
	       "rate = { max = 10, every = '1m' }, fair = '{input.a}', priority = 3, "
	       "budgets = { sms = { limit = 500, window = '1h' } }, input = { a = text, b = text }, succeed 'done' {} }",
	       "~ *: exclusive: {input.a}, the next waits → {input.a}, the next joins\n"
	       "~ *: concurrency: none → 2 per {input.b}\n"
	       "~ *: rate: none → 10 every 1m, at most 10 at once\n"
	       "~ *: fair: none → {input.a}\n"
	       "~ *: priority: none → 3\n"
	       "~! *: budgets: sms 5 in 1h → sms 500 in 1h\n"
	       "~ *: another shape of the input\n");
	expect(NOTE("budget = { 'sms', over = 'park' }, rate = { max = 1, every = '1s' }, concurrency = { max = 1 }"), NOTE("budget = { 'sms', over = 'fail' }"),
	       "~! note: budget: sms, waits → sms, fails\n"
	       "~ note: rate: 1 every 1s, at most 1 at once → none\n"
	       "~ note: concurrency: 1 → none\n");
}
END_TEST

START_TEST(secrets_arms_and_what_is_shown)
{
	expect(NOTE("promote = 'A'"), NOTE("promote = 'A', retire = 'B'"), "~! note: secrets: promote A → promote A, retire B\n");
	expect(HEAD "wait 'a' { for_ = '1h', on = { stop = { event = 'x', key = 'k', next = 'no' } } }, " REST,
	       HEAD "wait 'a' { for_ = '1h', on = { stop = { after = '5m', next = 'no' } } }, " REST, "~ a: on: stop: event x → stop: timer after 5m\n");
	expect(HEAD "approval 'a' { ask = '?', approvers = '1 of x', deadline = '4h', evidence = { 'input' } }, " REST,
	       HEAD "approval 'a' { ask = '?', approvers = '1 of x', deadline = '4h', reminders = { '1h', '2h' } }, " REST,
	       "~ a: reminders: none → 1h, 2h\n"
	       "~ a: shows: input → none\n");
	expect(HEAD "sql 'a' { as = service, exec = 'select 1' }, " REST, HEAD "sql 'a' { as = service, one = 'select 1' }, " REST, "~ a: mode: exec → one\n");
}
END_TEST

HP_SUITE("script diff", the_same_is_no_change, an_approval_that_goes_is_said_twice, states_and_what_they_are, triggers_schedules_keys,
	 children_and_what_they_are, sweeps_and_what_they_do, what_is_taken_back, limits_and_budgets, secrets_arms_and_what_is_shown)
