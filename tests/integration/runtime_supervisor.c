/* The supervisor with real processes: who may start beside it, who is started again,
 * what survives whom. $HP_BIN is the program. One installation for all of it: making
 * a cluster takes seconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/words.h"
#include "runtime/files.h"
#include "lib/suite.h"

#define PATIENCE (60 * HP_SECOND)

static char root[64], data[128], logfile[128], listen_at[64] = "127.0.0.1:0";

/* Between two looks at another process; nothing is decided by how long it takes. */
static void pause_ms(long ms)
{
	struct timespec t = {0, ms * 1000000};

	nanosleep(&t, NULL);
}

static char *content(const char *path)
{
	static char text[1 << 20];
	struct hp_buf b;

	text[0] = 0;
	hp_buf_init(&b, sizeof text - 1);
	if (hp_file_read(AT_FDCWD, path, &b, NULL, NULL) == 0)
		snprintf(text, sizeof text, "%s", hp_buf_str(&b));
	hp_buf_free(&b);
	return text;
}

static const char *in_data(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", data, name);
	return path;
}

static pid_t pid_in(const char *name)
{
	char *text = content(in_data(name));
	int64_t pid = 0;

	text[strcspn(text, "\n")] = 0;
	return hp_int_parse(text, &pid) == 0 ? (pid_t)pid : 0;
}

static bool alive(pid_t pid) { return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM); }

/* ---- the program ---- */

static pid_t spawn(const char *output, const char *const *more)
{
	const char *argv[24] = {"holdpoint", "serve", "--data", data, "--listen", listen_at, "--lease", "2s",
				"--drain", "5s", "--simulated", "stripe,duffel,resend"};
	int n = 12;
	pid_t pid;

	while (more && *more)
		argv[n++] = *more++;
	ck_assert_msg(getenv("HP_BIN") != NULL, "HP_BIN is not set");
	pid = fork();
	if (pid == 0) {
		int fd = open(output, O_WRONLY | O_CREAT | O_APPEND, 0644);

		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		setsid();
		execv(getenv("HP_BIN"), (char *const *)argv);
		_exit(126);
	}
	ck_assert(pid > 0);
	return pid;
}

/* Exit code; a signal as 128 + n. */
static int ended(pid_t pid)
{
	int64_t deadline = hp_boottime_us() + PATIENCE;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		ck_assert_msg(hp_boottime_us() < deadline, "process %d does not end; its log:\n%s", (int)pid,
			      content(logfile));
		pause_ms(20);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* 0: nobody answers. */
static int http_status(const char *path)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {2, 0};
	char *address = content(in_data("address")), reply[64] = "", request[256];
	char *colon = strrchr(address, ':');
	int64_t port = 0, status = 0;
	int fd, n;

	if (!colon)
		return 0;
	colon[strcspn(colon, "\n")] = 0;
	if (hp_int_parse(colon + 1, &port) != 0)
		return 0;
	at.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	n = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
	if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0 && write(fd, request, (size_t)n) == n &&
	    read(fd, reply, sizeof reply - 1) > 12) {
		reply[12] = 0;
		if (hp_int_parse(reply + 9, &status) != 0)
			status = 0;
	}
	close(fd);
	return (int)status;
}

static void is_ready(void)
{
	int64_t deadline = hp_boottime_us() + PATIENCE;

	while (http_status("/readyz") != 200) {
		ck_assert_msg(hp_boottime_us() < deadline, "it does not become ready; its log:\n%s", content(logfile));
		pause_ms(50);
	}
}

/* A new process id in a file of the data directory. */
static pid_t another_pid(const char *name, pid_t before)
{
	int64_t deadline = hp_boottime_us() + PATIENCE;
	pid_t now;

	while ((now = pid_in(name)) == before || !alive(now)) {
		ck_assert_msg(hp_boottime_us() < deadline, "%s stays %d; the log:\n%s", name, (int)now, content(logfile));
		pause_ms(20);
	}
	return now;
}

static void is_gone(pid_t pid, const char *what)
{
	int64_t deadline = hp_boottime_us() + PATIENCE;

	while (alive(pid)) {
		ck_assert_msg(hp_boottime_us() < deadline, "%s %d is still there; the log:\n%s", what, (int)pid,
			      content(logfile));
		pause_ms(20);
	}
}

/* ---- the story ---- */

/* Keys and secrets are in it: no core file, and its files in /proc are root's, whoever
 * it runs as. */
