/* seal.h: sealing small values (secrets) for a place that others can read.
 *
 * AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits per sealing. What a
 * value is for (installation, name, version) is authenticated with it: a sealed
 * value that was moved to another row does not open. A sealed value:
 *
 *   0x01 | 8 bytes id of the key | 12 bytes nonce | ciphertext | 16 bytes tag
 *
 * Several keys may be known: the first one seals, all of them open, so that a key can
 * be replaced while everything runs. Nothing of a key, not even a hash of it without
 * another secret, leaves this file: ids and fingerprints are HMACs under the key.
 */
#ifndef HP_BASE_SEAL_H
#define HP_BASE_SEAL_H

#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

#define HP_SEAL_KEY_LEN 32
#define HP_SEAL_KEYS_MAX 8
#define HP_SEAL_ID_HEX 17         /* with the NUL */
#define HP_FINGERPRINT_LEN 17     /* with the NUL */
#define HP_SEAL_OVERHEAD (1 + 8 + 12 + 16)

struct hp_seal_keys {
	int n;
	struct {
		uint8_t key[HP_SEAL_KEY_LEN];
		char id[HP_SEAL_ID_HEX];
	} keys[HP_SEAL_KEYS_MAX];
};

/* What a sealed value is for. */
struct hp_seal_for {
	const char *installation, *name;
	int64_t version;
};

/* Lines of 64 hex digits; empty lines and lines that begin with # are passed over. */
int hp_seal_keys_parse(struct hp_seal_keys *k, const char *text, struct hp_error *err) HP_MUST_CHECK;
/* A new key as a line for such a file. */
void hp_seal_key_line(char out[2 * HP_SEAL_KEY_LEN + 2]);
void hp_seal_keys_forget(struct hp_seal_keys *k);

/* Appends the sealed value. */
int hp_seal(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes value, struct hp_buf *out,
	    struct hp_error *err) HP_MUST_CHECK;
/* Appends the value. HP_E_NOT_FOUND: none of the keys sealed it; HP_E_INVALID: it is
 * damaged, or was sealed for something else. */
int hp_seal_open(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes sealed,
		 struct hp_buf *out, struct hp_error *err) HP_MUST_CHECK;
/* Tells equal values of a name from different ones, and nothing else: short values
 * cannot be guessed without the first key. */
void hp_fingerprint(const struct hp_seal_keys *k, const struct hp_seal_for *f, struct hp_bytes value,
		    char out[HP_FINGERPRINT_LEN]);

#endif
