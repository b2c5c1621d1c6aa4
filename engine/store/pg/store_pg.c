/* store_pg.c: the store on PostgreSQL: connections, calls, and the short
 * operations (engines, definitions, doors). See pg_private.h for the others.
 *
 * Work never depends on a session: no SET, no prepared statements; settings live
 * with the roles and transactions, so a pooler in transaction mode may be in
 * between. Only the hints need a session (LISTEN), and there are none when pooled.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/pg/pg_private.h"

#define BEAT_DEADLINE_US (2 * HP_SECOND) /* behind a pooler nothing else tells of a partition */
#define WORK_DEADLINE_US (15 * HP_SECOND)
/* Longer than the role's lock_timeout, and as long as a webhook's sender may wait. */
#define INTAKE_DEADLINE_US (7 * HP_SECOND)
#define DOOR_DEADLINE_US (30 * HP_SECOND)
#define AWAY_EVERY_US (5 * HP_SECOND)
#define REFUSED_FOR_US (3 * HP_SECOND) /* longer than a run in hand waits to try again */

/* ---- calls ---- */

static void store_done(struct hp_store_pg *s)
{
	if (!s->closing || s->pending > 0)
		return;
	ev_timer_stop(s->loop, &s->turn);
	for (int i = 0; i < HP_SQL_STATE_CONNECTIONS; i++)
		hp_free(s->sql[i]);
	hp_free(s->sql_conninfo);
	hp_free(s->application);
	hp_free(s);
}

void *pgs_call_new(struct hp_store_pg *s, size_t size, void (*fn)(struct pgs_call *, const struct hp_pg_reply *),
		   void *arg)
{
	struct pgs_call *c = hp_needed(1, size);

	hp_list_init(&c->link);
	c->s = s;
	c->fn = fn;
	c->arg = arg;
	s->pending++;
	return c;
}

void pgs_call_end(struct pgs_call *c)
{
	struct hp_store_pg *s = c->s;

	hp_list_del(&c->link);
	hp_free(c);
	HP_ASSERT(s->pending > 0);
	s->pending--;
	store_done(s);
}

static void call_done(void *arg, const struct hp_pg_reply *r)
{
	struct pgs_call *c = arg;

	if (!c->authors)
		pgs_noted(c->s, r);
	c->fn(c, r);
	pgs_call_end(c);
}

static void on_turn(struct ev_loop *loop, ev_timer *w, int revents)
{
	struct hp_store_pg *s = w->data;
	struct hp_list now;

	(void)loop;
	(void)revents;
	/* calls deferred from here on belong to the next turn */
	hp_list_init(&now);
	while (!hp_list_empty(&s->deferred)) {
		struct hp_list *first = s->deferred.next;
		hp_list_del(first);
		hp_list_add_tail(&now, first);
	}
	s->pending++; /* the store outlives this loop */
	while (!hp_list_empty(&now)) {
		struct pgs_call *c = hp_list_entry(now.next, struct pgs_call, link);
		struct hp_pg_reply r = { .outcome = HP_PG_UNSENT, .error = c->error };
		hp_list_del(&c->link);
		call_done(c, &r);
	}
	s->pending--;
	store_done(s);
}

void pgs_defer(struct pgs_call *c)
{
	hp_list_add_tail(&c->s->deferred, &c->link);
	if (!ev_is_active(&c->s->turn)) {
		ev_timer_set(&c->s->turn, 0., 0.);
		ev_timer_start(c->s->loop, &c->s->turn);
	}
}

void pgs_send(struct hp_pg_unit *u, struct pgs_call *c)
{
	if (c->s->closing) {
		hp_pg_unit_free(u);
		hp_fail(&c->error, HP_E_UNAVAILABLE, "the store is being closed");
		pgs_defer(c);
	} else if (!u) {
		hp_fail(&c->error, HP_E_NOMEM, "no memory for a statement");
		pgs_defer(c);
	} else if (hp_pg_submit(u, call_done, c, &c->error) < 0) {
		pgs_defer(c);
	}
}

/* ---- errors ---- */

bool pgs_transient(const char *sqlstate)
{
	static const char *const classes[] = { "08", "40", "53", "57P", "58", "55P03", "57014", "25006" };

	for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
		if (strncmp(sqlstate, classes[i], strlen(classes[i])) == 0)
			return strcmp(sqlstate, "08P01") != 0; /* protocol_violation: a parameter too many, … */
	return false;
}

bool pgs_refuses(const char *sqlstate)
{
	return strcmp(sqlstate, "53100") == 0 || strcmp(sqlstate, "58030") == 0 || strcmp(sqlstate, "25006") == 0;
}

