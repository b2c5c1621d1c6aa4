/* torture.c: one test after the other, each with every call that can fail failing once.
 *
 * Check forks for each test. Linked with --wrap=fork the new process is no test but a
 * master: it forks the test once to count its calls, by class and by the way (the stack)
 * that leads to them, then once per call with that one failing, and looks at how that
 * ended. First one call of each way that no test before it had, then others, as long as
 * there is time. What is found is written to HP_TORTURE_LOG, the sums of each test, too.
 *
 *   HP_TORTURE_LOG=DIR         where; without it the program is an ordinary test
 *   HP_TORTURE_MS=N            time for the program (10000) …
 *   HP_TORTURE_OTHERS_MS=N     … and, of that, for the other calls of each test (200)
 *   HP_TORTURE_SEED=N          another sample of the calls that are left (1)
 *   HP_TORTURE_CLASS=NAME      only calls of that class
 *   HP_TORTURE_ONE=T:CLASS:N   only the Nth call of that class in test T, in plain view,
 *                              with the stack of that call
 */
#include "torture/torture.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAYS_MAX 20000     /* ways to a call, per test */
#define TABLE (1 << 16)    /* of their hashes */
#define LOOKED_AT 200000   /* calls of a test whose stacks are looked at */
#define FRAMES 10
#define OUTPUT_MAX 60000

static const char *const names[TORTURE_CLASSES] = {"memory", "arena", "lua",   "json",   "system", "libpq",
						   "curl",   "httpd", "crypto", "child"};

struct way {
	int class;
	unsigned long n;
};
static struct {
	atomic_ulong seen[TORTURE_CLASSES];
	atomic_int fired;
	int n_ways;
	struct way ways[WAYS_MAX];
	uint64_t table[TABLE];
} *shared;

static enum { OFF, COUNT, FAIL } mode;
static struct way victim;
static pid_t root, test; /* Check's own process; the test under way */
static int test_number, check_fd = -1;
static _Thread_local bool within;
static long seed = 1;
static int64_t deadline;
static bool alone; /* HP_TORTURE_ONE */

/* ---- in the test ---- */

static bool is_new(int class)
{
	void *frames[FRAMES];
	uint64_t h = 1469598103934665603u ^ (uint64_t)class;
	int n = backtrace(frames, FRAMES);

	for (int i = 1; i < n; i++)
		h = (h ^ (uint64_t)(uintptr_t)frames[i]) * 1099511628211u;
	h |= 1;
	for (uint64_t at = h; ; at++) {
		if (shared->table[at % TABLE] == h)
			return false;
		if (shared->table[at % TABLE] == 0) {
			shared->table[at % TABLE] = h;
			return true;
		}
	}
}

bool torture_fails(enum torture_class c)
{
	unsigned long n;
	bool fails = false;

	if (mode == OFF || within)
		return false;
	within = true;
	if (getpid() != test)
		c = TORTURE_CHILD;
	n = atomic_fetch_add(&shared->seen[c], 1) + 1;
	if (mode == COUNT && n <= LOOKED_AT && shared->n_ways < WAYS_MAX && is_new((int)c))
		shared->ways[shared->n_ways++] = (struct way){(int)c, n};
	if (mode == FAIL && victim.class == (int)c && victim.n == n) {
		fails = true;
		atomic_store(&shared->fired, 1);
		if (alone)
			__sanitizer_print_stack_trace();
	}
	within = false;
	return fails;
}

int torture_one_of(const int *codes, int n)
{
	return codes[(victim.n + (unsigned long)seed) % (unsigned long)n];
}

/* ---- in the master ---- */

