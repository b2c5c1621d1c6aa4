-- interleave.sql: the world of store_interleave.c: small, and the same at every beginning.
--
-- Runs have roles (table il): R is ready; C is in the hands of engine 1, and so are the
-- child K and, of engine 2, its parent P; M waits for a message, A for a decision; O belongs
-- to engine 3, whose lease is over. Time stands still.

create or replace function holdpoint.now_us() returns bigint language sql stable as $$ select 1700000000000000 $$;
create table public.il (role text primary key, run bigint, epoch int, rev int);
grant select on public.il to holdpoint_engine, holdpoint_workflow;

-- One transition as the worker knows the run: it is fenced by what is written in il.
create function public.il_commit(p_role text, p_kind text, p_sql boolean default false) returns text
language plpgsql as $$
declare
	x public.il;
	v_visit int := case when p_kind in ('park', 'finish', 'open', 'family', 'enter', 'place') then 2 else 1 end;
	v_state int := case p_kind when 'park' then 1 when 'finish' then 4 when 'open' then 3 when 'family' then 3 when 'join' then 3 when 'ask' then 2 else 0 end;
	v_status int := case p_kind when 'finish' then 4 when 'enter' then 1 when 'place' then 1 else 2 end;
	v_phase int := case p_kind when 'park' then 6 when 'ask' then 6 when 'open' then 10 when 'family' then 10 when 'join' then 10 else 1 end;
	v_move int := case p_kind when 'finish' then 9 when 'enter' then 2 when 'place' then 2 when 'join' then 13 else 7 end;
	v_end int := case p_kind when 'finish' then 2 when 'enter' then 0 when 'place' then 0 else 1 end;
	v_sql text := format('select count(*) from holdpoint.%s(', case when p_sql then 'sql_commit' else 'commit' end);
	v_n bigint;
begin
	select * into strict x from public.il where role = p_role;
	if p_sql then
		v_sql := v_sql || format('p_token => %L, ', (select token from public.il_token where role = p_role));
	end if;
	v_sql := v_sql || format($f$p_run => array[%s]::bigint[], p_epoch => array[%s]::bigint[], p_rev => array[%s]::bigint[],
		p_move => array[%s]::bigint[], p_disposition => array[%s]::bigint[], p_visit => array[%s]::bigint[], p_state => array[%s]::bigint[],
		p_status => array[%s]::bigint[], p_phase => array[%s]::bigint[], p_attempt => '{0}', p_failures => '{0}', p_entered_at => '{0}',
		p_first_sent_at => '{0}', p_sent_at => '{0}', p_due_at => '{0}', p_signed_visit => '{0}', p_signed_for => '{0}', p_held_class => '{0}', p_command => '{0}',
		p_claims => '{0}', p_from_state => '{0}', p_from_visit => '{1}', p_flags => '{0}', p_outcome => '{0}', p_consume => '{0}',
		p_hash => array[null]::bytea[], p_run_code => array[null]::text[], p_code => array[null]::text[], p_message => array[null]::text[],
		p_result => array[null]::jsonb[], p_save_ord => '{}', p_save_name => '{}', p_save_value => '{}',
		p_approval_ord => %L::bigint[], p_approval => %L::jsonb[], p_approval_hash => %L::bytea[], p_approval_deadline => %L::bigint[],
		p_wait_ord => %L::bigint[], p_wait_keys => %L::text[], p_key_ord => '{}', p_key_scope => '{}', p_key => '{}',
		p_annex_ord => %L::bigint[], p_annex_kind => %L::text[], p_annex => %L::jsonb[])$f$,
		x.run, x.epoch, x.rev, v_move, v_end, v_visit, v_state, v_status, v_phase,
		case when p_kind = 'ask' then '{1}' else '{}' end, case when p_kind = 'ask' then array['{"ask": "Go?"}'::jsonb] else '{}' end,
		case when p_kind = 'ask' then array[''::bytea] else '{}' end, case when p_kind = 'ask' then '{1800000000000000}' else '{}' end,
		case when p_kind = 'park' then '{1}' else '{}' end, case when p_kind = 'park' then '{c}' else '{}' end,
		case when p_kind in ('open', 'family', 'place') then '{1}' else '{}' end,
		case when p_kind in ('open', 'family') then '{children}' when p_kind = 'place' then '{limits}' else '{}' end,
		case when p_kind = 'place' then array['{"demands": [{"kind": "slots", "name": "flow.step", "max": 1}]}'::jsonb]
			when p_kind in ('open', 'family') then array[jsonb_strip_nulls(jsonb_build_object('op', 'open', 'workflow', 'child', 'single', true,
			'need', 0, 'tolerate', 0, 'percent', -1, 'concurrency', 1, 'end', true, 'children', jsonb_build_array(jsonb_build_object(
			'key', case p_kind when 'open' then 'kx' end, 'input', '{}'::jsonb))))] else '{}' end);
	execute v_sql into v_n;
	return case v_n when 1 then 'written' else 'fenced' end;
