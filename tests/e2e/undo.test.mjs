// Unwinding on a real engine, against a travel agency that remembers everything: the
// worker is killed at every kind of place on the way back, and each booking is cancelled
// once, in reverse. Then: a cancel undoes, an undo that fails is held until an operator
// has done it by hand, and a run that was moved undoes by the version it ran under.
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const TRIP = join(ROOT, 'tests/fixtures/trip')
const agency = { deeds: [], keys: new Map(), full: true, refuses: '', closed: false }
let engine, server, folder, number = 0

/** What the agency does is done before it answers; a key it knows gets the answer it had. */
function act(method, path, body, key) {
  const [, what, id] = path.split('/')
  if (method === 'GET') return [200, { cancelled: agency.deeds.filter((d) => d.startsWith('cancel h')).map((d) => d.slice(7)) }]
  if (key && agency.keys.has(key)) return agency.keys.get(key)
  let answer
  if (what === 'hotels') {
    const hotel = `h${body.trip}n${body.night}`
    agency.deeds.push(`book ${hotel}`)
    answer = [200, { id: hotel }]
  } else if (what === 'flights' && method === 'POST') {
    if (agency.full || agency.closed) return [agency.closed ? 404 : 409, {}]
    agency.deeds.push(`book f${body.trip}`)
    answer = [200, { id: `f${body.trip}` }]
  } else if (what === 'flights' || what === 'cancellations') {
    const booked = id ?? body.hotel
    if (agency.refuses === booked) return [404, {}]
    agency.deeds.push(`cancel ${booked}`)
    answer = [200, {}]
  } else { // mails
    agency.deeds.push(`mail ${body.to}`)
    answer = [200, {}]
  }
  if (key) agency.keys.set(key, answer)
  return answer
}

