/* spf.c: SPF records: the grammar of RFC 7208 section 4.6.1, 5, 6 and 7.
 *
 * Names and keywords are compared without case, as ABNF says.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "records.h"

#define RECORD_WARN 450 /* section 3.4: fits an answer of 512 octets */

static const struct {
	const char *word;
	enum spf_kind kind;
} mechanisms[] = {
	{"all", SPF_ALL}, {"include", SPF_INCLUDE}, {"a", SPF_A}, {"mx", SPF_MX}, {"ptr", SPF_PTR},
	{"ip4", SPF_IP4}, {"ip6", SPF_IP6},         {"exists", SPF_EXISTS},
};

bool spf_asks(enum spf_kind k)
{
	return k == SPF_INCLUDE || k == SPF_A || k == SPF_MX || k == SPF_PTR || k == SPF_EXISTS || k == SPF_REDIRECT;
}

bool spf_is_record(const char *text)
{
	return strncasecmp(text, "v=spf1", 6) == 0 && (text[6] == 0 || text[6] == ' ');
}

/* ---- domain-spec: section 7.1 ---- */

/* At "%{": the length of the macro, 0: it is none. */
static size_t macro_length(const char *p, size_t n, bool in_explanation)
{
	const char *letters = in_explanation ? "slodiphcrtvSLODIPHCRTV" : "slodiphvSLODIPHV";
	size_t at = 3;

	if (n < 4 || !p[2] || !strchr(letters, p[2]))
		return 0;
	while (at < n && p[at] >= '0' && p[at] <= '9')
		at++;
	if (at < n && (p[at] == 'r' || p[at] == 'R'))
		at++;
	while (at < n && p[at] && strchr(".-+,/_=", p[at]))
		at++;
	return at < n && p[at] == '}' ? at + 1 : 0;
}

/* macro-string; *macro: it has one that depends on the mail. */
static bool macro_string(const char *p, size_t n, bool *macro)
{
	for (size_t i = 0; i < n;) {
		if (p[i] != '%') {
			if (p[i] < '!' || p[i] > '~')
				return false;
			i++;
			continue;
		}
		if (i + 1 < n && (p[i + 1] == '%' || p[i + 1] == '_' || p[i + 1] == '-')) {
			i += 2;
			*macro = true;
			continue;
		}
		if (i + 1 < n && p[i + 1] == '{') {
			size_t m = macro_length(p + i, n - i, false);

			if (m == 0)
				return false;
			*macro = true;
			i += m;
			continue;
		}
		return false;
	}
	return true;
}

/* domain-end without a macro: "." toplabel; a toplabel is not all digits, and no
 * hyphen begins or ends it. */
static bool ends_in_toplabel(const char *p, size_t n)
{
	const char *dot = NULL;
	bool digits = true;

	if (n > 0 && p[n - 1] == '.')
		n--;
	for (size_t i = 0; i < n; i++)
		if (p[i] == '.')
			dot = p + i;
	if (!dot || dot + 1 == p + n || dot[1] == '-' || p[n - 1] == '-')
		return false;
	for (const char *c = dot + 1; c < p + n; c++) {
		if (*c < '0' || *c > '9')
			digits = false;
		if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '-'))
			return false;
	}
	return !digits;
}

static bool domain_spec(const char *p, size_t n, struct spf_term *t)
{
	t->macro = false;
	if (n == 0 || n > DNS_NAME_MAX || !macro_string(p, n, &t->macro))
		return false;
	if (p[n - 1] != '}' && !ends_in_toplabel(p, n))
		return false;
	memcpy(t->domain, p, n);
	t->domain[n] = 0;
	return t->macro || dns_name_ok(t->domain);
}

/* ---- addresses: section 5.6 ---- */

/* "/" and a number up to max, at p; no leading zeros. */
static bool cidr(const char *p, size_t n, int max)
{
	int value = 0;

	if (n < 2 || n > 4 || p[0] != '/' || (p[1] == '0' && n > 2))
		return false;
	for (size_t i = 1; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		value = value * 10 + (p[i] - '0');
	}
	return value <= max;
}

static bool address(const char *p, size_t n, int family, int max)
{
	char text[64];
	unsigned char bytes[16];
	const char *slash = memchr(p, '/', n);
	size_t len = slash ? (size_t)(slash - p) : n;

	if (len == 0 || len >= sizeof text)
		return false;
	memcpy(text, p, len);
	text[len] = 0;
	return inet_pton(family, text, bytes) == 1 && (!slash || cidr(slash, n - len, max));
}

/* [":" domain-spec] ["/" ip4-cidr] ["//" ip6-cidr], of a and mx. */
static bool dual(const char *p, size_t n, struct spf_term *t)
{
	const char *slash, *two;
	size_t len = n;

	if (n > 0 && p[0] == ':') {
		/* a slash inside a macro's braces is no prefix length */
		const char *brace = NULL;

		for (size_t i = 0; i < n; i++)
			if (p[i] == '}')
				brace = p + i;
		slash = memchr(brace ? brace : p, '/', n - (size_t)((brace ? brace : p) - p));
		len = slash ? (size_t)(slash - p) : n;
		if (!domain_spec(p + 1, len - 1, t))
			return false;
		p += len;
		n -= len;
	}
	if (n == 0)
		return true;
	two = n > 1 ? memmem(p, n, "//", 2) : NULL;
	len = two ? (size_t)(two - p) : n;
	if (len > 0 && !cidr(p, len, 32))
		return false;
	return !two || cidr(two + 1, n - len - 1, 128);
}

/* ---- terms ---- */

