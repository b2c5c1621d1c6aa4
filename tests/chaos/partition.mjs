// partition.mjs: workers whose way to the database is cut while the world still hears them.
//
// Three engines on one PostgreSQL: `here` beside it; `far` in a network namespace, over TCP,
// with a lease of a second; `pooled` beside `far`, through a pgbouncer of its own, with the
// default lease of ten. The link of the namespace to the database is cut in every way that
// netns.mjs knows, and once in a while PostgreSQL is restarted behind it, so that connections
// are half open; the link to the world, where effects are counted with their time, stays.
//
// Measured per cycle: when the partition is noticed (the engine says that a connection is lost or
// that a heartbeat was not answered; last old connection gone), when the last effect left, when runs were taken over, and how
// long after the heal effects leave again. At the end every run has ended, each visit had one
// key, and PostgreSQL holds no session that nobody uses.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { createServer } from 'node:http'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as pause } from 'node:timers/promises'
import { startEngine, waitFor } from '../e2e/lib/engine.mjs'
import { Cluster } from './lib/cluster.mjs'
import { Bouncer } from './lib/pgbouncer.mjs'
import { Namespace } from './lib/netns.mjs'
import { random } from './lib/random.mjs'
import { scenario } from './lib/scenario.mjs'
import { Sql } from './lib/sql.mjs'

const PLUGINS = join(dirname(fileURLToPath(import.meta.url)), 'plugins')
const WAYS = ['cable', 'replies', 'drop', 'interface', 'requests', 'vanished']
const LEASE = { here: 1000, far: 1000, pooled: 10000 }
// More runs than all three may hold: who is back has some of its own, or finds some at once.
const SLOTS = 8, LIVE = 60, STEPS = 6
const NOTICED_MS = 5000, GONE_MS = 7000, ORPHANS_MS = 8000, HEALED_MS = 2000, SEND_SHARE = 0.6
// An idle connection may be asked something just before its keepalives give it up: 2 + 1 + 3 s.
const SLACK_MS = 250 // a request on its way, two clocks of one loop that is busy

const step = (i) => `  call "p${i}" { recorder.put, with = { tag = "{run.id}/p${i}" }, retry = { attempts = 100, base = "50ms", cap = "200ms" }, timeout = "1s" },
  wait "w${i}" { for_ = "40ms" },`
const WORKFLOW = `local recorder = connector "recorder"
return workflow "partitioned" {
  doc = "Effects all the time.", input = { n = integer },
${Array.from({ length: STEPS }, (_, i) => step(i + 1)).join('\n')}
  succeed "done" {},
}`

/** The world: who sent what when. Each engine has an address of its own. */
class Sink {
  constructor() { Object.assign(this, { rows: [], servers: [] }) }

  async listen(who, host) {
    const server = createServer((req, res) => {
      const at = Date.now()
      let text = ''
      req.on('data', (d) => { text += d })
      req.on('end', () => {
        this.rows.push({ at, who, key: req.headers['idempotency-key'], tag: JSON.parse(text).tag })
        setTimeout(() => { res.writeHead(200, { 'content-type': 'application/json' }); res.end('{"id":"x"}') }, 20)
      })
    })
    this.servers.push(server)
    await new Promise((done) => server.listen(0, host, done))
    return `recorder=http://${host}:${server.address().port}`
  }

  of(who, from, to = Infinity) { return this.rows.filter((r) => r.who === who && r.at >= from && r.at < to) }
  stop() { for (const s of this.servers) { s.closeAllConnections(); s.close() } }
}

/** Also what never came: null is less than any number. */
const missed = (ms, most) => !(Number.isFinite(ms) && ms <= most)
const percentile = (list, p) => { const s = [...list].sort((a, b) => a - b); return s.length ? s[Math.min(s.length - 1, Math.ceil(p / 100 * s.length) - 1)] : NaN }
const spread = (list) => `p50 ${percentile(list, 50)}  p95 ${percentile(list, 95)}  p99 ${percentile(list, 99)}  worst ${Math.max(...list)} ms of ${list.length}`

class Partition {
  constructor(s) { Object.assign(this, { s, r: random(s.o.seed), engines: {}, sink: new Sink(), started: 0, figures: [], notes: new Map() }) }

