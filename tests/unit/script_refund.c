/* The shipped workflow refund_on_booking_failure, function by function: what it
 * signs, which way it takes, what it says. The roads as a whole are driven by the
 * end-to-end tests; here are the corners that take days or a broken Stripe. */
#include <stdio.h>
#include "base/clock.h"
#include "core/machine.h"
#include "lib/suite.h"
#include "script_help.h"

#define NOW (INT64_C(1752019200) * HP_SECOND)
#define PAYMENT \
	"\"payment\":{\"id\":\"p1\",\"booking_id\":\"ord_1\",\"user_id\":\"u1\",\"intent\":\"pi_1\"," \
	"\"amount\":50000,\"currency\":\"usd\",\"reference\":\"RZPNX8\"},\"row\":{\"id\":\"r1\",\"status\":\"pending\"}"
#define REFUND(status, more) \
	"\"refund\":{\"id\":\"re_1\",\"amount\":50000,\"status\":\"" status "\"" more "}"

static struct hp_workflow *w;
static struct hp_error err;
static struct hp_event ev;
static struct hp_buf out;

static void setup(void)
{
	w = load_file("workflows/refund_on_booking_failure.lua", "plugins", &err);
	ck_assert_msg(w != NULL, "%s", err.message);
	hp_buf_init(&out, HP_RUN_DATA_MAX);
}

static void teardown(void)
{
	hp_buf_free(&out);
	hp_workflow_free(w);
}

/* Evaluates one expression of a state over the saved values; ev has the answer. */
static const char *ask_over(enum hp_eval what, const char *state, int index, const char *saved, const char *reply)
{
	char all[8192];
	struct hp_run_data data = {.id = 7, .visit = 3, .installation = "i", .key = hp_bytes_of("ord_1"),
				   .input = hp_bytes_of("{}"), .now = NOW};
	struct hp_run run = {.id = 7, .visit = 3};
	struct hp_action act = {.type = HP_ACT_EVAL, .eval = what, .index = index};

	if (strncmp(saved, "\"payment\"", 9) == 0) /* a payment of its own */
		snprintf(all, sizeof all, "{%s}", saved);
	else
		snprintf(all, sizeof all, "{%s%s%s}", PAYMENT, *saved ? "," : "", saved);
	data.saved = hp_bytes_of(all);
	act.state = run.state = hp_definition_find(hp_workflow_definition(w), state);
	ck_assert_msg(act.state >= 0, "no state %s", state);
	act.value = hp_bytes_of(reply);
	hp_workflow_eval(w, &data, &run, &act, &out, &ev);
	ck_assert_msg(ev.ok, "%s: %s", state, ev.message);
	return hp_buf_str(&out);
}

static const char *ask(enum hp_eval what, const char *state, const char *saved)
{
	return ask_over(what, state, 0, saved, NULL);
}

static bool when(const char *state, int index, const char *saved)
{
	ask_over(HP_EVAL_WHEN, state, index, saved, NULL);
	return ev.truth;
}

static void no_fatal(void *arg, const struct hp_finding *f)
{
	(void)arg;
	ck_assert_msg(!f->fatal, "%s:%d: %s", f->file, f->line, f->sentence);
}

START_TEST(passes_check)
{
	ck_assert_int_eq(hp_workflow_check(w, no_fatal, NULL), 0);
}
END_TEST

/* One run per booking, whichever way the event names it. */
START_TEST(keys)
{
	static const char *const bodies[][2] = {
		{"plugins/duffel/samples/order.creation_failed.json", "ord_0000HoldpointDemo1"},
		{"plugins/duffel/samples/booking.failed.json", "booking_123"},
	};
	struct hp_buf text;
	size_t i;

	hp_buf_init(&text, 65536);
	for (i = 0; i < 2; i++) {
		json_t *v = json_load_file(bodies[i][0], 0, NULL);

		ck_assert_ptr_nonnull(v);
		hp_buf_clear(&text);
		hp_buf_clear(&out);
		ck_assert_int_eq(hp_json_write(&text, v, &err), 0);
		ck_assert_msg(hp_workflow_check_input(w, hp_buf_bytes(&text), &err) == 0, "%s", err.message);
		ck_assert_msg(hp_workflow_key(w, hp_buf_bytes(&text), &out, &err) == 0, "%s", err.message);
		ck_assert_str_eq(hp_buf_str(&out), bodies[i][1]);
		json_decref(v);
	}
	hp_buf_free(&text);
}
END_TEST

