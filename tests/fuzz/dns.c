/* SPF, DKIM and DMARC records, and tag lists: what a reader gives is within its bounds and
 * lies in the record, an invalid one says why, and reading it again says the same.
 *
 * Input: a record. */
#include "../../plugins/dns/records.h"
#include "base/json.h"
#include "lib/fuzz.h"

static void check_problems(const struct problems *p)
{
	json_t *v;
	size_t i;
	int errors = 0;

	json_array_foreach(p->list, i, v) {
		const char *severity = hp_json_str(v, "severity");

		MUST(severity && hp_json_str(v, "code") && hp_json_str(v, "message"));
		errors += strcmp(severity, "error") == 0;
	}
	MUST(errors == p->errors, "%d errors are listed, %d counted", errors, p->errors);
}

static void check_spf(const char *text)
{
	struct problems p;
	struct spf s;

	if (!spf_is_record(text))
		return;
	MUST(problems_init(&p) == 0);
	spf_read(text, "example.com", &s, &p);
	check_problems(&p);
	MUST(s.n >= 0 && s.n <= SPF_TERMS_MAX);
	for (int i = 0; i < s.n; i++) {
		const struct spf_term *t = &s.terms[i];

		MUST(t->kind >= SPF_ALL && t->kind <= SPF_OTHER && strchr("+-~?", t->qualifier));
		MUST(memchr(t->domain, '\0', sizeof t->domain) != NULL);
		/* what will be asked for may be asked for */
		if (p.errors == 0 && spf_asks(t->kind) && t->domain[0] && !t->macro)
			MUST(dns_name_ok(t->domain), "\"%s\"", t->domain);
	}
	if (s.has_all)
		MUST(strchr("+-~?", s.all) && s.all);
	problems_free(&p);
}

static void check_tags(const char *text, size_t n)
{
	struct problems p;
	struct tags t;

	MUST(problems_init(&p) == 0);
	if (!tags_read(text, &t, &p)) {
		check_problems(&p);
		MUST(json_array_size(p.list) > 0, "refused without a word");
	} else {
		MUST(t.n >= 0 && t.n <= TAGS_MAX);
		for (int i = 0; i < t.n; i++) {
			const struct tag *tag = &t.list[i];

			MUST(tag->name[0] && memchr(tag->name, '\0', sizeof tag->name));
			MUST(tag->n == 0 || (tag->value >= text && tag->value + tag->n <= text + n));
			MUST(tags_get(&t, tag->name) != NULL && strcmp(tags_get(&t, tag->name)->name, tag->name) == 0);
		}
	}
	problems_free(&p);
}

static json_t *read_record(void (*read)(const char *, json_t *, struct problems *), const char *text)
{
	struct problems p;
	json_t *out = json_object();

	MUST(problems_init(&p) == 0 && out);
	read(text, out, &p);
	check_problems(&p);
	json_object_set_new(out, "problems", json_incref(p.list));
	problems_free(&p);
	return out;
}

static void check_twice(void (*read)(const char *, json_t *, struct problems *), const char *text)
{
	json_t *a = read_record(read, text), *b = read_record(read, text);
	struct hp_error err = {0};
	struct hp_buf out;

	MUST(json_equal(a, b));
	hp_buf_init(&out, 1 << 20);
	MUST(hp_json_write(&out, a, &err) == 0, "%s", err.message); /* it goes into a frame */
	hp_buf_free(&out);
	json_decref(a);
	json_decref(b);
}

HP_FUZZ(dns)
{
	char *text = text_of((struct hp_bytes){(const char *)p, n});
	size_t len = strlen(text);

	MUST(!dns_name_ok(text) || (len > 0 && len <= DNS_NAME_MAX + 1 && !strpbrk(text, " /\"\\\n")));
	check_spf(text);
	check_tags(text, len);
	check_twice(dkim_read, text);
	if (dmarc_is_record(text))
		check_twice(dmarc_read, text);
	free(text);
}
