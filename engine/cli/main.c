/* main.c: finds the command and runs it. The commands are listed in commands.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crash.h"
#include "cli/command.h"
#include "cli/options.h"

/* A standard descriptor that is closed would be given to the next socket, and what
 * is printed would go there. In its place: one whose use fails. */
static void fill_closed(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
			_exit(1);
}

/* What was printed must have arrived: a token on a full disk is lost, and that must
 * not look like success. (Who closes a pipe has seen enough: SIGPIPE ends us.) */
static int finish(int code)
{
	int failed = fflush(stdout) != 0 ? errno : ferror(stdout) ? EIO : 0;
	struct hp_error err = { 0 };

	if (!failed)
		return code;
	(void)hp_fail(&err, HP_E_IO, "cannot write the output: %s", strerror(failed));
	(void)hp_error_hint(&err, "What was asked for may have been done: look before you repeat it.");
	(void)cli_error(NULL, &err);
	return code ? code : hp_code_exit(HP_E_IO);
}

int main(int argc, char **argv)
{
	const struct hp_command_entry *command;
	struct hp_error err = { 0 };
	struct cli_args wrong = { 0 };
	char *help[] = {"help", NULL};

	fill_closed();
	hp_crash_init();
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return finish(hp_cmd_help(1, help) || argc < 2 ? 2 : 0);
	if (strcmp(argv[1], "--version") == 0)
		return finish(hp_cmd_version(argc - 1, argv + 1));
	command = hp_command_find(argv[1], &err);
	wrong.json = cli_wants_json(argc, argv);
	return finish(command ? command->run(argc - 1, argv + 1) : cli_error(&wrong, &err));
}
