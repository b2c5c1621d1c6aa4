/* mem_door.c: what people and other systems may ask for.
 *
 * The rules and sentences are those of PostgreSQL's functions. Each door looks at the
 * arguments, finds ("locks") the run, and only then looks at anything it depends on.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutant.h"
#include "core/quorum.h"
#include "store/mem/mem_private.h"

/* For sentences: whole seconds. buf ≥ 32. */
static const char *say_time(int64_t us, char *buf)
{
	hp_time_format(us, buf, 32);
	buf[10] = ' ';
	memcpy(buf + 19, " UTC", 5);
	return buf;
}

struct mem_run *mem_arg_run(struct mem_store *m, const json_t *args, struct hp_error *err)
{
	int64_t id = hp_json_int(args, "run", 0);
	struct mem_run *r = mem_run_find(&m->w, id);

	if (!json_is_integer(json_object_get(args, "run")))
		hp_fail(err, HP_E_INVALID, "run: must be a number");
	else if (!r)
		hp_fail(err, HP_E_NOT_FOUND, "there is no run %lld", (long long)id);
	return r;
}

/* ---- decide ---- */

static const struct mem_principal *principal_of(const struct mem_store *m, const char *name)
{
	MEM_EACH(&m->w, T_PRINCIPAL, struct mem_principal, p)
		if (mem_same(p->name, hp_bytes_of(name)))
			return p;
	return NULL;
}

static bool has_role(const struct mem_store *m, struct hp_bytes who, const char *role)
{
	size_t n = strlen(role);

	MEM_EACH(&m->w, T_PRINCIPAL, struct mem_principal, p) {
		const char *at = p->roles.p, *end = at ? at + p->roles.n : NULL;

		if (!mem_same(p->name, who))
			continue;
		while (at && at < end) {
			const char *space = memchr(at, ' ', (size_t)(end - at));
			size_t len = (size_t)((space ? space : end) - at);

			if (len == n && memcmp(at, role, n) == 0)
				return true;
			at += len + 1;
		}
	}
	return false;
}

/* The terms as the script room stored them, else as the definition says. */
static int quorum_of(const struct mem_store *m, const struct mem_approval *a, struct hp_quorum *q)
{
	json_t *doc = hp_json_parse(a->document.p, a->document.n, "approval", NULL);
	json_t *state = mem_state_json(&m->w, mem_run_find(&m->w, a->run), a->state);
	const json_t *terms = json_object_get(doc, "quorum"), *term;
	const char *text = hp_json_str(doc, "approvers");
	size_t i;
	int rc = 0;

	memset(q, 0, sizeof *q);
	if (json_is_array(terms)) {
		json_array_foreach(terms, i, term) {
			if (q->n_terms == HP_QUORUM_TERMS_MAX)
				break;
			q->terms[q->n_terms].n = (int)hp_json_int(term, "n", 1);
			snprintf(q->terms[q->n_terms++].role, sizeof q->terms[0].role, "%s",
				 hp_json_str(term, "role"));
		}
	} else {
		rc = hp_quorum_parse(text ? text : hp_json_str(state, "approvers"), q, NULL);
	}
	json_decref(doc);
	json_decref(state);
	return rc;
}

static int votes_in_role(const struct mem_store *m, const struct mem_approval *a, const char *role)
{
	int n = 0;

	MEM_EACH(&m->w, T_VOTE, struct mem_vote, v)
		n += v->approval == a->id && v->yes && has_role(m, v->by, role);
	return n;
}

static bool quorum_reached(const struct mem_store *m, const struct mem_approval *a,
			   const struct hp_quorum *q)
{
	for (int i = 0; i < q->n_terms; i++)
		if (!HP_GUARD(quorum, votes_in_role(m, a, q->terms[i].role) >= q->terms[i].n))
			return false;
	return true;
}

