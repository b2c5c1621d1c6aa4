/* cmd_fsck.c: holdpoint fsck: is what the database says of each run one story?
 *
 * The looks are SQL (migrations/holdpoint/0020_fsck.sql); here are the way through all
 * ranges of runs, the words for people, and the exit code: 0 nothing is wrong, 1 something
 * is, anything else: it could not be found out.
 *
 * Read-only by construction: each range is one READ ONLY transaction with a snapshot and
 * time-outs of its own, so no snapshot is held for long (claims would slow down) and
 * nothing is waited for. Settings are LOCAL: a pooler in transaction mode changes nothing.
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"

#define RANGE_FIRST 500     /* runs */
#define RANGE_MAX 20000
#define RANGE_SHORT (150 * HP_MSEC) /* took less: the next one is larger */
#define RANGE_LONG (600 * HP_MSEC)
#define PAGE 2000           /* rows of what belongs to no run */
#define SHOWN 10
#define SHOWN_MAX 1000
#define TRIES 5             /* of a range that met a lock */

enum { FOUND = 1, UNKNOWN = 6 /* as what cannot be reached */ }; /* exit codes */

static const struct cli_option options[] = {
	{ "database", "CONNINFO", "as holdpoint_engine, or a role that may read (else the engine's private database)" },
	{ "data", "DIR", "the engine's data directory (else $HOLDPOINT_DATA)" },
	{ "run", "ID", "this run only" },
	{ "limit", "N", "how many violations of a check are listed (10)" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "fsck", .args = "",
	.text = "Checks the promises that can be checked in the database, and changes nothing: that what has\n"
		"ended stays ended, that history has no gap and only ways that the definition has, that each\n"
		"run stands where its history says, has what moves it and nothing else, that approvals hold\n"
		"what was signed, and that counters are what they count. It reads everything once, in ranges\n"
		"of runs, each in a short read-only transaction; engines may work meanwhile. It ends with 0\n"
		"when nothing is wrong and with 1 when something is.",
	.examples = "  holdpoint fsck\n  holdpoint fsck --run 17\n"
		    "  holdpoint fsck --database 'host=/run/postgresql dbname=app user=holdpoint_engine' --json",
	.options = options,
};

/* In the order of the report. unit NULL: there is nothing to look at yet. */
static const struct check {
	int invariant; /* its number in docs/reliability.md; 0: none */
	const char *name, *title, *unit, *todo;
} checks[] = {
	{ 7, "final", "what has ended stays ended", "runs",
	  "Look at holdpoint history RUN: what is written after its end has no right to be there. Restore from a backup." },
	{ 8, "visits", "visits without a gap, ways as the definition has them", "moves",
	  "Look at holdpoint history RUN. Rows are missing, were changed, or belong to another definition: restore from a backup." },
	{ 9, "fold", "runs stand where their history ends", "runs",
	  "Compare holdpoint show RUN with holdpoint history RUN. Pause the run (holdpoint pause RUN) until you know which is right." },
	{ 9, "saved", "saved values belong to a move", "values",
	  "Look at holdpoint show RUN and holdpoint history RUN: the value has no origin. Restore from a backup." },
	{ 9, "keys", "keys of runs and effects belong to who has them", "keys",
	  "A second run, or a second effect, could be let in under such a key. Pause the run, then restore from a backup." },
	{ 10, "epochs", "epochs never go back", "moves",
	  "Two workers may have had the run at once. Pause it, and compare with the provider what was sent." },
	{ 12, "causes", "every live run has what moves it", "runs",
	  "holdpoint why RUN says what it waits for. holdpoint pause RUN and holdpoint resume RUN put it on the ready list again." },
	{ 12, "rows", "lists and marks fit the runs", "runs",
	  "holdpoint show RUN says where it stands. A row too many or too few is not healed by itself: restore from a backup." },
	{ 12, "orphans", "no rows of runs that are not there", "runs",
	  "The run is gone and a row of it is not, or the other way round: restore from a backup." },
	{ 13, "overdue", "nobody is overlooked", "runs",
	  "holdpoint why RUN. Look for a transaction that holds its row for long (pg_stat_activity), and at the engines' log." },
	{ 14, "timers", "nothing happens before its time", "moves",
	  "Look at holdpoint history RUN, and whether the database's clock was set back." },
	{ 15, "mail", "messages are read from where they came", "messages",
	  "Look at holdpoint show RUN and holdpoint events: the run waits for, or has read, what is not its own." },
	{ 16, "approvals", "approvals: what was signed, by whom, in time", "approvals",
	  "Do not trust what the run did after it: look at holdpoint approvals ID and at the provider." },
	{ 17, "schedules", "one run for each tick", "schedules and their runs",
	  "holdpoint schedules show NAME lists the ticks." },
	{ 0, "triggers", "webhooks find what they start", "workflows",
	  "Deploy the workflow again: that writes which events start it. What came meanwhile was refused with 503." },
	{ 20, "audit", "the audit chain", NULL, NULL },
	{ 21, "feed", "the event feed", NULL, NULL },
	{ 0, "children", "families count their children", "children",
	  "holdpoint show RUN lists its children. Cancel or retry the parent when they do not fit." },
	{ 0, "undo", "what went back is undone", "entries", "holdpoint show RUN lists its undo log: compare with the provider." },
	{ 0, "sweeps", "sweeps count their rows", "sweeps", "holdpoint show RUN says where the sweep stands." },
	{ 0, "limits", "limits count their holders", "limits and permits",
	  "holdpoint limits lists them. A place that nobody has is given back by nobody: restore from a backup." },
	{ 0, "secrets", "secrets have one current version", "secrets", "holdpoint secret list NAME lists its versions." },
};
#define CHECKS (sizeof checks / sizeof checks[0])

struct fsck {
	PGconn *pg;
	int most;                /* shown of each check */
	int64_t runs;            /* looked at */
	int64_t last, newest;    /* the highest number when it began, and now */
	int64_t ranges, longest; /* µs */
	struct {
		int64_t looked, wrong;
		json_t *found;
	} of[CHECKS];
};

/* ---- one transaction ---- */

#define BEGIN                                                                                            \
	"begin transaction isolation level repeatable read read only;"                                   \
	"set local statement_timeout = '30s'; set local lock_timeout = '2s';"                            \
	"set local idle_in_transaction_session_timeout = '30s'; set local jit = off;"                    \
	/* everything is looked up by key, whatever the statistics say */                                \
	"set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off;" \
	"set local plan_cache_mode = force_generic_plan"

enum answer { ANSWERED, LOCKED, TIMED_OUT, FAILED };

static int simple(struct fsck *f, const char *text, struct hp_error *err)
{
	PGresult *r = PQexec(f->pg, text);
	int rc = PQresultStatus(r) == PGRES_COMMAND_OK
			 ? 0
			 : hp_fail(err, HP_E_UNAVAILABLE, "the database says: %.*s",
				   (int)strcspn(PQerrorMessage(f->pg), "\n"), PQerrorMessage(f->pg));

	PQclear(r);
	return rc;
}

static enum answer why_not(struct fsck *f, const PGresult *r, struct hp_error *err)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	const char *text = PQerrorMessage(f->pg);

	(void)hp_fail(err, HP_E_UNAVAILABLE, "the database says: %.*s", (int)strcspn(text, "\n"), text);
	if (PQstatus(f->pg) != CONNECTION_OK)
		return FAILED;
	(void)simple(f, "rollback", NULL);
	if (state && strcmp(state, "57014") == 0)
		return TIMED_OUT;
	if (state && (strcmp(state, "55P03") == 0 || strcmp(state, "40001") == 0)) /* the latter: on a standby */
		return LOCKED;
	return FAILED;
}

