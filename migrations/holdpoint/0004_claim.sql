-- 0004: claiming, reloading, giving back; starting, delivering, webhooks.

set local role holdpoint_owner;

-- Everything a worker needs to go on with a run, in one row.
create type holdpoint.claimed as (
	run_id bigint, epoch int, rev int, visit int, state int, status smallint, phase smallint,
	attempt int, failures int, entered_at bigint, first_sent_at bigint, sent_at bigint, due_at bigint,
	unresolved boolean, signed_visit int, signed_for int, request_hash bytea, held_class smallint, code text,
	cancel boolean, command smallint, claims int,
	workflow text, digest bytea, key text, input jsonb, saved jsonb,
	decision int, decision_value jsonb, mail_id bigint, mail_wait int, mail jsonb, command_value jsonb,
	signed_request bytea, signed_key text, signed_hash bytea, token text, annex jsonb, pause boolean, now_us bigint);

create function holdpoint.load(p_runs bigint[]) returns setof holdpoint.claimed
language plpgsql stable set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
begin
	return query
	select s.run_id, s.epoch, s.rev, s.visit, s.state, s.status, s.phase, s.attempt, s.failures,
		s.entered_at, s.first_sent_at, s.sent_at, s.due_at, s.unresolved, s.signed_visit, s.signed_for, s.request_hash,
		s.held_class, s.code,
		s.cancel or s.awaited and s.status <> 3 and exists (select from child c where c.child = s.run_id and c.cancel),
		s.command, s.claims,
		r.workflow, coalesce(s.digest, r.digest), r.key, r.input,
		(select jsonb_object_agg(v.name, v.value) from (
			select distinct on (v.name) v.name, v.value from saved v
			where v.run_id = s.run_id order by v.name, v.rev desc) v),
		case d.status when 'approved' then 1 when 'rejected' then 2 else 0 end,
		case when d.status in ('approved', 'rejected') then jsonb_build_object('approval', d.id,
			'decision', d.status, 'by', d.decided_by, 'reason', d.reason, 'at', json_time(d.decided_at)) end,
		coalesce(m.id, 0), m.wait, m.payload, s.command_value,
		g.request, g.request_key, g.request_sha256,
		lease_token(s.run_id, s.epoch), case when s.has_annex then found_annex(s) end, s.pause, v_now
	from unnest(p_runs) with ordinality u(run_id, n)
	join run_state s on s.run_id = u.run_id
	join run r on r.id = u.run_id
	left join lateral (select a.* from approval a
		where s.phase = 6 and a.run_id = s.run_id and a.visit = s.visit) d on true
	left join lateral (select a.* from approval a
		where s.signed_visit > 0 and a.run_id = s.run_id and a.visit = s.signed_visit) g on true
	left join lateral (
		select m.id, w.wait, m.payload
		from mail_wait w cross join lateral (
			select m.id, m.payload from mail m
			where m.name = w.name and m.key_hash = w.key_hash and m.expires_at > v_now
				and m.id > coalesce((select c.mail_id from mail_cursor c
					where c.run_id = w.run_id and c.name = w.name and c.key_hash = w.key_hash), 0)
			order by m.id limit 1) m
		where s.waits and w.run_id = s.run_id
		order by m.id limit 1) m on true
	order by u.n;
end $$;

-- Oldest due first, over the ready list and the timers, so that a backlog of one
-- never starves the other. What somebody else is claiming is skipped, never waited
-- for. A timer never fires early: due_at <= now of the database's clock.
-- p_no numbers this engine's calls that take runs; p_lost are those whose
-- acknowledgement it never got: their runs are nobody's and become ready again.
create function holdpoint.claim(p_engine bigint, p_max bigint, p_no bigint, p_lost bigint[]) returns setof holdpoint.claimed
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
	v_ready bigint[];
	v_since bigint[];  -- of v_ready, and then of both
	v_due bigint[];
	v_due_at bigint[];
	v_runs bigint[];
	v_lease bigint;
