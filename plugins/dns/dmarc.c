/* dmarc.c: DMARC policy records: RFC 7489 sections 6.3, 6.4 and 6.6.3. */
#include <string.h>
#include <strings.h>
#include "records.h"

/* "v" *WSP "=" *WSP "DMARC1", then an end, white space or a semicolon. */
bool dmarc_is_record(const char *text)
{
	text += strspn(text, " \t");
	if (*text++ != 'v')
		return false;
	text += strspn(text, " \t");
	if (*text++ != '=')
		return false;
	text += strspn(text, " \t");
	if (strncmp(text, "DMARC1", 6) != 0)
		return false;
	return text[6] == 0 || text[6] == ' ' || text[6] == '\t' || text[6] == ';';
}

static const char *policy(const struct tag *t)
{
	static const char *const words[] = {"none", "quarantine", "reject"};

	for (int i = 0; t && i < 3; i++)
		if (tag_is_word(t, words[i]))
			return words[i];
	return NULL;
}

/* A number without sign up to max; -1: it is none. */
static long whole(const struct tag *t, long max)
{
	long v = 0;

	if (t->n == 0 || t->n > 10)
		return -1;
	for (size_t i = 0; i < t->n; i++) {
		if (t->value[i] < '0' || t->value[i] > '9')
			return -1;
		v = v * 10 + (t->value[i] - '0');
	}
	return v > max ? -1 : v;
}

static bool size_ok(const char *p, size_t n)
{
	if (n > 0 && p[n - 1] && strchr("kmgtKMGT", p[n - 1]))
		n--;
	for (size_t i = 0; i < n; i++)
		if (p[i] < '0' || p[i] > '9')
			return false;
	return n > 0;
}

/* One URI of rua= or ruf=: mailto:local@domain, "!" and a size at its end. */
static bool mailto(const char *p, size_t n)
{
	const char *size = memchr(p, '!', n), *at;

	if (size) {
		if (!size_ok(size + 1, n - (size_t)(size + 1 - p)))
			return false;
		n = (size_t)(size - p);
	}
	if (n < 8 || strncasecmp(p, "mailto:", 7) != 0)
		return false;
	at = memchr(p + 7, '@', n - 7);
	return at && at > p + 7 && at < p + n - 1;
}

/* How many of them can be used; the list goes into out. */
static int uris(const struct tag *t, json_t *out, const char *name, struct problems *p)
{
	json_t *list = json_array();
	size_t at = 0;
	int good = 0;

	while (t && at <= t->n) {
		size_t end = at;

		while (end < t->n && t->value[end] != ',')
			end++;
		while (at < end && (t->value[at] == ' ' || t->value[at] == '\t'))
			at++;
		json_array_append_new(list, json_stringn(t->value + at, end - at));
		if (mailto(t->value + at, end - at))
			good++;
		else
			problem_error(p, "bad_uri", "%s=: \"%.*s\" is no mailto: address", name, (int)(end - at > 80 ? 80 : end - at),
				      t->value + at);
		at = end + 1;
	}
	json_object_set_new(out, name, list);
	return good;
}

static void alignment(const struct tags *t, const char *name, json_t *out, struct problems *p)
{
	const struct tag *x = tags_get(t, name);

	if (x && !tag_is_word(x, "r") && !tag_is_word(x, "s"))
		problem_error(p, "bad_value", "%s= must be r or s", name);
	json_object_set_new(out, name, json_string(x && tag_is_word(x, "s") ? "strict" : "relaxed"));
}

static void numbers(const struct tags *t, json_t *out, struct problems *p)
{
	const struct tag *pct = tags_get(t, "pct"), *ri = tags_get(t, "ri");
	long percent = pct ? whole(pct, 100) : 100;

	if (percent < 0)
		problem_error(p, "bad_value", "pct= must be a number from 0 to 100");
	else if (percent < 100)
		problem_warning(p, "partial", "pct=%ld: the policy holds for a part of the mail only", percent);
	json_object_set_new(out, "percent", json_integer(percent < 0 ? 100 : percent));
	if (ri && whole(ri, 4294967295L) < 0)
		problem_error(p, "bad_value", "ri= must be a number of seconds");
}

/* fo=: 0, 1, d and s between colons */
static void failure_options(const struct tag *t, struct problems *p)
{
	for (size_t i = 0; t && i < t->n; i++)
		if (i % 2 ? t->value[i] != ':' : !strchr("01dsDS", t->value[i])) {
			problem_error(p, "bad_value", "fo= must be 0, 1, d or s, joined by colons");
			return;
		}
	if (t && t->n % 2 == 0)
		problem_error(p, "bad_value", "fo= must be 0, 1, d or s, joined by colons");
}

static void policies(const struct tags *t, int reports, json_t *out, struct problems *p)
{
	const struct tag *own = tags_get(t, "p"), *sub = tags_get(t, "sp");
	const char *word = policy(own), *sub_word = policy(sub);

	if (!own)
		problem_error(p, "policy_missing", "the tag p= (none, quarantine or reject) is missing%s",
			      reports > 0 ? "; receivers take it for none, because rua= is there" : "");
	else if (!word)
		problem_error(p, "policy_invalid", "p=%.*s is not none, quarantine or reject", (int)(own->n > 40 ? 40 : own->n),
			      own->value);
	else if (own != &t->list[1])
		problem_warning(p, "order", "p= should come right after v=DMARC1");
	if (sub && !sub_word)
		problem_error(p, "policy_invalid", "sp=%.*s is not none, quarantine or reject", (int)(sub->n > 40 ? 40 : sub->n),
			      sub->value);
	if (word && strcmp(word, "none") == 0)
		problem_warning(p, "no_enforcement", "p=none: mail that fails is only reported");
	word = word ? word : "none";
	json_object_set_new(out, "policy", json_string(word));
	json_object_set_new(out, "subdomain_policy", json_string(sub_word ? sub_word : word));
}

void dmarc_read(const char *text, json_t *out, struct problems *p)
{
	struct tags t;
	json_t *aligned;
	int reports;

	if (!tags_read(text, &t, p))
		return;
	if (t.n == 0 || strcmp(t.list[0].name, "v") != 0 || !tag_is(&t.list[0], "DMARC1"))
		problem_error(p, "version", "v=DMARC1 must be the first tag");
	reports = uris(tags_get(&t, "rua"), out, "rua", p);
	uris(tags_get(&t, "ruf"), out, "ruf", p);
	if (reports == 0)
		problem_warning(p, "no_reports", "there is no rua=, so nobody hears of mail that fails");
	policies(&t, reports, out, p);
	numbers(&t, out, p);
	failure_options(tags_get(&t, "fo"), p);
	aligned = json_object();
	alignment(&t, "adkim", aligned, p);
	alignment(&t, "aspf", aligned, p);
	json_object_set_new(out, "alignment", aligned);
}
