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
const char *mem_say_time(int64_t us, char *buf)
{
	hp_time_format(us, buf, 32);
	buf[10] = ' ';
	memcpy(buf + 19, " UTC", 5);
	return buf;
}

const char *mem_say_seconds(int64_t us, char *buf)
{
	int n = snprintf(buf, 32, "%lld.%06lld", (long long)(us / HP_SECOND), (long long)(us % HP_SECOND));

	while (buf[n - 1] == '0')
		buf[--n] = 0;
	if (buf[n - 1] == '.')
		buf[n - 1] = 0;
	return buf;
}

/* ---- reading arguments ---- */

bool mem_blank(const char *text)
{
	return text[strspn(text, " ")] == 0;
}

int mem_arg_text(const json_t *args, const char *name, bool required, size_t max,
		 const char **out, struct hp_error *err)
{
	const json_t *v = json_object_get(args, name);

	*out = json_string_value(v);
	if (v && !json_is_null(v) && !*out)
		return hp_fail(err, HP_E_INVALID, "\"%s\" must be a string", name);
	if (required && (!*out || mem_blank(*out)))
		return hp_fail(err, HP_E_INVALID, "\"%s\" is missing", name);
	if (*out && json_string_length(v) > max)
		return hp_fail(err, HP_E_TOO_LARGE, "\"%s\" is longer than %zu bytes", name, max);
	return 0;
}

int mem_arg_int(const json_t *args, const char *name, const int64_t *fallback, int64_t *out,
		struct hp_error *err)
{
	const json_t *v = json_object_get(args, name);

	*out = json_integer_value(v);
	if (json_is_integer(v))
		return 0;
	if (v && !json_is_null(v))
		return hp_fail(err, HP_E_INVALID, "\"%s\" must be a whole number", name);
	if (!fallback)
		return hp_fail(err, HP_E_INVALID, "\"%s\" is missing", name);
	*out = *fallback;
	return 0;
}

int mem_arg_reason(const json_t *args, const char **out, struct hp_error *err)
{
	const char *reason = hp_json_str(args, "reason");

	*out = reason ? reason : "";
	if (HP_MUTANT(reason))
		return 0;
	if (!reason || mem_blank(reason)) {
		hp_fail(err, HP_E_INVALID, "a reason is mandatory");
		return hp_error_hint(err, "Say in a sentence why; it is kept in the history.");
	}
	return mem_arg_text(args, "reason", true, HP_REASON_MAX, out, err);
}

struct mem_run *mem_run_get(struct mem_store *m, int64_t id, struct hp_error *err)
{
	struct mem_run *r = mem_run_find(&m->w, id);

	if (!r)
		hp_fail(err, HP_E_NOT_FOUND, "there is no run %lld", (long long)id);
	return r;
}

struct mem_run *mem_arg_run(struct mem_store *m, const json_t *args, struct hp_error *err)
{
	int64_t id;

	return mem_arg_int(args, "run", NULL, &id, err) < 0 ? NULL : mem_run_get(m, id, err);
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

/* The quorum expression: as rendered with the approval, else as the definition says. */
struct hp_bytes mem_approvers(const struct mem_store *m, const struct mem_approval *a)
{
	json_t *doc = hp_json_parse(a->document.p, a->document.n, "approval", NULL);
	json_t *state = mem_state_json(&m->w, mem_run_find(&m->w, a->run), a->state);
	const char *text = hp_json_str(doc, "approvers");
	struct hp_bytes kept;

