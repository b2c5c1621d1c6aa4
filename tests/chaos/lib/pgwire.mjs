// pgwire.mjs: as much of PostgreSQL's protocol as a proxy needs that cuts at a statement.
//
//   const unit = new Unit(); unit.add(type, message)   messages up to a Sync or a simple query
//   unit.kind        what it does, by the engine's function that it calls ('commit', …)
//   unit.ints(1)     the first parameter of its first statement that has one: int8 or int8[], binary
//   for (const [type, m] of messages.push(chunk))      whole messages, header included
//   claimed(m, 1)    [run, epoch] of a row whose second column begins holdpoint.claimed; null: no run
//   writtenOf(m)     [which] of a row of holdpoint.look() that says of a commit that it is there, else []

/** Cuts a stream into messages; `typed` false: the first one is a startup packet. */
export class Messages {
  constructor(typed = true) { this.rest = Buffer.alloc(0); this.typed = typed }

  * push(chunk) {
    this.rest = this.rest.length ? Buffer.concat([this.rest, chunk]) : chunk
    for (;;) {
      const head = this.typed ? 1 : 0
      if (this.rest.length < head + 4) return
      const n = head + this.rest.readInt32BE(head)
      if (this.rest.length < n) return
      const message = this.rest.subarray(0, n)
      this.rest = this.rest.subarray(n)
      const type = this.typed ? String.fromCharCode(message[0]) : 'startup'
      this.typed = true
      yield [type, message]
    }
  }
}

// which function of the engine → kind; the first that fits names the unit
const KINDS = [
  [/holdpoint\.commit\(/, 'commit'], [/holdpoint\.sql_commit\(/, 'sql_commit'], [/holdpoint\.claim\(/, 'claim'],
  [/holdpoint\.look\(/, 'look'], [/holdpoint\.reload\(/, 'reload'], [/holdpoint\.release\(/, 'release'],
  [/holdpoint\.start_own\(/, 'start'], [/holdpoint\.ingest\(/, 'ingest'], [/holdpoint\.heartbeat\(/, 'heartbeat'],
  [/holdpoint\.engine_register\(/, 'register'], [/holdpoint\.engine_stop\(/, 'stop'],
  [/holdpoint\.door_decide\(/, 'decide'], [/holdpoint\.door_send_event\(/, 'event'],
  [/holdpoint\.door_schedule_fire\(/, 'fire'],
  [/holdpoint\.door_(operate|cancel|pause|resume|breaker_report|gc|restart|move|bulk)\(/, 'order'],
]
const kindOf = (texts) => {
  for (const [pattern, kind] of KINDS) if (texts.some((t) => pattern.test(t))) return kind
  if (/^begin/.test(texts[0] ?? '')) return 'statement' // an author's, before its commit
  return 'other'
}

const text = (m, at) => m.toString('latin1', at, m.indexOf(0, at))

/** What is sent up to one Sync: one transaction, or a part of one. */
export class Unit {
  constructor() { this.messages = []; this.texts = []; this.rows = 0; this.runs = []; this.written = []; this.error = false }

  /** true: it is whole */
  add(type, m) {
    this.messages.push(m)
    if (type === 'P') this.texts.push(text(m, m.indexOf(0, 5) + 1))
    if (type === 'Q') this.texts.push(text(m, 5))
    if (type === 'B') this.bind ??= m
    return type === 'S' || type === 'Q'
  }

  get kind() { this.known ??= kindOf(this.texts); return this.known }
  get bytes() { return Buffer.concat(this.messages) }

  /** Binary int8 or int8[] as numbers. */
  ints(parameter) {
    const m = this.bind
    let at = m.indexOf(0, 5) + 1
    at = m.indexOf(0, at) + 1
    at += 2 + 2 * m.readInt16BE(at) + 2
    for (let i = 1; i < parameter; i++) at += 4 + Math.max(0, m.readInt32BE(at))
    const n = m.readInt32BE(at)
    if (n === 8) return [Number(m.readBigInt64BE(at + 4))]
    const out = []
    for (let p = at + 4 + 20; p + 12 <= at + 4 + n; p += 12) out.push(Number(m.readBigInt64BE(p + 4)))
    return out
  }
}

/** holdpoint.claimed begins with run and epoch. */
export function claimed(m, column) {
  let at = 7
  for (let i = 0; i < column; i++) at += 4 + Math.max(0, m.readInt32BE(at))
  if (m.readInt32BE(at) !== 8) return null
  const run = Number(m.readBigInt64BE(at + 4))
  at += 12
  return [run, m.readInt32BE(at) === 4 ? m.readInt32BE(at + 4) : Number(m.readBigInt64BE(at + 4))]
}

/** o_ord int8, o_written boolean. */
export function writtenOf(m) {
  return m.readInt32BE(7) === 8 && m.readInt32BE(19) === 1 && m[23] === 1 ? [Number(m.readBigInt64BE(11))] : []
}