/* One statement in a transaction of its own. *out: the caller's to clear. */
static enum answer ask(struct fsck *f, const char *text, int n, const char *const *values, PGresult **out,
		       struct hp_error *err)
{
	enum answer a = FAILED;
	PGresult *r;

	*out = NULL;
	if (simple(f, BEGIN, err) < 0)
		return FAILED;
	r = PQexecParams(f->pg, text, n, NULL, values, NULL, NULL, 0);
	if (PQresultStatus(r) != PGRES_TUPLES_OK || PQntuples(r) != 1) {
		a = why_not(f, r, err);
	} else if (simple(f, "commit", err) == 0) {
		*out = r;
		return ANSWERED;
	}
	PQclear(r);
	return a;
}

/* ---- what was found ---- */

static size_t check_of(const char *name)
{
	size_t i = 0;

	while (i < CHECKS && (!name || strcmp(checks[i].name, name) != 0))
		i++;
	return i;
}

static void add_found(struct fsck *f, const json_t *found)
{
	const json_t *one;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)found, i, one) {
		size_t c = check_of(hp_json_str(one, "check"));

		if (c < CHECKS && json_array_size(f->of[c].found) < (size_t)f->most)
			json_array_append(f->of[c].found, (json_t *)(uintptr_t)one);
	}
}

