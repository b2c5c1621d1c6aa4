/* The command line's own rules: options, numbers, and what may reach a terminal. */
#include <string.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/print.h"
#include "lib/suite.h"

static const struct cli_option options[] = {
	{ "input", "JSON", "a value" },
	{ "all", NULL, "a flag" },
	{ 0 },
};
static const struct cli_spec spec = {
	.name = "thing", .args = "A [B]", .text = "Does it.", .options = options, .min_args = 1, .max_args = 2,
};

#define WORDS(...) (char *[]){ (char *)"thing", __VA_ARGS__ }
#define PARSE(a, ...) \
	cli_parse(&spec, (int)(sizeof WORDS(__VA_ARGS__) / sizeof(char *)), WORDS(__VA_ARGS__), (a))

START_TEST(options_in_any_order)
{
	struct cli_args a;

	ck_assert_int_lt(PARSE(&a, "x", "--input", "1", "--all", "y", "--json"), 0);
	ck_assert_int_eq(a.n, 2);
	ck_assert_str_eq(a.arg[0], "x");
	ck_assert_str_eq(a.arg[1], "y");
	ck_assert_str_eq(cli_value(&a, "input"), "1");
	ck_assert(cli_has(&a, "all") && a.json);
	ck_assert_ptr_null(cli_value(&a, "help"));
}
END_TEST

START_TEST(equals_repetition_and_the_end_of_options)
{
	struct cli_args a;

	ck_assert_int_lt(PARSE(&a, "--input=a=b", "--input", "--all", "--", "--all"), 0);
	ck_assert_str_eq(cli_value_at(&a, "input", 0), "a=b");
	ck_assert_str_eq(cli_value_at(&a, "input", 1), "--all"); /* a value may look like an option */
	ck_assert_ptr_null(cli_value_at(&a, "input", 2));
	ck_assert_str_eq(cli_value(&a, "input"), "--all");
	ck_assert(!cli_has(&a, "all"));
	ck_assert_str_eq(a.arg[0], "--all");
	ck_assert_int_lt(PARSE(&a, "-"), 0); /* standard input is an argument */
}
END_TEST

START_TEST(wrong_words_are_refused)
{
	struct cli_args a;

	ck_assert_int_eq(PARSE(&a, "--all"), 2);             /* A is missing */
	ck_assert_int_eq(PARSE(&a, "x", "y", "z"), 2);       /* one too many */
	ck_assert_int_eq(PARSE(&a, "x", "--inptu", "1"), 2);
	ck_assert_int_eq(PARSE(&a, "x", "--input"), 2);
	ck_assert_int_eq(PARSE(&a, "x", "--all=1"), 2);
	ck_assert_int_eq(PARSE(&a, "x", "-a"), 2);
	ck_assert_int_eq(PARSE(&a, "x", "--inputs"), 2);     /* no prefixes */
	ck_assert_int_eq(PARSE(&a, "--help"), 0);
	ck_assert_int_eq(PARSE(&a, "-h"), 0);
}
END_TEST

START_TEST(numbers_are_whole_and_positive)
{
	static const char *const bad[] = { "", "0", "-1", "1x", " 1", "1.0", "9223372036854775808" };
	struct hp_error err;
	int64_t v;

	ck_assert_int_eq(cli_number("9223372036854775807", "a run", &v, &err), 0);
	ck_assert(v == INT64_MAX);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ck_assert_msg(cli_number(bad[i], "a run", &v, &err) < 0, "\"%s\" was taken", bad[i]);
		ck_assert_int_eq(err.code, HP_E_INVALID);
	}
}
END_TEST

static void check_clean(const char *in, int width, const char *want)
{
	struct hp_buf b;

	hp_buf_init(&b, 1024);
	cli_clean(&b, in, width);
	ck_assert_str_eq(hp_buf_str(&b), want);
	hp_buf_free(&b);
}

START_TEST(control_characters_do_not_reach_the_terminal)
{
	check_clean("Zürich → 日本", 0, "Zürich → 日本");
	check_clean("a\033[31mb\a\177", 0, "a?[31mb??");
	check_clean("a\nb\tc\rd", 0, "a b c?d");
	check_clean("x\xC2\x9B" "2J", 0, "x?2J");                 /* C1: CSI in one character */
	check_clean("x\xE2\x80\xAEy\xE2\x81\xA6z", 0, "x?y?z");   /* turn the reading direction */
	check_clean("\xFF\xC3", 0, "??");                          /* not UTF-8 */
	check_clean("\xE2\x82", 0, "??");                          /* ends inside a character */
	check_clean(NULL, 0, "-");
	check_clean("", 0, "-");
}
END_TEST

START_TEST(cells_are_cut_by_characters)
{
	check_clean("äöü", 3, "äöü");
	check_clean("äöüß", 3, "äö…");
	check_clean("abcdef", 1, "…");
}
END_TEST

START_TEST(times_are_read_to_the_microsecond)
{
	char buf[32];

	ck_assert(cli_time_us("1970-01-01T00:00:01.000002Z") == 1000002);
	ck_assert(cli_time_us("2026-11-23T02:04:05.000001Z") == INT64_C(1795399445000001));
	ck_assert(cli_time_us("2026-11-23T02:04:05Z") == 0);
	ck_assert(cli_time_us("2026-11-23 02:04:05.000001Z") == 0);
	ck_assert(cli_time_us("2026-11-2xT02:04:05.000001Z") == 0);
	ck_assert(cli_time_us(NULL) == 0);
	ck_assert_str_eq(cli_time("2026-11-23T02:04:05.000001Z", buf, sizeof buf), "2026-11-23 02:04:05");
	ck_assert_str_eq(cli_time("soon", buf, sizeof buf), "soon");
	ck_assert_str_eq(cli_time(NULL, buf, sizeof buf), "-");
}
END_TEST

START_TEST(every_command_is_found_and_near_words_are_named)
{
	struct hp_error err = { 0 };
	int n = 0;

	for (const struct hp_command_entry *e = hp_commands; e->name; e++, n++) {
		ck_assert_ptr_eq(hp_command_find(e->name, &err), e);
		ck_assert(e->run && e->summary[0]);
	}
	ck_assert_int_gt(n, 20);
	ck_assert_ptr_null(hp_command_find("aprove", &err));
	ck_assert_ptr_nonnull(strstr(err.hint, "approve"));
}
END_TEST

HP_SUITE("cli words", options_in_any_order, equals_repetition_and_the_end_of_options, wrong_words_are_refused,
	 numbers_are_whole_and_positive, control_characters_do_not_reach_the_terminal, cells_are_cut_by_characters,
	 times_are_read_to_the_microsecond, every_command_is_found_and_near_words_are_named)
