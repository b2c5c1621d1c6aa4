// world.mjs: what a storm rages over: the recorder, an engine with generated workflows
// (generate.mjs), and people who start, approve, reject, cancel, pause and repair.
//
//   const world = s.world({ workers: 3, engine: { args: ['--database', …] } })
//   await world.begin()
//   await world.rage(seconds, async () => { …a fault… }, () => 300)   a fault each 300 ms
//   await world.heal()        no more faults: every run has to end; ends in `world.healed` ms
//   await checkAll(s, world)  checks.mjs
//
// world.engine is tests/e2e/lib/engine.mjs; world.sql(text) asks on a session that stays
// open and is refused while the database is away; world.counts says what people did.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startEngine, waitFor } from '../../e2e/lib/engine.mjs'
import { generate } from './generate.mjs'
import { random } from './random.mjs'
import { Recorder } from './recorder.mjs'
import { Sql } from './sql.mjs'

export const ROWS = 50 // of chaos_rows, which every sweep passes
const PLUGINS = join(dirname(fileURLToPath(import.meta.url)), '../plugins')
const HEAL_MS = 180000
const RETRIES = 10     // of a held run, before people give it up

export class World {
  /** o: seed, workers, workflows, live (runs under way at once), engine (options of startEngine) */
  constructor(o) {
    Object.assign(this, { workers: 3, workflows: 6, live: 40, engineOptions: o.engine ?? {} }, { ...o, engine: undefined })
    this.r = random(o.seed)
    this.dir = mkdtempSync(join(tmpdir(), 'holdpoint-chaos.'))
    chmodSync(this.dir, 0o755)
    this.started = 0
    this.counts = { approved: 0, rejected: 0, cancelled: 0, paused: 0, events: 0, repaired: 0, given_up: 0, whys: 0 }
    this.unknown = []
    this.repairs = new Map()
  }

  async begin() {
    this.recorder = await new Recorder(this.dir, this.seed).start()
    const { args = [], ...rest } = this.engineOptions
    this.engine = await startEngine({ workers: this.workers, lease: '1s', simulated: 'resend', // requests may then go to this machine
      args: ['--poll', '200ms', '--base-url', `recorder=${this.recorder.url}`, ...args], ...rest })
    this.db = this.session()
    await this.sql(`create table public.chaos_ledger (run bigint, state text, undone int not null default 0);
      create table public.chaos_rows (id bigint primary key);
      insert into public.chaos_rows select generate_series(1, ${ROWS});
      create table public.chaos_swept (run bigint, state text, id bigint);
      grant select, insert, update on public.chaos_ledger, public.chaos_rows, public.chaos_swept to holdpoint_workflow`)
    this.sources = generate(this.seed, this.workflows)
    for (const [name, source] of Object.entries(this.sources)) {
      const file = join(this.dir, `${name}.lua`)
      writeFileSync(file, source)
      const done = await this.engine.cli(['deploy', file, '--plugins', PLUGINS])
      assert.equal(done.code, 0, `${name}: ${done.stdout}${done.stderr}\n${source}`)
    }
    this.ops = await this.engine.tokenFor('olga', { roles: ['ops'] })
  }

