/* Loading: bundles, digests, what the definition says, and every refusal's sentence. */
#include <stdio.h>
#include <unistd.h>
#include "script_help.h"
#include "base/clock.h"
#include "lib/suite.h"

START_TEST(a_workflow_becomes_a_definition)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &err);
	const struct hp_definition *d;
	const struct hp_state *s;

	ck_assert_msg(w != NULL, "%s", err.message);
	d = hp_workflow_definition(w);
	ck_assert_str_eq(d->workflow, "all");
	ck_assert_str_eq(d->doc, "Every kind of state.");
	ck_assert_str_eq(d->file, "workflows/all.lua");
	ck_assert(d->has_key && d->has_input);
	ck_assert_int_eq(d->n_triggers, 2);
	ck_assert_str_eq(d->triggers[0].source, "bank");
	ck_assert_int_eq(d->triggers[0].n_events, 2);
	ck_assert_str_eq(d->triggers[0].events[1], "transfer.lost");
	ck_assert_int_eq(d->triggers[1].n_events, 1);
	ck_assert_int_eq(d->n_states, 11);

	s = &d->states[hp_definition_find(d, "find")];
	ck_assert_int_eq(s->kind, HP_SQL);
	ck_assert_int_eq(s->line, 9);
	ck_assert_int_eq(s->sql.mode, HP_SQL_ONE);
	ck_assert(s->sql.as_user);
	ck_assert_str_eq(s->save, "payment");
	ck_assert_str_eq(d->states[s->sql.none].name, "nothing");
	ck_assert_str_eq(d->states[s->next].name, "review");
	ck_assert_int_eq(s->timeout_us, 3 * HP_SECOND);
	ck_assert(s->has_set);

	s = &d->states[hp_definition_find(d, "review")];
	ck_assert_int_eq(s->kind, HP_APPROVAL);
	ck_assert(s->approval.has_when);
	ck_assert_str_eq(d->states[s->approval.of].name, "pay");
	ck_assert_int_eq(s->approval.deadline_us, 4 * HP_HOUR);
	ck_assert_int_eq(s->approval.n_reminders, 2);
	ck_assert_int_eq(s->approval.reminders_us[1], 2 * HP_HOUR);
	ck_assert_str_eq(s->save, "decision");

	hp_workflow_free(w);
}
END_TEST

START_TEST(each_kind_of_state_is_read)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &err);
	const struct hp_definition *d;
	const struct hp_state *s;

	ck_assert_msg(w != NULL, "%s", err.message);
	d = hp_workflow_definition(w);
	s = &d->states[hp_definition_find(d, "pay")];
	ck_assert_str_eq(s->call.op.connector, "bank");
	ck_assert_str_eq(s->call.op.name, "transfers.create");
	ck_assert_int_eq(s->call.op.repeat, HP_REPEAT_BY_KEY);
	ck_assert_int_eq(s->call.op.window_us, 24 * HP_HOUR);
	ck_assert(s->call.op.destructive && !s->call.op.read && s->call.has_key && s->call.has_probe);
	ck_assert_str_eq(s->call.probe.name, "transfers.list");
	ck_assert(s->call.probe.read);
	ck_assert_str_eq(d->states[s->call.signed_by].name, "review");
	ck_assert_int_eq(s->retry.attempts, 8);
	ck_assert_int_eq(s->retry.total_us, HP_HOUR);
	ck_assert_int_eq(s->n_catches, 3);
	ck_assert_str_eq(s->catches[0].match, "declined"); /* code, class, otherwise */
	ck_assert_str_eq(s->catches[1].match, "retryable");
	ck_assert_ptr_null(s->catches[2].match);

	s = &d->states[hp_definition_find(d, "confirm")];
	ck_assert_int_eq(s->await.n_events, 2);
	ck_assert_int_eq(s->await.within_us, 10 * HP_DAY);
	ck_assert_str_eq(s->save, "event");
	s = &d->states[hp_definition_find(d, "settled")];
	ck_assert_int_eq(s->next, HP_NO_STATE);
	ck_assert_int_eq(s->choose.n_branches, 1);
	s = &d->states[hp_definition_find(d, "escalate")];
	ck_assert_str_eq(s->fail.code, "sad");
	ck_assert_int_eq(s->next, HP_NO_STATE);
	s = &d->states[hp_definition_find(d, "closed")];
	ck_assert_str_eq(s->fail.code, "failed");
	s = &d->states[hp_definition_find(d, "tell")];
	ck_assert_int_eq(s->retry.attempts, 5);
	ck_assert_int_eq(s->retry.base_us, HP_SECOND);
	ck_assert_int_eq(s->retry.cap_us, 5 * HP_MINUTE);
	ck_assert_int_eq(s->timeout_us, 20 * HP_SECOND);
	hp_workflow_free(w);
}
END_TEST

