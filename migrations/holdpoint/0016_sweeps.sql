-- 0016: sweeps: where a back-fill stands.
--
-- The row is written by the transition that is part of the page's own transaction, so
-- the place and what was done to the rows before it are never apart.

-- Standbys are seen in full only by members of this role; the owner's function below
-- gives away nothing but one number.
grant pg_read_all_stats to holdpoint_owner;

set local role holdpoint_owner;

create table holdpoint.sweep (
	run_id bigint not null,
	visit int not null,
	cursor jsonb,               -- key of the last row looked at
	row_in_hand jsonb,          -- with a call: looked at, and not done yet
	done bigint not null,
	changed bigint not null,
	pages bigint not null,
	failed bigint not null,
	total bigint,
	per_second double precision, -- of late: older pages count less and less
	started_at bigint not null,
	at bigint not null,
	ended_at bigint,
	primary key (run_id, visit)
) with (fillfactor = 70);

-- Rows whose call failed for good and was tolerated.
create table holdpoint.sweep_failure (
	run_id bigint not null,
	visit int not null,
	n bigint not null,
	cursor jsonb not null,
	error jsonb not null,
	at bigint not null,
	primary key (run_id, visit, n)
);

-- How many bytes of WAL the slowest standby has not replayed; 0: there is none.
create function holdpoint.replication_lag() returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
	select coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0)::bigint from pg_stat_replication
$$;
grant execute on function holdpoint.replication_lag to holdpoint_workflow;

-- Figures are absolute, and the transition that brings them is written once. The rate
-- follows the last ten seconds or so.
create function holdpoint.sweep_put(p_run bigint, p_visit int, p_doc jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_done bigint := (p_doc ->> 'done')::bigint;
	v_total bigint := nullif((p_doc ->> 'total')::bigint, -1);
	v_ended bigint := case when (p_doc ->> 'ended')::boolean then p_now end;
begin
	insert into sweep as w (run_id, visit, cursor, done, changed, pages, failed, total, started_at, at, ended_at)
		values (p_run, p_visit, p_doc -> 'cursor', v_done, (p_doc ->> 'changed')::bigint,
			(p_doc ->> 'pages')::bigint, (p_doc ->> 'failed')::bigint, v_total, p_now, p_now, v_ended)
		on conflict (run_id, visit) do update set cursor = excluded.cursor, row_in_hand = null, done = excluded.done,
			changed = excluded.changed, pages = excluded.pages, failed = excluded.failed, total = excluded.total,
			at = p_now, ended_at = v_ended,
			per_second = case when p_now <= w.at then w.per_second
				when w.per_second is null then (v_done - w.done) * 1e6 / (p_now - w.at)
				else w.per_second + (1 - exp((w.at - p_now) / 1e7)) * ((v_done - w.done) * 1e6 / (p_now - w.at) - w.per_second) end;
end $$;

create function holdpoint.sweep_row(p_run bigint, p_visit int, p_doc jsonb) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update sweep set row_in_hand = p_doc where run_id = p_run and visit = p_visit
$$;

create function holdpoint.sweep_failure(p_run bigint, p_visit int, p_doc jsonb, p_now bigint) returns void
language sql set search_path = holdpoint, pg_temp as $$
	insert into sweep_failure (run_id, visit, n, cursor, error, at)
		select p_run, p_visit, w.failed, w.cursor, p_doc, p_now from sweep w where w.run_id = p_run and w.visit = p_visit
$$;

create function holdpoint.sweep_found(s holdpoint.run_state) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('cursor', w.cursor, 'row', w.row_in_hand, 'done', w.done,
			'changed', w.changed, 'pages', w.pages, 'failed', w.failed, 'total', w.total)
		from sweep w where w.run_id = s.run_id and w.visit = s.visit
$$;

-- For readers. `left_seconds` is what it takes at the rate of late.
create function holdpoint.sweep_json(w holdpoint.sweep) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('state', visit_state(w.run_id, w.visit), 'visit', w.visit, 'done', w.done,
		'total', w.total, 'changed', w.changed, 'failed', w.failed, 'pages', w.pages, 'cursor', w.cursor,
		'per_second', round(w.per_second::numeric, 1),
		'left_seconds', case when w.ended_at is null and w.total >= w.done and w.per_second > 0
			then ceil((w.total - w.done) / w.per_second) end,
		'started_at', json_time(w.started_at), 'at', json_time(w.at), 'ended_at', json_time(w.ended_at),
		'failures', (select jsonb_agg(jsonb_build_object('cursor', f.cursor, 'code', f.error ->> 'code',
				'message', f.error ->> 'message', 'at', json_time(f.at)) order by f.n)
			from sweep_failure f where f.run_id = w.run_id and f.visit = w.visit and f.n > w.failed - 20)))
$$;

create function holdpoint.sweeps_json(p_run bigint) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_agg(sweep_json(w) order by w.visit) from sweep w where w.run_id = p_run
$$;

-- " (12000 of 200000 rows, 3950 per second, about 48 s left)"; null: this visit sweeps nothing.
create function holdpoint.say_sweep(s holdpoint.run_state) returns text
language sql stable set search_path = holdpoint, pg_temp as $$
	select format(' (%s%s rows%s%s%s)', w.done, coalesce(' of ' || w.total, ''),
			coalesce(', ' || round(w.per_second) || ' per second', ''),
			case when w.total >= w.done and w.per_second > 0
				then ', about ' || ceil((w.total - w.done) / w.per_second) || ' s left' else '' end,
			case when w.failed > 0 then ', ' || w.failed || ' failed' else '' end)
		from sweep w where w.run_id = s.run_id and w.visit = s.visit and w.ended_at is null
$$;

reset role;
