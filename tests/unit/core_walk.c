/* core_walk.c: the machine, driven at random.
 *
 * Generated definitions with random outcomes, crashes, early wakes and cancels
 * (machine_walk.h). The seed is printed and can be given again in HP_SEED.
 */
#include "lib/suite.h"
#include "machine_walk.h"

static uint64_t seed;
static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 11) % n;
}

static void twist(struct hp_event *ev)
{
	(void)ev; /* that is for tests/fuzz/machine.c */
}

START_TEST(walk)
{
	const char *given = getenv("HP_SEED");
	uint64_t first = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 2654435761u + 1;
	int finished = 0;

	printf("core_walk: HP_SEED=%llu\n", (unsigned long long)first);
	for (int w = 0; w < 3000; w++) {
		seed = first + (uint64_t)w * 7919 + 1;
		walk_begin();
		for (int i = 0; i < 300 && !hp_status_final(W.run.status); i++)
			walk_step();
		finished += hp_status_final(W.run.status);
	}
	ck_assert_int_gt(finished, 1500); /* the walks do get somewhere */
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("walks");

	tcase_add_test(t, walk);
	tcase_set_timeout(t, 60);
	return hp_run_case("core_walk", t);
}
