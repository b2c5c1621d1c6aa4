// database.mjs: the way to the database fails.
//
// Three workers, and one more behind a pgbouncer, reach PostgreSQL through a proxy (lib/pgproxy.mjs) that knows which statement
// is on its way: it cuts before the commit, after the commit and before its answer, in the
// middle of a message in either direction; it delivers late, answers late, and swallows without
// a word. Random workflows run meanwhile, webhooks and events come, people decide.
//
// Counted is what the proxy knows: the server has committed, and nobody has heard of it. Each
// such commit must be asked about by (run, epoch, rev), or its run read again, or its run taken
// over; that its run has ended is no answer, unless its engine died, too. Clients keep a log of what was acknowledged to them: what got a 2xx is in the database
// once, what got "nothing was done" (503) is not there.
import { setTimeout as pause } from 'node:timers/promises'
import { chmodSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startEngine, waitFor } from '../e2e/lib/engine.mjs'
import { Cluster } from './lib/cluster.mjs'
import { Bouncer } from './lib/pgbouncer.mjs'
import { PgProxy } from './lib/pgproxy.mjs'
import { checkAll } from './lib/checks.mjs'
import { scenario } from './lib/scenario.mjs'

const PLUGINS = join(dirname(fileURLToPath(import.meta.url)), 'plugins')
const ALL = ['before', 'unsynced', 'stuck', 'half_request', 'late', 'after', 'half_reply', 'slow', 'deaf', 'mute']
const ONCE = ['before', 'unsynced', 'half_request', 'late', 'after', 'half_reply', 'slow'] // of what a worker says when it begins and ends
const COMMITS = ['commit', 'sql_commit']
const ASKED_MS = 15000 // a silent connection is given up, and its commits are looked up, before that
const READS = ['before', 'half_request', 'after', 'half_reply', 'slow']

/** kind → places with how often each has to strike; n: of the lost acknowledgements of commits */
function plan(n) {
  const few = (places, times) => Object.fromEntries(places.map((p) => [p, times]))
  const k = n >= 500 ? 4 : 1
  return {
    commit: { chance: 0.5, places: { ...few(ALL, 6 * k), after: Math.ceil(n * 0.6), half_reply: Math.ceil(n * 0.4), stuck: k, deaf: 1, mute: 2 } },
    sql_commit: { chance: 0.4, places: { ...few(ALL, 3 * k), stuck: 2, deaf: 1, mute: 1 } },
    statement: { chance: 0.2, places: { ...few(READS, 2 * k), late: k, unsynced: k, deaf: 1, mute: 1 } },
    claim: { chance: 0.15, places: { ...few(ALL, 3 * k), stuck: 1, deaf: 1, mute: 1 } },
    start: { chance: 0.15, places: { ...few(ALL, 3 * k), stuck: 1, deaf: 1, mute: 1 } },
    ingest: { chance: 0.5, places: { ...few(ALL, 3 * k), stuck: 1, deaf: 1, mute: 1 } },
    decide: { chance: 0.5, places: { ...few(ALL, 2 * k), stuck: 0, deaf: 0, mute: 0 } },
    event: { chance: 0.4, places: { ...few(ALL, 3 * k), stuck: 1, deaf: 0, mute: 0 } },
    fire: { chance: 0.3, places: { ...few(ALL, 2 * k), stuck: 0, deaf: 0, mute: 0 } },
    order: { chance: 0.3, places: { ...few(ALL, 2 * k), stuck: 0, deaf: 0, mute: 0 } },
    heartbeat: { chance: 0.04, places: { ...few(ALL, 2 * k), stuck: 1, deaf: 1, mute: 1 } },
    release: { chance: 1, places: few(ONCE, 1) },
    register: { chance: 0.7, places: few(ONCE, 1) },
    stop: { chance: 0.7, places: few(ONCE, 1) },
    look: { chance: 0.15, places: few(READS, 2 * k) },
    reload: { chance: 0.6, places: few(READS, k) },
  }
}

