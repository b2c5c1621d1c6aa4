/* Native plugins in their processes: what they may do wrong, and that it stays theirs.
 * The program is its own plugin host: see main(). */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "plugin/host.h"
#include "runtime/plugins.h"
#include "../lib/suite.h"

#define SECONDS(n) ((n) * HP_SECOND)
#define STALL (300 * HP_MSEC)

static struct hp_plugins *plugins;
static struct hp_counters *counters;
static bool may_send;
static char exe[4096]; /* /proc/self/exe is valgrind's, under valgrind */

static const char *folder(void)
{
	static char path[512];
	const char *build = getenv("HP_BUILD");

	snprintf(path, sizeof path, "%s/tests/plugins", build ? build : "build");
	return path;
}

static bool asked_may_send(void *arg)
{
	return *(bool *)arg;
}

static void open_plugins_in(const char *dir, int64_t stall, int64_t load)
{
	struct hp_error err;
	struct hp_plugins_options o = {.loop = ev_default_loop(0), .dir = dir, .exe = exe, .stall_us = stall, .load_us = load,
				       .may_send = asked_may_send, .arg = &may_send};

	hp_log_init("test", HP_ERROR + 1); /* what is logged is in the replies too */
	counters = hp_counters_open(-1, 0, &err);
	ck_assert_ptr_nonnull(counters);
	o.counters = counters;
	may_send = true;
	/* what must not reach a plugin */
	setenv("HOLDPOINT_DATABASE", "postgres://secret", 1);
	setenv("STRIPE_SECRET_KEY", "sk_1", 1);
	plugins = hp_plugins_new(&o, &err);
	ck_assert_ptr_nonnull(plugins);
}

static void open_plugins(int64_t stall, int64_t load)
{
	open_plugins_in(folder(), stall, load);
}

static void close_plugins(void)
{
	hp_plugins_free(plugins);
	hp_counters_close(counters);
}

/* One call and what became of it. */
struct asked {
	bool done;
	struct hp_plugin_reply reply;
	char body[4096];
	size_t body_n;
};

static int open_calls;

static void on_reply(void *arg, const struct hp_plugin_reply *r)
{
	struct asked *a = arg;

	ck_assert(!a->done);
	a->done = true;
	a->reply = *r;
	a->body_n = r->body.n;
	snprintf(a->body, sizeof a->body, "%.*s", (int)(r->body.n < 4000 ? r->body.n : 4000), r->body.n ? r->body.p : "");
	if (--open_calls == 0)
		ev_break(ev_default_loop(0), EVBREAK_ALL);
}

static int64_t ask(struct asked *a, const char *plugin, const char *activity, const char *args, int64_t timeout)
{
	static const char *headers[1][2] = {{"x-plain", "Bearer s3cret"}};
	struct hp_plugin_call c = {.plugin = plugin, .activity = activity, .args = hp_bytes_of(args), .key = "key-1",
				   .endpoint = "there", .headers = headers, .n_headers = 1, .timeout_us = timeout};
	struct hp_error err;
	int64_t token;

	memset(a, 0, sizeof *a);
	token = hp_plugins_call(plugins, &c, on_reply, a, &err);
	ck_assert_msg(token > 0, "%s", err.message);
	ck_assert(!a->done);
	open_calls++;
	return token;
}

static void wait_for_all(void)
{
	ev_run(ev_default_loop(0), 0);
	ck_assert_int_eq(open_calls, 0);
}

static void ask_one(struct asked *a, const char *activity, const char *args)
{
	ask(a, "probe", activity, args, SECONDS(20));
	wait_for_all();
}

static void answered(const struct asked *a, int status, const char *body)
{
	ck_assert_msg(a->reply.answered, "%s: %s", a->reply.failure, a->reply.detail);
	ck_assert_str_eq(a->body, body);
	ck_assert_int_eq(a->reply.status, status);
}

static void lost(const struct asked *a, bool sent, bool refused, const char *failure, const char *sentence)
{
	ck_assert(a->done && !a->reply.answered);
	ck_assert_str_eq(a->reply.failure, failure);
	ck_assert_msg(strstr(a->reply.detail, sentence) != NULL, "%s", a->reply.detail);
	ck_assert_int_eq(a->reply.sent, sent);
	ck_assert_int_eq(a->reply.refused, refused);
}

static int counted(const char *what, const char *plugin)
{
	char series[120];

	snprintf(series, sizeof series, "holdpoint_plugin_%s_total{plugin=\"%s\"}", what, plugin);
	return (int)hp_counters_sum(counters, series);
}

