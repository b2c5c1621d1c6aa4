// pgproxy_process.mjs: see pgproxy.mjs. A process of its own between engines and PostgreSQL.
//
// A unit (what stands before a Sync: one transaction, or a part of one) is held until it is
// whole, and so is its answer; so a fault strikes a known statement at a known place:
//
//   before        nothing of the unit goes on; the connection is cut
//   unsynced      all but the Sync goes on: it is executed, and never committed
//   stuck         the same, and the server does not notice for four seconds: its locks stay
//   half_request  half of its bytes go on, in the middle of a message
//   late          the connection is cut, and the unit arrives 150 to 400 ms afterwards
//   after         the server has answered; nothing of the answer goes on: a lost acknowledgement
//   half_reply    half of the answer goes on: a lost acknowledgement, too
//   slow          the answer goes on 100 to 700 ms later
//   deaf          the unit vanishes, and the connection stays open without a word
//   mute          the unit is done, and the connection stays open without a word
//
// A connection that is cut is cut on the client's side at once. On the server's side what was
// under way is read to its end first: what was committed without anybody hearing is counted.
import { createServer, connect } from 'node:net'
import { random } from './random.mjs'
import { Messages, Unit, claimed, writtenOf } from './pgwire.mjs'

const STUCK_MS = 4000     // keepalives of its roles: migrations/holdpoint/0001_tables.sql
const HELD_OPEN_MS = 3000 // a server does not know that its client has gone
const ON_REQUEST = ['before', 'unsynced', 'stuck', 'half_request', 'late', 'deaf']
const target = JSON.parse(process.argv[2])
const r = random(Number(process.argv[3]))

let plan = {}          // kind → { chance, places: { place: how many are left } }
const landed = {}      // kind → place → times
const lost = []        // acknowledgements: { kind, place, how, left: run → { epoch, rev, engine } that nobody has asked about }
const open = new Map() // run → entries of `lost` that nobody has asked about
const taken = new Map()   // run → engines that were given it, by epoch
const written = new Set() // "run epoch rev" of commits of which a look has said that they are there
let connections = 0, cuts = 0

function draw(kind, reply) {
  const p = plan[kind]
  if (!p || !r.chance(p.chance)) return null
  const places = Object.keys(p.places).filter((x) => p.places[x] > 0 && ON_REQUEST.includes(x) !== reply)
  // a unit is asked twice, when it goes and when its answer comes: as often as there is to do
  const all = Object.keys(p.places).filter((x) => p.places[x] > 0)
  const todo = (list) => list.reduce((n, x) => n + p.places[x], 0)
  if (places.length === 0 || r.next() * todo(all) > todo(places)) return null
  let x = r.next() * todo(places)
  const place = places.find((name) => (x -= p.places[name]) < 0) ?? places[0]
  p.places[place]--
  landed[kind] ??= {}
  landed[kind][place] = (landed[kind][place] ?? 0) + 1
  return place
}

/** Which (run, epoch, rev) a unit writes; for a look or a reload: asks about. */
function runsOf(unit) {
  const first = unit.kind === 'sql_commit' ? 2 : unit.kind === 'reload' ? 2 : 1
  if (!['commit', 'sql_commit', 'look', 'reload'].includes(unit.kind)) return []
  const runs = unit.ints(first), epochs = unit.ints(first + 1)
  const revs = unit.kind === 'reload' ? [] : unit.ints(first + 2)
  return runs.map((run, i) => [run, epochs[i], revs[i]])
}

/** rev: of a look, which asks for one commit. */
function answered(run, epoch, how, rev) {
  for (const e of open.get(run) ?? []) {
    const known = e.left.get(run)
    if (!known || (how === 'taken' ? known.epoch >= epoch : known.epoch !== epoch || (rev !== undefined && known.rev !== undefined && rev !== known.rev))) continue
    e.left.delete(run)
    if (e.left.size === 0) e.how = how
  }
  open.set(run, (open.get(run) ?? []).filter((e) => e.left.has(run)))
}

/** The server has done it, and whoever asked will not hear of it. */
function lose(unit, place) {
  if (unit.error || !unit.done || !WRITES[unit.kind]?.(unit)) return
  const runs = unit.runs.length ? unit.runs : runsOf(unit)
  const e = { kind: unit.kind, place, n: runs.length, how: null,
    left: new Map(runs.map(([run, epoch, rev]) => [run, { epoch, rev, engine: taken.get(run)?.[epoch] }])) }
  if (e.n === 0) e.how = 'none' // it names no run
  lost.push(e)
  for (const [run, epoch, rev] of runs) {
    open.set(run, [...(open.get(run) ?? []), e])
    // Answers of two sessions may be read here in another order than they were given.
    answered(run, taken.get(run)?.length - 1 || 0, 'taken')
    if (written.has(`${run} ${epoch} ${rev}`)) answered(run, epoch, 'looked', rev)
  }
}

/** These runs are in the hand of the engine that asked. */
function take(unit) {
  const engine = unit.ints(unit.kind === 'claim' ? 1 : 5)[0]
  for (const [run, epoch] of unit.runs) {
    if (!taken.has(run)) taken.set(run, [])
    taken.get(run)[epoch] = engine
    answered(run, epoch, 'taken')
  }
}

/** When did a unit of this kind change something? */
const yes = () => true
const WRITES = { commit: (u) => u.rows > 0, sql_commit: yes, claim: (u) => u.runs.length > 0, release: yes, start: yes, ingest: yes,
  heartbeat: yes, register: yes, stop: yes, decide: yes, event: yes, fire: yes, order: yes }

