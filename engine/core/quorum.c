/* quorum.c: reading "2 of sre and 1 of security". */
#include "core/quorum.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define VOTES_MAX 20 /* votes one role may be asked for */

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\n')
		p++;
	return p;
}

static size_t word_length(const char *p)
{
	size_t n = 0;

	/* Roles are written like names in Lua and SQL; a dot or dash may join words. */
	while (isalnum((unsigned char)p[n]) || p[n] == '_' || (n && (p[n] == '-' || p[n] == '.')))
		n++;
	return n;
}

static bool take_word(const char **p, const char *word)
{
	size_t n = word_length(*p);

	if (n != strlen(word) || strncmp(*p, word, n) != 0)
		return false;
	*p = skip_blanks(*p + n);
	return true;
}

static int fail(struct hp_error *err, const char *text, const char *what)
{
	hp_fail(err, HP_E_INVALID, "approvers \"%.100s\": %s", text, what);
	return hp_error_hint(err, "write it like \"1 of payments\" or \"2 of sre and 1 of security\"");
}

/* One NUMBER "of" ROLE. */
static int parse_term(const char *text, const char **p, struct hp_quorum *q, struct hp_error *err)
{
	struct hp_quorum_term *t = &q->terms[q->n_terms];
	size_t n;
	int i, votes = 0;

	if (!isdigit((unsigned char)**p))
		return fail(err, text, "a number of votes is missing");
	for (; isdigit((unsigned char)**p); (*p)++)
		if (votes <= VOTES_MAX) /* more digits cannot make it right again */
			votes = votes * 10 + (**p - '0');
	if (votes < 1 || votes > VOTES_MAX)
		return fail(err, text, "votes must be from 1 to 20");
	*p = skip_blanks(*p);
	if (!take_word(p, "of"))
		return fail(err, text, "the word \"of\" is missing after the number");
	n = word_length(*p);
	if (n == 0 || n >= sizeof t->role)
		return fail(err, text, n ? "a role's name is longer than 63 characters" : "a role is missing after \"of\"");
	memcpy(t->role, *p, n);
	t->role[n] = '\0';
	t->n = votes;
	*p = skip_blanks(*p + n);
	for (i = 0; i < q->n_terms; i++)
		if (strcmp(q->terms[i].role, t->role) == 0)
			return fail(err, text, "a role is named twice");
	q->n_terms++;
	return 0;
}

int hp_quorum_parse(const char *text, struct hp_quorum *q, struct hp_error *err)
{
	const char *p = skip_blanks(text);

	memset(q, 0, sizeof *q);
	for (;;) {
		if (q->n_terms == HP_QUORUM_TERMS_MAX)
			return fail(err, text, "more than 8 roles");
		if (parse_term(text, &p, q, err) < 0)
			return -1;
		if (*p == '\0')
			return 0;
		if (!take_word(&p, "and"))
			return fail(err, text, "only \"and\" may follow a role");
	}
}

int hp_quorum_json(const struct hp_quorum *q, struct hp_buf *b)
{
	int i;

	hp_buf_addc(b, '[');
	for (i = 0; i < q->n_terms; i++) {
		hp_buf_printf(b, "%s{\"n\":%d,\"role\":", i ? "," : "", q->terms[i].n);
		hp_buf_json(b, q->terms[i].role, strlen(q->terms[i].role));
		hp_buf_addc(b, '}');
	}
	return hp_buf_addc(b, ']');
}
