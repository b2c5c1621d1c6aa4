-- 0017: secrets. Values are sealed by the engines before they come here (AES-256-GCM,
-- engine/base/seal.h): whoever reads this table, a dump of it or its WAL reads nothing.
--
-- A name has numbered versions. One is current, at most one is previous; any number may
-- be pending until they are promoted or retired. A retired version keeps its row and its
-- fingerprint, not its value. The name's row counts the versions.
-- secret_serial counts changes: heartbeats bring the number, and engines read the values only
-- when it has moved. Its one row is locked before any name's: two commits that change
-- several names in different orders would wait for each other.

set local role holdpoint_owner;

create table holdpoint.secret (
	name text primary key check (name ~ '^[A-Z0-9_]{1,63}$'),
	last_version int not null
);

create table holdpoint.secret_version (
	name text not null references holdpoint.secret,
	version int not null,
	state text not null check (state in ('pending', 'current', 'previous', 'retired')),
	sealed bytea,                 -- null: retired
	key_id text,                  -- of the key that sealed it
	fingerprint text not null,
	created_at bigint not null,
	created_by text not null,     -- a principal, or run:ID
	expires_at bigint,            -- people are told; nothing stops working by itself
	promoted_at bigint,
	promoted_by text,
	retired_at bigint,
	retired_by text,
	primary key (name, version),
	check ((state = 'retired') = (sealed is null) and (sealed is null) = (key_id is null))
);
create unique index secret_current on holdpoint.secret_version (name) where state = 'current';
create unique index secret_previous on holdpoint.secret_version (name) where state = 'previous';
create index secret_live on holdpoint.secret_version (name, version) where state <> 'retired';

create table holdpoint.secret_serial (
	one boolean primary key default true check (one),
	serial bigint not null        -- no row: 1, nothing has changed yet
);

create function holdpoint.secret_changed() returns void
language sql set search_path = holdpoint, pg_temp as $$
	insert into secret_serial (serial) values (2) on conflict (one) do update set serial = secret_serial.serial + 1
$$;

create function holdpoint.secret_changes() returns bigint
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce((select serial from secret_serial where one), 1)
$$;

create function holdpoint.arg_secret(p_args jsonb) returns text
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v text := arg_text(p_args, 'name', true, 64);
begin
	if v !~ '^[A-Z0-9_]{1,63}$' then
		perform fail('HP400', format('"%s" cannot be the name of a secret', v),
			'A name has 1 to 63 capital letters, digits and "_".');
	end if;
	return v;
end $$;

create function holdpoint.lock_secret(p_name text) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	insert into secret_serial as s (serial) values (1) on conflict (one) do update set serial = s.serial;
	perform from secret where name = p_name for update;
	if not found then
		perform fail('HP404', format('there is no secret %s in the table', p_name), 'holdpoint secret list lists them.');
	end if;
end $$;

-- The version that is meant: the given number, or the newest in that state.
create function holdpoint.secret_find(p_name text, p_version bigint, p_state text) returns holdpoint.secret_version
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v secret_version;
begin
	if p_version is null then
		select * into v from secret_version where name = p_name and state = p_state order by version desc limit 1;
		if not found then
			perform fail('HP409', format('%s has no %s version', p_name, p_state), 'holdpoint secret list says what there is.');
		end if;
	else
		select * into v from secret_version where name = p_name and version = p_version;
		if not found then
			perform fail('HP404', format('%s has no version %s', p_name, p_version), 'holdpoint secret list says what there is.');
		end if;
	end if;
	return v;
end $$;

-- ---- the three changes; the name's row is locked ----

create function holdpoint.secret_end(p_name text, p_versions int[], p_by text, p_now bigint) returns void
language sql set search_path = holdpoint, pg_temp as $$
	update secret_version set state = 'retired', sealed = null, key_id = null, retired_at = p_now, retired_by = p_by
		where name = p_name and version = any(p_versions)
$$;

