/* Schedules followed by real workers: two of them, real seconds; and looks that fail. */
#include "runtime_world.h"
#include <time.h>

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

/* ---- looks that fail ---- */

/* The store's own operations; the first looks are refused, or what the worker makes of a
 * look finds no memory, one allocation further at each. */
static struct {
	const struct hp_store_ops *own;
	struct hp_store_ops mine;
	int refused; /* so many looks are */
	unsigned long failing; /* the allocation of the next look that fails; 0: none fails any more */
	bool counting;
	hp_door_cb cb;
	void *arg;
} between;

/* Ends what began with hp_alloc_fail_at(between.failing). */
static void memory_is_back(void)
{
	if (between.counting)
		between.failing = hp_alloc_count() >= between.failing ? between.failing + 1 : 0;
	between.counting = false;
	hp_alloc_fail_at(0);
}

static void on_look(void *arg, struct hp_bytes json, const struct hp_error *err)
{
	struct hp_error why;

	if (between.refused > 0) {
		between.refused--;
		hp_fail(&why, HP_E_UNAVAILABLE, "the database is away");
		between.cb(arg, (struct hp_bytes){0}, &why);
		return;
	}
	if (between.failing == 0 || err || !memmem(json.p, json.n, "\"spec\"", 6)) {
		between.cb(arg, json, err);
		return;
	}
	between.counting = true;
	hp_alloc_fail_at(between.failing);
	between.cb(arg, json, err);
	memory_is_back();
}

static void blind_door(struct hp_store *s, const char *name, const char *who, struct hp_bytes args, hp_door_cb cb,
		       void *arg)
{
	if (strcmp(name, "schedules_due") == 0) {
		between.cb = cb;
		between.arg = arg;
		between.own->door(s, name, who, args, on_look, arg);
		return;
	}
	if (strcmp(name, "schedule_fire") == 0 && between.counting)
		ck_assert_msg(hp_alloc_count() < between.failing, "it goes on without its allocation %lu", between.failing);
	memory_is_back(); /* the model of a store has always enough */
	between.own->door(s, name, who, args, cb, arg);
}

static void stand_between(struct world *w)
{
	memset(&between, 0, sizeof between);
	between.own = w->store->ops;
	between.mine = *w->store->ops;
	between.mine.door = blind_door;
	w->store->ops = &between.mine;
}

/* Soon: the pause between looks that find nothing is longer than anybody waits here. */
START_TEST(a_look_that_failed_is_repeated_soon)
{
	struct world w;

	world_open(&w);
	stand_between(&w);
	between.refused = 2;
	deploy(&w, "beat", every_second);
	world_start(&w, 0);
	ck_assert(turn_until(&w, four_runs));
	ck_assert_int_eq(between.refused, 0);
	w.store->ops = between.own;
	world_close(&w);
}
END_TEST

static int64_t second_of(const char *tick)
{
	struct tm tm = {0};

	ck_assert_ptr_nonnull(strptime(tick, "%Y-%m-%dT%H:%M:%S", &tm));
	return timegm(&tm);
}

static bool every_allocation_failed(struct world *w)
{
	hp_worker_schedules_hint(w->worker); /* at once, not after the worker's own pause */
	return between.failing == 0;
}

/* A look that found no memory is looked again; none may go on with a part of its ticks. */
START_TEST(no_tick_is_lost_for_want_of_memory)
{
	struct world w;
	json_t *ticks;
	int64_t before = 0, at;
	size_t i;

	world_open(&w);
	stand_between(&w);
	between.failing = 1;
	deploy(&w, "beat", every_second);
	turn_for(&w, 3 * HP_SECOND); /* three ticks are due in the first look */
	world_start(&w, 0);
	ck_assert(turn_until(&w, every_allocation_failed));
	ck_assert(turn_until(&w, four_runs));
	ticks = json_incref(json_object_get(door(&w, "schedule", "{\"schedule\":\"beat\"}"), "recent"));
	for (i = json_array_size(ticks); i-- > 0; before = at) { /* oldest first */
		const json_t *row = json_array_get(ticks, i);

		ck_assert_str_eq(hp_json_str(row, "outcome"), "started");
		at = second_of(hp_json_str(row, "tick"));
		ck_assert(before == 0 || at == before + 1);
	}
	json_decref(ticks);
	w.store->ops = between.own;
	world_close(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {two_workers_start_each_tick_once, a_schedule_nobody_can_follow_stops_no_other,
				      a_look_that_failed_is_repeated_soon, no_tick_is_lost_for_want_of_memory};

	setenv("CK_DEFAULT_TIMEOUT", "20", 0); /* time is real here */
	return hp_run_suite("runtime schedule", tests, sizeof tests / sizeof tests[0]);
}
