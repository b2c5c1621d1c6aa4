// resources.mjs: what an engine holds on to: descriptors, memory, sessions.
//
//   const before = await sample(world)
//   …
//   await checkResources(world, before, bad)
//
// Tolerances. Descriptors: the supervisor opens nothing as it goes, so it may have two
// more (a file being written at that instant); a worker keeps idle connections to the
// recorder (at most 16 requests at once to one host) and up to 4 sessions for statements.
// Sessions: those 4 for each worker. Memory: the supervisor's arena is filled at its
// start; 8 MB are the C library's. A worker keeps the definitions it has met and the
// arenas of 512 slots: 64 MB over what it had when it was new.
import { readFileSync, readdirSync } from 'node:fs'
import { waitFor } from '../../e2e/lib/engine.mjs'

const MB = 1024
function of(pid) {
  try {
    return { fds: readdirSync(`/proc/${pid}/fd`).length, kb: Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) }
  } catch { return null } // it has just ended
}

export async function sample(world) {
  const pids = world.engine.pids()
  const workers = Object.entries(pids).filter(([name]) => name.startsWith('worker-')).map(([, pid]) => of(pid)).filter(Boolean)
  const [[sessions, open]] = await world.sql(`select count(*), count(*) filter (where state like 'idle in transaction%' and state_change < now() - interval '5 s')
    from pg_stat_activity where usename in ('holdpoint_engine', 'holdpoint_workflow')`)
  return { supervisor: of(pids.supervisor), worker: { fds: Math.max(...workers.map((w) => w.fds)), kb: Math.max(...workers.map((w) => w.kb)) },
    workers: workers.length, sessions: Number(sessions), open: Number(open) }
}

export async function checkResources(world, before, bad) {
  let after, what
  await waitFor('what the engine holds is what it held', async () => {
    after = await sample(world)
    what = [
      after.supervisor.fds > before.supervisor.fds + 2 && 'descriptors of the supervisor',
      after.supervisor.kb > before.supervisor.kb + 8 * MB && 'memory of the supervisor',
      after.worker.fds > before.worker.fds + 20 && 'descriptors of a worker',
      after.worker.kb > before.worker.kb + 64 * MB && 'memory of a worker',
      after.workers !== before.workers && 'workers',
      after.sessions > before.sessions + 4 * before.workers && 'sessions',
      after.open > 0 && 'open transactions',
    ].filter(Boolean)
    return what.length === 0
  }, 15000).catch(() => bad(`${what.join(', ')}: ${JSON.stringify(before)} before, ${JSON.stringify(after)} after`))
  return after
}
