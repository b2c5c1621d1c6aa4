/* commit.c: batches of transitions, and what becomes of them when it goes wrong.
 *
 * A commit is cut into chunks of at most HP_BATCH_MAX transitions, each one unit
 * (one transaction) on the connection its runs belong to. Per chunk:
 *
 *   answered        rows that came back changed; the others conflict
 *   refused         nothing happened. Deadlock, shutdown and the like: again, the
 *                   same chunk. Else cut in half until the culprit is alone. A disk
 *                   that is full or a standby: UNKNOWN at once, all of them.
 *   answer lost     LOOKING: holdpoint.look() waits for the old backend's locks
 *                   and says which rows were written. Those that were not are
 *                   sent once more (compare-and-set makes that harmless); what
 *                   conflicts then is looked at again, because the first sending
 *                   may have landed late. Of what was made after a reload a look
 *                   that finds something is not believed (hp_transition_alone()).
 *   cannot be found out    UNKNOWN: the caller loads the run again
 */
#include <stdlib.h>
#include <string.h>

#include "store/pg/pg_private.h"

#define TRANSIENT_TRIES 5
#define LOOK_TRIES 4
#define LOOK_DEADLINE_US (10 * INT64_C(1000000))

struct commit {
	struct hp_store_pg *s;
	hp_commit_cb cb;
	void *arg;
	int64_t now;
	int n;
	int open; /* chunks under way; the callback comes when none is left */
	bool look_only;
	const struct hp_transition **t;
	struct hp_commit_result *res;
	struct hp_error **errors; /* what the database said of a row */
};

struct chunk {
	struct pgs_call call;
	struct commit *c;
	struct hp_pg *pg;
	int tries;    /* transient refusals */
	int looks;
	bool looking; /* the unit under way is look(), not commit() */
	bool resent;
	int n;
	int *idx; /* which transitions, by ascending run */
};

static void chunk_done(struct pgs_call *call, const struct hp_pg_reply *r);

static void commit_end(struct commit *c)
{
	if (c->open > 0)
		return;
	c->cb(c->arg, c->now, c->res, c->n);
	for (int i = 0; i < c->n; i++)
		hp_free(c->errors[i]);
	hp_free(c->errors);
	hp_free(c->res);
	hp_free((void *)c->t);
	hp_free(c);
}

/* A chunk of the same kind over some of the rows. Not sent yet. */
static struct chunk *chunk_new(struct commit *c, struct hp_pg *pg, const int *idx, int n)
{
	struct chunk *k = pgs_call_new(c->s, sizeof *k, chunk_done, NULL);

	k->c = c;
	k->pg = pg;
	k->n = n;
	k->idx = hp_needed((size_t)n + 1, sizeof *k->idx); /* without an answer the run would hang */
	for (int i = 0; i < n; i++)
		k->idx[i] = idx[i];
	c->open++;
	return k;
}

/* The same rows again, in a new call. */
static struct chunk *chunk_again(const struct chunk *k)
{
	struct chunk *next = chunk_new(k->c, k->pg, k->idx, k->n);

	next->tries = k->tries;
	next->looks = k->looks;
	next->resent = k->resent;
	return next;
}

static void chunk_send(struct chunk *k)
{
	struct hp_pg_unit *u = k->c->s->closing ? NULL : hp_pg_unit_new(k->pg);

	hp_pg_binary_results(u, true);
	hp_pg_statement(u, pgs_commit_sql());
	if (u && pgs_encode(u, k->c->t, k->idx, k->n, &k->call.error) < 0) {
		hp_pg_unit_free(u);
		u = NULL;
	}
	pgs_send(u, &k->call);
}

static int look_bind(struct hp_pg_unit *u, const struct chunk *k)
{
	int64_t *v = hp_calloc((size_t)k->n + 1, sizeof *v);

	if (!v)
		return -1;
	for (int i = 0; i < k->n; i++)
		v[i] = k->c->t[k->idx[i]]->run_id;
	hp_pg_bind_int_array(u, v, k->n);
	for (int i = 0; i < k->n; i++)
		v[i] = k->c->t[k->idx[i]]->epoch;
	hp_pg_bind_int_array(u, v, k->n);
	for (int i = 0; i < k->n; i++)
		v[i] = k->c->t[k->idx[i]]->rev;
	hp_pg_bind_int_array(u, v, k->n);
	hp_free(v);
	return 0;
}

static void chunk_look(struct chunk *k)
{
	struct hp_pg_unit *u = k->c->s->closing ? NULL : hp_pg_unit_new(k->pg);

	k->looking = true;
	hp_pg_binary_results(u, true);
	hp_pg_unit_deadline(u, LOOK_DEADLINE_US);
	hp_pg_statement(u, "select o_ord, o_written, o_unchanged, o_cancel, o_first_sent_at, o_now, o_pause, o_gated"
			   " from holdpoint.look($1, $2, $3)");
	if (u && look_bind(u, k) < 0) {
		hp_pg_unit_free(u);
		u = NULL;
	}
	pgs_send(u, &k->call);
}

