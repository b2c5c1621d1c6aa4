-- dump.sql: the world of PostgreSQL as the document that hp_mem_dump() writes of the
-- in-memory store's: a list of rows for every table, by the names of columns here.
--
-- What is left out, and why that hides no difference:
--   installation, principal, role_member, token   the test writes them itself, no operation does
--   lease tokens            derived from a secret; the operations that need one say if it is right
--   run.workflow of paused, workflow_pause, run_version, digest of undo_log and run_state,
--   budget.set_*, run_digest   what only doors write that the in-memory store does not have (store.h)
--   run_state.waits, in_held, gated, limited, has_annex   flags that say whether another table
--                           has a row: those rows are compared
--   held.since, saved.visit, history.phase/status/due_at/detail   the same facts are in the history and in
--                           the state row, which was compared when that revision was written
--   history.epoch           a door's row has none here; a worker's is that of the state row
--   ready, timer            as one figure, run_state.wakes_at: a timer below a row of the ready list
--                           is not looked at (0004)
--   ready.claim_no, engine.idle, host, pid, started_at, ended_at, mailbox, family.not_before, child.watched
--                           for what the in-memory store cannot have: lost answers, hints, locks
--   secret_serial           compared by the door secrets_live
--   sweep.per_second        a smoothed figure for people
--   numbers of sequences    a transaction that fails leaves a gap here and none in memory, so the
--                           test moves each back to its last row

-- A document as a list of one: null and 0 are values, too.
create function public.doc(p jsonb) returns jsonb language sql immutable strict as $$ select jsonb_build_array(p) $$;
create function public.sha(p text) returns text language sql immutable strict as $$
	select encode(sha256(convert_to(p, 'UTF8')), 'hex') $$;

-- (plpgsql keeps its plans: the document is asked for after every operation.)
create function public.dump_runs() returns jsonb language plpgsql stable set search_path = holdpoint, public as $$ begin
return jsonb_build_object(
	'run', (select jsonb_agg(to_jsonb(x)) from (select id, workflow, encode(digest, 'hex') as digest, key, doc(input) as input,
		requester, created_at from run) x),
	'run_state', (select jsonb_agg(to_jsonb(x)) from (select s.run_id as run, epoch, rev, visit, state, attempt, failures, claims,
		signed_visit, signed_for, status, phase, held_class, command, doc(command_value) as command_value, unresolved, cancel, pause,
		awaited, entered_at, first_sent_at, sent_at, s.due_at,
		nullif(encode(request_hash, 'hex'), repeat('0', 64)) as request_hash, code, y.engine_id as engine,
		case when y.run_id is null then t.due_at when y.engine_id is null then y.due_at end as wakes_at
		from run_state s left join ready y on y.run_id = s.run_id left join timer t on t.run_id = s.run_id) x),
	'held', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, code from held) x),
	'paused', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, at, by, reason from paused) x),
	'gated', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, kind, name, since, message from gated) x),
	'history', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, rev, seq, at, move, coalesce(from_state, state) as from_state,
		coalesce(from_visit, visit) as from_visit, state, visit, attempt, flags & 1 <> 0 as admits, flags & 2 <> 0 as in_sql,
		outcome, code, message, actor from history) x),
	'saved', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, rev, name, doc(value) as value from saved) x),
	'arm_state', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, visit, doc(doc) as doc from arm_state) x)); end $$;

create function public.dump_keys() returns jsonb language plpgsql stable set search_path = holdpoint, public as $$ begin
return jsonb_build_object(
	'run_key', (select jsonb_agg(to_jsonb(x)) from (select workflow, encode(key_hash, 'hex') as key_hash, generation, run_id as run,
		freed from run_key) x),
	'effect_key', (select jsonb_agg(to_jsonb(x)) from (select scope, encode(key_hash, 'hex') as key_hash, run_id as run, visit,
		first_sent_at from effect_key) x),
	'engine', (select jsonb_agg(to_jsonb(x)) from (select id, lease_us, lease_until, dead from engine) x),
	'definition', (select jsonb_agg(to_jsonb(x)) from (select d.workflow, encode(d.digest, 'hex') as digest,
		w.digest is not null as current from definition d left join workflow w on w.digest = d.digest) x),
	'mail', (select jsonb_agg(to_jsonb(x)) from (select id, name, key, doc(payload) as payload, sender, at, expires_at from mail) x),
	'mail_wait', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, wait, name, key from mail_wait) x),
	'mail_cursor', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, name, encode(key_hash, 'hex') as key_hash,
		mail_id as mail from mail_cursor) x),
	'inbox', (select jsonb_agg(to_jsonb(x)) from (select source, event_id, encode(sha256(body), 'hex') as body, received_at from inbox) x),
	'approval', (select jsonb_agg(to_jsonb(x)) from (select id, run_id as run, visit, state, ask, doc(evidence) as evidence, approvers,
		opened_at, deadline_at, status, decided_at, decided_by, reason, encode(sha256(request), 'hex') as request,
		request_key, encode(request_sha256, 'hex') as request_sha256 from approval) x),
	'vote', (select jsonb_agg(to_jsonb(x)) from (select approval_id as approval, principal, decision, reason, at from vote) x)); end $$;

