-- 0006: doors that only read. Lists are pages by key: `next` is the `after` of the
-- page that follows.

set local role holdpoint_owner;

create function holdpoint.state_name(p_digest bytea, p_state int) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(state_summary(p_digest, p_state) ->> 'name', '#' || p_state)
$$;

-- The state of a visit, by the version the run followed then.
create function holdpoint.visit_state(p_run bigint, p_visit int) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select state_name(digest_at(h.run_id, h.rev), h.state) from history h
		where h.run_id = p_run and h.visit = p_visit order by h.rev limit 1
$$;

create function holdpoint.run_json(r holdpoint.run, s holdpoint.run_state) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object(
		'run', r.id, 'workflow', r.workflow, 'key', r.key, 'status', status_name(s.status),
		'state', coalesce(x.s ->> 'name', '#' || s.state), 'kind', x.s ->> 'kind', 'visit', s.visit,
		'phase', phase_name(s.phase), 'attempt', s.attempt, 'failures', s.failures,
		'requester', r.requester, 'digest', encode(coalesce(s.digest, r.digest), 'hex'), 'code', s.code,
		'cancel', s.cancel, 'paused', case when s.pause then (select jsonb_build_object('by', p.by, 'at', json_time(p.at),
			'reason', p.reason) from paused p where p.run_id = s.run_id) end, 'created_at', json_time(r.created_at), 'entered_at', json_time(s.entered_at),
		'due_at', case when s.status < 4 then json_time(s.due_at) end, 'epoch', s.epoch, 'rev', s.rev))
	from (select state_summary(coalesce(s.digest, r.digest), s.state) as s) x
$$;

create function holdpoint.approval_json(a holdpoint.approval) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('approval', a.id, 'run', a.run_id, 'visit', a.visit, 'workflow', a.workflow,
		'state', a.state_name, 'ask', a.ask, 'approvers', a.approvers, 'requester', a.requester,
		'status', a.status, 'opened_at', json_time(a.opened_at), 'deadline_at', json_time(a.deadline_at),
		'decided_at', json_time(a.decided_at), 'decided_by', a.decided_by, 'reason', a.reason))
$$;

-- Lists are planned with the filters that are given: one plan for all of them would
-- use the index of none.
create function holdpoint.door_runs(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 9223372036854775807);
	v_workflow text := arg_text(p_args, 'workflow', false);
	v_key text := arg_text(p_args, 'key', false);
	v_parent bigint := nullif(arg_int(p_args, 'parent', 0), 0);
	v_status smallint := status_number(p_args ->> 'status');
	v_paused boolean := p_args ->> 'status' is not distinct from 'paused';
	v_since bigint := coalesce(parse_time(p_args ->> 'since'), 0);
	v_until bigint := coalesce(parse_time(p_args ->> 'until'), 9223372036854775807);
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
begin
	if p_args ? 'status' and v_status is null and not v_paused then
		perform fail('HP400', format('there is no status "%s"', p_args ->> 'status'),
			'Statuses are running, waiting, held, succeeded, failed and cancelled; paused finds what somebody paused.');
	end if;
	with page as (
		select r, s from run r join run_state s on s.run_id = r.id
		where r.id < v_after and (v_workflow is null or r.workflow = v_workflow)
			and (v_key is null or r.key = v_key) and (v_status is null or s.status = v_status)
			-- the few that are held or paused are found through their own tables
			and (v_status is distinct from 3 or r.id in (select h.run_id from held h))
			and (not v_paused or r.id in (select p.run_id from paused p))
			and (v_parent is null or r.id in (select c.child from child c where c.run_id = v_parent))
			and (v_since = 0 or r.created_at >= v_since) and r.created_at < v_until
		order by r.id desc limit v_limit + 1
	), numbered as (
		select (p.r).id, row_number() over (order by (p.r).id desc) n, p.r, p.s from page p
	)
	select coalesce(jsonb_agg(run_json(r, s) order by n) filter (where n <= v_limit), '[]'),
			count(*) > v_limit, min(id) filter (where n <= v_limit)
		into v_rows, v_more, v_last from numbered;
	return jsonb_build_object('runs', v_rows) || case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

