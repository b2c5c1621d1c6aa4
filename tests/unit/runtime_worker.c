/* The worker over the store in memory and a real HTTP exchange: what is sent, when,
 * under which key, and what becomes of the run. */
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime_world.h"

#define ONE_CALL(timeout) \
	"local toy = connector 'toy'\n" \
	"return workflow 'one' {\n" \
	"  call 'make' { toy.things.make, with = { what = '{input.what}' }, save = 'made', timeout = '" timeout "',\n" \
	"    retry = { attempts = 5, base = '5ms', cap = '10ms' }, catch = { terminal = 'no' } },\n" \
	"  succeed 'done' { result = '{made.n}' },\n" \
	"  fail 'no' {},\n" \
	"}\n"
static const char one_call[] = ONE_CALL("10s"); /* only who wants it to run out has it short */
static const char two_calls[] =
	"local toy = connector 'toy'\n"
	"return workflow 'two' {\n"
	"  call 'first' { toy.things.make, with = { what = '{input.what}' }, save = 'a', timeout = '5s' },\n"
	"  call 'second' { toy.things.make, with = { what = '{a.n}x' }, save = 'b', timeout = '5s' },\n"
	"  succeed 'done' {},\n"
	"}\n";
static const char once_call[] =
	"local toy = connector 'toy'\n"
	"return workflow 'once' {\n"
	"  call 'make' { toy.things.once, with = { what = 'x' }, timeout = '10s', catch = { ambiguous = 'ask' } },\n"
	"  succeed 'done' {},\n"
	"  fail 'ask' {},\n"
	"}\n";

static void open_one(struct world *w)
{
	world_open(w);
	deploy(w, "one", one_call);
	world_start(w, 0);
}

START_TEST(a_run_goes_to_its_end)
{
	struct world w;

	open_one(&w);
	start_run(&w, "one");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 1);
	all_keys_equal(&w);
	ck_assert_int_eq(hp_worker_in_hand(w.worker), 0);
	ck_assert_int_eq((int)hp_counters_sum(w.counters, "holdpoint_runs_finished_total{status=\"succeeded\"}"), 1);
	ck_assert_int_eq((int)hp_counters_sum(w.counters,
					      "holdpoint_requests_total{connector=\"toy\",class=\"ok\"}"), 1);
	world_close(&w);
}
END_TEST

static enum answer twice_broken(struct world *w, int nth)
{
	(void)w;
	return nth < 2 ? ANSWER_500 : ANSWER_OK;
}

START_TEST(a_failed_attempt_is_repeated_under_the_same_key)
{
	struct world w;

	open_one(&w);
	w.script = twice_broken;
	start_run(&w, "one");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 3);
	all_keys_equal(&w);
	ck_assert_int_eq(moves(&w, "retry"), 2);
	world_close(&w);
}
END_TEST

static enum answer refuses(struct world *w, int nth)
{
	(void)w, (void)nth;
	return ANSWER_400;
}

START_TEST(a_refusal_takes_the_declared_way)
{
	struct world w;

	open_one(&w);
	w.script = refuses;
	start_run(&w, "one");
	ends_as(&w, "failed");
	ck_assert_int_eq(w.calls, 1);
	world_close(&w);
}
END_TEST

static enum answer first_hangs(struct world *w, int nth)
{
	(void)w;
	return nth == 0 ? ANSWER_HANG : ANSWER_OK;
}

START_TEST(a_timeout_is_ambiguous_and_repeated_under_the_same_key)
{
	struct world w;

	world_open(&w);
	deploy(&w, "one", ONE_CALL("400ms"));
	world_start(&w, 0);
	w.script = first_hangs;
	start_run(&w, "one");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 2);
	all_keys_equal(&w);
	world_close(&w);
}
END_TEST

static enum answer first_resets(struct world *w, int nth)
{
	(void)w;
	return nth == 0 ? ANSWER_RESET : ANSWER_OK;
}

