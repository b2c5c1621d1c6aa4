/* schedule.h: which ticks of a schedule to start now, and when to look again.
 *
 * Pure: an engine asks with what the store says and the time, and writes the
 * answer back; whoever asks gets the same answer.
 *
 * `position` is the last instant that is settled. A tick is due at its own time
 * plus its jitter. What is due is split by catch_up:
 *   none   the newest, if it is at most HP_SCHEDULE_GRACE late; the rest is skipped
 *   last   the newest, if not older than `within`; the rest is skipped (the default)
 *   all    each that is not older than `within`, oldest first
 * With overlap `queue` nothing starts while the previous run lives: the schedule
 * stays where it is and is looked at again soon; then the newest starts (all: the
 * oldest). Waiting for the previous run is not lateness.
 */
#ifndef HP_CORE_SCHEDULE_H
#define HP_CORE_SCHEDULE_H

#include "core/cron.h"

#define HP_SCHEDULE_GRACE (INT64_C(60) * 1000000)
#define HP_SCHEDULE_AHEAD 20   /* next ticks kept with the schedule, for people */
#define HP_SCHEDULE_STARTS 20  /* in one look; the next look comes at once */
#define HP_SCHEDULE_STEPS 1000 /* ticks considered in one look */

enum hp_catch_up { HP_CATCH_LAST = 0, HP_CATCH_NONE, HP_CATCH_ALL };
enum hp_overlap { HP_OVERLAP_SKIP = 0, HP_OVERLAP_QUEUE, HP_OVERLAP_ALLOW, HP_OVERLAP_CANCEL };
/* By their word; -1: there is none. */
int hp_catch_up_of(const char *word);
int hp_overlap_of(const char *word);
const char *hp_catch_up_name(enum hp_catch_up c);
const char *hp_overlap_name(enum hp_overlap o);

struct hp_schedule {
	const char *name;         /* "nightly", "nightly:2": its jitter depends on it */
	struct hp_cron cron;
	const struct hp_zone *zone;
	int64_t jitter, within;   /* µs; within 0: no limit */
	enum hp_catch_up catch_up;
	enum hp_overlap overlap;
};

struct hp_schedule_plan {
	int64_t start[HP_SCHEDULE_STARTS]; /* ticks, ascending */
	int n_start;
	int64_t skipped;          /* ticks given up, the last of them is missed_until */
	int64_t missed_until;
	int64_t position;         /* settled up to here */
	int64_t look;             /* when to look again; 0: never, it has no tick any more */
	int64_t ahead[HP_SCHEDULE_AHEAD]; /* ahead[0] is the next tick after position */
	int n_ahead;
};

/* busy: the previous run lives. idle_since: when it ended, 0 when not known. */
void hp_schedule_plan(const struct hp_schedule *s, int64_t position, int64_t now, bool busy, int64_t idle_since,
		      struct hp_schedule_plan *p);

#endif
