/* harness.c: the store made synchronous, and transitions made by hand. */
#include "contract.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const struct contract_driver *the_driver;
int64_t c_now, c_engine;

static const char summary[] =
	"{\"states\":["
	"{\"name\":\"refund\",\"kind\":\"call\",\"operation\":\"stripe.refunds.create\"},"
	"{\"name\":\"review\",\"kind\":\"approval\",\"approvers\":\"1 of payments\",\"deadline_us\":14400000000},"
	"{\"name\":\"confirm\",\"kind\":\"await\",\"events\":[\"stripe.refund.updated\"]},"
	"{\"name\":\"either\",\"kind\":\"await\",\"events\":[\"left\",\"right\"]},"
	"{\"name\":\"pause\",\"kind\":\"wait\"},"
	"{\"name\":\"quorum\",\"kind\":\"approval\",\"approvers\":\"2 of sre and 1 of security\","
	"\"deadline_us\":14400000000},"
	"{\"name\":\"look\",\"kind\":\"call\",\"operation\":\"stripe.refunds.list\",\"read\":true},"
	"{\"name\":\"record\",\"kind\":\"sql\"},"
	"{\"name\":\"done\",\"kind\":\"succeed\"},"
	"{\"name\":\"canary\",\"kind\":\"approval\",\"approvers\":\"2 of sre\",\"events\":[\"canary.abort\"],"
	"\"own_events\":0,\"arms\":["
	"{\"name\":\"abort\",\"kind\":\"event\",\"next\":\"look\",\"wait\":0},"
	"{\"name\":\"ill\",\"kind\":\"check\",\"next\":\"look\",\"operation\":\"prometheus.query\","
	"\"every_us\":30000000},"
	"{\"name\":\"late\",\"kind\":\"timer\",\"next\":\"done\"}]},"
	"{\"name\":\"refund.undo\",\"kind\":\"call\",\"operation\":\"stripe.refunds.cancel\",\"undoes\":\"refund\"}],"
	"\"keyed\":false}";

static struct hp_store *store(int i)
{
	return the_driver->store(i);
}

bool c_wait(const bool *done)
{
	for (int i = 0; i < 1000000 && !*done; i++)
		the_driver->turn();
	ck_assert_msg(*done, "the store never answered");
	return *done;
}

void c_advance(int64_t us)
{
	c_now += us;
	the_driver->set_now(c_now);
}

/* ---- engines ---- */

struct ack {
	bool done;
	enum hp_code code;
	char message[768];
	int64_t id;
};

static void on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	struct ack *a = arg;

	(void)now;
	ck_assert_msg(!a->done, "called twice");
	a->code = err ? err->code : HP_OK;
	if (err)
		snprintf(a->message, sizeof a->message, "%s", err->message);
	a->done = true;
}

static void on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	struct ack *a = arg;

	ck_assert_msg(info != NULL, "engine_register: %s", err ? err->message : "");
	ck_assert_int_eq(info->now, c_now);
	a->id = info->id;
	a->done = true;
}

int64_t c_register(void)
{
	struct ack a = { 0 };

	store(0)->ops->engine_register(store(0), "host", 1, LEASE, on_engine, &a);
	ck_assert_msg(!a.done, "a callback ran inside the call");
	c_wait(&a.done);
	return a.id;
}

enum hp_code c_heartbeat(int64_t engine)
{
	struct ack a = { 0 };

	store(0)->ops->heartbeat(store(0), engine, on_ack, &a);
	c_wait(&a.done);
	return a.code;
}

void c_stop(int64_t engine)
{
	struct ack a = { 0 };

	store(0)->ops->engine_stop(store(0), engine, on_ack, &a);
	c_wait(&a.done);
	ck_assert_int_eq(a.code, HP_OK);
}

/* ---- claims ---- */

struct claim {
	bool done;
	int n, max;
	struct c_run *out;
};

static void keep(char *dst, size_t size, struct hp_bytes b)
{
	ck_assert_uint_lt(b.n, size);
	if (b.n)
		memcpy(dst, b.p, b.n);
	dst[b.n] = 0;
}