class Link {
  constructor(client) {
    connections++
    this.client = client
    this.server = connect(target)
    this.from = new Messages(false)
    this.back = new Messages()
    this.unit = new Unit()
    this.inFlight = [] // units whose ReadyForQuery has not come
    this.reply = []    // of inFlight[0]
    this.began = false // the session is set up
    this.alive = true  // the client is
    this.dark = false  // nothing goes through any more, and nobody is told
    client.on('data', (d) => { for (const [type, m] of this.from.push(d)) this.#request(type, m) })
    this.server.on('data', (d) => { for (const [type, m] of this.back.push(d)) this.#answer(type, m) })
    client.on('error', () => {})
    this.server.on('error', () => {})
    client.on('close', () => { this.alive = false; this.dark ? setTimeout(() => this.server.destroy(), HELD_OPEN_MS) : this.#leave() })
    this.server.on('close', () => { if (!this.dark) client.destroy() })
  }

  /** The client hears no more. What the server has in hand is read to its end. */
  cut(place) {
    cuts++
    this.place = place
    this.alive = false
    r.chance(0.5) ? this.client.resetAndDestroy() : this.client.destroy()
  }

  /** After what was written has left: a reset would take it along. */
  cutSoon(place) {
    cuts++
    this.place = place
    this.alive = false
    this.client.end(() => this.client.destroy())
  }

  #leave() { if (!this.late) this.server.end() } // what was sent before is done first

  #request(type, m) {
    if (this.dark || !this.alive) return
    if (!this.began || !'PBDESQHC'.includes(type)) { this.server.write(m); return }
    if (!this.unit.add(type, m)) return
    const unit = this.unit
    this.unit = new Unit()
    this.#send(unit, draw(unit.kind, false))
  }

  #send(unit, place) {
    const bytes = unit.bytes
    if (place === null) { this.inFlight.push(unit); this.server.write(bytes); return }
    if (place === 'deaf') { this.dark = true; this.place = place; return }
    this.late = ['late', 'unsynced', 'stuck'].includes(place)
    if (place === 'late') {
      setTimeout(() => { this.inFlight.push(unit); this.server.write(bytes); this.server.end() }, 150 + r.int(250))
    } else if (place === 'half_request') {
      this.server.write(bytes.subarray(0, Math.max(6, Math.floor(bytes.length * (0.2 + 0.6 * r.next())))))
      this.server.end()
    } else if (place === 'unsynced' || place === 'stuck') {
      this.server.write(Buffer.concat(unit.messages.slice(0, -1)))
      setTimeout(() => this.server.end(), place === 'stuck' ? STUCK_MS : 30 + r.int(100)) // its locks are held so long
    }
    this.cut(place)
  }

  #answer(type, m) {
    if (!this.began) {
      if (type === 'Z') this.began = true
      this.#forward(m)
      return
    }
    const unit = this.inFlight[0]
    if (!unit || 'ASN'.includes(type)) { this.#forward(m); return }
    this.reply.push(m)
    if (type === 'E') unit.error = true
    if (type === 'D') { unit.rows++; this.#row(unit, m) }
    if (type !== 'Z') return
    unit.done = m[5] === 73 // 'I': no transaction is open any more
    this.inFlight.shift()
    this.#end(unit)
  }

  #row(unit, m) {
    const column = { claim: 1, start: 4, ingest: 5 }[unit.kind]
    const one = column ? claimed(m, column) : null
    if (one !== null) unit.runs.push(one)
    if (unit.kind === 'look') unit.written.push(...writtenOf(m))
  }

  #end(unit) {
    const reply = Buffer.concat(this.reply)
    this.reply = []
    if (unit.done && !unit.error && unit.runs.length) take(unit)
    if (!this.alive || this.dark) {
      lose(unit, this.place ?? 'gone')
      return
    }
    const place = unit.done && !unit.error && WRITES[unit.kind]?.(unit) || ['look', 'reload', 'statement'].includes(unit.kind)
      ? draw(unit.kind, true) : null
    if ((place === null || place === 'slow') && !unit.error && ['look', 'reload'].includes(unit.kind))
      runsOf(unit).forEach(([run, epoch, rev], i) => {
        if (unit.written.includes(i + 1)) written.add(`${run} ${epoch} ${rev}`)
        answered(run, epoch, unit.kind === 'look' ? 'looked' : 'reloaded', rev)
      })
    if (place === null) return this.#forward(reply)
    if (place === 'slow') { this.#hold(100 + r.int(600)); return this.#forward(reply) }
    if (place === 'half_reply') this.client.write(reply.subarray(0, Math.floor(reply.length * (0.1 + 0.8 * r.next()))))
    lose(unit, place)
    if (place === 'mute') { this.dark = true; this.place = place; return }
    place === 'half_reply' ? this.cutSoon(place) : this.cut(place)
  }

  #hold(ms) {
    this.held ??= []
    setTimeout(() => { const held = this.held ?? []; this.held = null; for (const bytes of held) this.#forward(bytes) }, ms)
  }

  #forward(bytes) {
    if (this.held) this.held.push(bytes)
    else if (this.alive && !this.dark && !this.client.destroyed) this.client.write(bytes)
  }
}

const server = createServer({ noDelay: true }, (client) => new Link(client))
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))

process.on('message', (m) => {
  if (m.plan) plan = m.plan
  if (m.ask) {
    const by = {}
    for (const e of lost) { by[e.kind] ??= {}; by[e.kind][e.how ?? 'open'] = (by[e.kind][e.how ?? 'open'] ?? 0) + 1 }
    process.send({ ask: m.ask, landed, lost: by, left: plan, connections, cuts,
      open: lost.filter((e) => e.how === null).map((e) => ({ kind: e.kind, place: e.place, runs: [...e.left] })) })
  }
})
process.on('disconnect', () => process.exit(0))
