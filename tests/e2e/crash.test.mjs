// kill -9 at every labelled point of the demo: of the worker that reaches it, of
// the supervisor, of PostgreSQL with all its processes, of the simulated providers.
// Afterwards there is exactly one refund, one key, one mail, the run has ended
// as it should (lib/demo.mjs, exactlyOnce), and fsck finds nothing.
//
// Whoever comes to the label stops there (HP_CRASH=label:n:FIFO: it waits for somebody
// who writes a process id), the test kills its victims, and the worker goes on. Where the
// worker itself is the victim there are two of them: the first to come to the label dies,
// the supervisor is stopped meanwhile, so nobody starts it again, and it is the other one
// that has to take over, once the lease is over, what the dead one had in hand. Four
// engines at once, one per lane, each restarted for every case; where PostgreSQL is not
// the victim its supervisor is killed for that, so that every start adopts a running
// PostgreSQL. Beside them a supervisor is killed where it starts PostgreSQL and migrates.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, closeSync, constants, existsSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync,
  writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, describe, it, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { HP_BIN, ROOT, startEngine, waitFor } from './lib/engine.mjs'
import { approve, ended, exactlyOnce, fault, newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

const labels = JSON.parse(execFileSync(HP_BIN, ['crash-labels', '--json'], { encoding: 'utf8' })).map((l) => l.label)
const visited = new Set()
const taken = new Map() // label → runs that the worker that did not die took over from the one that died there
let takeovers = 0       // cases in which it went on alone
let again = 0           // cases played once more, because they showed nothing of that
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
    this.goOn()
    try { for (const [label] of this.visits()) visited.add(label) } catch (e) {
      if (e.code !== 'ENOENT') throw e // an engine that did not start is gone with its directory
    }
    await this.engine.stop()
  }

  /** [label, process id], in order. */
  visits() { return readFileSync(this.log, 'utf8').split('\n').filter(Boolean).map((l) => l.split(' ')) }

  /** The process that was first to come to the label for the n-th time. */
  firstAt(label, n) {
    const count = new Map()
    for (const [l, pid] of this.visits().filter((v) => v[0] === label)) {
      count.set(pid, (count.get(pid) ?? 0) + 1)
      if (count.get(pid) === n && this.workers().includes(Number(pid))) return Number(pid)
    }
    throw new Error(`nobody has come to ${label} ${n} times`)
  }

  workers() { return Object.entries(this.engine.pids()).filter(([name]) => /^worker-/.test(name)).map(([, pid]) => pid) }

  /** A supervisor that was stopped. */
  goOn() {
    if (this.stopped) try { process.kill(this.stopped, 'SIGCONT') } catch (e) { if (e.code !== 'ESRCH') throw e }
    this.stopped = 0
  }

  /** kill -9 of the supervisor: workers and providers end, PostgreSQL stays and is adopted.
   * SIGTERM: everything ends. */
  async restart(crash = '', signal = 'SIGKILL', fifo = this.fifo) {
    const e = this.engine
    if (e.pids().supervisor) e.kill('supervisor', signal)
    await this.afterSupervisor()
    this.adopted = e.pids().postgres
    e.log.length = 0
    this.fifo = fifo
    this.ready = e.start({ env: { HP_CRASH: crash } }).then(() => {
      if (this.adopted) assert.equal(e.pids().postgres, this.adopted, 'the running PostgreSQL was not adopted')
    })
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

  /** Until a worker is at the label: it dies there, nobody starts it again, and the other one
   * goes on, past the label and all. */
  async takeover(label, n, over, struck) {
    let fd
    while ((fd = this.gate()) === undefined) {
      if (over()) return false
      await pause(3)
    }
    while (this.workers().length < 2) await pause(3) // which are being started, maybe
    this.dead = this.firstAt(label, n)
    this.stopped = this.engine.pids().supervisor
    process.kill(this.stopped, 'SIGSTOP')
    this.survivor = this.workers().find((pid) => pid !== this.dead)
    process.kill(this.dead, 'SIGKILL')
    await this.engine.gone(this.dead)
    struck()
    const rows = await this.engine.sql(`select e.dead, r.run_id, s.epoch from holdpoint.engine e
      left join (holdpoint.ready r join holdpoint.run_state s using (run_id)) on r.engine_id = e.id
      where e.id = (select max(id) from holdpoint.engine where pid = ${this.dead})`)
    this.tooLate = rows.some(([dead]) => dead === 't') // its lease was over before we looked: what it had is another's
    this.held = rows.filter(([, run]) => run).map(([, run, epoch]) => [run, epoch])
    for (; !over(); await pause(3)) {
      // whoever waits at the label is told to kill the one that is dead
      try { writeSync(fd, `${this.dead}\n`) } catch (e) { if (!['EPIPE', 'EAGAIN'].includes(e.code)) throw e }
      // on a machine that is too busy for its heartbeats it may lose its own lease
      if (this.stopped && this.workers().length === 0) this.goOn()
    }
    closeSync(fd)
    return true
  }

  /** What the dead one had in hand was claimed anew, and by the one that was left. False: this case shows nothing of it. */
  async tookOver(t, label) {
    if (!this.stopped || this.tooLate) {
      t.diagnostic(this.tooLate ? 'its lease was over before it was looked what it had' : 'the other worker lost its lease: others were started')
      return false
    }
    assert.deepEqual(this.workers(), [this.survivor], 'somebody else was there')
    const [[others]] = await this.engine.sql(`select count(*) from holdpoint.engine e join holdpoint.ready r on r.engine_id = e.id
      where e.pid not in (${this.survivor}, ${this.dead})`)
    assert.equal(others, '0')
    for (const [run, epoch] of this.held) {
      const [[now]] = await this.engine.sql(`select max(epoch) from holdpoint.history where run_id = ${run}`)
      assert.ok(Number(now) > Number(epoch), `run ${run} was in the dead one's hands in epoch ${epoch}, and ended in ${now}`)
      taken.set(label, (taken.get(label) ?? 0) + 1)
    }
    takeovers++
    return this.held.length > 0
  }

  async fsck() {
    const r = await this.engine.cli(['fsck', '--data', this.engine.dataDir])
    assert.equal(r.code, 0, `fsck: ${r.stdout}${r.stderr}`)
  }
}

