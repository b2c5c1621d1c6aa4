/* Mail records as the RFCs write them: plugins/dns, without a network. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../plugins/dns/records.h"
#include "lib/suite.h"

static struct problems problems;

static void fresh(void)
{
	problems_free(&problems);
	ck_assert_int_eq(problems_init(&problems), 0);
}

/* "error:syntax warning:no_all" in order; "" when there are none. */
static const char *found(void)
{
	static char text[1000];
	size_t n = 0, i;
	json_t *v;

	text[0] = 0;
	json_array_foreach(problems.list, i, v)
		n += (size_t)snprintf(text + n, sizeof text - n, "%s%s:%s", i ? " " : "",
				      json_string_value(json_object_get(v, "severity")),
				      json_string_value(json_object_get(v, "code")));
	return text;
}

static void is(const char *record, const char *expected)
{
	ck_assert_msg(strcmp(found(), expected) == 0, "%s: %s, not %s", record, found(), expected);
}

/* ---- names ---- */

START_TEST(names)
{
	char label[70], longest[300];

	ck_assert(dns_name_ok("example.com") && dns_name_ok("example.com.") && dns_name_ok("_dmarc.a-b.c"));
	ck_assert(dns_name_ok("xn--mnchen-3ya.de") && dns_name_ok("a"));
	ck_assert(!dns_name_ok("") && !dns_name_ok(".") && !dns_name_ok("a..b") && !dns_name_ok(".a") && !dns_name_ok("a.."));
	ck_assert(!dns_name_ok("a b") && !dns_name_ok("m\xc3\xbcnchen.de") && !dns_name_ok("a/b"));
	memset(label, 'a', sizeof label);
	label[63] = 0;
	ck_assert(dns_name_ok(label));
	label[63] = 'a';
	label[64] = 0;
	ck_assert(!dns_name_ok(label));
	for (int i = 0; i < 299; i++)
		longest[i] = i % 2 ? '.' : 'a';
	longest[253] = 0;
	ck_assert(dns_name_ok(longest));
	longest[253] = '.';
	longest[254] = 'a';
	longest[255] = 0;
	ck_assert(!dns_name_ok(longest));
}
END_TEST

/* ---- SPF ---- */

