/* json.c: strict reading and canonical writing on top of jansson.
 *
 * Messages about a document name the place and the rule, never the text found
 * there (jansson's own messages quote it): documents carry secrets.
 * Writing is ours because jansson 2.14 prints 0.1 as 0.10000000000000001 and
 * a canonical text must be the same in every version.
 */
#include "base/json.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/limits.h"

/* jansson 2.14 reports some failed allocations as an invalid token. Worse, when the buffer
 * of a token cannot grow it drops the character (lex_save() ignores the result of
 * strbuffer_append_byte()), and looks for the quote that it has dropped past the end of
 * the buffer, writing as it goes. So we watch the allocations ourselves, and that buffer
 * grows into memory set aside before, when there is no other: the token ends as it should,
 * and so does the reading, at the next value. */
static _Thread_local bool out_of_memory;
static _Thread_local struct {
	char *p;
	size_t size, used;
} aside;

enum { TOKEN_BUFFER_MIN = 32, ASIDE_SMALL = 1024 };

/* The buffer of a token doubles from 16 bytes on: these are the sizes that it asks for. */
static void *from_aside(size_t n)
{
	void *p = aside.p + aside.used;

	if (n < TOKEN_BUFFER_MIN || (n & (n - 1)) != 0 || n > aside.size)
		return NULL;
	/* others, who would take a no, have had it all: rather no process than a wrong one */
	HP_ASSERT(n <= aside.size - aside.used && "no memory left to read a JSON document");
	aside.used += n;
	return p;
}

static void *watched_alloc(size_t n)
{
	void *p = hp_alloc(n);

	if (p)
		return p;
	out_of_memory = true;
	return from_aside(n);
}

static void watched_free(void *p)
{
	if ((uintptr_t)p - (uintptr_t)aside.p >= aside.size)
		hp_free(p);
}

/* jansson allocates through our door too, so tests can make it fail. Before
 * main(), because the functions may not change while values are alive. */
__attribute__((constructor)) static void use_our_heap(void)
{
	json_set_alloc_funcs(watched_alloc, watched_free);
}

/* Looks at nesting before the recursive parser does: its own limit is 2048.
 * *longest: no token has more bytes. */
static int check_depth(const char *p, size_t n, const char *what, size_t *longest, struct hp_error *err)
{
	int depth = 0;
	bool in_string = false;
	size_t i, begun = 0;

	*longest = 0;
	for (i = 0; i < n; i++) {
		if (in_string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				in_string = false;
			continue;
		}
		if (p[i] != '"' && p[i] != ',' && p[i] != ':' && p[i] != '{' && p[i] != '[' && p[i] != '}' && p[i] != ']')
			continue;
		*longest = i - begun > *longest ? i - begun : *longest;
		begun = i;
		if (p[i] == '"')
			in_string = true;
		else if ((p[i] == '{' || p[i] == '[') && ++depth > HP_JSON_DEPTH_MAX)
			return hp_fail(err, HP_E_INVALID, "%s: nested deeper than %d levels", what, HP_JSON_DEPTH_MAX);
		else if (p[i] == '}' || p[i] == ']')
			depth--;
	}
	*longest = n - begun > *longest ? n - begun : *longest;
	return 0;
}

static const char *rule_of(enum json_error_code code)
{
	switch (code) {
	case json_error_premature_end_of_input:
		return "ends too early";
	case json_error_end_of_input_expected:
		return "has more text after its end";
	case json_error_invalid_utf8:
		return "is not valid UTF-8";
	case json_error_null_character:
	case json_error_null_byte_in_key:
		return "contains the character U+0000, which the database cannot hold";
	case json_error_duplicate_key:
		return "names a key twice in one object";
	case json_error_numeric_overflow:
		return "has a number beyond the range of 64 bit";
	default:
		return "is not valid JSON";
	}
}

