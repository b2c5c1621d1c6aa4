/* cmd_gc.c: holdpoint gc: removes what ended long enough ago, or says what would go. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/print.h"

static const struct cli_option options[] = {
	{ "dry-run", NULL, "say what would go, remove nothing" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "gc", .args = "",
	.text = "Removes runs that ended longer ago than their workflow's retention says, with all they have\n"
		"but their keys, and messages and webhooks whose time is over. Engines do the same by\n"
		"themselves, in small steps; this does it now. Needs the scope admin; --dry-run needs read.",
	.examples = "  holdpoint gc --dry-run\n  holdpoint gc", .options = options, .client = true,
};

/* Adds the numbers of one object to those of another. */
static void add(json_t *sum, const json_t *more)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)more, name, v) {
		if (json_is_object(v)) {
			json_t *inner = json_object_get(sum, name);

			if (!inner) {
				inner = json_object();
				json_object_set_new(sum, name, inner);
			}
			add(inner, v);
		} else {
			json_object_set_new(sum, name, json_integer(hp_json_int(sum, name, 0) + json_integer_value(v)));
		}
	}
}

static int plan(const struct cli_args *a, struct cli_client *c, struct hp_error *err)
{
	json_t *over = json_object(), *parts = json_object(), *reply = NULL, *v;
	int64_t after = 0;
	const char *name;
	char path[64];
	int rc = 0;

	do {
		(void)snprintf(path, sizeof path, "/api/v1/gc?after=%lld", (long long)after);
		json_decref(reply);
		reply = NULL;
		rc = cli_request(c, path, NULL, &reply, err);
		add(over, json_object_get(reply, "over"));
		add(parts, json_object_get(reply, "partitions"));
		after = hp_json_int(reply, "next", 0);
	} while (rc == 0 && after > 0);
	if (rc == 0 && a->json) {
		v = json_pack("{s:O, s:O}", "over", over, "partitions", parts);
		rc = cli_print_json(v, err);
		json_decref(v);
	} else if (rc == 0) {
		if (json_object_size(over) == 0)
			printf("Nothing is over.\n");
		json_object_foreach(over, name, v)
			printf("%s: %lld runs would be removed\n", name, (long long)json_integer_value(v));
		json_object_foreach(parts, name, v)
			if (hp_json_int(v, "over", 0))
				printf("partition %s: %lld of its runs are over, %lld stay\n", name,
				       (long long)hp_json_int(v, "over", 0), (long long)hp_json_int(v, "stay", 0));
	}
	json_decref(reply);
	json_decref(over);
	json_decref(parts);
	return rc;
}

/* One pass to its end. *joined: it had begun before. */
static int pass(struct cli_client *c, long long *removed, bool *joined, struct hp_error *err)
{
	bool first = true, more = true;
	int rc = 0;

	while (rc == 0 && more) {
		json_t *body = json_pack("{s:b}", "pass", first), *reply = NULL;
		const char *step;

		rc = cli_request(c, "/api/v1/gc", body, &reply, err);
		step = hp_json_str(reply, "step");
		more = hp_json_bool(reply, "more", 0);
		*removed += hp_json_int(reply, "removed", 0);
		if (first)
			*joined = hp_json_bool(reply, "joined", 0);
		first = first && step && strcmp(step, "mail") == 0;
		if (rc == 0 && step && (strcmp(step, "busy") == 0 || strcmp(step, "swap") == 0))
			cli_pause(200 * HP_MSEC); /* an engine is at it, or there is no quiet moment */
		json_decref(body);
		json_decref(reply);
	}
	return rc;
}

static int collect(const struct cli_args *a, struct cli_client *c, struct hp_error *err)
{
	long long removed = 0;
	bool joined = false;
	json_t *doc;
	int rc = pass(c, &removed, &joined, err);

	if (rc == 0 && joined)
		rc = pass(c, &removed, &joined, err);
	if (rc < 0)
		return -1;
	if (!a->json) {
		printf("%lld runs removed\n", removed);
		return 0;
	}
	doc = json_pack("{s:I}", "removed", (json_int_t)removed);
	rc = cli_print_json(doc, err);
	json_decref(doc);
	return rc;
}

int hp_cmd_gc(int argc, char **argv)
{
	struct hp_error err = { 0 };
	struct cli_client *c;
	struct cli_args a;
	int code = cli_parse(&spec, argc, argv, &a);

	if (code >= 0)
		return code;
	c = cli_client_open(&a, &err);
	code = !c ? -1 : cli_has(&a, "dry-run") ? plan(&a, c, &err) : collect(&a, c, &err);
	cli_client_free(c);
	return code < 0 ? cli_error(&a, &err) : code;
}
