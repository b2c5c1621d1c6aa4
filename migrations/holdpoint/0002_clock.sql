-- 0002: the clock, small helpers, partitions, engines.

set local role holdpoint_owner;

-- The one clock. STABLE, so that an index condition evaluates it once.
-- Tests set holdpoint.now (microseconds); functions that strangers may call reset
-- that setting first so that nobody can shift time there.
create function holdpoint.now_us() returns bigint
language plpgsql stable parallel safe as $$
begin
	return coalesce(nullif(current_setting('holdpoint.now', true), '')::bigint,
		(extract(epoch from clock_timestamp()) * 1000000)::bigint);
end $$;

create function holdpoint.clock() returns timestamptz
language sql stable parallel safe as $$
	select to_timestamp(holdpoint.now_us() / 1000000.0)
$$;

-- For sentences: whole seconds.
create function holdpoint.say_time(p_us bigint) returns text
language sql immutable parallel safe as $$
	select to_char(timestamp '1970-01-01' + make_interval(secs => p_us / 1000000), 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
$$;

-- For JSON: RFC 3339 with microseconds; null for "never".
create function holdpoint.json_time(p_us bigint) returns text
language sql immutable parallel safe as $$
	select case when p_us > 0 then
		to_char(timestamp '1970-01-01' + make_interval(secs => p_us / 1000000)
			+ (p_us % 1000000) * interval '1 microsecond', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') end
$$;

create function holdpoint.parse_time(p_text text) returns bigint
language plpgsql immutable as $$
begin
	if p_text ~ '^[0-9]{1,18}$' then
		return p_text::bigint;
	end if;
	return (extract(epoch from p_text::timestamptz) * 1000000)::bigint;
exception when others then
	raise exception using errcode = 'HP400', message = format('"%s" is not a time', p_text),
		hint = 'Write RFC 3339, for example 2026-11-23T02:04:05Z.';
end $$;

create function holdpoint.hash(p_text text) returns bytea
language sql immutable strict parallel safe as $$
	select sha256(convert_to(p_text, 'UTF8'))
$$;

create function holdpoint.status_name(p smallint) returns text
language sql immutable strict parallel safe as $$
	select (array['running', 'waiting', 'held', 'succeeded', 'failed', 'cancelled'])[p]
$$;
create function holdpoint.status_number(p text) returns smallint
language sql immutable strict parallel safe as $$
	select array_position(array['running', 'waiting', 'held', 'succeeded', 'failed', 'cancelled'], p)::smallint
$$;
create function holdpoint.phase_name(p smallint) returns text
language sql immutable strict parallel safe as $$
	select (array['enter', 'admitted', 'backoff', 'doubt', 'probing', 'open', 'gated', 'checking', 'undoing', 'joining'])[p]
$$;
create function holdpoint.move_name(p smallint) returns text
language sql immutable strict parallel safe as $$
	select (array['started', 'entered', 'admitted', 'retry', 'doubt', 'probing', 'parked', 'held',
		'finished', 'reminded', 'decided', 'commanded', 'woken', 'gated', 'paused', 'resumed', 'moved', 'restarted',
		'spawned', 'checked', 'unknown', 'undoing', 'undone', 'swept'])[p]
$$;
create function holdpoint.class_name(p smallint) returns text
language sql immutable strict parallel safe as $$
	select (array['ok', 'retryable', 'terminal', 'ambiguous', 'needs_person'])[p + 1]
$$;

-- Proves that a worker owns this epoch of this run. The message has a fixed
-- length, so appending to a known token's input gains nothing.
create function holdpoint.lease_token(p_run bigint, p_epoch int) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
	select encode(sha256(i.secret || int8send(p_run) || int4send(p_epoch)), 'hex') from holdpoint.installation i where i.one
$$;

-- History and saved values: partitions of a million runs, two made ahead.
create function holdpoint.ensure_partitions() returns void
language plpgsql security definer set search_path = holdpoint, pg_temp as $$
declare
	c_size constant bigint := 1000000;
	v_last bigint;
	v_first bigint;
	v_parent text;
begin
	select case when is_called then last_value else 0 end into v_last from run_id_seq;
	v_first := v_last / c_size;
	if to_regclass(format('holdpoint.history_%s', v_first + 2)) is not null then
		return;
	end if;
	perform pg_advisory_xact_lock(hashtextextended('holdpoint.partitions', 0));
	for i in v_first .. v_first + 2 loop
		if to_regclass(format('holdpoint.history_%s', i)) is null then
			-- attached, not created in place: that would lock the parent exclusively
			foreach v_parent in array array['history', 'saved'] loop
				execute format('create table %I (like %I including all)', v_parent || '_' || i, v_parent);
				execute format('alter table %I attach partition %I for values from (%s) to (%s)',
					v_parent, v_parent || '_' || i, i * c_size, (i + 1) * c_size);
				-- append-only for the engine by this name, too: it was made with the default privileges
				execute format('revoke all on %I from holdpoint_engine', v_parent || '_' || i);
			end loop;
		end if;
	end loop;
end $$;
select holdpoint.ensure_partitions();

create function holdpoint.engine_register(p_host text, p_pid bigint, p_lease_us bigint,
	out o_id bigint, out o_now bigint, out o_installation text)
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	o_now := now_us();
	perform ensure_partitions();
	insert into engine (host, pid, lease_us, lease_until, started_at)
		values (p_host, p_pid, p_lease_us, o_now + p_lease_us, o_now) returning id into o_id;
	o_installation := installation_id();
end $$;

create function holdpoint.installation_id() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
	select id::text from holdpoint.installation
$$;

-- Runs of dead engines become ready again, at most a thousand at a time: every
-- engine's heartbeat does it, so nobody is needed in particular.
create function holdpoint.sweep_dead(p_now bigint) returns int
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_n int;
begin
	with late as (
		select id from engine where not dead and lease_until < p_now order by id for update skip locked
	)
	update engine e set dead = true, ended_at = p_now from late where e.id = late.id;
	with orphan as materialized (
		select r.run_id from ready r where r.engine_id in (select id from engine where dead)
			order by r.run_id limit 1000 for update skip locked
	)
	update ready r set engine_id = null, due_at = p_now from orphan o where r.run_id = o.run_id;
	get diagnostics v_n = row_count;
	with old as (
		select e.id from engine e where e.dead and e.ended_at < p_now - 86400000000
			and not exists (select from ready r where r.engine_id = e.id) for update skip locked
	)
	delete from engine e using old where e.id = old.id;
	return v_n;
end $$;

-- Something became ready. NOTIFY holds a cluster-wide lock through its commit, so it
-- is sent only while some engine has nothing to do; an engine that found work polls.
create function holdpoint.hint() returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	if exists (select from engine where idle and not dead) then
		perform pg_notify('holdpoint_ready', '');
	end if;
end $$;

-- alive false: we have been marked dead and must end. limits: there are some to be tended,
-- in a transaction of its own.
create function holdpoint.heartbeat(p_engine bigint, out o_alive boolean, out o_now bigint, out o_secrets bigint,
	out o_limits boolean)
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	o_now := now_us();
	update engine set lease_until = o_now + lease_us where id = p_engine and not dead;
	o_alive := found;
	o_secrets := secret_changes(); -- 0017: no question of their own
	o_limits := exists (select from limiter); -- 0013
	if o_alive then
		perform ensure_partitions();
		perform tend_breakers(o_now); -- before sweep_dead: it locks before ready
		perform sweep_dead(o_now);
	end if;
end $$;

create function holdpoint.engine_stop(p_engine bigint, out o_now bigint)
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	o_now := now_us();
	update engine set dead = true, lease_until = least(lease_until, o_now), ended_at = o_now
		where id = p_engine and not dead;
	update ready set engine_id = null, due_at = o_now where engine_id = p_engine;
end $$;

reset role;
