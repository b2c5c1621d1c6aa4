/* What a schedule starts now: on time, late, behind a run that lives. */
#include "core/schedule.h"

#include <string.h>
#include "../lib/suite.h"

#define MINUTE (INT64_C(60) * 1000000)
#define HOUR (60 * MINUTE)
#define T (INT64_C(1700000000) / 3600 * HOUR) /* a full hour */

static struct hp_schedule hourly(enum hp_catch_up catch_up, enum hp_overlap overlap)
{
	struct hp_schedule s = {.name = "nightly", .zone = &hp_zone_utc, .catch_up = catch_up, .overlap = overlap};

	ck_assert_int_eq(hp_cron_parse("0 * * * *", &s.cron, NULL), 0);
	return s;
}

static struct hp_schedule_plan plan(const struct hp_schedule *s, int64_t position, int64_t now)
{
	struct hp_schedule_plan p;

	hp_schedule_plan(s, position, now, false, 0, &p);
	return p;
}

START_TEST(a_tick_is_started_on_time)
{
	struct hp_schedule s = hourly(HP_CATCH_LAST, HP_OVERLAP_SKIP);
	struct hp_schedule_plan p = plan(&s, T, T + HOUR - 1);

	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.look, T + HOUR);
	ck_assert_int_eq(p.position, T);
	ck_assert_int_eq(p.n_ahead, HP_SCHEDULE_AHEAD);
	p = plan(&s, T, T + HOUR);
	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.start[0], T + HOUR);
	ck_assert_int_eq(p.position, T + HOUR);
	ck_assert_int_eq(p.look, T + 2 * HOUR);
	ck_assert_int_eq(p.ahead[0], T + 2 * HOUR);
	ck_assert_int_eq(p.skipped, 0);
}
END_TEST

START_TEST(jitter_delays_and_stays_in_its_window)
{
	struct hp_schedule s = hourly(HP_CATCH_LAST, HP_OVERLAP_SKIP);
	int64_t due;
	struct hp_schedule_plan p;

	s.jitter = 10 * MINUTE;
	due = T + HOUR + hp_cron_jitter("nightly", T + HOUR, s.jitter);
	ck_assert_int_gt(due, T + HOUR);
	p = plan(&s, T, due - 1);
	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.look, due);
	p = plan(&s, T, due);
	ck_assert_int_eq(p.start[0], T + HOUR);
}
END_TEST

START_TEST(last_catches_up_the_newest)
{
	struct hp_schedule s = hourly(HP_CATCH_LAST, HP_OVERLAP_SKIP);
	struct hp_schedule_plan p = plan(&s, T, T + 3 * HOUR + 30 * MINUTE);

	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.start[0], T + 3 * HOUR);
	ck_assert_int_eq(p.skipped, 2);
	ck_assert_int_eq(p.missed_until, T + 2 * HOUR);
	ck_assert_int_eq(p.position, T + 3 * HOUR);
	s.within = 20 * MINUTE;
	p = plan(&s, T, T + 3 * HOUR + 30 * MINUTE);
	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.skipped, 3);
}
END_TEST

START_TEST(none_starts_only_what_is_on_time)
{
	struct hp_schedule s = hourly(HP_CATCH_NONE, HP_OVERLAP_SKIP);
	struct hp_schedule_plan p = plan(&s, T, T + 3 * HOUR + MINUTE);

	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.skipped, 2);
	p = plan(&s, T, T + 3 * HOUR + MINUTE + 1);
	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.skipped, 3);
	ck_assert_int_eq(p.position, T + 3 * HOUR);
}
END_TEST

START_TEST(all_starts_each_within_its_window)
{
	struct hp_schedule s = hourly(HP_CATCH_ALL, HP_OVERLAP_ALLOW);
	struct hp_schedule_plan p;

	s.within = 2 * HOUR;
	p = plan(&s, T, T + 5 * HOUR);
	ck_assert_int_eq(p.n_start, 3);
	ck_assert_int_eq(p.start[0], T + 3 * HOUR);
	ck_assert_int_eq(p.start[2], T + 5 * HOUR);
	ck_assert_int_eq(p.skipped, 2);
	ck_assert_int_eq(p.missed_until, T + 2 * HOUR);
	s.within = 1000 * HOUR;
	p = plan(&s, T, T + 50 * HOUR); /* more than one look may start: the next look is at once */
	ck_assert_int_eq(p.n_start, HP_SCHEDULE_STARTS);
	ck_assert_int_eq(p.position, T + HP_SCHEDULE_STARTS * HOUR);
	ck_assert_int_eq(p.look, T + 50 * HOUR);
}
END_TEST

START_TEST(a_look_is_bounded_and_forgets_no_tick)
{
	struct hp_schedule s = hourly(HP_CATCH_LAST, HP_OVERLAP_SKIP);
	int64_t now = T + 2500 * HOUR, skipped = 0, position = T;
	struct hp_schedule_plan p;
	int looks = 0;

	do {
		p = plan(&s, position, now);
		ck_assert_int_gt(p.position, position);
		position = p.position;
		skipped += p.skipped;
		looks++;
	} while (p.look <= now);
	ck_assert_int_eq(looks, 3);
	ck_assert_int_eq(skipped, 2499);
	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.start[0], now);
}
END_TEST

