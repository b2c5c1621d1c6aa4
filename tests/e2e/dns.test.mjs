// The dns plugin against a real DNS server on loopback: lookups, checks that follow
// includes, and what failing servers do to a run; then its simulated provider.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'
import { startDns } from './lib/dns.mjs'

const KEY = 'v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo='
const many = Object.fromEntries([...Array(12).keys()].map((i) => [`i${i}.test`, { TXT: ['v=spf1 -all'] }]))
const zone = {
  'x.test': { A: ['192.0.2.1', '192.0.2.2'], AAAA: ['2001:db8::1'], MX: [[20, 'b.x.test'], [10, 'a.x.test'], [20, 'a.x.test']],
    TXT: ['one', ['joined ', 'text'], 'umlaut ä', 'v=spf1 include:s.x.test a mx -all'] },
  'empty.test': {},
  'null.test': { MX: [[0, '']] },
  's.x.test': { TXT: ['v=spf1 ip4:192.0.2.0/24 include:t.x.test -all'] },
  't.x.test': { TXT: ['v=spf1 exists:%{i}.t.x.test -all'] },
  'm1._domainkey.x.test': { TXT: [[KEY.slice(0, 30), KEY.slice(30)]] },
  '_dmarc.x.test': { TXT: ['some other text', 'v=DMARC1; p=reject; rua=mailto:d@x.test'] },
  'lots.test': { TXT: [`v=spf1 ${Object.keys(many).slice(0, 11).map((n) => `include:${n}`).join(' ')} -all`] },
  'deep.test': { TXT: ['v=spf1 include:lots.test a mx -all'] },
  'loop.test': { TXT: ['v=spf1 include:loop2.test -all'] }, 'loop2.test': { TXT: ['v=spf1 include:Loop.test -all'] },
  'two.test': { TXT: ['v=spf1 -all', 'v=spf1 +all'] },
  'gone.test': { TXT: ['v=spf1 include:nowhere.test redirect=empty.test'] },
  'big.test': { TXT: [...Array(30).keys()].map((i) => [`${i}`.padEnd(200, 'x'), 'y'.repeat(100)]) },
  'bytes.test': { TXT: [Buffer.from([0x61, 0xff, 0x00, 0x62])] },
  'servfail.test': 'servfail', 'refused.test': 'refused', 'silent.test': 'silent', 'garbage.test': 'garbage', 'notimp.test': 'notimp',
  'slow.test': { after: 3, then: { A: ['192.0.2.9'] } },
  'partly.test': { TXT: ['v=spf1 include:servfail.test -all'] },
  ...many,
}
let engine, dns, folder
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-dns.'))
  chmodSync(folder, 0o755)
  dns = await startDns(zone)
  engine = await startEngine({ simulated: '', args: ['--base-url', `dns=dns://${dns.endpoint}`] })
  for (const [name, arg] of [['a', 'name'], ['aaaa', 'name'], ['mx', 'name'], ['txt', 'name'], ['spf', 'domain'], ['dmarc', 'domain'], ['dkim', 'domain']])
    await deploy(`dns_${name}`, `
      call "ask" { dns.${name}, with = function(run) return run.input end, save = "answer", timeout = "2s",
        retry = { attempts = 2, base = "10ms", cap = "10ms" },
        catch = { nxdomain = "nothing", servfail = "failing", timeout = "silent", refused = "refused", bad_answer = "garbage",
                  notimp = "notimp", bad_name = "bad" } },
      succeed "done" { result = "{answer}" },
      succeed "nothing" {}, succeed "failing" {}, succeed "silent" {}, succeed "refused" {}, succeed "garbage" {},
      succeed "notimp" {}, succeed "bad" {}`.replace('nxdomain = "nothing", ', arg === 'name' ? 'nxdomain = "nothing", ' : '')
      .replace('succeed "nothing" {}, ', arg === 'name' ? 'succeed "nothing" {}, ' : ''))
})
after(async () => {
  try { await engine?.stop() } finally {
    await dns?.stop()
    if (folder) rmSync(folder, { recursive: true, force: true })
  }
})