-- Who was current is previous, who was previous ends, and so do pending versions older than
-- the promoted one. To promote what is current already changes nothing.
create function holdpoint.secret_promote(p_name text, p_version bigint, p_by text, p_now bigint) returns holdpoint.secret_version
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v secret_version;
begin
	perform lock_secret(p_name);
	v := secret_find(p_name, p_version, 'pending');
	if v.state = 'current' then
		return v;
	end if;
	if v.state <> 'pending' then
		perform fail('HP409', format('%s version %s is %s, not pending: it cannot be promoted', p_name, v.version, v.state));
	end if;
	perform secret_end(p_name, array(select version from secret_version where name = p_name
		and (state = 'previous' or state = 'pending' and version < v.version)), p_by, p_now);
	update secret_version set state = 'previous' where name = p_name and state = 'current';
	update secret_version set state = 'current', promoted_at = p_now, promoted_by = p_by
		where name = p_name and version = v.version returning * into v;
	perform secret_changed();
	return v;
end $$;

-- Without a version: the previous one. The current one ends only by its number.
create function holdpoint.secret_retire(p_name text, p_version bigint, p_by text, p_now bigint,
	p_which text default 'previous') returns holdpoint.secret_version
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v secret_version;
begin
	perform lock_secret(p_name);
	v := secret_find(p_name, p_version, p_which);
	if v.state = 'retired' then
		return v;
	end if;
	perform secret_end(p_name, array[v.version], p_by, p_now);
	perform secret_changed();
	return secret_find(p_name, v.version, null);
end $$;

