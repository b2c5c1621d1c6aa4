/* two.c: the two stores: opened, emptied, asked one after the other; answers as JSON. */
#include "diff.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/world_pg.h"
#include "store/mem/mem.h"

#define INSTALLATION "00000000-0000-4000-8000-000000000001" /* the in-memory store's */

struct d_answer d_answers[2];
int64_t d_now;

static char database[64], admin_info[2048], engine_info[2048], workflow_info[2048];
static PGconn *admin;
static struct ev_loop *loop;
static ev_timer awake; /* the loop turns once a second, also when nothing happens */
static struct hp_store *stores[2];
static struct hp_arena *sql_texts;
static struct hp_sql_rows sql_rows; /* what came of a statement, for the store in memory */

static void on_awake(struct ev_loop *l, ev_timer *w, int revents)
{
	(void)l;
	(void)w;
	(void)revents;
}

void d_need(bool ok, const char *what, const char *why)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, why);
	if (admin) { /* nothing of ours is left in the cluster of others */
		PGconn *c = PQconnectdb(getenv("HP_TEST_PG"));
		char sql[128];

		snprintf(sql, sizeof sql, "drop database if exists %s with (force)", database);
		PQclear(PQexec(c, sql));
		PQfinish(c);
	}
	exit(EXIT_FAILURE);
}

/* ---- the database ---- */

static void run_on(PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);

	d_need(PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK, sql, PQerrorMessage(c));
	PQclear(r);
}

static const char setup_sql[] =
	TEST_CLOCK_SQL
	"update holdpoint.installation set id = '" INSTALLATION "';"
	"create table public.diff_ledger (run bigint, state text, undone int not null default 0, primary key (run, state));"
	"create table public.diff_items (id bigint primary key);"
	"insert into public.diff_items select generate_series(1, 5);"
	"create table public.diff_swept (run bigint, id bigint);"
	"grant select, insert, update on public.diff_ledger, public.diff_items, public.diff_swept to holdpoint_workflow;"
	"insert into holdpoint.principal (name, kind, created_at) values ('alice', 'person', 0), ('bob', 'person', 0),"
	" ('carol', 'person', 0), ('mallory', 'person', 0), ('robot', 'agent', 0), ('tester', 'service', 0);"
	"insert into holdpoint.role_member (principal, role) values ('alice', 'ops'), ('bob', 'ops'), ('bob', 'desk'),"
	" ('carol', 'desk'), ('robot', 'ops')";

static char *file_text(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = malloc(1 << 16);
	size_t n;

	d_need(f && text, path, "cannot be read");
	n = fread(text, 1, (1 << 16) - 1, f);
	text[n] = 0;
	fclose(f);
	return text;
}

void d_open(void)
{
	struct hp_error err = { 0 };
	char sql[128], *dump;
	PGconn *c;

	d_need(getenv("HP_TEST_PG") != NULL, "HP_TEST_PG", "is not set: the conninfo of a superuser of a throw-away cluster");
	snprintf(database, sizeof database, "differential_%ld", (long)getpid());
	c = PQconnectdb(getenv("HP_TEST_PG"));
	d_need(PQstatus(c) == CONNECTION_OK, "connecting", PQerrorMessage(c));
	snprintf(sql, sizeof sql, "create database %s", database);
	run_on(c, sql);
	PQfinish(c);
	d_need(test_conninfo(admin_info, sizeof admin_info, database, NULL) &&
	       test_conninfo(engine_info, sizeof engine_info, database, "holdpoint_engine") &&
	       test_conninfo(workflow_info, sizeof workflow_info, database, "holdpoint_workflow"), "HP_TEST_PG", "cannot be used");
	admin = PQconnectdb(admin_info);
	d_need(PQstatus(admin) == CONNECTION_OK, "connecting", PQerrorMessage(admin));
	d_need(hp_migrate(admin_info, "migrations/holdpoint", "holdpoint", false, NULL, NULL, &err) == 0, "migrate", err.message);
	run_on(admin, setup_sql);
	dump = file_text("tests/differential/dump.sql");
	run_on(admin, dump);
	free(dump);
	run_on(admin, "set synchronous_commit = off; set jit = off; set plan_cache_mode = force_generic_plan");
	sql_texts = hp_arena_new(8 * HP_RUN_DATA_MAX);
	loop = ev_loop_new(EVFLAG_AUTO);
	d_need(sql_texts && loop, "memory", "none");
	struct hp_store_pg_options o = { .conninfo = engine_info, .sql_conninfo = workflow_info, .application = "differential",
					 .commit_connections = 1 }; /* several: which is first is chance */

	ev_timer_init(&awake, on_awake, 1, 1);
	ev_timer_start(loop, &awake);
	stores[D_PG] = hp_store_pg_new(loop, &o, &err);
	d_need(stores[D_PG] != NULL, "store", err.message);
	while (!stores[D_PG]->ops->up(stores[D_PG]))
		ev_run(loop, EVRUN_ONCE);
}

