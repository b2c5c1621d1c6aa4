/* cmd_approvals.c: holdpoint approvals, approve, reject.
 *
 * An approval is named by its own number. A run's number is taken only with --run,
 * because both count from 1: a mistaken kind of number must not sign anything.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/run.h"

static const struct cli_option list_options[] = {
	{ "status", "STATUS", "open (the default), approved, rejected, expired, cancelled or all" },
	CLI_PAGES,
	{ 0 },
};
static const struct cli_spec list_spec = {
	.name = "approvals", .args = "[APPROVAL]",
	.text = "Lists what waits for a decision. With a number: that approval in full, with the\n"
		"exact request that would be sent.",
	.examples = "  holdpoint approvals\n  holdpoint approvals 3\n  holdpoint approvals --status rejected --all",
	.options = list_options, .max_args = 1, .client = true,
};

static const struct cli_option decide_options[] = {
	{ "reason", "TEXT", "why; it is kept with the decision (mandatory)" },
	{ "run", "RUN", "the open approval of this run, instead of APPROVAL" },
	{ 0 },
};
static const struct cli_spec approve_spec = {
	.name = "approve", .args = "APPROVAL",
	.text = "Signs what an approval asks for. Look first: holdpoint approvals APPROVAL.",
	.examples = "  holdpoint approve 3 --reason 'checked against the booking'\n"
		    "  holdpoint approve --run 12 --reason 'checked against the booking'",
	.options = decide_options, .max_args = 1, .client = true,
};
static const struct cli_spec reject_spec = {
	.name = "reject", .args = "APPROVAL", .text = "Refuses what an approval asks for.",
	.examples = "  holdpoint reject 3 --reason 'the amount is wrong'",
	.options = decide_options, .max_args = 1, .client = true,
};

/* ---- looking ---- */

static void approval_row(struct cli_table *t, const json_t *row)
{
	char buf[32];

	cli_table_number(t, hp_json_int(row, "approval", 0));
	cli_table_number(t, hp_json_int(row, "run", 0));
	cli_table_cell(t, hp_json_str(row, "workflow"), 0);
	cli_table_cell(t, hp_json_str(row, "status"), 0);
	cli_table_cell(t, hp_json_str(row, "approvers"), 30);
	cli_table_cell(t, cli_time(hp_json_str(row, "deadline_at"), buf, sizeof buf), 0);
	cli_table_cell(t, hp_json_str(row, "ask"), 80);
}

static void line(const char *title, const json_t *o, const char *member)
{
	const char *v = hp_json_str(o, member);
	char buf[32];

	if (!v)
		return;
	printf("  %-12s", title);
	cli_put(cli_time(v, buf, sizeof buf));
	putchar('\n');
}

/* The request is stored as JSON text; its body is shown as it is sent. */
static void show_request(const json_t *a)
{
	const char *text = hp_json_str(a, "request");
	json_t *rq = text ? hp_json_parse(text, strlen(text), "request", NULL) : NULL, *v;
	const char *name;

	if (!text) {
		puts("\nno request is signed: the decision itself is what counts");
		return;
	}
	printf("\n%srequest%s (these bytes, and only these, are sent)\n", cli_colour("bold"), cli_colour(""));
	if (!rq) {
		(void)fputs("  ", stdout);
		cli_put(text);
		putchar('\n');
	}
	json_object_foreach(rq, name, v) {
		(void)fputs("  ", stdout);
		cli_put(name);
		(void)fputs(": ", stdout);
		cli_print_value(v, 4);
		putchar('\n');
	}
	line("key", a, "request_key");
	line("sha256", a, "request_sha256");
	json_decref(rq);
}

static void show(const json_t *a)
{
	const char *status = hp_json_str(a, "status");
	const json_t *evidence = json_object_get(a, "evidence"), *votes = json_object_get(a, "votes"), *v;
	size_t i;

	printf("%sapproval %lld%s  run %lld  ", cli_colour("bold"), (long long)hp_json_int(a, "approval", 0),
	       cli_colour(""), (long long)hp_json_int(a, "run", 0));
	cli_put(hp_json_str(a, "workflow"));
	printf("  %s%s%s\n\n", cli_status_colour(status), status ? status : "?",
	       *cli_status_colour(status) ? cli_colour("") : "");
	cli_put(hp_json_str(a, "ask"));
	(void)fputs("\n\n", stdout);
	line("state", a, "state");
	line("approvers", a, "approvers");
	line("requester", a, "requester");
	line("opened", a, "opened_at");
	line("deadline", a, "deadline_at");
	line("decided by", a, "decided_by");
	line("decided", a, "decided_at");
	line("reason", a, "reason");
	json_array_foreach(votes, i, v) {
		(void)fputs("  vote        ", stdout);
		cli_put(hp_json_str(v, "by"));
		(void)fputs(" ", stdout);
		cli_put(hp_json_str(v, "decision"));
		(void)fputs(": ", stdout);
		cli_put(hp_json_str(v, "reason"));
		putchar('\n');
	}
	if (json_object_size(evidence)) {
		printf("\n%sevidence%s", cli_colour("bold"), cli_colour(""));
		cli_print_value(evidence, 2);
		putchar('\n');
	}
	show_request(a);
}

