/* cmd_show.c: holdpoint show, history, why: one run. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/words.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/list.h"
#include "cli/print.h"
#include "cli/run.h"

static const struct cli_spec show_spec = {
	.name = "show", .args = "RUN",
	.text = "Shows a run: where it is and why, its timeline, its approvals, what it has saved.",
	.examples = "  holdpoint show 12\n  holdpoint show 12 --json", .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec why_spec = {
	.name = "why", .args = "RUN",
	.text = "Says in one sentence what a run waits for, since when, and who or what can move it.",
	.examples = "  holdpoint why 12", .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_option history_options[] = {
	{ "after", "REV", "only steps after this one" },
	{ 0 },
};
static const struct cli_spec history_spec = {
	.name = "history", .args = "RUN", .text = "Prints every step of a run, the oldest first.",
	.examples = "  holdpoint history 12 --json", .options = history_options, .min_args = 1, .max_args = 1,
	.client = true,
};

int cli_get_run(struct cli_client *c, int64_t run, const char *tail, json_t **reply, struct hp_error *err)
{
	char path[128];

	(void)snprintf(path, sizeof path, "/api/v1/runs/%lld%s", (long long)run, tail);
	return cli_request(c, path, NULL, reply, err);
}

int cli_get_history(struct cli_client *c, int64_t run, int64_t after, json_t *rows, struct hp_error *err)
{
	bool more = true;
	int rc = 0;

	while (rc == 0 && more) {
		json_t *reply = NULL;
		char tail[64];

		if (after >= 0)
			(void)snprintf(tail, sizeof tail, "/history?limit=500&after=%lld", (long long)after);
		else
			(void)snprintf(tail, sizeof tail, "/history?limit=500");
		rc = cli_get_run(c, run, tail, &reply, err);
		json_array_extend(rows, json_object_get(reply, "history"));
		more = rc == 0 && json_is_integer(json_object_get(reply, "next"));
		after = hp_json_int(reply, "next", 0);
		json_decref(reply);
	}
	return rc;
}

/* ---- show ---- */

static void line(const char *title, const char *value)
{
	if (!value || !*value)
		return;
	printf("  %-11s", title);
	cli_put(value);
	putchar('\n');
}

static void time_line(const char *title, const json_t *o, const char *member)
{
	const char *iso = hp_json_str(o, member);
	char buf[32];

	if (iso)
		line(title, cli_time(iso, buf, sizeof buf));
}

static void show_head(const json_t *run, const char *sentence)
{
	const char *status = hp_json_str(run, "status");
	int64_t from = cli_time_us(hp_json_str(run, "created_at"));
	int64_t to = cli_time_us(hp_json_str(run, "finished_at"));
	char buf[32];

	printf("%srun %lld%s  ", cli_colour("bold"), (long long)hp_json_int(run, "run", 0), cli_colour(""));
	cli_put(hp_json_str(run, "workflow"));
	printf("  %s%s%s\n", cli_status_colour(status), status ? status : "?",
	       *cli_status_colour(status) ? cli_colour("") : "");
	line("state", hp_json_str(run, "state"));
	line("key", hp_json_str(run, "key"));
	line("requester", hp_json_str(run, "requester"));
	time_line("started", run, "created_at");
	time_line("finished", run, "finished_at");
	if (from && to)
		line("took", hp_duration_format(to - from, buf, sizeof buf));
	line("code", hp_json_str(run, "code"));
	if (hp_json_bool(run, "cancel", 0) && !to)
		line("cancel", "asked for");
	if (!status || strcmp(status, "succeeded") != 0)
		line("why", sentence);
}

static void show_values(const char *title, const json_t *o)
{
	const char *name;
	json_t *v;

	if (!json_object_size(o))
		return;
	printf("\n%s%s%s\n", cli_colour("bold"), title, cli_colour(""));
	json_object_foreach((json_t *)(uintptr_t)o, name, v) {
		(void)fputs("  ", stdout);
		cli_put(name);
		(void)fputs(": ", stdout);
		cli_print_value(v, 4);
		putchar('\n');
	}
}

