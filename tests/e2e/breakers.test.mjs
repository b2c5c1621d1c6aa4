// Circuit breakers on a real engine of two workers: a provider's bad day opens the
// breaker, runs wait behind it without spending attempts, half-open lets no more than
// its probes through - also while workers are killed -, and then all of them end, each
// mail sent once. And what operators see and do.
import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync, chmodSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { fault } from './lib/demo.mjs'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const PROBES = 2
const dir = mkdtempSync(join(tmpdir(), 'holdpoint-plugins.'))
const workflow = join(ROOT, 'tests/fixtures/workflows/mailing.lua')
let engine
before(async () => {
  // the shipped connector with a breaker that a test can wait for
  cpSync(join(ROOT, 'plugins'), dir, { recursive: true })
  chmodSync(dir, 0o755)
  const file = join(dir, 'resend/connector.lua')
  writeFileSync(file, readFileSync(file, 'utf8').replace('  operations = {',
    `  breaker = { failures = "50%", minimum = 5, window = "10s", consecutive = 5, open = "2s", probes = ${PROBES} },\n  operations = {`))
  engine = await startEngine({ workers: 2, simulated: 'resend', args: ['--plugins', dir] })
  await ok(['deploy', '--plugins', dir, workflow])
})
after(async () => { await engine?.stop(); rmSync(dir, { recursive: true, force: true }) })

