/* Schedules: one tick, one run, whoever looks, whatever was lost; catching up;
 * overlap; pause. An engine's look is done here as a worker does it: ask what is due,
 * plan it with core/schedule.c, fire. */
#include "contract.h"

#include <stdio.h>
#include "core/schedule.h"

#define NIGHTLY(more) "[{'catch_up':'last','cron':'0 * * * *','input':{'kind':'full'},'jitter_us':0," more ",'zone':'UTC'}]"
#define HOURLY NIGHTLY("'overlap':'allow','within_us':0")
#define NO_ENGINE "No engine is alive"
#define FIRST (T0 / HP_HOUR * HP_HOUR + HP_HOUR) /* the first tick after T0 */

static void deploy(const char *specs)
{
	static uint8_t tag = 10;

	c_deploy_with("nightly", tag++, specs);
}

/* ---- an engine's look ---- */

struct look {
	json_t *row; /* of schedules_due */
	struct hp_schedule_plan plan;
};

static json_t *due(void)
{
	json_t *all = c_door_ok("schedules_due", "engine", "{'limit':20}"), *rows;

	ck_assert_int_eq(hp_json_int(all, "now", 0), c_now);
	rows = json_incref(json_object_get(all, "schedules"));
	json_decref(all);
	return rows;
}

/* The first due schedule, planned; row NULL: none is due. */
static struct look look(void)
{
	json_t *rows = due();
	const json_t *spec;
	struct look l = { .row = json_incref(json_array_get(rows, 0)) };
	struct hp_schedule s = { .zone = &hp_zone_utc };

	json_decref(rows);
	if (!l.row)
		return l;
	spec = json_object_get(l.row, "spec");
	s.name = hp_json_str(l.row, "schedule");
	s.jitter = hp_json_int(spec, "jitter_us", -1);
	s.within = hp_json_int(spec, "within_us", -1);
	s.catch_up = (enum hp_catch_up)hp_catch_up_of(hp_json_str(spec, "catch_up"));
	s.overlap = (enum hp_overlap)hp_overlap_of(hp_json_str(spec, "overlap"));
	ck_assert_int_eq(hp_cron_parse(hp_json_str(spec, "cron"), &s.cron, NULL), 0);
	hp_schedule_plan(&s, hp_json_int(l.row, "position", 0), c_now, hp_json_bool(l.row, "busy", -1) == 1,
			 hp_json_int(l.row, "idle_since", -1), &l.plan);
	return l;
}

