// Schedules on a real engine: every tick one run over two workers, also when each of
// them is killed at the very tick and when nobody was there for a while; and what
// operators see and do.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const file = (name) => join(ROOT, 'tests/fixtures/workflows', name)
let engine
before(async () => { engine = await startEngine({ workers: 2, simulated: '' }) })
after(() => engine?.stop())

async function ok(words) {
  const r = await engine.cli(words)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
const beats = async () => (await engine.sql(`select tick, run_id, outcome from holdpoint.schedule_tick
  where workflow = 'heartbeat' and idx = 1 order by tick`)).map(([tick, run, outcome]) => ({ tick, run, outcome }))
const runsOf = async () => Number((await engine.sql(`select count(*) from holdpoint.run where workflow = 'heartbeat'`))[0][0])

/** every second has exactly one tick and exactly one run */
async function unbroken(from = 0) {
  const rows = await beats()
  assert.ok(rows.length > from)
  for (let i = 1; i < rows.length; i++) assert.equal(Number(rows[i].tick) - Number(rows[i - 1].tick), 1e6, `tick ${i} of ${rows.length}`)
  assert.ok(rows.every((r) => r.outcome === 'started'))
  assert.equal(new Set(rows.map((r) => r.run)).size, rows.length)
  return rows.length
}

test("the guide's example is the one that is tested", async () => {
  const text = readFileSync(file('nightly_report.lua'), 'utf8')
  assert.ok(readFileSync(join(ROOT, 'docs/authoring.md'), 'utf8').includes(text))
  await ok(['check', file('nightly_report.lua')])
  await ok(['deploy', file('nightly_report.lua')])
  const shown = await waitFor('it is planned', async () => {
    const s = JSON.parse(await ok(['schedules', 'show', 'nightly_report', '--ticks', '4', '--json']))
    return s.next.length === 4 && s
  })
  assert.equal(shown.spec.zone, 'Europe/Berlin')
  for (const t of shown.next) assert.match(t, /T0[01]:30:00\.000000Z$/)
  assert.match(shown.sentence, /^The next tick is /)
  assert.match(await ok(['schedules']), /nightly_report +30 2 \* \* mon-fri +Europe\/Berlin/)
})

test('operators run it now, pause it and let it go on', async () => {
  const run = Number(/run (\d+) started/.exec(await ok(['schedules', 'run-now', 'nightly_report']))[1])
  await engine.until(run, 'succeeded')
  const doc = (await engine.api('GET', `/api/v1/runs/${run}`)).body
  assert.match(JSON.stringify(doc), /daily report for 20/)
  const silent = await engine.cli(['schedules', 'pause', 'nightly_report'])
  assert.equal(silent.code, 2)
  assert.match(silent.stderr, /--reason is missing/)
  await ok(['schedules', 'pause', 'nightly_report', '--reason', 'the books are closed'])
  assert.match(await ok(['schedules', 'show', 'nightly_report']), /Paused since .*the books are closed/)
  const again = await engine.api('POST', '/api/v1/schedules/nightly_report/pause', { reason: 'x' })
  assert.equal(again.status, 409)
  await ok(['schedules', 'resume', 'nightly_report'])
  const none = await engine.api('GET', '/api/v1/schedules/nightly_raport')
  assert.equal(none.status, 404)
})

test('each tick starts one run, with workers killed, frozen out and gone', async () => {
  await ok(['deploy', file('heartbeat.lua')])
  await waitFor('the first ticks', async () => (await beats()).length >= 2, 20000)
  for (let i = 0; i < 4; i++) {
    const n = (await beats()).length
    // right around the tick: the last one was written a moment ago
    await waitFor('the next tick', async () => (await beats()).length > n, 20000)
    engine.kill(`worker-${1 + (i % 2)}`)
  }
  const before = (await beats()).length
  await waitFor('it goes on', async () => (await beats()).length >= before + 2, 20000)
  await unbroken()
  const metrics = (await engine.api('GET', '/metrics', undefined, { token: null })).body
  assert.match(metrics, /^holdpoint_schedule_ticks_started [1-9]/m)
  assert.match(metrics, /^holdpoint_schedules 3$/m)
  assert.match(JSON.stringify((await engine.api('GET', '/api/v1/schedules/heartbeat:2')).body.next), /:00:00/)
})

for (const label of ['tick_before', 'tick_stored'])
  test(`a worker that dies at ${label} neither loses nor repeats it; nor does an engine that was down`, async () => {
    const had = (await beats()).length
    engine.kill('supervisor', 'SIGTERM')
    await engine.ended
    engine.log.length = 0
    await engine.start({ env: { HP_CRASH: `${label}:1` } })
    // worker-1 dies at its first tick; which worker gets which tick is theirs to race for
    await engine.killed(label, 30000)
    await waitFor('the ticks of the downtime and more', async () => (await beats()).length >= had + 5, 30000)
    const n = await unbroken(had)
    assert.ok(await runsOf() >= n)
  })
