/* commands.c: the table of commands. */
#include "cli/command.h"

#define RUNS "Runs"
#define PEOPLE "Decisions and events"
#define AUTHORS "Workflows"
#define SERVER "Server"
#define OTHER "Other"

const struct hp_command_entry hp_commands[] = {
	{ "start", "start a run of a workflow", hp_cmd_start, RUNS },
	{ "runs", "list runs", hp_cmd_runs, RUNS },
	{ "show", "one run: where it is, what happened, what it knows", hp_cmd_show, RUNS },
	{ "history", "every step of a run", hp_cmd_history, RUNS },
	{ "why", "what a run waits for, and who can move it", hp_cmd_why, RUNS },
	{ "watch", "follow a run as it goes", hp_cmd_watch, RUNS },
	{ "cancel", "end a run", hp_cmd_cancel, RUNS },
	{ "pause", "stop a run where nothing of it is on its way", hp_cmd_pause, RUNS },
	{ "resume", "let a paused run go on", hp_cmd_resume, RUNS },
	{ "retry", "held run: try again", hp_cmd_retry, RUNS },
	{ "move", "let a run follow another version of its workflow", hp_cmd_move, RUNS },
	{ "bulk", "cancel, pause, resume, retry, skip, undo, give up or move many runs", hp_cmd_bulk, RUNS },
	{ "undo", "held run: take back what it did, then end it", hp_cmd_undo, RUNS },
	{ "skip", "held run: go on as if the state had succeeded", hp_cmd_skip, RUNS },
	{ "give-up", "held run: end it as failed", hp_cmd_give_up, RUNS },

	{ "approvals", "what waits for a decision; one of them in full", hp_cmd_approvals, PEOPLE },
	{ "approve", "sign what an approval asks for", hp_cmd_approve, PEOPLE },
	{ "reject", "refuse what an approval asks for", hp_cmd_reject, PEOPLE },
	{ "event", "send an event to the runs that wait for it", hp_cmd_event, PEOPLE },
	{ "events", "list events that came in", hp_cmd_events, PEOPLE },

	{ "workflows", "list what is deployed", hp_cmd_workflows, AUTHORS },
	{ "workflow", "pause or resume all new runs of a workflow", hp_cmd_workflow, AUTHORS },
	{ "schedules", "list schedules; show, pause, resume, run one now", hp_cmd_schedules, AUTHORS },
	{ "budget", "how much may be spent: list, show, set, unset", hp_cmd_budget, AUTHORS },
	{ "limits", "every limit that is in use, and how many wait for it", hp_cmd_limits, AUTHORS },
	{ "check", "look for mistakes in workflow files", hp_cmd_check, AUTHORS },
	{ "test", "run the tests beside workflow files", hp_cmd_test, AUTHORS },
	{ "graph", "a workflow's states and ways as a Mermaid flowchart", hp_cmd_graph, AUTHORS },
	{ "deploy", "make workflow files the current definitions", hp_cmd_deploy, AUTHORS },
	{ "plugin", "look at native plugins: can they be used?", hp_cmd_plugin, AUTHORS },

	{ "serve", "run the engine", hp_cmd_serve, SERVER },
	{ "breakers", "list what is called, and whether it is called now", hp_cmd_breakers, SERVER },
	{ "breaker", "one circuit breaker: show, open, close, reset", hp_cmd_breaker, SERVER },
	{ "worker", "one worker process (serve starts them)", hp_cmd_worker, NULL },
	{ "plugin-host", "the process of a native plugin (workers start them)", hp_cmd_plugin_host, NULL },
	{ "fake", "run a simulated provider", hp_cmd_fake, SERVER },
	{ "migrate", "bring a database's schema up to date", hp_cmd_migrate, SERVER },
	{ "gc", "remove what ended long enough ago; engines do it by themselves", hp_cmd_gc, SERVER },
	{ "fsck", "check what the database says of every run; changes nothing", hp_cmd_fsck, SERVER },
	{ "token", "make, list and revoke tokens for the API", hp_cmd_token, SERVER },
	{ "secret", "set, list, promote and retire secrets of the encrypted table", hp_cmd_secret, SERVER },
	{ "crash-labels", "list the points where a test can crash the engine", hp_cmd_crash_labels, SERVER },

	{ "completion", "print the completion script for bash", hp_cmd_completion, OTHER },
	{ "version", "print the version", hp_cmd_version, OTHER },
	{ "help", "print help about a command", hp_cmd_help, OTHER },
	{ 0 },
};
