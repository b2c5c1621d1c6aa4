// clock.mjs: clocks jump (libfaketime): those of the workers, then the database's.
//
// The database's clock is the only one that counts: a worker whose own clock is an hour off,
// or ten days, must work as before. When the database's clock jumps forward, timers and
// leases are over; when it jumps back, what was due waits until it has caught up, and no
// longer. Each with and without the monotonic clocks jumping, too (no real ones do).
// What must hold all the time, by the database's clock: no timer is early. And runs end, each
// effect once.
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, chmodSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { waitFor } from '../e2e/lib/engine.mjs'
import { Chain } from './lib/chain.mjs'
import { checkAll, fsck } from './lib/checks.mjs'
import { Postgres } from './lib/postgres.mjs'
import { scenario } from './lib/scenario.mjs'

const LIBRARY = ['/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1', '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1'].find(existsSync)
const HOUR = 3600, DAY = 24 * HOUR

/** A clock that can be set while the process runs: env for it, jump(seconds against the right time). */
class Clock {
  constructor(dir, name, monotonic) {
    this.file = join(dir, `${name}.time`)
    this.env = { LD_PRELOAD: LIBRARY, FAKETIME_TIMESTAMP_FILE: this.file, FAKETIME_NO_CACHE: '1', ...(monotonic ? {} : { FAKETIME_DONT_FAKE_MONOTONIC: '1' }) }
    this.jump(0)
  }

  jump(seconds) { writeFileSync(this.file, `${seconds < 0 ? '-' : '+'}${Math.abs(seconds)}`) }
}

/** Whoever left a wait by its time did so when it was due, by the database's clock. */
async function timers(world, bad) {
  const rows = await world.sql(`select run_id, at, due_at, after from (select h.run_id, h.at, h.due_at, h.phase, lead(h.at) over w as after, lead(h.move) over w as move
      from holdpoint.history h where h.seq = 0 window w as (partition by h.run_id order by h.rev)) x
    where phase = 6 and due_at > 0 and after < due_at and move <> (select m from generate_series(0, 30) m where holdpoint.move_name(m::smallint) = 'retry' limit 1)`)
  for (const [run, , due, after] of rows) bad(`run ${run} left its wait ${(Number(due) - Number(after)) / 1000} ms early`)
  return Number((await world.sql(`select count(*) from holdpoint.history where phase = 6 and due_at > 0`))[0][0])
}

const off = async (world) => Math.round((Number((await world.sql('select holdpoint.now_us()'))[0][0]) / 1e6 - Date.now() / 1000))

async function workersClock(s, dir, monotonic) {
  const clock = new Clock(dir, 'workers', monotonic), label = monotonic ? 'all clocks' : 'wall clock'
  const pg = await new Postgres({ dir: join(dir, `pg-${monotonic}`) }).init().start()
  const world = s.world({ workers: 2, workflows: 0, engine: { args: pg.words, owner: pg.owner, env: clock.env } })
  await world.begin()
  const chain = await new Chain(world).deploy(), took = []
  const told = () => Math.round(Date.parse(world.engine.log.at(-1).time) / 1000 - Date.now() / 1000)
  // Its own monotonic clock is how a worker knows how old a request is: for one that was ten days
  // asleep the key's window of a day is over, and what was in the air is in doubt.
  for (const jump of [HOUR, -HOUR, monotonic ? 12 * HOUR : 10 * DAY, 0]) {
    const before = chain.many(10)
    clock.jump(jump)
    await before
    await chain.many(10)
    took.push(`${jump / HOUR} h: ${(await chain.ended(60000) / 1000).toFixed(1)} s`)
    if (Math.abs(told() - jump) > 60) s.bad(`${label}: the log is ${told()} s off instead of ${jump}: the clock did not jump`)
    else s.checks++
  }
  s.say('workers', `${label} of workers: 20 runs each have ended after ${took.join(', ')}`)
  await s.check(`workers, ${label}`, async (bad) => {
    await chain.check(bad)
    if (await timers(world, bad) < 20) bad('there were no timers')
    if (!monotonic && world.engine.log.some((l) => /marked dead/.test(l.message))) bad('an engine was marked dead though only its wall clock was wrong')
  })
  await whole(s, world)
  await world.end()
  await pg.stop()
}