/* On a full disk small writes may still find room, so that one was possible proves
 * nothing; that none was refused for a while does. */
void pgs_noted(struct hp_store_pg *s, const struct hp_pg_reply *r)
{
	if (r->outcome == HP_PG_FAILED && pgs_refuses(r->sqlstate)) {
		s->refused_at = hp_boottime_us();
		snprintf(s->refusal, sizeof s->refusal, "the database refuses to write: %.160s", r->error.message);
		if (!s->refusing)
			hp_log_error(HP_ERROR, "the database refuses to write: nothing is accepted until it can", &r->error);
		s->refusing = true;
	} else if (s->refusing && r->outcome == HP_PG_OK && hp_boottime_us() - s->refused_at > REFUSED_FOR_US) {
		s->refusing = false;
		hp_log(HP_INFO, "the database writes again", NULL);
	}
}

static enum hp_code code_of(const char *sqlstate)
{
	static const struct {
		const char *prefix;
		enum hp_code code;
	} map[] = {
		{ "HP400", HP_E_INVALID }, { "HP401", HP_E_UNAUTHORIZED }, { "HP403", HP_E_FORBIDDEN },
		{ "HP404", HP_E_NOT_FOUND }, { "HP409", HP_E_CONFLICT }, { "HP413", HP_E_TOO_LARGE },
		{ "57014", HP_E_TIMEOUT }, { "55P03", HP_E_LIMIT }, { "22", HP_E_INVALID },
		{ "40", HP_E_UNAVAILABLE }, { "08", HP_E_UNAVAILABLE }, { "53", HP_E_UNAVAILABLE },
		{ "57", HP_E_UNAVAILABLE }, { "25006", HP_E_UNAVAILABLE }, { "54", HP_E_TOO_LARGE },
	};

	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
		if (strncmp(sqlstate, map[i].prefix, strlen(map[i].prefix)) == 0)
			return map[i].code;
	return HP_E_INTERNAL;
}

int pgs_error(const struct hp_pg_reply *r, struct hp_error *err)
{
	*err = r->error;
	if (r->outcome == HP_PG_FAILED) {
		err->code = code_of(r->sqlstate);
	} else if (r->outcome == HP_PG_LOST) { /* "unavailable" would say that nothing was done */
		err->code = HP_E_TIMEOUT;
		hp_error_hint(err, "It may have been done: look before you ask again, or ask with the same key.");
	} else if (err->code == HP_OK || err->code == HP_E_TIMEOUT) {
		err->code = HP_E_UNAVAILABLE;
	}
	if (err->code == HP_E_NOT_FOUND && strncmp(r->sqlstate, "HP", 2) != 0)
		err->code = HP_E_INTERNAL;
	return -1;
}

/* ---- claims whose acknowledgement was lost ---- */

int64_t pgs_owning(struct hp_store_pg *s)
{
	return ++s->owning;
}

void pgs_owning_lost(struct hp_store_pg *s, int64_t number)
{
	int64_t now = hp_boottime_us();
	int kept = 0;

	for (int i = 0; i < s->n_lost; i++)
		if (now - s->lost[i].at < PGS_LOST_KEEP_US)
			s->lost[kept++] = s->lost[i];
	s->n_lost = kept;
	if (s->n_lost == PGS_LOST_MAX) /* the oldest is the surest to be settled */
		memmove(&s->lost[0], &s->lost[1], (size_t)--s->n_lost * sizeof s->lost[0]);
	s->lost[s->n_lost++] = (struct pgs_lost){ number, now };
}

/* ---- engines ---- */

static void register_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_engine_info info = { 0 };
	struct hp_error err;

	if (r->outcome != HP_PG_OK) {
		pgs_error(r, &err);
		c->cb.engine(c->arg, NULL, &err);
		return;
	}
	info.id = hp_pg_int(r->results[0], 0, 0);
	info.now = hp_pg_int(r->results[0], 0, 1);
	snprintf(info.installation, sizeof info.installation, "%s", hp_pg_text(r->results[0], 0, 2));
	c->cb.engine(c->arg, &info, NULL);
}

static void engine_register(struct hp_store *st, const char *host, int64_t pid, int64_t lease_us,
			    hp_engine_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, register_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->beat);

	c->cb.engine = cb;
	hp_pg_statement(u, "select o_id, o_now, o_installation from holdpoint.engine_register($1, $2, $3)");
	hp_pg_bind_text(u, host);
	hp_pg_bind_int(u, pid);
	hp_pg_bind_int(u, lease_us);
	pgs_send(u, c);
}