/* To the byte: this is what a person signs and Stripe gets. */
START_TEST(request_is_exact)
{
	json_t *request;

	ask(HP_EVAL_REQUEST, "refund", "");
	request = hp_json_parse(ev.value.p, ev.value.n, "request", &err);
	ck_assert_str_eq(hp_json_str(request, "body"),
			 "amount=50000&metadata[booking_id]=ord_1&metadata[refund_id]=r1&payment_intent=pi_1&"
			 "reason=requested_by_customer");
	ck_assert_str_eq(hp_json_str(request, "path"), "/v1/refunds");
	ck_assert_str_eq(hp_json_str(json_object_get(request, "headers"), "idempotency-key"), "refund:p1");
	ck_assert(ev.key.n == 9 && memcmp(ev.key.p, "refund:p1", 9) == 0);
	json_decref(request);
}
END_TEST

START_TEST(small_amounts_are_not_asked_about)
{
	ck_assert(when("review", 0, ""));
	ck_assert(!when("review", 0, "\"payment\":{\"amount\":49999}"));
}
END_TEST

START_TEST(question_names_money_and_booking)
{
	ck_assert_ptr_nonnull(strstr(ask(HP_EVAL_APPROVAL, "review", ""),
				     "Refund 500.00 USD for booking RZPNX8? The airline refused it."));
}
END_TEST

/* The probe: ours, none, or not all of the list was seen. */
START_TEST(probe_looks_for_ours)
{
	static const struct {
		const char *list;
		enum hp_verdict verdict;
	} replies[] = {
		{"{\"data\":[],\"has_more\":false}", HP_VERDICT_ABSENT},
		{"{\"data\":[],\"has_more\":true}", HP_VERDICT_UNKNOWN},
		{"{\"data\":[{\"id\":\"a\",\"amount\":50000,\"status\":\"pending\"}],\"has_more\":true}", HP_VERDICT_FOUND},
		{"{\"data\":[{\"id\":\"a\",\"amount\":1,\"status\":\"succeeded\"}],\"has_more\":false}", HP_VERDICT_ABSENT},
		{"{\"data\":[{\"id\":\"a\",\"amount\":50000,\"status\":\"failed\"}],\"has_more\":false}", HP_VERDICT_ABSENT},
		{"{\"data\":[{\"id\":\"a\",\"amount\":50000,\"status\":\"canceled\"},"
		 "{\"id\":\"b\",\"amount\":50000,\"status\":\"succeeded\"}],\"has_more\":false}", HP_VERDICT_FOUND},
	};
	size_t i;

	for (i = 0; i < sizeof replies / sizeof *replies; i++) {
		ask_over(HP_EVAL_FOUND, "refund", 0, "", replies[i].list);
		ck_assert_msg(ev.verdict == replies[i].verdict, "%s: %d", replies[i].list, ev.verdict);
	}
	ck_assert_ptr_nonnull(strstr(hp_buf_str(&out), "\"id\":\"b\""));
}
END_TEST

START_TEST(list_of_an_earlier_refund)
{
	ck_assert_str_eq(ask(HP_EVAL_SET, "look", "\"refunds\":{\"data\":[],\"has_more\":false}"), "{\"refund\":false}");
	ck_assert(!when("found_ours", 0, "\"refund\":false"));
	ck_assert(when("found_ours", 0, REFUND("succeeded", "")));
}
END_TEST

/* Branches: 0 wrong amount, 1 succeeded, 2 failed or canceled; else it is awaited. */
START_TEST(where_it_stands)
{
	static const struct {
		const char *refund;
		int branch; /* -1: otherwise */
	} cases[] = {
		{REFUND("pending", ""), -1},         {REFUND("requires_action", ""), -1},
		{REFUND("succeeded", ""), 1},        {REFUND("failed", ""), 2},
		{REFUND("canceled", ""), 2},         {"\"refund\":{\"id\":\"re_1\",\"amount\":49999,\"status\":\"succeeded\"}", 0},
	};
	size_t i;

	for (i = 0; i < sizeof cases / sizeof *cases; i++) {
		int b = 0;

		while (b < 3 && !when("where_it_stands", b, cases[i].refund)) /* the first that holds */
			b++;
		ck_assert_msg(b == (cases[i].branch < 0 ? 3 : cases[i].branch), "%s: %d", cases[i].refund, b);
	}
}
END_TEST