/** One story with one crash in it; `act` does what the outside world does. */
async function story(t, lane, victim, label, n, act = own[label] ?? demo) {
  // The death of one's own child is noticed at once, that of an adopted server later.
  const fifo = lane.newFifo()
  lane.engine.options.workers = victim === 'worker' ? 2 : 1
  await lane.restart(`${victim === 'worker' ? '*' : ''}${label}:${n}:${fifo}`, victim === 'postgres' ? 'SIGTERM' : 'SIGKILL', fifo)
  // The worker waits at its label to be struck, so on a busy machine it may stand there before it
  // has said that it is ready: then readiness is not waited for.
  if (victim === 'supervisor' || !early.includes(label)) await lane.ready
  const e = lane.engine
  let over = false, struckAt
  const atLabel = new Promise((done) => { struckAt = done })
  const crash = (victim === 'worker' ? lane.takeover(label, n, () => over, struckAt) : lane.strike(victim, () => over)).then(async (struck) => {
    if (struck && victim === 'supervisor') {
      await lane.afterSupervisor()
      assert.ok(e.pids().postgres, 'PostgreSQL did not survive its supervisor')
      await lane.restart()
      await lane.ready
    }
    return struck
  })
  // It is awaited below, after the story; a story that fails because of it says so.
  let uncrashed
  crash.catch((error) => { uncrashed = error })
  await lane.ready
  // A heartbeat is not part of the story: it is waited for.
  if (label.startsWith('heartbeat_')) await (victim === 'worker' ? atLabel : crash)
  const b = await repeat('a booking', () => newBooking(e))
  try {
    await act(lane, b)
    await ended(e, b)
  } catch (error) {
    if (uncrashed) error.message += `\nthe crash itself: ${uncrashed.message}\n${e.tail(25)}`
    throw error
  } finally { over = true }
  const struck = await crash
  try {
    await exactlyOnce(e, b)
    if (struck && victim === 'worker' && !await lane.tookOver(t, label) && !taken.has(label) && !unowned[label] && again++ < 12)
      cases.push([victim, label, n, act]) // it shows nothing of its label (the machine was too busy, another webhook came first)
    await lane.fsck()
  } catch (error) {
    error.message += `\n${e.tail(40)}`
    throw error
  } finally { lane.goOn() }
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
  await fault(e, 'stripe', { match: 'POST /v1/refunds', kind: 'slow', seconds: 2, times: 1 })
  await demo(lane, b)
  await repeat('the refund is on its way', async () =>
    Object.values((await e.fake('stripe', 'GET', '/_fake/state')).body.db.refunds).some((r) => r.payment_intent === b.intent))
  const workers = lane.workers()
  const [[pid]] = workers.length === 1 ? [workers] : await repeat('somebody has it in hand', async () => {
    const rows = await e.sql('select e.pid from holdpoint.ready r join holdpoint.engine e on e.id = r.engine_id')
    return rows.length ? rows : null
  })
  process.kill(Number(pid), 'SIGTERM')
}