end $$;

create table public.il_token (role text primary key, token text);
grant select on public.il_token to holdpoint_engine, holdpoint_workflow;

create function public.il_note(p_role text, p_run bigint) returns void language sql as $$
	insert into public.il select p_role, s.run_id, s.epoch, s.rev from holdpoint.run_state s where s.run_id = p_run
		on conflict (role) do update set run = excluded.run, epoch = excluded.epoch, rev = excluded.rev
$$;

-- Everything anew: the same numbers for the same things.
create function public.il_world() returns void language plpgsql as $$
declare
	t text;
	v_run bigint;
begin
	foreach t in array array['ready', 'timer', 'history', 'saved', 'run_key', 'inbox', 'mail', 'mailbox', 'mail_wait', 'mail_cursor', 'vote',
			'approval', 'schedule_tick', 'child', 'family', 'paused', 'held', 'run_state', 'run', 'engine', 'permit', 'limiter'] loop
		execute format('delete from holdpoint.%I', t);
	end loop;
	delete from public.il;
	perform setval('holdpoint.run_id_seq', 1, false), setval('holdpoint.mail_id_seq', 1, false), setval('holdpoint.approval_id_seq', 1, false),
		setval('holdpoint.engine_id_seq', 1, false);
	perform holdpoint.engine_register('host', 1, 10000000) from generate_series(1, 3);
	foreach t in array array['C', 'M', 'A', 'P', 'O', 'R'] loop
		select o_run into v_run from holdpoint.start_run('flow', '{}', case t when 'C' then 'kc' end, 'tester',
			case t when 'R' then null when 'O' then 3 when 'P' then 2 else 1 end, 1, holdpoint.now_us());
		perform il_note(t, v_run);
	end loop;
	perform il_commit('M', 'park'), il_commit('P', 'family');
	perform il_note(role, run) from public.il where role in ('M', 'P');
	perform il_commit('A', 'ask');
	select c.child into v_run from holdpoint.child c limit 1;
	update holdpoint.ready set due_at = 0 where run_id = v_run; -- before R
	perform holdpoint.claim(1, 1, 2, '{}');
	-- the parent is claimed again, and looks while its child is at work
	insert into holdpoint.ready (run_id, due_at) select run, 0 from public.il where role = 'P';
	perform holdpoint.claim(2, 1, 2, '{}');
	insert into public.il select 'K', v_run, 0, 0;
	perform il_note(role, run) from public.il;
	update holdpoint.engine set lease_until = 0 where id = 3;
	update holdpoint.engine set idle = true where id = 2;
	update holdpoint.schedule set version = 0, look_at = 0, position = 0, last_run = null, last_tick = null, started = 0, skipped = 0, paused_at = null;
	delete from public.il_token;
	insert into public.il_token select role, holdpoint.lease_token(run, epoch) from public.il;
end $$;

-- A claim that was under way when its engine was stopped has its runs for a dead one: the
-- next heartbeat of another gives them back.
create function public.il_heal() returns void language sql as $$
	update holdpoint.ready set engine_id = null where engine_id in (select id from holdpoint.engine where dead)
$$;

