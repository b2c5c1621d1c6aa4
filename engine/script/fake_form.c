/* fake_form.c: form bodies with nested names, and routes with :params.
 *
 * Names nest the way Stripe's libraries write them: a[b]=1, items[0][price]=x,
 * expand[]=y. An object whose keys turn out to be 0..n-1 becomes an array. The last of
 * two equal names wins.
 */
#include <string.h>
#include "base/alloc.h"
#include "script/fake_internal.h"

#define PAIRS_MAX 2000
#define NESTING_MAX 8

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Appends s decoded. A '%' that begins no escape stands for itself. */
static int decode(struct hp_buf *b, const char *s, size_t n, bool plus_is_space)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < n && rc == 0; i++) {
		if (s[i] == '%' && n - i > 2 && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
			rc = hp_buf_addc(b, (char)(hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2])));
			i += 2;
		} else {
			rc = hp_buf_addc(b, plus_is_space && s[i] == '+' ? ' ' : s[i]);
		}
	}
	return rc;
}

/* The object below `in` at this key, made when there is none. Borrowed. */
static json_t *object_at(json_t *in, const char *key, size_t n)
{
	json_t *child = json_object_getn(in, key, n);

	if (json_is_object(child))
		return child;
	child = json_object();
	if (json_object_setn_new_nocheck(in, key, n, child))
		return NULL;
	return child;
}

/* "a[b][]" = value into root. */
static int put(json_t *root, const char *name, size_t n, json_t *value)
{
	const char *open = memchr(name, '[', n), *end = name + n, *key = name;
	size_t key_n = open && n && name[n - 1] == ']' ? (size_t)(open - name) : n;
	char position[24];
	json_t *in = root;
	int depth;

	for (depth = 0; key + key_n < end && depth < NESTING_MAX; depth++) {
		const char *next = key + key_n + (depth ? 2 : 1); /* after "][" or "[" */
		const char *close = memchr(next, ']', (size_t)(end - next));

		if (!close || (close + 1 < end && close[1] != '['))
			break;
		in = object_at(in, key, key_n);
		if (!in)
			goto fail;
		key = next;
		key_n = (size_t)(close - next);
		if (!key_n) { /* []: the next position */
			snprintf(position, sizeof position, "%zu", json_object_size(in));
			return json_object_set_new_nocheck(in, position, value);
		}
		if (close + 1 == end)
			break;
	}
	return json_object_setn_new_nocheck(in, key, key_n, value);
fail:
	json_decref(value);
	return -1;
}

/* {"0": a, "1": b} → [a, b], inside first. Takes v, returns what stands for it. */
static json_t *with_arrays(json_t *v)
{
	const char *key;
	char position[24];
	json_t *child, *array;
	void *tmp;
	size_t i, n = json_object_size(v);

	if (!json_is_object(v))
		return v;
	json_object_foreach_safe(v, tmp, key, child) {
		json_t *made = with_arrays(json_incref(child));

		if (made != child)
			json_object_set_nocheck(v, key, made);
		json_decref(made);
	}
	for (i = 0; i < n; i++) {
		snprintf(position, sizeof position, "%zu", i);
		if (!json_object_get(v, position))
			return v;
	}
	if (!n || !(array = json_array()))
		return v;
	for (i = 0; i < n; i++) {
		snprintf(position, sizeof position, "%zu", i);
		json_array_append(array, json_object_get(v, position));
	}
	json_decref(v);
	return array;
}

static int put_pair(json_t *root, const char *pair, size_t n)
{
	const char *eq = memchr(pair, '=', n);
	size_t name_n = eq ? (size_t)(eq - pair) : n;
	struct hp_buf name, value;
	int rc = -1;

	hp_buf_init(&name, n + 1);
	hp_buf_init(&value, n + 1);
	if (decode(&name, pair, name_n, true) == 0 &&
	    (!eq || decode(&value, eq + 1, n - name_n - 1, true) == 0))
		rc = put(root, hp_buf_str(&name), name.n, json_stringn_nocheck(hp_buf_str(&value), value.n));
	hp_buf_free(&name);
	hp_buf_free(&value);
	return rc;
}

json_t *hp_fake_form(struct hp_bytes body)
{
	json_t *root = json_object();
	size_t at = 0, pairs = 0;
	const char *key;
	json_t *child;
	void *tmp;

	while (root && at < body.n) {
		const char *amp = memchr(body.p + at, '&', body.n - at);
		size_t n = amp ? (size_t)(amp - body.p) - at : body.n - at;

		if (n && (++pairs > PAIRS_MAX || put_pair(root, body.p + at, n) < 0)) {
			json_decref(root);
			return NULL;
		}
		at += n + 1;
	}
	/* the form itself stays an object, even with a field "0" */
	json_object_foreach_safe(root, tmp, key, child) {
		json_t *made = with_arrays(json_incref(child));

		if (made != child)
			json_object_set_nocheck(root, key, made);
		json_decref(made);
	}
	return root;
}

bool hp_fake_path_match(const char *pattern, const char *path, json_t *params)
{
	while (*pattern && *path) {
		size_t want = strcspn(pattern + 1, "/") + 1, have = strcspn(path + 1, "/") + 1;

		if (pattern[1] == ':' && have > 1) {
			struct hp_buf b;

			hp_buf_init(&b, have);
			if (params && decode(&b, path + 1, have - 1, false) == 0)
				json_object_setn_new_nocheck(params, pattern + 2, want - 2,
							     json_stringn_nocheck(hp_buf_str(&b), b.n));
			hp_buf_free(&b);
		} else if (want != have || memcmp(pattern, path, want) != 0) {
			return false;
		}
		pattern += want;
		path += have;
	}
	return !*pattern && !*path;
}
