/* signature.c: who really sent this webhook?
 *
 * Three ways of signing, one shape: a time and some bytes go through
 * HMAC-SHA256 under a shared secret, and the header carries one or more
 * results. A request is read into a `struct claim` (what the sender says), the
 * content that must have been signed is built once, and then every secret is
 * tried against every signature. Nothing returns early: how long it takes does
 * not tell which secret or which signature came close.
 *
 * Sources:
 *   Stripe   https://docs.stripe.com/webhooks#verify-manually
 *            (the key is the whole text, whsec_ included)
 *   Duffel   https://duffel.com/docs/api/v2/webhooks and, for the exact
 *            bytes, duffelhq/duffel-api-ruby lib/duffel_api/webhook_event.rb
 *   Standard https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 *            (the key is base64 after whsec_), and the same under svix- names:
 *            https://resend.com/docs/webhooks/verify-webhooks-requests
 *
 * Neither Stripe's nor Duffel's own libraries refuse a time in the future; we
 * do, for all three, because a signature made for next week is a replay that
 * stays good until then.
 */
#include "core/signature.h"

#include <stdbool.h>
#include <string.h>
#include "base/digest.h"
#include "base/mutant.h"

#define SECOND INT64_C(1000000)
#define TIME_DIGITS_MAX 11   /* seconds since 1970 until the year 5138 */
#define HEADER_MAX 4096      /* a signature header; a dozen signatures fit */
#define ID_MAX 256           /* of a Standard Webhooks message */
#define STANDARD_KEY_MAX 256 /* bytes after base64; the specification says 24 to 64 */
#define CODE_LEN 64          /* hex of a digest; the base64 of one is shorter */

struct claim {
	struct hp_bytes time; /* the digits as they were sent: these were signed */
	int64_t seconds;
	struct hp_bytes id;         /* Standard Webhooks only */
	struct hp_bytes signatures; /* the header that holds them */
};

enum hp_scheme hp_scheme_find(const char *name)
{
	if (!name)
		return 0;
	if (strcmp(name, "stripe") == 0)
		return HP_SCHEME_STRIPE;
	if (strcmp(name, "duffel") == 0)
		return HP_SCHEME_DUFFEL;
	if (strcmp(name, "standard") == 0)
		return HP_SCHEME_STANDARD;
	return 0;
}

/* Cuts the part up to `separator` off the front of rest. */
static bool next_part(struct hp_bytes *rest, char separator, struct hp_bytes *part)
{
	const char *end;

	if (!rest->p)
		return false;
	end = memchr(rest->p, separator, rest->n);
	part->p = rest->p;
	part->n = end ? (size_t)(end - rest->p) : rest->n;
	if (end) {
		rest->n -= part->n + 1;
		rest->p = end + 1;
	} else {
		rest->p = NULL;
		rest->n = 0;
	}
	return true;
}

/* "v1=abc" and "v1=" give "abc"; anything else is not ours. */
static bool strip(struct hp_bytes part, const char *prefix, struct hp_bytes *value)
{
	size_t n = strlen(prefix);

	if (part.n < n || memcmp(part.p, prefix, n) != 0)
		return false;
	value->p = part.p + n;
	value->n = part.n - n;
	return true;
}

static int read_time(struct hp_bytes text, int64_t *seconds)
{
	int64_t v = 0;
	size_t i;

	if (text.n == 0 || text.n > TIME_DIGITS_MAX)
		return -1;
	for (i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return -1;
		v = v * 10 + (text.p[i] - '0');
	}
	*seconds = v;
	return 0;
}

/* An absent, empty or oversized header is as good as none. */
static int read_header(hp_header_fn header, void *arg, const char *name, size_t max,
		       struct hp_bytes *out)
{
	*out = hp_bytes_of(header(arg, name));
	return out->p && out->n > 0 && out->n <= max ? 0 : -1;
}

