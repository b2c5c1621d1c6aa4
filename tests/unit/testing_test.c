/* `holdpoint test` itself: what passes, and for every kind of expectation and every
 * mistake the line and the exact sentence. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/json.h"
#include "lib/suite.h"
#include "testing/test.h"

static const char connector_source[] =
	"local function reply(res)\n"
	"  if res.status == 200 then return ok(res.json) end\n"
	"  return failure { class = 'terminal', code = 'refused', message = 'no ' .. res.status }\n"
	"end\n"
	"return connector_definition 'toy' {\n"
	"  base = 'https://toy.example.com', hosts = { 'toy.example.com' }, secrets = { 'TOY_KEY' },\n"
	"  headers = { authorization = bearer 'TOY_KEY' },\n"
	"  operations = {\n"
	"    ['things.make'] = { method = 'POST', path = '/things', arg = { what = text },\n"
	"      repeats = by_key { header = 'idempotency-key', window = '24h' }, reply = reply,\n"
	"      request = function(arg) return { json = { what = arg.what } } end, errors = { 'busy', 'refused' } },\n"
	"  },\n"
	"}\n";
static const char workflow_source[] =
	"local toy = connector 'toy'\n"
	"return workflow 'flow' {\n"
	"  input = { n = integer }, key = '{input.n}',\n"
	"  sql 'find' { as = service, one = 'select 1 as a', save = 'row', none = 'nothing' },\n"
	"  sql 'list' { as = service, many = 'select 1 as b', save = 'rows' },\n"
	"  approval 'ask' { when = function(run) return run.input.n > 10 end, of = 'make', ask = 'Make {input.n}?',\n"
	"    approvers = '1 of team', deadline = '1h', rejected = 'no', expired = 'no' },\n"
	"  call 'make' { toy.things.make, with = { what = '{row.a}' }, save = 'made', key = 'make:{input.n}',\n"
	"    retry = { attempts = 3, base = '1s', cap = '2s' }, catch = { refused = 'no' } },\n"
	"  await 'word' { event = 'toy.word', key = '{input.n}', within = '1d', timeout = 'late' },\n"
	"  sql 'note' { as = service, exec = 'update t set a = $1', args = { '{made.n}' } },\n"
	"  succeed 'done' { result = { got = '{made.n}' } },\n"
	"  succeed 'nothing' {},\n"
	"  fail 'no' { code = 'no', message = 'said no' },\n"
	"  fail 'late' { code = 'late' },\n"
	"}\n";
/* On the first line, so that a body begins on the second. */
static const char head[] =
	"local function go(n) sql('find', { a = 'tea' }) sql('list', { { b = 1 } }) "
	"start { input = { n = n or 1 } } end "
	"local function made(n) reply('toy.things.make', { n = 7 }) go(n) end "
	"return tests 'flow' { test('it', function()\n";
static const char tail[] = "\nend) }\n";

static char dir[64];
static struct seen {
	int n, passed, line;
	char name[64], message[2200], expected[500], actual[500];
	size_t rows;
} seen;

static void write_file(const char *name, const char *a, const char *b, const char *c)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "%s%s%s", a, b, c);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	char plugin[128];

	snprintf(dir, sizeof dir, "/tmp/holdpoint-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(plugin, sizeof plugin, "%s/toy", dir);
	ck_assert_int_eq(mkdir(plugin, 0700), 0);
	write_file("toy/connector.lua", connector_source, "", "");
	write_file("flow.lua", workflow_source, "", "");
}

static void teardown(void)
{
	static const char *const names[] = {"toy/connector.lua", "flow.lua", "flow_test.lua", "toy", ""};
	char path[256];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		(void)remove(path);
	}
}

static void on_result(void *arg, const struct hp_test_result *r)
{
	(void)arg;
	seen.n++;
	seen.passed += r->passed;
	seen.line = r->failed_line;
	snprintf(seen.name, sizeof seen.name, "%s", r->name);
	snprintf(seen.message, sizeof seen.message, "%s", r->message ? r->message : "");
	snprintf(seen.expected, sizeof seen.expected, "%s", r->expected ? r->expected : "");
	snprintf(seen.actual, sizeof seen.actual, "%s", r->actual ? r->actual : "");
	seen.rows = json_array_size(r->timeline);
}

static int run(const char *a, const char *b, const char *c, const char *filter, struct hp_error *err)
{
	struct hp_test_options o = {.plugins = dir, .filter = filter, .each = on_result};
	char path[256];

	memset(&seen, 0, sizeof seen);
	memset(err, 0, sizeof *err);
	write_file("flow_test.lua", a, b, c);
	snprintf(path, sizeof path, "%s/flow_test.lua", dir);
	return hp_test_file(path, &o, err);
}

