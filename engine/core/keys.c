/* keys.c: numbers that must come out the same after every crash.
 *
 * An effect's key and the jitter before a retry are hashes of who we are and
 * where the run stands. Neither a clock nor a random source is asked, so two
 * workers that meet the same run at the same place agree without talking.
 */
#include "core/keys.h"

#include <string.h>

/* Each hash says first what it is for: a key can never be somebody's jitter. */
static struct hp_bytes purpose(const char *text)
{
	return hp_bytes_of(text);
}

static struct hp_bytes big_endian(int64_t v, char out[8])
{
	uint64_t u = (uint64_t)v;
	int i;

	for (i = 7; i >= 0; i--, u >>= 8)
		out[i] = (char)(u & 0xFF);
	return (struct hp_bytes){out, 8};
}

void hp_effect_key(const char *installation, int64_t run, const char *state, int32_t visit,
		   int index, char out[HP_EFFECT_KEY_LEN])
{
	char run_bytes[8], visit_bytes[8], index_bytes[8], hex[HP_SHA256_HEX];
	uint8_t digest[HP_SHA256_LEN];
	struct hp_bytes parts[] = {
	    purpose("holdpoint effect key 1"), hp_bytes_of(installation),
	    big_endian(run, run_bytes),        hp_bytes_of(state),
	    big_endian(visit, visit_bytes),    big_endian(index, index_bytes),
	};

	hp_sha256_parts(parts, sizeof parts / sizeof *parts, digest);
	hp_hex(digest, sizeof digest, hex);
	memcpy(out, "hp_", 3);
	memcpy(out + 3, hex, 40);
	out[43] = '\0';
}

/* min(cap, base · 2^(failures - 1)), without overflow; at least 1 µs. */
static int64_t ceiling(const struct hp_retry *r, int32_t failures)
{
	int64_t limit = r->base_us > 0 ? r->base_us : 1;
	int64_t cap = r->cap_us > 0 ? r->cap_us : limit;
	int32_t i;

	for (i = 1; i < failures && limit < cap; i++)
		limit = limit > cap / 2 ? cap : limit * 2;
	return limit < cap ? limit : cap;
}

int64_t hp_backoff(const struct hp_retry *r, int64_t run, int32_t visit, int32_t failures,
		   int64_t retry_after_us)
{
	char run_bytes[8], visit_bytes[8], failures_bytes[8];
	uint8_t digest[HP_SHA256_LEN];
	struct hp_bytes parts[] = {
	    purpose("holdpoint backoff 1"),
	    big_endian(run, run_bytes),
	    big_endian(visit, visit_bytes),
	    big_endian(failures, failures_bytes),
	};
	int64_t limit = ceiling(r, failures), wait;
	uint64_t draw = 0;
	int i;

	hp_sha256_parts(parts, sizeof parts / sizeof *parts, digest);
	for (i = 0; i < 8; i++)
		draw = draw << 8 | digest[i];
	/* The remainder's bias is limit / 2^64: nothing. */
	wait = 1 + (int64_t)(draw % (uint64_t)limit);
	return retry_after_us > wait ? retry_after_us : wait;
}
