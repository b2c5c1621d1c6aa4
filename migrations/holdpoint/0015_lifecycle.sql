-- 0015: what operators do to runs on their way: pause and resume, retry from a state,
-- move to another version of the workflow; all of it also in bulk.
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

-- ---- the graph, as the summary of a definition says it ----

create function holdpoint.states_of(p_digest bytea) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select d.summary -> 'states' from definition d where d.digest = p_digest
$$;

create function holdpoint.state_index(p_states jsonb, p_name text) returns int
language sql immutable set search_path = holdpoint, pg_temp as $$
	select (x.n - 1)::int from jsonb_array_elements(p_states) with ordinality x(s, n) where x.s ->> 'name' = p_name
$$;

-- The states that can be reached from p_from without going beyond one of p_walls. Of
-- p_savers only those ways count on which a state saves nothing.
create function holdpoint.reach(p_states jsonb, p_from int, p_walls int[], p_savers int[] default '{}') returns int[]
language sql immutable set search_path = holdpoint, pg_temp as $$
	with recursive s as materialized (
		select n::int - 1 as i, x ->> 'name' as name, x from jsonb_array_elements(p_states) with ordinality e(x, n)
	), edge as materialized (
		select s.i as a, t.i as b, w ->> 'label' as label
		from s, jsonb_array_elements(coalesce(s.x -> 'ways', '[]')) w join s t on t.name = w ->> 'to'
	), seen (i) as (
		select p_from
		union
		select e.b from seen join edge e on e.a = seen.i
		where seen.i <> all(p_walls)
			and (seen.i <> all(p_savers) or e.label ~ '^(catch |none$|timeout$|expired$)')
	)
	select array_agg(i) from seen
$$;

create function holdpoint.is_effect(p_state jsonb) returns boolean
language sql immutable set search_path = holdpoint, pg_temp as $$
	select p_state ->> 'kind' not in ('choose', 'approval', 'wait', 'await', 'succeed', 'fail')
		and not coalesce((p_state ->> 'read')::boolean, false)
$$;

-- What the run has done: the visits of its effects, by the names its states have now.
create function holdpoint.effects_done(p_run bigint, p_map jsonb) returns table (o_name text, o_visit int)
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(p_map ->> x.name, x.name), x.visit from (
		select distinct state_name(digest_at(h.run_id, h.rev), case when h.flags & 2 <> 0 then h.from_state else h.state end) as name,
			case when h.flags & 2 <> 0 then h.from_visit else h.visit end as visit
		from history h where h.run_id = p_run and h.flags & 3 <> 0) x
$$;

-- A yes is for one doing. An effect behind an approval that always asks must not be
-- done from p_from on without passing it, unless its yes is there and was not used.
-- p_visit: goes on as it is (a retry of it uses the same yes); p_signed: the approval
-- whose signed request waits to be sent. Null, or {effect, approval}.
create function holdpoint.unsigned_effect(p_run bigint, p_states jsonb, p_from int, p_map jsonb, p_visit int, p_signed text)
returns text[]
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_asks int[] := array(select (n - 1)::int from jsonb_array_elements(p_states) with ordinality x(s, n)
		where s ->> 'kind' = 'approval' and s ->> 'asks' = 'always');
	v_free jsonb := '{}'; -- approval → what can be reached without it
	v_next jsonb := '{}'; -- … from p_from on
	v_name text;
	v_guard text;
	v_yes int;
	a int;
	d int;
begin
	foreach a in array v_asks loop
		v_free := v_free || jsonb_build_object(a, to_jsonb(reach(p_states, 0, array[a])));
		v_next := v_next || jsonb_build_object(a, to_jsonb(reach(p_states, p_from, array[a])));
	end loop;
	foreach d in array reach(p_states, p_from, '{}') loop
		continue when not is_effect(p_states -> d);
		v_name := p_states -> d ->> 'name';
		foreach a in array v_asks loop
			v_guard := p_states -> a ->> 'name';
			continue when v_free -> a::text @> to_jsonb(d) or not v_next -> a::text @> to_jsonb(d);
			continue when p_states -> a ->> 'of' = v_name and p_signed = v_guard;
			select max(y.visit) into v_yes from approval y where y.run_id = p_run and y.status = 'approved'
				and coalesce(p_map ->> y.state_name, y.state_name) = v_guard;
			if p_states -> a ->> 'of' = v_name or v_yes is null or exists (select from effects_done(p_run, p_map) e
					where e.o_name = v_name and e.o_visit > v_yes and e.o_visit <> p_visit) then
				return array[v_name, v_guard];
			end if;
		end loop;
	end loop;
	return null;
