// faults.mjs: processes die, stop and wake; each fault counts itself, so that a scenario can
// prove that it landed.
//
//   const f = new Faults(world)
//   await f.killWorkers(n)       kill -9 of n workers at once
//   await f.killSupervisor()     kill -9; its workers have to end; started again as an init system would
//   await f.killPostgres(how)    'postmaster' -9, 'backend' -9, 'immediate' (what pg_ctl -m immediate sends),
//                                'both': postmaster and supervisor at once; back when it answers again
//   await f.endSession()         pg_terminate_backend of one of the engine's sessions
//   await f.zombies(n)           SIGSTOP of n workers that have runs in hand until others have taken them, then SIGCONT
//   await f.fleet(n)             until n workers are registered and their leases good: who is killed
//                                before that had nothing in hand
//   await f.settle()             until what is measured in the background is known
//   f.counts                     what landed
//   f.reclaims                   [{ ms, workers }] from a kill to the claim of each run that was in hand
//   f.restarts                   [{ how, down, back, first }]: when it answered again, ms until the first transition
//   await f.checkZombies(bad)    what zombies did after they were woken; more of it with f.witness (witness.mjs)
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { waitFor } from '../../e2e/lib/engine.mjs'

const LIVED_MS = 1100
const LATE_MS = 20000 // what is not taken over by then is told as lost

/** A session that does nothing: its end is the beginning of an outage. done: it is ready. */
function knock(path, user, database) {
  const socket = connect(path)
  const words = Buffer.from(`user\0${user}\0database\0${database}\0\0`)
  const head = Buffer.alloc(8)
  head.writeInt32BE(words.length + 8, 0)
  head.writeInt32BE(196608, 4) // protocol 3.0
  let got = Buffer.alloc(0)
  const ready = new Promise((done) => {
    socket.on('connect', () => socket.write(Buffer.concat([head, words])))
    socket.on('data', (d) => {
      got = Buffer.concat([got, d])
      for (let at = 0; at + 5 <= got.length; at += 1 + got.readInt32BE(at + 1))
        if (got[at] === 90) { done(true); return } // ReadyForQuery
    })
    socket.on('error', () => done(false))
    socket.on('close', () => done(false))
  })
  return { ready, gone: new Promise((done) => socket.on('close', () => done(Date.now()))), end: () => socket.destroy() }
}

export class Faults {
  constructor(world) {
    this.world = world
    this.counts = { kills: 0, killed_workers: 0, all_killed: 0, supervisors: 0, postmasters: 0, backends: 0, immediates: 0, both: 0,
      sessions: 0, stopped: 0, zombies: 0, fenced: 0, runs_taken_from_zombies: 0 }
    this.reclaims = []
    this.lost = []
    this.restarts = []
    this.born = new Map() // pid of a worker → when it was first seen
    this.woken = []
    this.dead = new Map()  // engine that was stopped → its row when it was marked dead
    this.taken = new Map() // the same → runs that others had taken over before it was woken
    this.witness = null    // witness.mjs: who wants to know more of zombies than history tells
    this.orphans_ms = []
    this.background = new Set()
    this.db = world.session()
  }