begin
	select lease_until into v_lease from engine where id = p_engine and not dead;
	if not found then
		raise exception using errcode = 'HP409', message = format('engine %s has been marked dead', p_engine);
	end if;
	-- What a dead engine had in hand is there for whoever looks for work: with long leases
	-- the next heartbeat of somebody may be seconds away. Only an engine whose own lease is
	-- good marks others, so two never wait for each other's rows.
	if v_lease >= v_now and exists (select from engine where not dead and lease_until < v_now) then
		perform sweep_dead(v_now);
	end if;
	if cardinality(p_lost) > 0 then
		update ready set engine_id = null, due_at = v_now where engine_id = p_engine and claim_no = any(p_lost);
	end if;
	with c as materialized (
		select y.run_id, y.due_at from ready y where y.engine_id is null and y.due_at <= v_now
		order by y.due_at, y.run_id limit p_max for update skip locked
	)
	select coalesce(array_agg(c.run_id), '{}'), coalesce(array_agg(c.due_at), '{}') into v_ready, v_since from c;
	-- Only timers that are older than what is there to take. A run that is on the
	-- ready list too is taken through that list alone (two claimers that meet over
	-- two lists would wait for each other), and its timer takes nobody's place here.
	with c as materialized (
		select t.run_id, t.due_at from timer t
		where t.due_at <= case when cardinality(v_ready) < p_max then v_now else v_since[p_max] end
			and not exists (select from ready y where y.run_id = t.run_id)
		order by t.due_at, t.run_id limit p_max for update of t skip locked
	)
	select coalesce(array_agg(c.run_id), '{}'), coalesce(array_agg(c.due_at), '{}') into v_due, v_due_at from c;
	if cardinality(v_ready) + cardinality(v_due) > p_max then
		select array_agg(x.run_id) filter (where x.timer is null), array_agg(x.run_id) filter (where x.timer)
			into v_ready, v_due from (
				select run_id, due_at, null::boolean as timer from unnest(v_ready, v_since) y(run_id, due_at)
				union all select run_id, due_at, true from unnest(v_due, v_due_at) t(run_id, due_at)
				order by due_at, run_id limit p_max) x;
		v_ready := coalesce(v_ready, '{}');
		v_due := coalesce(v_due, '{}');
	end if;
	if cardinality(v_ready) + cardinality(v_due) = 0 then
		update engine set idle = true where id = p_engine and not idle;
		return;
	end if;
	update engine set idle = false where id = p_engine and idle;
	with l as materialized (
		select s.run_id from run_state s where s.run_id = any(v_ready || v_due) and s.status <= 3
		order by s.run_id for no key update skip locked
	), up as (
		update run_state s set epoch = s.epoch + 1, rev = s.rev + 1, claims = s.claims + 1
		from l where s.run_id = l.run_id returning s.run_id
	)
	select array_agg(up.run_id order by up.run_id) into v_runs from up;
	if coalesce(cardinality(v_runs), 0) < cardinality(v_ready) + cardinality(v_due) then
		-- A message, or the turn in a queue of starts, that raced with the end of its run has
		-- left a row for a run that is over. Nobody takes it, so it would stand before all others for ever.
		delete from ready y using run_state s
			where y.run_id = any(v_ready) and s.run_id = y.run_id and s.status > 3;
		delete from timer t using run_state s
			where t.run_id = any(v_due) and s.run_id = t.run_id and s.status > 3;
	end if;
	if v_runs is null then
		return;
	end if;
	delete from timer t where t.run_id = any(v_runs);
	insert into ready (run_id, due_at, engine_id, claim_no) select x, v_now, p_engine, p_no from unnest(v_runs) x
		on conflict (run_id) do update set engine_id = excluded.engine_id, claim_no = excluded.claim_no;
	return query select * from load(v_runs);
end $$;

create function holdpoint.reload(p_engine bigint, p_run bigint, p_epoch bigint) returns setof holdpoint.claimed
language plpgsql set search_path = holdpoint, pg_temp as $$
begin
	-- Waits for whoever moved it: their write decides what we read. So whose it is now is
	-- seen by a second statement only.
	perform from run_state s where s.run_id = p_run and s.epoch = p_epoch for no key update;
	if found and exists (select from ready y where y.run_id = p_run and y.engine_id = p_engine) then
		return query select * from load(array[p_run]);
	end if;
end $$;

-- Gives runs back unmoved. That claim does not count as a stalled one. Asked again
-- (the answer was lost), it finds that the run is not this engine's any more.
create function holdpoint.release(p_engine bigint, p_run bigint[], p_epoch bigint[]) returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
begin
	perform from run_state s where s.run_id = any(p_run) order by s.run_id for no key update;
	-- whose they are is seen when nobody can move them any more
	with up as (
		update run_state s set rev = s.rev + 1, claims = greatest(s.claims - 1, 0)
		from unnest(p_run, p_epoch) u(run_id, epoch) join ready y on y.run_id = u.run_id and y.engine_id = p_engine
		where s.run_id = u.run_id and s.epoch = u.epoch returning s.run_id
	)
	update ready y set engine_id = null, due_at = v_now from up
		where y.run_id = up.run_id and y.engine_id = p_engine;
	return v_now;
