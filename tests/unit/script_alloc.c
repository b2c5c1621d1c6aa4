/* Every allocation fails in turn: an error comes out, and nothing leaks or falls over.
 * (Leaks are seen by the sanitizer and by valgrind.) */
#include "script_help.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "lib/suite.h"

static const char source[] = "local bank = connector \"bank\"\nreturn workflow \"w\" {\n"
			     "call \"pay\" { bank.transfers.create, with = { amount = '{input.n}', to = 'x' } },\n"
			     "succeed \"done\" { result = { n = '{input.n}' } } }";

static const char *secret_of(void *arg, const char *name, const char *version)
{
	(void)version;
	(void)arg;
	return name;
}

static void on_change(void *arg, const struct hp_change *c)
{
	ck_abort_msg("without its allocation %lu it is another definition: %s", *(unsigned long *)arg, c->sentence);
}

/* It is loaded whole (Lua asks again after it has collected its garbage), or not at all. */
START_TEST(loading)
{
	struct hp_error none = {0};
	struct hp_workflow *whole = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &none), *w;
	unsigned long n = 0, made;
	int refused = 0;

	ck_assert_msg(whole != NULL, "%s", none.message);
	do {
		struct hp_error err = {0};

		hp_alloc_fail_at(++n);
		w = load_file(FIXTURES "/workflows/all.lua", FIXTURES "/plugins", &err);
		made = hp_alloc_count();
		hp_alloc_fail_at(0);
		if (w)
			hp_workflow_diff(whole, w, on_change, &n);
		else
			ck_assert_msg(err.message[0] != '\0', "no message at allocation %lu", n);
		refused += !w;
		hp_workflow_free(w);
	} while (made >= n);
	ck_assert_int_gt(refused, 10);
	hp_workflow_free(whole);
}
END_TEST

/* One question, one sending, one reply; true when all went well. What is rendered is
 * the same bytes every time or nothing. */
static bool work(struct hp_workflow *w)
{
	static uint8_t hash[HP_SHA256_LEN];
	static bool known;
	struct hp_run_data data = {.id = 7, .visit = 1, .installation = "t", .input = hp_bytes_of("{\"n\":5}"), .now = 1};
	struct hp_run run = {.id = 7, .visit = 1};
	struct hp_action act = {.type = HP_ACT_EVAL, .eval = HP_EVAL_REQUEST};
	struct hp_incoming in = {.answered = true, .status = 200, .body = hp_bytes_of("{\"id\":1}")};
	struct hp_environment env = {.secret = secret_of};
	struct hp_arena *a = hp_arena_new(1 << 20);
	struct hp_buf out, out2;
	struct hp_outgoing o;
	struct hp_error err = {0};
	struct hp_event ev, reply;
	bool good = false;

	hp_buf_init(&out, HP_RUN_DATA_MAX);
	hp_buf_init(&out2, HP_RUN_DATA_MAX);
	hp_workflow_eval(w, &data, &run, &act, &out, &ev);
	if (!ev.ok)
		ck_assert_ptr_nonnull(ev.code);
	else if (known)
		ck_assert_mem_eq(hash, ev.hash, sizeof hash);
	if (ev.ok) {
		memcpy(hash, ev.hash, sizeof hash);
		known = true;
	}
	if (a && ev.ok && hp_workflow_outgoing(w, ev.value, &env, a, &o, &err) == 0) {
		hp_workflow_reply(w, ev.value, &in, 1, &out2, &reply);
		good = reply.outcome == HP_CLASS_OK;
	}
	hp_buf_free(&out);
	hp_buf_free(&out2);
	hp_arena_free(a);
	return good;
}

START_TEST(evaluating)
{
	struct hp_workflow *w = must_load(source);
	unsigned long n, total;

	hp_alloc_fail_at(0);
	ck_assert(work(w));
	total = hp_alloc_count();
	ck_assert_uint_gt(total, 50);
	for (n = 1; n <= total; n++) {
		hp_alloc_fail_at(n);
		work(w);
		hp_alloc_fail_at(0);
		ck_assert_msg(work(w), "it did not recover from allocation %lu", n);
	}
	hp_workflow_free(w);
}
END_TEST

/* Every time some memory is missing: it is blackened, or it is not there. */
START_TEST(blackening)
{
	static const struct hp_used_secret used[] = {{"USER", "bobs-name", NULL}, {"KEY", "tell-nobody", "cGFpcg=="}};
	unsigned long n = 0, total = 0;

	do {
		struct hp_scrubber s;
		struct hp_buf out;
		int rc;

		hp_buf_init(&out, 1 << 20);
		hp_alloc_fail_at(++n);
		rc = hp_scrubber_init(&s, used, 2);
		if (rc == 0)
			rc = hp_scrub(&s, hp_bytes_of("cGFpcg==: tell-nobody 74656c6c2d6e6f626f6479"), &out);
		total = hp_alloc_count();
		hp_alloc_fail_at(0);
		ck_assert_int_eq(rc, n > total ? 1 : -1);
		ck_assert_str_eq(hp_buf_str(&out), n > total ? "[secret KEY]: [secret KEY] [secret KEY]" : "");
		hp_scrubber_free(&s);
		hp_buf_free(&out);
	} while (n <= total);
	ck_assert_uint_gt(total, 5);
}
END_TEST

START_TEST(a_reply_that_brings_secrets)
{
	struct hp_workflow *w = must_load("local bank = connector \"bank\"\nreturn workflow \"w\" {\n"
					  "call \"a\" { bank.letters.send, with = {}, save = secret { KEY = \"key\", as = \"new\" } },\n"
					  "succeed \"done\" {} }");
	json_t *docs = json_pack("[{s:i, s:s}]", "version", 3, "fingerprint", "f0");
	unsigned long n = 0, total = 0;

	do {
		json_t *value = json_pack("{s:s, s:s}", "key", "tell-nobody", "note", "it is tell-nobody!");
		struct hp_error err = {0};
		struct hp_buf out;
		int rc;

		hp_buf_init(&out, 1 << 20);
		hp_alloc_fail_at(++n);
		rc = hp_workflow_secret_refs(w, 0, &value, docs, &out, &err);
		total = hp_alloc_count();
		hp_alloc_fail_at(0);
		ck_assert_msg(rc == 0 || n <= total, "%s", err.message);
		ck_assert_msg(rc != 0 || !strstr(hp_buf_str(&out), "nobody"), "allocation %lu: %s", n, hp_buf_str(&out));
		json_decref(value);
		hp_buf_free(&out);
	} while (n <= total);
	ck_assert_uint_gt(total, 5);
	json_decref(docs);
	hp_workflow_free(w);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("alloc");

	tcase_set_timeout(t, 300);
	tcase_add_test(t, loading);
	tcase_add_test(t, evaluating);
	tcase_add_test(t, blackening);
	tcase_add_test(t, a_reply_that_brings_secrets);
	return hp_run_case("script alloc", t);
}
