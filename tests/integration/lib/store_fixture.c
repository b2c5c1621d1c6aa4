/* store_fixture.c: see store_fixture.h */
#include "store_fixture.h"

#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"

#define FX_ARENA ((size_t)256 * 1024 * 1024)

static int databases; /* of this process */

static PGconn *connect_to(const char *info)
{
	PGconn *c = PQconnectdb(info);

	ck_assert_msg(PQstatus(c) == CONNECTION_OK, "%s", PQerrorMessage(c));
	PQclear(PQexec(c, "set client_min_messages = error"));
	return c;
}

static void super_exec(const char *info, const char *sql)
{
	PGconn *c = connect_to(info);
	PGresult *r = PQexec(c, sql);

	ck_assert_msg(PQresultStatus(r) == PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(c));
	PQclear(r);
	PQfinish(c);
}

/* Its name says what is in it: another tree's migrations are another template. */
static void template_name(char out[64])
{
	uint8_t sum[HP_SHA256_LEN];
	struct hp_error err = { 0 };
	char hex[HP_SHA256_HEX];
	struct hp_buf all;
	glob_t files;

	hp_buf_init(&all, 16 * 1024 * 1024);
	ck_assert_int_eq(glob("migrations/holdpoint/*.sql", 0, NULL, &files), 0);
	for (size_t i = 0; i < files.gl_pathc; i++)
		ck_assert_msg(hp_read_file(files.gl_pathv[i], 4 * 1024 * 1024, &all, &err) == 0, "%s", err.message);
	hp_sha256(all.p, all.n, sum);
	hp_hex(sum, 8, hex);
	snprintf(out, 64, "hp_store_template_%.16s", hex);
	globfree(&files);
	hp_buf_free(&all);
}

/* Migrating takes ten times as long as copying what was migrated: once for all cases of all
 * programs of this cluster. One that nobody finished has no mark, and is made anew. */
static void have_template(const char *base, const char *name)
{
	PGconn *c = connect_to(base);
	struct hp_error err = { 0 };
	char info[1024], sql[256];
	PGresult *r;

	PQclear(PQexec(c, "select pg_advisory_lock(hashtext('hp_store_template'))"));
	snprintf(sql, sizeof sql, "select from pg_database where datname = '%s' and datistemplate", name);
	r = PQexec(c, sql);
	if (PQntuples(r) == 0) {
		snprintf(sql, sizeof sql, "drop database if exists %s", name);
		super_exec(base, sql);
		snprintf(sql, sizeof sql, "create database %s", name);
		super_exec(base, sql);
		snprintf(info, sizeof info, "%s dbname=%s", base, name);
		if (hp_migrate(info, "migrations/holdpoint", "holdpoint", false, NULL, NULL, &err) < 0)
			ck_abort_msg("migrating: %s", err.message);
		snprintf(sql, sizeof sql, "alter database %s is_template true", name);
		super_exec(base, sql);
	}
	PQclear(r);
	PQfinish(c); /* and the lock goes with it */
}

void fx_open(struct fx *f)
{
	const char *base = getenv("HP_TEST_PG");
	char template[64], sql[192];

	ck_assert_msg(base != NULL, "HP_TEST_PG is not set: conninfo of a throw-away cluster");
	memset(f, 0, sizeof *f);
	snprintf(f->db, sizeof f->db, "hp_store_%d_%d", (int)getpid(), ++databases);
	template_name(template);
	have_template(base, template);
	snprintf(sql, sizeof sql, "create database %s template %s", f->db, template);
	super_exec(base, sql);
	snprintf(f->super_info, sizeof f->super_info, "%s dbname=%s", base, f->db);
	snprintf(f->engine_info, sizeof f->engine_info, "%s user=holdpoint_engine", f->super_info);
	snprintf(f->workflow_info, sizeof f->workflow_info, "%s user=holdpoint_workflow", f->super_info);
	f->super = connect_to(f->super_info);
	f->loop = ev_loop_new(EVFLAG_AUTO);
	f->arena = hp_arena_new(FX_ARENA);
	ck_assert_ptr_nonnull(f->arena);
	f->store = fx_store(f, NULL, false);
	f->engine = fx_register(f, f->store, 60000000);
}

