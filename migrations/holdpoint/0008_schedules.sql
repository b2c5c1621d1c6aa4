-- 0008: schedules. A tick (a UTC instant) starts exactly one run.
--
-- Times are computed by the engines (core/schedule.c), not here: any engine asks
-- schedules_due, works out what to start, and writes it with schedule_fire. The
-- schedule's row is the only mutex: schedule_fire takes it with SKIP LOCKED and
-- changes it only when `version` is the one that was seen, so of several engines one
-- wins, and the tick's row, its run and the new position are one commit. Nothing is
-- lost while no engine is there: position stays where it was.

set local role holdpoint_owner;

create table holdpoint.schedule (
	workflow text not null,
	idx int not null,             -- place among the workflow's schedules, from 1
	spec jsonb not null,          -- as the definition's summary says it
	position bigint not null,     -- settled up to this instant
	version int not null default 0,
	look_at bigint,               -- null: nothing to do (paused, or no tick any more)
	ahead bigint[] not null default '{}', -- next ticks as last computed, for people
	planned boolean not null default false,
	paused_at bigint,
	paused_by text,
	paused_reason text,
	last_tick bigint,
	last_run bigint,
	late_us bigint not null default 0,  -- of the last tick that started a run
	started bigint not null default 0,
	skipped bigint not null default 0,
	primary key (workflow, idx)
) with (fillfactor = 50);
create index schedule_look on holdpoint.schedule (look_at) where look_at is not null;

-- outcome: started, manual; skipped: overlap, disabled, missed (how many: n, tick: up to which)
create table holdpoint.schedule_tick (
	workflow text not null,
	idx int not null,
	tick bigint not null,
	outcome text not null,
	n bigint not null default 1,
	run_id bigint,
	at bigint not null,
	primary key (workflow, idx, tick)
);

create function holdpoint.schedule_name(p_workflow text, p_idx int) returns text
language sql immutable set search_path = holdpoint, pg_temp as $$
	select p_workflow || case when p_idx > 1 then ':' || p_idx else '' end
$$;

create function holdpoint.run_lives(p_run bigint) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from run_state where run_id = p_run and status <= 3)
$$;

-- ---- deploying ----

