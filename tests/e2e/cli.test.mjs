// The commands, as typed: what they print, where, and with which exit code.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { BOOKING, HP_BIN, ROOT, startEngine, waitFor } from './lib/engine.mjs'

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

const commands = ['start', 'runs', 'show', 'history', 'why', 'watch', 'cancel', 'pause', 'resume', 'move', 'bulk', 'retry', 'skip', 'undo', 'give-up', 'approvals',
  'approve', 'reject', 'event', 'events', 'workflows', 'workflow', 'schedules', 'budget', 'limits', 'check', 'test', 'graph', 'deploy', 'plugin', 'serve', 'fake', 'migrate', 'gc', 'fsck', 'token', 'secret',
  'breakers', 'breaker', 'crash-labels', 'completion', 'version', 'help']

test('every command is in the help and has its own', async () => {
  const help = await ok(['help'])
  assert.equal(await ok(['--help']), help)
  for (const c of commands) {
    assert.match(help, new RegExp(`^  ${c} +\\S`, 'm'))
    assert.match(await ok([c, '--help']), /^usage: holdpoint /)
    assert.equal(await ok(['help', c]), await ok([c, '--help']))
  }
  const headings = help.split('\n').filter(l => /^[A-Z][a-z ]+:$/.test(l))
  assert.ok(headings.length > 3)
  assert.equal(new Set(headings).size, headings.length, `a heading stands twice: ${headings}`)
  assert.doesNotMatch(await ok(['gc', '--help']), /\\n/)
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
  await fails(['breaker', 'opn', 'stripe'], 2, /breaker open NAME/)
  await fails(['budget', 'sett', 'sms'], 2, /budget set NAME/)
  await fails(['workflow', 'foo', 'x'], 2, /workflow pause NAME/)
  await fails(['workflow', 'pause', 'x'], 2, /--reason is missing/)
  await fails(['move', '1'], 2, /--reason is missing/)
  await fails(['bulk', 'cancel', '--status', 'held', '--reason', 'r', '--limit', 'x'], 2, /number of runs in a page/)
  await fails(['watch', '1', '--until', 'lunch'], 2, /"lunch"/)
  await fails(['watch', '1', '--timeout', 'soon'], 2, /duration/)
  await fails(['start', 'refund_on_booking_failure', '--input', '{"a"'], 2, /input: /)
  await fails(['start', 'refund_on_booking_failure', '--input', '@/nonexistent'], 4, /nonexistent/)
  await fails(['start', 'refund_on_booking_failur'], 4, /Did you mean/)
  await fails(['show', '99999'], 4, /no run 99999/)
  await fails(['approve', '99999', '--reason', 'r'], 4, /no approval 99999/)
})

