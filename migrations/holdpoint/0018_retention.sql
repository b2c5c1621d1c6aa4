-- 0018: retention: what has ended long enough ago is removed.
--
-- A workflow says how long (`retention = "90d"`); without it its runs are kept for
-- ever. What is removed is the run with all its rows; its keys stay, hashed, so a
-- start with a key of a run that was removed still says that it existed.
--
-- The work is done in small steps, each one transaction that writes down where it
-- stands (table gc): any engine makes the next one, and one that dies in the middle
-- leaves nothing half. A pass goes over the partitions, the oldest first:
--
--   survey   how many runs of it are over, how many must stay
--   rows     the runs that are over are deleted
--   copy     few stay of a partition that gets no new runs: their history and saved
--            values are carried into a small new one
--   swap     the new one takes the old one's place, the old one is dropped
--
-- Where many stay (or new runs still come), `rows` deletes history and saved values,
-- too, and the partition lives on.

set local role holdpoint_owner;

create table holdpoint.gc (
	one boolean primary key default true check (one),
	step text not null default 'idle',
	part bigint not null default 0,
	next_id bigint not null default 0,  -- the first run of it that has not been looked at
	over bigint not null default 0,     -- of the partition, as surveyed
	stay bigint not null default 0,
	live bigint not null default 0,
	whole boolean not null default false, -- rows: history goes with the partition
	passed_at bigint not null default 0,  -- the end of the last pass
	removed bigint not null default 0,    -- runs, ever
	dropped bigint not null default 0     -- partitions, ever
);
insert into holdpoint.gc default values;
-- Runs that lived when they were copied: the swap copies them once more.
create table holdpoint.gc_live (run_id bigint primary key);
revoke all on holdpoint.gc, holdpoint.gc_live from holdpoint_engine;
create index inbox_received on holdpoint.inbox using brin (received_at);

create function holdpoint.gc_size() returns bigint
language sql immutable as $$
	select 1000000::bigint -- as ensure_partitions() makes them
$$;

-- Its parent lives, and will ask what became of it.
create function holdpoint.gc_wanted(p_run bigint) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from child c join run_state p on p.run_id = c.run_id
		where c.child = p_run and p.status <= 3)
$$;

-- The next runs at or after p_from: is its time over?
create function holdpoint.gc_page(p_from bigint, p_until bigint, p_limit int, p_now bigint)
returns table (o_run bigint, o_workflow text, o_live boolean, o_over boolean)
language sql stable set search_path = holdpoint, pg_temp as $$
	with keep as materialized (
		select w.name, (d.summary ->> 'retention_us')::bigint as us from workflow w join definition d on d.digest = w.digest
	), page as materialized (
		select r.id, r.workflow from run r where r.id >= p_from and r.id < p_until order by r.id limit p_limit
	)
	select p.id, p.workflow, s.status <= 3, coalesce(case when s.status > 3 and k.us is not null
		then (select h.at from history h where h.run_id = p.id order by h.rev desc, h.seq desc limit 1) < p_now - k.us
			and not gc_wanted(p.id) end, false)
	from page p join run_state s on s.run_id = p.id left join keep k on k.name = p.workflow
	order by p.id
$$;

-- All of these runs but their keys; p_whole: history and saved values go with their
-- partition. A parent may have joined one of them since somebody looked, or be about
-- to: it takes the run's lock for that. How many went.
create function holdpoint.gc_forget(p_runs bigint[], p_whole boolean) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_runs bigint[] := array(select s.run_id from run_state s where s.run_id = any(p_runs)
		order by s.run_id for update skip locked);
	v_table text;
begin
	v_runs := array(select x from unnest(v_runs) x where not gc_wanted(x));
	delete from run_state where run_id = any(v_runs);
	delete from vote v using approval a where a.run_id = any(v_runs) and v.approval_id = a.id;
	-- every table that has rows of a run, whatever feature it belongs to
	for v_table in select gc_tables() loop
		execute format('delete from %I where run_id = any($1)', v_table) using v_runs;
	end loop;
	if not p_whole then
		delete from history where run_id = any(v_runs);
		delete from saved where run_id = any(v_runs);
	end if;
	delete from run where id = any(v_runs);
	return cardinality(v_runs);
end $$;

-- Tables whose key begins with a run. Keys outlive their runs; history and saved
-- values have their own way.
create function holdpoint.gc_tables() returns setof text
language sql stable set search_path = holdpoint, pg_temp as $$
	select c.relname::text from pg_class c
		join pg_attribute a on a.attrelid = c.oid and a.attname = 'run_id'
	where c.relnamespace = 'holdpoint'::regnamespace and c.relkind = 'r' and not c.relispartition
		and c.relname not in ('run_state', 'run_key', 'effect_key', 'gc_live') and c.relname !~ '^(history|saved)_'
		and exists (select from pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum and i.indpred is null)
	order by c.relname
$$;

-- Messages whose time is over, the oldest first, and mailboxes that nobody uses.
create function holdpoint.gc_mail(p_now bigint, p_limit int) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_names text[];
	v_hashes bytea[];