-- Called by deploy(). The summary's schedules become rows. One whose times are as before keeps its
-- position; new or changed times begin now; one that is gone ends.
create function holdpoint.put_schedules(p_workflow text, p_summary jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_specs jsonb := coalesce(p_summary -> 'schedules', '[]');
begin
	delete from schedule where workflow = p_workflow and idx > jsonb_array_length(v_specs);
	insert into schedule as s (workflow, idx, spec, position, look_at, started)
		-- one that comes again has its ticks of before it was gone
		select p_workflow, x.n, x.spec, p_now, p_now, case when exists (select from schedule o where o.workflow = p_workflow and o.idx = x.n)
			then 0 else (select count(*) from schedule_tick k
				where k.workflow = p_workflow and k.idx = x.n and k.outcome in ('started', 'manual')) end
		from jsonb_array_elements(v_specs) with ordinality x(spec, n)
		on conflict (workflow, idx) do update set spec = excluded.spec, version = s.version + 1,
			position = case when s.spec -> 'cron' = excluded.spec -> 'cron' and s.spec -> 'zone' = excluded.spec -> 'zone'
				then s.position else p_now end,
			planned = false, look_at = case when s.paused_at is null then p_now end
		where s.spec <> excluded.spec;
end $$;

-- ---- for engines ----

create function holdpoint.door_schedules_due(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	with t as materialized (select now_us() as now)
	select jsonb_build_object('now', t.now,
		'next', (select min(look_at) from schedule where look_at > t.now),
		'schedules', coalesce((select jsonb_agg(jsonb_build_object('workflow', s.workflow, 'index', s.idx,
			'schedule', schedule_name(s.workflow, s.idx), 'version', s.version, 'spec', s.spec, 'position', s.position,
			'busy', run_lives(s.last_run), 'idle_since', coalesce((select h.at from history h
				where h.run_id = s.last_run order by h.rev desc limit 1), 0)))
			from (select * from schedule where look_at <= t.now
				order by look_at, workflow, idx limit arg_limit(p_args)) s), '[]'))
	from t
$$;

-- May this tick start a run? Under the schedule's lock. Null: yes.
create function holdpoint.schedule_obstacle(s holdpoint.schedule, p_now bigint) returns text
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v run_state;
begin
	if not exists (select from workflow where name = s.workflow and enabled) then
		return 'disabled';
	end if;
	if s.last_run is null or s.spec ->> 'overlap' = 'allow' then
		return null;
	end if;
	select * into v from run_state where run_id = s.last_run for no key update;
	if not found or v.status > 3 then
		return null;
	end if;
	if s.spec ->> 'overlap' <> 'cancel' then
		return 'overlap';
	end if;
	if v.cancel or unwinds(s.last_run) then
		return null; -- it ends already, and to ask twice is a person's answer to what is held
	end if;
	perform door_cancel('schedule:' || schedule_name(s.workflow, s.idx), jsonb_build_object('run', s.last_run,
		'reason', 'the next tick of its schedule has come'));
	return null;
end $$;

create function holdpoint.schedule_start(s holdpoint.schedule, p_tick bigint, p_by text, p_now bigint) returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v record;
begin
	select * into v from start_run(s.workflow, (s.spec -> 'input') || jsonb_build_object('tick', json_time(p_tick)),
		null, p_by, null, null, p_now);
	return v.o_run;
end $$;

create function holdpoint.door_schedule_fire(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
	v_missed bigint := arg_int(p_args, 'skipped', 0);
	v_obstacle text;
	v_tick bigint;
	v_run bigint;
	v_runs bigint[] := '{}';
	s schedule;
begin
	select * into s from schedule where workflow = arg_text(p_args, 'workflow') and idx = arg_int(p_args, 'index')
		and version = arg_int(p_args, 'version') and paused_at is null for update skip locked;
	if not found then
		return jsonb_build_object('outcome', 'taken', 'now', v_now); -- by another engine, or changed by people
	end if;
	for v_tick in select x::bigint from jsonb_array_elements_text(p_args -> 'start') x loop
		v_obstacle := schedule_obstacle(s, v_now);
		if v_obstacle = 'overlap' and s.spec ->> 'overlap' = 'queue' then
			return jsonb_build_object('outcome', 'taken', 'now', v_now); -- it waits: nothing moves
		end if;
		insert into schedule_tick (workflow, idx, tick, outcome, at)
			values (s.workflow, s.idx, v_tick, coalesce(v_obstacle, 'started'), v_now) on conflict do nothing;
		continue when not found; -- this instant has had its run
		if v_obstacle is not null then
			s.skipped := s.skipped + 1;
			continue;
		end if;
		v_run := schedule_start(s, v_tick, 'schedule:' || schedule_name(s.workflow, s.idx), v_now);
		update schedule_tick set run_id = v_run where workflow = s.workflow and idx = s.idx and tick = v_tick;
		s.last_run := v_run;
		s.last_tick := v_tick;
		s.late_us := v_now - v_tick;
		s.started := s.started + 1;
		v_runs := v_runs || v_run;
	end loop;
	s.position := arg_int(p_args, 'position');
	if v_missed > 0 then
		insert into schedule_tick (workflow, idx, tick, outcome, n, at)
			values (s.workflow, s.idx, arg_int(p_args, 'missed_until'), 'missed', v_missed, v_now) on conflict do nothing;
	end if;
	update schedule x set position = s.position, version = s.version + 1, planned = true, last_run = s.last_run,
		last_tick = s.last_tick, late_us = s.late_us, started = s.started, skipped = s.skipped + v_missed,
		look_at = nullif(arg_int(p_args, 'look'), 0),
		ahead = array(select a::bigint from jsonb_array_elements_text(p_args -> 'ahead') a)
		where x.workflow = s.workflow and x.idx = s.idx;
	-- position forbids old ticks already; their rows are for people: a quarter is enough
	delete from schedule_tick where (workflow, idx, tick) in (select workflow, idx, tick from schedule_tick
		where workflow = s.workflow and idx = s.idx and tick < v_now - 7776000000000 order by tick limit 100);
	return jsonb_build_object('outcome', 'done', 'now', v_now, 'runs', to_jsonb(v_runs));
end $$;

-- ---- for people ----

create function holdpoint.schedule_times(p_ticks bigint[], p_max int) returns jsonb
language sql immutable set search_path = holdpoint, pg_temp as $$
	select coalesce(jsonb_agg(json_time(x.t) order by x.n), '[]')
	from (select * from unnest(p_ticks) with ordinality u(t, n) limit p_max) x
$$;

-- Why does it start nothing, or when will it?
create function holdpoint.schedule_sentence(s holdpoint.schedule, p_now bigint) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select case
	when s.paused_at is not null then format('Paused since %s by %s: %s. holdpoint schedules resume %s lets it go on.',
		say_time(s.paused_at), s.paused_by, s.paused_reason, schedule_name(s.workflow, s.idx))
	when not exists (select from workflow w where w.name = s.workflow and w.enabled) then
		format('Workflow %s is disabled, so its ticks start nothing.', s.workflow)
	when not exists (select from engine e where not e.dead and e.lease_until > p_now) then
		'No engine is alive to start its runs; catch_up says what becomes of the ticks meanwhile.'
	when not s.planned then 'It was just deployed or changed; an engine works out its ticks within ten seconds.'
	when s.look_at is null then 'It has no tick any more.'
	when s.spec ->> 'overlap' = 'queue' and s.ahead[1] <= p_now and run_lives(s.last_run) then
		format('The tick of %s waits for run %s, started by the tick before.', say_time(s.ahead[1]), s.last_run)
	when s.spec ->> 'overlap' = 'skip' and run_lives(s.last_run) then
		format('The next tick is %s; it is skipped if run %s is still going.', say_time(s.ahead[1]), s.last_run)
	else format('The next tick is %s.', say_time(s.ahead[1])) end
$$;

create function holdpoint.schedule_json(s holdpoint.schedule, p_ticks int, p_now bigint) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('schedule', schedule_name(s.workflow, s.idx), 'workflow', s.workflow,
		'index', s.idx, 'spec', s.spec, 'paused', s.paused_at is not null, 'paused_by', s.paused_by,
		'paused_at', json_time(s.paused_at), 'paused_reason', s.paused_reason, 'last_tick', json_time(s.last_tick),
		'last_run', s.last_run, 'last_status', (select status_name(r.status) from run_state r where r.run_id = s.last_run),
		'started', s.started, 'skipped', s.skipped, 'late_us', s.late_us, 'sentence', schedule_sentence(s, p_now),
		'next', schedule_times(case when s.paused_at is null and s.planned then s.ahead else '{}' end, p_ticks)))
$$;

create function holdpoint.door_schedules(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	with t as materialized (select now_us() as now)
	select jsonb_build_object('schedules', coalesce(jsonb_agg(schedule_json(s, 3, t.now) order by s.workflow, s.idx), '[]'))
	from schedule s, t where coalesce(s.workflow = arg_text(p_args, 'workflow', false), true)
$$;

create function holdpoint.find_schedule(p_args jsonb) returns holdpoint.schedule
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'schedule');
	v schedule;
begin
	select * into v from schedule where workflow = split_part(v_name, ':', 1)
		and schedule_name(workflow, idx) = v_name for no key update;
	if not found then
		perform fail('HP404', format('there is no schedule "%s"', v_name), 'holdpoint schedules lists them.');
	end if;
	return v;
end $$;

create function holdpoint.door_schedule(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_ticks bigint := arg_int(p_args, 'ticks', 10);
	v_now bigint := now_us();
	s schedule := find_schedule(p_args);
begin
	if v_ticks < 1 or v_ticks > 20 then
		perform fail('HP400', '"ticks" must be within 1 and 20');
	end if;
	return schedule_json(s, v_ticks::int, v_now) || jsonb_build_object('recent', (
		select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('tick', json_time(x.tick), 'outcome', x.outcome,
			'n', x.n, 'run', x.run_id, 'at', json_time(x.at))) order by x.tick desc), '[]')
		from (select * from schedule_tick t where t.workflow = s.workflow and t.idx = s.idx
			order by t.tick desc limit 10) x));
