-- 20250709_refunds: what a refund needs of the wallet.
--
-- Whose rows these are is decided here and nowhere else: row-level security is
-- enabled and forced on every table, so that not even the owner forgets it. A
-- `sql` state of a workflow says who it acts for, and the engine puts that into
-- two settings of the transaction:
--   holdpoint.as = 'user' and holdpoint.user = '<uuid>'   that user's rows
--   holdpoint.as = 'service'                              all rows
-- Neither one is an error, never an empty answer.
--
-- No card data is here, encrypted or not: a payment is known by Stripe's id of it.
-- Expand only: nothing is dropped, renamed or narrowed. Money in minor units.

create function public.wallet_may_see(owner uuid) returns boolean
language plpgsql stable parallel safe
as $$
declare
	acting text := current_setting('holdpoint.as', true);
	asking text := nullif(current_setting('holdpoint.user', true), '');
begin
	if acting = 'service' then
		return true;
	elsif acting = 'user' and asking is not null then
		return owner = asking::uuid;
	end if;
	raise insufficient_privilege using
		message = 'nobody said who is asking for rows of the wallet',
		hint = 'set holdpoint.as to ''user'' (with holdpoint.user) or ''service'' in this transaction';
end $$;

create table public.traveler_profiles (
	id uuid primary key default gen_random_uuid(),
	user_id uuid not null unique,
	first_name text,
	last_name text,
	email text check (email like '%_@_%'),
	phone text,
	profile_completeness_score int not null default 0
		check (profile_completeness_score between 0 and 100),
	verification_level text not null default 'basic',
	created_at timestamptz not null default now(),
	updated_at timestamptz not null default now()
);

create table public.bookings (
	id text primary key,            -- Duffel's id of the order: what its webhooks name
	user_id uuid not null references public.traveler_profiles (user_id),
	reference text,                 -- the airline's, as travellers know it
	status text not null default 'pending'
		check (status in ('pending', 'confirmed', 'failed', 'cancelled')),
	created_at timestamptz not null default now(),
	updated_at timestamptz not null default now()
);
create index idx_bookings_user_id on public.bookings (user_id);

create table public.payments (
	id uuid primary key default gen_random_uuid(),
	booking_id text not null references public.bookings (id),
	user_id uuid not null references public.traveler_profiles (user_id),
	stripe_payment_intent_id text not null unique,
	amount bigint not null check (amount > 0),
	currency text not null check (currency ~ '^[a-z]{3}$'),
	status text not null
		check (status in ('pending', 'succeeded', 'failed', 'refunded')),
	created_at timestamptz not null default now(),
	updated_at timestamptz not null default now()
);
create index idx_payments_user_id on public.payments (user_id);
create index idx_payments_booking_id on public.payments (booking_id);
-- A booking is paid once: "the payment of a booking" means one row.
create unique index payments_one_per_booking on public.payments (booking_id)
	where status in ('succeeded', 'refunded');

create table public.refunds (
	id uuid primary key default gen_random_uuid(),
	booking_id text not null references public.bookings (id),
	payment_id uuid not null references public.payments (id),
	user_id uuid not null references public.traveler_profiles (user_id),
	payment_intent_id text not null,
	amount bigint not null check (amount > 0),
	currency text not null check (currency ~ '^[a-z]{3}$'),
	status text not null default 'pending'
		check (status in ('pending', 'succeeded', 'failed', 'rejected', 'expired')),
	stripe_refund_id text unique,
	failure_reason text,
	run_id bigint,                  -- the workflow's run that made the row
	created_at timestamptz not null default now(),
	updated_at timestamptz not null default now(),
	settled_at timestamptz,
	check (status <> 'succeeded' or (stripe_refund_id is not null and settled_at is not null))
);
create index idx_refunds_user_id on public.refunds (user_id);
create index idx_refunds_payment_intent_id on public.refunds (payment_intent_id);
-- One refund per booking that counts; one that failed or was refused may be followed by another.
create unique index refunds_one_per_booking on public.refunds (booking_id)
	where status in ('pending', 'succeeded');

do $$
declare
	t text;
begin
	foreach t in array array['traveler_profiles', 'bookings', 'payments', 'refunds'] loop
		execute format('alter table public.%I enable row level security', t);
		execute format('alter table public.%I force row level security', t);
		execute format('create policy %I on public.%I for all using (public.wallet_may_see(user_id)) '
			'with check (public.wallet_may_see(user_id))', t || '_owner', t);
		execute format('revoke all on public.%I from public', t);
	end loop;
end $$;

-- What workflows may do: read, keep the refund's row, and mark what became of
-- payment and booking. They delete nothing and change no amount.
grant usage on schema public to holdpoint_workflow;
grant select on public.traveler_profiles, public.bookings, public.payments, public.refunds
	to holdpoint_workflow;
grant insert on public.refunds to holdpoint_workflow;
grant update (status, stripe_refund_id, failure_reason, updated_at, settled_at)
	on public.refunds to holdpoint_workflow;
grant update (status, updated_at) on public.payments, public.bookings to holdpoint_workflow;
