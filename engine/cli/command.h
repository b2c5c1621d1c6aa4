/* command.h: a command is one file cmd_NAME.c, one function below, one row in main.c. */
#ifndef HP_CLI_COMMAND_H
#define HP_CLI_COMMAND_H

struct hp_command_entry {
	const char *name;
	const char *summary;
	/* argv[0] is the command's name. Returns the exit code (see hp_code_exit). */
	int (*run)(int argc, char **argv);
};

int hp_cmd_serve(int argc, char **argv);
int hp_cmd_worker(int argc, char **argv);
int hp_cmd_fake(int argc, char **argv);
int hp_cmd_crash_labels(int argc, char **argv);

#endif
