-- 0020: fsck: is what the tables say of each run one story? Read-only.
--
-- Two kinds of looks. fsck_runs() takes runs of a range of ids with everything they have;
-- fsck_rest() takes a page of what belongs to no run (limiters, keys, schedules, secrets).
-- Each is one statement, so one snapshot: what holds at the end of every transaction must
-- hold there, whatever the engines do meanwhile. `holdpoint fsck` goes through all ranges, a
-- short read-only transaction each (engine/cli/cmd_fsck.c); its titles and advice are there.
--
-- Where a rule has exceptions, they are written beside it: a row that a crash or a race may
-- leave for a while is wrong only when it is older than what the engines need to find it.

set local role holdpoint_owner;

create type holdpoint.fsck_bad as (name text, run_id bigint, what text);

-- As of when. The beginning of the transaction lies before its snapshot.
create function holdpoint.fsck_now() returns bigint
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(nullif(current_setting('holdpoint.now', true), '')::bigint,
		(extract(epoch from transaction_timestamp()) * 1000000)::bigint)
$$;

-- After which time a due run should have been taken: two leases, and what a look may take.
create function holdpoint.fsck_patience(p_now bigint) returns bigint
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(2 * max(lease_us), 20000000) + 5000000 from engine where not dead and lease_until > p_now
$$;

-- Is there an engine that has been alive for longer than that (p_idle: and has nothing to do)?
-- Without one nothing is late.
create function holdpoint.fsck_tended(p_now bigint, p_patience bigint, p_idle boolean) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from engine where not dead and lease_until > p_now and started_at < p_now - p_patience
		and (idle or not p_idle))
$$;

-- ---- what happened: history, one pass over each run's rows ----

-- Of each definition that these runs have followed: its ways as from * 10000 + to, and
-- which states save the reply of a call.
create function holdpoint.fsck_ways(p_from bigint, p_until bigint)
returns table (o_digest bytea, o_states jsonb, o_n int, o_ways int[])
language sql stable set search_path = holdpoint, pg_temp as $$
	select x.digest, d.summary -> 'states', jsonb_array_length(d.summary -> 'states'), coalesce((
		select array_agg((f.n - 1)::int * 10000 + (t.n - 1)::int)
		from jsonb_array_elements(d.summary -> 'states') with ordinality f(s, n)
		cross join jsonb_array_elements(f.s -> 'ways') w
		join jsonb_array_elements(d.summary -> 'states') with ordinality t(s, n) on t.s ->> 'name' = w ->> 'to'), '{}')
	from (select r.digest from run r where r.id >= p_from and r.id < p_until
		union select v.digest from run_version v where v.run_id >= p_from and v.run_id < p_until) x
	join definition d on d.digest = x.digest
$$;

-- May a state be entered that no way leads to? By an order that is on record (a retry enters
-- the same state anew; a restart into a state that ends at once is written as that end), or
-- because the run goes back.
create function holdpoint.fsck_jump(p_run bigint, p_rev int, p_move smallint, p_from_state int, p_from_visit int,
	p_state int) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from history c where c.run_id = p_run and c.rev < p_rev and c.visit = p_from_visit
			and (p_move in (9, 18, 22) and (c.move = 17 or c.move = 12 and c.code = 'restart')
				or p_move <> 18 and c.move = 12 and c.code = 'retry' and p_state = p_from_state))
		or exists (select from undo_log l where l.run_id = p_run and (l.doc ->> 'state')::int = p_state)
$$;

-- A definition may have changed between two rows: a move, or the undo of an effect that ran
-- under another version.
create function holdpoint.fsck_followed(p_run bigint, p_after int, p_until int) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from run_version v where v.run_id = p_run and v.rev > p_after and v.rev <= p_until)
$$;