static int add_range(struct fsck *f, const char *text, struct hp_error *err)
{
	json_t *doc = hp_json_parse(text, strlen(text), "answer", err);

	if (!doc)
		return -1;
	for (size_t c = 0; c < CHECKS; c++) {
		f->of[c].looked += hp_json_int(json_object_get(doc, "looked"), checks[c].name, 0);
		f->of[c].wrong += hp_json_int(json_object_get(doc, "wrong"), checks[c].name, 0);
	}
	f->runs += hp_json_int(json_object_get(doc, "looked"), "fold", 0);
	add_found(f, json_object_get(doc, "found"));
	json_decref(doc);
	return 0;
}

/* ---- the way through ---- */

/* Runs from `from` on, about n of them. *until: where the next range begins; 0: nowhere. */
static enum answer range(struct fsck *f, int64_t from, int n, int64_t *until, struct hp_error *err)
{
	char a[24], b[16], c[16];
	const char *const values[] = { a, b, c };
	int64_t began = hp_boottime_us();
	PGresult *r;
	enum answer said;

	(void)snprintf(a, sizeof a, "%" PRId64, from);
	(void)snprintf(b, sizeof b, "%d", n);
	(void)snprintf(c, sizeof c, "%d", f->most);
	said = ask(f,
		   "select n.o_until, n.o_last, holdpoint.fsck_runs($1, coalesce(n.o_until, 9223372036854775807), $3) "
		   "from holdpoint.fsck_next($1, $2) n",
		   3, values, &r, err);
	if (said != ANSWERED)
		return said;
	*until = PQgetisnull(r, 0, 0) ? 0 : strtoll(PQgetvalue(r, 0, 0), NULL, 10);
	f->newest = strtoll(PQgetvalue(r, 0, 1), NULL, 10);
	if (f->ranges++ == 0)
		f->last = f->newest;
	if (add_range(f, PQgetvalue(r, 0, 2), err) < 0)
		said = FAILED;
	PQclear(r);
	if (hp_boottime_us() - began > f->longest)
		f->longest = hp_boottime_us() - began;
	return said;
}

static void progress(const struct fsck *f, int64_t from, bool over)
{
	static bool shown;

	if (!isatty(STDERR_FILENO) || (over && !shown))
		return;
	shown = true;
	if (over)
		fprintf(stderr, "\r\033[K");
	else
		fprintf(stderr, "\r%" PRId64 " runs looked at, up to run %" PRId64 " of %" PRId64 "\033[K", f->runs,
			from, f->last);
	(void)fflush(stderr);
}

/* The next range is as large as the last one was fast. */
static int adapt(int n, int64_t took)
{
	if (took < RANGE_SHORT)
		return n * 2 > RANGE_MAX ? RANGE_MAX : n * 2;
	return took > RANGE_LONG && n > RANGE_FIRST ? n / 2 : n; /* smaller ones would mostly be planned */
}

/* Up to the last of the runs that there were when it began: who starts runs meanwhile does not
 * keep it busy for ever. Where the next range begins; -1: err says why it went no further. */
static int64_t all_runs(struct fsck *f, struct hp_error *err)
{
	int64_t from = 0, until, began;
	int n = RANGE_FIRST, tries = 0;

	for (;;) {
		enum answer said;

		began = hp_boottime_us();
		said = range(f, from, n, &until, err);
		if (said == TIMED_OUT && n > 1) {
			n /= 2;
			continue;
		}
		if (said == TIMED_OUT)
			return hp_fail(err, HP_E_TIMEOUT, "the first run after number %" PRId64 " has too much to be looked at in 30 s",
				       from - 1);
		if (said == LOCKED && ++tries < TRIES) {
			cli_pause(500 * HP_MSEC);
			continue;
		}
		if (said != ANSWERED)
			return -1;
		tries = 0;
		n = adapt(n, hp_boottime_us() - began);
		from = until;
		progress(f, from, false);
		if (from <= 0 || from > f->last)
			return from;
	}
}

