/* late.c: commits that are still on their way when their sender has given up on them.
 *
 * The connection is lost, nothing is written yet, and the bytes may be with the database
 * already (a backend that waits for its turn, a pooler, a proxy). They are worked off at any
 * later time, whatever has happened since, or never. Who looks or reads again waits for the lock
 * of a backend that has begun; that is the same as one that has landed before. Of one that has
 * not begun nobody can know, so landing afterwards is possible, too.
 */
#include "explore.h"

#include <string.h>

struct x_late L[X_LATES];
struct hp_transition x_landed;

/* Empty is another thing than absent. */
static struct hp_bytes keep(struct hp_bytes b)
{
	return b.n > 0 ? x_keep(b) : (struct hp_bytes){ b.p ? "" : NULL, 0 };
}

static const char *keep_s(const char *s)
{
	return s ? keep(hp_bytes_of(s)).p : NULL;
}

/* The machine that made it goes on: nothing of it may be pointed to. */
void x_late_put(const struct x_hand *h)
{
	struct x_late *l = L;
	struct hp_transition *t;

	while (l < L + X_LATES && l->used)
		l++;
	HP_ASSERT(l < L + X_LATES);
	l->used = true;
	l->heard = X.heard[h->run][h->m.t.from_visit];
	memcpy(l->token, h->token, sizeof l->token);
	l->t = h->m.t;
	t = &l->t;
	t->request = keep(t->request);
	t->effect_key = keep(t->effect_key);
	for (int i = 0; i < t->n_saves; i++)
		t->saves[i].value = keep(t->saves[i].value);
	t->code = keep_s(t->code);
	t->message = keep_s(t->message);
	t->approval = keep(t->approval);
	t->wait_keys = keep(t->wait_keys);
	t->result = keep(t->result);
	for (int i = 0; i < t->n_annexes; i++)
		t->annexes[i].doc = keep(t->annexes[i].doc);
	t->keep = keep(t->keep);
}

bool x_late_stale(const struct x_late *l)
{
	const struct hp_run *r = &x_run(l->t.run_id)->row;

	return r->epoch != l->t.epoch || r->rev != l->t.rev || hp_status_final(r->status);
}

/* Nobody hears of it. */
void x_late_land(int slot)
{
	struct x_late l = L[slot];

	memset(&L[slot], 0, sizeof L[slot]);
	x_landed = l.t;
	x_wrote_stale = x_late_stale(&l);
	if (!x_wrote_stale)
		X.heard[l.t.run_id][l.t.from_visit] = l.heard;
	x_commit(&l.t, l.token, HP_MEM_TRY, NULL);
}

void x_late_lose(int slot)
{
	memset(&L[slot], 0, sizeof L[slot]);
}

/* What holdpoint.look() would say of a commit that conflicts: is there a transition of this very
 * epoch and rev, and is that believed? */
bool x_looks_written(const struct x_hand *h)
{
	const struct hp_transition *t = &h->m.t;

	if (!hp_transition_alone(t))
		return false;
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, x)
		if (x->run == h->run && x->rev == t->rev + 1 && x->seq == 0 && x->epoch == t->epoch && x->by.n == 0)
			return true;
	return false;
}
