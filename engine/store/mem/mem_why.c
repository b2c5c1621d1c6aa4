/* mem_why.c: one sentence for a run that does not move. */
#include "store/mem/mem_private.h"
int mem_why(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	(void)args;
	(void)out;
	return hp_fail(err, HP_E_NOT_FOUND, "%zu runs, and no sentence yet", mem_count(&m->w, T_RUN));
}