static void keep_run(struct c_run *out, const struct hp_claimed *c)
{
	memset(out, 0, sizeof *out);
	out->row = c->run;
	snprintf(out->token, sizeof out->token, "%s", c->token);
	snprintf(out->workflow, sizeof out->workflow, "%s", c->workflow);
	memcpy(out->digest, c->digest, HP_SHA256_LEN);
	keep(out->key, sizeof out->key, c->key);
	keep(out->input, sizeof out->input, c->input);
	keep(out->saved, sizeof out->saved, c->saved);
	out->decision = c->decision;
	keep(out->decision_value, sizeof out->decision_value, c->decision_value);
	out->mail_id = c->mail_id;
	out->mail_wait = c->mail_wait;
	keep(out->mail, sizeof out->mail, c->mail);
	keep(out->command_value, sizeof out->command_value, c->command_value);
	keep(out->annex, sizeof out->annex, c->annex);
	keep(out->signed_request, sizeof out->signed_request, c->signed_request);
	keep(out->signed_key, sizeof out->signed_key, c->signed_key);
	memcpy(out->signed_hash, c->signed_hash, HP_SHA256_LEN);
}

static void on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n,
		     const struct hp_error *err)
{
	struct claim *c = arg;

	(void)now;
	ck_assert_msg(n <= c->max, "%d runs claimed, %d were asked for", n, c->max);
	for (int i = 0; i < n; i++)
		keep_run(&c->out[i], &runs[i]);
	c->n = err ? -1 : n;
	c->done = true;
}

int c_claim(int64_t engine, int max, struct c_run *out)
{
	struct claim c = { .max = max, .out = out };

	store(0)->ops->claim(store(0), engine, max, on_claim, &c);
	c_wait(&c.done);
	return c.n;
}

struct c_run c_claim_one(void)
{
	static struct c_run r[2];
	int n = c_claim(c_engine, 2, r);

	ck_assert_msg(n == 1, "%d runs can be claimed, not 1", n);
	return r[0];
}

struct c_run c_claim_one_of(int64_t a, int64_t b)
{
	struct c_run r[3];

	ck_assert_int_eq(c_claim(c_engine, 3, r), 2);
	ck_assert_int_eq(r[0].row.id, a);
	ck_assert_int_eq(r[1].row.id, b);
	return r[0];
}

void c_claim_none(void)
{
	static struct c_run r[4];
	int n = c_claim(c_engine, 4, r);

	ck_assert_msg(n == 0, "%d runs can be claimed, first %lld", n, (long long)r[0].row.id);
}

bool c_reload(int64_t engine, int64_t run, int32_t epoch, struct c_run *out)
{
	struct claim c = { .max = 1, .out = out };

	store(0)->ops->reload(store(0), engine, run, epoch, on_claim, &c);
	c_wait(&c.done);
	return c.n == 1;
}

void c_release(int64_t engine, const struct c_run *r)
{
	struct ack a = { 0 };

	store(0)->ops->release(store(0), engine, &r->row.id, &r->row.epoch, 1, on_ack, &a);
	c_wait(&a.done);
}

/* ---- starting ---- */

struct starting {
	bool done;
	struct c_started *out;
};

static void on_start(void *arg, int64_t now, const struct hp_start_result *res,
		     const struct hp_error *err)
{
	struct starting *s = arg;

	(void)now;
	s->done = true;
	if (err) {
		s->out->code = err->code;
		snprintf(s->out->message, sizeof s->out->message, "%s", err->message);
		return;
	}
	s->out->run = res->run_id;
	s->out->existed = res->existed;
	s->out->claimed = res->claimed != NULL;
	if (res->claimed)
		keep_run(&s->out->mine, res->claimed);
}

static struct c_started start_as(const char *requester, const char *workflow, const char *input,
				 const char *key, bool own)
{
	struct c_started out = { 0 };
	struct starting s = { .out = &out };
	struct hp_start st = { .workflow = workflow, .input = hp_bytes_of(input),
			       .key = hp_bytes_of(key), .requester = requester, .own = own };

	store(0)->ops->start(store(0), c_engine, &st, on_start, &s);
	c_wait(&s.done);
	return out;
}