static void numbers(char *out, size_t size, const int64_t *v, int n)
{
	size_t used = 0;

	out[0] = 0;
	for (int i = 0; i < n; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%lld", i ? "," : "", (long long)v[i]);
}

static const char *fire_args(const struct look *l, char *out, size_t size)
{
	char start[512], ahead[512];

	numbers(start, sizeof start, l->plan.start, l->plan.n_start);
	numbers(ahead, sizeof ahead, l->plan.ahead, l->plan.n_ahead);
	snprintf(out, size,
		 "{'workflow':'%s','index':%lld,'version':%lld,'start':[%s],'skipped':%lld,'missed_until':%lld,"
		 "'position':%lld,'look':%lld,'ahead':[%s]}",
		 hp_json_str(l->row, "workflow"), (long long)hp_json_int(l->row, "index", 0),
		 (long long)hp_json_int(l->row, "version", -1), start, (long long)l->plan.skipped,
		 (long long)l->plan.missed_until, (long long)l->plan.position, (long long)l->plan.look, ahead);
	return out;
}

static int started(json_t *answer)
{
	int n = (int)json_array_size(json_object_get(answer, "runs"));

	if (strcmp(hp_json_str(answer, "outcome"), "done") != 0)
		n = -1;
	json_decref(answer);
	return n;
}

/* Runs started; -1: the tick was another's. */
static int fire(int store, struct look *l)
{
	char args[2048];
	json_t *answers[2];

	fire_args(l, args, sizeof args);
	c_door_two("schedule_fire", store == 0 ? args : NULL, store == 1 ? args : NULL, answers);
	json_decref(l->row);
	l->row = NULL;
	return started(answers[store]);
}

/* Looks until nothing is due: what a living engine would do now. */
static int engine_looks(void)
{
	int n = 0;

	for (int i = 0; i < 50; i++) {
		struct look l = look();

		if (!l.row)
			return n;
		n += fire(0, &l);
	}
	ck_abort_msg("the schedule is due for ever");
	return n;
}

static json_t *shown(void)
{
	return c_door_ok("schedule", "tester", "{'schedule':'nightly'}");
}

static int64_t number(const char *name)
{
	json_t *v = shown();
	int64_t n = hp_json_int(v, name, 0);

	json_decref(v);
	return n;
}

static void says(const char *words)
{
	json_t *v;

	if (strcmp(words, NO_ENGINE) != 0)
		c_engine = c_register(); /* hours have passed */
	v = shown();

	ck_assert_msg(strstr(hp_json_str(v, "sentence"), words) != NULL, "it says: %s", hp_json_str(v, "sentence"));
	json_decref(v);
}

static void finish_all(int n)
{
	struct c_run all[4];

	ck_assert_int_eq(c_claim(c_engine, 4, all), n);
	for (int i = 0; i < n; i++) {
		struct hp_transition t;

		c_begin(&t, &all[i]);
		c_finish(&t, HP_SUCCEEDED);
		c_commit_ok(&all[i], &t);
	}
}

static int runs_ready(void)
{
	static struct c_run all[64];

	return c_claim(c_engine, 64, all);
}

/* ---- one tick, one run ---- */

START_TEST(a_tick_starts_one_run)
{
	struct c_run r;

	deploy(HOURLY);
	ck_assert_int_eq(engine_looks(), 0); /* planned */
	says("The next tick is 2023-11-14 23:00:00 UTC.");
	c_advance(FIRST - c_now - 1);
	ck_assert_int_eq(engine_looks(), 0);
	c_advance(1);
	ck_assert_int_eq(engine_looks(), 1);
	ck_assert_int_eq(engine_looks(), 0);
	r = c_claim_one();
	ck_assert_str_eq(r.workflow, "nightly");
	ck_assert_ptr_nonnull(strstr(r.input, "full"));
	ck_assert_ptr_nonnull(strstr(r.input, "2023-11-14T23:00:00.000000Z"));
	ck_assert_str_eq(r.key, "");
	ck_assert_int_eq(number("started"), 1);
	ck_assert_int_eq(number("last_run"), r.row.id);
}
END_TEST

START_TEST(two_engines_race_for_a_tick)
{
	struct look a, b;

	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now);
	a = look();
	b = look();
	ck_assert_int_eq(a.plan.n_start, 1);
	ck_assert_int_eq(b.plan.n_start, 1);
	ck_assert_int_eq(fire(1, &b), 1);
	ck_assert_int_eq(fire(0, &a), -1);
	ck_assert_int_eq(engine_looks(), 0);
	ck_assert_int_eq(runs_ready(), 1);
}
END_TEST

/* Both ask at the same moment, over two connections. */
START_TEST(two_engines_fire_at_once)
{
	for (int i = 0; i < 10; i++) {
		struct look a, b;
		char args[2][2048];
		json_t *answers[2];
		int n[2];

		if (i == 0) {
			deploy(HOURLY);
			engine_looks();
		}
		c_advance(FIRST + i * HP_HOUR - c_now);
		a = look();
		b = look();
		c_door_two("schedule_fire", fire_args(&a, args[0], sizeof args[0]), fire_args(&b, args[1], sizeof args[1]),
			   answers);
		n[0] = started(answers[0]);
		n[1] = started(answers[1]);
		ck_assert_msg((n[0] == 1 && n[1] == -1) || (n[0] == -1 && n[1] == 1), "%d and %d", n[0], n[1]);
		json_decref(a.row);
		json_decref(b.row);
		ck_assert_int_eq(engine_looks(), 0);
		ck_assert_int_eq(runs_ready(), 1);
	}
}
END_TEST

START_TEST(an_engine_killed_before_the_tick_is_stored_loses_nothing)
{
	struct look dead;

	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now);
	dead = look(); /* and is never heard of again */
	json_decref(dead.row);
	ck_assert_int_eq(engine_looks(), 1);
	ck_assert_int_eq(runs_ready(), 1);
}
END_TEST

START_TEST(an_engine_killed_after_the_tick_was_stored_repeats_nothing)
{
	struct look l, again;

	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now);
	l = look();
	again = l;
	json_incref(again.row);
	ck_assert_int_eq(fire(0, &l), 1); /* its answer was never read */
	ck_assert_int_eq(fire(1, &again), -1);
	ck_assert_int_eq(engine_looks(), 0);
	ck_assert_int_eq(runs_ready(), 1);
}
END_TEST

