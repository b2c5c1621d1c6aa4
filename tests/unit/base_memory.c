/* The heap's failure switch, arenas and buffers: limits and failing memory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/arena.h"
#include "base/buf.h"
#include "lib/suite.h"
#include "lib/sweep.h"

START_TEST(the_nth_allocation_fails_once)
{
	void *a, *c;

	hp_alloc_fail_at(2);
	a = hp_alloc(10);
	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_null(hp_alloc(10));
	c = hp_calloc(1, 10);
	ck_assert_ptr_nonnull(c);
	ck_assert_uint_eq(hp_alloc_count(), 3);
	hp_alloc_fail_at(1);
	ck_assert_ptr_null(hp_realloc(a, 20)); /* a stays alive */
	hp_alloc_fail_at(1);
	ck_assert_ptr_null(hp_calloc(1, 1));
	hp_alloc_fail_at(1);
	ck_assert_ptr_null(hp_strdup("x"));
	hp_alloc_fail_at(0);
	ck_assert_uint_eq(hp_alloc_count(), 0);
	hp_free(a);
	hp_free(c);
	hp_free(NULL);
}
END_TEST

START_TEST(empty_and_absurd_sizes)
{
	volatile size_t huge = SIZE_MAX; /* the compiler need not see it coming */
	void *p = hp_alloc(0), *q = hp_calloc(0, 8);

	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_nonnull(q);
	hp_free(p);
	hp_free(q);
	ck_assert_ptr_null(hp_calloc(huge / 2, 3));
}
END_TEST

START_TEST(arena_memory_is_zero_aligned_and_apart)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	unsigned char *last = NULL;
	size_t n, i;

	ck_assert_ptr_nonnull(a);
	for (n = 0; n < 600; n++) { /* several blocks */
		unsigned char *p = hp_arena_alloc(a, n);

		ck_assert_ptr_nonnull(p);
		ck_assert_ptr_ne(p, last);
		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		for (i = 0; i < n; i++)
			ck_assert_int_eq(p[i], 0);
		memset(p, 0xFF, n);
		last = p;
	}
	hp_arena_reset(a);
	ck_assert_uint_eq(hp_arena_used(a), 0);
	last = hp_arena_alloc(a, 4000); /* memory used before is zero again */
	for (i = 0; i < 4000; i++)
		ck_assert_int_eq(last[i], 0);
	hp_arena_free(a);
	hp_arena_free(NULL);
}
END_TEST

START_TEST(arena_has_a_maximum)
{
	struct hp_arena *a = hp_arena_new(10000);
	volatile size_t huge = SIZE_MAX;

	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_null(hp_arena_alloc(a, 10001));
	ck_assert_ptr_null(hp_arena_alloc(a, huge));
	ck_assert_ptr_null(hp_arena_strndup(a, "x", huge));
	ck_assert_uint_eq(hp_arena_used(a), 0);
	ck_assert_ptr_nonnull(hp_arena_alloc(a, 6000));
	ck_assert_ptr_null(hp_arena_alloc(a, 4001));
	ck_assert_ptr_nonnull(hp_arena_alloc(a, 4000)); /* a refusal takes nothing */
	ck_assert_ptr_null(hp_arena_alloc(a, 1));
	hp_arena_reset(a);
	ck_assert_ptr_nonnull(hp_arena_alloc(a, 10000));
	ck_assert_ptr_null(hp_arena_alloc(a, 0)); /* full is full */
	hp_arena_free(a);
}
END_TEST

START_TEST(arena_copies_text)
{
	struct hp_arena *a = hp_arena_new(100000);
	char *long_text;

	ck_assert_ptr_nonnull(a);
	ck_assert_str_eq(hp_arena_strdup(a, "refund"), "refund");
	ck_assert_ptr_null(hp_arena_strdup(a, NULL));
	ck_assert_str_eq(hp_arena_strndup(a, "refund", 3), "ref");
	ck_assert_str_eq(hp_arena_strndup(a, NULL, 0), "");
	ck_assert_str_eq(hp_arena_printf(a, "%s:%d", "pay", 7), "pay:7");
	long_text = hp_arena_printf(a, "%09000d", 1);
	ck_assert_uint_eq(strlen(long_text), 9000);
	ck_assert_ptr_null(hp_arena_printf(a, "%0100000d", 1));
	hp_arena_free(a);
}
END_TEST

