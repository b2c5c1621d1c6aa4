-- 0007: why. For any run one sentence: what it waits for, since when, and who or
-- what can move it. One function per family of causes; no cause is "unknown".

set local role holdpoint_owner;

create type holdpoint.reason_why as (cause text, sentence text, until_us bigint);

create function holdpoint.why_final(s holdpoint.run_state) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	h history;
	c history;
begin
	select * into h from history x where x.run_id = s.run_id and x.move = 9 order by x.rev desc limit 1;
	if s.status = 4 then
		return ('succeeded', format('Run %s succeeded at %s.', s.run_id, say_time(h.at)), null)::reason_why;
	elsif s.status = 5 then
		return ('failed', format('Run %s failed at %s with code %s%s.', s.run_id, say_time(h.at),
			coalesce(s.code, 'failed'), coalesce(': ' || h.message, '')), null)::reason_why;
	end if;
	select * into c from history x where x.run_id = s.run_id and x.move = 12 and x.code = 'cancel'
		order by x.rev desc, x.seq desc limit 1;
	return ('cancelled', format('Run %s was cancelled at %s%s.', s.run_id, say_time(h.at),
		coalesce(case when c.run_id is not null then format(' by %s: %s', c.actor, c.message) end, (select format(' with run %s, which had started it', k.run_id)
			from child k where k.child = s.run_id and k.cancel limit 1), '')), null)::reason_why;
end $$;

create function holdpoint.why_ready(s holdpoint.run_state, p_since bigint, p_now bigint) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	if not exists (select from engine e where not e.dead and e.lease_until > p_now) then
		return ('no_engine', format('Run %s is ready since %s, but no engine is alive: start one.', s.run_id,
			say_time(p_since)), null)::reason_why;
	end if;
	return ('ready', format('Run %s is ready since %s and will be taken by the next free engine.', s.run_id,
		say_time(p_since)), null)::reason_why;
end $$;

create function holdpoint.why_owned(s holdpoint.run_state, p_state text, p_engine bigint, p_now bigint)
returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	e engine;
	v_who text;
begin
	select * into e from engine where id = p_engine;
	v_who := format('engine %s (host %s, process %s)', p_engine, e.host, e.pid);
	if e.id is null or e.dead or e.lease_until <= p_now then
		return ('owner_gone', format('Run %s was in the hands of %s, whose lease ran out at %s; it will be taken over by another engine.',
			s.run_id, v_who, say_time(coalesce(e.lease_until, 0))), null)::reason_why;
	end if;
	if s.phase = 2 then
		return ('in_flight', format('Run %s waits for the answer to attempt %s of state "%s", sent after %s by %s.',
			s.run_id, s.attempt, p_state, say_time(s.sent_at), v_who), null)::reason_why;
	end if;
	return ('owned', format('Run %s is in state "%s" since %s%s, in the hands of %s.', s.run_id, p_state,
		say_time(s.entered_at), case when s.has_annex then say_sweep(s) end, v_who), null)::reason_why;
end $$;

create function holdpoint.why_held(s holdpoint.run_state, p_state text) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	h history;
begin
	select * into h from history x where x.run_id = s.run_id and x.move = 8 order by x.rev desc limit 1;
	return ('held', format('Run %s is held in state "%s" since %s with code %s%s.%s An operator can %s.',
		s.run_id, p_state, say_time(h.at), coalesce(s.code, 'held'), coalesce(': ' || h.message, ''),
		case when s.unresolved then ' Whether its effect happened is not known: look at the provider first.' else '' end,
		case when unwinds(s.run_id) then 'retry, skip what was undone by hand, or give up'
			else 'retry' || case when state_summary(run_digest(s.run_id), s.state) ->> 'kind' = 'approval' then '' else ', skip' end
				|| case when s.has_annex and exists (select from undo_log l where l.run_id = s.run_id) then ', undo' else '' end
				|| ' or give up' end), null)::reason_why;
end $$;

create function holdpoint.why_approval(s holdpoint.run_state, a holdpoint.approval) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_voted text;
begin
	select string_agg(principal, ', ' order by at, principal) into v_voted from vote where approval_id = a.id;
	return ('approval', format('Run %s waits for approval %s by %s until %s%s: holdpoint approve %s --reason TEXT.', s.run_id,
		a.id, a.approvers, say_time(a.deadline_at), coalesce('; approved so far by ' || v_voted, ''), a.id), a.deadline_at)::reason_why;
end $$;

create function holdpoint.why_open(s holdpoint.run_state, p_state text) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	a approval;
	v_due bigint := case when s.has_annex then main_due(s) else s.due_at end; -- 0011
	v_until text := case when v_due > 0 then ' until ' || say_time(v_due) else '' end;
	v_waits text;
