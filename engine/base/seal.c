/* seal.c: sealing small values. */
#include "base/seal.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/mutant.h"

#define ID_AT 1
#define NONCE_AT 9
#define TEXT_AT 21
#define TAG_N 16

/* HMAC(key, purpose): a key, or an id, of its own for each use. */
static void derive(const uint8_t key[HP_SEAL_KEY_LEN], const char *purpose, uint8_t out[HP_SHA256_LEN])
{
	hp_hmac_sha256(key, HP_SEAL_KEY_LEN, purpose, strlen(purpose), out);
}

static int add_key(struct hp_seal_keys *k, const char *line, size_t n, int number, struct hp_error *err)
{
	uint8_t id[HP_SHA256_LEN];
	size_t got;

	if (k->n == HP_SEAL_KEYS_MAX)
		return hp_fail(err, HP_E_INVALID, "more than %d keys", HP_SEAL_KEYS_MAX);
	if (n != (size_t)2 * HP_SEAL_KEY_LEN ||
	    hp_unhex(line, n, k->keys[k->n].key, HP_SEAL_KEY_LEN, &got) < 0) /* never quoted: it may be a key */
		return hp_fail(err, HP_E_INVALID, "line %d is not a key: 64 hex digits are", number);
	derive(k->keys[k->n].key, "holdpoint key id", id);
	hp_hex(id, (HP_SEAL_ID_HEX - 1) / 2, k->keys[k->n].id);
	for (int i = 0; i < k->n; i++)
		if (strcmp(k->keys[i].id, k->keys[k->n].id) == 0)
			return hp_fail(err, HP_E_INVALID, "line %d repeats a key", number);
	k->n++;
	return 0;
}

int hp_seal_keys_parse(struct hp_seal_keys *k, const char *text, struct hp_error *err)
{
	int number = 0;

	memset(k, 0, sizeof *k);
	while (*text) {
		size_t line = strcspn(text, "\n"), n = line;

		number++;
		while (n > 0 && strchr(" \t\r", text[n - 1]))
			n--;
		if (n > 0 && text[0] != '#' && add_key(k, text, n, number, err) < 0) {
			hp_seal_keys_forget(k);
			return -1;
		}
		text += line + (text[line] == '\n');
	}
	if (k->n == 0)
		return hp_fail(err, HP_E_INVALID, "there is no key in it; a key is a line of 64 hex digits");
	return 0;
}

void hp_seal_key_line(char out[2 * HP_SEAL_KEY_LEN + 2])
{
	uint8_t key[HP_SEAL_KEY_LEN];

	hp_random(key, sizeof key);
	hp_hex(key, sizeof key, out);
	memcpy(out + 2 * sizeof key, "\n", 2);
	explicit_bzero(key, sizeof key);
}

void hp_seal_keys_forget(struct hp_seal_keys *k)
{
	explicit_bzero(k, sizeof *k);
}

/* Every part is preceded by its length: no two purposes look alike. */
static void purpose_of(const struct hp_seal_for *f, uint8_t out[HP_SHA256_LEN])
{
	char version[24];
	struct hp_bytes parts[3] = {hp_bytes_of(f->installation), hp_bytes_of(f->name), {version, 0}};

	parts[2].n = (size_t)snprintf(version, sizeof version, "%lld", (long long)f->version);
	hp_sha256_parts(parts, 3, out);
}

static bool encrypt(EVP_CIPHER_CTX *c, const uint8_t *key, const uint8_t *nonce, const uint8_t *aad,
		    struct hp_bytes in, uint8_t *out)
{
	int n;

	return EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
	       EVP_EncryptUpdate(c, NULL, &n, aad, HP_SHA256_LEN) == 1 &&
	       EVP_EncryptUpdate(c, out, &n, (const uint8_t *)in.p, (int)in.n) == 1 && n == (int)in.n &&
	       EVP_EncryptFinal_ex(c, out + n, &n) == 1 && n == 0 &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_N, out + in.n) == 1;
}