before(async () => {
  server = createServer((rq, rs) => {
    let text = ''
    rq.on('data', (d) => { text += d })
    rq.on('end', () => {
      const [status, json] = act(rq.method, rq.url.split('?')[0], text ? JSON.parse(text) : {}, rq.headers['idempotency-key'])
      rs.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(json))
    })
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-undo.'))
  engine = await startEngine({ simulated: 'duffel', lease: '1s', env: { TRAVEL_KEY: 'travel_test' },
    args: ['--plugins', join(TRIP, 'plugins'), '--base-url', `travel=http://127.0.0.1:${server.address().port}`, '--poll', '200ms'] })
  await engine.sql(`create table public.seats (trip text primary key, free int not null);
    grant select, update on public.seats to holdpoint_workflow;`)
  await deploy(readFileSync(join(TRIP, 'trip.lua'), 'utf8'))
})
after(async () => {
  await engine?.stop()
  server?.close()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

async function deploy(source) {
  const path = join(folder, 'trip.lua')
  writeFileSync(path, source)
  const r = await engine.cli(['deploy', path, '--plugins', join(TRIP, 'plugins')])
  assert.equal(r.code, 0, r.stdout + r.stderr)
}
const post = async (path, body) => {
  const r = await engine.api('POST', `/api/v1${path}`, body)
  assert.ok(r.status === 200 || r.status === 201, JSON.stringify(r.body))
  return r.body
}
const get = async (run, what = '') => (await engine.api('GET', `/api/v1/runs/${run}${what}`)).body
const free = async (trip) => Number((await engine.sql(`select free from public.seats where trip = '${trip}'`))[0][0])
const deedsOf = (trip) => agency.deeds.filter((d) => d.includes(trip))

async function book(nights) {
  const trip = `t${++number}x`
  await engine.sql(`insert into public.seats values ('${trip}', 10)`)
  const { run } = await waitFor('a start', () => post('/runs', { workflow: 'trip', input: { trip, nights } }), 20000)
  return { trip, run }
}

/** Held at the end for the mail alone; a person says that they have seen it. */
async function ended({ run, trip }, status, undone) {
  const doc = await engine.until(run, ['held', 'failed', 'cancelled'], 30000)
  const why = await get(run, '/why')
  assert.equal(doc.run.code, 'left_undone', JSON.stringify(why))
  assert.match(why.sentence, new RegExp(`the mail to ${trip}@example.com cannot be taken back.*It is being unwound: ${undone} of ${undone + 1} undone\\.`))
  await post(`/runs/${run}/skip`, { reason: 'told the traveller' })
  const end = await engine.until(run, status)
  assert.equal(await free(trip), 10)
  return end
}

// Of one trip of two nights whose flight is sold out. Requests: two hotels, a mail, the
// flight; back: two cancellations. Replies are those of the two statements, too.
const places = ['effect_before:5', 'effect_sent:5', 'effect_sent:6', 'effect_replied:7', 'park_acked:1', 'park_acked:2',
  'claim_acked:3', 'sql_before:2', 'sql_ran:2', 'sql_committed:2']

for (const place of places)
  test(`a worker that dies at ${place} on the way back undoes nothing twice and forgets nothing`, async () => {
    engine.kill('supervisor', 'SIGTERM')
    await engine.ended
    engine.log.length = 0
    await engine.start({ env: { HP_CRASH: place } })
    const t = await book(2)
    await ended(t, 'failed', 3)
    await engine.killed(place)
    assert.deepEqual(deedsOf(t.trip), [`book h${t.trip}n1`, `book h${t.trip}n2`, `mail ${t.trip}@example.com`,
      `cancel h${t.trip}n2`, `cancel h${t.trip}n1`])
    const { undo } = await get(t.run)
    assert.deepEqual(undo.log.map((e) => [e.state, e.status]),
      [['reserve', 'done'], ['book_hotel', 'done'], ['book_hotel', 'done'], ['tell', 'impossible']])
  })

test('an undo that fails is held, and goes on when a person has done it by hand', async () => {
  const t = await book(2)
  agency.refuses = `h${t.trip}n1`
  const doc = await engine.until(t.run, 'held', 20000)
  assert.equal(doc.run.state, 'book_hotel.undo')
  assert.equal(doc.run.code, 'unknown')
  const why = await engine.cli(['why', String(t.run)])
  assert.match(why.stdout, /not undone: book_hotel \(visit 2, key hp_[0-9a-f]{40}\).*retry, skip what was undone by hand, or give up\. It is being unwound: 1 of 4 undone, next book_hotel\./)
  const no = await engine.api('POST', `/api/v1/runs/${t.run}/cancel`, { reason: 'stop' })
  assert.equal(no.status, 409)
  const shown = await engine.cli(['show', String(t.run)])
  assert.match(shown.stdout, /undo \(it goes back, and ends as failed\)\n {2}1 {2}open {8}reserve \(visit 1\)\n {2}2 {2}open {8}book_hotel \(visit 2\) {2}travel\.hotels\.cancel/)
  const skipped = await engine.cli(['skip', String(t.run), '--reason', 'cancelled by telephone'])
  assert.equal(skipped.code, 0, skipped.stderr)
  await waitFor('it goes on', async () => (await get(t.run)).run.code === 'left_undone')
  const end = await ended(t, 'failed', 3)
  assert.equal(end.run.state, 'no_trip')
  assert.equal(end.run.result.message, `trip ${t.trip} is not to be had`)
  agency.refuses = ''
})

test('a cancel undoes; the key stays with the mail; metrics count', async () => {
  agency.full = false
  const t = await book(1)
  await waitFor('it waits for the money', async () => (await get(t.run)).run.state === 'paid', 20000)
  await post(`/runs/${t.run}/cancel`, { reason: 'the traveller is ill' })
  await ended(t, 'cancelled', 3)
  assert.deepEqual(deedsOf(t.trip).slice(-2), [`cancel f${t.trip}`, `cancel h${t.trip}n1`])
  const again = await post('/runs', { workflow: 'trip', input: { trip: t.trip, nights: 1 } })
  assert.deepEqual([again.existed, again.run], [true, t.run])
  const metrics = (await engine.api('GET', '/metrics', undefined, { token: null })).body
  assert.match(metrics, /^holdpoint_unwindings_total [1-9]/m)
  assert.match(metrics, /^holdpoint_effects_undone_total [1-9]/m)
})

test('an operator undoes a held run', async () => {
  agency.closed = true
  const t = await book(1)
  const doc = await engine.until(t.run, 'held', 20000)
  assert.equal(doc.run.state, 'book_flight')
  assert.match((await get(t.run, '/why')).sentence, /An operator can retry, skip, undo or give up\./)
  const word = await engine.cli(['undo', String(t.run), '--reason', 'not wanted', '--happened', 'maybe'])
  assert.match(word.stderr, /--happened is yes or no, not "maybe"/)
  const certain = await engine.cli(['undo', String(t.run), '--reason', 'not wanted', '--happened', 'yes'])
  assert.match(certain.stderr, /nothing is in doubt in run/)
  const done = await engine.cli(['undo', String(t.run), '--reason', 'not wanted'])
  assert.equal(done.code, 0, done.stderr)
  assert.match(done.stdout, /will undo what it did/)
  await waitFor('it went back', async () => (await get(t.run)).run.code === 'left_undone')
  const end = await ended(t, 'failed', 2)
  assert.equal(end.run.code, 'unknown') // what it was held for
  agency.closed = false
})

test('a run that was moved undoes each effect by the version it ran under', async () => {
  const source = readFileSync(join(TRIP, 'trip.lua'), 'utf8')
  agency.full = false
  const t = await book(2)
  await waitFor('it waits for the money', async () => (await get(t.run)).run.state === 'paid', 20000)
  const old = (await get(t.run)).run.digest
  // the new version knows no undo of hotels, has one state more before them, and so other indexes
  const changed = source.replace(/ {4}undo = \{\n {6}travel\.hotels\.cancel[\s\S]*?\n {4}\},\n/, '')
    .replace('  sql "reserve" {', '  wait "a_moment" { for_ = "1ms" },\n  sql "reserve" {')
  assert.ok(!changed.includes('hotels.cancel'))
  await deploy(changed)
  await post(`/runs/${t.run}/pause`, { reason: 'another version' })
  await waitFor('it is paused', async () => (await get(t.run, '/why')).cause === 'paused')
  await post(`/runs/${t.run}/move`, { to: 'current', reason: 'no more hotels' })
  assert.notEqual((await get(t.run)).run.digest, old)
  await post(`/runs/${t.run}/resume`, {})
  await waitFor('it waits again', async () => (await get(t.run)).run.status === 'waiting')
  await post(`/runs/${t.run}/cancel`, { reason: 'enough' })
  await ended(t, 'cancelled', 4)
  assert.deepEqual(deedsOf(t.trip).slice(-3), [`cancel f${t.trip}`, `cancel h${t.trip}n2`, `cancel h${t.trip}n1`])
  const { history } = await get(t.run, '/history?limit=200')
  const names = history.filter((h) => h.move === 'entered').map((h) => h.state)
  assert.deepEqual(names.slice(-4), ['book_flight.undo', 'book_hotel.undo', 'book_hotel.undo', 'reserve.undo'])
})
