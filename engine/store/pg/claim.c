/* claim.c: getting runs into a worker's hands: claim, reload, start, ingest.
 *
 * Each of them may end with its acknowledgement lost although the database has
 * made the runs ours. Such a call is remembered by its number; the next claims
 * name it, and its runs go back to the ready list (claim_no in ready).
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "store/pg/pg_private.h"

/* holdpoint.claimed in the order of read_claimed() */
#define CLAIMED_COLUMNS 40

/* Copies at most the size of a code; the column is limited by its writer. */
static void copy_code(char dst[HP_CODE_MAX], const char *src)
{
	size_t n = strnlen(src, HP_CODE_MAX - 1);

	memcpy(dst, src, n);
	dst[n] = 0;
}

static void copy_hash(uint8_t dst[HP_SHA256_LEN], struct hp_bytes b)
{
	if (b.n == HP_SHA256_LEN)
		memcpy(dst, b.p, HP_SHA256_LEN);
}

static void read_run(struct hp_run *run, const PGresult *r, int row, int c)
{
	run->id = hp_pg_int(r, row, c);
	run->epoch = (int32_t)hp_pg_int(r, row, c + 1);
	run->rev = (int32_t)hp_pg_int(r, row, c + 2);
	run->visit = (int32_t)hp_pg_int(r, row, c + 3);
	run->state = (int32_t)hp_pg_int(r, row, c + 4);
	run->status = (enum hp_status)hp_pg_int(r, row, c + 5);
	run->phase = (enum hp_phase)hp_pg_int(r, row, c + 6);
	run->attempt = (int32_t)hp_pg_int(r, row, c + 7);
	run->failures = (int32_t)hp_pg_int(r, row, c + 8);
	run->entered_at = hp_pg_int(r, row, c + 9);
	run->first_sent_at = hp_pg_int(r, row, c + 10);
	run->sent_at = hp_pg_int(r, row, c + 11);
	run->due_at = hp_pg_int(r, row, c + 12);
	run->unresolved = hp_pg_bool(r, row, c + 13);
	run->signed_visit = (int32_t)hp_pg_int(r, row, c + 14);
	run->signed_for = (int32_t)hp_pg_int(r, row, c + 15);
	copy_hash(run->request_hash, hp_pg_bytes(r, row, c + 16));
	run->held_class = (enum hp_class)hp_pg_int(r, row, c + 17);
	copy_code(run->code, hp_pg_text(r, row, c + 18));
	run->cancel = hp_pg_bool(r, row, c + 19);
	run->command = (enum hp_command)hp_pg_int(r, row, c + 20);
	run->claims = (int32_t)hp_pg_int(r, row, c + 21);
}

/* c: the column where holdpoint.claimed begins. Strings stay in the result. */
static void read_claimed(struct hp_claimed *x, const PGresult *r, int row, int c)
{
	static const char empty_object[] = "{}";

	HP_ASSERT(PQnfields(r) >= c + CLAIMED_COLUMNS);
	read_run(&x->run, r, row, c);
	x->workflow = hp_pg_text(r, row, c + 22);
	copy_hash(x->digest, hp_pg_bytes(r, row, c + 23));
	x->key = hp_pg_bytes(r, row, c + 24);
	x->input = hp_pg_bytes(r, row, c + 25);
	x->saved = hp_pg_bytes(r, row, c + 26);
	if (!x->saved.p)
		x->saved = (struct hp_bytes){ empty_object, 2 };
	x->decision = (enum hp_decision)hp_pg_int(r, row, c + 27);
	x->decision_value = hp_pg_bytes(r, row, c + 28);
	x->mail_id = hp_pg_int(r, row, c + 29);
	x->mail_wait = (int32_t)hp_pg_int(r, row, c + 30);
	x->mail = hp_pg_bytes(r, row, c + 31);
	x->command_value = hp_pg_bytes(r, row, c + 32);
	x->signed_request = hp_pg_bytes(r, row, c + 33);
	x->signed_key = hp_pg_bytes(r, row, c + 34);
	copy_hash(x->signed_hash, hp_pg_bytes(r, row, c + 35));
	snprintf(x->token, sizeof x->token, "%s", hp_pg_text(r, row, c + 36));
	x->annex = hp_pg_bytes(r, row, c + 37);
	x->run.pause = hp_pg_bool(r, row, c + 38);
}

