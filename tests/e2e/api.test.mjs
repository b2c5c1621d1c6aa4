// The HTTP doors of a real engine: who may, what is refused and with which words,
// what a webhook is told, and that an answer is given only for what is stored.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { BOOKING, startEngine, waitFor } from './lib/engine.mjs'

let engine
before(async () => {
  engine = await startEngine()
  await engine.wallet()
})
after(() => engine?.stop())

const event = (id, booking) =>
  ({ id, type: 'order.creation_failed', live_mode: false, data: { object: { id: booking } } })
const start = (body, o) => engine.api('POST', '/api/v1/runs', body, o)
const unknown = (n) => ({ workflow: 'refund_on_booking_failure', input: { data: { booking_id: `nobody-${n}` } } })

/** status and error of an answer that must be an error */
function refused(r, status, code, words) {
  assert.equal(r.status, status, JSON.stringify(r.body))
  assert.equal(r.body.error?.code, code)
  assert.match(r.body.error.message + ' ' + (r.body.error.hint ?? ''), words)
}

/** the status for a body that is only announced: it is refused before it is sent */
const announce = (path, length) => new Promise((done, fail) => {
  const rq = request(engine.url + path, { method: 'POST', headers: { 'content-length': length }, timeout: 10000 })
  rq.on('response', (rs) => { done(rs.statusCode); rq.destroy() })
  rq.on('timeout', () => rq.destroy(new Error('no answer')))
  rq.on('error', fail)
  rq.flushHeaders()
})

test('alive and ready need no token, and say nothing more', async () => {
  for (const [path, text] of [['/livez', 'alive\n'], ['/readyz', 'ready\n']]) {
    const r = await engine.api('GET', path, undefined, { token: null })
    assert.equal(r.status, 200)
    assert.equal(r.body, text)
  }
})

test('unknown routes, methods and parameters name the right ones', async () => {
  refused(await engine.api('GET', '/api/v1/run'), 404, 'not_found', /Did you mean \/api\/v1\/runs\?/)
  const r = await engine.api('PUT', '/api/v1/runs')
  refused(r, 405, 'invalid', /PUT is not possible.*GET, POST/)
  assert.equal(r.headers.get('allow'), 'GET, POST')
  refused(await engine.api('GET', '/api/v1/runs?lmit=3'), 400, 'invalid', /"lmit".*"limit"/)
  refused(await engine.api('GET', '/api/v1/runs?limit=x'), 400, 'invalid', /whole number/)
  refused(await engine.api('GET', '/api/v1/runs?limit=1&limit=2'), 400, 'invalid', /twice/)
  refused(await engine.api('GET', '/api/v1/runs?status=hled'), 400, 'invalid', /held/)
  refused(await engine.api('GET', '/api/v1/runs/1x'), 404, 'not_found', /nothing at/)
  refused(await engine.api('GET', '/api/v1/runs/987654'), 404, 'not_found', /no run 987654/)
})

test('a body is a JSON object of known fields', async () => {
  const post = (body, headers) => engine.api('POST', '/api/v1/runs', body, { headers })
  refused(await post('{}', { 'content-type': 'text/plain' }), 400, 'invalid', /must be JSON.*Content-Type/)
  refused(await post('[]'), 400, 'invalid', /JSON object/)
  refused(await post('{"a":}'), 400, 'invalid', /line 1, column/)
  refused(await post({ workflow: 7 }), 400, 'invalid', /"workflow" must be a string/)
  refused(await post({ input: {} }), 400, 'invalid', /"workflow" is missing/)
  refused(await post({ workflow: 'x', imput: {} }), 400, 'invalid', /"imput".*"input"/)
  refused(await post({ workflow: 'refund_on_booking_failur' }), 404, 'not_found', /Did you mean/)
  refused(await post({ workflow: 'refund_on_booking_failure', input: { data: { booking_id: 5 } } }), 400, 'invalid',
    /input\.data\.booking_id must be/)
})

