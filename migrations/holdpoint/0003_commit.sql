-- 0003: what the engine writes: transitions.
--
-- Locks are taken in one order everywhere: run_state (ascending), the gates' own rows,
-- family, run_key, effect_key, limiters of starts, mailbox, those of annexes (of secrets
-- first secret_serial, then the names), gated, and only then ready and timer.
-- A delivery holds a mailbox and inserts into ready; it never touches run_state. What
-- the starts of children take (run_key, limiters) comes late, and is given up after a
-- moment; the state row of a run that they join is taken only if nobody has it (0010).

set local role holdpoint_owner;

-- A run wakes: it becomes ready unless it is ready or owned already.
create function holdpoint.wake(p_runs bigint[], p_now bigint) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_n int;
begin
	insert into ready (run_id, due_at)
		select x, p_now from unnest(p_runs) x order by x
		on conflict (run_id) do nothing;
	get diagnostics v_n = row_count;
	if v_n > 0 then
		perform hint();
	end if;
	return v_n;
end $$;

create function holdpoint.lock_mailbox(p_name text, p_key_hash bytea, p_now bigint) returns void
language sql set search_path = holdpoint, pg_temp as $$
	insert into mailbox (name, key_hash, last_at) values (p_name, p_key_hash, p_now)
		on conflict (name, key_hash) do update set last_at = excluded.last_at
$$;

-- The runs among p_runs that have a message to read in one of their mailboxes.
create function holdpoint.have_mail(p_runs bigint[], p_now bigint) returns bigint[]
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(array_agg(distinct w.run_id), '{}')
	from mail_wait w
	where w.run_id = any(p_runs) and exists (
		select from mail m
		where m.name = w.name and m.key_hash = w.key_hash and m.expires_at > p_now
			and m.id > coalesce((select c.mail_id from mail_cursor c
				where c.run_id = w.run_id and c.name = w.name and c.key_hash = w.key_hash), 0))
$$;

create function holdpoint.parse_quorum(p_text text) returns jsonb
language plpgsql immutable as $$
declare
	v_term text;
	v_m text[];
	v_out jsonb := '[]';
begin
	foreach v_term in array regexp_split_to_array(coalesce(p_text, ''), '\s+and\s+', 'i') loop
		v_m := regexp_match(v_term, '^\s*([1-9][0-9]{0,3})\s+of\s+([A-Za-z][A-Za-z0-9_-]{0,62})\s*$');
		if v_m is null then
			raise exception using errcode = 'HP400',
				message = format('approvers "%s" cannot be read', p_text),
				hint = 'Write "1 of payments" or "2 of sre and 1 of security".';
		end if;
		v_out := v_out || jsonb_build_object('n', v_m[1]::int, 'role', v_m[2]);
	end loop;
	return v_out;
end $$;

-- What the definition says of a state: {"name", "kind", "events", "approvers", …}.
create function holdpoint.state_summary(p_digest bytea, p_state int) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select d.summary -> 'states' -> p_state from definition d where d.digest = p_digest
$$;

-- The definition that a run follows: now, and when it wrote that rev.
create function holdpoint.run_digest(p_run bigint) returns bytea
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(s.digest, r.digest) from run r join run_state s on s.run_id = r.id where r.id = p_run
$$;

create function holdpoint.digest_at(p_run bigint, p_rev int) returns bytea
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce((select v.digest from run_version v where v.run_id = p_run and v.rev <= p_rev
		order by v.rev desc limit 1), (select r.digest from run r where r.id = p_run))
$$;