START_TEST(calls_are_answered)
{
	struct asked a[3];

	open_plugins(0, 0);
	ask_one(&a[0], "echo", "{\"text\":\"\xc3\xa4\\u0001\"}");
	answered(&a[0], 200,
		 "{\"args\":{\"text\":\"\xc3\xa4\\u0001\"},\"endpoint\":\"there\",\"header\":\"Bearer s3cret\",\"key\":\"key-1\","
		 "\"state\":\"database=no secret=no open=0\"}");
	ask(&a[0], "probe", "threaded", "{}", SECONDS(20));
	ask(&a[1], "probe", "timed", "{}", SECONDS(20));
	ask(&a[2], "probe", "threaded", "{}", SECONDS(20));
	wait_for_all();
	answered(&a[0], 200, "\"from a thread\"");
	answered(&a[1], 200, "\"in time\"");
	answered(&a[2], 200, "\"from a thread\"");
	ck_assert_int_eq(counted("starts", "probe"), 1);
	close_plugins();
}
END_TEST

START_TEST(failures_carry_their_class)
{
	struct asked a;

	open_plugins(0, 0);
	ask_one(&a, "fail", "{\"class\":1}");
	answered(&a, 503, "{\"class\":\"retryable\",\"code\":\"said_so\",\"message\":\"as it was told\",\"retry_after\":1.5}");
	ask_one(&a, "fail", "{\"class\":2}");
	answered(&a, 422, "{\"class\":\"terminal\",\"code\":\"said_so\",\"message\":\"as it was told\",\"retry_after\":1.5}");
	ask_one(&a, "fail", "{\"class\":4}");
	answered(&a, 403, "{\"class\":\"needs_person\",\"code\":\"said_so\",\"message\":\"as it was told\",\"retry_after\":1.5}");
	ask_one(&a, "fail", "{\"class\":9}");
	answered(&a, 500, "{\"class\":\"ambiguous\",\"code\":\"reply_error\",\"message\":\"the plugin's result has a class that "
			  "does not exist\"}");
	ask_one(&a, "fail", "{\"class\":2,\"x\":\"bad code\"}");
	answered(&a, 500, "{\"class\":\"ambiguous\",\"code\":\"reply_error\",\"message\":\"the plugin's failure has no code of "
			  "lower-case letters, digits and underscores\"}");
	ask_one(&a, "none_such", "{}");
	ck_assert_int_eq(a.reply.status, 403);
	ck_assert_ptr_nonnull(strstr(a.body, "no_such_activity"));
	ask_one(&a, "huge", "{}");
	answered(&a, 500, "{\"class\":\"ambiguous\",\"code\":\"response_too_large\",\"message\":\"the plugin's answer is larger "
			  "than 1 MiB\"}");
	ask_one(&a, "not_json", "{}");
	ck_assert_int_eq(a.reply.status, 500);
	ck_assert_ptr_nonnull(strstr(a.body, "the plugin's answer"));
	close_plugins();
}
END_TEST

START_TEST(the_first_answer_counts_and_stale_tokens_are_deaf)
{
	struct asked a, b;

	open_plugins(0, 0);
	ask_one(&a, "twice", "{}");
	answered(&a, 200, "\"first\"");
	ask_one(&b, "stale", "{}"); /* answers the call before it again */
	answered(&b, 200, "{\"cancelled\":0,\"live\":0,\"second\":0}");
	ask(&a, "probe", "silent", "{}", 100 * HP_MSEC);
	wait_for_all();
	lost(&a, true, false, "timeout", "the plugin probe did not answer in time");
	ask_one(&b, "stale", "{}"); /* the call that was given up, in whose slot this one lies */
	answered(&b, 200, "{\"cancelled\":1,\"live\":0,\"second\":0}");
	ck_assert_int_eq(counted("starts", "probe"), 1);
	close_plugins();
}
END_TEST

START_TEST(a_call_that_waited_leaves_inside_the_lease_only)
{
	struct asked a;

	open_plugins(0, 0);
	may_send = false; /* as after a stop of the worker while the process was loaded */
	ask_one(&a, "twice", "{}");
	lost(&a, false, false, "unreachable", "the plugin probe was ready too late in this worker's lease");
	ask_one(&a, "twice", "{}"); /* its process is up now */
	lost(&a, false, false, "unreachable", "too late in this worker's lease");
	may_send = true;
	ask_one(&a, "stale", "{}"); /* it knows of no call before this one */
	answered(&a, 200, "{\"cancelled\":0,\"live\":0,\"second\":0}");
	close_plugins();
}
END_TEST

