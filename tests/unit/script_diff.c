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
	hp_definition_diff(hp_workflow_definition(a), hp_workflow_definition(b), on_change, NULL);
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

HP_SUITE("script diff", the_same_is_no_change, an_approval_that_goes_is_said_twice, states_and_what_they_are, triggers_schedules_keys)