/* Stripe-Signature and X-Duffel-Signature: t=1,v1=…,v1=…,v0=… */
static int read_timed(hp_header_fn header, void *arg, const char *name, struct claim *c)
{
	struct hp_bytes rest, part, value;
	bool seen = false;

	if (read_header(header, arg, name, HEADER_MAX, &c->signatures) != 0)
		return -1;
	rest = c->signatures;
	while (next_part(&rest, ',', &part)) {
		if (!strip(part, "t=", &value))
			continue;
		if (seen || read_time(value, &c->seconds) != 0)
			return -1; /* two times: which one was signed is a guess */
		c->time = value;
		seen = true;
	}
	return seen ? 0 : -1;
}

static int read_named(hp_header_fn header, void *arg, const char *const names[3], struct claim *c)
{
	if (read_header(header, arg, names[0], ID_MAX, &c->id) != 0 ||
	    read_header(header, arg, names[1], TIME_DIGITS_MAX, &c->time) != 0 ||
	    read_header(header, arg, names[2], HEADER_MAX, &c->signatures) != 0)
		return -1;
	return read_time(c->time, &c->seconds);
}

/* One complete set of names: never an id of one and a signature of the other. */
static int read_standard(hp_header_fn header, void *arg, struct claim *c)
{
	static const char *const webhook[3] = {"webhook-id", "webhook-timestamp",
					       "webhook-signature"};
	static const char *const svix[3] = {"svix-id", "svix-timestamp", "svix-signature"};

	return read_named(header, arg, header(arg, webhook[2]) ? webhook : svix, c);
}

static int read_claim(enum hp_scheme scheme, hp_header_fn header, void *arg, struct claim *c)
{
	memset(c, 0, sizeof *c);
	switch (scheme) {
	case HP_SCHEME_STRIPE:
		return read_timed(header, arg, "stripe-signature", c);
	case HP_SCHEME_DUFFEL:
		return read_timed(header, arg, "x-duffel-signature", c);
	case HP_SCHEME_STANDARD:
		return read_standard(header, arg, c);
	}
	return -1;
}

/* "time.body" or "id.time.body"; the caller frees it. */
static int signed_content(enum hp_scheme scheme, struct hp_bytes id, struct hp_bytes time,
			  struct hp_bytes body, struct hp_buf *out)
{
	hp_buf_init(out, id.n + time.n + body.n + 2);
	if (scheme == HP_SCHEME_STANDARD) {
		hp_buf_add(out, id.p, id.n);
		hp_buf_addc(out, '.');
	}
	hp_buf_add(out, time.p, time.n);
	hp_buf_addc(out, '.');
	if (body.n > 0)
		hp_buf_add(out, body.p, body.n);
	return out->failed ? -1 : 0;
}

/* The signature as it is written in the header, into code[CODE_LEN + 1]. Fails
 * for a secret that is empty or, where base64 is asked for, not base64. */
static int make_code(enum hp_scheme scheme, const char *secret, struct hp_bytes content, char *code,
		     struct hp_error *err)
{
	uint8_t key[STANDARD_KEY_MAX], digest[HP_SHA256_LEN];
	struct hp_bytes text = hp_bytes_of(secret);
	struct hp_buf b64;
	size_t key_n = 0;
	int rc = -1;

	if (text.n == 0)
		return hp_fail(err, HP_E_INVALID, "the signing secret is empty");
	if (scheme != HP_SCHEME_STANDARD) {
		hp_hmac_sha256(text.p, text.n, content.p, content.n, digest);
		hp_hex(digest, sizeof digest, code);
		return 0;
	}
	strip(text, "whsec_", &text);
	hp_buf_init(&b64, CODE_LEN);
	if (hp_unbase64(text.p, text.n, key, sizeof key, &key_n) == 0 && key_n > 0) {
		hp_hmac_sha256(key, key_n, content.p, content.n, digest);
		hp_base64(&b64, digest, sizeof digest);
		rc = hp_buf_check(&b64, "signature", err);
		if (rc == 0)
			memcpy(code, hp_buf_str(&b64), b64.n + 1);
	} else {
		hp_fail(err, HP_E_INVALID, "the signing secret is empty or not base64");
	}
	hp_buf_free(&b64);
	explicit_bzero(key, sizeof key);
	return rc;
}