create function holdpoint.door_run(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_id bigint := arg_int(p_args, 'run');
	v run;
	s run_state;
begin
	select * into v from run where id = v_id;
	if not found then
		perform no_run(v_id);
	end if;
	select * into strict s from run_state where run_id = v_id;
	return jsonb_build_object(
		'run', run_json(v, s) || jsonb_build_object('input', v.input)
			|| case when s.status > 3 then (select jsonb_build_object('finished_at', json_time(h.at), 'result', h.detail)
				from history h where h.run_id = v_id and h.move = 9 order by h.rev desc limit 1) else '{}' end,
		'saved', coalesce((select jsonb_object_agg(x.name, x.value) from (
			select distinct on (name) name, value from saved where run_id = v_id order by name, rev desc) x), '{}'),
		'approvals', coalesce((select jsonb_agg(approval_json(a) order by a.id) from approval a where a.run_id = v_id), '[]'),
		'waits', coalesce((select jsonb_agg(jsonb_build_object('name', w.name, 'key', w.key) order by w.wait)
			from mail_wait w where w.run_id = v_id), '[]'),
		'arms', coalesce(arms_json(s), '[]')) -- 0011
		|| families_json(v_id) -- 0010
		|| case when s.has_annex then coalesce((select jsonb_build_object('undo', u) from undo_json(v_id) u where u is not null), '{}') else '{}' end -- 0012
		|| case when s.has_annex then jsonb_strip_nulls(jsonb_build_object('sweeps', sweeps_json(v_id))) else '{}' end;
end $$;

-- p_digest: of a run that was never moved; null: looked up for each row.
create function holdpoint.history_json(h holdpoint.history, p_digest bytea) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('rev', h.rev, 'seq', nullif(h.seq, 0), 'at', json_time(h.at), 'move', move_name(h.move),
		'from', state_name(coalesce(p_digest, digest_at(h.run_id, h.rev - (h.move = 17)::int)), h.from_state),
		'state', state_name(coalesce(p_digest, digest_at(h.run_id, h.rev)), h.state), 'visit', h.visit,
		'status', status_name(h.status), 'phase', phase_name(h.phase), 'attempt', h.attempt,
		'admits', case when h.flags & 1 <> 0 then true end,
		'epoch', h.epoch, 'outcome', class_name(h.outcome), 'code', h.code,
		'message', case when h.move not in (11, 12, 16, 17) then h.message end,
		'reason', case when h.move in (11, 12, 16, 17) then h.message end,
		'by', h.actor, 'due_at', case when h.status in (2, 3) then json_time(h.due_at) end, 'detail', h.detail))
$$;

