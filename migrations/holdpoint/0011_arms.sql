-- 0011: arms: what stands beside the main wait of a state.
--
-- Event arms are rows of mail_wait after the state's own. What is due by itself is
-- kept as the machine wrote it: {"due", "arms": {name: {"due", "checks", "failures",
-- "code"}}, …}; one row per run, replaced by each visit and removed when it is over.

set local role holdpoint_owner;

create table holdpoint.arm_state (
	run_id bigint primary key,
	visit int not null,
	doc jsonb not null
) with (fillfactor = 70);

-- {"over": true}: the state is left. "won": by an arm; what was open beside it is
-- closed with that sentence, so that whoever decides later is told.
create function holdpoint.annex_arms(p_run bigint, p_visit int, p_from_visit int, p_doc jsonb, p_now bigint)
returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	if p_doc ? 'over' then
		delete from arm_state where run_id = p_run;
		if p_doc ? 'won' then
			update approval set status = 'cancelled', decided_at = p_now, reason = p_doc ->> 'won'
				where run_id = p_run and visit = p_from_visit and status = 'open';
		end if;
		return;
	end if;
	insert into arm_state (run_id, visit, doc) values (p_run, p_visit, p_doc)
		on conflict (run_id) do update set visit = excluded.visit, doc = excluded.doc;
end $$;

create function holdpoint.found_arms(s holdpoint.run_state) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select a.doc from arm_state a where a.run_id = s.run_id and a.visit = s.visit and s.phase in (6, 10)
$$;

-- The arms of a state that is waited in, with where each stands; null: it has none.
create function holdpoint.arms_json(s holdpoint.run_state) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', a.a ->> 'name', 'kind', a.a ->> 'kind',
			'next', a.a ->> 'next', 'event', w.name, 'key', w.key, 'operation', a.a ->> 'operation',
			'every_us', a.a -> 'every_us', 'due_at', json_time((c.c ->> 'due')::bigint),
			'checks', c.c -> 'checks', 'failures', c.c -> 'failures', 'code', nullif(c.c ->> 'code', ''))) order by a.n)
	from run r
	cross join lateral (select state_summary(coalesce(s.digest, r.digest), s.state) as st) x
	cross join lateral jsonb_array_elements(x.st -> 'arms') with ordinality a(a, n)
	left join mail_wait w on w.run_id = s.run_id and w.wait = (a.a ->> 'wait')::int
	left join lateral (select found_arms(s) -> 'arms' -> (a.a ->> 'name') as c) c on true
	where r.id = s.run_id and s.status = 2 and s.phase in (6, 10)
$$;

create function holdpoint.why_arm(p_arm jsonb) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select format('to "%s" ', p_arm ->> 'next') || case p_arm ->> 'kind'
		when 'event' then format('when the event %s with key "%s" arrives', p_arm ->> 'event', p_arm ->> 'key')
		when 'timer' then 'at ' || coalesce(say_time(parse_time(p_arm ->> 'due_at')), 'a time that is not known')
		else format('when the check %s says so (every %s s, next at %s%s)', p_arm ->> 'operation',
			trim_scale((p_arm ->> 'every_us')::numeric / 1000000), coalesce(say_time(parse_time(p_arm ->> 'due_at')), '?'),
			case when (p_arm ->> 'failures')::int > 0 then format('; %s failed in a row, the last with %s',
				p_arm ->> 'failures', coalesce(p_arm ->> 'code', 'no code')) else '' end) end
		|| format(', by arm "%s"', p_arm ->> 'name')
$$;

-- " It also goes on …": null when the state has no arms.
create function holdpoint.why_arms(s holdpoint.run_state) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select ' It also goes on ' || string_agg(why_arm(a.a), '; ' order by a.n) || '.'
	from jsonb_array_elements(arms_json(s)) with ordinality a(a, n)
$$;

-- When the main wait of a state with clocks beside it is over.
create function holdpoint.main_due(s holdpoint.run_state) returns bigint
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce((found_arms(s) ->> 'due')::bigint, s.due_at)
$$;

reset role;
