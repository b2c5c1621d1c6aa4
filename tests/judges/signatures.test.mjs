// Signatures made by others, judged by our verifier: Stripe's official signer, and
// node's own crypto over the published vectors.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import Stripe from 'stripe';
import { root, verify } from './lib.mjs';

const stripe = new Stripe('sk_test_judges');
const secret = 'whsec_official_secret';
const now = 1752019200;
const sign = (payload, options = {}) => ({ 'stripe-signature':
  stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp: now, ...options }) });

test('what the official signer signs is good', () => {
  const payloads = ['{"id":"evt_1"}', '{ "id" : "evt_1" }\n', '{"text":"Zürich 😀 \u2028"}', '{}',
                    JSON.stringify({ blob: randomBytes(100_000).toString('base64') })];
  for (const payload of payloads) {
    assert.equal(verify('stripe', sign(payload), payload, now, secret), 'good');
    assert.equal(verify('stripe', sign(payload), payload + ' ', now, secret), 'bad');
    assert.equal(verify('stripe', sign(payload), payload, now, 'whsec_other'), 'bad');
    assert.equal(verify('stripe', sign(payload), payload, now, 'whsec_other', secret), 'good');
  }
});

test('other schemes and broken signatures of the official signer are bad', () => {
  const payload = '{"id":"evt_1"}';
  assert.equal(verify('stripe', sign(payload, { scheme: 'v0' }), payload, now, secret), 'bad');
  assert.equal(verify('stripe', sign(payload, { signature: 'f'.repeat(64) }), payload, now, secret), 'bad');
  assert.equal(verify('duffel', sign(payload), payload, now, secret), 'bad');
  assert.equal(verify('stripe', {}, payload, now, secret), 'bad');
});

test('the tolerance holds both ways, where the official one holds only for the past', () => {
  const payload = '{"id":"evt_1"}', header = sign(payload);
  for (const [skew, want] of [[0, 'good'], [300, 'good'], [301, 'stale'], [-300, 'good'], [-301, 'stale']]) {
    assert.equal(verify('stripe', header, payload, now + skew, secret), want, `${skew} s`);
  }
  const future = sign(payload, { timestamp: now + 3600 });
  assert.ok(stripe.webhooks.constructEvent(payload, future['stripe-signature'], secret, 300, undefined, now * 1000));
  assert.equal(verify('stripe', future, payload, now, secret), 'stale');
});

test('the published vectors hold in node too', () => {
  const vectors = JSON.parse(readFileSync(path.join(root, 'tests/vectors/webhook_signatures.json'), 'utf8'));
  for (const v of vectors.hmac_sha256) assert.equal(createHmac('sha256', v.key).update(v.body).digest('hex'), v.hex);
  for (const v of vectors.signatures) {
    const standard = v.scheme === 'standard';
    const key = standard ? Buffer.from(v.secret.slice('whsec_'.length), 'base64') : v.secret;
    const code = createHmac('sha256', key).update(`${standard ? v.id + '.' : ''}${v.time}.${v.body}`)
      .digest(standard ? 'base64' : 'hex');
    assert.ok(Object.values(v.headers).some((h) => h.includes(code)), v.name);
    assert.equal(verify(v.scheme, v.headers, v.body, v.time, v.secret), 'good', v.name);
  }
  const stripeOwn = vectors.signatures.find((v) => v.scheme === 'stripe');
  assert.equal(stripe.webhooks.generateTestHeaderString(
    { payload: stripeOwn.body, secret: stripeOwn.secret, timestamp: stripeOwn.time }), stripeOwn.headers['stripe-signature']);
});