create function public.dump_limits() returns jsonb language plpgsql stable set search_path = holdpoint, public as $$ begin
return jsonb_build_object(
	'schedule', (select jsonb_agg(to_jsonb(x)) from (select workflow, idx, doc(spec) as spec, position, version, look_at, ahead, planned,
		paused_at, paused_by, paused_reason, last_tick, last_run, late_us, started, skipped from schedule) x),
	'schedule_tick', (select jsonb_agg(to_jsonb(x)) from (select workflow, idx, tick, outcome, n, run_id as run, at from schedule_tick) x),
	'breaker', (select jsonb_agg(to_jsonb(x)) from (select name, state, version, since, until_at, reason, changed_by, probes, open_us,
		slow_us, reopened, passed, woken_at, wave from breaker) x),
	'breaker_streak', (select jsonb_agg(to_jsonb(x)) from (select name, in_row from breaker_streak) x),
	'breaker_log', (select jsonb_agg(to_jsonb(x)) from (select name, version, at, was, state, reason, changed_by from breaker_log) x),
	'breaker_probe', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, name, until_at from breaker_probe) x),
	'breaker_count', (select jsonb_agg(to_jsonb(x)) from (select name, width, number, calls, failed, slow from breaker_count) x),
	'limiter', (select jsonb_agg(to_jsonb(x)) from (select kind, name, key, max, per_us, bucket, at, used, waiting, now_at, now_used
		from limiter) x),
	'permit', (select jsonb_agg(to_jsonb(x)) from (select p.run_id as run, p.visit, l.kind, l.name, l.key, p.amount, p.at, p.rank
		from permit p join limiter l on l.id = p.limiter_id) x),
	'budget', (select jsonb_agg(to_jsonb(x)) from (select name, (declared ->> 'max')::bigint as max, (declared ->> 'per_us')::bigint as per_us,
		(declared ->> 'bucket')::boolean as bucket, declared_by from budget) x)); end $$;

create function public.dump_features() returns jsonb language plpgsql stable set search_path = holdpoint, public as $$ begin
return jsonb_build_object(
	'undo_log', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, n, visit, state, rev, doc(doc) as doc, status, at, closed_at
		from undo_log) x),
	'unwinding', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, began_at, ends, from_state, code, message,
		doc(result) as result, answered_at from unwinding) x),
	'family', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, visit, workflow, single, depth, need, tolerate, percent, concurrency,
		total, queued, running, succeeded, failed, cancelled, complete, closed, first_failed, doc(cursor) as cursor from family) x),
	'child', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, visit, n, child, status, own, cancel, code, message, key,
		doc(input) as input from child) x),
	'sweep', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, visit, doc(cursor) as cursor, doc(row_in_hand) as row_in_hand,
		done, changed, pages, failed, total, started_at, at, ended_at from sweep) x),
	'sweep_failure', (select jsonb_agg(to_jsonb(x)) from (select run_id as run, visit, doc(cursor) as cursor, doc(error) as error, at
		from sweep_failure) x),
	'secret', (select jsonb_agg(to_jsonb(x)) from (select name, last_version from secret) x),
	'secret_version', (select jsonb_agg(to_jsonb(x)) from (select name, version, state, translate(encode(sealed, 'base64'), E'\n', '') as sealed,
		key_id, fingerprint, created_at, created_by, expires_at, promoted_at, promoted_by, retired_at, retired_by
		from secret_version) x)); end $$;

create function public.dump() returns text language plpgsql as $$ begin
	perform setval('holdpoint.' || t || '_id_seq', n + 1, false) from (
		select 'run' as t, coalesce(max(id), 0) as n from holdpoint.run union all
		select 'approval', coalesce(max(id), 0) from holdpoint.approval union all
		select 'mail', coalesce(max(id), 0) from holdpoint.mail) x;
	return (public.dump_runs() || public.dump_keys() || public.dump_limits() || public.dump_features())::text;
end $$;
