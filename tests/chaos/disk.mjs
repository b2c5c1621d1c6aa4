// disk.mjs: the disk is full: first the one of the tables, then the one of the WAL.
//
// Tables: PostgreSQL answers writes with an error. Doors answer 503 with Retry-After and
// /readyz says why; what is in hand waits and is sent to nobody; nothing spins.
// WAL: PostgreSQL ends with a PANIC and cannot start until there is space. That is played
// with the private server, which the supervisor starts again and again, and with one of the
// operator's own, which stays down until the operator starts it.
// Then there is space again. All that was accepted has to end well, each effect once.
import { execFileSync } from 'node:child_process'
import { rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { waitFor } from '../e2e/lib/engine.mjs'
import { Chain } from './lib/chain.mjs'
import { checkAll, fsck } from './lib/checks.mjs'
import { Meter } from './lib/meter.mjs'
import { Postgres } from './lib/postgres.mjs'
import { Disk, isRoot } from './lib/root.mjs'
import { scenario } from './lib/scenario.mjs'

// What an engine of two workers may cost while it can do nothing: the questions of 200 runs
// in hand every two seconds, and what its clients cause.
const CPU_MAX = 0.6, STATEMENTS_MAX = 400

async function tmp(dir, fn) {
  const before = process.env.TMPDIR
  process.env.TMPDIR = dir
  try { return await fn() } finally { if (before) process.env.TMPDIR = before; else delete process.env.TMPDIR }
}

/** Stops the engine, moves pg_wal to the other disk, and starts it again. */
async function moveWal(world, wal) {
  const e = world.engine, from = join(e.dataDir, 'postgres/pg_wal'), to = join(wal.dir, 'pg_wal')
  world.db.close()
  e.child.kill('SIGTERM')
  await e.ended
  execFileSync('cp', ['-a', from, to])
  rmSync(from, { recursive: true })
  symlinkSync(to, from)
  await e.start()
}

async function whole(s, world) {
  await checkAll(s, world)
  await fsck(s, world, 'at the end')
}

const ready = async (world) => { const r = await fetch(`${world.engine.url}/readyz`); return `${r.status} ${(await r.text()).trim()}` }
const show = (m) => `${m.cpu} cores, ${m.lines} lines of log/s${m.statements === null ? '' : `, ${m.statements} transactions/s`}`

/** Everything that was accepted goes on and ends. */
async function goesOn(s, world, chain, freed) {
  const accepted = await chain.accepts(), last = chain.accepted.at(-1)
  await world.engine.until(last, 'succeeded', 60000)
  const took = Date.now() - chain.freedAt
  await chain.ended(120000)
  // the last ones wait for what the recorder did to them: retries are put off by their budget
  const [[half]] = await world.engine.sql(`select percentile_disc(0.5) within group (order by at)::bigint / 1000 - ${chain.freedAt} from holdpoint.history h where holdpoint.move_name(h.move) = 'finished' and at > ${chain.freedAt}000`)
  s.say('goes on', `a start is accepted ${accepted} ms after ${freed}; that run has ended after ${took} ms, half of all after ${half} ms, the last after ${Date.now() - chain.freedAt} ms`)
  await s.check('accepted runs', (bad) => chain.check(bad))
}

async function tablesFull(s, world, heap, chain, seconds) {
  const meter = new Meter(world.engine)
  await chain.many(200)
  const accepted = chain.accepted.length
  s.say('tables', `their disk takes ${heap.fill() >> 20} MB more; ${accepted} runs`)
  await chain.hammer(3000) // what still finds room does
  heap.fill()
  const sent = world.recorder.rows().length, refused = chain.refused[503] ?? 0
  const hammer = chain.hammer(seconds * 1000, 100)
  const m = await meter.over(seconds)
  await hammer
  const said = await ready(world)
  s.say('full', `${show(m)}, ${world.recorder.rows().length - sent} requests sent; ${said}`)
  await s.check('a full disk of tables', (bad) => {
    if (!said.startsWith('503 not ready: the database refuses to write')) bad(`/readyz says ${said}`)
    if (m.cpu > CPU_MAX) bad(`it takes ${m.cpu} of a core`)
    if (m.statements > STATEMENTS_MAX) bad(`${m.statements} transactions a second`)
    const statuses = Object.keys(chain.refused).join(' ')
    if (statuses !== '503') bad(`doors answered ${JSON.stringify(chain.refused)}`)
    if (chain.retryAfter !== chain.refused[503]) bad(`${chain.refused[503] - chain.retryAfter} answers without Retry-After`)
    if (!world.engine.log.some((l) => /refuses to write/.test(l.message) && /No space left/.test(l.error))) bad('the log does not say it plainly')
  })
  s.landed('refused', (chain.refused[503] ?? 0) - refused, 10)
  await world.recorder.calm()
  heap.free()
  chain.freedAt = Date.now()
  await goesOn(s, world, chain, 'there is space')
  s.say('afterwards', await ready(world))
}

/** Connections lost and not made, so far: a line of log stands for several. */
const attempts = (e) => e.log.filter((l) => l.message === 'database connection lost').reduce((n, l) => n + l.times, 0)

/** Fills the disk of the WAL, and writes until PostgreSQL is gone. */
async function fillWal(sql, wal, gone) {
  await sql(`select pg_create_physical_replication_slot('abandoned', true)`) // nothing is recycled any more
  wal.fill()
  for (let i = 0; i < 200 && !(await gone()); i++)
    await sql('create table if not exists public.filler (x text); insert into public.filler values (repeat(md5(random()::text), 200)); select pg_switch_wal()').catch(() => {})
}

async function walFull(s, world, wal, chain, seconds) {
  const e = world.engine, meter = new Meter(e)
  const deaths = () => e.log.filter((l) => l.message === 'PostgreSQL has died').length
  const starts = () => e.log.filter((l) => l.message === 'PostgreSQL started').length
  const connects = () => attempts(e)
  await chain.many(100)
  await fillWal((sql) => world.engine.sql(sql), wal, async () => deaths() > 0)
  await waitFor('PostgreSQL is down', () => deaths() > 0)
  await pause(2000)
  const before = [starts(), connects(), deaths()], began = Date.now()
  const asked = chain.start()
  const m = await meter.over(seconds), said = await ready(world)
  const status = await asked, took = (Date.now() - began) / 1000
  const per = (n) => Math.round(n / took * 10) / 10
  s.say('WAL full', `private server: ${show(m)}; ${per(starts() - before[0])} starts/s of PostgreSQL, ${per(connects() - before[1])} attempts to connect/s`)
  s.say('', `/readyz: ${said}; a start: ${status} ${JSON.stringify(chain.last)}`)

  await s.check('a full disk of WAL', (bad) => {
    if (!said.startsWith('503')) bad(`/readyz says ${said}`)
    if (m.cpu > CPU_MAX) bad(`it takes ${m.cpu} of a core`)
    if (starts() - before[0] > Math.floor(took / 5) + 1) bad(`PostgreSQL was started ${starts() - before[0]} times in ${took} s`)
    if (!e.log.some((l) => l.message === 'PostgreSQL has died' && /full/.test(l.why ?? ''))) bad('the log does not say plainly why')
  })
  s.landed('deaths', deaths() - before[2])
  wal.free()
  chain.freedAt = Date.now()
  await waitFor('PostgreSQL answers', () => e.sql('select 1'), 60000)
  s.say('back', `PostgreSQL answers ${Date.now() - chain.freedAt} ms after there is space`)
  await e.sql(`select pg_drop_replication_slot('abandoned')`)
  await goesOn(s, world, chain, 'there is space')
}

async function privateServer(s) {
  const heap = new Disk('heap', 220), wal = new Disk('wal', 300)
  const world = s.world({ workers: 2, workflows: 0 })
  await tmp(heap.dir, () => world.begin())
  await moveWal(world, wal)
  const chain = await new Chain(world).deploy()
  await tablesFull(s, world, heap, chain, s.o.short ? 4 : 12)
  await world.engine.sql('checkpoint')
  await walFull(s, world, wal, chain, s.o.short ? 6 : 15)
  await whole(s, world)
  await world.end()
  heap.release()
  wal.release()
}

async function ownServer(s) {
  const data = new Disk('own', 300), wal = new Disk('wal', 200)
  const pg = new Postgres({ dir: join(data.dir, 'pg'), wal: wal.dir })
  await pg.init().start()
  const world = s.world({ workers: 2, workflows: 0, engine: { args: pg.words, owner: pg.owner } })
  await world.begin()
  const chain = await new Chain(world).deploy(), meter = new Meter(world.engine)
  await chain.many(100)
  await fillWal((sql) => world.engine.sql(sql), wal, async () => !pg.pid())
  await waitFor('PostgreSQL has ended', () => !pg.pid(), 30000)
  await pause(2000)
  const lost = () => attempts(world.engine)
  const before = lost(), seconds = s.o.short ? 6 : 12
  const m = await meter.over(seconds), said = await ready(world)
  s.say('WAL full', `own server: ${show(m)}, ${Math.round((lost() - before) / seconds * 10) / 10} attempts to connect/s; ${said}`)
  await s.check('an own server that stays down', (bad) => {
    if (!said.startsWith('503')) bad(`/readyz says ${said}`)
    if (m.cpu > CPU_MAX) bad(`it takes ${m.cpu} of a core`)
    if (world.engine.log.some((l) => /^PostgreSQL (has died|started)/.test(l.message))) bad('the supervisor meddled with a server that is not its own')
  })
  s.landed('PANIC', pg.said(/PANIC: .*No space left on device/g))
  await world.recorder.calm()
  wal.free()
  await pg.start()
  chain.freedAt = Date.now()
  await world.engine.sql(`select pg_drop_replication_slot('abandoned')`)
  await goesOn(s, world, chain, 'the server is up')
  await whole(s, world)
  await world.end()
  await pg.stop()
  data.release()
  wal.release()
}

scenario('disk', { time: 90, short: 40 }, async (s) => {
  if (!isRoot) return s.skip('needs root')
  await privateServer(s)
  await ownServer(s)
})