struct c_started c_start(const char *workflow, const char *input, const char *key, bool own)
{
	return start_as("tester", workflow, input, key, own);
}

struct c_run c_own_by(const char *requester, const char *key)
{
	struct c_started s = start_as(requester, "flow", "{}", key, true);

	ck_assert_msg(s.code == HP_OK, "%s", s.message);
	ck_assert(s.claimed);
	return s.mine;
}

struct c_run c_own(void)
{
	return c_own_by("tester", NULL);
}

/* ---- transitions ---- */

void c_begin(struct hp_transition *t, const struct c_run *r)
{
	memset(t, 0, sizeof *t);
	t->run_id = r->row.id;
	t->epoch = r->row.epoch;
	t->rev = r->row.rev;
	t->from_state = r->row.state;
	t->from_visit = r->row.visit;
	t->move = HP_MOVE_ENTERED;
	t->after = r->row;
	t->after.rev = r->row.rev + 1;
	t->after.claims = 0;
}

void c_enter(struct hp_transition *t, int state)
{
	struct hp_run *a = &t->after;

	a->visit++;
	a->state = state;
	a->status = HP_RUNNING;
	a->phase = HP_PH_ENTER;
	a->attempt = a->failures = 0;
	a->entered_at = c_now;
	a->first_sent_at = a->sent_at = a->due_at = 0;
	a->unresolved = false;
}

void c_admit(struct hp_transition *t, const char *request, const char *key, bool business)
{
	t->move = HP_MOVE_ADMITTED;
	t->admits = true;
	t->request = hp_bytes_of(request);
	t->effect_key = hp_bytes_of(key);
	t->business_key = business;
	t->after.phase = HP_PH_ADMITTED;
	t->after.attempt++;
	t->after.unresolved = true;
	t->after.sent_at = c_now;
	if (t->after.first_sent_at == 0)
		t->after.first_sent_at = c_now;
	hp_sha256(request, strlen(request), t->after.request_hash);
}

void c_park(struct hp_transition *t, int state, int64_t due_at)
{
	c_enter(t, state);
	t->after.status = HP_WAITING;
	t->after.phase = HP_PH_OPEN;
	t->after.due_at = due_at;
	t->move = HP_MOVE_PARKED;
	t->disposition = HP_PARK;
}

void c_hold(struct hp_transition *t, const char *code)
{
	t->after.status = HP_HELD;
	t->after.held_class = HP_TERMINAL;
	t->after.due_at = 0;
	snprintf(t->after.code, sizeof t->after.code, "%s", code);
	t->outcome = HP_TERMINAL;
	t->code = code;
	t->message = "it was refused";
	t->move = HP_MOVE_HELD;
	t->disposition = HP_PARK;
}

void c_finish(struct hp_transition *t, enum hp_status status)
{
	t->after.status = status;
	t->after.due_at = 0;
	t->move = HP_MOVE_FINISHED;
	t->disposition = HP_FINISH;
}

void c_save(struct hp_transition *t, const char *name, const char *json)
{
	ck_assert_int_lt(t->n_saves, 3);
	t->saves[t->n_saves++] = (struct hp_save){ name, hp_bytes_of(json) };
}

/* ---- commits ---- */

struct commit {
	bool done;
	int n;
	struct c_result *res;
};

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct commit *c = arg;

	(void)now;
	ck_assert_msg(!c->done, "called twice");
	ck_assert_int_eq(n, c->n);
	for (int i = 0; i < n; i++) {
		c->res[i].outcome = res[i].outcome;
		c->res[i].cancel = res[i].cancel;
		c->res[i].pause = res[i].pause;
		c->res[i].first_sent_at = res[i].first_sent_at;
		memcpy(c->res[i].gated, res[i].gated, sizeof c->res[i].gated);
		ck_assert_msg((res[i].outcome == HP_COMMIT_REFUSED) == (res[i].error != NULL),
			      "an error comes with REFUSED and only with it");
		snprintf(c->res[i].message, sizeof c->res[i].message, "%s",
			 res[i].error ? res[i].error->message : "");
	}
	c->done = true;
}

