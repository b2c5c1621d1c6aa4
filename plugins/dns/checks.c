/* checks.c: spf, dkim, dmarc: records fetched and judged.
 *
 * A name that does not exist, or has no record, is an answer (found = false); a
 * server that fails or is silent is none, and the call fails so that it is repeated.
 */
#include "dns_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct check {
	struct problems problems;
	json_t *result;                 /* found, record, … */
	char domain[DNS_NAME_MAX + 2];
	bool fallback;                  /* dmarc: at the organizational domain now */

	/* spf: domains to be read, breadth first; each knows who named it */
	struct {
		char name[DNS_NAME_MAX + 2];
		int parent;
		bool redirect;
	} queue[SPF_LOOKUPS_MAX + 2];
	int n_queue, at, lookups;
	bool over, found;               /* found: at the domain itself */
	json_t *record;                 /* of the domain itself, NULL: none, or several */
	json_t *read;                   /* {"domain", "record"} of each that was found */
};

static void check_free(void *own)
{
	struct check *k = own;

	problems_free(&k->problems);
	json_decref(k->result);
	json_decref(k->read);
	json_decref(k->record);
	free(k);
}

static struct check *check_new(struct task *t)
{
	struct check *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	t->own = k;
	t->free_own = check_free;
	k->result = json_object();
	k->read = json_array();
	return problems_init(&k->problems) == 0 && k->result && k->read ? k : NULL;
}

/* A task with its check; NULL: answered already. */
static struct task *begin(const struct hp_call *c, struct check **k)
{
	struct task *t = dns_task(c);

	*k = t ? check_new(t) : NULL;
	if (t && !*k) {
		dns_failed(t, HP_PLUGIN_RETRYABLE, "no_memory", "no memory left");
		dns_turn(t);
		return NULL;
	}
	return t;
}

static void finish(struct task *t, struct check *k, bool found, json_t *record)
{
	json_object_set_new(k->result, "found", json_boolean(found));
	json_object_set_new(k->result, "record", record ? json_incref(record) : json_null());
	json_object_set_new(k->result, "valid", json_boolean(found && k->problems.errors == 0));
	json_object_set(k->result, "problems", k->problems.list);
	dns_done(t, json_incref(k->result));
}

/* The texts of an answer, an empty list when there are none; NULL: the task has failed. */
static json_t *texts_or_fail(struct task *t, int status, const unsigned char *answer, int n)
{
	json_t *list;

	if (status == ARES_ENOTFOUND || status == ARES_ENODATA)
		return json_array();
	if (status != ARES_SUCCESS) {
		dns_failed_by(t, status);
		return NULL;
	}
	list = dns_texts(answer, n);
	if (!list)
		dns_failed_by(t, ARES_EBADRESP);
	return list;
}

/* Records among texts: how many, and the first of them (borrowed). */
static int pick(const json_t *texts, bool (*is)(const char *), json_t **first)
{
	int n = 0;

	*first = NULL;
	for (size_t i = 0; i < json_array_size(texts); i++) {
		json_t *v = json_array_get(texts, i);

		if (!is(json_string_value(v)))
			continue;
		if (n++ == 0)
			*first = v;
	}
	return n;
}

/* ---- spf ---- */

static void ask_next(struct task *t, struct check *k);

static bool names_itself(const struct check *k, int from, const char *domain)
{
	for (; from >= 0; from = k->queue[from].parent)
		if (strcasecmp(k->queue[from].name, domain) == 0)
			return true;
	return false;
}

static void follow(struct check *k, const char *where, const struct spf_term *term)
{
	const char *word = term->kind == SPF_REDIRECT ? "redirect=" : "include:";

	if (term->macro) {
		problem_warning(&k->problems, "macro", "%s: %s%s depends on the mail and was not followed", where, word,
				term->domain);
	} else if (names_itself(k, k->at, term->domain)) {
		problem_error(&k->problems, "loop", "%s: %s%s leads back to itself", where, word, term->domain);
	} else if (!k->over && k->n_queue < (int)(sizeof k->queue / sizeof *k->queue)) {
		snprintf(k->queue[k->n_queue].name, sizeof k->queue[0].name, "%s", term->domain);
		k->queue[k->n_queue].parent = k->at;
		k->queue[k->n_queue].redirect = term->kind == SPF_REDIRECT;
		k->n_queue++;
	}
}

static void count_and_follow(struct check *k, const char *where, const struct spf *s)
{
	for (int i = 0; i < s->n; i++) {
		const struct spf_term *term = &s->terms[i];

		/* what comes with "all" is never evaluated: section 5.1 */
		if (!spf_asks(term->kind) || (term->kind == SPF_REDIRECT && s->has_all))
			continue;
		k->lookups++;
		if (k->lookups > SPF_LOOKUPS_MAX && !k->over) {
			k->over = true;
			problem_error(&k->problems, "too_many_lookups",
				      "%s: with \"%s\" more than %d lookups are needed, so receivers give up (permerror)", where,
				      term->domain[0] ? term->domain : "its own names", SPF_LOOKUPS_MAX);
		}
		if (term->kind == SPF_INCLUDE || term->kind == SPF_REDIRECT)
			follow(k, where, term);
	}
}

static void no_record(struct check *k, const char *domain, int n)
{
	const char *word = k->queue[k->at].redirect ? "redirect=" : "include:";

	if (n > 1)
		problem_error(&k->problems, "several_records", "%s has %d SPF records; there may be one", domain, n);
	else if (k->at == 0)
		problem_error(&k->problems, "no_record", "%s has no SPF record", domain);
	else
		problem_error(&k->problems, "target_without_record", "%s: %s%s has no SPF record (permerror)",
			      k->queue[k->queue[k->at].parent].name, word, domain);
}

