/* flows.c: workflows drawn at random, over every kind of state and every option that the
 * stores hear of. They are Lua and are loaded like an author's, so summaries, requests and
 * documents are what the engine really writes. */
#include "diff.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct d_flow d_flows[D_FLOWS];
int d_n_flows;

/* "peer" has a breaker, "calm" has none. */
static const char connector_text[] =
	"local function answer(res) return ok(res.json) end\n"
	"local by = by_key { header = 'idempotency-key', window = '24h' }\n"
	"return connector_definition '%s' {\n"
	"  base = 'https://%s.example', hosts = { '%s.example' }, %s\n"
	"  operations = {\n"
	"    put  = { method = 'POST', path = '/put', arg = { tag = text }, repeats = by,\n"
	"      request = function(arg) return { json = arg } end, reply = answer, errors = { 'refused', 'busy', 'broken' } },\n"
	"    once = { method = 'POST', path = '/once', arg = { tag = text }, repeats = never,\n"
	"      request = function(arg) return { json = arg } end, reply = answer, errors = { 'refused', 'busy', 'broken' } },\n"
	"    find = { method = 'GET', path = '/find', read = true, arg = { key = text },\n"
	"      request = function(arg) return { query = { key = arg.key } } end, reply = answer, errors = { 'busy', 'broken' } },\n"
	"    health = { method = 'GET', path = '/health', read = true, reply = answer, errors = { 'busy', 'broken' } },\n"
	"  },\n"
	"}\n";

#define RETRY "retry = { attempts = 3, base = \"1s\", cap = \"20s\" }, timeout = \"5s\""

struct place {
	struct hp_buf *b;
	const char *next;
	char name[24];
};

static void put(struct place *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct place *p, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	hp_buf_adds(p->b, text);
}

static const char *peer(void) { return d_chance(60) ? "peer" : "calm"; }

static void arms(struct place *p, uint32_t percent)
{
	if (!d_chance(percent))
		return;
	put(p, " on = {\n");
	put(p, "  hurry = { event = \"diff.hurry\", key = \"{run.id}\", next = \"%s\", save = \"hurry\" },\n", p->next);
	if (d_chance(60))
		put(p, "  late = { after = \"%us\", next = \"%s\" },\n", 5 + d_rnd(60), p->next);
	if (d_chance(60))
		put(p, "  ill = { every = \"20s\", call = %s.health, when = function(reply) return reply.ok == false end, next = \"%s\", failures = 2 },\n",
		    peer(), p->next);
	put(p, " },");
}

static void limits(struct place *p)
{
	if (d_chance(35))
		put(p, " budget = { \"diff\", over = \"%s\" },", d_chance(50) ? "park" : "fail");
	if (d_chance(35))
		put(p, " concurrency = { max = %u, per = \"{input.shared}\" },", 1 + d_rnd(2));
	if (d_chance(30))
		put(p, " rate = { max = %u, every = \"10s\", burst = 2 },", 3 + d_rnd(5));
}

static void a_put(struct place *p)
{
	const char *at = peer();

	put(p, "call \"%s\" { %s.put, with = { tag = \"{run.id}/%s\" }, save = \"%s\", " RETRY ",", p->name, at, p->name, p->name);
	limits(p);
	if (d_chance(30))
		put(p, " key = \"shared-{input.shared}\",");
	if (d_chance(60))
		put(p, " undo = { %s.put, with = { tag = \"undo {run.id}\" }, " RETRY " },", at);
	else if (d_chance(50))
		put(p, " undo = \"a thing that cannot be taken back\",");
	if (d_chance(25))
		put(p, " set = { twice = function(run) return run.input.n * 2 end, word = \"\303\244\\\"\" },");
	put(p, " catch = { refused = \"%s\", otherwise = \"gone\" } },\n", d_chance(50) ? "gone" : p->next);
}

static void a_once(struct place *p)
{
	const char *at = peer();

	put(p, "call \"%s\" { %s.once, with = { tag = \"{run.id}\" }, key = \"{run.id}-%s\", save = \"%s\", " RETRY ",\n", p->name, at,
	    p->name, p->name);
	if (d_chance(70))
		put(p, " probe = { %s.find, with = { key = \"{run.id}\" }, found = function(reply) return reply.acts and reply.acts > 0 and { acts = reply.acts } end },",
		    at);
	if (d_chance(60))
		put(p, " catch = { refused = \"%s\", otherwise = \"gone\" },", p->next);
	put(p, " },\n");
}

