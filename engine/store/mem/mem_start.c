/* mem_start.c: how runs begin and events arrive.
 *
 * A run's key is looked up in its own table, which outlives runs: the same key joins
 * the run that has it. An event is kept in its mailbox until it expires, so one that
 * came early is found later; each run reads with its own cursor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutant.h"
#include "store/mem/mem_private.h"

#define MAIL_EXPIRY (30 * HP_DAY)
#define EVENT_NAME_MAX 200

/* ---- starting ---- */

static struct mem_bundle *current_of(const struct mem_world *w, struct hp_bytes workflow)
{
	MEM_EACH(w, T_BUNDLE, struct mem_bundle, d)
		if (d->current && mem_same(d->workflow, workflow))
			return d;
	return NULL;
}

/* A text that is no JSON does not get as far as a look at anything. */
static int is_json(struct hp_bytes b, const char *what, struct hp_error *err)
{
	json_t *v = b.n ? hp_json_parse(b.p, b.n, what, err) : NULL;

	json_decref(v);
	return b.n && !v ? -1 : 0;
}

int mem_start_check(struct mem_store *m, const struct hp_start *st, struct hp_error *err)
{
	if (is_json(st->input, "input", err) < 0)
		return -1;
	if (!current_of(&m->w, hp_bytes_of(st->workflow)))
		return hp_fail(err, HP_E_NOT_FOUND, "there is no workflow \"%s\"", st->workflow);
	if (st->input.n == 0)
		return hp_fail(err, HP_E_INVALID, "a run needs an input; {} is one");
	if (st->input.n > HP_INPUT_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "the input is larger than 256 KiB");
	if (st->key.n > HP_KEY_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "the key is longer than %d bytes", HP_KEY_MAX);
	return 0;
}

static struct mem_run *insert_run(struct mem_store *m, const struct hp_start *st)
{
	struct mem_run *r = mem_add(&m->w, T_RUN);
	struct mem_bundle *d = current_of(&m->w, hp_bytes_of(st->workflow));

	hp_run_start(&r->row, (int64_t)mem_count(&m->w, T_RUN), *m->now);
	r->bundle = (int32_t)(d - (struct mem_bundle *)mem_row(&m->w, T_BUNDLE, 0));
	r->workflow = d->workflow;
	r->key = mem_intern(m, st->key);
	r->input = mem_intern(m, st->input);
	r->requester = mem_intern_s(m, st->requester);
	r->created_at = r->updated_at = *m->now;
	return r;
}

/* The generation of a key that is not free; *next is the one to make if there is none. */
static struct mem_key *live_key(struct mem_store *m, const struct hp_start *st, int32_t *next)
{
	*next = 1;
	MEM_EACH(&m->w, T_KEY, struct mem_key, k) {
		if (!mem_same(k->key, st->key) || !mem_same(k->workflow, hp_bytes_of(st->workflow)))
			continue;
		if (!k->freed)
			return k;
		*next = k->generation + 1;
	}
	return NULL;
}

struct mem_run *mem_start_apply(struct mem_store *m, const struct hp_start *st, int64_t engine,
				bool *existed)
{
	const struct mem_engine *e = mem_engine_find(&m->w, engine);
	struct mem_key *k;
	struct mem_run *r;
	int32_t generation = 1;
	int64_t running;

	k = st->key.n ? live_key(m, st, &generation) : NULL;
	*existed = k && !HP_MUTANT(key_join);
	if (*existed)
		return mem_run_find(&m->w, k->run);
	running = mem_overlapping(m, current_of(&m->w, hp_bytes_of(st->workflow)), st->input);
	*existed = running != 0;
	if (*existed)
		return mem_run_find(&m->w, running);
	r = insert_run(m, st);
	if (st->key.n) {
		k = mem_add(&m->w, T_KEY);
		k->workflow = r->workflow;
		k->key = r->key;
		k->run = r->row.id;
		k->generation = generation;
	}
	mem_log(m, r, HP_MOVE_STARTED, st->requester, NULL);
	if (mem_start_limited(m, r) && st->own && e && !e->dead)
		mem_own(m, r, engine);
	return r;
}

static void start_result(struct mem_store *m, struct mem_answer *an, const struct hp_start *st,
			 int64_t engine, struct hp_start_result *out)
{
	bool existed;
	const struct mem_run *r = mem_start_apply(m, st, engine, &existed);
	struct hp_claimed *c;

	out->run_id = r->row.id;
	out->existed = existed;
	if (existed || r->engine == 0)
		return;
	c = mem_keep_alloc(an, sizeof *c);
	mem_claimed_fill(m, an, r, c);
	out->claimed = c;
}

