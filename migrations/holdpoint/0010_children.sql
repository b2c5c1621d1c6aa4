-- 0010: children: the runs that `run` and `each` states start or join.
--
-- A family is what one visit of a parent waits for; its row is the lock under which
-- its children are counted. Children are started by the very commit that parks the
-- parent, so a crash never starts one twice. A child's end is counted by the child's
-- own commit, which never touches the parent's state row: it takes the family's row,
-- starts who is next, and puts the parent on the ready list when its join is decided
-- or a further page of items is wanted. So a million children wake their parent as
-- often as there are pages.
--
-- Who ends is known to be waited for by run_state.awaited. It is set under that run's
-- own lock, so the end of a run and somebody's joining it cannot miss each other. A
-- run that is just being written is not waited for (two that joined each other would
-- wait for ever): the child stays `unwatched`, and the parent looks again soon. So it
-- does when the next child's key, or a limiter it starts by, is in a transaction that
-- is still open: an application's may take any time, and nobody's commit waits for it.
--
-- Locks: run_state, then families (run, visit), children, run_key and the limiters of
-- who starts, ready. The state row of a run that is joined is taken late, and so only
-- if nobody has it.

set local role holdpoint_owner;

create table holdpoint.family (
	run_id bigint not null,
	visit int not null,
	workflow text not null,
	single boolean not null,      -- of a `run`: its value is the child's result
	depth int not null,           -- 1: its parent is nobody's child
	need bigint not null,         -- so many successes decide; 0: all must end
	tolerate bigint not null,     -- need 0: so many failures are none
	percent int not null,         -- … or this share of all children; -1: tolerate counts
	concurrency int not null,
	total bigint not null default 0,
	queued bigint not null default 0,
	running bigint not null default 0,
	succeeded bigint not null default 0,
	failed bigint not null default 0,
	cancelled bigint not null default 0,
	complete boolean not null default false, -- no page is to come
	closed boolean not null default false,   -- nobody is started any more, and those at work are told to end
	first_failed bigint,
	cursor jsonb,
	not_before bigint not null default 0,    -- nobody tries to start the next one before: see start_children()
	primary key (run_id, visit)
) with (fillfactor = 50);

-- status: 0 queued, 1 running, 4 … 6 as the run ended, 7 left alone, 8 never started.
-- One that could not be started is 5 and has no run.
create table holdpoint.child (
	run_id bigint not null,
	visit int not null,
	n bigint not null,
	child bigint,
	status smallint not null,
	own boolean not null default true,      -- started here, not joined
	watched boolean not null default true,
	cancel boolean not null default false,
	code text,
	message text,
	key text,
	input jsonb,                            -- until it is started
	primary key (run_id, visit, n)
) with (fillfactor = 80);
create index child_of on holdpoint.child (child) where child is not null;
create index child_queued on holdpoint.child (run_id, visit, n) where status = 0;
create index child_running on holdpoint.child (run_id, visit, n) where status = 1;
create index child_unwatched on holdpoint.child (run_id, visit, n) where status = 1 and not watched;

-- 1: the join is met, 2: it cannot be met any more, 0: neither yet.
create function holdpoint.family_outcome(f holdpoint.family) returns int
language sql immutable set search_path = holdpoint, pg_temp as $$
	select case
	when f.need > 0 then
		case when f.succeeded >= f.need then 1
		when f.complete and f.succeeded + f.running + f.queued < f.need then 2 else 0 end
	when f.percent < 0 and f.failed + f.cancelled > f.tolerate then 2
	when f.percent >= 0 and f.complete and (f.failed + f.cancelled) * 100 > f.total * f.percent then 2
	when f.complete and f.running + f.queued = 0 then 1
	else 0 end
$$;

create function holdpoint.family_wants_page(f holdpoint.family) returns boolean
language sql immutable set search_path = holdpoint, pg_temp as $$
	select not f.complete and not f.closed and f.queued < f.concurrency
$$;

-- Is there something for the parent to do?
create function holdpoint.family_calls(f holdpoint.family) returns boolean
language sql immutable set search_path = holdpoint, pg_temp as $$
	select case when f.closed then f.running = 0
		else family_outcome(f) <> 0 or family_wants_page(f)
			or (f.queued > 0 and f.running < f.concurrency and f.not_before = 0) end
$$;