void d_close(void)
{
	char sql[128];
	PGconn *c;

	for (int i = 0; i < 2; i++) {
		json_decref(d_answers[i].v);
		d_answers[i].v = NULL;
		if (stores[i])
			stores[i]->ops->free(stores[i]);
	}
	ev_timer_stop(loop, &awake);
	ev_run(loop, 0);
	ev_loop_destroy(loop);
	hp_arena_free(sql_texts);
	PQfinish(admin);
	admin = NULL;
	c = PQconnectdb(getenv("HP_TEST_PG"));
	snprintf(sql, sizeof sql, "drop database %s with (force)", database);
	run_on(c, sql);
	PQfinish(c);
}

void d_set_now(int64_t now)
{
	char sql[96];

	d_now = now;
	snprintf(sql, sizeof sql, "update holdpoint.contract_clock set us = %lld", (long long)now);
	run_on(admin, sql);
}

/* ---- statements: the store in memory is told what came of them ---- */

/* One turn of the loop that does not wait for ever: a store that never answers is a failure. */
static void turn(int64_t since)
{
	d_need(hp_boottime_us() - since < 60 * HP_SECOND, "a store", "never answers");
	ev_run(loop, EVRUN_ONCE);
}

static void sql_told(void *arg, const struct hp_sql_state *st, struct hp_sql_rows *rows)
{
	(void)arg;
	(void)st;
	*rows = sql_rows;
	rows->tx = NULL;
}

/* Statements that were left open are rolled back by the store when it turns. */
static void nothing_open(void)
{
	int64_t since = hp_boottime_us();

	for (;;) {
		PGresult *r = PQexec(admin, "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'");
		bool none = PQresultStatus(r) == PGRES_TUPLES_OK && strcmp(PQgetvalue(r, 0, 0), "0") == 0;

		PQclear(r);
		if (none)
			return;
		turn(since);
	}
}

void d_reset(void)
{
	static const struct hp_mem_sql sql = { sql_told, NULL, NULL };
	struct hp_error err = { 0 };

	if (stores[D_MEM])
		stores[D_MEM]->ops->free(stores[D_MEM]);
	stores[D_MEM] = hp_store_mem_new(&d_now, &err);
	d_need(stores[D_MEM] != NULL, "store", err.message);
	hp_mem_set_sql(stores[D_MEM], &sql);
	hp_mem_principal(stores[D_MEM], "alice", "person", "ops");
	hp_mem_principal(stores[D_MEM], "bob", "person", "ops desk");
	hp_mem_principal(stores[D_MEM], "carol", "person", "desk");
	hp_mem_principal(stores[D_MEM], "mallory", "person", "");
	hp_mem_principal(stores[D_MEM], "robot", "agent", "ops");
	hp_mem_principal(stores[D_MEM], "tester", "service", "");
	nothing_open();
	run_on(admin, TEST_EMPTY_SQL(", 'principal', 'role_member'") "delete from public.diff_ledger; delete from public.diff_swept");
	d_set_now(D_T0);
}

