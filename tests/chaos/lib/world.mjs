// world.mjs: what a storm rages over: the recorder, an engine with generated workflows
// (generate.mjs), and people who start, approve, reject, cancel, pause and repair.
//
//   const world = s.world({ workers: 3, engine: { args: ['--database', …] } })
//   await world.begin()
//   await world.during(async () => { …faults… })                      people go on meanwhile
//   await world.rage(seconds, async () => { …a fault… }, () => 300)   the same, a fault each 300 ms
//   await world.heal()        no more faults: every run has to end; ends in `world.healed` ms
//   await checkAll(s, world)  checks.mjs
//
// world.engine is tests/e2e/lib/engine.mjs; world.sql(text) asks on a session that stays
// open and is refused while the database is away; world.counts says what people did.
// Whoever wants to do something at each turn of the people adds it to world.turns.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startEngine, waitFor } from '../../e2e/lib/engine.mjs'
import { BESIDE, generate } from './generate.mjs'
import { random } from './random.mjs'
import { Recorder } from './recorder.mjs'
import { Sql, away } from './sql.mjs'

export const SECRET = 'chaos-secret-' // how recorder_process.mjs begins each
export const ROWS = 50 // of chaos_rows, which every sweep passes
const PLUGINS = join(dirname(fileURLToPath(import.meta.url)), '../plugins')
const HEAL_MS = 180000
const RETRIES = 10     // of a held run, before people give it up

export class World {
  /** o: seed, workers, workflows, live (runs under way at once), only (what people start),
   *  lease, poll, wide (a schedule, exclusive runs, two voters as well), engine (further
   *  options of startEngine) */
  constructor(o) {
    Object.assign(this, { workers: 3, workflows: 6, live: 40, lease: '1s', poll: '200ms', engineOptions: o.engine ?? {} }, { ...o, engine: undefined })
    this.r = random(o.seed)
    this.dir = mkdtempSync(join(tmpdir(), 'holdpoint-chaos.'))
    chmodSync(this.dir, 0o755)
    this.started = 0
    this.turns = []
    this.notes = []
    this.asked = 0 // decisions
    this.acked = { runs: new Map(), votes: [], events: [] } // what people were told was done, by name
    this.counts = { approved: 0, rejected: 0, cancelled: 0, paused: 0, events: 0, repaired: 0, given_up: 0, whys: 0, away: 0 }
    this.unknown = []
    this.lines = 0   // of the log, each looked at as it comes: a storm says more than is kept
    this.leaked = []
    this.onLine = (line) => { this.lines++; if (line.includes(SECRET)) this.leaked.push(line.slice(0, 300)) }
    this.repairs = new Map()
  }

  async begin() {
    this.recorder = await new Recorder(this.dir, this.seed).start()
    const { args = [], ...rest } = this.engineOptions
    this.engine = await startEngine({ workers: this.workers, lease: this.lease, simulated: 'duffel', // requests may then go to this machine
      args: ['--poll', this.poll, '--base-url', `recorder=${this.recorder.url}`, ...args], onLine: this.onLine, ...rest })
    this.db = this.session()
    await this.sql(`create table public.chaos_ledger (run bigint, state text, undone int not null default 0);
      create table public.chaos_rows (id bigint primary key);
      insert into public.chaos_rows select generate_series(1, ${ROWS});
      create table public.chaos_swept (run bigint, state text, id bigint);
      create table public.chaos_called (run bigint, state text, id bigint, reply jsonb);
      grant select, insert, update on public.chaos_ledger, public.chaos_rows, public.chaos_swept, public.chaos_called to holdpoint_workflow`)
    this.sources = generate(this.seed, this.workflows, this.wide)
    for (const [name, source] of Object.entries(this.sources)) {
      const file = join(this.dir, `${name}.lua`)
      writeFileSync(file, source)
      const done = await this.engine.cli(['deploy', file, '--plugins', PLUGINS])
      assert.equal(done.code, 0, `${name}: ${done.stdout}${done.stderr}\n${source}`)
    }
    this.ops = await this.engine.tokenFor('olga', { roles: ['ops'] })
    this.voters = this.wide ? [this.ops, await this.engine.tokenFor('otto', { roles: ['ops', 'sec'] })] : [this.ops]
  }

