// storm.mjs: generated workflows while processes die.
//
// Random workflows over every kind of state run on a real engine with three workers
// against the recorder, which is on disk before it answers. People start, approve, reject,
// cancel, pause and repair; webhooks and an application knock. Meanwhile, one class of
// fault after the other:
//
//   workers      kill -9 of one, two or all three workers at once      --kills (500)
//   PostgreSQL   kill -9 of the postmaster, of one of its processes, an immediate
//                shutdown, and postmaster and supervisor at once       --restarts (100)
//   all of it    also kill -9 of the supervisor, workers stopped beyond their lease and
//                woken, sessions ended                                 for the rest of --time
//
// Then nobody is killed any more, and every run has to end. With --time alone the numbers
// of kills and restarts are in proportion to it.
import { setTimeout as pause } from 'node:timers/promises'
import { checkAll, fsck, group } from './lib/checks.mjs'
import { Doors } from './lib/doors.mjs'
import { Faults, quantile, spread } from './lib/faults.mjs'
import { checkResources, sample } from './lib/resources.mjs'
import { scenario } from './lib/scenario.mjs'

const LEASE_MS = 1000
const TARGET_RECLAIM_MS = 1000 // over the lease
const TARGET_PROGRESS_MS = 2000
const LONG_S = 560    // the figures are judged then; the short form has too few samples

async function workers(s, world, f, kills) {
  while (f.counts.kills < kills) {
    const x = world.r.next(), n = x < 0.7 ? 1 : x < 0.9 ? 2 : 3
    await f.settled(Math.max(2, n))
    await f.killWorkers(n)
    await pause(world.r.int(200))
  }
  await f.settle()
  s.say('workers', `${f.counts.kills} times killed, until ${s.elapsed()} s`)
}

async function postgres(s, world, f, restarts) {
  for (let n = 0; n < restarts;) {
    const x = world.r.next()
    await pause(Math.max(0, (f.restarts.at(-1)?.back ?? 0) + 1200 - Date.now())) // as settled() for workers
    const drawn = x < 0.45 ? 'postmaster' : x < 0.7 ? 'immediate' : x < 0.95 ? 'backend' : 'both'
    n += await f.killPostgres(['postmaster', 'immediate', 'backend', 'both'][n] ?? drawn) // each once at least
    await f.fleet(1)
    if (world.r.chance(0.2)) await f.killWorkers(1)
  }
  await f.settle()
  s.say('PostgreSQL', `${f.restarts.length} times killed, until ${s.elapsed()} s`)
}

/** One of each, then what is drawn. */
async function everything(s, world, f, until) {
  // one at least: at an instant nobody may have a run in hand
  const zombies = async () => { for (const end = Date.now() + 20000; f.counts.zombies === 0 && Date.now() < end; await pause(50)) await f.zombies(2) }
  const all = [zombies, () => f.killWorkers(3), () => f.killSupervisor(), () => f.endSession(), () => f.killPostgres('backend')]
  const more = [...all.slice(1), () => f.killWorkers(1), () => f.killWorkers(2), () => f.endSession(), () => f.zombies(1), () => f.killPostgres('postmaster'), () => f.killPostgres('immediate')]
  for (let n = 0; n < all.length || Date.now() < until; n++) {
    await f.fleet(2)
    await (all[n] ?? world.r.pick(more))()
    await pause(100 + world.r.int(400))
  }
  await f.settle()
}

function tellReclaims(s, reclaims) {
  const some = reclaims.filter((x) => !x.all).map((x) => x.ms - LEASE_MS), all = reclaims.filter((x) => x.all).map((x) => x.ms - LEASE_MS)
  s.say('re-claimed', `others live: lease + ${spread(some)}; nobody lives: lease + ${spread(all)}`)
  return quantile([...some, ...all], 0.99)
}

function tell(s, world, f, doors, rows) {
  const faults = Object.fromEntries([...group(rows, (x) => x.fault)].map(([k, v]) => [k, v.length]))
  s.say('people', JSON.stringify(world.counts))
  s.say('doors', JSON.stringify(doors.counts))
  s.say('recorder', `${rows.length} requests, ${rows.filter((x) => x.acts).length} effects, faults ${JSON.stringify(faults)}`)
  s.say('duplicates', `${rows.filter((x) => x.n > 1).length} requests under a key that was known (a lost effect or a second key is a line WRONG)`)
  s.say('faults', JSON.stringify(f.counts))
  s.say('supervisors', `their workers were gone after ${spread(f.orphans_ms)}`)
  for (const text of new Set(world.notes)) s.say('note', text)
  return faults
}