START_TEST(queue_waits_and_waiting_is_not_lateness)
{
	struct hp_schedule s = hourly(HP_CATCH_NONE, HP_OVERLAP_QUEUE);
	int64_t now = T + 2 * HOUR + 30 * MINUTE;
	struct hp_schedule_plan p;

	hp_schedule_plan(&s, T, now, true, 0, &p);
	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.position, T);
	ck_assert_int_gt(p.look, now);
	ck_assert_int_le(p.look, now + MINUTE);
	hp_schedule_plan(&s, T, now, false, now - 1, &p);
	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.start[0], T + 2 * HOUR);
	ck_assert_int_eq(p.skipped, 1);
	hp_schedule_plan(&s, T, now, false, T, &p); /* it ended long ago: the engines were away */
	ck_assert_int_eq(p.n_start, 0);
	s.catch_up = HP_CATCH_ALL;
	s.within = 24 * HOUR;
	hp_schedule_plan(&s, T, now, false, 0, &p); /* one by one, in order */
	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.start[0], T + HOUR);
	ck_assert_int_eq(p.position, T + HOUR);
}
END_TEST

START_TEST(a_run_that_lives_holds_up_only_who_queues)
{
	struct hp_schedule s = hourly(HP_CATCH_LAST, HP_OVERLAP_ALLOW);
	struct hp_schedule_plan p;

	hp_schedule_plan(&s, T, T + HOUR, true, 0, &p);
	ck_assert_int_eq(p.n_start, 1);
	s.overlap = HP_OVERLAP_QUEUE;
	hp_schedule_plan(&s, T, T + HOUR, true, 0, &p);
	ck_assert_int_eq(p.n_start, 0);
}
END_TEST

/* No text gives such a cron (one that never fires is refused); its schedule sleeps for ever. */
START_TEST(what_never_ticks_is_not_looked_at_again)
{
	struct hp_schedule s = {.name = "never", .zone = &hp_zone_utc, .catch_up = HP_CATCH_LAST};
	struct hp_schedule_plan p = plan(&s, T, T + HOUR);

	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.n_ahead, 0);
	ck_assert_int_eq(p.look, 0);
	s.cron.real_time = true;
	p = plan(&s, T, T + HOUR);
	ck_assert_int_eq(p.look, 0);
}
END_TEST

/* Away for longer than one look goes through: what is newest is found by the last look,
 * also when that one comes out even. */
START_TEST(the_last_step_of_a_look_may_be_the_newest)
{
	struct hp_schedule s = hourly(HP_CATCH_LAST, HP_OVERLAP_SKIP);
	struct hp_schedule_plan p = plan(&s, T, T + HP_SCHEDULE_STEPS * HOUR);

	ck_assert_int_eq(p.n_start, 1);
	ck_assert_int_eq(p.start[0], T + HP_SCHEDULE_STEPS * HOUR);
	ck_assert_int_eq(p.skipped, HP_SCHEDULE_STEPS - 1);
	/* all of them too late: none is there to be given up */
	s.catch_up = HP_CATCH_NONE;
	p = plan(&s, T, T + (HP_SCHEDULE_STEPS + 10) * HOUR);
	ck_assert_int_eq(p.n_start, 0);
	ck_assert_int_eq(p.skipped, HP_SCHEDULE_STEPS);
	/* each is wanted: what was found stays, however many are left */
	s.catch_up = HP_CATCH_ALL;
	s.within = (HP_SCHEDULE_STEPS - 10) * HOUR;
	p = plan(&s, T, T + (2 * HP_SCHEDULE_STEPS - 20) * HOUR);
	ck_assert_int_eq(p.n_start, 11);
	ck_assert_int_eq(p.skipped, HP_SCHEDULE_STEPS - 11);
}
END_TEST

START_TEST(words_have_a_place)
{
	ck_assert_int_eq(hp_catch_up_of("all"), HP_CATCH_ALL);
	ck_assert_int_eq(hp_overlap_of("cancel"), HP_OVERLAP_CANCEL);
	ck_assert_int_eq(hp_overlap_of("alow"), -1);
	ck_assert_int_eq(hp_catch_up_of(NULL), -1);
	ck_assert_str_eq(hp_catch_up_name(HP_CATCH_NONE), "none");
	ck_assert_str_eq(hp_overlap_name(HP_OVERLAP_QUEUE), "queue");
}
END_TEST

HP_SUITE("core schedule", a_tick_is_started_on_time, jitter_delays_and_stays_in_its_window, last_catches_up_the_newest,
	 none_starts_only_what_is_on_time, all_starts_each_within_its_window, a_look_is_bounded_and_forgets_no_tick,
	 queue_waits_and_waiting_is_not_lateness, words_have_a_place,
	 what_never_ticks_is_not_looked_at_again,
	 a_run_that_lives_holds_up_only_who_queues, the_last_step_of_a_look_may_be_the_newest)
