/* digest.c: libcrypto behind functions that cannot fail.
 *
 * The digests fail only when libcrypto lacks them or memory is out in the
 * middle; a wrong or missing hash must never go on as if it were one, so that
 * stops the process.
 */
#include "base/digest.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

void hp_sha256(const void *p, size_t n, uint8_t out[HP_SHA256_LEN])
{
	HP_ASSERT(EVP_Digest(n ? p : "", n, out, NULL, EVP_sha256(), NULL) == 1);
}

void hp_sha256_parts(const struct hp_bytes *parts, size_t count, uint8_t out[HP_SHA256_LEN])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t i;

	HP_ASSERT(ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1);
	for (i = 0; i < count; i++) {
		uint64_t n = parts[i].n;
		uint8_t length[8];
		int k;

		for (k = 7; k >= 0; k--, n >>= 8)
			length[k] = (uint8_t)(n & 0xFF);
		HP_ASSERT(EVP_DigestUpdate(ctx, length, sizeof length) == 1);
		if (parts[i].n)
			HP_ASSERT(EVP_DigestUpdate(ctx, parts[i].p, parts[i].n) == 1);
	}
	HP_ASSERT(EVP_DigestFinal_ex(ctx, out, NULL) == 1);
	EVP_MD_CTX_free(ctx);
}

static void hmac(const EVP_MD *md, const void *key, size_t key_n, const void *p, size_t n,
		 uint8_t *out)
{
	HP_ASSERT(key_n <= INT_MAX);
	HP_ASSERT(HMAC(md, key_n ? key : "", (int)key_n, n ? p : (const void *)"", n, out, NULL) != NULL);
}

void hp_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[HP_SHA256_LEN])
{
	hmac(EVP_sha256(), key, key_n, p, n, out);
}

void hp_hmac_sha1(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[20])
{
	hmac(EVP_sha1(), key, key_n, p, n, out);
}

void hp_hex(const uint8_t *p, size_t n, char *out)
{
	static const char digit[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < n; i++) {
		out[2 * i] = digit[p[i] >> 4];
		out[2 * i + 1] = digit[p[i] & 15];
	}
	out[2 * n] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int hp_unhex(const char *s, size_t n, uint8_t *out, size_t out_max, size_t *out_n)
{
	size_t i;

	if (n % 2 != 0 || n / 2 > out_max)
		return -1;
	for (i = 0; i < n / 2; i++) {
		int high = hex_value(s[2 * i]), low = hex_value(s[2 * i + 1]);

		if (high < 0 || low < 0)
			return -1;
		out[i] = (uint8_t)(high << 4 | low);
	}
	*out_n = n / 2;
	return 0;
}

int hp_base64(struct hp_buf *b, const void *p, size_t n)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *s = p;
	size_t i;

	for (i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t v = (uint32_t)s[i] << 16 | (left > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
			     (left > 2 ? s[i + 2] : 0);
		char group[4] = {digit[v >> 18], digit[v >> 12 & 63],
				 left > 1 ? digit[v >> 6 & 63] : '=', left > 2 ? digit[v & 63] : '='};

		hp_buf_add(b, group, sizeof group);
	}
	return b->failed ? -1 : 0;
}

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Strict: padded to groups of four, nothing but the alphabet, and the unused
 * bits of the last digit zero, so that each byte string has one spelling. */
int hp_unbase64(const char *s, size_t n, uint8_t *out, size_t out_max, size_t *out_n)
{
	size_t i, used = 0, padding = 0;

	if (n % 4 != 0)
		return -1;
	if (n > 0 && s[n - 1] == '=')
		padding = s[n - 2] == '=' ? 2 : 1;
	if (n / 4 * 3 - padding > out_max)
		return -1;
	for (i = 0; i < n; i += 4) {
		size_t take = i + 4 == n ? 4 - padding : 4, k; /* digits in this group */
		uint32_t v = 0;

		for (k = 0; k < 4; k++) {
			int d = k < take ? base64_value(s[i + k]) : 0;

			if (d < 0)
				return -1;
			v = v << 6 | (uint32_t)d;
		}
		if ((take == 2 && (v & 0xFFFF)) || (take == 3 && (v & 0xFF)))
			return -1;
		for (k = 0; k + 1 < take; k++)
			out[used++] = (uint8_t)(v >> (16 - 8 * k) & 0xFF);
	}
	*out_n = used;
	return 0;
}

bool hp_equal_ct(const void *a, size_t a_n, const void *b, size_t b_n)
{
	return a_n == b_n && (a_n == 0 || CRYPTO_memcmp(a, b, a_n) == 0);
}

void hp_random(void *p, size_t n)
{
	uint8_t *to = p;

	while (n > 0) {
		ssize_t got = getrandom(to, n < 256 ? n : 256, 0); /* a signal can only cut it early after boot */

		if (got < 0 && errno == EINTR)
			continue;
		HP_ASSERT(got > 0);
		to += got;
		n -= (size_t)got;
	}
}