json_t *hp_json_parse(const char *p, size_t n, const char *what, struct hp_error *err)
{
	_Alignas(max_align_t) char small[ASIDE_SMALL];
	char *large = NULL;
	json_error_t e = {0};
	json_t *v = NULL;
	size_t longest, size;

	if (check_depth(p, n, what, &longest, err) < 0)
		return NULL;
	size = 4 * longest + 128; /* all its doublings: twice the last, which is twice the token */
	out_of_memory = size > sizeof small && !(large = hp_alloc(size));
	if (!out_of_memory) {
		aside.p = large ? large : small;
		aside.size = large ? size : sizeof small;
		aside.used = 0;
		v = json_loadb(n ? p : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
		if (v && out_of_memory) {
			json_decref(v);
			v = NULL;
		}
		aside.p = NULL;
		aside.size = aside.used = 0;
		hp_free(large);
	}
	if (v)
		return v;
	if (out_of_memory)
		hp_fail(err, HP_E_NOMEM, "%s: no memory left to read it", what);
	else
		hp_fail(err, HP_E_INVALID, "%s: %s (line %d, column %d)", what,
			rule_of(json_error_code(&e)), e.line, e.column);
	return NULL;
}

static int write_value(struct hp_buf *b, const json_t *v, int depth, struct hp_error *err);

static int write_real(struct hp_buf *b, double d, struct hp_error *err)
{
	char text[40];
	int digits;

	if (!isfinite(d))
		return hp_fail(err, HP_E_INVALID, "JSON has no word for %f", d);
	/* 17 digits always read back equal (IEEE 754 double). The locale is "C":
	 * nothing in this program calls setlocale(). */
	for (digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof text, "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	hp_buf_adds(b, text);
	/* A real stays a real when it is read again. */
	if (!strpbrk(text, ".e"))
		hp_buf_adds(b, ".0");
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static int write_object(struct hp_buf *b, const json_t *v, int depth, struct hp_error *err)
{
	size_t count = json_object_size(v), i = 0;
	json_t *object = (json_t *)(uintptr_t)v; /* jansson iterates over non-const only */
	const char **keys = NULL;
	void *it;
	int rc = -1;

	keys = hp_calloc(count, sizeof *keys);
	if (!keys)
		return hp_fail(err, HP_E_NOMEM, "no memory left to write JSON");
	for (it = json_object_iter(object); it; it = json_object_iter_next(object, it))
		keys[i++] = json_object_iter_key(it);
	HP_ASSERT(i == count);
	qsort(keys, count, sizeof *keys, compare_keys);
	hp_buf_addc(b, '{');
	for (i = 0; i < count; i++) {
		if (i)
			hp_buf_addc(b, ',');
		hp_buf_json(b, keys[i], strlen(keys[i]));
		hp_buf_addc(b, ':');
		if (write_value(b, json_object_get(v, keys[i]), depth + 1, err) < 0)
			goto out;
	}
	hp_buf_addc(b, '}');
	rc = 0;
out:
	hp_free(keys);
	return rc;
}

static int write_array(struct hp_buf *b, const json_t *v, int depth, struct hp_error *err)
{
	size_t i;

	hp_buf_addc(b, '[');
	for (i = 0; i < json_array_size(v); i++) {
		if (i)
			hp_buf_addc(b, ',');
		if (write_value(b, json_array_get(v, i), depth + 1, err) < 0)
			return -1;
	}
	hp_buf_addc(b, ']');
	return 0;
}

/* depth: containers around this value. */
static int write_value(struct hp_buf *b, const json_t *v, int depth, struct hp_error *err)
{
	if (b->failed) /* no use in walking the rest */
		return hp_buf_check(b, "JSON", err);
	if (!v) /* jansson could not make it */
		return hp_fail(err, HP_E_NOMEM, "no memory for a JSON document");
	if (json_is_object(v) || json_is_array(v)) {
		if (depth >= HP_JSON_DEPTH_MAX)
			return hp_fail(err, HP_E_INVALID, "JSON nested deeper than %d levels",
				       HP_JSON_DEPTH_MAX);
		return json_is_object(v) ? write_object(b, v, depth, err) : write_array(b, v, depth, err);
	}
	switch (json_typeof(v)) {
	case JSON_STRING:
		hp_buf_json(b, json_string_value(v), json_string_length(v));
		return 0;
	case JSON_INTEGER:
		hp_buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		return 0;
	case JSON_REAL:
		return write_real(b, json_real_value(v), err);
	case JSON_TRUE:
		hp_buf_adds(b, "true");
		return 0;
	case JSON_FALSE:
		hp_buf_adds(b, "false");
		return 0;
	default:
		hp_buf_adds(b, "null");
		return 0;
	}
}

int hp_json_write(struct hp_buf *b, const json_t *v, struct hp_error *err)
{
	if (write_value(b, v, 0, err) < 0)
		return -1;
	return hp_buf_check(b, "JSON", err);
}

const char *hp_json_str(const json_t *obj, const char *key)
{
	return json_string_value(json_object_get(obj, key));
}

int64_t hp_json_int(const json_t *obj, const char *key, int64_t fallback)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_integer(v) ? json_integer_value(v) : fallback;
}

int hp_json_bool(const json_t *obj, const char *key, int fallback)
{
	const json_t *v = json_object_get(obj, key);

	return json_is_boolean(v) ? json_is_true(v) : fallback;
}

json_t *hp_json_path(const json_t *obj, const char *path)
{
	json_t *v = (json_t *)(uintptr_t)obj; /* borrowed, never changed here */

	for (;;) {
		size_t n = strcspn(path, ".");

		v = json_object_getn(v, path, n);
		if (!v || path[n] == '\0')
			return v;
		path += n + 1;
	}
}