static void tend_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	c->s->tending = false;
	if (r->outcome != HP_PG_OK && !c->s->closing)
		hp_log_error(HP_WARN, "limits were not tended", &r->error);
}

/* What is left of limits: not on the heartbeats' connection, which must wait for nothing. */
static void tend(struct hp_store_pg *s)
{
	struct hp_pg_unit *u;

	if (s->tending || s->closing)
		return;
	s->tending = true;
	u = hp_pg_unit_new(s->doors);
	hp_pg_statement(u, "select holdpoint.tend_limits(holdpoint.now_us())");
	pgs_send(u, pgs_call_new(s, sizeof(struct pgs_call), tend_done, NULL));
}

static void beat_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_error err;

	if (r->outcome != HP_PG_OK) {
		pgs_error(r, &err);
		c->cb.ack(c->arg, 0, &err);
	} else if (!hp_pg_bool(r->results[0], 0, 0)) {
		hp_fail(&err, HP_E_CONFLICT, "this engine has been marked dead: its lease ran out");
		hp_error_hint(&err, "The process must end; its runs go on elsewhere.");
		c->cb.ack(c->arg, hp_pg_int(r->results[0], 0, 1), &err);
	} else {
		if (c->s->secrets && !c->s->closing)
			c->s->secrets(c->s->secrets_arg, hp_pg_int(r->results[0], 0, 2));
		if (hp_pg_bool(r->results[0], 0, 3))
			tend(c->s);
		c->cb.ack(c->arg, hp_pg_int(r->results[0], 0, 1), NULL);
	}
}

static void heartbeat(struct hp_store *st, int64_t engine, hp_ack_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, beat_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->beat);

	c->cb.ack = cb;
	hp_pg_statement(u, "select o_alive, o_now, o_secrets, o_limits from holdpoint.heartbeat($1)");
	hp_pg_bind_int(u, engine);
	pgs_send(u, c);
}

static void ack_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_error err;

	if (r->outcome == HP_PG_OK) {
		c->cb.ack(c->arg, hp_pg_int(r->results[0], 0, 0), NULL);
		return;
	}
	pgs_error(r, &err);
	c->cb.ack(c->arg, 0, &err);
}

static void engine_stop(struct hp_store *st, int64_t engine, hp_ack_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, ack_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->beat);

	c->cb.ack = cb;
	hp_pg_statement(u, "select holdpoint.engine_stop($1)");
	hp_pg_bind_int(u, engine);
	pgs_send(u, c);
}

/* ---- definitions ---- */

static void deploy(struct hp_store *st, const struct hp_bundle *b, hp_ack_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, ack_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->work);

	c->cb.ack = cb;
	hp_pg_statement(u, "select holdpoint.deploy($1, $2, $3, $4)");
	hp_pg_bind_text(u, b->workflow);
	hp_pg_bind_bytea(u, b->digest, sizeof b->digest);
	hp_pg_bind_textn(u, b->bundle.p ? b->bundle.p : "", b->bundle.n);
	hp_pg_bind_jsonb(u, b->summary.p, b->summary.n);
	pgs_send(u, c);
}

static void bundles_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_error err;
	int n = r->outcome == HP_PG_OK ? PQntuples(r->results[0]) : 0;
	struct hp_bundle *b = NULL;

	if (r->outcome != HP_PG_OK) {
		pgs_error(r, &err);
		c->cb.bundle(c->arg, NULL, 0, &err);
		return;
	}
	b = hp_calloc((size_t)n + 1, sizeof *b);
	if (!b) {
		hp_fail(&err, HP_E_NOMEM, "no memory for %d definitions", n);
		c->cb.bundle(c->arg, NULL, 0, &err);
		return;
	}
	for (int i = 0; i < n; i++) {
		struct hp_bytes digest = hp_pg_bytes(r->results[0], i, 1);

		HP_ASSERT(digest.n == sizeof b[i].digest);
		b[i].workflow = hp_pg_text(r->results[0], i, 0);
		memcpy(b[i].digest, digest.p, sizeof b[i].digest);
		b[i].bundle = hp_pg_bytes(r->results[0], i, 2);
		b[i].summary = hp_pg_bytes(r->results[0], i, 3);
	}
	c->cb.bundle(c->arg, b, n, NULL);
	hp_free(b);
}

static void bundle_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_error err;

	if (r->outcome == HP_PG_OK && PQntuples(r->results[0]) == 0) {
		hp_fail(&err, HP_E_NOT_FOUND, "no definition has this digest");
		hp_error_hint(&err, "Deploy the workflow it belongs to again.");
		c->cb.bundle(c->arg, NULL, 0, &err);
		return;
	}
	bundles_done(c, r);
}