static void a_sql(struct place *p)
{
	if (d_chance(50)) {
		put(p, "sql \"%s\" { as = service, exec = [[insert into diff_ledger (run, state) values ($1::bigint, $2)]], args = { \"{run.id}\", \"%s\" },",
		    p->name, p->name);
		if (d_chance(50))
			put(p, " undo = { as = service, exec = [[update diff_ledger set undone = undone + 1 where run = $1::bigint and state = $2]], args = { \"{run.id}\", \"%s\" } },",
			    p->name);
		put(p, " catch = { otherwise = \"gone\" } },\n");
	} else {
		put(p, "sql \"%s\" { as = service, one = [[select run, state from diff_ledger where run = $1::bigint limit 1]], args = { \"{run.id}\" }, save = \"%s\", none = \"%s\" },\n",
		    p->name, p->name, p->next);
	}
}

static void an_approval(struct place *p, const char *after)
{
	bool of = after != NULL && d_chance(60);

	put(p, "approval \"%s\" { ", p->name);
	if (of)
		put(p, "of = \"%s\", ", after);
	put(p, "ask = \"Go on with {run.id}?\", approvers = \"%s\", deadline = \"%u0s\", reminders = { \"5s\" }, save = \"%s\",",
	    d_chance(50) ? "1 of ops" : "2 of ops and 1 of desk", 1 + d_rnd(6), p->name);
	if (d_chance(60))
		put(p, " rejected = \"gone\",");
	if (d_chance(60))
		put(p, " expired = \"gone\",");
	if (!of && d_chance(20))
		put(p, " when = function(run) return run.input.n %% 2 == 0 end,");
	arms(p, 40);
	put(p, " },\n");
}

static void a_wait(struct place *p)
{
	put(p, "wait \"%s\" { for_ = \"%us\",", p->name, 1 + d_rnd(30));
	arms(p, 40);
	put(p, " },\n");
}

static void an_await(struct place *p)
{
	put(p, "await \"%s\" { event = \"diff.ping\", key = \"{input.shared}\", within = \"%us\", timeout = \"%s\", save = \"%s\",", p->name,
	    10 + d_rnd(60), d_chance(70) ? p->next : "gone", p->name);
	arms(p, 40);
	put(p, " },\n");
}

static void a_run(struct place *p)
{
	put(p, "run \"%s\" { workflow = \"child\", ", p->name);
	if (d_chance(50))
		put(p, "key = \"shared:{input.shared}\", ");
	put(p, "input = { n = \"{input.n}\" }, save = \"%s\", catch = { otherwise = \"gone\" },", p->name);
	arms(p, 30);
	put(p, " },\n");
}

static void an_each(struct place *p)
{
	static const char *const joins[] = { "tolerate = 4,", "tolerate = \"30%\",", "join = 2,", "join = \"any\",", "tolerate = 0," };

	put(p, "each \"%s\" { workflow = \"child\", input = { n = \"{item}\" }, concurrency = %u, save = \"%s\", %s items = { 1, 2, 3 },", p->name,
	    1 + d_rnd(3), p->name, joins[d_rnd(5)]);
	if (d_chance(30))
		put(p, " within = \"90s\", timeout = \"%s\",", p->next);
	put(p, " catch = { otherwise = \"gone\" },");
	arms(p, 30);
	put(p, " },\n");
}

static void a_sweep(struct place *p)
{
	bool call = d_chance(50);

	put(p, "sweep \"%s\" { as = service, args = { \"{run.id}\" }, cursor = \"id\", first = 0, save = \"%s\",\n"
	       " rows = [[select id from diff_items where id > $1 and length($3) > 0 order by id limit $2]],", p->name, p->name);
	if (call)
		put(p, " call = { calm.put, with = { tag = \"{row.id}\" } }, tolerate = %u, " RETRY ",\n"
		       " exec = [[insert into diff_swept (run, id) select $3::bigint, ($1::jsonb ->> 'id')::bigint where $2 is not null]],", d_rnd(3));
	else
		put(p, " batch = %u, exec = [[insert into diff_swept (run, id) select $2::bigint, (r ->> 'id')::bigint from jsonb_array_elements($1::jsonb) r]],",
		    2 + d_rnd(3));
	if (d_chance(50))
		put(p, " total = [[select count(*) from diff_items where length($1) > 0]],");
	put(p, " catch = { otherwise = \"gone\" } },\n");
}