static const struct {
	const char *record, *problems;
	int lookups; /* terms that ask */
} spfs[] = {
	/* RFC 7208 appendix A and the examples of its sections */
	{"v=spf1 -all", "", 0},
	{"v=spf1 +all", "warning:passes_everybody", 0},
	{"v=spf1 a -all", "", 1},
	{"v=spf1 a:example.org -all", "", 1},
	{"v=spf1 mx -all", "", 1},
	{"v=spf1 mx:example.org -all", "", 1},
	{"v=spf1 mx mx:example.org -all", "", 2},
	{"v=spf1 mx/30 mx:example.org/30 -all", "", 2},
	{"v=spf1 ptr -all", "warning:ptr", 1},
	{"v=spf1 ip4:192.0.2.128/28 -all", "", 0},
	{"v=spf1 include:example.com include:example.net -all", "", 2},
	{"v=spf1 redirect=example.org", "", 1},
	{"v=spf1 a -all exp=explain._spf.%{d}", "", 1},
	{"v=spf1 -include:ip4._spf.%{d} -include:ptr._spf.%{d} +all", "warning:passes_everybody", 2},
	{"v=spf1 exists:%{ir}.%{l1r+-}._spf.%{d} -all", "", 1},
	{"v=spf1 mx redirect=_spf.example.com", "", 2},
	{"v=spf1 +mx a:colo.example.com/28 -all", "", 2},
	{"v=spf1 a:authorized-spf.example.com -all", "", 1},
	{"v=spf1 ip6:2001:db8::/32 ip6:2001:db8:1:2::3 ~all", "", 0},
	{"v=spf1 a//64 mx/24//64 a:example.org/24//96 ?all", "", 3},
	{"V=SPF1 IP4:192.0.2.1 -ALL", "", 0},
	{"v=spf1 unknown=anything.%{d} -all", "", 0},
	{"v=spf1    ip4:192.0.2.1    -all   ", "", 0},
	{"v=spf1", "warning:no_all", 0},
	{"v=spf1 ip4:192.0.2.1", "warning:no_all", 0},
	{"v=spf1 -all a redirect=example.org", "warning:after_all warning:after_all", 2},
	/* what is wrong */
	{"v=spf1 ip4:192.0.2.1/33 -all", "error:syntax", 0},
	{"v=spf1 ip4:192.0.2.1/08 -all", "error:syntax", 0},
	{"v=spf1 ip4:192.0.2 -all", "error:syntax", 0},
	{"v=spf1 ip4 -all", "error:syntax", 0},
	{"v=spf1 ip4: -all", "error:syntax", 0},
	{"v=spf1 ip6:2001:db8::/129 -all", "error:syntax", 0},
	{"v=spf1 ip6:192.0.2.1 -all", "error:syntax", 0},
	{"v=spf1 a: -all", "error:syntax", 0},
	{"v=spf1 a:example.org/ -all", "error:syntax", 0},
	{"v=spf1 a/33 -all", "error:syntax", 0},
	{"v=spf1 a//129 -all", "error:syntax", 0},
	{"v=spf1 include -all", "error:syntax", 0},
	{"v=spf1 include: -all", "error:syntax", 0},
	{"v=spf1 include:localhost -all", "error:syntax", 0},
	{"v=spf1 include:192.0.2.1 -all", "error:syntax", 0},
	{"v=spf1 include:a..b -all", "error:syntax", 0},
	{"v=spf1 exists:%{x}.example.org -all", "error:syntax", 0},
	{"v=spf1 exists:%(d}.example.org -all", "error:syntax", 0},
	{"v=spf1 exists:%{t}.example.org -all", "error:syntax", 0}, /* in explanations only */
	{"v=spf1 all:example.org", "error:syntax warning:no_all", 0},
	{"v=spf1 redirect=", "error:syntax warning:no_all", 0},
	{"v=spf1 redirect=a.example redirect=b.example", "error:duplicate_modifier", 2},
	{"v=spf1 exp=a.example exp=b.example -all", "error:duplicate_modifier", 0},
	{"v=spf1 moo -all", "error:unknown_mechanism", 0},
	{"v=spf1 ipv4:192.0.2.1 -all", "error:unknown_mechanism", 0},
	{"v=spf1 -all.", "error:unknown_mechanism warning:no_all", 0},
	{"v=spf1 --all", "error:unknown_mechanism warning:no_all", 0},
	{"v=spf1 v=spf1 -all", "", 0}, /* an unknown modifier, as it happens */
	{"v=spf1 ip4:192.0.2.1\xc3\xa4 -all", "error:syntax", 0},
	{"v=spf1 ip4:192.0.2.1\t-all", "error:syntax", 0},
};

START_TEST(spf_records)
{
	struct spf s;
	int asks = 0;

	fresh();
	spf_read(spfs[_i].record, "d", &s, &problems);
	is(spfs[_i].record, spfs[_i].problems);
	for (int i = 0; i < s.n; i++)
		asks += spf_asks(s.terms[i].kind);
	if (problems.errors == 0 || spfs[_i].lookups)
		ck_assert_msg(asks == spfs[_i].lookups, "%s: %d", spfs[_i].record, asks);
}
END_TEST

START_TEST(spf_selection)
{
	struct spf s;

	ck_assert(spf_is_record("v=spf1") && spf_is_record("v=spf1 -all") && spf_is_record("V=Spf1 x"));
	ck_assert(!spf_is_record("v=spf10 -all") && !spf_is_record("v=spf1-all") && !spf_is_record("spf1 -all"));
	ck_assert(!spf_is_record(" v=spf1 -all") && !spf_is_record("v=spf1\t-all"));
	fresh();
	spf_read("v=spf1 include:_spf.example.org ~all", "d", &s, &problems);
	ck_assert_str_eq(s.terms[0].domain, "_spf.example.org");
	ck_assert(s.has_all && s.all == '~' && !s.terms[0].macro);
	fresh();
	spf_read("v=spf1 include:%{d}.example.org -all", "d", &s, &problems);
	ck_assert(s.terms[0].macro);
}
END_TEST