/* What is kept of an event: nothing but the refund's fate. */
START_TEST(event_is_taken_over)
{
	ck_assert_str_eq(ask(HP_EVAL_SET, "confirm", REFUND("pending", "") ",\"event\":{\"data\":{\"object\":{\"id\":\"re_1\","
		"\"status\":\"failed\",\"amount\":50000,\"failure_reason\":\"declined\",\"destination_details\":{\"x\":1}}}}"),
		"{\"refund\":{\"amount\":50000,\"failure_reason\":\"declined\",\"id\":\"re_1\",\"status\":\"failed\"}}");
	ask(HP_EVAL_MAILBOX, "confirm", REFUND("pending", ""));
	ck_assert(ev.key.n > 0 && strstr(hp_buf_str(&out), "re_1"));
}
END_TEST

START_TEST(patience_has_an_end)
{
	char saved[64];

	snprintf(saved, sizeof saved, "\"asked_since\":%lld", (long long)(NOW - 24 * HP_HOUR + 1));
	ck_assert(!when("ask_again", 0, saved));
	snprintf(saved, sizeof saved, "\"asked_since\":%lld", (long long)(NOW - 24 * HP_HOUR));
	ck_assert(when("ask_again", 0, saved));
	ck_assert(!when("still_pending", 0, "\"looked\":4," REFUND("pending", "")));
	ck_assert(when("still_pending", 0, "\"looked\":5," REFUND("pending", "")));
	ck_assert(!when("still_pending", 0, "\"looked\":5," REFUND("succeeded", "")));
	ck_assert_str_eq(ask(HP_EVAL_SET, "ask_stripe", "\"looked\":4," REFUND("pending", "")), "{\"looked\":5}");
}
END_TEST

/* One sentence for every way a refund can go wrong. */
START_TEST(reasons)
{
	static const struct {
		const char *saved, *sentence;
	} cases[] = {
		{"\"error\":{\"code\":\"charge_disputed\",\"message\":\"m\",\"class\":\"terminal\",\"state\":\"refund\"}",
		 "the refund did not go through: charge_disputed: m"},
		{"\"refund\":false,\"error\":{\"code\":\"stored_error\",\"message\":\"m\"}",
		 "the refund did not go through: stored_error: m"},
		{REFUND("failed", ",\"failure_reason\":\"declined\""), "the refund did not go through: Stripe's refund re_1 failed: declined"},
		{REFUND("canceled", ",\"failure_reason\":null"), "the refund did not go through: Stripe's refund re_1 is canceled"},
		{REFUND("pending", ""), "the refund did not go through: Stripe's refund re_1 is pending"},
		{"\"refund\":{\"id\":\"re_1\",\"amount\":1,\"status\":\"succeeded\"}",
		 "the refund did not go through: Stripe's refund re_1 is of 1 instead of 50000"},
	};
	size_t i;

	for (i = 0; i < sizeof cases / sizeof *cases; i++) {
		ck_assert_msg(strstr(ask(HP_EVAL_RESULT, "failed", cases[i].saved), cases[i].sentence) != NULL, "%s",
			      hp_buf_str(&out));
		ask(HP_EVAL_REQUEST, "tell_lead", cases[i].saved); /* renders for each of them */
		ask(HP_EVAL_ARGS, "close_failed", cases[i].saved);
	}
}
END_TEST

START_TEST(currencies_without_minor_units)
{
	static const char yen[] = "\"payment\":{\"id\":\"p\",\"booking_id\":\"b\",\"amount\":50000,\"currency\":\"jpy\","
				  "\"reference\":\"R\",\"intent\":\"pi\"},\"row\":{\"id\":\"r\"}";

	ck_assert_ptr_nonnull(strstr(ask(HP_EVAL_APPROVAL, "review", yen), "Refund 50000 JPY for booking R?"));
	ck_assert_ptr_nonnull(strstr(ask(HP_EVAL_REQUEST, "escalate", yen), "50000 JPY"));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		passes_check, keys, request_is_exact, small_amounts_are_not_asked_about, question_names_money_and_booking,
		probe_looks_for_ours, list_of_an_earlier_refund, where_it_stands, event_is_taken_over, patience_has_an_end,
		reasons, currencies_without_minor_units,
	};
	TCase *t = tcase_create("all");
	size_t i;

	tcase_set_timeout(t, 60); /* under valgrind */
	tcase_add_checked_fixture(t, setup, teardown);
	for (i = 0; i < sizeof tests / sizeof *tests; i++)
		tcase_add_test(t, tests[i]);
	return hp_run_case("script_refund", t);
}
