// doors.mjs: what comes in from outside during a storm, and the log of what was promised.
//
// Webhooks are signed as Duffel signs them and sent once, twice, 16 times at once, late
// and out of order, cut short, and with a wrong signature. An application starts runs
// with `select holdpoint.start(…)` from several sessions that meet on the same keys. Who
// is told 2xx, or gets a row, notes it; what was noted must be there at the end, once.
//
//   const doors = new Doors(world)
//   await doors.open()
//   await doors.knock()        one of these, drawn
//   await doors.check(bad)     at the end
//   doors.counts
import { createHmac } from 'node:crypto'
import { connect } from 'node:net'
import { random } from './random.mjs'
import { away } from './sql.mjs'

const SESSIONS = 4
const APPLICATION = 'chaos_application'
const body = (id, type, key) => JSON.stringify({ id, type, live_mode: false, data: { object: { id: key } } })

export class Doors {
  constructor(world) {
    this.world = world
    this.r = random(world.seed ^ 0x5eed)
    this.n = 0
    this.later = []           // made, and not sent yet: [{ id, type, key }]
    this.acked = new Map()    // id → event, of webhooks that got 2xx
    this.never = new Set()    // ids that no good signature was ever sent for
    this.starts = new Map()   // key → Set of runs, of starts that were answered
    this.counts = { webhooks: 0, acked: 0, repeats: 0, bursts: 0, late: 0, cut: 0, forged: 0, refused: 0, starts: 0, starts_acked: 0, starts_known: 0 }
  }

  async open() {
    await this.world.sql(`do $$ begin
      if not exists (select from pg_roles where rolname = '${APPLICATION}') then create role ${APPLICATION} login in role holdpoint_app; end if; end $$`)
    this.sessions = Array.from({ length: SESSIONS }, () => this.world.session(APPLICATION))
  }

  close() { for (const s of this.sessions ?? []) s.close() }

  // ---- webhooks ----

