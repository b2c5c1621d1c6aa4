/* runtime_late.c: a request whose admission is too old to be acted on. */
#include "runtime_world.h"
#include "lib/suite.h"

static struct {
	const struct hp_store_ops *own;
	struct hp_store_ops mine;
	struct world *w;
	int admissions;
} slow;

/* The first admission takes 70 % of the lease. */
static void slow_commit(struct hp_store *s, const struct hp_transition *const *t, int n, hp_commit_cb cb, void *arg)
{
	if (t[0]->admits && slow.admissions++ == 0) {
		ev_prepare_stop(slow.w->loop, &slow.w->clock);
		slow.w->now += 1400 * HP_MSEC;
	}
	slow.own->commit(s, t, n, cb, arg);
}

/* Another run with the same key counts on a request's having left by then, or not at all. */
START_TEST(what_is_too_late_is_admitted_anew)
{
	struct world w;

	world_open(&w);
	deploy(&w, "once", "local toy = connector 'toy'\n"
			   "return workflow 'once' {\n"
			   "  call 'make' { toy.things.once, with = { what = 'x' }, key = 'x:1', timeout = '10s' },\n"
			   "  succeed 'done' {},\n"
			   "}\n");
	world_start(&w, 2 * HP_SECOND);
	memset(&slow, 0, sizeof slow);
	slow.w = &w;
	slow.own = w.store->ops;
	slow.mine = *slow.own;
	slow.mine.commit = slow_commit;
	w.store->ops = &slow.mine;
	start_run(&w, "once");
	ends_as(&w, "succeeded");
	ck_assert_int_eq(w.calls, 1);
	ck_assert_int_eq(slow.admissions, 2);
	world_close(&w);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("runtime late");

	tcase_add_test(t, what_is_too_late_is_admitted_anew);
	return hp_run_case("runtime late", t);
}
