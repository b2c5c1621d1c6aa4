/* Schedules followed by real workers: two of them, real seconds. */
#include "runtime_world.h"

static const char every_second[] =
	"return workflow 'beat' {\n"
	"  trigger = schedule { cron = '@every 1s', overlap = 'allow', catch_up = 'all', input = { kind = 'full' } },\n"
	"  succeed 'done' { result = '{input.kind} {input.tick}' },\n"
	"}\n";

static int runs(struct world *w)
{
	json_t *v = door(w, "schedule", "{\"schedule\":\"beat\"}");

	ck_assert_msg(v != NULL, "%s", w->err.message);
	return (int)hp_json_int(v, "started", 0);
}

static bool four_runs(struct world *w) { return runs(w) >= 4; }

static bool has_drained(struct world *w) { return w->drained; }

/* The world's own worker and a second one look at the same moments. */
START_TEST(two_workers_start_each_tick_once)
{
	struct hp_worker *second;
	const json_t *row;
	json_t *ticks;
	struct world w;
	char before[32] = "";
	size_t i;

	world_open(&w);
	deploy(&w, "beat", every_second);
	world_start(&w, 0);
	second = new_worker(&w, 0);
	hp_worker_start(second);
	ck_assert(turn_until(&w, four_runs));
	hp_worker_drain(second);
	ck_assert(turn_until(&w, has_drained));
	hp_worker_free(second);
	ticks = json_incref(json_object_get(door(&w, "schedule", "{\"schedule\":\"beat\"}"), "recent"));
	ck_assert_uint_ge(json_array_size(ticks), 4);
	for (i = json_array_size(ticks); i-- > 0;) { /* oldest first */
		json_t *r;
		char want[64];

		row = json_array_get(ticks, i);
		ck_assert_str_eq(hp_json_str(row, "outcome"), "started");
		ck_assert_int_gt(strcmp(hp_json_str(row, "tick"), before), 0);
		snprintf(before, sizeof before, "%s", hp_json_str(row, "tick"));
		ck_assert_str_eq(before + 19, ".000000Z");
		w.run = hp_json_int(row, "run", 0);
		ends_as(&w, "succeeded");
		r = door(&w, "run", "{\"run\":%lld}", (long long)w.run);
		snprintf(want, sizeof want, "full %s", before);
		ck_assert_str_eq(json_string_value(hp_json_path(r, "run.requester")), "schedule:beat");
		ck_assert_str_eq(json_string_value(hp_json_path(r, "run.result")), want);
	}
	json_decref(ticks);
	world_close(&w);
}
END_TEST

START_TEST(a_schedule_nobody_can_follow_stops_no_other)
{
	struct world w;

	world_open(&w);
	deploy_as(&w, "odd", "return workflow 'odd' { succeed 'done' {} }",
		  "{\"states\":[],\"triggers\":[],\"schedules\":[{\"cron\":\"@every 1s\",\"zone\":\"No/Where\",\"jitter_us\":0,"
		  "\"within_us\":0,\"catch_up\":\"last\",\"overlap\":\"skip\",\"input\":{}}]}");
	deploy(&w, "beat", every_second);
	world_start(&w, 0);
	ck_assert(turn_until(&w, four_runs));
	ck_assert_int_eq(hp_json_int(door(&w, "schedule", "{\"schedule\":\"odd\"}"), "started", -1), 0);
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {two_workers_start_each_tick_once, a_schedule_nobody_can_follow_stops_no_other};

	setenv("CK_DEFAULT_TIMEOUT", "20", 0); /* time is real here */
	return hp_run_suite("runtime schedule", tests, sizeof tests / sizeof tests[0]);
}