static void fails_at(const char *body, int line, const char *message)
{
	struct hp_error err;

	ck_assert_msg(run(head, body, tail, NULL, &err) == 0, "%s", err.message);
	ck_assert_int_eq(seen.n, 1);
	ck_assert_msg(!seen.passed, "passed: %s", body);
	ck_assert_msg(strcmp(seen.message, message) == 0, "%s\nexpected: %s\nbut got:  %s", body, message, seen.message);
	ck_assert_msg(seen.line == line, "%s\nline %d, not %d", body, seen.line, line);
}

static void passes(const char *body)
{
	struct hp_error err;

	ck_assert_msg(run(head, body, tail, NULL, &err) == 0, "%s", err.message);
	ck_assert_msg(seen.n == 1 && seen.passed == 1, "%s\nline %d: %s", body, seen.line, seen.message);
}

START_TEST(roads_that_pass)
{
	passes("sql('note', 1) made() event('toy.word', '1') expect { status = 'succeeded', state = 'done',\n"
	       " path = { 'find', 'list', 'ask', 'make', 'word', 'note', 'done' }, result = { got = 7 }, waiting = {},\n"
	       " saved = { made = { n = 7 }, rows = { { b = 1 } } }, key = '1', why = 'succeeded',\n"
	       " statements = { 'find', 'list', { state = 'note', args = { 7 } } },\n"
	       " effects = { { operation = 'toy.things.make', state = 'make', key = 'make:1', attempts = 1,\n"
	       "   method = 'POST', path = '/things', body = exactly { what = 'tea' } } } }");
	passes("event('toy.word', '1', { x = 1 }) sql('note', 1) made() expect { state = 'done', saved = { event = { x = 1 } } }");
	passes("sql('find', none) start { input = { n = 1 } } expect { state = 'nothing', effects = {} }");
	passes("made() pass '23h' expect { state = 'word', due_in = 3600, elapsed = 82800 } pass '1h' expect { code = 'late' }");
	passes("person('al', 'team') go(11) expect { approval = { ask = 'Make 11?' } } refused('mandatory', reject, { by = 'al' })"
	       " reject { by = 'al', reason = 'r' } expect { status = 'failed', message = 'said no' }");
	passes("go(11) pass '1h' expect { status = 'failed', path = { 'find', 'list', 'ask', 'no' } }");
	passes("go(11) cancel { reason = 'r' } expect { status = 'cancelled', approval = { status = 'cancelled' } }");
}
END_TEST

START_TEST(answers_of_every_kind)
{
	passes("reply('toy.things.make', failure { class = 'retryable', code = 'busy', retry_after = 90 }, timeout, { n = 7 })\n"
	       "go() expect { waiting = { 'attempt make' }, due_in = 90, code = 'busy' } settle()\n"
	       "expect { state = 'word', effects = { { attempts = 3, key = 'make:1' } } }");
	passes("reply('toy.things.make', http { status = 409, json = {} }) go() expect { state = 'no', effects = { any } }");
	passes("reply('toy.things.make', unreachable, lost_reply, lost_reply) go() settle() expect { status = 'held' }\n"
	       "skip { reason = 'r', value = { n = 9 } } expect { state = 'word', saved = { made = { n = 9 } } }");
	passes("reply('toy.things.make', lost_reply, lost_reply, lost_reply, { n = 2 }) go() settle()\n"
	       "retry { reason = 'r' } expect { state = 'word', effects = { { attempts = 4 } } }");
	passes("reply('toy.things.make', failure { class = 'needs_person', code = 'busy' }) go() give_up { reason = 'r' }\n"
	       "expect { status = 'failed' } refused('is not held', give_up, { reason = 'r' })");
	passes("reply('toy.things.make', function(rq) if rq.attempt > 1 then return { n = rq.attempt } end return timeout end)\n"
	       "go() settle() expect { saved = { made = { n = 2 } } }");
	passes("reply('toy.things.make', function() end, { n = 1 }) go() expect { state = 'word' }");
	passes("sql('find', function(q) equal(q.args, {}) return sql_error 'deadlock_detected' end) start { input = { n = 1 } }\n"
	       "expect { state = 'find', waiting = { 'attempt find' }, code = 'deadlock_detected' }");
	passes("sql('find', sql_error('unique_violation', 'twice')) start { input = { n = 1 } }\n"
	       "expect { status = 'held', code = 'unique_violation', why = 'twice', waiting = { 'operator find' } }");
	passes("reply('toy.things.make', function() expect { phase = 'admitted', state = 'make' } event('toy.word', '1')\n"
	       "return { n = 1 } end) sql('note', 1) go() expect { state = 'done' }");
	passes("reply('toy.things.make', function() cancel { reason = 'r' } return { n = 1 } end) go()\n"
	       "expect { status = 'cancelled', saved = { made = { n = 1 } } }");
}
END_TEST

