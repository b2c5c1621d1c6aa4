/* Sealed values: what opens them, and everything that must not. */
#include "base/seal.h"

#include <string.h>
#include "base/digest.h"
#include "lib/suite.h"

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"
#define KEY_B "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

static const struct hp_seal_for here = {"11111111-2222-3333-4444-555555555555", "STRIPE_SECRET_KEY", 3};
static const char value[] = "sk_live_canary";

static struct hp_seal_keys keys_of(const char *text)
{
	struct hp_seal_keys k;
	struct hp_error err;

	ck_assert_msg(hp_seal_keys_parse(&k, text, &err) == 0, "%s", err.message);
	return k;
}

static void seal(const struct hp_seal_keys *k, struct hp_buf *out)
{
	struct hp_error err;

	hp_buf_init(out, 4096);
	ck_assert_int_eq(hp_seal(k, &here, hp_bytes_of(value), out, &err), 0);
}

/* The code of the failure; HP_OK: it opened, and to the right value. */
static enum hp_code opens(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes sealed)
{
	struct hp_error err;
	struct hp_buf out;
	int rc;

	hp_buf_init(&out, 4096);
	rc = hp_seal_open(k, f, sealed, &out, &err);
	if (rc == 0)
		ck_assert_str_eq(hp_buf_str(&out), value);
	else
		ck_assert_uint_eq(out.n, 0); /* nothing of a refused value may be used */
	hp_buf_free(&out);
	return rc == 0 ? HP_OK : err.code;
}

START_TEST(what_was_sealed_opens)
{
	struct hp_seal_keys k = keys_of(KEY_A);
	struct hp_buf one, two;

	seal(&k, &one);
	seal(&k, &two);
	ck_assert_uint_eq(one.n, strlen(value) + HP_SEAL_OVERHEAD);
	ck_assert(memcmp(one.p, two.p, one.n) != 0); /* another nonce each time */
	ck_assert(memmem(one.p, one.n, value, 4) == NULL);
	ck_assert_int_eq(opens(&k, &here, hp_buf_bytes(&one)), HP_OK);
	ck_assert_int_eq(opens(&k, &here, hp_buf_bytes(&two)), HP_OK);
	hp_buf_free(&one);
	hp_buf_free(&two);
}
END_TEST

START_TEST(nothing_changed_opens)
{
	struct hp_seal_keys k = keys_of(KEY_A);
	struct hp_buf b;

	seal(&k, &b);
	for (size_t i = 0; i < b.n; i++) {
		b.p[i] ^= 0x20;
		ck_assert_msg(opens(&k, &here, hp_buf_bytes(&b)) != HP_OK, "byte %zu may be changed", i);
		b.p[i] ^= 0x20;
	}
	for (size_t n = 0; n < b.n; n++)
		ck_assert_msg(opens(&k, &here, (struct hp_bytes){b.p, n}) != HP_OK, "%zu bytes open", n);
	hp_buf_free(&b);
}
END_TEST

START_TEST(nothing_opens_elsewhere)
{
	struct hp_seal_keys k = keys_of(KEY_A);
	struct hp_seal_for f[] = {here, here, here};
	struct hp_buf b;

	f[0].installation = "21111111-2222-3333-4444-555555555555";
	f[1].name = "STRIPE_SECRET_KEZ";
	f[2].version = 4;
	seal(&k, &b);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(opens(&k, &f[i], hp_buf_bytes(&b)), HP_E_INVALID);
	hp_buf_free(&b);
}
END_TEST

/* The first key seals, all open: so one is replaced while everything runs. */
START_TEST(keys_are_replaced_one_after_the_other)
{
	struct hp_seal_keys a = keys_of(KEY_A), ab = keys_of("# old first\n" KEY_A "\n" KEY_B), ba = keys_of(KEY_B KEY_A),
			    b = keys_of(KEY_B);
	struct hp_buf by_a, by_b;

	seal(&a, &by_a);
	seal(&ba, &by_b);
	ck_assert_int_eq(opens(&ab, &here, hp_buf_bytes(&by_a)), HP_OK);
	ck_assert_int_eq(opens(&ab, &here, hp_buf_bytes(&by_b)), HP_OK);
	ck_assert_int_eq(opens(&ba, &here, hp_buf_bytes(&by_a)), HP_OK);
	ck_assert_int_eq(opens(&b, &here, hp_buf_bytes(&by_b)), HP_OK);
	ck_assert_int_eq(opens(&b, &here, hp_buf_bytes(&by_a)), HP_E_NOT_FOUND);
	ck_assert_int_eq(opens(&a, &here, hp_buf_bytes(&by_b)), HP_E_NOT_FOUND);
	hp_buf_free(&by_a);
	hp_buf_free(&by_b);
}
END_TEST

START_TEST(files_of_keys_are_read_strictly)
{
	static const char *const bad[] = {
		"", "\n# nothing\n", "0001\n", "g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n",
		KEY_A "00", KEY_A KEY_B KEY_A};
	char line[2 * HP_SEAL_KEY_LEN + 2], other[2 * HP_SEAL_KEY_LEN + 2];
	struct hp_seal_keys k;
	struct hp_error err;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		ck_assert_msg(hp_seal_keys_parse(&k, bad[i], &err) < 0, "number %zu is accepted", i);
		ck_assert_int_eq(k.n, 0);
		ck_assert_ptr_null(strstr(err.message, "0001"));
	}
	hp_seal_key_line(line);
	hp_seal_key_line(other);
	ck_assert_str_ne(line, other);
	k = keys_of(line);
	ck_assert_int_eq(k.n, 1);
}
END_TEST

/* Equal values of one name have one fingerprint; without the key none can be made. */
START_TEST(fingerprints_tell_equal_from_different)
{
	struct hp_seal_keys a = keys_of(KEY_A), b = keys_of(KEY_B);
	struct hp_seal_for other = here;
	char one[HP_FINGERPRINT_LEN], two[HP_FINGERPRINT_LEN], plain[HP_SHA256_HEX];
	uint8_t hash[HP_SHA256_LEN];

	hp_fingerprint(&a, &here, hp_bytes_of(value), one);
	other.version = 9;
	hp_fingerprint(&a, &other, hp_bytes_of(value), two);
	ck_assert_str_eq(one, two);
	hp_fingerprint(&a, &here, hp_bytes_of("sk_live_other"), two);
	ck_assert_str_ne(one, two);
	hp_fingerprint(&b, &here, hp_bytes_of(value), two);
	ck_assert_str_ne(one, two);
	other.name = "OTHER";
	hp_fingerprint(&a, &other, hp_bytes_of(value), two);
	ck_assert_str_ne(one, two);
	hp_sha256(value, strlen(value), hash);
	hp_hex(hash, sizeof hash, plain);
	ck_assert(strncmp(one, plain, 8) != 0);
}
END_TEST

HP_SUITE("base seal", what_was_sealed_opens, nothing_changed_opens, nothing_opens_elsewhere,
	 keys_are_replaced_one_after_the_other, files_of_keys_are_read_strictly, fingerprints_tell_equal_from_different)
