/* mem_why.c: for any run one sentence: what it waits for, since when, and who or what
 * can move it. The same causes and the same words as the SQL door's.
 *
 * One function per family of causes; each writes the sentence and returns the cause.
 */
#include <stdio.h>
#include <string.h>

#include "store/mem/mem_private.h"

struct why {
	const struct mem_store *m;
	const struct mem_run *r;
	struct hp_buf text;
	char state[HP_NAME_MAX + 1];
	int64_t until; /* 0: no time is known */
};

static const char *say(struct why *y);

#define RUN(y) ((long long)(y)->r->row.id)
#define BYTES(b) (int)(b).n, (b).p ? (b).p : ""

static const char *code_or(const struct why *y, const char *fallback)
{
	return y->r->row.code[0] ? y->r->row.code : fallback;
}

/* The latest row of that move; with code: of that code. */
static const struct mem_history *latest(const struct why *y, enum hp_move move, const char *code)
{
	const struct mem_history *found = NULL;

	MEM_EACH(&y->m->w, T_HISTORY, struct mem_history, h)
		if (h->run == y->r->row.id && h->move == move &&
		    (!code || mem_same(h->code, hp_bytes_of(code))))
			found = h;
	return found;
}

static void add_message(struct why *y, const struct mem_history *h)
{
	if (h && h->message.n)
		hp_buf_printf(&y->text, ": %.*s", BYTES(h->message));
}

/* Who has told it to end. */
static void add_parent(struct why *y)
{
	MEM_EACH(&y->m->w, T_CHILD, struct mem_child, c)
		if (c->child == y->r->row.id && c->cancel)
			hp_buf_printf(&y->text, " with run %lld, which had started it", (long long)c->run);
}

static const char *why_final(struct why *y)
{
	const struct mem_history *h = latest(y, HP_MOVE_FINISHED, NULL);
	const struct mem_history *c = latest(y, HP_MOVE_COMMANDED, "cancel");
	char at[32];

	mem_say_time(h ? h->at : 0, at);
	switch (y->r->row.status) {
	case HP_SUCCEEDED:
		hp_buf_printf(&y->text, "Run %lld succeeded at %s.", RUN(y), at);
		return "succeeded";
	case HP_FAILED:
		hp_buf_printf(&y->text, "Run %lld failed at %s with code %s", RUN(y), at, code_or(y, "failed"));
		add_message(y, h);
		hp_buf_addc(&y->text, '.');
		return "failed";
	default:
		hp_buf_printf(&y->text, "Run %lld was cancelled at %s", RUN(y), at);
		if (c)
			hp_buf_printf(&y->text, " by %.*s: %.*s", BYTES(c->by), BYTES(c->reason));
		else
			add_parent(y);
		hp_buf_addc(&y->text, '.');
		return "cancelled";
	}
}

static const char *why_ready(struct why *y, int64_t since)
{
	bool alive = false;
	char at[32];

	MEM_EACH(&y->m->w, T_ENGINE, struct mem_engine, e)
		alive = alive || (!e->dead && e->lease_until > *y->m->now);
	hp_buf_printf(&y->text, "Run %lld is ready since %s", RUN(y), mem_say_time(since, at));
	hp_buf_adds(&y->text, alive ? " and will be taken by the next free engine."
				    : ", but no engine is alive: start one.");
	return alive ? "ready" : "no_engine";
}

static const char *why_owned(struct why *y)
{
	const struct mem_engine *e = mem_engine_find(&y->m->w, y->r->engine);
	const struct hp_run *x = &y->r->row;
	char who[HP_NAME_MAX + 320], at[32];

	snprintf(who, sizeof who, "engine %lld (host %.*s, process %lld)", (long long)e->id,
		 BYTES(e->host), (long long)e->pid);
	if (e->dead || e->lease_until <= *y->m->now) {
		hp_buf_printf(&y->text, "Run %lld was in the hands of %s, whose lease ran out at %s; "
					"it will be taken over by another engine.",
			      RUN(y), who, mem_say_time(e->lease_until, at));
		return "owner_gone";
	}
	if (x->phase == HP_PH_ADMITTED) {
		hp_buf_printf(&y->text, "Run %lld waits for the answer to attempt %d of state \"%s\", sent after %s by %s.",
			      RUN(y), (int)x->attempt, y->state, mem_say_time(x->sent_at, at), who);
		return "in_flight";
	}
	hp_buf_printf(&y->text, "Run %lld is in state \"%s\" since %s", RUN(y), y->state,
		      mem_say_time(x->entered_at, at));
	mem_say_sweep(y->m, y->r, &y->text);
	hp_buf_printf(&y->text, ", in the hands of %s.", who);
	return "owned";
}