void mem_start(struct hp_store *s, int64_t engine, const struct hp_start *st, hp_start_cb cb,
	       void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_START, arg);
	struct hp_start_result *out = mem_keep_alloc(an, sizeof *out);

	an->cb.start = cb;
	an->result = out;
	if (mem_start_check(m, st, &an->err) == 0)
		start_result(m, an, st, engine, out);
}

/* ---- mailboxes ---- */

int mem_mail_check(const struct hp_delivery *d, struct hp_bytes payload, struct hp_error *err)
{
	json_t *v;

	if (d->name.n == 0 || d->name.n > EVENT_NAME_MAX || d->key.n > HP_KEY_MAX)
		return hp_fail(err, HP_E_INVALID,
			       "an event needs a name (up to %d bytes) and a key (up to %d bytes)",
			       EVENT_NAME_MAX, HP_KEY_MAX);
	if (payload.n == 0 || payload.n > HP_HTTP_REQUEST_BODY_MAX)
		return hp_fail(err, HP_E_INVALID, "an event needs a JSON payload of at most 1 MiB");
	v = hp_json_parse(payload.p, payload.n, "payload", err);
	json_decref(v);
	return v ? 0 : -1;
}

int64_t mem_mail_put(struct mem_store *m, const struct hp_delivery *d, struct hp_bytes payload,
		     const char *sender, int *woken)
{
	struct mem_mail *mail = mem_add(&m->w, T_MAIL);

	mail->id = (int64_t)mem_count(&m->w, T_MAIL);
	mail->at = *m->now;
	mail->expires_at = *m->now + MAIL_EXPIRY;
	mail->name = mem_intern(m, d->name);
	mail->key = mem_intern(m, d->key);
	mail->payload = mem_intern(m, payload);
	mail->sender = mem_intern_s(m, sender);
	MEM_EACH(&m->w, T_WAIT, struct mem_wait, w) {
		struct mem_run *r;

		if (!mem_same(w->name, mail->name) || !mem_same(w->key, mail->key))
			continue;
		r = mem_run_find(&m->w, w->run);
		if (r->row.status != HP_WAITING || r->row.pause || r->engine || r->ready)
			continue;
		mem_ready(m, r);
		++*woken;
	}
	return mail->id;
}

static int64_t cursor_of(const struct mem_store *m, const struct mem_wait *w)
{
	MEM_EACH(&m->w, T_CURSOR, struct mem_cursor, c)
		if (c->run == w->run && mem_same(c->name, w->name) && mem_same(c->key, w->key))
			return HP_MUTANT(cursor) ? 0 : c->mail;
	return 0;
}

static const struct mem_mail *first_in(const struct mem_store *m, const struct mem_wait *w)
{
	int64_t after = cursor_of(m, w);

	MEM_EACH(&m->w, T_MAIL, struct mem_mail, mail)
		if (mail->id > after && HP_GUARD(mail_expiry, mail->expires_at > *m->now) &&
		    mem_same(mail->name, w->name) && mem_same(mail->key, w->key))
			return mail;
	return NULL;
}

const struct mem_mail *mem_mail_first(const struct mem_store *m, const struct mem_run *r,
				      int32_t *index)
{
	const struct mem_mail *best = NULL;

	MEM_EACH(&m->w, T_WAIT, struct mem_wait, w) {
		const struct mem_mail *mail = w->run == r->row.id ? first_in(m, w) : NULL;

		if (!mail || (best && mail->id >= best->id))
			continue;
		best = mail;
		*index = w->index;
	}
	return best;
}

void mem_mail_consume(struct mem_store *m, const struct mem_run *r, int64_t mail)
{
	const struct mem_mail *read = NULL;
	struct mem_cursor *found = NULL;

	MEM_EACH(&m->w, T_MAIL, struct mem_mail, x)
		if (x->id == mail)
			read = x;
	if (!read)
		return;
	MEM_EACH(&m->w, T_CURSOR, struct mem_cursor, c)
		if (c->run == r->row.id && mem_same(c->name, read->name) && mem_same(c->key, read->key))
			found = c;
	if (!found) {
		found = mem_add(&m->w, T_CURSOR);
		found->run = r->row.id;
		found->name = read->name;
		found->key = read->key;
	}
	if (found->mail < mail)
		found->mail = mail;
}

/* ---- webhooks ---- */

static bool ingested(const struct mem_store *m, const struct hp_ingest *in)
{
	MEM_EACH(&m->w, T_INBOX, struct mem_inbox, x)
		if (mem_same(x->event_id, in->event_id) && mem_same(x->source, hp_bytes_of(in->source)))
			return true;
	return false;
}

