/* mem_breaker.c: circuit breakers: their gate, their probes, their doors.
 *
 * The same as migrations/holdpoint/0014_breakers.sql; what the states mean is said there.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutant.h"
#include "core/breaker.h"
#include "store/mem/mem_private.h"

#define NAME_MAX_BYTES (2 * HP_NAME_MAX + 1)
#define LOG_SHOWN 20                     /* changes in the answer about one breaker */
#define PROBE_GRACE (30 * HP_SECOND) /* beyond its request's timeout */

static const char *const state_names[] = { "closed", "open", "half_open", "forced_open", "forced_closed" };

const char *mem_breaker_word(enum mem_breaker_state s)
{
	static const char *const words[] = { "closed", "open", "half-open", "forced open", "forced closed" };

	return words[s];
}

static struct mem_breaker *find(const struct mem_store *m, struct hp_bytes name)
{
	MEM_EACH(&m->w, T_BREAKER, struct mem_breaker, b)
		if (mem_same(b->name, name))
			return b;
	return NULL;
}

const struct mem_breaker *mem_breaker_find(const struct mem_store *m, struct hp_bytes name)
{
	return find(m, name);
}

static bool shut(const struct mem_breaker *b)
{
	return b->state == B_OPEN || b->state == B_HALF_OPEN || b->state == B_FORCED_OPEN;
}

/* ---- probes ---- */

static struct mem_probe *probe_of(const struct mem_store *m, int64_t run, struct hp_bytes name)
{
	MEM_EACH(&m->w, T_PROBE, struct mem_probe, p)
		if (p->run == run && mem_same(p->name, name))
			return p;
	return NULL;
}

static int probes_live(const struct mem_store *m, struct hp_bytes name)
{
	int n = 0;

	MEM_EACH(&m->w, T_PROBE, struct mem_probe, p)
		n += p->until > *m->now && mem_same(p->name, name);
	return n;
}

static bool probe_by_run(const void *row, int64_t run)
{
	return ((const struct mem_probe *)row)->run == run;
}

static bool probe_ended(const void *row, int64_t now)
{
	return ((const struct mem_probe *)row)->until <= now;
}

void mem_breaker_forget(struct mem_store *m, int64_t run)
{
	mem_remove_if(&m->w, T_PROBE, probe_by_run, run);
}

static void probes_end(struct mem_store *m, struct hp_bytes name)
{
	MEM_EACH(&m->w, T_PROBE, struct mem_probe, p)
		if (mem_same(p->name, name))
			p->until = 0;
	mem_remove_if(&m->w, T_PROBE, probe_ended, 0);
}

/* What is counted from here on is counted from nothing. */
static void counts_end(struct mem_store *m, struct mem_breaker *b)
{
	MEM_EACH(&m->w, T_BREAKER_COUNT, struct mem_breaker_count, c)
		if (mem_same(c->name, b->name))
			c->calls = c->failed = c->slow = 0;
	b->in_row = 0;
}

/* ---- states ---- */

static void set(struct mem_store *m, struct mem_breaker *b, enum mem_breaker_state state, const char *reason,
		const char *by)
{
	struct mem_breaker_log *l = mem_add(&m->w, T_BREAKER_LOG);

	l->name = b->name;
	l->version = ++b->version;
	l->at = *m->now;
	l->was = b->state;
	l->state = b->state = state;
	l->reason = b->reason = mem_intern_s(m, reason);
	l->by = b->by = mem_intern_s(m, by);
	b->since = *m->now;
	b->until = state == B_OPEN ? *m->now + hp_breaker_open_for(b->open_us, b->reopened) : 0;
	b->passed = b->wave = 0;
	b->woken_at = 0;
	probes_end(m, b->name);
	counts_end(m, b);
}

static void half_open(struct mem_store *m, struct mem_breaker *b)
{
	char reason[768];

	snprintf(reason, sizeof reason, "probing: %.*s", (int)b->reason.n, b->reason.p);
	set(m, b, B_HALF_OPEN, reason, "engine");
}