static const char *why_held(struct why *y)
{
	const struct mem_history *h = latest(y, HP_MOVE_HELD, NULL);
	char at[32];

	hp_buf_printf(&y->text, "Run %lld is held in state \"%s\" since %s with code %s", RUN(y), y->state,
		      mem_say_time(h ? h->at : 0, at), code_or(y, "held"));
	add_message(y, h);
	hp_buf_adds(&y->text, ".");
	if (y->r->row.unresolved)
		hp_buf_adds(&y->text, " Whether its effect happened is not known: look at the provider first.");
	if (mem_unwinds(y->m, y->r->row.id))
		hp_buf_adds(&y->text, " An operator can retry, skip what was undone by hand, or give up.");
	else
		hp_buf_printf(&y->text, " An operator can retry%s%s or give up.",
			      mem_at_approval(y->m, y->r) ? "" : ", skip",
			      mem_undo_any(y->m, y->r->row.id) ? ", undo" : "");
	return "held";
}

static const char *why_approval(struct why *y, const struct mem_approval *a)
{
	const char *before = "; approved so far by ";
	struct hp_bytes approvers = mem_approvers(y->m, a);
	char at[32];

	hp_buf_printf(&y->text, "Run %lld waits for approval %lld by %.*s until %s", RUN(y),
		      (long long)a->id, BYTES(approvers), mem_say_time(a->deadline, at));
	MEM_EACH(&y->m->w, T_VOTE, struct mem_vote, v) {
		if (v->approval != a->id)
			continue;
		hp_buf_printf(&y->text, "%s%.*s", before, BYTES(v->by));
		before = ", ";
	}
	hp_buf_printf(&y->text, ": holdpoint approve %lld --reason TEXT.", (long long)a->id);
	y->until = a->deadline;
	return "approval";
}

static bool add_waits(struct why *y)
{
	int64_t own = mem_own_events(y->m, y->r);
	bool any = false;

	MEM_EACH(&y->m->w, T_WAIT, struct mem_wait, w) {
		if (w->run != y->r->row.id || w->index >= own)
			continue;
		if (!any)
			hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" for the event ", RUN(y), y->state);
		else
			hp_buf_adds(&y->text, " or ");
		hp_buf_printf(&y->text, "%.*s with key \"%.*s\"", BYTES(w->name), BYTES(w->key));
		any = true;
	}
	return any;
}

static const char *why_sweep(struct why *y)
{
	const struct hp_run *x = &y->r->row;
	char at[32];

	y->until = x->due_at;
	hp_buf_printf(&y->text, "Run %lld sweeps in state \"%s\"", RUN(y), y->state);
	mem_say_sweep(y->m, y->r, &y->text);
	hp_buf_printf(&y->text, "; its next page is due at %s", mem_say_time(x->due_at, at));
	if (strcmp(x->code, "replication_lag") == 0)
		hp_buf_adds(&y->text, ", when it looks again whether the standbys have caught up");
	hp_buf_addc(&y->text, '.');
	return "sweep";
}

/* A parent waits: for whom, and why they wait. */
static const char *why_children(struct why *y)
{
	struct why child = { .m = y->m };
	int64_t first;

	mem_why_children(y->m, y->r, y->state, &y->text, &first);
	y->until = y->r->row.due_at;
	child.r = first ? mem_run_find(&y->m->w, first) : NULL;
	if (!child.r)
		return "children";
	hp_buf_addc(&y->text, ' ');
	say(&child);
	hp_buf_adds(&y->text, hp_buf_str(&child.text));
	hp_buf_free(&child.text);
	return "children";
}

static const char *why_open(struct why *y)
{
	const struct mem_approval *a = mem_approval_of(&y->m->w, y->r->row.id, y->r->row.visit);
	const struct hp_run *x = &y->r->row;
	bool waits;
	char at[32];

	if (x->phase == HP_PH_JOINING)
		return why_children(y);
	if (a && a->status == MEM_OPEN)
		return why_approval(y, a);
	if (mem_say_sweep(y->m, y->r, NULL))
		return why_sweep(y);
	waits = add_waits(y);
	y->until = mem_arms_due(y->m, y->r);
	if (!waits && y->until == 0) {
		hp_buf_printf(&y->text, "Run %lld is parked in state \"%s\" since %s and nothing will wake it "
					"by itself: an operator can cancel it.",
			      RUN(y), y->state, mem_say_time(x->entered_at, at));
		return "parked";
	}
	if (!waits)
		hp_buf_printf(&y->text, "Run %lld waits in state \"%s\"", RUN(y), y->state);
	if (y->until > 0)
		hp_buf_printf(&y->text, " until %s", mem_say_time(y->until, at));
	hp_buf_addc(&y->text, '.');
	return waits ? "event" : "timer";
}

