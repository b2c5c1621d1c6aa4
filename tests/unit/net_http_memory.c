/* The HTTP client when libcurl itself has no memory: a request is prepared whole, or not
 * at all. (What we allocate ourselves fails in `make torture`.) */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "lib/suite.h"
#include "net/http_client.h"
#include "net/http_server.h"

static long allocations, fail_at;

static bool goes_without(void)
{
	return fail_at != 0 && ++allocations == fail_at;
}

static void *curl_malloc(size_t n) { return goes_without() ? NULL : hp_alloc(n); }
static void *curl_calloc(size_t n, size_t size) { return goes_without() ? NULL : hp_calloc(n, size); }
static void *curl_realloc(void *p, size_t n) { return goes_without() ? NULL : hp_realloc(p, n); }
static char *curl_strdup(const char *s) { return goes_without() ? NULL : hp_strdup(s); }

struct answer {
	int calls;
	enum hp_http_progress progress;
	enum hp_code code;
	char body[2000];
};

static void note_header(void *arg, const char *name, const char *value)
{
	hp_buf_printf(arg, "%s: %s\n", name, value);
}

static void say_what_came(void *arg, struct hp_http_call *c)
{
	struct hp_buf b;

	(void)arg;
	hp_buf_init(&b, 2000);
	hp_buf_printf(&b, "%s %s\n", hp_http_call_method(c), hp_http_call_path(c));
	hp_http_call_headers(c, note_header, &b);
	hp_buf_add(&b, hp_http_call_body(c).p, hp_http_call_body(c).n);
	hp_http_reply(c, 200, "text/plain", hp_buf_bytes(&b));
	hp_buf_free(&b);
}

static void on_answer(void *arg, const struct hp_http_response *r)
{
	struct answer *a = arg;

	a->calls++;
	a->progress = r->progress;
	a->code = r->error.code;
	snprintf(a->body, sizeof a->body, "%.*s", (int)r->body.n, r->body.p ? r->body.p : "");
}

static int64_t put(struct hp_http_client *c, int to, struct answer *a, struct hp_error *err)
{
	char url[64], host[32];
	const char *const allow[] = {host};
	struct hp_header headers[] = {{"X-Key", "a b"}};
	struct hp_http_request rq = {.method = "PUT", .url = url, .headers = headers, .n_headers = 1,
				     .body = hp_bytes_of("the body"), .allow_hosts = allow, .n_allow_hosts = 1,
				     .timeout_us = 30000000};

	snprintf(url, sizeof url, "http://127.0.0.1:%d/m", to);
	snprintf(host, sizeof host, "127.0.0.1:%d", to);
	memset(a, 0, sizeof *a);
	return hp_http_send(c, &rq, on_answer, a, err);
}

static struct ev_loop *loop;
static struct hp_http_server *server;
static struct hp_http_client *client;
static int listener, port;

static void start(void)
{
	struct hp_http_server_options o = {.max_body = 1000, .handler = say_what_came};
	struct hp_error err = {0};

	loop = ev_loop_new(EVBACKEND_EPOLL);
	o.listen_fd = listener = hp_http_listen("127.0.0.1:0", &port, &err);
	server = hp_http_server_new(loop, &o, &err);
	client = hp_http_client_new(loop, true, &err);
	ck_assert_msg(listener >= 0 && server && client, "%s", err.message);
}

static void stop(void)
{
	hp_http_client_free(client);
	hp_http_server_free(server);
	close(listener);
	ev_run(loop, 0); /* returns when no watcher is left over */
	ev_loop_destroy(loop);
}

/* Each allocation of ours fails once while a request is on its way. Whatever is told, it is
 * told at once and not when its time is over, and the next request finds everything well. */
START_TEST(who_has_no_memory_says_so_at_once)
{
	struct hp_error err = {0};
	struct answer a;

	start();
	for (unsigned long n = 1;; n++) {
		unsigned long seen;

		ck_assert_int_gt(put(client, port, &a, &err), 0);
		hp_alloc_fail_at(n);
		while (a.calls == 0)
			ev_run(loop, EVRUN_ONCE);
		seen = hp_alloc_count();
		hp_alloc_fail_at(0);
		ck_assert_msg(a.code != HP_E_TIMEOUT, "allocation %lu: nothing was heard of it", n);
		if (seen >= n)
			continue;
		ck_assert_int_eq(a.progress, HP_HTTP_ANSWERED);
		ck_assert_uint_gt(n, 5);
		break;
	}
	stop();
}
END_TEST

START_TEST(a_request_is_prepared_whole_or_not_at_all)
{
	struct hp_error err = {0};
	int refused = 0;

	ck_assert_int_eq(curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_malloc, hp_free, curl_realloc, curl_strdup, curl_calloc),
			 CURLE_OK);
	start();
	for (long n = 1;; n++) {
		struct answer a;
		int64_t token;

		allocations = 0;
		fail_at = n;
		token = put(client, port, &a, &err);
		fail_at = 0;
		if (token < 0) {
			ck_assert_msg(err.code == HP_E_NOMEM, "allocation %ld: %s", n, err.message);
			refused++;
			continue;
		}
		while (a.calls == 0)
			ev_run(loop, EVRUN_ONCE);
		if (a.progress == HP_HTTP_ANSWERED)
			ck_assert_msg(strncmp(a.body, "PUT /m\n", 7) == 0 && strstr(a.body, "X-Key: a b\n") &&
					  strstr(a.body, "User-Agent: holdpoint") && strstr(a.body, "the body"),
				      "allocation %ld: %s", n, a.body);
		else
			ck_assert_int_eq(a.code, HP_E_NOMEM);
		if (allocations < n)
			break;
	}
	ck_assert_int_gt(refused, 10);
	stop();
}
END_TEST

HP_SUITE("net http_memory", who_has_no_memory_says_so_at_once, a_request_is_prepared_whole_or_not_at_all)
