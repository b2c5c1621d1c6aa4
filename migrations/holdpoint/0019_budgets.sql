-- 0019: budgets, and the limits of calls.
--
-- What 0013 says of limiters and permits, for what a visit asks in its admission:
-- budgets, rates, and calls at once; the doors of all limits, and their upkeep.

set local role holdpoint_owner;

-- ---- budgets: what their limits are ----

-- What workflows declare and what an operator has set, which wins. key '': every key
-- that has no limit of its own.
create table holdpoint.budget (
	name text not null check (length(name) between 1 and 64),
	key text not null default '',
	declared jsonb,          -- {"max", "per_us", "bucket"}
	declared_by text,        -- the workflow
	set_to jsonb,            -- the same
	set_by text,
	set_at bigint,
	reason text,
	primary key (name, key)
);

create function holdpoint.budget_limit(p_name text, p_key text) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(b.set_to, b.declared) from budget b
	where b.name = p_name and b.key in (p_key, '') order by b.key desc limit 1
$$;

-- Called by deploy(). Declares the workflow's budgets, and looks for those it only names. One
-- that it does not declare any more stays as it was: runs of older versions spend of it,
-- and so may other workflows.
create function holdpoint.put_budgets(p_workflow text, p_summary jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v budget;
	v_missing text;
begin
	for v in
		insert into budget as b (name, declared, declared_by)
			select x.key, x.value, p_workflow from jsonb_each(coalesce(p_summary -> 'budgets', '{}')) x order by 1
			on conflict (name, key) do update set declared = excluded.declared, declared_by = excluded.declared_by
			where (b.declared, b.declared_by) is distinct from (excluded.declared, excluded.declared_by)
			returning * loop
		perform budget_changed(v, p_now);
	end loop;
	select x ->> 'budget' into v_missing from jsonb_array_elements(p_summary -> 'states') x
		where x ? 'budget' and budget_limit(x ->> 'budget', '') is null limit 1;
	if v_missing is not null then
		perform fail('HP400', format('workflow "%s" spends of the budget "%s", which nobody has set', p_workflow, v_missing),
			format('Declare it in the workflow (budgets = { %s = { limit = 10, window = "1h" } }) or set it first: '
				'holdpoint budget set %s --limit 10 --window 1h.', v_missing, v_missing));
	end if;
end $$;

-- ---- calls ----
--
-- An admission of a call with limits brings an annex "limits": {"demands": [{"kind",
-- "name", "key", …}, …]}, in the order in which they are asked: budgets, slots, rates.
-- Who has a slot may wait for a rate, but nobody who waits for a budget or a slot uses a
-- rate up. What leaves its visit brings {"end": "keep"}: slots are given back; "return":
-- what it got of budgets, too, because it is certain that nothing happened; "slots": it
-- stays in its visit (held, paused) and keeps what it got of budgets.

-- The limiters of one commit, locked and in memory: each is written once.
create type holdpoint.limit_ask as (ord bigint, run_id bigint, visit int, kind text, name text, key text,
	amount bigint, max bigint, per_us bigint, bucket boolean, burst bigint, over text);

create function holdpoint.limit_asks(p_ord bigint, p_run bigint, p_visit int, p_doc jsonb) returns setof holdpoint.limit_ask
language sql stable set search_path = holdpoint, pg_temp as $$
	select p_ord, p_run, p_visit, d ->> 'kind', d ->> 'name', coalesce(d ->> 'key', ''),
		coalesce((d ->> 'amount')::bigint, 1), coalesce((b ->> 'max')::bigint, (d ->> 'max')::bigint),
		coalesce((b ->> 'per_us')::bigint, (d ->> 'per_us')::bigint, 0),
		coalesce((b ->> 'bucket')::boolean, d ->> 'kind' = 'rate'),
		coalesce((d ->> 'burst')::bigint, 1), coalesce(d ->> 'over', 'park')
	from jsonb_array_elements(p_doc -> 'demands') with ordinality x(d, n)
	left join lateral (select budget_limit(d ->> 'name', d ->> 'key') as b where d ->> 'kind' = 'budget') b on true
	order by n
$$;

-- A new window begins: of it is given what was promised to those who waited for it. None
-- of them can have come and gone unseen: whoever touches the limiter does this first.
create function holdpoint.roll_window(inout m holdpoint.limiter, p_now bigint)
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	if m.kind <> 'budget' or m.bucket or m.now_at >= window_start(p_now, m.per_us) then
		return;
	end if;
	m.now_at := window_start(p_now, m.per_us);
	select coalesce(sum(amount), 0) into m.now_used from permit
		where limiter_id = m.id and at >= m.now_at and at < m.now_at + m.per_us;
	if m.at <= m.now_at then
		m.at := m.now_at;
		m.used := m.now_used;
	end if;
end $$;

-- Locks, in their order, the limiters that are asked and those that are left. What they
-- are asked with counts from now on; of a budget what its limit is now: an operator may have
-- changed it while we waited.
create function holdpoint.lock_limits(p_asks holdpoint.limit_ask[], p_runs bigint[], p_visits int[], p_now bigint)
returns holdpoint.limiter[]
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_row record;
	v limiter;
	v_budget jsonb;
	v_out limiter[] := '{}';
begin
	for v_row in
		select kind, name, key, max(max) as max, max(per_us) as per_us, bool_or(bucket) as bucket from (
			select a.kind, a.name, a.key, a.max, a.per_us, a.bucket from unnest(p_asks) a where a.max is not null
			union all
			select l.kind, l.name, l.key, null, null, null from unnest(p_runs, p_visits) u(run_id, visit)
				join permit p on p.run_id = u.run_id and p.visit = u.visit join limiter l on l.id = p.limiter_id) x
		group by 1, 2, 3 order by 1, 2, 3 loop
		loop
			select * into v from limiter l
				where l.kind = v_row.kind and l.name = v_row.name and l.key_hash = hash(v_row.key) for update;
			exit when found or v_row.max is null;
			insert into limiter (kind, name, key_hash, key, max, per_us, bucket)
				values (v_row.kind, v_row.name, hash(v_row.key), v_row.key, v_row.max, v_row.per_us, v_row.bucket)
				on conflict (kind, name, key_hash) do nothing;
		end loop;
		continue when v.id is null; -- its last one has just left
		v_budget := case when v.kind = 'budget' then budget_limit(v.name, v.key) end;
		v.max := coalesce((v_budget ->> 'max')::bigint, v_row.max, v.max);
		v.per_us := coalesce((v_budget ->> 'per_us')::bigint, v_row.per_us, v.per_us);
		v.bucket := coalesce((v_budget ->> 'bucket')::boolean, v_row.bucket, v.bucket);
		v_out := v_out || roll_window(v, p_now);
	end loop;
	return v_out;
end $$;

create function holdpoint.window_give_back(inout m holdpoint.limiter, p_amount bigint, p_at bigint)
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v_window bigint := window_start(p_at, m.per_us);
begin
	if v_window = m.now_at then
		m.now_used := m.now_used - p_amount;
	end if;
	if v_window = m.at then
		m.used := m.used - p_amount;
	end if;
end $$;

-- p_amount of the window that begins at p_window is free: for those who wait for later
-- ones. They are woken, and wait on if that window is not the present one.
create function holdpoint.hand_on(inout m holdpoint.limiter, p_window bigint, p_amount bigint, p_now bigint)
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	p permit;
	v_left bigint := p_amount;
begin
	while v_left > 0 and p_window >= m.now_at loop
		select * into p from permit x where x.limiter_id = m.id and x.at >= p_window + m.per_us and x.amount <= v_left
			order by x.at, x.rank, x.run_id limit 1;
		exit when not found;
		m := window_give_back(m, p.amount, p.at);
		m := window_give_back(m, -p.amount, p_window);
		update permit set at = greatest(p_now, p_window)
			where run_id = p.run_id and visit = p.visit and limiter_id = m.id;
		v_left := v_left - p.amount;
		perform wake(array[p.run_id], p_now);
	end loop;
	if m.at > m.now_at and m.used <= 0 then -- nobody waits for the last one any more
		m.at := coalesce((select window_start(max(x.at), m.per_us) from permit x
			where x.limiter_id = m.id and x.at >= m.now_at + m.per_us), m.now_at);
		m.used := case when m.at = m.now_at then m.now_used else (select coalesce(sum(x.amount), 0) from permit x
			where x.limiter_id = m.id and x.at >= m.at and x.at < m.at + m.per_us) end;
	end if;
end $$;

-- A budget gets back what was given for the instant p_at.
create function holdpoint.meter_give_back(inout m holdpoint.limiter, p_amount bigint, p_at bigint, p_now bigint)
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	if m.bucket then
		m.at := m.at - bucket_step(m.max, m.per_us, p_amount);
		return;
	end if;
	m := window_give_back(m, p_amount, p_at);
	m := hand_on(m, window_start(p_at, m.per_us), p_amount, p_now);
end $$;

-- A run leaves a visit: what the limiter l knows of it ends. p_end as in the annex.
create function holdpoint.leave_limit(inout m holdpoint.limiter, p_run bigint, p_visit int, p_end text, p_now bigint)
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	p permit;
begin
	select * into p from permit where run_id = p_run and visit = p_visit and limiter_id = m.id;
	if not found or (m.kind = 'budget' and p_end = 'slots') then
		return;
	end if;
	delete from permit where run_id = p_run and visit = p_visit and limiter_id = m.id;
	if m.kind = 'slots' then
		m.used := m.used - (p.at is not null)::int;
		m.waiting := m.waiting - (p.at is null)::int;
	elsif m.kind = 'budget' and (p_end = 'return' or p.at > p_now) then
		m := meter_give_back(m, p.amount, p.at, p_now);
	end if;
end $$;

-- Asks one limiter for one admission. o_refused null: it may go.
create function holdpoint.ask_limit(inout m holdpoint.limiter, a holdpoint.limit_ask, p_now bigint,
	out o_refused holdpoint.refusal)
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	p permit;
	v_got record;
begin
	select * into p from permit where run_id = a.run_id and visit = a.visit and limiter_id = m.id;
	if found then -- the same visit pays once
		if p.at <= p_now then
			if m.kind = 'rate' then
				delete from permit where run_id = a.run_id and visit = a.visit and limiter_id = m.id;
			end if;
			return;
		end if;
	elsif a.amount > m.max then
		o_refused := (a.ord, 'over_budget', format('it asks for %s of the budget %s, which has %s', a.amount, m.name, m.max),
			p_now, m.kind, m.name)::refusal;
		return;
	elsif m.kind = 'slots' then
		p.at := case when m.used < m.max and m.waiting = 0 then p_now end;
		m.used := m.used + (p.at is not null)::int;
		m.waiting := m.waiting + (p.at is null)::int;
	else
		select * into v_got from meter_take(m, a.amount, case m.kind when 'budget' then m.max else a.burst end,
			a.over = 'park', p_now);
		m := v_got.m;
		if v_got.o_at is null then
			o_refused := (a.ord, 'over_budget', format('the budget %s of %s is used up', m.name, m.max), p_now, m.kind,
				m.name)::refusal;
			return;
		end if;
		p.at := v_got.o_at;
	end if;
	if p.run_id is null and not (m.kind = 'rate' and p.at <= p_now) then
		insert into permit (run_id, visit, limiter_id, amount, at, rank)
			values (a.run_id, a.visit, m.id, a.amount, p.at, p_now);
	end if;
	if p.at is null or p.at > p_now then
		o_refused := (a.ord, m.kind, case m.kind when 'budget' then format('the budget %s of %s is used up', m.name, m.max)
				when 'rate' then format('no more than %s in %s s of %s', m.max, trim_scale(m.per_us / 1000000.0), m.name)
				else format('%s of %s calls of %s are going', m.used, m.max, m.name) end,
			coalesce(p.at, 0), m.kind, m.name)::refusal;
	end if;
end $$;

-- The gate itself, for all of a commit: first what its runs leave, then what they ask, each
-- demand only if those before it were met. Only rows that the compare-and-set will change;
-- p_refused: by other gates already.
create function holdpoint.gate_limits(p_run bigint[], p_epoch bigint[], p_rev bigint[], p_visit bigint[], p_from_visit bigint[],
	p_ord bigint[], p_kind text[], p_doc jsonb[], p_refused holdpoint.refusal[], p_now bigint) returns holdpoint.refusal[]
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_out refusal[] := '{}';
	v_lim limiter[];
	v_one limiter;
	v_ids text[];
	v_asks limit_ask[];
	v_end_runs bigint[];
	v_end_visits int[];
	v_ends text[];
	v_row record;
	v_got record;
	a limit_ask;
	i int;
begin
	select array_agg(p_run[x.ord] order by x.n), array_agg(p_from_visit[x.ord]::int order by x.n),
			array_agg(x.doc ->> 'end' order by x.n)
		into v_end_runs, v_end_visits, v_ends
		from unnest(p_ord, p_kind, p_doc) with ordinality x(ord, kind, doc, n)
		join run_state s on s.run_id = p_run[x.ord] and s.epoch = p_epoch[x.ord] and s.rev = p_rev[x.ord]
		where x.kind = 'limits' and x.doc ? 'end';
	select coalesce(array_agg(l order by x.n), '{}') into v_asks
		from unnest(p_ord, p_kind, p_doc) with ordinality x(ord, kind, doc, n)
		join run_state s on s.run_id = p_run[x.ord] and s.epoch = p_epoch[x.ord] and s.rev = p_rev[x.ord]
		cross join lateral limit_asks(x.ord, p_run[x.ord], p_visit[x.ord]::int, x.doc) l
		where x.kind = 'limits' and x.doc ? 'demands' and x.ord <> all(array(select r.ord from unnest(p_refused) r));
	v_lim := lock_limits(v_asks, v_end_runs, v_end_visits, p_now);
	v_ids := array(select l.kind || ' ' || l.name || ' ' || l.key from unnest(v_lim) with ordinality
		l(id, kind, name, key_hash, key, max, per_us, bucket, at, used, waiting, now_at, now_used, n) order by n);
	for v_row in select u.run_id, u.visit, u.e, l.n from unnest(v_end_runs, v_end_visits, v_ends) with ordinality u(run_id, visit, e, k)
			join permit p on p.run_id = u.run_id and p.visit = u.visit
			join (select x.id, x.n from unnest(v_lim) with ordinality
				x(id, kind, name, key_hash, key, max, per_us, bucket, at, used, waiting, now_at, now_used, n)) l on l.id = p.limiter_id
			order by u.k, l.n loop
		v_lim[v_row.n] := leave_limit(v_lim[v_row.n], v_row.run_id, v_row.visit, v_row.e, p_now);
	end loop;
	-- Who stood in a queue goes before who asks now. (Afterwards it would be too late: one
	-- of this commit that is let in when it has been refused already would sleep for ever.)
	for v_row in select x.id, x.n from unnest(v_lim) with ordinality
			x(id, kind, name, key_hash, key, max, per_us, bucket, at, used, waiting, now_at, now_used, n)
			where x.kind = 'slots' and x.waiting > 0 and x.used < x.max order by x.id loop
		update limiter set max = (v_lim[v_row.n]).max, used = (v_lim[v_row.n]).used, waiting = (v_lim[v_row.n]).waiting
			where id = v_row.id;
		perform wake(admit_waiting(v_row.id, p_now), p_now);
		select * into v_one from limiter where id = v_row.id;
		v_lim[v_row.n] := v_one;
	end loop;
	foreach a in array v_asks loop
		continue when exists (select from unnest(v_out) r where r.ord = a.ord);
		i := array_position(v_ids, a.kind || ' ' || a.name || ' ' || a.key);
		if i is null then
			v_out := v_out || (a.ord, 'budget', format('nobody has set the budget %s', a.name), p_now + 60000000, 'budget',
				a.name)::refusal;
			continue;
		end if;
		select * into v_got from ask_limit(v_lim[i], a, p_now);
		v_lim[i] := v_got.m;
		if v_got.o_refused is not null then
			v_out := v_out || v_got.o_refused;
		end if;
	end loop;
	update limiter l set max = x.max, per_us = x.per_us, bucket = x.bucket, at = x.at, used = x.used,
			waiting = x.waiting, now_at = x.now_at, now_used = x.now_used
		from unnest(v_lim) x where l.id = x.id and l is distinct from x;
	delete from limiter l using unnest(v_lim) x where l.id = x.id and l.kind = 'slots' and l.used = 0 and l.waiting = 0;
	return v_out;
end $$;

-- For tend_limits(): visits that nobody will end any more, as far as their limiters are free.
create function holdpoint.leave_visits(p_runs bigint[], p_visits int[], p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	l limiter;
	v_row record;
begin
	for l in select x.* from limiter x where x.id in (select p.limiter_id from unnest(p_runs, p_visits) u(run_id, visit)
				join permit p on p.run_id = u.run_id and p.visit = u.visit)
			order by x.kind, x.name, x.key for update skip locked loop
		l := roll_window(l, p_now);
		for v_row in select u.* from unnest(p_runs, p_visits) u(run_id, visit) loop
			l := leave_limit(l, v_row.run_id, v_row.visit, 'keep', p_now);
		end loop;
		update limiter set at = l.at, used = l.used, waiting = l.waiting, now_at = l.now_at, now_used = l.now_used
			where id = l.id;
		if l.kind = 'slots' then
			perform wake(admit_waiting(l.id, p_now), p_now);
		end if;
	end loop;
end $$;

-- A sentence for a run that a limit of its call has parked.
create function holdpoint.why_limit(s holdpoint.run_state, p_state text, g holdpoint.gated) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	p permit;
	l limiter;
	v_before bigint;
begin
	select x.* into p from permit x join limiter y on y.id = x.limiter_id
		where x.run_id = s.run_id and x.visit = s.visit and y.kind = g.kind and y.name = g.name limit 1;
	if not found then
		return ('budget', format('Run %s waits in state "%s" since %s: %s.', s.run_id, p_state, say_time(g.since), g.message),
			nullif(s.due_at, 0))::reason_why;
	end if;
	select * into l from limiter where id = p.limiter_id;
	select count(*) into v_before from (select from permit x where x.limiter_id = l.id
		and case when p.at is null then x.at is null and (x.rank, x.run_id) < (p.rank, p.run_id)
			else x.at > now_us() and (x.at, x.rank, x.run_id) < (p.at, p.rank, p.run_id) end limit 100000) x;
	if l.kind = 'slots' then
		return ('concurrency', format('Run %s waits in state "%s" for a place: %s of %s calls of %s are going; %s before it.', s.run_id,
			p_state, l.used, l.max, l.name || case when l.key <> '' then ' for ' || l.key else '' end, v_before), null)::reason_why;
	elsif l.kind = 'rate' then
		return ('rate', format('Run %s waits in state "%s" until %s: the rate of %s; %s before it.', s.run_id, p_state,
			say_time(p.at), l.name || case when l.key <> '' then ' for ' || l.key else '' end, v_before), p.at)::reason_why;
	end if;
	return ('budget', format('Run %s waits in state "%s" for the budget %s: all %s are used until %s; %s before it.', s.run_id, p_state,
		l.name || case when l.key <> '' then ' of ' || l.key else '' end, l.max, say_time(p.at), v_before), p.at)::reason_why;
end $$;

-- ---- doors ----

-- What of a budget's limiter is used now, and until when that is so.
create function holdpoint.budget_use(l holdpoint.limiter, p_now bigint, out o_used bigint, out o_until bigint)
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	if l.bucket then
		o_used := least(l.max, ceil(greatest(l.at - p_now, 0)::numeric * l.max / l.per_us)::bigint);
		o_until := case when l.at > p_now then l.at end;
		return;
	end if;
	o_until := window_start(p_now, l.per_us) + l.per_us;
	o_used := case when l.now_at + l.per_us = o_until then l.now_used else (select coalesce(sum(p.amount), 0)
		from permit p where p.limiter_id = l.id and p.at >= o_until - l.per_us and p.at < o_until) end;
end $$;

create function holdpoint.budget_json(b holdpoint.budget, p_now bigint) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	with x as materialized (select coalesce(b.set_to, b.declared) as v), u as materialized (
		select (budget_use(l, p_now)).o_used as used,
			(select coalesce(sum(p.amount), 0) from permit p where p.limiter_id = l.id and p.at > p_now) as reserved,
			(select count(*) from permit p where p.limiter_id = l.id and p.at > p_now) as waiting
		from limiter l where l.kind = 'budget' and l.name = b.name
			and case when b.key <> '' then l.key_hash = hash(b.key)
				else not exists (select from budget o where o.name = b.name and o.key = l.key and o.key <> '') end)
	select jsonb_strip_nulls(jsonb_build_object('budget', b.name, 'key', nullif(b.key, ''), 'limit', (x.v ->> 'max')::bigint,
		'window_us', (x.v ->> 'per_us')::bigint, 'kind', case when (x.v ->> 'bucket')::boolean then 'bucket' else 'window' end,
		'declared_by', b.declared_by, 'declared_limit', case when b.set_to is not null then (b.declared ->> 'max')::bigint end,
		'set_by', b.set_by, 'set_at', json_time(b.set_at), 'reason', b.reason,
		'used', coalesce((select max(used) from u), 0), 'reserved', coalesce((select sum(reserved) from u), 0),
		'waiting', coalesce((select sum(waiting) from u), 0), 'keys', (select count(*) from u)))
	from x
$$;

create function holdpoint.door_budgets(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('budgets', coalesce(jsonb_agg(budget_json(b, now_us()) order by b.name, b.key), '[]')) from budget b
$$;

-- One budget: its limits, and the keys that use most of it.
create function holdpoint.door_budget(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'budget', true, 64);
	v_now bigint := now_us();
begin
	if not exists (select from budget where name = v_name) then
		perform fail('HP404', format('there is no budget "%s"', v_name), 'holdpoint budget list lists them.');
	end if;
	return jsonb_build_object('budget', v_name,
		'limits', (select jsonb_agg(budget_json(b, v_now) order by b.key) from budget b where b.name = v_name),
		'keys', coalesce((select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('key', x.key, 'used', x.used, 'limit', x.max,
				'until', json_time(x.until), 'waiting', x.waiting)) order by x.waiting desc, x.used desc, x.key)
			from (select l.key, l.max, u.o_used as used, u.o_until as until,
					(select count(*) from permit p where p.limiter_id = l.id and p.at > v_now) as waiting
				from limiter l cross join lateral budget_use(l, v_now) u
				where l.kind = 'budget' and l.name = v_name order by 5 desc, 3 desc, 1 limit 100) x), '[]'));
end $$;

create function holdpoint.door_budget_set(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'budget', true, 64);
	v_key text := coalesce(arg_text(p_args, 'key', false), '');
	v_reason text := arg_reason(p_args);
	v_max bigint := arg_int(p_args, 'limit');
	v_per bigint := arg_int(p_args, 'window_us', 0);
	v_kind text := arg_text(p_args, 'kind', false);
	v_now bigint := now_us();
	v_was jsonb;
	b budget;
begin
	if v_name !~ '^[a-z_][a-z0-9_]*$' then
		perform fail('HP400', format('"%s" cannot be the name of a budget', v_name), 'Use small letters, digits and _.');
	end if;
	if v_kind is not null and v_kind not in ('window', 'bucket') then
		perform fail('HP400', format('there is no kind "%s"', v_kind), 'Kinds are window and bucket.');
	end if;
	v_was := budget_limit(v_name, v_key);
	v_per := coalesce(nullif(v_per, 0), (v_was ->> 'per_us')::bigint, 0);
	if v_max < 1 or v_max > 1000000000000000 or v_per < 1 or v_per > 315576000000000 then
		perform fail('HP400', 'a budget needs a limit of at least 1 and a window of at most ten years',
			'For example: holdpoint budget set sms --limit 10 --window 1h --reason TEXT.');
	end if;
	insert into budget as x (name, key, set_to, set_by, set_at, reason)
		values (v_name, v_key, jsonb_build_object('max', v_max, 'per_us', v_per,
			'bucket', coalesce(v_kind = 'bucket', (v_was ->> 'bucket')::boolean, false)), p_principal, v_now, v_reason)
		on conflict (name, key) do update set set_to = excluded.set_to, set_by = excluded.set_by, set_at = excluded.set_at,
			reason = excluded.reason
		returning * into b;
	perform budget_changed(b, v_now);
	return budget_json(b, v_now);
end $$;

-- Back to what is declared; without that, the budget is gone.
create function holdpoint.door_budget_unset(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'budget', true, 64);
	v_key text := coalesce(arg_text(p_args, 'key', false), '');
	v_user text;
	b budget;
begin
	select * into b from budget where name = v_name and key = v_key and set_to is not null for update;
	if not found then
		perform fail('HP404', format('nobody has set the budget "%s"%s', v_name,
			case when v_key <> '' then format(' for "%s"', v_key) else '' end));
	end if;
	if b.declared is null and v_key = '' then
		select w.name into v_user from workflow w join definition d on d.digest = w.digest,
			jsonb_array_elements(d.summary -> 'states') x where x ->> 'budget' = v_name limit 1;
		if v_user is not null then
			perform fail('HP409', format('workflow "%s" spends of the budget "%s", and nobody declares it', v_user, v_name));
		end if;
	end if;
	if b.declared is null then
		delete from budget where name = v_name and key = v_key;
	else
		update budget set set_to = null, set_by = null, set_at = null, reason = null where name = v_name and key = v_key
			returning * into b;
	end if;
	perform budget_changed(b, now_us());
	return jsonb_build_object('budget', v_name, 'limit', (budget_limit(v_name, v_key) ->> 'max')::bigint);
end $$;

-- A new limit counts at once. Those who wait come again and are counted anew: what was
-- promised to them under the old limit is taken back first.
create function holdpoint.budget_changed(b holdpoint.budget, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	l limiter;
	v jsonb;
	v_used bigint;
	v_runs bigint[];
begin
	for l in select * from limiter x where x.kind = 'budget' and x.name = b.name and (b.key = '' or x.key = b.key)
			order by x.kind, x.name, x.key for update loop
		v := budget_limit(l.name, l.key);
		continue when v is null;
		v_used := (budget_use(l, p_now)).o_used;
		with d as (delete from permit p where p.limiter_id = l.id and p.at > p_now returning p.run_id, p.at, p.rank)
			select array_agg(d.run_id order by d.at, d.rank, d.run_id) into v_runs from d;
		update limiter set max = (v ->> 'max')::bigint, per_us = (v ->> 'per_us')::bigint, bucket = (v ->> 'bucket')::boolean,
			at = case when (v ->> 'bucket')::boolean
				then p_now + bucket_step((v ->> 'max')::bigint, (v ->> 'per_us')::bigint, v_used)
				else window_start(p_now, (v ->> 'per_us')::bigint) end,
			used = case when (v ->> 'bucket')::boolean then 0 else v_used end,
			now_at = window_start(p_now, (v ->> 'per_us')::bigint), now_used = v_used
			where id = l.id;
		perform wake(coalesce(v_runs, '{}'), p_now);
	end loop;
end $$;

-- Limits that hold something up or are in use: {kind, name, key, max, used, waiting}.
create function holdpoint.door_limits(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 0);
	v_now bigint := now_us();
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
begin
	with page as (
		select l.*, row_number() over (order by l.id) n from limiter l where l.id > v_after order by l.id limit v_limit + 1
	)
	select coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
			'kind', case p.kind when 'slots' then 'concurrency' when 'start_slots' then 'concurrency of runs'
				when 'start_rate' then 'rate of starts' when 'turn' then 'fair' else p.kind end,
			'name', nullif(p.name, ''), 'key', nullif(p.key, ''), 'max', p.max, 'window_us', nullif(p.per_us, 0),
			'used', case when p.kind = 'budget' then (select u.o_used from budget_use(
				(p.id, p.kind, p.name, p.key_hash, p.key, p.max, p.per_us, p.bucket, p.at, p.used, p.waiting,
				p.now_at, p.now_used)::limiter, v_now) u)
				when p.per_us = 0 then p.used end,
			'waiting', case when p.per_us = 0 then p.waiting
				else (select count(*) from (select from permit x where x.limiter_id = p.id and x.at > v_now limit 100000) x) end))
				order by p.n) filter (where n <= v_limit), '[]'), count(*) > v_limit, max(p.id) filter (where n <= v_limit)
		into v_rows, v_more, v_last from page p;
	return jsonb_build_object('limits', v_rows) || case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

