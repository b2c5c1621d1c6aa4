// kill -9 at every labelled point of the demo: of the worker that reaches it, of
// the supervisor, of PostgreSQL with all its processes, of the simulated providers.
// Afterwards there is exactly one refund, one key, one mail, and the run has ended
// as it should (lib/demo.mjs, exactlyOnce).
//
// The worker dies by HP_CRASH=label:n. For the others the worker stops at the label
// (HP_CRASH=label:n:FIFO: it waits for somebody who writes a process id), the test
// kills its victims, and the worker goes on. Four engines at once, one per lane,
// each restarted for every case; where PostgreSQL is not the victim its supervisor is
// killed for that, so that every start adopts a running PostgreSQL.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, closeSync, constants, openSync, readFileSync, readdirSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { HP_BIN, startEngine, waitFor } from './lib/engine.mjs'
import { approve, ended, exactlyOnce, fault, newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

const labels = JSON.parse(execFileSync(HP_BIN, ['crash-labels', '--json'], { encoding: 'utf8' })).map((l) => l.label)
const visited = new Set()
const lanes = []
after(() => Promise.all(lanes.map((l) => l.end())))

const childrenOf = (pid) => readdirSync('/proc').filter((d) => /^\d+$/.test(d)).filter((d) => {
  try { return Number(readFileSync(`/proc/${d}/stat`, 'utf8').replace(/^.*\) . /s, '').split(' ')[0]) === pid } catch { return false }
}).map(Number)

class Lane {
  async begin() {
    this.engine = await startEngine({ lease: '1s', args: ['--drain', '3s', '--poll', '200ms'] })
    this.log = join(this.engine.dir, 'visits')
    writeFileSync(this.log, '')
    chmodSync(this.log, 0o666)
    this.fifo = this.newFifo()
    this.engine.options.env = { HP_CRASH_LOG: this.log }
    this.bob = await prepare(this.engine)
  }

  /** One of its own for each start: nobody else can be at its other end. */
  newFifo() {
    const fifo = join(this.engine.dir, `stop-here-${this.fifos = (this.fifos ?? 0) + 1}`)
    execFileSync('mkfifo', ['-m', '666', fifo])
    return fifo
  }

  async end() {
    if (!this.log) return
    for (const label of this.visits()) visited.add(label)
    await this.engine.stop()
  }

  visits() { return readFileSync(this.log, 'utf8').split('\n').filter(Boolean) }

  /** kill -9 of the supervisor: workers and providers end, PostgreSQL stays and is adopted.
   * SIGTERM: everything ends. */
  async restart(crash = '', signal = 'SIGKILL') {
    const e = this.engine
    if (e.pids().supervisor) e.kill('supervisor', signal)
    await this.afterSupervisor()
    this.adopted = e.pids().postgres
    e.log.length = 0
    await e.start({ env: { HP_CRASH: crash } })
    if (this.adopted) assert.equal(e.pids().postgres, this.adopted, 'the running PostgreSQL was not adopted')
  }

  /** The writing end; undefined while no worker waits at the label. */
  gate() {
    try { return openSync(this.fifo, constants.O_WRONLY | constants.O_NONBLOCK) } catch (e) {
      if (e.code !== 'ENXIO') throw e
    }
  }

  async afterSupervisor() {
    await this.engine.ended
    const fd = this.gate() // of a case that failed: let it end
    if (fd) {
      // The worker that was let go a moment ago may be just closing its end.
      try { writeSync(fd, `${this.engine.child.pid}\n`) } catch (e) { if (e.code !== 'EPIPE') throw e }
      closeSync(fd)
    }
    await waitFor('workers and providers end with their supervisor',
      () => Object.keys(this.engine.pids()).every((name) => name === 'postgres'))
  }

  /** Until the worker is at the label; then kills, and lets it go on. False: never came there. */
  async strike(victim, over) {
    let fd
    while ((fd = this.gate()) === undefined) {
      if (over()) return false
      await pause(3)
    }
    const pids = this.engine.pids()
    const victims = { supervisor: () => [pids.supervisor], postgres: () => [pids.postgres, ...childrenOf(pids.postgres)],
      providers: () => [pids.stripe, pids.duffel, pids.resend].filter(Boolean) }[victim]()
    for (const pid of victims) try { process.kill(pid, 'SIGKILL') } catch (e) { if (e.code !== 'ESRCH') throw e }
    for (const pid of victims) await this.engine.gone(pid)
    writeSync(fd, `${victims[0]}\n`) // the worker kills it once more, and goes on
    closeSync(fd)
    return true
  }

  /** The worker that was told to has died of it. */
  async died(over) {
    const dead = () => this.engine.log.some((e) => e.message === 'server ended and is started again' &&
      e.server === 'worker-1' && /signal 9/.test(e.how))
    while (!dead()) { if (over()) return dead(); await pause(10) }
    return true
  }
}