START_TEST(expectations_that_fail)
{
	fails_at("made()\nexpect { status = 'failed' }", 3,
		 "status: expected \"failed\", is \"waiting\". Run 1 waits in state \"word\" for the event toy.word with key "
		 "\"1\" until 2026-01-02 00:00:00 UTC.");
	ck_assert_str_eq(seen.expected, "\"failed\"");
	ck_assert_str_eq(seen.actual, "\"waiting\"");
	ck_assert_int_gt((int)seen.rows, 5);
	fails_at("sql('find', none) start { input = { n = 1 } } expect { path = { 'find', 'done' } }", 2,
		 "path[2]: expected \"done\", is \"nothing\". Run 1 succeeded at 2026-01-01 00:00:00 UTC.");
	fails_at("made()\nexpect { saved = { made = { n = 8 } } }", 3, "saved.made.n: expected 8, is 7");
	fails_at("made() expect { saved = { nope = any } }", 2, "saved.nope: expected anything, is nothing");
	fails_at("made() expect { saved = { made = absent } }", 2, "saved.made: expected nothing, is {\"n\":7}");
	fails_at("made() expect { saved = { made = exactly {} } }", 2, "saved.made: expected {}, is {\"n\":7}");
	fails_at("made() expect { result = { got = 7 } }", 2, "result: expected {\"got\":7}, is nothing");
	fails_at("made() expect { waiting = {} }", 2, "waiting: expected [], is [\"event word\"]");
	fails_at("made() expect { why = 'an operator' }", 2,
		 "why: expected a text with \"an operator\" in it, is \"Run 1 waits in state \\\"word\\\" for the event toy.word "
		 "with key \\\"1\\\" until 2026-01-02 00:00:00 UTC.\"");
	fails_at("made() expect { effects = { { key = 'make:2' } } }", 2, "effects[1].key: expected \"make:2\", is \"make:1\"");
	fails_at("made() expect { effects = { 'toy.things.nope' } }", 2,
		 "effects[1].operation: expected \"toy.things.nope\", is \"toy.things.make\"");
	fails_at("made() expect { effects = { { body = { what = contains 'coffee' } } } }", 2,
		 "effects[1].body.what: expected a text with \"coffee\" in it, is \"tea\"");
	fails_at("made() expect { statements = { 'list', 'find' } }", 2,
		 "statements[1].state: expected \"list\", is \"find\"");
	fails_at("go(11) expect { approval = { ask = 'Why?' } }", 2, "approval.ask: expected \"Why?\", is \"Make 11?\"");
	fails_at("made() expect { due_in = 1 }", 2, "due_in: expected 1, is 86400");
	fails_at("made()\nequal(run().state, 'x')", 3, "value: expected \"x\", is \"word\"");
	fails_at("made()\nrefused('no', pass, '1s')", 3, "expected to be refused with \"no\", but it was done");
	fails_at("made() refused('no such', retry, { reason = 'r' })", 2,
		 "refused, but not with \"no such\": run 1 is not held, it is waiting. Only held runs take retry, skip, undo or "
		 "give_up. holdpoint why says what it waits for.");
	fails_at("made() expect { stat = 'x' }", 2, "expect: unknown member \"stat\", did you mean \"state\"?");
	fails_at("made() expect {}", 2, "expect {} says nothing: name what is expected, like status = \"succeeded\"");
	fails_at("made()", 1, "the test expects nothing: add expect { … }");
	/* a failure stays one when it is caught */
	fails_at("made() pcall(expect, { status = 'x' }) expect { state = 'word' }", 2,
		 "status: expected \"x\", is \"waiting\". Run 1 waits in state \"word\" for the event toy.word with key \"1\" until "
		 "2026-01-02 00:00:00 UTC.");
}
END_TEST