  /** Where the database is, whether it runs or not. */
  where() {
    return this.place ??= this.engineOptions.owner ?? { user: 'holdpoint',
      host: readFileSync(join(this.engine.dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[4] }
  }

  /** A further session, of the superuser if nobody is named. */
  session(user) {
    return new Sql(() => ({ ...this.where(), ...(user ? { user } : {}) }))
  }

  note(text) { this.notes.push(text) }

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
    const workflow = this.only ?? (this.started < 2 ? 'chaos_full' : this.r.pick(Object.keys(this.sources).filter((n) => !BESIDE.includes(n))))
    const n = this.started++, key = `storm:${n}`
    const { status, body } = await this.api('POST', '/api/v1/runs', { workflow, input: { n, shared: n % 7 }, key })
    if (status >= 200 && status < 300) this.acked.runs.set(key, { run: body.run, workflow, existed: body.existed })
  }

  /** The world does something to one of them. */
  async poke(alive) {
    const x = this.r.next(), one = this.r.pick(alive)
    if (x < 0.45) {
      const n = `poke ${this.counts.events++}`
      const { status } = await this.api('POST', '/api/v1/events', { name: this.r.pick(['chaos.ping', 'chaos.ping', 'chaos.ping', 'chaos.pong', 'chaos.hurry']), key: String(one.run), payload: { x, n } })
      if (status >= 200 && status < 300) this.acked.events.push(n)
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
    const yes = this.r.chance(0.8), reason = `chaos ${this.asked++}`
    const done = await this.api('POST', `/api/v1/approvals/${this.r.pick(open).approval}/${yes ? 'approve' : 'reject'}`, { reason }, { token: this.r.pick(this.voters) })
    this.counts[yes ? 'approved' : 'rejected'] += done.status === 200
    if (done.status === 200) this.acked.votes.push(reason)
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

  async #turn() {
    const alive = await this.alive()
    if (alive.length < this.live) await this.start()
    if (alive.length) await this.poke(alive)
    await this.repair(alive)
    for (const fn of this.turns) await fn()
  }

  /** While the database is away people come again. */
  async #people(over) {
    let told = Date.now()
    while (!over()) {
      try { await this.#turn() } catch (e) {
        if (!away(e)) throw e
        this.counts.away++
        await pause(50)
      }
      if (Date.now() > told + 30000) { told = Date.now(); console.log(`  … ${this.started} started`) }
      await pause(20)
    }
  }

  /** People act as long as fn() goes on. */
  async during(fn) {
    let over = false
    const people = this.#people(() => over)
    people.catch(() => {}) // told below
    try { return await fn() } finally { over = true; await people }
  }

  /** People act until `seconds` are over; `fault` is called every gap() ms. */
  async rage(seconds, fault, gap = () => 300 + this.r.int(1700)) {
    const end = Date.now() + seconds * 1000
    await this.during(async () => {
      for (;;) {
        const next = Date.now() + gap()
        if (next > end) break
        await pause(Math.max(0, next - Date.now()))
        await fault()
      }
      await pause(Math.max(0, end - Date.now()))
    })
  }

  /** Nothing fails any more: all have to end. What does not is told with its history. */
  async heal(ms = HEAL_MS) {
    await this.recorder.calm()
    let left = []
    const began = Date.now()
    await this.calmSchedules()
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

  /** What the schedules have missed is caught up first; then they tick no more. */
  async calmSchedules() {
    const names = (await waitFor('schedules are caught up', async () => {
      const rows = await this.sql(`select workflow, position < holdpoint.now_us() - 4000000 from holdpoint.schedule where workflow like 'chaos\\_%' and paused_at is null`)
      return rows.every(([, behind]) => behind === 'f') && rows
    }, 60000)).map(([name]) => name)
    for (const name of names) await waitFor(`${name} is paused`, async () =>
      [200, 409].includes((await this.api('POST', `/api/v1/schedules/${name}/pause`, { reason: 'the storm is over' })).status))
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
