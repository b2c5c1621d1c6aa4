/* crash.c: the table of crash points, and what a visit does. */
#include "base/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "base/words.h"

static const struct {
	const char *name;
	const char *description;
} labels[HP_CRASH__COUNT] = {
	[HP_CRASH_CLAIM_BEFORE] = {"claim_before", "runs are about to be claimed"},
	[HP_CRASH_CLAIM_ACKED] = {"claim_acked", "runs were claimed, nothing was done with them"},
	[HP_CRASH_ADOPT] = {"adopt", "a door started a run as ours, nothing was done with it"},
	[HP_CRASH_COMMIT_BEFORE] = {"commit_before", "a batch of transitions is about to leave"},
	[HP_CRASH_COMMIT_ACKED] = {"commit_acked", "a transition is durable, nothing was done with that"},
	[HP_CRASH_PARK_ACKED] = {"park_acked", "a transition that parks or ends a run is durable"},
	[HP_CRASH_EFFECT_BEFORE] = {"effect_before", "an admission is durable, its request has not left"},
	[HP_CRASH_EFFECT_SENT] = {"effect_sent", "a request was handed to the network"},
	[HP_CRASH_EFFECT_REPLIED] = {"effect_replied", "a reply has come, nothing of it is durable"},
	[HP_CRASH_SQL_BEFORE] = {"sql_before", "a statement is about to run"},
	[HP_CRASH_SQL_RAN] = {"sql_ran", "a statement has run, its transaction is open"},
	[HP_CRASH_SQL_COMMITTED] = {"sql_committed", "statement and transition are durable"},
	[HP_CRASH_HEARTBEAT_BEFORE] = {"heartbeat_before", "the lease is about to be prolonged"},
	[HP_CRASH_HEARTBEAT_ACKED] = {"heartbeat_acked", "the lease was prolonged"},
	[HP_CRASH_GC_BEFORE] = {"gc_before", "what is over is about to be removed"},
	[HP_CRASH_GC_STEPPED] = {"gc_stepped", "a step of removing what is over is stored"},
	[HP_CRASH_RELEASE_BEFORE] = {"release_before", "runs are about to be given back"},
	[HP_CRASH_DRAIN_BEFORE] = {"drain_before", "a worker was told to end, nothing was given back"},
	[HP_CRASH_DRAINED] = {"drained", "all was given back, the worker is about to end"},
	[HP_CRASH_TICK_BEFORE] = {"tick_before", "a schedule's tick is due, nothing is stored"},
	[HP_CRASH_SECRET_BEFORE] = {"secret_before", "a reply has brought a secret, it has no number and is not sealed"},
	[HP_CRASH_SECRET_SEALED] = {"secret_sealed", "a secret of a reply has its number and is sealed, nothing is stored"},
	[HP_CRASH_TICK_STORED] = {"tick_stored", "a tick and its run are stored, nothing done with it"},
	[HP_CRASH_BREAKER_BEFORE] = {"breaker_before", "a breaker should open, nothing is stored"},
	[HP_CRASH_BREAKER_STORED] = {"breaker_stored", "a breaker has opened, nothing done with that"},
	[HP_CRASH_WEBHOOK_BEFORE] = {"webhook_before", "a signature is good, nothing is stored"},
	[HP_CRASH_WEBHOOK_STORED] = {"webhook_stored", "a webhook is stored, its sender has no answer"},
	[HP_CRASH_START_BEFORE] = {"start_before", "a run is about to be started by a door"},
	[HP_CRASH_START_STORED] = {"start_stored", "a run is started, the caller has no answer"},
	[HP_CRASH_DECIDE_BEFORE] = {"decide_before", "a decision is about to be stored"},
	[HP_CRASH_DECIDE_STORED] = {"decide_stored", "a decision is stored, the person has no answer"},
	[HP_CRASH_OPERATE_BEFORE] = {"operate_before", "an operator's order is about to be stored"},
	[HP_CRASH_OPERATE_STORED] = {"operate_stored", "an order is stored, the operator has no answer"},
	[HP_CRASH_DEPLOY_BEFORE] = {"deploy_before", "a workflow was checked, nothing of it is stored"},
	[HP_CRASH_DEPLOY_STORED] = {"deploy_stored", "a workflow is deployed, the deployer has no answer"},
	[HP_CRASH_POSTGRES_BEFORE] = {"postgres_before", "the private PostgreSQL is about to be started"},
	[HP_CRASH_POSTGRES_STARTED] = {"postgres_started", "the private PostgreSQL was started, nobody has seen it ready"},
	[HP_CRASH_MIGRATE_BEFORE] = {"migrate_before", "a migration has run, its transaction is open"},
	[HP_CRASH_MIGRATE_STORED] = {"migrate_stored", "a migration is applied"},
};