	kept = mem_intern((struct mem_store *)(uintptr_t)m,
			  hp_bytes_of(text ? text : hp_json_str(state, "approvers")));
	json_decref(doc);
	json_decref(state);
	return kept;
}

static int quorum_of(const struct mem_store *m, const struct mem_approval *a, struct hp_quorum *q)
{
	json_t *doc = hp_json_parse(a->document.p, a->document.n, "approval", NULL);
	const json_t *terms = json_object_get(doc, "quorum"), *term;
	struct hp_bytes text = mem_approvers(m, a);
	size_t i;
	int rc = 0;

	memset(q, 0, sizeof *q);
	if (json_is_array(terms)) {
		json_array_foreach(terms, i, term) {
			const char *role = hp_json_str(term, "role");

			if (q->n_terms == HP_QUORUM_TERMS_MAX)
				break;
			q->terms[q->n_terms].n = (int)hp_json_int(term, "n", 1);
			snprintf(q->terms[q->n_terms++].role, sizeof q->terms[0].role, "%s", role ? role : "");
		}
	} else {
		rc = hp_quorum_parse(text.n ? text.p : "", q, NULL);
	}
	json_decref(doc);
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

	if (a->status == MEM_APPROVED || a->status == MEM_REJECTED)
		return hp_fail(err, HP_E_CONFLICT, "already decided by %.*s at %s (%s)",
			       (int)a->decided_by.n, a->decided_by.p, mem_say_time(a->decided_at, at),
			       a->status == MEM_APPROVED ? "approved" : "rejected");
	if (a->status != MEM_OPEN)
		return hp_fail(err, HP_E_CONFLICT, "approval %lld %s at %s%s%.*s", (long long)a->id,
			       a->status == MEM_EXPIRED ? "expired" : "was cancelled",
			       mem_say_time(a->decided_at, at), a->reason.n ? ": " : "", /* of an arm that went first */
			       (int)a->reason.n, a->reason.n ? a->reason.p : "");
	if (!HP_GUARD(deadline, *m->now < a->deadline))
		return hp_fail(err, HP_E_CONFLICT, "the deadline of approval %lld was %s",
			       (long long)a->id, mem_say_time(a->deadline, at));
	return 0;
}

/* May this principal vote on it? */
static int check_voter(const struct mem_store *m, const struct mem_approval *a,
		       const char *principal, const struct hp_quorum *q, struct hp_error *err)
{
	const struct mem_principal *p = principal_of(m, principal);
	const struct mem_run *r = mem_run_find(&m->w, a->run);
	struct hp_bytes text = mem_approvers(m, a);
	bool may = false;

	if (!p)
		return hp_fail(err, HP_E_FORBIDDEN, "\"%s\" is not a known principal", principal);
	if (!HP_GUARD(person, mem_same(p->kind, hp_bytes_of("person"))))
		return hp_fail(err, HP_E_FORBIDDEN, "%s may not decide: only a person can, this is %s",
			       principal,
			       mem_same(p->kind, hp_bytes_of("agent")) ? "an agent" : "a service");
	if (!HP_GUARD(requester, !mem_same(r->requester, hp_bytes_of(principal)))) {
		hp_fail(err, HP_E_FORBIDDEN, "%s requested run %lld and may not decide its approvals",
			principal, (long long)a->run);
		return hp_error_hint(err, "Ask somebody else.");
	}
	for (int i = 0; i < q->n_terms; i++)
		may = may || has_role(m, p->name, q->terms[i].role);
	if (!HP_GUARD(role, may))
		return hp_fail(err, HP_E_FORBIDDEN, "%s is not among the approvers: %.*s", principal,
			       (int)text.n, text.p);
	return 0;
}

static int check_first_vote(const struct mem_store *m, const struct mem_approval *a,
			    const char *principal, struct hp_error *err)
{
	char at[32];

	MEM_EACH(&m->w, T_VOTE, struct mem_vote, v)
		if (v->approval == a->id && mem_same(v->by, hp_bytes_of(principal)))
			return hp_fail(err, HP_E_CONFLICT, "%s has voted already, at %s (%s)", principal,
				       mem_say_time(v->at, at), v->yes ? "approve" : "reject");
	return 0;
}

/* A door's row in the history. moves: it raised rev; else it is a note beside the row's
 * rev, because a worker is on its way and must not be disturbed. */
struct mem_history *mem_note_door(struct mem_store *m, struct mem_run *r, bool moves, enum hp_move move,
				  const char *code, const char *reason, const char *by)
{
	struct mem_history *h;
	int32_t seq = 0;

	r->row.rev += moves;
	r->updated_at = *m->now;
	if (!moves)
		MEM_EACH(&m->w, T_HISTORY, struct mem_history, o)
			if (o->run == r->row.id && o->rev == r->row.rev && o->seq >= seq)
				seq = o->seq + 1;
	h = mem_log(m, r, move, by, NULL);
	h->seq = moves || seq > 0 ? seq : 1;
	h->code = mem_intern_s(m, code);
	h->reason = mem_intern_s(m, reason);
	return h;
}

static void vote(struct mem_store *m, struct mem_approval *a, const struct hp_quorum *q, bool yes,
		 const char *principal, const char *reason)
{
	struct mem_run *r = mem_run_find(&m->w, a->run);
	struct mem_vote *v = mem_add(&m->w, T_VOTE);

	v->approval = a->id;
	v->at = *m->now;
	v->yes = yes;
	v->by = mem_intern_s(m, principal);
	v->reason = mem_intern_s(m, reason);
	if (!yes || quorum_reached(m, a, q)) {
		a->status = yes ? MEM_APPROVED : MEM_REJECTED;
		a->decided_at = *m->now;
		a->decided_by = v->by;
		a->reason = v->reason;
		if (!r->row.pause)
			mem_ready(m, r);
	}
	mem_note_door(m, r, true, HP_MOVE_DECIDED, yes ? "approve" : "reject", reason, principal);
}

static int decide(struct mem_store *m, const char *principal, const json_t *args,
		  struct hp_buf *out, struct hp_error *err)
{
	static const char *const words[] = { "open", "approved", "rejected" };
	const char *decision, *reason;
	struct mem_approval *a;
	struct hp_quorum q;
	int64_t id;
	bool yes;