  /** What comes of it in the background: that it does not come is wrong. */
  #later(promise) {
    const p = promise.catch((e) => { this.lost.push(e.message) }).finally(() => this.background.delete(p))
    this.background.add(p)
  }

  async settle() { while (this.background.size) await Promise.all(this.background) }
  close() { this.db.close() }

  workers() {
    return Object.entries(this.world.engine.pids()).filter(([name]) => name.startsWith('worker-')).map(([name, pid]) => ({ name, pid }))
  }

  fleet(n) {
    return waitFor(`${n} workers are at work`, async () => {
      const pids = this.workers().map(({ pid }) => pid)
      if (pids.length < n) return false
      const [[ready]] = await this.db.read(`select count(distinct pid) from holdpoint.engine
        where not dead and lease_until > holdpoint.now_us() and pid in (${pids.join()})`)
      return Number(ready) >= n
    }, 60000)
  }

  /** n workers have been at work for so long that the supervisor, when one dies, does not take that for
   *  a fault of ours and hold the next one back (LIVED_WELL of runtime/supervisor_servers.c). */
  async settled(n) {
    await this.fleet(n)
    await waitFor(`${n} workers have lived well`, () => this.#old().length >= n, 60000)
  }

  #old() {
    const now = Date.now()
    for (const { pid } of this.workers()) if (!this.born.has(pid)) this.born.set(pid, now)
    return this.workers().filter(({ pid }) => now - (this.born.get(pid) ?? now) > LIVED_MS)
  }

  /** n of them, drawn; fewer when fewer run. */
  #draw(n, all = this.workers()) {
    const drawn = []
    while (all.length && drawn.length < n) drawn.push(...all.splice(this.world.r.int(all.length), 1))
    return drawn
  }

  #signal(pid, signal) {
    try { process.kill(pid, signal); return true } catch (e) { if (e.code === 'ESRCH') return false; throw e }
  }

  // ---- workers ----

  async killWorkers(n) {
    const all = this.workers().length, at = Date.now()
    const old = this.#old()
    const dead = this.#draw(n, old.length >= n ? old : this.workers()).filter(({ pid }) => this.#signal(pid, 'SIGKILL')).map(({ pid }) => pid)
    if (dead.length === 0) return 0
    this.counts.kills++
    this.counts.killed_workers += dead.length
    this.counts.all_killed += dead.length === all
    this.#later(this.#reclaim(dead, at, dead.length === all))
    return dead.length
  }

  /** What these processes have in hand: [{ run, epoch, engine }] */
  async #hands(pids) {
    if (pids.length === 0) return []
    const rows = await this.db.read(`select y.run_id, s.epoch, y.engine_id, e.pid from holdpoint.ready y join holdpoint.run_state s using (run_id)
      join holdpoint.engine e on e.id = y.engine_id
      where e.id in (select max(id) from holdpoint.engine where pid in (${pids.join()}) group by pid)`)
    return rows.map(([run, epoch, engine, pid]) => ({ run: Number(run), epoch: Number(epoch), engine: Number(engine), pid: Number(pid) }))
  }

  /** Of these, who is in other hands now; gone: parked or ended by a commit that was on its way. */
  async #look(hands) {
    const rows = await this.db.read(`select s.run_id, s.epoch, s.rev, y.run_id is null from holdpoint.run_state s
      left join holdpoint.ready y using (run_id) where s.run_id in (${hands.map((h) => h.run).join()})`)
    const now = new Map(rows.map(([run, epoch, rev, gone]) => [Number(run), { epoch: Number(epoch), rev: Number(rev), gone: gone === 't' }]))
    return hands.map((h) => ({ ...h, now: now.get(h.run) ?? { epoch: h.epoch, gone: true } }))
  }

  async #reclaim(pids, at, all) {
    let left = await this.#hands(pids)
    while (left.length) {
      const seen = await this.#look(left), ms = Date.now() - at
      for (const h of seen) if (h.now.epoch > h.epoch) this.reclaims.push({ ms, all, workers: pids.length })
      left = seen.filter((h) => h.now.epoch === h.epoch && !h.now.gone)
      if (ms > LATE_MS) { this.lost.push(...left.map((h) => `run ${h.run} of a killed worker was in nobody's hand after ${ms} ms`)); return }
      await pause(5)
    }
  }

  // ---- zombies ----

  /** A zombie is a worker that was stopped while others took a run out of its hands. */
  async zombies(n) {
    const all = this.workers(), busy = new Set((await this.#hands(all.map(({ pid }) => pid))).map((h) => h.pid))
    const stopped = this.#draw(Math.min(n, all.length - 1), all.filter(({ pid }) => busy.has(pid)))
      .filter(({ pid }) => this.#signal(pid, 'SIGSTOP')).map(({ pid }) => pid)
    if (stopped.length === 0) return
    let seen = [], marked = false, dead = []
    try {
      const hands = await this.#hands(stopped), end = Date.now() + 6000
      await pause(1000) // its lease
      do {
        seen = hands.length ? await this.#look(hands) : []
        dead = (await this.db.read(`select id, pid, e::text from holdpoint.engine e where dead and id in
          (select max(id) from holdpoint.engine where pid in (${stopped.join()}) group by pid)`))
          .map(([engine, pid, row]) => ({ engine: Number(engine), pid: Number(pid), row }))
        marked = dead.length === stopped.length
        if (marked && seen.every((h) => h.now.epoch > h.epoch || h.now.gone)) break
        await pause(10)
      } while (Date.now() < end)
      await this.witness?.watch(dead)
    } finally {
      for (const pid of stopped) this.#signal(pid, 'SIGCONT')
    }
    const taken = seen.filter((h) => h.now.epoch > h.epoch)
    this.counts.stopped += stopped.length
    this.counts.zombies += new Set(taken.map((h) => h.pid)).size
    this.counts.runs_taken_from_zombies += taken.length
    for (const { engine, row } of dead) this.dead.set(engine, row)
    for (const { engine } of dead) this.taken.set(engine, new Set(taken.filter((h) => h.engine === engine).map((h) => h.run)))
    this.woken.push(...taken.map((h) => ({ run: h.run, epoch: h.epoch, rev: h.now.rev })))
    if (marked) for (const pid of stopped) this.#later(this.world.engine.gone(pid, 30000).then(() => { this.counts.fenced++ }))
  }

  // ---- the supervisor ----

  async killSupervisor() {
    const { engine } = this.world, before = this.workers(), at = Date.now()
    engine.kill('supervisor')
    this.counts.supervisors++
    await engine.ended
    for (const { pid } of before) this.#later(engine.gone(pid, 30000).then(() => this.orphans_ms.push(Date.now() - at)))
    await engine.start()
    const still = before.filter(({ name, pid }) => engine.pids()[name] === pid)
    if (still.length) this.lost.push(`workers of a killed supervisor go on beside those of the next: ${JSON.stringify(still)}`)
  }

  // ---- PostgreSQL ----

  async killPostgres(how) {
    const { engine } = this.world
    const [user, host] = [this.world.where().user, this.world.where().host]
    const canary = knock(`${host}/.s.PGSQL.5432`, user, 'holdpoint')
    if (!await canary.ready) return false
    const postmaster = engine.pids().postgres
    if (how === 'backend') {
      const victim = await this.#session()
      if (!victim || !this.#signal(victim, 'SIGKILL')) { canary.end(); return false }
      this.counts.backends++
    } else {
      if (!postmaster || !this.#signal(postmaster, how === 'immediate' ? 'SIGQUIT' : 'SIGKILL')) { canary.end(); return false }
      this.counts[how === 'immediate' ? 'immediates' : 'postmasters']++
    }
    const supervisor = how === 'both' ? this.killSupervisor() : null
    this.counts.both += how === 'both'
    const down = await canary.gone
    let back
    for (const end = Date.now() + 60000; ;) {
      const next = knock(`${host}/.s.PGSQL.5432`, user, 'holdpoint')
      const ready = await next.ready
      next.end()
      if (ready) { back = Date.now(); break }
      if (Date.now() > end) throw new Error(`PostgreSQL is not back 60 s after its ${how} was killed`)
      await pause(10)
    }
    this.restarts.push({ how, down, back })
    await supervisor
    return true
  }

  /** A server process of the engine. */
  async #session() {
    const rows = await this.db.read(`select pid from pg_stat_activity where usename in ('holdpoint_engine', 'holdpoint_workflow') order by pid`)
    return rows.length ? Number(this.world.r.pick(rows)[0]) : 0
  }

  async endSession() {
    const pid = await this.#session()
    if (pid && (await this.db.read(`select pg_terminate_backend(${pid})`))[0][0] === 't') this.counts.sessions++
  }

  // ---- what came of it ----

  /** For each restart, ms from the first answer to the first transition that a worker commits. */
  async progress() {
    const at = (await this.world.sql(`select distinct at / 1000 from holdpoint.history where epoch is not null and at / 1000 >= ${
      Math.min(...this.restarts.map((r) => r.back))} order by 1`)).map(([ms]) => Number(ms))
    for (const r of this.restarts) r.first = (at.find((ms) => ms >= r.back) ?? Infinity) - r.back
    return this.restarts.map((r) => r.first)
  }

  /** What a zombie did after it was woken: a row of history in an epoch that was over, a sign of life. */
  async checkZombies(bad) {
    if (this.woken.length === 0) return
    const values = this.woken.map((w) => `(${w.run}, ${w.epoch}, ${w.rev})`).join()
    for (const [run, rev, epoch] of await this.world.sql(`select h.run_id, h.rev, h.epoch from holdpoint.history h
        join (values ${values}) w(run, epoch, rev) on h.run_id = w.run and h.epoch <= w.epoch and h.rev > w.rev`))
      bad(`run ${run}: rev ${rev} was written by epoch ${epoch}, which had been stopped and woken`)
    const now = new Map((await this.world.sql(`select id, e::text from holdpoint.engine e where id in (${[...this.dead.keys()].join()})`)).map(([id, row]) => [Number(id), row]))
    for (const [engine, row] of this.dead) if (now.get(engine) !== row) bad(`engine ${engine} was ${row} when it was marked dead, and is ${now.get(engine)}`)
    for (const x of await this.witness?.changed(this.taken) ?? []) bad(`engine ${x.engine}, marked dead and woken: ${x.op} of ${x.table}, run ${x.run}: ${x.by}`)
  }

  /** How often a worker was told that what it wrote was not its to write. */
  async conflicts() {
    const text = (await this.world.api('GET', '/metrics')).body
    return Number(/^holdpoint_commit_conflicts_total (\d+)/m.exec(text)?.[1] ?? 0)
  }
}

export const quantile = (list, q) => {
  const sorted = [...list].sort((a, b) => a - b)
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] : NaN
}
/** "p50 812, p99 1204, max 1311 ms of 512" */
export const spread = (list) => list.length
  ? `p50 ${Math.round(quantile(list, 0.5))}, p99 ${Math.round(quantile(list, 0.99))}, max ${Math.round(Math.max(...list))} ms of ${list.length}` : 'none'
