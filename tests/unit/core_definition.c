/* Names, look-up and edges of a definition. */
#include "core/definition.h"
#include "lib/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seen {
	char text[512];
};

static void note(void *arg, int from, int to, const char *label, int line)
{
	struct seen *s = arg;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof s->text - n, "%d-%s->%d@%d ", from, label, to, line);
}

static const char *edges_of(const struct hp_definition *d, int state, struct seen *s)
{
	s->text[0] = '\0';
	hp_definition_edges(d, state, note, s);
	return s->text;
}

static struct hp_catch catches[] = {{"taken", 6, 21}, {"retryable", 7, 22}, {NULL, HP_NO_STATE, 23}};
static struct hp_branch branches[] = {{0, 31}, {4, 32}};
static struct hp_state states[] = {
	{.name = "a", .kind = HP_CALL, .line = 20, .next = 1, .catches = catches, .n_catches = 3},
	{.name = "b", .kind = HP_SQL, .line = 24, .next = 2, .sql = {.none = 7}},
	{.name = "c", .kind = HP_CHOOSE, .line = 30, .next = HP_NO_STATE,
	 .choose = {.branches = branches, .n_branches = 2, .otherwise = 7}},
	{.name = "d", .kind = HP_APPROVAL, .line = 33, .next = 4, .approval = {.rejected = 7, .expired = HP_NO_STATE}},
	{.name = "e", .kind = HP_WAIT, .line = 34, .next = 5},
	{.name = "f", .kind = HP_AWAIT, .line = 35, .next = 6, .await = {.timeout = 7}},
	{.name = "g", .kind = HP_SUCCEED, .line = 36, .next = HP_NO_STATE},
	{.name = "h", .kind = HP_FAIL, .line = 37, .next = HP_NO_STATE},
};
static const struct hp_definition def = {.workflow = "w", .states = states, .n_states = 8};

START_TEST(every_declared_way_is_an_edge)
{
	struct seen s;

	ck_assert_str_eq(edges_of(&def, 0, &s), "0-next->1@20 0-catch taken->6@21 0-catch retryable->7@22 ");
	ck_assert_str_eq(edges_of(&def, 1, &s), "1-next->2@24 1-none->7@24 ");
	ck_assert_str_eq(edges_of(&def, 2, &s), "2-when 1->0@31 2-when 2->4@32 2-otherwise->7@30 ");
	ck_assert_str_eq(edges_of(&def, 3, &s), "3-next->4@33 3-rejected->7@33 ");
	ck_assert_str_eq(edges_of(&def, 4, &s), "4-next->5@34 ");
	ck_assert_str_eq(edges_of(&def, 5, &s), "5-next->6@35 5-timeout->7@35 ");
	ck_assert_str_eq(edges_of(&def, 6, &s), "");
	ck_assert_str_eq(edges_of(&def, 7, &s), "");
}
END_TEST

START_TEST(states_are_found_by_name)
{
	ck_assert_int_eq(hp_definition_find(&def, "a"), 0);
	ck_assert_int_eq(hp_definition_find(&def, "h"), 7);
	ck_assert_int_eq(hp_definition_find(&def, "z"), HP_NO_STATE);
	ck_assert_int_eq(hp_definition_find(&def, ""), HP_NO_STATE);
}
END_TEST

/* What later features added: sweeps, children, arms, budgets. */
START_TEST(the_ways_out_of_other_kinds)
{
	struct hp_arm arms[] = {{.name = "late", .line = 51, .next = 2, .failed = HP_NO_STATE},
				{.name = "ill", .line = 52, .next = 2, .failed = 3}};
	struct hp_catch one[] = {{"taken", 3, 41}};
	struct hp_state s[] = {
	    {.name = "s", .kind = HP_SWEEP, .line = 40, .next = 1, .catches = one, .n_catches = 1,
	     .call = {.limited = true, .over_budget = 2}},
	    {.name = "r", .kind = HP_RUN, .line = 50, .next = 2, .children = {.timeout = 3}, .arms = arms, .n_arms = 2},
	    {.name = "e", .kind = HP_EACH, .line = 60, .next = 3, .children = {.timeout = HP_NO_STATE}, .catches = one,
	     .n_catches = 1},
	    {.name = "c", .kind = HP_CALL, .line = 70, .next = 0, .call = {.limited = true, .over_budget = HP_NO_STATE}},
	};
	const struct hp_definition d = {.workflow = "w", .states = s, .n_states = 4};
	struct seen seen;

	ck_assert_str_eq(edges_of(&d, 0, &seen), "0-next->1@40 0-over budget->2@40 0-catch taken->3@41 ");
	ck_assert_str_eq(edges_of(&d, 1, &seen), "1-next->2@50 1-timeout->3@50 1-on late->2@51 1-on ill->2@52 1-on ill failed->3@52 ");
	ck_assert_str_eq(edges_of(&d, 2, &seen), "2-next->3@60 2-catch taken->3@41 ");
	ck_assert_str_eq(edges_of(&d, 3, &seen), "3-next->0@70 ");
}
END_TEST

START_TEST(names_are_stable)
{
	ck_assert_str_eq(hp_kind_name(HP_SWEEP), "sweep");
	ck_assert_str_eq(hp_kind_name(HP_RUN), "run");
	ck_assert_str_eq(hp_kind_name(HP_EACH), "each");
	ck_assert_str_eq(hp_arm_kind_name(HP_ARM_EVENT), "event");
	ck_assert_str_eq(hp_arm_kind_name(HP_ARM_TIMER), "timer");
	ck_assert_str_eq(hp_arm_kind_name(HP_ARM_CHECK), "check");
	ck_assert_str_eq(hp_arm_kind_name((enum hp_arm_kind)99), "unknown");
	ck_assert_str_eq(hp_class_name(HP_CLASS_OK), "ok");
	ck_assert_str_eq(hp_class_name(HP_RETRYABLE), "retryable");
	ck_assert_str_eq(hp_class_name(HP_TERMINAL), "terminal");
	ck_assert_str_eq(hp_class_name(HP_AMBIGUOUS), "ambiguous");
	ck_assert_str_eq(hp_class_name(HP_NEEDS_PERSON), "needs_person");
	ck_assert_str_eq(hp_kind_name(HP_CALL), "call");
	ck_assert_str_eq(hp_kind_name(HP_SQL), "sql");
	ck_assert_str_eq(hp_kind_name(HP_CHOOSE), "choose");
	ck_assert_str_eq(hp_kind_name(HP_APPROVAL), "approval");
	ck_assert_str_eq(hp_kind_name(HP_WAIT), "wait");
	ck_assert_str_eq(hp_kind_name(HP_AWAIT), "await");
	ck_assert_str_eq(hp_kind_name(HP_SUCCEED), "succeed");
	ck_assert_str_eq(hp_kind_name(HP_FAIL), "fail");
	ck_assert_str_eq(hp_kind_name((enum hp_kind)99), "unknown");
	ck_assert_str_eq(hp_class_name((enum hp_class)99), "unknown");
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("definition");

	tcase_add_test(t, every_declared_way_is_an_edge);
	tcase_add_test(t, the_ways_out_of_other_kinds);
	tcase_add_test(t, states_are_found_by_name);
	tcase_add_test(t, names_are_stable);
	return hp_run_case("core definition", t);
}