/* A budget, a rate or the number of calls at once. */
static const char *why_limit(struct why *y)
{
	const struct mem_run *r = y->r;
	const struct mem_permit *mine = NULL;
	const struct mem_limiter *l;
	long long before = 0;
	char at[32];

	MEM_EACH(&y->m->w, T_PERMIT, struct mem_permit, p)
		if (p->run == r->row.id && p->visit == r->row.visit &&
		    mem_same(mem_limiter_at(y->m, p->limiter)->kind, r->gate_kind) &&
		    mem_same(mem_limiter_at(y->m, p->limiter)->name, r->gate_name))
			mine = p;
	if (!mine) {
		hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" since %s: %.*s.", RUN(y), y->state,
			      mem_say_time(r->gated_since, at), BYTES(r->gate_message));
		return "budget";
	}
	l = mem_limiter_at(y->m, mine->limiter);
	MEM_EACH(&y->m->w, T_PERMIT, struct mem_permit, p)
		before += p->limiter == mine->limiter && p->at > *y->m->now && mem_permit_before(p, mine);
	y->until = mine->at == MEM_QUEUED ? 0 : mine->at;
	if (mine->at == MEM_QUEUED) {
		hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" for a place: %lld of %lld calls of %.*s%s%.*s are going; %lld "
					"before it.",
			      RUN(y), y->state, (long long)l->meter.used, (long long)l->quota.max, BYTES(l->name),
			      l->key.n ? " for " : "", BYTES(l->key), before);
		return "concurrency";
	}
	mem_say_time(mine->at, at);
	if (strcmp(l->kind.p, "rate") == 0) {
		hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" until %s: the rate of %.*s%s%.*s; %lld before it.", RUN(y),
			      y->state, at, BYTES(l->name), l->key.n ? " for " : "", BYTES(l->key), before);
		return "rate";
	}
	hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" for the budget %.*s%s%.*s: all %lld are used until %s; %lld before it.",
		      RUN(y), y->state, BYTES(l->name), l->key.n ? " of " : "", BYTES(l->key), (long long)l->quota.max, at, before);
	return "budget";
}

static const char *why_gated(struct why *y)
{
	const struct mem_run *r = y->r;
	const struct mem_breaker *b = mem_breaker_find(y->m, r->gate_name);
	char at[32], since[32], until[32];

	mem_say_time(r->gated_since, at);
	if (mem_same(r->gate_kind, hp_bytes_of("budget")) || mem_same(r->gate_kind, hp_bytes_of("rate")) ||
	    mem_same(r->gate_kind, hp_bytes_of("slots")))
		return why_limit(y);
	if (!mem_same(r->gate_kind, hp_bytes_of("breaker")) || !b) {
		hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" since %s: %.*s.", RUN(y), y->state, at,
			      BYTES(r->gate_message));
		return "gated";
	}
	mem_say_time(b->since, since);
	if (b->state == B_CLOSED || b->state == B_FORCED_CLOSED) {
		hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" for its turn: the breaker of %.*s is closed "
					"again since %s, and the runs behind it go on a few at a time.",
			      RUN(y), y->state, BYTES(b->name), since);
		return "breaker";
	}
	hp_buf_printf(&y->text, "Run %lld waits in state \"%s\" since %s because the breaker of %.*s is %s since %s (%.*s)",
		      RUN(y), y->state, at, BYTES(b->name), mem_breaker_word(b->state), since, BYTES(b->reason));
	if (b->state == B_OPEN)
		hp_buf_printf(&y->text, "; it tries again at %s", mem_say_time(b->until, until));
	else if (b->state == B_HALF_OPEN)
		hp_buf_adds(&y->text, "; some requests probe it now");
	else
		hp_buf_printf(&y->text, "; %.*s opened it", BYTES(b->by));
	hp_buf_printf(&y->text, ". An operator can close it: holdpoint breaker close %.*s --reason TEXT.",
		      BYTES(b->name));
	y->until = b->until;
	return "breaker";
}

