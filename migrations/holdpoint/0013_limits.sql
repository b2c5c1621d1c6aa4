-- 0013: limits: limiters and permits, and what limits the starts of runs. Budgets and the
-- limits of calls are 0019.
--
-- A *limiter* is one limit for one key; its row is the lock that those who want
-- something of it meet on. A *permit* is what a run has of it, or waits for:
--   budget   so much per window, or a bucket that fills up: granted to a visit, once
--   rate     requests (or starts) over time: every one gets the next free instant
--   slots    so many at once: held by a visit (or a run) until its outcome is committed
--   exclusive   one slot by its text, whichever workflow asks
--   turn     so many runs of one key between their start and their first transition
-- Nobody waits in a loop: with a budget or a rate a run is given its instant when it
-- asks, so waiting runs come back one after the other; with slots it stands in a queue
-- and is woken by the one that leaves. The arithmetic is that of core/budget.c.
--
-- Locks: limiters of calls (budget, rate, slots) are taken in the admission, right after
-- the state rows, in the order of kind, name and key; those of starts after run_key and
-- effect_key, before mailboxes, in the order in which a run asks them: exclusive,
-- start_slots, turn, start_rate, then by name and key. Who leaves a queue asks the next limit
-- while those it left are locked: nobody waits long for that (leave_starts).

set local role holdpoint_owner;