static int check_open(const struct mem_store *m, const struct mem_approval *a, struct hp_error *err)
{
	char at[32];

	switch (a->status) {
	case MEM_APPROVED:
	case MEM_REJECTED:
		return hp_fail(err, HP_E_CONFLICT, "already %s by %.*s at %s",
			       a->status == MEM_APPROVED ? "approved" : "rejected",
			       (int)a->decided_by.n, a->decided_by.p, say_time(a->decided_at, at));
	case MEM_EXPIRED:
		return hp_fail(err, HP_E_CONFLICT, "the approval expired at %s", say_time(a->decided_at, at));
	case MEM_CLOSED:
		return hp_fail(err, HP_E_CONFLICT, "the approval was cancelled at %s",
			       say_time(a->decided_at, at));
	case MEM_OPEN:
		break;
	}
	if (!HP_GUARD(deadline, *m->now < a->deadline))
		return hp_fail(err, HP_E_CONFLICT, "the deadline passed at %s", say_time(a->deadline, at));
	return 0;
}

static int check_voter(const struct mem_store *m, const struct mem_approval *a,
		       const char *principal, const struct hp_quorum *q, struct hp_error *err)
{
	const struct mem_principal *p = principal_of(m, principal);
	const struct mem_run *r = mem_run_find(&m->w, a->run);
	bool may = false;

	if (p && mem_same(p->kind, hp_bytes_of("agent")))
		return hp_fail(err, HP_E_FORBIDDEN, "%s is an agent: agents may propose, never approve",
			       principal);
	if (!HP_GUARD(requester, !mem_same(r->requester, hp_bytes_of(principal))))
		return hp_fail(err, HP_E_FORBIDDEN, "%s asked for this run: somebody else must decide",
			       principal);
	for (int i = 0; i < q->n_terms; i++)
		may = may || has_role(m, hp_bytes_of(principal), q->terms[i].role);
	if (!HP_GUARD(role, may))
		return hp_fail(err, HP_E_FORBIDDEN, "%s has none of the roles that may decide", principal);
	MEM_EACH(&m->w, T_VOTE, struct mem_vote, v)
		if (v->approval == a->id && mem_same(v->by, hp_bytes_of(principal)))
			return hp_fail(err, HP_E_CONFLICT, "%s has voted already", principal);
	return 0;
}

static int check_reason(const char *reason, struct hp_error *err)
{
	size_t n = reason ? strlen(reason) : 0;

	if (n == 0 || strspn(reason, " \t\r\n") == n)
		return hp_fail(err, HP_E_INVALID, "a reason is needed");
	if (n > HP_REASON_MAX)
		return hp_fail(err, HP_E_TOO_LARGE, "the reason is longer than %d bytes", HP_REASON_MAX);
	return 0;
}

static void decided(struct mem_store *m, struct mem_approval *a, bool yes, const char *principal,
		    const char *reason)
{
	struct mem_run *r = mem_run_find(&m->w, a->run);

	a->status = yes ? MEM_APPROVED : MEM_REJECTED;
	a->decided_at = *m->now;
	a->decided_by = mem_intern_s(m, principal);
	a->reason = mem_intern_s(m, reason);
	r->row.rev++;
	r->updated_at = *m->now;
	mem_log(m, r, HP_MOVE_DECIDED, principal, yes ? "approved" : "rejected")->reason = a->reason;
	mem_ready(m, r);
}

int mem_door_decide(struct mem_store *m, const char *principal, const json_t *args,
		    struct hp_buf *out, struct hp_error *err)
{
	static const char *const words[] = { "open", "approved", "rejected" };
	const char *decision = hp_json_str(args, "decision"), *reason = hp_json_str(args, "reason");
	int64_t id = hp_json_int(args, "approval", 0);
	struct mem_approval *a = mem_approval_find(&m->w, id);
	bool yes = decision && strcmp(decision, "approve") == 0;
	struct hp_quorum q;
	struct mem_vote *v;

	if (!yes && (!decision || strcmp(decision, "reject") != 0))
		return hp_fail(err, HP_E_INVALID, "decision: must be approve or reject");
	if (!HP_MUTANT(reason) && check_reason(reason, err) < 0)
		return -1;
	if (!a)
		return hp_fail(err, HP_E_NOT_FOUND, "there is no approval %lld", (long long)id);
	if (quorum_of(m, a, &q) < 0)
		return hp_fail(err, HP_E_INTERNAL, "approval %lld: its approvers cannot be read",
			       (long long)id);
	if (check_open(m, a, err) < 0 || check_voter(m, a, principal, &q, err) < 0)
		return -1;
	v = mem_add(&m->w, T_VOTE);
	v->approval = a->id;
	v->at = *m->now;
	v->yes = yes;
	v->by = mem_intern_s(m, principal);
	v->reason = mem_intern_s(m, reason);
	if (!yes || quorum_reached(m, a, &q))
		decided(m, a, yes, principal, reason);
	return hp_buf_printf(out, "{\"approval\":%lld,\"run\":%lld,\"status\":\"%s\"}", (long long)a->id,
			     (long long)a->run, words[a->status]);
}