-- Will nobody's end tell its parent, so that it must look again by itself?
create function holdpoint.family_looks(f holdpoint.family) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select not f.closed and (f.not_before > 0 or exists (select from child x
		where x.run_id = f.run_id and x.visit = f.visit and x.status = 1 and not x.watched))
$$;

create function holdpoint.family_count(f holdpoint.family, p_n bigint, p_status smallint) returns holdpoint.family
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
begin
	f.running := f.running - 1;
	if p_status = 4 then
		f.succeeded := f.succeeded + 1;
	elsif p_status = 5 then
		f.failed := f.failed + 1;
	else
		f.cancelled := f.cancelled + 1;
	end if;
	if p_status <> 4 then
		f.first_failed := coalesce(f.first_failed, p_n);
	end if;
	return f;
end $$;

create function holdpoint.put_family(f holdpoint.family) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update family x set total = f.total, queued = f.queued, running = f.running, succeeded = f.succeeded,
		failed = f.failed, cancelled = f.cancelled, complete = f.complete, closed = f.closed,
		first_failed = f.first_failed, cursor = f.cursor, not_before = f.not_before
	where x.run_id = f.run_id and x.visit = f.visit
$$;

create function holdpoint.put_child(c holdpoint.child) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update child x set child = c.child, status = c.status, own = c.own, watched = c.watched, code = c.code,
		message = c.message, input = c.input
	where x.run_id = c.run_id and x.visit = c.visit and x.n = c.n
$$;

-- Would p_run wait for itself if it waited for p_child? Upwards: who waits for p_run.
create function holdpoint.waits_for(p_run bigint, p_child bigint) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	with recursive up(id, d) as (
		select p_run, 0
		union
		select c.run_id, up.d + 1 from up join child c on c.child = up.id
		where c.status = 1 and up.d < 64
	)
	select exists (select from up where id = p_child)
$$;

-- Watches a run that was there already: 1 it lives, 4 … 6 it has ended, 0 it is just
-- being written, 9 it waits for us, 8 it has been removed: it had ended, and how is not
-- known any more.
create function holdpoint.watch_run(p_run bigint, p_child bigint) returns smallint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_status smallint;
begin
	if p_run = p_child then
		return 9;
	end if;
	select status into v_status from run_state where run_id = p_child for no key update skip locked;
	if not found then
		return case when exists (select from run_state where run_id = p_child) then 0 else 8 end;
	end if;
	if v_status > 3 then
		return v_status;
	end if;
	if waits_for(p_run, p_child) then
		return 9;
	end if;
	update run_state set awaited = true where run_id = p_child and not awaited;
	return 1;
end $$;

-- The row of a child that was there already, after watch_run() has said that.
create function holdpoint.child_watched(c holdpoint.child, p_said smallint) returns holdpoint.child
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	c.watched := p_said <> 0;
	c.status := case when p_said = 0 then 1 when p_said > 7 then 5 else p_said end;
	if p_said = 9 then
		c.code := 'waits_for_itself';
		c.message := format('run %s waits for run %s, so it cannot be its child', c.child, c.run_id);
		c.child := null;
	elsif p_said = 8 then
		c.code := 'run_removed';
		c.message := format('run %s, which had this key, was removed when its retention was over', c.child);
		c.child := null;
	end if;
	return c;
end $$;

-- start_run() where it may have to wait: for who has the key, or one of the workflow's
-- limiters, in a transaction that is still open. Null: not now.
create function holdpoint.start_unless_locked(p_workflow text, c holdpoint.child, p_requester text, p_now bigint,
	out o_run bigint, out o_existed boolean)
language plpgsql set search_path = holdpoint, pg_temp set lock_timeout = '200ms' as $$
begin
	select s.o_run, s.o_existed into o_run, o_existed from start_run(p_workflow, c.input, c.key, p_requester, null, null, p_now) s;
exception when lock_not_available or deadlock_detected then
	o_run := null;
end $$;

-- One queued child: its row as it is afterwards; still queued: not now. p_waits: it
-- may have to wait even without a key. Never raises for what the author or the child's
-- workflow did: this may be the commit of a sibling.
create function holdpoint.start_child(f holdpoint.family, c holdpoint.child, p_waits boolean, p_requester text, p_now bigint)
returns holdpoint.child
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v record;
begin
	if octet_length(c.input::text) > 262144 or octet_length(c.key) > 512 then
		c.status := 5;
		c.code := 'too_large';
		c.message := 'its input is larger than 256 KiB, or its key longer than 512 bytes';
		c.input := null;
		return c;
	end if;
	if p_waits or c.key <> '' then
		select * into v from start_unless_locked(f.workflow, c, p_requester, p_now);
		if v.o_run is null then
			return c;
		end if;
	else
		select * into v from start_run(f.workflow, c.input, null, p_requester, null, null, p_now);
	end if;
	c.child := v.o_run;
	c.own := not v.o_existed;
	c.input := null;
	c.status := 1;
	if c.own then
		update run_state set awaited = true where run_id = c.child;
		return c;
	end if;
	return child_watched(c, watch_run(f.run_id, c.child));