/* Nothing of what was written to `out` may be used unless this says yes. */
static bool decrypt(EVP_CIPHER_CTX *c, const uint8_t *key, const uint8_t *aad, struct hp_bytes sealed, uint8_t *out)
{
	const uint8_t *p = (const uint8_t *)sealed.p;
	const int text_n = (int)(sealed.n - HP_SEAL_OVERHEAD);
	uint8_t tag[TAG_N];
	int n;

	memcpy(tag, p + sealed.n - TAG_N, TAG_N);
	return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, p + NONCE_AT) == 1 &&
	       EVP_DecryptUpdate(c, NULL, &n, aad, HP_SHA256_LEN) == 1 &&
	       EVP_DecryptUpdate(c, out, &n, p + TEXT_AT, text_n) == 1 && n == text_n &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_N, tag) == 1 &&
	       HP_GUARD(seal_tag, EVP_DecryptFinal_ex(c, out + n, &n) == 1);
}

int hp_seal(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes value, struct hp_buf *out,
	    struct hp_error *err)
{
	uint8_t head[TEXT_AT] = {1}, aad[HP_SHA256_LEN], zero[64] = {0};
	size_t at = out->n, id_n;
	EVP_CIPHER_CTX *c;
	bool good;

	HP_ASSERT(k->n > 0 && value.n < INT_MAX / 2);
	if (hp_unhex(k->keys[0].id, HP_SEAL_ID_HEX - 1, head + ID_AT, NONCE_AT - ID_AT, &id_n) < 0)
		return hp_fail(err, HP_E_INTERNAL, "the key's id is damaged");
	hp_random(head + NONCE_AT, TEXT_AT - NONCE_AT);
	purpose_of(f, aad);
	hp_buf_add(out, head, sizeof head);
	for (size_t left = value.n + TAG_N; left > 0 && !out->failed; left -= left < sizeof zero ? left : sizeof zero)
		hp_buf_add(out, zero, left < sizeof zero ? left : sizeof zero);
	if (hp_buf_check(out, "a sealed value", err) < 0)
		return -1;
	c = EVP_CIPHER_CTX_new();
	good = c && encrypt(c, k->keys[0].key, head + NONCE_AT, aad, value, (uint8_t *)out->p + at + TEXT_AT);
	EVP_CIPHER_CTX_free(c);
	return good ? 0 : hp_fail(err, HP_E_NOMEM, "a value could not be sealed");
}

int hp_seal_open(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes sealed,
		 struct hp_buf *out, struct hp_error *err)
{
	uint8_t aad[HP_SHA256_LEN], *text;
	char id[HP_SEAL_ID_HEX];
	EVP_CIPHER_CTX *c;
	bool good;
	int i = 0;

	if (sealed.n < HP_SEAL_OVERHEAD || sealed.n > INT_MAX / 2 || sealed.p[0] != 1)
		return hp_fail(err, HP_E_INVALID, "%s version %lld: the sealed value is damaged", f->name,
			       (long long)f->version);
	hp_hex((const uint8_t *)sealed.p + ID_AT, NONCE_AT - ID_AT, id);
	while (i < k->n && strcmp(k->keys[i].id, id) != 0)
		i++;
	if (i == k->n)
		return hp_fail(err, HP_E_NOT_FOUND, "%s version %lld was sealed with the key %s, which is not here", f->name,
			       (long long)f->version, id);
	text = OPENSSL_zalloc(sealed.n);
	c = EVP_CIPHER_CTX_new();
	purpose_of(f, aad);
	good = text && c && decrypt(c, k->keys[i].key, aad, sealed, text);
	EVP_CIPHER_CTX_free(c);
	if (good)
		hp_buf_add(out, text, sealed.n - HP_SEAL_OVERHEAD);
	OPENSSL_clear_free(text, sealed.n);
	if (!good)
		return hp_fail(err, HP_E_INVALID, "%s version %lld: the sealed value was changed, or belongs elsewhere",
			       f->name, (long long)f->version);
	return hp_buf_check(out, "a secret", err);
}

void hp_fingerprint(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes value,
		    char out[HP_FINGERPRINT_LEN])
{
	struct hp_bytes parts[3] = {hp_bytes_of(f->installation), hp_bytes_of(f->name), value};
	uint8_t key[HP_SHA256_LEN], hash[HP_SHA256_LEN], mac[HP_SHA256_LEN];

	HP_ASSERT(k->n > 0);
	derive(k->keys[0].key, "holdpoint fingerprint", key);
	hp_sha256_parts(parts, 3, hash);
	hp_hmac_sha256(key, sizeof key, hash, sizeof hash, mac);
	hp_hex(mac, (HP_FINGERPRINT_LEN - 1) / 2, out);
	explicit_bzero(key, sizeof key);
	explicit_bzero(hash, sizeof hash);
}
