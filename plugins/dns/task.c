/* task.c: one call: a c-ares channel, driven by the host's descriptors and timer.
 *
 * A channel per call costs little and keeps calls apart: each has its own servers,
 * timeout and end.
 */
#include "dns_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TRIES 2
#define ARGS_MAX 65536
#define TRY_MIN 200  /* milliseconds */
#define TRY_MAX 5000
#define EDNS_SIZE 1232 /* fits every path: DNS flag day 2020 */

static struct task *tasks;

/* ---- ending ---- */

static void task_free(void *arg)
{
	struct task *t = arg;

	t->dead = true;
	if (t->has_channel)
		ares_destroy(t->channel); /* closes its sockets, which stops their watches */
	if (t->own)
		t->free_own(t->own);
	*(t->prev ? &t->prev->next : &tasks) = t->next;
	if (t->next)
		t->next->prev = t->prev;
	json_decref(t->args);
	free(t);
}

static void ends(struct task *t)
{
	t->ended = true;
}

void dns_done(struct task *t, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	struct hp_plugin_result r = {sizeof r, HP_PLUGIN_OK, text, text ? strlen(text) : 0, NULL, NULL, -1};

	if (text)
		dns_host->complete(t->token, &r);
	else
		dns_failed(t, HP_PLUGIN_RETRYABLE, "no_memory", "no memory left for an answer");
	free(text);
	json_decref(value);
	ends(t);
}

void dns_failed(struct task *t, int cls, const char *code, const char *fmt, ...)
{
	char message[400];
	struct hp_plugin_result r = {sizeof r, cls, NULL, 0, code, message, -1};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	dns_host->complete(t->token, &r);
	ends(t);
}

void dns_failed_by(struct task *t, int status)
{
	static const struct {
		int status, cls;
		const char *code, *what;
	} known[] = {
		{ARES_ENOTFOUND, HP_PLUGIN_TERMINAL, "nxdomain", "the name does not exist"},
		{ARES_ESERVFAIL, HP_PLUGIN_RETRYABLE, "servfail", "the server failed (SERVFAIL)"},
		{ARES_EREFUSED, HP_PLUGIN_RETRYABLE, "refused", "the server refused to answer (REFUSED)"},
		{ARES_ETIMEOUT, HP_PLUGIN_RETRYABLE, "timeout", "no server answered in time"},
		{ARES_ECONNREFUSED, HP_PLUGIN_RETRYABLE, "no_server", "no server could be reached"},
		{ARES_EBADNAME, HP_PLUGIN_TERMINAL, "bad_name", "this is no name"},
		{ARES_EFORMERR, HP_PLUGIN_TERMINAL, "formerr", "the server did not understand the question (FORMERR)"},
		{ARES_ENOTIMP, HP_PLUGIN_TERMINAL, "notimp", "the server does not implement the question (NOTIMP)"},
		{ARES_EBADRESP, HP_PLUGIN_RETRYABLE, "bad_answer", "the answer cannot be read"},
	};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].status == status) {
			dns_failed(t, known[i].cls, known[i].code, "%s: %s", t->name, known[i].what);
			return;
		}
	dns_failed(t, HP_PLUGIN_RETRYABLE, "bad_answer", "%s: %s", t->name, ares_strerror(status));
}

void dns_cancel(uint64_t token)
{
	struct task *t = tasks;

	while (t && t->token != token)
		t = t->next;
	if (!t)
		return;
	ends(t);
	dns_turn(t);
}

/* ---- c-ares and the host ---- */

static void on_io(void *arg, int fd, unsigned events)
{
	struct task *t = arg;

	ares_process_fd(t->channel, events & HP_PLUGIN_READ ? fd : ARES_SOCKET_BAD,
			events & HP_PLUGIN_WRITE ? fd : ARES_SOCKET_BAD);
	dns_turn(t);
}

static void on_time(void *arg)
{
	struct task *t = arg;

	t->timer = 0;
	ares_process_fd(t->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	dns_turn(t);
}

/* c-ares wants this descriptor watched, or no more. One that finds no place is not
 * watched: its question times out. */
static void on_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct task *t = arg;
	int spare = -1;

	for (int i = 0; i < DNS_WATCHES_MAX; i++) {
		if (t->watches[i].handle != 0 && t->watches[i].fd == fd) {
			dns_host->io_stop(t->watches[i].handle);
			t->watches[i].handle = 0;
		}
		if (t->watches[i].handle == 0)
			spare = i;
	}
	if ((!readable && !writable) || spare < 0)
		return;
	t->watches[spare].fd = fd;
	t->watches[spare].handle = dns_host->io_start(
		fd, (readable ? HP_PLUGIN_READ : 0) | (writable ? HP_PLUGIN_WRITE : 0), on_io, t);
}

