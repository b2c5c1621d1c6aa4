// `holdpoint fsck`: nothing is wrong with what the engine writes, whatever it is about; and
// every check finds what it is there for.
//
// A zoo of runs stands in every kind of state and every phase. Then its database is copied, every
// line of lib/corruptions.mjs spoils one thing of the copy, and fsck names each. Nothing
// else may be found, so a check that cries wolf fails here, too.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'
import { CORRUPTIONS, ENGINES } from './lib/corruptions.mjs'
import { newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

const ZOO = join(ROOT, 'tests/fixtures/fsck')
const PLUGINS = join(ROOT, 'tests/chaos/plugins')
let engine, server, ops
const zoo = {} // name → run
const many = {} // kind → runs of it that nobody has spoiled yet
const slow = new Set() // runs whose payment is not answered yet
const inAir = new Map() // run → answers its "slow" request

/** A provider that does what the tag says. */
const provide = (rq, rs) => {
  let text = ''
  rq.on('data', (d) => { text += d })
  rq.on('end', () => {
    const [word, run] = text ? JSON.parse(text).tag.split('/') : ['busy']
    if (word === 'lose') return rq.socket.destroy()
    if (word === 'pay' && slow.has(run)) return
    const answer = () => rs.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ id: word }))
    const status = { busy: 503, no: 402 }[word] ?? 200
    if (word === 'slow') inAir.set(run, answer)
    else answer()
  })
}

before(async () => {
  server = createServer(provide)
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  engine = await startEngine({ workers: 2, lease: '1s',
    args: ['--poll', '100ms', '--base-url', `recorder=http://127.0.0.1:${server.address().port}`] })
  await engine.sql(`create table public.zoo_rows (id bigint primary key);
    insert into public.zoo_rows select generate_series(1, 3600);
    create table public.zoo_swept (run bigint, id bigint);
    grant select, insert on public.zoo_rows, public.zoo_swept to holdpoint_workflow`)
  for (const name of ['zoo_one', 'zoo_home', 'zoo']) await ok(['deploy', join(ZOO, `${name}.lua`), '--plugins', PLUGINS])
  await waitFor('the zoo is loaded by both workers', async () => { // each loads it by itself
    for (let i = 0; i < 4; i++) await start('zoo', { to: 'done' }, 'opening')
    return true
  })
  ops = await engine.tokenFor('olga', { roles: ['ops'] })
})
after(async () => {
  server?.closeAllConnections()
  await engine?.stop()
  server?.close()
})