static void bundle(struct hp_store *st, const uint8_t digest[HP_SHA256_LEN], hp_bundle_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, bundle_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->work);

	c->cb.bundle = cb;
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, "select workflow, digest, bundle, summary from holdpoint.definition where digest = $1");
	hp_pg_bind_bytea(u, digest, HP_SHA256_LEN);
	pgs_send(u, c);
}

static void current(struct hp_store *st, hp_bundle_cb cb, void *arg)
{
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, bundles_done, arg);
	struct hp_pg_unit *u = s->closing ? NULL : hp_pg_unit_new(s->work);

	c->cb.bundle = cb;
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, "select w.name, w.digest, null::text, d.summary from holdpoint.workflow w"
			   " join holdpoint.definition d using (digest) where w.enabled order by w.name");
	pgs_send(u, c);
}

/* ---- doors ---- */

static void door_done(struct pgs_call *c, const struct hp_pg_reply *r)
{
	struct hp_error err;

	if (r->outcome == HP_PG_OK) {
		c->cb.door(c->arg, hp_pg_bytes(r->results[0], 0, 0), NULL);
		return;
	}
	pgs_error(r, &err);
	c->cb.door(c->arg, (struct hp_bytes){ NULL, 0 }, &err);
}

static void door(struct hp_store *st, const char *name, const char *principal, struct hp_bytes args,
		 hp_door_cb cb, void *arg)
{
	static const char *const names[] = {
		"budgets", "budget", "budget_set", "budget_unset", "limits",
		"start", "send_event", "decide", "operate", "cancel", "runs",
		"children",
		"breaker_report", "breaker_trip",
		"secrets", "secret_put", "secret_promote", "secret_retire", "secrets_live", "secret_reserve", "secret_reseal",
		"run", "history", "why", "approvals", "approval", "events", "workflows", "metrics",
		"token_create", "tokens", "token_revoke", "authenticate", "schedules", "schedule",
		"schedule_pause", "schedule_resume", "schedule_run", "schedules_due", "schedule_fire",
		"pause", "resume", "restart", "move", "bulk", "workflow_pause", "workflow_resume",
		"versions", "deploy_live", "try_deploy_live", "gc", "gc_plan",
		"breakers", "breaker", "breaker_open", "breaker_close", "breaker_reset" };
	struct hp_store_pg *s = pgs_of(st);
	struct pgs_call *c = pgs_call_new(s, sizeof *c, door_done, arg);
	struct hp_pg_unit *u;
	char sql[96];
	size_t i = 0;

	c->cb.door = cb;
	while (i < sizeof names / sizeof names[0] && strcmp(names[i], name) != 0)
		i++;
	if (i == sizeof names / sizeof names[0]) {
		hp_fail(&c->error, HP_E_NOT_FOUND, "there is no door \"%s\"", name);
		pgs_defer(c);
		return;
	}
	u = s->closing ? NULL : hp_pg_unit_new(s->doors);
	snprintf(sql, sizeof sql, "select holdpoint.door_%s($1, $2)", names[i]);
	hp_pg_binary_results(u, true);
	hp_pg_statement(u, sql);
	hp_pg_bind_text(u, principal ? principal : "");
	hp_pg_bind_jsonb(u, args.n ? args.p : "{}", args.n ? args.n : 2);
	pgs_send(u, c);
}

/* ---- opening and closing ---- */

static void on_state(void *arg, bool up, const struct hp_error *why)
{
	struct hp_store_pg *s = arg;
	int64_t times;

	if (up)
		s->away = (struct hp_seldom){ 0 }; /* the next loss is news */
	/* Each attempt to connect that fails comes here, of six connections twice a second. */
	else if (why && hp_log_due(&s->away, hp_boottime_us(), AWAY_EVERY_US, &times))
		hp_log(HP_WARN, "database connection lost", "times", HP_I64(times), "error", HP_STR(why->message), NULL);
}

static void on_notify(void *arg)
{
	struct hp_store_pg *s = arg;

	if (s->hint && !s->closing)
		s->hint(s->hint_arg);
}

static void on_secrets(struct hp_store *st, void (*cb)(void *arg, int64_t serial), void *arg)
{
	pgs_of(st)->secrets = cb;
	pgs_of(st)->secrets_arg = arg;
}

static void on_hint(struct hp_store *st, void (*cb)(void *arg), void *arg)
{
	pgs_of(st)->hint = cb;
	pgs_of(st)->hint_arg = arg;
}