const OWN = {
  chaos_hooked: `local recorder = connector "recorder"
return workflow "chaos_hooked" {
  doc = "Started by a webhook.", trigger = webhook { "duffel", events = { "order.created" } },
  key = "{input.data.object.id}", input = { data = { object = { id = text } } },
  call "put" { recorder.put, with = { tag = "{run.id}/put" }, save = "put", retry = { attempts = 40, base = "50ms", cap = "400ms" }, timeout = "2s", catch = { otherwise = "done" } },
  succeed "done" {},
}`,
  chaos_asked: `return workflow "chaos_asked" {
  doc = "Somebody decides.", input = { n = integer },
  approval "ask" { ask = "Go on with {run.id}?", approvers = "1 of ops", rejected = "done", expired = "done", deadline = "10m" },
  succeed "done" {},
}`,
  chaos_spin: `return workflow "chaos_spin" {
  doc = "Many commits.", input = { n = integer },
  wait "begin" { for_ = "10ms", set = { i = 0 } },
  choose "again" { set = { i = function(run) return run.i + 1 end }, { when = function(run) return run.i < 300 end, next = "again" }, otherwise = "done" },
  succeed "done" {},
}`,
  chaos_ticks: `return workflow "chaos_ticks" {
  doc = "Started by its schedule.", trigger = schedule { cron = "@every 1s", overlap = "allow", catch_up = "all" },
  input = { tick = text },
  wait "a_moment" { for_ = "50ms" },
  succeed "done" { result = "{input.tick}" },
}`,
}

/** What clients were told: D of the reliability page. */
class Clients {
  constructor(world) { Object.assign(this, { world, n: 0, runs: new Map(), hooks: new Map(), notes: new Map(), votes: new Map(), again: 0, failed: [], busy: new Set() }) }

  /** Asks until there is a word that can be relied on; at most one answer counts. */
  async insist(ask, good) {
    for (let i = 0; ; i++) {
      const a = await ask()
      if (good(a)) { this.again += i > 0; return a }
      if (i > 200) throw new Error(`no good answer: ${a.status} ${JSON.stringify(a.body)}`)
      await pause(100)
    }
  }

  send(what) {
    const p = what().catch((e) => this.failed.push(e.message)).finally(() => this.busy.delete(p))
    this.busy.add(p)
  }

  async start(n) {
    const a = await this.insist(() => this.world.api('POST', '/api/v1/runs', { workflow: 'chaos_1', input: { n, shared: n % 7 }, key: `client:${n}` }),
      (x) => x.status === 200 || x.status === 201)
    this.runs.set(`client:${n}`, a.body.run)
  }

  async hook(n) {
    await this.insist(() => this.world.engine.webhook('duffel', { id: `evt_${n}`, type: 'order.created', data: { object: { id: `ord_${n}` } } }).catch(() => ({ status: 0 })),
      (x) => x.status >= 200 && x.status < 300)
    this.hooks.set(`ord_${n}`, true)
  }

  /** Sent once, whatever the answer. */
  async note(n) {
    const a = await this.world.api('POST', '/api/v1/events', { name: 'chaos.note', key: `note:${n}`, payload: { n } })
    this.notes.set(`note:${n}`, a.status)
  }

  /** An approval is decided once, whoever was told. */
  async ask(n) {
    const started = await this.insist(() => this.world.api('POST', '/api/v1/runs', { workflow: 'chaos_asked', input: { n }, key: `asked:${n}` }),
      (x) => x.status === 200 || x.status === 201)
    const run = started.body.run
    const shown = await this.insist(() => this.world.api('GET', `/api/v1/runs/${run}`),
      (x) => x.status === 200 && (x.body.approvals?.length || x.body.run.status === 'cancelled'))
    if (!shown.body.approvals?.length) return // the storm's people were faster than its question
    const yes = n % 2 === 0
    const told = await this.insist(() => this.world.api('POST', `/api/v1/approvals/${shown.body.approvals[0].approval}/${yes ? 'approve' : 'reject'}`,
      { reason: `told ${n}` }, { token: this.world.ops }), (x) => x.status === 200 || (x.status === 409 && /already decided by|was cancelled/.test(x.body.error.message)))
    if (told.status === 200 || /decided/.test(told.body.error.message)) this.votes.set(run, { yes, status: told.status })
  }

  async spin(n) {
    await this.world.api('POST', '/api/v1/runs', { workflow: 'chaos_spin', input: { n }, key: `spin:${n}` })
  }

  turn() {
    if (this.busy.size > 12) return
    const n = ++this.n
    const all = [() => this.start(n), () => this.note(n), () => this.ask(n), () => this.spin(n), () => this.hook(n)]
    this.send(() => all[n % all.length]())
  }

  async settle() { await Promise.all([...this.busy]) }
}

