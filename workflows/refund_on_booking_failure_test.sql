-- refund_on_booking_failure_test.sql: what the tests beside it find in the wallet
-- (`holdpoint test --real`): one traveller, one booking, one payment. New refunds get the
-- id that the tests know.
insert into public.traveler_profiles (user_id, first_name, last_name, email)
values ('00000000-0000-4000-8000-0000000000c1', 'Ada', 'Traveller', 'ada@example.com');
insert into public.bookings (id, user_id, reference)
values ('ord_1', '00000000-0000-4000-8000-0000000000c1', 'RZPNX8');
insert into public.payments (id, booking_id, user_id, stripe_payment_intent_id, amount, currency, status)
values ('00000000-0000-4000-8000-0000000000a1', 'ord_1', '00000000-0000-4000-8000-0000000000c1', 'pi_1', 50000, 'usd',
	'succeeded');
alter table public.refunds alter column id set default '00000000-0000-4000-8000-0000000000b1';