void dns_turn(struct task *t)
{
	struct timeval tv;

	dns_host->timer_stop(t->timer);
	t->timer = 0;
	if (t->ended) {
		t->timer = dns_host->timer_start(0, task_free, t);
		return;
	}
	if (ares_timeout(t->channel, NULL, &tv))
		t->timer = dns_host->timer_start((int64_t)tv.tv_sec * 1000000 + tv.tv_usec, on_time, t);
}

static void on_answer(void *arg, int status, int timeouts, unsigned char *answer, int n)
{
	struct task *t = arg;

	(void)timeouts;
	if (!t->ended && !t->dead)
		t->answered(t, status, answer, n);
}

void dns_ask(struct task *t, const char *name, int type, dns_answer_fn answered)
{
	snprintf(t->name, sizeof t->name, "%s", name);
	t->answered = answered;
	ares_query(t->channel, t->name, 1, type, on_answer, t);
}

/* ---- beginning ---- */

static int open_channel(struct task *t, int64_t timeout_us, int servers)
{
	struct ares_options o;
	/* two tries, the second twice as long, of each server, inside the call's time */
	int64_t ms = timeout_us / 1000 / 4 / servers;
	int rc;

	memset(&o, 0, sizeof o);
	/* with NOCHECKRESP the server's code comes to us instead of "connection refused" */
	o.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOCHECKRESP | ARES_FLAG_EDNS;
	o.timeout = (int)(ms < TRY_MIN ? TRY_MIN : ms > TRY_MAX ? TRY_MAX : ms);
	o.tries = TRIES;
	o.ednspsz = EDNS_SIZE;
	o.sock_state_cb = on_state;
	o.sock_state_cb_data = t;
	rc = ares_init_options(&t->channel, &o,
			       ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
				       ARES_OPT_SOCK_STATE_CB);
	t->has_channel = rc == ARES_SUCCESS;
	return rc;
}

static int servers_of(const struct task *t)
{
	struct ares_addr_port_node *list = NULL;
	int n = 0;

	if (ares_get_servers_ports(t->channel, &list) != ARES_SUCCESS)
		return 1;
	for (const struct ares_addr_port_node *at = list; at; at = at->next)
		n++;
	ares_free_data(list);
	return n;
}

static int set_servers(struct task *t, const char *endpoint)
{
	char list[512];

	if (!endpoint)
		return ARES_SUCCESS;
	if (strncasecmp(endpoint, "dns://", 6) == 0)
		endpoint += 6;
	snprintf(list, sizeof list, "%s", endpoint);
	return *list ? ares_set_servers_ports_csv(t->channel, list) : ARES_EBADSTR;
}

static int open_for(struct task *t, const struct hp_call *c, int servers)
{
	if (open_channel(t, c->timeout_us, servers) != ARES_SUCCESS) {
		dns_failed(t, HP_PLUGIN_RETRYABLE, "no_memory", "c-ares cannot be started");
		return -1;
	}
	if (set_servers(t, c->endpoint) != ARES_SUCCESS) {
		dns_failed(t, HP_PLUGIN_NEEDS_PERSON, "bad_server", "\"%.200s\" is no list of name servers like 127.0.0.1:5353",
			   c->endpoint);
		return -1;
	}
	return 0;
}

static int open_task(struct task *t, const struct hp_call *c)
{
	int servers;

	json_error_t where;

	t->token = c->token;
	t->args = c->args_len > ARGS_MAX ? NULL : json_loadb(c->args, c->args_len, 0, &where);
	if (!json_is_object(t->args)) {
		dns_failed(t, HP_PLUGIN_TERMINAL, "bad_name", "the argument is no object");
		return -1;
	}
	if (open_for(t, c, 1) != 0)
		return -1;
	servers = servers_of(t);
	if (servers <= 1)
		return 0;
	ares_destroy(t->channel); /* its timeout is for one server, and cannot be changed */
	t->has_channel = false;
	return open_for(t, c, servers);
}

struct task *dns_task(const struct hp_call *c)
{
	struct task *t = calloc(1, sizeof *t);
	struct hp_plugin_result r = {sizeof r, HP_PLUGIN_RETRYABLE, NULL, 0, "no_memory", "no memory left", -1};

	if (!t) {
		dns_host->complete(c->token, &r);
		return NULL;
	}
	t->next = tasks;
	if (tasks)
		tasks->prev = t;
	tasks = t;
	if (open_task(t, c) == 0)
		return t;
	dns_turn(t);
	return NULL;
}

const char *dns_arg(const struct task *t, const char *name)
{
	return json_string_value(json_object_get(t->args, name));
}

const char *dns_arg_name(struct task *t, const char *name)
{
	const char *value = dns_arg(t, name);

	if (value && dns_name_ok(value))
		return value;
	dns_failed(t, HP_PLUGIN_TERMINAL, "bad_name", "%s \"%.100s\" is no name that can be asked for", name, value ? value : "");
	dns_turn(t);
	return NULL;
}