async function checkClients(c, bad) {
  for (const text of c.failed) bad(text)
  const sql = (text) => c.world.sql(text)
  // a run that failed or was cancelled without an effect frees its key: only then is there another one
  const keyed = new Map((await sql(`select r.key, string_agg(r.id::text, ',' order by r.id), string_agg(s.status::text, ',' order by r.id)
    from holdpoint.run r join holdpoint.run_state s on s.run_id = r.id where r.workflow = 'chaos_1' and r.key like 'client:%' group by 1`)).map(([k, ...x]) => [k, x]))
  for (const [key, run] of c.runs) {
    const [ids, states] = (keyed.get(key) ?? ['', '']).map((x) => x.split(','))
    if (!ids.includes(String(run))) bad(`${key} was acknowledged as run ${run}; there are ${ids}`)
    if (states.slice(0, -1).some((x) => x !== '5' && x !== '6')) bad(`${key} has runs ${ids}, whose states are ${states}`)
  }
  const hooked = new Map(await sql(`select key, count(*) from holdpoint.run where workflow = 'chaos_hooked' group by 1`))
  for (const key of c.hooks.keys()) if (hooked.get(key) !== '1') bad(`webhook ${key} got a 2xx and has ${hooked.get(key) ?? 0} runs`)
  const votes = new Map((await sql(`select a.run_id, count(v.*), max(v.decision), max(holdpoint.status_name(s.status)) from holdpoint.approval a
    join holdpoint.run r on r.id = a.run_id join holdpoint.run_state s on s.run_id = r.id
    left join holdpoint.vote v on v.approval_id = a.id where r.workflow = 'chaos_asked' group by 1`)).map(([run, ...x]) => [run, x]))
  for (const [run, told] of c.votes) {
    const [n, decision, status] = votes.get(String(run)) ?? ['0']
    if (n !== '1' || !['succeeded', 'cancelled'].includes(status)) bad(`run ${run} was decided; there are ${n} votes, it is ${status}`)
    if (told.status === 200 && decision !== (told.yes ? 'approve' : 'reject')) bad(`run ${run}: told ${JSON.stringify(told)}, the vote says ${decision}`)
  }
  const mail = new Map(await sql(`select key, count(*) from holdpoint.mail where name = 'chaos.note' group by 1`))
  for (const [key, status] of c.notes) {
    const n = Number(mail.get(key) ?? 0)
    if (n > 1 || (status === 200 && n !== 1)) bad(`event ${key}, answered ${status}, is there ${n} times`)
    if (status === 503 && n !== 0) bad(`event ${key} was answered with 503, nothing was done; it is there`)
  }
}

/** Of what was lost, this was never asked about, and nobody has to: that very commit ended its run, which is
 *  therefore never taken over, and the engine that wrote it is dead. */
async function endedWithItsEngine(world, kind, runs) {
  if (!COMMITS.includes(kind)) return false
  const rows = await world.sql(`select h.run_id from unnest('{${runs.map(([run]) => run)}}'::bigint[], '{${runs.map(([, x]) => x.epoch)}}'::int[],
      '{${runs.map(([, x]) => x.rev)}}'::int[], '{${runs.map(([, x]) => x.engine ?? 'null')}}'::bigint[]) x(run, epoch, rev, engine)
    join holdpoint.history h on h.run_id = x.run and h.rev = x.rev + 1 and h.seq = 0 and h.epoch = x.epoch and h.status > 3
    join holdpoint.engine e on e.id = x.engine and e.dead`)
  return rows.length === runs.length
}

/** That a run has ended says nothing of who knows: all have. */
async function checkAsked(s, world, proxy) {
  let report, forgotten, buried
  await s.check('each lost commit was asked about', async (bad) => {
    await waitFor('nobody has to ask any more', async () => { // who noticed last that a connection is silent asks last
      report = await proxy.report()
      forgotten = []
      buried = 0
      for (const e of report.open) if (!await endedWithItsEngine(world, e.kind, e.runs)) forgotten.push(e); else buried++
      return forgotten.length === 0
    }, ASKED_MS).catch(() => {})
    for (const e of forgotten) bad(`${e.kind} ${e.place}: ${JSON.stringify(e.runs)}`)
  })
  const lost = COMMITS.reduce((n, kind) => n + total(report.lost[kind]), 0), open = COMMITS.reduce((n, kind) => n + (report.lost[kind]?.open ?? 0), 0)
  s.say('acks lost', `${lost} of commits; of ${buried} of them the run had ended and its engine died: nobody is left to ask`)
  s.landed('asked about', lost - open, s.o.lost)
  return report
}

const total = (x) => Object.values(x ?? {}).reduce((a, b) => a + b, 0)

