// lease.mjs: how soon the runs of a killed worker are in other hands with the lease and the
// poll interval that an installation has if nobody says otherwise (10 s, 500 ms).
//
// The other scenarios use a lease of 1 s and subtract it. That would hide whatever grows
// with the lease, so a few deaths are measured with the real one: --rounds times a third
// of --workers is killed at once, and a round is over when every run has been taken over.
import { checkAll, fsck } from './lib/checks.mjs'
import { Faults, quantile, spread } from './lib/faults.mjs'
import { scenario } from './lib/scenario.mjs'

const LEASE_MS = 10000

scenario('lease', { time: 45, rounds: 0, workers: 9 }, async (s) => {
  const rounds = s.o.rounds || Math.ceil(s.o.time / 15)
  const world = s.world({ workers: s.o.workers, workflows: 0, live: 6 * s.o.workers, only: 'chaos_late', lease: '10s', poll: '500ms' })
  await world.begin()
  const f = new Faults(world)
  s.end(() => f.close())
  world.turns.push(async () => { for (let n = (await world.alive()).length; n < world.live; n++) await world.start() })
  await world.rage(rounds * 15, async () => { await f.killWorkers(Math.floor(s.o.workers / 3)); await f.settle() }, () => 2000)
  await world.heal()
  await checkAll(s, world)
  await s.check('faults', (bad) => f.lost.forEach(bad))
  await fsck(s, world, 'at the end')
  const over = f.reclaims.map((x) => x.ms - LEASE_MS)
  await s.check('re-claim', (bad) => {
    s.say('re-claimed', `lease (10 s) + ${spread(over)}`)
    if (!(quantile(over, 0.99) <= 1000)) bad(`missed: p99 is lease + ${Math.round(quantile(over, 0.99))} ms, not 1000`)
  })
  s.landed('kills', f.counts.killed_workers, rounds)
})
