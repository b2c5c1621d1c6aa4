/* The runtime's small parts: counters, secrets, files, crash points' names. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/crash.h"
#include "runtime/cluster.h"
#include "runtime/counters.h"
#include "runtime/files.h"
#include "runtime/secrets.h"
#include "runtime/supervisor_private.h"
#include "../lib/suite.h"

static char dir[64];

static void make_dir(void)
{
	snprintf(dir, sizeof dir, "/tmp/holdpoint-parts.XXXXXX");
	ck_assert(mkdtemp(dir) != NULL);
}

static void remove_dir(void)
{
	struct hp_error err;

	ck_assert(hp_directory_remove(dir, &err) == 0);
}

static const char *in_dir(const char *name)
{
	static char path[2][256];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
	return path[turn];
}

static void put(const char *name, const char *text)
{
	struct hp_error err;

	ck_assert_msg(hp_file_replace(in_dir(name), hp_bytes_of(text), 0600, &err) == 0, "%s", err.message);
}

START_TEST(counters_are_summed_over_slots)
{
	struct hp_error err;
	int fd = hp_counters_file(2, &err);
	struct hp_counters *a = hp_counters_open(fd, 0, &err), *b = hp_counters_open(fd, 1, &err);
	struct hp_buf text;

	ck_assert(fd >= 0 && a && b);
	*hp_counter(a, "x_total{k=\"1\"}") += 2;
	*hp_counter(b, "x_total{k=\"1\"}") += 3;
	*hp_counterf(b, "x_total{k=\"%d\"}", 2) += 1;
	*hp_counter(a, "g") = 7;
	ck_assert_int_eq((int)hp_counters_sum(b, "x_total{k=\"1\"}"), 5);
	ck_assert_int_eq((int)hp_counters_sum(b, "none"), 0);
	hp_buf_init(&text, 4096);
	hp_counters_render(a, &text);
	ck_assert_str_eq(hp_buf_str(&text), "# TYPE g gauge\ng 7\n# TYPE x_total counter\n"
					    "x_total{k=\"1\"} 5\nx_total{k=\"2\"} 1\n");
	hp_buf_free(&text);
	/* a worker that takes the slot over goes on counting, with nothing in hand */
	hp_counters_close(a);
	a = hp_counters_open(fd, 0, &err);
	ck_assert_ptr_nonnull(a);
	ck_assert_int_eq((int)hp_counters_sum(a, "g"), 0);
	ck_assert_int_eq((int)*hp_counter(a, "x_total{k=\"1\"}"), 2);
	hp_counters_close(a);
	hp_counters_close(b);
	close(fd);
}
END_TEST

START_TEST(too_many_series_are_counted_as_lost)
{
	struct hp_error err;
	struct hp_counters *c = hp_counters_open(-1, 0, &err);

	ck_assert_ptr_nonnull(c);
	for (int i = 0; i < HP_SERIES_MAX + 10; i++)
		++*hp_counterf(c, "s%d_total", i);
	ck_assert_int_eq((int)hp_counters_sum(c, "s0_total"), 1);
	ck_assert_int_eq((int)hp_counters_sum(c, "holdpoint_series_lost_total"), 11);
	ck_assert_ptr_eq(hp_counterf(c, "%0*d", HP_SERIES_NAME_MAX + 5, 0), hp_counter(c, "holdpoint_series_lost_total"));
	hp_counters_close(c);
}
END_TEST

START_TEST(counters_refuse_what_is_no_counter_file)
{
	struct hp_error err;
	int fd = open("/dev/null", O_RDONLY);

	ck_assert(hp_counters_open(fd, 0, &err) == NULL);
	ck_assert(hp_counters_file(0, &err) == -1);
	ck_assert(hp_counters_file(HP_COUNTER_SLOTS_MAX + 1, &err) == -1);
	close(fd);
}
END_TEST

START_TEST(secrets_come_from_directory_file_and_environment)
{
	struct hp_error err;
	struct hp_secrets *s;

	make_dir();
	put("A_KEY", "from-dir\n");
	put("env", "A_KEY=from-file\nB_KEY=b=c\nbad name=x\nEMPTY=\n");
	setenv("A_KEY", "from-env", 1);
	setenv("C_KEY", "from-env", 1);
	s = hp_secrets_new(dir, in_dir("env"), &err);
	ck_assert_msg(s != NULL, "%s", err.message);
	ck_assert_str_eq(hp_secrets_get(s, "A_KEY"), "from-dir");
	ck_assert_str_eq(hp_secrets_get(s, "B_KEY"), "b=c");
	ck_assert_str_eq(hp_secrets_get(s, "C_KEY"), "from-env");
	ck_assert(hp_secrets_get(s, "EMPTY") == NULL);
	ck_assert(hp_secrets_get(s, "D_KEY") == NULL);
	ck_assert(hp_secrets_get(s, "../env") == NULL);
	ck_assert(hp_secrets_get(s, "") == NULL);
	hp_secrets_free(s);
	remove_dir();
}
END_TEST