end $$;

create function holdpoint.door_schedule_pause(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_reason text := arg_reason(p_args);
	s schedule := find_schedule(p_args);
begin
	if s.paused_at is not null then
		perform fail('HP409', format('%s is paused already, since %s by %s', schedule_name(s.workflow, s.idx),
			say_time(s.paused_at), s.paused_by));
	end if;
	update schedule set paused_at = now_us(), paused_by = p_principal, paused_reason = v_reason, look_at = null,
		version = version + 1 where workflow = s.workflow and idx = s.idx returning * into s;
	return schedule_json(s, 3, now_us());
end $$;

-- What would have ticked in the pause is not caught up: somebody wanted it not to.
create function holdpoint.door_schedule_resume(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
	s schedule := find_schedule(p_args);
begin
	if s.paused_at is null then
		perform fail('HP409', format('%s is not paused', schedule_name(s.workflow, s.idx)));
	end if;
	update schedule set paused_at = null, paused_by = null, paused_reason = null, look_at = v_now, position = v_now,
		planned = false, version = version + 1 where workflow = s.workflow and idx = s.idx returning * into s;
	return schedule_json(s, 3, v_now);
end $$;

-- A run outside the row of ticks, also while paused and beside a run that lives. The
-- schedule's own next tick sees it as the previous run. Ticks are whole milliseconds,
-- so a moment that is none can never take the place of one.
create function holdpoint.door_schedule_run(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
	s schedule := find_schedule(p_args);
	v_tick bigint;
	v_run bigint;
begin
	v_tick := v_now - v_now % 1000 + 1;
	select greatest(max(t.tick) + 1, v_tick) into v_tick from schedule_tick t
		where t.workflow = s.workflow and t.idx = s.idx and t.tick >= v_tick and t.outcome = 'manual';
	v_run := schedule_start(s, v_tick, p_principal, v_now);
	insert into schedule_tick (workflow, idx, tick, outcome, run_id, at)
		values (s.workflow, s.idx, v_tick, 'manual', v_run, v_now);
	update schedule set last_run = v_run, version = version + 1, started = started + 1
		where workflow = s.workflow and idx = s.idx;
	return jsonb_build_object('schedule', schedule_name(s.workflow, s.idx), 'run', v_run);
end $$;

-- ---- numbers ----

create function holdpoint.metrics_schedules() returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('schedules', count(*),
		'schedules_paused', count(*) filter (where paused_at is not null), 'schedule_ticks_started', coalesce(sum(started), 0),
		'schedule_ticks_skipped', coalesce(sum(skipped), 0), 'schedule_late_us', coalesce(max(late_us), 0)) from schedule
$$;

reset role;