test('a token opens what its scopes say, and agents never approve', async () => {
  refused(await engine.api('GET', '/api/v1/runs', undefined, { token: null }), 401, 'unauthorized', /no token/)
  const r = await engine.api('GET', '/api/v1/runs', undefined, { token: 'hp_nobody' })
  refused(r, 401, 'unauthorized', /not known/)
  assert.equal(r.headers.get('www-authenticate'), 'Bearer')
  const reader = await engine.tokenFor('reader', { scopes: ['read'] })
  assert.equal((await engine.api('GET', '/api/v1/runs', undefined, { token: reader })).status, 200)
  const orders = [['/runs', unknown(0)], ['/runs/1/cancel', { reason: 'r' }], ['/runs/1/retry', { reason: 'r' }],
    ['/runs/1/skip', { reason: 'r' }], ['/runs/1/give-up', { reason: 'r' }], ['/runs/1/undo', { reason: 'r' }], ['/runs/1/pause', { reason: 'r' }],
    ['/runs/1/resume', {}], ['/runs/1/restart', { state: 's', reason: 'r' }], ['/runs/1/move', { to: 'current', reason: 'r' }],
    ['/gc', {}], ['/bulk', { action: 'cancel', workflow: 'w', reason: 'r' }], ['/workflows/x/pause', { reason: 'r' }], ['/workflows/x/resume', {}], ['/approvals/1/approve', { reason: 'r' }],
    ['/approvals/1/reject', { reason: 'r' }], ['/events', { name: 'a', key: 'b', payload: {} }],
    ['/tokens', { principal: 'me', kind: 'person', scopes: ['admin'] }], ['/tokens/1/revoke', {}], ['/workflows', { bundle: {} }]]
  for (const [path, body] of orders)
    refused(await engine.api('POST', '/api/v1' + path, body, { token: reader }), 403, 'forbidden', /does not have the scope/)
  const bot = await engine.tokenFor('bot', { kind: 'agent', scopes: ['read', 'start', 'approve'] })
  refused(await engine.api('POST', '/api/v1/approvals/1/approve', { reason: 'r' }, { token: bot }), 403, 'forbidden',
    /never approve/)
  refused(await engine.api('POST', '/api/v1/tokens', { principal: 'x', kind: 'person', scopes: ['aprove'] }), 400,
    'invalid', /"approve"/)
})

