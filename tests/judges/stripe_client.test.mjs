// The official Stripe client takes our simulated Stripe for the real one: it reads
// its objects, raises its own error classes, repeats under its own keys and accepts
// its signatures.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import Stripe from 'stripe';
import { client, startFake, startReceiver, webhookSecret } from './lib.mjs';

const paid = 'pi_3HoldpointDemo1'; // 50000 minor units
const limit = { timeout: 60_000 };
let fake, receiver, stripe;

// Each test has a Stripe of its own: no event of another one can arrive late.
beforeEach(async () => {
  receiver = await startReceiver();
  fake = await startFake('stripe', ['--deliver', receiver.url, '--log', 'warn']);
  stripe = client(fake.port);
}, limit);
afterEach(async () => { await fake?.stop(); await receiver?.stop(); fake = receiver = undefined; }, limit);

const requests = async (path) => (await fake.state()).requests.filter((r) => r.path === path && r.method === 'POST');
const made = async () => Object.values((await fake.state()).db.refunds);

test('a refund is created, retrieved and listed', limit, async () => {
  const refund = await stripe.refunds.create({
    payment_intent: paid, amount: 50000, reason: 'requested_by_customer', metadata: { booking_id: 'ord_1' } });
  assert.match(refund.id, /^re_\w+$/);
  assert.equal(refund.object, 'refund');
  assert.equal(refund.status, 'pending');
  assert.equal(refund.amount, 50000);
  assert.equal(refund.currency, 'usd');
  assert.equal(refund.payment_intent, paid);
  assert.deepEqual(refund.metadata, { booking_id: 'ord_1' });
  assert.equal((await stripe.refunds.retrieve(refund.id)).id, refund.id);
  const list = await stripe.refunds.list({ payment_intent: paid });
  assert.deepEqual(list.data.map((r) => r.id), [refund.id]);
  assert.equal(list.has_more, false);
});

test('the client pages through a list by itself', limit, async () => {
  for (let i = 0; i < 5; i++) await stripe.refunds.create({ payment_intent: paid, amount: 100 });
  const seen = [];
  for await (const refund of stripe.refunds.list({ payment_intent: paid, limit: 2 })) seen.push(refund.id);
  assert.equal(new Set(seen).size, 5);
});

test('a paid payment intent can be made and refunded', limit, async () => {
  const intent = await stripe.paymentIntents.create({ amount: 1234, currency: 'EUR' });
  assert.equal(intent.status, 'succeeded');
  const refund = await stripe.refunds.create({ payment_intent: intent.id });
  assert.equal(refund.amount, 1234);
  assert.equal(refund.currency, 'eur');
  assert.equal((await stripe.paymentIntents.retrieve(intent.id)).amount, 1234);
});

test('the same key gives the same reply', limit, async () => {
  const params = { payment_intent: paid, amount: 50000 }, options = { idempotencyKey: 'refund:1' };
  const first = await stripe.refunds.create(params, options);
  const again = await stripe.refunds.create(params, options);
  assert.equal(again.id, first.id);
  assert.equal(first.lastResponse.headers['idempotent-replayed'], undefined);
  assert.equal(again.lastResponse.headers['idempotent-replayed'], 'true');
  assert.equal(again.lastResponse.headers['original-request'], first.lastResponse.requestId);
  assert.equal((await made()).length, 1);
});

test('the same key with other parameters is an idempotency error', limit, async () => {
  await stripe.refunds.create({ payment_intent: paid, amount: 100 }, { idempotencyKey: 'refund:1' });
  await assert.rejects(stripe.refunds.create({ payment_intent: paid, amount: 200 }, { idempotencyKey: 'refund:1' }),
    (e) => e instanceof Stripe.errors.StripeIdempotencyError && e.statusCode === 400);
  assert.equal((await made()).length, 1);
});

