/* What people configure: durations, numbers, quorums, options of commands, keys, hosts,
 * addresses. Each is read as a second reading says, printed and read again.
 *
 * Input: a text of any of these; for options, a word on each line. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include "base/words.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/seal.h"
#include "cli/options.h"
#include "core/quorum.h"
#include "lib/fuzz.h"
#include "net/http_client_private.h"

static void check_numbers(const char *text)
{
	struct hp_error err = {0};
	int64_t us, v;
	char *end, shown[64];
	long long ll;
	bool digits = text[0] && strspn(text + (text[0] == '-'), "0123456789") == strlen(text) - (text[0] == '-');

	errno = 0;
	ll = strtoll(text, &end, 10);
	if (hp_int_parse(text, &v) == 0)
		MUST(digits && errno == 0 && v == ll, "%s", text);
	else
		MUST(!digits || strcmp(text, "-") == 0 || errno == ERANGE, "%s", text);
	if (hp_duration_parse(text, &us, &err) < 0) {
		must_explain(&err);
		return;
	}
	MUST(us > 0 && us % HP_MSEC == 0 && strspn(text, "0123456789") > 0, "%s", text);
	MUST(strlen(hp_duration_format(us, shown, sizeof shown)) < 32);
	if (!strchr(shown, ' ')) { /* one unit: nothing was dropped but what is below a second one */
		MUST(hp_duration_parse(shown, &v, &err) == 0 && v <= us && us - v < us / 2 + 1, "%s is %s", text, shown);
	}
}

static void check_quorum(const char *text)
{
	struct hp_error err = {0};
	struct hp_quorum q, again;
	struct hp_buf json, words;
	json_t *v;

	if (hp_quorum_parse(text, &q, &err) < 0) {
		must_explain(&err);
		return;
	}
	MUST(q.n_terms > 0 && q.n_terms <= HP_QUORUM_TERMS_MAX);
	hp_buf_init(&json, 4096);
	hp_buf_init(&words, 4096);
	MUST(hp_quorum_json(&q, &json) == 0);
	v = hp_json_parse(json.p, json.n, "a quorum", &err);
	MUST(json_array_size(v) == (size_t)q.n_terms, "%s", err.message);
	for (int i = 0; i < q.n_terms; i++) {
		MUST(q.terms[i].n > 0 && q.terms[i].role[0] && memchr(q.terms[i].role, '\0', sizeof q.terms[i].role));
		hp_buf_printf(&words, "%s%d of %s", i ? " and " : "", q.terms[i].n, q.terms[i].role);
	}
	MUST(hp_quorum_parse(hp_buf_str(&words), &again, &err) == 0, "%s: %s", words.p, err.message);
	hp_buf_clear(&words);
	MUST(hp_quorum_json(&again, &words) == 0 && words.n == json.n && memcmp(words.p, json.p, json.n) == 0);
	json_decref(v);
	hp_buf_free(&json);
	hp_buf_free(&words);
}

static void check_keys(const char *text)
{
	struct hp_seal_keys k = {0};
	struct hp_error err = {0};

	if (hp_seal_keys_parse(&k, text, &err) < 0)
		must_explain(&err);
	else
		MUST(k.n >= 1 && k.n <= HP_SEAL_KEYS_MAX);
	hp_seal_keys_forget(&k);
}

/* What wears an IPv4 address inside IPv6 is as private as the address itself. */
static void check_address(const char *text)
{
	const char *allowed[] = {text};
	struct hp_http_request rq = {.allow_hosts = allowed, .n_allow_hosts = 1};
	char mapped[128];
	uint8_t a[16];

	if (inet_pton(AF_INET, text, a) == 1) {
		snprintf(mapped, sizeof mapped, "::ffff:%.40s", text);
		MUST(hp_http_text_is_private(text) == hp_http_text_is_private(mapped), "%s", text);
		MUST((a[0] != 127 && a[0] != 10 && a[0] != 0) || hp_http_text_is_private(text), "%s", text);
		snprintf(mapped, sizeof mapped, "64:ff9b::%.40s", text);
		MUST(hp_http_text_is_private(text) == hp_http_text_is_private(mapped), "%s", text);
	} else if (inet_pton(AF_INET6, text, a) != 1) {
		MUST(hp_http_text_is_private(text), "not an address, and allowed: %s", text);
	}
	if (hp_http_host_allowed(&rq, "api.example.com", 443, 443))
		MUST(strncasecmp(text, "api.example.com", 15) == 0 && (text[15] == '\0' || text[15] == ':'), "%s", text);
}

static void check_options(struct hp_bytes text)
{
	static const struct cli_option options[] = {
		{"wait", "DURATION", "how long"}, {"all", NULL, "everything"}, {"key", "KEY", "which"}, {0}};
	static const struct cli_spec spec = {.name = "fuzz", .args = "NAME...", .text = "nothing", .options = options,
					     .letter = "k", .letter_of = "key", .min_args = 1, .max_args = 3, .client = true};
	struct hp_input in = {(const uint8_t *)text.p, text.n};
	char *argv[CLI_ARGS_MAX + 8] = {text_of(hp_bytes_of("fuzz"))};
	static FILE *nowhere;
	FILE *out = stdout, *errors = stderr;
	struct cli_args a;
	int argc = 1, code;

	while (in.n > 0 && argc < CLI_ARGS_MAX + 7)
		argv[argc++] = text_of(in_until(&in, '\n'));
	if (!nowhere)
		nowhere = fopen("/dev/null", "w");
	MUST(nowhere != NULL);
	stdout = stderr = nowhere; /* it says what is wrong, and help */
	code = cli_parse(&spec, argc, argv, &a);
	stdout = out;
	stderr = errors;
	if (code < 0) {
		MUST(a.n >= 1 && a.n <= 3 && a.n_given <= CLI_ARGS_MAX);
		MUST(a.json == cli_has(&a, "json") && (!cli_has(&a, "key") || cli_value(&a, "key")));
		for (int i = 0; i < a.n; i++)
			MUST(a.arg[i] != NULL);
	} else {
		MUST(code == 0 || code == 2, "exit code %d", code);
	}
	for (int i = 0; i < argc; i++)
		free(argv[i]);
}

HP_FUZZ(words)
{
	struct hp_bytes bytes = {(const char *)p, n};
	char *text = text_of(bytes);

	check_numbers(text);
	check_quorum(text);
	check_keys(text);
	check_address(text);
	check_options(bytes);
	free(text);
}