  async begin() {
    this.dir = mkdtempSync(join(tmpdir(), 'holdpoint-partition.'))
    chmodSync(this.dir, 0o777)
    this.net = new Namespace().start()
    this.cluster = await new Cluster({ listen: this.net.db, from: this.net.from }).start()
    this.db = new Sql(() => this.cluster.owner)
    const tcp = (user) => `host=${this.net.db} user=${user} dbname=holdpoint sslmode=disable`
    const socket = (user) => `host=${this.cluster.host} user=${user} dbname=holdpoint`
    this.pooler = await new Bouncer({ host: this.net.db, dir: this.dir, wrap: this.net.wrap }).start()
    const pooled = (user) => this.pooler.conninfo(user)
    const engine = async (name, conninfo, more, args = []) => {
      this.engines[name] = await startEngine({ workers: 1, lease: `${LEASE[name]}ms`, simulated: 'resend', owner: this.cluster.owner, ...more,
        args: ['--poll', '200ms', '--slots', String(SLOTS), '--base-url', await this.sink.listen(name, this.net.out), '--database', conninfo('holdpoint_engine'),
          '--sql-database', conninfo('holdpoint_workflow'), '--admin-database', `host=${this.cluster.host} user=postgres dbname=holdpoint`, ...args] })
    }
    const inside = { wrap: this.net.wrap, listen: `${this.net.there}:0` }
    await engine('here', socket)
    await engine('far', tcp, inside)
    await engine('pooled', pooled, inside, ['--pooled'])
    const file = join(this.dir, 'partitioned.lua')
    writeFileSync(file, WORKFLOW)
    const done = await this.engines.here.cli(['deploy', file, '--plugins', PLUGINS])
    if (done.code !== 0) throw new Error(done.stdout + done.stderr)
    this.feeding = this.#feed()
  }

