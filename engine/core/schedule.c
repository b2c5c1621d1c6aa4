/* schedule.c: catching up, and the next look. */
#include "core/schedule.h"

#include <string.h>

#define SOON INT64_C(1000000) /* queued behind a run that lives */

static const char *const catch_ups[] = {"last", "none", "all", NULL};
static const char *const overlaps[] = {"skip", "queue", "allow", "cancel", NULL};

static int find(const char *const *words, const char *word)
{
	for (int i = 0; word && words[i]; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	return -1;
}

int hp_catch_up_of(const char *word)
{
	return find(catch_ups, word);
}

int hp_overlap_of(const char *word)
{
	return find(overlaps, word);
}

const char *hp_catch_up_name(enum hp_catch_up c)
{
	return catch_ups[c];
}

const char *hp_overlap_name(enum hp_overlap o)
{
	return overlaps[o];
}

static int64_t due_of(const struct hp_schedule *s, int64_t tick)
{
	return tick + hp_cron_jitter(s->name, tick, s->jitter);
}

static void give_up(struct hp_schedule_plan *p, int64_t tick)
{
	p->skipped++;
	p->missed_until = tick;
}

static bool next(const struct hp_schedule *s, int64_t after, int64_t *tick)
{
	return hp_cron_next(&s->cron, s->zone, after, tick);
}

/* Is it too late for this one? */
static bool too_late(const struct hp_schedule *s, int64_t tick, int64_t now, int64_t idle_since)
{
	int64_t from = due_of(s, tick);

	if (s->overlap == HP_OVERLAP_QUEUE && idle_since > from)
		from = idle_since; /* it waited for the run before it */
	if (s->catch_up == HP_CATCH_NONE)
		return now - from > HP_SCHEDULE_GRACE;
	return s->within > 0 && now - from > s->within;
}

/* Every tick that is due, oldest first, while there is room. */
static void settle(const struct hp_schedule *s, int64_t now, int64_t idle_since, struct hp_schedule_plan *p)
{
	int max = s->catch_up != HP_CATCH_ALL || s->overlap == HP_OVERLAP_QUEUE ? 1 : HP_SCHEDULE_STARTS;
	int64_t tick;

	for (int steps = 0;; steps++) {
		bool late;

		if (!next(s, p->position, &tick) || due_of(s, tick) > now)
			return;
		if (steps == HP_SCHEDULE_STEPS)
			break;
		late = too_late(s, tick, now, idle_since);
		if (s->catch_up == HP_CATCH_ALL && !late && p->n_start == max)
			return;
		p->position = tick;
		if (late) {
			give_up(p, tick);
			continue;
		}
		if (p->n_start == max) /* only the newest: it takes the place of the one before */
			give_up(p, p->start[--p->n_start]);
		p->start[p->n_start++] = tick;
	}
	/* Out of steps: what is newest is not known yet, so what was found is not it. */
	if (p->n_start > 0 && s->catch_up != HP_CATCH_ALL)
		give_up(p, p->start[--p->n_start]);
}

static void look_ahead(const struct hp_schedule *s, int64_t now, bool waits, struct hp_schedule_plan *p)
{
	int64_t tick = p->position;

	for (p->n_ahead = 0; p->n_ahead < HP_SCHEDULE_AHEAD && next(s, tick, &tick); p->n_ahead++)
		p->ahead[p->n_ahead] = tick;
	if (p->n_ahead == 0)
		return;
	p->look = due_of(s, p->ahead[0]);
	if (p->look <= now) /* more is due */
		p->look = waits ? now + SOON : now;
}

void hp_schedule_plan(const struct hp_schedule *s, int64_t position, int64_t now, bool busy, int64_t idle_since,
		      struct hp_schedule_plan *p)
{
	bool waits = busy && s->overlap == HP_OVERLAP_QUEUE;

	*p = (struct hp_schedule_plan){.position = position};
	if (!waits)
		settle(s, now, idle_since, p);
	look_ahead(s, now, waits || (s->overlap == HP_OVERLAP_QUEUE && p->n_start > 0), p);
}