/* Of limiters, keys, … : page by page. */
static int rest(struct fsck *f, const char *what, size_t check, struct hp_error *err)
{
	char b[16], c[16];
	const char *values[] = { what, NULL, b, c };
	struct hp_buf after;
	json_t *doc;
	int rc, tries = 0;

	hp_buf_init(&after, 64 * 1024);
	(void)snprintf(b, sizeof b, "%d", PAGE);
	(void)snprintf(c, sizeof c, "%d", f->most);
	do {
		PGresult *r;
		enum answer said = ask(f, "select holdpoint.fsck_rest($1, $2, $3, $4)", 4, values, &r, err);

		rc = said == ANSWERED || (said == LOCKED && ++tries < TRIES) ? 0 : -1;
		if (said != ANSWERED) {
			cli_pause(500 * HP_MSEC);
			continue;
		}
		doc = hp_json_parse(PQgetvalue(r, 0, 0), strlen(PQgetvalue(r, 0, 0)), "answer", err);
		PQclear(r);
		f->of[check].looked += hp_json_int(doc, "looked", 0);
		f->of[check].wrong += hp_json_int(doc, "wrong", 0);
		add_found(f, json_object_get(doc, "found"));
		hp_buf_clear(&after);
		rc = !doc ? -1 : json_object_get(doc, "next") ? hp_json_write(&after, json_object_get(doc, "next"), err) : 0;
		values[1] = after.n ? hp_buf_str(&after) : NULL;
		json_decref(doc);
		tries = 0;
	} while (rc == 0 && (values[1] || tries > 0));
	hp_buf_free(&after);
	return rc;
}

static int everything(struct fsck *f, struct hp_error *err)
{
	static const char *const what[][2] = { { "limits", "limits" }, { "run_keys", "keys" }, { "effect_keys", "keys" },
					       { "schedules", "schedules" }, { "triggers", "triggers" },
					       { "secrets", "secrets" } };
	int64_t until = all_runs(f, err);
	int rc = until < 0 ? -1 : 0;

	/* rows of numbers that no run has had yet belong to nobody */
	if (until > 0 && range(f, f->newest + 1, RANGE_MAX, &until, err) != ANSWERED)
		rc = -1;
	for (size_t i = 0; rc == 0 && i < sizeof what / sizeof what[0]; i++)
		rc = rest(f, what[i][0], check_of(what[i][1]), err);
	progress(f, 0, true);
	return rc;
}

static int one_run(struct fsck *f, int64_t run, struct hp_error *err)
{
	char a[24], b[24], c[16];
	const char *const values[] = { a, b, c };
	int64_t wrong = 0;
	PGresult *r;

	(void)snprintf(a, sizeof a, "%" PRId64, run);
	(void)snprintf(b, sizeof b, "%" PRId64, run + 1);
	(void)snprintf(c, sizeof c, "%d", f->most);
	if (ask(f, "select holdpoint.fsck_runs($1, $2, $3)", 3, values, &r, err) != ANSWERED ||
	    add_range(f, PQgetvalue(r, 0, 0), err) < 0) {
		PQclear(r);
		return -1;
	}
	PQclear(r);
	f->ranges = 1;
	for (size_t i = 0; i < CHECKS; i++)
		wrong += f->of[i].wrong;
	if (f->runs == 0 && wrong == 0)
		return hp_fail(err, HP_E_NOT_FOUND, "there is no run %" PRId64, run);
	return 0;
}

/* ---- the report ---- */

static int64_t all_wrong(const struct fsck *f)
{
	int64_t n = 0;

	for (size_t i = 0; i < CHECKS; i++)
		n += f->of[i].wrong;
	return n;
}

static int print_json(const struct fsck *f, struct hp_error *err)
{
	json_t *list = json_array(), *doc;
	int rc;

	for (size_t i = 0; i < CHECKS; i++) {
		const struct check *c = &checks[i];
		json_t *one = json_pack("{s:s, s:s, s:b}", "check", c->name, "title", c->title, "built", c->unit != NULL);

		if (c->invariant)
			json_object_set_new(one, "invariant", json_integer(c->invariant));
		if (c->unit) {
			json_object_set_new(one, "looked", json_integer(f->of[i].looked));
			json_object_set_new(one, "wrong", json_integer(f->of[i].wrong));
			json_object_set(one, "found", f->of[i].found);
		}
		if (f->of[i].wrong > 0)
			json_object_set_new(one, "todo", json_string(c->todo));
		json_array_append_new(list, one);
	}
	doc = json_pack("{s:b, s:I, s:I, s:I, s:o}", "clean", all_wrong(f) == 0, "runs", (json_int_t)f->runs, "ranges",
			(json_int_t)f->ranges, "longest_us", (json_int_t)f->longest, "checks", list);
	rc = cli_print_json(doc, err);
	json_decref(doc);
	return rc;
}