/* ---- DKIM ---- */

/* RFC 6376 appendix C, RFC 8463 appendix A */
#define RSA_6376 "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5i" \
		 "jSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
#define ED_8463 "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define RSA_512 "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMRPYWXfmx+Cil4PjFxTEyRbSva20BnfJrJwrNVUnx6RV6MEyLoEOSBaMGSMTITTvoGRDfc7plfkMquv" \
		"TPwcgxkCAwEAAQ=="
#define RSA_2048 "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAqMZk8OqqLhIzSfvAO0i4NAcIX2cpGkxXMQgLqHNfY8B1jYIgqG8etUaMkURoPGC2NuWH" \
		 "iJ8fh/glCM3VVASaqN5Ndzm3quotqjGvO/KIdOYPGOBKlIBlzMlsTLTwylyioPvaJFAaHwFNnPD36PCfDz4s2dPwB+oz9rEO0+gLQ7GuADWuN3Dz" \
		 "LltjkzwhBDarz2Xm8GbYZbVxGnCCRCaX3xxB7cfS/XU8D4YHHtAONggN3W7dhXrNsc1y0TtfqiR8txFEN6M+EFITN1wKn1CT4yBy413zSsnZu7bs" \
		 "9Mm2V4/0nAEF+McUYODCRiKTzPChVIm/NdcuGfQjFxGznYhDWQIDAQAB"
#define RSA_2048_BARE \
	"MIIBCgKCAQEAqMZk8OqqLhIzSfvAO0i4NAcIX2cpGkxXMQgLqHNfY8B1jYIgqG8etUaMkURoPGC2NuWHiJ8fh/glCM3VVASaqN5Ndzm3quotqjGvO/KIdOYPGO" \
	"BKlIBlzMlsTLTwylyioPvaJFAaHwFNnPD36PCfDz4s2dPwB+oz9rEO0+gLQ7GuADWuN3DzLltjkzwhBDarz2Xm8GbYZbVxGnCCRCaX3xxB7cfS/XU8D4YHHtAO" \
	"NggN3W7dhXrNsc1y0TtfqiR8txFEN6M+EFITN1wKn1CT4yBy413zSsnZu7bs9Mm2V4/0nAEF+McUYODCRiKTzPChVIm/NdcuGfQjFxGznYhDWQIDAQAB"

static const struct {
	const char *record, *problems;
	int bits;
} dkims[] = {
	{"v=DKIM1; p=" RSA_6376, "warning:weak_key", 1024},
	{"v=DKIM1; k=ed25519; p=" ED_8463, "", 256},
	{"v=DKIM1; k=rsa; p=" RSA_2048, "", 2048},
	{"p=" RSA_2048, "", 2048},
	{"k=rsa; p=" RSA_2048_BARE ";", "", 2048},
	{"v=DKIM1 ; h=sha1:sha256 ; s=email ; t=s ; n=a note ; p = " RSA_2048, "", 2048},
	{"v=DKIM1; t=y:s; p=" RSA_2048, "warning:testing", 2048},
	{"v=DKIM1; s=*; p=" RSA_2048, "", 2048},
	{"v=DKIM1; p=11qY AYKx\tCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=; k=ed25519", "", 256},
	{"v=DKIM1; k=rsa; p=" RSA_512, "error:short_key", 512},
	{"v=DKIM1; p=", "error:revoked", 0},
	{"v=DKIM1; k=rsa", "error:key_missing", 0},
	{"p=" RSA_2048 "; v=DKIM1", "error:version", 2048},
	{"v=DKIM2; p=" RSA_2048, "error:version", 2048},
	{"v=dkim1; p=" RSA_2048, "error:version", 2048},
	{"v=DKIM1; k=dsa; p=" RSA_2048, "error:unknown_key_type", 0},
	{"v=DKIM1; h=sha1; p=" RSA_2048, "error:hash", 2048},
	{"v=DKIM1; s=web; p=" RSA_2048, "error:service", 2048},
	{"v=DKIM1; p=!!!", "error:bad_key", 0},
	{"v=DKIM1; p=AAAA", "error:bad_key", 0},
	{"v=DKIM1; p=AAA", "error:bad_key", 0},
	{"v=DKIM1; k=ed25519; p=AAAA", "error:bad_key", 24},
	{"v=DKIM1; k=rsa; p=" ED_8463, "error:bad_key", 0},
	{"v=DKIM1; p=" ED_8463 "; p=x", "error:duplicate_tag", 0},
	{"v=DKIM1; 1p=x", "error:syntax", 0},
	{"v=DKIM1; nonsense", "error:syntax", 0},
	{"v=DKIM1;; p=x", "error:syntax", 0},
	{"v=spf1 -all", "error:version error:key_missing", 0},
};