static void commit_many(int i, const struct hp_transition *const *t, int n, struct c_result *res)
{
	struct commit c = { .n = n, .res = res };

	store(i)->ops->commit(store(i), t, n, on_commit, &c);
	ck_assert_msg(!c.done, "a callback ran inside the call");
	c_wait(&c.done);
}

void c_commit_many(const struct hp_transition *const *t, int n, struct c_result *res)
{
	commit_many(0, t, n, res);
}

static struct c_result commit_at(int i, const struct hp_transition *t)
{
	struct c_result res = { 0 };

	commit_many(i, &t, 1, &res);
	return res;
}

struct c_result c_commit(const struct hp_transition *t)
{
	return commit_at(0, t);
}

struct c_result c_commit_ok(struct c_run *r, const struct hp_transition *t)
{
	struct c_result res = c_commit(t);

	ck_assert_msg(res.outcome == HP_COMMIT_OK, "commit of run %lld: outcome %d %s",
		      (long long)t->run_id, (int)res.outcome, res.message);
	r->row = t->after;
	return res;
}

/* ---- steps ---- */

static int64_t latest_approval(int64_t run)
{
	json_t *all = c_door_ok("run", "tester", "{'run':%lld}", (long long)run);
	const json_t *list = json_object_get(all, "approvals");
	int64_t id = hp_json_int(json_array_get(list, json_array_size(list) - 1), "approval", 0);

	ck_assert_int_gt(id, 0);
	json_decref(all);
	return id;
}

static int64_t open_approval(struct c_run *r, int state, const char *request, int64_t wakes_after)
{
	struct hp_transition t;
	char doc[1024];

	c_begin(&t, r);
	c_park(&t, state, c_now + wakes_after);
	if (request)
		snprintf(doc, sizeof doc, "{\"ask\":\"Refund?\",\"evidence\":{},\"request\":\"%s\",\"key\":\"k\"}",
			 request);
	else
		snprintf(doc, sizeof doc, "{\"ask\":\"Go?\",\"evidence\":{}}");
	t.approval = hp_bytes_of(doc);
	t.approval_deadline = c_now + DEADLINE;
	hp_sha256(request ? request : "", request ? strlen(request) : 0, t.approval_hash);
	c_commit_ok(r, &t);
	return latest_approval(r->row.id);
}

int64_t c_open_approval(struct c_run *r, int state, const char *request)
{
	return open_approval(r, state, request, DEADLINE);
}

int64_t c_open_reminded(struct c_run *r, int state, int64_t reminder)
{
	return open_approval(r, state, NULL, reminder);
}

void c_await(struct c_run *r, int state, const char *keys, int64_t due_at)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_park(&t, state, due_at);
	t.wait_keys = hp_bytes_of(keys);
	c_commit_ok(r, &t);
}

void c_held(struct c_run *r)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_hold(&t, "card_declined");
	c_commit_ok(r, &t);
}

void c_turning(struct hp_transition *t, enum hp_status ends)
{
	t->move = HP_MOVE_UNDOING;
	t->disposition = HP_PARK;
	t->after.status = HP_WAITING;
	t->after.phase = HP_PH_UNDOING;
	t->after.due_at = c_now;
	t->code = "no_trip";
	t->message = "not to be had";
	t->result = hp_bytes_of("{\"code\":\"no_trip\"}");
	c_annex(t, "undo", ends == HP_FAILED ? "{\"begin\":5}" : "{\"begin\":6}");
}

void c_turn_back(struct c_run *r, enum hp_status ends)
{
	struct hp_transition t;

	c_begin(&t, r);
	c_turning(&t, ends);
	c_commit_ok(r, &t);
}

/* ---- doors ---- */

struct door {
	bool done;
	json_t *json;
	struct hp_error err;
};

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct door *d = arg;

	if (err)
		d->err = *err;
	else
		d->json = hp_json_parse(json.p, json.n, "answer", &d->err);
	d->done = true;
}

