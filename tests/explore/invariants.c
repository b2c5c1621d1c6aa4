/* invariants.c: what must hold. The numbers are those of docs/reliability.md.
 *
 * After every step: the rows that it changed (terminal, visits, edges, epochs, timers, mail,
 * what a fenced engine did). In every new state: the row against its history, a cause to
 * move, statements against transitions. Where nothing more will happen by itself: all runs
 * have ended or wait for a person. Requests are checked as they leave, effects as they happen
 * (outside.c), decisions as they are made (doors.c).
 */
#include "explore.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

char x_wrong[600];

void x_fail(const char *fmt, ...)
{
	va_list ap;

	if (x_wrong[0])
		return;
	va_start(ap, fmt);
	vsnprintf(x_wrong, sizeof x_wrong, fmt, ap);
	va_end(ap);
}

static const struct mem_history *last_row(int64_t run)
{
	const struct mem_history *last = NULL;

	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, h)
		if (h->run == run && h->seq == 0)
			last = h;
	return last;
}

/* ---- 2, 16: a request leaves ---- */

/* Its admission is in the history: of this very attempt, by this very owner. */
static bool admitted(const struct x_hand *h)
{
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, x) {
		if (x->run != h->run || x->visit != h->m.run.visit || x->epoch != h->epoch)
			continue;
		if (h->act.probe ? x->move == HP_MOVE_PROBING : x->admits && x->attempt == h->m.run.attempt)
			return true;
	}
	return false;
}

/* A yes, to these bytes, for this very call. */
static bool signed_for(const struct x_hand *h, const struct hp_definition *d)
{
	uint8_t hash[HP_SHA256_LEN];

	hp_sha256(h->act.value.p, h->act.value.n, hash);
	MEM_EACH(x_tables(), T_APPROVAL, struct mem_approval, a)
		if (a->run == h->run && a->status == MEM_APPROVED && d->states[a->state].approval.of == h->m.run.state &&
		    memcmp(a->hash, hash, sizeof hash) == 0)
			return true;
	return false;
}

void x_check_sent(const struct x_hand *h)
{
	const struct mem_run *r = x_run(h->run);
	const struct hp_state *s = &x_flow_of(r)->def.states[h->m.run.state];

	if (h->act.arm) /* a check only reads: the claim that found it due allows it */
		return;
	X_MUST(admitted(h), "a request of run %lld, visit %d left without an admission", (long long)h->run, (int)h->m.run.visit);
	if (!h->act.probe && s->call.signed_by != HP_NO_STATE)
		X_MUST(signed_for(h, &x_flow_of(r)->def), "a request of run %lld left that nobody signed", (long long)h->run);
}

/* ---- after a step ---- */

static bool same_row(const struct hp_run *a, const struct hp_run *b)
{
	return a->epoch == b->epoch && a->rev == b->rev && a->visit == b->visit && a->state == b->state &&
	       a->status == b->status && a->phase == b->phase && a->attempt == b->attempt && a->failures == b->failures &&
	       a->due_at == b->due_at && a->unresolved == b->unresolved && a->command == b->command &&
	       a->cancel == b->cancel && a->pause == b->pause && a->signed_visit == b->signed_visit &&
	       (a->signed_visit == 0 || a->signed_for == b->signed_for);
}

/* 8: the next visit, by an edge of the definition, or back by an undo or an operator. */
static void check_visit(const struct mem_run *was, const struct mem_run *is)
{
	const struct x_flow *f = x_flow_of(is);
	const struct hp_run *a = &was->row, *b = &is->row;
	bool back = a->phase == HP_PH_UNDOING || b->phase == HP_PH_UNDOING || b->state >= f->def.n_states;

	X_MUST(b->visit == a->visit || b->visit == a->visit + 1, "run %lld went from visit %d to %d", (long long)b->id,
	       (int)a->visit, (int)b->visit);
	if (b->visit == a->visit)
		X_MUST(a->state == b->state || back, "run %lld is in another state in the same visit", (long long)b->id);
	else
		X_MUST(f->edge[a->state][b->state] || back || (a->state == b->state && a->status == HP_HELD),
		       "run %lld went from \"%s\" to \"%s\", and there is no such way", (long long)b->id,
		       f->def.states[a->state].name, f->def.states[b->state].name);
}