START_TEST(dkim_records)
{
	json_t *out = json_object();

	fresh();
	dkim_read(dkims[_i].record, out, &problems);
	is(dkims[_i].record, dkims[_i].problems);
	ck_assert_int_eq((int)json_integer_value(json_object_get(out, "bits")), dkims[_i].bits);
	json_decref(out);
}
END_TEST

/* ---- DMARC ---- */

#define RUA "rua=mailto:dmarc-feedback@example.com"

static const struct {
	const char *record, *problems, *policy, *subdomains;
	int percent;
} dmarcs[] = {
	/* RFC 7489 appendix B.2 */
	{"v=DMARC1; p=none; " RUA, "warning:no_enforcement", "none", "none", 100},
	{"v=DMARC1; p=none; " RUA "; ruf=mailto:auth-reports@example.com", "warning:no_enforcement", "none", "none", 100},
	{"v=DMARC1; p=quarantine; " RUA ",mailto:tld-test@thirdparty.example.net!10m; pct=25", "warning:partial", "quarantine",
	 "quarantine", 25},
	{"v=DMARC1; p=reject; sp=none; adkim=s; aspf=r; fo=1:d:s; rf=afrf; ri=86400; " RUA, "", "reject", "none", 100},
	{"v = DMARC1 ;p=REJECT;" RUA " , mailto:b@example.com", "", "reject", "reject", 100},
	{"v=DMARC1; p=reject", "warning:no_reports", "reject", "reject", 100},
	{"v=DMARC1; " RUA "; p=reject", "warning:order", "reject", "reject", 100},
	{"v=DMARC1; p=reject; " RUA ";", "", "reject", "reject", 100},
	{"v=DMARC1; p=reject; x=unknown; " RUA, "", "reject", "reject", 100},
	{"v=DMARC1; " RUA, "error:policy_missing", "none", "none", 100},
	{"v=DMARC1", "warning:no_reports error:policy_missing", "none", "none", 100},
	{"v=DMARC1; p=block; " RUA, "error:policy_invalid", "none", "none", 100},
	{"v=DMARC1; p=reject; sp=block; " RUA, "error:policy_invalid", "reject", "reject", 100},
	{"v=DMARC1; p=reject; pct=101; " RUA, "error:bad_value", "reject", "reject", 100},
	{"v=DMARC1; p=reject; pct=-1; " RUA, "error:bad_value", "reject", "reject", 100},
	{"v=DMARC1; p=reject; pct=0; " RUA, "warning:partial", "reject", "reject", 0},
	{"v=DMARC1; p=reject; adkim=x; " RUA, "error:bad_value", "reject", "reject", 100},
	{"v=DMARC1; p=reject; fo=1:; " RUA, "error:bad_value", "reject", "reject", 100},
	{"v=DMARC1; p=reject; fo=2; " RUA, "error:bad_value", "reject", "reject", 100},
	{"v=DMARC1; p=reject; ri=soon; " RUA, "error:bad_value", "reject", "reject", 100},
	{"v=DMARC1; p=reject; rua=dmarc@example.com", "error:bad_uri warning:no_reports", "reject", "reject", 100},
	{"v=DMARC1; p=reject; rua=mailto:a@example.com!10x", "error:bad_uri warning:no_reports", "reject", "reject", 100},
	{"v=DMARC1; p=reject; rua=mailto:@example.com", "error:bad_uri warning:no_reports", "reject", "reject", 100},
	{"v=DMARC1; p=reject; rua=https://example.com/r," "mailto:a@example.com", "error:bad_uri", "reject", "reject", 100},
	{"v=DMARC1; p=reject; p=none", "error:duplicate_tag", NULL, NULL, 0},
	{"v=DMARC1 p=reject", "error:version warning:no_reports error:policy_missing", "none", "none", 100},
};