static void memory_is_closed(pid_t pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d/limits", (int)pid);
	ck_assert_msg(strstr(content(path), "Max core file size        0                    0 ") != NULL, "%s", content(path));
	ck_assert(stat(path, &st) == 0);
	ck_assert_int_eq((int)st.st_uid, 0);
}

static pid_t a_first_start(void)
{
	pid_t supervisor = spawn(logfile, NULL);
	struct stat st;

	is_ready();
	ck_assert_int_eq(http_status("/livez"), 200);
	ck_assert_int_eq(pid_in("serve.lock"), supervisor);
	ck_assert(stat(in_data("token"), &st) == 0 && (st.st_mode & 0777) == 0600);
	ck_assert(stat(in_data("simulated/secrets.env"), &st) == 0 && (st.st_mode & 0777) == 0600);
	ck_assert(stat(data, &st) == 0 && (st.st_mode & 0777) == 0700);
	ck_assert(strstr(content(in_data("postgres/PG_VERSION")), "1") != NULL);
	/* nothing runs as root but the supervisor */
	ck_assert(stat(in_data("postgres"), &st) == 0);
	if (geteuid() == 0)
		ck_assert_int_ne((int)st.st_uid, 0);
	memory_is_closed(supervisor);
	memory_is_closed(pid_in("run/worker-1.pid"));
	memory_is_closed(pid_in("run/stripe.pid"));
	return supervisor;
}

static void a_second_start_harms_nothing(pid_t supervisor)
{
	char other[128], who[32];
	pid_t worker = pid_in("run/worker-1.pid"), second;

	snprintf(other, sizeof other, "%s/second.log", root);
	snprintf(who, sizeof who, "process %d", (int)supervisor);
	second = spawn(other, NULL);
	ck_assert_int_eq(ended(second), 5);
	ck_assert_msg(strstr(content(other), "is running already") && strstr(content(other), who), "%s", content(other));
	ck_assert_int_eq(pid_in("serve.lock"), supervisor);
	ck_assert_int_eq(pid_in("run/worker-1.pid"), worker);
	is_ready();
}

static void dead_servers_are_replaced(void)
{
	pid_t worker = pid_in("run/worker-1.pid"), stripe = pid_in("run/stripe.pid");
	char port[16];

	snprintf(port, sizeof port, "%.10s", content(in_data("simulated/stripe.port")));
	kill(worker, SIGKILL);
	kill(stripe, SIGKILL);
	another_pid("run/worker-1.pid", worker);
	another_pid("run/stripe.pid", stripe);
	is_ready();
	ck_assert_str_eq(content(in_data("simulated/stripe.port")), port);
}

static void a_dead_postgres_is_replaced(pid_t supervisor)
{
	pid_t postmaster = pid_in("postgres/postmaster.pid"), worker = pid_in("run/worker-1.pid");

	ck_assert_int_gt(postmaster, 1);
	kill(postmaster, SIGKILL);
	another_pid("postgres/postmaster.pid", postmaster);
	is_ready();
	ck_assert(alive(supervisor));
	ck_assert_int_eq(pid_in("run/worker-1.pid"), worker); /* it reconnects, it does not die */
}

/* Workers and providers end by themselves; PostgreSQL stays and is adopted. */
static pid_t a_killed_supervisor_is_survived(pid_t supervisor)
{
	pid_t postmaster = pid_in("postgres/postmaster.pid"), worker = pid_in("run/worker-1.pid"),
	      stripe = pid_in("run/stripe.pid");
	char token[256];
	pid_t next;

	snprintf(token, sizeof token, "%.200s", content(in_data("token")));
	/* the next one wants the very address that the orphans still hold */
	snprintf(listen_at, sizeof listen_at, "%.40s", content(in_data("address")) + strlen("http://"));
	listen_at[strcspn(listen_at, "\n")] = 0;
	kill(supervisor, SIGKILL);
	ck_assert_int_eq(ended(supervisor), 128 + SIGKILL);
	unlink(in_data("address"));
	next = spawn(logfile, NULL);
	is_gone(worker, "worker");
	is_gone(stripe, "provider");
	ck_assert(alive(postmaster));
	is_ready();
	ck_assert_int_eq(pid_in("postgres/postmaster.pid"), postmaster);
	ck_assert(strstr(content(logfile), "adopted") != NULL);
	ck_assert_str_eq(content(in_data("token")), token);
	return next;
}