static bool lease(struct mem_store *m, const struct mem_breaker *b, const struct mem_ask *a)
{
	struct mem_probe *p = probe_of(m, a->t->run_id, b->name);
	int64_t until = *m->now + a->timeout_us + PROBE_GRACE;

	if (p) { /* its engine died: the same probe again */
		p->until = until;
		return true;
	}
	mem_remove_if(&m->w, T_PROBE, probe_ended, *m->now);
	if (!HP_GUARD(breaker_probes, hp_breaker_may_probe(b->probes, b->passed, probes_live(m, b->name))))
		return false;
	p = mem_add(&m->w, T_PROBE);
	p->run = a->t->run_id;
	p->name = b->name;
	p->until = until;
	return true;
}

void mem_breaker_gate(struct mem_store *m, const struct mem_ask *a, struct mem_refusal *out)
{
	/* of the connector, and of this one operation */
	const struct hp_bytes names[2] = { { a->operation, strcspn(a->operation, ".") }, hp_bytes_of(a->operation) };
	char at[32];

	for (int i = 0; i < 2; i++) {
		struct mem_breaker *b = find(m, names[i]);

		if (!b || !shut(b))
			continue;
		if (b->state == B_OPEN && b->until <= *m->now)
			half_open(m, b);
		if (b->state == B_HALF_OPEN ? lease(m, b, a) : HP_GUARD(breaker_open, false))
			continue;
		out->code = "breaker_open";
		out->kind = "breaker";
		out->name = b->name;
		snprintf(out->message, sizeof out->message, "the breaker of %.*s is %s since %s: %.*s",
			 (int)b->name.n, b->name.p, mem_breaker_word(b->state), mem_say_time(b->since, at),
			 (int)b->reason.n, b->reason.p);
		return;
	}
}

static void outcome_of(struct mem_store *m, struct mem_breaker *b, const struct mem_run *r,
		       const struct hp_transition *t)
{
	bool probing = r->row.phase == HP_PH_PROBING;
	bool ours = t->after.status == HP_CANCELLED || t->move == HP_MOVE_PROBING || t->move == HP_MOVE_WOKEN ||
		    t->move == HP_MOVE_PAUSED || (t->move == HP_MOVE_ADMITTED && !probing) ||
		    (t->move == HP_MOVE_HELD && t->outcome != HP_TERMINAL);
	char reason[160];

	/* only an answer, or its absence, says something: not a cancel, a pause, a hold for
	 * reasons of our own */
	if (b->state != B_HALF_OPEN || t->outcome == HP_NEEDS_PERSON || (t->move == HP_MOVE_HELD && probing))
		return;
	if (t->outcome == HP_RETRYABLE || t->outcome == HP_AMBIGUOUS) {
		b->reopened++;
		snprintf(reason, sizeof reason, "a probe failed with code %s", t->code ? t->code : "failed");
		set(m, b, B_OPEN, reason, "engine");
	} else if (ours) {
		return;
	} else if (b->slow_us > 0 && r->row.phase == HP_PH_ADMITTED && *m->now - r->row.sent_at >= b->slow_us) {
		b->reopened++;
		snprintf(reason, sizeof reason, "a probe took %lld ms", (long long)(*m->now - r->row.sent_at) / 1000);
		set(m, b, B_OPEN, reason, "engine");
	} else if (b->passed + 1 >= b->probes) {
		b->reopened = 0;
		snprintf(reason, sizeof reason, "%d of %d probes were answered", (int)b->probes, (int)b->probes);
		set(m, b, B_CLOSED, reason, "engine");
	} else {
		b->passed++;
	}
}

void mem_breaker_outcome(struct mem_store *m, const struct mem_run *r, const struct hp_transition *t)
{
	/* taken over from an engine that died: it asks with the place it has */
	if ((t->move == HP_MOVE_ADMITTED && r->row.phase == HP_PH_ADMITTED) ||
	    (t->move == HP_MOVE_PROBING && r->row.phase == HP_PH_PROBING))
		return;
	MEM_EACH(&m->w, T_BREAKER, struct mem_breaker, b)
		if (probe_of(m, t->run_id, b->name)) {
			probe_of(m, t->run_id, b->name)->until = 0;
			outcome_of(m, b, r, t);
		}
	mem_breaker_forget(m, t->run_id);
}

static bool anybody_behind(const struct mem_store *m, struct hp_bytes name)
{
	MEM_EACH(&m->w, T_RUN, struct mem_run, r)
		if (mem_same(r->gate_kind, hp_bytes_of("breaker")) && mem_same(r->gate_name, name))
			return true;
	return false;
}

