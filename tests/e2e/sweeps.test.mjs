// Sweeps on a real engine: 200,000 rows through ten kills of the workers, each row
// once; calls per row through crashes at the labels of the call and of the statement;
// a dry run that changes nothing; progress, pause, standbys that lag.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const ROWS = 200000
const file = (name) => join(ROOT, 'tests/fixtures/workflows', name)
let engine
before(async () => {
  engine = await startEngine({ workers: 2, lease: '1s', simulated: 'resend', args: ['--poll', '200ms'] })
  await engine.sql(`create table public.members (id bigint primary key, name text, email text, score int, mail text,
    swept int not null default 0) with (fillfactor = 50)`)
  await engine.sql('grant select, update on public.members to holdpoint_workflow')
  for (const name of ['score_members.lua', 'greet_members.lua']) await ok(['deploy', file(name)])
})
after(() => engine?.stop())

async function ok(words, options) {
  const r = await engine.cli(words, options)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
/** A worker learns of another's deployment within a second, and says so until then. */
const start = (workflow) => waitFor(`${workflow} starts`, async () => {
  const r = await engine.cli(['start', workflow])
  assert.ok(r.code === 0 || r.code === 6, r.stderr)
  return r.code === 0 && Number(/run (\d+) started/.exec(r.stdout)[1])
})
const doc = async (run) => (await engine.api('GET', `/api/v1/runs/${run}`)).body
const sweepOf = async (run, state) => (await doc(run)).sweeps?.find((s) => s.state === state)
const one = async (text) => (await engine.sql(text))[0][0]

test('the examples of the guide are the ones that are tested', () => {
  const guide = readFileSync(join(ROOT, 'docs/authoring.md'), 'utf8')
  for (const name of ['score_members.lua', 'greet_members.lua']) assert.ok(guide.includes(readFileSync(file(name), 'utf8')), name)
})

test('200,000 rows, ten kills, each row once; a dry run before, progress on the way', async () => {
  await engine.sql(`insert into public.members (id, name, email) select n, 'm' || n, case when n % 2 = 0 then n || '@example.com' end
    from generate_series(1, ${ROWS}) n`)
  await engine.sql('analyze public.members')
  const run = await start('score_members')
  await engine.until(run, 'waiting')
  const preview = (await doc(run)).saved.preview
  assert.equal(preview.total, ROWS)
  assert.equal(preview.sample.length, 10)
  assert.equal(preview.changed, 500)
  assert.equal(await one('select count(*) from public.members where score is not null'), '0', 'a dry run changed something')

  const bob = await engine.tokenFor('bob', { roles: ['data'] })
  const approval = (await doc(run)).approvals[0].approval
  assert.equal((await engine.api('POST', `/api/v1/approvals/${approval}/approve`, { reason: 'looks right' }, { token: bob })).status, 200)
  // asked of the database: the worker that dies may be the one that would answer
  const place = async () => {
    const [row] = await engine.sql(`select w.done, w.ended_at is not null, coalesce((select e.pid from holdpoint.ready y
      join holdpoint.engine e on e.id = y.engine_id where y.run_id = w.run_id), 0)
      from holdpoint.sweep w where w.run_id = ${run} and w.visit = 3`)
    return row && { done: Number(row[0]), ended: row[1] === 't', pid: Number(row[2]) }
  }
  const killed = []
  for (let seen = 0, dead = 0; killed.length < 10;) {
    const s = await waitFor(`it goes on before kill ${killed.length + 1}`, async () => {
      const now = await place() // the last commit of the one that died may be later than its death
      return now && now.done > seen && (now.ended || (now.pid > 0 && now.pid !== dead)) && now
    })
    if (s.ended) break
    process.kill(dead = s.pid, 'SIGKILL')
    await engine.gone(s.pid)
    killed.push(seen = (await place()).done)
  }
  assert.equal(killed.length, 10, `kills that met it on its way: ${killed}`)
  const why = await ok(['why', String(run)])
  assert.match(why, /of 200000 rows/)
  assert.match(await ok(['show', String(run)]), /score +[\d,]+ of 200,000 rows/)
  await engine.until(run, 'succeeded', 120000)
  assert.equal(await one(`select count(*) from public.members where swept <> 1`), '0', 'rows not swept once')
  assert.equal(await one(`select count(*) from public.members where score <> case when id % 2 = 0 then 100 else 50 end`), '0')
  assert.deepEqual((await doc(run)).saved.scored, { rows: ROWS, changed: ROWS, failed: 0, pages: 400 })
})

test('a call for each row: killed at every step of it, each row once, one mail each', async () => {
  const rows = 300 // the deaths take some 50
  await engine.sql('truncate public.members')
  await engine.sql(`insert into public.members (id, name, email) select n, 'm' || n, n || '@example.com' from generate_series(1, ${rows}) n`)
  await engine.sql(`insert into public.members (id, name, email) values (${rows + 1}, 'refused', 'not an address')`)
  engine.options.workers = 1
  let run
  const restart = async (env) => {
    process.kill(engine.kill('supervisor', 'SIGTERM'), 'SIGCONT')
    await engine.ended
    engine.log.length = 0
    await engine.start({ env })
    run ??= await start('greet_members')
  }
  // The supervisor stands still until the next one: whom it starts after a death is not told to die,
  // and on a busy machine would be through with all rows before anybody has looked. A worker that has
  // lost its lease ends without having come to the label: that one is told again.
  for (const death of ['effect_before:3', 'effect_sent:5', 'effect_replied:4', 'sql_before:6', 'sql_ran:7', 'sql_committed:5', 'commit_before:9', 'commit_acked:9']) {
    let died = false
    for (let times = 0; !died && times < 5; times++) {
      await restart({ HP_CRASH: death })
      engine.kill('supervisor', 'SIGSTOP')
      await waitFor(`the worker ends at ${death}`, () => (died = engine.diedAt(death)) || !engine.pids()['worker-1'])
    }
    assert.ok(died, `a worker dies at ${death}`)
  }
  await restart({ HP_CRASH: '' })
  await engine.until(run, 'succeeded', 60000)
  const d = await doc(run)
  assert.deepEqual(d.run.result, { members: rows + 1, not_reached: 1 })
  assert.deepEqual(d.sweeps[0].failures.map((f) => f.cursor), [rows + 1])
  assert.equal(await one(`select count(*) from public.members where id <= ${rows} and (swept <> 1 or mail is null)`), '0')
  assert.equal(await one(`select count(distinct mail) from public.members where id <= ${rows}`), String(rows))
})

/** A real standby of the engine's database, made by pg_basebackup; its replay can be stopped. */
class Standby {
  async start() {
    this.dir = join(engine.dir, 'standby')
    this.as = process.getuid() === 0 ? ['setpriv', '--reuid=holdpoint', '--regid=holdpoint', '--init-groups', '--'] : []
    const bin = process.env.PG_BIN || '/usr/lib/postgresql/15/bin'
    mkdirSync(this.dir, { mode: 0o700 })
    if (this.as.length) execFileSync('chown', ['holdpoint:', this.dir])
    const run = (words) => execFileSync([...this.as, ...words][0], [...this.as, ...words].slice(1), { cwd: '/', stdio: 'pipe', timeout: 60000 })
    run([join(bin, 'pg_basebackup'), '-h', join(engine.dataDir, 'run'), '-U', 'holdpoint', '-D', this.dir, '-R', '-c', 'fast'])
    const words = [...this.as, join(bin, 'postgres'), '-D', this.dir, '-k', this.dir, '-c', 'listen_addresses=', '-c', 'max_connections=200']
    this.child = spawn(words[0], words.slice(1), { cwd: '/', stdio: 'ignore' })
    this.ended = new Promise((done) => this.child.on('exit', done))
    process.on('exit', () => this.child.kill('SIGKILL'))
    await waitFor('the standby follows', async () => (await engine.sql('select count(*) from pg_stat_replication'))[0][0] === '1')
  }

  sql(text) { return execFileSync('psql', ['-X', '-q', '-A', '-t', '-h', this.dir, '-U', 'holdpoint', '-d', 'holdpoint', '-c', text], { encoding: 'utf8' }).trim() }

  async stop() {
    this.child.kill('SIGINT')
    await this.ended
    rmSync(this.dir, { recursive: true, force: true })
  }
}

test('a sweep waits for a standby that is behind, says so, and goes on', async () => {
  await engine.sql('truncate public.members')
  await engine.sql(`insert into public.members (id, name) select n, repeat('x', 200) from generate_series(1, 20000) n`)
  const source = readFileSync(file('score_members.lua'), 'utf8').replaceAll('score_members', 'careful').replace('64MB', '1MB')
    .replace(/  approval "start"[^]*?\n  },\n/, '').replace(/  fail "left_alone".*\n/, '')
  writeFileSync(join(engine.dir, 'careful.lua'), source)
  await ok(['deploy', join(engine.dir, 'careful.lua')])
  const standby = new Standby()
  await standby.start()
  try {
    standby.sql('select pg_wal_replay_pause()')
    const run = await start('careful')
    const said = await waitFor('it waits for the standby', async () => {
      const why = (await engine.api('GET', `/api/v1/runs/${run}/why`)).body
      return why.cause === 'sweep' && /standbys/.test(why.sentence) && why.sentence
    }, 30000)
    assert.match(said, /of 20000 rows/)
    const { done } = await sweepOf(run, 'score')
    assert.ok(done > 0 && done < 20000, `${done} rows`)
    standby.sql('select pg_wal_replay_resume()')
    await engine.until(run, 'succeeded', 60000)
    assert.equal(await one('select count(*) from public.members where swept <> 1'), '0')
  } finally { await standby.stop() }
})