/** A workflow is deployed, as often as it takes to be told that it was: there is one version of it. */
async function deployed(lane, b) {
  const e = lane.engine, file = join(e.dir, 'deployed.lua')
  const name = `deployed_${b.n}`
  writeFileSync(file, `return workflow "${name}" { succeed "done" {} }\n`)
  await repeat('a deployment', async () => (await e.cli(['deploy', file])).code === 0)
  assert.deepEqual(await e.sql(`select count(*) from holdpoint.definition where workflow = '${name}'`), [['1']])
  await demo(lane, b)
}

/** A new version takes the run along that waits in the old one: moved once, however often it is asked for. */
async function movedLive(lane, b) {
  const e = lane.engine, file = join(e.dir, 'moved.lua')
  const name = `moved_${b.n}`
  const write = (door) => writeFileSync(file,
    `return workflow "${name}" { await "${door}" { event = "go_${b.n}", key = "1", within = "1d", timeout = "late", next = "done" },
      succeed "done" {}, fail "late" {} }\n`)
  write('door')
  // not through a door: the first deployment there is the one that somebody dies at
  const [[host]] = await e.sql('show unix_socket_directories')
  const first = await e.cli(['deploy', file, '--database', `host=${host} dbname=holdpoint user=holdpoint_engine`])
  assert.equal(first.code, 0, first.stderr)
  let run
  const now = async () => (await e.api('GET', `/api/v1/runs/${run}/why`)).body.cause
  await repeat('it starts', async () => (run = (await e.api('POST', '/api/v1/runs', { workflow: name })).body?.run))
  await repeat('it waits for its event', async () => await now() === 'event')
  write('gate')
  await repeat('it is moved', async () => (await e.cli(['deploy', file, '--move-live', '--map', 'door=gate', '--reason', 'renamed'])).code === 0)
  assert.deepEqual(await e.sql(`select count(*) from holdpoint.history where run_id = ${run} and message = 'renamed'`), [['1']])
  await repeat('an event', async () => (await e.api('POST', '/api/v1/events', { name: `go_${b.n}`, key: '1', payload: {} })).status < 300)
  await repeat('it ends in the new version', async () => (await e.api('GET', `/api/v1/runs/${run}`)).body.run?.status === 'succeeded')
  await demo(lane, b)
}

const own = { start_before: byHand, start_stored: byHand, operate_before: heldOnce, operate_stored: heldOnce,
  release_before: drainInFlight, drain_before: drainInFlight, drained: drainInFlight,
  deploy_before: deployed, deploy_stored: deployed }
// Where one visit is unlike the next: requests, commits, what Stripe tells.
const often = { commit_before: 8, commit_acked: 4, park_acked: 3, effect_before: 2, effect_sent: 2, effect_replied: 7,
  sql_ran: 3, sql_committed: 3, webhook_before: 2, webhook_stored: 2, claim_acked: 2 }