/* An owning call ended badly: what it may have taken is given back. */
static void owning_failed(struct pgs_call *c, const struct hp_pg_reply *r)
{
	if (r->outcome == HP_PG_LOST && c->number > 0)
		pgs_owning_lost(c->s, c->number);
}

static void bind_lost(struct hp_pg_unit *u, const struct hp_store_pg *s)
{
	int64_t numbers[PGS_LOST_MAX];
	int64_t now = hp_boottime_us();
	int n = 0;

	for (int i = 0; i < s->n_lost; i++)
		if (now - s->lost[i].at < PGS_LOST_KEEP_US)
			numbers[n++] = s->lost[i].number;
	hp_pg_bind_int_array(u, numbers, n);
}

/* ---- claim, reload ---- */

/* The time stands before the runs, so that there is a row when there is no run: an idle
 * engine asks one question, not two. */
#define WITH_TIME(call) "select n.at, c.* from holdpoint.now_us() n(at) left join " call " c on true"

static void claim_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_claimed *runs;
	struct hp_error err;
	int64_t now;
	int n;

	if (r->outcome != HP_PG_OK) {
		owning_failed(c, r);
		pgs_error(r, &err);
		c->cb.claim(c->arg, 0, NULL, 0, &err);
		return;
	}
	n = PQgetisnull(r->results[0], 0, 1) ? 0 : PQntuples(r->results[0]);
	runs = hp_calloc((size_t)n + 1, sizeof *runs);
	if (!runs) {
		if (c->number > 0)
			pgs_owning_lost(c->s, c->number);
		hp_fail(&err, HP_E_NOMEM, "no memory for %d claimed runs", n);
		c->cb.claim(c->arg, 0, NULL, 0, &err);
		return;
	}
	now = hp_pg_int(r->results[0], 0, n > 0 ? CLAIMED_COLUMNS : 0);
	for (int i = 0; i < n; i++)
		read_claimed(&runs[i], r->results[0], i, 1);
	c->cb.claim(c->arg, now, runs, n, NULL);
	hp_free(runs);
}

void pgs_claim(struct hp_store *st, int64_t engine, int max, hp_claim_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, claim_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->work);

	c->cb.claim = cb;
	c->number = pgs_owning(s);
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, WITH_TIME("holdpoint.claim($1, $2, $3, $4)"));
	hp_pg_bind_int(u, engine);
	hp_pg_bind_int(u, max < HP_CLAIM_MAX ? max : HP_CLAIM_MAX);
	hp_pg_bind_int(u, c->number);
	bind_lost(u, s);
	pgs_send(u, c);
}

void pgs_reload(struct hp_store *st, int64_t engine, int64_t run, int32_t epoch, hp_claim_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, claim_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->work);

	c->cb.claim = cb;
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, WITH_TIME("holdpoint.reload($1, $2, $3)"));
	hp_pg_bind_int(u, engine);
	hp_pg_bind_int(u, run);
	hp_pg_bind_int(u, epoch);
	pgs_send(u, c);
}

/* ---- release ---- */

static void release_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_error err;

	if (r->outcome == HP_PG_OK) {
		c->cb.ack(c->arg, hp_pg_int(r->results[0], 0, 0), NULL);
		return;
	}
	pgs_error(r, &err);
	c->cb.ack(c->arg, 0, &err);
}

void pgs_release(struct hp_store *st, int64_t engine, const int64_t *runs, const int32_t *epochs, int n,
		 hp_ack_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, release_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->work);
	int64_t *wide = hp_calloc((size_t)n + 1, sizeof *wide);

	c->cb.ack = cb;
	if (!wide) {
		hp_pg_unit_free(u);
		u = NULL;
	}
	for (int i = 0; wide && i < n; i++)
		wide[i] = epochs[i];
	hp_pg_statement(u, "select holdpoint.release($1, $2, $3)");
	hp_pg_bind_int(u, engine);
	hp_pg_bind_int_array(u, runs, n);
	hp_pg_bind_int_array(u, wide, n);
	hp_free(wide);
	pgs_send(u, c);
}