START_TEST(a_bundle_holds_what_is_used_and_its_digest_does_not_move)
{
	struct hp_error err = {0};
	struct hp_buf a, b;
	uint8_t da[HP_SHA256_LEN], db[HP_SHA256_LEN];
	char cwd[4096], path[8192];
	json_t *v;

	hp_buf_init(&a, HP_BUNDLE_MAX);
	hp_buf_init(&b, HP_BUNDLE_MAX);
	ck_assert_int_eq(hp_bundle_build(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &a, &err), 0);
	v = hp_json_parse(a.p, a.n, "bundle", &err);
	ck_assert_uint_eq(json_object_size(json_object_get(v, "connectors")), 1);
	ck_assert_ptr_nonnull(hp_json_path(v, "connectors.bank.source"));
	json_decref(v);
	ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
	snprintf(path, sizeof path, "%s/" FIXTURES "/workflows/all.lua", cwd);
	ck_assert_int_eq(hp_bundle_build(path, FIXTURES "/plugins", &b, &err), 0);
	hp_bundle_digest(hp_buf_bytes(&a), da);
	hp_bundle_digest(hp_buf_bytes(&b), db);
	ck_assert_mem_eq(da, db, sizeof da);
	/* neither does it when a store changes the spacing */
	hp_buf_addc(&b, '\n');
	hp_bundle_digest(hp_buf_bytes(&b), db);
	ck_assert_mem_eq(da, db, sizeof da);
	hp_bundle_digest(hp_bytes_of("{}"), db);
	ck_assert_mem_ne(da, db, sizeof da);
	hp_buf_free(&a);
	hp_buf_free(&b);
}
END_TEST

START_TEST(a_missing_connector_is_named)
{
	struct hp_error err = {0};

	ck_assert_ptr_null(load_file(FIXTURES "/workflows/typo_connector.lua", FIXTURES "/plugins", &err));
	ck_assert_str_eq(err.message, "connector \"bnak\": tests/fixtures/plugins/bnak/connector.lua: No such file or directory");
	ck_assert_str_eq(err.hint, "did you mean \"bank\"?");
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
}
END_TEST

START_TEST(a_summary_tells_the_store)
{
	struct hp_error err = {0};
	struct hp_workflow *w = must_load("return workflow \"w\" { input = { id = text, n = optional(integer) },\n"
					  "  trigger = webhook { \"bank\", events = \"x.y\" },\n"
					  "  wait \"a\" { for_ = \"1s\", doc = \"Pause\" },\n  succeed \"done\" {} }");
	struct hp_buf out;

	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_summary(w, &out, &err), 0);
	ck_assert_str_eq(
		hp_buf_str(&out),
		"{\"workflow\":\"w\",\"doc\":null,\"file\":\"t.lua\",\"keyed\":false,\"states\":["
		"{\"name\":\"a\",\"kind\":\"wait\",\"line\":3,\"doc\":\"Pause\",\"ways\":[{\"label\":\"next\",\"to\":\"done\"}]},"
		"{\"name\":\"done\",\"kind\":\"succeed\",\"line\":4,\"doc\":null,\"ways\":[]}],"
		"\"triggers\":[{\"source\":\"bank\",\"events\":[\"x.y\"]}],"
		"\"input\":{\"properties\":{\"id\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},"
		"\"required\":[\"id\"],\"type\":\"object\"}}");
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

