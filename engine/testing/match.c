/* match.c: is a value as expected, and if not, where and how does it differ?
 *
 * An expected object names the members it cares about, others are free; an expected
 * list means all of the list. Markers (made by the words of the same name):
 * {"$any"}: whatever is there; {"$absent"}: nothing may be there; {"$contains": text};
 * {"$exactly": value}: no other members either.
 */
#include "testing/testing_private.h"

#include <stdio.h>
#include <string.h>

void hp_t_text(const json_t *v, char out[TEST_TEXT_MAX])
{
	struct hp_buf b;

	if (!v) {
		(void)snprintf(out, TEST_TEXT_MAX, "nothing");
		return;
	}
	hp_buf_init(&b, HP_RUN_DATA_MAX);
	if (hp_json_write(&b, v, NULL) < 0)
		hp_buf_clear(&b);
	(void)snprintf(out, TEST_TEXT_MAX, "%s", hp_buf_str(&b));
	if (b.n >= TEST_TEXT_MAX) /* a cut must be seen, and leave whole characters */
		for (size_t at = TEST_TEXT_MAX - 4;; at--)
			if (((unsigned char)out[at] & 0xC0) != 0x80) {
				memcpy(out + at, "…", sizeof "…");
				break;
			}
	hp_buf_free(&b);
}

static bool differ(const json_t *expected, const json_t *actual, const char *where, struct mismatch *m)
{
	(void)snprintf(m->where, sizeof m->where, "%s", where);
	hp_t_text(expected, m->expected);
	hp_t_text(actual, m->actual);
	return false;
}

static bool differ_text(const char *expected, const json_t *actual, const char *where, struct mismatch *m)
{
	(void)differ(NULL, actual, where, m);
	(void)snprintf(m->expected, sizeof m->expected, "%s", expected);
	return false;
}

static bool match_object(const json_t *expected, const json_t *actual, const char *where, struct mismatch *m)
{
	json_t *object = (json_t *)(uintptr_t)expected, *v;
	const char *name;
	char inner[300];

	/* {} of Lua is an empty list where a list is meant */
	if (json_object_size(expected) == 0 && json_is_array(actual))
		return json_array_size(actual) == 0 || differ_text("[]", actual, where, m);
	if (!json_is_object(actual))
		return differ(expected, actual, where, m);
	json_object_foreach(object, name, v) {
		(void)snprintf(inner, sizeof inner, "%s%s%s", where, *where ? "." : "", name);
		if (!hp_t_match(v, json_object_get(actual, name), inner, m))
			return false;
	}
	return true;
}

static bool match_array(const json_t *expected, const json_t *actual, const char *where, struct mismatch *m)
{
	size_t n = json_array_size(expected), i;
	char inner[300];

	if (!json_is_array(actual))
		return differ(expected, actual, where, m);
	for (i = 0; i < n && i < json_array_size(actual); i++) {
		(void)snprintf(inner, sizeof inner, "%s[%zu]", where, i + 1);
		if (!hp_t_match(json_array_get(expected, i), json_array_get(actual, i), inner, m))
			return false;
	}
	return n == json_array_size(actual) || differ(expected, actual, where, m);
}

static bool match_mark(const json_t *e, const json_t *actual, const char *where, struct mismatch *m, bool *marked)
{
	const char *part = hp_json_str(e, "$contains"), *text;
	const json_t *exactly = json_object_get(e, "$exactly");
	char said[TEST_TEXT_MAX];

	*marked = true;
	if (json_object_get(e, "$any"))
		return actual || differ_text("anything", actual, where, m);
	if (json_object_get(e, "$absent"))
		return !actual || json_is_null(actual) || differ_text("nothing", actual, where, m);
	if (exactly)
		return json_equal(exactly, actual) || differ(exactly, actual, where, m);
	if (part) {
		text = json_string_value(actual);
		if (text && strstr(text, part))
			return true;
		(void)snprintf(said, sizeof said, "a text with \"%s\" in it", part);
		return differ_text(said, actual, where, m);
	}
	*marked = false;
	return true;
}

bool hp_t_match(const json_t *expected, const json_t *actual, const char *where, struct mismatch *m)
{
	bool marked = false, same;

	if (json_is_object(expected)) {
		same = match_mark(expected, actual, where, m, &marked);
		return marked ? same : match_object(expected, actual, where, m);
	}
	if (json_is_array(expected))
		return match_array(expected, actual, where, m);
	if (json_is_number(expected) && json_is_number(actual))
		same = json_is_integer(expected) && json_is_integer(actual)
			       ? json_integer_value(expected) == json_integer_value(actual)
			       : json_number_value(expected) == json_number_value(actual);
	else
		same = json_is_null(expected) ? !actual || json_is_null(actual) : json_equal(expected, actual);
	return same || differ(expected, actual, where, m);
}
