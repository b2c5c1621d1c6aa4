// storm.mjs [--time SECONDS] [--seed N] [--workers N] [--workflows N]: generated workflows
// while workers die.
//
// Random workflows over every kind of state (generate.mjs) run on a real engine against
// the recorder (recorder.mjs), which is on disk before it answers. Workers are killed
// with -9, one or two at a time; people approve, reject, cancel, pause and repair;
// events come early, late and not at all. Then nobody is killed any more, the recorder
// answers, and every run has to end. What is checked at the end is at the end of this
// file. The seed is printed, and so is how many of the faults really landed.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync, chmodSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startEngine, waitFor } from '../e2e/lib/engine.mjs'
import { generate, random } from './generate.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const LIVE_MAX = 40   // runs under way at once
const HEAL_MS = 180000
const KINDS_ROWS = 50 // rows of chaos_rows, which every sweep passes

function options(words) {
  const o = { time: 300, seed: Date.now() % 2 ** 31, workers: 3, workflows: 6 }
  for (let i = 0; i < words.length; i += 2) {
    const name = words[i].replace(/^--/, '')
    if (!(name in o) || !/^\d+$/.test(words[i + 1] ?? '')) throw new Error(`storm.mjs: ${words[i]} takes a number; there are --${Object.keys(o).join(', --')}`)
    o[name] = Number(words[i + 1])
  }
  return o
}

class Recorder {
  constructor(dir, seed) {
    this.file = join(dir, 'recorder.jsonl')
    this.child = spawn(process.execPath, [join(here, 'recorder.mjs'), this.file, String(seed)], { stdio: ['pipe', 'pipe', 'inherit'] })
  }

  async start() {
    for await (const line of createInterface({ input: this.child.stdout })) { this.url = `http://127.0.0.1:${line}`; return this }
    throw new Error('the recorder did not start')
  }

  calm() { return fetch(`${this.url}/calm`, { method: 'POST' }) }
  rows() { return readFileSync(this.file, 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line)) }
  stop() { this.child.stdin.end() }
}

class Storm {
  constructor(o) {
    Object.assign(this, o)
    this.r = random(o.seed)
    this.dir = mkdtempSync(join(tmpdir(), 'holdpoint-chaos.'))
    chmodSync(this.dir, 0o755)
    this.started = 0
    this.counts = { kills: 0, double_kills: 0, approved: 0, rejected: 0, cancelled: 0, paused: 0, events: 0, repaired: 0, given_up: 0, whys: 0 }
    this.unknown = []
    this.repairs = new Map()
  }

  async begin() {
    this.recorder = await new Recorder(this.dir, this.seed).start()
    this.engine = await startEngine({ workers: this.workers, lease: '1s', simulated: 'resend', // requests may then go to this machine
      args: ['--poll', '200ms', '--base-url', `recorder=${this.recorder.url}`] })
    await this.sql(`create table public.chaos_ledger (run bigint, state text, undone int not null default 0);
      create table public.chaos_rows (id bigint primary key);
      insert into public.chaos_rows select generate_series(1, ${KINDS_ROWS});
      create table public.chaos_swept (run bigint, state text, id bigint);
      grant select, insert, update on public.chaos_ledger, public.chaos_rows, public.chaos_swept to holdpoint_workflow`)
    this.sources = generate(this.seed, this.workflows)
    for (const [name, source] of Object.entries(this.sources)) {
      const file = join(this.dir, `${name}.lua`)
      writeFileSync(file, source)
      const done = await this.engine.cli(['deploy', file, '--plugins', join(here, 'plugins')])
      assert.equal(done.code, 0, `${name}: ${done.stdout}${done.stderr}\n${source}`)
    }
    this.ops = await this.engine.tokenFor('olga', { roles: ['ops'] })
  }

  sql(text) { return this.engine.sql(text) }
  /** Answers may be lost with the worker that gave them: the caller looks at the world again. */
  async api(...words) {
    try { return await this.engine.api(...words) } catch { return { status: 0, body: {} } }
  }