static bool has_trigger(const struct mem_bundle *d, const struct hp_ingest *in)
{
	bool found = false;
	json_t *t, *e;
	size_t i, k;

	json_array_foreach(d->triggers, i, t) {
		const char *source = hp_json_str(t, "source");

		if (!source || strcmp(source, in->source) != 0)
			continue;
		json_array_foreach(json_object_get(t, "events"), k, e)
			found = found || strcmp(json_string_value(e), in->type) == 0;
	}
	return found;
}

static bool is_triggered(const struct mem_bundle *d, const struct hp_ingest *in)
{
	for (int i = 0; i < in->n_triggered; i++)
		if (mem_same(d->workflow, hp_bytes_of(in->triggered[i].workflow)))
			return memcmp(d->digest, in->triggered[i].digest, HP_SHA256_LEN) == 0;
	return false;
}

/* Does the event start another set of definitions than the engine knows? */
static bool stale(const struct mem_store *m, const struct hp_ingest *in)
{
	int n = 0;

	if (!in->type)
		return false;
	MEM_EACH(&m->w, T_BUNDLE, struct mem_bundle, d) {
		if (!d->current || !has_trigger(d, in))
			continue;
		if (!is_triggered(d, in))
			return true;
		n++;
	}
	return n != in->n_triggered;
}

static int ingest_json(const struct hp_ingest *in, struct hp_error *err)
{
	if (is_json(in->payload, "payload", err) < 0)
		return -1;
	for (int i = 0; i < in->n_starts; i++)
		if (is_json(in->starts[i].input, "input", err) < 0)
			return -1;
	return 0;
}

/* Everything that could fail is found out before the first row is written. */
static int ingest_check(struct mem_store *m, const struct hp_ingest *in, struct hp_error *err)
{
	for (int i = 0; i < in->n_starts; i++)
		if (mem_start_check(m, &in->starts[i], err) < 0)
			return -1;
	for (int i = 0; i < in->n_deliveries; i++)
		if (mem_mail_check(&in->deliveries[i], in->payload, err) < 0)
			return -1;
	return 0;
}

/* The order in which mailboxes are locked: by name and hash of the key. */
static int by_mailbox(const void *a, const void *b)
{
	const struct hp_delivery *x = a, *y = b;
	uint8_t of_x[HP_SHA256_LEN], of_y[HP_SHA256_LEN];
	int c = mem_compare(x->name, y->name);

	hp_sha256(x->key.n ? x->key.p : "", x->key.n, of_x);
	hp_sha256(y->key.n ? y->key.p : "", y->key.n, of_y);
	return c ? c : memcmp(of_x, of_y, sizeof of_x);
}

/* One webhook is one event of a mailbox, however often it names it. */
static void deliver_all(struct mem_store *m, struct mem_answer *an, const struct hp_ingest *in)
{
	size_t n = (size_t)(in->n_deliveries > 0 ? in->n_deliveries : 0);
	struct hp_delivery *all = mem_keep_alloc(an, n * sizeof *all);
	char sender[HP_NAME_MAX + 16];
	int woken = 0;

	if (n == 0)
		return;
	memcpy(all, in->deliveries, n * sizeof *all);
	qsort(all, n, sizeof *all, by_mailbox);
	snprintf(sender, sizeof sender, "webhook:%s", in->source);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || by_mailbox(&all[i - 1], &all[i]) != 0)
			mem_mail_put(m, &all[i], in->payload, sender, &woken);
}

void mem_ingest(struct hp_store *s, int64_t engine, const struct hp_ingest *in, hp_ingest_cb cb,
		void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_INGEST, arg);
	struct hp_ingest_result *out = mem_keep_alloc(an, sizeof *out);
	struct hp_start_result *starts =
		mem_keep_alloc(an, (size_t)(in->n_starts > 0 ? in->n_starts : 1) * sizeof *starts);
	struct mem_inbox *row;

	an->cb.ingest = cb;
	an->result = out;
	if (ingest_json(in, &an->err) < 0)
		return;
	if (!HP_GUARD(inbox, !ingested(m, in))) {
		out->duplicate = true;
		return;
	}
	if (!HP_GUARD(triggers, !stale(m, in))) {
		out->stale = true;
		return;
	}
	if (in->only_ask) {
		out->duplicate = true;
		return;
	}
	if (ingest_check(m, in, &an->err) < 0)
		return;
	row = mem_add(&m->w, T_INBOX);
	row->source = mem_intern_s(m, in->source);
	row->event_id = mem_intern(m, in->event_id);
	row->body = mem_intern(m, in->body);
	row->at = *m->now;
	for (int i = 0; i < in->n_starts; i++)
		start_result(m, an, &in->starts[i], engine, &starts[i]);
	deliver_all(m, an, in);
	out->starts = starts;
	out->n_starts = in->n_starts;
}