end $$;

-- Why no child of this workflow can be started now; null: it can. o_waits: its start
-- may have to wait for others (its limiters; who resumes the workflow just now).
create function holdpoint.child_obstacle(f holdpoint.family, out o_code text, out o_message text, out o_waits boolean)
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_enabled boolean;
begin
	if f.depth > 32 then
		o_code := 'too_deep';
		o_message := 'children of children may be 32 deep';
		return;
	end if;
	select enabled, limits is not null or paused_at is not null into v_enabled, o_waits from workflow where name = f.workflow;
	if not found then
		o_code := 'no_workflow';
		o_message := format('there is no workflow "%s": deploy it, then retry', f.workflow);
	elsif not v_enabled then
		o_code := 'workflow_disabled';
		o_message := format('workflow "%s" is disabled', f.workflow);
	end if;
end $$;

-- Starts who is next, as long as there is room and the join is not decided. The
-- family's row is locked. At most so many at a time: nobody's commit takes for ever.
-- When the next one cannot be started without waiting for somebody else's transaction,
-- nobody tries again for a second, not even who else ends: each try has cost a commit
-- its patience.
create function holdpoint.start_children(f holdpoint.family, p_now bigint) returns holdpoint.family
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_requester text;
	v_obstacle record;
	c child;
begin
	if f.closed or f.queued = 0 or f.running >= f.concurrency or p_now < f.not_before then
		return f;
	end if;
	f.not_before := 0;
	select requester into strict v_requester from run where id = f.run_id;
	v_obstacle := child_obstacle(f);
	for c in select * from child x where x.run_id = f.run_id and x.visit = f.visit and x.status = 0
			order by x.n limit 300 loop
		exit when f.running >= f.concurrency or family_outcome(f) <> 0;
		if v_obstacle.o_code is null then
			c := start_child(f, c, v_obstacle.o_waits, v_requester, p_now);
		else
			c.status := 5;
			c.code := v_obstacle.o_code;
			c.message := v_obstacle.o_message;
			c.input := null;
		end if;
		if c.status = 0 then
			f.not_before := p_now + 1000000;
			exit;
		end if;
		perform put_child(c);
		f.queued := f.queued - 1;
		f.running := f.running + 1;
		if c.status > 1 then
			f := family_count(f, c.n, c.status);
		end if;
	end loop;
	return f;
end $$;

-- Nobody is started any more. Those we started and nobody else waits for are told to
-- end; the others go on without us.
create function holdpoint.close_family(f holdpoint.family, p_now bigint) returns holdpoint.family
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_told bigint[];
begin
	if f.closed then
		return f;
	end if;
	f.closed := true;
	perform from child c where c.run_id = f.run_id and c.visit = f.visit and c.status < 2 order by c.n for no key update;
	update child c set status = 8, input = null where c.run_id = f.run_id and c.visit = f.visit and c.status = 0;
	f.queued := 0;
	update child c set status = 7 where c.run_id = f.run_id and c.visit = f.visit and c.status = 1
		and (not c.own or exists (select from child o where o.child = c.child and o.status = 1
			and (o.run_id, o.visit) <> (c.run_id, c.visit)));
	with told as (
		update child c set cancel = true where c.run_id = f.run_id and c.visit = f.visit and c.status = 1
		returning c.child
	)
	select coalesce(array_agg(child), '{}') into v_told from told;
	f.running := cardinality(v_told);
	-- one that is held stays with its operator, who has not been told what is in doubt
	perform wake(array(select s.run_id from run_state s where s.run_id = any(v_told) and s.status <> 3), p_now);
	return f;
end $$;

create function holdpoint.lock_families(p_parents bigint[], p_ended bigint[]) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_parents bigint[] := p_parents || array(select c.run_id from child c where c.child = any(p_ended) and c.status = 1);
begin
	perform from family f where f.run_id = any(v_parents) and not (f.closed and f.running = 0)
		order by f.run_id, f.visit for no key update;