/* ---- asking ---- */

struct hp_store *d_store(int i)
{
	return stores[i];
}

struct d_answer *d_begin(int i)
{
	struct d_answer *a = &d_answers[i];
	void (*claimed)(void *, int, const struct hp_claimed *, int) = a->claimed;

	json_decref(a->v);
	memset(a, 0, sizeof *a);
	a->claimed = claimed;
	return a;
}

void d_await(int i)
{
	int64_t since = hp_boottime_us();

	for (int n = 0; !d_answers[i].done; n++) {
		d_need(n < 1000000, "a store", "never answers");
		if (i == D_PG)
			turn(since);
		else
			stores[i]->ops->pump(stores[i]);
	}
	d_answers[i].claimed = NULL;
}

void d_door(const char *name, const char *principal, const char *args)
{
	for (int i = 0; i < 2; i++) {
		struct d_answer *a = d_begin(i);

		stores[i]->ops->door(stores[i], name, principal, hp_bytes_of(args), d_on_door, a);
		d_await(i);
	}
}

/* ---- answers ---- */

static void finish(struct d_answer *a, json_t *v, const struct hp_error *err)
{
	d_need(!a->done, "a callback", "was called twice");
	if (err) {
		json_decref(v);
		v = json_object();
		snprintf(a->error, sizeof a->error, "%s", err->message);
	}
	json_object_set_new(v, "outcome", json_string(err ? hp_code_name(err->code) : "ok"));
	a->v = v;
	a->done = true;
}

static json_t *parsed(struct hp_bytes b)
{
	json_t *v = b.n ? hp_json_parse(b.p, b.n, "answer", NULL) : json_null();

	return v ? v : json_stringn(b.p, b.n);
}

/* What is known of a run's features: there null and absent are the same. */
static json_t *known(json_t *v)
{
	const char *name;
	json_t *x;
	void *next;
	size_t i;

	json_object_foreach_safe(v, next, name, x) {
		if (json_is_null(x))
			json_object_del(v, name);
		else
			known(x);
	}
	json_array_foreach(v, i, x)
		known(x);
	return v;
}

static json_t *text(struct hp_bytes b)
{
	json_t *v = json_stringn(b.n ? b.p : "", b.n);

	return v ? v : json_string("(not text)");
}

static json_t *hash_text(const uint8_t hash[HP_SHA256_LEN])
{
	char hex[HP_SHA256_HEX];

	hp_hex(hash, HP_SHA256_LEN, hex);
	return json_string(hex);
}

static json_t *claimed_json(const struct hp_claimed *c)
{
	const struct hp_run *r = &c->run;
	json_t *v = json_pack("{s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "run", (json_int_t)r->id, "epoch", (int)r->epoch,
			      "rev", (int)r->rev, "visit", (int)r->visit, "state", (int)r->state, "status", (int)r->status, "phase",
			      (int)r->phase, "attempt", (int)r->attempt, "failures", (int)r->failures, "entered_at", (json_int_t)r->entered_at,
			      "first_sent_at", (json_int_t)r->first_sent_at, "sent_at", (json_int_t)r->sent_at, "due_at", (json_int_t)r->due_at);
	json_t *more = json_pack("{s:b, s:b, s:b, s:i, s:i, s:i, s:s, s:i, s:i, s:s, s:i, s:I, s:i}", "unresolved", r->unresolved, "cancel", r->cancel,
				 "pause", r->pause, "signed_visit", (int)r->signed_visit, "signed_for", (int)r->signed_for, "held_class", (int)r->held_class, "code", r->code,
				 "command", (int)r->command, "claims", (int)r->claims, "workflow", c->workflow, "decision", (int)c->decision,
				 "mail_id", (json_int_t)c->mail_id, "mail_wait", (int)(c->mail_id ? c->mail_wait : 0));

	json_object_update_new(v, more);
	json_object_set_new(v, "digest", hash_text(c->digest));
	json_object_set_new(v, "request_hash", hash_text(r->request_hash));
	json_object_set_new(v, "signed_hash", hash_text(c->signed_hash));
	json_object_set_new(v, "key", text(c->key));
	json_object_set_new(v, "input", parsed(c->input));
	json_object_set_new(v, "saved", c->saved.n ? parsed(c->saved) : json_object());
	json_object_set_new(v, "decision_value", parsed(c->decision_value));
	json_object_set_new(v, "mail", parsed(c->mail));
	json_object_set_new(v, "command_value", parsed(c->command_value));
	json_object_set_new(v, "annex", known(parsed(c->annex)));
	json_object_set_new(v, "signed_request", text(c->signed_request));
	json_object_set_new(v, "signed_key", text(c->signed_key));
	return v;
}

