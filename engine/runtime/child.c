/* child.c: starting a process. */
#include "runtime/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_STARTED 127

extern char **environ;

/* In the child: only what is safe after fork. The reason goes to standard error. */
static void refuse(const char *what)
{
	static const char prefix[] = "holdpoint: a server cannot be started: ";
	ssize_t ignored;

	ignored = write(STDERR_FILENO, prefix, sizeof prefix - 1);
	ignored = write(STDERR_FILENO, what, strlen(what));
	ignored = write(STDERR_FILENO, "\n", 1);
	(void)ignored;
	_exit(EXIT_NOT_STARTED);
}

static void become_user(const struct hp_place *p)
{
	if (!p->privileged)
		return;
	if (setgroups(0, NULL) != 0 || setresgid(p->gid, p->gid, p->gid) != 0 ||
	    setresuid(p->uid, p->uid, p->uid) != 0)
		refuse("cannot become the service user");
	if (setuid(0) == 0)
		refuse("root's rights could be had back");
}

static void redirect(const char *output)
{
	int fd = open(output, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		refuse("cannot open its log file");
}

static void no_input(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || dup2(fd, STDIN_FILENO) < 0)
		refuse("cannot open /dev/null");
}

static void default_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL); /* those that cannot be changed say so, and stay */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child(const struct hp_place *p, const struct hp_child_spec *spec, pid_t parent)
{
	default_signals();
	setsid();
	umask(077);
	for (int i = 0; i < spec->n_fds; i++)
		if (fcntl(spec->fds[i], F_SETFD, 0) != 0)
			refuse("a descriptor cannot be passed on");
	become_user(p);
	no_input();
	if (spec->output)
		redirect(spec->output);
	if (chdir(spec->directory ? spec->directory : "/") != 0)
		refuse("cannot enter its working directory");
	/* After the change of user, which clears it; the parent may be gone already. */
	if (spec->dies_with_us && (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent))
		refuse("the supervisor is gone");
	if (!spec->armed)
		unsetenv("HP_CRASH");
	if (spec->path)
		execve(spec->path, (char *const *)spec->argv, environ);
	else
		fexecve(p->exe_fd, (char *const *)spec->argv, environ);
	refuse(strerror(errno));
}

int hp_child_start(const struct hp_place *p, const struct hp_child_spec *spec, pid_t *pid,
		   struct hp_error *err)
{
	pid_t parent = getpid();

	*pid = fork();
	if (*pid < 0)
		return hp_fail(err, HP_E_IO, "fork: %s", strerror(errno));
	if (*pid == 0)
		child(p, spec, parent);
	return 0;
}

int hp_child_run(const struct hp_place *p, const struct hp_child_spec *spec, int *status,
		 struct hp_error *err)
{
	sigset_t chld, before;
	pid_t pid, got;
	int rc = -1;

	/* libev would reap it on SIGCHLD, and its status would be lost. */
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	if (hp_child_start(p, spec, &pid, err) != 0)
		goto out;
	do
		got = waitpid(pid, status, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		hp_fail(err, HP_E_IO, "waitpid: %s", strerror(errno));
	else
		rc = 0;
out:
	sigprocmask(SIG_SETMASK, &before, NULL);
	return rc;
}

void hp_child_ending(int status, char *out, size_t n)
{
	if (WIFSIGNALED(status))
		snprintf(out, n, "was killed by signal %d", WTERMSIG(status));
	else
		snprintf(out, n, "exited with code %d", WEXITSTATUS(status));
}