static int one(const struct cli_args *a, struct cli_client *c, int64_t id, struct hp_error *err)
{
	json_t *doc = NULL;
	char path[64];
	int rc;

	(void)snprintf(path, sizeof path, "/api/v1/approvals/%lld", (long long)id);
	rc = cli_request(c, path, NULL, &doc, err);
	if (rc == 0 && a->json)
		rc = cli_print_json(doc, err);
	else if (rc == 0)
		show(doc);
	json_decref(doc);
	return rc;
}

int hp_cmd_approvals(int argc, char **argv)
{
	static const char *const titles[] = { "APPROVAL", "RUN", "WORKFLOW", "STATUS", "APPROVERS", "DEADLINE",
					      "ASK" };
	static const struct cli_list list = { "approvals", titles, 7, approval_row, "Nothing waits for a decision." };
	struct cli_args a;
	struct hp_buf path;
	int code = cli_parse(&list_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	if (a.n == 1) {
		struct cli_spec spec = list_spec;

		spec.min_args = 1;
		return cli_with_run(&spec, argc, argv, one);
	}
	hp_buf_init(&path, 1024);
	hp_buf_adds(&path, "/api/v1/approvals");
	cli_query(&path, "status", cli_value(&a, "status"));
	code = cli_print_list(&a, &list, hp_buf_str(&path));
	hp_buf_free(&path);
	return code;
}

/* ---- deciding ---- */

/* The open approval of a run: at most one. */
static int approval_of_run(struct cli_client *c, const char *text, int64_t *id, struct hp_error *err)
{
	json_t *doc = NULL, *x;
	int64_t run;
	size_t i;
	int rc = -1;

	if (cli_number(text, "a run", &run, err) < 0 || cli_get_run(c, run, "", &doc, err) < 0)
		return -1;
	json_array_foreach(json_object_get(doc, "approvals"), i, x) {
		const char *status = hp_json_str(x, "status");

		if (status && strcmp(status, "open") == 0) {
			*id = hp_json_int(x, "approval", 0);
			rc = 0;
		}
	}
	if (rc < 0) {
		hp_fail(err, HP_E_CONFLICT, "run %lld has no open approval", (long long)run);
		(void)hp_error_hint(err, "holdpoint why %lld says what it waits for.", (long long)run);
	}
	json_decref(doc);
	return rc;
}

static int decide(const struct cli_args *a, struct cli_client *c, int64_t id, const json_t *body, struct hp_error *err)
{
	json_t *reply = NULL;
	char path[96];
	int rc;

	(void)snprintf(path, sizeof path, "/api/v1/approvals/%lld/%s", (long long)id, a->spec->name);
	rc = cli_request(c, path, body, &reply, err);
	if (rc == 0 && a->json)
		rc = cli_print_json(reply, err);
	else if (rc == 0)
		printf("approval %lld of run %lld: %s\n", (long long)id, (long long)hp_json_int(reply, "run", 0),
		       hp_json_str(reply, "status") && strcmp(hp_json_str(reply, "status"), "open") == 0
			       ? "your vote counts, others are still needed"
			       : hp_json_str(reply, "status"));
	json_decref(reply);
	return rc;
}

static int decide_command(const struct cli_spec *spec, int argc, char **argv)
{
	struct cli_client *c = NULL;
	struct cli_args a;
	struct hp_error err = { 0 };
	json_t *body = NULL;
	const char *run;
	int64_t id;
	int code = cli_parse(spec, argc, argv, &a), rc = -1;

	if (code >= 0)
		return code;
	run = cli_value(&a, "run");
	if ((a.n == 1) == (run != NULL)) {
		(void)hp_fail(&err, HP_E_INVALID, "%s: give APPROVAL or --run RUN, one of them", spec->name);
		(void)hp_error_hint(&err, "holdpoint approvals lists what waits for a decision.");
	} else if (run || cli_number(a.arg[0], "an approval", &id, &err) == 0) {
		body = cli_reason_body(&a, "it is kept with the decision", &err);
		c = body ? cli_client_open(&a, &err) : NULL;
		if (c && (!run || approval_of_run(c, run, &id, &err) == 0))
			rc = decide(&a, c, id, body, &err);
	}
	json_decref(body);
	cli_client_free(c);
	return rc < 0 ? cli_error(&a, &err) : 0;
}

int hp_cmd_approve(int argc, char **argv)
{
	return decide_command(&approve_spec, argc, argv);
}

int hp_cmd_reject(int argc, char **argv)
{
	return decide_command(&reject_spec, argc, argv);
}
