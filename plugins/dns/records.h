/* records.h: SPF, DKIM and DMARC records, as text: no network, no engine.
 *
 * A reader adds what it finds to `problems`: errors make a record invalid, warnings
 * are what its owner should know. Sentences are for people, codes for workflows.
 */
#ifndef DNS_RECORDS_H
#define DNS_RECORDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define DNS_NAME_MAX 253
#define SPF_TERMS_MAX 64
#define SPF_LOOKUPS_MAX 10 /* RFC 7208 section 4.6.4 */
#define TAGS_MAX 32

struct problems {
	json_t *list; /* [{"severity", "code", "message"}] */
	int errors;
};
int problems_init(struct problems *p);
void problems_free(struct problems *p);
void problem_error(struct problems *p, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void problem_warning(struct problems *p, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A name that may be asked for: labels of 1 to 63 letters, digits, - and _. */
bool dns_name_ok(const char *s);

/* ---- SPF: RFC 7208 ---- */
enum spf_kind {
	SPF_ALL,
	SPF_INCLUDE,
	SPF_A,
	SPF_MX,
	SPF_PTR,
	SPF_IP4,
	SPF_IP6,
	SPF_EXISTS,
	SPF_REDIRECT,
	SPF_EXP,
	SPF_OTHER, /* a modifier that is not known: ignored */
};
struct spf_term {
	enum spf_kind kind;
	char qualifier;                 /* + - ~ ? */
	char domain[DNS_NAME_MAX + 1];  /* "": the domain itself */
	bool macro;                     /* the domain depends on the mail */
};
struct spf {
	struct spf_term terms[SPF_TERMS_MAX];
	int n;
	bool has_all;
	char all;                       /* its qualifier */
};
bool spf_is_record(const char *text); /* section 4.5: "v=spf1" and an end or a space */
/* where: the domain, for sentences. */
void spf_read(const char *text, const char *where, struct spf *out, struct problems *p);
bool spf_asks(enum spf_kind k); /* counts towards SPF_LOOKUPS_MAX */

/* ---- tag lists: RFC 6376 section 3.2 ---- */
struct tag {
	char name[32];
	const char *value; /* without white space at its ends; not terminated */
	size_t n;
};
struct tags {
	struct tag list[TAGS_MAX];
	int n;
};
/* false: it is no tag list; the problem says why. */
bool tags_read(const char *text, struct tags *out, struct problems *p);
const struct tag *tags_get(const struct tags *t, const char *name);
bool tag_is(const struct tag *t, const char *value);         /* exactly */
bool tag_is_word(const struct tag *t, const char *value);    /* whatever the case */

/* ---- DKIM: RFC 6376 section 3.6.1, RFC 8301, RFC 8463 ---- */
/* Members are added to `out`: key_type, bits, testing, strict, revoked. */
void dkim_read(const char *text, json_t *out, struct problems *p);

/* ---- DMARC: RFC 7489 section 6.3 ---- */
bool dmarc_is_record(const char *text);
/* Adds policy, subdomain_policy, percent, alignment, rua, ruf. */
void dmarc_read(const char *text, json_t *out, struct problems *p);

#endif
