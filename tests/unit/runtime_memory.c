/* runtime_memory.c: what a worker makes of a request, and of an answer, that find no memory,
 * at each allocation in turn: from the admission to the sending, and from the arrival to the
 * commit. */
#include "runtime_world.h"

/* An answer without its headers would be a refusal. */
static const char picky_connector[] =
	"return connector_definition 'toy' {\n"
	"  base = 'https://toy.example.com', hosts = { 'toy.example.com' }, secrets = { 'TOY_KEY' }, breaker = false,\n"
	"  headers = { authorization = bearer 'TOY_KEY' },\n"
	"  operations = { ['things.once'] = { method = 'POST', path = '/things', repeats = never, arg = { what = text },\n"
	"    request = function(arg) return { json = { what = arg.what } } end,\n"
	"    reply = function(res)\n"
	"      if res.headers['content-type'] == 'application/json' then return ok(res.json) end\n"
	"      return failure { class = 'terminal', code = 'refused', message = 'what is this?' }\n"
	"    end,\n"
	"    errors = { 'refused' } } },\n"
	"}\n";

static const char once[] =
	"local toy = connector 'toy'\n"
	"return workflow 'once' {\n"
	"  call 'make' { toy.things.once, with = { what = 'x' }, timeout = '10s', catch = { ambiguous = 'ask', refused = 'wrong' } },\n"
	"  succeed 'done' {},\n"
	"  fail 'ask' { code = 'nobody_knows' },\n"
	"  fail 'wrong' { code = 'misjudged' },\n"
	"}\n";

/* The model of a store has always enough: the count stands still while it works. */
static struct {
	const struct hp_store_ops *own;
	struct hp_store_ops mine;
	unsigned long failing; /* the allocation after an answer that fails; 0: not counting */
	unsigned long nth;     /* the one that is to fail in this run */
	bool met, judged;      /* it did; the answer led to a commit */
	bool blind_send;       /* fails already when the next admission is acknowledged */
	bool tried;            /* … and has been */
	hp_commit_cb ack;
	void *ack_arg;
} sparse;

static unsigned long suspend(void)
{
	unsigned long made = hp_alloc_count();

	hp_alloc_fail_at(0);
	if (sparse.failing > 0 && made >= sparse.failing) {
		sparse.met = true;
		sparse.failing = 0;
	}
	return sparse.failing > 0 ? sparse.failing -= made : 0;
}

static void sparse_claim(struct hp_store *s, int64_t engine, int max, hp_claim_cb cb, void *arg)
{
	unsigned long left = suspend();

	sparse.own->claim(s, engine, max, cb, arg);
	hp_alloc_fail_at(left);
}

static void sparse_heartbeat(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg)
{
	unsigned long left = suspend();

	sparse.own->heartbeat(s, engine, cb, arg);
	hp_alloc_fail_at(left);
}

static int sparse_pump(struct hp_store *s)
{
	unsigned long left = suspend();
	int n = sparse.own->pump(s);

	hp_alloc_fail_at(left);
	return n;
}

static void on_admitted(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	(void)arg;
	sparse.failing = sparse.nth;
	hp_alloc_fail_at(sparse.nth);
	sparse.ack(sparse.ack_arg, now, res, n);
	suspend();
	sparse.failing = 0;
	sparse.tried = true;
}

static void sparse_commit(struct hp_store *s, const struct hp_transition *const *t, int n, hp_commit_cb cb, void *arg)
{
	suspend();
	sparse.failing = 0;
	sparse.judged = !t[0]->admits;
	if (sparse.blind_send && t[0]->admits) {
		sparse.blind_send = false; /* the next attempt has memory */
		sparse.ack = cb;
		sparse.ack_arg = arg;
		cb = on_admitted;
	}
	sparse.own->commit(s, t, n, cb, arg);
}

static bool is_judged(struct world *w)
{
	(void)w;
	return sparse.judged;
}

static enum answer hang(struct world *w, int nth)
{
	(void)w;
	(void)nth;
	return ANSWER_HANG;
}

static bool is_held(struct world *w) { return w->n_held > 0; }

/* With more headers than fit into what the run has already; memory fails from here on. */
static void answer_and_run_short(struct world *w)
{
	char name[16];

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "x-%d", i);
		hp_http_reply_header(w->held[0], name, "1");
	}
	answer_held(w, ANSWER_OK);
	sparse.failing = sparse.nth;
	hp_alloc_fail_at(sparse.nth);
}

static void open_sparse(struct world *w)
{
	memset(&sparse, 0, sizeof sparse);
	world_open(w);
	write_file(w, "toy/connector.lua", picky_connector);
	deploy(w, "once", once);
	world_start(w, 0);
	sparse.own = w->store->ops;
	sparse.mine = *sparse.own;
	sparse.mine.claim = sparse_claim;
	sparse.mine.heartbeat = sparse_heartbeat;
	sparse.mine.pump = sparse_pump;
	sparse.mine.commit = sparse_commit;
	w->store->ops = &sparse.mine;
	sparse.met = true;
}

static void close_sparse(struct world *w)
{
	w->store->ops = sparse.own;
	world_close(w);
}

/* The run may not know what was answered, but never takes it for something else. */
START_TEST(an_answer_is_judged_whole_or_not_at_all)
{
	struct world w;
	int unknown = 0;

	open_sparse(&w);
	w.script = hang;
	for (sparse.nth = 1; sparse.met; sparse.nth++) {
		sparse.met = sparse.judged = false;
		start_run(&w, "once");
		ck_assert(turn_until(&w, is_held));
		answer_and_run_short(&w);
		ck_assert(turn_until(&w, is_judged));
		ck_assert(turn_until(&w, is_over));
		if (strcmp(status_of(&w, w.run), "succeeded") == 0)
			continue;
		ends_as(&w, "failed");
		ck_assert_str_eq(json_string_value(hp_json_path(w.reply, "run.code")), "nobody_knows"); /* not misjudged */
		unknown++;
	}
	ck_assert_int_gt(unknown, 3);
	ck_assert_int_eq(w.calls, (int)sparse.nth - 1);
	close_sparse(&w);
}
END_TEST

static bool is_tried(struct world *w)
{
	(void)w;
	return sparse.tried;
}

/* Nothing has left: it is sent later, and nobody has to look at it. */
START_TEST(a_request_without_memory_waits_or_is_tried_again)
{
	struct world w;
	int64_t first = 0;

	open_sparse(&w);
	for (sparse.nth = 1; sparse.met; sparse.nth++) {
		sparse.met = sparse.tried = false;
		sparse.blind_send = true;
		start_run(&w, "once");
		ck_assert(turn_until(&w, is_tried));
		if (first == 0)
			first = w.run;
	}
	ck_assert_int_gt((int)sparse.nth, 10);
	for (int64_t last = w.run; first <= last; first++) {
		w.run = first;
		ends_as(&w, "succeeded");
	}
	ck_assert_int_eq(w.calls, (int)sparse.nth - 1);
	close_sparse(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {an_answer_is_judged_whole_or_not_at_all,
				      a_request_without_memory_waits_or_is_tried_again};

	setenv("CK_DEFAULT_TIMEOUT", "30", 0); /* time is real here */
	return hp_run_suite("runtime memory", tests, sizeof tests / sizeof tests[0]);
}