START_TEST(a_world_that_does_not_fit)
{
	fails_at("start { input = { n = 1 } }", 2,
		 "sql state \"find\" runs and the test has no answer left for it: add sql(\"find\", { … })");
	fails_at("sql('find', { a = 1 })\nstart { input = { n = 1 } }", 3,
		 "sql state \"list\" runs and the test has no answer left for it: add sql(\"list\", { { … } })");
	fails_at("go()", 1, "state \"make\" calls toy.things.make (attempt 1) and the test has no answer left for it: add "
			    "reply(\"toy.things.make\", …)");
	fails_at("reply('toy.things.make', timeout) go()\nsettle()", 3,
		 "state \"make\" calls toy.things.make (attempt 2) and the test has no answer left for it: add "
		 "reply(\"toy.things.make\", …)");
	fails_at("made()\nreply('toy.things.make', {}) expect { state = 'word' }", 3,
		 "the provider was never asked for this answer to \"toy.things.make\": take it away, or see why the run did not "
		 "come that far");
	fails_at("sql('note', 1)\nmade() expect { state = 'word' }", 2,
		 "the database was never asked for this answer to state \"note\": take it away, or see why the run did not come "
		 "that far");
	fails_at("reply('toy.thing.make', {})", 2,
		 "workflow \"flow\" has no call of \"toy.thing.make\", did you mean \"toy.things.make\"?");
	fails_at("sql('fnd', none)", 2, "workflow \"flow\" has no sql state \"fnd\", did you mean \"find\"?");
	fails_at("reply('toy.things.make', failure { class = 'terminal', code = 'refusd' })", 2,
		 "toy.things.make declares no error \"refusd\", did you mean \"refused\"?");
	fails_at("failure { class = 'bad', code = 'x' }", 2,
		 "failure: class must be \"retryable\", \"terminal\", \"ambiguous\" or \"needs_person\"");
	fails_at("sql('find', 1)", 2, "sql state \"find\" answers a row (a table of columns) or none, because it is `one`");
	fails_at("sql('list', 1)", 2, "sql state \"list\" answers a list of rows, because it is `many`");
	fails_at("sql('note', { a = 1 })", 2, "sql state \"note\" answers the number of rows it changes, because it is `exec`");
	fails_at("sql('note', none)", 2, "sql state \"note\" answers the number of rows it changes, because it is `exec`");
	fails_at("reply('toy.things.make', none) go()", 1,
		 "none and sql_error are answers of statements, not of toy.things.make");
	fails_at("reply('toy.things.make')", 2, "reply(\"toy.things.make\", …): at least one answer must follow");
	fails_at("reply('toy.things.make', function()\nlocal x = nil + 1 end) go()", 3,
		 "attempt to perform arithmetic on a nil value");
	fails_at("reply('toy.things.make', function()\npass '1s' end) go()", 3, "time cannot pass while a request is answered");
	fails_at("sql('find', function()\ncancel { reason = 'r' } end) start { input = { n = 1 } }", 3,
		 "cancel cannot be done while a statement runs");
	fails_at("sql('find', function()\nrun() end) start { input = { n = 1 } }", 3,
		 "the run cannot be looked at while a statement runs");
}
END_TEST

START_TEST(doors_that_are_closed)
{
	fails_at("expect { status = 'x' }", 2, "there is no run yet: start {…} begins it");
	fails_at("cancel { reason = 'r' }", 2, "cancel: there is no run yet: start {…} begins it");
	fails_at("made() start { input = { n = 1 } }", 2, "the run has been started already: a test has one run");
	fails_at("start { input = { n = 'x' } }", 2, "input.n must be a whole number, not a text");
	fails_at("start { inputs = {} }", 2, "start: unknown member \"inputs\", did you mean \"input\"?");
	fails_at("made() approve { by = 'al', reason = 'r' }", 2,
		 "approve: no approval was asked for. Run 1 waits in state \"word\" for the event toy.word with key \"1\" until "
		 "2026-01-02 00:00:00 UTC.");
	fails_at("go(11) approve { reason = 'r' }", 2, "approve: by = \"NAME\" is missing: who decides?");
	fails_at("go(11)\napprove { by = 'al', reason = 'r' }", 3, "\"al\" is not a known principal");
	fails_at("person('al', 'other') go(11) approve { by = 'al', reason = 'r' }", 2,
		 "al is not among the approvers: 1 of team");
	fails_at("made() pass 'soon'", 2, "\"soon\" is not a duration. write a whole number above 0 and a unit: 250ms, 20s, 5m, 4h or 10d");
	fails_at("local x\nx.y = 1", 3, "attempt to index a nil value (local 'x')");
	fails_at("starts {}", 2, "unknown name \"starts\", did you mean \"start\"?");
	fails_at("error('mine')", 2, "mine");
}
END_TEST