static bool mechanism_rest(const char *p, size_t n, struct spf_term *t)
{
	switch (t->kind) {
	case SPF_ALL:
		return n == 0;
	case SPF_INCLUDE:
	case SPF_EXISTS:
		return n > 1 && p[0] == ':' && domain_spec(p + 1, n - 1, t);
	case SPF_PTR:
		return n == 0 || (p[0] == ':' && domain_spec(p + 1, n - 1, t));
	case SPF_A:
	case SPF_MX:
		return dual(p, n, t);
	case SPF_IP4:
		return n > 1 && p[0] == ':' && address(p + 1, n - 1, AF_INET, 32);
	case SPF_IP6:
		return n > 1 && p[0] == ':' && address(p + 1, n - 1, AF_INET6, 128);
	default:
		return false;
	}
}

/* 1: read; 0: not one of ours; -1: one, but malformed. */
static int mechanism(const char *p, size_t n, struct spf_term *t)
{
	size_t word;

	t->qualifier = '+';
	if (n > 0 && p[0] && strchr("+-~?", p[0])) {
		t->qualifier = p[0];
		p++;
		n--;
	}
	word = 0;
	while (word < n && p[word] != ':' && p[word] != '/')
		word++;
	for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++) {
		if (strlen(mechanisms[i].word) != word || strncasecmp(mechanisms[i].word, p, word) != 0)
			continue;
		t->kind = mechanisms[i].kind;
		return mechanism_rest(p + word, n - word, t) ? 1 : -1;
	}
	return 0;
}

/* name "=" value: section 6. 1, 0, -1 as above. */
static int modifier(const char *p, size_t n, struct spf_term *t)
{
	const char *eq = memchr(p, '=', n);
	size_t name = eq ? (size_t)(eq - p) : 0;
	bool macro = false;

	if (name == 0 || !((p[0] >= 'a' && p[0] <= 'z') || (p[0] >= 'A' && p[0] <= 'Z')))
		return 0;
	for (size_t i = 0; i < name; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", p[i]))
			return 0;
	if (name == 8 && strncasecmp(p, "redirect", 8) == 0)
		t->kind = SPF_REDIRECT;
	else if (name == 3 && strncasecmp(p, "exp", 3) == 0)
		t->kind = SPF_EXP;
	else
		t->kind = SPF_OTHER;
	if (t->kind == SPF_OTHER)
		return macro_string(eq + 1, n - name - 1, &macro) ? 1 : -1;
	return domain_spec(eq + 1, n - name - 1, t) ? 1 : -1;
}

static void one_term(const char *p, size_t n, const char *where, struct spf *out, struct problems *problems)
{
	struct spf_term *t = &out->terms[out->n];
	int rc;

	memset(t, 0, sizeof *t);
	rc = modifier(p, n, t);
	if (rc == 0)
		rc = mechanism(p, n, t);
	if (rc < 0)
		problem_error(problems, "syntax", "%s: \"%.*s\" is malformed", where, (int)(n > 80 ? 80 : n), p);
	if (rc == 0)
		problem_error(problems, "unknown_mechanism", "%s: \"%.*s\" is no mechanism of SPF", where, (int)(n > 80 ? 80 : n), p);
	if (rc <= 0)
		return;
	for (int i = 0; i < out->n; i++)
		if ((t->kind == SPF_REDIRECT || t->kind == SPF_EXP) && out->terms[i].kind == t->kind)
			problem_error(problems, "duplicate_modifier", "%s: %s= is there twice", where,
				      t->kind == SPF_EXP ? "exp" : "redirect");
	if (t->kind == SPF_ALL && !out->has_all) {
		out->has_all = true;
		out->all = t->qualifier;
	} else if (out->has_all && t->kind != SPF_EXP && t->kind != SPF_OTHER) {
		problem_warning(problems, "after_all", "%s: \"%.*s\" comes with \"all\" and is never looked at", where,
				(int)(n > 80 ? 80 : n), p);
	}
	out->n++;
}

/* What is allowed and still not wise. */
static void advise(const char *text, const char *where, const struct spf *s, struct problems *p)
{
	bool redirect = false;

	for (int i = 0; i < s->n; i++) {
		redirect |= s->terms[i].kind == SPF_REDIRECT;
		if (s->terms[i].kind == SPF_PTR)
			problem_warning(p, "ptr", "%s: \"ptr\" is slow and should not be used (RFC 7208 section 5.5)", where);
	}
	if (s->has_all && s->all == '+')
		problem_warning(p, "passes_everybody", "%s: \"+all\" lets everybody send in its name", where);
	if (!s->has_all && !redirect)
		problem_warning(p, "no_all", "%s: there is neither \"all\" nor \"redirect=\", so the rest is neutral", where);
	if (strlen(text) > RECORD_WARN)
		problem_warning(p, "long_record", "%s: the record has %zu bytes and may not fit an answer over UDP", where,
				strlen(text));
}

void spf_read(const char *text, const char *where, struct spf *out, struct problems *p)
{
	memset(out, 0, sizeof *out);
	for (const char *c = text; *c; c++)
		if (*c < ' ' || *c > '~') {
			problem_error(p, "syntax", "%s: the record has a character that is not printable ASCII", where);
			return;
		}
	text += strlen("v=spf1");
	for (const char *at = text; *at;) {
		size_t n;

		at += strspn(at, " ");
		n = strcspn(at, " ");
		if (n == 0)
			break;
		if (out->n == SPF_TERMS_MAX) {
			problem_error(p, "syntax", "%s: the record has more than %d terms", where, SPF_TERMS_MAX);
			return;
		}
		one_term(at, n, where, out, p);
		at += n;
	}
	advise(text, where, out, p);
}