void mem_breakers_tend(struct mem_store *m)
{
	MEM_EACH(&m->w, T_BREAKER, struct mem_breaker, b) {
		int64_t waited = *m->now - b->woken_at;
		int max;

		if (waited < HP_SECOND || (b->state == B_OPEN && b->until > *m->now) || b->state == B_FORCED_OPEN ||
		    (!shut(b) && !anybody_behind(m, b->name)))
			continue;
		if (b->state == B_OPEN)
			half_open(m, b);
		if (b->state == B_HALF_OPEN) {
			max = b->probes - b->passed - probes_live(m, b->name);
		} else {
			max = hp_breaker_wave(b->wave, waited);
		}
		if (max <= 0 || mem_wake_gated(m, "breaker", b->name, max) == 0)
			continue;
		b->woken_at = *m->now;
		b->wave++;
	}
}

/* ---- doors ---- */

static void sentence(const struct mem_store *m, const struct mem_breaker *b, struct hp_buf *out)
{
	char since[32], until[32];
	const int name_n = (int)b->name.n, reason_n = (int)b->reason.n, by_n = (int)b->by.n;

	mem_say_time(b->since, since);
	mem_say_time(b->until, until);
	switch (b->state) {
	case B_OPEN:
		hp_buf_printf(out, "The breaker of %.*s is open since %s: %.*s. It tries again at %s.", name_n,
			      b->name.p, since, reason_n, b->reason.p, until);
		return;
	case B_HALF_OPEN:
		hp_buf_printf(out, "The breaker of %.*s is half-open since %s: %d of %d probes were answered so "
				   "far, %d are under way.",
			      name_n, b->name.p, since, (int)b->passed, (int)b->probes, probes_live(m, b->name));
		return;
	case B_FORCED_OPEN:
		hp_buf_printf(out, "%.*s opened the breaker of %.*s at %s: %.*s. Only a person closes it.", by_n,
			      b->by.p, name_n, b->name.p, since, reason_n, b->reason.p);
		return;
	case B_FORCED_CLOSED:
		hp_buf_printf(out, "%.*s closed the breaker of %.*s for good at %s: %.*s. No failure opens it "
				   "until it is reset.",
			      by_n, b->by.p, name_n, b->name.p, since, reason_n, b->reason.p);
		return;
	case B_CLOSED:
		break;
	}
	hp_buf_printf(out, "The breaker of %.*s is closed since %s: %.*s.", name_n, b->name.p, since, reason_n,
		      b->reason.p);
}

static json_t *row_of(const struct mem_store *m, const struct mem_breaker *b)
{
	struct hp_buf text;
	json_t *row;
	int waiting = 0;

	hp_buf_init(&text, HP_VALUE_MAX);
	MEM_EACH(&m->w, T_RUN, struct mem_run, r)
		waiting += mem_same(r->gate_kind, hp_bytes_of("breaker")) && mem_same(r->gate_name, b->name);
	if (b->version > 0)
		sentence(m, b, &text);
	else
		hp_buf_printf(&text, "The breaker of %.*s is closed and never was anything else.",
			      (int)b->name.n, b->name.p);
	row = json_pack("{s:o, s:s, s:I, s:i, s:s}", "breaker", mem_text_json(b->name), "state", state_names[b->state],
			"version", (json_int_t)b->version, "waiting", waiting, "sentence", hp_buf_str(&text));
	if (b->version > 0) {
		json_object_set_new(row, "reason", mem_text_json(b->reason));
		json_object_set_new(row, "by", mem_text_json(b->by));
		mem_put_time(row, "since", b->since);
		mem_put_time(row, "until", b->until);
	}
	hp_buf_free(&text);
	return row;
}

/* Does a current definition call this connector? */
static bool is_called(const struct mem_store *m, const char *name)
{
	size_t n = strcspn(name, "."), i;
	bool found = false;

	MEM_EACH(&m->w, T_BUNDLE, struct mem_bundle, d) {
		json_t *s;

		json_array_foreach(d->current ? d->states : NULL, i, s) {
			const char *operation = hp_json_str(s, "operation");

			found = found || (operation && strcspn(operation, ".") == n && memcmp(operation, name, n) == 0);
		}
	}
	return found;
}

