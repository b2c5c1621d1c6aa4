-- 0012: undo: what is kept to take effects back, and how far that has come.
--
-- An entry is written by the very commit in which its effect succeeded and is complete:
-- a request with its key, or a statement's arguments, under the definition of then.
-- Both tables are written by annexes only (0009), so by the owner of the run's epoch.

set local role holdpoint_owner;

create table holdpoint.undo_log (
	run_id bigint not null,
	n int not null,           -- in the order in which the effects succeeded; undone from the end
	visit int not null,
	state int not null,       -- of the effect, in `digest`
	digest bytea not null,    -- the definition under which it ran and is undone
	rev int not null,         -- of the commit: saved values up to it are those of then
	doc jsonb not null,       -- {"state", "operation", "request", "key", "probe"}, {"state", "args", "user"},
	                          -- {"text"}: cannot be undone, {"code", "error"}: could not be rendered
	status smallint not null, -- 1 open, 2 done, 3 impossible, 4 skipped: done by hand
	at bigint not null,
	closed_at bigint,
	primary key (run_id, n),
	unique (run_id, visit)
) with (fillfactor = 80);

-- Runs that go back, or went.
create table holdpoint.unwinding (
	run_id bigint primary key,
	began_at bigint not null,
	ends smallint not null,   -- the run's status when nothing is left
	from_state int not null,
	from_digest bytea not null,
	code text,
	message text,
	result jsonb,
	answered_at bigint        -- a person has seen what nothing could undo
);

