/* Webhook signatures: the published vectors (tests/vectors), every way of being
 * wrong that Standard Webhooks lists, two secrets, several signatures, and the
 * exact edges of the tolerance.
 *
 * With arguments it is no test but the verifier that tests/judges asks:
 *   core_signature SCHEME NOW_US SECRET...   headers, an empty line and the body on
 * standard input; prints good, bad or stale.
 */
#include "core/signature.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/words.h"
#include "lib/suite.h"
#include "lib/sweep.h"

#define SECOND INT64_C(1000000)
#define TOLERANCE (300 * SECOND)
#define BODY "{\"test\": 2432232314}"
#define STD_SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define STD_ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define STD_TIME INT64_C(1614265330)
#define STD_GOOD "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static json_t *vectors; /* tests run from the root of the project */

/* A request's headers: name, value, name, value, …, NULL. */
static const char *find(void *arg, const char *lower_name)
{
	const char *const *h = arg;

	for (; h[0]; h += 2)
		if (strcmp(h[0], lower_name) == 0)
			return h[1];
	return NULL;
}

static enum hp_signature verify_at(enum hp_scheme scheme, const char **headers, const char *body,
				   const char *secret, const char *previous, int64_t now_us)
{
	const char *secrets[] = {secret, previous};

	return hp_signature_verify(scheme, find, headers, hp_bytes_of(body), secrets, 2, now_us,
				   TOLERANCE);
}

static const char *json_header(void *arg, const char *lower_name)
{
	return json_string_value(json_object_get(arg, lower_name));
}

static enum hp_signature verify_vector(json_t *v, const char *secret, const char *body,
				       int64_t now_us)
{
	const char *secrets[] = {secret};

	return hp_signature_verify(hp_scheme_find(hp_json_str(v, "scheme")), json_header,
				   json_object_get(v, "headers"), hp_bytes_of(body), secrets, 1,
				   now_us, TOLERANCE);
}

START_TEST(vectors_verify)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(vectors, "signatures"), i, v)
	{
		const char *secret = hp_json_str(v, "secret"), *body = hp_json_str(v, "body");
		int64_t t = hp_json_int(v, "time", 0) * SECOND;
		char longer[512];

		ck_assert_msg(verify_vector(v, secret, body, t) == HP_SIGNATURE_GOOD, "%s",
			      hp_json_str(v, "name"));
		ck_assert_int_eq(
		    verify_vector(v, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", body, t),
		    HP_SIGNATURE_BAD);
		snprintf(longer, sizeof longer, "%s ", body);
		ck_assert_int_eq(verify_vector(v, secret, longer, t), HP_SIGNATURE_BAD);
		ck_assert_int_eq(verify_vector(v, secret, "", t), HP_SIGNATURE_BAD);
	}
	ck_assert_uint_eq(i, 4);
}
END_TEST

START_TEST(vectors_sign)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(vectors, "signatures"), i, v)
	{
		enum hp_scheme scheme = hp_scheme_find(hp_json_str(v, "scheme"));
		json_t *headers = json_object_get(v, "headers");
		const char *name = NULL, *want;
		struct hp_error err;
		struct hp_buf out;

		hp_buf_init(&out, 512);
		ck_assert_int_eq(
		    hp_signature_sign(scheme, hp_json_str(v, "secret"), hp_json_str(v, "id"),
				      hp_json_int(v, "time", 0) * SECOND + 999999,
				      hp_bytes_of(hp_json_str(v, "body")), &out, &name, &err),
		    0);
		want = hp_json_str(headers, name);
		if (!want) /* the same bytes under the older names */
			want = hp_json_str(headers, "svix-signature");
		ck_assert_str_eq(hp_buf_str(&out), want);
		hp_buf_free(&out);
	}
}
END_TEST

START_TEST(vectors_of_hmac)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(vectors, "hmac_sha256"), i, v)
	{
		const char *key = hp_json_str(v, "key"), *body = hp_json_str(v, "body");
		uint8_t digest[HP_SHA256_LEN];
		char hex[HP_SHA256_HEX];

		hp_hmac_sha256(key, strlen(key), body, strlen(body), digest);
		hp_hex(digest, sizeof digest, hex);
		ck_assert_str_eq(hex, hp_json_str(v, "hex"));
	}
	ck_assert_uint_eq(i, 2);
}
END_TEST

