/* Webhook signatures of every scheme against a verifier of its own, written the long way
 * over OpenSSL: the engine accepts exactly what that one accepts, a signature that was
 * just made is good, and one of which anything was changed is not.
 *
 * Input: bytes that say scheme, what to change, where and when, then a body; or `#`, then
 * headers as lines, an empty line and a body, which are judged by both. */
#include "core/signature.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include "lib/fuzz.h"

#define SECOND INT64_C(1000000)
#define TOLERANCE (300 * SECOND)
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI="
#define HEADERS_MAX 8

struct headers {
	int n;
	char *name[HEADERS_MAX], *value[HEADERS_MAX];
};

static const char *find(void *arg, const char *lower_name)
{
	struct headers *h = arg;

	for (int i = 0; i < h->n; i++)
		if (strcmp(h->name[i], lower_name) == 0)
			return h->value[i];
	return NULL;
}

static void add(struct headers *h, const char *name, const char *value)
{
	h->name[h->n] = text_of(hp_bytes_of(name));
	h->value[h->n++] = text_of(hp_bytes_of(value));
}

static void forget(struct headers *h)
{
	for (int i = 0; i < h->n; i++) {
		free(h->name[i]);
		free(h->value[i]);
	}
}

/* ---- the other verifier ---- */

static void code_of(enum hp_scheme scheme, const char *secret, const char *content, size_t n, char out[128])
{
	unsigned char key[512], digest[32], b64[64];
	unsigned digest_n = sizeof digest;
	int key_n = (int)strlen(secret);
	EVP_ENCODE_CTX *ctx;

	if (scheme != HP_SCHEME_STANDARD) {
		HMAC(EVP_sha256(), secret, key_n, (const unsigned char *)content, n, digest, &digest_n);
		for (int i = 0; i < 32; i++)
			snprintf(out + 2 * i, 3, "%02x", digest[i]);
		return;
	}
	ctx = EVP_ENCODE_CTX_new();
	MUST(ctx != NULL);
	EVP_DecodeInit(ctx);
	MUST(EVP_DecodeUpdate(ctx, key, &key_n, (const unsigned char *)secret + 6, (int)strlen(secret) - 6) >= 0);
	EVP_ENCODE_CTX_free(ctx);
	HMAC(EVP_sha256(), key, key_n, (const unsigned char *)content, n, digest, &digest_n);
	EVP_EncodeBlock(b64, digest, 32);
	snprintf(out, 128, "%s", (char *)b64);
}

/* Digits only, at most eleven: a number of seconds. */
static bool seconds_of(const char *s, size_t n, int64_t *out)
{
	if (n == 0 || n > 11 || strspn(s, "0123456789") < n)
		return false;
	*out = strtoll(s, NULL, 10); /* ends at a comma, or at the end */
	return true;
}

/* One of the parts of list is the prefix and the code. */
static bool among(const char *list, char separator, const char *prefix, const char *code)
{
	char want[160];
	size_t n = (size_t)snprintf(want, sizeof want, "%s%s", prefix, code), part;

	for (;; list += part + 1) {
		part = (size_t)(strchrnul(list, separator) - list);
		if (part == n && memcmp(list, want, n) == 0)
			return true;
		if (list[part] == '\0')
			return false;
	}
}

struct said {
	const char *signatures, *time, *id;
	size_t time_n;
};

static bool standard_headers(struct headers *h, struct said *s)
{
	bool svix = !find(h, "webhook-signature");

	s->signatures = find(h, svix ? "svix-signature" : "webhook-signature");
	s->time = find(h, svix ? "svix-timestamp" : "webhook-timestamp");
	s->id = find(h, svix ? "svix-id" : "webhook-id");
	if (!s->signatures || !*s->signatures || !s->time || !s->id || !*s->id || strlen(s->id) > 256)
		return false;
	s->time_n = strlen(s->time);
	return true;
}

static bool timed_header(const char *list, struct said *s)
{
	if (!list)
		return false;
	s->signatures = list;
	s->time = strncmp(list, "t=", 2) == 0 ? list + 2 : strstr(list, ",t=") ? strstr(list, ",t=") + 3 : NULL;
	if (!s->time || strstr(s->time, ",t="))
		return false;
	s->time_n = strcspn(s->time, ",");
	return true;
}

/* What the documentation says, however long it takes. */
static enum hp_signature judge(enum hp_scheme scheme, struct headers *h, struct hp_bytes body,
			       const char *const *secrets, int n_secrets, int64_t now)
{
	bool standard = scheme == HP_SCHEME_STANDARD, good = false;
	struct said s = {0};
	struct hp_buf content;
	char code[128];
	int64_t seconds;

	if (!(standard ? standard_headers(h, &s)
		       : timed_header(find(h, scheme == HP_SCHEME_STRIPE ? "stripe-signature" : "x-duffel-signature"), &s)))
		return HP_SIGNATURE_BAD;
	if (strlen(s.signatures) > 4096 || !seconds_of(s.time, s.time_n, &seconds))
		return HP_SIGNATURE_BAD;
	hp_buf_init(&content, body.n + 1024);
	if (standard)
		hp_buf_printf(&content, "%s.", s.id);
	hp_buf_printf(&content, "%.*s.", (int)s.time_n, s.time);
	hp_buf_add(&content, body.p, body.n);
	for (int i = 0; i < n_secrets; i++) {
		code_of(scheme, secrets[i], content.p, content.n, code);
		good = good || among(s.signatures, standard ? ' ' : ',', standard ? "v1," : "v1=", code);
	}
	hp_buf_free(&content);
	if (!good)
		return HP_SIGNATURE_BAD;
	return llabs(now - seconds * SECOND) <= TOLERANCE ? HP_SIGNATURE_GOOD : HP_SIGNATURE_STALE;
}