/* ---- start ---- */

static void bind_json(struct hp_pg_unit *u, struct hp_bytes json)
{
	hp_pg_bind_jsonb(u, json.n ? json.p : NULL, json.n);
}

static void start_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_claimed claimed = { 0 };
	struct hp_start_result res = { 0 };
	struct hp_error err;

	if (r->outcome != HP_PG_OK) {
		owning_failed(c, r);
		pgs_error(r, &err);
		c->cb.start(c->arg, 0, NULL, &err);
		return;
	}
	res.run_id = hp_pg_int(r->results[0], 0, 0);
	res.existed = hp_pg_bool(r->results[0], 0, 1);
	if (hp_pg_bool(r->results[0], 0, 3)) {
		read_claimed(&claimed, r->results[0], 0, 4);
		res.claimed = &claimed;
	}
	c->cb.start(c->arg, hp_pg_int(r->results[0], 0, 2), &res, NULL);
}

void pgs_start(struct hp_store *st, int64_t engine, const struct hp_start *start, hp_start_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, start_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->intake);

	c->cb.start = cb;
	c->number = start->own ? pgs_owning(s) : 0;
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, "select o_run, o_existed, o_now, o_claimed, (c).*"
			   " from holdpoint.start_own($1, $2, $3, $4, $5, $6)");
	hp_pg_bind_text(u, start->workflow);
	bind_json(u, start->input);
	hp_pg_bind_textn(u, start->key.n ? start->key.p : NULL, start->key.n);
	hp_pg_bind_text(u, start->requester ? start->requester : "");
	hp_pg_bind_int(u, start->own ? engine : 0);
	hp_pg_bind_int(u, c->number);
	pgs_send(u, c);
}

/* ---- webhooks ---- */

/* Row 0 says whether the event was new; one row per start follows. */
static void ingest_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_ingest_result res = { 0 };
	struct hp_start_result *starts = NULL;
	struct hp_claimed *claimed = NULL;
	struct hp_error err;
	const PGresult *q;
	int n;

	if (r->outcome != HP_PG_OK) {
		owning_failed(c, r);
		pgs_error(r, &err);
		c->cb.ingest(c->arg, 0, NULL, &err);
		return;
	}
	q = r->results[0];
	n = PQntuples(q) - 1;
	HP_ASSERT(n >= 0);
	res.duplicate = hp_pg_int(q, 0, 0) == -1;
	res.stale = hp_pg_int(q, 0, 0) == -2;
	starts = hp_calloc((size_t)n + 1, sizeof *starts);
	claimed = hp_calloc((size_t)n + 1, sizeof *claimed);
	if (!starts || !claimed) { /* it is stored: the answer is still a yes */
		pgs_owning_lost(c->s, c->number);
		c->cb.ingest(c->arg, hp_pg_int(q, 0, 3), &res, NULL);
		goto out;
	}
	for (int i = 0; i < n; i++) {
		starts[i].run_id = hp_pg_int(q, i + 1, 1);
		starts[i].existed = hp_pg_bool(q, i + 1, 2);
		if (hp_pg_bool(q, i + 1, 4)) {
			read_claimed(&claimed[i], q, i + 1, 5);
			starts[i].claimed = &claimed[i];
		}
	}
	res.starts = starts;
	res.n_starts = n;
	c->cb.ingest(c->arg, hp_pg_int(q, 0, 3), &res, NULL);
out:
	hp_free(starts);
	hp_free(claimed);
}