/* Standard Webhooks' own list of what must be refused, and ours. */
START_TEST(standard_refuses)
{
	static const struct {
		const char *id, *time, *signature;
	} wrong[] = {
	    {NULL, "1614265330", STD_GOOD},
	    {STD_ID, NULL, STD_GOOD},
	    {STD_ID, "1614265330", NULL},
	    {"", "1614265330", STD_GOOD},
	    {"msg_other", "1614265330", STD_GOOD},
	    {STD_ID, "", STD_GOOD},
	    {STD_ID, "hello", STD_GOOD},
	    {STD_ID, "1614265330x", STD_GOOD},
	    {STD_ID, "-1614265330", STD_GOOD},
	    {STD_ID, "+1614265330", STD_GOOD},
	    {STD_ID, " 1614265330", STD_GOOD},
	    {STD_ID, "1614265331", STD_GOOD},
	    {STD_ID, "99999999999999999999999", STD_GOOD},
	    {STD_ID, "1614265330", ""},
	    {STD_ID, "1614265330", "v1,"},
	    {STD_ID, "1614265330", "v1"},
	    {STD_ID, "1614265330", "v1,dawfeoifkpqwoekfpqoekf"},
	    {STD_ID, "1614265330",
	     "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"}, /* truncated */
	    {STD_ID, "1614265330", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	    {STD_ID, "1614265330", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	    {STD_ID, "1614265330", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	    {STD_ID, "1614265330", "v1,G0HM9SSE+OTPJTGT/TMIKTSYZLE3UFJELVLNIOLJ1OE="},
	};
	size_t i;

	for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *headers[8] = {NULL};
		int n = 0;

#define ADD(name_, value_)               \
	if (value_) {                    \
		headers[n++] = (name_);  \
		headers[n++] = (value_); \
	}
		ADD("webhook-id", wrong[i].id)
		ADD("webhook-timestamp", wrong[i].time)
		ADD("webhook-signature", wrong[i].signature)
		ck_assert_msg(verify_at(HP_SCHEME_STANDARD, headers, BODY, STD_SECRET, NULL,
					STD_TIME * SECOND) == HP_SIGNATURE_BAD,
			      "case %zu", i);
	}
}
END_TEST

START_TEST(standard_takes_one_set_of_names)
{
	/* The signature decides which set is read; an id of the other set does not count. */
	const char *mixed[] = {
	    "svix-id", STD_ID, "svix-timestamp", "1614265330", "webhook-signature", STD_GOOD, NULL};
	const char *both[] = {
	    "svix-id",    "msg_x", "svix-timestamp",    "1",          "svix-signature",    "v1,x",
	    "webhook-id", STD_ID,  "webhook-timestamp", "1614265330", "webhook-signature", STD_GOOD,
	    NULL};

	ck_assert_int_eq(
	    verify_at(HP_SCHEME_STANDARD, mixed, BODY, STD_SECRET, NULL, STD_TIME * SECOND),
	    HP_SIGNATURE_BAD);
	ck_assert_int_eq(
	    verify_at(HP_SCHEME_STANDARD, both, BODY, STD_SECRET, NULL, STD_TIME * SECOND),
	    HP_SIGNATURE_GOOD);
}
END_TEST

START_TEST(several_signatures)
{
	const char *standard[] = {
	    "webhook-id",
	    STD_ID,
	    "webhook-timestamp",
	    "1614265330",
	    "webhook-signature",
	    "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,x v1a,y " STD_GOOD,
	    NULL};
	const char *stripe[] = {
	    "stripe-signature",
	    "t=1614265330,v1=0000000000000000000000000000000000000000000000000000000000000000,"
	    "v1=e135cdbed3dda004bf8a2fb350f2541d299393c770e0b9e6e319dc595e9072aa,v0=abc",
	    NULL};

	ck_assert_int_eq(
	    verify_at(HP_SCHEME_STANDARD, standard, BODY, STD_SECRET, NULL, STD_TIME * SECOND),
	    HP_SIGNATURE_GOOD);
	ck_assert_int_eq(verify_at(HP_SCHEME_STRIPE, stripe, "{\"id\":\"evt_1\"}",
				   "whsec_test_secret", NULL, STD_TIME * SECOND),
			 HP_SIGNATURE_GOOD);
}
END_TEST

START_TEST(two_secrets)
{
	const char *headers[] = {
	    "webhook-id", STD_ID, "webhook-timestamp", "1614265330", "webhook-signature",
	    STD_GOOD,     NULL};
	const char *other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
	int64_t now = STD_TIME * SECOND;

	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, other, STD_SECRET, now),
			 HP_SIGNATURE_GOOD);
	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, STD_SECRET, other, now),
			 HP_SIGNATURE_GOOD);
	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, NULL, STD_SECRET, now),
			 HP_SIGNATURE_GOOD);
	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, "", STD_SECRET, now),
			 HP_SIGNATURE_GOOD);
	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, other, "", now),
			 HP_SIGNATURE_BAD);
	/* whsec_ may be left out: what counts is the base64 after it */
	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, &STD_SECRET[6], NULL, now),
			 HP_SIGNATURE_GOOD);
}
END_TEST

