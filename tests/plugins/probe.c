/* probe.c: a plugin whose activities do what plugins should not, one each. */
#include <hp_plugin.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct hp_host *host;
static uint64_t last_token;   /* of the call before */
static int second;            /* what its second completion returned */
static uint64_t cancelled;

static void ok(uint64_t token, const char *value)
{
	struct hp_plugin_result r = {sizeof r, HP_PLUGIN_OK, value, strlen(value), NULL, NULL, -1};

	second = host->complete(token, &r);
}

static void failed(uint64_t token, int cls, const char *code, const char *message, int64_t after)
{
	struct hp_plugin_result r = {sizeof r, cls, NULL, 0, code, message, after};

	host->complete(token, &r);
}

/* Everything it was given, so that a test sees what arrives. */
static void echo(void *state, const struct hp_call *c)
{
	char text[4096];
	const char *header = "";
	int n;

	for (size_t i = 0; i < c->n_headers; i++)
		if (strcmp(c->headers[i].name, "x-plain") == 0)
			header = c->headers[i].value;
	n = snprintf(text, sizeof text, "{\"args\":%s,\"key\":\"%s\",\"endpoint\":\"%s\",\"state\":\"%s\",\"header\":\"%s\"}", c->args,
		     c->key, c->endpoint ? c->endpoint : "", (const char *)state, header);
	if (n < 0 || n >= (int)sizeof text)
		failed(c->token, HP_PLUGIN_TERMINAL, "too_large", "the argument is too large", -1);
	else
		ok(c->token, text);
}

/* "fail": {"class": 1, "code": …} as the arguments say, roughly read. */
static void fail(void *state, const struct hp_call *c)
{
	const char *digit = strpbrk(c->args, "0123456789");

	(void)state;
	failed(c->token, digit ? *digit - '0' : 2, strstr(c->args, "bad code") ? "Bad Code" : "said_so", "as it was told", 1500000);
}

static void crash(void *state, const struct hp_call *c)
{
	(void)state;
	(void)c;
	raise(SIGSEGV); /* as a bad address does, whatever is mapped */
}

static void hang(void *state, const struct hp_call *c)
{
	volatile int go = 1;

	(void)state;
	(void)c;
	while (go)
		;
}

static void leave(void *state, const struct hp_call *c)
{
	(void)state;
	(void)c;
	_exit(7);
}

static void note(const struct hp_call *c);

static void silent(void *state, const struct hp_call *c)
{
	(void)state;
	note(c);
	last_token = c->token;
}

/* How much time it was told it has. */
static void allotted(void *state, const struct hp_call *c)
{
	char text[40];

	(void)state;
	snprintf(text, sizeof text, "%lld", (long long)c->timeout_us);
	ok(c->token, text);
}

static void huge(void *state, const struct hp_call *c)
{
	size_t n = 3 * 1024 * 1024;
	char *p = malloc(n + 1);
	struct hp_plugin_result r = {sizeof r, HP_PLUGIN_OK, p, n, NULL, NULL, -1};

	(void)state;
	memset(p, 'x', n);
	p[0] = p[n - 1] = '"';
	p[n] = 0;
	host->complete(c->token, &r);
	free(p);
}

static void not_json(void *state, const struct hp_call *c)
{
	(void)state;
	ok(c->token, "{\"a\":");
}

/* Answers twice; the second answer is another. `last` says what became of it. */
static void twice(void *state, const struct hp_call *c)
{
	(void)state;
	ok(c->token, "\"first\"");
	ok(c->token, "\"second\"");
	last_token = c->token;
}

/* Tries to answer the call before this one once more, then tells how that went. */
static void stale(void *state, const struct hp_call *c)
{
	char text[80];

	(void)state;
	ok(last_token, "\"from the past\"");
	snprintf(text, sizeof text, "{\"second\":%d,\"live\":%d,\"cancelled\":%d}", second, host->live(last_token),
		 cancelled != 0 && cancelled == last_token);
	ok(c->token, text);
}

static void cancel(void *state, uint64_t token)
{
	(void)state;
	cancelled = token;
}

struct later {
	uint64_t token;
};

static void work(void *arg)
{
	struct later *l = arg;

	ok(l->token, "\"from a thread\"");
}

static void done(void *arg)
{
	free(arg);
}

static void threaded(void *state, const struct hp_call *c)
{
	struct later *l = malloc(sizeof *l);

	(void)state;
	l->token = c->token;
	if (host->pool_run(work, done, l) != 0) {
		free(l);
		failed(c->token, HP_PLUGIN_RETRYABLE, "said_so", "the pool is full", -1);
	}
}