-- ---- numbers ----

create function holdpoint.metrics_limits() returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object(
		'starts_waiting', (select count(*) from (select from permit where at is null and visit = 0 limit 100000) x),
		'calls_waiting', (select count(*) from (select from permit where at is null and visit > 0 limit 100000) x),
		'budgets', (select coalesce(jsonb_agg(jsonb_build_object('budget', b.name,
				'limit', (coalesce(b.set_to, b.declared) ->> 'max')::bigint,
				'waiting', (select count(*) from (select from gated g where g.kind = 'budget' and g.name = b.name limit 100000) x))
				order by b.name), '[]')
			from (select * from budget where key = '' order by name limit 200) b))
$$;

-- What a lost lock or a killed process left: permits that nobody will give back any more. And
-- limiters of keys that nobody has asked for lately. Each engine does a little after each of
-- its heartbeats, in a transaction of its own (it must not cost the lease): two hundred rows
-- of each, from a random place on and around, so that every row has its turn. What
-- somebody holds locked is left for the next time.
create function holdpoint.tend_limits(p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_from bigint;
	v_ended bigint[];
	v_turns bigint[];
	v_runs bigint[];
	v_visits int[];
begin
	select min(run_id) + (random() * (max(run_id) - min(run_id)))::bigint into v_from from permit;
	with c as materialized (
		select * from (
			(select run_id, visit, limiter_id from permit where run_id >= v_from order by 1, 2, 3 limit 200)
			union all
			(select run_id, visit, limiter_id from permit where run_id < v_from order by 1, 2, 3 limit 200)) x limit 200
	)
	select array_agg(distinct c.run_id) filter (where c.visit = 0 and s.status > 3),
			array_agg(distinct c.run_id) filter (where l.kind = 'turn' and (s.visit > 1 or s.attempt > 0 or s.status = 3)),
			array_agg(c.run_id) filter (where c.visit > 0 and (s.status > 3 or s.visit <> c.visit)),
			array_agg(c.visit) filter (where c.visit > 0 and (s.status > 3 or s.visit <> c.visit))
		into v_ended, v_turns, v_runs, v_visits
		from c join run_state s on s.run_id = c.run_id join limiter l on l.id = c.limiter_id;
	if v_runs is not null then
		perform leave_visits(v_runs, v_visits, p_now);
	end if;
	if v_ended is not null then
		perform leave_starts(v_ended, null, p_now);
	end if;
	if v_turns is not null then
		perform leave_starts(v_turns, 'turn', p_now);
	end if;
	select min(id) + (random() * (max(id) - min(id)))::bigint into v_from from limiter;
	with c as materialized (
		select * from ((select id from limiter where id >= v_from order by id limit 200)
			union all (select id from limiter where id < v_from order by id limit 200)) x limit 200
	), old as materialized (
		select l.id from c join limiter l on l.id = c.id
		where l.per_us > 0 and l.at < p_now - 2 * l.per_us and l.waiting = 0
			and not exists (select from permit p where p.limiter_id = l.id and p.at is not null)
			and not exists (select from permit p where p.limiter_id = l.id and p.at is null)
		for update of l skip locked
	)
	delete from limiter l using old where l.id = old.id;
end $$;

reset role;
