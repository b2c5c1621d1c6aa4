/* lookups.c: a, aaaa, txt, mx: the records of a name as JSON. */
#include "dns_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netdb.h>

#define ADDRESSES_MAX 64

/* ---- answers ---- */

/* Bytes that are no text become \DDD, as in zone files. */
static json_t *text_of(const unsigned char *p, size_t n)
{
	json_t *v = memchr(p, 0, n) ? NULL : json_stringn((const char *)p, n);
	char *escaped;
	size_t at = 0;

	if (v)
		return v;
	escaped = malloc(4 * n + 1);
	if (!escaped)
		return NULL;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(escaped + at, 5, p[i] < ' ' || p[i] > '~' ? "\\%03u" : "%c", p[i]);
	v = json_stringn(escaped, at);
	free(escaped);
	return v;
}

json_t *dns_texts(const unsigned char *answer, int n)
{
	struct ares_txt_ext *list = NULL, *x;
	unsigned char *joined = malloc((size_t)n + 1);
	size_t at = 0;
	json_t *out;
	int rc = ares_parse_txt_reply_ext(answer, n, &list);

	out = joined && (rc == ARES_SUCCESS || rc == ARES_ENODATA) ? json_array() : NULL;
	for (x = list; out && x; x = x->next) {
		memcpy(joined + at, x->txt, x->length); /* all strings together are shorter than the answer */
		at += x->length;
		if (x->next && !x->next->record_start)
			continue;
		json_array_append_new(out, text_of(joined, at));
		at = 0;
	}
	if (list)
		ares_free_data(list);
	free(joined);
	return out;
}

static json_t *with(const char *member, json_t *list, int ttl)
{
	json_t *v = json_pack("{s:b}", "found", json_array_size(list) > 0);

	json_object_set_new(v, member, list);
	if (ttl >= 0)
		json_object_set_new(v, "ttl", json_integer(ttl));
	return v;
}

static json_t *addresses4(const unsigned char *answer, int n)
{
	struct ares_addrttl found[ADDRESSES_MAX];
	int count = ADDRESSES_MAX, ttl = -1;
	json_t *list = json_array();
	char text[INET_ADDRSTRLEN];
	int rc = ares_parse_a_reply(answer, n, NULL, found, &count);

	if (rc != ARES_SUCCESS && rc != ARES_ENODATA) {
		json_decref(list);
		return NULL;
	}
	for (int i = 0; rc == ARES_SUCCESS && i < count; i++) {
		inet_ntop(AF_INET, &found[i].ipaddr, text, sizeof text);
		json_array_append_new(list, json_string(text));
		ttl = ttl < 0 || found[i].ttl < ttl ? found[i].ttl : ttl;
	}
	return with("addresses", list, ttl);
}

static json_t *addresses6(const unsigned char *answer, int n)
{
	struct ares_addr6ttl found[ADDRESSES_MAX];
	int count = ADDRESSES_MAX, ttl = -1;
	json_t *list = json_array();
	char text[INET6_ADDRSTRLEN];
	int rc = ares_parse_aaaa_reply(answer, n, NULL, found, &count);

	if (rc != ARES_SUCCESS && rc != ARES_ENODATA) {
		json_decref(list);
		return NULL;
	}
	for (int i = 0; rc == ARES_SUCCESS && i < count; i++) {
		inet_ntop(AF_INET6, &found[i].ip6addr, text, sizeof text);
		json_array_append_new(list, json_string(text));
		ttl = ttl < 0 || found[i].ttl < ttl ? found[i].ttl : ttl;
	}
	return with("addresses", list, ttl);
}

static int by_priority(const void *a, const void *b)
{
	const json_t *const *x = a, *const *y = b;
	json_int_t p = json_integer_value(json_object_get(*x, "priority"));
	json_int_t q = json_integer_value(json_object_get(*y, "priority"));

	if (p != q)
		return p < q ? -1 : 1;
	return strcmp(json_string_value(json_object_get(*x, "host")), json_string_value(json_object_get(*y, "host")));
}

/* The smallest priority first: who is to be tried first. */
static json_t *exchanges(const unsigned char *answer, int n)
{
	struct ares_mx_reply *list = NULL, *x;
	json_t *found[ADDRESSES_MAX], *out = json_array();
	int rc = ares_parse_mx_reply(answer, n, &list), count = 0;

	if (rc != ARES_SUCCESS && rc != ARES_ENODATA) {
		json_decref(out);
		return NULL;
	}
	for (x = list; x && count < ADDRESSES_MAX; x = x->next) {
		found[count] = json_pack("{s:i, s:s}", "priority", x->priority, "host", x->host);
		count += found[count] != NULL;
	}
	qsort(found, (size_t)count, sizeof *found, by_priority);
	for (int i = 0; i < count; i++)
		json_array_append_new(out, found[i]);
	if (list)
		ares_free_data(list);
	return with("exchanges", out, -1);
}

static json_t *texts(const unsigned char *answer, int n)
{
	json_t *list = dns_texts(answer, n);

	return list ? with("texts", list, -1) : NULL;
}

/* ---- the activity ---- */

static json_t *read_answer(int type, const unsigned char *answer, int n)
{
	switch (type) {
	case DNS_A:
		return addresses4(answer, n);
	case DNS_AAAA:
		return addresses6(answer, n);
	case DNS_MX:
		return exchanges(answer, n);
	default:
		return texts(answer, n);
	}
}

/* The type that was asked for is in t->own: no other call's memory is needed. */
static void on_answer(struct task *t, int status, const unsigned char *answer, int n)
{
	static const char *const members[] = {[DNS_A] = "addresses", [DNS_MX] = "exchanges", [DNS_TXT] = "texts",
					      [DNS_AAAA] = "addresses"};
	int type = *(int *)t->own;
	json_t *v;

	if (status == ARES_ENODATA) { /* the name exists, and has no such record */
		dns_done(t, with(members[type], json_array(), -1));
		return;
	}
	if (status != ARES_SUCCESS) {
		dns_failed_by(t, status);
		return;
	}
	v = read_answer(type, answer, n);
	if (v)
		dns_done(t, v);
	else
		dns_failed_by(t, ARES_EBADRESP);
}

void dns_lookup(const struct hp_call *c, int type)
{
	struct task *t = dns_task(c);
	const char *name = t ? dns_arg_name(t, "name") : NULL;

	if (!name)
		return;
	t->own = malloc(sizeof type);
	t->free_own = free;
	if (t->own) {
		memcpy(t->own, &type, sizeof type);
		dns_ask(t, name, type, on_answer);
	} else {
		dns_failed(t, HP_PLUGIN_RETRYABLE, "no_memory", "no memory left");
	}
	dns_turn(t);
}