create function holdpoint.fsck_moves(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	with ways as materialized (select * from fsck_ways(p_from, p_until)),
	m as (
		select h.run_id, h.rev, h.epoch, h.at, h.move, h.from_state, h.from_visit, h.state, h.visit, h.phase, h.status,
			h.attempt, h.due_at, h.outcome, h.code,
			case when s.digest is null then r.digest else digest_at(h.run_id, h.rev) end as digest,
			row_number() over w as n, lag(h.rev) over w as p_rev, lag(h.at) over w as p_at, lag(h.state) over w as p_state,
			lag(h.visit) over w as p_visit, lag(h.phase) over w as p_phase, lag(h.status) over w as p_status,
			lag(h.due_at) over w as p_due_at, max(h.epoch) over (w rows between unbounded preceding and 1 preceding) as p_epoch,
			lead(h.rev) over w is null as last, s.rev as s_rev, s.epoch as s_epoch, s.visit as s_visit, s.state as s_state,
			s.status as s_status, s.phase as s_phase, s.attempt as s_attempt, s.due_at as s_due_at
		from history h join run r on r.id = h.run_id join run_state s on s.run_id = h.run_id
		where h.run_id >= p_from and h.run_id < p_until and h.seq = 0
		window w as (partition by h.run_id order by h.rev)
	)
	select b.name, m.run_id, b.what
	from m left join ways on ways.o_digest = m.digest cross join lateral (values
	('final', case when m.p_status > 3 then
		format('rev %s (%s) was written after it had ended with rev %s', m.rev, move_name(m.move), m.p_rev) end),
	('visits', case when m.n = 1 and (m.rev <> 0 or m.move <> 1 or m.visit <> 1 or m.state <> 0) then
		format('its history begins with rev %s (%s, visit %s), not with its start', m.rev, move_name(m.move), m.visit)
	when m.digest is not null and (ways.o_states is null or m.state >= ways.o_n) then
		format('rev %s is in state #%s of a definition %s that %s', m.rev, m.state, left(encode(m.digest, 'hex'), 12),
			case when ways.o_states is null then 'is not there' else 'has no such state' end)
	when m.n > 1 and m.from_visit is distinct from m.p_visit then
		format('rev %s leaves visit %s, and the row before it is of visit %s', m.rev, m.from_visit, m.p_visit)
	when m.n > 1 and m.visit - m.from_visit not in (0, 1) then
		format('rev %s goes from visit %s to visit %s', m.rev, m.from_visit, m.visit)
	when m.n > 1 and m.from_state <> m.p_state and not fsck_followed(m.run_id, m.p_rev, m.rev - (m.move = 17)::int) then
		format('rev %s leaves state #%s, and the row before it is in state #%s', m.rev, m.from_state, m.p_state)
	when m.visit = m.from_visit and m.state <> m.from_state and m.move <> 17
			-- one that was unwound ends where it turned round
			and not (m.move = 9 and exists (select from unwinding u where u.run_id = m.run_id)) then
		format('rev %s is in state #%s without having entered it: visit %s is of state #%s', m.rev, m.state, m.visit, m.from_state)
	when m.visit = m.from_visit + 1 and m.from_state * 10000 + m.state <> all (ways.o_ways)
			and not fsck_jump(m.run_id, m.rev, m.move, m.from_state, m.from_visit, m.state) then
		format('rev %s goes from state "%s" to "%s", and its definition has no such way', m.rev,
			ways.o_states -> m.from_state ->> 'name', ways.o_states -> m.state ->> 'name') end),
	-- Every write of a worker or a door has its row; a claim raises rev without one, and so does
	-- a release or a quiet park, which ends the epoch: at most two for each.
	('fold', case when m.epoch is not null and m.rev - m.n + 1 not between m.epoch and 2 * m.epoch - 1 then
		format('before rev %s (epoch %s) there are %s revs without a row: rows are missing, or there is one too many', m.rev, m.epoch, m.rev - m.n + 1)
	when m.last and m.s_rev + 1 - m.n not between m.s_epoch and 2 * m.s_epoch then
		format('it is at rev %s and epoch %s with %s rows of history: rows are missing, or there are too many', m.s_rev, m.s_epoch, m.n)
	when m.last and m.status > 3 and m.s_rev <> m.rev then
		format('it ended with rev %s and is at rev %s', m.rev, m.s_rev)
	when m.last and m.s_visit <> m.visit then format('it is in visit %s, its history in visit %s', m.s_visit, m.visit)
	when m.last and m.s_state <> m.state and not fsck_followed(m.run_id, m.rev, m.rev + 1) then
		format('it is in state #%s, its history in state #%s', m.s_state, m.state)
	when m.last and m.s_status <> m.status and not (m.n = 1 and m.s_status = 2) then -- a start that waits for a limit, or is paused
		format('it is %s, its history says %s', status_name(m.s_status), status_name(m.status))
	when m.last and m.s_phase <> m.phase then
		format('it is in phase %s, its history in phase %s', phase_name(m.s_phase), phase_name(m.phase))
	when m.last and m.s_attempt <> m.attempt then
		format('it has made %s attempts, its history says %s', m.s_attempt, m.attempt)
	-- a check that found nothing sets the next due time without a row; who left a queue, too
	when m.last and m.s_due_at <> m.due_at and m.phase <> 1 and (m.s_rev = m.rev or m.phase not in (6, 10)) then
		format('it is due at %s, its history says %s', m.s_due_at, m.due_at) end),
	('epochs', case when m.epoch < m.p_epoch then
		format('rev %s is of epoch %s, and one before it of epoch %s', m.rev, m.epoch, m.p_epoch)
	when m.last and greatest(m.epoch, m.p_epoch) > m.s_epoch then
		format('it is in epoch %s, and its history has epoch %s', m.s_epoch, greatest(m.epoch, m.p_epoch)) end),
	-- What was parked until a time and went on by itself. (When a clock was set back, that shows here, too.)
	('timers', case when m.epoch is null or m.p_due_at = 0 or m.p_status <> 2 or m.at >= m.p_due_at or m.at < m.p_at then null
	when m.p_phase in (3, 4) and m.move in (2, 3, 4, 5, 6, 14) then
		format('rev %s (%s) came at %s, and it was to wait until %s', m.rev, move_name(m.move), say_time(m.at), say_time(m.p_due_at))
	when m.p_phase = 6 and m.visit = m.from_visit + 1 and m.move in (2, 9) and m.outcome in (0, 2) and (m.code = 'timeout'
			or m.code is null and ways.o_states -> m.from_state ->> 'kind' = 'wait'
				and not exists (select from history c where c.run_id = m.run_id and c.rev < m.rev and c.visit = m.from_visit and c.move = 12)) then
		format('rev %s left state "%s" at %s, and it was to wait until %s', m.rev, ways.o_states -> m.from_state ->> 'name',
			say_time(m.at), say_time(m.p_due_at)) end)
	) b(name, what)
	where b.what is not null
$$;

-- ---- where runs stand: has each what moves it, and nothing else? ----

create function holdpoint.fsck_causes(p_from bigint, p_until bigint, p_now bigint, p_patience bigint)
returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	with idle as materialized (select fsck_tended(p_now, p_patience, true) as yes, fsck_tended(p_now, p_patience, false) as tended)
	select b.name, s.run_id, b.what
	from idle, run_state s
	join run r on r.id = s.run_id
	left join ready y on y.run_id = s.run_id
	left join engine e on e.id = y.engine_id
	left join timer t on t.run_id = s.run_id
	left join held h on h.run_id = s.run_id
	left join paused p on p.run_id = s.run_id
	left join gated g on g.run_id = s.run_id
	left join arm_state a on a.run_id = s.run_id
	left join approval v on v.run_id = s.run_id and v.visit = s.visit and s.phase = 6
	left join family f on f.run_id = s.run_id and f.visit = s.visit and s.phase = 10
	cross join lateral (select s.status <= 3 as live, y.run_id is null and s.status <= 3 and not s.pause as sleeps) l
	cross join lateral (values
	-- what moves it
	('causes', case when l.sleeps and s.status = 1 then 'it is running, and on nobody''s list: nothing will move it'
	when l.sleeps and s.status = 2 and s.due_at > 0 and t.run_id is null and s.phase <> 1 then
		format('it is due at %s, and no timer is set', say_time(s.due_at))
	when l.sleeps and s.status = 2 and v.status in ('approved', 'rejected') then
		format('its approval was %s, and nobody woke it', v.status)
	when l.sleeps and s.status = 2 and v.status in ('expired', 'cancelled') then
		format('it waits for an approval that is %s', v.status)
	when l.sleeps and s.status = 2 and s.phase = 10 and f.run_id is null then 'it waits for children that are not recorded'
	when l.sleeps and s.status = 2 and s.phase = 10 and (family_calls(f) or family_looks(f)) then
		'its children have come so far that it should go on, and nobody woke it'
	when l.sleeps and s.status = 2 and s.phase in (6, 10) and s.waits and have_mail(array[s.run_id], p_now) <> '{}' then
		'a message waits for it, and nobody woke it'
	when l.sleeps and s.status = 2 and t.run_id is null and not case s.phase
			when 1 then exists (select from permit x where x.run_id = s.run_id and x.visit = 0 and x.at is null)
			when 4 then coalesce(g.kind = 'breaker', false) -- a probe that an open one refused
			when 6 then s.waits or coalesce(v.status = 'open', false)
			when 7 then coalesce(g.kind = 'breaker', false)
				or exists (select from permit x where x.run_id = s.run_id and x.visit = s.visit and x.at is null)
			when 10 then f.running > 0 or f.queued > 0
			else false end then
		format('it waits in phase %s, and nothing will wake it', phase_name(s.phase)) end),
	-- rows that fit its state
	('rows', case when l.live and l.sleeps and t.due_at <> s.due_at and s.phase <> 1 then
		format('it is due at %s, and its timer is set to %s', s.due_at, t.due_at)
	-- one that left a queue of starts as it was paused has its timer until that is due
	when l.live and s.pause and t.run_id is not null and not s.cancel and not (s.limited and s.phase = 1) then 'it is paused, and a timer is set'
	when l.live and y.engine_id is not null and e.id is null then format('it belongs to engine %s, which is not known', y.engine_id)
	when l.live and y.engine_id is not null and s.epoch = 0 then 'it belongs to an engine, and was never claimed'
	when (h.run_id is not null) <> (s.status = 3) then
		format('it is %s, and %s in the list of what is held', status_name(s.status), case when h.run_id is null then 'not' else 'still' end)
	when s.in_held <> (s.status = 3) then 'its mark for the list of what is held is wrong'
	when (p.run_id is not null) <> s.pause then
		format('it is %s, and %s in the list of what is paused', case when s.pause then 'paused' else 'not paused' end,
			case when p.run_id is null then 'not' else 'still' end)
	when s.pause and not l.live then 'it has ended, and is marked as paused'
	when g.run_id is not null and (not s.gated or s.phase not in (4, 7)) then
		format('it stands before gate %s %s, and is in phase %s%s', g.kind, g.name, phase_name(s.phase),
			case when s.gated then '' else ' without the mark for it' end)
	when s.waits <> exists (select from mail_wait w where w.run_id = s.run_id) then 'its mark for waiting on messages is wrong'
	when a.run_id is not null and (a.visit <> s.visit or not l.live) then format('it has clocks of visit %s left', a.visit)
	when not l.live and y.engine_id is not null then format('it has ended, and belongs to engine %s', y.engine_id)
	-- a message that raced with its end: the next look removes it
	when not l.live and y.run_id is not null and y.due_at < p_now - p_patience and idle.yes then 'it has ended, and is still on the ready list'
	-- its turn came while it ended: goes when it is due
	when not l.live and t.run_id is not null and not (s.limited and (t.due_at > p_now - p_patience or not idle.yes)) then
		'it has ended, and a timer is set'
	when exists (select from approval o where o.run_id = s.run_id and o.status = 'open' and (not l.live or o.visit <> s.visit or s.phase <> 6)) then
		'an approval of it is open that it does not wait for' end),
	-- who should have taken it
	('overdue', case when l.live and y.run_id is not null and y.engine_id is null and idle.yes
			and greatest(y.due_at, r.created_at) < p_now - p_patience then
		format('it is ready since %s, an engine is idle, and nobody has taken it', say_time(greatest(y.due_at, r.created_at)))
	when l.live and y.run_id is null and not s.pause and t.due_at < p_now - p_patience and idle.yes then
		format('its timer was due at %s, an engine is idle, and nobody has taken it', say_time(t.due_at))
	when l.live and idle.tended and (e.dead and e.ended_at < p_now - p_patience or e.lease_until < p_now - p_patience) then
		format('it belongs to engine %s, which is dead since %s, and nobody has taken it over', e.id, say_time(e.lease_until)) end)
	) b(name, what)
	where s.run_id >= p_from and s.run_id < p_until and b.what is not null
$$;

-- Rows of runs that are not there. (History and saved values of a removed run may stay until
-- their partition goes.)
create function holdpoint.fsck_orphans(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'orphans', x.run_id, format('there is no such run, but a row of it in %s', x.t)
	from (
		select run_id, 'run_state' as t from run_state where run_id >= p_from and run_id < p_until
			and not exists (select from run r where r.id = run_state.run_id)
		union all select run_id, 'ready' from ready where run_id >= p_from and run_id < p_until
		union all select run_id, 'timer' from timer where run_id >= p_from and run_id < p_until
		union all select run_id, 'held' from held where run_id >= p_from and run_id < p_until
		union all select run_id, 'paused' from paused where run_id >= p_from and run_id < p_until
		union all select run_id, 'gated' from gated where run_id >= p_from and run_id < p_until
		union all select run_id, 'mail_wait' from mail_wait where run_id >= p_from and run_id < p_until
		union all select run_id, 'mail_cursor' from mail_cursor where run_id >= p_from and run_id < p_until
		union all select run_id, 'arm_state' from arm_state where run_id >= p_from and run_id < p_until
		union all select run_id, 'approval' from approval where run_id >= p_from and run_id < p_until
		union all select run_id, 'undo_log' from undo_log where run_id >= p_from and run_id < p_until
		union all select run_id, 'unwinding' from unwinding where run_id >= p_from and run_id < p_until
		union all select run_id, 'sweep' from sweep where run_id >= p_from and run_id < p_until
		union all select run_id, 'sweep_failure' from sweep_failure where run_id >= p_from and run_id < p_until
		union all select run_id, 'family' from family where run_id >= p_from and run_id < p_until
		union all select run_id, 'child' from child where run_id >= p_from and run_id < p_until
		union all select run_id, 'permit' from permit where run_id >= p_from and run_id < p_until
		union all select run_id, 'run_version' from run_version where run_id >= p_from and run_id < p_until
	) x
	where x.t = 'run_state' or not exists (select from run_state s where s.run_id = x.run_id)
	union all
	select 'orphans', r.id, case when s.run_id is null then 'it has no state' else 'it has no history' end
	from run r left join run_state s on s.run_id = r.id
	where r.id >= p_from and r.id < p_until
		and (s.run_id is null or not exists (select from history h where h.run_id = r.id))
$$;

-- ---- what runs know, have sent and are asked ----

create function holdpoint.fsck_values(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'saved', v.run_id, format('value "%s" says it was saved by rev %s of visit %s, and there is no such row of history', v.name, v.rev, v.visit)
	from saved v
	where v.run_id >= p_from and v.run_id < p_until and not exists (select from history h
		where h.run_id = v.run_id and h.rev = v.rev and h.seq = 0 and h.from_visit = v.visit)
	union all
	select 'keys', r.id, case when k.run_id is null then format('nobody has its key "%s"', r.key)
		else format('it is %s, and its key "%s" is free for others', status_name(s.status), r.key) end
	from run r join run_state s on s.run_id = r.id
	left join run_key k on k.workflow = r.workflow and k.key_hash = hash(r.key) and k.run_id = r.id
	where r.id >= p_from and r.id < p_until and r.key is not null
		and (k.run_id is null or k.freed and s.status not in (5, 6))
$$;

-- A child has the requester of its parent. The rows of families go with the parent: of one whose parent
-- was removed it is only known that somebody waited for it.
create function holdpoint.fsck_is_child(p_run bigint) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from child c where c.child = p_run and c.own)
		or not exists (select from child c where c.child = p_run) and exists (select from run_state s where s.run_id = p_run and s.awaited)
$$;

-- What webhooks started has its inbox row, written by the same commit. (Bodies are kept for 30 days.)
create function holdpoint.fsck_mail(p_from bigint, p_until bigint, p_now bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	with w as materialized (
		select r.id, substr(r.requester, 9) as source, r.created_at as at from run r
		where r.id >= p_from and r.id < p_until and r.requester like 'webhook:%' and r.created_at > p_now - 29 * 86400000000
			and not fsck_is_child(r.id)
	), span as materialized (select min(at) as low, max(at) as high from w)
	select 'mail', w.id, format('a webhook of %s started it at %s, and the inbox has no message of that moment', w.source, w.at)
	from w where (w.source, w.at) not in (select i.source, i.received_at from inbox i, span
		where i.received_at >= span.low and i.received_at <= span.high)
	union all
	select 'mail', c.run_id, case when m.id is null then format('it has read message %s, and no message had that number', c.mail_id)
		else format('it has read message %s as one of %s, and that is of %s', c.mail_id, c.name, m.name) end
	from mail_cursor c left join mail m on m.id = c.mail_id
	where c.run_id >= p_from and c.run_id < p_until
		and (m.id is not null and (m.name, m.key_hash) <> (c.name, c.key_hash)
			or m.id is null and c.mail_id > (select max(x.id) from mail x))
	union all
	select 'mail', w.run_id, format('it waits for %s under a hash that is not of its key "%s"', w.name, w.key)
	from mail_wait w where w.run_id >= p_from and w.run_id < p_until and w.key_hash <> hash(w.key)
$$;

-- The status an approval must have by the row that left its visit; null: the row does not
-- say (it went straight to a `fail`, whose code is in the place of its own).
create function holdpoint.fsck_answer(l holdpoint.history) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select case
	when l.outcome = 0 and l.code = 'arm' then 'cancelled'
	when l.outcome = 4 and l.code in ('rejected', 'expired') then l.code
	-- The way that only a yes opens: not anew, not by an order to go on from a state that ends
	-- at once, not back. (A cancel may have been ordered visits before, and by a parent; what
	-- is always there is the row of the turn.)
	when l.outcome = 0 and l.code is null and l.move in (2, 9) and l.state <> l.from_state
			and not exists (select from history o where o.run_id = l.run_id and o.seq = 0 and o.rev < l.rev
				and (o.move = 22 or l.move = 9 and o.visit = l.from_visit and o.move = 12 and o.code = 'restart')) then 'approved'
	end
$$;

-- What came after what is said by revs and visits. Clocks of two transactions are not
-- compared: one may have been set back in between.
create function holdpoint.fsck_approvals(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'approvals', a.run_id, format('approval %s: ', a.id) || b.what
	from approval a
	join run_state s on s.run_id = a.run_id
	left join lateral (select h.rev, h.at, fsck_answer(h) as answer from history h where h.run_id = a.run_id and h.from_visit = a.visit
		and h.visit = a.visit + 1 and h.seq = 0 limit 1) l on true
	left join lateral (select count(*) filter (where decision = 'approve') as yes,
			bool_or(principal = a.decided_by and decision = case a.status when 'approved' then 'approve' else 'reject' end) as decider,
			bool_or(at >= a.deadline_at) as late, bool_or(principal = a.requester) as own,
			bool_or(not exists (select from history d where d.run_id = a.run_id and d.move = 11 and d.visit = a.visit and d.phase = 6
				and (d.detail ->> 'approval')::bigint = a.id and d.actor = x.principal and d.code = x.decision and d.at = x.at)) as untold
		from vote x where approval_id = a.id) v on true
	-- its decision, as the history tells of it
	left join lateral (select count(*) as n, max(d.rev) as rev,
			bool_and(d.detail ->> 'status' = a.status and d.actor = a.decided_by and d.at = a.decided_at) as same
		from history d where d.run_id = a.run_id and d.move = 11 and (d.detail ->> 'approval')::bigint = a.id
			and d.detail ->> 'status' in ('approved', 'rejected')) d on true
	cross join lateral (select case
	when a.request is not null and sha256(a.request) is distinct from a.request_sha256 then
		'the stored request does not have the hash that was signed'
	when a.request is null and a.request_sha256 is not null then 'it has a hash and no request'
	when a.status in ('approved', 'rejected') and (a.decided_at is null or a.decided_by is null) then
		format('it is %s, and nobody decided it', a.status)
	when a.status in ('approved', 'rejected') and a.decided_at >= a.deadline_at then
		format('it was decided at %s, and its deadline was %s', say_time(a.decided_at), say_time(a.deadline_at))
	when a.status in ('approved', 'rejected') and not coalesce(v.decider, false) then
		format('%s decided it, and there is no such vote', a.decided_by)
	when a.status = 'approved' and v.yes < (select max((q ->> 'n')::int) from jsonb_array_elements(a.quorum) q) then
		format('it is approved with %s of the votes of "%s"', v.yes, a.approvers)
	when v.late then 'there is a vote after its deadline'
	when v.own then format('%s voted on what they requested themselves', a.requester)
	when a.status in ('approved', 'rejected') and d.n <> 1 then
		format('it is %s, and the history does not tell of exactly one decision', a.status)
	when a.status in ('approved', 'rejected') and not d.same then
		format('it is %s by %s at %s, and the history tells of another decision', a.status, a.decided_by, say_time(a.decided_at))
	when a.status not in ('approved', 'rejected') and d.n > 0 then
		format('it is %s, and the history tells of a decision', a.status)
	when a.status <> l.answer then format('the run went on at %s as if it were %s, and it is %s', say_time(l.at), l.answer, a.status)
	when d.rev > l.rev then format('the run went on with rev %s, and it was %s with rev %s', l.rev, a.status, d.rev)
	when v.untold then 'there is a vote that the history does not tell of'
	when s.signed_visit = a.visit and a.status <> 'approved' then format('the run is to send its request, and it is %s', a.status)
	when s.signed_visit = a.visit and s.phase = 2 and s.status = 1 and s.signed_for = s.state
			and s.request_hash is distinct from a.request_sha256 then
		'the admitted request is not the one that was signed'
	end as what) b
	where a.run_id >= p_from and a.run_id < p_until and b.what is not null
	union all
	select 'approvals', s.run_id, format('it is to send what was signed in visit %s, and there is no approval of that visit', s.signed_visit)
	from run_state s where s.run_id >= p_from and s.run_id < p_until and s.signed_visit > 0 and s.status <= 3
		and not exists (select from approval a where a.run_id = s.run_id and a.visit = s.signed_visit)
$$;

-- A run of a schedule has the tick it was started for.
create function holdpoint.fsck_ticks(p_from bigint, p_until bigint, p_now bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'schedules', r.id, case when k.run_id is null then format('%s started it for the tick %s, and there is no such tick', r.requester, r.input ->> 'tick')
		else format('%s started it for the tick %s, which belongs to run %s', r.requester, r.input ->> 'tick', k.run_id) end
	from run r
	cross join lateral (select case when r.input ->> 'tick' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$' then parse_time(r.input ->> 'tick') end as tick,
		coalesce(nullif(split_part(substr(r.requester, 10), ':', 2), '')::int, 1) as idx) x
	left join schedule_tick k on k.workflow = r.workflow and k.idx = x.idx and k.tick = x.tick
	where r.id >= p_from and r.id < p_until and r.requester like 'schedule:%' and r.created_at > p_now - 7000000000000
		and not fsck_is_child(r.id)
		and k.run_id is distinct from r.id
$$;

-- ---- children, undo, sweeps, permits ----

create function holdpoint.fsck_families(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'children', f.run_id, format('visit %s counts %s, and its rows are %s', f.visit,
		(f.total, f.queued, f.running, f.succeeded, f.failed, f.cancelled)::text, (n.total, n.queued, n.running, n.succeeded, n.failed, n.cancelled)::text)
	from family f cross join lateral (select count(*) as total, count(*) filter (where c.status = 0) as queued,
			count(*) filter (where c.status = 1) as running, count(*) filter (where c.status = 4) as succeeded,
			count(*) filter (where c.status = 5) as failed, count(*) filter (where c.status = 6) as cancelled
		from child c where c.run_id = f.run_id and c.visit = f.visit) n
	where f.run_id >= p_from and f.run_id < p_until
		and (f.total, f.queued, f.running, f.succeeded, f.failed, f.cancelled)
			<> (n.total, n.queued, n.running, n.succeeded, n.failed, n.cancelled)
	union all
	select 'children', c.run_id, format('child %s of visit %s ', c.n, c.visit) || b.what
	from child c left join run_state s on s.run_id = c.child
	left join family f on f.run_id = c.run_id and f.visit = c.visit
	cross join lateral (select case
	when f.run_id is null then 'belongs to no family'
	when c.status = 1 and s.run_id is null then format('is at work as run %s, which is not there', coalesce(c.child::text, '?'))
	when c.status = 1 and c.watched and s.status > 3 then format('is at work, and run %s has %s', c.child, status_name(s.status))
	when c.status = 1 and c.watched and not s.awaited then format('is run %s, which does not know that it is waited for', c.child)
	when c.status between 4 and 6 and s.run_id is not null and s.status <> c.status then
		format('%s, and run %s is %s', child_status(c.status), c.child, status_name(s.status))
	when c.status in (0, 8) and c.child is not null then format('was not started, and is run %s', c.child) end as what) b
	where c.run_id >= p_from and c.run_id < p_until and b.what is not null
$$;

create function holdpoint.fsck_undo(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'undo', l.run_id, format('its undo log counts %s effects as undone, its history %s', l.n, h.n)
	from (select run_id, count(*) filter (where status in (2, 4)) as n from undo_log
			where run_id >= p_from and run_id < p_until group by run_id) l
	cross join lateral (select count(*) as n from history where run_id = l.run_id and move = 23 and seq = 0) h
	where l.n <> h.n
	union all
	select 'undo', w.run_id, case when s.status <> w.ends then format('it was to end as %s when all was undone, and %s', status_name(w.ends), status_name(s.status))
		else 'it went back and has ended, and its undo log has open entries' end
	from unwinding w join run_state s on s.run_id = w.run_id
	where w.run_id >= p_from and w.run_id < p_until and s.status > 3
		and not exists (select from history h where h.run_id = w.run_id and h.move = 12 and h.code = 'give_up')
		and (s.status <> w.ends or exists (select from undo_log l where l.run_id = w.run_id and l.status = 1))
	union all
	select 'undo', l.run_id, format('entry %s of its undo log is of visit %s, which it has not had', l.n, l.visit)
	from undo_log l join run_state s on s.run_id = l.run_id
	where l.run_id >= p_from and l.run_id < p_until and (l.visit > s.visit or l.rev > s.rev)
$$;

create function holdpoint.fsck_sweeps(p_from bigint, p_until bigint) returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	select 'sweeps', w.run_id, format('the sweep of visit %s ', w.visit) || b.what
	from sweep w join run_state s on s.run_id = w.run_id cross join lateral (select case
	when w.visit > s.visit then format('is ahead of its run, which is in visit %s', s.visit)
	when w.failed <> (select count(*) from sweep_failure x where x.run_id = w.run_id and x.visit = w.visit) then
		format('counts %s failures, and %s are listed', w.failed, (select count(*) from sweep_failure x where x.run_id = w.run_id and x.visit = w.visit))
	when w.ended_at is not null and w.row_in_hand is not null then 'has ended with a row in hand'
	when least(w.done, w.changed, w.pages, w.failed) < 0 then 'has a count below nothing' end as what) b
	where w.run_id >= p_from and w.run_id < p_until and b.what is not null
$$;

-- What somebody who ended or went on has not given back, the engines' upkeep finds: a
-- few hundred rows a heartbeat.
create function holdpoint.fsck_permits(p_from bigint, p_until bigint, p_now bigint, p_patience bigint)
returns setof holdpoint.fsck_bad
language sql stable set search_path = holdpoint, pg_temp as $$
	with late as materialized (select p_now - 10 * p_patience as at, fsck_tended(p_now, 10 * p_patience, false) as tended)
	select 'limits', p.run_id, b.what
	from permit p join run_state s on s.run_id = p.run_id left join limiter l on l.id = p.limiter_id cross join late
	cross join lateral (select case
	when l.id is null then format('it has a permit of limiter %s, which is not there', p.limiter_id)
	when p.visit = 0 and not s.limited and s.status <= 3 then 'it has a permit of its own, and no mark for it'
	when p.visit > s.visit then format('it has a permit for visit %s, and is in visit %s', p.visit, s.visit)
	when late.tended and (s.status > 3 or p.visit > 0 and p.visit < s.visit)
			and (select max(h.at) from history h where h.run_id = p.run_id and (s.status > 3 or h.visit > p.visit)) < late.at then
		format('it has left %s %s long ago, and still has a permit of it', l.kind, l.name) end as what) b
	where p.run_id >= p_from and p.run_id < p_until and b.what is not null
$$;

-- ---- one range of runs ----

create function holdpoint.fsck_runs(p_from bigint, p_until bigint, p_most int) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	with t as materialized (select fsck_now() as now, fsck_patience(fsck_now()) as patience),
	bad as materialized (
		select * from fsck_moves(p_from, p_until)
		union all select x.* from t, fsck_causes(p_from, p_until, t.now, t.patience) x
		union all select * from fsck_orphans(p_from, p_until)
		union all select * from fsck_values(p_from, p_until)
		union all select x.* from t, fsck_mail(p_from, p_until, t.now) x
		union all select * from fsck_approvals(p_from, p_until)
		union all select x.* from t, fsck_ticks(p_from, p_until, t.now) x
		union all select * from fsck_families(p_from, p_until)
		union all select * from fsck_undo(p_from, p_until)
		union all select * from fsck_sweeps(p_from, p_until)
		union all select x.* from t, fsck_permits(p_from, p_until, t.now, t.patience) x
	), n as materialized (
		select (select count(*) from run where id >= p_from and id < p_until) as runs,
			(select count(*) from run_state where run_id >= p_from and run_id < p_until and status <= 3) as live,
			(select count(*) from history where run_id >= p_from and run_id < p_until) as moves
	)
	select jsonb_build_object(
		'looked', jsonb_build_object('final', n.runs - n.live, 'visits', n.moves, 'fold', n.runs, 'epochs', n.moves, 'timers', n.moves,
			'causes', n.live, 'rows', n.runs, 'orphans', n.runs, 'overdue', n.live,
			'saved', (select count(*) from saved where run_id >= p_from and run_id < p_until),
			'keys', (select count(*) from run where id >= p_from and id < p_until and key is not null),
			'mail', (select count(*) from mail_wait where run_id >= p_from and run_id < p_until)
				+ (select count(*) from mail_cursor where run_id >= p_from and run_id < p_until)
				+ (select count(*) from run where id >= p_from and id < p_until and requester like 'webhook:%'),
			'approvals', (select count(*) from approval where run_id >= p_from and run_id < p_until),
			'schedules', (select count(*) from run where id >= p_from and id < p_until and requester like 'schedule:%'),
			'children', (select count(*) from child where run_id >= p_from and run_id < p_until),
			'undo', (select count(*) from undo_log where run_id >= p_from and run_id < p_until),
			'sweeps', (select count(*) from sweep where run_id >= p_from and run_id < p_until),
			'limits', (select count(*) from permit where run_id >= p_from and run_id < p_until)),
		'wrong', coalesce((select jsonb_object_agg(x.name, x.n) from (select name, count(*) as n from bad group by name) x), '{}'),
		'found', coalesce((select jsonb_agg(jsonb_build_object('check', x.name, 'run', x.run_id, 'what', x.what) order by x.name, x.run_id)
			from (select *, row_number() over (partition by name order by run_id) as k from bad) x where x.k <= p_most), '[]'))
	from n
$$;

-- The range that begins at p_from and has p_runs runs: where the next one begins (null: there is
-- none, and this one has all that is left), and the highest id of all.
create function holdpoint.fsck_next(p_from bigint, p_runs int, out o_until bigint, out o_last bigint)
language sql stable set search_path = holdpoint, pg_temp as $$
	select (select case when count(*) = p_runs then max(x.id) + 1 end from (select id from run where id >= p_from order by id limit p_runs) x),
		(select max(id) from run)
$$;

-- ---- what belongs to no run ----

-- One page, after the key p_after of the one before ('{}': the first): as fsck_runs(), and `next`.
create function holdpoint.fsck_rest(p_what text, p_after jsonb, p_limit int, p_most int) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := fsck_now();
	v_patience bigint := fsck_patience(v_now);
	v_bad fsck_bad[];
	v_n bigint;
	v_next jsonb;
begin
	case p_what
	when 'limits' then
		select count(*), (array_agg(to_jsonb(x.id) order by x.id desc))[1],
				array_agg(('limits', 0, x.what)::fsck_bad order by x.id) filter (where x.what is not null)
			into v_n, v_next, v_bad
		from (select l.id, case
			when least(l.used, l.waiting, l.now_used) < 0 then format('%s %s %s has a count below nothing', l.kind, l.name, l.key)
			when l.per_us = 0 and (l.used, l.waiting) <> (c.used, c.waiting) then format('%s %s %s counts %s taken and %s waiting, and its permits are %s and %s',
				l.kind, l.name, l.key, l.used, l.waiting, c.used, c.waiting)
			when l.per_us = 0 and l.used = 0 and l.waiting > 0 then format('%s %s %s: %s wait, nobody has it, and nobody will let them in',
				l.kind, l.name, l.key, l.waiting) end as what
			from (select * from limiter where id > coalesce(p_after::bigint, 0) order by id limit p_limit) l
			cross join lateral (select (select count(*) from permit p where p.limiter_id = l.id and p.at is not null) as used,
				(select count(*) from permit p where p.limiter_id = l.id and p.at is null) as waiting) c) x;
	when 'run_keys' then
		select count(*), (array_agg(jsonb_build_array(x.workflow, encode(x.key_hash, 'hex'), x.generation)
				order by x.workflow desc, x.key_hash desc, x.generation desc))[1],
				array_agg(('keys', coalesce(x.run_id, 0), x.what)::fsck_bad) filter (where x.what is not null)
			into v_n, v_next, v_bad
		from (select k.*, case when k.run_id is null then format('a key of workflow %s belongs to no run', k.workflow)
				when r.id is not null and (r.workflow <> k.workflow or r.key is null or hash(r.key) <> k.key_hash) then
					format('it has a key of workflow %s that is not its own', k.workflow) end as what
			from (select * from run_key where (workflow, key_hash, generation)
					> (coalesce(p_after ->> 0, ''), coalesce(decode(p_after ->> 1, 'hex'), ''), coalesce((p_after ->> 2)::int, -1))
				order by workflow, key_hash, generation limit p_limit) k
			left join run r on r.id = k.run_id) x;
	when 'effect_keys' then
		select count(*), (array_agg(jsonb_build_array(x.scope, encode(x.key_hash, 'hex')) order by x.scope desc, x.key_hash desc))[1],
				array_agg(('keys', x.run_id, x.what)::fsck_bad) filter (where x.what is not null)
			into v_n, v_next, v_bad
		from (select k.*, case when not exists (select from history h where h.run_id = k.run_id and h.visit = k.visit and h.flags & 1 <> 0) then
				format('it has a business key of %s for visit %s, and never admitted that', k.scope, k.visit) end as what
			from (select * from effect_key where (scope, key_hash) > (coalesce(p_after ->> 0, ''), coalesce(decode(p_after ->> 1, 'hex'), ''))
				order by scope, key_hash limit p_limit) k
			join run r on r.id = k.run_id) x;
	when 'schedules' then
		select count(*), array_agg(('schedules', 0, schedule_name(x.workflow, x.idx) || ': ' || x.what)::fsck_bad)
				filter (where x.what is not null)
			into v_n, v_bad
		from (select s.*, case
			when s.look_at < v_now - v_patience - 10000000 and s.paused_at is null and fsck_tended(v_now, v_patience + 10000000, false)
					and not (s.spec ->> 'overlap' = 'queue' and run_lives(s.last_run)) then
				format('was to be looked at at %s, and nobody has', say_time(s.look_at))
			when s.paused_at is not null and s.look_at is not null then 'is paused, and is to be looked at'
			when s.started < k.started then format('counts %s starts, and has %s ticks that started a run', s.started, k.started)
			when k.early is not null then format('the tick %s was started before its time', json_time(k.early))
			when k.none is not null then format('the tick %s started no run', json_time(k.none))
			when k.beyond is not null then format('the tick %s is settled, and its place is %s', json_time(k.beyond), json_time(s.position))
			when k.twice is not null and not exists (select from definition d
					where d.workflow = s.workflow and d.summary -> 'limits' ->> 'overlap' = 'skip') then format('run %s was started by two ticks', k.twice) end as what
			from schedule s cross join lateral (select count(*) filter (where outcome in ('started', 'manual')) as started,
				min(tick) filter (where outcome = 'started' and at < tick) as early,
				min(tick) filter (where outcome in ('started', 'manual') and run_id is null) as none,
				min(tick) filter (where outcome = 'started' and tick > s.position) as beyond,
				(select min(y.run_id) from (select run_id from schedule_tick where workflow = s.workflow and idx = s.idx and run_id is not null
					group by run_id having count(*) > 1) y) as twice
				from schedule_tick where workflow = s.workflow and idx = s.idx) k) x;
	when 'triggers' then
		select count(*), array_agg(('triggers', 0, x.what)::fsck_bad) filter (where x.what is not null) into v_n, v_bad
		from (select case when array(select t.source || ' ' || t.event from webhook_trigger t where t.workflow = w.name order by 1)
				<> array(select distinct (t ->> 'source') || ' ' || e from jsonb_array_elements(coalesce(d.summary -> 'triggers', '[]')) t
					cross join jsonb_array_elements_text(coalesce(t -> 'events', '[]')) e order by 1) then
				format('webhooks find %s by other events than its definition names', w.name) end as what
			from workflow w join definition d on d.digest = w.digest) x;
	when 'secrets' then
		select count(*), array_agg(('secrets', 0, x.what)::fsck_bad) filter (where x.what is not null) into v_n, v_bad
		from (select case
			when v.last > s.last_version then format('%s has version %s, and counts %s', s.name, v.last, s.last_version)
			when v.current > 1 then format('%s has %s current versions', s.name, v.current)
			when v.previous > 1 then format('%s has %s previous versions', s.name, v.previous)
			when v.previous > 0 and v.current = 0 and not v.ended then format('%s has a previous version and no current one', s.name)
			when v.unsealed then format('%s has a live version without a value', s.name) end as what
			from secret s cross join lateral (select coalesce(max(version), 0) as last, count(*) filter (where state = 'current') as current,
				count(*) filter (where state = 'previous') as previous, bool_or(state = 'retired' and promoted_at is not null) as ended,
				coalesce(bool_or(state <> 'retired' and sealed is null), false) as unsealed
				from secret_version where name = s.name) v) x;
	end case;
	return jsonb_build_object('looked', v_n, 'wrong', coalesce(cardinality(v_bad), 0),
		'found', coalesce((select jsonb_agg(jsonb_build_object('check', x.name, 'run', nullif(x.run_id, 0), 'what', x.what))
			from (select * from unnest(v_bad) limit p_most) x), '[]'))
		|| case when v_next is not null and v_n = p_limit then jsonb_build_object('next', v_next) else '{}' end;
end $$;

reset role;