	if (mem_arg_int(args, "approval", NULL, &id, err) < 0 ||
	    mem_arg_text(args, "decision", true, HP_KEY_MAX, &decision, err) < 0 ||
	    mem_arg_reason(args, &reason, err) < 0)
		return -1;
	yes = strcmp(decision, "approve") == 0;
	if (!yes && strcmp(decision, "reject") != 0)
		return hp_fail(err, HP_E_INVALID, "a decision is \"approve\" or \"reject\", not \"%s\"",
			       decision);
	a = mem_approval_find(&m->w, id);
	if (!a)
		return hp_fail(err, HP_E_NOT_FOUND, "there is no approval %lld", (long long)id);
	if (quorum_of(m, a, &q) < 0)
		return hp_fail(err, HP_E_INTERNAL, "approval %lld: its approvers cannot be read",
			       (long long)id);
	if (check_open(m, a, err) < 0 || check_voter(m, a, principal, &q, err) < 0 ||
	    check_first_vote(m, a, principal, err) < 0)
		return -1;
	vote(m, a, &q, yes, principal, reason);
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
	if (action && strcmp(action, "undo") == 0)
		return HP_CMD_UNDO;
	return action && strcmp(action, "give_up") == 0 ? HP_CMD_GIVE_UP : HP_CMD_NONE;
}

static int check_held(const struct mem_run *r, struct hp_error *err)
{
	static const char *const told[] = { "", "retry", "skip", "give up", "undo", "restart" };

	if (r->row.status != HP_HELD) {
		hp_fail(err, HP_E_CONFLICT, "run %lld is not held, it is %s", (long long)r->row.id,
			hp_status_name(r->row.status));
		return hp_error_hint(err, "Only held runs take retry, skip, undo or give_up. holdpoint why says "
					  "what it waits for.");
	}
	if (r->row.command != HP_CMD_NONE)
		return hp_fail(err, HP_E_CONFLICT, "run %lld has been told to %s already",
			       (long long)r->row.id, told[r->row.command > 40 ? HP_CMD_UNDO : r->row.command]);
	return 0;
}

bool mem_at_approval(const struct mem_store *m, const struct mem_run *r)
{
	json_t *state = mem_state_json(&m->w, r, r->row.state);
	const char *kind = hp_json_str(state, "kind");
	bool approval = kind && strcmp(kind, "approval") == 0;

	json_decref(state);
	return approval;
}

/* An operator is not an approver. */
static int check_skippable(const struct mem_store *m, const struct mem_run *r, struct hp_error *err)
{
	if (!mem_at_approval(m, r))
		return 0;
	hp_fail(err, HP_E_CONFLICT, "run %lld is held at an approval, which cannot be skipped",
		(long long)r->row.id);
	return hp_error_hint(err, "retry asks again; only those it asks can say yes.");
}

static int operate(struct mem_store *m, const char *principal, const json_t *args,
		   struct hp_buf *out, struct hp_error *err)
{
	const json_t *value = json_object_get(args, "value");
	const char *action, *reason;
	enum hp_command command;
	struct mem_run *r;
	struct hp_buf text;
	int64_t id;
	int rc;

	if (mem_arg_int(args, "run", NULL, &id, err) < 0 ||
	    mem_arg_text(args, "action", true, HP_KEY_MAX, &action, err) < 0 ||
	    mem_arg_reason(args, &reason, err) < 0)
		return -1;
	command = command_of(action);
	if (command == HP_CMD_NONE) {
		hp_fail(err, HP_E_INVALID, "there is no action \"%s\"", action);
		return hp_error_hint(err, "Actions are retry, skip, undo and give_up.");
	}
	r = mem_run_get(m, id, err);
	if (!r || check_held(r, err) < 0 || mem_check_not_paused(r, err) < 0 ||
	    (command == HP_CMD_SKIP && check_skippable(m, r, err) < 0))
		return -1;
	if (command == HP_CMD_UNDO && (command = mem_undo_command(m, r, args, err)) == HP_CMD_NONE)
		return -1;
	hp_buf_init(&text, HP_VALUE_MAX);
	rc = value ? hp_json_write(&text, value, err) : 0;
	if (rc == 0) {
		r->command_value = mem_intern(m, hp_buf_bytes(&text));
		r->row.command = command;
		mem_note_door(m, r, true, HP_MOVE_COMMANDED, action, reason, principal);
		mem_ready(m, r);
		rc = hp_buf_printf(out, "{\"run\":%lld}", (long long)r->row.id);
	}
	hp_buf_free(&text);
	return rc;
}

/* A flag: it takes effect between two effects. A parked run is woken for it, a run in a
 * worker's hands learns of it with its next commit. */
void mem_cancel(struct mem_store *m, struct mem_run *r, const char *principal, const char *reason)
{
	/* One that was held on top of its cancel stays with its operator, who has not been
	 * told then what is in doubt. Who asks again has. */
	if (r->row.cancel && r->row.status != HP_HELD)
		return;
	r->row.cancel = true;
	mem_note_door(m, r, r->engine == 0, HP_MOVE_COMMANDED, "cancel", reason, principal);
	mem_ready(m, r);
}

static int cancel(struct mem_store *m, const char *principal, const json_t *args,
		  struct hp_buf *out, struct hp_error *err)
{
	const char *reason;
	struct mem_run *r;
	int64_t id;