begin
	with old as materialized (
		select m.id, m.expires_at from mail m order by m.id limit p_limit
	), gone as (
		delete from mail m using old where m.id = old.id and old.expires_at <= p_now returning m.name, m.key_hash
	)
	select coalesce(array_agg(name), '{}'), coalesce(array_agg(key_hash), '{}') into v_names, v_hashes from gone;
	with box as materialized (
		select b.name, b.key_hash from mailbox b
			join (select distinct * from unnest(v_names, v_hashes) g(name, key_hash)) g using (name, key_hash)
		where not exists (select from mail m where m.name = b.name and m.key_hash = b.key_hash)
			and not exists (select from mail_wait w where w.name = b.name and w.key_hash = b.key_hash)
		order by b.name, b.key_hash for update of b skip locked
	)
	delete from mailbox b using box where b.name = box.name and b.key_hash = box.key_hash;
	return cardinality(v_names);
end $$;

-- Bodies of webhooks: a provider sends nothing again after so long.
create function holdpoint.gc_inbox(p_now bigint, p_limit int) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_n int;
begin
	delete from inbox i using (select source, event_id from inbox where received_at < p_now - 30 * 86400000000 limit p_limit) old
		where i.source = old.source and i.event_id = old.event_id;
	get diagnostics v_n = row_count;
	return v_n;
end $$;

create function holdpoint.gc_copy(p_parent text, p_part bigint, p_runs bigint[]) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	execute format('delete from %I where run_id = any($1)', p_parent || '_' || p_part || '_stay') using p_runs;
	execute format('insert into %I select * from %I where run_id = any($1)', p_parent || '_' || p_part || '_stay',
		p_parent || '_' || p_part) using p_runs;
end $$;

-- Those that stay, a page further. A run that is over does not change any more; one
-- that lives is noted before it is copied.
create function holdpoint.gc_copy_page(g holdpoint.gc, p_limit int) returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_runs bigint[];
	v_parent text;
begin
	if g.next_id = g.part * gc_size() then
		delete from gc_live;
		foreach v_parent in array array['history', 'saved'] loop
			execute format('drop table if exists %I', v_parent || '_' || g.part || '_stay');
			execute format('create table %I (like %I including all)', v_parent || '_' || g.part || '_stay', v_parent);
			execute format('revoke all on %I from holdpoint_engine', v_parent || '_' || g.part || '_stay');
		end loop;
	end if;
	v_runs := array(select id from run where id >= g.next_id and id < (g.part + 1) * gc_size() order by id limit p_limit);
	insert into gc_live select s.run_id from run_state s where s.run_id = any(v_runs) and s.status <= 3 on conflict do nothing;
	perform gc_copy('history', g.part, v_runs), gc_copy('saved', g.part, v_runs);
	return case when cardinality(v_runs) = p_limit then v_runs[p_limit] + 1 end;
end $$;

-- Nobody writes while it is done, and it gives up at once when somebody does: whoever
-- waits for us is a commit. False: not now.
create function holdpoint.gc_swap(p_part bigint) returns boolean
language plpgsql set search_path = holdpoint, pg_temp set lock_timeout = '100ms' as $$
declare
	v_live bigint[];
	v_parent text;
	v_stay boolean;
begin
	lock table history, saved in access exclusive mode;
	-- those that lived, and those that were still being started when they should have been seen
	execute format('select array(select run_id from gc_live union select r.id from run r where r.id >= %s and r.id < %s
		and not exists (select from %I h where h.run_id = r.id) order by 1)', p_part * gc_size(), (p_part + 1) * gc_size(),
		'history_' || p_part || '_stay') into v_live;
	perform gc_copy('history', p_part, v_live), gc_copy('saved', p_part, v_live);
	v_stay := exists (select from run where id >= p_part * gc_size() and id < (p_part + 1) * gc_size());
	foreach v_parent in array array['history', 'saved'] loop
		execute format('alter table %I detach partition %I', v_parent, v_parent || '_' || p_part);
		execute format('drop table %I', v_parent || '_' || p_part);
		if v_stay then
			execute format('alter table %I rename to %I', v_parent || '_' || p_part || '_stay', v_parent || '_' || p_part);
			execute format('alter table %I attach partition %I for values from (%s) to (%s)', v_parent,
				v_parent || '_' || p_part, p_part * gc_size(), (p_part + 1) * gc_size());
		else
			execute format('drop table %I', v_parent || '_' || p_part || '_stay');
		end if;
	end loop;
	delete from gc_live;
	return true;
exception when lock_not_available or deadlock_detected then
	return false;
end $$;

