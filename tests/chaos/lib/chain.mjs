// chain.mjs: one plain workflow for scenarios that fail the machine, and who starts it.
//
//   const chain = await new Chain(world).deploy()   chaos_chain: put, sql, put, wait, once
//   await chain.start()      the status of the answer; chain.accepted: ids of those with a 2xx
//   chain.refused            { status: how many }; chain.retryAfter: with that header; chain.last
//   await chain.ended(ms)    all accepted runs have ended; how long that took
//   await chain.check(bad)   each of them exists and succeeded, with one effect per call
//
// A run takes about half a second. A start that was not answered may have happened: it is
// in the database or not, and its key tells the next one.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { waitFor } from '../../e2e/lib/engine.mjs'

const PLUGINS = join(dirname(fileURLToPath(import.meta.url)), '../plugins')
const TRIES = 'retry = { attempts = 40, base = "50ms", cap = "400ms" }'
const RETRY = `${TRIES}, timeout = "2s"`
// The probe is asked after timeout and lease, and what lands later than that is outside the
// promise: hundreds of runs that go on at once, and a disk that is busy, hold up the recorder.
const ONCE = `${TRIES}, timeout = "6s"`
const SOURCE = `local recorder = connector "recorder"

return workflow "chaos_chain" {
  doc = "Two calls, a statement, a pause, and a call that must not be repeated.", input = { n = integer },
  call "first_put" { recorder.put, with = { tag = "{run.id}/first_put" }, save = "first_put", ${RETRY}, catch = { refused = "statement" } },
  sql "statement" { as = service, exec = [[insert into chaos_ledger (run, state) values ($1, 'statement')]], args = { "{run.id}" } },
  call "second_put" { recorder.put, with = { tag = "{run.id}/second_put" }, save = "second_put", ${RETRY}, catch = { refused = "breath" } },
  wait "breath" { for_ = "200ms" },
  call "last_once" {
    recorder.once, with = { tag = "{run.id}/last_once" }, key = "{run.id}-last_once", save = "last_once", ${ONCE},
    probe = { recorder.find, with = { key = "{run.id}-last_once" }, found = function(reply) return reply.acts > 0 and { acts = reply.acts } end },
    catch = { refused = "done" },
  },
  succeed "done" { result = { n = "{input.n}" } },
}
`

export class Chain {
  constructor(world) { Object.assign(this, { world, n: 0, accepted: [], refused: {}, retryAfter: 0, last: null }) }

  async deploy() {
    const file = join(this.world.dir, 'chaos_chain.lua')
    writeFileSync(file, SOURCE)
    const done = await this.world.engine.cli(['deploy', file, '--plugins', PLUGINS])
    assert.equal(done.code, 0, done.stdout + done.stderr)
    return this
  }

  async start() {
    const n = this.n++
    let r
    try {
      r = await this.world.engine.api('POST', '/api/v1/runs', { workflow: 'chaos_chain', input: { n }, key: `chain:${n}` })
    } catch (e) { r = { status: 0, body: { error: { message: e.cause?.message ?? e.message } } } }
    if (r.status >= 200 && r.status < 300) {
      this.accepted.push(r.body.run)
    } else {
      this.refused[r.status] = (this.refused[r.status] ?? 0) + 1
      this.retryAfter += r.headers?.has('retry-after') ? 1 : 0
      this.last = r.body?.error ?? r.body
    }
    return r.status
  }

  ok(status) { return status >= 200 && status < 300 }
  many(n) { return Promise.all(Array.from({ length: n }, () => this.start())) }
  async hammer(ms, every = 50) {
    for (const end = Date.now() + ms; Date.now() < end;) { await this.start(); await pause(every) }
  }

  /** ms until a start is accepted */
  async accepts() {
    const began = Date.now()
    await waitFor('a start is accepted', async () => this.ok(await this.start()), 30000)
    return Date.now() - began
  }

  async ended(ms = 60000) {
    const began = Date.now()
    await waitFor('every run of the chain ends', async () =>
      (await this.world.sql(`select count(*) from holdpoint.run_state s join holdpoint.run r on r.id = s.run_id where r.workflow = 'chaos_chain' and s.status < 4`))[0][0] === '0', ms)
      .catch(async (e) => {
        for (const [run] of await this.world.sql(`select run_id from holdpoint.run_state where status < 4 order by 1 limit 5`)) e.message += await this.world.story(run)
        throw e
      })
    return Date.now() - began
  }

  async check(bad) {
    const status = Object.fromEntries(await this.world.sql(`select s.run_id, holdpoint.status_name(s.status) from holdpoint.run_state s join holdpoint.run r on r.id = s.run_id where r.workflow = 'chaos_chain'`))
    for (const run of this.accepted) {
      if (!status[run]) bad(`run ${run} was accepted and is not there`)
      else if (status[run] !== 'succeeded') bad(`run ${run} was to succeed: ${status[run]}${await this.world.story(run)}`)
    }
    const statements = new Map(await this.world.sql(`select run, count(*) from public.chaos_ledger where state = 'statement' group by 1`))
    for (const run of Object.keys(status)) if (status[run] === 'succeeded' && statements.get(run) !== '1') bad(`run ${run}: its statement is there ${statements.get(run) ?? 0} times`)
  }
}
