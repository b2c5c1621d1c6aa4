-- 0014: circuit breakers: one row per endpoint that ever had trouble, or that a person
-- opened or closed. An endpoint is a connector ("stripe") or one operation of it
-- ("stripe.refunds.create"). No row: closed, and never was anything else.
--
--   closed        requests are admitted
--   open          none is, until until_at
--   half_open     at most `probes` at a time, each under a lease; so many good answers
--                 close it, one bad answer opens it again, for twice as long
--   forced_open   by a person: none is, until a person says so
--   forced_closed by a person: requests are admitted and no failure opens it
--
-- The row is written when the state changes and at no other time (half-open also counts
-- its probes). It is read by the commit that would admit, so a change is in force for
-- every engine with its own commit. Engines count and decide (core/breaker.c); what they
-- decide is written only if the version is the one they saw.
--
-- Locks: run_state, then breaker (by name), then gated, then ready.

set local role holdpoint_owner;

create table holdpoint.breaker (
	name text primary key check (length(name) between 1 and 129),
	state text not null check (state in ('closed', 'open', 'half_open', 'forced_open', 'forced_closed')),
	version bigint not null,
	since bigint not null,
	until_at bigint not null,      -- open: half-open from here on; else 0
	reason text not null,          -- a sentence with the figures, or a person's
	changed_by text not null,      -- "engine", or a principal
	probes int not null default 3,
	open_us bigint not null default 30000000,  -- as declared
	slow_us bigint not null default 0,         -- a probe that takes this long has failed; 0: any time
	reopened int not null default 0,           -- times in a row that half-open failed
	passed int not null default 0,             -- half_open: good answers so far
	woken_at bigint not null default 0,        -- when runs behind it were last woken
	wave int not null default 0                -- closed: how many times that was
) with (fillfactor = 50);
create index breaker_shut on holdpoint.breaker (name) where state in ('open', 'half_open', 'forced_open');

-- Who changed what when, and why. Only ever added to.
create table holdpoint.breaker_log (
	name text not null,
	version bigint not null,
	at bigint not null,
	was text not null,
	state text not null,
	reason text not null,
	changed_by text not null,
	primary key (name, version)
);
revoke update, delete on holdpoint.breaker_log from holdpoint_engine;

-- Probes under way. The row goes with the run's next transition; one whose run nobody
-- moves any more goes when its time is over.
create table holdpoint.breaker_probe (
	run_id bigint not null,
	name text not null,
	until_at bigint not null,
	primary key (run_id, name)
);
create index breaker_probe_name on holdpoint.breaker_probe (name);

-- What engines have seen lately, of closed breakers only: calls per bucket of the
-- rolling window, and failures since the last call that went well.
create table holdpoint.breaker_count (
	name text not null,
	width bigint not null,  -- of a bucket: definitions may differ in their windows
	number bigint not null, -- time / width
	calls bigint not null,
	failed bigint not null,
	slow bigint not null,
	primary key (name, width, number)
) with (fillfactor = 50);
create table holdpoint.breaker_streak (
	name text primary key,
	in_row bigint not null
) with (fillfactor = 50);

-- Every change of state goes through here: the row, its version, and a line in the log.
create function holdpoint.breaker_set(b holdpoint.breaker, p_state text, p_reason text, p_by text, p_now bigint)
returns holdpoint.breaker
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v breaker;
begin
	insert into breaker_log (name, version, at, was, state, reason, changed_by)
		values (b.name, b.version + 1, p_now, b.state, p_state, p_reason, p_by);
	update breaker x set state = p_state, version = x.version + 1, since = p_now, reason = p_reason, changed_by = p_by,
			-- a provider that is not well again is asked less and less often
			until_at = case when p_state = 'open' then p_now + b.open_us * (1 << least(b.reopened, 4)) else 0 end,
			reopened = b.reopened, probes = b.probes, open_us = b.open_us, slow_us = b.slow_us,
			passed = 0, woken_at = 0, wave = 0
		where x.name = b.name returning * into strict v;
	delete from breaker_probe where name = b.name;
	-- what is counted from here on is counted from nothing
	delete from breaker_count where name = b.name;
	delete from breaker_streak where name = b.name;
	return v;