async function ok(words, options) {
  const r = await engine.cli(words, options)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
async function post(path, body = { reason: 'a test' }, options) {
  const r = await engine.api('POST', `/api/v1${path}`, body, options)
  assert.ok(r.status === 200 || r.status === 201, `${path}: ${JSON.stringify(r.body)}`)
  return r.body
}
const start = async (workflow, input, key) => (await post('/runs', { workflow, input, ...(key ? { key } : {}) })).run
const row = async (run) => (await engine.sql(`select status, phase, visit from holdpoint.run_state where run_id = ${run}`))[0]
const stands = (run, status, phase) => waitFor(`run ${run} is ${status} in phase ${phase}`, async () => {
  const is = await row(run)
  if (is[0] === String(status) && is[1] === String(phase)) return true
  throw new Error(`it is ${is}`)
})
const decide = async (run, how) => {
  const id = await waitFor('it asks', async () => (await engine.sql(`select id from holdpoint.approval where run_id = ${run} and status = 'open'`))[0]?.[0])
  await post(`/approvals/${id}/${how}`, { reason: 'a test' }, { token: ops })
}
const clean = (r) => assert.equal(r.code, 0, `${r.stdout}${r.stderr}`)

test('fsck finds nothing while the engine works, twenty times', async () => {
  let busy = true, started = 0, killed = 0
  const load = (async () => {
    while (busy) {
      const to = ['note', 'short', 'undo', 'spend', 'backoff', 'done'][started % 6]
      const r = await engine.api('POST', '/api/v1/runs', { workflow: 'zoo', input: { to }, key: `load ${started}` }).catch(() => null)
      if (r?.status === 200 || r?.status === 201) started++ // one that was lost with its worker is asked for again
      if (started === 20 && !killed) killed = engine.kill('worker-1')
    }
  })()
  try { for (let i = 0; i < 20; i++) clean(await engine.cli(['fsck', '--json'])) } finally { busy = false }
  await load
  assert.ok(started > 20, `only ${started} runs were started`)
  await engine.killed()
})

test('a run in every kind of state and phase, and nothing is wrong', async () => {
  await waitFor('both workers are there', () => engine.pids()['worker-1'] && engine.pids()['worker-2'])
  for (const to of ['wait', 'await', 'sign', 'backoff', 'doubt', 'hold', 'slot', 'spend', 'child', 'many', 'sweep', 'undo', 'undo_held', 'note'])
    zoo[to] = await start('zoo', { to }, `zoo ${to}`)
  for (const [to, n] of Object.entries({ done: 30, backoff: 20, await: 3, note: 3, short: 3, undo: 6 }))
    many[to] = await Promise.all(Array.from({ length: n }, (_, i) => start('zoo', { to }, `zoo ${to} ${i}`)))
  many.signed = await Promise.all(Array.from({ length: 14 }, () => start('zoo', { to: 'sign' })))
  for (const to of ['signed', 'refused', 'ask', 'paying']) zoo[to] = await start('zoo', { to: 'sign' })
  zoo.some = await start('zoo', { to: 'many' })
  slow.add(String(zoo.paying))
  for (const to of ['cancelled', 'paused', 'paused_too']) zoo[to] = await start('zoo', { to: 'wait' })
  await stands(zoo.slot, 2, 3)
  zoo.queued = await start('zoo', { to: 'slot' })
  zoo.budget = await start('zoo', { to: 'spend' })
  zoo.first = await start('zoo_one', { who: 'a' })
  zoo.second = await start('zoo_one', { who: 'a' })
  zoo.ended = await start('zoo_one', { who: 'b' })
  for (const run of [zoo.signed, zoo.paying, ...many.signed]) await decide(run, 'approve')
  await decide(zoo.refused, 'reject')
  for (const name of ['cancelled', 'paused', 'paused_too']) await stands(zoo[name], 2, 6)
  await post(`/runs/${zoo.cancelled}/cancel`)
  await stands(zoo.ended, 2, 6)
  await post(`/runs/${zoo.ended}/cancel`)
  await engine.until(zoo.ended, 'cancelled')
  zoo.rated = await start('zoo_one', { who: 'b' }) // it has the place, and its time is tomorrow
  for (const name of ['paused', 'paused_too']) await post(`/runs/${zoo[name]}/pause`)
  await post(`/runs/${zoo.await}/pause`)
  await post(`/runs/${zoo.await}/resume`)
  await stands(zoo.hold, 3, 2)
  zoo.retried = await start('zoo', { to: 'hold' })
  await stands(zoo.retried, 3, 2)
  await post(`/runs/${zoo.retried}/retry`)
  zoo.tick = (await post('/schedules/zoo_one/run', {})).run
  await ok(['secret', 'set', 'ZOO_KEY'], { input: 'a secret\n' })
  const bob = await prepare(engine)
  const booking = await newBooking(engine)
  await refuse(engine, booking)
  zoo.webhook = await waitFor('the webhook starts a run', async () => (await runOf(engine, booking))?.run)
  assert.ok(bob)
  await stands(zoo.doubt, 2, 4)
  await stands(zoo.queued, 2, 7)
  await stands(zoo.child, 2, 10)
  await stands(zoo.undo_held, 3, 2)
  await engine.until(zoo.undo, 'failed')
  for (const run of [zoo.signed, ...many.signed, ...many.done, ...many.note, ...many.short]) await engine.until(run, 'succeeded')
  for (const run of many.undo) await engine.until(run, 'failed')
  for (const run of many.backoff) await stands(run, 2, 3)
  for (const run of [...many.await, zoo.ask, zoo.sign]) await stands(run, 2, 6)
  for (const run of [zoo.many, zoo.some]) await stands(run, 2, 10)
  await stands(zoo.paying, 1, 2)
  await stands(zoo.sweep, 2, 6)
  await engine.until(zoo.cancelled, 'cancelled')
  const r = await engine.cli(['fsck'])
  clean(r)
  assert.match(r.stdout, /^ +7 {2}what has ended stays ended +ok {2}\d+ runs$/m)
  assert.match(r.stdout, /^ +20 {2}the audit chain +not built yet: nothing to check$/m)
  assert.match(r.stdout, /nothing is wrong\n$/)
  clean(await engine.cli(['fsck', '--run', String(zoo.signed)]))
})

const event = (name, run) => post('/events', { name, key: String(run), payload: {} })

test('an approval is left in every way, and nothing is wrong', async () => {
  const starts = { home: 'book', home_no: 'book', home_told: 'book', home_late: 'brief' }
  for (const [name, to] of Object.entries(starts)) zoo[name] = await start('zoo_home', { to })
  zoo.signed_late = await start('zoo', { to: 'sign' })
  await stands(zoo.signed_late, 2, 6)
  for (const what of ['pause', 'resume']) await post(`/runs/${zoo.signed_late}/${what}`)
  for (const name of ['home', 'signed_late']) await decide(zoo[name], 'approve')
  await decide(zoo.home_no, 'reject')
  await stands(zoo.home_told, 2, 6)
  await event('zoo.told', zoo.home_told)
  for (const name of [...Object.keys(starts), 'signed_late']) await engine.until(zoo[name], 'succeeded')
  const left = await engine.sql(`select a.status, h.code from holdpoint.approval a join holdpoint.history h using (run_id)
    where a.run_id in (${Object.keys(starts).map((name) => zoo[name])}) and h.from_visit = a.visit and h.visit = a.visit + 1 order by a.run_id`)
  assert.deepEqual(left, [['approved', ''], ['rejected', 'rejected'], ['cancelled', 'arm'], ['expired', 'expired']])
  clean(await engine.cli(['fsck']))
})

/** The visits of its approval, of what it was told, of its turn, and what became of the approval. */
const turned = async (run) => (await engine.sql(`select a.visit, a.status, h.visit, t.visit from holdpoint.approval a
  left join holdpoint.history h on h.run_id = a.run_id and h.move = 12 join holdpoint.history t on t.run_id = a.run_id and t.move = 22
  where a.run_id = ${run}`))

test('a run that turns back at an approval went on without it, and nothing is wrong', async () => {
  const run = await start('zoo_home', { to: 'slow' })
  const answer = await waitFor('its call is in the air', () => inAir.get(String(run)))
  await post(`/runs/${run}/cancel`)
  answer()
  await engine.until(run, 'cancelled')
  assert.deepEqual(await turned(run), [['3', 'cancelled', '2', '3']]) // told in the visit before
  clean(await engine.cli(['fsck']))
})

test('a child that its parent tells to end turns back at its approval, and nothing is wrong', async () => {
  const parent = await start('zoo', { to: 'parent' })
  const child = await waitFor('its child asks', async () => (await engine.sql(`select a.run_id from holdpoint.approval a
    join holdpoint.child c on c.child = a.run_id where c.run_id = ${parent} and a.status = 'open'`))[0]?.[0])
  await event('zoo.enough', parent)
  await engine.until(parent, 'succeeded')
  await engine.until(child, 'cancelled')
  assert.deepEqual(await turned(child), [['3', 'cancelled', '', '3']]) // nobody told it but its parent
  clean(await engine.cli(['fsck']))
})

// ---- a copy, spoiled ----

const host = async () => (await engine.sql('show unix_socket_directories'))[0][0]
const copied = async (text) => engine.sql(`\\c copy\nset search_path = holdpoint, public; set session_replication_role = replica;\n${text}`)
const onCopy = async (words = [], user = 'holdpoint_engine') =>
  engine.cli(['fsck', '--database', `host=${await host()} dbname=copy user=${user}`, ...words])

test('every check finds what it is there for, and nothing else', async () => {
  const bin = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'
  const dump = execFileSync(join(bin, 'pg_dump'), ['-h', await host(), '-U', 'holdpoint', 'holdpoint'], { maxBuffer: 1e9, stdio: ['ignore', 'pipe', 'pipe'] })
  await engine.sql('create database copy')
  await engine.sql(`\\c copy\n${dump}`)
  // the clock was set back by an hour after this was asked, and once more after it was decided
  await copied(`update history h set at = h.at + 3600000000 * case when h.rev < d.rev then 1 when h.rev > d.rev then -1 else 0 end
      from history d where h.run_id = ${zoo.home} and d.run_id = h.run_id and d.move = 11;
    update approval set opened_at = opened_at + 3600000000 where run_id = ${zoo.home}`)
  clean(await onCopy())
  const expected = new Map(), allowed = new Set() // "check run" → what is said
  let text = ENGINES
  for (const [check, which, sql, says, also = []] of CORRUPTIONS) {
    const run = which === null || typeof which === 'number' ? which : which.startsWith('a ') ? many[which.slice(2)].pop() : zoo[which]
    assert.notEqual(run, undefined, `there is no run for ${check}, ${which}`)
    const key = `${check} ${run}`
    expected.set(key, [...(expected.get(key) ?? []), says])
    for (const other of also) allowed.add(`${other} ${run}`)
    text += `\n${sql.replaceAll('$RUN', run)};`
  }
  await copied(text)
  const r = await onCopy(['--json', '--limit', '1000'])
  assert.equal(r.code, 1, r.stderr)
  const found = JSON.parse(r.stdout).checks.flatMap((c) => c.found ?? [])
  const left = found.map((f) => ({ key: `${f.check} ${f.run ?? null}`, what: f.what }))
  for (const [key, list] of expected) for (const says of list) {
    const i = left.findIndex((f) => f.key === key && says.test(f.what))
    assert.ok(i >= 0, `${key}: ${says} was not found, but: ${JSON.stringify(found.filter((f) => `${f.check} ${f.run ?? null}` === key))}`)
    left.splice(i, 1)
  }
  assert.deepEqual(left.filter((f) => !allowed.has(f.key)), [])
  for (const key of allowed) assert.ok(left.some((f) => f.key === key), `${key}: nothing was found`)
})

// The very first look meets a lock that is held for longer than it waits.
test('a lock that passes is waited for, and nothing is left out', async () => {
  const { runs } = JSON.parse((await engine.cli(['fsck', '--json'])).stdout)
  const locked = promisify(execFile)('psql', ['-X', '-q', '-h', await host(), '-U', 'holdpoint', '-d', 'holdpoint', '-c',
    'begin; lock table holdpoint.run in access exclusive mode; select pg_sleep(4); commit'])
  await waitFor('it is locked', async () => (await engine.sql(`select 1 from pg_locks where relation = 'holdpoint.run'::regclass and mode = 'AccessExclusiveLock' and granted`)).length)
  const r = await engine.cli(['fsck', '--json'])
  clean(r)
  assert.equal(JSON.parse(r.stdout).runs, runs)
  await locked
})

test('the report names runs, says what to do, and lists as many as are asked for', async () => {
  const r = await onCopy(['--limit', '2'])
  assert.equal(r.code, 1)
  assert.match(r.stdout, /^ +7 {2}what has ended stays ended +1 wrong of \d+ runs\n +run \d+: rev \d+ \(woken\) was written after it had ended with rev \d+\n +→ Look at holdpoint history RUN/m)
  assert.match(r.stdout, /… and \d+ more\n/)
  assert.match(r.stdout, /longest snapshot [\d.]+ s: \d+ wrong\n$/)
  const one = await onCopy(['--run', String(zoo.hold)])
  assert.equal(one.code, 1)
  assert.match(one.stdout, new RegExp(`run ${zoo.hold}: it is held, and not in the list of what is held`))
})

test('it cannot write, needs no right to, and says plainly what it cannot do', async () => {
  await copied(`create role fsck_reader login; grant usage on schema holdpoint to fsck_reader;
    grant select on all tables in schema holdpoint to fsck_reader; grant execute on all functions in schema holdpoint to fsck_reader`)
  assert.equal((await onCopy([], 'fsck_reader')).code, 1)
  await copied(`create or replace function fsck_sweeps(p_from bigint, p_until bigint) returns setof fsck_bad language plpgsql as
    $$ begin update holdpoint.sweep set failed = 0; end $$`)
  const writes = await onCopy()
  assert.equal(writes.code, 6)
  assert.match(writes.stderr, /cannot execute UPDATE in a read-only transaction/)
  await copied('drop schema holdpoint cascade')
  const missing = await onCopy()
  assert.equal(missing.code, 5)
  assert.match(missing.stderr, /the schema of this database is missing, or older than this program\n.*holdpoint migrate/)
  assert.equal((await engine.cli(['fsck', '--database', 'host=/nonexistent'])).code, 6)
  assert.equal((await engine.cli(['fsck', '--run', '99999999'])).code, 4)
  assert.equal((await engine.cli(['fsck', '--limit', '100000'])).code, 2)
})
