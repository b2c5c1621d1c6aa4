// storm.mjs: generated workflows while processes die.
//
// Random workflows over every kind of state run on a real engine against the recorder,
// which is on disk before it answers. Workers are killed with -9, one or two at a time;
// people approve, reject, cancel, pause and repair; events come early, late and not at
// all. Then nobody is killed any more, and every run has to end.
import { checkAll, group } from './lib/checks.mjs'
import { scenario } from './lib/scenario.mjs'

scenario('storm', { time: 300, short: 20, workers: 3, workflows: 6 }, async (s) => {
  const world = s.world({ workers: s.o.workers, workflows: s.o.workflows })
  let kills = 0, doubles = 0
  const kill = () => {
    const pids = world.engine.pids()
    const workers = Object.keys(pids).filter((name) => name.startsWith('worker-')).map((name) => pids[name]).filter(Boolean)
    if (workers.length < 2) return
    const first = world.r.int(workers.length), two = world.r.chance(0.4)
    for (const pid of two ? [workers[first], workers[(first + 1) % workers.length]] : [workers[first]])
      try { process.kill(pid, 'SIGKILL'); kills++ } catch (e) { if (e.code !== 'ESRCH') throw e }
    doubles += two
  }
  await world.begin()
  await world.rage(s.o.time, kill)
  await world.heal()
  const rows = await checkAll(s, world)
  const held = await world.sql(`select h.code, left(h.message, 120), holdpoint.state_name(r.digest, h.state), count(*) from holdpoint.history h
    join holdpoint.run r on r.id = h.run_id where h.move = 8 group by 1, 2, 3 order by 4 desc limit 8`)
  for (const row of held) s.say('held', `${row[3]} x ${row[2]}: ${row[0]}: ${row[1]}`)
  const ends = Object.fromEntries(await world.sql('select holdpoint.status_name(status), count(*) from holdpoint.run_state group by 1'))
  const taken = Number((await world.sql('select count(*) from holdpoint.run_state where epoch > 1'))[0][0])
  const faults = Object.fromEntries([...group(rows, (x) => x.fault)].map(([k, v]) => [k, v.length]))
  s.say('runs', `${JSON.stringify(ends)}, all ended ${(world.healed / 1000).toFixed(1)} s after the last fault`)
  s.say('people', JSON.stringify(world.counts))
  s.say('recorder', `${rows.length} requests, ${rows.filter((x) => x.acts).length} effects, ${rows.filter((x) => x.n > 1).length} repeats under the same key, faults ${JSON.stringify(faults)}`)
  s.say('doubles', String(doubles))
  s.landed('kills', kills)
  s.landed('taken over', taken)
  s.landed('lost replies', faults.lose ?? 0)
})