static struct door door_v(const char *name, const char *principal, const char *args, va_list ap)
{
	struct door d = { 0 };
	char text[2048];

	vsnprintf(text, sizeof text, args, ap);
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
	store(0)->ops->door(store(0), name, principal, hp_bytes_of(text), on_door, &d);
	c_wait(&d.done);
	return d;
}

json_t *c_door(const char *name, const char *principal, enum hp_code *code, char *message,
	       const char *args, ...)
{
	struct door d;
	va_list ap;

	va_start(ap, args);
	d = door_v(name, principal, args, ap);
	va_end(ap);
	*code = d.err.code;
	snprintf(message, sizeof d.err.message, "%s", d.err.message);
	return d.json;
}

json_t *c_door_ok(const char *name, const char *principal, const char *args, ...)
{
	struct door d;
	va_list ap;

	va_start(ap, args);
	d = door_v(name, principal, args, ap);
	va_end(ap);
	ck_assert_msg(d.json != NULL, "door %s: %s", name, d.err.message);
	return d.json;
}

void c_door_fails(enum hp_code code, const char *words, const char *name, const char *principal,
		  const char *args, ...)
{
	struct door d;
	va_list ap;

	va_start(ap, args);
	d = door_v(name, principal, args, ap);
	va_end(ap);
	ck_assert_msg(d.json == NULL, "door %s answered although it must refuse (%s)", name, words);
	ck_assert_msg(d.err.code == code, "door %s: code %s, not %s: %s", name, hp_code_name(d.err.code),
		      hp_code_name(code), d.err.message);
	ck_assert_msg(strstr(d.err.message, words) != NULL, "door %s says \"%s\", not \"%s\"", name,
		      d.err.message, words);
}

void c_annex(struct hp_transition *t, const char *kind, const char *doc)
{
	t->annexes[t->n_annexes++] = (struct hp_annex){ kind, hp_bytes_of(doc) };
}

json_t *c_found(const struct c_run *r, const char *kind)
{
	json_t *all = r->annex[0] ? hp_json_parse(r->annex, strlen(r->annex), "annex", NULL) : NULL;
	json_t *found = json_incref(json_object_get(all, kind));

	json_decref(all);
	return found;
}

void c_assert_why(int64_t run, const char *cause, const char *words)
{
	json_t *v = c_door_ok("why", "alice", "{'run':%lld}", (long long)run);

	ck_assert_str_eq(hp_json_str(v, "cause"), cause);
	ck_assert_msg(strstr(hp_json_str(v, "sentence"), words) != NULL, "%s", hp_json_str(v, "sentence"));
	json_decref(v);
}

json_t *c_run_json(int64_t run)
{
	json_t *all = c_door_ok("run", "tester", "{'run':%lld}", (long long)run);
	json_t *inner = json_incref(json_object_get(all, "run"));

	ck_assert(json_is_object(inner));
	json_decref(all);
	return inner;
}

json_t *c_history(int64_t run)
{
	json_t *all = c_door_ok("history", "tester", "{'run':%lld}", (long long)run);
	json_t *rows = json_incref(json_object_get(all, "history"));

	ck_assert(json_is_array(rows));
	json_decref(all);
	return rows;
}

int64_t c_event(const char *name, const char *key, const char *payload)
{
	json_t *v = c_door_ok("send_event", "tester", "{'name':'%s','key':'%s','payload':%s}", name, key,
			      payload);
	int64_t woken = hp_json_int(v, "woken", -1);

	json_decref(v);
	return woken;
}

/* ---- fixture ---- */

static struct ack try_deploy(const char *workflow, uint8_t tag, const char *text)
{
	struct hp_bundle b = { .workflow = workflow, .bundle = hp_bytes_of("{}"), .summary = hp_bytes_of(text) };
	struct ack a = { 0 };

	memset(b.digest, tag, sizeof b.digest);
	store(0)->ops->deploy(store(0), &b, on_ack, &a);
	c_wait(&a.done);
	return a;
}

static void deploy(const char *workflow, uint8_t tag, const char *text)
{
	struct ack a = try_deploy(workflow, tag, text);

	ck_assert_msg(a.code == HP_OK, "deploy %s: %s", workflow, a.message);
}

