/* JSON: what is refused when reading, and the canonical text when writing. */
#include "base/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/limits.h"
#include "lib/suite.h"
#include "lib/sweep.h"

/* Reads text and writes it again. */
static void expect(const char *in, const char *out)
{
	struct hp_error err = {0};
	json_t *v = hp_json_parse(in, strlen(in), "document", &err);
	struct hp_buf b;

	ck_assert_msg(v != NULL, "%s: %s", in, err.message);
	hp_buf_init(&b, 100000);
	ck_assert_msg(hp_json_write(&b, v, &err) == 0, "%s: %s", in, err.message);
	ck_assert_str_eq(hp_buf_str(&b), out);
	hp_buf_free(&b);
	json_decref(v);
}

static void refuse(const char *in, size_t n, const char *message)
{
	struct hp_error err = {0};
	json_t *v = hp_json_parse(in, n, "webhook body", &err);

	ck_assert_msg(v == NULL, "accepted %s", in);
	ck_assert_int_eq(err.code, HP_E_INVALID);
	ck_assert_msg(strncmp(err.message, "webhook body: ", 14) == 0 && strstr(err.message, message),
		      "%s: message is \"%s\"", in, err.message);
}
#define REFUSE(text, message) refuse(text, sizeof(text) - 1, message)

START_TEST(writing_is_canonical)
{
	expect(" { \"b\" : 1 , \"a\" : [ true , false , null ] , \"B\":{} } ",
	       "{\"B\":{},\"a\":[true,false,null],\"b\":1}");
	expect("{\"\xC3\xA9\":1,\"z\":2,\"\":3}", "{\"\":3,\"z\":2,\"\xC3\xA9\":1}"); /* by bytes */
	expect("\"\\u00e9\\/\\n\"", "\"\xC3\xA9/\\n\"");
	expect("\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\"");
	expect("[]", "[]");
	expect("7", "7");
	expect("null", "null");
}
END_TEST

START_TEST(numbers_keep_their_kind)
{
	expect("[9223372036854775807,-9223372036854775808,0,-0]",
	       "[9223372036854775807,-9223372036854775808,0,0]");
	expect("[1.0,-0.0,100.0,1e2]", "[1.0,-0.0,100.0,100.0]");
	expect("[0.1,0.2,0.3,1.1,-2.5]", "[0.1,0.2,0.3,1.1,-2.5]");
	expect("0.30000000000000004", "0.30000000000000004"); /* 17 digits */
	expect("5e-324", "4.94065645841247e-324");            /* 15 digits are enough */
	expect("1.7976931348623157e308", "1.7976931348623157e+308");
	expect("1e15", "1e+15");
	expect("123456789012345.0", "123456789012345.0");
}
END_TEST

/* The shortest text that reads back equal, over many values. */
START_TEST(reals_read_back_equal)
{
	uint64_t seed = 88172645463325252u; /* xorshift64, Marsaglia 2003 */
	int i, tried = 0;

	for (i = 0; i < 100000; i++) {
		struct hp_error err = {0};
		struct hp_buf b;
		json_t *v, *again;
		double d;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		memcpy(&d, &seed, sizeof d);
		if (!isfinite(d))
			continue;
		tried++;
		hp_buf_init(&b, 100);
		v = json_real(d);
		ck_assert_int_eq(hp_json_write(&b, v, &err), 0);
		again = hp_json_parse(b.p, b.n, "real", &err);
		ck_assert_msg(json_is_real(again), "%s is no real", b.p);
		ck_assert_msg(json_real_value(again) == d, "%s is not %.17g", b.p, d);
		json_decref(v);
		json_decref(again);
		hp_buf_free(&b);
	}
	ck_assert_int_gt(tried, 90000);
}
END_TEST

START_TEST(bad_documents_are_refused)
{
	REFUSE("", "ends too early");
	REFUSE("{\"a\":", "ends too early");
	REFUSE("{\"a\":1,\"a\":2}", "names a key twice");
	REFUSE("{\"x\":{\"a\":1,\"\\u0061\":2}}", "names a key twice");
	REFUSE("9223372036854775808", "beyond the range");
	REFUSE("[-9223372036854775809]", "beyond the range");
	REFUSE("1e999", "beyond the range");
	REFUSE("\"a\\u0000b\"", "U+0000");
	REFUSE("{\"a\\u0000b\":1}", "U+0000");
	REFUSE("\"\xFF\"", "UTF-8");
	REFUSE("\"\xC0\xAF\"", "UTF-8");
	REFUSE("\"\xED\xA0\x80\"", "UTF-8");
	REFUSE("{} {}", "more text after its end");
	REFUSE("[1,]", "not valid JSON");
	REFUSE("{'a':1}", "not valid JSON");
	REFUSE("[01]", "not valid JSON");
	REFUSE("[NaN]", "not valid JSON");
	REFUSE("\"\\ud83d\"", "not valid JSON");
	REFUSE("\"a\nb\"", "not valid JSON");
	REFUSE("[1]\0", "more text after its end");
	REFUSE("\xEF\xBB\xBF[]", "not valid JSON");
}
END_TEST

START_TEST(messages_do_not_quote_the_document)
{
	struct hp_error err = {0};
	const char *text = "{\"card\": sk_live_secret}";

	ck_assert_ptr_null(hp_json_parse(text, strlen(text), "body", &err));
	ck_assert_ptr_null(strstr(err.message, "sk_live"));
	ck_assert_ptr_nonnull(strstr(err.message, "line 1"));
	text = "{\"sk_live_key\":1,\"sk_live_key\":2}";
	ck_assert_ptr_null(hp_json_parse(text, strlen(text), "body", &err));
	ck_assert_ptr_null(strstr(err.message, "sk_live"));
}
END_TEST