-- Opens the approval of a visit. A visit may be opened again after its approval
-- had expired (a person retried it): with the request as rendered now and without
-- the votes of before. What was decided stays decided.
create function holdpoint.open_approval(p_run bigint, p_visit int, p_state int, p_doc jsonb,
	p_hash bytea, p_deadline bigint, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run run;
	v_state jsonb;
	v_request bytea;
	v_approvers text;
	v_id bigint;
begin
	if jsonb_typeof(p_doc) <> 'object' then
		raise exception using errcode = 'HP400', message = 'approval: must be a JSON object';
	end if;
	select * into strict v_run from run where id = p_run;
	v_state := state_summary(run_digest(p_run), p_state);
	v_request := convert_to(case jsonb_typeof(p_doc -> 'request') when 'string' then p_doc ->> 'request'
		when 'null' then null else (p_doc -> 'request')::text end, 'UTF8');
	if v_request is not null and sha256(v_request) is distinct from p_hash then
		raise exception using errcode = 'HP409',
			message = format('run %s: the request to be signed in state "%s" does not have the hash it came with',
				p_run, coalesce(v_state ->> 'name', p_state::text));
	end if;
	v_approvers := coalesce(p_doc ->> 'approvers', v_state ->> 'approvers');
	insert into approval (run_id, visit, state, state_name, workflow, ask, evidence, request,
			request_sha256, request_key, approvers, quorum, requester, opened_at, deadline_at)
		values (p_run, p_visit, p_state, coalesce(v_state ->> 'name', p_state::text), v_run.workflow,
			coalesce(p_doc ->> 'ask', ''), p_doc -> 'evidence', v_request,
			case when v_request is not null then p_hash end, p_doc ->> 'key', v_approvers,
			case when jsonb_typeof(p_doc -> 'quorum') = 'array' then p_doc -> 'quorum'
				else parse_quorum(v_approvers) end,
			v_run.requester, p_now, p_deadline)
		on conflict (run_id, visit) do update set ask = excluded.ask, evidence = excluded.evidence,
			request = excluded.request, request_sha256 = excluded.request_sha256,
			request_key = excluded.request_key, approvers = excluded.approvers, quorum = excluded.quorum,
			opened_at = excluded.opened_at, deadline_at = excluded.deadline_at, status = 'open', decided_at = null
			where approval.status in ('expired', 'cancelled')
		returning id into v_id;
	delete from vote where approval_id = v_id;
end $$;

-- May the key of a run that failed or was cancelled be used again? Only when
-- nothing it did can still be live: each admitted visit was either a read, or
-- admitted once and refused for good, and no sql state but reads committed.
-- What was undone (0012) is live no more, and an undo is no effect of its own.
-- Anything not known to be a read counts as an effect. (One pass: a run that looped
-- has thousands of visits.)
create function holdpoint.without_live_effects(p_run bigint) returns boolean
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	return exists (select from run where id = p_run) -- of one that was removed nobody knows
		and not exists (
		select from run r, lateral (
			select h.from_state as state, h.from_visit as visit, h.rev from history h
				where h.run_id = p_run and h.flags & 2 <> 0
			union
			-- visits admitted twice, or not refused for good after their admission
			select min(x.state), x.visit, max(x.admitted) from (
				select h.visit, h.state, h.rev as admitted, null::int as refused
					from history h where h.run_id = p_run and h.flags & 1 <> 0
				union all
				select h.from_visit, null, null, h.rev from history h where h.run_id = p_run and h.outcome = 2) x
			group by x.visit
			having count(x.admitted) > 1 or coalesce(max(x.refused), -1) <= max(x.admitted)) e
		where r.id = p_run and not coalesce((state_summary(digest_at(r.id, e.rev), e.state) ->> 'read')::boolean, false)
			and not coalesce(state_summary(digest_at(r.id, e.rev), e.state) ? 'undoes', false)
			and not exists (select from undo_log l where l.run_id = p_run and l.visit = e.visit and l.status in (2, 4)))
		and not coalesce((select s.unresolved from run_state s where s.run_id = p_run), false);
end $$;

-- Each step below gets only runs that the compare-and-set has changed.
create function holdpoint.free_keys(p_runs bigint[]) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update run_key k set freed = true from run r
	where r.id = any(p_runs) and r.key is not null and k.workflow = r.workflow
		and k.key_hash = hash(r.key) and k.run_id = r.id and not k.freed and without_live_effects(r.id)
$$;

-- Registers a business key; gives the admission of another run or visit that holds it,
-- else 0. Who holds it goes on. So does another who was told of that very admission (p_told:
-- what its row had been given) and has since found out that nothing came of it. Both are a
-- new admission to whoever was told before.
create function holdpoint.take_effect_key(p_scope text, p_key text, p_run bigint, p_visit int, p_told bigint,
	p_unresolved boolean, p_now bigint)
returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v effect_key;
	v_mine boolean;
begin
	insert into effect_key (scope, key_hash, run_id, visit, first_sent_at)
		values (p_scope, hash(p_key), p_run, p_visit, p_now) on conflict do nothing;
	if found then
		return 0;
	end if;
	select * into strict v from effect_key where scope = p_scope and key_hash = hash(p_key) for update;
	v_mine := v.run_id = p_run and v.visit = p_visit;
	if p_unresolved or not (v_mine or p_told = v.first_sent_at) then
		return case when v_mine then 0 else v.first_sent_at end;
	end if;
	update effect_key set run_id = p_run, visit = p_visit, first_sent_at = greatest(p_now, v.first_sent_at + 1)
		where scope = p_scope and key_hash = v.key_hash;
	return 0;
end $$;

-- A call whose request a person signed leaves only as signed.
create function holdpoint.check_signed(p_run bigint, p_visit int, p_hash bytea) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v approval;
begin
	select * into v from approval where run_id = p_run and visit = p_visit;
	if not found or v.status <> 'approved' then
		raise exception using errcode = 'HP409',
			message = format('run %s may not send: approval of visit %s is %s', p_run, p_visit,
				coalesce(v.status, 'missing'));
	end if;
	if v.request_sha256 is distinct from p_hash then
		raise exception using errcode = 'HP409',
			message = format('run %s may not send: the request is not the one that was signed in visit %s',
				p_run, p_visit);
	end if;
end $$;

-- ---- gates: admissions that may be refused ----
--
-- A gate (an open breaker, a spent budget) is asked inside the very commit that would
-- admit, so that no engine needs to have heard of it. A refused admission is no attempt:
-- the run is written as entered and parked, phase GATED (a probe of doubt: as before, in
-- DOUBT), with nothing of the request kept, and asks again when it is woken or due.

-- One admission that asks. operation is "connector.operation".
create type holdpoint.admission as (
	ord bigint, run_id bigint, visit int, state int, operation text, timeout_us bigint, attempt int, probe boolean);
-- One that is refused, by the gate `name` of that kind. due_at 0: who opens the gate wakes it.
create type holdpoint.refusal as (
	ord bigint, code text, message text, due_at bigint, kind text, name text);

-- Is there any gate that might refuse, or wants to hear of outcomes? Asked by every
-- commit: it must cost next to nothing while there is none.
create function holdpoint.gates_on() returns boolean
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	return exists (select from breaker where state in ('open', 'half_open', 'forced_open'));
end $$;

-- All gates in turn; each is asked only for what those before it let pass. The caller
-- holds the state rows. A gate takes what it gives (a probe's place, tokens) here; what
-- a later gate refuses is given back at the end.
create function holdpoint.gate(p_asks holdpoint.admission[], p_run bigint[], p_epoch bigint[], p_rev bigint[],
	p_visit bigint[], p_from_visit bigint[], p_annex_ord bigint[], p_annex_kind text[], p_annex jsonb[], p_now bigint)
returns holdpoint.refusal[]
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_refused refusal[] := gate_breakers(p_asks, p_now); -- 0014
begin
	if 'limits' = any(p_annex_kind) then
		v_refused := v_refused || gate_limits(p_run, p_epoch, p_rev, p_visit, p_from_visit, p_annex_ord, p_annex_kind,
			p_annex, v_refused, p_now); -- 0019
	end if;
	delete from breaker_probe p using unnest(v_refused) r where p.run_id = p_run[r.ord];
	return v_refused;
end $$;

-- What asks in this commit. Only rows that the compare-and-set will change: a fenced
-- worker takes nothing.
create function holdpoint.admissions(p_run bigint[], p_epoch bigint[], p_rev bigint[], p_move bigint[],
	p_visit bigint[], p_state bigint[], p_attempt bigint[], p_flags bigint[]) returns holdpoint.admission[]
language sql set search_path = holdpoint, pg_temp as $$
	select coalesce(array_agg((u.ord, u.run_id, u.visit, u.state, case when u.move = 6
			then coalesce(x.s ->> 'probe', x.s ->> 'operation') else x.s ->> 'operation' end,
			(x.s ->> 'timeout_us')::bigint, u.attempt,
			u.move = 6)::admission order by u.run_id), '{}')
	from unnest(p_run, p_epoch, p_rev, p_move, p_visit, p_state, p_attempt, p_flags) with ordinality
		u(run_id, epoch, rev, move, visit, state, attempt, flags, ord)
	join run_state s on s.run_id = u.run_id and s.epoch = u.epoch and s.rev = u.rev
	join run r on r.id = u.run_id
	cross join lateral (select state_summary(coalesce(s.digest, r.digest), u.state::int) as s) x
	where u.flags & 1 <> 0 or u.move = 6
$$;

-- Books what the gates refused: who opens one finds its runs here.
create function holdpoint.put_gated(p_run bigint, p_kind text, p_name text, p_message text, p_now bigint)
returns void
language sql set search_path = holdpoint, pg_temp as $$
	insert into gated (run_id, kind, name, since, message) values (p_run, p_kind, p_name, p_now, p_message)
		on conflict (run_id) do update set kind = excluded.kind, name = excluded.name, message = excluded.message,
			since = case when (gated.kind, gated.name) = (excluded.kind, excluded.name) then gated.since
				else excluded.since end
$$;

-- Wakes at most p_max runs of a gate, those that wait longest first. One that is not
-- let in after all is parked again, behind the others.
create function holdpoint.wake_gated(p_kind text, p_name text, p_max int, p_now bigint) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_runs bigint[];
begin
	with c as materialized (
		select g.run_id from gated g where g.kind = p_kind and g.name = p_name
		order by g.since, g.run_id limit p_max for update skip locked
	), d as (delete from gated g using c where g.run_id = c.run_id returning g.run_id)
	select array_agg(d.run_id) into v_runs from d;
	if v_runs is null then
		return 0;
	end if;
	return wake(v_runs, p_now);
end $$;

-- Commits transitions. Every array has one element per transition unless it has
-- an ordinal array (p_…_ord, from 1) beside it. Returns only those it changed.
-- p_flags: 1 admits, 2 in_sql, 4 business key, 8 approval closes, 16 unresolved,
-- 32 cancel as the worker knows it, 64 sends the signed request; 128 (set here) refused; 256
-- quiet: parks again as it was, without a row of history; 512 pause as the worker knows it.
-- p_disposition: 0 keep, 1 park, 2 finish.
create function holdpoint.commit(
	p_run bigint[], p_epoch bigint[], p_rev bigint[], p_move bigint[], p_disposition bigint[],
	p_visit bigint[], p_state bigint[], p_status bigint[], p_phase bigint[], p_attempt bigint[],
	p_failures bigint[], p_entered_at bigint[], p_first_sent_at bigint[], p_sent_at bigint[],
	p_due_at bigint[], p_signed_visit bigint[], p_signed_for bigint[], p_held_class bigint[], p_command bigint[],
	p_claims bigint[], p_from_state bigint[], p_from_visit bigint[], p_flags bigint[],
	p_outcome bigint[], p_consume bigint[], p_hash bytea[], p_run_code text[], p_code text[],
	p_message text[], p_result jsonb[],
	p_save_ord bigint[], p_save_name text[], p_save_value jsonb[],
	p_approval_ord bigint[], p_approval jsonb[], p_approval_hash bytea[], p_approval_deadline bigint[],
	p_wait_ord bigint[], p_wait_keys text[],
	p_key_ord bigint[], p_key_scope text[], p_key text[],
	p_annex_ord bigint[], p_annex_kind text[], p_annex jsonb[])
returns table (o_ord bigint, o_cancel boolean, o_first_sent_at bigint, o_now bigint, o_pause boolean,
	o_gated text)
language plpgsql set search_path = holdpoint, pg_temp as $$
#variable_conflict use_column
declare
	v_now bigint := now_us();
	v_asks admission[];
	v_refused refusal[] := '{}';
	v_gated boolean;      -- one of them had a row in gated
	v_wrong boolean;      -- one of them ends without saying so, or says so without ending
	v_ok bigint[];        -- ordinals of the changed rows, ascending
	v_cancel boolean[];
	v_pause boolean[];
	v_first bigint[];
	v_told bigint[];      -- when another was admitted under its business key, as far as it knew
	v_runs bigint[];      -- their runs
	v_moved boolean;      -- one of them parks or ends
	v_held boolean;       -- one of them was or is held
	v_flags bigint;
	v_consumes boolean;
	v_had_waits bigint[]; -- those that had waits
	v_limited bigint[];   -- those that end and have permits of their own
	v_parents bigint[];   -- those that have brought an annex before
	v_awaited bigint[];   -- those that others wait for
	v_ended bigint[];     -- … that end here
	v_again bigint[] := '{}'; -- parents with something to do already
	v_later bigint[] := '{}'; -- those that look again by themselves
	v_later_at bigint[];  -- and when
	v_i bigint;
	v_x bigint;
	v_row record;
begin
	-- 0. gates. All state rows first, in their order, so that what is decided about them
	-- here is decided about the rows that are written below.
	if gates_on() or 'limits' = any(p_annex_kind) then
		perform from run_state s where s.run_id = any(p_run) order by s.run_id for no key update;
		v_asks := admissions(p_run, p_epoch, p_rev, p_move, p_visit, p_state, p_attempt, p_flags);
		perform lock_breakers(p_run, v_asks); -- breakers
		perform breaker_outcomes(p_run, p_epoch, p_rev, p_move, p_status, p_outcome, p_code, v_now);
		v_refused := gate(v_asks, p_run, p_epoch, p_rev, p_visit, p_from_visit, p_annex_ord, p_annex_kind, p_annex, v_now);
		for v_row in select r.*, s.first_sent_at, s.request_hash from unnest(v_refused) r
				join run_state s on s.run_id = p_run[r.ord] loop
			v_i := v_row.ord;
			p_disposition[v_i] := 1;
			p_status[v_i] := 2;
			p_due_at[v_i] := v_row.due_at;
			p_run_code[v_i] := v_row.code;
			if p_move[v_i] = 6 then
				p_phase[v_i] := 4;
			else
				p_phase[v_i] := 7;
				p_attempt[v_i] := p_attempt[v_i] - 1;
			end if;
			p_flags[v_i] := (p_flags[v_i] & ~69) | 128;
			if p_visit[v_i] = p_from_visit[v_i] then
				p_move[v_i] := 14;
				p_code[v_i] := v_row.code;
				p_message[v_i] := v_row.message;
				p_first_sent_at[v_i] := v_row.first_sent_at;
				p_hash[v_i] := v_row.request_hash;
			else
				p_first_sent_at[v_i] := 0;
				p_sent_at[v_i] := 0;
				p_hash[v_i] := null;
			end if;
		end loop;
	end if;

	if cardinality(p_key_ord) > 0 then
		v_told := array(select case when p_flags[o] & 4 <> 0 and p_visit[o] = p_from_visit[o] then coalesce(
			(select s.first_sent_at from run_state s where s.run_id = p_run[o]), 0) else 0 end
			from generate_subscripts(p_run, 1) o order by o);
	end if;

	-- 1. compare and set. The rows come in ascending order of run and are looked up
	-- one after the other (the engine's role knows no other join), so that is the
	-- order of the locks too. History exists only because the update returned its row.
	with u as (
		select * from unnest(p_run, p_epoch, p_rev, p_move, p_disposition, p_visit, p_state, p_status,
			p_phase, p_attempt, p_failures, p_entered_at, p_first_sent_at, p_sent_at, p_due_at,
			p_signed_visit, p_signed_for, p_held_class, p_command, p_claims, p_from_state, p_from_visit, p_flags,
			p_outcome, p_consume, p_hash, p_run_code, p_code, p_message, p_result) with ordinality
			as u(run_id, epoch, rev, move, disposition, visit, state, status, phase, attempt, failures,
				entered_at, first_sent_at, sent_at, due_at, signed_visit, signed_for, held_class, command, claims,
				from_state, from_visit, flags, outcome, consume, hash, run_code, code, message, result, ord)
	), up as (
		update run_state s set rev = u.rev + 1, visit = u.visit, state = u.state, status = u.status,
			phase = u.phase, attempt = u.attempt, failures = u.failures, entered_at = u.entered_at,
			first_sent_at = u.first_sent_at, sent_at = u.sent_at, due_at = u.due_at,
			signed_visit = u.signed_visit, signed_for = u.signed_for, held_class = u.held_class, command = u.command,
			command_value = case when u.command = 0 then null else s.command_value end,
			claims = u.claims, unresolved = u.flags & 16 <> 0, cancel = s.cancel or u.flags & 32 <> 0,
			request_hash = u.hash, code = u.run_code
		from u where s.run_id = u.run_id and s.epoch = u.epoch and s.rev = u.rev
			and s.status <= 3 -- what has ended stays ended
		returning u.*, s.cancel, s.waits, s.in_held, s.gated, s.pause, s.limited, s.has_annex, s.awaited -- from waits on they are not set here: as before
	), h as (
		insert into history (run_id, rev, epoch, at, move, from_state, from_visit, state, visit, phase,
			status, attempt, due_at, flags, outcome, code, message, detail)
		select run_id, rev + 1, epoch, v_now, move, from_state, from_visit, state, visit, phase, status,
			attempt, due_at, (flags & 3) | ((flags & 128) >> 5), outcome, code, message, result
		from up where flags & 256 = 0
	)
	select array_agg(ord order by ord), array_agg(cancel order by ord), array_agg(pause order by ord), array_agg(run_id order by ord),
			bool_or(disposition <> 0), bool_or(in_held or status = 3), bit_or(flags), bool_or(consume > 0),
			array_agg(run_id) filter (where waits), bool_or(gated),
			array_agg(run_id order by ord) filter (where limited and disposition = 2),
			array_agg(run_id) filter (where has_annex), array_agg(run_id) filter (where awaited),
			array_agg(run_id) filter (where awaited and disposition = 2),
			bool_or(status not between 1 and 6 or (status > 3) <> (disposition = 2))
		into v_ok, v_cancel, v_pause, v_runs, v_moved, v_held, v_flags, v_consumes, v_had_waits, v_gated, v_limited,
			v_parents, v_awaited, v_ended, v_wrong from up;
	if v_ok is null then
		return;
	end if;
	if v_wrong then
		raise exception using errcode = 'HP400',
			message = format('run %s: a run that finishes, and no other, has one of the last three statuses', v_runs[1]);
	end if;
	v_first := array_fill(0::bigint, array[cardinality(v_ok)]);
	if v_parents is not null or v_ended is not null then
		perform lock_families(v_parents, v_ended); -- 0010
	end if;

	-- 2. saved values. Without documents no name comes twice (the encoder sees to it);
	-- a document saves every member, and of equal names the last one wins.
	if cardinality(p_save_ord) > 0 and array_position(p_save_name, null) is null then
		insert into saved (run_id, rev, visit, name, value)
			select p_run[x.ord], p_rev[x.ord] + 1, p_from_visit[x.ord], x.name, x.value
			from unnest(p_save_ord, p_save_name, p_save_value) x(ord, name, value)
			where cardinality(v_ok) = cardinality(p_run) or x.ord = any(v_ok);
	elsif cardinality(p_save_ord) > 0 then
		insert into saved (run_id, rev, visit, name, value)
			select distinct on (p_run[x.ord], e.name) p_run[x.ord], p_rev[x.ord] + 1, p_from_visit[x.ord], e.name, e.value
			from unnest(p_save_ord, p_save_name, p_save_value) with ordinality x(ord, name, value, n),
				lateral (select x.name, x.value where x.name is not null
					union all select j.key, j.value from jsonb_each(case when x.name is null then x.value end) j) e
			where x.ord = any(v_ok)
			order by p_run[x.ord], e.name, x.n desc;
	end if;

	-- 3. admissions: signed requests, business keys
	if v_flags & 64 <> 0 then
		foreach v_i in array v_ok loop
			if p_flags[v_i] & 64 <> 0 then
				if p_signed_for[v_i] <> p_state[v_i] then
					raise exception using errcode = 'HP409',
						message = format('run %s may not send: what was signed in visit %s is for another state',
							p_run[v_i], p_signed_visit[v_i]);
				end if;
				perform check_signed(p_run[v_i], p_signed_visit[v_i]::int, p_hash[v_i]);
			end if;
		end loop;
	end if;
	if v_moved then
		perform free_keys(array(select p_run[o] from unnest(v_ok) o where p_status[o] in (5, 6)));
	end if;
	if cardinality(p_key_ord) > 0 then
		for v_row in select * from unnest(p_key_ord, p_key_scope, p_key) x(ord, scope, key)
				where x.ord = any(v_ok) and p_flags[x.ord] & 4 <> 0 order by x.scope, x.key loop
			v_x := take_effect_key(v_row.scope, v_row.key, p_run[v_row.ord], p_visit[v_row.ord]::int,
				v_told[v_row.ord], p_flags[v_row.ord] & 16 <> 0, v_now);
			if v_x > 0 then
				v_first[array_position(v_ok, v_row.ord)] := v_x;
				update run_state set first_sent_at = v_x where run_id = p_run[v_row.ord];
			end if;
		end loop;
	end if;
	if v_limited is not null then
		perform leave_starts(v_limited, null, v_now); -- 0013
	end if;
	if 'turn' = any(p_annex_kind) then
		perform leave_starts(array(select p_run[x.ord] from unnest(p_annex_ord, p_annex_kind) x(ord, kind)
			where x.kind = 'turn' and x.ord = any(v_ok)), 'turn', v_now);
	end if;

	-- 4. what follows is rare: waits, approvals, holds, the end
	if v_held then
		delete from held where run_id = any(v_runs);
		insert into held (run_id, since, code)
			select p_run[o], v_now, p_run_code[o] from unnest(v_ok) o where p_status[o] = 3;
		update run_state set in_held = status = 3 where run_id = any(v_runs) and in_held <> (status = 3);
	end if;
	if v_flags & 8 <> 0 then
		-- The run says that it expired, or it went to a `fail` and says what that says. What else closes it is faster
		-- than the deadline. (One that turns round where it stands may have a code of long ago.)
		update approval a set decided_at = v_now, status = case when p_code[o] = 'expired' and p_phase[o] <> 9
				or p_visit[o] <> p_from_visit[o] and v_now >= a.deadline_at then 'expired' else 'cancelled' end
			from unnest(v_ok) o
			where p_flags[o] & 8 <> 0 and a.run_id = p_run[o] and a.visit = p_from_visit[o] and a.status = 'open';
	end if;
	if cardinality(p_approval_ord) > 0 then
		perform open_approval(p_run[x.ord], p_visit[x.ord]::int, p_state[x.ord]::int, x.doc, x.hash, x.deadline, v_now)
			from unnest(p_approval_ord, p_approval, p_approval_hash, p_approval_deadline) x(ord, doc, hash, deadline)
			where x.ord = any(v_ok);
	end if;
	if v_consumes then
		insert into mail_cursor (run_id, name, key_hash, mail_id)
			select p_run[o], m.name, m.key_hash, m.id from unnest(v_ok) o join mail m on m.id = p_consume[o]
			where p_consume[o] > 0
			on conflict (run_id, name, key_hash) do update set mail_id = greatest(mail_cursor.mail_id, excluded.mail_id);
	end if;
	if v_had_waits is not null then
		with gone as (
			select p_run[o] as run_id from unnest(v_ok) o
			where p_run[o] = any(v_had_waits) and (p_visit[o] <> p_from_visit[o] or p_disposition[o] = 2)
		), d as (delete from mail_wait w using gone where w.run_id = gone.run_id)
		update run_state s set waits = false from gone where s.run_id = gone.run_id;
	end if;
	if cardinality(p_wait_ord) > 0 then
		perform add_waits(p_run[x.ord], p_state[x.ord]::int, x.keys)
			from unnest(p_wait_ord, p_wait_keys) x(ord, keys) where x.ord = any(v_ok);
	end if;
	if cardinality(p_annex_ord) > 0 then
		perform annex(x.kind, p_run[x.ord], p_rev[x.ord]::int + 1, p_visit[x.ord]::int, p_state[x.ord]::int,
				p_from_visit[x.ord]::int, p_from_state[x.ord]::int, x.doc, v_now) -- 0009
			from unnest(p_annex_ord, p_annex_kind, p_annex) with ordinality x(ord, kind, doc, n)
			where x.ord = any(v_ok) order by x.n;
	end if;
	if v_gated or cardinality(v_refused) > 0 then
		perform put_refused(v_runs, v_refused, p_run, p_rev, p_visit, p_from_visit, v_now);
	end if;
	if v_ended is not null then
		perform children_ended(v_ended, v_now); -- 0010
	end if;
	if v_awaited is not null then
		v_awaited := told_to_end(v_awaited, array(select p_run[o] from unnest(v_ok) o where p_disposition[o] = 1));
		v_cancel := array(select c or r = any(v_awaited) from unnest(v_cancel, v_runs) with ordinality x(c, r, n) order by n);
	end if;
	if v_moved and (v_parents is not null or cardinality(p_annex_ord) > 0) then
		select o_again, o_later, o_later_at into v_again, v_later, v_later_at
			from look_at_children(array(select p_run[o] from unnest(v_ok) o where p_disposition[o] = 1), v_now);
	end if;
	if v_moved then
		perform settle(array(select p_run[o] from unnest(v_ok) o where p_disposition[o] = 1 order by 1),
			v_again || array(select p_run[o] from unnest(v_ok) with ordinality c(o, n)
				where p_disposition[o] = 1 and (p_status[o] <> 3 and v_cancel[n] and p_flags[o] & 32 = 0
					or p_flags[o] & 512 <> 0 and not v_pause[n] and (p_status[o] <> 3 or p_command[o] <> 0))),
			array(select p_run[o] from unnest(v_ok) o where p_disposition[o] = 2), v_now);
	end if;
	if cardinality(v_later) > 0 then
		insert into ready (run_id, due_at) select x.run_id, x.at from unnest(v_later, v_later_at) x(run_id, at)
			on conflict do nothing;
	end if;
	if true = any(v_pause) then
		perform end_pauses(array(select p_run[o] from unnest(v_ok) o where p_disposition[o] = 2)); -- 0015
	end if;
	return query select t.o, t.c, t.f, v_now, t.p, (select r.code from unnest(v_refused) r where r.ord = t.o)
		from unnest(v_ok, v_cancel, v_first, v_pause) t(o, c, f, p);
end $$;

-- Those that went on are not gated any more; those refused now are. Where a state was
-- entered, the row in the history says how the one before it ended: the refusal is a
-- note beside it.
create function holdpoint.put_refused(p_runs bigint[], p_refused holdpoint.refusal[], p_run bigint[], p_rev bigint[],
	p_visit bigint[], p_from_visit bigint[], p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_refused bigint[] := array(select p_run[r.ord] from unnest(p_refused) r);
begin
	delete from gated where run_id = any(p_runs) and run_id <> all(v_refused);
	update run_state s set gated = s.run_id = any(v_refused)
		where s.run_id = any(p_runs) and s.gated <> (s.run_id = any(v_refused));
	perform put_gated(p_run[r.ord], r.kind, r.name, r.message, p_now) from unnest(p_refused) r order by p_run[r.ord];
	insert into history (run_id, rev, seq, at, move, state, visit, phase, status, attempt, due_at, flags, outcome,
			code, message)
		select s.run_id, s.rev, 1, p_now, 14, s.state, s.visit, s.phase, s.status, s.attempt, s.due_at, 0, 0,
			r.code, r.message
		from unnest(p_refused) r join run_state s on s.run_id = p_run[r.ord]
		where p_visit[r.ord] <> p_from_visit[r.ord];
end $$;

-- Names come from the definition's state, keys from the run: one per event.
create function holdpoint.add_waits(p_run bigint, p_state int, p_keys text) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_events jsonb;
	v_keys text[] := case when p_keys = '' then array[''] else string_to_array(p_keys, E'\n') end;
begin
	v_events := state_summary(run_digest(p_run), p_state) -> 'events';
	if coalesce(jsonb_array_length(v_events), 0) <> cardinality(v_keys) then
		raise exception using errcode = 'HP400',
			message = format('run %s awaits %s keys, but its state names %s events', p_run,
				cardinality(v_keys), coalesce(jsonb_array_length(v_events), 0));
	end if;
	delete from mail_wait where run_id = p_run;
	insert into mail_wait (run_id, wait, name, key_hash, key)
		select p_run, i - 1, v_events ->> (i - 1), hash(v_keys[i]), v_keys[i]
		from generate_subscripts(v_keys, 1) i;
	update run_state set waits = true where run_id = p_run and not waits;
end $$;

-- False: somebody has been sending to one of these mailboxes for long, in a
-- transaction that is still open. It is not waited for: an application's transaction
-- may take any time, and all runs of this commit would wait with us.
create function holdpoint.lock_mailboxes(p_runs bigint[], p_now bigint) returns boolean
language plpgsql set search_path = holdpoint, pg_temp set lock_timeout = '200ms' as $$
begin
	perform lock_mailbox(b.name, b.key_hash, p_now)
		from (select distinct w.name, w.key_hash from mail_wait w where w.run_id = any(p_runs) order by 1, 2) b;
	return true;
exception when lock_not_available then
	return false;
end $$;

-- Parked and finished runs leave the ready list. One that parks although there
-- is something for it (mail, a due time that has passed, a cancel or the end of a
-- pause its worker did not know of) stays on it, owned by nobody. One whose mailbox could not be looked
-- into stays on it, too, and looks again a second later. One that is paused has no
-- row anywhere until it is resumed, unless it is to be cancelled.
create function holdpoint.settle(p_parked bigint[], p_again bigint[], p_finished bigint[], p_now bigint)
returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_waiting bigint[];
	v_again bigint[] := p_again;
	v_later bigint[] := '{}';
begin
	if cardinality(p_parked) > 0 then
		v_waiting := array(select s.run_id from run_state s
			where s.run_id = any(p_parked) and s.waits and s.status = 2 and s.phase in (6, 10) and not s.pause);
		if cardinality(v_waiting) > 0 then
			-- the mailbox's lock first, the look in a second statement
			if lock_mailboxes(v_waiting, p_now) then
				v_again := v_again || have_mail(v_waiting, p_now);
			else
				v_later := v_waiting;
			end if;
		end if;
		v_again := v_again || array(select s.run_id from run_state s
			where s.run_id = any(p_parked) and s.due_at > 0 and s.due_at <= p_now and not s.pause);
		delete from ready where run_id = any(p_parked) and run_id <> all(v_again || v_later);
		insert into timer (run_id, due_at)
			select s.run_id, s.due_at from run_state s
			where s.run_id = any(p_parked) and s.due_at > 0 and not s.pause
			order by s.run_id
			on conflict (run_id) do update set due_at = excluded.due_at;
		if cardinality(v_again || v_later) > 0 then
			insert into ready (run_id, due_at)
				select x, min(due) from (select x, p_now as due from unnest(v_again) x
					union all select x, p_now + 1000000 from unnest(v_later) x) t group by x order by x
				on conflict (run_id) do update set due_at = excluded.due_at, engine_id = null;
		end if;
	end if;
	if cardinality(p_finished) > 0 then
		delete from ready where run_id = any(p_finished);
	end if;
end $$;

-- After a lost acknowledgement: waits until the old backend is out of the way,
-- then says of each (run, epoch, rev) whether that very transition was written.
create function holdpoint.look(p_run bigint[], p_epoch bigint[], p_rev bigint[])
returns table (o_ord bigint, o_written boolean, o_unchanged boolean, o_cancel boolean,
	o_first_sent_at bigint, o_now bigint, o_pause boolean, o_gated text)
language plpgsql set search_path = holdpoint, pg_temp as $$
#variable_conflict use_column
begin
	perform from run_state s where s.run_id = any(p_run) order by s.run_id for no key update;
	return query
	select u.ord,
		exists (select from history h where h.run_id = u.run_id and h.rev = u.rev + 1 and h.seq = 0
			and h.epoch = u.epoch),
		s.epoch = u.epoch and s.rev = u.rev, s.cancel, s.first_sent_at, now_us(), s.pause,
		(select n.code from history h join history n on n.run_id = h.run_id and n.rev = h.rev and n.move = 14
			where h.run_id = u.run_id and h.rev = u.rev + 1 and h.seq = 0 and h.flags & 4 <> 0 limit 1)
	from unnest(p_run, p_epoch, p_rev) with ordinality u(run_id, epoch, rev, ord)
	left join run_state s on s.run_id = u.run_id;
end $$;

reset role;