static void a_choose(struct place *p)
{
	put(p, "choose \"%s\" { { when = function(run) return run.input.n %% 3 == 0 end, next = \"%s\" }, otherwise = \"%s\" },\n", p->name,
	    d_chance(30) ? "gone" : p->next, p->next);
}

enum block { B_PUT, B_ONCE, B_SQL, B_APPROVAL, B_WAIT, B_AWAIT, B_RUN, B_EACH, B_SWEEP, B_CHOOSE, B__COUNT };
static const char *const block_words[B__COUNT] = { "put", "once", "sql", "ask", "wait", "await", "run", "each", "sweep", "choose" };

static void block(struct place *p, enum block kind, const char *signs)
{
	switch (kind) {
	case B_PUT: a_put(p); return;
	case B_ONCE: a_once(p); return;
	case B_SQL: a_sql(p); return;
	case B_APPROVAL: an_approval(p, signs); return;
	case B_WAIT: a_wait(p); return;
	case B_AWAIT: an_await(p); return;
	case B_RUN: a_run(p); return;
	case B_EACH: an_each(p); return;
	case B_SWEEP: a_sweep(p); return;
	case B_CHOOSE: a_choose(p); return;
	case B__COUNT: return;
	}
}

static void starts(struct place *p)
{
	if (d_chance(40))
		put(p, " budgets = { diff = { limit = %u, window = \"%s\" } },", 2 + d_rnd(6), d_chance(50) ? "10s" : "60s");
	if (d_chance(25))
		put(p, " concurrency = { max = %u, per = \"{input.shared}\" },", 1 + d_rnd(3));
	if (d_chance(20))
		put(p, " rate = { max = 5, every = \"10s\", burst = 2 },");
	if (d_chance(20))
		put(p, " fair = \"{input.shared}\",");
	if (d_chance(20))
		put(p, " priority = \"{input.shared}\",");
	if (d_chance(20))
		put(p, " exclusive = \"x:{input.shared}\", overlap = \"%s\",", d_chance(50) ? "wait" : "skip");
	if (d_chance(40)) {
		static const char *const overlaps[] = { "skip", "queue", "allow", "cancel" };
		static const char *const catches[] = { "last", "none", "all" };

		put(p, " trigger = schedule { cron = \"%s\", input = { n = 1, shared = 2 }, overlap = \"%s\", catch_up = \"%s\" },",
		    d_chance(50) ? "* * * * *" : "*/7 * * * *", overlaps[d_rnd(4)], catches[d_rnd(3)]);
	}
	if (d_chance(60))
		put(p, " on_cancel = \"undo\",");
}

static void source(struct hp_buf *out, const char *name)
{
	char names[10][24];
	enum block kinds[10];
	int n = 3 + (int)d_rnd(5);
	struct place p = { .b = out };

	for (int i = 0; i < n; i++) {
		kinds[i] = (enum block)d_rnd(B__COUNT);
		snprintf(names[i], sizeof names[i], "s%d_%s", i + 1, block_words[kinds[i]]);
	}
	snprintf(names[n], sizeof names[n], "done");
	put(&p, "local peer, calm = connector \"peer\", connector \"calm\"\nreturn workflow \"%s\" {\n"
		" doc = \"Drawn %u.\", input = { n = integer, shared = integer },", name, d_rnd(1000000));
	starts(&p);
	put(&p, "\n");
	for (int i = 0; i < n; i++) {
		bool signs = kinds[i] == B_APPROVAL && i + 1 < n && kinds[i + 1] == B_PUT;

		p.next = names[i + 1];
		snprintf(p.name, sizeof p.name, "%s", names[i]);
		block(&p, kinds[i], signs ? names[i + 1] : NULL);
	}
	put(&p, "succeed \"done\" { result = { n = \"{input.n}\" } },\nfail \"gone\" { code = \"gone\", undo = true },\n}\n");
}