static void on_time(void *arg)
{
	struct later *l = arg;

	ok(l->token, "\"in time\"");
	free(l);
}

static void timed(void *state, const struct hp_call *c)
{
	struct later *l = malloc(sizeof *l);

	(void)state;
	l->token = c->token;
	host->log(HP_PLUGIN_INFO, "a timer is started");
	host->timer_stop(12345); /* never was one */
	host->timer_start(20000, on_time, l);
}

/* Talks in a circle, faster than anybody can read, and prints as well. */
static void flood(void *state, const struct hp_call *c)
{
	static const char frame[] = "\0\0\0\x17{\"log\":1,\"message\":\"x\"}";
	static char block[2000 * (sizeof frame - 1)];

	(void)state;
	(void)c;
	for (size_t i = 0; i < 2000; i++)
		memcpy(block + i * (sizeof frame - 1), frame, sizeof frame - 1);
	for (int i = 0;; i++)
		if ((i < 100 && write(1, "printed\n", 8) < 0) || write(3, block, sizeof block) != (ssize_t)sizeof block)
			_exit(9);
}

/* Leaves a process behind that would live for long. */
static void spawn(void *state, const struct hp_call *c)
{
	char text[40];
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		execl("/bin/sleep", "sleep", "600", (char *)NULL);
		_exit(9);
	}
	snprintf(text, sizeof text, "%ld", (long)pid);
	ok(c->token, text);
}

/* A line with the call's key into the file that {"note": "…"} names. */
static void note(const struct hp_call *c)
{
	char path[256];
	FILE *f;

	if (sscanf(c->args, "{\"note\":\"%255[^\"]\"}", path) != 1 || !(f = fopen(path, "a")))
		return;
	fprintf(f, "%s\n", c->key);
	fclose(f);
}

static char marked[256];

/* Remembers a file, which fini removes. */
static void mark(void *state, const struct hp_call *c)
{
	(void)state;
	if (c->args_len > 2 && c->args_len < sizeof marked) {
		memcpy(marked, c->args + 1, c->args_len - 2);
		marked[c->args_len - 2] = 0;
	}
	ok(c->token, "null");
}

static void fini(void *state)
{
	(void)state;
	if (marked[0])
		unlink(marked);
}

/* Writes garbage into the engine's socket. */
static void garbage(void *state, const struct hp_call *c)
{
	(void)state;
	(void)c;
	if (write(3, "\xff\xff\xff\xff garbage", 12) < 0)
		_exit(8);
}

#define ACTIVITY(f, c) static const struct hp_activity act_##f = {sizeof(struct hp_activity), #f, f, c}
ACTIVITY(echo, NULL);
ACTIVITY(fail, NULL);
ACTIVITY(crash, NULL);
ACTIVITY(hang, NULL);
ACTIVITY(leave, NULL);
ACTIVITY(silent, cancel);
ACTIVITY(allotted, NULL);
ACTIVITY(huge, NULL);
ACTIVITY(not_json, NULL);
ACTIVITY(twice, NULL);
ACTIVITY(stale, NULL);
ACTIVITY(threaded, NULL);
ACTIVITY(timed, NULL);
ACTIVITY(garbage, NULL);
ACTIVITY(mark, NULL);
ACTIVITY(flood, NULL);
ACTIVITY(spawn, NULL);

static const struct hp_activity *const activities[] = {
	&act_echo, &act_fail, &act_crash, &act_hang, &act_leave, &act_silent, &act_huge, &act_not_json,
	&act_twice, &act_stale, &act_threaded, &act_timed, &act_garbage, &act_mark, &act_flood, &act_spawn, &act_allotted,
	NULL,
};

/* What a plugin may know of where it runs: a test reads it from `echo`. */
static char world[512];

static int init(const struct hp_host *h, void **state, char *error, size_t error_len)
{
	int fds = 0;

	(void)error;
	(void)error_len;
	host = h;
	/* its own loop has some; sockets of the engine would be among these */
	for (int fd = 4; fd < 256; fd++) {
		struct stat st;

		fds += fstat(fd, &st) == 0 && (S_ISSOCK(st.st_mode) || S_ISREG(st.st_mode));
	}
	snprintf(world, sizeof world, "database=%s secret=%s open=%d", getenv("HOLDPOINT_DATABASE") ? "yes" : "no",
		 getenv("STRIPE_SECRET_KEY") ? "yes" : "no", fds);
	*state = world;
	return 0;
}

static const struct hp_plugin plugin = {HP_PLUGIN_ABI, sizeof plugin, "probe", "1.2.3", activities, init, fini};

HP_PLUGIN_EXPORT const struct hp_plugin *hp_plugin_v1(void)
{
	return &plugin;
}