end $$;

-- ---- annex "children": {"op": "open" | "page" | "close", …} ----

create function holdpoint.annex_children(p_run bigint, p_visit int, p_from_visit int, p_doc jsonb, p_now bigint)
returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_op text := p_doc ->> 'op';
	f family;
begin
	if v_op = 'close' then
		for f in select * from family x where x.run_id = p_run and x.visit = p_from_visit for no key update loop
			perform put_family(close_family(f, p_now));
		end loop;
		return;
	end if;
	if v_op is null or v_op not in ('open', 'page') then
		raise exception using errcode = 'HP400', message = format('run %s: this annex of children says nothing', p_run);
	end if;
	if v_op = 'open' then
		insert into family (run_id, visit, workflow, single, depth, need, tolerate, percent, concurrency)
			values (p_run, p_visit, p_doc ->> 'workflow', (p_doc ->> 'single')::boolean,
				coalesce((select max(x.depth) + 1 from child c join family x on x.run_id = c.run_id and x.visit = c.visit
					where c.child = p_run and c.own), 1),
				(p_doc ->> 'need')::bigint, (p_doc ->> 'tolerate')::bigint, (p_doc ->> 'percent')::int,
				(p_doc ->> 'concurrency')::int);
	end if;
	select * into f from family x where x.run_id = p_run and x.visit = p_visit for no key update;
	if not found or f.complete or f.closed then
		raise exception using errcode = 'HP409', message = format('run %s brings more children than it said', p_run);
	end if;
	if f.cursor is not null and p_doc -> 'cursor' = f.cursor then
		raise exception using errcode = 'HP400',
			message = format('the rows do not go on: after %s they end with %s again', f.cursor, f.cursor),
			hint = 'The statement must say: where COLUMN > $1 order by COLUMN limit $2';
	end if;
	insert into child (run_id, visit, n, status, key, input)
		select p_run, p_visit, f.total + x.i, 0, x.c ->> 'key', x.c -> 'input'
		from jsonb_array_elements(p_doc -> 'children') with ordinality x(c, i);
	f.total := f.total + jsonb_array_length(p_doc -> 'children');
	f.queued := f.queued + jsonb_array_length(p_doc -> 'children');
	f.cursor := p_doc -> 'cursor';
	f.complete := (p_doc ->> 'end')::boolean;
	perform put_family(start_children(f, p_now));
end $$;

-- What a parent that is claimed in phase JOINING must know.
create function holdpoint.found_children(p_run bigint, p_visit int) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_outcome int;
	v jsonb;
	f family;
begin
	select * into f from family x where x.run_id = p_run and x.visit = p_visit;
	if not found then
		return null;
	end if;
	v_outcome := family_outcome(f);
	v := jsonb_build_object('total', f.total, 'queued', f.queued, 'running', f.running, 'succeeded', f.succeeded,
		'failed', f.failed, 'cancelled', f.cancelled, 'closed', f.closed, 'outcome', v_outcome,
		'page', family_wants_page(f), 'cursor', f.cursor);
	if v_outcome = 1 then
		v := v || case when f.single then jsonb_build_object('result', (select h.detail from child c
				join history h on h.run_id = c.child and h.move = 9
				where c.run_id = p_run and c.visit = p_visit and c.n = 1 order by h.rev desc limit 1))
			else jsonb_build_object('items', child_results(p_run, p_visit)) end;
	elsif v_outcome = 2 then
		v := v || jsonb_build_object('error', (select jsonb_strip_nulls(jsonb_build_object('child', c.child,
				'code', child_code(c), 'message', child_message(c)))
			from child c where c.run_id = p_run and c.visit = p_visit and c.n = f.first_failed));
	end if;
	return v;
end $$;

create function holdpoint.child_code(c holdpoint.child) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(c.code, case c.status when 6 then 'cancelled' when 5 then coalesce((select nullif(s.code, '')
		from run_state s where s.run_id = c.child), 'failed') end)
$$;

create function holdpoint.child_message(c holdpoint.child) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(c.message, (select coalesce(h.message, h.detail ->> 'message') from history h
		where h.run_id = c.child and h.move = 9 order by h.rev desc limit 1))
$$;

create function holdpoint.child_status(p smallint) returns text
language sql immutable strict set search_path = holdpoint, pg_temp as $$
	select case p when 0 then 'queued' when 1 then 'running' when 7 then 'left' when 8 then 'not_started'
		else status_name(p) end