// No schedule plays a part in the demo, no breaker and no new secret: these suites kill
// there, and fail when nobody dies.
const elsewhere = { tick_before: 'schedules', tick_stored: 'schedules', breaker_before: 'breakers',
  breaker_stored: 'breakers', secret_before: 'secrets', secret_sealed: 'secrets', gc_before: 'retention',
  gc_stepped: 'retention' }
// Of the supervisor, which has a test of its own below.
const ofSupervisor = ['postgres_before', 'postgres_started', 'migrate_before', 'migrate_stored']
// Where a worker has no run in its hands by what it is about there: nothing can be taken over.
const unowned = { claim_before: 'nothing is claimed yet', park_acked: 'the run was put down', heartbeat_before: 'comes with the clock',
  heartbeat_acked: 'comes with the clock', drained: 'all was given back', webhook_before: 'there is no run yet', start_before: 'there is no run yet',
  decide_before: 'the run is parked', decide_stored: 'the run is woken, not claimed', operate_before: 'the run is held',
  operate_stored: 'the run is woken, not claimed', deploy_before: 'no run is concerned', deploy_stored: 'no run is concerned' }
// Who comes here may not have said yet that it is ready: it is the other one that does.
const early = ['claim_before', 'heartbeat_before', 'heartbeat_acked']
const everybody = ['worker', 'supervisor', 'postgres', 'providers']
// Where the others' death is that of the label after it.
const fewer = { claim_before: ['worker'], heartbeat_before: ['worker'], deploy_before: ['worker'], deploy_stored: ['worker'] }
// Others' webhooks come again from the story before: only a new engine's first one surely starts a run.
const first = [['worker', 'webhook_stored', 1]]
const inDemo = labels.filter((l) => !own[l] && !elsewhere[l] && !ofSupervisor.includes(l))

const each = (n) => Array.from({ length: n }, (_, i) => i + 1)

const cases = [
  ...first,
  ...inDemo.flatMap((l) => (fewer[l] ?? everybody).map((victim) => [victim, l,
    !l.startsWith('heartbeat_') ? 1 : victim === 'supervisor' ? 8 : 3])) // whose death is to come after it is ready: two seconds
    .filter(([victim, l]) => !first.some((f) => f[0] === victim && f[1] === l)),
  ...Object.keys(own).flatMap((l) => (fewer[l] ?? ['worker', 'postgres']).map((victim) => [victim, l, 1])),
  ...Object.entries(often).flatMap(([l, n]) => each(n).slice(1).map((i) => ['worker', l, i])),
  ...['effect_before', 'effect_sent', 'effect_replied', 'commit_before'].map((l) => ['postgres', l, 2]),
  ...['effect_before', 'effect_sent', 'webhook_stored'].map((l) => ['providers', l, 2]),
  ...[3, 7].map((n) => ['providers', 'effect_replied', n]),
  ...['deploy_before', 'deploy_stored'].map((l) => ['worker', l, 1, movedLive]),
]

/** `serve` with that crash ordered; how it ended, or (none ordered) once it runs and was told to end. */
async function serve(dir, crash) {
  const child = spawn(HP_BIN, ['serve', '--data', join(dir, 'data'), '--listen', '127.0.0.1:0', '--lease', '1s'], { cwd: ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, HOLDPOINT_HOME: ROOT, HP_CRASH: crash, HP_CRASH_LOG: join(dir, 'visits') } })
  const said = []
  const ended = new Promise((done) => child.on('exit', (code, signal) => done(signal ?? code)))
  createInterface({ input: child.stderr }).on('line', (line) => {
    said.push(line)
    if (!crash && /"running"/.test(line)) child.kill('SIGTERM')
  })
  const late = setTimeout(() => child.kill('SIGKILL'), 60000 * Number(process.env.HP_TIME_FACTOR || 1))
  const how = await ended
  clearTimeout(late)
  return { how, said: said.slice(-20).join('\n') }
}

