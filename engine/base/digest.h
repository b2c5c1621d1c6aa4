/* digest.h: SHA-256, HMAC, hex, base64 and constant-time comparison.
 *
 * Pure functions over OpenSSL's libcrypto. SHA-256: FIPS 180-4; HMAC: RFC 2104;
 * base64: RFC 4648 section 4.
 */
#ifndef HP_BASE_DIGEST_H
#define HP_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

#define HP_SHA256_LEN 32
#define HP_SHA256_HEX 65 /* with the NUL */

void hp_sha256(const void *p, size_t n, uint8_t out[HP_SHA256_LEN]);
/* Hash of several parts, each preceded by its length as 8 bytes big-endian, so
 * that ("ab","c") and ("a","bc") differ. */
void hp_sha256_parts(const struct hp_bytes *parts, size_t count, uint8_t out[HP_SHA256_LEN]);
void hp_hmac_sha256(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[HP_SHA256_LEN]);
void hp_hmac_sha1(const void *key, size_t key_n, const void *p, size_t n, uint8_t out[20]);
void hp_hex(const uint8_t *p, size_t n, char *out /* 2n+1 */); /* lower case */
/* Strict: even length, hex digits only; -1 otherwise or when out is too small. */
int hp_unhex(const char *s, size_t n, uint8_t *out, size_t out_max, size_t *out_n) HP_MUST_CHECK;
int hp_base64(struct hp_buf *b, const void *p, size_t n);
int hp_unbase64(const char *s, size_t n, uint8_t *out, size_t out_max, size_t *out_n) HP_MUST_CHECK;
/* Constant time in the content (not in the lengths). */
bool hp_equal_ct(const void *a, size_t a_n, const void *b, size_t b_n);
/* Cryptographic randomness; aborts when the system has none. */
void hp_random(void *p, size_t n);

#endif
