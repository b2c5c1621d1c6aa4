/* mem_lifecycle.c: pausing and resuming runs.
 *
 * The same flag and the same sentences as the SQL doors: what a run has sent resolves
 * first, and a paused run is on no list until it is resumed.
 */
#include "store/mem/mem_private.h"

#define BYTES(b) (int)(b).n, (b).p ? (b).p : ""

int mem_check_lives(const struct mem_run *r, struct hp_error *err)
{
	if (!hp_status_final(r->row.status))
		return 0;
	return hp_fail(err, HP_E_CONFLICT, "run %lld has already %s%s", (long long)r->row.id,
		       r->row.status == HP_CANCELLED ? "been " : "", hp_status_name(r->row.status));
}

int mem_check_not_paused(const struct mem_run *r, struct hp_error *err)
{
	char at[32];

	if (!r->row.pause)
		return 0;
	hp_fail(err, HP_E_CONFLICT, "run %lld is paused since %s by %.*s: %.*s", (long long)r->row.id,
		mem_say_time(r->paused_at, at), BYTES(r->paused_by), BYTES(r->paused_reason));
	return hp_error_hint(err, "holdpoint resume %lld lets it go on.", (long long)r->row.id);
}

int mem_pause(struct mem_store *m, const char *principal, const json_t *args, struct hp_buf *out,
	      struct hp_error *err)
{
	const char *reason;
	struct mem_run *r;
	int64_t id;
	bool air;

	if (mem_arg_int(args, "run", NULL, &id, err) < 0 || mem_arg_reason(args, &reason, err) < 0)
		return -1;
	r = mem_run_get(m, id, err);
	if (!r || mem_check_lives(r, err) < 0 || mem_check_not_paused(r, err) < 0)
		return -1;
	/* a request of it may be in the air: whoever claims it finds out, then parks it */
	air = r->row.phase == HP_PH_ADMITTED || r->row.phase == HP_PH_PROBING;
	r->row.pause = true;
	r->paused_at = *m->now;
	r->paused_by = mem_intern_s(m, principal);
	r->paused_reason = mem_intern_s(m, reason);
	if (r->row.status == HP_RUNNING && !r->engine && !air)
		r->row.status = HP_WAITING;
	mem_note_door(m, r, r->engine == 0, HP_MOVE_COMMANDED, "pause", reason, principal);
	if (!r->engine && !air && !r->row.cancel)
		r->ready = false;
	return hp_buf_printf(out, "{\"paused\":true,\"run\":%lld,\"status\":\"%s\"}", (long long)id,
			     hp_status_name(r->row.status));
}

int mem_resume(struct mem_store *m, const char *principal, const json_t *args, struct hp_buf *out,
	       struct hp_error *err)
{
	const char *reason;
	struct mem_run *r;
	int64_t id;

	if (mem_arg_int(args, "run", NULL, &id, err) < 0 ||
	    mem_arg_text(args, "reason", false, HP_REASON_MAX, &reason, err) < 0)
		return -1;
	if (reason && mem_blank(reason))
		reason = NULL;
	r = mem_run_get(m, id, err);
	if (!r || mem_check_lives(r, err) < 0)
		return -1;
	if (!r->row.pause)
		return hp_fail(err, HP_E_CONFLICT, "run %lld is not paused, it is %s", (long long)id,
			       hp_status_name(r->row.status));
	r->row.pause = false;
	mem_note_door(m, r, r->engine == 0, HP_MOVE_RESUMED, NULL, reason, principal);
	/* one that is held stays with its operator, unless it has been told something */
	if (mem_not_started(m, r))
		mem_go_on(m, r);
	else if (r->row.status != HP_HELD || r->row.command != HP_CMD_NONE)
		mem_ready(m, r);
	return hp_buf_printf(out, "{\"paused\":false,\"run\":%lld,\"status\":\"%s\"}", (long long)id,
			     hp_status_name(r->row.status));
}
