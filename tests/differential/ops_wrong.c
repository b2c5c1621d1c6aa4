/* ops_wrong.c: transitions that may not be written: of somebody who has lost the run, and
 * with data that cannot be kept. What the machine wanted is changed in one place. */
#include "diff.h"

#include <stdio.h>
#include <string.h>

struct wrong {
	const char *name;
	bool (*spoil)(struct hp_transition *t); /* false: there is nothing to spoil in this one */
};

static bool epoch_before(struct hp_transition *t) { t->epoch--; return true; }
static bool epoch_after(struct hp_transition *t) { t->epoch++; return true; }
static bool rev_before(struct hp_transition *t) { t->rev--; return true; }
static bool rev_after(struct hp_transition *t) { t->rev++; return true; }
static bool no_such_run(struct hp_transition *t) { t->run_id += 100000; return true; }

/* (An admission may be refused by a gate, and is then written with a status of its own.) */
static bool bad_status(struct hp_transition *t)
{
	if (t->admits || t->move == HP_MOVE_PROBING)
		return false;
	t->after.status = (enum hp_status)(d_chance(50) ? 9 : 0);
	return true;
}

static bool end_without_finish(struct hp_transition *t)
{
	if (t->admits || t->move == HP_MOVE_PROBING)
		return false;
	if (t->disposition == HP_FINISH)
		t->after.status = HP_RUNNING;
	else
		t->after.status = HP_SUCCEEDED;
	return true;
}

static bool bad_save(struct hp_transition *t)
{
	/* A name that is there twice is not among them: jsonb takes the last one, and the engine writes none. */
	static const char *const texts[] = { "{\"a\":", "nonsense", "{\"a\":\"\\u0000\"}", "\"\\ud800\"", "" };

	if (t->n_saves == 0)
		t->saves[t->n_saves++].name = "spoilt";
	t->saves[0].value = hp_bytes_of(texts[d_rnd(5)]);
	if (t->saves[0].value.n == 0)
		t->saves[0].value = (struct hp_bytes){ "", 0 };
	return true;
}

static bool set_of_no_object(struct hp_transition *t)
{
	t->n_saves = 1;
	t->saves[0] = (struct hp_save){ NULL, hp_bytes_of("[1]") };
	return true;
}

static bool bad_result(struct hp_transition *t)
{
	if (t->disposition != HP_FINISH)
		return false;
	t->result = hp_bytes_of("{");
	return true;
}

static bool annex_of_nobody(struct hp_transition *t)
{
	if (t->n_annexes == HP_ANNEXES_MAX)
		return false;
	t->annexes[t->n_annexes++] = (struct hp_annex){ "weather", hp_bytes_of("{}") };
	return true;
}

static bool bad_annex(struct hp_transition *t)
{
	static const char *const kinds[] = { "undo", "children", "sweep", "secrets", "arms", "limits", "sweep_failure" };
	static const char *const texts[] = { "{", "{}", "{\"ops\":[{\"op\":\"sing\",\"name\":\"A\"}]}", "{\"close\":77,\"as\":\"done\"}", "{\"op\":\"dance\"}" };

	if (t->n_annexes == 0)
		t->annexes[t->n_annexes++].kind = kinds[d_rnd(4)];
	t->annexes[0].doc = hp_bytes_of(texts[d_rnd(5)]);
	if (strcmp(t->annexes[0].kind, "undo") != 0 && strcmp(t->annexes[0].kind, "children") != 0)
		t->annexes[0].doc = hp_bytes_of("{");
	return true;
}

static bool other_request(struct hp_transition *t)
{
	if (t->admits && t->sends_signed) {
		t->after.request_hash[0] ^= 1;
		return true;
	}
	if (t->approval.n && strstr(t->approval.p, "\"request\"")) {
		t->approval_hash[0] ^= 1;
		return true;
	}
	return false;
}

static bool never_signed(struct hp_transition *t)
{
	if (!t->admits)
		return false;
	t->sends_signed = true;
	t->after.signed_visit = d_chance(50) ? t->from_visit : 77;
	t->after.signed_for = d_chance(80) ? t->after.state : t->after.state + 1;
	return true;
}

static bool bad_approval(struct hp_transition *t)
{
	if (!t->approval.n)
		return false;
	t->approval = hp_bytes_of(d_chance(50) ? "[]" : "{\"ask\":");
	return true;
}

static bool other_waits(struct hp_transition *t)
{
	t->wait_keys = hp_bytes_of("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk");
	return true;
}

static const struct wrong wrongs[] = {
	{ "epoch before", epoch_before }, { "epoch after", epoch_after },
	{ "rev before", rev_before }, { "rev after", rev_after },
	{ "no such run", no_such_run }, { "no such status", bad_status },
	{ "end without finish", end_without_finish }, { "bad save", bad_save },
	{ "set of no object", set_of_no_object }, { "bad result", bad_result },
	{ "annex of nobody", annex_of_nobody }, { "bad annex", bad_annex },
	{ "another request", other_request }, { "never signed", never_signed },
	{ "bad approval", bad_approval }, { "other waits", other_waits },
};

#define FENCED 5 /* the first ones: whose run it is, and which of its writes */

/* Of data that cannot be kept, in the name of somebody who has lost the run, a store may say
 * either thing first. */
bool d_stale(const struct hp_transition *t)
{
	for (size_t i = 0; i < d_rows("run_state"); i++)
		if (hp_json_int(d_row("run_state", i), "run", 0) == t->run_id)
			return hp_json_int(d_row("run_state", i), "epoch", 0) != t->epoch ||
			       hp_json_int(d_row("run_state", i), "rev", 0) != t->rev;
	return true;
}

void d_wrong_op(void)
{
	static char name[64];
	struct d_hand *h = d_hand_any(d_chance(30));
	const struct wrong *w = &wrongs[d_rnd(sizeof wrongs / sizeof *wrongs)];
	struct hp_transition t;
	const struct hp_transition *p = &t;

	if (h && !h->lost && h->act.type == 0)
		d_hand_begin(h);
	if (!h || !h->used || h->act.type != HP_ACT_COMMIT) {
		for (int i = 0; i < 2; i++)
			d_on_ack(d_begin(i), 0, NULL);
		d_say("nothing", "nothing can be spoilt");
		return;
	}
	d_hand_abort(h);
	t = *h->act.transition;
	t.in_sql = false;
	if (w >= &wrongs[FENCED] && d_stale(&t))
		w = &wrongs[d_rnd(FENCED)];
	if (!w->spoil(&t))
		(w = &wrongs[2])->spoil(&t);
	for (int i = 0; i < 2; i++) {
		d_store(i)->ops->commit(d_store(i), &p, 1, d_on_commit, d_begin(i));
		d_await(i);
	}
	snprintf(name, sizeof name, "commit, %s", w->name);
	d_say(name, "run %lld epoch %d rev %d: %s to state %d, but %s", (long long)t.run_id, (int)t.epoch, (int)t.rev, hp_move_name(t.move),
	      (int)t.after.state, w->name);
	if (d_answers[D_PG].committed.outcome == HP_COMMIT_OK)
		h->lost = true;
}
