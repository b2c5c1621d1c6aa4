/* cmd_test.c: holdpoint test: authors' tests, run and told. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/sources.h"
#include "runtime/place.h"
#include "runtime/scratch.h"
#include "testing/test.h"

static const struct cli_option options[] = {
	{ "filter", "NAME", "only tests with NAME in their name" },
	{ "verbose", NULL, "print what happened in every test" },
	{ "plugins", "DIR", "where the connectors are" },
	{ "real", NULL, "run statements in PostgreSQL, and ask simulated providers" },
	{ "database", "CONNINFO", "for --real: a superuser of a server for tests, else a private one is started" },
	{ "migrations", "DIR", "for --real: the scopes of your tables (DIR/club/0001_members.sql)" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "test", .args = "[PATH...]",
	.text = "Runs test files (of a directory every *_test.lua; without PATH those of workflows/)\n"
		"on the engine's own machine, with answers from the test and a clock of its own:\n"
		"nothing is sent and nobody waits. Exits 1 when a test failed, 2 when a test file\n"
		"is wrong. docs/testing.md says how to write one.\n"
		"With --real each test has a database of its own, NAME_test.sql is its seed.",
	.examples = "  holdpoint test\n  holdpoint test workflows/card_add_test.lua -k rejected --verbose\n"
		    "  holdpoint test --real",
	.options = options, .max_args = CLI_ARGS_MAX, .letter = "k", .letter_of = "filter",
};

struct run {
	const struct cli_args *a;
	const char *path;
	json_t *list;
	int passed, failed, broken, skipped;
};

/* ---- --real ---- */

struct real {
	struct hp_scratch *server; /* NULL: --database */
	struct hp_real *databases;
};

static volatile bool stopped;

/* What was made is taken away before we go. */
static void on_signal(int sig)
{
	(void)sig;
	stopped = true;
}

static int open_real(const struct cli_args *a, struct real *r, struct hp_error *err)
{
	const struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	const char *database = cli_value(a, "database");
	char engine[PATH_MAX], scopes[PATH_MAX];

	if (!cli_has(a, "real") && (database || cli_value(a, "migrations"))) {
		hp_fail(err, HP_E_INVALID, "test: --%s is for --real", database ? "database" : "migrations");
		return -1;
	}
	if (!cli_has(a, "real"))
		return 0;
	if (hp_place_resource(NULL, "migrations", engine, err) < 0 ||
	    hp_place_resource(cli_value(a, "migrations"), "migrations", scopes, err) < 0)
		return -1;
	hp_log_init("test", HP_WARN);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGHUP, &act, NULL);
	if (!database) {
		r->server = hp_scratch_start(&stopped, err);
		if (!r->server)
			return -1;
		database = hp_scratch_conninfo(r->server);
	}
	r->databases = hp_real_new(database, engine, scopes, err);
	return r->databases ? 0 : -1;
}

static void close_real(struct real *r)
{
	hp_real_free(r->databases);
	hp_scratch_end(r->server);
}

/* ---- telling ---- */

static const char *text(const json_t *row, const char *name)
{
	const char *s = hp_json_str(row, name);

	return s ? s : "";
}

/* One thing that happened: "  +30s  retry  refund (code): message". */
static void print_row(const json_t *row, int64_t first)
{
	char took[32];
	int64_t at = cli_time_us(text(row, "at"));

	printf("    %8s  ", at > first ? hp_duration_format(at - first, took, sizeof took) : "0s");
	if (hp_json_str(row, "request"))
		printf("%s answers %s: %s", text(row, "request"), text(row, "state"), text(row, "outcome"));
	else if (hp_json_str(row, "statement"))
		printf("the database answers %s: %s", text(row, "statement"), text(row, "outcome"));
	else if (hp_json_str(row, "door"))
		printf("%s by %s", text(row, "door"), text(row, "by"));
	else if (strcmp(text(row, "from"), text(row, "state")) != 0 && *text(row, "from"))
		printf("%s %s -> %s", text(row, "move"), text(row, "from"), text(row, "state"));
	else
		printf("%s %s", text(row, "move"), text(row, "state"));
	if (*text(row, "status") && strcmp(text(row, "status"), "running") != 0)
		printf(" [%s]", text(row, "status"));
	if (*text(row, "code"))
		printf(" (%s)", text(row, "code"));
	if (*text(row, "message")) {
		printf(": ");
		cli_put(text(row, "message"));
	}
	putchar('\n');
}

static void print_timeline(const json_t *timeline)
{
	const json_t *row;
	size_t i;
	int64_t first = cli_time_us(text(json_array_get(timeline, 0), "at"));

	json_array_foreach((json_t *)(uintptr_t)timeline, i, row)
		print_row(row, first);
}