/* A secret that is empty would let everybody sign; so would one that is not set. */
START_TEST(empty_secrets_never_match)
{
	static const enum hp_scheme schemes[] = {HP_SCHEME_STRIPE, HP_SCHEME_DUFFEL,
						 HP_SCHEME_STANDARD};
	static const char *const empty[] = {"", NULL, "whsec_"};
	const char *body = "{}";
	char content[64], hex[HP_SHA256_HEX], timed[128], named[128];
	uint8_t digest[HP_SHA256_LEN];
	struct hp_buf b64;
	size_t i, k;

	hp_buf_init(&b64, 64);
	snprintf(content, sizeof content, "1614265330.%s", body);
	hp_hmac_sha256("", 0, content, strlen(content), digest);
	hp_hex(digest, sizeof digest, hex);
	snprintf(timed, sizeof timed, "t=1614265330,v1=%s", hex);
	snprintf(content, sizeof content, "id.1614265330.%s", body);
	hp_hmac_sha256("", 0, content, strlen(content), digest);
	ck_assert_int_eq(hp_base64(&b64, digest, sizeof digest), 0);
	snprintf(named, sizeof named, "v1,%s", hp_buf_str(&b64));
	for (i = 0; i < 3; i++)
		for (k = 0; k < 3; k++) {
			const char *headers[] = {"stripe-signature",
						 timed,
						 "x-duffel-signature",
						 timed,
						 "webhook-id",
						 "id",
						 "webhook-timestamp",
						 "1614265330",
						 "webhook-signature",
						 named,
						 NULL};

			ck_assert_int_eq(verify_at(schemes[i], headers, body, empty[k], empty[k],
						   STD_TIME * SECOND),
					 HP_SIGNATURE_BAD);
			ck_assert_int_eq(hp_signature_verify(schemes[i], find, headers,
							     hp_bytes_of(body), NULL, 0,
							     STD_TIME * SECOND, TOLERANCE),
					 HP_SIGNATURE_BAD);
		}
	hp_buf_free(&b64);
}
END_TEST