  async #send(event, options = {}) {
    this.counts.webhooks++
    let status = 0
    try {
      status = (await this.world.engine.webhook('duffel', options.text ?? body(event.id, event.type, event.key), options)).status
    } catch { /* the worker died with it */ }
    if (status >= 200 && status < 300) {
      this.counts.acked++
      if (options.forged) this.counts.wrongly_taken = (this.counts.wrongly_taken ?? 0) + 1
      else this.acked.set(event.id, event)
    } else if (status) this.counts.refused++
    return status
  }

  #event() {
    const n = ++this.n, told = this.r.chance(0.4)
    // told: for the run of an earlier webhook, or of one that has not come yet
    return told ? { id: `evt_${n}`, type: 'chaos.told', key: `hook_${Math.max(1, n - 3 + this.r.int(6))}` }
      : { id: `evt_${n}`, type: 'chaos.started', key: `hook_${n}` }
  }

  async #forged() {
    const event = { ...this.#event(), id: `forged_${this.n}` }
    this.never.add(event.id)
    this.counts.forged++
    await this.#send(event, { forged: true, secret: 'not the secret' })
  }

  /** Half a body with the signature of the whole, and half a body and the end of the connection. */
  async #cut() {
    const event = { ...this.#event(), id: `cut_${this.n}` }, whole = body(event.id, event.type, event.key)
    this.never.add(event.id)
    this.counts.cut++
    const at = Math.floor(Date.now() / 1000)
    const v1 = createHmac('sha256', this.world.engine.secret('DUFFEL_WEBHOOK_SECRET')).update(`${at}.${whole}`).digest('hex')
    const signature = `t=${at},v1=${v1}`
    await this.#send(event, { forged: true, text: whole.slice(0, -5), headers: { 'x-duffel-signature': signature } })
    const { url } = this.world.engine
    if (url) await new Promise((done) => {
      const { hostname, port } = new URL(url)
      const socket = connect(Number(port), hostname, () => socket.end(`POST /api/webhooks/duffel HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${
        ''}x-duffel-signature: ${signature}\r\ncontent-length: ${whole.length}\r\n\r\n${whole.slice(0, -5)}`))
      socket.on('error', () => {}).on('close', done).resume().setTimeout(2000, () => socket.destroy())
    })
  }

  async hook() {
    const x = this.r.next()
    if (x < 0.08) return await this.#forged()
    if (x < 0.16) return await this.#cut()
    if (x < 0.28) { this.later.push(this.#event()); return undefined }
    if (x < 0.40 && this.later.length) {
      this.counts.late++
      return await this.#send(this.later.splice(this.r.int(this.later.length), 1)[0])
    }
    if (x < 0.60 && this.acked.size) {
      const known = [...this.acked.values()].slice(-50)
      this.counts.repeats++
      return await this.#send(known[this.r.int(known.length)])
    }
    const event = this.#event()
    if (x < 0.70) {
      this.counts.bursts++
      return await Promise.all(Array.from({ length: 16 }, () => this.#send(event)))
    }
    return await this.#send(event)
  }

  // ---- an application ----

  async #start(session, key) {
    this.counts.starts++
    try {
      const [[run]] = await session.query(`select holdpoint.start('chaos_child', '{"n": 1}', '${key}')`)
      this.counts.starts_acked++
      const known = this.starts.get(key) ?? new Set()
      if (known.size) this.counts.starts_known++
      this.starts.set(key, known.add(Number(run)))
    } catch (e) { if (!away(e)) throw e }
  }

  async apply() {
    const key = `app_${Math.max(0, ++this.n - this.r.int(4))}`
    await Promise.all(this.sessions.slice(0, 1 + this.r.int(SESSIONS)).map((s) => this.#start(s, key)))
  }

  async knock() {
    if (this.world.engine.url) await (this.r.chance(0.7) ? this.hook() : this.apply())
  }

  // ---- what was promised ----

  async check(bad) {
    const inbox = new Set((await this.world.sql(`select event_id from holdpoint.inbox where source = 'duffel'`)).map(([id]) => id))
    for (const id of this.acked.keys()) if (!inbox.has(id)) bad(`webhook ${id} got 2xx and is not there`)
    for (const id of this.never) if (inbox.has(id)) bad(`webhook ${id} had no good signature and is there`)
    if (this.counts.wrongly_taken) bad(`${this.counts.wrongly_taken} webhooks without a good signature got 2xx`)
    const runs = new Map((await this.world.sql(`select key, count(*) from holdpoint.run where workflow = 'chaos_hook' group by 1`)).map(([k, n]) => [k, Number(n)]))
    const mails = new Map((await this.world.sql(`select payload ->> 'id', count(*) from holdpoint.mail where name = 'duffel.chaos.told' group by 1`)).map(([k, n]) => [k, Number(n)]))
    for (const { id, type, key } of this.acked.values()) {
      const n = type === 'chaos.started' ? runs.get(key) : mails.get(id)
      if (n !== 1) bad(`webhook ${id} got 2xx and made ${n ?? 0} ${type === 'chaos.started' ? 'runs' : 'events'}`)
    }
    for (const [key, n] of [...runs, ...mails]) if (n !== 1) bad(`${key}: ${n} runs or events of one webhook`)
    const started = new Map((await this.world.sql(`select id, key from holdpoint.run where workflow = 'chaos_child' and key like 'app\\_%'`)).map(([id, key]) => [Number(id), key]))
    for (const [key, ids] of this.starts) for (const id of ids) if (started.get(id) !== key) bad(`run ${id} was started under ${key} and is not there`)
    for (const [key, n] of await this.world.sql(`select r.key, count(*) from holdpoint.run r join holdpoint.run_state s on s.run_id = r.id
        where r.workflow in ('chaos_child', 'chaos_hook') and r.key is not null and s.status not in (5, 6) group by 1 having count(*) > 1`))
      bad(`${key}: ${n} runs under one key`)
  }
}