  /** What is not over: [{ run, status, state, kind }] */
  async live() {
    const rows = await this.sql(`select s.run_id, s.status, s.phase, r.workflow from holdpoint.run_state s
      join holdpoint.run r on r.id = s.run_id where s.status <= 3 order by 1`)
    return rows.map(([run, status, phase, workflow]) => ({ run: Number(run), status: Number(status), phase: Number(phase), workflow }))
  }

  async start() {
    const workflow = this.started < 2 ? 'chaos_full' : this.r.pick(Object.keys(this.sources).filter((n) => n !== 'chaos_child'))
    const n = this.started++
    await this.api('POST', '/api/v1/runs', { workflow, input: { n, shared: n % 7 }, key: `storm:${n}` })
  }

  /** The world does something to one of them. */
  async poke(live) {
    const x = this.r.next(), one = this.r.pick(live)
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
  async repair(live) {
    for (const { run } of live.filter((l) => l.status === 3)) {
      const times = (this.repairs.get(run) ?? 0) + 1
      const order = times > 10 ? 'give-up' : 'retry'
      const done = await this.api('POST', `/api/v1/runs/${run}/${order}`, { reason: 'chaos' })
      if (done.status !== 200) continue
      this.repairs.set(run, times)
      this.counts[order === 'retry' ? 'repaired' : 'given_up']++
    }
  }

  async kill() {
    const pids = this.engine.pids()
    const workers = Object.keys(pids).filter((name) => name.startsWith('worker-')).map((name) => pids[name]).filter(Boolean)
    if (workers.length < 2) return
    const first = this.r.int(workers.length), two = this.r.chance(0.4)
    for (const pid of two ? [workers[first], workers[(first + 1) % workers.length]] : [workers[first]])
      try { process.kill(pid, 'SIGKILL'); this.counts.kills++ } catch (e) { if (e.code !== 'ESRCH') throw e }
    this.counts.double_kills += two
  }

  async rage() {
    const end = Date.now() + this.time * 1000
    let next = Date.now() + 1000, told = Date.now()
    while (Date.now() < end) {
      const live = await this.live()
      if (live.length < LIVE_MAX) await this.start()
      if (live.length) await this.poke(live)
      await this.repair(live)
      if (Date.now() > next) { await this.kill(); next = Date.now() + 300 + this.r.int(1700) }
      if (Date.now() > told + 30000) { told = Date.now(); console.log(`  ${this.started} started, ${live.length} live, ${this.counts.kills} kills`) }
      await pause(20)
    }
  }

  async heal() {
    await this.recorder.calm()
    let left
    const began = Date.now()
    await waitFor('every run ends', async () => {
      await this.resume(1)
      await this.decide()
      left = await this.live()
      await this.repair(left)
      for (const { run } of left.slice(0, 2)) await this.why(run)
      if (left.length) await pause(200)
      return left.length === 0
    }, HEAL_MS).catch(async (e) => {
      for (const { run } of left.slice(0, 5)) {
        const why = (await this.api('GET', `/api/v1/runs/${run}/why`)).body
        e.message += `\n  run ${run}: ${why?.sentence}`
        const rows = await this.sql(`select h.rev, h.seq, h.epoch, holdpoint.move_name(h.move), holdpoint.state_name(r.digest, h.state), h.visit, h.phase,
          h.attempt, h.code, left(h.message, 100), h.actor from holdpoint.history h join holdpoint.run r on r.id = h.run_id where run_id = ${run} order by rev desc, seq desc limit 14`)
        e.message += rows.map((row) => `\n    ${row.join(' ')}`).join('')
      }
      throw e
    })
    this.healed = Date.now() - began
  }

  async end() {
    try { await this.engine?.stop() } finally {
      this.recorder?.stop()
      rmSync(this.dir, { recursive: true, force: true })
    }
  }
}

// ---- what must be true ----

const group = (rows, of) => rows.reduce((m, row) => m.set(of(row), [...(m.get(of(row)) ?? []), row]), new Map())

/** The recorder's word: one effect per key, the same bytes under it, one key per visit. */
function checkRecorder(rows, bad) {
  for (const [key, of] of group(rows, (x) => `${x.op} ${x.key}`)) {
    const acts = of.reduce((n, x) => n + x.acts, 0)
    if (acts > 1) bad(`${key}: ${acts} effects`)
    if (new Set(of.map((x) => x.body)).size > 1) bad(`${key}: different requests under one key`)
  }
  for (const [tag, of] of group(rows, (x) => `${x.op} ${x.tag}`))
    if (new Set(of.map((x) => x.key)).size > 1) bad(`${tag}: sent under two keys`)
}

/** Nothing committed that never happened, nothing sent that was not admitted, nothing lost. */
async function checkEngine(storm, rows, bad) {
  const sql = (text) => storm.sql(text)
  const acted = new Set(rows.filter((x) => x.acts).map((x) => x.tag))
  const sent = new Set(rows.filter((x) => x.op !== 'undo').map((x) => x.tag))
  for (const [run, name] of await sql(`select distinct run_id, name from holdpoint.saved where name ~ '_(put|once)$' or name = 'put'`))
    if (!acted.has(`${run}/${name}`)) bad(`run ${run} saved ${name}, and the recorder has no such effect`)
  const admitted = new Set((await sql(`select distinct h.run_id, holdpoint.state_name(r.digest, h.state) from holdpoint.history h
    join holdpoint.run r on r.id = h.run_id where h.flags & 1 <> 0`)).map(([run, state]) => `${run}/${state}`))
  for (const tag of sent) if (!admitted.has(tag)) bad(`${tag} was sent and never admitted`)
  for (const [run, state, n] of await sql('select run, state, count(*) from public.chaos_ledger group by 1, 2 having count(*) <> 1 or max(undone) > 1'))
    bad(`run ${run}: the statement of ${state} is there ${n} times, or undone twice`)
  for (const [run, state, n] of await sql(`select run, state, count(*) from public.chaos_swept group by 1, 2 having count(*) <> ${KINDS_ROWS} or count(distinct id) <> count(*)`)) {
    const whole = (await sql(`select count(*) from holdpoint.saved where run_id = ${run} and name = '${state}'`))[0][0]
    if (whole !== '0' || Number(n) > KINDS_ROWS) bad(`run ${run}: ${state} swept ${n} rows instead of ${KINDS_ROWS}`)
  }
  for (const [run] of await sql(`select h.run_id from holdpoint.history h where h.seq = 0 group by 1
      having max(h.rev) <> max(h.rev) filter (where h.move = 9)`)) bad(`run ${run} moved after its end`)
  for (const [run] of await sql(`select run_id from holdpoint.history group by 1 having count(distinct visit) <> max(visit)`))
    bad(`run ${run}: a visit is missing`)
}

/** Who went back has undone all it could, once; who did not has undone nothing. */
async function checkUndo(storm, rows, bad) {
  const undone = new Set(rows.filter((x) => x.op === 'undo' && x.acts).map((x) => x.tag))
  const log = await storm.sql(`select u.run_id, holdpoint.state_name(r.digest, u.state), u.status, s.status
    from holdpoint.undo_log u join holdpoint.run r on r.id = u.run_id join holdpoint.run_state s on s.run_id = u.run_id`)
  const back = new Set((await storm.sql('select run_id from holdpoint.unwinding')).map(([run]) => run))
  for (const [run, state, status] of log) {
    const name = state.replace(/\.undo$/, '')
    if (back.has(run) && status === '1' && !storm.repairs.has(Number(run))) bad(`run ${run} went back and left ${name}`)
    if (/_put$/.test(name) && status === '2' && !undone.has(`${run}/${name}`)) bad(`run ${run} says it undid ${name}; the recorder does not`)
    if (!back.has(run) && undone.has(`${run}/${name}`)) bad(`run ${run} undid ${name} without going back`)
  }
  for (const [run] of await storm.sql('select distinct run from public.chaos_ledger where undone > 0'))
    if (!back.has(run)) bad(`run ${run} undid a statement without going back`)
}

/** Who has ended holds no place and no budget, and the engine never refused what was right. */
async function checkLimits(storm, bad) {
  await waitFor('what was left behind is given back', async () => (await storm.sql('select count(*) from holdpoint.permit'))[0][0] === '0')
    .catch(async () => bad(`permits of runs that have ended: ${JSON.stringify(await storm.sql('select run_id, visit, limiter_id from holdpoint.permit limit 5'))}`))
  for (const [kind, name, key, used, waiting] of await storm.sql(`select kind, name, key, used, waiting from holdpoint.limiter
      where waiting <> 0 or (used <> 0 and kind not in ('budget', 'rate', 'start_rate'))`))
    bad(`${kind} ${name} ${key}: ${used} used and ${waiting} wait, and nobody lives`)
  for (const [run, code, message] of await storm.sql(`select run_id, code, left(message, 120) from holdpoint.history
      where move = 8 and code in ('commit_refused', 'script_error', 'request_invalid')`))
    bad(`run ${run} was held: ${code}: ${message}`)
}

async function main() {
  const o = options(process.argv.slice(2))
  console.log(`chaos: ${o.time} s, seed ${o.seed}, ${o.workers} workers, ${o.workflows + 1} workflows`)
  const storm = new Storm(o), wrong = []
  try {
    await storm.begin()
    await storm.rage()
    await storm.heal()
    const rows = storm.recorder.rows(), bad = (text) => wrong.push(text)
    checkRecorder(rows, bad)
    await checkEngine(storm, rows, bad)
    await checkUndo(storm, rows, bad)
    await checkLimits(storm, bad)
    for (const why of storm.unknown) bad(`why of run ${why.run}: ${why.cause}: ${why.sentence}`)
    const held = await storm.sql(`select h.code, left(h.message, 120), holdpoint.state_name(r.digest, h.state), count(*) from holdpoint.history h
      join holdpoint.run r on r.id = h.run_id where h.move = 8 group by 1, 2, 3 order by 4 desc limit 8`)
    for (const row of held) console.log(`  held        ${row[3]} x ${row[2]}: ${row[0]}: ${row[1]}`)
    const ends = Object.fromEntries(await storm.sql(`select holdpoint.status_name(status), count(*) from holdpoint.run_state group by 1`))
    const taken = Number((await storm.sql('select count(*) from holdpoint.run_state where epoch > 1'))[0][0])
    const faults = Object.fromEntries([...group(rows, (x) => x.fault)].map(([k, v]) => [k, v.length]))
    const repeats = rows.filter((x) => x.n > 1).length
    console.log(`  runs        ${JSON.stringify(ends)}, all ended ${(storm.healed / 1000).toFixed(1)} s after the last fault`)
    console.log(`  world       ${JSON.stringify(storm.counts)}`)
    console.log(`  recorder    ${rows.length} requests, ${rows.filter((x) => x.acts).length} effects, ${repeats} repeats under the same key, faults ${JSON.stringify(faults)}`)
    console.log(`  taken over  ${taken} runs were in more than one hand`)
    if (storm.counts.kills === 0 || taken === 0 || !faults.lose) bad('the faults did not land: this run proves nothing')
  } catch (e) {
    wrong.push(`${e.stack}\n${storm.engine?.tail?.(30) ?? ''}`)
  } finally {
    await storm.end().catch((e) => wrong.push(e.message))
  }
  for (const text of wrong.slice(0, 30)) console.log(`  WRONG ${text}`)
  console.log(wrong.length ? `chaos: ${wrong.length} wrong (--seed ${o.seed})` : 'chaos: every run ended, every effect once per key')
  process.exit(wrong.length ? 1 : 0)
}
main()