void fx_close(struct fx *f)
{
	char sql[128];

	if (f->store)
		fx_store_free(f, f->store);
	PQfinish(f->super);
	ev_loop_destroy(f->loop);
	hp_arena_free(f->arena);
	snprintf(sql, sizeof sql, "drop database %s with (force)", f->db);
	super_exec(getenv("HP_TEST_PG"), sql);
}

struct hp_store *fx_store(struct fx *f, const char *conninfo, bool pooled)
{
	struct hp_error err = { 0 };
	struct hp_store_pg_options o = {
		.conninfo = conninfo ? conninfo : f->engine_info,
		.sql_conninfo = f->workflow_info,
		.pooled = pooled,
		.application = "store test",
	};
	struct hp_store *s = hp_store_pg_new(f->loop, &o, &err);

	ck_assert_msg(s != NULL, "%s", err.message);
	return s;
}

void fx_store_free(struct fx *f, struct hp_store *s)
{
	s->ops->free(s);
	fx_turn(f, 0.05);
}

static void on_stop(struct ev_loop *loop, ev_timer *w, int revents)
{
	(void)revents;
	*(int *)w->data = 1;
	ev_break(loop, EVBREAK_ONE);
}

void fx_until(struct fx *f, const int *flag)
{
	ev_timer guard;
	int late = 0;

	ev_timer_init(&guard, on_stop, 30., 0.);
	guard.data = &late;
	ev_timer_start(f->loop, &guard);
	while (!*flag && !late)
		ev_run(f->loop, EVRUN_ONCE);
	ev_timer_stop(f->loop, &guard);
	ck_assert_msg(*flag, "no answer after 30 s");
}

void fx_turn(struct fx *f, double seconds)
{
	ev_timer t;
	int over = 0;

	ev_timer_init(&t, on_stop, seconds, 0.);
	t.data = &over;
	ev_timer_start(f->loop, &t);
	while (!over)
		ev_run(f->loop, EVRUN_ONCE);
}

static const char *first_field(struct fx *f, PGresult *r)
{
	const char *v = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "";

	return hp_arena_strdup(f->arena, v);
}

const char *fx_sql(struct fx *f, const char *fmt, ...)
{
	char sql[16384];
	va_list ap;
	PGresult *r;
	const char *v;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	r = PQexec(f->super, sql);
	ck_assert_msg(PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK, "%s: %s", sql,
		      PQresultErrorMessage(r));
	v = first_field(f, r);
	PQclear(r);
	return v;
}

int64_t fx_int(struct fx *f, const char *fmt, ...)
{
	char sql[16384];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sql, sizeof sql, fmt, ap);
	va_end(ap);
	return strtoll(fx_sql(f, "%s", sql), NULL, 10);
}

int64_t fx_pages(struct fx *f, const char *sql)
{
	char *quoted = PQescapeLiteral(f->super, sql, strlen(sql));
	int64_t n = fx_int(f, "create or replace function pg_temp.pages() returns bigint language plpgsql as $x$"
			      " declare p json; begin execute 'explain (analyze, buffers, format json) ' || %s into p;"
			      " return (p -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::bigint + (p -> 0 -> 'Plan' ->> 'Shared Read Blocks')::bigint;"
			      " end $x$; select pg_temp.pages()", quoted);

	PQfreemem(quoted);
	return n;
}

