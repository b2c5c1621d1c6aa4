// What people really type: wrong files, wrong addresses, full disks. Every error says
// what is wrong and what to do, exits with its code, and with --json is JSON.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { HP_BIN, ROOT, startEngine } from './lib/engine.mjs'

let engine, folder
before(async () => {
  engine = await startEngine()
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-misuse.'))
})
after(async () => {
  try { await engine?.stop() } finally { if (folder) rmSync(folder, { recursive: true, force: true }) }
})

const file = (name, text, mode = 0o600) => {
  const path = join(folder, name)
  writeFileSync(path, text, { mode })
  return path
}

async function fails(words, code, sentence, hint, o) {
  const r = await engine.cli(words, o)
  assert.equal(r.code, code, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  assert.match(r.stderr.split('\n')[0], sentence)
  assert.match(r.stderr.split('\n')[1], hint)
  return r
}

const shell = (text) => new Promise((done) => {
  const child = spawn('bash', ['-c', text], { stdio: ['ignore', 'pipe', 'pipe'], timeout: 30000, killSignal: 'SIGKILL',
    env: { ...process.env, HP: HP_BIN, HOLDPOINT_HOME: ROOT, HOLDPOINT_DATA: engine.dataDir } })
  let stdout = '', stderr = ''
  child.stdout.on('data', (d) => { stdout += d })
  child.stderr.on('data', (d) => { stderr += d })
  child.on('close', (code, signal) => done({ code: code ?? signal, stdout, stderr }))
})

test('a token that is none', async () => {
  const name = /as holdpoint token create prints it/
  await fails(['runs', '--token-file', file('empty', '')], 3, /no token in .*empty: its first line is empty/, name)
  await fails(['runs', '--token-file', file('words', 'two words\n')], 2, /words has characters that no token has/, name)
  await fails(['runs', '--token-file', file('open', 'hp_x\n', 0o644)], 3, /others may read .*mode 644/, /chmod 600 /)
  await fails(['runs', '--token-file', join(folder, 'none')], 3, /none: No such file/, /--token-file/)
  await fails(['runs', '--token-file', file('unknown', 'hp_x\n')], 3, /this token is not known/, /token create/)
  await fails(['runs'], 2, /\$HOLDPOINT_TOKEN has characters/, name, { env: { HOLDPOINT_TOKEN: 'a b' } })
})

test('an engine that is none', async () => {
  const write = /Write http:\/\/HOST:PORT\./
  for (const url of ['http://', 'ftp://host', 'http:///x', ':80', 'http://host:80?x', 'http://me@host'])
    await fails(['runs', '--server', url], 2, /is not the address of an engine/, write)
  await fails(['runs', '--server', 'host:99999'], 2, /engine's address http:\/\/host:99999: .*65535/, write)
  await fails(['runs', '--server', 'http://127.0.0.1:1'], 6, /cannot reach the engine at http:\/\/127.0.0.1:1/, /serve/)
  await fails(['runs', '--server', engine.fakeUrl('stripe')], 2, /answered 404/, /Is that the address/)
  await fails(['runs', '--data', join(folder, 'nothing')], 6, /data directory .*\/nothing/, /--server/)
})

test('output that does not arrive is not success', async () => {
  const words = ['version', 'help', 'runs', 'runs --json', 'token create lost', 'graph "$HOLDPOINT_HOME"/workflows/refund_on_booking_failure.lua']
  for (const w of words) {
    const r = await shell(`"$HP" ${w} > /dev/full`)
    assert.equal(r.code, 1, w)
    assert.match(r.stderr, /cannot write the output: No space left on device\n {2}What was asked for may have been done/)
    assert.equal((await shell(`"$HP" ${w} >&-`)).code, 1, w)
  }
  const piped = await shell('set -o pipefail; "$HP" help 2>&1 | head -c 1 | cat')
  assert.equal(piped.stdout, 'u')
})

test('with --json every error is JSON, even of words that cannot be read', async () => {
  const wrong = [['frob'], ['runs', '--frob'], ['show'], ['show', 'x'], ['show', '99'], ['token'], ['token', 'x'], ['event'],
    ['start', 'nope'], ['start', 'x', '--input', '{'], ['approve', '1'], ['approve', '99', '--reason', 'x'],
    ['check', '/none'], ['deploy', '/none'], ['migrate', '--scope', 'none'], ['graph', 'x'], ['serve', '--frob'],
    ['runs', '--server', 'http://127.0.0.1:1'], ['show', '\u001b[31m"ü'], ['runs', '--status', 'x']]
  for (const words of wrong) {
    const r = await engine.cli([...words, '--json'])
    assert.ok(r.code >= 1 && r.code <= 6, `${words}: ${r.code}`)
    const { error } = JSON.parse(r.stdout)
    assert.ok(error.code && error.message, r.stdout)
    assert.equal(r.stderr.split('\n')[0], `holdpoint: ${error.message}`)
    assert.doesNotMatch(r.stderr, /[\u0000-\u0009\u000b-\u001f]/, 'control characters for the terminal')
  }
  const bytes = await shell("\"$HP\" show $'\\xff' --json")
  assert.match(JSON.parse(bytes.stdout).error.message, /^"\?" is not the number/)
})

test('an empty key is no key', async () => {
  const input = ['--input', '{"data":{"object":{"id":"ord_empty"}}}']
  await fails(['start', 'refund_on_booking_failure', ...input, '--key', ''], 2, /the key is empty/, /Leave it out/)
  const none = await engine.api('GET', '/api/v1/runs')
  assert.deepEqual(none.body.runs, [])
})