START_TEST(schedules_are_triggers)
{
	struct hp_error err = {0};
	struct hp_workflow *w = must_load(
		"return workflow \"w\" {\n"
		"  trigger = { webhook { \"bank\", events = \"x.y\" },\n"
		"    schedule { cron = \"0 3 1 */3 *\", zone = \"Europe/Berlin\", jitter = \"30s\", catch_up = \"all\",\n"
		"      within = \"2d\", overlap = \"queue\", input = { kind = \"full\", list = { 1, 2 } } },\n"
		"    schedule { cron = \"@every 90s\" } },\n"
		"  succeed \"done\" {} }");
	const struct hp_definition *d = hp_workflow_definition(w);
	struct hp_buf out;

	ck_assert_int_eq(d->n_triggers, 1);
	ck_assert_int_eq(d->n_schedules, 2);
	ck_assert_int_eq(d->schedules[0].line, 3);
	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_summary(w, &out, &err), 0);
	ck_assert_ptr_nonnull(strstr(
		hp_buf_str(&out),
		"\"triggers\":[{\"source\":\"bank\",\"events\":[\"x.y\"]}],"
		"\"schedules\":[{\"cron\":\"0 3 1 */3 *\",\"zone\":\"Europe/Berlin\",\"jitter_us\":30000000,"
		"\"within_us\":172800000000,\"catch_up\":\"all\",\"overlap\":\"queue\","
		"\"input\":{\"kind\":\"full\",\"list\":[1,2]}},"
		"{\"cron\":\"@every 90s\",\"zone\":\"UTC\",\"jitter_us\":0,\"within_us\":0,\"catch_up\":\"last\","
		"\"overlap\":\"skip\",\"input\":{}}],\"input\":null}"));
	hp_buf_clear(&out);
	ck_assert_int_eq(hp_workflow_graph(w, &out, &err), 0);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "  t1>\"0 3 1 */3 *<br/>Europe/Berlin\"] --> s0\n"));
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

START_TEST(limits_of_starts_are_cut_into_parts)
{
	struct hp_error err = {0};
	struct hp_workflow *w = must_load(
		"return workflow \"w\" {\n"
		"  exclusive = \"v2.1:{input.user.id}\", overlap = \"skip\",\n"
		"  concurrency = { max = 10, per = \"{input.tenant}\" }, fair = \"{{{input.tenant}\",\n"
		"  rate = { max = 100, every = \"1m\", burst = 7 }, priority = \"{input.p}\",\n"
		"  succeed \"done\" {} }");
	struct hp_buf out;

	ck_assert(hp_workflow_definition(w)->takes_turns);
	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_summary(w, &out, &err), 0);
	ck_assert_ptr_nonnull(strstr(
		hp_buf_str(&out),
		",\"limits\":{\"overlap\":\"skip\",\"exclusive\":[\"v2.1:\",[\"user\",\"id\"]],"
		"\"concurrency\":{\"max\":10,\"per\":[[\"tenant\"]]},"
		"\"rate\":{\"max\":100,\"per_us\":60000000,\"burst\":7,\"per\":[]},"
		"\"fair\":[\"{\",[\"tenant\"]],\"priority\":[[\"p\"]]},\"input\""));
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

START_TEST(limits_of_calls_are_read)
{
	struct hp_error err = {0};
	struct hp_workflow *w = must_load(
		"local bank = connector \"bank\"\n"
		"return workflow \"w\" {\n"
		"  budgets = { sms = { limit = 10, window = \"1h\" }, cents = { limit = 5000, window = \"1d\", kind = \"bucket\" } },\n"
		"  call \"a\" { bank.ping, budget = { \"sms\", per = \"{input.to}\", over = \"park\" } },\n"
		"  call \"b\" { bank.ping, budget = { \"cents\", amount = 5, over = \"late\" }, concurrency = { max = 2 } },\n"
		"  call \"c\" { bank.ping },\n"
		"  succeed \"done\" {}, fail \"late\" {} }");
	const struct hp_definition *d = hp_workflow_definition(w);
	struct hp_buf out;

	ck_assert(d->states[0].call.limited && d->states[1].call.limited && !d->states[2].call.limited);
	ck_assert_int_eq(d->states[0].call.over_budget, HP_NO_STATE);
	ck_assert_int_eq(d->states[1].call.over_budget, 4);
	hp_buf_init(&out, 65536);
	ck_assert_int_eq(hp_workflow_summary(w, &out, &err), 0);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "\"budget\":\"cents\""));
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "{\"label\":\"over budget\",\"to\":\"late\"}"));
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "\"budgets\":{\"cents\":{\"max\":5000,\"per_us\":86400000000,\"bucket\":true},"
						       "\"sms\":{\"max\":10,\"per_us\":3600000000,\"bucket\":false}}"));
	hp_buf_clear(&out);
	ck_assert_int_eq(hp_workflow_graph(w, &out, &err), 0);
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "over budget"));
	hp_buf_free(&out);
	hp_workflow_free(w);
}
END_TEST