async function deploy(name, body) {
  const path = join(folder, `${name}.lua`)
  writeFileSync(path, `local dns = connector "dns"\nreturn workflow "${name}" {\n${body}\n}\n`)
  const r = await engine.cli(['deploy', path])
  assert.equal(r.code, 0, r.stderr)
}
async function ask(operation, input) {
  const r = await waitFor('it is loaded', async () => {
    const r = await engine.api('POST', '/api/v1/runs', { workflow: `dns_${operation}`, input })
    return r.status !== 503 && r
  })
  assert.equal(r.status, 201, JSON.stringify(r.body))
  const { run } = await engine.until(r.body.run, ['succeeded', 'held'], 30000)
  assert.equal(run.status, 'succeeded', JSON.stringify(run))
  return run.state === 'done' ? run.result : run.state
}
const codes = (v) => v.problems.map((p) => `${p.severity}:${p.code}`)

test('lookups', async () => {
  assert.deepEqual(await ask('a', { name: 'x.test' }), { found: true, addresses: ['192.0.2.1', '192.0.2.2'], ttl: 60 })
  assert.deepEqual(await ask('a', { name: 'X.Test.' }), { found: true, addresses: ['192.0.2.1', '192.0.2.2'], ttl: 60 })
  assert.deepEqual(await ask('aaaa', { name: 'x.test' }), { found: true, addresses: ['2001:db8::1'], ttl: 60 })
  assert.deepEqual((await ask('mx', { name: 'x.test' })).exchanges,
    [{ priority: 10, host: 'a.x.test' }, { priority: 20, host: 'a.x.test' }, { priority: 20, host: 'b.x.test' }])
  assert.deepEqual(await ask('mx', { name: 'null.test' }), { found: true, exchanges: [{ priority: 0, host: '' }] })
  assert.deepEqual(await ask('txt', { name: 'x.test' }),
    { found: true, texts: ['one', 'joined text', 'umlaut ä', 'v=spf1 include:s.x.test a mx -all'] })
  assert.deepEqual(await ask('txt', { name: 'bytes.test' }), { found: true, texts: ['a\\255\\000b'] })
  for (const operation of ['a', 'aaaa', 'mx', 'txt']) {
    assert.equal((await ask(operation, { name: 'empty.test' })).found, false)
    assert.equal(await ask(operation, { name: 'nowhere.test' }), 'nothing')
  }
})

test('an answer too large for UDP comes over TCP', async () => {
  const { texts } = await ask('txt', { name: 'big.test' })
  assert.equal(texts.length, 30)
  assert.equal(texts[7], '7'.padEnd(200, 'x') + 'y'.repeat(100))
  assert.deepEqual(dns.asked.filter((q) => q.name === 'big.test').map((q) => q.over), ['udp', 'tcp'])
})

test('what servers that fail come to', async () => {
  for (const [name, state] of [['servfail', 'failing'], ['refused', 'refused'], ['silent', 'silent'], ['garbage', 'garbage'], ['notimp', 'notimp']])
    assert.equal(await ask('a', { name: `${name}.test` }), state, name)
  // SERVFAIL is tried again, NOTIMP is not
  assert.equal(dns.asked.filter((q) => q.name === 'servfail.test').length, 2)
  assert.equal(dns.asked.filter((q) => q.name === 'notimp.test').length, 1)
  // two tries within the first attempt are lost, and one within the second
  assert.deepEqual((await ask('a', { name: 'slow.test' })).addresses, ['192.0.2.9'])
  for (const name of ['a b', 'ä.test', '', 'a..b', '-'.repeat(64)]) assert.equal(await ask('a', { name }), 'bad', name)
})

