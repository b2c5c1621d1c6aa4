/* cmd_operate.c: holdpoint cancel, pause, resume, retry, skip, undo, give-up: orders to one run. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/command.h"
#include "cli/print.h"
#include "cli/run.h"
#include "cli/value.h"

#define REASON { "reason", "TEXT", "why; it is kept in the history (mandatory)" }

static const struct cli_option reason_only[] = { REASON, { 0 } };
static const struct cli_option with_value[] = {
	REASON,
	{ "value", "JSON|@FILE|-", "what the state would have saved" },
	{ 0 },
};

static const struct cli_option with_happened[] = {
	REASON,
	{ "happened", "yes|no", "what you found of the effect that is in doubt" },
	{ "value", "JSON|@FILE|-", "with --happened yes: what the state would have saved" },
	{ 0 },
};

static const struct cli_spec cancel_spec = {
	.name = "cancel", .args = "RUN",
	.text = "Ends a run. What is in flight ends first; a run that waits ends at once. With\n"
		"on_cancel = \"undo\" in its workflow, what it did is undone first.",
	.examples = "  holdpoint cancel 12 --reason 'the customer withdrew'",
	.options = reason_only, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec pause_spec = {
	.name = "pause", .args = "RUN",
	.text = "Stops a run. What is in flight ends first; timers, events and decisions that come meanwhile\n"
		"are kept and looked at when it is resumed.",
	.examples = "  holdpoint pause 12 --reason 'the provider migrates tonight'",
	.options = reason_only, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_option maybe_reason[] = { { "reason", "TEXT", "why; it is kept in the history" }, { 0 } };
static const struct cli_spec resume_spec = {
	.name = "resume", .args = "RUN", .text = "Lets a paused run go on from where it stopped.",
	.examples = "  holdpoint resume 12", .options = maybe_reason, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_option retry_options[] = {
	REASON,
	{ "from", "STATE", "go on from this earlier state instead, as a new visit (also of a paused run)" },
	{ "yes", NULL, "with --from: effects that were made already may be made again, under new keys" },
	{ 0 },
};
static const struct cli_spec retry_spec = {
	.name = "retry", .args = "RUN",
	.text = "Lets a held run try its state again, with the key it had; or, with --from, lets a held or\n"
		"paused run go on from a state where it has been before.",
	.examples = "  holdpoint retry 12 --reason 'the token was renewed'\n"
		    "  holdpoint retry 12 --from find_payment --reason 'the payment was corrected'",
	.options = retry_options, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec skip_spec = {
	.name = "skip", .args = "RUN",
	.text = "Lets a held run go on as if its state had succeeded with --value.",
	.examples = "  holdpoint skip 12 --value '{\"id\":\"re_1\"}' --reason 'refunded by hand, see ticket 88'",
	.options = with_value, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec undo_spec = {
	.name = "undo", .args = "RUN",
	.text = "Undoes what a held run did, the latest first, and ends it as failed. An effect in\n"
		"doubt is looked at before; one that nothing can look at needs --happened.",
	.examples = "  holdpoint undo 12 --reason 'the customer does not want it any more'",
	.options = with_happened, .min_args = 1, .max_args = 1, .client = true,
};
static const struct cli_spec give_up_spec = {
	.name = "give-up", .args = "RUN", .text = "Ends a held run as failed.",
	.examples = "  holdpoint give-up 12 --reason 'the account is closed'",
	.options = reason_only, .min_args = 1, .max_args = 1, .client = true,
};

/* --happened yes|no, as the door wants it. */
static int put_happened(const char *word, json_t *body, struct hp_error *err)
{
	if (!word)
		return 0;
	if (strcmp(word, "yes") != 0 && strcmp(word, "no") != 0)
		return hp_fail(err, HP_E_INVALID, "--happened is yes or no, not \"%s\"", word);
	return json_object_set_new(body, "happened", json_boolean(*word == 'y'));
}

static const char *says(const struct cli_spec *spec)
{
	return spec == &cancel_spec  ? "will be cancelled"
	       : spec == &pause_spec  ? "is paused, or will be when what is in flight has ended"
	       : spec == &resume_spec ? "goes on"
	       : spec == &retry_spec  ? "will try again"
	       : spec == &skip_spec   ? "will go on"
	       : spec == &undo_spec   ? "will undo what it did"
				      : "will end as failed";
}

static int operate(const struct cli_args *a, struct cli_client *c, int64_t run, struct hp_error *err)
{
	const char *value = cli_value(a, "value");
	json_t *body = cli_reason_body(a, a->spec == &resume_spec ? NULL : "it is kept in the history", err), *reply = NULL, *v;
	char path[128];
	int rc = -1;

	if (!body)
		return -1;
	if (value) {
		v = cli_read_value(value, "value", err);
		if (!v)
			goto out;
		json_object_set_new(body, "value", v);
	}
	if (put_happened(cli_value(a, "happened"), body, err) < 0)
		goto out;
	if (cli_value(a, "from")) {
		if (json_object_set_new(body, "state", json_string(cli_value(a, "from"))) < 0) {
			hp_fail(err, HP_E_INVALID, "--from is not UTF-8");
			goto out;
		}
		json_object_set_new(body, "again", json_boolean(cli_has(a, "yes")));
	}
	(void)snprintf(path, sizeof path, "/api/v1/runs/%lld/%s", (long long)run,
		       cli_value(a, "from") ? "restart" : a->spec->name);
	if (cli_request(c, path, body, &reply, err) < 0)
		goto out;
	rc = 0;
	if (a->json)
		rc = cli_print_json(reply, err);
	else
		printf("run %lld: %s\n", (long long)run,
		       hp_json_bool(reply, "paused", 0) && a->spec == &retry_spec ? "will go on from there when it is resumed"
										   : says(a->spec));
out:
	json_decref(body);
	json_decref(reply);
	return rc;
}

int hp_cmd_cancel(int argc, char **argv)
{
	return cli_with_run(&cancel_spec, argc, argv, operate);
}

int hp_cmd_pause(int argc, char **argv)
{
	return cli_with_run(&pause_spec, argc, argv, operate);
}

int hp_cmd_resume(int argc, char **argv)
{
	return cli_with_run(&resume_spec, argc, argv, operate);
}

int hp_cmd_retry(int argc, char **argv)
{
	return cli_with_run(&retry_spec, argc, argv, operate);
}

int hp_cmd_skip(int argc, char **argv)
{
	return cli_with_run(&skip_spec, argc, argv, operate);
}

int hp_cmd_undo(int argc, char **argv)
{
	return cli_with_run(&undo_spec, argc, argv, operate);
}

int hp_cmd_give_up(int argc, char **argv)
{
	return cli_with_run(&give_up_spec, argc, argv, operate);
}
