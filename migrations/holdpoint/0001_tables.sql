-- 0001: roles and tables of the engine.
--
-- Times are int8 microseconds since 1970, UTC. A run is spread over
--   run          what never changes: workflow, input, key (lists filter by it)
--   run_state    the narrow row that is the run's only mutex; only its primary
--                key is indexed, so that every update of it stays HOT
--   ready        a small hot table of everything that can be claimed or is owned
--   timer        parked runs that wake by themselves
--   history, saved   append-only, partitioned by range of run id
-- A parked run without a timer has no row in ready or timer and costs nothing.

do $$
begin
	if not exists (select from pg_roles where rolname = 'holdpoint_owner') then
		create role holdpoint_owner nologin;
	end if;
	if not exists (select from pg_roles where rolname = 'holdpoint_engine') then
		create role holdpoint_engine login;
	end if;
	if not exists (select from pg_roles where rolname = 'holdpoint_workflow') then
		create role holdpoint_workflow login;
	end if;
	if not exists (select from pg_roles where rolname = 'holdpoint_app') then
		create role holdpoint_app nologin;
	end if;
exception when duplicate_object or unique_violation then
	null; -- roles belong to the cluster: another database was migrated just now
end $$;

-- Session settings live with the roles, so that a pooler in transaction mode
-- changes nothing.
alter role holdpoint_engine set jit = off;
alter role holdpoint_engine set statement_timeout = '30s';
alter role holdpoint_engine set lock_timeout = '5s';
alter role holdpoint_engine set idle_in_transaction_session_timeout = '30s';
-- Its statements all look rows up by key. Plans are made once per session, maybe
-- while a table is still empty: no later growth may turn one into a scan.
alter role holdpoint_engine set plan_cache_mode = force_generic_plan;
alter role holdpoint_engine set enable_seqscan = off;
alter role holdpoint_engine set enable_hashjoin = off;
alter role holdpoint_engine set enable_mergejoin = off;
alter role holdpoint_engine set random_page_cost = 1.1;
alter role holdpoint_workflow set jit = off;
alter role holdpoint_workflow set idle_in_transaction_session_timeout = '60s';
-- A client that vanishes without a word: its session would stay for hours (the system's
-- default), with the locks of whatever it was in the middle of.
alter role holdpoint_engine set tcp_keepalives_idle = 2;
alter role holdpoint_engine set tcp_keepalives_interval = 1;
alter role holdpoint_engine set tcp_keepalives_count = 3;
alter role holdpoint_engine set tcp_user_timeout = 5000;
alter role holdpoint_workflow set tcp_keepalives_idle = 2;
alter role holdpoint_workflow set tcp_keepalives_interval = 1;
alter role holdpoint_workflow set tcp_keepalives_count = 3;
alter role holdpoint_workflow set tcp_user_timeout = 5000;

alter schema holdpoint owner to holdpoint_owner;
-- A start as holdpoint_engine sees that nothing is missing.
grant select on holdpoint.migration to holdpoint_engine;
grant usage on schema holdpoint to holdpoint_engine, holdpoint_workflow, holdpoint_app;
set local role holdpoint_owner;

-- Nobody may call anything unless granted. The engine's functions run with the
-- engine's rights; what strangers may call is SECURITY DEFINER and granted by name.
alter default privileges for role holdpoint_owner revoke execute on functions from public;
alter default privileges for role holdpoint_owner in schema holdpoint grant execute on functions to holdpoint_engine;
alter default privileges for role holdpoint_owner in schema holdpoint
	grant select, insert, update, delete on tables to holdpoint_engine;

create table holdpoint.installation (
	one boolean primary key default true check (one),
	id uuid not null,
	secret bytea not null  -- lease tokens are derived from it: nobody but the owner reads it
);
insert into holdpoint.installation (id, secret)
	values (gen_random_uuid(), sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));

create table holdpoint.engine (
	id bigint generated always as identity primary key,
	host text not null,
	pid bigint not null,
	lease_us bigint not null check (lease_us > 0),
	lease_until bigint not null,
	dead boolean not null default false,
	idle boolean not null default false,  -- its last look found nothing: wants a hint
	started_at bigint not null,
	ended_at bigint
) with (fillfactor = 50);
-- Each claim looks for those that are late; a heartbeat changes no indexed column.
create index engine_alive on holdpoint.engine (id) where not dead;

create table holdpoint.definition (
	digest bytea primary key check (length(digest) = 32),
	workflow text not null,
	bundle text not null,  -- as given: its bytes are what the digest is over
	summary jsonb not null,
	created_at bigint not null
);

