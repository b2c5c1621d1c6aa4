/* mem_engine.c: engines, their leases, and who owns which run.
 *
 * Clocks are looked at here and nowhere else: they decide who may claim. An engine is
 * marked dead first; only then do its runs become ready. Until somebody claims such a
 * run its epoch is unchanged, so the engine that was taken for dead may still commit.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutant.h"
#include "store/mem/mem_private.h"

void mem_engine_register(struct hp_store *s, const char *host, int64_t pid, int64_t lease_us,
			 hp_engine_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_ENGINE, arg);
	struct hp_engine_info *info = mem_keep_alloc(an, sizeof *info);
	struct mem_engine *e = mem_add(&m->w, T_ENGINE);

	e->id = (int64_t)mem_count(&m->w, T_ENGINE);
	e->host = mem_intern_s(m, host);
	e->pid = pid;
	e->lease_us = lease_us;
	e->lease_until = *m->now + lease_us;
	info->id = e->id;
	info->now = *m->now;
	memcpy(info->installation, HP_MEM_INSTALLATION, sizeof HP_MEM_INSTALLATION);
	an->cb.engine = cb;
	an->result = info;
}

/* NULL and the error: nobody's engine may act for another. */
static struct mem_engine *alive(struct mem_store *m, int64_t id, struct hp_error *err)
{
	struct mem_engine *e = mem_engine_find(&m->w, id);

	if (e && !e->dead)
		return e;
	hp_fail(err, HP_E_CONFLICT, "engine %lld has been marked dead", (long long)id);
	return NULL;
}

/* At most max runs of engines that were marked dead become ready. */
static void return_runs(struct mem_store *m, int max)
{
	MEM_EACH(&m->w, T_RUN, struct mem_run, r) {
		struct mem_engine *e = r->engine ? mem_engine_find(&m->w, r->engine) : NULL;

		if (!e || !e->dead)
			continue;
		if (max-- <= 0)
			return;
		r->engine = 0;
		mem_ready(m, r);
	}
}

static void bury(struct mem_store *m)
{
	MEM_EACH(&m->w, T_ENGINE, struct mem_engine, e)
		if (e->lease_until < *m->now)
			e->dead = true;
}

void mem_heartbeat(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_ACK, arg);
	struct mem_engine *e = alive(m, engine, &an->err);

	an->cb.ack = cb;
	if (!e)
		return;
	e->lease_until = *m->now + e->lease_us;
	bury(m);
	mem_breakers_tend(m);
	return_runs(m, HP_CLAIM_MAX);
}

void mem_engine_stop(struct hp_store *s, int64_t engine, hp_ack_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_ACK, arg);
	struct mem_engine *e = mem_engine_find(&m->w, engine);

	an->cb.ack = cb;
	if (!e)
		return;
	e->dead = true;
	e->lease_until = *m->now;
	return_runs(m, INT32_MAX);
}

/* The token is derived, not drawn, so that equal calls give equal worlds: here nobody
 * is kept out by it, only mistakes are found. */
static void make_token(struct mem_run *r)
{
	uint8_t hash[HP_SHA256_LEN];
	struct hp_bytes parts[2] = { { (const char *)&r->row.id, sizeof r->row.id },
				     { (const char *)&r->row.epoch, sizeof r->row.epoch } };

	hp_sha256_parts(parts, 2, hash);
	hp_hex(hash, sizeof hash, r->token);
}

void mem_own(struct mem_store *m, struct mem_run *r, int64_t engine)
{
	r->row.epoch++;
	r->row.rev++;
	r->row.claims++;
	r->engine = engine;
	r->ready = false;
	r->updated_at = *m->now;
	make_token(r);
}

static struct hp_bytes decision_json(struct mem_answer *an, const struct mem_approval *a)
{
	struct hp_buf b;
	struct hp_bytes kept;
	char at[32];

	hp_buf_init(&b, HP_VALUE_MAX);
	hp_buf_printf(&b, "{\"approval\":%lld,\"at\":\"%s\",\"by\":", (long long)a->id,
		      hp_time_format(a->decided_at, at, sizeof at));
	hp_buf_json(&b, a->decided_by.p, a->decided_by.n);
	hp_buf_printf(&b, ",\"decision\":\"%s\"", a->status == MEM_APPROVED ? "approved" : "rejected");
	hp_buf_adds(&b, ",\"reason\":");
	hp_buf_json(&b, a->reason.p, a->reason.n);
	hp_buf_addc(&b, '}');
	kept = mem_keep(an, hp_buf_bytes(&b));
	hp_buf_free(&b);
	return kept;
}

/* What it woke for. */
static void claimed_wakes(struct mem_store *m, struct mem_answer *an, const struct mem_run *r,
			  struct hp_claimed *out)
{
	const struct mem_approval *a = mem_approval_of(&m->w, r->row.id, r->row.visit);
	const struct mem_mail *mail = mem_mail_first(m, r, &out->mail_wait);

	if (r->row.phase == HP_PH_OPEN && a && (a->status == MEM_APPROVED || a->status == MEM_REJECTED)) {
		out->decision = a->status == MEM_APPROVED ? HP_APPROVED : HP_REJECTED;
		out->decision_value = decision_json(an, a);
	}
	if (mail) {
		out->mail_id = mail->id;
		out->mail = mem_keep(an, mail->payload);
	}
	out->command_value = mem_keep(an, r->command_value);
	mem_annex_found(m, an, r, &out->annex);
	a = r->row.signed_visit > 0 ? mem_approval_of(&m->w, r->row.id, r->row.signed_visit) : NULL;
	if (a) {
		out->signed_request = mem_keep(an, a->request);
		out->signed_key = mem_keep(an, a->key);
		memcpy(out->signed_hash, a->hash, HP_SHA256_LEN);
	}
}