test('tokens: listed without what they read like, and dead at once where they were revoked', async () => {
  const made = await engine.api('POST', '/api/v1/tokens', { principal: 'leaver', kind: 'service', scopes: ['read', 'start'], expires_in: 3600 })
  assert.equal(made.status, 200, JSON.stringify(made.body))
  const { id, token } = made.body
  const asLeaver = () => engine.api('GET', '/api/v1/runs', undefined, { token })
  const revoke = (n, body = {}, o) => engine.api('POST', `/api/v1/tokens/${n}/revoke`, body, o)
  const row = async () => {
    const r = await engine.api('GET', '/api/v1/tokens?limit=500')
    assert.equal(r.status, 200, JSON.stringify(r.body))
    const text = JSON.stringify(r.body)
    assert.doesNotMatch(text, /sha256|hash|[0-9a-f]{64}/)
    assert.ok(!text.includes(token))
    return r.body.tokens.find((t) => t.id === id)
  }
  const time = /^\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z$/
  const live = await row()
  assert.deepEqual({ ...live, created_at: 0, expires_at: 0 }, { id, principal: 'leaver', kind: 'service', scopes: ['read', 'start'],
    created_at: 0, created_by: 'admin', expires_at: 0 })
  assert.match(live.created_at, time)
  assert.equal(Date.parse(live.expires_at) - Date.parse(live.created_at), 3600e3)

  const reader = await engine.tokenFor('reader', { scopes: ['read', 'start', 'operate', 'approve'] })
  refused(await engine.api('GET', '/api/v1/tokens', undefined, { token: reader }), 403, 'forbidden', /scope "admin"/)
  refused(await revoke(id, {}, { token: reader }), 403, 'forbidden', /scope "admin"/)
  refused(await revoke(987654), 404, 'not_found', /no token 987654.*token list/)
  refused(await revoke('x'), 404, 'not_found', /nothing at/)
  refused(await revoke(id, { reason: 7 }), 400, 'invalid', /"reason" must be a string/)
  refused(await revoke(id, { reason: 'x'.repeat(2001) }), 413, 'too_large', /reason/)

  assert.equal((await asLeaver()).status, 200) // not revoked by any of these; and the worker remembers it now
  const first = await revoke(id, { reason: 'left the house' })
  assert.equal(first.status, 200, JSON.stringify(first.body))
  assert.deepEqual({ ...first.body, revoked_at: 0 }, { id, principal: 'leaver', already: false, revoked_at: 0, revoked_by: 'admin' })
  assert.match(first.body.revoked_at, time)
  refused(await asLeaver(), 401, 'unauthorized', /this token was revoked at \d{4}-.* UTC/)
  const boss = await engine.tokenFor('boss', { scopes: ['admin'] })
  const again = await revoke(id, { reason: 'another' }, { token: boss })
  assert.deepEqual([again.status, again.body], [200, { ...first.body, already: true }])
  assert.deepEqual(await row(), { ...live, revoked_at: first.body.revoked_at, revoked_by: 'admin', reason: 'left the house' })

  const said = (message) => engine.log.filter((l) => l.message === message && l.token_id === id)
  await waitFor('the log says who made and who revoked it', () => said('token was revoked already').length)
  const parts = (l) => [l.principal, l.kind, l.scopes, l.by]
  assert.deepEqual(said('token made').map(parts), [['leaver', 'service', 'read start', 'admin']])
  assert.deepEqual(said('token revoked').map(parts), [['leaver', undefined, undefined, 'admin']])
  assert.deepEqual(said('token was revoked already').map(parts), [['leaver', undefined, undefined, 'boss']])
  assert.ok(!JSON.stringify(engine.log).includes(token))
})

test('a token that has expired says so', async () => {
  const { body } = await engine.api('POST', '/api/v1/tokens', { principal: 'guest', kind: 'person', scopes: ['read'], expires_in: 3600 })
  await engine.sql(`update holdpoint.token set expires_at = holdpoint.now_us() - 1 where id = ${body.id}`)
  refused(await engine.api('GET', '/api/v1/runs', undefined, { token: body.token }), 401, 'unauthorized', /this token expired at/)
})

test('the list of tokens comes in pages, the newest first', async () => {
  for (let i = 0; i < 3; i++) await engine.tokenFor(`paged-${i}`, { scopes: ['read'] })
  const all = (await engine.api('GET', '/api/v1/tokens?limit=500')).body.tokens.map((t) => t.id)
  const seen = []
  for (let after = ''; ;) {
    const { body } = await engine.api('GET', `/api/v1/tokens?limit=2${after}`)
    assert.ok(body.tokens.length <= 2)
    seen.push(...body.tokens.map((t) => t.id))
    if (!body.next) break
    after = `&after=${body.next}`
  }
  assert.ok(all.length > 4)
  assert.deepEqual(seen, all)
  assert.deepEqual(all, [...all].sort((a, b) => b - a))
})

test('a start joins the run that has its key', async () => {
  const first = await start(unknown(1))
  assert.equal(first.status, 201)
  assert.equal(first.body.existed, false)
  const again = await start(unknown(1))
  assert.equal(again.status, 200)
  assert.deepEqual(again.body, { existed: true, run: first.body.run })
  const done = await engine.until(first.body.run, 'succeeded')
  assert.equal(done.run.key, 'nobody-1') // the definition's own key
  assert.equal(done.run.requester, 'admin')
})

test('lists come in pages that neither repeat nor leave out', async () => {
  const runs = []
  for (let i = 10; i < 15; i++) runs.push((await start(unknown(i))).body.run)
  const seen = []
  for (let after = ''; ;) {
    const r = await engine.api('GET', `/api/v1/runs?limit=2${after}`)
    assert.equal(r.status, 200)
    assert.ok(r.body.runs.length <= 2)
    seen.push(...r.body.runs.map((x) => x.run))
    if (!r.body.next) break
    after = `&after=${r.body.next}`
  }
  assert.deepEqual(seen, [...new Set(seen)].sort((a, b) => b - a))
  for (const run of runs) assert.ok(seen.includes(run))
})