create function holdpoint.secret_put(p_name text, p_doc jsonb, p_by text, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_state text := coalesce(arg_text(p_doc, 'state', false), 'pending');
	v_expires bigint := nullif(arg_int(p_doc, 'expires_in', 0), 0);
	v_version bigint := arg_int(p_doc, 'version');
begin
	if v_state not in ('pending', 'current') or v_expires < 0 then
		perform fail('HP400', 'a new version is pending or current, and expires in the future');
	end if;
	perform lock_secret(p_name);
	insert into secret_version (name, version, state, sealed, key_id, fingerprint, created_at, created_by, expires_at)
		values (p_name, v_version, 'pending', decode(arg_text(p_doc, 'sealed', true, 20000), 'base64'),
			arg_text(p_doc, 'key_id', true, 64), arg_text(p_doc, 'fingerprint', true, 64), p_now, p_by,
			p_now + v_expires * 1000000);
	if v_state = 'current' then
		perform secret_promote(p_name, v_version, p_by, p_now);
	else
		perform secret_changed();
	end if;
exception when unique_violation or invalid_parameter_value then
	perform fail('HP409', format('%s version %s is there already, or its value is malformed', p_name, v_version));
end $$;

-- ---- of a run: {"ops":[{"op":"put","name","version","sealed","key_id","fingerprint"} |
-- {"op":"promote"|"retire","name","version"?,"which"?}]}, in the commit of its transition. To retire
-- a state that no version is in is done already: a first rotation has no previous one. ----

create function holdpoint.annex_secrets(p_run bigint, p_doc jsonb, p_now bigint) returns void
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_by text := 'run:' || p_run;
	v_which text;
	x jsonb;
begin
	for x in select e from jsonb_array_elements(p_doc -> 'ops') e loop
		v_which := coalesce(x ->> 'which', case x ->> 'op' when 'retire' then 'previous' else 'pending' end);
		-- who is current is promoted already, and ends only by its number
		if v_which <> 'pending' and not (x ->> 'op' = 'retire' and v_which = 'previous') then
			perform fail('HP400', format('a run cannot %s the %s version of %s', x ->> 'op', v_which, arg_secret(x)));
		end if;
		case x ->> 'op'
			when 'put' then perform secret_put(arg_secret(x), x, v_by, p_now);
			when 'promote' then perform secret_promote(arg_secret(x), (x ->> 'version')::bigint, v_by, p_now);
			when 'retire' then
				perform lock_secret(arg_secret(x));
				if x ? 'version' or exists (select from secret_version where name = x ->> 'name' and state = v_which) then
					perform secret_retire(x ->> 'name', (x ->> 'version')::bigint, v_by, p_now, v_which);
				end if;
		end case;
	end loop;
end $$;

-- ---- doors ----

create function holdpoint.secret_json(v holdpoint.secret_version) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_strip_nulls(jsonb_build_object('name', v.name, 'version', v.version, 'state', v.state,
		'fingerprint', v.fingerprint, 'key_id', v.key_id, 'created_at', json_time(v.created_at), 'created_by', v.created_by,
		'expires_at', json_time(v.expires_at), 'promoted_at', json_time(v.promoted_at), 'promoted_by', v.promoted_by,
		'retired_at', json_time(v.retired_at), 'retired_by', v.retired_by))
$$;

-- For engines only. A number that is never used leaves a gap, nothing else.
create function holdpoint.door_secret_reserve(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_secret(p_args);
	v_version int;
begin
	if (select count(*) from secret) >= 1000 and not exists (select from secret where name = v_name) then
		perform fail('HP413', 'there are 1000 secrets already');
	end if;
	insert into secret (name, last_version) values (v_name, 1)
		on conflict (name) do update set last_version = secret.last_version + 1 returning last_version into v_version;
	return jsonb_build_object('name', v_name, 'version', v_version, 'installation', installation_id());
end $$;

create function holdpoint.door_secret_put(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_secret(p_args);
begin
	perform secret_put(v_name, p_args, p_principal, now_us());
	return secret_json(secret_find(v_name, arg_int(p_args, 'version'), null));
end $$;

create function holdpoint.door_secret_promote(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	return secret_json(secret_promote(arg_secret(p_args), nullif(arg_int(p_args, 'version', 0), 0), p_principal, now_us()));
end $$;

create function holdpoint.door_secret_retire(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	return secret_json(secret_retire(arg_secret(p_args), nullif(arg_int(p_args, 'version', 0), 0), p_principal, now_us()));
end $$;

-- For engines only: the same value under another key, unless somebody was faster.
create function holdpoint.door_secret_reseal(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_secret(p_args);
	v_done boolean;
begin
	perform lock_secret(v_name);
	update secret_version set sealed = decode(arg_text(p_args, 'sealed', true, 20000), 'base64'),
			key_id = arg_text(p_args, 'key_id', true, 64)
		where name = v_name and version = arg_int(p_args, 'version') and key_id = arg_text(p_args, 'was', true, 64);
	v_done := found;
	if v_done then
		perform secret_changed();
	end if;
	return jsonb_build_object('resealed', v_done);
end $$;

create function holdpoint.door_secrets(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('secrets', coalesce(jsonb_agg(secret_json(v) order by v.name, v.version desc), '[]'))
	from (select *, row_number() over (partition by name order by version desc) as n from secret_version
		where not p_args ? 'name' or name = p_args ->> 'name') n
	join secret_version v using (name, version)
	where n.n <= 10 or v.state <> 'retired'
$$;

-- For engines only: everything that can be used, if anything changed since `serial`.
create function holdpoint.door_secrets_live(p_principal text, p_args jsonb) returns jsonb
language sql stable set search_path = holdpoint, pg_temp as $$
	select jsonb_build_object('serial', s.serial, 'installation', installation_id())
		|| case when s.serial = coalesce((p_args ->> 'serial')::bigint, 0) then '{}' else
			jsonb_build_object('versions', (select coalesce(jsonb_agg(jsonb_build_object('name', v.name, 'version', v.version,
				'state', v.state, 'sealed', translate(encode(v.sealed, 'base64'), E'\n', ''), 'key_id', v.key_id,
				'fingerprint', v.fingerprint) order by v.name, v.version), '[]') from secret_version v where v.state <> 'retired'))
		end
	from (select secret_changes() as serial) s
$$;

reset role;
