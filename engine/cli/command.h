/* command.h: a command is one file cmd_NAME.c, one function below, one row in
 * commands.c. main.c looks the word up there and calls it. */
#ifndef HP_CLI_COMMAND_H
#define HP_CLI_COMMAND_H

#include <stddef.h>

struct hp_command_entry {
	const char *name;
	const char *summary;
	/* argv[0] is the command's name. Returns the exit code (see hp_code_exit). */
	int (*run)(int argc, char **argv);
	const char *group; /* heading in the help; NULL: not listed */
};

/* In the help's order; ends with an entry whose name is NULL. */
extern const struct hp_command_entry hp_commands[];

struct hp_error;
/* The command of this name; NULL with err and the nearest right word. */
const struct hp_command_entry *hp_command_find(const char *name, struct hp_error *err);

int hp_cmd_serve(int argc, char **argv);
int hp_cmd_worker(int argc, char **argv);
int hp_cmd_fake(int argc, char **argv);
int hp_cmd_crash_labels(int argc, char **argv);

int hp_cmd_start(int argc, char **argv);
int hp_cmd_runs(int argc, char **argv);
int hp_cmd_show(int argc, char **argv);
int hp_cmd_history(int argc, char **argv);
int hp_cmd_why(int argc, char **argv);
int hp_cmd_watch(int argc, char **argv);
int hp_cmd_cancel(int argc, char **argv);
int hp_cmd_pause(int argc, char **argv);
int hp_cmd_resume(int argc, char **argv);
int hp_cmd_workflow(int argc, char **argv);
int hp_cmd_move(int argc, char **argv);
int hp_cmd_bulk(int argc, char **argv);
int hp_cmd_gc(int argc, char **argv);
int hp_cmd_fsck(int argc, char **argv);
int hp_cmd_retry(int argc, char **argv);
int hp_cmd_skip(int argc, char **argv);
int hp_cmd_undo(int argc, char **argv);
int hp_cmd_give_up(int argc, char **argv);
int hp_cmd_approvals(int argc, char **argv);
int hp_cmd_approve(int argc, char **argv);
int hp_cmd_reject(int argc, char **argv);
int hp_cmd_event(int argc, char **argv);
int hp_cmd_events(int argc, char **argv);
int hp_cmd_workflows(int argc, char **argv);
int hp_cmd_schedules(int argc, char **argv);
int hp_cmd_breakers(int argc, char **argv);
int hp_cmd_breaker(int argc, char **argv);
int hp_cmd_budget(int argc, char **argv);
int hp_cmd_limits(int argc, char **argv);
int hp_cmd_token(int argc, char **argv);
int hp_cmd_secret(int argc, char **argv);
int hp_cmd_migrate(int argc, char **argv);
int hp_cmd_deploy(int argc, char **argv);
int hp_cmd_check(int argc, char **argv);
int hp_cmd_graph(int argc, char **argv);
int hp_cmd_test(int argc, char **argv);
int hp_cmd_plugin(int argc, char **argv);
int hp_cmd_plugin_host(int argc, char **argv);
int hp_cmd_version(int argc, char **argv);
int hp_cmd_help(int argc, char **argv);
int hp_cmd_completion(int argc, char **argv);

#endif