#define W(body) "local bank = connector \"bank\"\nreturn workflow \"w\" {\n" body "\n}"
#define APPROVAL(more) "approval \"a\" { ask = \"?\", approvers = \"1 of x\", " more " }, succeed \"b\" {}"
#define AT3 "t.lua:3: state \"a\": "

static const struct {
	const char *source, *message;
} refusals[] = {
	{"local x = ", "t.lua:1: unexpected symbol near <eof>"},
	{"return 5", "t.lua: the file must end with: return workflow \"name\" { … }"},
	{"return workflow {}", "t.lua:1: workflow: a name must follow, like workflow \"name\" { … }"},
	{"return workflow \"w\" { sweep \"s\" { as = service, cursor = \"id\", first = string.rep(\"x\", 600), rows = \"select id "
	 "from t where id > $1 order by id limit $2\", exec = \"select $1::jsonb\" } }",
	 "t.lua:1: state \"s\": first is longer than 512 bytes"},
	{"return workflow \"w\" {}", "t.lua:1: there is no state; the shortest workflow is succeed \"done\" {}"},
	{"return workflow \"W-1\" {}",
	 "t.lua:1: workflow \"W-1\": a name is lower-case letters, digits and _, at most 64, no digit first"},
	{W("succeed \"a\""), "t.lua:2: entry 1 is not finished: a table must follow the name, like succeed \"done\" {}"},
	{W("7"), "t.lua:2: entry 1 is a number, not a state"},
	{W("succeed \"a\" {}, retention = \"5m\""), "t.lua:2: retention must be at least 1h: people look at what has just ended"},
	{W("succeed \"a\" {}, keyy = \"x\""), "t.lua:2: unknown field \"keyy\", did you mean \"key\"?"},
	{W("succeed \"a\" {},\nfail \"a\" {}"), "t.lua:4: state \"a\": the name is already used on line 3"},
	{W("succeed \"a\" {}, key = \"{payment.id}\""), "t.lua:2: key: nothing is saved as \"payment\""},
	{W("succeed \"a\" {}, key = \"{run.id}\""), "t.lua:2: key: there is no run.id before the run has started"},
	{W("succeed \"a\" {}, input = { id = \"text\" }"),
	 "t.lua:2: input.id must be a type (text, integer, number, boolean, any, optional, list, one_of) or a table of "
	 "types, not a string"},
	{W("succeed \"a\" {}, trigger = webhook { events = { \"x\" } }"),
	 "t.lua:3: trigger: the source is missing, like webhook { \"stripe\", events = { … } }"},
	{W("succeed \"a\" {}, trigger = schedule { zone = \"UTC\" }"),
	 "t.lua:3: trigger: cron is missing, like schedule { cron = \"0 3 * * *\" }"},
	{W("succeed \"a\" {}, trigger = schedule { cron = \"0 25 * * *\" }"),
	 "t.lua:3: trigger: cron: \"25\" is not a hour (0 to 23)"},
	{W("succeed \"a\" {}, trigger = schedule { cron = \"@daily\", catch_up = \"lst\" }"),
	 "t.lua:3: catch_up: there is no \"lst\", did you mean \"last\"?"},
	{W("succeed \"a\" {}, trigger = schedule { cron = \"@daily\", overlap = \"wait\" }"),
	 "t.lua:3: overlap: there is no \"wait\""},
	{W("succeed \"a\" {}, trigger = schedule { cron = \"@daily\", catch_up = \"none\", within = \"1d\" }"),
	 "t.lua:3: trigger: within says how old a tick may be that is caught up; catch_up = \"none\" has none"},
	{W("succeed \"a\" {}, trigger = schedule { cron = \"@daily\", input = \"x\" }"),
	 "t.lua:3: trigger: input must be a table with names, like { kind = \"full\" }"},
	{W("succeed \"a\" {}, trigger = schedule { cron = \"@daily\", input = { tick = 1 } }"),
	 "t.lua:3: trigger: input: \"tick\" is the engine's own: the time of the tick"},
	{W("succeed \"a\" {}, trigger = schedule { corn = \"@daily\" }"),
	 "t.lua:3: unknown field \"corn\", did you mean \"cron\"?"},
	{W("succeed \"a\" {}, trigger = { 5 }"), "t.lua:2: trigger: entry 1 must be webhook { … } or schedule { … }"},
	{W("succeed \"a\" {}, trigger = webhook { \"bank\" }"),
	 "t.lua:3: trigger: events is missing: the types of events that start a run"},

	{W("succeed \"a\" {}, exclusive = function() end"),
	 "t.lua:2: exclusive must be a text like \"{input.tenant}\": it is filled in where the run is started, where no "
	 "function runs"},
	{W("succeed \"a\" {}, exclusive = \"{run.id}\""),
	 "t.lua:2: exclusive: \"{run.id}\" may only use the input, like {input.tenant}: there is no run yet"},
	{W("succeed \"a\" {}, exclusive = \"{input.x\""), "t.lua:2: exclusive: a { without its }; write {{ for a brace"},
	{W("succeed \"a\" {}, exclusive = \"{input.x.1}\""),
	 "t.lua:2: exclusive: \"{input.x.1}\" names a member of a list; a limit's key can only use names"},
	{W("succeed \"a\" {}, exclusive = \"\""), "t.lua:2: exclusive must have from 1 to 512 bytes"},
	{W("succeed \"a\" {}, overlap = \"skip\""), "t.lua:2: overlap belongs to exclusive"},
	{W("succeed \"a\" {}, exclusive = \"x\", overlap = \"queue\""),
	 "t.lua:2: overlap must be \"wait\" (in order, the default) or \"skip\" (join the one that runs), not \"queue\""},
	{W("succeed \"a\" {}, concurrency = 5"), "t.lua:2: concurrency must be a table like { max = 10 }"},
	{W("succeed \"a\" {}, concurrency = { per = \"{input.x}\" }"),
	 "t.lua:2: concurrency needs how many at once: concurrency = { max = 10 }"},
	{W("succeed \"a\" {}, rate = { max = 5 }"),
	 "t.lua:2: rate needs how many and how often: rate = { max = 100, every = \"1m\" }"},
	{W("succeed \"a\" {}, rate = { max = 5, every = \"1m\", burst = 6 }"), "t.lua:2: burst must be from 1 to 5"},
	{W("succeed \"a\" {}, rate = { max = 5, evry = \"1m\" }"), "t.lua:2: unknown field \"evry\", did you mean \"every\"?"},
	{W("succeed \"a\" {}, priority = 10"), "t.lua:2: priority must be from 0 to 9"},

	{W("succeed \"a\" {}, budgets = { sms = { limit = 10 } }"),
	 "t.lua:2: the budget \"sms\" needs a limit and a window: { limit = 10, window = \"1h\" }"},
	{W("succeed \"a\" {}, budgets = { sms = { limit = 10, window = \"1h\", kind = \"rolling\" } }"),
	 "t.lua:2: the budget \"sms\": kind is \"window\" or \"bucket\", not \"rolling\""},
	{W("call \"a\" { bank.ping, budget = \"sms\" }, succeed \"b\" {}"),
	 AT3 "budget must be a table like { \"sms\", over = \"park\" }"},
	{W("call \"a\" { bank.ping, budget = { over = \"park\" } }, succeed \"b\" {}"),
	 AT3 "budget: its name is missing, like budget = { \"sms\", over = \"park\" }"},
	{W("call \"a\" { bank.ping, budget = { \"sms\" } }, succeed \"b\" {}"),
	 AT3 "budget: over is missing: \"park\" (wait until there is room), \"fail\" (code over_budget), or the state to go to"},
	{W("call \"a\" { bank.ping, budget = { \"sms\", over = \"prak\" } }, succeed \"b\" {}"),
	 AT3 "over: unknown state \"prak\""},
	{W("call \"a\" { bank.ping, rate = { max = 1 } }, succeed \"b\" {}"),
	 AT3 "rate needs how many and how often: rate = { max = 100, every = \"1m\" }"},
	{W("call \"a\" { bank.transfers.create, retrys = {} }, succeed \"b\" {}"),
	 AT3 "unknown field \"retrys\", did you mean \"retry\"?"},
	{W("call \"a\" { bank.transfers.creat }, succeed \"b\" {}"),
	 "t.lua:3: unknown operation \"bank.transfers.creat\", did you mean \"bank.transfers.create\"?"},
	{W("call \"a\" { bank.frobnicate_all }, succeed \"b\" {}"),
	 "t.lua:3: unknown operation \"bank.frobnicate_all\": connector \"bank\" does not declare it"},
	{W("call \"a\" {}, succeed \"b\" {}"),
	 AT3 "the first entry of a call must be an operation, like stripe.refunds.create"},
	{W("call \"a\" { bank.ping, next = \"recrod\" }, succeed \"record\" {}"),
	 AT3 "next: unknown state \"recrod\", did you mean \"record\"?"},
	{W("call \"a\" { bank.ping, catch = { otherwise = \"zzz\" } }, succeed \"record\" {}"),
	 AT3 "otherwise: unknown state \"zzz\""},
	{W("call \"a\" { bank.ping, timeout = \"5x\" }, succeed \"b\" {}"),
	 AT3 "timeout: \"5x\" is not a duration; write a whole number above 0 and a unit: 250ms, 20s, 5m, 4h or 10d"},
	{W("call \"a\" { bank.ping, timeout = \"6m\" }, succeed \"b\" {}"), AT3 "timeout may be at most 5m"},
	{W("call \"a\" { bank.ping, retry = { attempts = 0 } }, succeed \"b\" {}"), AT3 "attempts must be from 1 to 1000"},
	{W("call \"a\" { bank.ping, retry = { base = \"5m\", cap = \"1m\" } }, succeed \"b\" {}"),
	 AT3 "retry: cap is shorter than base"},
	{W("call \"a\" { bank.ping, probe = { bank.letters.send, found = function() end } }, succeed \"b\" {}"),
	 AT3 "probe: bank.letters.send is not a read; a probe must only look"},
	{W("call \"a\" { bank.ping, probe = { bank.ping } }, succeed \"b\" {}"),
	 AT3 "probe: found is missing: function(reply, run) … end"},
	{W("call \"a\" { bank.ping, with = { x = \"{nobody.id}\" } }, succeed \"b\" {}"),
	 AT3 "with.x: nothing is saved as \"nobody\""},
	{W("call \"a\" { bank.ping, save = \"payment\", with = { x = \"{paymnt.id}\" } }, succeed \"b\" {}"),
	 AT3 "with.x: nothing is saved as \"paymnt\", did you mean \"payment\"?"},
	{W("call \"a\" { bank.ping, with = { \"{run.paymnt}\" } }, succeed \"b\" {}"),
	 AT3 "with[1]: nothing is saved as \"paymnt\""},
	{W("call \"a\" { bank.ping, with = \"a { b\" }, succeed \"b\" {}"),
	 AT3 "with: a { without its }; write {{ for a brace"},
	{W("call \"a\" { bank.ping, with = \"a } b\" }, succeed \"b\" {}"),
	 AT3 "with: a } without its {; write }} for a brace"},
	{W("call \"a\" { bank.ping, with = \"{a..b}\" }, succeed \"b\" {}"),
	 AT3 "with: a path in braces is names joined by dots, like {input.id}; write {{ for a brace"},
	{W("call \"a\" { bank.ping, save = \"input\" }, succeed \"b\" {}"),
	 AT3 "nothing can be saved as \"input\": the name is the engine's own"},
	{W("call \"a\" { bank.ping, set = { error = 1 } }, succeed \"b\" {}"),
	 AT3 "nothing can be saved as \"error\": the name is the engine's own"},
	{W("call \"a\" { bank.ping, save = \"x\", set = { x = 1 } }, succeed \"b\" {}"),
	 AT3 "save and set both write \"x\""},
	{W("call \"a\" { bank.ping, save = \"X y\" }, succeed \"b\" {}"),
	 AT3 "\"X y\" cannot be the name of a saved value: use lower-case letters, digits and _"},

	{W("call \"a\" { bank.notes.put, undo = bank.notes.put }, succeed \"b\" {}"),
	 AT3 "undo must be a table like { stripe.refunds.create, with = … }, one with as and exec, or a text that says why it "
	     "cannot be undone"},

	{W("sql \"a\" { exec = \"x\" }, succeed \"b\" {}"),
	 AT3 "as is missing: as = service, or as = user(expression) for row-level security"},
	{W("sql \"a\" { as = \"service\", exec = \"x\" }, succeed \"b\" {}"), AT3 "as must be service or user(expression)"},
	{W("sql \"a\" { as = service }, succeed \"b\" {}"), AT3 "the statement is missing: exec, one or many"},
	{W("sql \"a\" { as = service, exec = \"x\", one = \"y\" }, succeed \"b\" {}"),
	 AT3 "only one of exec, one and many may be given"},
	{W("sql \"a\" { as = service, exec = \"x\", save = \"r\" }, succeed \"b\" {}"),
	 AT3 "exec gives no rows to save; use one or many"},
	{W("sql \"a\" { as = service, many = \"x\", none = \"b\" }, succeed \"b\" {}"), AT3 "none belongs to one"},
	{W("sql \"a\" { as = service, exec = \"x\", args = { x = 1 } }, succeed \"b\" {}"), AT3 "unknown field \"x\""},

	{W("choose \"a\" { { when = function() end, next = \"b\" } }, succeed \"b\" {}"),
	 AT3 "otherwise is missing: where to go on when no branch fits"},
	{W("choose \"a\" { otherwise = \"b\" }, succeed \"b\" {}"), AT3 "there is no branch"},
	{W("choose \"a\" { { next = \"b\" }, otherwise = \"b\" }, succeed \"b\" {}"), AT3 "branch 1: when is missing"},
	{W("choose \"a\" { { when = true }, otherwise = \"b\" }, succeed \"b\" {}"), AT3 "branch 1: next is missing"},

	{W(APPROVAL("of = \"b\"")), AT3 "of: \"b\" is not a call; only the request of a call can be signed"},
	{W(APPROVAL("evidence = { \"paid\" }")), AT3 "evidence: nothing is saved as \"paid\""},
	{W(APPROVAL("deadline = \"1h\", reminders = { \"2h\" }")), AT3 "the reminder after 2h comes after the deadline"},
	{W(APPROVAL("deadline = \"3h\", reminders = { \"2h\", \"1h\" }")), AT3 "reminders must ascend"},
	{W("approval \"a\" { approvers = \"1 of x\" }, succeed \"b\" {}"), AT3 "ask is missing"},
	{W("approval \"a\" { ask = \"?\" }, succeed \"b\" {}"), AT3 "approvers is missing"},
	{W("approval \"a\" { ask = \"?\", approvers = \"all\" }, succeed \"b\" {}"),
	 AT3 "approvers \"all\": a number of votes is missing; write it like \"1 of payments\" or \"2 of sre and 1 of "
	     "security\""},

	{W("wait \"a\" {}, succeed \"b\" {}"), AT3 "how long is missing: for_ = \"10m\" or until_ = expression"},
	{W("wait \"a\" { for_ = \"1s\", until_ = 5 }, succeed \"b\" {}"), AT3 "for_ and until_ exclude each other"},
	{W("await \"a\" { event = \"x\", key = \"k\", within = \"1h\" }, succeed \"b\" {}"),
	 AT3 "timeout is missing: where to go on when the event does not come"},
	{W("await \"a\" { event = \"x\", key = \"k\", timeout = \"b\" }, succeed \"b\" {}"),
	 AT3 "within is missing: how long to wait for the event"},
	{W("await \"a\" { event = \"x\", within = \"1h\", timeout = \"b\" }, succeed \"b\" {}"), AT3 "key is missing"},
	{W("await \"a\" { event = \"x\\ny\", key = \"k\", within = \"1h\", timeout = \"a\" }"),
	 AT3 "event: a text contains a control character"},
	{W("await \"a\" { event = \"\", key = \"k\", within = \"1h\", timeout = \"a\" }"),
	 AT3 "event: a text must have from 1 to 200 bytes"},
	{W("each \"a\" { items = {}, workflow = \"x\", tolerate = \"4294967297%\" }, succeed \"b\" {}"),
	 AT3 "tolerate must be a number of failures or a share like \"10%\""},
	{W("fail \"a\" { code = \"No Good\" }"), AT3 "code \"No Good\" must be lower-case letters, digits and _, at most 63"},
	{W("succeed \"a\" { next = \"a\" }"), AT3 "unknown field \"next\""},
};