create function holdpoint.door_history(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_id bigint := arg_int(p_args, 'run');
	v_limit int := arg_limit(p_args || case when p_args ? 'limit' then '{}' else '{"limit": 200}' end::jsonb);
	v_after bigint := arg_int(p_args, 'after', -1);
	v_digest bytea;
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
begin
	select case when s.digest is null then r.digest end into v_digest from run r join run_state s on s.run_id = r.id
		where r.id = v_id;
	if not found then
		perform no_run(v_id);
	end if;
	-- a page ends between two revs: notes beside a rev stay with it
	with page as (
		select h, dense_rank() over (order by h.rev) n from history h
		where h.run_id = v_id and h.rev > v_after order by h.rev, h.seq
	)
	select coalesce(jsonb_agg(history_json(h, v_digest) order by (p.h).rev, (p.h).seq) filter (where n <= v_limit), '[]'),
			max(n) > v_limit, max((p.h).rev) filter (where n <= v_limit)
		into v_rows, v_more, v_last from (select * from page limit v_limit * 4 + 1) p;
	return jsonb_build_object('history', v_rows) || case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

create function holdpoint.door_approvals(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 0);
	v_status text := coalesce(arg_text(p_args, 'status', false), 'open');
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
begin
	if v_status not in ('open', 'approved', 'rejected', 'expired', 'cancelled', 'all') then
		perform fail('HP400', format('there is no status "%s"', v_status),
			'Statuses are open, approved, rejected, expired, cancelled and all.');
	end if;
	with page as (
		select a, row_number() over (order by a.id) n from approval a
		where a.id > v_after and (v_status = 'all' or a.status = v_status) order by a.id limit v_limit + 1
	)
	select coalesce(jsonb_agg(approval_json(a) order by n) filter (where n <= v_limit), '[]'),
			count(*) > v_limit, max((p.a).id) filter (where n <= v_limit)
		into v_rows, v_more, v_last from page p;
	return jsonb_build_object('approvals', v_rows) || case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

-- The request as text: exactly the bytes that are hashed and will be sent.
create function holdpoint.door_approval(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_id bigint := arg_int(p_args, 'approval');
	v approval;
begin
	select * into v from approval where id = v_id;
	if not found then
		perform fail('HP404', format('there is no approval %s', v_id));
	end if;
	return approval_json(v) || jsonb_build_object('evidence', v.evidence, 'quorum', v.quorum,
		'request', convert_from(v.request, 'UTF8'), 'request_key', v.request_key,
		'request_sha256', encode(v.request_sha256, 'hex'),
		'votes', coalesce((select jsonb_agg(jsonb_build_object('by', x.principal, 'decision', x.decision,
			'reason', x.reason, 'at', json_time(x.at)) order by x.at) from vote x where x.approval_id = v_id), '[]'));
end $$;

create function holdpoint.door_events(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 9223372036854775807);
	v_name text := arg_text(p_args, 'name', false);
	v_key text := arg_text(p_args, 'key', false);
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
begin
	with page as (
		select m.*, row_number() over (order by m.id desc) n from mail m
		where m.id < v_after and (v_name is null or m.name = v_name) and (v_key is null or m.key_hash = hash(v_key))
		order by m.id desc limit v_limit + 1
	)
	select coalesce(jsonb_agg(jsonb_build_object('event', p.id, 'name', p.name, 'key', p.key, 'payload', p.payload,
			'sender', p.sender, 'at', json_time(p.at), 'expires_at', json_time(p.expires_at)) order by n)
				filter (where n <= v_limit), '[]'), count(*) > v_limit, min(p.id) filter (where n <= v_limit)
		into v_rows, v_more, v_last from page p;
	return jsonb_build_object('events', v_rows) || case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

create function holdpoint.door_workflows(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('workflows', coalesce(jsonb_agg(jsonb_build_object('workflow', w.name,
		'digest', encode(w.digest, 'hex'), 'enabled', w.enabled, 'deployed_at', json_time(w.deployed_at),
		'summary', d.summary) || case when w.paused_at is null then '{}' else jsonb_build_object('paused', jsonb_build_object(
			'by', w.paused_by, 'at', json_time(w.paused_at), 'reason', w.paused_reason)) end order by w.name), '[]'))
	from workflow w join definition d on d.digest = w.digest
$$;

-- Newest first, the dead ones too; never the hash, which is nobody's business.
create function holdpoint.door_tokens(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 9223372036854775807);
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
begin
	with page as (
		select t.*, p.kind, row_number() over (order by t.id desc) n
		from token t join principal p on p.name = t.principal
		where t.id < v_after order by t.id desc limit v_limit + 1
	)
	select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', t.id, 'principal', t.principal,
			'kind', t.kind, 'scopes', to_jsonb(t.scopes), 'created_at', json_time(t.created_at),
			'created_by', t.created_by, 'expires_at', json_time(t.expires_at),
			'revoked_at', json_time(t.revoked_at), 'revoked_by', t.revoked_by, 'reason', t.revoke_reason)) order by n)
				filter (where n <= v_limit), '[]'), count(*) > v_limit, min(t.id) filter (where n <= v_limit)
		into v_rows, v_more, v_last from page t;
	return jsonb_build_object('tokens', v_rows) || case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

-- Counts for /metrics. Only small tables are read: the cost does not grow with
-- the number of parked or finished runs.
-- Each feature's own numbers are a function in its file. Whatever may be many is counted up to
-- a bound: a scrape costs as much as a look at a list.
create function holdpoint.door_metrics(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
begin
	return jsonb_build_object(
		'ready', (select count(*) from ready where engine_id is null),
		'owned', (select count(*) from ready where engine_id is not null),
		'oldest_ready_us', coalesce((select v_now - min(due_at) from ready where engine_id is null), 0),
		'timers_due', (select count(*) from (select from timer where due_at <= v_now limit 10000) x),
		'held', (select count(*) from held),
		'paused', (select count(*) from paused),
		'approvals_open', (select count(*) from approval where status = 'open'),
		'engines_live', (select count(*) from engine where not dead and lease_until > v_now),
		'engines_dead', (select count(*) from engine where dead),
		'runs_started', (select case when is_called then last_value else 0 end from run_id_seq),
		'runs_parked_estimate', (select greatest(reltuples, 0)::bigint from pg_class where oid = 'timer'::regclass))
		|| metrics_schedules() || metrics_children() || metrics_breakers() || metrics_limits(); -- 0008, 0010, 0014, 0019
end $$;

grant select on sequence holdpoint.run_id_seq to holdpoint_engine;

reset role;
