// zombies.mjs: workers that are stopped (SIGSTOP) with runs in hand, lose them, and wake.
//
// A zombie is one whose run was taken over by another worker while it was stopped. Answers
// of the recorder wait for it when it wakes, so it writes; every write has to change 0 rows
// of the runs that others took over, its engine stays dead, and it takes no run. Triggers
// see that (lib/witness.mjs), as history does not show all of it.
// Half of --workers are stopped at once, until --zombies have been woken. The workers have
// few places, so that those that are new find work.
import { setTimeout as pause } from 'node:timers/promises'
import { checkAll, fsck, group } from './lib/checks.mjs'
import { Faults } from './lib/faults.mjs'
import { scenario } from './lib/scenario.mjs'
import { Witness } from './lib/witness.mjs'

const LONG_S = 240

scenario('zombies', { time: LONG_S, zombies: 0, workers: 20 }, async (s) => {
  const { o } = s
  const wanted = o.zombies || Math.ceil(1000 * o.time / LONG_S)
  const live = 5 * o.workers
  const world = s.world({ workers: o.workers, workflows: 0, live, only: 'chaos_late', engine: { args: ['--slots', String(2 * live / o.workers)] } })
  await world.begin()
  const f = new Faults(world)
  s.end(() => f.close())
  if (Witness.missing) s.skip(`what zombies change without a row of history ${Witness.missing}`)
  else f.witness = await new Witness(world).begin()
  world.turns.push(async () => { for (let n = (await world.alive()).length; n < live; n++) await world.start() })
  const conflicts = await f.conflicts()
  await world.during(async () => {
    await pause(2000)
    for (const end = Date.now() + 4 * o.time * 1000; f.counts.zombies < wanted && Date.now() < end; await pause(800))
      await f.zombies(o.workers / 2)
    await f.settle()
  })
  const refused = await f.conflicts() - conflicts
  await world.heal()
  const rows = await checkAll(s, world)
  await s.check('zombies', (bad) => f.checkZombies(bad))
  await s.check('faults', (bad) => f.lost.forEach(bad))
  await fsck(s, world, 'at the end')
  s.say('stopped', `${f.counts.stopped} workers; ${f.counts.runs_taken_from_zombies} of their runs were taken over before they woke; ${f.counts.fenced} ended when they found out`)
  s.say('recorder', `${rows.length} requests, ${rows.filter((x) => x.acts).length} effects, ${rows.filter((x) => x.n > 1).length} under a key that was known, ${group(rows, (x) => `${x.op} ${x.key}`).size} keys`)
  s.landed('zombies', f.counts.zombies, wanted)
  s.landed('refused', refused)
  if (f.witness) { // who hears first that it is marked dead may try nothing: not all of them
    const tried = await f.witness.tried()
    s.say('commits', `${[...tried.values()].reduce((a, b) => a + b, 0)} of woken zombies came to the database, over ${f.witness.sessions} sessions that were watched`)
    s.landed('tried', [...tried.keys()].filter((engine) => f.taken.get(engine).size > 0).length, Math.ceil(wanted / 2))
  }
})