	if (mem_arg_int(args, "run", NULL, &id, err) < 0 || mem_arg_reason(args, &reason, err) < 0)
		return -1;
	r = mem_run_get(m, id, err);
	if (!r || mem_check_lives(r, err) < 0)
		return -1;
	if (mem_unwinds(m, id))
		return hp_fail(err, HP_E_CONFLICT, "run %lld is being unwound, and a cancel changes nothing", (long long)id);
	mem_cancel(m, r, principal, reason);
	return hp_buf_printf(out, "{\"cancel\":true,\"run\":%lld,\"status\":\"%s\"}",
			     (long long)r->row.id, hp_status_name(r->row.status));
}

/* ---- start, send_event ---- */

static int door_start(struct mem_store *m, const char *principal, const json_t *args,
		      struct hp_buf *out, struct hp_error *err)
{
	struct hp_start st = { .requester = principal };
	const char *key;
	const json_t *input = json_object_get(args, "input");
	struct hp_buf text;
	bool existed;
	int rc = -1;

	if (mem_arg_text(args, "workflow", true, HP_KEY_MAX, &st.workflow, err) < 0 ||
	    mem_arg_text(args, "key", false, HP_KEY_MAX, &key, err) < 0)
		return -1;
	st.key = hp_bytes_of(key);
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

static int door_send_event(struct mem_store *m, const char *principal, const json_t *args, struct hp_buf *out,
			   struct hp_error *err)
{
	const char *name, *key;
	struct hp_delivery d;
	const json_t *payload = json_object_get(args, "payload");
	struct hp_buf text;
	int rc = -1, woken = 0;

	if (mem_arg_text(args, "name", true, 200, &name, err) < 0 ||
	    mem_arg_text(args, "key", false, HP_KEY_MAX, &key, err) < 0)
		return -1;
	d.name = hp_bytes_of(name);
	d.key = hp_bytes_of(key);
	hp_buf_init(&text, HP_HTTP_REQUEST_BODY_MAX);
	if (payload ? hp_json_write(&text, payload, err) < 0 : hp_buf_adds(&text, "{}") < 0)
		goto out;
	if (mem_mail_check(&d, hp_buf_bytes(&text), err) < 0)
		goto out;
	rc = hp_buf_printf(out, "{\"event\":%lld",
			   (long long)mem_mail_put(m, &d, hp_buf_bytes(&text), principal, &woken));
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
		return door_send_event(m, principal, args, out, err);
	if (strcmp(name, "decide") == 0)
		return decide(m, principal, args, out, err);
	if (strcmp(name, "operate") == 0)
		return operate(m, principal, args, out, err);
	if (strcmp(name, "cancel") == 0)
		return cancel(m, principal, args, out, err);
	if (strcmp(name, "pause") == 0)
		return mem_pause(m, principal, args, out, err);
	if (strcmp(name, "resume") == 0)
		return mem_resume(m, principal, args, out, err);
	if (strcmp(name, "run") == 0)
		return mem_read_run(m, args, out, err);
	if (strcmp(name, "history") == 0)
		return mem_read_history(m, args, out, err);
	if (strcmp(name, "approval") == 0)
		return mem_read_approval(m, args, out, err);
	if (strcmp(name, "children") == 0)
		return mem_read_children(m, args, out, err);
	if (strcmp(name, "why") == 0)
		return mem_why(m, args, out, err);
	if (strncmp(name, "schedule", 8) == 0)
		return mem_schedule_door(m, name, principal, args, out, err);
	if (strncmp(name, "breaker", 7) == 0)
		return mem_breaker_door(m, name, principal, args, out, err);
	if (strncmp(name, "secret", 6) == 0)
		return mem_secret_door(m, name, principal, args, out, err);
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