end $$;

-- A name that every way to p_at saves, but this run has not. Null, or {name, state}.
create function holdpoint.missing_value(p_run bigint, p_states jsonb, p_at int) returns text[]
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_savers int[];
	v_name text;
begin
	for v_name, v_savers in
			select s ->> 'save', array_agg((n - 1)::int order by n) from jsonb_array_elements(p_states) with ordinality x(s, n)
			where s ? 'save' and s ->> 'asks' is distinct from 'sometimes'
				and not exists (select from saved v where v.run_id = p_run and v.name = s ->> 'save') group by 1 order by 1 loop
		if p_at <> all(reach(p_states, 0, '{}', v_savers)) then
			return array[v_name, p_states -> v_savers[1] ->> 'name'];
		end if;
	end loop;
	return null;
end $$;

-- ---- retry from a state ----

-- Nobody has it in hand and nothing of it is in the air.
create function holdpoint.check_rests(s holdpoint.run_state) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	perform check_lives(s);
	if s.unresolved or (s.status <> 3 and s.phase in (2, 4, 5)) then
		perform fail('HP409', format('run %s may have an effect in the air: whether attempt %s of state "%s" happened is not known',
			s.run_id, s.attempt, state_name(run_digest(s.run_id), s.state)),
			'Let it find out, or retry or skip that state first: holdpoint why says where it stands.');
	end if;
	if unwinds(s.run_id) then
		perform fail('HP409', format('run %s is being unwound, and only goes back', s.run_id));
	end if;
	if s.phase > 6 then
		perform fail('HP409', format('run %s is %s: that must end first', s.run_id, phase_name(s.phase)));
	end if;
	if s.status <> 3 and s.phase = 6 and state_summary(run_digest(s.run_id), s.state) ->> 'kind' not in ('approval', 'wait', 'await') then
		perform fail('HP409', format('what run %s has begun in state "%s" must end first', s.run_id,
			state_name(run_digest(s.run_id), s.state)));
	end if;
	if is_owned(s.run_id) then
		perform fail('HP409', format('run %s is in the hands of an engine', s.run_id),
			format('holdpoint pause %s stops it at its next step; then ask again.', s.run_id));
	end if;
	if s.command <> 0 then
		perform fail('HP409', format('run %s has been told to %s already', s.run_id, command_name(s.command)));
	end if;
end $$;

-- May the run go on from that state of p_states? Raises when not. Gives the effects
-- that it has done and would do again.
create function holdpoint.check_restart(s holdpoint.run_state, p_states jsonb, p_name text, p_map jsonb) returns text[]
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_to int := state_index(p_states, p_name);
	v text[];
begin
	if v_to is null then
		perform fail('HP404', format('its workflow has no state "%s"', p_name),
			'States are ' || (select string_agg(x ->> 'name', ', ') from jsonb_array_elements(p_states) x) || '.');
	end if;
	if not exists (select from (select distinct h.state, digest_at(h.run_id, h.rev) as digest from history h
			where h.run_id = s.run_id) x where coalesce(p_map ->> state_name(x.digest, x.state), state_name(x.digest, x.state)) = p_name) then
		perform fail('HP409', format('run %s has never been in state "%s"', s.run_id, p_name),
			'It can only go back to where it was.');
	end if;
	v := unsigned_effect(s.run_id, p_states, v_to, p_map, 0, null);
	if v is not null then
		perform fail('HP409', format('from state "%s" on run %s would do "%s" without a new yes of approval "%s"', p_name,
			s.run_id, v[1], v[2]), format('Let it go on from "%s": then it asks again.', v[2]));
	end if;
	return array(select distinct e.o_name from effects_done(s.run_id, p_map) e
		where state_index(p_states, e.o_name) = any(reach(p_states, v_to, '{}'))
			and is_effect(p_states -> state_index(p_states, e.o_name)) order by 1);