START_TEST(a_lost_reply_of_what_may_not_be_repeated_is_not_repeated)
{
	struct world w;

	world_open(&w);
	deploy(&w, "once", once_call);
	world_start(&w, 0);
	w.script = first_resets;
	start_run(&w, "once");
	ends_as(&w, "failed");
	ck_assert_int_eq(w.calls, 1);
	world_close(&w);
}
END_TEST

/* ---- fates of commits ---- */

struct fate {
	enum hp_mem_fate fate;
	int times;
	bool admissions_only;
	int rereads; /* transitions that said that they follow a reload */
	int64_t skew;
	unsigned long no_memory; /* the allocation from then on that fails */
};

static enum hp_mem_fate on_fate(void *arg, const struct hp_transition *t)
{
	struct fate *f = arg;

	f->rereads += t->reread;
	if (f->times == 0 || (f->admissions_only && !t->admits))
		return HP_MEM_TRY;
	f->times--;
	skew += f->skew;
	if (f->no_memory > 0)
		hp_alloc_fail_at(f->no_memory);
	return f->fate;
}

static void with_fate(enum hp_mem_fate fate, bool admissions_only, int calls_max)
{
	struct fate f = {.fate = fate, .times = 1, .admissions_only = admissions_only};
	struct world w;

	open_one(&w);
	hp_mem_set_fate(w.store, on_fate, &f);
	start_run(&w, "one");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(f.times, 0);
	ck_assert_int_eq(f.rereads, 1); /* only what follows the reload */
	ck_assert_int_ge(w.calls, 1);
	ck_assert_int_le(w.calls, calls_max);
	all_keys_equal(&w);
	world_close(&w);
}

START_TEST(a_lost_acknowledgement_of_an_admission_keeps_the_key)
{
	with_fate(HP_MEM_ACK_LOST, true, 1);
}
END_TEST

START_TEST(a_commit_that_was_lost_is_found_out_and_done_again)
{
	with_fate(HP_MEM_FAIL, true, 1);
}
END_TEST

START_TEST(a_conflict_reads_the_run_again)
{
	with_fate(HP_MEM_CONFLICT, true, 1);
}
END_TEST

static bool first_called(struct world *w) { return w->calls == 1; }

START_TEST(a_lost_result_is_asked_for_again_under_the_same_key)
{
	struct fate f = {.fate = HP_MEM_FAIL, .times = 1};
	struct world w;

	open_one(&w);
	w.script = first_hangs;
	start_run(&w, "one");
	ck_assert(turn_until(&w, first_called));
	hp_mem_set_fate(w.store, on_fate, &f); /* the next commit carries the result */
	answer_held(&w, ANSWER_OK);
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 2);
	all_keys_equal(&w);
	world_close(&w);
}
END_TEST

/* What the store knows of the states and the definition differ: it refuses the wait. */
static const char one_wait[] =
	"return workflow 'mail' {\n"
	"  await 'word' { event = 'toy.word', key = 'k', within = '1h', timeout = 'no' },\n"
	"  succeed 'done' {},\n"
	"  fail 'no' {},\n"
	"}\n";

START_TEST(a_value_the_store_refuses_holds_the_run)
{
	struct world w;

	world_open(&w);
	deploy_as(&w, "mail", one_wait, "{\"states\":[{\"name\":\"word\",\"events\":[]}],\"triggers\":[]}");
	world_start(&w, 0);
	start_run(&w, "mail");
	held_with(&w, "commit_refused");
	ck_assert_int_eq(hp_worker_in_hand(w.worker), 0);
	world_close(&w);
}
END_TEST

/* ---- cancel, lease, drain ---- */

START_TEST(a_cancel_waits_for_the_effect_in_flight)
{
	struct world w;

	world_open(&w);
	deploy(&w, "two", two_calls);
	world_start(&w, 0);
	w.script = first_hangs;
	start_run(&w, "two");
	ck_assert(turn_until(&w, first_called));
	ck_assert(door(&w, "cancel", "{\"run\":%lld,\"reason\":\"enough\"}", (long long)w.run) != NULL);
	ck_assert_str_eq(status_of(&w, w.run), "running");
	answer_held(&w, ANSWER_OK);
	ends_as(&w, "cancelled");
	ck_assert_int_eq(w.calls, 1);
	world_close(&w);
}
END_TEST

