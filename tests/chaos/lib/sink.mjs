// sink.mjs: a provider that behaves in every way a peer can misbehave, on raw sockets.
//
//   const sink = await new Sink(2).start()   each key is wronged so many times, then answered
//   sink.port                                plain HTTP; what is done is in the query: ?mode=…
//   sink.seen                                key → { mode, tag, at: [ms], acts }
//   sink.elsewhere                           requests where only a followed redirect leads
//   await tlsSink(sink, dir, 'expired')      the port of HTTPS with such a certificate:
//                                            good, expired, wrong (host), self (signed), hang
//   await nameServer('127.0.0.77', zone)     DNS on port 53 (root): name → address, null (no
//                                            such name), 'silent', or { after: ms, a: address }
//
// It acts like a provider that knows keys: the first request under a key has the effect,
// also when its answer is wrong; those after it get the same answer and no second effect.
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { gzipSync } from 'node:zlib'

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'
const BLOCK = Buffer.alloc(65536, 0x20)
const CAP = 256 * 1024 * 1024 // of what "10 GB" really sends when nobody cuts it

/** Writes `next()` until the peer has gone or it says null. */
function pump(socket, next) {
  const go = () => {
    for (;;) {
      if (socket.destroyed) return
      const piece = next()
      if (piece === null) return
      if (!socket.write(piece)) { socket.once('drain', go); return }
    }
  }
  go()
}

/** mode → what is done with a request that has been read. It never answers well. */
const WRONGS = {
  reset: (s) => s.resetAndDestroy(),
  close: (s) => s.end(),
  half_head: (s) => s.end('HTTP/1.1 200 OK\r\nContent-Ty'),
  half_body: (s) => s.end(`${HEAD}Content-Length: 100\r\n\r\n{"id":`),
  mute: () => {},
  e500: (s) => s.end('HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n'),
  e503: (s) => s.end('HTTP/1.1 503 Later\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}'),
  e429: (s) => s.end('HTTP/1.1 429 Slowly\r\nRetry-After: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}'),
  drip: (s) => {
    s.write(`${HEAD}Content-Length: 1000\r\n\r\n{`)
    const timer = setInterval(() => { if (s.destroyed) clearInterval(timer); else s.write(' ') }, 100)
    timer.unref()
  },
  huge: (s, sink) => { // ten gigabytes are announced
    s.write(`${HEAD}Content-Length: 10737418240\r\n\r\n`)
    let n = 0
    pump(s, () => { sink.streamed = Math.max(sink.streamed, n += BLOCK.length); return n > CAP ? null : BLOCK })
  },
  endless: (s, sink) => { // and without a length
    s.write(`${HEAD}Transfer-Encoding: chunked\r\n\r\n`)
    let n = 0
    pump(s, () => { sink.streamed = Math.max(sink.streamed, n += BLOCK.length); return n > CAP ? null : Buffer.concat([Buffer.from(`${BLOCK.length.toString(16)}\r\n`), BLOCK, Buffer.from('\r\n')]) })
  },
  bomb: (s) => s.end(Buffer.concat([Buffer.from(`${HEAD}Content-Encoding: gzip\r\nContent-Length: ${BOMB.length}\r\n\r\n`), BOMB])),
  bad_gzip: (s) => s.end(`${HEAD}Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nno gzip!!`),
  chunks: (s) => s.end(`${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n`),
  garbage: (s) => s.end('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n'),
  headers: (s) => {
    s.write(HEAD)
    let n = 0
    pump(s, () => (n++ > 20000 ? null : `X-Filler-${n}: ${'x'.repeat(200)}\r\n`))
  },
  hints: (s) => {
    let n = 0
    pump(s, () => (n++ > 200000 ? null : 'HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n'))
  },
  redirect: (s, sink) => s.end(`HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:${sink.port}/elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`),
  no_json: (s) => s.end(`${HEAD}Content-Length: 5\r\nConnection: close\r\n\r\nhello`),
}
const BOMB = gzipSync(Buffer.alloc(CAP / 4, 0x20))
export const MODES = Object.keys(WRONGS)

export class Sink {
  constructor(times) { Object.assign(this, { times, seen: new Map(), elsewhere: 0, streamed: 0, connections: 0, always: new Set(), sockets: new Set() }) }