end $$;

create function holdpoint.check_again(p_run bigint, p_name text, p_again text[], p_args jsonb) returns void
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
begin
	if cardinality(p_again) > 0 and p_args -> 'again' is distinct from 'true' then
		perform fail('HP409', format('run %s has done %s, and would do it again from state "%s" on, under new keys', p_run,
			'"' || array_to_string(p_again, '", "') || '"', p_name),
			'Say that it is meant: --yes (in the API: "again": true).');
	end if;
end $$;

create function holdpoint.door_restart(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_name text := arg_text(p_args, 'state', true, 64);
	v_reason text := arg_reason(p_args);
	v_states jsonb;
	v_again text[];
	v_now bigint;
	v run_state;
begin
	v := lock_run(v_run);
	v_now := now_us();
	perform check_rests(v);
	if v.status <> 3 and not v.pause then
		perform fail('HP409', format('run %s is neither held nor paused, it is %s', v_run, status_name(v.status)),
			format('holdpoint pause %s first.', v_run));
	end if;
	v_states := states_of(run_digest(v_run));
	v_again := check_restart(v, v_states, v_name, '{}');
	perform check_again(v_run, v_name, v_again, p_args);
	update run_state set rev = rev + 1, command = 5, command_value = to_jsonb(state_index(v_states, v_name)) where run_id = v_run;
	perform note_door(v, true, 12::smallint, 'restart', v_reason, p_principal,
		jsonb_build_object('state', v_name, 'again', to_jsonb(v_again)), v_now);
	if not v.pause then
		perform wake(array[v_run], v_now);
	end if;
	return jsonb_build_object('run', v_run, 'state', v_name, 'again', to_jsonb(v_again), 'paused', v.pause);
end $$;

-- ---- another version ----

-- "current", or the first letters of a digest of this workflow.
create function holdpoint.find_version(p_workflow text, p_to text) returns bytea
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v bytea[];
begin
	if p_to = 'current' then
		return (select digest from workflow where name = p_workflow);
	end if;
	if p_to !~ '^[0-9a-f]{8,64}$' then
		perform fail('HP400', format('"%s" is no version', p_to), 'It is "current", or the first 8 or more letters of a digest.');
	end if;
	v := array(select digest from definition where workflow = p_workflow and encode(digest, 'hex') like p_to || '%');
	if cardinality(v) <> 1 then
		perform fail(case cardinality(v) when 0 then 'HP404' else 'HP409' end, format('workflow "%s" has %s version %s', p_workflow,
			case cardinality(v) when 0 then 'no' else 'more than one' end, p_to));
	end if;
	return v[1];
end $$;

-- Old names → new names. Those of the new version must exist; who is not named keeps
-- its name.
create function holdpoint.arg_map(p_args jsonb, p_states jsonb) returns jsonb
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v jsonb := coalesce(nullif(p_args -> 'map', 'null'), '{}');
	v_from text;
	v_to text;
begin
	if jsonb_typeof(v) <> 'object' then
		perform fail('HP400', '"map" must be an object: old state → new state');
	end if;
	for v_from, v_to in select key, value from jsonb_each_text(v) loop
		if v_to is null or state_index(p_states, v_to) is null then
			perform fail('HP400', format('map: the version has no state "%s" for "%s"', v_to, v_from));
		end if;
	end loop;
	return v;
end $$;

-- May the run, as it is, follow that version? Null: it may; else the sentence says why
-- not. o_state: where it will stand; o_anew: that state is entered anew.
create function holdpoint.look_move(s holdpoint.run_state, p_to bytea, p_map jsonb, out o_state int, out o_anew boolean,
	out o_sentence text)
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_from bytea := run_digest(s.run_id);
	v_states jsonb := states_of(p_to);
	v_old jsonb := state_summary(v_from, s.state);
	v_new jsonb;
	v_signed text;
	v text[];
begin
	o_state := state_index(v_states, coalesce(p_map ->> (v_old ->> 'name'), v_old ->> 'name'));
	v_new := v_states -> o_state;
	o_anew := s.phase = 6 and s.status <> 3 and (v_old ->> 'kind' = 'approval' or found_arms(s) is not null
		or v_old -> 'events' is distinct from v_new -> 'events');
	if unwinds(s.run_id) then -- 0012
		o_sentence := 'it is being unwound, and only goes back';
	elsif v_from = p_to then
		o_sentence := 'it follows this version already';
	elsif o_state is null then
		o_sentence := format('its state "%s" is not in that version: say which one it is now with --map %1$s=STATE', v_old ->> 'name');
	elsif v_old ->> 'kind' <> v_new ->> 'kind' then
		o_sentence := format('its state "%s" is of kind %s, and "%s" of that version is of kind %s', v_old ->> 'name',
			v_old ->> 'kind', v_new ->> 'name', v_new ->> 'kind');
	end if;
	if o_sentence is not null then
		return;
	end if;
	if s.signed_visit > 0 then
		select coalesce(p_map ->> a.state_name, a.state_name) into v_signed from approval a
			where a.run_id = s.run_id and a.visit = s.signed_visit;
		v_old := state_summary(v_from, s.signed_for);
		if v_states -> state_index(v_states, coalesce(p_map ->> (v_old ->> 'name'), v_old ->> 'name')) ->> 'kind' is distinct from 'call' then
			o_sentence := format('what was signed is for its state "%s", and that is no call of that version', v_old ->> 'name');
			return;
		end if;
	end if;
	v := unsigned_effect(s.run_id, v_states, o_state, p_map, s.visit, v_signed);
	if v is not null then
		o_sentence := format('in that version "%s" is done only after approval "%s", and this run has no yes for it', v[1], v[2]);
		return;
	end if;
	v := missing_value(s.run_id, v_states, o_state);
	if v is not null then
		o_sentence := format('in that version every way to "%s" saves "%s" (in state "%s"), and this run has no such value',
			v_new ->> 'name', v[1], v[2]);
	end if;
end $$;

-- Writes it. The run's next claim loads the new definition.
create function holdpoint.put_move(s holdpoint.run_state, p_to bytea, p_state int, p_anew boolean, p_principal text,
	p_reason text, p_detail jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_from bytea := run_digest(s.run_id);
	v_signs text := state_summary(v_from, s.signed_for) ->> 'name'; -- look_move has seen that it is there
begin
	update run_state set rev = rev + 1, digest = p_to, state = p_state,
		signed_for = case when signed_visit > 0
			then state_index(states_of(p_to), coalesce(p_detail -> 'map' ->> v_signs, v_signs)) else 0 end,
		phase = case when p_anew then 1 else phase end, due_at = case when p_anew then 0 else due_at end,
		command = case when p_anew then 5 else 0 end, command_value = case when p_anew then to_jsonb(p_state) end
		where run_id = s.run_id;
	insert into run_version (run_id, rev, visit, digest, at, by, reason)
		values (s.run_id, s.rev + 1, s.visit, p_to, p_now, p_principal, p_reason);
	insert into history (run_id, rev, at, move, from_state, from_visit, state, visit, phase, status, attempt, due_at, flags,
			outcome, message, actor, detail)
		select s.run_id, n.rev, p_now, 17, s.state, s.visit, n.state, n.visit, n.phase, n.status, n.attempt, n.due_at, 0, 0,
			p_reason, p_principal, p_detail || jsonb_build_object('from', encode(v_from, 'hex'), 'to', encode(p_to, 'hex'))
		from run_state n where n.run_id = s.run_id;
	if p_anew then -- what was asked under the old version is not decided under the new one
		delete from arm_state where run_id = s.run_id;
		update approval set status = 'cancelled', decided_at = p_now where run_id = s.run_id and status = 'open';
		delete from timer where run_id = s.run_id;
		if not s.pause then
			perform wake(array[s.run_id], p_now);
		end if;
	end if;
end $$;

create function holdpoint.door_move(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_reason text := arg_reason(p_args);
	v_at text := arg_text(p_args, 'at', false, 64);
	v_states jsonb;
	v_again text[] := '{}';
	v_to bytea;
	v_map jsonb;
	v run_state;
	m record;
begin
	v := lock_run(v_run);
	v_to := find_version((select workflow from run where id = v_run), arg_text(p_args, 'to', true, 64));
	v_states := states_of(v_to);
	v_map := arg_map(p_args, v_states);
	perform check_rests(v);
	if v_at is null then
		select * into m from look_move(v, v_to, v_map);
		if m.o_sentence is not null then
			perform fail('HP409', format('run %s cannot be moved: %s', v_run, m.o_sentence));
		end if;
	else
		if v.status <> 3 and not v.pause then
			perform fail('HP409', format('run %s is neither held nor paused, it is %s', v_run, status_name(v.status)),
				format('holdpoint pause %s first.', v_run));
		end if;
		v_again := check_restart(v, v_states, v_at, v_map);
		perform check_again(v_run, v_at, v_again, p_args);
		if missing_value(v_run, v_states, state_index(v_states, v_at)) is not null then
			perform fail('HP409', format('run %s cannot be moved: every way to "%s" saves "%s" before, and this run has no such value',
				v_run, v_at, (missing_value(v_run, v_states, state_index(v_states, v_at)))[1]));
		end if;
		update run_state set signed_visit = 0 where run_id = v_run; -- what was signed for the old one is not sent
		select state_index(v_states, v_at) as o_state, true as o_anew, null::text as o_sentence into m;
	end if;
	perform put_move(v, v_to, m.o_state, m.o_anew, p_principal, v_reason,
		jsonb_strip_nulls(jsonb_build_object('at', v_at, 'map', nullif(v_map, '{}'))), now_us());
	return jsonb_build_object('run', v_run, 'to', encode(v_to, 'hex'), 'state', v_states -> m.o_state ->> 'name', 'anew', m.o_anew,
		'again', to_jsonb(v_again));
end $$;

-- ---- in bulk ----

create function holdpoint.bulk_one(p_principal text, p_action text, p_args jsonb) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	case p_action
		when 'cancel' then perform door_cancel(p_principal, p_args);
		when 'pause' then perform door_pause(p_principal, p_args);
		when 'resume' then perform door_resume(p_principal, p_args);
		when 'restart' then perform door_restart(p_principal, p_args);
		when 'move' then perform door_move(p_principal, p_args);
		else perform door_operate(p_principal, p_args || jsonb_build_object('action', p_action));
	end case;
end $$;

-- Up to 20 000 runs are looked at in one call; up to `limit` of those that fit are acted upon.
create function holdpoint.bulk_page(p_args jsonb, out o_runs bigint[], out o_last bigint, out o_more boolean)
language plpgsql stable set search_path = holdpoint, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
	c_look constant int := 20000;
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 0);
	v_workflow text := arg_text(p_args, 'workflow', false);
	v_state text := arg_text(p_args, 'state', false);
	v_code text := arg_text(p_args, 'code', false);
	v_status text := arg_text(p_args, 'status', false);
	v_since bigint := coalesce(parse_time(p_args ->> 'since'), 0);
	v_until bigint := coalesce(parse_time(p_args ->> 'until'), 9223372036854775807);
	v_number smallint := status_number(v_status);
	v_looked int;
begin
	if coalesce(v_workflow, v_state, v_code, v_status, p_args ->> 'since', p_args ->> 'until') is null then
		perform fail('HP400', 'say which runs are meant', 'Give a workflow, status, state, code, since or until.');
	end if;
	if v_status is not null and v_status <> 'paused' and coalesce(v_number, 9) > 3 then
		perform fail('HP400', format('"%s" is no status of runs that live', v_status), 'Those are running, waiting, held and paused.');
	end if;
	with looked as materialized (
		select r.id, r.created_at from run r where r.id > v_after and (v_workflow is null or r.workflow = v_workflow)
			and (v_status is distinct from 'held' or r.id in (select h.run_id from held h))
			and (v_status is distinct from 'paused' or r.id in (select p.run_id from paused p))
		order by r.id limit c_look
	), fits as (
		select l.id from looked l join run_state s on s.run_id = l.id
		where s.status <= 3 and (v_number is null or s.status = v_number) and (v_code is null or s.code = v_code)
			and l.created_at >= v_since and l.created_at < v_until
			and (v_state is null or state_name(run_digest(l.id), s.state) = v_state)
		order by l.id limit v_limit
	)
	select array(select f.id from fits f order by f.id), (select count(*) from looked), (select max(l.id) from looked l)
		into o_runs, v_looked, o_last;
	if cardinality(o_runs) = v_limit then
		o_last := o_runs[v_limit];
		o_more := true;
	else
		o_more := v_looked = c_look;
	end if;
end $$;

-- The locks of those runs that nobody else has just now, in the one order, before
-- anything is done to any of them: each door goes on to ready and timer.
create function holdpoint.lock_free_runs(p_runs bigint[]) returns bigint[]
language sql set search_path = holdpoint, pg_temp as $$
	select array(select s.run_id from run_state s where s.run_id = any(p_runs) order by s.run_id for no key update skip locked)
$$;

create function holdpoint.locked_sentence(p_run bigint) returns text
language sql immutable as $$
	select format('run %s is being written by somebody else just now: ask again', p_run)
$$;

-- Each run by its own door: what one of them refuses stops no other. With dry_run
-- everything is tried and taken back.
create function holdpoint.door_bulk(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_action text := arg_text(p_args, 'action');
	v_dry boolean := p_args -> 'dry_run' is not distinct from 'true';
	v_reason text := case when v_action = 'resume' and p_args ->> 'reason' is null then null else arg_reason(p_args) end;
	v_results jsonb := '[]';
	v_done int := 0;
	v_sentence text;
	v_free bigint[];
	v_run bigint;
	v_page record;
begin
	if v_action not in ('cancel', 'pause', 'resume', 'retry', 'skip', 'undo', 'give_up', 'restart', 'move') then
		perform fail('HP400', format('there is no action "%s"', v_action),
			'Actions are cancel, pause, resume, retry, skip, undo, give_up, restart and move.');
	end if;
	if v_action in ('move', 'restart') then
		perform arg_text(p_args, case v_action when 'move' then 'to' else 'from' end, true, 64);
	end if;
	select * into v_page from bulk_page(p_args);
	v_free := lock_free_runs(v_page.o_runs);
	foreach v_run in array v_page.o_runs loop
		v_sentence := null;
		begin
			if v_run <> all(v_free) then
				raise exception using errcode = 'lock_not_available';
			end if;
			perform bulk_one(p_principal, v_action, jsonb_strip_nulls(jsonb_build_object('run', v_run, 'reason', v_reason,
				'value', p_args -> 'value', 'to', p_args -> 'to', 'map', p_args -> 'map', 'at', p_args -> 'at',
				'state', p_args -> 'from', 'again', p_args -> 'again')));
			if v_dry then
				raise exception using errcode = 'HP001';
			end if;
			v_done := v_done + 1;
		exception
			when sqlstate 'HP001' then
				v_done := v_done + 1;
			when sqlstate 'HP409' or sqlstate 'HP404' or sqlstate 'HP403' or sqlstate 'HP400' then
				v_sentence := sqlerrm;
			when lock_not_available or deadlock_detected then
				v_sentence := locked_sentence(v_run);
		end;
		v_results := v_results || jsonb_strip_nulls(jsonb_build_object('run', v_run,
			'outcome', case when v_sentence is null then 'done' else 'refused' end, 'sentence', v_sentence));
	end loop;
	return jsonb_build_object('action', v_action, 'dry_run', v_dry, 'results', v_results, 'done', v_done,
		'refused', jsonb_array_length(v_results) - v_done)
		|| case when v_page.o_more then jsonb_build_object('next', v_page.o_last) else '{}' end;
end $$;

-- ---- deploying beside runs that live ----

-- Which versions live runs of a workflow follow, and in which states they are. The
-- newest 200 000 runs are looked at; `at_least`: there are older ones.
create function holdpoint.door_versions(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
	c_look constant int := 200000;
	v_workflow text := arg_text(p_args, 'workflow');
	v_current bytea := (select digest from workflow where name = v_workflow);
	v jsonb;
	v_looked int;
begin
	with looked as materialized (
		select r.id, r.digest from run r where r.workflow = v_workflow order by r.id desc limit c_look
	), live as (
		select coalesce(s.digest, l.digest) as digest, s.state, count(*) as n
		from looked l join run_state s on s.run_id = l.id where s.status <= 3 group by 1, 2
	), version as (
		select digest, sum(n)::bigint as runs, jsonb_object_agg(state_name(digest, state), n) as states from live group by 1
	)
	select coalesce(jsonb_agg(jsonb_build_object('digest', encode(digest, 'hex'), 'current', digest = v_current, 'runs', runs,
			'states', states) order by digest), '[]'), (select count(*) from looked) into v, v_looked from version;
	return jsonb_build_object('workflow', v_workflow, 'versions', v) || case when v_looked = c_look
		then jsonb_build_object('at_least', true) else '{}' end;
end $$;

-- Makes it the current definition and moves every live run to it, or does nothing of
-- both and says which runs it would strand. Of a workflow with more runs than can be
-- looked at, it does nothing either: which of the older ones live is not known.
create function holdpoint.door_deploy_live(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
	c_most constant int := 2000;
	c_look constant int := 200000;
	v_workflow text := arg_text(p_args, 'workflow', true, 64);
	v_hex text := arg_text(p_args, 'digest', true, 64);
	v_reason text := arg_reason(p_args);
	v_stranded jsonb := '[]';
	v_moved int := 0;
	v_runs bigint[];
	v_free bigint[];
	v_run bigint;
begin
	if exists (select from run where workflow = v_workflow order by id offset c_look) then
		perform fail('HP409', format('workflow "%s" has more than %s runs: which of them live cannot be looked up at once',
			v_workflow, c_look), 'Deploy alone, and move them in pages: holdpoint bulk move.');
	end if;
	perform deploy(v_workflow, decode(v_hex, 'hex'), p_args ->> 'bundle', p_args -> 'summary');
	v_runs := array(select r.id from run r join run_state s on s.run_id = r.id where r.workflow = v_workflow
		and s.status <= 3 and coalesce(s.digest, r.digest) <> decode(v_hex, 'hex') order by r.id limit c_most + 1);
	if cardinality(v_runs) > c_most then
		perform fail('HP409', format('more than %s live runs follow other versions', c_most),
			'Deploy alone, and move them in pages: holdpoint bulk move.');
	end if;
	v_free := lock_free_runs(v_runs);
	foreach v_run in array v_runs loop
		begin
			if v_run <> all(v_free) then
				raise exception using errcode = 'lock_not_available';
			end if;
			perform door_move(p_principal, jsonb_strip_nulls(jsonb_build_object('run', v_run, 'to', v_hex, 'reason', v_reason,
				'map', p_args -> 'map')));
			v_moved := v_moved + 1;
		exception
			when sqlstate 'HP409' then
				v_stranded := v_stranded || jsonb_build_object('run', v_run, 'sentence', sqlerrm);
			when lock_not_available or deadlock_detected then
				v_stranded := v_stranded || jsonb_build_object('run', v_run, 'sentence', locked_sentence(v_run));
		end;
	end loop;
	if p_args -> 'dry_run' is distinct from 'true' and v_stranded <> '[]' then
		perform fail('HP409', format('nothing was deployed: %s of %s live runs would be stranded: %s%s',
			jsonb_array_length(v_stranded), cardinality(v_runs),
			(select string_agg(x ->> 'run', ', ' order by n) from jsonb_array_elements(v_stranded) with ordinality e(x, n) where n <= 20),
			case when jsonb_array_length(v_stranded) > 20 then ', …' else '' end)
			|| format('. The first: %s', v_stranded -> 0 ->> 'sentence'),
			'holdpoint deploy --move-live --dry-run says it of each. Deploy without --move-live, and they stay with their version.');
	end if;
	return jsonb_build_object('workflow', v_workflow, 'digest', v_hex, 'moved', v_moved, 'stranded', v_stranded);
end $$;

-- The same, taken back.
create function holdpoint.door_try_deploy_live(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v jsonb;
begin
	v := door_deploy_live(p_principal, p_args || '{"dry_run": true}');
	raise exception using errcode = 'HP001';
exception when sqlstate 'HP001' then
	return v;
end $$;

reset role;