/* The row the door is about; made is filled when there is none yet. */
static struct mem_breaker *arg_breaker(struct mem_store *m, const json_t *args, struct mem_breaker *made,
				       struct hp_error *err)
{
	const char *name;
	struct mem_breaker *b;

	if (mem_arg_text(args, "breaker", true, NAME_MAX_BYTES, &name, err) < 0)
		return NULL;
	b = find(m, hp_bytes_of(name));
	if (b && b->told)
		return b;
	if (!is_called(m, name)) {
		hp_fail(err, HP_E_NOT_FOUND, "no deployed workflow calls \"%s\"", name);
		return NULL;
	}
	if (b)
		return b;
	*made = (struct mem_breaker){ .name = mem_intern_s(m, name), .since = *m->now,
				      .probes = hp_breaker_default.probes, .open_us = hp_breaker_default.open_us };
	return made;
}

static int force(struct mem_store *m, enum mem_breaker_state state, const char *principal, const json_t *args,
		 struct hp_buf *out, struct hp_error *err)
{
	struct mem_breaker made, *b;
	const char *reason;
	char at[32];

	if (mem_arg_reason(args, &reason, err) < 0)
		return -1;
	b = arg_breaker(m, args, &made, err);
	if (!b)
		return -1;
	if (b->state == state)
		return hp_fail(err, HP_E_CONFLICT, "the breaker of %.*s is %s already%s%s%s%.*s", (int)b->name.n,
			       b->name.p, mem_breaker_word(state), b->version ? ", since " : "",
			       b->version ? mem_say_time(b->since, at) : "", b->version ? " by " : "",
			       (int)b->by.n, b->by.p ? b->by.p : "");
	if (b == &made) {
		b = mem_add(&m->w, T_BREAKER);
		*b = made;
	}
	b->told = true;
	b->reopened = 0;
	set(m, b, state, reason, principal);
	mem_breakers_tend(m);
	return mem_write_and_drop(row_of(m, b), out, err);
}

static int show(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	struct mem_breaker made, *b = arg_breaker(m, args, &made, err);
	json_t *row, *log = json_array();

	if (!b) {
		json_decref(log);
		return -1;
	}
	row = row_of(m, b);
	MEM_EACH(&m->w, T_BREAKER_LOG, struct mem_breaker_log, l) {
		json_t *line;

		if (!mem_same(l->name, b->name))
			continue;
		line = json_pack("{s:I, s:s, s:s, s:o, s:o}", "version", (json_int_t)l->version, "was",
				 state_names[l->was], "state", state_names[l->state], "reason", mem_text_json(l->reason),
				 "by", mem_text_json(l->by));
		mem_put_time(line, "at", l->at);
		json_array_insert_new(log, 0, line);
	}
	while (json_array_size(log) > LOG_SHOWN) /* the newest are first */
		json_array_remove(log, LOG_SHOWN);
	json_object_set_new(row, "log", log);
	return mem_write_and_drop(row, out, err);
}

/* ---- for engines ---- */

static void add_bucket(struct mem_store *m, struct hp_bytes name, int64_t width, const json_t *row)
{
	struct mem_breaker_count *found = NULL;
	int64_t v[4];

	for (size_t i = 0; i < 4; i++)
		v[i] = json_integer_value(json_array_get(row, i));
	MEM_EACH(&m->w, T_BREAKER_COUNT, struct mem_breaker_count, c)
		if (c->width == width && c->number == v[0] && mem_same(c->name, name))
			found = c;
	if (!found) {
		found = mem_add(&m->w, T_BREAKER_COUNT);
		found->name = mem_intern(m, name);
		found->width = width;
		found->number = v[0];
	}
	found->calls += v[1];
	found->failed += v[2];
	found->slow += v[3];
}

/* The first bucket that is not before this number. */
static const struct mem_breaker_count *bucket_from(const struct mem_store *m, struct hp_bytes name, int64_t width, int64_t number)
{
	const struct mem_breaker_count *first = NULL;

	MEM_EACH(&m->w, T_BREAKER_COUNT, struct mem_breaker_count, c)
		if (c->width == width && mem_same(c->name, name) && c->number >= number && (!first || c->number < first->number))
			first = c;
	return first;
}

/* The row of an engine's endpoint; it is made when there is none. */
static struct mem_breaker *engines_breaker(struct mem_store *m, const json_t *args, struct hp_error *err)
{
	struct mem_breaker *b;
	const char *name;