-- The next partition that has runs; else the pass is over.
create function holdpoint.gc_next(p_from bigint, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_first bigint := (select min(id) from run where id >= p_from * gc_size());
begin
	if v_first is null then
		update gc set step = 'idle', passed_at = p_now;
	else
		update gc set step = 'survey', part = v_first / gc_size(), next_id = v_first / gc_size() * gc_size(),
			over = 0, stay = 0, live = 0, whole = false;
	end if;
end $$;

-- A partition has been surveyed.
create function holdpoint.gc_decide(g holdpoint.gc, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	c_stay constant bigint := 20000;
	c_live constant bigint := 500;
begin
	if g.over = 0 then
		perform gc_next(g.part + 1, p_now);
	else
		update gc set step = 'rows', next_id = g.part * gc_size(), whole = g.stay <= c_stay and g.live <= c_live
			and (g.part + 1) * gc_size() <= (select last_value from run_id_seq);
	end if;
end $$;

create function holdpoint.gc_survey(g holdpoint.gc, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	c_page constant int := 5000;
	v record;
begin
	select count(*) as n, max(o_run) as last, count(*) filter (where o_over) as over,
		count(*) filter (where not o_over) as stay, count(*) filter (where o_live) as live into v
		from gc_page(g.next_id, (g.part + 1) * gc_size(), c_page, p_now);
	update gc set over = over + v.over, stay = stay + v.stay, live = live + v.live, next_id = coalesce(v.last + 1, next_id)
		returning * into g;
	if v.n < c_page then
		perform gc_decide(g, p_now);
	end if;
end $$;

create function holdpoint.gc_rows(g holdpoint.gc, p_now bigint) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	c_page constant int := 500;
	v_n int := 0;
	v record;
begin
	select count(*) as n, max(o_run) as last, coalesce(array_agg(o_run) filter (where o_over), '{}') as runs into v
		from gc_page(g.next_id, (g.part + 1) * gc_size(), c_page, p_now);
	if v.runs <> '{}' then
		v_n := gc_forget(v.runs, g.whole);
	end if;
	update gc set removed = removed + v_n, next_id = coalesce(v.last + 1, next_id);
	if v.n < c_page and g.whole then
		update gc set step = 'copy', next_id = g.part * gc_size();
	elsif v.n < c_page then
		perform gc_next(g.part + 1, p_now);
	end if;
	return v_n;
end $$;

-- The owner's work, one step of it. `more`: there is something to do at once.
create function holdpoint.gc_step(p_now_too boolean) returns jsonb
language plpgsql security definer set search_path = holdpoint, pg_temp as $$
declare
	c_pause constant bigint := 3600000000; -- between two passes: each looks at every run that is kept
	v_now bigint := now_us();
	v_next bigint;
	v_step text;
	v_n int := 0;
	g gc;
begin
	select * into g from gc for update skip locked;
	if not found then
		return jsonb_build_object('step', 'busy', 'removed', 0, 'joined', true, 'more', true);
	end if;
	case g.step
	when 'idle' then
		v_n := gc_mail(v_now, 1000) + gc_inbox(v_now, 500);
		if v_n > 0 then
			return jsonb_build_object('step', 'mail', 'removed', 0, 'joined', false, 'more', true);
		end if;
		if (p_now_too or g.passed_at + c_pause <= v_now) and exists (select from workflow w join definition d on d.digest = w.digest
				where d.summary ? 'retention_us') then
			perform gc_next(0, v_now);
		end if;
	when 'survey' then
		perform gc_survey(g, v_now);
	when 'rows' then
		v_n := gc_rows(g, v_now);
	when 'copy' then
		v_next := gc_copy_page(g, 500);
		update gc set step = case when v_next is null then 'swap' else 'copy' end, next_id = coalesce(v_next, next_id);
	when 'swap' then
		if gc_swap(g.part) then
			update gc set dropped = dropped + 1;
			perform gc_next(g.part + 1, v_now);
		end if;
	end case;
	v_step := (select step from gc);
	return jsonb_build_object('step', v_step, 'part', g.part, 'removed', v_n, 'joined', g.step <> 'idle', 'more', v_step <> 'idle');
end $$;

-- One step. `pass`: begins a pass also when the last one has just ended. `joined`: a
-- pass was under way already, and what is over since it began may be left by it.
create function holdpoint.door_gc(p_principal text, p_args jsonb) returns jsonb
language sql set search_path = holdpoint, pg_temp as $$
	select gc_step(p_args -> 'pass' is not distinct from 'true')
$$;

-- What would go, a page further: by workflow and by partition.
create function holdpoint.door_gc_plan(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	c_page constant int := 5000;
	v_from bigint := arg_int(p_args, 'after', 0) + 1;
	v_now bigint := now_us();
	v record;
begin
	with page as materialized (select * from gc_page(v_from, 9223372036854775807, c_page, v_now))
	select count(*) as n, max(o_run) as last,
		coalesce((select jsonb_object_agg(o_workflow, n) from (select o_workflow, count(*) as n from page where o_over group by 1) x), '{}') as over,
		coalesce((select jsonb_object_agg(part, jsonb_build_object('over', over, 'stay', stay)) from (
			select o_run / gc_size() as part, count(*) filter (where o_over) as over, count(*) filter (where not o_over) as stay
			from page group by 1) x), '{}') as parts
		into v from page;
	return jsonb_build_object('over', v.over, 'partitions', v.parts) || case when v.n = c_page
		then jsonb_build_object('next', v.last) else '{}' end;
end $$;

reset role;