describe('killed at every labelled point', { concurrency: 5 }, () => {
  for (const name of ['first', 'second', 'third', 'fourth'])
    it(`${name} engine`, async (t) => {
      const lane = new Lane()
      lanes.push(lane)
      await lane.begin()
      for (let next; (next = cases.shift());) {
        const [victim, label, n, act] = next
        await t.test(`${victim} at ${label}:${n}${act ? ` (${act.name})` : ''}`, async (t2) => {
          try { await story(t2, lane, victim, label, n, act) } catch (error) {
            await lane.end() // the next case begins on an engine that nothing happened to
            await lane.begin()
            throw error
          }
        })
      }
      for (const [label] of lane.visits()) visited.add(label)
    })

  it('the supervisor killed where it starts PostgreSQL and migrates: the next one goes on', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'holdpoint-e2e.'))
    chmodSync(dir, 0o755)
    writeFileSync(join(dir, 'visits'), '')
    chmodSync(join(dir, 'visits'), 0o666)
    try {
      for (const crash of [...ofSupervisor.map((l) => `${l}:1`), 'migrate_before:3', 'migrate_stored:2']) {
        const { how, said } = await serve(dir, crash)
        assert.equal(how, 'SIGKILL', `${crash}: ${said}`)
      }
      const { how, said } = await serve(dir, '')
      assert.equal(how, 0, said)
    } finally {
      let pid = 0
      try { pid = Number(readFileSync(join(dir, 'data/postgres/postmaster.pid'), 'utf8').split('\n')[0]) } catch { /* it has ended */ }
      if (pid) try { process.kill(pid, 'SIGQUIT') } catch (e) { if (e.code !== 'ESRCH') throw e }
      await waitFor('PostgreSQL ends', () => !pid || !existsSync(`/proc/${pid}`)).catch(() => {}) // the test has failed already
      for (const l of readFileSync(join(dir, 'visits'), 'utf8').split('\n').filter(Boolean)) visited.add(l.split(' ')[0])
      rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    }
  })
})

test('every label was visited, before and after', (t) => {
  assert.deepEqual(labels.filter((l) => !visited.has(l) && !elsewhere[l]), [], 'labels that no case visits')
  for (const [label, suite] of Object.entries(elsewhere))
    for (const what of [new RegExp(`'${label}[:']`), /await engine\.killed\(\w/]) // which sees that somebody died there
      assert.match(readFileSync(join(ROOT, `tests/e2e/${suite}.test.mjs`), 'utf8'), what, `${suite} does not kill at ${label}`)
  // an action with a label before it has one after it, and the other way round (those of the
  // machine's commits have three kinds of "after", a start by a door is the "after" of its door)
  const words = { before: /_(before)$/, after: /_(acked|stored|sent|replied|ran|committed|stepped|sealed|started)$|^(adopt|drained)$/ }
  assert.deepEqual(labels.filter((l) => !words.before.test(l) && !words.after.test(l)), [], 'neither before nor after')
  const count = (re) => labels.filter((l) => re.test(l)).length
  const seen = labels.filter((l) => visited.has(l) || elsewhere[l]).length
  t.diagnostic(`labels ${seen} of ${labels.length}, before and after (${count(words.before)} before, ${count(words.after)} after); ` +
    `in ${takeovers} cases another worker went on`)
})

test('wherever a worker has a run in its hands, another one took it over', (t) => {
  const workers = labels.filter((l) => !elsewhere[l] && !ofSupervisor.includes(l))
  t.diagnostic(`runs taken over: ${[...taken].map(([l, n]) => `${l} ${n}`).sort().join(', ')}`)
  t.diagnostic(`nothing in hand: ${Object.entries(unowned).map(([l, why]) => `${l} (${why})`).join(', ')}`)
  assert.deepEqual(Object.keys(unowned).filter((l) => !workers.includes(l)), [], 'not labels of this suite')
  assert.deepEqual(workers.filter((l) => !taken.has(l) && !unowned[l]), [], 'labels where nothing was taken over, and nobody says why')
})
