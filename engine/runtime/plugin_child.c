/* plugin_child.c: a process with nothing of ours: no descriptor but its socket, no
 * variable of our environment (database, secrets), no signal mask, no terminal. */
#include "runtime/plugin_child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "plugin/host.h"

#define EXIT_NOT_STARTED 127
#define FIRST_FREE 10
#define END_TIME (300 * HP_MSEC) /* for fini */

static const char *const environment[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/nonexistent", NULL};

/* In the child: only what is safe after fork. */
static void child(int fd, int output, const char *exe, const char *const *argv, pid_t parent)
{
	sigset_t none;
	int null;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	null = open("/dev/null", O_RDONLY);
	/* out of the way of the numbers that are written here */
	fd = fcntl(fd, F_DUPFD, FIRST_FREE);
	output = fcntl(output < 0 ? STDERR_FILENO : output, F_DUPFD, FIRST_FREE);
	if (null < 0 || fd < 0 || output < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0 || dup2(fd, HP_PLUGIN_HOST_FD) < 0)
		_exit(EXIT_NOT_STARTED);
	if (close_range(HP_PLUGIN_HOST_FD + 1, ~0U, 0) != 0 || chdir("/") != 0)
		_exit(EXIT_NOT_STARTED);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(EXIT_NOT_STARTED);
	execve(exe ? exe : "/proc/self/exe", (char *const *)argv, (char *const *)environment);
	_exit(EXIT_NOT_STARTED);
}

void hp_plugin_child_kill(pid_t pid)
{
	kill(-pid, SIGKILL);
	kill(pid, SIGKILL); /* it may not have made its group yet */
}

int hp_plugin_child(const char *exe, const char *file, const char *name, int output, pid_t *pid, int *fd,
		    struct hp_error *err)
{
	char path[PATH_MAX]; /* a name without a slash would be looked for among the system's libraries */
	const char *const argv[] = {"holdpoint", "plugin-host", path, name, NULL};
	pid_t parent = getpid();
	int pair[2];

	if (!realpath(file, path))
		return hp_fail(err, errno == ENOENT ? HP_E_NOT_FOUND : HP_E_IO, "%s: %s", file, strerror(errno));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return hp_fail(err, HP_E_IO, "socketpair: %s", strerror(errno));
	*pid = fork();
	if (*pid == 0)
		child(pair[1], output, exe, argv, parent);
	close(pair[1]);
	if (*pid > 0 && fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0) {
		*fd = pair[0];
		return 0;
	}
	hp_fail(err, HP_E_IO, "the process of a plugin cannot be started: %s", strerror(errno));
	close(pair[0]); /* a child that was made after all ends with it */
	return -1;
}

/* Its end of the socket closes when it ends. */
static void wait_for_end(int fd)
{
	int64_t until = hp_boottime_us() + END_TIME, left;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char block[4096];
	ssize_t n;

	while ((left = until - hp_boottime_us()) > 0) {
		if (poll(&p, 1, (int)(left / HP_MSEC) + 1) <= 0)
			continue;
		n = recv(fd, block, sizeof block, 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return;
	}
}

void hp_plugin_child_end(pid_t pid, int fd, int *status)
{
	if (shutdown(fd, SHUT_WR) == 0)
		wait_for_end(fd);
	hp_plugin_child_kill(pid); /* one that is on its way out keeps its own ending */
	close(fd);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
}