/* ---- operate, cancel ---- */

static enum hp_command command_of(const char *action)
{
	if (action && strcmp(action, "retry") == 0)
		return HP_CMD_RETRY;
	if (action && strcmp(action, "skip") == 0)
		return HP_CMD_SKIP;
	return action && strcmp(action, "give_up") == 0 ? HP_CMD_GIVE_UP : HP_CMD_NONE;
}

static int operate(struct mem_store *m, const char *principal, const json_t *args,
		   struct hp_buf *out, struct hp_error *err)
{
	const char *action = hp_json_str(args, "action"), *reason = hp_json_str(args, "reason");
	const json_t *value = json_object_get(args, "value");
	enum hp_command command = command_of(action);
	struct mem_run *r;
	struct hp_buf text;
	int rc = 0;

	if (command == HP_CMD_NONE)
		return hp_fail(err, HP_E_INVALID, "action: must be retry, skip or give_up");
	if (check_reason(reason, err) < 0)
		return -1;
	r = mem_arg_run(m, args, err);
	if (!r)
		return -1;
	if (r->row.status != HP_HELD)
		return hp_fail(err, HP_E_CONFLICT, "run %lld is %s, not held", (long long)r->row.id,
			       hp_status_name(r->row.status));
	if (r->row.command != HP_CMD_NONE)
		return hp_fail(err, HP_E_CONFLICT, "run %lld was told already what to do",
			       (long long)r->row.id);
	hp_buf_init(&text, HP_VALUE_MAX);
	if (value)
		rc = hp_json_write(&text, value, err);
	if (rc == 0) {
		r->command_value = mem_intern(m, hp_buf_bytes(&text));
		r->row.command = command;
		r->row.rev++;
		r->updated_at = *m->now;
		mem_log(m, r, HP_MOVE_COMMANDED, principal, action)->reason = mem_intern_s(m, reason);
		mem_ready(m, r);
		rc = hp_buf_printf(out, "{\"run\":%lld}", (long long)r->row.id);
	}
	hp_buf_free(&text);
	return rc;
}

/* A note beside the rows of the state's own writes: the row keeps its rev, so the
 * owner's commit goes through and learns of the flag from its answer. */
static void note(struct mem_store *m, const struct mem_run *r, const char *principal,
		 const char *message, const char *reason)
{
	int32_t seq = 1;
	struct mem_history *h;

	MEM_EACH(&m->w, T_HISTORY, struct mem_history, o)
		if (o->run == r->row.id && o->rev == r->row.rev && o->seq >= seq)
			seq = o->seq + 1;
	h = mem_log(m, r, HP_MOVE_COMMANDED, principal, message);
	h->seq = seq;
	h->reason = mem_intern_s(m, reason);
}

static int cancel(struct mem_store *m, const char *principal, const json_t *args,
		  struct hp_buf *out, struct hp_error *err)
{
	struct mem_run *r = mem_arg_run(m, args, err);
	const char *reason = hp_json_str(args, "reason");

	if (!r)
		return -1;
	if (hp_status_final(r->row.status))
		return hp_fail(err, HP_E_CONFLICT, "run %lld has already %s", (long long)r->row.id,
			       hp_status_name(r->row.status));
	if (!r->row.cancel) {
		r->row.cancel = true;
		r->cancel_by = mem_intern_s(m, principal);
		r->cancel_reason = mem_intern_s(m, reason);
		note(m, r, principal, "cancel", reason);
		mem_ready(m, r);
	}
	return hp_buf_printf(out, "{\"run\":%lld,\"status\":\"%s\"}", (long long)r->row.id,
			     hp_status_name(r->row.status));
}

