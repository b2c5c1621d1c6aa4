/* main.c: finds the command and runs it. The commands are listed in commands.c. */
#include <stdio.h>
#include <string.h>

#include "base/crash.h"
#include "base/words.h"
#include "cli/command.h"

#define COMMANDS_MAX 64

static const struct hp_command_entry *find(const char *name)
{
	for (const struct hp_command_entry *c = hp_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static int unknown(const char *name)
{
	const char *names[COMMANDS_MAX], *nearest;
	size_t n = 0;

	for (const struct hp_command_entry *c = hp_commands; c->name && n < COMMANDS_MAX; c++)
		names[n++] = c->name;
	nearest = hp_nearest(name, names, n);
	fprintf(stderr, "holdpoint: there is no command \"%s\"", name);
	if (nearest)
		fprintf(stderr, ", did you mean \"%s\"?", nearest);
	fputs("\n  `holdpoint help` lists the commands\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	const struct hp_command_entry *command;
	char *help[] = {"help", NULL};

	hp_crash_init();
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return hp_cmd_help(1, help) || argc < 2 ? 2 : 0;
	if (strcmp(argv[1], "--version") == 0)
		return hp_cmd_version(argc - 1, argv + 1);
	command = find(argv[1]);
	return command ? command->run(argc - 1, argv + 1) : unknown(argv[1]);
}
