/* cmd_crash_labels.c: holdpoint crash-labels */
#include <stdio.h>

#include "base/crash.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/options.h"

static const struct cli_spec spec = {
	.name = "crash-labels", .args = "",
	.text = "Lists the points where HP_CRASH=LABEL:N ends the process (or another one: HP_CRASH=LABEL:N:PIDFILE)\n"
		"at the N-th visit. For tests.",
};

static int print_json(struct hp_error *err)
{
	json_t *list = json_array();
	struct hp_buf text;
	int rc;

	for (int i = 0; i < HP_CRASH__COUNT; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "label", hp_crash_name((enum hp_crash_label)i),
						      "when", hp_crash_description((enum hp_crash_label)i)));
	hp_buf_init(&text, 65536);
	rc = hp_json_write(&text, list, err);
	if (rc == 0)
		puts(hp_buf_str(&text));
	hp_buf_free(&text);
	json_decref(list);
	return rc;
}

int hp_cmd_crash_labels(int argc, char **argv)
{
	struct cli_args a;
	struct hp_error err = { 0 };
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	if (a.json)
		return print_json(&err) == 0 ? 0 : cli_error(&a, &err);
	for (int i = 0; i < HP_CRASH__COUNT; i++)
		printf("%-18s %s\n", hp_crash_name((enum hp_crash_label)i),
		       hp_crash_description((enum hp_crash_label)i));
	return 0;
}