// A filter that is lost widens what is hit; a reason that is lost is nobody's.
test('words that are not UTF-8 are refused, and nothing is done', async () => {
  const bad = (...words) => spawnSync('bash', ['-c', 'exec "$0" "${@/@BAD@/$(printf "caf\\351")}"', HP_BIN, ...words],
    { encoding: 'utf8', cwd: engine.dir, env: engine.cliEnv() })
  for (const words of [
    ['bulk', 'cancel', '--status', 'held', '--workflow', '@BAD@', '--reason', 'r'],
    ['bulk', 'cancel', '--status', 'held', '--reason', '@BAD@'],
    ['bulk', 'cancel', '--status', 'held', '--since', '@BAD@', '--reason', 'r'],
    ['retry', '1', '--from', '@BAD@', '--reason', 'r'],
    ['move', '1', '--at', '@BAD@', '--reason', 'r'],
    ['cancel', '1', '--reason', '@BAD@'],
    ['workflow', 'pause', 'x', '--reason', '@BAD@'],
    ['deploy', join(ROOT, 'workflows'), '--move-live', '--reason', '@BAD@'],
  ]) {
    const r = bad(...words)
    assert.equal(r.status, 2, `${words.join(' ')}: ${r.status} ${r.stdout}${r.stderr}`)
    assert.match(r.stderr, /^holdpoint: .*UTF-8/, words.join(' '))
  }
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

// No worker takes anything: what a retry leaves behind can be looked at for as long as one likes.
const claims = { stop: `create function public.nothing() returns trigger language plpgsql as $$ begin return null; end $$;
  create trigger nothing before update on holdpoint.run_state for each row when (new.claims = old.claims + 1) execute function public.nothing()`,
go_on: 'drop trigger nothing on holdpoint.run_state; drop function public.nothing()' }

test('watch: who was held and told to try again is not held', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'holdpoint-cli.'))
  const file = join(dir, 'looks.lua')
  try {
    writeFileSync(file, `return workflow "looks" {
  sql "look" { as = service, one = [[select n from public.later]] },
  succeed "done" {},\n}\n`)
    await ok(['deploy', file])
    const run = (await ok(['start', 'looks'])).match(/run (\d+)/)[1]
    await engine.until(run, 'held')
    const held = await engine.cli(['watch', run])
    assert.equal(held.code, 11, held.stdout + held.stderr)
    assert.match(held.stdout, new RegExp(`Run ${run} is held\\. .*holdpoint retry ${run}`))
    await engine.sql(`create table public.later (n int); insert into public.later values (1);
      grant select on public.later to holdpoint_workflow; ${claims.stop}`)
    await ok(['retry', run, '--reason', 'it is there now'])
    await fails(['watch', run, '--timeout', '1s'], 6, /goes on/)
    await engine.sql(claims.go_on)
    const done = await engine.cli(['watch', run, '--timeout', '20s'])
    assert.equal(done.code, 0, done.stdout + done.stderr)
    assert.match(done.stdout, /commanded .*retry .*it is there now[^]*succeeded/)
  } finally { rmSync(dir, { recursive: true }) }
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

test('tokens: listed and revoked', async () => {
  const { id, token } = JSON.parse(await ok(['token', 'create', 'erin', '--scope', 'read', '--scope', 'start', '--json']))
  const asErin = { env: { HOLDPOINT_TOKEN: token } }
  await fails(['token', 'list'], 3, /scope "admin"/, asErin)
  await fails(['token', 'revoke', String(id)], 3, /scope "admin"/, asErin)
  const text = await ok(['token', 'list'])
  assert.match(text, /^ID +PRINCIPAL +KIND +SCOPES +CREATED +BY +EXPIRES +REVOKED/)
  assert.match(text, new RegExp(`^ *${id} +erin +person +read start +20[-\\d]+ [\\d:]+ +admin +- +-$`, 'm'))
  assert.doesNotMatch(text, /hp_/)
  const listed = async (...more) => JSON.parse(await ok(['token', 'list', '--json', ...more]))
  assert.equal((await listed()).tokens.find((t) => t.id === id).revoked_at, undefined)
  const page = await listed('--limit', '1')
  assert.deepEqual([page.tokens.length, page.tokens[0].id, page.next], [1, id, id])
  assert.equal((await listed('--limit', '1', '--after', String(id))).tokens.length, 1)
  assert.deepEqual((await listed('--all', '--limit', '1')).tokens, (await listed()).tokens)

  assert.match(await ok(['runs'], asErin), /RUN/)
  assert.equal(await ok(['token', 'revoke', String(id), '--reason', 'lost']), `token ${id} of erin: revoked\n`)
  await fails(['runs'], 3, /this token was revoked at \d{4}-/, asErin)
  const row = (await listed()).tokens.find((t) => t.id === id)
  assert.deepEqual([row.revoked_by, row.reason], ['admin', 'lost'])
  const since = row.revoked_at.slice(0, 19).replace('T', ' ')
  assert.equal(await ok(['token', 'revoke', String(id)]), `token ${id} of erin: revoked already, since ${since} UTC, by admin\n`)
  assert.deepEqual(JSON.parse(await ok(['token', 'revoke', String(id), '--json'])),
    { id, principal: 'erin', already: true, revoked_at: row.revoked_at, revoked_by: 'admin' })
  assert.match(await ok(['token', 'list']), new RegExp(`^ *${id} +erin .*${since}$`, 'm'))

  await fails(['token', 'revoke', '987654'], 4, /no token 987654/)
  await fails(['token', 'revoke', 'erin'], 2, /not the number of a token.*\n.*token list/)
  await fails(['token', 'revoke'], 2, /ID/)
  await fails(['token', 'lst'], 2, /token list/)
  await fails(['token'], 2, /token create PRINCIPAL or holdpoint token list or holdpoint token revoke ID/)
  await fails(['token', 'list', '--limit', '0'], 2, /limit/)
  const help = await ok(['help', 'token'])
  for (const word of ['create', 'list', 'revoke']) {
    assert.match(help, new RegExp(`^usage: holdpoint token ${word} `, 'm'))
    const own = await ok(['token', word, '--help'])
    assert.ok(own.startsWith(`usage: holdpoint token ${word} `) && help.includes(own))
  }
})

test('completion: what comes after a command of two words', async () => {
  const complete = (...words) => execFileSync('bash', ['-c', `source "$1"
    PATH=$2:$PATH; shift 2
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _holdpoint
    printf '%s\\n' "\${COMPREPLY[@]}" | sort -u`, 'bash', join(ROOT, 'scripts/completion.bash'), dirname(HP_BIN), ...words],
  { encoding: 'utf8', cwd: engine.dir }).split('\n').filter(Boolean)
  assert.deepEqual(complete('holdpoint', 'token', ''), ['create', 'list', 'revoke'])
  assert.deepEqual(complete('holdpoint', 'token', 'revoke', '--r'), ['--reason', '--role'])
  assert.deepEqual(complete('holdpoint', 'secret', 're'), ['rekey', 'retire'])
  assert.deepEqual(complete('holdpoint', 'breaker', ''), ['close', 'open', 'reset', 'show'])
  assert.deepEqual(complete('holdpoint', 'bulk', 're'), ['restart', 'resume', 'retry'])
  assert.deepEqual(complete('holdpoint', 'schedules', 'p'), ['pause'])
  assert.deepEqual(complete('holdpoint', 'tok'), ['token'])
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
  const list = async (...more) => JSON.parse(await ok(['token', 'list', '--database', conninfo, '--json', ...more]))
  const { id, created_by: by, scopes } = (await list('--limit', '1')).tokens[0]
  assert.match(by, /^cli:./)
  assert.deepEqual(scopes, ['read'])
  assert.deepEqual((await list('--all', '--limit', '1')).tokens, (await list()).tokens)
  assert.match(await ok(['token', 'list', '--database', conninfo]), /dora/)
  await fails(['token', 'list', '--database', conninfo, '--limit', 'x'], 2, /"limit" must be a whole number/)
  const revoke = ['token', 'revoke', String(id), '--database', conninfo]
  assert.equal(await ok([...revoke, '--reason', 'a drill']), `token ${id} of dora: revoked\n`)
  assert.match(await ok(revoke), new RegExp(`^token ${id} of dora: revoked already, since .* UTC, by ${by}$`, 'm'))
  assert.equal((await list('--limit', '1')).tokens[0].reason, 'a drill')
  // this worker may have let dora in a moment ago, and nobody told it
  await waitFor('the token is worthless', async () =>
    /this token was revoked at/.test((await engine.cli(['workflows'], { env: { HOLDPOINT_TOKEN: token } })).stderr))
  await fails(['token', 'revoke', '987654', '--database', conninfo], 4, /no token 987654/)
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
