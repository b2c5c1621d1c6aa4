/* Quorum expressions: what is read, what is refused and with which words. */
#include "core/quorum.h"
#include "lib/suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void assert_json(const char *text, const char *json)
{
	struct hp_error err = {0};
	struct hp_quorum q;
	struct hp_buf b;

	hp_buf_init(&b, 4096);
	ck_assert_msg(hp_quorum_parse(text, &q, &err) == 0, "%s: %s", text, err.message);
	ck_assert_int_eq(hp_quorum_json(&q, &b), 0);
	ck_assert_str_eq(hp_buf_str(&b), json);
	hp_buf_free(&b);
}

START_TEST(expressions_are_read)
{
	assert_json("1 of payments", "[{\"n\":1,\"role\":\"payments\"}]");
	assert_json("  2  of sre and 1 of security ",
		    "[{\"n\":2,\"role\":\"sre\"},{\"n\":1,\"role\":\"security\"}]");
	assert_json("20 of on-call.eu", "[{\"n\":20,\"role\":\"on-call.eu\"}]");
	assert_json("1 of and and 1 of of", "[{\"n\":1,\"role\":\"and\"},{\"n\":1,\"role\":\"of\"}]");
}
END_TEST

START_TEST(others_are_refused)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "approvers \"\": a number of votes is missing"},
		{"payments", "approvers \"payments\": a number of votes is missing"},
		{"0 of x", "approvers \"0 of x\": votes must be from 1 to 20"},
		{"99999999999999999999 of x",
		 "approvers \"99999999999999999999 of x\": votes must be from 1 to 20"},
		{"1 x", "approvers \"1 x\": the word \"of\" is missing after the number"},
		{"1 of", "approvers \"1 of\": a role is missing after \"of\""},
		{"1 of a or 1 of b", "approvers \"1 of a or 1 of b\": only \"and\" may follow a role"},
		{"1 of a and", "approvers \"1 of a and\": a number of votes is missing"},
		{"1 of a and 2 of a", "approvers \"1 of a and 2 of a\": a role is named twice"},
		{"1 of a;drop", "approvers \"1 of a;drop\": only \"and\" may follow a role"},
		{"1 of a and 1 of b and 1 of c and 1 of d and 1 of e and 1 of f and 1 of g and 1 of h and 1 of i",
		 "approvers \"1 of a and 1 of b and 1 of c and 1 of d and 1 of e and 1 of f and 1 of g and "
		 "1 of h and 1 of i\": more than 8 roles"},
	};
	struct hp_quorum q;
	size_t i;

	for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct hp_error err = {0};

		ck_assert_int_eq(hp_quorum_parse(cases[i].text, &q, &err), -1);
		ck_assert_str_eq(err.message, cases[i].message);
		ck_assert_int_eq(err.code, HP_E_INVALID);
		ck_assert_msg(err.hint[0] != '\0', "no hint");
	}
}
END_TEST

START_TEST(blanks_are_blanks_and_words_are_whole)
{
	struct hp_quorum q;

	ck_assert_int_eq(hp_quorum_parse("\t1\nof \tsre_team\n and 2 of a.b-c ", &q, NULL), 0);
	ck_assert_int_eq(q.n_terms, 2);
	ck_assert_str_eq(q.terms[0].role, "sre_team");
	ck_assert_str_eq(q.terms[1].role, "a.b-c");
	ck_assert_int_eq(hp_quorum_parse("1 or sre", &q, NULL), -1); /* as long as "of" */
	ck_assert_int_eq(hp_quorum_parse("1 off sre", &q, NULL), -1);
}
END_TEST

START_TEST(a_role_has_a_maximum)
{
	char text[128] = "1 of ";
	struct hp_quorum q;

	memset(text + 5, 'r', 63);
	ck_assert_int_eq(hp_quorum_parse(text, &q, NULL), 0);
	text[5 + 63] = 'r';
	ck_assert_int_eq(hp_quorum_parse(text, &q, NULL), -1);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("quorum");

	tcase_add_test(t, expressions_are_read);
	tcase_add_test(t, others_are_refused);
	tcase_add_test(t, blanks_are_blanks_and_words_are_whole);
	tcase_add_test(t, a_role_has_a_maximum);
	return hp_run_case("core quorum", t);
}