end $$;

-- May this admission be a probe? Its place is kept until its outcome is known.
create function holdpoint.breaker_lease(b holdpoint.breaker, a holdpoint.admission, p_now bigint) returns boolean
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_until bigint := p_now + coalesce(a.timeout_us, 300000000) + 30000000;
begin
	update breaker_probe set until_at = v_until where run_id = a.run_id and name = b.name;
	if found then -- its engine died: the same probe again
		return true;
	end if;
	delete from breaker_probe where name = b.name and until_at <= p_now;
	if b.passed + (select count(*) from breaker_probe p where p.name = b.name) >= b.probes then
		return false;
	end if;
	insert into breaker_probe (run_id, name, until_at) values (a.run_id, b.name, v_until);
	return true;
end $$;

-- Those that this commit may look at or change, in the order of their names.
create function holdpoint.lock_breakers(p_run bigint[], p_asks holdpoint.admission[]) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	perform from breaker x where x.state in ('open', 'half_open', 'forced_open') and x.name in (
			select p.name from breaker_probe p where p.run_id = any(p_run)
			union select split_part(q.operation, '.', 1) from unnest(p_asks) q
			union select q.operation from unnest(p_asks) q)
		order by x.name for no key update;
end $$;

create function holdpoint.gate_breakers(p_asks holdpoint.admission[], p_now bigint) returns holdpoint.refusal[]
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	b breaker;
	a admission;
	v_done bigint[] := '{}';
	v_out refusal[] := '{}';
begin
	if cardinality(p_asks) = 0 then
		return v_out;
	end if;
	for b in select * from breaker x where x.state in ('open', 'half_open', 'forced_open') and x.name in (
			select split_part(q.operation, '.', 1) from unnest(p_asks) q union select q.operation from unnest(p_asks) q)
			order by x.name loop
		if b.state = 'open' and b.until_at <= p_now then
			b := breaker_set(b, 'half_open', format('probing: %s', b.reason), 'engine', p_now);
		end if;
		foreach a in array p_asks loop
			continue when b.name not in (split_part(a.operation, '.', 1), a.operation) or a.ord = any(v_done);
			continue when b.state = 'half_open' and breaker_lease(b, a, p_now);
			v_done := v_done || a.ord;
			v_out := v_out || (a.ord, 'breaker_open', format('the breaker of %s is %s since %s: %s', b.name,
				breaker_word(b.state), say_time(b.since), b.reason), 0, 'breaker', b.name)::refusal;
		end loop;
	end loop;
	return v_out;
end $$;

create function holdpoint.breaker_word(p_state text) returns text
language sql immutable parallel safe as $$
	select case p_state when 'half_open' then 'half-open' when 'forced_open' then 'forced open'
		when 'forced_closed' then 'forced closed' else p_state end
$$;