static void show_approvals(const json_t *approvals)
{
	const json_t *a;
	char buf[32];
	size_t i;

	if (json_array_size(approvals))
		printf("\n%sapprovals%s\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(approvals, i, a) {
		const char *by = hp_json_str(a, "decided_by"), *reason = hp_json_str(a, "reason");
		const char *status = hp_json_str(a, "status");

		printf("  %lld  %s%s%s  ", (long long)hp_json_int(a, "approval", 0), cli_status_colour(status),
		       status ? status : "?", *cli_status_colour(status) ? cli_colour("") : "");
		cli_put(hp_json_str(a, "ask"));
		putchar('\n');
		if (by) {
			(void)fputs("      by ", stdout);
			cli_put(by);
			printf(" at %s: ", cli_time(hp_json_str(a, "decided_at"), buf, sizeof buf));
			cli_put(reason);
			putchar('\n');
		} else if (status && strcmp(status, "open") == 0) {
			(void)fputs("      by ", stdout);
			cli_put(hp_json_str(a, "approvers"));
			printf(", until %s\n", cli_time(hp_json_str(a, "deadline_at"), buf, sizeof buf));
		}
	}
}

/* What can also end the wait. */
static void show_arms(const json_t *arms)
{
	const json_t *arm;
	char buf[32];
	size_t i;

	if (json_array_size(arms))
		printf("\n%sarms%s\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(arms, i, arm) {
		const char *event = hp_json_str(arm, "event"), *code = hp_json_str(arm, "code");
		const char *operation = hp_json_str(arm, "operation");

		(void)fputs("  ", stdout);
		cli_put(hp_json_str(arm, "name"));
		(void)fputs(" -> ", stdout);
		cli_put(hp_json_str(arm, "next"));
		if (event) {
			printf("  event ");
			cli_put(event);
			printf(" with key ");
			cli_put(hp_json_str(arm, "key"));
		} else {
			printf("  %s%sat %s", operation ? operation : "", operation ? ", next " : "",
			       cli_time(hp_json_str(arm, "due_at"), buf, sizeof buf));
		}
		if (operation)
			printf(", %lld so far", (long long)hp_json_int(arm, "checks", 0));
		if (hp_json_int(arm, "failures", 0) > 0)
			printf(", %lld failed in a row, the last with %s", (long long)hp_json_int(arm, "failures", 0),
			       code ? code : "no code");
		putchar('\n');
	}
}

/* "  1  done        book_hotel (visit 2)  hotels.cancel  hp_…" */
static void show_undo(const json_t *undo)
{
	const char *ends = hp_json_str(undo, "ends");
	const json_t *e;
	size_t i;

	if (!undo)
		return;
	printf("\n%sundo%s", cli_colour("bold"), cli_colour(""));
	if (ends)
		printf(" (it goes back, and ends as %s)", ends);
	putchar('\n');
	json_array_foreach(json_object_get(undo, "log"), i, e) {
		const char *const more[] = { hp_json_str(e, "operation"), hp_json_str(e, "key"), hp_json_str(e, "text") };

		printf("  %lld  %-10s  ", (long long)hp_json_int(e, "entry", 0), hp_json_str(e, "status"));
		cli_put(hp_json_str(e, "state"));
		printf(" (visit %lld)", (long long)hp_json_int(e, "visit", 0));
		for (size_t k = 0; k < sizeof more / sizeof *more; k++)
			if (more[k]) {
				(void)fputs("  ", stdout);
				cli_put(more[k]);
			}
		putchar('\n');
	}
}

static void show_children(const json_t *families, int64_t run)
{
	static const char *const counts[] = { "running", "queued", "succeeded", "failed", "cancelled" };
	const json_t *f;
	size_t i;

	if (json_array_size(families))
		printf("\n%schildren%s (holdpoint runs --parent %lld)\n", cli_colour("bold"), cli_colour(""),
		       (long long)run);
	json_array_foreach(families, i, f) {
		(void)fputs("  ", stdout);
		cli_put(hp_json_str(f, "state"));
		(void)fputs(": ", stdout);
		cli_put(hp_json_str(f, "workflow"));
		printf(", %lld%s in all", (long long)hp_json_int(f, "total", 0),
		       hp_json_bool(f, "complete", 1) || hp_json_bool(f, "closed", 0) ? "" : " and more");
		for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
			if (hp_json_int(f, counts[k], 0) > 0)
				printf(", %lld %s", (long long)hp_json_int(f, counts[k], 0), counts[k]);
		putchar('\n');
	}
}

/* Who started it, or waits for it. */
static void show_parents(const json_t *parents)
{
	const json_t *p;
	size_t i;

	json_array_foreach(parents, i, p)
		printf("%s%lld%s", i ? ", " : "  parent     run ", (long long)json_integer_value(p),
		       i + 1 == json_array_size(parents) ? "\n" : "");
}

