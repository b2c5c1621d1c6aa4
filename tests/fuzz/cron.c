/* Cron expressions in time zones against a model that looks minute by minute: a tick is
 * later than what it comes after, at a time that the fields name, and nothing that they
 * name lies before it. And what a schedule makes of its ticks.
 *
 * Input: the expression, a newline, a POSIX rule of a zone ("CET-1CEST,M3.5.0,M10.5.0/3"),
 * a newline, eight bytes for the instant; four, two and one for the schedule. */
#include "core/cron.h"
#include "core/schedule.h"
#include "lib/fuzz.h"

#define SECOND INT64_C(1000000)
#define DAY INT64_C(86400)
#define FAR (INT64_C(1) << 38) /* seconds: about the year 10680 */
#define LOOKED 5000            /* seconds, and minutes, that are looked at one by one */

static int64_t floor_to(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Do the fields name this wall second? */
static bool named(const struct hp_cron *c, int64_t wall)
{
	int64_t days = floor_to(wall, DAY), second = wall - days * DAY, year, y;
	int month, day, m, d;
	bool of_month, of_week;

	hp_date_of(days, &year, &month, &day);
	hp_date_of(days + 1, &y, &m, &d);
	of_month = (c->days >> day & 1) || (c->last_day && m != month);
	of_week = c->weekdays >> (days + 4 - 7 * floor_to(days + 4, 7)) & 1; /* 1970-01-01: Thursday */
	return second % 60 == 0 && (c->minutes >> second % 3600 / 60 & 1) && (c->hours >> second / 3600 & 1) &&
	       (c->months >> month & 1) &&
	       (c->any_day || c->any_weekday ? of_month && of_week : of_month || of_week);
}

/* `*` in minute or hour: the wall clock as time passes. */
static void check_real(const struct hp_cron *c, const struct hp_zone *z, int64_t after, int64_t tick)
{
	MUST(named(c, tick + hp_zone_at(z, tick).offset), "not a time of the fields");
	for (int64_t t = after + 1; t < tick && t < after + LOOKED; t++)
		MUST(!named(c, t + hp_zone_at(z, t).offset), "%lld is named, too", (long long)t);
}

/* Fixed times: what their wall times mean. */
static void check_fixed(const struct hp_cron *c, const struct hp_zone *z, int64_t after, int64_t tick)
{
	int64_t wall = 60 * floor_to(tick + hp_zone_at(z, tick).offset, 60);
	bool found = false;

	for (int i = 0; i < 2 * HP_ZONE_SPREAD / 60 && !found; i++, wall -= 60)
		found = named(c, wall) && hp_zone_instant(z, wall) == tick;
	MUST(found, "no time of the fields means this instant");
	wall = 60 * floor_to(after - HP_ZONE_SPREAD, 60);
	for (int i = 0; i < LOOKED; i++, wall += 60)
		if (named(c, wall)) {
			int64_t t = hp_zone_instant(z, wall);

			MUST(t <= after || t >= tick, "%lld is meant, too", (long long)t);
		}
}

static int64_t check_next(const struct hp_cron *c, const struct hp_zone *z, int64_t after)
{
	int64_t tick = INT64_MIN, at;

	if (!hp_cron_next(c, z, after, &tick))
		return INT64_MAX;
	MUST(tick > after);
	if (c->every_us > 0) {
		MUST(tick % c->every_us == 0 && tick - after <= c->every_us);
		return tick;
	}
	MUST(tick % SECOND == 0);
	at = floor_to(after, SECOND);
	(c->real_time ? check_real : check_fixed)(c, z, at, tick / SECOND);
	return tick;
}

static void check_plan(struct hp_schedule *s, int64_t position, int64_t now, uint8_t how)
{
	struct hp_schedule_plan plan;

	s->catch_up = (enum hp_catch_up)(how % 3);
	s->overlap = (enum hp_overlap)(how / 3 % 4);
	hp_schedule_plan(s, position, now, how & 0x80, 0, &plan);
	MUST(plan.n_start >= 0 && plan.n_start <= HP_SCHEDULE_STARTS && plan.skipped >= 0);
	MUST(plan.n_ahead >= 0 && plan.n_ahead <= HP_SCHEDULE_AHEAD && plan.position >= position);
	for (int i = 0; i < plan.n_start; i++) {
		MUST(plan.start[i] > position && plan.start[i] <= plan.position);
		MUST(plan.start[i] + hp_cron_jitter(s->name, plan.start[i], s->jitter) <= now, "before its time");
		MUST(i == 0 || plan.start[i] > plan.start[i - 1]);
	}
	for (int i = 0; i < plan.n_ahead; i++)
		MUST(plan.ahead[i] > plan.position && (i == 0 || plan.ahead[i] > plan.ahead[i - 1]));
}

static void check_fields(const struct hp_cron *c)
{
	MUST(c->minutes != 0 && c->minutes < UINT64_C(1) << 60 && c->hours != 0 && c->hours < 1u << 24);
	MUST((c->days != 0 || c->last_day) && !(c->days & 1) && c->months != 0 && !(c->months & 1));
	MUST(c->months < 1u << 13 && c->weekdays != 0 && c->weekdays < 1u << 7);
}

HP_FUZZ(cron)
{
	struct hp_input in = {p, n};
	char *text = text_of(in_until(&in, '\n')), *rule = text_of(in_until(&in, '\n'));
	int64_t after = (int64_t)in_bits(&in, 8) % (FAR * SECOND), tick;
	struct hp_zone zone = hp_zone_utc;
	struct hp_cron c;
	struct hp_error err = {0};

	if (hp_cron_parse(text, &c, &err) < 0) {
		must_explain(&err);
	} else if (hp_zone_rule_parse(rule, &zone.rule, &err) == 0) {
		struct hp_schedule s = {.name = "fuzz", .cron = c, .zone = &zone};

		if (c.every_us == 0)
			check_fields(&c);
		tick = check_next(&c, &zone, after);
		if (tick != INT64_MAX)
			check_next(&c, &zone, tick);
		s.jitter = (int64_t)in_bits(&in, 2) * SECOND;
		check_plan(&s, after, after + (int64_t)in_bits(&in, 4) * SECOND, in_byte(&in));
	}
	free(text);
	free(rule);
}