  /** Runs belong to nobody when they start: whoever claims first has them. */
  async #feed() {
    while (!this.fed) {
      try {
        const [[live]] = await this.db.query('select count(*) from holdpoint.run_state where status <= 3')
        if (Number(live) < LIVE) {
          await this.db.query(`select holdpoint.start('partitioned', jsonb_build_object('n', g), 'p:' || g)
            from generate_series(${this.started + 1}, ${this.started + LIVE - Number(live)}) g`)
          this.started += LIVE - Number(live)
        }
      } catch (e) { if (!/psql/.test(e.message)) throw e } // PostgreSQL is being restarted
      await pause(100)
    }
  }

  /** How long after `from` an engine said that its database does not answer; null: not yet. */
  noticed(name, from) {
    const told = this.engines[name].log.find((l) => Date.parse(l.time) >= from && /^database connection lost$|^a heartbeat was not acknowledged$/.test(l.message))
    return told ? Date.parse(told.time) - from : null
  }

  restartPostgres() {
    return promisify(execFile)('setpriv', ['--reuid=holdpoint', '--regid=holdpoint', '--init-groups', '--', '/usr/lib/postgresql/15/bin/pg_ctl', 'restart', '-s', '-w', '-m', 'immediate',
      '-D', join(this.cluster.host, 'data'), '-l', join(this.cluster.host, 'server.log')], { cwd: this.cluster.host, timeout: 60000 })
  }

  /** long: the cut lasts until `pooled` may not send any more, either. */
  async cycle(way, long) {
    const { net, sink } = this
    const f = { way, noticed: {} }, least = long ? LEASE.pooled * SEND_SHARE + 2000 : LEASE.far + 2000
    await waitFor('all three send', () => Object.keys(LEASE).every((who) => sink.of(who, Date.now() - 700).length > 0), 30000)
    const old = new Set([...net.connections(5432)].filter(([, program]) => program === 'holdpoint').map(([port]) => port))
    for (const who of ['far', 'pooled']) await this.engines[who].api('GET', '/api/v1/workflows') // the token is known for a moment
    const held = await this.db.query(`select s.run_id, s.epoch from holdpoint.ready y join holdpoint.run_state s using (run_id)
      where y.engine_id = (select max(id) from holdpoint.engine where pid = ${this.engines.far.pids()['worker-1']})`)
    const t0 = Date.now()
    net.cut(way === 'vanished' ? 'cable' : way)
    const cut = Date.now() // programs take their time: what is acknowledged until then prolongs a lease
    if (way === 'vanished') await this.restartPostgres()
    if (way !== 'vanished') for (const who of ['far', 'pooled']) this.#note(who)
    for (let up = old.size; Date.now() - t0 < 9000; await pause(40)) {
      for (const who of ['far', 'pooled']) f.noticed[who] ??= this.noticed(who, t0)
      if (up > 0) {
        up = [...net.connections(5432).keys()].filter((port) => old.has(port)).length
        if (up === 0) f.gone = Date.now() - t0
      }
      if (way === 'vanished' && Date.now() - t0 > 1200) break // the host is back, and knows nothing of them
      // What it sends until it has noticed may arrive, and prolong its lease; what arrives but for its
      // last bytes locks its runs until PostgreSQL gives that session up.
      if (f.gone && f.noticed.far && f.noticed.pooled && Date.now() - t0 > least && (held.length < 3 || (await this.#taken(held, t0)).length > 0)) break
    }
    f.old = old.size
    const t1 = Date.now()
    f.down = t1 - t0
    net.heal()
    for (const who of ['far', 'pooled']) f.last = { ...f.last, [who]: Math.max(0, ...sink.of(who, cut, t1).map((r) => r.at - cut)) }
    f.back = {}
    await waitFor('both send again', () => {
      for (const who of ['far', 'pooled']) f.back[who] ??= sink.of(who, t1).map((r) => r.at - t1)[0]
      return f.back.far !== undefined && f.back.pooled !== undefined
    }, 20000).catch(() => {})
    for (const who of ['far', 'pooled']) if (missed(f.back[who], HEALED_MS)) f.story = [...f.story ?? [], ...this.#story(who, t0, t1)]
    f.taken = await this.#taken(held, t0)
    f.elsewhere = f.taken.filter((ms) => ms < f.down).length
    f.long = long
    f.orphans = (await this.orphans()).length
    this.figures.push(f)
  }

  /** What an engine, and its pooler, said since the cut; times are after the heal. */
  #story(who, t0, t1) {
    const said = this.engines[who].log.filter((l) => l.message !== 'run finished')
      .map((l) => [Date.parse(l.time), `${l.process}: ${l.message}${l.error ? `: ${l.error.split('\n')[0]}` : ''}`])
    if (who === 'pooled') said.push(...this.pooler.said())
    return said.filter(([at]) => at >= t0).sort(([a], [b]) => a - b).map(([at, what]) => `    ${who} ${at - t1} ms ${what}`).slice(0, 90)
  }

  /** A client of the one that is cut off: what it is told is so. */
  #note(who) {
    const key = `${who}:${this.notes.size}`, began = Date.now()
    const note = { who, status: 0, ms: 0 }
    this.notes.set(key, note)
    note.answer = this.engines[who].api('POST', '/api/v1/events', { name: 'partition.note', key, payload: {} }).catch(() => ({ status: 0 }))
      .then((a) => Object.assign(note, { status: a.status, ms: Date.now() - began }))
  }

  /** Sessions of the namespace whose connection it does not have any more. */
  async orphans() {
    const mine = this.net.connections(5432)
    const rows = await this.db.query(`select client_port, state from pg_stat_activity where client_addr << '${this.net.from}' and client_addr <> '${this.net.db}'`)
    return rows.filter(([port]) => !mine.has(port))
  }

  /** Runs that `far` had in hand: when another one had its first commit of each. */
  async #taken(held, t0) {
    if (held.length === 0) return []
    const rows = await this.db.query(`select min(h.at) / 1000 - ${t0} from unnest('{${held.map(([run]) => run)}}'::bigint[], '{${held.map(([, epoch]) => epoch)}}'::int[]) x(run, epoch)
      join holdpoint.history h on h.run_id = x.run and h.epoch > x.epoch group by x.run`)
    return rows.map(([ms]) => Number(ms)).filter((ms) => ms > LEASE.far / 2) // before that `far` had still parked it
  }

  async heal() {
    this.fed = true
    await this.feeding
    await waitFor('every run ends', async () => (await this.db.query('select count(*) from holdpoint.run_state where status <= 3'))[0][0] === '0', 60000)
  }

  async end() {
    this.fed = true
    this.net?.how && this.net.heal()
    for (const engine of Object.values(this.engines)) await engine.stop().catch((e) => this.s.bad(e.message))
    this.pooler?.stop()
    this.sink.stop()
    this.db?.close()
    await this.cluster?.stop()
    this.net?.stop()
    if (this.dir) rmSync(this.dir, { recursive: true, force: true })
  }
}