/* Even a position that went back starts no tick twice: the tick's own row forbids it. */
START_TEST(a_tick_is_unique_by_itself)
{
	struct look l;

	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now);
	ck_assert_int_eq(engine_looks(), 1);
	c_advance(HP_HOUR);
	l = look();
	ck_assert_int_eq(l.plan.n_start, 1);
	l.plan.start[0] = FIRST;
	ck_assert_int_eq(fire(0, &l), 0);
	ck_assert_int_eq(runs_ready(), 1);
}
END_TEST

/* ---- all engines were down for three ticks ---- */

static const struct {
	const char *specs;
	int started, skipped;
} downtimes[] = {
	{ "[{'catch_up':'none','cron':'0 * * * *','input':{},'jitter_us':0,'overlap':'allow','within_us':0,'zone':'UTC'}]", 0, 3 },
	{ "[{'catch_up':'last','cron':'0 * * * *','input':{},'jitter_us':0,'overlap':'allow','within_us':0,'zone':'UTC'}]", 1, 2 },
	{ "[{'catch_up':'all','cron':'0 * * * *','input':{},'jitter_us':0,'overlap':'allow','within_us':86400000000,'zone':'UTC'}]", 3, 0 },
	{ "[{'catch_up':'all','cron':'0 * * * *','input':{},'jitter_us':0,'overlap':'allow','within_us':5400000000,'zone':'UTC'}]", 1, 2 },
};

START_TEST(downtime_is_caught_up_as_declared)
{
	json_t *v;
	size_t n;

	deploy(downtimes[_i].specs);
	engine_looks();
	c_advance(FIRST + 2 * HP_HOUR + 40 * HP_MINUTE - c_now);
	ck_assert_int_eq(engine_looks(), downtimes[_i].started);
	ck_assert_int_eq(runs_ready(), downtimes[_i].started);
	ck_assert_int_eq(number("started"), downtimes[_i].started);
	ck_assert_int_eq(number("skipped"), downtimes[_i].skipped);
	v = shown();
	n = json_array_size(json_object_get(v, "recent"));
	ck_assert_uint_eq(n, (size_t)downtimes[_i].started + (downtimes[_i].skipped > 0));
	ck_assert_str_eq(json_string_value(json_array_get(json_object_get(v, "next"), 0)), "2023-11-15T02:00:00.000000Z");
	json_decref(v);
	c_advance(20 * HP_MINUTE);
	ck_assert_int_eq(engine_looks(), 1);
}
END_TEST

/* ---- overlap ---- */

START_TEST(skip_leaves_out_the_tick_while_a_run_lives)
{
	deploy(NIGHTLY("'overlap':'skip','within_us':0"));
	engine_looks();
	c_advance(FIRST - c_now);
	ck_assert_int_eq(engine_looks(), 1);
	says("it is skipped if run 1 is still going");
	c_advance(HP_HOUR);
	ck_assert_int_eq(engine_looks(), 0);
	ck_assert_int_eq(number("skipped"), 1);
	finish_all(1);
	c_advance(HP_HOUR);
	ck_assert_int_eq(engine_looks(), 1);
}
END_TEST

START_TEST(queue_starts_one_when_the_run_before_has_ended)
{
	deploy(NIGHTLY("'overlap':'queue','within_us':0"));
	engine_looks();
	c_advance(FIRST - c_now);
	ck_assert_int_eq(engine_looks(), 1);
	c_advance(HP_HOUR);
	ck_assert_int_eq(engine_looks(), 0);
	says("waits for run 1");
	c_advance(HP_HOUR);
	ck_assert_int_eq(engine_looks(), 0);
	c_engine = c_register();
	finish_all(1);
	c_advance(2 * HP_SECOND);
	ck_assert_int_eq(engine_looks(), 1); /* one, however many waited */
	ck_assert_int_eq(number("skipped"), 1);
	ck_assert_int_eq(number("started"), 2);
}
END_TEST

START_TEST(allow_starts_beside)
{
	deploy(HOURLY);
	engine_looks();
	for (int i = 0; i < 3; i++) {
		c_advance(FIRST + i * HP_HOUR - c_now);
		ck_assert_int_eq(engine_looks(), 1);
	}
	ck_assert_int_eq(runs_ready(), 3);
}
END_TEST

