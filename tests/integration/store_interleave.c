/* store_interleave.c: what the database's functions do to each other.
 *
 * An operation is a transaction of two steps: BEGIN with the call, and its end (COMMIT,
 * ROLLBACK, or the connection dies). All orders of the steps of two sessions are run, for
 * all pairs of operations, directly and through pgbouncer in transaction mode; who waits
 * for whose lock is seen (pg_blocking_pids), and goes on when that one has ended. After
 * each order nobody may be left waiting for nothing, no key may be had twice, and the world
 * is as after one of the serial orders. A deadlock anywhere is a failure.
 *
 * What skips locked rows (a claim, a heartbeat's reaping, a tick) may find nothing, or less,
 * where it would have found something alone: the serial orders without it count, too, and
 * a last claim takes what was left.
 *
 * In `make test` some pairs are chosen, for each lock of a row who meets at it, and some drawn
 * (HP_SEED takes others), which commit; HP_INTERLEAVE=long
 * (`make differential`) runs all, with every end, and chosen three sessions.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/bouncer.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

static const char flow[] =
	"{\"states\":[{\"name\":\"step\",\"kind\":\"sql\"},{\"name\":\"confirm\",\"kind\":\"await\",\"events\":[\"go\"]},"
	"{\"name\":\"ask\",\"kind\":\"approval\",\"approvers\":\"1 of ops\"},{\"name\":\"join\",\"kind\":\"run\"},"
	"{\"name\":\"done\",\"kind\":\"succeed\"}],\"schedules\":[{\"cron\":\"* * * * *\",\"zone\":\"UTC\",\"catch_up\":\"last\","
	"\"overlap\":\"allow\",\"input\":{},\"jitter_us\":0,\"within_us\":0}]}";
static const char child[] = "{\"states\":[{\"name\":\"step\",\"kind\":\"call\"},{\"name\":\"done\",\"kind\":\"succeed\"}]}";

#define DOOR(name, who, args) "select holdpoint.door_" name "('" who "', '" args "')::text"
#define OF(role) "' || (select run from public.il where role = '" role "') || '"
#define RUN_DOOR(name, role) "select holdpoint.door_" name "('olga', jsonb_build_object('run', (select run from public.il where role = '" role \
	"'), 'reason', 'because'))::text"

#define LOOK_AT_C \
	"select o_written || '/' || o_unchanged from public.il i, holdpoint.look(array[i.run], array[i.epoch::bigint], " \
	"array[i.rev::bigint]) where i.role = 'C'"

static const struct op {
	const char *name, *sql;
	bool skips;      /* rows that are locked */
	bool as_author;  /* as the role of authors' statements */
} ops[] = {
	{ "claim", "select string_agg(run_id::text, ' ') from holdpoint.claim(1, 10, 9, '{}')", true, false },
	{ "claim of another", "select string_agg(run_id::text, ' ') from holdpoint.claim(2, 1, 9, '{}')", true, false },
	{ "commit: parks", "select public.il_commit('C', 'park')", false, false },
	{ "commit: ends", "select public.il_commit('C', 'finish')", false, false },
	{ "commit: child by key", "select public.il_commit('C', 'open')", false, false },
	{ "commit of a statement", "select public.il_commit('C', 'enter', true)", false, true },
	{ "release", "select holdpoint.release(1, array[run], array[epoch]) is not null from public.il where role = 'C'", false, false },
	{ "reload", "select r.rev from public.il i, holdpoint.reload(1, i.run, i.epoch) r where i.role = 'C'", false, false },
	{ "child ends", "select public.il_commit('K', 'finish')", false, false },
	{ "parent parks", "select public.il_commit('P', 'join')", false, false },
	{ "approve", DOOR("decide", "alice", "{\"approval\":1,\"decision\":\"approve\",\"reason\":\"r\"}"), false, false },
	{ "reject", DOOR("decide", "bob", "{\"approval\":1,\"decision\":\"reject\",\"reason\":\"r\"}"), false, false },
	{ "event to one who parks", DOOR("send_event", "x", "{\"name\":\"go\",\"key\":\"c\"}"), false, false },
	{ "webhook", "select count(*) from holdpoint.ingest('s', 'e1', '', '{}', 1, 9, '{flow}', array['{}'::jsonb], '{ky}', '{hook}', '{1}', '{go,go}', '{c,d}', null, '{}')",
	  false, false },
	{ "tick", DOOR("schedule_fire", "engine", "{\"workflow\":\"flow\",\"index\":1,\"version\":0,\"start\":[1700000000000000],\"skipped\":0,"
		"\"missed_until\":0,\"position\":1700000000000000,\"look\":1800000000000000,\"ahead\":[]}"), true, false },
	{ "start by key", DOOR("start", "app", "{\"workflow\":\"flow\",\"key\":\"ky\"}"), false, false },
	{ "start of the child's key", DOOR("start", "app", "{\"workflow\":\"child\",\"key\":\"kx\"}"), false, false },
	{ "cancel", RUN_DOOR("cancel", "C"), false, false },
	{ "cancel of the parent", RUN_DOOR("cancel", "P"), false, false },
	{ "pause", RUN_DOOR("pause", "C"), false, false },
	{ "heartbeat", "select o_alive from holdpoint.heartbeat(1)", true, false },
	{ "stop", "select holdpoint.engine_stop(1) is not null", false, false },
	/* those that follow are crossed with chosen ones only: meetings() */
	{ "look", LOOK_AT_C, false, false },
	{ "commit: takes a place", "select public.il_commit('C', 'place')", false, false },
	{ "cancel of who is ready", RUN_DOOR("cancel", "R"), false, false },
	{ "heartbeat of another", "select o_alive from holdpoint.heartbeat(2)", true, false },
};
enum { ALL_OPS = sizeof ops / sizeof *ops, OPS = ALL_OPS - 4, SESSIONS = 3, STEPS = 2 * SESSIONS, STATE_MAX = 16384 };
enum end { COMMIT = 0, ROLLBACK, DIES };
static const char *const end_words[] = { "commits", "rolls back", "dies" };