$$;

create function holdpoint.child_json(c holdpoint.child) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('n', c.n, 'run', c.child, 'key', c.key, 'joined', case when not c.own then true end,
		'status', case when c.status = 1 then coalesce((select status_name(s.status) from run_state s
			where s.run_id = c.child), 'running') else child_status(c.status) end,
		'code', case when c.status in (5, 6) then child_code(c) end,
		'message', case when c.status in (5, 6) then child_message(c) end))
$$;

-- In order; what does not fit is to be had page by page from the door `children`.
create function holdpoint.child_results(p_run bigint, p_visit int) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(jsonb_agg(y.v order by y.n), '[]') from (
		select x.n, x.v, sum(octet_length(x.v::text)) over (order by x.n) as size from (
			select c.n, child_json(c) || coalesce((select jsonb_build_object('result', h.detail) from history h
				where h.run_id = c.child and h.move = 9 and c.status = 4 and h.detail is not null
				order by h.rev desc limit 1), '{}') as v
			from child c where c.run_id = p_run and c.visit = p_visit order by c.n limit 200) x) y
	where y.size <= 131072
$$;

-- ---- called by commit() ----

-- Runs that are waited for have ended: counted in each family, which goes on.
create function holdpoint.children_ended(p_runs bigint[], p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_parents bigint[] := '{}';
	v record;
	k record;
	f family;
begin
	for v in select distinct c.run_id, c.visit from child c where c.child = any(p_runs) and c.status = 1 order by 1, 2 loop
		select * into strict f from family x where x.run_id = v.run_id and x.visit = v.visit for no key update;
		for k in
			update child c set status = s.status from run_state s
			where c.child = any(p_runs) and c.run_id = v.run_id and c.visit = v.visit and c.status = 1
				and s.run_id = c.child returning c.n, s.status loop
			f := family_count(f, k.n, k.status);
		end loop;
		f := start_children(f, p_now);
		perform put_family(f);
		if family_calls(f) or family_looks(f) then
			v_parents := v_parents || v.run_id;
		end if;
	end loop;
	perform wake(array(select distinct s.run_id from run_state s where s.run_id = any(v_parents) and s.status < 3
		and not s.pause), p_now); -- one that is held or paused looks when it is let go
end $$;

-- Of these runs, who has been told to end by the parent that started them. p_parks:
-- those of them that would sleep now; a parent that is telling them is waited for.
create function holdpoint.told_to_end(p_runs bigint[], p_parks bigint[]) returns bigint[]
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	perform from child c where c.child = any(p_parks) and c.status = 1 order by c.run_id, c.visit, c.n for share;
	return array(select c.child from child c where c.child = any(p_runs) and c.cancel);
end $$;

-- Parents that would sleep now: those for whom something is to be done already, and
-- those that must look again by themselves, and when.
create function holdpoint.look_at_children(p_parked bigint[], p_now bigint, out o_again bigint[], out o_later bigint[],
	out o_later_at bigint[])
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	f family;
	c child;
begin
	o_again := '{}';
	o_later := '{}';
	o_later_at := '{}';
	for f in select x.* from run_state s join family x on x.run_id = s.run_id and x.visit = s.visit
			where s.run_id = any(p_parked) and s.status = 2 and s.phase = 10 and not s.pause order by x.run_id for no key update of x loop
		for c in select * from child x where x.run_id = f.run_id and x.visit = f.visit and x.status = 1 and not x.watched
				order by x.n loop
			c := child_watched(c, watch_run(f.run_id, c.child));
			perform put_child(c);
			if c.status > 3 then
				f := family_count(f, c.n, c.status);
			end if;
		end loop;
		f := start_children(f, p_now);
		perform put_family(f);
		if family_calls(f) then
			o_again := o_again || f.run_id;
		elsif family_looks(f) then
			o_later := o_later || f.run_id;
			o_later_at := o_later_at || greatest(f.not_before, p_now + 200000);
		end if;
	end loop;
end $$;

-- ---- keys ----

alter function holdpoint.without_live_effects(bigint) rename to without_own_live_effects;

-- What a run's own children did is its doing. Of very many nobody wants to wait for
-- the answer: then the key stays taken.
create function holdpoint.without_live_effects(p_run bigint) returns boolean
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_n int;
	v_free boolean;
begin
	if not without_own_live_effects(p_run) then
		return false;
	end if;
	select count(*), coalesce(bool_and(x.status in (5, 6) and (x.child is null or without_live_effects(x.child))), true)
		into v_n, v_free from (select c.status, c.child from child c
			where c.run_id = p_run and c.own and c.status < 8 order by c.visit, c.n limit 101) x;
	return v_free and v_n <= 100;
end $$;

-- ---- for people ----

create function holdpoint.family_json(f holdpoint.family) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('visit', f.visit, 'state', visit_state(f.run_id, f.visit),
		'workflow', f.workflow, 'total', f.total, 'queued', f.queued, 'running', f.running, 'succeeded', f.succeeded,
		'failed', f.failed, 'cancelled', f.cancelled, 'complete', f.complete, 'closed', f.closed)
$$;

-- The latest families of a run, the newest first; {} when it has none.
create function holdpoint.families_json(p_run bigint) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce((select jsonb_build_object('children', jsonb_agg(family_json(f) order by f.visit desc)) from (
			select * from family x where x.run_id = p_run order by x.visit desc limit 20) f having count(*) > 0), '{}')
		|| coalesce((select jsonb_build_object('parents', jsonb_agg(c.run_id order by c.run_id)) from (
			select distinct x.run_id from child x where x.child = p_run order by 1 limit 20) c having count(*) > 0), '{}')
$$;

create function holdpoint.door_children(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_limit int := arg_limit(p_args);
	v_after bigint := arg_int(p_args, 'after', 0);
	v_visit bigint := arg_int(p_args, 'visit', 0);
	v_rows jsonb;
	v_more boolean;
	v_last bigint;
	f family;
begin
	if not exists (select from run where id = v_run) then
		perform no_run(v_run);
	end if;
	select * into f from family x where x.run_id = v_run and (v_visit = 0 or x.visit = v_visit) order by x.visit desc limit 1;
	if not found then
		return jsonb_build_object('children', '[]'::jsonb);
	end if;
	with page as (
		select c, row_number() over (order by c.n) i from child c
		where c.run_id = v_run and c.visit = f.visit and c.n > v_after order by c.n limit v_limit + 1
	)
	select coalesce(jsonb_agg(child_json(c) || case when (p.c).status = 4 then coalesce((select jsonb_build_object('result', h.detail)
				from history h where h.run_id = (p.c).child and h.move = 9 and h.detail is not null order by h.rev desc limit 1), '{}')
			else '{}' end order by i) filter (where i <= v_limit), '[]'), count(*) > v_limit,
			max((p.c).n) filter (where i <= v_limit)
		into v_rows, v_more, v_last from page p;
	return jsonb_build_object('family', family_json(f), 'children', v_rows)
		|| case when v_more then jsonb_build_object('next', v_last) else '{}' end;
end $$;

-- A parent waits: for whom, and why they wait.
create function holdpoint.why_children(s holdpoint.run_state, p_state text) returns holdpoint.reason_why
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_until text := case when s.due_at > 0 then ' until ' || say_time(s.due_at) else '' end;
	v_who text;
	v_first bigint;
	f family;
begin
	select * into f from family x where x.run_id = s.run_id and x.visit = s.visit;
	-- one that an operator has to move says most
	select c.child into v_first from child c join run_state r on r.run_id = c.child
		where c.run_id = s.run_id and c.visit = s.visit and c.status = 1 order by (r.status = 3) desc, c.n limit 1;
	if f.single then
		v_who := format('its child, run %s of workflow %s', v_first, f.workflow);
	else
		v_who := format('%s children of workflow %s (%s of %s have ended: %s succeeded, %s failed, %s were cancelled; %s are running%s)',
			f.running + f.queued, f.workflow, f.succeeded + f.failed + f.cancelled,
			f.total || case when f.complete then '' else ' and more' end,
			f.succeeded, f.failed, f.cancelled, f.running, case when v_first is not null then format(', one is run %s', v_first) else '' end);
	end if;
	return ('children', format('Run %s waits in state "%s" for %s%s%s.%s', s.run_id, p_state, v_who,
		case when f.closed then ' to end: they are cancelled' else '' end, v_until,
		coalesce(' ' || (door_why('', jsonb_build_object('run', v_first)) ->> 'sentence'), '')), s.due_at)::reason_why;
end $$;

-- ---- numbers ----

create function holdpoint.metrics_children() returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object(
		'children_running', (select count(*) from (select from child where status = 1 limit 100000) x))
$$;

reset role;