/* ---- start, send_event ---- */

static int door_start(struct mem_store *m, const char *principal, const json_t *args,
		      struct hp_buf *out, struct hp_error *err)
{
	struct hp_start st = { .workflow = hp_json_str(args, "workflow"),
			       .key = hp_bytes_of(hp_json_str(args, "key")),
			       .requester = principal };
	const json_t *input = json_object_get(args, "input");
	struct hp_buf text;
	bool existed;
	int rc = -1;

	if (!st.workflow)
		return hp_fail(err, HP_E_INVALID, "workflow: must be named");
	hp_buf_init(&text, 2 * HP_INPUT_MAX);
	if (input && hp_json_write(&text, input, err) < 0)
		goto out;
	st.input = input ? hp_buf_bytes(&text) : hp_bytes_of("{}");
	if (mem_start_check(m, &st, err) < 0)
		goto out;
	rc = hp_buf_printf(out, "{\"run\":%lld", (long long)mem_start_apply(m, &st, 0, &existed)->row.id);
	rc = hp_buf_printf(out, ",\"existed\":%s}", existed ? "true" : "false");
out:
	hp_buf_free(&text);
	return rc;
}

static int door_send_event(struct mem_store *m, const json_t *args, struct hp_buf *out,
			   struct hp_error *err)
{
	struct hp_delivery d = { hp_bytes_of(hp_json_str(args, "name")),
				 hp_bytes_of(hp_json_str(args, "key")) };
	const json_t *payload = json_object_get(args, "payload");
	struct hp_buf text;
	int rc = -1, woken = 0;

	hp_buf_init(&text, HP_HTTP_REQUEST_BODY_MAX);
	if (payload && hp_json_write(&text, payload, err) < 0)
		goto out;
	if (mem_mail_check(&d, hp_buf_bytes(&text), err) < 0)
		goto out;
	rc = hp_buf_printf(out, "{\"event\":%lld",
			   (long long)mem_mail_put(m, &d, hp_buf_bytes(&text), &woken));
	rc = hp_buf_printf(out, ",\"woken\":%d}", woken);
out:
	hp_buf_free(&text);
	return rc;
}

/* ---- the dispatcher ---- */

static int dispatch(struct mem_store *m, const char *name, const char *principal,
		    const json_t *args, struct hp_buf *out, struct hp_error *err)
{
	if (strcmp(name, "start") == 0)
		return door_start(m, principal, args, out, err);
	if (strcmp(name, "send_event") == 0)
		return door_send_event(m, args, out, err);
	if (strcmp(name, "decide") == 0)
		return mem_door_decide(m, principal, args, out, err);
	if (strcmp(name, "operate") == 0)
		return operate(m, principal, args, out, err);
	if (strcmp(name, "cancel") == 0)
		return cancel(m, principal, args, out, err);
	if (strcmp(name, "run") == 0)
		return mem_read_run(m, args, out, err);
	if (strcmp(name, "history") == 0)
		return mem_read_history(m, args, out, err);
	if (strcmp(name, "approval") == 0)
		return mem_read_approval(m, args, out, err);
	if (strcmp(name, "why") == 0)
		return mem_why(m, args, out, err);
	return hp_fail(err, HP_E_NOT_FOUND, "the in-memory store has no door \"%s\"", name);
}

void mem_door(struct hp_store *s, const char *name, const char *principal, struct hp_bytes args,
	      hp_door_cb cb, void *arg)
{
	struct mem_store *m = mem_of(s);
	struct mem_answer *an = mem_answer(m, A_DOOR, arg);
	json_t *parsed = hp_json_parse(args.p, args.n, name, &an->err);
	struct hp_buf out;

	an->cb.door = cb;
	if (!parsed)
		return;
	hp_buf_init(&out, HP_RUN_DATA_MAX * 2);
	if (dispatch(m, name, principal, parsed, &out, &an->err) < 0 && an->err.code == HP_OK)
		hp_fail(&an->err, HP_E_TOO_LARGE, "%s: the answer is too large", name);
	if (an->err.code == HP_OK)
		an->json = mem_keep(an, hp_buf_bytes(&out));
	hp_buf_free(&out);
	json_decref(parsed);
}