/* 14: what waited for a time has waited for it. The engine's clock is the database's here. */
static void check_times(const struct mem_run *was, const struct mem_run *is)
{
	const struct hp_run *a = &was->row, *b = &is->row;
	const struct hp_state *s = &x_flow_of(is)->def.states[a->state];
	const struct mem_history *h = last_row(b->id);

	if (a->phase == HP_PH_BACKOFF && b->visit == a->visit && b->attempt > a->attempt)
		X_MUST(X.now >= a->due_at, "run %lld tried again before its time", (long long)b->id);
	if (b->phase == HP_PH_PROBING && a->phase != HP_PH_PROBING && a->status != HP_HELD && h && h->move == HP_MOVE_PROBING)
		X_MUST(X.now >= a->sent_at + s->timeout_us + X_LEASE || a->command != HP_CMD_NONE,
		       "run %lld looked while its request might still land", (long long)b->id);
	if (s->kind == HP_WAIT && s->n_arms == 0 && a->phase == HP_PH_OPEN && b->visit > a->visit && a->command == HP_CMD_NONE)
		X_MUST(X.now >= a->due_at, "run %lld did not wait for its time", (long long)b->id);
}

/* 18, 9, 10: attempts end; nothing fails by itself; what is in the air resolves first. */
static void check_end(const struct mem_run *was, const struct mem_run *is)
{
	const struct hp_run *a = &was->row, *b = &is->row;
	const struct hp_state *s = &x_flow_of(is)->def.states[a->state], *at = &x_flow_of(is)->def.states[b->state];
	const struct mem_history *h = last_row(b->id);
	bool told = a->command != HP_CMD_NONE || a->phase == HP_PH_UNDOING;

	if (b->phase == HP_PH_BACKOFF && a->phase != HP_PH_BACKOFF)
		X_MUST(b->failures < s->retry.attempts, "run %lld failed %d times and goes on trying", (long long)b->id, (int)b->failures);
	if (b->status == HP_FAILED)
		X_MUST(at->kind == HP_FAIL || told, "run %lld failed, and nobody said so", (long long)b->id);
	if (h && h->move == HP_MOVE_PAUSED && h->rev == b->rev)
		X_MUST(b->phase != HP_PH_ADMITTED && b->phase != HP_PH_PROBING, "run %lld is paused with something in the air",
		       (long long)b->id);
	/* who looks at what is held is told that it may have happened */
	for (int i = 0; i < X.n_effects && b->status == HP_HELD && a->status != HP_HELD; i++)
		X_MUST(X.effects[i].run != b->id || X.effects[i].visit != b->visit || X.effects[i].acts == 0 || b->unresolved ||
			       X.heard[b->id][b->visit] || X.excused[b->id][b->visit],
		       "run %lld is held, and does not say that its effect may have happened", (long long)b->id);
	if (b->status != HP_CANCELLED || a->status == HP_HELD || told || b->visit != a->visit || X.heard[b->id][b->visit])
		return;
	for (int i = 0; i < X.n_effects; i++)
		X_MUST(X.effects[i].run != b->id || X.effects[i].visit != b->visit || X.effects[i].acts == 0,
		       "run %lld is cancelled, and does not know of its effect", (long long)b->id);
	for (int i = 0; i < X_REQUESTS; i++)
		X_MUST(!X.requests[i].used || X.requests[i].run != b->id || X.requests[i].visit != b->visit || X.requests[i].probe ||
			       X.requests[i].check,
		       "run %lld is cancelled with a request in the air", (long long)b->id);
}