START_TEST(cancel_ends_the_run_before)
{
	struct c_run all[4];
	int n, cancelled = 0;

	deploy(NIGHTLY("'overlap':'cancel','within_us':0"));
	engine_looks();
	c_advance(FIRST - c_now);
	ck_assert_int_eq(engine_looks(), 1);
	c_advance(HP_HOUR);
	ck_assert_int_eq(engine_looks(), 1);
	n = c_claim(c_register(), 4, all);
	ck_assert_int_eq(n, 2);
	for (int i = 0; i < n; i++)
		if (all[i].row.cancel) {
			cancelled++;
			ck_assert_int_eq(all[i].row.id, 1);
		}
	ck_assert_int_eq(cancelled, 1);
}
END_TEST

/* It ends already, and a cancel would be refused: the tick after it is not held up by that. */
START_TEST(cancel_leaves_alone_what_is_being_unwound)
{
	struct c_run r;

	deploy(NIGHTLY("'overlap':'cancel','within_us':0"));
	engine_looks();
	c_advance(FIRST - c_now);
	ck_assert_int_eq(engine_looks(), 1);
	c_engine = c_register();
	r = c_claim_one();
	c_turn_back(&r, HP_FAILED);
	c_advance(HP_HOUR);
	ck_assert_int_eq(engine_looks(), 1);
	ck_assert_int_eq(number("started"), 2);
}
END_TEST

/* ---- people ---- */

START_TEST(a_paused_schedule_starts_nothing_and_goes_on_from_now)
{
	deploy(HOURLY);
	engine_looks();
	json_decref(c_door_ok("schedule_pause", "alice", "{'schedule':'nightly','reason':'they migrate'}"));
	c_door_fails(HP_E_CONFLICT, "is paused already, since 2023-11-14 22:13:20 UTC by alice", "schedule_pause", "bob",
		     "{'schedule':'nightly','reason':'me too'}");
	says("Paused since 2023-11-14 22:13:20 UTC by alice: they migrate.");
	c_advance(FIRST + 2 * HP_HOUR + 10 * HP_MINUTE - c_now);
	ck_assert_int_eq(engine_looks(), 0);
	json_decref(c_door_ok("schedule_resume", "alice", "{'schedule':'nightly'}"));
	c_door_fails(HP_E_CONFLICT, "is not paused", "schedule_resume", "alice", "{'schedule':'nightly'}");
	ck_assert_int_eq(engine_looks(), 0);
	ck_assert_int_eq(number("skipped"), 0);
	c_advance(50 * HP_MINUTE);
	ck_assert_int_eq(engine_looks(), 1);
}
END_TEST

START_TEST(a_pause_wins_over_a_look_that_began_before)
{
	struct look l;

	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now);
	l = look();
	json_decref(c_door_ok("schedule_pause", "alice", "{'schedule':'nightly','reason':'stop'}"));
	ck_assert_int_eq(fire(0, &l), -1);
	ck_assert_int_eq(runs_ready(), 0);
}
END_TEST

START_TEST(run_now_is_beside_the_ticks)
{
	json_t *v;

	deploy(NIGHTLY("'overlap':'skip','within_us':0"));
	engine_looks();
	c_advance(FIRST - c_now);
	v = c_door_ok("schedule_run", "alice", "{'schedule':'nightly'}");
	ck_assert_int_eq(hp_json_int(v, "run", 0), 1);
	json_decref(v);
	json_decref(c_door_ok("schedule_run", "alice", "{'schedule':'nightly'}"));
	finish_all(2);
	ck_assert_int_eq(engine_looks(), 1); /* the tick of the same moment has its own run */
	ck_assert_int_eq(number("started"), 3);
}
END_TEST

START_TEST(what_does_not_exist_is_said)
{
	static const char *const doors[] = { "schedule", "schedule_pause", "schedule_resume", "schedule_run" };

	deploy(HOURLY);
	for (int i = 0; i < 4; i++)
		c_door_fails(HP_E_NOT_FOUND, "there is no schedule \"nightly:2\"", doors[i], "alice",
			     "{'schedule':'nightly:2','reason':'x'}");
	c_door_fails(HP_E_INVALID, "a reason is mandatory", "schedule_pause", "alice", "{'schedule':'nightly'}");
	c_door_fails(HP_E_INVALID, "\"ticks\" must be within 1 and 20", "schedule", "alice",
		     "{'schedule':'nightly','ticks':21}");
}
END_TEST