struct session {
	PGconn *c, *author;     /* of the engine, of authors */
	const struct op *op;
	enum end end;
	int pid;
	bool blocked, failed, ended;
	char answer[256];
};

static struct fx f;
static struct session sessions[SESSIONS];
static PGconn *watch;
static bool pooled;
static long orders, waits;
static bool skips;   /* one of the operations does */
static bool passes;  /* what skips locked rows finds no other lock in its way, either */
static const char *also; /* is done to the world first */
static char at[512]; /* what is being done, for people */

/* ---- sessions ---- */

static PGconn *conn(struct session *s)
{
	return s->op->as_author ? s->author : s->c;
}

static PGconn *connect_as(bool author)
{
	char info[900];
	PGconn *c = NULL;

	snprintf(info, sizeof info, "%s%s%s", author ? f.workflow_info : f.engine_info, pooled ? " host=" : "", pooled ? bouncer_dir() : "");
	if (pooled)
		snprintf(info + strlen(info), 32, " port=6432");
	for (int i = 0; i < 500; i++) { /* a pooler that was just started takes a moment */
		c = PQconnectdb(info);
		if (PQstatus(c) == CONNECTION_OK)
			return c;
		ck_assert_msg(pooled && i < 499, "%s", PQerrorMessage(c));
		PQfinish(c);
		fx_turn(&f, 0.02);
	}
	return c;
}

static void ask(PGconn *c, const char *sql, char *out, size_t n)
{
	PGresult *r = PQexec(c, sql);

	ck_assert_msg(PQresultStatus(r) == PGRES_TUPLES_OK || PQresultStatus(r) == PGRES_COMMAND_OK, "%s: %s", at, PQresultErrorMessage(r));
	if (out)
		snprintf(out, n, "%s", PQntuples(r) ? PQgetvalue(r, 0, 0) : "");
	PQclear(r);
}