function table(s, report) {
  const places = ALL
  s.say('', `${'kind'.padEnd(11)}${places.map((p) => p.padStart(13)).join('')}${'acks lost'.padStart(11)}`)
  for (const [kind, p] of Object.entries(plan(s.o.lost)))
    s.say('', `${kind.padEnd(11)}${places.map((x) => String(x in p.places && p.places[x] ? report.landed[kind]?.[x] ?? 0 : '-').padStart(13)).join('')}${String(total(report.lost[kind])).padStart(11)}`)
}

scenario('database', { time: 240, short: 25, seed: 7, workers: 3, workflows: 5, lost: 1000 }, async (s) => {
  if (s.o.short) s.o.lost = Math.min(s.o.lost, 60)
  const cluster = await new Cluster().start()
  const proxy = await new PgProxy({ host: cluster.host }, s.o.seed).start()
  const world = s.world({ workers: s.o.workers, workflows: s.o.workflows, live: 30, engine: { simulated: 'duffel,resend', owner: cluster.owner,
    args: ['--database', proxy.conninfo('holdpoint_engine'), '--sql-database', proxy.conninfo('holdpoint_workflow'), '--admin-database', cluster.conninfo] } })
  let pooler, pooled
  s.worlds.push({ async end() { await pooled?.stop(); pooler?.stop(); proxy.stop(); await cluster.stop() } }) // after the engine
  await world.begin()
  if (Bouncer.missing) s.skip(`a worker behind a pooler ${Bouncer.missing}`)
  else {
    chmodSync(world.dir, 0o777)
    pooler = await new Bouncer({ host: '127.0.0.1', port: proxy.port, dir: world.dir }).start()
    pooled = await startEngine({ workers: 1, lease: '1s', simulated: 'resend', owner: cluster.owner, onLine: world.onLine, args: ['--pooled', '--poll', '200ms',
      '--base-url', `recorder=${world.recorder.url}`, '--database', pooler.conninfo('holdpoint_engine'), '--sql-database', pooler.conninfo('holdpoint_workflow'),
      '--admin-database', cluster.conninfo] })
  }
  for (const [name, text] of Object.entries(OWN)) {
    const file = join(world.dir, `${name}.lua`)
    writeFileSync(file, text)
    const done = await world.engine.cli(['deploy', file, '--plugins', PLUGINS])
    if (done.code !== 0) throw new Error(`${name}: ${done.stdout}${done.stderr}`)
  }
  const clients = new Clients(world)
  let report
  proxy.plan(plan(s.o.lost))
  const began = Date.now()
  let drains = 0
  do {
    await world.rage(1, () => clients.turn(), () => 50)
    report = await proxy.report()
    const next = `worker-${1 + drains % s.o.workers}`
    if (Date.now() - began > 3000 * drains && world.engine.pids()[next]) { drains++; world.engine.kill(next, 'SIGTERM') } // it gives back what it has in hand
  } while (Object.values(report.left).some((p) => total(p.places) > 0) && Date.now() - began < s.o.time * 1000)
  proxy.plan({})
  const raged = (Date.now() - began) / 1000
  await clients.settle()
  await world.heal()
  report = await proxy.report()
  table(s, report)
  await checkAll(s, world)
  await cluster.fsck(s, world.engine, 'at the end')
  await s.check('clients', (bad) => checkClients(clients, bad))
  report = await checkAsked(s, world, proxy)
  s.say('raged', `${raged.toFixed(0)} s, ${report.cuts} connections cut, ${report.connections} made, ${drains} workers drained; all runs ended ${(world.healed / 1000).toFixed(1)} s after`)
  s.say('commits', `of ${total(report.lost.commit) + total(report.lost.sql_commit)} lost: ${JSON.stringify(report.lost.commit)}, of sql states ${JSON.stringify(report.lost.sql_commit)}`)
  if (pooled) s.say('pooled', `${pooled.log.filter((l) => l.message === 'run finished').length} runs ended behind the pooler, whose connections were lost ${
    pooled.log.filter((l) => l.message === 'database connection lost').length} times`)
  s.say('clients', `${clients.runs.size} starts, ${clients.hooks.size} webhooks, ${clients.notes.size} events, ${clients.votes.size} decisions; ${clients.again} had to ask again`)
  const all = Object.entries(plan(s.o.lost)).filter(([kind]) => !s.o.short || kind === 'commit') // the short form has no time for the rare ones
    .flatMap(([kind, p]) => Object.keys(p.places).filter((x) => p.places[x] > 0).map((place) => [kind, place]))
  const never = all.filter(([kind, place]) => !report.landed[kind]?.[place])
  s.landed('places', all.length - never.length, all.length)
  for (const [kind, place] of never) s.bad(`no ${kind} was struck at ${place}: this run proves nothing of it`)
})