static bool held_back(struct world *w) { return hp_worker_count(w->worker, HP_HAND_LEASE) == 1; }

START_TEST(nothing_is_sent_late_in_the_lease)
{
	/* As its admission is committed, 70 % of the lease pass at once. */
	struct fate f = {.fate = HP_MEM_TRY, .times = 1, .admissions_only = true, .skew = 1400 * HP_MSEC};
	struct world w;

	world_open(&w);
	deploy(&w, "one", one_call);
	world_start(&w, 2 * HP_SECOND);
	hp_mem_set_fate(w.store, on_fate, &f);
	start_run(&w, "one");
	ck_assert(turn_until(&w, held_back));
	ck_assert(!hp_worker_lease_good(w.worker));
	ck_assert(!hp_worker_can_take(w.worker));
	ck_assert_int_eq(w.calls, 0);
	ends_as(&w, "succeeded"); /* the next heartbeat was acknowledged */
	ck_assert_int_eq(w.calls, 1);
	world_close(&w);
}
END_TEST

static bool sent_or_held_back(struct world *w) { return w->calls == 1 || held_back(w); }
static bool has_drained(struct world *w) { return w->drained; }

/* No peer is to blame: no attempt is counted, and no failure. */
START_TEST(without_a_descriptor_a_request_waits)
{
	struct rlimit before, none;
	struct world w;
	int lowest;

	open_one(&w);
	start_run(&w, "one");
	lowest = dup(0);
	close(lowest);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){(rlim_t)lowest, before.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert(turn_until(&w, held_back));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_int_eq(w.calls, 0);
	ends_as(&w, "succeeded"); /* the next heartbeat was acknowledged */
	ck_assert_int_eq(w.calls, 1);
	world_close(&w);
}
END_TEST

/* From the admission on, this allocation fails (0: none). True: its request waited, and was sent
 * by the first attempt. n: how many allocations there were. */
static bool waits_for_memory(unsigned long at, unsigned long *n)
{
	struct fate f = {.fate = HP_MEM_TRY, .times = 1, .admissions_only = true, .no_memory = at > 0 ? at : ULONG_MAX};
	struct world w;
	bool waited;

	world_open(&w);
	deploy(&w, "one", one_call);
	world_start(&w, 0); /* no heartbeat comes between: it could not do without memory */
	hp_mem_set_fate(w.store, on_fate, &f);
	start_run(&w, "one");
	ck_assert(turn_until(&w, sent_or_held_back));
	*n = hp_alloc_count();
	hp_alloc_fail_at(0);
	waited = held_back(&w);
	ends_as(&w, "succeeded"); /* the next heartbeat was acknowledged */
	ck_assert(!waited || (w.calls == 1 && moves(&w, "retry") == 0));
	world_close(&w);
	return waited;
}

/* … nor without memory: the last allocations before it is sent are the client's. */
START_TEST(without_memory_a_request_waits)
{
	unsigned long n, ignored;

	ck_assert(!waits_for_memory(0, &n));
	while (n > 0 && !waits_for_memory(n, &ignored))
		n--;
	ck_assert_uint_gt(n, 0);
}
END_TEST

START_TEST(a_drain_lets_the_effect_end_and_gives_the_run_back)
{
	struct world w;

	world_open(&w);
	deploy(&w, "two", two_calls);
	world_start(&w, 0);
	w.script = first_hangs;
	start_run(&w, "two");
	ck_assert(turn_until(&w, first_called));
	hp_worker_drain(w.worker);
	turn_for(&w, 50 * HP_MSEC);
	ck_assert(!w.drained);
	answer_held(&w, ANSWER_OK);
	ck_assert(turn_until(&w, has_drained));
	ck_assert_int_eq(w.calls, 1); /* the second effect was not begun */
	ck_assert_int_eq(moves(&w, "admitted"), 1);
	hp_worker_free(w.worker);
	world_start(&w, 0);
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 2);
	ck_assert_str_ne(w.keys[0], w.keys[1]);
	world_close(&w);
}
END_TEST

