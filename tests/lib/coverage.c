/* coverage.c: counters of processes that do not end by exit(). Linked into every
 * program of a COVERAGE=1 build (with -Wl,--wrap=…), and nowhere else.
 *
 * gcov writes its counters when a process calls exit(). Ours also end by _exit()
 * (plugin hosts), by SIGKILL to themselves (crash points), and are replaced by another
 * program through fexecve() (which gcc does not know as an end): before each of these
 * the counters are written here. Who is killed by somebody else still writes nothing.
 */
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

void __gcov_dump(void);
void __gcov_reset(void);
void __real__exit(int status) __attribute__((noreturn));
int __real_kill(pid_t pid, int number);
int __real_fexecve(int fd, char *const argv[], char *const envp[]);

void __wrap__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}

int __wrap_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number)
{
	if (number == SIGKILL && pid == getpid())
		__gcov_dump();
	return __real_kill(pid, number);
}

int __wrap_fexecve(int fd, char *const argv[], char *const envp[]);
int __wrap_fexecve(int fd, char *const argv[], char *const envp[])
{
	__gcov_dump();
	__gcov_reset(); /* it comes back when the program cannot be started */
	return __real_fexecve(fd, argv, envp);
}
