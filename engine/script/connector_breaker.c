/* connector_breaker.c: `breaker` of a connector or of one of its operations. */
#include <string.h>

#include "core/breaker.h"
#include "script/internal.h"

/* "50%": a whole number from 1 to 100. */
static int percent(const struct hp_reader *r, const char *field, int fallback)
{
	const char *s = hp_r_string(r, -1, field);
	int v;

	if (!s)
		return fallback;
	v = hp_percent_parse(s);
	if (v < 1)
		hp_r_fail(r, "breaker: %s = \"%s\" must be a percentage like \"50%%\"", field, s);
	return v;
}

static int64_t span(const struct hp_reader *r, const char *field, int64_t fallback, int64_t min, int64_t max)
{
	int64_t us = hp_r_duration(r, -1, field, fallback);

	if (us != fallback && (us < min || us > max))
		hp_r_fail(r, "breaker: %s must be from %d to %d seconds", field, (int)(min / 1000000),
			  (int)(max / 1000000));
	return us;
}

const struct hp_breaker_spec *hp_breaker_read(const struct hp_reader *r, int table,
					      const struct hp_breaker_spec *inherited, bool *own)
{
	static const char *const fields[] = {"failures", "minimum", "window", "consecutive", "slow",
					     "slow_ratio", "open", "probes"};
	const struct hp_breaker_spec *base = inherited ? inherited : &hp_breaker_default;
	struct hp_breaker_spec *s;

	*own = false;
	if (!hp_r_get(r, table, "breaker"))
		return inherited;
	*own = true;
	if (lua_isboolean(r->L, -1) && !lua_toboolean(r->L, -1)) {
		lua_pop(r->L, 1);
		return NULL;
	}
	if (!lua_istable(r->L, -1))
		hp_r_fail(r, "breaker must be a table, or false for none");
	hp_r_only(r, -1, fields, sizeof fields / sizeof *fields, 0);
	s = hp_r_alloc(r, sizeof *s);
	s->failures_percent = percent(r, "failures", base->failures_percent);
	s->minimum = (int)hp_r_integer(r, -1, "minimum", base->minimum, 1, 1000000);
	s->window_us = span(r, "window", base->window_us, INT64_C(1000000), INT64_C(3600) * 1000000);
	s->consecutive = (int)hp_r_integer(r, -1, "consecutive", base->consecutive, 1, 1000000);
	s->slow_us = span(r, "slow", base->slow_us, 1000, INT64_C(300) * 1000000);
	s->slow_percent = percent(r, "slow_ratio", base->slow_percent);
	s->open_us = span(r, "open", base->open_us, INT64_C(1000000), INT64_C(86400) * 1000000);
	s->probes = (int)hp_r_integer(r, -1, "probes", base->probes, 1, 100);
	lua_pop(r->L, 1);
	return s;
}