static const char child_text[] =
	"local calm = connector \"calm\"\n"
	"return workflow \"child\" { doc = \"Drawn %u.\", input = { n = integer }, concurrency = { max = 4 },\n"
	"call \"put\" { calm.put, with = { tag = \"{run.id}\" }, save = \"put\", " RETRY ", catch = { refused = \"no\", otherwise = \"no\" } },\n"
	"succeed \"done\" { result = { id = \"{put.id}\" } },\n"
	"fail \"no\" { code = \"child_refused\" },\n}\n";

static json_t *file(const char *name, const char *text)
{
	return json_pack("{s:s, s:s}", "file", name, "source", text);
}

static json_t *connectors(const char *text)
{
	static const char *const names[] = { "peer", "calm" };
	static const char *const options[] = { "", "breaker = false," };
	json_t *all = json_object();
	char lua[4096], uses[16];

	for (int i = 0; i < 2; i++) {
		snprintf(uses, sizeof uses, "%s.", names[i]);
		if (!strstr(text, uses))
			continue;
		snprintf(lua, sizeof lua, connector_text, names[i], names[i], names[i], options[i]);
		json_object_set_new(all, names[i], file("connector.lua", lua));
	}
	return all;
}

/* Connectors that nobody uses may not be named. */
static void trim(struct hp_buf *lua)
{
	static const char both[] = "local peer, calm = connector \"peer\", connector \"calm\"\n";
	const char *text = hp_buf_str(lua), *rest;
	struct hp_buf out;

	if (strncmp(text, both, sizeof both - 1) != 0)
		return;
	rest = text + sizeof both - 1;
	hp_buf_init(&out, 1 << 16);
	if (strstr(rest, "peer."))
		hp_buf_adds(&out, "local peer = connector \"peer\"\n");
	if (strstr(rest, "calm."))
		hp_buf_adds(&out, "local calm = connector \"calm\"\n");
	hp_buf_adds(&out, rest);
	hp_buf_free(lua);
	*lua = out;
}

static void add(const char *name, struct hp_buf *lua)
{
	struct d_flow *f = &d_flows[d_n_flows++];
	struct hp_error err = { 0 };
	json_t *bundle;

	trim(lua);
	bundle = json_pack("{s:o, s:o}", "workflow", file("drawn.lua", hp_buf_str(lua)), "connectors", connectors(hp_buf_str(lua)));
	snprintf(f->name, sizeof f->name, "%s", name);
	hp_buf_init(&f->bundle, HP_BUNDLE_MAX);
	hp_buf_init(&f->summary, HP_BUNDLE_MAX);
	d_need(hp_json_write(&f->bundle, bundle, &err) == 0, "bundle", err.message);
	json_decref(bundle);
	f->w = hp_workflow_load(hp_buf_bytes(&f->bundle), &err);
	d_need(f->w != NULL, hp_buf_str(lua), err.message);
	d_need(hp_workflow_summary(f->w, &f->summary, &err) == 0, "summary", err.message);
}

/* Two versions of each of three workflows, and what run and each start. */
void d_draw_flows(void)
{
	struct hp_buf lua;
	char name[24], text[2048];

	hp_buf_init(&lua, 1 << 16);
	snprintf(text, sizeof text, child_text, d_rnd(1000000));
	hp_buf_adds(&lua, text);
	add("child", &lua);
	for (int i = 0; i < 6; i++) {
		hp_buf_clear(&lua);
		snprintf(name, sizeof name, "flow%d", i / 2 + 1);
		source(&lua, name);
		add(name, &lua);
	}
	hp_buf_free(&lua);
}

void d_free_flows(void)
{
	for (int i = 0; i < d_n_flows; i++) {
		hp_workflow_free(d_flows[i].w);
		hp_buf_free(&d_flows[i].bundle);
		hp_buf_free(&d_flows[i].summary);
	}
	d_n_flows = 0;
}

struct d_flow *d_flow_of(const uint8_t digest[HP_SHA256_LEN])
{
	for (int i = 0; i < d_n_flows; i++)
		if (memcmp(hp_workflow_definition(d_flows[i].w)->digest, digest, HP_SHA256_LEN) == 0)
			return &d_flows[i];
	return NULL;
}