static void chunk_outcome(struct chunk *k, enum hp_commit_outcome outcome)
{
	for (int i = 0; i < k->n; i++)
		k->c->res[k->idx[i]].outcome = outcome;
}

/* All of them, with what the database said. */
static void chunk_failed(struct chunk *k, enum hp_commit_outcome outcome, const struct hp_pg_reply *r)
{
	chunk_outcome(k, outcome);
	for (int i = 0; i < k->n; i++) {
		struct hp_error **err = &k->c->errors[k->idx[i]];

		hp_free(*err);
		*err = hp_needed(1, sizeof **err);
		pgs_error(r, *err);
		k->c->res[k->idx[i]].error = *err;
	}
}

/* ---- answers ---- */

/* Those of k that are marked in `which`, in a new chunk; NULL: none. */
static struct chunk *chunk_some(const struct chunk *k, const bool *which)
{
	struct chunk *next;
	int n = 0;

	for (int i = 0; i < k->n; i++)
		n += which[i];
	if (n == 0)
		return NULL;
	next = chunk_again(k);
	next->n = 0;
	for (int i = 0; i < k->n; i++)
		if (which[i])
			next->idx[next->n++] = k->idx[i];
	return next;
}

/* The code of a refused admission; the result of the query is gone when it is told. */
static void keep_gated(struct hp_commit_result *res, const PGresult *q, int row, int column)
{
	struct hp_bytes code = hp_pg_bytes(q, row, column);
	size_t n = code.n < sizeof res->gated ? code.n : sizeof res->gated - 1;

	if (n > 0)
		memcpy(res->gated, code.p, n);
	res->gated[n] = 0;
}

static void chunk_answered(struct chunk *k, const PGresult *q)
{
	struct commit *c = k->c;
	bool missing[HP_BATCH_MAX];

	for (int i = 0; i < k->n; i++)
		missing[i] = true;
	for (int row = 0; row < PQntuples(q); row++) {
		int at = (int)hp_pg_int(q, row, 0) - 1;
		struct hp_commit_result *res;

		HP_ASSERT(at >= 0 && at < k->n);
		missing[at] = false;
		res = &c->res[k->idx[at]];
		res->outcome = HP_COMMIT_OK;
		res->cancel = hp_pg_bool(q, row, 1);
		res->pause = hp_pg_bool(q, row, 4);
		res->first_sent_at = hp_pg_int(q, row, 2);
		c->now = hp_pg_int(q, row, 3);
		keep_gated(res, q, row, 5);
	}
	for (int i = 0; i < k->n; i++)
		if (missing[i])
			c->res[k->idx[i]].outcome = HP_COMMIT_CONFLICT;
	if (k->resent) {
		struct chunk *late = chunk_some(k, missing);
		if (late)
			chunk_look(late);
	}
}

static void look_answered(struct chunk *k, const PGresult *q)
{
	struct commit *c = k->c;
	bool again[HP_BATCH_MAX] = { false };
	struct chunk *next;

	for (int row = 0; row < PQntuples(q); row++) {
		int at = (int)hp_pg_int(q, row, 0) - 1;
		const struct hp_transition *t;
		struct hp_commit_result *res;

		HP_ASSERT(at >= 0 && at < k->n);
		t = c->t[k->idx[at]];
		res = &c->res[k->idx[at]];
		res->outcome = HP_COMMIT_CONFLICT;
		c->now = hp_pg_int(q, row, 5);
		if (hp_pg_bool(q, row, 1) && hp_transition_alone(t)) {
			int64_t first = hp_pg_int(q, row, 4);

			res->outcome = HP_COMMIT_OK;
			res->cancel = hp_pg_bool(q, row, 3);
			res->pause = hp_pg_bool(q, row, 6);
			keep_gated(res, q, row, 7);
			/* commit() overwrites it only with an older admission of the key */
			if (t->admits && t->business_key && !res->gated[0] && first != t->after.first_sent_at)
				res->first_sent_at = first;
		} else if (hp_pg_bool(q, row, 2) && !k->resent && !c->look_only) {
			again[at] = true;
		}
	}
	next = chunk_some(k, again);
	if (next) {
		next->resent = true;
		chunk_send(next);
	}
}