test('a webhook is refused before anything is stored, with the reason', async () => {
  const count = async () => (await engine.sql('select count(*) from holdpoint.inbox'))[0][0]
  const before = await count()
  refused(await engine.api('POST', '/api/webhooks/nope', {}), 404, 'not_found', /no webhook source "nope"/)
  refused(await engine.api('POST', '/api/webhooks/duffel', {}), 401, 'unauthorized', /missing or wrong/)
  const e = event('wev_refused', 'nobody-w')
  refused(await engine.webhook('duffel', e, { secret: 'whsec_wrong' }), 401, 'unauthorized', /missing or wrong/)
  const old = Math.floor(Date.now() / 1000) - 3600
  refused(await engine.webhook('duffel', e, { at: old }), 401, 'unauthorized', /too old/)
  refused(await engine.webhook('duffel', '{"id":'), 400, 'invalid', /webhook body/)
  refused(await engine.webhook('duffel', '[1]'), 400, 'invalid', /object/)
  refused(await engine.webhook('duffel', { hello: 1 }), 422, 'script', /not a Duffel event/)
  assert.equal(await announce('/api/webhooks/duffel', 1100000), 413)
  assert.equal(await count(), before)
})

test('a good webhook is stored once, started once, and counted', async () => {
  const e = event('wev_once', 'nobody-once')
  const first = await engine.webhook('duffel', e)
  assert.equal(first.status, 200)
  assert.equal(first.body.runs.length, 1)
  for (let i = 0; i < 3; i++) {
    const again = await engine.webhook('duffel', e)
    assert.deepEqual([again.status, again.body], [200, { duplicate: true }])
  }
  const [[body]] = await engine.sql("select convert_from(body, 'UTF8') from holdpoint.inbox where event_id = 'wev_once'")
  assert.equal(body, JSON.stringify(e)) // the raw bytes
  const [[runs]] = await engine.sql("select count(*) from holdpoint.run where key = 'nobody-once'")
  assert.equal(runs, '1')
  const { body: metrics } = await engine.api('GET', '/metrics', undefined, { token: null })
  for (const [result, n] of [['accepted', '[1-9]'], ['duplicate', '3'], ['bad_signature', '[1-9]'], ['stale', '1']])
    assert.match(metrics, new RegExp(`holdpoint_webhook_events_total\\{source="duffel",result="${result}"\\} ${n}`))
  assert.doesNotMatch(metrics, /run="\d/)
  assert.doesNotMatch(JSON.stringify(engine.log), /nobody-once/) // logs have no bodies
})

test('a workflow that cannot take an event does not keep it from the others', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'holdpoint-misfit-'))
  const file = join(dir, 'picky.lua')
  try {
    writeFileSync(file, `return workflow "picky" {
      trigger = webhook { "duffel", events = { "order.creation_failed" } },
      key = "{input.data.object.seats}", input = { data = { object = { seats = integer } } },
      succeed "done" {},
    }`)
    const deployed = await engine.cli(['deploy', file])
    assert.equal(deployed.code, 0, deployed.stderr)
    const r = await waitFor('the new workflow is known', async () => {
      const answer = await engine.webhook('duffel', event(`wev_misfit_${Date.now()}`, `nobody-misfit-${Date.now()}`))
      assert.equal(answer.status, 200)
      return answer.body.misfits && answer
    })
    assert.deepEqual(r.body.misfits, ['picky'])
    assert.equal(r.body.runs.length, 1) // the refund's
    const { body: metrics } = await engine.api('GET', '/metrics', undefined, { token: null })
    assert.match(metrics, /holdpoint_webhook_misfits_total\{source="duffel"\} [1-9]/)
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('ten of the same at once: one is accepted', async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, () => engine.webhook('duffel', event('wev_race', 'nobody-r'))))
  assert.ok(answers.every((r) => r.status === 200))
  assert.equal(answers.filter((r) => r.body.runs).length, 1)
  assert.equal(answers.filter((r) => r.body.duplicate).length, 9)
})