START_TEST(a_refusal_says_where_and_what)
{
	struct hp_error err = {0};
	struct hp_workflow *w = load_text(refusals[_i].source, &err);

	ck_assert_msg(w == NULL, "loaded: %s", refusals[_i].source);
	ck_assert_str_eq(err.message, refusals[_i].message);
	ck_assert_int_eq(err.code, HP_E_SCRIPT);
}
END_TEST

START_TEST(not_a_bundle)
{
	struct hp_error err = {0};
	static const char *const bad[] = {"{}", "[]", "{\"connectors\":{},\"workflow\":{\"file\":\"x\"}}",
					  "{\"connectors\":{\"a\":{}},\"workflow\":{\"file\":\"x\",\"source\":\"\"}}"};
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_ptr_null(hp_workflow_load(hp_bytes_of(bad[i]), &err));
		ck_assert_int_eq(err.code, HP_E_INVALID);
		ck_assert_int_eq(strncmp(err.message, "this is not a bundle", 20), 0);
	}
}
END_TEST

START_TEST(endless_source_is_stopped)
{
	struct hp_error err = {0};

	ck_assert_ptr_null(load_text("while true do end", &err));
	ck_assert_msg(err.message[0] != '\0', "no message");
}
END_TEST

/* Tables that hold themselves go too deep; tables shared twice on forty levels would
 * take for ever. */