/** A run that has half an hour to wait. */
async function sleeper(world) {
  const file = join(world.dir, 'chaos_nap.lua')
  writeFileSync(file, 'return workflow "chaos_nap" {\n  doc = "Waits.",\n  wait "nap" { for_ = "30m" },\n  succeed "done" {},\n}\n')
  const deployed = await world.engine.cli(['deploy', file])
  assert.equal(deployed.code, 0, deployed.stdout + deployed.stderr)
  const run = await waitFor('whoever answers knows it', async () =>
    (await world.engine.api('POST', '/api/v1/runs', { workflow: 'chaos_nap', input: {} })).body.run)
  await world.engine.until(run, 'waiting')
  return run
}

async function databaseClock(s, dir, monotonic) {
  const clock = new Clock(dir, 'database', monotonic), label = monotonic ? 'all clocks' : 'wall clock'
  const pg = await new Postgres({ dir: join(dir, `db-${monotonic}`), env: clock.env }).init().start()
  const world = s.world({ workers: 2, workflows: 0, engine: { args: pg.words, owner: pg.owner } })
  world.clockJumps = true // the recorder's times and the database's are not comparable
  await world.begin()
  const chain = await new Chain(world).deploy(), back = s.o.short ? 8 : 15
  const dead = async () => Number((await world.sql('select count(*) from holdpoint.engine where dead'))[0][0])
  const jump = async (to) => { clock.jump(to); await waitFor('the database has another time', async () => Math.abs(await off(world) - to) < 3) }
  const say = (what, text) => s.say(what, `${label} of the database: ${text}`)

  const nap = await sleeper(world), ended = async (run) => (await world.engine.api('GET', `/api/v1/runs/${run}`)).body.run.status
  await Promise.all([chain.many(20), pause(100)])
  await jump(HOUR)
  const ms = await chain.ended(60000)
  say('forward', `an hour; 20 runs have ended ${(ms / 1000).toFixed(1)} s later, ${await dead()} engines were marked dead`)

  const known = chain.accepted.length
  await chain.many(20)
  const parked = chain.accepted.length - known
  await pause(150) // some wait, some are about to
  const began = Date.now()
  await jump(HOUR - back)
  const set = Date.now()
  await chain.many(5)
  const last = chain.accepted.at(-1)
  await world.engine.until(last, 'succeeded', 30000)
  const freshMs = Date.now() - set
  await chain.ended((back + 30) * 1000)
  const all = Date.now() - began
  say('back', `${back} s; a run started afterwards has ended after ${(freshMs / 1000).toFixed(1)} s, those of before (${parked}) after ${(all / 1000).toFixed(1)} s`)

  await chain.many(20)
  await jump(HOUR - 2 * back)
  world.engine.kill('worker-1')
  const killed = Date.now()
  await chain.ended((back + 30) * 1000)
  say('and dies', `${back} s back and a worker dies: its runs have ended ${((Date.now() - killed) / 1000).toFixed(1)} s later`)
  await s.check(`database, ${label}`, async (bad) => {
    await chain.check(bad)
    if (await timers(world, bad) < 40) bad('there were no timers')
    if (freshMs > back * 1000 - 1000) bad(`a run that was started after the jump took ${freshMs} ms`)
    if (await ended(nap) !== 'succeeded') bad(`a run that slept until half an hour later ${await ended(nap)} after a jump of an hour`)
    if (all / 1000 > back + 20) bad(`${all / 1000} s is longer than the ${back} s of the jump and what a run takes`)
  })
  clock.jump(0)
  await whole(s, world)
  await world.end()
  await pg.stop()
}

async function whole(s, world) {
  await checkAll(s, world)
  await fsck(s, world, 'at the end')
}

scenario('clock', { time: 100, short: 40 }, async (s) => {
  if (!LIBRARY) return s.skip('needs the package faketime')
  const dir = mkdtempSync(join(tmpdir(), 'holdpoint-clock.'))
  chmodSync(dir, 0o755)
  process.on('exit', () => rmSync(dir, { recursive: true, force: true }))
  for (const monotonic of s.o.short ? [false] : [false, true]) await workersClock(s, dir, monotonic)
  for (const monotonic of s.o.short ? [false] : [false, true]) await databaseClock(s, dir, monotonic)
})