-- What the world is, in words that do not depend on the numbers of what was made new.
create function public.il_state() returns text language sql stable set search_path = holdpoint, public as $$
select concat_ws(E'\n',
	(select string_agg(concat_ws(' ', coalesce(i.role, 'new ' || r.workflow || ' ' || coalesce(r.key, '-') || ' ' || r.requester), 'epoch', s.epoch, 'rev', s.rev,
		'visit', s.visit, 'state', s.state, 'status', s.status, 'phase', s.phase, 'claims', s.claims,
		case when s.cancel then 'cancel' end, case when s.pause then 'paused' end, case when s.awaited then 'awaited' end,
		case when y.run_id is not null then coalesce('owned ' || y.engine_id, 'ready') end, case when t.run_id is not null then 'timer' end,
		(select string_agg(concat_ws('/', h.rev, h.seq, h.move, h.actor, h.code), ' ' order by h.rev, h.seq) from history h where h.run_id = s.run_id),
		(select string_agg(w.name || '=' || w.key, ' ' order by w.wait) from mail_wait w where w.run_id = s.run_id)), E'\n'
		order by coalesce(i.role, 'new'), r.workflow, r.key, r.requester, s.epoch)
	from run r join run_state s on s.run_id = r.id left join public.il i on i.run = r.id left join ready y on y.run_id = r.id
		left join timer t on t.run_id = r.id),
	(select 'keys ' || string_agg(concat_ws('/', workflow, generation, freed), ' ' order by workflow, generation) from run_key where run_id is not null),
	(select 'mail ' || string_agg(concat_ws('/', name, key, sender), ' ' order by name, key, sender) from mail),
	(select 'inbox ' || string_agg(event_id, ' ' order by event_id) from inbox),
	(select 'approvals ' || string_agg(concat_ws('/', status, decided_by), ' ' order by id) from approval),
	(select 'votes ' || string_agg(concat_ws('/', principal, decision), ' ' order by principal) from vote),
	(select 'schedule ' || string_agg(concat_ws('/', version, started, skipped), ' ') from schedule),
	(select 'ticks ' || string_agg(concat_ws('/', tick, outcome), ' ' order by tick) from schedule_tick),
	(select 'families ' || string_agg(concat_ws('/', i.role, f.total, f.queued, f.running, f.succeeded, f.failed, f.cancelled, f.closed, f.complete), ' ' order by i.role)
		from family f left join public.il i on i.run = f.run_id),
	(select 'children ' || string_agg(concat_ws('/', i.role, c.n, c.status, c.own, c.cancel, c.child is not null), ' ' order by i.role, c.n)
		from child c left join public.il i on i.run = c.run_id),
	(select 'places ' || string_agg(concat_ws('/', i.role, p.visit, p.at is not null), ' ' order by i.role) from permit p left join public.il i on i.run = p.run_id),
	(select 'engines ' || string_agg(concat_ws('/', id, dead), ' ' order by id) from engine)) $$;

-- What must hold whatever was done; one line for each thing that is wrong.
create function public.il_wrong() returns text language sql stable set search_path = holdpoint, public as $$
select string_agg(x.what, E'\n') from (
	select format('run %s has a message to read and nobody will look', s.run_id) as what from run_state s
		where s.waits and s.status = 2 and s.phase in (6, 10) and not s.pause and not exists (select from ready y where y.run_id = s.run_id)
			and s.run_id = any(have_mail(array[s.run_id], now_us()))
	union all select format('run %s is decided and nobody will look', s.run_id) from run_state s join approval a on a.run_id = s.run_id and a.visit = s.visit
		where s.status = 2 and s.phase = 6 and not s.pause and a.status in ('approved', 'rejected') and not exists (select from ready y where y.run_id = s.run_id)
	union all select format('run %s is cancelled and nobody will look', s.run_id) from run_state s
		where s.status < 3 and s.cancel and not exists (select from ready y where y.run_id = s.run_id)
	union all select format('run %s: its children are decided and nobody will look', s.run_id) from run_state s join family f on f.run_id = s.run_id and f.visit = s.visit
		where s.status = 2 and s.phase = 10 and not s.pause and family_outcome(f) <> 0 and not exists (select from ready y where y.run_id = s.run_id)
	union all select format('run %s runs and is on no list', s.run_id) from run_state s
		where s.status = 1 and not s.pause and not exists (select from ready y where y.run_id = s.run_id)
	union all select format('run %s is over and on a list', s.run_id) from run_state s join ready y on y.run_id = s.run_id
		where s.status > 3 and y.engine_id is not null
	union all select format('run %s is paused and on a list', s.run_id) from run_state s join ready y on y.run_id = s.run_id
		where s.pause and not s.cancel and y.engine_id is null and s.status <> 1 -- whoever claims one that runs parks it
	union all select format('key %s of %s is had by %s runs', encode(key_hash, 'hex'), workflow, count(*)) from run_key where not freed
		group by workflow, key_hash having count(*) > 1
	union all select format('a key of %s belongs to no run', k.workflow) from run_key k where not exists (select from run r where r.id = k.run_id)
	union all select format('family of run %s counts wrong', f.run_id) from family f where (f.queued, f.running, f.succeeded + f.failed + f.cancelled) <>
		(select count(*) filter (where c.status = 0), count(*) filter (where c.status = 1), count(*) filter (where c.status in (4, 5, 6))
			from child c where c.run_id = f.run_id and c.visit = f.visit)
	union all select format('child %s has ended and its family does not know', c.child) from child c join run_state s on s.run_id = c.child
		where c.status = 1 and s.status > 3 and c.watched
	union all select format('run %s: %s has voted %s times', a.run_id, v.principal, count(*)) from vote v join approval a on a.id = v.approval_id
		group by a.run_id, v.principal, v.approval_id having count(*) > 1
	union all select format('run %s: revision %s twice', run_id, rev) from history where seq = 0 group by run_id, rev having count(*) > 1
) x $$;
