-- demo_seen.sql: each line says of one step of the demonstration whether it left
-- its mark, "t|what" or "f|what". Variables: run, and the states that the simulated
-- providers report of themselves (stripe, resend), and what Stripe's API lists
-- (refunds), all JSON.
with s as (
	select :'stripe'::jsonb as stripe, :'resend'::jsonb as resend
), refunds as (
	select value as r from jsonb_array_elements(:'refunds'::jsonb -> 'data')
), mails as (
	select value as m from s, jsonb_each(s.resend -> 'db' -> 'mails')
), posts as (
	select value as p from s, jsonb_array_elements(s.stripe -> 'requests')
	where value ->> 'method' = 'POST' and value ->> 'path' = '/v1/refunds'
), h as (
	select * from holdpoint.history where run_id = :run
)
select (select count(*) = 1 from holdpoint.inbox where source = 'duffel'), 'Duffel''s webhook is stored once'
union all
select (select count(*) = 1 from holdpoint.run where id = :run and requester = 'webhook:duffel'), 'it started the run'
union all
select (select count(*) = 1 from holdpoint.approval where run_id = :run and status = 'approved' and decided_by = 'bob'
	and request_sha256 = sha256(request)), 'Bob signed the stored request, and its hash is that of its bytes'
union all
select (select bool_and(r ->> 'amount' = '50000' and r ->> 'status' = 'succeeded') and count(*) = 1 from refunds),
	'Stripe made exactly one refund, of 50000, and it succeeded'
union all
select (select count(distinct p ->> 'key') = 1 from posts), 'every request for it carried one idempotency key'
union all
select (select min(x.at) from h x where x.flags & 1 = 1) > (select decided_at from holdpoint.approval where run_id = :run),
	'nothing was admitted before the approval'
union all
select (select count(*) >= 1 from holdpoint.inbox where source = 'stripe'
	and convert_from(body, 'UTF8')::jsonb ->> 'type' = 'refund.updated'), 'Stripe''s signed webhook reported the final status'
union all
select (select count(*) = 1 from public.refunds where run_id = :run and status = 'succeeded' and amount = 50000
	and stripe_refund_id = (select r ->> 'id' from refunds limit 1)), 'the wallet has the refund as succeeded, with Stripe''s id'
union all
select (select count(*) = 1 from public.payments where booking_id = 'ord_0000HoldpointDemo1' and status = 'refunded'),
	'the wallet has the payment as refunded'
union all
select (select count(*) = 1 and bool_and(m -> 'to' = '["ada@example.com"]') from mails), 'the traveller was written to once'
union all
select (select count(*) = max(rev) - (select epoch from holdpoint.run_state where run_id = :run) + 1 from h where seq = 0),
	'history has every write of the run, without a gap'
union all
select (select status = 4 from holdpoint.run_state where run_id = :run), 'the run succeeded';