/* It waits for somebody's lock. */
static bool is_blocked(const struct session *s)
{
	char sql[96], n[16];

	snprintf(sql, sizeof sql, "select cardinality(pg_blocking_pids(%d))", s->pid);
	ask(watch, sql, n, sizeof n);
	return strcmp(n, "0") != 0;
}

static void finish(struct session *s)
{
	PGresult *r;

	while ((r = PQgetResult(conn(s))) != NULL) {
		if (PQresultStatus(r) == PGRES_FATAL_ERROR) {
			const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

			/* words for people (HP…) are answers; a deadlock, or a lock that was not given, is not */
			ck_assert_msg(state && strncmp(state, "HP", 2) == 0, "%s: %s", at, PQresultErrorMessage(r));
			s->failed = true;
			snprintf(s->answer, sizeof s->answer, "%s", state);
		} else if (PQntuples(r)) {
			snprintf(s->answer, sizeof s->answer, "%s", PQgetvalue(r, 0, 0));
		}
		PQclear(r);
	}
}

/* Until it has answered, or is seen to wait for another. */
static void settle(struct session *s)
{
	struct pollfd p = { .fd = PQsocket(conn(s)), .events = POLLIN };

	for (;;) {
		ck_assert_msg(PQconsumeInput(conn(s)), "%s: %s", at, PQerrorMessage(conn(s)));
		if (!PQisBusy(conn(s))) {
			finish(s);
			s->blocked = false;
			return;
		}
		if (poll(&p, 1, s->blocked ? 20 : 3) == 0 && is_blocked(s)) {
			s->blocked = true;
			return;
		}
	}
}

static void begin_step(struct session *s)
{
	char pid[16];

	ask(conn(s), "begin", NULL, 0);
	ask(conn(s), "select pg_backend_pid()", pid, sizeof pid);
	s->pid = (int)strtol(pid, NULL, 10);
	ck_assert(PQsendQuery(conn(s), s->op->sql));
	settle(s);
	waits += s->blocked;
	ck_assert_msg(!(passes && s->blocked && s->op->skips), "%s: %s waits for another's row", at, s->op->name);
}

/* Nobody has changed what it was told of, if anything: it has the rows until it ends. */
static void check_holds(struct session *s)
{
	const char *sql = strcmp(s->op->name, "look") == 0 ? LOOK_AT_C
		: strcmp(s->op->name, "reload") == 0 ? "select s.rev from public.il i join holdpoint.run_state s on s.run_id = i.run where i.role = 'C'"
		: NULL;
	char now[256];

	if (!sql || s->failed || !s->answer[0])
		return;
	ask(conn(s), sql, now, sizeof now);
	ck_assert_msg(strcmp(now, s->answer) == 0, "%s: %s was told %s, and it is %s before it has ended", at, s->op->name, s->answer, now);
}

static void die(struct session *s)
{
	char sql[96], n[16] = "1";

	PQfinish(conn(s));
	*(s->op->as_author ? &s->author : &s->c) = connect_as(s->op->as_author);
	snprintf(sql, sizeof sql, "select count(*) from pg_stat_activity where pid = %d and state like 'idle in%%'", s->pid);
	while (strcmp(n, "0") != 0) /* its locks end with its backend's transaction */
		ask(watch, sql, n, sizeof n);
}

static void end_step(struct session *s)
{
	check_holds(s);
	if (s->end == DIES)
		die(s);
	else
		ask(conn(s), s->end == COMMIT && !s->failed ? "commit" : "rollback", NULL, 0);
	s->ended = true;
}

/* ---- one order ---- */