-- An effect is undone under the definition it ran under: a run that was moved to another
-- version (0015) follows the one of its next entry, and in the end that of its turn.
create function holdpoint.undo_follow(p_run bigint, p_rev int, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_digest bytea;
	v_state int;
begin
	select l.digest, coalesce((l.doc ->> 'state')::int, l.state) into v_digest, v_state
		from undo_log l where l.run_id = p_run and l.status = 1 order by l.n desc limit 1;
	if not found then
		select w.from_digest, w.from_state into v_digest, v_state from unwinding w where w.run_id = p_run;
	end if;
	if v_digest <> run_digest(p_run) then
		update run_state set digest = v_digest, state = v_state where run_id = p_run;
		insert into run_version (run_id, rev, visit, digest, at, by, reason)
			select p_run, p_rev + 1, s.visit, v_digest, p_now, 'engine', 'unwinding' from run_state s where s.run_id = p_run;
	end if;
end $$;

create function holdpoint.undo_annex(p_run bigint, p_rev int, p_state int, p_from_visit int, p_from_state int,
	p_doc jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_add jsonb := p_doc -> 'add';
begin
	if v_add is not null then
		-- one that succeeds again (its `set` had failed, a person retried it) is still one effect
		insert into undo_log (run_id, n, visit, state, digest, rev, doc, status, at)
			select p_run, coalesce((select max(n) from undo_log where run_id = p_run), 0) + 1, p_from_visit,
				p_from_state, run_digest(p_run), p_rev, v_add, case when v_add ? 'text' then 3 else 1 end, p_now
			on conflict (run_id, visit) do update set rev = excluded.rev, doc = excluded.doc, at = excluded.at;
	elsif p_doc ? 'begin' then
		insert into unwinding (run_id, began_at, ends, from_state, from_digest, code, message, result)
			select p_run, p_now, (p_doc ->> 'begin')::smallint, p_state, run_digest(p_run), h.code, h.message, h.detail
			from history h where h.run_id = p_run and h.rev = p_rev and h.seq = 0;
		perform undo_follow(p_run, p_rev, p_now);
	elsif p_doc ? 'close' then
		update undo_log set status = case p_doc ->> 'as' when 'done' then 2 else 4 end, closed_at = p_now
			where run_id = p_run and n = (p_doc ->> 'close')::int and status = 1;
		if not found then
			raise exception using errcode = 'HP409',
				message = format('run %s: entry %s of its undo log is not open', p_run, p_doc ->> 'close');
		end if;
		perform undo_follow(p_run, p_rev, p_now);
	elsif p_doc ? 'answered' then
		update unwinding set answered_at = p_now where run_id = p_run;
	else
		raise exception using errcode = 'HP400', message = format('run %s: this undo annex says nothing', p_run);
	end if;
end $$;

-- "book_hotel (visit 3, key hp_…)", "send_mail (visit 4): a mail cannot be taken back"
create function holdpoint.undo_says(l holdpoint.undo_log) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select format('%s (visit %s%s)%s', state_name(l.digest, l.state), l.visit,
		coalesce(', key ' || (l.doc ->> 'key'), ''), coalesce(': ' || (l.doc ->> 'text'), ': ' || (l.doc ->> 'error'), ''))
$$;

-- What is not undone, the next first; null: nothing.
create function holdpoint.undo_left(p_run bigint, p_most int) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select string_agg(x.said, '; ' order by x.status, x.n desc) filter (where x.place <= p_most)
		|| case when count(*) > p_most then format(' and %s more', count(*) - p_most) else '' end
	from (select undo_says(l) as said, l.status, l.n, row_number() over (order by l.status, l.n desc) as place
		from undo_log l join unwinding w using (run_id)
		where l.run_id = p_run and (l.status = 1 or (l.status = 3 and w.answered_at is null))) x
$$;

-- For a claim: null unless the run goes back.
create function holdpoint.undo_found(s holdpoint.run_state) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('ends', w.ends, 'from', w.from_state, 'code', w.code, 'message', w.message,
		'result', w.result,
		'left', case when w.answered_at is null then (select count(*) from undo_log l
			where l.run_id = s.run_id and l.status = 3) else 0 end,
		'names', undo_left(s.run_id, 4),
		'next', (select l.doc || jsonb_build_object('entry', l.n, 'visit', l.visit, 'saved',
				coalesce((select jsonb_object_agg(v.name, v.value) from (
					select distinct on (v.name) v.name, v.value from saved v
					where v.run_id = s.run_id and v.rev <= l.rev order by v.name, v.rev desc) v), '{}'))
			from undo_log l where l.run_id = s.run_id and l.status = 1 order by l.n desc limit 1))
	from unwinding w where w.run_id = s.run_id
$$;

-- For people. Null: nothing of this run can be undone.
create function holdpoint.undo_json(p_run bigint) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select nullif(jsonb_strip_nulls(jsonb_build_object(
		'began_at', (select json_time(w.began_at) from unwinding w where w.run_id = p_run),
		'ends', (select status_name(w.ends) from unwinding w where w.run_id = p_run),
		'log', (select jsonb_agg(jsonb_build_object('entry', l.n, 'visit', l.visit,
				'state', state_name(l.digest, l.state), 'operation', l.doc ->> 'operation', 'key', l.doc ->> 'key',
				'status', (array['open', 'done', 'impossible', 'skipped'])[l.status],
				'text', coalesce(l.doc ->> 'text', l.doc ->> 'error'), 'at', json_time(l.at),
				'closed_at', json_time(l.closed_at)) order by l.n)
			from undo_log l where l.run_id = p_run))), '{}')
$$;

-- " It goes back: 3 of 5 effects are undone, next is …"; empty: it does not.
create function holdpoint.undo_progress(p_run bigint) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce((select format(' It is being unwound: %s of %s undone%s.',
			count(*) filter (where l.status in (2, 4)), count(l.n),
			coalesce(', next ' || max(state_name(l.digest, l.state)) filter (where l.n = (select max(o.n) from undo_log o
				where o.run_id = p_run and o.status = 1)), ''))
		from unwinding w left join undo_log l using (run_id) where w.run_id = p_run having count(w.run_id) > 0), '')
$$;

create function holdpoint.unwinds(p_run bigint) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select exists (select from unwinding w where w.run_id = p_run)
$$;

-- Which order an operator's undo is; p_happened says what they found of an effect in doubt.
create function holdpoint.undo_command(s holdpoint.run_state, p_happened jsonb) returns smallint
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_state jsonb;
begin
	if jsonb_typeof(p_happened) <> 'boolean' then
		perform fail('HP400', '"happened" must be true or false');
	end if;
	if unwinds(s.run_id) then
		perform fail('HP409', format('run %s is being unwound already', s.run_id),
			'retry tries the undo again, skip says that it was done by hand, give_up ends the run as it is.');
	end if;
	if p_happened is not null and not s.unresolved then
		perform fail('HP409', format('nothing is in doubt in run %s', s.run_id), 'Leave "happened" out.');
	end if;
	v_state := state_summary(run_digest(s.run_id), s.state);
	if s.unresolved and p_happened is null and not coalesce(v_state ? 'probe', false) then
		perform fail('HP409', format('whether the effect of state "%s" happened is not known, and nothing is undone before it is',
			v_state ->> 'name'), 'Look at the provider, then say so: --happened yes or --happened no.');
	end if;
	return case p_happened when 'true' then 41 when 'false' then 42 else 4 end;
end $$;

reset role;
