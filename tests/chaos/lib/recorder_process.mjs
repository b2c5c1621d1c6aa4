// recorder_process.mjs FILE SEED: the outside world of the chaos suite, as a process of its own.
//
// Every request is appended to FILE (one JSON object a line) and fsynced before it has
// any answer, so what the engine did is known whatever is killed. It acts like a
// provider: a known idempotency key gets its first answer again and no second effect;
// /once knows no keys, so a second request is a second effect. Faults are drawn from
// SEED, the key and how often the key was seen: the same story gives the same faults.
//
//   {"op","key","tag","body","acts","id","fault","n","at"}   acts: 1 when this request had an effect; id: of its answer
//
// /mint answers with a secret, the same one for the same key; /late takes its time over
// every answer, so that many are on their way at any moment.
//
// Prints its port. Ends when its standard input does.
import { createHash } from 'node:crypto'
import { fsyncSync, openSync, writeSync } from 'node:fs'
import { createServer } from 'node:http'

const [file, seed] = process.argv.slice(2)
const fd = openSync(file, 'a')
const seen = new Map()    // op key → times
const answers = new Map() // put, undo: op key → body of its answer
const acted = new Map()   // once: key → effects
const LATE_MS = 500
let calm = false          // healing: no more faults

const draw = (...parts) => createHash('sha256').update([seed, ...parts].join('|')).digest().readUInt32BE(0) / 2 ** 32

/** What happens to this request. drop: before it has an effect; lose: after, and no answer. */
function fault(op, key, n) {
  const x = draw(op, key, n)
  if (calm || n > 6) return 'ok'
  if (x < 0.08) return 'lose'
  if (x < 0.13) return 'drop'
  if (x < 0.20) return 'busy'
  if (x < 0.24) return 'broken' // acts, and says 500
  if (x < 0.27 && op !== 'undo') return 'refuse'
  if (x < 0.30) return 'slow'
  return 'ok'
}

function record(row) {
  writeSync(fd, `${JSON.stringify(row)}\n`)
  fsyncSync(fd)
}

function send(res, status, body) {
  res.writeHead(status, { 'content-type': 'application/json' })
  res.end(JSON.stringify(body))
}

const secretOf = (key) => `chaos-secret-${createHash('sha256').update(`${seed}|secret|${key}`).digest('hex').slice(0, 24)}`

/** Has an effect, unless the key has had it; the answer. */
function act(op, key, tag) {
  const id = `${op}:${key}`
  if (op === 'once') {
    acted.set(key, (acted.get(key) ?? 0) + 1)
    return { acts: 1, answer: { id: `once_${acted.get(key)}`, tag } }
  }
  if (answers.has(id)) return { acts: 0, answer: answers.get(id) }
  answers.set(id, { id: `${op}_${answers.size}`, tag, ...(op === 'mint' ? { key: secretOf(key) } : {}) })
  return { acts: 1, answer: answers.get(id) }
}

function effect(req, res, op, text) {
  const key = req.headers['idempotency-key'] ?? req.headers['x-key'] ?? ''
  const tag = JSON.parse(text).tag
  const n = (seen.get(`${op}:${key}`) ?? 0) + 1
  seen.set(`${op}:${key}`, n)
  let what = fault(op, key, n)
  if (what === 'refuse' && (answers.has(`${op}:${key}`) || acted.has(key))) what = 'ok'
  const acts = what === 'drop' || what === 'busy' || what === 'refuse' ? { acts: 0 } : act(op, key, tag)
  record({ op, key, tag, body: createHash('sha256').update(text).digest('hex'), acts: acts.acts, id: acts.answer?.id, fault: what, n, at: Date.now() })
  if (what === 'drop' || what === 'lose') req.socket.destroy()
  else if (what === 'busy') send(res, 503, {})
  else if (what === 'broken') send(res, 500, {})
  else if (what === 'refuse') send(res, 402, {})
  else if (what === 'slow') setTimeout(() => send(res, 200, acts.answer), 400)
  else if (op === 'late') setTimeout(() => send(res, 200, acts.answer), LATE_MS / 2 + LATE_MS * draw('late', key, n))
  else send(res, 200, acts.answer)
}

const server = createServer((req, res) => {
  const url = new URL(req.url, 'http://recorder')
  let text = ''
  req.on('data', (chunk) => { text += chunk })
  req.on('end', () => {
    if (url.pathname === '/find') return send(res, 200, { acts: acted.get(url.searchParams.get('key')) ?? 0 })
    if (url.pathname === '/health') return send(res, draw('health', seen.size) < 0.1 ? 503 : 200, { ok: draw('ill', seen.size) > 0.1 })
    if (url.pathname === '/calm') { calm = true; return send(res, 200, {}) }
    effect(req, res, url.pathname.slice(1), text)
  })
})
server.keepAliveTimeout = 60000
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.stdin.resume().on('end', () => process.exit(0))