START_TEST(a_call_that_waited_has_less_time)
{
	struct asked a;

	open_plugins(0, 0);
	ask_one(&a, "allotted", "{}");
	ck_assert(a.reply.answered);
	ck_assert_int_gt(strtol(a.body, NULL, 10), 0);
	ck_assert_int_lt(strtol(a.body, NULL, 10), SECONDS(20));
	close_plugins();
}
END_TEST

START_TEST(an_argument_that_is_too_large_is_not_sent)
{
	static char args[HP_PLUGIN_ARGS_MAX + 1];
	struct hp_plugin_call c = {.plugin = "probe", .activity = "twice", .args = {args, sizeof args}, .timeout_us = SECONDS(20)};
	struct asked a;
	struct hp_error err;

	memset(args, ' ', sizeof args);
	args[0] = '1';
	open_plugins(0, 0);
	memset(&a, 0, sizeof a);
	ck_assert_int_eq(hp_plugins_call(plugins, &c, on_reply, &a, &err), -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	c.args.n--;
	ck_assert_int_gt(hp_plugins_call(plugins, &c, on_reply, &a, &err), 0);
	open_calls++;
	wait_for_all();
	answered(&a, 200, "\"first\"");
	close_plugins();
}
END_TEST

START_TEST(a_crash_costs_what_was_in_its_process)
{
	struct asked a[3];

	open_plugins(0, 0);
	ask_one(&a[0], "echo", "{}");
	ask(&a[0], "probe", "silent", "{}", SECONDS(20));
	ask(&a[1], "probe", "crash", "{}", SECONDS(20));
	wait_for_all();
	lost(&a[0], true, false, "plugin_crashed", "the plugin probe was killed by signal 11 while it worked");
	lost(&a[1], true, false, "plugin_crashed", "was killed by signal 11 while it worked");
	ask_one(&a[2], "twice", "{}");
	answered(&a[2], 200, "\"first\"");
	ask_one(&a[0], "leave", "{}");
	lost(&a[0], true, false, "plugin_crashed", "the plugin probe exited with code 7 while it worked");
	ask_one(&a[0], "garbage", "{}");
	lost(&a[0], true, false, "plugin_crashed", "what it sent cannot be read: a frame of 4294967295 bytes was announced");
	ck_assert_int_eq(counted("crashes", "probe"), 3);
	/* it ended often, so the next start is later than this one waits */
	ask(&a[0], "probe", "twice", "{}", 20 * HP_MSEC);
	wait_for_all();
	lost(&a[0], false, false, "unreachable", "was not ready in time. Before, the plugin probe was killed by signal 9");
	close_plugins();
}
END_TEST

START_TEST(a_hang_is_ended)
{
	struct asked a, b;

	open_plugins(STALL, 0);
	ask_one(&a, "echo", "{}");
	ask(&a, "probe", "hang", "{}", 100 * HP_MSEC);
	ask(&b, "probe", "echo", "{}", SECONDS(20)); /* waits behind it */
	wait_for_all();
	lost(&a, true, false, "timeout", "did not answer in time");
	lost(&b, true, false, "plugin_crashed", "was killed by signal 9 while it worked: it did not answer for 300 ms");
	ask_one(&b, "twice", "{}");
	answered(&b, 200, "\"first\"");
	/* slow is not hung */
	ask(&a, "probe", "silent", "{}", 4 * STALL);
	wait_for_all();
	lost(&a, true, false, "timeout", "did not answer in time");
	ck_assert_int_eq(counted("starts", "probe"), 2);
	close_plugins();
}
END_TEST

static int ticks;

static void on_tick(struct ev_loop *loop, struct ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
	ticks++;
}

START_TEST(a_flood_does_not_keep_the_loop)
{
	struct ev_timer tick;
	struct asked a;

	open_plugins(STALL, 0);
	ask_one(&a, "echo", "{}");
	ev_timer_init(&tick, on_tick, 0.01, 0.01);
	ev_timer_start(ev_default_loop(0), &tick);
	ask_one(&a, "flood", "{}");
	lost(&a, true, false, "plugin_crashed", "it did not answer for 300 ms");
	ck_assert_int_gt(ticks, 0);
	ev_timer_stop(ev_default_loop(0), &tick);
	close_plugins();
}
END_TEST

/* Ended: gone, or a zombie that nobody has waited for yet. */
static bool ended(pid_t pid)
{
	char path[40], text[256];
	FILE *f;
	size_t n = 0;

	snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
	f = fopen(path, "r");
	if (f) {
		n = fread(text, 1, sizeof text - 1, f);
		fclose(f);
	}
	text[n] = 0;
	return n == 0 || strstr(text, ") Z ") != NULL;
}

/* However it ends: killed by us, or by itself. */
START_TEST(what_it_started_ends_with_it)
{
	static const char *const endings[] = {"hang", "crash", "leave"};
	struct asked a;
	pid_t pid;

	open_plugins(STALL, 0);
	for (size_t e = 0; e < sizeof endings / sizeof *endings; e++) {
		ask_one(&a, "spawn", "{}");
		pid = (pid_t)strtol(a.body, NULL, 10);
		ck_assert_int_gt(pid, 1);
		ck_assert(!ended(pid));
		ask_one(&a, endings[e], "{}");
		lost(&a, true, false, "plugin_crashed", "while it worked");
		for (int i = 0; i < 200 && !ended(pid); i++)
			(void)poll(NULL, 0, 10);
		ck_assert_msg(ended(pid), "what it started lives after %s", endings[e]);
	}
	close_plugins();
}
END_TEST

START_TEST(what_cannot_be_loaded_says_why)
{
	static const struct {
		const char *plugin, *failure, *sentence;
	} bad[] = {
		{"bad_abi", "plugin_refused", "cannot be used: it was built for plugin ABI 7; this engine speaks ABI 1"},
		{"bad_size", "plugin_refused", "its table has 12 bytes; ABI 1 has at least"},
		{"bad_name", "plugin_refused", "it calls itself \"somebody_else\", and lies in the folder of \"bad_name\""},
		{"bad_symbol", "plugin_refused", "does not export hp_plugin_v1"},
		{"bad_null", "plugin_refused", "returned NULL"},
		{"bad_version", "plugin_refused", "its version is missing"},
		{"bad_no_activity", "plugin_refused", "it has no activities"},
		{"bad_twins", "plugin_refused", "it has two activities \"one\""},
		{"bad_loud", "plugin_refused", "the name of its activity 1"},
		{"bad_small", "plugin_refused", "the table of its activity 1 has 8 bytes"},
		{"bad_hollow", "plugin_refused", "its activity \"one\" has no call function"},
		{"bad_unresolved", "plugin_refused", "undefined symbol: hp_no_such_function"},
		{"bad_init", "plugin_refused", "it refused to start: no licence was found"},
		{"bad_latin_init", "plugin_refused", "it refused to start: kein Schl?ssel"},
		{"not_there", "plugin_refused", "not_there.so: No such file or directory"},
		{"bad_init_crash", "unreachable", "was killed by signal 11 while it was loaded"},
		{"bad_load_crash", "unreachable", "was killed by signal 11 while it was loaded"},
		{"bad_load_exit", "unreachable", "exited with code 0 while it was loaded"},
		{"bad_load_hang", "unreachable", "while it was loaded: loading took longer than 700 ms"},
		{"bad_init_hang", "unreachable", "while it was loaded: loading took longer than 700 ms"},
	};
	enum { N = sizeof bad / sizeof *bad };
	static struct asked a[N], good, again;

	open_plugins(0, 700 * HP_MSEC);
	for (int i = 0; i < N; i++)
		ask(&a[i], bad[i].plugin, "one", "{}", SECONDS(20));
	ask(&good, "probe", "twice", "{}", SECONDS(20));
	wait_for_all();
	for (int i = 0; i < N; i++)
		lost(&a[i], false, strcmp(bad[i].failure, "plugin_refused") == 0, bad[i].failure, bad[i].sentence);
	answered(&good, 200, "\"first\"");
	/* said again at once, without another try */
	ask(&again, "bad_abi", "one", "{}", SECONDS(20));
	wait_for_all();
	lost(&again, false, true, "plugin_refused", "it was built for plugin ABI 7");
	ck_assert_int_eq(counted("refused", "bad_abi"), 1);
	close_plugins();
}
END_TEST

START_TEST(what_a_look_at_a_file_says)
{
	struct hp_error err;
	char file[600];
	json_t *hello;

	snprintf(file, sizeof file, "%s/probe/probe.so", folder());
	ck_assert_msg(hp_plugin_try(exe, file, "probe", &hello, &err) == 0, "%s", err.message);
	ck_assert_str_eq(hp_json_str(hello, "version"), "1.2.3");
	json_decref(hello);
	ck_assert_int_eq(hp_plugin_try(exe, file, "other", &hello, &err), -1);
	ck_assert_str_eq(err.message, "it calls itself \"probe\", and lies in the folder of \"other\"");
	snprintf(file, sizeof file, "%s/bad_latin_version/bad_latin_version.so", folder());
	ck_assert_msg(hp_plugin_try(exe, file, NULL, &hello, &err) == 0, "%s", err.message);
	ck_assert_str_eq(hp_json_str(hello, "version"), "?");
	json_decref(hello);
	snprintf(file, sizeof file, "%s/bad_load_crash/bad_load_crash.so", folder());
	ck_assert_int_eq(hp_plugin_try(exe, file, NULL, &hello, &err), -1);
	ck_assert_str_eq(err.message, "its process was killed by signal 11 while it was loaded");
	ck_assert_int_eq(hp_plugin_try(exe, "Makefile", NULL, &hello, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.message, "invalid ELF header"));
	ck_assert_int_eq(hp_plugin_try(exe, "/none/such.so", NULL, &hello, &err), -1);
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
}
END_TEST

START_TEST(an_orderly_end_calls_fini)
{
	char path[] = "/tmp/holdpoint-fini.XXXXXX", args[64];
	int fd = mkstemp(path);
	struct asked a;

	ck_assert(fd >= 0);
	close(fd);
	open_plugins(0, 0);
	snprintf(args, sizeof args, "\"%s\"", path);
	ask_one(&a, "mark", args);
	answered(&a, 200, "null");
	ck_assert_int_eq(access(path, F_OK), 0);
	close_plugins();
	ck_assert_int_eq(access(path, F_OK), -1); /* fini has taken it away */
}
END_TEST

START_TEST(aborted_calls_are_not_answered)
{
	struct asked a, b;
	int64_t token;

	open_plugins(0, 0);
	token = ask(&a, "probe", "timed", "{}", SECONDS(20));
	ask(&b, "probe", "twice", "{}", SECONDS(20));
	hp_plugins_abort(plugins, token);
	hp_plugins_abort(plugins, token);
	hp_plugins_abort(plugins, 999);
	open_calls--;
	wait_for_all();
	ck_assert(!a.done && b.done);
	/* freed with calls open: their callbacks never come, the process ends */
	ask(&a, "probe", "silent", "{}", SECONDS(20));
	open_calls--;
	close_plugins();
	ck_assert(!a.done);
}
END_TEST

/* A name server that says nothing. */
static int silent_server(int *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && getsockname(fd, (struct sockaddr *)&at, &n) == 0);
	*port = ntohs(at.sin_port);
	return fd;
}