/* 14: an arm went by its time, or by a check that no clock had overtaken. */
static void check_arm(const struct mem_run *was, const struct mem_run *is)
{
	const struct hp_run *a = &was->row, *b = &is->row;
	const struct hp_state *s = &x_flow_of(is)->def.states[a->state];
	const struct mem_history *h = last_row(b->id);

	if (b->visit == a->visit || !h || h->message.n < 4 || memcmp(h->message.p, "arm ", 4) != 0)
		return;
	for (int i = 0; i < s->n_arms; i++) {
		const struct hp_arm *arm = &s->arms[i];
		int64_t due = a->entered_at + arm->after_us;

		if (arm->kind != HP_ARM_TIMER)
			continue;
		if (strstr(h->message.p, "its time had come"))
			X_MUST(X.now >= due, "run %lld left by its timer before its time", (long long)b->id);
		if (strstr(h->message.p, "its check said so"))
			X_MUST(b->entered_at < due, "run %lld left by a check that its timer had overtaken", (long long)b->id);
	}
}

static void check_run(const struct mem_run *was, const struct mem_run *is, struct x_step s)
{
	const struct hp_run *a = &was->row, *b = &is->row;
	bool claims = s.kind == S_CLAIM;

	if (hp_status_final(a->status)) {
		X_MUST(same_row(a, b), "run %lld had ended, and changed", (long long)b->id);
		return;
	}
	X_MUST(b->rev >= a->rev, "run %lld: rev went back from %d to %d", (long long)b->id, (int)a->rev, (int)b->rev);
	X_MUST(b->epoch == a->epoch || (claims && b->epoch == a->epoch + 1), "run %lld: epoch went from %d to %d",
	       (long long)b->id, (int)a->epoch, (int)b->epoch);
	X_MUST(b->rev > a->rev || a->visit == b->visit, "run %lld moved without a new rev", (long long)b->id);
	X_MUST(b->claims <= HP_CLAIMS_STALLED_MAX, "run %lld was claimed too often for this world", (long long)b->id);
	if (claims && b->epoch > a->epoch)
		X_MUST(was->ready || (!was->engine && a->status == HP_WAITING && a->due_at > 0 && a->due_at <= X.now && !a->pause),
		       "run %lld was claimed before its time", (long long)b->id);
	if (claims && b->epoch > a->epoch)
		X_MUST(was->engine == 0, "run %lld was claimed from its owner", (long long)b->id);
	check_visit(was, is);
	check_times(was, is);
	check_end(was, is);
	check_arm(was, is);
}

static bool writes(struct x_step s)
{
	return s.kind == S_WRITE || (s.kind == S_LATE && s.b == 0);
}

/* 11: who no longer owns the run, or has not seen its last write, changes nothing. */
static void check_fenced(struct x_step s, const struct x_saved *before)
{
	if (!writes(s) || !x_wrote_stale)
		return;
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct mem_run *was = x_saved_run(before, id);

		X_MUST(was && same_row(&was->row, &x_run(id)->row), "an engine that was fenced wrote run %lld", (long long)id);
	}
	X_MUST(x_saved_history(before) == mem_count(x_tables(), T_HISTORY), "an engine that was fenced wrote history");
}

/* 15: a message is read once by a run. */
static void check_mail(struct x_step s)
{
	const struct hp_transition *t;

	if (!writes(s) || x_wrote_stale) /* of other steps b is no hand */
		return;
	t = s.kind == S_LATE ? &x_landed : &H[s.a][s.b].m.t;
	if (t->consume_mail == 0 || x_run(t->run_id)->row.rev == t->rev)
		return;
	HP_ASSERT(t->consume_mail < X_MAILS);
	X_MUST(++X.consumed[t->run_id][t->consume_mail] == 1, "run %lld read message %lld twice", (long long)t->run_id,
	       (long long)t->consume_mail);
}

/* 6: a statement and its transition, both or neither. */
static void check_statement(struct x_step s)
{
	int n = 0, committed = 0;

	if (!writes(s))
		return;
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, h)
		n += h->in_sql;
	for (int64_t id = 1; id <= x_n_runs(); id++)
		for (int v = 0; v < X_VISITS; v++) {
			committed += X.ledger[id][v];
			X_MUST(X.ledger[id][v] <= 1, "the statement of run %lld, visit %d is there twice", (long long)id, v);
		}
	X_MUST(n == committed, "%d statements are committed, and %d transitions tell of one", committed, n);
}

/* What an open breaker lets in is nothing, a half-open one its probes. A place is free when its
 * run should long have been answered. */