end $$;

-- One run, or the run that has this key already. p_engine: claim it at once.
create function holdpoint.start_run(p_workflow text, p_input jsonb, p_key text, p_requester text,
	p_engine bigint, p_no bigint, p_now bigint, out o_run bigint, out o_existed boolean, out o_own boolean)
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_workflow workflow;
	v_key text := nullif(p_key, '');
	v_known text;
begin
	select * into v_workflow from workflow where name = p_workflow;
	if not found then
		select string_agg(name, ', ' order by name) into v_known from (select name from workflow order by name limit 20) w;
		raise exception using errcode = 'HP404', message = format('there is no workflow "%s"', p_workflow),
			hint = coalesce('Deployed are: ' || v_known || '.', 'None is deployed yet: holdpoint deploy PATH.');
	end if;
	if not v_workflow.enabled then
		raise exception using errcode = 'HP409', message = format('workflow "%s" is disabled', p_workflow);
	end if;
	if p_input is null or octet_length(p_input::text) > 262144 then
		raise exception using errcode = case when p_input is null then 'HP400' else 'HP413' end,
			message = case when p_input is null then 'a run needs an input; {} is one' else 'the input is larger than 256 KiB' end;
	end if;
	if octet_length(v_key) > 512 then
		raise exception using errcode = 'HP413', message = 'the key is longer than 512 bytes';
	end if;
	o_existed := false;
	o_own := false;
	if v_workflow.paused_at is not null then -- who resumes it now is waited for, or finds this run
		select * into v_workflow from workflow where name = p_workflow for share;
	end if;
	if v_workflow.paused_at is not null then
		p_engine := null;
	end if;
	while v_key is not null loop
		insert into run_key (workflow, key_hash, generation)
			select p_workflow, hash(v_key), coalesce(max(generation), 0) + 1 from run_key
			where workflow = p_workflow and key_hash = hash(v_key)
			on conflict do nothing;
		exit when found;
		-- somebody has it; waited for above if they were not committed yet
		select k.run_id into o_run from run_key k
			where k.workflow = p_workflow and k.key_hash = hash(v_key) and not k.freed;
		if o_run is not null then
			o_existed := true;
			return;
		end if;
	end loop;
	if v_workflow.limits ->> 'overlap' = 'skip' then
		o_run := overlapping(v_workflow.limits, p_input); -- 0013
		if o_run is not null then
			delete from run_key where workflow = p_workflow and key_hash = hash(v_key) and run_id is null;
			o_existed := true;
			return;
		end if;
	end if;
	insert into run (workflow, key, input, digest, requester, created_at)
		values (p_workflow, v_key, p_input, v_workflow.digest, p_requester, p_now) returning id into o_run;
	if v_key is not null then
		update run_key set run_id = o_run where workflow = p_workflow and key_hash = hash(v_key) and not freed;
	end if;
	insert into run_state (run_id, epoch, rev, visit, state, attempt, failures, claims, signed_visit, status,
			phase, held_class, command, unresolved, cancel, waits, in_held, entered_at, first_sent_at, sent_at, due_at)
		values (o_run, (p_engine is not null)::int, (p_engine is not null)::int, 1, 0, 0, 0,
			(p_engine is not null)::int, 0, 1, 1, 0, 0, false, false, false, false, p_now, 0, 0, 0);
	insert into history (run_id, rev, at, move, state, visit, phase, status, attempt, due_at, flags, outcome, actor)
		values (o_run, 0, p_now, 1, 0, 1, 1, 1, 0, 0, 0, 0, p_requester);
	if v_workflow.paused_at is not null then
		perform start_paused(o_run, v_workflow, p_now); -- 0015
		return;
	end if;
	o_own := p_engine is not null;
	if v_workflow.limits is null then
		insert into ready (run_id, due_at, engine_id, claim_no) values (o_run, p_now, p_engine, p_no);
	elsif not start_limited(o_run, p_workflow, v_workflow.limits, p_input, p_engine, p_no, p_now) then -- 0013
		o_own := false;
	end if;
	if p_engine is null then
		perform hint();
	end if;
end $$;

