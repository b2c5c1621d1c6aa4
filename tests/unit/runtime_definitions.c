/* runtime_definitions.c: runs whose definition cannot be had. */
#include "lib/suite.h"
#include "runtime_world.h"

static void no_bundle(struct hp_store *s, const uint8_t digest[HP_SHA256_LEN], hp_bundle_cb cb, void *arg)
{
	struct hp_error err;

	(void)s;
	(void)digest;
	hp_fail(&err, HP_E_NOT_FOUND, "no definition has this digest");
	cb(arg, NULL, 0, &err);
}

/* Only an answer counts: a database that is away would hold every run. */
START_TEST(a_definition_that_is_not_there_holds_the_run_in_the_end)
{
	const struct hp_store_ops *own;
	struct hp_store_ops mine;
	struct world w;

	world_open(&w);
	deploy(&w, "one", "return workflow 'one' { succeed 'done' {} }\n");
	own = w.store->ops;
	mine = *own;
	mine.bundle = no_bundle;
	w.store->ops = &mine;
	world_start(&w, 0);
	start_run(&w, "one");
	held_with(&w, "definition_unloadable");
	w.store->ops = own;
	world_close(&w);
}
END_TEST

START_TEST(a_definition_nobody_can_load_holds_the_run_in_the_end)
{
	struct world w;

	world_open(&w);
	deploy_bundle(&w, "broken", hp_bytes_of("{\"workflow\":{\"file\":\"b.lua\",\"source\":\"return 1\"},\"connectors\":{}}"),
		      hp_bytes_of("{\"states\":[{\"name\":\"a\",\"kind\":\"succeed\"}],\"triggers\":[]}"));
	world_start(&w, 0);
	start_run(&w, "broken");
	held_with(&w, "definition_unloadable");
	ck_assert_int_eq(hp_worker_in_hand(w.worker), 0);
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { a_definition_nobody_can_load_holds_the_run_in_the_end,
				       a_definition_that_is_not_there_holds_the_run_in_the_end };

	setenv("CK_DEFAULT_TIMEOUT", "20", 0); /* time is real here: it is tried again with pauses */
	return hp_run_suite("runtime definitions", tests, sizeof tests / sizeof tests[0]);
}