START_TEST(what_does_not_end_is_stopped_and_the_next_test_runs)
{
	struct hp_error err;

	ck_assert_int_eq(run("return tests 'flow' {\ntest('a', function() while true do pcall(function() while true do end end) end end),\n",
			     "test('b', function() sql('find', function()\nwhile true do end end) start { input = { n = 1 } } end),\n",
			     "test('c', function() sql('find', none) start { input = { n = 1 } } expect { state = 'nothing' } end) }",
			     NULL, &err), 0);
	ck_assert_int_eq(seen.n, 3);
	ck_assert_int_eq(seen.passed, 1);
	ck_assert_str_eq(seen.name, "c");
}
END_TEST

START_TEST(tests_do_not_see_each_other)
{
	struct hp_error err;

	ck_assert_int_eq(run("return tests 'flow' { test('one', function() sql('find', none) start { input = { n = 1 } } "
			     "expect { state = 'nothing' } end), ",
			     "test('two', function() event('toy.word', '1') refused('no run yet', run) end), ",
			     "test('three', function() start { input = { n = 1 } } end) }", NULL, &err), 0);
	ck_assert_int_eq(seen.n, 3);
	ck_assert_int_eq(seen.passed, 2);
	ck_assert_str_eq(seen.message, "sql state \"find\" runs and the test has no answer left for it: add sql(\"find\", { … })");
	ck_assert_int_eq(run("return tests 'flow' { test('one', function() refused('no run', run) end), ",
			     "test('two', function() refused('no run', run) end) }", "", "two", &err), 0);
	ck_assert_int_eq(seen.n, 1);
	ck_assert_str_eq(seen.name, "two");
}
END_TEST

static void wrong(const char *source, const char *message)
{
	struct hp_error err;
	char expected[1000];

	ck_assert_int_eq(run(source, "", "", NULL, &err), -1);
	ck_assert_int_eq(seen.n, 0);
	if (strncmp(message, "DIR", 3) == 0)
		snprintf(expected, sizeof expected, "%s%s", dir, message + 3);
	else
		snprintf(expected, sizeof expected, "%s", message);
	ck_assert_msg(strcmp(err.message, expected) == 0, "expected: %s\nbut got:  %s", expected, err.message);
}

START_TEST(files_that_are_no_tests)
{
	wrong("return 1", "DIR/flow_test.lua:1: the file must end with: return tests \"workflow\" { test(\"name\", function() … "
			  "end), … }");
	wrong("return tests 'flow' {}", "DIR/flow_test.lua:1: tests \"flow\" has no test");
	wrong("return tests 'flow' { 7 }",
	      "DIR/flow_test.lua:1: entry 1 of tests \"flow\" is no test: write test(\"name\", function() … end)");
	wrong("return tests '../flow' { 7 }",
	      "DIR/flow_test.lua:1: tests \"../flow\": it is the name of a workflow file beside this one, without .lua");
	wrong("return tests 'flow' {\n test('x') }", "DIR/flow_test.lua:2: bad argument #2 to 'test' (function expected, got no value)");
	wrong("\nexpect { status = 'x' }",
	      "DIR/flow_test.lua:2: this word belongs inside of a test: test(\"name\", function() … end)");
	wrong("x = = 1", "DIR/flow_test.lua:1: unexpected symbol near '='");
	wrong("os.exit()", "DIR/flow_test.lua:1: unknown name \"os\"");
}
END_TEST

START_TEST(files_that_are_not_there)
{
	struct hp_test_options o = {.plugins = dir, .each = on_result};
	struct hp_error err;
	char expected[300];

	ck_assert_int_eq(run("return tests 'flaw' { test('x', function() end) }", "", "", NULL, &err), -1);
	snprintf(expected, sizeof expected, "%s/flow_test.lua: tests \"flaw\": %s/flaw.lua: No such file or directory", dir, dir);
	ck_assert_str_eq(err.message, expected);
	ck_assert_int_eq(hp_test_file("/nonexistent_test.lua", &o, &err), -1);
	ck_assert_str_eq(err.message, "/nonexistent_test.lua: No such file or directory");
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		roads_that_pass, answers_of_every_kind, expectations_that_fail, a_world_that_does_not_fit, doors_that_are_closed,
		what_does_not_end_is_stopped_and_the_next_test_runs, tests_do_not_see_each_other, files_that_are_no_tests,
		files_that_are_not_there,
	};
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 60); /* two tests are stopped after seconds of work */
	tcase_add_checked_fixture(t, setup, teardown);
	for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(t, tests[i]);
	return hp_run_case("testing_test", t);
}