test('spf is followed and counted', async () => {
  const good = await ask('spf', { domain: 'x.test' })
  assert.deepEqual({ ...good, read: good.read.map((r) => r.domain) }, { found: true, valid: true, all: '-', lookups: 5, problems: [],
    record: 'v=spf1 include:s.x.test a mx -all', read: ['x.test', 's.x.test', 't.x.test'] })
  const lots = await ask('spf', { domain: 'lots.test' })
  assert.deepEqual([lots.valid, lots.lookups, codes(lots)], [false, 11, ['error:too_many_lookups']])
  const deep = await ask('spf', { domain: 'deep.test' })
  assert.deepEqual([deep.valid, codes(deep)], [false, ['error:too_many_lookups']])
  assert.match(deep.problems[0].message, /^lots\.test: /)
  assert.deepEqual(codes(await ask('spf', { domain: 'loop.test' })), ['error:loop'])
  const two = await ask('spf', { domain: 'two.test' })
  assert.deepEqual([two.found, two.valid, two.record, codes(two)], [true, false, null, ['error:several_records']])
  assert.deepEqual(codes(await ask('spf', { domain: 'gone.test' })), ['error:target_without_record', 'error:target_without_record'])
  const none = await ask('spf', { domain: 'nowhere.test' })
  assert.deepEqual([none.found, none.valid, codes(none)], [false, false, ['error:no_record']])
  assert.deepEqual(codes(await ask('spf', { domain: 'empty.test' })), ['error:no_record'])
  // a server that fails on the way is no verdict
  assert.equal(await ask('spf', { domain: 'partly.test' }), 'failing')
  assert.equal(await ask('spf', { domain: 'silent.test' }), 'silent')
})

test('dkim and dmarc', async () => {
  assert.deepEqual(await ask('dkim', { domain: 'x.test', selector: 'm1' }), { found: true, valid: true, record: KEY, problems: [],
    name: 'm1._domainkey.x.test', key_type: 'ed25519', bits: 256, revoked: false, testing: false, strict: false })
  assert.deepEqual(codes(await ask('dkim', { domain: 'x.test', selector: 'm2' })), ['error:no_record'])
  const dmarc = await ask('dmarc', { domain: 'x.test' })
  assert.deepEqual([dmarc.valid, dmarc.policy, dmarc.rua, dmarc.name], [true, 'reject', ['mailto:d@x.test'], '_dmarc.x.test'])
  const sub = await ask('dmarc', { domain: 'mail.x.test', organizational: 'x.test' })
  assert.deepEqual([sub.found, sub.name], [true, '_dmarc.x.test'])
  assert.deepEqual(codes(await ask('dmarc', { domain: 'mail.x.test' })), ['error:no_record'])
})

test('the simulated dns answers what it was told, over HTTP', async () => {
  const other = await startEngine({ simulated: 'dns' })
  try {
    const path = join(folder, 'dns_spf.lua')
    assert.equal((await other.cli(['deploy', path])).code, 0)
    const start = async (domain) => {
      const r = await waitFor('it is loaded', async () => {
        const r = await other.api('POST', '/api/v1/runs', { workflow: 'dns_spf', input: { domain } })
        return r.status !== 503 && r
      })
      return (await other.until(r.body.run, 'succeeded')).run
    }
    assert.deepEqual((({ found, valid }) => [found, valid])((await start('example.test')).result), [true, true])
    assert.equal((await start('nowhere.test')).result.found, false)
    await other.fake('dns', 'POST', '/_fake/emit', '{"type":"fail","code":"servfail","times":2}', { 'content-type': 'application/json' })
    assert.equal((await start('example.test')).state, 'failing')
    await other.fake('dns', 'POST', '/_fake/emit',
      '{"type":"set","operation":"spf","name":"y.test","value":{"found":true,"valid":false,"problems":[]}}', { 'content-type': 'application/json' })
    assert.equal((await start('y.test')).result.valid, false)
  } finally { await other.stop() }
})