START_TEST(tolerance_is_exact)
{
	json_t *v;
	size_t i;

	json_array_foreach(json_object_get(vectors, "signatures"), i, v)
	{
		const char *secret = hp_json_str(v, "secret"), *body = hp_json_str(v, "body");
		int64_t t = hp_json_int(v, "time", 0) * SECOND;

		ck_assert_int_eq(verify_vector(v, secret, body, t + TOLERANCE), HP_SIGNATURE_GOOD);
		ck_assert_int_eq(verify_vector(v, secret, body, t + TOLERANCE + 1),
				 HP_SIGNATURE_STALE);
		ck_assert_int_eq(verify_vector(v, secret, body, t + 301 * SECOND),
				 HP_SIGNATURE_STALE);
		/* the future: the providers' own libraries let it in */
		ck_assert_int_eq(verify_vector(v, secret, body, t - TOLERANCE), HP_SIGNATURE_GOOD);
		ck_assert_int_eq(verify_vector(v, secret, body, t - TOLERANCE - 1),
				 HP_SIGNATURE_STALE);
		ck_assert_int_eq(verify_vector(v, secret, body, t - 301 * SECOND),
				 HP_SIGNATURE_STALE);
		/* wrong and stale is wrong: nobody learns more than that */
		ck_assert_int_eq(verify_vector(v, secret, "x", t + 301 * SECOND), HP_SIGNATURE_BAD);
	}
}
END_TEST

START_TEST(timed_header_refuses)
{
#define GOOD_HEX "e135cdbed3dda004bf8a2fb350f2541d299393c770e0b9e6e319dc595e9072aa"
	static const char *const wrong[] = {
	    "",
	    "t=1614265330",
	    "v1=" GOOD_HEX,
	    "t=,v1=" GOOD_HEX,
	    "t=abc,v1=" GOOD_HEX,
	    "t=1614265330,v1=",
	    "t=1614265330,v0=" GOOD_HEX,
	    "t=1614265331,v1=" GOOD_HEX,
	    "t=01614265330,v1=" GOOD_HEX, /* the digits as sent were signed, not their value */
	    "t=1614265330,t=1614265330,v1=" GOOD_HEX,
	    "t=1614265330,v1=E135CDBED3DDA004",
	    "t=1614265330, v1=" GOOD_HEX,
	    "T=1614265330,V1=" GOOD_HEX,
	    "t=1614265330 v1=" GOOD_HEX,
	    "t=1614265330,v1=" GOOD_HEX "0",
	    "t=-1,v1=" GOOD_HEX,
	    "t=1614265330000000,v1=" GOOD_HEX,
	    ",,,,",
	    "t",
	    "=",
	    "t=1614265330,v1",
	};
	size_t i;

	for (i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *headers[] = {"stripe-signature", wrong[i], NULL};

		ck_assert_msg(verify_at(HP_SCHEME_STRIPE, headers, "{\"id\":\"evt_1\"}",
					"whsec_test_secret", NULL,
					STD_TIME * SECOND) == HP_SIGNATURE_BAD,
			      "%s", wrong[i]);
	}
	/* Stripe's key is the whole text; without whsec_ it is another key. */
	{
		const char *headers[] = {"stripe-signature", "t=1614265330,v1=" GOOD_HEX, NULL};

		ck_assert_int_eq(verify_at(HP_SCHEME_STRIPE, headers, "{\"id\":\"evt_1\"}",
					   "test_secret", NULL, STD_TIME * SECOND),
				 HP_SIGNATURE_BAD);
		/* one source's signature is no other's */
		ck_assert_int_eq(verify_at(HP_SCHEME_DUFFEL, headers, "{\"id\":\"evt_1\"}",
					   "whsec_test_secret", NULL, STD_TIME * SECOND),
				 HP_SIGNATURE_BAD);
	}
}
END_TEST

START_TEST(headers_have_a_maximum)
{
	static char huge[8192];
	const char *headers[] = {"stripe-signature", huge, NULL};

	snprintf(huge, sizeof huge, "t=1614265330,v1=" GOOD_HEX ",v0=");
	memset(huge + strlen(huge), 'a', sizeof huge - strlen(huge) - 1);
	ck_assert_int_eq(verify_at(HP_SCHEME_STRIPE, headers, "{\"id\":\"evt_1\"}",
				   "whsec_test_secret", NULL, STD_TIME * SECOND),
			 HP_SIGNATURE_BAD);
}
END_TEST