START_TEST(cycles_end)
{
	static const char *const bodies[] = {
		"t.x = t return workflow \"w\" { call \"a\" { bank.ping, with = t }, succeed \"b\" {} }",
		"for i = 1, 40 do t = { a = t, b = t } end return workflow \"w\" { call \"a\" { bank.ping, with = t }, succeed \"b\" {} }",
		"for i = 1, 40 do t = { a = t, b = t } end return workflow \"w\" { input = t, succeed \"b\" {} }",
		"t[1] = t return workflow \"w\" { input = t, succeed \"b\" {} }",
		"t.of = t return workflow \"w\" { input = { x = optional(list(t)) }, succeed \"b\" {} }",
	};
	size_t i;

	for (i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		struct hp_error err = {0};
		char source[500];

		snprintf(source, sizeof source, "local bank, t = connector \"bank\", {}\n%s", bodies[i]);
		ck_assert_ptr_null(load_text(source, &err));
		ck_assert_msg(err.message[0] != '\0', "no message");
	}
}
END_TEST

/* What a state leaves on the stack is gone before the next one is read. */
START_TEST(as_many_states_as_may_be_are_read)
{
	static const char one[] = "each \"e%d\" { items = function() return {} end, workflow = \"x\", join = %s, tolerate = 1%s },\n";
	struct hp_buf source;
	struct hp_workflow *w;

	hp_buf_init(&source, HP_BUNDLE_MAX);
	hp_buf_adds(&source, "return workflow \"w\" {\n");
	for (int i = 1; i < HP_STATES_MAX; i++)
		hp_buf_printf(&source, one, i, i % 2 ? "\"all\"" : "nil", i % 2 ? "" : ", doc = \"x\"");
	hp_buf_adds(&source, "succeed \"done\" {} }");
	w = must_load(hp_buf_str(&source));
	ck_assert_int_eq(hp_workflow_definition(w)->n_states, HP_STATES_MAX);
	hp_workflow_free(w);
	hp_buf_free(&source);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("loader");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_workflow_becomes_a_definition);
	tcase_add_test(t, each_kind_of_state_is_read);
	tcase_add_test(t, a_bundle_holds_what_is_used_and_its_digest_does_not_move);
	tcase_add_test(t, a_missing_connector_is_named);
	tcase_add_test(t, a_summary_tells_the_store);
	tcase_add_test(t, limits_of_starts_are_cut_into_parts);
	tcase_add_test(t, limits_of_calls_are_read);
	tcase_add_test(t, schedules_are_triggers);
	tcase_add_loop_test(t, a_refusal_says_where_and_what, 0, (int)(sizeof refusals / sizeof *refusals));
	tcase_add_test(t, not_a_bundle);
	tcase_add_test(t, endless_source_is_stopped);
	tcase_add_test(t, cycles_end);
	tcase_add_test(t, as_many_states_as_may_be_are_read);
	return hp_run_case("script loader", t);
}