static void check_breaker(struct x_step s)
{
	const struct mem_breaker *b = mem_breaker_find(x_mem(), hp_bytes_of("shop"));
	const struct x_hand *h;
	int probes = 0;

	if (s.kind != S_WRITE || x_wrote_stale || !b)
		return;
	h = &H[s.a][s.b];
	if (h->at == AT_WRITTEN && h->res.outcome == HP_COMMIT_OK && h->m.t.admits && !h->res.gated)
		X_MUST(b->state != B_OPEN, "run %lld is admitted, and the breaker is open", (long long)h->run);
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct hp_run *r = &x_run(id)->row;

		probes += r->status == HP_RUNNING && r->phase == HP_PH_ADMITTED && r->sent_at >= b->since &&
			  X.now < r->sent_at + x_flow_of(x_run(id))->def.states[r->state].timeout_us;
	}
	X_MUST(b->state != B_HALF_OPEN || probes <= X_PROBES, "%d runs probe for the breaker", probes);
}

/* Whoever has begun has its slot of what only one may have. */
static void check_turns(void)
{
	int64_t begun = 0;

	if (!x_world->limits)
		return;
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct hp_run *r = &x_run(id)->row;

		bool told = r->cancel || r->pause; /* taken up to be ended or put aside, also from the queue */

		if (hp_status_final(r->status) || (r->visit == 1 && r->attempt == 0 && (told || !x_run(id)->engine)))
			continue;
		X_MUST(begun == 0, "runs %lld and %lld are under way, and only one may be", (long long)begun, (long long)id);
		begun = id;
	}
}

void x_check_step(struct x_step s, const struct x_saved *before)
{
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct mem_run *was = x_saved_run(before, id), *is = x_run(id);

		if (was && (was->row.rev != is->row.rev || !same_row(&was->row, &is->row)))
			check_run(was, is, s);
	}
	check_fenced(s, before);
	check_mail(s);
	check_statement(s);
	check_breaker(s);
}

/* ---- in a state ---- */

static bool has_admission(int64_t run, int32_t visit)
{
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, h)
		if (h->run == run && h->visit == visit && h->admits)
			return true;
	return false;
}

/* 9: the row is what history says, as far as history says it. */
static void check_fold(const struct mem_run *r)
{
	const struct mem_history *h = last_row(r->row.id);
	const struct hp_run *a = &r->row;

	X_MUST(h != NULL, "run %lld has no history", (long long)a->id);
	if (!h)
		return;
	X_MUST(h->visit == a->visit && h->state == a->state, "run %lld: its row is in visit %d, its history in %d",
	       (long long)a->id, (int)a->visit, (int)h->visit);
	X_MUST(h->rev <= a->rev && h->epoch <= a->epoch, "run %lld: its history is ahead of its row", (long long)a->id);
	X_MUST(hp_status_final(a->status) == (h->move == HP_MOVE_FINISHED), "run %lld: is it over? row and history differ",
	       (long long)a->id);
	X_MUST((a->status == HP_HELD) <= (h->move == HP_MOVE_HELD || h->move == HP_MOVE_COMMANDED || h->move == HP_MOVE_RESUMED ||
					  h->move == HP_MOVE_PAUSED || h->move == HP_MOVE_WOKEN || h->move == HP_MOVE_DECIDED),
	       "run %lld is held, and history does not say so", (long long)a->id);
	if (a->status == HP_RUNNING && a->phase == HP_PH_ADMITTED)
		X_MUST(has_admission(a->id, a->visit), "run %lld is admitted without an admission", (long long)a->id);
}

static bool has_wait(int64_t run)
{
	MEM_EACH(x_tables(), T_WAIT, struct mem_wait, w)
		if (w->run == run)
			return true;
	return false;
}

static bool has_open_approval(int64_t run, int32_t visit)
{
	MEM_EACH(x_tables(), T_APPROVAL, struct mem_approval, a)
		if (a->run == run && a->visit == visit && a->status == MEM_OPEN)
			return true;
	return false;
}

static bool has_children(int64_t run, int32_t visit)
{
	MEM_EACH(x_tables(), T_CHILD, struct mem_child, c)
		if (c->run == run && c->visit == visit && c->status == MEM_CHILD_RUNS)
			return true;
	return false;
}