bool hp_crash_armed;

/* Read once at start; a process has one loop and one thread that visits. */
static int target = -1;
static int64_t countdown;
static const char *victim_file; /* NULL: ourselves */
static int log_fd = -1;

const char *hp_crash_name(enum hp_crash_label label)
{
	HP_ASSERT(label >= 0 && label < HP_CRASH__COUNT);
	return labels[label].name;
}

const char *hp_crash_description(enum hp_crash_label label)
{
	HP_ASSERT(label >= 0 && label < HP_CRASH__COUNT);
	return labels[label].description;
}

static int find(const char *name, size_t n)
{
	for (int i = 0; i < HP_CRASH__COUNT; i++)
		if (strlen(labels[i].name) == n && memcmp(labels[i].name, name, n) == 0)
			return i;
	return -1;
}

/* A test that means to crash something and does not would pass for nothing. */
static void refuse(const char *what, const char *value)
{
	static const char end[] = "\n";
	ssize_t ignored;

	ignored = write(STDERR_FILENO, what, strlen(what));
	ignored = write(STDERR_FILENO, value, strlen(value));
	ignored = write(STDERR_FILENO, end, sizeof end - 1);
	(void)ignored;
	_exit(2);
}

static void parse(const char *spec)
{
	const char *number = strchr(spec, ':');
	const char *file = number ? strchr(number + 1, ':') : NULL;
	char digits[24] = "1";
	size_t n;

	target = find(spec, number ? (size_t)(number - spec) : strlen(spec));
	if (target < 0)
		refuse("HP_CRASH: no such label, see `holdpoint crash-labels`: ", spec);
	if (number) {
		n = file ? (size_t)(file - number - 1) : strlen(number + 1);
		if (n >= sizeof digits)
			refuse("HP_CRASH: the number of the visit is too long: ", spec);
		memcpy(digits, number + 1, n);
		digits[n] = 0;
	}
	if (hp_int_parse(digits, &countdown) != 0 || countdown < 1)
		refuse("HP_CRASH: after the label comes `:n`, n from 1: ", spec);
	victim_file = file ? file + 1 : NULL;
}

bool hp_crash_for_all(void)
{
	const char *spec = getenv("HP_CRASH");

	return spec && *spec == '*';
}

void hp_crash_init(void)
{
	const char *spec = getenv("HP_CRASH");
	const char *log = getenv("HP_CRASH_LOG");

	if (spec && *spec)
		parse(spec + (*spec == '*'));
	if (log && *log) {
		log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
		if (log_fd < 0)
			refuse("HP_CRASH_LOG: cannot open: ", log);
	}
	hp_crash_armed = target >= 0 || log_fd >= 0;
}

/* 0 when the file does not name a process: then nothing is killed. */
static pid_t first_line_pid(const char *file)
{
	char text[64];
	int64_t pid = 0;
	ssize_t n;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	if (hp_int_parse(text, &pid) != 0 || pid <= 1 || pid > INT32_MAX)
		return 0;
	return (pid_t)pid;
}

static void strike(void)
{
	pid_t pid = victim_file ? first_line_pid(victim_file) : getpid();

	if (pid == 0)
		refuse("HP_CRASH: no process id in ", victim_file);
	kill(pid, SIGKILL);
	if (!victim_file)
		for (;;)
			pause();
}

void hp_crash_visit(enum hp_crash_label label)
{
	if (log_fd >= 0) {
		char line[64];
		int n = snprintf(line, sizeof line, "%s %d\n", labels[label].name, (int)getpid());
		ssize_t ignored;

		HP_ASSERT(n > 0 && (size_t)n < sizeof line);
		ignored = write(log_fd, line, (size_t)n); /* the suite sees what is missing */
		(void)ignored;
	}
	if ((int)label == target && --countdown == 0)
		strike();
}