/** What the page tells of a storm was there; a shorter one has no time for all of it. */
async function everyKind(s, world, f, doors) {
  for (const kind of ['all_killed', 'postmasters', 'immediates', 'backends', 'both']) s.landed(kind, f.counts[kind])
  for (const kind of ['repeats', 'late', 'cut', 'forged', 'acked', 'starts_acked', 'starts_known']) s.landed(kind, doors.counts[kind])
  s.landed('ticks', Number((await world.sql(`select count(*) from holdpoint.run where workflow = 'chaos_tick'`))[0][0]))
}

scenario('storm', { time: LONG_S, short: 14, kills: 0, restarts: 0, workers: 3, workflows: 8 }, async (s) => {
  const { o } = s
  const kills = o.kills || (o.short ? 6 : Math.ceil(500 * o.time / LONG_S))
  const restarts = o.restarts || (o.short ? 1 : Math.ceil(100 * o.time / LONG_S))
  const world = s.world({ workers: o.workers, workflows: o.short ? 4 : o.workflows, wide: true })
  const began = Date.now()
  await world.begin()
  const f = new Faults(world), doors = new Doors(world)
  s.end(() => { f.close(); doors.close() })
  await doors.open()
  world.turns.push(() => doors.knock())
  const before = await sample(world), conflicts = await f.conflicts()

  await world.during(() => workers(s, world, f, kills))
  const reclaims = [...f.reclaims]
  if (!o.short) await fsck(s, world, 'after the workers')
  await world.during(() => postgres(s, world, f, restarts))
  if (!o.short) await fsck(s, world, 'after PostgreSQL')
  await world.during(() => everything(s, world, f, began + o.time * 1000))
  await world.heal()

  const rows = await checkAll(s, world)
  await s.check('doors', (bad) => doors.check(bad))
  await s.check('zombies', (bad) => f.checkZombies(bad))
  await s.check('faults', (bad) => f.lost.forEach(bad))
  await s.check('resources', async (bad) => s.say('resources', `${JSON.stringify(before)} before, ${JSON.stringify(await checkResources(world, before, bad))} after`))
  await fsck(s, world, 'at the end')

  const ends = Object.fromEntries(await world.sql('select holdpoint.status_name(status), count(*) from holdpoint.run_state group by 1'))
  s.say('runs', `${JSON.stringify(ends)}, all ended ${(world.healed / 1000).toFixed(1)} s after the last fault`)
  const faults = tell(s, world, f, doors, rows)
  await s.check('re-claim', (bad) => {
    const p99 = tellReclaims(s, reclaims)
    if (!o.short && !(p99 <= TARGET_RECLAIM_MS)) bad(`missed: p99 is lease + ${Math.round(p99)} ms, not ${TARGET_RECLAIM_MS}`)
  })
  await s.check('progress', async (bad) => {
    const first = await f.progress()
    s.say('progress', `after PostgreSQL answered again: ${spread(first)}; it was away for ${spread(f.restarts.map((r) => r.back - r.down))}`)
    if (!o.short && !(quantile(first, 0.99) <= TARGET_PROGRESS_MS)) bad(`missed: p99 is ${Math.round(quantile(first, 0.99))} ms, not ${TARGET_PROGRESS_MS}`)
  })
  s.say('refused', `${await f.conflicts() - conflicts} commits of workers that were no longer the owner`)
  s.landed('kills', f.counts.kills, kills)
  s.landed('restarts', f.restarts.length, restarts)
  s.landed('supervisors', f.counts.supervisors)
  s.landed('sessions', f.counts.sessions)
  s.landed('zombies', f.counts.zombies)
  s.landed('taken over', Number((await world.sql('select count(*) from holdpoint.run_state where epoch > 1'))[0][0]))
  s.landed('lost replies', faults.lose ?? 0)
  s.landed('bursts', doors.counts.bursts)
  if (o.time >= LONG_S) await everyKind(s, world, f, doors)
})