static void bind_starts(struct hp_pg_unit *u, const struct hp_ingest *in, struct hp_bytes *v, int64_t *own)
{
	const int n = in->n_starts;

	for (int i = 0; i < n; i++)
		v[i] = hp_bytes_of(in->starts[i].workflow);
	hp_pg_bind_text_array(u, v, n);
	for (int i = 0; i < n; i++)
		v[i] = in->starts[i].input;
	hp_pg_bind_jsonb_array(u, v, n);
	for (int i = 0; i < n; i++)
		v[i] = in->starts[i].key.n ? in->starts[i].key : (struct hp_bytes){ "", 0 };
	hp_pg_bind_text_array(u, v, n);
	for (int i = 0; i < n; i++)
		v[i] = hp_bytes_of(in->starts[i].requester ? in->starts[i].requester : "");
	hp_pg_bind_text_array(u, v, n);
	for (int i = 0; i < n; i++)
		own[i] = in->starts[i].own;
	hp_pg_bind_int_array(u, own, n);
}

static void bind_deliveries(struct hp_pg_unit *u, const struct hp_ingest *in, struct hp_bytes *v)
{
	for (int i = 0; i < in->n_deliveries; i++)
		v[i] = in->deliveries[i].name;
	hp_pg_bind_text_array(u, v, in->n_deliveries);
	for (int i = 0; i < in->n_deliveries; i++)
		v[i] = in->deliveries[i].key.n ? in->deliveries[i].key : (struct hp_bytes){ "", 0 };
	hp_pg_bind_text_array(u, v, in->n_deliveries);
}

#define TRIGGERED_MAX (HP_NAME_MAX + 1 + HP_SHA256_HEX)

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* "workflow digest", sorted, as holdpoint.triggered() gives them. -1: no memory. */
static int bind_triggered(struct hp_pg_unit *u, const struct hp_ingest *in)
{
	size_t n = in->type ? (size_t)in->n_triggered : 0;
	char (*text)[TRIGGERED_MAX] = hp_calloc(n + 1, sizeof *text);
	struct hp_bytes *v = hp_calloc(n + 1, sizeof *v);
	char hex[HP_SHA256_HEX];
	bool ok = text && v;

	for (size_t i = 0; ok && i < n; i++) {
		hp_hex(in->triggered[i].digest, HP_SHA256_LEN, hex);
		snprintf(text[i], sizeof text[i], "%.*s %s", HP_NAME_MAX, in->triggered[i].workflow, hex);
	}
	if (ok) {
		qsort(text, n, sizeof *text, by_text);
		for (size_t i = 0; i < n; i++)
			v[i] = hp_bytes_of(text[i]);
		hp_pg_bind_text(u, in->type);
		hp_pg_bind_text_array(u, v, (int)n);
	}
	hp_free(text);
	hp_free(v);
	return ok ? 0 : -1;
}

void pgs_ingest(struct hp_store *st, int64_t engine, const struct hp_ingest *in, hp_ingest_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, ingest_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->intake);
	int most = in->n_starts > in->n_deliveries ? in->n_starts : in->n_deliveries;
	struct hp_bytes *v = hp_calloc((size_t)most + 1, sizeof *v);
	int64_t *own = hp_calloc((size_t)most + 1, sizeof *own);

	c->cb.ingest = cb;
	c->number = pgs_owning(s);
	if (!v || !own) {
		hp_pg_unit_free(u);
		u = NULL;
	} else {
		hp_pg_binary_results(u, true);
		hp_pg_statement(u, "select o_ord, o_run, o_existed, o_now, o_claimed, (c).* from"
				   " holdpoint.ingest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)");
		hp_pg_bind_text(u, in->source);
		hp_pg_bind_textn(u, in->event_id.p ? in->event_id.p : "", in->event_id.n);
		if (in->only_ask)
			hp_pg_bind_null(u);
		else
			hp_pg_bind_bytea(u, in->body.p ? in->body.p : "", in->body.n);
		bind_json(u, in->payload);
		hp_pg_bind_int(u, engine);
		hp_pg_bind_int(u, c->number);
		bind_starts(u, in, v, own);
		bind_deliveries(u, in, v);
		if (bind_triggered(u, in) < 0) {
			hp_pg_unit_free(u);
			u = NULL;
		}
	}
	hp_free(v);
	hp_free(own);
	pgs_send(u, c);
}