void c_deploy(const char *workflow, uint8_t tag)
{
	deploy(workflow, tag, summary);
}

static void quote(char *text)
{
	for (char *p = text; *p; p++)
		if (*p == '\'')
			*p = '"';
}

bool c_deploy_fails(const char *workflow, uint8_t tag, const char *text, const char *words)
{
	char copy[1024];
	struct ack a;

	snprintf(copy, sizeof copy, "%s", text);
	quote(copy);
	a = try_deploy(workflow, tag, copy);
	ck_assert_msg(a.code == HP_OK || strstr(a.message, words), "%s", a.message);
	return a.code != HP_OK;
}

static void deploy_with(const char *workflow, uint8_t tag, const char *member, const char *json)
{
	char text[8192];

	snprintf(text, sizeof text, "%.*s,\"%s\":%s}", (int)sizeof summary - 2, summary, member, json);
	quote(text);
	deploy(workflow, tag, text);
}

void c_deploy_with(const char *workflow, uint8_t tag, const char *schedules)
{
	deploy_with(workflow, tag, "schedules", schedules);
}

void c_deploy_budgets(const char *workflow, uint8_t tag, const char *budgets)
{
	deploy_with(workflow, tag, "budgets", budgets);
}

void c_deploy_triggered(const char *workflow, uint8_t tag, const char *triggers)
{
	deploy_with(workflow, tag, "triggers", triggers);
}

void c_deploy_limited(const char *workflow, uint8_t tag, const char *limits)
{
	deploy_with(workflow, tag, "limits", limits);
}

void c_door_two(const char *name, const char *args0, const char *args1, json_t *answers[2])
{
	const char *args[2] = { args0, args1 };
	struct door d[2] = { { 0 }, { 0 } };
	char text[2][2048];

	for (int i = 0; i < 2; i++) {
		if (!args[i])
			continue;
		snprintf(text[i], sizeof text[i], "%s", args[i]);
		quote(text[i]);
		store(i)->ops->door(store(i), name, "engine", hp_bytes_of(text[i]), on_door, &d[i]);
	}
	for (int i = 0; i < 2; i++) {
		if (args[i])
			c_wait(&d[i].done);
		ck_assert_msg(!args[i] || d[i].json, "door %s: %s", name, d[i].err.message);
		answers[i] = d[i].json;
	}
}

static void open_world(void)
{
	the_driver->open();
	c_now = T0;
	the_driver->set_now(c_now);
	c_deploy("flow", 1);
	c_deploy("other", 2);
	the_driver->principal("tester", "service", "");
	the_driver->principal("alice", "person", "payments");
	the_driver->principal("bob", "person", "payments sre");
	the_driver->principal("carol", "person", "sre security");
	the_driver->principal("dave", "person", "sre");
	the_driver->principal("mallory", "person", "");
	the_driver->principal("robot", "agent", "payments");
	c_engine = c_register();
}

static void close_world(void)
{
	the_driver->close();
}

static void add(Suite *s, TCase *t)
{
	tcase_add_checked_fixture(t, open_world, close_world);
	tcase_set_timeout(t, 30);
	suite_add_tcase(s, t);
}

int contract_main(const struct contract_driver *d)
{
	char title[64];
	Suite *s;
	SRunner *r;
	int failed;

	the_driver = d;
	snprintf(title, sizeof title, "store contract: %s", d->name);
	s = suite_create(title);
	add(s, contract_keys());
	add(s, contract_claims());
	add(s, contract_commits());
	add(s, contract_effects());
	add(s, contract_approvals());
	add(s, contract_mail());
	add(s, contract_breakers());
	add(s, contract_operate());
	add(s, contract_why());
	add(s, contract_arms());
	add(s, contract_schedules());
	add(s, contract_limits());
	add(s, contract_budgets());
	add(s, contract_lifecycle());
	add(s, contract_gates());
	add(s, contract_secrets());
	add(s, contract_undo());
	add(s, contract_sweeps());
	add(s, contract_children());
	add(s, contract_joins());
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