  /** A further session of the superuser. */
  session() {
    return new Sql(() => this.engineOptions.owner ?? { user: 'holdpoint',
      host: readFileSync(join(this.engine.dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[4] })
  }

  sql(text) { return this.db.query(text) }
  /** Answers may be lost with the worker that gave them: the caller looks at the world again. */
  async api(...words) {
    try { return await this.engine.api(...words) } catch { return { status: 0, body: {} } }
  }

  /** What is not over: [{ run, status, phase, workflow }] */
  async alive() {
    const rows = await this.sql(`select s.run_id, s.status, s.phase, r.workflow from holdpoint.run_state s
      join holdpoint.run r on r.id = s.run_id where s.status <= 3 order by 1`)
    return rows.map(([run, status, phase, workflow]) => ({ run: Number(run), status: Number(status), phase: Number(phase), workflow }))
  }

  // ---- people ----

  async start() {
    const workflow = this.started < 2 ? 'chaos_full' : this.r.pick(Object.keys(this.sources).filter((n) => n !== 'chaos_child'))
    const n = this.started++
    await this.api('POST', '/api/v1/runs', { workflow, input: { n, shared: n % 7 }, key: `storm:${n}` })
  }

  /** The world does something to one of them. */
  async poke(alive) {
    const x = this.r.next(), one = this.r.pick(alive)
    if (x < 0.45) {
      this.counts.events++
      await this.api('POST', '/api/v1/events', { name: this.r.chance(0.8) ? 'chaos.ping' : 'chaos.hurry', key: String(one.run), payload: { x } })
    } else if (x < 0.75) {
      await this.decide()
    } else if (x < 0.80) {
      this.counts.cancelled += (await this.api('POST', `/api/v1/runs/${one.run}/cancel`, { reason: 'chaos' })).status === 200
    } else if (x < 0.88) {
      const done = await this.api('POST', `/api/v1/runs/${one.run}/pause`, { reason: 'chaos' })
      this.counts.paused += done.status === 200
    } else {
      await this.why(one.run)
    }
    await this.resume(0.3)
  }

  async resume(chance) {
    for (const [run] of await this.sql('select run_id from holdpoint.run_state where pause and status <= 3'))
      if (this.r.chance(chance)) await this.api('POST', `/api/v1/runs/${run}/resume`, { reason: 'chaos' })
  }

  async decide() {
    const open = (await this.api('GET', '/api/v1/approvals')).body?.approvals ?? []
    if (open.length === 0) return
    const yes = this.r.chance(0.8)
    const done = await this.api('POST', `/api/v1/approvals/${this.r.pick(open).approval}/${yes ? 'approve' : 'reject'}`, { reason: 'chaos' }, { token: this.ops })
    this.counts[yes ? 'approved' : 'rejected'] += done.status === 200
  }

  async why(run) {
    const { status, body } = await this.api('GET', `/api/v1/runs/${run}/why`)
    if (status !== 200) return
    this.counts.whys++
    if (!body.sentence || /unknown/i.test(body.cause) || body.cause === 'parked') this.unknown.push({ run, ...body })
  }

  /** An operator with patience: held runs are tried again, and given up after ten times. */
  async repair(alive) {
    for (const { run } of alive.filter((l) => l.status === 3)) {
      const times = (this.repairs.get(run) ?? 0) + 1
      const order = times > RETRIES ? 'give-up' : 'retry'
      const done = await this.api('POST', `/api/v1/runs/${run}/${order}`, { reason: 'chaos' })
      if (done.status !== 200) continue
      this.repairs.set(run, times)
      this.counts[order === 'retry' ? 'repaired' : 'given_up']++
    }
  }

  // ---- the storm and what follows ----

  /** People go on until `seconds` are over; `fault` is called every gap() ms. */
  async rage(seconds, fault, gap = () => 300 + this.r.int(1700)) {
    const end = Date.now() + seconds * 1000
    let next = Date.now() + gap(), told = Date.now()
    while (Date.now() < end) {
      const alive = await this.alive()
      if (alive.length < this.live) await this.start()
      if (alive.length) await this.poke(alive)
      await this.repair(alive)
      if (Date.now() > next) { await fault(); next = Date.now() + gap() }
      if (Date.now() > told + 30000) { told = Date.now(); console.log(`  … ${this.started} started, ${alive.length} live`) }
      await pause(20)
    }
  }

  /** Nothing fails any more: all have to end. What does not is told with its history. */
  async heal(ms = HEAL_MS) {
    await this.recorder.calm()
    let left = []
    const began = Date.now()
    await waitFor('every run ends', async () => {
      await this.resume(1)
      await this.decide()
      left = await this.alive()
      await this.repair(left)
      for (const { run } of left.slice(0, 2)) await this.why(run)
      if (left.length) await pause(200)
      return left.length === 0
    }, ms).catch(async (e) => {
      for (const { run } of left.slice(0, 5)) e.message += await this.story(run)
      throw e
    })
    this.healed = Date.now() - began
  }

  async story(run) {
    const why = (await this.api('GET', `/api/v1/runs/${run}/why`)).body
    const rows = await this.sql(`select h.rev, h.seq, h.epoch, holdpoint.move_name(h.move), holdpoint.state_name(r.digest, h.state), h.visit, h.phase,
      h.attempt, h.code, left(h.message, 100), h.actor from holdpoint.history h join holdpoint.run r on r.id = h.run_id where run_id = ${run} order by rev desc, seq desc limit 14`)
    return `\n  run ${run}: ${why?.sentence}${rows.map((row) => `\n    ${row.join(' ')}`).join('')}`
  }

  async end() {
    this.db?.close()
    try { await this.engine?.stop() } finally {
      this.recorder?.stop()
      rmSync(this.dir, { recursive: true, force: true })
    }
  }
}
