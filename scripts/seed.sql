-- seed.sql: bookings that the airline is going to refuse.
--
--   psql -v ON_ERROR_STOP=1 [-v n=2] -f scripts/seed.sql
--
-- A traveller, booking number n (1 if not said, at most 255), and its payment of
-- 50000 minor units with the payment intent pi_3HoldpointDemo<n>. May be run again:
-- what is there stays as it is. Run as an owner of the tables.
\if :{?n}
\else
	\set n 1
\endif
begin;
select set_config('holdpoint.as', 'service', true) as seeding_as \gset

insert into public.traveler_profiles (user_id, first_name, last_name, email, profile_completeness_score)
values ('6c1b7f9e-2f0a-4d53-9a53-0d6a8e9f4b11', 'Ada', 'Traveller', 'ada@example.com', 80)
on conflict do nothing;

insert into public.bookings (id, user_id, reference)
values ('ord_0000HoldpointDemo' || :'n', '6c1b7f9e-2f0a-4d53-9a53-0d6a8e9f4b11', 'RZPNX' || (7 + :n))
on conflict do nothing;

insert into public.payments (id, booking_id, user_id, stripe_payment_intent_id, amount, currency, status)
values (('0f4c2c0e-7d0f-4f6e-8a55-3c1f4f0d6f' || lpad(to_hex(:n), 2, '0'))::uuid, 'ord_0000HoldpointDemo' || :'n',
	'6c1b7f9e-2f0a-4d53-9a53-0d6a8e9f4b11', 'pi_3HoldpointDemo' || :'n', 50000, 'usd', 'succeeded')
on conflict do nothing;
commit;