	if (mem_arg_text(args, "breaker", true, NAME_MAX_BYTES, &name, err) < 0)
		return NULL;
	b = find(m, hp_bytes_of(name));
	if (b)
		return b;
	b = mem_add(&m->w, T_BREAKER);
	*b = (struct mem_breaker){ .name = mem_intern_s(m, name), .since = *m->now,
				   .probes = hp_breaker_default.probes, .open_us = hp_breaker_default.open_us };
	return b;
}

/* Of a breaker that is not closed nothing is counted: its probes decide. */
static int report(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	struct mem_breaker *b = engines_breaker(m, args, err);
	const struct mem_breaker_count *c;
	int64_t width, in_row, oldest;
	const json_t *row;
	size_t i;
	bool first = true;

	if (!b || mem_arg_int(args, "width", NULL, &width, err) < 0 || mem_arg_int(args, "in_row", NULL, &in_row, err) < 0)
		return -1;
	if (b->state != B_CLOSED)
		return hp_buf_printf(out, "{\"state\":\"%s\",\"version\":%lld}", state_names[b->state],
				     (long long)b->version);
	json_array_foreach(json_object_get(args, "buckets"), i, row)
		add_bucket(m, b->name, width, row);
	oldest = *m->now / width - HP_BREAKER_BUCKETS;
	b->in_row = in_row + (hp_json_bool(args, "well", 0) ? 0 : b->in_row);
	hp_buf_printf(out, "{\"state\":\"closed\",\"version\":%lld,\"in_row\":%lld,\"now\":%lld,\"buckets\":[",
		      (long long)b->version, (long long)b->in_row, (long long)*m->now);
	while ((c = bucket_from(m, b->name, width, oldest))) {
		hp_buf_printf(out, "%s[%lld,%lld,%lld,%lld]", first ? "" : ",", (long long)c->number,
			      (long long)c->calls, (long long)c->failed, (long long)c->slow);
		first = false;
		oldest = c->number + 1;
	}
	return hp_buf_adds(out, "]}");
}

/* Of many engines that see the same, one writes. */
static int trip(struct mem_store *m, const char *principal, const json_t *args, struct hp_buf *out,
		struct hp_error *err)
{
	struct mem_breaker *b = engines_breaker(m, args, err);
	int64_t version, open_us, slow_us, probes;
	const char *reason;
	bool mine;

	if (!b || mem_arg_int(args, "version", NULL, &version, err) < 0 ||
	    mem_arg_int(args, "open_us", NULL, &open_us, err) < 0 ||
	    mem_arg_int(args, "slow_us", NULL, &slow_us, err) < 0 ||
	    mem_arg_int(args, "probes", NULL, &probes, err) < 0 ||
	    mem_arg_text(args, "reason", true, 500, &reason, err) < 0)
		return -1;
	b->told = true;
	mine = b->state == B_CLOSED && HP_GUARD(breaker_version, b->version == version);
	if (mine) {
		b->open_us = open_us;
		b->slow_us = slow_us;
		b->probes = (int32_t)probes;
		b->reopened = 0;
		set(m, b, B_OPEN, reason, principal);
	}
	return hp_buf_printf(out, "{\"outcome\":\"%s\",\"state\":\"%s\",\"version\":%lld}",
			     mine ? "done" : "taken", state_names[b->state], (long long)b->version);
}

int mem_breaker_door(struct mem_store *m, const char *name, const char *principal, const json_t *args,
		     struct hp_buf *out, struct hp_error *err)
{
	if (strcmp(name, "breaker") == 0)
		return show(m, args, out, err);
	if (strcmp(name, "breaker_open") == 0)
		return force(m, B_FORCED_OPEN, principal, args, out, err);
	if (strcmp(name, "breaker_close") == 0)
		return force(m, B_FORCED_CLOSED, principal, args, out, err);
	if (strcmp(name, "breaker_reset") == 0)
		return force(m, B_CLOSED, principal, args, out, err);
	if (strcmp(name, "breaker_report") == 0)
		return report(m, args, out, err);
	if (strcmp(name, "breaker_trip") == 0)
		return trip(m, principal, args, out, err);
	return hp_fail(err, HP_E_NOT_FOUND, "the in-memory store has no door \"%s\"", name);
}