/* Not started yet: its workflow limits how many may. */
static const char *why_start(struct why *y)
{
	const struct mem_permit *mine = NULL;
	const struct mem_limiter *l;
	long long before = 0;
	int64_t other = 0;
	char at[32];

	y->until = y->r->row.due_at;
	MEM_EACH(&y->m->w, T_PERMIT, struct mem_permit, p)
		if (p->run == y->r->row.id && p->visit == 0 && p->at == MEM_QUEUED)
			mine = p;
	if (!mine) {
		hp_buf_printf(&y->text, "Run %lld starts at %s: so many starts its workflow allows.", RUN(y),
			      mem_say_time(y->until, at));
		return "rate";
	}
	l = mem_limiter_at(y->m, mine->limiter);
	MEM_EACH(&y->m->w, T_PERMIT, struct mem_permit, p) {
		if (p->limiter != mine->limiter)
			continue;
		if (p->at != MEM_QUEUED)
			other = p->run;
		else if (mem_permit_before(p, mine))
			before++;
	}
	if (strcmp(l->kind.p, "exclusive") == 0) {
		hp_buf_printf(&y->text, "Run %lld waits to start: \"%.*s\" belongs to run %lld; %lld before it.", RUN(y),
			      BYTES(l->key), (long long)other, before);
		return "exclusive";
	}
	if (strcmp(l->kind.p, "turn") == 0) {
		hp_buf_printf(&y->text, "Run %lld waits for its turn among those of \"%.*s\"; %lld before it.", RUN(y),
			      BYTES(l->key), before);
		return "turn";
	}
	hp_buf_printf(&y->text, "Run %lld waits to start: %lld of %lld runs of %.*s%s%.*s are going; %lld before it.", RUN(y),
		      (long long)l->meter.used, (long long)l->quota.max, BYTES(l->name), l->key.n ? " for " : "",
		      BYTES(l->key), before);
	return "concurrency";
}

static const char *why_waiting(struct why *y)
{
	const struct hp_run *x = &y->r->row;
	const char *cause;
	char at[32];

	if (x->due_at > 0 && x->due_at <= *y->m->now)
		return why_ready(y, x->due_at);
	if (x->phase == HP_PH_ENTER)
		return why_start(y);
	mem_say_time(x->due_at, at);
	y->until = x->due_at;
	if (y->r->gate_kind.n)
		return why_gated(y);
	if (x->phase == HP_PH_BACKOFF) {
		hp_buf_printf(&y->text, "Run %lld tries state \"%s\" again at %s: attempt %d failed with code %s.",
			      RUN(y), y->state, at, (int)x->attempt, code_or(y, "failed"));
		return "backoff";
	}
	if (x->phase == HP_PH_DOUBT) {
		hp_buf_printf(&y->text, "Run %lld is in doubt in state \"%s\": whether attempt %d happened is not "
					"known; it looks at %s.",
			      RUN(y), y->state, (int)x->attempt, at);
		return "doubt";
	}
	cause = why_open(y);
	mem_why_arms(y->m, y->r, &y->text);
	return cause;
}

static const char *why_paused(struct why *y)
{
	const struct mem_run *r = y->r;
	char at[32];

	hp_buf_printf(&y->text, "Run %lld is paused in state \"%s\" since %s by %.*s: %.*s. holdpoint resume %lld lets it go on.",
		      RUN(y), y->state, mem_say_time(r->paused_at, at), BYTES(r->paused_by), BYTES(r->paused_reason), RUN(y));
	if (r->row.status == HP_HELD)
		hp_buf_printf(&y->text, " It is held with code %s.", code_or(y, "held"));
	return "paused";
}

static const char *cause_of(struct why *y)
{
	if (hp_status_final(y->r->row.status))
		return why_final(y);
	if (y->r->engine)
		return why_owned(y);
	if (y->r->ready)
		return why_ready(y, y->r->ready_at);
	if (y->r->row.pause)
		return why_paused(y);
	return y->r->row.status == HP_HELD ? why_held(y) : why_waiting(y);
}

/* The sentence into y->text, which is the caller's to free; returns the cause. */
static const char *say(struct why *y)
{
	bool cancel = y->r->row.cancel || mem_told_to_end(y->m, y->r);
	const char *cause;

	mem_state_name(&y->m->w, y->r, y->r->row.state, y->state, sizeof y->state);
	hp_buf_init(&y->text, HP_VALUE_MAX);
	cause = cause_of(y);
	if (!hp_status_final(y->r->row.status))
		mem_undo_progress(y->m, y->r, &y->text);
	if (cancel && !hp_status_final(y->r->row.status) && !mem_unwinds(y->m, y->r->row.id))
		hp_buf_adds(&y->text, " It is to be cancelled.");
	if (y->r->row.pause && strcmp(cause, "paused") != 0)
		hp_buf_adds(&y->text, " It is to be paused.");
	return cause;
}

int mem_why(struct mem_store *m, const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	struct why y = { .m = m, .r = mem_arg_run(m, args, err) };
	const char *cause;
	json_t *root;
	int rc;

	if (!y.r)
		return -1;
	cause = say(&y);
	root = json_pack("{s:I, s:s, s:s, s:s, s:s}", "run", (json_int_t)y.r->row.id, "sentence",
			 hp_buf_str(&y.text), "cause", cause, "state", y.state, "status",
			 hp_status_name(y.r->row.status));
	mem_put_time(root, "since", y.r->row.entered_at);
	mem_put_time(root, "until", y.until);
	rc = hp_json_write(out, root, err);
	json_decref(root);
	hp_buf_free(&y.text);
	return rc;
}