START_TEST(a_rotated_secret_is_read_again)
{
	struct hp_error err;
	struct hp_secrets *s;

	make_dir();
	put("A_KEY", "one");
	s = hp_secrets_new(dir, NULL, &err);
	ck_assert_ptr_nonnull(s);
	ck_assert_str_eq(hp_secrets_get(s, "A_KEY"), "one");
	put("A_KEY", "two");
	ck_assert_str_eq(hp_secrets_get(s, "A_KEY"), "two");
	hp_secrets_free(s);
	ck_assert(hp_secrets_new("/nonexistent", NULL, &err) == NULL);
	ck_assert(hp_secrets_new(NULL, "/nonexistent", &err) == NULL);
	remove_dir();
}
END_TEST

START_TEST(files_are_replaced_whole_and_bounded_when_read)
{
	struct hp_error err;
	struct hp_buf text;
	struct stat st;

	make_dir();
	put("f", "old");
	put("f", "new");
	hp_buf_init(&text, 16);
	ck_assert(hp_file_read(AT_FDCWD, in_dir("f"), &text, NULL, &err) == 0);
	ck_assert_str_eq(hp_buf_str(&text), "new");
	hp_buf_clear(&text);
	put("f", "0123456789012345678901234567890123456789");
	ck_assert(hp_file_read(AT_FDCWD, in_dir("f"), &text, NULL, &err) == -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	hp_buf_free(&text);
	ck_assert(hp_file_read(AT_FDCWD, in_dir("none"), &text, NULL, &err) == -1);
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
	ck_assert(stat(in_dir("f"), &st) == 0 && (st.st_mode & 0777) == 0600);
	ck_assert(hp_directory_make(in_dir("a/b/c"), 0700, &err) == 0);
	ck_assert(hp_directory_make(in_dir("a/b/c"), 0700, &err) == 0);
	ck_assert(hp_directory_make(in_dir("f/x"), 0700, &err) == -1);
	ck_assert(hp_directory_remove(in_dir("none"), &err) == 0);
	remove_dir();
}
END_TEST

/* In a child: HP_CRASH as given, `visits` times commit_before. */
static int crash_child(const char *spec, int visits)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setenv("HP_CRASH", spec, 1);
		close(STDERR_FILENO);
		hp_crash_init();
		while (visits-- > 0)
			HP_CRASH_POINT(COMMIT_BEFORE);
		_exit(0);
	}
	ck_assert(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

START_TEST(a_crash_point_strikes_at_the_visit_that_was_ordered)
{
	ck_assert_int_eq(crash_child("commit_before:3", 2), 0);
	ck_assert_int_eq(crash_child("commit_before:3", 3), -9);
	ck_assert_int_eq(crash_child("commit_before", 1), -9);
	ck_assert_int_eq(crash_child("*commit_before:2", 2), -9); /* for every worker */
	ck_assert_int_eq(crash_child("commit_acked:1", 5), 0);
	/* an order that means nothing must not pass as one that never struck */
	ck_assert_int_eq(crash_child("no_such_label:1", 1), 2);
	ck_assert_int_eq(crash_child("commit_before:0", 1), 2);
	ck_assert_int_eq(crash_child("commit_before:x", 1), 2);
}
END_TEST

START_TEST(a_crash_point_can_strike_another_process)
{
	pid_t victim, pid;
	char line[32], spec[300];
	int status;

	make_dir();
	victim = fork();
	if (victim == 0)
		for (;;)
			pause();
	snprintf(line, sizeof line, "%d\nmore\n", (int)victim);
	put("victim.pid", line);
	snprintf(spec, sizeof spec, "commit_before:2:%s", in_dir("victim.pid"));
	pid = fork();
	if (pid == 0) {
		setenv("HP_CRASH", spec, 1);
		setenv("HP_CRASH_LOG", in_dir("log"), 1);
		hp_crash_init();
		HP_CRASH_POINT(COMMIT_BEFORE);
		HP_CRASH_POINT(SQL_RAN);
		HP_CRASH_POINT(COMMIT_BEFORE);
		_exit(7);
	}
	ck_assert(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7);
	ck_assert(waitpid(victim, &status, 0) == victim && WIFSIGNALED(status) && WTERMSIG(status) == 9);
	{
		struct hp_buf text;
		char said[200];

		hp_buf_init(&text, 256);
		ck_assert(hp_file_read(AT_FDCWD, in_dir("log"), &text, NULL, NULL) == 0);
		snprintf(said, sizeof said, "commit_before %d\nsql_ran %d\ncommit_before %d\n", (int)pid, (int)pid, (int)pid);
		ck_assert_str_eq(hp_buf_str(&text), said);
		hp_buf_free(&text);
	}
	remove_dir();
}
END_TEST

/* A PostgreSQL that starts has not written yet where its sockets are; our supervisor may
 * have died meanwhile. Who was started for another directory stays somebody else's. */
START_TEST(a_server_that_still_starts_is_recognised)
{
	struct hp_cluster c = {0};
	struct hp_error err;
	char file[400];
	int status;
	pid_t pid;

	make_dir();
	snprintf(c.dir, sizeof c.dir, "%s", dir);
	snprintf(c.socket, sizeof c.socket, "%s/run", dir);
	pid = fork();
	if (pid == 0) {
		char word[300];

		snprintf(word, sizeof word, "unix_socket_directories=%s/run", dir);
		if (chdir(dir) == 0)
			execl("/bin/sh", "sh", "-c", "while :; do sleep 0.1; done", word, (char *)NULL);
		_exit(1);
	}
	ck_assert(pid > 0);
	snprintf(file, sizeof file, "%d\n%s\n1700000000\n5432\n\n", (int)pid, dir);
	put("postmaster.pid", file);
	while (hp_cluster_running(&c, &err) != pid) /* until the child has become the shell: the case has a limit */
		;
	snprintf(c.socket, sizeof c.socket, "%s/elsewhere", dir);
	ck_assert_int_eq(hp_cluster_running(&c, &err), -1);
	ck_assert_int_eq(err.code, HP_E_CONFLICT);
	ck_assert(kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
	ck_assert_int_eq(hp_cluster_running(&c, &err), 0);
	remove_dir();
}
END_TEST

/* Only what cannot live is held back: a worker that is killed now and then, or a
 * PostgreSQL that is, waits no longer the hundredth time. */
START_TEST(what_has_lived_is_started_again_at_once)
{
	static const int64_t waits_ms[] = {0, 200, 400, 800, 1600, 3200, 6400, 10000, 10000};
	int deaths = 0;

	for (size_t i = 0; i < sizeof waits_ms / sizeof *waits_ms; i++)
		ck_assert_int_eq(hp_sup_wait(&deaths, 100 * HP_MSEC), waits_ms[i] * HP_MSEC);
	ck_assert_int_eq(hp_sup_wait(&deaths, 9 * HP_SECOND), 10 * HP_SECOND); /* not longer than its wait */
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(hp_sup_wait(&deaths, 11 * HP_SECOND), 0);
	ck_assert_int_eq(hp_sup_wait(&deaths, HP_SECOND), 200 * HP_MSEC); /* a second is not long enough */
	ck_assert_int_eq(hp_sup_wait(&deaths, HP_SECOND + 1), 0);
}
END_TEST

START_TEST(every_label_has_a_name_of_its_own)
{
	for (int i = 0; i < HP_CRASH__COUNT; i++) {
		ck_assert(hp_crash_name((enum hp_crash_label)i) && hp_crash_description((enum hp_crash_label)i));
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(hp_crash_name((enum hp_crash_label)i), hp_crash_name((enum hp_crash_label)k));
	}
}
END_TEST

HP_SUITE("runtime parts", counters_are_summed_over_slots, too_many_series_are_counted_as_lost,
	 counters_refuse_what_is_no_counter_file, secrets_come_from_directory_file_and_environment,
	 a_rotated_secret_is_read_again, files_are_replaced_whole_and_bounded_when_read,
	 a_crash_point_strikes_at_the_visit_that_was_ordered, a_crash_point_can_strike_another_process,
	 a_server_that_still_starts_is_recognised,
	 what_has_lived_is_started_again_at_once, every_label_has_a_name_of_its_own)