void d_on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	finish(arg, json_pack("{s:I}", "now", (json_int_t)now), err);
}

void d_on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	finish(arg, err ? json_object() : json_pack("{s:I, s:I, s:s}", "id", (json_int_t)info->id, "now", (json_int_t)info->now,
						    "installation", info->installation), err);
}

void d_on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	struct d_answer *a = arg;
	json_t *list = json_array();

	(void)now;
	for (int i = 0; !err && i < n; i++)
		json_array_append_new(list, claimed_json(&runs[i]));
	if (!err && a->claimed)
		a->claimed(NULL, a == &d_answers[D_PG] ? D_PG : D_MEM, runs, n);
	finish(a, json_pack("{s:o}", "runs", list), err);
}

void d_on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	static const char *const words[] = { "ok", "conflict", "refused", "unknown" };
	struct d_answer *a = arg;
	json_t *list = json_array();

	(void)now;
	for (int i = 0; i < n; i++) {
		json_array_append_new(list, json_pack("{s:s, s:b, s:b, s:I, s:s, s:s}", "outcome", words[res[i].outcome], "cancel", res[i].cancel,
						      "pause", res[i].pause, "first_sent_at", (json_int_t)res[i].first_sent_at, "gated",
						      res[i].gated, "code", res[i].error ? hp_code_name(res[i].error->code) : ""));
		if (res[i].error)
			snprintf(a->error, sizeof a->error, "%s", res[i].error->message);
	}
	a->committed = res[0];
	a->committed.error = NULL;
	finish(a, json_pack("{s:o}", "results", list), NULL);
	json_object_set_new(a->v, "outcome", json_string(res[0].gated[0] ? res[0].gated : words[res[0].outcome]));
}

static json_t *started(const struct hp_start_result *r)
{
	return json_pack("{s:I, s:b, s:o}", "run", (json_int_t)r->run_id, "existed", r->existed, "claimed",
			 r->claimed ? claimed_json(r->claimed) : json_null());
}

static void keep_started(struct d_answer *a, const struct hp_start_result *r, int n)
{
	for (int i = 0; i < n; i++)
		if (r[i].claimed && a->claimed)
			a->claimed(NULL, a == &d_answers[D_PG] ? D_PG : D_MEM, r[i].claimed, 1);
}

void d_on_start(void *arg, int64_t now, const struct hp_start_result *res, const struct hp_error *err)
{
	(void)now;
	if (!err)
		keep_started(arg, res, 1);
	finish(arg, err ? json_object() : started(res), err);
	if (!err && res->existed)
		json_object_set_new(((struct d_answer *)arg)->v, "outcome", json_string("existed"));
}

void d_on_ingest(void *arg, int64_t now, const struct hp_ingest_result *res, const struct hp_error *err)
{
	struct d_answer *a = arg;
	json_t *list = json_array();

	(void)now;
	for (int i = 0; !err && i < res->n_starts; i++)
		json_array_append_new(list, started(&res->starts[i]));
	if (!err)
		keep_started(a, res->starts, res->n_starts);
	finish(a, json_pack("{s:o}", "starts", list), err);
	if (!err && res->duplicate)
		json_object_set_new(a->v, "outcome", json_string("duplicate"));
}