/* Bodies are bytes: a NUL is signed like any other, and nothing after it is lost. */
START_TEST(bodies_are_bytes)
{
	static const char body[] = "a\0b";
	struct hp_bytes whole = {body, 3}, half = {body, 1};
	const char *secrets[] = {"s"}, *name;
	const char *headers[] = {"x-duffel-signature", NULL, NULL};
	struct hp_buf out;
	struct hp_error err;

	hp_buf_init(&out, 256);
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_DUFFEL, "s", NULL, SECOND, whole, &out, &name, &err), 0);
	ck_assert_str_eq(name, "x-duffel-signature");
	headers[1] = hp_buf_str(&out);
	ck_assert_int_eq(
	    hp_signature_verify(HP_SCHEME_DUFFEL, find, headers, whole, secrets, 1, SECOND, 0),
	    HP_SIGNATURE_GOOD);
	ck_assert_int_eq(
	    hp_signature_verify(HP_SCHEME_DUFFEL, find, headers, half, secrets, 1, SECOND, 0),
	    HP_SIGNATURE_BAD);
	hp_buf_free(&out);
}
END_TEST

START_TEST(signing_refuses)
{
	struct hp_bytes body = hp_bytes_of("{}");
	struct hp_error err;
	struct hp_buf out;
	const char *name;

	hp_buf_init(&out, 256);
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_STRIPE, "", NULL, SECOND, body, &out, &name, &err), -1);
	ck_assert_int_eq(err.code, HP_E_INVALID);
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_STRIPE, NULL, NULL, SECOND, body, &out, &name, &err), -1);
	ck_assert_int_eq(hp_signature_sign(HP_SCHEME_STANDARD, STD_SECRET, NULL, SECOND, body, &out,
					   &name, &err),
			 -1);
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_STANDARD, "whsec_?", "id", SECOND, body, &out, &name, &err),
	    -1);
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_STRIPE, "s", NULL, -SECOND, body, &out, &name, &err), -1);
	ck_assert_int_eq(
	    hp_signature_sign((enum hp_scheme)9, "s", NULL, SECOND, body, &out, &name, &err), -1);
	ck_assert_int_eq(
	    hp_signature_sign((enum hp_scheme)0, "s", NULL, SECOND, body, &out, &name, &err), -1);
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_STANDARD, STD_SECRET, "", SECOND, body, &out, &name, &err), -1);
	ck_assert_str_eq(hp_buf_str(&out), "");
	hp_buf_free(&out);
	hp_buf_init(&out, 10); /* too small for a header */
	ck_assert_int_eq(
	    hp_signature_sign(HP_SCHEME_STRIPE, "s", NULL, SECOND, body, &out, &name, &err), -1);
	ck_assert_int_eq(err.code, HP_E_TOO_LARGE);
	hp_buf_free(&out);
}
END_TEST

/* Out of memory is never a good signature. */
START_TEST(no_memory_fails_closed)
{
	const char *headers[] = {
	    "webhook-id", STD_ID, "webhook-timestamp", "1614265330", "webhook-signature",
	    STD_GOOD,     NULL};
	int64_t now = STD_TIME * SECOND;
	unsigned long n, count;

	hp_alloc_fail_at(0);
	ck_assert_int_eq(verify_at(HP_SCHEME_STANDARD, headers, BODY, STD_SECRET, NULL, now),
			 HP_SIGNATURE_GOOD);
	count = hp_alloc_count();
	ck_assert_uint_gt(count, 0);
	for (n = 1; n <= count; n++) {
		hp_alloc_fail_at(n);
		ck_assert_int_eq(
		    verify_at(HP_SCHEME_STANDARD, headers, BODY, STD_SECRET, NULL, now),
		    HP_SIGNATURE_BAD);
	}
	hp_alloc_fail_at(0);
}
END_TEST

static int sign_it(void *arg, struct hp_error *err)
{
	struct hp_bytes body = hp_bytes_of(BODY);
	struct hp_buf out;
	const char *name;
	int rc;

	hp_buf_init(&out, 256);
	rc = hp_signature_sign(*(enum hp_scheme *)arg, STD_SECRET, STD_ID, STD_TIME * SECOND, body, &out, &name, err);
	hp_buf_free(&out);
	return rc;
}

