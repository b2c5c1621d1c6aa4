/* statement.c: the machine's HP_ACT_SQL as the store's request, for every driver. */
#include "store/store.h"

struct hp_sql_state hp_sql_state_of(const struct hp_machine *m, const struct hp_action *act, const char *token,
				    struct hp_sql_page *page)
{
	const struct hp_state *s = &m->def->states[act->state];
	const struct hp_sweep *w = act->sweep;
	struct hp_sql_state q = {.run_id = m->run.id,
				 .epoch = m->run.epoch,
				 .token = token,
				 .mode = s->sql.mode,
				 .text = s->sql.text,
				 .args = act->value,
				 .timeout_us = act->timeout_us};

	if (!w)
		return q;
	*page = (struct hp_sql_page){.rows = s->sweep.rows,
				     .column = s->sweep.cursor,
				     .total = w->cursor[0] ? NULL : s->sweep.total,
				     .cursor = hp_bytes_of(w->cursor[0] ? w->cursor : s->sweep.first),
				     .limit = s->sweep.batch,
				     .each_row = s->sweep.has_call,
				     .row = act->reply.n > 0 ? w->row : (struct hp_bytes){NULL, 0},
				     .reply = act->reply,
				     .lag_max = w->dry ? 0 : s->sweep.lag_max, /* rolled back: no standby hears of it */
				     .dry = w->dry};
	q.page = page;
	return q;
}