static bool has_place_in_queue(int64_t run)
{
	MEM_EACH(x_tables(), T_PERMIT, struct mem_permit, p)
		if (p->run == run && p->at == MEM_QUEUED)
			return true;
	return false;
}

const struct mem_breaker *x_gate_of(const struct mem_run *r)
{
	return mem_same(r->gate_kind, hp_bytes_of("breaker")) ? mem_breaker_find(x_mem(), r->gate_name) : NULL;
}

static bool has_unread(int64_t run)
{
	MEM_EACH(x_tables(), T_WAIT, struct mem_wait, w) {
		int64_t read = 0;

		if (w->run != run)
			continue;
		MEM_EACH(x_tables(), T_CURSOR, struct mem_cursor, c)
			if (c->run == run && mem_same(c->name, w->name) && mem_same(c->key, w->key))
				read = c->mail;
		MEM_EACH(x_tables(), T_MAIL, struct mem_mail, m)
			if (m->id > read && mem_same(m->name, w->name) && mem_same(m->key, w->key))
				return true;
	}
	return false;
}

static bool is_decided(int64_t run, int32_t visit)
{
	MEM_EACH(x_tables(), T_APPROVAL, struct mem_approval, a)
		if (a->run == run && a->visit == visit && (a->status == MEM_APPROVED || a->status == MEM_REJECTED))
			return true;
	return false;
}

static bool all_children_ended(int64_t run, int32_t visit)
{
	MEM_EACH(x_tables(), T_FAMILY, struct mem_family, f)
		if (f->run == run && f->visit == visit && !f->complete)
			return false;
	MEM_EACH(x_tables(), T_CHILD, struct mem_child, c)
		if (c->run == run && c->visit == visit && (c->status == MEM_CHILD_RUNS || c->status == MEM_CHILD_QUEUED))
			return false;
	return true;
}

/* 12: what it waits for is there already, so it is on its way; a timeout far away is not enough. */
static void check_woken(const struct mem_run *r)
{
	const struct hp_run *a = &r->row;
	bool open = a->phase == HP_PH_OPEN, joins = a->phase == HP_PH_JOINING;

	if (a->status != HP_WAITING || r->ready || r->engine || a->pause)
		return;
	X_MUST(!open || !has_unread(a->id), "run %lld has a message to read, and nobody will look", (long long)a->id);
	X_MUST(!open || !is_decided(a->id, a->visit), "run %lld is decided, and nobody will look", (long long)a->id);
	X_MUST(!joins || !all_children_ended(a->id, a->visit), "the children of run %lld have ended, and nobody will look", (long long)a->id);
	/* with something in the air it waits, behind a gate or for its next attempt, to learn what became of that */
	X_MUST(!a->cancel || a->unresolved || !(open || a->phase == HP_PH_BACKOFF || a->phase == HP_PH_ENTER || x_gate_of(r)),
	       "run %lld is cancelled, and nobody will look", (long long)a->id);
}

/* 12: ready, in somebody's hands, a time, an event, a person, a child, a turn, a breaker. */
static void check_cause(const struct mem_run *r)
{
	const struct hp_run *a = &r->row;
	bool cause = r->ready || r->engine || a->pause || a->status == HP_HELD;

	if (hp_status_final(a->status))
		return;
	cause = cause || (a->status == HP_WAITING && a->due_at > 0);
	cause = cause || (a->status == HP_WAITING && (has_wait(a->id) || has_open_approval(a->id, a->visit)));
	cause = cause || (a->phase == HP_PH_JOINING && has_children(a->id, a->visit));
	cause = cause || (a->status == HP_WAITING && (has_place_in_queue(a->id) || x_gate_of(r)));
	X_MUST(cause, "run %lld (%s, visit %d, phase %d) has no cause to move", (long long)a->id, hp_status_name(a->status),
	       (int)a->visit, (int)a->phase);
}