/** One story with one crash in it; `act` does what the outside world does. */
async function story(t, lane, victim, label, n, act = demo) {
  // The death of one's own child is noticed at once, that of an adopted server later.
  const fifo = lane.newFifo()
  await lane.restart(victim === 'worker' ? `${label}:${n}` : `${label}:${n}:${fifo}`,
    victim === 'postgres' ? 'SIGTERM' : 'SIGKILL')
  lane.fifo = fifo
  const e = lane.engine
  let over = false
  const crash = (victim === 'worker' ? lane.died(() => over) : lane.strike(victim, () => over)).then(async (struck) => {
    if (struck && victim === 'supervisor') {
      await lane.afterSupervisor()
      assert.ok(e.pids().postgres, 'PostgreSQL did not survive its supervisor')
      await lane.restart()
    }
    return struck
  })
  // It is awaited below, after the story; a story that fails because of it says so.
  let uncrashed
  crash.catch((error) => { uncrashed = error })
  // A heartbeat is not part of the story: it is waited for.
  if (label === 'heartbeat_acked') await crash
  const b = await repeat('a booking', () => newBooking(e))
  try {
    await act(lane, b)
    await ended(e, b)
  } catch (error) {
    if (uncrashed) error.message += `\nthe crash itself: ${uncrashed.message}\n${e.tail(25)}`
    throw error
  } finally { over = true }
  const struck = await crash
  await exactlyOnce(e, b).catch((error) => { error.message += `\n${e.tail(40)}`; throw error })
  if (struck) return
  assert.ok(often[label] && n > 1, `${label} was not reached`)
  t.diagnostic(`${label}:${n} was not reached this time`)
}

const repeat = (what, fn) => waitFor(what, fn, 20000)

async function demo(lane, b) {
  await repeat('the airline refuses', async () => { await refuse(lane.engine, b); return true })
  await approve(lane.engine, b, lane.bob)
}

/** A run is started by hand, as often as it takes to be told that it was. */
async function byHand(lane, b) {
  await repeat('a start', async () => {
    const r = await lane.engine.api('POST', '/api/v1/runs',
      { workflow: 'refund_on_booking_failure', input: { data: { object: { id: b.booking } } } })
    return r.status === 200 || r.status === 201
  })
  await approve(lane.engine, b, lane.bob)
}

/** Stripe refuses our key once: the run is held, and an operator says retry. */
async function heldOnce(lane, b) {
  const e = lane.engine
  await fault(e, 'stripe', { match: 'POST /v1/refunds', kind: 'status', status: 401, times: 1,
    body: { error: { type: 'invalid_request_error', message: 'Invalid API Key provided' } } })
  await demo(lane, b)
  const run = await repeat('the run is held', async () => {
    const r = await runOf(e, b)
    return r?.status === 'held' ? r.run : null
  })
  await repeat('an order', async () => {
    const r = await e.api('POST', `/api/v1/runs/${run}/retry`, { reason: 'the key is right again' })
    return r.status === 200 || (r.status === 409 && (await runOf(e, b)).status !== 'held')
  })
  // held until the order is carried out; `ended` would take that for the end
  await repeat('the order is carried out', async () => (await runOf(e, b)).status !== 'held')
}

/** The worker is told to end while the refund is on its way. */
async function drainInFlight(lane, b) {
  const e = lane.engine
  await fault(e, 'stripe', { match: 'POST /v1/refunds', kind: 'slow', seconds: 0.4, times: 1 })
  await demo(lane, b)
  await repeat('the refund is on its way', async () =>
    Object.values((await e.fake('stripe', 'GET', '/_fake/state')).body.db.refunds).some((r) => r.payment_intent === b.intent))
  e.kill('worker-1', 'SIGTERM')
}

const own = { start_before: byHand, start_stored: byHand, operate_before: heldOnce, operate_stored: heldOnce,
  release_before: drainInFlight, drained: drainInFlight }
// Where one visit is unlike the next: requests, commits, what Stripe tells.
const often = { commit_before: 8, commit_acked: 4, park_acked: 3, effect_before: 2, effect_sent: 2, effect_replied: 7,
  sql_ran: 3, sql_committed: 3, webhook_before: 2, webhook_stored: 2, claim_acked: 2 }
// No schedule plays a part in the demo, no breaker and no new secret: schedules.test.mjs,
// breakers.test.mjs and secrets.test.mjs kill there.
const elsewhere = ['tick_before', 'tick_stored', 'breaker_before', 'breaker_stored', 'secret_sealed']
elsewhere.push('gc_stepped') // retention.test.mjs
const inDemo = labels.filter((l) => !own[l] && !elsewhere.includes(l))

const each = (n) => Array.from({ length: n }, (_, i) => i + 1)

const cases = [
  ...inDemo.flatMap((l) => ['worker', 'supervisor', 'postgres', 'providers'].map((victim) => [victim, l,
    l === 'heartbeat_acked' ? 3 : 1])), // the first one may come before the engine says it is ready
  ...Object.keys(own).flatMap((l) => ['worker', 'postgres'].map((victim) => [victim, l, 1])),
  ...Object.entries(often).flatMap(([l, n]) => each(n).slice(1).map((i) => ['worker', l, i])),
  ...['effect_before', 'effect_sent', 'effect_replied', 'commit_before'].map((l) => ['postgres', l, 2]),
  ...['effect_before', 'effect_sent', 'webhook_stored'].map((l) => ['providers', l, 2]),
  ...[3, 7].map((n) => ['providers', 'effect_replied', n]),
]

describe('killed at every labelled point', { concurrency: 4 }, () => {
  for (const name of ['first', 'second', 'third', 'fourth'])
    it(`${name} engine`, async (t) => {
      const lane = new Lane()
      lanes.push(lane)
      await lane.begin()
      for (let next; (next = cases.shift());) {
        const [victim, label, n] = next
        await t.test(`${victim} at ${label}:${n}`, async (t2) => {
          try { await story(t2, lane, victim, label, n, own[label]) } catch (error) {
            await lane.end() // the next case begins on an engine that nothing happened to
            await lane.begin()
            throw error
          }
        })
      }
      for (const label of lane.visits()) visited.add(label)
    })
})

test('every label was visited', () => {
  assert.deepEqual(labels.filter((l) => !visited.has(l) && !elsewhere.includes(l)), [], 'labels that no case visits')
})