void d_on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	finish(arg, err ? json_object() : json_pack("{s:o}", "answer", parsed(json)), err);
}

static int by_workflow(const void *a, const void *b)
{
	return strcmp(((const struct hp_bundle *)a)->workflow, ((const struct hp_bundle *)b)->workflow);
}

/* In no order that the interface names. */
void d_on_bundle(void *arg, const struct hp_bundle *b, int n, const struct hp_error *err)
{
	json_t *list = json_array();
	struct hp_bundle all[D_FLOWS];

	d_need(n <= D_FLOWS, "definitions", "there are too many");
	if (n > 0)
		memcpy(all, b, (size_t)n * sizeof *b);
	qsort(all, (size_t)n, sizeof *all, by_workflow);
	b = all;
	for (int i = 0; !err && i < n; i++)
		json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o}", "workflow", b[i].workflow, "digest", hash_text(b[i].digest),
						      "bundle", text(b[i].bundle), "summary", parsed(b[i].summary)));
	finish(arg, json_pack("{s:o}", "definitions", list), err);
}

/* ---- statements ---- */

static struct hp_bytes kept(struct hp_bytes b)
{
	return b.n ? (struct hp_bytes){ hp_arena_strndup(sql_texts, b.p, b.n), b.n } : (struct hp_bytes){ NULL, 0 };
}

static void on_sql(void *arg, int64_t now, const struct hp_sql_rows *rows)
{
	struct d_answer *a = arg;

	(void)now;
	if (a == &d_answers[D_PG]) {
		sql_rows = *rows;
		sql_rows.code = hp_arena_strdup(sql_texts, rows->code);
		sql_rows.message = hp_arena_strdup(sql_texts, rows->message);
		sql_rows.rows = kept(rows->rows);
		sql_rows.swept.cursor = kept(rows->swept.cursor);
		sql_rows.swept.row = kept(rows->swept.row);
	}
	a->tx = rows->tx;
	a->reply = (struct hp_event){ .type = HP_EV_REPLY, .now = d_now, .retry_after_us = -1, .outcome = sql_rows.outcome,
				      .code = sql_rows.outcome == HP_CLASS_OK ? NULL : sql_rows.code, .message = sql_rows.message,
				      .none = sql_rows.none, .value = sql_rows.rows, .swept = sql_rows.swept };
	finish(a, json_pack("{s:s, s:b}", "class", hp_class_name(rows->outcome), "open", rows->tx != NULL), NULL);
	json_object_set_new(a->v, "outcome", json_string(hp_class_name(rows->outcome)));
}

void d_sql_run(const struct hp_sql_state *st)
{
	hp_arena_reset(sql_texts);
	for (int i = 0; i < 2; i++) {
		struct d_answer *a = d_begin(i);

		stores[i]->ops->sql_run(stores[i], st, on_sql, a);
		d_await(i);
	}
}

/* ---- for compare.c ---- */

json_t *d_dump_of(int i)
{
	struct hp_error err = { 0 };
	json_t *v;

	if (i == D_PG) {
		PGresult *r = PQexec(admin, "select public.dump()");

		d_need(PQresultStatus(r) == PGRES_TUPLES_OK, "dump", PQerrorMessage(admin));
		v = hp_json_parse(PQgetvalue(r, 0, 0), (size_t)PQgetlength(r, 0, 0), "dump", &err);
		PQclear(r);
	} else {
		struct hp_buf b;

		hp_buf_init(&b, 1 << 28);
		d_need(hp_mem_dump(stores[D_MEM], &b, &err) == 0, "dump", err.message);
		v = hp_json_parse(b.p, b.n, "dump", &err);
		hp_buf_free(&b);
	}
	d_need(v != NULL, "dump", err.message);
	return v;
}