async function ok(words) {
  const r = await engine.cli(words)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
const breaker = async () => (await engine.api('GET', '/api/v1/breakers/resend')).body
const state = () => engine.fake('resend', 'GET', '/_fake/state')
const requests = async () => (await state()).body.requests.filter((r) => r.path === '/emails')
const count = async (sql) => Number((await engine.sql(sql))[0][0])
const heal = () => engine.fake('resend', 'DELETE', '/_fake/faults')
let number = 0
const start = async (n) => {
  for (let i = 0; i < n; i++) {
    const input = { n: ++number }
    await waitFor('a run starts', async () => { // the other worker may not have loaded the workflow yet
      const r = await engine.api('POST', '/api/v1/runs', { workflow: 'mailing', input })
      if (r.status < 300) return true
      throw Object.assign(new Error(JSON.stringify(r.body)), { final: r.status !== 503 })
    })
  }
}
const admissions = () => count('select count(*) from holdpoint.history where flags & 1 <> 0')
const live = () => count('select count(*) from holdpoint.run_state where status < 4')

/** every run so far has ended well, and each reader got one mail */
async function allEnded() {
  await waitFor('all runs end', async () => (await live()) === 0, 90000)
  assert.equal(await count('select count(*) from holdpoint.run_state where status <> 4'), 0)
  const mails = Object.values((await state()).body.db.mails ?? (await state()).body.db.emails)
  assert.equal(mails.length, number)
  assert.equal(new Set(mails.map((m) => String(m.to))).size, number)
}

test('a bad day opens it: runs wait, and spend no attempts', async () => {
  await fault(engine, 'resend', { match: 'POST /emails', kind: 'status', status: 503, times: 100000 })
  await start(40)
  await waitFor('it opens', async () => (await breaker()).state === 'open', 30000)
  const b = await waitFor('all wait behind it', async () => { const x = await breaker(); return x.waiting >= 38 && x }, 60000)
  assert.match(b.reason, /requests failed|a probe failed|probing/)
  // whatever went out was admitted, and what was admitted went out: nothing was spent on waiting
  await heal()
  await allEnded()
  assert.equal((await requests()).length, await admissions())
  const log = (await breaker()).log
  assert.match(log.at(-1).reason, /^\d+ (of \d+ )?requests failed (in a row|within 10s)$/)
  assert.equal(log[0].state, 'closed')
  assert.match(log[0].reason, /^2 of 2 probes were answered$/)
  const metrics = (await engine.api('GET', '/metrics', undefined, { token: null })).body
  assert.match(metrics, /^holdpoint_circuit_state\{connector="resend"\} 0$/m)
  assert.match(metrics, /^holdpoint_circuit_waiting\{connector="resend"\} 0$/m)
})

test('operators open it and close it, and everybody sees why', async () => {
  const silent = await engine.cli(['breaker', 'open', 'resend'])
  assert.equal(silent.code, 2)
  assert.match(silent.stderr, /--reason is missing/)
  assert.match(await ok(['breaker', 'open', 'resend', '--reason', 'they migrate tonight']), /opened the breaker of resend/)
  const before = (await requests()).length
  await start(5)
  await waitFor('they wait', async () => (await breaker()).waiting === 5)
  const [[run]] = await engine.sql('select max(run_id) from holdpoint.gated')
  assert.match(await ok(['why', run]), /because the breaker of resend is forced open since .* \(they migrate tonight\); admin opened it\. An operator can close it: holdpoint breaker close resend/)
  assert.match(await ok(['history', run]), /gated/)
  assert.match(await ok(['breakers']), /resend +forced_open/)
  assert.equal((await requests()).length, before)
  assert.equal((await engine.cli(['breaker', 'open', 'resnd', '--reason', 'x'])).code, 4)
  assert.match(await ok(['breaker', 'close', 'resend', '--reason', 'it was our proxy']), /closed the breaker of resend for good/)
  await allEnded()
  assert.match(await ok(['breaker', 'reset', 'resend', '--reason', 'all is well']), /is closed since/)
  assert.match(await ok(['breaker', 'show', 'resend']), /forced_closed, by admin: it was our proxy/)
})

test('half-open: no more than its probes, with workers killed in the middle', async () => {
  await fault(engine, 'resend', { match: 'POST /emails', kind: 'status', status: 503, times: 100000 })
  await start(30)
  await waitFor('it opens', async () => (await breaker()).state === 'open', 30000)
  // from now on a request hangs: whoever probes is in the air when its worker dies
  await heal()
  await fault(engine, 'resend', { match: 'POST /emails', kind: 'slow', seconds: 3, times: 100000 })
  await waitFor('those that were under way are back', async () => (await breaker()).waiting >= 28, 60000)
  const at = (await requests()).length
  await waitFor('it probes', async () => (await requests()).length > at, 60000)
  for (const w of ['worker-1', 'worker-2']) {
    engine.kill(w)
    await pause(300)
  }
  // the same probes again, by whoever took them over: under their own keys
  let looks = 0
  for (; looks < 30 && (await breaker()).state === 'half_open'; looks++) {
    const keys = new Set((await requests()).slice(at).map((r) => r.key))
    const passed = await count(`select coalesce(max(passed), 0) from holdpoint.breaker`)
    assert.ok(keys.size <= PROBES + passed, `${keys.size} probes, ${passed} answered`)
    await pause(100)
  }
  assert.ok(looks > 0, `it was not half-open any more: ${JSON.stringify(await breaker())}`)
  await heal()
  await allEnded()
  assert.equal(await count('select count(*) from holdpoint.breaker_probe'), 0)
  assert.equal(await count('select count(*) from holdpoint.gated'), 0)
})

test('a worker killed right before and after it opens the breaker', async () => {
  engine.options.workers = 1 // so that it is the one that opens it
  for (const label of ['breaker_before', 'breaker_stored']) {
    engine.kill('supervisor', 'SIGTERM')
    await engine.ended
    engine.log.length = 0
    await engine.start({ env: { HP_CRASH: `${label}:1` } })
    const opened = async () => (await breaker()).log.filter((l) => l.was === 'closed' && l.state === 'open').length
    const before = await opened()
    await fault(engine, 'resend', { match: 'POST /emails', kind: 'status', status: 503, times: 100000 })
    await start(20)
    await engine.killed(label, 30000)
    await waitFor('it opens', async () => (await opened()) === before + 1, 30000)
    await heal()
    await allEnded()
    assert.equal(await opened(), before + 1)
  }
})
