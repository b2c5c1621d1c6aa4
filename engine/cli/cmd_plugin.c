/* cmd_plugin.c: holdpoint plugin check: what is wrong with a native plugin; and the
 * process such a plugin lives in. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/limits.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/print.h"
#include "plugin/host.h"
#include "plugin/hp_plugin.h"
#include "runtime/plugins.h"

static const struct cli_spec check_spec = {
	.name = "plugin check", .args = "FILE...",
	.text = "Loads native plugins (.so) as the engine would, each in a process of its own, and says\n"
		"for each its version and activities, or what is wrong with it. Exits 2 when one cannot be used.",
	.examples = "  holdpoint plugin check plugins/dns/dns.so",
	.min_args = 1, .max_args = CLI_ARGS_MAX,
};
static const struct cli_spec *const specs[] = { &check_spec, NULL };

static json_t *line_of(const char *file, const json_t *hello, const struct hp_error *err)
{
	json_t *v;

	if (hello)
		v = json_pack("{s:s, s:b, s:O, s:O, s:O, s:i}", "file", file, "ok", 1, "name", json_object_get(hello, "name"),
			      "version", json_object_get(hello, "version"), "activities", json_object_get(hello, "activities"),
			      "abi", HP_PLUGIN_ABI);
	else
		v = json_pack("{s:s, s:b, s:s, s:s}", "file", file, "ok", 0, "message", err->message, "hint", err->hint);
	return v;
}

static void print_one(const char *file, const json_t *hello, const struct hp_error *err)
{
	json_t *names = json_object_get(hello, "activities"), *name;
	size_t i;

	cli_put(file);
	if (!hello) {
		printf(": %serror%s: ", cli_colour("red"), cli_colour(""));
		cli_put(err->message);
		if (err->hint[0]) {
			printf("\n  ");
			cli_put(err->hint);
		}
		putchar('\n');
		return;
	}
	printf(": ");
	cli_put(hp_json_str(hello, "name"));
	putchar(' ');
	cli_put(hp_json_str(hello, "version"));
	printf(", ABI %d:", HP_PLUGIN_ABI);
	json_array_foreach(names, i, name) {
		putchar(' ');
		cli_put(json_string_value(name));
	}
	putchar('\n');
}

static int check_files(const struct cli_args *a, struct hp_error *err)
{
	json_t *list = json_array(), *doc;
	int bad = 0, rc = 0;

	for (int i = 0; i < a->n; i++) {
		struct hp_error failed = { 0 };
		json_t *hello;

		bad += hp_plugin_try(NULL, a->arg[i], NULL, &hello, &failed) != 0;
		if (a->json)
			json_array_append_new(list, line_of(a->arg[i], hello, &failed));
		else
			print_one(a->arg[i], hello, &failed);
		json_decref(hello);
	}
	if (a->json) {
		doc = json_pack("{s:O, s:i}", "plugins", list, "errors", bad);
		rc = cli_print_json(doc, err);
		json_decref(doc);
	}
	json_decref(list);
	return rc < 0 ? rc : bad ? hp_code_exit(HP_E_INVALID) : 0;
}

int hp_cmd_plugin(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse_sub(specs, argc, argv, &a);

	if (code >= 0)
		return code;
	code = check_files(&a, &err);
	return code < 0 ? cli_error(&a, &err) : code;
}

/* Started by workers and by `plugin check`, with a socket as descriptor 3. */
int hp_cmd_plugin_host(int argc, char **argv)
{
	if (argc < 2 || argc > 3) {
		fprintf(stderr, "holdpoint plugin-host is started by the engine.\n");
		return hp_code_exit(HP_E_INVALID);
	}
	hp_plugin_host_run(argv[1], argc > 2 ? argv[2] : NULL, HP_PLUGIN_HOST_FD);
}