test('errors are of the classes the client knows', limit, async () => {
  const E = Stripe.errors;
  await stripe.refunds.create({ payment_intent: paid });
  await assert.rejects(stripe.refunds.create({ payment_intent: paid }),
    (e) => e instanceof E.StripeInvalidRequestError && e.code === 'charge_already_refunded' && !!e.requestId);
  await assert.rejects(stripe.refunds.create({ payment_intent: 'pi_none' }),
    (e) => e instanceof E.StripeInvalidRequestError && e.statusCode === 404 && e.code === 'resource_missing' &&
           e.param === 'payment_intent');
  await assert.rejects(stripe.refunds.create({}), (e) => e.code === 'parameter_missing');
  await assert.rejects(stripe.refunds.create({ payment_intent: paid, nonsense: 1 }),
    (e) => e.code === 'parameter_unknown' && e.param === 'nonsense');
  await assert.rejects(stripe.refunds.retrieve('re_none'), (e) => e.statusCode === 404);
  await assert.rejects(client(fake.port, { key: 'pk_test_public' }).refunds.create({ payment_intent: paid }),
    E.StripeAuthenticationError);
  const refuse = (status, error) => fake.fault({ match: 'POST /v1/refunds', kind: 'status', status, body: { error } });
  await refuse(429, { type: 'rate_limit_error', code: 'rate_limit', message: 'm' });
  await assert.rejects(stripe.refunds.create({ payment_intent: paid }), E.StripeRateLimitError);
  await refuse(402, { type: 'card_error', code: 'card_declined', message: 'm' });
  await assert.rejects(stripe.refunds.create({ payment_intent: paid }), E.StripeCardError);
  await refuse(403, { type: 'invalid_request_error', message: 'm' });
  await assert.rejects(stripe.refunds.create({ payment_intent: paid }), E.StripePermissionError);
  await refuse(500, { type: 'api_error', message: 'm' });
  await assert.rejects(stripe.refunds.create({ payment_intent: paid }), E.StripeAPIError);
});

test('a reply that is lost is repeated by the client, and refunds once', limit, async () => {
  await fake.fault({ match: 'POST /v1/refunds', kind: 'reset_after' });
  const refund = await client(fake.port, { retries: 2 }).refunds.create({ payment_intent: paid, amount: 50000 });
  const posts = await requests('/v1/refunds');
  assert.equal(posts.length, 2);
  assert.equal(posts[0].key, posts[1].key);
  assert.ok(posts[0].key);
  assert.deepEqual((await made()).map((r) => r.id), [refund.id]);
});

test('a stored 500 stays: the client is told not to repeat it', limit, async () => {
  await fake.emit({ type: 'break', times: 1, after_effect: true });
  const patient = client(fake.port, { retries: 3 });
  const ask = () => patient.refunds.create({ payment_intent: paid, amount: 50000 }, { idempotencyKey: 'refund:1' });
  await assert.rejects(ask(), (e) => e instanceof Stripe.errors.StripeAPIError && e.statusCode === 500);
  assert.equal((await requests('/v1/refunds')).length, 1);
  await assert.rejects(ask(), (e) => e.statusCode === 500 && e.headers['idempotent-replayed'] === 'true');
  assert.equal((await requests('/v1/refunds')).length, 2);
  assert.equal((await made()).length, 1);
});

test('a key still in work is repeated by the client until it is done', limit, async () => {
  await fake.emit({ type: 'work', seconds: 1 });
  const options = { idempotencyKey: 'refund:1' }, params = { payment_intent: paid, amount: 50000 };
  const [a, b] = await Promise.all([1, 2].map(() => client(fake.port, { retries: 10 }).refunds.create(params, options)));
  assert.equal(a.id, b.id);
  assert.equal((await made()).length, 1);
  assert.ok((await requests('/v1/refunds')).some((r) => r.status === 409));
});

test('the client accepts our signatures, and the events tell the whole story', limit, async () => {
  const refund = await stripe.refunds.create({ payment_intent: paid, amount: 50000 });
  await receiver.until((got) => got.length >= 4);
  const events = receiver.got.map(({ url, headers, body }) => {
    assert.equal(url, '/api/webhooks/stripe');
    assert.throws(() => stripe.webhooks.constructEvent(body, headers['stripe-signature'], 'whsec_other'),
      Stripe.errors.StripeSignatureVerificationError);
    return stripe.webhooks.constructEvent(body, headers['stripe-signature'], webhookSecret);
  });
  assert.deepEqual(events.map((e) => e.type).sort(),
    ['charge.refund.updated', 'charge.refunded', 'refund.created', 'refund.updated']);
  assert.equal(new Set(events.map((e) => e.id)).size, 4);
  const updated = events.find((e) => e.type === 'refund.updated').data.object;
  assert.equal(updated.id, refund.id);
  assert.equal(updated.status, 'succeeded');
  assert.equal((await stripe.refunds.retrieve(refund.id)).status, 'succeeded');
});