-- A message, under the mailbox's lock; who waits for it becomes ready.
create function holdpoint.deliver(p_name text, p_key text, p_payload jsonb, p_sender text, p_now bigint,
	out o_mail bigint, out o_woken int)
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_hash bytea := hash(coalesce(p_key, ''));
begin
	if coalesce(p_name, '') = '' or octet_length(p_name) > 200 or octet_length(p_key) > 512 then
		raise exception using errcode = 'HP400', message = 'an event needs a name (up to 200 bytes) and a key (up to 512 bytes)';
	end if;
	if p_payload is null or octet_length(p_payload::text) > 1048576 then
		raise exception using errcode = 'HP400', message = 'an event needs a JSON payload of at most 1 MiB';
	end if;
	perform lock_mailbox(p_name, v_hash, p_now);
	insert into mail (name, key_hash, key, payload, sender, at, expires_at)
		values (p_name, v_hash, coalesce(p_key, ''), p_payload, p_sender, p_now, p_now + 30 * 86400000000)
		returning id into o_mail;
	-- A held run stays with its operator. (Its status is read without its lock: a
	-- run that is just being parked looks into its mailbox itself.)
	o_woken := wake(array(select w.run_id from mail_wait w join run_state s using (run_id)
		where w.name = p_name and w.key_hash = v_hash and s.status <> 3 and not s.pause), p_now);
end $$;

create function holdpoint.start_own(p_workflow text, p_input jsonb, p_key text, p_requester text, p_engine bigint,
	p_no bigint)
returns table (o_run bigint, o_existed boolean, o_now bigint, o_claimed boolean, c holdpoint.claimed)
language plpgsql set search_path = holdpoint, pg_temp as $$
#variable_conflict use_column
declare
	v record;
	v_now bigint := now_us();
	v_engine bigint := live_engine(p_engine);
begin
	select * into v from start_run(p_workflow, p_input, p_key, p_requester, v_engine, p_no, v_now);
	return query select v.o_run, v.o_existed, v_now, l.run_id is not null, l
		from (select 1) one left join lateral load(case when v.o_own then array[v.o_run] else '{}' end) l on true;
end $$;

-- An engine that was marked dead owns nothing any more.
create function holdpoint.live_engine(p_engine bigint) returns bigint
language sql stable set search_path = holdpoint, pg_temp as $$
	select id from engine where id = p_engine and not dead
$$;

-- One commit: the inbox row, and everything it causes. A duplicate causes nothing. Without a
-- body it is only asked whether others are triggered.
create function holdpoint.ingest(p_source text, p_event text, p_body bytea, p_payload jsonb, p_engine bigint, p_no bigint,
	p_workflow text[], p_input jsonb[], p_key text[], p_requester text[], p_own bigint[],
	p_box text[], p_box_key text[], p_type text, p_triggered text[])
returns table (o_ord int, o_run bigint, o_existed boolean, o_now bigint, o_claimed boolean, c holdpoint.claimed)
language plpgsql set search_path = holdpoint, pg_temp as $$
#variable_conflict use_column
declare
	v record;
	v_now bigint := now_us();
	v_engine bigint;
	v_own boolean;
begin
	if p_type is not null and p_triggered is distinct from triggered(p_source, p_type)
			and not exists (select from inbox where source = p_source and event_id = p_event) then
		return query select -2, null::bigint, null::boolean, v_now, false, null::claimed;
		return;
	end if;
	if p_body is not null then
		insert into inbox (source, event_id, body, received_at) values (p_source, p_event, p_body, v_now)
			on conflict do nothing;
	end if;
	if p_body is null or not found then
		return query select -1, null::bigint, null::boolean, v_now, false, null::claimed;
		return;
	end if;
	return query select 0, null::bigint, null::boolean, v_now, false, null::claimed;
	v_engine := live_engine(p_engine);
	for i in 1 .. cardinality(p_workflow) loop
		v_own := p_own[i] <> 0 and v_engine is not null;
		select * into v from start_run(p_workflow[i], p_input[i], p_key[i], p_requester[i],
			case when v_own then v_engine end, p_no, v_now);
		return query select i, v.o_run, v.o_existed, v_now, l.run_id is not null, l
			from (select 1) one left join lateral load(case when v.o_own then array[v.o_run] else '{}' end) l on true;
	end loop;
	perform deliver(b.name, b.key, p_payload, 'webhook:' || p_source, v_now)
		from (select name, key from unnest(p_box, p_box_key) b(name, key) group by 1, 2 order by 1, hash(key)) b;
end $$;