/* A key has one run that lives or has ended well. */
static void check_keys(void)
{
	MEM_EACH(x_tables(), T_KEY, struct mem_key, k)
		MEM_EACH(x_tables(), T_KEY, struct mem_key, o)
			X_MUST(k == o || k->freed || o->freed || !mem_same(k->key, o->key) || !mem_same(k->workflow, o->workflow),
			       "two runs, %lld and %lld, have one key", (long long)k->run, (long long)o->run);
}

void x_check_state(void)
{
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		check_fold(x_run(id));
		check_cause(x_run(id));
		check_woken(x_run(id));
	}
	check_keys();
	check_turns();
	X_MUST(X.now - X_T0 < HP_HOUR, "this world lasts longer than an hour");
}

/* ---- nothing more happens by itself ---- */

/* An operator said: as if it had succeeded. */
static bool skipped(int64_t run, int32_t visit)
{
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, h)
		if (h->run == run && h->visit == visit && h->move == HP_MOVE_COMMANDED && mem_same(h->code, hp_bytes_of("skip")))
			return true;
	return false;
}

/* 2: what a run has done for good has been delivered. */
static void check_done(const struct mem_history *h)
{
	const struct mem_run *r = x_run(h->run);
	const struct hp_state *s = &x_flow_of(r)->def.states[h->from_state];
	bool acted = false;

	if (s->kind != HP_CALL || h->outcome != HP_CLASS_OK || h->visit == h->from_visit || s->call.op.read || h->code.n ||
	    h->state >= x_flow_of(r)->def.n_states || skipped(h->run, h->from_visit))
		return;
	for (int i = 0; i < X.n_effects; i++)
		acted = acted || (X.effects[i].acts > 0 && ((X.effects[i].run == h->run && X.effects[i].visit == h->from_visit) || s->call.has_key));
	X_MUST(acted, "run %lld went on from visit %d, and its effect never happened", (long long)h->run, (int)h->from_visit);
}

static bool goes_back(int64_t run)
{
	MEM_EACH(x_tables(), T_UNWINDING, struct mem_unwinding, u)
		if (u->run == run)
			return true;
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, h)
		if (h->run == run && h->move == HP_MOVE_COMMANDED && mem_same(h->code, hp_bytes_of("undo")))
			return true;
	return false;
}

static bool state_acted(int64_t run, int state)
{
	for (int i = 0; i < X.n_effects; i++)
		if (X.effects[i].run == run && X.effects[i].state == state && X.effects[i].acts > 0)
			return true;
	return false;
}

/* Who was to go back, and has ended, has taken back what it had done. (No world has a door that
 * lets go of an undo.) */
static void check_undone(const struct mem_run *r)
{
	const struct hp_definition *d = &x_flow_of(r)->def;

	if (!hp_status_final(r->row.status) || !goes_back(r->row.id))
		return;
	X_MUST(r->row.status != HP_SUCCEEDED, "run %lld was to go back, and went on to its end", (long long)r->row.id);
	for (int i = 0; i < d->n_states; i++)
		X_MUST(!d->states[i].has_undo || !state_acted(r->row.id, i) || state_acted(r->row.id, d->states[i].undo),
		       "run %lld went back, and \"%s\" is not undone", (long long)r->row.id, d->states[i].name);
}

static bool in_queue_of_another(int64_t run)
{
	for (int64_t id = 1; id <= x_n_runs(); id++)
		if (id != run && !hp_status_final(x_run(id)->row.status) && !has_place_in_queue(id))
			return has_place_in_queue(run);
	return false;
}

void x_check_rest(void)
{
	for (int64_t id = 1; id <= x_n_runs(); id++) {
		const struct mem_run *r = x_run(id);

		/* (who stands in a queue waits for one that is paused or held: check_turns()) */
		X_MUST(hp_status_final(r->row.status) || r->row.status == HP_HELD || r->row.pause || in_queue_of_another(id) ||
			       (r->row.phase == HP_PH_JOINING && r->row.status == HP_WAITING),
		       "run %lld is %s, and nothing will ever move it", (long long)id, hp_status_name(r->row.status));
		check_undone(r);
		X_MUST(r->engine == 0, "run %lld is in the hands of engine %lld for ever", (long long)id, (long long)r->engine);
	}
	MEM_EACH(x_tables(), T_HISTORY, struct mem_history, h)
		check_done(h);
}