static void print_result(const struct run *r, const struct hp_test_result *t)
{
	bool verbose = cli_has(r->a, "verbose");

	if (!verbose && (t->passed || t->skipped))
		return;
	if (t->skipped) {
		printf("skipped ");
		cli_put(t->name);
		putchar('\n');
		return;
	}
	if (t->passed) {
		printf("%sok%s ", cli_colour("green"), cli_colour(""));
		cli_put(t->name);
		putchar('\n');
	} else {
		cli_put(r->path);
		printf(":%d: %sFAILED%s ", t->failed_line ? t->failed_line : t->line, cli_colour("red"), cli_colour(""));
		cli_put(t->name);
		printf("\n  ");
		cli_put(t->message);
		putchar('\n');
	}
	if (verbose)
		print_timeline(t->timeline);
}

static void on_result(void *arg, const struct hp_test_result *t)
{
	struct run *r = arg;
	json_t *row;

	r->passed += t->passed;
	r->skipped += t->skipped;
	r->failed += !t->passed && !t->skipped;
	if (!r->a->json) {
		print_result(r, t);
		return;
	}
	row = json_pack("{s:s, s:i, s:s, s:b}", "file", r->path, "line", t->failed_line ? t->failed_line : t->line, "name",
			t->name, "passed", t->passed ? 1 : 0);
	if (t->skipped)
		json_object_set_new(row, "skipped", json_true());
	if (t->message)
		json_object_set_new(row, "message", json_string(t->message));
	if (t->expected) {
		json_object_set_new(row, "expected", json_string(t->expected));
		json_object_set_new(row, "actual", json_string(t->actual));
	}
	if (cli_has(r->a, "verbose") && t->timeline)
		json_object_set_new(row, "timeline", json_deep_copy(t->timeline));
	json_array_append_new(r->list, row);
}

/* A file that cannot be run counts as a failure of its own. */
static void broken(struct run *r, const struct hp_error *err)
{
	r->failed++;
	r->broken++;
	if (r->a->json) {
		json_array_append_new(r->list, json_pack("{s:s, s:b, s:s, s:s}", "file", r->path, "passed", 0, "message",
							 err->message, "hint", err->hint));
		return;
	}
	if (strstr(err->message, ".lua") == NULL) {
		cli_put(r->path);
		printf(": ");
	}
	cli_put(err->message);
	if (err->hint[0]) {
		printf("\n  ");
		cli_put(err->hint);
	}
	putchar('\n');
}

static int summary(struct run *r, struct hp_error *err)
{
	json_t *doc;
	int rc;

	if (stopped)
		return hp_fail(err, HP_E_UNAVAILABLE, "stopped after %d passed, %d failed", r->passed, r->failed);
	if (r->passed + r->failed + r->skipped == 0) {
		hp_fail(err, HP_E_NOT_FOUND, "no test has \"%.100s\" in its name", cli_value(r->a, "filter"));
		return -1;
	}
	if (r->a->json) {
		doc = json_pack("{s:i, s:i, s:O}", "passed", r->passed, "failed", r->failed, "tests", r->list);
		if (r->skipped)
			json_object_set_new(doc, "skipped", json_integer(r->skipped));
		rc = cli_print_json(doc, err);
		json_decref(doc);
		return rc;
	}
	printf("%d passed, %d failed", r->passed, r->failed);
	if (r->skipped)
		printf(", %d skipped", r->skipped);
	putchar('\n');
	return 0;
}

static int run(const struct cli_args *a, struct hp_error *err)
{
	static const char *const beside[] = { "workflows" };
	static struct cli_sources s;
	struct run r = { .a = a, .list = json_array() };
	char plugins[PATH_MAX];
	struct hp_test_options o = { .plugins = plugins, .filter = cli_value(a, "filter"), .each = on_result, .arg = &r };
	struct real real = { NULL, NULL };
	int rc = -1;

	if (hp_place_resource(cli_value(a, "plugins"), "plugins", plugins, err) < 0 ||
	    cli_sources_find_tests(&s, a->n ? a->arg : beside, a->n ? a->n : 1, err) < 0 ||
	    open_real(a, &real, err) < 0)
		goto out;
	o.real = real.databases;
	o.stop = &stopped;
	for (int i = 0; i < s.n && !stopped; i++) {
		struct hp_error wrong = { 0 };

		r.path = s.path[i];
		if (hp_test_file(s.path[i], &o, &wrong) < 0)
			broken(&r, &wrong);
	}
	rc = summary(&r, err);
out:
	close_real(&real);
	cli_sources_free(&s);
	json_decref(r.list);
	return rc < 0 ? rc : r.broken ? hp_code_exit(HP_E_SCRIPT) : r.failed ? 1 : 0;
}

int hp_cmd_test(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	code = run(&a, &err);
	return code < 0 ? cli_error(&a, &err) : code;
}
