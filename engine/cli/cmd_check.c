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

static void on_finding(void *arg, const struct hp_finding *f)
{
	struct check *c = arg;
	const char *file = f->file ? f->file : c->path;
	size_t n = strlen(file), whole = strlen(c->path);
	json_t *o;

	/* A bundle keeps the end of a path; whoever typed it wants to jump there. */
	if (n && n <= whole && strcmp(c->path + whole - n, file) == 0)
		file = c->path;
	o = json_pack("{s:s, s:i, s:s, s:s, s:b}", "file", file, "line", f->line, "lint", f->lint, "sentence", f->sentence,
		      "fatal", f->fatal ? 1 : 0);
	if (f->state)
		json_object_set_new(o, "state", json_string(f->state));
	json_array_append_new(c->list, o);
	c->fatal += f->fatal;
	c->warnings += !f->fatal;
	if (c->a->json)
		return;
	cli_put(file);
	printf(":%d: %s%s%s [%s] ", f->line, cli_colour(f->fatal ? "red" : "yellow"), f->fatal ? "error" : "warning",
	       cli_colour(""), f->lint);
	cli_put(f->sentence);
	putchar('\n');
}

/* A file that does not load is a finding too. */
static void load_failed(struct check *c, struct hp_error *err)
{
	struct hp_finding f;

	hp_finding_of_error(err, &f);
	on_finding(c, &f);
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
