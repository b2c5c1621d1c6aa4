// dns.mjs: a real DNS server on loopback, UDP and TCP on one port, for tests.
//
//   const dns = await startDns({ 'x.test': { TXT: ['a', ['long ', 'text']], A: ['192.0.2.1'], MX: [[10, 'm.x.test']] } })
//   dns.endpoint           "127.0.0.1:PORT"
//   dns.zone['y.test'] = … names may be changed at any time
//   dns.asked              [{ name, type, over }] in order
//   await dns.stop()
//
// A name that is not in the zone does not exist (NXDOMAIN); a type it does not have is
// NODATA. A name whose value is a word behaves: 'servfail', 'refused', 'notimp',
// 'formerr', 'silent' (no answer), 'garbage' (bytes that are no answer). { after: n, then: value }
// answers so after it was silent n times. Answers over 512 bytes (or what EDNS allows) are
// cut off over UDP, so that the client comes again over TCP.
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'

const TYPES = { A: 1, CNAME: 5, MX: 15, TXT: 16, AAAA: 28 }
const RCODES = { formerr: 1, servfail: 2, nxdomain: 3, notimp: 4, refused: 5 }

const wireName = (name) => Buffer.concat([...name.split('.').filter(Boolean).map((l) => Buffer.from(String.fromCharCode(l.length) + l, 'latin1')), Buffer.from([0])])
const u16 = (n) => Buffer.from([n >> 8, n & 255])
const txt = (strings) => Buffer.concat([strings].flat().map((s) => { const b = Buffer.from(s); return Buffer.concat([Buffer.from([b.length]), b]) }))
const v6 = (text) => {
  const [head, tail = ''] = text.split('::'), h = head.split(':').filter(Boolean), t = tail.split(':').filter(Boolean)
  return Buffer.concat([...h, ...Array(8 - h.length - t.length).fill('0'), ...t].map((x) => u16(parseInt(x, 16))))
}
const rdata = { A: (v) => Buffer.from(v.split('.').map(Number)), AAAA: v6, TXT: txt, MX: ([p, host]) => Buffer.concat([u16(p), wireName(host)]), CNAME: wireName }

function question(query) {
  const labels = []
  let at = 12
  while (query[at]) { labels.push(query.toString('latin1', at + 1, at + 1 + query[at])); at += query[at] + 1 }
  const type = query.readUInt16BE(at + 1)
  // an OPT record after the question says how much UDP may carry
  const opt = query.readUInt16BE(10) && query[at + 5] === 0 && query.readUInt16BE(at + 6) === 41 ? query.readUInt16BE(at + 8) : 512
  return { name: labels.join('.').toLowerCase(), type: Object.keys(TYPES).find((t) => TYPES[t] === type) ?? String(type), end: at + 5, max: opt }
}

function answer(query, q, zone, over) {
  let has = zone[q.name]
  if (has?.after !== undefined) has = has.after-- > 0 ? 'silent' : has.then
  if (has === 'silent') return null
  if (has === 'garbage') return Buffer.concat([query.subarray(0, 2), Buffer.from([0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0]), query.subarray(12, q.end), Buffer.from([0xc0, 0xff])])
  const rcode = typeof has === 'string' ? RCODES[has] : has ? 0 : RCODES.nxdomain
  const records = rcode === 0 ? has[q.type] ?? [] : []
  const body = records.map((r) => {
    const d = rdata[q.type](r)
    return Buffer.concat([Buffer.from([0xc0, 12]), u16(TYPES[q.type]), u16(1), Buffer.from([0, 0, 0, 60]), u16(d.length), d])
  })
  const head = (tc, n) => Buffer.concat([query.subarray(0, 2), Buffer.from([0x85 | (tc ? 2 : 0), 0x80 | rcode]), u16(1), u16(n), u16(0), u16(0), query.subarray(12, q.end)])
  const whole = Buffer.concat([head(false, records.length), ...body])
  return over === 'udp' && whole.length > q.max ? head(true, 0) : whole
}

export async function startDns(zone) {
  const asked = []
  const reply = (query, over) => {
    const q = question(query)
    asked.push({ name: q.name, type: q.type, over })
    return answer(query, q, zone, over)
  }
  const sockets = new Set()
  const tcp = createServer((s) => {
    let got = Buffer.alloc(0)
    sockets.add(s)
    s.on('error', () => {})
    s.on('close', () => sockets.delete(s))
    s.on('data', (d) => {
      got = Buffer.concat([got, d])
      while (got.length > 2 && got.length >= 2 + got.readUInt16BE(0)) {
        const a = reply(got.subarray(2, 2 + got.readUInt16BE(0)), 'tcp')
        got = got.subarray(2 + got.readUInt16BE(0))
        if (a) s.write(Buffer.concat([u16(a.length), a]))
      }
    })
  })
  await new Promise((done) => tcp.listen(0, '127.0.0.1', done))
  const { port } = tcp.address(), udp = createSocket('udp4')
  udp.on('message', (query, from) => {
    const a = reply(query, 'udp')
    if (a) udp.send(a, from.port, from.address)
  })
  await new Promise((done) => udp.bind(port, '127.0.0.1', done))
  return { endpoint: `127.0.0.1:${port}`, zone, asked,
    stop: () => new Promise((done) => { for (const s of sockets) s.destroy(); udp.close(() => tcp.close(done)) }) }
}