/* order: whose step is next, each twice. Who waits has its end put off. */
static void run_order(const int *order, int n)
{
	int late[STEPS], n_late = 0;

	ask(f.super, "select public.il_world()", NULL, 0);
	if (also)
		ask(f.super, also, NULL, 0);
	for (int i = 0; i < SESSIONS; i++) {
		sessions[i].blocked = sessions[i].failed = sessions[i].ended = false;
		sessions[i].pid = 0;
		sessions[i].answer[0] = 0;
	}
	for (int i = 0; i < n; i++) {
		struct session *s = &sessions[order[i]];

		if (s->pid == 0)
			begin_step(s);
		else if (s->blocked)
			late[n_late++] = order[i];
		else
			end_step(s);
		for (int k = 0; k < SESSIONS; k++) /* whom that let go */
			if (sessions[k].blocked)
				settle(&sessions[k]);
	}
	for (int turn = 0; n_late > 0; turn++) {
		int i = turn % n_late;

		ck_assert_msg(turn < 200, "%s: somebody waits for ever", at);
		settle(&sessions[late[i]]);
		if (sessions[late[i]].blocked)
			continue;
		end_step(&sessions[late[i]]);
		late[i] = late[--n_late];
	}
	ask(f.super, "select public.il_heal()", NULL, 0);
	if (skips) /* what was skipped because it was locked is found by the next look */
		ask(f.super, "select count(*) from holdpoint.claim(2, 100, 99, '{}')", NULL, 0);
	orders++;
}

static const char *state(void)
{
	static char text[STATE_MAX];

	ask(f.super, "select public.il_state()", text, sizeof text);
	for (char *p = text; skips && (p = strstr(p, "owned ")) != NULL; p += 6)
		p[6] = '*'; /* who was first is chance; that it was one, epoch and rev say */
	return text;
}

static void check_right(void)
{
	char wrong[1024];

	ask(f.super, "select public.il_wrong()", wrong, sizeof wrong);
	ck_assert_msg(wrong[0] == 0, "%s:\n%s\n%s", at, wrong, state());
}

/* ---- all orders of some sessions ---- */

static char serials[64][STATE_MAX];
static int n_serials;

static void add_serial(const int *who, int n)
{
	int order[STEPS];

	for (int i = 0; i < 2 * n; i++)
		order[i] = who[i / 2];
	run_order(order, 2 * n);
	check_right();
	snprintf(serials[n_serials++], STATE_MAX, "%s", state());
}

/* Every order of those that are not in `out`; an operation that skips may have done nothing. */
static void serial_orders(int *who, int n, int at_place)
{
	if (at_place == n) {
		add_serial(who, n);
		return;
	}
	for (int i = at_place; i < n; i++) {
		int a = who[at_place];

		who[at_place] = who[i];
		who[i] = a;
		serial_orders(who, n, at_place + 1);
		who[i] = who[at_place];
		who[at_place] = a;
	}
}

static void all_serials(int n)
{
	n_serials = 0;
	for (int out = 0; out < 1 << n; out++) {
		int who[SESSIONS], k = 0;
		bool may = true;

		for (int i = 0; i < n; i++) {
			if (!(out >> i & 1))
				who[k++] = i;
			else
				may = may && sessions[i].op->skips;
		}
		if (may)
			serial_orders(who, k, 0);
	}
}

static bool is_serial(const char *s)
{
	for (int i = 0; i < n_serials; i++)
		if (strcmp(serials[i], s) == 0)
			return true;
	return false;
}

static void one_order(const int *order, int n)
{
	const char *s;

	run_order(order, 2 * n);
	check_right();
	s = state();
	ck_assert_msg(is_serial(s), "%s, order %d%d%d%d%s: as after no serial order:\n%s\n--- serial:\n%s\n--- serial:\n%s", at, order[0], order[1],
		      order[2], order[3], n > 2 ? "…" : "", s, serials[0], serials[n_serials - 1]);
}

