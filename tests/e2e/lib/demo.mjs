// demo.mjs: the story of the demo, once per booking, and what must be true of it
// afterwards. Used by the suites that disturb it.
//
//   const b = await newBooking(engine)     a paid booking of its own, known to wallet and Stripe
//   await refuse(engine, b)                the airline refuses it: Duffel's signed webhook is sent
//   await approve(engine, b, bob)          a second principal signs, as often as it takes to be told it is done
//   await ended(engine, b)                 until the run has ended
//   await exactlyOnce(engine, b)           one run, one refund, one key, one mail, one row, no gap in its history
import assert from 'node:assert/strict'
import { waitFor } from './engine.mjs'

const json = { 'content-type': 'application/json' }
let number = Date.now() % 1e9

export const emit = async (engine, name, what) => {
  const r = await engine.fake(name, 'POST', '/_fake/emit', JSON.stringify(what), json)
  assert.equal(r.status, 200, `${name} emits ${what.type}: ${JSON.stringify(r.body)}`)
  return r.body
}

export const fault = async (engine, name, what) => {
  const r = await engine.fake(name, 'POST', '/_fake/faults', JSON.stringify(what), json)
  assert.equal(r.status, 200, JSON.stringify(r.body))
}

/** A fresh engine's part of the story: the wallet, a quick Stripe, and bob who may sign. */
export async function prepare(engine) {
  await engine.wallet()
  await emit(engine, 'stripe', { type: 'outcome', status: 'succeeded', after: 0.05 })
  return engine.tokenFor('bob', { roles: ['payments'], scopes: ['read', 'approve', 'operate', 'start'] })
}

export async function newBooking(engine, amount = 50000) {
  const n = ++number
  const b = { n, booking: `ord_proof${n}`, intent: `pi_proof${n}`, reference: `REF${n}.`, amount }
  await engine.sql(`begin;
    select set_config('holdpoint.as', 'service', true) as seeding_as \\gset
    insert into public.bookings (id, user_id, reference)
      select '${b.booking}', user_id, '${b.reference}' from public.traveler_profiles limit 1;
    insert into public.payments (booking_id, user_id, stripe_payment_intent_id, amount, currency, status)
      select '${b.booking}', user_id, '${b.intent}', ${amount}, 'usd', 'succeeded' from public.traveler_profiles limit 1;
    commit;`)
  await emit(engine, 'stripe', { type: 'payment', id: b.intent, amount })
  return b
}

export const refuse = (engine, b, more) => emit(engine, 'duffel', { type: 'order.creation_failed', booking: b.booking, ...more })

/** The run of a booking, or undefined; throws while the engine cannot be asked. */
export async function runOf(engine, b) {
  const r = await engine.api('GET', `/api/v1/runs?key=${b.booking}`)
  assert.equal(r.status, 200, JSON.stringify(r.body))
  assert.ok(r.body.runs.length < 2, `two runs for ${b.booking}: ${JSON.stringify(r.body.runs)}`)
  return r.body.runs[0]
}

/** The open approval of a booking's run; undefined when the run ended without. */
async function approvalOf(engine, b) {
  const run = await runOf(engine, b)
  if (!run) return null
  const r = await engine.api('GET', `/api/v1/runs/${run.run}`)
  return r.body.approvals?.at(-1) ?? null
}

/** Asks until the answer says that it is decided: a lost answer is asked for again. */
export async function approve(engine, b, token, { ms = 30000, reason = 'seen' } = {}) {
  const a = await waitFor(`an approval for ${b.booking}`, () => approvalOf(engine, b), ms)
  return waitFor(`a decision about ${b.booking}`, async () => {
    const r = await engine.api('POST', `/api/v1/approvals/${a.approval}/approve`, { reason }, { token })
    if (r.status === 200 || (r.status === 409 && /already decided by bob/.test(r.body.error.message))) return r
    throw new Error(JSON.stringify(r.body))
  }, ms)
}