test('an approval shows the request, wants a reason, takes one decision and sends it', async () => {
  const r = await engine.webhook('duffel', event('wev_refund', BOOKING))
  const run = r.body.runs[0]
  const doc = await engine.until(run, 'waiting')
  const id = doc.approvals[0].approval
  const shown = await engine.api('GET', `/api/v1/approvals/${id}`)
  assert.match(JSON.parse(shown.body.request).body, /amount=50000/)
  assert.match(shown.body.request_sha256, /^[0-9a-f]{64}$/)
  const why = await engine.api('GET', `/api/v1/runs/${run}/why`)
  assert.equal(why.status, 200, JSON.stringify(why.body))
  assert.match(why.body.sentence, /approv|decision/i)
  const alice = await engine.tokenFor('alice', { roles: ['payments'] })
  const outsider = await engine.tokenFor('outsider', { roles: ['kitchen'] })
  const decide = (word, body, token) => engine.api('POST', `/api/v1/approvals/${id}/${word}`, body, { token })
  refused(await decide('approve', {}, alice), 400, 'invalid', /"reason" is missing/)
  refused(await decide('approve', { reason: '  ' }, alice), 400, 'invalid', /reason/)
  refused(await decide('approve', { reason: 'r' }, outsider), 403, 'forbidden', /./)
  assert.equal((await decide('approve', { reason: 'checked' }, alice)).status, 200)
  refused(await decide('reject', { reason: 'no' }, alice), 409, 'conflict', /already decided by alice/)
  const end = await engine.until(run, 'succeeded', 30000)
  assert.equal(end.approvals[0].reason, 'checked')
  const refunds = await engine.fake('stripe', 'GET', '/v1/refunds?limit=10', undefined,
    { authorization: `Bearer ${engine.secret('STRIPE_SECRET_KEY')}` })
  assert.equal(refunds.body.data.length, 1)
  assert.equal(refunds.body.data[0].amount, 50000)
})

test('an order to a run that is not held is a conflict', async () => {
  const { body } = await start(unknown(30))
  await engine.until(body.run, 'succeeded')
  refused(await engine.api('POST', `/api/v1/runs/${body.run}/retry`, { reason: 'r' }), 409, 'conflict', /not held/)
  refused(await engine.api('POST', `/api/v1/runs/${body.run}/cancel`, { reason: 'r' }), 409, 'conflict', /./)
})

test('events are stored for those who will wait', async () => {
  const r = await engine.api('POST', '/api/v1/events', { name: 'payout.settled', key: 'po_1', payload: { a: 1 } })
  assert.equal(r.status, 200, JSON.stringify(r.body))
  const list = await engine.api('GET', '/api/v1/events?name=payout.settled&key=po_1')
  assert.equal(list.body.events[0].event, r.body.event)
  assert.deepEqual(list.body.events[0].payload, { a: 1 })
})

test('the database dies: 503 until it is back, then the event is stored once', async () => {
  const e = event('wev_away', 'nobody-away')
  engine.kill('postgres')
  const first = await engine.webhook('duffel', e)
  assert.ok([200, 503, 504].includes(first.status), JSON.stringify(first))
  assert.equal((await engine.api('GET', '/livez', undefined, { token: null })).status, 200)
  await waitFor('the webhook is accepted', async () => {
    const r = await engine.webhook('duffel', e)
    assert.ok([200, 503, 504].includes(r.status), JSON.stringify(r))
    return r.status === 200
  }, 60000)
  // (a process of the server may have outlived its postmaster for a moment, and answered)
  const [[runs]] = await waitFor('PostgreSQL is back', () => engine.sql("select count(*) from holdpoint.run where key = 'nobody-away'"), 60000)
  assert.equal(runs, '1')
})