create table holdpoint.workflow (
	name text primary key check (length(name) between 1 and 64),
	digest bytea not null references holdpoint.definition,
	enabled boolean not null default true,
	deployed_at bigint not null,
	paused_at bigint,  -- new runs are stored and start paused (0015)
	paused_by text,
	paused_reason text
);

-- Which workflows a webhook's event starts, by their current definitions. A worker says what it
-- knows of that; one that has not heard of a deploy yet must not say yes to an event.
create table holdpoint.webhook_trigger (
	workflow text not null references holdpoint.workflow,
	source text not null,
	event text not null,
	primary key (workflow, source, event)
);
create index webhook_trigger_event on holdpoint.webhook_trigger (source, event, workflow);

create table holdpoint.run (
	id bigint generated always as identity primary key,
	workflow text not null,
	key text,
	input jsonb not null,
	digest bytea not null,
	requester text not null,
	created_at bigint not null
);
create index run_workflow on holdpoint.run (workflow, id);
create index run_key_text on holdpoint.run (key, id) where key is not null;
create index run_created on holdpoint.run using brin (created_at);

create table holdpoint.run_state (
	run_id bigint primary key,
	epoch int not null,
	rev int not null,
	visit int not null,
	state int not null,
	attempt int not null,
	failures int not null,
	claims int not null,
	signed_visit int not null,
	signed_for int not null default 0, -- signed_visit > 0: the call that sends what was signed
	status smallint not null,
	phase smallint not null,
	held_class smallint not null,
	command smallint not null,
	unresolved boolean not null,
	cancel boolean not null,
	pause boolean not null default false, -- written by doors only
	waits boolean not null,  -- has rows in mail_wait
	in_held boolean not null, -- has a row in held
	gated boolean not null default false, -- has a row in gated
	awaited boolean not null default false, -- other runs wait for its end
	has_annex boolean not null default false, -- a transition has brought an annex: claims look for what became of it
	entered_at bigint not null,
	first_sent_at bigint not null,
	sent_at bigint not null,
	due_at bigint not null,
	request_hash bytea,
	code text,
	command_value jsonb,
	digest bytea  -- the definition it was moved to; null: the one it started with
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

create table holdpoint.ready (
	run_id bigint primary key,
	due_at bigint not null,
	engine_id bigint,
	claim_no bigint  -- the engine's own number of the call that took it
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
	autovacuum_vacuum_cost_delay = 0);
create index ready_claim on holdpoint.ready (due_at, run_id) where engine_id is null;
create index ready_owned on holdpoint.ready (engine_id) where engine_id is not null;

create table holdpoint.timer (
	run_id bigint primary key,
	due_at bigint not null
) with (autovacuum_vacuum_scale_factor = 0.02);
create index timer_due on holdpoint.timer (due_at, run_id);

-- Runs that wait for an operator: few, and looked for often.
create table holdpoint.held (
	run_id bigint primary key,
	since bigint not null,
	code text
);

-- Which definition a moved run follows from which rev on. What it did before is
-- read, undone and answered for by the definition it was done under.
create table holdpoint.run_version (
	run_id bigint not null,
	rev int not null,
	visit int not null,   -- the first visit under it; one that went on keeps its number
	digest bytea not null references holdpoint.definition,
	at bigint not null,
	by text not null,
	reason text not null,
	primary key (run_id, rev)
);

-- Runs that somebody has paused: they have no row in ready or timer.
create table holdpoint.paused (
	run_id bigint primary key,
	at bigint not null,
	by text not null,
	reason text not null,
	workflow text  -- it started while this workflow was paused, and goes on with it
);
create index paused_workflow on holdpoint.paused (workflow, run_id) where workflow is not null;

-- Runs parked because a gate refused their admission: which gate, and since when. Who
-- opens the gate takes the oldest of it from here and puts them onto the ready list.
create table holdpoint.gated (
	run_id bigint primary key,
	kind text not null,   -- breaker, …
	name text not null,   -- of the breaker, the budget, …
	since bigint not null,
	message text not null
) with (autovacuum_vacuum_scale_factor = 0.02);
create index gated_by on holdpoint.gated (kind, name, since, run_id);

create table holdpoint.history (
	run_id bigint not null,
	rev int not null,
	seq smallint not null default 0, -- > 0: a door's note that did not write the state row
	epoch int,                       -- of the worker that wrote it; null: a door
	at bigint not null,
	move smallint not null,
	from_state int,
	from_visit int,
	state int not null,
	visit int not null,
	phase smallint not null,
	status smallint not null,
	attempt int not null,
	due_at bigint not null,
	flags smallint not null,         -- 1 admits, 2 part of an sql state's transaction, 4 its admission was refused
	outcome smallint not null,
	code text,
	message text,
	actor text,
	detail jsonb,
	primary key (run_id, rev, seq)
) partition by range (run_id);

create table holdpoint.saved (
	run_id bigint not null,
	rev int not null,
	visit int not null,
	name text not null,
	value jsonb not null,
	primary key (run_id, rev, name)
) partition by range (run_id);

-- Keys outlive runs and are never pruned. At most one generation is live.
create table holdpoint.run_key (
	workflow text not null,
	key_hash bytea not null,
	generation int not null,
	run_id bigint,
	freed boolean not null default false,
	primary key (workflow, key_hash, generation)
);
create unique index run_key_live on holdpoint.run_key (workflow, key_hash) where not freed;

-- Business keys of effects. scope is "connector.operation".
create table holdpoint.effect_key (
	scope text not null,
	key_hash bytea not null,
	run_id bigint not null,
	visit int not null,
	first_sent_at bigint not null,
	primary key (scope, key_hash)
);

create table holdpoint.inbox (
	source text not null,
	event_id text not null,
	body bytea not null,
	received_at bigint not null,
	primary key (source, event_id)
);

-- The row is the lock of a mailbox: senders and waiters meet on it.
create table holdpoint.mailbox (
	name text not null,
	key_hash bytea not null,
	last_at bigint not null,
	primary key (name, key_hash)
) with (fillfactor = 70);

create table holdpoint.mail (
	id bigint generated always as identity primary key, -- taken under the mailbox's lock: in its order
	name text not null,
	key_hash bytea not null,
	key text not null,
	payload jsonb not null,
	sender text not null,
	at bigint not null,
	expires_at bigint not null
);
create index mail_box on holdpoint.mail (name, key_hash, id);

create table holdpoint.mail_wait (
	run_id bigint not null,
	wait int not null,
	name text not null,
	key_hash bytea not null,
	key text not null,
	primary key (run_id, wait)
);
create index mail_wait_box on holdpoint.mail_wait (name, key_hash, run_id);

create table holdpoint.mail_cursor (
	run_id bigint not null,
	name text not null,
	key_hash bytea not null,
	mail_id bigint not null,
	primary key (run_id, name, key_hash)
);

create table holdpoint.approval (
	id bigint generated always as identity primary key,
	run_id bigint not null,
	visit int not null,
	state int not null,
	state_name text not null,
	workflow text not null,
	ask text not null,
	evidence jsonb,
	request bytea,          -- the bytes that are shown, hashed and sent
	request_sha256 bytea,
	request_key text,
	approvers text not null,
	quorum jsonb not null,  -- [{"n":1,"role":"payments"}]
	requester text not null,
	opened_at bigint not null,
	deadline_at bigint not null,
	status text not null default 'open'
		check (status in ('open', 'approved', 'rejected', 'expired', 'cancelled')),
	decided_at bigint,
	decided_by text,
	reason text,
	unique (run_id, visit)
);
create index approval_open on holdpoint.approval (id) where status = 'open';

create table holdpoint.vote (
	approval_id bigint not null references holdpoint.approval,
	principal text not null,
	decision text not null check (decision in ('approve', 'reject')),
	reason text not null check (length(reason) between 1 and 2000),
	at bigint not null,
	primary key (approval_id, principal)
);

create table holdpoint.principal (
	name text primary key check (length(name) between 1 and 200),
	kind text not null check (kind in ('person', 'service', 'agent')),
	created_at bigint not null
);

create table holdpoint.role_member (
	principal text not null references holdpoint.principal,
	role text not null check (role ~ '^[a-z][a-z0-9_-]{0,62}$'),
	primary key (principal, role)
);
create index role_member_role on holdpoint.role_member (role);

create table holdpoint.token (
	id bigint generated always as identity primary key,
	sha256 bytea not null unique,
	principal text not null references holdpoint.principal,
	scopes text[] not null,
	created_at bigint not null,
	created_by text not null,
	expires_at bigint,
	revoked_at bigint,
	revoked_by text,
	revoke_reason text
);

-- Append-only for the engine too; the secret is the owner's alone.
revoke update on holdpoint.vote from holdpoint_engine;
revoke update, delete on holdpoint.history, holdpoint.saved, holdpoint.run,
	holdpoint.mail, holdpoint.inbox, holdpoint.definition, holdpoint.effect_key from holdpoint_engine;
-- Who holds a business key changes (take_effect_key), its scope and its key do not.
grant update (run_id, visit, first_sent_at) on holdpoint.effect_key to holdpoint_engine;
revoke all on holdpoint.installation from holdpoint_engine;

reset role;