static void print_found(const struct fsck *f, size_t c)
{
	const json_t *one;
	size_t i;

	json_array_foreach(f->of[c].found, i, one) {
		int64_t run = hp_json_int(one, "run", 0);

		printf("       ");
		if (run)
			printf("run %" PRId64 ": ", run);
		cli_line(hp_json_str(one, "what"));
	}
	if (f->of[c].wrong > (int64_t)json_array_size(f->of[c].found))
		printf("       … and %" PRId64 " more\n", f->of[c].wrong - (int64_t)json_array_size(f->of[c].found));
	printf("       → %s\n", checks[c].todo);
}

static void print(const struct fsck *f, int64_t took)
{
	for (size_t i = 0; i < CHECKS; i++) {
		const struct check *c = &checks[i];
		char number[8] = "";

		if (c->invariant)
			(void)snprintf(number, sizeof number, "%d", c->invariant);
		printf("%4s  %-56s ", number, c->title);
		if (!c->unit) {
			printf("not built yet: nothing to check\n");
		} else if (f->of[i].wrong == 0) {
			printf("%sok%s  %" PRId64 " %s\n", cli_colour("green"), cli_colour(""), f->of[i].looked, c->unit);
		} else {
			printf("%s%" PRId64 " wrong%s of %" PRId64 " %s\n", cli_colour("red"), f->of[i].wrong, cli_colour(""),
			       f->of[i].looked, c->unit);
			print_found(f, i);
		}
	}
	printf("\n%" PRId64 " runs in %" PRId64 " ranges, %.1f s, the longest snapshot %.2f s: ", f->runs, f->ranges,
	       (double)took / 1e6, (double)f->longest / 1e6);
	if (all_wrong(f) == 0)
		printf("nothing is wrong\n");
	else
		printf("%" PRId64 " wrong\n", all_wrong(f));
}

/* ---- the command ---- */

static int connect_to(struct fsck *f, const struct cli_args *a, struct hp_error *err)
{
	char super[PATH_MAX + 64], private[sizeof super + 32];
	const char *database = cli_value(a, "database");
	PGresult *r;
	bool known;

	if (!database) {
		if (cli_private_database(a, super, sizeof super, err) < 0)
			return -1;
		/* the last one counts: who checks needs no right to change anything else */
		(void)snprintf(private, sizeof private, "%s user=holdpoint_engine", super);
		database = private;
	}
	f->pg = PQconnectdb(database);
	if (!f->pg || PQstatus(f->pg) != CONNECTION_OK) {
		const char *why = f->pg ? PQerrorMessage(f->pg) : "no memory";

		(void)hp_fail(err, HP_E_UNAVAILABLE, "cannot connect to the database: %.*s", (int)strcspn(why, "\n"), why);
		return hp_error_hint(err, "--database takes a libpq connection string: 'host=… user=holdpoint_engine dbname=…'.");
	}
	if (ask(f, "select to_regprocedure('holdpoint.fsck_rest(text, jsonb, int, int)') is not null", 0, NULL, &r, err) != ANSWERED)
		return -1;
	known = PQgetvalue(r, 0, 0)[0] == 't';
	PQclear(r);
	if (known)
		return 0;
	(void)hp_fail(err, HP_E_CONFLICT, "the schema of this database is missing, or older than this program");
	return hp_error_hint(err, "holdpoint migrate brings it up to date.");
}

static int fsck(const struct cli_args *a, struct hp_error *err)
{
	struct fsck f = { .most = SHOWN };
	const char *run = cli_value(a, "run"), *limit = cli_value(a, "limit");
	int64_t id = 0, most = SHOWN, began = hp_boottime_us();
	int rc = -1;

	for (size_t i = 0; i < CHECKS; i++)
		f.of[i].found = json_array();
	if ((run && cli_number(run, "a run", &id, err) < 0) || (limit && cli_number(limit, "violations", &most, err) < 0))
		goto out;
	if (most > SHOWN_MAX) {
		hp_fail(err, HP_E_INVALID, "fsck: --limit is at most %d", SHOWN_MAX);
		goto out;
	}
	f.most = (int)most;
	if (connect_to(&f, a, err) < 0 || (run ? one_run(&f, id, err) : everything(&f, err)) < 0)
		goto out;
	rc = 0;
	if (a->json)
		rc = print_json(&f, err);
	else
		print(&f, hp_boottime_us() - began);
	if (rc == 0)
		rc = all_wrong(&f) > 0 ? FOUND : 0;
out:
	for (size_t i = 0; i < CHECKS; i++)
		json_decref(f.of[i].found);
	PQfinish(f.pg);
	return rc;
}

int hp_cmd_fsck(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	code = fsck(&a, &err);
	if (code >= 0)
		return code;
	code = cli_error(&a, &err);
	return code == FOUND ? UNKNOWN : code;
}
