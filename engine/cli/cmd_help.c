/* cmd_help.c: holdpoint help, version, completion. */
#include <stdio.h>
#include <string.h>

#include "base/words.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/print.h"

#define COMMANDS_MAX 64

static const struct cli_spec version_spec = {
	.name = "version", .args = "", .text = "Prints the version.", .examples = "  holdpoint version --json",
};
static const struct cli_spec help_spec = {
	.name = "help", .args = "[COMMAND]", .text = "Lists the commands, or explains one.",
	.examples = "  holdpoint help start", .max_args = 1, .no_json = true,
};
static const struct cli_spec completion_spec = {
	.name = "completion", .args = "bash", .text = "Prints the completion script for bash.",
	.examples = "  source <(holdpoint completion bash)", .min_args = 1, .max_args = 1, .no_json = true,
};

int hp_cmd_version(int argc, char **argv)
{
	struct cli_args a;
	int code = cli_parse(&version_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	printf(a.json ? "{\"version\":\"%s\"}\n" : "holdpoint %s\n", HP_VERSION);
	return 0;
}

static void overview(void)
{
	const char *group = NULL;

	printf("usage: holdpoint COMMAND [arguments] [--json]\n\n"
	       "Durable workflows on PostgreSQL that stop where a person has to decide.\n");
	for (const struct hp_command_entry *e = hp_commands; e->name; e++) {
		if (!e->group)
			continue;
		if (!group || strcmp(group, e->group) != 0)
			printf("\n%s:\n", e->group);
		group = e->group;
		printf("  %-13s %s\n", e->name, e->summary);
	}
	printf("\nholdpoint help COMMAND says more. Exit codes: 0 done, 2 wrong input, 3 not allowed,\n"
	       "4 not found, 5 not possible now, 6 cannot be reached or timed out, 1 anything else.\n");
}

const struct hp_command_entry *hp_command_find(const char *name, struct hp_error *err)
{
	const char *names[COMMANDS_MAX], *near;
	size_t n = 0;

	for (const struct hp_command_entry *e = hp_commands; e->name; e++) {
		if (strcmp(e->name, name) == 0)
			return e;
		HP_ASSERT(n < COMMANDS_MAX);
		names[n++] = e->name;
	}
	near = hp_nearest(name, names, n);
	(void)hp_fail(err, HP_E_INVALID, "there is no command \"%.60s\"", name);
	if (near)
		(void)hp_error_hint(err, "Did you mean \"%s\"?", near);
	else
		(void)hp_error_hint(err, "holdpoint help lists the commands.");
	return NULL;
}

int hp_cmd_help(int argc, char **argv)
{
	const struct hp_command_entry *e;
	struct hp_error err = { 0 };
	struct cli_args a;
	char help[] = "--help";
	int code = cli_parse(&help_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	if (a.n == 0) {
		overview();
		return 0;
	}
	e = hp_command_find(a.arg[0], &err);
	if (!e)
		return cli_error(&a, &err);
	char *words[] = { (char *)(uintptr_t)e->name, help, NULL };
	return e->run(2, words);
}

/* scripts/completion.bash, as installed, is this text: a test compares them. */
static const char completion[] =
	"# bash completion for holdpoint: what its own help lists.\n"
	"_holdpoint()\n"
	"{\n"
	"\tlocal word=${COMP_WORDS[COMP_CWORD]} words\n"
	"\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	"\t\twords=$(\"${COMP_WORDS[0]}\" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
	"\telif [[ $word == -* ]]; then\n"
	"\t\twords=$(\"${COMP_WORDS[0]}\" \"${COMP_WORDS[1]}\" --help 2>/dev/null | awk '/^  --/ { print $1 }')\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
	"\telif [ \"$COMP_CWORD\" -eq 2 ] && [[ ${COMP_WORDS[1]} == help ]]; then\n"
	"\t\twords=$(\"${COMP_WORDS[0]}\" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
	"\telif [ \"$COMP_CWORD\" -eq 2 ] && [[ ${COMP_WORDS[1]} =~ ^(token|secret|plugin|breaker|budget|workflow|bulk|schedules)$ ]]; then\n"
	"\t\twords=$(\"${COMP_WORDS[0]}\" \"${COMP_WORDS[1]}\" --help 2>/dev/null | awk '/^usage:/ { gsub(/[][|]/, \" \", $4); print $4 }')\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
	"\telse\n"
	"\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
	"\tfi\n"
	"}\n"
	"complete -F _holdpoint holdpoint\n";

int hp_cmd_completion(int argc, char **argv)
{
	struct hp_error err = { 0 };
	struct cli_args a;
	int code = cli_parse(&completion_spec, argc, argv, &a);

	if (code >= 0)
		return code;
	if (strcmp(a.arg[0], "bash") != 0) {
		(void)hp_fail(&err, HP_E_INVALID, "there is no completion for \"%.60s\"", a.arg[0]);
		(void)hp_error_hint(&err, "Only bash has one.");
		return cli_error(&a, &err);
	}
	(void)fputs(completion, stdout);
	return 0;
}