static enum answer all_hang(struct world *w, int nth)
{
	(void)w, (void)nth;
	return ANSWER_HANG;
}

START_TEST(a_drain_ends_at_its_limit)
{
	struct world w;

	open_one(&w);
	w.script = all_hang;
	deploy(&w, "two", two_calls);
	start_run(&w, "two");
	ck_assert(turn_until(&w, first_called));
	hp_worker_drain(w.worker);
	ck_assert(turn_until(&w, has_drained)); /* 2 s, while the request would wait for 5 s */
	hp_worker_free(w.worker);
	w.script = NULL;
	world_start(&w, 0);
	ends_as(&w, "succeeded");
	ck_assert_str_eq(w.keys[0], w.keys[1]); /* taken over under the same key */
	world_close(&w);
}
END_TEST

static void on_info(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	ck_assert(!err);
	*(int64_t *)arg = info->id;
}

static bool is_fenced(struct world *w) { return w->fenced; }

START_TEST(an_engine_marked_dead_ends)
{
	struct world w;
	int64_t other = 0;

	world_open(&w);
	deploy(&w, "one", one_call);
	world_start(&w, HP_SECOND);
	w.store->ops->engine_register(w.store, "other", 1, HP_HOUR, on_info, &other);
	turn_for(&w, 20 * HP_MSEC);
	ck_assert_int_gt(other, 0);
	/* The database's clock runs ahead of our lease before our next heartbeat. */
	ev_prepare_stop(w.loop, &w.clock);
	w.now += 10 * HP_SECOND;
	w.answered = false;
	w.store->ops->heartbeat(w.store, other, on_ack, &w);
	ck_assert(turn_until(&w, has_answer));
	ck_assert(turn_until(&w, is_fenced));
	ck_assert(!hp_worker_can_take(w.worker));
	ck_assert(!hp_worker_lease_good(w.worker));
	world_close(&w);
}
END_TEST

/* ---- hosts, echo, adoption ---- */

static bool sixteen_held(struct world *w) { return w->n_held >= HP_HTTP_PER_HOST_MAX; }

static bool none_in_hand(struct world *w)
{
	answer_held(w, ANSWER_OK);
	return hp_worker_in_hand(w->worker) == 0;
}

START_TEST(a_host_gets_no_more_than_its_share)
{
	struct world w;

	world_open(&w);
	deploy(&w, "two", two_calls);
	world_start(&w, 0);
	w.script = all_hang;
	for (int i = 0; i < 40; i++)
		start_run(&w, "two");
	ck_assert(turn_until(&w, sixteen_held));
	turn_for(&w, 100 * HP_MSEC);
	ck_assert_int_eq(w.n_held, HP_HTTP_PER_HOST_MAX);
	ck_assert_int_eq(hp_worker_count(w.worker, HP_HAND_QUEUE), 40 - HP_HTTP_PER_HOST_MAX);
	ck_assert(turn_until(&w, none_in_hand));
	ck_assert_int_eq(w.most_held, HP_HTTP_PER_HOST_MAX);
	ck_assert_int_eq(w.calls, 80);
	for (int64_t run = 1; run <= 40; run++)
		ck_assert_str_eq(status_of(&w, run), "succeeded");
	world_close(&w);
}
END_TEST

START_TEST(an_echo_is_answered_without_the_network)
{
	struct world w;

	open_one(&w);
	snprintf(w.base, sizeof w.base, "echo:");
	start_run(&w, "one");
	turn_for(&w, 200 * HP_MSEC);
	/* the echo has no `n`: the result's path is missing, which is the author's error */
	ends_as(&w, "held");
	ck_assert_int_eq(w.calls, 0);
	world_close(&w);
}
END_TEST

