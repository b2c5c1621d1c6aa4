// Secrets on a real engine: canaries go through the table, a file, requests, failures, an
// approval, a rotation by a run and kills, and then nothing that the engine has written or
// answers has one, in no spelling. And what operators and webhooks see of versions.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync, chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const PLUGINS = join(ROOT, 'tests/fixtures/plugins')
const PG_BIN = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'
const canary = {
  table: 'cnry-table-6fK2+w/=9"\\q', // characters that JSON, URLs and forms write differently
  file: 'cnry-file-Zx81mQ',
  user: 'cnry-user-Ww03',
  reply: (n) => `cnry-reply-${n}-pL5+t/="v`,
}

/** the texts somebody could find a value by */
function spellings(value) {
  const b = Buffer.from(value), json = JSON.stringify(value).slice(1, -1)
  const base64 = [0, 1, 2].map((pad) => Buffer.concat([Buffer.alloc(pad), b]).toString('base64').slice(pad ? 4 : 0, -4))
  return [...new Set([value, json, JSON.stringify(json).slice(1, -1), encodeURIComponent(value),
    encodeURIComponent(json), b.toString('hex'), b.toString('hex').toUpperCase(), ...base64,
    ...base64.map((s) => s.replaceAll('+', '-').replaceAll('/', '_'))])].filter((s) => s.length >= 8)
}

// ---- the provider ----

const provider = { lost: 0, keys: [], valid: new Set(), stored: {}, seen: [], broken: 0, port: 0 }
function answer(req, body) {
  const auth = req.headers.authorization ?? '', bearer = auth.replace('Bearer ', '')
  provider.seen.push({ method: req.method, url: req.url, auth, login: req.headers['x-login'], copy: req.headers['x-copy'], body })
  if (req.url === '/keys' && req.method === 'GET') return [200, { last: { id: provider.keys.at(-1).id, key: provider.keys.at(-1).key } }]
  if (req.url === '/keys') {
    const known = provider.keys.find((k) => k.idempotency && k.idempotency === req.headers['idempotency-key'])
    const n = provider.keys.length + 1
    const k = known ?? { idempotency: req.headers['idempotency-key'], id: `key_${n}`, key: canary.reply(n) }
    if (!known) { provider.keys.push(k); provider.valid.add(k.key) }
    return [200, { id: k.id, key: k.key, note: `your key is ${k.key}` }]
  }
  if (req.url === '/me' && provider.broken-- > 0) // as providers do: the key in the message, in every spelling
    return [500, { error: `not ready for ${bearer}, ${encodeURIComponent(bearer)}, ${Buffer.from(bearer).toString('base64')}, ` +
      `${req.headers['x-login']}` }, { 'x-echo': auth }]
  if (!provider.valid.has(bearer)) return [401, { error: `no such key: ${bearer}` }]
  if (req.url.startsWith('/stores')) { provider.stored[req.url] = body; return [200, { stored: body, echo: auth }] }
  return [200, { ok: true, you: bearer, login: req.headers['x-login'] }]
}
const server = createServer((req, res) => {
  let body = ''
  req.on('data', (d) => { body += d })
  req.on('end', () => {
    const [status, json, headers = {}] = answer(req, body)
    if (req.method === 'POST' && req.url === '/keys' && provider.lost-- > 0) return req.socket.destroy()
    res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(json))
  })
})