export const ended = (engine, b, status = 'succeeded', ms = 45000) =>
  waitFor(`the run of ${b.booking} ends`, async () => {
    const run = await runOf(engine, b)
    if (run && ['succeeded', 'failed', 'cancelled', 'held'].includes(run.status)) {
      if (run.status !== status) {
        const why = await engine.api('GET', `/api/v1/runs/${run.run}/why`)
        throw Object.assign(new Error(`it is ${run.status}: ${JSON.stringify(why.body)}`), { final: true })
      }
      return run
    }
    throw new Error(`it is ${run?.status} in ${run?.state}`)
  }, ms)

/** What "exactly once" means for this story. */
export async function exactlyOnce(engine, b) {
  const run = await ended(engine, b)
  const stripe = (await engine.fake('stripe', 'GET', '/_fake/state')).body
  const refunds = Object.values(stripe.db.refunds).filter((r) => r.payment_intent === b.intent)
  assert.equal(refunds.length, 1, `refunds at Stripe: ${JSON.stringify(refunds)}`)
  assert.equal(refunds[0].amount, b.amount)
  const keys = Object.entries(stripe.db.keys).filter(([, k]) => k.params.includes(`"${b.intent}"`)).map(([key]) => key)
  assert.equal(keys.length, 1, `keys used for one refund: ${keys}`)
  const keyless = stripe.requests.filter((q) => q.method === 'POST' && q.path === '/v1/refunds' && !q.key)
  assert.deepEqual(keyless, [], 'a refund was asked for without a key')
  const resend = (await engine.fake('resend', 'GET', '/_fake/state')).body
  const mails = Object.values(resend.db.mails).filter((m) => m.text.includes(b.reference))
  assert.equal(mails.length, 1, `mails: ${JSON.stringify(mails)}`)
  const rows = await engine.sql(`begin; select set_config('holdpoint.as', 'service', true) as asks \\gset
    select status, stripe_refund_id, run_id from public.refunds where booking_id = '${b.booking}';
    commit;`)
  assert.deepEqual(rows, [['succeeded', refunds[0].id, String(run.run)]], 'rows in the wallet')
  await oneChain(engine, run.run)
  const left = await engine.sql(`select (select count(*) from holdpoint.ready where run_id = ${run.run}) +
    (select count(*) from holdpoint.timer where run_id = ${run.run}) + (select count(*) from holdpoint.mail_wait where run_id = ${run.run})`)
  assert.deepEqual(left, [['0']], 'something of the ended run is still waiting')
  return run
}

/** Each row of the history begins where the one before it ended; epochs only grow; the
 * only revs without a row are those of claims and of giving back, at most two an epoch. */
async function oneChain(engine, run) {
  const rows = (await engine.sql(`select rev, coalesce(epoch, 0), coalesce(from_state, -1), coalesce(from_visit, -1), state, visit
    from holdpoint.history where run_id = ${run} and seq = 0 order by rev`)).map((r) => r.map(Number))
  const [[rev, epoch]] = (await engine.sql(`select rev, epoch from holdpoint.run_state where run_id = ${run}`)).map((r) => r.map(Number))
  const told = JSON.stringify(rows)
  assert.equal(rows[0][0], 0, `the history does not begin at rev 0: ${told}`)
  assert.equal(rows.at(-1)[0], rev, `the last row is not the state's rev ${rev}: ${told}`)
  for (let i = 1, seen = rows[0][1]; i < rows.length; i++) {
    const [r, e, fromState, fromVisit] = rows[i], [before, , , , state, visit] = rows[i - 1]
    assert.ok(r > before, `a rev was written twice: ${told}`)
    assert.ok(e === 0 || e >= seen, `an older epoch wrote after a newer one: ${told}`)
    if (fromState >= 0) assert.deepEqual([fromState, fromVisit], [state, visit], `a gap before rev ${r}: ${told}`)
    seen = Math.max(seen, e)
  }
  assert.ok(rev + 1 - rows.length <= 2 * epoch, `${rev + 1 - rows.length} revs without a row in ${epoch} epochs: ${told}`)
}