  serve(socket) {
    let got = Buffer.alloc(0)
    this.connections++
    this.sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.sockets.delete(socket))
    socket.on('data', (d) => {
      got = Buffer.concat([got, d])
      const end = got.indexOf('\r\n\r\n')
      if (end < 0) return
      const head = got.subarray(0, end).toString('latin1'), length = Number(head.match(/content-length: *(\d+)/i)?.[1] ?? 0)
      if (got.length < end + 4 + length) return
      got = got.subarray(end + 4 + length)
      this.request(socket, head)
    })
  }

  request(socket, head) {
    const url = new URL(head.split(' ')[1], 'http://sink'), key = head.match(/idempotency-key: *(\S+)/i)?.[1] ?? ''
    if (url.pathname === '/elsewhere') { this.elsewhere++; socket.end(`${HEAD}Content-Length: 2\r\n\r\n{}`); return }
    const mode = url.searchParams.get('mode')
    if (!this.seen.has(key)) this.seen.set(key, { mode, tag: url.searchParams.get('tag'), at: [], acts: 0 })
    const one = this.seen.get(key)
    one.at.push(Date.now())
    if (!/^e[45]/.test(mode) || mode === 'e500') one.acts = 1 // who says 503 or 429 has not acted
    if (WRONGS[mode] && (this.always.has(mode) || one.at.length <= this.times)) { WRONGS[mode](socket, this); return }
    one.acts = 1
    const body = JSON.stringify({ id: `did_${one.tag}` })
    socket.write(`${HEAD}Content-Length: ${body.length}\r\n\r\n${body}`)
  }

  start() {
    this.server = createServer((s) => this.serve(s))
    return new Promise((done) => this.server.listen(0, '127.0.0.1', () => { this.port = this.server.address().port; done(this) }))
  }

  stop() {
    for (const s of this.sockets) s.destroy()
    this.server.close()
    for (const other of this.others ?? []) other.close()
  }

  keep(server) { (this.others ??= []).push(server); return server }
}

// ---- TLS ----

/** An authority and certificates for localhost; returns the authority's certificate. */
export function makeCertificates(dir) {
  const openssl = (words, before = []) => execFileSync([...before, 'openssl'][0], [...before, 'openssl', ...words].slice(1), { cwd: dir, stdio: 'ignore' })
  openssl(['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '3650', '-subj', '/CN=Holdpoint chaos'])
  openssl(['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'self.key', '-out', 'self.crt', '-days', '30', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'])
  for (const [name, host, then] of [['good', 'localhost'], ['wrong', 'elsewhere.test'], ['expired', 'localhost', '2020-01-01 00:00:00']]) {
    writeFileSync(join(dir, `${name}.ext`), `subjectAltName=DNS:${host}\n`)
    openssl(['req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${host}`])
    openssl(['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30', '-extfile', `${name}.ext`, '-out', `${name}.crt`],
      then ? ['faketime', then] : [])
  }
  return readFileSync(join(dir, 'ca.crt'), 'utf8')
}

export function tlsSink(sink, dir, kind) {
  const server = kind === 'hang' ? createServer((s) => { sink.connections++; sink.sockets.add(s); s.on('error', () => {}) })
    : createTlsServer({ key: readFileSync(join(dir, `${kind}.key`)), cert: readFileSync(join(dir, `${kind}.crt`)) }, (s) => sink.serve(s))
  server.on('tlsClientError', () => { sink.connections++ })
  sink.keep(server)
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(server.address().port)))
}

// ---- names ----

export function nameServer(address, zone) {
  const udp = createSocket('udp4'), asked = []
  udp.on('message', (q, from) => {
    let at = 12
    const labels = []
    while (q[at]) { labels.push(q.subarray(at + 1, at + 1 + q[at]).toString('latin1')); at += q[at] + 1 }
    const name = labels.join('.').toLowerCase(), type = q.readUInt16BE(at + 1), question = q.subarray(12, at + 5)
    asked.push(name)
    const what = zone[name] ?? null
    if (what === 'silent') return
    const a = typeof what === 'string' ? what : what?.a
    const answers = a && type === 1 ? [Buffer.concat([Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]), Buffer.from(a.split('.').map(Number))])] : []
    const head = Buffer.from([q[0], q[1], 0x81, what === null ? 0x83 : 0x80, 0, 1, 0, answers.length, 0, 0, 0, 0])
    setTimeout(() => udp.send(Buffer.concat([head, question, ...answers]), from.port, from.address), what?.after ?? 0)
  })
  return new Promise((done, fail) => { udp.once('error', fail); udp.bind(53, address, () => done({ asked, close: () => udp.close() })) })
}