void fx_park_many(struct fx *f, int n, enum hp_phase phase, const char *due)
{
	fx_sql(f, "insert into holdpoint.run (workflow, input, digest, requester, created_at)"
		  " select 'w', '{}', digest, 'bulk', 1 from holdpoint.workflow, generate_series(1, %d)", n);
	fx_sql(f, "insert into holdpoint.run_state (run_id, epoch, rev, visit, state, attempt, failures, claims, signed_visit,"
		  " status, phase, held_class, command, unresolved, cancel, waits, in_held, entered_at, first_sent_at, sent_at, due_at)"
		  " select id, 1, 2, 1, 0, 0, 0, 0, 0, 2, %d, 0, 0, false, false, false, false, 1, 0, 0, %s from holdpoint.run",
	       (int)phase, due);
}

PGconn *fx_session(struct fx *f, const char *user)
{
	char info[1024];

	snprintf(info, sizeof info, "%s user=%s", f->super_info, user);
	return connect_to(info);
}

const char *fx_state(struct fx *f, PGconn *c, const char *sql)
{
	PGresult *r = PQexec(c, sql);
	const char *s = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *copy = hp_arena_strdup(f->arena, s ? s : "");

	PQclear(r);
	return copy;
}

/* ---- blocking calls ---- */

struct wait {
	struct fx *f;
	int done;
	struct hp_error err;
	bool failed;
	int64_t id;
	struct hp_claimed *claimed;
	int n;
	bool existed;
	const char *json;
};

static void take_error(struct wait *w, const struct hp_error *err)
{
	w->failed = err != NULL;
	if (err)
		w->err = *err;
	w->done = 1;
}

static void on_engine(void *arg, const struct hp_engine_info *info, const struct hp_error *err)
{
	struct wait *w = arg;

	w->id = info ? info->id : 0;
	take_error(w, err);
}

int64_t fx_register(struct fx *f, struct hp_store *s, int64_t lease_us)
{
	struct wait w = { .f = f };

	s->ops->engine_register(s, "testhost", getpid(), lease_us, on_engine, &w);
	ck_assert_int_eq(w.done, 0);
	fx_until(f, &w.done);
	ck_assert_msg(!w.failed, "%s", w.err.message);
	return w.id;
}

static void on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	(void)now;
	take_error(arg, err);
}

void fx_deploy(struct fx *f, const char *workflow, const char *summary)
{
	struct wait w = { .f = f };
	struct hp_bundle b = { .workflow = workflow, .bundle = hp_bytes_of("{\"workflow\": 1}"),
			       .summary = hp_bytes_of(summary) };

	hp_sha256(summary, strlen(summary), b.digest);
	b.digest[0] ^= (uint8_t)workflow[0];
	f->store->ops->deploy(f->store, &b, on_ack, &w);
	fx_until(f, &w.done);
	ck_assert_msg(!w.failed, "%s", w.err.message);
}

static struct hp_bytes copy(struct fx *f, struct hp_bytes b)
{
	return (struct hp_bytes){ b.p ? hp_arena_strndup(f->arena, b.p, b.n) : NULL, b.n };
}

static void copy_claimed(struct fx *f, struct hp_claimed *to, const struct hp_claimed *from)
{
	*to = *from;
	to->workflow = hp_arena_strdup(f->arena, from->workflow);
	to->key = copy(f, from->key);
	to->input = copy(f, from->input);
	to->saved = copy(f, from->saved);
	to->decision_value = copy(f, from->decision_value);
	to->mail = copy(f, from->mail);
	to->command_value = copy(f, from->command_value);
	to->annex = copy(f, from->annex);
	to->signed_request = copy(f, from->signed_request);
	to->signed_key = copy(f, from->signed_key);
}

static void on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	struct wait *w = arg;

	ck_assert(err || now > 0);
	w->n = n;
	w->claimed = hp_arena_alloc(w->f->arena, (size_t)(n + 1) * sizeof *w->claimed);
	for (int i = 0; i < n; i++)
		copy_claimed(w->f, &w->claimed[i], &runs[i]);
	take_error(w, err);
}

struct hp_claimed *fx_claim(struct fx *f, struct hp_store *s, int64_t engine, int max, int *n)
{
	struct wait w = { .f = f };