static void on_started(void *arg, int64_t now, const struct hp_start_result *res, const struct hp_error *err)
{
	struct world *w = arg;

	(void)now;
	ck_assert_msg(!err, "%s", err ? err->message : "");
	ck_assert(res->claimed != NULL);
	w->run = res->run_id;
	hp_worker_adopt(w->adopts, res->claimed);
}

START_TEST(a_run_that_a_door_started_as_ours_needs_no_claim)
{
	struct world w;
	struct hp_start st = {.workflow = "one", .input = hp_bytes_of("{\"what\":\"tea\"}"), .requester = "bob", .own = true};
	uint64_t claimed;

	open_one(&w);
	ck_assert(hp_worker_can_take(w.worker));
	claimed = hp_counters_sum(w.counters, "holdpoint_runs_claimed_total");
	w.adopts = w.worker;
	w.store->ops->start(w.store, hp_worker_engine(w.worker), &st, on_started, &w);
	turn_for(&w, 20 * HP_MSEC);
	ck_assert_int_gt(w.run, 0);
	ends_as(&w, "succeeded");
	ck_assert_int_eq((int)(hp_counters_sum(w.counters, "holdpoint_runs_claimed_total") - claimed), 0);
	world_close(&w);
}
END_TEST

/* ---- what must be given back ---- */

/* The store's own operations, with two in between. */
static struct {
	const struct hp_store_ops *own;
	struct hp_store_ops mine;
	struct ev_loop *loop;
	int lost;            /* releases whose answer is lost: the first so many */
	int releases;
	hp_ack_cb ack;
	void *ack_arg;
	struct ev_timer later;
	int blind;           /* claims that find no memory: the first so many */
	hp_claim_cb claim;
} between;

static void on_later(struct ev_loop *l, struct ev_timer *t, int events)
{
	struct hp_error err;

	(void)l;
	(void)t;
	(void)events;
	hp_fail(&err, HP_E_TIMEOUT, "the answer was lost");
	between.ack(between.ack_arg, 0, &err);
}

static void lossy_release(struct hp_store *s, int64_t engine, const int64_t *runs, const int32_t *epochs, int n,
			  hp_ack_cb cb, void *arg)
{
	if (between.releases++ >= between.lost) {
		between.own->release(s, engine, runs, epochs, n, cb, arg);
		return;
	}
	between.ack = cb;
	between.ack_arg = arg;
	ev_timer_init(&between.later, on_later, 0., 0.);
	ev_timer_start(between.loop, &between.later);
}

static void on_blind_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	if (n > 0 && between.blind > 0) {
		between.blind--;
		hp_alloc_fail_at(1);
	}
	between.claim(arg, now, runs, n, err);
	hp_alloc_fail_at(0);
}

static void blind_claim(struct hp_store *s, int64_t engine, int max, hp_claim_cb cb, void *arg)
{
	between.claim = cb;
	between.own->claim(s, engine, max, on_blind_claim, arg);
}

static void stand_between(struct world *w, int lost, int blind)
{
	memset(&between, 0, sizeof between);
	between.own = w->store->ops;
	between.loop = w->loop;
	between.mine = *w->store->ops;
	between.lost = lost;
	between.blind = blind;
	between.mine.release = lossy_release;
	between.mine.claim = blind_claim;
	w->store->ops = &between.mine;
}

START_TEST(a_lost_release_is_asked_again)
{
	struct world w;

	world_open(&w);
	deploy_bundle(&w, "broken", hp_bytes_of("{\"workflow\":{\"file\":\"b.lua\",\"source\":\"return 1\"},\"connectors\":{}}"),
		      hp_bytes_of("{\"states\":[{\"name\":\"a\",\"kind\":\"succeed\"}],\"triggers\":[]}"));
	world_start(&w, 0);
	stand_between(&w, 1, 0);
	start_run(&w, "broken");
	ends_as(&w, "held"); /* given back several times, the first of them unheard */
	ck_assert_int_gt(between.releases, 1);
	w.store->ops = between.own;
	world_close(&w);
}
END_TEST