let engine, files, security
async function ok(words, o) {
  const r = await engine.cli(words, o)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
const versions = async (name) => JSON.parse(await ok(['secret', 'list', '--name', name, '--json'])).secrets
  .map((v) => `${v.version} ${v.state}`).reverse().join(', ')

before(async () => {
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  provider.port = server.address().port
  files = mkdtempSync(join(tmpdir(), 'holdpoint-secrets.'))
  chmodSync(files, 0o755)
  writeFileSync(join(files, 'KEYRING_PASSWORD'), `${canary.file}\n`)
  writeFileSync(join(files, 'KEYRING_USER'), `${canary.user}\n`)
  writeFileSync(join(files, 'KEYRING_KEY'), 'not this one: the table comes first')
  engine = await startEngine({ workers: 2, simulated: 'duffel', lease: '1s',
    args: ['--secrets', files, '--poll', '200ms', '--log', 'debug', '--base-url', `keyring=http://127.0.0.1:${provider.port}`] })
  // Images of pages in the WAL would be compressed, and nothing could be found in them: for all sessions of the next start.
  await engine.sql('alter database holdpoint set wal_compression = off')
  await engine.stop({ keep: true })
  await engine.start()
  security = await engine.tokenFor('sam', { scopes: ['read', 'approve'], roles: ['security'] })
  provider.valid.add(canary.table)
  for (const file of ['rotate_key', 'post_key', 'find_key', 'hand_over'])
    await ok(['deploy', '--plugins', PLUGINS, join(ROOT, 'tests/fixtures/workflows', `${file}.lua`)])
})
after(async () => {
  await engine?.stop()
  server.close()
  if (files) rmSync(files, { recursive: true, force: true })
})

async function start(workflow, input) {
  return waitFor(`${workflow} is loaded`, async () => {
    const r = await engine.api('POST', '/api/v1/runs', { workflow, input })
    if (r.status !== 503) assert.equal(r.status, 201, JSON.stringify(r.body))
    return r.body.run
  })
}
async function approve(run) {
  const open = await waitFor('the approval is open', async () =>
    (await engine.api('GET', '/api/v1/approvals')).body.approvals.find((a) => a.run === run || a.run_id === run))
  const shown = (await engine.api('GET', `/api/v1/approvals/${open.id ?? open.approval}`)).body
  const r = await engine.api('POST', `/api/v1/approvals/${open.id ?? open.approval}/approve`, { reason: 'it was tried' }, { token: security })
  assert.equal(r.status, 200, JSON.stringify(r.body))
  return shown
}
/** the wait of an hour is over */
const pass = (run) => engine.sql(`update holdpoint.run_state set due_at = 1 where run_id = ${run};
  update holdpoint.timer set due_at = 1 where run_id = ${run}`)

test("the guide's example is the one that is tested", () => {
  const text = readFileSync(join(ROOT, 'tests/fixtures/workflows/rotate_key.lua'), 'utf8')
  assert.ok(readFileSync(join(ROOT, 'docs/authoring.md'), 'utf8').includes(text))
})

test('a value goes in by standard input or a private file, and never comes back', async () => {
  const said = await ok(['secret', 'set', 'KEYRING_KEY'], { input: `${canary.table}\n` })
  assert.match(said, /^KEYRING_KEY version 1: current, fingerprint [0-9a-f]{16}\n$/)
  const open = join(files, 'open')
  writeFileSync(open, 'x', { mode: 0o644 })
  const r = await engine.cli(['secret', 'set', 'OTHER', '--file', open])
  assert.equal(r.code, 3)
  assert.match(r.stderr, /others may read .*mode 644/)
  assert.match((await engine.cli(['secret', 'set', 'OTHER', 'value'])).stderr, /value/)
  assert.equal(await ok(['secret', 'which', 'KEYRING_KEY'], { input: canary.table }), 'KEYRING_KEY version 1\n')
  assert.match(await ok(['secret', 'which', 'KEYRING_KEY'], { input: 'x' }), /no version/)
  await pause(5000) // what is promised: whichever worker gets the next run knows it
  const agent = await engine.tokenFor('robot', { kind: 'agent', scopes: ['admin', 'read'] })
  assert.equal((await engine.api('POST', '/api/v1/secrets/X', { value: 'y' }, { token: agent })).status, 403)
  const reader = await engine.tokenFor('rita', { scopes: ['read'] })
  assert.equal((await engine.api('GET', '/api/v1/secrets', undefined, { token: reader })).status, 403)
})

test('a value stands in a form, a header and a message, and the reply may repeat it', async () => {
  const run = await start('post_key', {})
  await engine.until(run, 'succeeded')
  const sent = provider.seen.at(-1)
  assert.equal(sent.auth, `Bearer ${canary.table}`)
  assert.equal(sent.body, `value=${encodeURIComponent(canary.table)}`)
  assert.equal(sent.copy, `is ${canary.table}`)
  assert.equal(sent.login, `Basic ${Buffer.from(`${canary.user}:${canary.file}`).toString('base64')}`)
  const doc = JSON.stringify((await engine.api('GET', `/api/v1/runs/${run}`)).body)
  assert.match(doc, /\[secret KEYRING_KEY\]/)
})

test('a run rotates a key: kept, tried, signed, promoted, and the old one ended', async () => {
  provider.broken = 2
  const run = await start('rotate_key', { month: '2026-11', old_key: 'key_0' })
  const doc = await engine.until(run, 'waiting')
  await waitFor('it waits for a person', async () => (await engine.api('GET', `/api/v1/runs/${run}`)).body.run.state === 'review', 30000)
  assert.equal(await versions('KEYRING_KEY'), '1 current, 2 pending')
  const saved = (await engine.api('GET', `/api/v1/runs/${run}`)).body.saved.new
  assert.deepEqual({ ...saved, key: { ...saved.key, fingerprint: '' } },
    { id: 'key_1', key: { secret: 'KEYRING_KEY', version: 2, fingerprint: '' }, note: 'your key is [secret KEYRING_KEY]' })
  assert.match(saved.key.fingerprint, /^[0-9a-f]{16}$/)
  assert.equal(provider.seen.filter((s) => s.url === '/me').at(-1).auth, `Bearer ${canary.reply(1)}`)
  const shown = JSON.stringify(await approve(run))
  assert.match(shown, /hps_[0-9a-f]{40}/)
  assert.match(shown, /KEYRING_KEY/)
  await waitFor('it overlaps', async () => (await engine.api('GET', `/api/v1/runs/${run}`)).body.run.state === 'overlap')
  assert.deepEqual(JSON.parse(provider.stored['/stores/app']), { value: canary.reply(1) })
  assert.equal(await versions('KEYRING_KEY'), '1 previous, 2 current')
  await pass(run)
  await engine.until(run, 'succeeded')
  assert.equal(await versions('KEYRING_KEY'), '1 retired, 2 current')
  // the last request was sent with the new key, by whichever worker
  assert.equal(provider.seen.at(-1).auth, `Bearer ${canary.reply(1)}`)
  assert.equal(doc.run.workflow, 'rotate_key')
})

test('killed wherever a new secret is in the air, one version comes of it', async () => {
  engine.options.workers = 1 // the first worker is the one that dies: it must get the run
  for (const [month, label] of [['2026-12', 'secret_sealed:1'], ['2027-01', 'effect_replied:1'], ['2027-02', 'secret_before:1']]) {
    await engine.stop({ keep: true })
    engine.log.length = 0
    await engine.start({ env: { HP_CRASH: label } })
    const before = provider.keys.length
    const run = await start('rotate_key', { month, old_key: 'key_0' })
    await waitFor('it waits for a person', async () => (await engine.api('GET', `/api/v1/runs/${run}`)).body.run.state === 'review', 60000)
    await engine.killed(label)
    assert.equal(provider.keys.length, before + 1)
    const all = JSON.parse(await ok(['secret', 'list', '--name', 'KEYRING_KEY', '--json'])).secrets
    assert.equal(all.filter((v) => v.state === 'pending' && v.created_by === `run:${run}`).length, 1)
    await approve(run)
    await waitFor('it overlaps', async () => (await engine.api('GET', `/api/v1/runs/${run}`)).body.run.state === 'overlap', 30000)
    await pass(run)
    await engine.until(run, 'succeeded', 30000)
    assert.equal(provider.seen.at(-1).auth, `Bearer ${canary.reply(before + 1)}`)
  }
})

test('a key whose answer is lost is found by the probe, and kept like one that was answered', async () => {
  provider.lost = 1
  const before = provider.keys.length
  const run = await start('find_key', {})
  await engine.until(run, 'succeeded', 30000)
  assert.equal(provider.keys.length, before + 1)
  const doc = (await engine.api('GET', `/api/v1/runs/${run}`)).body
  assert.equal(doc.saved.found.key.secret, 'FOUND_KEY')
  assert.equal(await versions('FOUND_KEY'), '1 current')
  assert.equal(await ok(['secret', 'which', 'FOUND_KEY'], { input: provider.keys.at(-1).key }), 'FOUND_KEY version 1\n')
})

test('what was signed goes to the store it was signed for, although the call of another comes first', async () => {
  const [version] = JSON.parse(await ok(['secret', 'list', '--name', 'KEYRING_KEY', '--json'])).secrets.filter((v) => v.state === 'current')
  const puts = () => provider.seen.filter((s) => s.method === 'PUT').map((s) => s.url)
  const before = puts().length
  const run = await start('hand_over', { version: version.version, ask_again: false })
  const shown = JSON.stringify(await approve(run))
  assert.match(shown, /stores\/hand_over/)
  await engine.until(run, 'succeeded')
  assert.deepEqual(puts().slice(before), ['/stores/copy', '/stores/hand_over'])

  const two = await start('hand_over', { version: version.version, ask_again: true })
  await approve(two)
  await waitFor('it asks again', async () => (await engine.api('GET', `/api/v1/runs/${two}`)).body.run.state === 'ask_again')
  await approve(two)
  await engine.until(two, 'held')
  const why = (await engine.api('GET', `/api/v1/runs/${two}/why`)).body
  assert.match(why.sentence, /another signed request of this run has not been sent yet/)
  assert.equal(puts().length, before + 2)
})

test('webhooks are accepted under each live version of the table', async () => {
  const event = (id) => ({ id, type: 'x', idempotency_key: id, data: {} })
  const send = (n, secret) => engine.webhook('duffel', event(`wh_${n}`), { secret })
  const bad = (await send(1, 'second-secret')).status
  assert.equal(bad, 401)
  await ok(['secret', 'set', 'DUFFEL_WEBHOOK_SECRET'], { input: 'first-secret' })
  await ok(['secret', 'set', 'DUFFEL_WEBHOOK_SECRET', '--pending'], { input: 'second-secret' })
  const accepted = (n, secret) => waitFor(`${secret} is accepted`, async () => (await send(n, secret)).status !== 401)
  const refused = (n, secret) => waitFor(`${secret} is refused`, async () => (await send(n, secret)).status === 401)
  await accepted(2, 'first-secret')
  await accepted(3, 'second-secret')
  await ok(['secret', 'promote', 'DUFFEL_WEBHOOK_SECRET'])
  await accepted(4, 'first-secret')
  await accepted(5, 'second-secret')
  await ok(['secret', 'retire', 'DUFFEL_WEBHOOK_SECRET'])
  await refused(6, 'first-secret')
  await accepted(7, 'second-secret')
})

/** every file below dir, as bytes */
function* filesBelow(dir) {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name)
    let st
    try { st = statSync(path) } catch { continue }
    if (st.isDirectory()) yield* filesBelow(path)
    else if (st.isFile()) try { yield [path, readFileSync(path)] } catch { /* just removed */ }
  }
}