/* The pages of a sweep are told by its progress; `history` lists them. */
static bool is_page(const json_t *row)
{
	const char *move = hp_json_str(row, "move");

	return move && strcmp(move, "swept") == 0;
}

static void show_timeline(const json_t *rows)
{
	const json_t *row;
	int64_t last = 0;
	size_t i;

	printf("\n%stimeline%s (UTC)\n", cli_colour("bold"), cli_colour(""));
	json_array_foreach(rows, i, row) {
		if (is_page(row))
			continue;
		(void)fputs("  ", stdout);
		cli_print_step(row, &last);
	}
}

static int show(const struct cli_args *a, struct cli_client *c, int64_t id, struct hp_error *err)
{
	json_t *doc = NULL, *why = NULL, *rows = json_array();
	int rc = -1;

	if (cli_get_run(c, id, "", &doc, err) < 0 || cli_get_history(c, id, -1, rows, err) < 0 ||
	    cli_get_run(c, id, "/why", &why, err) < 0)
		goto out;
	if (a->json) {
		json_object_set(doc, "history", rows);
		json_object_set(doc, "why", why);
		rc = cli_print_json(doc, err);
		goto out;
	}
	show_head(json_object_get(doc, "run"), hp_json_str(why, "sentence"));
	show_parents(json_object_get(doc, "parents"));
	show_timeline(rows);
	show_children(json_object_get(doc, "children"), id);
	cli_show_sweeps(json_object_get(doc, "sweeps"));
	show_approvals(json_object_get(doc, "approvals"));
	show_arms(json_object_get(doc, "arms"));
	show_undo(json_object_get(doc, "undo"));
	show_values("input", json_object_get(json_object_get(doc, "run"), "input"));
	show_values("saved", json_object_get(doc, "saved"));
	if (json_is_object(json_object_get(json_object_get(doc, "run"), "result")))
		show_values("result", json_object_get(json_object_get(doc, "run"), "result"));
	rc = 0;
out:
	json_decref(doc);
	json_decref(why);
	json_decref(rows);
	return rc;
}

static int history(const struct cli_args *a, struct cli_client *c, int64_t id, struct hp_error *err)
{
	json_t *rows = json_array(), *row, *root;
	int64_t after = -1, last = 0;
	size_t i;
	int rc = 0;

	if (cli_has(a, "after"))
		rc = cli_number(cli_value(a, "after"), "a step", &after, err);
	if (rc == 0)
		rc = cli_get_history(c, id, after, rows, err);
	if (rc == 0 && a->json) {
		root = json_pack("{s:O}", "history", rows);
		rc = cli_print_json(root, err);
		json_decref(root);
	} else if (rc == 0) {
		json_array_foreach(rows, i, row)
			cli_print_step(row, &last);
	}
	json_decref(rows);
	return rc;
}

static int why(const struct cli_args *a, struct cli_client *c, int64_t id, struct hp_error *err)
{
	json_t *doc = NULL;
	int rc = cli_get_run(c, id, "/why", &doc, err);

	if (rc == 0 && a->json) {
		rc = cli_print_json(doc, err);
	} else if (rc == 0) {
		cli_put(hp_json_str(doc, "sentence"));
		putchar('\n');
	}
	json_decref(doc);
	return rc;
}

int cli_with_run(const struct cli_spec *spec, int argc, char **argv, cli_run_fn fn)
{
	struct cli_client *c = NULL;
	struct cli_args a;
	struct hp_error err = { 0 };
	int64_t id;
	int code = cli_parse(spec, argc, argv, &a), rc = -1;

	if (code >= 0)
		return code;
	if (cli_number(a.arg[0], "a run", &id, &err) == 0) {
		c = cli_client_open(&a, &err);
		rc = c ? fn(&a, c, id, &err) : -1;
	}
	cli_client_free(c);
	return rc < 0 ? cli_error(&a, &err) : rc;
}

int hp_cmd_show(int argc, char **argv)
{
	return cli_with_run(&show_spec, argc, argv, show);
}

int hp_cmd_history(int argc, char **argv)
{
	return cli_with_run(&history_spec, argc, argv, history);
}

int hp_cmd_why(int argc, char **argv)
{
	return cli_with_run(&why_spec, argc, argv, why);
}