START_TEST(a_claimed_run_without_memory_is_given_back)
{
	struct world w;

	open_one(&w);
	stand_between(&w, 1, 1);
	start_run(&w, "one");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(between.blind, 0);
	ck_assert_int_eq(between.releases, 2);
	w.store->ops = between.own;
	world_close(&w);
}
END_TEST

/* ---- sql ---- */

static const char with_sql[] =
	"return workflow 'sql' {\n"
	"  sql 'read' { as = service, one = 'select 1', args = {}, save = 'row', none = 'empty' },\n"
	"  choose 'which' { { when = function(run) return run.row.n == 7 end, next = 'done' }, otherwise = 'empty' },\n"
	"  succeed 'done' {},\n"
	"  fail 'empty' {},\n"
	"}\n";

static void sql_run(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows)
{
	struct world *w = arg;

	ck_assert_str_eq(st->text, "select 1");
	ck_assert_int_eq((int)strlen(st->token), 64);
	w->sql_runs++;
	if (w->sql_runs == 1) {
		rows->outcome = HP_RETRYABLE;
		rows->code = "deadlock_detected";
		rows->message = "deadlock";
		return;
	}
	rows->outcome = HP_CLASS_OK;
	rows->rows = hp_bytes_of("{\"n\":7}");
}

static void sql_end(void *arg, int64_t run, bool committed)
{
	struct world *w = arg;

	(void)run;
	if (committed)
		w->sql_committed++;
	else
		w->sql_aborted++;
}

START_TEST(a_statement_is_retried_and_commits_with_its_transition)
{
	struct world w;
	struct hp_mem_sql sql = {sql_run, sql_end, &w};

	world_open(&w);
	hp_mem_set_sql(w.store, &sql);
	deploy(&w, "sql", with_sql);
	world_start(&w, 0);
	start_run(&w, "sql");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.sql_runs, 2);
	ck_assert_int_eq(w.sql_committed, 1);
	world_close(&w);
}
END_TEST

START_TEST(a_lost_commit_of_a_statement_is_found_out)
{
	struct fate f = {.fate = HP_MEM_ACK_LOST, .times = 1};
	struct world w;
	struct hp_mem_sql sql = {sql_run, sql_end, &w};

	world_open(&w);
	w.sql_runs = 1; /* no deadlock this time */
	hp_mem_set_sql(w.store, &sql);
	hp_mem_set_fate(w.store, on_fate, &f);
	deploy(&w, "sql", with_sql);
	world_start(&w, 0);
	start_run(&w, "sql");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(f.times, 0);
	ck_assert_int_eq(w.sql_committed, 1);
	ck_assert_int_eq(w.sql_runs, 2);
	world_close(&w);
}
END_TEST

/* Without a breaker, so that all of them are asked for. */
static void write_calm_connector(struct world *w)
{
	char text[sizeof connector_source + 32];

	snprintf(text, sizeof text, "%.*s  breaker = false,\n}\n", (int)(sizeof connector_source - 1 - strlen("}\n")),
		 connector_source);
	write_file(w, "toy/connector.lua", text);
}

static enum answer always_broken(struct world *w, int nth)
{
	(void)w, (void)nth;
	return ANSWER_500;
}

static int put_off(const struct world *w)
{
	return (int)hp_counters_sum(w->counters, "holdpoint_retries_put_off_total{endpoint=\"toy\"}");
}

static bool many_put_off(struct world *w) { return put_off(w) >= 5 && hp_worker_in_hand(w->worker) == 0; }