/** The records of a WAL segment without the headers of its pages, by which one may be cut in two (access/xlog_internal.h). */
const records = (wal) => Buffer.concat(Array.from({ length: Math.ceil(wal.length / 8192) }, (_, i) =>
  wal.subarray(i * 8192 + (i ? 24 : 40), (i + 1) * 8192)))

test('no canary is anywhere: dump, tables, WAL, logs, metrics, answers', async () => {
  // what must be found, or the search itself is broken; also in an image of a whole page, which comes after a checkpoint
  const control = 'cnry-control-88gT'
  await engine.sql('checkpoint')
  const run = await start('post_key', { note: control })
  await engine.until(run, 'succeeded')
  await engine.sql('checkpoint')
  const texts = []
  const host = readFileSync(join(engine.dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[4]
  texts.push(['pg_dump', execFileSync(join(PG_BIN, 'pg_dump'), ['-h', host, '-U', 'holdpoint', '-d', 'holdpoint'],
    { maxBuffer: 1 << 28 })])
  for (const [path, bytes] of filesBelow(engine.dataDir)) {
    const name = path.slice(engine.dataDir.length)
    texts.push([name, bytes])
    if (/\/pg_wal\/[0-9A-F]{24}$/.test(name)) texts.push([name, records(bytes)])
  }
  texts.push(['log', Buffer.from(engine.log.map((l) => JSON.stringify(l)).join('\n'))])
  texts.push(['metrics', Buffer.from((await engine.api('GET', '/metrics', undefined, { token: null })).body)])
  for (const path of ['/api/v1/runs', '/api/v1/approvals?status=approved', '/api/v1/secrets', '/api/v1/events', '/api/v1/workflows'])
    texts.push([path, Buffer.from(JSON.stringify((await engine.api('GET', path)).body))])
  const runs = (await engine.api('GET', '/api/v1/runs')).body.runs.map((r) => r.id ?? r.run)
  for (const id of runs)
    for (const part of ['', '/history?limit=200', '/why'])
      texts.push([`run ${id}${part}`, Buffer.from(JSON.stringify((await engine.api('GET', `/api/v1/runs/${id}${part}`)).body))])
  for (const id of (await engine.sql('select id from holdpoint.approval')).flat())
    texts.push([`approval ${id}`, Buffer.from(JSON.stringify((await engine.api('GET', `/api/v1/approvals/${id}`)).body))])

  const where = (text) => texts.filter(([, bytes]) => bytes.includes(text)).map(([name]) => name)
  const found = where(control)
  for (const place of [/^pg_dump$/, /^\/postgres\/base\//, /^\/postgres\/pg_wal\//, /^run \d+$/])
    assert.ok(found.some((n) => place.test(n)), `the control is not found in ${place}: ${found}`)
  const all = [canary.table, canary.file, canary.user, ...provider.keys.map((k) => k.key)]
  assert.ok(all.length >= 6)
  for (const value of all) for (const text of spellings(value)) assert.deepEqual(where(text), [], `${text} of a canary`)
})