static void an_adopted_postgres_is_watched_too(void)
{
	pid_t postmaster = pid_in("postgres/postmaster.pid");

	kill(postmaster, SIGKILL);
	another_pid("postgres/postmaster.pid", postmaster);
	is_ready();
}

static void it_stops_in_order(pid_t supervisor)
{
	pid_t postmaster = pid_in("postgres/postmaster.pid"), worker = pid_in("run/worker-1.pid");

	kill(supervisor, SIGTERM);
	ck_assert_int_eq(ended(supervisor), 0);
	ck_assert(!alive(worker));
	ck_assert(!alive(postmaster));
	ck_assert(access(in_data("postgres/postmaster.pid"), F_OK) != 0);
	ck_assert_int_eq(http_status("/livez"), 0);
}

/* Data of another major version: refused, nothing changed. */
static void another_version_is_refused(void)
{
	char other[128], version[16];
	struct hp_error err;
	pid_t pid;

	snprintf(other, sizeof other, "%s/version.log", root);
	snprintf(version, sizeof version, "%.8s", content(in_data("postgres/PG_VERSION")));
	ck_assert(hp_file_replace(in_data("postgres/PG_VERSION"), hp_bytes_of("9\n"), 0644, &err) == 0);
	pid = spawn(other, NULL);
	ck_assert_int_eq(ended(pid), 5);
	ck_assert_msg(strstr(content(other), "was written by PostgreSQL 9") != NULL, "%s", content(other));
	ck_assert_str_eq(content(in_data("postgres/PG_VERSION")), "9\n");
	ck_assert(hp_file_replace(in_data("postgres/PG_VERSION"), hp_bytes_of(version), 0644, &err) == 0);
}

/* A signal during the start stops what was started by then. */
static void a_start_can_be_interrupted(void)
{
	pid_t supervisor, postmaster;

	unlink(in_data("address"));
	supervisor = spawn(logfile, NULL);
	postmaster = another_pid("postgres/postmaster.pid", 0);
	kill(supervisor, SIGINT);
	ck_assert_int_eq(ended(supervisor), 0);
	is_gone(postmaster, "PostgreSQL");
}

static void a_second_signal_ends_it_at_once(void)
{
	pid_t supervisor, postmaster, worker;

	unlink(in_data("address"));
	supervisor = spawn(logfile, NULL);
	is_ready();
	postmaster = pid_in("postgres/postmaster.pid");
	worker = pid_in("run/worker-1.pid");
	kill(supervisor, SIGTERM);
	kill(supervisor, SIGTERM); /* may be seen as one: then it ends in order */
	pause_ms(20);
	kill(supervisor, SIGTERM);
	ck_assert_int_eq(ended(supervisor), 0);
	is_gone(worker, "worker");
	is_gone(postmaster, "PostgreSQL");
}

START_TEST(a_life)
{
	struct hp_error err;
	pid_t supervisor;

	snprintf(root, sizeof root, "/tmp/holdpoint-supervisor.XXXXXX");
	ck_assert(mkdtemp(root) != NULL && chmod(root, 0755) == 0);
	snprintf(data, sizeof data, "%s/data", root);
	snprintf(logfile, sizeof logfile, "%s/log", root);
	supervisor = a_first_start();
	a_second_start_harms_nothing(supervisor);
	dead_servers_are_replaced();
	a_dead_postgres_is_replaced(supervisor);
	supervisor = a_killed_supervisor_is_survived(supervisor);
	an_adopted_postgres_is_watched_too();
	it_stops_in_order(supervisor);
	another_version_is_refused();
	a_start_can_be_interrupted();
	a_second_signal_ends_it_at_once();
	ck_assert(hp_directory_remove(root, &err) == 0);
}
END_TEST

/* A test that fails half-way leaves nothing running. */
static void sweep(void)
{
	pid_t pids[] = {pid_in("serve.lock"), pid_in("postgres/postmaster.pid")};

	if (access(root, F_OK) != 0)
		return;
	for (int i = 0; i < 2; i++)
		if (alive(pids[i]))
			kill(pids[i], i == 0 ? SIGKILL : SIGQUIT);
}

int main(void)
{
	const TTest *const tests[] = {a_life};

	setenv("CK_DEFAULT_TIMEOUT", "180", 0);
	setenv("CK_FORK", "no", 0); /* so that sweep() knows the directory */
	atexit(sweep);
	return hp_run_suite("runtime supervisor", tests, 1);
}