create table holdpoint.limiter (
	id bigint generated always as identity primary key,
	kind text not null,
	name text not null,        -- of the budget; "connector:resend", "workflow.state", the workflow
	key_hash bytea not null,
	key text not null,
	max bigint not null,       -- as it was last asked with
	per_us bigint not null default 0,
	bucket boolean not null default false,
	at bigint not null default 0,    -- window: start of the last one given from; bucket: when all given is used up
	used bigint not null default 0,  -- window: given of it; slots: taken
	waiting bigint not null default 0, -- slots: how many stand in the queue
	now_at bigint not null default 0,  -- window: start of the present one
	now_used bigint not null default 0, -- window: given of it
	unique (kind, name, key_hash)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

create table holdpoint.permit (
	run_id bigint not null,
	visit int not null,        -- 0: the run's own
	limiter_id bigint not null,
	amount bigint not null,
	at bigint,                 -- valid from; null: stands in the queue
	rank bigint not null,      -- its place in the queue: since when, less its priority
	primary key (run_id, visit, limiter_id)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
create index permit_queue on holdpoint.permit (limiter_id, rank, run_id) where at is null;
create index permit_given on holdpoint.permit (limiter_id, at) where at is not null;

alter table holdpoint.workflow add limits jsonb; -- of its current definition; null: none
alter table holdpoint.run_state add limited boolean not null default false; -- has permits of its own (visit 0)

-- ---- arithmetic: as core/budget.c ----

create function holdpoint.window_start(p_now bigint, p_per bigint) returns bigint
language sql immutable strict as $$
	select p_now - p_now % p_per
$$;
create function holdpoint.bucket_step(p_max bigint, p_per bigint, p_amount bigint) returns bigint
language sql immutable strict as $$
	select ceil(p_per::numeric * p_amount / p_max)::bigint
$$;

-- Gives p_amount of a window (rolled before: roll_window) or a bucket: at the instant o_at, which may lie ahead.
-- p_wait false: only if that is now. o_at null: nothing is given.
create function holdpoint.meter_take(inout m holdpoint.limiter, p_amount bigint, p_burst bigint, p_wait boolean,
	p_now bigint, out o_at bigint)
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v_window bigint;
	v_used bigint;
	v_full bigint;
begin
	if m.bucket then
		v_full := greatest(m.at, p_now) + bucket_step(m.max, m.per_us, p_amount);
		o_at := greatest(p_now, v_full - bucket_step(m.max, m.per_us, greatest(p_burst, p_amount)));
		if o_at > p_now and not p_wait then
			o_at := null;
			return;
		end if;
		m.at := v_full;
		return;
	end if;
	v_window := m.at;
	v_used := m.used;
	if v_used + p_amount > m.max then
		v_window := v_window + m.per_us;
		v_used := 0;
	end if;
	if v_window > p_now and not p_wait then
		return;
	end if;
	m.at := v_window;
	m.used := v_used + p_amount;
	if m.at = m.now_at then
		m.now_used := m.used;
	end if;
	o_at := greatest(p_now, v_window);
end $$;

-- ---- slots ----

create function holdpoint.lock_limiter(p_kind text, p_name text, p_key text, p_max bigint, p_per bigint default 0)
returns holdpoint.limiter
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v limiter;
begin
	insert into limiter (kind, name, key_hash, key, max, per_us, bucket)
		values (p_kind, p_name, hash(p_key), p_key, p_max, p_per, p_per > 0)
		on conflict (kind, name, key_hash) do update set max = excluded.max, per_us = excluded.per_us
		returning * into v;
	return v;
end $$;

-- Under the limiter's lock: as many as there is room for leave the queue, by rank. The
-- runs are told by their ready rows; their permits are found by them.
create function holdpoint.admit_waiting(p_limiter bigint, p_now bigint) returns bigint[]
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_n bigint;
	v_runs bigint[];
begin
	select least(max - used, waiting) into v_n from limiter where id = p_limiter;
	if v_n <= 0 then
		return '{}';
	end if;
	with c as materialized (
		select p.run_id, p.visit from permit p where p.limiter_id = p_limiter and p.at is null
		order by p.rank, p.run_id limit v_n for update
	), u as (
		update permit p set at = p_now from c
		where p.run_id = c.run_id and p.visit = c.visit and p.limiter_id = p_limiter
		returning p.run_id, p.rank
	)
	select array_agg(u.run_id order by u.rank, u.run_id) into v_runs from u;
	v_n := coalesce(cardinality(v_runs), 0);
	update limiter set used = used + v_n, waiting = waiting - v_n where id = p_limiter;
	return coalesce(v_runs, '{}');
end $$;

-- ---- starts ----

-- A template as the summary has it: texts, and paths into the input as lists.
create function holdpoint.fill(p_parts jsonb, p_input jsonb) returns text
language sql immutable set search_path = holdpoint, pg_temp as $$
	select coalesce(string_agg(case jsonb_typeof(x.v) when 'array'
			then coalesce(p_input #>> array(select jsonb_array_elements_text(x.v)), '') else x.v #>> '{}' end, '' order by x.n), '')
	from jsonb_array_elements(p_parts) with ordinality x(v, n)
$$;

-- 0 to 9. Each step is worth a minute of waiting: nobody is overtaken for ever.
create function holdpoint.start_priority(p_limits jsonb, p_input jsonb) returns bigint
language sql immutable set search_path = holdpoint, pg_temp as $$
	select case when f ~ '^[0-9]$' then f::bigint else 0 end
	from (select case jsonb_typeof(p_limits -> 'priority') when 'array' then fill(p_limits -> 'priority', p_input)
		else p_limits ->> 'priority' end as f) x
$$;

-- Takes one slot for a run as a whole, or stands in the queue: false.
create function holdpoint.take_slot(p_kind text, p_name text, p_key text, p_max bigint, p_run bigint, p_rank bigint,
	p_now bigint) returns boolean
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v limiter;
	v_at bigint;
	v_queued bigint; -- the limiter whose queue it stands in
	v_free boolean;
begin
	select p.at, l.id into v_at, v_queued from limiter l join permit p on p.run_id = p_run and p.visit = 0 and p.limiter_id = l.id
		where l.kind = p_kind and l.name = p_name and l.key_hash = hash(p_key);
	if v_at is not null then
		return true;
	end if;
	if v_queued is not null then -- who has let it in meanwhile had this lock, and did not see that it may go on
		perform from limiter where id = v_queued for no key update;
		return coalesce((select p.at is not null from permit p
			where p.run_id = p_run and p.visit = 0 and p.limiter_id = v_queued), false);
	end if;
	v := lock_limiter(p_kind, p_name, p_key, p_max);
	v_free := v.used < v.max and v.waiting = 0;
	insert into permit (run_id, visit, limiter_id, amount, at, rank)
		values (p_run, 0, v.id, 1, case when v_free then p_now end, p_rank);
	update limiter set used = used + v_free::int, waiting = waiting + (not v_free)::int where id = v.id;
	return v_free;
end $$;

-- The run's instant among the starts of a rate. It gets one once: one that comes again (paused
-- and resumed, or from a queue before) finds its permit. Without a queue there is none to
-- come from: a run that starts at once leaves no permit.
create function holdpoint.take_start(p_run bigint, p_workflow text, p_limits jsonb, p_input jsonb, p_rank bigint, p_now bigint)
returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_rate jsonb := p_limits -> 'rate';
	v_key text := fill(v_rate -> 'per', p_input);
	v_limiter limiter;
	v_got record;
	v_at bigint;
begin
	select p.at into v_at from limiter l join permit p on p.run_id = p_run and p.visit = 0 and p.limiter_id = l.id
		where l.kind = 'start_rate' and l.name = p_workflow and l.key_hash = hash(v_key);
	if found then
		return v_at;
	end if;
	v_limiter := lock_limiter('start_rate', p_workflow, v_key, (v_rate ->> 'max')::bigint, (v_rate ->> 'per_us')::bigint);
	select * into v_got from meter_take(v_limiter, 1, (v_rate ->> 'burst')::bigint, true, p_now);
	update limiter set at = (v_got.m).at where id = v_limiter.id;
	if v_got.o_at > p_now or p_limits ?| array['exclusive', 'concurrency', 'fair'] then
		insert into permit (run_id, visit, limiter_id, amount, at, rank)
			values (p_run, 0, v_limiter.id, 1, v_got.o_at, p_rank);
	end if;
	return v_got.o_at;
end $$;

-- Takes what a run still lacks of its workflow's limits, in their order. When it may
-- start: the instant; null: it stands in a queue.
create function holdpoint.start_at(p_run bigint, p_workflow text, p_limits jsonb, p_input jsonb, p_since bigint, p_now bigint)
returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_rank bigint := p_since - start_priority(p_limits, p_input) * 60000000;
	v jsonb;
	v_at bigint;
begin
	if p_limits ? 'exclusive' and not take_slot('exclusive', '', fill(p_limits -> 'exclusive', p_input), 1, p_run, v_rank, p_now) then
		return null;
	end if;
	v := p_limits -> 'concurrency';
	if v is not null and not take_slot('start_slots', p_workflow, fill(v -> 'per', p_input), (v ->> 'max')::bigint,
			p_run, v_rank, p_now) then
		return null;
	end if;
	v := p_limits -> 'fair';
	if v is not null and not take_slot('turn', p_workflow, fill(v, p_input), 64, p_run, v_rank, p_now) then
		return null;
	end if;
	if p_limits ? 'rate' then
		v_at := take_start(p_run, p_workflow, p_limits, p_input, v_rank, p_now);
	end if;
	return case when v_at > p_now then v_at else v_rank end;
end $$;

-- Has it limits to pass yet?
create function holdpoint.not_started(s holdpoint.run_state) returns boolean
language sql immutable as $$
	select s.limited and s.visit = 1 and s.phase = 1 and s.attempt = 0 and s.status = 2
$$;

-- Those that left a queue go on: to the next limit, onto the ready list, or into the
-- timers. One that is paused does so when it is resumed.
create function holdpoint.go_on(p_runs bigint[], p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v record;
	v_at bigint;
begin
	for v in select r.id, r.workflow, d.summary -> 'limits' as limits, r.input, r.created_at
			from unnest(p_runs) with ordinality x(run_id, n) join run r on r.id = x.run_id
			join run_state s on s.run_id = r.id and not s.pause join definition d on d.digest = coalesce(s.digest, r.digest)
			order by x.n loop
		v_at := start_at(v.id, v.workflow, v.limits, v.input, v.created_at, p_now);
		if v_at > p_now then
			insert into timer (run_id, due_at) values (v.id, v_at)
				on conflict (run_id) do update set due_at = excluded.due_at;
			-- its row comes before the limiters that we hold: it is not waited for
			update run_state set due_at = v_at where run_id = (select s.run_id from run_state s
				where s.run_id = v.id for no key update skip locked);
		elsif v_at is not null then
			-- as of now: it stood in its place in the queue already
			insert into ready (run_id, due_at) values (v.id, p_now) on conflict (run_id) do nothing;
		end if;
	end loop;
	if cardinality(p_runs) > 0 then
		perform hint();
	end if;
end $$;

-- Gives back permits that runs have of limiters of the starts, as far as these can be locked:
-- p_wait as long as lock_timeout says, else at once.
create function holdpoint.leave_limiters(p_runs bigint[], p_limiters bigint[], p_wait boolean, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_ids bigint[] := p_limiters;
	v_id bigint;
begin
	if p_wait then
		perform from limiter where id = any(v_ids)
			order by array_position(array['exclusive', 'start_slots', 'turn'], kind), name, key_hash for update;
	else
		v_ids := array(select l.id from limiter l where l.id = any(v_ids) for update skip locked);
	end if;
	with d as (
		delete from permit p where p.run_id = any(p_runs) and p.visit = 0 and p.limiter_id = any(v_ids)
			returning p.limiter_id, p.at
	), n as (
		select limiter_id, count(at) as had, count(*) - count(at) as stood from d group by 1
	)
	update limiter l set used = l.used - n.had, waiting = l.waiting - n.stood from n where l.id = n.limiter_id;
	foreach v_id in array v_ids loop
		perform go_on(admit_waiting(v_id, p_now), p_now);
	end loop;
	-- a key that nobody wants now leaves no row: there may be as many as users
	delete from limiter where id = any(v_ids) and used = 0 and waiting = 0;
end $$;

-- Gives back permits that runs have of their own: of one kind, or (null) all. An
-- application's open transaction may hold a limiter for long: it is not waited for. What can be
-- left without it is left; tend_limits() finds the rest.
create function holdpoint.leave_starts(p_runs bigint[], p_kind text, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp set lock_timeout = '200ms' as $$
declare
	v_ids bigint[];
	v_id bigint;
begin
	if p_kind is null then -- an instant that is given is given: nobody gets it
		delete from permit p using limiter l
			where p.run_id = any(p_runs) and p.visit = 0 and l.id = p.limiter_id and l.kind = 'start_rate';
	end if;
	v_ids := array(select l.id from limiter l
		where l.id in (select p.limiter_id from permit p where p.run_id = any(p_runs) and p.visit = 0)
			and l.kind <> 'start_rate' and (p_kind is null or l.kind = p_kind)
		order by array_position(array['exclusive', 'start_slots', 'turn'], l.kind), l.name, l.key_hash);
	if cardinality(v_ids) = 0 then
		return;
	end if;
	begin
		perform leave_limiters(p_runs, v_ids, true, p_now);
	exception when lock_not_available then
		perform set_config('lock_timeout', '10ms', true); -- until this function's end
		foreach v_id in array v_ids loop
			begin -- each by itself: the run behind it may need one that is locked, too
				perform leave_limiters(p_runs, array[v_id], false, p_now);
			exception when lock_not_available then
				null;
			end;
		end loop;
	end;
end $$;

-- Called by start_run() for workflows with limits; the run's state row is new and ours.
-- True: it is ready, and its engine's where there is one.
create function holdpoint.start_limited(p_run bigint, p_workflow text, p_limits jsonb, p_input jsonb, p_engine bigint,
	p_no bigint, p_now bigint) returns boolean
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_at bigint := start_at(p_run, p_workflow, p_limits, p_input, p_now, p_now);
begin
	if v_at <= p_now then
		insert into ready (run_id, due_at, engine_id, claim_no) values (p_run, v_at, p_engine, p_no);
	elsif v_at is not null then
		insert into timer (run_id, due_at) values (p_run, v_at);
	end if;
	if v_at <= p_now then
		update run_state set limited = true where run_id = p_run and p_limits ?| array['exclusive', 'concurrency', 'fair'];
		return true;
	end if;
	update run_state set limited = true, status = 2, epoch = 0, rev = 0, claims = 0, due_at = coalesce(v_at, 0)
		where run_id = p_run;
	return false;
end $$;

-- For overlap = "skip": the run that has the exclusive, or stands first for it.
create function holdpoint.overlapping(p_limits jsonb, p_input jsonb) returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v limiter;
	v_run bigint;
begin
	v := lock_limiter('exclusive', '', fill(p_limits -> 'exclusive', p_input), 1);
	select run_id into v_run from permit where limiter_id = v.id order by at nulls last, rank limit 1;
	return v_run;
end $$;

-- Not started yet: its workflow limits how many may.
create function holdpoint.why_start(s holdpoint.run_state) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	p permit;
	l limiter;
	v_other bigint;
	v_before bigint;
begin
	select * into p from permit x where x.run_id = s.run_id and x.visit = 0 and x.at is null;
	if not found then
		select x.* into p from permit x join limiter y on y.id = x.limiter_id
			where x.run_id = s.run_id and x.visit = 0 and y.kind = 'start_rate';
		return ('rate', format('Run %s starts at %s: so many starts its workflow allows.', s.run_id,
			say_time(p.at)), p.at)::reason_why;
	end if;
	select * into l from limiter where id = p.limiter_id;
	select count(*) into v_before from (select from permit x where x.limiter_id = p.limiter_id and x.at is null
		and (x.rank, x.run_id) < (p.rank, p.run_id) limit 100000) x;
	if l.kind = 'exclusive' then
		select run_id into v_other from permit x where x.limiter_id = p.limiter_id and x.at is not null limit 1;
		return ('exclusive', format('Run %s waits to start: "%s" belongs to run %s; %s before it.', s.run_id, l.key,
			v_other, v_before), null)::reason_why;
	elsif l.kind = 'turn' then
		return ('turn', format('Run %s waits for its turn among those of "%s"; %s before it.', s.run_id, l.key,
			v_before), null)::reason_why;
	end if;
	return ('concurrency', format('Run %s waits to start: %s of %s runs of %s are going; %s before it.', s.run_id,
		l.used, l.max, l.name || case when l.key <> '' then ' for ' || l.key else '' end, v_before), null)::reason_why;
end $$;

-- Called by deploy(). What the current definition says of its starts.
create function holdpoint.put_limits(p_workflow text, p_summary jsonb) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update workflow set limits = p_summary -> 'limits'
		where name = p_workflow and limits is distinct from p_summary -> 'limits'
$$;

reset role;
