/* main.c: finds the command and runs it. The commands are listed in commands.c. */
#include <string.h>

#include "base/crash.h"
#include "cli/command.h"
#include "cli/options.h"

int main(int argc, char **argv)
{
	const struct hp_command_entry *command;
	struct hp_error err = { 0 };
	char *help[] = {"help", NULL};

	hp_crash_init();
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return hp_cmd_help(1, help) || argc < 2 ? 2 : 0;
	if (strcmp(argv[1], "--version") == 0)
		return hp_cmd_version(argc - 1, argv + 1);
	command = hp_command_find(argv[1], &err);
	return command ? command->run(argc - 1, argv + 1) : cli_error(NULL, &err);
}
