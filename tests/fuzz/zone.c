/* Time zone files (TZif): whatever they say, a zone that was read answers for every
 * instant with a stretch that holds it, stretches join, and wall times go back and forth.
 *
 * Input: a file. */
#include "core/zone.h"
#include "base/arena.h"
#include "lib/fuzz.h"
#include "script/zone.h"

static const int64_t instants[] = {
	-(INT64_C(1) << 38), -86401, -1, 0, 1, 86399, 951782400, 1711846800, 1761440400, 1793494800, 4102444800,
	INT64_C(1) << 38,
};

static void check_at(const struct hp_zone *z, int64_t t)
{
	struct hp_zone_span s = hp_zone_at(z, t), next;
	int64_t i;

	MUST(s.from <= t && t < s.until, "%lld is outside %lld … %lld", (long long)t, (long long)s.from,
	     (long long)s.until);
	MUST(s.offset > -HP_ZONE_SPREAD && s.offset < HP_ZONE_SPREAD);
	if (s.until < INT64_MAX) {
		next = hp_zone_at(z, s.until);
		MUST(next.from <= s.until && next.until > s.until);
	}
	if (s.from > INT64_MIN)
		MUST(hp_zone_at(z, s.from).offset == s.offset, "a stretch changes at its own beginning");
	/* a wall time's first occurrence is never after the instant that showed it */
	i = hp_zone_instant(z, t + s.offset);
	MUST(i <= t, "%lld means %lld", (long long)t, (long long)i);
	MUST(i + hp_zone_at(z, i).offset == t + s.offset, "%lld is another time on the wall", (long long)i);
}

HP_FUZZ(zone)
{
	struct hp_arena *a = hp_arena_new(1 << 20);
	struct hp_error err = {0};
	struct hp_zone z;

	MUST(a != NULL);
	if (hp_zone_parse((struct hp_bytes){(const char *)p, n}, "the input", a, &z, &err) < 0) {
		must_explain(&err);
	} else {
		for (size_t i = 0; i < sizeof instants / sizeof *instants; i++)
			check_at(&z, instants[i]);
		for (int i = 0; i < z.n; i++)
			for (int d = -1; d <= 1; d++)
				check_at(&z, z.at[i] + d);
	}
	hp_arena_free(a);
}