	s->ops->claim(s, engine, max, on_claim, &w);
	fx_until(f, &w.done);
	ck_assert_msg(!w.failed, "%s", w.err.message);
	*n = w.n;
	return w.claimed;
}

struct hp_claimed *fx_reload(struct fx *f, int64_t run, int32_t epoch)
{
	struct wait w = { .f = f };

	f->store->ops->reload(f->store, f->engine, run, epoch, on_claim, &w);
	fx_until(f, &w.done);
	ck_assert_msg(!w.failed, "%s", w.err.message);
	return w.n ? w.claimed : NULL;
}

static void on_start(void *arg, int64_t now, const struct hp_start_result *res, const struct hp_error *err)
{
	struct wait *w = arg;

	(void)now;
	if (res) {
		w->id = res->run_id;
		w->existed = res->existed;
		w->n = res->claimed != NULL;
		w->claimed = hp_arena_alloc(w->f->arena, sizeof *w->claimed);
		if (res->claimed)
			copy_claimed(w->f, w->claimed, res->claimed);
	}
	take_error(w, err);
}

int64_t fx_start(struct fx *f, const char *workflow, const char *input, const char *key, bool own,
		 struct hp_claimed *claimed, bool *existed)
{
	struct wait w = { .f = f };
	struct hp_start st = { .workflow = workflow, .input = hp_bytes_of(input), .key = hp_bytes_of(key),
			       .requester = "tester", .own = own };

	f->store->ops->start(f->store, f->engine, &st, on_start, &w);
	fx_until(f, &w.done);
	ck_assert_msg(!w.failed, "%s", w.err.message);
	if (claimed) {
		ck_assert_int_eq(w.n, 1);
		*claimed = *w.claimed;
	}
	if (existed)
		*existed = w.existed;
	return w.id;
}

static void on_door(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct wait *w = arg;

	w->json = json.p ? hp_arena_strndup(w->f->arena, json.p, json.n) : NULL;
	take_error(w, err);
}

const char *fx_door(struct fx *f, const char *name, const char *principal, const char *args, struct hp_error *err)
{
	struct wait w = { .f = f };

	f->store->ops->door(f->store, name, principal, hp_bytes_of(args), on_door, &w);
	ck_assert_int_eq(w.done, 0);
	fx_until(f, &w.done);
	if (w.failed && !err)
		ck_abort_msg("door %s: %s", name, w.err.message);
	if (err)
		*err = w.err;
	return w.failed ? NULL : w.json;
}

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct fx_commit *c = arg;

	(void)now;
	c->n = n;
	for (int i = 0; i < n && i < (int)(sizeof c->res / sizeof c->res[0]); i++) {
		c->res[i] = res[i];
		if (res[i].error)
			c->error = *res[i].error;
	}
	c->calls++;
}

void fx_commit(struct fx *f, struct hp_store *s, const struct hp_transition *const *t, int n, struct fx_commit *out)
{
	memset(out, 0, sizeof *out);
	s->ops->commit(s, t, n, on_commit, out);
	ck_assert_int_eq(out->calls, 0);
	fx_until(f, &out->calls);
	ck_assert_int_eq(out->n, n);
}

enum hp_commit_outcome fx_commit1(struct fx *f, const struct hp_transition *t)
{
	struct fx_commit c;

	fx_commit(f, f->store, &t, 1, &c);
	return c.res[0].outcome;
}

struct hp_transition fx_from(const struct hp_run *run, enum hp_move move, enum hp_disposition d)
{
	struct hp_transition t = { .run_id = run->id, .epoch = run->epoch, .rev = run->rev, .move = move,
				   .disposition = d, .after = *run, .from_state = run->state,
				   .from_visit = run->visit };

	t.after.rev++;
	t.after.claims = 0;
	t.after.status = d == HP_PARK ? HP_WAITING : d == HP_FINISH ? HP_SUCCEEDED : HP_RUNNING;
	return t;
}

void fx_done(struct hp_run *run, const struct hp_transition *t)
{
	*run = t->after;
}