void mem_claimed_fill(struct mem_store *m, struct mem_answer *an, const struct mem_run *r,
		      struct hp_claimed *out)
{
	struct hp_buf saved;

	out->run = r->row;
	if (r->row.status != HP_HELD && mem_told_to_end(m, r))
		out->run.cancel = true;
	out->workflow = mem_keep(an, r->workflow).p;
	memcpy(out->digest, mem_bundle_of(&m->w, r)->digest, HP_SHA256_LEN);
	out->key = mem_keep(an, r->key);
	out->input = mem_keep(an, r->input);
	hp_buf_init(&saved, HP_RUN_DATA_MAX);
	mem_saved_json(m, r->row.id, INT32_MAX, &saved);
	HP_ASSERT(!saved.failed);
	out->saved = mem_keep(an, hp_buf_bytes(&saved));
	hp_buf_free(&saved);
	claimed_wakes(m, an, r, out);
	memcpy(out->token, r->token, sizeof out->token);
}

/* As holdpoint.claim() does: nobody waits for the next heartbeat of an engine that has
 * died. Only an engine whose own lease is good does it. */
static void take_from_the_late(struct mem_store *m, const struct mem_engine *by)
{
	bool late = false;

	MEM_EACH(&m->w, T_ENGINE, struct mem_engine, e)
		late = late || (!e->dead && e->lease_until < *m->now);
	if (!late || by->lease_until < *m->now)
		return;
	bury(m);
	return_runs(m, HP_CLAIM_MAX);
}

int64_t mem_wakes_at(const struct mem_run *r)
{
	if (r->ready)
		return r->ready_at;
	if (r->engine || r->row.status != HP_WAITING || r->row.due_at == 0 || r->row.pause)
		return INT64_MAX;
	return r->row.due_at;
}

/* When a run became claimable; INT64_MAX: it is not. */
static int64_t claimable_since(const struct mem_store *m, const struct mem_run *r)
{
	int64_t at = mem_wakes_at(r);

	return r->ready || HP_GUARD(timer, at <= *m->now) ? at : INT64_MAX;
}

/* The one due longest; among equals the smaller id. */
static struct mem_run *next_due(struct mem_store *m)
{
	struct mem_run *best = NULL;
	int64_t since = INT64_MAX;

	MEM_EACH(&m->w, T_RUN, struct mem_run, r) {
		int64_t at = claimable_since(m, r);

		if (at >= since)
			continue;
		best = r;
		since = at;
	}
	return best;
}

static int by_id(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

void mem_claim(struct hp_store *s, int64_t engine, int max, hp_claim_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_CLAIM, arg);
	struct mem_engine *e = alive(m, engine, &an->err);
	struct hp_claimed *out;
	struct mem_run *r;
	int64_t *ids;

	an->cb.claim = cb;
	if (!e)
		return;
	take_from_the_late(m, e);
	if (max > HP_CLAIM_MAX)
		max = HP_CLAIM_MAX;
	out = mem_keep_alloc(an, (size_t)(max > 0 ? max : 1) * sizeof *out);
	ids = mem_keep_alloc(an, (size_t)(max > 0 ? max : 1) * sizeof *ids);
	an->result = out;
	while (an->n < max && (r = next_due(m)) != NULL) {
		mem_own(m, r, engine);
		ids[an->n++] = r->row.id;
	}
	qsort(ids, (size_t)an->n, sizeof *ids, by_id);
	for (int i = 0; i < an->n; i++)
		mem_claimed_fill(m, an, mem_run_find(&m->w, ids[i]), &out[i]);
}

static struct mem_run *owned(struct mem_store *m, int64_t engine, int64_t run, int32_t epoch)
{
	struct mem_run *r = mem_run_find(&m->w, run);

	return r && r->engine == engine && r->row.epoch == epoch ? r : NULL;
}

void mem_reload(struct hp_store *s, int64_t engine, int64_t run, int32_t epoch, hp_claim_cb cb,
		void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_CLAIM, arg);
	const struct mem_run *r = owned(m, engine, run, epoch);
	struct hp_claimed *out = mem_keep_alloc(an, sizeof *out);

	an->cb.claim = cb;
	an->result = out;
	if (!r)
		return;
	mem_claimed_fill(m, an, r, out);
	an->n = 1;
}

/* Raises rev: a commit of the one who gave the run back must find itself fenced. */
void mem_release(struct hp_store *s, int64_t engine, const int64_t *runs, const int32_t *epochs,
		 int n, hp_ack_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_ACK, arg);

	an->cb.ack = cb;
	for (int i = 0; i < n; i++) {
		struct mem_run *r = owned(m, engine, runs[i], epochs[i]);

		if (!r)
			continue;
		r->row.rev++;
		if (r->row.claims > 0)
			r->row.claims--; /* giving back is not stalling */
		r->engine = 0;
		r->token[0] = 0;
		r->updated_at = *m->now;
		r->ready = false;
		mem_ready(m, r);
	}
}