-- "workflow digest", sorted: what such an event starts.
create function holdpoint.triggered(p_source text, p_type text) returns text[]
language sql stable set search_path = holdpoint, pg_temp as $$
	select array(select t.workflow || ' ' || encode(w.digest, 'hex') from webhook_trigger t join workflow w on w.name = t.workflow and w.enabled
		where t.source = p_source and t.event = p_type order by (t.workflow || ' ' || encode(w.digest, 'hex')) collate "C")
$$;

create function holdpoint.put_triggers(p_workflow text, p_summary jsonb) returns void
language sql set search_path = holdpoint, pg_temp as $$
	delete from webhook_trigger where workflow = p_workflow;
	insert into webhook_trigger (workflow, source, event)
		select distinct p_workflow, t ->> 'source', e from jsonb_array_elements(coalesce(p_summary -> 'triggers', '[]')) t
		cross join jsonb_array_elements_text(coalesce(t -> 'events', '[]')) e;
$$;

create function holdpoint.deploy(p_workflow text, p_digest bytea, p_bundle text, p_summary jsonb) returns bigint
language plpgsql set search_path = holdpoint, pg_temp as $$
declare
	v_now bigint := now_us();
	v_workflow text;
begin
	perform ensure_partitions();
	insert into definition (digest, workflow, bundle, summary, created_at)
		values (p_digest, p_workflow, p_bundle, p_summary, v_now) on conflict do nothing;
	select workflow into v_workflow from definition where digest = p_digest;
	if v_workflow <> p_workflow then
		raise exception using errcode = 'HP409',
			message = format('this definition is known as workflow "%s", not "%s"', v_workflow, p_workflow);
	end if;
	insert into workflow (name, digest, deployed_at) values (p_workflow, p_digest, v_now)
		on conflict (name) do update set digest = excluded.digest, deployed_at = excluded.deployed_at
		where workflow.digest <> excluded.digest;
	perform put_triggers(p_workflow, p_summary);
	perform put_schedules(p_workflow, p_summary, v_now); -- 0008
	perform put_limits(p_workflow, p_summary); -- 0013
	perform put_budgets(p_workflow, p_summary, v_now);
	return v_now;
end $$;

-- The SQL doors: callable in an application's own transaction with no other right.
create function holdpoint.start(workflow text, input jsonb default '{}', key text default null) returns bigint
language plpgsql security definer set search_path = holdpoint, pg_temp as $$
declare
	v record;
begin
	perform set_config('holdpoint.now', '', true); -- nobody shifts time here
	select * into v from start_run(start.workflow, start.input, start.key, 'sql:' || session_user, null, null, now_us());
	return v.o_run;
end $$;

create function holdpoint.send_event(name text, key text, payload jsonb) returns bigint
language plpgsql security definer set search_path = holdpoint, pg_temp as $$
declare
	v record;
begin
	perform set_config('holdpoint.now', '', true); -- nobody shifts time here
	select * into v from deliver(send_event.name, send_event.key, send_event.payload, 'sql:' || session_user, now_us());
	return v.o_mail;
end $$;

-- The end of an sql state: the transition commits with the author's statement or
-- everything is undone. Needs the token of the very epoch.
create function holdpoint.sql_commit(p_token text,
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
language plpgsql security definer set search_path = holdpoint, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
	perform set_config('holdpoint.now', '', true); -- nobody shifts time here
	if cardinality(p_run) <> 1 or p_token is distinct from lease_token(p_run[1], p_epoch[1]::int) then
		raise exception using errcode = 'HP403', message = 'the lease token does not fit this run and epoch';
	end if;
	return query select * from commit(p_run, p_epoch, p_rev, p_move, p_disposition, p_visit, p_state,
		p_status, p_phase, p_attempt, p_failures, p_entered_at, p_first_sent_at, p_sent_at, p_due_at,
		p_signed_visit, p_signed_for, p_held_class, p_command, p_claims, p_from_state, p_from_visit, p_flags,
		p_outcome, p_consume, p_hash, p_run_code, p_code, p_message, p_result, p_save_ord, p_save_name,
		p_save_value, p_approval_ord, p_approval, p_approval_hash, p_approval_deadline, p_wait_ord,
		p_wait_keys, p_key_ord, p_key_scope, p_key, p_annex_ord, p_annex_kind, p_annex);
	if not found then
		raise exception using errcode = 'HP409', message = format('run %s has moved meanwhile', p_run[1]);
	end if;
end $$;

grant execute on function holdpoint.start, holdpoint.send_event to holdpoint_app;
grant execute on function holdpoint.sql_commit to holdpoint_workflow;

reset role;