START_TEST(dmarc_records)
{
	json_t *out = json_object();

	fresh();
	ck_assert(dmarc_is_record(dmarcs[_i].record));
	dmarc_read(dmarcs[_i].record, out, &problems);
	is(dmarcs[_i].record, dmarcs[_i].problems);
	if (dmarcs[_i].policy) {
		ck_assert_str_eq(json_string_value(json_object_get(out, "policy")), dmarcs[_i].policy);
		ck_assert_str_eq(json_string_value(json_object_get(out, "subdomain_policy")), dmarcs[_i].subdomains);
		ck_assert_int_eq((int)json_integer_value(json_object_get(out, "percent")), dmarcs[_i].percent);
	}
	json_decref(out);
}
END_TEST

START_TEST(dmarc_selection)
{
	ck_assert(dmarc_is_record("v=DMARC1") && dmarc_is_record("v=DMARC1;p=none") && dmarc_is_record("v\t= DMARC1 ; x"));
	ck_assert(!dmarc_is_record("v=DMARC2; p=none") && !dmarc_is_record("v=dmarc1; p=none") && !dmarc_is_record("p=none; v=DMARC1"));
	ck_assert(!dmarc_is_record("v=DMARC10") && !dmarc_is_record("") && !dmarc_is_record("v") && !dmarc_is_record("V=DMARC1"));
}
END_TEST

/* Records are other people's: nothing they write may do more than be refused. */
START_TEST(noise)
{
	static const char letters[] = " ;=:/%{}v=spf1+-~?alinmxpr4602.!@,DKIMARC\"\\\x01\xff";
	uint64_t s = UINT64_C(0x9E3779B97F4A7C15);

	printf("noise: seed %llu\n", (unsigned long long)s);
	for (int round = 0; round < 20000; round++) {
		char text[200] = "v=spf1 ";
		size_t n = 7;
		struct spf spf;
		json_t *out = json_object();

		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		for (uint64_t k = s % 120, x = s; k > 0; k--) {
			x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
			text[n++] = letters[(x >> 33) % (sizeof letters - 1)];
		}
		text[n] = 0;
		fresh();
		spf_read(text, "d", &spf, &problems);
		dkim_read(text + 7, out, &problems);
		dmarc_read(text + 7, out, &problems);
		(void)dmarc_is_record(text + 7);
		(void)dns_name_ok(text);
		json_decref(out);
	}
	problems_free(&problems);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("plugin dns");

	tcase_add_test(t, names);
	tcase_add_loop_test(t, spf_records, 0, (int)(sizeof spfs / sizeof *spfs));
	tcase_add_test(t, spf_selection);
	tcase_add_loop_test(t, dkim_records, 0, (int)(sizeof dkims / sizeof *dkims));
	tcase_add_loop_test(t, dmarc_records, 0, (int)(sizeof dmarcs / sizeof *dmarcs));
	tcase_add_test(t, dmarc_selection);
	tcase_add_test(t, noise);
	return hp_run_case("plugin dns", t);
}