static void every_order(int *order, int *left, int n, int place)
{
	if (place == 2 * n) {
		one_order(order, n);
		return;
	}
	for (int i = 0; i < n; i++) {
		if (left[i] == 0)
			continue;
		left[i]--;
		order[place] = i;
		every_order(order, left, n, place + 1);
		left[i]++;
	}
}

static void meet(const struct op *const *of, const enum end *ends, int n)
{
	at[0] = 0;
	skips = false;
	for (int i = 0; i < n; i++) {
		skips = skips || of[i]->skips;
		sessions[i].op = of[i];
		sessions[i].end = ends[i];
		snprintf(at + strlen(at), sizeof at - strlen(at), "%s%s (%s)", i ? " × " : "", of[i]->name, end_words[ends[i]]);
	}
	all_serials(n);
}

static void cross(const struct op *const *of, const enum end *ends, int n)
{
	int order[STEPS], left[SESSIONS] = { 2, 2, 2 };
	long orders_before = orders, waits_before = waits;

	meet(of, ends, n);
	every_order(order, left, n, 0);
	if (getenv("HP_INTERLEAVE"))
		printf("  %-70s %3ld orders, %3ld waited\n", at, orders - orders_before, waits - waits_before);
}

/* ---- the suites ---- */

static bool is_long(void)
{
	const char *v = getenv("HP_INTERLEAVE");

	return v && strcmp(v, "long") == 0;
}

static void open_world(bool through)
{
	FILE *o = fopen("tests/integration/lib/interleave.sql", "r");
	static char text[1 << 16];

	ck_assert_ptr_nonnull(o);
	text[fread(text, 1, sizeof text - 1, o)] = 0;
	fclose(o);
	fx_open(&f);
	fx_deploy(&f, "flow", flow);
	fx_deploy(&f, "child", child);
	fx_sql(&f, "insert into holdpoint.principal (name, kind, created_at) values ('alice', 'person', 0), ('bob', 'person', 0)");
	fx_sql(&f, "insert into holdpoint.role_member values ('alice', 'ops'), ('bob', 'ops')");
	ask(f.super, text, NULL, 0);
	fx_store_free(&f, f.store); /* its connections are not needed */
	f.store = NULL;
	pooled = through;
	if (through)
		bouncer_start(f.super, 8);
	watch = PQconnectdb(f.super_info);
	ck_assert_int_eq(PQstatus(watch), CONNECTION_OK);
	for (int i = 0; i < SESSIONS; i++) {
		sessions[i].c = connect_as(false);
		sessions[i].author = connect_as(true);
	}
	orders = waits = 0;
}

static void close_world(void)
{
	printf("interleavings%s: %ld orders, in %ld somebody waited\n", pooled ? " through pgbouncer" : "", orders, waits);
	ck_assert(!is_long() || waits > 200); /* they do meet */
	for (int i = 0; i < SESSIONS; i++) {
		PQfinish(sessions[i].c);
		PQfinish(sessions[i].author);
	}
	PQfinish(watch);
	if (pooled)
		bouncer_stop();
	fx_close(&f);
}

static const struct op *op_of(const char *name)
{
	for (int i = 0; i < ALL_OPS; i++)
		if (strcmp(ops[i].name, name) == 0)
			return &ops[i];
	ck_abort_msg("there is no operation \"%s\"", name);
}

/* Whoever looks for work passes by what another has locked: also when it has seen a row and is then
 * held up (its engine's heartbeat has the engine's row), and the other takes the run and commits. */
static void held_up(void)
{
	static const char *const worlds[] = { "select 1", /* R, of the ready list; M, whose timer is due */
		"with r as (update holdpoint.ready y set engine_id = 2 from public.il i where i.role = 'R' and y.run_id = i.run) "
		"insert into holdpoint.timer select run, holdpoint.now_us() from public.il where role = 'M'" };
	const struct op *three[3] = { op_of("heartbeat of another"), op_of("claim of another"), op_of("claim") };
	const enum end ends[3] = { COMMIT, COMMIT, COMMIT };
	const int order[STEPS] = { 0, 1, 2, 2, 0, 1 };

	for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
		also = worlds[i];
		meet(three, ends, 3);
		waits = 0;
		one_order(order, 3);
		ck_assert_msg(waits == 1, "%s: nobody was held up", at);
	}
	also = NULL;
}

