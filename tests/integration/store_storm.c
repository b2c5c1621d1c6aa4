/* store_storm.c: two engines move runs through steps and mailboxes while their
 * database sessions are killed all the time. At the end every run has finished,
 * read every one of its messages exactly once, and has one history.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lib/store_fixture.h"
#include "lib/suite.h"

enum { RUNS = 300, VISITS = 6, SLOTS = 512 };

static const char summary[] =
	"{\"states\":[{\"name\":\"step\",\"kind\":\"call\"},{\"name\":\"confirm\",\"kind\":\"await\",\"events\":[\"go\"]}]}";

static struct fx f;
static int finished, kills, unknown;

struct hand {
	struct worker *w; /* NULL: free */
	struct hp_run run;
	struct hp_transition t;
	char key[32];
};

static struct worker {
	struct hp_store *store;
	int64_t engine;
	bool claiming;
	struct hand hands[SLOTS];
} workers[2];

static void move(struct hand *h, int64_t mail);

static void take(struct worker *w, const struct hp_claimed *c)
{
	for (int i = 0; i < SLOTS; i++)
		if (!w->hands[i].w) {
			w->hands[i].w = w;
			w->hands[i].run = c->run;
			move(&w->hands[i], c->mail_id);
			return;
		}
	ck_abort_msg("more runs than there are");
}

static void on_claim(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	struct worker *w = arg;

	(void)now;
	w->claiming = false;
	for (int i = 0; !err && i < n; i++)
		take(w, &runs[i]);
}

static void on_reload(void *arg, int64_t now, const struct hp_claimed *runs, int n, const struct hp_error *err)
{
	struct hand *h = arg;
	struct worker *w = h->w;

	(void)now;
	if (err) { /* the session was killed under it: ask again */
		w->store->ops->reload(w->store, w->engine, h->run.id, h->run.epoch, on_reload, h);
		return;
	}
	h->w = NULL;
	if (n == 1)
		take(w, runs);
}

static void on_commit(void *arg, int64_t now, const struct hp_commit_result *res, int n)
{
	struct hand *h = arg;
	struct worker *w = h->w;

	(void)now;
	ck_assert_int_eq(n, 1);
	ck_assert_int_ne(res[0].outcome, HP_COMMIT_REFUSED);
	if (res[0].outcome != HP_COMMIT_OK) {
		unknown += res[0].outcome == HP_COMMIT_UNKNOWN;
		w->store->ops->reload(w->store, w->engine, h->run.id, h->run.epoch, on_reload, h);
		return;
	}
	fx_done(&h->run, &h->t);
	finished += h->t.disposition == HP_FINISH;
	if (h->t.disposition == HP_KEEP)
		move(h, 0);
	else
		h->w = NULL;
}

/* Even visits are steps, odd ones wait for the message of that visit. */
static void move(struct hand *h, int64_t mail)
{
	const struct hp_transition *t = &h->t;
	bool waits = h->run.phase == HP_PH_OPEN;

	if (hp_status_final(h->run.status)) {
		finished++;
		h->w = NULL;
		return;
	}
	h->t = fx_from(&h->run, HP_MOVE_ENTERED, HP_KEEP);
	h->t.after.phase = HP_PH_ENTER;
	h->t.after.state = 0;
	if (waits && !mail) {
		h->t = fx_from(&h->run, HP_MOVE_WOKEN, HP_PARK);
	} else if (h->run.visit >= VISITS) {
		h->t.disposition = HP_FINISH;
		h->t.after.status = HP_SUCCEEDED;
	} else {
		h->t.after.visit++;
		h->t.consume_mail = mail;
		if (h->t.after.visit % 2) {
			h->t.disposition = HP_PARK;
			h->t.after.status = HP_WAITING;
			h->t.after.phase = HP_PH_OPEN;
			h->t.after.state = 1;
			snprintf(h->key, sizeof h->key, "k%lld", (long long)h->run.id);
			h->t.wait_keys = hp_bytes_of(h->key);
		}
	}
	h->w->store->ops->commit(h->w->store, &t, 1, on_commit, h);
}

static void claim(struct worker *w)
{
	if (w->claiming)
		return;
	w->claiming = true;
	w->store->ops->claim(w->store, w->engine, 16, on_claim, w);
}

/* One more message for some waiting run, through a door of its own session. */
static void send_one(void)
{
	fx_sql(&f, "select (holdpoint.deliver('go', 'k' || s.run_id, '{}', 'storm', holdpoint.now_us())).o_mail"
		   " from holdpoint.run_state s where s.waits and s.status = 2"
		   " and s.visit / 2 > (select count(*) from holdpoint.mail m where m.key = 'k' || s.run_id)"
		   " order by random() limit 10");
}

static void kill_some(void)
{
	kills += (int)fx_int(&f, "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity"
				 " where datname = current_database() and usename = 'holdpoint_engine'"
				 " order by random() limit 2) x");
}

static void on_ack(void *arg, int64_t now, const struct hp_error *err)
{
	(void)arg;
	(void)now;
	ck_assert(!err || err->code != HP_E_CONFLICT);
}

static void storm(void)
{
	int64_t until = hp_boottime_us() + 60 * HP_SECOND;
	int64_t done = 0;

	for (int round = 0; done < RUNS; round++) {
		ck_assert_msg(hp_boottime_us() < until, "%d of %d runs finished", (int)done, RUNS);
		for (int i = 0; i < 2; i++) {
			claim(&workers[i]);
			if (round % 20 == 0)
				workers[i].store->ops->heartbeat(workers[i].store, workers[i].engine, on_ack, NULL);
		}
		fx_turn(&f, 0.02);
		send_one();
		if (round % 2 == 0 && round < 200)
			kill_some();
		done = fx_int(&f, "select count(*) from holdpoint.run_state where status = 4");
	}
}

START_TEST(killed_sessions_lose_nothing)
{
	fx_open(&f);
	fx_deploy(&f, "w", summary);
	for (int i = 0; i < RUNS; i++)
		fx_start(&f, "w", "{}", NULL, false, NULL, NULL);
	for (int i = 0; i < 2; i++) {
		workers[i].store = fx_store(&f, NULL, false);
		workers[i].engine = fx_register(&f, workers[i].store, 60 * HP_SECOND);
	}
	storm();
	ck_assert_int_ge(kills, 20);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.run_state where status <> 4"), 0);
	/* visits 3 and 5 waited: one message each */
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.mail"), RUNS * 2);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.mail_cursor c where mail_id ="
				    " (select max(id) from holdpoint.mail m where m.key_hash = c.key_hash)"), RUNS);
	/* one history: every visit is entered once */
	ck_assert_int_eq(fx_int(&f, "select count(*) from (select run_id, visit from holdpoint.history"
				    " where visit <> from_visit group by 1, 2 having count(*) > 1) x"), 0);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where visit <> from_visit"), RUNS * (VISITS - 1));
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.history where move = 2 and status = 4"), RUNS);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.mail_wait"), 0);
	fx_turn(&f, 0.3);
	ck_assert_int_eq(fx_int(&f, "select count(*) from holdpoint.ready"), 0);
	for (int i = 0; i < 2; i++)
		fx_store_free(&f, workers[i].store);
	fx_close(&f);
}
END_TEST

int main(void)
{
	TCase *t = tcase_create("storm");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, killed_sessions_lose_nothing);
	return hp_run_case("store storm", t);
}