-- What became of probes whose runs move now. One that was never sent gives its place
-- back.
create function holdpoint.breaker_outcomes(p_run bigint[], p_epoch bigint[], p_rev bigint[], p_move bigint[],
	p_status bigint[], p_outcome bigint[], p_code text[], p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	b breaker;
	v record;
begin
	for v in select p.run_id, p.name, u.move, u.outcome, u.code, u.status, s.phase, s.sent_at
			from unnest(p_run, p_epoch, p_rev, p_move, p_status, p_outcome, p_code)
				u(run_id, epoch, rev, move, status, outcome, code)
			join breaker_probe p on p.run_id = u.run_id
			join run_state s on s.run_id = u.run_id and s.epoch = u.epoch and s.rev = u.rev
			order by p.name, p.run_id loop
		-- taken over from an engine that died: it asks with the place it has
		continue when v.move = 3 and v.phase = 2 or v.move = 6 and v.phase = 5;
		select * into b from breaker where name = v.name; -- locked by lock_breakers
		delete from breaker_probe where run_id = v.run_id and name = v.name;
		-- only an answer, or its absence, says something: not a cancel, a pause, a hold for
		-- reasons of our own
		continue when b.state <> 'half_open' or v.outcome = 4 or v.move = 8 and v.phase = 5;
		if v.outcome in (1, 3) then
			b.reopened := b.reopened + 1;
			perform breaker_set(b, 'open', format('a probe failed with code %s', coalesce(v.code, 'failed')), 'engine', p_now);
		elsif v.status = 6 or v.move in (6, 13, 15) or v.move = 3 and v.phase <> 5 or v.move = 8 and v.outcome <> 2 then
			continue;
		elsif b.slow_us > 0 and v.phase = 2 and p_now - v.sent_at >= b.slow_us then
			b.reopened := b.reopened + 1;
			perform breaker_set(b, 'open', format('a probe took %s ms', (p_now - v.sent_at) / 1000), 'engine', p_now);
		elsif b.passed + 1 >= b.probes then
			b.reopened := 0;
			perform breaker_set(b, 'closed', format('%s of %s probes were answered', b.probes, b.probes), 'engine', p_now);
		else
			update breaker set passed = passed + 1 where name = b.name;
		end if;
	end loop;
end $$;

-- Part of every engine's heartbeat: time alone makes an open breaker half-open, wakes as
-- many runs as may probe, and lets those behind a closed one go, a few at first and then
-- more: all at once would be the next outage. What somebody else tends is skipped.
create function holdpoint.tend_breakers(p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	b breaker;
	v_max int;
begin
	for b in select * from breaker x where x.woken_at <= p_now - 1000000 and (
			x.state = 'half_open' or x.state = 'open' and x.until_at <= p_now
			or x.state in ('closed', 'forced_closed')
				and exists (select from gated g where g.kind = 'breaker' and g.name = x.name))
			order by x.name for no key update skip locked loop
		if b.state = 'open' then
			b := breaker_set(b, 'half_open', format('probing: %s', b.reason), 'engine', p_now);
		end if;
		if b.state = 'half_open' then
			delete from breaker_probe where name = b.name and until_at <= p_now;
			v_max := b.probes - b.passed - (select count(*) from breaker_probe p where p.name = b.name);
		else
			v_max := least(500, 10 << least(b.wave, 6)) * case when b.woken_at = 0 then 1
				else least(5, (p_now - b.woken_at) / 1000000) end;
		end if;
		continue when v_max <= 0 or wake_gated('breaker', b.name, v_max, p_now) = 0;
		update breaker set woken_at = p_now, wave = wave + 1 where name = b.name;
	end loop;
end $$;

-- ---- for engines ----

-- Adds what one engine has seen and tells the sum. Of a breaker that is not closed
-- nothing is counted: its probes decide.
create function holdpoint.door_breaker_report(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'breaker', true, 129);
	v_width bigint := arg_int(p_args, 'width');
	v_in_row bigint := arg_int(p_args, 'in_row');
	v_now bigint := now_us();
	b breaker;
begin
	select * into b from breaker where name = v_name;
	if b.state <> 'closed' then
		return jsonb_build_object('state', b.state, 'version', b.version);
	end if;
	delete from breaker_count where name = v_name and width = v_width and number < v_now / v_width - 6;
	insert into breaker_count as c (name, width, number, calls, failed, slow)
		select v_name, v_width, (x ->> 0)::bigint, (x ->> 1)::bigint, (x ->> 2)::bigint, (x ->> 3)::bigint
			from jsonb_array_elements(p_args -> 'buckets') x order by 3
		on conflict (name, width, number) do update set calls = c.calls + excluded.calls,
			failed = c.failed + excluded.failed, slow = c.slow + excluded.slow;
	insert into breaker_streak as c (name, in_row) values (v_name, v_in_row)
		on conflict (name) do update set in_row = excluded.in_row
			+ case when (p_args ->> 'well')::boolean then 0 else c.in_row end
		returning in_row into v_in_row;
	return jsonb_build_object('state', 'closed', 'version', coalesce(b.version, 0), 'in_row', v_in_row, 'now', v_now,
		'buckets', (select jsonb_agg(jsonb_build_array(number, calls, failed, slow) order by number)
			from breaker_count where name = v_name and width = v_width));
end $$;

-- Opens a breaker that is as the engine saw it. Of many engines that see the same, one
-- writes.
create function holdpoint.door_breaker_trip(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'breaker', true, 129);
	v_now bigint := now_us();
	b breaker;
begin
	perform breaker_make(v_name, v_now);
	select * into strict b from breaker where name = v_name for no key update;
	if b.state <> 'closed' or b.version <> arg_int(p_args, 'version') then
		return jsonb_build_object('outcome', 'taken', 'state', b.state, 'version', b.version);
	end if;
	b.open_us := arg_int(p_args, 'open_us');
	b.slow_us := arg_int(p_args, 'slow_us');
	b.probes := arg_int(p_args, 'probes');
	b.reopened := 0;
	b := breaker_set(b, 'open', arg_text(p_args, 'reason', true, 500), p_principal, v_now);
	return jsonb_build_object('outcome', 'done', 'state', b.state, 'version', b.version);
end $$;

-- ---- doors ----

-- Everything that can be called an endpoint: what deployed workflows call, and what has
-- a row already.
create function holdpoint.breaker_names() returns setof text
language sql stable set search_path = holdpoint, pg_temp as $$
	select distinct split_part(s ->> 'operation', '.', 1)
		from workflow w join definition d on d.digest = w.digest, jsonb_array_elements(d.summary -> 'states') s
		where s ? 'operation'
	union select name from breaker
$$;

create function holdpoint.breaker_sentence(b holdpoint.breaker) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select case b.state
		when 'open' then format('The breaker of %s is open since %s: %s. It tries again at %s.', b.name, say_time(b.since),
			b.reason, say_time(b.until_at))
		when 'half_open' then format('The breaker of %s is half-open since %s: %s of %s probes were answered so far, %s are under way.',
			b.name, say_time(b.since), b.passed, b.probes, (select count(*) from breaker_probe p where p.name = b.name))
		when 'forced_open' then format('%s opened the breaker of %s at %s: %s. Only a person closes it.', b.changed_by,
			b.name, say_time(b.since), b.reason)
		when 'forced_closed' then format('%s closed the breaker of %s for good at %s: %s. No failure opens it until it is reset.',
			b.changed_by, b.name, say_time(b.since), b.reason)
		else format('The breaker of %s is closed since %s: %s.', b.name, say_time(b.since), b.reason) end
$$;

create function holdpoint.breaker_json(b holdpoint.breaker) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('breaker', b.name, 'state', b.state, 'since', json_time(b.since),
		'until', json_time(b.until_at), 'reason', b.reason, 'by', b.changed_by, 'version', b.version,
		'waiting', (select count(*) from gated g where g.kind = 'breaker' and g.name = b.name),
		'sentence', breaker_sentence(b)))
$$;

create function holdpoint.breaker_default(p_name text) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('breaker', p_name, 'state', 'closed', 'version', 0, 'waiting', 0,
		'sentence', format('The breaker of %s is closed and never was anything else.', p_name))
$$;

create function holdpoint.door_breakers(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('breakers', coalesce(jsonb_agg(case when b.version > 0 then breaker_json(b) else breaker_default(n) end order by n), '[]'))
	from breaker_names() n left join breaker b on b.name = n
$$;

-- The row, or one that is closed; an endpoint nobody knows is a mistake.
create function holdpoint.find_breaker(p_args jsonb) returns holdpoint.breaker
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'breaker', true, 129);
	b breaker;
begin
	select * into b from breaker where name = v_name;
	if not found then
		if split_part(v_name, '.', 1) not in (select breaker_names()) then
			perform fail('HP404', format('no deployed workflow calls "%s"', v_name), 'holdpoint breakers lists what they call.');
		end if;
		b.name := v_name;
		b.state := 'closed';
		b.version := 0;
	end if;
	return b;
end $$;

create function holdpoint.door_breaker(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	b breaker := find_breaker(p_args);
begin
	return case when b.version = 0 then breaker_default(b.name) else breaker_json(b) end || jsonb_build_object('log', (
		select coalesce(jsonb_agg(jsonb_build_object('version', l.version, 'at', json_time(l.at), 'was', l.was,
			'state', l.state, 'reason', l.reason, 'by', l.changed_by) order by l.version desc), '[]')
		from (select * from breaker_log x where x.name = b.name order by x.version desc limit 20) l));
end $$;

create function holdpoint.breaker_make(p_name text, p_now bigint) returns void
language sql set search_path = holdpoint, pg_temp as $$
	insert into breaker (name, state, version, since, until_at, reason, changed_by)
		values (p_name, 'closed', 0, p_now, 0, 'made', 'engine') on conflict do nothing
$$;

-- By a person. What is so already is said, not done again.
create function holdpoint.breaker_force(p_principal text, p_args jsonb, p_state text) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_reason text := arg_reason(p_args);
	v_now bigint := now_us();
	b breaker := find_breaker(p_args);
begin
	perform breaker_make(b.name, v_now);
	select * into strict b from breaker where name = b.name for no key update;
	if b.state = p_state then
		perform fail('HP409', format('the breaker of %s is %s already%s', b.name, breaker_word(p_state),
			case when b.version > 0 then format(', since %s by %s', say_time(b.since), b.changed_by) else '' end));
	end if;
	b.reopened := 0;
	b := breaker_set(b, p_state, v_reason, p_principal, v_now);
	perform tend_breakers(v_now);
	return breaker_json(b);
end $$;

create function holdpoint.door_breaker_open(p_principal text, p_args jsonb) returns jsonb
language sql set search_path = holdpoint, pg_temp as $$
	select breaker_force(p_principal, p_args, 'forced_open')
$$;
create function holdpoint.door_breaker_close(p_principal text, p_args jsonb) returns jsonb
language sql set search_path = holdpoint, pg_temp as $$
	select breaker_force(p_principal, p_args, 'forced_closed')
$$;
create function holdpoint.door_breaker_reset(p_principal text, p_args jsonb) returns jsonb
language sql set search_path = holdpoint, pg_temp as $$
	select breaker_force(p_principal, p_args, 'closed')
$$;

create function holdpoint.metrics_breakers() returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('breakers', (
		select coalesce(jsonb_agg(jsonb_build_object('breaker', b.name, 'state', b.state, 'changes', b.version,
			'waiting', (select count(*) from gated g where g.kind = 'breaker' and g.name = b.name)) order by b.name), '[]')
		from breaker b))
$$;

-- ---- why ----

create function holdpoint.why_breaker(s holdpoint.run_state, p_state text, g holdpoint.gated) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	b breaker;
begin
	select * into b from breaker where name = g.name;
	if b.state in ('closed', 'forced_closed') then
		return ('breaker', format('Run %s waits in state "%s" for its turn: the breaker of %s is closed again since %s, and the runs behind it go on a few at a time.',
			s.run_id, p_state, b.name, say_time(b.since)), null)::reason_why;
	end if;
	return ('breaker', format('Run %s waits in state "%s" since %s because the breaker of %s is %s since %s (%s)%s. An operator can close it: holdpoint breaker close %s --reason TEXT.',
		s.run_id, p_state, say_time(g.since), b.name, breaker_word(b.state), say_time(b.since), b.reason,
		case b.state when 'open' then format('; it tries again at %s', say_time(b.until_at))
			when 'half_open' then '; some requests probe it now'
			else format('; %s opened it', b.changed_by) end, b.name), nullif(b.until_at, 0))::reason_why;
end $$;

reset role;
