// The commands, as typed: what they print, where, and with which exit code.
import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { BOOKING, ROOT, startEngine } from './lib/engine.mjs'

let engine
before(async () => {
  engine = await startEngine({ args: ['--roles', 'payments'] })
  await engine.wallet()
})
after(() => engine?.stop())

async function ok(words, o) {
  const r = await engine.cli(words, o)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}

/** wrong words: nothing useful on stdout, "holdpoint: …" on stderr, the exit code */
async function fails(words, code, sentence, o) {
  const r = await engine.cli(words, o)
  assert.equal(r.code, code, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  assert.match(r.stderr, /^holdpoint: /)
  assert.match(r.stderr, sentence)
  return r
}

const commands = ['start', 'runs', 'show', 'history', 'why', 'watch', 'cancel', 'retry', 'skip', 'give-up', 'approvals',
  'approve', 'reject', 'event', 'events', 'workflows', 'schedules', 'check', 'test', 'graph', 'deploy', 'serve', 'fake', 'migrate', 'token',
  'crash-labels', 'completion', 'version', 'help']

test('every command is in the help and has its own', async () => {
  const help = await ok(['help'])
  assert.equal(await ok(['--help']), help)
  for (const c of commands) {
    assert.match(help, new RegExp(`^  ${c} +\\S`, 'm'))
    assert.match(await ok([c, '--help']), /^usage: holdpoint /)
    assert.equal(await ok(['help', c]), await ok([c, '--help']))
  }
  assert.match(await ok(['version']), /^holdpoint \d+\.\d+\.\d+\n$/)
  assert.match(JSON.parse(await ok(['version', '--json'])).version, /^\d/)
})

test('wrong words: the nearest right one, exit code 2', async () => {
  await fails(['runz'], 2, /runs/)
  await fails(['help', 'shwo'], 2, /show/)
  await fails(['runs', '--staus', 'held'], 2, /--status/)
  await fails(['runs', '--status'], 2, /needs a value/)
  await fails(['runs', '--all=1'], 2, /takes no value/)
  await fails(['runs', 'x'], 2, /too many/)
  await fails(['runs', '-x'], 2, /unknown option/)
  await fails(['show'], 2, /RUN/)
  await fails(['show', 'abc'], 2, /not the number/)
  await fails(['show', '-1'], 2, /./)
  await fails(['token', 'crate'], 2, /token create/)
  await fails(['event'], 2, /event send/)
  await fails(['completion', 'zsh'], 2, /bash/)
  await fails(['approve', '--reason', 'r'], 2, /APPROVAL or --run/)
  await fails(['approve', '1', '--run', '1', '--reason', 'r'], 2, /APPROVAL or --run/)
  await fails(['approve', '1'], 2, /--reason is missing/)
  await fails(['cancel', '1'], 2, /--reason is missing/)
  await fails(['watch', '1', '--until', 'lunch'], 2, /"lunch"/)
  await fails(['watch', '1', '--timeout', 'soon'], 2, /duration/)
  await fails(['start', 'refund_on_booking_failure', '--input', '{"a"'], 2, /input: /)
  await fails(['start', 'refund_on_booking_failure', '--input', '@/nonexistent'], 4, /nonexistent/)
  await fails(['start', 'refund_on_booking_failur'], 4, /Did you mean/)
  await fails(['show', '99999'], 4, /no run 99999/)
  await fails(['approve', '99999', '--reason', 'r'], 4, /no approval 99999/)
})

test('with --json an error is JSON on standard output too', async () => {
  const r = await fails(['show', '99999', '--json'], 4, /no run/)
  assert.equal(JSON.parse(r.stdout).error.code, 'not_found')
})

test('token and address: where from, and what is refused', async () => {
  await fails(['runs'], 3, /not known/, { env: { HOLDPOINT_TOKEN: 'hp_wrong' } })
  await fails(['runs', '--server', 'http://127.0.0.1:1'], 6, /cannot reach/)
  await fails(['runs', '--server', 'ftp://x'], 2, /address/)
  await fails(['runs', '--data', '/nonexistent'], 6, /no engine is known/)
  const dir = mkdtempSync(join(tmpdir(), 'holdpoint-cli.'))
  const file = join(dir, 'token')
  try {
    writeFileSync(file, `${engine.token}\n`, { mode: 0o600 })
    assert.match(await ok(['runs', '--server', engine.url, '--token-file', file, '--data', '/nonexistent']), /RUN|No run/)
    chmodSync(file, 0o640)
    await fails(['runs', '--token-file', file], 3, /chmod 600/)
  } finally { rmSync(dir, { recursive: true }) }
})

test('a run from its start to its end, at the keyboard', async () => {
  assert.equal(await ok(['approvals']), 'Nothing waits for a decision.\n')
  const r = await engine.webhook('duffel',
    { id: 'wev_cli', type: 'order.creation_failed', live_mode: false, data: { object: { id: BOOKING } } })
  const run = String(r.body.runs[0])
  const parked = await engine.cli(['watch', run, '--timeout', '20s'])
  assert.equal(parked.code, 10, parked.stdout + parked.stderr)
  assert.match(parked.stdout, /Refund 500\.00 USD/)
  const id = parked.stdout.match(/holdpoint approve (\d+)/)[1]
  assert.match(await ok(['why', run]), /^\S.*\n$/)
  const shown = await ok(['approvals', id])
  assert.match(shown, /amount=50000/)
  assert.match(shown, /sha256 +[0-9a-f]{64}/)
  assert.match(await ok(['approvals']), /Refund 500\.00 USD/)
  await fails(['watch', run, '--until', 'end', '--timeout', '1s'], 6, /goes on/)
  const boss = await engine.tokenFor('boss', { scopes: ['read', 'approve'], roles: ['payments'] })
  assert.match(await ok(['approve', '--run', run, '--reason', 'checked'], { env: { HOLDPOINT_TOKEN: boss } }), /approved/)
  await fails(['reject', id, '--reason', 'late'], 5, /already decided by boss/)
  const watched = await engine.cli(['watch', run, '--until', 'end', '--timeout', '30s'])
  assert.equal(watched.code, 0, watched.stdout + watched.stderr)
  const timeline = await ok(['show', run])
  assert.doesNotMatch(timeline, /decided.*wakes/)
  for (const word of [/succeeded/, /boss/, /checked/, /find_payment/, /attempt 1/, /timeline/, /saved/])
    assert.match(timeline, word)
  const doc = JSON.parse(await ok(['show', run, '--json']))
  assert.equal(doc.run.status, 'succeeded')
  assert.equal(doc.history[0].move, 'started')
  const history = JSON.parse(await ok(['history', run, '--json'])).history
  assert.deepEqual(history, doc.history)
  assert.equal((await ok(['history', run])).trim().split('\n').length, history.length)
})

test('lists: filters, pages, --all', async () => {
  const numbers = []
  for (let i = 0; i < 4; i++)
    numbers.push(Number((await ok(['start', 'refund_on_booking_failure', '--input', '-', '--key', `list-${i}`],
      { input: JSON.stringify({ data: { booking_id: `list-${i}` } }) })).match(/run (\d+) started/)[1]))
  assert.match(await ok(['start', 'refund_on_booking_failure', '--input', '{"data":{"booking_id":"x"}}', '--key', 'list-0']),
    /joined/)
  const page = JSON.parse(await ok(['runs', '--limit', '2', '--json']))
  assert.equal(page.runs.length, 2)
  assert.ok(page.next)
  assert.match(await ok(['runs', '--limit', '2']), /--after \d+, or --all/)
  const all = JSON.parse(await ok(['runs', '--limit', '2', '--all', '--json']))
  assert.equal(all.next, undefined)
  for (const n of numbers) assert.ok(all.runs.some((x) => x.run === n))
  const one = JSON.parse(await ok(['runs', '--key', 'list-2', '--json']))
  assert.deepEqual(one.runs.map((x) => x.run), [numbers[2]])
  assert.deepEqual(JSON.parse(await ok(['runs', '--since', '1h', '--all', '--json'])).runs.length, all.runs.length)
  assert.equal(await ok(['runs', '--until', '1h']), 'No run matches.\n')
  await fails(['runs', '--since', 'someday'], 2, /not a time/)
  await fails(['runs', '--status', 'hled'], 2, /held/)
})

test('what providers and people write cannot paint on the terminal', async () => {
  await ok(['event', 'send', 'a\u001b[31mred', 'k\u009b2J', '{}'])
  const out = await ok(['events'])
  assert.doesNotMatch(out, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
  assert.match(out, /a\?\[31mred/)
})

test('tokens: made with what was asked for', async () => {
  const r = await engine.cli(['token', 'create', 'carol', '--scope', 'read', '--role', 'payments', '--expires-in', '1h'])
  assert.equal(r.code, 0)
  assert.match(r.stdout, /^hp_\S+\n$/) // the token alone, for $(…)
  assert.match(await ok(['runs'], { env: { HOLDPOINT_TOKEN: r.stdout.trim() } }), /RUN/)
  await fails(['start', 'x'], 3, /scope "start"/, { env: { HOLDPOINT_TOKEN: r.stdout.trim() } })
  await fails(['token', 'create', 'carol', '--scope', 'aprove'], 2, /approve/)
  await fails(['token', 'create', 'carol', '--kind', 'agent'], 5, /known as person/)
})

test('check, graph and deploy', async () => {
  assert.match(await ok(['check', 'workflows']), /: 0 errors/)
  assert.match(await ok(['graph', 'workflows/refund_on_booking_failure.lua']), /^flowchart/)
  const dir = mkdtempSync(join(tmpdir(), 'holdpoint-cli.'))
  try {
    const file = join(dir, 'small.lua')
    writeFileSync(file, 'return workflow "small" {\n  wait "nap" { for_ = "1h" },\n  succeed "done" {},\n}\n')
    const checked = await engine.cli(['check', file])
    assert.equal(checked.code, 0, checked.stdout + checked.stderr)
    assert.match(await ok(['deploy', file]), /small deployed as [0-9a-f]{12}/)
    assert.match(await ok(['workflows']), /small/)
    const run = (await ok(['start', 'small'])).match(/run (\d+)/)[1]
    await engine.until(run, 'waiting')
    assert.match(await ok(['cancel', run, '--reason', 'enough']), /will be cancelled/)
    assert.equal((await engine.cli(['watch', run, '--timeout', '10s'])).code, 13)
    writeFileSync(file, 'return workflow "small" {\n  wait "nap" { for_ = "1h", next = "dnoe" },\n  succeed "done" {},\n}\n')
    const bad = await engine.cli(['check', file])
    assert.equal(bad.code, 2)
    assert.match(bad.stdout, /small\.lua:2: error \[\w+\] .*"dnoe".*"done"/)
    await fails(['deploy', file], 2, /dnoe/)
    await fails(['check', join(dir, 'none.lua')], 4, /none\.lua/)
  } finally { rmSync(dir, { recursive: true }) }
})

test('without an engine: straight to the database', async () => {
  const conninfo = `host='${join(engine.dataDir, 'run')}' user=holdpoint_engine dbname=holdpoint`
  const token = (await ok(['token', 'create', 'dora', '--scope', 'read', '--database', conninfo])).trim()
  assert.match(await ok(['workflows'], { env: { HOLDPOINT_TOKEN: token } }), /refund_on_booking_failure/)
  assert.match(await ok(['deploy', 'workflows', '--database', conninfo]), /refund_on_booking_failure deployed/)
  await fails(['token', 'create', 'dora', '--database', 'host=/nonexistent'], 6, /cannot connect to the database: .*nonexistent/)
})

test('migrate: nothing to do, and a scope that is not there', async () => {
  assert.equal(await ok(['migrate']), 'holdpoint: up to date\n')
  await fails(['migrate', '--scope', 'nowhere'], 4, /nowhere/)
  await fails(['migrate', '--database', 'host=/nonexistent'], 6, /./)
})

test('the installed completion is what the program prints', async () => {
  assert.equal(await ok(['completion', 'bash']), readFileSync(join(ROOT, 'scripts/completion.bash'), 'utf8'))
})