begin
	if s.phase = 10 then
		return why_children(s, p_state); -- 0010
	end if;
	select * into a from approval x where x.run_id = s.run_id and x.visit = s.visit and x.status = 'open';
	if found then
		return why_approval(s, a);
	end if;
	select string_agg(format('%s with key "%s"', w.name, w.key), ' or ' order by w.wait) into v_waits
		from mail_wait w where w.run_id = s.run_id and w.wait < coalesce( -- those of arms come after
			(state_summary(run_digest(s.run_id), s.state) ->> 'own_events')::int, w.wait + 1);
	if v_waits is not null then
		return ('event', format('Run %s waits in state "%s" for the event %s%s.', s.run_id, p_state, v_waits, v_until), v_due)::reason_why;
	end if;
	if s.has_annex and say_sweep(s) is not null then
		return ('sweep', format('Run %s sweeps in state "%s"%s; its next page is due at %s%s.', s.run_id, p_state, say_sweep(s),
			say_time(s.due_at), case when s.code = 'replication_lag'
				then ', when it looks again whether the standbys have caught up' else '' end), s.due_at)::reason_why;
	end if;
	if v_due > 0 then
		return ('timer', format('Run %s waits in state "%s"%s.', s.run_id, p_state, v_until), v_due)::reason_why;
	end if;
	return ('parked', format('Run %s is parked in state "%s" since %s and nothing will wake it by itself: an operator can cancel it.',
		s.run_id, p_state, say_time(s.entered_at)), null)::reason_why;
end $$;

-- A run whose admission was refused. Without a row it has been woken and is on its way.
create function holdpoint.why_gated(s holdpoint.run_state, p_state text) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	g gated;
begin
	select * into g from gated x where x.run_id = s.run_id;
	if g.kind = 'breaker' then
		return why_breaker(s, p_state, g); -- breakers
	end if;
	if g.kind in ('budget', 'rate', 'slots') then
		return why_limit(s, p_state, g); -- 0019
	end if;
	return ('gated', format('Run %s waits in state "%s" since %s: %s.', s.run_id, p_state,
		say_time(coalesce(g.since, s.entered_at)), coalesce(g.message, 'it is being woken')), nullif(s.due_at, 0))::reason_why;
end $$;

create function holdpoint.why_waiting(s holdpoint.run_state, p_state text, p_now bigint) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	if s.due_at > 0 and s.due_at <= p_now then
		return why_ready(s, s.due_at, p_now);
	end if;
	if s.gated then
		return why_gated(s, p_state);
	end if;
	return case s.phase
		when 1 then why_start(s) -- 0013
		when 3 then ('backoff', format('Run %s tries state "%s" again at %s: attempt %s failed with code %s.', s.run_id,
			p_state, say_time(s.due_at), s.attempt, coalesce(s.code, 'failed')), s.due_at)::reason_why
		when 4 then ('doubt', format('Run %s is in doubt in state "%s": whether attempt %s happened is not known; it looks at %s.',
			s.run_id, p_state, s.attempt, say_time(s.due_at)), s.due_at)::reason_why
		else why_open(s, p_state) end;
end $$;

create function holdpoint.why_paused(s holdpoint.run_state, p_state text) returns holdpoint.reason_why
language sql stable set search_path = holdpoint, pg_temp as $$
	select row('paused', format('Run %s is paused in state "%s" since %s by %s: %s. holdpoint resume %s lets it go on.%s', s.run_id,
		p_state, say_time(p.at), p.by, p.reason, s.run_id,
		case when s.status = 3 then format(' It is held with code %s.', coalesce(s.code, 'held')) else '' end), null)::reason_why
	from paused p where p.run_id = s.run_id
$$;

create function holdpoint.door_why(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_id bigint := arg_int(p_args, 'run');
	v_now bigint := now_us();
	v_state text;
	v_ready ready;
	s run_state;
	w reason_why;
begin
	select * into s from run_state where run_id = v_id;
	if not found then
		perform no_run(v_id);
	end if;
	v_state := state_name(run_digest(v_id), s.state);
	select * into v_ready from ready where run_id = v_id;
	w := case
		when s.status > 3 then why_final(s)
		when v_ready.engine_id is not null then why_owned(s, v_state, v_ready.engine_id, v_now)
		when v_ready.run_id is not null then why_ready(s, v_ready.due_at, v_now)
		when s.pause then why_paused(s, v_state)
		when s.status = 3 then why_held(s, v_state)
		else why_waiting(s, v_state, v_now) end;
	return jsonb_strip_nulls(jsonb_build_object('run', v_id,
		'sentence', w.sentence || case when w.cause in ('approval', 'event', 'timer', 'parked', 'children')
			then coalesce(why_arms(s), '') else '' end
			|| case when s.status > 3 then '' when s.has_annex then undo_progress(v_id) else '' end
			|| case when s.status < 4 and not unwinds(v_id) and (s.cancel
				or s.awaited and exists (select from child c where c.child = v_id and c.cancel)) then ' It is to be cancelled.' else '' end
			|| case when s.pause and w.cause <> 'paused' then ' It is to be paused.' else '' end,
		'cause', w.cause, 'state', v_state, 'status', status_name(s.status), 'since', json_time(s.entered_at),
		'until', json_time(w.until_us)));
end $$;

reset role;