static enum hp_signature verify(enum hp_scheme scheme, struct headers *h, struct hp_bytes body, const char *secret,
				const char *previous, int64_t now)
{
	const char *secrets[] = {secret, previous};
	int n = previous ? 2 : 1;
	enum hp_signature got = hp_signature_verify(scheme, find, h, body, secrets, n, now, TOLERANCE);

	MUST(got == judge(scheme, h, body, secrets, n, now), "scheme %d: %d is not what the other verifier says",
	     (int)scheme, (int)got);
	return got;
}

/* ---- what a sender does, and what somebody else makes of it ---- */

static void sign(enum hp_scheme scheme, const char *id, int64_t now, struct hp_bytes body, struct headers *h)
{
	struct hp_error err = {0};
	struct hp_buf value;
	const char *name;
	char seconds[24];

	hp_buf_init(&value, 1024);
	MUST(hp_signature_sign(scheme, SECRET, id, now, body, &value, &name, &err) == 0, "%s", err.message);
	add(h, name, hp_buf_str(&value));
	hp_buf_free(&value);
	if (scheme != HP_SCHEME_STANDARD)
		return;
	snprintf(seconds, sizeof seconds, "%lld", (long long)(now / SECOND));
	add(h, "webhook-id", id);
	add(h, "webhook-timestamp", seconds);
}

/* Changes one byte of a text into another one. */
static bool change(char *p, size_t n, size_t where, uint8_t by)
{
	if (n == 0 || by == 0 || (p[where % n] ^ (char)by) == '\0')
		return false;
	p[where % n] ^= (char)by;
	return true;
}

static void signed_then_changed(struct hp_input *in, uint8_t first)
{
	enum hp_scheme scheme = (enum hp_scheme)(1 + first % 3);
	uint8_t what = in_byte(in), by = in_byte(in);
	size_t where = (size_t)in_bits(in, 2);
	int64_t now = (int64_t)(in_bits(in, 4) + 1) * SECOND, later = (int64_t)in_bits(in, 2) * SECOND;
	struct hp_bytes body = {(const char *)in->p, in->n};
	char id[] = "msg_p5jXN8AQM9LWM0D4loKWxJek", *copy = text_of(body);
	struct headers h = {0};
	bool changed = false;

	sign(scheme, id, now, body, &h);
	MUST(verify(scheme, &h, body, SECRET, NULL, now) == HP_SIGNATURE_GOOD, "just signed, and refused");
	MUST(verify(scheme, &h, body, OTHER, SECRET, now) == HP_SIGNATURE_GOOD, "signed under the previous secret");
	MUST(verify(scheme, &h, body, SECRET, NULL, now + later) ==
	     (later <= TOLERANCE ? HP_SIGNATURE_GOOD : HP_SIGNATURE_STALE));
	MUST(verify(scheme, &h, body, OTHER, "", now) == HP_SIGNATURE_BAD, "another secret signed it");
	MUST(verify((enum hp_scheme)(1 + (first + 1) % 3), &h, body, SECRET, NULL, now) == HP_SIGNATURE_BAD);
	if (what % 2 == 0) {
		changed = change(copy, body.n, where, by) || body.n == 0;
		body = body.n ? (struct hp_bytes){copy, body.n} : hp_bytes_of("x");
	} else {
		char *value = h.value[what / 2 % h.n];

		changed = change(value, strlen(value), where, by);
	}
	MUST(!changed || verify(scheme, &h, body, SECRET, NULL, now) == HP_SIGNATURE_BAD, "changed, and accepted");
	forget(&h);
	free(copy);
}

/* Headers as lines, then the body: whatever they say, both verifiers agree. */
static void as_sent(struct hp_input *in)
{
	struct headers h = {0};
	struct hp_bytes body;

	while (h.n < HEADERS_MAX) {
		struct hp_bytes line = in_until(in, '\n'), name;
		struct hp_input rest = {(const uint8_t *)line.p, line.n};

		if (line.n == 0)
			break;
		name = in_until(&rest, ':');
		h.name[h.n] = text_of(name);
		h.value[h.n++] = text_of((struct hp_bytes){(const char *)rest.p, rest.n});
	}
	body = (struct hp_bytes){(const char *)in->p, in->n};
	for (int scheme = HP_SCHEME_STRIPE; scheme <= HP_SCHEME_STANDARD; scheme++)
		(void)verify((enum hp_scheme)scheme, &h, body, SECRET, OTHER, INT64_C(1614265330) * SECOND);
	forget(&h);
}

HP_FUZZ(signature)
{
	struct hp_input in = {p, n};
	uint8_t first = in_byte(&in);

	if (first == '#')
		as_sent(&in);
	else
		signed_then_changed(&in, first);
}