START_TEST(dns_asks_each_server_twice_within_its_time)
{
	int port[2], fd[2], asks;
	char endpoint[100], block[600];
	struct hp_plugin_call c = {.plugin = "dns", .activity = "a", .args = hp_bytes_of("{\"name\":\"x.test\"}"),
				   .endpoint = endpoint, .timeout_us = SECONDS(2)};
	struct asked a = {0};
	struct hp_error err;

	for (int i = 0; i < 2; i++)
		fd[i] = silent_server(&port[i]);
	snprintf(endpoint, sizeof endpoint, "127.0.0.1:%d,127.0.0.1:%d", port[0], port[1]);
	open_plugins_in("plugins", 0, 0);
	ck_assert_int_gt(hp_plugins_call(plugins, &c, on_reply, &a, &err), 0);
	open_calls++;
	wait_for_all();
	ck_assert_msg(a.reply.answered, "%s: %s", a.reply.failure, a.reply.detail);
	ck_assert_msg(strstr(a.body, "no server answered in time") != NULL, "%s", a.body);
	for (int i = 0; i < 2; i++) {
		for (asks = 0; recv(fd[i], block, sizeof block, 0) > 0; asks++)
			;
		ck_assert_int_eq(asks, 2);
		close(fd[i]);
	}
	close_plugins();
}
END_TEST

int main(int argc, char **argv)
{
	const TTest *const tests[] = {calls_are_answered, failures_carry_their_class,
				      the_first_answer_counts_and_stale_tokens_are_deaf,
				      a_call_that_waited_leaves_inside_the_lease_only, a_call_that_waited_has_less_time,
				      an_argument_that_is_too_large_is_not_sent,
				      a_crash_costs_what_was_in_its_process, a_hang_is_ended, what_cannot_be_loaded_says_why,
				      what_a_look_at_a_file_says, a_flood_does_not_keep_the_loop,
				      what_it_started_ends_with_it, an_orderly_end_calls_fini,
				      aborted_calls_are_not_answered, dns_asks_each_server_twice_within_its_time};

	if (argc > 2 && strcmp(argv[1], "plugin-host") == 0)
		hp_plugin_host_run(argv[2], argc > 3 ? argv[3] : NULL, HP_PLUGIN_HOST_FD);
	if (!realpath(argv[0], exe))
		return EXIT_FAILURE;
	return hp_run_suite("runtime plugins", tests, sizeof tests / sizeof tests[0]);
}