/* The declared backoff ends after 10 ms. */
START_TEST(retries_beyond_the_budget_are_put_off)
{
	struct world w;
	char soon[32];
	int late = 0;

	world_open(&w);
	write_calm_connector(&w);
	deploy(&w, "one", one_call);
	world_start(&w, 0);
	w.script = always_broken;
	for (int i = 0; i < 30; i++)
		start_run(&w, "one");
	ck_assert(turn_until(&w, many_put_off));
	hp_time_format(hp_now_us() + HP_SECOND, soon, sizeof soon);
	for (int64_t run = 1; run <= 30; run++) {
		const json_t *due = hp_json_path(door(&w, "run", "{\"run\":%lld}", (long long)run), "run.due_at");

		late += json_is_string(due) && strcmp(json_string_value(due), soon) > 0;
	}
	ck_assert_int_ge(late, 1);
	world_close(&w);
}
END_TEST

static const char limited_call[] =
	"local toy = connector 'toy'\n"
	"return workflow 'limited' {\n"
	"  call 'make' { toy.things.make, with = { what = '{input.what}' }, timeout = '5s', concurrency = { max = 1 } },\n"
	"  succeed 'done' {},\n"
	"}\n";

/* They are the run's own, whatever else has been evaluated before they are committed. */
START_TEST(what_a_call_asks_of_its_limits_is_kept)
{
	struct world w;

	world_open(&w);
	deploy(&w, "limited", limited_call);
	world_start(&w, 0);
	start_run(&w, "limited");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 1);
	world_close(&w);
}
END_TEST

START_TEST(an_idle_worker_asks_at_most_twice_a_second)
{
	struct world w;
	struct hp_error err;
	struct hp_worker_options o;
	uint64_t before;

	world_open(&w);
	o = (struct hp_worker_options){.loop = w.loop, .store = w.store, .definitions = w.definitions, .http = w.http,
				       .counters = w.counters, .env = {secret, base_url, &w}, .on_fenced = on_fenced,
				       .on_drained = on_drained, .arg = &w};
	w.worker = hp_worker_new(&o, &err);
	hp_worker_start(w.worker);
	ck_assert(turn_until(&w, is_registered));
	turn_for(&w, 100 * HP_MSEC);
	before = hp_counters_sum(w.counters, "holdpoint_claims_total");
	turn_for(&w, 3 * HP_SECOND);
	/* heartbeats are 0.4 a second more */
	ck_assert_int_le((int)(hp_counters_sum(w.counters, "holdpoint_claims_total") - before), 6);
	ck_assert_int_ge((int)(hp_counters_sum(w.counters, "holdpoint_claims_total") - before), 2);
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { a_run_goes_to_its_end, a_failed_attempt_is_repeated_under_the_same_key,
	 a_refusal_takes_the_declared_way, a_timeout_is_ambiguous_and_repeated_under_the_same_key,
	 a_lost_reply_of_what_may_not_be_repeated_is_not_repeated,
	 a_lost_acknowledgement_of_an_admission_keeps_the_key, a_commit_that_was_lost_is_found_out_and_done_again,
	 a_conflict_reads_the_run_again, a_lost_result_is_asked_for_again_under_the_same_key,
	 a_value_the_store_refuses_holds_the_run, a_cancel_waits_for_the_effect_in_flight,
	 nothing_is_sent_late_in_the_lease, without_a_descriptor_a_request_waits, without_memory_a_request_waits, a_drain_lets_the_effect_end_and_gives_the_run_back,
	 a_lost_release_is_asked_again, a_claimed_run_without_memory_is_given_back,
	 a_drain_ends_at_its_limit, an_engine_marked_dead_ends, a_host_gets_no_more_than_its_share,
	 an_echo_is_answered_without_the_network, a_run_that_a_door_started_as_ours_needs_no_claim,
	 a_statement_is_retried_and_commits_with_its_transition, a_lost_commit_of_a_statement_is_found_out,
	 retries_beyond_the_budget_are_put_off, what_a_call_asks_of_its_limits_is_kept, an_idle_worker_asks_at_most_twice_a_second};

	setenv("CK_DEFAULT_TIMEOUT", "20", 0); /* time is real here */
	return hp_run_suite("runtime worker", tests, sizeof tests / sizeof tests[0]);
}
