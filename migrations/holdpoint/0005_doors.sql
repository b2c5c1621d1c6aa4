-- 0005: doors that change something: start, send_event, decide, operate, cancel,
-- tokens.
--
-- Every door is door_NAME(principal text, args jsonb) returns jsonb. It locks the
-- run's state row first and looks in a second statement. Errors for people have
-- the SQLSTATE HPnnn (400, 401, 403, 404, 409, 413): nnn is the HTTP status.

set local role holdpoint_owner;

create function holdpoint.fail(p_code text, p_message text, p_hint text default null) returns void
language plpgsql as $$
begin
	if p_hint is null then
		raise exception using errcode = p_code, message = p_message;
	end if;
	raise exception using errcode = p_code, message = p_message, hint = p_hint;
end $$;

-- ---- reading arguments ----

create function holdpoint.arg_text(p_args jsonb, p_name text, p_required boolean default true,
	p_max int default 512) returns text
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v text := p_args ->> p_name;
begin
	if v is not null and jsonb_typeof(p_args -> p_name) <> 'string' then
		perform fail('HP400', format('"%s" must be a string', p_name));
	end if;
	if p_required and btrim(coalesce(v, '')) = '' then
		perform fail('HP400', format('"%s" is missing', p_name));
	end if;
	if octet_length(v) > p_max then
		perform fail('HP413', format('"%s" is longer than %s bytes', p_name, p_max));
	end if;
	return v;
end $$;

create function holdpoint.arg_int(p_args jsonb, p_name text, p_default bigint default null) returns bigint
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v text := p_args ->> p_name;
begin
	if v is null then
		if p_default is null then
			perform fail('HP400', format('"%s" is missing', p_name));
		end if;
		return p_default;
	end if;
	if v !~ '^-?[0-9]{1,18}$' then
		perform fail('HP400', format('"%s" must be a whole number, not "%s"', p_name, left(v, 40)));
	end if;
	return v::bigint;
end $$;

create function holdpoint.arg_limit(p_args jsonb) returns int
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
declare
	v bigint := arg_int(p_args, 'limit', 50);
begin
	if v < 1 or v > 500 then
		perform fail('HP400', '"limit" must be within 1 and 500');
	end if;
	return v::int;
end $$;

create function holdpoint.arg_reason(p_args jsonb) returns text
language plpgsql immutable set search_path = holdpoint, pg_temp as $$
begin
	if btrim(coalesce(p_args ->> 'reason', '')) = '' then
		perform fail('HP400', 'a reason is mandatory', 'Say in a sentence why; it is kept in the history.');
	end if;
	return arg_text(p_args, 'reason', true, 2000);
end $$;

-- ---- start, send_event ----