/* listens: hints come over this connection; a pooler in between cannot carry them. */
static struct hp_pg *open_one(struct hp_store_pg *s, const struct hp_store_pg_options *o, int64_t deadline_us,
			      bool listens, struct hp_error *err)
{
	struct hp_pg_options po = {
		.conninfo = o->conninfo,
		.application = o->application ? o->application : "holdpoint",
		.deadline_us = deadline_us,
		.on_state = on_state,
		.on_state_arg = s,
		.on_notify = on_notify,
		.on_notify_arg = s,
		.setup_sql = listens && !o->pooled ? "listen holdpoint_ready" : NULL,
	};

	return hp_pg_open(s->loop, &po, err);
}

static void store_free(struct hp_store *st)
{
	struct hp_store_pg *s = pgs_of(st);

	HP_ASSERT(!s->closing);
	s->closing = true;
	s->pending++; /* nothing below may end the store */
	pgs_sql_close(s);
	if (s->beat)
		hp_pg_close(s->beat);
	if (s->work)
		hp_pg_close(s->work);
	if (s->intake)
		hp_pg_close(s->intake);
	if (s->doors)
		hp_pg_close(s->doors);
	for (int i = 0; i < s->n_commits; i++)
		hp_pg_close(s->commits[i]);
	s->pending--;
	store_done(s);
}

static bool store_up(struct hp_store *st)
{
	struct hp_store_pg *s = pgs_of(st);
	bool up = hp_pg_up(s->beat) && hp_pg_up(s->work) && hp_pg_up(s->intake) &&
		  hp_pg_up(s->doors);

	for (int i = 0; i < s->n_commits; i++)
		up = up && hp_pg_up(s->commits[i]);
	return up;
}

static const char *store_refuses(struct hp_store *st)
{
	const struct hp_store_pg *s = pgs_of(st);

	return s->refusing && hp_boottime_us() - s->refused_at <= REFUSED_FOR_US ? s->refusal : NULL;
}

static const struct hp_store_ops ops = {
	.name = "pg",
	.free = store_free,
	.up = store_up,
	.refuses = store_refuses,
	.engine_register = engine_register,
	.heartbeat = heartbeat,
	.engine_stop = engine_stop,
	.claim = pgs_claim,
	.reload = pgs_reload,
	.release = pgs_release,
	.commit = pgs_commit,
	.start = pgs_start,
	.ingest = pgs_ingest,
	.door = door,
	.deploy = deploy,
	.bundle = bundle,
	.current = current,
	.sql_run = pgs_sql_run,
	.sql_commit = pgs_sql_commit,
	.sql_abort = pgs_sql_abort,
	.on_hint = on_hint,
	.on_secrets = on_secrets,
	.pump = NULL,
};

struct hp_store *hp_store_pg_new(struct ev_loop *loop, const struct hp_store_pg_options *o,
				 struct hp_error *err)
{
	struct hp_store_pg *s = hp_calloc(1, sizeof *s);
	int commits = o->commit_connections ? o->commit_connections : 2;

	if (!s) {
		hp_fail(err, HP_E_NOMEM, "no memory for a store");
		return NULL;
	}
	s->base.ops = &ops;
	s->loop = loop;
	hp_list_init(&s->deferred);
	hp_list_init(&s->sql_queue);
	ev_timer_init(&s->turn, on_turn, 0., 0.);
	s->turn.data = s;
	if (commits < 1 || commits > PGS_COMMIT_CONNECTIONS_MAX) {
		hp_fail(err, HP_E_INVALID, "commit connections: %d is not within 1 and %d", commits,
			PGS_COMMIT_CONNECTIONS_MAX);
		goto out;
	}
	s->application = hp_strdup(o->application ? o->application : "holdpoint");
	s->sql_conninfo = o->sql_conninfo ? hp_strdup(o->sql_conninfo) : NULL;
	if (!s->application || (o->sql_conninfo && !s->sql_conninfo)) {
		hp_fail(err, HP_E_NOMEM, "no memory for a store");
		goto out;
	}
	if (!(s->beat = open_one(s, o, BEAT_DEADLINE_US, true, err)) ||
	    !(s->work = open_one(s, o, WORK_DEADLINE_US, false, err)) ||
	    !(s->intake = open_one(s, o, INTAKE_DEADLINE_US, false, err)) ||
	    !(s->doors = open_one(s, o, DOOR_DEADLINE_US, false, err)))
		goto out;
	for (; s->n_commits < commits; s->n_commits++)
		if (!(s->commits[s->n_commits] = open_one(s, o, WORK_DEADLINE_US, false, err)))
			goto out;
	return &s->base;
out:
	store_free(&s->base);
	return NULL;
}