/* Always: for each lock of a row those who meet at it, and what would come of them without it
 * (tests/mutants.txt, sql_lock_…). */
static void meetings(size_t n)
{
	static const struct {
		const char *a, *b;
		bool passes;
	} of[] = {
		{ "commit: parks", "event to one who parks", false }, { "commit: parks", "cancel", false }, { "commit: parks", "release", false },
		{ "commit: parks", "reload", false }, { "commit: parks", "look", false }, { "commit: parks", "commit: takes a place", false },
		{ "claim", "claim of another", true }, { "cancel of who is ready", "claim", true },
	};
	const enum end ends[2] = { COMMIT, COMMIT };

	for (size_t i = 0; i < n && i < sizeof of / sizeof *of; i++) {
		const struct op *two[2] = { op_of(of[i].a), op_of(of[i].b) };

		passes = of[i].passes;
		cross(two, ends, 2);
	}
	passes = false;
}

static void cross_pair(int a, int b, int ends)
{
	for (int e = 0; e < ends; e++) {
		const struct op *of[2] = { &ops[a], &ops[b] };
		const enum end both[2] = { (enum end)(e / 3), (enum end)(e % 3) };

		cross(of, both, 2);
	}
}

/* All pairs and all ends; in the short form as many pairs as are asked for, with one end each: the
 * same ones every time, for `make test` must not depend on chance. HP_SEED=… takes others. */
static void pairs(int few)
{
	const int all = OPS * (OPS + 1) / 2, every = is_long() ? 1 : all / few;
	const char *given = getenv("HP_SEED");
	int skip = is_long() ? 0 : (int)((given ? strtoul(given, NULL, 10) : 1) % (unsigned long)every), n = 0, crossed = 0;

	for (int a = 0; a < OPS; a++)
		for (int b = a; b < OPS; b++, n++)
			if (n % every == skip && (is_long() || crossed < few)) {
				cross_pair(a, b, is_long() ? 9 : 1);
				crossed++;
			}
	printf("interleavings: %d of %d pairs%s\n", crossed, all, is_long() ? ", nine ends each" : ", HP_SEED=… takes others");
	ck_assert_int_eq(crossed, is_long() ? all : few);
}

/* Where three may meet: at one run, one mailbox, one key, one family. */
static void triples(void)
{
	static const char *const of[][3] = {
		{ "commit: parks", "event to one who parks", "claim" }, { "commit: parks", "event to one who parks", "cancel" },
		{ "commit: parks", "webhook", "stop" }, { "child ends", "parent parks", "cancel of the parent" },
		{ "child ends", "parent parks", "claim of another" }, { "start by key", "webhook", "start by key" },
		{ "commit: child by key", "start of the child's key", "cancel" }, { "approve", "reject", "claim" },
		{ "heartbeat", "claim", "release" }, { "commit of a statement", "cancel", "pause" },
	};
	const enum end ends[3] = { COMMIT, COMMIT, COMMIT };

	for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
		const struct op *three[3] = { op_of(of[i][0]), op_of(of[i][1]), op_of(of[i][2]) };

		cross(three, ends, 3);
	}
}

START_TEST(directly)
{
	open_world(false);
	held_up();
	meetings(SIZE_MAX);
	pairs(40);
	if (is_long())
		triples();
	close_world();
}
END_TEST

START_TEST(through_a_pooler)
{
	open_world(true);
	meetings(1);
	pairs(16);
	close_world();
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("interleavings");

	tcase_set_timeout(t, is_long() ? 3600 : 120);
	tcase_add_test(t, directly);
	tcase_add_test(t, through_a_pooler);
	return hp_run_case("store interleave", t);
}