create function holdpoint.door_start(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v record;
begin
	select * into v from start_run(arg_text(p_args, 'workflow'), coalesce(p_args -> 'input', '{}'),
		arg_text(p_args, 'key', false), p_principal, null, null, now_us());
	return jsonb_build_object('run', v.o_run, 'existed', v.o_existed);
end $$;

create function holdpoint.door_send_event(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v record;
begin
	select * into v from deliver(arg_text(p_args, 'name', true, 200), arg_text(p_args, 'key', false),
		coalesce(p_args -> 'payload', '{}'), p_principal, now_us());
	return jsonb_build_object('event', v.o_mail, 'woken', v.o_woken);
end $$;

-- ---- commands ----

-- A number that was given to a run and is not there: it was removed.
create function holdpoint.no_run(p_run bigint) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	perform fail('HP404', format('there is no run %s', p_run), case when p_run between 1 and (select last_value from run_id_seq)
		then 'If it ended long ago, its workflow''s retention has removed it.' end);
end $$;

create function holdpoint.lock_run(p_run bigint) returns holdpoint.run_state
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v run_state;
begin
	select * into v from run_state s where s.run_id = p_run for no key update;
	if not found then
		perform no_run(p_run);
	end if;
	return v;
end $$;

-- A door's line in the history. p_moves: it raised rev; else it is a note beside
-- the row's current rev, because a worker is on its way and must not be disturbed.
create function holdpoint.note_door(p_state holdpoint.run_state, p_moves boolean, p_move smallint,
	p_code text, p_message text, p_actor text, p_detail jsonb, p_now bigint) returns void
language sql set search_path = holdpoint, pg_temp as $$
	insert into history (run_id, rev, seq, at, move, from_state, from_visit, state, visit, phase, status,
			attempt, due_at, flags, outcome, code, message, actor, detail)
		values (p_state.run_id, p_state.rev + p_moves::int,
			case when p_moves then 0 else (select coalesce(max(h.seq), 0) + 1 from history h
				where h.run_id = p_state.run_id and h.rev = p_state.rev) end,
			p_now, p_move, p_state.state, p_state.visit, p_state.state, p_state.visit, p_state.phase,
			p_state.status, p_state.attempt, p_state.due_at, 0, 0, p_code, p_message, p_actor, p_detail)
$$;

create function holdpoint.command_name(p smallint) returns text
language sql immutable strict as $$
	select case when p > 40 then 'undo' else (array['retry', 'skip', 'give up', 'undo', 'restart'])[p] end
$$;

create function holdpoint.door_operate(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_action text := arg_text(p_args, 'action');
	v_reason text := arg_reason(p_args);
	v_command smallint := array_position(array['retry', 'skip', 'give_up', 'undo'], v_action);
	v_now bigint;
	v run_state;
begin
	if v_command is null then
		perform fail('HP400', format('there is no action "%s": actions are retry, skip, undo and give_up', v_action));
	end if;
	v := lock_run(v_run);
	v_now := now_us();
	if v.status <> 3 then
		perform fail('HP409', format('run %s is not held, it is %s', v_run, status_name(v.status)),
			'Only held runs take retry, skip, undo or give_up. holdpoint why says what it waits for.');
	end if;
	if v.command <> 0 then
		perform fail('HP409', format('run %s has been told to %s already', v_run, command_name(v.command)));
	end if;
	if v_action = 'undo' then
		v_command := undo_command(v, p_args -> 'happened'); -- 0012
	end if;
	perform check_not_paused(v); -- 0015
	if v_action = 'skip' and state_summary(run_digest(v_run), v.state) ->> 'kind' = 'approval' then
		perform fail('HP409', format('run %s is held at an approval, which cannot be skipped', v_run),
			'retry asks again; only those it asks can say yes.');
	end if;
	update run_state set rev = rev + 1, command = v_command, command_value = p_args -> 'value' where run_id = v_run;
	perform note_door(v, true, 12::smallint, v_action, v_reason, p_principal, p_args -> 'value', v_now);
	perform wake(array[v_run], v_now);
	return jsonb_build_object('run', v_run);
end $$;

-- A flag: it takes effect between two effects. A parked run is woken for it, a
-- run in a worker's hands learns of it with its next commit.
create function holdpoint.door_cancel(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_run bigint := arg_int(p_args, 'run');
	v_reason text := arg_reason(p_args);
	v_owned boolean;
	v_now bigint;
	v run_state;
begin
	v := lock_run(v_run);
	v_now := now_us();
	perform check_lives(v); -- 0015
	if unwinds(v_run) then -- 0012
		perform fail('HP409', format('run %s is being unwound, and a cancel changes nothing', v_run));
	end if;
	-- One that was held on top of its cancel stays with its operator, who has not
	-- been told then what is in doubt. Who asks again has.
	if v.cancel and v.status <> 3 then
		return jsonb_build_object('run', v_run, 'status', status_name(v.status), 'cancel', true);
	end if;
	select engine_id is not null into v_owned from ready where run_id = v_run;
	v_owned := coalesce(v_owned, false);
	update run_state set cancel = true, rev = rev + (not v_owned)::int where run_id = v_run;
	perform note_door(v, not v_owned, 12::smallint, 'cancel', v_reason, p_principal, null, v_now);
	perform wake(array[v_run], v_now);
	return jsonb_build_object('run', v_run, 'status', status_name(v.status), 'cancel', true);
end $$;

-- ---- decide ----

-- Does the quorum have its votes? One principal counts in every role they hold now.
create function holdpoint.quorum_met(p_approval bigint, p_quorum jsonb) returns boolean
language sql stable set search_path = holdpoint, pg_temp as $$
	select coalesce(bool_and((
		select count(*) from vote v join role_member m on m.principal = v.principal
		where v.approval_id = p_approval and v.decision = 'approve' and m.role = t ->> 'role')
			>= (t ->> 'n')::int), false)
	from jsonb_array_elements(p_quorum) t
$$;

-- May this principal vote on it? Raises when not.
create function holdpoint.check_voter(p_principal text, p_approval holdpoint.approval) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_kind text;
begin
	select kind into v_kind from principal where name = p_principal;
	if v_kind is null then
		perform fail('HP403', format('"%s" is not a known principal', p_principal));
	end if;
	if v_kind <> 'person' then
		perform fail('HP403', format('%s may not decide: only a person can, this is %s', p_principal,
			case v_kind when 'agent' then 'an agent' else 'a service' end));
	end if;
	if p_principal = p_approval.requester then
		perform fail('HP403', format('%s requested run %s and may not decide its approvals', p_principal,
			p_approval.run_id), 'Ask somebody else.');
	end if;
	if not exists (select from role_member m join jsonb_array_elements(p_approval.quorum) t
			on m.role = t ->> 'role' where m.principal = p_principal) then
		perform fail('HP403', format('%s is not among the approvers: %s', p_principal, p_approval.approvers));
	end if;
end $$;

create function holdpoint.check_open(p_approval holdpoint.approval, p_now bigint) returns void
language plpgsql stable set search_path = holdpoint, pg_temp as $$
begin
	if p_approval.status in ('approved', 'rejected') then
		perform fail('HP409', format('already decided by %s at %s (%s)', p_approval.decided_by,
			say_time(p_approval.decided_at), p_approval.status));
	end if;
	if p_approval.status <> 'open' then
		perform fail('HP409', format('approval %s %s at %s%s', p_approval.id,
			case p_approval.status when 'expired' then 'expired' else 'was cancelled' end, say_time(p_approval.decided_at),
			coalesce(': ' || p_approval.reason, ''))); -- the reason is an arm's that went first
	end if;
	if p_now >= p_approval.deadline_at then
		perform fail('HP409', format('the deadline of approval %s was %s', p_approval.id, say_time(p_approval.deadline_at)));
	end if;
end $$;

-- The one way to decide, for every door.
create function holdpoint.door_decide(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_id bigint := arg_int(p_args, 'approval');
	v_decision text := arg_text(p_args, 'decision');
	v_reason text := arg_reason(p_args);
	v_run bigint;
	v_now bigint;
	v_state run_state;
	v_vote vote;
	v approval;
begin
	if v_decision not in ('approve', 'reject') then
		perform fail('HP400', format('a decision is "approve" or "reject", not "%s"', v_decision));
	end if;
	select run_id into v_run from approval where id = v_id;
	if not found then
		perform fail('HP404', format('there is no approval %s', v_id));
	end if;
	v_state := lock_run(v_run);
	-- the lock is ours: what is read from here on stays true
	select * into v from approval where id = v_id;
	v_now := now_us();
	perform check_open(v, v_now);
	perform check_voter(p_principal, v);
	select * into v_vote from vote where approval_id = v_id and principal = p_principal;
	if found then
		perform fail('HP409', format('%s has voted already, at %s (%s)', p_principal, say_time(v_vote.at), v_vote.decision));
	end if;
	insert into vote (approval_id, principal, decision, reason, at) values (v_id, p_principal, v_decision, v_reason, v_now);
	if v_decision = 'reject' or quorum_met(v_id, v.quorum) then
		v.status := case v_decision when 'reject' then 'rejected' else 'approved' end;
		update approval set status = v.status, decided_at = v_now, decided_by = p_principal, reason = v_reason
			where id = v_id;
		if not v_state.pause then
			perform wake(array[v_run], v_now);
		end if;
	end if;
	update run_state set rev = rev + 1 where run_id = v_run;
	perform note_door(v_state, true, 11::smallint, v_decision, v_reason, p_principal,
		jsonb_build_object('approval', v_id, 'status', v.status), v_now);
	return jsonb_build_object('approval', v_id, 'status', v.status, 'run', v_run);
end $$;

-- ---- principals and tokens ----

create function holdpoint.door_token_create(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_name text := arg_text(p_args, 'principal', true, 200);
	v_kind text := coalesce(arg_text(p_args, 'kind', false), 'person');
	v_known text;
	v_now bigint := now_us();
	v_expires bigint := nullif(arg_int(p_args, 'expires_in', 0), 0);
	v_token text;
	v_id bigint;
begin
	if v_kind not in ('person', 'service', 'agent') then
		perform fail('HP400', format('there is no kind "%s"', v_kind), 'Kinds are person, service and agent.');
	end if;
	if v_expires < 0 then
		perform fail('HP400', '"expires_in" is a number of seconds from now');
	end if;
	insert into principal (name, kind, created_at) values (v_name, v_kind, v_now) on conflict do nothing;
	select kind into v_known from principal where name = v_name;
	if v_known <> v_kind then
		perform fail('HP409', format('%s is known as %s, not as %s', v_name, v_known, v_kind));
	end if;
	if p_args ? 'roles' then
		delete from role_member where principal = v_name;
		insert into role_member (principal, role)
			select distinct v_name, r from jsonb_array_elements_text(p_args -> 'roles') r;
	end if;
	v_token := 'hp_' || translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
		'base64'), '+/=', '-_');
	insert into token (sha256, principal, scopes, created_at, created_by, expires_at)
		values (hash(v_token), v_name,
			array(select jsonb_array_elements_text(coalesce(p_args -> 'scopes', '[]'))), v_now, p_principal,
			v_now + v_expires * 1000000)
		returning id into v_id;
	return jsonb_build_object('id', v_id, 'token', v_token, 'principal', v_name, 'kind', v_kind);
exception when check_violation then
	perform fail('HP400', 'a role is a word of small letters, digits, "_" and "-"');
end $$;

-- The row stays: who had which token when is part of the record. Who asks again is
-- told since when it is revoked; the first one's name and reason stay.
create function holdpoint.door_token_revoke(p_principal text, p_args jsonb) returns jsonb
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_id bigint := arg_int(p_args, 'token');
	v_reason text := nullif(btrim(arg_text(p_args, 'reason', false, 2000)), '');
	v_already boolean;
	v token;
begin
	update token set revoked_at = now_us(), revoked_by = p_principal, revoke_reason = v_reason
		where id = v_id and revoked_at is null returning * into v;
	v_already := not found;
	if v_already then
		select * into v from token where id = v_id;
		if not found then
			perform fail('HP404', format('there is no token %s', v_id), 'holdpoint token list lists them.');
		end if;
	end if;
	return jsonb_build_object('id', v.id, 'principal', v.principal, 'already', v_already,
		'revoked_at', json_time(v.revoked_at), 'revoked_by', v.revoked_by);
end $$;

-- Whoever has a token may know what became of it; about any other nothing is said.
create function holdpoint.door_authenticate(p_principal text, p_args jsonb) returns jsonb
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_dead text;
	v token;
begin
	select * into v from token where sha256 = hash(coalesce(p_args ->> 'token', ''));
	v_dead := case
		when v.id is null then 'this token is not known'
		when v.revoked_at is not null then format('this token was revoked at %s', say_time(v.revoked_at))
		when v.expires_at <= now_us() then format('this token expired at %s', say_time(v.expires_at)) end;
	if v_dead is not null then
		perform fail('HP401', v_dead, 'Create one with: holdpoint token create NAME');
	end if;
	return (select jsonb_build_object('id', v.id, 'principal', p.name, 'kind', p.kind, 'scopes', to_jsonb(v.scopes),
		'roles', (select coalesce(jsonb_agg(m.role order by m.role), '[]') from role_member m where m.principal = p.name))
		from principal p where p.name = v.principal);
end $$;

reset role;