struct end {
	bool hung;
	int status;
	char out[OUTPUT_MAX + 1]; /* standard output and error */
	char said[1000];          /* the end of what the test told Check */
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

static void read_back(int fd, char *to, size_t n, off_t from)
{
	ssize_t got = pread(fd, to, n - 1, from > 0 ? from : 0);

	to[got > 0 ? got : 0] = 0;
	for (ssize_t i = 0; i < got; i++)
		if (to[i] == 0)
			to[i] = ' ';
}

/* Check wants to hear of each test: of the run without a fault. */
static void pass_on(int said)
{
	char block[65536];
	off_t at = 0;
	ssize_t n;

	while (check_fd >= 0 && (n = pread(said, block, sizeof block, at)) > 0 && write(check_fd, block, (size_t)n) == n)
		at += n;
}

static bool ended_within(int pidfd, int64_t ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t until = now_ms() + ms;

	for (;;) {
		int64_t left = until - now_ms();

		if (poll(&p, 1, left > 0 ? (int)left : 0) > 0)
			return true;
		if (left <= 0)
			return false;
	}
}

/* Forks the test. True in the new process: go on and be the test. */
static bool run(int how, struct way v, int64_t ms, struct end *e)
{
	int out = memfd_create("out", 0), said = memfd_create("said", 0), fd;
	pid_t pid;

	memset(shared->seen, 0, sizeof shared->seen);
	atomic_store(&shared->fired, 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		if (check_fd >= 0)
			dup2(said, check_fd);
		close(out);
		close(said);
		victim = v;
		test = getpid();
		mode = how;
		return true;
	}
	fd = pidfd_open(pid, 0);
	e->hung = !ended_within(fd, ms);
	if (e->hung) {
		kill(pid, SIGABRT); /* the sanitizer says where it is */
		if (!ended_within(fd, 3000))
			kill(pid, SIGKILL);
	}
	close(fd);
	while (waitpid(pid, &e->status, 0) < 0 && errno == EINTR)
		;
	kill(-pid, SIGKILL); /* what it left running */
	if (how == COUNT)
		pass_on(said);
	read_back(out, e->out, sizeof e->out, 0);
	read_back(said, e->said, sizeof e->said, lseek(said, 0, SEEK_END) - (off_t)sizeof e->said);
	close(out);
	close(said);
	return false;
}

/* The first line of a report's stacks that is a place of ours; "" when there is none. */
static const char *first_place(const char *text, char *place, size_t n)
{
	static const char *const passed[] = {"tests/torture/", "engine/base/alloc.c", "engine/base/json.c:2",
					     "engine/base/error.c", "engine/base/arena.c", "engine/base/buf.c"};

	place[0] = 0;
	for (const char *at = text; (at = strstr(at, "    #")) != NULL; at++) {
		size_t length = strcspn(at, "\n");
		char line[500];
		const char *where;
		bool pass = false;

		snprintf(line, sizeof line, "%.*s", (int)length, at);
		where = strstr(line, " engine/");
		if (!where)
			where = strstr(line, " tests/");
		for (size_t i = 0; where && i < sizeof passed / sizeof *passed; i++)
			pass = pass || strncmp(where + 1, passed[i], strlen(passed[i])) == 0;
		if (where && !pass) {
			snprintf(place, n, "%s", where + 1);
			return place;
		}
	}
	return place;
}

/* "": it ended as it may: well, with an assertion of the test, or with a crash of the test's
 * own, which goes on with nothing in its hands, or the store in memory has none left: it is
 * a tool of tests, and stops the process (mem.h). Else what is wrong; "waits …": the test waits
 * for something that may have been lost, or cannot come any more: somebody has to look. */
static const char *judge(const struct end *e, char *text, size_t n)
{
	char place[300];
	const char *what = strstr(e->out, "ERROR: "), *ub = strstr(e->out, "runtime error: ");

	while (ub && ub > e->out && ub[-1] != '\n')
		ub--;
	if (ub && strncmp(ub, "tests/", 6) == 0) {
		return "";
	} else if (ub) {
		snprintf(text, n, "undefined: %.*s", (int)strcspn(ub, "\n"), ub);
	} else if (e->hung) {
		first_place(e->out, place, sizeof place);
		snprintf(text, n, "%s at %s", strncmp(place, "tests/", 6) == 0 ? "waits" : "hangs", place);
	} else if (what && strstr(e->out, "LeakSanitizer")) {
		snprintf(text, n, "leaks what came from %s", first_place(what, place, sizeof place));
	} else if (what) {
		first_place(what, place, sizeof place);
		/* jansson 2.14 asserts when its buffer cannot grow in the middle of a token */
		if (strstr(what, "__assert_fail") && strstr(what, "libjansson"))
			return "";
		if (strncmp(place, "tests/", 6) == 0 || strncmp(place, "engine/store/mem/", 17) == 0)
			return "";
		snprintf(text, n, "%.*s at %s", (int)strcspn(what, "("), what, place);
	} else if (WIFSIGNALED(e->status)) {
		snprintf(text, n, "ended by signal %d", WTERMSIG(e->status));
	} else {
		return "";
	}
	return text;
}

static struct {
	unsigned long seen[TORTURE_CLASSES], ways[TORTURE_CLASSES], failed[TORTURE_CLASSES], borne[TORTURE_CLASSES],
	    found[TORTURE_CLASSES],
	    ways_failed[TORTURE_CLASSES]; /* of the ways, those with a call that failed */
} sums;

static void append(const char *name, const char *text)
{
	char path[600];
	int fd;

	snprintf(path, sizeof path, "%s/%s", getenv("HP_TORTURE_LOG"), name);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

static void report(struct way v, const char *found, const struct end *e)
{
	char line[1200], name[200];

	snprintf(line, sizeof line, "FOUND %s %d:%s:%lu %s\n", program_invocation_short_name, test_number, names[v.class],
		 v.n, found);
	append(strncmp(found, "waits", 5) == 0 ? "waits" : "found", line);
	snprintf(name, sizeof name, "%s.%d.%s.%lu", program_invocation_short_name, test_number, names[v.class], v.n);
	append(name, e->out);
	append(name, "\n");
	append(name, e->said);
}

/* True in a new process that is to be the test. */
static bool fail_one(struct way v, int64_t ms)
{
	static struct end e;
	char text[1000];
	const char *found;

	if (run(FAIL, v, ms, &e))
		return true;
	if (!atomic_load(&shared->fired))
		return false; /* it went another way this time */
	sums.failed[v.class]++;
	found = judge(&e, text, sizeof text);
	if (found[0]) {
		sums.found[v.class] += strncmp(found, "waits", 5) != 0;
		report(v, found, &e);
	} else if (WIFEXITED(e.status) && WEXITSTATUS(e.status) == 0) {
		sums.borne[v.class]++;
	}
	return false;
}

static long number_of(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text && *text ? strtol(text, NULL, 10) : otherwise;
}

static void tell(void)
{
	char line[300];

	for (int c = 0; c < TORTURE_CLASSES; c++) {
		if (!sums.seen[c])
			continue;
		snprintf(line, sizeof line, "%s %d %s %lu %lu %lu %lu %lu %lu\n", program_invocation_short_name, test_number,
			 names[c], sums.seen[c], sums.ways[c], sums.failed[c], sums.borne[c], sums.found[c],
			 sums.ways_failed[c]);
		append("sums", line);
	}
}

static bool wanted(int class)
{
	const char *only = getenv("HP_TORTURE_CLASS");

	return !only || !*only || strcmp(only, names[class]) == 0;
}

static bool is_first(int known, struct way v)
{
	for (int i = known; i < shared->n_ways; i++)
		if (shared->ways[i].class == v.class && shared->ways[i].n == v.n)
			return true;
	return false;
}

/* Others than the first of each way: here and there, another sample for each seed. */
static bool sample(int known, int64_t until, int64_t ms)
{
	unsigned long all = 0;

	for (int c = 0; c < TORTURE_CLASSES; c++)
		all += wanted(c) ? sums.seen[c] : 0;
	for (unsigned long i = 0; i < all && now_ms() < until; i++) {
		unsigned long k = (i * 2654435761u + (unsigned long)seed * 40503u) % all;
		int c = 0;

		while (!wanted(c) || k >= sums.seen[c])
			k -= wanted(c) ? sums.seen[c] : 0, c++;
		if (!is_first(known, (struct way){c, k + 1}) && fail_one((struct way){c, k + 1}, ms))
			return true;
	}
	return false;
}

/* What the master does. True in a process that is to be the test. */
static bool torture_test(void)
{
	static struct end e;
	int64_t began = now_ms(), until, ms;
	int known = shared->n_ways;

	if (run(COUNT, (struct way){0, 0}, 60000, &e))
		return true;
	ms = 3000 + 10 * (now_ms() - began);
	for (int c = 0; c < TORTURE_CLASSES; c++)
		sums.seen[c] = atomic_load(&shared->seen[c]);
	for (int i = known; i < shared->n_ways; i++)
		sums.ways[shared->ways[i].class]++;
	if (!WIFEXITED(e.status) || WEXITSTATUS(e.status) != 0) {
		report((struct way){0, 0}, "fails without a fault", &e);
		return false;
	}
	for (int i = known; i < shared->n_ways && now_ms() < deadline; i++) {
		int class = shared->ways[i].class;
		unsigned long before = sums.failed[class];

		if (wanted(class) && fail_one(shared->ways[i], ms))
			return true;
		sums.ways_failed[class] += sums.failed[class] - before;
	}
	until = now_ms() + number_of("HP_TORTURE_OTHERS_MS", 200);
	if (sample(known, until < deadline ? until : deadline, ms))
		return true;
	tell();
	return false;
}

/* T:CLASS:N: only that one, and everybody can see it. The other tests run as ever: Check
 * wants to hear of each. */
static void one(const char *spec)
{
	char class[32] = "";
	int t = 0;

	if (sscanf(spec, "%d:%31[a-z]:%lu", &t, class, &victim.n) != 3 || t != test_number)
		return;
	for (int c = 0; c < TORTURE_CLASSES; c++)
		if (strcmp(class, names[c]) == 0)
			victim.class = c;
	test = getpid();
	alone = true;
	mode = FAIL;
}

/* What Check takes messages from: a file without a name. */
static void find_check_fd(void)
{
	for (int fd = 3; fd < 64; fd++) {
		char link[64], to[256];
		ssize_t n;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		n = readlink(link, to, sizeof to - 1);
		to[n > 0 ? n : 0] = 0;
		if (strstr(to, " (deleted)"))
			check_fd = fd;
	}
}

static void __attribute__((constructor)) begin(void)
{
	void *warm[4];

	if (!getenv("HP_TORTURE_LOG") && !getenv("HP_TORTURE_ONE"))
		return;
	root = getpid();
	seed = number_of("HP_TORTURE_SEED", 1);
	deadline = now_ms() + number_of("HP_TORTURE_MS", 10000);
	(void)backtrace(warm, 4); /* the first one loads a library */
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
}

pid_t __real_fork(void);
pid_t __wrap_fork(void);
pid_t __wrap_fork(void)
{
	bool of_check = root != 0 && getpid() == root;
	pid_t pid;

	if (of_check)
		test_number++;
	pid = __real_fork();
	if (pid != 0 || !of_check)
		return pid;
	root = 0;
	if (getenv("HP_TORTURE_ONE")) {
		one(getenv("HP_TORTURE_ONE"));
		return 0;
	}
	find_check_fd();
	if (!torture_test())
		_exit(0);
	return 0;
}