/* ---- deploying ---- */

START_TEST(deploying_the_same_times_keeps_the_position)
{
	json_t *v;

	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now + HP_MINUTE); /* one is due */
	deploy(NIGHTLY("'overlap':'skip','within_us':0"));
	ck_assert_int_eq(engine_looks(), 1);
	v = shown();
	ck_assert_str_eq(json_string_value(hp_json_path(v, "spec.overlap")), "skip");
	json_decref(v);
}
END_TEST

START_TEST(changed_times_begin_now)
{
	deploy(HOURLY);
	engine_looks();
	c_advance(FIRST - c_now + HP_MINUTE); /* one is due */
	deploy("[{'catch_up':'last','cron':'30 * * * *','input':{},'jitter_us':0,'overlap':'allow','within_us':0,'zone':'UTC'}]");
	ck_assert_int_eq(engine_looks(), 0);
	says("The next tick is 2023-11-14 23:30:00 UTC.");
}
END_TEST

START_TEST(schedules_come_and_go_with_the_definition)
{
	json_t *v;

	deploy("[{'catch_up':'last','cron':'0 * * * *','input':{},'jitter_us':0,'overlap':'allow','within_us':0,'zone':'UTC'},"
	       "{'catch_up':'last','cron':'@every 10m','input':{},'jitter_us':0,'overlap':'allow','within_us':0,'zone':'UTC'}]");
	v = c_door_ok("schedules", "tester", "{'workflow':'nightly'}");
	ck_assert_uint_eq(json_array_size(json_object_get(v, "schedules")), 2);
	ck_assert_str_eq(hp_json_str(json_array_get(json_object_get(v, "schedules"), 1), "schedule"), "nightly:2");
	json_decref(v);
	c_advance(FIRST - c_now);
	ck_assert_int_eq(engine_looks(), 2); /* each had one since it was deployed, the second of five its last */
	deploy(HOURLY);
	v = c_door_ok("schedules", "tester", "{}");
	ck_assert_uint_eq(json_array_size(json_object_get(v, "schedules")), 1);
	json_decref(v);
	deploy("[]");
	v = c_door_ok("schedules", "tester", "{}");
	ck_assert_uint_eq(json_array_size(json_object_get(v, "schedules")), 0);
	json_decref(v);
}
END_TEST

START_TEST(without_an_engine_it_says_so)
{
	deploy(HOURLY);
	says("just deployed");
	c_advance(LEASE + 1);
	says(NO_ENGINE);
}
END_TEST

TCase *contract_schedules(void)
{
	TCase *t = tcase_create("schedules");

	tcase_add_test(t, a_tick_starts_one_run);
	tcase_add_test(t, two_engines_race_for_a_tick);
	tcase_add_test(t, two_engines_fire_at_once);
	tcase_add_test(t, an_engine_killed_before_the_tick_is_stored_loses_nothing);
	tcase_add_test(t, an_engine_killed_after_the_tick_was_stored_repeats_nothing);
	tcase_add_test(t, a_tick_is_unique_by_itself);
	tcase_add_loop_test(t, downtime_is_caught_up_as_declared, 0, 4);
	tcase_add_test(t, skip_leaves_out_the_tick_while_a_run_lives);
	tcase_add_test(t, queue_starts_one_when_the_run_before_has_ended);
	tcase_add_test(t, allow_starts_beside);
	tcase_add_test(t, cancel_ends_the_run_before);
	tcase_add_test(t, cancel_leaves_alone_what_is_being_unwound);
	tcase_add_test(t, a_paused_schedule_starts_nothing_and_goes_on_from_now);
	tcase_add_test(t, a_pause_wins_over_a_look_that_began_before);
	tcase_add_test(t, run_now_is_beside_the_ticks);
	tcase_add_test(t, what_does_not_exist_is_said);
	tcase_add_test(t, deploying_the_same_times_keeps_the_position);
	tcase_add_test(t, changed_times_begin_now);
	tcase_add_test(t, schedules_come_and_go_with_the_definition);
	tcase_add_test(t, without_an_engine_it_says_so);
	return t;
}
