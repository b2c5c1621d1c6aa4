/* Errors: filling, wrapping, cutting, and the tables of codes. */
#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include "lib/suite.h"

START_TEST(fail_fills_everything)
{
	struct hp_error err;
	int line = __LINE__ + 2; /* of the hp_fail below */

	ck_assert_int_eq(hp_fail(&err, HP_E_NOT_FOUND, "run %d does not exist", 42), -1);
	ck_assert_int_eq(err.code, HP_E_NOT_FOUND);
	ck_assert_str_eq(err.message, "run 42 does not exist");
	ck_assert_str_eq(err.hint, "");
	ck_assert_int_eq(err.line, line);
	ck_assert_ptr_nonnull(strstr(err.file, "base_error.c"));
	ck_assert_int_eq(hp_error_hint(&err, "type %s", "holdpoint list"), -1);
	ck_assert_str_eq(err.hint, "type holdpoint list");
	/* A new error forgets the old hint. */
	hp_fail(&err, HP_E_IO, "x");
	ck_assert_str_eq(err.hint, "");
}
END_TEST

START_TEST(prefix_adds_context)
{
	struct hp_error err;

	hp_fail(&err, HP_E_IO, "cannot open");
	hp_error_hint(&err, "check its rights");
	ck_assert_int_eq(hp_error_prefix(&err, "%s:%d", "refund.lua", 7), -1);
	ck_assert_str_eq(err.message, "refund.lua:7: cannot open");
	ck_assert_str_eq(err.hint, "check its rights");
	ck_assert_int_eq(err.code, HP_E_IO);
}
END_TEST

START_TEST(an_error_can_wrap_itself)
{
	struct hp_error err;

	hp_fail(&err, HP_E_IO, "disk full");
	hp_fail(&err, HP_E_UNAVAILABLE, "store: %s", err.message);
	ck_assert_str_eq(err.message, "store: disk full");
	hp_error_hint(&err, "a");
	hp_error_hint(&err, "%s and b", err.hint);
	ck_assert_str_eq(err.hint, "a and b");
	hp_error_prefix(&err, "%s", err.message);
	ck_assert_str_eq(err.message, "store: disk full: store: disk full");
}
END_TEST

START_TEST(null_is_allowed)
{
	ck_assert_int_eq(hp_fail(NULL, HP_E_IO, "x"), -1);
	ck_assert_int_eq(hp_error_hint(NULL, "x"), -1);
	ck_assert_int_eq(hp_error_prefix(NULL, "x"), -1);
}
END_TEST

/* Text of two-byte characters behind one byte: the cut falls inside one. */
START_TEST(a_long_text_is_cut_between_characters)
{
	char text[2000], shifted[2000];
	struct hp_error err;
	size_t i;

	for (i = 0; i + 2 < sizeof text; i += 2)
		memcpy(text + i, "\xC3\xA9", 2);
	text[i] = '\0';
	hp_fail(&err, HP_E_IO, "%s", text);
	ck_assert_uint_eq(strlen(err.message), sizeof err.message - 2);
	ck_assert_int_eq((unsigned char)err.message[sizeof err.message - 3], 0xA9);
	snprintf(shifted, sizeof shifted, "x%.1900s", text);
	hp_fail(&err, HP_E_IO, "%s", shifted);
	ck_assert_uint_eq(strlen(err.message), sizeof err.message - 1);
	/* The same through a prefix and in a hint. */
	hp_fail(&err, HP_E_IO, "%s", text);
	hp_error_prefix(&err, "ab");
	ck_assert_uint_eq(strlen(err.message), sizeof err.message - 2);
	hp_error_hint(&err, "%s", text);
	ck_assert_uint_eq(strlen(err.hint), sizeof err.hint - 2);
}
END_TEST

/* What a script raised: the database would refuse it, and with it all that is committed. */
START_TEST(what_is_no_utf8_is_replaced)
{
	struct hp_error err;

	hp_fail(&err, HP_E_SCRIPT, "%s", "a\xff\xc3\xa9\xc3x\xed\xa0\x80z");
	ck_assert_str_eq(err.message, "a?\xc3\xa9?x???z");
	hp_error_prefix(&err, "\x80");
	ck_assert_str_eq(err.message, "?: a?\xc3\xa9?x???z");
	hp_error_hint(&err, "%s", "\xf5");
	ck_assert_str_eq(err.hint, "?");
}
END_TEST

START_TEST(codes_keep_their_meaning)
{
	static const struct {
		enum hp_code code;
		const char *name;
		int http, exit_code;
	} facts[] = {
		{HP_OK, "ok", 200, 0},
		{HP_E_INVALID, "invalid", 400, 2},
		{HP_E_UNAUTHORIZED, "unauthorized", 401, 3},
		{HP_E_FORBIDDEN, "forbidden", 403, 3},
		{HP_E_NOT_FOUND, "not_found", 404, 4},
		{HP_E_CONFLICT, "conflict", 409, 5},
		{HP_E_TOO_LARGE, "too_large", 413, 2},
		{HP_E_LIMIT, "limit", 429, 6},
		{HP_E_UNAVAILABLE, "unavailable", 503, 6},
		{HP_E_TIMEOUT, "timeout", 504, 6},
		{HP_E_IO, "io", 500, 1},
		{HP_E_NOMEM, "no_memory", 500, 1},
		{HP_E_SCRIPT, "script", 422, 2},
		{HP_E_INTERNAL, "internal", 500, 1},
	};
	size_t i;

	ck_assert_uint_eq(sizeof facts / sizeof facts[0], HP_E__COUNT);
	for (i = 0; i < HP_E__COUNT; i++) {
		ck_assert_uint_eq(facts[i].code, i);
		ck_assert_str_eq(hp_code_name(facts[i].code), facts[i].name);
		ck_assert_int_eq(hp_code_http(facts[i].code), facts[i].http);
		ck_assert_int_eq(hp_code_exit(facts[i].code), facts[i].exit_code);
	}
	ck_assert_str_eq(hp_code_name((enum hp_code)999), "internal");
}
END_TEST

HP_SUITE("base error", fail_fills_everything, prefix_adds_context, an_error_can_wrap_itself,
	 null_is_allowed, a_long_text_is_cut_between_characters, what_is_no_utf8_is_replaced,
	 codes_keep_their_meaning)
