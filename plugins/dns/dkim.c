/* dkim.c: DKIM key records: RFC 6376 section 3.6.1, with RFC 8301 (no SHA-1, no RSA
 * below 1024 bits) and RFC 8463 (Ed25519). */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <string.h>
#include "records.h"

#define KEY_MAX 4096 /* bytes of DER: RSA with 16384 bits has 2.1 k */
#define ED25519_BYTES 32

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Base64 with white space inside, as tag lists may have it. The bytes, or -1. */
static int base64(const char *p, size_t n, unsigned char *out, size_t max)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0;
	int held = 0, pad = 0;
	size_t got = 0, seen = 0;

	for (size_t i = 0; i < n; i++) {
		const char *at = p[i] == '=' ? NULL : memchr(letters, p[i], 64);

		if (blank(p[i]))
			continue;
		if (p[i] == '=') {
			pad++;
			continue;
		}
		if (!at || pad > 0)
			return -1;
		seen++;
		bits = bits << 6 | (unsigned)(at - letters);
		held += 6;
		if (held < 8)
			continue;
		held -= 8;
		if (got == max)
			return -1;
		out[got++] = (unsigned char)(bits >> held);
	}
	return pad > 2 || (seen + (size_t)pad) % 4 != 0 ? -1 : (int)got;
}

/* Is `word` among those between colons? */
static bool lists(const struct tag *t, const char *word)
{
	size_t n = strlen(word), at = 0;

	while (at <= t->n) {
		size_t end = at;

		while (end < t->n && t->value[end] != ':')
			end++;
		while (at < end && blank(t->value[at]))
			at++;
		while (end > at && blank(t->value[end - 1]))
			end--;
		if (end - at == n && memcmp(t->value + at, word, n) == 0)
			return true;
		while (end < t->n && t->value[end] != ':')
			end++;
		at = end + 1;
	}
	return false;
}

/* SubjectPublicKeyInfo as everybody publishes it (erratum 3017), or the bare
 * RSAPublicKey of the text. 0: neither. */
static int rsa_bits(const unsigned char *der, int n)
{
	const unsigned char *p = der;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &p, n);
	int bits = 0;

	if (!key || p != der + n) {
		EVP_PKEY_free(key);
		p = der;
		key = d2i_PublicKey(EVP_PKEY_RSA, NULL, &p, n);
	}
	if (key && p == der + n && EVP_PKEY_base_id(key) == EVP_PKEY_RSA)
		bits = EVP_PKEY_bits(key);
	EVP_PKEY_free(key);
	return bits;
}

static void rsa(const unsigned char *der, int n, json_t *out, struct problems *p)
{
	int bits = rsa_bits(der, n);

	if (bits == 0) {
		problem_error(p, "bad_key", "p= holds no RSA public key");
		return;
	}
	json_object_set_new(out, "bits", json_integer(bits));
	if (bits < 1024)
		problem_error(p, "short_key", "the RSA key has %d bits; below 1024 nobody may accept it (RFC 8301)", bits);
	else if (bits < 2048)
		problem_warning(p, "weak_key", "the RSA key has %d bits; 2048 are recommended (RFC 8301)", bits);
}

static void read_key(const struct tags *t, json_t *out, struct problems *p)
{
	const struct tag *k = tags_get(t, "k"), *key = tags_get(t, "p");
	unsigned char der[KEY_MAX];
	int n;

	json_object_set_new(out, "key_type", k ? json_stringn(k->value, k->n) : json_string("rsa"));
	if (k && !tag_is(k, "rsa") && !tag_is(k, "ed25519")) {
		problem_error(p, "unknown_key_type", "k=%.*s is neither rsa nor ed25519", (int)(k->n > 40 ? 40 : k->n), k->value);
		return;
	}
	if (!key) {
		problem_error(p, "key_missing", "the tag p= (the public key) is missing");
		return;
	}
	json_object_set_new(out, "revoked", json_boolean(key->n == 0));
	if (key->n == 0) {
		problem_error(p, "revoked", "p= is empty: the key was revoked");
		return;
	}
	n = base64(key->value, key->n, der, sizeof der);
	if (n <= 0) {
		problem_error(p, "bad_key", "p= is not base64, or longer than %d bytes", KEY_MAX);
	} else if (k && tag_is(k, "ed25519")) {
		json_object_set_new(out, "bits", json_integer(n * 8));
		if (n != ED25519_BYTES)
			problem_error(p, "bad_key", "an Ed25519 key has %d bytes; this one has %d", ED25519_BYTES, n);
	} else {
		rsa(der, n, out, p);
	}
}

void dkim_read(const char *text, json_t *out, struct problems *p)
{
	const struct tag *v, *h, *s, *flags;
	struct tags t;

	if (!tags_read(text, &t, p))
		return;
	v = tags_get(&t, "v");
	if (v && (v != &t.list[0] || !tag_is(v, "DKIM1")))
		problem_error(p, "version", "v= must be the first tag and DKIM1, or not be there");
	h = tags_get(&t, "h");
	if (h && !lists(h, "sha256"))
		problem_error(p, "hash", "h=%.*s does not allow sha256, and nothing else may be used (RFC 8301)",
			      (int)(h->n > 40 ? 40 : h->n), h->value);
	s = tags_get(&t, "s");
	if (s && !lists(s, "*") && !lists(s, "email"))
		problem_error(p, "service", "s=%.*s does not allow the key to be used for mail", (int)(s->n > 40 ? 40 : s->n),
			      s->value);
	flags = tags_get(&t, "t");
	json_object_set_new(out, "testing", json_boolean(flags && lists(flags, "y")));
	json_object_set_new(out, "strict", json_boolean(flags && lists(flags, "s")));
	if (flags && lists(flags, "y"))
		problem_warning(p, "testing", "t=y: receivers treat mail as if it were not signed");
	read_key(&t, out, p);
}