static json_t *nest(int depth, struct hp_error *err)
{
	struct hp_buf b;
	json_t *v;
	int i;

	hp_buf_init(&b, 100000);
	for (i = 0; i < depth; i++)
		hp_buf_adds(&b, i % 2 ? "{\"[\\\"[\":" : "[");
	hp_buf_adds(&b, "\"[[{{\"");
	for (i = depth - 1; i >= 0; i--)
		hp_buf_adds(&b, i % 2 ? "}" : "]");
	v = hp_json_parse(b.p, b.n, "nest", err);
	hp_buf_free(&b);
	return v;
}

START_TEST(depth_is_limited)
{
	struct hp_error err = {0};
	json_t *deep = nest(HP_JSON_DEPTH_MAX, &err), *outer;
	struct hp_buf b;

	ck_assert_msg(deep != NULL, "%s", err.message);
	ck_assert_ptr_null(nest(HP_JSON_DEPTH_MAX + 1, &err));
	ck_assert_ptr_nonnull(strstr(err.message, "nested deeper than 64"));
	ck_assert_ptr_null(nest(5000, &err));
	hp_buf_init(&b, 100000);
	ck_assert_int_eq(hp_json_write(&b, deep, &err), 0);
	hp_buf_clear(&b);
	outer = json_array();
	ck_assert_int_eq(json_array_append_new(outer, deep), 0);
	ck_assert_int_eq(hp_json_write(&b, outer, &err), -1);
	ck_assert_int_eq(err.code, HP_E_INVALID);
	hp_buf_free(&b);
	json_decref(outer);
}
END_TEST

START_TEST(writing_stops_at_the_maximum)
{
	struct hp_error err = {0};
	json_t *v = json_pack("{s:s}", "key", "0123456789");
	struct hp_buf b;

	hp_buf_init(&b, 20);
	ck_assert_int_eq(hp_json_write(&b, v, &err), 0); /* exactly 20 bytes */
	ck_assert_uint_eq(b.n, 20);
	hp_buf_free(&b);
	hp_buf_init(&b, 19);
	ck_assert_int_eq(hp_json_write(&b, v, &err), -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	hp_buf_free(&b);
	json_decref(v);
}
END_TEST

START_TEST(readers_fall_back)
{
	json_t *v = json_pack("{s:s, s:I, s:b, s:n, s:{s:{s:i}}}", "s", "text", "i", (json_int_t)5, "b", 1,
			      "n", "a", "b", "c", 7);

	ck_assert_str_eq(hp_json_str(v, "s"), "text");
	ck_assert_ptr_null(hp_json_str(v, "i"));
	ck_assert_ptr_null(hp_json_str(NULL, "s"));
	ck_assert_int_eq(hp_json_int(v, "i", -1), 5);
	ck_assert_int_eq(hp_json_int(v, "s", -1), -1);
	ck_assert_int_eq(hp_json_int(v, "none", -1), -1);
	ck_assert_int_eq(hp_json_bool(v, "b", 0), 1);
	ck_assert_int_eq(hp_json_bool(v, "n", -1), -1);
	ck_assert_int_eq(json_integer_value(hp_json_path(v, "a.b.c")), 7);
	ck_assert_ptr_eq(hp_json_path(v, "s"), json_object_get(v, "s"));
	ck_assert_ptr_null(hp_json_path(v, "a.x.c"));
	ck_assert_ptr_null(hp_json_path(v, "s.b"));
	ck_assert_ptr_null(hp_json_path(v, "a."));
	ck_assert_ptr_null(hp_json_path(v, ""));
	ck_assert_ptr_null(hp_json_path(NULL, "a"));
	json_decref(v);
}
END_TEST

static int read_and_write(void *arg, struct hp_error *err)
{
	const char *text = arg;
	json_t *v = hp_json_parse(text, strlen(text), "sweep", err);
	struct hp_buf b;
	int rc;

	if (!v)
		return -1;
	hp_buf_init(&b, 100000);
	rc = hp_json_write(&b, v, err);
	if (rc == 0) /* a success must be a whole one */
		ck_assert_str_eq(hp_buf_str(&b), text);
	hp_buf_free(&b);
	json_decref(v);
	return rc;
}

START_TEST(every_allocation_may_fail)
{
	static char text[] =
		"{\"a\":[1,2.5,\"three\",{\"x\":null}],\"b\":\"a text long enough to make the "
		"buffer grow more than once, which it does when it passes sixty-four bytes\","
		"\"c\":{\"d\":{\"e\":[[],{},true,false]}}}";

	ck_assert_uint_gt(hp_sweep(read_and_write, text), 20);
}
END_TEST

/* The quote that ends a text is the one that needs the larger buffer, whatever its size. */
START_TEST(a_token_ends_although_its_buffer_cannot_grow)
{
	char text[2100];

	for (size_t n = 0; n < 2050; n += n < 70 || (n > 1010 && n < 1030) ? 1 : 47) {
		text[0] = '"';
		memset(text + 1, 'x', n);
		memcpy(text + 1 + n, "\"", 2);
		hp_sweep(read_and_write, text);
	}
}
END_TEST

HP_SUITE("base json", writing_is_canonical, numbers_keep_their_kind, reals_read_back_equal,
	 bad_documents_are_refused, messages_do_not_quote_the_document, depth_is_limited,
	 writing_stops_at_the_maximum, readers_fall_back, every_allocation_may_fail,
	 a_token_ends_although_its_buffer_cannot_grow)