START_TEST(no_memory_signs_nothing)
{
	enum hp_scheme schemes[] = {HP_SCHEME_STRIPE, HP_SCHEME_STANDARD};

	for (size_t i = 0; i < 2; i++)
		ck_assert_uint_gt(hp_sweep(sign_it, &schemes[i]), 2);
}
END_TEST

START_TEST(a_scheme_that_is_none_verifies_nothing)
{
	const char *headers[] = {"webhook-id", STD_ID, "webhook-timestamp", "1614265330", "webhook-signature", STD_GOOD, NULL};

	ck_assert_int_eq(verify_at((enum hp_scheme)9, headers, BODY, STD_SECRET, NULL, STD_TIME * SECOND), HP_SIGNATURE_BAD);
}
END_TEST

START_TEST(schemes_by_name)
{
	ck_assert_int_eq(hp_scheme_find("stripe"), HP_SCHEME_STRIPE);
	ck_assert_int_eq(hp_scheme_find("duffel"), HP_SCHEME_DUFFEL);
	ck_assert_int_eq(hp_scheme_find("standard"), HP_SCHEME_STANDARD);
	ck_assert_int_eq(hp_scheme_find("Stripe"), 0);
	ck_assert_int_eq(hp_scheme_find(NULL), 0);
}
END_TEST

/* ---- for the judges ---- */

#define HEADERS_MAX 16

/* Cuts "name: value" lines off the front of text; returns where the body begins. */
static char *read_headers(char *text, const char **headers)
{
	int n = 0;

	while (*text && *text != '\n') {
		char *end = strchr(text, '\n'), *colon = strstr(text, ": ");

		HP_ASSERT(end && colon && colon < end && n < HEADERS_MAX);
		*end = *colon = '\0';
		headers[2 * n] = text;
		headers[2 * n++ + 1] = colon + 2;
		text = end + 1;
	}
	headers[2 * n] = NULL;
	return text + 1;
}

static int judge(int argc, char **argv)
{
	static const char *const words[] = {"good", "bad", "stale"};
	static char text[1 << 20];
	const char *headers[2 * HEADERS_MAX + 1];
	size_t n = fread(text, 1, sizeof text - 1, stdin);
	int64_t now;
	char *body;

	if (argc < 4 || !hp_scheme_find(argv[1]) || hp_int_parse(argv[2], &now) != 0) {
		fprintf(stderr, "usage: %s SCHEME NOW_US SECRET...\n", argv[0]);
		return 2;
	}
	body = read_headers(text, headers);
	puts(words[hp_signature_verify(hp_scheme_find(argv[1]), find, headers,
				       (struct hp_bytes){body, n - (size_t)(body - text)},
				       (const char *const *)(argv + 3), argc - 3, now, TOLERANCE)]);
	return 0;
}

int main(int argc, char **argv)
{
	json_error_t why;
	TCase *t;
	int status;

	if (argc > 1)
		return judge(argc, argv);
	t = tcase_create("all");
	vectors = json_load_file("tests/vectors/webhook_signatures.json", 0, &why);
	if (!vectors) {
		fprintf(stderr,
			"tests/vectors/webhook_signatures.json: %s (run from the project's root)\n",
			why.text);
		return 1;
	}
	tcase_add_test(t, vectors_verify);
	tcase_add_test(t, vectors_sign);
	tcase_add_test(t, vectors_of_hmac);
	tcase_add_test(t, standard_refuses);
	tcase_add_test(t, standard_takes_one_set_of_names);
	tcase_add_test(t, several_signatures);
	tcase_add_test(t, two_secrets);
	tcase_add_test(t, empty_secrets_never_match);
	tcase_add_test(t, tolerance_is_exact);
	tcase_add_test(t, timed_header_refuses);
	tcase_add_test(t, headers_have_a_maximum);
	tcase_add_test(t, bodies_are_bytes);
	tcase_add_test(t, signing_refuses);
	tcase_add_test(t, no_memory_fails_closed);
	tcase_add_test(t, no_memory_signs_nothing);
	tcase_add_test(t, a_scheme_that_is_none_verifies_nothing);
	tcase_add_test(t, schemes_by_name);
	status = hp_run_case("core_signature", t);
	json_decref(vectors);
	return status;
}