static void chunk_refused(struct chunk *k, const struct hp_pg_reply *r)
{
	struct commit *c = k->c;
	bool transient = pgs_transient(r->sqlstate);

	if (pgs_refuses(r->sqlstate)) {
		/* Not a conflict: those are looked into at once, and this would spin. */
		chunk_failed(k, HP_COMMIT_UNKNOWN, r);
	} else if (transient && k->tries < TRANSIENT_TRIES && (k->n == 1 || k->tries == 0)) {
		struct chunk *next = chunk_again(k);

		next->tries++;
		chunk_send(next);
	} else if (k->n > 1) {
		struct chunk *a = chunk_new(c, k->pg, k->idx, k->n / 2);
		struct chunk *b = chunk_new(c, k->pg, k->idx + k->n / 2, k->n - k->n / 2);

		a->resent = b->resent = k->resent;
		chunk_send(a);
		chunk_send(b);
	} else {
		/* transient: nothing was written and the row is not to blame (a lock) */
		chunk_failed(k, transient ? HP_COMMIT_UNKNOWN : HP_COMMIT_REFUSED, r);
	}
}

/* Lost, or a look that found nothing out. */
static void chunk_lost(struct chunk *k)
{
	struct chunk *next;

	if (k->c->s->closing || k->looks >= LOOK_TRIES) {
		chunk_outcome(k, HP_COMMIT_UNKNOWN);
		return;
	}
	next = chunk_again(k);
	next->looks++;
	chunk_look(next);
}

static void chunk_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	struct chunk *k = (struct chunk *)(void *)call;
	struct commit *c = k->c;

	if (r->outcome == HP_PG_OK && k->looking)
		look_answered(k, r->results[0]);
	else if (r->outcome == HP_PG_OK)
		chunk_answered(k, r->results[0]);
	else if (r->outcome == HP_PG_LOST || k->looking)
		chunk_lost(k);
	else if (r->outcome == HP_PG_FAILED)
		chunk_refused(k, r);
	else if (r->error.code == HP_E_INVALID || r->error.code == HP_E_TOO_LARGE)
		chunk_refused(k, r); /* it cannot even be sent */
	else
		chunk_failed(k, HP_COMMIT_UNKNOWN, r); /* no connection: the caller loads it again */
	hp_free(k->idx);
	c->open--;
	commit_end(c);
}

/* ---- in ---- */

static struct commit *commit_new(struct hp_store_pg *s, const struct hp_transition *const *t, int n,
				 hp_commit_cb cb, void *arg)
{
	struct commit *c = hp_needed(1, sizeof *c); /* as in chunk_new() */

	HP_ASSERT(n >= 0);
	c->s = s;
	c->cb = cb;
	c->arg = arg;
	c->n = n;
	c->t = hp_needed((size_t)n + 1, sizeof *c->t);
	c->res = hp_needed((size_t)n + 1, sizeof *c->res);
	c->errors = hp_needed((size_t)n + 1, sizeof *c->errors);
	for (int i = 0; i < n; i++)
		c->t[i] = t[i];
	return c;
}

struct order {
	int64_t run;
	int idx;
};

static int by_run(const void *a, const void *b)
{
	const struct order *x = a, *y = b;

	return x->run < y->run ? -1 : x->run > y->run;
}

static void nothing_done(struct pgs_call *call, const struct hp_pg_reply *r)
{
	(void)r;
	commit_end(call->arg);
}

void pgs_commit(struct hp_store *st, const struct hp_transition *const *t, int n, hp_commit_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct commit *c = commit_new(s, t, n, cb, arg);
	struct order *order = hp_needed((size_t)n + 1, sizeof *order);
	int part[HP_BATCH_MAX];

	if (n == 0)
		pgs_defer(pgs_call_new(s, sizeof(struct pgs_call), nothing_done, c));
	for (int i = 0; i < n; i++)
		order[i] = (struct order){ t[i]->run_id, i };
	qsort(order, (size_t)n, sizeof *order, by_run); /* locks are taken in this order */
	for (int conn = 0; conn < s->n_commits; conn++) {
		int k = 0;

		for (int i = 0; i < n; i++) {
			/* a run keeps to one connection, so its transitions stay in order */
			if (order[i].run % s->n_commits == conn)
				part[k++] = order[i].idx;
			if (k == HP_BATCH_MAX || (i == n - 1 && k > 0)) {
				chunk_send(chunk_new(c, s->commits[conn], part, k));
				k = 0;
			}
		}
	}
	hp_free(order);
}

void pgs_find_out(struct hp_store_pg *s, const struct hp_transition *t, hp_commit_cb cb, void *arg)
{
	struct commit *c = commit_new(s, &t, 1, cb, arg);
	struct chunk *k;
	int zero = 0;

	c->look_only = true;
	k = chunk_new(c, s->commits[t->run_id % s->n_commits], &zero, 1);
	chunk_look(k);
}
