/* signature.h: webhook signatures over raw bytes. Pure: time is a parameter.
 *
 * Sources, schemes and vectors: the providers' documentation, named in
 * signature.c and tests/unit/core_signature.c.
 */
#ifndef HP_CORE_SIGNATURE_H
#define HP_CORE_SIGNATURE_H

#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

enum hp_scheme {
	HP_SCHEME_STRIPE = 1, /* Stripe-Signature: t=,v1=…  "t.body" HMAC-SHA256 hex, key = the whole whsec_… */
	HP_SCHEME_DUFFEL,     /* X-Duffel-Signature: t=,v1= "t.body" HMAC-SHA256 hex */
	HP_SCHEME_STANDARD,   /* Standard Webhooks (and svix-… headers: Resend): "id.ts.body", base64 */
};
/* "stripe", "duffel", "standard"; 0: unknown. */
enum hp_scheme hp_scheme_find(const char *name);

enum hp_signature {
	HP_SIGNATURE_GOOD = 0,
	HP_SIGNATURE_BAD,   /* missing, malformed or wrong */
	HP_SIGNATURE_STALE, /* right, but its time is outside the tolerance (both ways) */
};

/* Finds a request header by lower-case name; NULL: absent. */
typedef const char *(*hp_header_fn)(void *arg, const char *lower_name);

/* Tries every secret (current, previous) and every signature in the header, all
 * in constant time. Empty secrets never match. */
enum hp_signature hp_signature_verify(enum hp_scheme scheme, hp_header_fn header, void *arg,
				      struct hp_bytes body, const char *const *secrets, int n_secrets,
				      int64_t now_us, int64_t tolerance_us);

/* For simulated providers: appends the header value; *name gets the header's
 * name. Standard Webhooks needs id; its other two headers are webhook-id and
 * webhook-timestamp. */
int hp_signature_sign(enum hp_scheme scheme, const char *secret, const char *id, int64_t now_us,
		      struct hp_bytes body, struct hp_buf *out, const char **name,
		      struct hp_error *err) HP_MUST_CHECK;

#endif