static void spf_answer(struct task *t, int status, const unsigned char *answer, int n)
{
	struct check *k = t->own;
	json_t *texts = texts_or_fail(t, status, answer, n), *record;
	const char *domain = k->queue[k->at].name;
	struct spf s;
	int count;

	if (!texts)
		return;
	count = pick(texts, spf_is_record, &record);
	if (k->at == 0) {
		k->found = count > 0;
		k->record = count == 1 ? json_incref(record) : NULL;
	}
	if (count == 1) {
		json_array_append_new(k->read, json_pack("{s:s, s:O}", "domain", domain, "record", record));
		spf_read(json_string_value(record), domain, &s, &k->problems);
		if (k->at == 0 && s.has_all)
			json_object_set_new(k->result, "all", json_stringn(&s.all, 1));
		count_and_follow(k, domain, &s);
	} else {
		no_record(k, domain, count);
	}
	json_decref(texts);
	k->at++;
	ask_next(t, k);
}

static void ask_next(struct task *t, struct check *k)
{
	if (k->at < k->n_queue) {
		dns_ask(t, k->queue[k->at].name, DNS_TXT, spf_answer);
		return;
	}
	json_object_set_new(k->result, "lookups", json_integer(k->lookups));
	json_object_set(k->result, "read", k->read);
	finish(t, k, k->found, k->record);
}

void dns_check_spf(const struct hp_call *c)
{
	struct check *k;
	struct task *t = begin(c, &k);
	const char *domain = t ? dns_arg_name(t, "domain") : NULL;

	if (!domain)
		return;
	snprintf(k->queue[0].name, sizeof k->queue[0].name, "%s", domain);
	k->queue[0].parent = -1;
	k->n_queue = 1;
	ask_next(t, k);
	dns_turn(t);
}

/* ---- dkim ---- */

static bool any(const char *text)
{
	(void)text;
	return true;
}

static void dkim_answer(struct task *t, int status, const unsigned char *answer, int n)
{
	struct check *k = t->own;
	json_t *texts = texts_or_fail(t, status, answer, n), *record;
	int count;

	if (!texts)
		return;
	count = pick(texts, any, &record);
	if (count == 1)
		dkim_read(json_string_value(record), k->result, &k->problems);
	else if (count > 1)
		problem_error(&k->problems, "several_records", "%s has %d records; receivers may take any of them", k->domain, count);
	else
		problem_error(&k->problems, "no_record", "%s has no DKIM key", k->domain);
	finish(t, k, count > 0, record);
	json_decref(texts);
}

void dns_check_dkim(const struct hp_call *c)
{
	struct check *k;
	struct task *t = begin(c, &k);
	const char *domain = t ? dns_arg_name(t, "domain") : NULL;
	const char *selector = domain ? dns_arg_name(t, "selector") : NULL;
	int n;

	if (!selector)
		return;
	n = snprintf(k->domain, sizeof k->domain, "%s._domainkey.%s", selector, domain);
	if (n < 0 || n > DNS_NAME_MAX) {
		dns_failed(t, HP_PLUGIN_TERMINAL, "bad_name", "the selector and the domain are too long together");
	} else {
		json_object_set_new(k->result, "name", json_string(k->domain));
		dns_ask(t, k->domain, DNS_TXT, dkim_answer);
	}
	dns_turn(t);
}

/* ---- dmarc ---- */

static void dmarc_answer(struct task *t, int status, const unsigned char *answer, int n);

static void ask_dmarc(struct task *t, struct check *k, const char *domain)
{
	int n = snprintf(k->domain, sizeof k->domain, "_dmarc.%s", domain);

	if (n < 0 || n > DNS_NAME_MAX)
		dns_failed(t, HP_PLUGIN_TERMINAL, "bad_name", "the domain is too long for _dmarc. before it");
	else
		dns_ask(t, k->domain, DNS_TXT, dmarc_answer);
}

static void dmarc_answer(struct task *t, int status, const unsigned char *answer, int n)
{
	struct check *k = t->own;
	json_t *texts = texts_or_fail(t, status, answer, n), *record;
	const char *wider = dns_arg(t, "organizational");
	int count;

	if (!texts)
		return;
	count = pick(texts, dmarc_is_record, &record);
	if (count == 0 && wider && !k->fallback) { /* section 6.6.3, step 3 */
		k->fallback = true;
		json_decref(texts);
		ask_dmarc(t, k, wider);
		return;
	}
	json_object_set_new(k->result, "name", json_string(k->domain));
	if (count == 1)
		dmarc_read(json_string_value(record), k->result, &k->problems);
	else if (count > 1)
		problem_error(&k->problems, "several_records", "%s has %d DMARC records, so none of them holds", k->domain, count);
	else
		problem_error(&k->problems, "no_record", "%s has no DMARC record", k->domain);
	finish(t, k, count > 0, record);
	json_decref(texts);
}

void dns_check_dmarc(const struct hp_call *c)
{
	struct check *k;
	struct task *t = begin(c, &k);
	const char *domain = t ? dns_arg_name(t, "domain") : NULL;

	if (!domain || (dns_arg(t, "organizational") && !dns_arg_name(t, "organizational")))
		return;
	ask_dmarc(t, k, domain);
	dns_turn(t);
}
