/* cmd_check.c: holdpoint check, graph: what can be known without running. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "cli/command.h"
#include "cli/native.h"
#include "cli/options.h"
#include "cli/print.h"
#include "cli/siblings.h"
#include "cli/sources.h"
#include "runtime/place.h"

static const struct cli_option options[] = {
	{ "plugins", "DIR", "where the connectors are" },
	{ 0 },
};
static const struct cli_spec check_spec = {
	.name = "check", .args = "PATH...",
	.text = "Loads workflow files (of a directory all of them) and looks for mistakes:\n"
		"unreachable states, ways that lead nowhere, effects without a way out and more.\n"
		"Prints file:line: error|warning [lint] sentence; exits 2 when there is an error.",
	.examples = "  holdpoint check workflows\n  holdpoint check workflows/card_add.lua --json",
	.options = options, .min_args = 1, .max_args = CLI_ARGS_MAX,
};
static const struct cli_spec graph_spec = {
	.name = "graph", .args = "PATH", .text = "Prints a workflow's states and ways as a Mermaid flowchart.",
	.examples = "  holdpoint graph workflows/card_add.lua > card_add.mmd",
	.options = options, .min_args = 1, .max_args = 1, .no_json = true,
};

struct check {
	const struct cli_args *a;
	json_t *list;
	const char *path;
	int fatal, warnings;
};

static void finding(struct check *c, const char *file, int line, const char *lint, const char *state,
		    const char *sentence, bool fatal)
{
	size_t n = strlen(file), whole = strlen(c->path);
	json_t *o;

	/* A bundle keeps the end of a path; whoever typed it wants to jump there. */
	if (n && n <= whole && strcmp(c->path + whole - n, file) == 0)
		file = c->path;
	o = json_pack("{s:s, s:i, s:s, s:s, s:b}", "file", file, "line", line, "lint", lint, "sentence",
			      sentence, "fatal", fatal ? 1 : 0);

	if (state)
		json_object_set_new(o, "state", json_string(state));
	json_array_append_new(c->list, o);
	c->fatal += fatal;
	c->warnings += !fatal;
	if (c->a->json)
		return;
	cli_put(file);
	printf(":%d: %s%s%s [%s] ", line, cli_colour(fatal ? "red" : "yellow"), fatal ? "error" : "warning",
	       cli_colour(""), lint);
	cli_put(sentence);
	putchar('\n');
}

static void on_finding(void *arg, const struct hp_finding *f)
{
	struct check *c = arg;

	finding(c, f->file ? f->file : c->path, f->line, f->lint, f->state, f->sentence, f->fatal);
}

/* A file that does not load is a finding too. Its error begins with "file:line: "
 * when it has a place. */
static void load_failed(struct check *c, const struct hp_error *err)
{
	const char *colon = strchr(err->message, ':'), *end = NULL;
	char file[sizeof err->message], sentence[sizeof err->message + sizeof err->hint + 2];
	int line = 0;

	for (end = colon ? colon + 1 : NULL; end && *end >= '0' && *end <= '9' && line < 10000000; end++)
		line = line * 10 + (*end - '0');
	if (end && end > colon + 1 && strncmp(end, ": ", 2) == 0) {
		(void)snprintf(file, sizeof file, "%.*s", (int)(colon - err->message), err->message);
		end += 2;
	} else {
		(void)snprintf(file, sizeof file, "%s", c->path);
		end = err->message;
		line = 1;
	}
	(void)snprintf(sentence, sizeof sentence, "%s%s%s", end, err->hint[0] ? "; " : "", err->hint);
	finding(c, file, line, "load", NULL, sentence, true);
}

static int check(const struct cli_args *a, struct hp_error *err)
{
	static struct cli_siblings beside;
	static struct cli_sources s;
	struct check c = { a, json_array(), NULL, 0, 0 };
	char plugins[PATH_MAX];
	json_t *doc;
	int rc = -1;

	if (hp_place_resource(cli_value(a, "plugins"), "plugins", plugins, err) < 0 ||
	    cli_sources_find(&s, a->arg, a->n, err) < 0)
		goto out;
	for (int i = 0; i < s.n; i++) {
		struct hp_error failed = { 0 };
		struct hp_workflow *w;
		struct hp_buf bundle;

		hp_buf_init(&bundle, HP_BUNDLE_MAX);
		c.path = s.path[i];
		w = cli_source_load(s.path[i], plugins, &bundle, &failed);
		if (w) {
			beside.plugins = plugins;
			beside.path = s.path[i];
			(void)hp_workflow_check_among(w, cli_sibling, &beside, on_finding, &c);
			(void)cli_native_check(w, plugins, on_finding, &c);
		} else {
			load_failed(&c, &failed);
		}
		hp_workflow_free(w);
		hp_buf_free(&bundle);
	}
	rc = 0;
	if (a->json) {
		doc = json_pack("{s:i, s:i, s:i, s:O}", "files", s.n, "errors", c.fatal, "warnings", c.warnings,
				"findings", c.list);
		rc = cli_print_json(doc, err);
		json_decref(doc);
	} else {
		printf("%d file%s: %d error%s, %d warning%s\n", s.n, s.n == 1 ? "" : "s", c.fatal,
		       c.fatal == 1 ? "" : "s", c.warnings, c.warnings == 1 ? "" : "s");
	}
out:
	cli_siblings_free(&beside);
	cli_sources_free(&s);
	json_decref(c.list);
	return rc < 0 ? rc : c.fatal ? hp_code_exit(HP_E_SCRIPT) : 0;
}

int hp_cmd_check(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&check_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	code = check(&a, &err);
	return code < 0 ? cli_error(&a, &err) : code;
}

static int graph(const struct cli_args *a, struct hp_error *err)
{
	struct hp_workflow *w = NULL;
	char plugins[PATH_MAX];
	struct hp_buf bundle, out;
	int rc = -1;

	hp_buf_init(&bundle, HP_BUNDLE_MAX);
	hp_buf_init(&out, HP_BUNDLE_MAX);
	if (hp_place_resource(cli_value(a, "plugins"), "plugins", plugins, err) < 0)
		goto out;
	w = cli_source_load(a->arg[0], plugins, &bundle, err);
	if (!w || hp_workflow_graph(w, &out, err) < 0)
		goto out;
	(void)fputs(hp_buf_str(&out), stdout);
	rc = 0;
out:
	hp_workflow_free(w);
	hp_buf_free(&bundle);
	hp_buf_free(&out);
	return rc;
}

int hp_cmd_graph(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&graph_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	return graph(&a, &err) < 0 ? cli_error(&a, &err) : 0;
}