/* Is code among the signatures of the version we know? Looks at all of them. */
static bool among(enum hp_scheme scheme, struct hp_bytes signatures, const char *code)
{
	bool standard = scheme == HP_SCHEME_STANDARD, found = false;
	struct hp_bytes part, value;

	while (next_part(&signatures, standard ? ' ' : ',', &part))
		if (strip(part, standard ? "v1," : "v1=", &value))
			found |= hp_equal_ct(value.p, value.n, code, strlen(code));
	return found;
}

enum hp_signature hp_signature_verify(enum hp_scheme scheme, hp_header_fn header, void *arg,
				      struct hp_bytes body, const char *const *secrets,
				      int n_secrets, int64_t now_us, int64_t tolerance_us)
{
	enum hp_signature result = HP_SIGNATURE_BAD;
	char code[CODE_LEN + 1];
	struct hp_buf content;
	bool good = false;
	struct claim c;
	int64_t skew;
	int i;

	if (read_claim(scheme, header, arg, &c) != 0)
		return HP_SIGNATURE_BAD;
	if (signed_content(scheme, c.id, c.time, body, &content) != 0)
		goto out; /* no memory: the sender will try again, nobody slips in */
	for (i = 0; i < n_secrets; i++)
		if (make_code(scheme, secrets[i], hp_buf_bytes(&content), code, NULL) == 0)
			good |= among(scheme, c.signatures, code);
	if (!HP_GUARD(signature, good))
		goto out;
	skew = now_us - c.seconds * SECOND;
	result = HP_GUARD(tolerance, skew <= tolerance_us && skew >= -tolerance_us) ? HP_SIGNATURE_GOOD
										    : HP_SIGNATURE_STALE;
out:
	hp_buf_free(&content);
	return result;
}

int hp_signature_sign(enum hp_scheme scheme, const char *secret, const char *id, int64_t now_us,
		      struct hp_bytes body, struct hp_buf *out, const char **name,
		      struct hp_error *err)
{
	static const char *const names[] = {
	    [HP_SCHEME_STRIPE] = "stripe-signature",
	    [HP_SCHEME_DUFFEL] = "x-duffel-signature",
	    [HP_SCHEME_STANDARD] = "webhook-signature",
	};
	bool standard = scheme == HP_SCHEME_STANDARD;
	struct hp_buf time, content;
	char code[CODE_LEN + 1];
	int rc = -1;

	hp_buf_init(&time, TIME_DIGITS_MAX);
	hp_buf_init(&content, 0);
	if (scheme < HP_SCHEME_STRIPE || scheme > HP_SCHEME_STANDARD)
		return hp_fail(err, HP_E_INVALID, "unknown signature scheme %d", (int)scheme);
	if (standard && (!id || !*id))
		return hp_fail(err, HP_E_INVALID,
			       "a Standard Webhooks signature needs a message id");
	if (now_us < 0)
		return hp_fail(err, HP_E_INVALID, "cannot sign for the time %lld", (long long)now_us);
	hp_buf_printf(&time, "%lld", (long long)(now_us / SECOND));
	if (hp_buf_check(&time, "time of the signature", err) != 0)
		goto out;
	if (signed_content(scheme, hp_bytes_of(standard ? id : NULL), hp_buf_bytes(&time), body,
			   &content) != 0) {
		hp_fail(err, HP_E_NOMEM, "no memory to sign %zu bytes", body.n);
		goto out;
	}
	if (make_code(scheme, secret, hp_buf_bytes(&content), code, err) != 0)
		goto out;
	if (standard)
		hp_buf_printf(out, "v1,%s", code);
	else
		hp_buf_printf(out, "t=%s,v1=%s", hp_buf_str(&time), code);
	*name = names[scheme];
	rc = hp_buf_check(out, "signature header", err);
out:
	hp_buf_free(&time);
	hp_buf_free(&content);
	return rc;
}