function judge(s, p) {
  const of = (fn, ways = WAYS) => p.figures.filter((f) => ways.includes(f.way)).map(fn).filter((x) => Number.isFinite(x))
  const cut = WAYS.filter((w) => w !== 'vanished')
  for (const way of WAYS)
    s.landed(way, p.figures.filter((f) => f.way === way).length)
  s.say('noticed', `far: first ${spread(of((f) => f.noticed.far, cut))}`)
  s.say('', `far: every old connection gone ${spread(of((f) => f.gone, cut))}`)
  s.say('', `pooled: ${spread(of((f) => f.noticed.pooled, cut))}`)
  s.say('last effect', `far: ${spread(of((f) => f.last.far))} (lease ${LEASE.far} ms); pooled: ${spread(of((f) => f.last.pooled))} (lease ${LEASE.pooled} ms)`)
  s.say('taken over', `less the lease: ${spread(p.figures.flatMap((f) => f.taken).map((ms) => ms - LEASE.far))}`)
  s.say('healed', `far: ${spread(of((f) => f.back.far))}; pooled: ${spread(of((f) => f.back.pooled))}`)
  for (const way of WAYS) s.say('', `${way.padEnd(10)} ${p.figures.filter((f) => f.way === way).map((f) => `noticed ${f.noticed.far ?? '-'}/${f.gone ?? '-'}/${f.noticed.pooled ?? '-'} last ${f.last.far}/${f.last.pooled} back ${f.back.far}/${f.back.pooled}`).join(' | ')}`)
  for (const f of p.figures) {
    if (cut.includes(f.way)) for (const [what, ms, most] of [['far noticed', f.noticed.far, NOTICED_MS], ['pooled noticed', f.noticed.pooled, NOTICED_MS],
      ['the last old connection of far was gone', f.gone, GONE_MS]])
      if (missed(ms, most)) s.bad(`${f.way}: ${what} after ${ms} ms (of at most ${most})`)
    for (const who of ['far', 'pooled']) {
      if (f.last[who] > LEASE[who] * SEND_SHARE + SLACK_MS) s.bad(`${f.way}: ${who} sent ${f.last[who]} ms after the cut, lease ${LEASE[who]}`)
      // who was cut off until its lease was over is another engine when it is back
      if (missed(f.back[who], f.long ? HEALED_MS + LEASE.far : HEALED_MS)) s.bad(`${f.way}: ${who} went on ${f.back[who]} ms after the heal (of at most ${HEALED_MS})\n${f.story.join('\n')}`)
    }
  }
  for (const f of p.figures) if (cut.includes(f.way) && f.taken.length > 2 && !f.elsewhere) s.bad(`${f.way}: of ${f.taken.length} runs of far none went on elsewhere while it was cut off for ${f.down} ms: after ${f.taken.join(', ')} ms`)
  if (!s.o.short) s.landed('long cuts', p.figures.filter((f) => f.long && f.down > LEASE.pooled * SEND_SHARE).length)
  if (!p.figures.some((f) => f.taken.length)) s.bad('no run was taken over: this run proves nothing')
}

async function checkEnd(s, p) {
  await s.check('one key per visit, nothing lost', async (bad) => {
    const keys = new Map()
    for (const r of p.sink.rows) keys.set(r.tag, (keys.get(r.tag) ?? new Set()).add(r.key))
    for (const [tag, set] of keys) if (set.size > 1) bad(`${tag} was sent under ${set.size} keys`)
    for (const [run, status] of await p.db.query('select run_id, holdpoint.status_name(status) from holdpoint.run_state'))
      for (let i = 1; i <= STEPS; i++) if (status !== 'succeeded' || !keys.has(`${run}/p${i}`)) bad(`run ${run} is ${status}; p${i} was ${keys.has(`${run}/p${i}`) ? '' : 'never '}sent`)
    s.say('effects', `${p.sink.rows.length} requests of ${p.started} runs, ${p.sink.rows.length - keys.size} repeats under the same key`)
  })
  await p.cluster.fsck(s, p.engines.here, 'at the end')
  await s.check('clients of who is cut off', async (bad) => {
    for (const note of p.notes.values()) await note.answer
    const mail = new Map(await p.db.query(`select key, count(*) from holdpoint.mail where name = 'partition.note' group by 1`))
    const of = (who) => [...p.notes.values()].filter((x) => x.who === who)
    for (const who of ['far', 'pooled']) s.say('told', `${who}: ${of(who).map((x) => `${x.status} after ${x.ms} ms`).join(', ')}`)
    for (const [key, { status }] of p.notes) {
      const n = Number(mail.get(key) ?? 0)
      if (n > 1 || (status === 200 && n !== 1) || (status === 503 && n !== 0)) bad(`event ${key}, answered ${status}, is there ${n} times`)
    }
  })
  await s.check('no session without a client', async (bad) => {
    s.say('orphans', `sessions of PostgreSQL whose client had gone, after each heal: ${p.figures.map((f) => f.orphans).join(' ')}`)
    await waitFor('PostgreSQL notices', async () => (await p.orphans()).length === 0, ORPHANS_MS)
      .catch(async () => bad(`${JSON.stringify(await p.orphans())} after ${ORPHANS_MS} ms`))
  })
}

scenario('partition', { time: 200, short: 40, seed: 11, cycles: 24 }, async (s) => {
  const missing = Namespace.missing() ?? Bouncer.missing
  if (missing) return s.skip(missing)
  const p = new Partition(s)
  s.worlds.push(p)
  await p.begin()
  const end = Date.now() + s.o.time * 1000
  for (let i = 0; i < s.o.cycles && Date.now() < end; i++) await p.cycle(WAYS[i % WAYS.length], !s.o.short && i % (WAYS.length + 1) === 2)
  await p.heal()
  judge(s, p)
  await checkEnd(s, p)
})
