-- 0015: pausing and resuming: one run, or all that a workflow starts.
--
-- Pausing is a flag in the state row, like cancelling: a run in a worker's hands
-- learns of it with its next commit, what it has sent resolves first, and it parks
-- where nothing of it is in the air. A paused run has no row in ready or timer; its
-- due time, its mail and its decisions are looked at when it is resumed.

set local role holdpoint_owner;

create function holdpoint.paused_sentence(p_run bigint) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select format('run %s is paused since %s by %s: %s', p.run_id, say_time(p.at), p.by, p.reason)
	from paused p where p.run_id = p_run
$$;

create function holdpoint.check_not_paused(s holdpoint.run_state) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	if s.pause then
		perform fail('HP409', paused_sentence(s.run_id), format('holdpoint resume %s lets it go on.', s.run_id));
	end if;
end $$;

-- Live runs only.
create function holdpoint.check_lives(s holdpoint.run_state) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	if s.status > 3 then
		perform fail('HP409', format('run %s has already %s', s.run_id,
			case s.status when 4 then 'succeeded' when 5 then 'failed' else 'been cancelled' end));
	end if;
end $$;

-- Under the state row's lock: a claim that is on its way is over, or skips this run.
create function holdpoint.is_owned(p_run bigint) returns boolean
language sql volatile set search_path = holdpoint, pg_temp as $$
	select exists (select from ready where run_id = p_run and engine_id is not null)
$$;

create function holdpoint.door_pause(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_reason text := arg_reason(p_args);
	v_owned boolean;
	v_air boolean;  -- a request of it may be in the air: whoever claims it finds out, then parks it
	v_now bigint;
	v run_state;
begin
	v := lock_run(v_run);
	v_now := now_us();
	perform check_lives(v);
	perform check_not_paused(v);
	v_owned := is_owned(v_run);
	v_air := v.phase in (2, 5);
	update run_state set pause = true, rev = rev + (not v_owned)::int,
		status = case when status = 1 and not v_owned and not v_air then 2 else status end where run_id = v_run
		returning status into v.status;
	insert into paused (run_id, at, by, reason) values (v_run, v_now, p_principal, v_reason);
	perform note_door(v, not v_owned, 12::smallint, 'pause', v_reason, p_principal, null, v_now);
	if not v_owned and not v_air and not v.cancel then
		delete from ready where run_id = v_run and engine_id is null;
		delete from timer where run_id = v_run;
	end if;
	return jsonb_build_object('run', v_run, 'status', status_name(v.status), 'paused', true);
end $$;

-- The run itself, under its lock.
create function holdpoint.resume_run(s holdpoint.run_state, p_principal text, p_reason text, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_owned boolean := is_owned(s.run_id);
begin
	update run_state set pause = false, rev = rev + (not v_owned)::int where run_id = s.run_id;
	delete from paused where run_id = s.run_id;
	perform note_door(s, not v_owned, 16::smallint, null, p_reason, p_principal, null, p_now);
	-- one that is held stays with its operator, unless it has been told something
	if not_started(s) then
		perform go_on(array[s.run_id], p_now); -- 0013
	elsif s.status <> 3 or s.command <> 0 then
		perform wake(array[s.run_id], p_now);
	end if;
end $$;

create function holdpoint.door_resume(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_reason text := nullif(btrim(arg_text(p_args, 'reason', false, 2000)), '');
	v run_state;
begin
	v := lock_run(v_run);
	perform check_lives(v);
	if not v.pause then
		perform fail('HP409', format('run %s is not paused, it is %s', v_run, status_name(v.status)));
	end if;
	perform resume_run(v, p_principal, v_reason, now_us());
	return jsonb_build_object('run', v_run, 'status', status_name(v.status), 'paused', false);
end $$;

-- Called by commit() for paused runs that came to their end: they were cancelled, or
-- on their last step.
create function holdpoint.end_pauses(p_runs bigint[]) returns void
language sql set search_path = holdpoint, pg_temp as $$
	delete from paused where run_id = any(p_runs);
	update run_state set pause = false where run_id = any(p_runs) and pause;
$$;

-- ---- workflows ----

-- Called by start_run(): the run is stored and waits.
create function holdpoint.start_paused(p_run bigint, w holdpoint.workflow, p_now bigint) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update run_state set pause = true, status = 2, limited = w.limits is not null where run_id = p_run;
	insert into paused (run_id, at, by, reason, workflow) values (p_run, p_now, w.paused_by, w.paused_reason, w.name);
$$;

create function holdpoint.find_workflow(p_args jsonb) returns holdpoint.workflow
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v workflow;
begin
	select * into v from workflow where name = arg_text(p_args, 'workflow') for no key update;
	if not found then
		perform fail('HP404', format('there is no workflow "%s"', p_args ->> 'workflow'), 'holdpoint deploy makes one.');
	end if;
	return v;
end $$;

-- Runs that have begun go on: they are paused with pause, one by one or in bulk.
create function holdpoint.door_workflow_pause(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_reason text := arg_reason(p_args);
	w workflow := find_workflow(p_args);
begin
	if w.paused_at is not null then
		perform fail('HP409', format('workflow "%s" is paused already, since %s by %s: %s', w.name, say_time(w.paused_at),
			w.paused_by, w.paused_reason));
	end if;
	update workflow set paused_at = now_us(), paused_by = p_principal, paused_reason = v_reason where name = w.name;
	return jsonb_build_object('workflow', w.name, 'paused', true);
end $$;

-- Those that started meanwhile go on, at most `limit` in one call; `more`: call again.
-- Stopped half-way, it is called again, too.
create function holdpoint.door_workflow_resume(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_limit int := arg_limit(p_args);
	v_now bigint;
	v_n int := 0;
	v_more boolean;
	s run_state;
	w workflow := find_workflow(p_args);
begin
	v_now := now_us();
	v_more := exists (select from paused where workflow = w.name);
	if w.paused_at is null and not v_more then
		perform fail('HP409', format('workflow "%s" is not paused', w.name));
	end if;
	update workflow set paused_at = null, paused_by = null, paused_reason = null where name = w.name and paused_at is not null;
	for s in select r.* from run_state r where r.run_id in (select p.run_id from paused p where p.workflow = w.name
			order by p.run_id limit v_limit) order by r.run_id for no key update loop
		if exists (select from paused where run_id = s.run_id) then -- nobody was faster
			perform resume_run(s, p_principal, format('workflow %s goes on', w.name), v_now);
			v_n := v_n + 1;
		end if;
	end loop;
	return jsonb_build_object('workflow', w.name, 'paused', false, 'resumed', v_n,
		'more', exists (select from paused where workflow = w.name));
end $$;

reset role;
