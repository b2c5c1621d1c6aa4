/* Digests against published vectors; hex and base64 in their strictest form. */
#include "base/digest.h"

#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "lib/suite.h"

static void expect_hex(const uint8_t *p, size_t n, const char *hex)
{
	char text[2 * 64 + 1];

	ck_assert_uint_le(n, 64);
	hp_hex(p, n, text);
	ck_assert_str_eq(text, hex);
}

/* FIPS 180-4's examples: csrc.nist.gov, "SHA256.pdf" (one and two blocks), and
 * the SHAVS long message of a million "a". */
START_TEST(sha256_of_fips_180_4)
{
	const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	uint8_t out[HP_SHA256_LEN];
	char *million = hp_alloc(1000000);

	hp_sha256("abc", 3, out);
	expect_hex(out, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	hp_sha256(two, strlen(two), out);
	expect_hex(out, 32, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	hp_sha256(NULL, 0, out);
	expect_hex(out, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	ck_assert_ptr_nonnull(million);
	memset(million, 'a', 1000000);
	hp_sha256(million, 1000000, out);
	expect_hex(out, 32, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	hp_free(million);
}
END_TEST

/* RFC 4231 (HMAC-SHA-256), test cases 1, 2, 3 and 6. */
START_TEST(hmac_sha256_of_rfc_4231)
{
	uint8_t key[131], data[50], out[HP_SHA256_LEN];
	const char *text = "Test Using Larger Than Block-Size Key - Hash Key First";

	memset(key, 0x0b, 20);
	hp_hmac_sha256(key, 20, "Hi There", 8, out);
	expect_hex(out, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	hp_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
	expect_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, sizeof key);
	memset(data, 0xdd, sizeof data);
	hp_hmac_sha256(key, 20, data, 50, out);
	expect_hex(out, 32, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
	hp_hmac_sha256(key, 131, text, strlen(text), out);
	expect_hex(out, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}
END_TEST

/* RFC 2202 (HMAC-SHA-1), test cases 1 and 2; the empty one is Wikipedia's HMAC
 * example and checks that a missing key is an empty key. */
START_TEST(hmac_sha1_of_rfc_2202)
{
	uint8_t key[20], out[20];

	memset(key, 0x0b, sizeof key);
	hp_hmac_sha1(key, 20, "Hi There", 8, out);
	expect_hex(out, 20, "b617318655057264e28bc0b6fb378c8ef146be00");
	hp_hmac_sha1("Jefe", 4, "what do ya want for nothing?", 28, out);
	expect_hex(out, 20, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
	hp_hmac_sha1(NULL, 0, NULL, 0, out);
	expect_hex(out, 20, "fbdb1d1b18aa6c08324b7d64b71fb76370690e1d");
}
END_TEST

START_TEST(parts_are_kept_apart)
{
	struct hp_bytes x[2] = {{"ab", 2}, {"c", 1}}, y[2] = {{"a", 1}, {"bc", 2}};
	struct hp_bytes z[3] = {{"ab", 2}, {"c", 1}, {NULL, 0}};
	uint8_t a[32], b[32], c[32], flat[32];

	hp_sha256_parts(x, 2, a);
	hp_sha256_parts(y, 2, b);
	hp_sha256_parts(z, 3, c);
	ck_assert(memcmp(a, b, 32) != 0);
	ck_assert(memcmp(a, c, 32) != 0);
	/* The documented layout, so that others can compute it. */
	hp_sha256("\0\0\0\0\0\0\0\2ab\0\0\0\0\0\0\0\1c", 19, flat);
	ck_assert_mem_eq(a, flat, 32);
	hp_sha256_parts(NULL, 0, a);
	hp_sha256("", 0, b);
	ck_assert_mem_eq(a, b, 32);
}
END_TEST

START_TEST(hex_is_strict)
{
	static const char *const bad[] = {"0", "0g", "g0", " 00", "00 ", "0x00", "00\n0", "é"};
	uint8_t out[8];
	size_t n = 99, i;

	ck_assert_int_eq(hp_unhex("00fFAb9", 6, out, sizeof out, &n), 0);
	ck_assert_uint_eq(n, 3);
	expect_hex(out, n, "00ffab");
	ck_assert_int_eq(hp_unhex("", 0, out, 0, &n), 0);
	ck_assert_uint_eq(n, 0);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(hp_unhex(bad[i], strlen(bad[i]), out, sizeof out, &n) == -1, "%s", bad[i]);
	ck_assert_int_eq(hp_unhex("aabbcc", 6, out, 2, &n), -1);
}
END_TEST

/* RFC 4648 section 10. */
START_TEST(base64_of_rfc_4648)
{
	static const char *const pairs[][2] = {
		{"", ""},         {"f", "Zg=="},         {"fo", "Zm8="},        {"foo", "Zm9v"},
		{"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}, {"\xFB\xEF\xFF", "++//"},
	};
	size_t i;

	for (i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		const char *plain = pairs[i][0], *coded = pairs[i][1];
		uint8_t out[16];
		struct hp_buf b;
		size_t n;

		hp_buf_init(&b, 100);
		ck_assert_int_eq(hp_base64(&b, plain, strlen(plain)), 0);
		ck_assert_str_eq(hp_buf_str(&b), coded);
		ck_assert_int_eq(hp_unbase64(coded, strlen(coded), out, sizeof out, &n), 0);
		ck_assert_uint_eq(n, strlen(plain));
		ck_assert(n == 0 || memcmp(out, plain, n) == 0);
		/* Exactly enough room is enough, one less is not. */
		ck_assert_int_eq(hp_unbase64(coded, strlen(coded), out, n, &n), 0);
		if (n)
			ck_assert_int_eq(hp_unbase64(coded, strlen(coded), out, n - 1, &n), -1);
		hp_buf_free(&b);
	}
}
END_TEST

START_TEST(base64_has_one_spelling)
{
	static const char *const bad[] = {
		"Zg",   "Zg=",  "Z===", "====", "=",    "Zh==", /* unused bits not zero */
		"Zm9=", "Zg==Zg==",                             /* padding inside */
		"Zm9v\n", "Zm 9", "Zm9-", "Zm9_", "Z=g=", "Zm9vY",
	};
	uint8_t out[32];
	size_t i, n;

	for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
		ck_assert_msg(hp_unbase64(bad[i], strlen(bad[i]), out, sizeof out, &n) == -1,
			      "accepted %s", bad[i]);
}
END_TEST

START_TEST(comparison_and_randomness)
{
	uint8_t a[1000], b[1000];

	ck_assert(hp_equal_ct("abc", 3, "abc", 3));
	ck_assert(!hp_equal_ct("abc", 3, "abd", 3));
	ck_assert(!hp_equal_ct("abc", 3, "abcd", 4));
	ck_assert(hp_equal_ct(NULL, 0, "", 0));
	memset(a, 0, sizeof a);
	memset(b, 0, sizeof b);
	hp_random(a, sizeof a);
	hp_random(b, sizeof b);
	ck_assert(memcmp(a, b, sizeof a) != 0);
	ck_assert(memcmp(a + 900, b + 900, 100) != 0); /* filled to the end */
	hp_random(a, 0);
}
END_TEST

HP_SUITE("base digest", sha256_of_fips_180_4, hmac_sha256_of_rfc_4231, hmac_sha1_of_rfc_2202,
	 parts_are_kept_apart, hex_is_strict, base64_of_rfc_4648, base64_has_one_spelling,
	 comparison_and_randomness)