START_TEST(buffer_stops_at_its_maximum)
{
	struct hp_error err = {0};
	struct hp_buf b;

	hp_buf_init(&b, 10);
	ck_assert_str_eq(hp_buf_str(&b), "");
	ck_assert_int_eq(hp_buf_adds(&b, "0123456789"), 0); /* exactly the maximum */
	ck_assert_int_eq(hp_buf_check(&b, "note", &err), 0);
	ck_assert_int_eq(hp_buf_addc(&b, 'x'), -1);
	ck_assert(b.failed);
	ck_assert_str_eq(hp_buf_str(&b), "0123456789"); /* what it had */
	ck_assert_int_eq(hp_buf_check(&b, "note", &err), -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	ck_assert_ptr_nonnull(strstr(err.message, "note"));
	hp_buf_clear(&b);
	ck_assert(!b.failed);
	ck_assert_str_eq(hp_buf_str(&b), "");
	ck_assert_int_eq(hp_buf_adds(&b, "abc"), 0);
	hp_buf_free(&b);
	ck_assert_uint_eq(b.max, 10);
	ck_assert_int_eq(hp_buf_adds(&b, "again"), 0);
	hp_buf_free(&b);
}
END_TEST

START_TEST(a_failed_buffer_stays_failed)
{
	struct hp_buf b;

	hp_buf_init(&b, 5);
	ck_assert_int_eq(hp_buf_adds(&b, "abc"), 0);
	ck_assert_int_eq(hp_buf_adds(&b, "defg"), -1);
	ck_assert_int_eq(hp_buf_adds(&b, "d"), -1); /* would fit, but a hole is not allowed */
	ck_assert_int_eq(hp_buf_add(&b, "", 0), -1);
	ck_assert_int_eq(hp_buf_printf(&b, "%d", 1), -1);
	ck_assert_int_eq(hp_buf_json(&b, "x", 1), -1);
	ck_assert_int_eq(hp_buf_urlencode(&b, "x", 1), -1);
	ck_assert_str_eq(hp_buf_str(&b), "abc");
	ck_assert_uint_eq(hp_buf_bytes(&b).n, 3);
	hp_buf_free(&b);
	hp_buf_init(&b, 0);
	ck_assert_int_eq(hp_buf_add(&b, NULL, 0), 0);
	ck_assert_int_eq(hp_buf_addc(&b, 'x'), -1);
	hp_buf_free(&b);
	hp_buf_init(&b, 4);
	ck_assert_int_eq(hp_buf_printf(&b, "%s", "12345"), -1);
	ck_assert_str_eq(hp_buf_str(&b), "");
	hp_buf_free(&b);
}
END_TEST

START_TEST(buffer_holds_any_bytes)
{
	struct hp_bytes none = hp_bytes_of(NULL), some = hp_bytes_of("ab");
	struct hp_buf b;
	char all[256];
	int i;

	for (i = 0; i < 256; i++)
		all[i] = (char)i;
	hp_buf_init(&b, 100000);
	for (i = 0; i < 300; i++)
		ck_assert_int_eq(hp_buf_add(&b, all, sizeof all), 0);
	ck_assert_uint_eq(b.n, 300 * 256);
	ck_assert_mem_eq(b.p + 299 * 256, all, sizeof all);
	ck_assert_int_eq(b.p[b.n], '\0');
	hp_buf_free(&b);
	ck_assert(none.p == NULL && none.n == 0);
	ck_assert_uint_eq(some.n, 2);
}
END_TEST

static void expect_json(const char *in, size_t n, const char *out)
{
	struct hp_buf b;

	hp_buf_init(&b, 1000);
	ck_assert_int_eq(hp_buf_json(&b, in, n), 0);
	ck_assert_str_eq(hp_buf_str(&b), out);
	hp_buf_free(&b);
}

START_TEST(json_strings_are_always_valid)
{
	expect_json("", 0, "\"\"");
	expect_json("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
	expect_json("\b\t\n\f\r\v\x1f\x7f", 8, "\"\\b\\t\\n\\f\\r\\u000b\\u001f\x7f\"");
	expect_json("a\0b", 3, "\"a\\u0000b\"");
	expect_json("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
	expect_json("\xF4\x8F\xBF\xBF\xED\x9F\xBF", 7, "\"\xF4\x8F\xBF\xBF\xED\x9F\xBF\"");
#define R "\xEF\xBF\xBD" /* U+FFFD */
	expect_json("a\xFFz", 3, "\"a" R "z\"");
	expect_json("\xC3", 1, "\"" R "\"");                           /* cut */
	expect_json("\xC3" "A", 2, "\"" R "A\"");                      /* not continued */
	expect_json("\xC0\xAF", 2, "\"" R R "\"");                     /* overlong "/" */
	expect_json("\xE0\x80\xAF", 3, "\"" R R R "\"");               /* overlong "/" */
	expect_json("\xF0\x80\x80\xAF", 4, "\"" R R R R "\"");         /* overlong "/" */
	expect_json("\xED\xA0\x80", 3, "\"" R R R "\"");               /* surrogate */
	expect_json("\xF4\x90\x80\x80", 4, "\"" R R R R "\"");         /* beyond U+10FFFF */
#undef R
}
END_TEST

START_TEST(urls_are_encoded)
{
	struct hp_buf b;

	hp_buf_init(&b, 1000);
	ck_assert_int_eq(hp_buf_urlencode(&b, "aZ09-._~ /+%&=\xC3\xA9\n", 17), 0);
	ck_assert_str_eq(hp_buf_str(&b), "aZ09-._~%20%2F%2B%25%26%3D%C3%A9%0A");
	hp_buf_free(&b);
}
END_TEST

static int use_memory(void *arg, struct hp_error *err)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	struct hp_buf b;
	int i, rc = -1;

	(void)arg;
	hp_buf_init(&b, 1 << 20);
	if (!a)
		goto nomem;
	for (i = 0; i < 2000; i++) {
		if (!hp_arena_printf(a, "value %d", i))
			goto nomem;
		hp_buf_printf(&b, "%d,", i);
	}
	rc = hp_buf_check(&b, "list", err);
	goto out;
nomem:
	hp_fail(err, HP_E_NOMEM, "no memory for the list");
out:
	hp_buf_free(&b);
	hp_arena_free(a);
	return rc;
}

START_TEST(every_allocation_may_fail)
{
	ck_assert_uint_gt(hp_sweep(use_memory, NULL), 10);
}
END_TEST

HP_SUITE("base memory", the_nth_allocation_fails_once, empty_and_absurd_sizes,
	 arena_memory_is_zero_aligned_and_apart, arena_has_a_maximum, arena_copies_text,
	 buffer_stops_at_its_maximum, a_failed_buffer_stays_failed, buffer_holds_any_bytes,
	 json_strings_are_always_valid, urls_are_encoded, every_allocation_may_fail)
