/* records.c: what the readers of records share. */
#include "records.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int problems_init(struct problems *p)
{
	p->list = json_array();
	p->errors = 0;
	return p->list ? 0 : -1;
}

void problems_free(struct problems *p)
{
	json_decref(p->list);
	p->list = NULL;
}

/* Records are other people's: what is quoted is made printable. */
static void add(struct problems *p, const char *severity, const char *code, const char *fmt, va_list ap)
{
	char text[400];

	vsnprintf(text, sizeof text, fmt, ap);
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	json_array_append_new(p->list, json_pack("{s:s, s:s, s:s}", "severity", severity, "code", code, "message", text));
}

void problem_error(struct problems *p, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, "error", code, fmt, ap);
	va_end(ap);
	p->errors++;
}

void problem_warning(struct problems *p, const char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(p, "warning", code, fmt, ap);
	va_end(ap);
}

bool dns_name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n > 0 && s[n - 1] == '.')
		n--;
	if (n == 0 || n > DNS_NAME_MAX)
		return false;
	for (size_t at = 0; at < n;) {
		size_t label = strspn(s + at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

		if (label == 0 || label > 63 || (at + label < n && s[at + label] != '.'))
			return false;
		at += label + 1;
		if (at == n)
			return false; /* ".." at the end */
	}
	return true;
}

/* ---- tag lists ---- */

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool tag_name(const char *p, size_t n, struct tag *t)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	if (n == 0 || n >= sizeof t->name || !strchr(letters, *p))
		return false;
	memcpy(t->name, p, n);
	t->name[n] = 0;
	return strspn(t->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

static void trim(const char **p, size_t *n)
{
	while (*n > 0 && blank(**p)) {
		(*p)++;
		(*n)--;
	}
	while (*n > 0 && blank((*p)[*n - 1]))
		(*n)--;
}

/* One "name = value". */
static bool read_tag(const char *p, size_t n, struct tags *out, struct problems *problems)
{
	const char *eq = memchr(p, '=', n);
	struct tag *t = &out->list[out->n];
	const char *name = p;
	size_t name_n = eq ? (size_t)(eq - p) : 0;

	trim(&name, &name_n);
	if (!eq || !tag_name(name, name_n, t)) {
		problem_error(problems, "syntax", "\"%.*s\" is no tag (name=value)", (int)(n > 60 ? 60 : n), p);
		return false;
	}
	t->value = eq + 1;
	t->n = n - (size_t)(eq + 1 - p);
	trim(&t->value, &t->n);
	for (size_t i = 0; i < t->n; i++)
		if ((t->value[i] < '!' || t->value[i] > '~') && !blank(t->value[i])) {
			problem_error(problems, "syntax", "the value of %s= has a character that is not allowed", t->name);
			return false;
		}
	if (tags_get(out, t->name)) {
		problem_error(problems, "duplicate_tag", "the tag %s= is there twice, which makes the whole record invalid", t->name);
		return false;
	}
	out->n++;
	return true;
}

bool tags_read(const char *text, struct tags *out, struct problems *p)
{
	out->n = 0;
	for (;;) {
		size_t n = strcspn(text, ";");
		const char *part = text;
		size_t part_n = n;

		trim(&part, &part_n);
		if (part_n == 0 && text[n]) {
			problem_error(p, "syntax", "there is nothing before a semicolon");
			return false;
		}
		if (part_n == 0)
			break;
		if (out->n == TAGS_MAX) {
			problem_error(p, "syntax", "there are more than %d tags", TAGS_MAX);
			return false;
		}
		if (!read_tag(part, part_n, out, p))
			return false;
		if (!text[n])
			break;
		text += n + 1;
	}
	return true;
}

const struct tag *tags_get(const struct tags *t, const char *name)
{
	for (int i = 0; i < t->n; i++)
		if (strcmp(t->list[i].name, name) == 0)
			return &t->list[i];
	return NULL;
}

bool tag_is(const struct tag *t, const char *value)
{
	return t->n == strlen(value) && memcmp(t->value, value, t->n) == 0;
}

bool tag_is_word(const struct tag *t, const char *value)
{
	return t->n == strlen(value) && strncasecmp(t->value, value, t->n) == 0;
}
